/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hosts/hosts_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/cost.h"
#include "base/handed_over.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/self.h"
#include "base/shared_memory.h"
#include "base/timer.h"
#include "daemon/hosts/conversation_memory.h"
#include "daemon/hosts/gateway_socket.h"
#include "daemon/switch/hop.h"
#include "wire/gateway.h"
#include "wire/ut.h"

#define SOCKET_NAME    "gateway.sock"
#define TICK_MS	       1000u
#define STOOD_STILL_MS 1000u /* the tick comes so late */

/* --- the table -------------------------------------------------------------------------------- */

static struct host *at(const struct hosts *hosts, uint32_t number)
{
	return number >= HOST_FIRST && number - HOST_FIRST < hosts->count
		       ? hosts->by_number[number - HOST_FIRST]
		       : NULL;
}

static struct host *find(const struct hosts *hosts, const char *name)
{
	struct host *host;

	HASH_FIND_STR(hosts->by_name, name, host);
	return host;
}

struct host *hosts_add(struct hosts *hosts, const char *name)
{
	struct host *host, **grown;

	if (hosts->count >= HOSTS_MAX)
		return NULL;
	grown = reallocarray(hosts->by_number, hosts->count + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	hosts->by_number = grown;
	host = calloc(1, sizeof(*host));
	if (!host)
		return NULL;
	host->hosts = hosts;
	host->number = HOST_FIRST + hosts->count;
	host->since = (uint64_t)time(NULL);
	snprintf(host->name, sizeof(host->name), "%s", name);
	HASH_ADD_STR(hosts->by_name, name, host);
	if (!HASH_ADDED(host)) {
		free(host);
		return NULL;
	}
	hosts->by_number[hosts->count++] = host;
	return host;
}

static struct host *note(struct hosts *hosts, const char *name)
{
	struct host *host = find(hosts, name);

	return host || !strcmp(name, hosts->options.self->host) ? host : hosts_add(hosts, name);
}

void hosts_learn_own_name(struct hosts *hosts, struct frame_text name)
{
	snprintf(hosts->options.self->host, HOST_NAME_SIZE, "%.*s", (int)name.size,
		 name.size ? name.data : "");
}

uint32_t hosts_find(const struct hosts *hosts, const char *name)
{
	const struct host *host = find(hosts, name);

	return host ? host->number : 0;
}

int hosts_resolve(const struct hosts *hosts, const char *name, uint32_t *number)
{
	if (!*hosts->options.self->host)
		return -EHOSTUNREACH;
	*number = hosts_find(hosts, name);
	return *number ? 0 : -EHOSTDOWN;
}

uint32_t hosts_note(struct hosts *hosts, const char *name)
{
	const struct host *host = note(hosts, name);

	return host ? host->number : 0;
}

const char *hosts_name(const struct hosts *hosts, uint32_t number)
{
	const struct host *host = at(hosts, number);

	return host ? host->name : "";
}

bool hosts_is_lower(const struct hosts *hosts, uint32_t number)
{
	return strcmp(hosts->options.self->host, hosts_name(hosts, number)) < 0;
}

bool hosts_is_up(const struct hosts *hosts, uint32_t number)
{
	const struct host *host = at(hosts, number);

	return host && host->up;
}

static void set_up(struct hosts *hosts, struct host *host, bool up, const char *why)
{
	host->is_stale = false;
	snprintf(host->why, sizeof(host->why), "%s", why);
	if (host->up == up)
		return;
	host->up = up;
	host->since = (uint64_t)time(NULL);
	/* The gateway's lines, not the host's: it could invent hosts, until no other source has room in the
	 * log. */
	log_limited(LOG_PRESENCE, account_source(gateway_socket_account(hosts->socket)), LOG_LEVEL_INFO,
		    "host %s is %s%s%s", host->name, up ? "there" : "gone", *why ? ": " : "", why);
	if (!up)
		switch_spend(hosts->board, gateway_socket_account(hosts->socket),
			     hosts->callbacks->gone(hosts->userdata, host->number));
}

void hosts_look_later(struct hosts *hosts)
{
	if (evtimer_pending(hosts->tick, NULL))
		return;
	hosts->tick_due_ms = clock_ms() + TICK_MS;
	timer_set(hosts->tick, TICK_MS);
}

/* --- conversations ---------------------------------------------------------------------------- */

static void stop_listening(struct host *host)
{
	free_event(host->rung);
	host->rung = NULL;
}

void hosts_stop_asking(struct hosts *hosts, struct host *host)
{
	stop_listening(host);
	if (host->memory.memory) {
		conversation_memory_free(&host->memory, hosts->board, &host->charge);
		charge_end(&host->charge);
	}
	host->state = HOST_IDLE;
	host->is_wanted = false;
}

static void hosts_fail(struct hosts *hosts, struct host *host, int error, const char *why)
{
	hosts_stop_asking(hosts, host);
	hosts->callbacks->failed(hosts->userdata, host->number, error, why);
}

/* Lets the gateway pay for a conversation. */
static int hosts_pay(struct hosts *hosts, struct charge *charge)
{
	static const uint64_t amounts[QUOTA_RESOURCES] = {
		[QUOTA_DESCRIPTORS] = CONVERSATION_DESCRIPTORS, [QUOTA_MEMORY] = GATEWAY_MEMORY_SIZE};
	struct account *account = gateway_socket_account(hosts->socket);

	charge_init(charge, account);
	switch_spend(hosts->board, account, COST_CONNECTION);
	if (charge_all(charge, amounts) == 0)
		return 0;
	log_limited(
		LOG_LIMIT, LOG_BY_US, LOG_LEVEL_WARNING,
		"no more conversations with hosts: the gateway's user has its share of descriptors (its limit of "
		"open files) or of memory (max-memory)");
	return -ENOBUFS;
}

/* Makes what a conversation needs, and sends a packet with the gateway's part of it. 0 or a negative
 * errno. */
static int send_new(struct hosts *hosts, const struct gateway_packet *packet,
		    struct conversation_memory *memory, struct charge *charge)
{
	int passed[GATEWAY_FDS], r = hosts_pay(hosts, charge);

