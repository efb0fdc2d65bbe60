/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "daemon/switch/cancel.h"
#include "daemon/switch/channel_internal.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/orphans.h"
#include "daemon/switch/sharing.h"
#include "daemon/switch/steps.h"
#include "base/invariant.h"
#include "base/quota.h"
#include "wire/probes.h"
#include "wire/ut.h"

/* Of the number that its program knows the channel by. */
static uint16_t channel_own_serial(const struct channel *channel)
{
	/* A stream with a socket of its own is the only channel of its hop. */
	return channel->kind == CHANNEL_STREAM ? (uint16_t)(0x8000u | (channel->stream / 2 & 0x7fffu))
					       : (uint16_t)(channel->opener.number / 2 + 1);
}

int channel_new(struct hop *hop, uint32_t number, enum channel_kind kind,
		const struct frame_identity *identity, struct channel **out)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	int r;

	if (!channel)
		return -ENOMEM;
	channel->board = hop->board;
	channel->kind = kind;
	channel->identity = *identity;
	channel->max_message = hop->board->max_message;
	if (kind == CHANNEL_STREAM) {
		channel->stream = hop->board->last_stream + 1;
		hop->board->last_stream += 2;
	}
	channel->opener.channel = channel->acceptor.channel = channel;
	channel->opener.is_opener = true;
	channel->opener.out = OUT_OPEN;
	channel->opener.granted = CHANNEL_INITIAL_LIMIT;
	channel->opener.window = channel->acceptor.window = CHANNEL_INITIAL_LIMIT;
	channel->opener.number = number;
	r = channel_table_put(&hop->channels, number, &channel->opener);
	if (r < 0) {
		free(channel);
		return r;
	}
	channel->opener.hop = hop;
	channel->serial = channel_own_serial(channel);
	charge_init(&channel->charge, hop->account);
	channel_enlist(channel);
	*out = channel;
	return 0;
}

bool channel_has_told_sender(const struct channel *channel)
{
	const struct channel_end *end = &channel->acceptor;

	return end->hop && end->out != OUT_NEW && !channel_is_reset(end);
}

enum channel_rules channel_rules(const struct channel *channel)
{
	const struct hop *hop = channel->acceptor.hop;

	if (!hop || hop_is_retired(hop) || (hop_is_inner(hop) && !hop->traits->is_topic))
		return RULES_NONE;
	if (hop->traits->is_daemon || (hop->traits->is_waiting_room && channel_is_relayed(channel)))
		return RULES_ON_THE_WAY;
	return RULES_HERE;
}

void channel_tell_source(struct channel *channel)
{
	channel_owe(&channel->acceptor, OWED_SENDER);
}

/* Whether there is a program at this end, which names who is at the other one in each message. */
static bool names_the_other(const struct channel_end *end)
{
	return end->channel->kind != CHANNEL_STREAM && end->hop && !channel_is_reset(end) &&
	       !end->hop->traits->is_daemon && !hop_is_inner(end->hop);
}

/* Whether another host was told by OPEN how the sender's domain is called. */
static bool tells_a_host(const struct channel *channel)
{
	const struct hop *hop = channel->acceptor.hop;

	return channel_to_host(channel) && hop->traits->is_daemon && !hop_is_retired(hop);
}

void channel_tell_sender(struct channel *channel)
{
	if (channel_has_told_sender(channel) &&
	    (names_the_other(&channel->acceptor) || tells_a_host(channel)))
		channel_owe(&channel->acceptor, OWED_SENDER);
}

/* Whether a daemon there was told by OPENED who answers, and its program names that. */
static bool passes_the_other_on(const struct channel_end *end)
{
	return end->channel->kind != CHANNEL_STREAM && channel_is_relayed(end->channel) && end->hop &&
	       !channel_is_reset(end) && end->hop->traits->is_daemon && !hop_is_retired(end->hop);
}

void channel_tell_acceptor(struct channel *channel)
{
	struct channel_end *end = &channel->opener;

	if (channel->knows_acceptor && channel_is_accepted(channel) && !(end->owed & OWED_OPENED) &&
	    (names_the_other(end) || passes_the_other_on(end)))
		channel_owe(end, OWED_SENDER);
}

