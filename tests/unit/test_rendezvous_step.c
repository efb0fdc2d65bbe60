/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of the rendezvous, row by row: of all states with all facts each case belongs to exactly one row,
 * and rendezvous_step() does what the row says.
 */
#include "tests/unit/unit.h"

#include "daemon/peers/rendezvous_step.h"

enum fact {
	WANTED = 1 << 0,
	SELF = 1 << 1,
	NO_DOMID = 1 << 2,
	UP = 1 << 3,
	LOOKED = 1 << 4,
	LOOKING = 1 << 5,
	STORE_DOWN = 1 << 6,
	OTHER_PRESENCE = 1 << 7,
	OTHER_HELLO = 1 << 8,
	HELLO = 1 << 9,
	TRIED = 1 << 10,
	WE_MAY = 1 << 11,
	THEY_MAY = 1 << 12,
	LOWER = 1 << 13,
	NODES = 1 << 14,
	GOES_ON = 1 << 15,
	ALL_FACTS = 1 << 16,
};

#define IN(state) (1u << RENDEZVOUS_##state)
#define ON(event) (1u << RENDEZVOUS_##event)
#define ANYWHERE  ((1u << RENDEZVOUS_STATES) - 1)
#define UNDER_WAY (IN(HELLO) | IN(PAGES) | IN(GRANTED) | IN(AWAIT))

/* A case is the row's if it is in one of its states, with one of its events, has all facts of `yes` and none
 * of `no`. */
