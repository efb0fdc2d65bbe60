/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A link's session that has lost its vchan, and a peer that resumes it, or lies.
 */
#include "tests/unit/link_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/quota.h"
#include "daemon/link/proof.h"
#include "wire/bytes.h"

#define AGAIN_MS 1000

/* The session, as the peer knows it. */
static struct {
	uint8_t token[16], secret[32];
	uint8_t nonce[16]; /* ours on the vchan that is there */
	uint32_t domid;	   /* the peer's */
	uint32_t epoch;
	uint64_t received; /* by the peer */
	uint32_t sequence, heard_sequence;
	struct vchan *old;
} session;

static const uint8_t peer_nonce[16] = "nonce of the pee", peer_instance[16] = "instance of it";

static void hello_of_peer(struct scene *scene, enum hello_purpose purpose, const uint8_t *token,
			  const uint8_t *instance)
{
	struct frame_hello_link hello = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_LINK_MINOR,
		.max_message = 1u << 20,
		.version = {"1.1", 3},
		.resumes = true,
		.purpose = purpose,
	};
	uint8_t payload[FRAME_SMALL_MAX];

	memcpy(hello.instance, instance, sizeof(hello.instance));
	memcpy(hello.token, token, sizeof(hello.token));
	memcpy(hello.nonce, peer_nonce, sizeof(hello.nonce));
	say(scene, FRAME_HELLO, payload, frame_hello_link_encode(&hello, payload));
}

static void hear_hello(struct scene *scene, enum hello_purpose purpose)
{
	struct frame_hello_link hello;

	expect(scene, FRAME_HELLO);
	assert_int_equal(frame_hello_link_decode(scene->peer.payload, scene->peer.header.length, &hello), 0);
	assert_true(hello.resumes);
	assert_int_equal(hello.purpose, purpose);
	assert_int_equal(hello.received, 0);
	memcpy(session.nonce, hello.nonce, sizeof(session.nonce));
	if (purpose == HELLO_RESUME)
		assert_memory_equal(hello.token, session.token, sizeof(session.token));
	else
		memcpy(session.token, hello.nonce, sizeof(session.token));
	if (purpose == HELLO_BEGIN)
		memcpy(session.secret, hello.secret, sizeof(session.secret));
}

/* The link is up, and its session can be resumed. */
static void begin_to_resume(struct scene *scene)
{
	static const uint8_t none[16];

	connect_peer(scene);
	hear_hello(scene, HELLO_BEGIN);
	hello_of_peer(scene, HELLO_BEGIN, none, peer_instance);
	expect_state(scene, LINK_UP);
	session.epoch = 1;
	session.domid = 7;
	session.received = frame_size(scene->peer.header.length);
}

static void up_to_resume(struct scene *scene)
{
	scene_start(scene);
	begin_to_resume(scene);
}

/* The peer leaves the vchan, with what it has heard so far. */
static void leave(struct scene *scene)
{
	if (!scene->peer.unnumbered) {
		session.sequence = scene->peer.sequence;
		session.heard_sequence = scene->peer.heard_sequence;
	}
	scene->peer.vchan->state = VCHAN_CLOSED;
	scene->peer.vchan->was_left = true;
	notify(scene);
	expect_state(scene, LINK_AWAY);
	assert_true(scene->peer.vchan->closed && scene->peer.vchan->left);
}

/* Another vchan, and HELLO from both ends. */
static void meet_again(struct scene *scene)
{
	bring_vchan(scene);
	scene->peer.unnumbered = true;
	hear_hello(scene, HELLO_RESUME);
	expect_silence(scene);
	hello_of_peer(scene, HELLO_RESUME, session.token, peer_instance);
}

static void away(struct scene *scene)
{
	up_to_resume(scene);
	leave(scene);
	meet_again(scene);
}

static void ends(struct proof_end *us, struct proof_end *them)
{
	*us = (struct proof_end){.domid = OWN, .instance = "instance of us"};
	memcpy(us->nonce, session.nonce, sizeof(us->nonce));
	*them = (struct proof_end){.domid = session.domid};
	memcpy(them->nonce, peer_nonce, sizeof(them->nonce));
	memcpy(them->instance, peer_instance, sizeof(them->instance));
}

/* Our proof is right. */
static void hear_prove(struct scene *scene, struct frame_prove *prove)
{
	struct proof_end us, them;

	ends(&us, &them);
	expect(scene, FRAME_PROVE);
	assert_int_equal(frame_prove_decode(scene->peer.payload, scene->peer.header.length, prove), 0);
	assert_int_equal(prove->epoch, session.epoch);
	assert_true(proof_is_good(session.secret, &us, &them, prove->epoch, HELLO_RESUME, prove->proof));
}

static void say_prove(struct scene *scene, const struct frame_prove *prove)
{
	uint8_t payload[FRAME_SMALL_MAX];

	say(scene, FRAME_PROVE, payload, frame_prove_encode(prove, payload));
}

