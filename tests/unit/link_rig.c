/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/link_rig.h"

#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/link/link_internal.h"
#include "daemon/link/carrier.h"
#include "daemon/registry/registry.h"
#include "daemon/hosts/hosts.h"
#include "daemon/peers/peers.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"
#include "wire/ut.h"

BEFORE_ALL
{
	log_set_level(LOG_LEVEL_ERROR);
}

/* --- time ------------------------------------------------------------------------------------- */

uint64_t time_passed_ms;
uint64_t look_takes_ns = 100;
static uint64_t looked_ns;

/* Stands before the C library's, for libevent too: time stands still but for what the test says, and a little
 * for each look. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	uint64_t ns = 1000 * UINT64_C(1000000000) + time_passed_ms * 1000000 + looked_ns;

	if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
		return (int)syscall(SYS_clock_gettime, id, now);
	looked_ns += look_takes_ns;
	*now = (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	return 0;
}

uint64_t yield_takes_ms;

__attribute__((visibility("default"))) int sched_yield(void)
{
	time_passed_ms += yield_takes_ms;
	return 0;
}

/* --- a vchan without Xen ---------------------------------------------------------------------- */

enum vchan_state vchan_state(const struct vchan *vchan)
{
	return vchan->state;
}

bool vchan_was_left(const struct vchan *vchan)
{
	return vchan->was_left;
}

bool vchan_has_died(const struct vchan *vchan)
{
	return vchan->has_died;
}

bool guarded, maps;

bool vchan_is_guarded(const struct vchan *vchan)
{
	return guarded;
}

bool vchan_is_sound(const struct vchan *vchan)
{
	return !vchan->restored;
}

