/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A link that goes on over other rings, in either role, with a peer that does so too, or does wrong; and when it does.
 */
#include "tests/unit/resume_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/link/elastic.h"
#include "daemon/link/link_internal.h"
#include "daemon/link/vchan_transport.h"
#include "wire/bytes.h"

#define RING_REF 11
#define PORT	 12
#define LOOK_MS	 ELASTIC_LOOK_MS

/* The other vchan, which the daemon has granted, or maps. */
static struct {
	struct vchan *vchan;
	unsigned grants, maps;
	uint32_t size;	      /* of its rings, as granted */
	uint32_t free_size;   /* the largest that there are pages for; 0: any */
	uint32_t pages_limit; /* as told */
	int map_error;
	struct ring_writer out;
	struct ring_reader in;
} other;

static void make_other(bool is_mapped)
{
	struct ring_view view;

	free(other.vchan);
	other.vchan = calloc(1, sizeof(*other.vchan));
	assert_non_null(other.vchan);
	other.vchan->is_mapped = is_mapped;
	other.vchan->state = is_mapped ? VCHAN_CONNECTED : VCHAN_WAITING;
	view = private_ring_view(&other.vchan->in);
	ring_writer_init(&other.out, &view, false);
	view = private_ring_view(&other.vchan->out);
	ring_reader_init(&other.in, &view, false);
}

static int grant(void *userdata, uint32_t domid, uint32_t ring_size, struct transport *made,
		 struct transport_place *place)
{
	assert_int_equal(domid, 7);
	if (other.free_size && ring_size > other.free_size)
		return -ENOSPC;
	other.size = ring_size;
	other.grants++;
	make_other(false);
	*made = vchan_transport(other.vchan);
	*place = (struct transport_place){RING_REF, PORT};
	return 0;
}

static int map(void *userdata, uint32_t domid, const struct transport_place *place, struct transport *made)
{
	assert_int_equal(domid, 7);
	assert_true(place->ring_ref == RING_REF && place->port == PORT);
	if (other.map_error)
		return other.map_error;
	other.maps++;
	make_other(true);
	*made = vchan_transport(other.vchan);
	return 0;
}

static uint32_t pages_limit(void *userdata)
{
	return other.pages_limit;
}

static const struct transport_maker maker = {.grant = grant, .map = map, .pages_limit = pages_limit};

static struct link *link_of(struct scene *scene)
{
	return scene->links->links;
}

static void start(struct scene *scene, bool is_mapped)
{
	memset(&other, 0, sizeof(other));
	transport_maker = &maker;
	scene_start(scene);
	scene->peer_flags = HELLO_MOVES;
	connect_peer(scene);
	scene->peer.vchan->is_mapped = is_mapped;
	expect(scene, FRAME_HELLO);
	say_hello(scene, PROTOCOL_MAJOR);
	expect_state(scene, LINK_UP);
}

static void stop(struct scene *scene)
{
	forget_program_channel(scene);
	scene_stop(scene);
	if (other.vchan)
		assert_true(other.vchan->closed);
	free(other.vchan);
	other.vchan = NULL;
	transport_maker = NULL;
}

/* A frame that is no part of the session, in the present ring. */
static void say_aside(struct scene *scene, uint8_t type, const void *payload, uint32_t length)
{
	uint32_t sequence = scene->peer.sequence;

	scene->peer.sequence = 0;
	say(scene, type, payload, length);
	scene->peer.sequence = sequence;
}

static void hear_move(struct scene *scene)
{
	uint32_t sequence = scene->peer.heard_sequence;

	scene->peer.heard_sequence = 0;
	expect(scene, FRAME_MOVE);
	assert_int_equal(scene->peer.header.length, 0);
	scene->peer.heard_sequence = sequence;
}

static void hear_offer(struct scene *scene)
{
	struct frame_offer offer;

	expect(scene, FRAME_OFFER);
	assert_int_equal(frame_offer_decode(scene->peer.payload, scene->peer.header.length, &offer), 0);
	assert_true(offer.ring_ref == RING_REF && offer.port == PORT);
}

