/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/router_rig.h"

#include "daemon/serve/questions.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "daemon/local/session.h"
#include "daemon/local/streams.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/serve/router.h"

#define OWN 5

static struct scene *the_scene; /* of the running test: parties have no userdata */

/* --- whom the router asks and tells ----------------------------------------------------------- */

void registry_listen(struct registry *registry, struct registry_sink *sink, registry_fn changed,
		     void *userdata)
{
}

void registry_leave(struct registry *registry, struct registry_sink *sink)
{
}

const char *registry_uuid(struct registry *registry, uint32_t domid)
{
	return NULL;
}

bool registry_is_complete(struct registry *registry, uint32_t domid)
{
	return true;
}

bool registry_is_up(struct registry *registry, uint32_t domid)
{
	return true;
}

bool registry_is_led_to(struct registry *registry, uint32_t domid, bool is_late)
{
	return true;
}

int session_reply(struct hop *program, uint32_t request, int error, const void *body, size_t size)
{
	return 0;
}

void session_cut_off(struct hop *program, int error, const char *why)
{
}

int questions_accept(struct questions *questions, struct channel *channel)
{
	return -EACCES;
}

struct hop *links_want(struct links *links, struct peer_id peer, struct account *account, int *error)
{
	struct scene *scene = (struct scene *)(void *)links;

	assert_int_equal(peer.number, 7);
	scene->links++;
	*error = scene->link_error;
	return scene->link_error ? NULL : &scene->link->hop;
}

int relay_follow(struct relay *relay, struct channel *channel, uint32_t to)
{
	return -((struct scene *)(void *)relay)->why_taken_back;
}

int relay_follow_source(struct relay *relay, struct channel *channel)
{
	return -((struct scene *)(void *)relay)->why_taken_back;
}

int relay_still_allowed(struct relay *relay, const struct channel *channel)
{
	return 0;
}

int relay_take_source(struct relay *relay, struct channel *channel, const struct frame_sender *now)
{
	channel->identity.domid = now->domid;
	return 0;
}

int relay_lead(struct relay *relay, struct channel *channel, uint32_t domid, const char *endpoint)
{
	struct scene *scene = (struct scene *)(void *)relay;

	assert_int_equal(domid, 7);
	scene->relayed++;
	return scene->relay_error ? scene->relay_error
				  : channel_accept(channel, &scene->link->hop, "7:inbox");
}

bool relay_zero_knows(const struct relay *relay, struct peer_id peer)
{
	return false;
}

int relay_lead_out(struct relay *relay, struct channel *channel, const struct address *address)
{
	return -EHOSTDOWN;
}

int registry_resolve(struct registry *registry, const char *domain, uint32_t *domid)
{
	struct scene *scene = (struct scene *)(void *)registry;

	if (domid_parse(domain, strlen(domain), domid))
		return 0;
	scene->resolved++;
	*domid = strcmp(domain, "work") == 0 ? 7 : OWN;
	return strcmp(domain, "work") == 0 || strcmp(domain, "home") == 0 ? 0 : -EHOSTDOWN;
}

int links_resolve(struct links *links, const char *domain, struct peer_id *peer)
{
	uint32_t domid;
	int r = registry_resolve((struct registry *)(void *)links, domain, &domid);

	*peer = peer_domain(domid);
	return r;
}

const char *registry_name(struct registry *registry, uint32_t domid)
{
	return "";
}

uint64_t access_cost(const struct access *access)
{
	return ((const struct scene *)(const void *)access)->cost;
}

int access_reach(struct access *access, struct access_sender from, const char *endpoint)
{
	struct scene *scene = (struct scene *)(void *)access;

	scene->asked++;
	if (scene->undecided && strcmp(endpoint, scene->undecided) == 0)
		return -ENODATA;
	return scene->denied && strcmp(endpoint, scene->denied) == 0 ? -EACCES : 0;
}

int access_still_allowed(struct access *access, struct access_sender from, const char *endpoint)
{
	struct scene *scene = (struct scene *)(void *)access;

	scene->asked_about = from.domid;
	return scene->taken_back && strcmp(endpoint, scene->taken_back) == 0 ? -scene->why_taken_back : 0;
}

int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint,
		     struct hop *program)
{
	struct scene *scene = (struct scene *)(void *)streams;

