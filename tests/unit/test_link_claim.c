/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link's session of which a domain was restored under another domid. */
#include "tests/unit/resume_rig.h"

#include "daemon/hosts/hosts_internal.h"
#include "daemon/link/link_internal.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "tests/unit/image_bytes.h"

/* The peer's domain comes back as domain 9. */
static void come_back(struct scene *scene)
{
	scene->was = session.domid;
	come_as(scene, 9);
}

enum { AWAY, OPENED_MEANWHILE, UNSEEN, GIVEN_UP, MOVES };

SCENE_TEST_EACH(session_goes_on_under_another_domid, up_to_resume, move, MOVES)
{
	struct vchan *old = scene->peer.vchan;
	struct link_info info;

	open_channel(scene);
	scene->is_up = move != AWAY;
	if (move == UNSEEN) { /* it comes back before anybody has seen it go */
		say_u64(scene, FRAME_PONG, 0);
		note_sequences(scene);
	} else {
		leave(scene);
	}
	come_back(scene);
	scene->is_up = true;
	if (move == OPENED_MEANWHILE) /* what a program opens waits, */
		open_channel_to(scene, 9, CHANNEL_MESSAGE);
	if (move == GIVEN_UP) { /* or it gives up */
		const struct frame_reset reset = {.error = ETIMEDOUT};

		assert_int_equal(channel_reset(&open_channel_to(scene, 9, CHANNEL_CALL)->opener, &reset), 0);
		switch_pass(&scene->board);
	}
	prove(scene);
	assert_int_equal(scene->moves, 0);
	go_on(scene);
	assert_int_equal(scene->moves, 1);
	settle(scene);
	assert_false(links_info(scene->links, peer_domain(7), &info));
	assert_int_equal(info_of(scene).resumes, 1);
	assert_int_equal(info_of(scene).channels, move == OPENED_MEANWHILE ? 2 : 1);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	if (move == OPENED_MEANWHILE)
		expect(scene, FRAME_OPEN);
	expect_silence(scene);
	stop_links(scene);
	assert_true(old->closed && old->left);
}

static void up_with_a_relaying_domain_0(struct scene *scene)
{
	scene_start_with(scene, 0);
	scene->peer_flags = HELLO_RELAYS;
	greet(scene);
}

static void up_with_relaying_session(struct scene *scene)
{
	scene_start_with(scene, 0);
	scene->peer_flags = HELLO_RELAYS;
	begin_to_resume(scene);
}

/* The peer's session is up yet, so nothing says since when it is away. */
SCENE_TEST(who_comes_while_its_number_waits_for_domain_0s_word_goes_on, up_with_a_relaying_domain_0)
{
	scene->peer = (struct peer){.domid = 7};
	begin_to_resume(scene);
	say_u64(scene, FRAME_PONG, 0);
	scene->other = scene->zero_tells = 9;
	want(scene, 9);
	links_failed(scene->links, peer_domain(9), -EHOSTDOWN, "it isn't there yet");
	expect_state_of(scene, 9, LINK_CONNECTING);
	note_sequences(scene);
	come_back(scene);
	pass(scene, 600);
	prove(scene);
	go_on(scene);
	assert_int_equal(scene->moves, 1);
	scene->other = 0;
}

/* As when one of the two daemons hands over. */
SCENE_TEST_EACH(what_nobody_is_there_for_waits_for_a_domain_0_that_is_away, up_with_relaying_session, comes,
		2)
{
	leave(scene);
	scene->other = scene->zero_tells = 7;
	want(scene, 7);
	links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "it isn't there");
	pass(scene, 1100);
	expect_state_of(scene, 7, LINK_CONNECTING);
	if (comes) {
		scene->zero_knows = 7;
		note_name(scene, 7);
		pass(scene, 1);
		assert_int_equal(scene->unlinkable, 1);
	} else {
		for (unsigned i = 0; i < 10; i++)
			pass(scene, 501);
		assert_int_equal(scene->unlinkable, 0);
	}
	expect_state_of(scene, 7, LINK_IDLE);
	scene->other = 0;
}

