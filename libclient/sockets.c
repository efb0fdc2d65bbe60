/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/advice.h"
#include "wire/frame.h"
#include "wire/stream_break.h"
#include "wire/ut.h"

/* What goes over sockets: how a connection begins, frames where memory isn't shared, and streams that are
 * being opened. */

/* ---- how a connection to the daemon begins ------------------------------------------------ */

/* Keeps connect() within the deadline: it waits while the daemon's queue of connections is full. */
static void limit_connect(int fd, int64_t deadline)
{
	int left = deadline_left(deadline);
	struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};

	if (left == 0)
		limit.tv_usec = 1; /* 0 would mean for ever */
	if (left >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

const char *handshake_path(const char *path)
{
	const char *set = secure_getenv("XENMSG_SOCKET");

	if (path)
		return path;
	return set && *set ? set : "/run/xenmsg/xenmsg.sock";
}

int handshake_connect(const char *path, int64_t deadline)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval for_ever = {0};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	/* A caller without any time doesn't wait for room in that queue either. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (deadline_left(deadline) == 0 ? SOCK_NONBLOCK : 0),
		    0);
	if (fd < 0)
		return -errno;
	do {
		limit_connect(fd, deadline);
		r = connect(fd, (struct sockaddr *)&address, sizeof(address));
	} while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return r;
	}
	/* The socket of a stream becomes the program's own, and blocks. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &for_ever, sizeof(for_ever)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int handshake_hello(int fd, uint32_t flags, const void *more, uint32_t size)
{
	uint8_t frames[1024];
	const struct frame_hello_local hello = {
		.major = PROTOCOL_MAJOR, .minor = PROTOCOL_MINOR, .flags = flags};
	const struct frame_header header = {
		.type = FRAME_HELLO, .length = frame_hello_local_encode(&hello, frames + FRAME_HEADER_SIZE)};
	uint32_t used = frame_wrap(frames, &header);

	if (size)
		memcpy(frames + used, more, size);
	used += size;
	/* An empty socket takes this at once. A daemon that has refused the connection already has closed its
	 * end, behind a GOODBYE that says why, which the caller reads. */
	if (send(fd, frames, used, MSG_NOSIGNAL) == (ssize_t)used || errno == EPIPE)
		return 0;
	return errno == ENOBUFS ? -ENOMEM : -errno; /* the daemon's ENOBUFS is a limit */
}

void handshake_drop_descriptors(int fds[HANDSHAKE_FDS])
{
	for (unsigned i = 0; i < HANDSHAKE_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

void handshake_keep_descriptors(struct msghdr *message, int *fds, size_t most)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count;
		const uint8_t *data = CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, data + i * sizeof(int), sizeof(int));
			if (i < most && fds[i] < 0)
				fds[i] = fd;
			else
				close(fd);
		}
	}
}

/* Reads exactly `size` bytes, of which there are *got already, since what follows belongs to the pump. */
static int read_exactly(int fd, void *buffer, size_t size, size_t *got, int fds[HANDSHAKE_FDS],
			int64_t deadline)
{
	while (*got < size) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(HANDSHAKE_FDS * sizeof(int))];
		} control;
		struct iovec piece = {.iov_base = (char *)buffer + *got, .iov_len = size - *got};
		struct msghdr message = {.msg_iov = &piece,
					 .msg_iovlen = 1,
					 .msg_control = control.space,
					 .msg_controllen = sizeof(control.space)};
		ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

		if (n > 0) {
			handshake_keep_descriptors(&message, fds, fds ? HANDSHAKE_FDS : 0);
			*got += (size_t)n;
			if (message.msg_flags & MSG_CTRUNC) /* there was room for as many as it sends */
				return -EMFILE;
		} else if (n == 0) {
			return -ECONNREFUSED;
		} else if (errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLIN};
			int left = deadline_left(deadline);

			if (left == 0)
				return -ETIMEDOUT;
			poll(&wait, 1, left);
		} else if (errno != EINTR) {
			return errno == ECONNRESET ? -ECONNREFUSED : -errno;
		}
	}
	return 0;
}

