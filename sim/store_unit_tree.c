/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nodes, values, paths and permissions, as each daemon treats them. */
#include "sim/store_unit.h"

#include <stdio.h>

static void a_value_comes_back_with_every_byte(void **state)
{
	static const char payload[] = "data/bytes\0a\0b\377\n";
	struct unit_fixture *f = *state;

	assert_int_equal(unit_ask(f->one, XS_WRITE, 0, payload, sizeof(payload)), 0);
	assert_int_equal(unit_simple(f->one, XS_READ, 0, "/local/domain/1/data/bytes"), 0);
	assert_int_equal(f->one->reply_len, sizeof(payload) - strlen("data/bytes") - 1);
	assert_memory_equal(f->one->reply, "a\0b\377\n", f->one->reply_len);
	assert_int_equal(unit_write(f->one, 0, "data/empty", ""), 0);
	assert_string_equal(unit_read(f->one, 0, "data/empty"), "");
	assert_int_equal(f->one->reply_len, 0);
}

static void writing_makes_the_missing_directories(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/a/b/c", "x"), 0);
	assert_string_equal(unit_read(f->one, 0, "data/a/b"), "");
	assert_int_equal(unit_simple(f->one, XS_MKDIR, 0, "data/d/e"), 0);
	assert_int_equal(unit_simple(f->one, XS_MKDIR, 0, "data/d/e"), 0);
	assert_int_equal(unit_simple(f->one, XS_DIRECTORY, 0, "data"), 0);
	assert_int_equal(f->one->reply_len, 4);
	assert_memory_equal(f->one->reply, "a\0d", 4);
	assert_int_equal(unit_simple(f->one, XS_DIRECTORY, 0, "data/d/e"), 0);
	assert_int_equal(f->one->reply_len, 0);
}

static void paths_out_of_the_ordinary_are_refused(void **state)
{
	static const char *const bad[] = {"",	      "//",	 "/local//domain", "/local/",
					  "data/",    "data//x", "data/.x",	   "data/a b",
					  "data/a.b", "data/é",	 "data/new\nline", "/a*"};
	char longest[4096];
	struct unit_fixture *f = *state;

	const size_t limit = 1024;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(unit_read(f->one, 0, bad[i]));
		assert_int_equal(errno, EINVAL);
		assert_int_equal(unit_write(f->dom0, 0, bad[i], "x"), -EINVAL);
	}
	/* The part below the home counts, relative or not. */
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "data/", 5);
	longest[limit] = '\0';
	assert_null(unit_read(f->one, 0, longest));
	assert_int_equal(errno, ENOENT);
	longest[limit] = 'x';
	longest[limit + 1] = '\0';
	assert_null(unit_read(f->one, 0, longest));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(unit_write(f->one, 0, "data/-_@aZ09", "x"), 0);
	assert_string_equal(unit_read(f->dom0, 0, "/local/domain/1/data/-_@aZ09"), "x");
}

static void a_guest_reads_what_it_was_allowed_and_no_more(void **state)
{
	struct unit_fixture *f = *state;

	assert_string_equal(unit_read(f->one, 0, "name"), "guest");
	assert_null(unit_read(f->two, 0, "/local/domain/1/name"));
	assert_int_equal(errno, EACCES);
	assert_int_equal(unit_simple(f->one, XS_DIRECTORY, 0, "/local/domain"), -EACCES);
	assert_int_equal(unit_write(f->one, 0, "name", "mine"), -EACCES);
	assert_int_equal(unit_write(f->one, 0, "other", "x"), -EACCES);
	assert_int_equal(unit_write(f->one, 0, "/local/domain/2/data/x", "x"), -EACCES);
	assert_int_equal(unit_simple(f->one, XS_GET_PERMS, 0, "/local/domain/2/data"), -EACCES);
}

