/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What policy files may say, how each mistake in them is reported, and who decides. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/policy/policy.h"

#define UUID  "0f0e0d0c-0b0a-4908-8706-050403020100"
#define GROUP 4711 /* of the socket */

struct fixture {
	char directory[64];
	char files[8][96];
	unsigned count;
	struct policy *policy;
	char *error;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	strcpy(fixture->directory, "/tmp/xenmsg-test-policy-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < fixture->count; i++)
		unlink(fixture->files[i]);
	rmdir(fixture->directory);
	policy_free(fixture->policy);
	free(fixture->error);
	free(fixture);
	return 0;
}

static void put_bytes(struct fixture *fixture, const char *name, const void *bytes, size_t size)
{
	char path[96];
	unsigned i;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", fixture->directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	for (i = 0; i < fixture->count && strcmp(fixture->files[i], path); i++)
		;
	if (i == fixture->count)
		strcpy(fixture->files[fixture->count++], path);
}

static void put(struct fixture *fixture, const char *name, const char *text)
{
	put_bytes(fixture, name, text, strlen(text));
}

static int load(struct fixture *fixture)
{
	policy_free(fixture->policy);
	fixture->policy = NULL;
	free(fixture->error);
	fixture->error = NULL;
	return policy_load(&fixture->policy, fixture->directory, &fixture->error);
}

static void rules(struct fixture *fixture, const char *text)
{
	put(fixture, "50-test.conf", text);
	if (load(fixture) != 0)
		fail_msg("was refused: %s", fixture->error);
	assert_null(fixture->error);
}

static void refuse_bytes(struct fixture *fixture, const void *bytes, size_t size, unsigned line,
			 const char *message)
{
	char prefix[128];

	put_bytes(fixture, "50-test.conf", bytes, size);
	if (load(fixture) != -EINVAL)
		fail_msg("was accepted: %s", (const char *)bytes);
	assert_null(fixture->policy);
	assert_non_null(fixture->error);
	snprintf(prefix, sizeof(prefix), "%s/50-test.conf:%u: ", fixture->directory, line);
	if (strncmp(fixture->error, prefix, strlen(prefix)) || !strstr(fixture->error, message))
		fail_msg("\"%s\" doesn't begin with \"%s\" and hold \"%s\"", fixture->error, prefix, message);
}

#define REFUSE_BYTES(fixture, text, line, message)                                                           \
	refuse_bytes(fixture, text, sizeof(text) - 1, line, message)

/* The file is refused, and the message begins with file and line and holds the text. */
static void refuse(struct fixture *fixture, const char *text, unsigned line, const char *message)
{
	refuse_bytes(fixture, text, strlen(text), line, message);
}

static const struct policy_subject guest = {.domid = 3, .name = "work", .uuid = UUID, .uid = 1000};
static const struct policy_subject self = {
	.domid = 1, .is_self = true, .name = "me", .uuid = "", .uid = 1000};

static struct policy_decision reach(struct fixture *fixture, const struct policy_subject *from,
				    const char *endpoint)
{
	return policy_reach(fixture->policy, from, endpoint);
}

static bool allowed(struct fixture *fixture, const struct policy_subject *from, const char *endpoint)
{
	return reach(fixture, from, endpoint).allow;
}

static struct policy_decision bound(struct fixture *fixture, uid_t uid, gid_t gid, const char *name)
{
	struct policy_subject who = {.domid = 1, .is_self = true, .uid = uid, .gid = gid};

	return policy_bind(fixture->policy, &who, name, GROUP);
}

/* --- defaults --------------------------------------------------------------------------------- */

static void without_rules_only_the_domain_itself_may_reach(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load(fixture), 0);
	assert_int_equal(policy_rules(fixture->policy), 0);
	assert_false(allowed(fixture, &guest, "print"));
	assert_true(allowed(fixture, &self, "print"));
	assert_null(reach(fixture, &guest, "print").file);
	assert_false(policy_shows(fixture->policy, &guest, "print"));
	assert_true(policy_shows(fixture->policy, &self, "print"));
}

