/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/resume_rig.h"

#include "wire/bytes.h"
#include "daemon/switch/part.h"

struct resumed_session session;
const uint8_t peer_nonce[16] = "nonce of the pee", peer_instance[16] = "instance of it";

void hello_of_peer(struct scene *scene, enum names names, const uint8_t *instance)
{
	struct frame_hello_link hello = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_MINOR,
		.flags = scene->peer_flags | HELLO_RESUMES,
		.max_message = 1u << 20,
		.version = {names == NAMES_SESSION ? "1.2" : "1.1", 3},
	};
	uint8_t payload[FRAME_SMALL_MAX];
	struct auth_end us, them;

	memcpy(hello.instance, instance, sizeof(hello.instance));
	memcpy(hello.nonce, peer_nonce, sizeof(hello.nonce));
	memset(hello.tags, 0xa5, sizeof(hello.tags));
	auth_ends(&us, &them);
	if (names == NAMES_SESSION)
		auth_hello_tag(session.secret, &them, &us, hello.tags[5]);
	say(scene, FRAME_HELLO, payload, frame_hello_link_encode(&hello, payload));
}

struct frame_hello_link hear_hello(struct scene *scene, enum names names)
{
	struct frame_hello_link hello;
	uint8_t tag[AUTH_HELLO_SIZE];
	struct auth_end us, them;
	unsigned found = 0;

	expect(scene, FRAME_HELLO);
	assert_int_equal(frame_hello_link_decode(scene->peer.payload, scene->peer.header.length, &hello), 0);
	assert_true(hello.flags & HELLO_RESUMES);
	memcpy(session.nonce, hello.nonce, sizeof(session.nonce));
	auth_ends(&us, &them);
	auth_hello_tag(session.secret, &us, &them, tag);
	for (unsigned i = 0; i < HELLO_TAGS; i++)
		found += !memcmp(hello.tags[i], tag, sizeof(tag));
	assert_int_equal(found, names == NAMES_SESSION);
	if (names == NAMES_NONE)
		memcpy(session.secret, hello.secret, sizeof(session.secret));
	return hello;
}

void begin_to_resume(struct scene *scene)
{
	session.domid = 7;
	session.own = OWN;
	connect_peer(scene);
	hear_hello(scene, NAMES_NONE);
	hello_of_peer(scene, NAMES_NONE, peer_instance);
	expect_state(scene, LINK_UP);
	session.epoch = 1;
	session.received = frame_size(scene->peer.header.length);
}

void up_to_resume(struct scene *scene)
{
	scene_start(scene);
	begin_to_resume(scene);
}

void hand_over(struct scene *scene)
{
	links_part.leave(scene->links);
}

void leave(struct scene *scene)
{
	if (!scene->peer.unnumbered)
		note_sequences(scene);
	scene->peer.vchan->was_left = true;
	close_by_peer(scene);
	expect_state(scene, LINK_AWAY);
	assert_true(scene->peer.vchan->closed && scene->peer.vchan->left);
}

void meet_again(struct scene *scene)
{
	bring_vchan(scene);
	scene->peer.unnumbered = true;
	hear_hello(scene, NAMES_SESSION);
	expect_silence(scene);
	hello_of_peer(scene, NAMES_SESSION, peer_instance);
}

void take_number(struct scene *scene, uint32_t domid)
{
	scene->peer.domid = session.domid = domid;
	memcpy(scene->instances[domid], peer_instance, sizeof(peer_instance));
}

void come_as(struct scene *scene, uint32_t domid)
{
	take_number(scene, domid);
	meet_again(scene);
}

void begin_anew(struct scene *scene, enum names ours)
{
	bring_vchan(scene);
	hear_hello(scene, ours);
	hello_of_peer(scene, NAMES_NONE, peer_instance);
	expect_state(scene, LINK_UP);
}

void away(struct scene *scene)
{
	up_to_resume(scene);
	leave(scene);
	meet_again(scene);
}

