/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Questions that are answered here: each is a walk over names, in pieces, of which policy lets the asker be
 * told some; and telling it, in parts. */

#include "daemon/link/asks_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <nettle/sha2.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/known/known.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/relay/hop.h"
#include "wire/bytes.h"

#define POLICY_UNITS  100u  /* to ask policy once */
#define WALK_UNITS    2048u /* units of a turn */
#define PARTS_AT_ONCE 8u

/* --- walking ------------------------------------------------------------------------------------ */

const char *ask_domain_name(const struct ask *ask)
{
	return *ask->domain_name ? ask->domain_name : NULL;
}

/* Finds the next endpoint. Returns 1: it may be told of, 0: it may not, -ENOENT: there is no more. */
static int next_endpoint(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	const char *name = asks->endpoint(asks->userdata, ask->after_name, &entry->number);

	if (!name)
		return -ENOENT;
	snprintf(ask->after_name, sizeof(ask->after_name), "%s", name);
	entry->name = frame_text_of(ask->after_name);
	return access_shows_far(asks->with.access, ask->host, &ask->from, ask_domain_name(ask),
				ask->after_name);
}

/* Does the same for domains. Domain 0 is known to be there. */
static int next_domain(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	struct peer_info info = {.domid = 0, .up = true};
	const char *name;

	if (ask->after >= 0 && !peers_next(asks->with.peers, ask->after, &info))
		return -ENOENT;
	ask->after = info.domid;
	name = known_name(asks->with.known, info.domid);
	*entry = (struct frame_told_entry){.number = info.domid, .name = frame_text_of(name)};
	return info.up && (info.domid == 0 || access_sees_far(asks->with.access, ask->host, &ask->from,
							      ask_domain_name(ask), info.domid));
}

static enum told_host state_of_gateway(const struct hosts *hosts)
{
	struct gateway_info info;

	hosts_gateway(hosts, &info);
	return !info.there ? TOLD_GATEWAY_MISSING : info.up ? TOLD_GATEWAY_CONNECTED : TOLD_GATEWAY_WAITING;
}

static enum told_host state_of_host(const struct asks *asks, const struct host_info *info)
{
	struct link_info link = {.state = LINK_IDLE};

	if (!info->up)
		return TOLD_HOST_DOWN;
	links_info(asks->links, peer_host(info->number), &link);
	return link.state == LINK_AWAY ? TOLD_HOST_AWAY : TOLD_HOST_UP;
}

/* Does the same for hosts: this one, and those to which rules let the asker go. */
static int next_host(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	struct host_info info;

	if (ask->after < 0) {
		ask->after = 0;
		*entry = (struct frame_told_entry){.number = state_of_gateway(asks->with.hosts),
						   .name = frame_text_of(hosts_own_name(asks->with.hosts))};
		return 1;
	}
	if (!hosts_next(asks->with.hosts, (uint32_t)ask->after, &info))
		return -ENOENT;
	ask->after = info.number;
	*entry = (struct frame_told_entry){.number = state_of_host(asks, &info),
					   .name = frame_text_of(info.name)};
	return access_still_out(asks->with.access, &ask->from, info.name) == 0;
}

/* Finds the next name of what was asked for. */
static int next_entry(struct ask *ask, struct frame_told_entry *entry)
{
	switch (ask->kind) {
	case ASK_HOSTS:
		return next_host(ask, entry);
	case ASK_DOMAINS:
		return next_domain(ask, entry);
	default:
		return next_endpoint(ask, entry);
	}
}

/* Names the answer by its content. */
static uint64_t version_of(const uint8_t *text, uint32_t size)
{
	struct sha256_ctx hash;
	uint8_t digest[8];

	sha256_init(&hash);
	sha256_update(&hash, size, text);
	sha256_digest(&hash, sizeof(digest), digest);
	return get_u64(digest) ? get_u64(digest) : 1;
}

static void rest(struct ask *ask)
{
	free(ask->text);
	ask->text = NULL;
	ask->state = ASK_RESTS;
}

/* Whether what is asked for is known. At the start it isn't: an answer with less in it, or other names, would
 * tell of changes that there weren't. */
static bool is_known(const struct ask *ask)
{
	const struct asks *asks = ask->asks;

	switch (ask->kind) {
	case ASK_DOMAINS:
		return peers_want_all(asks->with.peers) && known_is_read(asks->with.known);
	case ASK_ENDPOINTS:
		return known_is_complete(asks->with.known, asks->with.self->domid);
	default:
		return true;
	}
}

static int begin_walk(struct ask *ask)
{
	if (!is_known(ask)) {
		rest(ask); /* until KNOWN_ALL, KNOWN_READ or KNOWN_NAME */
		return -EAGAIN;
	}
	ask->text = malloc(TOLD_MAX);
	if (!ask->text)
		return -ENOMEM;
	ask->size = ask->count = ask->sent = 0;
	ask->after = -1;
	ask->after_name[0] = '\0';
	return 0;
}

