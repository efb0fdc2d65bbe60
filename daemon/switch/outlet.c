/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/switch/channel.h"
#include "wire/frame_ring.h"

#define PIECE_MIN 256u /* a longer payload isn't cut into pieces smaller than this */
#define ROOM_MIN  (FRAME_HEADER_SIZE + PIECE_MIN)
#define LOOK_EACH 4096u /* bytes that are appended before we look again whether the reader waits */

#define PACE_FIRST 16384u
#define PACE_LEAST 8192u
#define PACE_SOON  2000000u /* ns */
#define PACE_LATE  5000000u

static uint32_t padded(uint32_t length)
{
	return (length + 7u) & ~7u;
}

/* --- pace --- */

void outlet_pace(struct outlet *outlet)
{
	uint32_t size = outlet->writer.ring.size;

	outlet->pace = (struct pace){.most = size < PACE_FIRST ? size : PACE_FIRST};
}

static bool is_paced(const struct outlet *outlet, const struct channel_end *end)
{
	return outlet->pace.most && !end->is_opener;
}

static bool is_reported(const struct outlet *outlet)
{
	return !outlet->traits->release_means_taken;
}

/* Up to where bytes were given, */
static uint32_t given_upto(const struct outlet *outlet)
{
	return is_reported(outlet) ? outlet->pace.given : outlet->writer.head;
}

/* and were taken, by what we know. */
static uint32_t taken_upto(const struct outlet *outlet)
{
	return is_reported(outlet) ? outlet->pace.taken : outlet->writer.tail;
}

static void note_given(struct outlet *outlet, uint32_t bytes)
{
	if (is_paced(outlet, outlet->filling) && is_reported(outlet)) {
		outlet->filling->flight += bytes;
		outlet->pace.given += bytes;
	}
}

/* Looks how the reader has got on since something had to wait. A slow one is seen in the middle, since it is
 * asked to notify us there. How long it took until it began says nothing: it may not have run. */
static void look_at_pace(struct outlet *outlet)
{
	struct pace *pace = &outlet->pace;
	uint32_t tail = taken_upto(outlet),
		 largest = is_reported(outlet) ? CHANNEL_WINDOW_MAX : outlet->writer.ring.size;
	uint64_t took;

	if (!pace->is_marked)
		return;
	if ((int32_t)(tail - pace->mark) < 0) {
		if (is_reported(outlet) && !pace->reads_on)
			pace->seen_ns = 0;
		else if (tail != pace->tail && !pace->seen_ns)
			pace->seen_ns = clock_ns();
		return;
	}
	took = pace->seen_ns ? clock_ns() - pace->seen_ns : 0;
	if (took > PACE_LATE)
		pace->most = pace->most / 2 > PACE_LEAST ? pace->most / 2 : PACE_LEAST;
	else if (took < PACE_SOON)
		pace->most *= 2;
	if (pace->most > largest)
		pace->most = largest;
	pace->is_marked = false;
}

static void note_wait(struct outlet *outlet)
{
	struct pace *pace = &outlet->pace;

	if (pace->is_marked)
		return;
	pace->mark = given_upto(outlet);
	pace->tail = taken_upto(outlet);
	pace->seen_ns = 0;
	pace->is_marked = true;
}

bool outlet_reported(struct outlet *outlet, struct channel_end *end, uint64_t bytes)
{
	struct pace *pace = &outlet->pace;

	if (bytes > end->flight)
		bytes = end->flight;
	end->flight -= (uint32_t)bytes;
	pace->taken += (uint32_t)bytes;
	if (!pace->most) /* it is detached */
		return false;
	look_at_pace(outlet);
	return pace->given - pace->taken <= pace->most / 2;
}

/* Returns how many bytes of the end's DATA may be written now, or -EPROTO. It looks at the reader's index
 * only if what it knows of that promises less than `want`. */
