/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/router_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/activation/activation.h"
#include "base/self.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "daemon/hosts/hosts.h"
#include "daemon/local/session.h"
#include "daemon/local/streams.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/serve/questions.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/sharing.h"
#include "daemon/topic/topics.h"
#include "wire/ut.h"

#define COST_ADVERTISE	    20u /* units (turns.h) */
#define COST_ADVERTISE_NAME 10u

/* --- names ------------------------------------------------------------------------------------ */

void router_advertise(struct router *router)
{
	unsigned count = HASH_COUNT(router->endpoints), i = 0;
	const char **names = calloc(count + 1, sizeof(*names));
	uint8_t *kinds = calloc(count + 1, 1);
	const struct endpoint *endpoint;

	for (endpoint = router->endpoints; names && kinds && endpoint; endpoint = endpoint->hh.next) {
		kinds[i] = (uint8_t)(endpoint->kinds & ~BIND_FLAGS);
		names[i++] = endpoint->name;
	}
	if (names && kinds)
		peers_advertise(router->with.peers, names, kinds, count);
	free(kinds);
	free(names);
}

/* Advertises once for all that was bound in a turn of the loop, since it gathers all names. */
static void on_advertise(struct task *task)
{
	struct router *router = (struct router *)((char *)task - offsetof(struct router, advertise));

	router_advertise(router);
	turns_spend(task->turns, task->line,
		    COST_ADVERTISE + COST_ADVERTISE_NAME * HASH_COUNT(router->endpoints));
}

static void router_tell(struct router *router, const struct endpoint *endpoint, bool bound)
{
	registry_set_endpoint(router->with.registry, router->with.self->domid, endpoint->name, bound);
	task_due(&router->advertise);
}

static void drop_tally(void *tally)
{
	channel_tally_unref(tally);
}

char *router_past_name(const struct endpoint *endpoint, char name[ROUTER_PAST_SIZE])
{
	snprintf(name, ROUTER_PAST_SIZE, "%u %s", endpoint->uid, endpoint->name);
	return name;
}

/* Lets the endpoint count from where it was when this user had it last. */
static void count_on(struct router *router, struct endpoint *endpoint, uint32_t uid)
{
	char name[ROUTER_PAST_SIZE];
	struct channel_tally *tally;

	endpoint->uid = uid;
	tally = past_take(&router->past, router_past_name(endpoint, name));
	if (!tally)
		return;
	channel_tally_unref(endpoint->tally);
	endpoint->tally = tally;
}

/* Notes what a topic has done that ends. */
static void count_topic(struct channel_tally *tally, const struct topic *topic)
{
	const struct topic_view view = topic_view(topic);

	tally->topics.published += view.published;
	tally->topics.delivered += view.tally.delivered;
	tally->topics.missed += view.tally.missed;
	tally->topics.gaps += view.tally.gaps;
}

int router_new(struct router **out, const struct router_collaborators *collaborators)
{
	struct router *router = calloc(1, sizeof(*router));

	if (!router)
		return -ENOMEM;
	router->with = *collaborators;
	router->past.drop = drop_tally;
	task_init(&router->advertise, router->with.turns, NULL, on_advertise);
	*out = router;
	return 0;
}

static void free_binder(struct endpoint *endpoint, struct binder *binder)
{
	DL_DELETE(endpoint->binders, binder);
	endpoint->hop = endpoint->binders ? endpoint->binders->hop : NULL;
	charge_end(&binder->charge);
	worker_unref(binder->worker);
	free(binder);
}

void router_free(struct router *router)
{
	struct endpoint *endpoint, *next;

	if (!router)
		return;
	task_cancel(&router->advertise);
	HASH_ITER(hh, router->endpoints, endpoint, next) {
		HASH_DEL(router->endpoints, endpoint);
		while (endpoint->binders)
			free_binder(endpoint, endpoint->binders);
		channel_tally_unref(endpoint->tally);
		free(endpoint);
	}
	past_clear(&router->past);
	free(router);
}

