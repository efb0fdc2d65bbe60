/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "daemon/peers_internal.h"
#include "wire/address.h"

#define ADVERTISE_DELAY_MS  10 /* a program that binds ten endpoints in a row makes one write */
#define ADVERTISE_RETRY_MS  1000
#define ADVERTISE_RETRY_MAX 60000

static void on_change(void *userdata, const char *untrusted_path);

static struct timeval milliseconds(unsigned ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

struct peers_request *peers_request_new(struct peers *peers, uint32_t domid)
{
	struct peers_request *request = calloc(1, sizeof(*request));

	if (!request) {
		log_error("peers: out of memory");
		abort();
	}
	request->peers = peers;
	request->domid = domid;
	DL_APPEND(peers->requests, request);
	return request;
}

void peers_request_free(struct peers_request *request)
{
	DL_DELETE(request->peers->requests, request);
	free(request);
}

/* --- peers --- */

struct peer *peer_find(struct peers *peers, uint32_t domid)
{
	struct peer *peer;

	HASH_FIND(hh, peers->peers, &domid, sizeof(domid), peer);
	return peer;
}

static bool is_allowed(const struct peers *peers, uint32_t domid)
{
	if (!peers->options.presence_private)
		return true;
	for (unsigned i = 0; i < peers->options.allowed_count; i++)
		if (peers->options.allowed[i] == domid)
			return true;
	return false;
}

static void peer_free(struct peer *peer)
{
	rendezvous_destroy(peer);
	HASH_DEL(peer->peers->peers, peer);
	free(peer->endpoints);
	free(peer);
}

/* NULL when memory is short: the peer stays unknown, until its next change. */
static struct peer *peer_get(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (peer)
		return peer;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->peers = peers;
	peer->domid = domid;
	peer->allowed = is_allowed(peers, domid);
	peer->leaf_watched = LEAVES;
	HASH_ADD(hh, peers->peers, domid, sizeof(peer->domid), peer);
	if (rendezvous_init(peer) < 0) {
		peer_free(peer);
		return NULL;
	}
	return peer;
}

/* Nothing is known of it that XenStore wouldn't tell again. */
static bool is_forgettable(const struct peer *peer)
{
	return !peer->up && !peer->kicked && !peer->reading && !peer->advertising && !peer->watched &&
	       !peer->hello_seen && !peer->presence_major && !peer->hello_major &&
	       peer->rendezvous.state == RENDEZVOUS_IDLE && !peer->rendezvous.wanted &&
	       !(peer->peers->options.presence_private && peer->allowed);
}

void peer_kick(struct peer *peer)
{
	peer->kicked = true;
	event_active(peer->peers->work, EV_TIMEOUT, 0);
}

void peer_our_path(const struct peer *peer, char path[PEERS_PATH_SIZE], const char *rest)
{
	snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u%s", peer->peers->options.domid, peer->domid,
		 rest);
}

bool peer_hello_is_current(const struct peer *peer)
{
	return peer->hello_seen && (peer->allowed || peer->rendezvous.hello_written) &&
	       (peer->presence[0] == '\0' || !strcmp(peer->presence, peer->hello.instance));
}

/* --- what we advertise --- */

static void schedule_advertising(struct peers *peers, unsigned ms)
{
	struct timeval delay = milliseconds(ms);

	if (!event_pending(peers->advertise, EV_TIMEOUT, NULL))
		event_add(peers->advertise, &delay);
}

static void retry_advertising(struct peers *peers)
{
	unsigned ms = ADVERTISE_RETRY_MS << (peers->advertise_failures < 6 ? peers->advertise_failures : 6);

	peers->advertise_failures++;
	schedule_advertising(peers, ms < ADVERTISE_RETRY_MAX ? ms : ADVERTISE_RETRY_MAX);
}

static bool wants_advertisement(const struct peer *peer)
{
	return peer->allowed && (peer->up || peer->peers->options.presence_private) &&
	       peer->advertised_version != peer->peers->advertised && !peer->advertising;
}

