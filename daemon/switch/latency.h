/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LATENCY_H
#define XENMSG_DAEMON_LATENCY_H

/*
 * How long the messages and calls of channels take that lead to an endpoint here: a message until it was
 * taken, a call until it was answered or its caller has given up.
 *
 * Of each channel one message and one call at a time is measured, the next one when that is over. So it costs
 * two looks at the clock, however many messages go by meanwhile, and no memory. A message is known by the
 * offset of its end. Calls are answered in any order, so of a call that is measured, and of answers as long
 * as one is, the number is looked at, in the last word of a DATA frame. A call isn't measured any more when
 * several answers come in one frame, of which it may be one. A program that puts something else there spoils
 * no more than these figures.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "daemon/switch/channel.h"

/* A call that isn't seen to be answered while so many others are isn't measured any more. */
#define LATENCY_ANSWERS_MAX 4096u

static inline bool latency_is_measured(const struct channel *channel)
{
	return channel->tally && channel->kind != CHANNEL_STREAM && !channel->accepted_by_topic;
}

/* Whether the number at the end of a DATA frame that came in here, and ends a message, is to be told. */
static inline bool latency_wants_number(const struct channel_end *end)
{
	const struct channel *channel = end->channel;

	return channel->kind == CHANNEL_CALL && end->is_opener == !channel->latency.asked_ns &&
	       latency_is_measured(channel);
}

/* A request of this number has come from the opener, or an answer to it from the acceptor, as the last of so
 * many messages. */
static inline void latency_number(struct channel_end *end, uint32_t number, uint32_t messages)
{
	struct channel_latency *latency = &end->channel->latency;

	if (end->is_opener) {
		latency->asked_ns = switch_now(end->channel->board);
		latency->asked_upto = end->received;
		latency->number = number;
		latency->answers = 0;
	} else if (latency->number == number) {
		durations_add(&end->channel->tally->answered,
			      switch_now(end->channel->board) - latency->asked_ns);
		latency->asked_ns = 0;
	} else if (messages > 1 || ++latency->answers == LATENCY_ANSWERS_MAX) {
		latency->asked_ns = 0;
	}
}

/* The end of a message has come from the opener. */
static inline void latency_came(struct channel_end *end)
{
	struct channel *channel = end->channel;

	if (channel->latency.upto || !latency_is_measured(channel))
		return;
	channel->latency.upto = end->received;
	channel->latency.came_ns = switch_now(channel->board);
}

/* The acceptor has taken what was sent up to this offset. */
static inline void latency_taken(struct channel *channel, uint64_t offset)
{
	if (!channel->latency.upto || offset < channel->latency.upto)
		return;
	durations_add(&channel->tally->taken, switch_now(channel->board) - channel->latency.came_ns);
	channel->latency.upto = 0;
}

/* The caller wants no answer to the request of this number any more. */
static inline void latency_withdrawn(struct channel *channel, uint32_t number)
{
	if (!channel->latency.asked_ns || channel->latency.number != number)
		return;
	durations_add(&channel->tally->answered, switch_now(channel->board) - channel->latency.asked_ns);
	channel->latency.asked_ns = 0;
}

/* The message that ends at this offset was cancelled. */
static inline void latency_cancelled(struct channel *channel, uint64_t upto)
{
	if (channel->latency.upto == upto)
		channel->latency.upto = 0;
	if (channel->latency.asked_upto == upto)
		latency_withdrawn(channel, channel->latency.number);
}

/* Another program has the channel now. */
static inline void latency_begin_anew(struct channel *channel)
{
	channel->latency.upto = channel->latency.asked_ns = 0;
}

#endif
