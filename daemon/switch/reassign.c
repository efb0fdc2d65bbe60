/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/reassign.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/buffer.h>

#include "base/cost.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/latency.h"
#include "daemon/switch/orphans.h"
#include "daemon/switch/sharing.h"
#include "wire/ut.h"

#define MOVES_MAX                                                                                            \
	16u /* before something is taken: programs that only pass a channel on would do so for ever */

/* --- telling the opener ----------------------------------------------------------------------- */

/* Ends the channel at both ends. The opener can't be told more exactly what is known. */
static void end_instead(struct channel *channel)
{
	channel_forbid(channel, ECONNRESET);
}

static bool can_tell(const struct channel *channel)
{
	const struct channel_reassigned *reassigned;
	unsigned count;

	LL_COUNT(channel->reassigned, reassigned, count);
	return !channel->opener.hop->traits->is_inner && count < REASSIGNED_MAX;
}

int reassign_wait(struct channel *channel, const struct frame_reassigned *frame, uint64_t at)
{
	struct channel_reassigned *reassigned = malloc(sizeof(*reassigned));

	if (!reassigned)
		return -ENOMEM;
	*reassigned = (struct channel_reassigned){.frame = *frame, .at = at};
	LL_APPEND(channel->reassigned, reassigned);
	return 0;
}

/* Tells it behind the answers that have come. -ENOMEM. */
static int reassign_tell(struct channel *channel, const struct frame_reassigned *frame)
{
	uint64_t at = channel->acceptor.received;
	struct channel_reassigned *last = channel->reassigned;
	int r = 0;

	while (last && last->next)
		last = last->next;
	/* Nothing is in doubt, nor was it, and nothing was answered between the two. */
	if (last && last->at == at && last->frame.consumed == last->frame.unsure &&
	    frame->consumed == frame->unsure)
		last->frame = *frame;
	else
		r = reassign_wait(channel, frame, at);
	channel_owe_reassigned(channel);
	return r;
}

int channel_take_reassigned(struct channel_end *end, const struct frame_reassigned *reassigned)
{
	struct channel *channel = end->channel;

	if (channel_is_reset(end))
		return 0;
	if (end->is_opener || !end->hop->traits->is_daemon || reassigned->consumed > end->sent ||
	    reassigned->unsure > end->sent)
		return -EPROTO;
	channel_taken(end, reassigned->consumed);
	if (!channel->opener.hop || channel_is_reset(&channel->opener))
		return 0;
	if (!can_tell(channel) || reassign_tell(channel, reassigned) < 0)
		end_instead(channel);
	return 0;
}

/* --- what the program that leaves has taken --------------------------------------------------- */

/* Sees to it that the program doesn't take the message any more. Returns false if it may have. */
static bool take_away(struct channel_end *end, uint64_t state)
{
	uint32_t *word, expected = MESSAGE_SENT;

	if (!end->hop->traits->release_means_taken || hop_handed_word(end->hop, end, state, &word) < 0)
		return false;
	return __atomic_compare_exchange_n(word, &expected, MESSAGE_CANCELLED, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST) ||
	       expected == MESSAGE_CANCELLED;
}

/* Looks at each message that lies with the program. Returns where the first one begins behind the last that
 * may have been taken. */
static uint64_t take_all_away(struct channel_end *end)
{
	struct sharing *sharing = end->channel->sharing;
	size_t size = evbuffer_get_length(sharing->copy), at = 0;
	const uint8_t *bytes = evbuffer_pullup(sharing->copy, -1);
	uint64_t begin = sharing->from, looked = 0;

	while (size - at >= MESSAGE_HEAD_SIZE) {
		uint64_t span = message_span(get_u32(bytes + at));

		if (span > size - at)
			break;
		at += span;
		if (!take_away(end, sharing->from + at - MESSAGE_TRAILER_SIZE))
			begin = sharing->from + at;
		looked++;
	}
	switch_spend(end->channel->board, end->hop->account, looked * COST_TAKEN);
	return begin;
}

/* Whether the channel is open, and each message that its program hasn't taken is there. */
static bool reassign_is_whole(const struct channel_end *end)
{
	const struct sharing *sharing = end->channel->sharing;

	return sharing && !sharing->broken && sharing->from >= sharing->torn && !channel_is_reset(end) &&
	       end->in == IN_OPEN;
}

/* Whether somebody else could go on with the channel, as far as is known before its messages are looked
 * at. */
static bool reassign_may_go_on(struct channel_end *end)
{
	struct channel *channel = end->channel;

	if (!reassign_is_whole(end) || channel->sharing->moves >= MOVES_MAX ||
	    channel->verdict == CHANNEL_AWAITS_NUMBER)
		return false;
	if (!channel->opener.hop)
		return channel->kind == CHANNEL_MESSAGE;
	return !hop_is_retired(channel->opener.hop) && !channel_is_reset(&channel->opener) &&
	       (channel->kind == CHANNEL_MESSAGE || can_tell(channel));
}

