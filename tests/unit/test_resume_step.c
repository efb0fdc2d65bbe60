/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of how a session outlives its vchan, row by row: of all states, attempts and events with all
 * facts each case belongs to exactly one row, and resume_step() does what the row says.
 */
#include "tests/unit/unit.h"

#include "daemon/link/resume_step.h"

enum fact {
	PROVEN = 1 << 0,
	OLDER = 1 << 1,
	LAST = 1 << 2,
	AHEAD = 1 << 3,
	BEHIND = 1 << 4,
	ALL_FACTS = 1 << 5,
};

#define IN(state)    (1u << RESUME_##state)
#define TRY(attempt) (1u << RESUME_##attempt)
#define ON(event)    (1u << RESUME_##event)
#define THERE	     (IN(UP) | IN(AWAY))
#define EVER	     (TRY(NOTHING) | TRY(PROVING) | TRY(RESUMING))
#define ANYTHING     ((1u << RESUME_EVENTS) - 1)

/* A case is the row's if it is in one of its states and attempts, with one of its events, has all facts of
 * `yes` and none of `no`. */
static const struct row {
	unsigned states, attempts, events, yes, no;
	enum resume_action action;
} rows[] = {
	{IN(ENDED), EVER, ANYTHING, 0, 0, RESUME_IGNORE},

	{IN(UP), EVER, ON(LOST), 0, 0, RESUME_LEAVE},
	{IN(AWAY), EVER, ON(LOST), 0, 0, RESUME_IGNORE},
	{IN(UP), EVER, ON(OVER), 0, 0, RESUME_IGNORE},
	{IN(AWAY), EVER, ON(OVER), 0, 0, RESUME_END},

	{THERE, TRY(NOTHING), ON(NEXT), 0, 0, RESUME_SHOW},
	{THERE, TRY(PROVING) | TRY(RESUMING), ON(NEXT), 0, 0, RESUME_DROP},
	{THERE, TRY(NOTHING), ON(NEXT_LOST), 0, 0, RESUME_IGNORE},
	{THERE, TRY(PROVING) | TRY(RESUMING), ON(NEXT_LOST), 0, 0, RESUME_DROP},

	/* who hasn't proven itself is told nothing, whatever it says of epochs */
	{THERE, TRY(NOTHING), ON(PROVE), 0, 0, RESUME_IGNORE},
	{THERE, TRY(PROVING), ON(PROVE), 0, PROVEN, RESUME_DROP},
	{THERE, TRY(PROVING), ON(PROVE), PROVEN | OLDER, 0, RESUME_REFUSE},
	{THERE, TRY(PROVING), ON(PROVE), PROVEN | LAST, OLDER, RESUME_END},
	{THERE, TRY(PROVING), ON(PROVE), PROVEN, OLDER | LAST, RESUME_SAY},
	{THERE, TRY(RESUMING), ON(PROVE), 0, 0, RESUME_DROP},

	/* positions count behind a good PROVE only */
	{THERE, TRY(NOTHING), ON(RESUME), 0, 0, RESUME_IGNORE},
	{THERE, TRY(PROVING), ON(RESUME), 0, 0, RESUME_DROP},
	{THERE, TRY(RESUMING), ON(RESUME), AHEAD, 0, RESUME_END},
	{THERE, TRY(RESUMING), ON(RESUME), BEHIND, AHEAD, RESUME_REFUSE},
	{THERE, TRY(RESUMING), ON(RESUME), 0, AHEAD | BEHIND, RESUME_GO_ON},

	/* and so does a GOODBYE, also in the epoch that it began */
	{THERE, TRY(PROVING), ON(GOODBYE), 0, 0, RESUME_DROP},
	{THERE, TRY(RESUMING), ON(GOODBYE), 0, 0, RESUME_END},
	{IN(UP), TRY(NOTHING), ON(GOODBYE), 0, 0, RESUME_END},
	{IN(AWAY), TRY(NOTHING), ON(GOODBYE), 0, 0, RESUME_IGNORE},
};

static struct resume_facts facts_of(enum resume_event event, unsigned bits)
{
	return (struct resume_facts){
		.event = event,
		.proven = bits & PROVEN,
		.older = bits & OLDER,
		.last = bits & LAST,
		.ahead = bits & AHEAD,
		.behind = bits & BEHIND,
	};
}

TEST(each_case_is_one_rows_and_does_what_that_says)
{
	unsigned used[sizeof(rows) / sizeof(*rows)] = {0};

	for (unsigned in = 0; in < RESUME_STATES; in++)
		for (unsigned attempt = 0; attempt < RESUME_ATTEMPTS; attempt++)
			for (unsigned event = 0; event < RESUME_EVENTS; event++)
				for (unsigned bits = 0; bits < ALL_FACTS; bits++) {
					const struct resume_facts facts = facts_of(event, bits);
					unsigned found = 0;

					for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
						const struct row *row = &rows[i];

						if (!(row->states & 1u << in) ||
						    !(row->attempts & 1u << attempt) ||
						    !(row->events & 1u << event) ||
						    (bits & row->yes) != row->yes || (bits & row->no))
							continue;
						found++;
						used[i]++;
						assert_int_equal(resume_step(in, attempt, &facts),
								 row->action);
					}
					if (found != 1)
						fail_msg("state %u, attempt %u, event %u, facts %x: %u rows",
							 in, attempt, event, bits, found);
				}
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_true(used[i]);
}
