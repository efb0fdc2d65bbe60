/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/hop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libclient/stream.h"
#include "wire/bytes.h"
#include "wire/local_ring.h"

#define HANDSHAKE_SECONDS 10
#define RING_MIN	  8192u /* smaller ones would make the splitting of messages pointless */

#ifndef F_GET_SEALS
#define F_GET_SEALS   (1024 + 10)
#define F_SEAL_SHRINK 0x0002
#endif

enum { FD_MEMORY, FD_KICK, FD_WAKE, FDS };

int64_t hop_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int hop_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = HANDSHAKE_SECONDS};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A daemon whose queue of connections is full makes connect() wait: not for ever. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	do
		r = connect(fd, (struct sockaddr *)&address, sizeof(address));
	while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return r;
	}
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static void keep_descriptors(struct msghdr *message, int fds[FDS])
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
			if (i < FDS && fds[i] < 0)
				fds[i] = fd;
			else
				close(fd);
		}
	}
}

/* Reads exactly `size` bytes: what follows belongs to the pump. */
static int read_exactly(int fd, void *buffer, size_t size, int fds[FDS], int64_t deadline)
{
	size_t got = 0;

	while (got < size) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(FDS * sizeof(int))];
		} control;
		struct iovec piece = {.iov_base = (char *)buffer + got, .iov_len = size - got};
		struct msghdr message = {.msg_iov = &piece,
					 .msg_iovlen = 1,
					 .msg_control = control.space,
					 .msg_controllen = sizeof(control.space)};
		ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

		if (n > 0) {
			keep_descriptors(&message, fds);
			got += (size_t)n;
		} else if (n == 0) {
			return -ECONNREFUSED;
		} else if (errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLIN};
			int64_t left = deadline - hop_now();

			if (left <= 0)
				return -ETIMEDOUT;
			poll(&wait, 1, left > INT_MAX ? -1 : (int)left);
		} else if (errno != EINTR) {
			return errno == ECONNRESET ? -ECONNREFUSED : -errno;
		}
	}
	return 0;
}

