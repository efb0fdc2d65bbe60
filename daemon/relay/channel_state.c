/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The states of a channel's two ends, and how the end of one becomes the other's. */

#include <event2/buffer.h>
#include <utlist.h>

#include "base/quota.h"
#include "daemon/relay/cancel.h"
#include "daemon/relay/channel_internal.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/relay/orphans.h"
#include "daemon/relay/steps.h"
#include "daemon/relay/withdraw.h"
#include "wire/probes.h"

void channel_owe(struct channel_end *end, enum channel_owed frame)
{
	end->owed |= (uint8_t)frame;
	channel_mark_urgent(end);
}

static void drop_queue(struct channel_end *end)
{
	if (end->queue)
		evbuffer_free(end->queue);
	end->queue = NULL;
	end->queued_messages = 0;
	if (end->in_backlog)
		DL_DELETE2(*hop_backlog(end->hop, end), end, backlog_prev, backlog_next);
	end->in_backlog = false;
}

/* Gives back what the bytes of an orphan could take, once none of them is sent on any more, and what its
 * cancellations cost, which nobody waits for. */
void channel_release_bytes(struct channel *channel)
{
	if (channel->opener.hop || !channel_is_reset(&channel->acceptor))
		return;
	cancels_free(channel);
	withdrawals_free(channel);
	charge_release(&channel->charge, QUOTA_BYTES, channel->charge.held[QUOTA_BYTES]);
}

/* Removes the end from its hop, where no frame about the channel is sent any more. When both ends are gone,
 * the channel is to be freed. */
void channel_end_gone(struct channel_end *end)
{
	struct channel *channel = end->channel;

	drop_queue(end);
	hop_forget_end(end->hop, end);
	if (end->in_urgent)
		DL_DELETE2(end->hop->urgent, end, urgent_prev, urgent_next);
	end->in_urgent = false;
	channel_table_remove(&end->hop->channels, end->number);
	end->hop = NULL;
	if (!end->is_opener) {
		orphans_remove(channel);
		if (channel->sharing)
			sharing_give(channel, NULL);
	} else if (channel->acceptor.hop) {
		orphans_add(channel);
		channel_release_bytes(channel);
	}
	if (!channel_other(end)->hop && !channel->ended) {
		channel->ended = true;
		channel->ended_next = channel->relay->ended;
		channel->relay->ended = channel;
	}
}

/* Changes the state by the table in channel.h. False: the change isn't possible in this state. */
bool channel_move(struct channel_end *end, enum channel_change change)
{
	switch (change) {
	case FIN_CAME:
		if (end->in != IN_OPEN)
			return false;
		end->in = IN_FIN;
		return true;
	case RESET_CAME:
		if (end->in == IN_RESET)
			return false;
		end->in = IN_RESET;
		return true;
	case OPEN_SENT:
		end->out = OUT_OPEN;
		return true;
	case FIN_SENT:
		end->out = OUT_FIN;
		return true;
	case RESET_DECIDED:
		if (channel_is_reset(end))
			return false;
		end->owed = 0;
		if (end->out == OUT_NEW) {
			end->in = IN_RESET;
			end->out = OUT_RESET;
		} else {
			end->out = OUT_RESETTING;
		}
		return true;
	default:
		end->owed = 0;
		end->out = OUT_RESET;
		return true;
	}
}

void channel_owe_takeover(struct channel *channel)
{
	if (channel->takeovers && channel->takeovers->at == channel->opener.sent)
		channel_owe(&channel->opener, OWED_TAKEOVER);
}

void channel_drop_takeovers(struct channel *channel)
{
	struct channel_takeover *takeover;

	while ((takeover = channel->takeovers)) {
		LL_DELETE(channel->takeovers, takeover);
		free(takeover);
	}
}

/* Whether the opener has said that it sends nothing more, and all that was sent was taken, both ways: so ends
 * each call whose program goes when it has its answer. Of one that has no answer nobody would say so. */
static bool is_over_in_order(const struct channel *channel)
{
	const struct channel_end *opener = &channel->opener, *acceptor = &channel->acceptor;

	return (acceptor->out == OUT_FIN || acceptor->owed & OWED_FIN) &&
	       acceptor->consumed == acceptor->sent && opener->consumed == acceptor->received &&
	       (channel->kind != CHANNEL_CALL || acceptor->received > 0);
}