static void on_advertised(void *userdata, int error, const char *value, size_t size)
{
	struct peers_request *request = userdata;
	struct peers *peers = request->peers;
	struct peer *peer = peer_find(peers, request->domid);

	(void)value;
	(void)size;
	if (peer)
		peer->advertising = false;
	if (error < 0) {
		log_warning("peers: can't write our endpoints for domain %u: %s; trying again later", request->domid,
			    strerror(-error));
		if (peer)
			peer->advertised_version = 0;
		retry_advertising(peers);
	} else {
		peers->advertise_failures = 0;
		if (peer && peer->advertised_version != peers->advertised)
			schedule_advertising(peers, 0);
	}
	peers_request_free(request);
}

/* The endpoints leaf is also how a daemon that has just started learns of those that run: it alone may read it. */
static void advertise_to(struct peer *peer)
{
	struct peers *peers = peer->peers;
	char path[PEERS_PATH_SIZE], value[PEERS_ADVERTISE_SIZE];
	const char **names = calloc(peers->names_count + 1, sizeof(*names));
	unsigned count = 0;

	for (unsigned i = 0; names && i < peers->names_count; i++)
		if (!peers->callbacks.visible || peers->callbacks.visible(peers->userdata, peer->domid, peers->names[i]))
			names[count++] = peers->names[i];
	endpoints_format(names, count, value, sizeof(value));
	free(names);
	peer->advertising = true;
	peer->advertised = true;
	peer->advertised_version = peers->advertised;
	peer_our_path(peer, path, "/endpoints");
	store_write(peers->store, path, value, peers->options.domid, (int)peer->domid, on_advertised,
		    peers_request_new(peers, peer->domid));
}

static void on_presence_written(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	(void)value;
	(void)size;
	peers->presence_written = error == 0;
	if (error == 0)
		return;
	log_error("peers: can't write %s/presence: %s; others don't see this daemon; trying again later", peers->root,
		  strerror(-error));
	retry_advertising(peers);
}

static void write_presence(struct peers *peers)
{
	char path[PEERS_PATH_SIZE], value[PEERS_INSTANCE_SIZE + 16];

	if (peers->options.presence_private || peers->presence_written)
		return;
	peers->presence_written = true; /* on its way */
	snprintf(path, sizeof(path), "%s/presence", peers->root);
	snprintf(value, sizeof(value), "%d %s", PEERS_MAJOR, peers->options.instance);
	store_write(peers->store, path, value, peers->options.domid, STORE_EVERYONE, on_presence_written, peers);
}

static void on_advertise(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;
	struct peer *peer, *next;

	(void)fd;
	(void)what;
	write_presence(peers);
	HASH_ITER(hh, peers->peers, peer, next)
		if (wants_advertisement(peer))
			advertise_to(peer);
}

static void free_names(struct peers *peers)
{
	for (unsigned i = 0; i < peers->names_count; i++)
		free(peers->names[i]);
	free(peers->names);
	peers->names = NULL;
	peers->names_count = 0;
}

void peers_advertise(struct peers *peers, const char *const *names, unsigned count)
{
	free_names(peers);
	peers->names = calloc(count + 1, sizeof(*peers->names));
	for (unsigned i = 0; peers->names && i < count; i++)
		if ((peers->names[peers->names_count] = strdup(names[i])) != NULL)
			peers->names_count++;
	peers->advertised++;
	schedule_advertising(peers, ADVERTISE_DELAY_MS);
}

void peers_advertise_to(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_find(peers, domid);

	if (!peer)
		return;
	peer->advertised_version = 0;
	if (wants_advertisement(peer) || peer->advertising)
		schedule_advertising(peers, ADVERTISE_DELAY_MS);
}

/* --- who is there --- */

