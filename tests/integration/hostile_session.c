/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/hostile_program.h"
#include "wire/doorbell.h"
#include "wire/frame_ring.h"
#include "wire/local_ring.h"

#define SOCKET_BUFFER (4u * FRAME_PAYLOAD_MAX)
#define GREETING_S    5
#define ROOM	      1024u

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int session_connect(const char *path)
{
	const struct timeval patience = {.tv_sec = GREETING_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	/* For connect() as well, which waits while others are before us. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int receive_welcome(struct session *session, struct frame_welcome *welcome)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];
	struct iovec piece = {frame, sizeof(frame)};
	union {
		char space[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct frame_header header;
	struct cmsghdr *cmsg;
	ssize_t size = recvmsg(session->fd, &message, MSG_CMSG_CLOEXEC);

	if (size < (ssize_t)FRAME_HEADER_SIZE || frame_header_decode(frame, &header) < 0 ||
	    header.type != FRAME_WELCOME)
		return -EPROTO;
	cmsg = CMSG_FIRSTHDR(&message);
	if (cmsg && cmsg->cmsg_len == CMSG_LEN(3 * sizeof(int))) {
		int fds[3];

		memcpy(fds, CMSG_DATA(cmsg), sizeof(fds));
		session->memory_fd = fds[0];
		session->wake_daemon = fds[1];
		session->wake_self = fds[2];
	}
	return frame_welcome_decode(frame + FRAME_HEADER_SIZE, header.length, welcome);
}

static int map_rings(struct session *session, const struct frame_welcome *welcome)
{
	struct ring_view out, in, deliveries;
	struct stat status;

	if (!(welcome->flags & HELLO_SHARED_MEMORY) || fstat(session->memory_fd, &status) < 0)
		return -EPROTO;
	session->memory_size = (size_t)status.st_size;
	session->memory =
		mmap(NULL, session->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, session->memory_fd, 0);
	if (session->memory == MAP_FAILED) {
		session->memory = NULL;
		return -ENOMEM;
	}
	fcntl(session->memory_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	out = local_ring_view(session->memory, &welcome->rings[LOCAL_RING_OUT]);
	in = local_ring_view(session->memory, &welcome->rings[LOCAL_RING_IN]);
	deliveries = local_ring_view(session->memory, &welcome->rings[LOCAL_RING_DELIVERIES]);
	ring_writer_init(&session->out, &out, false);
	ring_reader_init(&session->in, &in, false);
	ring_reader_init(&session->deliveries, &deliveries, false);
	return 0;
}

int session_open(struct attacker *attacker, struct session *session, bool is_shared, bool is_mux)
{
	uint8_t hello[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];
	uint32_t size = whole_hello(hello, (is_shared ? HELLO_SHARED_MEMORY : 0) | (is_mux ? HELLO_MUX : 0));
	struct frame_welcome welcome;
	int r;

	memset(session, 0, sizeof(*session));
	session->memory_fd = session->wake_daemon = session->wake_self = -1;
	session->is_shared = is_shared;
	session->is_mux = is_mux;
	session->limit = CHANNEL_INITIAL_LIMIT;
	session->fd = session_connect(attacker->path);
	if (session->fd < 0)
		return -ECONNREFUSED;
	r = send(session->fd, hello, size, MSG_NOSIGNAL) < 0 ? -errno : 0;
	if (r == 0)
		r = receive_welcome(session, &welcome);
	if (r == 0 && is_shared)
		r = map_rings(session, &welcome);
	if (r == 0 && !is_shared) {
		session->input = malloc(SOCKET_BUFFER);
		session->output = malloc(SOCKET_BUFFER);
		r = session->input && session->output ? 0 : -ENOMEM;
	}
	if (r < 0)
		session_close(session);
	else
		attacker->me = welcome.domid;
	return r;
}

void session_close(struct session *session)
{
	const int fds[] = {session->fd, session->memory_fd, session->wake_daemon, session->wake_self};

	if (session->fd < 0)
		return;
	if (session->memory)
		munmap(session->memory, session->memory_size);
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(session->input);
	free(session->output);
	session->input = session->output = NULL;
	session->memory = NULL;
	session->fd = -1;
}

/* --- frames ----------------------------------------------------------------------------------- */

/* As much as the socket takes now. */
static void flush_output(struct attacker *attacker, struct session *session)
{
	ssize_t size;

	if (!session->output_size)
		return;
	size = send(session->fd, session->output + session->output_first, session->output_size,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	if (size <= 0)
		return;
	session->output_first += (size_t)size;
	session->output_size -= (size_t)size;
	attacker->taken += (uint64_t)size;
	if (!session->output_size)
		session->output_first = 0;
}

uint32_t whole_hello(uint8_t *out, uint32_t flags)
{
	const struct frame_hello_local hello = {.major = PROTOCOL_MAJOR, .flags = flags};
	struct frame_header header = {.type = FRAME_HELLO};

	header.length = frame_hello_local_encode(&hello, out + FRAME_HEADER_SIZE);
	return frame_wrap(out, &header);
}

uint32_t whole_open(uint8_t *out, uint8_t kind, const char *address)
{
	const struct frame_open open = {.kind = kind, .name = frame_text_of(address)};
	struct frame_header header = {.type = FRAME_OPEN};

	header.length = frame_open_encode(&open, out + FRAME_HEADER_SIZE);
	return frame_wrap(out, &header);
}

bool session_put_open(struct attacker *attacker, struct session *session, uint32_t number,
		      const char *address)
{
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = frame_text_of(address)};
	uint8_t payload[FRAME_SMALL_MAX];

	if (session->link) /* each is of another user, as a domain has it; of a program the daemon knows */
		open.identity = (struct frame_identity){0, (uint32_t)attacker->frames, 0, 1};
	return session_put(attacker, session, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
}

bool session_put_reset(struct attacker *attacker, struct session *session, uint32_t number, uint32_t error,
		       uint64_t consumed)
{
	const struct frame_reset reset = {.error = error, .consumed = consumed, .unsure = consumed};
	uint8_t payload[FRAME_SMALL_MAX];

	return session_put(attacker, session, FRAME_RESET, number, payload,
			   frame_reset_encode(&reset, payload));
}

bool session_put_number(struct attacker *attacker, struct session *session, uint8_t type, uint32_t number,
			uint64_t value)
{
	uint8_t payload[8];

	return session_put(attacker, session, type, number, payload, frame_u64_encode(value, payload));
}

bool session_put(struct attacker *attacker, struct session *session, uint8_t type, uint32_t channel,
		 const void *payload, uint32_t length)
{
	const struct frame_header header = {.length = length, .type = type, .channel = channel};
	uint32_t size = frame_size(length);

	if (session->link) {
		if (!session->put(session->link, type, channel, payload, length))
			return false;
	} else if (session->is_shared) {
		if (ring_writer_space(&session->out, size) < (int)size)
			return false;
		frame_put(&session->out, &header, payload);
		session->is_noted |= ring_writer_publish(&session->out);
	} else {
		uint8_t *at;

		if (session->output_first + session->output_size + size > SOCKET_BUFFER)
			flush_output(attacker, session);
		if (session->output_first + session->output_size + size > SOCKET_BUFFER)
			return false;
		at = session->output + session->output_first + session->output_size;
		if (length)
			memcpy(at + FRAME_HEADER_SIZE, payload, length);
		session->output_size += frame_wrap(at, &header);
	}
	session->put_bytes += size;
	attacker->frames++;
	attacker->sent[type]++;
	attacker->bytes += size;
	return true;
}

uint64_t session_limit_told(const struct frame_header *header, const uint8_t *payload, uint64_t limit)
{
	struct frame_opened opened = {0};
	struct frame_credit credit = {0};
	uint64_t told = 0;

	if (header->type == FRAME_OPENED && frame_opened_decode(payload, header->length, &opened) == 0)
		told = opened.limit;
	if (header->type == FRAME_CREDIT && frame_credit_decode(payload, header->length, &credit) == 0)
		told = credit.limit;
	return told > limit ? told : limit;
}

bool session_has_room(struct session *session)
{
	if (session->is_shared)
		return ring_writer_space(&session->out, ROOM) >= (int)ROOM;
	return session->output_first + session->output_size + ROOM <= SOCKET_BUFFER;
}

static int take_from_socket(struct session *session, struct frame_header *header, uint8_t *payload)
{
	ssize_t got = recv(session->fd, session->input + session->input_size,
			   SOCKET_BUFFER - session->input_size, MSG_DONTWAIT);
	uint32_t size;

	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR && session->input_size < SOCKET_BUFFER))
		return -ECONNRESET;
	if (got > 0)
		session->input_size += (size_t)got;
	if (session->input_size < FRAME_HEADER_SIZE)
		return 0;
	if (frame_header_decode(session->input, header) < 0)
		return -EPROTO;
	size = frame_size(header->length);
	if (session->input_size < size)
		return 0;
	memcpy(payload, session->input + FRAME_HEADER_SIZE, header->length);
	session->input_size -= size;
	memmove(session->input, session->input + size, session->input_size);
	return 1;
}

int session_take(struct session *session, struct frame_header *header, uint8_t *payload)
{
	uint8_t encoded[FRAME_HEADER_SIZE];

	if (!session->is_shared)
		return take_from_socket(session, header, payload);
	if (ring_reader_ready(&session->in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
		return 0;
	ring_reader_copy(&session->in, 0, encoded, FRAME_HEADER_SIZE);
	if (frame_header_decode(encoded, header) < 0)
		return -EPROTO;
	ring_reader_copy(&session->in, FRAME_HEADER_SIZE, payload, header->length);
	ring_reader_consume(&session->in, frame_size(header->length));
	session->is_noted |= ring_reader_release(&session->in);
	return 1;
}

uint32_t session_release_deliveries(struct session *session)
{
	int ready = session->is_shared ? ring_reader_ready(&session->deliveries, UINT32_MAX) : 0;

	if (ready <= 0)
		return 0;
	ring_reader_consume(&session->deliveries, (uint32_t)ready);
	session->is_noted |= ring_reader_release(&session->deliveries);
	return (uint32_t)ready;
}

int session_notify(struct attacker *attacker, struct session *session)
{
	uint8_t byte;
	int space, r;

	if (!session->is_shared) {
		flush_output(attacker, session);
		return 0;
	}
	/* What the daemon has taken since. */
	space = ring_writer_space(&session->out, UINT32_MAX);
	if (space >= 0) {
		uint64_t unread = session->out.ring.size - (uint32_t)space;

		attacker->taken += session->put_bytes + session->unread - unread;
		session->unread = (uint32_t)unread;
		session->put_bytes = 0;
	}
	r = session->is_noted ? doorbell_ring(session->wake_daemon) : 0;
	if (r < 0 && r != -EAGAIN)
		return r;
	session->is_noted = false;
	if (space < 0 || recv(session->fd, &byte, 1, MSG_DONTWAIT) >= 0 ||
	    (errno != EAGAIN && errno != EINTR))
		return -ECONNRESET;
	return 0;
}
