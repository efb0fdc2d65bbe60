/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/hv.h"

#include <ctype.h>
#include <errno.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

static const char *const type_names[] = {[HV_DOM0] = "dom0", [HV_PVH] = "pvh", [HV_PV] = "pv"};
/* What Linux says in /sys/hypervisor/guest_type; dom0 is a PV guest to it. */
static const char *const guest_types[] = {[HV_DOM0] = "PV", [HV_PVH] = "PVH", [HV_PV] = "PV"};
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

const char *hv_state_name(enum hv_state state)
{
	return state_names[state];
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

/* Files that a kernel shows to its programs. */

static int write_file(const struct hv_domain *domain, const char *name, mode_t mode, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int make_directories(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST) {
			*slash = '/';
			return -errno;
		}
		*slash = '/';
	}
	return 0;
}

static int write_file(const struct hv_domain *domain, const char *name, mode_t mode, const char *format, ...)
{
	char *path = NULL;
	va_list arguments;
	int fd = -1, r;

	if (asprintf(&path, "%s/root/%s", domain->path, name) < 0)
		return -ENOMEM;
	r = make_directories(path);
	if (r == 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
		if (fd < 0)
			r = -errno;
	}
	if (r == 0) {
		va_start(arguments, format);
		if (vdprintf(fd, format, arguments) < 0)
			r = -EIO;
		va_end(arguments);
		close(fd);
	}
	free(path);
	return r;
}

/* Makes a directory like an empty /run, for what a daemon makes there. */
static int make_run(const struct hv_domain *domain)
{
	char *path = NULL;
	int r;

	if (asprintf(&path, "%s/root/run/", domain->path) < 0)
		return -ENOMEM;
	r = make_directories(path);
	free(path);
	return r;
}

static int write_files(const struct hv_domain *domain)
{
	static const char *const devices[] = {"evtchn", "gntdev", "gntalloc", "privcmd", "xenbus"};
	bool dom0 = domain->type == HV_DOM0;
	int r = write_file(domain, "sys/hypervisor/type", 0444, "xen\n");

	if (r == 0)
		r = write_file(domain, "sys/hypervisor/guest_type", 0444, "%s\n", guest_types[domain->type]);
	if (r == 0)
		r = write_file(domain, "sys/hypervisor/uuid", 0444, "%s\n", domain->uuid);
	if (r == 0)
		r = write_file(domain, "sys/hypervisor/version/major", 0444, "4\n");
	if (r == 0)
		r = write_file(domain, "sys/hypervisor/version/minor", 0444, "17\n");
	if (r == 0)
		r = write_file(domain, "sys/hypervisor/version/extra", 0444, ".7-xensim\n");
	/* Bit 11 says that this domain runs the host. */
	if (r == 0)
		r = write_file(domain, "sys/hypervisor/properties/features", 0444, "%08x\n",
			       dom0 ? 0x800u : 0u);
	if (r == 0)
		r = write_file(domain, "proc/xen/capabilities", 0444, "%s", dom0 ? "control_d\n" : "");
	if (r == 0)
		r = write_file(domain, "sys/module/xen_gntalloc/parameters/limit", 0644, "%u\n",
			       HV_GRANT_LIMIT);
	if (r == 0)
		r = write_file(domain, "sys/module/xen_privcmd/parameters/unrestricted", 0644, "N\n");
	for (size_t i = 0; r == 0 && i < sizeof(devices) / sizeof(devices[0]); i++) {
		char name[32];

		snprintf(name, sizeof(name), "dev/xen/%s", devices[i]);
		r = write_file(domain, name, 0600, "%s", "");
	}
	if (r == 0)
		r = make_run(domain);
	return r;
}

/* The home in XenStore, as the toolstack makes it. */

static int write_node(struct hv_domain *domain, const char *base, const char *name, const char *value,
		      bool guest_owns)
{
	const struct sim_perm read_only[] = {{0, SIM_PERM_NONE}, {domain->domid, SIM_PERM_READ}};
	const struct sim_perm owned[] = {{domain->domid, SIM_PERM_NONE}};
	char path[256];

	snprintf(path, sizeof(path), "%s%s%s", base, name[0] ? "/" : "", name);
	return sim_store_write(domain->hv->store, path, value, guest_owns ? owned : read_only,
			       guest_owns ? 1 : 2);
}

int hv_domain_write_home(struct hv_domain *domain)
{
	static const char *const owned[] = {"data", "drivers", "feature",
					    "attr", "error",   "control/shutdown"};
	char base[64], vm[64], domid[16];
	int r;

	snprintf(base, sizeof(base), "/local/domain/%u", domain->domid);
	snprintf(vm, sizeof(vm), "/vm/%s", domain->uuid);
	snprintf(domid, sizeof(domid), "%u", domain->domid);
	if (domain->type == HV_DOM0) {
		char path[80];

		snprintf(path, sizeof(path), "%s/name", base);
		r = sim_store_write(domain->hv->store, path, domain->name, NULL, 0);
		snprintf(path, sizeof(path), "%s/domid", base);
		return r ? r : sim_store_write(domain->hv->store, path, domid, NULL, 0);
	}
	r = write_node(domain, vm, "", "", false);
	if (r == 0)
		r = write_node(domain, vm, "name", domain->name, false);
	if (r == 0)
		r = write_node(domain, vm, "uuid", domain->uuid, false);
	if (r == 0)
		r = write_node(domain, base, "", "", false);
	if (r == 0)
		r = write_node(domain, base, "vm", vm, false);
	if (r == 0)
		r = write_node(domain, base, "name", domain->name, false);
	if (r == 0)
		r = write_node(domain, base, "control", "", false);
	if (r == 0)
		r = write_node(domain, base, "device", "", false);
	for (size_t i = 0; r == 0 && i < sizeof(owned) / sizeof(owned[0]); i++)
		r = write_node(domain, base, owned[i], "", true);
	/* Write this last: a restored guest that watches its domid then finds all of its home. */
	if (r == 0)
		r = write_node(domain, base, "domid", domid, false);
	return r;
}

