/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CANCEL, wherever the message is: the answer is one, true, and the one who lies about it harms nobody
 * else. */
#include "tests/unit/hop_rig.h"

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/quota.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/sharing.h"
#include "wire/bytes.h"

struct scene {
	struct rig rig;
	struct participant *a, *b, *link;
	struct quota *quota; /* if A pays */
};

static struct participant *route(struct participant *participant, const char *name)
{
	return name[0] == 'x' ? participant->rig->parties->next->next : participant->rig->parties->next;
}

static void scene_with(struct scene *scene, bool b_is_lenient, uint32_t link_ring)
{
	rig_start(&scene->rig, 1);
	scene->a = participant_new(&scene->rig,
				   &(struct rig_options){.kind = HOP_SHARED, .ring = 65536, .parity = 1});
	scene->b = participant_new(&scene->rig, &(struct rig_options){
							.kind = b_is_lenient ? HOP_SOCKET : HOP_SHARED,
							.ring = b_is_lenient ? 131072 : 4096,
							.out_ring = 65536,
							.parity = 1,
						});
	scene->link = participant_new(
		&scene->rig, &(struct rig_options){.kind = HOP_LINK, .ring = link_ring, .out_ring = 65536});
	scene->a->route = scene->b->route = scene->link->route = route;
	scene->b->captured = evbuffer_new();
}

static void scene_start(struct scene *scene)
{
	scene_with(scene, false, 65536);
}

static void start_with_lenient_b(struct scene *scene)
{
	scene_with(scene, true, 65536);
}

static void scene_stop(struct scene *scene)
{
	participant_kill(scene->a);
	participant_kill(scene->link);
	participant_kill(scene->b);
	rig_stop(&scene->rig);
	quota_free(scene->quota);
}

/* `count` messages of 8 bytes: 24 bytes each in the stream, their state at 16. */
static void send_messages(struct scene *scene, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint8_t message[24] = {8};

		memset(message + 8, (int)i + 1, 8);
		participant_put(scene->a, FRAME_DATA, 0, message, sizeof(message));
		participant_channel(scene->a, 0)->sent += sizeof(message);
	}
	rig_settle(&scene->rig);
}

/* Channel 0 leads to this name: "x" to the link, "p" to B. */
static void open_and_send(struct scene *scene, const char *name, unsigned count)
{
	participant_open(scene->a, 0, name);
	send_messages(scene, count);
}

static uint64_t state_of(unsigned message)
{
	return message * 24u + 16u;
}

static void cancel(struct scene *scene, unsigned message)
{
	participant_cancel(scene->a, 0, state_of(message));
	rig_settle(&scene->rig);
	participant_read(scene->a, 1u << 30);
	rig_settle(&scene->rig);
}

/* Of who was asked. */
static void answer(struct participant *participant, uint32_t channel, unsigned message, uint32_t result)
{
	struct frame_cancelled answer = {.offset = state_of(message), .result = result};
	uint8_t payload[FRAME_SMALL_MAX];

	participant_put(participant, FRAME_CANCELLED, channel, payload,
			frame_cancelled_encode(&answer, payload));
}

/* So many of A's have been answered, or given up. */
static void run_until_answered(struct scene *scene, uint32_t count)
{
	const struct participant_channel *channel = participant_channel(scene->a, 0);

	for (int i = 0; i < 100000 && channel->cancelled_count < count; i++) {
		event_base_loop(scene->rig.base, EVLOOP_ONCE);
		participant_read(scene->a, 1u << 30);
	}
	assert_int_equal(channel->cancelled_count, count);
}

static void expect_answer(struct scene *scene, uint32_t count, unsigned message, uint32_t result)
{
	struct participant_channel *channel = participant_channel(scene->a, 0);

	participant_read(scene->a, 1u << 30);
	assert_int_equal(channel->cancelled_count, count);
	if (count) {
		assert_int_equal(channel->cancelled_offset, state_of(message));
		assert_int_equal(channel->cancelled_result, result);
	}
	assert_false(scene->a->failed);
	assert_false(scene->b->failed);
	assert_false(scene->link->failed);
}

