/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link that goes on over other rings, in either role, with a peer that does so too, or does wrong. */
#include "tests/unit/move_rig.h"

#include <malloc.h>

/* --- what goes on ----------------------------------------------------------------------------- */

/* It has read our MOVE before it said its own, so for it the move is over; we may not have looked whether it
 * has. */
SCENE_TEST(peer_may_offer_again_right_behind_its_move, move_mapper)
{
	const struct frame_offer offer = {.ring_ref = RING_REF, .port = PORT};
	uint8_t payload[16];

	say_offer(scene);
	hear_move(scene);
	scene->peer.unnumbered = true;
	put(scene, FRAME_MOVE, 0, "", 0);
	scene->peer.unnumbered = false;
	peer_writes_other(scene);
	peer_reads_other(scene);
	put(scene, FRAME_OFFER, 0, payload, frame_offer_encode(&offer, payload));
	peer_has_moved(scene);
	notify_other(scene);
	expect_state(scene, LINK_UP);
	assert_int_equal(info_of(scene).moves, 1);
	assert_int_equal(other.maps, 2);
	hear_move(scene);
}

SCENE_TEST(peer_that_has_moved_may_close_the_old_vchan_first, move_mapper)
{
	say_offer(scene);
	hear_move(scene);
	scene->peer.sequence = 0; /* MOVE lies there, and nobody was notified */
	put(scene, FRAME_MOVE, 0, "", 0);
	scene->peer.sequence = 2;
	close_by_peer(scene);
	peer_writes_other(scene);
	peer_reads_other(scene);
	peer_has_moved(scene);
	expect_state(scene, LINK_UP);
	assert_int_equal(info_of(scene).moves, 1);
	say_u64(scene, FRAME_PING, 8);
	expect(scene, FRAME_PONG);
}

SCENE_TEST(peer_that_declines_has_what_it_had, offered)
{
	say(scene, FRAME_DECLINE, "\1\0\0\0", 4); /* of before a loss */
	assert_false(other.vchan->closed);
	say(scene, FRAME_DECLINE, "\0\0\0\0", 4);
	assert_true(other.vchan->closed);
	expect_state(scene, LINK_UP);
	say_u64(scene, FRAME_PING, 8);
	expect(scene, FRAME_PONG);
}

SCENE_TEST(what_is_declined_may_be_offered_again, move_mapper)
{
	other.map_error = -ENOMEM;
	say_offer(scene);
	expect(scene, FRAME_DECLINE);
	other.map_error = 0;
	say_offer(scene);
	hear_move(scene);
	assert_int_equal(info_of(scene).moves, 0);
}

SCENE_TEST_EACH(goodbye_is_heard_wherever_it_lies, offered, in_other, 2)
{
	other.vchan->state = VCHAN_CONNECTED;
	scene->peer.sequence = 0;
	if (in_other) {
		put(scene, FRAME_MOVE, 0, "", 0);
		peer_writes_other(scene);
	}
	put(scene, FRAME_GOODBYE, 0, "\0\0\0\0enough", 10);
	scene->peer.vchan->state = other.vchan->state = VCHAN_CLOSED;
	notify(scene);
	expect_state(scene, LINK_IDLE);
	assert_string_equal(info_of(scene).last_error, ""); /* it ended in order */
	assert_true(scene->peer.vchan->closed && other.vchan->closed);
}

/* --- what goes wrong -------------------------------------------------------------------------- */

static void expect_end(struct scene *scene, uint32_t error)
{
	expect_state(scene, LINK_IDLE);
	assert_true(scene->peer.vchan->closed);
	if (other.vchan)
		assert_true(other.vchan->closed);
	expect_last_error(scene, strerror((int)error));
}

static void say_what_answers_no_offer(struct scene *scene, bool is_move)
{
	if (is_move)
		say_aside(scene, FRAME_MOVE, "", 0);
	else
		say(scene, FRAME_DECLINE, "\0\0\0\0", 4);
	expect_end(scene, EPROTO);
}

SCENE_TEST_EACH(what_answers_no_offer_of_a_granter_is_refused, move_granter, is_move, 2)
{
	say_what_answers_no_offer(scene, is_move);
}