/* A leaf of the peer's. */
static void leaf_path(const struct peer *peer, enum peer_leaf leaf, char path[PEERS_PATH_SIZE])
{
	static const char *const names[] = {
		[LEAF_ENDPOINTS] = "endpoints",
		[LEAF_HELLO] = "hello",
		[LEAF_RING_REF] = "ring-ref",
		[LEAF_EVENT_CHANNEL] = "event-channel",
	};
	uint32_t us = peer->peers->options.domid;

	if (leaf == LEAF_PRESENCE)
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/presence", peer->domid);
	else if (leaf == LEAF_HELLO || leaf == LEAF_ENDPOINTS)
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u/%s", peer->domid, us, names[leaf]);
	else
		snprintf(path, PEERS_PATH_SIZE, "/local/domain/%u/data/xenmsg/to/%u/%s/%s", peer->domid, us,
			 peer->rendezvous.our_nonce, names[leaf]);
}

static void on_leaf_watched(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	(void)value;
	(void)size;
	if (error < 0)
		log_limited(&peers->watches_short, LOG_LEVEL_WARNING,
			    "peers: can't watch a peer's leaf: %s; its domain's end will be noticed late", strerror(-error));
}

/* The watch on /local/domain tells of a leaf that is removed, but not of one that goes with a directory above it, which we may
 * not read: so ends a domain. A watch on the leaf itself tells of that too. */
static void watch_leaf(struct peer *peer)
{
	struct peers *peers = peer->peers;
	enum peer_leaf leaf = !peer->up		    ? LEAVES
			      : peer->presence[0]   ? LEAF_PRESENCE
			      : peer->endpoints_seen ? LEAF_ENDPOINTS
						     : LEAF_HELLO;
	char path[PEERS_PATH_SIZE];

	if (peers->options.domid == 0 || leaf == peer->leaf_watched)
		return;
	if (peer->leaf_watched != LEAVES) {
		leaf_path(peer, peer->leaf_watched, path);
		store_unwatch(peers->store, path, on_change, peers);
	}
	peer->leaf_watched = leaf;
	if (leaf != LEAVES) {
		leaf_path(peer, leaf, path);
		store_watch(peers->store, path, on_change, peers, on_leaf_watched);
	}
}

static void remove_our_leaves(struct peer *peer)
{
	char path[PEERS_PATH_SIZE];

	if (!peer->advertised)
		return;
	peer->advertised = false;
	peer_our_path(peer, path, "");
	store_remove(peer->peers->store, path, NULL, NULL);
}

static void set_endpoints(struct peer *peer, char **names, unsigned count)
{
	static const char *const none[] = {NULL};
	struct peers *peers = peer->peers;
	bool same = count == peer->endpoints_count;

	for (unsigned i = 0; same && i < count; i++)
		same = !strcmp(names[i], peer->endpoints[i]);
	free(peer->endpoints);
	peer->endpoints = names;
	peer->endpoints_count = count;
	if (!same)
		peers->callbacks.endpoints(peers->userdata, peer->domid, names ? (const char *const *)names : none,
					   count);
}

/* Draws the conclusion from what the leaves say: up, down, or another daemon than before. A daemon that writes no presence
 * shows itself by what it writes for us. */
static void conclude_presence(struct peer *peer)
{
	struct peers *peers = peer->peers;
	bool other_version = peer->presence_major || peer->hello_major;
	bool up = peer->presence[0] || (!other_version && (peer->endpoints_seen || peer->hello_seen));
	const char *instance = peer->presence[0] ? peer->presence : peer->hello_seen ? peer->hello.instance : "";
	bool replaced = up && instance[0] && peer->instance[0] && strcmp(instance, peer->instance);

	if (peer->up && (!up || replaced)) {
		peer->up = false;
		rendezvous_peer_gone(peer, replaced);
		if (!up) {
			set_endpoints(peer, NULL, 0);
			remove_our_leaves(peer);
		}
		peers->callbacks.presence(peers->userdata, peer->domid, false);
	}
	if (!up || instance[0])
		snprintf(peer->instance, sizeof(peer->instance), "%s", up ? instance : "");
	if (up && !peer->up) {
		peer->up = true;
		peer->advertised_version = 0; /* also when it stands there: the new daemon waits for it to change */
		if (wants_advertisement(peer))
			advertise_to(peer);
		peers->callbacks.presence(peers->userdata, peer->domid, true);
	}
	watch_leaf(peer);
	peer_kick(peer);
}

