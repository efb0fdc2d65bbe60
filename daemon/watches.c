/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/watches.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "daemon/hop.h"
#include "daemon/session.h"
#include "wire/address.h"

#define WATCHES_PER_SESSION 64

struct name {
	char text[ENDPOINT_NAME_MAX + 1];
	bool seen;
	UT_hash_handle hh;
};

struct domain {
	uint32_t domid;
	bool up;
	struct name *names;
	UT_hash_handle hh;
};

struct watch {
	const struct watches *watches;
	struct session *session;
	uint32_t number;
	char domain[DOMAIN_NAME_MAX + 1];
	char endpoint[2 * ENDPOINT_NAME_MAX + 1];
	bool endpoints; /* only endpoints, those that match; else the domain and all of its endpoints */
	struct watch *prev, *next;
};

struct watches {
	uint32_t own;
	struct domain *domains;
	struct watch *list;
	const char *(*name_of)(void *userdata, uint32_t domid);
	bool (*sees)(void *userdata, const struct session *session, const char *endpoint); /* NULL: all */
	void *userdata;
};

struct watches *watches_new(uint32_t domid, const char *(*name_of)(void *userdata, uint32_t domid), void *userdata)
{
	struct watches *watches = calloc(1, sizeof(*watches));

	if (!watches)
		return NULL;
	watches->own = domid;
	watches->name_of = name_of;
	watches->userdata = userdata;
	return watches;
}

void watches_restrict(struct watches *watches,
		      bool (*sees)(void *userdata, const struct session *session, const char *endpoint))
{
	watches->sees = sees;
}

static void free_names(struct domain *domain)
{
	struct name *name, *next;

	HASH_ITER (hh, domain->names, name, next) {
		HASH_DEL(domain->names, name);
		free(name);
	}
}

void watches_free(struct watches *watches)
{
	struct domain *domain, *next_domain;
	struct watch *watch, *next;

	if (!watches)
		return;
	HASH_ITER (hh, watches->domains, domain, next_domain) {
		free_names(domain);
		HASH_DEL(watches->domains, domain);
		free(domain);
	}
	DL_FOREACH_SAFE(watches->list, watch, next)
		free(watch);
	free(watches);
}

static bool means_domain(const struct watches *watches, const struct watch *watch, uint32_t domid, const char *name)
{
	char number[16];

	if (!strcmp(watch->domain, "self"))
		return domid == watches->own;
	snprintf(number, sizeof(number), "%u", domid);
	return fnmatch(watch->domain, number, 0) == 0 || (name[0] && fnmatch(watch->domain, name, 0) == 0);
}

static bool means_endpoint(const struct watch *watch, const char *endpoint)
{
	return !watch->endpoints || fnmatch(watch->endpoint, endpoint, 0) == 0;
}

/* `endpoint` NULL: the domain itself. */
static bool matches(const struct watches *watches, const struct watch *watch, uint32_t domid, const char *name,
		    const char *endpoint)
{
	if (endpoint ? !means_endpoint(watch, endpoint) : watch->endpoints)
		return false;
	return means_domain(watches, watch, domid, name);
}

static bool may_learn_of(const struct watch *watch, uint32_t domid, const char *endpoint)
{
	const struct watches *watches = watch->watches;

	return domid != watches->own || !watches->sees || watches->sees(watches->userdata, watch->session, endpoint);
}

