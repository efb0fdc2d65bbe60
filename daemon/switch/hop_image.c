/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/hop_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "base/carried_memory.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/channel_internal.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "daemon/switch/cancel.h"
#include "wire/ring.h"
#include "wire/ut.h"

#define NOBODY	    UINT32_MAX
#define ROOM_STEP   64u
#define STAYS	    4096u /* bytes that aren't copied */
#define LEDGER_MAX  (1u << 22)
#define WAITING_MAX (8u << 20) /* bytes of frames: more than may wait (control.c) */
#define KEPT_MAX    (1u << 28) /* bytes: more than a ring has */

/* --- helpers ---------------------------------------------------------------------------------- */

/* Writes what is in the buffer, as image_bytes() does. */
static void write_buffer(struct image *image, struct evbuffer *buffer, uint32_t most)
{
	uint32_t size = buffer ? (uint32_t)evbuffer_get_length(buffer) : 0;
	int count = size ? evbuffer_peek(buffer, -1, NULL, NULL, 0) : 0;
	struct evbuffer_iovec *pieces = count > 0 ? calloc((size_t)count, sizeof(*pieces)) : NULL;

	image_upto(image, &size, most);
	if (size && (!pieces || evbuffer_peek(buffer, -1, NULL, pieces, count) != count))
		image_fail(image, -ENOMEM);
	for (int i = 0; pieces && i < count && !image->error; i++)
		image_write(image, pieces[i].iov_base, pieces[i].iov_len);
	free(pieces);
}

static void hop_image_release(const void *data, size_t size, void *pages)
{
	image_release(pages);
}

/* Much stays where it is, and is copied by nobody while everybody waits; little wouldn't be worth the pages
 * that it would hold. */
static int add_bytes(struct image *image, struct evbuffer *buffer, const struct image_bytes *bytes)
{
	struct image_pages *pages;

	if (bytes->size < STAYS)
		return evbuffer_add(buffer, bytes->data, bytes->size);
	pages = image_hold(image);
	if (evbuffer_add_reference(buffer, bytes->data, bytes->size, hop_image_release, pages) == 0)
		return 0;
	image_release(pages);
	return -1;
}

void hop_buffer_image(struct image *image, struct evbuffer **buffer, uint32_t most)
{
	struct image_bytes bytes = {0};

	if (!image->is_read) {
		write_buffer(image, *buffer, most);
		return;
	}
	image_bytes(image, &bytes, most);
	if (!bytes.size)
		return;
	if (!*buffer)
		*buffer = evbuffer_new();
	if (!*buffer || add_bytes(image, *buffer, &bytes) < 0)
		image_fail(image, -ENOMEM);
}

void hop_identity_image(struct image *image, struct frame_identity *identity)
{
	image_u32(image, &identity->domid);
	image_u32(image, &identity->uid);
	image_u32(image, &identity->gid);
	image_u32(image, &identity->pid);
}

void switch_account_image(struct image *image, const struct switchboard *board, struct account **account)
{
	bool pays = !image->is_read && *account && account_kind(*account) <= QUOTA_HOST;
	uint32_t kind = pays ? account_kind(*account) : 0, id = pays ? account_id(*account) : 0;

	image_bool(image, &pays);
	image_upto(image, &kind, QUOTA_HOST);
	image_u32(image, &id);
	if (image->is_read)
		*account =
			pays && !image->error && board->quota ? quota_account(board->quota, kind, id) : NULL;
	if (image->is_read && pays && board->quota && !*account)
		image_fail(image, -ENOMEM);
}

void hop_ring_image(struct image *image, struct ring_words *words, uint32_t size)
{
	image_u32(image, &words->producer);
	image_u32(image, &words->consumer);
	image_expect(image, words->producer - words->consumer <= size);
}

static void stats_image(struct image *image, struct hop_stats *stats)
{
	image_u64(image, &stats->frames);
	image_u64(image, &stats->bytes);
	image_u64(image, &stats->messages);
	image_u64(image, &stats->notifications);
}

