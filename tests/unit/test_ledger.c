/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ledger of what was handed out: against a plain list, with channels that come and go, and numbers near
 * their wrap. */
#include "tests/unit/random.h"
#include "tests/unit/unit.h"

#include "daemon/switch/channel.h"
#include "daemon/switch/ledger.h"

#define ENDS  5
#define STEPS 60000

struct model {
	struct handed entries[4096];
	uint32_t count;
};

static uint64_t seed;

static const struct handed *model_find(const struct model *model, const struct channel_end *end,
				       uint64_t offset)
{
	for (uint32_t i = 0; i < model->count; i++) {
		const struct handed *entry = &model->entries[i];

		if (entry->end == end && offset >= entry->offset && offset - entry->offset < entry->length)
			return entry;
	}
	return NULL;
}

static uint64_t model_released(const struct model *model, const struct channel_end *end, uint32_t position)
{
	uint64_t offset = 0;

	for (uint32_t i = 0; i < model->count; i++) {
		const struct handed *entry = &model->entries[i];

		if (entry->end == end && (int32_t)(position - entry->position) >= (int32_t)entry->length)
			offset = entry->offset + entry->length;
		else if (entry->end == end && (int32_t)(position - entry->position) > 0)
			offset = entry->offset + (position - entry->position);
	}
	return offset;
}

static void compare(struct ledger *ledger, const struct model *model, struct channel_end *ends,
		    uint32_t position)
{
	struct handed *front = ledger_front(ledger);
	struct channel_end *end = &ends[random_below(&seed, ENDS)];
	uint64_t offset = end->sent ? random_below(&seed, (uint32_t)end->sent + 8) : 0;
	const struct handed *found = ledger_find(ledger, end, offset),
			    *expected = model_find(model, end, offset);

	assert_int_equal(found != NULL, expected != NULL);
	if (found) {
		assert_int_equal(found->position, expected->position);
		assert_int_equal(found->offset, expected->offset);
	}
	position -= random_below(&seed, 4096);
	assert_int_equal(ledger_released(ledger, end, position), model_released(model, end, position));
	assert_int_equal(front != NULL, model->count > 0);
	if (front)
		assert_int_equal(front->position, model->entries[0].position);
	assert_int_equal(ledger_is_full(ledger), model->count >= ledger->max);
}

TEST(ledger_is_as_a_plain_list)
{
	for (seed = 1; seed < 4; seed++) {
		struct channel_end ends[ENDS] = {0};
		struct model *model = calloc(1, sizeof(*model));
		uint32_t position = UINT32_MAX - 100000;
		struct ledger ledger;

		assert_non_null(model);
		ledger_init(&ledger, 131072);
		ledger.first = UINT32_MAX - 1000;
		for (int step = 0; step < STEPS; step++) {
			struct channel_end *end = &ends[random_below(&seed, ENDS)];
			uint32_t length = 1 + random_below(&seed, 100), what = random_below(&seed, 1000);

			if (what == 0) { /* the channel ends, another one has its memory */
				uint32_t own = 0;

				for (uint32_t i = 0; i < model->count; i++) {
					own += model->entries[i].end == end;
					if (model->entries[i].end == end)
						model->entries[i].end = NULL;
				}
				assert_int_equal(ledger_forget(&ledger, end), own);
				memset(end, 0, sizeof(*end));
			} else if (what < 505 && !ledger_is_full(&ledger)) {
				assert_int_equal(ledger_push(&ledger, end, end->sent, position, length), 0);
				model->entries[model->count++] = (struct handed){.end = end,
										 .offset = end->sent,
										 .position = position,
										 .length = length};
				end->sent += length;
				position += 16 + ((length + 7) & ~7u);
			} else if (model->count) {
				assert_ptr_equal(ledger_front(&ledger)->end, model->entries[0].end);
				ledger_pop(&ledger);
				memmove(model->entries, model->entries + 1,
					--model->count * sizeof(*model->entries));
			}
			compare(&ledger, model, ends, position);
		}
		ledger_free(&ledger);
		free(model);
	}
}

/* How many entries a search looks at, by what the jumps lead past. */
static unsigned steps_to(const struct ledger *ledger, const struct channel_end *end, uint64_t offset)
{
	const struct handed *entry = ledger_at(ledger, end->newest_handed);
	unsigned steps = 0;

	while (entry->offset > offset) {
		const struct handed *jumped = ledger_at(ledger, entry->jump);

		entry = jumped->offset > offset ? jumped : ledger_at(ledger, entry->back);
		steps++;
	}
	return steps;
}

TEST(search_is_logarithmic)
{
	struct channel_end end = {0};
	struct ledger ledger;
	unsigned most = 0;

	ledger_init(&ledger, 1u << 24);
	for (uint32_t i = 0; !ledger_is_full(&ledger); i++)
		assert_int_equal(ledger_push(&ledger, &end, i, 32 * i, 1), 0);
	assert_int_equal(ledger.count, 65536);
	for (uint32_t i = 0; i < 65536; i += 7) {
		unsigned steps = steps_to(&ledger, &end, i);

		assert_int_equal(ledger_find(&ledger, &end, i)->offset, i);
		most = steps > most ? steps : most;
	}
	assert_in_range(most, 1, 3 * 16);
	ledger_free(&ledger);
}
