/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/ledger.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/switch/channel.h"

#define BYTES_PER_ENTRY 256u /* of the ring: a ledger of 4096 entries for 1 MiB */
#define ENTRIES_MIN	64u
#define CAPACITY_FIRST	64u

void ledger_init(struct ledger *ledger, uint32_t ring_size)
{
	*ledger = (struct ledger){.max = ring_size / BYTES_PER_ENTRY};
	if (ledger->max < ENTRIES_MIN)
		ledger->max = ENTRIES_MIN;
}

uint64_t ledger_memory(uint32_t ring_size)
{
	struct ledger ledger;

	ledger_init(&ledger, ring_size);
	return ledger.max * sizeof(*ledger.entries);
}

void ledger_free(struct ledger *ledger)
{
	free(ledger->entries);
	*ledger = (struct ledger){0};
}

static bool is_there(const struct ledger *ledger, uint32_t number)
{
	return number - ledger->first < ledger->count;
}

/* Returns the newest entry of a channel; NULL: it has none. */
static struct handed *newest(const struct ledger *ledger, const struct channel_end *end)
{
	struct handed *entry;

	if (!is_there(ledger, end->newest_handed))
		return NULL;
	entry = ledger_at(ledger, end->newest_handed);
	return entry->end == end ? entry : NULL;
}

static int ledger_grow(struct ledger *ledger)
{
	uint32_t capacity = ledger->capacity ? ledger->capacity * 2 : CAPACITY_FIRST;
	struct handed *grown = malloc(capacity * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	for (uint32_t i = ledger->first; i != ledger->first + ledger->count; i++)
		grown[i & (capacity - 1)] = *ledger_at(ledger, i);
	free(ledger->entries);
	ledger->entries = grown;
	ledger->capacity = capacity;
	return 0;
}

/* Returns where the jump of the entry behind `last` leads: as far again as the two jumps before, if they were
 * equally long. */
static uint32_t next_jump(const struct ledger *ledger, uint32_t number, const struct handed *last)
{
	const struct handed *jumped, *again;

	if (!is_there(ledger, last->jump))
		return number;
	jumped = ledger_at(ledger, last->jump);
	if (!is_there(ledger, jumped->jump))
		return number;
	again = ledger_at(ledger, jumped->jump);
	return last->depth - jumped->depth == jumped->depth - again->depth ? jumped->jump : number;
}

int ledger_reserve(struct ledger *ledger)
{
	return ledger->count == ledger->capacity ? ledger_grow(ledger) : 0;
}

int ledger_push(struct ledger *ledger, struct channel_end *end, uint64_t offset, uint32_t position,
		uint32_t length)
{
	uint32_t number = ledger->first + ledger->count;
	const struct handed *last;
	struct handed entry = {
		.end = end,
		.offset = offset,
		.position = position,
		.length = length,
		.back = number,
		.jump = number,
	};

	if (ledger_reserve(ledger) < 0)
		return -ENOMEM;
	last = end ? newest(ledger, end) : NULL;
	if (last) {
		entry.depth = last->depth + 1;
		entry.back = end->newest_handed;
		entry.jump = next_jump(ledger, end->newest_handed, last);
	}
	*ledger_at(ledger, number) = entry;
	if (end)
		end->newest_handed = number;
	ledger->count++;
	return 0;
}

/* Returns the channel's entry before this one; NULL: it has been removed, or never was. */
static const struct handed *before(const struct ledger *ledger, const struct handed *entry)
{
	const struct handed *back = is_there(ledger, entry->back) ? ledger_at(ledger, entry->back) : NULL;

	return back == entry ? NULL : back;
}

const struct handed *ledger_find(const struct ledger *ledger, const struct channel_end *end, uint64_t offset)
{
	const struct handed *entry = newest(ledger, end);

	while (entry && entry->offset > offset) {
		const struct handed *jumped =
			is_there(ledger, entry->jump) ? ledger_at(ledger, entry->jump) : NULL;

		entry = jumped && jumped != entry && jumped->offset > offset ? jumped : before(ledger, entry);
	}
	return entry && offset - entry->offset < entry->length ? entry : NULL;
}

/* Whether some of the entry was released, or it is empty. */
static bool is_released(const struct handed *entry, uint32_t position)
{
	int32_t past = (int32_t)(position - entry->position);

	return past > 0 || (past == 0 && entry->length == 0);
}

uint64_t ledger_released(const struct ledger *ledger, const struct channel_end *end, uint32_t position)
{
	const struct handed *entry = newest(ledger, end);
	uint32_t past;

	while (entry && !is_released(entry, position)) {
		const struct handed *jumped =
			is_there(ledger, entry->jump) ? ledger_at(ledger, entry->jump) : NULL;

		entry = jumped && jumped != entry && !is_released(jumped, position) ? jumped
										    : before(ledger, entry);
	}
	if (!entry)
		return 0;
	past = position - entry->position;
	return entry->offset + (past < entry->length ? past : entry->length);
}

uint32_t ledger_forget(struct ledger *ledger, struct channel_end *end)
{
	struct handed *entry = newest(ledger, end);
	uint32_t count = 0;

	while (entry) {
		struct handed *back = (struct handed *)before(ledger, entry);

		entry->end = NULL;
		entry = back;
		count++;
	}
	return count;
}
