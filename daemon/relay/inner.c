/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/inner.h"

#include <errno.h>

#include <event2/buffer.h>
#include <utlist.h>

#include "base/cost.h"
#include "daemon/relay/channel_internal.h"
#include "daemon/relay/hop_internal.h"

#define AT_ONCE 64u /* ends that turn out to have no frame */

bool inner_next_frame(struct hop *hop, struct channel_end **out, struct channel_frame *frame)
{
	struct channel_end *end;

	for (unsigned i = 0; i < AT_ONCE && (end = hop->urgent); i++) {
		relay_spend(hop->relay, end->channel->charge.account, COST_CONTROL);
		if (channel_next_control(end, frame)) {
			*out = end;
			return true;
		}
		DL_DELETE2(hop->urgent, end, urgent_prev, urgent_next);
		end->in_urgent = false;
		channel_check_ended(end);
	}
	return false;
}

void inner_wait_for_data(struct channel_end *end)
{
	if (!end->in_backlog)
		return;
	end->in_backlog = false;
	DL_DELETE2(*hop_backlog(end->hop, end), end, backlog_prev, backlog_next);
}

void inner_taken(struct channel_end *end, size_t length)
{
	relay_spend(end->hop->relay, end->channel->charge.account, COST_BYTES(length));
	inner_taken_over(end, length);
}

void inner_taken_over(struct channel_end *end, size_t length)
{
	relay_spend(end->hop->relay, end->channel->charge.account, COST_FRAME);
	end->sent += length;
	channel_taken(end, end->sent);
	inner_wait_for_data(end);
	if (channel_has_backlog(end))
		channel_mark_backlog(end); /* behind the others: it may have more for ever */
	else
		channel_backlog_gone(end);
}

void inner_fin(struct channel_end *end)
{
	if (end->in == IN_OPEN)
		channel_fin(end, end->received);
}

void inner_reset(struct channel_end *end, int error)
{
	const struct frame_reset reset = {
		.error = (uint32_t)error, .consumed = end->consumed, .unsure = end->consumed};

	if (end->hop && end->in != IN_RESET)
		channel_reset(end, &reset);
}

void inner_has(struct channel_end *end)
{
	if (end->out == OUT_NEW)
		channel_move(end, OPEN_SENT);
}

int inner_open(struct hop *hop, enum channel_kind kind, const struct frame_identity *identity,
	       struct channel **channel)
{
	uint32_t number;
	int r = channel_table_number(&hop->channels, &number);

	if (r == 0)
		r = channel_new(hop, number, kind, identity, channel);
	return r;
}