	scene->streams++;
	assert_int_equal(channel->kind, CHANNEL_STREAM);
	if (scene->stream_error)
		return scene->stream_error;
	return channel_accept(channel, program, endpoint);
}

bool streams_each_waiting(struct streams *streams, const struct hop *program,
			  bool (*each)(void *userdata, struct stream *stream), void *userdata)
{
	return false;
}

bool streams_pass_on(struct streams *streams, struct hop *program, const struct frame_text *name,
		     struct hop *(*to)(void *userdata, const struct hop *from, const char *name),
		     void *userdata)
{
	return false;
}

void registry_set_endpoint(struct registry *registry, uint32_t domid, const char *name, bool up)
{
	struct scene *scene = (struct scene *)(void *)registry;

	*(up ? &scene->bound : &scene->unbound) += 1;
	snprintf(scene->last, sizeof(scene->last), "%s", name);
}

void peers_advertise(struct peers *peers, const char *const *names, const uint8_t *kinds, unsigned count)
{
	struct scene *scene = (struct scene *)(void *)peers;

	scene->advertised++;
	scene->names[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		strcat(scene->names, names[i]);
		strcat(scene->names, " ");
	}
}

/* --- the scene -------------------------------------------------------------------------------- */

static int open_by_program(struct participant *participant, struct channel *channel,
			   const struct frame_open *open)
{
	channel->identity.domid = OWN;
	router_open_address(the_scene->router, channel, open->name);
	return 0;
}

static int open_by_peer(struct participant *participant, struct channel *channel,
			const struct frame_open *open)
{
	router_open_endpoint(the_scene->router, channel, open->name);
	return 0;
}

void scene_start(struct scene *scene)
{
	struct router_collaborators collaborators = {
		.self = &scene->self,
		.turns = &scene->rig.board[0].turns,
		.access = (void *)scene,
		.registry = (void *)scene,
		.peers = (void *)scene,
		.links = (void *)scene,
		.relay = (void *)scene,
		.streams = (void *)scene,
	};
	struct rig_options program = {.kind = HOP_SHARED, .ring = 65536, .parity = 1, .channels_max = 4};
	struct rig_options peer = {.kind = HOP_LINK, .ring = 65536, .parity = 0};

	*scene = (struct scene){.self.domid = OWN};
	the_scene = scene;
	rig_start(&scene->rig, 1);
	assert_int_equal(router_new(&scene->router, &collaborators), 0);
	scene->rig.board[0].pass_on = router_pass_on;
	scene->rig.board[0].pass_on_userdata = scene->router;
	scene->a = participant_new(&scene->rig, &program);
	scene->b = participant_new(&scene->rig, &program);
	scene->link = participant_new(&scene->rig, &peer);
	scene->a->open = scene->b->open = open_by_program;
	scene->link->open = open_by_peer;
}

void scene_stop(struct scene *scene)
{
	router_free(scene->router);
	rig_stop(&scene->rig);
}

int bind_name(struct scene *scene, struct participant *participant, const char *name, uint32_t kinds)
{
	return router_bind(scene->router, &participant->hop, (struct frame_text){name, strlen(name)}, kinds,
			   NULL, false);
}

int unbind_name(struct scene *scene, struct participant *participant, const char *name)
{
	int r = router_unbind(scene->router, &participant->hop, frame_text_of(name), false);
	uint32_t at = 0;

	while (r == 0 && router_end_channels(scene->router, &participant->hop, frame_text_of(name), &at))
		;
	return r;
}

void open_kind(struct participant *participant, uint32_t number, enum channel_kind kind, const char *name,
	       size_t size)
{
	struct frame_open open = {.kind = (uint8_t)kind, .name = {name, size}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	participant_put(participant, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
}

void refused(struct scene *scene, const char *address, uint32_t error)
{
	open_kind(scene->a, 0, CHANNEL_MESSAGE, address, strlen(address));
	participant_expect_refusal(scene->a, 0, error);
	assert_int_equal(scene->a->hop.channels.count, 0);
}

uint32_t expect_open(struct participant *participant, const char *name)
{
	static struct participant_frame frame;
	struct frame_open open;

	assert_true(participant_expect(participant, FRAME_OPEN, &frame));
	assert_int_equal(frame_open_decode(frame.payload, frame.header.length, &open), 0);
	frame_open_split(&open);
	assert_int_equal(open.name.size, strlen(name));
	assert_memory_equal(open.name.data, name, strlen(name));
	return frame.header.channel;
}
