/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/activation/activation_step.h"

#include "wire/retry.h"

const char *activation_state_name(enum activation_state state)
{
	static const char *const names[] = {
		[ACTIVATION_IDLE] = "activatable", [ACTIVATION_STARTING] = "starting",
		[ACTIVATION_RUNNING] = "running",  [ACTIVATION_LINGERING] = "lingering",
		[ACTIVATION_PAUSED] = "failed",
	};

	return names[state];
}

static unsigned activation_step_start(struct activation_progress *progress, uint64_t now_ms)
{
	if (progress->starts == 0 || now_ms - progress->burst_ms >= ACTIVATION_BURST_MS) {
		progress->starts = 0;
		progress->burst_ms = now_ms;
	}
	progress->starts++;
	progress->state = ACTIVATION_STARTING;
	return ACTIVATION_START;
}

static unsigned pause_for(struct activation_progress *progress, bool in_storm)
{
	progress->pause_ms = retry_pause(RETRY_OTHERS, progress->pause_ms);
	progress->in_storm = in_storm;
	progress->state = ACTIVATION_PAUSED;
	return ACTIVATION_END | ACTIVATION_STOP | ACTIVATION_PAUSE;
}

static unsigned bound(struct activation_progress *progress)
{
	if (!progress->in_storm)
		progress->pause_ms = 0;
	progress->state = ACTIVATION_RUNNING;
	return ACTIVATION_LEAD | ACTIVATION_SETTLED;
}

/* Nothing is bound, and nothing keeps the next program from being started but a command that lives. */
static unsigned be_idle(struct activation_progress *progress, struct activation_facts facts)
{
	progress->state = facts.lives ? ACTIVATION_LINGERING : ACTIVATION_IDLE;
	if (!facts.waiting)
		return 0;
	return facts.lives ? ACTIVATION_AWAIT : activation_step_start(progress, facts.now_ms);
}

static unsigned unbound(struct activation_progress *progress, struct activation_facts facts)
{
	if (progress->starts >= ACTIVATION_BURST && facts.now_ms - progress->burst_ms < ACTIVATION_BURST_MS)
		return pause_for(progress, true);
	progress->pause_ms = 0;
	progress->in_storm = false;
	return be_idle(progress, facts);
}

unsigned activation_step(struct activation_progress *progress, enum activation_event event,
			 struct activation_facts facts)
{
	enum activation_state state = progress->state;

	switch (event) {
	case ACTIVATION_CAME:
		if (state == ACTIVATION_IDLE)
			return activation_step_start(progress, facts.now_ms);
		if (state == ACTIVATION_LINGERING)
			return ACTIVATION_AWAIT;
		return state == ACTIVATION_PAUSED ? ACTIVATION_REFUSE : 0;
	case ACTIVATION_BOUND:
		return state == ACTIVATION_RUNNING ? 0 : bound(progress);
	case ACTIVATION_UNBOUND:
		return state == ACTIVATION_RUNNING ? unbound(progress, facts) : 0;
	case ACTIVATION_FAILED:
		if (state == ACTIVATION_LINGERING)
			return ACTIVATION_END;
		return state == ACTIVATION_STARTING ? pause_for(progress, false) : 0;
	case ACTIVATION_ENDED:
		if (state == ACTIVATION_LINGERING)
			return facts.waiting ? be_idle(progress, facts)
					     : be_idle(progress, facts) | ACTIVATION_SETTLED;
		return state == ACTIVATION_STARTING ? pause_for(progress, false) : 0;
	case ACTIVATION_PAUSE_OVER:
		return state == ACTIVATION_PAUSED ? be_idle(progress, facts) : 0;
	}
	return 0;
}
