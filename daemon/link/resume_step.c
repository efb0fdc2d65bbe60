/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/resume_step.h"

/* An end that proves nothing learns nothing, and what it claims of epochs isn't looked at. */
static enum resume_action step_prove(const struct resume_facts *facts)
{
	if (!facts->proven)
		return RESUME_DROP;
	if (facts->older)
		return RESUME_REFUSE;
	return facts->last ? RESUME_END : RESUME_SAY;
}

static enum resume_action step_resume(const struct resume_facts *facts)
{
	if (facts->ahead)
		return RESUME_END; /* this end is the older one */
	return facts->behind ? RESUME_REFUSE : RESUME_GO_ON;
}

enum resume_action resume_step(enum resume_state state, enum resume_attempt attempt,
			       const struct resume_facts *facts)
{
	if (state == RESUME_ENDED)
		return RESUME_IGNORE;
	switch (facts->event) {
	case RESUME_LOST:
		return state == RESUME_UP ? RESUME_LEAVE : RESUME_IGNORE;
	case RESUME_NEXT:
		return attempt == RESUME_NOTHING ? RESUME_SHOW : RESUME_DROP;
	case RESUME_NEXT_LOST:
		return attempt == RESUME_NOTHING ? RESUME_IGNORE : RESUME_DROP;
	case RESUME_PROVE:
		if (attempt == RESUME_NOTHING)
			return RESUME_IGNORE;
		return attempt == RESUME_PROVING ? step_prove(facts) : RESUME_DROP;
	case RESUME_RESUME:
		if (attempt == RESUME_NOTHING)
			return RESUME_IGNORE;
		return attempt == RESUME_RESUMING ? step_resume(facts) : RESUME_DROP;
	case RESUME_GOODBYE:
		/* Of an end that has proven itself: it may be UP here already when that end finds out. */
		if (attempt == RESUME_PROVING)
			return RESUME_DROP;
		return attempt == RESUME_RESUMING || state == RESUME_UP ? RESUME_END : RESUME_IGNORE;
	case RESUME_OVER:
		return state == RESUME_AWAY ? RESUME_END : RESUME_IGNORE;
	}
	return RESUME_IGNORE;
}
