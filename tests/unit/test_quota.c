/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accounts: a charge is taken whole or not at all, nobody pays for somebody else, and however greedy those
 * before were, who comes new finds something. */
#include "tests/unit/unit.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/turns.h"

#define POOL 1000000u

static int set_up(void **state)
{
	static const struct quota_limits limits = {
		.pool = {POOL, POOL, POOL, POOL, POOL, POOL},
		.max =
			{
				[QUOTA_UID] = {[QUOTA_CLIENTS] = 3,
					       [QUOTA_ENDPOINTS] = UINT64_MAX,
					       [QUOTA_CHANNELS] = 4,
					       [QUOTA_BYTES] = 1000,
					       [QUOTA_DESCRIPTORS] = UINT64_MAX},
				[QUOTA_PEER] = {[QUOTA_CHANNELS] = 2,
						[QUOTA_BYTES] = 500,
						[QUOTA_DESCRIPTORS] = UINT64_MAX},
			},
	};

	*state = quota_new(&limits);
	return *state ? 0 : -1;
}

/* Whatever a test did, it has given back everything. */
static int tear_down(void **state)
{
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct quota_pool pool = quota_pool(*state, i);

		if (pool.used || pool.accounts || pool.size != POOL)
			return -1;
	}
	quota_free(*state);
	return 0;
}

static void charge_of(struct charge *charge, struct quota *quota, enum quota_kind kind, uint32_t id)
{
	struct account *account = quota_account(quota, kind, id);

	assert_non_null(account);
	charge_init(charge, account);
	account_unref(account);
}

static int charge_channels(struct charge *charge, uint64_t channels, uint64_t bytes)
{
	return charge_all(charge,
			  (uint64_t[QUOTA_RESOURCES]){[QUOTA_CHANNELS] = channels, [QUOTA_BYTES] = bytes});
}

static void expect(const struct account *account, uint64_t channels, uint64_t bytes, uint64_t refused)
{
	struct quota_usage of_channels = account_usage(account, QUOTA_CHANNELS),
			   of_bytes = account_usage(account, QUOTA_BYTES);

	assert_int_equal(of_channels.used, channels);
	assert_int_equal(of_bytes.used, bytes);
	assert_int_equal(of_channels.refused + of_bytes.refused, refused);
}

/* All that it can get, in pieces of `step`; returns what it holds then. */
static uint64_t take_all(struct charge *charge, uint64_t step)
{
	while (charge_add(charge, QUOTA_DESCRIPTORS, step) == 0)
		;
	return charge->held[QUOTA_DESCRIPTORS];
}

/* --- one account ------------------------------------------------------------------------------ */

BEFORE_ALL
{
	log_set_level(LOG_LEVEL_ERROR);
}

TEST_WITH(a_charge_fits_up_to_the_limit_and_no_further, set_up, tear_down)
{
	struct charge charge;
	charge_of(&charge, *state, QUOTA_UID, 1000);

	assert_int_equal(charge_channels(&charge, 3, 999), 0);
	assert_int_equal(charge_channels(&charge, 1, 1), 0);
	expect(charge.account, 4, 1000, 0);
	assert_int_equal(charge_channels(&charge, 0, 1), -ENOBUFS);
	assert_int_equal(charge_channels(&charge, 1, 0), -ENOBUFS);
	assert_int_equal(charge_channels(&charge, 0, 0), 0);
	expect(charge.account, 4, 1000, 2);
	charge_release(&charge, QUOTA_CHANNELS, 4);
	charge_release(&charge, QUOTA_BYTES, 1000);
	expect(charge.account, 0, 0, 2);
	charge_end(&charge);
}