static void say_offer(struct scene *scene)
{
	const struct frame_offer offer = {.ring_ref = RING_REF, .port = PORT};
	uint8_t payload[16];

	say(scene, FRAME_OFFER, payload, frame_offer_encode(&offer, payload));
}

/* The peer goes on with the other vchan, in one direction or both. */
static void peer_writes_other(struct scene *scene)
{
	scene->peer.out = other.out;
}

static void peer_reads_other(struct scene *scene)
{
	scene->peer.in = other.in;
}

static void peer_has_moved(struct scene *scene)
{
	struct vchan *old = scene->peer.vchan;

	scene->peer.vchan = other.vchan;
	other.vchan = old;
}

static void notify_other(struct scene *scene)
{
	if (other.vchan->event)
		other.vchan->event(other.vchan->userdata);
	settle(scene);
}

static void offered(struct scene *scene)
{
	start(scene, false);
	assert_int_equal(link_offer(link_of(scene), 1u << 20), 0);
	hear_offer(scene);
}

/* --- what goes on ----------------------------------------------------------------------------- */

static void granting_end_offers_and_goes_on_behind_both_moves(void **state)
{
	struct scene scene;

	offered(&scene);
	assert_false(link_may_move(link_of(&scene)));
	other.vchan->state = VCHAN_CONNECTED;
	notify_other(&scene);
	expect_silence(&scene);
	say_aside(&scene, FRAME_MOVE, "", 0);
	peer_writes_other(&scene);
	/* Its frames are taken there already; ours wait until MOVE is read. */
	open_channel(&scene);
	say_u64(&scene, FRAME_PING, 7);
	notify_other(&scene);
	hear_move(&scene);
	expect_silence(&scene);
	assert_false(scene.peer.vchan->closed);
	notify(&scene); /* we have read it */
	assert_true(scene.peer.vchan->closed);
	peer_reads_other(&scene);
	peer_has_moved(&scene);
	expect(&scene, FRAME_PONG); /* with the next number: hear() has looked */
	expect(&scene, FRAME_ACK);
	expect(&scene, FRAME_OPEN);
	expect_silence(&scene);
	assert_int_equal(info_of(&scene).moves, 1);
	say_u64(&scene, FRAME_PING, 8);
	expect(&scene, FRAME_PONG);
	expect_state(&scene, LINK_UP);
	stop(&scene);
}

static void mapping_end_maps_and_goes_on(void **state)
{
	struct scene scene;

	start(&scene, true);
	assert_false(link_may_move(link_of(&scene)));
	say_offer(&scene);
	assert_int_equal(other.maps, 1);
	open_channel(&scene);
	hear_move(&scene);
	expect_silence(&scene);
	/* The peer writes in the old ring until its own MOVE. */
	say_u64(&scene, FRAME_PING, 7);
	peer_reads_other(&scene);
	expect(&scene, FRAME_PONG);
	expect(&scene, FRAME_ACK);
	expect(&scene, FRAME_OPEN);
	assert_false(scene.peer.vchan->closed);
	say_aside(&scene, FRAME_MOVE, "", 0);
	assert_true(scene.peer.vchan->closed);
	peer_writes_other(&scene);
	peer_has_moved(&scene);
	say_u64(&scene, FRAME_PING, 8);
	expect(&scene, FRAME_PONG);
	assert_int_equal(info_of(&scene).moves, 1);
	stop(&scene);
}

/* It has read our MOVE before it said its own, so for it the move is over; we may not have looked whether it has. */
static void peer_may_offer_again_right_behind_its_move(void **state)
{
	const struct frame_offer offer = {.ring_ref = RING_REF, .port = PORT};
	struct scene scene;
	uint8_t payload[16];

	start(&scene, true);
	say_offer(&scene);
	hear_move(&scene);
	scene.peer.unnumbered = true;
	put(&scene, FRAME_MOVE, 0, "", 0);
	scene.peer.unnumbered = false;
	peer_writes_other(&scene);
	peer_reads_other(&scene);
	put(&scene, FRAME_OFFER, 0, payload, frame_offer_encode(&offer, payload));
	peer_has_moved(&scene);
	notify_other(&scene);
	expect_state(&scene, LINK_UP);
	assert_int_equal(info_of(&scene).moves, 1);
	assert_int_equal(other.maps, 2);
	hear_move(&scene);
	stop(&scene);
}