/* The most that may wait here: both windows, or the one that is used. */
static uint64_t windows_of(const struct channel *channel)
{
	return channel->kind == CHANNEL_MESSAGE ? CHANNEL_INITIAL_LIMIT : 2 * CHANNEL_INITIAL_LIMIT;
}

bool channel_exceed(struct channel *channel)
{
	if (!charge_take_extra(&channel->charge))
		return false;
	charge_exceed(&channel->charge, QUOTA_CHANNELS, 1);
	charge_exceed(&channel->charge, QUOTA_BYTES, windows_of(channel));
	return true;
}

/* Charges the opener, and names the endpoint. */
static int channel_prepare(struct channel *channel, const char *endpoint)
{
	const uint64_t cost[QUOTA_RESOURCES] = {[QUOTA_CHANNELS] = 1, [QUOTA_BYTES] = windows_of(channel)};
	int r = channel->charge.held[QUOTA_CHANNELS] ? 0 : charge_all(&channel->charge, cost);

	if (r < 0)
		return r;
	channel->endpoint = strdup(endpoint);
	return channel->endpoint ? 0 : -ENOMEM;
}

void channel_charge_to(struct channel *channel, struct account *account)
{
	charge_end(&channel->charge);
	charge_init(&channel->charge, account);
}

/* Gives a channel that waits another endpoint. */
int channel_rename(struct channel *channel, const char *endpoint)
{
	char *copy = strcmp(channel->endpoint, endpoint) ? strdup(endpoint) : channel->endpoint;

	if (!copy)
		return -ENOMEM;
	if (copy != channel->endpoint)
		free(channel->endpoint);
	channel->endpoint = copy;
	return 0;
}

/* Takes the end from the hop where it waits. Nothing was sent there. */
static void leave_room(struct channel_end *end)
{
	struct hop *room = end->hop;

	if (end->in_urgent)
		DL_DELETE2(room->urgent, end, urgent_prev, urgent_next);
	if (end->in_backlog)
		DL_DELETE2(*hop_backlog(room, end), end, backlog_prev, backlog_next);
	end->in_urgent = end->in_backlog = false;
	channel_table_remove(&room->channels, end->number);
}

void channel_enter(struct channel *channel, struct hop *hop, uint32_t number)
{
	struct channel_end *end = &channel->acceptor;

	end->number = number;
	end->hop = hop;
	end->limit = CHANNEL_INITIAL_LIMIT;
	PROBE(5, xenmsgd, open, channel->endpoint, channel->identity.domid, channel->kind,
	      channel->identity.pid, channel->serial);
	steps_note(end, STEP_OPENED, 0);
	channel_mark_urgent(end);
	if (channel_has_backlog(end))
		channel_mark_backlog(end);
}

int channel_accept(struct channel *channel, struct hop *hop, const char *endpoint)
{
	struct channel_end *end = &channel->acceptor;
	uint32_t number;
	int r = channel_table_number(&hop->channels, &number);

	if (r == 0 && !channel_is_waiting(channel) && !orphans_allow(channel, hop))
		r = -ENOBUFS;
	if (r == 0)
		r = channel_is_waiting(channel) ? channel_rename(channel, endpoint)
						: channel_prepare(channel, endpoint);
	if (r == 0)
		r = channel_table_put(&hop->channels, number, end);
	if (r < 0)
		return r;
	if (channel_is_waiting(channel))
		leave_room(end);
	channel_enter(channel, hop, number);
	if (hop->traits->is_waiting_room)
		return 0;
	/* Only the daemon of the opening program knows how much may come back. */
	if (channel->kind != CHANNEL_MESSAGE && !channel->opener.hop->traits->is_daemon)
		channel_owe(end, OWED_CREDIT);
	if (!hop->traits->is_daemon) {
		channel->accepted_by_topic = hop->traits->is_topic;
		channel->knows_acceptor = hop->who.is_known;
		channel->acceptor_identity = hop->who.identity;
		channel_owe(&channel->opener, OWED_OPENED);
	}
	return 0;
}

void channel_refuse(struct channel *channel, int error)
{
	channel_reset_now(&channel->opener, error, 0, 0);
}

