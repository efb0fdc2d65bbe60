/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two ends of a conversation and a network between them that loses, doubles and delays messages by chance: what one end's
 * daemon reads is always a beginning of what the other's wrote, an end that is open at last has all of it, and both ends
 * agree within a bounded time that a conversation is over.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/conversation.h"
#include "tests/unit/random.h"

#define MESSAGES_MAX 4096u
#define CHUNK	     48u /* bytes that a message carries at most */

struct flying {
	struct message message;
	uint8_t data[CHUNK];
};

struct end {
	struct conversation conversation;
	struct end *other;
	struct network *network;
	/* what flies to this end, in the order in which it was sent */
	struct flying flying[MESSAGES_MAX];
	unsigned count;

	uint64_t id, incoming; /* the last ones */
	unsigned connected, failed, ended;
	int error;
	bool is_open;
	uint64_t sent, got; /* bytes of the conversation that is open, or was */
	uint64_t untaken;
	uint32_t stream; /* which conversation these bytes belong to: the first word of its nonce */
};

struct network {
	uint64_t seed;
	uint32_t loss, doubling, delay; /* of a thousand */
	uint64_t now;
	uint32_t nonces;
	struct end ends[2];
};

/* The byte of a stream at a position: no two streams and directions have the same. */
static uint8_t byte_at(uint32_t stream, bool is_lower, uint64_t position)
{
	return (uint8_t)((position * 2654435761u + stream * 40503u + is_lower * 77u) >> 8);
}

static uint32_t stream_of(const struct conversation *conversation)
{
	uint32_t stream;

	memcpy(&stream, conversation->nonce, sizeof(stream));
	return stream;
}

static void fly(struct end *to, const struct message *message, const uint8_t *data)
{
	struct network *network = to->network;
	unsigned copies = random_below(&network->seed, 1000) >= network->loss;

	if (copies && random_below(&network->seed, 1000) < network->doubling)
		copies++;
	while (copies-- > 0) {
		struct flying *flying = &to->flying[to->count++];

		assert_true(to->count < MESSAGES_MAX);
		flying->message = *message;
		if (message->size)
			memcpy(flying->data, data, message->size);
	}
}

static void on_send(void *userdata, const struct message *message)
{
	struct end *end = userdata;

	assert_int_equal(message->size, 0);
	fly(end->other, message, NULL);
}

static void on_incoming(void *userdata, uint64_t id)
{
	struct end *end = userdata;

	end->incoming = id;
}

static void on_connected(void *userdata, uint64_t id)
{
	struct end *end = userdata;

	assert_false(end->is_open);
	assert_int_equal(id, end->conversation.id);
	end->is_open = true;
	end->connected++;
	end->sent = end->got = end->untaken = 0;
	end->stream = stream_of(&end->conversation);
}

static void on_failed(void *userdata, uint64_t id, int error, const char *why)
{
	struct end *end = userdata;

	assert_non_null(why);
	end->failed++;
	end->error = error;
}

static void on_bytes(void *userdata, const uint8_t *data, size_t size)
{
	struct end *end = userdata;

	assert_true(end->is_open);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(data[i], byte_at(end->stream, !end->conversation.is_lower, end->got + i));
	end->got += size;
	end->untaken += size;
	assert_true(end->untaken <= CONVERSATION_WINDOW);
}

static void on_ended(void *userdata, const char *why)
{
	struct end *end = userdata;

	assert_true(end->is_open);
	end->is_open = false;
	end->ended++;
}

static const struct conversation_events events = {
	.send = on_send,
	.incoming = on_incoming,
	.connected = on_connected,
	.failed = on_failed,
	.bytes = on_bytes,
	.ended = on_ended,
};

static struct network *network_new(uint64_t seed)
{
	struct network *network = calloc(1, sizeof(*network));