static int outlet_space(struct outlet *outlet, const struct channel_end *end, uint32_t want)
{
	struct ring_writer *writer = &outlet->writer;
	const struct pace *pace = &outlet->pace;
	int r = ring_writer_space(writer, want);
	uint32_t unread;

	if (r < 0 || !is_paced(outlet, end))
		return r;
	if (given_upto(outlet) - taken_upto(outlet) + want > pace->most) {
		r = ring_writer_unread(writer);
		if (r < 0)
			return r;
		look_at_pace(outlet);
		r = ring_writer_space(writer, want);
	}
	unread = given_upto(outlet) - taken_upto(outlet);
	if (unread >= pace->most)
		return 0;
	return (uint32_t)r < pace->most - unread ? r : (int)(pace->most - unread);
}

/* Lets the end's DATA wait for room, or for a report of the program's, which comes by itself. */
static void wait_for_room(struct outlet *outlet, const struct channel_end *end, uint32_t wanted)
{
	if (is_paced(outlet, end)) {
		note_wait(outlet);
		if (is_reported(outlet) && ring_writer_space(&outlet->writer, wanted) >= (int)wanted)
			return;
	}
	if (outlet->wanted < wanted)
		outlet->wanted = wanted;
}

int outlet_attach(struct outlet *outlet, const struct ring_view *ring, const struct hop_traits *traits,
		  struct hop_stats *tx, bool adopt)
{
	int r;

	*outlet = (struct outlet){.traits = traits, .tx = tx};
	r = ring_writer_init(&outlet->writer, ring, adopt);
	outlet->taken_upto = outlet->writer.tail;
	outlet->begin = outlet->writer.head;
	ledger_init(&outlet->ledger, ring->size);
	return r;
}

int outlet_attach_again(struct outlet *outlet, const struct ring_view *ring, const struct hop_traits *traits,
			struct hop_stats *tx, bool adopt)
{
	uint32_t head = outlet->writer.head, tail = outlet->writer.tail;
	int r = ring_writer_init(&outlet->writer, ring, adopt);

	outlet->traits = traits;
	outlet->tx = tx;
	if (!outlet->ledger.max)
		ledger_init(&outlet->ledger, ring->size);
	if (r < 0)
		return r;
	if (adopt) {
		outlet->begin = outlet->taken_upto = outlet->writer.tail;
		return 0;
	}
	outlet->writer.head = outlet->writer.published = head;
	outlet->writer.tail = tail;
	if (head - tail > ring->size)
		return -EPROTO;
	r = ring_writer_unread(&outlet->writer);
	return r < 0 ? r : 0;
}

int outlet_keep_copy(struct outlet *outlet)
{
	uint8_t *memory = malloc(outlet->writer.ring.size);

	if (!memory)
		return -ENOMEM;
	outlet->copied_to = outlet->writer.ring.data;
	outlet->writer.ring.data = memory;
	return 0;
}

static void drop_copy(struct outlet *outlet)
{
	if (outlet->copied_to)
		free(outlet->writer.ring.data);
	outlet->copied_to = NULL;
}

void outlet_detach(struct outlet *outlet)
{
	drop_copy(outlet);
	ledger_free(&outlet->ledger);
	*outlet = (struct outlet){0};
}

void outlet_move(struct outlet *outlet, const struct ring_writer *writer)
{
	drop_copy(outlet);
	outlet->writer = *writer;
	outlet->begin = outlet->taken_upto = writer->head;
	outlet->wanted = 0;
}

/* --- frames ----------------------------------------------------------------------------------- */

/* Numbers a frame that is complete, and counts it. */
static inline __attribute__((always_inline)) void number_frame(struct outlet *outlet,
							       struct frame_header *header)
{
	uint32_t size = frame_size(header->length);

	header->sequence = outlet->traits->numbers_frames ? outlet->sequence : 0;
	outlet->sequence++;
	outlet->position += size;
	outlet->tx->frames++;
	outlet->tx->bytes += size;
}

