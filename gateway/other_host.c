/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/gateway_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "gateway/log_host.h"
#include "gateway/nats_connection.h"
#include "gateway/presence.h"
#include "gateway/rings.h"

#define CHUNKS 8u /* that a conversation sends before others have their turn */

void gateway_tell_about(struct gateway *gateway, const char *host, struct gateway_packet packet)
{
	snprintf(packet.host, sizeof(packet.host), "%s", host);
	daemon_socket_send(gateway->daemon, &packet);
}

static void tell_failed(struct gateway *gateway, const char *host, uint64_t id, int error, const char *why)
{
	struct gateway_packet packet = {.type = GATEWAY_FAILED, .id = id, .error = error};

	snprintf(packet.why, sizeof(packet.why), "%s", why);
	gateway_tell_about(gateway, host, packet);
}

/* --- their life -------------------------------------------------------------------------------- */

static void on_send(void *userdata, const struct nats_message *message)
{
	struct other_host *peer = userdata;
	uint8_t head[MESSAGE_HEAD_SIZE];

	nats_message_encode(message, head);
	nats_connection_publish(peer->gateway->nats, peer->subject, head, sizeof(head));
}

static void on_incoming(void *userdata, uint64_t id)
{
	struct other_host *peer = userdata;

	gateway_tell_about(peer->gateway, peer->name,
			   (struct gateway_packet){.type = GATEWAY_INCOMING, .id = id});
}

static void on_connected(void *userdata, uint64_t id)
{
	struct other_host *peer = userdata;

	log_debug("%s: conversation %llu begins", peer->name, (unsigned long long)id);
	gateway_tell_about(peer->gateway, peer->name,
			   (struct gateway_packet){.type = GATEWAY_CONNECTED, .id = id});
	rings_take_more(peer->rings, true);
}

void other_host_free_rings(struct other_host *peer)
{
	rings_free(peer->rings);
	peer->rings = NULL;
}

static void other_host_on_failed(void *userdata, uint64_t id, int error, const char *why)
{
	struct other_host *peer = userdata;

	/* The rings of another conversation may be there, when it is the new one that fails. */
	if (peer->conversation.id == id)
		other_host_free_rings(peer);
	tell_failed(peer->gateway, peer->name, id, error, why);
}

static void on_bytes(void *userdata, const uint8_t *data, size_t size)
{
	struct other_host *peer = userdata;

	peer->is_broken |= rings_put(peer->rings, data, size) < 0;
	peer->put += size;
}

static void other_host_on_ended(void *userdata, const char *why)
{
	struct other_host *peer = userdata;

	if (why)
		log_limited(LOG_LINK, log_by_host(peer->name), LOG_LEVEL_WARNING,
			    "%s: the conversation is lost: %s; the daemons resume on another one", peer->name,
			    why);
	other_host_free_rings(peer);
}

static const struct conversation_callbacks conversation_callbacks = {
	.send = on_send,
	.incoming = on_incoming,
	.connected = on_connected,
	.failed = other_host_on_failed,
	.bytes = on_bytes,
	.ended = other_host_on_ended,
};

struct other_host *other_host_find(struct gateway *gateway, const char *host)
{
	struct other_host *peer;

	HASH_FIND_STR(gateway->peers, host, peer);
	return peer;
}

/* Finds or makes it. NULL: out of memory. */
static struct other_host *get_peer(struct gateway *gateway, const char *host)
{
	struct other_host *peer = other_host_find(gateway, host);

	if (peer || !(peer = calloc(1, sizeof(*peer))))
		return peer;
	snprintf(peer->name, sizeof(peer->name), "%s", host);
	HASH_ADD_STR(gateway->peers, name, peer);
	if (!HASH_ADDED(peer)) {
		free(peer);
		return NULL;
	}
	peer->gateway = gateway;
	snprintf(peer->subject, sizeof(peer->subject), "xenmsg.to.%s.%s", host, gateway->host);
	conversation_init(&peer->conversation, &conversation_callbacks, peer,
			  strcmp(gateway->host, host) < 0);
	return peer;
}

void other_host_free(struct other_host *peer)
{
	HASH_DEL(peer->gateway->peers, peer);
	rings_free(peer->rings);
	free(peer);
}

void other_hosts_lose_all(struct gateway *gateway, const char *why)
{
	struct other_host *peer, *next;

	HASH_ITER(hh, gateway->peers, peer, next)
		conversation_lose(&peer->conversation, EHOSTUNREACH, why);
}

/* --- the bytes of a conversation -------------------------------------------------------------- */

void other_host_go_on(struct other_host *peer)
{
	if (peer->rings && conversation_room(&peer->conversation) > 0 &&
	    !nats_connection_is_full(peer->gateway->nats))
		rings_take_more(peer->rings, true);
}

/* How much may go at once; 0: nothing now. */
static size_t chunk_size(struct other_host *peer)
{
	size_t payload = nats_connection_max_payload(peer->gateway->nats);
	size_t size = payload > MESSAGE_HEAD_SIZE ? payload - MESSAGE_HEAD_SIZE : 0;
	size_t room = conversation_room(&peer->conversation);

	if (size > CHUNK)
		size = CHUNK;
	if (size > room)
		size = room;
	return size < RINGS_TAKE_MIN ? 0 : size;
}

/* Ends a conversation that is OPEN, for a reason of ours. */
static void end_conversation(struct other_host *peer, const char *why)
{
	if (why)
		log_limited(LOG_LINK, log_by_host(peer->name), LOG_LEVEL_WARNING,
			    "%s: the conversation ends: %s", peer->name, why);
	conversation_close(&peer->conversation);
	other_host_free_rings(peer);
}

