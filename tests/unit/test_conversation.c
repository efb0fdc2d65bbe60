/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two ends of a conversation and a network between them that loses, doubles and delays messages by chance:
 * what one end's daemon reads is always a beginning of what the other's wrote, an end that is open at last
 * has all of it, and both ends agree within a bounded time that a conversation is over.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/conversation_rig.h"
#include "tests/unit/random.h"

/* --- one rule each ---------------------------------------------------------------------------- */

TEST(a_reader_that_takes_nothing_stops_the_writer_at_the_window)
{
	struct network *network = network_open();
	struct end *a = &network->ends[0], *b = &network->ends[1];

	while (write_some(a, CHUNK))
		deliver_all(network);
	assert_int_equal(a->sent, CONVERSATION_WINDOW);
	pass(network, 60000); /* is no silence */
	assert_true(a->is_open && b->is_open);
	take_some(b, CONVERSATION_WINDOW);
	deliver_all(network);
	assert_int_equal(conversation_room(&a->conversation), CONVERSATION_WINDOW);
	free(network);
}

TEST(a_lost_last_message_is_noticed)
{
	struct network *network = network_open();

	network->loss = 1000;
	write_some(&network->ends[1], 10);
	network->loss = 0;
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_int_equal(network->ends[0].ended, 1);
	assert_int_equal(network->ends[1].ended, 1);
	free(network);
}

TEST(a_lost_word_of_room_is_asked_for)
{
	struct network *network = network_open();
	struct end *a = &network->ends[0], *b = &network->ends[1];

	while (write_some(a, CHUNK))
		deliver_all(network);
	network->loss = 1000;
	take_some(b, CONVERSATION_WINDOW);
	network->loss = 0;
	assert_false(write_some(a, 1));
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_true(write_some(a, 1));
	free(network);
}

TEST(silence_ends_it)
{
	struct network *network = network_open();

	network->loss = 1000;
	write_some(&network->ends[0], 10);
	pass(network, CONVERSATION_SILENCE_MS + CONVERSATION_TICK_MS);
	assert_int_equal(network->ends[0].ended, 1);
	assert_true(network->ends[1].is_open); /* expects nothing; presence, or the next word, will tell */
	network->loss = 0;
	write_some(&network->ends[1], 10);
	deliver_all(network);
	assert_int_equal(network->ends[1].ended, 1);
	free(network);
}

TEST(an_idle_conversation_stays_and_costs_nothing)
{
	struct network *network = network_open();

	for (unsigned i = 0; i < 1000; i++) {
		network->now += CONVERSATION_TICK_MS;
		conversation_tick(&network->ends[0].conversation, network->now);
		assert_int_equal(network->ends[1].count, 0);
	}
	assert_true(network->ends[0].is_open);
	free(network);
}

TEST(nobody_answers)
{
	struct network *network = network_new(1);

	network->loss = 1000;
	ask(&network->ends[0]);
	pass(network, CONVERSATION_SILENCE_MS + CONVERSATION_TICK_MS);
	assert_int_equal(network->ends[0].failed, 1);
	assert_int_equal(network->ends[0].error, EHOSTUNREACH);
	assert_int_equal(network->ends[0].conversation.state, CONVERSATION_NONE);
	free(network);
}

TEST(a_lost_question_and_a_lost_answer_are_repeated)
{
	struct network *network = network_new(1);

	network->loss = 1000;
	ask(&network->ends[0]);
	network->loss = 0;
	pass(network, CONVERSATION_REPEAT_MS);
	network->loss = 1000;
	answer(&network->ends[1]);
	network->loss = 0;
	assert_false(network->ends[0].is_open);
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_true(network->ends[0].is_open && network->ends[1].is_open);
	assert_int_equal(network->ends[1].connected, 1);
	free(network);
}

/* The network is lost, and is there again. */
TEST(a_question_that_nobody_will_answer_may_be_repeated)
{
	struct network *network = network_new(1);
	struct end *a = &network->ends[0], *b = &network->ends[1];

	ask(a);
	deliver_all(network);
	assert_int_equal(b->conversation.state, CONVERSATION_ASKED);
	conversation_lose(&b->conversation, EHOSTUNREACH, "test");
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_int_equal(a->failed, 0);
	answer(b);
	deliver_all(network);
	assert_true(a->is_open && b->is_open);
	free(network);
}

TEST(of_two_that_ask_the_lower_ones_stays)
{
	for (unsigned order = 0; order < 2; order++) {
		struct network *network = network_new(1);
		struct end *lower = &network->ends[0], *higher = &network->ends[1];

		ask(&network->ends[order]);
		ask(&network->ends[!order]);
		deliver_all(network);
		assert_int_equal(higher->failed, 1);
		assert_int_equal(higher->error, EAGAIN);
		answer(higher);
		deliver_all(network);
		assert_true(lower->is_open && higher->is_open);
		assert_int_equal(lower->failed, 0);
		assert_int_equal(stream_of(&lower->conversation), stream_of(&higher->conversation));
		free(network);
	}
}

