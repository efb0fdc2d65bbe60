/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Saves, checkpoints, migrations and restores, as a toolstack carries them out and a guest's programs and
 * peers see them:
 *
 *	save        notice ─► stop ─► copying ─► the domid dies;  restore: another domid, the processes go on
 *	checkpoint  notice ─► stop ─► as long as copying would take ─► the processes go on
 *	migration   copying ─► notice ─► stop ─► another domid, the processes go on ─► the old domid dies
 *
 *	libxl's     as a save, or as a checkpoint, and libxl says when each part comes (libxl.c)
 *
 * Notice: the toolstack writes control/shutdown = suspend, and the guest's kernel acknowledges that by an
 * empty value when half of the time is over. The host goes on with everything else meanwhile.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>

/* From the notice that libxl has written to the stop. */
#define LIBXL_NOTICE_MS 20u

enum step { COPY, NOTICE, AWAIT_NOTICE, ACKNOWLEDGE, STOP, AWAIT_END, END };

/* What each kind does, one after the other. */
static const enum step orders[][5] = {
	[HV_SAVE] = {NOTICE, ACKNOWLEDGE, STOP, COPY, END},
	[HV_CHECKPOINT] = {NOTICE, ACKNOWLEDGE, STOP, COPY, END},
	[HV_MIGRATION] = {COPY, NOTICE, ACKNOWLEDGE, STOP, END},
	[HV_LIBXLS] = {AWAIT_NOTICE, ACKNOWLEDGE, STOP, AWAIT_END, END},
};

struct hv_saving {
	struct hv_domain *domain;
	enum hv_save_kind kind;
	struct hv_save_options save;
	struct hv_restore_options restore;
	unsigned next;			/* in the order */
	uint32_t moment;		/* of copying */
	const struct hv_client *client; /* who saves by libxl, as long as it has to */
	bool is_written;
	struct event *timer;
	hv_saved *done;
	void *userdata;
};

static void saving_free(struct hv_saving *saving)
{
	saving->domain->saving = NULL;
	if (saving->timer)
		event_free(saving->timer);
	free(saving);
}

static void save_finish(struct hv_saving *saving, int r)
{
	struct hv_domain *domain = saving->domain;
	hv_saved *done = saving->done;
	void *userdata = saving->userdata;

	hv_grant_copy_end(domain);
	saving_free(saving);
	done(domain, r, userdata);
}

void hv_saving_cancel(struct hv_domain *domain)
{
	if (domain->saving)
		save_finish(domain->saving, -ECANCELED);
}

/* --- the way into the image ------------------------------------------------------------------- */

/* Lets the domain go on where it was stopped. */
static void go_on(struct hv_domain *domain, const struct hv_restore_options *options)
{
	struct hv_client *client;

	domain->restores++;
	DL_FOREACH(domain->clients, client)
		hv_process_restored(client->pid,
				    SIM_RESTORE(1 + domain->restores % 3, true, options->clock_ms));
	hv_domain_go_on(domain);
}

void hv_domain_write_shutdown(const struct hv_domain *domain, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", domain->domid);
	sim_store_write(domain->hv->store, path, value, NULL, 0);
}

static void save_stop(struct hv_domain *domain, bool goes_on)
{
	domain->state = HV_PAUSED;
	hv_processes_stop(domain);
	hv_clients_drain(domain);
	if (!goes_on)
		sim_store_save_domain(domain->hv->store, domain->domid, true);
	/* Its kernel has shut down, with a reason of its own. */
	domain->shutdown = HV_SUSPEND;
	sim_store_tell_of_release(domain->hv->store);
	hv_evtchn_domain_exception(domain->hv);
	hv_log(domain->hv, "d%u: stopped to be saved", domain->domid);
}

static int copy(struct hv_saving *saving)
{
	int r = 0;

	if (saving->kind == HV_CHECKPOINT)
		return 0;
	if (saving->moment == 0)
		r = hv_grant_copy_begin(saving->domain, saving->save.seed);
	return r ? r : hv_grant_copy(saving->domain, saving->moment);
}

