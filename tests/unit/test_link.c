/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sessions with the daemons of other domains, in each state and with all that a peer can do wrong there. The
 * vchan is one of the test's own in place of daemon/xen/vchan.c, and so are the peers and the directory; the
 * peer's end is played by the test, and time goes by when the test says so.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/base/self.h"
#include "daemon/relay/channel.h"
#include "daemon/base/clock.h"
#include "daemon/link/link.h"
#include "daemon/base/log.h"
#include "daemon/link/patience.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/peers.h"
#include "daemon/relay/private_ring.h"
#include "daemon/xen/vchan.h"
#include "wire/bytes.h"

#define OWN	      5
#define HEARTBEAT_MS  10000
#define DEAD_AFTER_MS 30000
#define IDLE_CLOSE_MS 600000

/* --- time ------------------------------------------------------------------------------------- */

static uint64_t time_passed_ms, looks_at_the_clock;

/* Stands before the C library's, for libevent too: time stands still but for what the test says, and a little
 * for each look. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	uint64_t ns = 1000 * UINT64_C(1000000000) + time_passed_ms * 1000000 + looks_at_the_clock++ * 100;

	if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
		return (int)syscall(SYS_clock_gettime, id, now);
	*now = (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	return 0;
}

static uint64_t yield_takes_ms;

/* Others have the CPU for so long when we let them. */
__attribute__((visibility("default"))) int sched_yield(void)
{
	time_passed_ms += yield_takes_ms;
	return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

static unsigned long allocations;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
void *__libc_malloc(size_t size);

/* Stands before the C library's, for libevent too. */
__attribute__((visibility("default"))) void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}
#else
#define COUNTS_ALLOCATIONS 0
#endif

/* --- a vchan without Xen ---------------------------------------------------------------------- */

struct vchan {
	struct private_ring in, out; /* as seen from the daemon */
	enum vchan_state state;
	vchan_event_fn event;
	void *userdata;
	unsigned notified;
	int notify_error;
	bool closed;
};

enum vchan_state vchan_state(const struct vchan *vchan)
{
	return vchan->state;
}

void vchan_read_view(const struct vchan *vchan, struct ring_view *view)
{
	*view = private_ring_view((struct private_ring *)(uintptr_t)&vchan->in);
}

void vchan_write_view(const struct vchan *vchan, struct ring_view *view)
{
	*view = private_ring_view((struct private_ring *)(uintptr_t)&vchan->out);
}

void vchan_set_event(struct vchan *vchan, vchan_event_fn event, void *userdata)
{
	vchan->event = event;
	vchan->userdata = userdata;
}

int vchan_notify(struct vchan *vchan)
{
	vchan->notified++;
	return vchan->notify_error;
}

void vchan_close(struct vchan *vchan)
{
	assert_false(vchan->closed);
	vchan->closed = true; /* its memory is the peer's too, who reads on */
	vchan->event = NULL;
}

bool vchan_is_granter(const struct vchan *vchan)
{
	return true;
}

uint32_t vchan_pages(const struct vchan *vchan)
{
	return 65;
}

/* --- the scene -------------------------------------------------------------------------------- */

struct peer {
	uint32_t domid;
	struct vchan *vchan;
	struct ring_writer out;
	struct ring_reader in;
	uint32_t sequence, heard_sequence;
	uint64_t put;				/* bytes of frames */
	uint8_t payload[FRAME_PAYLOAD_MAX + 8]; /* of the last frame heard */
	struct frame_header header;
};

struct scene {
	struct self self;
	struct event_base *base;
	struct relay relay;
	struct links *links;
	bool is_up; /* the peers, according to XenStore */
	int connect_error;
	bool is_connected; /* has handed over a vchan, and wasn't told that it ended */
	unsigned connects, disconnects, ups, downs, directories, opens;
	int directory_result;
	int64_t pong;
	unsigned pongs;
	struct hop program; /* who opens channels */
	struct peer peer;
};

/* Stands in for the peers, and for the directory. */
int peers_connect(struct peers *peers, uint32_t domid, struct account *account)
{
	struct scene *scene = (struct scene *)(void *)peers;

	assert_int_equal(domid, scene->peer.domid);
	scene->connects++;
	return scene->connect_error;
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	struct scene *scene = (struct scene *)(void *)peers;

	assert_int_equal(domid, scene->peer.domid);
	scene->disconnects++;
	scene->is_connected = false;
}

bool peers_is_up(struct peers *peers, uint32_t domid)
{
	return ((struct scene *)(void *)peers)->is_up;
}

void directory_link(struct directory *directory, uint32_t domid, bool up)
{
	struct scene *scene = (struct scene *)(void *)directory;

	*(up ? &scene->ups : &scene->downs) += 1;
}

int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length)
{
	struct scene *scene = (struct scene *)(void *)directory;

	scene->directories++;
	return scene->directory_result;
}

static void on_open(void *userdata, struct channel *channel, const struct frame_open *open)
{
	struct scene *scene = userdata;

	/* The hypervisor's word, not what the frame says. */
	assert_int_equal(channel->identity.domid, scene->peer.domid);
	scene->opens++;
	channel_refuse(channel, ENOENT);
}

static void on_pong(void *userdata, uint32_t request, int64_t result)
{
	struct scene *scene = userdata;

	assert_int_equal(request, 77);
	scene->pong = result;
	scene->pongs++;
}

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static const struct hop_callbacks program_callbacks = {.control = no_control};

static uint64_t busy_poll_ns;

static void scene_start_with(struct scene *scene, uint32_t domid)
{
	struct links_options options = {
		.self = &scene->self,
		.heartbeat_ms = HEARTBEAT_MS,
		.dead_after_ms = DEAD_AFTER_MS,
		.idle_close_ms = IDLE_CLOSE_MS,
		.channels_max = 16,
		.busy_poll_ns = busy_poll_ns,
	};

	*scene = (struct scene){.is_up = true, .peer.domid = domid};
	scene->self = (struct self){.domid = OWN, .instance = "instance of us"};
	scene->base = event_base_new();
	assert_int_equal(relay_init(&scene->relay, scene->base, 1u << 20), 0);
	assert_int_equal(links_new(&scene->links, &scene->relay, (void *)scene, (void *)scene, &options,
				   on_open, scene),
			 0);
	assert_int_equal(
		hop_init(&scene->program, &scene->relay, HOP_SHARED, &program_callbacks, scene, 1, 16), 0);
}

static void scene_start(struct scene *scene)
{
	scene_start_with(scene, 7);
}

static void scene_stop(struct scene *scene)
{
	links_free(scene->links);
	hop_cleanup(&scene->program);
	relay_cleanup(&scene->relay);
	event_base_free(scene->base);
	if (scene->peer.vchan)
		assert_true(scene->peer.vchan->closed);
	free(scene->peer.vchan);
	/* Every session that began has ended. */
	assert_int_equal(scene->ups, scene->downs);
}