void vchan_read_view(const struct vchan *vchan, struct ring_view *view)
{
	*view = private_ring_view((struct private_ring *)(uintptr_t)&vchan->in);
	if (vchan->size)
		view->size = vchan->size;
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

void vchan_leave(struct vchan *vchan)
{
	vchan->left = true;
	vchan_close(vchan);
}

bool vchan_is_granter(const struct vchan *vchan)
{
	return !maps && !vchan->is_mapped;
}

uint32_t vchan_pages(const struct vchan *vchan)
{
	return 65;
}

#define CHANNELS_MAX 16

/* --- the scene -------------------------------------------------------------------------------- */

/* Stands in for the peers, and for the directory. */
int peers_connect(struct peers *peers, uint32_t domid, struct account *account)
{
	struct scene *scene = (struct scene *)(void *)peers;

	assert_true(domid == scene->peer.domid || domid == scene->was || domid == scene->other);
	scene->connects++;
	return scene->connect_error;
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	struct scene *scene = (struct scene *)(void *)peers;

	assert_true(domid == scene->peer.domid || domid == scene->was || domid == scene->other);
	scene->disconnects++;
	if (domid == scene->peer.domid)
		scene->is_connected = false;
}

void peers_died(struct peers *peers, uint32_t domid)
{
	((struct scene *)(void *)peers)->deaths++;
}

bool peers_is_forbidden(struct peers *peers, uint32_t domid)
{
	return false;
}

bool peers_is_up(struct peers *peers, uint32_t domid)
{
	return ((struct scene *)(void *)peers)->is_up;
}

bool peers_is_absent(struct peers *peers, uint32_t domid)
{
	const struct scene *scene = (struct scene *)(void *)peers;

	return !scene->is_up && !scene->is_unseen;
}

bool peers_want_all(struct peers *peers)
{
	return true;
}

bool peers_next(struct peers *peers, int64_t after, struct peer_info *info)
{
	return false;
}

bool peers_instance(struct peers *peers, uint32_t domid, uint8_t instance[16])
{
	const struct scene *scene = (struct scene *)(void *)peers;

	static const uint8_t nobody[16];

	memcpy(instance, scene->instances[domid % 16], 16);
	return memcmp(instance, nobody, sizeof(nobody)) != 0;
}

unsigned peers_waiting(const struct peers *peers)
{
	return ((const struct scene *)(const void *)peers)->waiting_for_pages;
}

void registry_tell(struct registry *registry, enum registry_what what, uint32_t domid)
{
	struct scene *scene = (struct scene *)(void *)registry;

	*(what == REGISTRY_LINK_UP     ? &scene->ups
	  : what == REGISTRY_LINK_LOST ? &scene->downs
				       : &scene->anews) += 1;
}
void registry_listen(struct registry *registry, struct registry_sink *sink, registry_fn changed,
		     void *userdata)
{
	*sink = (struct registry_sink){.changed = changed, .userdata = userdata};
	((struct scene *)(void *)registry)->sink = sink;
}

void registry_leave(struct registry *registry, struct registry_sink *sink)
{
}

unsigned told_away;
void registry_set_away(struct registry *registry, uint32_t domid, bool away)
{
	told_away += away;
}

bool registry_is_up(struct registry *registry, uint32_t domid)
{
	return true;
}

void note_name(struct scene *scene, uint32_t domid)
{
	scene->sink->changed(scene->sink->userdata, REGISTRY_NAME, domid);
}

int registry_resolve(struct registry *registry, const char *domain, uint32_t *domid)
{
	const struct scene *scene = (struct scene *)(void *)registry;

	if (domid_parse(domain, strlen(domain), domid))
		return 0;
	*domid = scene->found;
	return scene->found ? 0 : -EHOSTDOWN;
}

const char *registry_name(struct registry *registry, uint32_t domid)
{
	const struct scene *scene = (struct scene *)(void *)registry;

	return scene->name ? scene->name : "";
}

const char *registry_uuid(struct registry *registry, uint32_t domid)
{
	const struct scene *scene = (struct scene *)(void *)registry;

	return scene->uuid ? scene->uuid : "";
}

bool registry_is_led_to(struct registry *registry, uint32_t domid, bool is_late)
{
	const struct scene *scene = (const struct scene *)(void *)registry;

	return scene->zero_knows == domid || (is_late && scene->zero_sees == domid);
}

bool registry_is_complete(struct registry *registry, uint32_t domid)
{
	const uint32_t told = ((const struct scene *)(const void *)registry)->zero_tells;

	return told && told == domid;
}

static int on_names(void *userdata, const uint8_t *payload, uint32_t length)
{
	struct scene *scene = userdata;

	scene->directories++;
	return scene->directory_result;
}

static void on_open(void *userdata, struct peer_id peer, struct channel *channel,
		    const struct frame_open *open)
{
	struct scene *scene = userdata;

	/* The hypervisor's word, not what the frame says. */
	assert_true(peer_is_domain(peer, scene->peer.domid));
	assert_int_equal(channel->identity.domid, scene->peer.domid);
	scene->opens++;
	channel_refuse(channel, ENOENT);
}

static int on_source(void *userdata, struct channel_end *end, const struct frame_sender *now)
{
	struct scene *scene = userdata;

	scene->sources++;
	return 0;
}

void on_pong(void *userdata, uint32_t request, int result)
{
	struct scene *scene = userdata;

	assert_int_equal(request, 77);
	scene->pong = result;
	scene->pongs++;
}

static void on_word(void *userdata, uint32_t domid)
{
	struct scene *scene = userdata;

	assert_true(domid == 7 || domid == scene->other);
	scene->words++;
}

static void on_unlinkable(void *userdata, struct peer_id peer, struct hop *hop)
{
	struct scene *scene = userdata;

	assert_true(peer_is_domain(peer, scene->peer.domid) || peer_is_domain(peer, scene->other));
	assert_int_equal(hop->channels.count, scene->waiting ? 1 : 0);
	scene->unlinkable++;
	if (scene->waiting)
		channel_forbid(scene->waiting, EACCES);
	links_explain(scene->links, peer, "why, and what follows");
}

static void on_renumbered(void *userdata, uint32_t from, uint32_t to)
{
	struct scene *scene = userdata;

	assert_int_not_equal(from, to);
	assert_int_equal(from, scene->was);
	assert_int_equal(to, scene->peer.domid);
	scene->moves++;
}

static bool on_resumed(void *userdata, struct peer_id from, struct peer_id to, struct hop *hop, uint32_t *at)
{
	struct scene *scene = userdata;

	scene->resumed_from = from.number;
	scene->resumed_to = to.number;
	scene->resumed_calls++;
	switch_spend(&scene->board, NULL, scene->resumed_cost);
	return ++*at < scene->resumed_pieces;
}

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static const struct hop_callbacks program_callbacks = {.control = no_control};

/* Those of the scene, the last one first. */
static struct vchan *vchans;

struct config links_config = {
	.heartbeat_ms = HEARTBEAT_MS,
	.dead_after_ms = DEAD_AFTER_MS,
	.idle_close_ms = IDLE_CLOSE_MS,
	.resume_for_ms = RESUME_FOR_MS,
	.relay = true,
	.ring_size = 65536,
	.max_ring_size = 1u << 20,
	.min_ring_size = 4096,
};
const struct carrier_maker *carrier_maker;
uint32_t channels_max = CHANNELS_MAX;

void start_links(struct scene *scene)
{
	const struct links_options options = {
		.registry = (void *)scene,
		.self = &scene->self,
		.config = &links_config,
		.channels_max = channels_max,
		.maker = carrier_maker,
	};

	assert_int_equal(links_new(&scene->links, &scene->board, (void *)scene, &options,
				   &(struct links_callbacks){.open = on_open,
							     .unlinkable = on_unlinkable,
							     .renumbered = on_renumbered,
							     .resumed = on_resumed,
							     .names = on_names,
							     .source = on_source,
							     .word = on_word},
				   scene),
			 0);
}

void scene_start_with(struct scene *scene, uint32_t domid)
{
	*scene = (struct scene){.is_up = true, .peer.domid = domid};
	vchans = NULL;
	scene->self = (struct self){.domid = OWN, .instance = "instance of us"};
	scene->base = event_base_new();
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	start_links(scene);
	assert_int_equal(hop_init(&scene->program, &scene->board, HOP_SHARED, &program_callbacks, scene, 1,
				  channels_max),
			 0);
}

void scene_start(struct scene *scene)
{
	scene_start_with(scene, 7);
}

void scene_stop(struct scene *scene)
{
	stop_links(scene);
	forget_program_channels(scene);
	hop_cleanup(&scene->program);
	switch_cleanup(&scene->board);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(open_vchans(), 0);
	free_closed_vchans();
	/* Every session that began has ended. */
	assert_int_equal(scene->ups, scene->downs);
	yield_takes_ms = links_config.busy_poll_us = 0;
	carrier_maker = NULL;
	channels_max = CHANNELS_MAX;
	guarded = maps = false;
}

void stop_links(struct scene *scene)
{
	links_free(scene->links);
	scene->links = NULL;
}

void set_limits(struct scene *scene, uint64_t bytes, uint64_t channels)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1000 * bytes, [QUOTA_CHANNELS] = 1000 * channels},
		.max = {[QUOTA_PEER] = {[QUOTA_BYTES] = bytes, [QUOTA_CHANNELS] = channels}},
	};

	scene->quota = scene->board.quota = quota_new(&limits);
}

