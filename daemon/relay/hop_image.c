/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/hop_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <utlist.h>

#include "daemon/relay/cancel.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/relay/orphans.h"
#include "daemon/relay/sharing.h"
#include "daemon/relay/withdraw.h"
#include "wire/ring.h"

#define NOBODY	    UINT32_MAX
#define LEDGER_MAX  (1u << 22)
#define QUEUE_MAX   (2 * STREAM_WINDOW_MAX + FRAME_PAYLOAD_MAX)
#define WAITING_MAX (8u << 20) /* bytes of frames: more than may wait (control.c) */
#define KEPT_MAX    (1u << 28) /* bytes: more than a ring has */

/* --- helpers ---------------------------------------------------------------------------------- */

static void u8_upto(struct image *image, uint8_t *value, uint8_t most)
{
	image_u8(image, value);
	image_expect(image, *value <= most);
}

/* What waits in a buffer; NULL: nothing. */
static void buffer_image(struct image *image, struct evbuffer **buffer, uint32_t most)
{
	struct image_bytes bytes = {0};

	if (!image->is_read && *buffer) {
		bytes.size = (uint32_t)evbuffer_get_length(*buffer);
		bytes.data = bytes.size ? evbuffer_pullup(*buffer, -1) : NULL;
		if (bytes.size && !bytes.data)
			image_fail(image, -ENOMEM);
	}
	image_bytes(image, &bytes, most);
	if (!image->is_read || !bytes.size)
		return;
	if (!*buffer)
		*buffer = evbuffer_new();
	if (!*buffer || evbuffer_add(*buffer, bytes.data, bytes.size))
		image_fail(image, -ENOMEM);
}

static void identity_image(struct image *image, struct frame_identity *identity)
{
	image_u32(image, &identity->domid);
	image_u32(image, &identity->uid);
	image_u32(image, &identity->gid);
	image_u32(image, &identity->pid);
}

static void stats_image(struct image *image, struct hop_stats *stats)
{
	image_u64(image, &stats->frames);
	image_u64(image, &stats->bytes);
	image_u64(image, &stats->messages);
	image_u64(image, &stats->notifications);
}

/* --- before it is made ------------------------------------------------------------------------ */

void relay_settle_for_image(struct relay *relay)
{
	hop_free_retired(relay);
}

/* Whether the channel leads to or from another host: those are numbered by this daemon. */
static bool is_of_other_host(const struct channel *channel)
{
	return channel->host || channel->to_host;
}

void hop_settle_for_image(struct hop *hop)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = channel_table_next(&hop->channels, &number))) {
		const struct hop *other = channel_other(end)->hop;

		withdrawals_free(end->channel); /* nothing depends on their arrival */
		if (hop->traits->is_daemon &&
		    (is_of_other_host(end->channel) || (other && other->image_number == HOP_NOT_IN_IMAGE)))
			channel_forbid(end->channel, ECONNRESET);
	}
}

/* Whether what the channel has at this end can be written. */
static bool end_fits(const struct channel_end *end)
{
	const struct channel_end *other = channel_other((struct channel_end *)end);

	return channel_queued(end) <= QUEUE_MAX &&
	       (!other->hop || other->hop->image_number != HOP_NOT_IN_IMAGE);
}

bool hop_fits_image(const struct hop *hop)
{
	const struct channel_end *end;
	uint32_t number = 0;

	if (hop->life != HOP_DETACHED && hop->life != (hop->traits->is_daemon ? HOP_PAUSED : HOP_UP))
		return false;
	if (hop_is_marked(hop, MARK_FAILED) || (hop->holds_input && !hop->traits->is_daemon))
		return false;
	while ((end = channel_table_next(&hop->channels, &number)))
		if (!end_fits(end))
			return false;
	return true;
}

/* --- hops ------------------------------------------------------------------------------------- */

static void inlet_image(struct image *image, struct inlet *in)
{
	image_u32(image, &in->reader.tail);
	image_upto(image, &in->progress, FRAME_PAYLOAD_MAX);
	image_u32(image, &in->sequence);
	image_u64(image, &in->position);
	in->missing = 1;
}