int image_hops_add(struct image_hops *hops, struct hop *hop)
{
	uint32_t capacity = hops->count + hops->count / 2 + ROOM_STEP;
	struct hop **grown;

	if (hops->count >= hops->capacity) {
		grown = realloc(hops->hops, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		hops->hops = grown;
		hops->capacity = capacity;
	}
	hop_set_image_number(hop, hops->count);
	hops->hops[hops->count++] = hop;
	return 0;
}

/* --- what can't be taken ---------------------------------------------------------------------- */

static int hop_image_set_state(struct image_hops *hops, uint32_t number, enum image_hop_state state)
{
	uint32_t count = number + 1;
	enum image_hop_state *grown;

	if (hops->state_count < count) {
		grown = realloc(hops->states, count * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		for (uint32_t i = hops->state_count; i < count; i++)
			grown[i] = HOP_IN_IMAGE;
		hops->states = grown;
		hops->state_count = count;
	}
	if (hops->states[number] == HOP_IN_IMAGE)
		hops->states[number] = state;
	return 0;
}

int image_hops_lose(struct image_hops *hops, uint32_t number)
{
	return hop_image_set_state(hops, number, HOP_LOST);
}

static void on_stand_in_failed(void *owner, int error, const char *why)
{
}

static int stand_in(struct image_hops *hops, struct switchboard *board)
{
	static const struct hop_callbacks callbacks = {.failed = on_stand_in_failed};
	struct hop *hop = hop_new(board, HOP_SOCKET, &callbacks, NULL, 1, CHANNEL_NUMBERS / 2);
	int r = hop ? hop_image_set_state(hops, hops->count, HOP_STANDIN) : -ENOMEM;

	if (r == 0)
		r = image_hops_add(hops, hop);
	if (r < 0 && hop)
		hop_retire(hop, ECONNRESET);
	return r;
}

static bool is_numbered(uint32_t type)
{
	return type == IMAGE_SESSION || type == IMAGE_LINK || type == IMAGE_TOPIC || type == IMAGE_STREAM ||
	       type == IMAGE_ROOM || type == IMAGE_WAITING;
}

/* Has what is numbered end, of which so many were read before. What couldn't be made has a stand-in. */
static int lose_numbered(struct image_hops *hops, struct switchboard *board, uint32_t type, uint32_t before)
{
	int r = hops->count > before ? image_hops_lose(hops, before) : stand_in(hops, board);

	if (type == IMAGE_SESSION)
		hops->sessions = hops->count;
	else if (type == IMAGE_LINK)
		hops->links = hops->count - hops->sessions;
	else if (type == IMAGE_TOPIC)
		hops->topics = hops->count - hops->sessions - hops->links;
	return r;
}

int image_hops_lose_section(struct image_hops *hops, struct switchboard *board, const struct image *image,
			    uint32_t type, const struct image_hops *before)
{
	bool is_spoilt = hops->spoilt_count > before->spoilt_count;
	int count = is_spoilt, r = 0;

	if (is_numbered(type)) {
		r = lose_numbered(hops, board, type, before->count);
		count++;
	}
	for (unsigned i = 0; i < 2 && r == 0 && !is_spoilt; i++) {
		if (image->owners[i] == IMAGE_NOBODY)
			continue;
		r = image_hops_lose(hops, image->owners[i]);
		count++;
	}
	return r < 0 ? r : count;
}

void image_hops_end_channels(struct image_hops *hops)
{
	for (uint32_t i = 0; i < hops->spoilt_count; i++) {
		struct channel *channel = hops->spoilt[i];
		struct channel_end *opener = &channel->opener, *acceptor = &channel->acceptor;

		channel_reset_now(acceptor, ECONNRESET, opener->consumed, opener->sent);
		channel_reset_now(opener, ECONNRESET, acceptor->consumed, acceptor->sent);
	}
	free(hops->spoilt);
	hops->spoilt = NULL;
	hops->spoilt_count = 0;
}

void image_hops_end(struct image_hops *hops)
{
	for (uint32_t i = 0; i < hops->state_count && i < hops->count; i++)
		if (hops->states[i] == HOP_STANDIN)
			hop_retire(hops->hops[i], ECONNRESET);
	free(hops->states);
	hops->states = NULL;
	hops->state_count = 0;
}

/* --- before it is made ------------------------------------------------------------------------ */

void switch_publish(struct switchboard *board)
{
	struct hop *hop;

	DL_FOREACH2(board->marked[MARK_DIRTY], hop, marks[MARK_DIRTY].next)
		if (hop_has_rings(hop) && !hop->guarded)
			hop_publish(hop);
}

void hop_settle_for_image(struct hop *hop)
{
	struct channel_end *end;
	uint32_t number = 0;

	/* What comes before all further input is done by then, in as many pieces as the hop has channels, at
	 * most. */
	while (hop->holds_input && (hop->life == HOP_UP || hop->traits->is_daemon))
		hop->holds_input = hop->callbacks->before_input(hop->owner);
	while ((end = channel_table_next(&hop->channels, &number))) {
		const struct hop *other = channel_other(end)->hop;

		withdrawals_free(end->channel); /* nothing depends on their arrival */
		bool is_left = other && other->image_number == HOP_NOT_IN_IMAGE;

		if ((hop->traits->is_daemon || hop->traits->is_inner) && is_left)
			channel_forbid(end->channel, ECONNRESET);
	}
}

/* Whether what the channel has at this end can be written. */
static bool end_fits(const struct channel_end *end)
{
	const struct channel_end *other = channel_other((struct channel_end *)end);

	return channel_queued(end) <= IMAGE_QUEUE_MAX &&
	       (!other->hop || other->hop->image_number != HOP_NOT_IN_IMAGE);
}

uint64_t hop_queued(const struct hop *hop)
{
	const struct channel_end *end;
	uint32_t number = 0;
	uint64_t bytes = 0;

	while ((end = channel_table_next(&hop->channels, &number)))
		bytes += channel_queued(end);
	return bytes;
}

bool hop_fits_image(const struct hop *hop)
{
	const struct channel_end *end;
	uint32_t number = 0;

	if (hop->life != HOP_DETACHED && hop->life != (hop->traits->is_daemon ? HOP_PAUSED : HOP_UP) &&
	    (hop->traits->is_daemon || hop->life != HOP_FINISHING))
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
	uint32_t count = 0, number;

	if (!image->is_read)
		for (number = refused_next(refused, 0); number < CHANNEL_NUMBERS;
		     number = refused_next(refused, number + 1))
			count++;
	image_upto(image, &count, CHANNEL_NUMBERS);
	number = 0;
	for (uint32_t i = 0; i < count && !image->error; i++, number++) {
		if (!image->is_read)
			number = refused_next(refused, number);
		image_upto(image, &number, CHANNEL_NUMBERS - 1);
		if (image->is_read && !image->error && refused_add(refused, number) < 0)
			image_fail(image, -ENOMEM);
	}
}

/* Whole frames that wait for room, as hop_emit_control() takes them. */
static void check_control(struct image *image, const struct hop *hop)
{
	size_t size = hop_unsent(hop), at = 0;
	const uint8_t *bytes = size ? evbuffer_pullup(hop->control, -1) : NULL;
	struct frame_header header = {0};

	while (at < size && !image->error) {
		if (size - at < FRAME_HEADER_SIZE || frame_header_decode(bytes + at, &header) < 0 ||
		    frame_size(header.length) > size - at)
			image_fail(image, -EINVAL);
		at += frame_size(header.length);
	}
}

/* Charges for the frames that wait, beyond what everybody may let wait; they are there, so they can't be
 * refused. */
static void charge_control(struct hop *hop)
{
	size_t size = hop_unsent(hop);

	if (size <= HOP_CONTROL_FREE)
		return;
	charge_init(&hop->queued, hop->account);
	charge_exceed(&hop->queued, QUOTA_BYTES, size - HOP_CONTROL_FREE);
}

static void next_number_image(struct image *image, struct hop *hop)
{
	image_upto(image, &hop->channels.next, CHANNEL_NUMBERS - 1);
	image_expect(image, (hop->channels.next & 1) == hop->channels.parity);
}

/* What it has to say or will say, but for what lies in rings or was written, and what it has counted. */
static void frames_image(struct image *image, struct hop *hop)
{
	next_number_image(image, hop);
	refused_image(image, &hop->refused);
	hop_buffer_image(image, &hop->control, WAITING_MAX);
	stats_image(image, &hop->tx);
	stats_image(image, &hop->rx);
	if (!image->is_read || image->error)
		return;
	check_control(image, hop);
	charge_control(hop);
}

/* What calls about what the program holds have cost: the next daemon needn't learn that. */
static void calls_image(struct image *image, struct call_history *calls)
{
	uint32_t cost = calls->cost;

	image_u32(image, &calls->owed);
	image_upto(image, &cost, CALL_SUSPECT_NS / TURNS_UNIT_NS);
	image_u8(image, &calls->exact);
	image_u8(image, &calls->rest);
	image_u8(image, &calls->unseen);
	image_bool(image, &calls->is_sample);
	image_bool(image, &calls->is_long);
	calls->cost = (uint16_t)cost;
}

void hop_image(struct image *image, struct hop *hop)
{
	calls_image(image, &hop->calls);
	image_bool(image, &hop->who.is_known);
	hop_identity_image(image, &hop->who.identity);
	inlet_image(image, &hop->in);
	for (unsigned i = 0; i < hop->traits->outlets; i++) {
		if (!image->is_read && !hop->traits->release_means_taken) /* nobody has looked */
			hop->out[i].taken_upto = hop->out[i].writer.tail;
		outlet_image(image, &hop->out[i]);
	}
	image_bool(image, &hop->taken.pending);
	image_u32(image, &hop->taken.mark);
	frames_image(image, hop);
}

/* What was written and the other end may not have processed. It is sent again only as whole frames
 * (hop_output.c). */
static void replay_image(struct image *image, struct hop *hop)
{
	struct hop_replay *replay = &hop->replay;
	struct image_bytes bytes = {0};

	if (!image->is_read && replay->bytes)
		bytes = (struct image_bytes){replay->bytes + replay->written, replay->size - replay->written};
	image_bytes(image, &bytes, KEPT_MAX);
	image_expect(image, bytes.size <= hop_sent(hop));
	if (!image->is_read || image->error || !bytes.size)
		return;
	replay->bytes = malloc(bytes.size);
	if (!replay->bytes) {
		image_fail(image, -ENOMEM);
		return;
	}
	memcpy(replay->bytes, bytes.data, bytes.size);
	replay->size = bytes.size;
	charge_init(&replay->charge, hop->account);
	charge_exceed(&replay->charge, QUOTA_BYTES, replay->size);
}

/* The positions of a session (doc/protocol.md, 5.4). */
static void hop_positions_image(struct image *image, struct hop *hop)
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
	hop_positions_image(image, hop);
	replay_image(image, hop);
	image_upto(image, &hop->channels.parity, 1);
	frames_image(image, hop);
	image_expect(image, is_away || !hop->replay.bytes);
	if (image->is_read && !image->error && is_away)
		hop->life = HOP_PAUSED; /* which no hop that has had no rings gets to be otherwise */
}

void hop_inner_image(struct image *image, struct hop *hop)
{
	image_bool(image, &hop->who.is_known);
	hop_identity_image(image, &hop->who.identity);
	next_number_image(image, hop);
	stats_image(image, &hop->tx);
	stats_image(image, &hop->rx);
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
		image_expect(image, end && hop_outlet(hop, end) == outlet && handed->offset <= end->sent &&
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

void switch_image(struct image *image, struct switchboard *board)
{
	image_u64(image, &board->last_stream);
	carried_image(image, board->rings);
	memfd_lifetimes_image(image, board->memfd_lifetimes);
}
