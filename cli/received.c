/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/received.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/writer.h"
#include "wire/address.h"

double received_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct json_object *known_text(const char *text)
{
	return *text ? json_object_new_string(text) : NULL;
}

static struct json_object *sender_of(const struct xenmsg_message *message)
{
	const struct xenmsg_peer *peer = xenmsg_message_sender(message);
	struct json_object *sender = json_object_new_object();

	json_object_object_add(sender, "host", known_text(xenmsg_peer_host(peer)));
	json_object_object_add(sender, "domid", json_object_new_int64(xenmsg_peer_domid(peer)));
	json_object_object_add(sender, "domain", known_text(xenmsg_peer_domain_name(peer)));
	json_object_object_add(sender, "uid", json_object_new_int64(xenmsg_peer_uid(peer)));
	json_object_object_add(sender, "gid", json_object_new_int64(xenmsg_peer_gid(peer)));
	json_object_object_add(sender, "pid", json_object_new_int64(xenmsg_peer_pid(peer)));
	return sender;
}

const char *received_key(const struct xenmsg_message *message)
{
	const char *key = xenmsg_message_key(message), *endpoint = xenmsg_message_endpoint(message);

	return address_is_meant(endpoint, strlen(endpoint)) && *key ? key : NULL;
}

int received_json(struct writer *writer, const char *key, struct xenmsg_message *message)
{
	const char *endpoint = xenmsg_message_endpoint(message);
	char id[XENMSG_NAME_SIZE];

	writer_real(writer, "time", received_now(), 3);
	writer_text(writer, key, endpoint);
	if (!address_is_meant(endpoint, strlen(endpoint))) /* what is published has none */
		writer_text(writer, "id", xenmsg_message_name(message, id, sizeof(id)) == 0 ? id : NULL);
	writer_json(writer, "sender", sender_of(message));
	if (received_key(message))
		writer_text(writer, "key", received_key(message));
	writer_payload(writer, xenmsg_message_data(message), xenmsg_message_size(message));
	return writer_end_row(writer);
}

int received_text(struct xenmsg_message *message, bool raw, bool apart)
{
	const char *data = xenmsg_message_data(message);
	size_t size = xenmsg_message_size(message);
	int code;

	if (raw)
		return cli_output(data, size);
	code = apart ? cli_show_apart(data, size) : cli_show(data, size);
	if (code)
		return code;
	putchar('\n');
	return cli_flush();
}
