/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/move_rig.h"

struct other other;

static void make_other(bool is_mapped)
{
	other.vchan = make_vchan(is_mapped ? VCHAN_CONNECTED : VCHAN_WAITING, &other.out, &other.in);
	other.vchan->is_mapped = is_mapped;
}

static int grant(void *userdata, uint32_t domid, uint32_t ring_size, struct carrier *made,
		 struct carrier_place *place)
{
	assert_int_equal(domid, 7);
	if (other.free_size && ring_size > other.free_size)
		return -ENOSPC;
	other.size = ring_size;
	other.grants++;
	make_other(false);
	*made = vchan_carrier(other.vchan);
	*place = (struct carrier_place){RING_REF, PORT};
	return 0;
}

static int map(void *userdata, uint32_t domid, const struct carrier_place *place, struct carrier *made)
{
	assert_int_equal(domid, 7);
	assert_true(place->ring_ref == RING_REF && place->port == PORT);
	if (other.map_error)
		return other.map_error;
	other.maps++;
	make_other(true);
	*made = vchan_carrier(other.vchan);
	return 0;
}

static uint32_t pages_limit(void *userdata)
{
	return other.pages_limit;
}

const struct carrier_maker maker = {.grant = grant, .map = map, .pages_limit = pages_limit};

void start_to_move(struct scene *scene)
{
	memset(&other, 0, sizeof(other));
	carrier_maker = &maker;
	scene_start(scene);
}

struct link *link_of(struct scene *scene)
{
	return scene->links->links;
}

static void move_start(struct scene *scene, bool is_mapped)
{
	start_to_move(scene);
	connect_peer(scene);
	scene->peer.vchan->is_mapped = is_mapped;
	expect(scene, FRAME_HELLO);
	say_hello(scene, PROTOCOL_MAJOR);
	expect_state(scene, LINK_UP);
}

void move_granter(struct scene *scene)
{
	move_start(scene, false);
}

void move_mapper(struct scene *scene)
{
	move_start(scene, true);
}

void say_aside(struct scene *scene, uint8_t type, const void *payload, uint32_t length)
{
	uint32_t sequence = scene->peer.sequence;

	scene->peer.sequence = 0;
	say(scene, type, payload, length);
	scene->peer.sequence = sequence;
}

void hear_move(struct scene *scene)
{
	uint32_t sequence = scene->peer.heard_sequence;

	scene->peer.heard_sequence = 0;
	expect(scene, FRAME_MOVE);
	assert_int_equal(scene->peer.header.length, 0);
	scene->peer.heard_sequence = sequence;
}

void hear_offer(struct scene *scene)
{
	struct frame_offer offer;

	expect(scene, FRAME_OFFER);
	assert_int_equal(frame_offer_decode(scene->peer.payload, scene->peer.header.length, &offer), 0);
	assert_true(offer.ring_ref == RING_REF && offer.port == PORT);
}

void say_offer(struct scene *scene)
{
	const struct frame_offer offer = {.ring_ref = RING_REF, .port = PORT};
	uint8_t payload[16];

	say(scene, FRAME_OFFER, payload, frame_offer_encode(&offer, payload));
}

void peer_writes_other(struct scene *scene)
{
	scene->peer.out = other.out;
}

void peer_reads_other(struct scene *scene)
{
	scene->peer.in = other.in;
}

void peer_has_moved(struct scene *scene)
{
	struct vchan *old = scene->peer.vchan;

	scene->peer.vchan = other.vchan;
	other.vchan = old;
}

void notify_other(struct scene *scene)
{
	if (other.vchan->event)
		other.vchan->event(other.vchan->userdata);
	settle(scene);
}

void offered(struct scene *scene)
{
	move_granter(scene);
	assert_int_equal(link_offer(link_of(scene), 1u << 20), 0);
	hear_offer(scene);
}
