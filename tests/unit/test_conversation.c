/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two ends of a conversation and a network between them that loses, doubles and delays messages by chance:
 * what one end's daemon reads is always a beginning of what the other's wrote, an end that is open at last
 * has all of it, and both ends agree within a bounded time that a conversation is over.
 */
#include "tests/unit/unit.h"

#include "tests/unit/conversation_rig.h"
#include "tests/unit/random.h"

/* Heads of tests, with a network and its ends, `a` the lower one, whose conversation is open or not begun. */
#define OPEN(name)     TEST_ON_NETWORK(name, network_open())
#define UNOPENED(name) TEST_ON_NETWORK(name, network_new(1))
#define TEST_ON_NETWORK(name, make)                                                                          \
	static void name##_on(struct network *network, struct end *a, struct end *b);                        \
	TEST(name)                                                                                           \
	{                                                                                                    \
		struct network *network = make;                                                              \
                                                                                                             \
		name##_on(network, &network->ends[0], &network->ends[1]);                                    \
		free(network);                                                                               \
	}                                                                                                    \
	static void name##_on(struct network *network, struct end *a, struct end *b)

/* --- one rule each ---------------------------------------------------------------------------- */

OPEN(a_reader_that_takes_nothing_stops_the_writer_at_the_window)
{
	while (write_some(a, CHUNK))
		deliver_all(network);
	assert_int_equal(a->sent, CONVERSATION_WINDOW);
	pass(network, 60000); /* is no silence */
	assert_true(a->is_open && b->is_open);
	take_some(b, CONVERSATION_WINDOW);
	deliver_all(network);
	assert_int_equal(conversation_room(&a->conversation), CONVERSATION_WINDOW);
}

OPEN(a_lost_last_message_is_noticed)
{
	network->loss = 1000;
	write_some(b, 10);
	network->loss = 0;
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_int_equal(a->ended, 1);
	assert_int_equal(b->ended, 1);
}

OPEN(a_lost_word_of_room_is_asked_for)
{
	while (write_some(a, CHUNK))
		deliver_all(network);
	network->loss = 1000;
	take_some(b, CONVERSATION_WINDOW);
	network->loss = 0;
	assert_false(write_some(a, 1));
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_true(write_some(a, 1));
}

OPEN(silence_ends_it)
{
	network->loss = 1000;
	write_some(a, 10);
	pass(network, CONVERSATION_SILENCE_MS + CONVERSATION_TICK_MS);
	assert_int_equal(a->ended, 1);
	assert_true(b->is_open); /* expects nothing; presence, or the next word, will tell */
	network->loss = 0;
	write_some(b, 10);
	deliver_all(network);
	assert_int_equal(b->ended, 1);
}

OPEN(an_idle_conversation_stays_and_costs_nothing)
{
	for (unsigned i = 0; i < 1000; i++) {
		network->now += CONVERSATION_TICK_MS;
		conversation_tick(&a->conversation, network->now);
		assert_int_equal(b->count, 0);
	}
	assert_true(a->is_open);
}

UNOPENED(nobody_answers)
{
	network->loss = 1000;
	ask(a);
	pass(network, CONVERSATION_SILENCE_MS + CONVERSATION_TICK_MS);
	assert_int_equal(a->failed, 1);
	assert_int_equal(a->error, EHOSTUNREACH);
	assert_int_equal(a->conversation.state, CONVERSATION_NONE);
}

UNOPENED(a_lost_question_and_a_lost_answer_are_repeated)
{
	network->loss = 1000;
	ask(a);
	network->loss = 0;
	pass(network, CONVERSATION_REPEAT_MS);
	network->loss = 1000;
	answer(b);
	network->loss = 0;
	assert_false(a->is_open);
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_true(a->is_open && b->is_open);
	assert_int_equal(b->connected, 1);
}

