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

#include "sim/hypervisor/hv_internal.h"

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
	bool told;	 /* by control/shutdown, which its kernel hasn't acknowledged yet */
	bool closes;	 /* its devices */
	bool again;	 /* another domain takes its place then */
	uint32_t patience_ms, linger_ms;
	struct event *timer;
	hv_ended *done;
	void *userdata;
};

static void obey(struct hv_domain *domain);

/* --- pause -------------------------------------------------------------------------------------- */

/* Xen's, for one domain. */
#define MOST_PAUSES 255u

static void life_stop(struct hv_domain *domain)
{
	domain->state = HV_PAUSED;
	hv_processes_signal(domain, SIGSTOP);
	sim_store_pause_domain(domain->hv->store, domain->domid, true);
}

void hv_domain_pause(struct hv_domain *domain)
{
	if (!domain->paused_times)
		domain->paused_times = 1;
	life_stop(domain);
}

void hv_domain_unpause(struct hv_domain *domain)
{
	domain->paused_times = 0;
	hv_pauses_count(domain);
	hv_domain_go_on(domain);
}

/* Whether only pauses decide if the domain runs: else it is being saved, has shut down or ends. */
static bool lives(const struct hv_domain *domain)
{
	return (domain->state == HV_RUNNING || domain->state == HV_PAUSED) &&
	       domain->shutdown == HV_NOT_SHUT_DOWN && (!domain->ending || domain->ending->shuts_down);
}

int hv_domain_count_pause(struct hv_domain *domain, bool pause)
{
	if (pause && domain->paused_times == MOST_PAUSES)
		return -ERANGE;
	if (!pause && domain->paused_times == 0)
		return -EINVAL;
	domain->paused_times += pause ? 1 : UINT32_MAX;
	if (!lives(domain))
		return 0;
	if (pause && domain->paused_times == 1)
		life_stop(domain);
	else if (!pause && domain->paused_times == 0)
		hv_domain_unpause(domain);
	return 0;
}

void hv_domain_go_on(struct hv_domain *domain)
{
	domain->shutdown = HV_NOT_SHUT_DOWN;
	/* A save doesn't end a pause. */
	if (domain->paused_times)
		return;
	domain->state = HV_RUNNING;
	hv_processes_signal(domain, SIGCONT);
	sim_store_pause_domain(domain->hv->store, domain->domid, false);
	obey(domain);
}

/* --- the end of a domain ------------------------------------------------------------------------ */

