/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/denied.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <utlist.h>

#include "daemon/log.h"

#define PAIRS_MAX 64

struct pair {
	struct denied_entry entry;
	struct pair *prev, *next;
};

struct denied {
	struct pair *pairs; /* the latest first */
	unsigned count;
	struct log_limit limit;
};

struct denied *denied_new(void)
{
	return calloc(1, sizeof(struct denied));
}

void denied_free(struct denied *denied)
{
	struct pair *pair, *next;

	if (!denied)
		return;
	DL_FOREACH_SAFE(denied->pairs, pair, next)
		free(pair);
	free(denied);
}

/* The pair's place in the list, or that of the oldest one, or a new one. */
static struct pair *place_for(struct denied *denied, uint32_t domid, const char *endpoint)
{
	struct pair *pair;

	DL_FOREACH(denied->pairs, pair) {
		if (pair->entry.domid == domid && !strcmp(pair->entry.endpoint, endpoint)) {
			DL_DELETE(denied->pairs, pair);
			return pair;
		}
	}
	if (denied->count < PAIRS_MAX) {
		pair = malloc(sizeof(*pair));
		if (!pair)
			return NULL;
		denied->count++;
	} else {
		pair = denied->pairs->prev;
		DL_DELETE(denied->pairs, pair);
	}
	memset(pair, 0, sizeof(*pair));
	pair->entry.domid = domid;
	snprintf(pair->entry.endpoint, sizeof(pair->entry.endpoint), "%s", endpoint);
	return pair;
}

void denied_add(struct denied *denied, uint32_t domid, uint32_t uid, const char *endpoint, const char *file,
		unsigned line)
{
	struct pair *pair = place_for(denied, domid, endpoint);

	if (pair) {
		pair->entry.count++;
		pair->entry.last = (uint64_t)time(NULL);
		DL_PREPEND(denied->pairs, pair);
	}
	if (file)
		log_limited(&denied->limit, LOG_LEVEL_WARNING, "denied: domain %u, uid %u to %s, by %s:%u", domid, uid,
			    endpoint, file, line);
	else
		log_limited(&denied->limit, LOG_LEVEL_WARNING, "denied: domain %u, uid %u to %s: no rule allows it", domid,
			    uid, endpoint);
}

void denied_each(struct denied *denied, void (*each)(void *userdata, const struct denied_entry *entry), void *userdata)
{
	struct pair *pair;

	DL_FOREACH(denied->pairs, pair)
		each(userdata, &pair->entry);
}
