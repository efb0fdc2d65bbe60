/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accounts: a charge is taken whole or not at all, and nobody pays for somebody else. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/quota.h"

static int set_up(void **state)
{
	static const struct quota_limits limits = {
		.channels = {[QUOTA_UID] = 4, [QUOTA_PEER] = 2},
		.bytes = {[QUOTA_UID] = 1000, [QUOTA_PEER] = 500},
	};

	*state = quota_new(&limits);
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	quota_free(*state);
	return 0;
}

static void expect(const struct account *account, uint32_t channels, uint64_t bytes, uint64_t refused)
{
	struct quota_usage usage = account_usage(account);

	assert_int_equal(usage.channels, channels);
	assert_int_equal(usage.bytes, bytes);
	assert_int_equal(usage.refused, refused);
}

static void a_charge_fits_up_to_the_limit_and_no_further(void **state)
{
	struct account *account = quota_account(*state, QUOTA_UID, 1000);

	assert_non_null(account);
	assert_int_equal(account_charge(account, 3, 999), 0);
	assert_int_equal(account_charge(account, 1, 1), 0);
	expect(account, 4, 1000, 0);
	assert_int_equal(account_charge(account, 0, 1), -ENOBUFS);
	assert_int_equal(account_charge(account, 1, 0), -ENOBUFS);
	assert_int_equal(account_charge(account, 0, 0), 0);
	expect(account, 4, 1000, 2);
	account_release(account, 4, 1000);
	expect(account, 0, 0, 2);
	account_unref(account);
}

static void what_does_not_fit_whole_is_not_charged_in_part(void **state)
{
	struct account *account = quota_account(*state, QUOTA_UID, 1000);

	assert_int_equal(account_charge(account, 1, 1001), -ENOBUFS);
	assert_int_equal(account_charge(account, 5, 1), -ENOBUFS);
	expect(account, 0, 0, 2);
	account_unref(account);
}

static void numbers_that_would_overflow_do_not_fit(void **state)
{
	struct account *account = quota_account(*state, QUOTA_UID, 1000);

	assert_int_equal(account_charge(account, 1, 1), 0);
	assert_int_equal(account_charge(account, UINT32_MAX, 1), -ENOBUFS);
	assert_int_equal(account_charge(account, 1, UINT64_MAX), -ENOBUFS);
	expect(account, 1, 1, 2);
	account_release(account, 1, 1);
	account_unref(account);
}

static void users_and_peers_of_the_same_number_pay_for_themselves(void **state)
{
	struct account *user = quota_account(*state, QUOTA_UID, 3), *peer = quota_account(*state, QUOTA_PEER, 3);
	struct account *other = quota_account(*state, QUOTA_PEER, 4);

	assert_ptr_not_equal(user, peer);
	assert_int_equal(account_charge(peer, 2, 500), 0);
	assert_int_equal(account_charge(peer, 1, 0), -ENOBUFS);
	expect(user, 0, 0, 0);
	assert_int_equal(account_charge(user, 4, 1000), 0);
	assert_int_equal(account_charge(other, 2, 500), 0);
	assert_int_equal(account_usage(peer).channels_max, 2);
	assert_int_equal(account_usage(user).bytes_max, 1000);
	account_release(user, 4, 1000);
	account_release(peer, 2, 500);
	account_release(other, 2, 500);
	account_unref(other);
	account_unref(peer);
	account_unref(user);
}

static void all_programs_of_a_user_share_an_account(void **state)
{
	struct account *one = quota_account(*state, QUOTA_UID, 1000), *two = quota_account(*state, QUOTA_UID, 1000);

	assert_ptr_equal(one, two);
	assert_int_equal(account_charge(one, 3, 0), 0);
	assert_int_equal(account_charge(two, 2, 0), -ENOBUFS);
	account_release(one, 3, 0);
	account_unref(one);
	expect(two, 0, 0, 1);
	account_unref(two);
}

static void a_charge_outlives_the_program_that_caused_it(void **state)
{
	struct account *session = quota_account(*state, QUOTA_UID, 1000), *channel = account_ref(session), *again;

	assert_int_equal(account_charge(channel, 1, 700), 0);
	account_unref(session); /* the program has gone, its channel hasn't */
	again = quota_account(*state, QUOTA_UID, 1000);
	assert_ptr_equal(again, channel);
	expect(again, 1, 700, 0);
	account_release(channel, 1, 700);
	account_unref(channel);
	account_unref(again);
	again = quota_account(*state, QUOTA_UID, 1000);
	expect(again, 0, 0, 0);
	account_unref(again);
}

static void no_account_has_no_limits(void **state)
{
	(void)state;
	assert_null(account_ref(NULL));
	account_unref(NULL);
	assert_int_equal(account_charge(NULL, UINT32_MAX, UINT64_MAX), 0);
	account_release(NULL, 1, 1);
	expect(NULL, 0, 0, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_charge_fits_up_to_the_limit_and_no_further),
		TEST(what_does_not_fit_whole_is_not_charged_in_part),
		TEST(numbers_that_would_overflow_do_not_fit),
		TEST(users_and_peers_of_the_same_number_pay_for_themselves),
		TEST(all_programs_of_a_user_share_an_account),
		TEST(a_charge_outlives_the_program_that_caused_it),
		TEST(no_account_has_no_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
