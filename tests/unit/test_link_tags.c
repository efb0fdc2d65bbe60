/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How HELLO names a session to who knows it, and shows nobody else that there is one (doc/protocol.md
 * 5.7). */
#include "tests/unit/resume_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/link_internal.h"
#include "wire/bytes.h"

#define HELLO_MAX 512

/* Says HELLO as the peer. `names`: one of its tags is the session's. */
static void say_tagged_hello(struct scene *scene, bool names)
{
	struct frame_hello_link hello = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_LINK_MINOR,
		.version = {"1.1", 3},
		.resumes = true,
		.is_tagged = true,
	};
	uint8_t payload[HELLO_MAX];
	struct proof_end us, them;

	memcpy(hello.instance, peer_instance, sizeof(hello.instance));
	memcpy(hello.nonce, peer_nonce, sizeof(hello.nonce));
	memset(hello.tags, 0xa5, sizeof(hello.tags));
	proof_ends(&us, &them);
	if (names)
		proof_tag(session.secret, &them, &us, hello.tags[5]);
	say(scene, FRAME_HELLO, payload, frame_hello_link_encode(&hello, payload));
}

/* Returns how many of our tags name the session. */
static unsigned hear_tagged_hello(struct scene *scene, struct frame_hello_link *hello)
{
	uint8_t tag[PROOF_TAG_SIZE];
	struct proof_end us, them;
	unsigned found = 0;

	expect(scene, FRAME_HELLO);
	assert_int_equal(frame_hello_link_decode(scene->peer.payload, scene->peer.header.length, hello), 0);
	assert_true(hello->resumes && hello->is_tagged);
	assert_int_equal(hello->purpose, HELLO_BEGIN);
	assert_memory_equal(hello->token, hello->nonce, sizeof(hello->token));
	memcpy(session.nonce, hello->nonce, sizeof(session.nonce));
	proof_ends(&us, &them);
	proof_tag(session.secret, &us, &them, tag);
	for (unsigned i = 0; i < HELLO_TAGS; i++)
		found += !memcmp(hello->tags[i], tag, sizeof(tag));
	return found;
}

/* The link is up with a peer that names sessions by tags, too. */
static void up_hidden(struct scene *scene)
{
	struct frame_hello_link hello;

	scene_start(scene);
	session.domid = 7;
	connect_peer(scene);
	hear_tagged_hello(scene, &hello);
	memcpy(session.token, hello.nonce, sizeof(session.token));
	memcpy(session.secret, hello.secret, sizeof(session.secret));
	say_tagged_hello(scene, false);
	expect_state(scene, LINK_UP);
	session.epoch = 1;
	session.received = frame_size(scene->peer.header.length);
	memcpy(scene->instances[7], peer_instance, sizeof(peer_instance));
}

static void come_by(struct scene *scene, uint32_t domid)
{
	scene->peer.domid = session.domid = domid;
	memcpy(scene->instances[domid], peer_instance, sizeof(peer_instance));
	bring_vchan(scene);
}

TEST(session_is_named_to_the_other_end_and_goes_on)
{
	struct frame_hello_link hello;
	struct scene scene;

	for (uint32_t domid = 7; domid <= 9; domid += 2) {
		up_hidden(&scene);
		scene.was = domid == 7 ? 0 : 7;
		open_channel(&scene);
		leave(&scene);
		come_by(&scene, domid);
		scene.peer.unnumbered = true;
		assert_int_equal(hear_tagged_hello(&scene, &hello), 1);
		expect_silence(&scene);
		say_tagged_hello(&scene, true);
		prove(&scene);
		go_on(&scene);
		assert_int_equal(info_of(&scene).resumes, 1);
		assert_int_equal(info_of(&scene).channels, 1);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		end_scene(&scene);
	}
}