static void complain(struct peer *peer, const char *what, int error, unsigned major)
{
	if (error == -EPROTONOSUPPORT)
		log_limited(&peer->bad_values, LOG_LEVEL_WARNING,
			    "peers: domain %u speaks version %u of the protocol in its %s, this daemon version %d",
			    peer->domid, major, what, PEERS_MAJOR);
	else
		log_limited(&peer->bad_values, LOG_LEVEL_WARNING,
			    "peers: domain %u has written a bad %s into XenStore; taken for absent", peer->domid, what);
}

static void take_presence(struct peer *peer, const char *untrusted_value, size_t size)
{
	char instance[PEERS_INSTANCE_SIZE] = "";
	bool was_there = peer->presence[0] != '\0';
	unsigned major = 0;
	int r;

	peer->presence_major = 0;
	peer->presence[0] = '\0';
	if (untrusted_value) {
		r = presence_parse(untrusted_value, size, &major, instance);
		if (r < 0)
			complain(peer, "presence", r, major);
		if (r == -EPROTONOSUPPORT)
			peer->presence_major = major ? major : UINT32_MAX;
		if (r == 0)
			memcpy(peer->presence, instance, sizeof(peer->presence));
	}
	if (was_there && !peer->presence[0]) { /* nothing tells of the others if they have gone with their directory */
		peer_read(peer, LEAF_HELLO);
		peer_read(peer, LEAF_ENDPOINTS);
	}
	conclude_presence(peer);
}

static void take_hello(struct peer *peer, const char *untrusted_value, size_t size)
{
	unsigned major = 0;
	int r;

	peer->hello_major = 0;
	peer->hello_seen = false;
	if (untrusted_value) {
		r = hello_parse(untrusted_value, size, &major, &peer->hello);
		if (r < 0)
			complain(peer, "hello", r, major);
		if (r == -EPROTONOSUPPORT)
			peer->hello_major = major ? major : UINT32_MAX;
		peer->hello_seen = r == 0;
	}
	conclude_presence(peer);
}

static void take_endpoints(struct peer *peer, const char *untrusted_value, size_t size)
{
	char **names = NULL;
	unsigned count = 0;
	int r = -ENOENT;

	if (untrusted_value) {
		r = endpoints_parse(untrusted_value, size, &names, &count);
		if (r < 0)
			complain(peer, "list of endpoints", r, 0);
	}
	peer->endpoints_seen = r == 0;
	conclude_presence(peer);
	set_endpoints(peer, names, count);
}

static void on_leaf(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct peers_request *request = userdata;
	struct peer *peer = peer_find(request->peers, request->domid);
	enum peer_leaf leaf = request->leaf;

	peers_request_free(request);
	if (!peer)
		return;
	peer->reading &= ~(1u << leaf);
	if (peer->reread & 1u << leaf) {
		peer->reread &= ~(1u << leaf);
		peer_read(peer, leaf);
		if (error == -ENOENT)
			untrusted_value = NULL; /* a moment of absence counts: the new node is another one */
		else
			return;
	} else {
		peer->looked |= 1u << leaf;
	}
	if (error < 0 && error != -ENOENT) { /* XenStore is broken, which says nothing about the peer */
		peer_kick(peer);
		return;
	}
	switch (leaf) {
	case LEAF_PRESENCE:
		take_presence(peer, untrusted_value, size);
		break;
	case LEAF_HELLO:
		take_hello(peer, untrusted_value, size);
		break;
	case LEAF_ENDPOINTS:
		take_endpoints(peer, untrusted_value, size);
		break;
	case LEAF_RING_REF:
	case LEAF_EVENT_CHANNEL:
		rendezvous_node(peer, leaf, untrusted_value, size);
		break;
	case LEAVES:
		break;
	}
}

