/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Channels from their opening to their end, whoever ends them, and what their openers are told about their
 * messages. */
#include "tests/unit/hop_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "wire/bytes.h"

#define RING 65536u

/* Two programs and a peer's daemon. */
struct scene {
	struct rig rig;
	struct party *a, *b, *link;
};

static struct party *to_b(struct party *party, const char *name)
{
	return party->rig->parties->next;
}

static struct party *to_link(struct party *party, const char *name)
{
	return name[0] == 'x' ? party->rig->parties->next->next : to_b(party, name);
}

static void scene_with(struct scene *scene, uint32_t link_ring, bool b_is_lenient, bool detached)
{
	rig_start(&scene->rig, 1);
	scene->a =
		party_new(&scene->rig, &(struct rig_options){.kind = HOP_SHARED, .ring = RING, .parity = 1});
	scene->b = party_new(&scene->rig, &(struct rig_options){
						  .kind = b_is_lenient ? HOP_SOCKET : HOP_SHARED,
						  .ring = b_is_lenient ? 131072 : RING,
						  .parity = 1,
					  });
	scene->link = party_new(&scene->rig, &(struct rig_options){
						     .kind = HOP_LINK,
						     .ring = link_ring,
						     .out_ring = RING,
						     .detached = detached,
					     });
	scene->a->route = to_link;
	scene->b->route = to_link;
	scene->link->route = to_b;
}

static void scene_start(struct scene *scene)
{
	scene_with(scene, RING, false, false);
}

/* Everybody reads all there is, until nothing moves. */
static void read_all(struct scene *scene)
{
	struct party *parties[] = {scene->a, scene->b, scene->link};
	uint32_t moved = 1;

	while (moved) {
		moved = 0;
		rig_settle(&scene->rig);
		for (unsigned i = 0; i < 3; i++)
			moved += party_read(parties[i], 1u << 30);
	}
}

static void nothing_is_left(struct scene *scene)
{
	read_all(scene);
	assert_int_equal(scene->a->hop.channels.count, 0);
	assert_int_equal(scene->b->hop.channels.count, 0);
	assert_int_equal(scene->link->hop.channels.count, 0);
	assert_null(scene->a->hop.urgent);
	assert_null(scene->b->hop.backlog);
	assert_null(scene->link->hop.backlog);
	rig_stop(&scene->rig);
}

static void send_bytes(struct party *party, uint32_t number, uint32_t size)
{
	assert_int_equal(party_data(party, number, size, false), size);
	rig_settle(party->rig);
}

static const struct party_channel *expect_reset(struct party *party, uint32_t number, uint32_t error,
						uint64_t consumed, uint64_t unsure)
{
	const struct party_channel *channel = party_channel(party, number);

	rig_settle(party->rig);
	party_read(party, 1u << 30);
	assert_true(channel->reset_in);
	assert_int_equal(channel->reset.error, error);
	assert_int_equal(channel->reset.consumed, consumed);
	assert_int_equal(channel->reset.unsure, unsure);
	return channel;
}

/* --- what the opener is told ------------------------------------------------------------------ */

static void an_endpoint_that_is_not_there_refuses_with_nothing_taken(void **state)
{
	struct scene scene;

	scene_start(&scene);
	scene.a->route = NULL;
	party_open(scene.a, 0, "p_1");
	party_data(scene.a, 0, 1000, false);
	expect_reset(scene.a, 0, ENOENT, 0, 0);
	nothing_is_left(&scene);
}

static void what_the_opener_sent_before_its_reset_is_delivered_and_so_unsure(void **state)
{
	struct scene scene;

	scene_start(&scene);
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 104);
	party_reset(scene.a, 0, EPIPE, 0, 0);
	expect_reset(scene.a, 0, EPIPE, 0, 104);
	read_all(&scene);
	assert_int_equal(party_accepted(scene.b, 1)->taken, 104);
	assert_true(party_accepted(scene.b, 1)->reset_in);
	nothing_is_left(&scene);
}

