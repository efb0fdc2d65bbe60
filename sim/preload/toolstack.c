/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxl asks besides when it makes a domain, so that `xl create` works. What it sets of a domain's CPUs,
 * memory and clock changes nothing here, and is taken for any domain that is there. The host has as much
 * memory as anybody asks for, one node, and no scheduler but that which gives each domain a CPU.
 *
 * libxl has libxenguest put a kernel into the domain's memory. No domain runs a kernel here, so the functions
 * that do that stand below, and do nothing but say where the rings of XenStore and the console are. What
 * stands before them in libxenguest is as it was: a file of a kernel has to be there.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"

/* Declares what is for the toolstack alone. */
#define __XEN_TOOLS__ 1

#include "sim/preload/toolstack.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xen/memory.h>
#include <xen/version.h>
#include <xenctrl.h>

#include <xenguest.h>

/* A TiB. */
#define PAGES_OF_THE_HOST (1ull << 28)

/* Returns the domid that is answered, or a negative errno. */
static long ask_with_uuid(enum sim_op op, uint32_t domid, bool pvh, const uint8_t uuid[16])
{
	union {
		struct sim_request request;
		char bytes[sizeof(struct sim_request) + 16];
	} whole = {
		.request = {
			.op = (uint32_t)op, .domid = domid, .count = 16 / sizeof(uint32_t), .writable = pvh}};
	struct sim_reply reply;
	int r;

	memcpy(whole.request.refs, uuid, 16);
	r = sim_lib_call(&whole.request, sizeof(whole), &reply, sizeof(reply), NULL);
	return r < 0 ? r : (long)reply.id;
}

static long create_domain(struct xen_domctl *call)
{
	const struct xen_domctl_createdomain *create = &call->u.createdomain;
	long r = ask_with_uuid(SIM_OP_CREATE, call->domain, (create->flags & XEN_DOMCTL_CDF_hvm) != 0,
			       create->handle);

	if (r < 0)
		return r;
	call->domain = (domid_t)r;
	return 0;
}

static uint32_t cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (uint32_t)n : 1;
}

/* All of the host's. */
static int fill_map(const struct xenctl_bitmap *map)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < map->nr_bits; i += 8) {
		const uint32_t here = cpus() > i ? cpus() - i : 0;
		const uint8_t bits = (uint8_t)(here >= 8 ? 0xff : (1u << here) - 1);

		r = sim_copy_out(map->bitmap.p + i / 8, &bits, 1);
	}
	return r;
}

/* Each domain has one, which waits whenever its programs do. */
static long vcpu_info(uint32_t domid, struct xen_domctl_getvcpuinfo *info)
{
	long r = sim_is_there(domid);

	if (r < 0 || info->vcpu > 0)
		return r < 0 ? r : -ESRCH;
	info->online = 1;
	info->running = domid == 0;
	info->blocked = !info->running;
	info->cpu_time = info->cpu = 0;
	return 0;
}

static long vcpu_affinity(uint32_t domid, const struct xen_domctl_vcpuaffinity *call)
{
	long r = sim_is_there(domid);

	if (r == 0 && call->flags & XEN_VCPUAFFINITY_HARD)
		r = fill_map(&call->cpumap_hard);
	if (r == 0 && call->flags & XEN_VCPUAFFINITY_SOFT)
		r = fill_map(&call->cpumap_soft);
	return r;
}

long sim_toolstack_domctl(struct xen_domctl *call)
{
	switch (call->cmd) {
	case XEN_DOMCTL_getvcpuinfo:
		return vcpu_info(call->domain, &call->u.getvcpuinfo);
	case XEN_DOMCTL_getvcpuaffinity:
		return vcpu_affinity(call->domain, &call->u.vcpuaffinity);
	case XEN_DOMCTL_createdomain:
		return create_domain(call);
	case XEN_DOMCTL_max_vcpus:
	case XEN_DOMCTL_max_mem:
	case XEN_DOMCTL_setnodeaffinity:
	case XEN_DOMCTL_setvcpuaffinity:
	case XEN_DOMCTL_settimeoffset:
	case XEN_DOMCTL_settscinfo:
	case XEN_DOMCTL_set_paging_mempool_size:
		return sim_is_there(call->domain);
	default:
		return -ENOSYS;
	}
}

