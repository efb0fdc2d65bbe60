/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/hv.h"

#include <ctype.h>
#include <errno.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
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
			r = -errno;
		va_end(arguments);
		close(fd);
	}
	free(path);
	return r;
}

/* Makes an empty directory, for what a daemon and its administrator make there. */
static int make_empty(const struct hv_domain *domain, const char *name)
{
	char *path = NULL;
	int r;

	if (asprintf(&path, "%s/root/%s/", domain->path, name) < 0)
		return -ENOMEM;
	r = make_directories(path);
	free(path);
	return r;
}

static int write_files(const struct hv_domain *domain)
{
	static const char *const devices[] = {"evtchn", "gntdev", "gntalloc", "privcmd", "xenbus"};
	static const char *const toolstacks[] = {"run/xen", "var/run/xen", "var/lib/xen"};
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
		r = make_empty(domain, "run");
	if (r == 0)
		r = make_empty(domain, "etc");
	/* The files of the kernel's device have an old place, too; xenstored runs in domain 0. */
	if (r == 0)
		r = write_file(domain, "proc/xen/xenbus", 0600, "%s", "");
	if (r == 0)
		r = write_file(domain, "proc/xen/privcmd", 0600, "%s", "");
	if (r == 0 && dom0)
		r = write_file(domain, "run/xenstored/socket", 0600, "%s", "");
	if (r == 0 && dom0)
		r = write_file(domain, "var/run/xenstored/socket", 0600, "%s", "");
	/* The toolstack's own. */
	for (size_t i = 0; r == 0 && dom0 && i < sizeof(toolstacks) / sizeof(toolstacks[0]); i++)
		r = make_empty(domain, toolstacks[i]);
	return r;
}

/* The home in XenStore, as the toolstack makes it. */

enum owner { TOOLSTACK, GUEST, GUEST_SHOWS /* it to domain 0 */ };

static int write_node(struct hv_domain *domain, const char *base, const char *name, const char *value,
		      enum owner owner)
{
	const struct sim_perm read_only[] = {{0, SIM_PERM_NONE}, {domain->domid, SIM_PERM_READ}};
	const struct sim_perm owned[] = {{domain->domid, SIM_PERM_NONE}, {0, SIM_PERM_READ}};
	char path[256];

	snprintf(path, sizeof(path), "%s%s%s", base, name[0] ? "/" : "", name);
	if (owner == TOOLSTACK)
		return sim_store_write(domain->hv->store, path, value, read_only, 2);
	return sim_store_write(domain->hv->store, path, value, owned, owner == GUEST ? 1 : 2);
}

int hv_domain_need_files(struct hv_domain *domain)
{
	int r = domain->has_files ? 0 : write_files(domain);

	domain->has_files = r == 0;
	return r;
}

/* What xl and xenstored write for a guest, in this order, and the kernel of the guest itself (recorded by
 * tests/conformance, home). "=": the domain's own, by the name of the node. */
struct home_node {
	const char *name, *value;
	enum owner owner;
};

static const struct home_node vm_nodes[] = {
	{"", "", TOOLSTACK},
	{"name", "=", TOOLSTACK},
	{"uuid", "=", TOOLSTACK},
	{"start_time", "=", TOOLSTACK},
	{"image", "", TOOLSTACK},
	{"image/ostype", "linux", TOOLSTACK},
	{"image/kernel", "/boot/vmlinuz", TOOLSTACK},
	{"image/ramdisk", "/boot/initrd.img", TOOLSTACK},
	{"image/cmdline", "console=hvc0", TOOLSTACK},
};

/* The domid is the last: a restored guest that watches it then finds all of its home. */
static const struct home_node home_nodes[] = {
	{"", "", TOOLSTACK},
	{"vm", "=", TOOLSTACK},
	{"name", "=", TOOLSTACK},
	{"cpu", "", TOOLSTACK},
	{"cpu/0", "", TOOLSTACK},
	{"cpu/0/availability", "online", TOOLSTACK},
	{"memory", "", TOOLSTACK},
	{"memory/static-max", "131072", TOOLSTACK},
	{"memory/target", "131073", TOOLSTACK},
	{"memory/videoram", "-1", TOOLSTACK},
	{"device", "", TOOLSTACK},
	{"device/suspend", "", TOOLSTACK},
	{"device/suspend/event-channel", "", GUEST},
	{"console", "", TOOLSTACK},
	{"console/backend", "=", TOOLSTACK},
	{"console/backend-id", "0", GUEST_SHOWS},
	{"console/limit", "1048576", TOOLSTACK},
	{"console/output", "pty", TOOLSTACK},
	{"console/port", "2", TOOLSTACK},
	{"console/ring-ref", "2", TOOLSTACK},
	{"console/type", "xenconsoled", TOOLSTACK},
	{"control", "", TOOLSTACK},
	{"control/shutdown", "", GUEST},
	{"control/feature-poweroff", "1", GUEST},
	{"control/feature-reboot", "1", GUEST},
	{"control/feature-suspend", "1", GUEST},
	{"control/sysrq", "", GUEST},
	{"control/platform-feature-multiprocessor-suspend", "1", TOOLSTACK},
	{"control/platform-feature-xs_reset_watches", "1", TOOLSTACK},
	{"data", "", GUEST},
	{"drivers", "", GUEST},
	{"feature", "", GUEST},
	{"attr", "", GUEST},
	{"error", "", GUEST},
	{"store", "", TOOLSTACK},
	{"store/port", "1", TOOLSTACK},
	{"store/ring-ref", "1", TOOLSTACK},
	{"domid", "=", TOOLSTACK},
};