	assert_non_null(network);
	network->seed = seed;
	network->now = 1000;
	for (unsigned i = 0; i < 2; i++) {
		struct end *end = &network->ends[i];

		end->network = network;
		end->other = &network->ends[!i];
		conversation_init(&end->conversation, &events, end, i == 0);
	}
	return network;
}

static void ask(struct end *end)
{
	uint8_t nonce[MESSAGE_NONCE_SIZE] = {0};

	end->network->nonces++;
	memcpy(nonce, &end->network->nonces, sizeof(end->network->nonces));
	end->id = 2 * end->network->nonces;
	end->is_open = end->is_open && end->conversation.state == CONVERSATION_OPEN;
	conversation_connect(&end->conversation, end->id, nonce, end->network->now);
}

static void answer(struct end *end)
{
	if (end->conversation.state == CONVERSATION_ASKED)
		assert_true(conversation_accept(&end->conversation, end->incoming, end->network->now));
}

static bool write_some(struct end *end, size_t size)
{
	size_t room = conversation_room(&end->conversation);
	uint8_t data[CHUNK];
	struct message message;

	if (!end->is_open)
		return false;
	if (room == 0) {
		conversation_wait(&end->conversation);
		return false;
	}
	if (size > room)
		size = room;
	for (size_t i = 0; i < size; i++)
		data[i] = byte_at(end->stream, end->conversation.is_lower, end->sent + i);
	conversation_data(&end->conversation, size, &message, end->network->now);
	message.data = data;
	message.size = size;
	end->sent += size;
	fly(end->other, &message, data);
	return true;
}

static void take_some(struct end *end, size_t size)
{
	if (size > end->untaken)
		size = end->untaken;
	end->untaken -= size;
	if (end->is_open)
		conversation_taken(&end->conversation, size);
}

/* Delivers the message at this place among those that fly to an end. */
static void deliver(struct end *end, unsigned at)
{
	struct flying flying = end->flying[at];
	uint8_t bytes[MESSAGE_HEAD_SIZE + CHUNK];
	struct message message;

	end->count--;
	memmove(end->flying + at, end->flying + at + 1, (end->count - at) * sizeof(*end->flying));
	message_encode(&flying.message, bytes);
	memcpy(bytes + MESSAGE_HEAD_SIZE, flying.data, flying.message.size);
	assert_int_equal(message_decode(bytes, MESSAGE_HEAD_SIZE + flying.message.size, &message), 0);
	conversation_message(&end->conversation, &message, 2 * ++end->network->nonces + 1, end->network->now);
}

static void deliver_one(struct end *end)
{
	uint64_t *seed = &end->network->seed;
	bool late = random_below(seed, 1000) < end->network->delay;

	if (end->count)
		deliver(end, late ? random_below(seed, end->count) : 0);
}

static void deliver_all(struct network *network)
{
	while (network->ends[0].count || network->ends[1].count)
		for (unsigned i = 0; i < 2; i++)
			if (network->ends[i].count)
				deliver(&network->ends[i], 0);
}

static void pass(struct network *network, uint64_t ms)
{
	for (uint64_t end = network->now + ms; network->now < end;) {
		network->now += CONVERSATION_TICK_MS;
		for (unsigned i = 0; i < 2; i++)
			conversation_tick(&network->ends[i].conversation, network->now);
		deliver_all(network);
	}
}

static struct network *network_open(void)
{
	struct network *network = network_new(1);

	ask(&network->ends[0]);
	deliver_all(network);
	answer(&network->ends[1]);
	deliver_all(network);
	assert_true(network->ends[0].is_open && network->ends[1].is_open);
	return network;
}

/* --- one rule each ---------------------------------------------------------------------------- */

static void bytes_go_both_ways(void **state)
{
	struct network *network = network_open();

	for (unsigned i = 0; i < 1000; i++)
		for (unsigned j = 0; j < 2; j++) {
			assert_true(write_some(&network->ends[j], CHUNK));
			deliver_all(network);
			take_some(&network->ends[!j], CHUNK);
		}
	assert_int_equal(network->ends[0].got, 1000 * CHUNK);
	assert_int_equal(network->ends[1].got, 1000 * CHUNK);
	free(network);
}

