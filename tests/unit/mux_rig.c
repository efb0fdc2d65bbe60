/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "wire/bytes.h"

#define PATIENCE_MS 20000
#define ROUNDS_MAX  10000 /* more is a loop without an end */
#define USERS_MAX   32

struct xenmsg *conn;
struct fake front;
struct user *next_incoming[4];
static struct user *users[USERS_MAX];
static unsigned user_count;

struct user *user_new(void)
{
	struct user *user = calloc(1, sizeof(*user));

	assert_non_null(user);
	assert_true(user_count < USERS_MAX);
	user->take = SIZE_MAX;
	users[user_count++] = user;
	return user;
}

void forget_log(struct user *user)
{
	memset(user->log, 0, sizeof(user->log));
}

void expect_log(const struct user *user, const char *log)
{
	settle();
	assert_string_equal(user->log, log);
}

void close_user(struct user *user)
{
	assert_false(user->is_closed);
	user->is_closed = true;
	xenmsg_stream_close(user->stream);
}

/* Notes it, and does what the test wants to be done in this callback. */
static void note(struct user *user, enum event event)
{
	size_t length = strlen(user->log);
	char letter = "?oderb"[event];

	assert_false(user->is_closed);
	if (event != DATA || length == 0 || user->log[length - 1] != letter) {
		assert_true(length < sizeof(user->log) - 1);
		user->log[length] = letter;
	}
	if (user->when != event)
		return;
	user->when = NEVER;
	for (unsigned i = 0; i < 3; i++)
		if (user->victims[i])
			close_user(user->victims[i]);
	if (user->also)
		user->also(user);
}

static void on_opened(void *userdata, struct xenmsg_stream *stream)
{
	note(userdata, OPENED);
}

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct user *user = userdata;
	size_t taken = size < user->take ? size : user->take;

	assert_true(size > 0 && taken <= sizeof(user->bytes) - user->size);
	memcpy(user->bytes + user->size, data, taken);
	user->size += taken;
	note(user, DATA);
	return taken;
}

static void on_ended(void *userdata, struct xenmsg_stream *stream)
{
	note(userdata, ENDED);
}

static void on_room(void *userdata, struct xenmsg_stream *stream)
{
	note(userdata, ROOM);
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct user *user = userdata;

	assert_true(error < 0);
	user->error = error;
	snprintf(user->why, sizeof(user->why), "%s", xenmsg_reason(conn, error));
	note(user, BROKEN);
}

const struct xenmsg_stream_callbacks user_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.opened = on_opened,
	.data = on_data,
	.ended = on_ended,
	.room = on_room,
	.broken = on_broken,
};

void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer)
{
	struct user *user = next_incoming[0];

	assert_ptr_equal(userdata, &conn);
	assert_non_null(user);
	memmove(next_incoming, next_incoming + 1, sizeof(next_incoming) - sizeof(*next_incoming));
	next_incoming[3] = NULL;
	user->peer = *peer;
	user->is_closed = user->is_unwanted;
	if (user->is_unwanted)
		return;
	user->stream = stream;
	if (user->when == OPENED) {
		note(user, OPENED);
		return;
	}
	xenmsg_stream_set_callbacks(stream, &user_callbacks, user);
}

static void note_bound(void *userdata, const struct xenmsg_result *result)
{
	assert_ptr_equal(userdata, &conn);
	assert_int_equal(result->error, 0);
}

void let_session_begin(void)
{
	while (pthread_tryjoin_np(fake.thread, NULL) == EBUSY)
		assert_true(xenmsg_wait(conn, 10) >= 0);
	settle();
}

void mux_set_up(bool shared, const struct xenmsg_options *options)
{
	fake_await(&front, shared, false);
	assert_int_equal(xenmsg_open(&conn, front.path, options), 0);
	front.conn = conn;
	fake_join(&front);
	fake_await_second(&fake, &front, false);
	assert_int_equal(
		xenmsg_begin_stream_listen(conn, "inbox", NULL, on_incoming, note_bound, &conn, NULL), 0);
	let_session_begin();
	assert_true(fake.asks_mux);
	fake_answer(&fake, FRAME_BIND, 0, "");
	settle();
}

void close_conn(void)
{
	xenmsg_close(conn);
	conn = front.conn = NULL;
}

int set_up_mux_shared(void **state)
{
	mux_set_up(true, NULL);
	return 0;
}

int set_up_mux_socket(void **state)
{
	mux_set_up(false, NULL);
	return 0;
}

