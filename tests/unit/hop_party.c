/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other end of a hop says and does with what it gets. */
#include "tests/unit/hop_rig.h"

#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"

/* --- frames ----------------------------------------------------------------------------------- */

void party_put_raw(struct party *party, const void *bytes, uint32_t size)
{
	ring_writer_put(&party->out, bytes, size);
	if (ring_writer_publish(&party->out))
		party_kick(party);
}

static bool put_now(struct party *party, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	struct frame_header header = {.length = length, .type = type, .channel = channel};

	if (ring_writer_space(&party->out, frame_size(length)) < (int)frame_size(length)) {
		assert_true(ring_writer_arm(&party->out, party->out.ring.size) >= 0);
		return false;
	}
	if (party->hop.traits->numbers_frames)
		header.sequence = party->out_sequence++;
	frame_put(&party->out, &header, payload);
	if (ring_writer_publish(&party->out))
		party_kick(party);
	return true;
}

static void flush_queue(struct party *party)
{
	while (evbuffer_get_length(party->queue)) {
		uint8_t payload[FRAME_PAYLOAD_MAX];
		struct frame_header header;

		evbuffer_copyout(party->queue, &header, sizeof(header));
		if (ring_writer_space(&party->out, frame_size(header.length)) <
		    (int)frame_size(header.length))
			return;
		evbuffer_drain(party->queue, sizeof(header));
		evbuffer_remove(party->queue, payload, header.length);
		assert_true(put_now(party, header.type, header.channel, payload, header.length));
	}
}

bool party_put(struct party *party, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	struct frame_header header = {.length = length, .type = type, .channel = channel};

	flush_queue(party);
	if (!evbuffer_get_length(party->queue) && put_now(party, type, channel, payload, length))
		return true;
	evbuffer_add(party->queue, &header, sizeof(header));
	evbuffer_add(party->queue, payload, length);
	return false;
}

void party_release(struct party *party, unsigned outlet)
{
	if (ring_reader_release(&party->in[outlet]))
		party_kick(party);
}

