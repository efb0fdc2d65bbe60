/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/hop_rig.h"

#include <event2/buffer.h>
#include <event2/event.h>

#include "tests/unit/random.h"
#include "wire/bytes.h"
#include "wire/ut.h"

/* --- the rig ---------------------------------------------------------------------------------- */

void rig_start(struct rig *rig, uint64_t seed)
{
	*rig = (struct rig){.random = seed * 2654435761u + 1};
	rig->base = event_base_new();
	assert_non_null(rig->base);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(switch_init(&rig->board[i], rig->base, 16u << 20), 0);
}

uint32_t rig_random(struct rig *rig, uint32_t below)
{
	return random_below(&rig->random, below);
}

static struct rig_ring *ring_new(uint32_t size, uint32_t index)
{
	struct rig_ring *ring = calloc(1, sizeof(*ring));

	assert_non_null(ring);
	ring->data = calloc(1, size);
	assert_non_null(ring->data);
	ring->words.producer = ring->words.consumer = index;
	ring->view = ring_words_view(&ring->words, ring->data, size);
	return ring;
}

static void ring_free(struct rig_ring *ring)
{
	if (ring)
		free(ring->data);
	free(ring);
}

static void turn(struct participant *participant)
{
	participant->kicked = false;
	hop_event(&participant->hop);
	switch_pass(participant->hop.board);
}

void participant_kick(struct participant *participant)
{
	participant->kicked = true;
}

static bool is_hungry(struct participant *participant)
{
	return hop_is_up(&participant->hop);
}

/* Whoever has something to do has asked for what lets it do it. */
static void check_party(struct participant *participant)
{
	struct hop *hop = &participant->hop;
	struct ring_view *in;

	if (!is_hungry(participant))
		return;
	in = &hop->in.reader.ring;
	assert_false(hop_is_marked(hop, MARK_DIRTY));
	if (hop->waiting.blocked_on) /* on a waiting room if there is no memory for what would wait there */
		assert_true(!hop_has_rings(hop->waiting.blocked_on) ||
			    hop->waiting.blocked_on->out[OUTLET_MAIN].writer.ring.wants_space[0] &
				    hop->waiting.blocked_on->out[OUTLET_MAIN].writer.ring.wants_space_bit);
	else if (!hop->input.is_due)
		assert_true(*in->wants_data & in->wants_data_bit);
	if (hop->taken.pending)
		assert_true(hop->waiting.blocked_on || hop->input.is_due);
	for (unsigned i = 0; i < hop->traits->outlets; i++) {
		struct outlet *outlet = &hop->out[i];

		assert_int_equal(outlet->writer.published, outlet->writer.head);
		assert_null(outlet->filling);
		/* While a snapshot is pending, it is the input that has to go on first. */
		if (outlet->ledger.count && !hop->taken.pending)
			assert_true(*outlet->writer.ring.wants_space & outlet->writer.ring.wants_space_bit);
	}
	if (hop->urgent || hop_has_unsent(hop) || hop->waiting.waiters)
		assert_true(*hop->out[OUTLET_MAIN].writer.ring.wants_space);
	if (hop_has_backlog(hop)) {
		bool asked = false;

		for (unsigned i = 0; i < hop->traits->outlets; i++)
			asked |= *hop->out[i].writer.ring.wants_space != 0;
		assert_true(asked);
	}
}

void rig_check(struct rig *rig)
{
	struct participant *participant;

	LL_FOREACH(rig->parties, participant)
		check_party(participant);
}

void rig_settle(struct rig *rig)
{
	bool again = true;

	for (int rounds = 0; again; rounds++) {
		struct participant *participant;

		assert_true(rounds < 100000);
		again = rig->elsewhere && rig->elsewhere(rig);
		LL_FOREACH(rig->parties, participant) {
			if (participant->kicked) {
				turn(participant);
				again = true;
			}
		}
		for (unsigned i = 0; i < 2; i++)
			switch_pass(&rig->board[i]);
		LL_FOREACH(rig->parties, participant) {
			evtimer_del(participant->hop.waiting.stuck_timer);
			evtimer_del(participant->hop.taken.timer);
		}
		for (unsigned i = 0; i < 2; i++) {
			if (switch_is_busy(&rig->board[i])) {
				event_base_loop(rig->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
				again = true;
			}
		}
	}
	rig->settled++;
	if (!rig->is_late)
		rig_check(rig);
}

void rig_fire_stuck(struct participant *participant)
{
	event_active(participant->hop.waiting.stuck_timer, EV_TIMEOUT, 0);
	event_base_loop(participant->rig->base, EVLOOP_NONBLOCK);
	rig_settle(participant->rig);
}

static void participant_free(struct participant *participant)
{
	hop_detach(&participant->hop);
	hop_reset_channels(&participant->hop, ECONNRESET);
	hop_cleanup(&participant->hop);
	switch_pass(participant->hop.board);
	if (!participant->shared) {
		ring_free(participant->to_daemon);
		for (unsigned i = 0; i < HOP_OUTLETS; i++)
			ring_free(participant->from_daemon[i]);
	}
	evbuffer_free(participant->queue);
	if (participant->captured)
		evbuffer_free(participant->captured);
	free(participant);
}

void rig_stop(struct rig *rig)
{
	struct participant *participant, *next;

	LL_FOREACH_SAFE(rig->parties, participant, next) {
		if (participant->shared) {
			LL_DELETE(rig->parties, participant);
			participant_free(participant);
		}
	}
	LL_FOREACH_SAFE(rig->parties, participant, next) {
		LL_DELETE(rig->parties, participant);
		participant_free(participant);
	}
	for (unsigned i = 0; i < 2; i++) {
		switch_pass(&rig->board[i]);
		assert_null(rig->board[i].ended);
		assert_null(rig->board[i].marked[MARK_DIRTY]);
		assert_null(rig->board[i].marked[MARK_FAILED]);
		assert_int_equal(rig->board[i].turns.due, 0);
		switch_cleanup(&rig->board[i]);
	}
	event_base_free(rig->base);
}

/* --- as the owner of the daemon's end --------------------------------------------------------- */

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	struct participant *participant = owner;

	participant->controls++;
	if (header->type == FRAME_GOODBYE)
		participant->hop.said_goodbye = true;
	return participant->control_result;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct participant *participant = owner, *to;
	char name[128] = "";
	int r;

	memcpy(name, open->name.data, open->name.size < 127 ? open->name.size : 127);
	participant->last_channel = channel;
	if (participant->open)
		return participant->open(participant, channel, open);
	to = participant->route ? participant->route(participant, name) : NULL;
	if (!to) {
		channel_refuse(channel, ENOENT);
		return 0;
	}
	r = channel_accept(channel, &to->hop, name);
	if (r < 0)
		channel_refuse(channel, -r);
	return 0;
}

