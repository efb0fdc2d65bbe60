/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link of a domain that was restored, and hasn't heard of it. */
#include "tests/unit/resume_rig.h"

static void up_as_a_guest(struct scene *scene)
{
	guarded = true;
	up_to_resume(scene);
	guarded = false;
}

static void up_as_a_guest_that_maps(struct scene *scene)
{
	maps = true;
	up_as_a_guest(scene);
}

/* The link is away without a word to the peer, and goes on where it was. */
static void expect_to_go_on(struct scene *scene, uint32_t heard)
{
	expect_silence(scene);
	expect_state(scene, LINK_AWAY);
	expect_last_error(scene, "restored");
	session.sequence = heard;
	session.heard_sequence = scene->peer.heard_sequence;
	resume(scene);
	expect(scene, FRAME_PING);
	say_u64(scene, FRAME_PING, 7);
	expect(scene, FRAME_PONG);
}

SCENE_TEST_EACH(what_a_restored_domain_finds_in_its_ring_counts_for_nothing, up_as_a_guest, shape, 6)
{
	static const uint8_t open[24] = {CHANNEL_MESSAGE, [20] = 'a'};
	struct private_ring *in = &scene->peer.vchan->in;
	uint32_t heard = scene->peer.sequence;

	scene->peer.vchan->restored = true;
	switch (shape) {
	case 0: /* a frame */
		say(scene, FRAME_OPEN, open, sizeof(open));
		break;
	case 1:
		say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
		break;
	case 2: /* an index that went backwards, */
		in->words.producer -= 8;
		notify(scene);
		break;
	case 3: /* or half a frame */
		in->words.producer += 8;
		notify(scene);
		break;
	case 4: /* an older frame */
		scene->peer.sequence--;
		say_u64(scene, FRAME_PING, 7);
		break;
	default: /* that the peer has closed it */
		close_by_peer(scene);
		break;
	}
	assert_int_equal(scene->opens, 0);
	expect_to_go_on(scene, heard);
}

SCENE_TEST_EACH(what_a_domain_wrote_unaware_of_its_restore_is_not_given_out, up_as_a_guest, lie, 2)
{
	scene->peer.vchan->restored = true;
	open_channel(scene);
	expect_silence(scene);
	expect_state(scene, LINK_AWAY);
	note_sequences(scene);
	meet_again(scene);
	prove(scene);
	if (lie) { /* the domain that we are an image of has sent something else there */
		say_resume(scene, session.received + 56, 2);
		forget_program_channels(scene);
		expect_ended(scene);
		return;
	}
	go_on(scene);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
}

SCENE_TEST_EACH(restored_domain_that_mapped_has_a_copy_of_what_it_has_sent, up_as_a_guest_that_maps, heard, 2)
{
	struct vchan *vchan = scene->peer.vchan;

	open_channel(scene);
	if (heard) {
		expect(scene, FRAME_OPEN);
		count_heard(scene);
		say_u64(scene, FRAME_PONG, 0); /* it sees by that how far the peer has come */
	}
	note_sequences(scene);
	memset(&vchan->in, 0xff, sizeof(vchan->in));
	memset(&vchan->out, 0xff, sizeof(vchan->out));
	vchan->restored = true;
	notify(scene);
	expect_state(scene, LINK_AWAY);
	expect_last_error(scene, "restored");
	maps = false;
	resume(scene);
	if (!heard)
		expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	expect_silence(scene);
}

SCENE_TEST(attempt_of_a_restored_domain_is_given_up, up_to_resume)
{
	leave(scene);
	guarded = true;
	meet_again(scene);
	guarded = false;
	hear_prove(scene);
	scene->peer.vchan->restored = true;
	say_prove(scene, good_prove(1));
	expect_dropped(scene);
}