int tear_down_mux(void **state)
{
	close_conn();
	while (user_count) {
		struct user *user = users[--user_count];

		if (user->stream && !user->is_closed)
			xenmsg_stream_close(user->stream);
		free(user);
	}
	memset(next_incoming, 0, sizeof(next_incoming));
	fake_stop(&fake);
	fake_stop(&front);
	return 0;
}

void settle(void)
{
	for (unsigned rounds = 0; is_readable(conn); rounds++) {
		assert_true(rounds < ROUNDS_MAX);
		assert_true(xenmsg_process(conn) >= 0);
	}
}

int process_until_over(void)
{
	for (unsigned rounds = 0;; rounds++) {
		struct pollfd wait = {.fd = xenmsg_fd(conn), .events = POLLIN};
		int r;

		assert_true(rounds < ROUNDS_MAX);
		assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
		r = xenmsg_process(conn);
		if (r < 0)
			return r;
	}
}

void begin_to_dial(struct user *user)
{
	assert_int_equal(xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, user, &user->stream), 0);
}

struct user *dial(void)
{
	struct user *user = user_new();
	struct frame_open open;

	begin_to_dial(user);
	settle();
	fake_read_up_to(&fake, FRAME_OPEN); /* behind what the others have sent */
	open = FAKE_HEARD(&fake, open);
	assert_int_equal(open.kind, CHANNEL_STREAM);
	assert_int_equal(open.name.size, strlen(PEER));
	assert_memory_equal(open.name.data, PEER, strlen(PEER));
	user->number = fake.header.channel;
	assert_int_equal(user->number % 2, 0);
	return user;
}

struct user *connected(uint64_t limit)
{
	struct user *user = dial();

	fake_opened(&fake, user->number, limit, FAKE_MAX_MESSAGE);
	expect_log(user, "o");
	forget_log(user);
	return user;
}

struct user *accepted(uint32_t number, uint64_t limit)
{
	struct user *user = user_new();

	user->number = number;
	next_incoming[0] = user;
	fake_open_kind(&fake, number, CHANNEL_STREAM, "inbox");
	if (limit)
		fake_credit(&fake, number, 0, limit);
	settle();
	assert_non_null(user->stream);
	return user;
}

void send_data(const struct user *user, const void *data, uint32_t size)
{
	fake_send(&fake, FRAME_DATA, 0, user->number, data, size);
}

void send_fin(const struct user *user, uint64_t total)
{
	fake_fin(&fake, user->number, total);
}

void expect_frame(const struct user *user, uint8_t type)
{
	settle();
	fake_expect(&fake, type);
	assert_int_equal(fake.header.channel, user->number);
}

void expect_data(const struct user *user, const void *data, uint32_t size)
{
	expect_frame(user, FRAME_DATA);
	assert_int_equal(fake.header.length, size);
	assert_memory_equal(fake.payload, data, size);
}

void expect_offset(const struct user *user, uint8_t type, uint64_t offset)
{
	expect_frame(user, type);
	assert_int_equal(get_u64(fake.payload), offset);
}

void expect_reset(const struct user *user, uint32_t error)
{
	expect_frame(user, FRAME_RESET);
	assert_int_equal(FAKE_HEARD(&fake, reset).error, error);
}

void expect_silence(void)
{
	settle();
	assert_false(fake_has_frame(&fake));
}

void end_both(struct user *user, uint64_t came, uint64_t sent)
{
	fake_credit(&fake, user->number, sent, sent + LIMIT);
	send_fin(user, came);
	settle();
	xenmsg_stream_end(user->stream);
	settle();
	while (fake_has_frame(&fake)) {
		fake_read(&fake);
		assert_int_equal(fake.header.channel, user->number);
	}
	assert_int_equal(fake.header.type, FRAME_FIN);
}

void read_data(const struct user *user, size_t size)
{
	while (size) {
		fake_expect(&fake, FRAME_DATA);
		assert_int_equal(fake.header.channel, user->number);
		assert_true(fake.header.length && fake.header.length <= size);
		size -= fake.header.length;
	}
}

size_t written_of(struct user *user, const void *data, size_t size)
{
	ssize_t written = xenmsg_stream_write(user->stream, data, size);

	assert_true(written >= 0 && (size_t)written <= size);
	return (size_t)written;
}

size_t write_until_full(struct user *user, size_t size)
{
	static const uint8_t zeros[100001];
	size_t all = 0, written = size;

	while (written == size) {
		written = written_of(user, zeros, size);
		all += written;
		assert_true(all < 16u << 20);
	}
	return all;
}