static void only_the_permission_of_the_leaf_counts(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/private/leaf", "x"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/private/leaf", "n1 r2"), 0);
	assert_string_equal(unit_read(f->two, 0, "/local/domain/1/data/private/leaf"), "x");
	assert_null(unit_read(f->two, 0, "/local/domain/1/data/private"));
	assert_int_equal(errno, EACCES);
	/* The listed domain may only read, and others may not. */
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/private/leaf", "y"), -EACCES);
	assert_int_equal(unit_set_perms(f->one, 0, "data/private/leaf", "r1 n2"), 0);
	assert_null(unit_read(f->two, 0, "/local/domain/1/data/private/leaf"));
	assert_int_equal(unit_set_perms(f->one, 0, "data/private/leaf", "b1"), 0);
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/private/leaf", "y"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/private/leaf", "w1"), 0);
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/private/leaf", "z"), 0);
	assert_null(unit_read(f->two, 0, "/local/domain/1/data/private/leaf"));
}

static void a_missing_node_below_an_unreadable_parent(void **state)
{
	struct unit_fixture *f = *state;

	assert_null(unit_read(f->two, 0, "/local/domain/1/data/nothing"));
	assert_int_equal(errno, ENOENT);
	assert_null(unit_read(f->one, 0, "data/nothing"));
	assert_int_equal(errno, ENOENT);
}