	if (r == 0)
		r = conversation_memory_make(memory, hosts->board, charge, passed);
	if (r == 0) {
		r = gateway_socket_send(hosts->socket, packet, passed, GATEWAY_FDS);
		close(passed[GATEWAY_FD_LIFE]);
		if (r == 0)
			return 0;
		conversation_memory_free(memory, hosts->board, charge);
	}
	charge_end(charge);
	return r;
}

static void hand_over(struct host *host)
{
	struct hosts *hosts = host->hosts;
	struct conversation_memory memory = host->memory;

	if (host->state != HOST_AGREED || !host->is_sealed)
		return;
	stop_listening(host);
	host->memory.memory = NULL;
	host->state = HOST_IDLE;
	host->is_wanted = false;
	hosts->callbacks->connected(hosts->userdata, host->number, &memory, &host->charge);
}

/* With its first ring the gateway says that it has mapped the memory, and sealed it. */
static void look_at_seal(struct host *host)
{
	if (host->memory.memory_fd < 0)
		return;
	host->is_sealed = shared_memory_is_sealed(host->memory.memory_fd);
	close(host->memory.memory_fd);
	host->memory.memory_fd = -1;
	charge_release(&host->charge, QUOTA_DESCRIPTORS, 1);
	if (host->is_sealed)
		hand_over(host);
	else
		hosts_fail(host->hosts, host, -EHOSTUNREACH,
			   "the gateway hasn't sealed the memory against holes");
}

static void on_rung(int fd, short what, void *userdata)
{
	look_at_seal(userdata);
}

/* Keeps what a conversation needs until it is agreed upon and the memory is sealed. 0 or -ENOMEM: then there
 * is none. */
static int hosts_begin(struct hosts *hosts, struct host *host, enum host_state state,
		       struct conversation_memory *memory, struct charge *charge)
{
	host->memory = *memory;
	charge_move(&host->charge, charge);
	host->is_sealed = false;
	host->rung = event_new(hosts->board->base, memory->wake_daemon, EV_WRITE | EV_PERSIST | EV_ET,
			       on_rung, host);
	if (!host->rung || event_add(host->rung, NULL) < 0) {
		hosts_stop_asking(hosts, host);
		return -ENOMEM;
	}
	host->state = state;
	host->asked_ms = clock_ms();
	hosts_look_later(hosts);
	return 0;
}

static struct gateway_packet about(const struct host *host, enum gateway_type type, uint64_t id)
{
	struct gateway_packet packet = {.type = type, .id = id};

