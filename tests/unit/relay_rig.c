/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/relay_rig.h"

#include "daemon/registry/registry.h"
#include "daemon/link/relay_internal.h"
#include "daemon/policy/access.h"
#include "wire/ut.h"

struct scene *the_scene;

struct hop *links_want(struct links *links, struct peer_id peer, struct account *account, int *error)
{
	*error = the_scene->want_error;
	assert_in_range(peer.number, 0, LINKS - 1);
	assert_int_not_equal(peer.number, the_scene->self.domid);
	return *error ? NULL : &the_scene->link[peer.number]->hop;
}

struct peer_id links_meant(struct links *links, uint32_t domid)
{
	return peer_domain(domid);
}

bool links_zero_knows(struct links *links, struct peer_id peer)
{
	return false;
}

int links_relays(const struct links *links, struct peer_id peer)
{
	return the_scene->relays;
}

bool links_are_up(const struct links *links, struct peer_id peer)
{
	return false;
}

int links_await(struct links *links, struct peer_id peer, struct account *account, await_fn done,
		void *userdata, uint32_t request)
{
	the_scene->awaits++;
	the_scene->pinger = userdata;
	the_scene->done = done;
	the_scene->request = request;
	return 0;
}

void links_await_cancel(struct links *links, const void *userdata)
{
}

bool links_are_forbidden(const struct links *links, uint32_t domid)
{
	return the_scene->forbidden;
}

void links_explain(struct links *links, struct peer_id peer, const char *reason)
{
	assert_int_equal(peer.number, 2);
	snprintf(the_scene->explained, sizeof(the_scene->explained), "%s", reason);
}

uint64_t access_cost(const struct access *access)
{
	return 0;
}

int access_relay(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	char expected[80];

	snprintf(expected, sizeof(expected), "%u:inbox", to);
	assert_memory_equal(address, expected, strlen(expected));
	return the_scene->denied;
}

int access_still_relayed(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	assert_true(from.domid == 1 || from.domid == the_scene->moved_to);
	assert_int_equal(to, the_scene->moved_destination ? the_scene->moved_destination : 2);
	return the_scene->taken_back;
}

int access_out(struct access *access, const struct frame_identity *from, const char *host,
	       const char *address)
{
	return -EACCES;
}

int access_still_out(struct access *access, const struct frame_identity *from, const char *host)
{
	return -EACCES;
}

int links_resolve(struct links *links, const char *domain, struct peer_id *peer)
{
	return -EHOSTDOWN;
}

const char *registry_name(struct registry *registry, uint32_t domid)
{
	return "";
}

/* --- the scene -------------------------------------------------------------------------------- */

static void on_open(void *userdata, struct channel *channel, struct frame_text endpoint)
{
	struct scene *scene = userdata;

	scene->came = channel->identity;
	snprintf(scene->endpoint, sizeof(scene->endpoint), "%.*s", (int)endpoint.size, endpoint.data);
	assert_int_equal(channel_accept(channel, &scene->program->hop, scene->endpoint), 0);
}

/* As the link does: the hypervisor's word for who it is. */
static int open_by_peer(struct participant *participant, struct channel *channel,
			const struct frame_open *open)
{
	uint32_t domid = 0;

	while (the_scene->link[domid] != participant)
		domid++;
	channel->identity.domid = domid;
	assert_true(relay_has_opened(open) || relay_is_remote(open));
	relay_open(the_scene->relay, peer_domain(domid), channel, open);
	return 0;
}

static int open_by_program(struct participant *participant, struct channel *channel,
			   const struct frame_open *open)
{
	int r;

	channel->identity = (struct frame_identity){the_scene->self.domid, 1000, 100, 42};
	r = relay_lead(the_scene->relay, channel, 2, "inbox");
	if (r < 0)
		channel_refuse(channel, -r);
	return 0;
}