bool channel_drop_if_refused(struct channel *channel, struct frame_reset *reset)
{
	struct channel_end *end = &channel->opener;

	if (end->out != OUT_RESETTING || channel->acceptor.hop || channel->charge.held[QUOTA_CHANNELS])
		return false;
	*reset = (struct frame_reset){.error = end->reset_error, .flags = end->reset_by};
	channel_end_gone(end);
	return true;
}

/* Notes what the program has released, and up to where its input is to be read until that counts. */
static void note_released(struct channel_end *acceptor)
{
	struct hop *hop = acceptor->hop;

	if (hop_find_released(hop, acceptor, &acceptor->released, &acceptor->settled_at) < 0) {
		acceptor->leaves_rest = false; /* the session is over, and nobody knows */
		return;
	}
	acceptor->is_unsettled = true;
	DL_APPEND2(hop->unsettled, acceptor, unsettled_prev, unsettled_next);
	hop_due(hop);
}

/* A program that hasn't been sent the OPEN has had nothing, though what another one had may be in doubt. */
static bool has_unread_releases(const struct channel_end *acceptor)
{
	return acceptor->hop && acceptor->out != OUT_NEW && acceptor->hop->traits->release_means_taken &&
	       hop_is_readable(acceptor->hop) && !channel_is_reset(acceptor) &&
	       acceptor->consumed != acceptor->sent;
}

/* Returns up to where the stream may have been taken: what lies in a program's ring may be at this moment;
 * over a link, more may have been than we know of. */
static uint64_t unsure_of(const struct channel_end *acceptor)
{
	return acceptor->leaves_rest ? acceptor->consumed : acceptor->sent;
}

bool channel_is_away(const struct channel *channel)
{
	const struct hop *from = channel->opener.hop, *to = channel->acceptor.hop;

	return (from && hop_is_away(from)) || (to && hop_is_away(to));
}

bool channel_can_be_judged(const struct channel *channel)
{
	return channel->verdict != CHANNEL_AWAITS_NUMBER || !channel_is_away(channel);
}

int channel_note_verdict(struct channel *channel, int r, bool is_renumbered)
{
	bool may_wait = is_renumbered || channel->verdict != CHANNEL_DECIDED || channel_is_away(channel);

	channel->verdict = r != -ENODATA || !may_wait			? CHANNEL_DECIDED
			   : channel_is_away(channel) && !is_renumbered ? CHANNEL_AWAITS_NUMBER
									: CHANNEL_AWAITS_NAME;
	return channel->verdict == CHANNEL_DECIDED ? r : 0;
}

void channel_forbid(struct channel *channel, int error)
{
	struct channel_end *acceptor = &channel->acceptor;

	if (has_unread_releases(acceptor))
		note_released(acceptor);
	channel_reset_now(acceptor, error, channel->opener.consumed, channel->opener.consumed);
	if (!acceptor->is_unsettled)
		channel_tell_opener(acceptor, error, unsure_of(acceptor));
	/* At once if the acceptor has never heard of it: a waiting room sends nothing. */
	channel_check_ended(acceptor);
}

void channel_unbound(struct channel *channel)
{
	struct channel_end *acceptor = &channel->acceptor;
	const struct hop *hop = acceptor->hop;

	/* Whose releases can't be read any more may have taken more. */
	acceptor->leaves_rest = hop && channel->kind != CHANNEL_STREAM &&
				(hop_is_readable(hop) || !hop->traits->release_means_taken);
	channel_forbid(channel, ENOENT);
}

void channel_settle(struct channel_end *end)
{
	channel_taken(end, end->released);
	channel_tell_opener(end, (int)end->reset_error, unsure_of(end));
}

bool channel_is_waiting(const struct channel *channel)
{
	return channel->acceptor.hop && channel->acceptor.out == OUT_NEW &&
	       !hop_has_rings(channel->acceptor.hop);
}

bool channel_is_abandoned(const struct channel *channel)
{
	return channel->kind != CHANNEL_MESSAGE &&
	       (!channel->opener.hop || hop_is_retired(channel->opener.hop) ||
		channel_is_reset(&channel->opener));
}

