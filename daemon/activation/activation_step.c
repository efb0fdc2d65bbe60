/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/activation/activation_step.h"

const char *activation_state_name(enum activation_state state)
{
	static const char *const names[] = {
		[ACTIVATION_IDLE] = "activatable",
		[ACTIVATION_STARTING] = "starting",
		[ACTIVATION_RUNNING] = "running",
		[ACTIVATION_PAUSED] = "failed",
	};

	return names[state];
}

static unsigned start(struct activation_progress *progress, uint64_t now_ms)
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
	unsigned doublings = progress->failures < 16 ? progress->failures : 16;
	uint32_t ms = ACTIVATION_PAUSE_MS << doublings;

	progress->failures++;
	progress->pause_ms = ms < ACTIVATION_PAUSE_MAX_MS ? ms : ACTIVATION_PAUSE_MAX_MS;
	progress->in_storm = in_storm;
	progress->state = ACTIVATION_PAUSED;
	return ACTIVATION_END | ACTIVATION_STOP | ACTIVATION_PAUSE;
}

static unsigned bound(struct activation_progress *progress)
{
	if (!progress->in_storm)
		progress->failures = 0;
	progress->state = ACTIVATION_RUNNING;
	return ACTIVATION_LEAD | ACTIVATION_SETTLED;
}

static unsigned unbound(struct activation_progress *progress, bool waiting, uint64_t now_ms)
{
	if (progress->starts >= ACTIVATION_BURST && now_ms - progress->burst_ms < ACTIVATION_BURST_MS)
		return pause_for(progress, true);
	progress->failures = 0;
	progress->in_storm = false;
	progress->state = ACTIVATION_IDLE;
	return waiting ? start(progress, now_ms) : 0;
}

unsigned activation_step(struct activation_progress *progress, enum activation_event event, bool waiting,
			 uint64_t now_ms)
{
	enum activation_state state = progress->state;

	switch (event) {
	case ACTIVATION_CAME:
		if (state == ACTIVATION_IDLE)
			return start(progress, now_ms);
		return state == ACTIVATION_PAUSED ? ACTIVATION_REFUSE : 0;
	case ACTIVATION_BOUND:
		return state == ACTIVATION_RUNNING ? 0 : bound(progress);
	case ACTIVATION_UNBOUND:
		return state == ACTIVATION_RUNNING ? unbound(progress, waiting, now_ms) : 0;
	case ACTIVATION_FAILED:
		return state == ACTIVATION_STARTING ? pause_for(progress, false) : 0;
	case ACTIVATION_PAUSE_OVER:
		if (state == ACTIVATION_PAUSED)
			progress->state = ACTIVATION_IDLE;
		return 0;
	}
	return 0;
}
