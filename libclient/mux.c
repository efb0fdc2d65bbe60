/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The session of xenmsg-mux.h. Its streams are in mux_stream.c. */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "libclient/deadline.h"
#include "libclient/handshake.h"
#include "libclient/op.h"
#include "libclient/incoming.h"
#include "libclient/mux_stream.h"
#include "wire/address.h"
#include "wire/frame_ring.h"

#define BUDGET	    256u /* frames in one call, so that the program's other work gets its turn */
#define FEED_MIN    (STREAM_ROOM_MIN + STREAM_FRAME) /* with so much room no write finds none */
#define PATIENCE_MS 30000			     /* for the daemon's answer to a request */

static struct xenmsg_stream *find(struct xenmsg_mux *mux, uint32_t number)
{
	return channel_table_find(mux_table(mux, number), number);
}

/* ---- what comes ------------------------------------------------------------------------------ */

/* Keeps the first error of the session. */
static int fail(struct xenmsg_mux *mux, int error)
{
	struct xenmsg_stream *stream;

	if (mux->dead)
		return mux->dead;
	mux->dead = error;
	mux->transport.closed = true;
	for (unsigned parity = 0; parity < 2; parity++) {
		struct channel_table *table = mux_table(mux, parity);
		uint32_t number = 0;

		while ((stream = channel_table_next(table, &number)))
			stream_break(stream);
	}
	transport_poke(&mux->transport);
	return error;
}

static int on_open(struct xenmsg_mux *mux, const struct frame_header *header)
{
	struct frame_open open;
	struct xenmsg_stream *stream;
	struct xenmsg_peer peer;
	char host[HOST_NAME_SIZE];
	int r = frame_open_decode(mux->scratch, header->length, &open);

	if (r < 0 || !(header->channel & 1) || header->channel >= CHANNEL_NUMBERS ||
	    open.kind != CHANNEL_STREAM || !mux->incoming)
		return -EPROTO;
	frame_open_split(&open);
	r = incoming_peer(&peer, host, &open.identity, open.name, open.domain_name, open.host);
	if (r == 0)
		r = stream_new(mux, header->channel, &stream);
	if (r < 0)
		return r;
	stream->state = OPEN;
	stream_hold(stream);
	mux->incoming(mux->userdata, stream, &peer, host);
	if (!stream->callbacks && !stream->closed)
		xenmsg_stream_close(stream);
	stream_release(stream);
	return 0;
}

static int on_reply(struct xenmsg_mux *mux, const struct frame_header *header)
{
	struct frame_reply reply;

	if (frame_reply_decode(mux->scratch, header->length, &reply) < 0)
		return -EPROTO;
	if (header->channel != mux->request.number)
		return 0;
	if (reply.error)
		transport_keep_reason(&mux->transport, reply.body);
	mux->request.error = reply.error ? frame_error(reply.error, -EPROTO) : 0;
	mux->request.answered = true;
	return 0;
}

static int on_goodbye(struct xenmsg_mux *mux, uint32_t length)
{
	struct frame_goodbye goodbye;

	if (frame_goodbye_decode(mux->scratch, length, &goodbye) < 0)
		return -EPROTO;
	transport_keep_reason(&mux->transport, goodbye.text);
	return -ENOTCONN;
}

static int dispatch(struct xenmsg_mux *mux, const struct frame_header *header)
{
	struct xenmsg_stream *stream;

	switch (header->type) {
	case FRAME_OPEN:
		return on_open(mux, header);
	case FRAME_REPLY:
		return on_reply(mux, header);
	case FRAME_GOODBYE:
		return on_goodbye(mux, header->length);
	case FRAME_DATA:
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_FIN:
	case FRAME_RESET:
		stream = find(mux, header->channel);
		if (stream)
			return stream_take(stream, header);
		return header->type == FRAME_DATA
			       ? -EPROTO
			       : transport_take_late(&mux->transport, header, mux->scratch);
	default:
		return header->type >= FRAME_OPTIONAL ? 0 : -EPROTO;
	}
}

static void tell_what_was_taken(struct xenmsg_mux *mux)
{
	mux->has_taken_much = false;
	transport_release_in(&mux->transport);
	transport_publish(&mux->transport);
}

