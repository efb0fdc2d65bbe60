/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The client of bench/guard: does exactly what it is told, a line of its input at a time, and says "done".
 * Between two lines it sleeps, so that others can count what the first has cost.
 *
 * 	bench-steps PEER PATH  where `bench-chain server` runs, `bench-socket server xenmsg:bench-stream` and
 * 	                       `bench-mux server bench-mux`; and a Unix socket that leads to another
 * 	                       `bench-socket server`
 * 	bench-steps listen TOPIC CONNECTIONS  subscribes to that topic of its by so many connections
 *
 * 	trip SIZE COUNT        messages, each when the one before has come back
 * 	call SIZE COUNT        calls, each when the one before was answered
 * 	batch SIZE COUNT       messages, BATCH at once, and then the wait until they are delivered
 * 	lend SIZE COUNT        the same, written where they are sent from and read where they arrive
 * 	stream SIZE COUNT      writes to a stream, each when the receiver has answered the one before by a byte
 * 	mux SIZE COUNT         the same with a stream of a connection that carries many
 * 	forward SIZE COUNT     the same with that socket
 * 	topicN SIZE COUNT      publishes to its topic of that name, once N listen, each when the one before was
 * 	                       taken over
 *
 * 	make WHAT COUNT        sessions, endpoints, topics, watches or channels, which stay
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/engine.h"
#include "xenmsg-stream.h"
#include "xenmsg.h"

#define BATCH	64
#define LARGEST (1u << 20)

struct steps {
	struct xenmsg *conn;
	char address[64];
	unsigned long ended; /* outcomes and answers that have come */
	struct stream {
		int fd;
		uint32_t size; /* of a piece; 0: not said yet */
	} stream, forward;
	struct {
		struct xenmsg *conn;
		struct xenmsg_stream *stream;
		unsigned long opened, room, came; /* how often that was told; bytes */
		uint32_t size;
	} mux;
	uint64_t listeners; /* of the topic that was told of last */
	char *data;
};

static void wait_for(struct steps *steps, unsigned long count)
{
	while (steps->ended < count) {
		int r = xenmsg_wait(steps->conn, 30000);

		if (r <= 0 && r != -EINTR)
			engine_fail("wait", r == 0 ? -ETIMEDOUT : r);
	}
}

static void must(const char *what, int r)
{
	if (r < 0)
		engine_fail(what, r);
}

static void on_answer(void *userdata, struct xenmsg_message *message)
{
	struct steps *steps = userdata;

	steps->ended++;
	xenmsg_message_free(message);
}

static void on_delivery(void *userdata, const struct xenmsg_result *result)
{
	struct steps *steps = userdata;

	must("delivery", result->error);
	steps->ended++;
}

static void trip(struct steps *steps, size_t size, unsigned long count)
{
	steps->data[0] = ANSWER_ALL;
	for (unsigned long i = 1; i <= count; i++) {
		must("post", xenmsg_begin_send(steps->conn, steps->address, steps->data, size, NULL, NULL,
					       NULL, NULL));
		wait_for(steps, i);
	}
}

static void call(struct steps *steps, size_t size, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++)
		must("call",
		     xenmsg_call(steps->conn, steps->address, steps->data, size, XENMSG_WITHIN(30000), NULL));
}

static void batch(struct steps *steps, size_t size, unsigned long count)
{
	steps->data[0] = ANSWER_NONE;
	for (unsigned long i = 1; i <= count; i++) {
		int r;

		while ((r = xenmsg_begin_send(steps->conn, steps->address, steps->data, size, NULL,
					      on_delivery, steps, NULL)) == -EAGAIN)
			wait_for(steps, steps->ended + 1);
		must("post", r);
		if (i % BATCH == 0 || i == count)
			wait_for(steps, i);
	}
}

static void lend(struct steps *steps, const char *peer, size_t size, unsigned long count)
{
	char address[64];
	void *data;

	snprintf(address, sizeof(address), "%s:lend", peer);
	for (unsigned long i = 1; i <= count; i++) {
		int r;

		while ((r = xenmsg_reserve(steps->conn, address, size, &data)) == -EAGAIN)
			wait_for(steps, steps->ended + 1);
		must("reserve", r);
		*(char *)data = ANSWER_NONE;
		must("commit", xenmsg_commit(steps->conn, size, NULL, on_delivery, steps, NULL));
		if (i % BATCH == 0 || i == count)
			wait_for(steps, i);
	}
}

static void write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0)
			engine_fail("write", errno);
		data += n;
		size -= (size_t)n;
	}
}