TEST_WITH(numbers_that_would_overflow_do_not_fit, set_up, tear_down)
{
	struct charge charge;
	charge_of(&charge, *state, QUOTA_UID, 1000);

	assert_int_equal(charge_channels(&charge, 1, 1), 0);
	assert_int_equal(charge_channels(&charge, UINT64_MAX, 1), -ENOBUFS);
	assert_int_equal(charge_channels(&charge, 1, UINT64_MAX), -ENOBUFS);
	assert_int_equal(charge_channels(&charge, 1, UINT64_MAX - 1), -ENOBUFS);
	expect(charge.account, 1, 1, 3);
	assert_int_equal(charge_add(&charge, QUOTA_DESCRIPTORS, UINT64_MAX), -ENOBUFS);
	charge_end(&charge);
	assert_int_equal(quota_share(UINT64_MAX, 1, UINT64_MAX), 0);
	assert_int_equal(quota_share(UINT64_MAX, 1, 0), UINT64_MAX / 2);
	assert_int_equal(quota_share(UINT64_MAX, 1, 5), UINT64_MAX / 2 - 5);
}

TEST_WITH(asking_whether_it_fits_is_no_refusal, set_up, tear_down)
{
	struct charge charge;
	charge_of(&charge, *state, QUOTA_UID, 1000);

	assert_true(charge_fits(&charge, QUOTA_BYTES, 1000));
	assert_false(charge_fits(&charge, QUOTA_BYTES, 1001));
	expect(charge.account, 0, 0, 0);
	charge_end(&charge);
}

TEST_WITH(what_is_refused_says_which_limit_it_is, set_up, tear_down)
{
	struct charge user, peer;
	charge_of(&user, *state, QUOTA_UID, 1000);
	charge_of(&peer, *state, QUOTA_PEER, 7);
	char why[160];

	assert_int_equal(charge_add(&user, QUOTA_CLIENTS, 4), -ENOBUFS);
	account_explain(user.account, QUOTA_CLIENTS, 4, why, sizeof(why));
	assert_string_equal(
		why, "this user has its share of the daemon's clients (max-clients), the rest is for others");
	account_explain(peer.account, QUOTA_BYTES, 501, why, sizeof(why));
	assert_string_equal(
		why,
		"this domain has its share of the daemon's queued bytes (max-queued-bytes), the rest is for others");
	assert_int_equal(charge_add(&user, QUOTA_ENDPOINTS, POOL), -ENOBUFS);
	account_explain(user.account, QUOTA_ENDPOINTS, POOL, why, sizeof(why));
	assert_string_equal(
		why,
		"this user has its share of the daemon's endpoints (max-endpoints), the rest is for others");
	charge_end(&user);
	charge_end(&peer);
}

/* --- whose account ---------------------------------------------------------------------------- */

TEST_WITH(users_and_peers_of_the_same_number_pay_for_themselves, set_up, tear_down)
{
	struct charge user, peer;
	charge_of(&user, *state, QUOTA_UID, 3);
	charge_of(&peer, *state, QUOTA_PEER, 3);
	struct charge other;
	charge_of(&other, *state, QUOTA_PEER, 4);

	assert_ptr_not_equal(user.account, peer.account);
	assert_int_equal(charge_channels(&peer, 2, 500), 0);
	assert_int_equal(charge_channels(&peer, 1, 0), -ENOBUFS);
	expect(user.account, 0, 0, 0);
	assert_int_equal(charge_channels(&user, 4, 1000), 0);
	assert_int_equal(charge_channels(&other, 2, 500), 0);
	assert_int_equal(account_usage(peer.account, QUOTA_CHANNELS).max, 2);
	assert_int_equal(account_usage(user.account, QUOTA_BYTES).max, 1000);
	assert_true(account_may_hold(user.account, QUOTA_CLIENTS));
	assert_false(account_may_hold(peer.account, QUOTA_CLIENTS));
	assert_int_equal(account_kind(peer.account), QUOTA_PEER);
	assert_int_equal(account_id(other.account), 4);
	charge_end(&user);
	charge_end(&peer);
	charge_end(&other);
}

TEST_WITH(all_programs_of_a_user_share_an_account, set_up, tear_down)
{
	struct charge one, two;
	charge_of(&one, *state, QUOTA_UID, 1000);
	charge_of(&two, *state, QUOTA_UID, 1000);

	assert_ptr_equal(one.account, two.account);
	assert_int_equal(charge_channels(&one, 3, 0), 0);
	assert_int_equal(charge_channels(&two, 2, 0), -ENOBUFS);
	assert_int_equal(charge_channels(&two, 1, 0), 0);
	charge_end(&one);
	expect(two.account, 1, 0, 1);
	charge_end(&two);
}

