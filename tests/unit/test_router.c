/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where addresses lead, who owns a name, and who is turned away with which error. */
#include "tests/unit/hop_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/self.h"
#include "daemon/base/quota.h"
#include "daemon/link/link.h"
#include "daemon/local/session.h"
#include "daemon/local/streams.h"
#include "daemon/local/watches.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/router.h"

#define OWN	 5
#define ANY_KIND 7u

/* The program of a party. */
struct session {
	struct party *party;
};

struct scene {
	struct rig rig;
	struct self self;
	struct router *router;
	struct party *a, *b, *link; /* two programs and a peer's daemon */
	int link_error, stream_error;
	const char *denied;	/* endpoint that nobody may reach */
	const char *undecided;	/* endpoint of which nobody can tell yet who may reach it */
	const char *taken_back; /* endpoint that was allowed and isn't any more */
	int why_taken_back;
	unsigned asked, links, streams, bound, unbound, resolved;
	char last[64]; /* name that changed last */
	unsigned advertised;
	char names[256]; /* that were advertised last */
	struct session program_a, program_b;
};

static struct scene *the_scene; /* of the running test: parties have no userdata */

/* --- whom the router asks and tells ----------------------------------------------------------- */

struct hop *session_hop(struct session *session)
{
	return &session->party->hop;
}

struct hop *links_want(struct links *links, uint32_t domid, struct account *account, int *error)
{
	struct scene *scene = (struct scene *)(void *)links;

	assert_int_equal(domid, 7);
	scene->links++;
	*error = scene->link_error;
	return scene->link_error ? NULL : &scene->link->hop;
}

int directory_resolve(struct directory *directory, const char *domain, uint32_t *domid)
{
	struct scene *scene = (struct scene *)(void *)directory;

	scene->resolved++;
	*domid = strcmp(domain, "work") == 0 ? 7 : OWN;
	return strcmp(domain, "work") == 0 || strcmp(domain, "home") == 0 ? 0 : -EHOSTDOWN;
}

const char *directory_name(struct directory *directory, uint32_t domid)
{
	return "";
}

int access_reach(struct access *access, const struct frame_identity *from, const char *endpoint)
{
	struct scene *scene = (struct scene *)(void *)access;

	scene->asked++;
	if (scene->undecided && strcmp(endpoint, scene->undecided) == 0)
		return -ENODATA;
	return scene->denied && strcmp(endpoint, scene->denied) == 0 ? -EACCES : 0;
}

int access_still_allowed(struct access *access, const struct frame_identity *from, const char *endpoint)
{
	struct scene *scene = (struct scene *)(void *)access;

	return scene->taken_back && strcmp(endpoint, scene->taken_back) == 0 ? -scene->why_taken_back : 0;
}

int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint,
		     struct session *session)
{
	struct scene *scene = (struct scene *)(void *)streams;

	scene->streams++;
	assert_int_equal(channel->kind, CHANNEL_STREAM);
	if (scene->stream_error)
		return scene->stream_error;
	return channel_accept(channel, session_hop(session), endpoint);
}

void streams_each_waiting(struct streams *streams, const struct session *session,
			  void (*each)(void *userdata, struct stream *stream), void *userdata)
{
}

void watches_endpoint(struct watches *watches, uint32_t domid, const char *name, bool up)
{
	struct scene *scene = (struct scene *)(void *)watches;

	*(up ? &scene->bound : &scene->unbound) += 1;
	snprintf(scene->last, sizeof(scene->last), "%s", name);
}

void peers_advertise(struct peers *peers, const char *const *names, unsigned count)
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

static int open_by_program(struct party *party, struct channel *channel, const struct frame_open *open)
{
	router_open_address(the_scene->router, channel, open->name);
	return 0;
}

static int open_by_peer(struct party *party, struct channel *channel, const struct frame_open *open)
{
	router_open_endpoint(the_scene->router, channel, open->name);
	return 0;
}

static void scene_start(struct scene *scene)
{
	struct router_collaborators collaborators = {
		.self = &scene->self,
		.turns = &scene->rig.relay[0].turns,
		.access = (void *)scene,
		.directory = (void *)scene,
		.peers = (void *)scene,
		.links = (void *)scene,
		.streams = (void *)scene,
		.watches = (void *)scene,
	};
	struct rig_options program = {.kind = HOP_SHARED, .ring = 65536, .parity = 1, .channels_max = 4};
	struct rig_options peer = {.kind = HOP_LINK, .ring = 65536, .parity = 0};

	*scene = (struct scene){.self.domid = OWN};
	the_scene = scene;
	rig_start(&scene->rig, 1);
	assert_int_equal(router_new(&scene->router, &collaborators), 0);
	scene->a = party_new(&scene->rig, &program);
	scene->b = party_new(&scene->rig, &program);
	scene->link = party_new(&scene->rig, &peer);
	scene->program_a.party = scene->a;
	scene->program_b.party = scene->b;
	scene->a->open = scene->b->open = open_by_program;
	scene->link->open = open_by_peer;
}

