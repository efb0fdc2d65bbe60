/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The heartbeat's ping, and those who await a link's session. */
#include "tests/unit/unit.h"

#include <errno.h>

#include "daemon/link/pings.h"
#include "daemon/switch/hop.h"
#include "wire/frame.h"

static unsigned sent;

/* Stands in for the hop. */
int hop_answer(struct hop *hop, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	assert_int_equal(type, FRAME_PING);
	assert_int_equal(length, 8);
	sent++;
	return 0;
}

struct waiter {
	unsigned told;
	int result;
	struct pings *again;
};

static void on_told(void *userdata, uint32_t request, int result)
{
	struct waiter *waiter = userdata;

	assert_int_equal(request, 5);
	waiter->told++;
	waiter->result = result;
	if (waiter->again)
		assert_int_equal(pings_await(waiter->again, on_told, waiter, 5), 0);
}

TEST(one_ping_at_a_time_is_answered_once)
{
	struct pings pings = {.sent_ns = 0};
	uint64_t token;

	sent = 0;
	pings_send(&pings, NULL);
	pings_send(&pings, NULL);
	assert_int_equal(sent, 1);
	token = pings.token;
	assert_int_equal(pings_take_pong(&pings, token + 1), 0);
	assert_true(pings_take_pong(&pings, token) > 0);
	assert_int_equal(pings_take_pong(&pings, token), 0);
	pings_send(&pings, NULL);
	assert_int_equal(sent, 2);
	assert_int_equal(pings_take_pong(&pings, token), 0);
}

TEST(who_awaits_the_session_is_told_once_and_may_await_it_again)
{
	struct pings pings = {.sent_ns = 0}, other = {.sent_ns = 0};
	struct waiter a = {.again = &pings}, b = {.told = 0}, c = {.told = 0};

	assert_int_equal(pings_await(&other, on_told, &a, 5), 0);
	assert_int_equal(pings_await(&other, on_told, &b, 5), 0);
	assert_int_equal(pings_await(&other, on_told, &c, 5), 0);
	pings_forget(&other, &c);
	pings_move(&other, &pings);
	pings_tell(&other, 0);
	assert_int_equal(a.told, 0);
	pings_tell(&pings, -EHOSTDOWN);
	assert_int_equal(a.told, 1);
	assert_int_equal(a.result, -EHOSTDOWN);
	assert_int_equal(b.told, 1);
	assert_int_equal(c.told, 0);
	a.again = NULL;
	pings_tell(&pings, 0);
	assert_int_equal(a.told, 2);
	assert_int_equal(a.result, 0);
	assert_int_equal(b.told, 1);
	assert_null(pings.awaiting);
}
