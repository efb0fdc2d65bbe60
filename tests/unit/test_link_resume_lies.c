/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A peer that resumes a link's session and lies, is silent, or says things at the wrong time.
 */
#include "tests/unit/resume_rig.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nettle/hmac.h>

#include "daemon/link/proof.h"
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
	uint8_t key[PROOF_SECRET_SIZE], bytes[92], result[PROOF_SIZE], computed[PROOF_SIZE];
	struct proof_end sender, receiver;
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
	proof_make(key, &sender, &receiver, get_u32(bytes + 84), get_u32(bytes + 88), computed);
	assert_memory_equal(computed, result, sizeof(result));
}

TEST(wrong_proof_is_not_answered)
{
	enum {
		FLIPPED,
		REFLECTED,
		OTHER_EPOCH,
		OTHER_DOMID,
		OTHER_NONCE,
		OTHER_PURPOSE,
		OTHER_SECRET,
		PROOFS
	};
	struct scene scene;

	for (int lie = FLIPPED; lie < PROOFS; lie++) {
		static const uint8_t other_secret[32] = "another";
		struct frame_prove ours, theirs = {.epoch = 1};
		struct proof_end us, them;

		away(&scene);
		hear_prove(&scene, &ours);
		proof_ends(&us, &them);
		if (lie == OTHER_DOMID)
			them.domid++;
		if (lie == OTHER_NONCE)
			them.nonce[0]++;
		theirs.epoch = lie == OTHER_EPOCH ? 2 : 1;
		proof_make(lie == OTHER_SECRET ? other_secret : session.secret, &them, &us, 1,
			   lie == OTHER_PURPOSE ? 2 : HELLO_RESUME, theirs.proof);
		if (lie == FLIPPED)
			theirs.proof[31] ^= 1;
		if (lie == REFLECTED)
			theirs = ours;
		say_prove(&scene, &theirs);
		expect_dropped(&scene);
	}
}

TEST(proof_of_an_earlier_vchan_is_not_answered)
{
	struct frame_prove ours, earlier;
	struct scene scene;

	away(&scene);
	hear_prove(&scene, &ours);
	earlier = good_prove(1);
	links_lost(scene.links, peer_domain(7), false, "the peer has begun anew");
	pass(&scene, AGAIN_MS);
	meet_again(&scene);
	hear_prove(&scene, &ours);
	say_prove(&scene, &earlier);
	expect_dropped(&scene);
}

TEST(impossible_positions)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	/* More than was ever sent: this end is the older one. */
	away(&scene);
	prove(&scene);
	say_resume(&scene, session.received + 8, 2);
	expect_ended(&scene);
	away(&scene);
	prove(&scene);
	say_resume(&scene, UINT64_MAX, 2);
	expect_ended(&scene);
	/* Less than it had processed already: that end is. */
	away(&scene);
	prove(&scene);
	say_resume(&scene, session.received - 8, 2);
	session.epoch = 1;
	expect_refused(&scene);
	/* The same where our RESUME lies unread in the old ring: it isn't the session's. */
	away(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	say_prove(&scene, &theirs);
	say_resume(&scene, session.received, ++session.epoch);
	leave(&scene);
	meet_again(&scene);
	prove(&scene);
	say_resume(&scene, session.received - 8, 3);
	expect_refused(&scene);
}

TEST(position_within_a_frame_harms_only_the_peer)
{
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	leave(&scene);
	meet_again(&scene);
	prove(&scene);
	say_resume(&scene, session.received + 8, 2);
	settle(&scene);
	expect_state(&scene, LINK_IDLE);
	expect_last_error(&scene, "isn't a frame");
	forget_program_channel(&scene);
	scene_stop(&scene);
}