bool party_get(struct party *party, unsigned outlet, struct party_frame *frame)
{
	uint8_t encoded[FRAME_HEADER_SIZE];
	struct ring_reader *in = &party->in[outlet];

	if (!in->ring.size || ring_reader_ready(in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
		return false;
	ring_reader_copy(in, 0, encoded, sizeof(encoded));
	assert_int_equal(frame_header_decode(encoded, &frame->header), 0);
	assert_true(ring_reader_ready(in, frame_size(frame->header.length)) >=
		    (int)frame_size(frame->header.length));
	ring_reader_copy(in, FRAME_HEADER_SIZE, frame->payload, frame->header.length);
	assert_int_equal(frame->header.sequence,
			 party->hop.traits->numbers_frames ? party->in_sequence++ : 0);
	ring_reader_consume(in, frame_size(frame->header.length));
	return true;
}

/* The next frame of this type in the main ring; what comes before it is left out. */
bool party_expect(struct party *party, uint8_t type, struct party_frame *frame)
{
	rig_settle(party->rig);
	while (party_get(party, OUTLET_MAIN, frame)) {
		party_release(party, OUTLET_MAIN);
		rig_settle(party->rig);
		if (frame->header.type == type)
			return true;
	}
	return false;
}

struct party_channel *party_channel(struct party *party, uint32_t number)
{
	assert_true(number < RIG_CHANNELS);
	return &party->channels[number];
}

static int flow_of(struct frame_text name)
{
	char text[ENDPOINT_NAME_MAX + 1] = "";
	const char *number;

	assert_true(name.size < sizeof(text));
	memcpy(text, name.data, name.size);
	number = strchr(text, '_');
	return number ? atoi(number + 1) : -1;
}

void party_open(struct party *party, uint32_t number, const char *name)
{
	party_open_kind(party, number, CHANNEL_MESSAGE, name);
}

void party_open_kind(struct party *party, uint32_t number, enum channel_kind kind, const char *name)
{
	struct frame_open open = {.kind = (uint8_t)kind, .name = {name, strlen(name)}};
	struct party_channel *channel = party_channel(party, number);
	uint8_t payload[FRAME_PAYLOAD_MAX];

	*channel = (struct party_channel){
		.used = true,
		.is_opener = true,
		.limit = CHANNEL_INITIAL_LIMIT,
		.flow = flow_of(open.name),
	};
	party_put(party, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
}

void party_opened(struct party *party, uint32_t number, const struct frame_opened *opened)
{
	uint8_t payload[FRAME_SMALL_MAX];

	party_put(party, FRAME_OPENED, number, payload, frame_opened_encode(opened, payload));
}

void party_fin(struct party *party, uint32_t number)
{
	struct party_channel *channel = party_channel(party, number);
	uint8_t payload[8];

	channel->fin_out = true;
	party_put(party, FRAME_FIN, number, payload, frame_u64_encode(channel->sent, payload));
}

void party_reset(struct party *party, uint32_t number, uint32_t error, uint64_t consumed, uint64_t unsure)
{
	struct frame_reset reset = {.error = error, .consumed = consumed, .unsure = unsure};
	uint8_t payload[FRAME_SMALL_MAX];

	party_channel(party, number)->reset_out = true;
	party_put(party, FRAME_RESET, number, payload, frame_reset_encode(&reset, payload));
}

void party_credit(struct party *party, uint32_t number, uint64_t consumed, uint64_t limit)
{
	struct frame_credit credit = {.consumed = consumed, .limit = limit};
	uint8_t payload[FRAME_SMALL_MAX];

	party_put(party, FRAME_CREDIT, number, payload, frame_credit_encode(&credit, payload));
}

void party_cancel(struct party *party, uint32_t number, uint64_t offset)
{
	uint8_t payload[8];

	party_put(party, FRAME_CANCEL, number, payload, frame_u64_encode(offset, payload));
}

/* The byte of a flow at a position. */
static uint8_t flow_byte(int flow, uint64_t position)
{
	return (uint8_t)(position * 131 + (position >> 8) * 7 + (position >> 16) * 13 + (unsigned)flow * 29 +
			 1);
}

uint32_t party_data(struct party *party, uint32_t number, uint32_t size, bool force)
{
	struct party_channel *channel = party_channel(party, number);
	uint8_t payload[FRAME_PAYLOAD_MAX];
	uint32_t done = 0;

	while (done < size) {
		uint64_t room = channel->limit - channel->sent;
		uint32_t piece = size - done < FRAME_PAYLOAD_MAX ? size - done : FRAME_PAYLOAD_MAX;

		flush_queue(party);
		if (evbuffer_get_length(party->queue))
			break;
		if (!force && piece > room)
			piece = (uint32_t)room;
		if (frame_size(piece) > party->out.ring.size)
			piece = party->out.ring.size - FRAME_HEADER_SIZE;
		if (piece == 0)
			break;
		for (uint32_t i = 0; i < piece; i++)
			payload[i] = flow_byte(channel->flow, channel->sent + i);
		if (!put_now(party, FRAME_DATA, number, payload, piece))
			break;
		channel->sent += piece;
		done += piece;
	}
	return done;
}

/* --- what a program does with what it gets ---------------------------------------------------- */

struct party_channel *party_accepted(struct party *party, int flow)
{
	for (uint32_t i = 0; i < RIG_CHANNELS; i++)
		if (party->channels[i].used && !party->channels[i].is_opener &&
		    party->channels[i].flow == flow)
			return &party->channels[i];
	return NULL;
}

static void send_credit(struct party *party, uint32_t number)
{
	struct party_channel *channel = party_channel(party, number);

	if (party->no_auto_answer || channel->is_opener || channel->reset_out || channel->ended ||
	    party->hop.traits->release_means_taken || channel->credit_sent == channel->taken)
		return;
	channel->credit_sent = channel->taken;
	party_credit(party, number, channel->taken, channel->taken + CHANNEL_INITIAL_LIMIT);
}

/* The acceptor of a message channel answers a FIN when it has consumed all. */
static void answer_fin(struct party *party, uint32_t number)
{
	struct party_channel *channel = party_channel(party, number);

	if (party->no_auto_answer || !channel->used || channel->is_opener || !channel->fin_in ||
	    channel->fin_out || channel->reset_in || channel->reset_out ||
	    channel->taken < channel->fin_total)
		return;
	send_credit(party, number);
	party_fin(party, number);
	channel->ended = true;
}

static void take_bytes(struct party *party, uint32_t number, const uint8_t *data, uint32_t length)
{
	struct party_channel *channel = party_channel(party, number);

	assert_true(channel->used);
	if (party->captured)
		evbuffer_add(party->captured, data, length);
	for (uint32_t i = 0; i < length && !party->captured; i++)
		if (data[i] != flow_byte(channel->flow, channel->received + i))
			fail_msg("flow %d: byte %llu is wrong", channel->flow,
				 (unsigned long long)channel->received + i);
	channel->received += length;
	channel->taken += length;
}

static void take_frame(struct party *party, const struct party_frame *frame)
{
	const struct frame_header *header = &frame->header;
	struct party_channel *channel = party_channel(party, header->channel);
	struct frame_opened opened;
	struct frame_credit credit;
	struct frame_open open;
	struct frame_cancelled cancelled;

	switch (header->type) {
	case FRAME_OPEN:
		assert_false(channel->used && !channel->ended);
		assert_int_equal(frame_open_decode(frame->payload, header->length, &open), 0);
		*channel = (struct party_channel){.used = true, .flow = -1};
		channel->flow = flow_of(open.name);
		break;
	case FRAME_OPENED:
		assert_int_equal(frame_opened_decode(frame->payload, header->length, &opened), 0);
		assert_true(opened.limit >= channel->limit);
		assert_false(channel->opened);
		channel->opened = true;
		channel->limit = opened.limit;
		break;
	case FRAME_CREDIT:
		if (channel->reset_out)
			break;
		assert_int_equal(frame_credit_decode(frame->payload, header->length, &credit), 0);
		assert_true(credit.consumed >= channel->confirmed && credit.consumed <= channel->sent);
		if (channel->is_opener)
			assert_true(credit.limit >= channel->limit);
		channel->confirmed = credit.consumed;
		channel->limit = credit.limit > channel->limit ? credit.limit : channel->limit;
		break;
	case FRAME_FIN:
		assert_false(channel->fin_in);
		channel->fin_in = true;
		assert_int_equal(frame_u64_decode(frame->payload, header->length, &channel->fin_total), 0);
		break;
	case FRAME_RESET:
		assert_false(channel->reset_in);
		channel->reset_in = true;
		assert_int_equal(frame_reset_decode(frame->payload, header->length, &channel->reset), 0);
		if (!channel->reset_out && !party->no_auto_answer)
			party_reset(party, header->channel, channel->reset.error, channel->taken,
				    channel->taken);
		break;
	case FRAME_CANCEL:
		channel->cancel_count++;
		assert_int_equal(frame_u64_decode(frame->payload, header->length, &channel->cancel_offset),
				 0);
		break;
	case FRAME_CANCELLED:
		assert_int_equal(frame_cancelled_decode(frame->payload, header->length, &cancelled), 0);
		channel->cancelled_count++;
		channel->cancelled_offset = cancelled.offset;
		channel->cancelled_result = cancelled.result;
		break;
	default:
		fail_msg("a %s frame came", frame_type_name(header->type));
	}
	if (channel->reset_in && channel->reset_out)
		channel->ended = true;
}

/* Takes a piece of a DATA frame, and gives just that piece back. */
static uint32_t read_partial(struct party *party, unsigned outlet, uint32_t budget)
{
	uint32_t size = party->partial[outlet].left <= budget ? party->partial[outlet].left : (budget & ~7u);
	uint8_t bytes[FRAME_PAYLOAD_MAX];

	ring_reader_copy(&party->in[outlet], 0, bytes, size);
	take_bytes(party, party->partial[outlet].number, bytes, size);
	ring_reader_consume(&party->in[outlet], size);
	party->partial[outlet].left -= size;
	if (!party->partial[outlet].left) {
		ring_reader_consume(&party->in[outlet], party->partial[outlet].padding);
		party->partial[outlet].number = 0;
		party->partial[outlet].channel = NULL;
	}
	return size;
}

static uint32_t read_outlet(struct party *party, unsigned outlet, uint32_t budget)
{
	struct ring_reader *in = &party->in[outlet];
	uint8_t encoded[FRAME_HEADER_SIZE];
	struct frame_header header;
	uint32_t done = 0;

	while (done < budget) {
		struct party_frame frame;
		uint32_t number;

		if (!party->partial[outlet].channel) {
			if (ring_reader_ready(in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
				break;
			ring_reader_copy(in, 0, encoded, sizeof(encoded));
			assert_int_equal(frame_header_decode(encoded, &header), 0);
			if (header.type != FRAME_DATA) {
				assert_true(party_get(party, outlet, &frame));
				take_frame(party, &frame);
				answer_fin(party, frame.header.channel);
				done += frame_size(frame.header.length);
				continue;
			}
			/* With one ring for both, OPEN comes first; with two it lies in the other one. */
			if (!party_channel(party, header.channel)->used ||
			    party_channel(party, header.channel)->ended) {
				assert_int_equal(outlet, OUTLET_DELIVERIES);
				break;
			}
			if (party->hop.traits->numbers_frames)
				assert_int_equal(header.sequence, party->in_sequence++);
			assert_true(ring_reader_ready(in, frame_size(header.length)) >=
				    (int)frame_size(header.length));
			ring_reader_consume(in, FRAME_HEADER_SIZE);
			party->partial[outlet].channel = party_channel(party, header.channel);
			party->partial[outlet].number = header.channel;
			party->partial[outlet].left = header.length;
			party->partial[outlet].padding = -header.length & 7u;
		}
		number = party->partial[outlet].number;
		if (party->partial[outlet].left > budget - done && budget - done < 8)
			break;
		done += read_partial(party, outlet, budget - done);
		send_credit(party, number);
		answer_fin(party, number);
	}
	party_release(party, outlet);
	return done;
}

uint32_t party_read(struct party *party, uint32_t budget)
{
	uint32_t done = 0;

	if (!hop_has_rings(&party->hop) || party->never_reads)
		return 0;
	flush_queue(party);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (party->from_daemon[i] && !(i == OUTLET_DELIVERIES && party->never_reads_deliveries))
			done += read_outlet(party, i, budget);
	flush_queue(party);
	/* As a program before it sleeps. */
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (party->from_daemon[i])
			assert_true(ring_reader_arm(&party->in[i], party->in[i].ring.size) >= 0);
	return done;
}
