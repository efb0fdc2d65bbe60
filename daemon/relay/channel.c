/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <utlist.h>

#include "daemon/relay/cancel.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/relay/orphans.h"
#include "base/quota.h"
#include "wire/probes.h"

static void owe(struct channel_end *end, enum channel_owed frame)
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
		DL_DELETE2(end->hop->backlog, end, backlog_prev, backlog_next);
	end->in_backlog = false;
}

/* Gives back what the bytes of an orphan could take, once none of them is sent on any more, and what its cancellations
 * cost, which nobody waits for. */
static void release_bytes(struct channel *channel)
{
	if (channel->opener.hop || !channel_is_reset(&channel->acceptor))
		return;
	cancels_free(channel);
	charge_release(&channel->charge, QUOTA_BYTES, channel->charge.held[QUOTA_BYTES]);
}

/* Removes the end from its hop, where no frame about the channel is sent any more. When both ends are gone,
 * the channel is to be freed. */
static void end_gone(struct channel_end *end)
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
	} else if (channel->acceptor.hop) {
		orphans_add(channel);
		release_bytes(channel);
	}
	if (!channel_other(end)->hop && !channel->ended) {
		channel->ended = true;
		channel->ended_next = channel->relay->ended;
		channel->relay->ended = channel;
	}
}

/* --- states ----------------------------------------------------------------------------------- */

enum change {
	FIN_CAME,
	RESET_CAME,
	OPEN_SENT,
	FIN_SENT,
	RESET_DECIDED,
	RESET_SENT,
};

/* Changes the state by the table in channel.h. False: the change isn't possible in this state. */
static bool move(struct channel_end *end, enum change change)
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

static void reset_now(struct channel_end *end, int error, uint64_t consumed, uint64_t unsure)
{
	if (!end->hop || !move(end, RESET_DECIDED))
		return;
	PROBE3(xenmsgd, error, end->channel->endpoint, end->channel->identity.domid, error);
	drop_queue(end);
	end->reset_error = (uint32_t)error;
	end->reset_consumed = consumed;
	end->reset_unsure = unsure;
	channel_mark_urgent(end);
	release_bytes(end->channel);
}

static void reset_behind_data(struct channel_end *end, int error)
{
	if (!end->hop || channel_is_reset(end) || (end->owed & OWED_RESET))
		return;
	end->reset_error = (uint32_t)error;
	owe(end, OWED_RESET);
	if (end->hop->callbacks->tell_taken)
		end->hop->callbacks->tell_taken(end->hop->owner);
}

/* Ends the opener's side, since the acceptor's has ended. The answers that a server sent before go to its
 * caller first. */
static void reset_opener(struct channel_end *opener, int error, uint64_t consumed, uint64_t unsure)
{
	if (opener->channel->kind != CHANNEL_CALL || !channel_has_backlog(opener) ||
	    (opener->owed & OWED_RESET)) {
		reset_now(opener, error, consumed, unsure);
		return;
	}
	reset_behind_data(opener, error);
	opener->reset_consumed = consumed;
	opener->reset_unsure = unsure;
}

int channel_new(struct hop *hop, uint32_t number, enum channel_kind kind,
		const struct frame_identity *identity, struct channel **out)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	int r;

	if (!channel)
		return -ENOMEM;
	channel->relay = hop->relay;
	channel->kind = kind;
	channel->identity = *identity;
	channel->max_message = hop->relay->max_message;
	if (kind == CHANNEL_STREAM) {
		channel->stream = hop->relay->last_stream + 1;
		hop->relay->last_stream += 2;
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
	charge_init(&channel->charge, hop->account);
	*out = channel;
	return 0;
}

void channel_set_domain_name(struct channel *channel, const char *name)
{
	free(channel->domain_name);
	channel->domain_name = name[0] ? strdup(name) : NULL; /* without memory the name is unknown */
}

int channel_set_host(struct channel *channel, uint32_t number, const char *name)
{
	channel->host = strdup(name);
	if (!channel->host)
		return -ENOMEM;
	channel->is_far = true;
	channel->far_domid = channel->identity.domid;
	channel->identity.domid = number;
	return 0;
}

bool channel_has_told_sender(const struct channel *channel)
{
	const struct channel_end *end = &channel->acceptor;

	return end->hop && end->out != OUT_NEW && !channel_is_reset(end);
}