void peer_read(struct peer *peer, enum peer_leaf leaf)
{
	struct peers *peers = peer->peers;
	struct peers_request *request;
	char path[PEERS_PATH_SIZE];

	if (peer->reading & 1u << leaf) {
		peer->reread |= 1u << leaf;
		return;
	}
	peer->reading |= 1u << leaf;
	request = peers_request_new(peers, peer->domid);
	request->leaf = leaf;
	leaf_path(peer, leaf, path);
	store_read(peers->store, path, on_leaf, request);
}

static void look_up(struct peer *peer)
{
	peer->looked &= ~LEAVES_LOOKED_UP;
	peer_read(peer, LEAF_PRESENCE);
	peer_read(peer, LEAF_HELLO);
	peer_read(peer, LEAF_ENDPOINTS);
}

/* A guest watches /local/domain, dom0 each domain's subtree. */
static void on_change(void *userdata, const char *untrusted_path)
{
	struct peers *peers = userdata;
	struct peer *peer, *next;
	char nonce[PEERS_NONCE_SIZE];
	uint32_t domid = peers->options.domid;
	enum peers_path path = peers_path_parse(untrusted_path, peers->options.domid, &domid, nonce);
	bool known;

	if (path == PEERS_PATH_ALL)
		HASH_ITER(hh, peers->peers, peer, next)
			look_up(peer);
	if (path == PEERS_PATH_ALL || path == PEERS_PATH_OTHER || domid == peers->options.domid)
		return;
	known = (peer = peer_find(peers, domid)) != NULL;
	if (path == PEERS_PATH_NODES) {
		if (known && peer->rendezvous.state == RENDEZVOUS_AWAIT && !strcmp(nonce, peer->rendezvous.our_nonce)) {
			peer_read(peer, LEAF_RING_REF);
			peer_read(peer, LEAF_EVENT_CHANNEL);
		}
	} else if (path == PEERS_PATH_DOMAIN) {
		if (known)
			look_up(peer);
	} else if (!known) {
		if ((peer = peer_get(peers, domid)) != NULL)
			look_up(peer);
	} else {
		peer_read(peer, path == PEERS_PATH_PRESENCE ? LEAF_PRESENCE
				: path == PEERS_PATH_HELLO  ? LEAF_HELLO
							    : LEAF_ENDPOINTS);
	}
}

/* --- dom0, which no watch tells of everything: it lists the domains and watches each --- */

static void subtree_path(uint32_t domid, char path[PEERS_ROOT_SIZE])
{
	snprintf(path, PEERS_ROOT_SIZE, "/local/domain/%u/data/xenmsg", domid);
}

static void domain_is_gone(struct peer *peer)
{
	char path[PEERS_ROOT_SIZE];

	subtree_path(peer->domid, path);
	store_unwatch(peer->peers->store, path, on_change, peer->peers);
	peer->watched = false;
	look_up(peer); /* its home has been removed */
	peer_kick(peer);
}

static void on_watched(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	(void)value;
	(void)size;
	if (error < 0)
		log_error("peers: domain %u can't watch its peers in XenStore: %s; some will not be seen",
			  peers->options.domid, strerror(-error));
}

