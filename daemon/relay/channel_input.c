/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The frames about a channel that come in, and what its ends have taken. */

#include <errno.h>

#include "base/quota.h"
#include "daemon/relay/cancel.h"
#include "daemon/relay/channel_internal.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/relay/latency.h"
#include "daemon/relay/steps.h"
#include "wire/probes.h"

/* Returns how large the window may become. What comes over a link doesn't wait in its ring, so what is beyond
 * the next ring is copied twice more, into private memory and out of it, unless that ring is a program's own,
 * which is as large as a link's. Measured: with windows of 1 MiB a relayed stream of large messages went at
 * half the speed through rings of 64 KiB, and a byte stream over a link of 1 MiB at three quarters of its
 * speed over one of 64 KiB, since the ring to its program's socket has 128 KiB. */
static uint32_t window_max(const struct channel_end *end)
{
	const struct hop *from = channel_other((struct channel_end *)end)->hop;
	uint32_t most = end->channel->kind == CHANNEL_STREAM ? STREAM_WINDOW_MAX : CHANNEL_WINDOW_MAX, ring;

	if (!from || !from->traits->is_daemon || !end->hop || end->hop->traits->release_means_taken ||
	    !hop_has_rings(end->hop))
		return most;
	ring = hop_outlet(end->hop, end)->writer.ring.size;
	return ring >= CHANNEL_WINDOW_MAX / 2 ? most
	       : ring > CHANNEL_INITIAL_LIMIT ? 2 * ring
					      : 2 * CHANNEL_INITIAL_LIMIT;
}

void channel_taken(struct channel_end *end, uint64_t offset)
{
	struct channel_end *source = channel_other(end);
	uint64_t before = end->consumed;

	if (offset <= before)
		return;
	if (end->channel->cancels && !end->is_opener)
		cancels_taken(end->channel, offset);
	/* The sender had filled half of its window before the first byte was taken: a larger window keeps it
	 * going. */
	if (source->hop && end->window < window_max(end) &&
	    source->received - end->consumed >= end->window / 2 &&
	    charge_fits(&end->channel->charge, QUOTA_BYTES, end->window)) {
		charge_add(&end->channel->charge, QUOTA_BYTES, end->window);
		end->window *= 2;
	}
	end->consumed = offset;
	if (end->channel->sharing && !end->is_opener)
		sharing_taken(end->channel, offset);
	if (!end->is_opener)
		latency_taken(end->channel, offset);
	if (!end->is_opener)
		PROBE(5, xenmsgd, deliver, end->channel->endpoint, end->channel->identity.domid, offset,
		      end->channel->identity.pid, end->channel->serial);
	steps_note_taken(end, before);
	channel_owe(source, OWED_CREDIT);
	if ((end->owed & OWED_RESET) || (end->in == IN_FIN && end->out == OUT_FIN))
		channel_mark_urgent(end);
}

int channel_credit(struct channel_end *end, const struct frame_credit *credit)
{
	if (channel_is_reset(end) || end->hop->traits->release_means_taken)
		return 0;
	if (credit->consumed > end->sent - channel_base_to(end))
		return -EPROTO;
	if (end->hop->traits->is_daemon && credit->limit > end->limit) {
		end->limit = credit->limit;
		channel_owe(channel_other(end), OWED_CREDIT);
	}
	if ((credit->flags & CREDIT_STOP) && end->channel->kind == CHANNEL_STREAM && !end->is_stopped) {
		end->is_stopped = true;
		channel_owe(channel_other(end), OWED_CREDIT);
	}
	channel_taken(end, channel_base_to(end) + credit->consumed);
	channel_check_ended(end);
	return 0;
}

int channel_fin(struct channel_end *end, uint64_t total)
{
	struct channel_end *out = channel_other(end);

	if (channel_is_reset(end))
		return 0;
	if (total != end->received - channel_base_from(end) || !channel_move(end, FIN_CAME))
		return -EPROTO;
	steps_note(end, STEP_FINISHED, 0);
	channel_owe(out, OWED_FIN);
	channel_check_ended(end);
	return 0;
}

int channel_reset(struct channel_end *end, const struct frame_reset *reset)
{
	struct channel_end *out = channel_other(end);
	int error = reset->error > 0 && reset->error < 4096 ? (int)reset->error : EPROTO;
	uint64_t unsure;

	if (!channel_move(end, RESET_CAME))
		return -EPROTO;
	if (channel_is_reset(end) && !end->is_unsettled) {
		/* It answers our RESET, or ours, still to be sent, answers it. */
		channel_check_ended(end);
		return 0;
	}
	if (end->is_unsettled && hop_has_read(end->hop, end->settled_at))
		channel_taken(end, end->released);
	if (reset->consumed <= end->sent - channel_base_to(end))
		channel_taken(end, channel_base_to(end) + reset->consumed);
	unsure = reset->unsure < end->sent - channel_base_to(end) ? channel_base_to(end) + reset->unsure
								  : end->sent;
	if (unsure < end->consumed)
		unsure = end->consumed;
	if (end->is_unsettled) {
		channel_tell_opener(end, (int)end->reset_error, unsure);
		channel_check_ended(end);
		return 0;
	}
	if (!channel_is_reset(out))
		out->reset_by = end->hop->traits->is_daemon ? reset->flags & RESET_BY : RESET_BY_PROGRAM;
	/* What the opener sent goes on to the acceptor before the RESET does, unless these are calls; so does
	 * what comes back. */
	channel_reset_now(end, error, out->consumed, end->is_opener ? end->received : out->sent);
	if (out->is_opener) {
		if (!channel_is_reset(out))
			out->is_refused =
				(reset->flags & RESET_REFUSED) && out->channel->kind == CHANNEL_MESSAGE;
		channel_reset_opener(out, error, end->consumed, unsure);
	} else {
		channel_reset_acceptor(out, error);
	}
	return 0;
}
