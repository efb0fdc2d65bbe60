/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of endpoints that are started on demand, row by row, and how often a program is started. */
#include "tests/unit/unit.h"

#include "daemon/activation/activation_step.h"

#define STOPPED (ACTIVATION_END | ACTIVATION_STOP | ACTIVATION_PAUSE)
#define LED	(ACTIVATION_LEAD | ACTIVATION_SETTLED)

TEST(each_event_leads_where_the_table_says)
{
	static const struct {
		enum activation_state from;
		enum activation_event event;
		bool waiting, lives;
		enum activation_state to;
		unsigned actions;
	} rows[] = {
		{ACTIVATION_IDLE, ACTIVATION_CAME, true, false, ACTIVATION_STARTING, ACTIVATION_START},
		{ACTIVATION_IDLE, ACTIVATION_BOUND, false, false, ACTIVATION_RUNNING, LED},
		{ACTIVATION_IDLE, ACTIVATION_UNBOUND, false, false, ACTIVATION_IDLE, 0},
		{ACTIVATION_IDLE, ACTIVATION_FAILED, false, false, ACTIVATION_IDLE, 0},
		{ACTIVATION_IDLE, ACTIVATION_PAUSE_OVER, false, false, ACTIVATION_IDLE, 0},
		{ACTIVATION_STARTING, ACTIVATION_CAME, true, false, ACTIVATION_STARTING, 0},
		{ACTIVATION_STARTING, ACTIVATION_BOUND, true, false, ACTIVATION_RUNNING, LED},
		{ACTIVATION_STARTING, ACTIVATION_UNBOUND, true, false, ACTIVATION_STARTING, 0},
		{ACTIVATION_STARTING, ACTIVATION_FAILED, true, false, ACTIVATION_PAUSED, STOPPED},
		{ACTIVATION_STARTING, ACTIVATION_PAUSE_OVER, true, false, ACTIVATION_STARTING, 0},
		{ACTIVATION_RUNNING, ACTIVATION_CAME, true, false, ACTIVATION_RUNNING, 0},
		{ACTIVATION_RUNNING, ACTIVATION_BOUND, false, false, ACTIVATION_RUNNING, 0},
		{ACTIVATION_RUNNING, ACTIVATION_UNBOUND, false, false, ACTIVATION_IDLE, 0},
		{ACTIVATION_RUNNING, ACTIVATION_UNBOUND, true, false, ACTIVATION_STARTING, ACTIVATION_START},
		{ACTIVATION_RUNNING, ACTIVATION_FAILED, false, false, ACTIVATION_RUNNING, 0},
		{ACTIVATION_RUNNING, ACTIVATION_PAUSE_OVER, false, false, ACTIVATION_RUNNING, 0},
		{ACTIVATION_PAUSED, ACTIVATION_CAME, true, false, ACTIVATION_PAUSED, ACTIVATION_REFUSE},
		{ACTIVATION_PAUSED, ACTIVATION_BOUND, false, false, ACTIVATION_RUNNING, LED},
		{ACTIVATION_PAUSED, ACTIVATION_UNBOUND, false, false, ACTIVATION_PAUSED, 0},
		{ACTIVATION_PAUSED, ACTIVATION_FAILED, false, false, ACTIVATION_PAUSED, 0},
		{ACTIVATION_PAUSED, ACTIVATION_PAUSE_OVER, false, false, ACTIVATION_IDLE, 0},
		{ACTIVATION_IDLE, ACTIVATION_ENDED, false, false, ACTIVATION_IDLE, 0},
		{ACTIVATION_STARTING, ACTIVATION_ENDED, true, false, ACTIVATION_PAUSED, STOPPED},
		{ACTIVATION_RUNNING, ACTIVATION_ENDED, false, false, ACTIVATION_RUNNING, 0},
		{ACTIVATION_PAUSED, ACTIVATION_ENDED, false, false, ACTIVATION_PAUSED, 0},
		/* A command that lives on keeps another from being started. */
		{ACTIVATION_RUNNING, ACTIVATION_UNBOUND, false, true, ACTIVATION_LINGERING, 0},
		{ACTIVATION_RUNNING, ACTIVATION_UNBOUND, true, true, ACTIVATION_LINGERING, ACTIVATION_AWAIT},
		{ACTIVATION_PAUSED, ACTIVATION_PAUSE_OVER, false, true, ACTIVATION_LINGERING, 0},
		{ACTIVATION_LINGERING, ACTIVATION_CAME, true, true, ACTIVATION_LINGERING, ACTIVATION_AWAIT},
		{ACTIVATION_LINGERING, ACTIVATION_BOUND, true, true, ACTIVATION_RUNNING, LED},
		{ACTIVATION_LINGERING, ACTIVATION_UNBOUND, true, true, ACTIVATION_LINGERING, 0},
		{ACTIVATION_LINGERING, ACTIVATION_FAILED, true, true, ACTIVATION_LINGERING, ACTIVATION_END},
		{ACTIVATION_LINGERING, ACTIVATION_ENDED, false, false, ACTIVATION_IDLE, ACTIVATION_SETTLED},
		{ACTIVATION_LINGERING, ACTIVATION_ENDED, true, false, ACTIVATION_STARTING, ACTIVATION_START},
		{ACTIVATION_LINGERING, ACTIVATION_PAUSE_OVER, true, true, ACTIVATION_LINGERING, 0},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct activation_progress progress = {.state = rows[i].from};

		struct activation_facts facts = {rows[i].waiting, rows[i].lives, 1000};

		assert_int_equal(activation_step(&progress, rows[i].event, facts), rows[i].actions);
		assert_int_equal(progress.state, rows[i].to);
	}
}