void hv_domain_remove_home(struct hv *hv, uint32_t domid, const char *uuid)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u", domid);
	sim_store_rm(hv->store, path);
	snprintf(path, sizeof(path), "/vm/%s", uuid ? uuid : "");
	if (uuid)
		sim_store_rm(hv->store, path);
	sim_store_release(hv->store, domid);
}

/* Life and death */

void hv_domain_free(struct hv_domain *domain)
{
	hv_grant_domid_gone(domain);
	hv_evtchn_domain_gone(domain);
	if (domain->listener)
		evconnlistener_free(domain->listener);
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
	domain->port_end = HV_FIRST_PORT;
	domain->port_limit = type == HV_DOM0 ? HV_DOM0_EVTCHN_LIMIT : HV_GUEST_EVTCHN_LIMIT;
	domain->name = strdup(name);
	if (domain->name && asprintf(&domain->path, "%s/dom-%u", hv->dir, domid) >= 0)
		return domain;
	free(domain->name);
	free(domain);
	return NULL;
}

int hv_domain_create(struct hv *hv, bool dom0, const char *name, enum hv_type type,
		     struct hv_domain **created)
{
	uint32_t domid = dom0 ? 0 : hv->next_domid;
	struct hv_domain *domain;
	char default_name[32];
	int r;

	if (domid >= HV_FIRST_RESERVED_DOMID)
		return -ENOSPC;
	snprintf(default_name, sizeof(default_name), dom0 ? "Domain-%u" : "dom%u", domid);
	if (!name)
		name = default_name;
	if (hv_domain_find(hv, name, false) || hv_domain_find(hv, name, true))
		return -EEXIST;
	domain = hv_domain_new(hv, domid, name, dom0 ? HV_DOM0 : type);
	if (!domain)
		return -ENOMEM;
	if (dom0)
		strcpy(domain->uuid, "00000000-0000-0000-0000-000000000000");
	else
		read_uuid(domain->uuid);
	r = mkdir(domain->path, 0755) < 0 ? -errno : write_files(domain);
	if (r == 0)
		r = domain_listen(domain);
	if (r == 0)
		r = hv_domain_write_home(domain);
	if (r < 0) {
		sim_store_unlisten(hv->store, domid);
		hv_domain_free(domain);
		return r;
	}
	HASH_ADD(hh, hv->domains, domid, sizeof(domain->domid), domain);
	if (!dom0)
		hv->next_domid++;
	sim_store_introduce(hv->store, domid);
	hv_log(hv, "d%u: created, name %s, type %s", domid, name, hv_type_name(domain->type));
	*created = domain;
	return 0;
}

void hv_domain_become_zombie(struct hv_domain *domain)
{
	char *null_name = strdup("(null)");

	if (null_name) {
		free(domain->name);
		domain->name = null_name;
	}
	domain->state = HV_ZOMBIE;
	hv_domain_reap(domain);
}

void hv_domain_reap(struct hv_domain *domain)
{
	if (domain->state != HV_ZOMBIE || domain->foreign_maps || domain->hv->stopping)
		return;
	hv_log(domain->hv, "d%u: gone", domain->domid);
	HASH_DEL(domain->hv->domains, domain);
	hv_domain_free(domain);
}

static void drop_clients(struct hv_domain *domain)
{
	while (domain->clients)
		hv_client_free(domain->clients, true);
	hv_evtchn_orphans_free(domain);
}

void hv_domain_destroy(struct hv_domain *domain)
{
	struct hv *hv = domain->hv;

	hv_saving_cancel(domain);
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
	hv_domain_remove_home(hv, domain->domid, domain->uuid);
	hv_domain_become_zombie(domain);
}

void hv_domain_pause(struct hv_domain *domain)
{
	domain->state = HV_PAUSED;
	hv_processes_signal(domain, SIGSTOP);
}

void hv_domain_unpause(struct hv_domain *domain)
{
	domain->state = HV_RUNNING;
	hv_processes_signal(domain, SIGCONT);
}

int hv_domain_rename(struct hv_domain *domain, const char *name)
{
	char base[64];
	char *copy;

	if (hv_domain_find(domain->hv, name, false) || hv_domain_find(domain->hv, name, true))
		return -EEXIST;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	free(domain->name);
	domain->name = copy;
	snprintf(base, sizeof(base), "/vm/%s", domain->uuid);
	if (domain->type != HV_DOM0)
		write_node(domain, base, "name", name, false);
	snprintf(base, sizeof(base), "/local/domain/%u", domain->domid);
	return write_node(domain, base, "name", name, false);
}

void hv_domains_free(struct hv *hv)
{
	struct hv_domain *domain, *next;

	hv->stopping = true;
	HASH_ITER(hh, hv->domains, domain, next)
		hv_saving_cancel(domain);
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