static void a_reader_that_takes_nothing_stops_the_writer_at_the_window(void **state)
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

static void a_lost_message_ends_both(void **state)
{
	struct network *network = network_open();

	network->loss = 1000;
	write_some(&network->ends[0], 10);
	network->loss = 0;
	write_some(&network->ends[0], 10);
	deliver_all(network);
	assert_int_equal(network->ends[0].ended, 1);
	assert_int_equal(network->ends[1].ended, 1);
	assert_int_equal(network->ends[1].got, 0);
	free(network);
}

static void a_lost_last_message_is_noticed(void **state)
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

static void a_lost_word_of_room_is_asked_for(void **state)
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

static void what_comes_twice_counts_once(void **state)
{
	struct network *network = network_open();

	network->doubling = 1000;
	for (unsigned i = 0; i < 100; i++) {
		assert_true(write_some(&network->ends[0], 7));
		deliver_all(network);
	}
	assert_int_equal(network->ends[1].got, 700);
	assert_true(network->ends[0].is_open);
	free(network);
}

static void silence_ends_it(void **state)
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

static void an_idle_conversation_stays_and_costs_nothing(void **state)
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

static void nobody_answers(void **state)
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

static void a_lost_question_and_a_lost_answer_are_repeated(void **state)
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

static void of_two_that_ask_the_lower_ones_stays(void **state)
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

static void a_new_question_replaces_an_open_one(void **state)
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

static void a_late_question_of_what_is_over_is_none(void **state)
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

static void an_answer_that_comes_too_late_is_told(void **state)
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

static void who_declines_is_heard(void **state)
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

static void lies_end_the_liars_conversation(void **state)
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

static void more_than_the_window_ends_it(void **state)
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

static void many_about_what_isnt_known_get_few_answers(void **state)
{
	struct network *network = network_new(1);

	for (unsigned i = 0; i < 1000; i++)
		conversation_message(&network->ends[0].conversation,
				     &(struct message){.kind = MESSAGE_DATA, .nonce = {1}}, 1, network->now);
	assert_int_equal(network->ends[1].count, 1);
	assert_int_equal(network->ends[1].flying[0].message.kind, MESSAGE_CLOSE);
	free(network);
}

static void who_asks_all_the_time_is_heard_now_and_then(void **state)
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

static void whatever_the_network_does(void **state)
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_both_ways),
		cmocka_unit_test(a_reader_that_takes_nothing_stops_the_writer_at_the_window),
		cmocka_unit_test(a_lost_message_ends_both),
		cmocka_unit_test(a_lost_last_message_is_noticed),
		cmocka_unit_test(a_lost_word_of_room_is_asked_for),
		cmocka_unit_test(what_comes_twice_counts_once),
		cmocka_unit_test(silence_ends_it),
		cmocka_unit_test(an_idle_conversation_stays_and_costs_nothing),
		cmocka_unit_test(nobody_answers),
		cmocka_unit_test(a_lost_question_and_a_lost_answer_are_repeated),
		cmocka_unit_test(of_two_that_ask_the_lower_ones_stays),
		cmocka_unit_test(a_new_question_replaces_an_open_one),
		cmocka_unit_test(a_late_question_of_what_is_over_is_none),
		cmocka_unit_test(an_answer_that_comes_too_late_is_told),
		cmocka_unit_test(who_declines_is_heard),
		cmocka_unit_test(lies_end_the_liars_conversation),
		cmocka_unit_test(more_than_the_window_ends_it),
		cmocka_unit_test(many_about_what_isnt_known_get_few_answers),
		cmocka_unit_test(who_asks_all_the_time_is_heard_now_and_then),
		cmocka_unit_test(whatever_the_network_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
