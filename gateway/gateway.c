/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/gateway_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/timer.h"
#include "gateway/log_host.h"
#include "gateway/nats_connection.h"
#include "gateway/presence.h"

#define TICK_MS	       250u
#define FORBIDDEN_MS   10000u /* then it is tried whether it still is */
#define STOOD_STILL_MS 1000u  /* the tick comes so late */

_Static_assert(TICK_MS == CONVERSATION_TICK_MS && TICK_MS == PRESENCE_TICK_MS, "one timer serves both");

static void quit(struct gateway *gateway, enum gateway_exit status)
{
	gateway->status = status;
	event_base_loopbreak(gateway->base);
}

/* --- what the daemon is told ------------------------------------------------------------------ */

bool gateway_is_connected(const struct gateway *gateway)
{
	return gateway->presence && presence_is_joined(gateway->presence) && !gateway->is_forbidden;
}

static void tell_state(struct gateway *gateway)
{
	struct gateway_packet packet = {.type = GATEWAY_STATE, .up = gateway_is_connected(gateway)};

	memcpy(packet.server, gateway->server, sizeof(packet.server));
	if (!packet.up)
		memcpy(packet.why, gateway->why, sizeof(packet.why));
	daemon_socket_send(gateway->daemon, &packet);
}

/* --- what comes from NATS --------------------------------------------------------------------- */

static void on_peer_message(struct gateway *gateway, const char *host, const uint8_t *untrusted, size_t size)
{
	uint64_t now_ms = clock_ms();
	struct nats_message message;

	if (nats_message_decode(untrusted, size, &message) < 0) {
		log_limited(LOG_BAD_VALUE, log_by_host(host), LOG_LEVEL_WARNING,
			    "%s: says what isn't understood here", host);
		return;
	}
	if (message.kind == MESSAGE_HERE) {
		presence_message(gateway->presence, host, (const char *)message.data, message.size, now_ms);
		return;
	}
	/* A host that isn't known yet asks again. */
	if (gateway_is_connected(gateway) && presence_is_up(gateway->presence, host))
		other_host_message(gateway, host, &message, now_ms);
}

static void on_message(void *userdata, const char *subject, const uint8_t *data, size_t size)
{
	struct gateway *gateway = userdata;
	const char *host = strrchr(subject, '.');

	/* The server vouches for it: only that host's user may publish there. */
	if (!host || !host_name_is_valid(host + 1, strlen(host + 1)))
		return;
	if (!strncmp(subject, "xenmsg.presence.", 16))
		presence_message(gateway->presence, host + 1, (const char *)data, size, clock_ms());
	else
		on_peer_message(gateway, host + 1, data, size);
}

/* Nothing works with this server, as gateway->why says; it is tried again later. */
static void be_forbidden(struct gateway *gateway)
{
	gateway->is_forbidden = true;
	gateway->forbidden_ms = clock_ms();
	log_limited(LOG_DENIED, LOG_BY_US, LOG_LEVEL_ERROR, "%s", gateway->why);
	presence_stop(gateway->presence);
	other_hosts_lose_all(gateway, gateway->why);
	tell_state(gateway);
}

/* Subscribes to what it should hear by now, each once: called again, it makes good what memory lacked for. */
static void hear(struct gateway *gateway)
{
	char subject[SUBJECT_SIZE];

	if (gateway->is_forbidden)
		return;
	nats_connection_subscribe(gateway->nats, "xenmsg.presence.*");
	if (!presence_is_joined(gateway->presence))
		return;
	snprintf(subject, sizeof(subject), "xenmsg.to.%s.*", gateway->host);
	nats_connection_subscribe(gateway->nats, subject);
}

static void on_nats_connected(void *userdata, const char *server)
{
	struct gateway *gateway = userdata;

	snprintf(gateway->server, sizeof(gateway->server), "%s", server);
	gateway->is_forbidden = false;
	log_info("NATS: connected to %s", server);
	if (nats_connection_max_payload(gateway->nats) < MESSAGE_HEAD_SIZE + PRESENCE_TEXT_MAX) {
		snprintf(gateway->why, sizeof(gateway->why),
			 "the max_payload of the NATS server is %zu bytes: it must be %u at least",
			 nats_connection_max_payload(gateway->nats),
			 (unsigned)(MESSAGE_HEAD_SIZE + PRESENCE_TEXT_MAX));
		be_forbidden(gateway);
		return;
	}
	hear(gateway);
	snprintf(gateway->why, sizeof(gateway->why), "asking whether another host has the name %s",
		 gateway->host);
	if (daemon_socket_is_welcome(gateway->daemon))
		presence_start(gateway->presence, clock_ms());
}

