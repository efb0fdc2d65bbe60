/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/mux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "libclient/deadline.h"
#include "libclient/transport.h"
#include "libclient/message.h"
#include "wire/frame_ring.h"

#define BUDGET	 256u /* frames in one call, so that the program's other work gets its turn */
#define FEED_MIN (STREAM_ROOM_MIN + STREAM_FRAME) /* with so much room no write finds none */
#define PAUSE_MS 100 /* before the next try, where a daemon takes no more programs now, or isn't there yet */

/* ---- what comes ------------------------------------------------------------------------------ */

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

static int on_goodbye(struct mux *mux, uint32_t length)
{
	struct frame_goodbye goodbye;

	if (frame_goodbye_decode(mux->scratch, length, &goodbye) < 0)
		return -EPROTO;
	transport_keep_reason(&mux->transport, goodbye.text);
	return -ENOTCONN;
}

static int dispatch(struct mux *mux, const struct frame_header *header)
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
		return on_goodbye(mux, header->length);
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

/* Returns whether there may be more, or a negative errno. */
static int read_in(struct mux *mux, unsigned budget)
{
	struct ring_reader *in = &mux->transport.in;
	struct frame_header header;
	uint32_t ready = 0;
	unsigned count;
	int r = 1;

	for (count = 0; count < budget && r > 0 && !*mux->stop; count++) {
		r = frame_next(in, &header, &ready);
		if (r <= 0)
			break;
		if (header.type != FRAME_DATA)
			ring_reader_copy(in, FRAME_HEADER_SIZE, mux->scratch, header.length);
		r = dispatch(mux, &header);
		if (!transport_is_here(&mux->transport)) /* a callback has made this process */
			return -ECHILD;
		if (r < 0 || mux->failed)
			return r < 0 ? r : mux->failed;
		ring_reader_consume(in, frame_size(header.length));
		if (mux->has_taken_much)
			tell_what_was_taken(mux);
		r = 1;
	}
	if (r < 0 || (r == 0 && ready > 0))
		return -EPROTO; /* a writer publishes whole frames only */
	if (count)
		transport_release_in(&mux->transport);
	return r;
}

/* ---- what goes ------------------------------------------------------------------------------- */

/* Returns how much room is worth being woken for. */
static uint32_t room_wanted(const struct mux *mux)
{
	uint32_t part = mux->transport.out.ring.size / 4;

	return part > FEED_MIN ? part : FEED_MIN;
}

/* Tells those who wait for room in the ring, as long as there is some; not more of them in one call, since
 * the daemon may make room as fast as they use it. */
static void feed(struct mux *mux)
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

static int process(struct mux *mux)
{
	int r, more;

	mux->armed = false;
	mux->burst = 0;
	if (mux->transport.error)
		return mux->transport.error;
	if (mux->transport.closed) {
		r = read_in(mux, UINT32_MAX);
		return r < 0 ? r : -ENOTCONN;
	}
	more = read_in(mux, BUDGET);
	if (more < 0)
		return more;
	feed(mux);
	r = arm(mux);
	if (r > 0 || (r == 0 && more))
		transport_poke(&mux->transport);
	return r < 0 ? r : mux->failed;
}

/* ---- how the session begins and ends --------------------------------------------------------- */

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
static void want(struct mux *mux)
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
					   frame_bind_encode(&bind, payload), mux->loss, true,
					   &listening->asked);

		if (r < 0 && r != -ENOENT) {
			DL_DELETE(mux->listening, listening);
			free(listening);
		}
	}
	if (mux->requests.pending)
		want(mux);
}

/* The daemon is lost. Gives out what came before; then all that is wanted from now on is for the next one. */
static void lose(struct mux *mux)
{
	if (mux->state == MUX_UP && !mux->failed && !mux->transport.error)
		read_in(mux, UINT32_MAX);
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

static void try_later(struct mux *mux)
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
		try_later(mux);
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
			try_later(mux); /* nobody has refused anything */
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
		r = process(mux);
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
}

/* ---- life ------------------------------------------------------------------------------------ */

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
	requests_init(&mux->requests, &mux->transport);
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

/* ---- what the program wants ------------------------------------------------------------------ */

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
	want(mux);
	mux_push(mux);
	return 0;
}

static int tell_unbind(struct mux *mux, const char *endpoint)
{
	int r = requests_tell(&mux->requests, FRAME_UNBIND, endpoint, strlen(endpoint));

	mux_push(mux);
	return r;
}

int mux_unlisten(struct mux *mux, const char *endpoint)
{
	struct mux_listening *listening = mux_find(mux, endpoint, strlen(endpoint));

	DL_DELETE(mux->listening, listening);
	free(listening);
	return tell_unbind(mux, endpoint);
}

void mux_undo(struct mux *mux, const struct request *request, int dead)
{
	struct mux_listening *listening = find_asked(mux, request->number);

	if (!listening)
		return;
	DL_DELETE(mux->listening, listening);
	if (!request->finished && !dead)
		mux_check(mux, tell_unbind(mux, listening->endpoint));
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
	want(mux);
	mux_push(mux);
	return 0;
}