static void scene_stop(struct scene *scene)
{
	router_free(scene->router);
	rig_stop(&scene->rig);
}

static struct session *session_of(struct scene *scene, const struct party *party)
{
	return party == scene->a ? &scene->program_a : &scene->program_b;
}

static int bind_name(struct scene *scene, struct party *party, const char *name, uint32_t kinds)
{
	return router_bind(scene->router, session_of(scene, party), (struct frame_text){name, strlen(name)},
			   kinds);
}

static int unbind_name(struct scene *scene, struct party *party, const char *name)
{
	return router_unbind(scene->router, session_of(scene, party),
			     (struct frame_text){name, strlen(name)});
}

static void open_kind(struct party *party, uint32_t number, enum channel_kind kind, const char *name,
		      size_t size)
{
	struct frame_open open = {.kind = (uint8_t)kind, .name = {name, size}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	party_put(party, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
}

/* The channel that was opened with this number is refused, and that is said with this error. */
static void expect_refusal(struct party *party, uint32_t number, uint32_t error)
{
	static struct party_frame frame;
	struct frame_reset reset;

	assert_true(party_expect(party, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
	assert_int_equal(reset.unsure, 0);
	party_reset(party, number, 0, 0, 0);
	rig_settle(party->rig);
	assert_false(party->failed);
}

static void refused(struct scene *scene, const char *address, uint32_t error)
{
	open_kind(scene->a, 0, CHANNEL_MESSAGE, address, strlen(address));
	expect_refusal(scene->a, 0, error);
	assert_int_equal(scene->a->hop.channels.count, 0);
}

/* The party gets an OPEN for this endpoint. */
static uint32_t expect_open(struct party *party, const char *name)
{
	static struct party_frame frame;
	struct frame_open open;

	assert_true(party_expect(party, FRAME_OPEN, &frame));
	assert_int_equal(frame_open_decode(frame.payload, frame.header.length, &open), 0);
	frame_text_split(&open.name, &open.domain_name);
	assert_int_equal(open.name.size, strlen(name));
	assert_memory_equal(open.name.data, name, strlen(name));
	return frame.header.channel;
}

/* --- names ------------------------------------------------------------------------------------ */

static void name_has_one_owner_at_a_time(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.a, "inbox", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), -EEXIST);
	assert_int_equal(bind_name(&scene, scene.a, "inbox", ANY_KIND), -EEXIST);
	assert_int_equal(unbind_name(&scene, scene.b, "inbox"), -ENOENT);
	assert_int_equal(unbind_name(&scene, scene.a, "other"), -ENOENT);
	assert_int_equal(router_endpoints(scene.router), 1);
	assert_int_equal(scene.bound, 1);
	assert_int_equal(scene.unbound, 0);
	assert_int_equal(unbind_name(&scene, scene.a, "inbox"), 0);
	assert_int_equal(scene.unbound, 1);
	assert_string_equal(scene.last, "inbox");
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	scene_stop(&scene);
}

static void what_is_no_name_cannot_be_bound(void **state)
{
	static const char *const bad[] = {"",
					  "no/name",
					  "no name",
					  "-x",
					  "a:b",
					  "\xc3\xa4",
					  "1234567890123456789012345678901234567890123456789012345678901234"};
	struct scene scene;

	scene_start(&scene);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(bind_name(&scene, scene.a, bad[i], ANY_KIND), -EINVAL);
	assert_int_equal(bind_name(&scene, scene.a, "inbox", 0), -EINVAL); /* for nothing */
	assert_int_equal(bind_name(&scene, scene.a, bad[6] + 1, ANY_KIND), 0);
	assert_int_equal(scene.bound, 1);
	scene_stop(&scene);
}

static void names_go_with_their_program(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.a, "one", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "two", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.a, "three", ANY_KIND), 0);
	router_unbind_all(scene.router, &scene.program_a);
	assert_int_equal(scene.unbound, 2);
	assert_int_equal(router_endpoints(scene.router), 1);
	refused(&scene, "5:one", ENOENT);
	open_kind(scene.a, 0, CHANNEL_MESSAGE, "5:two", 5);
	expect_open(scene.b, "two");
	scene_stop(&scene);
}