static void reset_before_a_release_wins_over_it(void **state)
{
	struct scene scene;
	struct party_frame frame;

	scene_start(&scene);
	scene.b->no_auto_answer = true;
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 104);
	party_read(scene.b, 0);
	assert_true(party_get(scene.b, OUTLET_MAIN, &frame));
	assert_true(party_get(scene.b, OUTLET_DELIVERIES, &frame));
	party_channel(scene.b, frame.header.channel)->used = true;
	party_reset(scene.b, frame.header.channel, ENOENT, 0, 0);
	party_release(scene.b, OUTLET_MAIN);
	party_release(scene.b, OUTLET_DELIVERIES);
	expect_reset(scene.a, 0, ENOENT, 0, 0);
	rig_settle(&scene.rig);
	scene.b->no_auto_answer = false;
	nothing_is_left(&scene);
}

/* The daemon reads the program's input in parts, and the RESET lies behind the first part. */
static void reset_before_a_release_wins_also_if_the_input_is_long(void **state)
{
	struct scene scene;
	struct party_frame frame;
	struct party *b;

	scene_start(&scene);
	b = party_new(
		&scene.rig,
		&(struct rig_options){.kind = HOP_SHARED, .ring = RING, .out_ring = 1u << 20, .parity = 1});
	/* to_b() is the second one of the rig */
	scene.rig.parties->next = b;
	scene.link->next = scene.b;
	scene.b->next = NULL;
	b->next = scene.link;
	b->no_auto_answer = true;
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 104);
	assert_true(party_get(b, OUTLET_MAIN, &frame));
	assert_true(party_get(b, OUTLET_DELIVERIES, &frame));
	for (int i = 0; i < 400; i++)
		party_put(b, FRAME_OPTIONAL, 0, frame.payload, 2000);
	party_channel(b, frame.header.channel)->used = true;
	party_reset(b, frame.header.channel, ENOENT, 0, 0);
	party_release(b, OUTLET_MAIN);
	party_release(b, OUTLET_DELIVERIES);
	expect_reset(scene.a, 0, ENOENT, 0, 0);
	nothing_is_left(&scene);
}

static void consumed_is_what_the_program_has_released_also_within_a_frame(void **state)
{
	struct scene scene;

	scene_start(&scene);
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 1000);
	party_read(scene.b, 504);
	rig_settle(&scene.rig);
	party_read(scene.a, 1u << 30);
	assert_int_equal(party_accepted(scene.b, 1)->taken, party_channel(scene.a, 0)->confirmed);
	assert_int_equal(party_channel(scene.a, 0)->confirmed, 504);
	send_bytes(scene.a, 0, 16);
	party_read(scene.b, 256);
	rig_settle(&scene.rig);
	party_read(scene.a, 1u << 30);
	assert_int_equal(party_channel(scene.a, 0)->confirmed, 760);
	party_kill(scene.b);
	expect_reset(scene.a, 0, ENOENT, 760, 1016);
	nothing_is_left(&scene);
}

/* --- whoever dies, in whatever state ---------------------------------------------------------- */

enum moment {
	OPEN_NOT_SENT,
	NOT_OPENED,
	DATA_QUEUED,
	DATA_HANDED,
	DATA_PARTLY_TAKEN,
	FIN_SENT,
	FIN_ANSWERED,
	RESET_PENDING,
	MOMENTS,
};

/* Brings a channel of A's to the moment; the acceptor is B or the peer. Returns what was handed to the
 * acceptor. */
static uint64_t bring_to(struct scene *scene, enum moment moment, bool over_link)
{
	struct party *to = over_link ? scene->link : scene->b;
	struct channel *channel;

	party_open(scene->a, 0, over_link ? "x_1" : "p_1");
	if (moment == NOT_OPENED || moment == OPEN_NOT_SENT) {
		send_bytes(scene->a, 0, 800);
		return moment == NOT_OPENED ? 800 : 0;
	}
	rig_settle(&scene->rig);
	channel = scene->a->last_channel;
	if (moment == DATA_QUEUED) {
		/* more than a ring holds */
		send_bytes(scene->a, 0, 60000);
		if (over_link)
			rig_fire_stuck(scene->link);
		send_bytes(scene->a, 0, 5536);
		if (over_link)
			rig_fire_stuck(scene->link);
		return channel->acceptor.sent;
	}
	send_bytes(scene->a, 0, 800);
	if (moment == DATA_HANDED)
		return 800;
	if (moment == DATA_PARTLY_TAKEN) {
		while (party_accepted(to, 1) == NULL || party_accepted(to, 1)->taken == 0)
			assert_true(party_read(to, 200) > 0);
		rig_settle(&scene->rig);
		return 800;
	}
	if (moment == RESET_PENDING) {
		party_reset(scene->a, 0, EPIPE, 0, 0);
		rig_settle(&scene->rig);
		return 800;
	}
	party_fin(scene->a, 0);
	rig_settle(&scene->rig);
	if (moment == FIN_ANSWERED) {
		party_read(to, 1u << 30);
		rig_settle(&scene->rig);
	}
	return 800;
}

