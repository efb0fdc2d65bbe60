/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every ping gets one answer, its own, or is forgotten with who asked; a peer that answers what nobody asked
 * is not heard, and however many wait, it has to look through none of them. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "daemon/switch/hop.h"
#include "daemon/link/pings.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#define PROGRAMS 250u
#define EACH	 64u
#define LIES	 2000000u /* with a look at each of 16000, minutes */

static uint64_t sent[PROGRAMS * EACH + 2];
static unsigned sent_count;
static int send_error;

int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length)
{
	if (send_error)
		return send_error;
	assert_int_equal(type, FRAME_PING);
	assert_true(length == 8 || length == FRAME_PING_RELAYED_SIZE);
	assert_true(sent_count < sizeof(sent) / sizeof(sent[0]));
	sent[sent_count++] = get_u64(payload);
	return 0;
}

int hop_answer(struct hop *hop, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	return hop_send(hop, type, 0, channel, payload, length);
}

struct program {
	struct pings *again; /* asks once more when it is answered */
	unsigned answers;
	uint32_t request;
	int64_t result;
};

static void on_result(void *userdata, uint32_t request, int64_t result)
{
	struct program *program = userdata;

	program->answers++;
	program->request = request;
	program->result = result;
	if (program->again)
		assert_int_equal(pings_add(program->again, on_result, program, request + 1), 0);
}

static int set_up(void **state)
{
	sent_count = 0;
	return 0;
}

TEST_WITH(each_gets_the_answer_to_its_own, set_up, NULL)
{
	struct program a = {0}, b = {0};
	struct pings pings = {0};

	assert_int_equal(pings_add(&pings, on_result, &a, 1), 0);
	assert_int_equal(pings_add(&pings, on_result, &b, 2), 0);
	assert_int_equal(pings_take_pong(&pings, 0), 0); /* they haven't been sent */
	pings_send(&pings, NULL);
	assert_int_equal(pings_add(&pings, on_result, &a, 3), 0);
	pings_send(&pings, NULL);
	assert_int_equal(sent_count, 3);
	assert_true(pings_take_pong(&pings, sent[1]) > 0);
	assert_int_equal(a.answers, 0);
	assert_int_equal(b.answers, 1);
	assert_int_equal(b.request, 2);
	assert_int_equal(pings_take_pong(&pings, sent[1]), 0); /* once */
	assert_true(pings_take_pong(&pings, sent[2]) > 0);
	assert_int_equal(a.request, 3);
	assert_true(pings_take_pong(&pings, sent[0]) > 0);
	assert_int_equal(a.answers, 2);
	assert_null(pings.list);
}

TEST_WITH(a_relayed_one_is_sent_again_if_who_relays_it_hands_over, set_up, NULL)
{
	const struct frame_ping_relayed what = {.number = 7};
	struct program a = {0};
	struct pings pings = {0};
	uint32_t domid = 0;

	assert_int_equal(pings_add_relayed(&pings, &what, on_result, &a, 1), 0);
	pings_send(&pings, NULL);
	assert_int_equal(pings_take_relayed(&pings, NULL, sent[0], -EAGAIN, &domid), 0);
	assert_int_equal(sent[1], sent[0]);
	assert_int_equal(a.answers, 0);
	assert_true(pings_take_relayed(&pings, NULL, sent[1], 0, &domid) > 0);
	assert_int_equal(domid, 7);
	assert_true(a.result > 0);
}

TEST_WITH(heartbeat_is_one_at_a_time_and_stays_when_programs_go, set_up, NULL)
{
	struct program a = {0};
	struct pings pings = {0};

	assert_int_equal(pings_add(&pings, NULL, NULL, 0), 0);
	assert_int_equal(pings_add(&pings, NULL, NULL, 0), 0);
	assert_int_equal(pings_add(&pings, on_result, &a, 1), 0);
	pings_send(&pings, NULL);
	assert_int_equal(sent_count, 2);
	pings_forget(&pings, NULL);
	pings_forget(&pings, &a);
	assert_int_equal(pings_take_pong(&pings, sent[1]), 0);
	assert_true(pings_take_pong(&pings, sent[0]) > 0);
	assert_int_equal(a.answers, 0);
	assert_int_equal(pings_add(&pings, NULL, NULL, 0), 0);
	assert_non_null(pings.list);
	pings_fail(&pings, -EHOSTDOWN);
}

TEST_WITH(end_of_the_session_answers_all_and_they_may_ask_again, set_up, NULL)
{
	struct pings pings = {0};
	struct program a = {.again = &pings}, b = {0};

	assert_int_equal(pings_add(&pings, on_result, &a, 1), 0);
	pings_send(&pings, NULL);
	assert_int_equal(pings_add(&pings, on_result, &b, 5), 0);
	pings_fail(&pings, -EHOSTDOWN);
	assert_int_equal(a.answers, 1);
	assert_int_equal(a.result, -EHOSTDOWN);
	assert_int_equal(b.answers, 1);
	assert_int_equal(pings_take_pong(&pings, sent[0]), 0); /* of the session before */
	a.again = NULL;
	pings_send(&pings, NULL);
	assert_int_equal(sent_count, 2);
	assert_true(pings_take_pong(&pings, sent[1]) > 0);
	assert_int_equal(a.request, 2);
	assert_null(pings.list);
}

