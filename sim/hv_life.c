/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How domains are paused and end. What a guest does itself and what the toolstack does are two things on Xen:
 *
 *	power-off, reboot	the guest ends its processes, whose peers are told; then it shuts down
 *	crash			it shuts down in the midst of everything, and nobody is told
 *	the toolstack		hears of it by @releaseDomain, and destroys the domain, or keeps it
 *	destroy			the domain is paused, its nodes in XenStore go, and then the domain itself
 *
 * So who hears that a home is gone may still find its domain, which has not even begun to die.
 */
#include "config.h"

#include "sim/hv.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* How often it is looked whether a domain's processes have ended. */
#define LOOK_MS 10
/* libxl's patience with backends, which are told to close before the home goes. */
#define BACKENDS_MS 10000

/* An end that takes its time. */
struct hv_ending {
	struct hv_domain *domain;
	enum hv_shutdown reason;
	bool shuts_down; /* the guest itself; else it is destroyed */
	bool closes;	 /* its devices */
	bool again;	 /* another domain takes its place then */
	uint32_t patience_ms, linger_ms;
	struct event *timer;
	hv_ended *done;
	void *userdata;
};

/* --- pause -------------------------------------------------------------------------------------- */

void hv_domain_pause(struct hv_domain *domain)
{
	domain->state = HV_PAUSED;
	hv_processes_signal(domain, SIGSTOP);
	sim_store_pause_domain(domain->hv->store, domain->domid, true);
}

void hv_domain_unpause(struct hv_domain *domain)
{
	hv_pauses_count(domain);
	hv_domain_go_on(domain);
}

void hv_domain_go_on(struct hv_domain *domain)
{
	domain->state = HV_RUNNING;
	domain->shutdown = HV_NOT_SHUT_DOWN;
	hv_processes_signal(domain, SIGCONT);
	sim_store_pause_domain(domain->hv->store, domain->domid, false);
}

/* --- the end of a domain ------------------------------------------------------------------------ */

static void drop_clients(struct hv_domain *domain)
{
	while (domain->clients)
		hv_client_free(domain->clients, true);
	hv_orphans_free(domain);
}

void hv_domain_remove_home(struct hv *hv, uint32_t domid, const char *uuid)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u", domid);
	sim_store_rm(hv->store, path);
	snprintf(path, sizeof(path), "/vm/%s", uuid ? uuid : "");
	if (uuid)
		sim_store_rm(hv->store, path);
	snprintf(path, sizeof(path), "/libxl/%u", domid);
	sim_store_rm(hv->store, path);
}

static void ending_free(struct hv_ending *ending)
{
	if (!ending)
		return;
	ending->domain->ending = NULL;
	if (ending->timer)
		event_free(ending->timer);
	free(ending);
}

static void finish(struct hv_ending *ending, int r, struct hv_domain *successor)
{
	hv_ended *done = ending->done;
	void *userdata = ending->userdata;

	ending_free(ending);
	if (done)
		done(r, successor, userdata);
}

/* What Xen does when the toolstack lets it destroy a domain. */
static void die(struct hv_domain *domain)
{
	struct hv *hv = domain->hv;

	/* Nothing that happens to its processes from here on shows at the other end of a channel. */
	if (domain->state == HV_SUSPENDED) {
		LL_DELETE2(hv->suspended, domain, next_suspended);
	} else {
		domain->state = HV_DYING;
	}
	hv_log(hv, "d%u: destroyed", domain->domid);
	if (domain->listener)
		evconnlistener_free(domain->listener);
	domain->listener = NULL;
	hv_processes_kill(domain);
	sim_store_unlisten(hv->store, domain->domid);
	drop_clients(domain);
	if (domain->state == HV_SUSPENDED) {
		/* Its domid has gone with the save. */
		hv_domain_free(domain);
		return;
	}
	hv_evtchn_domain_gone(domain);
	hv_grant_domid_dies(domain);
	sim_store_release(hv->store, domain->domid);
	hv_evtchn_domain_exception(hv);
	hv_domain_become_zombie(domain);
}

void hv_domain_destroy(struct hv_domain *domain)
{
	hv_saving_cancel(domain);
	if (domain->ending)
		finish(domain->ending, -ECANCELED, NULL);
	if (domain->state != HV_SUSPENDED) {
		hv_devices_close(domain->hv, domain->domid);
		hv_devices_remove(domain->hv, domain->domid);
		hv_domain_remove_home(domain->hv, domain->domid, domain->uuid);
	}
	die(domain);
}

static void schedule(struct hv_ending *ending, uint32_t milliseconds)
{
	const struct timeval time = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};

	evtimer_add(ending->timer, &time);
}

static void take_home(struct hv_ending *ending)
{
	struct hv_domain *domain = ending->domain;

	ending->closes = false;
	hv_devices_remove(domain->hv, domain->domid);
	hv_domain_remove_home(domain->hv, domain->domid, domain->uuid);
	schedule(ending, ending->linger_ms);
}

/* The first step of the toolstack's. */
static void take_devices(struct hv_ending *ending)
{
	struct hv_domain *domain = ending->domain;

	ending->shuts_down = false;
	domain->state = HV_PAUSED;
	hv_processes_stop(domain);
	hv_devices_close(domain->hv, domain->domid);
	if (!hv_devices_open(domain->hv, domain->domid)) {
		take_home(ending);
		return;
	}
	ending->closes = true;
	ending->patience_ms = BACKENDS_MS;
	schedule(ending, LOOK_MS);
}