static void physinfo(struct xen_sysctl_physinfo *info)
{
	*info = (struct xen_sysctl_physinfo){
		.nr_cpus = cpus(),
		.max_cpu_id = cpus() - 1,
		.threads_per_core = 1,
		.cores_per_socket = cpus(),
		.nr_nodes = 1,
		.total_pages = PAGES_OF_THE_HOST,
		.free_pages = PAGES_OF_THE_HOST,
		.capabilities = XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hap |
				XEN_SYSCTL_PHYSCAP_gnttab_v1,
	};
}

/* How many there are, and each, if there is room for it. */
static long cpu_topology(struct xen_sysctl_cputopoinfo *info)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && info->cputopo.p && i < info->num_cpus && i < cpus(); i++) {
		const struct xen_sysctl_cputopo cpu = {.core = i};

		r = sim_copy_out(&info->cputopo.p[i], &cpu, sizeof(cpu));
	}
	info->num_cpus = cpus();
	return r;
}

static long nodes(struct xen_sysctl_numainfo *info)
{
	const struct xen_sysctl_meminfo memory = {.memsize = PAGES_OF_THE_HOST * SIM_PAGE_SIZE,
						  .memfree = PAGES_OF_THE_HOST * SIM_PAGE_SIZE};
	const uint32_t distance = 10; /* from itself */
	int r = 0;

	if (info->num_nodes && info->meminfo.p)
		r = sim_copy_out(info->meminfo.p, &memory, sizeof(memory));
	if (r == 0 && info->num_nodes && info->distance.p)
		r = sim_copy_out(info->distance.p, &distance, sizeof(distance));
	info->num_nodes = 1;
	return r;
}

/* The first pool has all CPUs and domains. */
static long cpu_pool(struct xen_sysctl_cpupool_op *pool)
{
	if (pool->op != XEN_SYSCTL_CPUPOOL_OP_INFO)
		return -ENOSYS;
	if (pool->cpupool_id != 0)
		return -ENOENT;
	pool->sched_id = XEN_SCHEDULER_NULL;
	return fill_map(&pool->cpumap);
}

long sim_toolstack_sysctl(struct xen_sysctl *call)
{
	long r = sim_is_there(0); /* for a domain that may ask at all */

	if (r < 0)
		return r;
	switch (call->cmd) {
	case XEN_SYSCTL_physinfo:
		physinfo(&call->u.physinfo);
		return 0;
	case XEN_SYSCTL_cputopoinfo:
		return cpu_topology(&call->u.cputopoinfo);
	case XEN_SYSCTL_numainfo:
		return nodes(&call->u.numainfo);
	case XEN_SYSCTL_cpupool_op:
		return cpu_pool(&call->u.cpupool_op);
	case XEN_SYSCTL_sched_id:
		call->u.sched_id.sched_id = XEN_SCHEDULER_NULL;
		return 0;
	default:
		return -ENOSYS;
	}
}

long sim_toolstack_alloc_unbound(struct evtchn_alloc_unbound *argument)
{
	struct evtchn_alloc_unbound call;
	struct sim_request request = {.op = SIM_OP_KERNELS_PORT};
	struct sim_reply reply;
	int r = sim_copy_in(&call, argument, sizeof(call));

	if (r < 0)
		return r;
	request.domid = call.dom;
	r = sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), NULL);
	if (r < 0)
		return r;
	call.port = reply.port;
	return sim_copy_out(argument, &call, sizeof(call));
}

long sim_toolstack_hvm_op(uint64_t command, const struct xen_hvm_param *argument)
{
	struct xen_hvm_param call;
	int r = command == HVMOP_set_param ? sim_copy_in(&call, argument, sizeof(call)) : -ENOSYS;

	return r < 0 ? r : sim_is_there(call.domid);
}

long sim_toolstack_memory_op(uint64_t command, const void *argument)
{
	domid_t domid; /* with which both begin */
	int r = command == XENMEM_set_memory_map || command == XENMEM_get_vnumainfo
			? sim_copy_in(&domid, argument, sizeof(domid))
			: -ENOSYS;
	long there = r < 0 ? r : sim_is_there(domid);

	return there == 0 && command == XENMEM_get_vnumainfo ? -EOPNOTSUPP : there;
}

/* Of libxenguest, for libxl and its helper. */

SIM_EXPORT int xc_dom_boot_xen_init(struct xc_dom_image *dom, xc_interface *xch, uint32_t domid)
{
	dom->xch = xch;
	dom->guest_domid = domid;
	return 0;
}

