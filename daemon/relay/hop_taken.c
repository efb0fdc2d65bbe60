/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the program behind a hop has taken out of its own rings, which it tells by its consumer index alone.
 * It counts once everything has been read that the program had sent before that: a RESET among it says that
 * what was released behind it wasn't taken.
 */

#include "base/cost.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"

void hop_taken_mark(struct hop *hop)
{
	hop_mark_input(hop, &hop->taken.mark);
	hop->taken.pending = true;
}

void hop_taken_note(struct hop *hop)
{
	if (hop->taken.pending || !(hop->traits->release_means_taken || hop_is_finishing(hop)))
		return;
	for (unsigned i = 0; hop->traits->release_means_taken && i < hop->traits->outlets; i++) {
		int r = outlet_see_taken(&hop->out[i]);

		if (r < 0)
			hop_outlet_failed(hop, r);
	}
	hop_taken_mark(hop);
}

bool hop_has_taken(struct hop *hop)
{
	if (!hop->traits->release_means_taken || hop->taken.pending)
		return false;
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		if (ledger_front(&hop->out[i].ledger) && outlet_has_taken(&hop->out[i]) != 0)
			return true;
	return false;
}

/* Counts what was taken out of one ring. False: there is more, but this piece is over. */
static bool count_taken(struct hop *hop, struct outlet *outlet, const struct hop_piece *piece)
{
	bool was_full = ledger_is_full(&outlet->ledger);
	struct handed *handed;

	while ((handed = ledger_front(&outlet->ledger))) {
		int32_t past = (int32_t)(outlet->taken_upto - handed->position);
		uint32_t taken =
			past > 0 && (uint32_t)past < handed->length ? (uint32_t)past : handed->length;

		if (past <= 0)
			break;
		if (hop_piece_is_over(piece))
			return false;
		hop->taken.poll_ms = HOP_POLL_FIRST_MS;
		relay_spend(hop->relay, handed->end ? handed->end->channel->charge.account : hop->account,
			    COST_TAKEN);
		/* After a RESET its `consumed` counts, and not what was released behind it. */
		if (handed->end && handed->end->in != IN_RESET)
			channel_taken(handed->end, handed->offset + taken);
		if (taken < handed->length)
			break;
		ledger_pop(&outlet->ledger);
	}
	if (was_full && !ledger_is_full(&outlet->ledger))
		hop_mark(hop, MARK_DIRTY);
	return true;
}

bool hop_taken_apply(struct hop *hop, const struct hop_piece *piece)
{
	for (unsigned i = 0; hop->traits->release_means_taken && i < hop->traits->outlets; i++)
		if (!count_taken(hop, &hop->out[i], piece))
			return false;
	hop->taken.pending = false;
	return true;
}

void hop_taken_release(struct hop *hop, struct channel_end *end)
{
	uint64_t offset;
	int r = outlet_find_released(hop_outlet(hop, end), end, &offset);

	if (r < 0)
		hop_outlet_failed(hop, r);
	else
		channel_taken(end, offset);
	channel_check_ended(end);
}

bool hop_taken_settle(struct hop *hop, const struct hop_piece *piece)
{
	while (hop->unsettled && hop_has_read(hop, hop->unsettled->settled_at)) {
		if (hop_piece_is_over(piece))
			return false;
		hop_spend(hop, COST_CHANNEL_END);
		channel_settle(hop->unsettled);
	}
	return true;
}