/* Sends the next bytes. False: not now. */
static bool send_chunk(struct other_host *peer)
{
	struct gateway *gateway = peer->gateway;
	size_t size = chunk_size(peer);
	struct nats_message message;
	ssize_t got;

	if (size == 0 || nats_connection_is_full(gateway->nats)) {
		if (size == 0)
			conversation_wait(&peer->conversation);
		rings_take_more(peer->rings, false); /* until other_host_go_on() */
		return false;
	}
	got = rings_take(peer->rings, gateway->chunk + MESSAGE_HEAD_SIZE, size);
	if (got == -EAGAIN)
		return false;
	if (got <= 0) {
		end_conversation(peer, got < 0 ? "the daemon has spoilt its ring" : NULL);
		return false;
	}
	conversation_data(&peer->conversation, (size_t)got, &message, clock_ms());
	nats_message_encode(&message, gateway->chunk);
	nats_connection_publish(gateway->nats, peer->subject, gateway->chunk,
				MESSAGE_HEAD_SIZE + (size_t)got);
	return true;
}

static void on_rings_ready(void *userdata)
{
	struct other_host *peer = userdata;

	for (unsigned i = 0; i < CHUNKS; i++)
		if (!send_chunk(peer))
			return;
	rings_again(peer->rings);
}

/* The bytes of a message were put into the rings. */
static void after_bytes(struct other_host *peer)
{
	size_t put = peer->put;
	bool is_broken = peer->is_broken;

	peer->put = 0;
	peer->is_broken = false;
	if (peer->rings && is_broken)
		end_conversation(peer, "that host sends what can't be");
	else if (peer->rings && put)
		conversation_taken(&peer->conversation, put);
}

void other_host_message(struct gateway *gateway, const char *host, const struct nats_message *message,
			uint64_t now_ms)
{
	struct other_host *peer = get_peer(gateway, host);

	if (!peer || (message->kind == MESSAGE_CONNECT && !daemon_socket_is_welcome(gateway->daemon)))
		return;
	if (conversation_message(&peer->conversation, message, gateway->last_id + 2, now_ms))
		gateway->last_id += 2;
	after_bytes(peer);
	other_host_go_on(peer);
}

/* --- what the daemon asks --------------------------------------------------------------------- */

static void on_daemon_connect(struct gateway *gateway, const struct gateway_packet *packet, const int *fds)
{
	struct other_host *peer;
	struct rings *rings = NULL;
	uint8_t nonce[MESSAGE_NONCE_SIZE];

	if (!gateway_is_connected(gateway) || !presence_is_up(gateway->presence, packet->host)) {
		descriptors_close(fds, GATEWAY_FDS);
		if (!gateway_is_connected(gateway))
			tell_failed(gateway, packet->host, packet->id, EHOSTUNREACH, gateway->why);
		else
			tell_failed(gateway, packet->host, packet->id, EHOSTDOWN, "no such host is there");
		return;
	}
	peer = get_peer(gateway, packet->host);
	if (!peer)
		descriptors_close(fds, GATEWAY_FDS);
	if (!peer || rings_new(&rings, gateway->base, fds, on_rings_ready, peer) < 0 ||
	    getrandom(nonce, sizeof(nonce), 0) != sizeof(nonce)) {
		rings_free(rings);
		tell_failed(gateway, packet->host, packet->id, EHOSTUNREACH, "out of memory");
		return;
	}
	conversation_connect(&peer->conversation, packet->id, nonce, clock_ms());
	if (peer->conversation.state == CONVERSATION_ASKING && peer->conversation.id == packet->id)
		peer->rings = rings;
	else
		rings_free(rings);
}

static void on_daemon_accept(struct gateway *gateway, const struct gateway_packet *packet, const int *fds)
{
	struct other_host *peer = other_host_find(gateway, packet->host);
	bool is_awaited =
		peer && peer->conversation.state == CONVERSATION_ASKED && peer->conversation.id == packet->id;

	if (is_awaited && rings_new(&peer->rings, gateway->base, fds, on_rings_ready, peer) == 0) {
		conversation_accept(&peer->conversation, packet->id, clock_ms());
		return;
	}
	if (is_awaited)
		conversation_decline(&peer->conversation, packet->id); /* out of memory */
	else
		descriptors_close(fds, GATEWAY_FDS);
	tell_failed(gateway, packet->host, packet->id, EAGAIN,
		    "the other end doesn't wait for that any more");
}

static void on_no_descriptors(struct gateway *gateway, const struct gateway_packet *packet)
{
	static const char why[] = "the gateway has no descriptors left: see LimitNOFILE= in its unit";
	struct other_host *peer = other_host_find(gateway, packet->host);

	log_limited(LOG_LIMIT, log_by_host(packet->host), LOG_LEVEL_WARNING, "%s: %s", packet->host, why);
	if (packet->type == GATEWAY_ACCEPT && peer)
		conversation_decline(&peer->conversation, packet->id);
	tell_failed(gateway, packet->host, packet->id, EHOSTUNREACH, why);
}

void other_host_packet(struct gateway *gateway, const struct gateway_packet *packet, const int *fds)
{
	struct other_host *peer;

	if ((packet->type == GATEWAY_CONNECT || packet->type == GATEWAY_ACCEPT) && !fds)
		on_no_descriptors(gateway, packet);
	else if (packet->type == GATEWAY_CONNECT)
		on_daemon_connect(gateway, packet, fds);
	else if (packet->type == GATEWAY_ACCEPT)
		on_daemon_accept(gateway, packet, fds);
	else if (fds)
		descriptors_close(fds, GATEWAY_FDS);
	peer = packet->type == GATEWAY_DECLINE ? other_host_find(gateway, packet->host) : NULL;
	if (peer)
		conversation_decline(&peer->conversation, packet->id);
}
