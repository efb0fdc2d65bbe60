/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a daemon says to libxenmsg: frames of the session, and the answers in the handshake of a stream. Each
 * record of the input is { u8 what, u8 length, payload }: the daemon says something, or the program calls the
 * library. connect(2) is replaced, so each connection of the library ends here. Whatever the daemon says,
 * every send has one outcome and nothing is left: no descriptor, no memory.
 */

#include <sys/socket.h>

#include "tests/fuzz/fuzz.h"
#include "wire/bytes.h"
#include "wire/frame.h"
#include "xenmsg.h"

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size);

#define MAX_MESSAGE 65536u
#define STREAMS_MAX 64
/* The number of the first request; then come a watch, 2, and a subscription, 3. The watch is a call on
 * channel 0, so the first channel that an input begins is 2. */
#define INBOX_BIND 1

static struct {
	uint8_t answer[4096]; /* to the next connection */
	size_t answer_size;
	bool goes_on;		  /* it is the session's */
	int session;		  /* the daemon's end of it */
	int streams[STREAMS_MAX]; /* of connections for streams */
	unsigned stream_count;
	unsigned outstanding;
} daemon_end;

static void close_streams(void)
{
	while (daemon_end.stream_count)
		close(daemon_end.streams[--daemon_end.stream_count]);
}

/* All that the daemon has to say on a connection lies there from the first moment. */
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && dup2(pair[0], fd) == fd);
	check(send(pair[1], daemon_end.answer, daemon_end.answer_size, MSG_NOSIGNAL) ==
	      (ssize_t)daemon_end.answer_size);
	close(pair[0]);
	if (daemon_end.goes_on) {
		daemon_end.session = pair[1];
		return 0;
	}
	shutdown(pair[1], SHUT_WR);
	if (daemon_end.stream_count == STREAMS_MAX)
		close_streams();
	daemon_end.streams[daemon_end.stream_count++] = pair[1];
	return 0;
}

static size_t put_frame(uint8_t *at, uint8_t type, uint8_t flags, uint32_t channel, uint32_t length)
{
	return frame_wrap(at, &(struct frame_header){
				      .type = type, .flags = flags, .channel = channel, .length = length});
}

static size_t put_welcome(uint8_t *at)
{
	struct frame_welcome welcome = {
		.major = PROTOCOL_MAJOR, .minor = PROTOCOL_MINOR, .domid = 7, .max_message = MAX_MESSAGE};

	return put_frame(at, FRAME_WELCOME, 0, 0, frame_welcome_encode(&welcome, at + FRAME_HEADER_SIZE));
}

static size_t put_reply(uint8_t *at, uint32_t number)
{
	struct frame_reply reply = {.body = {"", 0}};

	return put_frame(at, FRAME_REPLY, 0, number, frame_reply_encode(&reply, at + FRAME_HEADER_SIZE));
}

static void answer_with(const void *bytes, size_t size)
{
	memcpy(daemon_end.answer, bytes, size);
	daemon_end.answer_size = size;
	daemon_end.goes_on = false;
}

