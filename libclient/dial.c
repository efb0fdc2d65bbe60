/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#include "libclient/deadline.h"
#include "libclient/transport.h"

#define GUARD		 1 /* size of the guard */
#define INCOMING_REST_MS 100
#define QUEUE_MS                                                                                             \
	20 /* until the daemon's queue of connections has room, or there is a daemon again, perhaps */

void dials_init(struct dials *dials, struct transport *transport)
{
	*dials = (struct dials){.transport = transport, .due = -1};
}

static void look_at(struct dials *dials, int64_t at)
{
	if (at >= 0 && (dials->due < 0 || at < dials->due))
		dials->due = at;
}

/* Leaves the socket. */
static void hang_up(struct stream_dial *dial)
{
	if (dial->fd >= 0) {
		transport_forget_stream(dial->dials->transport, dial->fd);
		close(dial->fd);
	}
	dial->fd = -1;
	dial->answer.got = 0;
}

static void dial_settle(struct stream_dial *dial, int error)
{
	struct dials *dials = dial->dials;

	if (error < 0)
		hang_up(dial);
	dial->error = error;
	dial->op.settled = true;
	DL_DELETE(dials->begun, dial);
	if (!dials->begun)
		dials->due = -1;
	if (dial->done)
		DL_APPEND(dials->settled, dial);
}

static void dial_rest(struct stream_dial *dial, int pause_ms)
{
	dial->rests_until = deadline_in(pause_ms);
	look_at(dial->dials, dial->rests_until);
}

/* Connects to the daemon of the session. Returns the socket, or an error of handshake_connect(); -EAGAIN:
 * there is none now. */
static int connect_there(const struct transport *transport)
{
	struct sockaddr_un address = {0};
	socklen_t size = sizeof(address) - 1;
	int fd;

	if (transport->socket < 0) /* the daemon is lost, and will be found again */
		return -EAGAIN;
	if (getpeername(transport->socket, (struct sockaddr *)&address, &size) < 0)
		return -ENOTCONN;
	fd = handshake_connect(address.sun_path, 0);
	/* The file of the socket isn't there, or not for us; these numbers would speak of the endpoint. */
	return fd == -ENOENT || fd == -EACCES ? -ECONNREFUSED : fd;
}

/* Sends HELLO for a stream, the frame that says which stream, and the guard. Returns 0 or what settles it;
 * -EAGAIN: the daemon's queue is full. */
static int dial_ask(struct stream_dial *dial)
{
	int fd = connect_there(dial->dials->transport), r;

	if (fd < 0)
		return fd == -ETIMEDOUT ? -EAGAIN : fd;
	dial->fd = fd;
	r = transport_watch_stream(dial->dials->transport, fd);
	if (r == 0 && handshake_hello(fd, HELLO_STREAM, dial->request, dial->size) < 0)
		r = -ECONNREFUSED;
	return r;
}

/* Reads WELCOME, then the REPLY that says whether there is a stream. Returns 1 if there is; 0: it goes on
 * waiting; or a negative errno. */
static int read_answer(struct stream_dial *dial)
{
	struct handshake_answer *answer = &dial->answer;
	struct frame_reply reply;
	int r = handshake_read(dial->fd, answer, NULL, 0);

	if (r == 0 && answer->header.type == FRAME_WELCOME)
		r = handshake_read(dial->fd, answer, NULL, 0);
	if (r == -ETIMEDOUT)
		return 0;
	if (r < 0) {
		frame_text_copy(answer->reason, dial->reason, sizeof(dial->reason));
		return r;
	}
	if (answer->header.type != FRAME_REPLY ||
	    frame_reply_decode(answer->payload, answer->header.length, &reply) < 0)
		return -EPROTO;
	if (reply.error == 0)
		return 1;
	frame_text_copy(reply.body, dial->reason, sizeof(dial->reason));
	return frame_error(reply.error, -EPROTO);
}

/* The socket becomes the program's own, and blocks. */
static int dial_hand_over(struct stream_dial *dial)
{
	transport_forget_stream(dial->dials->transport, dial->fd);
	return fcntl(dial->fd, F_SETFL, 0) < 0 ? -errno : 0;
}

/* Goes on with it as far as that goes without waiting. */
static void dial_step(struct stream_dial *dial)
{
	int r = dial->fd < 0 ? dial_ask(dial) : 0, pause_ms;

	if (r == -EAGAIN) {
		dial_rest(dial, QUEUE_MS);
		return;
	}
	if (r == 0)
		r = read_answer(dial);
	if (r == 0)
		return;
	/* Tries again while the policy there isn't known. */
	pause_ms = r == -ENODATA ? again_pause(&dial->again, dial->expires) : -1;
	if (pause_ms >= 0) {
		hang_up(dial);
		dial_rest(dial, pause_ms);
		return;
	}
	if (r > 0)
		r = dial_hand_over(dial);
	dial_settle(dial, r);
}

static int dial_withdraw(struct xenmsg_op *op)
{
	struct stream_dial *dial = (struct stream_dial *)op;

	if (!op->settled)
		dial_settle(dial, -ETIMEDOUT);
	return 0;
}