static void close_open_frame(struct outlet *outlet)
{
	struct channel_end *end = outlet->filling;
	uint32_t length = outlet->filling_length;
	struct frame_header header = {.length = length, .type = FRAME_DATA};
	static const uint8_t zeros[8];
	uint8_t encoded[FRAME_HEADER_SIZE];

	header.channel = end->number;
	header.messages =
		(uint16_t)(outlet->filling_messages > UINT16_MAX ? UINT16_MAX : outlet->filling_messages);
	outlet->tx->messages += outlet->filling_messages;
	if (length & 7u)
		ring_writer_put(&outlet->writer, zeros, -length & 7u);
	number_frame(outlet, &header);
	frame_header_encode(&header, encoded);
	ring_writer_patch(&outlet->writer, outlet->filling_at, encoded, FRAME_HEADER_SIZE);
	if (outlet->traits->release_means_taken) /* open_frame() has reserved the memory */
		ledger_push(&outlet->ledger, end, end->sent - length, outlet->filling_at + FRAME_HEADER_SIZE,
			    length);
	outlet->filling = NULL;
}

/* Closes the open frame, if there is one. */
static inline void close_frame(struct outlet *outlet)
{
	if (outlet->filling)
		close_open_frame(outlet);
}

void outlet_put(struct outlet *outlet, const struct frame_header *header, const void *payload)
{
	struct frame_header numbered = *header;

	close_frame(outlet);
	number_frame(outlet, &numbered);
	frame_put(&outlet->writer, &numbered, payload);
}

void outlet_put_aside(struct outlet *outlet, const struct frame_header *header, const void *payload)
{
	close_frame(outlet);
	frame_put(&outlet->writer, header, payload);
}

uint32_t outlet_unread(struct outlet *outlet, struct iovec pieces[2])
{
	struct ring_writer *writer = &outlet->writer;
	uint32_t from, size;

	close_frame(outlet);
	from = (int32_t)(outlet->begin - writer->tail) > 0 ? outlet->begin : writer->tail;
	size = writer->head - from;
	ring_pieces_of(&writer->ring, from, size, pieces);
	return size;
}

/* Opens a DATA frame for `end`. 1: it is open; 0: there is no room in the ring or in the ledger, and what is
 * taken makes room in both; or an error. */
static int open_frame(struct outlet *outlet, struct channel_end *end, uint32_t length)
{
	uint32_t least;
	int r;

	close_frame(outlet);
	if (outlet->traits->release_means_taken) {
		if (ledger_is_full(&outlet->ledger))
			return 0;
		r = ledger_reserve(&outlet->ledger);
		if (r < 0)
			return r;
	}
	least = FRAME_HEADER_SIZE + padded(length < PIECE_MIN ? length : PIECE_MIN);
	r = outlet_space(outlet, end, least);
	if (r < 0)
		return r;
	if ((uint32_t)r < least) {
		wait_for_room(outlet, end, least);
		return 0;
	}
	outlet->filling = end;
	outlet->filling_at = outlet->writer.head;
	outlet->filling_length = outlet->filling_messages = 0;
	ring_writer_advance(&outlet->writer, FRAME_HEADER_SIZE);
	return 1;
}

/* Returns how many more bytes of the end's stream the open frame takes; 0: the frame isn't the end's, or is
 * full. */
static uint32_t frame_left(const struct outlet *outlet, const struct channel_end *end)
{
	return outlet->filling == end && !(outlet->filling_length & 7)
		       ? FRAME_PAYLOAD_MAX - outlet->filling_length
		       : 0;
}

/* Returns after how many bytes the reader gets to see what was written for it, if that is less than `size`,
 * or else anything that is more. It looks at what the reader shares only if need be: the reader may be
 * polling there, and each look takes the cache line away from it. A ring that holds no more than two chunks
 * is shown in smaller ones in any case: a reader that is awake without having asked would else read while we
 * wait for room, and we write while it waits. */
static uint32_t chunk_for(const struct outlet *outlet, uint32_t size)
{
	uint32_t first = outlet->traits->first_chunk;

	if (size < first || first == HOP_CHUNK)
		return HOP_CHUNK;
	return outlet->writer.ring.size <= 2 * HOP_CHUNK || ring_writer_is_awaited(&outlet->writer)
		       ? first
		       : HOP_CHUNK;
}

