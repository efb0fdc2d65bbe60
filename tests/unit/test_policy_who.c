/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whom a rule means: domains by number, name and uuid, users, endpoints, and what is decided while names
 * are unknown.
 */
#include "tests/unit/policy_rig.h"

#include <stdio.h>

POLICY_TEST(domains_match_by_number_name_and_uuid)
{
	static const char *const yes[] = {"3", "work",	  UUID,	     "0F0E0D0C-0B0A-4908-8706-050403020100",
					  "*", "7, work", "self , 3"};
	static const char *const no[] = {"4",	 "wor", "Work",
					 "self", "33",	"0f0e0d0c-0b0a-4908-8706-050403020101"};
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

POLICY_TEST(a_domain_without_a_known_name_matches_no_name)
{
	struct policy_subject nameless = {.domid = 3, .name = "", .uuid = ""};

	rules(fixture, "[rule]\nfrom = work, " UUID "\nto = *\naction = allow\n");
	assert_false(allowed(fixture, &nameless, "print"));
	nameless.name = nameless.uuid = NULL;
	assert_false(allowed(fixture, &nameless, "print"));
}

/* The message of `evil` before anybody could tell that it is evil. */
POLICY_TEST(what_might_be_denied_is_undecided_while_names_are_unknown)
{
	static const struct policy_subject unknown = {.domid = 3, .uid = 1000, .names_unknown = true};
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

POLICY_TEST(what_might_be_allowed_is_undecided_while_names_are_unknown)
{
	static const struct policy_subject unknown = {.domid = 3, .uid = 1000, .names_unknown = true};
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

POLICY_TEST(what_no_name_could_change_is_decided_without_names)
{
	static const struct policy_subject unknown = {.domid = 3, .uid = 1000, .names_unknown = true};
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

POLICY_TEST(what_might_be_hidden_is_not_shown_while_names_are_unknown)
{
	static const struct policy_subject unknown = {.domid = 3, .names_unknown = true},
					   other = {.domid = 4, .names_unknown = true};

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

POLICY_TEST(what_may_not_be_relayed_is_undecided_while_names_are_unknown)
{
	static const struct policy_subject unknown = {.domid = 4, .names_unknown = true};
	struct policy_decision decision;

	rules(fixture, "[relay]\nfrom = *\nto = secret\naction = deny\n");
	assert_true(policy_needs_names(fixture->policy));
	decision = policy_relay(fixture->policy, &guest, &unknown);
	assert_false(decision.allow);
	assert_true(decision.undecided);
	assert_true(policy_relay(fixture->policy, &unknown, &guest).allow);
	/* Denied whatever its name is. */
	rules(fixture,
	      "[relay]\nfrom = *\nto = secret\naction = deny\n[relay]\nfrom = *\nto = *\naction = deny\n");
	decision = policy_relay(fixture->policy, &guest, &unknown);
	assert_false(decision.allow || decision.undecided);
}

POLICY_TEST(rules_about_self_are_about_this_domain)
{
	rules(fixture, "[rule]\nfrom = self\nto = secret\nuid = 1000\naction = deny\n");
	assert_false(allowed(fixture, &self, "secret"));
	assert_true(allowed(fixture, &self, "print"));
	assert_false(allowed(fixture, &guest, "print"));
}

POLICY_TEST(uids_narrow_a_rule)
{
	struct policy_subject root = guest;

	root.uid = 0;
	rules(fixture, "[rule]\nfrom = 3\nuid = 1000, 1001\nto = print\naction = allow\n");
	assert_true(allowed(fixture, &guest, "print"));
	assert_false(allowed(fixture, &root, "print"));
	rules(fixture, "[rule]\nfrom = 3\nuid = *\nto = print\naction = allow\n");
	assert_true(allowed(fixture, &root, "print"));
}

POLICY_TEST(endpoints_match_as_shell_patterns)
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
	char text[256];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(text, sizeof(text), "[rule]\nfrom = 3\nto = %s\naction = allow\n", cases[i].pattern);
		rules(fixture, text);
		if (allowed(fixture, &guest, cases[i].endpoint) != cases[i].matches)
			fail_msg("%s on %s", cases[i].pattern, cases[i].endpoint);
	}
}