SCENE_TEST_EACH(what_answers_no_offer_of_a_mapper_is_refused, move_mapper, is_move, 2)
{
	say_what_answers_no_offer(scene, is_move);
}

/* Who maps offers nothing. */
SCENE_TEST(offer_to_a_granter_is_refused, move_granter)
{
	say_offer(scene);
	expect_end(scene, EPROTO);
}

enum { SECOND, SHORT, IMPOSSIBLE, OFFERS };

SCENE_TEST_EACH(bad_offer_is_refused, move_mapper, offer, OFFERS)
{
	if (offer == SHORT) {
		say(scene, FRAME_OFFER, "1234", 4);
	} else {
		other.map_error = offer == IMPOSSIBLE ? -EPROTO : 0;
		say_offer(scene);
	}
	if (offer == SECOND)
		say_offer(scene);
	expect_end(scene, EPROTO);
}

SCENE_TEST(move_to_where_the_peer_has_not_come_is_refused, offered)
{
	say_aside(scene, FRAME_MOVE, "", 0);
	expect_end(scene, EPROTO);
}

SCENE_TEST(move_with_a_payload_is_refused, offered)
{
	other.vchan->state = VCHAN_CONNECTED;
	say_aside(scene, FRAME_MOVE, "12345678", 8);
	expect_end(scene, EPROTO);
}

SCENE_TEST(second_move_is_refused, offered)
{
	other.vchan->state = VCHAN_CONNECTED;
	say_aside(scene, FRAME_MOVE, "", 0);
	peer_writes_other(scene);
	scene->peer.sequence = 0;
	put(scene, FRAME_MOVE, 0, "", 0);
	notify_other(scene);
	expect_end(scene, EPROTO);
}

SCENE_TEST(offer_before_hello_is_refused, start_to_move)
{
	connect_peer(scene);
	scene->peer.vchan->is_mapped = true;
	say_offer(scene);
	expect_end(scene, EINVAL);
}

SCENE_TEST_EACH(vchan_that_goes_takes_the_other_one_along, move_mapper, shape, 4)
{
	bool is_other = shape & 1, is_broken = shape & 2;

	say_offer(scene);
	hear_move(scene);
	(is_other ? other.vchan : scene->peer.vchan)->state = is_broken ? VCHAN_BROKEN : VCHAN_CLOSED;
	if (is_other)
		notify_other(scene);
	else
		notify(scene);
	expect_state(scene, LINK_IDLE);
	expect_last_error(scene, "has gone");
	assert_true(scene->peer.vchan->closed && other.vchan->closed);
}

/* --- and is lost meanwhile ---------------------------------------------------------------------- */

#define SMALLER 4096u /* than the rings of the other vchan */

enum stage {
	OFFERED,
	OFFERED_AND_MAPPED,
	BOTH_SAID, /* our MOVE lies in the old ring, and the peer's was read */
	ONE_SAID,  /* we map: our MOVE lies in the old ring */
	ONE_READ,  /* and was read, so we write in the new one */
	STAGES
};

/* From the start of the scene. */
static void reach_stage(struct scene *scene, enum stage stage)
{
	bool is_mapped = stage >= ONE_SAID;
	const struct frame_offer offer = {.ring_ref = RING_REF, .port = PORT, .epoch = 1};
	uint8_t payload[16];

	begin_to_resume(scene);
	link_of(scene)->ring_bytes = SMALLER;
	scene->peer.vchan->is_mapped = is_mapped;
	if (is_mapped) {
		say(scene, FRAME_OFFER, payload, frame_offer_encode(&offer, payload));
		assert_int_equal(other.maps, 1);
	} else {
		assert_int_equal(link_offer(link_of(scene), 1u << 20), 0);
		hear_offer(scene);
		count_heard(scene);
	}
	if (stage == OFFERED_AND_MAPPED || stage == BOTH_SAID) {
		other.vchan->state = VCHAN_CONNECTED;
		notify_other(scene);
	}
	if (stage == BOTH_SAID)
		say_aside(scene, FRAME_MOVE, "", 0);
	if (stage == ONE_READ) {
		hear_move(scene);
		notify(scene);
		peer_reads_other(scene);
	}
	open_channel(scene);
	note_sequences(scene);
}