/* Returns up to which size a piece isn't cut into chunks. Little more than a chunk would be the end of a
 * message, whose receiver can be lent one that is whole; and where the ring holds many frames, none need be
 * seen before it is full. Measured: messages of 64 KiB 10 % faster to a receiver that is lent them through
 * rings of 1 MiB, which then copies nothing, but 8 % slower through rings of 64 KiB. */
static uint32_t uncut(const struct outlet *outlet, uint32_t chunk)
{
	return outlet->writer.ring.size / 8 >= FRAME_PAYLOAD_MAX ? 2 * chunk : chunk + chunk / 2;
}

static uint32_t unpublished(const struct outlet *outlet)
{
	return outlet->writer.head - outlet->writer.published;
}

bool outlet_is_due(const struct outlet *outlet)
{
	uint32_t size = unpublished(outlet);

	return size >= chunk_for(outlet, size);
}

void outlet_count(struct outlet *outlet, uint32_t length, uint32_t messages)
{
	outlet->filling->sent += length;
	outlet->filling_messages += messages;
	note_given(outlet, length);
}

uint32_t outlet_room(struct outlet *outlet, const struct channel_end *end, uint32_t uncounted)
{
	uint32_t room = frame_left(outlet, end), size = unpublished(outlet),
		 chunk = outlet->traits->first_chunk;
	int space;

	if (!room)
		return 0;
	if (size + 1 >= chunk) { /* so look whether it is to be seen, and soon again */
		chunk = chunk_for(outlet, size + 1);
		if (chunk > size + LOOK_EACH)
			chunk = size + LOOK_EACH;
	}
	if (size + 1 >= chunk)
		return 0;
	if (room > chunk - size - 1)
		room = chunk - size - 1;
	space = outlet_space(outlet, end, room + 7);
	if (is_paced(outlet, end) && is_reported(outlet))
		space -= (int)uncounted;
	if (space < 7)
		return 0;
	return room < (uint32_t)space - 7 ? room : (uint32_t)space - 7;
}

void outlet_take_back(struct outlet *outlet, uint32_t length, uint32_t messages)
{
	outlet->writer.head -= length;
	outlet->filling->sent -= length;
	outlet->filling_length -= length;
	outlet->filling_messages -= messages;
	note_given(outlet, -length);
}

static void put_pieces(struct outlet *outlet, struct outgoing *data, uint32_t size)
{
	data->left -= size;
	while (size) {
		uint32_t here = (uint32_t)data->pieces->iov_len - data->done;

		if (here > size)
			here = size;
		ring_writer_put(&outlet->writer, (uint8_t *)data->pieces->iov_base + data->done, here);
		data->done += here;
		size -= here;
		if (data->done == data->pieces->iov_len && data->left + size) {
			data->pieces++;
			data->done = 0;
		}
	}
}

int outlet_write(struct outlet *outlet, struct channel_end *end, struct outgoing *data)
{
	uint32_t size = data->left, chunk = chunk_for(outlet, size); /* once: the reader may begin to wait */
	uint32_t most = frame_left(outlet, end);
	int r;

	if (!most) {
		r = open_frame(outlet, end, size);
		if (r <= 0)
			return r;
		most = FRAME_PAYLOAD_MAX;
	}
	if (size > most)
		size = most;
	if (size > chunk && size > uncut(outlet, chunk))
		size = chunk;
	r = outlet_space(outlet, end, padded(size));
	if (r < 0)
		return r;
	/* An odd consumer index leaves an odd space: the padding has to fit as well. */
	if (padded(size) > (uint32_t)r)
		size = (uint32_t)r & ~7u;
	if (size == 0) {
		wait_for_room(outlet, end, ROOM_MIN);
		return 0;
	}
	put_pieces(outlet, data, size);
	outlet->filling_length += size;
	outlet_count(outlet, size, data->left ? 0 : data->messages);
	return (int)size;
}

bool outlet_close(struct outlet *outlet)
{
	close_frame(outlet);
	return ring_writer_is_ahead(&outlet->writer);
}

