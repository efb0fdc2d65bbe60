/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * After a restore or a migration the domain may have another number, its nodes in XenStore are gone, and
 * grants and event channels lead nowhere. Programs and their endpoints stay, and sessions go on over other
 * vchans.
 */

#include <errno.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/main/daemon_internal.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/directory.h"
#include "daemon/policy/access.h"
#include "daemon/peers/names.h"
#include "daemon/link/link.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "daemon/peers/peers.h"
#include "daemon/serve/router.h"
#include "daemon/topic/topics.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"
#include "daemon/registry/registry.h"
#include "wire/address.h"
#include "wire/retry.h"

/* A daemon that hands over waits no longer for XenStore to say that there was no restore. After one it was
 * silent for up to 4 s. One that stops waits as long as for the rest that it asks of XenStore: its leaf goes,
 * with the token by which the next one would ask a keeper, so what a stop leaves to a keeper stays bound. */
#define HANDOVER_ANSWER_MS 1000
#define STOP_PAUSE_NS	   500000

/* For so long a port has been out of use before XenStore is asked whether there was a restore. A save makes
 * domain 0 unmap, and so ports retire, up to 0.2 s before it. If XenStore were asked then, its answer could
 * lie here while the domain is saved. By the clocks that is seen, unless the host's was set back meanwhile;
 * and the watch comes up to 0.5 s after the restore. */
#define RETIRED_MS 1000

void restore_note_token(struct daemon *daemon)
{
	uuid_print(vchan_host_token(daemon->host), daemon->self.kept_by);
}

/* Makes everything anew that Xen knew of us by the old number. Programs and their endpoints stay, and
 * sessions that can be resumed. */
static int begin_anew(struct daemon *daemon, uint32_t domid)
{
	uint32_t was = daemon->self.domid;
	int r;

	vchan_host_renew(daemon->host);
	restore_note_token(daemon);
	links_restart(daemon->links);
	peers_stop(daemon->peers);
	self_renumber(&daemon->self, domid);
	registry_restart(daemon->registry);
	reload_restart_channels(daemon, was);
	topics_restart(daemon->topics, was);
	names_restart(daemon->names);
	access_forget_host_domains(daemon->access);
	directory_restart(daemon->directory);
	hosts_learn_own_name(daemon->hosts, (struct frame_text){.data = NULL}); /* of the old host */
	r = peers_start(daemon->peers);
	if (r < 0)
		return r;
	router_advertise(daemon->router);
	links_go_on(daemon->links);
	return 0;
}

static void on_own_leaf(void *userdata, int error, const char *value, size_t size)
{
	struct daemon *daemon = userdata;
	char path[PEERS_OWN_LEAF_SIZE];

	/* A migration may lead to the same number, but never with our nodes. */
	if (error == -ENOENT && peers_own_leaf(daemon->peers, path) && !strcmp(path, daemon->own_leaf))
		daemon->leaf_lost = true;
}

static void check_domid(struct daemon *daemon);

static void restore_fail(struct daemon *daemon)
{
	log_error("can't go on after the restore; stopping");
	daemon->failed = true;
	event_base_loopbreak(daemon->base);
}

int restore_renumber(struct daemon *daemon, uint32_t domid)
{
	log_warning("this domain was restored or migrated: it was domain %u and is domain %u",
		    daemon->self.domid, domid);
	return begin_anew(daemon, domid);
}

static void conclude_domid(struct daemon *daemon, uint32_t domid)
{
	if (domid == daemon->self.domid && !daemon->leaf_lost) {
		/* Else XenStore may have answered before a restore. */
		if (vchan_host_restores(daemon->host) != daemon->restores_at_check)
			daemon->check_domid_again = true;
		else if (daemon->stopping)
			vchan_host_note_certain(daemon->host, daemon->restores_at_check);
		else
			vchan_host_unbind_retired(
				daemon->host,
				daemon->self.domid == 0 ? UINT64_MAX : daemon->checked_since_ms - RETIRED_MS);
		return;
	}
	if (daemon->stopping) /* a keeper gets what is left */
		return;
	if (restore_renumber(daemon, domid) < 0)
		restore_fail(daemon);
}

