/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Channels in the image that a daemon hands over (hop_image.h). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "daemon/switch/cancel.h"
#include "daemon/switch/channel_internal.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/orphans.h"
#include "daemon/switch/sharing.h"
#include "daemon/switch/reassign.h"
#include "wire/ut.h"

void channel_tally_image(struct image *image, struct channel_tally *tally)
{
	image_u64(image, &tally->opened);
	image_u64(image, &tally->refused);
	image_u64(image, &tally->bytes_to);
	image_u64(image, &tally->bytes_from);
	image_u64(image, &tally->messages);
	image_raw(image, &tally->taken, sizeof(tally->taken));
	image_raw(image, &tally->answered, sizeof(tally->answered));
	image_raw(image, &tally->topics, sizeof(tally->topics));
}

#define NOBODY UINT32_MAX
/* Bytes that a channel pays for: its windows and its cancels, each of which is bounded where it grows. */
#define CHARGED_MAX (2 * STREAM_WINDOW_MAX + CANCELS_MAX * CANCEL_COST)

/* Which frames are owed and which way the states go are bytes of enums. */
static void states_image(struct image *image, struct channel_end *end)
{
	uint8_t in = (uint8_t)end->in, out = (uint8_t)end->out;

	image_u8_upto(image, &in, IN_RESET);
	image_u8_upto(image, &out, OUT_RESET);
	image_u8_upto(image, &end->owed, 2 * OWED_RESET - 1);
	if (image->error)
		return;
	end->in = in;
	end->out = out;
}

static void channel_stream_image(struct image *image, struct channel_end *end)
{
	image_u64(image, &end->received);
	image_u64(image, &end->granted);
	image_u64(image, &end->told_consumed);
	image_u64(image, &end->sent);
	image_u64(image, &end->limit);
	image_u64(image, &end->consumed);
	image_u64(image, &end->begun);
	image_upto(image, &end->window, STREAM_WINDOW_MAX);
	image_expect(image, end->consumed <= end->sent && end->received <= INT64_MAX &&
				    end->told_consumed <= end->received && end->window > 0);
}

/* What waits at an end that has a hop. */
static void queue_image(struct image *image, struct channel_end *end)
{
	hop_buffer_image(image, &end->queue, IMAGE_QUEUE_MAX);
	image_u32(image, &end->queued_messages);
	if (!image->is_read)
		return;
	image_expect(image, end->hop || !channel_has_backlog(end));
	if (!image->error && channel_has_backlog(end))
		channel_mark_backlog(end);
}

static void reset_image(struct image *image, struct channel_end *end)
{
	image_u32(image, &end->reset_error);
	image_bool(image, &end->is_stopped);
	image_bool(image, &end->is_refused);
	image_u64(image, &end->reset_consumed);
	image_u64(image, &end->reset_unsure);
	image_bool(image, &end->is_unsettled);
	image_bool(image, &end->leaves_rest);
	image_u32(image, &end->settled_at);
	image_u64(image, &end->released);
}

/* Enters an end that was read into its hop, whose passes look at it. */
static void channel_image_enter(struct image *image, struct channel_end *end, struct hop *hop)
{
	int r = channel_table_put(&hop->channels, end->number, end);
	struct channel_end *later;

	if (r < 0) {
		image_fail(image, r == -ENOMEM ? r : -EINVAL);
		return;
	}
	end->hop = hop;
	channel_mark_urgent(end);
	if (!end->is_unsettled)
		return;
	DL_FOREACH2(hop->unsettled, later, unsettled_next)
		if ((int32_t)(later->settled_at - end->settled_at) > 0)
			break;
	if (later)
		DL_PREPEND_ELEM2(hop->unsettled, later, end, unsettled_prev, unsettled_next);
	else
		DL_APPEND2(hop->unsettled, end, unsettled_prev, unsettled_next);
}

/* Which end it is, and where it stands: with that it can be reset, whatever else there is. */
static void channel_end_image(struct image *image, const struct image_hops *hops, struct channel_end *end,
			      uint32_t hop)
{
	bool is_unsettled;

	image_upto(image, &end->number, CHANNEL_NUMBERS - 1);
	states_image(image, end);
	channel_stream_image(image, end);
	reset_image(image, end);
	if (!image->is_read)
		return;
	image_expect(image, hop != NOBODY || !end->is_unsettled);
	if (image->error || hop == NOBODY)
		return;
	/* The program gives out the numbers of the channels that it opens, this daemon those of the
	 * others. */
	if (image_hops_has(hops, hop))
		image_expect(image, ((end->number & 1) == hops->hops[hop]->channels.parity) ==
					    (!end->is_opener || hop_is_inner(hops->hops[hop])));
	is_unsettled = end->is_unsettled;
	image_expect(image, !is_unsettled || (!end->is_opener && channel_is_reset(end) &&
					      end->in != IN_RESET && !hop_is_inner(hops->hops[hop])));
	if (!image->error)
		channel_image_enter(image, end, hops->hops[hop]);
}

