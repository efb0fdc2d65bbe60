/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/hop_rig.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <utlist.h>

#include "tests/unit/random.h"
#include "wire/bytes.h"

/* --- the rig ---------------------------------------------------------------------------------- */

void rig_start(struct rig *rig, uint64_t seed)
{
	*rig = (struct rig){.random = seed * 2654435761u + 1};
	rig->base = event_base_new();
	assert_non_null(rig->base);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(relay_init(&rig->relay[i], rig->base, 16u << 20), 0);
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

static void turn(struct party *party)
{
	party->kicked = false;
	hop_event(&party->hop);
	relay_pass(party->hop.relay);
}

void party_kick(struct party *party)
{
	party->kicked = true;
}

static bool is_hungry(struct party *party)
{
	return hop_is_up(&party->hop);
}

/* Whoever has something to do has asked for what lets it do it. */
static void check_party(struct party *party)
{
	struct hop *hop = &party->hop;
	struct ring_view *in;

	if (!is_hungry(party))
		return;
	in = &hop->in.reader.ring;
	assert_false(hop_is_marked(hop, MARK_DIRTY));
	if (hop->waiting.blocked_on)
		assert_true(hop->waiting.blocked_on->out[OUTLET_MAIN].writer.ring.wants_space[0] &
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
	if (hop->urgent || evbuffer_get_length(hop->control) || hop->waiting.waiters)
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
	struct party *party;

	LL_FOREACH(rig->parties, party)
		check_party(party);
}

void rig_settle(struct rig *rig)
{
	bool again = true;

	for (int rounds = 0; again; rounds++) {
		struct party *party;

		assert_true(rounds < 100000);
		again = rig->elsewhere && rig->elsewhere(rig);
		LL_FOREACH(rig->parties, party) {
			if (party->kicked) {
				turn(party);
				again = true;
			}
		}
		for (unsigned i = 0; i < 2; i++)
			relay_pass(&rig->relay[i]);
		LL_FOREACH(rig->parties, party) {
			evtimer_del(party->hop.waiting.stuck_timer);
			evtimer_del(party->hop.taken.timer);
		}
		for (unsigned i = 0; i < 2; i++) {
			if (relay_is_busy(&rig->relay[i])) {
				event_base_loop(rig->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
				again = true;
			}
		}
	}
	rig->settled++;
	if (!rig->is_late)
		rig_check(rig);
}

void rig_fire_stuck(struct party *party)
{
	event_active(party->hop.waiting.stuck_timer, EV_TIMEOUT, 0);
	event_base_loop(party->rig->base, EVLOOP_NONBLOCK);
	rig_settle(party->rig);
}

static void party_free(struct party *party)
{
	hop_detach(&party->hop);
	hop_reset_channels(&party->hop, ECONNRESET);
	hop_cleanup(&party->hop);
	relay_pass(party->hop.relay);
	if (!party->shared) {
		ring_free(party->to_daemon);
		for (unsigned i = 0; i < HOP_OUTLETS; i++)
			ring_free(party->from_daemon[i]);
	}
	evbuffer_free(party->queue);
	if (party->captured)
		evbuffer_free(party->captured);
	free(party);
}

void rig_stop(struct rig *rig)
{
	struct party *party, *next;

	LL_FOREACH_SAFE(rig->parties, party, next) {
		if (party->shared) {
			LL_DELETE(rig->parties, party);
			party_free(party);
		}
	}
	LL_FOREACH_SAFE(rig->parties, party, next) {
		LL_DELETE(rig->parties, party);
		party_free(party);
	}
	for (unsigned i = 0; i < 2; i++) {
		relay_pass(&rig->relay[i]);
		assert_null(rig->relay[i].ended);
		assert_null(rig->relay[i].marked[MARK_DIRTY]);
		assert_null(rig->relay[i].marked[MARK_FAILED]);
		assert_int_equal(rig->relay[i].turns.due, 0);
		relay_cleanup(&rig->relay[i]);
	}
	event_base_free(rig->base);
}

/* --- as the owner of the daemon's end --------------------------------------------------------- */

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	struct party *party = owner;

	party->controls++;
	if (header->type == FRAME_GOODBYE)
		party->hop.said_goodbye = true;
	return party->control_result;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct party *party = owner, *to;
	char name[128] = "";
	int r;

	memcpy(name, open->name.data, open->name.size < 127 ? open->name.size : 127);
	party->last_channel = channel;
	if (party->open)
		return party->open(party, channel, open);
	to = party->route ? party->route(party, name) : NULL;
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
	struct party *party = owner;

	party->woken++;
	party->woken_at = ++party->rig->woken;
	if (party->wired)
		party_kick(party->wired);
	else if (party->readable_when_woken <= 0)
		party->readable_when_woken = ring_reader_ready(&party->in[0], UINT32_MAX);
}

static void on_failed(void *owner, int error, const char *why)
{
	struct party *party = owner;

	assert_false(party->failed);
	party->failed = true;
	party->error = error;
	snprintf(party->why, sizeof(party->why), "%s", why);
	hop_detach(&party->hop);
	hop_reset_channels(&party->hop, party->hop.traits->is_daemon ? EHOSTDOWN : ENOENT);
}

static const struct hop_callbacks hop_callbacks = {
	.control = on_control,
	.open = on_open,
	.notify = on_notify,
	.failed = on_failed,
};

void party_attach(struct party *party)
{
	struct hop_rings rings = {
		.in = party->to_daemon->view,
		.adopt = true,
	};

	for (unsigned i = 0; i < party->hop.traits->outlets; i++)
		rings.out[i] = party->from_daemon[i]->view;
	assert_int_equal(hop_attach(&party->hop, &rings), 0);
	if (!party->wired) {
		assert_int_equal(ring_writer_init(&party->out, &party->to_daemon->view, true), 0);
		for (unsigned i = 0; i < party->hop.traits->outlets; i++)
			assert_int_equal(ring_reader_init(&party->in[i], &party->from_daemon[i]->view, true),
					 0);
	}
	turn(party);
}

static struct party *party_alloc(struct rig *rig, const struct rig_options *options)
{
	struct party *party = calloc(1, sizeof(*party));

	assert_non_null(party);
	party->rig = rig;
	party->queue = evbuffer_new();
	assert_non_null(party->queue);
	assert_int_equal(hop_init(&party->hop, &rig->relay[options->daemon], options->kind, &hop_callbacks,
				  party, options->parity,
				  options->channels_max ? options->channels_max : 200),
			 0);
	LL_APPEND(rig->parties, party);
	return party;
}

struct party *party_new(struct rig *rig, const struct rig_options *options)
{
	struct party *party = party_alloc(rig, options);
	uint32_t index = options->adopt_indices ? 0u - options->ring / 2 : 0;

	index &= ~7u;
	party->to_daemon = ring_new(options->out_ring ? options->out_ring : options->ring, index);
	party->from_daemon[0] = ring_new(options->ring, index);
	if (party->hop.traits->outlets > 1)
		party->from_daemon[1] = ring_new(options->ring, index);
	if (!options->detached)
		party_attach(party);
	return party;
}

void party_wire(struct rig *rig, uint32_t ring, struct party **out_a, struct party **out_b)
{
	struct party *a = party_alloc(rig, &(struct rig_options){.kind = HOP_LINK, .daemon = 0, .parity = 0});
	struct party *b = party_alloc(rig, &(struct rig_options){.kind = HOP_LINK, .daemon = 1, .parity = 1});

	a->wired = b;
	b->wired = a;
	b->shared = true;
	a->to_daemon = b->from_daemon[0] = ring_new(ring, 0);
	a->from_daemon[0] = b->to_daemon = ring_new(ring, 0);
	party_attach(a);
	party_attach(b);
	*out_a = a;
	*out_b = b;
}

void party_kill(struct party *party)
{
	if (party->failed)
		return;
	hop_finish(&party->hop, -ECONNRESET, "the program has gone");
	while (relay_is_busy(party->hop.relay))
		relay_pass(party->hop.relay);
}

void party_expect_refusal(struct party *party, uint32_t number, uint32_t error)
{
	static struct party_frame frame;
	struct frame_reset reset;

	assert_true(party_expect(party, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
	assert_int_equal(reset.consumed, 0);
	assert_int_equal(reset.unsure, 0);
	party_reset(party, number, 0, 0, 0);
	rig_settle(party->rig);
	assert_false(party->failed);
}