static void on_domid_again(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct daemon *daemon = userdata;
	uint32_t domid;

	if (!error && domid_parse(untrusted_value, size, &domid))
		conclude_domid(daemon, domid);
	else if (error && error != -ENOENT) /* what was lacking may be there then */
		timer_set(daemon->retired_timer, RETRY_EACH_MS);
	daemon->checking_domid = daemon->leaf_lost = false;
	if (daemon->check_domid_again)
		check_domid(daemon);
}

/* Checks our domid, once at a time: the second check's requests come behind the writes that the first has
 * caused. */
static void check_domid(struct daemon *daemon)
{
	int r = 0;

	daemon->check_domid_again = daemon->checking_domid;
	if (daemon->checking_domid || daemon->failed)
		return;
	daemon->checking_domid = true;
	daemon->restores_at_check = vchan_host_restores(daemon->host);
	daemon->checked_since_ms = clock_ms();
	if (peers_own_leaf(daemon->peers, daemon->own_leaf))
		r = store_read(daemon->store, daemon->own_leaf, on_own_leaf, daemon, NULL);
	if (r == 0)
		r = store_read(daemon->store, "domid", on_domid_again, daemon, NULL);
	if (r == 0)
		return;
	/* Else the links would stay those of the other host. */
	daemon->checking_domid = false;
	daemon->check_domid_again = true;
	timer_set(daemon->retired_timer, RETRY_EACH_MS);
}

/* The kernel sets all watches again after a restore, and each fires. It fires when it is set, too: the number
 * may be another one by then than at the start. */
void restore_on_domid_changed(void *userdata, const char *untrusted_path)
{
	check_domid(userdata);
}

static void on_retired_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	if (!daemon->stopping)
		check_domid(daemon);
}

static void on_port_retired(void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->self.domid == 0) /* never saved */
		on_retired_timer(-1, 0, daemon);
	else if (daemon->retired_timer)
		timer_start(daemon->retired_timer, RETIRED_MS);
}

int restore_prepare(struct daemon *daemon)
{
	if (!daemon->retired_timer)
		daemon->retired_timer = evtimer_new(daemon->base, on_retired_timer, daemon);
	vchan_host_set_retired(daemon->host, on_port_retired, daemon);
	return daemon->retired_timer ? 0 : -ENOMEM;
}

bool restore_on_own_leaf_gone(void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->self.domid == 0)
		return false;
	if (!daemon->stopping)
		check_domid(daemon);
	return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

bool restore_before_stop(struct daemon *daemon)
{
	const struct timespec pause = {.tv_nsec = STOP_PAUSE_NS};
	bool hands_over = (daemon->is_handing_over && !daemon->stop_asked) || daemon->is_restarted;
	uint64_t began = clock_ms();

	daemon->stopping = true;
	if (daemon->self.domid == 0 || daemon->failed ||
	    (!daemon->is_handing_over && !vchan_host_has_ports(daemon->host)))
		return true;
	check_domid(daemon);
	while ((daemon->checking_domid || daemon->check_domid_again) &&
	       !(hands_over ? clock_ms_since(began) >= HANDOVER_ANSWER_MS
			    : store_is_too_slow(daemon->store, began))) {
		nanosleep(&pause, NULL); /* it needs no memory, as a timer would */
		/* One round: with one flag alone there are others while anybody has something to do. */
		event_base_loop(daemon->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		if (!daemon->checking_domid && daemon->check_domid_again)
			check_domid(daemon);
	}
	return !daemon->checking_domid && !daemon->check_domid_again;
}

void restore_instead_of_stop(struct daemon *daemon)
{
	daemon->stopping = false;
	check_domid(daemon);
}
