/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/mux.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/deadline.h"
#include "libclient/helpers.h"
#include "libclient/message.h"
#include "libclient/transport.h"
#include "wire/frame_ring.h"
#include "wire/advice.h"
#include "wire/ut.h"

#define STREAM_ROOM_MIN 4096u /* a shorter piece of more isn't worth a frame */
/* bytes of a stream, after which the daemon learns at once what was taken, and not only when all that has
 * come was: the sender is kept going. Measured: 64 KiB at a time 1.1 times as fast. */
#define STREAM_TAKEN_MUCH 65536u
#define STREAM_FRAME	  (FRAME_HEADER_SIZE + 8) /* room that a frame takes, besides its payload */
/* writes, after which the daemon is let go on. Else many that come at once go from one process to the next
 * all together, and of the CPUs of two domains one is idle at any time. Measured: redis with 50 clients 1.3
 * times as fast, by xenmsg forward on two CPUs. */
#define BURST	    16u
#define CREDIT_STEP 8192u /* as for a stream with a socket (daemon/local/stream.c) */

#define BUDGET	 256u /* frames in one call, so that the program's other work gets its turn */
#define FEED_MIN (STREAM_ROOM_MIN + STREAM_FRAME) /* with so much room no write finds none */
#define PAUSE_MS 100 /* before the next try, where a daemon takes no more programs now, or isn't there yet */

/* ---- a stream ----------------------------------------------------------------------------- */

static inline struct channel_table *mux_table(struct mux *mux, uint32_t number)
{
	return number & 1 ? &mux->theirs : &mux->mine;
}

/* Makes a stream with this number. Returns 0, -ENOMEM, or as channel_table_put(). */
static int stream_new(struct mux *mux, uint32_t number, struct xenmsg_stream **made)
{
	struct xenmsg_stream *stream = calloc(1, sizeof(*stream));
	int r;

	if (!stream)
		return -ENOMEM;
	r = channel_table_put(mux_table(mux, number), number, stream);
	if (r < 0) {
		free(stream);
		return r;
	}
	mux->streams++;
	stream->mux = mux;
	stream->number = number;
	stream->expires = -1;
	*made = stream;
	return 0;
}

/* Keeps it while functions work on it, whatever callbacks do. */
static inline void stream_hold(struct xenmsg_stream *stream)
{
	stream->calls++;
}

/* Ends that, and frees what nobody uses any more: the stream, and a session that was closed before. */
static void stream_release(struct xenmsg_stream *stream)
{
	struct mux *mux = stream->mux;

	stream->calls--;
	if (stream->state != GONE || !stream->closed || stream->calls)
		return;
	mux->streams--;
	fifo_free(&stream->queue);
	free(stream->address);
	free(stream);
	if (mux->abandoned && mux->streams == 0)
		free(mux);
}

void xenmsg_stream_set_callbacks(struct xenmsg_stream *stream,
				 const struct xenmsg_stream_callbacks *callbacks, void *userdata)
{
	size_t size = callbacks->size < sizeof(*callbacks) ? callbacks->size : sizeof(*callbacks);

	memset(&stream->callbacks, 0, sizeof(stream->callbacks));
	memcpy(&stream->callbacks, callbacks, size);
	stream->userdata = userdata;
	stream->ended_told = stream->broken_told = false;
}

static void be_full(struct xenmsg_stream *stream)
{
	if (stream->hungry)
		DL_DELETE(stream->mux->hungry, stream);
	stream->hungry = false;
}

static void be_hungry(struct xenmsg_stream *stream)
{
	if (!stream->hungry)
		DL_APPEND(stream->mux->hungry, stream);
	stream->hungry = true;
}

/* The channel has ended: the daemon may use its number again. */
static void stream_forget(struct xenmsg_stream *stream)
{
	be_full(stream);
	stream->state = GONE;
	channel_table_remove(mux_table(stream->mux, stream->number), stream->number);
}

static void forget_if_done(struct xenmsg_stream *stream)
{
	if (stream->state == OPEN && stream->fin_sent && stream->fin_came &&
	    stream->consumed == stream->sent && stream->told == stream->total)
		stream_forget(stream);
}

/* Notes an error of the session, if `r` is one, for mux_run(): a writer expects no callback. */
static void mux_check(struct mux *mux, int r)
{
	if (r >= 0 || mux->failed || mux->abandoned || !transport_is_here(&mux->transport))
		return;
	mux->failed = r;
	transport_poke(&mux->transport);
}

/* Lets the daemon see what was written, unless mux_run() will do that. */
static void mux_push(struct mux *mux)
{
	if (mux->abandoned || mux->processing || !transport_is_here(&mux->transport))
		return;
	transport_publish(&mux->transport);
	/* The socket is written to there, and what has to wait goes on there. */
	if (mux->transport.pump || mux->state == MUX_RESTS ||
	    (!mux->armed && (mux->hungry || fifo_size(&mux->transport.backlog) > 0)))
		transport_poke(&mux->transport);
}