void channel_tell_source(struct channel *channel)
{
	owe(&channel->acceptor, OWED_SOURCE);
}

/* Charges the opener, who pays, and names the endpoint. */
static int prepare(struct channel *channel, const char *endpoint)
{
	/* The most that may wait here: both windows, or the one that is used. */
	uint64_t windows =
		channel->kind == CHANNEL_MESSAGE ? CHANNEL_INITIAL_LIMIT : 2 * CHANNEL_INITIAL_LIMIT;
	int r = charge_all(&channel->charge,
			   (uint64_t[QUOTA_RESOURCES]){[QUOTA_CHANNELS] = 1, [QUOTA_BYTES] = windows});

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
		DL_DELETE2(room->backlog, end, backlog_prev, backlog_next);
	end->in_urgent = end->in_backlog = false;
	channel_table_remove(&room->channels, end->number);
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
						: prepare(channel, endpoint);
	if (r == 0)
		r = channel_table_put(&hop->channels, number, end);
	if (r < 0)
		return r;
	if (channel_is_waiting(channel))
		leave_room(end);
	end->number = number;
	end->hop = hop;
	end->limit = CHANNEL_INITIAL_LIMIT;
	PROBE3(xenmsgd, open, channel->endpoint, channel->identity.domid, channel->kind);
	channel_mark_urgent(end);
	if (channel_has_backlog(end))
		channel_mark_backlog(end);
	if (hop->traits->is_room)
		return 0;
	/* Only the daemon of the opening program knows how much may come back. */
	if (channel->kind != CHANNEL_MESSAGE && !channel->opener.hop->traits->is_daemon)
		owe(end, OWED_CREDIT);
	if (!hop->traits->is_daemon)
		owe(&channel->opener, OWED_OPENED);
	return 0;
}

void channel_refuse(struct channel *channel, int error)
{
	reset_now(&channel->opener, error, 0, 0);
}

bool channel_drop_if_refused(struct channel *channel, int *error)
{
	struct channel_end *end = &channel->opener;

	if (end->out != OUT_RESETTING || channel->acceptor.hop || channel->charge.held[QUOTA_CHANNELS])
		return false;
	*error = (int)end->reset_error;
	end_gone(end);
	return true;
}

/* Ends the opener's side, the acceptor's having been forbidden. */
static void tell_opener(struct channel_end *acceptor, int error, uint64_t unsure)
{
	if (acceptor->is_unsettled)
		DL_DELETE2(acceptor->hop->unsettled, acceptor, unsettled_prev, unsettled_next);
	acceptor->is_unsettled = false;
	reset_opener(&acceptor->channel->opener, error, acceptor->consumed, unsure);
}

/* Notes what the program has released, and up to where its input is to be read until that counts. */
static void note_released(struct channel_end *acceptor)
{
	struct hop *hop = acceptor->hop;

	if (hop_find_released(hop, acceptor, &acceptor->released, &acceptor->settled_at) < 0)
		return; /* the session is over */
	acceptor->is_unsettled = true;
	DL_APPEND2(hop->unsettled, acceptor, unsettled_prev, unsettled_next);
	hop_due(hop);
}

static bool has_unread_releases(const struct channel_end *acceptor)
{
	return acceptor->hop && acceptor->hop->traits->release_means_taken &&
	       hop_is_readable(acceptor->hop) && !channel_is_reset(acceptor) &&
	       acceptor->consumed != acceptor->sent;
}

void channel_forbid(struct channel *channel, int error)
{
	struct channel_end *acceptor = &channel->acceptor;

	if (has_unread_releases(acceptor))
		note_released(acceptor);
	reset_now(acceptor, error, channel->opener.consumed, channel->opener.consumed);
	/* What lies in a program's ring may be taken at this moment; over a link, more may have been than we
	 * know of. */
	if (!acceptor->is_unsettled)
		tell_opener(acceptor, error, acceptor->sent);
	/* At once if the acceptor has never heard of it: a waiting room sends nothing. */
	channel_check_ended(acceptor);
}

void channel_settle(struct channel_end *end)
{
	channel_taken(end, end->released);
	tell_opener(end, (int)end->reset_error, end->sent);
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

	return channel->opened || (hop && !hop->traits->is_daemon && !hop->traits->is_room);
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
	owe(&end->channel->opener, OWED_OPENED);
	return 0;
}