static void outlet_image(struct image *image, struct outlet *outlet)
{
	image_u32(image, &outlet->writer.head);
	image_u32(image, &outlet->writer.tail);
	image_u32(image, &outlet->begin);
	image_u32(image, &outlet->taken_upto);
	image_u32(image, &outlet->sequence);
	image_u64(image, &outlet->position);
	outlet->writer.published = outlet->writer.head;
	/* What was counted as taken lies before what was released, and that before what was written. */
	image_expect(image, outlet->writer.head - outlet->writer.tail <= 1u << 30 &&
				    outlet->writer.tail - outlet->taken_upto <= 1u << 30);
}

/* The numbers of refused channels, whose openers haven't answered. */
static void refused_image(struct image *image, struct refused *refused)
{
	uint32_t count = 0, number = 0;

	for (uint32_t i = 0; !image->is_read && i < CHANNEL_NUMBERS; i++)
		count += refused_has(refused, i);
	image_upto(image, &count, CHANNEL_NUMBERS);
	for (uint32_t i = 0; i < count && !image->error; i++, number++) {
		while (!image->is_read && !refused_has(refused, number))
			number++;
		image_upto(image, &number, CHANNEL_NUMBERS - 1);
		if (image->is_read && !image->error && refused_add(refused, number) < 0)
			image_fail(image, -ENOMEM);
	}
}

/* Whole frames that wait for room, as hop_emit_control() takes them. */
static void check_control(struct image *image, struct evbuffer *control)
{
	size_t size = evbuffer_get_length(control), at = 0;
	const uint8_t *bytes = size ? evbuffer_pullup(control, -1) : NULL;
	struct frame_header header = {0};

	while (at < size && !image->error) {
		if (size - at < FRAME_HEADER_SIZE || frame_header_decode(bytes + at, &header) < 0 ||
		    frame_size(header.length) > size - at)
			image_fail(image, -EINVAL);
		at += frame_size(header.length);
	}
}

/* Charges for the frames that wait, beyond what everybody may let wait; they are there, so they can't be refused. */
static void charge_control(struct hop *hop)
{
	size_t size = evbuffer_get_length(hop->control);

	if (size <= HOP_CONTROL_FREE)
		return;
	charge_init(&hop->queued, hop->account);
	charge_exceed(&hop->queued, QUOTA_BYTES, size - HOP_CONTROL_FREE);
}

void hop_image(struct image *image, struct hop *hop)
{
	u8_upto(image, &hop->minor, PROTOCOL_MINOR);
	image_bool(image, &hop->knows_identity);
	identity_image(image, &hop->identity);
	image_bool(image, &hop->takes_takeovers);
	inlet_image(image, &hop->in);
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		outlet_image(image, &hop->out[i]);
	image_bool(image, &hop->taken.pending);
	image_u32(image, &hop->taken.mark);
	image_upto(image, &hop->channels.next, CHANNEL_NUMBERS - 1);
	image_expect(image, (hop->channels.next & 1) == hop->channels.parity);
	refused_image(image, &hop->refused);
	buffer_image(image, &hop->control, WAITING_MAX);
	stats_image(image, &hop->tx);
	stats_image(image, &hop->rx);
	if (!image->is_read || image->error)
		return;
	check_control(image, hop->control);
	charge_control(hop);
}

/* What was written and the other end may not have processed. It is sent again only as whole frames (kept.c). */
static void kept_image(struct image *image, struct hop *hop)
{
	struct kept_output *kept = &hop->kept;
	struct image_bytes bytes = {0};

	if (!image->is_read && kept->bytes)
		bytes = (struct image_bytes){kept->bytes + kept->written, kept->size - kept->written};
	image_bytes(image, &bytes, KEPT_MAX);
	image_expect(image, bytes.size <= hop_sent(hop));
	if (!image->is_read || image->error || !bytes.size)
		return;
	kept->bytes = malloc(bytes.size);
	if (!kept->bytes) {
		image_fail(image, -ENOMEM);
		return;
	}
	memcpy(kept->bytes, bytes.data, bytes.size);
	kept->size = bytes.size;
	charge_init(&kept->charge, hop->account);
	charge_exceed(&kept->charge, QUOTA_BYTES, kept->size);
}