TEST(a_new_question_replaces_an_open_one)
{
	struct network *network = network_open();

	network->loss = 1000; /* the CLOSE is lost, too */
	conversation_lose(&network->ends[1].conversation, EHOSTUNREACH, "test");
	network->loss = 0;
	ask(&network->ends[1]);
	deliver_all(network);
	assert_int_equal(network->ends[0].ended, 1);
	answer(&network->ends[0]);
	deliver_all(network);
	assert_true(network->ends[0].is_open && network->ends[1].is_open);
	free(network);
}

TEST(a_late_question_of_what_is_over_is_none)
{
	struct network *network = network_new(1);
	struct end *a = &network->ends[0], *b = &network->ends[1];
	struct flying question;

	ask(a);
	question = b->flying[0];
	deliver_all(network);
	answer(b);
	deliver_all(network);
	conversation_close(&a->conversation);
	a->is_open = false;
	deliver_all(network);
	assert_int_equal(b->ended, 1);
	b->flying[b->count++] = question;
	b->incoming = 0;
	deliver_all(network);
	assert_int_equal(b->incoming, 0);
	assert_int_equal(b->conversation.state, CONVERSATION_NONE);
	free(network);
}

TEST(an_answer_that_comes_too_late_is_told)
{
	struct network *network = network_new(1);
	struct end *b = &network->ends[1];

	ask(&network->ends[0]);
	deliver_all(network);
	conversation_close(&network->ends[0].conversation);
	deliver_all(network);
	assert_false(conversation_accept(&b->conversation, b->incoming, network->now));
	assert_false(conversation_decline(&b->conversation, b->incoming));
	free(network);
}

TEST(who_declines_is_heard)
{
	struct network *network = network_new(1);

	ask(&network->ends[0]);
	deliver_all(network);
	assert_true(conversation_decline(&network->ends[1].conversation, network->ends[1].incoming));
	deliver_all(network);
	assert_int_equal(network->ends[0].error, EHOSTUNREACH);
	assert_int_equal(network->ends[0].failed, 1);
	free(network);
}

/* A hostile end: says this about the open conversation. */
static void inject(struct end *to, struct message message)
{
	memcpy(message.nonce, to->conversation.nonce, MESSAGE_NONCE_SIZE);
	conversation_message(&to->conversation, &message, 99, to->network->now);
}

TEST(lies_end_the_liars_conversation)
{
	static const uint8_t data[16];
	const struct message lies[] = {
		{.kind = MESSAGE_DATA, .position = UINT64_MAX - 7, .data = data, .size = 16},
		{.kind = MESSAGE_DATA, .position = 1, .data = data, .size = 1},
		{.kind = MESSAGE_DATA, .position = UINT64_MAX},
		{.kind = MESSAGE_ACK, .position = 1, .window = 1},
		{.kind = MESSAGE_ACK, .position = UINT64_MAX, .window = 1},
		{.kind = MESSAGE_CLOSE},
	};

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		struct network *network = network_open();

		inject(&network->ends[0], lies[i]);
		assert_int_equal(network->ends[0].ended, 1);
		free(network);
	}
}

TEST(more_than_the_window_ends_it)
{
	struct network *network = network_open();
	struct conversation *conversation = &network->ends[0].conversation;
	uint8_t *data = calloc(1, CONVERSATION_WINDOW + 1);

	inject(&network->ends[0],
	       (struct message){.kind = MESSAGE_DATA, .data = data, .size = CONVERSATION_WINDOW + 1});
	assert_int_equal(conversation->state, CONVERSATION_NONE);
	assert_int_equal(network->ends[0].got, 0);
	free(data);
	free(network);
}

TEST(an_ack_that_was_overtaken_takes_no_room_back)
{
	struct network *network = network_open();
	struct end *end = &network->ends[0];
	size_t room = conversation_room(&end->conversation);

	inject(end, (struct message){.kind = MESSAGE_ACK, .window = CONVERSATION_WINDOW / 2});
	assert_int_equal(conversation_room(&end->conversation), room);
	assert_int_equal(end->ended, 0);
	free(network);
}

TEST(many_about_what_isnt_known_get_few_answers)
{
	struct network *network = network_new(1);

	for (unsigned i = 0; i < 1000; i++)
		conversation_message(&network->ends[0].conversation,
				     &(struct message){.kind = MESSAGE_DATA, .nonce = {1}}, 1, network->now);
	assert_int_equal(network->ends[1].count, 1);
	assert_int_equal(network->ends[1].flying[0].message.kind, MESSAGE_CLOSE);
	free(network);
}