/* --- frames about the channel ----------------------------------------------------------------- */

/* Returns how large the window may become. What comes over a link doesn't wait in its ring, so what is beyond the
 * next ring is copied twice more, into private memory and out of it, unless that ring is a program's own, which is
 * as large as a link's. Measured: with windows of 1 MiB a relayed stream of large messages went at half the speed
 * through rings of 64 KiB, and a byte stream over a link of 1 MiB at three quarters of its speed over one of 64 KiB,
 * since the ring to its program's socket has 128 KiB. */
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

void channel_taken(struct channel_end *end, uint64_t offset)
{
	struct channel_end *source = channel_other(end);

	if (offset <= end->consumed)
		return;
	if (end->channel->cancels && !end->is_opener)
		cancels_taken(end->channel, offset);
	/* The sender had filled half of its window before the first byte was taken: a larger window keeps it
	 * going. */
	if (source->hop && end->window < window_max(end) &&
	    source->received - end->consumed >= end->window / 2 &&
	    charge_fits(&end->channel->charge, QUOTA_BYTES, end->window)) {
		charge_add(&end->channel->charge, QUOTA_BYTES, end->window);
		end->window *= 2;
	}
	end->consumed = offset;
	if (!end->is_opener)
		PROBE3(xenmsgd, deliver, end->channel->endpoint, end->channel->identity.domid, offset);
	owe(source, OWED_CREDIT);
	if ((end->owed & OWED_RESET) || (end->in == IN_FIN && end->out == OUT_FIN))
		channel_mark_urgent(end);
}

int channel_credit(struct channel_end *end, const struct frame_credit *credit)
{
	if (channel_is_reset(end) || end->hop->traits->release_means_taken)
		return 0;
	if (credit->consumed > end->sent)
		return -EPROTO;
	if (end->hop->traits->is_daemon && credit->limit > end->limit) {
		end->limit = credit->limit;
		owe(channel_other(end), OWED_CREDIT);
	}
	channel_taken(end, credit->consumed);
	channel_check_ended(end);
	return 0;
}

int channel_fin(struct channel_end *end, uint64_t total)
{
	struct channel_end *out = channel_other(end);

	if (channel_is_reset(end))
		return 0;
	if (total != end->received || !move(end, FIN_CAME))
		return -EPROTO;
	owe(out, OWED_FIN);
	channel_check_ended(end);
	return 0;
}

int channel_reset(struct channel_end *end, const struct frame_reset *reset)
{
	struct channel_end *out = channel_other(end);
	int error = reset->error > 0 && reset->error < 4096 ? (int)reset->error : EPROTO;
	uint64_t unsure;

	if (!move(end, RESET_CAME))
		return -EPROTO;
	if (channel_is_reset(end) && !end->is_unsettled) {
		/* It answers our RESET, or ours, still to be sent, answers it. */
		channel_check_ended(end);
		return 0;
	}
	if (end->is_unsettled && hop_has_read(end->hop, end->settled_at))
		channel_taken(end, end->released);
	if (reset->consumed <= end->sent)
		channel_taken(end, reset->consumed);
	unsure = reset->unsure < end->consumed ? end->consumed : reset->unsure;
	if (unsure > end->sent)
		unsure = end->sent;
	if (end->is_unsettled) {
		tell_opener(end, (int)end->reset_error, unsure);
		channel_check_ended(end);
		return 0;
	}
	/* What the opener sent goes on to the acceptor before the RESET does; what the acceptor sent is
	 * dropped where it waits. */
	reset_now(end, error, out->consumed, end->is_opener ? end->received : out->sent);
	if (out->is_opener) {
		if (!channel_is_reset(out))
			out->is_refused =
				(reset->flags & RESET_REFUSED) && out->channel->kind == CHANNEL_MESSAGE;
		reset_opener(out, error, end->consumed, unsure);
	} else {
		reset_behind_data(out, error);
	}
	return 0;
}

/* --- output ----------------------------------------------------------------------------------- */

/* Returns how far the sender at `end` may go: a program's window, or what the peer's daemon allows, as far as
 * we are willing to keep it. */
