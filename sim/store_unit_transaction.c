/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Isolation, conflicts, and events at the commit. */
#include "sim/store_unit.h"

#include <stdio.h>

static void a_transaction_is_seen_by_nobody_before_its_commit(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	unit_watch_quietly(f->one, "data", "t");
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_not_equal(t, 0);
	assert_int_equal(unit_write(f->one, t, "data/a", "new"), 0);
	assert_int_equal(unit_set_perms(f->one, t, "data/a", "n1 r2"), 0);
	assert_string_equal(unit_read(f->one, t, "data/a"), "new");
	assert_null(unit_read(f->one, 0, "data/a"));
	unit_expect_silence(f->one);
	assert_int_equal(unit_end(f->one, t, true), 0);
	assert_string_equal(unit_read(f->two, 0, "/local/domain/1/data/a"), "new");
	unit_expect_event(f->one, "data/a", "t"); /* one for each request */
	unit_expect_event(f->one, "data/a", "t");
	unit_expect_silence(f->one);
}

static void a_leaf_made_private_in_one_transaction_is_never_readable(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	unit_watch_quietly(f->two, "/local/domain", "t");
	assert_int_equal(unit_set_perms(f->one, 0, "data", "n1"), 0);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_write(f->one, t, "data/to/3", "secret"), 0);
	assert_int_equal(unit_set_perms(f->one, t, "data/to/3", "n1 r3"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
	unit_expect_silence(f->two);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_write(f->one, t, "data/to/2", "for you"), 0);
	assert_int_equal(unit_set_perms(f->one, t, "data/to/2", "n1 r2"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
	unit_expect_event(f->two, "/local/domain/1/data/to/2", "t");
	assert_string_equal(unit_read(f->two, 0, "/local/domain/1/data/to/2"), "for you");
}

static void an_aborted_transaction_leaves_no_trace(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats before, after;
	uint32_t t;

	unit_watch_quietly(f->one, "data", "t");
	sim_store_stats(f->host->store, 1, &before);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_write(f->one, t, "data/a", "x"), 0);
	assert_int_equal(unit_simple(f->one, XS_RM, t, "data"), 0);
	assert_null(unit_read(f->one, t, "data"));
	assert_int_equal(unit_end(f->one, t, false), 0);
	assert_string_equal(unit_read(f->one, 0, "data"), "");
	assert_null(unit_read(f->one, 0, "data/a"));
	unit_expect_silence(f->one);
	sim_store_stats(f->host->store, 1, &after);
	assert_int_equal(after.nodes, before.nodes);
	assert_int_equal(after.transactions, 0);
	assert_int_equal(unit_end(f->one, t, true), -ENOENT);
}

static void a_closed_connection_aborts_its_transactions(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *second = unit_connect(f->host, 1);
	struct sim_store_stats stats;
	uint32_t t;

	assert_int_equal(unit_start(second, &t), 0);
	assert_int_equal(unit_write(second, t, "data/a", "x"), 0);
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.transactions, 1);
	/* The id means nothing on another connection. */
	assert_int_equal(unit_write(f->one, t, "data/a", "x"), -ENOENT);
	assert_int_equal(unit_end(f->one, t, true), -ENOENT);
	unit_close(second);
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.transactions, 0);
	assert_null(unit_read(f->one, 0, "data/a"));
}

