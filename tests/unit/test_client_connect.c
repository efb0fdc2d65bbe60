/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about connecting.
 */
#include "tests/unit/client_recv_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/bytes.h"

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 8), 0);
	return listener;
}

static const char *greeting;
static size_t greeting_size;

static void *greet(void *userdata)
{
	int listener = *(int *)userdata, fd = accept(listener, NULL, NULL);
	char hello[24];

	assert_int_equal(recv(fd, hello, sizeof(hello), MSG_WAITALL), sizeof(hello));
	assert_int_equal(send(fd, greeting, greeting_size, MSG_NOSIGNAL), greeting_size);
	close(fd);
	return NULL;
}

static int open_with_greeting(const void *bytes, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), r;
	char directory[] = "/tmp/xenmsg-test.XXXXXX";
	struct xenmsg *conn;
	pthread_t thread;

	greeting = bytes;
	greeting_size = size;
	assert_non_null(mkdtemp(directory));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, greet, &listener), 0);
	r = xenmsg_open(&conn, address.sun_path, NULL);
	pthread_join(thread, NULL);
	close(listener);
	unlink(address.sun_path);
	rmdir(directory);
	return r;
}

/* The same with a frame, whose payload has been written. */
static int open_with_frame(uint8_t *frame, uint8_t type, uint32_t length)
{
	return open_with_greeting(frame,
				  frame_wrap(frame, &(struct frame_header){.type = type, .length = length}));
}

/* So a program may close it, however it failed. */
TEST(a_connection_that_is_not_opened_is_null)
{
	struct xenmsg *conn = (struct xenmsg *)1;

	assert_int_equal(xenmsg_open(&conn, "/nonexistent/socket", NULL), -ENOENT);
	assert_null(conn);
	conn = (struct xenmsg *)1;
	assert_int_equal(xenmsg_open(&conn, NULL, XENMSG_FLAGS(XENMSG_SHARED)), -EINVAL);
	assert_null(conn);
	conn = (struct xenmsg *)1;
	assert_int_equal(xenmsg_begin_open(&conn, "/nonexistent/socket", NULL, NULL, NULL), -ENOENT);
	assert_null(conn);
	conn = (struct xenmsg *)1;
	assert_int_equal(xenmsg_begin_open(&conn, NULL, XENMSG_FLAGS(XENMSG_SHARED), NULL, NULL), -EINVAL);
	assert_null(conn);
	xenmsg_close(conn);
}

TEST(what_is_no_daemon_is_told)
{
	const struct frame_welcome later = {.major = 2};
	/* Memory is said to be shared, but no descriptor comes with it. */
	const struct frame_welcome without_memory = {.major = 1, .flags = HELLO_SHARED_MEMORY};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct xenmsg *conn;
	uint32_t length;
	char path[200];

	assert_int_equal(xenmsg_open(&conn, "/nonexistent/socket", NULL), -ENOENT);
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_int_equal(xenmsg_open(&conn, path, NULL), -ENAMETOOLONG);
	assert_int_equal(open_with_greeting("", 0), -ECONNREFUSED);
	assert_int_equal(open_with_greeting("HTTP/1.0 400 Bad Request\r\n\r\n", 28), -EPROTO);
	assert_int_equal(open_with_greeting("\x10\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0", 16), -ECONNREFUSED);

	put_u32(frame + FRAME_HEADER_SIZE, ENOBUFS);
	assert_int_equal(open_with_frame(frame, FRAME_GOODBYE, 4), -ENOBUFS);
	length = frame_welcome_encode(&later, frame + FRAME_HEADER_SIZE);
	assert_int_equal(open_with_frame(frame, FRAME_WELCOME, length), -EPROTONOSUPPORT);
	length = frame_welcome_encode(&without_memory, frame + FRAME_HEADER_SIZE);
	assert_int_equal(open_with_frame(frame, FRAME_WELCOME, length), -EPROTO);
}

/* ---- without waiting ------------------------------------------------------------------------- */

static struct opened {
	const struct xenmsg_peer *peer;
	struct xenmsg *conn;
	int listener, fd;
	char directory[32];
	struct sockaddr_un address;
	int outcomes, result;
} opened;

/* The daemon sends a frame, whose payload has been written. */
static void say(uint8_t type, uint8_t *frame, uint32_t length)
{
	uint32_t size = frame_wrap(frame, &(struct frame_header){.type = type, .length = length});

	assert_int_equal(send(opened.fd, frame, size, MSG_NOSIGNAL), size);
}

