/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rig-traffic TAG SELF OTHER ADDRESS: all kinds of traffic with the rig-traffic OTHER, which is at
 * ADDRESS:TAG and does the same: numbered messages, calls and a stream, in both directions, as fast as they
 * go. Every byte that comes is compared with what the other one has sent, since all of it follows from the
 * sender's name and a number. Whatever isn't as promised (an error, something lost, doubled, out of order or
 * damaged) ends it with status 1 and a line that says what.
 *
 * /tmp/TAG.counts has how far it is, as a line of numbers that only grow. SIGTERM ends it in order, when the
 * other one has had it, too: each tells the other how much it was and the stream's digest.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "xenmsg.h"

#define MESSAGES_MAX 64 /* on their way at once */
#define CALLS_MAX    4
#define LARGEST	     100000u
#define PIECE	     16384u
#define BEGIN_MS     120000 /* the other one is started later, by a slow shell */
#define LOOK_MS	     100

enum kind { MESSAGE = 1, CALL, REPLY, END, STREAM };

struct head {
	uint64_t number;
	uint32_t kind;
	uint32_t size; /* with this head */
};

struct end {
	struct head head;
	uint64_t calls;
	uint64_t bytes; /* of the stream */
	uint64_t digest;
};

struct direction {
	bool ended;
	uint64_t bytes;
	uint64_t digest;
};

struct traffic {
	struct xenmsg *conn;
	const char *tag;
	char address[96];
	uint64_t own_key;
	uint64_t other_key;

	bool met; /* the other one has taken the first message */
	int64_t begin_until_ms, again_ms;
	uint64_t sent, delivered, got;
	uint64_t asked, answered, served;
	bool end_sent, end_delivered, end_got;
	struct end end; /* the other one's */
	int stream;
	struct direction in, out;

	struct xenmsg_message *unanswered[CALLS_MAX];
	int64_t last_got_ms, longest_pause_ms;
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- what is sent ---- */

static uint64_t mix(uint64_t z) /* of splitmix64 */
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t key_of(const char *name)
{
	uint64_t key = 0;

	for (; *name; name++)
		key = mix(key + (unsigned char)*name + 1);
	return key;
}

static uint64_t digest_of(uint64_t digest, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		digest = (digest ^ data[i]) * 0x100000001b3u; /* FNV-1a */
	return digest;
}

/* The bytes of what has this key, from the byte `from` on. */
static void content(uint64_t key, uint64_t from, uint8_t *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		uint64_t word = mix(key + (from + done) / 8 * 0x9e3779b97f4a7c15u);
		size_t offset = (from + done) % 8, n = 8 - offset;

		if (n > size - done)
			n = size - done;
		memcpy(data + done, (uint8_t *)&word + offset, n);
		done += n;
	}
}

static size_t size_of(uint64_t number)
{
	return sizeof(struct head) +
	       (number % 64 == 63 ? LARGEST - sizeof(struct head) : number * 7919 % 9000);
}

static const uint8_t *make(uint64_t key, enum kind kind, uint64_t number, size_t size)
{
	static uint8_t data[LARGEST];
	struct head head = {number, kind, (uint32_t)size};

	memcpy(data, &head, sizeof(head));
	content(mix(key + number * 8 + kind), 0, data + sizeof(head), size - sizeof(head));
	return data;
}

static void compare(uint64_t key, enum kind kind, uint64_t number, size_t size,
		    struct xenmsg_message *message)
{
	if (xenmsg_message_size(message) != size)
		fail("%d %" PRIu64 " has %zu bytes instead of %zu", kind, number,
		     xenmsg_message_size(message), size);
	if (memcmp(make(key, kind, number, size), xenmsg_message_data(message), size))
		fail("%d %" PRIu64 " is damaged", kind, number);
}

/* ---- messages ---- */