static void on_nats_lost(void *userdata, const char *why)
{
	struct gateway *gateway = userdata;
	char before[sizeof(gateway->why)];

	memcpy(before, gateway->why, sizeof(before));
	gateway->server[0] = '\0';
	presence_stop(gateway->presence);
	snprintf(gateway->why, sizeof(gateway->why), "not connected to NATS: %s", why);
	other_hosts_lose_all(gateway, gateway->why);
	if (strcmp(before, gateway->why)) { /* it is tried each second or two */
		log_warning("%s; it is tried again", gateway->why);
		tell_state(gateway);
	}
}

/* Whether the server forbids a subject without which this host is nobody; a single host that may not be
 * reached is that host's matter. Others have chosen parts of the subject, which stands behind the server's
 * own words. */
static bool is_needed(const struct gateway *gateway, const char *what)
{
	static const char violation[] = "permissions violation for ";
	const char *found = strcasestr(what, violation);
	char own[SUBJECT_SIZE + 16];

	if (!found)
		return false;
	found += sizeof(violation) - 1;
	snprintf(own, sizeof(own), "publish to \"xenmsg.presence.%s\"", gateway->host);
	return !strncasecmp(found, "subscription", strlen("subscription")) ||
	       !strncasecmp(found, own, strlen(own));
}

static void on_complaint(void *userdata, const char *what)
{
	struct gateway *gateway = userdata;

	if (!is_needed(gateway, what)) {
		log_limited(LOG_DENIED, LOG_BY_US, LOG_LEVEL_WARNING, "NATS: %s", what);
		return;
	}
	if (gateway->is_forbidden)
		return;
	snprintf(gateway->why, sizeof(gateway->why),
		 "the NATS server forbids what host %s needs (is the user in [nats] the one of %s?): %s",
		 gateway->host, gateway->host, what);
	be_forbidden(gateway);
}

static void on_nats_hangs(void *userdata)
{
	log_error("NATS: the attempt to connect doesn't end; the gateway ends, to be started anew");
	quit(userdata, GATEWAY_EXIT_ERROR);
}

static void on_nats_room(void *userdata)
{
	struct gateway *gateway = userdata;

	for (struct other_host *peer = gateway->peers; peer; peer = peer->hh.next)
		other_host_go_on(peer);
}

static const struct nats_callbacks nats_callbacks = {
	.connected = on_nats_connected,
	.lost = on_nats_lost,
	.hangs = on_nats_hangs,
	.message = on_message,
	.complaint = on_complaint,
	.room = on_nats_room,
};

/* --- presence --------------------------------------------------------------------------------- */

static void on_publish(void *userdata, const char *text, size_t size)
{
	struct gateway *gateway = userdata;
	char subject[SUBJECT_SIZE];

	snprintf(subject, sizeof(subject), "xenmsg.presence.%s", gateway->host);
	nats_connection_publish(gateway->nats, subject, text, size);
}

static void on_here(void *userdata, const char *host, const char *text, size_t size)
{
	struct gateway *gateway = userdata;
	char subject[SUBJECT_SIZE];
	uint8_t data[MESSAGE_HEAD_SIZE + PRESENCE_TEXT_MAX];

	snprintf(subject, sizeof(subject), "xenmsg.to.%s.%s", host, gateway->host);
	nats_message_encode(&(struct nats_message){.kind = MESSAGE_HERE}, data);
	memcpy(data + MESSAGE_HEAD_SIZE, text, size);
	nats_connection_publish(gateway->nats, subject, data, MESSAGE_HEAD_SIZE + size);
}

static void on_joined(void *userdata)
{
	struct gateway *gateway = userdata;

	hear(gateway);
	log_info("host %s can be reached through %s", gateway->host, gateway->server);
	tell_state(gateway);
}

