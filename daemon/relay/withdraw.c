/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/withdraw.h"

#include <errno.h>
#include <stdlib.h>

#include "base/quota.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/relay/latency.h"

struct channel_withdrawals {
	uint32_t first, count;
	uint32_t numbers[WITHDRAWALS_MAX]; /* a circular buffer */
};

/* Returns the channel's, made at first use. NULL: the opener's account has no room, or there is no memory. */
static struct channel_withdrawals *withdrawals_of(struct channel *channel)
{
	if (channel->withdrawals ||
	    charge_add(&channel->charge, QUOTA_BYTES, sizeof(struct channel_withdrawals)) < 0)
		return channel->withdrawals;
	channel->withdrawals = calloc(1, sizeof(struct channel_withdrawals));
	if (!channel->withdrawals)
		charge_release(&channel->charge, QUOTA_BYTES, sizeof(struct channel_withdrawals));
	return channel->withdrawals;
}

int channel_withdraw(struct channel_end *end, uint32_t number)
{
	struct channel *channel = end->channel;
	struct channel_end *out = channel_other(end);
	struct channel_withdrawals *withdrawals;

	if (channel_is_reset(end))
		return 0;
	if (!end->is_opener || channel->kind != CHANNEL_CALL)
		return -EPROTO;
	if (!out->hop || hop_is_retired(out->hop) || channel_is_reset(out)) /* a RESET tells */
		return 0;
	latency_withdrawn(channel, number);
	withdrawals = withdrawals_of(channel);
	if (!withdrawals || withdrawals->count == WITHDRAWALS_MAX)
		return 0;
	withdrawals->numbers[(withdrawals->first + withdrawals->count++) % WITHDRAWALS_MAX] = number;
	channel_mark_urgent(out);
	return 0;
}

bool withdrawals_next_frame(struct channel_end *end, struct channel_frame *frame)
{
	struct channel_withdrawals *withdrawals = end->is_opener ? NULL : end->channel->withdrawals;

	if (!withdrawals)
		return false;
	frame->header.type = FRAME_WITHDRAW;
	frame->header.length = frame_u32_encode(withdrawals->numbers[withdrawals->first++ % WITHDRAWALS_MAX],
						frame->payload);
	if (--withdrawals->count == 0)
		withdrawals_free(end->channel);
	return true;
}

void withdrawals_free(struct channel *channel)
{
	if (!channel->withdrawals)
		return;
	charge_release(&channel->charge, QUOTA_BYTES, sizeof(struct channel_withdrawals));
	free(channel->withdrawals);
	channel->withdrawals = NULL;
}
