/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A link's hop goes on in other rings while it is used: doc/protocol.md, 5.9. */

#include <errno.h>

#include "base/cost.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"
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

uint32_t hop_unread_of_session(const struct hop *hop, uint32_t unread)
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