/* The positions of a session (doc/protocol.md, 5.4). */
static void positions_image(struct image *image, struct hop *hop)
{
	struct outlet *outlet = &hop->out[OUTLET_MAIN];

	image_upto(image, &hop->in.progress, FRAME_PAYLOAD_MAX);
	image_u32(image, &hop->in.sequence);
	image_u64(image, &hop->in.position);
	image_u32(image, &outlet->sequence);
	image_u64(image, &outlet->position);
	image_u64(image, &hop->sure);
	image_expect(image, hop->sure <= outlet->position);
	hop->in.missing = 1;
	outlet->traits = hop->traits;
	outlet->tx = &hop->tx;
}

void hop_link_image(struct image *image, struct hop *hop)
{
	bool is_away = hop->life == HOP_PAUSED;

	image_bool(image, &is_away);
	image_bool(image, &hop->takes_takeovers);
	positions_image(image, hop);
	kept_image(image, hop);
	image_upto(image, &hop->channels.parity, 1);
	image_upto(image, &hop->channels.next, CHANNEL_NUMBERS - 1);
	image_expect(image, (hop->channels.next & 1) == hop->channels.parity);
	refused_image(image, &hop->refused);
	buffer_image(image, &hop->control, WAITING_MAX);
	stats_image(image, &hop->tx);
	stats_image(image, &hop->rx);
	image_expect(image, is_away || !hop->kept.bytes);
	if (!image->is_read || image->error)
		return;
	check_control(image, hop->control);
	charge_control(hop);
	if (is_away)
		hop->life = HOP_PAUSED; /* which no hop that has had no rings gets to be otherwise */
}

/* --- channels --------------------------------------------------------------------------------- */

/* Which frames are owed and which way the states go are bytes of enums. */
static void states_image(struct image *image, struct channel_end *end)
{
	uint8_t in = (uint8_t)end->in, out = (uint8_t)end->out;

	u8_upto(image, &in, IN_RESET);
	u8_upto(image, &out, OUT_RESET);
	u8_upto(image, &end->owed, 2 * OWED_RESET - 1);
	if (image->error)
		return;
	end->in = in;
	end->out = out;
}

static void stream_image(struct image *image, struct channel_end *end)
{
	image_u64(image, &end->received);
	image_u64(image, &end->granted);
	image_u64(image, &end->told_consumed);
	image_u64(image, &end->sent);
	image_u64(image, &end->limit);
	image_u64(image, &end->consumed);
	image_upto(image, &end->window, STREAM_WINDOW_MAX);
	buffer_image(image, &end->queue, QUEUE_MAX);
	image_u32(image, &end->queued_messages);
	image_expect(image, end->consumed <= end->sent && end->received <= INT64_MAX &&
				    end->told_consumed <= end->received && end->window > 0);
}

static void reset_image(struct image *image, struct channel_end *end)
{
	image_u32(image, &end->reset_error);
	image_bool(image, &end->is_refused);
	image_u64(image, &end->reset_consumed);
	image_u64(image, &end->reset_unsure);
	image_bool(image, &end->is_unsettled);
	image_bool(image, &end->leaves_rest);
	image_u32(image, &end->settled_at);
	image_u64(image, &end->released);
}