int dials_begin(struct dials *dials, uint8_t type, const void *payload, uint32_t size, int timeout_ms,
		xenmsg_done done, void *userdata, struct stream_dial **begun)
{
	const struct frame_header header = {.type = type, .length = size};
	struct stream_dial *dial = calloc(1, sizeof(*dial));

	if (!dial)
		return -ENOMEM;
	dial->op.withdraw = dial_withdraw;
	dial->dials = dials;
	dial->fd = -1;
	dial->done = done;
	dial->userdata = userdata;
	memcpy(dial->request + FRAME_HEADER_SIZE, payload, size);
	dial->size = frame_wrap(dial->request, &header) + GUARD;
	dial->expires = deadline_in(timeout_ms);
	look_at(dials, dial->expires);
	DL_APPEND(dials->begun, dial);
	*begun = dial;
	dial_step(dial);
	return 0;
}

void dials_ready(struct dials *dials, int fd)
{
	struct stream_dial *dial;

	DL_SEARCH_SCALAR(dials->begun, dial, fd, fd);
	if (dial)
		dial_step(dial);
}

void dials_look(struct dials *dials)
{
	struct stream_dial *dial, *next;
	int64_t now;

	if (dials->due < 0 || (now = now_ms()) < dials->due)
		return;
	dials->due = -1;
	DL_FOREACH_SAFE(dials->begun, dial, next) {
		if (dial->rests_until && dial->rests_until <= now) {
			dial->rests_until = 0;
			dial_step(dial);
			if (dial->op.settled)
				continue;
		}
		if (dial->expires >= 0 && dial->expires <= now) {
			dial_settle(dial, -ETIMEDOUT);
			continue;
		}
		look_at(dials, dial->expires);
		if (dial->rests_until)
			look_at(dials, dial->rests_until);
	}
}

void dials_fail(struct dials *dials, int error)
{
	while (dials->begun)
		dial_settle(dials->begun, error);
}

/* The daemon takes bytes that come with a descriptor as the request to break the stream. */
void dial_break(int stream)
{
	uint8_t mark = 0;
	struct iovec piece = {&mark, 1};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	const int most = INT_MAX / 2; /* the kernel makes it as much as may be, which is twice as much */

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &stream, sizeof(int));
	/* If there is no room for it, because the other program is slow, a larger buffer has some. */
	if (sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN &&
	    setsockopt(stream, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most)) == 0)
		sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(stream);
}

void dial_free(struct stream_dial *dial)
{
	if (dial->op.settled && dial->fd >= 0 && transport_is_here(dial->dials->transport))
		dial_break(dial->fd); /* nobody has taken it */
	else
		hang_up(dial);
	free(dial);
}

void dials_free(struct dials *dials)
{
	struct stream_dial *dial;

	dials_fail(dials, -ECANCELED);
	while ((dial = dials->settled)) {
		DL_DELETE(dials->settled, dial);
		dial_free(dial);
	}
}

/* ---- streams that come in -------------------------------------------------------------------- */

void incoming_drop(struct incoming *incoming)
{
	struct arrival *arrival = incoming->waiting;

	DL_DELETE(incoming->waiting, arrival);
	free(arrival);
	incoming->again = 0;
}

void incoming_rest(struct incoming *incoming)
{
	incoming->again = deadline_in(INCOMING_REST_MS);
}

void incoming_look(struct incoming *incoming)
{
	if (incoming->again && deadline_left(incoming->again) == 0)
		incoming->again = 0;
}

void incoming_leave(struct incoming *incoming)
{
	if (incoming->fetch)
		dial_free(incoming->fetch);
	incoming->fetch = NULL;
	while (incoming->waiting)
		incoming_drop(incoming);
}

void incoming_free(struct incoming *incoming)
{
	incoming_leave(incoming);
	while (incoming->listening)
		incoming_forget(incoming, incoming->listening->endpoint);
}

int incoming_listen(struct incoming *incoming, const char *endpoint, uint32_t kinds)
{
	struct listening *listening = calloc(1, sizeof(*listening));

	if (!listening)
		return -ENOMEM;
	memcpy(listening->endpoint, endpoint, strlen(endpoint));
	listening->kinds = kinds;
	DL_APPEND(incoming->listening, listening);
	return 0;
}

void incoming_asked(struct incoming *incoming, uint32_t asked)
{
	incoming->listening->prev->asked = asked; /* the last of the list */
}

const char *incoming_find_asked(const struct incoming *incoming, uint32_t asked)
{
	const struct listening *listening;

	DL_SEARCH_SCALAR(incoming->listening, listening, asked, asked);
	return listening ? listening->endpoint : NULL;
}

bool incoming_knows(const struct incoming *incoming, const char *endpoint)
{
	const struct listening *listening;

	DL_FOREACH(incoming->listening, listening)
		if (strcmp(listening->endpoint, endpoint) == 0)
			return true;
	return false;
}

bool incoming_forget(struct incoming *incoming, const char *endpoint)
{
	struct listening *listening;

	DL_FOREACH(incoming->listening, listening)
		if (strcmp(listening->endpoint, endpoint) == 0) {
			DL_DELETE(incoming->listening, listening);
			free(listening);
			return true;
		}
	return false;
}

int incoming_frame(struct incoming *incoming, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_incoming frame;
	struct arrival *arrival;
	int r;

	if (frame_incoming_decode(payload, header->length, &frame) < 0)
		return -EPROTO;
	arrival = calloc(1, sizeof(*arrival));
	if (!arrival)
		return -ENOMEM;
	arrival->token = frame.token;
	r = peer_set(&arrival->peer, &frame.identity, frame.endpoint, frame.domain_name, frame.host);
	arrival->peer.serial = frame.serial;
	if (r < 0) {
		free(arrival);
		return r;
	}
	DL_APPEND(incoming->waiting, arrival);
	return 0;
}
