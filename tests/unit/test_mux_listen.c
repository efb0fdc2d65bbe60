/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Endpoints for streams: xenmsg_stream_listen() waits for the daemon's answer, whatever comes meanwhile,
 * and whoever opened a stream is told.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <signal.h>
#include <sys/time.h>

static void agree_late(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_open_kind(daemon, 1, CHANNEL_STREAM, "web");
	fake_send(daemon, FRAME_DATA, 0, 1, "hello", 5);
	fake_reply(daemon, daemon->header.channel, 0, "");
	fake_send(daemon, FRAME_DATA, 0, 1, " you", 4);
}

static void hang_up(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	FAKE_SAY(daemon, GOODBYE, goodbye, 0, .error = ENOBUFS, .text = {"too many", 8});
	fake_die(daemon);
}

static void vanish(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_die(daemon);
}

static int listen_to(const char *endpoint)
{
	return xenmsg_stream_listen(conn, endpoint, XENMSG_FLAGS(XENMSG_FROM_HOSTS), on_incoming, &conn);
}

static int listen_while(void (*script)(struct fake *daemon))
{
	int r;

	fake_meanwhile(&fake, script);
	r = listen_to("web");
	fake_join(&fake);
	return r;
}

static int listen_answered(const char *endpoint, uint32_t error, const char *reason)
{
	int r;

	fake_answer_meanwhile(&fake, FRAME_BIND, error, reason);
	r = listen_to(endpoint);
	fake_join(&fake);
	return r;
}

MUX_BOTH(an_endpoint_is_bound_or_refused)
{
	assert_int_equal(listen_to("not a name"), -EINVAL);
	assert_int_equal(listen_answered("web", EACCES, "not for you"), -EACCES);
	assert_string_equal(xenmsg_reason(conn, 0), "not for you");
	assert_int_equal(listen_answered("web", 0, ""), 0);
	settle();
	assert_int_equal(xenmsg_stream_listen(conn, "web", XENMSG_FLAGS(2), on_incoming, &conn), -EINVAL);
	expect_silence();
}

static void agree_for_this_host(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	assert_int_equal(FAKE_HEARD(daemon, bind).kinds, BIND_STREAMS);
	fake_reply(daemon, daemon->header.channel, 0, "");
}

MUX_BOTH(streams_of_other_hosts_are_asked_for)
{
	fake_meanwhile(&fake, agree_for_this_host);
	assert_int_equal(xenmsg_stream_listen(conn, "here", NULL, on_incoming, &conn), 0);
	fake_join(&fake);
	assert_int_equal(listen_answered("web", 0, ""), 0);
	assert_int_equal(FAKE_HEARD(&fake, bind).kinds, BIND_STREAMS | BIND_HOSTS);
}

MUX_BOTH(an_endpoint_is_removed)
{
	assert_int_equal(xenmsg_unbind(conn, "web"), -ENOENT);
	assert_int_equal(listen_answered("web", 0, ""), 0);
	assert_int_equal(xenmsg_unbind(conn, "web"), 0);
	settle();
	fake_expect(&fake, FRAME_UNBIND);
	assert_int_equal(fake.header.length, 3);
	assert_memory_equal(fake.payload, "web", 3);
	assert_int_equal(xenmsg_unbind(conn, "web"), -ENOENT);
	fake_reply(&fake, fake.header.channel, 0, "");
	fake_open_kind(&fake, 1, CHANNEL_STREAM, "web"); /* was on its way: nobody takes it */
	settle();
	fake_expect(&fake, FRAME_RESET);
	expect_silence();
}

MUX_BOTH(a_stream_with_which_nothing_is_done_is_closed)
{
	struct user *user = user_new();

	user->number = 1;
	user->is_unwanted = true;
	next_incoming[0] = user;
	fake_open_kind(&fake, 1, CHANNEL_STREAM, "web");
	expect_reset(user, ECONNRESET);
	assert_string_equal(user->log, "");
}

MUX_SHARED(a_stream_to_what_is_no_endpoint_ends_the_session)
{
	fake_open_kind(&fake, 1, CHANNEL_STREAM, "not a name");
	assert_int_equal(process_until_over(), -EPROTO);
}

MUX_BOTH(a_session_can_be_waited_for)
{
	struct user *user = connected(LIMIT);
	int r;

	while ((r = xenmsg_wait(conn, 0)) > 0)
		;
	assert_int_equal(r, 0);
	assert_int_equal(xenmsg_wait(conn, 20), 0);
	send_data(user, "hello", 5);
	while (user->size < 5)
		assert_true(xenmsg_wait(conn, -1) >= 0);
	fake_die(&fake);
	while ((r = xenmsg_wait(conn, -1)) >= 0)
		;
	assert_int_equal(r, -ENOTCONN);
	assert_string_equal(user->log, "db");
}

MUX_BOTH(streams_come_in_while_an_endpoint_is_bound)
{
	struct user *user = user_new(), *writer = connected(1u << 30);
	size_t all;

	next_incoming[0] = user;
	assert_int_equal(listen_while(agree_late), 0);
	settle();
	assert_int_equal(user->size, 9);
	assert_memory_equal(user->bytes, "hello you", 9);
	/* and while another one waits for room */
	if (!fake.shared)
		return; /* the fake reads the socket only after the program has written to it */
	all = write_until_full(writer, 100000);
	settle();
	read_data(writer, all);
	assert_true(is_readable(conn));
	assert_int_equal(listen_answered("other", 0, ""), 0);
	expect_log(writer, "r");
}

/* Even while a stream waits for room, which is there. */
static void lose_while_listening(void (*script)(struct fake *daemon), const char *reason)
{
	struct user *user = connected(1u << 30);

	if (fake.shared) {
		size_t all = write_until_full(user, 100000);

		read_data(user, all);
	}
	assert_int_equal(listen_while(script), -ENOTCONN);
	assert_string_equal(xenmsg_reason(conn, 0), reason);
	assert_string_equal(user->log, fake.shared ? "rb" : "b");
	assert_int_equal(listen_to("web"), -ENOTCONN);
}

MUX_BOTH(a_daemon_that_refuses_to_go_on_while_an_endpoint_is_bound)
{
	lose_while_listening(hang_up, "too many");
}

MUX_BOTH(a_daemon_that_dies_while_an_endpoint_is_bound)
{
	lose_while_listening(vanish, "");
}

static int refused;

static void listen_within(struct user *user)
{
	refused = xenmsg_stream_listen(conn, "web", NULL, on_incoming, &conn);
}

MUX_BOTH(a_callback_may_not_wait_for_an_endpoint)
{
	struct user *user = connected(LIMIT);

	refused = 0;
	user->when = DATA;
	user->also = listen_within;
	send_data(user, "hello", 5);
	settle();
	assert_int_equal(refused, -EBUSY);
	expect_silence();
}

static void be_interrupted(int signal)
{
}

/* Waits for an answer that doesn't come until a signal does. */
static int listen_until_a_signal(void)
{
	struct sigaction action = {.sa_handler = be_interrupted}, before;
	struct itimerval often = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}},
			 never = {0};
	int r;

	assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	r = listen_to("web");
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
	return r;
}

MUX_BOTH(a_signal_ends_the_waiting_but_not_the_session)
{
	struct user *user = connected(LIMIT);

	assert_int_equal(listen_until_a_signal(), -EINTR);
	fake_answer(&fake, FRAME_BIND, EEXIST, "late");
	send_data(user, "hello", 5);
	expect_log(user, "d");
	fake_expect(&fake, FRAME_UNBIND);
	assert_int_equal(listen_answered("web", 0, ""), 0);
}