static struct frame_prove good_prove(uint32_t epoch)
{
	struct frame_prove prove = {.epoch = epoch};
	struct proof_end us, them;

	ends(&us, &them);
	proof_make(session.secret, &them, &us, epoch, HELLO_RESUME, prove.proof);
	return prove;
}

/* Both ends have proven themselves. */
static void prove(struct scene *scene)
{
	struct frame_prove ours, theirs = good_prove(session.epoch);
	struct frame_resume resume;

	hear_prove(scene, &ours);
	expect_silence(scene);
	say_prove(scene, &theirs);
	expect(scene, FRAME_RESUME);
	assert_int_equal(frame_resume_decode(scene->peer.payload, scene->peer.header.length, &resume), 0);
	assert_int_equal(resume.epoch, session.epoch); /* the peer maps: it numbers them */
}

static void say_resume(struct scene *scene, uint64_t received, uint32_t epoch)
{
	struct frame_resume resume = {.received = received, .epoch = epoch};
	uint8_t payload[FRAME_SMALL_MAX];

	say(scene, FRAME_RESUME, payload, frame_resume_encode(&resume, payload));
}

static void go_on(struct scene *scene)
{
	say_resume(scene, session.received, ++session.epoch);
	expect_state(scene, LINK_UP);
	scene->peer.unnumbered = false;
	scene->peer.sequence = session.sequence;
	scene->peer.heard_sequence = session.heard_sequence;
}

/* The attempt has ended without a word, and the session goes on if the right one comes. */
static void expect_dropped(struct scene *scene)
{
	expect_silence(scene);
	assert_true(scene->peer.vchan->closed);
	expect_state(scene, LINK_AWAY);
	pass(scene, AGAIN_MS);
	meet_again(scene);
	prove(scene);
	go_on(scene);
	expect(scene, FRAME_PING);
	scene_stop(scene);
}

static void expect_refused(struct scene *scene)
{
	expect(scene, FRAME_GOODBYE);
	assert_int_equal(get_u32(scene->peer.payload), ECONNRESET);
	expect_dropped(scene);
}

static void expect_ended(struct scene *scene)
{
	expect_state(scene, LINK_IDLE);
	assert_true(scene->peer.vchan->closed);
	assert_int_equal(info_of(scene).channels, 0);
	assert_false(scene->is_connected);
	scene_stop(scene);
}

/* --- what goes on ----------------------------------------------------------------------------- */

