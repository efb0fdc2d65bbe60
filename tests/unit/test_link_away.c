/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What else happens while a session is away, is being resumed, or moves: each case of the walk in
 * resume_step.h. */
#include "tests/unit/resume_rig.h"

#include "daemon/link/link_internal.h"

static void expect_reset(struct scene *scene, uint32_t channel, int error)
{
	struct frame_reset reset;

	expect(scene, FRAME_RESET);
	assert_int_equal(scene->peer.header.channel, channel);
	assert_int_equal(frame_reset_decode(scene->peer.payload, scene->peer.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
}

static void answer_reset(struct scene *scene, uint32_t channel)
{
	const struct frame_reset reset = {.error = ECONNRESET};
	uint8_t payload[FRAME_SMALL_MAX];

	put(scene, FRAME_RESET, channel, payload, frame_reset_encode(&reset, payload));
	notify(scene);
	assert_int_equal(info_of(scene).channels, 0);
}

/* The daemon that has taken over knows the link before the domain. */
SCENE_TEST(a_link_that_is_away_is_told_so_once_its_domain_is_known, up_to_resume)
{
	told_away = 0;
	leave(scene);
	assert_int_equal(told_away, 1);
	scene->sink->changed(scene->sink->userdata, REGISTRY_PRESENCE, 7);
	assert_int_equal(told_away, 2);
	resume(scene);
	scene->sink->changed(scene->sink->userdata, REGISTRY_PRESENCE, 7);
	assert_int_equal(told_away, 2);
}

/* --- a program ends ------------------------------------------------------------------------------- */

enum { OPENED_BEFORE, OPENED_MEANWHILE, ACCEPTED, CHANNELS };

SCENE_TEST_EACH(program_that_ends_while_the_peer_is_away_has_ended_then, up_to_resume, number, 2 * CHANNELS)
{
	int channel = number / 2;
	bool is_lost_twice = number % 2; /* before the peer has read of it */
	uint32_t opened = channel == ACCEPTED ? 2 : 1;

	if (channel == OPENED_BEFORE)
		opened = open_channel(scene)->acceptor.number;
	if (channel == ACCEPTED)
		accept_channel(scene);
	leave(scene);
	if (channel == OPENED_MEANWHILE)
		opened = open_channel(scene)->acceptor.number;
	forget_program_channels(scene);
	assert_int_equal(scene->program.channels.count, 0);
	resume(scene);
	if (is_lost_twice) {
		leave(scene);
		resume(scene);
	}
	if (channel == OPENED_BEFORE)
		expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	if (channel == OPENED_MEANWHILE)
		expect(scene, FRAME_OPEN);
	expect_reset(scene, opened, channel == ACCEPTED ? ENOENT : ECONNRESET);
	if (is_lost_twice)
		expect(scene, FRAME_PING);
	expect_silence(scene);
	answer_reset(scene, opened);
}

SCENE_TEST_EACH(program_that_ends_before_there_is_a_link_leaves_nothing, scene_start, has_link, 2)
{
	uint32_t number = open_channel(scene)->acceptor.number;

	expect_state(scene, LINK_CONNECTING);
	forget_program_channels(scene);
	if (!has_link) {
		links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "it isn't willing");
		expect_state(scene, LINK_IDLE);
		assert_int_equal(info_of(scene).channels, 0);
		return;
	}
	/* It may have sent something. */
	begin_to_resume(scene);
	expect(scene, FRAME_OPEN);
	expect_reset(scene, number, ECONNRESET);
	expect_silence(scene);
	answer_reset(scene, number);
}

/* --- a restore before the last one is over ---------------------------------------------------------- */

enum { AT_ONCE, GREETED, PROVING, RESUMING, STAGES }; /* of the attempt to go on */
enum { SAVED, LOST, LEFT, SILENT, WAYS };

SCENE_TEST_EACH(peer_saved_again_before_its_proof_comes_back_once_more, up_to_resume, number,
		(STAGES - GREETED) * WAYS)
{
	int stage = GREETED + number / WAYS, way = number % WAYS;
	uint32_t domid = stage == RESUMING ? 9 : 7; /* of the session, wherever it is */
	struct link_info info;

	open_channel(scene);
	leave(scene);
	scene->was = 7;
	scene->other = 9;
	if (stage == GREETED) {
		take_number(scene, 9);
		bring_vchan(scene);
		scene->peer.unnumbered = true;
		hear_hello(scene, NAMES_SESSION);
	} else {
		come_as(scene, 9);
		if (stage == PROVING)
			hear_prove(scene);
		else
			prove(scene);
	}
	if (way == SAVED) /* domain 0 sees that: an attempt has nothing that would be lost */
		links_saved(scene->links, 9);
	if (way == LEFT) {
		scene->peer.vchan->was_left = true;
		close_by_peer(scene);
	} else if (way == SILENT) {
		pass_in_steps(scene, DEAD_AFTER_MS + HEARTBEAT_MS, HEARTBEAT_MS);
	} else {
		lose(scene, false);
	}
	assert_true(scene->peer.vchan->closed);
	assert_true(links_info(scene->links, peer_domain(domid), &info));
	assert_int_equal(info.state, LINK_AWAY);
	assert_int_equal(info.channels, 1);
	come_as(scene, 11);
	prove(scene);
	go_on(scene);
	assert_int_equal(scene->moves, 1); /* from 7 to 11 at once */
	assert_int_equal(info_of(scene).channels, 1);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	expect_silence(scene);
}

SCENE_TEST_EACH(domain_restored_again_before_it_found_its_peer_finds_it, up_to_resume, stage, STAGES)
{
	struct link_info info;

	open_channel(scene);
	leave(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	links_restart(scene->links);
	if (stage != AT_ONCE)
		links_go_on(scene->links);
	if (stage >= PROVING)
		meet_again(scene);
	if (stage == PROVING)
		hear_prove(scene);
	if (stage == RESUMING)
		prove(scene);
	scene->connects = 0;
	links_restart(scene->links);
	assert_int_equal(open_vchans(), 0);
	pass(scene, AGAIN_MS);
	assert_int_equal(scene->connects, 0);
	/* No number has two sessions, nor one none. */
	assert_int_equal(links_count(scene->links), 1);
	assert_true(links_next(scene->links, NULL, &info));
	assert_int_equal(info.peer.number, 7);
	assert_int_equal(info.state, LINK_AWAY);
	assert_int_equal(info.channels, 1);
	links_go_on(scene->links);
	assert_int_equal(scene->connects, 1);
	resume(scene);
	assert_int_equal(links_count(scene->links), 1);
	assert_int_equal(info_of(scene).channels, 1);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	expect_silence(scene);
}

/* An image and its original: both know the secret. The second one proves it while the first one is being
 * resumed. */
SCENE_TEST_EACH(of_two_that_prove_the_same_session_one_goes_on, scene_start, is_mapped, 2)
{
	struct resumed_session first, second;
	struct peer original, image;

	maps = is_mapped;
	begin_to_resume(scene);
	open_channel(scene);
	leave(scene);
	scene->was = 7;
	come_as(scene, 9);
	hear_prove(scene);
	original = scene->peer;
	first = session;
	scene->other = 9;
	scene->peer = (struct peer){.domid = 11};
	come_as(scene, 11);
	hear_prove(scene);
	say_prove(scene, good_prove(1));
	expect(scene, FRAME_RESUME);
	image = scene->peer;
	second = session;

	/* The original proves itself, too. Who maps has begun an epoch, of which that one knows nothing. */
	scene->other = 11;
	scene->peer = original;
	session = first;
	say_prove(scene, good_prove(1));
	if (is_mapped) {
		expect_silence(scene);
		assert_true(original.vchan->closed && original.vchan->left);
		scene->other = 9;
		scene->peer = image;
		session = second;
	} else {
		expect(scene, FRAME_RESUME);
		assert_true(image.vchan->closed && image.vchan->left);
	}
	go_on(scene);
	assert_int_equal(scene->moves, 1);
	assert_int_equal(info_of(scene).resumes, 1);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	expect_silence(scene);
}

/* --- accounts ------------------------------------------------------------------------------------- */

/* What was kept for it is still sent, and given back; nothing else is let wait for it meanwhile. */
SCENE_TEST_EACH(peer_whose_account_is_full_comes_back_to_all_that_was_kept, scene_start, has_moved, 2)
{
	struct charge before;
	uint64_t kept;

	set_limits(scene, 1000, 0);
	begin_to_resume(scene);
	open_channel(scene);
	leave(scene);
	kept = used_by(scene, 7, QUOTA_BYTES);
	assert_true(kept > 0);
	charge_to(&before, scene, 7);
	while (charge_add(&before, QUOTA_BYTES, 1) == 0)
		;
	assert_int_equal(used_by(scene, 7, QUOTA_BYTES), 1000);
	scene->was = 7;
	come_as(scene, has_moved ? 9 : 7);
	prove(scene);
	go_on(scene);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	expect_silence(scene);
	assert_int_equal(used_by(scene, scene->peer.domid, QUOTA_BYTES), 1000 - kept);
	charge_end(&before);
	stop_links(scene);
	assert_int_equal(used_by(scene, 7, QUOTA_BYTES) + used_by(scene, 9, QUOTA_BYTES), 0);
}

/* --- a session that can't be resumed ----------------------------------------------------------------- */

/* Opened before the peer has said that it knows nothing of the session. */
SCENE_TEST(what_was_never_said_goes_over_the_session_begun_instead, up_to_resume)
{
	open_channel(scene);
	expect(scene, FRAME_OPEN);
	leave(scene);
	open_channel(scene);
	ping(scene, 7);
	assert_int_equal(info_of(scene).channels, 2);
	begin_anew(scene, NAMES_SESSION);
	assert_int_equal(info_of(scene).channels, 1);
	scene->peer.unnumbered = false;
	scene->peer.heard_sequence = 1;
	assert_int_equal(scene->pongs, 1);
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
}

SCENE_TEST(what_waits_for_who_only_claims_goes_over_the_next_link, up_to_resume)
{
	leave(scene);
	scene->was = 7;
	come_as(scene, 9);
	open_channel(scene);
	hear_prove(scene);
	scene->connects = 0;
	say_prove(scene, wrong_prove());
	assert_true(scene->peer.vchan->closed);
	expect_state(scene, LINK_CONNECTING);
	assert_int_equal(scene->connects, 1);
	assert_int_equal(info_of(scene).channels, 1);
	memset(scene->instances[9], 1, sizeof(scene->instances[9]));
	greet(scene);
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
}

#define WORK_UUID "01234567-89ab-4def-8123-456789abcdef"

static struct channel *open_by_number(struct scene *scene, uint32_t domid)
{
	struct frame_identity identity = {.domid = OWN};
	struct channel *channel;
	int error;

	assert_int_equal(
		channel_new(&scene->program, 2 * scene->opened++, CHANNEL_MESSAGE, &identity, &channel), 0);
	assert_int_equal(
		channel_accept(channel,
			       links_want(scene->links, links_meant(scene->links, domid), NULL, &error), "x"),
		0);
	return channel;
}

/* By the domain's number, which no daemon had when it was opened. */
enum { SAME, ANOTHER, OTHER_NUMBER, SAME_UUID, SAME_UUID_LATER, DAEMONS };

SCENE_TEST_EACH(what_waits_for_a_session_lost_by_a_save_goes_over_the_next, up_to_resume, shape, DAEMONS)
{
	static const uint8_t another[16];
	bool has_uuid = shape == SAME_UUID || shape == SAME_UUID_LATER, goes = shape == SAME || has_uuid;

	if (has_uuid) {
		scene->name = "work";
		scene->uuid = WORK_UUID;
		note_name(scene, 7);
	}
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	links_restart(scene->links);
	scene->is_up = false;
	links_go_on(scene->links);
	open_by_number(scene, 7);
	scene->is_up = true;
	if (shape == SAME_UUID_LATER)
		scene->uuid = NULL;
	if (shape != SAME)
		memset(scene->instances[7], 1, sizeof(scene->instances[7]));
	scene->was = 7;
	if (shape == OTHER_NUMBER || has_uuid)
		scene->peer.domid = 9;
	bring_vchan(scene);
	hear_hello(scene, shape == SAME ? NAMES_SESSION : NAMES_NONE);
	hello_of_peer(scene, NAMES_NONE, shape == ANOTHER || has_uuid ? another : peer_instance);
	expect_state(scene, LINK_UP);
	if (shape == SAME_UUID_LATER) {
		expect_silence(scene);
		scene->uuid = WORK_UUID;
		note_name(scene, 9);
	}
	scene->peer.unnumbered = false;
	scene->peer.heard_sequence = 1;
	if (goes)
		expect(scene, FRAME_OPEN);
	expect_silence(scene);
	assert_int_equal(info_of(scene).channels, goes ? 1 : 0);
}

/* Nobody has looked yet whether a daemon is there by the number. */
SCENE_TEST_EACH(what_is_opened_right_after_a_restore_waits_for_no_session, up_to_resume, is_absent, 2)
{
	struct channel *channel;
	struct hop *sought;

	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	links_restart(scene->links);
	scene->is_up = false;
	sought = scene->links->links->hop;
	scene->is_unseen = true;
	links_go_on(scene->links);
	channel = open_by_number(scene, 7);
	assert_ptr_not_equal(channel->acceptor.hop, sought);
	expect_state(scene, LINK_CONNECTING);
	if (is_absent) { /* it is away, too: so that is waited for */
		scene->is_unseen = false;
		links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "there is no domain 7");
		assert_ptr_equal(channel->acceptor.hop, sought);
		channel = open_by_number(scene, 7);
		assert_ptr_equal(channel->acceptor.hop, sought);
		return;
	}
	scene->is_up = true;
	memset(scene->instances[7], 1, sizeof(scene->instances[7])); /* another daemon */
	greet(scene);
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
}

static void up_to_resume_with_domain_0(struct scene *scene)
{
	scene_start_with(scene, 0);
	begin_to_resume(scene);
}

/* What the peer has said isn't taken in, and comes again. */
SCENE_TEST(a_lack_of_ours_costs_the_peer_no_session, up_to_resume_with_domain_0)
{
	scene->directory_result = -ENOMEM;
	say(scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene->directories, 1);
	expect_state(scene, LINK_AWAY);
	assert_true(scene->peer.vchan->left);
}
