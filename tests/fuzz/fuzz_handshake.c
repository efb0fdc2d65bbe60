/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Connections of programs from their first byte on: sessions, and those that become streams (HELLO, then OPEN
 * or ACCEPT, then plain bytes). A record of the input is { u8 what and who, u8 length, payload }; most kinds
 * of records say something that the protocol allows, one says any bytes. One more program has a session and
 * is told of the streams that come in. When all have hung up nothing may be left: no program, no stream, no
 * channel, no descriptor.
 */

#include <sys/socket.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/switch/channel.h"
#include "base/log.h"
#include "daemon/local/session.h"
#include "daemon/local/streams.h"
#include "tests/descriptors.h"
#include "tests/fuzz/fuzz.h"

#define PROGRAMS 4
#define LISTENER PROGRAMS
#define TURNS	 200 /* more than anything needs to come to its end */

struct world {
	struct event_base *base;
	struct switchboard board;
	struct streams *streams;
	struct hop unconnected; /* as the link with a domain that doesn't answer */
	struct hop *listener;
	unsigned sessions;
	int fds[PROGRAMS + 1]; /* the programs' ends */
	uint8_t heard[4 * FRAME_PAYLOAD_MAX];
	uint64_t token; /* of the last INCOMING */
};

static int on_request(void *userdata, struct hop *program, const struct frame_header *header,
		      const uint8_t *payload)
{
	return session_reply(program, header->channel, 0, "", 0) < 0 ? -ENOBUFS : 0;
}

static int on_open(void *userdata, struct hop *program, struct channel *channel,
		   const struct frame_open *open)
{
	channel_refuse(channel, ENOENT);
	return 0;
}

static void on_stream(void *userdata, struct hop *program, int fd, const struct frame_header *header,
		      const uint8_t *payload)
{
	struct world *world = userdata;
	struct frame_identity identity = {.domid = 5};

	if (header->type == FRAME_OPEN)
		streams_connect(world->streams, fd, session_takes_socket(program), &identity, payload,
				header->length);
	else
		streams_fetch(world->streams, fd, session_takes_socket(program), payload, header->length);
}

static void on_gone(void *userdata, struct hop *program)
{
	struct world *world = userdata;

	streams_forget_session(world->streams, program);
	if (program == world->listener)
		world->listener = NULL;
	world->sessions--;
	session_free(program);
}

static const struct session_callbacks session_callbacks = {
	.request = on_request, .open = on_open, .stream = on_stream, .gone = on_gone};

static int route(void *userdata, struct channel *channel, const struct frame_open *open)
{
	struct world *world = userdata;
	char first = open->name.size ? open->name.data[0] : 'n';
	int r = -ENOENT;

	if (first == 'w')
		r = channel_accept(channel, &world->unconnected, "inbox");
	else if (first != 'n' && world->listener)
		r = streams_incoming(world->streams, channel, "inbox", world->listener);
	if (r < 0)
		channel_refuse(channel, -r);
	return 0;
}

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static void no_failure(void *owner, int error, const char *why)
{
}

static const struct hop_callbacks hop_callbacks = {.control = no_control, .failed = no_failure};

static struct hop *connect_program(struct world *world, unsigned who)
{
	static const struct self self = {.domid = 5};
	struct session_options options = {.self = &self,
					  .ring_size = 65536,
					  .channels_max = 16,
					  .greeting_ms = 3600000,
					  .can_share_memory = true};
	struct hop *program;
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	check(session_new(&program, &world->board, pair[1], &options, &session_callbacks, world) == 0);
	world->fds[who] = pair[0];
	world->sessions++;
	return program;
}

static void turn(struct world *world)
{
	event_base_loop(world->base, EVLOOP_NONBLOCK);
	switch_pass(&world->board);
}

static void hang_up(struct world *world, unsigned who)
{
	if (world->fds[who] >= 0)
		close(world->fds[who]);
	world->fds[who] = -1;
}

