/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the other end of a hop says and does with what it gets. */
#include "tests/unit/hop_rig.h"

#include <event2/buffer.h>

#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"

/* --- frames ----------------------------------------------------------------------------------- */

void participant_put_raw(struct participant *participant, const void *bytes, uint32_t size)
{
	ring_writer_put(&participant->out, bytes, size);
	if (ring_writer_publish(&participant->out))
		participant_kick(participant);
}

static bool put_now(struct participant *participant, uint8_t type, uint32_t channel, const void *payload,
		    uint32_t length)
{
	struct frame_header header = {.length = length, .type = type, .channel = channel};

	if (ring_writer_space(&participant->out, frame_size(length)) < (int)frame_size(length)) {
		assert_true(ring_writer_arm(&participant->out, participant->out.ring.size) >= 0);
		return false;
	}
	if (participant->hop.traits->numbers_frames)
		header.sequence = participant->out_sequence++;
	frame_put(&participant->out, &header, payload);
	if (ring_writer_publish(&participant->out))
		participant_kick(participant);
	return true;
}

static void flush_queue(struct participant *participant)
{
	while (evbuffer_get_length(participant->queue)) {
		uint8_t payload[FRAME_PAYLOAD_MAX];
		struct frame_header header;

		evbuffer_copyout(participant->queue, &header, sizeof(header));
		if (ring_writer_space(&participant->out, frame_size(header.length)) <
		    (int)frame_size(header.length))
			return;
		evbuffer_drain(participant->queue, sizeof(header));
		evbuffer_remove(participant->queue, payload, header.length);
		assert_true(put_now(participant, header.type, header.channel, payload, header.length));
	}
}

bool participant_put(struct participant *participant, uint8_t type, uint32_t channel, const void *payload,
		     uint32_t length)
{
	struct frame_header header = {.length = length, .type = type, .channel = channel};

	flush_queue(participant);
	if (!evbuffer_get_length(participant->queue) && put_now(participant, type, channel, payload, length))
		return true;
	evbuffer_add(participant->queue, &header, sizeof(header));
	evbuffer_add(participant->queue, payload, length);
	return false;
}

void participant_release(struct participant *participant, unsigned outlet)
{
	if (ring_reader_release(&participant->in[outlet]))
		participant_kick(participant);
}