static void note_opened(void *userdata, const struct xenmsg_result *result)
{
	opened.outcomes++;
	opened.result = result->error;
}

/* A place for a daemon, and none there yet. */
static int make_place(void **state)
{
	opened = (struct opened){
		.directory = "/tmp/xenmsg-test.XXXXXX", .address.sun_family = AF_UNIX, .fd = -1};
	assert_non_null(mkdtemp(opened.directory));
	snprintf(opened.address.sun_path, sizeof(opened.address.sun_path), "%s/s", opened.directory);
	opened.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	return 0;
}

static void bind_listener(void)
{
	assert_int_equal(bind(opened.listener, (struct sockaddr *)&opened.address, sizeof(opened.address)),
			 0);
}

/* The daemon, which is this test, takes the program that comes, and reads its HELLO. */
static void take_program(void)
{
	char hello[24];

	opened.fd = accept(opened.listener, NULL, NULL);
	assert_true(opened.fd >= 0);
	assert_int_equal(recv(opened.fd, hello, sizeof(hello), MSG_WAITALL), sizeof(hello));
}

/* The program opens a connection, and the daemon has taken it. */
static int begin_to_open(void **state)
{
	make_place(state);
	bind_listener();
	assert_int_equal(listen(opened.listener, 1), 0);
	assert_int_equal(xenmsg_begin_open(&opened.conn, opened.address.sun_path, NULL, note_opened, NULL),
			 0);
	take_program();
	return 0;
}

static void close_opened(void)
{
	xenmsg_close(opened.conn);
	opened.conn = NULL;
}

static int leave_place(void **state)
{
	close_opened();
	close(opened.fd);
	close(opened.listener);
	unlink(opened.address.sun_path);
	rmdir(opened.directory);
	return 0;
}

TEST_WITH(opening_does_not_wait_for_the_daemon, begin_to_open, leave_place)
{
	const struct frame_welcome welcome = {.major = 1, .domid = 7, .max_message = 4096};
	struct frame_header header = {.type = FRAME_WELCOME};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct xenmsg_message *message;
	int fd = xenmsg_fd(opened.conn);

	assert_false(is_readable(opened.conn));
	assert_int_equal(xenmsg_process(opened.conn), 0);
	assert_int_equal(xenmsg_wait(opened.conn, 1), 0);
	assert_int_equal(xenmsg_domid(opened.conn), 0);
	assert_int_equal(xenmsg_begin_send(opened.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL),
			 -ENOTCONN);
	assert_int_equal(xenmsg_send(opened.conn, "5:inbox", "x", 1, NULL, NULL), -ENOTCONN);
	assert_int_equal(xenmsg_bind(opened.conn, "inbox", NULL, NULL, NULL), -ENOTCONN);
	assert_int_equal(xenmsg_recv(opened.conn, &message, -1), -ENOTCONN);
	assert_int_equal(xenmsg_accept(opened.conn, NULL, NULL), -ENOTCONN);

	header.length = frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	for (uint32_t at = 0; at < frame_size(header.length); at++) {
		assert_int_equal(opened.outcomes, 0);
		assert_int_equal(send(opened.fd, frame + at, 1, MSG_NOSIGNAL), 1);
		assert_true(is_readable(opened.conn));
		assert_int_equal(xenmsg_process(opened.conn), at + 1 == frame_size(header.length));
	}
	assert_int_equal(opened.outcomes, 1);
	assert_int_equal(opened.result, 0);
	assert_int_equal(xenmsg_fd(opened.conn), fd);
	assert_int_equal(xenmsg_domid(opened.conn), 7);
	assert_int_equal(xenmsg_max_message(opened.conn), 4096);
	assert_int_equal(xenmsg_begin_send(opened.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL), 0);
	xenmsg_process(opened.conn);
	assert_int_equal(recv(opened.fd, frame, FRAME_HEADER_SIZE, MSG_WAITALL), FRAME_HEADER_SIZE);
	assert_int_equal(frame_header_decode(frame, &header), 0);
	assert_int_equal(header.type, FRAME_OPEN);
	close_opened();
	assert_int_equal(opened.outcomes, 1);
}

TEST_WITH(a_refusal_is_the_outcome_of_opening, begin_to_open, leave_place)
{
	static const char words[] = "too many programs";
	const struct frame_goodbye goodbye = {.error = ENOBUFS, .text = {words, strlen(words)}};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};

	say(FRAME_GOODBYE, frame, frame_goodbye_encode(&goodbye, frame + FRAME_HEADER_SIZE));
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);
	assert_int_equal(opened.result, -ENOBUFS);
	assert_string_equal(xenmsg_reason(opened.conn, 0), words);
	assert_int_equal(xenmsg_process(opened.conn), -ENOTCONN);
	assert_int_equal(xenmsg_begin_send(opened.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL),
			 -ENOTCONN);
	close_opened();
	assert_int_equal(opened.outcomes, 1);
}

