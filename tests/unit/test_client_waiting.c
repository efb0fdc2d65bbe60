/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about what waits for its receiver (XENMSG_WAIT), with a daemon that says when it is
 * there.
 */
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <string.h>

static struct xenmsg_op *send_waiting(const char *address, struct ended *ended)
{
	struct xenmsg_op *op = NULL;

	assert_int_equal(xenmsg_begin_send(fake.conn, address, "hello", 5, XENMSG_FLAGS(XENMSG_WAIT),
					   note_end, ended, &op),
			 0);
	return op;
}

/* Lets the library work until the daemon has something to read. */
static void process(void)
{
	while (!fake_has_frame(&fake))
		xenmsg_process(fake.conn);
}

/* The daemon refuses what was opened. */
static void refuse(const char *address, uint32_t error)
{
	uint32_t channel = expect_open(address);

	fake_expect(&fake, FRAME_DATA);
	fake_reset(&fake, channel, error, 0, 0);
	process();
	fake_expect(&fake, FRAME_RESET);
}

static uint32_t expect_watch(const char *pattern)
{
	process();
	return fake_expect_watch(&fake, pattern);
}

/* A message whose receiver isn't there, for which the daemon watches. Returns the number of that watch. */
static uint32_t park(uint32_t error)
{
	uint32_t watch;

	refuse("5:inbox", error);
	watch = expect_watch("5:inbox");
	fake_watched(&fake, watch, 0);
	return watch;
}

static void tell(uint32_t watch, uint32_t kind)
{
	FAKE_EVENT(&fake, watch, .kind = kind, .domid = 5, .text = {"inbox", 5});
}

/* It is sent, and taken. */
static void expect_sent(const struct ended *ended)
{
	uint32_t channel;

	process();
	channel = expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	fake_credit(&fake, channel, 24, 65536);
	expect_end(ended, 0);
}

BOTH(what_waits_goes_when_the_endpoint_comes)
{
	struct ended ended = {0};
	uint32_t watch;

	send_waiting("5:inbox", &ended);
	watch = park(EHOSTDOWN);
	tell(watch, EVENT_ENDPOINT_UP);
	expect_sent(&ended);
	process();
	fake_expect_unwatch(&fake, watch);
}

BOTH(what_came_before_the_refusal_is_tried_at_once)
{
	struct ended first = {0}, second = {0};
	uint32_t watch, channel;

	send_waiting("5:inbox", &first);
	watch = park(ENOENT);
	tell(watch, EVENT_ENDPOINT_UP);
	process();
	channel = expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	send_waiting("5:inbox", &second);
	process();
	fake_expect(&fake, FRAME_DATA);
	/* It went and came meanwhile, which is told before the refusal comes. */
	tell(watch, EVENT_ENDPOINT_DOWN);
	tell(watch, EVENT_ENDPOINT_UP);
	fake_reset(&fake, channel, ENOENT, 0, 0);
	process();
	fake_expect(&fake, FRAME_RESET);
	process();
	channel = expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	process();
	fake_expect(&fake, FRAME_DATA);
	assert_int_equal(fake.header.channel, channel);
	fake_credit(&fake, channel, 48, 65536);
	loop_until(&second);
	assert_int_equal(first.times, 1);
	assert_int_equal(first.result.error + second.result.error, 0);
}

BOTH(what_is_listed_and_not_there_is_tried_again)
{
	struct ended ended = {0};
	uint32_t watch;

	send_waiting("5:inbox", &ended);
	watch = park(ENOENT);
	tell(watch, EVENT_ENDPOINT_UP);
	for (int i = 0; i < 3; i++) {
		process();
		refuse("5:inbox", ENOENT);
	}
	expect_sent(&ended);
}

BOTH(what_waits_is_withdrawn_at_once_and_for_certain)
{
	struct ended first = {0}, second = {0}, third = {0};
	struct xenmsg_op *op;
	uint32_t watch;

	op = send_waiting("5:inbox", &first);
	watch = park(ENOENT);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, XENMSG_WITH(1, XENMSG_WAIT),
					   note_end, &second, NULL),
			 0);
	expect_end(&second, -ETIMEDOUT);
	assert_int_equal(second.result.fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(first.times, 0);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	expect_end(&first, -ETIMEDOUT);
	assert_int_equal(first.result.fate, XENMSG_FATE_NOT_DONE);
	process();
	fake_expect_unwatch(&fake, watch);
	assert_false(fake_has_frame(&fake));
	/* Who comes next begins anew. */
	send_waiting("5:inbox", &third);
	expect_sent(&third);
}

BOTH(what_cannot_be_watched_ends_with_what_it_met)
{
	static const struct {
		uint32_t error;
		int outcome;
	} cases[] = {{ENOBUFS, -ENOBUFS}, {EHOSTUNREACH, -EHOSTDOWN}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ended ended = {0};

		send_waiting("hostb/5:inbox", &ended);
		refuse("hostb/5:inbox", EHOSTDOWN);
		fake_watched(&fake, expect_watch("hostb/5:inbox"), cases[i].error);
		expect_end(&ended, cases[i].outcome);
		assert_int_equal(ended.result.fate, XENMSG_FATE_NOT_DONE);
	}
}

BOTH(a_uuid_is_watched_for_in_every_domain)
{
	struct ended ended = {0};

	send_waiting("6ba7b810-9dad-11d1-80b4-00c04fd430c8:inbox", &ended);
	refuse("6ba7b810-9dad-11d1-80b4-00c04fd430c8:inbox", EHOSTDOWN);
	expect_watch("*:inbox");
	assert_int_equal(ended.times, 0);
	fake_close(&fake);
	assert_int_equal(ended.times, 1);
	assert_int_equal(ended.result.error, -ECANCELED);
}

BOTH(what_waits_ends_with_its_daemon)
{
	struct ended parked = {0}, behind = {0};

	send_waiting("5:inbox", &parked);
	park(ENOENT);
	send_waiting("5:inbox", &behind);
	fake_die(&fake);
	loop_until(&parked);
	assert_int_equal(behind.times, 1);
	assert_int_equal(parked.result.error, -ENOTCONN);
	assert_int_equal(behind.result.fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1,
					   XENMSG_WITH(1, XENMSG_WAIT | XENMSG_AT_ONCE), NULL, NULL, NULL),
			 -EINVAL);
}