static void sharing_image(struct image *image, struct channel *channel)
{
	bool is_shared = channel->sharing != NULL;
	struct sharing *sharing;
	bool drains;

	image_bool(image, &is_shared);
	if (!is_shared)
		return;
	if (image->is_read && sharing_begin(channel) < 0) {
		image_fail(image, -ENOMEM);
		return;
	}
	sharing = channel->sharing;
	image_u64(image, &sharing->from);
	image_u64(image, &sharing->torn);
	image_u64(image, &sharing->base_to);
	image_u64(image, &sharing->base_from);
	image_u32(image, &sharing->moves);
	image_bool(image, &sharing->broken);
	drains = sharing->worker && sharing->worker->drains;
	image_bool(image, &drains);
	if (image->is_read && drains && sharing_drains(channel) < 0) {
		image_fail(image, -ENOMEM);
		return;
	}
	hop_buffer_image(image, &sharing->copy, IMAGE_QUEUE_MAX);
	image_expect(image, sharing->base_to <= channel->acceptor.sent &&
				    sharing->base_from <= channel->acceptor.received &&
				    sharing->from <= channel->acceptor.sent);
}

static void reassigned_image(struct image *image, struct channel *channel)
{
	const struct channel_end *opener = &channel->opener;
	struct channel_reassigned *reassigned, read = {.at = opener->sent};
	uint32_t count = 0;

	LL_COUNT(channel->reassigned, reassigned, count);
	image_upto(image, &count, REASSIGNED_MAX);
	reassigned = channel->reassigned;
	for (uint32_t i = 0; i < count && !image->error; i++) {
		uint64_t before = read.at;

		if (!image->is_read) {
			read = *reassigned;
			reassigned = reassigned->next;
		}
		image_u64(image, &read.frame.consumed);
		image_u64(image, &read.frame.unsure);
		image_u64(image, &read.at);
		image_expect(image, read.at >= before && read.at <= channel->acceptor.received);
		if (image->is_read && !image->error && reassign_wait(channel, &read.frame, read.at) < 0)
			image_fail(image, -ENOMEM);
	}
	image_expect(image, ((opener->owed & OWED_REASSIGNED) != 0) ==
				    (channel->reassigned && channel->reassigned->at == opener->sent));
}

/* The payer, and how much. It is held already, so it isn't refused by limits that are lower now. */
static void charge_image(struct image *image, struct channel *channel)
{
	struct account *account = channel->charge.account;
	uint64_t channels = channel->charge.held[QUOTA_CHANNELS], bytes = channel->charge.held[QUOTA_BYTES];
	bool is_extra = channel->charge.is_extra;

	switch_account_image(image, channel->board, &account);
	image_u64(image, &channels);
	image_u64(image, &bytes);
	image_bool(image, &is_extra);
	image_expect(image, channels <= 1 && bytes <= CHARGED_MAX);
	if (!image->is_read)
		return;
	if (!image->error)
		charge_init(&channel->charge, account);
	account_unref(account);
	if (image->error)
		return;
	if (is_extra)
		charge_take_extra(&channel->charge);
	charge_exceed(&channel->charge, QUOTA_CHANNELS, channels);
	charge_exceed(&channel->charge, QUOTA_BYTES, bytes);
}

/* Returns the channel's, or, of one that has none, an empty one in `none`. NULL: it can't be read. */
static struct channel_origin *origin_in_image(struct image *image, struct channel *channel,
					      struct channel_origin *none)
{
	*none = (struct channel_origin){0};
	if (image->is_read && !channel->origin && !(channel->origin = calloc(1, sizeof(*channel->origin))))
		image_fail(image, -ENOMEM);
	return channel->origin ? channel->origin : none;
}

static void origin_names_image(struct image *image, struct channel *channel)
{
	struct channel_origin none, *origin = origin_in_image(image, channel, &none);

	image_string(image, &origin->domain, DOMAIN_NAME_MAX);
	image_string(image, &origin->host, HOST_NAME_SIZE - 1);
}

static void origin_hosts_image(struct image *image, struct channel *channel)
{
	struct channel_origin none, *origin = origin_in_image(image, channel, &none);

	image_bool(image, &origin->is_remote);
	image_u32(image, &origin->from);
	image_u32(image, &origin->to);
	if (image->is_read && !origin->domain && !origin->is_remote)
		channel_origin_free(channel);
}

static void channel_head_image(struct image *image, struct channel *channel)
{
	hop_identity_image(image, &channel->identity);
	image_string(image, &channel->endpoint, ADDRESS_MAX);
	image_string(image, &channel->address, ADDRESS_MAX);
	origin_names_image(image, channel);
	image_u64(image, &channel->stream);
	origin_hosts_image(image, channel);
	image_u64(image, &channel->max_message);
	image_bool(image, &channel->opened);
	image_bool(image, &channel->administers);
	image_bool(image, &channel->knows_acceptor);
	hop_identity_image(image, &channel->acceptor_identity);
	image_bool(image, &channel->accepted_by_topic);
	image_u8_upto(image, &channel->verdict, CHANNEL_AWAITS_NUMBER);
}