void charge_to(struct charge *charge, struct scene *scene, uint32_t domid)
{
	struct account *account = quota_account(scene->quota, QUOTA_PEER, domid);

	charge_init(charge, account);
	account_unref(account);
}

uint64_t used_by(struct scene *scene, uint32_t domid, enum quota_resource resource)
{
	struct account *account = quota_account(scene->quota, QUOTA_PEER, domid);
	uint64_t used = account_usage(account, resource).used;

	account_unref(account);
	return used;
}

void settle(struct scene *scene)
{
	while (switch_is_busy(&scene->board))
		switch_pass(&scene->board);
}

/* A domain, or a host if its number is one's. */
static struct peer_id peer_of(const struct scene *scene)
{
	return scene->peer.domid < HOST_FIRST ? peer_domain(scene->peer.domid) : peer_host(scene->peer.domid);
}

struct link_info info_of(struct scene *scene)
{
	struct link_info info;

	settle(scene);
	assert_true(links_info(scene->links, peer_of(scene), &info));
	return info;
}

void expect_state(struct scene *scene, enum link_state state)
{
	assert_int_equal(info_of(scene).state, state);
}

void expect_state_of(struct scene *scene, uint32_t domid, enum link_state state)
{
	struct link_info info;

	settle(scene);
	assert_true(links_info(scene->links, peer_domain(domid), &info));
	assert_int_equal(info.state, state);
}

