/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A reader's own bound, by seeds, on a log that is too small at times: what he takes and what he is told to
 * have missed are together all there was, in its order; no more than so many are under way to him; and who
 * keeps the newest has them, who keeps the oldest loses nothing that his bound has room for. */
#include "tests/unit/random.h"
#include "tests/unit/topic_rig.h"
#include "tests/unit/unit.h"

#include "base/turns.h"
#include "daemon/topic/topic_bound.h"

#define STEPS 20000
#define STATE UINT64_MAX /* instead of a number: the entry says whether the topic is there */

static uint64_t seed;

struct reader {
	struct topic_bound bound;
	struct topic_position position;
	uint64_t count; /* what he has had, and was told to have missed */
	uint64_t sent_end, taken_end;
	uint64_t ends[1024]; /* of what is under way */
	unsigned under_way;
	uint64_t state; /* the last one that he has had */
};

static void append(struct topic_log *log, bool is_state, uint64_t state)
{
	uint32_t size = 16 + 8 * random_below(&seed, 10);
	struct topic_entry *entry;

	assert_true(topic_log_reserve(log, size) >= 0);
	entry = topic_entry_new(size);
	assert_non_null(entry);
	entry->count = !is_state;
	entry->is_notice = entry->is_state = is_state;
	memcpy(entry->bytes, &(uint64_t){is_state ? STATE : log->count}, 8);
	memcpy(entry->bytes + 8, &state, 8);
	assert_int_equal(topic_log_append(log, entry), 0);
}

static void give(struct reader *reader, uint32_t size, bool is_notice)
{
	reader->sent_end += size;
	if (is_notice)
		return;
	reader->ends[reader->under_way++] = reader->sent_end;
	topic_bound_sent(&reader->bound, reader->sent_end);
}

/* One step as subscriber.c has it. False: he gets nothing now. */
static bool step(const struct topic_log *log, struct reader *reader)
{
	struct topic_missed missed;
	struct topic_entry *entry;
	uint64_t words[2];

	topic_bound_apply(&reader->bound, log, &reader->position);
	topic_bound_taken(&reader->bound, reader->taken_end);
	if (!topic_bound_room(&reader->bound))
		return false;
	if (!reader->bound.keeps_oldest && !topic_log_owes_state(log, reader->position.index) &&
	    reader->position.index != log->said - 1)
		assert_true(topic_log_waiting(log, reader->position.index) <= reader->bound.most);
	if (!topic_log_has_more(log, &reader->position))
		return false;
	entry = topic_log_read(log, &reader->position, &missed);
	assert_false(missed.unknown);
	if (missed.count) {
		if (entry)
			reader->position = topic_log_before(&reader->position, entry);
		reader->count += missed.count;
		give(reader, 48, true);
		return true;
	}
	assert_non_null(entry);
	memcpy(words, entry->bytes, sizeof(words));
	if (words[0] == STATE)
		reader->state = words[1];
	else
		assert_int_equal(words[0], reader->count++); /* in order, none twice, all others told */
	give(reader, entry->size, entry->is_notice);
	return true;
}

/* The program takes some of what has come to it. */
static void take(struct reader *reader, unsigned most)
{
	unsigned count = most < reader->under_way ? most : reader->under_way;

	if (!count)
		return;
	reader->taken_end = reader->ends[count - 1];
	reader->under_way -= count;
	memmove(reader->ends, reader->ends + count, reader->under_way * sizeof(reader->ends[0]));
}

static void another_stream(struct reader *reader)
{
	take(reader, reader->under_way);
	topic_bound_restart(&reader->bound);
	reader->sent_end = reader->taken_end = 0;
}