static void what_the_peer_has_not_processed_comes_again_with_its_number(void **state)
{
	struct scene scene;

	for (int heard = 0; heard < 2; heard++) {
		up_to_resume(&scene);
		open_channel(&scene);
		if (heard) {
			expect(&scene, FRAME_OPEN);
			session.received += frame_size(scene.peer.header.length);
		}
		leave(&scene);
		assert_int_equal(info_of(&scene).channels, 1);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		if (!heard)
			expect(&scene, FRAME_OPEN); /* hear() has compared the numbers */
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		assert_int_equal(info_of(&scene).resumes, 1);
		/* And the peer's frames go on, too. */
		say_u64(&scene, FRAME_PONG, 0);
		say_u64(&scene, FRAME_PING, 7);
		expect(&scene, FRAME_PONG);
		expect_state(&scene, LINK_UP);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

static void what_was_sent_again_and_lost_again_comes_again(void **state)
{
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	for (int times = 0; times < 3; times++) {
		struct frame_prove ours, theirs;

		leave(&scene);
		meet_again(&scene);
		if (times != 1) {
			prove(&scene);
			go_on(&scene);
			continue;
		}
		/* It leaves before it has read our RESUME, behind which OPEN lies. */
		hear_prove(&scene, &ours);
		theirs = good_prove(session.epoch);
		say_prove(&scene, &theirs);
		say_resume(&scene, session.received, ++session.epoch);
		expect_state(&scene, LINK_UP);
	}
	expect(&scene, FRAME_OPEN);
	expect(&scene, FRAME_PING);
	forget_program_channel(&scene);
	scene_stop(&scene);
}

static void session_frames_right_behind_resume_count(void **state)
{
	struct frame_resume resume;
	uint8_t payload[FRAME_SMALL_MAX];
	struct scene scene;

	away(&scene);
	prove(&scene);
	resume = (struct frame_resume){.received = session.received, .epoch = ++session.epoch};
	put(&scene, FRAME_RESUME, 0, payload, frame_resume_encode(&resume, payload));
	scene.peer.unnumbered = false;
	scene.peer.sequence = session.sequence;
	scene.peer.heard_sequence = session.heard_sequence;
	say_u64(&scene, FRAME_PING, 9);
	expect_state(&scene, LINK_UP);
	expect(&scene, FRAME_PING);
	expect(&scene, FRAME_PONG);
	scene_stop(&scene);
}

static void peer_that_has_no_session_gets_a_new_one_over_the_same_vchan(void **state)
{
	static const uint8_t none[16], other[16] = "another instance";
	struct scene scene;

	for (int shape = 0; shape < 3; shape++) {
		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		bring_vchan(&scene);
		hear_hello(&scene, HELLO_RESUME);
		/* What it sends behind its HELLO belongs to the new session already. */
		hello_of_peer(&scene, shape ? HELLO_RESUME : HELLO_BEGIN, shape == 1 ? none : session.token,
			      shape == 2 ? other : peer_instance);
		expect_state(&scene, LINK_UP);
		assert_int_equal(info_of(&scene).channels, 0);
		assert_int_equal(scene.ups, 2);
		assert_int_equal(scene.downs, 1);
		say_u64(&scene, FRAME_PING, 7);
		expect(&scene, FRAME_PONG);
		assert_int_equal(info_of(&scene).resumes, 0);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

static void peer_of_version_1_0_has_no_session(void **state)
{
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	bring_vchan(&scene);
	hear_hello(&scene, HELLO_RESUME);
	say_hello(&scene, PROTOCOL_MAJOR);
	expect_state(&scene, LINK_UP);
	scene.peer.vchan->state = VCHAN_CLOSED;
	scene.peer.vchan->was_left = true;
	notify(&scene);
	expect_state(&scene, LINK_IDLE);
	scene_stop(&scene);
}

static void dead_daemons_session_ends_at_once(void **state)
{
	struct scene scene;

	up_to_resume(&scene);
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	expect_ended(&scene);
	away(&scene);
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	expect_ended(&scene);
	up_to_resume(&scene);
	leave(&scene);
	links_failed(scene.links, 7, -EHOSTDOWN, "it isn't there"); /* it may have been saved */
	expect_state(&scene, LINK_AWAY);
	scene_stop(&scene);
	away(&scene);
	links_lost(scene.links, 7, true, "its daemon was restarted");
	expect_ended(&scene);
}

/* Who hides its presence shows itself by its hello alone, and writes none for a moment between two attempts. */
static void peer_that_seems_gone_for_a_moment_is_only_away(void **state)
{
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	for (int i = 0; i < 2; i++) {
		links_failed(scene.links, 7, -EHOSTDOWN, "it isn't there");
		expect_state(&scene, LINK_AWAY);
		pass(&scene, AGAIN_MS);
	}
	meet_again(&scene);
	links_lost(scene.links, 7, false, "the peer has withdrawn its hello");
	expect_state(&scene, LINK_AWAY);
	scene_stop(&scene);
}

static void goodbye_ends_the_session(void **state)
{
	struct scene scene;

	up_to_resume(&scene);
	say(&scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	assert_int_equal(scene.anews, 0);
	expect_ended(&scene);
	/* It had the epoch, and then found that it is the older end: its number says nothing. */
	away(&scene);
	prove(&scene);
	go_on(&scene);
	scene.peer.unnumbered = true;
	say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_state(&scene, LINK_IDLE);
	scene_stop(&scene);
	/* The same, a moment before. */
	away(&scene);
	prove(&scene);
	say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_ended(&scene);
}

static void resume_for_ends_it(void **state)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		up_to_resume(&scene);
		leave(&scene);
		if (shape) /* in the midst of an attempt */
			meet_again(&scene);
		for (uint64_t ms = 0; ms < RESUME_FOR_MS - AGAIN_MS; ms += AGAIN_MS / 2) {
			assert_int_not_equal(info_of(&scene).state, LINK_IDLE);
			pass(&scene, AGAIN_MS / 2);
		}
		assert_int_equal(info_of(&scene).state, LINK_AWAY);
		pass(&scene, 2 * AGAIN_MS);
		expect_last_error(&scene, "resume-for");
		assert_int_equal(scene.anews, 1);
		expect_ended(&scene);
	}
}

static void another_vchan_is_asked_for_again_and_again(void **state)
{
	struct scene scene;
	unsigned connects;

	up_to_resume(&scene);
	leave(&scene);
	for (int i = 0; i < 3; i++) {
		connects = scene.connects;
		links_failed(scene.links, 7, -EHOSTUNREACH, "XenStore did not answer");
		expect_state(&scene, LINK_AWAY);
		pass(&scene, AGAIN_MS);
		assert_int_equal(scene.connects, connects + 1);
	}
	meet_again(&scene);
	prove(&scene);
	go_on(&scene);
	scene_stop(&scene);
}

static void daemon_that_stops_while_the_peer_is_away_leaves_nothing(void **state)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		up_to_resume(&scene);
		open_channel(&scene);
		leave(&scene);
		if (shape)
			meet_again(&scene);
		links_free(scene.links);
		scene.links = NULL;
		assert_true(scene.peer.vchan->closed);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

static void what_its_domain_may_not_let_wait_ends_the_session(void **state)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1000},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1000}},
	};
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		struct quota *quota = quota_new(&limits);
		struct account *account = quota_account(quota, QUOTA_PEER, 7);
		struct charge charge;
		uint64_t used;

		scene_start(&scene);
		scene.relay.quota = quota;
		begin_to_resume(&scene);
		open_channel(&scene);
		charge_init(&charge, account);
		assert_int_equal(charge_add(&charge, QUOTA_BYTES, shape ? 490 : 400), 0);
		scene.peer.vchan->state = VCHAN_CLOSED;
		scene.peer.vchan->was_left = true;
		notify(&scene);
		expect_state(&scene, shape ? LINK_IDLE : LINK_AWAY);
		used = account_usage(account, QUOTA_BYTES).used;
		assert_true(shape ? used == 490 : used > 400);
		links_free(scene.links);
		scene.links = NULL;
		charge_end(&charge);
		assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
		forget_program_channel(&scene);
		scene_stop(&scene);
		account_unref(account);
		quota_free(quota);
	}
}

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