TEST(peer_that_names_no_session_has_none_any_more)
{
	struct frame_hello_link hello;
	struct scene scene;

	up_hidden(&scene);
	leave(&scene);
	come_by(&scene, 7);
	scene.peer.sequence = scene.peer.heard_sequence = 0;
	assert_int_equal(hear_tagged_hello(&scene, &hello), 1);
	say_tagged_hello(&scene, false);
	expect_state(&scene, LINK_UP);
	assert_int_equal(scene.ups, 2);
	assert_int_equal(info_of(&scene).resumes, 0);
	scene_stop(&scene);
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

enum { SILENT, NAMES_NOTHING, MAJOR, SHORT, PROVES, RESUMES, SAYS_GOODBYE, LEAVES, GOES, CONDUCTS };

static void behave(struct scene *scene, int conduct)
{
	struct frame_prove none = {.epoch = 1};

	switch (conduct) {
	case NAMES_NOTHING:
		say_tagged_hello(scene, false);
		say_u64(scene, FRAME_PING, 7);
		break;
	case MAJOR:
		say_hello(scene, PROTOCOL_MAJOR + 1);
		break;
	case SHORT:
		say(scene, FRAME_HELLO, "\1\0\1\0", 4);
		break;
	case PROVES:
		say_prove(scene, &none);
		break;
	case RESUMES: /* as an earlier daemon */
		hello_of_peer(scene, HELLO_RESUME, session.token, peer_instance);
		say_u64(scene, FRAME_PING, 7);
		break;
	case SAYS_GOODBYE:
		say(scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
		break;
	case LEAVES:
	case GOES:
		scene->peer.vchan->state = VCHAN_CLOSED;
		scene->peer.vchan->was_left = conduct == LEAVES;
		notify(scene);
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

TEST(who_names_a_strangers_instance_learns_nothing_of_its_session)
{
	for (int conduct = 0; conduct < CONDUCTS; conduct++) {
		struct impression with, without;
		struct link_info info;
		struct scene scene;
		struct peer right;

		for (int is_away = 0; is_away < 2; is_away++) {
			/* Both scenes have the link; in one it is with another instance. */
			for (int is_known = 0; is_known < 2; is_known++) {
				uint32_t resumes = 0;

				up_hidden(&scene);
				scene.other = 7;
				scene.links->links->ring_bytes = 131072;
				if (!is_known)
					scene.links->links->session.peer_instance[0] ^= 1;
				if (is_away)
					leave(&scene);
				right = scene.peer;
				*(is_known ? &with : &without) = impression_on_a_stranger(&scene, conduct);
				assert_true(links_info(scene.links, peer_domain(7), &info));
				assert_int_equal(info.resumes, resumes);
				links_free(scene.links);
				scene.links = NULL;
				free(scene.peer.vchan);
				scene.peer = right;
				scene_stop(&scene);
			}
			assert_int_equal(with.count, without.count);
			assert_memory_equal(with.heard, without.heard, sizeof(with.heard));
			assert_int_equal(with.closed, without.closed);
			assert_int_equal(with.left, without.left);
			assert_int_equal(with.least_ring, without.least_ring);
			assert_int_equal(with.hello.purpose, without.hello.purpose);
			assert_int_equal(with.hello.flags, without.hello.flags);
			assert_memory_equal(with.hello.token, with.hello.nonce, 16);
			assert_memory_equal(without.hello.token, without.hello.nonce, 16);
			/* Tags never come again: not from another HELLO, and not within one. */
			for (unsigned i = 0; i < HELLO_TAGS; i++)
				for (unsigned j = 0; j < HELLO_TAGS; j++) {
					assert_memory_not_equal(with.hello.tags[i], without.hello.tags[j],
								HELLO_TAG_SIZE);
					if (i != j)
						assert_memory_not_equal(with.hello.tags[i],
									with.hello.tags[j], HELLO_TAG_SIZE);
				}
		}
	}
}

/* The heartbeat finds what was written without a notification: PROVE alone, or HELLO before it. The claim's
 * link is freed by that, and is looked at no more. */
TEST(claim_is_over_when_the_heartbeat_finds_it_proven)
{
	struct frame_hello_link hello;
	struct frame_prove ours, theirs;
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		up_hidden(&scene);
		scene.was = 7;
		leave(&scene);
		come_by(&scene, 9);
		scene.peer.unnumbered = true;
		assert_int_equal(hear_tagged_hello(&scene, &hello), 1);
		theirs = good_prove(session.epoch);
		if (shape == 1)
			scene.peer.vchan->event = NULL;
		say_tagged_hello(&scene, true);
		if (shape == 0)
			hear_prove(&scene, &ours);
		scene.peer.vchan->event = NULL;
		say_prove(&scene, &theirs);
		expect_silence(&scene);
		pass(&scene, HEARTBEAT_MS);
		if (shape == 1)
			hear_prove(&scene, &ours);
		expect(&scene, FRAME_RESUME);
		go_on(&scene);
		assert_int_equal(info_of(&scene).resumes, 1);
		links_free(scene.links);
		scene.links = NULL;
		scene_stop(&scene);
	}
}

/* A domain lies about its instance: the right session is among those of our tags, too, and is found. */
TEST(session_is_found_beside_that_of_a_liar)
{
	struct resumed_session right;
	struct frame_hello_link hello;
	struct peer peer, liar;
	struct scene scene;

	up_hidden(&scene);
	right = session;
	leave(&scene);
	peer = scene.peer;
	scene.peer.vchan = NULL;
	scene.other = 10;
	come_by(&scene, 10);
	assert_int_equal(hear_tagged_hello(&scene, &hello), 1); /* which means nothing to it */
	say_tagged_hello(&scene, false);
	settle(&scene);
	liar = scene.peer;
	scene.peer.vchan = NULL;
	session = right;
	scene.was = 7;
	come_by(&scene, 9);
	scene.peer.unnumbered = true;
	assert_int_equal(hear_tagged_hello(&scene, &hello), 1);
	say_tagged_hello(&scene, true);
	prove(&scene);
	go_on(&scene);
	assert_int_equal(info_of(&scene).resumes, 1);
	links_free(scene.links);
	scene.links = NULL;
	assert_true(liar.vchan->closed);
	free(liar.vchan);
	free(peer.vchan);
	scene_stop(&scene);
}

/* Larger rings than others get are granted to who has named the session, and to nobody before. */
TEST(rings_for_what_is_sent_again_come_once_a_session_is_named)
{
	struct frame_hello_link hello;
	struct scene scene;

	up_hidden(&scene);
	scene.was = 7;
	scene.links->links->ring_bytes = 131072;
	leave(&scene);
	assert_int_equal(links_least_ring(scene.links, 7), 131072); /* it is this domain's own */
	come_by(&scene, 9);
	assert_int_equal(links_least_ring(scene.links, 9), 0);
	scene.peer.vchan->size = 65536;
	scene.peer.unnumbered = true;
	assert_int_equal(hear_tagged_hello(&scene, &hello), 1);
	say_tagged_hello(&scene, true);
	expect_silence(&scene);
	assert_true(scene.peer.vchan->closed && scene.peer.vchan->left);
	expect_state(&scene, LINK_CONNECTING);
	assert_int_equal(links_least_ring(scene.links, 9), 131072);
	assert_int_equal(links_least_ring(scene.links, 8), 0);
	links_free(scene.links);
	scene.links = NULL;
	scene_stop(&scene);
}