/* What the loop would do next. */
static void settle(struct scene *scene)
{
	while (relay_is_busy(&scene->relay))
		relay_pass(&scene->relay);
}

static struct link_info info_of(struct scene *scene)
{
	struct link_info info;

	settle(scene);
	assert_true(links_info(scene->links, scene->peer.domid, &info));
	return info;
}

static void expect_state(struct scene *scene, enum link_state state)
{
	assert_int_equal(info_of(scene).state, state);
}

static void expect_last_error(struct scene *scene, const char *part)
{
	const char *text = info_of(scene).last_error;

	if (!strstr(text, part))
		fail_msg("\"%s\" doesn't say \"%s\"", text, part);
}

/* Time goes by. */
static void pass(struct scene *scene, uint64_t ms)
{
	time_passed_ms += ms;
	event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	settle(scene);
}

/* --- the peer --------------------------------------------------------------------------------- */

static void bring_vchan(struct scene *scene)
{
	struct peer *peer = &scene->peer;
	uint32_t domid = peer->domid;
	struct ring_view view;

	free(peer->vchan);
	*peer = (struct peer){.domid = domid};
	peer->vchan = calloc(1, sizeof(*peer->vchan));
	assert_non_null(peer->vchan);
	peer->vchan->state = VCHAN_CONNECTED;
	view = private_ring_view(&peer->vchan->in);
	ring_writer_init(&peer->out, &view, false);
	view = private_ring_view(&peer->vchan->out);
	ring_reader_init(&peer->in, &view, false);
	scene->is_connected = true;
	links_connected(scene->links, domid, peer->vchan);
}

static void connect_peer(struct scene *scene)
{
	bring_vchan(scene);
	settle(scene);
}

static void notify(struct scene *scene)
{
	struct vchan *vchan = scene->peer.vchan;

	if (vchan->event)
		vchan->event(vchan, vchan->userdata);
	settle(scene);
}

static void put(struct scene *scene, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	struct peer *peer = &scene->peer;
	struct frame_header header = {
		.type = type, .channel = channel, .length = length, .sequence = peer->sequence++};
	uint8_t frame[FRAME_HEADER_SIZE + 65536 + 8] = {0};

	frame_header_encode(&header, frame);
	memcpy(frame + FRAME_HEADER_SIZE, payload, length);
	assert_true(ring_writer_space(&peer->out, frame_size(length)) >= (int)frame_size(length));
	ring_writer_put(&peer->out, frame, frame_size(length));
	ring_writer_publish(&peer->out);
	peer->put += frame_size(length);
}

/* The peer says this. */
static void say(struct scene *scene, uint8_t type, const void *payload, uint32_t length)
{
	put(scene, type, 0, payload, length);
	notify(scene);
}

static void say_u64(struct scene *scene, uint8_t type, uint64_t value)
{
	uint8_t payload[8];

	say(scene, type, payload, frame_u64_encode(value, payload));
}

static void say_hello(struct scene *scene, uint16_t major)
{
	struct frame_hello_link hello = {.major = major,
					 .max_message = 1u << 20,
					 .instance = "instance of it",
					 .version = {"1.2 \033[1m", 8}};
	uint8_t payload[FRAME_SMALL_MAX];

	say(scene, FRAME_HELLO, payload, frame_hello_link_encode(&hello, payload));
}