static void say(struct world *world, unsigned who, const uint8_t *bytes, size_t size)
{
	if (world->fds[who] >= 0 && send(world->fds[who], bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return; /* it was cut off, or nobody reads */
}

static size_t put_frame(uint8_t *at, uint8_t type, uint32_t length)
{
	return frame_wrap(at, &(struct frame_header){.type = type, .length = length});
}

static size_t put_hello(uint8_t *at, uint32_t flags)
{
	struct frame_hello_local hello = {.major = PROTOCOL_MAJOR, .minor = PROTOCOL_MINOR, .flags = flags};

	return put_frame(at, FRAME_HELLO, frame_hello_local_encode(&hello, at + FRAME_HEADER_SIZE));
}

/* What the listener is told. */
static void learn_token(struct world *world)
{
	ssize_t got = world->fds[LISTENER] < 0
			      ? 0
			      : recv(world->fds[LISTENER], world->heard, sizeof(world->heard), MSG_DONTWAIT);
	size_t size = got < 0 ? 0 : (size_t)got;
	struct frame_incoming incoming;
	struct frame_header header;

	for (size_t at = 0; size - at >= FRAME_HEADER_SIZE; at += frame_size(header.length)) {
		if (frame_header_decode(world->heard + at, &header) < 0 ||
		    frame_size(header.length) > size - at)
			break;
		if (header.type == FRAME_INCOMING &&
		    frame_incoming_decode(world->heard + at + FRAME_HEADER_SIZE, header.length, &incoming) ==
			    0)
			world->token = incoming.token;
	}
}

/* A handshake in one piece, and what follows it. */
static void call(struct world *world, unsigned who, const uint8_t *address, size_t size)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {(const char *)address, size}};
	uint8_t bytes[1024] = {0};
	size_t used = put_hello(bytes, HELLO_STREAM);

	used += put_frame(bytes + used, FRAME_OPEN,
			  frame_open_encode(&open, bytes + used + FRAME_HEADER_SIZE));
	say(world, who, bytes, used + 1);
}

static void fetch(struct world *world, unsigned who, uint8_t change)
{
	uint8_t bytes[256] = {0};
	size_t used = put_hello(bytes, HELLO_STREAM);

	learn_token(world);
	used += put_frame(bytes + used, FRAME_ACCEPT,
			  frame_u64_encode(world->token ^ change, bytes + used + FRAME_HEADER_SIZE));
	say(world, who, bytes, used + 1);
}

static void say_with_descriptor(struct world *world, unsigned who, const uint8_t *bytes, size_t size)
{
	/* not the socket itself, which would keep it open while nobody reads */
	if (world->fds[who] >= 0 && size > 0)
		send_descriptor(world->fds[who], bytes, size, STDIN_FILENO, MSG_DONTWAIT);
}

static void act(struct world *world, unsigned what, unsigned who, const uint8_t *payload, size_t size)
{
	uint8_t bytes[FRAME_HEADER_SIZE + 256 + 8];

	switch (what) {
	case 0:
		say(world, who, payload, size);
		break;
	case 1:
		if (size) {
			memcpy(bytes + FRAME_HEADER_SIZE, payload + 1, size - 1);
			say(world, who, bytes, put_frame(bytes, payload[0], (uint32_t)size - 1));
		}
		break;
	case 2:
		say(world, who, bytes, put_hello(bytes, size ? payload[0] : HELLO_STREAM));
		break;
	case 3:
		call(world, who, payload, size);
		break;
	case 4:
		fetch(world, who, size ? payload[0] : 0);
		break;
	case 5:
		say_with_descriptor(world, who, payload, size);
		break;
	case 6:
		if (world->fds[who] >= 0 && (!size || payload[0] & 1))
			shutdown(world->fds[who], SHUT_WR);
		else if (world->fds[who] >= 0)
			while (recv(world->fds[who], world->heard, sizeof(world->heard), MSG_DONTWAIT) > 0)
				;
		break;
	default:
		hang_up(world, who);
		if (!size || payload[0] & 1)
			connect_program(world, who);
	}
}

static bool has_streams(const struct world *world)
{
	return streams_next(world->streams, &(struct stream_info){.number = 0});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *world = calloc(1, sizeof(*world));
	uint8_t hello[64];
	int descriptor = next_descriptor();
	struct fuzz_record record;

	log_set_level(LOG_LEVEL_ERROR);
	check(world && (world->base = event_base_new()));
	check(switch_init(&world->board, world->base, 1u << 20) == 0);
	check((world->streams = streams_new(&world->board, route, world)));
	check(hop_init(&world->unconnected, &world->board, HOP_LINK, &hop_callbacks, world, 0, 16) == 0);
	for (unsigned i = 0; i < PROGRAMS; i++)
		connect_program(world, i);
	world->listener = connect_program(world, LISTENER);
	say(world, LISTENER, hello, put_hello(hello, 0));
	turn(world);
	while (next_record(&record, &data, &size)) {
		unsigned who = (record.what >> 3) & 7;

		act(world, record.what & 7, who <= PROGRAMS ? who : 0, record.payload, record.size);
		if (!(record.what & 0x80))
			turn(world);
		if (record.what & 0x40)
			turn(world);
	}
	for (unsigned i = 0; i <= PROGRAMS; i++)
		hang_up(world, i);
	for (unsigned i = 0; i < TURNS && (world->sessions || has_streams(world)); i++)
		turn(world);
	check(!world->sessions && !has_streams(world));
	hop_reset_channels(&world->unconnected, EHOSTDOWN);
	switch_pass(&world->board);
	check(!world->unconnected.channels.count);
	streams_free(world->streams);
	hop_cleanup(&world->unconnected);
	switch_cleanup(&world->board);
	event_base_free(world->base);
	free(world);
	check(next_descriptor() == descriptor);
	return 0;
}