/* What the receiver finds as the state of a message, reading all. */
static uint32_t found(struct scene *scene, unsigned message)
{
	uint8_t state[4];
	struct evbuffer_ptr at;

	for (int i = 0; i < 1000; i++) {
		participant_read(scene->b, 1u << 30);
		rig_settle(&scene->rig);
	}
	assert_true(evbuffer_get_length(scene->b->captured) >= state_of(message) + 4);
	evbuffer_ptr_set(scene->b->captured, &at, state_of(message), EVBUFFER_PTR_SET);
	evbuffer_copyout_from(scene->b->captured, &at, state, 4);
	return get_u32(state);
}

SCENE_TEST(message_in_the_ring_of_a_program_is_cancelled_there, scene_start)
{
	open_and_send(scene, "p", 3);
	cancel(scene, 1);
	expect_answer(scene, 1, 1, ECANCELED);
	cancel(scene, 1);
	expect_answer(scene, 2, 1, ECANCELED);
	assert_int_equal(found(scene, 0), MESSAGE_SENT);
	assert_int_equal(found(scene, 1), MESSAGE_CANCELLED);
	assert_int_equal(found(scene, 2), MESSAGE_SENT);
}

/* The copy for another program at a shared endpoint, for which there was no memory from there on. */
SCENE_TEST(message_is_cancelled_whose_copy_ends_in_its_state, scene_start)
{
	struct channel *channel;

	open_and_send(scene, "p", 3);
	channel = hop_find_channel(&scene->a->hop, 0)->channel;
	assert_int_equal(sharing_begin(channel), 0);
	channel->sharing->from = 24;
	channel->sharing->broken = true;
	assert_int_equal(evbuffer_add(channel->sharing->copy, "\10\0\0\0\0\0\0\0messages\0\0", 18), 0);
	cancel(scene, 1);
	expect_answer(scene, 1, 1, ECANCELED);
	assert_int_equal(found(scene, 1), MESSAGE_CANCELLED);
}

SCENE_TEST(message_that_the_program_has_taken_is_not_cancelled, scene_start)
{
	uint32_t *words, i;

	open_and_send(scene, "p", 1);
	/* It has changed the state, and is still copying. */
	words = (uint32_t *)(void *)scene->b->from_daemon[OUTLET_DELIVERIES]->data;
	i = (FRAME_HEADER_SIZE + 16) / 4;
	assert_int_equal(words[i], MESSAGE_SENT);
	words[i] = MESSAGE_TAKEN;
	cancel(scene, 0);
	expect_answer(scene, 1, 0, 0);
	assert_int_equal(words[i], MESSAGE_TAKEN);
	/* And when that is long over. */
	participant_read(scene->b, 1u << 30);
	rig_settle(&scene->rig);
	cancel(scene, 0);
	expect_answer(scene, 2, 0, 0);
}

SCENE_TEST(message_in_the_queue_is_cancelled_in_the_queue, scene_start)
{
	open_and_send(scene, "p", 1000); /* six times what the ring holds */
	assert_true(channel_queued(&scene->a->last_channel->acceptor) > 10000);
	cancel(scene, 999);
	expect_answer(scene, 1, 999, ECANCELED);
	cancel(scene, 700);
	expect_answer(scene, 2, 700, ECANCELED);
	assert_int_equal(found(scene, 999), MESSAGE_CANCELLED);
	assert_int_equal(found(scene, 700), MESSAGE_CANCELLED);
	assert_int_equal(found(scene, 701), MESSAGE_SENT);
}

/* The program has released the message, the daemon has written over the place, and then only comes to the
 * CANCEL. */