static const struct home_node dom0_nodes[] = {
	{"name", "=", TOOLSTACK},
	{"control", "", TOOLSTACK},
	{"control/feature-poweroff", "1", TOOLSTACK},
	{"control/feature-reboot", "1", TOOLSTACK},
	{"control/feature-suspend", "1", TOOLSTACK},
	{"domid", "=", TOOLSTACK},
};

/* Nobody but domain 0 reads these. */
static const struct home_node libxl_nodes[] = {
	{"", "", TOOLSTACK},
	{"device", "", TOOLSTACK},
	{"dm-version", "qemu_xen", TOOLSTACK},
	{"type", "=", TOOLSTACK},
};

static void own_value(const struct hv_domain *domain, const char *name, char *value, size_t size)
{
	if (strcmp(name, "name") == 0)
		snprintf(value, size, "%s", domain->name);
	else if (strcmp(name, "uuid") == 0)
		snprintf(value, size, "%s", domain->uuid);
	else if (strcmp(name, "vm") == 0)
		snprintf(value, size, "/vm/%s", domain->uuid);
	else if (strcmp(name, "domid") == 0)
		snprintf(value, size, "%u", domain->domid);
	else if (strcmp(name, "console/backend") == 0)
		snprintf(value, size, "/local/domain/0/backend/console/%u/0", domain->domid);
	else if (strcmp(name, "type") == 0)
		snprintf(value, size, "%s", hv_type_name(domain->type));
	else
		snprintf(value, size, "%lld.00", (long long)time(NULL));
}

enum readers { GUEST_READS, TOOLSTACK_READS };

static int write_nodes(struct hv_domain *domain, const char *base, const struct home_node *nodes,
		       size_t count, enum readers readers)
{
	char value[128], path[256];
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (strcmp(nodes[i].value, "=") == 0)
			own_value(domain, nodes[i].name, value, sizeof(value));
		else
			snprintf(value, sizeof(value), "%s", nodes[i].value);
		snprintf(path, sizeof(path), "%s%s%s", base, nodes[i].name[0] ? "/" : "", nodes[i].name);
		if (readers == TOOLSTACK_READS)
			r = sim_store_write(domain->hv->store, path, value, NULL, 0);
		else
			r = write_node(domain, base, nodes[i].name, value, nodes[i].owner);
	}
	return r;
}

#define NODES(table) table, sizeof(table) / sizeof((table)[0])

int hv_domain_write_home(struct hv_domain *domain)
{
	char base[64], vm[64], libxl[64];
	int r;

	snprintf(base, sizeof(base), "/local/domain/%u", domain->domid);
	snprintf(vm, sizeof(vm), "/vm/%s", domain->uuid);
	snprintf(libxl, sizeof(libxl), "/libxl/%u", domain->domid);
	if (domain->type == HV_DOM0)
		return write_nodes(domain, base, NODES(dom0_nodes), TOOLSTACK_READS);
	r = write_nodes(domain, libxl, NODES(libxl_nodes), TOOLSTACK_READS);
	if (r == 0)
		r = write_nodes(domain, vm, NODES(vm_nodes), GUEST_READS);
	return r ? r : write_nodes(domain, base, NODES(home_nodes), GUEST_READS);
}

/* Life and death */

void hv_domain_free(struct hv_domain *domain)
{
	hv_grant_domid_gone(domain);
	hv_evtchn_domain_gone(domain);
	if (domain->listener)
		evconnlistener_free(domain->listener);
	if (domain->pauses)
		munmap(domain->pauses, sizeof(*domain->pauses));
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

static int open_pauses(struct hv_domain *domain)
{
	char *path;
	void *page;
	int fd;

	if (asprintf(&path, "%s/pauses", domain->path) < 0)
		return -ENOMEM;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	free(path);
	if (fd < 0)
		return -errno;
	page = ftruncate(fd, sizeof(*domain->pauses)) < 0
		       ? MAP_FAILED
		       : mmap(NULL, sizeof(*domain->pauses), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return -ENOMEM;
	domain->pauses = page;
	return 0;
}

void hv_pauses_count(struct hv_domain *domain)
{
	if (domain->pauses && !domain->pauses_interrupt)
		atomic_fetch_add(domain->pauses, 1);
}

static int create(struct hv *hv, bool dom0, const char *name, enum hv_type type, const char *uuid,
		  struct hv_domain **created)
{
	uint32_t domid = dom0 ? 0 : hv->next_domid;
	struct hv_domain *domain;
	char default_name[32];
	bool is_made;
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
	else if (uuid)
		snprintf(domain->uuid, sizeof(domain->uuid), "%s", uuid);
	else
		read_uuid(domain->uuid);
	r = mkdir(domain->path, 0755) < 0 ? -errno : 0;
	is_made = r == 0;
	if (r == 0)
		r = open_pauses(domain);
	if (r == 0)
		r = domain_listen(domain);
	if (r == 0)
		r = hv_domain_write_home(domain);
	if (r < 0) {
		sim_store_unlisten(hv->store, domid);
		if (is_made)
			hv_remove_directory(domain->path);
		hv_domain_remove_home(hv, domid, domain->uuid);
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

int hv_domain_create(struct hv *hv, bool dom0, const char *name, enum hv_type type, struct hv_domain **domain)
{
	return create(hv, dom0, name, type, NULL, domain);
}

int hv_domain_create_as(struct hv *hv, const char *name, enum hv_type type, const char *uuid,
			struct hv_domain **domain)
{
	return create(hv, false, name, type, uuid, domain);
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
	hv_evtchn_domain_exception(domain->hv);
	hv_domain_free(domain);
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
		write_node(domain, base, "name", name, TOOLSTACK);
	snprintf(base, sizeof(base), "/local/domain/%u", domain->domid);
	return write_node(domain, base, "name", name, TOOLSTACK);
}