/* Tells the daemon how far the stream was taken: the last of it as well once that is its end. */
static void mux_tell_taken(struct xenmsg_stream *stream)
{
	uint64_t step = stream->fin_came ? 1 : CREDIT_STEP;

	if (stream->state != OPEN || stream->taken - stream->told < step)
		return;
	if (stream->taken / STREAM_TAKEN_MUCH != stream->told / STREAM_TAKEN_MUCH)
		stream->mux->has_taken_much = true;
	stream->told = stream->taken;
	mux_check(stream->mux, transport_credit(&stream->mux->transport, stream->number, stream->taken, 0));
}

/* Returns whether the program may be told something of it now, and counts that. */
static bool may_tell(struct xenmsg_stream *stream)
{
	struct mux *mux = stream->mux;

	if (stream->closed || *mux->stop || !transport_is_here(&mux->transport))
		return false;
	mux->told++;
	return true;
}

/* Gives these bytes to the program. Returns how many it has taken. */
static size_t stream_give(struct xenmsg_stream *stream, const void *data, size_t size)
{
	size_t taken = 0;

	if (!stream->stopped && stream->callbacks.data && may_tell(stream)) {
		stream->is_given = true;
		taken = stream->callbacks.data(stream->userdata, stream, data, size);
		stream->is_given = false;
	}
	if (stream->closed || stream->stopped)
		taken = size;
	if (taken > size)
		taken = size;
	stream->taken += taken;
	return taken;
}

static const char *why_broken(struct xenmsg_stream *stream)
{
	struct mux *mux = stream->mux;

	if (stream->why)
		return stream->why;
	if (stream->address && address_words(stream->error, mux->transport.domid, stream->address,
					     mux->explanation, sizeof(mux->explanation)))
		return mux->explanation;
	return stream->error == -ECONNRESET ? advice_of_break(0, true) : xenmsg_error_text(stream->error);
}

/* Tells the program of the end, behind all that came before. */
static void tell_end(struct xenmsg_stream *stream)
{
	struct mux *mux = stream->mux;

	if (stream->broken_told || fifo_size(&stream->queue) > 0)
		return;
	if (stream->error && may_tell(stream)) {
		stream->broken_told = true;
		if (stream->callbacks.broken) {
			mux->why = why_broken(stream);
			stream->callbacks.broken(stream->userdata, stream, stream->error);
			mux->why = NULL;
		}
	} else if (!stream->error && !stream->ended_told && stream->fin_came &&
		   stream->taken == stream->total && may_tell(stream)) {
		stream->ended_told = true;
		if (stream->callbacks.ended)
			stream->callbacks.ended(stream->userdata, stream);
	}
}

/* What there is to tell of, once the program has taken something or the other side has ended. The caller
 * holds the stream. */
static void stream_settle(struct xenmsg_stream *stream)
{
	mux_tell_taken(stream);
	tell_end(stream);
	forget_if_done(stream);
}

/* Gives out what was left, and then tells of the end. The caller holds the stream. */
static void catch_up(struct xenmsg_stream *stream)
{
	size_t size = fifo_size(&stream->queue);

	if (size > 0)
		fifo_drop(&stream->queue, stream_give(stream, fifo_front(&stream->queue), size));
	if (fifo_size(&stream->queue) == 0)
		fifo_free(&stream->queue); /* there may be thousands of streams */
	stream_settle(stream);
}

void stream_resume(struct xenmsg_stream *stream)
{
	if (stream->is_given || !transport_is_here(&stream->mux->transport))
		return;
	stream_hold(stream);
	catch_up(stream);
	mux_push(stream->mux);
	stream_release(stream);
}

/* Breaks one for whose bytes the program has no memory, and no other. */
static void stream_lack(struct xenmsg_stream *stream)
{
	struct mux *mux = stream->mux;

	be_full(stream);
	stream->state = RESET_SENT;
	stream->error = -ENOMEM;
	if (!stream->closed && !stream->is_cut) {
		stream->is_cut = true;
		DL_APPEND(mux->cut, stream);
	}
	mux_check(mux, transport_reset(&mux->transport, stream->number, ECONNRESET, 0, stream->taken));
}

/* Takes the payload of the DATA frame at the front of the ring. */
static int mux_on_data(struct mux *mux, struct xenmsg_stream *stream, uint32_t length)
{
	struct iovec pieces[2];
	int count = ring_reader_peek(&mux->transport.in, FRAME_HEADER_SIZE, length, pieces);

	if (stream->state != OPEN || stream->fin_came)
		return stream->state == RESET_SENT ? 0 : -EPROTO;
	for (int i = 0; i < count; i++) {
		const uint8_t *at = pieces[i].iov_base;
		size_t left = pieces[i].iov_len, taken = 0;

		if (left > 0 && fifo_size(&stream->queue) == 0)
			taken = stream_give(stream, at, left);
		if (!transport_is_here(&mux->transport)) /* `data` has made this process */
			return -ECHILD;
		if (taken < left && fifo_size(&stream->queue) > KEPT_MAX)
			return -EPROTO;
		if (taken < left && fifo_append(&stream->queue, at + taken, left - taken) < 0) {
			stream_lack(stream);
			return 0;
		}
	}
	mux_tell_taken(stream);
	return 0;
}