TEST(who_asks_all_the_time_about_what_is_open_gets_few_answers)
{
	struct network *network = network_open();
	struct end *a = &network->ends[0], *b = &network->ends[1];
	struct message message = {.kind = MESSAGE_DATA};

	memcpy(message.nonce, b->conversation.nonce, MESSAGE_NONCE_SIZE);
	for (unsigned i = 0; i < 1000; i++) {
		message.kind = i % 2 ? MESSAGE_DATA : MESSAGE_CONNECT;
		conversation_message(&b->conversation, &message, 1, network->now);
	}
	assert_in_range(a->count, 1, CONVERSATION_QUESTIONS);
	assert_int_equal(b->conversation.state, CONVERSATION_OPEN);
	free(network);
}

TEST(who_asks_all_the_time_is_heard_now_and_then)
{
	struct network *network = network_new(1);
	struct end *b = &network->ends[1];
	uint64_t last = 0;
	unsigned heard = 0;

	for (unsigned i = 0; i < 10000; i++) {
		struct message message = {.kind = MESSAGE_CONNECT, .window = 1};

		memcpy(message.nonce, &i, sizeof(i));
		conversation_message(&b->conversation, &message, i + 1, network->now);
		heard += b->incoming != last;
		last = b->incoming;
		if (i % 100 == 99)
			conversation_tick(&b->conversation, network->now += CONVERSATION_TICK_MS);
	}
	assert_int_equal(heard, CONVERSATION_QUESTIONS + 99);
	free(network);
}

/* --- by chance -------------------------------------------------------------------------------- */

static void step(struct network *network)
{
	struct end *end = &network->ends[random_below(&network->seed, 2)];
	uint32_t dice = random_below(&network->seed, 1000);

	if (dice < 300)
		write_some(end, 1 + random_below(&network->seed, CHUNK));
	else if (dice < 700)
		deliver_one(end);
	else if (dice < 850)
		take_some(end, random_below(&network->seed, 4 * CHUNK));
	else if (dice < 950)
		answer(end);
	else if (dice < 970)
		pass(network, CONVERSATION_TICK_MS * (1 + random_below(&network->seed, 8)));
	else if (dice < 990 && end->conversation.state == CONVERSATION_NONE)
		ask(end);
	else if (dice < 992)
		ask(end);
	else if (dice == 992) {
		conversation_close(&end->conversation);
		end->is_open = false;
	} else if (dice == 993) {
		conversation_lose(&end->conversation, EHOSTUNREACH, "test");
	}
}

/* From now on nothing is lost: both ends must come to agree, and bytes flow. */
static void settle(struct network *network)
{
	struct end *a = &network->ends[0], *b = &network->ends[1];

	network->loss = network->doubling = network->delay = 0;
	deliver_all(network);
	for (unsigned i = 0; i < 2; i++) { /* wants to say something, so that silence is noticed */
		take_some(&network->ends[i], network->ends[i].untaken);
		write_some(&network->ends[i], 1);
	}
	for (unsigned i = 0; i < 100; i++) {
		pass(network, CONVERSATION_TICK_MS);
		answer(a);
		answer(b);
	}
	assert_int_equal(a->is_open, b->is_open);
	if (!a->is_open)
		return;
	assert_int_equal(stream_of(&a->conversation), stream_of(&b->conversation));
	assert_int_equal(a->got, b->sent);
	assert_int_equal(b->got, a->sent);
}

TEST(whatever_the_network_does)
{
	static const uint32_t rates[] = {0, 2, 20, 200};
	const char *schedules = getenv("SCHEDULES"), *from = getenv("SEED");
	uint64_t first = from ? strtoull(from, NULL, 10) : 1;
	uint64_t count = schedules ? strtoull(schedules, NULL, 10) : 4000;
	uint64_t opened = 0, ended = 0, bytes = 0;

	for (uint64_t seed = first; seed < first + count; seed++) {
		struct network *network = network_new(seed * 2654435761u);

		network->loss = rates[random_below(&network->seed, 4)];
		network->doubling = rates[random_below(&network->seed, 4)];
		network->delay = rates[random_below(&network->seed, 4)];
		for (unsigned i = 0; i < 600; i++)
			step(network);
		settle(network);
		for (unsigned i = 0; i < 2; i++) {
			opened += network->ends[i].connected;
			ended += network->ends[i].ended;
			bytes += network->ends[i].got;
		}
		free(network);
	}
	print_message("%llu conversations opened, %llu lost, %llu bytes in the last ones\n",
		      (unsigned long long)opened, (unsigned long long)ended, (unsigned long long)bytes);
	assert_true(schedules || (opened > count && ended > count / 10 && bytes > count * 100));
}