static void scene_start(struct scene *scene, uint32_t domid, bool enabled)
{
	struct relay_collaborators collaborators = {.self = &scene->self, .board = &scene->rig.board[0]};
	const struct hosts_options options = {.self = &scene->self};
	static const struct hosts_callbacks callbacks;
	struct rig_options program = {.kind = HOP_SHARED, .ring = 65536, .parity = 1, .channels_max = 64};
	struct rig_options peer = {.kind = HOP_LINK, .ring = 65536, .parity = 0};

	*scene = (struct scene){.self.domid = domid, .relays = 1};
	the_scene = scene;
	rig_start(&scene->rig, 1);
	assert_int_equal(hosts_new(&scene->hosts, &scene->rig.board[0], &options, &callbacks, scene), 0);
	collaborators.hosts = scene->hosts;
	assert_int_equal(relay_new(&scene->relay, &collaborators, enabled, on_open, scene), 0);
	relay_set_links(scene->relay, (void *)scene);
	scene->program = participant_new(&scene->rig, &program);
	scene->program->open = open_by_program;
	for (unsigned i = 0; i < LINKS; i++) {
		if (i == domid)
			continue;
		scene->link[i] = participant_new(&scene->rig, &peer);
		scene->link[i]->open = open_by_peer;
	}
}

void start_in_domain_0(struct scene *scene)
{
	scene_start(scene, 0, true);
}

void start_in_domain_1(struct scene *scene)
{
	scene_start(scene, 1, true);
}

void start_in_domain_0_disabled(struct scene *scene)
{
	scene_start(scene, 0, false);
}

void start_in_domain_1_disabled(struct scene *scene)
{
	scene_start(scene, 1, false);
}

void scene_stop(struct scene *scene)
{
	relay_free(scene->relay);
	hosts_free(scene->hosts);
	rig_stop(&scene->rig);
}

void tell_asked(struct scene *scene, int result)
{
	scene->done(scene->pinger, scene->request, result);
	rig_settle(&scene->rig);
}

void recheck(struct scene *scene)
{
	struct channel *channel, *next;

	DL_FOREACH_SAFE(scene->rig.board[0].channels, channel, next)
		if (channel->acceptor.hop)
			relay_recheck(scene->relay, channel);
	rig_settle(&scene->rig);
}

static void open_from(struct participant *participant, uint32_t number, const char *host, uint32_t domid,
		      const char *name)
{
	struct frame_open open = {.kind = CHANNEL_MESSAGE,
				  .identity = {domid, 1000, 100, 42},
				  .name = {name, strlen(name)},
				  .host = {host, strlen(host)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	participant_put(participant, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
	rig_settle(participant->rig);
}

void open_as(struct participant *participant, uint32_t number, uint32_t domid, const char *name)
{
	open_from(participant, number, "", domid, name);
}

void open_from_remote(struct participant *participant, uint32_t number, uint32_t domid, const char *name)
{
	open_from(participant, number, "hostb", domid, name);
}

void expect_open(struct participant *participant, const char *name, uint32_t domid)
{
	static struct participant_frame frame;
	struct frame_open open;

	assert_true(participant_expect(participant, FRAME_OPEN, &frame));
	assert_int_equal(frame_open_decode(frame.payload, frame.header.length, &open), 0);
	frame_open_split(&open);
	assert_int_equal(open.name.size, strlen(name));
	assert_memory_equal(open.name.data, name, strlen(name));
	assert_int_equal(open.identity.domid, domid);
	assert_int_equal(open.identity.uid, 1000);
	assert_int_equal(open.identity.pid, 42);
}

void expect_refusal(struct participant *participant, uint32_t number, uint32_t error)
{
	participant_expect_refusal(participant, number, error);
	assert_int_equal(participant->hop.channels.count, 0);
}

void refused_to(struct scene *scene, struct participant *participant, uint32_t domid, const char *name,
		uint32_t error)
{
	open_as(participant, 1, domid, name);
	expect_refusal(participant, 1, error);
	for (unsigned i = 0; i < LINKS; i++)
		assert_true(!scene->link[i] || !scene->link[i]->hop.channels.count);
	assert_int_equal(scene->program->hop.channels.count, 0);
}