/* Copies what the reader is to see now. */
static void copy_out(struct outlet *outlet)
{
	struct ring_writer *writer = &outlet->writer;
	uint32_t size = writer->head - writer->published;
	struct iovec pieces[2];

	ring_pieces_of(&writer->ring, writer->published, size, pieces);
	for (int i = 0; i < 2; i++)
		memcpy(outlet->copied_to + ((uint8_t *)pieces[i].iov_base - writer->ring.data),
		       pieces[i].iov_base, pieces[i].iov_len);
}

bool outlet_publish(struct outlet *outlet)
{
	close_frame(outlet);
	if (outlet->copied_to)
		copy_out(outlet);
	/* It follows what was read, since positions in the ring begin anew behind 4 GiB. */
	if ((int32_t)(outlet->writer.tail - outlet->begin) > 0)
		outlet->begin = outlet->writer.tail;
	return ring_writer_publish(&outlet->writer);
}

/* --- room ------------------------------------------------------------------------------------- */

/* Returns how much room is worth a wake-up. It is at most the ring, so that a reader that has read everything
 * has made as much. */
static uint32_t worthwhile(const struct outlet *outlet, uint32_t wanted)
{
	uint32_t size = outlet->writer.ring.size, least = size / 4 > ROOM_MIN ? size / 4 : ROOM_MIN;

	if (wanted < least)
		wanted = least;
	return wanted < size ? wanted : size;
}

int outlet_ask_for_room(struct outlet *outlet, uint32_t wanted)
{
	const struct pace *pace = &outlet->pace;

	/* Once half of what may lie there was read. */
	if (pace->most && pace->most < outlet->writer.ring.size && !is_reported(outlet))
		return ring_writer_arm(&outlet->writer, outlet->writer.ring.size - pace->most / 2);
	return ring_writer_arm(&outlet->writer, worthwhile(outlet, wanted));
}

bool outlet_has_ample_room(struct outlet *outlet)
{
	uint32_t want = worthwhile(outlet, 0);

	return ring_writer_space(&outlet->writer, want) >= (int)want;
}

/* --- what was taken --------------------------------------------------------------------------- */

int outlet_see_taken(struct outlet *outlet)
{
	int r = ring_writer_unread(&outlet->writer);

	if (r >= 0)
		look_at_pace(outlet);
	outlet->taken_upto = outlet->writer.tail;
	return r < 0 ? r : 0;
}

int outlet_has_taken(struct outlet *outlet)
{
	int r = ring_writer_unread(&outlet->writer);

	return r < 0 ? r : outlet->writer.tail != outlet->taken_upto;
}

int outlet_ask_for_taken(struct outlet *outlet)
{
	/* Doesn't ask for what has been taken already: the request would stay, and cost a notification
	 * later. */
	int r = outlet_has_taken(outlet);

	if (r == 0)
		r = ring_writer_arm(&outlet->writer, outlet->writer.ring.size);
	return r < 0 ? r : outlet->writer.tail != outlet->taken_upto;
}

int outlet_find_word(struct outlet *outlet, struct channel_end *end, uint64_t offset, uint32_t **word)
{
	const struct handed *handed;
	uint32_t position;
	int r;

	close_frame(outlet);
	r = ring_writer_unread(&outlet->writer);
	if (r < 0)
		return r;
	handed = ledger_find(&outlet->ledger, end, offset);
	if (!handed || offset - handed->offset + 4 > handed->length)
		return -ENOENT;
	position = handed->position + (uint32_t)(offset - handed->offset);
	if (position & 3)
		return -ENOENT; /* its sender doesn't send whole words */
	/* We may have overwritten what was released, though it isn't counted as taken yet. */
	if ((int32_t)(position - outlet->writer.tail) < 0)
		return -EALREADY;
	*word = ring_writer_word(&outlet->writer, position);
	return 0;
}

int outlet_find_released(struct outlet *outlet, const struct channel_end *end, uint64_t *offset)
{
	int r = ring_writer_unread(&outlet->writer);

	*offset = ledger_released(&outlet->ledger, end, outlet->writer.tail);
	return r < 0 ? r : 0;
}

uint32_t outlet_forget(struct outlet *outlet, struct channel_end *end)
{
	if (outlet->filling == end)
		close_frame(outlet);
	return ledger_forget(&outlet->ledger, end);
}
