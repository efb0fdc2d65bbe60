/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A peer that resumes a link's session and lies, is silent, or says things at the wrong time.
 */
#include "tests/unit/resume_rig.h"

#include <ctype.h>

#include <nettle/hmac.h>

#include "daemon/link/auth_tag.h"
#include "wire/bytes.h"

/* Reads the bytes that the document prints behind this word, at the beginning of a line and in those that
 * follow it. Returns how many there are. */
static size_t printed(const char *word, uint8_t *bytes, size_t max)
{
	FILE *in = unit_source("doc/protocol.md");
	char line[256];
	bool found = false;
	size_t count = 0;

	while (fgets(line, sizeof(line), in)) {
		char *at = line + 8, *end;

		if (strlen(line) < 10 || (found && line[0] != ' '))
			found = false;
		if (!strncmp(line, word, strlen(word)) && line[strlen(word)] == ' ')
			found = true;
		for (; found && isxdigit((unsigned char)at[0]) && isxdigit((unsigned char)at[1]);
		     at = end + 1) {
			assert_true(count < max);
			bytes[count++] = (uint8_t)strtoul(at, &end, 16);
		}
	}
	fclose(in);
	return count;
}

TEST(the_documents_example_of_a_proof_is_right)
{
	uint8_t key[AUTH_SECRET_SIZE], bytes[88], result[AUTH_TAG_SIZE], computed[AUTH_TAG_SIZE];
	struct auth_end sender, receiver;
	struct hmac_sha256_ctx hash;

	assert_int_equal(printed("key", key, sizeof(key)), sizeof(key));
	assert_int_equal(printed("bytes", bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(printed("result", result, sizeof(result)), sizeof(result));
	hmac_sha256_set_key(&hash, sizeof(key), key);
	hmac_sha256_update(&hash, sizeof(bytes), bytes);
	hmac_sha256_digest(&hash, sizeof(computed), computed);
	assert_memory_equal(computed, result, sizeof(result));
	sender.domid = get_u32(bytes + 12);
	receiver.domid = get_u32(bytes + 16);
	memcpy(sender.nonce, bytes + 20, 16);
	memcpy(receiver.nonce, bytes + 36, 16);
	memcpy(sender.instance, bytes + 52, 16);
	memcpy(receiver.instance, bytes + 68, 16);
	auth_tag_make(key, &sender, &receiver, get_u32(bytes + 84), computed);
	assert_memory_equal(computed, result, sizeof(result));
}

enum { FLIPPED, REFLECTED, OTHER_EPOCH, OTHER_DOMID, OTHER_NONCE, OTHER_SECRET, PROOFS };

SCENE_TEST_EACH(wrong_proof_is_not_answered, away, lie, PROOFS)
{
	static const uint8_t other_secret[32] = "another";
	struct frame_prove ours = hear_prove(scene), theirs = {.epoch = lie == OTHER_EPOCH ? 2 : 1};
	struct auth_end us, them;

	auth_ends(&us, &them);
	if (lie == OTHER_DOMID)
		them.domid++;
	if (lie == OTHER_NONCE)
		them.nonce[0]++;
	auth_tag_make(lie == OTHER_SECRET ? other_secret : session.secret, &them, &us, 1, theirs.proof);
	if (lie == FLIPPED)
		theirs.proof[31] ^= 1;
	say_prove(scene, lie == REFLECTED ? ours : theirs);
	expect_dropped(scene);
}

SCENE_TEST(proof_of_an_earlier_vchan_is_not_answered, away)
{
	struct frame_prove earlier;

	hear_prove(scene);
	earlier = good_prove(1);
	lose(scene, false);
	pass(scene, AGAIN_MS);
	meet_again(scene);
	hear_prove(scene);
	say_prove(scene, earlier);
	expect_dropped(scene);
}

/* More than was ever sent: this end is the older one. */
SCENE_TEST_EACH(position_beyond_what_was_sent_ends_the_session, away, is_largest, 2)
{
	prove(scene);
	say_resume(scene, is_largest ? UINT64_MAX : session.received + 8, 2);
	expect_ended(scene);
}

/* Less than it had processed already: that end is. */
SCENE_TEST(position_that_falls_is_refused, away)
{
	prove(scene);
	say_resume(scene, session.received - 8, 2);
	session.epoch = 1;
	expect_refused(scene);
}

/* It isn't the session's. */
SCENE_TEST(position_that_falls_is_refused_though_our_resume_lies_unread, away)
{
	hear_prove(scene);
	say_prove(scene, good_prove(1));
	say_resume(scene, session.received, ++session.epoch);
	leave(scene);
	meet_again(scene);
	prove(scene);
	say_resume(scene, session.received - 8, 3);
	expect_refused(scene);
}

SCENE_TEST(position_within_a_frame_harms_only_the_peer, up_to_resume)
{
	open_channel(scene);
	leave(scene);
	meet_again(scene);
	prove(scene);
	say_resume(scene, session.received + 8, 2);
	settle(scene);
	expect_state(scene, LINK_IDLE);
	expect_last_error(scene, "isn't a frame");
}

/* The session has gone on in the epoch 2, and the peer was heard in it. */
SCENE_TEST(proof_of_an_epoch_that_was_left_behind_is_refused, away)
{
	prove(scene);
	go_on(scene);
	expect(scene, FRAME_PING);
	count_heard(scene);
	say_u64(scene, FRAME_PONG, 0);
	leave(scene);
	meet_again(scene);
	hear_prove(scene);
	say_prove(scene, good_prove(1));
	expect_refused(scene);
}

/* By one epoch, and by more than one. */
SCENE_TEST(end_that_was_not_heard_in_an_epoch_may_be_behind_by_it, away)
{
	for (int i = 0; i < 3; i++) {
		hear_prove(scene);
		say_prove(scene, good_prove(1));
		expect(scene, FRAME_RESUME);
		say_resume(scene, session.received, ++session.epoch);
		expect_state(scene, LINK_UP);
		leave(scene);
		meet_again(scene);
	}
}

SCENE_TEST_EACH(epoch_that_is_not_new_is_dropped, away, epoch, 2)
{
	prove(scene);
	say_resume(scene, session.received, (uint32_t)epoch);
	expect_dropped(scene);
}

SCENE_TEST(session_without_another_epoch_ends, away)
{
	hear_prove(scene);
	say_prove(scene, good_prove(UINT32_MAX));
	expect_ended(scene);
}

static const uint8_t not_for_attempts[] = {FRAME_PING,	    FRAME_ACK,	   FRAME_OPEN, FRAME_DATA,
					   FRAME_DIRECTORY, FRAME_WELCOME, 200};

SCENE_TEST_EACH(frames_at_the_wrong_time_end_the_attempt, away, i, ROWS(not_for_attempts))
{
	hear_prove(scene);
	say(scene, not_for_attempts[i], "12345678", 8);
	expect_dropped(scene);
}

SCENE_TEST_EACH(short_proof_ends_the_attempt, away, i, 5)
{
	hear_prove(scene);
	say(scene, FRAME_PROVE, "1234567890123456789012345678901234567890", 8 * (uint32_t)i);
	expect_dropped(scene);
}

enum { RESUME_BEFORE_PROVE, GOODBYE_OF_ANYBODY, IMPOSSIBLE_INDEX, MISTAKES };

SCENE_TEST_EACH(mistake_before_the_proof_ends_the_attempt, away, mistake, MISTAKES)
{
	hear_prove(scene);
	if (mistake == RESUME_BEFORE_PROVE) {
		say_resume(scene, session.received, 2);
	} else if (mistake == GOODBYE_OF_ANYBODY) {
		say(scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	} else {
		scene->peer.vchan->in.words.producer += 1u << 30;
		notify(scene);
	}
	expect_dropped(scene);
}

enum { SECOND_PROVE, SECOND_HELLO, SHORT_RESUME, LATER_MISTAKES };

SCENE_TEST_EACH(mistake_behind_the_proof_ends_the_attempt, away, mistake, LATER_MISTAKES)
{
	prove(scene);
	if (mistake == SECOND_PROVE)
		say_prove(scene, good_prove(1));
	else if (mistake == SECOND_HELLO)
		hello_of_peer(scene, NAMES_SESSION, peer_instance);
	else
		say(scene, FRAME_RESUME, "12345678", 8);
	expect_dropped(scene);
}

SCENE_TEST(another_major_ends_the_attempt, up_to_resume)
{
	leave(scene);
	bring_vchan(scene);
	scene->peer.unnumbered = true;
	hear_hello(scene, NAMES_SESSION);
	say_hello(scene, PROTOCOL_MAJOR + 1);
	expect_dropped(scene);
}

SCENE_TEST(silent_attempt_is_given_up, away)
{
	hear_prove(scene);
	pass_in_steps(scene, DEAD_AFTER_MS + HEARTBEAT_MS, HEARTBEAT_MS);
	expect_dropped(scene);
}

/* Also if we stood still until its time was up. */
SCENE_TEST_EACH(lost_event_of_an_attempt_is_made_good_by_the_heartbeat, away, stood_still, 2)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_prove theirs;

	hear_prove(scene);
	theirs = good_prove(1);
	put(scene, FRAME_PROVE, 0, payload, frame_prove_encode(&theirs, payload));
	expect_silence(scene);
	pass(scene, stood_still ? DEAD_AFTER_MS + HEARTBEAT_MS : HEARTBEAT_MS);
	expect(scene, FRAME_RESUME);
	go_on(scene);
}

SCENE_TEST(newer_vchan_takes_the_place_of_an_attempts, away)
{
	struct vchan *old = scene->peer.vchan;

	meet_again(scene);
	assert_true(old->closed);
	prove(scene);
	go_on(scene);
}