static void acceptor_dies(enum moment moment, bool over_link)
{
	struct scene scene;
	struct party_channel *channel;
	uint64_t handed, taken;
	bool detached = moment == OPEN_NOT_SENT;

	if (detached && !over_link)
		return;
	scene_with(&scene, moment == DATA_QUEUED ? 1024 : RING, false, detached);
	handed = bring_to(&scene, moment, over_link);
	if (over_link && detached) {
		hop_reset_channels(&scene.link->hop, EHOSTDOWN);
		relay_pass(scene.link->hop.relay);
	} else {
		party_kill(over_link ? scene.link : scene.b);
	}
	channel = party_channel(scene.a, 0);
	taken = party_accepted(over_link ? scene.link : scene.b, 1)
			? party_accepted(over_link ? scene.link : scene.b, 1)->taken
			: 0;
	rig_settle(&scene.rig);
	party_read(scene.a, 1u << 30);
	if (moment == FIN_ANSWERED) {
		assert_true(channel->fin_in);
		assert_false(channel->reset_in);
		assert_int_equal(channel->confirmed, 800);
	} else {
		assert_true(channel->reset_in);
		if (moment == RESET_PENDING) {
			assert_int_equal(channel->reset.error, EPIPE);
		} else {
			assert_int_equal(channel->reset.error, over_link ? EHOSTDOWN : ENOENT);
			assert_int_equal(channel->reset.consumed, taken);
			assert_int_equal(channel->reset.unsure, handed);
		}
	}
	nothing_is_left(&scene);
}

static void opener_dies(enum moment moment, bool over_link)
{
	struct scene scene;
	struct party *to;
	struct party_channel *channel;
	uint64_t sent;

	if (moment == OPEN_NOT_SENT)
		return;
	scene_with(&scene, moment == DATA_QUEUED ? 1024 : RING, false, false);
	to = over_link ? scene.link : scene.b;
	bring_to(&scene, moment, over_link);
	sent = party_channel(scene.a, 0)->sent;
	party_kill(scene.a);
	read_all(&scene);
	channel = party_accepted(to, 1);
	assert_non_null(channel);
	/* What it said before it died is heard. */
	assert_int_equal(channel->taken, sent);
	if (moment == FIN_SENT || moment == FIN_ANSWERED) {
		assert_true(channel->fin_in);
		assert_false(channel->reset_in);
	} else {
		assert_true(channel->reset_in);
		assert_int_equal(channel->reset.error, moment == RESET_PENDING ? EPIPE : ECONNRESET);
	}
	nothing_is_left(&scene);
}

static void death_of_the_acceptor_ends_a_channel_in_every_state(void **state)
{
	for (enum moment moment = 0; moment < MOMENTS; moment++) {
		acceptor_dies(moment, false);
		acceptor_dies(moment, true);
	}
}

static void death_of_the_opener_ends_a_channel_behind_its_data(void **state)
{
	for (enum moment moment = 0; moment < MOMENTS; moment++) {
		opener_dies(moment, false);
		opener_dies(moment, true);
	}
}

static void both_ends_in_one_session_die_together(void **state)
{
	struct scene scene;

	scene_start(&scene);
	party_open(scene.b, 0, "p_1");
	send_bytes(scene.b, 0, 800);
	party_kill(scene.b);
	nothing_is_left(&scene);
}

