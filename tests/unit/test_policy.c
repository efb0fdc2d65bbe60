/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which rule of the policy files decides: about reaching, binding, seeing, and what is advertised.
 */
#include "tests/unit/policy_rig.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUP 4711 /* of the socket */

static struct policy_decision bound(struct fixture *fixture, uid_t uid, gid_t gid, const char *name)
{
	struct policy_subject who = {.domid = 1, .is_self = true, .uid = uid, .gid = gid};

	return policy_bind(fixture->policy, &who, name, GROUP);
}

/* --- defaults --------------------------------------------------------------------------------- */

POLICY_TEST(without_rules_only_the_domain_itself_may_reach)
{
	assert_int_equal(load(fixture), 0);
	assert_int_equal(policy_rules(fixture->policy), 0);
	assert_false(allowed(fixture, &guest, "print"));
	assert_true(allowed(fixture, &self, "print"));
	assert_null(reach(fixture, &guest, "print").file);
	assert_false(policy_shows(fixture->policy, &guest, "print"));
	assert_true(policy_shows(fixture->policy, &self, "print"));
}

POLICY_TEST(without_rules_root_and_the_sockets_group_may_bind)
{
	const gid_t groups[] = {5, GROUP};
	struct policy_subject member = {.uid = 1000, .gid = 1000, .groups = groups, .group_count = 2};

	assert_int_equal(load(fixture), 0);
	assert_true(bound(fixture, 0, 0, "print").allow);
	assert_true(bound(fixture, 1000, GROUP, "print").allow);
	assert_false(bound(fixture, 1000, 1000, "print").allow);
	assert_true(policy_bind(fixture->policy, &member, "print", GROUP).allow);
	member.group_count = 1;
	assert_false(policy_bind(fixture->policy, &member, "print", GROUP).allow);
}

POLICY_TEST(a_missing_directory_is_a_policy_without_rules)
{
	assert_int_equal(policy_load(&fixture->policy, "/etc/xenmsg/nonexistent.d", &fixture->error), 0);
	assert_int_equal(policy_rules(fixture->policy), 0);
	policy_free(fixture->policy);
	fixture->policy = NULL;
	/* One that somebody has named must be there. */
	assert_int_equal(policy_load(&fixture->policy, "/nonexistent/policy.d", &fixture->error), -ENOENT);
}

POLICY_TEST(what_is_no_directory_is_an_error)
{
	assert_int_equal(policy_load(&fixture->policy, "/dev/null", &fixture->error), -ENOTDIR);
	assert_non_null(strstr(fixture->error, "/dev/null: "));
	assert_null(fixture->policy);
}

POLICY_TEST(a_directory_named_like_a_file_is_an_error_that_names_it)
{
	char path[96], message[160];

	snprintf(path, sizeof(path), "%s/50-test.conf", fixture->directory);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(load(fixture), -EISDIR);
	rmdir(path);
	snprintf(message, sizeof(message), "%s: can't be read: %s", path, strerror(EISDIR));
	assert_string_equal(fixture->error, message);
	assert_null(fixture->policy);
}

/* --- order ------------------------------------------------------------------------------------ */

