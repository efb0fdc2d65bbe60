/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a domain finds: the files of its kernel, and what the toolstack keeps of it in XenStore and in domain
 * 0. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Files that a kernel shows to its programs. */

/* What Linux says in /sys/hypervisor/guest_type; dom0 is a PV guest to it. */
static const char *const guest_types[] = {[HV_DOM0] = "PV", [HV_PVH] = "PVH", [HV_PV] = "PV"};

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

/* Writes a file, or makes an empty directory if the name ends in a slash. */
static int write_file(const struct hv_domain *domain, const char *name, mode_t mode, const char *format, ...)
{
	char *path = NULL;
	va_list arguments;
	int fd, r;

	if (asprintf(&path, "%s/root/%s", domain->path, name) < 0)
		return -ENOMEM;
	r = make_directories(path);
	if (r == 0 && path[strlen(path) - 1] != '/') {
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
		va_start(arguments, format);
		if (fd < 0 || vdprintf(fd, format, arguments) < 0)
			r = -errno;
		va_end(arguments);
		if (fd >= 0)
			close(fd);
	}
	free(path);
	return r;
}

static int write_files(const struct hv_domain *domain)
{
	static const struct {
		const char *name;
		mode_t mode;
		const char *text;
		bool of_dom0;
	} files[] = {
		{"sys/hypervisor/type", 0444, "xen\n", false},
		{"sys/hypervisor/version/major", 0444, "4\n", false},
		{"sys/hypervisor/version/minor", 0444, "17\n", false},
		{"sys/hypervisor/version/extra", 0444, ".7-xensim\n", false},
		{"sys/module/xen_privcmd/parameters/unrestricted", 0644, "N\n", false},
		{"dev/xen/evtchn", 0600, "", false},
		{"dev/xen/gntdev", 0600, "", false},
		{"dev/xen/gntalloc", 0600, "", false},
		{"dev/xen/privcmd", 0600, "", false},
		{"dev/xen/hypercall", 0600, "", false},
		{"dev/xen/xenbus", 0600, "", false},
		/* Two have an old place, too. */
		{"proc/xen/xenbus", 0600, "", false},
		{"proc/xen/privcmd", 0600, "", false},
		/* What a daemon and its administrator make, and the toolstack's and xenstored's own. */
		{"run/", 0, "", false},
		{"etc/", 0, "", false},
		{"run/xen/", 0, "", true},
		{"var/run/xen/", 0, "", true},
		{"var/lib/xen/", 0, "", true},
		{"var/log/xen/", 0, "", true},
		{"var/lock/", 0, "", true},
		{"run/xenstored/socket", 0600, "", true},
		{"var/run/xenstored/socket", 0600, "", true},
	};
	const bool dom0 = domain->type == HV_DOM0;
	int r = write_file(domain, "sys/hypervisor/guest_type", 0444, "%s\n", guest_types[domain->type]);

	if (r == 0)
		r = write_file(domain, "sys/hypervisor/uuid", 0444, "%s\n", domain->uuid);
	/* Bit 11 says that this domain runs the host. */
	if (r == 0)
		r = write_file(domain, "sys/hypervisor/properties/features", 0444, "%08x\n",
			       dom0 ? 0x800u : 0u);
	if (r == 0)
		r = write_file(domain, "proc/xen/capabilities", 0444, "%s", dom0 ? "control_d\n" : "");
	if (r == 0)
		r = write_file(domain, "sys/module/xen_gntalloc/parameters/limit", 0644, "%u\n",
			       HV_GRANT_LIMIT);
	for (size_t i = 0; r == 0 && i < sizeof(files) / sizeof(files[0]); i++)
		if (dom0 || !files[i].of_dom0)
			r = write_file(domain, files[i].name, files[i].mode, "%s", files[i].text);
	return r;
}

/* How libxl keeps what a domain was made from, which `xl list -l` shows and `xl save` wants; that of domain 0
 * is xen-init-dom0's. */
#define CONFIG_FORMAT "var/lib/xen/userdata-d.%u.%s.libxl-json"

static int write_config(struct hv_domain *domain)
{
	struct hv_domain *dom0 = hv_domain_by_id(domain->hv, 0);
	const char *type = domain->type == HV_PVH ? "pvh" : "pv";
	char name[128];

	/* Nothing asks for it before domain 0 has files, and libxl keeps its own. */
	if (!dom0 || !dom0->has_files || domain->is_libxls || domain->state == HV_ZOMBIE)
		return 0;
	snprintf(name, sizeof(name), CONFIG_FORMAT, domain->domid, domain->uuid);
	if (domain->type == HV_DOM0)
		return write_file(dom0, name, 0600,
				  "{\"c_info\": {\"type\": \"pv\"}, \"b_info\": {\"type.pv\": {}}}%c", 0);
	return write_file(dom0, name, 0600,
			  "{\"c_info\": {\"type\": \"%s\", \"name\": \"%s\", \"uuid\": \"%s\"}, \"b_info\": "
			  "{\"max_vcpus\": 1, \"avail_vcpus\": [0], \"max_memkb\": 131072, \"target_memkb\": "
			  "131072, \"kernel\": \"/boot/vmlinuz\", \"type.%s\": {}}}%c",
			  type, domain->name, domain->uuid, type, 0);
}

void hv_domain_remove_config(struct hv *hv, uint32_t domid, const char *uuid)
{
	char *path;

	if (asprintf(&path, "%s/dom-0/root/" CONFIG_FORMAT, hv->dir, domid, uuid) < 0)
		return;
	unlink(path);
	free(path);
}

int hv_domain_need_files(struct hv_domain *domain)
{
	struct hv_domain *other, *next;
	int r = domain->has_files ? 0 : write_files(domain);

	if (r == 0 && !domain->has_files && domain->type == HV_DOM0) {
		domain->has_files = true;
		HASH_ITER(hh, domain->hv->domains, other, next)
			if (r == 0)
				r = write_config(other);
	}
	domain->has_files = r == 0;
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

/* Which xen-init-dom0 writes. */
static const struct home_node pool_nodes[] = {
	{"name", "Pool-0", TOOLSTACK},
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
	if (domain->type == HV_DOM0) {
		r = write_nodes(domain, "/local/pool/0", NODES(pool_nodes), TOOLSTACK_READS);
		return r ? r : write_nodes(domain, base, NODES(dom0_nodes), TOOLSTACK_READS);
	}
	r = write_nodes(domain, libxl, NODES(libxl_nodes), TOOLSTACK_READS);
	if (r == 0)
		r = write_nodes(domain, vm, NODES(vm_nodes), GUEST_READS);
	if (r == 0)
		r = write_nodes(domain, base, NODES(home_nodes), GUEST_READS);
	return r ? r : write_config(domain);
}

int hv_domain_write_name(struct hv_domain *domain)
{
	char base[64];

	snprintf(base, sizeof(base), "/vm/%s", domain->uuid);
	if (domain->type != HV_DOM0)
		write_node(domain, base, "name", domain->name, TOOLSTACK);
	snprintf(base, sizeof(base), "/local/domain/%u", domain->domid);
	return write_node(domain, base, "name", domain->name, TOOLSTACK);
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
	if (uuid)
		hv_domain_remove_config(hv, domid, uuid);
}