/* A vchan is lost before what the one before it had left was sent again. */
static void what_is_kept_a_second_time_is_paid_for_once(void **state)
{
	static const struct hop_callbacks callbacks = {.control = no_control};
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1000},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = 1000}},
	};
	struct quota *quota = quota_new(&limits);
	struct account *account = quota_account(quota, QUOTA_PEER, 7);
	struct private_ring *rings = calloc(4, sizeof(*rings));
	struct ring_view in = private_ring_view(&rings[0]), out = private_ring_view(&rings[1]);
	struct hop_rings first = {.in = in, .out = {[OUTLET_MAIN] = out}};
	struct ring_reader reader;
	struct ring_writer writer;
	struct scene scene;
	uint8_t payload[8];
	struct hop hop;
	uint64_t used;

	scene_start(&scene);
	assert_int_equal(hop_init(&hop, &scene.relay, HOP_LINK, &callbacks, &hop, 0, 16), 0);
	hop_set_account(&hop, account_ref(account));
	assert_int_equal(hop_attach(&hop, &first), 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(hop_send(&hop, FRAME_PING, 0, 0, payload, frame_u64_encode(i, payload)), 0);
	settle(&scene);
	assert_int_equal(hop_pause(&hop), 0);
	used = account_usage(account, QUOTA_BYTES).used;
	assert_int_equal(used, hop_sent(&hop));
	assert_true(used > 250); /* of 500 that one account may have */
	in = private_ring_view(&rings[2]);
	out = private_ring_view(&rings[3]);
	assert_int_equal(ring_reader_init(&reader, &in, false), 0);
	assert_int_equal(ring_writer_init(&writer, &out, false), 0);
	hop_resume(&hop, &reader, &writer, 0);
	assert_int_equal(hop_pause(&hop), 0);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, used);
	assert_int_equal(hop_acked(&hop), 0);
	hop_cleanup(&hop);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	scene_stop(&scene);
	account_unref(account);
	quota_free(quota);
	free(rings);
}

/* --- this domain was restored, and hasn't heard of it ------------------------------------------- */

static void up_as_a_guest(struct scene *scene)
{
	guarded = true;
	up_to_resume(scene);
	guarded = false;
}

/* The link is away without a word to the peer, and goes on where it was. */
static void expect_to_go_on(struct scene *scene, uint32_t heard)
{
	expect_silence(scene);
	expect_state(scene, LINK_AWAY);
	expect_last_error(scene, "restored");
	session.sequence = heard;
	session.heard_sequence = scene->peer.heard_sequence;
	meet_again(scene);
	prove(scene);
	go_on(scene);
	expect(scene, FRAME_PING);
	say_u64(scene, FRAME_PING, 7);
	expect(scene, FRAME_PONG);
	scene_stop(scene);
}

static void what_a_restored_domain_finds_in_its_ring_counts_for_nothing(void **state)
{
	uint8_t open[24] = {CHANNEL_MESSAGE};
	struct scene scene;

	memcpy(open + 20, "a", 1);
	for (int shape = 0; shape < 6; shape++) {
		struct private_ring *in;
		uint32_t heard;

		up_as_a_guest(&scene);
		heard = scene.peer.sequence;
		in = &scene.peer.vchan->in;
		scene.peer.vchan->restored = true;
		switch (shape) {
		case 0: /* a frame */
			say(&scene, FRAME_OPEN, open, sizeof(open));
			break;
		case 1:
			say(&scene, FRAME_GOODBYE, "\0\0\0\0", 4);
			break;
		case 2: /* an index that went backwards, */
			in->words.producer -= 8;
			notify(&scene);
			break;
		case 3: /* or half a frame */
			in->words.producer += 8;
			notify(&scene);
			break;
		case 4: /* an older frame */
			scene.peer.sequence--;
			say_u64(&scene, FRAME_PING, 7);
			break;
		default: /* that the peer has closed it */
			scene.peer.vchan->state = VCHAN_CLOSED;
			notify(&scene);
			break;
		}
		assert_int_equal(scene.opens, 0);
		expect_to_go_on(&scene, heard);
	}
}