static void tell_room(struct xenmsg_stream *stream)
{
	if (!stream->wants_room || !may_tell(stream))
		return;
	stream->wants_room = false;
	be_full(stream);
	if (stream->callbacks.room)
		stream->callbacks.room(stream->userdata, stream);
}

static int stream_on_opened(struct xenmsg_stream *stream, const uint8_t *payload, uint32_t length)
{
	struct frame_opened opened;

	if (frame_opened_decode(payload, length, &opened) < 0)
		return -EPROTO;
	if (stream->state != OPENING)
		return stream->state == RESET_SENT ? 0 : -EPROTO;
	stream->state = OPEN;
	stream->limit = opened.limit;
	free(stream->address);
	stream->address = NULL;
	if (may_tell(stream) && stream->callbacks.opened)
		stream->callbacks.opened(stream->userdata, stream);
	return 0;
}

static void send_end(struct xenmsg_stream *stream)
{
	stream->fin_sent = true;
	be_full(stream);
	mux_check(stream->mux,
		  transport_offset(&stream->mux->transport, FRAME_FIN, stream->number, stream->sent));
}

/* Nobody wants what we send: that is the end of our direction. A writer that waits for room learns of it
 * by writing. */
static void stop_writing(struct xenmsg_stream *stream)
{
	if (stream->state != OPEN || stream->fin_sent)
		return;
	send_end(stream);
	tell_room(stream);
}

static int mux_on_credit(struct xenmsg_stream *stream, const uint8_t *payload, uint32_t length)
{
	struct frame_credit credit;

	if (frame_credit_decode(payload, length, &credit) < 0 || credit.consumed > stream->sent)
		return -EPROTO;
	if (credit.consumed > stream->consumed)
		stream->consumed = credit.consumed;
	if (credit.limit > stream->limit) {
		stream->limit = credit.limit;
		tell_room(stream);
	}
	if (credit.flags & CREDIT_STOP)
		stop_writing(stream);
	forget_if_done(stream);
	return 0;
}

static int mux_on_fin(struct xenmsg_stream *stream, const uint8_t *payload, uint32_t length)
{
	if (frame_u64_decode(payload, length, &stream->total) < 0)
		return -EPROTO;
	if (stream->state == RESET_SENT)
		return 0;
	if (stream->state != OPEN || stream->fin_came ||
	    stream->total != stream->taken + fifo_size(&stream->queue))
		return -EPROTO;
	stream->fin_came = true;
	stream_settle(stream);
	return 0;
}

/* It is broken. A program that waits for room before it takes what came learns that there will be no
 * other. */
static void mux_tell_broken(struct xenmsg_stream *stream)
{
	if (fifo_size(&stream->queue) > 0)
		tell_room(stream);
	tell_end(stream);
}

/* The RESET answers ours, or is answered. */
static int stream_on_reset(struct xenmsg_stream *stream, const uint8_t *payload, uint32_t length)
{
	struct mux *mux = stream->mux;
	struct frame_reset reset;
	int r = 0;

	if (frame_reset_decode(payload, length, &reset) < 0)
		return -EPROTO;
	if (stream->state != RESET_SENT)
		r = transport_reset(&mux->transport, stream->number, reset.error, 0, stream->taken);
	if (!stream->error)
		stream->why = reset.error == ENOMEM ? WORDS_OF_PEERS_LACK
			      : reset.error == ECONNRESET
				      ? advice_of_break(reset.flags, stream->taken > 0 || stream->number & 1)
				      : words_of_reset(reset.flags);
	/* Of one that has carried something, what broke it on the way says little. */
	if (!stream->error)
		stream->error = stream->state == OPENING || reset.error == EACCES
					? frame_error(reset.error, -EPROTO)
					: -ECONNRESET;
	stream_forget(stream);
	mux_tell_broken(stream);
	return r;
}

/* Takes a frame about it; the payload of DATA is at the front of the ring, that of others in mux->scratch.
 * Returns 0 or a negative errno, which ends the session. May release the stream. */
static int stream_take(struct xenmsg_stream *stream, const struct frame_header *header)
{
	struct mux *mux = stream->mux;
	int r;

	stream_hold(stream);
	switch (header->type) {
	case FRAME_DATA:
		r = mux_on_data(mux, stream, header->length);
		break;
	case FRAME_OPENED:
		r = stream_on_opened(stream, mux->scratch, header->length);
		break;
	case FRAME_CREDIT:
		r = mux_on_credit(stream, mux->scratch, header->length);
		break;
	case FRAME_FIN:
		r = mux_on_fin(stream, mux->scratch, header->length);
		break;
	case FRAME_RESET:
		r = stream_on_reset(stream, mux->scratch, header->length);
		break;
	default:
		r = -EPROTO;
	}
	stream_release(stream);
	return r;
}