uint64_t channel_stream_number(const struct channel_end *end)
{
	return end->channel->stream + (end->is_opener ? 0 : 1);
}

bool channel_is_accepted(const struct channel *channel)
{
	const struct hop *hop = channel->acceptor.hop;

	return channel->opened || (hop && !hop->traits->is_daemon && !hop->traits->is_waiting_room);
}

int channel_opened(struct channel_end *end, const struct frame_opened *opened)
{
	if (channel_is_reset(end))
		return 0;
	/* A second OPENED would be forwarded to the opener, where it would be our violation. */
	if (end->is_opener || !end->hop->traits->is_daemon || end->channel->opened)
		return -EPROTO;
	end->channel->opened = true;
	if (opened->limit > end->limit)
		end->limit = opened->limit;
	if (opened->max_message < end->channel->max_message)
		end->channel->max_message = opened->max_message;
	end->channel->knows_acceptor = opened->has_identity;
	end->channel->accepted_by_topic = opened->is_topic;
	end->channel->acceptor_identity = opened->identity;
	if (end->hop->callbacks->opened)
		end->hop->callbacks->opened(end->hop->owner, end->channel);
	channel_owe(&end->channel->opener, OWED_OPENED);
	return 0;
}

/* --- output ----------------------------------------------------------------------------------- */

/* Returns how far the sender at `end` may go: a program's window, or what the peer's daemon allows, as far as
 * we are willing to keep it. */
static uint64_t channel_grant(struct channel_end *end)
{
	struct channel_end *out = channel_other(end);
	uint64_t limit = out->consumed + out->window;

	if (out->hop && out->hop->traits->is_daemon && limit > out->limit)
		limit = out->limit;
	if (limit > end->granted)
		end->granted = limit;
	return end->granted;
}

static void make_open(struct channel_end *end, struct channel_frame *frame)
{
	const struct channel *channel = end->channel;
	struct frame_open open = {
		.kind = (uint8_t)channel->kind,
		.flags = channel->administers && end->hop->traits->is_daemon ? OPEN_ADMINISTERS : 0,
		/* Offsets are others to a program that has got a shared endpoint's channel later. */
		.serial = channel_base_to(end) ? 0 : channel->serial,
		.identity = channel->identity,
		.name = frame_text_of(channel->endpoint),
		.host = frame_text_of(channel_from_host(channel)),
	};

	/* Another daemon of this host finds our name itself, and wouldn't believe it from us. */
	if (!end->hop->traits->is_daemon || channel_is_remote(channel))
		open.domain_name = frame_text_of(channel_from_domain(channel));
	frame->header.type = FRAME_OPEN;
	frame->header.length = frame_open_encode(&open, frame->payload);
	channel_move(end, OPEN_SENT);
}

static void make_reset(struct channel_end *end, struct channel_frame *frame)
{
	struct frame_reset reset = {
		.error = end->reset_error,
		.flags = (end->is_refused ? RESET_REFUSED : 0) | end->reset_by,
		.consumed = end->reset_consumed,
		.unsure = end->reset_unsure,
	};

	if (end->out != OUT_RESETTING && !end->is_opener) {
		reset.consumed = channel_other(end)->consumed;
		reset.unsure = channel_other(end)->sent;
	}
	if (!end->is_opener) {
		reset.consumed = channel_seen_from(end, reset.consumed);
		reset.unsure = channel_seen_from(end, reset.unsure);
	}
	frame->header.type = FRAME_RESET;
	frame->header.length = frame_reset_encode(&reset, frame->payload);
	channel_move(end, RESET_SENT);
	channel_release_bytes(end->channel);
}

static void make_sender(struct channel_end *end, struct channel_frame *frame)
{
	const struct channel *channel = end->channel;
	struct frame_sender sender = {channel->identity.domid, frame_text_of(channel_from_domain(channel))};

	if (end->is_opener)
		sender = (struct frame_sender){.domid = channel->acceptor_identity.domid};
	if (end->hop->traits->is_daemon && !channel_is_remote(channel))
		sender.domain_name = frame_text_of(NULL); /* another daemon of this host finds it itself */
	frame->header.type = FRAME_SENDER;
	frame->header.length = frame_sender_encode(&sender, frame->payload);
}