/* A step of a program that doesn't linger. */
static unsigned step(struct activation_progress *progress, enum activation_event event, bool waiting,
		     uint64_t now)
{
	return activation_step(progress, event, (struct activation_facts){waiting, false, now});
}

TEST(pauses_grow_to_a_minute_and_a_bind_ends_them)
{
	static const uint32_t pauses[] = {500, 1000, 2000, 4000, 8000, 16000, 32000, 60000};
	struct activation_progress progress = {0};
	uint64_t now = 1;

	for (unsigned i = 0; i < 40; i++) {
		step(&progress, ACTIVATION_CAME, true, now);
		step(&progress, ACTIVATION_FAILED, true, now);
		assert_int_equal(progress.pause_ms, pauses[i < 8 ? i : 7]);
		assert_false(progress.in_storm);
		now += progress.pause_ms;
		step(&progress, ACTIVATION_PAUSE_OVER, false, now);
	}
	step(&progress, ACTIVATION_CAME, true, now);
	step(&progress, ACTIVATION_BOUND, true, now);
	step(&progress, ACTIVATION_UNBOUND, false, now);
	step(&progress, ACTIVATION_CAME, true, now);
	step(&progress, ACTIVATION_FAILED, true, now);
	assert_int_equal(progress.pause_ms, pauses[0]);
}

/* Runs a program that binds and goes at once, whenever something comes, and returns how often in a minute. */
static unsigned starts_in_a_minute(unsigned every_ms)
{
	struct activation_progress progress = {0};
	uint64_t paused_at = 0;
	unsigned starts = 0;

	for (uint64_t now = 1000; now < 61000; now += every_ms) {
		if (progress.state == ACTIVATION_PAUSED && now - paused_at >= progress.pause_ms)
			step(&progress, ACTIVATION_PAUSE_OVER, false, now);
		if (!(step(&progress, ACTIVATION_CAME, true, now) & ACTIVATION_START))
			continue;
		starts++;
		step(&progress, ACTIVATION_BOUND, true, now);
		step(&progress, ACTIVATION_UNBOUND, false, now);
		paused_at = now;
	}
	return starts;
}

TEST(program_that_comes_and_goes_is_started_once_a_second_at_most)
{
	assert_true(starts_in_a_minute(1) <= 60);
	assert_int_equal(starts_in_a_minute(3000), 20); /* a quiet one is never refused */
}