static void names_are_listed_in_order(void **state)
{
	static const char *const names[] = {"print", "a", "inbox", "printer", "Z", "b-1"};
	char list[256] = "";
	const struct endpoint *endpoint;
	struct scene scene;

	scene_start(&scene);
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_int_equal(bind_name(&scene, i & 1 ? scene.a : scene.b, names[i], ANY_KIND), 0);
	for (endpoint = router_next(scene.router, ""); endpoint;
	     endpoint = router_next(scene.router, endpoint->name))
		strcat(strcat(list, endpoint->name), " ");
	assert_string_equal(list, "Z a b-1 inbox print printer ");
	scene_stop(&scene);
}

static void walk_over_names_goes_on_where_one_has_gone(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	const struct endpoint *endpoint;
	char at[ENDPOINT_NAME_MAX + 1] = "";
	struct scene scene;

	scene_start(&scene);
	assert_null(router_next(scene.router, ""));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(bind_name(&scene, scene.a, names[i], ANY_KIND), 0);
	for (unsigned i = 0; i < 4; i++) {
		endpoint = router_next(scene.router, at);
		assert_non_null(endpoint);
		assert_string_equal(endpoint->name, names[i]);
		assert_ptr_equal(router_find(scene.router, names[i]), endpoint);
		strcpy(at, names[i]);
		if (i & 1)
			assert_int_equal(unbind_name(&scene, scene.a, names[i]), 0);
	}
	assert_null(router_next(scene.router, at));
	assert_null(router_find(scene.router, at));
	scene_stop(&scene);
}

/* However many come and go in a turn of the loop. */
static void other_domains_are_told_of_all_names_at_once(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.a, "one", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "two", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.a, "three", ANY_KIND), 0);
	assert_int_equal(unbind_name(&scene, scene.a, "one"), 0);
	assert_int_equal(scene.advertised, 0);
	rig_settle(&scene.rig);
	assert_int_equal(scene.advertised, 1);
	assert_string_equal(scene.names, "three two ");
	router_unbind_all(scene.router, &scene.program_b);
	rig_settle(&scene.rig);
	assert_int_equal(scene.advertised, 2);
	assert_string_equal(scene.names, "three ");
	scene_stop(&scene);
}

static void no_account(void *userdata, const struct account *account)
{
	fail_msg("the account of %u is still held", account_id(account));
}

static void endpoint_is_paid_for_until_it_goes(void **state)
{
	struct quota_limits limits = {.pool[QUOTA_ENDPOINTS] = 100, .max[QUOTA_UID][QUOTA_ENDPOINTS] = 2};
	struct quota *quota = quota_new(&limits);
	struct scene scene;

	assert_non_null(quota);
	scene_start(&scene);
	hop_set_account(&scene.a->hop, quota_account(quota, QUOTA_UID, 1000));
	assert_int_equal(bind_name(&scene, scene.a, "one", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.a, "two", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.a, "three", ANY_KIND), -ENOBUFS);
	assert_int_equal(bind_name(&scene, scene.a, "two", ANY_KIND), -EEXIST); /* which costs nothing */
	assert_int_equal(account_usage(scene.a->hop.account, QUOTA_ENDPOINTS).used, 2);
	assert_int_equal(unbind_name(&scene, scene.a, "one"), 0);
	assert_int_equal(bind_name(&scene, scene.a, "three", ANY_KIND), 0);
	router_unbind_all(scene.router, &scene.program_a);
	assert_int_equal(account_usage(scene.a->hop.account, QUOTA_ENDPOINTS).used, 0);
	assert_int_equal(bind_name(&scene, scene.a, "left", ANY_KIND), 0);
	scene_stop(&scene);
	quota_each(quota, no_account, NULL);
	quota_free(quota);
}

/* --- addresses -------------------------------------------------------------------------------- */

static void address_of_this_domain_leads_to_the_program_here(void **state)
{
	static const char *const addresses[] = {"5:inbox", "self:inbox", "home:inbox"};
	struct scene scene;

	for (unsigned i = 0; i < 3; i++) {
		scene_start(&scene);
		assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
		open_kind(scene.a, 0, CHANNEL_MESSAGE, addresses[i], strlen(addresses[i]));
		expect_open(scene.b, "inbox");
		assert_int_equal(scene.links, 0);
		assert_int_equal(scene.resolved, i == 2);
		scene_stop(&scene);
	}
}