static void make_opened(struct channel_end *end, struct channel_frame *frame)
{
	const struct channel *channel = end->channel;
	struct frame_opened opened = {
		.limit = channel_grant(end),
		.max_message = channel->max_message,
		.has_identity = channel->knows_acceptor,
		.is_topic = channel->accepted_by_topic,
		.identity = channel->acceptor_identity,
	};

	frame->header.type = FRAME_OPENED;
	frame->header.length = frame_opened_encode(&opened, frame->payload);
}

static void make_reassigned(struct channel_end *end, struct channel_frame *frame)
{
	struct channel_reassigned *reassigned = end->channel->reassigned;

	frame->header.type = FRAME_REASSIGNED;
	frame->header.length = frame_reassigned_encode(&reassigned->frame, frame->payload);
	LL_DELETE(end->channel->reassigned, reassigned);
	free(reassigned);
	channel_owe_reassigned(end->channel);
	if (channel_has_backlog(end))
		hop_mark(end->hop, MARK_DIRTY); /* the answers behind it */
}

static void make_credit(struct channel_end *end, struct channel_frame *frame)
{
	struct frame_credit credit = {.consumed = channel_other(end)->consumed,
				      .limit = channel_grant(end),
				      .flags = channel_other(end)->is_stopped ? CREDIT_STOP : 0};

	end->told_consumed = credit.consumed;
	credit.consumed = channel_seen_from(end, credit.consumed);
	credit.limit = channel_seen_from(end, credit.limit);
	frame->header.type = FRAME_CREDIT;
	frame->header.length = frame_credit_encode(&credit, frame->payload);
}

static void make_fin(struct channel_end *end, struct channel_frame *frame)
{
	frame->header.type = FRAME_FIN;
	frame->header.length = frame_u64_encode(end->sent - channel_base_to(end), frame->payload);
	channel_move(end, FIN_SENT);
}

/* Whether a RESET has to wait until the data before it were taken. A program drops what it hasn't taken then;
 * but the bytes of a stream it takes out of its ring in the order in which all comes. */
static bool waits_until_taken(const struct channel_end *end)
{
	const struct hop_traits *traits = end->hop->traits;
	bool in_order = end->channel->kind == CHANNEL_STREAM && traits->outlets == 1;

	return !traits->is_daemon && !in_order && end->consumed != end->sent;
}

/* Returns the owed frame to send next; 0: none is owed, or it has to wait. */
static unsigned next_owed(const struct channel_end *end)
{
	unsigned owed = end->owed;

	if (!owed)
		return 0;
	if (channel_has_backlog(end))
		owed &= OWED_SENDER | OWED_OPENED | OWED_REASSIGNED | OWED_CREDIT;
	if (end->is_opener && end->channel->reassigned)
		owed &= ~(unsigned)OWED_CREDIT;
	if (owed & OWED_RESET && waits_until_taken(end))
		owed &= ~(unsigned)OWED_RESET;
	return owed & -owed;
}

bool channel_next_control(struct channel_end *end, struct channel_frame *frame)
{
	unsigned owed;

	frame->header = (struct frame_header){.channel = end->number};
	if (end->out == OUT_NEW) {
		make_open(end, frame);
		return true;
	}
	if (end->out != OUT_RESET && end->channel->cancels && cancels_next_frame(end, frame))
		return true;
	if (end->out == OUT_RESETTING) {
		make_reset(end, frame);
		return true;
	}
	if (end->out == OUT_RESET)
		return false;
	if (end->channel->withdrawals && withdrawals_next_frame(end, frame))
		return true;
	owed = next_owed(end);
	end->owed &= (uint8_t)~owed;
	switch (owed) {
	case OWED_SENDER:
		make_sender(end, frame);
		break;
	case OWED_OPENED:
		make_opened(end, frame);
		break;
	case OWED_REASSIGNED:
		make_reassigned(end, frame);
		break;
	case OWED_CREDIT:
		make_credit(end, frame);
		break;
	case OWED_FIN:
		make_fin(end, frame);
		break;
	case OWED_RESET:
		make_reset(end, frame);
		break;
	}
	return owed != 0;
}

