/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hypercalls that libxencall makes by /dev/xen/privcmd, for libxenctrl: so the real one runs here, and
 * what it is told is what the simulated host knows. These have an answer:
 *
 *	domctl getdomaininfo, sysctl getdomaininfolist	the domains there are
 *	domctl pausedomain, unpausedomain, destroydomain	what they say
 *	sched_op remote_shutdown			the domain shuts down, for this reason
 *	event_channel_op status				whose port leads where
 *	dm_op						EINVAL: no domain has devices that Xen knows of
 *	xen_version version, capabilities, pagesize	the first is that of /sys/hypervisor
 *	multicall					each of its calls
 *	other domctls, sysctls and the like		what libxl needs (toolstack.c)
 *
 * Any other is ENOSYS. What memory a domain has and its CPU time aren't known, and are 0. As Xen, this speaks
 * the version of the toolstack's interface that it was built with; libxenctrl of another Xen gets EACCES.
 *
 * In a guest Linux makes no hypercalls for its programs since the fix of XSA-482 (EPERM), unless the
 * parameter "unrestricted" of its module says that Xen shall decide; that file is there as well.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"

/* Declares what is for the toolstack alone. */
#define __XEN_TOOLS__ 1

#include "sim/preload/toolstack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/sys/privcmd.h>
#include <xen/version.h>
#include <xen/xen.h>

/* Up to this version of the interface, getdomaininfo told of the next domain if there was none with that
 * number. */
#define LAST_THAT_GAVE_THE_NEXT 0x15

/* What xl gives a guest. */
#define GRANT_TABLE_FRAMES 64

#define UNRESTRICTED "/sys/module/xen_privcmd/parameters/unrestricted"

/* The hypercalls return 0 or more, or a negative errno. */

union reply_buffer {
	struct sim_reply reply;
	uint32_t words[(sizeof(struct sim_reply) + sizeof(struct sim_domain)) / sizeof(uint32_t)];
};

static int ask(enum sim_op op, uint32_t domid, uint32_t port, void *facts, size_t size)
{
	struct sim_request request = {.op = (uint32_t)op, .domid = domid, .port = port};
	union reply_buffer answer;
	int r = sim_lib_call(&request, sizeof(request), &answer.reply, sizeof(answer), NULL);

	if (r == 0 && answer.reply.count * sizeof(uint32_t) != size)
		r = -EIO;
	if (r == 0)
		memcpy(facts, answer.reply.values, size);
	return r;
}

int sim_ask_domain(uint32_t domid, struct sim_domain *domain)
{
	return ask(SIM_OP_DOMAIN, domid, 0, domain, sizeof(*domain));
}

int sim_is_there(uint32_t domid)
{
	struct sim_domain domain;
	int r = sim_ask_domain(domid, &domain);

	return r == -EINVAL || (r == 0 && domain.domid != domid) ? -ESRCH : r;
}

int sim_have_done(enum sim_op op, uint32_t domid, uint32_t count)
{
	const struct sim_request request = {.op = (uint32_t)op, .domid = domid, .count = count};
	struct sim_reply answer;

	return sim_lib_call(&request, sizeof(request), &answer, sizeof(answer), NULL);
}

static void fill_in(struct xen_domctl_getdomaininfo *info, const struct sim_domain *domain)
{
	memset(info, 0, sizeof(*info));
	info->domain = (domid_t)domain->domid;
	info->nr_online_vcpus = 1;
	info->flags = XEN_DOMINF_blocked;
	if (domain->domid == 0) /* whose program asks */
		info->flags = XEN_DOMINF_running;
	if (domain->pvh)
		info->flags |= XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
	if (domain->paused)
		info->flags |= XEN_DOMINF_paused;
	if (domain->dead)
		info->flags |= XEN_DOMINF_dying;
	if (domain->shutdown)
		info->flags |= XEN_DOMINF_shutdown | (domain->shutdown - 1) << XEN_DOMINF_shutdownshift;
	memcpy(info->handle, domain->uuid, sizeof(info->handle));
}

