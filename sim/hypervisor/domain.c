/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <ctype.h>
#include <errno.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

static const char *const type_names[] = {[HV_DOM0] = "dom0", [HV_PVH] = "pvh", [HV_PV] = "pv"};
static const char *const state_names[] = {[HV_RUNNING] = "running",
					  [HV_PAUSED] = "paused",
					  [HV_SUSPENDED] = "suspended",
					  [HV_DYING] = "dying",
					  [HV_ZOMBIE] = "zombie"};

const char *hv_type_name(enum hv_type type)
{
	return type_names[type];
}

int hv_type_parse(const char *name, enum hv_type *type)
{
	for (enum hv_type i = HV_PVH; i <= HV_PV; i++) {
		if (strcmp(name, type_names[i]) == 0) {
			*type = i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *hv_state_name(const struct hv_domain *domain)
{
	if (domain->state == HV_PAUSED && domain->shutdown == HV_CRASH)
		return "crashed";
	return state_names[domain->state];
}

bool hv_name_is_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > 64 || strspn(name, "0123456789") == length)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

struct hv_domain *hv_domain_by_id(struct hv *hv, uint32_t domid)
{
	struct hv_domain *domain;

	HASH_FIND(hh, hv->domains, &domid, sizeof(domid), domain);
	return domain;
}

struct hv_domain *hv_domain_find(struct hv *hv, const char *what, bool suspended)
{
	struct hv_domain *domain, *next;
	char *end;
	unsigned long domid = strtoul(what, &end, 10);
	bool number = isdigit((unsigned char)what[0]) && !*end;

	if (suspended) {
		for (domain = hv->suspended; domain; domain = domain->next_suspended)
			if (number ? domain->domid == domid : strcmp(domain->name, what) == 0)
				return domain;
		return NULL;
	}
	HASH_ITER(hh, hv->domains, domain, next)
		if (domain->state != HV_ZOMBIE &&
		    (number ? domain->domid == domid : strcmp(domain->name, what) == 0))
			return domain;
	return NULL;
}

/* Life and death */

void hv_domain_free(struct hv_domain *domain)
{
	hv_grant_domid_gone(domain);
	hv_evtchn_domain_gone(domain);
	if (domain->listener)
		evconnlistener_free(domain->listener);
	if (domain->signs)
		munmap(domain->signs, sizeof(*domain->signs));
	hv_refusals_free(domain);
	free(domain->port);
	free(domain->starting);
	free(domain->name);
	free(domain->path);
	free(domain);
}

static void read_uuid(char uuid[37])
{
	FILE *file = fopen("/proc/sys/kernel/random/uuid", "re");

	if (!file || fscanf(file, "%36s", uuid) != 1)
		snprintf(uuid, 37, "00000000-0000-4000-8000-%012lx", random());
	if (file)
		fclose(file);
}

static int domain_listen(struct hv_domain *domain)
{
	char path[256];
	int r = hv_client_listen(domain);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/xenstored.sock", domain->path);
	return sim_store_listen(domain->hv->store, domain->domid, path);
}

struct hv_domain *hv_domain_new(struct hv *hv, uint32_t domid, const char *name, enum hv_type type)
{
	struct hv_domain *domain = calloc(1, sizeof(*domain));

	if (!domain)
		return NULL;
	domain->hv = hv;
	domain->domid = domid;
	domain->type = type;
	domain->shutdown = HV_NOT_SHUT_DOWN;
	domain->port_end = HV_FIRST_PORT;
	domain->port_limit = type == HV_DOM0 ? HV_DOM0_EVTCHN_LIMIT : HV_GUEST_EVTCHN_LIMIT;
	domain->name = strdup(name);
	if (domain->name && asprintf(&domain->path, "%s/dom-%u", hv->dir, domid) >= 0)
		return domain;
	free(domain->name);
	free(domain);
	return NULL;
}

/* Domain 0's programs reach the store by a socket, and not by their kernel. */
static void tell_stall(const struct hv_domain *domain)
{
	const uint32_t stalls = domain->domid != 0 && domain->hv->store_stalled;

	__atomic_store_n(&domain->signs->store_stalls, stalls, __ATOMIC_SEQ_CST);
}

void hv_stall_store(struct hv *hv, bool on)
{
	struct hv_domain *domain, *next;

	hv->store_stalled = on;
	HASH_ITER(hh, hv->domains, domain, next)
		if (domain->signs)
			tell_stall(domain);
	sim_store_stall(hv->store, on);
}

static int open_signs(struct hv_domain *domain)
{
	void *page = MAP_FAILED;
	char *path;
	int fd, r;

	if (asprintf(&path, "%s/signs", domain->path) < 0)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	free(path);
	if (fd < 0)
		return -errno;
	/* A write into a hole of a full disk is SIGBUS. */
	r = -posix_fallocate(fd, 0, sizeof(*domain->signs));
	if (r == 0)
		page = mmap(NULL, sizeof(*domain->signs), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return r < 0 ? r : -ENOMEM;
	domain->signs = page;
	tell_stall(domain);
	return 0;
}

void hv_pauses_count(struct hv_domain *domain)
{
	if (domain->signs && !domain->pauses_interrupt)
		__atomic_fetch_add(&domain->signs->pauses, 1, __ATOMIC_SEQ_CST);
}

/* Takes back what has been made of one that nobody knows yet. */
static void forget(struct hv_domain *domain, bool has_directory)
{
	sim_store_unlisten(domain->hv->store, domain->domid);
	if (has_directory)
		hv_remove_directory(domain->path);
	hv_domain_free(domain);
}

void hv_make_way(const struct hv *hv, uint32_t domid)
{
	char *path = NULL, *before = NULL;

	if (asprintf(&path, "%s/dom-%u", hv->dir, domid) < 0)
		path = NULL;
	if (path && asprintf(&before, "%s.before", path) < 0)
		before = NULL;
	if (before)
		rename(path, before);
	free(before);
	free(path);
}

/* Makes it without a home. */
static int make(struct hv *hv, uint32_t domid, const char *name, enum hv_type type, const char *uuid,
		struct hv_domain **made)
{
	struct hv_domain *domain;
	bool has_directory;
	int r;

	if (domid >= HV_FIRST_RESERVED_DOMID)
		return -ENOSPC;
	if (hv_domain_find(hv, name, false) || hv_domain_find(hv, name, true))
		return -EEXIST;
	domain = hv_domain_new(hv, domid, name, type);
	if (!domain)
		return -ENOMEM;
	if (uuid)
		snprintf(domain->uuid, sizeof(domain->uuid), "%s", uuid);
	else
		read_uuid(domain->uuid);
	hv_make_way(hv, domid);
	r = mkdir(domain->path, 0755) < 0 ? -errno : 0;
	has_directory = r == 0;
	if (r == 0)
		r = open_signs(domain);
	if (r == 0)
		r = domain_listen(domain);
	if (r < 0) {
		forget(domain, has_directory);
		return r;
	}
	*made = domain;
	return 0;
}

static void add(struct hv_domain *domain)
{
	struct hv *hv = domain->hv;

	HASH_ADD(hh, hv->domains, domid, sizeof(domain->domid), domain);
	if (domain->domid)
		hv->last_domid = domain->domid;
	hv_log(hv, "d%u: created, name %s, type %s", domain->domid, domain->name, hv_type_name(domain->type));
}

uint32_t hv_free_domid(struct hv *hv)
{
	uint32_t domid = hv->last_domid;

	do
		domid = domid + 1 < HV_FIRST_RESERVED_DOMID ? domid + 1 : 1;
	while (domid != hv->last_domid && hv_domain_by_id(hv, domid));
	return domid;
}

static int domain_create(struct hv *hv, bool dom0, uint32_t domid, const char *name, enum hv_type type,
			 const char *uuid, struct hv_domain **created)
{
	struct hv_domain *domain;
	char default_name[32];
	int r;

	if (!dom0 && !domid)
		domid = hv_free_domid(hv);
	if (hv_domain_by_id(hv, domid))
		return -EBUSY;
	snprintf(default_name, sizeof(default_name), dom0 ? "Domain-%u" : "dom%u", domid);
	r = make(hv, domid, name ? name : default_name, dom0 ? HV_DOM0 : type,
		 dom0 ? "00000000-0000-0000-0000-000000000000" : uuid, &domain);
	if (r < 0)
		return r;
	r = hv_domain_write_home(domain);
	if (r < 0) {
		hv_domain_remove_home(hv, domid, domain->uuid);
		forget(domain, true);
		return r;
	}
	add(domain);
	sim_store_introduce(hv->store, domid);
	*created = domain;
	return 0;
}

int hv_domain_create_for_libxl(struct hv *hv, uint32_t domid, enum hv_type type, const char *uuid,
			       struct hv_domain **created)
{
	struct hv_domain *domain, *next;
	int r;

	if (domid && hv_domain_by_id(hv, domid))
		return -EEXIST;
	/* By which processes are known here; Xen lets two have the same. */
	HASH_ITER(hh, hv->domains, domain, next)
		if (domain->state != HV_ZOMBIE && strcmp(domain->uuid, uuid) == 0)
			return -EEXIST;
	/* Xen knows no names. It has this one until its home has another. */
	r = make(hv, domid ? domid : hv_free_domid(hv), uuid, type, uuid, &domain);
	if (r < 0)
		return r;
	domain->is_libxls = domain->preserve = true;
	add(domain);
	hv_domain_pause(domain);
	*created = domain;
	return 0;
}

int hv_domain_create(struct hv *hv, bool dom0, uint32_t domid, const char *name, enum hv_type type,
		     struct hv_domain **domain)
{
	return domain_create(hv, dom0, domid, name, type, NULL, domain);
}

int hv_domain_create_as(struct hv *hv, const char *name, enum hv_type type, const char *uuid,
			struct hv_domain **domain)
{
	return domain_create(hv, false, 0, name, type, uuid, domain);
}

bool hv_domain_set_name(struct hv_domain *domain, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return false;
	free(domain->name);
	domain->name = copy;
	return true;
}

void hv_domain_become_zombie(struct hv_domain *domain)
{
	hv_domain_set_name(domain, "(null)");
	domain->state = HV_ZOMBIE;
	hv_domain_reap(domain);
}

void hv_domain_reap(struct hv_domain *domain)
{
	if (domain->state != HV_ZOMBIE || domain->foreign_maps || domain->hv->stopping)
		return;
	hv_log(domain->hv, "d%u: gone", domain->domid);
	HASH_DEL(domain->hv->domains, domain);
	hv_evtchn_domain_exception(domain->hv);
	hv_domain_free(domain);
}

int hv_domain_rename(struct hv_domain *domain, const char *name)
{
	if (hv_domain_find(domain->hv, name, false) || hv_domain_find(domain->hv, name, true))
		return -EEXIST;
	return hv_domain_set_name(domain, name) ? hv_domain_write_name(domain) : -ENOMEM;
}