TEST_WITH(a_daemon_that_hangs_up_has_refused, begin_to_open, leave_place)
{
	shutdown(opened.fd, SHUT_RDWR);
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);
	assert_int_equal(opened.result, -ECONNREFUSED);
}

TEST_WITH(opening_can_be_given_up, begin_to_open, leave_place)
{
	struct xenmsg *conn;

	close_opened();
	assert_int_equal(opened.outcomes, 1);
	assert_int_equal(opened.result, -ECANCELED);
	assert_int_equal(xenmsg_begin_open(&conn, "/nonexistent/socket", NULL, note_opened, NULL), -ENOENT);
	assert_int_equal(opened.outcomes, 1);
}

static bool somebody_comes(void)
{
	struct pollfd wait = {.fd = opened.listener, .events = POLLIN};

	return poll(&wait, 1, 0) == 1;
}

static void say_welcome(void)
{
	const struct frame_welcome welcome = {.major = 1, .domid = 7, .max_message = 4096};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};

	say(FRAME_WELCOME, frame, frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE));
}

/* The program begins to wait for a daemon. */
static void begin_to_wait(int timeout_ms)
{
	assert_int_equal(xenmsg_begin_open(&opened.conn, opened.address.sun_path,
					   XENMSG_WITH(timeout_ms, XENMSG_WAIT), note_opened, NULL),
			 0);
}

/* No socket, one at which nobody listens, and a daemon that goes before it has said anything. */
TEST_WITH(opening_waits_for_a_daemon_that_is_not_there_yet, make_place, leave_place)
{
	begin_to_wait(-1);
	assert_int_equal(xenmsg_wait(opened.conn, 60), 0);
	bind_listener();
	assert_int_equal(xenmsg_wait(opened.conn, 60), 0);
	assert_int_equal(listen(opened.listener, 1), 0);
	for (int round = 0; round < 2; round++) {
		while (!somebody_comes())
			assert_int_equal(xenmsg_wait(opened.conn, 10), 0);
		take_program();
		if (round == 0)
			close(opened.fd);
	}
	assert_int_equal(xenmsg_wait(opened.conn, 1), 0);
	assert_int_equal(xenmsg_domid(opened.conn), 0);
	say_welcome();
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);
	assert_int_equal(opened.outcomes, 1);
	assert_int_equal(opened.result, 0);
	assert_int_equal(xenmsg_domid(opened.conn), 7);
	close_opened();
	assert_int_equal(opened.outcomes, 1);
}

static void *listen_and_welcome(void *userdata)
{
	struct pollfd wait = {.fd = opened.listener, .events = POLLIN};

	bind_listener();
	assert_int_equal(listen(opened.listener, 1), 0);
	assert_int_equal(poll(&wait, 1, -1), 1);
	take_program();
	say_welcome();
	return NULL;
}

TEST_WITH(opening_waits_no_longer_than_its_time, make_place, leave_place)
{
	pthread_t thread;

	assert_int_equal(xenmsg_open(&opened.conn, opened.address.sun_path, XENMSG_WITH(50, XENMSG_WAIT)),
			 -ENOENT);
	assert_null(opened.conn);
	begin_to_wait(50);
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);
	assert_int_equal(opened.outcomes, 1);
	assert_int_equal(opened.result, -ENOENT);
	close_opened();
	begin_to_wait(-1);
	close_opened();
	assert_int_equal(opened.outcomes, 2);
	assert_int_equal(opened.result, -ECANCELED);

	assert_int_equal(pthread_create(&thread, NULL, listen_and_welcome, NULL), 0);
	assert_int_equal(xenmsg_open(&opened.conn, opened.address.sun_path, XENMSG_WITH(-1, XENMSG_WAIT)), 0);
	pthread_join(thread, NULL);
	assert_int_equal(xenmsg_domid(opened.conn), 7);
}

static int open_with_daemon(void **state)
{
	begin_to_open(state);
	say_welcome();
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);
	return 0;
}

/* ---- streams that come in -------------------------------------------------------------------- */

