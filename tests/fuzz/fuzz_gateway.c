/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Packets between a daemon and its gateway: what is read has only what its type allows, and reads the same
 * again after it was written. */

#include "tests/fuzz/fuzz.h"
#include "wire/gateway.h"

static void require_printable(const char *text, size_t room)
{
	size_t length = strnlen(text, room);

	check(length < room);
	for (size_t i = 0; i < length; i++)
		check(text[i] >= ' ' && text[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gateway_packet packet, again;
	char text[GATEWAY_PACKET_MAX];
	size_t length;

	if (gateway_decode((const char *)data, size, &packet) < 0)
		return 0;
	check(!packet.host[0] || host_name_is_valid(packet.host, strlen(packet.host)));
	require_printable(packet.instance, sizeof(packet.instance));
	require_printable(packet.server, sizeof(packet.server));
	require_printable(packet.why, sizeof(packet.why));
	length = gateway_encode(&packet, text);
	check(length > 0 && gateway_decode(text, length, &again) == 0);
	check(!memcmp(&packet, &again, sizeof(packet)));
	return 0;
}