/* Ends its channel, and tells nobody. */
static void stream_drop(struct xenmsg_stream *stream)
{
	stream_hold(stream);
	stream_forget(stream);
	stream_release(stream);
}

static void leave_cut(struct xenmsg_stream *stream)
{
	if (stream->is_cut)
		DL_DELETE(stream->mux->cut, stream);
	stream->is_cut = false;
}

/* Ends its channel with the session, because of `error`. If the program is to be told, it is in mux->cut
 * then, and stream_tell_cut() tells. */
static void stream_cut(struct xenmsg_stream *stream, int error)
{
	stream_hold(stream);
	if (!stream->error)
		stream->error = error;
	stream_forget(stream);
	if (!stream->closed && !stream->is_cut) {
		stream->is_cut = true;
		DL_APPEND(stream->mux->cut, stream);
	}
	stream_release(stream);
}

static void stream_tell_cut(struct xenmsg_stream *stream)
{
	stream_hold(stream);
	leave_cut(stream);
	mux_tell_broken(stream);
	stream_release(stream);
}

/* Breaks one that is OPENING, as its time is up: likewise. */
static void stream_expire(struct xenmsg_stream *stream)
{
	struct mux *mux = stream->mux;

	stream->state = RESET_SENT;
	stream->error = -ETIMEDOUT;
	stream->is_cut = true;
	DL_APPEND(mux->cut, stream);
	mux_check(mux, transport_reset(&mux->transport, stream->number, ECONNRESET, 0, 0));
}

/* Writes one frame. Returns the size of its payload, or 0: there is no room for one. */
static uint32_t mux_write_frame(struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct frame_header header = {.type = FRAME_DATA, .channel = stream->number};
	struct transport *transport = &stream->mux->transport;
	uint64_t credit = stream->limit - stream->sent;
	bool blocked;
	int space;

	if (credit == 0)
		return 0; /* CREDIT tells of room */
	space = transport_flush_backlog(transport, &blocked);
	if (space == 0)
		space = blocked ? 0
				: transport_space(transport, size < STREAM_ROOM_MIN
								     ? (uint32_t)size + STREAM_FRAME
								     : STREAM_ROOM_MIN);
	mux_check(stream->mux, space);
	if (space < 0)
		return 0;
	if (space < (int)(STREAM_FRAME + (size < STREAM_ROOM_MIN ? size : STREAM_ROOM_MIN - STREAM_FRAME))) {
		be_hungry(stream);
		return 0;
	}
	if (size > credit)
		size = credit;
	if (size > (uint32_t)space - STREAM_FRAME)
		size = (uint32_t)space - STREAM_FRAME;
	header.length = size < FRAME_PAYLOAD_MAX ? (uint32_t)size : FRAME_PAYLOAD_MAX;
	frame_put(&transport->out, &header, data);
	stream->sent += header.length;
	return header.length;
}

ssize_t xenmsg_stream_write(struct xenmsg_stream *stream, const void *data, size_t size)
{
	size_t written = 0;
	uint32_t length = 1;

	if (!transport_is_here(&stream->mux->transport) && !stream->mux->abandoned)
		return -ECHILD;
	if (stream->fin_sent || (stream->state != OPEN && stream->state != OPENING))
		return -EPIPE;
	if (stream->state == OPENING)
		return 0;
	while (length && written < size && !stream->mux->failed) {
		length = mux_write_frame(stream, (const uint8_t *)data + written, size - written);
		written += length;
	}
	stream->wants_room |= written < size;
	mux_push(stream->mux);
	if (++stream->mux->burst % BURST == 0)
		sched_yield();
	return (ssize_t)written;
}

/* Tells that there is room in the ring for what it waits for. */
static void stream_feed(struct xenmsg_stream *stream)
{
	stream_hold(stream);
	be_full(stream);
	tell_room(stream);
	stream_release(stream);
}

void xenmsg_stream_end(struct xenmsg_stream *stream)
{
	if (stream->state != OPEN || stream->fin_sent || !transport_is_here(&stream->mux->transport))
		return;
	stream->wants_room = false;
	send_end(stream);
	forget_if_done(stream);
	mux_push(stream->mux);
}

uint64_t xenmsg_stream_under_way(const struct xenmsg_stream *stream)
{
	return stream->sent - stream->consumed;
}

/* Takes all that has come, unseen, and all that will. */
static void drop_input(struct xenmsg_stream *stream)
{
	if (!stream->is_given) { /* else `data`, which has closed or stopped it, takes all of it */
		stream->taken += fifo_size(&stream->queue);
		fifo_free(&stream->queue);
	}
	stream->told = stream->taken;
	mux_check(stream->mux,
		  transport_credit(&stream->mux->transport, stream->number, stream->taken, CREDIT_STOP));
	forget_if_done(stream);
}