static long do_domctl(struct xen_domctl *argument)
{
	struct sim_domain domain;
	struct xen_domctl call;
	int r = sim_copy_in(&call, argument, sizeof(call));

	if (r < 0)
		return r;
	if (call.interface_version != XEN_DOMCTL_INTERFACE_VERSION)
		return -EACCES;
	switch (call.cmd) {
	case XEN_DOMCTL_pausedomain:
		return sim_have_done(SIM_OP_PAUSE, call.domain, 0);
	case XEN_DOMCTL_unpausedomain:
		return sim_have_done(SIM_OP_UNPAUSE, call.domain, 0);
	case XEN_DOMCTL_destroydomain:
		return sim_have_done(SIM_OP_DESTROY, call.domain, 0);
	case XEN_DOMCTL_getdomaininfo:
		break;
	default:
		r = (int)sim_toolstack_domctl(&call);
		return r < 0 ? r : sim_copy_out(argument, &call, sizeof(call));
	}
	r = ask(SIM_OP_DOMAIN, call.domain, 0, &domain, sizeof(domain));
	if (r < 0)
		return r;
	if (domain.domid != call.domain && XEN_DOMCTL_INTERFACE_VERSION > LAST_THAT_GAVE_THE_NEXT)
		return -ESRCH;
	call.domain = (domid_t)domain.domid;
	fill_in(&call.u.getdomaininfo, &domain);
	return sim_copy_out(argument, &call, sizeof(call));
}

/* As of a domain that Xen makes no requests of devices for, which all are here. */
static long do_dm_op(uint32_t domid)
{
	int r = sim_is_there(domid);

	return r < 0 ? r : -EINVAL;
}

int sim_map_resource(const privcmd_mmap_resource_t *resource)
{
	int r = sim_is_there(resource->dom);

	if (r < 0)
		return r;
	/* The first frames of a grant table are there on Xen, and not here. */
	if (resource->type == XENMEM_resource_grant_table &&
	    resource->id == XENMEM_resource_grant_table_id_shared && resource->idx < GRANT_TABLE_FRAMES)
		return -EOPNOTSUPP;
	return resource->type == XENMEM_resource_grant_table || resource->type == XENMEM_resource_ioreq_server
		       ? -EINVAL
		       : -EOPNOTSUPP;
}

static long domain_list(struct xen_sysctl_getdomaininfolist *list)
{
	struct xen_domctl_getdomaininfo info, *buffer = list->buffer.p;
	struct sim_domain domain;
	uint32_t next = list->first_domain;
	int r = 0;

	list->num_domains = 0;
	while (list->num_domains < list->max_domains) {
		r = ask(SIM_OP_DOMAIN, next, 0, &domain, sizeof(domain));
		if (r < 0)
			break;
		fill_in(&info, &domain);
		r = sim_copy_out(&buffer[list->num_domains], &info, sizeof(info));
		if (r < 0)
			break;
		list->num_domains++;
		next = domain.domid + 1;
	}
	/* The end of the list is no error. */
	return r == -ESRCH || r == -EINVAL ? 0 : r;
}

static long do_sysctl(struct xen_sysctl *argument)
{
	struct xen_sysctl call;
	long r = sim_copy_in(&call, argument, sizeof(call));

	if (r < 0)
		return r;
	if (call.interface_version != XEN_SYSCTL_INTERFACE_VERSION)
		return -EACCES;
	switch (call.cmd) {
	case XEN_SYSCTL_getdomaininfolist:
		r = domain_list(&call.u.getdomaininfolist);
		break;
	default:
		r = sim_toolstack_sysctl(&call);
	}
	return r < 0 ? r : sim_copy_out(argument, &call, sizeof(call));
}

static long sched_op(uint64_t command, const struct sched_remote_shutdown *argument)
{
	struct sched_remote_shutdown call;
	int r;

	if (command != SCHEDOP_remote_shutdown)
		return -ENOSYS;
	r = sim_copy_in(&call, argument, sizeof(call));
	return r < 0 ? r : sim_have_done(SIM_OP_SHUT_DOWN, call.domain_id, (uint8_t)call.reason);
}