/* What the toolstack hears of, and a guest's kernel or its crash does. Processes that are still there stop. */
static void shut_down(struct hv_domain *domain, enum hv_shutdown reason)
{
	domain->state = HV_PAUSED;
	domain->shutdown = reason;
	hv_log(domain->hv, "d%u: shut down, for the reason %d", domain->domid, (int)reason);
	sim_store_tell_of_release(domain->hv->store);
	hv_evtchn_domain_exception(domain->hv);
}

static void take_domain(struct hv_ending *ending)
{
	struct hv_domain *domain = ending->domain, *successor = NULL;
	struct hv *hv = domain->hv;
	enum hv_type type = domain->type;
	char *name = ending->again ? strdup(domain->name) : NULL, uuid[37];
	bool preserve = domain->preserve;
	int r = 0;

	memcpy(uuid, domain->uuid, sizeof(uuid));
	domain->ending = NULL;
	die(domain); /* it may have been freed */
	if (name) {
		r = hv_domain_create_as(hv, name, type, uuid, &successor);
		if (r == 0)
			successor->preserve = preserve;
	}
	free(name);
	event_free(ending->timer);
	if (ending->done)
		ending->done(r, successor, ending->userdata);
	free(ending);
}

static void on_timer(evutil_socket_t fd, short events, void *userdata)
{
	struct hv_ending *ending = userdata;
	struct hv_domain *domain = ending->domain;
	pid_t *pids;
	size_t count;

	if (ending->closes && ending->patience_ms >= LOOK_MS && hv_devices_open(domain->hv, domain->domid)) {
		ending->patience_ms -= LOOK_MS;
		schedule(ending, LOOK_MS);
		return;
	}
	if (ending->closes) {
		take_home(ending);
		return;
	}
	if (!ending->shuts_down) {
		take_domain(ending);
		return;
	}
	count = hv_processes(domain, &pids);
	if (count && ending->patience_ms < LOOK_MS)
		for (size_t i = 0; i < count; i++)
			kill(pids[i], SIGKILL);
	free(pids);
	/* Their connections have ended before, but the ends may still wait to be read. */
	if (count || domain->clients) {
		ending->patience_ms -= ending->patience_ms < LOOK_MS ? ending->patience_ms : LOOK_MS;
		hv_clients_drain(domain);
		schedule(ending, LOOK_MS);
		return;
	}
	shut_down(domain, ending->reason);
	if (domain->preserve && !ending->again)
		finish(ending, 0, NULL);
	else
		take_devices(ending);
}

static struct hv_ending *ending_new(struct hv_domain *domain, hv_ended *done, void *userdata)
{
	struct hv_ending *ending = domain->ending ? NULL : calloc(1, sizeof(*ending));

	if (!ending)
		return NULL;
	ending->domain = domain;
	ending->linger_ms = HV_LINGER_MS;
	ending->done = done;
	ending->userdata = userdata;
	ending->timer = evtimer_new(domain->hv->base, on_timer, ending);
	domain->ending = ending;
	if (ending->timer)
		return ending;
	ending_free(ending);
	return NULL;
}

int hv_domain_begin_destroy(struct hv_domain *domain, uint32_t linger_ms, hv_ended *done, void *userdata)
{
	struct hv_ending *ending;

	hv_saving_cancel(domain);
	/* Who destroys doesn't wait for a guest that shuts down. */
	if (domain->ending && domain->ending->shuts_down)
		finish(domain->ending, -ECANCELED, NULL);
	ending = ending_new(domain, done, userdata);
	if (!ending)
		return domain->ending ? -EBUSY : -ENOMEM;
	ending->linger_ms = linger_ms;
	if (domain->state == HV_SUSPENDED)
		schedule(ending, 0);
	else
		take_devices(ending);
	return 0;
}

int hv_domain_shut_down(struct hv_domain *domain, enum hv_shutdown reason, uint32_t patience_ms,
			hv_ended *done, void *userdata)
{
	struct hv_ending *ending = ending_new(domain, done, userdata);

	if (!ending)
		return domain->ending ? -EBUSY : -ENOMEM;
	ending->reason = reason;
	ending->shuts_down = true;
	ending->again = reason == HV_REBOOT;
	ending->patience_ms = patience_ms;
	hv_domain_write_shutdown(domain, reason == HV_REBOOT ? "reboot" : "poweroff");
	hv_processes_signal(domain, SIGTERM);
	schedule(ending, LOOK_MS);
	return 0;
}

int hv_domain_crash(struct hv_domain *domain, hv_ended *done, void *userdata)
{
	struct hv_ending *ending = ending_new(domain, done, userdata);

	if (!ending)
		return domain->ending ? -EBUSY : -ENOMEM;
	hv_saving_cancel(domain);
	hv_processes_stop(domain);
	shut_down(domain, HV_CRASH);
	if (domain->preserve)
		finish(ending, 0, NULL);
	else
		take_devices(ending);
	return 0;
}

void hv_domains_free(struct hv *hv)
{
	struct hv_domain *domain, *next;

	hv->stopping = true;
	HASH_ITER(hh, hv->domains, domain, next) {
		hv_saving_cancel(domain);
		if (domain->ending)
			finish(domain->ending, -ECANCELED, NULL);
	}
	while (hv->suspended)
		hv_domain_destroy(hv->suspended);
	hv_processes_kill_all(hv);
	HASH_ITER(hh, hv->domains, domain, next) {
		if (domain->state != HV_ZOMBIE)
			domain->state = HV_DYING;
		drop_clients(domain);
	}
	HASH_ITER(hh, hv->domains, domain, next) {
		HASH_DEL(hv->domains, domain);
		hv_domain_free(domain);
	}
}