static void on_notify(void *owner)
{
	struct participant *participant = owner;

	participant->woken++;
	participant->woken_at = ++participant->rig->woken;
	if (participant->wired)
		participant_kick(participant->wired);
	else if (participant->readable_when_woken <= 0)
		participant->readable_when_woken = ring_reader_ready(&participant->in[0], UINT32_MAX);
}

static void on_failed(void *owner, int error, const char *why)
{
	struct participant *participant = owner;

	assert_false(participant->failed);
	participant->failed = true;
	participant->error = error;
	snprintf(participant->why, sizeof(participant->why), "%s", why);
	hop_detach(&participant->hop);
	hop_reset_channels(&participant->hop, participant->hop.traits->is_daemon ? EHOSTDOWN : ENOENT);
}

static const struct hop_callbacks hop_callbacks = {
	.control = on_control,
	.open = on_open,
	.notify = on_notify,
	.failed = on_failed,
};

void participant_attach(struct participant *participant)
{
	struct hop_rings rings = {
		.in = participant->to_daemon->view,
		.adopt = true,
	};

	for (unsigned i = 0; i < participant->hop.traits->outlets; i++)
		rings.out[i] = participant->from_daemon[i]->view;
	assert_int_equal(hop_attach(&participant->hop, &rings), 0);
	if (!participant->wired) {
		assert_int_equal(ring_writer_init(&participant->out, &participant->to_daemon->view, true), 0);
		for (unsigned i = 0; i < participant->hop.traits->outlets; i++)
			assert_int_equal(ring_reader_init(&participant->in[i],
							  &participant->from_daemon[i]->view, true),
					 0);
	}
	turn(participant);
}

static struct participant *participant_alloc(struct rig *rig, const struct rig_options *options)
{
	struct participant *participant = calloc(1, sizeof(*participant));

	assert_non_null(participant);
	participant->rig = rig;
	participant->queue = evbuffer_new();
	assert_non_null(participant->queue);
	assert_int_equal(hop_init(&participant->hop, &rig->board[options->daemon], options->kind,
				  &hop_callbacks, participant, options->parity,
				  options->channels_max ? options->channels_max : 200),
			 0);
	LL_APPEND(rig->parties, participant);
	return participant;
}

struct participant *participant_new(struct rig *rig, const struct rig_options *options)
{
	struct participant *participant = participant_alloc(rig, options);
	uint32_t index = options->adopt_indices ? 0u - options->ring / 2 : 0;

	index &= ~7u;
	participant->to_daemon = ring_new(options->out_ring ? options->out_ring : options->ring, index);
	participant->from_daemon[0] = ring_new(options->ring, index);
	if (participant->hop.traits->outlets > 1)
		participant->from_daemon[1] = ring_new(options->ring, index);
	if (!options->detached)
		participant_attach(participant);
	return participant;
}

void participant_wire(struct rig *rig, uint32_t ring, struct participant **out_a, struct participant **out_b)
{
	struct participant *a =
		participant_alloc(rig, &(struct rig_options){.kind = HOP_LINK, .daemon = 0, .parity = 0});
	struct participant *b =
		participant_alloc(rig, &(struct rig_options){.kind = HOP_LINK, .daemon = 1, .parity = 1});

	a->wired = b;
	b->wired = a;
	b->shared = true;
	a->to_daemon = b->from_daemon[0] = ring_new(ring, 0);
	a->from_daemon[0] = b->to_daemon = ring_new(ring, 0);
	participant_attach(a);
	participant_attach(b);
	*out_a = a;
	*out_b = b;
}

void participant_kill(struct participant *participant)
{
	if (participant->failed)
		return;
	hop_finish(&participant->hop, -ECONNRESET, "the program has gone");
	while (switch_is_busy(participant->hop.board))
		switch_pass(participant->hop.board);
}

void participant_expect_refusal(struct participant *participant, uint32_t number, uint32_t error)
{
	static struct participant_frame frame;
	struct frame_reset reset;

	assert_true(participant_expect(participant, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
	assert_int_equal(reset.consumed, 0);
	assert_int_equal(reset.unsure, 0);
	participant_reset(participant, number, 0, 0, 0);
	rig_settle(participant->rig);
	assert_false(participant->failed);
}
