/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How HELLO names a session to who knows it, and shows nobody else that there is one (doc/protocol.md
 * 5.7). */
#include "tests/unit/resume_rig.h"

#include <string.h>

#include "daemon/link/link_internal.h"

#define HELLO_MAX 512

/* Says HELLO as the peer. `names`: one of its tags is the session's. */
static void say_tagged_hello(struct scene *scene, bool names)
{
	struct frame_hello_link hello = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_MINOR,
		.version = {"1.1", 3},
		.flags = HELLO_RESUMES,
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
static unsigned tags_heard(struct scene *scene, struct frame_hello_link *hello)
{
	uint8_t tag[PROOF_TAG_SIZE];
	struct proof_end us, them;
	unsigned found = 0;

	expect(scene, FRAME_HELLO);
	assert_int_equal(frame_hello_link_decode(scene->peer.payload, scene->peer.header.length, hello), 0);
	assert_true(hello->flags & HELLO_RESUMES && hello->is_tagged);
	assert_int_equal(hello->purpose, HELLO_BEGIN);
	assert_memory_equal(hello->token, hello->nonce, sizeof(hello->token));
	memcpy(session.nonce, hello->nonce, sizeof(session.nonce));
	proof_ends(&us, &them);
	proof_tag(session.secret, &us, &them, tag);
	for (unsigned i = 0; i < HELLO_TAGS; i++)
		found += !memcmp(hello->tags[i], tag, sizeof(tag));
	return found;
}

/* One of our tags names the session. */
static void hear_tagged_hello(struct scene *scene)
{
	struct frame_hello_link hello;

	assert_int_equal(tags_heard(scene, &hello), 1);
}

/* The link is up with a peer that names sessions by tags, too. */
static void up_hidden(struct scene *scene)
{
	struct frame_hello_link hello;

	scene_start(scene);
	session.domid = 7;
	connect_peer(scene);
	tags_heard(scene, &hello);
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
	take_number(scene, domid);
	bring_vchan(scene);
	scene->peer.unnumbered = true;
}

/* With a session, which goes on. */
static void come_to_resume(struct scene *scene, uint32_t domid)
{
	come_by(scene, domid);
	hear_tagged_hello(scene);
	expect_silence(scene);
	say_tagged_hello(scene, true);
	prove(scene);
	go_on(scene);
	assert_int_equal(info_of(scene).resumes, 1);
}

SCENE_TEST_EACH(session_is_named_to_the_other_end_and_goes_on, up_hidden, is_moved, 2)
{
	scene->was = is_moved ? 7 : 0;
	open_channel(scene);
	leave(scene);
	come_to_resume(scene, is_moved ? 9 : 7);
	assert_int_equal(info_of(scene).channels, 1);
	expect(scene, FRAME_OPEN);
	expect(scene, FRAME_PING);
}

SCENE_TEST(peer_that_names_no_session_has_none_any_more, up_hidden)
{
	leave(scene);
	come_by(scene, 7);
	hear_tagged_hello(scene);
	say_tagged_hello(scene, false);
	expect_state(scene, LINK_UP);
	assert_int_equal(scene->ups, 2);
	assert_int_equal(info_of(scene).resumes, 0);
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
		say_prove(scene, (struct frame_prove){.epoch = 1});
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

	up_hidden(&scene);
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
	assert_int_equal(with.hello.purpose, without.hello.purpose);
	assert_int_equal(with.hello.flags, without.hello.flags);
	assert_memory_equal(with.hello.token, with.hello.nonce, 16);
	assert_memory_equal(without.hello.token, without.hello.nonce, 16);
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
SCENE_TEST_EACH(claim_is_over_when_the_heartbeat_finds_it_proven, up_hidden, with_hello, 2)
{
	struct frame_prove theirs;

	scene->was = 7;
	leave(scene);
	come_by(scene, 9);
	hear_tagged_hello(scene);
	theirs = good_prove(session.epoch);
	if (with_hello)
		scene->peer.vchan->event = NULL;
	say_tagged_hello(scene, true);
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
SCENE_TEST(session_is_found_beside_that_of_a_liar, up_hidden)
{
	struct resumed_session right;

	leave(scene);
	right = session;
	scene->other = 10;
	come_by(scene, 10);
	hear_tagged_hello(scene); /* which means nothing to it */
	say_tagged_hello(scene, false);
	settle(scene);
	session = right;
	scene->was = 7;
	come_to_resume(scene, 9);
}

/* Larger rings than others get are granted to who has named the session, and to nobody before. */
SCENE_TEST(rings_for_what_is_sent_again_come_once_a_session_is_named, up_hidden)
{
	scene->was = 7;
	scene->links->links->ring_bytes = 131072;
	leave(scene);
	assert_int_equal(links_least_ring(scene->links, 7), 131072); /* it is this domain's own */
	come_by(scene, 9);
	assert_int_equal(links_least_ring(scene->links, 9), 0);
	scene->peer.vchan->size = 65536;
	hear_tagged_hello(scene);
	say_tagged_hello(scene, true);
	expect_silence(scene);
	assert_true(scene->peer.vchan->closed && scene->peer.vchan->left);
	expect_state(scene, LINK_CONNECTING);
	assert_int_equal(links_least_ring(scene->links, 9), 131072);
	assert_int_equal(links_least_ring(scene->links, 8), 0);
}
