/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/channel_rig.h"

struct participant *to_b(struct participant *participant, const char *name)
{
	return participant->rig->parties->next;
}

static struct participant *to_link(struct participant *participant, const char *name)
{
	return name[0] == 'x' ? participant->rig->parties->next->next : to_b(participant, name);
}

void scene_with(struct scene *scene, uint32_t link_ring, bool detached)
{
	rig_start(&scene->rig, 1);
	scene->a = participant_new(&scene->rig,
				   &(struct rig_options){.kind = HOP_SHARED, .ring = RING, .parity = 1});
	scene->b = participant_new(&scene->rig,
				   &(struct rig_options){.kind = HOP_SHARED, .ring = RING, .parity = 1});
	scene->link = participant_new(&scene->rig, &(struct rig_options){
							   .kind = HOP_LINK,
							   .ring = link_ring,
							   .out_ring = RING,
							   .detached = detached,
						   });
	scene->a->route = to_link;
	scene->b->route = to_link;
	scene->link->route = to_b;
}

void scene_start(struct scene *scene)
{
	scene_with(scene, RING, false);
}

void start_with_small_link(struct scene *scene)
{
	scene_with(scene, 1024, false);
}

void read_all(struct scene *scene)
{
	struct participant *parties[] = {scene->a, scene->b, scene->link};
	uint32_t moved = 1;

	while (moved) {
		moved = 0;
		rig_settle(&scene->rig);
		for (unsigned i = 0; i < 3; i++)
			moved += participant_read(parties[i], 1u << 30);
	}
}

void nothing_is_left(struct scene *scene)
{
	read_all(scene);
	assert_int_equal(scene->a->hop.channels.count, 0);
	assert_int_equal(scene->b->hop.channels.count, 0);
	assert_int_equal(scene->link->hop.channels.count, 0);
	assert_null(scene->a->hop.urgent);
	assert_false(hop_has_backlog(&scene->b->hop));
	assert_false(hop_has_backlog(&scene->link->hop));
}

void scene_stop(struct scene *scene)
{
	nothing_is_left(scene);
	rig_stop(&scene->rig);
}

void send_bytes(struct participant *participant, uint32_t number, uint32_t size)
{
	assert_int_equal(participant_data(participant, number, size, false), size);
	rig_settle(participant->rig);
}

const struct participant_channel *expect_reset(struct participant *participant, uint32_t number,
					       uint32_t error, uint64_t consumed, uint64_t unsure)
{
	const struct participant_channel *channel = participant_channel(participant, number);

	rig_settle(participant->rig);
	participant_read(participant, 1u << 30);
	assert_true(channel->reset_in);
	assert_int_equal(channel->reset.error, error);
	assert_int_equal(channel->reset.consumed, consumed);
	assert_int_equal(channel->reset.unsure, unsure);
	return channel;
}
