/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The session that carries a connection's streams (xenmsg-stream.h): what its daemon says, and what the
 * program does. Each record of the input is { u8 what, u8 length, payload }. connect(2) is replaced, so that
 * the session ends here. Whatever the daemon says and the program does: bytes come in order, no callback
 * comes behind xenmsg_stream_close(), each stream is told of its end, once, xenmsg_process() comes to rest,
 * and nothing is left.
 */

#include <poll.h>
#include <sys/socket.h>

#include "xenmsg-stream.h"
#include "tests/fuzz/fuzz.h"
#include "wire/frame.h"

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size);

#define USERS	 8u
#define CHANNELS 256u
#define ROUNDS	 10000u

enum event { OPENED, INCOMING, BYTES, ENDED, ROOM, BROKEN };

struct user {
	struct xenmsg_stream *stream;
	uint64_t got;
	size_t take;
	uint8_t when, victim, deed; /* what is done in the next callback of this kind */
	bool opened, ended, broken, wants_room;
	bool ended_ours; /* by xenmsg_stream_end() */
};

static struct {
	int session, messages; /* the daemon's ends; -1: not there yet */
	uint32_t request;      /* the last one's number */
	bool wild;	       /* it has said what no stream is made of */
	uint64_t sent[CHANNELS], heard[CHANNELS];
	uint8_t input[1u << 20];
	size_t input_size;
} daemon_end;

static struct user users[USERS];
static struct xenmsg *conn;

/* ---- the daemon ------------------------------------------------------------------------------ */

static void says(const void *bytes, size_t size)
{
	ssize_t n = send(daemon_end.session, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n != (ssize_t)size) /* what follows would be out of place */
		shutdown(daemon_end.session, SHUT_RDWR);
}

static void says_frame(uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	uint8_t bytes[FRAME_HEADER_SIZE + 65536 + 8];

	if (length)
		memcpy(bytes + FRAME_HEADER_SIZE, payload, length);
	says(bytes,
	     frame_wrap(bytes, &(struct frame_header){.type = type, .channel = channel, .length = length}));
}

/* The same with a frame of these fields: SAYS(CREDIT, credit, channel, .limit = 100). */
#define SAYS(TYPE, name, channel, ...)                                                                       \
	do {                                                                                                 \
		uint8_t said[FRAME_SMALL_MAX];                                                               \
		says_frame(FRAME_##TYPE, channel, said,                                                      \
			   frame_##name##_encode(&(struct frame_##name){__VA_ARGS__}, said));                \
	} while (0)

/* The first session is that for messages, in which nothing is said. */
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && dup2(pair[0], fd) == fd);
	close(pair[0]);
	daemon_end.messages = daemon_end.session;
	daemon_end.session = pair[1];
	SAYS(WELCOME, welcome, 0, .major = PROTOCOL_MAJOR, .domid = 7, .max_message = 65536);
	return 0;
}

/* Bytes that tell their place. */
static void says_data(uint8_t channel, uint32_t size)
{
	uint8_t bytes[65536];

	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)((daemon_end.sent[channel] + i) % 251);
	daemon_end.sent[channel] += size;
	says_frame(FRAME_DATA, channel, bytes, size);
}

static void hears_frame(const struct frame_header *header, bool answers)
{
	uint8_t channel = (uint8_t)header->channel;

	if (header->type == FRAME_BIND)
		daemon_end.request = header->channel;
	if (header->type == FRAME_DATA)
		daemon_end.heard[channel] += header->length;
	if (header->type == FRAME_OPEN)
		daemon_end.heard[channel] = daemon_end.sent[channel] = 0;
	if (header->type == FRAME_RESET && answers)
		SAYS(RESET, reset, header->channel, .error = ECONNRESET);
}

/* Reads what the program has sent, all of it whole frames in the end. */
static void hears(bool answers)
{
	struct frame_header header;
	size_t at = 0;
	ssize_t n;

	while ((n = recv(daemon_end.session, daemon_end.input + daemon_end.input_size,
			 sizeof(daemon_end.input) - daemon_end.input_size, MSG_DONTWAIT)) > 0)
		daemon_end.input_size += (size_t)n;
	while (daemon_end.input_size - at >= FRAME_HEADER_SIZE) {
		check(frame_header_decode(daemon_end.input + at, &header) == 0);
		if (daemon_end.input_size - at < frame_size(header.length))
			break;
		hears_frame(&header, answers);
		at += frame_size(header.length);
	}
	daemon_end.input_size -= at;
	memmove(daemon_end.input, daemon_end.input + at, daemon_end.input_size);
}