void channel_backlog_gone(struct channel_end *end)
{
	end->queued_messages = 0;
	if (end->owed & (OWED_FIN | OWED_RESET))
		channel_mark_urgent(end);
}

/* --- end of life ------------------------------------------------------------------------------ */

/* Returns who ends the channels of a hop that is gone, and why: RESET_BY, RESET_CAUSE. */
static uint32_t who_is_gone(const struct hop *hop)
{
	if (hop->traits->is_daemon)
		return RESET_BY_LOSS;
	if (hop->traits->is_inner || hop->traits->is_waiting_room)
		return 0;
	return hop->said_goodbye ? RESET_BY_PROGRAM | (uint32_t)hop->goodbye_cause << RESET_CAUSE_SHIFT
				 : RESET_BY_DEATH;
}

void channel_lost(struct channel_end *end, int error, uint64_t unsure)
{
	struct channel_end *out = channel_other(end);

	if (!channel_is_reset(out))
		out->reset_by = who_is_gone(end->hop);
	if (end->is_unsettled)
		channel_tell_opener(end, (int)end->reset_error, unsure);
	else if (!channel_is_reset(end) && out->hop) {
		if (out->is_opener)
			channel_reset_opener(out, error, end->consumed, unsure);
		else if (end->in != IN_FIN || end->channel->kind != CHANNEL_MESSAGE)
			channel_reset_acceptor(
				out, ECONNRESET); /* the sender of messages may leave when all are sent */
	}
	channel_end_gone(end);
}

bool channel_adds_up(const struct channel_end *out)
{
	const struct channel_end *in = channel_other((struct channel_end *)out);
	size_t queued = channel_queued(out);

	/* What waits is dropped in the channel's turn, what comes at once. */
	if (out->hop && hop_is_retired(out->hop))
		return out->sent + queued <= in->received;
	return out->sent <= in->received &&
	       (queued == in->received - out->sent || (!queued && (!out->hop || channel_is_reset(out))));
}

void channel_enlist(struct channel *channel)
{
	DL_PREPEND(channel->board->channels, channel);
}

static void unlist(struct channel *channel)
{
	struct switchboard *board = channel->board;

	if (!channel->prev) /* the image that it is of can't be taken */
		return;
	if (board->to_review == channel)
		board->to_review = channel->next;
	DL_DELETE(board->channels, channel);
}

#ifdef XENMSG_INVARIANTS
void switch_check(const struct switchboard *board)
{
	const struct channel *channel;

	DL_FOREACH(board->channels, channel) {
		const struct channel_end *ends[] = {&channel->opener, &channel->acceptor};

		INVARIANT(channel->opener.hop || channel->acceptor.hop || channel->ended,
			  "what has ended at both ends is freed in the next pass");
		for (unsigned i = 0; i < 2; i++) {
			const struct channel_end *end = ends[i];

			INVARIANT(channel_adds_up(end), "what waits was received, and wasn't sent out");
			INVARIANT(end->consumed <= end->sent, "what was taken was sent out");
			INVARIANT(!end->hop || channel_table_find(&end->hop->channels, end->number) == end,
				  "an end is found by its number");
		}
	}
}
#endif

void channel_free(struct channel *channel)
{
	unlist(channel);
	cancels_free(channel);
	withdrawals_free(channel);
	sharing_free(channel);
	channel_origin_free(channel);
	channel_drop_reassigned(channel);
	charge_end(&channel->charge);
	channel_tally_unref(channel->tally);
	free(channel->endpoint);
	free(channel->address);
	free(channel);
}

struct channel_tally *channel_tally_new(void)
{
	struct channel_tally *tally = calloc(1, sizeof(*tally));

	if (tally)
		tally->references = 1;
	return tally;
}

void channel_tally_unref(struct channel_tally *tally)
{
	if (tally && --tally->references == 0)
		free(tally);
}

void channel_count(struct channel *channel, struct channel_tally *tally)
{
	tally->references++;
	channel_tally_unref(channel->tally);
	channel->tally = tally;
}
