/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What another host's gateway may send, in any state that our daemon's wishes lead to: our end believes
 * nothing that leads to more bytes than a window, answers no message by more than one, and a lie costs the
 * liar its conversation alone. */

#include "gateway/conversation.h"
#include "gateway/presence.h"
#include "tests/fuzz/fuzz.h"
#include "wire/bytes.h"

struct world {
	struct conversation conversation;
	uint64_t now, id, incoming, untaken;
	unsigned sent;	   /* by the call under way */
	bool is_streaming; /* the daemon has a stream whose bytes flow */
};

static void on_send(void *userdata, const struct nats_message *message)
{
	struct world *world = userdata;
	uint8_t head[MESSAGE_HEAD_SIZE];
	struct nats_message again;

	world->sent++;
	nats_message_encode(message, head);
	check(nats_message_decode(head, sizeof(head), &again) == 0);
	check(again.kind == message->kind && again.position == message->position &&
	      again.window == message->window);
}

static void on_incoming(void *userdata, uint64_t id)
{
	struct world *world = userdata;

	world->incoming = id;
}

static void on_connected(void *userdata, uint64_t id)
{
	struct world *world = userdata;

	check(!world->is_streaming);
	world->is_streaming = true;
	world->untaken = 0;
}

static void on_failed(void *userdata, uint64_t id, int error, const char *why)
{
	check(error > 0 && why && *why);
}

static void on_bytes(void *userdata, const uint8_t *data, size_t size)
{
	struct world *world = userdata;

	check(world->is_streaming && size > 0);
	world->untaken += size;
	check(world->untaken <= CONVERSATION_WINDOW);
}

static void on_ended(void *userdata, const char *why)
{
	struct world *world = userdata;

	check(world->is_streaming);
	world->is_streaming = false;
}

static const struct conversation_callbacks callbacks = {
	.send = on_send,
	.incoming = on_incoming,
	.connected = on_connected,
	.failed = on_failed,
	.bytes = on_bytes,
	.ended = on_ended,
};

/* What the daemon does, and time. */
static void do_something(struct world *world, uint8_t what)
{
	struct conversation *conversation = &world->conversation;
	uint8_t nonce[MESSAGE_NONCE_SIZE] = {what};
	struct nats_message message;
	size_t room = conversation_room(conversation);

	switch (what % 7) {
	case 0:
		world->id += 2;
		conversation_connect(conversation, world->id, nonce, world->now);
		break;
	case 1:
		conversation_accept(conversation, world->incoming, world->now);
		break;
	case 2:
		conversation_decline(conversation, world->incoming);
		break;
	case 3:
		conversation_close(conversation);
		world->is_streaming = false;
		break;
	case 4:
		if (room)
			conversation_data(conversation, room < what ? room : what, &message, world->now);
		else
			conversation_wait(conversation);
		break;
	case 5:
		room = world->untaken < 4096u * what ? world->untaken : 4096u * what;
		world->untaken -= room;
		if (world->is_streaming)
			conversation_taken(conversation, room);
		break;
	case 6:
		world->now += 20u * what;
		conversation_tick(conversation, world->now);
		break;
	}
	check(world->sent <= 2);
}

static void on_text(void *userdata, const char *text, size_t size)
{
	check(size < PRESENCE_TEXT_MAX && text[size] == '\0');
}

static void on_here(void *userdata, const char *host, const char *text, size_t size)
{
	on_text(userdata, text, size);
}

static void on_joined(void *userdata)
{
}

static void on_host(void *userdata, const char *host, const char *instance, bool up, bool is_other,
		    uint64_t said_ms, const char *why)
{
	check(strspn(instance, "0123456789abcdefABCDEF-") == strlen(instance) && why);
}

static void on_rival(void *userdata, const char *gateway, const char *instance)
{
	check(*gateway);
}

static const struct presence_callbacks presence_callbacks = {
	.publish = on_text,
	.here = on_here,
	.joined = on_joined,
	.host = on_host,
	.rival = on_rival,
};

static void say_presence(const uint8_t *data, size_t size)
{
	struct presence *presence;

	check(presence_new(&presence, &presence_callbacks, NULL, "hosta", "77", 5000, 15000, 1000) == 0);
	presence_set_instance(presence, "not\"hexadecimal", 1000);
	presence_start(presence, 1000);
	for (uint64_t now = 1000; now < 20000; now += 1000) {
		if (now < 4000) {
			presence_message(presence, "hostb", (const char *)data, size, now);
			presence_message(presence, "hosta", (const char *)data, size, now);
		}
		presence_tick(presence, now);
	}
	check(presence_count_up(presence) == 0);
	presence_free(presence);
}

/* Pieces: a length of 2 bytes; 0: what the daemon does, in one byte more; else a message of that length. In a
 * message whose nonce begins with 0xff, the nonce is the one of the conversation. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world world = {.now = 1000};
	uint8_t copy[65536];
	struct nats_message message;

	say_presence(data, size);
	conversation_init(&world.conversation, &callbacks, &world, size % 2);
	while (size >= 3) {
		size_t length = get_u16(data);

		data += 2, size -= 2;
		world.sent = 0;
		if (length == 0) {
			do_something(&world, data[0]);
			data++, size--;
			continue;
		}
		if (length > size)
			length = size;
		memcpy(copy, data, length);
		if (length >= MESSAGE_HEAD_SIZE && copy[8] == 0xff)
			memcpy(copy + 8, world.conversation.nonce, MESSAGE_NONCE_SIZE);
		if (nats_message_decode(copy, length, &message) == 0) {
			conversation_message(&world.conversation, &message, ++world.id, world.now);
			check(world.sent <= 1);
		}
		data += length, size -= length;
	}
	return 0;
}