/* Enters an end that was read into its hop, whose passes look at it. */
static void enter(struct image *image, struct channel_end *end, struct hop *hop)
{
	int r = channel_table_put(&hop->channels, end->number, end);
	struct channel_end *later;

	if (r < 0) {
		image_fail(image, r == -ENOMEM ? r : -EINVAL);
		return;
	}
	end->hop = hop;
	channel_mark_urgent(end);
	if (channel_has_backlog(end))
		channel_mark_backlog(end);
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

static void end_image(struct image *image, const struct image_hops *hops, struct channel_end *end)
{
	uint32_t hop = end->hop ? end->hop->image_number : NOBODY;
	bool is_unsettled;

	image_u32(image, &hop);
	image_upto(image, &end->number, CHANNEL_NUMBERS - 1);
	states_image(image, end);
	stream_image(image, end);
	reset_image(image, end);
	if (!image->is_read)
		return;
	image_expect(image, hop == NOBODY || hop < hops->count);
	image_expect(image, hop != NOBODY || (!channel_has_backlog(end) && !end->is_unsettled));
	if (image->error || hop == NOBODY)
		return;
	/* The program gives out the numbers of the channels that it opens, this daemon those of the others. */
	image_expect(image, ((end->number & 1) == hops->hops[hop]->channels.parity) == !end->is_opener);
	is_unsettled = end->is_unsettled;
	image_expect(image, !is_unsettled || (!end->is_opener && channel_is_reset(end)));
	if (!image->error)
		enter(image, end, hops->hops[hop]);
}

static void sharing_image(struct image *image, struct channel *channel)
{
	bool is_shared = channel->sharing != NULL;
	struct sharing *sharing;

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
	buffer_image(image, &sharing->copy, QUEUE_MAX);
	image_expect(image, sharing->base_to <= channel->acceptor.sent &&
				    sharing->base_from <= channel->acceptor.received &&
				    sharing->from <= channel->acceptor.sent);
}

static void takeover_image(struct image *image, struct channel *channel)
{
	bool is_there = channel->takeover != NULL;

	image_bool(image, &is_there);
	if (!is_there)
		return;
	if (image->is_read)
		channel->takeover = calloc(1, sizeof(*channel->takeover));
	if (!channel->takeover) {
		image_fail(image, -ENOMEM);
		return;
	}
	image_u64(image, &channel->takeover->consumed);
	image_u64(image, &channel->takeover->unsure);
	image_u64(image, &channel->takeover->answers);
}

/* Which user or domain pays, and how much. It is held already, so it isn't refused by limits that are lower now. For what is left
 * of a channel that came from another host nobody pays, since by its number that may be another one. */
static void charge_image(struct image *image, struct channel *channel)
{
	struct account *account = channel->charge.account;
	bool pays = account && account_kind(account) <= QUOTA_PEER;
	uint32_t kind = pays ? account_kind(account) : 0, id = pays ? account_id(account) : 0;
	uint64_t channels = channel->charge.held[QUOTA_CHANNELS], bytes = channel->charge.held[QUOTA_BYTES];

	image_bool(image, &pays);
	image_upto(image, &kind, QUOTA_PEER);
	image_u32(image, &id);
	image_u64(image, &channels);
	image_u64(image, &bytes);
	image_expect(image, channels <= 1 && bytes <= 8ull * STREAM_WINDOW_MAX);
	if (!image->is_read || image->error)
		return;
	account = pays && channel->relay->quota ? quota_account(channel->relay->quota, kind, id) : NULL;
	charge_init(&channel->charge, account);
	account_unref(account);
	charge_exceed(&channel->charge, QUOTA_CHANNELS, channels);
	charge_exceed(&channel->charge, QUOTA_BYTES, bytes);
}

static void head_image(struct image *image, struct channel *channel)
{
	uint32_t kind = channel->kind;

	image_upto(image, &kind, CHANNEL_STREAM);
	image_expect(image, kind >= CHANNEL_MESSAGE);
	channel->kind = (enum channel_kind)kind;
	identity_image(image, &channel->identity);
	image_string(image, &channel->endpoint, ADDRESS_MAX);
	image_string(image, &channel->address, ADDRESS_MAX);
	image_string(image, &channel->domain_name, DOMAIN_NAME_MAX);
	image_string(image, &channel->host, HOST_NAME_SIZE - 1);
	image_u64(image, &channel->stream);
	image_bool(image, &channel->is_far);
	image_u32(image, &channel->from_host);
	image_u32(image, &channel->to_host);
	image_u64(image, &channel->max_message);
	image_bool(image, &channel->has_told);
	image_bool(image, &channel->opened);
	u8_upto(image, &channel->opener_minor, PROTOCOL_MINOR);
	u8_upto(image, &channel->acceptor_minor, PROTOCOL_MINOR);
	image_bool(image, &channel->knows_acceptor);
	identity_image(image, &channel->acceptor_identity);
	image_bool(image, &channel->accepted_by_topic);
	image_bool(image, &channel->undecided);
}

static struct channel *new_channel(struct image *image, const struct image_hops *hops)
{
	struct channel *channel = hops->count ? calloc(1, sizeof(*channel)) : NULL;

	if (!channel) {
		image_fail(image, hops->count ? -ENOMEM : -EINVAL);
		return NULL;
	}
	channel->relay = hops->hops[0]->relay;
	channel->opener.channel = channel->acceptor.channel = channel;
	channel->opener.is_opener = true;
	return channel;
}

/* Frees a channel that can't be. Where it has an end in a hop, it ends with that, as the whole image is given up. */
static void forget(struct channel *channel)
{
	struct channel_end *ends[] = {&channel->opener, &channel->acceptor};

	for (unsigned i = 0; i < 2; i++)
		if (!ends[i]->hop && ends[i]->queue) {
			evbuffer_free(ends[i]->queue);
			ends[i]->queue = NULL;
		}
	if (!channel->opener.hop && !channel->acceptor.hop)
		channel_free(channel);
}

/* What lies between the ends is as much as one has received and the other wasn't sent, unless it is dropped. */
static bool adds_up(const struct channel_end *out)
{
	const struct channel_end *in = channel_other((struct channel_end *)out);
	size_t queued = channel_queued(out);

	return out->sent <= in->received &&
	       (queued == in->received - out->sent || (!queued && (!out->hop || channel_is_reset(out))));
}

void channel_image(struct image *image, const struct image_hops *hops, struct channel **made)
{
	struct channel *channel = image->is_read ? new_channel(image, hops) : *made;

	if (image->is_read)
		*made = NULL;
	if (!channel)
		return;
	head_image(image, channel);
	end_image(image, hops, &channel->opener);
	end_image(image, hops, &channel->acceptor);
	sharing_image(image, channel);
	takeover_image(image, channel);
	charge_image(image, channel);
	cancels_image(image, channel);
	if (!image->is_read)
		return;
	image_expect(image, (channel->opener.hop || channel->acceptor.hop) &&
				    (channel->endpoint || !channel->acceptor.hop));
	image_expect(image, adds_up(&channel->opener) && adds_up(&channel->acceptor));
	image_expect(image, !(channel->acceptor.owed & OWED_TAKEOVER) &&
				    (channel->takeover || !(channel->opener.owed & OWED_TAKEOVER)));
	if (image->error) {
		forget(channel);
		return;
	}
	if (!channel->opener.hop)
		orphans_add(channel);
	*made = channel;
}

void hop_write_channels(struct image *image, const struct hop *hop)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = channel_table_next(&hop->channels, &number))) {
		struct channel *channel = end->channel;

		if (!end->is_opener && channel->opener.hop)
			continue;
		image_section(image, IMAGE_CHANNEL);
		channel_image(image, NULL, &channel);
	}
}

