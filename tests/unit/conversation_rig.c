/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/conversation_rig.h"

#include "tests/unit/random.h"
#include "tests/unit/unit.h"

/* The byte of a stream at a position: no two streams and directions have the same. */
static uint8_t byte_at(uint32_t stream, bool is_lower, uint64_t position)
{
	return (uint8_t)((position * 2654435761u + stream * 40503u + is_lower * 77u) >> 8);
}

uint32_t stream_of(const struct conversation *conversation)
{
	uint32_t stream;

	memcpy(&stream, conversation->nonce, sizeof(stream));
	return stream;
}

static void fly(struct end *to, const struct nats_message *message, const uint8_t *data)
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

static void on_send(void *userdata, const struct nats_message *message)
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

static const struct conversation_callbacks callbacks = {
	.send = on_send,
	.incoming = on_incoming,
	.connected = on_connected,
	.failed = on_failed,
	.bytes = on_bytes,
	.ended = on_ended,
};

struct network *network_new(uint64_t seed)
{
	struct network *network = calloc(1, sizeof(*network));

	assert_non_null(network);
	network->seed = seed;
	network->now = 1000;
	for (unsigned i = 0; i < 2; i++) {
		struct end *end = &network->ends[i];

		end->network = network;
		end->other = &network->ends[!i];
		conversation_init(&end->conversation, &callbacks, end, i == 0);
	}
	return network;
}

void ask(struct end *end)
{
	uint8_t nonce[MESSAGE_NONCE_SIZE] = {0};

	end->network->nonces++;
	memcpy(nonce, &end->network->nonces, sizeof(end->network->nonces));
	end->id = 2 * end->network->nonces;
	end->is_open = end->is_open && end->conversation.state == CONVERSATION_OPEN;
	conversation_connect(&end->conversation, end->id, nonce, end->network->now);
}

void answer(struct end *end)
{
	if (end->conversation.state == CONVERSATION_ASKED)
		assert_true(conversation_accept(&end->conversation, end->incoming, end->network->now));
}

bool write_some(struct end *end, size_t size)
{
	size_t room = conversation_room(&end->conversation);
	uint8_t data[CHUNK];
	struct nats_message message;

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

void take_some(struct end *end, size_t size)
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
	struct nats_message message;

	end->count--;
	memmove(end->flying + at, end->flying + at + 1, (end->count - at) * sizeof(*end->flying));
	nats_message_encode(&flying.message, bytes);
	memcpy(bytes + MESSAGE_HEAD_SIZE, flying.data, flying.message.size);
	assert_int_equal(nats_message_decode(bytes, MESSAGE_HEAD_SIZE + flying.message.size, &message), 0);
	conversation_message(&end->conversation, &message, 2 * ++end->network->nonces + 1, end->network->now);
}

void deliver_one(struct end *end)
{
	uint64_t *seed = &end->network->seed;
	bool late = random_below(seed, 1000) < end->network->delay;

	if (end->count)
		deliver(end, late ? random_below(seed, end->count) : 0);
}

void deliver_all(struct network *network)
{
	while (network->ends[0].count || network->ends[1].count)
		for (unsigned i = 0; i < 2; i++)
			if (network->ends[i].count)
				deliver(&network->ends[i], 0);
}

void pass(struct network *network, uint64_t ms)
{
	for (uint64_t end = network->now + ms; network->now < end;) {
		network->now += CONVERSATION_TICK_MS;
		for (unsigned i = 0; i < 2; i++)
			conversation_tick(&network->ends[i].conversation, network->now);
		deliver_all(network);
	}
}

struct network *network_open(void)
{
	struct network *network = network_new(1);

	ask(&network->ends[0]);
	deliver_all(network);
	answer(&network->ends[1]);
	deliver_all(network);
	assert_true(network->ends[0].is_open && network->ends[1].is_open);
	return network;
}