void router_set_questions(struct router *router, struct questions *questions)
{
	router->questions = questions;
}

struct endpoint *router_get(struct router *router, const char *name, size_t size)
{
	struct endpoint *endpoint;

	HASH_FIND(hh, router->endpoints, name, size, endpoint);
	return endpoint;
}

static int by_name(const struct endpoint *a, const struct endpoint *b)
{
	return strcmp(a->name, b->name);
}

/* Adds an endpoint that no program has bound yet, and tells who watches. NULL: out of memory. */
static struct endpoint *add_endpoint(struct router *router, const char *name, size_t size)
{
	struct endpoint *endpoint = calloc(1, sizeof(*endpoint));

	if (!endpoint)
		return NULL;
	endpoint->tally = channel_tally_new();
	if (!endpoint->tally) {
		free(endpoint);
		return NULL;
	}
	memcpy(endpoint->name, name, size);
	HASH_ADD_KEYPTR_INORDER(hh, router->endpoints, endpoint->name, size, endpoint, by_name);
	if (!HASH_ADDED(endpoint)) {
		channel_tally_unref(endpoint->tally);
		free(endpoint);
		return NULL;
	}
	router_tell(router, endpoint, true);
	return endpoint;
}

struct binder *router_binder(const struct endpoint *endpoint, const struct hop *program)
{
	struct binder *binder;

	DL_SEARCH_SCALAR(endpoint->binders, binder, hop, program);
	return binder;
}

/* Whether the program may bind the endpoint, which others have bound, beside them. */
static bool may_share(const struct endpoint *endpoint, struct hop *program, uint32_t kinds)
{
	return (kinds & BIND_SHARED) && endpoint->kinds == kinds && !router_binder(endpoint, program) &&
	       hop_program(endpoint->hop)->identity.uid == hop_program(program)->identity.uid;
}

/* `is_bound`: by the daemon before this one, so it isn't refused. Returns 0, -ENOBUFS or -ENOMEM. */
static int new_binder(struct binder **made, struct hop *program, uint32_t kinds, bool is_bound)
{
	struct binder *binder = calloc(1, sizeof(*binder));
	int r = 0;

	if (!binder)
		return -ENOMEM;
	binder->hop = program;
	charge_init(&binder->charge, hop_account(program));
	if (is_bound)
		charge_exceed(&binder->charge, QUOTA_ENDPOINTS, 1);
	else
		r = charge_add(&binder->charge, QUOTA_ENDPOINTS, 1);
	if (r == 0 && (kinds & BIND_SHARED)) {
		binder->worker = worker_new();
		r = binder->worker ? 0 : -ENOMEM;
	}
	if (r < 0) {
		charge_end(&binder->charge);
		free(binder);
		return r;
	}
	*made = binder;
	return 0;
}

static void drop_unused(struct binder *binder, struct topic *topic)
{
	if (topic)
		topic_end(topic);
	charge_end(&binder->charge);
	worker_unref(binder->worker);
	free(binder);
}

/* How many messages a topic keeps for later subscribers. */
static unsigned keeps(uint32_t kinds)
{
	unsigned keys = (kinds & BIND_KEYS) >> BIND_KEYS_SHIFT;

	return kinds & BIND_RETAIN ? (keys ? keys : 1) : 0;
}

int router_bind(struct router *router, struct hop *program, struct frame_text name, uint32_t kinds,
		struct topic *topic, bool is_bound)
{
	bool is_new = kinds & BIND_TOPIC && !is_bound;
	struct endpoint *endpoint;
	struct binder *binder;
	int r;

