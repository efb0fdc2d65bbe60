/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Questions that are answered here: each is a walk over names, in pieces, of which policy lets the asker be
 * told some; and telling it, in parts. */

#include <errno.h>
#include <nettle/sha2.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/link/asks_internal.h"
#include "daemon/link/link.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/switch/hop.h"
#include "wire/bytes.h"
#include "wire/retry.h"

#define POLICY_UNITS  100u  /* to ask policy once */
#define WALK_UNITS    2048u /* units of a turn */
#define PARTS_AT_ONCE 8u

/* --- walking ------------------------------------------------------------------------------------ */

/* Returns who asks, on another host. */
static struct access_sender sender_of(const struct ask *ask)
{
	return (struct access_sender){.host = ask->host,
				      .name = *ask->domain_name ? ask->domain_name : NULL,
				      .domid = ask->from.domid,
				      .uid = ask->from.uid};
}

/* Finds the next endpoint. Returns 1: it may be told of, 0: it may not, -ENOENT: there is no more. */
static int asks_here_next_endpoint(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	const char *name = asks->endpoint(asks->userdata, ask->after_name, &entry->number);

	if (!name)
		return -ENOENT;
	snprintf(ask->after_name, sizeof(ask->after_name), "%s", name);
	entry->name = frame_text_of(ask->after_name);
	return access_still_allowed(asks->with.access, sender_of(ask), ask->after_name) == 0;
}

/* Does the same for domains. Domain 0 is known to be there. */
static int asks_here_next_domain(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	struct peer_info info = {.domid = 0, .up = true};
	const char *name;

	if (ask->after >= 0 && !peers_next(asks->with.peers, ask->after, &info))
		return -ENOENT;
	ask->after = info.domid;
	name = registry_name(asks->with.registry, info.domid);
	*entry = (struct frame_told_entry){.number = info.domid, .name = frame_text_of(name)};
	return info.up && (info.domid == 0 || access_sees(asks->with.access, sender_of(ask), info.domid));
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
		return asks_here_next_domain(ask, entry);
	default:
		return asks_here_next_endpoint(ask, entry);
	}
}

/* Names the answer by its content, with what this domain is called where that is told. */
static uint64_t version_of(const struct ask *ask)
{
	const struct asks *asks = ask->asks;
	uint32_t domid = asks->with.self->domid;
	const char *name = registry_name(asks->with.registry, domid);
	struct sha256_ctx hash;
	uint8_t digest[8];

	sha256_init(&hash);
	sha256_update(&hash, ask->size, ask->text);
	sha256_update(&hash, 1, (const uint8_t[]){ask->is_cut});
	if (ask->kind == ASK_ENDPOINTS) {
		sha256_update(&hash, sizeof(domid), (const uint8_t *)&domid);
		sha256_update(&hash, strlen(name), (const uint8_t *)name);
	}
	sha256_digest(&hash, sizeof(digest), digest);
	return get_u64(digest) ? get_u64(digest) : 1;
}

static void asks_here_rest(struct ask *ask)
{
	ask_drop_text(ask);
	ask->state = ASK_RESTS;
	if (ask->lacks)
		timer_start(ask->asks->lack, RETRY_EACH_MS);
}

/* Whether what is asked for is known. At the start it isn't: an answer with less in it, or other names, would
 * tell of changes that there weren't. */
static bool asks_here_is_known(const struct ask *ask)
{
	const struct asks *asks = ask->asks;

	switch (ask->kind) {
	case ASK_DOMAINS:
		return peers_want_all(asks->with.peers) && registry_is_read(asks->with.registry);
	case ASK_ENDPOINTS:
		return registry_is_complete(asks->with.registry, asks->with.self->domid);
	default:
		return true;
	}
}

static int begin_walk(struct ask *ask)
{
	if (!asks_here_is_known(ask)) {
		asks_here_rest(ask); /* until REGISTRY_ALL, REGISTRY_READ or REGISTRY_NAME */
		return -EAGAIN;
	}
	ask_drop_text(ask);
	ask->text = malloc(ASK_ROOM);
	if (!ask->text)
		return -ENOMEM;
	ask->room = ASK_ROOM;
	ask->after = -1;
	ask->after_name[0] = '\0';
	return 0;
}