SCENE_TEST_EACH(who_only_claims_to_be_the_peer_gets_and_disturbs_nothing, up_to_resume, shape, 4)
{
	leave(scene);
	come_back(scene);
	hear_prove(scene);
	if (shape == 0)
		say_prove(scene, wrong_prove());
	else if (shape == 1)
		say(scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	else
		lose(scene, shape == 2);
	expect_silence(scene);
	assert_true(scene->peer.vchan->closed);
	expect_state(scene, LINK_IDLE);
	expect_state_of(scene, 7, LINK_AWAY);
	/* The right one comes. */
	scene->peer.domid = session.domid = 7;
	pass(scene, AGAIN_MS);
	resume(scene);
	assert_int_equal(scene->moves, 0);
}

SCENE_TEST(who_claims_to_be_the_peer_without_a_session_gets_its_own, up_to_resume)
{
	leave(scene);
	scene->was = 7;
	take_number(scene, 9);
	begin_anew(scene, NAMES_SESSION);
	expect_state_of(scene, 7, LINK_AWAY);
	say_u64(scene, FRAME_PING, 7);
	expect(scene, FRAME_PONG);
}

SCENE_TEST(session_that_goes_on_elsewhere_waits_until_its_end_is_heard, away)
{
	struct vchan *first = scene->peer.vchan;

	prove(scene);
	go_on(scene);
	come_back(scene);
	hear_prove(scene);
	say_prove(scene, good_prove(2));
	expect_state(scene, LINK_IDLE);
	expect_state_of(scene, 7, LINK_UP);
	stop_links(scene);
	assert_true(first->closed);
}

static void pass_resume_for(struct scene *scene)
{
	pass_in_steps(scene, RESUME_FOR_MS + AGAIN_MS, AGAIN_MS);
}

#define WORK_UUID "01234567-89ab-4def-8123-456789abcdef"

static void expect_way(struct scene *scene, const char *domain, int64_t to)
{
	struct peer_id peer;
	int error = 0, r = links_resolve(scene->links, domain, &peer);

	assert_int_equal(r < 0 ? r : (int64_t)peer.number, to);
	if (r == 0)
		assert_non_null(links_want(scene->links, peer, NULL, &error));
}

SCENE_TEST_EACH(who_was_saved_is_known_by_all_names_until_resume_for_is_over, up_to_resume, shape, 2)
{
	scene->other = 9;
	scene->name = "work";
	scene->uuid = WORK_UUID;
	note_name(scene, 7);
	scene->name = shape ? "work--migratedaway" : "";
	note_name(scene, 7);
	leave(scene);
	scene->is_up = false;
	scene->name = scene->uuid = NULL;
	expect_way(scene, "work", 7);
	expect_way(scene, "01234567-89AB-4def-8123-456789abcdef", 7);
	expect_way(scene, "7", 7);
	expect_way(scene, "other", -EHOSTDOWN);
	expect_way(scene, "", -EHOSTDOWN);
	/* It was restored, and its daemon hasn't noticed. */
	scene->found = 9;
	scene->uuid = WORK_UUID;
	expect_way(scene, "work", 7);
	expect_way(scene, "9", 7);
	scene->uuid = "fedcba98-89ab-4def-8123-456789abcdef"; /* it is another one */
	expect_way(scene, "work", 9);
	scene->uuid = NULL;
	scene->found = 0;
	pass_resume_for(scene);
	scene->connect_error = -EHOSTDOWN;
	want_in_vain(scene, 7, -EHOSTDOWN);
}

/* The daemon of before may have been stopped before it knew of the restore. */
SCENE_TEST(a_look_shows_whether_the_restored_domain_has_another_daemon, up_to_resume)
{
	struct channel *channel;

	scene->other = 9;
	scene->name = "work";
	scene->uuid = WORK_UUID;
	note_name(scene, 7);
	leave(scene);
	scene->is_up = false;
	scene->is_unseen = true;
	scene->found = 9;
	expect_way(scene, "work", 9);
	expect_way(scene, "9", 9);
	scene->peer.domid = 9;
	channel = open_channel(scene);
	assert_ptr_equal(channel->acceptor.hop, want(scene, 9));
	/* There is none, so it may come back: what was opened waits for that. */
	scene->is_unseen = false;
	links_failed(scene->links, peer_domain(9), -EHOSTDOWN, "there is no domain 9, or no daemon in it");
	assert_ptr_equal(channel->acceptor.hop, want(scene, 7));
	expect_way(scene, "9", 7);
	scene->uuid = NULL;
	scene->peer.domid = 7;
}

SCENE_TEST(old_number_leads_to_the_session_until_resume_for_is_over, up_to_resume)
{
	leave(scene);
	come_back(scene);
	prove(scene);
	scene->uuid = WORK_UUID;
	go_on(scene);
	scene->is_up = false;
	assert_true(peer_is_domain(links_meant(scene->links, 7), 9));
	scene->uuid = "fedcba98-89ab-4def-8123-456789abcdef"; /* it is another one, without a daemon yet */
	assert_true(peer_is_domain(links_meant(scene->links, 7), 7));
	scene->uuid = NULL; /* it isn't known */
	assert_true(peer_is_domain(links_meant(scene->links, 7), 9));
	scene->is_up = true; /* another domain has it now */
	assert_true(peer_is_domain(links_meant(scene->links, 7), 7));
	scene->is_up = false;
	time_passed_ms += RESUME_FOR_MS;
	assert_true(peer_is_domain(links_meant(scene->links, 7), 7));
}

SCENE_TEST_EACH(restored_domain_keeps_the_sessions_that_it_can_resume, up_to_resume, shape, 3)
{
	open_channel(scene);
	if (shape)
		leave(scene);
	else
		note_sequences(scene);
	if (shape == 2)
		meet_again(scene);
	scene->connects = 0;
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	links_restart(scene->links);
	assert_true(scene->peer.vchan->closed);
	expect_state(scene, LINK_AWAY);
	pass(scene, AGAIN_MS);
	assert_int_equal(scene->connects, 0);
	links_go_on(scene->links);
	assert_int_equal(scene->connects, 1);
	resume(scene);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
}

/* For a guest's daemon, that of another host is no instance that it could become. */
SCENE_TEST(session_with_another_host_is_not_claimed_by_a_domain, up_to_resume)
{
	struct link *link = link_find_domain(scene->links, 7);

	leave(scene);
	link->peer = peer_host(HOST_FIRST);
	scene->was = 7;
	take_number(scene, 9);
	assert_int_equal(links_least_ring(scene->links, 9), 0);
	begin_anew(scene, NAMES_NONE);
	assert_int_equal(link->state, LINK_AWAY);
	link->peer = peer_domain(7); /* there are no hosts to be told of its end */
}

/* The conversation with another host, whose domain 0 the peer is, is lost, and another one is there. */
static void converse_again(struct scene *scene, struct hosts *hosts)
{
	static struct host host = {.number = HOST_FIRST, .name = "hostb", .up = true}, *by_number[] = {&host};
	static struct self self = {.host = "hosta"};
	struct links *links = scene->links;
	struct link *link = link_find_domain(links, 7);

	*hosts = (struct hosts){.options.self = &self, .by_number = by_number, .count = 1};
	links->options.hosts = hosts;
	leave(scene);
	HASH_DEL(links->links, link);
	link->peer = link->stamped = peer_host(HOST_FIRST);
	HASH_ADD(hh, links->links, peer, sizeof(link->peer), link);
	scene->peer.domid = HOST_FIRST;
	session.own = 0; /* by the names */
	session.domid = 1;
	bring_vchan(scene);
	hear_hello(scene, NAMES_SESSION);
}

enum { RIGHT_HOST, KNOWS_NOTHING, KNOWS_NO_SECRET, OTHER_INSTANCE, HOSTS };

/* The gateway vouches for the host's name alone: its domain 0 may have been installed anew, or restored. */
SCENE_TEST_EACH(session_between_hosts_goes_on_with_who_proves_itself, up_to_resume, who, HOSTS)
{
	static const uint8_t another[16] = "another instance";
	struct hosts hosts;

	open_channel(scene);
	converse_again(scene, &hosts);
	scene->peer.unnumbered = who == RIGHT_HOST || who == KNOWS_NO_SECRET;
	hello_of_peer(scene, who == KNOWS_NOTHING ? NAMES_NONE : NAMES_SESSION,
		      who == OTHER_INSTANCE ? another : peer_instance);
	if (who == RIGHT_HOST) {
		prove(scene);
		go_on(scene);
		expect(scene, FRAME_OPEN);
	} else if (who == KNOWS_NO_SECRET) {
		hear_prove(scene);
		say_prove(scene, wrong_prove());
		expect_silence(scene);
		assert_true(scene->peer.vchan->closed);
		expect_state(scene, LINK_AWAY);
	} else { /* it gets a session of its own, and nothing of that before */
		expect_state(scene, LINK_UP);
		say_u64(scene, FRAME_PING, 7);
		expect(scene, FRAME_PONG);
	}
	assert_int_equal(info_of(scene).resumes, who == RIGHT_HOST);
	assert_int_equal(info_of(scene).channels, who == RIGHT_HOST || who == KNOWS_NO_SECRET);
	stop_links(scene);
}

SCENE_TEST(peer_pays_under_its_new_number_for_what_it_opened_before, scene_start)
{
	set_limits(scene, 1u << 20, 100);
	begin_to_resume(scene);
	accept_channel(scene);
	assert_int_equal(used_by(scene, 7, QUOTA_CHANNELS), 1);
	leave(scene);
	come_back(scene);
	assert_int_equal(used_by(scene, 9, QUOTA_CHANNELS), 0);
	prove(scene);
	go_on(scene);
	assert_int_equal(used_by(scene, 7, QUOTA_CHANNELS), 0);
	assert_int_equal(used_by(scene, 9, QUOTA_CHANNELS), 1);
	assert_int_equal(account_id(info_of(scene).account), 9);
	stop_links(scene);
	forget_program_channels(scene);
	assert_int_equal(used_by(scene, 9, QUOTA_CHANNELS), 0);
}

/* Domain 7 has told domain 9 its secret, and both are there. */
SCENE_TEST(two_domains_with_one_secret_hold_no_more_than_one_may, scene_start)
{
	struct charge before, later;

	set_limits(scene, 1u << 20, 100);
	begin_to_resume(scene);
	charge_to(&before, scene, 7);
	assert_int_equal(charge_add(&before, QUOTA_CHANNELS, 60), 0);
	charge_to(&later, scene, 9); /* from a session that it has taken already */
	assert_int_equal(charge_add(&later, QUOTA_CHANNELS, 41), 0);
	leave(scene);
	come_back(scene);
	hear_prove(scene);
	say_prove(scene, good_prove(1));
	expect_silence(scene);
	assert_true(scene->peer.vchan->closed);
	expect_last_error(scene, "under both numbers");
	expect_state_of(scene, 7, LINK_AWAY);
	assert_int_equal(used_by(scene, 7, QUOTA_CHANNELS), 60);
	assert_int_equal(used_by(scene, 9, QUOTA_CHANNELS), 41);
	/* It isn't lost: there is room now. */
	charge_release(&before, QUOTA_CHANNELS, 1);
	resume(scene);
	assert_int_equal(used_by(scene, 9, QUOTA_CHANNELS), 100);
	assert_int_equal(used_by(scene, 7, QUOTA_CHANNELS), 0);
	/* What was begun under the old number has the new one's turns. */
	assert_ptr_equal(account_time(before.account), account_time(later.account));
	charge_end(&before);
	charge_end(&later);
}

static void start_with_domain_0(struct scene *scene)
{
	scene_start_with(scene, 0);
}

/* There is a link now, with the peer's daemon of before or another one. */
static void expect_to_wait_on(struct scene *scene, bool same_daemon)
{
	assert_int_equal(scene->connects, 1);
	greet(scene);
	if (same_daemon) {
		expect(scene, FRAME_OPEN);
		assert_int_equal(scene->peer.header.channel % 2, 1);
	} else {
		expect_silence(scene);
		assert_int_equal(info_of(scene).channels, 0);
	}
}

/* By the peer's number there is another domain, on another host. */
enum { SAME_DAEMON, OTHER_DAEMON, OUR_NUMBER, RESTORES };

SCENE_TEST_EACH(what_waits_for_a_link_waits_on_when_this_domain_is_restored, scene_start, restore, RESTORES)
{
	open_channel(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	scene->connects = 0;
	links_restart(scene->links);
	scene->self.domid =
		restore == OUR_NUMBER ? 7 : 12; /* above the peer's, with other numbers of channels */
	if (restore == OTHER_DAEMON)
		scene->instances[7][0] ^= 1;
	links_go_on(scene->links);
	if (restore == OUR_NUMBER) {
		assert_int_equal(scene->connects, 0);
		assert_int_equal(info_of(scene).channels, 0);
		return;
	}
	expect_to_wait_on(scene, restore == SAME_DAEMON);
}

/* The daemon hands over the link for which something waits, to the next one, which hasn't taken it up. */
static void hand_over_what_waits(struct scene *scene)
{
	struct image_hops hops = {.hops = (struct hop *[1]){NULL}};
	struct image image;
	uint8_t *bytes;
	size_t size;

	hand_over(scene);
	image_begin(&image);
	links_part.write(scene->links, &image);
	bytes = image_to_bytes(&image, &size);
	stop_links(scene);
	forget_program_channels(scene);
	start_links(scene);
	links_hold(scene->links);
	assert_int_equal(image_open_bytes(&image, bytes, size), 0);
	assert_int_equal(image_next(&image), IMAGE_LINK);
	assert_true(part_read(&links_part, scene->links, &image, IMAGE_LINK, &hops));
	assert_int_equal(image_leave_section(&image), 0);
	image_free(&image);
	free(bytes);
}

/* By its number another daemon is there only when this one has handed over what waits. */
SCENE_TEST(what_waits_since_a_restore_is_still_for_nobody_else, scene_start)
{
	open_channel(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	links_restart(scene->links);
	scene->self.domid = 12;
	links_go_on(scene->links);
	hand_over_what_waits(scene);
	scene->instances[7][0] ^= 1;
	scene->connects = 0;
	links_take_up(scene->links);
	expect_to_wait_on(scene, false);
	expect_last_error(scene, "another daemon since the restore");
}

/* The channel is handed over apart from this: that the link is still asked for shows that it waits on. */
SCENE_TEST_EACH(what_waits_waits_on_over_restores_between_daemons, scene_start, again, 2)
{
	open_channel(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	hand_over_what_waits(scene);
	open_channel(scene);
	for (int restores = 0; restores <= again; restores++) {
		memset(scene->instances[7], 0, sizeof(peer_instance)); /* nobody is known yet */
		links_restart(scene->links);
		scene->self.domid = 12 + (uint32_t)restores;
		links_go_on(scene->links);
		assert_int_equal(info_of(scene).channels, 1);
	}
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	scene->connects = 0;
	links_take_up(scene->links);
	expect_to_wait_on(scene, true);
}

SCENE_TEST(what_waits_for_domain_0_waits_on_when_we_are_restored, start_with_domain_0)
{
	open_channel(scene);
	scene->connects = 0;
	links_restart(scene->links);
	scene->self.domid = 12;
	links_go_on(scene->links);
	expect_to_wait_on(scene, true);
}

enum { STAYS, SAYS_GOODBYE, GOES, IS_RESTARTED, STRANGERS };

SCENE_TEST_EACH(stranger_under_the_old_number_gets_its_own_session, up_to_resume, stranger_does, STRANGERS)
{
	static const uint8_t stranger[16] = "another instance";
	struct link_info info;

	open_channel(scene);
	leave(scene);
	memcpy(scene->instances[7], stranger, sizeof(stranger));
	scene->connects = 0;
	links_restart(scene->links);
	links_go_on(scene->links);
	assert_int_equal(scene->connects, 0);
	assert_int_equal(links_count(scene->links), 1);
	expect_state(scene, LINK_AWAY);
	/* What is opened to the number now is for the stranger. */
	open_channel(scene);
	bring_vchan(scene);
	expect(scene, FRAME_HELLO);
	hello_of_peer(scene, NAMES_NONE, stranger);
	expect_state(scene, LINK_UP);
	assert_int_equal(info_of(scene).channels, 1);
	assert_int_equal(links_count(scene->links), 1);
	assert_false(links_next(scene->links, &(struct peer_id){PEER_DOMAIN, 7}, &info));
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
	if (stranger_does == SAYS_GOODBYE)
		say(scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	if (stranger_does == GOES)
		close_by_peer(scene);
	if (stranger_does == IS_RESTARTED)
		lose(scene, true);
	settle(scene);
	assert_int_equal(scene->program.channels.count, 2);
	/* The right one comes. */
	come_back(scene);
	prove(scene);
	go_on(scene);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
	expect_silence(scene);
	assert_int_equal(scene->moves, 1);
}

SCENE_TEST(session_without_a_number_ends_with_resume_for, up_to_resume)
{
	open_channel(scene);
	links_restart(scene->links);
	links_go_on(scene->links);
	pass_resume_for(scene);
	expect_state(scene, LINK_IDLE);
	assert_int_equal(info_of(scene).channels, 0);
	pass_in_steps(scene, DEAD_AFTER_MS + HEARTBEAT_MS + IDLE_CLOSE_MS, HEARTBEAT_MS);
	assert_int_equal(links_count(scene->links), 0);
}

/* Of the rings before, and at least of those after. */
static const uint32_t sizes[][2] = {{4096, 4096}, {65536, 65536}, {131072, 131072}, {1u << 20, 131072}};

SCENE_TEST_EACH(rings_are_large_enough_for_what_is_sent_again, up_to_resume, i, ROWS(sizes))
{
	scene->links->links->ring_bytes = sizes[i][0];
	assert_int_equal(links_least_ring(scene->links, 7), 0); /* it isn't known who that is */
	leave(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	memcpy(scene->instances[9], peer_instance, sizeof(peer_instance));
	assert_int_equal(links_least_ring(scene->links, 7), sizes[i][1]);
	assert_int_equal(links_least_ring(scene->links, 9), 0); /* nor that it has the session */
	assert_int_equal(links_least_ring(scene->links, 8), 0);
	pass_resume_for(scene);
	expect_state(scene, LINK_IDLE);
	assert_int_equal(links_least_ring(scene->links, 7), 0);
}

/* They were granted before anybody knew of the session, or pages were short. */
SCENE_TEST(rings_too_small_for_what_is_sent_again_are_given_back, up_to_resume)
{
	unsigned attempts = 0;

	open_channel(scene);
	scene->next_rings = 65536;
	leave(scene);
	scene->connects = 0;
	for (int ms = 0; ms < RESUME_FOR_MS - AGAIN_MS; ms += AGAIN_MS) {
		meet_again(scene);
		assert_true(scene->peer.vchan->left && scene->peer.vchan->closed);
		expect_state(scene, LINK_AWAY);
		pass(scene, AGAIN_MS);
		attempts++;
	}
	assert_in_range(scene->connects, 1, attempts + 1); /* once a second at most */
	scene->next_rings = 0;
	resume(scene);
	expect(scene, FRAME_OPEN);
}

/* Nobody knows before the peer's HELLO whether there is anything to send again. */
SCENE_TEST(rings_too_small_for_a_lost_session_carry_the_next_one, up_to_resume)
{
	open_channel(scene);
	leave(scene);
	scene->next_rings = 65536;
	begin_anew(scene, NAMES_SESSION);
	assert_int_equal(info_of(scene).resumes, 0);
}

/* Also where no vchan is there that would be lost with the daemon before. */
SCENE_TEST(session_that_is_away_ends_when_another_daemon_is_there, up_to_resume)
{
	open_channel(scene);
	expect(scene, FRAME_OPEN);
	leave(scene);
	open_channel(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
	scene->sink->changed(scene->sink->userdata, REGISTRY_PRESENCE, 7);
	expect_state(scene, LINK_AWAY);
	memset(scene->instances[7], 1, sizeof(scene->instances[7]));
	scene->sink->changed(scene->sink->userdata, REGISTRY_PRESENCE, 7);
	assert_int_equal(links_least_ring(scene->links, 7), 0);
	expect_state(scene, LINK_CONNECTING);
	assert_int_equal(info_of(scene).channels, 1); /* of which the one before was never told */
	greet(scene);
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
}

/* Who maps takes what it gets, and the peer may have granted less than it should. */
SCENE_TEST(session_that_cannot_be_sent_again_ends_with_resume_for, up_to_resume)
{
	struct link *link = link_find_domain(scene->links, 7);

	open_channel(scene);
	leave(scene);
	for (int ms = 0; ms < RESUME_FOR_MS - AGAIN_MS; ms += AGAIN_MS) {
		meet_again(scene);
		prove(scene);
		link->handshake.out.ring.size = 32; /* the frame has more */
		scene->connects = 0;
		put_resume(scene);
		notify(scene);
		expect_state(scene, LINK_AWAY);
		assert_int_equal(scene->connects, 0); /* it isn't tried again at once */
		pass(scene, AGAIN_MS);
		assert_int_equal(scene->connects, 1);
	}
	pass_in_steps(scene, 3 * AGAIN_MS, AGAIN_MS);
	expect_ended(scene);
}