	if (frame_text_is(name, DAEMON_ENDPOINT))
		return -EEXIST;
	if (!endpoint_name_is_valid(name.data, name.size) || !(kinds & ~BIND_FLAGS) ||
	    (kinds & BIND_TOPIC ? kinds & ~(BIND_TOPIC | BIND_RETAIN | BIND_LISTENERS | BIND_KEYS)
				: kinds & (BIND_RETAIN | BIND_LISTENERS | BIND_KEYS)) ||
	    ((kinds & BIND_KEYS) && !(kinds & BIND_RETAIN)))
		return -EINVAL;
	endpoint = router_get(router, name.data, name.size);
	if (endpoint && endpoint->hop && !may_share(endpoint, program, kinds))
		return -EEXIST;
	r = new_binder(&binder, program, kinds, is_bound);
	if (r < 0)
		return r;
	if (is_new)
		r = topic_new(&topic, router->with.topics, program, keeps(kinds));
	if (r == 0 && is_new && kinds & BIND_LISTENERS)
		r = topic_tell_listeners(topic, name);
	if (r == 0 && !endpoint) {
		endpoint = add_endpoint(router, name.data, name.size);
		r = endpoint ? 0 : -ENOMEM;
		if (r == 0)
			count_on(router, endpoint, hop_program(program)->identity.uid);
	}
	if (r < 0) {
		drop_unused(binder, topic);
		return r;
	}
	endpoint->topic = topic;
	DL_APPEND(endpoint->binders, binder);
	endpoint->kinds = kinds;
	endpoint->hop = endpoint->binders->hop;
	if (endpoint->activation && endpoint->binders == binder)
		activation_bound(endpoint->activation);
	if (topic)
		topics_look(router->with.topics, endpoint->name);
	return 0;
}

static void remove_endpoint(struct router *router, struct endpoint *endpoint)
{
	char name[ROUTER_PAST_SIZE];

	HASH_DEL(router->endpoints, endpoint);
	router_tell(router, endpoint, false);
	past_put(&router->past, router_past_name(endpoint, name), endpoint->tally);
	free(endpoint);
}

/* Takes the endpoint from its program. One that is started on demand stays there for all others. */
static void release_endpoint(struct router *router, struct endpoint *endpoint, struct binder *binder)
{
	free_binder(endpoint, binder);
	if (endpoint->binders)
		return;
	if (endpoint->topic) {
		count_topic(endpoint->tally, endpoint->topic);
		topic_end(endpoint->topic);
	}
	endpoint->topic = NULL;
	if (!endpoint->activation) {
		remove_endpoint(router, endpoint);
		return;
	}
	endpoint->kinds = 0;
	activation_unbound(endpoint->activation);
}

int router_add_activation(struct router *router, struct activation *activation)
{
	const char *name = activation_endpoint(activation);
	struct endpoint *endpoint = router_get(router, name, strlen(name));

	if (!endpoint)
		endpoint = add_endpoint(router, name, strlen(name));
	if (!endpoint)
		return -ENOMEM;
	endpoint->activation = activation;
	if (endpoint->hop)
		activation_bound(activation);
	return 0;
}

void router_remove_activation(struct router *router, struct activation *activation)
{
	const char *name = activation_endpoint(activation);
	struct endpoint *endpoint = router_get(router, name, strlen(name));

	if (!endpoint)
		return; /* there was no memory for it */
	endpoint->activation = NULL;
	if (!endpoint->hop)
		remove_endpoint(router, endpoint);
}

int router_unbind(struct router *router, struct hop *program, struct frame_text name, bool drains)
{
	struct endpoint *endpoint = router_get(router, name.data, name.size);
	struct binder *binder = endpoint ? router_binder(endpoint, program) : NULL;

	if (!binder)
		return -ENOENT;
	if (binder->worker)
		binder->worker->drains = drains;
	release_endpoint(router, endpoint, binder);
	return 0;
}

void router_unbind_all(struct router *router, struct hop *program)
{
	struct endpoint *endpoint, *next;

	HASH_ITER(hh, router->endpoints, endpoint, next) {
		struct binder *binder = router_binder(endpoint, program);

		if (binder)
			release_endpoint(router, endpoint, binder);
	}
}

/* --- addresses -------------------------------------------------------------------------------- */

