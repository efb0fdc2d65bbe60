/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Packets between a daemon and its gateway: each type comes back as it was written, and nothing else is
 * believed. */

#include "wire/gateway.h"

#include "tests/unit/unit.h"

static const struct gateway_packet packets[] = {
	{.type = GATEWAY_HELLO, .version = 1},
	{.type = GATEWAY_WELCOME, .version = 1, .host = "hosta", .instance = "1f-2e"},
	{.type = GATEWAY_REFUSED, .why = "one is enough"},
	{.type = GATEWAY_STATE, .up = true, .server = "nats://[::1]:4222", .why = "it \"said\" so"},
	{.type = GATEWAY_HOST, .host = "0-b", .up = true, .instance = "3d", .why = "it is there"},
	{.type = GATEWAY_HOST, .host = "b", .up = false},
	{.type = GATEWAY_CONNECT, .host = "b", .id = 2},
	{.type = GATEWAY_CONNECTED, .host = "b", .id = 2},
	{.type = GATEWAY_FAILED, .host = "b", .id = 2, .error = EHOSTDOWN, .why = "silent"},
	{.type = GATEWAY_FAILED, .host = "b", .id = 2, .error = EAGAIN},
	{.type = GATEWAY_FAILED, .host = "b", .id = 2, .error = EHOSTUNREACH},
	{.type = GATEWAY_INCOMING, .host = "b", .id = 3},
	{.type = GATEWAY_ACCEPT, .host = "b", .id = 3},
	{.type = GATEWAY_DECLINE, .host = "b", .id = (1ull << 53) - 1, .why = "full"},
};

static int decode(const char *text, struct gateway_packet *packet)
{
	return gateway_decode(text, strlen(text), packet);
}

TEST(each_type_comes_back_as_it_was_written)
{
	for (size_t i = 0; i < sizeof(packets) / sizeof(*packets); i++) {
		char text[GATEWAY_PACKET_MAX];
		struct gateway_packet packet;
		size_t size = gateway_encode(&packets[i], text);

		assert_in_range(size, 1, GATEWAY_PACKET_MAX);
		assert_int_equal(gateway_decode(text, size, &packet), 0);
		assert_memory_equal(&packet, &packets[i], sizeof(packet));
		/* All of it must be there. */
		for (size_t cut = 0; cut < size; cut++)
			assert_int_equal(gateway_decode(text, cut, &packet), -EPROTO);
	}
}

TEST(unknown_members_and_errors_are_no_mistakes)
{
	struct gateway_packet packet;

	assert_int_equal(
		decode("{\"id\":3,\"host\":\"b\",\"type\":\"failed\",\"error\":\"EFAULT\",\"new\":{\"a\":[]}}",
		       &packet),
		0);
	assert_int_equal(packet.error, EHOSTUNREACH);
	assert_int_equal(packet.id, 3);
}

TEST(impossible_packets_are_refused)
{
	static const char *const bad[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"type\":\"hello\"}",
		"{\"type\":\"hello\",\"version\":-1}",
		"{\"type\":\"hello\",\"version\":4294967296}",
		"{\"type\":\"hello\",\"version\":1} {}",
		"{\"type\":\"other\",\"version\":1}",
		"{\"type\":\"connect\",\"host\":\"b\"}",
		"{\"type\":\"connect\",\"id\":2}",
		"{\"type\":\"connect\",\"host\":\"\",\"id\":2}",
		"{\"type\":\"connect\",\"host\":\"-b\",\"id\":2}",
		"{\"type\":\"connect\",\"host\":\"B\",\"id\":2}",
		"{\"type\":\"connect\",\"host\":\"b.c\",\"id\":2}",
		"{\"type\":\"connect\",\"host\":\"b\\u0000\",\"id\":2}",
		"{\"type\":\"connect\",\"host\":\"b\",\"id\":\"2\"}",
		"{\"type\":\"connect\",\"host\":\"b\",\"id\":9007199254740992}",
		"{\"type\":\"host\",\"host\":\"b\",\"up\":\"yes\"}",
	};
	struct gateway_packet packet;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(decode(bad[i], &packet), -EPROTO);
}

TEST(texts_are_cut_and_made_printable)
{
	char text[1000], why[600];
	struct gateway_packet packet;

	memset(why, 'x', sizeof(why) - 1);
	why[sizeof(why) - 1] = '\0';
	snprintf(text, sizeof(text), "{\"type\":\"refused\",\"why\":\"\\u001b\xc3\xa4%s\"}", why);
	assert_int_equal(decode(text, &packet), 0);
	assert_int_equal(strlen(packet.why), GATEWAY_TEXT_SIZE - 1);
	assert_memory_equal(packet.why, "???x", 4);
}

TEST(the_longest_packet_fits)
{
	struct gateway_packet packet = {.type = GATEWAY_FAILED, .id = (1ull << 53) - 1};
	char text[GATEWAY_PACKET_MAX];

	memset(packet.host, 'h', sizeof(packet.host) - 1);
	memset(packet.why, '\x01', sizeof(packet.why) - 1); /* written in six bytes each */
	assert_in_range(gateway_encode(&packet, text), sizeof(packet.why) * 5, GATEWAY_PACKET_MAX);
}