static void on_host(void *userdata, const char *host, const char *instance, bool up, bool is_other,
		    uint64_t said_ms, const char *why)
{
	struct gateway *gateway = userdata;
	struct gateway_packet packet = {.type = GATEWAY_HOST, .up = up};
	struct other_host *peer = other_host_find(gateway, host);

	/* Our question of now is repeated, and answered by the one that has come; a conversation that has
	 * begun since it said so is with it. */
	if (peer && is_other && peer->conversation.since_ms <= said_ms &&
	    !(up && peer->conversation.state == CONVERSATION_ASKING))
		conversation_lose(&peer->conversation, EHOSTDOWN,
				  *why ? why : "its xenmsgd was started anew");
	if (peer && !up)
		other_host_free(peer);
	log_limited(LOG_PRESENCE, log_by_host(host), LOG_LEVEL_INFO, "host %s is %s%s%s", host,
		    up ? "up" : "down", *why ? ": " : "", why);
	snprintf(packet.instance, sizeof(packet.instance), "%s", instance);
	snprintf(packet.why, sizeof(packet.why), "%s", why);
	gateway_tell_about(gateway, host, packet);
}

static void on_rival(void *userdata, const char *id, const char *instance)
{
	struct gateway *gateway = userdata;

	snprintf(gateway->why, sizeof(gateway->why), "another host has the name %s", gateway->host);
	log_error(
		"another host, whose daemon's instance is %s, already has the name %s, so this gateway ends; give this "
		"host another name ([hosts] name in xenmsgd.conf) and a user of its own",
		instance, gateway->host);
	presence_stop(gateway->presence);
	tell_state(gateway);
	quit(gateway, GATEWAY_EXIT_NAME_TAKEN);
}

static const struct presence_callbacks presence_callbacks = {
	.publish = on_publish,
	.here = on_here,
	.joined = on_joined,
	.host = on_host,
	.rival = on_rival,
};

/* --- the daemon comes and goes ---------------------------------------------------------------- */

static int gateway_begin(struct gateway *gateway, const char *host)
{
	const struct settings *settings = gateway->settings;
	uint8_t random[16];
	char *error = NULL;
	int r;

	snprintf(gateway->host, sizeof(gateway->host), "%s", host);
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	for (unsigned i = 0; i < sizeof(random); i++)
		snprintf(gateway->id + 2 * i, 3, "%02x", random[i]);
	r = presence_new(&gateway->presence, &presence_callbacks, gateway, host, gateway->id,
			 settings->presence_interval_ms, settings->dead_after_ms, clock_ms());
	if (r == 0)
		r = nats_connection_new(&gateway->nats, gateway->base, settings, &nats_callbacks, gateway,
					host, &error);
	if (r < 0)
		log_error("NATS: %s", error ? error : strerror(-r));
	free(error);
	return r;
}

static void on_welcome(void *userdata, const struct gateway_packet *packet)
{
	struct gateway *gateway = userdata;
	int r;

	log_info("daemon: welcomes this gateway to host %s", packet->host);
	if (!gateway->presence) {
		r = gateway_begin(gateway, packet->host);
		if (r < 0) {
			quit(gateway, r == -EINVAL ? GATEWAY_EXIT_USAGE : GATEWAY_EXIT_ERROR);
			return;
		}
	} else if (strcmp(gateway->host, packet->host)) {
		log_error("the host's name was %s and is %s: this gateway ends, to begin anew", gateway->host,
			  packet->host);
		quit(gateway, GATEWAY_EXIT_ERROR);
		return;
	}
	presence_set_instance(gateway->presence, packet->instance, clock_ms());
	if (nats_connection_is_up(gateway->nats) && !gateway->is_forbidden)
		presence_start(gateway->presence, clock_ms());
	tell_state(gateway);
	presence_tell_all(gateway->presence);
}

static void on_daemon_lost(void *userdata, const char *why)
{
	struct gateway *gateway = userdata;
	struct other_host *peer, *next;

	log_warning("daemon: %s; it is tried again each second", why);
	HASH_ITER(hh, gateway->peers, peer, next) {
		conversation_close(&peer->conversation);
		other_host_free_rings(peer);
	}
	presence_leave(gateway->presence, clock_ms());
}

static void on_packet(void *userdata, const struct gateway_packet *packet, const int *fds)
{
	other_host_packet(userdata, packet, fds);
}