static void without_rules_root_and_the_sockets_group_may_bind(void **state)
{
	struct fixture *fixture = *state;
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

static void a_missing_directory_is_a_policy_without_rules(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(policy_load(&fixture->policy, "/nonexistent/policy.d", &fixture->error), 0);
	assert_int_equal(policy_rules(fixture->policy), 0);
}

static void what_is_no_directory_is_an_error(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(policy_load(&fixture->policy, "/dev/null", &fixture->error), -ENOTDIR);
	assert_non_null(strstr(fixture->error, "/dev/null: "));
	assert_null(fixture->policy);
}

static void a_directory_that_is_named_like_a_file_is_an_error_that_names_it(void **state)
{
	struct fixture *fixture = *state;
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

static void the_first_rule_that_matches_decides(void **state)
{
	struct fixture *fixture = *state;
	struct policy_decision decision;

	rules(fixture,
	      "# two rules\n"
	      "[rule]\nfrom = 3\nto = print\naction = deny\n"
	      "\n"
	      "[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_int_equal(policy_rules(fixture->policy), 2);
	decision = reach(fixture, &guest, "print");
	assert_false(decision.allow);
	assert_string_equal(decision.file, fixture->files[0]);
	assert_int_equal(decision.line, 2);
	decision = reach(fixture, &guest, "scan");
	assert_true(decision.allow);
	assert_int_equal(decision.line, 7);
}

static void a_see_section_hides_domains_and_nothing_else(void **state)
{
	static const struct policy_subject tenant = {.domid = 5, .name = "tenant", .uuid = "", .uid = 0};
	struct fixture *fixture = *state;

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

static void files_come_in_lexical_order(void **state)
{
	struct fixture *fixture = *state;
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

static void one_bad_file_refuses_all(void **state)
{
	struct fixture *fixture = *state;

	put(fixture, "10-good.conf", "[rule]\nfrom = *\nto = *\naction = allow\n");
	refuse(fixture, "[rule]\nfrom = *\nto = *\naction = perhaps\n", 4,
	       "action 'perhaps': must be allow or deny");
}

/* --- who -------------------------------------------------------------------------------------- */

static void domains_match_by_number_name_and_uuid(void **state)
{
	static const char *const yes[] = {"3", "work",	  UUID,	     "0F0E0D0C-0B0A-4908-8706-050403020100",
					  "*", "7, work", "self , 3"};
	static const char *const no[] = {"4",	 "wor", "Work",
					 "self", "33",	"0f0e0d0c-0b0a-4908-8706-050403020101"};
	struct fixture *fixture = *state;
	char text[256];

	for (unsigned i = 0; i < sizeof(yes) / sizeof(*yes); i++) {
		snprintf(text, sizeof(text), "[rule]\nfrom = %s\nto = print\naction = allow\n", yes[i]);
		rules(fixture, text);
		if (!allowed(fixture, &guest, "print"))
			fail_msg("%s doesn't match", yes[i]);
	}
	for (unsigned i = 0; i < sizeof(no) / sizeof(*no); i++) {
		snprintf(text, sizeof(text), "[rule]\nfrom = %s\nto = print\naction = allow\n", no[i]);
		rules(fixture, text);
		if (allowed(fixture, &guest, "print"))
			fail_msg("%s matches", no[i]);
	}
}

static void a_domain_without_a_known_name_matches_no_name(void **state)
{
	struct fixture *fixture = *state;
	struct policy_subject nameless = {.domid = 3, .name = "", .uuid = ""};

	rules(fixture, "[rule]\nfrom = work, " UUID "\nto = *\naction = allow\n");
	assert_false(allowed(fixture, &nameless, "print"));
	nameless.name = nameless.uuid = NULL;
	assert_false(allowed(fixture, &nameless, "print"));
}

/* The message of `evil` before anybody could tell that it is evil. */
static void what_a_rule_might_deny_is_not_decided_while_names_are_unknown(void **state)
{
	static const struct policy_subject unknown = {.domid = 3, .uid = 1000, .names_unknown = true};
	struct fixture *fixture = *state;
	struct policy_decision decision;

	rules(fixture,
	      "[rule]\nfrom = evil\nto = *\naction = deny\n[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_true(policy_needs_names(fixture->policy));
	decision = reach(fixture, &unknown, "print");
	assert_false(decision.allow);
	assert_true(decision.undecided);
	assert_int_equal(decision.line, 1);
	assert_false(policy_shows(fixture->policy, &unknown, "print"));
	assert_true(allowed(fixture, &guest, "print"));
	assert_false(reach(fixture, &guest, "print").undecided);
	/* The same by UUID, and also of this domain itself, which no rule would deny. */
	rules(fixture, "[rule]\nfrom = " UUID "\nto = *\naction = deny\n");
	assert_true(reach(fixture, &(struct policy_subject){.is_self = true, .names_unknown = true}, "print")
			    .undecided);
	assert_false(reach(fixture, &unknown, "print").undecided);
}

static void what_a_rule_might_allow_is_not_decided_while_names_are_unknown(void **state)
{
	static const struct policy_subject unknown = {.domid = 3, .uid = 1000, .names_unknown = true};
	struct fixture *fixture = *state;
	struct policy_decision decision;

	rules(fixture,
	      "[rule]\nfrom = 4\nto = *\naction = allow\n[rule]\nfrom = work\nto = print\naction = allow\n");
	decision = reach(fixture, &unknown, "print");
	assert_false(decision.allow);
	assert_true(decision.undecided);
	assert_int_equal(decision.line, 5);
	assert_false(policy_shows(fixture->policy, &unknown, "print"));
	decision = reach(fixture, &unknown, "scan");
	assert_false(decision.allow || decision.undecided);
	assert_null(decision.file);
}

static void what_no_name_could_change_is_decided_without_names(void **state)
{
	static const struct policy_subject unknown = {.domid = 3, .uid = 1000, .names_unknown = true};
	struct fixture *fixture = *state;
	struct policy_decision decision;

	/* Behind the rule that decides. */
	rules(fixture,
	      "[rule]\nfrom = 3\nto = *\naction = allow\n[rule]\nfrom = evil\nto = *\naction = deny\n");
	assert_true(allowed(fixture, &unknown, "print"));
	assert_true(policy_shows(fixture->policy, &unknown, "print"));
	/* For other endpoints, for other users. */
	rules(fixture,
	      "[rule]\nfrom = evil\nto = scan\naction = deny\n[rule]\nfrom = evil\nuid = 0\nto = *\naction = deny\n"
	      "[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_true(allowed(fixture, &unknown, "print"));
	/* Whoever it is, it comes to the same; the rule that is named is the one that is certain. */
	rules(fixture,
	      "[rule]\nfrom = evil, 4\nto = *\naction = deny\n[rule]\nfrom = 3\nto = *\naction = deny\n");
	decision = reach(fixture, &unknown, "print");
	assert_false(decision.allow || decision.undecided);
	assert_int_equal(decision.line, 5);
	rules(fixture,
	      "[rule]\nfrom = work\nto = *\naction = allow\n[rule]\nfrom = 3\nto = *\naction = allow\n");
	decision = reach(fixture, &unknown, "print");
	assert_true(decision.allow);
	assert_int_equal(decision.line, 5);
	/* Rules without names. */
	rules(fixture, "[rule]\nfrom = 3, self, *\nto = *\naction = deny\n");
	assert_false(policy_needs_names(fixture->policy));
	assert_false(reach(fixture, &unknown, "print").undecided);
}

static void what_might_be_hidden_is_not_shown_while_names_are_unknown(void **state)
{
	static const struct policy_subject unknown = {.domid = 3, .names_unknown = true},
					   other = {.domid = 4, .names_unknown = true};
	struct fixture *fixture = *state;

	rules(fixture, "[see]\nfrom = *\ndomain = secret\naction = deny\n");
	assert_true(policy_needs_names(fixture->policy));
	assert_false(policy_sees(fixture->policy, &guest, &unknown));
	assert_true(policy_sees(fixture->policy, &unknown, &guest));
	rules(fixture, "[see]\nfrom = tenant\ndomain = work\naction = deny\n");
	assert_false(policy_sees(fixture->policy, &unknown, &guest));
	assert_false(policy_sees(fixture->policy, &unknown, &other));
	assert_true(policy_sees(fixture->policy, &unknown, &self));
	/* A rule that may allow is none. */
	rules(fixture,
	      "[see]\nfrom = tenant\ndomain = *\naction = allow\n[see]\nfrom = *\ndomain = *\naction = deny\n");
	assert_false(policy_sees(fixture->policy, &unknown, &guest));
	assert_false(policy_sees(fixture->policy, &guest, &guest));
}

static void rules_about_self_are_about_this_domain(void **state)
{
	struct fixture *fixture = *state;

	rules(fixture, "[rule]\nfrom = self\nto = secret\nuid = 1000\naction = deny\n");
	assert_false(allowed(fixture, &self, "secret"));
	assert_true(allowed(fixture, &self, "print"));
	assert_false(allowed(fixture, &guest, "print"));
}

static void uids_narrow_a_rule(void **state)
{
	struct fixture *fixture = *state;
	struct policy_subject root = guest;

	root.uid = 0;
	rules(fixture, "[rule]\nfrom = 3\nuid = 1000, 1001\nto = print\naction = allow\n");
	assert_true(allowed(fixture, &guest, "print"));
	assert_false(allowed(fixture, &root, "print"));
	rules(fixture, "[rule]\nfrom = 3\nuid = *\nto = print\naction = allow\n");
	assert_true(allowed(fixture, &root, "print"));
}

static void endpoints_match_as_shell_patterns(void **state)
{
	static const struct {
		const char *pattern, *endpoint;
		bool matches;
	} cases[] = {
		{"print", "print", true},	  {"print", "print2", false}, {"print", "Print", false},
		{"scan*", "scan", true},	  {"scan*", "scanner", true}, {"scan?", "scan", false},
		{"a, b, c", "b", true},		  {"[a-c]x", "bx", true},     {"[!a-c]x", "bx", false},
		{"[^a-c]x", "bx", false},	  {"*-*_*", "a-b_c", true},   {"*", "anything", true},
		{"print-[0-9]", "print-7", true}, {"p*t", "print", true},
	};
	struct fixture *fixture = *state;
	char text[256];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(text, sizeof(text), "[rule]\nfrom = 3\nto = %s\naction = allow\n", cases[i].pattern);
		rules(fixture, text);
		if (allowed(fixture, &guest, cases[i].endpoint) != cases[i].matches)
			fail_msg("%s on %s", cases[i].pattern, cases[i].endpoint);
	}
}

/* --- binding ---------------------------------------------------------------------------------- */

static void bind_rules_name_users_and_groups(void **state)
{
	struct fixture *fixture = *state;
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

static void rules_about_reaching_and_binding_are_kept_apart(void **state)
{
	struct fixture *fixture = *state;

	rules(fixture, "[rule]\nfrom = *\nto = *\naction = allow\n");
	assert_false(bound(fixture, 1000, 1000, "print").allow);
	rules(fixture, "[bind]\nname = *\nuid = *\naction = allow\n");
	assert_true(bound(fixture, 1000, 1000, "print").allow);
	assert_false(allowed(fixture, &guest, "print"));
}

/* --- what is advertised ----------------------------------------------------------------------- */

static void an_endpoint_shows_where_some_user_may_reach_it(void **state)
{
	struct fixture *fixture = *state;

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

static void what_is_denied_to_all_users_does_not_show(void **state)
{
	struct fixture *fixture = *state;

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

static void to_whom_an_endpoint_shows_is_said_in_the_words_of_the_rules(void **state)
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
	struct fixture *fixture = *state;
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

static void to_whom_it_shows_depends_on_some_user_only(void **state)
{
	static const struct policy_subject me = {.domid = 1, .is_self = true, .name = "", .uuid = ""};
	struct fixture *fixture = *state;
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

/* --- mistakes --------------------------------------------------------------------------------- */

static void unknown_sections_and_keys_are_errors(void **state)
{
	struct fixture *fixture = *state;

	refuse(fixture, "[rules]\nfrom = 3\n", 1, "only the sections [rule], [bind] and [see]");
	refuse(fixture, "\n[RULE]\n", 2, "only the sections [rule], [bind] and [see]");
	refuse(fixture, "[rule]\nform = 3\n", 2, "[rule] has no key 'form'; it has from, uid, to and action");
	refuse(fixture, "[bind]\nto = print\n", 2, "[bind] has no key 'to'; it has name, uid and action");
	refuse(fixture, "[rule]\nname = print\n", 2, "[rule] has no key 'name'");
	refuse(fixture, "from = 3\n[rule]\n", 1, "from stands outside of a [rule], [bind] or [see]");
	refuse(fixture, "[rule] from = 3\nto = *\naction = allow\n", 1, "behind [rule]");
	refuse(fixture, "[rule]]\nfrom = 3\nto = *\naction = allow\n", 1, "behind [rule]");
}

static void lines_that_are_not_ini_are_errors(void **state)
{
	struct fixture *fixture = *state;
	char text[600];

	refuse(fixture, "[rule]\nfrom = 3\nto print\naction = allow\n", 3,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule\nfrom = 3\n", 1, "");
	/* It is to blame, and not what is missing or wrong further down because of it. */
	refuse(fixture, "[rule]\nfrom 3\nto = print\naction = allow\n", 2,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule]\nfrom 3\nto = print\naction = allow\n[rule]\n", 2,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule]\nfrom 3\nto = print\naction = alow\n", 2,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "# first\n[rule]\nfrom 3\nto = print\n[end]\n", 3,
	       "neither a [section] nor KEY = VALUE");
	refuse(fixture, "from 3\n[rule]\n", 1, "neither a [section] nor KEY = VALUE");
	refuse(fixture, "[rule]\nfrom = 3\nto = print\naction = allow\n[bind\nname = a\n", 5, "");
	refuse(fixture, "[rule]\nfrom = a b\nto print\n", 2, "'a b'");
	REFUSE_BYTES(fixture, "[rule]\nfrom = 3\nto = print\naction = al\0low\n", 4, "NUL");
	REFUSE_BYTES(fixture, "[rule]\nfrom = 3\nto = print\naction = allow\0", 4, "NUL");
	REFUSE_BYTES(fixture, "[rule]\n\0from = 3\nto = print\naction = allow\n", 2, "NUL");
	snprintf(text, sizeof(text), "[rule]\nfrom = %0500d\n", 3);
	refuse(fixture, text, 2, "too long");
}

static void what_a_rule_lacks_is_named_with_its_line(void **state)
{
	struct fixture *fixture = *state;

	refuse(fixture, "\n[rule]\nto = print\naction = allow\n", 2, "this [rule] has no from");
	refuse(fixture, "[rule]\nfrom = 3\naction = allow\n[rule]\n", 1, "this [rule] has no to");
	refuse(fixture, "[rule]\nfrom = 3\nto = print\n", 1, "this [rule] has no action");
	refuse(fixture, "[bind]\nuid = 0\naction = allow\n", 1, "this [bind] has no name");
	refuse(fixture, "[bind]\nname = print\naction = allow\n", 1, "this [bind] has no uid");
	refuse(fixture, "[rule]\nfrom = 3\nto = a\naction = deny\n[rule]", 5, "this [rule] has no from");
}

static void keys_that_come_twice_are_errors(void **state)
{
	struct fixture *fixture = *state;

	refuse(fixture, "[rule]\nfrom = 3\nfrom = 4\n", 3, "from comes twice");
	refuse(fixture, "[rule]\nto = 3\nto = 4\n", 3, "to comes twice");
	refuse(fixture, "[rule]\nuid = 3\nuid = 4\n", 3, "uid comes twice");
	refuse(fixture, "[rule]\naction = deny\naction = deny\n", 3, "action comes twice");
}

static void bad_entries_of_lists_are_quoted(void **state)
{
	struct fixture *fixture = *state;

	refuse(fixture, "[rule]\nfrom = 3, 32752\n", 2, "'32752': a domain is a domid from 0 to 32751");
	refuse(fixture, "[rule]\nfrom = 3,,4\n", 2, "from: an empty entry");
	refuse(fixture, "[rule]\nfrom =\n", 2, "from: an empty entry");
	refuse(fixture, "[rule]\nfrom = a b\n", 2, "'a b'");
	refuse(fixture, "[rule]\nuid = root\n", 2, "'root': a uid of another domain is a number");
	refuse(fixture, "[rule]\nuid = -1\n", 2, "'-1'");
	refuse(fixture, "[rule]\nuid = 4294967295\n", 2, "a uid is below 4294967295");
	refuse(fixture, "[rule]\nuid = 99999999999\n", 2, "'99999999999'");
	refuse(fixture, "[rule]\nuid = @root\n", 2, "'@root'");
	refuse(fixture, "[bind]\nuid = @no-such-group\n", 2, "'@no-such-group': there is no such group");
	refuse(fixture, "[bind]\nuid = no-such-user\n", 2, "'no-such-user'");
	refuse(fixture, "[rule]\nto = a.b\n", 2, "'a.b': an endpoint is a name or shell pattern");
	refuse(fixture, "[rule]\nto = a b\n", 2, "'a b'");
	refuse(fixture, "[rule]\naction = Allow\n", 2, "action 'Allow': must be allow or deny");
	refuse(fixture, "[rule]\naction =\n", 2, "action '': must be allow or deny");
}

static void comments_and_spaces_do_no_harm(void **state)
{
	struct fixture *fixture = *state;

	rules(fixture,
	      "; a comment\n# another one\n"
	      "[rule]   ; with one\n"
	      "from=3,4 ; the workers\n"
	      "\tto\t=\tprint\t\n"
	      "  action : allow\n"
	      "  [rule] # indented\n"
	      "  from = 5\n  to = x\n  action = allow");
	assert_int_equal(policy_rules(fixture->policy), 2);
	assert_true(allowed(fixture, &guest, "print"));
	assert_int_equal(reach(fixture, &guest, "print").line, 3);
	rules(fixture, "[rule]\r\nfrom = 3\r\nto = print\r\naction = allow\r\n");
	assert_true(allowed(fixture, &guest, "print"));
	rules(fixture, "\xEF\xBB\xBF[rule]\nfrom = 3\nto = print\naction = allow\n");
	assert_true(allowed(fixture, &guest, "print"));
	rules(fixture, "");
	assert_int_equal(policy_rules(fixture->policy), 0);
}

static void an_unreadable_file_is_an_error(void **state)
{
	struct fixture *fixture = *state;
	char path[96];

	snprintf(path, sizeof(path), "%s/50-gone.conf", fixture->directory);
	assert_int_equal(symlink("/nonexistent/file", path), 0);
	strcpy(fixture->files[fixture->count++], path);
	assert_int_equal(load(fixture), -ENOENT);
	assert_non_null(strstr(fixture->error, path));
	assert_null(fixture->policy);
	unlink(path);
	assert_int_equal(symlink("/tmp", path), 0);
	assert_true(load(fixture) < 0);
	assert_non_null(strstr(fixture->error, path));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_rules_only_the_domain_itself_may_reach),
		TEST(without_rules_root_and_the_sockets_group_may_bind),
		TEST(a_missing_directory_is_a_policy_without_rules),
		TEST(what_is_no_directory_is_an_error),
		TEST(a_directory_that_is_named_like_a_file_is_an_error_that_names_it),
		TEST(the_first_rule_that_matches_decides),
		TEST(a_see_section_hides_domains_and_nothing_else),
		TEST(files_come_in_lexical_order),
		TEST(one_bad_file_refuses_all),
		TEST(domains_match_by_number_name_and_uuid),
		TEST(a_domain_without_a_known_name_matches_no_name),
		TEST(what_a_rule_might_deny_is_not_decided_while_names_are_unknown),
		TEST(what_a_rule_might_allow_is_not_decided_while_names_are_unknown),
		TEST(what_no_name_could_change_is_decided_without_names),
		TEST(what_might_be_hidden_is_not_shown_while_names_are_unknown),
		TEST(rules_about_self_are_about_this_domain),
		TEST(uids_narrow_a_rule),
		TEST(endpoints_match_as_shell_patterns),
		TEST(bind_rules_name_users_and_groups),
		TEST(rules_about_reaching_and_binding_are_kept_apart),
		TEST(an_endpoint_shows_where_some_user_may_reach_it),
		TEST(what_is_denied_to_all_users_does_not_show),
		TEST(to_whom_an_endpoint_shows_is_said_in_the_words_of_the_rules),
		TEST(to_whom_it_shows_depends_on_some_user_only),
		TEST(unknown_sections_and_keys_are_errors),
		TEST(lines_that_are_not_ini_are_errors),
		TEST(what_a_rule_lacks_is_named_with_its_line),
		TEST(keys_that_come_twice_are_errors),
		TEST(bad_entries_of_lists_are_quoted),
		TEST(comments_and_spaces_do_no_harm),
		TEST(an_unreadable_file_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