	memcpy(packet.host, host->name, sizeof(packet.host));
	return packet;
}

int hosts_connect(struct hosts *hosts, uint32_t number)
{
	struct host *host = at(hosts, number);
	struct gateway_packet packet;
	struct conversation_memory memory;
	struct charge charge;
	int r;

	if (host && host->state != HOST_IDLE) {
		host->is_wanted = true;
		return 0;
	}
	if (!hosts->socket || !gateway_socket_has_gateway(hosts->socket))
		return -EHOSTUNREACH;
	if (!host || !host->up)
		return -EHOSTDOWN;
	packet = about(host, GATEWAY_CONNECT, hosts->last_id + 2);
	r = send_new(hosts, &packet, &memory, &charge);
	if (r < 0)
		return r == -ENOTCONN || r == -ENOBUFS ? -EHOSTUNREACH : r;
	host->id = hosts->last_id += 2;
	return hosts_begin(hosts, host, HOST_ASKED, &memory, &charge);
}

void hosts_disconnect(struct hosts *hosts, uint32_t number)
{
	struct host *host = at(hosts, number);

	if (host)
		hosts_stop_asking(hosts, host);
}

static void take_connected(struct hosts *hosts, struct host *host, uint64_t id)
{
	if (host->state != HOST_ASKED || host->id != id)
		return; /* it was withdrawn meanwhile */
	host->state = HOST_AGREED;
	look_at_seal(host);
	hand_over(host);
}

/* Our answer came when the other host had given up its question. */
static void ask_instead(struct hosts *hosts, struct host *host)
{
	bool is_wanted = host->is_wanted;
	int r;

	hosts_stop_asking(hosts, host);
	r = is_wanted ? hosts_connect(hosts, host->number) : 0;
	if (r < 0)
		hosts->callbacks->failed(hosts->userdata, host->number, r, "that host doesn't ask any more");
}

static void take_refusal(struct hosts *hosts, struct host *host, const struct gateway_packet *packet)
{
	if (packet->error == EAGAIN) {
		hosts_stop_asking(hosts, host);
		host->state = HOST_WAITING;
		return;
	}
	hosts_fail(hosts, host, -packet->error,
		   *packet->why ? packet->why : "the gateway can't reach that host");
}

static void take_failed(struct hosts *hosts, struct host *host, const struct gateway_packet *packet)
{
	if (host->id != packet->id)
		return;
	if (host->state == HOST_AGREED && packet->error == EAGAIN)
		ask_instead(hosts, host);
	else if (host->state == HOST_ASKED)
		take_refusal(hosts, host, packet);
}

static void take_incoming(struct hosts *hosts, struct host *host, uint64_t id)
{
	struct gateway_packet packet = about(host, GATEWAY_ACCEPT, id);
	struct conversation_memory memory;
	struct charge charge;
	bool is_wanted;
	int r;

	/* The gateway has said it before it has read what we ask for, and then the lower host's counts. */
	if (host->state == HOST_ASKED && hosts_is_lower(hosts, host->number))
		return;
	r = send_new(hosts, &packet, &memory, &charge);
	if (r < 0) {
		packet.type = GATEWAY_DECLINE;
		snprintf(packet.why, sizeof(packet.why), "%s", strerror(-r));
		(void)gateway_socket_send(hosts->socket, &packet, NULL, 0);
		return;
	}
	is_wanted = host->is_wanted || host->state == HOST_ASKED || host->state == HOST_WAITING;
	hosts_stop_asking(hosts, host);
	host->id = id;
	if (hosts_begin(hosts, host, HOST_AGREED, &memory, &charge) < 0)
		hosts_fail(hosts, host, -EHOSTUNREACH, strerror(ENOMEM));
	else
		host->is_wanted = is_wanted;
}

/* --- what the gateway says -------------------------------------------------------------------- */

void hosts_doubt_all(struct hosts *hosts)
{
	for (uint32_t i = 0; i < hosts->count; i++)
		hosts->by_number[i]->is_stale = hosts->by_number[i]->up;
	hosts->changed_ms = clock_ms();
	hosts->since = (uint64_t)time(NULL);
	hosts->network_up = false;
	hosts->server[0] = '\0';
	hosts_look_later(hosts);
}

static void on_came(void *userdata)
{
	struct hosts *hosts = userdata;
	struct gateway_packet packet = {.type = GATEWAY_WELCOME, .version = GATEWAY_VERSION};

	snprintf(packet.host, sizeof(packet.host), "%s", hosts->options.self->host);
	snprintf(packet.instance, sizeof(packet.instance), "%s", hosts->options.self->instance_text);
	log_limited(LOG_PRESENCE, LOG_BY_US, LOG_LEVEL_INFO, "a gateway to other hosts is there");
	hosts_doubt_all(hosts);
	hosts->why[0] = '\0';
	(void)gateway_socket_send(hosts->socket, &packet, NULL, 0); /* if it fails, the gateway goes */
}

static void hosts_on_gone(void *userdata, const char *why)
{
	struct hosts *hosts = userdata;

	log_limited(LOG_PRESENCE, LOG_BY_US, LOG_LEVEL_WARNING, "the gateway to other hosts is gone: %s",
		    why);
	snprintf(hosts->why, sizeof(hosts->why), "the gateway is gone: %s", why);
	hosts_doubt_all(hosts);
	for (uint32_t i = 0; i < hosts->count; i++)
		if (hosts->by_number[i]->state != HOST_IDLE)
			hosts_fail(hosts, hosts->by_number[i], -EHOSTUNREACH, "the gateway has gone");
}

static void take_state(struct hosts *hosts, const struct gateway_packet *packet)
{
	if (hosts->network_up != packet->up) {
		log_limited(LOG_PRESENCE, LOG_BY_US, LOG_LEVEL_INFO, "the gateway is %sconnected%s%s%s%s",
			    packet->up ? "" : "not ", *packet->server ? " to " : "", packet->server,
			    *packet->why ? ": " : "", packet->why);
		hosts->since = (uint64_t)time(NULL);
	}
	hosts->network_up = packet->up;
	memcpy(hosts->server, packet->server, sizeof(hosts->server));
	memcpy(hosts->why, packet->why, sizeof(hosts->why));
}

static void take_host(struct hosts *hosts, struct host *host, const struct gateway_packet *packet)
{
	bool is_another =
		*packet->instance && *host->instance && strcmp(packet->instance, host->instance) != 0;
	uint8_t instance[16] = {0}; /* nobody's, if it can't be read */

	if (*packet->instance)
		memcpy(host->instance, packet->instance, sizeof(host->instance));
	set_up(hosts, host, packet->up, packet->why);
	(void)uuid_parse(host->instance, strlen(host->instance), instance);
	if (is_another)
		hosts->callbacks->replaced(hosts->userdata, host->number, instance);
	if (!packet->up && host->state != HOST_IDLE)
		hosts_fail(hosts, host, -EHOSTDOWN, *packet->why ? packet->why : "that host is gone");
}

static void on_packet(void *userdata, const struct gateway_packet *packet)
{
	struct hosts *hosts = userdata;
	struct host *host;

	if (packet->type == GATEWAY_STATE)
		take_state(hosts, packet);
	if (packet->type != GATEWAY_HOST && packet->type != GATEWAY_CONNECTED &&
	    packet->type != GATEWAY_FAILED && packet->type != GATEWAY_INCOMING)
		return; /* else it isn't the gateway's to say */
	host = note(hosts, packet->host);
	if (!host)
		log_limited(LOG_PRESENCE, LOG_BY_US, LOG_LEVEL_WARNING,
			    "host %s is ignored: that is this one, or there are too many", packet->host);
	else if (packet->type == GATEWAY_HOST)
		take_host(hosts, host, packet);
	else if (packet->type == GATEWAY_CONNECTED)
		take_connected(hosts, host, packet->id);
	else if (packet->type == GATEWAY_FAILED)
		take_failed(hosts, host, packet);
	else
		take_incoming(hosts, host, packet->id);
}

/* Looks once a second, while something is asked for or in doubt. */
static void on_tick(int fd, short what, void *userdata)
{
	struct hosts *hosts = userdata;
	bool again = false;

	/* If we stood still ourselves, what the gateway has said meanwhile lies there unread: it is read
	 * before the next one. */
	hosts->was_late = clock_ms() >= hosts->tick_due_ms + STOOD_STILL_MS && !hosts->was_late;
	if (hosts->was_late) {
		hosts_look_later(hosts);
		return;
	}
	for (uint32_t i = 0; i < hosts->count; i++) {
		struct host *host = hosts->by_number[i];

		if (host->is_stale && clock_ms_since(hosts->changed_ms) >= hosts->options.dead_after_ms)
			set_up(hosts, host, false, "no gateway tells of it any more");
		if (host->state != HOST_IDLE &&
		    clock_ms_since(host->asked_ms) >= hosts->options.setup_timeout_ms)
			hosts_fail(hosts, host, -EHOSTUNREACH, "the gateway hasn't answered in time");
		again |= host->is_stale || host->state != HOST_IDLE;
	}
	if (again)
		hosts_look_later(hosts);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Writes the path of the gateway's socket, which lies beside the programs'. */
static void path_beside(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(out, size, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, SOCKET_NAME);
}

/* Makes the socket for a gateway. One that was handed over is served in any case: a gateway that connected to
 * it would wait for ever. */
static int serve_gateway(struct hosts *hosts)
{
	static const struct gateway_callbacks from_gateway = {
		.came = on_came, .packet = on_packet, .gone = hosts_on_gone};
	const struct hosts_options *options = &hosts->options;
	struct handed_over *handed_over = options->handed_over;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof(SOCKET_NAME)];
	struct gateway_socket_options socket = {
		.path = path,
		.handed_over = handed_over ? handed_over->gateway : -1,
		.user = options->user,
		.refusal =
			options->name
				? NULL
				: "this daemon leads to no other hosts: set [hosts] name in xenmsgd.conf(5), "
				  "and restart xenmsgd",
	};
	int r;

	if (socket.handed_over < 0 && !options->name)
		return 0;
	if (handed_over)
		handed_over->gateway = -1;
	path_beside(options->socket_path, path, sizeof(path));
	r = gateway_socket_new(&hosts->socket, hosts->board, &socket, &from_gateway, hosts);
	if (r == 0 || r == -ENOMEM)
		return r;
	if (!handed_over || handed_over->programs < 0) {
		log_error("can't listen on %s for a gateway: %s", path, strerror(-r));
		return r;
	}
	snprintf(hosts->why, sizeof(hosts->why),
		 "no socket for it: systemctl enable xenmsg-gateway.socket && systemctl restart xenmsgd");
	log_warning(
		"no gateway to other hosts is served: systemd hands over no socket for it, and %s: %s; systemctl enable "
		"xenmsg-gateway.socket && systemctl restart xenmsgd",
		path, strerror(-r));
	return 0;
}

int hosts_new(struct hosts **out, struct switchboard *board, const struct hosts_options *options,
	      const struct hosts_callbacks *callbacks, void *userdata)
{
	struct hosts *hosts = calloc(1, sizeof(*hosts));
	int r;

	if (!hosts)
		return -ENOMEM;
	hosts->board = board;
	hosts->options = *options;
	snprintf(options->self->host, HOST_NAME_SIZE, "%s", options->name ? options->name : "");
	hosts->callbacks = callbacks;
	hosts->userdata = userdata;
	hosts->since = (uint64_t)time(NULL);
	hosts->tick = evtimer_new(board->base, on_tick, hosts);
	r = hosts->tick ? serve_gateway(hosts) : -ENOMEM;
	if (r < 0) {
		hosts_free(hosts);
		return r;
	}
	*out = hosts;
	return 0;
}

void hosts_free(struct hosts *hosts)
{
	if (!hosts)
		return;
	free_event(hosts->tick);
	for (uint32_t i = 0; i < hosts->count; i++) {
		HASH_DEL(hosts->by_name, hosts->by_number[i]);
		hosts_stop_asking(hosts, hosts->by_number[i]);
		free(hosts->by_number[i]);
	}
	gateway_socket_free(hosts->socket);
	free(hosts->by_number);
	free(hosts);
}

/* --- listings --------------------------------------------------------------------------------- */

bool hosts_next(const struct hosts *hosts, uint32_t after, struct host_info *info)
{
	const struct host *host = at(hosts, after < HOST_FIRST ? HOST_FIRST : after + 1);

	if (host)
		*info = (struct host_info){host->number, host->name, host->instance,
					   host->why,	 host->up,   host->since};
	return host;
}

void hosts_gateway(const struct hosts *hosts, struct gateway_info *info)
{
	*info = (struct gateway_info){
		.served = hosts->options.name,
		.there = hosts->socket && gateway_socket_has_gateway(hosts->socket),
		.up = hosts->network_up,
		.name = hosts->options.self->host,
		.server = hosts->server,
		.why = hosts->why,
		.since = hosts->since,
	};
}