/* Looks at some names, from where it stopped. */
static void walk(struct ask *ask)
{
	struct switchboard *board = ask->asks->with.board;
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
		r = ask_add_entry(ask, &entry);
		ask->is_cut = r == -EMSGSIZE || r == -ENOBUFS; /* the rest isn't told */
		ask->lacks = r == -ENOBUFS ? 2 * ask->room - ASK_ROOM : 0;
	}
	switch_spend(board, ask->charge.account, units);
	if (r >= 0) {
		task_due(&ask->task);
		return;
	}
	if (r == -ENOMEM) {
		ask_fail(ask, r);
		return;
	}
	ask->version = version_of(ask);
	if (ask->version == ask->known) {
		asks_here_rest(ask);
		return;
	}
	ask->state = ASK_TELLS;
	task_due(&ask->task);
}

/* --- telling ------------------------------------------------------------------------------------ */

void ask_tell_program(struct ask *ask, struct frame_told *told)
{
	struct ask answered = *ask;

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
	struct frame_told told = {
		.error = (uint32_t)ask->error, .version = ask->version, .flags = ask->is_cut ? TOLD_CUT : 0};
	struct frame_told left = {
		.count = ask->count, .at = ask->text + ask->sent, .end = ask->text + ask->size};
	struct frame_told_entry entry;
	const char *name = "";
	int r;

	if (ask->kind == ASK_ENDPOINTS && !ask->error) {
		told.domid = self->domid;
		name = registry_name(ask->asks->with.registry, self->domid);
	}
	told.name = frame_text_of(name);
	told.at = told.end = left.at;
	while (frame_told_next(&left, &entry) && left.at - told.at <= TOLD_PART) {
		told.end = left.at;
		told.count++;
	}
	if (told.count < ask->count)
		told.flags |= TOLD_MORE;
	r = ask_send_told(ask, &told);
	if (r < 0)
		return r;
	ask->count -= told.count;
	ask->sent += (uint32_t)(told.end - told.at);
	return (int)(told.end - told.at);
}