static void tell(struct watch *watch, enum event_kind kind, uint32_t domid, const char *name, const char *endpoint)
{
	struct frame_event event = {.kind = kind, .domid = domid, .text = {name, strlen(name)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	if (endpoint && !may_learn_of(watch, domid, endpoint))
		return;
	if (endpoint) {
		event.domain_name = event.text;
		event.text = (struct frame_text){endpoint, strlen(endpoint)};
	}
	if (hop_send(session_hop(watch->session), FRAME_EVENT, 0, watch->number, payload,
		     frame_event_encode(&event, payload)) < 0)
		session_cut_off(watch->session, -ENOBUFS, "the program doesn't read its events");
}

static void tell_all(struct watches *watches, enum event_kind kind, uint32_t domid, const char *endpoint)
{
	const char *name = watches->name_of(watches->userdata, domid);
	struct watch *watch;

	DL_FOREACH(watches->list, watch)
		if (matches(watches, watch, domid, name, endpoint))
			tell(watch, kind, domid, name, endpoint);
}

/* What is there of a domain, to a watch that begins to mean it or, `down`, ceases to. */
static void tell_domain(struct watch *watch, const struct domain *domain, const char *domain_name, bool down)
{
	struct name *name;

	if (domain->up && !watch->endpoints && !down)
		tell(watch, EVENT_DOMAIN_UP, domain->domid, domain_name, NULL);
	for (name = domain->names; name; name = name->hh.next)
		if (means_endpoint(watch, name->text))
			tell(watch, down ? EVENT_ENDPOINT_DOWN : EVENT_ENDPOINT_UP, domain->domid, domain_name, name->text);
	if (domain->up && !watch->endpoints && down)
		tell(watch, EVENT_DOMAIN_DOWN, domain->domid, domain_name, NULL);
}

static struct domain *find(struct watches *watches, uint32_t domid)
{
	struct domain *domain;

	HASH_FIND(hh, watches->domains, &domid, sizeof(domid), domain);
	if (domain)
		return domain;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return NULL;
	domain->domid = domid;
	HASH_ADD(hh, watches->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

static void tell_whole(struct watches *watches, const struct domain *domain, bool up)
{
	struct name *name, *next;

	if (up)
		tell_all(watches, EVENT_DOMAIN_UP, domain->domid, NULL);
	HASH_ITER (hh, domain->names, name, next)
		tell_all(watches, up ? EVENT_ENDPOINT_UP : EVENT_ENDPOINT_DOWN, domain->domid, name->text);
	if (!up)
		tell_all(watches, EVENT_DOMAIN_DOWN, domain->domid, NULL);
}

void watches_renumber(struct watches *watches, uint32_t domid)
{
	struct domain *domain = find(watches, watches->own);

	if (domain) {
		tell_whole(watches, domain, false);
		HASH_DEL(watches->domains, domain);
		domain->domid = domid;
		HASH_ADD(hh, watches->domains, domid, sizeof(domain->domid), domain);
	}
	watches->own = domid;
	if (domain)
		tell_whole(watches, domain, true);
}

static void forget_if_empty(struct watches *watches, struct domain *domain)
{
	if (domain->up || domain->names)
		return;
	HASH_DEL(watches->domains, domain);
	free(domain);
}

/* No name has other characters, and log lines hold patterns. */
static bool is_printable(struct frame_text text)
{
	for (size_t i = 0; i < text.size; i++)
		if (text.data[i] <= ' ' || text.data[i] >= 0x7f)
			return false;
	return true;
}

void watches_add(struct watches *watches, struct session *session, uint32_t number, struct frame_text pattern)
{
	const char *why = NULL, *colon = memchr(pattern.data, ':', pattern.size);
	size_t domain_size = colon ? (size_t)(colon - pattern.data) : pattern.size;
	size_t endpoint_size = colon ? pattern.size - domain_size - 1 : 0;
	struct watch *watch = calloc(1, sizeof(*watch)), *other;
	struct domain *domain, *next_domain;
	unsigned count = 0;
	int error = EINVAL;

	DL_FOREACH(watches->list, other)
		count += other->session == session;
	if (!watch) {
		error = ENOMEM;
		why = "out of memory";
	} else if (count >= WATCHES_PER_SESSION) {
		error = ENOBUFS;
		why = "a program may have 64 watches";
	} else if (domain_size == 0 || domain_size >= sizeof(watch->domain) ||
		   !is_printable(pattern) || (colon && memchr(colon + 1, ':', endpoint_size))) {
		why = "a pattern is DOMAIN or DOMAIN:ENDPOINT";
	} else if (colon && (endpoint_size == 0 || endpoint_size >= sizeof(watch->endpoint))) {
		why = "the pattern for the endpoint is empty or too long";
	}
	if (why) {
		free(watch);
		session_reply(session, number, error, why, strlen(why));
		return;
	}
	watch->watches = watches;
	watch->session = session;
	watch->number = number;
	watch->endpoints = colon != NULL;
	memcpy(watch->domain, pattern.data, domain_size);
	if (colon)
		memcpy(watch->endpoint, colon + 1, endpoint_size);
	DL_APPEND(watches->list, watch);
	session_reply(session, number, 0, "", 0);
	HASH_ITER (hh, watches->domains, domain, next_domain) {
		const char *name = watches->name_of(watches->userdata, domain->domid);

		if (means_domain(watches, watch, domain->domid, name))
			tell_domain(watch, domain, name, false);
	}
}

void watches_renamed(struct watches *watches, uint32_t domid, const char *old_name, const char *name)
{
	struct domain *domain;
	struct watch *watch;

	HASH_FIND(hh, watches->domains, &domid, sizeof(domid), domain);
	if (!domain || !strcmp(old_name, name))
		return;
	DL_FOREACH(watches->list, watch) {
		bool meant = means_domain(watches, watch, domid, old_name);

		if (meant != means_domain(watches, watch, domid, name))
			tell_domain(watch, domain, meant ? old_name : name, meant);
		else if (meant && name[0] && domain->up && !watch->endpoints)
			tell(watch, EVENT_DOMAIN_UP, domid, name, NULL);
	}
}

int watches_remove(struct watches *watches, struct session *session, uint32_t number)
{
	struct watch *watch;

	DL_FOREACH(watches->list, watch) {
		if (watch->session == session && watch->number == number) {
			DL_DELETE(watches->list, watch);
			free(watch);
			return 0;
		}
	}
	return -ENOENT;
}

void watches_remove_session(struct watches *watches, struct session *session)
{
	struct watch *watch, *next;

	DL_FOREACH_SAFE(watches->list, watch, next) {
		if (watch->session != session)
			continue;
		DL_DELETE(watches->list, watch);
		free(watch);
	}
}

static void remove_name(struct watches *watches, struct domain *domain, struct name *name)
{
	HASH_DEL(domain->names, name);
	tell_all(watches, EVENT_ENDPOINT_DOWN, domain->domid, name->text);
	free(name);
}

static struct name *add_name(struct watches *watches, struct domain *domain, const char *text)
{
	struct name *name;

	HASH_FIND_STR(domain->names, text, name);
	if (name)
		return name;
	name = calloc(1, sizeof(*name));
	if (!name)
		return NULL;
	snprintf(name->text, sizeof(name->text), "%s", text);
	HASH_ADD_STR(domain->names, text, name);
	tell_all(watches, EVENT_ENDPOINT_UP, domain->domid, name->text);
	return name;
}

void watches_domain(struct watches *watches, uint32_t domid, bool up)
{
	struct domain *domain = find(watches, domid);
	struct name *name, *next;

	if (!domain)
		return;
	if (!up) {
		HASH_ITER (hh, domain->names, name, next)
			remove_name(watches, domain, name);
	}
	if (domain->up != up) {
		domain->up = up;
		tell_all(watches, up ? EVENT_DOMAIN_UP : EVENT_DOMAIN_DOWN, domid, NULL);
	}
	forget_if_empty(watches, domain);
}

void watches_endpoints(struct watches *watches, uint32_t domid, const char *const *names, unsigned count)
{
	struct domain *domain = find(watches, domid);
	struct name *name, *next;

	if (!domain)
		return;
	for (unsigned i = 0; i < count; i++) {
		name = add_name(watches, domain, names[i]);
		if (name)
			name->seen = true;
	}
	HASH_ITER (hh, domain->names, name, next) {
		if (!name->seen)
			remove_name(watches, domain, name);
		else
			name->seen = false;
	}
	forget_if_empty(watches, domain);
}

void watches_endpoint(struct watches *watches, uint32_t domid, const char *text, bool up)
{
	struct domain *domain = find(watches, domid);
	struct name *name;

	if (!domain)
		return;
	if (up) {
		add_name(watches, domain, text);
	} else {
		HASH_FIND_STR(domain->names, text, name);
		if (name)
			remove_name(watches, domain, name);
	}
	forget_if_empty(watches, domain);
}