static void a_new_node_takes_its_parents_permissions(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_set_perms(f->one, 0, "data", "n1 b2 r3"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/mine", "x"), 0);
	assert_string_equal(unit_get_perms(f->one, "data/mine"), "n1 b2 r3");
	/* A node made by another domain belongs to the parent's owner. */
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/theirs", "x"), 0);
	assert_string_equal(unit_get_perms(f->dom0, "/local/domain/1/data/theirs"), "n1 b2 r3");
	assert_int_equal(unit_write(f->dom0, 0, "/local/domain/1/data/given", "x"), 0);
	assert_string_equal(unit_get_perms(f->dom0, "/local/domain/1/data/given"), "n1 b2 r3");
}

static void only_the_owner_sets_permissions_and_keeps_the_node(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/x", "b1 b2"), 0);
	assert_int_equal(unit_set_perms(f->two, 0, "/local/domain/1/data/x", "b1 r2"), -EACCES);
	assert_int_equal(unit_set_perms(f->one, 0, "data/x", "n2"), -EACCES);
	assert_int_equal(unit_set_perms(f->one, 0, "name", "r1"), -EACCES);
	assert_int_equal(unit_set_perms(f->one, 0, "data/missing", "r1"), -ENOENT);
	assert_string_equal(unit_get_perms(f->one, "data/x"), "b1 b2");
	assert_int_equal(unit_set_perms(f->dom0, 0, "/local/domain/1/data/x", "r2"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/x", "n1"), -EACCES);
}

static void permissions_of_no_known_form_are_refused(void **state)
{
	static const char *const bad[] = {"", "x1", "r", "r1x", "r1 ", "1r", "r99999999999999999999"};
	struct unit_fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(unit_set_perms(f->one, 0, "data", bad[i]), -EINVAL);
	assert_int_equal(unit_ask(f->one, XS_SET_PERMS, 0, "data", 5), -EINVAL);
	assert_int_equal(unit_ask(f->one, XS_SET_PERMS, 0, "data\0r1", 7), -EINVAL);
	assert_string_equal(unit_get_perms(f->one, "data"), "n1");
}

static void removing_takes_the_whole_subtree(void **state)
{
	struct unit_fixture *f = *state;

	struct sim_store_stats before, after;

	sim_store_stats(f->host->store, 1, &before);
	assert_int_equal(unit_write(f->one, 0, "data/a/b/c", "x"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/a/d", "x"), 0);
	sim_store_stats(f->host->store, 1, &after);
	assert_int_equal(after.nodes, before.nodes + 4);
	assert_int_equal(unit_simple(f->two, XS_RM, 0, "/local/domain/1/data/a"), -EACCES);
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/a"), 0);
	assert_null(unit_read(f->one, 0, "data/a/b/c"));
	assert_null(unit_read(f->one, 0, "data/a"));
	sim_store_stats(f->host->store, 1, &after);
	assert_int_equal(after.nodes, before.nodes);
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "name"), -EACCES);
	/* Domain 0 may remove all that there is. */
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "/"), -EACCES);
	assert_int_equal(unit_simple(f->dom0, XS_RM, 0, "/"), 0);
	assert_int_equal(unit_simple(f->dom0, XS_DIRECTORY, 0, "/"), 0);
	assert_int_equal(f->dom0->reply_len, 0);
}

static void removing_what_is_missing_works_below_an_existing_parent(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/missing"), 0);
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/missing/deeper"), -ENOENT);
	assert_int_equal(unit_simple(f->two, XS_RM, 0, "/local/domain/1/data/missing"), 0);
}

static void a_guest_is_no_toolstack(void **state)
{
	static const uint32_t types[] = {XS_INTRODUCE, XS_RELEASE, XS_RESUME, XS_SET_TARGET,
					 XS_IS_DOMAIN_INTRODUCED};
	struct unit_fixture *f = *state;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(unit_ask(f->one, types[i], 0,
					  "2\0"
					  "0\0"
					  "0",
					  6),
				 -EACCES);
	assert_int_equal(unit_simple(f->dom0, XS_IS_DOMAIN_INTRODUCED, 0, "2"), 0);
	assert_string_equal(f->dom0->reply, "T");
	assert_int_equal(unit_simple(f->dom0, XS_RELEASE, 0, "2"), 0);
	assert_int_equal(unit_simple(f->dom0, XS_IS_DOMAIN_INTRODUCED, 0, "2"), 0);
	assert_string_equal(f->dom0->reply, "F");
	assert_int_equal(unit_simple(f->dom0, XS_RESUME, 0, "2"), -EINVAL);
	assert_int_equal(unit_simple(f->one, XS_GET_DOMAIN_PATH, 0, "7"), 0);
	assert_string_equal(f->one->reply, "/local/domain/7");
	assert_int_equal(unit_ask(f->one, XS_CONTROL, 0, "print", 6), 0);
}

static void a_target_lends_its_rights(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/x", "y"), -EACCES);
	assert_int_equal(unit_ask(f->dom0, XS_SET_TARGET, 0,
				  "2\0"
				  "1",
				  4),
			 0);
	assert_int_equal(unit_write(f->two, 0, "/local/domain/1/data/x", "y"), 0);
}

static void a_dead_domain_leaves_neither_nodes_nor_permissions(void **state)
{
	struct unit_fixture *f = *state;

	struct sim_store_stats stats;

	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data/x", "n1 r2 r3"), 0);
	assert_int_equal(unit_write(f->two, 0, "data/y", "y"), 0);
	sim_store_release(f->host->store, 2);
	assert_string_equal(unit_get_perms(f->one, "data/x"), "n1 r3");
	assert_false(sim_store_exists(f->host->store, "/local/domain/2/data"));
	assert_true(sim_store_exists(f->host->store, "/local/domain/2/name"));
	sim_store_stats(f->host->store, 2, &stats);
	assert_int_equal(stats.nodes, 0);
}

static void there_is_no_directory_part(void **state)
{
	struct unit_fixture *f = *state;
	const char payload[] =
		"/vm\0"
		"0";

	/* libxenstore asks with it only after E2BIG, and then fails with that. */
	assert_int_equal(unit_ask(f->dom0, XS_DIRECTORY_PART, 0, payload, sizeof(payload)), -ENOSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_case(a_value_comes_back_with_every_byte),
		unit_case(writing_makes_the_missing_directories),
		unit_case(paths_out_of_the_ordinary_are_refused),
		unit_case(a_guest_reads_what_it_was_allowed_and_no_more),
		unit_case(only_the_permission_of_the_leaf_counts),
		unit_case(a_missing_node_below_an_unreadable_parent),
		unit_case(a_new_node_takes_its_parents_permissions),
		unit_case(only_the_owner_sets_permissions_and_keeps_the_node),
		unit_case(permissions_of_no_known_form_are_refused),
		unit_case(removing_takes_the_whole_subtree),
		unit_case(removing_what_is_missing_works_below_an_existing_parent),
		unit_case(a_guest_is_no_toolstack),
		unit_case(a_target_lends_its_rights),
		unit_case(a_dead_domain_leaves_neither_nodes_nor_permissions),
		unit_case(there_is_no_directory_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