TEST_WITH(a_charge_outlives_the_program_that_caused_it, set_up, tear_down)
{
	struct account *session = quota_account(*state, QUOTA_UID, 1000), *again;
	struct charge channel;

	charge_init(&channel, session);
	assert_int_equal(charge_channels(&channel, 1, 700), 0);
	account_unref(session); /* the program has gone, its channel hasn't */
	again = quota_account(*state, QUOTA_UID, 1000);
	assert_ptr_equal(again, channel.account);
	expect(again, 1, 700, 0);
	charge_end(&channel);
	charge_end(&channel); /* there is nothing left to give back */
	account_unref(again);
	again = quota_account(*state, QUOTA_UID, 1000);
	expect(again, 0, 0, 0);
	account_unref(again);
}

TEST_WITH(a_charge_that_moves_is_held_once, set_up, tear_down)
{
	struct charge session, stream;
	charge_of(&session, *state, QUOTA_UID, 1000);

	assert_int_equal(charge_add(&session, QUOTA_DESCRIPTORS, 3), 0);
	charge_move(&stream, &session);
	charge_end(&session);
	assert_int_equal(quota_pool(*state, QUOTA_DESCRIPTORS).used, 3);
	charge_end(&stream);
	assert_int_equal(quota_pool(*state, QUOTA_DESCRIPTORS).used, 0);
}

TEST_WITH(account_that_joins_another_leaves_it_all_that_it_holds, set_up, tear_down)
{
	struct charge from, to, none;
	charge_of(&from, *state, QUOTA_PEER, 7);
	charge_of(&to, *state, QUOTA_PEER, 9);
	charge_of(&none, *state, QUOTA_PEER, 11);
	const struct account_key first = {.kind = QUOTA_PEER, .id = 0};
	const struct account *account;

	assert_int_equal(charge_channels(&from, 1, 300), 0);
	assert_int_equal(charge_channels(&to, 1, 100), 0);
	assert_int_equal(charge_channels(&from, 2, 0), -ENOBUFS);
	account_note_sent(from.account, 10, 1);
	account_note_sent(to.account, 20, 2);
	assert_int_equal(account_merge(from.account, to.account), 0);
	assert_int_equal(account_merge(none.account, to.account), 0);
	assert_int_equal(account_merge(from.account, to.account), 0);
	account = quota_next(*state, &first);
	assert_true(account_is(account, from.account) && account_is(to.account, from.account));
	assert_null(quota_next(*state, &(struct account_key){QUOTA_PEER, 9}));
	assert_int_equal(account_id(from.account), 9);
	assert_ptr_equal(account_time(from.account), account_time(to.account));
	assert_int_equal(account_sent(from.account).bytes, 30);
	assert_int_equal(quota_pool(*state, QUOTA_CHANNELS).accounts, 1);
	expect(to.account, 2, 400, 1);
	assert_int_equal(charge_channels(&from, 0, 101), -ENOBUFS);
	assert_int_equal(charge_channels(&from, 0, 100), 0);
	assert_int_equal(charge_channels(&to, 1, 0), -ENOBUFS);
	charge_release(&from, QUOTA_CHANNELS, 1);
	assert_int_equal(charge_channels(&to, 1, 0), 0);
	charge_end(&to);
	expect(from.account, 0, 400, 3);
	/* Who has the number then has another one. */
	charge_of(&to, *state, QUOTA_PEER, 7);
	assert_false(account_is(to.account, from.account));
	charge_end(&to);
	charge_end(&from);
	charge_end(&none);
}