static void address_of_another_domain_leads_to_its_link(void **state)
{
	static const char *const addresses[] = {"7:inbox", "work:inbox"};
	struct scene scene;

	for (unsigned i = 0; i < 2; i++) {
		scene_start(&scene);
		/* ours is none of its business, */
		assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
		scene.denied = "inbox"; /* nor is our policy */
		open_kind(scene.a, 0, CHANNEL_MESSAGE, addresses[i], strlen(addresses[i]));
		expect_open(scene.link, "inbox");
		assert_int_equal(scene.links, 1);
		assert_int_equal(scene.b->hop.channels.count, 0);
		scene_stop(&scene);
	}
}

static void address_that_leads_nowhere_says_why(void **state)
{
	struct scene scene;

	scene_start(&scene);
	refused(&scene, "", EINVAL);
	refused(&scene, "inbox", EINVAL);
	refused(&scene, "5:", EINVAL);
	refused(&scene, ":inbox", EINVAL);
	refused(&scene, "5:in:box", EINVAL);
	refused(&scene, "5:in box", EINVAL);
	refused(&scene, "nobody:inbox", EHOSTDOWN);
	refused(&scene, "5:inbox", ENOENT);
	scene.link_error = -EHOSTUNREACH;
	refused(&scene, "7:inbox", EHOSTUNREACH);
	scene.link_error = -EHOSTDOWN;
	refused(&scene, "7:inbox", EHOSTDOWN);
	scene_stop(&scene);
}

static void number_of_this_domain_may_change(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	scene.self.domid = 7;
	open_kind(scene.a, 0, CHANNEL_MESSAGE, "7:inbox", 7);
	expect_open(scene.b, "inbox");
	open_kind(scene.a, 2, CHANNEL_MESSAGE, "self:inbox", 10);
	expect_open(scene.b, "inbox");
	assert_int_equal(scene.links, 0);
	scene_stop(&scene);
}

/* --- who may, and for what -------------------------------------------------------------------- */

static void who_may_not_reach_it_does_not_learn_whether_it_exists(void **state)
{
	struct scene scene;

	for (int exists = 0; exists < 2; exists++) {
		scene_start(&scene);
		scene.denied = "secret";
		if (exists)
			assert_int_equal(bind_name(&scene, scene.b, "secret", 1), 0);
		refused(&scene, "5:secret", EACCES);
		/* Nor by the kind that it is for. */
		open_kind(scene.link, 1, CHANNEL_CALL, "secret", 6);
		expect_refusal(scene.link, 1, EACCES);
		assert_int_equal(scene.asked, 2);
		scene_stop(&scene);
	}
}

static void peer_reaches_endpoints_and_nothing_else(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene.b, "inbox");
	assert_int_equal(scene.asked, 1);
	/* No addresses: that would have us relay; and nothing that couldn't have been bound. */
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "5:inbox", 7);
	expect_refusal(scene.link, 3, ENOENT);
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "inbox\0", 6);
	expect_refusal(scene.link, 3, ENOENT);
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "", 0);
	expect_refusal(scene.link, 3, ENOENT);
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "inbo", 4);
	expect_refusal(scene.link, 3, ENOENT);
	assert_int_equal(scene.asked, 2); /* policy is asked about names only */
	assert_int_equal(scene.links, 0);
	scene_stop(&scene);
}

static void endpoint_takes_only_the_kinds_it_is_for(void **state)
{
	struct scene scene;

	for (uint32_t bound = 0; bound < 3; bound++) {
		scene_start(&scene);
		assert_int_equal(bind_name(&scene, scene.b, "inbox", 1u << bound), 0);
		for (uint32_t kind = 0; kind < 3; kind++) {
			open_kind(scene.link, 1 + 2 * kind, kind + 1, "inbox", 5);
			if (kind == bound)
				expect_open(scene.b, "inbox");
			else
				expect_refusal(scene.link, 1 + 2 * kind, EPROTOTYPE);
		}
		assert_int_equal(scene.streams, bound == 2);
		scene_stop(&scene);
	}
}

static void program_that_cannot_take_more_refuses_with_the_reason(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	for (uint32_t i = 0; i < 4; i++) {
		open_kind(scene.link, 1 + 2 * i, CHANNEL_MESSAGE, "inbox", 5);
		expect_open(scene.b, "inbox");
	}
	open_kind(scene.link, 9, CHANNEL_MESSAGE, "inbox", 5);
	expect_refusal(scene.link, 9, ENOBUFS);
	scene.stream_error = -ENOBUFS;
	open_kind(scene.link, 9, CHANNEL_STREAM, "inbox", 5);
	expect_refusal(scene.link, 9, ENOBUFS);
	scene.stream_error = -ENOMEM; /* no error that the protocol knows */
	open_kind(scene.link, 9, CHANNEL_STREAM, "inbox", 5);
	expect_refusal(scene.link, 9, ENOBUFS);
	scene_stop(&scene);
}