void xenmsg_stream_stop(struct xenmsg_stream *stream)
{
	if (stream->state != OPEN || stream->stopped || !transport_is_here(&stream->mux->transport))
		return;
	stream->stopped = true;
	stream_hold(stream);
	drop_input(stream);
	if (!stream->is_given)
		tell_end(stream);
	mux_push(stream->mux);
	stream_release(stream);
}

static void leave_stream(struct xenmsg_stream *stream, uint32_t flags)
{
	struct mux *mux = stream->mux;

	stream_hold(stream);
	stream->closed = true;
	be_full(stream);
	leave_cut(stream);
	if (stream->state == OPEN && stream->fin_sent && transport_is_here(&mux->transport)) {
		if (!stream->fin_came || stream->taken != stream->total)
			drop_input(stream);
	} else if (stream->state == OPEN || stream->state == OPENING) {
		stream->state = RESET_SENT;
		mux_check(mux,
			  transport_reset(&mux->transport, stream->number, ECONNRESET, flags, stream->taken));
	}
	mux_push(mux);
	stream_release(stream);
}

void xenmsg_stream_close(struct xenmsg_stream *stream)
{
	leave_stream(stream, 0);
}

void xenmsg_stream_break(struct xenmsg_stream *stream, int error)
{
	uint32_t cause = error < 0 && error > -4096 ? (uint32_t)-error : 0;

	leave_stream(stream, cause << RESET_CAUSE_SHIFT);
}

/* ---- what comes --------------------------------------------------------------------------- */

static int mux_on_open(struct mux *mux, const struct frame_header *header)
{
	const struct mux_listening *listening;
	struct frame_open open;
	struct xenmsg_stream *stream;
	struct xenmsg_peer peer;
	int r = frame_open_decode(mux->scratch, header->length, &open);

	if (r < 0 || !(header->channel & 1) || header->channel >= CHANNEL_NUMBERS ||
	    open.kind != CHANNEL_STREAM)
		return -EPROTO;
	frame_open_split(&open);
	r = peer_set(&peer, &open.identity, open.name, open.domain_name, open.host);
	peer.serial = open.serial;
	if (r == 0)
		r = stream_new(mux, header->channel, &stream);
	if (r < 0)
		return r;
	stream->state = OPEN;
	stream_hold(stream);
	/* To one that was removed meanwhile nobody takes it. */
	listening = mux_find(mux, open.name.data, open.name.size);
	if (listening) {
		mux->told++;
		listening->incoming(listening->userdata, stream, &peer);
	}
	if (!stream->callbacks.size && !stream->closed)
		xenmsg_stream_close(stream);
	stream_release(stream);
	return 0;
}

static int mux_on_goodbye(struct mux *mux, uint32_t length)
{
	struct frame_goodbye goodbye;

	if (frame_goodbye_decode(mux->scratch, length, &goodbye) < 0)
		return -EPROTO;
	transport_keep_reason(&mux->transport, goodbye.text);
	return -ENOTCONN;
}

static int mux_dispatch(struct mux *mux, const struct frame_header *header)
{
	struct xenmsg_stream *stream;

	switch (header->type) {
	case FRAME_OPEN:
		return mux_on_open(mux, header);
	case FRAME_SELF: /* of whose number nothing here depends */
		return 0;
	case FRAME_REPLY:
		return requests_frame(&mux->requests, header, mux->scratch);
	case FRAME_GOODBYE:
		return mux_on_goodbye(mux, header->length);
	case FRAME_DATA:
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_FIN:
	case FRAME_RESET:
		stream = channel_table_find(mux_table(mux, header->channel), header->channel);
		if (stream)
			return stream_take(stream, header);
		return header->type == FRAME_DATA
			       ? -EPROTO
			       : transport_take_late(&mux->transport, header, mux->scratch);
	default:
		return header->type >= FRAME_OPTIONAL ? 0 : -EPROTO;
	}
}

static void tell_what_was_taken(struct mux *mux)
{
	mux->has_taken_much = false;
	transport_release_in(&mux->transport);
	transport_publish(&mux->transport);
}

/* Returns whether there may be more, or a negative errno; -ENOMEM: what is left stays, and is read a moment
 * later. */
static int mux_read_in(struct mux *mux, unsigned budget)
{
	struct ring_reader *in = &mux->transport.in;
	struct frame_header header;
	uint32_t ready = 0;
	unsigned count;
	int r = 1;

	if (transport_lacks(&mux->transport))
		return -ENOMEM;
	for (count = 0; count < budget && r > 0 && !*mux->stop; count++) {
		r = frame_next(in, &header, &ready);
		if (r <= 0)
			break;
		if (header.type != FRAME_DATA)
			ring_reader_copy(in, FRAME_HEADER_SIZE, mux->scratch, header.length);
		r = mux_dispatch(mux, &header);
		if (!transport_is_here(&mux->transport)) /* a callback has made this process */
			return -ECHILD;
		if (r == -ENOMEM)
			break;
		if (r < 0 || mux->failed)
			return r < 0 ? r : mux->failed;
		ring_reader_consume(in, frame_size(header.length));
		if (mux->has_taken_much)
			tell_what_was_taken(mux);
		r = 1;
	}
	if (r == -ENOMEM)
		transport_lack(&mux->transport);
	else if (r < 0 || (r == 0 && ready > 0))
		return -EPROTO; /* a writer publishes whole frames only */
	if (count)
		transport_release_in(&mux->transport);
	return r;
}