static const struct daemon_socket_callbacks daemon_callbacks = {
	.welcome = on_welcome,
	.packet = on_packet,
	.lost = on_daemon_lost,
};

/* --- its life --------------------------------------------------------------------------------- */

static void on_tick(evutil_socket_t fd, short what, void *userdata)
{
	struct gateway *gateway = userdata;
	uint64_t now_ms = clock_ms();
	struct other_host *peer, *next;

	/* If we stood still ourselves, what has come meanwhile lies there unread: it is read before the next
	 * one. */
	gateway->was_late = now_ms - gateway->ticked_ms >= STOOD_STILL_MS && !gateway->was_late;
	gateway->ticked_ms = now_ms;
	if (!gateway->presence || gateway->was_late)
		return;
	/* The right may be given back, and the server tells nobody. */
	if (gateway->is_forbidden && now_ms - gateway->forbidden_ms >= FORBIDDEN_MS) {
		gateway->forbidden_ms = now_ms;
		nats_connection_again(gateway->nats);
	}
	hear(gateway);
	presence_tick(gateway->presence, now_ms);
	HASH_ITER(hh, gateway->peers, peer, next)
		conversation_tick(&peer->conversation, now_ms);
}

static void on_signal(evutil_socket_t fd, short what, void *userdata)
{
	quit(userdata, GATEWAY_EXIT_OK);
}

static void write_condition(void *userdata, char *text, size_t size)
{
	struct gateway *gateway = userdata;

	if (!gateway->presence)
		snprintf(text, size, "waits for the daemon");
	else if (!gateway_is_connected(gateway))
		snprintf(text, size, "host %s: %s", gateway->host, gateway->why);
	else
		snprintf(text, size, "host %s, connected to %s, %u other hosts are up", gateway->host,
			 gateway->server, presence_count_up(gateway->presence));
}

int gateway_new(struct gateway **out, const struct settings *settings)
{
	struct gateway *gateway = calloc(1, sizeof(*gateway));
	struct timeval tick = timer_ms(TICK_MS);

	if (!gateway)
		return -ENOMEM;
	gateway->settings = settings;
	gateway->last_id = UINT64_MAX; /* the first one is 1 */
	snprintf(gateway->why, sizeof(gateway->why), "connecting to NATS");
	gateway->base = event_base_new();
	if (!gateway->base)
		goto fail;
	gateway->tick = event_new(gateway->base, -1, EV_PERSIST, on_tick, gateway);
	gateway->on_term = evsignal_new(gateway->base, SIGTERM, on_signal, gateway);
	gateway->on_int = evsignal_new(gateway->base, SIGINT, on_signal, gateway);
	if (!gateway->tick || !gateway->on_term || !gateway->on_int || event_add(gateway->tick, &tick) < 0 ||
	    event_add(gateway->on_term, NULL) < 0 || event_add(gateway->on_int, NULL) < 0 ||
	    notify_new(&gateway->notify, gateway->base, settings->ready_fd, write_condition, gateway) < 0 ||
	    daemon_socket_new(&gateway->daemon, gateway->base, settings->daemon_socket, &daemon_callbacks,
			      gateway) < 0)
		goto fail;
	*out = gateway;
	return 0;
fail:
	gateway_free(gateway);
	return -ENOMEM;
}

enum gateway_exit gateway_run(struct gateway *gateway)
{
	notify_ready(gateway->notify);
	if (event_base_dispatch(gateway->base) < 0)
		gateway->status = GATEWAY_EXIT_ERROR;
	notify_stopping(gateway->notify);
	if (gateway->presence)
		presence_leave(gateway->presence, clock_ms());
	return gateway->status;
}

void gateway_free(struct gateway *gateway)
{
	struct other_host *peer, *next;

	if (!gateway)
		return;
	HASH_ITER(hh, gateway->peers, peer, next) {
		if (gateway->nats)
			conversation_close(&peer->conversation);
		other_host_free(peer);
	}
	nats_connection_free(gateway->nats);
	presence_free(gateway->presence);
	daemon_socket_free(gateway->daemon);
	notify_free(gateway->notify);
	free_event(gateway->tick);
	free_event(gateway->on_term);
	free_event(gateway->on_int);
	if (gateway->base)
		event_base_free(gateway->base);
	free(gateway);
}