int hop_read(int fd, void *buffer, size_t size, int64_t deadline)
{
	int fds[FDS] = {-1, -1, -1};
	int r = read_exactly(fd, buffer, size, fds, deadline);

	for (int i = 0; i < FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}

static int send_hello(int fd, bool shared)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct frame_hello_local hello = {
		.major = PROTOCOL_MAJOR, .minor = PROTOCOL_MINOR, .flags = shared ? HELLO_SHARED_MEMORY : 0};
	struct frame_header header = {.type = FRAME_HELLO};

	header.length = frame_hello_local_encode(&hello, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	/* A daemon that has refused us already has closed its end, behind a GOODBYE that says why: that is
	 * for who reads. */
	if (send(fd, frame, frame_size(header.length), MSG_NOSIGNAL) != (ssize_t)frame_size(header.length) &&
	    errno != EPIPE)
		return -errno;
	return 0;
}

void hop_keep_reason(struct hop *hop, struct frame_text text)
{
	size_t size = text.size < sizeof(hop->reason) ? text.size : sizeof(hop->reason) - 1;

	memcpy(hop->reason, text.data, size);
	hop->reason[size] = '\0';
}

static int receive_welcome(struct hop *hop, struct frame_welcome *welcome, int fds[FDS])
{
	int64_t deadline = hop_now() + HANDSHAKE_SECONDS * 1000;
	uint8_t raw[FRAME_HEADER_SIZE], payload[1024];
	struct frame_header header;
	struct frame_goodbye goodbye;
	int r;

	r = read_exactly(hop->socket, raw, sizeof(raw), fds, deadline);
	if (r < 0)
		return r;
	if (frame_header_decode(raw, &header) < 0 ||
	    frame_size(header.length) - FRAME_HEADER_SIZE > sizeof(payload))
		return -EPROTO;
	r = read_exactly(hop->socket, payload, frame_size(header.length) - FRAME_HEADER_SIZE, fds, deadline);
	if (r < 0)
		return r;
	if (header.type == FRAME_GOODBYE && frame_goodbye_decode(payload, header.length, &goodbye) == 0) {
		hop_keep_reason(hop, goodbye.text);
		return goodbye.error > 0 && goodbye.error < 4096 ? -(int)goodbye.error : -ECONNREFUSED;
	}
	if (header.type != FRAME_WELCOME || frame_welcome_decode(payload, header.length, welcome) < 0)
		return -EPROTO;
	if (welcome->major != PROTOCOL_MAJOR)
		return -EPROTONOSUPPORT;
	return 0;
}

/* The daemon places the rings; a place outside the memory would crash us. */
static int place_ring(const struct hop *hop, const struct frame_ring_place *place, struct ring_view *view)
{
	if (place->size < RING_MIN || (place->size & (place->size - 1)) || place->size > (1u << 30))
		return -EPROTO;
	if (place->control % 64 || place->data % 64)
		return -EPROTO;
	if ((uint64_t)place->control + LOCAL_RING_CONTROL > hop->memory_size ||
	    (uint64_t)place->data + place->size > hop->memory_size)
		return -EPROTO;
	*view = local_ring_view(hop->memory, place);
	return 0;
}

/*
 * The daemon has these descriptors too, and may be a hostile one. So nothing is read from them, and what is
 * written or waited on must be of a kind that has no file system, terminal or socket behind it, which could
 * keep us waiting: an eventfd to write, an eventfd or an epoll to wait on. Both have no file type, and a
 * write to any other of these fails.
 */
static bool is_anonymous(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && (status.st_mode & S_IFMT) == 0;
}

/* Maps the rings. -ENODATA: it can't be done here, try without. */
static int map_rings(struct hop *hop, const struct frame_welcome *welcome, int fds[FDS])
{
	struct ring_view views[LOCAL_RINGS];
	struct stat memory;
	int seals;

	if (fds[FD_MEMORY] < 0 || fds[FD_KICK] < 0 || fds[FD_WAKE] < 0 ||
	    fstat(fds[FD_MEMORY], &memory) < 0 || !is_anonymous(fds[FD_KICK]) || !is_anonymous(fds[FD_WAKE]))
		return -EPROTO;
	/* Memory that shrinks under us would be a SIGBUS. */
	seals = fcntl(fds[FD_MEMORY], F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || memory.st_size <= 0 || memory.st_size > (off_t)1 << 31)
		return -EPROTO;
	hop->memory_size = (size_t)memory.st_size;
	hop->memory = mmap(NULL, hop->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[FD_MEMORY], 0);
	if (hop->memory == MAP_FAILED) {
		hop->memory = NULL;
		return -ENODATA;
	}
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		if (place_ring(hop, &welcome->rings[i], &views[i]) < 0)
			return -EPROTO;
	/* The daemon may have written before we looked, so its indices are adopted after a check. */
	if (ring_writer_init(&hop->out, &views[LOCAL_RING_OUT], true) < 0 ||
	    ring_reader_init(&hop->in, &views[LOCAL_RING_IN], true) < 0 ||
	    ring_reader_init(&hop->deliveries, &views[LOCAL_RING_DELIVERIES], true) < 0)
		return -EPROTO;
	hop->kick = fds[FD_KICK];
	hop->wake = fds[FD_WAKE];
	fds[FD_KICK] = fds[FD_WAKE] = -1;
	hop->shared = true;
	return 0;
}

static int watch(const struct hop *hop, int fd, uint32_t events, uint32_t number)
{
	struct epoll_event event = {.events = events, .data.u32 = number};

	return epoll_ctl(hop->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* What the daemon lets us wait on is an epoll, which serves as ours: another one around it would cost 0.4 us
 * for each notification. A daemon of before gave an eventfd. */
static int watch_daemon(struct hop *hop)
{
	int r;

	hop->epoll = hop->wake;
	hop->wake = -1;
	r = watch(hop, hop->socket, EPOLLIN | EPOLLRDHUP, 1);
	if (r != -EINVAL)
		return r;
	hop->wake = hop->epoll;
	hop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (hop->epoll < 0)
		return -errno;
	r = watch(hop, hop->wake, EPOLLIN | EPOLLET, 0);
	return r < 0 ? r : watch(hop, hop->socket, EPOLLIN | EPOLLRDHUP, 1);
}

static int watch_descriptors(struct hop *hop)
{
	int r;

	hop->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hop->poke < 0)
		return -errno;
	if (hop->shared) {
		r = watch_daemon(hop);
	} else {
		hop->epoll = epoll_create1(EPOLL_CLOEXEC);
		r = hop->epoll < 0 ? -errno : watch(hop, hop->socket, EPOLLIN | EPOLLRDHUP, 1);
	}
	return r < 0 ? r : watch(hop, hop->poke, EPOLLIN | EPOLLET, 0);
}

static int open_once(struct hop *hop, const char *path, bool shared)
{
	struct frame_welcome welcome;
	int fds[FDS] = {-1, -1, -1};
	int r;

	*hop = (struct hop){.socket = -1, .epoll = -1, .wake = -1, .kick = -1, .poke = -1};
	r = hop_connect(path);
	if (r < 0)
		return r;
	hop->socket = r;
	r = send_hello(hop->socket, shared);
	if (r == 0)
		r = receive_welcome(hop, &welcome, fds);
	if (r == 0) {
		hop->domid = welcome.domid;
		hop->max_message = welcome.max_message;
		if (welcome.flags & HELLO_SHARED_MEMORY)
			r = shared ? map_rings(hop, &welcome, fds) : -EPROTO;
	}
	for (unsigned i = 0; i < FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (r == 0)
		r = watch_descriptors(hop);
	if (r == 0 && !hop->shared)
		r = stream_new(&hop->stream, hop);
	if (r == 0) {
		r = hop_arm(hop, true, 0);
		if (r > 0)
			hop_poke(hop);
	}
	if (r < 0) {
		hop->closed = true;
		hop_close(hop);
		return r;
	}
	return 0;
}

int hop_open(struct hop *hop, const char *path)
{
	const char *without = getenv("XENMSG_NO_SHARED_MEMORY");
	bool shared = !without || strcmp(without, "1") != 0;
	int r = open_once(hop, path, shared);

	return r == -ENODATA ? open_once(hop, path, false) : r;
}

void hop_close(struct hop *hop)
{
	bool blocked;

	/* Who says goodbye takes nothing more, so the senders of what is still unread needn't be in doubt. */
	if (!hop->closed) {
		uint8_t payload[4];

		hop_control(hop, FRAME_GOODBYE, 0, payload, frame_u32_encode(0, payload));
		hop_flush_backlog(hop, &blocked);
		hop_publish(hop);
		if (hop->stream)
			stream_pump_out(hop->stream);
	}
	stream_free(hop->stream);
	if (hop->memory)
		munmap(hop->memory, hop->memory_size);
	if (hop->epoll >= 0)
		close(hop->epoll);
	if (hop->wake >= 0)
		close(hop->wake);
	if (hop->kick >= 0)
		close(hop->kick);
	if (hop->poke >= 0)
		close(hop->poke);
	if (hop->socket >= 0)
		close(hop->socket);
	fifo_free(&hop->backlog);
}

int hop_space(struct hop *hop, uint32_t want)
{
	int space = ring_writer_space(&hop->out, want);

	if (space >= 0 && (uint32_t)space < want && hop->stream) {
		hop_publish(hop);
		stream_pump_out(hop->stream);
		space = ring_writer_space(&hop->out, want);
	}
	return space;
}

int hop_control(struct hop *hop, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	static const uint8_t padding[8];
	struct frame_header header = {.length = length, .type = type, .channel = channel};
	uint8_t raw[FRAME_HEADER_SIZE];
	uint32_t pad = frame_size(length) - FRAME_HEADER_SIZE - length;
	bool blocked;
	int space, r;

	r = hop_flush_backlog(hop, &blocked);
	if (r < 0)
		return r;
	frame_header_encode(&header, raw);
	space = blocked ? 0 : hop_space(hop, frame_size(length));
	if (space < 0)
		return space;
	if ((uint32_t)space < frame_size(length)) {
		r = fifo_reserve(&hop->backlog, frame_size(length));
		if (r < 0)
			return r;
		fifo_append(&hop->backlog, raw, sizeof(raw));
		fifo_append(&hop->backlog, payload, length);
		fifo_append(&hop->backlog, padding, pad);
		return 0;
	}
	ring_writer_put(&hop->out, raw, sizeof(raw));
	ring_writer_put(&hop->out, payload, length);
	ring_writer_put(&hop->out, padding, pad);
	return 0;
}

int hop_flush_backlog(struct hop *hop, bool *blocked)
{
	while (fifo_size(&hop->backlog) > 0) {
		uint32_t size = frame_size(get_u32(fifo_front(&hop->backlog)));
		int space = hop_space(hop, size);

		if (space < 0)
			return space;
		if ((uint32_t)space < size)
			break;
		ring_writer_put(&hop->out, fifo_front(&hop->backlog), size);
		fifo_drop(&hop->backlog, size);
	}
	*blocked = fifo_size(&hop->backlog) > 0;
	return 0;
}

static void notify(int fd)
{
	uint64_t one = 1;
	ssize_t n;

	do
		n = write(fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

/* A daemon that has made its eventfd blocking would let us wait for it as long as it likes. */
static void kick(struct hop *hop)
{
	int flags = fcntl(hop->kick, F_GETFL);

	if (flags >= 0 && (flags & O_NONBLOCK)) {
		notify(hop->kick);
		return;
	}
	hop->closed = true;
	hop_poke(hop);
}

void hop_notify_of_output(struct hop *hop)
{
	if (hop->shared) {
		/* The daemon looks at what was taken as well: who answers a message needn't notify it
		 * twice. */
		ring_reader_take_request(&hop->deliveries);
		kick(hop);
	}
}

void hop_publish_to_stream(struct hop *hop)
{
	if (stream_wants_flush(hop->stream))
		stream_pump_out(hop->stream);
}

void hop_release_in(struct hop *hop)
{
	if (ring_reader_release(&hop->in) && hop->shared)
		kick(hop);
}

void hop_release_deliveries(struct hop *hop, bool quietly)
{
	if (quietly)
		ring_reader_release_quietly(&hop->deliveries);
	else if (ring_reader_release(&hop->deliveries) && hop->shared)
		kick(hop);
}

void hop_poke(struct hop *hop)
{
	if (hop->poked)
		return;
	hop->poked = true;
	notify(hop->poke);
}

/* With shared memory the socket only says that the daemon is gone, perhaps with a GOODBYE first. */
static void read_farewell(struct hop *hop)
{
	uint8_t buffer[FRAME_HEADER_SIZE + 1024];
	struct frame_header header;
	struct frame_goodbye goodbye;
	ssize_t n = recv(hop->socket, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	hop->closed = true;
	if (n >= (ssize_t)FRAME_HEADER_SIZE && frame_header_decode(buffer, &header) == 0 &&
	    header.type == FRAME_GOODBYE && header.length <= (uint32_t)n - FRAME_HEADER_SIZE &&
	    frame_goodbye_decode(buffer + FRAME_HEADER_SIZE, header.length, &goodbye) == 0)
		hop_keep_reason(hop, goodbye.text);
}

int hop_poll(struct hop *hop, int timeout_ms)
{
	struct epoll_event events[3];
	int n = epoll_wait(hop->epoll, events, 3, timeout_ms), r;

	if (n < 0)
		return -errno;
	hop->poked = false;
	if (hop->stream) {
		stream_pump_out(hop->stream);
		r = stream_pump_in(hop->stream);
		return r < 0 ? r : n > 0;
	}
	for (int i = 0; i < n; i++)
		if (events[i].data.u32 == 1)
			read_farewell(hop);
	return n > 0;
}

int hop_arm(struct hop *hop, bool deliveries, uint32_t want_space)
{
	int r;

	if (hop->stream) {
		stream_pump_out(hop->stream);
		r = stream_resume_in(hop->stream);
		if (r < 0)
			return r;
		stream_arm(hop->stream);
		r = ring_reader_ready(&hop->in, FRAME_HEADER_SIZE);
		if (r == 0 && deliveries)
			r = ring_reader_ready(&hop->deliveries, FRAME_HEADER_SIZE);
		return r > 0 ? 1 : r;
	}
	r = ring_reader_arm(&hop->in, FRAME_HEADER_SIZE);
	if (r == 0 && deliveries)
		r = ring_reader_arm(&hop->deliveries, FRAME_HEADER_SIZE);
	if (r == 0 && want_space)
		r = hop_arm_space(hop, want_space);
	return r;
}

int hop_arm_space(struct hop *hop, uint32_t want_space)
{
	return hop->stream ? 0 : ring_writer_arm(&hop->out, want_space);
}