/* So many frames lie in the ring at most: a daemon that goes may yet add more. */
static unsigned whole_ring(const struct mux *mux)
{
	return mux->transport.in.ring.size / FRAME_HEADER_SIZE;
}

/* ---- what goes ---------------------------------------------------------------------------- */

/* Returns how much room is worth being woken for. */
static uint32_t room_wanted(const struct mux *mux)
{
	uint32_t part = mux->transport.out.ring.size / 4;

	return part > FEED_MIN ? part : FEED_MIN;
}

/* Tells those who wait for room in the ring, as long as there is some; not more of them in one call, since
 * the daemon may make room as fast as they use it. */
static void mux_feed(struct mux *mux)
{
	struct xenmsg_stream *stream;

	for (unsigned count = 0; count < BUDGET && !*mux->stop && (stream = mux->hungry) &&
				 transport_space(&mux->transport, room_wanted(mux)) >= (int)FEED_MIN;
	     count++)
		stream_feed(stream);
}

/* Asks to be notified, also of room for those who wait for it. Returns 1 if there is something already. */
static int arm(struct mux *mux)
{
	bool blocked;
	int r = transport_flush_backlog(&mux->transport, &blocked);

	if (r < 0)
		return r;
	transport_publish(&mux->transport);
	mux->armed = blocked || mux->hungry;
	return transport_arm(&mux->transport, false, mux->armed ? room_wanted(mux) : 0);
}

static int mux_process(struct mux *mux)
{
	int r, more;

	mux->armed = false;
	mux->burst = 0;
	if (mux->transport.error)
		return mux->transport.error;
	if (mux->transport.closed) {
		r = mux_read_in(mux, whole_ring(mux));
		return r < 0 && r != -ENOMEM ? r : -ENOTCONN;
	}
	more = mux_read_in(mux, BUDGET);
	if (more == -ENOMEM)
		more = 0;
	if (more < 0)
		return more;
	mux_feed(mux);
	r = arm(mux);
	if (r > 0 || (r == 0 && more))
		transport_poke(&mux->transport);
	return r < 0 ? r : mux->failed;
}

/* ---- how the session begins and ends ------------------------------------------------------ */

/* Ends all streams because of `error`. */
static void mux_cut(struct mux *mux, int error)
{
	for (unsigned parity = 0; parity < 2; parity++) {
		struct channel_table *table = mux_table(mux, parity);
		struct xenmsg_stream *stream;
		uint32_t number = 0;

		while ((stream = channel_table_next(table, &number)))
			stream_cut(stream, error);
	}
	mux->opening_due = -1;
}

/* Lets go of what was shared with a daemon, and of what was to be sent to it. */
static void mux_leave(struct mux *mux)
{
	transport_leave(&mux->transport);
	mux->failed = 0;
	mux->state = MUX_IDLE;
}

/* Somebody waits for a session. */
static void mux_want(struct mux *mux)
{
	if (mux->state != MUX_IDLE)
		return;
	mux->state = MUX_RESTS;
	mux->due = now_ms();
}

/* Asks the next daemon for the endpoints. What can't be asked for, since memory is short, is lost. */
static void ask_again(struct mux *mux)
{
	struct mux_listening *listening, *next;
	uint8_t payload[FRAME_SMALL_MAX];

	requests_leave(&mux->requests, mux->lost);
	DL_FOREACH_SAFE(mux->listening, listening, next) {
		const struct frame_bind bind = {.kinds = listening->kinds,
						.endpoint = frame_text_of(listening->endpoint)};
		int r = requests_ask_again(&mux->requests, FRAME_BIND, payload,
					   frame_bind_encode(&bind, payload), mux->loss, &listening->asked);

		if (r < 0 && r != -ENOENT) {
			DL_DELETE(mux->listening, listening);
			free(listening);
		}
	}
	if (mux->requests.pending)
		mux_want(mux);
}

/* The daemon is lost. Gives out what came before; then all that is wanted from now on is for the next one. */
static void lose(struct mux *mux)
{
	if (mux->state == MUX_UP && !mux->failed && !mux->transport.error)
		mux_read_in(mux, whole_ring(mux));
	if (*mux->stop || !transport_is_here(&mux->transport))
		return;
	mux_cut(mux, -ECONNRESET);
	mux_leave(mux);
	if (mux->loss)
		ask_again(mux);
	mux->lost = 0;
}