void auth_ends(struct auth_end *us, struct auth_end *them)
{
	*us = (struct auth_end){.domid = session.own, .instance = "instance of us"};
	memcpy(us->nonce, session.nonce, sizeof(us->nonce));
	*them = (struct auth_end){.domid = session.domid};
	memcpy(them->nonce, peer_nonce, sizeof(them->nonce));
	memcpy(them->instance, peer_instance, sizeof(them->instance));
}

struct frame_prove hear_prove(struct scene *scene)
{
	struct frame_prove prove;
	struct auth_end us, them;

	auth_ends(&us, &them);
	expect(scene, FRAME_PROVE);
	assert_int_equal(frame_prove_decode(scene->peer.payload, scene->peer.header.length, &prove), 0);
	assert_int_equal(prove.epoch, session.epoch);
	assert_true(auth_tag_is_good(session.secret, &us, &them, prove.epoch, prove.proof));
	return prove;
}

void say_prove(struct scene *scene, struct frame_prove prove)
{
	uint8_t payload[FRAME_SMALL_MAX];

	say(scene, FRAME_PROVE, payload, frame_prove_encode(&prove, payload));
}

struct frame_prove good_prove(uint32_t epoch)
{
	struct frame_prove prove = {.epoch = epoch};
	struct auth_end us, them;

	auth_ends(&us, &them);
	auth_tag_make(session.secret, &them, &us, epoch, prove.proof);
	return prove;
}

struct frame_prove wrong_prove(void)
{
	struct frame_prove prove = good_prove(session.epoch);

	prove.proof[7] ^= 1;
	return prove;
}

void prove(struct scene *scene)
{
	struct frame_resume resume;

	hear_prove(scene);
	expect_silence(scene);
	say_prove(scene, good_prove(session.epoch));
	expect(scene, FRAME_RESUME);
	assert_int_equal(frame_resume_decode(scene->peer.payload, scene->peer.header.length, &resume), 0);
	assert_int_equal(resume.epoch, session.epoch); /* the peer maps: it numbers them */
}

void say_resume(struct scene *scene, uint64_t received, uint32_t epoch)
{
	struct frame_resume resume = {.received = received, .epoch = epoch};
	uint8_t payload[FRAME_SMALL_MAX];

	say(scene, FRAME_RESUME, payload, frame_resume_encode(&resume, payload));
}

void put_resume(struct scene *scene)
{
	struct frame_resume resume = {.received = session.received, .epoch = ++session.epoch};
	uint8_t payload[FRAME_SMALL_MAX];

	put(scene, FRAME_RESUME, 0, payload, frame_resume_encode(&resume, payload));
	scene->peer.unnumbered = false;
	scene->peer.sequence = session.sequence;
	scene->peer.heard_sequence = session.heard_sequence;
}

void go_on(struct scene *scene)
{
	put_resume(scene);
	notify(scene);
	expect_state(scene, LINK_UP);
}

void resume(struct scene *scene)
{
	meet_again(scene);
	prove(scene);
	go_on(scene);
}

void count_heard(struct scene *scene)
{
	session.received += frame_size(scene->peer.header.length);
}

void note_sequences(struct scene *scene)
{
	session.sequence = scene->peer.sequence;
	session.heard_sequence = scene->peer.heard_sequence;
}

void expect_dropped(struct scene *scene)
{
	expect_silence(scene);
	assert_true(scene->peer.vchan->closed);
	expect_state(scene, LINK_AWAY);
	pass(scene, AGAIN_MS);
	resume(scene);
	expect(scene, FRAME_PING);
}

void expect_refused(struct scene *scene)
{
	expect(scene, FRAME_GOODBYE);
	assert_int_equal(get_u32(scene->peer.payload), ECONNRESET);
	expect_dropped(scene);
}

void expect_ended(struct scene *scene)
{
	expect_state(scene, LINK_IDLE);
	assert_true(scene->peer.vchan->closed);
	assert_int_equal(info_of(scene).channels, 0);
	assert_false(scene->is_connected);
}