TEST_WITH(who_awaits_the_session_hears_that_it_is_up_and_sends_nothing, set_up, NULL)
{
	struct program a = {0}, b = {0}, c = {0};
	struct pings pings = {0}, other = {0};

	assert_int_equal(pings_await(&pings, on_result, &a, 1), 0);
	assert_int_equal(pings_await(&pings, on_result, &b, 2), 0);
	assert_int_equal(pings_add(&pings, on_result, &b, 3), 0);
	assert_int_equal(pings_await(&pings, on_result, &c, 4), 0);
	pings_forget(&pings, &c);
	assert_true(pings_are_there(&pings));
	pings_move(&pings, &other);
	assert_false(pings_are_there(&pings));
	pings_send(&other, NULL);
	assert_int_equal(sent_count, 1);
	assert_int_equal(a.answers, 1);
	assert_int_equal(a.result, 0);
	assert_int_equal(b.answers, 1);
	assert_int_equal(b.request, 2);
	assert_int_equal(pings_await(&other, on_result, &a, 5), 0);
	pings_fail(&other, -EHOSTDOWN);
	assert_int_equal(a.result, -EHOSTDOWN);
	assert_int_equal(b.request, 3);
	assert_int_equal(pings_await(&other, on_result, &a, 6), 0);
	pings_relay(&other, 7, &pings);
	assert_int_equal(a.answers, 3);
	assert_int_equal(a.result, -EHOSTUNREACH);
	assert_int_equal(c.answers, 0);
	assert_null(other.pingers);
}

TEST_WITH(what_is_not_answered_in_time_ends_and_the_rest_waits_on, set_up, NULL)
{
	struct pings pings = {0};
	struct program a = {.again = &pings}, b = {0};
	uint64_t between;

	assert_int_equal(pings_add(&pings, NULL, NULL, 0), 0);
	assert_int_equal(pings_add(&pings, on_result, &a, 1), 0);
	pings_send(&pings, NULL);
	between = clock_ns();
	while (clock_ns() == between)
		;
	assert_int_equal(pings_add(&pings, on_result, &b, 5), 0);
	pings_send(&pings, NULL);
	pings_expire(&pings, between);
	assert_int_equal(a.answers, 1);
	assert_int_equal(a.result, -ETIMEDOUT);
	assert_int_equal(b.answers, 0);
	assert_int_equal(pings_take_pong(&pings, sent[1]), 0); /* too late */
	a.again = NULL;
	pings_expire(&pings, UINT64_MAX);
	assert_int_equal(b.result, -ETIMEDOUT);
	assert_int_equal(a.answers, 1); /* asked again, and wasn't sent yet */
	assert_true(pings.own_is_out);
	pings_fail(&pings, -EHOSTDOWN);
	assert_int_equal(a.answers, 2);
}

TEST_WITH(what_finds_no_place_on_its_way_ends, set_up, NULL)
{
	struct program a = {0}, b = {0};
	struct pings pings = {0};

	assert_int_equal(pings_add(&pings, on_result, &a, 1), 0);
	assert_int_equal(pings_add(&pings, on_result, &b, 2), 0);
	send_error = -ENOBUFS;
	pings_send(&pings, NULL);
	send_error = 0;
	assert_int_equal(a.result, -ENOBUFS);
	assert_int_equal(b.result, -ENOBUFS);
	assert_false(pings_are_there(&pings));
}

TEST_WITH(lies_of_a_peer_cost_no_look_at_all_that_wait, set_up, NULL)
{
	struct program *programs = calloc(PROGRAMS, sizeof(*programs));
	struct pings pings = {0};

	assert_non_null(programs);
	for (uint32_t i = 0; i < PROGRAMS * EACH; i++)
		assert_int_equal(pings_add(&pings, on_result, &programs[i % PROGRAMS], i), 0);
	pings_send(&pings, NULL);
	assert_int_equal(sent_count, PROGRAMS * EACH);
	for (uint64_t i = 0; i < LIES; i++)
		assert_int_equal(pings_take_pong(&pings, UINT64_MAX - i), 0);
	/* Who goes takes his own. */
	for (unsigned i = 1; i < PROGRAMS; i++)
		pings_forget(&pings, &programs[i]);
	for (unsigned i = 0; i < sent_count; i++)
		pings_take_pong(&pings, sent[i]);
	assert_int_equal(programs[0].answers, EACH);
	for (unsigned i = 1; i < PROGRAMS; i++)
		assert_int_equal(programs[i].answers, 0);
	assert_null(pings.list);
	assert_null(pings.pingers);
	free(programs);
}