/* Returns whether there may be more, or a negative errno. */
static int read_in(struct xenmsg_mux *mux, unsigned budget)
{
	struct ring_reader *in = &mux->transport.in;
	struct frame_header header;
	uint32_t ready;
	unsigned count;
	int r = 1;

	for (count = 0; count < budget && r > 0; count++) {
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
static uint32_t room_wanted(const struct xenmsg_mux *mux)
{
	uint32_t part = mux->transport.out.ring.size / 4;

	return part > FEED_MIN ? part : FEED_MIN;
}

/* Tells those who wait for room in the ring, as long as there is some; not more of them in one call, since the daemon
 * may make room as fast as they use it. */
static void feed(struct xenmsg_mux *mux)
{
	struct xenmsg_stream *stream;

	for (unsigned count = 0; count < BUDGET && (stream = mux->hungry) &&
				 transport_space(&mux->transport, room_wanted(mux)) >= (int)FEED_MIN;
	     count++)
		stream_feed(stream);
}

/* ---- the session ----------------------------------------------------------------------------- */

/* Asks to be notified: also of room for those who wait for it, with `room`. Returns 1 if there is something already. */
static int arm(struct xenmsg_mux *mux, bool room)
{
	bool blocked;
	int r = transport_flush_backlog(&mux->transport, &blocked);

	if (r < 0)
		return r;
	transport_publish(&mux->transport);
	mux->armed = blocked || (room && mux->hungry);
	return transport_arm(&mux->transport, false, mux->armed ? room_wanted(mux) : 0);
}

static int process(struct xenmsg_mux *mux)
{
	int r, more;

	mux->armed = false;
	mux->burst = 0;
	r = transport_poll(&mux->transport, 0);
	if (r < 0 && r != -EINTR)
		return r;
	if (mux->transport.closed) {
		r = read_in(mux, UINT32_MAX);
		return r < 0 ? r : -ENOTCONN;
	}
	more = read_in(mux, BUDGET);
	if (more < 0)
		return more;
	feed(mux);
	r = arm(mux, true);
	if (r > 0 || (r == 0 && more))
		transport_poke(&mux->transport);
	return r;
}

int xenmsg_mux_process(struct xenmsg_mux *mux)
{
	int r;

	if (!transport_is_here(&mux->transport))
		return -ECHILD;
	if (mux->dead)
		return mux->dead;
	mux->processing = true;
	r = process(mux);
	mux->processing = false;
	if (!transport_is_here(&mux->transport))
		return -ECHILD;
	if (r >= 0)
		r = mux->failed;
	return r < 0 ? fail(mux, r) : mux->dead;
}

int xenmsg_mux_wait(struct xenmsg_mux *mux, int timeout_ms)
{
	struct pollfd wait = {.fd = xenmsg_mux_fd(mux), .events = POLLIN};
	int r;

	if (wait.fd < 0)
		return wait.fd;
	r = poll(&wait, 1, timeout_ms);
	if (r < 0)
		return -errno;
	if (r == 0)
		return 0;
	r = xenmsg_mux_process(mux);
	return r < 0 ? r : 1;
}

int xenmsg_mux_open(struct xenmsg_mux **made, const char *socket_path, const struct xenmsg_options *options,
		    xenmsg_mux_incoming incoming, void *userdata)
{
	struct xenmsg_mux *mux;
	int64_t deadline;
	struct how how;
	int r = -ENOMEM;

	if (how_read(&how, options, 0, HANDSHAKE_MS) < 0)
		return -EINVAL;
	deadline = deadline_in(how.timeout_ms);
	mux = calloc(1, sizeof(*mux));
	if (!mux)
		return -ENOMEM;
	mux->incoming = incoming;
	mux->userdata = userdata;
	channel_table_init(&mux->mine, 0, CHANNEL_NUMBERS / 2);
	channel_table_init(&mux->theirs, 1, CHANNEL_NUMBERS / 2);
	mux->scratch = malloc(FRAME_PAYLOAD_MAX);
	if (mux->scratch)
		r = transport_start(&mux->transport, handshake_path(socket_path), HELLO_MUX, deadline);
	if (r < 0) {
		free(mux->scratch);
		free(mux);
		return r;
	}
	r = transport_finish(&mux->transport, deadline);
	if (r == 0 && !mux->transport.is_mux)
		r = -EPROTONOSUPPORT;
	if (r < 0) {
		xenmsg_mux_close(mux);
		return r;
	}
	*made = mux;
	return 0;
}

void xenmsg_mux_close(struct xenmsg_mux *mux)
{
	if (!mux)
		return;
	mux->dead = -ENOTCONN;
	for (unsigned parity = 0; parity < 2; parity++) {
		struct channel_table *table = mux_table(mux, parity);
		struct xenmsg_stream *stream;
		uint32_t number = 0;

		while ((stream = channel_table_next(table, &number)))
			stream_drop(stream);
		channel_table_free(table);
	}
	transport_close(&mux->transport);
	free(mux->scratch);
	mux->abandoned = true;
	if (mux->streams == 0)
		free(mux);
}

int xenmsg_mux_fd(const struct xenmsg_mux *mux)
{
	return transport_is_here(&mux->transport) ? mux->transport.epoll : -ECHILD;
}

const char *xenmsg_mux_reason(const struct xenmsg_mux *mux)
{
	return mux->transport.reason;
}

/* Sends a request whose payload is in mux->scratch, and waits for the answer. */
static int ask(struct xenmsg_mux *mux, uint8_t type, uint32_t length, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);
	int r;

	if (!transport_is_here(&mux->transport))
		return -ECHILD;
	if (mux->dead)
		return mux->dead;
	mux->request.answered = false;
	mux->transport.reason[0] = '\0';
	r = transport_control(&mux->transport, type, ++mux->request.number, mux->scratch, length);
	while (r == 0 && !mux->request.answered) {
		bool closed;

		r = arm(mux, false);
		if (r == 0)
			r = transport_poll(&mux->transport, deadline_left(deadline));
		if (r == 0)
			r = -ETIMEDOUT;
		closed = mux->transport.closed;
		if (r > 0)
			r = read_in(mux, closed ? UINT32_MAX : BUDGET);
		r = r < 0 ? r : closed ? -ENOTCONN : 0;
	}
	transport_poke(&mux->transport); /* what else has come, and who waits for room */
	if (r == -ETIMEDOUT || r == -EINTR || !transport_is_here(&mux->transport))
		return r;
	return r < 0 ? fail(mux, r) : mux->request.error;
}

static uint32_t encode_unbind(struct xenmsg_mux *mux, const char *endpoint)
{
	size_t size = strlen(endpoint);

	memcpy(mux->scratch, endpoint, size);
	return (uint32_t)size;
}

int xenmsg_mux_listen(struct xenmsg_mux *mux, const char *endpoint, const struct xenmsg_options *options)
{
	struct frame_bind bind = {.kinds = BIND_STREAMS, .endpoint = {endpoint, strlen(endpoint)}};
	struct how how;
	int r;

	if (how_read(&how, options, XENMSG_FROM_HOSTS, PATIENCE_MS) < 0 || !mux->incoming ||
	    !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	if (how.flags & XENMSG_FROM_HOSTS)
		bind.kinds |= BIND_HOSTS;
	r = ask(mux, FRAME_BIND, frame_bind_encode(&bind, mux->scratch), how.timeout_ms);
	if (r == -ETIMEDOUT || r == -EINTR) { /* the daemon may bind it yet */
		mux_check(mux, transport_control(&mux->transport, FRAME_UNBIND, ++mux->request.number,
						 mux->scratch, encode_unbind(mux, endpoint)));
		mux_push(mux);
	}
	return r;
}

int xenmsg_mux_unlisten(struct xenmsg_mux *mux, const char *endpoint)
{
	if (!endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	return ask(mux, FRAME_UNBIND, encode_unbind(mux, endpoint), PATIENCE_MS);
}

int xenmsg_mux_connect(struct xenmsg_mux *mux, const char *address,
		       const struct xenmsg_stream_callbacks *callbacks, void *userdata,
		       struct xenmsg_stream **made)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {address, strlen(address)}};
	struct xenmsg_stream *stream;
	struct address parsed;
	uint32_t number;
	int r = address_parse(address, strlen(address), &parsed, NULL);

	if (r < 0)
		return r;
	if (!transport_is_here(&mux->transport))
		return -ECHILD;
	if (mux->dead)
		return mux->dead;
	r = channel_table_number(&mux->mine, &number);
	if (r < 0)
		return r;
	r = stream_new(mux, number, &stream);
	if (r < 0)
		return r;
	xenmsg_stream_set_callbacks(stream, callbacks, userdata);
	r = transport_control(&mux->transport, FRAME_OPEN, number, mux->scratch,
			      frame_open_encode(&open, mux->scratch));
	if (r < 0) {
		stream->closed = true;
		stream_drop(stream);
		mux_check(mux, r);
		return r;
	}
	*made = stream;
	mux_push(mux);
	return 0;
}
