/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * After a restore or a migration the domain may have another number, its nodes in XenStore are gone, and
 * grants and event channels lead nowhere. Programs and their endpoints stay.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/policy/access.h"
#include "daemon/daemon_internal.h"
#include "daemon/peers/directory.h"
#include "daemon/link/link.h"
#include "daemon/local/local.h"
#include "daemon/base/log.h"
#include "daemon/peers/peers.h"
#include "daemon/router.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"
#include "daemon/local/watches.h"
#include "wire/address.h"

struct domid_list {
	uint32_t *domids;
	unsigned count, room;
};

static void collect_domid(struct domid_list *list, uint32_t domid)
{
	if (list->count == list->room) {
		unsigned room = list->room ? list->room * 2 : 16;
		uint32_t *grown = realloc(list->domids, room * sizeof(*grown));

		if (!grown)
			return;
		list->domids = grown;
		list->room = room;
	}
	list->domids[list->count++] = domid;
}

static void collect_link(void *userdata, const struct link_info *info)
{
	collect_domid(userdata, info->domid);
}

static void collect_peer(void *userdata, const struct peer_info *info)
{
	if (info->up)
		collect_domid(userdata, info->domid);
}

/* Nobody on the old host, or of the old number, can be reached any more: channels end, and those who watch
 * are told. */
static void leave_peers(struct daemon *daemon)
{
	static const char *const none[] = {NULL};
	struct domid_list links = {0}, peers = {0};

	links_each(daemon->links, collect_link, &links);
	for (unsigned i = 0; i < links.count; i++)
		links_lost(daemon->links, links.domids[i], "this domain was restored or migrated");
	peers_each(daemon->peers, collect_peer, &peers);
	for (unsigned i = 0; i < peers.count; i++) {
		watches_endpoints(daemon->watches, peers.domids[i], none, 0);
		watches_domain(daemon->watches, peers.domids[i], false);
	}
	free(links.domids);
	free(peers.domids);
	links_free(daemon->links);
	daemon->links = NULL;
	peers_free(daemon->peers);
	daemon->peers = NULL;
}

/* Programs and their endpoints stay; everything that Xen knew of us by the old number is made anew. */
static int begin_anew(struct daemon *daemon, uint32_t domid)
{
	int r = vchan_host_renew(daemon->host);

	if (r < 0)
		return r;
	leave_peers(daemon);
	daemon->domid = domid;
	router_renumber(daemon->router, domid);
	access_renumber(daemon->access, domid);
	watches_renumber(daemon->watches, domid);
	local_renumber(daemon->local, domid);
	directory_renumber(daemon->directory, domid);
	r = daemon_start_links(daemon);
	if (r == 0)
		r = daemon_start_peers(daemon);
	if (r < 0)
		return r;
	daemon_advertise(daemon);
	return 0;
}

static void on_own_leaf(void *userdata, int error, const char *value, size_t size)
{
	struct daemon *daemon = userdata;
	char path[PEERS_OWN_LEAF_SIZE];

	/* A migration may lead to the same number, but never with our nodes. */
	if (error == -ENOENT && daemon->peers && peers_own_leaf(daemon->peers, path) &&
	    !strcmp(path, daemon->own_leaf))
		daemon->leaf_lost = true;
}

static void check_domid(struct daemon *daemon);

static void conclude_domid(struct daemon *daemon, uint32_t domid)
{
	if (domid == daemon->domid && !daemon->leaf_lost) {
		vchan_host_unbind_retired(daemon->host);
		return;
	}
	log_warning(
		"this domain was restored or migrated: it was domain %u and is domain %u; all links begin anew",
		daemon->domid, domid);
	if (begin_anew(daemon, domid) < 0) {
		log_error("can't go on after the restore; stopping");
		daemon->failed = true;
		event_base_loopbreak(daemon->base);
	}
}

static void on_domid_again(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct daemon *daemon = userdata;
	uint32_t domid;

	if (!error && domid_parse(untrusted_value, size, &domid))
		conclude_domid(daemon, domid);
	daemon->checking_domid = daemon->leaf_lost = false;
	if (daemon->check_domid_again && !daemon->failed)
		check_domid(daemon);
}

/* One check at a time: the second's requests come behind the writes that the first one has led to. */
static void check_domid(struct daemon *daemon)
{
	daemon->check_domid_again = daemon->checking_domid;
	/* without peers a restore has failed, and we are stopping */
	if (daemon->checking_domid || !daemon->peers)
		return;
	daemon->checking_domid = true;
	if (peers_own_leaf(daemon->peers, daemon->own_leaf))
		store_read(daemon->store, daemon->own_leaf, on_own_leaf, daemon);
	store_read(daemon->store, "domid", on_domid_again, daemon);
}

/* The kernel sets all watches again after a restore, and each fires. */
void restore_on_domid_changed(void *userdata, const char *untrusted_path)
{
	struct daemon *daemon = userdata;

	if (!daemon->domid_watched) { /* it fires when it is set, too */
		daemon->domid_watched = true;
		return;
	}
	check_domid(daemon);
}

void restore_on_port_retired(void *userdata)
{
	struct daemon *daemon = userdata;

	if (!daemon->stopping && !daemon->failed)
		check_domid(daemon);
}