/* Looks at some names, from where it stopped. */
static void walk(struct ask *ask)
{
	struct relay *relay = ask->asks->with.relay;
	struct frame_told_entry entry;
	uint64_t units = POLICY_UNITS;
	int r = ask->text ? 0 : begin_walk(ask);

	if (r < 0) {
		if (r != -EAGAIN)
			ask_fail(ask, r);
		return;
	}
	while (r >= 0 && units < WALK_UNITS) {
		r = next_entry(ask, &entry);
		units += POLICY_UNITS;
		if (r <= 0)
			continue;
		if (ask->size + TOLD_ENTRY_SIZE(entry.name.size) > TOLD_MAX) {
			r = -ENOBUFS; /* the rest isn't told */
			break;
		}
		ask->size += frame_told_entry_encode(&entry, ask->text + ask->size);
		ask->count++;
	}
	relay_spend(relay, ask->charge.account, units);
	if (r >= 0) {
		task_due(&ask->task);
		return;
	}
	ask->version = version_of(ask->text, ask->size);
	if (ask->version == ask->known) {
		rest(ask);
		return;
	}
	ask->state = ASK_TELLS;
	task_due(&ask->task);
}

/* --- telling ------------------------------------------------------------------------------------ */

void ask_tell_program(struct ask *ask, struct frame_told *told)
{
	struct ask answered = *ask;

	if (ask_is_for_text(ask))
		told->domid = ask->to.number;
	if (!told->error) {
		told->count = ask->count;
		told->at = ask->text;
		told->end = ask->text + ask->size;
		ask->text = NULL;
	}
	ask_free(ask);
	answered.told(answered.userdata, answered.key.asker, answered.key.number, answered.kind,
		      answered.of_host, told);
	if (!told->error)
		free(answered.text);
}

int ask_send_told(struct ask *ask, struct frame_told *told)
{
	uint8_t payload[TOLD_PART_SIZE];

	told->number = ask->key.number;
	return links_send(ask->asks->links, ask->key.peer, FRAME_TOLD, payload,
			  frame_told_encode(told, payload));
}

/* Sends the next part of the answer. Returns its size. */
static int send_part(struct ask *ask)
{
	const struct self *self = ask->asks->with.self;
	struct frame_told told = {.error = (uint32_t)ask->error, .version = ask->version};
	struct frame_told left = {
		.count = ask->count, .at = ask->text + ask->sent, .end = ask->text + ask->size};
	struct frame_told_entry entry;
	const char *name = "";
	int r;

	if (ask->kind == ASK_ENDPOINTS && !ask->error) {
		told.domid = self->domid;
		name = known_name(ask->asks->with.known, self->domid);
	}
	told.name = frame_text_of(name);
	told.at = told.end = left.at;
	while (frame_told_next(&left, &entry) && left.at - told.at <= TOLD_PART) {
		told.end = left.at;
		told.count++;
	}
	if (told.count < ask->count)
		told.flags = TOLD_MORE;
	r = ask_send_told(ask, &told);
	if (r < 0)
		return r;
	ask->count -= told.count;
	ask->sent += (uint32_t)(told.end - told.at);
	return (int)(told.end - told.at);
}

static void tell(struct ask *ask)
{
	struct asks *asks = ask->asks;
	bool more = true;
	int r = 0;

	if (ask->told) {
		relay_spend(asks->with.relay, ask->charge.account, COST_CONTROL);
		ask_tell_program(ask, &(struct frame_told){.error = (uint32_t)ask->error});
		return;
	}
	for (unsigned i = 0; i < PARTS_AT_ONCE && more && r >= 0; i++) {
		relay_spend(asks->with.relay, ask->charge.account, COST_CONTROL + COST_BYTES(TOLD_PART_SIZE));
		r = send_part(ask);
		more = ask->count > 0;
	}
	if (r == -ENOBUFS || r == -ENOMEM)
		timer_start(asks->timer, GATHER_MS); /* it doesn't read, and is told later */
	else if (r < 0 || !more)
		ask_free(ask);
	else
		task_due(&ask->task);
}

void ask_take_turn(struct task *task)
{
	struct ask *ask = (struct ask *)((char *)task - offsetof(struct ask, task));

	if (ask->state == ASK_TELLS && ask->made)
		ask_tell_status(ask);
	else if (ask->state == ASK_WALKS)
		walk(ask);
	else if (ask->state == ASK_TELLS)
		tell(ask);
}

void ask_answer_here(struct ask *ask)
{
	ask->state = ASK_WALKS;
	task_due(&ask->task);
}