POLICY_TEST(the_first_rule_that_matches_decides)
{
	struct policy_decision decision;

	rules(fixture,
	      "# two rules\n"
	      "[rule]\nfrom = 3\nto = print\naction = deny\n"
	      "\n"
	      "[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_int_equal(policy_rules(fixture->policy), 2);
	assert_true(policy_cost(fixture->policy) >= 4); /* by what they name */
	decision = reach(fixture, &guest, "print");
	assert_false(decision.allow);
	assert_string_equal(decision.file, fixture->files[0]);
	assert_int_equal(decision.line, 2);
	decision = reach(fixture, &guest, "scan");
	assert_true(decision.allow);
	assert_int_equal(decision.line, 7);
}

POLICY_TEST(a_see_section_hides_domains_and_nothing_else)
{
	static const struct policy_subject tenant = {.domid = 5, .name = "tenant", .uuid = "", .uid = 0};

	rules(fixture,
	      "[see]\nfrom = tenant\ndomain = 3, self\naction = deny\n"
	      "[see]\nfrom = 3\ndomain = *\naction = allow\n"
	      "[rule]\nfrom = 5\nto = print\naction = allow\n");
	assert_false(policy_sees(fixture->policy, &tenant, &guest));
	assert_false(policy_sees(fixture->policy, &tenant, &self));
	assert_true(policy_sees(fixture->policy, &guest, &tenant));
	assert_true(policy_sees(fixture->policy, &self, &guest)); /* no rule matches */
	assert_true(allowed(fixture, &tenant, "print"));
	refuse(fixture, "[see]\nfrom = 3\nto = print\n", 3,
	       "[see] has no key 'to'; it has from, domain and action");
	refuse(fixture, "[see]\nfrom = 3\nuid = 0\n", 3, "[see] has no key 'uid'");
	refuse(fixture, "[see]\nfrom = 3\naction = deny\n", 1, "this [see] has no domain");
}

POLICY_TEST(a_relay_section_forbids_pairs_one_way)
{
	static const struct policy_subject tenant = {.domid = 5, .name = "tenant", .uuid = "", .uid = 0};
	struct policy_decision decision;

	rules(fixture, "[rule]\nfrom = *\nto = *\naction = deny\n");
	decision = policy_relay(fixture->policy, &tenant, &guest);
	assert_true(decision.allow); /* no rule matches */
	rules(fixture,
	      "[relay]\nfrom = tenant\nto = 3, 7\naction = deny\n"
	      "[relay]\nfrom = *\nto = 5\naction = allow\n"
	      "[rule]\nfrom = *\nto = *\naction = allow\n");
	decision = policy_relay(fixture->policy, &tenant, &guest);
	assert_false(decision.allow);
	assert_false(decision.undecided);
	assert_int_equal(decision.line, 1);
	decision = policy_relay(fixture->policy, &guest, &tenant);
	assert_true(decision.allow);
	assert_int_equal(decision.line, 5);
	assert_true(allowed(fixture, &tenant, "print"));
	refuse(fixture, "[relay]\nfrom = 3\ndomain = 4\n", 3,
	       "[relay] has no key 'domain'; it has from, to and action");
	refuse(fixture, "[relay]\nfrom = 3\nuid = 0\n", 3, "[relay] has no key 'uid'");
	refuse(fixture, "[relay]\nfrom = 3\naction = deny\n", 1, "this [relay] has no to");
}

POLICY_TEST(another_hosts_domains_are_meant_by_their_host_alone)
{
	static const struct policy_subject
		remote = {.host = "hostb", .domid = 3, .name = "work", .uuid = "", .uid = 1000},
		nameless = {.host = "", .domid = 3, .name = "work", .uuid = "", .uid = 1000};

	rules(fixture,
	      "[rule]\nfrom = *, 3, work\nto = here\naction = allow\n"
	      "[rule]\nfrom = hostb/3\nto = print\naction = allow\n"
	      "[rule]\nfrom = hostc/*\nto = scan\naction = allow\n"
	      "[rule]\nfrom = */*\nto = any\naction = allow\n"
	      "[relay]\nfrom = *\nto = *\naction = deny\n");
	assert_true(allowed(fixture, &guest, "here"));
	assert_false(allowed(fixture, &remote, "here"));
	assert_true(allowed(fixture, &remote, "print"));
	assert_false(allowed(fixture, &guest, "print"));
	assert_false(allowed(fixture, &remote, "scan"));
	assert_true(allowed(fixture, &remote, "any"));
	assert_false(allowed(fixture, &guest, "any"));
	assert_false(allowed(fixture, &nameless, "any")); /* no rule means a host without a name */
	assert_true(policy_relay(fixture->policy, &remote, &guest).allow);
	assert_false(policy_sees(fixture->policy, &remote, &guest)); /* no rule matches */
	rules(fixture, "[see]\nfrom = hostb/*\ndomain = 3\naction = allow\n");
	assert_true(policy_sees(fixture->policy, &remote, &guest));
	assert_false(policy_sees(fixture->policy, &remote, &self));
}

POLICY_TEST(nothing_goes_to_another_host_that_no_rule_allows)
{
	static const struct policy_subject tenant = {.domid = 5, .name = "tenant", .uuid = "", .uid = 0};

	rules(fixture, "[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_false(policy_out(fixture->policy, &guest, "hostb").allow);
	rules(fixture, "[out]\nfrom = 3\nto = hostb\naction = allow\n");
	assert_true(policy_out(fixture->policy, &guest, "hostb").allow);
	assert_false(policy_out(fixture->policy, &guest, "hostc").allow);
	assert_false(policy_out(fixture->policy, &tenant, "hostb").allow);
}

POLICY_TEST(files_come_in_lexical_order)
{
	struct policy_decision decision;

	put(fixture, "90-deny.conf", "[rule]\nfrom = *\nto = *\naction = deny\n");
	put(fixture, "10-allow.conf", "\n[rule]\nfrom = *\nto = *\naction = allow\n");
	put(fixture, "05-not-read.txt", "nonsense");
	put(fixture, ".00-hidden.conf", "nonsense");
	put(fixture, "00-backup.conf~", "nonsense");
	assert_int_equal(load(fixture), 0);
	assert_int_equal(policy_rules(fixture->policy), 2);
	decision = reach(fixture, &guest, "print");
	assert_true(decision.allow);
	assert_string_equal(decision.file, fixture->files[1]);
	assert_int_equal(decision.line, 2);
}

POLICY_TEST(one_bad_file_refuses_all)
{
	put(fixture, "10-good.conf", "[rule]\nfrom = *\nto = *\naction = allow\n");
	refuse(fixture, "[rule]\nfrom = *\nto = *\naction = perhaps\n", 4,
	       "action 'perhaps': must be allow or deny");
}

/* --- binding ---------------------------------------------------------------------------------- */

POLICY_TEST(bind_rules_name_users_and_groups)
{
	const struct group *group = getgrnam("root");
	gid_t gid;

	assert_non_null(group);
	gid = group->gr_gid;
	rules(fixture,
	      "[bind]\nname = print, scan*\nuid = 1000, @root\naction = allow\n"
	      "[bind]\nname = secret\nuid = root\naction = deny\n");
	assert_true(bound(fixture, 1000, 1000, "print").allow);
	assert_true(bound(fixture, 1000, 1000, "scanner").allow);
	assert_false(bound(fixture, 1000, 1000, "other").allow);
	assert_true(bound(fixture, 1001, gid, "print").allow);
	assert_false(bound(fixture, 1001, 1001, "print").allow);
	assert_false(bound(fixture, 0, 0, "secret").allow);
	assert_int_equal(bound(fixture, 0, 0, "secret").line, 5);
	/* The groups that the program was in besides its first one. */
	struct policy_subject member = {.uid = 1001, .gid = 1001, .groups = &gid, .group_count = 1};
	assert_true(policy_bind(fixture->policy, &member, "print", GROUP).allow);
}

POLICY_TEST(rules_about_reaching_and_binding_are_kept_apart)
{
	rules(fixture, "[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_false(bound(fixture, 1000, 1000, "print").allow);
	rules(fixture, "[bind]\nname = *\nuid = *\naction = allow\n");
	assert_true(bound(fixture, 1000, 1000, "print").allow);
	assert_false(allowed(fixture, &guest, "print"));
}

/* --- what is advertised ----------------------------------------------------------------------- */

POLICY_TEST(an_endpoint_shows_where_some_user_may_reach_it)
{
	rules(fixture, "[rule]\nfrom = 3\nuid = 5\nto = print\naction = allow\n");
	assert_true(policy_shows(fixture->policy, &guest, "print"));
	assert_false(policy_shows(fixture->policy, &guest, "scan"));
	rules(fixture,
	      "[rule]\nfrom = 3\nuid = 5\nto = *\naction = deny\n"
	      "[rule]\nfrom = *\nto = print\naction = allow\n");
	assert_true(policy_shows(fixture->policy, &guest, "print"));
	rules(fixture,
	      "[rule]\nfrom = 3\nto = *\naction = deny\n"
	      "[rule]\nfrom = *\nto = print\naction = allow\n");
	assert_false(policy_shows(fixture->policy, &guest, "print"));
}

POLICY_TEST(what_is_denied_to_all_users_does_not_show)
{
	rules(fixture,
	      "[rule]\nfrom = 3\nuid = 7, *\nto = *\naction = deny\n"
	      "[rule]\nfrom = *\nto = print\naction = allow\n");
	assert_false(allowed(fixture, &guest, "print"));
	assert_false(policy_shows(fixture->policy, &guest, "print"));
}

static void write_shown(void *userdata, const char *domain, bool allow)
{
	char *text = userdata;

	sprintf(text + strlen(text), "%s%s%s", *text ? " " : "", allow ? "" : "!", domain);
}

POLICY_TEST(to_whom_an_endpoint_shows_is_said_in_the_words_of_the_rules)
{
	static const struct {
		const char *rules[6]; /* from, action */
		const char *shown;
	} cases[] = {
		{{NULL}, ""},
		{{"3", "allow"}, "3"},
		{{"3, work, " UUID, "allow"}, "3 work " UUID},
		{{"*", "allow"}, "*"},
		{{"3", "allow", "*", "allow"}, "*"},
		{{"3", "deny", "*", "allow"}, "!3 *"},
		{{"*", "deny", "3", "allow"}, ""},
		{{"3", "allow", "*", "deny", "*", "allow"}, "3"},
		{{"3", "deny"}, ""},
		{{"3", "deny", "4", "allow"}, "4"},	     /* they can't be the same */
		{{"3", "deny", "work", "allow"}, "!3 work"}, /* they can */
		{{"3", "deny", "3, 4", "allow"}, "4"},
		{{"03", "deny", "3, 004", "allow"}, "4"}, /* this is one */
		{{"4", "allow", "3", "deny", "*", "allow"}, "!3 *"},
		{{"work", "allow", "3", "deny", "*", "allow"}, "work !3 *"},
		{{"self, 1, me", "allow"}, ""},
		{{"self", "deny", "*", "allow"}, "*"},
	};
	static const struct policy_subject me = {.domid = 1, .is_self = true, .name = "me", .uuid = ""};
	char text[1024], shown[512];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		*text = *shown = '\0';
		for (unsigned j = 0; j < 6 && cases[i].rules[j]; j += 2)
			sprintf(text + strlen(text), "[rule]\nfrom = %s\nto = print\naction = %s\n",
				cases[i].rules[j], cases[i].rules[j + 1]);
		rules(fixture, text);
		policy_shown_to(fixture->policy, &me, "print", write_shown, shown);
		if (strcmp(shown, cases[i].shown))
			fail_msg("case %u: %s, not %s", i, shown, cases[i].shown);
		*shown = '\0';
		policy_shown_to(fixture->policy, &me, "other", write_shown, shown);
		assert_string_equal(shown, "");
	}
}

POLICY_TEST(to_whom_it_shows_depends_on_some_user_only)
{
	static const struct policy_subject me = {.domid = 1, .is_self = true, .name = "", .uuid = ""};
	char shown[512] = "";

	rules(fixture,
	      "[rule]\nfrom = 3\nuid = 5\nto = *\naction = deny\n"
	      "[rule]\nfrom = 3\nuid = 6\nto = pr*\naction = allow\n"
	      "[rule]\nfrom = 4\nuid = 5, *\nto = *\naction = deny\n"
	      "[rule]\nfrom = *\nto = print\naction = allow\n");
	policy_shown_to(fixture->policy, &me, "print", write_shown, shown);
	assert_string_equal(shown, "!4 *");
	assert_true(policy_shows(fixture->policy, &guest, "print"));
}

/* --- what is in force ------------------------------------------------------------------------- */

POLICY_TEST(files_and_rules_are_listed_in_the_order_of_asking)
{
	const struct rule *first, *second;
	unsigned count;

	put(fixture, "20-b.conf", "[rule]\nfrom = 3\nto = print\naction = allow\n");
	put(fixture, "10-a.conf", "[rule]\nfrom = 3\nto = scan\naction = deny\n");
	put(fixture, "30-c.conf", "# none\n");
	assert_int_equal(load(fixture), 0);
	first = policy_rule_at(fixture->policy, 0);
	second = policy_rule_at(fixture->policy, 1);
	assert_ptr_equal(first, reach(fixture, &guest, "scan").rule);
	assert_ptr_equal(second, reach(fixture, &guest, "print").rule);
	assert_null(policy_rule_at(fixture->policy, 2));
	assert_null(reach(fixture, &guest, "other").rule);
	assert_string_equal(reach(fixture, &guest, "other").section, "rule");
	assert_non_null(strstr(policy_file_at(fixture->policy, 0, &count), "10-a.conf"));
	assert_int_equal(count, 1);
	assert_non_null(strstr(policy_file_at(fixture->policy, 2, &count), "30-c.conf"));
	assert_int_equal(count, 0);
	assert_null(policy_file_at(fixture->policy, 3, &count));
}

/* A rule that allows users whom an earlier one denies lets nobody in. */
POLICY_TEST(it_shows_to_nobody_if_all_users_are_denied_before)
{
	static const struct policy_subject me = {.domid = 1, .is_self = true, .name = "", .uuid = ""};
	static const struct {
		const char *denied, *allowed, *shown;
		bool to_guest;
	} cases[] = {
		{"5, 6", "5", "", false},
		{"5, 6", "6, 5", "", false},
		{"5, 6", "6, 7", "3", true},
		{"5", "*", "3", true},
	};
	char text[256], shown[512];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (unsigned all = 0; all < 2; all++) {
			*shown = '\0';
			snprintf(text, sizeof(text),
				 "[rule]\nfrom = %s\nuid = %s\nto = p*\naction = deny\n"
				 "[rule]\nfrom = 3\nuid = %s\nto = print\naction = allow\n",
				 all ? "*" : "3", cases[i].denied, cases[i].allowed);
			rules(fixture, text);
			assert_int_equal(policy_shows(fixture->policy, &guest, "print"), cases[i].to_guest);
			policy_shown_to(fixture->policy, &me, "print", write_shown, shown);
			assert_string_equal(shown, cases[i].shown);
		}
}
