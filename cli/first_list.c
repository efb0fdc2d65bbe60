/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/first_list.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/fields.h"
#include "cli/interrupt.h"
#include "wire/address.h"
#include "wire/hash.h"

#define QUIET_MS     1000
#define KEEP_MS	     2000
#define KEEP_MOST_MS 10000

/* A host, a domain or an endpoint: is it there, or listed and not yet told? */
struct first_entry {
	char *key;
	bool is_there, is_awaited;
	enum xenmsg_event_kind kind;
	uint32_t domid;
	char *name, *domain_name, *host;
	UT_hash_handle hh;
};

static void *or_abort(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

/* Makes the key of a host, a domain or an endpoint, which the caller frees. Sorted, a domain is before its endpoints. */
static char *make_key(const char *host, const char *domid, const char *endpoint)
{
	char *key;

	if (asprintf(&key, "%s/%6s%s%s", host, domid, endpoint ? ":" : "", endpoint ? endpoint : "") < 0)
		abort();
	return key;
}

static char *key_of(const struct xenmsg_event *event)
{
	bool is_endpoint = event->kind == XENMSG_ENDPOINT_UP || event->kind == XENMSG_ENDPOINT_DOWN;
	bool is_host = event->kind == XENMSG_HOST_UP || event->kind == XENMSG_HOST_DOWN;
	char domid[16];

	snprintf(domid, sizeof(domid), "%u", event->domid);
	return make_key(event->host, is_host ? "" : domid, is_endpoint ? event->name : NULL);
}

/* --- what is listed --------------------------------------------------------------------------- */

/* Returns the entry with this key, which it takes; a new one if there is none. */
static struct first_entry *entry_of(struct first_list *list, char *key)
{
	struct first_entry *entry;

	HASH_FIND_STR(list->entries, key, entry);
	if (entry) {
		free(key);
		return entry;
	}
	entry = or_abort(calloc(1, sizeof(*entry)));
	entry->key = key;
	HASH_ADD_KEYPTR(hh, list->entries, entry->key, strlen(entry->key), entry);
	return entry;
}

static void set_awaited(struct first_list *list, struct first_entry *entry, bool is_awaited)
{
	list->awaited += (size_t)is_awaited - (size_t)entry->is_awaited;
	entry->is_awaited = is_awaited;
}

static void await(struct first_list *list, struct json_object *listed, const char *endpoint)
{
	struct first_entry *entry =
		entry_of(list, make_key(text_or(listed, "host", ""), text_or(listed, "domid", ""), endpoint));

	set_awaited(list, entry, !entry->is_there);
}

/* Returns whether a part of the pattern means one of these words. */
static bool means(struct address_part part, const char *const words[3])
{
	char pattern[DOMAIN_NAME_MAX + 1];

	if (!address_part_copy(part, pattern, sizeof(pattern)))
		return false;
	for (unsigned i = 0; i < 3; i++)
		if (words[i] && !fnmatch(pattern, words[i], 0))
			return true;
	return false;
}

static bool is_own(const struct first_list *list, const char *domid)
{
	return strtoul(domid, NULL, 10) == list->own;
}

/* Returns whether the watch tells of an entry of the domain that has this name, and if so of this endpoint (NULL: of itself). */
static bool is_told(const struct first_list *list, struct json_object *entry, const char *domain_name,
		    const char *endpoint)
{
	struct address_parts parts = address_split(list->pattern, strlen(list->pattern));
	const char *domid = text_or(entry, "domid", "");
	const char *const domain[] = {domid, domain_name, is_own(list, domid) ? "self" : NULL};
	const char *const name[] = {endpoint, NULL, NULL};

	if (!means(parts.domain, domain))
		return false;
	return !parts.endpoint.data || (endpoint && means(parts.endpoint, name));
}

static void on_peers(void *userdata, const struct xenmsg_result *result)
{
	struct json_object *peers = result->json ? json_tokener_parse(result->json) : NULL;
	struct first_list *list = userdata;

	free(result->json);
	list->questions--;
	for (size_t i = 0; i < length_of(peers); i++) {
		struct json_object *peer = json_object_array_get_idx(peers, i);

		if (json_object_get_boolean(at(peer, "up")) &&
		    is_told(list, peer, text_or(peer, "name", NULL), NULL))
			await(list, peer, NULL);
	}
	json_object_put(peers);
}

static void on_endpoints(void *userdata, const struct xenmsg_result *result)
{
	struct json_object *endpoints = result->json ? json_tokener_parse(result->json) : NULL;
	struct first_list *list = userdata;

	free(result->json);
	list->questions--;
	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *endpoint = json_object_array_get_idx(endpoints, i);
		const char *name = text_or(endpoint, "name", "");

		if (is_told(list, endpoint, text_or(endpoint, "domain", NULL), name))
			await(list, endpoint, name);
	}
	json_object_put(endpoints);
}