/* Takes the domain's processes off its domid, whose grants stay with the zombie that is made of it. */
static int leave_domid(struct hv_domain *domain, bool live, struct hv_domain **left)
{
	struct hv *hv = domain->hv;
	struct hv_domain *zombie = hv_domain_new(hv, domain->domid, "(null)", domain->type);
	struct hv_client *client;
	int r = zombie ? hv_grant_make_image(domain, live) : -ENOMEM;

	if (r < 0) {
		if (zombie)
			hv_domain_free(zombie);
		return r;
	}
	DL_FOREACH(domain->clients, client) {
		unsigned pages = hv_grant_drop_mappings(client);

		/* Tried with kernel 6.1: gntdev crashes at resume, whatever the process does. */
		if (pages && domain->type == HV_PV)
			hv_kernel_log(domain, "oops: process %d mapped %u pages when its PV domain was saved",
				      (int)client->pid, pages);
		client->lost_mappings = pages != 0;
	}
	hv_evtchn_domain_gone(domain);
	HASH_DEL(hv->domains, domain);
	domain->state = HV_SUSPENDED;
	LL_PREPEND2(hv->suspended, domain, next_suspended);
	hv_log(hv, "d%u: saved", domain->domid);

	/* The domid dies as in a destroy, while others may map its pages. */
	hv_grant_domid_dies(domain);
	hv_grant_move(domain, zombie);
	HASH_ADD(hh, hv->domains, domid, sizeof(zombie->domid), zombie);
	*left = zombie;
	return 0;
}

static int end_save(struct hv_domain *domain)
{
	struct hv_domain *zombie;
	int r = leave_domid(domain, false, &zombie);

	if (r < 0)
		return r;
	hv_domain_remove_home(domain->hv, domain->domid, domain->uuid);
	sim_store_release(domain->hv->store, domain->domid);
	hv_domain_become_zombie(zombie);
	return 0;
}

/* The toolstack starts the new domain before it destroys the old one; both have the UUID. */
static int end_migration(struct hv_domain *domain, const struct hv_restore_options *options)
{
	struct hv_domain *zombie;
	int r = leave_domid(domain, true, &zombie);

	if (r < 0)
		return r;
	r = hv_domain_resume(domain, options);
	hv_domain_remove_home(domain->hv, zombie->domid, r < 0 ? domain->uuid : NULL);
	hv_domain_remove_config(domain->hv, zombie->domid, domain->uuid);
	sim_store_release(domain->hv->store, zombie->domid);
	hv_domain_become_zombie(zombie);
	return r;
}

static int end(struct hv_saving *saving)
{
	switch (saving->kind) {
	case HV_SAVE:
		return end_save(saving->domain);
	case HV_MIGRATION:
		return end_migration(saving->domain, &saving->restore);
	case HV_LIBXLS:
	case HV_CHECKPOINT:
	default:
		go_on(saving->domain, &saving->restore);
		return 0;
	}
}

/* The order goes on when somebody says so. */
#define AWAITS INT64_MAX

/* Does what comes next. Returns after how many milliseconds to do what follows, or a negative errno. */
static int64_t do_step(struct hv_saving *saving)
{
	enum step step = orders[saving->kind][saving->next];
	int r;

	if (step == COPY && saving->save.stale_ms) {
		r = copy(saving);
		if (++saving->moment == HV_MOMENTS)
			saving->next++;
		if (r < 0)
			return r;
		return saving->moment < HV_MOMENTS ? saving->save.stale_ms / (HV_MOMENTS - 1) : 0;
	}
	if (step == AWAIT_NOTICE || step == AWAIT_END)
		return AWAITS;
	saving->next++;
	switch (step) {
	case NOTICE:
		if (saving->save.notice_ms)
			hv_domain_write_shutdown(saving->domain, "suspend");
		return saving->save.notice_ms / 2;
	case ACKNOWLEDGE:
		if (saving->save.notice_ms)
			hv_domain_write_shutdown(saving->domain, "");
		return saving->save.notice_ms - saving->save.notice_ms / 2;
	case STOP:
		save_stop(saving->domain, saving->kind == HV_CHECKPOINT);
		return 0;
	case COPY:
	case END:
	default:
		return 0;
	}
}

