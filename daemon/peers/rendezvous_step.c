/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/rendezvous_step.h"

static enum rendezvous_action step_idle(const struct rendezvous_facts *facts)
{
	if (!facts->wanted)
		return facts->hello && !facts->tried ? RENDEZVOUS_BEGIN : RENDEZVOUS_NOTHING;
	if (facts->self)
		return RENDEZVOUS_FAIL_SELF;
	if (facts->no_domid)
		return RENDEZVOUS_FAIL_DOMID;
	if (facts->up)
		return RENDEZVOUS_BEGIN;
	if (!facts->looked) /* the daemon itself asks, or what was known at the request has changed */
		return facts->looking ? RENDEZVOUS_NOTHING : RENDEZVOUS_LOOK_UP;
	if (facts->other_presence || facts->other_hello)
		return RENDEZVOUS_FAIL_VERSION;
	return facts->store_down ? RENDEZVOUS_FAIL_STORE : RENDEZVOUS_FAIL_ABSENT;
}

static enum rendezvous_action answer_hello(const struct rendezvous_facts *facts)
{
	if (facts->we_may_map && (!facts->they_may_map || facts->we_are_lower))
		return RENDEZVOUS_EXPECT;
	if (facts->they_may_map)
		return RENDEZVOUS_GRANT;
	return facts->wanted ? RENDEZVOUS_REFUSE : RENDEZVOUS_NOTE;
}

static enum rendezvous_action step_hello(const struct rendezvous_facts *facts)
{
	if (facts->hello)
		return answer_hello(facts);
	if (facts->other_hello)
		return RENDEZVOUS_FAIL_VERSION;
	return facts->wanted || facts->goes_on ? RENDEZVOUS_NOTHING : RENDEZVOUS_WITHDRAW;
}

/* Decides without an event. Whatever depends on a hello that has gone ends with it. */
static enum rendezvous_action step_on(enum rendezvous_state state, const struct rendezvous_facts *facts)
{
	switch (state) {
	case RENDEZVOUS_IDLE:
		return step_idle(facts);
	case RENDEZVOUS_HELLO:
		return step_hello(facts);
	case RENDEZVOUS_PAGES:
		return facts->hello && facts->they_may_map ? RENDEZVOUS_NOTHING : RENDEZVOUS_BACK;
	case RENDEZVOUS_GRANTED:
		return facts->hello && facts->tried && facts->they_may_map ? RENDEZVOUS_NOTHING
									   : RENDEZVOUS_BACK;
	case RENDEZVOUS_AWAIT:
		if (!facts->hello || !facts->we_may_map)
			return RENDEZVOUS_BACK;
		if (!facts->tried) /* it has begun anew: what was read was an earlier attempt's */
			return RENDEZVOUS_EXPECT;
		return facts->nodes ? RENDEZVOUS_MAP : RENDEZVOUS_NOTHING;
	case RENDEZVOUS_CONNECTED:
		if (!facts->hello)
			return RENDEZVOUS_LOSE_WITHDRAWN;
		return facts->tried ? RENDEZVOUS_NOTHING : RENDEZVOUS_LOSE_ANEW;
	case RENDEZVOUS_LOST:
		break;
	}
	return RENDEZVOUS_NOTHING;
}

enum rendezvous_action rendezvous_step(enum rendezvous_state state, const struct rendezvous_facts *facts)
{
	bool connected = state == RENDEZVOUS_CONNECTED;

	switch (facts->event) {
	case RENDEZVOUS_NO_EVENT:
		break;
	case RENDEZVOUS_TIMEOUT:
		return state >= RENDEZVOUS_CONNECTED ? RENDEZVOUS_NOTHING : RENDEZVOUS_FAIL_TIMEOUT;
	case RENDEZVOUS_GONE:
	case RENDEZVOUS_REPLACED:
		if (state == RENDEZVOUS_IDLE || state == RENDEZVOUS_LOST)
			return RENDEZVOUS_NOTHING;
		if (facts->event == RENDEZVOUS_REPLACED)
			return connected ? RENDEZVOUS_LOSE_REPLACED : RENDEZVOUS_BACK;
		return connected ? RENDEZVOUS_LOSE_GONE : RENDEZVOUS_FAIL_GONE;
	case RENDEZVOUS_PAGES_FREE:
		/* Without the hello it stops waiting, and the pages go to the next one. */
		if (state == RENDEZVOUS_PAGES)
			return facts->hello && facts->they_may_map ? RENDEZVOUS_GRANT : RENDEZVOUS_BACK;
		return RENDEZVOUS_NOTHING;
	case RENDEZVOUS_LIVE:
		return state == RENDEZVOUS_GRANTED ? RENDEZVOUS_TAKE : RENDEZVOUS_NOTHING;
	case RENDEZVOUS_CLOSED:
		return state == RENDEZVOUS_GRANTED ? RENDEZVOUS_BACK : RENDEZVOUS_NOTHING;
	}
	return step_on(state, facts);
}