static void daemon_acts(uint8_t what, const uint8_t *payload, size_t size)
{
	uint8_t channel = size > 0 ? payload[0] : 0, bytes[8];
	uint64_t consumed;
	uint32_t value = size > 1 ? payload[1] : 0;

	switch (what & 7) {
	case 0:
		daemon_end.wild = true;
		says(payload, size);
		break;
	case 1:
		daemon_end.wild = true;
		if (size >= 2)
			says_frame(channel, value, payload + 2, (uint32_t)size - 2);
		break;
	case 2:
		daemon_end.sent[channel] = daemon_end.heard[channel] = 0;
		SAYS(OPEN, open, channel, .kind = CHANNEL_STREAM, .name = {"inbox", 5});
		break;
	case 3:
		SAYS(OPENED, opened, channel, .limit = value * value * 16);
		break;
	case 4:
		consumed = daemon_end.heard[channel] + (what >> 7);
		SAYS(CREDIT, credit, channel, .consumed = consumed, .limit = consumed + value * value * 16);
		break;
	case 5:
		says_frame(FRAME_FIN, channel, bytes,
			   frame_u64_encode(daemon_end.sent[channel] + (what >> 7), bytes));
		break;
	case 6:
		says_data(channel, value * (what & 0x80 ? 257 : 1));
		break;
	case 7:
		SAYS(RESET, reset, channel, .error = value);
		break;
	}
}

/* ---- the program ----------------------------------------------------------------------------- */

static void close_user(struct user *user)
{
	struct xenmsg_stream *stream = user->stream;

	if (!stream)
		return;
	*user = (struct user){.take = SIZE_MAX, .when = 255};
	xenmsg_stream_close(stream);
}

static void write_some(struct user *user, size_t size)
{
	static const uint8_t zeros[65536];
	ssize_t written;

	if (!user->stream)
		return;
	written = xenmsg_stream_write(user->stream, zeros, size);
	check(written == -EPIPE || (written >= 0 && (size_t)written <= size));
	user->wants_room |= written >= 0 && (size_t)written < size;
}

static void do_deed(uint8_t deed, struct user *user)
{
	switch (deed & 7) {
	case 0:
	case 1:
		close_user(user);
		break;
	case 2:
		if (user->stream)
			xenmsg_stream_end(user->stream);
		user->ended_ours |= user->opened;
		break;
	case 3:
	case 4:
		write_some(user, (size_t)deed * 250);
		break;
	case 5:
		user->take = deed >> 3;
		break;
	case 6:
		user->take = SIZE_MAX;
		break;
	}
}

static void hear_of(struct user *user, enum event event)
{
	check(user->stream && !user->broken);
	if (user->when != event)
		return;
	user->when = 255;
	do_deed(user->deed, &users[user->victim % USERS]);
}

static void on_opened(void *userdata, struct xenmsg_stream *stream)
{
	struct user *user = userdata;

	check(!user->opened);
	user->opened = true;
	hear_of(user, OPENED);
}

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct user *user = userdata;
	size_t taken = size < user->take ? size : user->take;
	uint64_t at = user->got;

	check(user->opened && !user->ended && size > 0);
	for (size_t i = 0; i < taken && !daemon_end.wild; i++)
		check(((const uint8_t *)data)[i] == (at + i) % 251);
	user->got += taken;
	hear_of(user, BYTES);
	return taken;
}

static void on_ended(void *userdata, struct xenmsg_stream *stream)
{
	struct user *user = userdata;

	check(user->opened && !user->ended);
	user->ended = true;
	hear_of(user, ENDED);
}

static void on_room(void *userdata, struct xenmsg_stream *stream)
{
	struct user *user = userdata;

	check(user->opened && user->wants_room);
	user->wants_room = false;
	hear_of(user, ROOM);
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct user *user = userdata;

	check(error < 0);
	hear_of(user, BROKEN);
	if (user->stream)
		user->broken = true;
}

static const struct xenmsg_stream_callbacks callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.opened = on_opened,
	.data = on_data,
	.ended = on_ended,
	.room = on_room,
	.broken = on_broken,
};

static struct user *idle_user(void)
{
	for (unsigned i = 0; i < USERS; i++)
		if (!users[i].stream)
			return &users[i];
	return NULL;
}