static void delivered(void *userdata, const struct xenmsg_result *result)
{
	struct traffic *traffic = userdata;

	if (!traffic->met &&
	    (result->error == -ENOENT || result->error == -EHOSTDOWN || result->error == -EHOSTUNREACH) &&
	    now_ms() < traffic->begin_until_ms) {
		traffic->sent = 0; /* the other one isn't there yet: once more, later */
		traffic->again_ms = now_ms() + LOOK_MS;
		return;
	}
	if (result->error < 0)
		fail("message: %s (%s)", strerror(-result->error), result->reason);
	traffic->met = true;
	if (traffic->end_sent)
		traffic->end_delivered = true;
	else
		traffic->delivered++;
}

static void send_messages(struct traffic *traffic)
{
	uint64_t most = traffic->met ? MESSAGES_MAX : 1;

	while (!stopping && now_ms() >= traffic->again_ms && traffic->sent - traffic->delivered < most) {
		size_t size = size_of(traffic->sent);
		const uint8_t *data = make(traffic->own_key, MESSAGE, traffic->sent, size);
		int r = xenmsg_begin_send(traffic->conn, traffic->address, data, size, NULL, delivered,
					  traffic, NULL);

		if (r == -EAGAIN)
			return;
		if (r < 0)
			fail("post: %s", strerror(-r));
		traffic->sent++;
	}
}

static void take_end(struct traffic *traffic, struct xenmsg_message *message)
{
	if (xenmsg_message_size(message) != sizeof(traffic->end))
		fail("the end has another size");
	memcpy(&traffic->end, xenmsg_message_data(message), sizeof(traffic->end));
	if (traffic->end.head.number != traffic->got || traffic->end.calls != traffic->served)
		fail("messages: %" PRIu64 " of %" PRIu64 ", calls: %" PRIu64 " of %" PRIu64, traffic->got,
		     traffic->end.head.number, traffic->served, traffic->end.calls);
	traffic->end_got = true;
}

static void take_message(struct traffic *traffic, struct xenmsg_message *message)
{
	int64_t now = now_ms(), pause = now - traffic->last_got_ms;
	struct head head;

	if (traffic->end_got || xenmsg_message_size(message) < sizeof(head))
		fail("a message that nobody has sent");
	memcpy(&head, xenmsg_message_data(message), sizeof(head));
	if (head.kind == END) {
		take_end(traffic, message);
	} else {
		if (head.number != traffic->got)
			fail("message %" PRIu64 " instead of %" PRIu64, head.number, traffic->got);
		compare(traffic->other_key, MESSAGE, traffic->got, size_of(traffic->got), message);
		traffic->got++;
	}
	if (traffic->last_got_ms && pause > traffic->longest_pause_ms)
		traffic->longest_pause_ms = pause;
	traffic->last_got_ms = now;
	xenmsg_message_free(message);
}

/* ---- calls ---- */

static void answered(void *userdata, const struct xenmsg_result *result)
{
	struct traffic *traffic = userdata;

	if (result->error < 0)
		fail("call: %s (%s)", strerror(-result->error), result->reason);
	/* Calls to one endpoint are answered in their order here. */
	compare(traffic->other_key, REPLY, traffic->answered, size_of(traffic->answered), result->reply);
	xenmsg_message_free(result->reply);
	traffic->answered++;
}

static void make_calls(struct traffic *traffic)
{
	while (!stopping && traffic->met && traffic->asked - traffic->answered < CALLS_MAX) {
		size_t size = size_of(traffic->asked + 5);
		int r = xenmsg_begin_call(traffic->conn, traffic->address,
					  make(traffic->own_key, CALL, traffic->asked, size), size, NULL,
					  answered, traffic, NULL);

		if (r == -EAGAIN)
			return;
		if (r < 0)
			fail("call: %s", strerror(-r));
		traffic->asked++;
	}
}

