/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A question's way out: to the next daemon, and what that one answers, to a program here or on to the peer
 * that has asked. */

#include "daemon/link/asks_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cost.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/known/known.h"
#include "daemon/policy/access.h"
#include "daemon/relay/hop.h"

#define AGAINS_MAX 8u /* hand-overs in which one question ends */

/* --- to the next daemon ------------------------------------------------------------------------- */

static int send_ask(struct ask *ask)
{
	struct frame_ask frame = {
		.number = ask->id,
		.known = ask->known,
		.about = {.kind = (uint8_t)ask->kind,
			  .identity = ask->from,
			  .name = frame_text_of(ask->name),
			  .domain_name = frame_text_of(ask->domain_name)},
	};
	uint8_t payload[36 + sizeof(ask->name) + DOMAIN_NAME_MAX + 1 + HOST_NAME_SIZE];

	/* Between hosts it is missing: a host is known by its link. */
	if (!peer_is_host(ask->to))
		frame.about.host = frame_text_of(ask->host);
	return links_send(ask->asks->links, ask->to, FRAME_ASK, payload, frame_ask_encode(&frame, payload));
}

static void on_link_up(void *userdata, uint32_t id, int64_t result);

int ask_lead_on(struct ask *ask)
{
	struct asks *asks = ask->asks;
	int r;

	if (links_take_asks(asks->links, ask->to)) {
		r = send_ask(ask);
		ask->state = ASK_SENT;
		asks_expect_answer(ask);
	} else {
		ask->state = ASK_WAITS;
		r = links_await(asks->links, ask->to, ask->charge.account, on_link_up, asks, ask->id);
	}
	return r == -ENOLINK || r == -ENOTCONN ? -EHOSTUNREACH : r;
}

/* The link is up, or can't be. */
static void on_link_up(void *userdata, uint32_t id, int64_t result)
{
	struct ask *ask = asks_find(userdata, id);
	int r = result < 0 ? (int)result : 0;

	if (ask && ask->state == ASK_DROPPED) {
		ask_free(ask);
		return;
	}
	if (!ask || ask->state != ASK_WAITS)
		return;
	if (r == 0)
		r = ask_lead_on(ask);
	if (r < 0)
		ask_fail(ask, r);
}

int ask_lead_out(struct ask *ask, const char *host, const char *domain)
{
	struct asks *asks = ask->asks;
	uint32_t number;
	int r = -EHOSTUNREACH;

	/* Where nothing leads to any host, no rule is what is missing. */
	if (*hosts_own_name(asks->with.hosts))
		r = access_still_out(asks->with.access, &ask->from, host);
	if (r == 0)
		r = hosts_resolve(asks->with.hosts, host, &number);
	if (r < 0)
		return r;
	ask->to = peer_host(number);
	if (!hosts_is_up(asks->with.hosts, number))
		return -EHOSTDOWN; /* also if its session may be resumed: it is told as gone */
	snprintf(ask->name, sizeof(ask->name), "%s", domain);
	snprintf(ask->domain_name, sizeof(ask->domain_name), "%s",
		 known_name(asks->with.known, ask->from.domid));
	return ask_lead_on(ask);
}

int asks_ask(struct asks *asks, const struct ask_question *question, struct account *account,
	     asks_told_fn told, void *asker, uint32_t request)
{
	const char *domain = question->kind == ASK_ENDPOINTS ? question->domain : "";
	struct ask *ask;
	int r = asks->is_handed_over ? -EAGAIN : ask_new(asks, account, &ask);

	if (r < 0)
		return r;
	ask->told = told;
	ask->userdata = question->userdata;
	ask_set_key(ask, &(struct ask_key){.asker = asker, .number = request});
	ask->kind = question->kind;
	ask->known = question->known;
	ask->from = question->from;
	snprintf(ask->of_host, sizeof(ask->of_host), "%s", question->host);
	if (ask_is_for_text(ask)) {
		ask->to = peer_domain(question->domid);
		snprintf(ask->name, sizeof(ask->name), "%u", question->domid);
		if (question->trace)
			snprintf(ask->domain_name, sizeof(ask->domain_name), "%s", question->trace);
		r = ask_lead_on(ask);
	} else if (asks_in_domain_0(asks)) {
		r = ask_lead_out(ask, question->host, domain);
	} else {
		snprintf(ask->name, sizeof(ask->name), "%s%s%s", question->host, *domain ? "/" : "", domain);
		r = ask_lead_on(ask); /* to domain 0 */
	}
	if (r < 0)
		ask_free(ask);
	return r;
}

/* --- answered by a peer ------------------------------------------------------------------------- */

