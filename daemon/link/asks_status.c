/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a guest's daemon is, for domain 0: a text that is made in pieces, each sent before the next one is
 * made; and there what has come of it, which is only kept: the asker reads it. */

#include "daemon/link/asks_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/link/link.h"
#include "daemon/relay/hop.h"

#define PARTS_AT_ONCE 8u
#define ROOM_AT_ONCE  16384u /* by which the text grows where it is kept */

int ask_begin_status(struct ask *ask)
{
	struct asks *asks = ask->asks;
	int r;

	if (!asks->with.maker)
		return -EACCES;
	ask->pieces = evbuffer_new();
	if (!ask->pieces)
		return -ENOMEM;
	r = asks->with.maker->begin(asks->userdata, &ask->from,
				    ask->kind == ASK_TRACE ? ask->domain_name : NULL, ask->charge.account,
				    &ask->made);
	if (r < 0)
		return r;
	ask->state = ASK_TELLS;
	task_due(&ask->task);
	return 0;
}

void ask_end_status(struct ask *ask)
{
	if (ask->made)
		ask->asks->with.maker->end(ask->made);
	if (ask->pieces)
		evbuffer_free(ask->pieces);
	ask->made = NULL;
	ask->pieces = NULL;
}

/* Makes a piece, if what is there doesn't fill a part and isn't the end. */
static int make_more(struct ask *ask)
{
	struct asks *asks = ask->asks;
	uint64_t units = 0;
	int r;

	if (ask->is_made || evbuffer_get_length(ask->pieces) > TOLD_PART)
		return 0;
	r = asks->with.maker->more(asks->userdata, ask->made, ask->pieces, &units);
	relay_spend(asks->with.relay, ask->charge.account, units);
	ask->is_made = r == 0;
	return r < 0 ? r : 0;
}

/* Sends the next part. Returns 1: there is more, 0: it was the last one, or a negative errno: it wasn't
 * sent. */
static int send_part(struct ask *ask)
{
	uint8_t part[TOLD_PART];
	ssize_t size = evbuffer_copyout(ask->pieces, part, sizeof(part));
	bool last = ask->is_made && evbuffer_get_length(ask->pieces) <= sizeof(part);
	struct frame_told told = {
		.flags = TOLD_TEXT | (last ? 0 : TOLD_MORE),
		.count = (uint32_t)size,
		.at = part,
		.end = part + size,
		.domid = ask->asks->with.self->domid,
	};
	int r = size < 0 ? -ENOMEM : ask_send_told(ask, &told);

	relay_spend(ask->asks->with.relay, ask->charge.account, COST_CONTROL + COST_BYTES(TOLD_PART_SIZE));
	if (r < 0)
		return r;
	evbuffer_drain(ask->pieces, (size_t)size);
	return !last;
}

void ask_tell_status(struct ask *ask)
{
	int r = make_more(ask);

	if (r < 0) {
		ask_end_status(ask);
		ask_fail(ask, r);
		return;
	}
	r = 1;
	for (unsigned i = 0; i < PARTS_AT_ONCE && r > 0; i++) {
		if (!ask->is_made && evbuffer_get_length(ask->pieces) <= TOLD_PART)
			break; /* until more is made, in another turn */
		r = send_part(ask);
	}
	if (r == -ENOBUFS || r == -ENOMEM)
		timer_start(ask->asks->timer, GATHER_MS); /* it doesn't read, and is told later */
	else if (r <= 0)
		ask_free(ask);
	else
		task_due(&ask->task);
}

/* Returns how much of a text's memory is charged, in rooms. */
static uint32_t rooms_of(const struct ask *ask)
{
	return (ask->size + ROOM_AT_ONCE - 1) / ROOM_AT_ONCE;
}

void ask_drop_text(struct ask *ask)
{
	charge_release(&ask->charge, QUOTA_BYTES, rooms_of(ask) * ROOM_AT_ONCE);
	free(ask->text);
	ask->text = NULL;
}

int ask_keep_text(struct ask *ask, const struct frame_told *part)
{
	uint32_t rooms = rooms_of(ask);
	uint8_t *text = ask->text;
	int r;

	if (ask->size + part->count > rooms * ROOM_AT_ONCE) {
		r = charge_add(&ask->charge, QUOTA_BYTES, ROOM_AT_ONCE);
		if (r < 0)
			return r;
		text = realloc(ask->text, (size_t)(rooms + 1) * ROOM_AT_ONCE);
		if (!text)
			return -ENOMEM;
		ask->text = text;
	}
	if (part->count)
		memcpy(text + ask->size, part->at, part->count);
	ask->size += part->count;
	ask->count += part->count;
	return 0;
}
