/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Makes the steps of channels while somebody traces. */

#include "daemon/switch/steps.h"

#include "daemon/switch/hop_internal.h"
#include "daemon/switch/ledger.h"
#include "wire/ut.h"

static struct step_place steps_place_of(const struct hop *hop)
{
	struct step_place place = {.kind = PLACE_NOBODY};

	if (!hop)
		return place;
	if (hop->traits->is_waiting_room || hop->traits->is_inner) {
		place.kind = hop->traits->is_waiting_room ? PLACE_WAITING_ROOM : PLACE_TOPIC;
	} else if (!hop->traits->is_daemon) {
		place.kind = PLACE_PROGRAM;
		place.number = hop->who.identity.pid;
	} else if (hop->account) {
		place.kind = account_kind(hop->account) == QUOTA_HOST ? PLACE_HOST : PLACE_DOMAIN;
		place.number = account_id(hop->account);
	}
	return place;
}

struct step_place step_place(const struct channel_end *end)
{
	return steps_place_of(end->hop);
}

/* Tells a step that happens at step->end, to which the hop belongs or did. */
static void tell_at(struct channel_step step, const struct hop *hop)
{
	const struct steps *steps = step.channel->board->steps;

	step.place = steps_place_of(hop);
	steps->tell(steps->userdata, &step);
}

static void steps_tell_step(const struct channel_step *step)
{
	tell_at(*step, step->end->hop);
}

void steps_tell(const struct channel_end *end, enum step_kind kind, int error)
{
	steps_tell_step(&(struct channel_step){.kind = kind,
					       .channel = end->channel,
					       .end = end,
					       .is_back = end->is_opener != (kind == STEP_FINISHED),
					       .error = error});
}

void steps_tell_refused(const struct channel *channel, const struct hop *hop, struct frame_text name,
			int error)
{
	tell_at((struct channel_step){.kind = STEP_REFUSED,
				      .channel = channel,
				      .end = &channel->opener,
				      .is_back = true,
				      .error = error,
				      .name = name},
		hop);
}

void steps_tell_sent(const struct channel_end *end, uint32_t length)
{
	if (length)
		steps_tell_step(&(struct channel_step){.kind = STEP_SENT,
						       .channel = end->channel,
						       .end = end,
						       .is_back = end->is_opener,
						       .begin = end->sent - length,
						       .upto = end->sent,
						       .queued = channel_queued(end)});
}

void steps_tell_data(struct channel_end *end, uint32_t length, uint32_t messages)
{
	const struct channel_end *out = channel_other(end);
	uint64_t waiting = end->received - out->sent;
	struct channel_step step = {.kind = STEP_CAME,
				    .channel = end->channel,
				    .end = end,
				    .is_back = !end->is_opener,
				    .begin = end->received - length,
				    .upto = end->received,
				    .messages = messages,
				    .queued = channel_queued(out)};

	if (!length)
		return;
	steps_tell_step(&step);
	step.messages = 0;
	step.end = out;
	step.kind = STEP_SENT;
	step.upto = out->sent;
	if (waiting < length)
		steps_tell_step(&step);
	step.kind = STEP_QUEUED;
	step.begin = waiting < length ? out->sent : step.begin;
	step.upto = end->received;
	if (waiting > 0)
		steps_tell_step(&step);
}

void steps_tell_cancelled(const struct channel *channel, uint64_t upto)
{
	steps_tell_step(&(struct channel_step){.kind = STEP_CANCELLED,
					       .channel = channel,
					       .end = &channel->opener,
					       .begin = upto - MESSAGE_TRAILER_SIZE,
					       .upto = upto,
					       .error = ECANCELED});
}

void steps_tell_taken(const struct channel_end *end, uint64_t before)
{
	steps_tell_step(&(struct channel_step){.kind = STEP_TAKEN,
					       .channel = end->channel,
					       .end = end,
					       .is_back = end->is_opener,
					       .begin = before,
					       .upto = end->consumed});
}

/* --- behind whom something waits ---------------------------------------------------------------- */

#define LOOK_MAX 64u /* entries of a ledger */

static void steps_add_ahead(const struct channel *channel, const struct channel *self,
			    const struct channel *ahead[STEPS_AHEAD_MAX], unsigned *count)
{
	for (unsigned i = 0; i < *count; i++)
		if (ahead[i] == channel)
			return;
	if (channel != self && *count < STEPS_AHEAD_MAX)
		ahead[(*count)++] = channel;
}

unsigned steps_ahead(const struct channel_step *step, const struct channel *ahead[STEPS_AHEAD_MAX])
{
	const struct channel_end *end = step->end, *other;
	const struct ledger *ledger;
	unsigned count = 0;

	if (!end->hop)
		return 0;
	ledger = &hop_outlet(end->hop, end)->ledger;
	for (uint32_t i = 0; i < ledger->count && i < LOOK_MAX; i++) {
		const struct channel_end *handed = ledger_at(ledger, ledger->first + i)->end;

		if (handed)
			steps_add_ahead(handed->channel, step->channel, ahead, &count);
	}
	DL_FOREACH2(*hop_backlog(end->hop, end), other, backlog_next) {
		if (other == end || count == STEPS_AHEAD_MAX)
			break;
		steps_add_ahead(other->channel, step->channel, ahead, &count);
	}
	return count;
}