static void save_on_timer(evutil_socket_t fd, short events, void *userdata)
{
	struct hv_saving *saving = userdata;
	struct hv_domain *domain = saving->domain;
	int64_t wait = 0;
	int r;

	while (wait == 0 && orders[saving->kind][saving->next] != END)
		wait = do_step(saving);
	if (wait == AWAITS)
		return;
	if (wait > 0) {
		hv_timer_set(saving->timer, (uint32_t)wait);
		return;
	}
	r = wait < 0 ? (int)wait : end(saving);
	/* A save that fails leaves the domain as it was. */
	if (r < 0 && domain->state == HV_PAUSED) {
		sim_store_save_domain(domain->hv->store, domain->domid, false);
		hv_domain_go_on(domain);
	}
	save_finish(saving, r);
}

int hv_domain_save(struct hv_domain *domain, enum hv_save_kind kind, const struct hv_save_options *save,
		   const struct hv_restore_options *restore, hv_saved *done, void *userdata)
{
	struct hv_saving *saving = calloc(1, sizeof(*saving));

	if (saving)
		saving->timer = evtimer_new(domain->hv->base, save_on_timer, saving);
	if (!saving || !saving->timer) {
		free(saving);
		return -ENOMEM;
	}
	saving->domain = domain;
	saving->kind = kind;
	saving->save = *save;
	saving->restore = *restore;
	saving->done = done;
	saving->userdata = userdata;
	domain->saving = saving;
	hv_timer_set(saving->timer, 0);
	return 0;
}

static bool awaits(const struct hv_domain *domain, enum step step)
{
	const struct hv_saving *saving = domain->saving;

	return saving && saving->kind == HV_LIBXLS && orders[HV_LIBXLS][saving->next] == step;
}

static void ignore(struct hv_domain *domain, int r, void *userdata)
{
}

int hv_libxl_save_begin(struct hv_client *client, struct hv_domain *domain)
{
	const struct hv_save_options save = {.notice_ms = LIBXL_NOTICE_MS};
	const struct hv_restore_options restore = {0};
	int r;

	if (domain->type == HV_DOM0 || domain->state != HV_RUNNING || domain->saving || domain->ending)
		return -EBUSY;
	r = hv_domain_save(domain, HV_LIBXLS, &save, &restore, ignore, NULL);
	if (r == 0)
		domain->saving->client = client;
	return r;
}

void hv_libxl_save_told(struct hv_domain *domain)
{
	if (!awaits(domain, AWAIT_NOTICE))
		return;
	domain->saving->next++;
	hv_timer_set(domain->saving->timer, LIBXL_NOTICE_MS / 2);
}

int hv_libxl_save_written(struct hv_domain *domain)
{
	if (!awaits(domain, AWAIT_END))
		return -EINVAL;
	domain->saving->is_written = true;
	domain->saving->client = NULL;
	return 0;
}

bool hv_libxl_save_is_written(const struct hv_domain *domain)
{
	return awaits(domain, AWAIT_END) && domain->saving->is_written;
}

int hv_libxl_save_end(struct hv_domain *domain)
{
	int r = end_save(domain);

	save_finish(domain->saving, r);
	return r;
}

int hv_libxl_save_resume(struct hv_domain *domain)
{
	if (!awaits(domain, AWAIT_END))
		return -EINVAL;
	sim_store_save_domain(domain->hv->store, domain->domid, false);
	go_on(domain, &domain->saving->restore);
	save_finish(domain->saving, 0);
	return 0;
}

void hv_libxl_save_abandon(const struct hv_client *client)
{
	struct hv_domain *domain, *next;

	HASH_ITER(hh, client->domain->hv->domains, domain, next) {
		if (!domain->saving || domain->saving->client != client)
			continue;
		domain->saving->client = NULL;
		/* Once it has suspended it waits for libxl, as on Xen. */
		if (!awaits(domain, AWAIT_END))
			hv_saving_cancel(domain);
	}
}

/* --- and out of it ---------------------------------------------------------------------------- */

/* Lets the new number lead to the domain's directory, too. It isn't renamed: processes keep the paths that
 * they were started with, and a chain of links, one for each number, would be too long for the kernel one
 * day. */
