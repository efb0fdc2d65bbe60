/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All byte streams in the image that a daemon hands over (stream_image.c), and which programs they wait
 * for. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "base/log.h"
#include "daemon/local/session.h"
#include "daemon/local/streams_internal.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"

#define NOBODY UINT32_MAX

/* --- the old daemon --------------------------------------------------------------------------- */

bool streams_end_unfit(struct streams *streams, bool is_carried)
{
	struct stream_entry *entry, *next;
	bool were_some = false;

	HASH_ITER(all, streams->list, entry, next) {
		if (stream_fits_image(entry->stream, is_carried))
			continue;
		log_debug("stream %llu of %s, which is %s, isn't handed over",
			  (unsigned long long)entry->number, entry->program, stream_state(entry->stream));
		streams_remove(entry);
		were_some = true;
	}
	return were_some;
}

static void streams_each_hop(void *self, void (*each)(void *userdata, struct hop *hop), void *userdata)
{
	struct streams *streams = self;
	struct stream_entry *entry, *next;

	HASH_ITER(all, streams->list, entry, next)
		each(userdata, stream_hop(entry->stream));
}

static uint32_t streams_number(void *self, uint32_t first)
{
	struct streams *streams = self;
	struct stream_entry *entry;

	for (entry = streams->list; entry; entry = entry->all.next)
		hop_set_image_number(stream_hop(entry->stream), first++);
	return first;
}

/* Whose it is, and which program is to fetch it. */
static void entry_image(struct image *image, struct stream_entry *entry, uint32_t *listener)
{
	image_u64(image, &entry->number);
	image_u32(image, listener);
	image_u32(image, &entry->uid);
	image_u32(image, &entry->pid);
	image_u32(image, &entry->from);
	image_bool(image, &entry->incoming);
	image_text(image, entry->program, sizeof(entry->program));
	image_text(image, entry->host, sizeof(entry->host));
	image_text(image, entry->name, sizeof(entry->name));
}

static void streams_write(void *self, struct image *image)
{
	const struct streams *streams = self;
	struct stream_entry *entry;

	for (entry = streams->list; entry; entry = entry->all.next) {
		uint32_t listener = NOBODY;

		if (entry->listener)
			listener = hop_number_in_image(entry->listener->hop);
		image_section(image, IMAGE_STREAM);
		entry_image(image, entry, &listener);
		stream_image(image, entry->stream);
	}
}

static void streams_write_channels(void *self, struct image *image)
{
	const struct streams *streams = self;
	const struct stream_entry *entry;

	for (entry = streams->list; entry; entry = entry->all.next)
		hop_write_channels(image, stream_hop(entry->stream));
}

/* --- the next one ----------------------------------------------------------------------------- */

/* Whether others can find it, and nothing else under its name. */
static bool is_possible(const struct streams *streams, const struct stream_entry *entry, uint32_t listener,
			const struct image_hops *hops)
{
	uint64_t token = stream_token(entry->stream);
	const struct stream_entry *same = NULL, *waits = NULL;

	HASH_FIND(all, streams->list, &entry->number, sizeof(entry->number), same);
	HASH_FIND(hh, streams->waiting, &token, sizeof(token), waits);
	return !same && entry->number && entry->number <= streams->board->last_stream &&
	       stream_is_waiting(entry->stream) == (listener != NOBODY) &&
	       (listener == NOBODY ||
		(!waits && listener < hops->sessions && image_hops_has(hops, listener)));
}

/* NULL: out of memory. */
static struct stream_entry *new_entry(struct streams *streams)
{
	struct stream_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->streams = streams;
	if (stream_make(&entry->stream, streams->board, &streams_callbacks, entry) == 0)
		return entry;
	free(entry);
	return NULL;
}

static void streams_read(void *self, struct image *image, struct image_hops *hops)
{
	struct streams *streams = self;
	struct stream_entry *entry = new_entry(streams);
	uint32_t listener;

	if (!entry) {
		image_fail(image, -ENOMEM);
		return;
	}
	entry_image(image, entry, &listener);
	stream_image(image, entry->stream);
	image_expect(image, is_possible(streams, entry, listener, hops));
	if (!image->error) {
		HASH_ADD(all, streams->list, number, sizeof(entry->number), entry);
		if (!HASH_ADDED_BY(all, entry))
			image_fail(image, -ENOMEM);
		streams_start_tidying(streams);
	}
	if (image->error) {
		stream_free(entry->stream);
		free(entry);
		return;
	}
	if (listener != NOBODY && streams_wait_for(entry, hops->hops[listener]) < 0)
		image_fail(image, -ENOMEM);
	if (!image->error && image_hops_add(hops, stream_hop(entry->stream)) < 0)
		image_fail(image, -ENOMEM);
	if (image->error)
		streams_remove(entry);
	else
		hops->streams++;
}

static bool streams_lose(void *self, struct hop *hop)
{
	struct streams *streams = self;
	struct stream_entry *entry = streams->list;

	while (entry && stream_hop(entry->stream) != hop)
		entry = entry->all.next;
	if (entry)
		streams_remove(entry);
	return entry;
}

static void streams_go_on(void *self)
{
	struct streams *streams = self;
	struct stream_entry *entry, *next;
	int r;

	HASH_ITER(all, streams->list, entry, next) {
		r = stream_go_on(entry->stream);
		if (r == 0)
			continue;
		log_error("a stream can't go on after the hand-over: %s", strerror(-r));
		streams_remove(entry);
	}
}

static void streams_drop(void *self)
{
	streams_leave(self);
}

const struct part streams_part = {
	.each_hop = streams_each_hop,
	.number = streams_number,
	.write = streams_write,
	.write_channels = streams_write_channels,
	.sections = {{IMAGE_STREAM, streams_read}},
	.lose = streams_lose,
	.go_on = streams_go_on,
	.drop = streams_drop,
};
