/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/channel_rig.h"

struct party *to_b(struct party *party, const char *name)
{
	return party->rig->parties->next;
}

static struct party *to_link(struct party *party, const char *name)
{
	return name[0] == 'x' ? party->rig->parties->next->next : to_b(party, name);
}

void scene_with(struct scene *scene, uint32_t link_ring, bool detached)
{
	rig_start(&scene->rig, 1);
	scene->a =
		party_new(&scene->rig, &(struct rig_options){.kind = HOP_SHARED, .ring = RING, .parity = 1});
	scene->b =
		party_new(&scene->rig, &(struct rig_options){.kind = HOP_SHARED, .ring = RING, .parity = 1});
	scene->link = party_new(&scene->rig, &(struct rig_options){
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
	struct party *parties[] = {scene->a, scene->b, scene->link};
	uint32_t moved = 1;

	while (moved) {
		moved = 0;
		rig_settle(&scene->rig);
		for (unsigned i = 0; i < 3; i++)
			moved += party_read(parties[i], 1u << 30);
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

void send_bytes(struct party *party, uint32_t number, uint32_t size)
{
	assert_int_equal(party_data(party, number, size, false), size);
	rig_settle(party->rig);
}

const struct party_channel *expect_reset(struct party *party, uint32_t number, uint32_t error,
					 uint64_t consumed, uint64_t unsure)
{
	const struct party_channel *channel = party_channel(party, number);

	rig_settle(party->rig);
	party_read(party, 1u << 30);
	assert_true(channel->reset_in);
	assert_int_equal(channel->reset.error, error);
	assert_int_equal(channel->reset.consumed, consumed);
	assert_int_equal(channel->reset.unsure, unsure);
	return channel;
}