TEST_WITH(two_accounts_become_no_more_than_one_may_be, set_up, tear_down)
{
	struct charge a, b;
	charge_of(&b, *state, QUOTA_PEER, 9);

	/* Who holds nothing gets all of it, even what exceeds the maximum. */
	charge_of(&a, *state, QUOTA_PEER, 7);
	charge_exceed(&a, QUOTA_CHANNELS, 3);
	assert_int_equal(charge_channels(&b, 0, 200), 0);
	assert_int_equal(account_merge(a.account, b.account), 0);
	expect(b.account, 3, 200, 0);
	charge_end(&a);
	/* Others don't come on top of that, and remain what they are. */
	charge_of(&a, *state, QUOTA_PEER, 7);
	assert_int_equal(charge_channels(&a, 0, 301), 0);
	assert_int_equal(account_merge(a.account, b.account), -ENOBUFS);
	assert_false(account_is(a.account, b.account));
	expect(a.account, 0, 301, 0);
	expect(b.account, 0, 200, 0);
	charge_release(&a, QUOTA_BYTES, 1);
	assert_int_equal(account_merge(a.account, b.account), 0);
	expect(b.account, 0, 500, 0);
	charge_end(&a);
	/* Nor more than a share. */
	charge_of(&a, *state, QUOTA_PEER, 7);
	assert_int_equal(take_all(&a, 1), POOL / 2);
	assert_int_equal(take_all(&b, 1), POOL / 6);
	assert_int_equal(account_merge(a.account, b.account), -ENOBUFS);
	charge_release(&a, QUOTA_DESCRIPTORS, POOL / 6);
	assert_int_equal(account_merge(a.account, b.account), 0);
	assert_int_equal(account_usage(b.account, QUOTA_DESCRIPTORS).available, 0);
	charge_end(&a);
	charge_end(&b);
}

TEST_WITH(no_account_has_no_limits, set_up, tear_down)
{
	struct charge charge;
	char why[16];

	assert_null(account_ref(NULL));
	account_unref(NULL);
	charge_init(&charge, NULL);
	assert_int_equal(charge_channels(&charge, UINT32_MAX, UINT64_MAX), 0);
	assert_int_equal(charge.held[QUOTA_CHANNELS], UINT32_MAX);
	expect(NULL, 0, 0, 0);
	account_explain(NULL, QUOTA_BYTES, 1, why, sizeof(why));
	assert_string_equal(why, "");
	charge_end(&charge);
	assert_int_equal(charge.held[QUOTA_CHANNELS], 0);
}

/* --- shares ----------------------------------------------------------------------------------- */

/* Accounts come, go, take and give back in any order, and always take what they can: what is left is as
 * quota.h proves. */
TEST_WITH(in_any_order_a_newcomer_finds_its_part, set_up, tear_down)
{
	enum { MOST = 12 };
	struct charge charges[MOST];
	unsigned seed = 1;

	for (uint32_t i = 0; i < MOST; i++)
		charge_of(&charges[i], *state, QUOTA_UID, i);
	for (unsigned round = 0; round < 20000; round++) {
		struct charge *charge = &charges[(unsigned)rand_r(&seed) % MOST];
		uint64_t held = charge->held[QUOTA_DESCRIPTORS], sum = 0, holders = 0, left;
		uint64_t available = account_usage(charge->account, QUOTA_DESCRIPTORS).available;
		struct quota_pool pool;

		switch ((unsigned)rand_r(&seed) % 4) {
		case 0:
			charge_release(charge, QUOTA_DESCRIPTORS, held);
			break;
		case 1:
			charge_release(charge, QUOTA_DESCRIPTORS, held ? (uint64_t)rand_r(&seed) % held : 0);
			break;
		case 2:
			assert_int_equal(charge_add(charge, QUOTA_DESCRIPTORS, available), 0);
			break;
		default:
			assert_int_equal(charge_add(charge, QUOTA_DESCRIPTORS, available + 1), -ENOBUFS);
		}
		for (unsigned i = 0; i < MOST; i++) {
			sum += charges[i].held[QUOTA_DESCRIPTORS];
			holders += charges[i].held[QUOTA_DESCRIPTORS] > 0;
		}
		pool = quota_pool(*state, QUOTA_DESCRIPTORS);
		assert_int_equal(pool.used, sum);
		assert_int_equal(pool.accounts, holders);
		left = POOL - sum;
		assert_true(left >= POOL / (holders + 1));
		assert_true(quota_share(left, holders + 1, 0) >= POOL / ((holders + 1) * (holders + 2)));
	}
	for (unsigned i = 0; i < MOST; i++)
		charge_end(&charges[i]);
}