static const struct row {
	unsigned states, events, yes, no;
	enum rendezvous_action action;
} rows[] = {
	/* nothing is under way */
	{IN(IDLE), ON(NO_EVENT), 0, WANTED | HELLO, RENDEZVOUS_NOTHING},
	{IN(IDLE), ON(NO_EVENT), HELLO | TRIED, WANTED, RENDEZVOUS_NOTHING},
	{IN(IDLE), ON(NO_EVENT), HELLO, WANTED | TRIED, RENDEZVOUS_BEGIN},
	{IN(IDLE), ON(NO_EVENT), WANTED | SELF, 0, RENDEZVOUS_FAIL_SELF},
	{IN(IDLE), ON(NO_EVENT), WANTED | NO_DOMID, SELF, RENDEZVOUS_FAIL_DOMID},
	{IN(IDLE), ON(NO_EVENT), WANTED | UP, SELF | NO_DOMID, RENDEZVOUS_BEGIN},
	{IN(IDLE), ON(NO_EVENT), WANTED, SELF | NO_DOMID | UP | LOOKED | LOOKING, RENDEZVOUS_LOOK_UP},
	{IN(IDLE), ON(NO_EVENT), WANTED | LOOKING, SELF | NO_DOMID | UP | LOOKED, RENDEZVOUS_NOTHING},
	{IN(IDLE), ON(NO_EVENT), WANTED | LOOKED | OTHER_PRESENCE, SELF | NO_DOMID | UP,
	 RENDEZVOUS_FAIL_VERSION},
	{IN(IDLE), ON(NO_EVENT), WANTED | LOOKED | OTHER_HELLO, SELF | NO_DOMID | UP | OTHER_PRESENCE,
	 RENDEZVOUS_FAIL_VERSION},
	{IN(IDLE), ON(NO_EVENT), WANTED | LOOKED | STORE_DOWN,
	 SELF | NO_DOMID | UP | OTHER_PRESENCE | OTHER_HELLO, RENDEZVOUS_FAIL_STORE},
	{IN(IDLE), ON(NO_EVENT), WANTED | LOOKED,
	 SELF | NO_DOMID | UP | OTHER_PRESENCE | OTHER_HELLO | STORE_DOWN, RENDEZVOUS_FAIL_ABSENT},

	/* our hello is written */
	{IN(HELLO), ON(NO_EVENT), OTHER_HELLO, HELLO, RENDEZVOUS_FAIL_VERSION},
	{IN(HELLO), ON(NO_EVENT), WANTED, HELLO | OTHER_HELLO, RENDEZVOUS_NOTHING},
	{IN(HELLO), ON(NO_EVENT), GOES_ON, HELLO | OTHER_HELLO | WANTED, RENDEZVOUS_NOTHING},
	{IN(HELLO), ON(NO_EVENT), 0, HELLO | OTHER_HELLO | WANTED | GOES_ON, RENDEZVOUS_WITHDRAW},
	{IN(HELLO), ON(NO_EVENT), HELLO | WANTED, WE_MAY | THEY_MAY, RENDEZVOUS_REFUSE},
	{IN(HELLO), ON(NO_EVENT), HELLO, WE_MAY | THEY_MAY | WANTED, RENDEZVOUS_NOTE},
	{IN(HELLO), ON(NO_EVENT), HELLO | WE_MAY, THEY_MAY, RENDEZVOUS_EXPECT},
	{IN(HELLO), ON(NO_EVENT), HELLO | WE_MAY | THEY_MAY | LOWER, 0, RENDEZVOUS_EXPECT},
	{IN(HELLO), ON(NO_EVENT), HELLO | WE_MAY | THEY_MAY, LOWER, RENDEZVOUS_GRANT},
	{IN(HELLO), ON(NO_EVENT), HELLO | THEY_MAY, WE_MAY, RENDEZVOUS_GRANT},

	/* the vchan is being made */
	{IN(PAGES) | IN(GRANTED) | IN(AWAIT), ON(NO_EVENT), 0, HELLO, RENDEZVOUS_BACK},
	{IN(PAGES), ON(NO_EVENT), HELLO, THEY_MAY, RENDEZVOUS_BACK},
	{IN(PAGES), ON(NO_EVENT), HELLO | THEY_MAY, 0, RENDEZVOUS_NOTHING},
	{IN(GRANTED), ON(NO_EVENT), HELLO, TRIED, RENDEZVOUS_BACK},
	{IN(GRANTED), ON(NO_EVENT), HELLO | TRIED, THEY_MAY, RENDEZVOUS_BACK},
	{IN(GRANTED), ON(NO_EVENT), HELLO | TRIED | THEY_MAY, 0, RENDEZVOUS_NOTHING},
	{IN(AWAIT), ON(NO_EVENT), HELLO, WE_MAY, RENDEZVOUS_BACK},
	{IN(AWAIT), ON(NO_EVENT), HELLO | WE_MAY, TRIED, RENDEZVOUS_EXPECT},
	{IN(AWAIT), ON(NO_EVENT), HELLO | WE_MAY | TRIED, NODES, RENDEZVOUS_NOTHING},
	{IN(AWAIT), ON(NO_EVENT), HELLO | WE_MAY | TRIED | NODES, 0, RENDEZVOUS_MAP},
	{IN(PAGES), ON(PAGES_FREE), HELLO | THEY_MAY, 0, RENDEZVOUS_GRANT},
	{IN(PAGES), ON(PAGES_FREE), HELLO, THEY_MAY, RENDEZVOUS_BACK},
	{IN(PAGES), ON(PAGES_FREE), 0, HELLO, RENDEZVOUS_BACK},
	{IN(GRANTED), ON(LIVE), 0, 0, RENDEZVOUS_TAKE},
	{IN(GRANTED), ON(CLOSED), 0, 0, RENDEZVOUS_BACK},

	/* connected */
	{IN(CONNECTED), ON(NO_EVENT), 0, HELLO, RENDEZVOUS_LOSE_WITHDRAWN},
	{IN(CONNECTED), ON(NO_EVENT), HELLO, TRIED, RENDEZVOUS_LOSE_ANEW},
	{IN(CONNECTED), ON(NO_EVENT), HELLO | TRIED, 0, RENDEZVOUS_NOTHING},
	{IN(CONNECTED), ON(GONE), 0, 0, RENDEZVOUS_LOSE_GONE},
	{IN(CONNECTED), ON(REPLACED), 0, 0, RENDEZVOUS_LOSE_REPLACED},

	/* the peer or the time has gone */
	{UNDER_WAY, ON(GONE), 0, 0, RENDEZVOUS_FAIL_GONE},
	{UNDER_WAY, ON(REPLACED), 0, 0, RENDEZVOUS_BACK},
	{UNDER_WAY | IN(IDLE), ON(TIMEOUT), 0, 0, RENDEZVOUS_FAIL_TIMEOUT},

	/* nobody's business */
	{IN(IDLE) | IN(LOST), ON(GONE) | ON(REPLACED), 0, 0, RENDEZVOUS_NOTHING},
	{IN(CONNECTED) | IN(LOST), ON(TIMEOUT), 0, 0, RENDEZVOUS_NOTHING},
	{IN(LOST), ON(NO_EVENT), 0, 0, RENDEZVOUS_NOTHING},
	{ANYWHERE & ~IN(PAGES), ON(PAGES_FREE), 0, 0, RENDEZVOUS_NOTHING},
	{ANYWHERE & ~IN(GRANTED), ON(LIVE) | ON(CLOSED), 0, 0, RENDEZVOUS_NOTHING},
};