SCENE_TEST(cancel_of_a_released_message_harms_no_other, scene_start)
{
	struct hop *hop;

	open_and_send(scene, "p", 160); /* the ring is full */
	hop = &scene->b->hop;
	/* It is in the midst of a turn, with a snapshot from before. */
	hop->taken.pending = true;
	hop->taken.mark = hop->in.reader.tail + 8;
	participant_read(scene->b, 1u << 30);
	scene->b->kicked = false;
	for (int i = 0; i < 60; i++) {
		uint8_t message[24] = {8};

		participant_put(scene->a, FRAME_DATA, 0, message, sizeof(message));
		participant_channel(scene->a, 0)->sent += sizeof(message);
	}
	scene->a->kicked = false;
	hop_event(&scene->a->hop);
	switch_pass(scene->a->hop.board);
	participant_cancel(scene->a, 0, state_of(3));
	scene->a->kicked = false;
	hop_event(&scene->a->hop);
	switch_pass(scene->a->hop.board);
	participant_read(scene->a, 1u << 30);
	assert_int_equal(participant_channel(scene->a, 0)->cancelled_count, 0);
	/* When the release is counted, it was taken. */
	hop->taken.pending = false;
	scene->b->kicked = true;
	rig_settle(&scene->rig);
	expect_answer(scene, 1, 3, 0);
	for (unsigned i = 0; i < 220; i++)
		assert_int_equal(found(scene, i), MESSAGE_SENT);
}

SCENE_TEST_EACH(socket_program_is_asked_and_its_answer_passed_on, start_with_lenient_b, is_cancelled, 2)
{
	const uint32_t result = is_cancelled ? ECANCELED : 0;
	struct participant_channel *channel;

	open_and_send(scene, "p", 3);
	cancel(scene, 1);
	cancel(scene, 1); /* asked twice, once */
	expect_answer(scene, 0, 0, 0);
	scene->b->no_auto_answer = true;
	participant_read(scene->b, 1u << 30);
	channel = participant_channel(scene->b, 1);
	assert_int_equal(channel->cancel_count, 1);
	assert_int_equal(channel->cancel_offset, state_of(1));
	for (int i = 0; i < 2; i++) {
		answer(scene->b, 1, 1, result);
		rig_settle(&scene->rig);
		expect_answer(scene, 1, 1, result);
	}
}

SCENE_TEST(peer_that_does_not_answer_in_time_leaves_it_unknown, scene_start)
{
	scene->rig.board[0].cancel_ms = 1;
	open_and_send(scene, "x", 3);
	cancel(scene, 0);
	cancel(scene, 2);
	run_until_answered(scene, 2);
	expect_answer(scene, 2, 2, ECONNRESET);
}

