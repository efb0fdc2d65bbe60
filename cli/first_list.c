/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/first_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "wire/hash.h"

#define KEEP_MS	     2000
#define KEEP_MOST_MS 10000

/* A host, a domain or an endpoint: is it there? */
struct first_entry {
	char *key;
	bool is_there;
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

/* Makes the key of a host, a domain or an endpoint, which the caller frees. Sorted, a domain is before its
 * endpoints. */
static char *key_of(const struct xenmsg_event *event)
{
	bool is_endpoint = event->kind == XENMSG_ENDPOINT_UP || event->kind == XENMSG_ENDPOINT_DOWN;
	bool is_host = event->kind == XENMSG_HOST_UP || event->kind == XENMSG_HOST_DOWN;
	char domid[16] = "", *key;

	if (!is_host)
		snprintf(domid, sizeof(domid), "%u", event->domid);
	if (asprintf(&key, "%s/%6s%s%s", event->host, domid, is_endpoint ? ":" : "",
		     is_endpoint ? event->name : "") < 0)
		abort();
	return key;
}

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
	int64_t keeps_until = interrupt_deadline(KEEP_MS);
	struct first_entry *entry = entry_of(list, key_of(event));

	list->keeps_until = keeps_until < list->keeps_at_most_until ? keeps_until : list->keeps_at_most_until;
	forget_texts(entry);
	entry->is_there = event->kind != XENMSG_DOMAIN_DOWN && event->kind != XENMSG_ENDPOINT_DOWN &&
			  event->kind != XENMSG_HOST_DOWN;
	entry->kind = event->kind;
	entry->domid = event->domid;
	entry->name = or_abort(strdup(event->name));
	entry->domain_name = or_abort(strdup(event->domain_name));
	entry->host = or_abort(strdup(event->host));
}

static int compare(const struct first_entry *one, const struct first_entry *other)
{
	return strcmp(one->key, other->key);
}

/* Prints what was kept, and from now on everything at once. */
static void hand_on(struct first_list *list)
{
	list->passes = true;
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

void first_list_begin(struct first_list *list, xenmsg_event_handler print, void *userdata)
{
	*list = (struct first_list){.print = print, .userdata = userdata};
	list->keeps_until = interrupt_deadline(KEEP_MS);
	list->keeps_at_most_until = interrupt_deadline(KEEP_MOST_MS);
}

void first_list_take(struct first_list *list, const struct xenmsg_event *event)
{
	if (event->kind == XENMSG_LISTED && !list->passes)
		hand_on(list);
	if (list->passes)
		list->print(list->userdata, event);
	else
		keep(list, event);
}

void first_list_look(struct first_list *list)
{
	if (!list->passes && interrupt_left(list->keeps_until) <= 1)
		hand_on(list);
}

int64_t first_list_deadline(const struct first_list *list)
{
	return list->passes ? -1 : list->keeps_until;
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