static struct rendezvous_facts facts_of(enum rendezvous_event event, unsigned facts)
{
	return (struct rendezvous_facts){
		.event = event,
		.wanted = facts & WANTED,
		.goes_on = facts & GOES_ON,
		.self = facts & SELF,
		.no_domid = facts & NO_DOMID,
		.up = facts & UP,
		.looked = facts & LOOKED,
		.looking = facts & LOOKING,
		.store_down = facts & STORE_DOWN,
		.other_presence = facts & OTHER_PRESENCE,
		.other_hello = facts & OTHER_HELLO,
		.hello = facts & HELLO,
		.tried = facts & TRIED,
		.we_may_map = facts & WE_MAY,
		.they_may_map = facts & THEY_MAY,
		.we_are_lower = facts & LOWER,
		.nodes = facts & NODES,
	};
}

/* Fails where the case has no row, or two that it could belong to. */
static const struct row *row_of(unsigned state, unsigned event, unsigned facts)
{
	const struct row *found = NULL;

	for (const struct row *row = rows; row < rows + ROWS(rows); row++) {
		if (!(row->states >> state & 1) || !(row->events >> event & 1) ||
		    (facts & row->yes) != row->yes || (facts & row->no))
			continue;
		if (found)
			fail_msg("state %u, event %u, facts %#x: rows %td and %td", state, event, facts,
				 found - rows, row - rows);
		found = row;
	}
	if (!found)
		fail_msg("state %u, event %u, facts %#x: no row", state, event, facts);
	return found;
}

TEST(every_state_with_all_facts_does_what_the_table_says)
{
	bool used[ROWS(rows)] = {false};

	for (unsigned in = 0; in < RENDEZVOUS_STATES; in++)
		for (unsigned event = 0; event < RENDEZVOUS_EVENTS; event++)
			for (unsigned facts = 0; facts < ALL_FACTS; facts++) {
				const struct row *row = row_of(in, event, facts);
				struct rendezvous_facts gathered = facts_of(event, facts);
				enum rendezvous_action action = rendezvous_step(in, &gathered);

				used[row - rows] = true;
				if (action != row->action)
					fail_msg("row %td: state %u, event %u, facts %#x: action %u, not %u",
						 row - rows, in, event, facts, action, row->action);
			}
	for (unsigned i = 0; i < ROWS(rows); i++)
		assert_true(used[i]);
}

/* What leads to HELLO is followed by another step at once, which must not lead back to where it came from. */
TEST(hello_is_left_forward_only)
{
	for (unsigned facts = 0; facts < ALL_FACTS; facts++) {
		struct rendezvous_facts gathered = facts_of(RENDEZVOUS_NO_EVENT, facts);
		enum rendezvous_action action = rendezvous_step(RENDEZVOUS_HELLO, &gathered);

		assert_int_not_equal(action, RENDEZVOUS_BEGIN);
		assert_int_not_equal(action, RENDEZVOUS_BACK);
	}
}
