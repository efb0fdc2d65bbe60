/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A link's hop goes on in other rings while it is used (doc/protocol.md, 5.9); or it has none for a while,
 * and keeps what it writes again when it has others. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cost.h"
#include "base/quota.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "wire/frame.h"

int hop_move(struct hop *hop, const struct hop_rings *rings)
{
	struct moving moving = {.out = MOVING_DUE, .in = true};
	int r = ring_reader_init(&moving.reader, &rings->in, false);

	if (r == 0)
		r = ring_writer_init(&moving.writer, &rings->out[OUTLET_MAIN], false);
	if (r < 0)
		return r;
	hop->moving = moving;
	hop_mark(hop, MARK_DIRTY);
	return 0;
}

static void look_whether_moved(struct hop *hop)
{
	if (!hop_is_moving(hop))
		hop->callbacks->moved(hop->owner);
}

/* --- out -------------------------------------------------------------------------------------- */

void hop_move_outlet(struct hop *hop, const struct ring_writer *out)
{
	outlet_move(&hop->out[OUTLET_MAIN], out);
	if (hop->keeps_copy && outlet_keep_copy(&hop->out[OUTLET_MAIN]) < 0)
		hop_fail(hop, -ENOMEM, "out of memory");
}

static void go_on_in_new_ring(struct hop *hop)
{
	hop->moving.out = MOVING_NOT;
	hop_move_outlet(hop, &hop->moving.writer);
}

/* Whether the other end has read all of the old ring. */
static bool is_read(struct hop *hop)
{
	return hop_has_room(hop, hop->out[OUTLET_MAIN].writer.ring.size);
}

bool hop_emit_move(struct hop *hop)
{
	static const struct frame_header header = {.type = FRAME_MOVE};

	if (hop->moving.out == MOVING_NOT)
		return true;
	if (hop->moving.out == MOVING_DUE) {
		if (!hop_has_room(hop, FRAME_HEADER_SIZE))
			return false;
		hop_spend(hop, COST_CONTROL);
		outlet_put_aside(&hop->out[OUTLET_MAIN], &header, "");
		hop->moving.out = MOVING_SAID;
	}
	if (!is_read(hop))
		return false;
	go_on_in_new_ring(hop);
	look_whether_moved(hop);
	return true;
}

void hop_look_at_move(struct hop *hop)
{
	if (hop_has_rings(hop) && hop->moving.out == MOVING_SAID)
		hop_emit_move(hop);
}

void hop_move_hastily(struct hop *hop)
{
	if (hop->moving.out == MOVING_SAID) {
		hop_publish(hop);
		go_on_in_new_ring(hop);
	}
}

/* Returns how many of `unread` bytes in the ring out are the session's: MOVE at their end isn't. */
static uint32_t unread_of_session(const struct hop *hop, uint32_t unread)
{
	if (hop->moving.out != MOVING_SAID)
		return unread;
	return unread > FRAME_HEADER_SIZE ? unread - FRAME_HEADER_SIZE : 0;
}

/* --- in --------------------------------------------------------------------------------------- */

int hop_take_move(struct hop *hop)
{
	int r = hop->moving.in ? 0 : hop->callbacks->move(hop->owner);

	if (r < 0 || !hop->moving.in)
		return r < 0 ? r : -EPROTO;
	/* The other end waits for this. */
	ring_reader_consume(&hop->in.reader, FRAME_HEADER_SIZE);
	if (ring_reader_release(&hop->in.reader))
		hop_notify(hop);
	hop->in.reader = hop->moving.reader;
	hop->in.unreleased = 0;
	hop->in.missing = 1;
	hop->in.has_asked = false;
	hop->in.has_moved = true;
	hop->moving.in = false;
	/* If ours was said, the other end has read it before it said its own, and may offer the next move
	 * behind that. */
	if (hop->moving.out == MOVING_SAID)
		hop_emit_move(hop);
	else
		look_whether_moved(hop);
	return 0;
}

/* --- what is written again in other rings ----------------------------------------------------- */

void hop_drop_replay(struct hop *hop)
{
	free(hop->replay.bytes);
	charge_end(&hop->replay.charge);
	hop->replay = (struct hop_replay){0};
}

int hop_keep_for_replay(struct hop *hop)
{
	struct hop_replay *before = &hop->replay, kept = {0};
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	struct iovec pieces[2];
	uint32_t seen = outlet->writer.tail, unread, first, left = before->size - before->written;

	ring_writer_unread(&outlet->writer);
	if (!hop_is_sound(hop)) /* then that was of nobody's making */
		outlet->writer.tail = seen;
	unread = unread_of_session(hop, outlet_unread(outlet, pieces));
	first = unread < pieces[0].iov_len ? unread : (uint32_t)pieces[0].iov_len;
	kept.size = unread + left;
	charge_end(&before->charge); /* or what is still to be sent again would be paid for twice */
	hop_spend(hop, COST_BYTES(kept.size));
	if (kept.size) {
		kept.bytes = malloc(kept.size);
		if (!kept.bytes) {
			hop_drop_replay(hop);
			return -ENOMEM;
		}
		/* It is no more than the ring that is given back now, so an account that is full doesn't lose
		 * its session. */
		charge_init(&kept.charge, hop->account);
		charge_exceed(&kept.charge, QUOTA_BYTES, kept.size);
		memcpy(kept.bytes, pieces[0].iov_base, first);
		memcpy(kept.bytes + first, pieces[1].iov_base, unread - first);
		if (left)
			memcpy(kept.bytes + unread, before->bytes + before->written, left);
	}
	hop_drop_replay(hop);
	*before = (struct hop_replay){.bytes = kept.bytes, .size = kept.size};
	charge_move(&before->charge, &kept.charge);
	return 0;
}

bool hop_emit_replay(struct hop *hop)
{
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	struct hop_replay *replay = &hop->replay;

	while (hop_is_catching_up(hop)) {
		const uint8_t *untrusted_frame = replay->bytes + replay->written;
		uint32_t left = replay->size - replay->written, size = FRAME_HEADER_SIZE;
		struct frame_header header;

		/* What no writer of ours has written is of the other end's making: in the old ring, or by a
		 * position that isn't between two frames. */
		if (left < size || frame_header_decode(untrusted_frame, &header) < 0 ||
		    (size = frame_size(header.length)) > left) {
			hop_fail(hop, -EPROTO, "what is to be sent again isn't a frame");
			return false;
		}
		if (size > outlet->writer.ring.size) {
			hop_fail(hop, -ENOLINK, "the new ring is too small for what is to be sent again");
			return false;
		}
		if (hop_emit_is_over(hop) || !hop_has_room(hop, size))
			return false;
		ring_writer_put(&outlet->writer, untrusted_frame, size);
		replay->written += size;
		hop_spend(hop, COST_FRAME + COST_BYTES(size));
		if (outlet_is_due(outlet))
			hop_publish(hop);
		if (replay->written == replay->size)
			hop_drop_replay(hop);
	}
	return true;
}