TEST_EACH(within_a_bound_all_is_had_or_told, 24)
{
	static const uint32_t sizes[] = {1, 2, 3, 7, 8, 9, 30, 500};
	uint32_t number = (uint32_t)unit_number(state), what;
	struct reader reader = {.bound = {.most = sizes[number % 8], .keeps_oldest = number & 8}, .state = 0};
	uint64_t said = 0, lost_before;
	struct topic_log log;

	seed = (getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1) + number;
	topic_log_init(&log, NULL, number < 16 ? 1u << 20 : 3000);
	for (unsigned i = 0; i < STEPS; i++) {
		what = random_below(&seed, 100);
		lost_before = reader.count;
		if (what < 45)
			append(&log, false, 0);
		else if (what < 46)
			append(&log, true, ++said);
		else if (what < 80)
			step(&log, &reader);
		else if (what < 81)
			another_stream(&reader);
		else if (what < 82)
			while (step(&log, &reader))
				take(&reader, random_below(&seed, 3));
		else
			take(&reader, 1 + random_below(&seed, 2));
		assert_true(reader.under_way <= reader.bound.most);
		assert_true(reader.count >= lost_before && reader.count <= log.count);
		assert_true(reader.position.index < log.said || reader.state == said);
	}
	while (take(&reader, reader.under_way), step(&log, &reader))
		;
	assert_int_equal(reader.count, log.count);
	assert_int_equal(reader.state, said);
	topic_log_free(&log);
}

static void begin(struct topic_log *log, struct reader *reader, uint32_t most, bool keeps_oldest)
{
	seed = 1;
	topic_log_init(log, NULL, 1u << 20);
	*reader = (struct reader){.bound = {.most = most, .keeps_oldest = keeps_oldest}};
}

/* What he has next, behind what he is told to have missed. */
static uint64_t next(const struct topic_log *log, struct reader *reader)
{
	uint64_t before;

	do {
		before = reader->count;
		take(reader, reader->under_way);
		assert_true(step(log, reader));
	} while (reader->count != before + 1);
	return before;
}

TEST(who_keeps_the_newest_has_those_that_came_last)
{
	struct reader reader;
	struct topic_log log;

	begin(&log, &reader, 3, false);
	for (unsigned i = 0; i < 100; i++)
		append(&log, false, 0);
	for (uint64_t number = 97; number < 100; number++)
		assert_int_equal(next(&log, &reader), number);
	topic_log_free(&log);
}

TEST(who_keeps_the_oldest_loses_what_comes_while_it_is_full)
{
	struct reader reader;
	struct topic_log log;

	begin(&log, &reader, 3, true);
	for (unsigned i = 0; i < 3; i++) {
		append(&log, false, 0);
		assert_true(step(&log, &reader));
	}
	for (unsigned i = 3; i < 100; i++)
		append(&log, false, 0);
	assert_false(step(&log, &reader));
	assert_int_equal(reader.count, 3);
	take(&reader, 3);
	assert_true(step(&log, &reader)); /* is told of 97 */
	assert_int_equal(reader.count, 100);
	for (unsigned i = 100; i < 104; i++) /* of which it has room for three */
		append(&log, false, 0);
	for (unsigned i = 100; i < 103; i++)
		assert_true(step(&log, &reader));
	assert_int_equal(reader.count, 103);
	assert_false(step(&log, &reader));
	take(&reader, 1);
	assert_true(step(&log, &reader));
	assert_int_equal(reader.count, 104);
	topic_log_free(&log);
}

TEST(a_state_takes_no_place)
{
	struct reader reader;
	struct topic_log log;

	for (unsigned keeps_oldest = 0; keeps_oldest < 2; keeps_oldest++) {
		begin(&log, &reader, 1, keeps_oldest);
		append(&log, true, 1);
		append(&log, false, 0);
		append(&log, true, 2);
		assert_true(step(&log, &reader) && reader.state == 1);
		assert_true(step(&log, &reader) && reader.count == 1);
		take(&reader, 1);
		assert_true(step(&log, &reader) && reader.state == 2);
		topic_log_free(&log);
	}
}

TEST(what_a_bound_has_room_for_is_not_lost)
{
	for (unsigned keeps_oldest = 0; keeps_oldest < 2; keeps_oldest++) {
		struct reader reader;
		struct topic_log log;

		begin(&log, &reader, 5, keeps_oldest);
		for (uint64_t i = 0; i < 1000; i++) {
			if (log.next - reader.position.index + reader.under_way < 5) {
				append(&log, false, 0);
			} else {
				uint64_t before = reader.count, waited = log.next - reader.position.index;

				take(&reader, 1);
				assert_int_equal(step(&log, &reader), waited > 0);
				assert_int_equal(reader.count, before + (waited > 0));
			}
		}
		topic_log_free(&log);
	}
}