static void what_the_rules_forbid_from_now_on_ends_for_both(void **state)
{
	static struct party_frame frame;
	struct frame_reset reset;
	struct scene scene;
	uint32_t number;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "open", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "secret", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "open", 4);
	expect_open(scene.b, "open");
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "secret", 6);
	number = expect_open(scene.b, "secret");
	/* What the program has opened itself is no matter of our rules. */
	open_kind(scene.b, 0, CHANNEL_MESSAGE, "7:secret", 8);
	expect_open(scene.link, "secret");
	router_recheck_hop(scene.router, &scene.b->hop);
	rig_settle(&scene.rig);
	assert_int_equal(scene.b->hop.channels.count, 3);
	/* It may have outlived the endpoint's name. */
	router_unbind_all(scene.router, &scene.program_b);
	scene.taken_back = "secret";
	scene.why_taken_back = EACCES;
	router_recheck_hop(scene.router, &scene.b->hop);
	relay_pass(&scene.rig.relay[0]);
	expect_refusal(scene.link, 3, EACCES);
	assert_true(party_expect(scene.b, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, EACCES);
	party_reset(scene.b, number, 0, 0, 0);
	rig_settle(&scene.rig);
	assert_int_equal(scene.b->hop.channels.count, 2);
	assert_int_equal(scene.link->hop.channels.count, 2);
	scene_stop(&scene);
}

static void what_is_not_decided_any_more_ends_with_that_error(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene.b, "inbox");
	scene.taken_back = "inbox";
	scene.why_taken_back = ENODATA;
	router_recheck_hop(scene.router, &scene.b->hop);
	relay_pass(&scene.rig.relay[0]);
	expect_refusal(scene.link, 1, ENODATA);
	scene_stop(&scene);
}

static void what_is_not_decided_yet_says_so_and_nothing_else(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	scene.undecided = "inbox";
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_refusal(scene.link, 1, ENODATA);
	scene.undecided = "none";
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "none", 4);
	expect_refusal(scene.link, 1, ENODATA);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene.b, "inbox");
	scene_stop(&scene);
}

/* The program was to reset them, and didn't. */
static void channels_of_an_unbound_endpoint_end(void **state)
{
	static struct party_frame frame;
	struct frame_reset reset;
	struct scene scene;
	uint32_t number;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "kept", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "kept", 4);
	expect_open(scene.b, "kept");
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "inbox", 5);
	number = expect_open(scene.b, "inbox");
	open_kind(scene.b, 0, CHANNEL_MESSAGE, "7:inbox", 7); /* one of another domain */
	expect_open(scene.link, "inbox");
	assert_int_equal(unbind_name(&scene, scene.b, "inbox"), 0);
	relay_pass(&scene.rig.relay[0]);
	expect_refusal(scene.link, 3, ENOENT);
	assert_true(party_expect(scene.b, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, ENOENT);
	party_reset(scene.b, number, 0, 0, 0);
	rig_settle(&scene.rig);
	assert_int_equal(scene.b->hop.channels.count, 2);
	assert_int_equal(scene.link->hop.channels.count, 2);
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(name_has_one_owner_at_a_time),
		cmocka_unit_test(what_is_no_name_cannot_be_bound),
		cmocka_unit_test(names_go_with_their_program),
		cmocka_unit_test(names_are_listed_in_order),
		cmocka_unit_test(walk_over_names_goes_on_where_one_has_gone),
		cmocka_unit_test(other_domains_are_told_of_all_names_at_once),
		cmocka_unit_test(endpoint_is_paid_for_until_it_goes),
		cmocka_unit_test(address_of_this_domain_leads_to_the_program_here),
		cmocka_unit_test(address_of_another_domain_leads_to_its_link),
		cmocka_unit_test(address_that_leads_nowhere_says_why),
		cmocka_unit_test(number_of_this_domain_may_change),
		cmocka_unit_test(who_may_not_reach_it_does_not_learn_whether_it_exists),
		cmocka_unit_test(peer_reaches_endpoints_and_nothing_else),
		cmocka_unit_test(endpoint_takes_only_the_kinds_it_is_for),
		cmocka_unit_test(program_that_cannot_take_more_refuses_with_the_reason),
		cmocka_unit_test(what_the_rules_forbid_from_now_on_ends_for_both),
		cmocka_unit_test(what_is_not_decided_any_more_ends_with_that_error),
		cmocka_unit_test(what_is_not_decided_yet_says_so_and_nothing_else),
		cmocka_unit_test(channels_of_an_unbound_endpoint_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
