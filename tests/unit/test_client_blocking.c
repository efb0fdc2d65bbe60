/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each function that waits meets each state of a connection: it returns, not much later than its time-out
 * says, whatever the daemon or the program's callbacks do meanwhile. And where the process is stopped and
 * continued it doesn't notice that.
 */
#include "libclient/conn.h"

#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "xenmsg-stream.h"

#define SHORT_MS     30
#define PATIENCE_S   60
#define MAX_ANSWERS  8
#define EACH(i, row) for (size_t i = 0; i < ROWS(row); i++)

/* ---- the functions that wait ----------------------------------------------------------------- */

static int time_ms; /* their time-out */

static const struct xenmsg_options *within(unsigned flags)
{
	static struct xenmsg_options options;

	options = (struct xenmsg_options){.size = sizeof(options), .timeout_ms = time_ms, .flags = flags};
	return &options;
}

#define WITHIN within(0)

static int begun; /* of what was begun, which a connection that is over refuses */

static void ignore_event(void *userdata, const struct xenmsg_event *event)
{
}

static void ignore_stream(void *userdata, struct xenmsg_stream *come, const struct xenmsg_peer *peer)
{
}

static int with_flags(int (*function)(struct xenmsg *, const char *, const void *, size_t,
				      const struct xenmsg_options *, struct xenmsg_result *),
		      unsigned flags)
{
	return function(fake.conn, "5:inbox", "x", 1, within(flags), NULL);
}

static int blocking_wait(void)
{
	return xenmsg_wait(fake.conn, time_ms);
}

static int blocking_recv(void)
{
	struct xenmsg_message *message;

	return xenmsg_recv(fake.conn, &message, time_ms);
}

static int blocking_flush(void)
{
	begun = xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL);
	return xenmsg_flush(fake.conn, time_ms);
}

static int blocking_send(void)
{
	return with_flags(xenmsg_send, 0);
}

static int blocking_send_waiting(void)
{
	return with_flags(xenmsg_send, XENMSG_WAIT);
}

static int blocking_call(void)
{
	return with_flags(xenmsg_call, 0);
}

static int blocking_drain(void)
{
	begun = xenmsg_begin_bind(fake.conn, "work", NULL, NULL, NULL, NULL, NULL);
	return xenmsg_drain(fake.conn, "work", WITHIN);
}

static int blocking_room(void)
{
	static const uint8_t data[1 << 16];

	do
		begun = xenmsg_begin_send(fake.conn, "5:full", data, sizeof(data), NULL, NULL, NULL, NULL);
	while (begun == 0);
	return xenmsg_await_room(fake.conn, "5:full", sizeof(data), WITHIN);
}

static int blocking_bind(void)
{
	return xenmsg_bind(fake.conn, "box", WITHIN, NULL, NULL);
}

static int blocking_subscribe(void)
{
	return xenmsg_subscribe(fake.conn, "5:news", WITHIN, handle, NULL);
}

static int blocking_pattern(void)
{
	return xenmsg_subscribe(fake.conn, "*:other", within(XENMSG_PATTERN), handle, NULL);
}

static int blocking_watch(void)
{
	int r = xenmsg_watch(fake.conn, "*", WITHIN, ignore_event, NULL);

	return r > 0 ? 0 : r;
}

static int blocking_query(void)
{
	char *json;

	return xenmsg_query(fake.conn, "peers", WITHIN, &json);
}

static int blocking_ping(void)
{
	return xenmsg_ping(fake.conn, "5", WITHIN, NULL);
}

static int blocking_listen(void)
{
	return xenmsg_listen(fake.conn, "doors", WITHIN);
}

static int blocking_stream_listen(void)
{
	return xenmsg_stream_listen(fake.conn, "gates", WITHIN, ignore_stream, NULL);
}

static int blocking_accept(void)
{
	return xenmsg_accept(fake.conn, WITHIN, NULL);
}

static int blocking_connect(void)
{
	return xenmsg_connect(fake.conn, "5:doors", WITHIN);
}

static int blocking_connect_waiting(void)
{
	return xenmsg_connect(fake.conn, "5:doors", within(XENMSG_WAIT));
}

#define CALL(name, answers)                                                                                  \
	{                                                                                                    \
#name, blocking_##name, answers                                                              \
	}

/* With what it returns when its time is up. Sending withdraws then, and a daemon may not answer that. */
static const struct {
	const char *name;
	int (*call)(void);
	int late;
} calls[] = {
	CALL(wait, 0),
	CALL(recv, -ETIMEDOUT),
	CALL(flush, -ETIMEDOUT),
	CALL(send, -ECONNRESET),
	CALL(send_waiting, -ECONNRESET),
	CALL(call, -ETIMEDOUT),
	CALL(drain, 0),
	CALL(room, -ETIMEDOUT),
	CALL(bind, -ETIMEDOUT),
	CALL(subscribe, -ETIMEDOUT),
	CALL(pattern, -ETIMEDOUT),
	CALL(watch, -ETIMEDOUT),
	CALL(query, -ETIMEDOUT),
	CALL(ping, -ETIMEDOUT),
	CALL(listen, -ETIMEDOUT),
	CALL(stream_listen, -ETIMEDOUT),
	CALL(accept, -ETIMEDOUT),
	CALL(connect, -ETIMEDOUT),
	CALL(connect_waiting, -ETIMEDOUT),
};