static void peer_that_has_moved_may_close_the_old_vchan_first(void **state)
{
	struct scene scene;

	start(&scene, true);
	say_offer(&scene);
	hear_move(&scene);
	scene.peer.sequence = 0; /* MOVE lies there, and nobody was notified */
	put(&scene, FRAME_MOVE, 0, "", 0);
	scene.peer.sequence = 2;
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	peer_writes_other(&scene);
	peer_reads_other(&scene);
	peer_has_moved(&scene);
	expect_state(&scene, LINK_UP);
	assert_int_equal(info_of(&scene).moves, 1);
	say_u64(&scene, FRAME_PING, 8);
	expect(&scene, FRAME_PONG);
	stop(&scene);
}

static void peer_that_declines_has_what_it_had(void **state)
{
	struct scene scene;

	offered(&scene);
	say(&scene, FRAME_DECLINE, "\1\0\0\0", 4); /* of before a loss */
	assert_false(other.vchan->closed);
	say(&scene, FRAME_DECLINE, "\0\0\0\0", 4);
	assert_true(other.vchan->closed);
	expect_state(&scene, LINK_UP);
	say_u64(&scene, FRAME_PING, 8);
	expect(&scene, FRAME_PONG);
	stop(&scene);

	start(&scene, true);
	other.map_error = -ENOMEM;
	say_offer(&scene);
	expect(&scene, FRAME_DECLINE);
	other.map_error = 0;
	say_offer(&scene);
	hear_move(&scene);
	assert_int_equal(info_of(&scene).moves, 0);
	stop(&scene);
}

static void peer_that_does_not_move_is_offered_nothing(void **state)
{
	struct scene scene;

	memset(&other, 0, sizeof(other));
	transport_maker = &maker;
	up(&scene);
	assert_false(link_may_move(link_of(&scene)));
	scene.peer.vchan->is_mapped = false;
	assert_false(link_may_move(link_of(&scene)));
	stop(&scene);
}

static void goodbye_is_heard_wherever_it_lies(void **state)
{
	struct scene scene;

	for (int in_other = 0; in_other < 2; in_other++) {
		offered(&scene);
		other.vchan->state = VCHAN_CONNECTED;
		scene.peer.sequence = 0;
		if (in_other) {
			put(&scene, FRAME_MOVE, 0, "", 0);
			peer_writes_other(&scene);
		}
		put(&scene, FRAME_GOODBYE, 0, "\0\0\0\0enough", 10);
		scene.peer.vchan->state = other.vchan->state = VCHAN_CLOSED;
		notify(&scene);
		expect_state(&scene, LINK_IDLE);
		expect_last_error(&scene, "closed it");
		assert_true(scene.peer.vchan->closed && other.vchan->closed);
		stop(&scene);
	}
}

/* --- what goes wrong -------------------------------------------------------------------------- */

static void expect_end(struct scene *scene, uint32_t error)
{
	expect_state(scene, LINK_IDLE);
	assert_true(scene->peer.vchan->closed);
	if (other.vchan)
		assert_true(other.vchan->closed);
	expect_last_error(scene, strerror((int)error));
	stop(scene);
}