/* What the daemon has said next. */
static bool hear(struct scene *scene)
{
	struct peer *peer = &scene->peer;
	uint8_t encoded[FRAME_HEADER_SIZE];

	settle(scene);
	if (ring_reader_ready(&peer->in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
		return false;
	ring_reader_copy(&peer->in, 0, encoded, sizeof(encoded));
	assert_int_equal(frame_header_decode(encoded, &peer->header), 0);
	assert_int_equal(peer->header.sequence, peer->heard_sequence++);
	ring_reader_copy(&peer->in, FRAME_HEADER_SIZE, peer->payload, peer->header.length);
	ring_reader_consume(&peer->in, frame_size(peer->header.length));
	ring_reader_release(&peer->in);
	return true;
}

static void expect(struct scene *scene, uint8_t type)
{
	assert_true(hear(scene));
	assert_int_equal(scene->peer.header.type, type);
}

static void expect_silence(struct scene *scene)
{
	assert_false(hear(scene));
}

static void greet(struct scene *scene)
{
	connect_peer(scene);
	expect_state(scene, LINK_GREETING);
	expect(scene, FRAME_HELLO);
	say_hello(scene, PROTOCOL_MAJOR);
	expect_state(scene, LINK_UP);
}

static void up(struct scene *scene)
{
	scene_start(scene);
	greet(scene);
}

/* The peer has done wrong: it is told so by the last frame, and the link is idle. */
static void expect_violation(struct scene *scene, uint32_t error)
{
	bool said = false;

	while (hear(scene))
		said = scene->peer.header.type == FRAME_GOODBYE;
	assert_true(said);
	assert_int_equal(get_u32(scene->peer.payload), error);
	assert_true(scene->peer.vchan->closed);
	assert_int_equal(scene->disconnects, 1);
	expect_state(scene, LINK_IDLE);
	assert_int_equal(scene->ups, scene->downs);
	/* And can be had again. */
	greet(scene);
	scene_stop(scene);
}

/* A program opens a channel to the peer; it is refused by the opener's side if it can't be. */
static struct channel *open_channel(struct scene *scene)
{
	struct frame_identity identity = {.domid = OWN};
	struct channel *channel;
	int error = 0;
	struct hop *hop = links_want(scene->links, scene->peer.domid, NULL, &error);

	assert_non_null(hop);
	assert_int_equal(channel_new(&scene->program, 0, CHANNEL_MESSAGE, &identity, &channel), 0);
	assert_int_equal(channel_accept(channel, hop, "inbox"), 0);
	relay_pass(&scene->relay);
	return channel;
}

struct failures {
	unsigned count;
	uint32_t first;
};

static void collect_failure(void *userdata, const struct link_failure *failure)
{
	struct failures *failures = userdata;

	if (failures->count++ == 0)
		failures->first = failure->domid;
	assert_string_equal(failure->reason, "it isn't there");
}

/* The program lets go of the channel that it was told the end of. */
static void forget_program_channel(struct scene *scene)
{
	hop_reset_channels(&scene->program, ENOENT);
	relay_pass(&scene->relay);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void link_is_made_when_it_is_wanted(void **state)
{
	struct scene scene;
	int error = 0;

	scene_start(&scene);
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	expect_state(&scene, LINK_CONNECTING);
	/* Somebody else may have to ask as well, until it is there. */
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	assert_int_equal(scene.connects, 2);
	greet(&scene);
	assert_int_equal(scene.ups, 1);
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	assert_int_equal(scene.connects, 2);
	/* Nobody has one with itself. */
	assert_null(links_want(scene.links, OWN, NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	scene_stop(&scene);
}

static void what_is_not_there_leaves_nothing_behind(void **state)
{
	struct failures failures = {0};
	struct scene scene;
	int error;

	scene_start(&scene);
	scene.is_up = false;
	/* It isn't even begun where that is known. */
	scene.connect_error = -EHOSTDOWN;
	assert_null(links_want(scene.links, 7, NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	assert_int_equal(links_count(scene.links), 0);
	scene.connect_error = 0;
	for (uint32_t domid = 1000; domid < 3000; domid++) {
		scene.peer.domid = domid;
		open_channel(&scene);
		assert_int_equal(links_ping(scene.links, domid, NULL, on_pong, &scene, 77), 0);
		links_failed(scene.links, domid, domid < 2000 ? -EHOSTDOWN : -EHOSTUNREACH, "it isn't there");
		assert_int_equal(scene.pong, domid < 2000 ? -EHOSTDOWN : -EHOSTUNREACH);
		assert_int_equal(links_count(scene.links), 0);
		forget_program_channel(&scene);
	}
	assert_int_equal(scene.pongs, 2000);
	/* Why, as far as a number doesn't say it. */
	links_each_failure(scene.links, collect_failure, &failures);
	assert_int_equal(failures.count, LINKS_FAILURES_MAX);
	assert_int_equal(failures.first, 2999);
	/* One that is there stays, with its reason. */
	scene.is_up = true;
	scene.peer.domid = 7;
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	links_failed(scene.links, 7, -EHOSTUNREACH, "neither may map");
	assert_int_equal(links_count(scene.links), 1);
	assert_string_equal(info_of(&scene).last_error, "neither may map");
	scene_stop(&scene);
}

static void after_a_restore_links_begin_anew_under_the_new_number(void **state)
{
	struct failures failures = {0};
	struct scene scene;
	struct hop *hop;
	int error;

	scene_start(&scene);
	scene.is_up = false;
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	links_failed(scene.links, 7, -EHOSTUNREACH, "neither may map");
	scene.is_up = true;
	greet(&scene);
	hop = links_want(scene.links, 7, NULL, &error);
	assert_int_equal(hop->channels.parity, 0); /* the lower number of the two has the even ones */
	assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
	links_restart(scene.links);
	settle(&scene);
	assert_int_equal(links_count(scene.links), 0);
	assert_int_equal(scene.downs, 1);
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	assert_true(scene.peer.vchan->closed);
	/* Those reasons are the old host's. */
	links_each_failure(scene.links, collect_failure, &failures);
	assert_int_equal(failures.count, 0);
	scene.self.domid = 9;
	assert_null(links_want(scene.links, 9, NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	hop = links_want(scene.links, 7, NULL, &error);
	assert_non_null(hop);
	assert_int_equal(hop->channels.parity, 1);
	greet(&scene);
	scene_stop(&scene);
}

static void hello_comes_first_and_says_who_we_are(void **state)
{
	struct frame_hello_link hello;
	struct scene scene;
	static const uint8_t zeros[16];

	for (uint32_t domid = 3; domid <= 7; domid += 4) {
		scene_start_with(&scene, domid);
		open_channel(&scene);
		connect_peer(&scene);
		expect(&scene, FRAME_HELLO);
		assert_int_equal(
			frame_hello_link_decode(scene.peer.payload, scene.peer.header.length, &hello), 0);
		assert_int_equal(hello.major, PROTOCOL_MAJOR);
		assert_int_equal(hello.max_message, 1u << 20);
		assert_memory_equal(hello.instance, "instance of us", 14);
		/* The lower domid chooses the token. */
		assert_int_equal(memcmp(hello.token, zeros, sizeof(zeros)) != 0, OWN < domid);
		scene_stop(&scene);
	}
}

static void channel_that_was_opened_before_goes_out_behind_hello(void **state)
{
	struct scene scene;

	scene_start(&scene);
	open_channel(&scene);
	connect_peer(&scene);
	expect(&scene, FRAME_HELLO);
	expect(&scene, FRAME_OPEN);
	assert_int_equal(scene.peer.header.channel & 1, 0); /* the lower domid takes even numbers */
	scene_stop(&scene);
}

static void version_of_the_peer_is_plain_text(void **state)
{
	struct scene scene;

	up(&scene);
	assert_string_equal(info_of(&scene).version, "1.2??[1m");
	scene_stop(&scene);
}

static void peers_hello_may_be_there_before_we_look(void **state)
{
	struct scene scene;
	struct vchan *vchan;
	struct frame_hello_link hello = {.major = PROTOCOL_MAJOR};
	uint8_t payload[FRAME_SMALL_MAX], frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct ring_writer out;
	struct ring_view view;
	uint32_t length;

	scene_start(&scene);
	vchan = calloc(1, sizeof(*vchan));
	assert_non_null(vchan);
	vchan->state = VCHAN_CONNECTED;
	scene.peer.vchan = vchan;
	length = frame_hello_link_encode(&hello, payload);
	frame_header_encode(&(struct frame_header){.type = FRAME_HELLO, .length = length}, frame);
	memcpy(frame + FRAME_HEADER_SIZE, payload, length);
	view = private_ring_view(&vchan->in);
	ring_writer_init(&out, &view, false);
	ring_writer_put(&out, frame, frame_size(length));
	ring_writer_publish(&out);
	links_connected(scene.links, 7, vchan);
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

static void sender_is_the_domain_at_the_other_end_whatever_it_claims(void **state)
{
	struct frame_open open = {
		.kind = CHANNEL_MESSAGE, .identity = {.domid = 0, .uid = 0}, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];
	struct scene scene;

	up(&scene);
	put(&scene, FRAME_OPEN, 1, payload, frame_open_encode(&open, payload));
	notify(&scene);
	assert_int_equal(scene.opens, 1); /* on_open() has looked at it */
	expect(&scene, FRAME_RESET);
	scene_stop(&scene);
}

/* --- violations ------------------------------------------------------------------------------- */

static void another_major_is_refused(void **state)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		scene_start(&scene);
		connect_peer(&scene);
		if (shape)
			/* whatever else stands in that version's HELLO */
			say(&scene, FRAME_HELLO, "\2\0", 2);
		else
			say_hello(&scene, PROTOCOL_MAJOR + 1);
		assert_int_equal(scene.ups, 0);
		expect_violation(&scene, EPROTONOSUPPORT);
	}
}

static void short_hello_is_refused(void **state)
{
	struct scene scene;

	for (uint32_t length = 0; length <= 2; length += 2) {
		scene_start(&scene);
		connect_peer(&scene);
		say(&scene, FRAME_HELLO, "\1\0", length);
		assert_int_equal(scene.ups, 0);
		expect_violation(&scene, EPROTO);
	}
}

static void anything_before_hello_is_refused(void **state)
{
	static const uint8_t types[] = {FRAME_PING, FRAME_PONG, FRAME_ACK, FRAME_DIRECTORY, FRAME_OPEN};
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];
	struct scene scene;

	for (unsigned i = 0; i < sizeof(types); i++) {
		scene_start_with(&scene, types[i] == FRAME_DIRECTORY ? 0 : 7);
		connect_peer(&scene);
		put(&scene, types[i], 1, payload, frame_open_encode(&open, payload));
		notify(&scene);
		assert_int_equal(scene.opens, 0);
		assert_int_equal(scene.directories, 0);
		expect_violation(&scene, EINVAL);
	}
}

static void second_hello_is_busy(void **state)
{
	struct scene scene;

	up(&scene);
	say_hello(&scene, PROTOCOL_MAJOR);
	expect_violation(&scene, EBUSY);
}

static void wrong_sequence_ends_the_session(void **state)
{
	struct scene scene;

	for (int moment = 0; moment < 2; moment++) {
		for (int wrong = -1; wrong <= 1; wrong += 2) {
			scene_start(&scene);
			if (moment)
				greet(&scene);
			else
				connect_peer(&scene);
			scene.peer.sequence += (uint32_t)wrong;
			say_hello(&scene, PROTOCOL_MAJOR);
			expect_last_error(&scene, "was expected");
			expect_violation(&scene, EPROTO);
		}
	}
}

static void impossible_position_ends_the_session(void **state)
{
	struct scene scene;
	uint64_t sent;

	up(&scene);
	sent = frame_size(scene.peer.header.length); /* our HELLO */
	say_u64(&scene, FRAME_ACK, sent);
	say_u64(&scene, FRAME_ACK, sent);
	expect_state(&scene, LINK_UP);
	say_u64(&scene, FRAME_ACK, sent - 8); /* it can't fall */
	expect_violation(&scene, EPROTO);
	up(&scene);
	say_u64(&scene, FRAME_ACK, sent + 8); /* never sent */
	expect_violation(&scene, EPROTO);
	up(&scene);
	say_u64(&scene, FRAME_ACK, UINT64_MAX);
	expect_violation(&scene, EPROTO);
	up(&scene);
	say(&scene, FRAME_ACK, "1234", 4);
	expect_violation(&scene, EPROTO);
}

static void positions_begin_anew_with_each_session(void **state)
{
	struct scene scene;

	up(&scene);
	say_u64(&scene, FRAME_ACK, frame_size(scene.peer.header.length));
	links_lost(scene.links, 7, "its daemon was restarted");
	settle(&scene);
	greet(&scene);
	say_u64(&scene, FRAME_ACK, 0);
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

static void only_domain_0_says_who_is_there(void **state)
{
	struct scene scene;

	scene_start_with(&scene, 0);
	greet(&scene);
	say(&scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene.directories, 1);
	expect_state(&scene, LINK_UP);
	scene.directory_result = -EPROTO;
	say(&scene, FRAME_DIRECTORY, "12345678", 8);
	expect_violation(&scene, EPROTO);
	up(&scene);
	say(&scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene.directories, 0);
	expect_violation(&scene, EPROTO);
}

static void frames_of_local_hops_are_refused(void **state)
{
	static const uint8_t types[] = {0,	     FRAME_WELCOME, FRAME_BIND,	  FRAME_WATCH,
					FRAME_QUERY, FRAME_REPLY,   FRAME_ACCEPT, 99};
	struct scene scene;

	for (unsigned i = 0; i < sizeof(types); i++) {
		up(&scene);
		say(&scene, types[i], "12345678", 8);
		expect_violation(&scene, EPROTO);
	}
}

static void what_may_be_skipped_is_skipped(void **state)
{
	struct scene scene;

	up(&scene);
	say(&scene, FRAME_OPTIONAL, "12345678", 8);
	say_u64(&scene, FRAME_PONG, 1234); /* nobody asked */
	say_u64(&scene, FRAME_PONG, 0);
	expect_state(&scene, LINK_UP);
	expect_silence(&scene);
	scene_stop(&scene);
}

/* --- pings and acknowledgements --------------------------------------------------------------- */

static void ping_is_answered_with_what_was_read(void **state)
{
	struct scene scene;
	uint64_t before;

	up(&scene);
	before = scene.peer.put;
	say_u64(&scene, FRAME_PING, 0x1122334455667788u);
	expect(&scene, FRAME_PONG);
	assert_int_equal(get_u64(scene.peer.payload), 0x1122334455667788u);
	expect(&scene, FRAME_ACK);
	assert_true(get_u64(scene.peer.payload) >= before && get_u64(scene.peer.payload) <= scene.peer.put);
	scene_stop(&scene);
}

static void what_was_read_is_acknowledged_every_64_kib(void **state)
{
	uint8_t skipped[8192] = {0};
	struct scene scene;
	unsigned acks = 0;

	up(&scene);
	for (int i = 0; i < 100; i++) {
		say(&scene, FRAME_OPTIONAL, skipped, sizeof(skipped));
		while (hear(&scene)) {
			assert_int_equal(scene.peer.header.type, FRAME_ACK);
			assert_true(get_u64(scene.peer.payload) <= scene.peer.put);
			assert_true(scene.peer.put - get_u64(scene.peer.payload) <= 65536);
			acks++;
		}
	}
	assert_in_range(acks, 800 / 64 - 1, 800 / 64 + 1);
	scene_stop(&scene);
}

static void acknowledging_takes_no_memory(void **state)
{
	uint8_t skipped[8192] = {0};
	struct scene scene;
	unsigned acks = 0;

	up(&scene);
	for (int i = 0; i < 200; i++) {
		if (i == 100)
			allocations = 0;
		say(&scene, FRAME_OPTIONAL, skipped, sizeof(skipped));
		while (hear(&scene))
			acks++;
	}
	assert_true(acks > 10);
	if (COUNTS_ALLOCATIONS)
		assert_int_equal(allocations, 0);
	scene_stop(&scene);
}

static void ping_is_answered_once_when_the_pong_comes(void **state)
{
	struct scene scene;
	uint64_t token;

	scene_start(&scene);
	assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
	assert_int_equal(scene.connects, 1);
	greet(&scene); /* it goes out as soon as there is somebody to hear it */
	expect(&scene, FRAME_PING);
	token = get_u64(scene.peer.payload);
	say_u64(&scene, FRAME_PONG, token + 1);
	assert_int_equal(scene.pongs, 0);
	say_u64(&scene, FRAME_PONG, token);
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	assert_int_equal(info_of(&scene).rtt_ns, scene.pong);
	say_u64(&scene, FRAME_PONG, token);
	assert_int_equal(scene.pongs, 1);
	scene_stop(&scene);
}

static void each_ping_is_sent_once(void **state)
{
	struct scene scene;
	uint64_t tokens[2];

	up(&scene);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
		relay_pass(&scene.relay);
		expect(&scene, FRAME_PING);
		tokens[i] = get_u64(scene.peer.payload);
		expect_silence(&scene);
	}
	assert_true(tokens[0] != tokens[1]);
	for (int i = 1; i >= 0; i--) {
		say_u64(&scene, FRAME_PONG, tokens[i]);
		assert_int_equal(scene.pongs, 2 - i);
	}
	scene_stop(&scene);
}

static void ping_ends_with_the_error_that_the_link_ends_with(void **state)
{
	static const struct {
		bool reachable;
		int error;
	} ends[] = {{true, EHOSTUNREACH}, {false, EHOSTDOWN}};
	struct scene scene;

	for (unsigned i = 0; i < 2; i++) {
		scene_start(&scene);
		assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
		links_failed(scene.links, 7, -EACCES, "neither may map");
		assert_int_equal(scene.pongs, 1);
		assert_int_equal(scene.pong, -EACCES);
		assert_string_equal(info_of(&scene).last_error, "neither may map");
		greet(&scene);
		assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
		scene.is_up = ends[i].reachable;
		links_lost(scene.links, 7, "its daemon has gone");
		settle(&scene);
		assert_int_equal(scene.pongs, 2);
		assert_int_equal(scene.pong, -ends[i].error);
		scene_stop(&scene);
	}
}

static void cancelled_ping_is_never_answered(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
	links_ping_cancel(scene.links, &scene);
	greet(&scene);
	expect_silence(&scene);
	assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
	links_ping_cancel(scene.links, &scene);
	links_lost(scene.links, 7, "its daemon has gone");
	settle(&scene);
	assert_int_equal(scene.pongs, 0);
	scene_stop(&scene);
}

static void frames_of_others_go_out_only_in_a_session(void **state)
{
	struct scene scene;
	int error;

	scene_start(&scene);
	assert_int_equal(links_send(scene.links, 7, FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	assert_non_null(links_want(scene.links, 7, NULL, &error));
	assert_int_equal(links_send(scene.links, 7, FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	connect_peer(&scene);
	assert_int_equal(links_send(scene.links, 7, FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	expect(&scene, FRAME_HELLO);
	say_hello(&scene, PROTOCOL_MAJOR);
	assert_int_equal(links_send(scene.links, 7, FRAME_DIRECTORY, "12345678", 8), 0);
	relay_pass(&scene.relay);
	expect(&scene, FRAME_DIRECTORY);
	scene_stop(&scene);
}

/* --- ends ------------------------------------------------------------------------------------- */

enum moment {
	CONNECTING,
	GREETING,
	RUNNING,
	MOMENTS,
};

static void reach(struct scene *scene, enum moment moment, bool with_channel)
{
	int error;

	scene_start(scene);
	if (with_channel)
		open_channel(scene);
	else
		assert_non_null(links_want(scene->links, 7, NULL, &error));
	if (moment == RUNNING)
		greet(scene);
	else if (moment == GREETING)
		connect_peer(scene);
}

static void end_at_any_state_ends_the_channels_and_leaves_it_idle(void **state)
{
	enum { FAILED, LOST, CLOSED, BROKEN, GOODBYE, STOPPED, ENDS };
	struct scene scene;

	for (enum moment moment = 0; moment < MOMENTS; moment++) {
		for (int end = FAILED; end < ENDS; end++) {
			bool possible = end == STOPPED || (moment == CONNECTING) == (end == FAILED);

			if (!possible)
				continue;
			reach(&scene, moment, true);
			assert_int_equal(scene.program.channels.count, 1);
			assert_int_equal(info_of(&scene).channels, 1);
			switch (end) {
			case FAILED:
				links_failed(scene.links, 7, -EHOSTUNREACH, "the setting map forbids it");
				expect_last_error(&scene, "the setting map forbids it");
				break;
			case LOST:
				links_lost(scene.links, 7, "the domain is gone");
				settle(&scene);
				expect_last_error(&scene, "the domain is gone");
				break;
			case CLOSED:
				scene.peer.vchan->state = VCHAN_CLOSED;
				notify(&scene);
				expect_last_error(&scene, "the peer's daemon has gone");
				break;
			case BROKEN:
				scene.peer.vchan->state = VCHAN_BROKEN;
				notify(&scene);
				expect_last_error(&scene, "impossible state");
				break;
			case GOODBYE:
				say(&scene, FRAME_GOODBYE, "\0\0\0\0", 4);
				expect_last_error(&scene, "the peer has closed it");
				break;
			default:
				links_free(scene.links);
				scene.links = NULL;
				assert_int_equal(scene.disconnects, 1);
				scene_stop(&scene);
				continue;
			}
			expect_state(&scene, LINK_IDLE);
			assert_int_equal(info_of(&scene).channels, 0);
			assert_false(info_of(&scene).has_vchan);
			/* rendezvous knows of its own failure */
			assert_int_equal(scene.disconnects, end == FAILED ? 0 : 1);
			assert_int_equal(scene.ups, moment == RUNNING);
			assert_int_equal(scene.downs, scene.ups);
			/* It can be had again. */
			greet(&scene);
			scene_stop(&scene);
		}
	}
}

static void what_the_peer_said_last_counts_though_it_has_gone(void **state)
{
	struct scene scene;
	uint8_t payload[8];

	up(&scene);
	assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
	relay_pass(&scene.relay);
	expect(&scene, FRAME_PING);
	put(&scene, FRAME_PONG, 0, payload, frame_u64_encode(get_u64(scene.peer.payload), payload));
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	expect_state(&scene, LINK_IDLE);
	scene_stop(&scene);
}

static void reason_in_a_goodbye_is_kept_as_plain_text(void **state)
{
	struct scene scene;
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_goodbye goodbye = {.error = EPROTO, .text = {"\033]0;no\n\xff\xc3", 9}};

	up(&scene);
	say(&scene, FRAME_GOODBYE, payload, frame_goodbye_encode(&goodbye, payload));
	expect_state(&scene, LINK_IDLE);
	expect_last_error(&scene, "the peer says goodbye: ");
	/* It goes into JSON and to terminals. */
	for (const char *c = info_of(&scene).last_error; *c; c++)
		assert_true(*c >= ' ' && *c < 0x7f);
	scene_stop(&scene);
}

static void peer_that_stops_is_told_by_a_goodbye(void **state)
{
	struct scene scene;

	for (int moment = 0; moment < 2; moment++) {
		reach(&scene, moment ? RUNNING : GREETING, false);
		links_free(scene.links);
		scene.links = NULL;
		while (hear(&scene))
			;
		assert_int_equal(scene.peer.header.type, FRAME_GOODBYE);
		assert_int_equal(get_u32(scene.peer.payload), 0);
		assert_true(scene.peer.vchan->closed);
		scene_stop(&scene);
	}
}

static void new_vchan_of_the_peer_takes_the_place_of_the_old_one(void **state)
{
	struct scene scene;
	struct vchan *old;

	up(&scene);
	open_channel(&scene);
	old = scene.peer.vchan;
	scene.peer.vchan = NULL;
	connect_peer(&scene);
	assert_true(old->closed);
	assert_int_equal(scene.downs, 1);
	/* the end at the program waits to be told */
	assert_int_equal(scene.program.channels.count + info_of(&scene).channels, 1);
	expect_state(&scene, LINK_GREETING);
	expect(&scene, FRAME_HELLO);
	say_hello(&scene, PROTOCOL_MAJOR);
	assert_int_equal(scene.ups, 2);
	free(old);
	scene_stop(&scene);
}

static void what_was_said_over_the_old_vchan_counts_though_there_is_a_new_one(void **state)
{
	struct scene scene;
	uint8_t payload[8];
	struct vchan *old;

	up(&scene);
	assert_int_equal(links_ping(scene.links, 7, NULL, on_pong, &scene, 77), 0);
	relay_pass(&scene.relay);
	expect(&scene, FRAME_PING);
	put(&scene, FRAME_PONG, 0, payload, frame_u64_encode(get_u64(scene.peer.payload), payload));
	old = scene.peer.vchan;
	scene.peer.vchan = NULL;
	connect_peer(&scene);
	relay_pass(&scene.relay);
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	assert_true(old->closed);
	expect_state(&scene, LINK_GREETING);
	free(old);
	scene_stop(&scene);
}

static void new_vchan_goes_with_the_link_while_the_old_one_is_read(void **state)
{
	struct scene scene;
	struct vchan *old;

	for (int moment = 0; moment < 2; moment++) {
		up(&scene);
		old = scene.peer.vchan;
		scene.peer.vchan = NULL;
		bring_vchan(&scene);
		if (moment) {
			links_lost(scene.links, 7, "it has gone again");
			settle(&scene);
			expect_state(&scene, LINK_IDLE);
		} else {
			links_free(scene.links);
			scene.links = NULL;
		}
		assert_true(old->closed);
		assert_true(scene.peer.vchan->closed);
		free(old);
		scene_stop(&scene);
	}
}

static void link_that_cannot_be_notified_ends(void **state)
{
	struct scene scene;

	up(&scene);
	scene.peer.vchan->notify_error = -EIO;
	ring_reader_arm(&scene.peer.in, 1);
	say_u64(&scene, FRAME_PING, 1);
	expect_state(&scene, LINK_IDLE);
	expect_last_error(&scene, "notifying it");
	scene_stop(&scene);
}

/* --- heartbeats ------------------------------------------------------------------------------- */

static unsigned heard_pings(struct scene *scene, bool answer)
{
	unsigned count = 0;

	while (hear(scene)) {
		if (scene->peer.header.type != FRAME_PING)
			continue;
		count++;
		if (answer)
			say_u64(scene, FRAME_PONG, get_u64(scene->peer.payload));
	}
	return count;
}

static void peer_that_answers_lives(void **state)
{
	struct scene scene;

	up(&scene);
	for (int i = 0; i < 20; i++) {
		pass(&scene, HEARTBEAT_MS);
		assert_int_equal(heard_pings(&scene, true), 1);
	}
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

static void silent_peer_is_dead_after_its_time_and_not_before(void **state)
{
	struct scene scene;

	for (int greeted = 0; greeted < 2; greeted++) {
		scene_start(&scene);
		if (greeted)
			greet(&scene);
		else
			connect_peer(&scene);
		pass(&scene, HEARTBEAT_MS);
		assert_int_equal(heard_pings(&scene, false), greeted ? 1 : 0);
		pass(&scene, HEARTBEAT_MS);
		/* One question is enough. */
		assert_int_equal(heard_pings(&scene, false), 0);
		expect_state(&scene, greeted ? LINK_UP : LINK_GREETING);
		pass(&scene, HEARTBEAT_MS);
		pass(&scene, HEARTBEAT_MS);
		expect_state(&scene, LINK_IDLE);
		expect_last_error(&scene, "nothing has come from it for 30 s");
		scene_stop(&scene);
	}
}

static void any_frame_is_a_sign_of_life(void **state)
{
	struct scene scene;

	up(&scene);
	for (int i = 0; i < 20; i++) {
		pass(&scene, HEARTBEAT_MS);
		say(&scene, FRAME_OPTIONAL, "", 0);
	}
	expect_state(&scene, LINK_UP);
	/* A notification without one is none. */
	for (int i = 0; i < 4; i++) {
		pass(&scene, HEARTBEAT_MS);
		notify(&scene);
	}
	expect_state(&scene, LINK_IDLE);
	scene_stop(&scene);
}

/* Else a lost event, or a daemon that stood still itself, would cost the link. */
static void what_lies_unread_is_a_sign_of_life(void **state)
{
	struct scene scene;

	up(&scene);
	for (int i = 0; i < 20; i++) {
		put(&scene, FRAME_OPTIONAL, 0, "", 0);
		pass(&scene, HEARTBEAT_MS);
	}
	expect_state(&scene, LINK_UP);
	put(&scene, FRAME_OPTIONAL, 0, "", 0);
	pass(&scene, 2 * DEAD_AFTER_MS);
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

static void idle_link_is_closed_and_one_with_a_channel_is_not(void **state)
{
	struct scene scene;

	for (int with_channel = 0; with_channel < 2; with_channel++) {
		reach(&scene, RUNNING, with_channel);
		for (uint64_t ms = 0; ms < IDLE_CLOSE_MS - HEARTBEAT_MS; ms += HEARTBEAT_MS) {
			pass(&scene, HEARTBEAT_MS);
			heard_pings(&scene, true);
		}
		expect_state(&scene, LINK_UP);
		/* Our own heartbeats are no use that is made of it. */
		pass(&scene, HEARTBEAT_MS);
		pass(&scene, HEARTBEAT_MS);
		expect_state(&scene, with_channel ? LINK_UP : LINK_IDLE);
		if (!with_channel) {
			while (hear(&scene))
				;
			assert_int_equal(scene.peer.header.type, FRAME_GOODBYE);
			assert_int_equal(get_u32(scene.peer.payload), 0);
		}
		scene_stop(&scene);
	}
}

static void link_with_domain_0_is_not_closed_for_being_idle(void **state)
{
	struct scene scene;

	scene_start_with(&scene, 0);
	greet(&scene);
	for (uint64_t ms = 0; ms < 2 * IDLE_CLOSE_MS; ms += HEARTBEAT_MS) {
		pass(&scene, HEARTBEAT_MS);
		heard_pings(&scene, true);
	}
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

static void domains_that_never_were_are_forgotten(void **state)
{
	struct link_info info;
	struct scene scene;

	for (int is_up = 0; is_up < 2; is_up++) {
		reach(&scene, CONNECTING, false);
		scene.is_up = is_up;
		links_failed(scene.links, 7, -EHOSTDOWN, "no such domain");
		pass(&scene, HEARTBEAT_MS);
		assert_int_equal(links_info(scene.links, 7, &info), is_up);
		pass(&scene, DEAD_AFTER_MS);
		pass(&scene, HEARTBEAT_MS);
		assert_int_equal(links_info(scene.links, 7, &info), is_up);
		scene_stop(&scene);
	}
}

/* --- looking instead of waiting --------------------------------------------------------------- */

#define BUSY_POLL_MS 100000u /* long, so that what a test does at once is quick on any machine */

static int with_busy_poll(void **state)
{
	busy_poll_ns = BUSY_POLL_MS * UINT64_C(1000000);
	yield_takes_ms = 0;
	return 0;
}

static int without_busy_poll(void **state)
{
	busy_poll_ns = yield_takes_ms = 0;
	return 0;
}

static bool we_ask_to_be_notified(struct scene *scene)
{
	settle(scene);
	return ring_writer_is_awaited(&scene->peer.out);
}

static void expect_answer(struct scene *scene)
{
	expect(scene, FRAME_PONG);
	expect(scene, FRAME_ACK);
}

static void say_quickly(struct scene *scene, unsigned times)
{
	while (times--) {
		say_u64(scene, FRAME_PING, times);
		expect_answer(scene);
	}
}

/* Until the link is looked at. Returns how many quick frames that took. */
static unsigned say_until_polled(struct scene *scene)
{
	unsigned times = 0;

	while (we_ask_to_be_notified(scene)) {
		assert_true(times++ < 10000);
		assert_false(links_poll(scene->links));
		say_quickly(scene, 1);
	}
	return times;
}

static void what_comes_quickly_is_looked_for_without_being_notified_of(void **state)
{
	struct scene scene;

	up(&scene);
	assert_true(say_until_polled(&scene) >= PATIENCE_QUICK_WAITS);
	for (int i = 0; i < 100; i++) {
		uint8_t payload[8];

		assert_true(links_poll(scene.links));
		put(&scene, FRAME_PING, 0, payload, frame_u64_encode(1, payload));
		assert_true(links_poll(scene.links));
		expect_answer(&scene);
		assert_false(we_ask_to_be_notified(&scene));
	}
	scene_stop(&scene);
}

static void looking_in_vain_ends_by_asking_and_is_tried_less(void **state)
{
	struct scene scene;
	unsigned times, before = 0;

	up(&scene);
	for (int i = 0; i < 5; i++) {
		times = say_until_polled(&scene);
		assert_true(times > before);
		before = times;
		assert_true(links_poll(scene.links));
		time_passed_ms += BUSY_POLL_MS;
		assert_false(links_poll(scene.links));
		assert_true(we_ask_to_be_notified(&scene));
	}
	scene_stop(&scene);
}

static void what_came_before_the_last_look_is_taken_in(void **state)
{
	struct scene scene;
	uint8_t payload[8];

	up(&scene);
	say_until_polled(&scene);
	time_passed_ms += BUSY_POLL_MS;
	put(&scene, FRAME_PING, 0, payload, frame_u64_encode(1, payload));
	links_poll(scene.links);
	expect_answer(&scene);
	scene_stop(&scene);
}

static void looking_ends_when_others_need_the_cpu(void **state)
{
	struct scene scene;

	up(&scene);
	say_until_polled(&scene);
	assert_true(links_poll(scene.links));
	yield_takes_ms = 1000;
	assert_false(links_poll(scene.links));
	assert_true(we_ask_to_be_notified(&scene));
	scene_stop(&scene);
}

static void link_that_ends_is_not_looked_at(void **state)
{
	struct scene scene;

	up(&scene);
	say_until_polled(&scene);
	scene.peer.vchan->state = VCHAN_CLOSED;
	notify(&scene);
	expect_state(&scene, LINK_IDLE);
	assert_false(links_poll(scene.links));
	greet(&scene);
	assert_true(we_ask_to_be_notified(&scene));
	say_until_polled(&scene);
	scene_stop(&scene);
}

/* Not by what is found in its ring: somebody else knows that it is over. */
static void link_that_is_lost_while_it_is_looked_at_is_looked_at_no_more(void **state)
{
	struct scene scene;

	up(&scene);
	say_until_polled(&scene);
	links_lost(scene.links, scene.peer.domid, "its daemon is gone");
	settle(&scene);
	expect_state(&scene, LINK_IDLE);
	assert_false(links_poll(scene.links));
	greet(&scene);
	assert_true(we_ask_to_be_notified(&scene));
	say_until_polled(&scene);
	assert_true(links_poll(scene.links));
	scene_stop(&scene);
}

/* A few quick answers in between make no difference. */
static void slow_link_is_never_looked_at(void **state)
{
	struct scene scene;

	up(&scene);
	for (int i = 0; i < 100; i++) {
		time_passed_ms += BUSY_POLL_MS;
		say_quickly(&scene, PATIENCE_QUICK_WAITS);
		assert_true(we_ask_to_be_notified(&scene));
		assert_false(links_poll(scene.links));
	}
	scene_stop(&scene);
}

static void nothing_is_looked_for_if_that_is_switched_off(void **state)
{
	struct scene scene;

	up(&scene);
	for (int i = 0; i < 100; i++) {
		say_quickly(&scene, 1);
		assert_true(we_ask_to_be_notified(&scene));
		assert_false(links_poll(scene.links));
	}
	scene_stop(&scene);
}

/* --- in any order ----------------------------------------------------------------------------- */

#define STEPS 80

/* One thing that the peer, XenStore or a program may do at any time. */
static void do_something(struct scene *scene, unsigned what)
{
	struct vchan *vchan = scene->peer.vchan;
	uint8_t payload[64] = {0};
	int error = 0;

	switch (what) {
	case 0:
	case 1:
		bring_vchan(scene);
		break;
	case 2:
		links_lost(scene->links, 7, "it is lost");
		break;
	case 3:
		links_failed(scene->links, 7, -EHOSTUNREACH, "it has failed");
		break;
	case 4:
		links_want(scene->links, 7, NULL, &error);
		break;
	case 5:
		assert_int_equal(links_ping(scene->links, 7, NULL, on_pong, scene, 77), 0);
		break;
	case 6:
		relay_pass(&scene->relay);
		break;
	case 7:
		if (!scene->program.channels.count)
			open_channel(scene);
		break;
	case 8:
		forget_program_channel(scene);
		break;
	case 9:
		links_restart(scene->links);
		break;
	case 10:
		scene->is_up = !scene->is_up;
		break;
	case 11:
		time_passed_ms += DEAD_AFTER_MS;
		event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		break;
	case 12:
		if (vchan)
			vchan->state = VCHAN_CLOSED;
		break;
	default:
		if (!vchan || vchan->closed)
			break;
		if (what == 13)
			say_hello(scene, PROTOCOL_MAJOR);
		else if (what == 14)
			put(scene, FRAME_PING, 0, payload, 8);
		else if (what == 15)
			put(scene, FRAME_GOODBYE, 0, payload, 6);
		else if (vchan->event)
			vchan->event(vchan, vchan->userdata);
	}
}

static uint64_t next_random(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random >> 20;
}

/* Those of before the last one are closed when nothing is to be done any more, each once (vchan_close() looks),
 * and the rendezvous knows whether the last one is. */
static void each_vchan_is_closed_once_whatever_happens_when(void **state)
{
	uint64_t random = 88172645463325252u;

	for (unsigned run = 0; run < 3000; run++) {
		struct vchan *vchans[STEPS] = {NULL};
		struct scene scene;
		unsigned count = 0;

		scene_start(&scene);
		for (unsigned step = 0; step < STEPS; step++) {
			unsigned what = (unsigned)(next_random(&random) % 17);

			if (what < 2 && scene.peer.vchan) {
				vchans[count++] = scene.peer.vchan;
				scene.peer.vchan = NULL;
			}
			do_something(&scene, what);
			if (next_random(&random) % 4)
				continue;
			settle(&scene);
			for (unsigned i = 0; i < count; i++)
				assert_true(vchans[i]->closed);
			assert_int_equal(scene.is_connected, scene.peer.vchan && !scene.peer.vchan->closed);
		}
		scene_stop(&scene);
		for (unsigned i = 0; i < count; i++) {
			assert_true(vchans[i]->closed);
			free(vchans[i]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(link_is_made_when_it_is_wanted),
		cmocka_unit_test(what_is_not_there_leaves_nothing_behind),
		cmocka_unit_test(after_a_restore_links_begin_anew_under_the_new_number),
		cmocka_unit_test(hello_comes_first_and_says_who_we_are),
		cmocka_unit_test(channel_that_was_opened_before_goes_out_behind_hello),
		cmocka_unit_test(version_of_the_peer_is_plain_text),
		cmocka_unit_test(peers_hello_may_be_there_before_we_look),
		cmocka_unit_test(sender_is_the_domain_at_the_other_end_whatever_it_claims),
		cmocka_unit_test(another_major_is_refused),
		cmocka_unit_test(short_hello_is_refused),
		cmocka_unit_test(anything_before_hello_is_refused),
		cmocka_unit_test(second_hello_is_busy),
		cmocka_unit_test(wrong_sequence_ends_the_session),
		cmocka_unit_test(impossible_position_ends_the_session),
		cmocka_unit_test(positions_begin_anew_with_each_session),
		cmocka_unit_test(only_domain_0_says_who_is_there),
		cmocka_unit_test(frames_of_local_hops_are_refused),
		cmocka_unit_test(what_may_be_skipped_is_skipped),
		cmocka_unit_test(ping_is_answered_with_what_was_read),
		cmocka_unit_test(what_was_read_is_acknowledged_every_64_kib),
		cmocka_unit_test(acknowledging_takes_no_memory),
		cmocka_unit_test(ping_is_answered_once_when_the_pong_comes),
		cmocka_unit_test(each_ping_is_sent_once),
		cmocka_unit_test(ping_ends_with_the_error_that_the_link_ends_with),
		cmocka_unit_test(cancelled_ping_is_never_answered),
		cmocka_unit_test(frames_of_others_go_out_only_in_a_session),
		cmocka_unit_test(end_at_any_state_ends_the_channels_and_leaves_it_idle),
		cmocka_unit_test(what_the_peer_said_last_counts_though_it_has_gone),
		cmocka_unit_test(reason_in_a_goodbye_is_kept_as_plain_text),
		cmocka_unit_test(peer_that_stops_is_told_by_a_goodbye),
		cmocka_unit_test(new_vchan_of_the_peer_takes_the_place_of_the_old_one),
		cmocka_unit_test(what_was_said_over_the_old_vchan_counts_though_there_is_a_new_one),
		cmocka_unit_test(new_vchan_goes_with_the_link_while_the_old_one_is_read),
		cmocka_unit_test(link_that_cannot_be_notified_ends),
		cmocka_unit_test(peer_that_answers_lives),
		cmocka_unit_test(silent_peer_is_dead_after_its_time_and_not_before),
		cmocka_unit_test(any_frame_is_a_sign_of_life),
		cmocka_unit_test(what_lies_unread_is_a_sign_of_life),
		cmocka_unit_test(idle_link_is_closed_and_one_with_a_channel_is_not),
		cmocka_unit_test(link_with_domain_0_is_not_closed_for_being_idle),
		cmocka_unit_test(domains_that_never_were_are_forgotten),
		cmocka_unit_test_setup_teardown(what_comes_quickly_is_looked_for_without_being_notified_of,
						with_busy_poll, without_busy_poll),
		cmocka_unit_test_setup_teardown(looking_in_vain_ends_by_asking_and_is_tried_less,
						with_busy_poll, without_busy_poll),
		cmocka_unit_test_setup_teardown(what_came_before_the_last_look_is_taken_in, with_busy_poll,
						without_busy_poll),
		cmocka_unit_test_setup_teardown(looking_ends_when_others_need_the_cpu, with_busy_poll,
						without_busy_poll),
		cmocka_unit_test_setup_teardown(link_that_ends_is_not_looked_at, with_busy_poll,
						without_busy_poll),
		cmocka_unit_test_setup_teardown(link_that_is_lost_while_it_is_looked_at_is_looked_at_no_more,
						with_busy_poll, without_busy_poll),
		cmocka_unit_test_setup_teardown(slow_link_is_never_looked_at, with_busy_poll,
						without_busy_poll),
		cmocka_unit_test(nothing_is_looked_for_if_that_is_switched_off),
		cmocka_unit_test(each_vchan_is_closed_once_whatever_happens_when),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