TEST(epochs_that_were_left_behind)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	/* The session has gone on in the epoch 2, and the peer was heard in it. */
	away(&scene);
	prove(&scene);
	go_on(&scene);
	expect(&scene, FRAME_PING);
	session.received += frame_size(scene.peer.header.length);
	say_u64(&scene, FRAME_PONG, 0);
	leave(&scene);
	meet_again(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	say_prove(&scene, &theirs);
	expect_refused(&scene);

	/* An end that hasn't been heard in an epoch may be behind by it, and by more than one. */
	away(&scene);
	for (int i = 0; i < 3; i++) {
		hear_prove(&scene, &ours);
		theirs = good_prove(1);
		say_prove(&scene, &theirs);
		expect(&scene, FRAME_RESUME);
		say_resume(&scene, session.received, ++session.epoch);
		expect_state(&scene, LINK_UP);
		leave(&scene);
		meet_again(&scene);
	}
	scene_stop(&scene);

	/* The mapping end's new one isn't new. */
	for (uint32_t epoch = 0; epoch < 2; epoch++) {
		away(&scene);
		prove(&scene);
		say_resume(&scene, session.received, epoch);
		expect_dropped(&scene);
	}

	/* None is left. */
	away(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(UINT32_MAX);
	say_prove(&scene, &theirs);
	expect_ended(&scene);
}

TEST(frames_at_the_wrong_time_end_the_attempt)
{
	static const uint8_t types[] = {FRAME_PING,	 FRAME_ACK,	FRAME_OPEN, FRAME_DATA,
					FRAME_DIRECTORY, FRAME_WELCOME, 200};
	struct frame_prove ours;
	struct scene scene;

	for (unsigned i = 0; i < sizeof(types); i++) {
		away(&scene);
		hear_prove(&scene, &ours);
		say(&scene, types[i], "12345678", 8);
		expect_dropped(&scene);
	}
	/* RESUME before PROVE */
	away(&scene);
	hear_prove(&scene, &ours);
	say_resume(&scene, session.received, 2);
	expect_dropped(&scene);
	/* PROVE twice */
	away(&scene);
	prove(&scene);
	ours = good_prove(1);
	say_prove(&scene, &ours);
	expect_dropped(&scene);
	/* HELLO twice */
	away(&scene);
	prove(&scene);
	hello_of_peer(&scene, HELLO_RESUME, session.token, peer_instance);
	expect_dropped(&scene);
	/* GOODBYE of somebody who has proven nothing */
	away(&scene);
	hear_prove(&scene, &ours);
	say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_dropped(&scene);
	/* short ones */
	for (uint32_t length = 0; length < 40; length += 8) {
		away(&scene);
		hear_prove(&scene, &ours);
		say(&scene, FRAME_PROVE, "1234567890123456789012345678901234567890", length);
		expect_dropped(&scene);
	}
	away(&scene);
	prove(&scene);
	say(&scene, FRAME_RESUME, "12345678", 8);
	expect_dropped(&scene);
	/* another major */
	up_to_resume(&scene);
	leave(&scene);
	bring_vchan(&scene);
	scene.peer.unnumbered = true;
	hear_hello(&scene, HELLO_RESUME);
	say_hello(&scene, PROTOCOL_MAJOR + 1);
	expect_dropped(&scene);
	/* impossible indices */
	away(&scene);
	hear_prove(&scene, &ours);
	scene.peer.vchan->in.words.producer += 1u << 30;
	notify(&scene);
	expect_dropped(&scene);
}

TEST(silent_attempt_is_given_up)
{
	struct frame_prove ours;
	struct scene scene;

	away(&scene);
	hear_prove(&scene, &ours);
	for (uint64_t ms = 0; ms < DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS)
		pass(&scene, HEARTBEAT_MS);
	expect_dropped(&scene);
}

/* Also if we stood still until its time was up. */
TEST(lost_event_of_an_attempt_is_made_good_by_the_heartbeat)
{
	static const uint64_t later_ms[] = {HEARTBEAT_MS, DEAD_AFTER_MS + HEARTBEAT_MS};
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_prove ours, theirs;
	struct scene scene;

	for (unsigned i = 0; i < sizeof(later_ms) / sizeof(*later_ms); i++) {
		away(&scene);
		hear_prove(&scene, &ours);
		theirs = good_prove(1);
		put(&scene, FRAME_PROVE, 0, payload, frame_prove_encode(&theirs, payload));
		expect_silence(&scene);
		pass(&scene, later_ms[i]);
		expect(&scene, FRAME_RESUME);
		go_on(&scene);
		scene_stop(&scene);
	}
}

TEST(newer_vchan_takes_the_place_of_an_attempts)
{
	struct scene scene;
	struct vchan *old;

	away(&scene);
	old = scene.peer.vchan;
	scene.peer.vchan = NULL;
	meet_again(&scene);
	assert_true(old->closed);
	prove(&scene);
	go_on(&scene);
	free(old);
	scene_stop(&scene);
}