TEST_WITH(accounts_are_listed_by_kind_and_number, set_up, tear_down)
{
	struct charge charges[4];
	charge_of(&charges[0], *state, QUOTA_PEER, 1);
	charge_of(&charges[1], *state, QUOTA_UID, 70000);
	charge_of(&charges[2], *state, QUOTA_UID, 3);
	charge_of(&charges[3], *state, QUOTA_PEER, 0);
	const struct account *account = quota_next(*state, NULL);
	uint32_t ids[5] = {0};

	for (; account;
	     account = quota_next(*state, &(struct account_key){account_kind(account), account_id(account)}))
		ids[++ids[0]] = account_id(account);
	assert_memory_equal(ids, ((uint32_t[]){4, 3, 70000, 0, 1}), sizeof(ids));
	for (unsigned i = 0; i < 4; i++)
		charge_end(&charges[i]);
}

/* Uses the account of a user, and leaves it. */
static void use_account(struct quota *quota, uint32_t uid, uint64_t bytes)
{
	struct account *account = quota_account(quota, QUOTA_UID, uid);

	account_note_sent(account, bytes, 1);
	account_unref(account);
}

/* Returns what a user has sent until now. */
static uint64_t sent_by(struct quota *quota, uint32_t uid)
{
	struct account *account = quota_account(quota, QUOTA_UID, uid);
	uint64_t bytes = account_sent(account).bytes;

	account_unref(account);
	return bytes;
}

TEST_WITH(who_comes_again_is_counted_on_within_a_bound_of_users, set_up, tear_down)
{
	for (unsigned i = 0; i < 3; i++)
		use_account(*state, 1000, 7);
	assert_int_equal(sent_by(*state, 1000), 21);
	for (uint32_t uid = 0; uid < QUOTA_IDLE_MOST - 1; uid++)
		use_account(*state, 2000 + uid, 1);
	assert_int_equal(sent_by(*state, 1000), 21); /* which is the last to have been used by that */
	use_account(*state, 5000, 1);
	assert_int_equal(sent_by(*state, 2000), 0);
	assert_int_equal(sent_by(*state, 1000), 21);
}