static const char *cell[2];

static void say_which(int number)
{
	for (int i = 0; i < 2; i++)
		if (write(STDERR_FILENO, cell[i], strlen(cell[i])) < 0 || write(STDERR_FILENO, " ", 1) < 0)
			break;
	(void)!write(STDERR_FILENO, "never returns\n", 14);
	_exit(1);
}

/* ---- the states ------------------------------------------------------------------------------ */

static bool shared, is_over;

/* The daemon reads what the program says, and says nothing. */
static void listen_only(struct fake *daemon)
{
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		if (fake_has_frame(daemon))
			fake_read(daemon);
		else
			usleep(1000);
}

static void open_with(unsigned flags)
{
	fake_await(&fake, shared, false);
	assert_int_equal(xenmsg_open(&fake.conn, fake.path, XENMSG_FLAGS(flags)), 0);
	fake_join(&fake);
}

/* In the daemon's place is a socket that takes connections, and answers none. */
static int unanswered = -1;

static void be_deaf(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	unlink(fake.path);
	unanswered = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, fake.path, sizeof(fake.path));
	assert_int_equal(bind(unanswered, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(unanswered, 8), 0);
}

static void hear_again(void)
{
	if (unanswered >= 0)
		close(unanswered);
	unanswered = -1;
	unlink(fake.path);
}

static void be_silent(void)
{
	open_with(0);
	be_deaf();
	fake_meanwhile(&fake, listen_only);
}

/* As where it is stopped: nothing that the program says is read. */
static void stand_still(struct fake *daemon)
{
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		usleep(1000);
}

static void be_still(void)
{
	open_with(0);
	be_deaf();
	fake_meanwhile(&fake, stand_still);
}

static void be_paused(void)
{
	be_silent();
	xenmsg_pause(fake.conn);
}

static void die_soon(struct fake *daemon)
{
	usleep(SHORT_MS * 500);
	shutdown(daemon->fd, SHUT_RDWR); /* as it ends, while the test has its descriptor */
}

static void be_left(void)
{
	open_with(0);
	fake_meanwhile(&fake, die_soon);
}

static void be_paused_and_left(void)
{
	be_left();
	xenmsg_pause(fake.conn);
}

static void be_alone(void)
{
	open_with(0);
	fake_die(&fake);
}

static void be_left_lasting(void)
{
	open_with(XENMSG_RECONNECT);
	fake_meanwhile(&fake, die_soon);
}

static void be_alone_lasting(void)
{
	open_with(XENMSG_RECONNECT);
	fake_die(&fake);
	unlink(fake.path);
}

/* The streams' session is being opened when the daemon goes: its socket hangs up and is no more read. */
static void be_alone_dialling(void)
{
	open_with(XENMSG_RECONNECT);
	be_deaf();
	begun = xenmsg_begin_stream_listen(fake.conn, "early", XENMSG_WITHIN(-1), ignore_stream, NULL, NULL,
					   NULL);
	while (fake.conn->mux->state != MUX_DIALS)
		xenmsg_wait(fake.conn, 1);
	hear_again();
	fake_die(&fake);
}

static void be_opening(void)
{
	fake = (struct fake){.fd = -1, .wake_daemon = -1, .directory = "/tmp/xenmsg-test.XXXXXX"};
	assert_non_null(mkdtemp(fake.directory));
	snprintf(fake.path, sizeof(fake.path), "%s/socket", fake.directory);
	be_deaf();
	assert_int_equal(xenmsg_begin_open(&fake.conn, fake.path, XENMSG_WITHIN(-1), NULL, NULL), 0);
}

/* The last pattern is given up while something is due for it. */
static void be_without_patterns(void)
{
	open_with(0);
	assert_int_equal(xenmsg_begin_subscribe(fake.conn, "*:news", XENMSG_FLAGS(XENMSG_PATTERN), handle,
						NULL, NULL, NULL),
			 0);
	xenmsg_process(fake.conn);
	fake_watch(&fake, "*:news", 0);
	xenmsg_process(fake.conn);
	fake.conn->pattern_due = true; /* as a notice to its handler leaves it */
	assert_int_equal(xenmsg_unsubscribe(fake.conn, "*:news"), 0);
	fake_meanwhile(&fake, listen_only);
}

static void begin_once_more(void *userdata, const struct xenmsg_result *result)
{
	if (result->error == 0)
		begun = xenmsg_begin_await_room(fake.conn, "6:empty", 1, NULL, begin_once_more, NULL, NULL);
}

/* What is begun in a callback has its outcome at once. */
static void be_busy(void)
{
	be_silent();
	begun = xenmsg_begin_await_room(fake.conn, "6:empty", 1, NULL, begin_once_more, NULL, NULL);
}