int handshake_read(int fd, struct handshake_answer *answer, int fds[HANDSHAKE_FDS], int64_t deadline)
{
	struct frame_goodbye goodbye;
	uint32_t padded;
	size_t got;
	int r;

	answer->reason = (struct frame_text){.data = NULL};
	r = read_exactly(fd, answer->raw, sizeof(answer->raw), &answer->got, fds, deadline);
	if (r < 0)
		return r;
	if (frame_header_decode(answer->raw, &answer->header) < 0)
		return -EPROTO;
	padded = frame_size(answer->header.length) - FRAME_HEADER_SIZE;
	if (padded > sizeof(answer->payload))
		return -EPROTO;
	got = answer->got - sizeof(answer->raw);
	r = read_exactly(fd, answer->payload, padded, &got, fds, deadline);
	answer->got = r == 0 ? 0 : got + sizeof(answer->raw);
	if (r < 0 || answer->header.type != FRAME_GOODBYE)
		return r;
	if (frame_goodbye_decode(answer->payload, answer->header.length, &goodbye) < 0)
		return -EPROTO;
	answer->reason = goodbye.text;
	return frame_error(goodbye.error, -ECONNREFUSED);
}

/* ---- without shared memory ---------------------------------------------------------------- */

/*
 * `out` and `in` are drained whenever the library is called, so their size only limits a batch. Deliveries
 * wait for the program, and meanwhile the socket must be read for the sake of all other frames: that ring
 * grows, up to a bound that the daemon stays far below, since our CREDIT tells it what was taken.
 */

#define RING_SIZE      (256u << 10)
#define DELIVERIES_MAX (128u << 20)
#define STAGING_SIZE   (256u << 10)
#define FLUSH_SIZE     (64u << 10)

struct pump_ring {
	struct ring_words words;
	uint8_t *data;
};

struct socket_pump {
	int socket, epoll;
	struct ring_writer *program_out;
	struct ring_reader *program_deliveries;
	struct pump_ring rings[LOCAL_RINGS];
	struct ring_reader out;
	struct ring_writer in, deliveries;
	uint8_t *staging; /* bytes read from the socket that aren't a whole frame yet or found no room */
	size_t staged_from, staged_to;
	uint32_t interest; /* what epoll watches the socket for */
	bool out_full;	   /* the socket took less than it was offered */
	bool in_full;	   /* a ring had less room than was needed */
	bool closed;	   /* the other end is gone */
	bool in_order;	   /* nothing goes to `deliveries` */
	bool lacks;	   /* memory, for more room in `deliveries` */
};

static int make_ring(struct pump_ring *ring, struct ring_view *view)
{
	ring->data = malloc(RING_SIZE);
	if (!ring->data)
		return -ENOMEM;
	*view = ring_words_view(&ring->words, ring->data, RING_SIZE);
	return 0;
}

int socket_pump_new(struct socket_pump **made, int socket, int epoll, struct ring_writer *out,
		    struct ring_reader *in, struct ring_reader *deliveries, bool in_order)
{
	struct socket_pump *pump = calloc(1, sizeof(*pump));
	struct ring_view views[LOCAL_RINGS];

	if (!pump)
		return -ENOMEM;
	pump->socket = socket;
	pump->epoll = epoll;
	pump->in_order = in_order;
	pump->program_out = out;
	pump->program_deliveries = deliveries;
	pump->interest = EPOLLIN | EPOLLRDHUP;
	pump->staging = malloc(STAGING_SIZE);
	if (!pump->staging)
		goto no_memory;
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		if (make_ring(&pump->rings[i], &views[i]) < 0)
			goto no_memory;
	ring_writer_init(out, &views[LOCAL_RING_OUT], false);
	ring_reader_init(&pump->out, &views[LOCAL_RING_OUT], false);
	ring_writer_init(&pump->in, &views[LOCAL_RING_IN], false);
	ring_reader_init(in, &views[LOCAL_RING_IN], false);
	ring_writer_init(&pump->deliveries, &views[LOCAL_RING_DELIVERIES], false);
	ring_reader_init(deliveries, &views[LOCAL_RING_DELIVERIES], false);
	*made = pump;
	return 0;
no_memory:
	socket_pump_free(pump);
	return -ENOMEM;
}

