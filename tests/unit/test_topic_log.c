/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log of a topic against a plain list: readers of all speeds, gaps of their own and of others, and no
 * room. Whatever happens, what a reader gets and what he is told to have missed are together all there was,
 * in its order. */
#include "tests/unit/random.h"
#include "tests/unit/topic_rig.h"
#include "tests/unit/unit.h"

#include "base/turns.h"
#include "daemon/topic/topic_log.h"

#define READERS 7
#define STEPS	20000

static uint64_t seed;

/* What was published: the position of each in the count, by its first word. */
struct reader {
	struct topic_position position;
	uint64_t count; /* messages that it has got, or was told to have missed */
	/* gaps of unknown size that were there when it began, or that it was told of, at least */
	uint64_t unknown;
	uint64_t began_unknown;
	bool told_unknown;
};

static struct topic_entry *make(uint64_t number, uint32_t size)
{
	struct topic_entry *entry = topic_entry_new(size < 8 ? 8 : size);

	assert_non_null(entry);
	memcpy(entry->bytes, &number, sizeof(number));
	return entry;
}

/* Appends, or counts as missing what has no room. */
static void append(struct topic_log *log, uint64_t count, bool unknown, uint32_t size)
{
	struct topic_entry *entry;

	if (topic_log_reserve(log, size < 8 ? 8 : size) < 0) {
		topic_log_skip(log, count, unknown);
		return;
	}
	entry = make(log->count, size);
	entry->count = count;
	entry->unknown = unknown;
	assert_int_equal(topic_log_append(log, entry), 0);
}

static void read_one(const struct topic_log *log, struct reader *reader)
{
	struct topic_missed missed;
	struct topic_entry *entry;
	uint64_t number;

	assert_true(topic_log_has_more(log, &reader->position));
	entry = topic_log_read(log, &reader->position, &missed);
	assert_true(entry || missed.count || missed.unknown);
	reader->count += missed.count;
	reader->told_unknown |= missed.unknown;
	if (entry) {
		memcpy(&number, entry->bytes, sizeof(number));
		assert_int_equal(number, reader->count); /* in order, none twice, all others told */
		reader->count += entry->count;
		reader->told_unknown |= entry->unknown;
	}
}

static void read_all(const struct topic_log *log, struct reader *reader)
{
	while (topic_log_has_more(log, &reader->position))
		read_one(log, reader);
	assert_int_equal(reader->count, log->count);
	assert_int_equal(reader->told_unknown, log->unknown > reader->began_unknown);
}

static void begin(const struct topic_log *log, struct reader *reader)
{
	*reader = (struct reader){
		.position = topic_log_end(log), .count = log->count, .began_unknown = log->unknown};
}

static void drop_one(struct topic_log *log)
{
	uint64_t entries = log->next - log->first, bytes = log->bytes;

	assert_int_equal(topic_log_drop(log), entries > 0);
	assert_int_equal(log->next - log->first, entries ? entries - 1 : 0);
	assert_true(log->bytes < bytes || !entries);
}

TEST_EACH(what_comes_and_what_is_missing_is_all_there_was, 8)
{
	struct reader readers[READERS];
	struct topic_log log;
	uint32_t most = 400 + 300 * (uint32_t)unit_number(state);

	seed = (getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1) + (uint64_t)unit_number(state);
	topic_log_init(&log, NULL, most);
	for (unsigned i = 0; i < READERS; i++)
		begin(&log, &readers[i]);
	for (unsigned step = 0; step < STEPS; step++) {
		struct reader *reader = &readers[random_below(&seed, READERS)];
		uint32_t what = random_below(&seed, 100);

		if (what < 40)
			append(&log, 1, false, random_below(&seed, 100));
		else if (what < 42)
			append(&log, random_below(&seed, 9), random_below(&seed, 2),
			       24); /* a run, or a gap */
		else if (what < 43)
			topic_log_skip(&log, random_below(&seed, 3), random_below(&seed, 2));
		else if (what < 44)
			begin(&log, reader);
		else if (what < 45)
			drop_one(&log);
		else if (what < 50)
			read_all(&log, reader);
		else if (topic_log_has_more(&log, &reader->position) && reader != &readers[0])
			read_one(&log, reader);
		assert_true(log.bytes <= most || log.next - log.first == 1);
	}
	for (unsigned i = 0; i < READERS; i++)
		read_all(&log, &readers[i]);
	topic_log_free(&log);
}