/* Fails a question whose answer goes on. */
static void refuse_answer(struct ask *ask, int error)
{
	ask_withdraw(ask);
	ask_fail(ask, error);
}

/* Passes a part on to the peer that has asked. */
static void pass_on(struct ask *ask, struct frame_told *told)
{
	struct asks *asks = ask->asks;
	uint32_t domid = ask->to.number;
	const char *name;
	int r;

	relay_spend(asks->with.relay, ask->charge.account, COST_CONTROL);
	if (!peer_is_host(ask->to)) { /* who it is, domain 0 knows better */
		name = known_name(asks->with.known, domid);
		told->domid = domid;
		told->name = frame_text_of(name);
	}
	ask->size += told->count ? (uint32_t)(told->end - told->at) : 0;
	r = ask_send_told(ask, told);
	if (r == -ENOBUFS || r == -ENOMEM) {
		refuse_answer(ask, -ENOBUFS); /* when it reads again */
	} else if (r < 0 || !(told->flags & TOLD_MORE)) {
		ask_free(ask);
	}
}

/* Whether the entry can be there, behind the ones before, which this notes. */
static bool comes_next(struct ask *ask, const struct frame_told_entry *entry)
{
	char name[ENDPOINT_NAME_MAX + 1] = "";

	if (ask->kind == ASK_DOMAINS) {
		if (!domid_is_valid(entry->number) || (ask->count && entry->number <= ask->after))
			return false;
		ask->after = entry->number;
		return true;
	}
	if (ask->kind == ASK_HOSTS)
		return host_name_is_valid(entry->name.data, entry->name.size);
	if (!endpoint_name_is_valid(entry->name.data, entry->name.size))
		return false;
	memcpy(name, entry->name.data, entry->name.size);
	if (strcmp(ask->after_name, name) >= 0)
		return false;
	memcpy(ask->after_name, name, sizeof(name));
	return true;
}

/* Adds a part to what has come. */
static int keep_part(struct ask *ask, struct frame_told part)
{
	struct frame_told_entry entry;

	if (!ask->text)
		ask->text = malloc(TOLD_MAX);
	if (!ask->text)
		return -ENOMEM;
	while (frame_told_next(&part, &entry)) {
		if (!comes_next(ask, &entry))
			return -EPROTO;
		ask->size += frame_told_entry_encode(&entry, ask->text + ask->size);
		ask->count++;
	}
	return 0;
}

/* Whether the part can be one behind those that have come: an answer has an end, and is one. */
static bool is_part(struct ask *ask, const struct frame_told *told)
{
	size_t size = told->count ? (size_t)(told->end - told->at) : 0;
	bool is_text = ask_is_for_text(ask);

	if (is_text != !!(told->flags & TOLD_TEXT))
		return false;
	if ((told->flags & TOLD_MORE && !size) || ask->size + size > (is_text ? TOLD_TEXT_MAX : TOLD_MAX) ||
	    (ask->size && ask->version != told->version))
		return false;
	ask->version = told->version;
	return true;
}

/* Who was asked hands over to another daemon, which has to be asked. One that says so again and again is
 * believed as often as it may happen. */
static int ask_again(struct ask *ask)
{
	if (ask->known &&
	    clock_ms_since(ask->sent_ms) >= GATHER_MS) /* it waits for changes, for however long */
		ask->agains = 0;
	if (ask->agains++ >= AGAINS_MAX)
		return -EPROTO;
	if (!ask->told && ask->size) /* which can't be taken back */
		return -EAGAIN;
	if (ask_is_for_text(ask))
		ask_drop_text(ask);
	ask->size = ask->count = 0;
	ask->after = 0;
	ask->after_name[0] = '\0';
	return ask_lead_on(ask);
}

void asks_take_told(struct asks *asks, struct peer_id peer, struct frame_told *told)
{
	struct ask *ask = asks_find(asks, told->number);
	int r;

	if (!ask || ask->state != ASK_SENT || !peer_is(ask->to, peer))
		return; /* nobody wants to know any more */
	if (told->error) {
		r = frame_error(told->error, -EPROTO);
		if (r == -EAGAIN)
			r = ask_again(ask);
		if (r < 0)
			ask_fail(ask, r);
		return;
	}
	if (!is_part(ask, told)) {
		refuse_answer(ask, -EPROTO);
	} else if (!ask->told) {
		pass_on(ask, told);
	} else {
		r = ask_is_for_text(ask) ? ask_keep_text(ask, told) : keep_part(ask, *told);
		if (r < 0)
			refuse_answer(ask, r);
		else if (!(told->flags & TOLD_MORE))
			ask_tell_program(ask, told);
	}
}