void mux_lose(struct mux *mux, int error, uint32_t loss)
{
	mux->lost = error;
	mux->loss = loss;
	if (mux->state ==
	    MUX_DIALS) /* nobody reads its socket any more, which would go on to wake the program */
		transport_hang_up(&mux->transport);
	if (!loss)
		requests_fail(&mux->requests, error);
}

/* There is no session: ends what waits for one. */
static void mux_refuse(struct mux *mux, int error)
{
	mux_cut(mux, error);
	mux_leave(mux);
	requests_fail(&mux->requests, error);
	transport_poke(&mux->transport);
}

static void mux_try_later(struct mux *mux)
{
	transport_hang_up(&mux->transport);
	mux->state = MUX_RESTS;
	mux->due = deadline_in(PAUSE_MS);
}

/* Dialling has ended like this. */
static void mux_settle(struct mux *mux, int r, bool outlives)
{
	bool is_gone = r == -ECONNREFUSED || r == -ENOENT || r == -ENOTCONN;

	if (r == 0 && mux->transport.is_mux)
		mux->state = MUX_UP;
	else if (r == -ETIMEDOUT || (outlives && is_gone))
		mux_try_later(mux);
	else
		mux_refuse(mux, r < 0 ? r : -EPROTONOSUPPORT);
	if (mux->state == MUX_UP)
		transport_poke(&mux->transport);
}

static void go_on_dialling(struct mux *mux, bool outlives)
{
	int r = 0;

	if (mux->state == MUX_RESTS && deadline_left(mux->due) == 0) {
		r = transport_dial(&mux->transport, HELLO_MUX, 0);
		mux->state = MUX_DIALS;
		mux->due = deadline_in(HANDSHAKE_MS);
		if (r < 0)
			mux_settle(mux, r, outlives);
	}
	if (mux->state == MUX_DIALS) {
		r = transport_finish(&mux->transport, 0);
		if (r != -ETIMEDOUT)
			mux_settle(mux, r, outlives);
		else if (deadline_left(mux->due) == 0 && outlives)
			mux_try_later(mux); /* nobody has refused anything */
		else if (deadline_left(mux->due) == 0)
			mux_refuse(mux, r);
	}
}

static void expire(struct mux *mux)
{
	struct xenmsg_stream *stream;
	uint32_t number = 0;
	int64_t now;

	if (mux->opening_due < 0 || (now = now_ms()) < mux->opening_due)
		return;
	mux->opening_due = -1;
	while ((stream = channel_table_next(&mux->mine, &number))) {
		if (stream->state != OPENING || stream->expires < 0)
			continue;
		if (stream->expires <= now)
			stream_expire(stream);
		else if (mux->opening_due < 0 || stream->expires < mux->opening_due)
			mux->opening_due = stream->expires;
	}
	transport_poke(&mux->transport);
}

void mux_look(struct mux *mux, bool has_daemon, bool outlives)
{
	if (has_daemon && !mux->lost)
		go_on_dialling(mux, outlives);
	requests_look(&mux->requests);
	expire(mux);
}

int mux_run(struct mux *mux)
{
	int r = 0;

	mux->processing = true;
	transport_hold_memory(&mux->transport, true);
	if (mux->lost) {
		lose(mux);
	} else if (mux->state == MUX_UP) {
		r = mux_process(mux);
		if (r < 0)
			mux->failed = r;
	}
	while (mux->cut && !*mux->stop && transport_is_here(&mux->transport))
		stream_tell_cut(mux->cut);
	mux->processing = false;
	transport_hold_memory(&mux->transport, false);
	return r;
}

void mux_remind(struct mux *mux)
{
	if (mux->lost || mux->cut || mux->failed || mux->transport.closed || mux->transport.error ||
	    (mux->state == MUX_UP && arm(mux) != 0))
		transport_poke(&mux->transport);
}

void mux_set_alarm(struct mux *mux, bool has_daemon)
{
	if (has_daemon && !mux->lost && (mux->state == MUX_RESTS || mux->state == MUX_DIALS))
		transport_set_alarm(&mux->transport, mux->due);
	if (mux->requests.due >= 0)
		transport_set_alarm(&mux->transport, mux->requests.due);
	if (mux->opening_due >= 0)
		transport_set_alarm(&mux->transport, mux->opening_due);
	if (mux->transport.lacks_until)
		transport_set_alarm(&mux->transport, mux->transport.lacks_until);
}

/* ---- life --------------------------------------------------------------------------------- */

struct mux *mux_new(struct transport *first, const bool *stop, struct xenmsg *conn)
{
	struct mux *mux = calloc(1, sizeof(*mux));

	if (!mux)
		return NULL;
	mux->scratch = malloc(FRAME_PAYLOAD_MAX);
	if (!mux->scratch) {
		free(mux);
		return NULL;
	}
	mux->stop = stop;
	mux->conn = conn;
	mux->opening_due = -1;
	channel_table_init(&mux->mine, 0, CHANNEL_NUMBERS / 2);
	channel_table_init(&mux->theirs, 1, CHANNEL_NUMBERS / 2);
	transport_join(&mux->transport, first);
	requests_init(&mux->requests, &mux->transport, NULL);
	return mux;
}