bool participant_get(struct participant *participant, unsigned outlet, struct participant_frame *frame)
{
	uint8_t encoded[FRAME_HEADER_SIZE];
	struct ring_reader *in = &participant->in[outlet];

	if (!in->ring.size || ring_reader_ready(in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
		return false;
	ring_reader_copy(in, 0, encoded, sizeof(encoded));
	assert_int_equal(frame_header_decode(encoded, &frame->header), 0);
	assert_true(ring_reader_ready(in, frame_size(frame->header.length)) >=
		    (int)frame_size(frame->header.length));
	ring_reader_copy(in, FRAME_HEADER_SIZE, frame->payload, frame->header.length);
	assert_int_equal(frame->header.sequence,
			 participant->hop.traits->numbers_frames ? participant->in_sequence++ : 0);
	ring_reader_consume(in, frame_size(frame->header.length));
	return true;
}

/* The next frame of this type in the main ring; what comes before it is left out. */
bool participant_expect(struct participant *participant, uint8_t type, struct participant_frame *frame)
{
	rig_settle(participant->rig);
	while (participant_get(participant, OUTLET_MAIN, frame)) {
		participant_release(participant, OUTLET_MAIN);
		rig_settle(participant->rig);
		if (frame->header.type == type)
			return true;
	}
	return false;
}

struct participant_channel *participant_channel(struct participant *participant, uint32_t number)
{
	assert_true(number < RIG_CHANNELS);
	return &participant->channels[number];
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

void participant_open(struct participant *participant, uint32_t number, const char *name)
{
	participant_open_kind(participant, number, CHANNEL_MESSAGE, name);
}

void participant_open_kind(struct participant *participant, uint32_t number, enum channel_kind kind,
			   const char *name)
{
	struct frame_open open = {.kind = (uint8_t)kind, .name = {name, strlen(name)}};
	struct participant_channel *channel = participant_channel(participant, number);
	uint8_t payload[FRAME_PAYLOAD_MAX];

	*channel = (struct participant_channel){
		.used = true,
		.is_opener = true,
		.limit = CHANNEL_INITIAL_LIMIT,
		.flow = flow_of(open.name),
	};
	participant_put(participant, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
}

void participant_opened(struct participant *participant, uint32_t number, const struct frame_opened *opened)
{
	uint8_t payload[FRAME_SMALL_MAX];

	participant_put(participant, FRAME_OPENED, number, payload, frame_opened_encode(opened, payload));
}

void participant_fin(struct participant *participant, uint32_t number)
{
	struct participant_channel *channel = participant_channel(participant, number);
	uint8_t payload[8];

	channel->fin_out = true;
	participant_put(participant, FRAME_FIN, number, payload, frame_u64_encode(channel->sent, payload));
}

void participant_reset(struct participant *participant, uint32_t number, uint32_t error, uint64_t consumed,
		       uint64_t unsure)
{
	struct frame_reset reset = {.error = error, .consumed = consumed, .unsure = unsure};
	uint8_t payload[FRAME_SMALL_MAX];

	participant_channel(participant, number)->reset_out = true;
	participant_put(participant, FRAME_RESET, number, payload, frame_reset_encode(&reset, payload));
}

void participant_credit(struct participant *participant, uint32_t number, uint64_t consumed, uint64_t limit)
{
	struct frame_credit credit = {.consumed = consumed, .limit = limit};
	uint8_t payload[FRAME_SMALL_MAX];

	participant_put(participant, FRAME_CREDIT, number, payload, frame_credit_encode(&credit, payload));
}

void participant_cancel(struct participant *participant, uint32_t number, uint64_t offset)
{
	uint8_t payload[8];

	participant_put(participant, FRAME_CANCEL, number, payload, frame_u64_encode(offset, payload));
}

/* The byte of a flow at a position. */
static uint8_t flow_byte(int flow, uint64_t position)
{
	return (uint8_t)(position * 131 + (position >> 8) * 7 + (position >> 16) * 13 + (unsigned)flow * 29 +
			 1);
}

uint32_t participant_data(struct participant *participant, uint32_t number, uint32_t size, bool force)
{
	struct participant_channel *channel = participant_channel(participant, number);
	uint8_t payload[FRAME_PAYLOAD_MAX];
	uint32_t done = 0;

	while (done < size) {
		uint64_t room = channel->limit - channel->sent;
		uint32_t piece = size - done < FRAME_PAYLOAD_MAX ? size - done : FRAME_PAYLOAD_MAX;

		flush_queue(participant);
		if (evbuffer_get_length(participant->queue))
			break;
		if (!force && piece > room)
			piece = (uint32_t)room;
		if (frame_size(piece) > participant->out.ring.size)
			piece = participant->out.ring.size - FRAME_HEADER_SIZE;
		if (piece == 0)
			break;
		for (uint32_t i = 0; i < piece; i++)
			payload[i] = flow_byte(channel->flow, channel->sent + i);
		if (!put_now(participant, FRAME_DATA, number, payload, piece))
			break;
		channel->sent += piece;
		done += piece;
	}
	return done;
}

/* --- what a program does with what it gets ---------------------------------------------------- */

struct participant_channel *participant_accepted(struct participant *participant, int flow)
{
	for (uint32_t i = 0; i < RIG_CHANNELS; i++)
		if (participant->channels[i].used && !participant->channels[i].is_opener &&
		    participant->channels[i].flow == flow)
			return &participant->channels[i];
	return NULL;
}

static void send_credit(struct participant *participant, uint32_t number)
{
	struct participant_channel *channel = participant_channel(participant, number);

	if (participant->no_auto_answer || channel->is_opener || channel->reset_out || channel->ended ||
	    participant->hop.traits->release_means_taken || channel->credit_sent == channel->taken)
		return;
	channel->credit_sent = channel->taken;
	participant_credit(participant, number, channel->taken, channel->taken + CHANNEL_INITIAL_LIMIT);
}

/* The acceptor of a message channel answers a FIN when it has consumed all. */
static void answer_fin(struct participant *participant, uint32_t number)
{
	struct participant_channel *channel = participant_channel(participant, number);

	if (participant->no_auto_answer || !channel->used || channel->is_opener || !channel->fin_in ||
	    channel->fin_out || channel->reset_in || channel->reset_out ||
	    channel->taken < channel->fin_total)
		return;
	send_credit(participant, number);
	participant_fin(participant, number);
	channel->ended = true;
}

static void take_bytes(struct participant *participant, uint32_t number, const uint8_t *data, uint32_t length)
{
	struct participant_channel *channel = participant_channel(participant, number);

	assert_true(channel->used);
	if (participant->captured)
		evbuffer_add(participant->captured, data, length);
	for (uint32_t i = 0; i < length && !participant->captured; i++)
		if (data[i] != flow_byte(channel->flow, channel->received + i))
			fail_msg("flow %d: byte %llu is wrong", channel->flow,
				 (unsigned long long)channel->received + i);
	channel->received += length;
	channel->taken += length;
}

static void take_frame(struct participant *participant, const struct participant_frame *frame)
{
	const struct frame_header *header = &frame->header;
	struct participant_channel *channel = participant_channel(participant, header->channel);
	struct frame_opened opened;
	struct frame_credit credit;
	struct frame_open open;
	struct frame_cancelled cancelled;

	switch (header->type) {
	case FRAME_OPEN:
		assert_false(channel->used && !channel->ended);
		assert_int_equal(frame_open_decode(frame->payload, header->length, &open), 0);
		*channel = (struct participant_channel){.used = true, .flow = -1};
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
		if (!channel->reset_out && !participant->no_auto_answer)
			participant_reset(participant, header->channel, channel->reset.error, channel->taken,
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
static uint32_t read_partial(struct participant *participant, unsigned outlet, uint32_t budget)
{
	uint32_t size = participant->partial[outlet].left <= budget ? participant->partial[outlet].left
								    : (budget & ~7u);
	uint8_t bytes[FRAME_PAYLOAD_MAX];

	ring_reader_copy(&participant->in[outlet], 0, bytes, size);
	take_bytes(participant, participant->partial[outlet].number, bytes, size);
	ring_reader_consume(&participant->in[outlet], size);
	participant->partial[outlet].left -= size;
	if (!participant->partial[outlet].left) {
		ring_reader_consume(&participant->in[outlet], participant->partial[outlet].padding);
		participant->partial[outlet].number = 0;
		participant->partial[outlet].channel = NULL;
	}
	return size;
}

static uint32_t read_outlet(struct participant *participant, unsigned outlet, uint32_t budget)
{
	struct ring_reader *in = &participant->in[outlet];
	uint8_t encoded[FRAME_HEADER_SIZE];
	struct frame_header header;
	uint32_t done = 0;

	while (done < budget) {
		struct participant_frame frame;
		uint32_t number;

		if (!participant->partial[outlet].channel) {
			if (ring_reader_ready(in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
				break;
			ring_reader_copy(in, 0, encoded, sizeof(encoded));
			assert_int_equal(frame_header_decode(encoded, &header), 0);
			if (header.type != FRAME_DATA) {
				assert_true(participant_get(participant, outlet, &frame));
				take_frame(participant, &frame);
				answer_fin(participant, frame.header.channel);
				done += frame_size(frame.header.length);
				continue;
			}
			/* With one ring for both, OPEN comes first; with two it lies in the other one. */
			if (!participant_channel(participant, header.channel)->used ||
			    participant_channel(participant, header.channel)->ended) {
				assert_int_equal(outlet, OUTLET_DELIVERIES);
				break;
			}
			if (participant->hop.traits->numbers_frames)
				assert_int_equal(header.sequence, participant->in_sequence++);
			assert_true(ring_reader_ready(in, frame_size(header.length)) >=
				    (int)frame_size(header.length));
			ring_reader_consume(in, FRAME_HEADER_SIZE);
			participant->partial[outlet].channel =
				participant_channel(participant, header.channel);
			participant->partial[outlet].number = header.channel;
			participant->partial[outlet].left = header.length;
			participant->partial[outlet].padding = -header.length & 7u;
		}
		number = participant->partial[outlet].number;
		if (participant->partial[outlet].left > budget - done && budget - done < 8)
			break;
		done += read_partial(participant, outlet, budget - done);
		send_credit(participant, number);
		answer_fin(participant, number);
	}
	participant_release(participant, outlet);
	return done;
}

uint32_t participant_read(struct participant *participant, uint32_t budget)
{
	uint32_t done = 0;

	if (!hop_has_rings(&participant->hop) || participant->never_reads)
		return 0;
	flush_queue(participant);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (participant->from_daemon[i] &&
		    !(i == OUTLET_DELIVERIES && participant->never_reads_deliveries))
			done += read_outlet(participant, i, budget);
	flush_queue(participant);
	/* As a program before it sleeps. */
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (participant->from_daemon[i])
			assert_true(ring_reader_arm(&participant->in[i], participant->in[i].ring.size) >= 0);
	return done;
}