/* Answers a request for a stream. False: it was given up before. */
static bool answer_on(int fd)
{
	const struct frame_goodbye goodbye = {.error = (uint32_t)opened.result};
	const struct frame_welcome welcome = {.major = 1, .domid = 7};
	const struct frame_reply reply = {.error = 0};
	uint8_t frames[2 * (FRAME_HEADER_SIZE + FRAME_SMALL_MAX)] = {0},
						request[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];
	const size_t first = 24 + FRAME_HEADER_SIZE; /* HELLO, and the next header */
	struct frame_header header;
	uint32_t size;

	if (recv(fd, request, first, MSG_WAITALL) < (ssize_t)first)
		return false;
	assert_int_equal(frame_header_decode(request + 24, &header), 0);
	size = frame_size(header.length) - FRAME_HEADER_SIZE;
	if (recv(fd, request, size, MSG_WAITALL) < (ssize_t)size)
		return false;
	header = (struct frame_header){.type = FRAME_GOODBYE};
	if (opened.result) {
		header.length = frame_goodbye_encode(&goodbye, frames + FRAME_HEADER_SIZE);
		size = frame_wrap(frames, &header);
	} else {
		header = (struct frame_header){.type = FRAME_WELCOME};
		header.length = frame_welcome_encode(&welcome, frames + FRAME_HEADER_SIZE);
		size = frame_wrap(frames, &header);
		header = (struct frame_header){.type = FRAME_REPLY};
		header.length = frame_reply_encode(&reply, frames + size + FRAME_HEADER_SIZE);
		size += frame_wrap(frames + size, &header);
	}
	return send(fd, frames, size, MSG_NOSIGNAL) == size;
}

/* Answers the next request for a stream. On a slow machine the time for another try may have come before a
 * test was done with what it did in between. */
static void *answer_fetch(void *userdata)
{
	bool answered = false;

	while (!answered) {
		int fd = accept(opened.listener, NULL, NULL);

		answered = answer_on(fd);
		close(fd);
	}
	return NULL;
}

/* Calls xenmsg_accept(), as a loop does, of which the daemon hears, and answers with this error. */
static int accept_answered(int error)
{
	pthread_t thread;
	int r;

	opened.result = error;
	assert_int_equal(pthread_create(&thread, NULL, answer_fetch, NULL), 0);
	while ((r = xenmsg_accept(opened.conn, XENMSG_WITHIN(0), &opened.peer)) == -EAGAIN)
		loop_once(opened.conn);
	pthread_join(thread, NULL);
	return r;
}

static void tell_of_stream(void)
{
	const struct frame_incoming incoming = {
		.token = 9, .endpoint = {"shell", 5}, .domain_name = {"work", 4}, .host = {"hostb", 5}};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};

	say(FRAME_INCOMING, frame, frame_incoming_encode(&incoming, frame + FRAME_HEADER_SIZE));
}

TEST_WITH(a_stream_that_a_limit_refuses_waits_and_nobody_spins, open_with_daemon, leave_place)
{
	char elsewhere[sizeof(opened.address.sun_path) + 2];
	int fd;

	tell_of_stream();
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);

	assert_int_equal(accept_answered(ENOBUFS), -ENOBUFS);
	/* The daemon isn't asked again at once: nobody is there to answer. */
	assert_int_equal(xenmsg_accept(opened.conn, XENMSG_WITHIN(0), NULL), -EAGAIN);
	assert_int_equal(xenmsg_process(opened.conn), 0);
	assert_false(is_readable(opened.conn));
	assert_int_equal(xenmsg_wait(opened.conn, 0), 0);
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1); /* after a while */

	/* Nor is it lost when nobody could say whether it is still there, as while the daemon begins anew. */
	snprintf(elsewhere, sizeof(elsewhere), "%s.x", opened.address.sun_path);
	assert_int_equal(rename(opened.address.sun_path, elsewhere), 0);
	assert_int_equal(xenmsg_accept(opened.conn, XENMSG_WITHIN(0), NULL), -ECONNREFUSED);
	assert_int_equal(xenmsg_connect(opened.conn, "5:shell", XENMSG_WITHIN(0)),
			 -ECONNREFUSED); /* not: no such endpoint */
	assert_int_equal(rename(elsewhere, opened.address.sun_path), 0);
	assert_int_equal(xenmsg_wait(opened.conn, -1), 1);
	assert_int_equal(accept_answered(ETIMEDOUT), -ECONNREFUSED);
	/* As a loop does. */
	assert_int_equal(poll(&(struct pollfd){.fd = xenmsg_fd(opened.conn), .events = POLLIN}, 1, -1), 1);
	assert_int_equal(xenmsg_process(opened.conn), 1);
	fd = accept_answered(0);
	assert_true(fd >= 0);
	close(fd);
	assert_string_equal(xenmsg_peer_host(opened.peer), "hostb");
	assert_string_equal(xenmsg_peer_domain_name(opened.peer), "work");
	assert_string_equal(xenmsg_peer_endpoint(opened.peer), "shell");
	assert_int_equal(xenmsg_accept(opened.conn, XENMSG_WITHIN(0), NULL), -EAGAIN);
}

