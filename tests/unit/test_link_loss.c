/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a link ends, in each state: nothing is left of it, and it can be had again.
 */
#include "tests/unit/link_rig.h"

#include "wire/bytes.h"

enum { FAILED, LOST, CLOSED, DIED, BROKEN, GOODBYE, STOPPED, ENDS, ENDS_AT_ALL_MOMENTS = ENDS * MOMENTS };

SCENE_TEST_EACH(end_at_any_state_ends_the_channels_and_leaves_it_idle, scene_start, number,
		ENDS_AT_ALL_MOMENTS)
{
	enum moment moment = number / ENDS;
	int end = number % ENDS;

	if (end != STOPPED && (moment == CONNECTING) != (end == FAILED))
		return; /* impossible */
	reach(scene, moment, true);
	assert_int_equal(scene->program.channels.count, 1);
	assert_int_equal(info_of(scene).channels, 1);
	switch (end) {
	case FAILED:
		links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "the setting map forbids it");
		expect_last_error(scene, "the setting map forbids it");
		break;
	case LOST:
		links_lost(scene->links, peer_domain(7), true, "the domain is gone");
		settle(scene);
		expect_last_error(scene, "the domain is gone");
		break;
	case CLOSED:
	case DIED:
		scene->peer.vchan->has_died = end == DIED;
		close_by_peer(scene);
		expect_last_error(scene, "the peer's daemon has gone");
		break;
	case BROKEN:
		scene->peer.vchan->state = VCHAN_BROKEN;
		notify(scene);
		expect_last_error(scene, "impossible state");
		break;
	case GOODBYE:
		say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
		expect_last_error(scene, "the peer has closed it");
		break;
	default:
		stop_links(scene);
		assert_int_equal(scene->disconnects, 1);
		return;
	}
	expect_state(scene, LINK_IDLE);
	assert_int_equal(info_of(scene).channels, 0);
	assert_false(info_of(scene).has_vchan);
	/* rendezvous knows of its own failure */
	assert_int_equal(scene->disconnects, end == FAILED ? 0 : 1);
	assert_int_equal(scene->ups, moment == RUNNING);
	assert_int_equal(scene->downs, scene->ups);
	assert_int_equal(scene->deaths != 0, end == DIED);
	/* It can be had again. */
	greet(scene);
}

/* The peer answers a ping, and we haven't heard of that. */
static void answer_ping_unheard(struct scene *scene)
{
	uint8_t payload[8];

	pass(scene, HEARTBEAT_MS);
	expect(scene, FRAME_PING);
	put(scene, FRAME_PONG, 0, payload, frame_u64_encode(get_u64(scene->peer.payload), payload));
}

SCENE_TEST(what_the_peer_said_last_counts_though_it_has_gone, up)
{
	answer_ping_unheard(scene);
	close_by_peer(scene);
	assert_int_equal(info_of(scene).round_trips.count, 1);
	expect_state(scene, LINK_IDLE);
}

/* XenStore may tell of it before the vchan does. */
SCENE_TEST(what_the_peer_said_before_a_loss_in_the_greeting_counts, scene_start)
{
	connect_peer(scene);
	expect(scene, FRAME_HELLO);
	say_hello_unheard(scene);
	expect_state(scene, LINK_GREETING);
	lose(scene, true);
	assert_int_equal(scene->ups, 1);
	assert_int_equal(scene->downs, 1);
	expect_state(scene, LINK_IDLE);
}

SCENE_TEST_EACH(late_news_of_a_peers_restart_ends_no_session_with_the_new, scene_start, heard, 2)
{
	static const uint8_t before[16] = "another one", now[16] = "instance of it";

	connect_peer(scene);
	links_replaced(scene->links, peer_domain(7), now, "it was restarted");
	expect_state(scene, LINK_GREETING); /* it isn't known with whom */
	if (heard)
		say_hello(scene, PROTOCOL_MAJOR);
	else
		say_hello_unheard(scene);
	expect_state(scene, heard ? LINK_UP : LINK_GREETING);
	links_replaced(scene->links, peer_domain(7), now, "it was restarted");
	settle(scene);
	expect_state(scene, LINK_UP);
	links_replaced(scene->links, peer_domain(7), before, "it was restarted");
	settle(scene);
	expect_state(scene, LINK_IDLE);
}

