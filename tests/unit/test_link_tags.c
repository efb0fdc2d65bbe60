/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How HELLO names a session to who knows it, and shows nobody else that there is one (doc/protocol.md
 * 5.7). */
#include "tests/unit/resume_rig.h"

#include "daemon/link/link_internal.h"

static void up_known(struct scene *scene)
{
	up_to_resume(scene);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
}

/* What a stranger hears of us: the types of frames and their sizes, what HELLO says openly, and how the vchan
 * ends. */
struct impression {
	struct frame_hello_link hello;
	uint32_t heard[16];
	unsigned count;
	bool closed, left;
	uint32_t least_ring;
};

enum { SILENT, NAMES_NOTHING, MAJOR, SHORT, PROVES, SAYS_GOODBYE, LEAVES, GOES, CONDUCTS };

static void behave(struct scene *scene, int conduct)
{
	switch (conduct) {
	case NAMES_NOTHING:
		hello_of_peer(scene, NAMES_NONE, peer_instance);
		say_u64(scene, FRAME_PING, 7);
		break;
	case MAJOR:
		say_hello(scene, PROTOCOL_MAJOR + 1);
		break;
	case SHORT:
		say(scene, FRAME_HELLO, "\1\0\1\0", 4);
		break;
	case PROVES:
		say_prove(scene, (struct frame_prove){.epoch = 1});
		break;
	case SAYS_GOODBYE:
		say(scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
		break;
	case LEAVES:
	case GOES:
		scene->peer.vchan->was_left = conduct == LEAVES;
		close_by_peer(scene);
		break;
	default:
		pass(scene, DEAD_AFTER_MS);
		pass(scene, HEARTBEAT_MS);
		break;
	}
}

static struct impression impression_on_a_stranger(struct scene *scene, int conduct)
{
	struct impression it = {.least_ring = 0};

	scene->peer = (struct peer){.domid = 9};
	memcpy(scene->instances[9], peer_instance, sizeof(peer_instance));
	it.least_ring = links_least_ring(scene->links, 9);
	bring_vchan(scene);
	expect(scene, FRAME_HELLO);
	assert_int_equal(frame_hello_link_decode(scene->peer.payload, scene->peer.header.length, &it.hello),
			 0);
	it.heard[it.count++] = scene->peer.header.length;
	behave(scene, conduct);
	while (it.count < 16 && hear(scene))
		it.heard[it.count++] = (uint32_t)scene->peer.header.type << 16 | scene->peer.header.length;
	it.closed = scene->peer.vchan->closed;
	it.left = scene->peer.vchan->left;
	return it;
}

/* In a scene with a link, whose session is with this instance or another one. */
static struct impression impression_beside_a_link(int conduct, bool is_known, bool is_away)
{
	struct impression impression;
	struct link_info info;
	struct scene scene;

	up_known(&scene);
	scene.other = 7;
	scene.links->links->ring_bytes = 131072;
	if (!is_known)
		scene.links->links->session.peer_instance[0] ^= 1;
	if (is_away)
		leave(&scene);
	impression = impression_on_a_stranger(&scene, conduct);
	assert_true(links_info(scene.links, peer_domain(7), &info));
	assert_int_equal(info.resumes, 0);
	scene_stop(&scene);
	return impression;
}

TEST_EACH(who_names_a_strangers_instance_learns_nothing_of_its_session, 2 * CONDUCTS)
{
	int conduct = unit_number(state) / 2;
	bool is_away = unit_number(state) % 2;
	struct impression with = impression_beside_a_link(conduct, true, is_away);
	struct impression without = impression_beside_a_link(conduct, false, is_away);

	assert_int_equal(with.count, without.count);
	assert_memory_equal(with.heard, without.heard, sizeof(with.heard));
	assert_int_equal(with.closed, without.closed);
	assert_int_equal(with.left, without.left);
	assert_int_equal(with.least_ring, without.least_ring);
	assert_int_equal(with.hello.flags, without.hello.flags);
	/* Tags never come again: not from another HELLO, and not within one. */
	for (unsigned i = 0; i < HELLO_TAGS; i++)
		for (unsigned j = 0; j < HELLO_TAGS; j++) {
			assert_memory_not_equal(with.hello.tags[i], without.hello.tags[j], HELLO_TAG_SIZE);
			if (i != j)
				assert_memory_not_equal(with.hello.tags[i], with.hello.tags[j],
							HELLO_TAG_SIZE);
		}
}

/* The heartbeat finds what was written without a notification: PROVE alone, or HELLO before it. The claim's
 * link is freed by that, and is looked at no more. */
SCENE_TEST_EACH(claim_is_over_when_the_heartbeat_finds_it_proven, up_known, with_hello, 2)
{
	struct frame_prove theirs;

	scene->was = 7;
	leave(scene);
	take_number(scene, 9);
	bring_vchan(scene);
	scene->peer.unnumbered = true;
	hear_hello(scene, NAMES_SESSION);
	theirs = good_prove(session.epoch);
	if (with_hello)
		scene->peer.vchan->event = NULL;
	hello_of_peer(scene, NAMES_SESSION, peer_instance);
	if (!with_hello)
		hear_prove(scene);
	scene->peer.vchan->event = NULL;
	say_prove(scene, theirs);
	expect_silence(scene);
	pass(scene, HEARTBEAT_MS);
	if (with_hello)
		hear_prove(scene);
	expect(scene, FRAME_RESUME);
	go_on(scene);
	assert_int_equal(info_of(scene).resumes, 1);
}

/* A domain lies about its instance: the right session is among those of our tags, too, and is found. */
SCENE_TEST(session_is_found_beside_that_of_a_liar, up_known)
{
	struct resumed_session right;

	leave(scene);
	right = session;
	scene->other = 10;
	take_number(scene, 10);
	bring_vchan(scene);
	hear_hello(scene, NAMES_SESSION); /* which means nothing to it */
	hello_of_peer(scene, NAMES_NONE, peer_instance);
	settle(scene);
	session = right;
	scene->was = 7;
	come_as(scene, 9);
	prove(scene);
	go_on(scene);
}

/* Larger rings than others get are granted to who has named the session, and to nobody before. */
SCENE_TEST(rings_for_what_is_sent_again_come_once_a_session_is_named, up_known)
{
	scene->was = 7;
	scene->links->links->ring_bytes = 131072;
	leave(scene);
	assert_int_equal(links_least_ring(scene->links, 7), 131072); /* it is this domain's own */
	take_number(scene, 9);
	bring_vchan(scene);
	assert_int_equal(links_least_ring(scene->links, 9), 0);
	scene->peer.vchan->size = 65536;
	hear_hello(scene, NAMES_SESSION);
	hello_of_peer(scene, NAMES_SESSION, peer_instance);
	expect_silence(scene);
	assert_true(scene->peer.vchan->closed && scene->peer.vchan->left);
	expect_state(scene, LINK_CONNECTING);
	assert_int_equal(links_least_ring(scene->links, 9), 131072);
	assert_int_equal(links_least_ring(scene->links, 8), 0);
}