static void frames_that_are_not_due(void **state)
{
	struct scene scene;

	for (int is_mapped = 0; is_mapped < 2; is_mapped++) {
		start(&scene, is_mapped);
		say_aside(&scene, FRAME_MOVE, "", 0);
		expect_end(&scene, EPROTO);
		start(&scene, is_mapped);
		say(&scene, FRAME_DECLINE, "\0\0\0\0", 4);
		expect_end(&scene, EPROTO);
	}
	/* Who maps offers nothing. */
	start(&scene, false);
	say_offer(&scene);
	expect_end(&scene, EPROTO);
	/* Two at once. */
	start(&scene, true);
	say_offer(&scene);
	say_offer(&scene);
	expect_end(&scene, EPROTO);
	/* A short one, and one that leads to something impossible. */
	start(&scene, true);
	say(&scene, FRAME_OFFER, "1234", 4);
	expect_end(&scene, EPROTO);
	start(&scene, true);
	other.map_error = -EPROTO;
	say_offer(&scene);
	expect_end(&scene, EPROTO);
	/* MOVE to where it hasn't come; with a payload; twice. */
	offered(&scene);
	say_aside(&scene, FRAME_MOVE, "", 0);
	expect_end(&scene, EPROTO);
	offered(&scene);
	other.vchan->state = VCHAN_CONNECTED;
	say_aside(&scene, FRAME_MOVE, "12345678", 8);
	expect_end(&scene, EPROTO);
	offered(&scene);
	other.vchan->state = VCHAN_CONNECTED;
	say_aside(&scene, FRAME_MOVE, "", 0);
	peer_writes_other(&scene);
	scene.peer.sequence = 0;
	put(&scene, FRAME_MOVE, 0, "", 0);
	notify_other(&scene);
	expect_end(&scene, EPROTO);
	/* Before HELLO. */
	transport_maker = &maker;
	scene_start(&scene);
	connect_peer(&scene);
	scene.peer.vchan->is_mapped = true;
	say_offer(&scene);
	expect_end(&scene, EPROTO);
}

static void vchan_that_goes_takes_the_other_one_along(void **state)
{
	static const struct {
		enum vchan_state state;
		const char *why;
	} ends[] = {{VCHAN_CLOSED, "has gone"}, {VCHAN_BROKEN, "has gone"}};
	struct scene scene;

	for (unsigned i = 0; i < 2; i++) {
		for (int which = 0; which < 2; which++) {
			start(&scene, true);
			say_offer(&scene);
			hear_move(&scene);
			(which ? other.vchan : scene.peer.vchan)->state = ends[i].state;
			if (which)
				notify_other(&scene);
			else
				notify(&scene);
			expect_state(&scene, LINK_IDLE);
			expect_last_error(&scene, ends[i].why);
			assert_true(scene.peer.vchan->closed && other.vchan->closed);
			stop(&scene);
		}
	}
}

/* --- and is lost meanwhile ---------------------------------------------------------------------- */

enum stage {
	OFFERED,
	OFFERED_AND_MAPPED,
	BOTH_SAID, /* our MOVE lies in the old ring, and the peer's was read */
	ONE_SAID,  /* we map: our MOVE lies in the old ring */
	ONE_READ,  /* and was read, so we write in the new one */
	STAGES
};

static void count_heard(struct scene *scene)
{
	session.received += frame_size(scene->peer.header.length);
}

static void reach_stage(struct scene *scene, enum stage stage)
{
	bool is_mapped = stage >= ONE_SAID;
	const struct frame_offer offer = {.ring_ref = RING_REF, .port = PORT, .epoch = 1};
	uint8_t payload[16];

	memset(&other, 0, sizeof(other));
	transport_maker = &maker;
	scene_start(scene);
	scene->peer_flags = HELLO_MOVES;
	begin_to_resume(scene);
	scene->peer.vchan->is_mapped = is_mapped;
	if (is_mapped) {
		say(scene, FRAME_OFFER, payload, frame_offer_encode(&offer, payload));
		assert_int_equal(other.maps, 1);
	} else {
		assert_int_equal(link_offer(link_of(scene), 1u << 20), 0);
		hear_offer(scene);
		count_heard(scene);
	}
	if (stage == OFFERED_AND_MAPPED || stage == BOTH_SAID) {
		other.vchan->state = VCHAN_CONNECTED;
		notify_other(scene);
	}
	if (stage == BOTH_SAID)
		say_aside(scene, FRAME_MOVE, "", 0);
	if (stage == ONE_READ) {
		hear_move(scene);
		notify(scene);
		peer_reads_other(scene);
	}
	open_channel(scene);
	session.sequence = scene->peer.sequence;
	session.heard_sequence = scene->peer.heard_sequence;
}