SCENE_TEST(reason_in_a_goodbye_is_kept_as_plain_text, up)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_goodbye goodbye = {.error = EPROTO, .text = {"\033]0;no\n\xff\xc3", 9}};

	say(scene, FRAME_GOODBYE, payload, frame_goodbye_encode(&goodbye, payload));
	expect_state(scene, LINK_IDLE);
	expect_last_error(scene, "the peer says goodbye: ");
	/* It goes into JSON and to terminals. */
	for (const char *c = info_of(scene).last_error; *c; c++)
		assert_true(*c >= ' ' && *c < 0x7f);
}

SCENE_TEST_EACH(peer_that_stops_is_told_by_a_goodbye, scene_start, is_up, 2)
{
	reach(scene, is_up ? RUNNING : GREETING, false);
	stop_links(scene);
	while (hear(scene))
		;
	assert_int_equal(scene->peer.header.type, FRAME_GOODBYE);
	assert_int_equal(get_u32(scene->peer.payload), 0);
	assert_true(scene->peer.vchan->closed);
}

SCENE_TEST(what_was_said_over_the_old_vchan_counts_after_a_new_one, up)
{
	struct vchan *old = scene->peer.vchan;

	answer_ping_unheard(scene);
	connect_peer(scene);
	switch_pass(&scene->board);
	assert_int_equal(info_of(scene).round_trips.count, 1);
	assert_true(old->closed);
	expect_state(scene, LINK_GREETING);
}

SCENE_TEST_EACH(new_vchan_goes_with_the_link_while_the_old_one_is_read, up, is_lost, 2)
{
	struct vchan *old = scene->peer.vchan;

	bring_vchan(scene);
	if (is_lost) {
		lose(scene, true);
		expect_state(scene, LINK_IDLE);
	} else {
		stop_links(scene);
	}
	assert_true(old->closed);
	assert_true(scene->peer.vchan->closed);
}

SCENE_TEST(link_that_cannot_be_notified_ends, up)
{
	scene->peer.vchan->notify_error = -EIO;
	ring_reader_arm(&scene->peer.in, 1);
	say_u64(scene, FRAME_PING, 1);
	expect_state(scene, LINK_IDLE);
	expect_last_error(scene, "notifying it");
}

/* The peer says goodbye while a channel is opened, of which it hears nothing any more. */
static struct channel *open_across_a_goodbye(struct scene *scene)
{
	put(scene, FRAME_GOODBYE, 0, "\0\0\0\0", 4);
	notify_only(scene);
	return open_channel(scene);
}

SCENE_TEST(what_crossed_a_goodbye_goes_over_the_next_link, up)
{
	open_channel(scene);
	expect(scene, FRAME_OPEN);
	open_across_a_goodbye(scene);
	expect_state(scene, LINK_CONNECTING);
	while (hear(scene))
		assert_int_not_equal(scene->peer.header.type, FRAME_OPEN);
	assert_int_equal(scene->connects, 1);
	assert_int_equal(info_of(scene).channels, 1); /* the other one, which was said, has ended */
	greet(scene);
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
}

SCENE_TEST(what_crossed_a_goodbye_ends_if_there_is_no_other_link, up)
{
	scene->connect_error = -EHOSTDOWN;
	open_across_a_goodbye(scene);
	expect_state(scene, LINK_IDLE);
	assert_int_equal(info_of(scene).channels, 0);
}

SCENE_TEST(peer_that_ends_each_link_at_once_is_not_asked_for_ever, up)
{
	unsigned times = 0;

	open_across_a_goodbye(scene);
	while (info_of(scene).state == LINK_CONNECTING) {
		assert_true(times++ < 20);
		connect_peer(scene);
		say_hello_unheard(scene);
		say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	}
	expect_state(scene, LINK_IDLE);
	assert_true(times > 1);
	assert_int_equal(info_of(scene).channels, 0);
}