static void what_a_program_took_before_it_died_was_delivered(void **state)
{
	struct scene scene;

	scene_start(&scene);
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 800);
	/* It takes everything, and then the end of its socket is seen first. */
	party_read(scene.b, 1u << 30);
	scene.b->kicked = false;
	hop_finish(&scene.b->hop, -ECONNRESET, "the program has gone");
	relay_pass(scene.b->hop.relay);
	expect_reset(scene.a, 0, ENOENT, 800, 800);
	nothing_is_left(&scene);
}

static void who_takes_its_leave_leaves_no_doubt(void **state)
{
	struct scene scene;
	uint8_t payload[8] = {0};

	scene_start(&scene);
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 800);
	party_read(scene.b, 400);
	party_put(scene.b, FRAME_GOODBYE, 0, payload, 4);
	party_kill(scene.b);
	expect_reset(scene.a, 0, ENOENT, party_accepted(scene.b, 1)->taken,
		     party_accepted(scene.b, 1)->taken);
	nothing_is_left(&scene);
}

static void what_a_program_sent_before_it_died_goes_on(void **state)
{
	struct scene scene;

	scene_with(&scene, 1024, false, false);
	party_open(scene.a, 0, "x_1");
	send_bytes(scene.a, 0, 50000); /* the link is full: most of it waits in the program's ring */
	scene.a->kicked = false;
	hop_finish(&scene.a->hop, -ECONNRESET, "the program has gone");
	relay_pass(scene.a->hop.relay);
	read_all(&scene);
	assert_int_equal(party_accepted(scene.link, 1)->taken, 50000);
	nothing_is_left(&scene);
}

/* --- numbers, and frames that come late ------------------------------------------------------- */

static void number_is_free_as_soon_as_the_channel_has_ended(void **state)
{
	struct scene scene;

	scene_start(&scene);
	scene.link->route = NULL;
	scene.link->no_auto_answer = true;
	for (int i = 0; i < 3; i++) {
		party_open(scene.link, 1, "p_1");
		rig_settle(&scene.rig);
		expect_reset(scene.link, 1, ENOENT, 0, 0);
		/* The answer, and the next OPEN right behind it. */
		party_reset(scene.link, 1, ENOENT, 0, 0);
	}
	scene.link->route = to_b;
	scene.link->no_auto_answer = false;
	party_open(scene.link, 1, "p_2");
	send_bytes(scene.link, 1, 800);
	assert_false(scene.link->failed);
	party_fin(scene.link, 1);
	read_all(&scene);
	assert_true(party_channel(scene.link, 1)->fin_in);
	/* The same after FINs. */
	party_open(scene.link, 1, "p_3");
	party_fin(scene.link, 1);
	nothing_is_left(&scene);
}

static void late_frames_of_an_ended_channel_are_ignored(void **state)
{
	struct scene scene;
	uint8_t bytes[2000] = {0};

	scene_start(&scene);
	party_credit(scene.link, 1, 100, 1u << 20);
	party_put(scene.link, FRAME_FIN, 1, bytes, 8);
	party_cancel(scene.link, 7, 8);
	party_put(scene.link, FRAME_CANCELLED, 7, bytes, 12);
	party_put(scene.link, FRAME_OPENED, 9, bytes, 16);
	rig_settle(&scene.rig);
	assert_false(scene.link->failed);
	nothing_is_left(&scene);
}

static void reset_of_an_ended_channel_is_answered_however_long_it_is(void **state)
{
	struct scene scene;
	struct party_frame frame;
	uint8_t bytes[2000] = {ETIMEDOUT};

	scene_with(&scene, 1024, false, false);
	party_put(scene.link, FRAME_RESET, 1, bytes, sizeof(bytes)); /* as a later version's might be */
	assert_true(party_expect(scene.link, FRAME_RESET, &frame));
	assert_int_equal(frame.header.length, 24);
	assert_int_equal(get_u32(frame.payload), ETIMEDOUT);
	nothing_is_left(&scene);
}