static void session_that_is_lost_while_it_moves_is_resumed(void **state)
{
	enum { SAVED, RESTORED, GONE, LEFT, OTHER_LEFT, WAYS };
	struct scene scene;

	for (enum stage stage = OFFERED; stage < STAGES; stage++) {
		for (int way = 0; way < WAYS; way++) {
			unsigned opens = 0, pings = 0;
			struct vchan *old;

			if (way == OTHER_LEFT && stage < BOTH_SAID)
				continue; /* what was offered isn't needed */
			reach_stage(&scene, stage);
			memcpy(scene.instances[7], peer_instance, sizeof(peer_instance));
			switch (way) {
			case SAVED: /* the peer's domain is about to be */
				links_saved(scene.links, 7);
				break;
			case RESTORED: /* ours was */
				scene.peer.vchan->restored = other.vchan->restored = true;
				links_restart(scene.links);
				links_go_on(scene.links);
				break;
			case GONE: /* its domain vanishes from XenStore */
				links_lost(scene.links, 7, false, "it has gone");
				break;
			case LEFT:
				scene.peer.vchan->state = VCHAN_CLOSED;
				scene.peer.vchan->was_left = true;
				notify(&scene);
				break;
			default:
				other.vchan->state = VCHAN_CLOSED;
				other.vchan->was_left = true;
				notify_other(&scene);
			}
			expect_state(&scene, LINK_AWAY);
			assert_true(scene.peer.vchan->closed && scene.peer.vchan->left);
			assert_true(other.vchan->closed);
			assert_int_equal(info_of(&scene).moves, 0);
			if (way == GONE && stage % 2) { /* for ever */
				for (uint64_t ms = 0; ms < RESUME_FOR_MS + AGAIN_MS; ms += AGAIN_MS)
					pass(&scene, AGAIN_MS);
				expect_state(&scene, LINK_IDLE);
				stop(&scene);
				continue;
			}
			old = scene.peer.vchan;
			scene.peer.vchan = NULL;
			meet_again(&scene);
			prove(&scene);
			go_on(&scene);
			while (hear(&scene)) { /* all numbers are right */
				opens += scene.peer.header.type == FRAME_OPEN;
				pings += scene.peer.header.type == FRAME_PING;
			}
			assert_int_equal(opens, 1);
			assert_int_equal(pings, 1);
			/* Nothing of the move is left, and there may be another one. */
			assert_int_equal(link_of(&scene)->move.state, MOVE_NOT);
			say_u64(&scene, FRAME_PING, 8);
			expect(&scene, FRAME_PONG);
			expect(&scene, FRAME_ACK);
			assert_int_equal(link_offer(link_of(&scene), 1u << 20), 0);
			links_free(scene.links);
			scene.links = NULL;
			stop(&scene);
			assert_true(old->closed);
			free(old);
		}
	}
}

static void peer_that_does_not_answer_an_offer_is_given_up(void **state)
{
	struct scene scene;

	offered(&scene);
	for (uint64_t ms = 0; ms < DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS) {
		if (link_of(&scene)->state == LINK_UP)
			say_u64(&scene, FRAME_PONG, 0); /* it is alive */
		pass(&scene, HEARTBEAT_MS);
	}
	expect_state(&scene, LINK_IDLE);
	expect_last_error(&scene, "didn't move");
	assert_true(other.vchan->closed);
	stop(&scene);
}

/* --- when ------------------------------------------------------------------------------------- */

/* So much has come over it since the last look. */
static void carry(struct scene *scene, uint64_t bytes)
{
	link_of(scene)->hop->rx.bytes += bytes;
	link_elastic_used(link_of(scene));
	pass(scene, LOOK_MS);
}

/* The peer does its part. */
static void let_it_move(struct scene *scene, uint32_t size)
{
	while (hear(scene) && scene->peer.header.type != FRAME_OFFER)
		;
	assert_int_equal(scene->peer.header.type, FRAME_OFFER);
	assert_int_equal(other.size, size);
	other.vchan->state = VCHAN_CONNECTED;
	say_aside(scene, FRAME_MOVE, "", 0);
	peer_writes_other(scene);
	hear_move(scene);
	notify(scene);
	peer_reads_other(scene);
	peer_has_moved(scene);
	link_of(scene)->ring_bytes = size; /* those of the rig all have one */
}

static void start_at(struct scene *scene, uint32_t size)
{
	start(scene, false);
	link_of(scene)->ring_bytes = size;
	/* HELLO is no traffic. */
	assert_false(scene->links->elastic_runs);
}

