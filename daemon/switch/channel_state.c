/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The states of a channel's two ends: what changes them, and how the end of one becomes the other's. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "base/quota.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/channel_internal.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/latency.h"
#include "daemon/switch/orphans.h"
#include "daemon/switch/steps.h"
#include "wire/probes.h"
#include "wire/ut.h"

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
		channel->ended_next = channel->board->ended;
		channel->board->ended = channel;
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

void channel_owe_reassigned(struct channel *channel)
{
	if (channel->reassigned && channel->reassigned->at == channel->opener.sent)
		channel_owe(&channel->opener, OWED_REASSIGNED);
}

void channel_drop_reassigned(struct channel *channel)
{
	struct channel_reassigned *reassigned;

	while ((reassigned = channel->reassigned)) {
		LL_DELETE(channel->reassigned, reassigned);
		free(reassigned);
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
	const struct channel_reassigned *reassigned;

	if (*unsure < *consumed)
		*unsure = *consumed;
	LL_FOREACH(channel->reassigned, reassigned) {
		if (*unsure < reassigned->frame.unsure)
			*unsure = reassigned->frame.unsure;
		if (*consumed > reassigned->frame.consumed)
			*consumed = reassigned->frame.consumed;
	}
	channel_drop_reassigned(channel);
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
	if (end->is_opener && end->channel->reassigned)
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

/* --- frames that come in, and what its ends have taken ---------------------------------------- */

/* Returns how large the window may become. What comes over a link doesn't wait in its ring, so what is beyond
 * the next ring is copied twice more, into private memory and out of it, unless that ring is a program's own,
 * which is as large as a link's. Measured: with windows of 1 MiB a relayed stream of large messages went at
 * half the speed through rings of 64 KiB, and a byte stream over a link of 1 MiB at three quarters of its
 * speed over one of 64 KiB, since the ring to its program's socket has 128 KiB. */
static uint32_t window_max(const struct channel_end *end)
{
	const struct hop *from = channel_other((struct channel_end *)end)->hop;
	uint32_t most = end->channel->kind == CHANNEL_STREAM ? STREAM_WINDOW_MAX : CHANNEL_WINDOW_MAX, ring;

	if (!from || !from->traits->is_daemon || !end->hop || end->hop->traits->release_means_taken ||
	    !hop_has_rings(end->hop))
		return most;
	ring = hop_outlet(end->hop, end)->writer.ring.size;
	return ring >= CHANNEL_WINDOW_MAX / 2 ? most
	       : ring > CHANNEL_INITIAL_LIMIT ? 2 * ring
					      : 2 * CHANNEL_INITIAL_LIMIT;
}

/* Whether the account may have a window twice as large. What a sender was let send can't be taken back, also
 * of a channel that is idle now: so half of what an account may have is left to new channels. */
static bool may_grow(const struct channel_end *end)
{
	const struct charge *charge = &end->channel->charge;

	return end->window < window_max(end) &&
	       charge_fits(charge, QUOTA_BYTES,
			   end->window + account_usage(charge->account, QUOTA_BYTES).used);
}

void channel_taken(struct channel_end *end, uint64_t offset)
{
	struct channel_end *source = channel_other(end);
	uint64_t before = end->consumed;

	if (offset <= before)
		return;
	if (end->channel->cancels && !end->is_opener)
		cancels_taken(end->channel, offset);
	/* The sender had filled half of its window before the first byte was taken: a larger window keeps it
	 * going. */
	if (source->hop && source->received - end->consumed >= end->window / 2 && may_grow(end)) {
		charge_add(&end->channel->charge, QUOTA_BYTES, end->window);
		end->window *= 2;
	}
	end->consumed = offset;
	if (end->flight)
		hop_reported(end, offset - before);
	if (end->channel->sharing && !end->is_opener)
		sharing_taken(end->channel, offset);
	if (!end->is_opener)
		latency_taken(end->channel, offset);
	if (!end->is_opener)
		PROBE(5, xenmsgd, deliver, end->channel->endpoint, end->channel->identity.domid, offset,
		      end->channel->identity.pid, end->channel->serial);
	steps_note_taken(end, before);
	channel_owe(source, OWED_CREDIT);
	if ((end->owed & OWED_RESET) || (end->in == IN_FIN && end->out == OUT_FIN))
		channel_mark_urgent(end);
}

int channel_credit(struct channel_end *end, const struct frame_credit *credit)
{
	if (channel_is_reset(end) || end->hop->traits->release_means_taken)
		return 0;
	if (credit->consumed > end->sent - channel_base_to(end))
		return -EPROTO;
	if (end->hop->traits->is_daemon && credit->limit > end->limit) {
		end->limit = credit->limit;
		channel_owe(channel_other(end), OWED_CREDIT);
	}
	if ((credit->flags & CREDIT_STOP) && end->channel->kind == CHANNEL_STREAM && !end->is_stopped) {
		end->is_stopped = true;
		channel_owe(channel_other(end), OWED_CREDIT);
	}
	if (!end->is_opener) /* an answer to its own question isn't paced */
		hop_outlet(end->hop, end)->pace.reads_on = credit->flags & CREDIT_MORE;
	channel_taken(end, channel_base_to(end) + credit->consumed);
	channel_check_ended(end);
	return 0;
}

int channel_fin(struct channel_end *end, uint64_t total)
{
	struct channel_end *out = channel_other(end);

	if (channel_is_reset(end))
		return 0;
	if (total != end->received - channel_base_from(end) || !channel_move(end, FIN_CAME))
		return -EPROTO;
	steps_note(end, STEP_FINISHED, 0);
	channel_owe(out, OWED_FIN);
	channel_check_ended(end);
	return 0;
}

int channel_reset(struct channel_end *end, const struct frame_reset *reset)
{
	struct channel_end *out = channel_other(end);
	int error = reset->error > 0 && reset->error < 4096 ? (int)reset->error : EPROTO;
	uint64_t unsure;

	if (!channel_move(end, RESET_CAME))
		return -EPROTO;
	if (channel_is_reset(end) && !end->is_unsettled) {
		/* It answers our RESET, or ours, still to be sent, answers it. */
		channel_check_ended(end);
		return 0;
	}
	if (end->is_unsettled && hop_has_read(end->hop, end->settled_at))
		channel_taken(end, end->released);
	if (reset->consumed <= end->sent - channel_base_to(end))
		channel_taken(end, channel_base_to(end) + reset->consumed);
	unsure = reset->unsure < end->sent - channel_base_to(end) ? channel_base_to(end) + reset->unsure
								  : end->sent;
	if (unsure < end->consumed)
		unsure = end->consumed;
	if (end->is_unsettled) {
		channel_tell_opener(end, (int)end->reset_error, unsure);
		channel_check_ended(end);
		return 0;
	}
	if (!channel_is_reset(out))
		out->reset_by = (reset->flags & RESET_CAUSE) |
				(end->hop->traits->is_daemon ? reset->flags & RESET_BY : RESET_BY_PROGRAM);
	/* What the opener sent goes on to the acceptor before the RESET does, unless these are calls; so does
	 * what comes back. */
	channel_reset_now(end, error, out->consumed, end->is_opener ? end->received : out->sent);
	if (out->is_opener) {
		if (!channel_is_reset(out))
			out->is_refused =
				(reset->flags & RESET_REFUSED) && out->channel->kind == CHANNEL_MESSAGE;
		channel_reset_opener(out, error, end->consumed, unsure);
	} else {
		channel_reset_acceptor(out, error);
	}
	return 0;
}

/* --- where it comes from ---------------------------------------------------------------------- */

static struct channel_origin *origin_of(struct channel *channel)
{
	if (!channel->origin)
		channel->origin = calloc(1, sizeof(*channel->origin));
	return channel->origin;
}

void channel_set_from_domain(struct channel *channel, const char *name)
{
	struct channel_origin *origin = *name ? origin_of(channel) : channel->origin;

	if (!origin)
		return; /* without memory the name is unknown */
	free(origin->domain);
	origin->domain = *name ? strdup(name) : NULL;
}

int channel_set_from_host(struct channel *channel, uint32_t number, const char *name)
{
	struct channel_origin *origin = origin_of(channel);

	if (origin)
		origin->host = strdup(name);
	if (!origin || !origin->host)
		return -ENOMEM;
	origin->is_remote = true;
	origin->from = number;
	return 0;
}

int channel_set_to_host(struct channel *channel, uint32_t number)
{
	struct channel_origin *origin = origin_of(channel);

	if (!origin)
		return -ENOMEM;
	origin->is_remote = true;
	origin->to = number;
	return 0;
}

void channel_origin_free(struct channel *channel)
{
	if (!channel->origin)
		return;
	free(channel->origin->domain);
	free(channel->origin->host);
	free(channel->origin);
	channel->origin = NULL;
}

const char *channel_from_domain(const struct channel *channel)
{
	return channel->origin ? channel->origin->domain : NULL;
}

const char *channel_from_host(const struct channel *channel)
{
	return channel->origin ? channel->origin->host : NULL;
}

uint32_t channel_to_host(const struct channel *channel)
{
	return channel->origin ? channel->origin->to : 0;
}

bool channel_is_remote(const struct channel *channel)
{
	return channel->origin && channel->origin->is_remote;
}

struct peer_id channel_source(const struct channel *channel)
{
	return channel_from_host(channel) ? peer_host(channel->origin->from)
					  : peer_domain(channel->identity.domid);
}