static uint64_t grant(struct channel_end *end)
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
		.identity = channel_sender(channel),
		.name = frame_text_of(channel->endpoint),
		.host = frame_text_of(channel->host),
	};

	/* Another daemon of this host finds our name itself, and wouldn't believe it from us. */
	if (!end->hop->traits->is_daemon || channel->is_far)
		open.domain_name = frame_text_of(channel->domain_name);
	frame->header.type = FRAME_OPEN;
	frame->header.length = frame_open_encode(&open, frame->payload);
	move(end, OPEN_SENT);
}

static void make_reset(struct channel_end *end, struct channel_frame *frame)
{
	struct frame_reset reset = {
		.error = end->reset_error,
		.flags = end->is_refused ? RESET_REFUSED : 0,
		.consumed = end->reset_consumed,
		.unsure = end->reset_unsure,
	};

	if (end->out != OUT_RESETTING && !end->is_opener) {
		reset.consumed = channel_other(end)->consumed;
		reset.unsure = channel_other(end)->sent;
	}
	frame->header.type = FRAME_RESET;
	frame->header.length = frame_reset_encode(&reset, frame->payload);
	move(end, RESET_SENT);
	release_bytes(end->channel);
}

static void make_source(struct channel_end *end, struct channel_frame *frame)
{
	frame->header.type = FRAME_SOURCE;
	frame->header.length = frame_u32_encode(channel_sender(end->channel).domid, frame->payload);
}

static void make_opened(struct channel_end *end, struct channel_frame *frame)
{
	struct frame_opened opened = {.limit = grant(end), .max_message = end->channel->max_message};

	frame->header.type = FRAME_OPENED;
	frame->header.length = frame_opened_encode(&opened, frame->payload);
}

static void make_credit(struct channel_end *end, struct channel_frame *frame)
{
	struct frame_credit credit = {.consumed = channel_other(end)->consumed, .limit = grant(end)};

	end->told_consumed = credit.consumed;
	frame->header.type = FRAME_CREDIT;
	frame->header.length = frame_credit_encode(&credit, frame->payload);
}

static void make_fin(struct channel_end *end, struct channel_frame *frame)
{
	frame->header.type = FRAME_FIN;
	frame->header.length = frame_u64_encode(end->sent, frame->payload);
	move(end, FIN_SENT);
}

/* Whether a RESET has to wait until the data before it were taken. A program drops what it hasn't taken then; but the
 * bytes of a stream it takes out of its ring in the order in which all comes. */
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

	if (channel_has_backlog(end))
		owed &= OWED_SOURCE | OWED_OPENED | OWED_CREDIT;
	if (waits_until_taken(end))
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
	if (end->out != OUT_RESET && cancels_next_frame(end, frame))
		return true;
	if (end->out == OUT_RESETTING) {
		make_reset(end, frame);
		return true;
	}
	if (end->out == OUT_RESET)
		return false;
	owed = next_owed(end);
	end->owed &= (uint8_t)~owed;
	switch (owed) {
	case OWED_SOURCE:
		make_source(end, frame);
		break;
	case OWED_OPENED:
		make_opened(end, frame);
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

void channel_check_ended(struct channel_end *end)
{
	if (!end->hop)
		return;
	if (end->in == IN_RESET && end->out == OUT_RESET)
		end_gone(end);
	else if (end->in == IN_FIN && end->out == OUT_FIN && end->consumed == end->sent &&
		 end->told_consumed == end->received && !cancels_answer(end))
		end_gone(end);
}

void channel_lost(struct channel_end *end, int error, bool unsure)
{
	struct channel_end *out = channel_other(end);

	if (end->is_unsettled)
		tell_opener(end, (int)end->reset_error, unsure ? end->sent : end->consumed);
	else if (!channel_is_reset(end) && out->hop) {
		if (out->is_opener)
			reset_opener(out, error, end->consumed, unsure ? end->sent : end->consumed);
		else if (end->in != IN_FIN || end->channel->kind != CHANNEL_MESSAGE)
			reset_behind_data(
				out, ECONNRESET); /* the sender of messages may leave when all are sent */
	}
	end_gone(end);
}

void channel_free(struct channel *channel)
{
	cancels_free(channel);
	charge_end(&channel->charge);
	channel_tally_unref(channel->tally);
	free(channel->endpoint);
	free(channel->address);
	free(channel->domain_name);
	free(channel->host);
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
