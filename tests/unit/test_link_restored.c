/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link of a domain that was restored, and hasn't heard of it. */
#include "tests/unit/resume_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/link_internal.h"

static void up_as_a_guest(struct scene *scene)
{
	guarded = true;
	up_to_resume(scene);
	guarded = false;
}

/* The link is away without a word to the peer, and goes on where it was. */
static void expect_to_go_on(struct scene *scene, uint32_t heard)
{
	expect_silence(scene);
	expect_state(scene, LINK_AWAY);
	expect_last_error(scene, "restored");
	session.sequence = heard;
	session.heard_sequence = scene->peer.heard_sequence;
	meet_again(scene);
	prove(scene);
	go_on(scene);
	expect(scene, FRAME_PING);
	say_u64(scene, FRAME_PING, 7);
	expect(scene, FRAME_PONG);
	scene_stop(scene);
}

TEST(what_a_restored_domain_finds_in_its_ring_counts_for_nothing)
{
	uint8_t open[24] = {CHANNEL_MESSAGE};
	struct scene scene;

	memcpy(open + 20, "a", 1);
	for (int shape = 0; shape < 6; shape++) {
		struct private_ring *in;
		uint32_t heard;

		up_as_a_guest(&scene);
		heard = scene.peer.sequence;
		in = &scene.peer.vchan->in;
		scene.peer.vchan->restored = true;
		switch (shape) {
		case 0: /* a frame */
			say(&scene, FRAME_OPEN, open, sizeof(open));
			break;
		case 1:
			say(&scene, FRAME_GOODBYE, "\0\0\0\0", 4);
			break;
		case 2: /* an index that went backwards, */
			in->words.producer -= 8;
			notify(&scene);
			break;
		case 3: /* or half a frame */
			in->words.producer += 8;
			notify(&scene);
			break;
		case 4: /* an older frame */
			scene.peer.sequence--;
			say_u64(&scene, FRAME_PING, 7);
			break;
		default: /* that the peer has closed it */
			scene.peer.vchan->state = VCHAN_CLOSED;
			notify(&scene);
			break;
		}
		assert_int_equal(scene.opens, 0);
		expect_to_go_on(&scene, heard);
	}
}

TEST(what_a_domain_wrote_unaware_of_its_restore_is_not_given_out)
{
	struct scene scene;

	for (int lie = 0; lie < 2; lie++) {
		up_as_a_guest(&scene);
		scene.peer.vchan->restored = true;
		open_channel(&scene);
		expect_silence(&scene);
		expect_state(&scene, LINK_AWAY);
		session.sequence = scene.peer.sequence;
		session.heard_sequence = scene.peer.heard_sequence;
		meet_again(&scene);
		prove(&scene);
		if (lie) { /* the domain that we are an image of has sent something else there */
			say_resume(&scene, session.received + 56, 2);
			forget_program_channel(&scene);
			expect_ended(&scene);
			continue;
		}
		go_on(&scene);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

TEST(restored_domain_that_mapped_has_a_copy_of_what_it_has_sent)
{
	struct scene scene;

	for (int heard = 0; heard < 2; heard++) {
		struct vchan *vchan;

		maps = true;
		up_as_a_guest(&scene);
		open_channel(&scene);
		if (heard) {
			expect(&scene, FRAME_OPEN);
			session.received += frame_size(scene.peer.header.length);
			say_u64(&scene, FRAME_PONG, 0); /* it sees by that how far the peer has come */
		}
		session.sequence = scene.peer.sequence;
		session.heard_sequence = scene.peer.heard_sequence;
		vchan = scene.peer.vchan;
		memset(&vchan->in, 0xff, sizeof(vchan->in));
		memset(&vchan->out, 0xff, sizeof(vchan->out));
		vchan->restored = true;
		notify(&scene);
		expect_state(&scene, LINK_AWAY);
		expect_last_error(&scene, "restored");
		maps = false;
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		if (!heard)
			expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

TEST(attempt_of_a_restored_domain_is_given_up)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	guarded = true;
	meet_again(&scene);
	guarded = false;
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	scene.peer.vchan->restored = true;
	say_prove(&scene, &theirs);
	expect_dropped(&scene);
}