static void on_domains_listed(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct peers_request *request = userdata;
	struct peers *peers = request->peers;
	struct peer *peer, *next;
	char path[PEERS_ROOT_SIZE];
	uint32_t domid;

	peers_request_free(request);
	if (error < 0) {
		log_error("peers: can't list the domains: %s", strerror(-error));
		return;
	}
	HASH_ITER(hh, peers->peers, peer, next)
		peer->gone = true;
	for (unsigned i = 0; i < count; i++) {
		if (!domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &domid) ||
		    domid == peers->options.domid || (peer = peer_get(peers, domid)) == NULL)
			continue;
		peer->gone = false;
		if (peer->watched)
			continue;
		peer->watched = true;
		subtree_path(domid, path);
		store_watch(peers->store, path, on_change, peers, on_watched); /* fires at once: it is looked up */
	}
	HASH_ITER(hh, peers->peers, peer, next)
		if (peer->gone && peer->watched)
			domain_is_gone(peer);
}

static void on_domains_changed(void *userdata, const char *untrusted_path)
{
	struct peers *peers = userdata;

	(void)untrusted_path;
	store_list(peers->store, "/local/domain", on_domains_listed, peers_request_new(peers, 0));
}

static void watch(struct peers *peers)
{
	if (peers->options.domid == 0) {
		store_watch(peers->store, "@introduceDomain", on_domains_changed, peers, on_watched);
		store_watch(peers->store, "@releaseDomain", on_domains_changed, peers, on_watched);
	} else {
		store_watch(peers->store, "/local/domain", on_change, peers, on_watched);
	}
}

static void unwatch(struct peers *peers)
{
	struct peer *peer, *next;
	char path[PEERS_ROOT_SIZE];

	store_unwatch(peers->store, "@introduceDomain", on_domains_changed, peers);
	store_unwatch(peers->store, "@releaseDomain", on_domains_changed, peers);
	store_unwatch(peers->store, "/local/domain", on_change, peers);
	HASH_ITER(hh, peers->peers, peer, next) {
		if (peer->watched) {
			subtree_path(peer->domid, path);
			store_unwatch(peers->store, path, on_change, peers);
		}
		if (peer->leaf_watched != LEAVES) {
			peer->up = false;
			watch_leaf(peer);
		}
	}
}

/* --- life --- */

/* First the leaf by itself: the removal of the directory, which they may not read, is hidden from others. */
static void remove_tree(struct peers *peers)
{
	char path[PEERS_PATH_SIZE];

	snprintf(path, sizeof(path), "%s/presence", peers->root);
	store_remove(peers->store, path, NULL, NULL);
	store_remove(peers->store, peers->root, NULL, NULL);
}

static void on_work(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;
	struct peer *peer, *next;

	(void)fd;
	(void)what;
	HASH_ITER(hh, peers->peers, peer, next) {
		if (!peer->kicked)
			continue;
		peer->kicked = false;
		rendezvous_advance(peer);
		if (is_forgettable(peer))
			peer_free(peer);
	}
}

static void on_pages(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	rendezvous_pages_freed(userdata);
}

static void on_vchan_freed(void *userdata)
{
	struct peers *peers = userdata;

	if (peers->waiting)
		event_active(peers->pages, EV_TIMEOUT, 0);
}

int peers_new(struct peers **result, struct event_base *base, struct store *store, struct vchan_host *host,
	      const struct peers_options *options, const struct peers_callbacks *callbacks, void *userdata)
{
	struct peers *peers = calloc(1, sizeof(*peers));
	uint32_t *allowed = NULL;

	if (!peers)
		return -ENOMEM;
	peers->base = base;
	peers->store = store;
	peers->host = host;
	peers->options = *options;
	peers->options.allowed = NULL;
	peers->callbacks = *callbacks;
	peers->userdata = userdata;
	peers->advertised = 1;
	peers->may_map = rendezvous_may_map(options);
	subtree_path(options->domid, peers->root);
	if (options->allowed_count) {
		allowed = malloc(options->allowed_count * sizeof(*allowed));
		if (!allowed)
			goto fail;
		memcpy(allowed, options->allowed, options->allowed_count * sizeof(*allowed));
		peers->options.allowed = allowed;
	}
	peers->work = event_new(base, -1, 0, on_work, peers);
	peers->advertise = event_new(base, -1, 0, on_advertise, peers);
	peers->pages = event_new(base, -1, 0, on_pages, peers);
	if (!peers->work || !peers->advertise || !peers->pages)
		goto fail;
	vchan_host_set_freed(host, on_vchan_freed, peers);

	/* What an earlier daemon left must be gone before the new presence is seen, and answers to that must find us
	 * watching. */
	remove_tree(peers);
	watch(peers);
	write_presence(peers);
	if (options->presence_private)
		for (unsigned i = 0; i < options->allowed_count; i++)
			if (allowed[i] != options->domid && allowed[i] <= DOMID_MAX) {
				struct peer *peer = peer_get(peers, allowed[i]);

				if (!peer)
					goto fail;
				advertise_to(peer);
				look_up(peer);
			}
	*result = peers;
	return 0;
fail:
	peers_free(peers);
	return -ENOMEM;
}

