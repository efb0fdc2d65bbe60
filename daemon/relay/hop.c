/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A hop's life and its table of channels. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <utlist.h>

#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/base/quota.h"

#define NUMBERS_ROUND 4096u

/* --- life ------------------------------------------------------------------------------------- */

int hop_init(struct hop *hop, struct relay *relay, enum hop_kind kind, const struct hop_ops *ops, void *owner,
	     uint32_t parity, uint32_t channels_max)
{
	*hop = (struct hop){
		.relay = relay,
		.traits = &hop_traits[kind],
		.ops = ops,
		.owner = owner,
		.parity = parity,
		.next_number = parity,
		.channels_max = channels_max,
		.poll_ms = HOP_POLL_FIRST_MS,
		.stuck = true, /* detached: nothing may wait for it */
	};
	task_init(&hop->input, &relay->turns, NULL, hop_on_turn);
	hop->control = evbuffer_new();
	hop->stuck_timer = evtimer_new(relay->base, hop_on_stuck, hop);
	hop->poll_timer = evtimer_new(relay->base, hop_on_poll, hop);
	if (hop->control && hop->stuck_timer && hop->poll_timer)
		return 0;
	hop_cleanup(hop);
	return -ENOMEM;
}

void hop_set_kind(struct hop *hop, enum hop_kind kind)
{
	hop->traits = &hop_traits[kind];
}

void hop_set_account(struct hop *hop, struct account *account)
{
	hop->account = account;
	task_init(&hop->input, &hop->relay->turns, account_line(account), hop_on_turn);
}

int hop_attach(struct hop *hop, const struct hop_rings *rings)
{
	int r = ring_reader_init(&hop->in, &rings->in, rings->adopt);

	for (unsigned i = 0; i < hop->traits->outlets && r == 0; i++) {
		struct outlet *outlet = &hop->out[i];

		*outlet = (struct outlet){0};
		r = ring_writer_init(&outlet->writer, &rings->out[i], rings->adopt);
		outlet->taken_upto = outlet->writer.tail;
		ledger_init(&outlet->ledger, rings->out[i].size);
	}
	if (r < 0)
		return r;
	hop->in_progress = 0;
	hop->in_sequence = hop->out_sequence = 0;
	hop->in_position = hop->out_position = 0;
	hop->unreleased = 0;
	hop->missing = 1;
	hop->finishing = 0;
	hop->stuck = hop->taken_pending = hop->has_asked = hop->must_not_ask = hop->was_woken = false;
	hop->attached = true;
	hop_mark_dirty(hop);
	return 0;
}

void hop_detach(struct hop *hop)
{
	if (!hop->attached)
		return;
	if (hop->has_failed)
		LL_DELETE2(hop->relay->failed, hop, failed_next);
	hop->has_failed = false; /* the session that it was about is over */
	free(hop->refused);
	hop->refused = NULL;
	hop->attached = false;
	hop->stuck = true;
	for (unsigned i = 0; i < hop->traits->outlets; i++) {
		ledger_free(&hop->out[i].ledger);
		hop->out[i] = (struct outlet){0};
	}
	hop_stop_waiting(hop);
	hop_forget_notification(hop);
	task_cancel(&hop->input);
	if (hop->is_awake)
		DL_DELETE2(hop->relay->awake, hop, awake_prev, awake_next);
	hop->is_awake = false;
	evbuffer_drain(hop->control, evbuffer_get_length(hop->control));
	charge_end(&hop->queued);
	evtimer_del(hop->poll_timer);
	hop_release_waiters(hop);
}

void hop_reset_channels(struct hop *hop, int error)
{
	bool certain = hop->said_goodbye && (!hop->error || hop->error == -ECONNRESET);
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next(hop, &number)))
		channel_lost(end, error, !certain);
}