void socket_pump_free(struct socket_pump *pump)
{
	if (!pump)
		return;
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		free(pump->rings[i].data);
	free(pump->staging);
	free(pump);
}

bool socket_pump_wants_flush(const struct socket_pump *pump)
{
	return !pump->out_full && pump->program_out->published - pump->out.tail >= FLUSH_SIZE;
}

void socket_pump_out(struct socket_pump *pump)
{
	pump->out_full = false;
	for (;;) {
		int ready = ring_reader_ready(&pump->out, UINT32_MAX);
		struct iovec pieces[2];
		struct msghdr message = {.msg_iov = pieces};
		ssize_t n;

		if (ready <= 0 || pump->closed)
			return;
		message.msg_iovlen = (size_t)ring_reader_peek(&pump->out, 0, (uint32_t)ready, pieces);
		n = sendmsg(pump->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			/* The daemon's last frames may still be there to read, so the reading side finds out
			 * that the socket is closed. */
			pump->out_full = true;
			return;
		}
		ring_reader_consume(&pump->out, (uint32_t)n);
		ring_reader_release_quietly(&pump->out);
	}
}

/* Doubles the ring. Indices run freely, so only the places of the bytes change. Both ends belong to this
 * process. Returns false if it can't be any larger, now or at all. */
static bool grow_deliveries(struct socket_pump *pump)
{
	struct ring_writer *writer = &pump->deliveries;
	struct ring_reader *reader = pump->program_deliveries;
	uint32_t old_size = writer->ring.size, size = old_size * 2;
	uint8_t *data;

	if (size > DELIVERIES_MAX)
		return false;
	data = malloc(size);
	pump->lacks = !data;
	if (!data)
		return false;
	for (uint32_t at = reader->released; at != writer->head;) {
		uint32_t from = at & (old_size - 1), to = at & (size - 1);
		uint32_t n = writer->head - at;

		if (n > old_size - from)
			n = old_size - from;
		if (n > size - to)
			n = size - to;
		memcpy(data + to, writer->ring.data + from, n);
		at += n;
	}
	free(pump->rings[LOCAL_RING_DELIVERIES].data);
	pump->rings[LOCAL_RING_DELIVERIES].data = data;
	writer->ring.data = reader->ring.data = data;
	writer->ring.size = reader->ring.size = size;
	return true;
}

/* Puts a frame into its ring. Returns false if there is no room. */
static bool route(struct socket_pump *pump, const struct frame_header *header, const uint8_t *frame,
		  uint32_t size)
{
	/* The daemon's channels have odd numbers. */
	bool delivery = header->type == FRAME_DATA && (header->channel & 1) && !pump->in_order;
	struct ring_writer *ring = delivery ? &pump->deliveries : &pump->in;

	while (ring_writer_space(ring, size) < (int)size)
		if (!delivery || !grow_deliveries(pump))
			return false;
	ring_writer_put(ring, frame, size);
	ring_writer_publish(ring);
	return true;
}

static int route_staged(struct socket_pump *pump)
{
	while (pump->staged_to - pump->staged_from >= FRAME_HEADER_SIZE) {
		const uint8_t *frame = pump->staging + pump->staged_from;
		struct frame_header header;
		uint32_t size;

		if (frame_header_decode(frame, &header) < 0)
			return -EPROTO;
		size = frame_size(header.length);
		if (pump->staged_to - pump->staged_from < size)
			break;
		if (!route(pump, &header, frame, size)) {
			pump->in_full = true;
			return 0;
		}
		pump->staged_from += size;
	}
	pump->staged_to -= pump->staged_from;
	memmove(pump->staging, pump->staging + pump->staged_from, pump->staged_to);
	pump->staged_from = 0;
	return 0;
}