static long evtchn_status(struct evtchn_status *argument)
{
	struct evtchn_status status;
	struct sim_port port;
	int r = sim_copy_in(&status, argument, sizeof(status));

	if (r == 0)
		r = ask(SIM_OP_PORT_STATUS, status.dom, status.port, &port, sizeof(port));
	if (r < 0)
		return r;
	status.vcpu = 0;
	switch (port.state) {
	case SIM_PORT_UNBOUND:
		status.status = EVTCHNSTAT_unbound;
		status.u.unbound.dom = (domid_t)port.domid;
		break;
	case SIM_PORT_CONNECTED:
		status.status = EVTCHNSTAT_interdomain;
		status.u.interdomain.dom = (domid_t)port.domid;
		status.u.interdomain.port = port.port;
		break;
	case SIM_PORT_VIRQ:
		status.status = EVTCHNSTAT_virq;
		status.u.virq = port.port;
		break;
	default:
		status.status = EVTCHNSTAT_closed;
	}
	return sim_copy_out(argument, &status, sizeof(status));
}

static long event_channel_op(uint64_t command, void *argument)
{
	switch (command) {
	case EVTCHNOP_status:
		return evtchn_status(argument);
	case EVTCHNOP_alloc_unbound:
		return sim_toolstack_alloc_unbound(argument);
	default:
		return -ENOSYS;
	}
}

static long xen_version(int command, void *argument)
{
#if defined(__aarch64__)
	static const xen_capabilities_info_t capabilities = "xen-3.0-aarch64 xen-3.0-armv7l ";
#else
	static const xen_capabilities_info_t capabilities = "xen-3.0-x86_64 hvm-3.0-x86_64 ";
#endif
	char major[16], minor[16];

	switch (command) {
	case XENVER_version:
		if (!sim_read_line("/sys/hypervisor/version/major", major, sizeof(major)) ||
		    !sim_read_line("/sys/hypervisor/version/minor", minor, sizeof(minor)))
			return -EIO;
		return atol(major) << 16 | atol(minor);
	case XENVER_capabilities:
		return sim_copy_out(argument, capabilities, sizeof(capabilities));
	case XENVER_pagesize:
		return SIM_PAGE_SIZE;
	default:
		return -ENOSYS;
	}
}

bool sim_hypercalls_allowed(void)
{
	char line[64];

	if (sim_read_line("/proc/xen/capabilities", line, sizeof(line)) && strstr(line, "control_d"))
		return true;
	return sim_read_line(UNRESTRICTED, line, sizeof(line)) && strchr("Yy1", line[0]);
}

/* libxenctrl asks about memory so, whose answers are longer than an int. */
static long multicall(struct multicall_entry *calls, uint64_t count)
{
	struct multicall_entry call;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count; i++) {
		r = sim_copy_in(&call, &calls[i], sizeof(call));
		if (r < 0)
			break;
		call.result =
			call.op == __HYPERVISOR_multicall
				? (xen_ulong_t)-EINVAL
				: (xen_ulong_t)sim_hypercall((unsigned)call.op, call.args[0], call.args[1]);
		r = sim_copy_out(&calls[i], &call, sizeof(call));
	}
	return r;
}

long sim_hypercall(unsigned op, uint64_t first, uint64_t second)
{
	if (!sim_hypercalls_allowed())
		return -EPERM;
	switch (op) {
	case __HYPERVISOR_domctl:
		return do_domctl((struct xen_domctl *)(uintptr_t)first);
	case __HYPERVISOR_sysctl:
		return do_sysctl((struct xen_sysctl *)(uintptr_t)first);
	case __HYPERVISOR_event_channel_op:
		return event_channel_op(first, (void *)(uintptr_t)second);
	case __HYPERVISOR_multicall:
		return multicall((struct multicall_entry *)(uintptr_t)first, second);
	case __HYPERVISOR_hvm_op:
		return sim_toolstack_hvm_op(first, (const struct xen_hvm_param *)(uintptr_t)second);
	case __HYPERVISOR_memory_op:
		return sim_toolstack_memory_op(first, (const void *)(uintptr_t)second);
	case __HYPERVISOR_sched_op:
		return sched_op(first, (const struct sched_remote_shutdown *)(uintptr_t)second);
	case __HYPERVISOR_dm_op:
		return do_dm_op((uint32_t)first);
	case __HYPERVISOR_xen_version:
		return xen_version((int)first, (void *)(uintptr_t)second);
	default:
		return -ENOSYS;
	}
}