void hop_cleanup(struct hop *hop)
{
	hop_detach(hop);
	hop_reset_channels(hop, ECONNRESET);
	if (hop->is_dirty)
		DL_DELETE2(hop->relay->dirty, hop, dirty_prev, dirty_next);
	hop->is_dirty = false;
	if (hop->has_failed)
		LL_DELETE2(hop->relay->failed, hop, failed_next);
	hop->has_failed = false;
	if (hop->control)
		evbuffer_free(hop->control);
	if (hop->stuck_timer)
		event_free(hop->stuck_timer);
	if (hop->poll_timer)
		event_free(hop->poll_timer);
	free(hop->refused);
	hop->refused = NULL;
	charge_end(&hop->queued);
	task_cancel(&hop->input);
	account_unref(hop->account);
	hop->account = NULL;
	for (uint32_t i = 0; i < hop->table_pages; i++)
		free(hop->table[i]);
	free(hop->table);
	hop->control = NULL;
	hop->stuck_timer = hop->poll_timer = NULL;
	hop->table = NULL;
	hop->table_pages = 0;
}

uint32_t hop_unacknowledged(struct hop *hop)
{
	int unread = hop->attached ? ring_writer_unread(&hop->out[OUTLET_MAIN].writer) : 0;

	return unread < 0 ? 0 : (uint32_t)unread;
}

/* --- the table of channels -------------------------------------------------------------------- */

#define TABLE_PAGE 64u /* numbers */
/* stay when they are empty: honest programs use low numbers. Who uses all of them pays for one channel at a
 * time. */
#define PAGES_KEPT 16u

struct channel_end *hop_find(struct hop *hop, uint32_t number)
{
	uint32_t page = number / TABLE_PAGE;

	return page < hop->table_pages && hop->table[page] ? hop->table[page][number % TABLE_PAGE] : NULL;
}

struct channel_end *hop_next(const struct hop *hop, uint32_t *number)
{
	while (*number / TABLE_PAGE < hop->table_pages) {
		struct channel_end *end, **page = hop->table[*number / TABLE_PAGE];

		if (!page) {
			*number = (*number / TABLE_PAGE + 1) * TABLE_PAGE;
			continue;
		}
		end = page[(*number)++ % TABLE_PAGE];
		if (end)
			return end;
	}
	return NULL;
}

static int grow_table(struct hop *hop, uint32_t page)
{
	uint32_t pages = hop->table_pages ? hop->table_pages : 4;
	struct channel_end ***grown;

	while (pages <= page)
		pages *= 2;
	grown = realloc(hop->table, pages * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + hop->table_pages, 0, (pages - hop->table_pages) * sizeof(*grown));
	hop->table = grown;
	hop->table_pages = pages;
	return 0;
}

int hop_enter(struct hop *hop, uint32_t number, struct channel_end *end)
{
	uint32_t page = number / TABLE_PAGE;

	if (page >= hop->table_pages && grow_table(hop, page) < 0)
		return -ENOMEM;
	if (!hop->table[page])
		hop->table[page] = calloc(TABLE_PAGE, sizeof(**hop->table));
	if (!hop->table[page])
		return -ENOMEM;
	if (hop->table[page][number % TABLE_PAGE])
		return -EPROTO;
	hop->table[page][number % TABLE_PAGE] = end;
	hop->channels++;
	return 0;
}

int hop_number(struct hop *hop, uint32_t *number)
{
	if (hop->channels >= hop->channels_max)
		return -ENOBUFS;
	for (uint32_t tries = 0; tries < CHANNEL_NUMBERS / 2; tries++) {
		uint32_t candidate = hop->next_number;

		/* Going round, so that a number comes again late: what crossed the end of its old channel has
		 * arrived by then. But not round all of them while a few do, so that tables stay small. */
		hop->next_number += 2;
		if (hop->next_number >= CHANNEL_NUMBERS ||
		    (hop->next_number >= NUMBERS_ROUND && hop->channels < hop->next_number / 4))
			hop->next_number = hop->parity;
		if (!hop_find(hop, candidate)) {
			*number = candidate;
			return 0;
		}
	}
	return -ENOBUFS;
}

static void free_empty_page(struct hop *hop, uint32_t page)
{
	for (uint32_t i = 0; i < TABLE_PAGE; i++)
		if (hop->table[page][i])
			return;
	free(hop->table[page]);
	hop->table[page] = NULL;
}

void hop_remove(struct hop *hop, uint32_t number)
{
	uint32_t page = number / TABLE_PAGE;

	if (!hop_find(hop, number))
		return;
	hop->table[page][number % TABLE_PAGE] = NULL;
	hop->channels--;
	if (page >= PAGES_KEPT)
		free_empty_page(hop, page);
}