int socket_pump_in(struct socket_pump *pump)
{
	pump->in_full = false;
	for (;;) {
		int r = route_staged(pump);
		size_t room = STAGING_SIZE - pump->staged_to;
		ssize_t n;

		if (r < 0 || pump->in_full || pump->closed)
			return r < 0 ? r : pump->closed;
		n = recv(pump->socket, pump->staging + pump->staged_to, room, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return pump->closed = true;
		pump->staged_to += (size_t)n;
		/* A short read has emptied the socket; another read would be a system call in vain. */
		if ((size_t)n < room)
			return route_staged(pump);
	}
}

bool socket_pump_lacks(const struct socket_pump *pump)
{
	return pump->lacks;
}

int socket_pump_resume_in(struct socket_pump *pump)
{
	return pump->in_full ? socket_pump_in(pump) : 0;
}

void socket_pump_arm(struct socket_pump *pump)
{
	uint32_t interest = EPOLLRDHUP;

	if (!pump->in_full)
		interest |= EPOLLIN;
	if (ring_reader_ready(&pump->out, 1) > 0)
		interest |= EPOLLOUT;
	if (interest != pump->interest) {
		struct epoll_event event = {.events = interest,
					    .data.u64 = ON_SOCKET | (uint64_t)pump->socket << 32};

		epoll_ctl(pump->epoll, EPOLL_CTL_MOD, pump->socket, &event);
		pump->interest = interest;
	}
}

/* ---- streams that are being opened -------------------------------------------------------- */

#define GUARD		 1 /* size of the guard */
#define PLACE		 1 /* of what keeps a place in dial->fds */
#define INCOMING_REST_MS 100
#define QUEUE_MS                                                                                             \
	20 /* until the daemon's queue of connections has room, or there is a daemon again, perhaps */

static void look_at(struct dials *dials, int64_t at)
{
	if (at >= 0 && (dials->due < 0 || at < dials->due))
		dials->due = at;
}

/* From now on nobody is told what comes there. */
static void forget_socket(const struct stream_dial *dial)
{
	const struct transport *transport = dial->dials->transport;

	if (transport_is_here(transport))
		epoll_ctl(transport->epoll, EPOLL_CTL_DEL, dial->fd, NULL);
}

/* Leaves the socket. */
static void hang_up(struct stream_dial *dial)
{
	handshake_drop_descriptors(dial->fds);
	if (dial->fd >= 0) {
		forget_socket(dial);
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
	int fd;

	if (transport->socket < 0) /* the daemon is lost, and will be found again */
		return -EAGAIN;
	/* By the program's own way, since the name that the daemon gave its socket may be another's here. */
	fd = handshake_connect(transport->path, 0);
	/* The file of the socket isn't there, or not for us; these numbers would speak of the endpoint. */
	return fd == -ENOENT || fd == -EACCES ? -ECONNREFUSED : fd;
}

/* An answer that there is no descriptor for would break a stream that is there. */
static int keep_place(struct stream_dial *dial)
{
	dial->fds[PLACE] = fcntl(dial->fd, F_DUPFD_CLOEXEC, 0);
	return dial->fds[PLACE] < 0 ? -errno : 0;
}

/* Sends HELLO for a stream, the frame that says which stream, and the guard. Returns 0 or what settles it;
 * -EAGAIN: the daemon's queue is full. */
static int dial_ask(struct stream_dial *dial)
{
	int fd = connect_there(dial->dials->transport), r;

	if (fd < 0)
		return fd == -ETIMEDOUT ? -EAGAIN : fd;
	dial->fd = fd;
	r = keep_place(dial);
	if (r < 0)
		return r;
	r = transport_watch(dial->dials->transport, fd, EPOLLIN | EPOLLRDHUP, ON_STREAM);
	if (r == 0 && handshake_hello(fd, HELLO_STREAM | HELLO_TAKES_SOCKET, dial->request, dial->size) < 0)
		r = -ECONNREFUSED;
	return r;
}

/* Reads WELCOME, then the REPLY that says whether there is a stream. Returns 1 if there is; 0: it goes on
 * waiting; or a negative errno. */
static int sockets_read_answer(struct stream_dial *dial)
{
	struct handshake_answer *answer = &dial->answer;
	struct frame_reply reply;
	struct frame_text why;
	int r;

	if (dial->fds[PLACE] >= 0)
		close(dial->fds[PLACE]);
	dial->fds[PLACE] = -1;
	r = handshake_read(dial->fd, answer, dial->fds, 0);
	if (r == 0 && answer->header.type == FRAME_WELCOME)
		r = handshake_read(dial->fd, answer, dial->fds, 0);
	if (r == -ETIMEDOUT) {
		keep_place(dial);
		return 0;
	}
	if (r < 0) {
		frame_text_copy(answer->reason, dial->reason, sizeof(dial->reason));
		return r;
	}
	if (answer->header.type != FRAME_REPLY ||
	    frame_reply_decode(answer->payload, answer->header.length, &reply) < 0)
		return -EPROTO;
	if (reply.error == 0)
		return 1;
	why = reply.body;
	if (!why.size && reply.error == ENOMEM)
		why = frame_text_of(WORDS_OF_PEERS_LACK);
	else if (!why.size && reply.error == ECONNRESET)
		why = frame_text_of(advice_of_break(0, false));
	frame_text_copy(why, dial->reason, sizeof(dial->reason));
	return frame_error(reply.error, -EPROTO);
}

void dial_take_sender(const struct stream_dial *dial, struct xenmsg_peer *peer)
{
	struct frame_reply reply;
	struct frame_sender sender;

	if (frame_reply_decode(dial->answer.payload, dial->answer.header.length, &reply) == 0 &&
	    frame_sender_decode((const uint8_t *)reply.body.data, (uint32_t)reply.body.size, &sender) == 0)
		peer_rename(peer, sender.domid, sender.domain_name);
}

/* A buffer that a program fills at once, as by sendfile(2), is 17 pages. Where that is more than a quarter of
 * SO_SNDBUF, the kernel wakes its writer only when nothing of it is left. (The kernel doubles what is set.)
 */
static void widen(int fd)
{
	const int room = 140800;
	int now = 0;
	socklen_t size = sizeof(now);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &now, &size) == 0 && now < 2 * room)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

/* The socket that came with the answer, or the connection itself, becomes the program's own, and blocks. */
static int dial_hand_over(struct stream_dial *dial)
{
	int stream = dial->fds[0];

	forget_socket(dial);
	if (stream >= 0) {
		dial->fds[0] = -1;
		close(dial->fd);
		dial->fd = stream;
	}
	handshake_drop_descriptors(dial->fds);
	widen(dial->fd);
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
		r = sockets_read_answer(dial);
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
	memset(dial->fds, -1, sizeof(dial->fds));
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

void xenmsg_break(int stream)
{
	stream_break(stream, 0);
}

const char *xenmsg_break_reason(int stream)
{
	struct sockaddr_un name = {0};
	socklen_t size = sizeof(name) - 1;
	unsigned flags, has_come;

	if (getpeername(stream, (struct sockaddr *)&name, &size) < 0 || name.sun_family != AF_UNIX ||
	    name.sun_path[0] || sscanf(name.sun_path + 1, BREAK_NAME "%8x/%1u/", &flags, &has_come) != 2)
		return advice_of_break(0, true);
	return advice_of_break(flags, has_come);
}

void dial_free(struct stream_dial *dial)
{
	if (dial->op.settled && dial->fd >= 0 && transport_is_here(dial->dials->transport))
		xenmsg_break(dial->fd); /* nobody has taken it */
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

/* ---- streams that come in ----------------------------------------------------------------- */

void incoming_drop(struct incoming *incoming)
{
	struct arrival *arrival = incoming->waiting;

	DL_DELETE(incoming->waiting, arrival);
	incoming->count--;
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

	if (frame_incoming_decode(payload, header->length, &frame) < 0 || incoming->count >= CHANNEL_NUMBERS)
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
	incoming->count++;
	return 0;
}