/* ---- streams that go out --------------------------------------------------------------------- */

struct dialled {
	int times, error, stream;
	char reason[256];
};

static void note_stream(void *userdata, const struct xenmsg_result *result)
{
	struct dialled *dialled = userdata;

	dialled->times++;
	dialled->error = result->error;
	dialled->stream = result->stream;
	snprintf(dialled->reason, sizeof(dialled->reason), "%s", result->reason);
}

static void loop_until_dialled(const struct dialled *dialled)
{
	while (!dialled->times)
		loop_once(opened.conn);
}

/* Begins to connect, and the daemon answers with this error. */
static struct dialled dial_answered(int error)
{
	struct dialled dialled = {0};
	pthread_t thread;

	opened.result = error;
	assert_int_equal(xenmsg_begin_connect(opened.conn, "5:shell", NULL, note_stream, &dialled, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, answer_fetch, NULL), 0);
	assert_int_equal(dialled.times, 0);
	loop_until_dialled(&dialled);
	pthread_join(thread, NULL);
	assert_int_equal(dialled.times, 1);
	return dialled;
}

TEST_WITH(a_stream_is_opened_without_waiting, open_with_daemon, leave_place)
{
	struct dialled dialled = dial_answered(EACCES);

	assert_int_equal(dialled.error, -EACCES);
	assert_non_null(strstr(dialled.reason, " may not reach 'shell'"));
	assert_int_equal(dialled.stream, -1);
	dialled = dial_answered(0);
	assert_int_equal(dialled.error, 0);
	assert_true(dialled.stream >= 0);
	assert_false(is_readable(opened.conn)); /* it is the program's own now */
	close(dialled.stream);
}

TEST_WITH(a_stream_that_nobody_answers_ends_in_time_or_withdrawn, open_with_daemon, leave_place)
{
	struct dialled late = {0}, given_up = {0}, left = {0};
	struct xenmsg_op *op;

	assert_int_equal(
		xenmsg_begin_connect(opened.conn, "5:shell", XENMSG_WITHIN(30), note_stream, &late, NULL), 0);
	loop_until_dialled(&late);
	assert_int_equal(late.error, -ETIMEDOUT);
	assert_int_equal(xenmsg_begin_connect(opened.conn, "5:shell", NULL, note_stream, &given_up, &op), 0);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	assert_int_equal(given_up.times, 0);
	loop_until_dialled(&given_up);
	assert_int_equal(given_up.error, -ETIMEDOUT);
	assert_int_equal(xenmsg_begin_connect(opened.conn, "5:shell", NULL, note_stream, &left, NULL), 0);
	assert_int_equal(xenmsg_begin_connect(opened.conn, "shell", NULL, note_stream, &left, NULL), -EINVAL);
	assert_int_equal(xenmsg_begin_connect(opened.conn, "5:shell", NULL, NULL, NULL, NULL), -EINVAL);
	close_opened();
	assert_int_equal(left.times, 1);
	assert_int_equal(left.error, -ECANCELED);
	assert_int_equal(late.times + given_up.times, 2);
}

/* Where the socket is mounted elsewhere, somebody else may have the name that the daemon gave it. A program
 * may have named it by a path from where it was. */
TEST_EACH(streams_go_where_the_program_has_found_the_daemon, 2)
{
	char path[100], here[200];
	bool is_relative = unit_number(state);
	int listener;

	fake_await(&fake, true, false);
	snprintf(path, sizeof(path), "%s/mounted", fake.directory);
	assert_int_equal(rename(fake.path, path), 0);
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(is_relative ? fake.directory : here), 0);
	assert_int_equal(xenmsg_open(&fake.conn, is_relative ? "mounted" : path, NULL), 0);
	fake_join(&fake);
	assert_int_equal(chdir(here), 0);
	unlink(path);
	listener = listen_at(is_relative ? path : fake.path);
	assert_int_equal(xenmsg_connect(fake.conn, "5:doors", XENMSG_WITHIN(20)),
			 is_relative ? -ETIMEDOUT : -ECONNREFUSED);
	assert_int_equal(accept(listener, NULL, NULL) >= 0, is_relative);
	close(listener);
	unlink(path);
	fake_stop(&fake);
}