enum { SAVED, RESTORED, GONE, LEFT, OTHER_LEFT, WAYS, WAYS_AT_ALL_STAGES = WAYS * STAGES };

SCENE_TEST_EACH(session_that_is_lost_while_it_moves_is_resumed, start_to_move, number, WAYS_AT_ALL_STAGES)
{
	enum stage stage = number / WAYS;
	int way = number % WAYS;
	unsigned opens = 0, pings = 0;

	if (way == OTHER_LEFT && stage < BOTH_SAID)
		return; /* what was offered isn't needed */
	reach_stage(scene, stage);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	switch (way) {
	case SAVED: /* the peer's domain is about to be */
		links_saved(scene->links, 7);
		break;
	case RESTORED: /* ours was */
		scene->peer.vchan->restored = other.vchan->restored = true;
		links_restart(scene->links);
		links_go_on(scene->links);
		break;
	case GONE: /* its domain vanishes from XenStore */
		lose(scene, false);
		break;
	case LEFT:
		scene->peer.vchan->was_left = true;
		close_by_peer(scene);
		break;
	default:
		other.vchan->state = VCHAN_CLOSED;
		other.vchan->was_left = true;
		notify_other(scene);
	}
	expect_state(scene, LINK_AWAY);
	assert_true(scene->peer.vchan->closed && scene->peer.vchan->left);
	assert_true(other.vchan->closed);
	assert_int_equal(info_of(scene).moves, 0);
	/* A frame that is sent again may be too large for the smaller ones. */
	if (way == LEFT)
		assert_int_equal(links_least_ring(scene->links, 7),
				 stage < BOTH_SAID ? SMALLER : PRIVATE_RING_SIZE);
	if (way == GONE && stage % 2) { /* for ever */
		pass_in_steps(scene, RESUME_FOR_MS + AGAIN_MS, AGAIN_MS);
		expect_state(scene, LINK_IDLE);
		return;
	}
	resume(scene);
	while (hear(scene)) { /* all numbers are right */
		opens += scene->peer.header.type == FRAME_OPEN;
		pings += scene->peer.header.type == FRAME_PING;
	}
	assert_int_equal(opens, 1);
	assert_int_equal(pings, 1);
	/* Nothing of the move is left, and there may be another one. */
	assert_int_equal(link_of(scene)->move.state, MOVE_NOT);
	say_u64(scene, FRAME_PING, 8);
	expect(scene, FRAME_PONG);
	expect(scene, FRAME_ACK);
	assert_int_equal(link_offer(link_of(scene), 1u << 20), 0);
}

SCENE_TEST(peer_that_does_not_answer_an_offer_is_given_up, offered)
{
	for (uint64_t ms = 0; ms < DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS) {
		if (link_of(scene)->state == LINK_UP)
			say_u64(scene, FRAME_PONG, 0); /* it is alive */
		pass(scene, HEARTBEAT_MS);
	}
	expect_state(scene, LINK_IDLE);
	expect_last_error(scene, "didn't move");
	assert_true(other.vchan->closed);
}

/* --- what is left behind ------------------------------------------------------------------------ */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
#define COUNTS_BYTES 1
static size_t bytes_allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}
#else
#define COUNTS_BYTES 0
static size_t bytes_allocated(void)
{
	return 0;
}
#endif

/* Each carries a channel, and ends in one of three ways. */
SCENE_TEST(ten_thousand_links_leave_no_more_than_ten, scene_start)
{
	size_t after_ten = 0;

	for (unsigned i = 1; i <= 10000; i++) {
		greet(scene);
		open_channel(scene);
		if (i % 3 == 0)
			say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
		else
			lose(scene, i % 3 == 1);
		expect_state(scene, LINK_IDLE);
		forget_program_channels(scene);
		settle(scene);
		free_closed_vchans();
		if (i == 10)
			after_ten = bytes_allocated();
	}
	assert_int_equal(bytes_allocated(), after_ten);
}