SCENE_TEST_EACH(answer_that_lies_there_unread_when_time_is_up_holds, scene_start, i, 2)
{
	/* In another round it isn't even read after as long again. */
	static const uint32_t again_ms[] = {3600000, 1}, results[] = {ECANCELED, ECONNRESET};
	struct participant_frame frame;

	scene->rig.board[0].cancel_ms = 1;
	open_and_send(scene, "x", 3);
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	cancel(scene, 1);
	answer(scene->link, frame.header.channel, 1, ECANCELED);
	scene->rig.board[0].cancel_ms = again_ms[i];
	for (uint64_t until = clock_ms() + 5; clock_ms() < until;)
		event_base_loop(scene->rig.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	/* If nobody has run all that time, what is due is done now. */
	for (unsigned pass = 0; pass < 10; pass++)
		event_base_loop(scene->rig.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	rig_settle(&scene->rig);
	expect_answer(scene, 1, 1, results[i]);
}

static const uint64_t wrong_offsets[] = {UINT64_MAX - 7, UINT64_MAX & ~7ull, 1ull << 63,
					 1000 * 24,	 24 * 999 + 24,	     4};

SCENE_TEST_EACH(offset_that_cannot_be_ends_only_the_session_of_who_sent_it, scene_start, i,
		ROWS(wrong_offsets))
{
	open_and_send(scene, "p", 1000); /* so that there is a queue */
	participant_cancel(scene->a, 0, wrong_offsets[i]);
	rig_settle(&scene->rig);
	assert_true(scene->a->failed);
	assert_int_equal(scene->a->error, -EPROTO);
	assert_false(scene->b->failed);
}

#define OTHERS 40u /* that may wait, by what their opener may still hold */

/* As scene_start(), and A pays: for one channel to begin with and `extra` bytes. */
static void start_limited(struct scene *scene, uint64_t extra, uint32_t link_ring)
{
	struct quota_limits limits = {.pool = {0}};

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		limits.pool[i] = UINT32_MAX;
		limits.max[QUOTA_UID][i] = 1000;
	}
	limits.max[QUOTA_UID][QUOTA_BYTES] = CHANNEL_INITIAL_LIMIT + extra;
	scene_with(scene, false, link_ring);
	scene->quota = scene->rig.board[0].quota = quota_new(&limits);
	assert_non_null(scene->quota);
	hop_set_account(&scene->a->hop, quota_account(scene->quota, QUOTA_UID, 1000));
}

static void start_with_limit(struct scene *scene, uint64_t extra)
{
	start_limited(scene, extra, 65536);
}

static void start_with_little_room(struct scene *scene)
{
	start_with_limit(scene, OTHERS * 200);
}

static void start_with_room(struct scene *scene)
{
	start_with_limit(scene, 1u << 20);
}

static uint64_t bytes_of(struct scene *scene)
{
	return account_usage(scene->a->hop.account, QUOTA_BYTES).used;
}

static void start_with_much_room(struct scene *scene)
{
	start_limited(scene, 16u << 20, 1u << 19);
}

/* More than the next daemon would take, whatever its opener may hold. */
SCENE_TEST(answers_that_their_opener_does_not_read_are_bounded, start_with_much_room)
{
	const struct charge *charge;
	uint64_t before;

	open_and_send(scene, "x", 100);
	charge = &hop_find_channel(&scene->a->hop, 0)->channel->charge;
	before = charge->held[QUOTA_BYTES];
	for (unsigned round = 0; round < 150 && !scene->a->failed; round++) {
		for (unsigned i = 0; i < 100; i++)
			participant_cancel(scene->a, 0, state_of(i));
		rig_settle(&scene->rig);
		for (unsigned i = 0; i < 100; i++)
			answer(scene->link, 0, i, 0);
		rig_settle(&scene->rig);
		if (!scene->a->failed)
			assert_in_range(charge->held[QUOTA_BYTES] - before, 0, CANCELS_MAX * CANCEL_COST);
	}
	assert_false(scene->link->failed);
}

SCENE_TEST(who_wants_messages_back_pays_until_he_is_answered, start_with_little_room)
{
	struct participant_channel *channel;
	uint64_t before;
	uint32_t refused;

	scene->rig.board[0].cancel_ms = 1;
	participant_open(scene->a, 0, "x");
	channel = participant_channel(scene->a, 0);
	send_messages(scene, 1000);
	before = bytes_of(scene);
	for (unsigned i = 0; i < 2 * OTHERS; i++)
		participant_cancel(scene->a, 0, state_of(i));
	rig_settle(&scene->rig);
	participant_read(scene->a, 1u << 30);
	refused = channel->cancelled_count;
	assert_in_range(refused, 1, 2 * OTHERS - 1);
	assert_int_equal(channel->cancelled_result, ECONNRESET);
	assert_true(bytes_of(scene) > before);
	/* When the peer's time is over, all is answered, and nothing is paid any more. */
	run_until_answered(scene, 2 * OTHERS);
	assert_int_equal(bytes_of(scene), before);
	/* What is still asked when all ends is paid back, too. */
	scene->rig.board[0].cancel_ms = 3600000;
	cancel(scene, 900);
	assert_true(bytes_of(scene) > before);
}

/* More than are given up in one turn. */
SCENE_TEST(many_that_are_not_answered_in_time_are_all_unknown, scene_start)
{
	scene->rig.board[0].cancel_ms = 1;
	open_and_send(scene, "x", 1000);
	for (unsigned i = 0; i < 1000; i++)
		participant_cancel(scene->a, 0, state_of(i));
	rig_settle(&scene->rig);
	run_until_answered(scene, 1000);
	expect_answer(scene, 1000, 999, ECONNRESET);
}

/* B has released messages of which the daemon doesn't count yet how many were taken, and A asks for them
 * all. */
static void release_until(struct scene *scene, unsigned messages)
{
	struct hop *hop = &scene->b->hop;

	send_messages(scene, messages);
	hop->taken.pending = true;
	hop->taken.mark = hop->in.reader.tail + 8;
	participant_read(scene->b, 1u << 30);
	scene->b->kicked = false;
}

SCENE_TEST(only_what_is_taken_of_those_that_are_asked_for_costs_time, start_with_room)
{
	struct participant_channel *channel;
	struct channel_end *out;
	uint64_t spent;

	participant_open(scene->a, 0, "p");
	channel = participant_channel(scene->a, 0);
	release_until(scene, 100);
	/* The last ones first: their order is the opener's choice. */
	for (unsigned i = 100; i-- > 20;)
		participant_cancel(scene->a, 0, state_of(i));
	hop_event(&scene->a->hop);
	switch_pass(scene->a->hop.board);
	participant_read(scene->a, 1u << 30);
	assert_int_equal(channel->cancelled_count, 0);
	out = &scene->a->last_channel->acceptor;
	spent = account_time(scene->a->hop.account)->spent;
	for (uint64_t taken = 1; taken <= state_of(20); taken++)
		channel_taken(out, taken);
	assert_int_equal(account_time(scene->a->hop.account)->spent, spent);
	channel_taken(out, state_of(20) + 8);
	assert_true(account_time(scene->a->hop.account)->spent >= spent + 80);
	scene->b->hop.taken.pending = false;
	switch_pass(scene->a->hop.board);
	participant_read(scene->a, 1u << 30);
	assert_int_equal(channel->cancelled_count, 1);
	assert_int_equal(channel->cancelled_offset, state_of(20));
	scene->b->kicked = true;
	rig_settle(&scene->rig);
	participant_read(scene->a, 1u << 30);
	assert_int_equal(channel->cancelled_count, 80);
	assert_int_equal(channel->cancelled_result, 0);
}

SCENE_TEST(answer_to_a_program_that_does_not_read_ends_nobodys_session, scene_start)
{
	static const uint8_t zeros[60000];
	struct frame_cancelled told;
	struct participant_frame frame;

	open_and_send(scene, "x", 1);
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	cancel(scene, 0);
	while (hop_send(&scene->a->hop, FRAME_OPTIONAL, 0, 0, zeros, sizeof(zeros)) == 0)
		;
	answer(scene->link, frame.header.channel, 0, ECANCELED);
	rig_settle(&scene->rig);
	assert_false(scene->link->failed || scene->a->failed);
	/* It is told when it reads. */
	assert_true(participant_expect(scene->a, FRAME_CANCELLED, &frame));
	assert_int_equal(frame_cancelled_decode(frame.payload, frame.header.length, &told), 0);
	assert_int_equal(told.result, ECANCELED);
}

/* --- a link that takes nothing ---------------------------------------------------------------- */

#define WAITING 400u

/* Its ring is full, as good as that of a domain that is being saved. */
static void start_stuck(struct scene *scene)
{
	scene_with(scene, false, 16384);
	scene->link->never_reads = scene->link->no_auto_answer = true;
	open_and_send(scene, "x", 1000);
	rig_fire_stuck(scene->link);
	rig_settle(&scene->rig);
	assert_true(hop_has_backlog(&scene->link->hop));
}

/* Any offset in what was sent, also one where no message ends. */
static void cancel_many(struct scene *scene)
{
	for (uint64_t i = 0; i < WAITING; i++)
		participant_cancel(scene->a, 0, i * 8);
	rig_settle(&scene->rig);
}

/* The link's other end takes what there is. */
static unsigned cancels_that_come(struct scene *scene)
{
	unsigned count = 0;

	scene->link->never_reads = false;
	scene->link->captured = evbuffer_new();
	for (unsigned i = 0; i < 100; i++) {
		participant_read(scene->link, 1u << 30);
		rig_settle(&scene->rig);
	}
	for (uint32_t i = 0; i < RIG_CHANNELS; i++)
		count += scene->link->channels[i].cancel_count;
	return count;
}

SCENE_TEST(cancels_for_who_takes_nothing_wait_at_their_channel_alone, start_stuck)
{
	cancel_many(scene);
	/* What belongs to all channels of the link isn't kept back by them. */
	assert_false(hop_has_unsent(&scene->link->hop));
	assert_int_equal(cancels_that_come(scene), WAITING);
	expect_answer(scene, 0, 0, 0);
}

SCENE_TEST(cancels_that_were_given_up_are_not_sent_any_more, start_stuck)
{
	scene->rig.board[0].cancel_ms = 1;
	for (uint32_t round = 1; round <= 3; round++) {
		cancel_many(scene);
		run_until_answered(scene, round * WAITING);
		assert_int_equal(participant_channel(scene->a, 0)->cancelled_result, ECONNRESET);
	}
	assert_int_equal(cancels_that_come(scene), 0);
}

SCENE_TEST(what_is_known_of_a_message_is_told_before_a_reset, scene_start)
{
	struct participant_frame frame;

	open_and_send(scene, "x", 3);
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	cancel(scene, 1);
	answer(scene->link, frame.header.channel, 1, ECANCELED);
	participant_reset(scene->link, frame.header.channel, ECONNRESET, 0, 72);
	rig_settle(&scene->rig);
	expect_answer(scene, 1, 1, ECANCELED);
	assert_true(participant_channel(scene->a, 0)->reset_in);
}

/* The channel is an orphan, whose acceptor doesn't answer. */
SCENE_TEST(who_goes_pays_no_more_for_cancels_than_they_cost, start_with_little_room)
{
	struct account *account = account_ref(scene->a->hop.account);
	static const uint8_t zeros[60000];
	struct participant_frame frame;

	scene->rig.board[0].cancel_ms = 1;
	open_and_send(scene, "x", 100);
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	scene->link->never_reads = true;
	for (int i = 0; i < 2; i++) /* so that there is no room for a RESET */
		assert_int_equal(hop_send(&scene->link->hop, FRAME_OPTIONAL, 0, 0, zeros, sizeof(zeros)), 0);
	for (unsigned i = 0; i < OTHERS / 2; i++)
		participant_cancel(scene->a, 0, state_of(i));
	rig_settle(&scene->rig);
	participant_kill(scene->a);
	participant_reset(scene->link, frame.header.channel, ECONNRESET, 0, 72);
	rig_settle(&scene->rig);
	assert_int_equal(account_usage(account, QUOTA_CHANNELS).used, 1);
	for (uint64_t until = clock_ms() + 3; clock_ms() < until;) /* the time for answers is over */
		event_base_loop(scene->rig.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	rig_settle(&scene->rig);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	account_unref(account);
}

SCENE_TEST(what_keeps_a_link_alive_is_sent_though_its_queue_is_full, start_stuck)
{
	static const uint8_t zeros[60000];
	unsigned beyond = 0;

	for (int i = 0; i < 2; i++) {
		struct hop *hop = i ? &scene->a->hop : &scene->link->hop;

		while (hop_send(hop, FRAME_OPTIONAL, 0, 0, zeros, sizeof(zeros)) == 0)
			;
		assert_int_equal(hop_send(hop, FRAME_PONG, 0, 0, zeros, 8), -ENOBUFS);
		for (beyond = 0; beyond < 100000 && hop_answer(hop, FRAME_PONG, 0, zeros, 8) == 0; beyond++)
			;
		if (i) /* a program that reads nothing harms only itself */
			assert_int_equal(beyond, 0);
		else
			assert_in_range(beyond, 5000, 20000);
	}
	assert_false(scene->link->failed);
}
