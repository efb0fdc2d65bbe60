/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log's limits: for each source and cause, for each source, and for all together, in bounded memory. */
#include "tests/unit/unit.h"

#include "base/log_limit.h"

static unsigned say(struct log_limits *limits, enum log_cause cause, struct log_source source, unsigned times)
{
	unsigned written = 0;

	while (times--)
		written += log_limits_allow(limits, cause, source);
	return written;
}

static struct {
	unsigned named;
	uint64_t of_2, others;
} reported;

static void report(const struct log_source *source, uint64_t held_back)
{
	if (!source) {
		reported.others += held_back;
		return;
	}
	reported.named++;
	if (source->kind == LOG_DOMAIN && source->id == 2)
		reported.of_2 += held_back;
}

TEST(one_source_does_not_hide_another_nor_one_cause_another)
{
	struct log_limits limits = {0};

	assert_int_equal(say(&limits, LOG_DENIED, LOG_BY_DOMAIN(2), 1000), LOG_BURST);
	assert_int_equal(say(&limits, LOG_PRESENCE, LOG_BY_DOMAIN(2), 1), 1);
	assert_int_equal(say(&limits, LOG_DENIED, LOG_BY_DOMAIN(3), 1), 1);
	assert_int_equal(say(&limits, LOG_DENIED, LOG_BY_UID(2), 1), 1); /* not the domain of that number */
	log_limits_clear(&limits);
}

TEST(many_sources_have_a_limit_and_a_late_one_still_a_part)
{
	struct log_limits limits = {0};
	unsigned written = 0;

	/* Four that say all that they can. */
	for (uint32_t id = 1; id <= 4; id++)
		for (unsigned cause = 0; cause < LOG_CAUSES; cause++)
			written += say(&limits, cause, LOG_BY_UID(id), 1000);
	assert_true(written < LOG_POOL);
	assert_true(say(&limits, LOG_DENIED, LOG_BY_DOMAIN(7), 1000) >= 5);
	for (uint32_t id = 100; id < 100000; id++)
		written += say(&limits, LOG_DENIED, LOG_BY_UID(id), 3);
	assert_true(written <= LOG_POOL);
	log_limits_clear(&limits);
}

TEST(what_was_held_back_is_told_when_the_window_is_over)
{
	struct log_limits limits = {0};

	log_limits_turn(&limits, 1000, report);
	say(&limits, LOG_DENIED, LOG_BY_DOMAIN(2), 1000);
	say(&limits, LOG_DENIED, LOG_BY_DOMAIN(3), 1);
	for (uint32_t id = 0; id < 100; id++)
		say(&limits, LOG_DENIED, LOG_BY_UID(id), 11);
	log_limits_turn(&limits, 1000 + LOG_WINDOW_MS, report);
	assert_int_equal(reported.named, 0);
	log_limits_turn(&limits, 1001 + LOG_WINDOW_MS, report);
	assert_int_equal(reported.of_2, 1000 - LOG_BURST);
	assert_true(reported.named <= LOG_REPORTS);
	assert_true(reported.others >= 100 - LOG_REPORTS);
	/* A new window. */
	assert_int_equal(say(&limits, LOG_DENIED, LOG_BY_DOMAIN(2), 1000), LOG_BURST);
	log_limits_clear(&limits);
}