SIM_EXPORT int xc_dom_parse_image(struct xc_dom_image *dom)
{
	return 0;
}

SIM_EXPORT char *xc_dom_guest_os(struct xc_dom_image *dom)
{
	static char linux_as_all_are[] = "linux";

	return linux_as_all_are;
}

SIM_EXPORT bool xc_dom_feature_get(struct xc_dom_image *dom, unsigned feature)
{
	return false;
}

SIM_EXPORT int xc_dom_mem_init(struct xc_dom_image *dom, unsigned mem_mb)
{
	static struct xc_dom_arch architecture = {.page_shift = 12};

	dom->arch_hooks = &architecture;
	return 0;
}

/* Frames have one number, also those of PV guests. */
SIM_EXPORT bool xc_dom_translated(const struct xc_dom_image *dom)
{
	return 1;
}

SIM_EXPORT int xc_dom_boot_mem_init(struct xc_dom_image *dom)
{
	dom->xenstore_pfn = SIM_STORE_FRAME;
	dom->console_pfn = SIM_CONSOLE_FRAME;
	return 0;
}

SIM_EXPORT int xc_dom_build_image(struct xc_dom_image *dom)
{
	return 0;
}

SIM_EXPORT int xc_dom_boot_image(struct xc_dom_image *dom)
{
	return 0;
}

SIM_EXPORT int xc_dom_gnttab_init(struct xc_dom_image *dom)
{
	return 0;
}

#if defined(__i386__) || defined(__x86_64__)
SIM_EXPORT int xc_cpuid_apply_policy(xc_interface *xch, uint32_t domid, bool restore,
				     const uint32_t *featureset, unsigned n_features, bool pae, bool itsc,
				     bool nested_virt, const struct xc_xend_cpuid *xend,
				     const struct xc_msr *msr)
{
	return 0;
}
#endif

static int toolstack_fail(long r)
{
	errno = (int)-r;
	return -1;
}

/* What stands in libxl's file where a domain's memory would: whose the processes are that wait on this
 * host. */
struct saved_image {
	char what[16];
	uint8_t uuid[16];
};

#define SAVED_IMAGE "xensim, waiting"

SIM_EXPORT int xc_domain_save(xc_interface *xch, int io_fd, uint32_t dom, uint32_t flags,
			      struct save_callbacks *callbacks, xc_stream_type_t stream_type, int recv_fd)
{
	struct saved_image image = {.what = SAVED_IMAGE};
	struct sim_domain domain;
	int r = sim_ask_domain(dom, &domain);

	if (r == 0)
		r = sim_have_done(SIM_OP_SAVE, dom, 0);
	if (r < 0)
		return toolstack_fail(r);
	/* It says why. */
	if (callbacks->suspend(callbacks->data) != 1)
		return -1;
	memcpy(image.uuid, domain.uuid, sizeof(image.uuid));
	if (write(io_fd, &image, sizeof(image)) != sizeof(image))
		return toolstack_fail(errno == 0 ? -EIO : -errno);
	r = sim_have_done(SIM_OP_SAVE, dom, 1);
	return r < 0 ? toolstack_fail(r) : 0;
}

SIM_EXPORT int xc_domain_resume(xc_interface *xch, uint32_t domid, int fast)
{
	int r = sim_have_done(SIM_OP_RESUME, domid, 0);

	return r < 0 ? toolstack_fail(r) : 0;
}

SIM_EXPORT int xc_domain_restore(xc_interface *xch, int io_fd, uint32_t dom, unsigned store_evtchn,
				 unsigned long *store_mfn, uint32_t store_domid, unsigned console_evtchn,
				 unsigned long *console_mfn, uint32_t console_domid,
				 xc_stream_type_t stream_type, struct restore_callbacks *callbacks,
				 int send_back_fd)
{
	struct saved_image image;
	long r;

	if (read(io_fd, &image, sizeof(image)) != sizeof(image) ||
	    memcmp(image.what, SAVED_IMAGE, sizeof(image.what)) != 0)
		return toolstack_fail(-EINVAL);
	if (callbacks->static_data_done && callbacks->static_data_done(0, callbacks->data) != 0)
		return -1;
	r = ask_with_uuid(SIM_OP_RESTORE, dom, false, image.uuid);
	if (r < 0)
		return toolstack_fail(r);
	*store_mfn = SIM_STORE_FRAME;
	*console_mfn = SIM_CONSOLE_FRAME;
	return 0;
}