static void asks_here_tell(struct ask *ask)
{
	struct asks *asks = ask->asks;
	bool more = true;
	int r = 0;

	if (ask->told) {
		switch_spend(asks->with.board, ask->charge.account, COST_CONTROL);
		ask_tell_program(ask, &(struct frame_told){.error = (uint32_t)ask->error});
		return;
	}
	for (unsigned i = 0; i < PARTS_AT_ONCE && more && r >= 0; i++) {
		switch_spend(asks->with.board, ask->charge.account,
			     COST_CONTROL + COST_BYTES(TOLD_PART_SIZE));
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

	if (ask->state == ASK_WALKS)
		walk(ask);
	else if (ask->state == ASK_TELLS)
		asks_here_tell(ask);
}

/* Begins to answer it here. */
static void ask_answer_here(struct ask *ask)
{
	ask->state = ASK_WALKS;
	task_due(&ask->task);
}

/* --- what peers ask ----------------------------------------------------------------------------- */

/* What peers ask: another host in domain 0, a domain of this host there, and domain 0 in any other one. Some
 * is answered here, the rest is led on. */

static void copy_name(char *to, size_t room, struct frame_text text)
{
	if (text.size && text.size < room && domain_name_is_valid(text.data, text.size))
		memcpy(to, text.data, text.size);
}

/* Takes, in domain 0, what another host asks. */
static int take_from_host(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	char domain[DOMAIN_NAME_MAX + 1] = "";
	uint32_t domid;

	if (!domid_is_valid(about->identity.domid))
		return -EPROTO;
	snprintf(ask->host, sizeof(ask->host), "%s", hosts_name(asks->with.hosts, ask->key.peer.number));
	copy_name(ask->domain_name, sizeof(ask->domain_name), about->domain_name);
	if (ask->kind == ASK_HOSTS)
		return -EINVAL;
	if (ask->kind == ASK_DOMAINS) {
		ask_answer_here(ask);
		return 0;
	}
	copy_name(domain, sizeof(domain), about->name);
	if (!*domain || !strcmp(domain, "self"))
		return -EINVAL;
	if (registry_resolve(asks->with.registry, domain, &domid) < 0)
		return -EHOSTDOWN;
	if (domid == 0) {
		ask_answer_here(ask);
		return 0;
	}
	if (access_still_relayed(asks->with.access, sender_of(ask), domid, NULL) < 0)
		return -EACCES;
	ask->to = peer_domain(domid);
	snprintf(ask->name, sizeof(ask->name), "%u", domid);
	return asks->enabled ? ask_lead_on(ask) : -EHOSTUNREACH;
}

/* Takes, in domain 0, a domain's question which hosts there are. */
static int take_about_hosts(struct ask *ask)
{
	if (!*hosts_own_name(ask->asks->with.hosts))
		return -EHOSTUNREACH;
	ask->known = 0; /* changes aren't told */
	ask_answer_here(ask);
	return 0;
}

/* Takes, in domain 0, what a domain of this host asks about another one. */
static int take_from_domain(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	struct address_parts parts = address_split_domain(about->name.data, about->name.size);
	char host[HOST_NAME_SIZE] = "", domain[DOMAIN_NAME_MAX + 1] = "";

	ask->from.domid = ask->key.peer.number;
	if (ask->kind == ASK_HOSTS)
		return take_about_hosts(ask);
	if (!parts.host.data) { /* a host's name stands alone */
		parts.host = parts.domain;
		parts.domain = (struct address_part){NULL, 0};
	}
	if (!host_name_is_valid(parts.host.data, parts.host.size) ||
	    !address_part_copy(parts.host, host, sizeof(host)))
		return -EINVAL;
	copy_name(domain, sizeof(domain), (struct frame_text){parts.domain.data, parts.domain.size});
	if (!strcmp(host, hosts_own_name(asks->with.hosts)) ||
	    (ask->kind == ASK_ENDPOINTS) != (*domain != '\0'))
		return -EINVAL;
	return ask_lead_out(ask, host, domain);
}

/* Whether the question's text names this domain. */
static bool is_about_us(const struct ask *ask, const struct frame_open *about)
{
	uint32_t domid;

	return domid_parse(about->name.data, about->name.size, &domid) &&
	       domid == ask->asks->with.self->domid;
}

/* Takes, in another domain, what domain 0 passes on from another host. */
static int take_from_domain_0(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;

	if (!peer_is_domain(ask->key.peer, 0))
		return -EACCES;
	if (!asks->enabled)
		return -EACCES;
	if (ask->kind != ASK_ENDPOINTS || !is_about_us(ask, about) ||
	    !host_name_is_valid(about->host.data, about->host.size) || !domid_is_valid(about->identity.domid))
		return -EPROTO;
	memcpy(ask->host, about->host.data, about->host.size);
	copy_name(ask->domain_name, sizeof(ask->domain_name), about->domain_name);
	ask_answer_here(ask);
	return 0;
}

/* Returns a reference to the account that pays: in a domain, that of the asker's host, not of domain 0, which
 * alone is believed in that. NULL: there is none, or no memory. */
static struct account *account_for(struct asks *asks, struct peer_id peer, const struct frame_open *about)
{
	struct quota *quota = asks->with.board->quota;
	char host[HOST_NAME_SIZE] = "";

	if (!asks_in_domain_0(asks) && peer_is_domain(peer, 0) &&
	    host_name_is_valid(about->host.data, about->host.size)) {
		memcpy(host, about->host.data, about->host.size);
		peer = peer_host(hosts_note(asks->with.hosts, host));
	}
	return quota && (peer.number || !peer_is_host(peer)) ? peer_account(quota, peer) : NULL;
}

void asks_take_ask(struct asks *asks, struct peer_id peer, const struct frame_ask *frame)
{
	const struct frame_open *about = &frame->about;
	struct account *account = account_for(asks, peer, about);
	const struct ask_key key = {.peer = peer, .number = frame->number};
	struct ask *ask;
	int r;

	switch_spend(asks->with.board, account, COST_OPEN);
	r = asks->with.board->quota && !account ? -ENOBUFS : ask_new(asks, account, &key, &ask);
	account_unref(account);
	if (r < 0) {
		const struct frame_told told = {.number = frame->number, .error = ENOBUFS};
		uint8_t payload[TOLD_PART_SIZE];

		/* If it fails, the peer takes nothing, or has gone. */
		(void)links_send(asks->links, peer, FRAME_TOLD, payload, frame_told_encode(&told, payload));
		return;
	}
	ask->kind = (enum ask_kind)about->kind;
	ask->known = frame->known;
	ask->from = about->identity;
	if (about->kind < ASK_DOMAINS || about->kind > ASK_HOSTS)
		r = -EINVAL;
	else if (!asks_in_domain_0(asks))
		r = take_from_domain_0(ask, about);
	else
		r = peer_is_host(peer) ? take_from_host(ask, about) : take_from_domain(ask, about);
	if (r < 0)
		ask_fail(ask, r == -EPROTO ? -EINVAL : r);
}