void expect_last_error(struct scene *scene, const char *part)
{
	const char *text = info_of(scene).last_error;

	if (!strstr(text, part))
		fail_msg("\"%s\" doesn't say \"%s\"", text, part);
}

void pass(struct scene *scene, uint64_t ms)
{
	time_passed_ms += ms;
	event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	settle(scene);
}

void pass_in_steps(struct scene *scene, uint64_t ms, uint64_t step_ms)
{
	for (uint64_t passed_ms = 0; passed_ms < ms; passed_ms += step_ms)
		pass(scene, step_ms);
}

/* --- the peer --------------------------------------------------------------------------------- */

struct vchan *make_vchan(enum vchan_state state, struct ring_writer *out, struct ring_reader *in)
{
	struct vchan *vchan = calloc(1, sizeof(*vchan));
	struct ring_view view;

	assert_non_null(vchan);
	vchan->state = state;
	view = private_ring_view(&vchan->in);
	ring_writer_init(out, &view, false);
	view = private_ring_view(&vchan->out);
	ring_reader_init(in, &view, false);
	LL_PREPEND(vchans, vchan);
	return vchan;
}

unsigned open_vchans(void)
{
	unsigned open = 0;

	for (struct vchan *vchan = vchans; vchan; vchan = vchan->next)
		open += !vchan->closed;
	return open;
}

void free_closed_vchans(void)
{
	struct vchan *vchan, *next;

	LL_FOREACH_SAFE(vchans, vchan, next)
		if (vchan->closed) {
			LL_DELETE(vchans, vchan);
			free(vchan);
		}
}

void bring_vchan(struct scene *scene)
{
	struct peer *peer = &scene->peer;
	uint32_t domid = peer->domid;
	struct carrier carrier;

	*peer = (struct peer){.domid = domid};
	peer->vchan = make_vchan(VCHAN_CONNECTED, &peer->out, &peer->in);
	peer->vchan->size = scene->next_rings;
	scene->is_connected = true;
	carrier = vchan_carrier(peer->vchan);
	links_connected(scene->links, peer_of(scene), &carrier);
}

void connect_peer(struct scene *scene)
{
	bring_vchan(scene);
	settle(scene);
}

void notify_only(struct scene *scene)
{
	struct vchan *vchan = scene->peer.vchan;

	if (vchan->event)
		vchan->event(vchan->userdata);
}

void notify(struct scene *scene)
{
	notify_only(scene);
	settle(scene);
}

void close_by_peer(struct scene *scene)
{
	scene->peer.vchan->state = VCHAN_CLOSED;
	notify(scene);
}

void lose(struct scene *scene, bool gone)
{
	links_lost(scene->links, peer_domain(scene->peer.domid), gone, "it has gone");
	settle(scene);
}

void put(struct scene *scene, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	struct peer *peer = &scene->peer;
	struct frame_header header = {.type = type,
				      .channel = channel,
				      .length = length,
				      .sequence = peer->unnumbered ? 0 : peer->sequence++};

	assert_true(ring_writer_space(&peer->out, frame_size(length)) >= (int)frame_size(length));
	frame_put(&peer->out, &header, payload);
	ring_writer_publish(&peer->out);
	peer->put += frame_size(length);
}

void say(struct scene *scene, uint8_t type, const void *payload, uint32_t length)
{
	put(scene, type, 0, payload, length);
	notify(scene);
}

void say_u64(struct scene *scene, uint8_t type, uint64_t value)
{
	uint8_t payload[8];

	say(scene, type, payload, frame_u64_encode(value, payload));
}

void say_hello(struct scene *scene, uint16_t major)
{
	struct frame_hello_link hello = {.major = major,
					 .flags = scene->peer_flags,
					 .max_message = 1u << 20,
					 .instance = "instance of it",
					 .version = {"1.2 \033[1m", 8}};
	uint8_t payload[FRAME_SMALL_MAX];

	say(scene, FRAME_HELLO, payload, frame_hello_link_encode(&hello, payload));
}