/* --- what lies in rings ----------------------------------------------------------------------- */

static void handed_image(struct image *image, struct hop *hop, struct outlet *outlet, struct handed *handed)
{
	uint32_t number = handed->end ? handed->end->number : NOBODY;
	struct channel_end *end = NULL;

	image_u32(image, &number);
	image_u64(image, &handed->offset);
	image_u32(image, &handed->position);
	image_upto(image, &handed->length, FRAME_PAYLOAD_MAX);
	if (!image->is_read)
		return;
	if (number != NOBODY) {
		end = channel_table_find(&hop->channels, number);
		image_expect(image, end && handed->offset <= end->sent &&
					    handed->length <= end->sent - handed->offset);
	}
	if (!image->error &&
	    (ledger_is_full(&outlet->ledger) ||
	     ledger_push(&outlet->ledger, end, handed->offset, handed->position, handed->length) < 0))
		image_fail(image, -ENOMEM);
}

static void outlet_ledger_image(struct image *image, struct hop *hop, struct outlet *outlet)
{
	uint32_t count = outlet->ledger.count;

	image_upto(image, &outlet->ledger.max, LEDGER_MAX);
	image_upto(image, &count, outlet->ledger.max);
	for (uint32_t i = 0; i < count && !image->error; i++) {
		struct handed handed = {0};

		if (!image->is_read)
			handed = *ledger_at(&outlet->ledger, outlet->ledger.first + i);
		handed_image(image, hop, outlet, &handed);
	}
}

void hop_ledger_image(struct image *image, struct hop *hop)
{
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		outlet_ledger_image(image, hop, &hop->out[i]);
}

void relay_image(struct image *image, struct relay *relay)
{
	image_u64(image, &relay->last_stream);
}