void peers_free(struct peers *peers)
{
	struct peers_request *request, *next_request;
	struct peer *peer, *next;

	if (!peers)
		return;
	unwatch(peers);
	vchan_host_set_freed(peers->host, NULL, NULL);
	HASH_ITER(hh, peers->peers, peer, next) {
		if (peers->options.presence_private && peer->advertised) {
			char path[PEERS_PATH_SIZE];

			peer_our_path(peer, path, "/endpoints");
			store_remove(peers->store, path, NULL, NULL);
		}
		peer_free(peer);
	}
	remove_tree(peers);
	store_forget(peers->store, peers);
	DL_FOREACH_SAFE(peers->requests, request, next_request) {
		store_forget(peers->store, request);
		peers_request_free(request);
	}
	if (peers->pages)
		event_free(peers->pages);
	free_names(peers);
	if (peers->advertise)
		event_free(peers->advertise);
	if (peers->work)
		event_free(peers->work);
	free((void *)(uintptr_t)peers->options.allowed);
	free(peers);
}

void peers_connect(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_get(peers, domid);
	struct timeval timeout = milliseconds(peers->options.setup_timeout_ms);

	if (!peer) {
		log_error("peers: out of memory: no link with domain %u", domid);
		return;
	}
	if (peer->rendezvous.wanted || peer->rendezvous.state == RENDEZVOUS_CONNECTED)
		return;
	peer->rendezvous.wanted = true;
	if (peer->rendezvous.state == RENDEZVOUS_IDLE) {
		event_add(peer->rendezvous.timer, &timeout);
		if (!peer->up)
			look_up(peer);
	}
	peer_kick(peer);
}

/* --- listings --- */

void peers_each(struct peers *peers, void (*each)(void *userdata, const struct peer_info *info), void *userdata)
{
	struct peer *peer, *next;

	HASH_ITER(hh, peers->peers, peer, next) {
		struct peer_info info = {
			.domid = peer->domid,
			.up = peer->up,
			.instance = peer->instance,
			.state = rendezvous_state_name(peer),
			.endpoints = (const char *const *)peer->endpoints,
		};

		if (peer->up || peer->rendezvous.state != RENDEZVOUS_IDLE)
			each(userdata, &info);
	}
}

bool peers_is_up(struct peers *peers, uint32_t domid)
{
	const struct peer *peer = peer_find(peers, domid);

	return peer && peer->up;
}

bool peers_is_present(const struct peers *peers)
{
	return peers->presence_written;
}

unsigned peers_nodes_written(const struct peers *peers)
{
	unsigned nodes = peers->presence_written ? 1 : 0;
	const struct peer *peer;

	for (peer = peers->peers; peer; peer = peer->hh.next)
		nodes += (unsigned)peer->advertised + (unsigned)peer->rendezvous.hello_written +
			 (peer->rendezvous.published ? 2 : 0);
	return nodes;
}

unsigned peers_waiting(const struct peers *peers)
{
	struct peer *peer;
	unsigned count = 0;

	DL_FOREACH2(peers->waiting, peer, rendezvous.wait_next)
		count++;
	return count;
}
