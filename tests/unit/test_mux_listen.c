/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mux_listen() waits for the daemon's answer, whatever comes meanwhile.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <signal.h>
#include <sys/time.h>

static void agree(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_reply(daemon, daemon->header.channel, 0, "", false);
}

static void refuse(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_reply(daemon, daemon->header.channel + 1, 0, "", false); /* to nothing */
	fake_reply(daemon, daemon->header.channel, EACCES, "not for you", false);
}

static void agree_late(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_open_kind(daemon, 1, CHANNEL_STREAM, "web");
	fake_send(daemon, FRAME_DATA, 0, 1, "hello", 5);
	fake_reply(daemon, daemon->header.channel, 0, "", false);
	fake_send(daemon, FRAME_DATA, 0, 1, " you", 4);
}

static void hang_up(struct fake *daemon)
{
	struct frame_goodbye goodbye = {.error = ENOBUFS, .text = {"too many", 8}};
	uint8_t payload[64];

	fake_expect(daemon, FRAME_BIND);
	fake_send(daemon, FRAME_GOODBYE, 0, 0, payload, frame_goodbye_encode(&goodbye, payload));
	fake_die(daemon);
}

static void vanish(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_die(daemon);
}

static int listen_while(void (*script)(struct fake *daemon))
{
	int r;

	fake_meanwhile(&fake, script);
	r = mux_listen(mux, "web");
	fake_join(&fake);
	return r;
}

static void an_endpoint_is_bound_or_refused(void **state)
{
	assert_int_equal(mux_listen(mux, "not a name"), -EINVAL);
	assert_int_equal(listen_while(refuse), -EACCES);
	assert_string_equal(mux_reason(mux), "not for you");
	assert_int_equal(listen_while(agree), 0);
	settle();
}

static void streams_come_in_while_an_endpoint_is_bound(void **state)
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
	assert_true(is_readable());
	assert_int_equal(listen_while(agree), 0);
	settle();
	assert_string_equal(writer->log, "r");
}

/* Even while a stream waits for room, which is there. */
static void lose_while_listening(void (*script)(struct fake *daemon))
{
	struct user *user = connected(1u << 30);

	if (fake.shared) {
		size_t all = write_until_full(user, 100000);

		read_data(user, all);
	}
	assert_int_equal(listen_while(script), -ENOTCONN);
	assert_string_equal(user->log, "b");
	assert_int_equal(mux_listen(mux, "web"), -ENOTCONN);
}

static void a_daemon_that_refuses_to_go_on_while_an_endpoint_is_bound(void **state)
{
	lose_while_listening(hang_up);
	assert_string_equal(mux_reason(mux), "too many");
}

static void a_daemon_that_dies_while_an_endpoint_is_bound(void **state)
{
	lose_while_listening(vanish);
}

static void be_interrupted(int signal)
{
}

static void a_signal_ends_the_waiting_but_not_the_session(void **state)
{
	struct sigaction action = {.sa_handler = be_interrupted}, before;
	struct itimerval often = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}},
			 never = {0};
	struct user *user = connected(LIMIT);

	assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(mux_listen(mux, "web"), -EINTR);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
	fake_expect(&fake, FRAME_BIND);
	fake_reply(&fake, fake.header.channel, EEXIST, "late", false);
	send_data(user, "hello", 5);
	settle();
	assert_string_equal(user->log, "d");
	assert_int_equal(listen_while(agree), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MUX_BOTH(an_endpoint_is_bound_or_refused),
		MUX_BOTH(streams_come_in_while_an_endpoint_is_bound),
		MUX_BOTH(a_daemon_that_refuses_to_go_on_while_an_endpoint_is_bound),
		MUX_BOTH(a_daemon_that_dies_while_an_endpoint_is_bound),
		MUX_BOTH(a_signal_ends_the_waiting_but_not_the_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