/* An account that may hold so many queued bytes. */
static struct quota *quota_of(uint64_t bytes)
{
	struct quota_limits limits = {.pool = {[QUOTA_BYTES] = 4 * bytes}};
	struct quota *quota;

	limits.max[QUOTA_UID][QUOTA_BYTES] = bytes;
	quota = quota_new(&limits);
	assert_non_null(quota);
	return quota;
}

TEST(the_publisher_pays_and_gets_all_of_it_back)
{
	struct quota *quota = quota_of(1000);
	struct account *account = quota_account(quota, QUOTA_UID, 5);
	struct reader reader;
	struct topic_log log;

	topic_log_init(&log, account, 1u << 20);
	begin(&log, &reader);
	for (unsigned i = 0; i < 100; i++) {
		append(&log, 1, false, 100);
		assert_true(account_usage(account, QUOTA_BYTES).used <= 1000);
		assert_true(log.next > log.first); /* the newest is there, whatever must go */
	}
	assert_int_equal(topic_log_reserve(&log, 2000), -ENOBUFS);
	read_all(&log, &reader);
	topic_log_free(&log);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	account_unref(account);
	quota_free(quota);
}

TEST(who_is_in_the_midst_of_an_entry_keeps_it)
{
	struct topic_missed missed;
	struct topic_position position;
	struct topic_entry *entry;
	struct topic_log log;

	topic_log_init(&log, NULL, 200);
	position = topic_log_end(&log);
	append(&log, 1, false, 8);
	entry = topic_entry_ref(topic_log_read(&log, &position, &missed));
	for (unsigned i = 0; i < 50; i++)
		append(&log, 1, false, 50);
	assert_true(log.first > 1);
	assert_int_equal(entry->references, 1);
	topic_entry_unref(entry);
	topic_log_free(&log);
}

static void append_state(struct topic_log *log, bool unknown)
{
	struct topic_entry *entry = make(log->count, 8);

	assert_true(topic_log_reserve(log, 8) >= 0);
	entry->is_notice = entry->is_state = true;
	entry->unknown = unknown;
	assert_int_equal(topic_log_append(log, entry), 0);
}

TEST(a_state_that_the_log_has_dropped_is_told_in_its_place)
{
	struct topic_position early, late;
	struct topic_missed missed;
	struct topic_entry *entry;
	struct topic_log log;

	topic_log_init(&log, NULL, 1000);
	early = topic_log_end(&log);
	append(&log, 5, false, 80);
	append_state(&log, false); /* only the last one is told */
	append(&log, 2, false, 80);
	append_state(&log, true);
	late = topic_log_end(&log);
	for (unsigned i = 0; i < 50; i++)
		append(&log, 1, false, 50);
	assert_true(log.first > 4);
	entry = topic_log_read(&log, &early, &missed);
	assert_true(entry->is_state && entry->unknown);
	assert_true(missed.count == 7 && !missed.unknown);
	early = topic_log_before(&early, entry); /* as who first tells what is missing */
	assert_ptr_equal(topic_log_read(&log, &early, &missed), entry);
	assert_true(missed.count == 0 && !missed.unknown);
	for (unsigned i = 0; i < 2; i++) { /* who has had the state doesn't get it again */
		struct topic_position *position = i ? &late : &early;

		entry = topic_log_read(&log, position, &missed);
		assert_false(entry->is_state);
		assert_int_equal(missed.count, log.first - 4);
		assert_false(missed.unknown);
	}
	append_state(&log, false); /* another one is the last one now */
	early = (struct topic_position){0};
	entry = topic_log_read(&log, &early, &missed);
	assert_false(entry->is_state);
	topic_log_free(&log);
}

TEST(an_entry_of_several_messages_counts_as_many)
{
	struct topic_position position;
	struct topic_missed missed;
	struct topic_log log;

	topic_log_init(&log, NULL, 1000);
	position = topic_log_end(&log);
	append(&log, 5, false, 80);
	append(&log, 1, false, 16);
	append(&log, 3, false, 48);
	assert_int_equal(log.messages, 9);
	assert_int_equal(topic_log_waiting(&log, log.first), 9);
	assert_int_equal(topic_log_waiting(&log, log.first + 1), 4);
	assert_int_equal(topic_log_find(&log, 5), log.first + 1);
	assert_int_equal(topic_log_find(&log, 6), log.first + 2);
	for (unsigned i = 0; log.first == 0; i++)
		append(&log, 1, false, 16);
	assert_int_equal(topic_log_read(&log, &position, &missed)->count, 1);
	assert_int_equal(missed.count, 5);
	topic_log_free(&log);
}