int router_resolve(struct router *router, const char *domain, uint32_t *domid)
{
	if (!strcmp(domain, "self")) {
		*domid = router->with.self->domid;
		return 0;
	}
	return registry_resolve(router->with.registry, domain, domid);
}

int router_resolve_way(struct router *router, const char *domain, struct peer_id *peer)
{
	if (strcmp(domain, "self") != 0)
		return links_resolve(router->with.links, domain, peer);
	*peer = peer_domain(router->with.self->domid);
	return 0;
}

/* Adds the name of the sender's domain to the OPEN that the receiver gets. */
static void stamp_name(struct router *router, struct channel *channel)
{
	if (!channel_from_host(channel)) /* else it has been told */
		channel_set_from_domain(channel,
					registry_name(router->with.registry, channel->identity.domid));
}

/* Whether a program can tell that a sender is on another host. It would take the domid for one of this
 * host otherwise. Each message tells it; a program that accepts streams must ask, and has said so. */
static bool takes_from_hosts(const struct endpoint *endpoint, unsigned kind)
{
	return kind != CHANNEL_STREAM || endpoint->kinds & BIND_HOSTS;
}

/* Accepts a channel of messages or calls on the hop of one of the programs that share the endpoint. */
static int accept_shared(struct channel *channel, const struct endpoint *endpoint,
			 const struct binder *binder)
{
	int r = channel->sharing ? 0 : sharing_begin(channel);

	if (r == 0)
		r = channel_accept(channel, binder->hop, endpoint->name);
	if (r == 0)
		sharing_give(channel, binder->worker);
	return r;
}

/* Leads the channel to a program that has bound the endpoint, or to a stream of its. */
static int lead_to_program(struct router *router, struct channel *channel, struct endpoint *endpoint)
{
	const struct binder *binder = router_next_binder(endpoint, NULL);
	struct hop *program = binder->hop;
	int r;

	if (endpoint->topic)
		return topic_accept(endpoint->topic, channel, endpoint->name);
	if (!(endpoint->kinds & (1u << (channel->kind - 1))))
		return -EPROTOTYPE;
	if (channel_from_host(channel) && !takes_from_hosts(endpoint, channel->kind))
		return -EOPNOTSUPP;
	if (channel->kind == CHANNEL_STREAM && !hop_program(program)->carries_streams)
		return streams_incoming(router->with.streams, channel, endpoint->name, program);
	if (!binder->worker || channel->kind == CHANNEL_STREAM)
		return channel_accept(channel, program, endpoint->name);
	r = accept_shared(channel, endpoint, binder);
	router_note_given(router, channel);
	return r;
}

int router_lead(struct router *router, struct channel *channel, const char *name)
{
	struct endpoint *endpoint = router_get(router, name, strlen(name));

	return endpoint && endpoint->hop ? lead_to_program(router, channel, endpoint) : -ENOENT;
}

/* Whether the channel comes from the program whose topic this is. */
static bool is_publisher(const struct endpoint *endpoint, const struct channel *channel)
{
	return endpoint->topic && channel->kind == CHANNEL_MESSAGE && endpoint->hop == channel->opener.hop;
}

/* Leads the channel to an endpoint here: to its program, or to where it waits for one. The
 * endpoint counts it. */