void mux_close(struct mux *mux)
{
	struct mux_listening *listening, *next;

	if (!mux)
		return;
	mux->conn = NULL;
	for (unsigned parity = 0; parity < 2; parity++) {
		struct channel_table *table = mux_table(mux, parity);
		struct xenmsg_stream *stream;
		uint32_t number = 0;

		while ((stream = channel_table_next(table, &number)))
			stream_drop(stream);
		channel_table_free(table);
	}
	requests_free(&mux->requests);
	DL_FOREACH_SAFE(mux->listening, listening, next)
		free(listening);
	if (mux->state != MUX_UP || mux->failed || mux->lost)
		mux->transport.closed = true;
	transport_close(&mux->transport);
	free(mux->scratch);
	mux->abandoned = true; /* from now on the last stream frees it */
	if (mux->streams == 0)
		free(mux);
}

/* ---- what the program wants --------------------------------------------------------------- */

struct mux_listening *mux_find(const struct mux *mux, const char *endpoint, size_t size)
{
	struct mux_listening *listening;

	DL_FOREACH(mux->listening, listening)
		if (strlen(listening->endpoint) == size && memcmp(listening->endpoint, endpoint, size) == 0)
			return listening;
	return NULL;
}

static struct mux_listening *find_asked(const struct mux *mux, uint32_t asked)
{
	struct mux_listening *listening;

	DL_SEARCH_SCALAR(mux->listening, listening, asked, asked);
	return listening;
}

const char *mux_find_asked(const struct mux *mux, uint32_t asked)
{
	const struct mux_listening *listening = find_asked(mux, asked);

	return listening ? listening->endpoint : NULL;
}

int mux_listen(struct mux *mux, const char *endpoint, uint32_t kinds, xenmsg_stream_incoming incoming,
	       void *userdata, int timeout_ms, xenmsg_done done, void *done_userdata,
	       struct request **request)
{
	const struct frame_bind bind = {.kinds = kinds, .endpoint = frame_text_of(endpoint)};
	struct mux_listening *listening = calloc(1, sizeof(*listening));
	uint8_t payload[FRAME_SMALL_MAX];
	int r;

	if (!listening)
		return -ENOMEM;
	r = request_begin(&mux->requests, FRAME_BIND, payload, frame_bind_encode(&bind, payload), timeout_ms,
			  done, done_userdata, request);
	if (r < 0) {
		free(listening);
		return r;
	}
	memcpy(listening->endpoint, endpoint, strlen(endpoint));
	listening->kinds = kinds;
	listening->asked = (*request)->number;
	listening->incoming = incoming;
	listening->userdata = userdata;
	DL_APPEND(mux->listening, listening);
	mux_want(mux);
	mux_push(mux);
	return 0;
}

static int tell_gone(struct mux *mux, const char *endpoint, uint8_t type)
{
	int r = requests_tell(&mux->requests, type, endpoint, strlen(endpoint));

	mux_push(mux);
	return r;
}

int mux_unlisten(struct mux *mux, const char *endpoint, bool drains)
{
	struct mux_listening *listening = mux_find(mux, endpoint, strlen(endpoint));

	DL_DELETE(mux->listening, listening);
	free(listening);
	return tell_gone(mux, endpoint, drains ? FRAME_DRAIN : FRAME_UNBIND);
}

void mux_undo(struct mux *mux, const struct request *request, int dead)
{
	struct mux_listening *listening = find_asked(mux, request->number);

	if (!listening)
		return;
	DL_DELETE(mux->listening, listening);
	if ((!request->finished || request->granted) && !dead)
		mux_check(mux, tell_gone(mux, listening->endpoint, FRAME_UNBIND));
	free(listening);
}

int mux_connect(struct mux *mux, const char *address, int timeout_ms,
		const struct xenmsg_stream_callbacks *callbacks, void *userdata, struct xenmsg_stream **made)
{
	const struct frame_open open = {.kind = CHANNEL_STREAM, .name = frame_text_of(address)};
	struct xenmsg_stream *stream;
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t number;
	int r = channel_table_number(&mux->mine, &number);

	if (r == 0)
		r = stream_new(mux, number, &stream);
	if (r < 0)
		return r;
	xenmsg_stream_set_callbacks(stream, callbacks, userdata);
	stream->address = strdup(address);
	r = transport_control(&mux->transport, FRAME_OPEN, number, payload,
			      frame_open_encode(&open, payload));
	if (r < 0) {
		stream->closed = true;
		stream_drop(stream);
		mux_check(mux, r);
		return r == -EPROTO ? -ENOTCONN : r;
	}
	if (timeout_ms >= 0) {
		stream->expires = deadline_in(timeout_ms);
		if (mux->opening_due < 0 || stream->expires < mux->opening_due)
			mux->opening_due = stream->expires;
	}
	*made = stream;
	mux_want(mux);
	mux_push(mux);
	return 0;
}