static void resets_that_cross_need_no_answer(void **state)
{
	struct scene scene;
	struct party_frame frame;

	scene_start(&scene);
	scene.a->no_auto_answer = true;
	party_open(scene.a, 0, "p_1");
	send_bytes(scene.a, 0, 8);
	party_read(scene.b, 0);
	party_reset(scene.a, 0, EPIPE, 0, 0); /* on its way */
	party_kill(scene.b);
	rig_settle(&scene.rig);
	assert_true(party_expect(scene.a, FRAME_RESET, &frame));
	assert_false(party_expect(scene.a, FRAME_RESET, &frame));
	assert_int_equal(scene.a->hop.channels.count, 0);
	nothing_is_left(&scene);
}

static void data_after_fin_or_a_wrong_total_is_a_violation(void **state)
{
	for (int i = 0; i < 3; i++) {
		struct scene scene;
		uint8_t payload[8] = {0};

		scene_start(&scene);
		party_open(scene.a, 0, "p_1");
		send_bytes(scene.a, 0, 16);
		if (i == 0) {
			party_put(scene.a, FRAME_FIN, 0, payload, frame_u64_encode(8, payload));
		} else {
			party_fin(scene.a, 0);
			if (i == 1)
				party_data(scene.a, 0, 8, false);
			else
				party_fin(scene.a, 0);
		}
		rig_settle(&scene.rig);
		assert_true(scene.a->failed);
		assert_int_equal(scene.a->error, -EPROTO);
		assert_false(scene.b->failed);
		nothing_is_left(&scene);
	}
}

/* --- credit ----------------------------------------------------------------------------------- */

static void limit_never_falls_and_the_window_is_bounded(void **state)
{
	struct scene scene;
	struct party_channel *channel;
	uint64_t before = 0, most = 0;

	scene_start(&scene);
	party_open(scene.a, 0, "p_1");
	channel = party_channel(scene.a, 0);
	/* A reader that is always far behind: the window grows until it may not any more. */
	for (int i = 0; i < 3000; i++) {
		party_data(scene.a, 0, 60000, false);
		rig_settle(&scene.rig);
		party_read(scene.b, 20000);
		rig_settle(&scene.rig);
		party_read(scene.a, 1u << 30); /* asserts that no CREDIT takes something back */
		assert_true(channel->limit >= before);
		before = channel->limit;
		if (channel->limit - channel->confirmed > most)
			most = channel->limit - channel->confirmed;
	}
	assert_int_equal(most, CHANNEL_WINDOW_MAX);
	party_fin(scene.a, 0);
	nothing_is_left(&scene);
}

static void enormous_limit_of_a_peer_does_not_fill_our_memory(void **state)
{
	struct scene scene;
	struct party_channel *channel;
	struct party_frame frame;
	uint8_t payload[16];

	scene_with(&scene, 1024, false, false);
	party_open(scene.a, 0, "x_1");
	assert_true(party_expect(scene.link, FRAME_OPEN, &frame));
	channel = party_channel(scene.a, 0);
	frame_opened_encode(&(struct frame_opened){.limit = UINT64_MAX, .max_message = UINT64_MAX}, payload);
	party_put(scene.link, FRAME_OPENED, frame.header.channel, payload, 16);
	rig_settle(&scene.rig);
	party_read(scene.a, 1u << 30);
	/* Nothing is taken, so it has its first window and no more. */
	assert_int_equal(channel->limit, CHANNEL_INITIAL_LIMIT);
	for (int i = 0; i < 40; i++) {
		party_data(scene.a, 0, 60000, false);
		rig_settle(&scene.rig);
		rig_fire_stuck(scene.link);
		party_read(scene.a, 1u << 30);
	}
	assert_int_equal(channel->sent, CHANNEL_INITIAL_LIMIT);
	assert_true(channel_queued(&scene.a->last_channel->acceptor) < CHANNEL_INITIAL_LIMIT);
	/* Even if all of it is said to be taken, again and again. */
	for (int i = 0; i < 100; i++) {
		uint64_t before = channel->sent;

		party_credit(scene.link, frame.header.channel, scene.a->last_channel->acceptor.sent,
			     UINT64_MAX);
		rig_settle(&scene.rig);
		party_read(scene.a, 1u << 30);
		party_data(scene.a, 0, 1u << 20, false);
		rig_settle(&scene.rig);
		rig_fire_stuck(scene.link);
		assert_true(channel->sent - before <= CHANNEL_WINDOW_MAX);
		assert_true(channel_queued(&scene.a->last_channel->acceptor) <= CHANNEL_WINDOW_MAX);
		scene.link->never_reads = true;
		scene.link->in[OUTLET_MAIN].tail = scene.link->in[OUTLET_MAIN].head;
		party_release(scene.link, OUTLET_MAIN);
		rig_settle(&scene.rig);
	}
	party_data(scene.a, 0, (uint32_t)(channel->limit - channel->sent), true);
	rig_settle(&scene.rig);
	party_data(scene.a, 0, 8, true);
	rig_settle(&scene.rig);
	assert_true(scene.a->failed);
	assert_false(scene.link->failed);
	party_kill(scene.link);
	nothing_is_left(&scene);
}

