/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The table of channel numbers, which both ends of a hop have. */

#include "daemon/switch/refused.h"
#include "tests/unit/unit.h"

#include "wire/channel_table.h"
#include "wire/frame.h"

static struct channel_table table;
static char entries[CHANNEL_NUMBERS];

static int set_up(void **state)
{
	channel_table_init(&table, 0, CHANNEL_NUMBERS);
	return 0;
}

static int tear_down(void **state)
{
	channel_table_free(&table);
	return 0;
}

TEST_WITH(what_was_put_is_found_until_it_is_removed, set_up, tear_down)
{
	const uint32_t numbers[] = {0, 1, 63, 64, 1023, 1024, 5000, CHANNEL_NUMBERS - 1};
	uint32_t at = 0;

	for (unsigned i = 0; i < 8; i++) {
		assert_null(channel_table_find(&table, numbers[i]));
		assert_int_equal(channel_table_put(&table, numbers[i], &entries[i]), 0);
		assert_int_equal(channel_table_put(&table, numbers[i], &entries[i]), -EPROTO);
	}
	for (unsigned i = 0; i < 8; i++) {
		assert_ptr_equal(channel_table_find(&table, numbers[i]), &entries[i]);
		assert_ptr_equal(channel_table_next(&table, &at), &entries[i]);
		assert_int_equal(at, numbers[i] + 1);
		/* while one walks */
		assert_true(channel_table_remove(&table, numbers[i]));
		assert_false(channel_table_remove(&table, numbers[i]));
		assert_null(channel_table_find(&table, numbers[i]));
	}
	assert_null(channel_table_next(&table, &at));
}

TEST_WITH(numbers_from_the_wire_may_be_anything, set_up, tear_down)
{
	assert_null(channel_table_find(&table, UINT32_MAX));
	assert_false(channel_table_remove(&table, UINT32_MAX));
	assert_int_equal(channel_table_put(&table, 7, &entries[7]), 0);
	assert_null(channel_table_find(&table, UINT32_MAX));
	assert_null(channel_table_find(&table, 7 + CHANNEL_NUMBERS));
}

TEST_WITH(a_number_that_was_used_comes_again_late, set_up, tear_down)
{
	uint32_t number, distance = 0;

	channel_table_init(&table, 1, 100);
	assert_int_equal(channel_table_number(&table, &number), 0);
	assert_int_equal(number, 1);
	do {
		assert_int_equal(channel_table_number(&table, &number), 0);
		assert_int_equal(number % 2, 1);
		distance++;
	} while (number != 1);
	assert_true(distance >= 1000);
}

TEST_WITH(all_numbers_of_a_parity_can_be_used, set_up, tear_down)
{
	uint32_t number;

	for (uint32_t used = 0; used < CHANNEL_NUMBERS / 2; used++) {
		assert_int_equal(channel_table_number(&table, &number), 0);
		assert_true(number < CHANNEL_NUMBERS && number % 2 == 0);
		assert_int_equal(channel_table_put(&table, number, &entries[number]), 0);
	}
	assert_int_equal(table.count, CHANNEL_NUMBERS / 2);
	assert_int_equal(channel_table_number(&table, &number), -ENOBUFS);
	assert_true(channel_table_remove(&table, 4242));
	assert_int_equal(channel_table_number(&table, &number), 0);
	assert_int_equal(number, 4242);
}

TEST_WITH(no_more_are_given_out_than_the_most, set_up, tear_down)
{
	uint32_t number;

	channel_table_init(&table, 0, 1);
	assert_int_equal(channel_table_put(&table, 1, &entries[1]), 0); /* the other end's counts as well */
	assert_int_equal(channel_table_number(&table, &number), -ENOBUFS);
	assert_true(channel_table_remove(&table, 1));
	assert_int_equal(channel_table_number(&table, &number), 0);
}

/* As a hand-over writes them: those of a hop that has none cost nothing. */
TEST(refused_numbers_are_found_in_their_order)
{
	const uint32_t numbers[] = {0, 1, 63, 64, 1023, 5000, CHANNEL_NUMBERS - 1};
	struct refused refused = {0};
	uint32_t at = 0;

	assert_int_equal(refused_next(&refused, 0), CHANNEL_NUMBERS);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		assert_int_equal(refused_add(&refused, numbers[i]), 0);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++, at++)
		assert_int_equal(at = refused_next(&refused, at), numbers[i]);
	assert_int_equal(refused_next(&refused, at), CHANNEL_NUMBERS);
	refused_clear(&refused);
}
