/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/conformance/check_xen.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xenforeignmemory.h>

/* For what libxenctrl says; opened when it is first needed. */
static xc_interface *control(struct tool *tool)
{
	if (!tool->xc)
		tool->xc = xc_interface_open(NULL, NULL, 0);
	return tool->xc;
}

/* domains FIRST COUNT: the domids in the list from there on */
static void domains(struct tool *tool)
{
	static xc_domaininfo_t info[64];
	int count = control(tool) ? xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1],
							  (unsigned)tool->number[2] % 65, info)
				  : -1;

	if (count < 0) {
		result(-1);
		return;
	}
	printf("ok");
	for (int i = 0; i < count; i++)
		printf(" %u", info[i].domain);
	putchar('\n');
}

/* domain-state DOMID: of the first domain from that number on: domid, dying, paused, hvm */
static void domain_state(struct tool *tool)
{
	xc_domaininfo_t info;
	int count = control(tool) ? xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1], 1, &info) : -1;

	if (count == 1)
		printf("ok %u %u %u %u\n", info.domain, !!(info.flags & XEN_DOMINF_dying),
		       !!(info.flags & XEN_DOMINF_paused), !!(info.flags & XEN_DOMINF_hvm_guest));
	else
		result(count);
}

void domain_end(struct tool *tool)
{
	xc_domaininfo_t info;
	int count = control(tool) ? xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1], 1, &info) : -1;

	if (count == 1 && info.domain == tool->number[1])
		printf("ok %u %u %u\n", !!(info.flags & XEN_DOMINF_dying),
		       !!(info.flags & XEN_DOMINF_shutdown),
		       info.flags & XEN_DOMINF_shutdown
			       ? info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask
			       : 0);
	else
		printf("none\n");
}

/* domain-uuid DOMID */
static void domain_uuid(struct tool *tool)
{
	xc_domaininfo_t info;

	if (!control(tool) || xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1], 1, &info) != 1) {
		result(-1);
		return;
	}
	printf("ok ");
	for (unsigned i = 0; i < sizeof(info.handle); i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info.handle[i]);
	putchar('\n');
}

/* domain-single DOMID: what the version's function for a single domain says: the domid */
static void domain_single(struct tool *tool)
{
#if XEN_DOMCTL_INTERFACE_VERSION > 0x15
	xc_domaininfo_t info;

	if (control(tool) && xc_domain_getinfo_single(tool->xc, (uint32_t)tool->number[1], &info) == 0)
		printf("ok %u\n", info.domain);
#else
	xc_dominfo_t info;

	if (control(tool) && xc_domain_getinfo(tool->xc, (uint32_t)tool->number[1], 1, &info) == 1)
		printf("ok %u\n", info.domid);
#endif
	else
		result(-1);
}

/* pause-domain DOMID, and its like */
static void pause_domain(struct tool *tool)
{
	result(control(tool) ? xc_domain_pause(tool->xc, (uint32_t)tool->number[1]) : -1);
}

static void unpause_domain(struct tool *tool)
{
	result(control(tool) ? xc_domain_unpause(tool->xc, (uint32_t)tool->number[1]) : -1);
}

static void destroy_domain(struct tool *tool)
{
	result(control(tool) ? xc_domain_destroy(tool->xc, (uint32_t)tool->number[1]) : -1);
}

/* shut-domain-down DOMID REASON */
static void shut_domain_down(struct tool *tool)
{
	result(control(tool) ? xc_domain_shutdown(tool->xc, (uint32_t)tool->number[1], (int)tool->number[2])
			     : -1);
}

/* port-status DOMID PORT: closed, unbound or interdomain, and the other end */
static void port_status(struct tool *tool)
{
	xc_evtchn_status_t status = {.dom = (domid_t)tool->number[1], .port = (evtchn_port_t)tool->number[2]};

	if (!control(tool) || xc_evtchn_status(tool->xc, &status) < 0)
		result(-1);
	else if (status.status == EVTCHNSTAT_interdomain)
		printf("ok interdomain %u %u\n", status.u.interdomain.dom, status.u.interdomain.port);
	else if (status.status == EVTCHNSTAT_unbound)
		printf("ok unbound %u\n", status.u.unbound.dom);
	else
		printf("ok %s\n", status.status == EVTCHNSTAT_closed ? "closed"
				  : status.status == EVTCHNSTAT_virq ? "virq"
								     : "other");
}

/* Forks a child that holds what it has inherited, and does nothing else. */
static void fork_holder(struct tool *tool)
{
	pid_t pid = fork();

	if (pid == 0) {
		/* The child takes no part in our dialogue. */
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		for (;;)
			pause();
	}
	result(pid);
}

static long difference_ms(clockid_t one, clockid_t other)
{
	struct timespec a, b;

	clock_gettime(one, &a);
	clock_gettime(other, &b);
	return (a.tv_sec - b.tv_sec) * 1000 + (a.tv_nsec - b.tv_nsec) / 1000000;
}

/* clocks: by how many milliseconds two clocks that go on while the domain is saved are before two that
 * don't */
static void clocks(struct tool *tool)
{
	printf("ok %ld %ld\n", difference_ms(CLOCK_BOOTTIME, CLOCK_MONOTONIC),
	       difference_ms(CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE));
}

/* file PATH: its first word */
static void read_file(struct tool *tool)
{
	char text[256] = "";
	FILE *file = fopen(tool->word[1], "r");

	if (!file) {
		result(-1);
		return;
	}
	printf("ok %s\n", fscanf(file, "%255s", text) == 1 ? text : "");
	fclose(file);
}

/* foreign DOMID FRAME: maps that frame of the domain's memory */
static void map_foreign(struct tool *tool)
{
	xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
	const xen_pfn_t frame = (xen_pfn_t)tool->number[2];
	void *page =
		memory ? xenforeignmemory_map(memory, (uint32_t)tool->number[1], PROT_READ, 1, &frame, NULL)
		       : NULL;

	/* Before errno is another one. */
	result(page ? 0 : -1);
	if (page)
		xenforeignmemory_unmap(memory, page, 1);
	if (memory)
		xenforeignmemory_close(memory);
}

const struct tool_command domain_commands[] = {
	{"foreign", 3, map_foreign},
	{"domains", 3, domains},
	{"domain-state", 2, domain_state},
	{"domain-uuid", 2, domain_uuid},
	{"domain-end", 2, domain_end},
	{"domain-single", 2, domain_single},
	{"pause-domain", 2, pause_domain},
	{"unpause-domain", 2, unpause_domain},
	{"destroy-domain", 2, destroy_domain},
	{"shut-domain-down", 3, shut_domain_down},
	{"port-status", 3, port_status},
	{"fork", 1, fork_holder},
	{"clocks", 1, clocks},
	{"file", 2, read_file},
	{0},
};
