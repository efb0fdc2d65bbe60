/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/registry/past.h"

#include <stdlib.h>
#include <string.h>

static void forget(struct past *past, struct past_entry *entry)
{
	HASH_DEL(past->all, entry);
	past->drop(entry->counters);
	free(entry);
}

void past_put(struct past *past, const char *name, void *counters)
{
	size_t size = strlen(name);
	struct past_entry *entry = calloc(1, sizeof(*entry) + size + 1), *before;

	HASH_FIND_STR(past->all, name, before);
	if (before)
		forget(past, before);
	if (!entry) {
		past->drop(counters);
		return;
	}
	entry->counters = counters;
	memcpy(entry->name, name, size);
	HASH_ADD_KEYPTR(hh, past->all, entry->name, size, entry);
	if (!HASH_ADDED(entry)) {
		past->drop(counters);
		free(entry);
	} else if (HASH_COUNT(past->all) > PAST_MOST) {
		forget(past, past->all);
	}
}

void *past_take(struct past *past, const char *name)
{
	struct past_entry *entry;
	void *counters;

	HASH_FIND_STR(past->all, name, entry);
	if (!entry)
		return NULL;
	counters = entry->counters;
	HASH_DEL(past->all, entry);
	free(entry);
	return counters;
}

void past_clear(struct past *past)
{
	while (past->all)
		forget(past, past->all);
}