static void busy_link_grows_and_quiet_one_shrinks(void **state)
{
	struct scene scene;

	start_at(&scene, 65536);
	carry(&scene, 1u << 20);
	assert_int_equal(other.grants, 0);
	carry(&scene, 1u << 20);
	let_it_move(&scene, 1u << 20);
	/* What lies between much and little changes nothing. */
	for (unsigned i = 0; i < 3 * ELASTIC_QUIET_LOOKS; i++)
		carry(&scene, 1u << 19);
	/* Nor does a short silence. */
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS - 1; i++)
		carry(&scene, 0);
	carry(&scene, 1u << 19);
	assert_int_equal(other.grants, 1);
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS; i++)
		carry(&scene, 1000);
	let_it_move(&scene, 65536);
	assert_int_equal(info_of(&scene).moves, 2);
	carry(&scene, 0);
	carry(&scene, 0);
	assert_false(scene.links->elastic_runs); /* nobody looks any more */
	stop(&scene);
}

static void burst_and_little_traffic_move_nothing(void **state)
{
	struct scene scene;

	start_at(&scene, 65536);
	for (unsigned i = 0; i < 100; i++) {
		carry(&scene, i % 2 ? 4u << 20 : 0);
		carry(&scene, 1u << 19);
	}
	carry(&scene, 0);
	carry(&scene, 0);
	assert_int_equal(other.grants, 0);
	assert_false(scene.links->elastic_runs);
	stop(&scene);
}

static void link_grows_as_far_as_there_are_pages(void **state)
{
	struct scene scene;

	start_at(&scene, 65536);
	other.free_size = 262144;
	carry(&scene, 1u << 20);
	carry(&scene, 1u << 20);
	let_it_move(&scene, 262144);
	/* And further when it has rested, and there are more. */
	other.free_size = 0;
	for (unsigned i = 0; i < 2 + ELASTIC_REST_MS / LOOK_MS && other.grants < 2; i++)
		carry(&scene, 1u << 20);
	let_it_move(&scene, 1u << 20);
	stop(&scene);

	/* An eighth of all isn't grown into. */
	start_at(&scene, 65536);
	other.pages_limit = 580;
	carry(&scene, 1u << 20);
	carry(&scene, 1u << 20);
	let_it_move(&scene, 1u << 19);
	stop(&scene);
}

static void link_shrinks_at_once_when_others_wait_for_pages(void **state)
{
	struct scene scene;

	for (int is_used = 0; is_used < 2; is_used++) {
		start_at(&scene, 65536);
		other.pages_limit = 700;
		carry(&scene, 1u << 20);
		carry(&scene, 1u << 20);
		let_it_move(&scene, 1u << 20);
		/* One that is in use shares, one that isn't gives all back. */
		scene.waiting_for_pages = 4;
		carry(&scene, is_used ? 1u << 20 : 0);
		let_it_move(&scene, is_used ? 1u << 19 : 65536);
		stop(&scene);
	}
}

static void no_link_gets_less_than_the_smallest_size_nor_stays_below_the_first(void **state)
{
	struct scene scene;

	/* There are no pages for anything that is worth moving to. */
	start_at(&scene, 65536);
	carry(&scene, 1u << 20);
	carry(&scene, 1u << 20);
	let_it_move(&scene, 1u << 20);
	other.free_size = 2048;
	scene.waiting_for_pages = 1;
	for (unsigned i = 0; i < 100; i++)
		carry(&scene, 0);
	assert_int_equal(other.grants, 1);
	other.free_size = 4096;
	carry(&scene, 0);
	let_it_move(&scene, 4096);
	/* It is busy again, and somebody waits for ever: it gets what that one would. */
	other.free_size = 0;
	for (unsigned i = 0; i < 2 + 3 * ELASTIC_REST_MS / LOOK_MS && other.grants < 3; i++)
		carry(&scene, 1u << 20);
	let_it_move(&scene, 65536);
	for (unsigned i = 0; i < 100; i++)
		carry(&scene, 1u << 20);
	assert_int_equal(other.grants, 3);
	stop(&scene);
}