/* Answers the oldest; false: not yet, or there is none. */
static bool answer(struct traffic *traffic)
{
	struct xenmsg_message *message = traffic->unanswered[0];
	size_t size = size_of(traffic->served);
	int r;

	if (!message)
		return false;
	r = xenmsg_reply(message, make(traffic->own_key, REPLY, traffic->served, size), size);
	if (r == -EAGAIN)
		return false;
	if (r < 0)
		fail("reply: %s", strerror(-r));
	xenmsg_message_free(message);
	traffic->served++;
	memmove(traffic->unanswered, traffic->unanswered + 1, sizeof(traffic->unanswered) - sizeof(message));
	traffic->unanswered[CALLS_MAX - 1] = NULL;
	return true;
}

static void take_call(struct traffic *traffic, struct xenmsg_message *message)
{
	unsigned waiting = 0;

	while (waiting < CALLS_MAX && traffic->unanswered[waiting])
		waiting++;
	if (waiting == CALLS_MAX)
		fail("more calls at once than there can be");
	compare(traffic->other_key, CALL, traffic->served + waiting, size_of(traffic->served + waiting + 5),
		message);
	traffic->unanswered[waiting] = message;
	while (answer(traffic))
		;
}

static void take(void *userdata, struct xenmsg_message *message)
{
	if (xenmsg_message_wants_reply(message))
		take_call(userdata, message);
	else
		take_message(userdata, message);
}

/* ---- the streams ---- */

/* There is one, and one of the two opens it; the other one must not do anything that blocks meanwhile. */
static void open_stream(struct traffic *traffic)
{
	char address[sizeof(traffic->address) + 2];

	if (traffic->own_key < traffic->other_key) {
		snprintf(address, sizeof(address), "%s-s", traffic->address);
		traffic->stream = xenmsg_connect(traffic->conn, address, XENMSG_WITHIN(BEGIN_MS));
		if (traffic->stream < 0)
			fail("connect: %s", strerror(-traffic->stream));
	} else {
		traffic->stream = xenmsg_accept(traffic->conn, XENMSG_WITHIN(0), NULL);
	}
}

static void read_stream(struct traffic *traffic)
{
	static uint8_t got[PIECE], expected[PIECE];
	struct direction *in = &traffic->in;
	ssize_t n;

	if (in->ended)
		return;
	n = recv(traffic->stream, got, PIECE, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		fail("stream: %s", strerror(errno));
	in->ended = n == 0;
	content(mix(traffic->other_key + STREAM), in->bytes, expected, (size_t)n);
	if (memcmp(got, expected, (size_t)n))
		fail("the stream is damaged between %" PRIu64 " and %" PRIu64, in->bytes,
		     in->bytes + (uint64_t)n);
	in->digest = digest_of(in->digest, got, (size_t)n);
	in->bytes += (uint64_t)n;
}

static void write_stream(struct traffic *traffic)
{
	struct direction *out = &traffic->out;
	uint8_t piece[PIECE];
	ssize_t n;

	if (out->ended)
		return;
	if (stopping) {
		out->ended = true;
		if (shutdown(traffic->stream, SHUT_WR) < 0)
			fail("shutdown: %s", strerror(errno));
		return;
	}
	content(mix(traffic->own_key + STREAM), out->bytes, piece, PIECE);
	n = send(traffic->stream, piece, PIECE, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		fail("stream: %s", strerror(errno));
	out->digest = digest_of(out->digest, piece, (size_t)n);
	out->bytes += (uint64_t)n;
}

/* ---- all of it ---- */

static void send_end(struct traffic *traffic)
{
	struct end end = {
		.head = {traffic->delivered, END, sizeof(end)},
		.calls = traffic->answered,
		.bytes = traffic->out.bytes,
		.digest = traffic->out.digest,
	};
	int r;

	if (!traffic->out.ended || traffic->end_sent || traffic->sent != traffic->delivered ||
	    traffic->asked != traffic->answered)
		return;
	traffic->end_sent = true;
	r = xenmsg_begin_send(traffic->conn, traffic->address, &end, sizeof(end), NULL, delivered, traffic,
			      NULL);
	if (r < 0)
		fail("the end: %s", strerror(-r));
}

static void write_counts(struct traffic *traffic)
{
	char line[160], name[80], next[96];
	int fd, n = snprintf(line, sizeof(line),
			     "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
			     traffic->delivered, traffic->got, traffic->answered, traffic->served,
			     traffic->out.bytes, traffic->in.bytes);

	/* A shell reads byte by byte, and must not find a part of an older line behind it. */
	snprintf(name, sizeof(name), "/tmp/%s.counts", traffic->tag);
	snprintf(next, sizeof(next), "%s.next", name);
	fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, (size_t)n) != n || close(fd) < 0 || rename(next, name) < 0)
		fail("counts: %s", strerror(errno));
}