static void credit_for_bytes_that_were_never_sent_is_a_violation(void **state)
{
	struct scene scene;
	struct party_frame frame;

	scene_start(&scene);
	party_open(scene.a, 0, "x_1");
	send_bytes(scene.a, 0, 16);
	assert_true(party_expect(scene.link, FRAME_OPEN, &frame));
	party_credit(scene.link, frame.header.channel, 24, 100000);
	rig_settle(&scene.rig);
	assert_true(scene.link->failed);
	assert_false(scene.a->failed);
	nothing_is_left(&scene);
}

/* The opener, who believes its daemon, takes a second one for the end of the session. */
static void peer_that_says_twice_that_it_accepts_is_cut_off_alone(void **state)
{
	for (int at_once = 0; at_once < 2; at_once++) {
		struct scene scene;
		struct party_frame frame;
		uint8_t payload[16];

		scene_start(&scene);
		party_open(scene.a, 0, "x_1");
		assert_true(party_expect(scene.link, FRAME_OPEN, &frame));
		frame_opened_encode(&(struct frame_opened){.limit = 1u << 20, .max_message = 1u << 20},
				    payload);
		party_put(scene.link, FRAME_OPENED, frame.header.channel, payload, 16);
		if (!at_once)
			rig_settle(&scene.rig);
		party_put(scene.link, FRAME_OPENED, frame.header.channel, payload, 16);
		rig_settle(&scene.rig);
		assert_true(scene.link->failed);
		assert_int_equal(scene.link->error, -EPROTO);
		assert_false(scene.a->failed);
		/* fails the test at a second OPENED */
		read_all(&scene);
		assert_true(party_channel(scene.a, 0)->reset_in);
		nothing_is_left(&scene);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_endpoint_that_is_not_there_refuses_with_nothing_taken),
		cmocka_unit_test(what_the_opener_sent_before_its_reset_is_delivered_and_so_unsure),
		cmocka_unit_test(reset_before_a_release_wins_over_it),
		cmocka_unit_test(reset_before_a_release_wins_also_if_the_input_is_long),
		cmocka_unit_test(consumed_is_what_the_program_has_released_also_within_a_frame),
		cmocka_unit_test(death_of_the_acceptor_ends_a_channel_in_every_state),
		cmocka_unit_test(death_of_the_opener_ends_a_channel_behind_its_data),
		cmocka_unit_test(both_ends_in_one_session_die_together),
		cmocka_unit_test(what_a_program_took_before_it_died_was_delivered),
		cmocka_unit_test(who_takes_its_leave_leaves_no_doubt),
		cmocka_unit_test(what_a_program_sent_before_it_died_goes_on),
		cmocka_unit_test(number_is_free_as_soon_as_the_channel_has_ended),
		cmocka_unit_test(late_frames_of_an_ended_channel_are_ignored),
		cmocka_unit_test(reset_of_an_ended_channel_is_answered_however_long_it_is),
		cmocka_unit_test(resets_that_cross_need_no_answer),
		cmocka_unit_test(data_after_fin_or_a_wrong_total_is_a_violation),
		cmocka_unit_test(limit_never_falls_and_the_window_is_bounded),
		cmocka_unit_test(enormous_limit_of_a_peer_does_not_fill_our_memory),
		cmocka_unit_test(credit_for_bytes_that_were_never_sent_is_a_violation),
		cmocka_unit_test(peer_that_says_twice_that_it_accepts_is_cut_off_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