/* An end in order is none by an error: the acceptor's direction has finished, too. */
static void note_end(const struct channel_end *end, int error, bool in_order)
{
	if (!in_order)
		steps_note(end, STEP_ENDED, error);
	else if (!end->is_opener)
		steps_note(end, STEP_FINISHED, 0);
}

/* What was in doubt before stays so; what was taken behind it is, too, as a RESET can't say more. */
static void take_doubts(struct channel *channel, uint64_t *consumed, uint64_t *unsure)
{
	const struct channel_takeover *takeover;

	if (*unsure < *consumed)
		*unsure = *consumed;
	LL_FOREACH(channel->takeovers, takeover) {
		if (*unsure < takeover->frame.unsure)
			*unsure = takeover->frame.unsure;
		if (*consumed > takeover->frame.consumed)
			*consumed = takeover->frame.consumed;
	}
	channel_drop_takeovers(channel);
}

void channel_reset_now(struct channel_end *end, int error, uint64_t consumed, uint64_t unsure)
{
	bool in_order = is_over_in_order(end->channel);

	if (!end->hop || !channel_move(end, RESET_DECIDED))
		return;
	PROBE(5, xenmsgd, error, end->channel->endpoint, end->channel->identity.domid, error,
	      end->channel->identity.pid, end->channel->serial);
	if (end->channel->endpoint)
		note_end(end, error, in_order);
	drop_queue(end);
	if (end->is_opener && end->channel->takeovers)
		take_doubts(end->channel, &consumed, &unsure);
	end->reset_error = (uint32_t)error;
	end->reset_consumed = consumed;
	end->reset_unsure = unsure;
	channel_mark_urgent(end);
	channel_release_bytes(end->channel);
}

static void reset_behind_data(struct channel_end *end, int error)
{
	if (!end->hop || channel_is_reset(end) || (end->owed & OWED_RESET))
		return;
	end->reset_error = (uint32_t)error;
	steps_note(end, STEP_ENDED, error);
	channel_owe(end, OWED_RESET);
	if (end->hop->callbacks->tell_taken)
		end->hop->callbacks->tell_taken(end->hop->owner);
}

/* Ends the acceptor's side, since the opener's has ended. What a sender of messages sent before goes to the
 * receiver first. But nobody gets the answers of a caller that has gone: its server is told at once, past
 * what it hasn't taken. */
void channel_reset_acceptor(struct channel_end *acceptor, int error)
{
	const struct channel_end *opener = channel_other(acceptor);

	if (acceptor->channel->kind == CHANNEL_CALL)
		channel_reset_now(acceptor, error, opener->consumed, opener->consumed);
	else
		reset_behind_data(acceptor, error);
}

/* Whether something is on its way to the opener that it gets before a RESET: answers, and bytes of a
 * stream. */
static bool has_more_for_opener(const struct channel_end *opener)
{
	return channel_has_backlog(opener) ||
	       (opener->channel->kind == CHANNEL_STREAM && opener->consumed != opener->sent);
}

/* Ends the opener's side, since the acceptor's has ended. The answers that a server sent before go to its
 * caller first, and the bytes of a stream. */
void channel_reset_opener(struct channel_end *opener, int error, uint64_t consumed, uint64_t unsure)
{
	if (opener->channel->kind == CHANNEL_MESSAGE || !has_more_for_opener(opener) ||
	    (opener->owed & OWED_RESET)) {
		channel_reset_now(opener, error, consumed, unsure);
		return;
	}
	reset_behind_data(opener, error);
	opener->reset_consumed = consumed;
	opener->reset_unsure = unsure;
}

/* Ends the opener's side, the acceptor's having been forbidden. */
void channel_tell_opener(struct channel_end *acceptor, int error, uint64_t unsure)
{
	if (acceptor->is_unsettled)
		DL_DELETE2(acceptor->hop->unsettled, acceptor, unsettled_prev, unsettled_next);
	acceptor->is_unsettled = false;
	if (acceptor->channel->kind == CHANNEL_STREAM) /* nothing more of it may come */
		channel_reset_now(&acceptor->channel->opener, error, acceptor->consumed, unsure);
	else
		channel_reset_opener(&acceptor->channel->opener, error, acceptor->consumed, unsure);
}

void channel_check_ended(struct channel_end *end)
{
	if (!end->hop)
		return;
	if (end->in == IN_RESET && end->out == OUT_RESET)
		channel_end_gone(end);
	else if (end->in == IN_FIN && end->out == OUT_FIN && end->consumed == end->sent &&
		 end->told_consumed == end->received && !cancels_answer(end))
		channel_end_gone(end);
}
