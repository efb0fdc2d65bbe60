/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Channels in a waiting room: they keep what comes, within the window, and lose nothing when they move. */
#include "tests/unit/hop_rig.h"

#include <dlfcn.h>
#include <event2/buffer.h>
#include <event2/event.h>

#define GOAL 200000u

static unsigned lacks; /* so often there is no memory for what has to wait */

__attribute__((visibility("default"))) int evbuffer_reserve_space(struct evbuffer *buffer, ev_ssize_t size,
								  struct evbuffer_iovec *room, int count)
{
	int (*next)(struct evbuffer *, ev_ssize_t, struct evbuffer_iovec *, int) =
		(int (*)(struct evbuffer *, ev_ssize_t, struct evbuffer_iovec *, int))dlsym(
			RTLD_NEXT, "evbuffer_reserve_space");

	if (lacks == 0)
		return next(buffer, size, room, count);
	lacks--;
	return -1;
}

static struct channel *the_channel; /* that was opened last */
static struct hop *the_room;

static int into_the_room(struct participant *participant, struct channel *channel,
			 const struct frame_open *open)
{
	char name[64] = "";

	memcpy(name, open->name.data, open->name.size);
	the_channel = channel;
	return channel_accept(channel, the_room, name);
}

struct scene {
	struct rig rig;
	struct participant *a, *b;
	struct hop waiting_room;
};

static void on_failed(void *owner, int error, const char *why)
{
	fail_msg("the room failed: %s", why);
}

static void start_with(struct scene *scene, enum hop_kind sender)
{
	static const struct hop_callbacks nobody = {.failed = on_failed};

	rig_start(&scene->rig, 1);
	scene->a = participant_new(&scene->rig,
				   &(struct rig_options){.kind = sender, .ring = 65536, .parity = 1});
	scene->b = participant_new(&scene->rig,
				   &(struct rig_options){.kind = HOP_SHARED, .ring = 65536, .parity = 1});
	assert_int_equal(hop_init(&scene->waiting_room, &scene->rig.board[0], HOP_WAITING_ROOM, &nobody,
				  scene, 0, CHANNEL_NUMBERS / 2),
			 0);
	the_room = &scene->waiting_room;
	scene->a->open = into_the_room;
}

static void scene_start(struct scene *scene)
{
	start_with(scene, HOP_SHARED);
}

static void scene_stop(struct scene *scene)
{
	hop_cleanup(&scene->waiting_room);
	participant_kill(scene->a);
	participant_kill(scene->b);
	rig_stop(&scene->rig);
}

TEST(what_waited_arrives_whole_and_in_order)
{
	static const enum hop_kind senders[] = {HOP_SHARED, HOP_LINK};

	for (unsigned i = 0; i < 2; i++) {
		struct scene scene;

		start_with(&scene, senders[i]);
		flow_start(scene.a, 0, "inbox", 1, GOAL);
		while (participant_data(scene.a, 0, 4096, false))
			rig_settle(&scene.rig);
		rig_settle(&scene.rig);
		assert_true(channel_is_waiting(the_channel));
		assert_int_equal(scene.waiting_room.channels.count, 1);
		assert_int_equal(channel_queued(&the_channel->acceptor), CHANNEL_INITIAL_LIMIT);
		assert_int_equal(participant_channel(scene.a, 0)->confirmed, 0);
		assert_int_equal(channel_accept(the_channel, &scene.b->hop, "inbox_1"), 0);
		assert_false(channel_is_waiting(the_channel));
		assert_int_equal(scene.waiting_room.channels.count, 0);
		flows_run(&scene.rig, 4096, 8192);
		assert_true(flow_is_done(scene.a, 0));
		scene_stop(&scene);
	}
}

/* It stays in the sender's ring until there is some. */
TEST(lack_of_memory_for_what_waits_ends_nothing)
{
	static const enum hop_kind senders[] = {HOP_SHARED, HOP_LINK};

	for (unsigned i = 0; i < 2; i++) {
		struct scene scene;

		start_with(&scene, senders[i]);
		flow_start(scene.a, 0, "inbox", 1, GOAL);
		rig_settle(&scene.rig);
		lacks = 3;
		while (participant_data(scene.a, 0, 4096, false))
			rig_settle(&scene.rig);
		while (channel_queued(&the_channel->acceptor) < CHANNEL_INITIAL_LIMIT) {
			event_base_loop(scene.rig.base, EVLOOP_ONCE); /* it is tried again by a timer */
			rig_settle(&scene.rig);
			while (participant_data(scene.a, 0, 4096, false))
				rig_settle(&scene.rig);
		}
		assert_int_equal(lacks, 0);
		assert_int_equal(channel_accept(the_channel, &scene.b->hop, "inbox_1"), 0);
		flows_run(&scene.rig, 4096, 8192);
		assert_true(flow_is_done(scene.a, 0));
		scene_stop(&scene);
	}
}

SCENE_TEST(opener_hears_nothing_until_it_moves, scene_start)
{
	static struct participant_frame frame;

	participant_open(scene->a, 0, "inbox_1");
	rig_settle(&scene->rig);
	assert_false(participant_get(scene->a, 0, &frame));
	assert_int_equal(channel_accept(the_channel, &scene->b->hop, "inbox_1"), 0);
	assert_true(participant_expect(scene->a, FRAME_OPENED, &frame));
}

SCENE_TEST(channel_that_is_forbidden_leaves_the_room_at_once, scene_start)
{
	participant_open(scene->a, 0, "inbox_1");
	participant_data(scene->a, 0, 4096, false);
	rig_settle(&scene->rig);
	channel_forbid(the_channel, EACCES);
	assert_int_equal(scene->waiting_room.channels.count, 0);
	participant_expect_refusal(scene->a, 0, EACCES);
}

SCENE_TEST(what_a_sender_left_behind_arrives, scene_start)
{
	flow_start(scene->a, 0, "inbox", 1, 4096);
	participant_data(scene->a, 0, 4096, false);
	participant_fin(scene->a, 0);
	rig_settle(&scene->rig);
	participant_kill(scene->a);
	assert_false(channel_is_abandoned(the_channel));
	assert_int_equal(channel_accept(the_channel, &scene->b->hop, "inbox_1"), 0);
	rig_settle(&scene->rig);
	participant_read(scene->b, 1u << 20);
	assert_int_equal(participant_accepted(scene->b, 1)->received, 4096);
}

SCENE_TEST(call_is_abandoned_with_its_caller, scene_start)
{
	participant_open_kind(scene->a, 0, CHANNEL_CALL, "inbox_1");
	rig_settle(&scene->rig);
	assert_false(channel_is_abandoned(the_channel));
	participant_kill(scene->a);
	assert_true(channel_is_abandoned(the_channel));
	assert_int_equal(scene->waiting_room.channels.count, 1);
	channel_forbid(the_channel, ENOENT);
	assert_int_equal(scene->waiting_room.channels.count, 0);
}