static int name_directory(const struct hv_domain *domain, uint32_t domid)
{
	char *path;
	int r;

	if (asprintf(&path, "%s/dom-%u", domain->hv->dir, domid) < 0)
		return -ENOMEM;
	hv_make_way(domain->hv, domid);
	r = symlink(strrchr(domain->path, '/') + 1, path) < 0 ? -errno : 0;
	free(path);
	return r;
}

static void on_silence_over(evutil_socket_t fd, short events, void *userdata)
{
	struct hv *hv = userdata;

	if (!hv->store_stalled)
		sim_store_stall(hv->store, false);
}

/* Silences XenStore, so that the processes run on before any watch fires. One xenstored serves all domains,
 * so it is silent to all. */
static void be_silent(struct hv *hv, uint32_t milliseconds)
{
	if (!hv->silence)
		hv->silence = evtimer_new(hv->base, on_silence_over, hv);
	if (!hv->silence || !milliseconds)
		return;
	sim_store_stall(hv->store, true);
	hv_timer_set(hv->silence, milliseconds);
}

static void take_domid(struct hv_domain *domain, uint32_t domid)
{
	struct hv *hv = domain->hv;

	LL_DELETE2(hv->suspended, domain, next_suspended);
	domain->next_suspended = NULL;
	domain->domid = domid;
	domain->state = HV_RUNNING;
	domain->shutdown = HV_NOT_SHUT_DOWN;
	domain->paused_times = 0;
	HASH_ADD(hh, hv->domains, domid, sizeof(domain->domid), domain);
}

static void tell_processes(struct hv_domain *domain, const struct hv_restore_options *options)
{
	struct hv_client *client, *next;

	domain->restores++;
	DL_FOREACH_SAFE(domain->clients, client, next) {
		if (client->lost_mappings && domain->type == HV_PV)
			kill(client->pid, SIGKILL);
		else
			hv_process_restored(client->pid,
					    SIM_RESTORE(1 + domain->restores % 3, false, options->clock_ms));
		client->lost_mappings = false;
	}
}

int hv_domain_resume(struct hv_domain *domain, const struct hv_restore_options *options)
{
	struct hv *hv = domain->hv;
	uint32_t old_domid = domain->domid, domid = options->same_domid ? old_domid : hv_free_domid(hv);
	int r;

	if (hv_domain_by_id(hv, domid))
		return -EEXIST;
	r = domid == old_domid ? 0 : name_directory(domain, domid);
	if (r < 0)
		return r;
	if (domid != old_domid)
		hv->last_domid = domid;
	take_domid(domain, domid);
	/* The restoring side looks after it. */
	if (domain->is_libxls)
		domain->is_libxls = domain->preserve = false;
	be_silent(hv, options->unaware_ms);
	r = hv_domain_write_home(domain);
	sim_store_introduce(hv->store, domid);
	if (r == 0)
		r = sim_store_rename_domain(hv->store, old_domid, domid);
	hv_log(hv, "d%u: restored, was d%u", domid, old_domid);

	tell_processes(domain, options);
	hv_processes_signal(domain, SIGCONT);
	return r;
}

int hv_domain_resume_in_place(struct hv_domain *domain, struct hv_domain *place)
{
	const struct hv_restore_options options = {.clock_ms = HV_CLOCK_MS};
	struct hv *hv = domain->hv;
	uint32_t old_domid = domain->domid, domid = place->domid;
	int r;

	/* Its sockets go before the same paths lead to the other one's. */
	sim_store_unlisten(hv->store, domid);
	hv_remove_directory(place->path);
	r = name_directory(domain, domid);
	if (r < 0)
		return r;
	HASH_DEL(hv->domains, place);
	hv_domain_free(place);
	take_domid(domain, domid);
	domain->is_libxls = domain->preserve = true;
	domain->kernels_ports = HV_KERNELS_PORTS;
	r = sim_store_rename_domain(hv->store, old_domid, domid);
	hv_log(hv, "d%u: restored, was d%u", domid, old_domid);
	hv_domain_pause(domain);
	tell_processes(domain, &options);
	return r;
}