/* --- going on --------------------------------------------------------------------------------- */

/* What there is to know before a channel goes on. */
struct next {
	struct hop *hop;
	struct worker *worker;
	uint32_t number;
	uint64_t begin; /* of what goes there */
	bool told;	/* the opener is told */
	struct frame_reassigned reassigned;
};

/* Takes the end from the program's hop, with what it had there. */
static void reassign_leave(struct channel_end *end)
{
	struct hop *hop = end->hop;

	hop_forget_end(hop, end);
	if (end->in_urgent)
		DL_DELETE2(hop->urgent, end, urgent_prev, urgent_next);
	if (end->in_backlog)
		DL_DELETE2(*hop_backlog(hop, end), end, backlog_prev, backlog_next);
	end->in_urgent = end->in_backlog = false;
	channel_table_remove(&hop->channels, end->number);
	orphans_remove(end->channel);
}

static void reassign_begin_anew(struct channel_end *end, const struct next *next, struct evbuffer *copy)
{
	struct channel *channel = end->channel;

	if (end->queue) {
		evbuffer_add_buffer(copy, end->queue);
		evbuffer_free(end->queue);
	}
	end->queue = copy;
	end->sent = channel->sharing->base_to = next->begin;
	if (end->consumed > end->sent)
		end->consumed = end->sent; /* of the first message a part was read */
	end->told_consumed = channel->sharing->base_from = end->received;
	end->in = IN_OPEN;
	end->out = OUT_NEW;
	end->owed = 0;
	channel->sharing->moves++;
	latency_begin_anew(channel);
}

/* The program that it goes to, which goes on from the beginning of a message. */
static void reassign_go_on(struct channel_end *end, const struct next *next, struct evbuffer *copy)
{
	struct channel *channel = end->channel;

	reassign_leave(end);
	reassign_begin_anew(end, next, copy);
	cancels_left(channel, next->begin);
	sharing_give(channel, next->worker);
	channel_enter(channel, next->hop, next->number);
	if (channel->kind == CHANNEL_CALL)
		channel_owe(end, OWED_CREDIT);
	if (!channel->opener.hop)
		orphans_add(channel);
	if (channel->opener.in == IN_FIN)
		channel_owe(end, OWED_FIN);
}

int channel_go_on(struct channel *channel, struct hop *hop, struct worker *worker, bool sure)
{
	struct channel_end *end = &channel->acceptor;
	struct next next = {.hop = hop, .worker = worker};
	struct evbuffer *copy;
	bool doubt;
	int r;

	if (!reassign_may_go_on(end))
		return -EOPNOTSUPP;
	r = channel_table_number(&hop->channels, &next.number);
	if (r < 0)
		return r;
	next.begin = sure ? channel->sharing->from : take_all_away(end);
	doubt = next.begin > end->consumed;
	next.told = channel->opener.hop && (doubt || channel->kind == CHANNEL_CALL);
	if (next.told && !can_tell(channel))
		return -EOPNOTSUPP;
	next.reassigned = (struct frame_reassigned){.consumed = end->consumed, .unsure = next.begin};
	r = channel_table_put(&hop->channels, next.number, end);
	if (r < 0)
		return r;
	copy = sharing_take_copy(channel->sharing, next.begin);
	r = copy ? 0 : -ENOMEM;
	if (r == 0 && next.told)
		r = reassign_tell(channel, &next.reassigned);
	if (r < 0) {
		channel_table_remove(&hop->channels, next.number);
		if (copy)
			evbuffer_free(copy);
		channel->sharing->broken = true;
		return r;
	}
	reassign_go_on(end, &next, copy);
	return 0;
}

bool channel_give_back(struct channel *channel, bool sure)
{
	struct channel_end *end = &channel->acceptor;

	if (channel->kind != CHANNEL_CALL || !reassign_is_whole(end) || !channel->sharing->worker ||
	    !channel->sharing->worker->drains)
		return false;
	channel_lost(end, ENOENT, sure ? channel->sharing->from : take_all_away(end));
	return true;
}

bool channel_passes_on(struct channel_end *end, const struct frame_reset *reset)
{
	const struct switchboard *board = end->channel->board;

	if (end->is_opener || !board->pass_on || reset->error != ENOENT || reset->flags & RESET_REFUSED ||
	    !end->channel->sharing || reset->consumed > end->sent - end->channel->sharing->base_to)
		return false;
	channel_taken(end, end->channel->sharing->base_to + reset->consumed);
	return reassign_may_go_on(end) && board->pass_on(board->pass_on_userdata, end->channel);
}
