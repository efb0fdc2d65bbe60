/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/policy/denied.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/image.h"
#include "base/log.h"
#include "daemon/policy/access.h"
#include "daemon/policy/policy.h"
#include "daemon/policy/policy_internal.h"
#include "wire/ut.h"

/* Somebody who has pairs. */
struct denied_source {
	struct log_source who;
	unsigned pairs; /* 0: nobody, a free place */
};

struct pair {
	struct denied_entry entry;
	struct denied_source *of;
	struct pair *prev, *next;
};

struct denied {
	struct pair *pairs; /* the latest first */
	unsigned count;
	struct denied_source sources[DENIED_MAX];
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

static bool is_same(struct log_source a, struct log_source b)
{
	return a.kind == b.kind && a.id == b.id;
}

/* Returns the source, or a free place if it has none. There is one: not all pairs are in the list. */
static struct denied_source *place_of(struct denied *denied, struct log_source who)
{
	struct denied_source *free_one = NULL;

	for (unsigned i = 0; i < DENIED_MAX; i++) {
		struct denied_source *source = &denied->sources[i];

		if (source->pairs && is_same(source->who, who))
			return source;
		if (!source->pairs)
			free_one = source;
	}
	return free_one;
}

static unsigned pairs_of(const struct denied *denied, struct log_source who)
{
	for (unsigned i = 0; i < DENIED_MAX; i++)
		if (denied->sources[i].pairs && is_same(denied->sources[i].who, who))
			return denied->sources[i].pairs;
	return 0;
}

/* Returns the oldest pair of the source that would have the most if `source` got one more. */
static struct pair *give_way(const struct denied *denied, struct log_source source)
{
	struct pair *pair, *oldest = NULL;
	unsigned most = pairs_of(denied, source) + 1;

	/* It begins at the list's end, so it finds the oldest pair of each source. */
	for (pair = denied->pairs->prev;; pair = pair->prev) {
		if (is_same(pair->of->who, source)) {
			if (!oldest)
				oldest = pair;
		} else if (pair->of->pairs > most) {
			most = pair->of->pairs;
			oldest = pair;
		}
		if (pair == denied->pairs)
			break;
	}
	return oldest ? oldest : denied->pairs->prev;
}

/* Takes the pair out of the list, or returns a new one, for which another gives way if the list is full.
 * NULL: no memory. */
static struct pair *place_for(struct denied *denied, const char *host, uint32_t domid,
			      struct log_source source, const char *endpoint)
{
	struct pair *pair;

	DL_FOREACH(denied->pairs, pair) {
		if (pair->entry.domid == domid && !strcmp(pair->entry.endpoint, endpoint) &&
		    !strcmp(pair->entry.host, host)) {
			DL_DELETE(denied->pairs, pair);
			return pair;
		}
	}
	if (denied->count < DENIED_MAX) {
		pair = malloc(sizeof(*pair));
		if (!pair)
			return NULL;
		denied->count++;
	} else {
		pair = give_way(denied, source);
		DL_DELETE(denied->pairs, pair);
		pair->of->pairs--;
	}
	memset(pair, 0, sizeof(*pair));
	pair->of = place_of(denied, source);
	pair->of->who = source;
	pair->of->pairs++;
	pair->entry.domid = domid;
	snprintf(pair->entry.host, sizeof(pair->entry.host), "%s", host);
	snprintf(pair->entry.endpoint, sizeof(pair->entry.endpoint), "%s", endpoint);
	return pair;
}

/* Keeps the rule, of which a policy that is read again leaves nothing. */
static void note_rule(struct denied_entry *entry, const struct policy_decision *decision)
{
	const char *file = decision->file ? decision->file : "";
	size_t size = strlen(file);

	entry->section = decision->section;
	entry->line = decision->line;
	snprintf(entry->file, sizeof(entry->file), "%s",
		 size < sizeof(entry->file) ? file : file + size - sizeof(entry->file) + 1);
}

void denied_add(struct denied *denied, const struct access_sender *from, struct log_source source,
		const char *endpoint, const struct policy_decision *decision)
{
	const char *host = from->host ? from->host : "", *slash = from->host ? "/" : "";
	struct pair *pair = place_for(denied, host, from->domid, source, endpoint);

	if (pair) {
		pair->entry.count++;
		pair->entry.last = (uint64_t)time(NULL);
		pair->entry.uid = from->uid;
		note_rule(&pair->entry, decision);
		DL_PREPEND(denied->pairs, pair);
	}
	if (decision->file)
		log_limited(LOG_DENIED, source, LOG_LEVEL_WARNING,
			    "denied: domain %s%s%u, uid %u to %s, by %s:%u", host, slash, from->domid,
			    from->uid, endpoint, decision->file, decision->line);
	else
		log_limited(LOG_DENIED, source, LOG_LEVEL_WARNING,
			    "denied: domain %s%s%u, uid %u to %s: no rule allows it", host, slash,
			    from->domid, from->uid, endpoint);
}

void denied_each(struct denied *denied, void (*each)(void *userdata, const struct denied_entry *entry),
		 void *userdata)
{
	struct pair *pair;

	DL_FOREACH(denied->pairs, pair)
		each(userdata, &pair->entry);
}

/* Which section has decided. */
static void section_image(struct image *image, const char **name)
{
	uint8_t number = 0;

	while (!image->is_read && number < SECTIONS - 1 && strcmp(policy_sections[number].name, *name) != 0)
		number++;
	image_u8_upto(image, &number, SECTIONS - 1);
	if (!image->error)
		*name = policy_sections[number].name;
}

static void pair_image(struct image *image, struct denied_entry *entry, struct log_source *who)
{
	uint8_t kind = (uint8_t)who->kind;

	image_u8_upto(image, &kind, LOG_HOST);
	who->kind = kind;
	image_u32(image, &who->id);
	image_text(image, entry->host, sizeof(entry->host));
	image_u32(image, &entry->domid);
	image_text(image, entry->endpoint, sizeof(entry->endpoint));
	image_u64(image, &entry->count);
	image_u64(image, &entry->last);
	image_u32(image, &entry->uid);
	section_image(image, &entry->section);
	image_text(image, entry->file, sizeof(entry->file));
	image_u32(image, &entry->line);
}

static void read_pair(struct image *image, struct denied *denied)
{
	struct log_source who = LOG_BY_US;
	struct denied_entry read = {.count = 0};
	struct pair *pair;

	pair_image(image, &read, &who);
	pair = image->error ? NULL : place_for(denied, read.host, read.domid, who, read.endpoint);
	if (!pair) {
		image_fail(image, -ENOMEM);
		return;
	}
	pair->entry = read;
	DL_APPEND(denied->pairs, pair);
}

void denied_image(struct image *image, struct denied *denied)
{
	uint32_t count = denied->count;
	struct pair *pair;

	image_upto(image, &count, DENIED_MAX);
	if (!image->is_read)
		DL_FOREACH(denied->pairs, pair)
			pair_image(image, &pair->entry, &pair->of->who);
	else
		for (; count > 0 && !image->error; count--)
			read_pair(image, denied);
}
