/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a link's hop keeps of its session while it has no rings, and writes again when it has others. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cost.h"
#include "base/quota.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"

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
	unread = hop_unread_of_session(hop, outlet_unread(outlet, pieces));
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