static int lead_to_endpoint(struct router *router, struct channel *channel, struct frame_text name)
{
	struct endpoint *endpoint;
	char text[ENDPOINT_NAME_MAX + 1];
	int r;

	if (!endpoint_name_is_valid(name.data, name.size))
		return -ENOENT;
	/* It says itself who may ask what. To a peer that asks one that starts, the daemon before has
	 * gone. */
	if (frame_text_is(name, DAEMON_ENDPOINT))
		return router->questions ? questions_accept(router->questions, channel) : -ECONNRESET;
	memcpy(text, name.data, name.size);
	text[name.size] = '\0';
	/* Asked first: a sender that may not reach the endpoint doesn't learn whether it exists. */
	endpoint = router_get(router, name.data, name.size);
	switch_spend(channel->board, channel->charge.account, access_cost(router->with.access));
	r = endpoint && is_publisher(endpoint, channel)
		    ? 0
		    : access_reach(router->with.access, access_sender_of(channel), text);
	if (r == 0 && endpoint)
		channel_count(channel, endpoint->tally);
	if (r == 0 && !endpoint)
		r = -ENOENT;
	else if (r == 0 && (!endpoint->hop ||
			    /* What waits already comes first. */
			    (endpoint->activation && activation_has_waiting(endpoint->activation))))
		r = activation_wait(endpoint->activation, channel);
	else if (r == 0)
		r = lead_to_program(router, channel, endpoint);
	if (endpoint && r < 0)
		endpoint->tally->refused++;
	else if (endpoint)
		endpoint->tally->opened++;
	return r;
}

/* As lead_to_address(). */
static int lead_once(struct router *router, struct channel *channel, const struct address *to)
{
	struct peer_id peer;
	struct hop *hop;
	int r;

	if (to->host[0] && strcmp(to->host, router->with.self->host) != 0)
		return relay_lead_out(router->with.relay, channel, to);
	r = router_resolve_way(router, to->domain, &peer);
	if (r < 0)
		return r;
	if (peer_is_domain(peer, router->with.self->domid))
		return lead_to_endpoint(router, channel, frame_text_of(to->endpoint));
	if (relay_zero_knows(router->with.relay, peer))
		return relay_lead(router->with.relay, channel, peer.number, to->endpoint);
	hop = links_want(router->with.links, peer, hop_account(channel->opener.hop), &r);
	if (r == -ENOLINK)
		return relay_lead(router->with.relay, channel, peer.number, to->endpoint);
	return hop ? channel_accept(channel, hop, to->endpoint) : r;
}

/* Leads it there. A program whose user has as many channels as it may have gets one more to ask a daemon. */
static int lead_to_address(struct router *router, struct channel *channel, struct frame_text text)
{
	struct address address;
	int r = address_parse(text.data, text.size, &address, NULL);

	if (r == 0)
		r = lead_once(router, channel, &address);
	if (r == -ENOBUFS && channel->kind == CHANNEL_CALL && !strcmp(address.endpoint, DAEMON_ENDPOINT) &&
	    hop_is_session(channel->opener.hop) && channel_exceed(channel))
		r = lead_once(router, channel, &address);
	return r;
}

/* Refuses a channel that wasn't accepted (`r` below zero). The session of the program that opened it goes
 * on. */
static void refuse_unless_taken(struct channel *channel, int r)
{
	if (r < 0)
		channel_refuse(channel, r == -ENOMEM ? ENOBUFS : -r);
}

void router_open_endpoint(struct router *router, struct channel *channel, struct frame_text name)
{
	stamp_name(router, channel);
	refuse_unless_taken(channel, lead_to_endpoint(router, channel, name));
}

void router_open_address(struct router *router, struct channel *channel, struct frame_text address)
{
	stamp_name(router, channel);
	refuse_unless_taken(channel, lead_to_address(router, channel, address));
}

/* --- listings --------------------------------------------------------------------------------- */

unsigned router_endpoints(const struct router *router)
{
	return HASH_COUNT(router->endpoints);
}

const struct endpoint *router_next(const struct router *router, const char *after)
{
	const struct endpoint *endpoint;

	HASH_FIND_STR(router->endpoints, after, endpoint);
	if (endpoint)
		return endpoint->hh.next;
	for (endpoint = router->endpoints; endpoint && strcmp(endpoint->name, after) < 0;
	     endpoint = endpoint->hh.next)
		;
	return endpoint;
}

const struct endpoint *router_find(const struct router *router, const char *name)
{
	const struct endpoint *endpoint;

	HASH_FIND_STR(router->endpoints, name, endpoint);
	return endpoint;
}