static void a_value_that_changed_under_a_reader_is_a_conflict(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *other = unit_connect(f->host, 1);
	uint32_t t;

	assert_int_equal(unit_write(f->one, 0, "data/count", "1"), 0);
	unit_watch_quietly(f->one, "data/result", "t");
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_string_equal(unit_read(f->one, t, "data/count"), "1");
	assert_int_equal(unit_write(other, 0, "data/count", "2"), 0);
	assert_string_equal(unit_read(f->one, t, "data/count"), "1"); /* still the snapshot */
	assert_int_equal(unit_write(f->one, t, "data/result", "1+1"), 0);
	assert_int_equal(unit_end(f->one, t, true), -EAGAIN);
	assert_null(unit_read(f->one, 0, "data/result"));
	assert_string_equal(unit_read(f->one, 0, "data/count"), "2");
	unit_expect_silence(f->one);
	/* The transaction is over: its id is gone, and a second attempt works. */
	assert_int_equal(unit_end(f->one, t, true), -ENOENT);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_string_equal(unit_read(f->one, t, "data/count"), "2");
	assert_int_equal(unit_write(f->one, t, "data/result", "2+1"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
	unit_expect_event(f->one, "data/result", "t");
	unit_close(other);
}

static void changes_elsewhere_are_no_conflict(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	assert_int_equal(unit_write(f->one, 0, "data/a", "1"), 0);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_string_equal(unit_read(f->one, t, "data/a"), "1");
	assert_int_equal(unit_write(f->one, t, "data/a", "2"), 0);
	assert_int_equal(unit_write(f->two, 0, "data/a", "x"), 0);
	assert_int_equal(unit_write(f->dom0, 0, "/vm/x", "x"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
	assert_string_equal(unit_read(f->one, 0, "data/a"), "2");
	assert_string_equal(unit_read(f->two, 0, "data/a"), "x");
	assert_string_equal(unit_read(f->dom0, 0, "/vm/x"), "x");
}

static void two_blind_writers_do_not_conflict(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t, u;

	assert_int_equal(unit_write(f->one, 0, "data/a", "0"), 0);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_start(f->one, &u), 0);
	assert_int_equal(unit_write(f->one, t, "data/a", "1"), 0);
	assert_int_equal(unit_write(f->one, u, "data/a", "2"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
	/* The answer would be the same, which is what is compared. */
	assert_int_equal(unit_end(f->one, u, true), 0);
	assert_string_equal(unit_read(f->one, 0, "data/a"), "2");
}

static void removal_and_creation_in_between_are_conflicts(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	assert_int_equal(unit_write(f->one, 0, "data/a/b", "0"), 0);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_string_equal(unit_read(f->one, t, "data/a/b"), "0");
	assert_int_equal(unit_write(f->one, t, "data/c", "1"), 0);
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/a"), 0);
	assert_int_equal(unit_end(f->one, t, true), -EAGAIN);

	assert_int_equal(unit_start(f->one, &t), 0);
	assert_null(unit_read(f->one, t, "data/a"));
	assert_int_equal(unit_write(f->one, t, "data/c", "1"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/a", "back"), 0);
	assert_int_equal(unit_end(f->one, t, true), -EAGAIN);
	assert_null(unit_read(f->one, 0, "data/c"));

	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_simple(f->one, XS_DIRECTORY, t, "data"), 0);
	assert_int_equal(unit_write(f->one, t, "data/c", "1"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/d", "new"), 0);
	assert_int_equal(unit_end(f->one, t, true), -EAGAIN);
}

static void who_only_reads_never_fails(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	assert_int_equal(unit_write(f->one, 0, "data/a", "0"), 0);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_string_equal(unit_read(f->one, t, "data/a"), "0");
	assert_int_equal(unit_write(f->one, 0, "data/a", "1"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
}

static void a_quota_is_kept_across_a_conflicting_commit(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats before, after;
	uint32_t t;

	sim_store_stats(f->host->store, 1, &before);
	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_write(f->one, t, "data/a/b", "x"), 0);
	assert_int_equal(unit_write(f->two, 0, "data/z", "x"), 0);
	assert_int_equal(unit_end(f->one, t, true), 0);
	sim_store_stats(f->host->store, 1, &after);
	assert_int_equal(after.nodes, before.nodes + 2);
}

static void watches_set_within_belong_to_the_connection(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_ask(f->one, XS_WATCH, t, "data\0t", 7), 0);
	unit_expect_event(f->one, "data", "t");
	assert_int_equal(unit_end(f->one, t, false), 0);
	assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
	unit_expect_event(f->one, "data/x", "t");
}

static void requests_that_make_no_sense_in_one(void **state)
{
	struct unit_fixture *f = *state;
	uint32_t t;

	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_ask(f->one, XS_TRANSACTION_START, t, "", 1), -EBUSY);
	assert_int_equal(unit_ask(f->one, XS_TRANSACTION_END, t, "maybe", 6), -EINVAL);
	assert_int_equal(unit_ask(f->one, XS_TRANSACTION_END, t, "T", 1), -EINVAL);
	assert_int_equal(unit_write(f->one, t + 5, "data/x", "x"), -ENOENT);
	assert_int_equal(unit_write(f->dom0, 99, "/vm/x", "x"), -EIO);
	assert_int_equal(unit_end(f->one, 0, true), -ENOENT);
	assert_int_equal(unit_end(f->one, t, true), 0);
}

static void a_transaction_that_was_open_during_save_and_restore_gets_eagain(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats stats;
	uint32_t t, u;

	assert_int_equal(unit_start(f->one, &t), 0);
	assert_int_equal(unit_start(f->one, &u), 0);
	assert_int_equal(unit_write(f->one, t, "data/x", "x"), 0);
	assert_int_equal(sim_store_rename_domain(f->host->store, 1, 7), 0);
	sim_store_stats(f->host->store, 7, &stats);
	assert_int_equal(stats.transactions, 0);
	assert_int_equal(unit_write(f->one, t, "data/x", "x"), -EIO);
	assert_int_equal(unit_end(f->one, t, true), -EAGAIN);
	assert_int_equal(unit_end(f->one, u, false), 0);
	assert_false(sim_store_exists(f->host->store, "/local/domain/1/data/x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_case(a_transaction_is_seen_by_nobody_before_its_commit),
		unit_case(a_leaf_made_private_in_one_transaction_is_never_readable),
		unit_case(an_aborted_transaction_leaves_no_trace),
		unit_case(a_closed_connection_aborts_its_transactions),
		unit_case(a_value_that_changed_under_a_reader_is_a_conflict),
		unit_case(changes_elsewhere_are_no_conflict),
		unit_case(two_blind_writers_do_not_conflict),
		unit_case(removal_and_creation_in_between_are_conflicts),
		unit_case(who_only_reads_never_fails),
		unit_case(a_quota_is_kept_across_a_conflicting_commit),
		unit_case(watches_set_within_belong_to_the_connection),
		unit_case(requests_that_make_no_sense_in_one),
		unit_case(a_transaction_that_was_open_during_save_and_restore_gets_eagain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