static void connect_stream(struct steps *steps, const char *peer, struct stream *stream)
{
	char address[64];

	snprintf(address, sizeof(address), "%s:bench-stream", peer);
	stream->fd = xenmsg_connect(steps->conn, address, XENMSG_WITHIN(30000));
	must("connect", stream->fd);
}

static void connect_socket(const char *path, struct stream *stream)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	stream->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (stream->fd < 0 || connect(stream->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		engine_fail("connect", errno);
}

/* What is written first says how large each piece is. */
static void write_stream(struct steps *steps, struct stream *stream, size_t size, unsigned long count)
{
	char answer;

	if (stream->size == 0) {
		stream->size = (uint32_t)size;
		write_all(stream->fd, (const char *)&stream->size, sizeof(stream->size));
	}
	if (size != stream->size)
		engine_fail("another size on the stream", EINVAL);
	steps->data[0] = ANSWER_BYTE;
	for (unsigned long i = 0; i < count; i++) {
		write_all(stream->fd, steps->data, size);
		if (read(stream->fd, &answer, 1) != 1)
			engine_fail("read", ECONNRESET);
	}
}

static void stream(struct steps *steps, const char *peer, size_t size, unsigned long count)
{
	if (steps->stream.fd < 0)
		connect_stream(steps, peer, &steps->stream);
	write_stream(steps, &steps->stream, size, count);
}

static void forward(struct steps *steps, const char *path, size_t size, unsigned long count)
{
	if (steps->forward.fd < 0)
		connect_socket(path, &steps->forward);
	write_stream(steps, &steps->forward, size, count);
}

/* ---- a stream of a connection that carries many ---------------------------------------------- */

static void on_opened(void *userdata, struct xenmsg_stream *stream)
{
	((struct steps *)userdata)->mux.opened++;
}

static void on_room(void *userdata, struct xenmsg_stream *stream)
{
	((struct steps *)userdata)->mux.room++;
}

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	((struct steps *)userdata)->mux.came += size;
	return size;
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	engine_fail("mux", error);
}

static void wait_for_more(struct steps *steps, const unsigned long *counted, unsigned long than)
{
	while (*counted <= than)
		must("wait", xenmsg_wait(steps->mux.conn, 30000));
}

static void mux_write(struct steps *steps, const void *data, size_t size)
{
	while (size) {
		unsigned long room = steps->mux.room;
		ssize_t n = xenmsg_stream_write(steps->mux.stream, data, size);

		must("mux", (int)n);
		data = (const char *)data + n;
		size -= (size_t)n;
		if (size)
			wait_for_more(steps, &steps->mux.room, room);
	}
}

static void mux(struct steps *steps, const char *peer, size_t size, unsigned long count)
{
	static const struct xenmsg_stream_callbacks callbacks = {
		.size = sizeof(callbacks),
		.opened = on_opened,
		.data = on_data,
		.room = on_room,
		.broken = on_broken,
	};
	char address[64];

	if (!steps->mux.conn) {
		snprintf(address, sizeof(address), "%s:bench-mux", peer);
		must("open", xenmsg_open(&steps->mux.conn, NULL, NULL));
		must("mux", xenmsg_stream_connect(steps->mux.conn, address, NULL, &callbacks, steps,
						  &steps->mux.stream));
		wait_for_more(steps, &steps->mux.opened, 0);
		steps->mux.size = (uint32_t)size;
		mux_write(steps, &steps->mux.size, sizeof(steps->mux.size));
	}
	steps->data[0] = ANSWER_BYTE;
	for (unsigned long i = 0; i < count; i++) {
		unsigned long came = steps->mux.came;

		mux_write(steps, steps->data, size);
		wait_for_more(steps, &steps->mux.came, came);
	}
}

/* ---- topics ---------------------------------------------------------------------------------- */

static void on_change(void *userdata, const struct xenmsg_change *change)
{
	if (change->kind == XENMSG_LISTENERS)
		((struct steps *)userdata)->listeners = change->listeners;
}

static void topic(struct steps *steps, const char *name, size_t size, unsigned long count)
{
	unsigned long listeners = strtoul(name + strlen("topic"), NULL, 10);
	char address[64];
	int r = xenmsg_bind(steps->conn, name, XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_COUNT_LISTENERS), NULL,
			    NULL);

	must("bind", r == -EEXIST ? 0 : r); /* by an earlier step */
	while (r == 0 && steps->listeners < listeners)
		must("wait", xenmsg_wait(steps->conn, 30000));
	steps->listeners = 0;
	snprintf(address, sizeof(address), "self:%s", name);
	for (unsigned long i = 1; i <= count; i++) {
		must("publish", xenmsg_begin_send(steps->conn, address, steps->data, size, NULL, on_delivery,
						  steps, NULL));
		wait_for(steps, i);
	}
}