static void chat(struct fake *daemon)
{
	const struct frame_header header = {.type = 200};
	uint8_t frame[FRAME_HEADER_SIZE];

	frame_header_encode(&header, frame);
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
		if (daemon->shared && ring_writer_space(&daemon->in, 8192) < 8192)
			continue;
		if (daemon->shared)
			fake_send(daemon, 200, 0, 0, "", 0);
		else if (send(daemon->fd, frame, sizeof(frame), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			usleep(100);
		if (fake_has_frame(daemon))
			fake_read(daemon);
	}
}

/* The daemon says more than the program can read. */
static void be_talked_to(void)
{
	open_with(0);
	fake_meanwhile(&fake, chat);
}

static bool is_closed;

static void close_it(void *userdata, const struct xenmsg_result *result)
{
	is_closed = result->error == -ETIMEDOUT;
	if (is_closed)
		xenmsg_close(fake.conn);
}

/* A callback closes it meanwhile. */
static void be_closed(void)
{
	be_silent();
	begun = xenmsg_begin_ping(fake.conn, "5", XENMSG_WITHIN(SHORT_MS / 2), close_it, NULL, NULL);
}

static const struct {
	const char *name;
	void (*begin)(void);
	bool has_script;
} states[] = {
	{"silent", be_silent, true},
	{"still", be_still, true},
	{"paused", be_paused, true},
	{"left", be_left, true},
	{"paused and left", be_paused_and_left, true},
	{"alone", be_alone, false},
	{"left lasting", be_left_lasting, true},
	{"alone lasting", be_alone_lasting, false},
	{"alone dialling", be_alone_dialling, false},
	{"opening", be_opening, false},
	{"without patterns", be_without_patterns, true},
	{"busy", be_busy, true},
	{"talked to", be_talked_to, true},
	{"closed", be_closed, true},
};

/* What was sent may yet be taken, so the library waits for this long until it is read. */
#define UNREAD_MS 10000

static bool is_sent(size_t call)
{
	return calls[call].call == blocking_send || calls[call].call == blocking_send_waiting ||
	       calls[call].call == blocking_call;
}

static void meet(size_t state, size_t call)
{
	int64_t began;
	int r;

	cell[0] = states[state].name;
	cell[1] = calls[call].name;
	is_over = is_closed = false;
	states[state].begin();
	alarm(PATIENCE_S);
	began = now_ms();
	r = calls[call].call();
	began = now_ms() - began;
	alarm(0);
	if (states[state].begin == be_still && began > UNREAD_MS / 2)
		fail_msg("%s, %s: %lld ms", cell[0], cell[1], (long long)began);
	__atomic_store_n(&is_over, true, __ATOMIC_RELAXED);
	if (states[state].has_script)
		fake_join(&fake);
	if (r == -EINTR || r == -EAGAIN || (states[state].begin == be_silent && r != calls[call].late) ||
	    (states[state].begin == be_talked_to && fake.conn->dead))
		fail_msg("%s, %s: %d", cell[0], cell[1], r);
	if (is_closed)
		fake.conn = NULL;
	hear_again();
	fake_stop(&fake);
}

BEFORE_ALL
{
	signal(SIGALRM, say_which);
}

TEST_EACH(each_function_that_waits_returns_in_each_state, 2 * ROWS(states))
{
	time_ms = SHORT_MS;
	shared = unit_number(state) % 2;
	EACH(i, calls)
	{
		size_t which = (size_t)unit_number(state) / 2;

		if (states[which].begin != be_still || !is_sent(i))
			meet(which, i);
	}
}

/* ---- stopped and continued, as by Ctrl-Z and fg, or by the freezer before a save ------------- */

/* A process that does so to this one, wherever it sleeps. */
static pid_t begin_to_stop(void)
{
	pid_t pid = fork(), parent;

	if (pid != 0)
		return pid;
	parent = getppid();
	for (int i = 0; i < 8; i++) {
		usleep(SHORT_MS * 200);
		kill(parent, SIGSTOP);
		usleep(1000);
		kill(parent, SIGCONT);
	}
	_exit(0);
}

static void end_stopping(pid_t pid)
{
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

TEST_EACH(who_is_stopped_and_goes_on_waits_on, 2)
{
	time_ms = 3 * SHORT_MS;
	shared = unit_number(state);
	EACH(i, calls)
	{
		pid_t pid = begin_to_stop();

		meet(0, i);
		end_stopping(pid);
	}
}

TEST(opening_goes_on_behind_a_stop)
{
	const struct xenmsg_options waits = {.size = sizeof(waits), .timeout_ms = 100, .flags = XENMSG_WAIT};
	struct xenmsg *conn;
	pid_t pid = begin_to_stop();

	be_opening();
	assert_int_equal(xenmsg_open(&conn, fake.path, XENMSG_WITHIN(100)), -ETIMEDOUT);
	end_stopping(pid);
	hear_again();
	fake_stop(&fake);
	pid = begin_to_stop();
	assert_int_equal(xenmsg_open(&conn, "/nonexistent/socket", &waits), -ENOENT);
	end_stopping(pid);
}