static void run(struct traffic *traffic)
{
	int64_t look = 0;

	while (!traffic->end_delivered || !traffic->end_got || !traffic->in.ended) {
		struct pollfd polled[2] = {
			{.fd = xenmsg_fd(traffic->conn), .events = POLLIN},
			{.fd = traffic->in.ended && traffic->out.ended ? -1 : traffic->stream,
			 .events = (short)((traffic->in.ended ? 0 : POLLIN) |
					   (traffic->out.ended ? 0 : POLLOUT))},
		};
		int r;

		poll(polled, 2, LOOK_MS);
		r = xenmsg_process(traffic->conn);
		if (r < 0)
			fail("process: %s", strerror(-r));
		while (answer(traffic))
			;
		if (traffic->met && traffic->stream < 0)
			open_stream(traffic);
		if (traffic->stream >= 0) {
			read_stream(traffic);
			write_stream(traffic);
		}
		send_messages(traffic);
		make_calls(traffic);
		send_end(traffic);
		if (now_ms() >= look) {
			write_counts(traffic);
			look = now_ms() + LOOK_MS;
		}
	}
	if (traffic->in.bytes != traffic->end.bytes || traffic->in.digest != traffic->end.digest)
		fail("the stream: %" PRIu64 " bytes of %" PRIu64 ", digest %016" PRIx64
		     " instead of %016" PRIx64,
		     traffic->in.bytes, traffic->end.bytes, traffic->in.digest, traffic->end.digest);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct traffic traffic = {.stream = -1, .begin_until_ms = now_ms() + BEGIN_MS};
	char name[80];
	int r;

	if (argc != 5) {
		fprintf(stderr, "Usage: rig-traffic TAG SELF OTHER ADDRESS\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	traffic.tag = argv[1];
	traffic.own_key = key_of(argv[2]);
	traffic.other_key = key_of(argv[3]);
	snprintf(traffic.address, sizeof(traffic.address), "%s:%s", argv[4], traffic.tag);
	snprintf(name, sizeof(name), "/tmp/%s.counts", traffic.tag);
	unlink(name);
	r = xenmsg_open(&traffic.conn, NULL, NULL);
	snprintf(name, sizeof(name), "%s-s", traffic.tag);
	if (r == 0)
		r = xenmsg_listen(traffic.conn, name, NULL);
	if (r == 0)
		r = xenmsg_bind(traffic.conn, traffic.tag, NULL, take, &traffic);
	if (r < 0)
		fail("open: %s", strerror(-r));
	run(&traffic);
	printf("sent %" PRIu64 " messages, %" PRIu64 " calls, %" PRIu64 " bytes (%016" PRIx64
	       "); got %" PRIu64 ", %" PRIu64 ", %" PRIu64 " (%016" PRIx64 "); longest pause %" PRId64
	       " ms\n",
	       traffic.delivered, traffic.answered, traffic.out.bytes, traffic.out.digest, traffic.got,
	       traffic.served, traffic.in.bytes, traffic.in.digest, traffic.longest_pause_ms);
	xenmsg_close(traffic.conn);
	return 0;
}