static void on_published(void *userdata, struct xenmsg_message *message)
{
	xenmsg_message_free(message);
}

static void listen_to(const char *address, unsigned connections)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	for (unsigned i = 0; i < connections; i++) {
		struct xenmsg *conn;

		must("open", xenmsg_open(&conn, NULL, NULL));
		must("subscribe", xenmsg_subscribe(conn, address, NULL, on_published, NULL));
		event.data.ptr = conn;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, xenmsg_fd(conn), &event) < 0)
			engine_fail("epoll", errno);
	}
	engine_ready();
	for (;;) {
		int r = epoll_wait(epoll, &event, 1, -1);

		if (r < 0 && errno != EINTR)
			engine_fail("epoll", errno);
		if (r == 1 && xenmsg_process(event.data.ptr) < 0)
			exit(0); /* the daemon was stopped */
	}
}

/* ---- what stays ------------------------------------------------------------------------------ */

static void on_event(void *userdata, const struct xenmsg_event *event)
{
}

static void make_one(struct steps *steps, const char *peer, char what, unsigned long number)
{
	struct xenmsg *conn;
	char name[80];

	snprintf(name, sizeof(name), "%c%lu", what, number);
	if (what == 's')
		must("open", xenmsg_open(&conn, NULL, NULL));
	else if (what == 'e')
		must("bind", xenmsg_bind(steps->conn, name, NULL, on_published, NULL));
	else if (what == 't')
		must("bind", xenmsg_bind(steps->conn, name, XENMSG_FLAGS(XENMSG_TOPIC), NULL, NULL));
	snprintf(name, sizeof(name), "%s:%s%lu", peer, what == 'c' ? "b" : "w", number);
	if (what == 'w')
		must("watch", xenmsg_watch(steps->conn, name, NULL, on_event, NULL));
	else if (what == 'c')
		must("send", xenmsg_send(steps->conn, name, "", 1, XENMSG_WITHIN(30000), NULL));
}

int main(int argc, char **argv)
{
	struct steps steps = {.stream.fd = -1, .forward.fd = -1, .data = calloc(1, LARGEST)};
	unsigned long size, count;
	char line[128], what[16];

	if (argc == 4 && strcmp(argv[1], "listen") == 0)
		listen_to(argv[2], (unsigned)atoi(argv[3]));
	if (argc != 3 || !steps.data) {
		fprintf(stderr, "usage: bench-steps PEER PATH | listen TOPIC CONNECTIONS\n");
		return 2;
	}
	must("open", xenmsg_open(&steps.conn, NULL, NULL));
	must("bind", xenmsg_bind(steps.conn, "bench-reply", NULL, on_answer, &steps));
	xenmsg_on_change(steps.conn, on_change, &steps);
	snprintf(steps.address, sizeof(steps.address), "%s:bench", argv[1]);
	engine_ready();
	while (fgets(line, sizeof(line), stdin)) {
		char kind;

		if (sscanf(line, "make %c%*s %lu", &kind, &count) == 2) {
			for (unsigned long i = 0; i < count; i++)
				make_one(&steps, argv[1], kind, i);
			puts("done");
			fflush(stdout);
			continue;
		}
		if (sscanf(line, "%15s %lu %lu", what, &size, &count) != 3 || size < 1 || size > LARGEST)
			engine_fail(line, EINVAL);
		steps.ended = 0;
		if (strcmp(what, "trip") == 0)
			trip(&steps, size, count);
		else if (strcmp(what, "call") == 0)
			call(&steps, size, count);
		else if (strcmp(what, "batch") == 0)
			batch(&steps, size, count);
		else if (strcmp(what, "lend") == 0)
			lend(&steps, argv[1], size, count);
		else if (strcmp(what, "stream") == 0)
			stream(&steps, argv[1], size, count);
		else if (strcmp(what, "mux") == 0)
			mux(&steps, argv[1], size, count);
		else if (strncmp(what, "topic", strlen("topic")) == 0)
			topic(&steps, what, size, count);
		else if (strcmp(what, "forward") == 0)
			forward(&steps, argv[2], size, count);
		else
			engine_fail(what, EINVAL);
		puts("done");
		fflush(stdout);
	}
	xenmsg_close(steps.conn);
	free(steps.data);
	return 0;
}