/* What traces call it. A channel that a program opens here has its number at the program in it. */
static void serial_image(struct image *image, struct channel *channel)
{
	uint32_t serial = channel->serial;

	image_upto(image, &serial, UINT16_MAX);
	channel->serial = (uint16_t)serial;
}

/* The number of the end's hop, to whose owner the section belongs. */
static uint32_t owner_image(struct image *image, const struct image_hops *hops, const struct channel_end *end)
{
	uint32_t hop = end->hop ? end->hop->image_number : NOBODY;

	image_u32(image, &hop);
	if (!image->is_read)
		return hop;
	image_expect(image, hop == NOBODY || hop < hops->count);
	if (!image->error)
		image_owner(image, end->is_opener, hop);
	return hop;
}

static void kind_image(struct image *image, struct channel *channel)
{
	uint32_t kind = channel->kind;

	image_upto(image, &kind, CHANNEL_STREAM);
	image_expect(image, kind >= CHANNEL_MESSAGE);
	channel->kind = (enum channel_kind)kind;
}

static struct channel *new_channel(struct image *image, const struct image_hops *hops)
{
	struct channel *channel = hops->count ? calloc(1, sizeof(*channel)) : NULL;

	if (!channel) {
		image_fail(image, hops->count ? -ENOMEM : -EINVAL);
		return NULL;
	}
	channel->board = hops->hops[0]->board;
	channel->opener.channel = channel->acceptor.channel = channel;
	channel->opener.is_opener = true;
	return channel;
}

/* What waits at ends that have a hop is dropped with these. */
static void drop_rest(struct channel *channel)
{
	struct channel_end *ends[] = {&channel->opener, &channel->acceptor};

	for (unsigned i = 0; i < 2; i++) {
		ends[i]->owed &= (uint8_t)~OWED_REASSIGNED;
		if (!ends[i]->hop && ends[i]->queue) {
			evbuffer_free(ends[i]->queue);
			ends[i]->queue = NULL;
		}
	}
}

/* Notes a channel that can't be taken. -ENOMEM. */
static int note_spoilt(struct image_hops *hops, struct channel *channel)
{
	struct channel **grown = realloc(hops->spoilt, (hops->spoilt_count + 1) * sizeof(struct channel *));

	if (!channel->endpoint)
		channel->endpoint = strdup("");
	if (grown)
		hops->spoilt = grown;
	if (!grown || !channel->endpoint)
		return -ENOMEM;
	grown[hops->spoilt_count++] = channel;
	return 0;
}

/* Gives up a channel that can't be taken. `are_known`: so its ends are reset, and nobody else ends. Else it
 * ends with the hop in which it has an end already. */
static void channel_give_up(struct image *image, struct image_hops *hops, struct channel *channel,
			    bool are_known)
{
	drop_rest(channel);
	if (!channel->opener.hop && !channel->acceptor.hop)
		channel_free(channel);
	else if (are_known && note_spoilt(hops, channel) < 0)
		image_fail(image, -ENOMEM);
}

/* Returns whether the channel's ends are known, so that it can be reset, if it can't be taken. */
static bool channel_fields_image(struct image *image, const struct image_hops *hops, struct channel *channel)
{
	uint32_t opener, acceptor;
	bool are_known;

	kind_image(image, channel);
	opener = owner_image(image, hops, &channel->opener);
	acceptor = owner_image(image, hops, &channel->acceptor);
	channel_end_image(image, hops, &channel->opener, opener);
	channel_end_image(image, hops, &channel->acceptor, acceptor);
	are_known = !image->error && (channel->opener.hop || channel->acceptor.hop);
	channel_head_image(image, channel);
	serial_image(image, channel);
	queue_image(image, &channel->opener);
	queue_image(image, &channel->acceptor);
	sharing_image(image, channel);
	reassigned_image(image, channel);
	charge_image(image, channel);
	cancels_image(image, channel);
	return are_known;
}

void channel_read_image(struct image *image, struct image_hops *hops)
{
	struct channel *channel = new_channel(image, hops);
	bool are_known;

	if (!channel)
		return;
	are_known = channel_fields_image(image, hops, channel);
	image_expect(image, (channel->opener.hop || channel->acceptor.hop) &&
				    (channel->endpoint || !channel->acceptor.hop));
	image_expect(image, channel_adds_up(&channel->opener) && channel_adds_up(&channel->acceptor));
	image_expect(image, !(channel->acceptor.owed & OWED_REASSIGNED));
	if (image->error) {
		channel_give_up(image, hops, channel, are_known);
		return;
	}
	if (!channel->opener.hop)
		orphans_add(channel);
	channel_enlist(channel);
}

void hop_write_channels(struct image *image, const struct hop *hop)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = channel_table_next(&hop->channels, &number))) {
		if (!end->is_opener && end->channel->opener.hop)
			continue;
		image_section(image, IMAGE_CHANNEL);
		channel_fields_image(image, NULL, end->channel);
	}
}