void say_hello_unheard(struct scene *scene)
{
	vchan_event_fn event = scene->peer.vchan->event;

	scene->peer.vchan->event = NULL;
	say_hello(scene, PROTOCOL_MAJOR);
	scene->peer.vchan->event = event;
}

bool hear(struct scene *scene)
{
	struct peer *peer = &scene->peer;
	uint8_t encoded[FRAME_HEADER_SIZE];

	settle(scene);
	if (ring_reader_ready(&peer->in, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
		return false;
	ring_reader_copy(&peer->in, 0, encoded, sizeof(encoded));
	assert_int_equal(frame_header_decode(encoded, &peer->header), 0);
	assert_int_equal(peer->header.sequence, peer->unnumbered ? 0 : peer->heard_sequence++);
	ring_reader_copy(&peer->in, FRAME_HEADER_SIZE, peer->payload, peer->header.length);
	ring_reader_consume(&peer->in, frame_size(peer->header.length));
	ring_reader_release(&peer->in);
	return true;
}

void expect(struct scene *scene, uint8_t type)
{
	assert_true(hear(scene));
	assert_int_equal(scene->peer.header.type, type);
}

void expect_silence(struct scene *scene)
{
	assert_false(hear(scene));
}

void greet(struct scene *scene)
{
	connect_peer(scene);
	expect_state(scene, LINK_GREETING);
	expect(scene, FRAME_HELLO);
	say_hello(scene, PROTOCOL_MAJOR);
	expect_state(scene, LINK_UP);
}

void up(struct scene *scene)
{
	scene_start(scene);
	greet(scene);
}

void up_with_domain_0(struct scene *scene)
{
	scene_start_with(scene, 0);
	greet(scene);
}

void expect_violation(struct scene *scene, uint32_t error)
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
	greet(scene);
}

struct hop *want(struct scene *scene, uint32_t domid)
{
	int error = 0;
	struct hop *hop = links_want(scene->links, peer_domain(domid), NULL, &error);

	assert_non_null(hop);
	return hop;
}

void want_in_vain(struct scene *scene, uint32_t domid, int error)
{
	int r = 0;

	assert_null(links_want(scene->links, peer_domain(domid), NULL, &r));
	assert_int_equal(r, error);
}

void ping(struct scene *scene, uint32_t domid)
{
	assert_int_equal(links_await(scene->links, peer_domain(domid), NULL, on_pong, scene, 77), 0);
}

struct channel *open_channel_to(struct scene *scene, uint32_t domid, enum channel_kind kind)
{
	struct frame_identity identity = {.domid = OWN};
	struct hop *hop = want(scene, domid);
	struct channel *channel;

	assert_int_equal(channel_new(&scene->program, 2 * scene->opened++, kind, &identity, &channel), 0);
	assert_int_equal(channel_accept(channel, hop, "inbox"), 0);
	return channel;
}

struct channel *open_channel(struct scene *scene)
{
	struct channel *channel = open_channel_to(scene, scene->peer.domid, CHANNEL_MESSAGE);

	switch_pass(&scene->board);
	return channel;
}

void accept_channel(struct scene *scene)
{
	struct frame_identity identity = {.domid = scene->peer.domid};
	struct channel *channel;

	assert_int_equal(channel_new(want(scene, scene->peer.domid), 2, CHANNEL_MESSAGE, &identity, &channel),
			 0);
	assert_int_equal(channel_accept(channel, &scene->program, "inbox"), 0);
}

void collect_failure(void *userdata, const struct link_failure *failure)
{
	struct failures *failures = userdata;

	if (failures->count++ == 0)
		failures->first = failure->peer.number;
	assert_string_equal(failure->reason, "it isn't there");
}

void forget_program_channels(struct scene *scene)
{
	hop_reset_channels(&scene->program, ENOENT);
	scene->opened = 0;
	switch_pass(&scene->board);
}

/* --- ends ------------------------------------------------------------------------------------- */

void reach(struct scene *scene, enum moment moment, bool with_channel)
{
	if (with_channel)
		open_channel(scene);
	else
		want(scene, 7);
	if (moment == RUNNING)
		greet(scene);
	else if (moment == GREETING)
		connect_peer(scene);
}