static void link_that_may_not_shrink_is_asked_seldom(void **state)
{
	struct scene scene;

	start_at(&scene, 65536);
	carry(&scene, 1u << 20);
	carry(&scene, 1u << 20);
	let_it_move(&scene, 1u << 20);
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS + 2 && other.grants < 2; i++)
		carry(&scene, 1000);
	while (hear(&scene) && scene.peer.header.type != FRAME_OFFER)
		;
	say(&scene, FRAME_DECLINE, "\0\0\0\0", 4);
	carry(&scene, 0);
	carry(&scene, 0);
	assert_false(scene.links->elastic_runs);
	/* But one that has something to do is looked at at once. */
	link_of(&scene)->hop->rx.bytes += 1u << 20;
	link_elastic_used(link_of(&scene));
	assert_true(scene.links->elastic_runs);
	for (unsigned i = 0; i < ELASTIC_QUIET_LOOKS + 2; i++)
		carry(&scene, 0);
	assert_false(scene.links->elastic_runs);
	assert_int_equal(other.grants, 2);
	for (unsigned i = 0; i < 7; i++) {
		say_u64(&scene, FRAME_PONG, 0); /* it lives */
		pass(&scene, HEARTBEAT_MS);
	}
	assert_int_equal(other.grants, 3);
	stop(&scene);
}

static void peer_that_offers_again_and_again_is_declined(void **state)
{
	struct scene scene;
	unsigned mapped = 0;

	start(&scene, true);
	other.map_error = -ENOMEM; /* which costs as much */
	for (unsigned i = 0; i < 50; i++) {
		uint64_t before = scene.relay.turns.spent;

		say_offer(&scene);
		expect(&scene, FRAME_DECLINE);
		mapped += scene.relay.turns.spent - before > 10000;
		pass(&scene, 100);
	}
	/* In 5 s, two in 2 s. */
	assert_in_range(mapped, 4, 6);
	expect_state(&scene, LINK_UP);
	pass(&scene, ELASTIC_REST_MS);
	other.map_error = 0;
	say_offer(&scene);
	hear_move(&scene);
	stop(&scene);
}

static void shares_are_fair_and_powers_of_two(void **state)
{
	assert_int_equal(elastic_pages(1024), 1);
	assert_int_equal(elastic_pages(65536), 33);
	assert_int_equal(elastic_pages(1u << 20), 513);
	for (uint32_t pages = 0; pages < 20000; pages += 7) {
		for (uint32_t links = 1; links < 100; links += 3) {
			uint32_t size = elastic_share(65536, 1u << 20, pages, links);

			assert_true(size >= 65536 && size <= 1u << 20 && !(size & (size - 1)));
			assert_true(size == 65536 || elastic_pages(size) * links <= pages);
			assert_true(size == 1u << 20 || elastic_pages(2 * size) * links > pages);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(granting_end_offers_and_goes_on_behind_both_moves),
		cmocka_unit_test(mapping_end_maps_and_goes_on),
		cmocka_unit_test(peer_may_offer_again_right_behind_its_move),
		cmocka_unit_test(peer_that_has_moved_may_close_the_old_vchan_first),
		cmocka_unit_test(peer_that_declines_has_what_it_had),
		cmocka_unit_test(peer_that_does_not_move_is_offered_nothing),
		cmocka_unit_test(goodbye_is_heard_wherever_it_lies),
		cmocka_unit_test(frames_that_are_not_due),
		cmocka_unit_test(vchan_that_goes_takes_the_other_one_along),
		cmocka_unit_test(session_that_is_lost_while_it_moves_is_resumed),
		cmocka_unit_test(peer_that_does_not_answer_an_offer_is_given_up),
		cmocka_unit_test(busy_link_grows_and_quiet_one_shrinks),
		cmocka_unit_test(burst_and_little_traffic_move_nothing),
		cmocka_unit_test(link_grows_as_far_as_there_are_pages),
		cmocka_unit_test(link_shrinks_at_once_when_others_wait_for_pages),
		cmocka_unit_test(no_link_gets_less_than_the_smallest_size_nor_stays_below_the_first),
		cmocka_unit_test(link_that_may_not_shrink_is_asked_seldom),
		cmocka_unit_test(peer_that_offers_again_and_again_is_declined),
		cmocka_unit_test(shares_are_fair_and_powers_of_two),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