TEST_WITH(walk_over_accounts_goes_on_where_one_has_gone, set_up, tear_down)
{
	struct charge charges[5];
	struct account_key key = {QUOTA_UID, 1};

	for (uint32_t i = 0; i < 5; i++)
		charge_of(&charges[i], *state, QUOTA_UID, i);
	charge_end(&charges[1]);
	for (uint32_t uid = 0; uid < QUOTA_IDLE_MOST; uid++)
		use_account(*state, 2000 + uid, 1);
	assert_int_equal(account_id(quota_next(*state, &key)), 2); /* 1 is forgotten */
	for (unsigned i = 0; i < 5; i++)
		charge_end(&charges[i]);
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* In a process of its own, since a hard limit can't be raised again. */
static void expect_pool(rlim_t soft, rlim_t hard, uint64_t pool)
{
	const struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct rlimit now;

		_exit(setrlimit(RLIMIT_NOFILE, &limit) < 0 || descriptors_pool() != pool ||
		      getrlimit(RLIMIT_NOFILE, &now) < 0 || now.rlim_cur != hard);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

TEST(the_daemon_keeps_some_descriptors_for_itself)
{
	expect_pool(1000, 1000, 1000 - 64);
	expect_pool(100, 1000, 1000 - 64); /* raised */
	expect_pool(128, 128, 64);
	expect_pool(30, 50, 25); /* so few that each gets half */
}

/* --- who leaves, and comes again -------------------------------------------------------------- */

static bool no_pass(void *userdata)
{
	return false;
}

static bool pass_of(void *userdata)
{
	while (turns_run(userdata))
		;
	return false;
}

static void does_nothing(struct task *task)
{
}

/* Whether the user has left, and its rest isn't over, or its debt not paid. */
static bool is_awaited(struct quota *quota, uint32_t uid)
{
	const struct account *account;

	for (account = quota_next(quota, NULL); account && account_id(account) != uid;)
		account = quota_next(quota, &(struct account_key){.kind = account_kind(account),
								  .id = account_id(account)});
	return account && account_time(account)->over;
}

TEST_WITH(a_rest_goes_on_for_who_leaves_and_comes_again, set_up, tear_down)
{
	struct event_base *base = event_base_new();
	struct account *account = quota_account(*state, QUOTA_UID, 7);
	struct turns turns;
	uint64_t until;

	assert_int_equal(turns_init(&turns, base, no_pass, NULL), 0);
	turns_rest(&turns, account_line(account), 20000000);
	until = account_time(account)->rests_until;
	account_unref(account);
	account = quota_account(*state, QUOTA_UID, 7);
	assert_ptr_equal(account_time(account)->resting_in, &turns);
	assert_true(account_time(account)->rests_until == until);
	assert_int_equal(account_time(account)->rests, 1);
	while (account_time(account)->resting_in)
		assert_int_not_equal(event_base_loop(base, EVLOOP_ONCE), -1);
	assert_false(is_awaited(*state, 7)); /* it was taken back */
	turns_rest(&turns, account_line(account), 1000000);
	account_unref(account);
	while (is_awaited(*state, 7))
		assert_int_not_equal(event_base_loop(base, EVLOOP_ONCE), -1);
	account = quota_account(*state, QUOTA_UID, 7);
	assert_int_equal(account_time(account)->rests, 2);
	turns_rest(&turns, account_line(account), 1000000000);
	account_unref(account); /* which the quota's end doesn't wait for */
	quota_free(*state);
	set_up(state);
	turns_cleanup(&turns);
	event_base_free(base);
}

/* User 7 has left with a debt of nine turns, and user 8 wants its turn. */
struct debt {
	struct event_base *base;
	struct turns turns;
	struct account *other;
	struct task task, others;
};

static void debt_start(struct debt *debt, struct quota *quota)
{
	struct account *account = quota_account(quota, QUOTA_UID, 7);

	debt->base = event_base_new();
	assert_int_equal(turns_init(&debt->turns, debt->base, pass_of, &debt->turns), 0);
	debt->other = quota_account(quota, QUOTA_UID, 8);
	task_init(&debt->others, &debt->turns, account_line(debt->other), does_nothing);
	task_init(&debt->task, &debt->turns, account_line(account), does_nothing);
	task_due(&debt->task);
	task_due(&debt->others);
	turns_spend(&debt->turns, account_line(account), 10 * TURNS_QUANTUM);
	task_cancel(&debt->task);
	account_unref(account);
}

static void debt_stop(struct debt *debt)
{
	account_unref(debt->other);
	turns_cleanup(&debt->turns);
	event_base_free(debt->base);
}

static int64_t credit_of(struct quota *quota, uint32_t uid)
{
	struct account *account = quota_account(quota, QUOTA_UID, uid);
	int64_t credit = account_time(account)->credit;

	account_unref(account);
	return credit;
}

TEST_WITH(a_debt_is_kept_while_others_want_their_turns, set_up, tear_down)
{
	struct debt debt;

	debt_start(&debt, *state);
	assert_int_equal(credit_of(*state, 7), -9 * (int64_t)TURNS_QUANTUM);
	turns_pass(&debt.turns); /* after which nobody wants any more */
	assert_false(is_awaited(*state, 7));
	assert_int_equal(credit_of(*state, 7), 0);
	debt_stop(&debt);
}

TEST_WITH(a_debt_is_paid_in_turns_while_nobody_has_the_account, set_up, tear_down)
{
	struct debt debt;
	unsigned rounds = 0;

	debt_start(&debt, *state);
	for (; is_awaited(*state, 7); rounds++) {
		/* So it had its turn, and wants another. */
		turns_spend(&debt.turns, account_line(debt.other), TURNS_QUANTUM);
		task_due(&debt.others);
		debt.turns.over = debt.turns.spent + TURNS_PASS;
		assert_true(turns_run(&debt.turns));
		task_due(&debt.others);
	}
	assert_in_range(rounds, 9, 11);
	task_cancel(&debt.others);
	debt_stop(&debt);
}