void first_list_begin(struct first_list *list, struct xenmsg *conn)
{
	struct address_parts parts = address_split(list->pattern, strlen(list->pattern));
	char question[HOST_NAME_SIZE + 16];

	list->own = xenmsg_domid(conn);
	list->quiet_from = interrupt_deadline(QUIET_MS);
	list->keeps_until = interrupt_deadline(KEEP_MS);
	list->keeps_at_most_until = interrupt_deadline(KEEP_MOST_MS);
	if (!parts.host.data) {
		list->questions += xenmsg_begin_query(conn, "peers", NULL, on_peers, list, NULL) == 0;
		list->questions += xenmsg_begin_query(conn, "endpoints", NULL, on_endpoints, list, NULL) == 0;
		return;
	}
	/* Of another host's endpoints it can be asked for one domain at a time. */
	snprintf(question, sizeof(question), "peers %.*s", (int)parts.host.size, parts.host.data);
	list->questions += xenmsg_begin_query(conn, question, NULL, on_peers, list, NULL) == 0;
}

/* --- what is told ----------------------------------------------------------------------------- */

static void forget_texts(struct first_entry *entry)
{
	free(entry->name);
	free(entry->domain_name);
	free(entry->host);
	entry->name = entry->domain_name = entry->host = NULL;
}

/* Keeps what is there now, and nothing of what has gone meanwhile. */
static void keep(struct first_list *list, const struct xenmsg_event *event)
{
	struct first_entry *entry = entry_of(list, key_of(event));

	set_awaited(list, entry, false);
	forget_texts(entry);
	entry->is_there = event->kind != XENMSG_DOMAIN_DOWN && event->kind != XENMSG_ENDPOINT_DOWN &&
			  event->kind != XENMSG_HOST_DOWN;
	entry->kind = event->kind;
	entry->domid = event->domid;
	entry->name = or_abort(strdup(event->name));
	entry->domain_name = or_abort(strdup(event->domain_name));
	entry->host = or_abort(strdup(event->host));
}

void first_list_take(struct first_list *list, const struct xenmsg_event *event)
{
	if (!list->is_over) {
		int64_t keeps_until = interrupt_deadline(KEEP_MS);

		list->quiet_from = interrupt_deadline(QUIET_MS);
		list->keeps_until =
			keeps_until < list->keeps_at_most_until ? keeps_until : list->keeps_at_most_until;
		keep(list, event);
	}
	if (list->is_over || list->passes)
		list->print(list->userdata, event);
}

static int compare(const struct first_entry *one, const struct first_entry *other)
{
	return strcmp(one->key, other->key);
}

static bool is_due(int64_t deadline)
{
	return interrupt_left(deadline) <= 1;
}

static void hand_on(struct first_list *list)
{
	HASH_SRT(hh, list->entries, compare);
	for (const struct first_entry *entry = list->entries; entry; entry = entry->hh.next) {
		const struct xenmsg_event event = {.kind = entry->kind,
						   .domid = entry->domid,
						   .name = entry->name,
						   .domain_name = entry->domain_name,
						   .host = entry->host};

		if (entry->is_there)
			list->print(list->userdata, &event);
	}
}

bool first_list_ends(struct first_list *list)
{
	if (list->is_over)
		return false;
	list->is_over = !list->questions && (!list->awaited || is_due(list->quiet_from));
	if (!list->passes && (list->is_over || is_due(list->keeps_until))) {
		hand_on(list);
		list->passes = true;
	}
	return list->is_over;
}

int64_t first_list_deadline(const struct first_list *list)
{
	if (list->is_over || (list->questions && list->passes))
		return -1;
	if (list->questions || (!list->passes && list->keeps_until < list->quiet_from))
		return list->keeps_until;
	return list->quiet_from;
}

void first_list_free(struct first_list *list)
{
	struct first_entry *entry, *next;

	HASH_ITER(hh, list->entries, entry, next) {
		HASH_DEL(list->entries, entry);
		forget_texts(entry);
		free(entry->key);
		free(entry);
	}
}