static void drop_clients(struct hv_domain *domain)
{
	while (domain->clients)
		hv_client_free(domain->clients, true);
	hv_orphans_free(domain);
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

static void life_finish(struct hv_ending *ending, int r, struct hv_domain *successor)
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

static void stop_what_is_under_way(struct hv_domain *domain)
{
	hv_saving_cancel(domain);
	if (domain->ending)
		life_finish(domain->ending, -ECANCELED, NULL);
}

void hv_domain_die(struct hv_domain *domain)
{
	stop_what_is_under_way(domain);
	if (domain->state != HV_ZOMBIE)
		die(domain);
}

static void destroy(struct hv_domain *domain)
{
	stop_what_is_under_way(domain);
	if (domain->state != HV_SUSPENDED) {
		hv_devices_close(domain->hv, domain->domid);
		hv_devices_remove(domain->hv, domain->domid);
		hv_domain_remove_home(domain->hv, domain->domid, domain->uuid);
	}
	die(domain);
}

static void take_home(struct hv_ending *ending)
{
	struct hv_domain *domain = ending->domain;

	ending->closes = false;
	hv_devices_remove(domain->hv, domain->domid);
	hv_domain_remove_home(domain->hv, domain->domid, domain->uuid);
	hv_timer_set(ending->timer, ending->linger_ms);
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
	hv_timer_set(ending->timer, LOOK_MS);
}

/* What the toolstack hears of, and a guest's kernel or its crash does. Processes that are still there
 * stop. */
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

static void life_on_timer(evutil_socket_t fd, short events, void *userdata)
{
	struct hv_ending *ending = userdata;
	struct hv_domain *domain = ending->domain;
	pid_t *pids;
	size_t count;

	if (ending->closes && ending->patience_ms >= LOOK_MS && hv_devices_open(domain->hv, domain->domid)) {
		ending->patience_ms -= LOOK_MS;
		hv_timer_set(ending->timer, LOOK_MS);
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
	if (ending->told)
		hv_domain_write_shutdown(domain, "");
	ending->told = false;
	count = hv_processes(domain, &pids);
	if (count && ending->patience_ms < LOOK_MS)
		for (size_t i = 0; i < count; i++)
			kill(pids[i], SIGKILL);
	free(pids);
	/* Their connections have ended before, but the ends may still wait to be read. */
	if (count || domain->clients) {
		ending->patience_ms -= ending->patience_ms < LOOK_MS ? ending->patience_ms : LOOK_MS;
		hv_clients_drain(domain);
		hv_timer_set(ending->timer, LOOK_MS);
		return;
	}
	shut_down(domain, ending->reason);
	if (domain->preserve && !ending->again)
		life_finish(ending, 0, NULL);
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
	ending->timer = evtimer_new(domain->hv->base, life_on_timer, ending);
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
	/* To destroy doesn't wait for a guest that shuts down. */
	if (domain->ending && domain->ending->shuts_down)
		life_finish(domain->ending, -ECANCELED, NULL);
	ending = ending_new(domain, done, userdata);
	if (!ending)
		return domain->ending ? -EBUSY : -ENOMEM;
	ending->linger_ms = linger_ms;
	if (domain->state == HV_SUSPENDED)
		hv_timer_set(ending->timer, 0);
	else
		take_devices(ending);
	return 0;
}

/* The guest's kernel has been told by control/shutdown. */
static int begin_to_shut_down(struct hv_domain *domain, enum hv_shutdown reason, uint32_t patience_ms,
			      hv_ended *done, void *userdata)
{
	struct hv_ending *ending = ending_new(domain, done, userdata);

	if (!ending)
		return domain->ending ? -EBUSY : -ENOMEM;
	ending->reason = reason;
	ending->shuts_down = ending->told = true;
	ending->again = reason == HV_REBOOT && !domain->is_libxls;
	ending->patience_ms = patience_ms;
	hv_processes_signal(domain, SIGTERM);
	hv_timer_set(ending->timer, LOOK_MS);
	return 0;
}

int hv_domain_shut_down(struct hv_domain *domain, enum hv_shutdown reason, uint32_t patience_ms,
			hv_ended *done, void *userdata)
{
	int r = begin_to_shut_down(domain, reason, patience_ms, done, userdata);

	if (r == 0)
		hv_domain_write_shutdown(domain, reason == HV_REBOOT ? "reboot" : "poweroff");
	return r;
}

int hv_domain_shut_down_at_once(struct hv_domain *domain, enum hv_shutdown reason, hv_ended *done,
				void *userdata)
{
	struct hv_ending *ending = ending_new(domain, done, userdata);

	if (!ending)
		return domain->ending ? -EBUSY : -ENOMEM;
	hv_saving_cancel(domain);
	hv_processes_stop(domain);
	shut_down(domain, reason);
	ending->again = reason == HV_REBOOT && !domain->is_libxls;
	if ((domain->preserve && !ending->again) || reason == HV_SUSPEND)
		life_finish(ending, 0, NULL);
	else
		take_devices(ending);
	return 0;
}

void hv_domain_shuts_down(struct hv_domain *domain, enum hv_shutdown reason)
{
	if (domain->state == HV_ZOMBIE || domain->shutdown != HV_NOT_SHUT_DOWN)
		return;
	if (domain->ending && domain->ending->shuts_down)
		life_finish(domain->ending, -ECANCELED, NULL);
	if (hv_domain_shut_down_at_once(domain, reason, NULL, NULL) == -ENOMEM)
		hv_log(domain->hv, "d%u: no memory to shut it down", domain->domid);
}

/* What a guest's kernel does when control/shutdown says so, whichever domain has written that. */
static void obey(struct hv_domain *domain)
{
	char path[64], value[16];

	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", domain->domid);
	if (domain->type == HV_DOM0 || domain->state != HV_RUNNING || domain->ending ||
	    sim_store_read(domain->hv->store, path, value, sizeof(value)) < 0)
		return;
	if (domain->saving) {
		if (strcmp(value, "suspend") == 0)
			hv_libxl_save_told(domain);
		return;
	}
	if (strcmp(value, "poweroff") == 0 || strcmp(value, "halt") == 0)
		begin_to_shut_down(domain, HV_POWER_OFF, HV_PATIENCE_MS, NULL, NULL);
	else if (strcmp(value, "reboot") == 0)
		begin_to_shut_down(domain, HV_REBOOT, HV_PATIENCE_MS, NULL, NULL);
}

/* A domain's name is what XenStore says. */
static void take_name(struct hv_domain *domain)
{
	char path[64], value[80];

	snprintf(path, sizeof(path), "/local/domain/%u/name", domain->domid);
	if (domain->state == HV_ZOMBIE || sim_store_read(domain->hv->store, path, value, sizeof(value)) < 0 ||
	    !hv_name_is_valid(value) || strcmp(value, domain->name) == 0)
		return;
	hv_domain_set_name(domain, value);
}

void hv_domains_hear(const char *path, void *userdata)
{
	static const char homes[] = "/local/domain/";
	struct hv_domain *domain;
	unsigned long domid;
	char *rest;

	if (strncmp(path, homes, sizeof(homes) - 1) != 0)
		return;
	domid = strtoul(path + sizeof(homes) - 1, &rest, 10);
	if (strcmp(rest, "/control/shutdown") != 0 && strcmp(rest, "/name") != 0 &&
	    strcmp(rest, "/console/port") != 0)
		return;
	domain = domid < HV_FIRST_RESERVED_DOMID ? hv_domain_by_id(userdata, (uint32_t)domid) : NULL;
	if (domain && strcmp(rest, "/name") == 0)
		take_name(domain);
	else if (domain && strcmp(rest, "/console/port") == 0)
		hv_console_appears(domain);
	else if (domain)
		obey(domain);
}

void hv_domains_free(struct hv *hv)
{
	struct hv_domain *domain, *next;

	hv->stopping = true;
	HASH_ITER(hh, hv->domains, domain, next) {
		hv_saving_cancel(domain);
		if (domain->ending)
			life_finish(domain->ending, -ECANCELED, NULL);
	}
	while (hv->suspended)
		destroy(hv->suspended);
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