/* The network is lost, and is there again. */
UNOPENED(a_question_that_nobody_will_answer_may_be_repeated)
{
	ask(a);
	deliver_all(network);
	assert_int_equal(b->conversation.state, CONVERSATION_ASKED);
	conversation_lose(&b->conversation, EHOSTUNREACH, "test");
	pass(network, CONVERSATION_REPEAT_MS + CONVERSATION_TICK_MS);
	assert_int_equal(a->failed, 0);
	answer(b);
	deliver_all(network);
	assert_true(a->is_open && b->is_open);
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

OPEN(a_new_question_replaces_an_open_one)
{
	network->loss = 1000; /* the CLOSE is lost, too */
	conversation_lose(&b->conversation, EHOSTUNREACH, "test");
	network->loss = 0;
	ask(b);
	deliver_all(network);
	assert_int_equal(a->ended, 1);
	answer(a);
	deliver_all(network);
	assert_true(a->is_open && b->is_open);
}

UNOPENED(a_late_question_of_what_is_over_is_none)
{
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
}

UNOPENED(an_answer_that_comes_too_late_is_told)
{
	ask(a);
	deliver_all(network);
	conversation_close(&a->conversation);
	deliver_all(network);
	assert_false(conversation_accept(&b->conversation, b->incoming, network->now));
	assert_false(conversation_decline(&b->conversation, b->incoming));
}

UNOPENED(who_declines_is_heard)
{
	ask(a);
	deliver_all(network);
	assert_true(conversation_decline(&b->conversation, b->incoming));
	deliver_all(network);
	assert_int_equal(a->error, EHOSTUNREACH);
	assert_int_equal(a->failed, 1);
}

/* A hostile end: says this about the open conversation. */
static void inject(struct end *to, struct nats_message message)
{
	memcpy(message.nonce, to->conversation.nonce, MESSAGE_NONCE_SIZE);
	conversation_message(&to->conversation, &message, 99, to->network->now);
}

TEST(lies_end_the_liars_conversation)
{
	static const uint8_t data[16];
	const struct nats_message lies[] = {
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

OPEN(more_than_the_window_ends_it)
{
	uint8_t *data = calloc(1, CONVERSATION_WINDOW + 1);

	inject(a, (struct nats_message){.kind = MESSAGE_DATA, .data = data, .size = CONVERSATION_WINDOW + 1});
	assert_int_equal(a->conversation.state, CONVERSATION_NONE);
	assert_int_equal(a->got, 0);
	free(data);
}

OPEN(an_ack_that_was_overtaken_takes_no_room_back)
{
	size_t room = conversation_room(&a->conversation);

	inject(a, (struct nats_message){.kind = MESSAGE_ACK, .window = CONVERSATION_WINDOW / 2});
	assert_int_equal(conversation_room(&a->conversation), room);
	assert_int_equal(a->ended, 0);
}

UNOPENED(many_about_what_isnt_known_get_few_answers)
{
	for (unsigned i = 0; i < 1000; i++)
		conversation_message(&a->conversation,
				     &(struct nats_message){.kind = MESSAGE_DATA, .nonce = {1}}, 1,
				     network->now);
	assert_int_equal(b->count, 1);
	assert_int_equal(b->flying[0].message.kind, MESSAGE_CLOSE);
}

OPEN(who_asks_all_the_time_about_what_is_open_gets_few_answers)
{
	struct nats_message message = {.kind = MESSAGE_DATA};

	memcpy(message.nonce, b->conversation.nonce, MESSAGE_NONCE_SIZE);
	for (unsigned i = 0; i < 1000; i++) {
		message.kind = i % 2 ? MESSAGE_DATA : MESSAGE_CONNECT;
		conversation_message(&b->conversation, &message, 1, network->now);
	}
	assert_in_range(a->count, 1, CONVERSATION_QUESTIONS);
	assert_int_equal(b->conversation.state, CONVERSATION_OPEN);
}

UNOPENED(who_asks_all_the_time_is_heard_now_and_then)
{
	uint64_t last = 0;
	unsigned heard = 0;

	for (unsigned i = 0; i < 10000; i++) {
		struct nats_message message = {.kind = MESSAGE_CONNECT, .window = 1};

		memcpy(message.nonce, &i, sizeof(i));
		conversation_message(&b->conversation, &message, i + 1, network->now);
		heard += b->incoming != last;
		last = b->incoming;
		if (i % 100 == 99)
			conversation_tick(&b->conversation, network->now += CONVERSATION_TICK_MS);
	}
	assert_int_equal(heard, CONVERSATION_QUESTIONS + 99);
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