static void what_a_restored_domain_wrote_before_it_knew_was_not_given_out(void **state)
{
	struct scene scene;

	for (int lie = 0; lie < 2; lie++) {
		up_as_a_guest(&scene);
		scene.peer.vchan->restored = true;
		open_channel(&scene);
		expect_silence(&scene);
		expect_state(&scene, LINK_AWAY);
		session.sequence = scene.peer.sequence;
		session.heard_sequence = scene.peer.heard_sequence;
		meet_again(&scene);
		prove(&scene);
		if (lie) { /* the domain that we are an image of has sent something else there */
			say_resume(&scene, session.received + 56, 2);
			forget_program_channel(&scene);
			expect_ended(&scene);
			continue;
		}
		go_on(&scene);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

static void restored_domain_that_mapped_has_a_copy_of_what_it_has_sent(void **state)
{
	struct scene scene;

	for (int heard = 0; heard < 2; heard++) {
		struct vchan *vchan;

		maps = true;
		up_as_a_guest(&scene);
		open_channel(&scene);
		if (heard) {
			expect(&scene, FRAME_OPEN);
			session.received += frame_size(scene.peer.header.length);
			say_u64(&scene, FRAME_PONG, 0); /* it sees by that how far the peer has come */
		}
		session.sequence = scene.peer.sequence;
		session.heard_sequence = scene.peer.heard_sequence;
		vchan = scene.peer.vchan;
		memset(&vchan->in, 0xff, sizeof(vchan->in));
		memset(&vchan->out, 0xff, sizeof(vchan->out));
		vchan->restored = true;
		notify(&scene);
		expect_state(&scene, LINK_AWAY);
		expect_last_error(&scene, "restored");
		maps = false;
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		if (!heard)
			expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		expect_silence(&scene);
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

static void attempt_of_a_restored_domain_is_given_up(void **state)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	guarded = true;
	meet_again(&scene);
	guarded = false;
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	scene.peer.vchan->restored = true;
	say_prove(&scene, &theirs);
	expect_dropped(&scene);
}

/* --- under another domid -------------------------------------------------------------------------- */

/* The peer's domain comes back as domain 9. */
static void come_back(struct scene *scene)
{
	scene->was = session.domid;
	scene->peer.domid = session.domid = 9;
	memcpy(scene->instances[9], peer_instance, sizeof(peer_instance));
	meet_again(scene);
}

static bool is_there(struct scene *scene, uint32_t domid, struct link_info *info)
{
	settle(scene);
	return links_info(scene->links, domid, info);
}

static void session_goes_on_under_another_domid(void **state)
{
	struct link_info info;
	struct scene scene;

	for (int shape = 0; shape < 4; shape++) {
		bool opens = shape == 1 || shape == 3;
		struct channel *later = NULL;

		up_to_resume(&scene);
		open_channel(&scene);
		scene.is_up = shape != 0;
		if (shape == 2) /* it comes back before anybody has seen it go */
			say_u64(&scene, FRAME_PONG, 0);
		else
			leave(&scene);
		if (shape == 2) {
			session.sequence = scene.peer.sequence;
			session.heard_sequence = scene.peer.heard_sequence;
			session.old = scene.peer.vchan;
			scene.peer.vchan = NULL;
		}
		come_back(&scene);
		scene.is_up = true;
		if (opens) { /* what a program opens meanwhile waits */
			struct frame_identity identity = {.domid = OWN};
			int error = 0;

			assert_int_equal(channel_new(&scene.program, 2,
						     shape == 1 ? CHANNEL_MESSAGE : CHANNEL_CALL, &identity,
						     &later),
					 0);
			assert_int_equal(channel_accept(later, links_want(scene.links, 9, NULL, &error), "x"),
					 0);
		}
		if (shape == 3) { /* and gives up */
			const struct frame_reset reset = {.error = ETIMEDOUT};

			assert_int_equal(channel_reset(&later->opener, &reset), 0);
			relay_pass(&scene.relay);
		}
		prove(&scene);
		assert_int_equal(scene.moves, 0);
		go_on(&scene);
		assert_int_equal(scene.moves, 1);
		assert_false(is_there(&scene, 7, &info));
		assert_int_equal(info_of(&scene).resumes, 1);
		assert_int_equal(info_of(&scene).channels, shape == 1 ? 2 : 1);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		if (shape == 1)
			expect(&scene, FRAME_OPEN);
		expect_silence(&scene);
		links_free(scene.links);
		scene.links = NULL;
		forget_program_channel(&scene);
		if (shape == 2) {
			assert_true(session.old->closed && session.old->left);
			free(session.old);
		}
		scene_stop(&scene);
	}
}

static void who_only_says_that_it_is_the_peer_gets_nothing_and_disturbs_nobody(void **state)
{
	struct frame_prove ours, theirs;
	struct link_info info;
	struct scene scene;

	for (int shape = 0; shape < 4; shape++) {
		up_to_resume(&scene);
		leave(&scene);
		come_back(&scene);
		hear_prove(&scene, &ours);
		theirs = good_prove(1);
		theirs.proof[7] ^= 1;
		if (shape == 0)
			say_prove(&scene, &theirs);
		else if (shape == 1)
			say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
		else if (shape == 2)
			links_lost(scene.links, 9, false, "it has gone");
		else
			links_lost(scene.links, 9, true, "it was restarted");
		expect_silence(&scene);
		assert_true(scene.peer.vchan->closed);
		expect_state(&scene, LINK_IDLE);
		assert_true(is_there(&scene, 7, &info));
		assert_int_equal(info.state, LINK_AWAY);
		/* The right one comes. */
		scene.peer.domid = session.domid = 7;
		pass(&scene, AGAIN_MS);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		assert_int_equal(scene.moves, 0);
		scene_stop(&scene);
	}
}

static void who_says_that_it_is_the_peer_and_has_no_session_gets_one_of_its_own(void **state)
{
	static const uint8_t none[16];
	struct link_info info;
	struct scene scene;

	up_to_resume(&scene);
	leave(&scene);
	scene.was = 7;
	scene.peer.domid = 9;
	memcpy(scene.instances[9], peer_instance, sizeof(peer_instance));
	bring_vchan(&scene);
	hear_hello(&scene, HELLO_RESUME);
	hello_of_peer(&scene, HELLO_BEGIN, none, peer_instance);
	expect_state(&scene, LINK_UP);
	assert_true(is_there(&scene, 7, &info));
	assert_int_equal(info.state, LINK_AWAY);
	say_u64(&scene, FRAME_PING, 7);
	expect(&scene, FRAME_PONG);
	scene_stop(&scene);
}

static void session_that_goes_on_elsewhere_is_not_taken_before_its_end_was_heard(void **state)
{
	struct frame_prove ours, theirs;
	struct link_info info;
	struct scene scene;
	struct vchan *first;

	away(&scene);
	prove(&scene);
	go_on(&scene);
	first = scene.peer.vchan;
	scene.peer.vchan = NULL;
	come_back(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(2);
	say_prove(&scene, &theirs);
	expect_state(&scene, LINK_IDLE);
	assert_true(is_there(&scene, 7, &info));
	assert_int_equal(info.state, LINK_UP);
	links_free(scene.links);
	scene.links = NULL;
	assert_true(first->closed);
	free(first);
	scene_stop(&scene);
}

static void nothing_new_is_sent_to_who_was_saved(void **state)
{
	struct scene scene;
	int error = 0;

	up_to_resume(&scene);
	leave(&scene);
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	scene.is_up = false;
	assert_null(links_want(scene.links, 7, NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	scene_stop(&scene);
}

static void restored_domain_keeps_the_sessions_that_it_can_resume(void **state)
{
	struct scene scene;

	for (int shape = 0; shape < 3; shape++) {
		up_to_resume(&scene);
		open_channel(&scene);
		if (shape)
			leave(&scene);
		else
			session.heard_sequence = scene.peer.heard_sequence,
			session.sequence = scene.peer.sequence;
		if (shape == 2)
			meet_again(&scene);
		scene.connects = 0;
		links_restart(scene.links);
		assert_true(scene.peer.vchan->closed);
		expect_state(&scene, LINK_AWAY);
		pass(&scene, AGAIN_MS);
		assert_int_equal(scene.connects, 0);
		links_go_on(scene.links);
		assert_int_equal(scene.connects, 1);
		meet_again(&scene);
		prove(&scene);
		go_on(&scene);
		expect(&scene, FRAME_OPEN);
		expect(&scene, FRAME_PING);
		links_free(scene.links);
		scene.links = NULL;
		forget_program_channel(&scene);
		scene_stop(&scene);
	}
}

/* --- who lies --------------------------------------------------------------------------------- */

static void wrong_proof_is_not_answered(void **state)
{
	enum {
		FLIPPED,
		REFLECTED,
		OTHER_EPOCH,
		OTHER_DOMID,
		OTHER_NONCE,
		OTHER_PURPOSE,
		OTHER_SECRET,
		PROOFS
	};
	struct scene scene;

	for (int lie = FLIPPED; lie < PROOFS; lie++) {
		static const uint8_t other_secret[32] = "another";
		struct frame_prove ours, theirs = {.epoch = 1};
		struct proof_end us, them;

		away(&scene);
		hear_prove(&scene, &ours);
		ends(&us, &them);
		if (lie == OTHER_DOMID)
			them.domid++;
		if (lie == OTHER_NONCE)
			them.nonce[0]++;
		theirs.epoch = lie == OTHER_EPOCH ? 2 : 1;
		proof_make(lie == OTHER_SECRET ? other_secret : session.secret, &them, &us, 1,
			   lie == OTHER_PURPOSE ? 2 : HELLO_RESUME, theirs.proof);
		if (lie == FLIPPED)
			theirs.proof[31] ^= 1;
		if (lie == REFLECTED)
			theirs = ours;
		say_prove(&scene, &theirs);
		expect_dropped(&scene);
	}
}

static void proof_of_an_earlier_vchan_is_not_answered(void **state)
{
	struct frame_prove ours, earlier;
	struct scene scene;

	away(&scene);
	hear_prove(&scene, &ours);
	earlier = good_prove(1);
	links_lost(scene.links, 7, false, "the peer has begun anew");
	pass(&scene, AGAIN_MS);
	meet_again(&scene);
	hear_prove(&scene, &ours);
	say_prove(&scene, &earlier);
	expect_dropped(&scene);
}

static void impossible_positions(void **state)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	/* More than was ever sent: this end is the older one. */
	away(&scene);
	prove(&scene);
	say_resume(&scene, session.received + 8, 2);
	expect_ended(&scene);
	away(&scene);
	prove(&scene);
	say_resume(&scene, UINT64_MAX, 2);
	expect_ended(&scene);
	/* Less than it had processed already: that end is. */
	away(&scene);
	prove(&scene);
	say_resume(&scene, session.received - 8, 2);
	session.epoch = 1;
	expect_refused(&scene);
	/* The same where our RESUME lies unread in the old ring: it isn't the session's. */
	away(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	say_prove(&scene, &theirs);
	say_resume(&scene, session.received, ++session.epoch);
	leave(&scene);
	meet_again(&scene);
	prove(&scene);
	say_resume(&scene, session.received - 8, 3);
	expect_refused(&scene);
}

static void position_within_a_frame_harms_only_the_peer(void **state)
{
	struct scene scene;

	up_to_resume(&scene);
	open_channel(&scene);
	leave(&scene);
	meet_again(&scene);
	prove(&scene);
	say_resume(&scene, session.received + 8, 2);
	settle(&scene);
	expect_state(&scene, LINK_IDLE);
	expect_last_error(&scene, "isn't a frame");
	forget_program_channel(&scene);
	scene_stop(&scene);
}

static void epochs_that_were_left_behind(void **state)
{
	struct frame_prove ours, theirs;
	struct scene scene;

	/* The session has gone on in the epoch 2, and the peer was heard in it. */
	away(&scene);
	prove(&scene);
	go_on(&scene);
	expect(&scene, FRAME_PING);
	session.received += frame_size(scene.peer.header.length);
	say_u64(&scene, FRAME_PONG, 0);
	leave(&scene);
	meet_again(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	say_prove(&scene, &theirs);
	expect_refused(&scene);

	/* An end that hasn't been heard in an epoch may be behind by it, and by more than one. */
	away(&scene);
	for (int i = 0; i < 3; i++) {
		hear_prove(&scene, &ours);
		theirs = good_prove(1);
		say_prove(&scene, &theirs);
		expect(&scene, FRAME_RESUME);
		say_resume(&scene, session.received, ++session.epoch);
		expect_state(&scene, LINK_UP);
		leave(&scene);
		meet_again(&scene);
	}
	scene_stop(&scene);

	/* The mapping end's new one isn't new. */
	for (uint32_t epoch = 0; epoch < 2; epoch++) {
		away(&scene);
		prove(&scene);
		say_resume(&scene, session.received, epoch);
		expect_dropped(&scene);
	}

	/* None is left. */
	away(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(UINT32_MAX);
	say_prove(&scene, &theirs);
	expect_ended(&scene);
}

static void frames_at_the_wrong_time_end_the_attempt(void **state)
{
	static const uint8_t types[] = {FRAME_PING,	 FRAME_ACK,	FRAME_OPEN, FRAME_DATA,
					FRAME_DIRECTORY, FRAME_WELCOME, 200};
	struct frame_prove ours;
	struct scene scene;

	for (unsigned i = 0; i < sizeof(types); i++) {
		away(&scene);
		hear_prove(&scene, &ours);
		say(&scene, types[i], "12345678", 8);
		expect_dropped(&scene);
	}
	/* RESUME before PROVE */
	away(&scene);
	hear_prove(&scene, &ours);
	say_resume(&scene, session.received, 2);
	expect_dropped(&scene);
	/* PROVE twice */
	away(&scene);
	prove(&scene);
	ours = good_prove(1);
	say_prove(&scene, &ours);
	expect_dropped(&scene);
	/* HELLO twice */
	away(&scene);
	prove(&scene);
	hello_of_peer(&scene, HELLO_RESUME, session.token, peer_instance);
	expect_dropped(&scene);
	/* GOODBYE of somebody who has proven nothing */
	away(&scene);
	hear_prove(&scene, &ours);
	say(&scene, FRAME_GOODBYE, "\x68\0\0\0", 4);
	expect_dropped(&scene);
	/* short ones */
	for (uint32_t length = 0; length < 40; length += 8) {
		away(&scene);
		hear_prove(&scene, &ours);
		say(&scene, FRAME_PROVE, "1234567890123456789012345678901234567890", length);
		expect_dropped(&scene);
	}
	away(&scene);
	prove(&scene);
	say(&scene, FRAME_RESUME, "12345678", 8);
	expect_dropped(&scene);
	/* another major */
	up_to_resume(&scene);
	leave(&scene);
	bring_vchan(&scene);
	scene.peer.unnumbered = true;
	hear_hello(&scene, HELLO_RESUME);
	say_hello(&scene, PROTOCOL_MAJOR + 1);
	expect_dropped(&scene);
	/* impossible indices */
	away(&scene);
	hear_prove(&scene, &ours);
	scene.peer.vchan->in.words.producer += 1u << 30;
	notify(&scene);
	expect_dropped(&scene);
}

static void silent_attempt_is_given_up(void **state)
{
	struct frame_prove ours;
	struct scene scene;

	away(&scene);
	hear_prove(&scene, &ours);
	for (uint64_t ms = 0; ms < DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS)
		pass(&scene, HEARTBEAT_MS);
	expect_dropped(&scene);
}

static void lost_event_of_an_attempt_is_made_good_by_the_heartbeat(void **state)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_prove ours, theirs;
	struct scene scene;

	away(&scene);
	hear_prove(&scene, &ours);
	theirs = good_prove(1);
	put(&scene, FRAME_PROVE, 0, payload, frame_prove_encode(&theirs, payload));
	expect_silence(&scene);
	pass(&scene, HEARTBEAT_MS);
	expect(&scene, FRAME_RESUME);
	go_on(&scene);
	scene_stop(&scene);
}

static void newer_vchan_takes_the_place_of_an_attempts(void **state)
{
	struct scene scene;
	struct vchan *old;

	away(&scene);
	old = scene.peer.vchan;
	scene.peer.vchan = NULL;
	meet_again(&scene);
	assert_true(old->closed);
	prove(&scene);
	go_on(&scene);
	free(old);
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_peer_has_not_processed_comes_again_with_its_number),
		cmocka_unit_test(what_was_sent_again_and_lost_again_comes_again),
		cmocka_unit_test(session_frames_right_behind_resume_count),
		cmocka_unit_test(peer_that_has_no_session_gets_a_new_one_over_the_same_vchan),
		cmocka_unit_test(peer_of_version_1_0_has_no_session),
		cmocka_unit_test(dead_daemons_session_ends_at_once),
		cmocka_unit_test(peer_that_seems_gone_for_a_moment_is_only_away),
		cmocka_unit_test(goodbye_ends_the_session),
		cmocka_unit_test(resume_for_ends_it),
		cmocka_unit_test(another_vchan_is_asked_for_again_and_again),
		cmocka_unit_test(daemon_that_stops_while_the_peer_is_away_leaves_nothing),
		cmocka_unit_test(what_its_domain_may_not_let_wait_ends_the_session),
		cmocka_unit_test(what_is_kept_a_second_time_is_paid_for_once),
		cmocka_unit_test(what_a_restored_domain_finds_in_its_ring_counts_for_nothing),
		cmocka_unit_test(what_a_restored_domain_wrote_before_it_knew_was_not_given_out),
		cmocka_unit_test(restored_domain_that_mapped_has_a_copy_of_what_it_has_sent),
		cmocka_unit_test(attempt_of_a_restored_domain_is_given_up),
		cmocka_unit_test(session_goes_on_under_another_domid),
		cmocka_unit_test(who_only_says_that_it_is_the_peer_gets_nothing_and_disturbs_nobody),
		cmocka_unit_test(who_says_that_it_is_the_peer_and_has_no_session_gets_one_of_its_own),
		cmocka_unit_test(session_that_goes_on_elsewhere_is_not_taken_before_its_end_was_heard),
		cmocka_unit_test(nothing_new_is_sent_to_who_was_saved),
		cmocka_unit_test(restored_domain_keeps_the_sessions_that_it_can_resume),
		cmocka_unit_test(wrong_proof_is_not_answered),
		cmocka_unit_test(proof_of_an_earlier_vchan_is_not_answered),
		cmocka_unit_test(impossible_positions),
		cmocka_unit_test(position_within_a_frame_harms_only_the_peer),
		cmocka_unit_test(epochs_that_were_left_behind),
		cmocka_unit_test(frames_at_the_wrong_time_end_the_attempt),
		cmocka_unit_test(silent_attempt_is_given_up),
		cmocka_unit_test(lost_event_of_an_attempt_is_made_good_by_the_heartbeat),
		cmocka_unit_test(newer_vchan_takes_the_place_of_an_attempts),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