static void daemon_says(const uint8_t *bytes, size_t size)
{
	if (send(daemon_end.session, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return; /* the library doesn't read any more */
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	check(result->error <= 0 && daemon_end.outstanding--);
}

static void on_call_done(void *userdata, const struct xenmsg_result *result)
{
	on_done(userdata, result);
	check(result->reply ? !result->error || result->error == -EREMOTEIO : result->error);
	xenmsg_message_free(result->reply);
}

/* Some are kept until the next one, so that they can be withdrawn. */
static struct xenmsg_message *kept;

static void on_withdrawn(void *userdata, struct xenmsg_message *message)
{
	check(message == kept && !xenmsg_message_wants_reply(message));
}

static void drop_kept(void)
{
	xenmsg_message_free(kept);
	kept = NULL;
}

static void on_event(void *userdata, const struct xenmsg_event *event)
{
	check(event->kind >= XENMSG_DOMAIN_UP && event->kind <= XENMSG_LISTED);
	check(strlen(event->name) + strlen(event->domain_name) + strlen(event->host) <= FRAME_PAYLOAD_MAX);
}

static void watch_and_subscribe(struct xenmsg *conn)
{
	daemon_end.outstanding += 2;
	check(xenmsg_begin_watch(conn, "*", NULL, on_event, on_done, NULL, NULL) == INBOX_BIND + 1);
	check(xenmsg_begin_subscribe(conn, "5:news", NULL, NULL, on_done, NULL, NULL) >= 0);
}

/* What a message says beside its payload, whose bytes are all read. */
static void read_properties(struct xenmsg_message *message)
{
	const struct xenmsg_notice *notice = xenmsg_message_notice(message);

	check(strlen(xenmsg_message_endpoint(message)) <= 63);
	check(strlen(xenmsg_peer_domain_name(xenmsg_message_sender(message))) <= 255);
	check(strlen(xenmsg_message_trace(message)) <= 255 && strlen(xenmsg_message_key(message)) <= 255);
	check(xenmsg_message_time_left(message) >= -1);
	check(!notice || (notice->kind && notice->error <= 0 && !xenmsg_message_size(message)));
}

static void use(struct xenmsg_message *message, uint8_t how)
{
	/* Every byte of it can be read. */
	volatile uint8_t sum = 0;
	const uint8_t *bytes = xenmsg_message_data(message);

	for (size_t i = 0; i < xenmsg_message_size(message); i++)
		sum = (uint8_t)(sum + bytes[i]);
	read_properties(message);
	if (xenmsg_message_wants_reply(message) && (how & 1))
		check(xenmsg_reply(message, "yes", 3) <= 0);
	drop_kept();
	if ((how & 2) && xenmsg_message_on_withdrawn(message, on_withdrawn, NULL) == 0)
		kept = message;
	else
		xenmsg_message_free(message);
}

/* A whole message on a channel. */
static void daemon_delivers(const uint8_t *payload, size_t size)
{
	uint8_t bytes[FRAME_HEADER_SIZE + MESSAGE_HEAD_SIZE + 256 + MESSAGE_TRAILER_SIZE] = {0},
								    *at = bytes + FRAME_HEADER_SIZE;
	uint32_t padded;

	if (size < 4)
		return;
	padded = ((uint32_t)size - 4 + 7) & ~7u;
	put_u32(at, (uint32_t)size - 4);
	at[4] = payload[1];
	memcpy(at + MESSAGE_HEAD_SIZE, payload + 4, size - 4);
	put_u32(at + MESSAGE_HEAD_SIZE + padded, payload[2]);
	put_u32(at + MESSAGE_HEAD_SIZE + padded + 4, payload[3]);
	daemon_says(bytes, put_frame(bytes, FRAME_DATA, 0, payload[0],
				     MESSAGE_HEAD_SIZE + padded + MESSAGE_TRAILER_SIZE));
}

static void stream_call(struct xenmsg *conn, uint8_t what, const uint8_t *payload, size_t size)
{
	uint8_t bytes[1024];
	size_t used = 0;
	const struct xenmsg_peer *peer;
	int fd;

	if (what & 0x10)
		used += put_welcome(bytes);
	if (what & 0x20)
		used += put_reply(bytes + used, 0);
	if (size)
		memcpy(bytes + used, payload, size);
	answer_with(bytes, used + size);
	fd = what & 0x40 ? xenmsg_accept(conn, XENMSG_WITHIN(0), &peer)
			 : xenmsg_connect(conn, "5:inbox", XENMSG_WITHIN(0));
	close_streams();
	if (fd >= 0)
		close(fd);
	else /* WELCOME and a good REPLY make a stream, unless the session has ended */
		check((what & 0x70) != 0x30 || fd == -ENOTCONN || fd == -EPROTO);
}

static void begin(struct xenmsg *conn, uint8_t what, const uint8_t *payload, size_t size)
{
	const struct xenmsg_options *traced = XENMSG_TRACED(1000000, 0, "00-ab");
	int r;

	daemon_end.outstanding++;
	if ((what & 0x60) == 0x60)
		r = xenmsg_begin_drain(conn, "inbox", NULL, on_done, NULL, NULL);
	else if (what & 0x20)
		r = xenmsg_begin_await_room(conn, "5:inbox", size, NULL, on_done, NULL, NULL);
	else if (what & 0x80)
		r = xenmsg_begin_call(conn, "5:inbox", payload, size, what & 0x40 ? traced : NULL,
				      on_call_done, NULL, NULL);
	else
		r = xenmsg_begin_send(conn, "5:inbox", payload, size, what & 0x40 ? traced : NULL, on_done,
				      NULL, NULL);
	if (r < 0)
		daemon_end.outstanding--;
}

static void act(struct xenmsg *conn, uint8_t what, const uint8_t *payload, size_t size)
{
	uint8_t bytes[FRAME_HEADER_SIZE + 256 + 8];
	struct xenmsg_message *message;
	int r;

	switch (what & 7) {
	case 0:
		daemon_says(payload, size);
		break;
	case 1:
		if (size >= 2) {
			memcpy(bytes + FRAME_HEADER_SIZE, payload + 2, size - 2);
			daemon_says(bytes,
				    put_frame(bytes, payload[0], what >> 7, payload[1], (uint32_t)size - 2));
		}
		break;
	case 2:
		daemon_delivers(payload, size);
		break;
	case 3:
		stream_call(conn, what, payload, size);
		break;
	case 4:
		begin(conn, what, payload, size);
		break;
	case 5:
		while (xenmsg_recv(conn, &message, 0) == 0)
			use(message, what >> 6);
		break;
	default:
		if (what & 0x80)
			r = what & 0x40 ? xenmsg_pause(conn) : xenmsg_resume(conn);
		r = xenmsg_process(conn);
		check(r >= 0 || r == -ENOTCONN || r == -EPROTO); /* nothing else is documented */
	}
}

static void hear(void)
{
	uint8_t bytes[65536];

	while (recv(daemon_end.session, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t bytes[512];
	size_t used = put_welcome(bytes);
	struct xenmsg *conn;
	int descriptor = next_descriptor();
	struct fuzz_record record;

	memset(&daemon_end, 0, sizeof(daemon_end));
	daemon_end.session = -1;
	setenv("XENMSG_NO_SHARED_MEMORY", "1", 1);
	/* Some inputs are what the daemon says instead of WELCOME, and then hangs up. */
	if (size && data[0] == 0xff) {
		answer_with(data + 1,
			    size - 1 < sizeof(daemon_end.answer) ? size - 1 : sizeof(daemon_end.answer));
		if (xenmsg_open(&conn, "daemon", NULL) == 0)
			xenmsg_close(conn);
		close_streams();
	} else {
		answer_with(bytes, used);
		daemon_end.goes_on = true;
		check(xenmsg_open(&conn, "daemon", NULL) == 0);
		daemon_says(bytes, put_reply(bytes, INBOX_BIND));
		check(xenmsg_bind(conn, "inbox", NULL, NULL, NULL) == 0);
		watch_and_subscribe(conn);
		while (next_record(&record, &data, &size)) {
			act(conn, record.what, record.payload, record.size);
			hear();
		}
		shutdown(daemon_end.session, SHUT_RDWR);
		xenmsg_process(conn);
		xenmsg_close(conn);
		drop_kept();
		check(!daemon_end.outstanding);
		close(daemon_end.session);
	}
	check(next_descriptor() == descriptor);
	return 0;
}