static void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer)
{
	struct user *user = idle_user();

	if (!user) {
		xenmsg_stream_close(stream);
		return;
	}
	user->stream = stream;
	user->opened = true;
	xenmsg_stream_set_callbacks(stream, &callbacks, user);
	hear_of(user, INCOMING);
}

static void program_acts(uint8_t what, const uint8_t *payload, size_t size)
{
	struct user *user = &users[size > 0 ? payload[0] % USERS : 0], *idle = idle_user();
	uint8_t value = size > 1 ? payload[1] : 0;
	int r;

	switch (what & 7) {
	case 0:
		if (idle)
			r = xenmsg_stream_connect(conn, "5:inbox", NULL, &callbacks, idle, &idle->stream);
		else
			r = 0;
		check(r == 0 || r == -ENOTCONN || r == -EPROTO);
		break;
	case 1:
		if (user->stream)
			xenmsg_stream_resume(user->stream);
		break;
	case 2: /* in a callback */
		user->when = value % 8;
		user->victim = size > 2 ? payload[2] : 0;
		user->deed = size > 3 ? payload[3] : 0;
		break;
	case 3:
		write_some(user, (size_t)value * (what & 0x80 ? 257 : 1));
		break;
	case 4: /* another one takes over */
		if (user->stream && idle) {
			*idle = *user;
			idle->ended = idle->broken = false;
			*user = (struct user){.take = SIZE_MAX, .when = 255};
			xenmsg_stream_set_callbacks(idle->stream, &callbacks, idle);
			xenmsg_stream_resume(idle->stream);
		}
		break;
	default:
		do_deed(value, user);
	}
}

/* Lets the program do what there is to do; it comes to rest if the daemon does nothing. */
static int process(void)
{
	struct pollfd wait = {.fd = xenmsg_fd(conn), .events = POLLIN};
	unsigned rounds = 0;
	int r = 0;

	while (r >= 0 && poll(&wait, 1, 0) > 0) {
		check(rounds++ < ROUNDS);
		r = xenmsg_process(conn);
	}
	check(r >= 0 || r == -ENOTCONN || r == -EPROTO);
	return r;
}

/* The session is over: all hear of it, behind what came before. */
static void end(bool free_first)
{
	shutdown(daemon_end.session, SHUT_RDWR);
	check(process() < 0 || xenmsg_process(conn) < 0);
	for (unsigned i = 0; i < USERS && !free_first; i++) {
		users[i].take = SIZE_MAX;
		users[i].when = 255;
		if (users[i].stream)
			xenmsg_stream_resume(users[i].stream);
		if (users[i].stream)
			check(users[i].broken || (users[i].ended && users[i].ended_ours));
	}
	if (free_first)
		xenmsg_close(conn);
	for (unsigned i = 0; i < USERS; i++)
		close_user(&users[i]);
	if (!free_first)
		xenmsg_close(conn);
	close(daemon_end.session);
	close(daemon_end.messages);
}

/* The session begins with an endpoint, to which the daemon agrees. */
static void begin_streams(void)
{
	check(xenmsg_begin_stream_listen(conn, "inbox", NULL, on_incoming, NULL, NULL, NULL) == 0);
	check(process() >= 0 && daemon_end.messages >= 0);
	hears(false);
	SAYS(REPLY, reply, daemon_end.request, .error = 0);
	check(process() >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int descriptor = next_descriptor();
	bool free_first = size % 2;
	struct fuzz_record record;

	daemon_end.wild = false;
	daemon_end.input_size = 0;
	memset(daemon_end.sent, 0, sizeof(daemon_end.sent));
	memset(daemon_end.heard, 0, sizeof(daemon_end.heard));
	for (unsigned i = 0; i < USERS; i++)
		users[i] = (struct user){.take = SIZE_MAX, .when = 255};
	setenv("XENMSG_NO_SHARED_MEMORY", "1", 1);
	daemon_end.session = -1;
	check(xenmsg_open(&conn, "daemon", NULL) == 0);
	begin_streams();
	while (next_record(&record, &data, &size)) {
		if (record.what & 8)
			program_acts(record.what, record.payload, record.size);
		else
			daemon_acts(record.what, record.payload, record.size);
		if (!(record.what & 0x10))
			process();
		if (!(record.what & 0x20))
			hears(!(record.what & 0x40));
	}
	end(free_first);
	check(next_descriptor() == descriptor);
	return 0;
}
