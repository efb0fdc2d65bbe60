/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a process of a domain may ask for: a row for each operation, with who carries it out, and how a record
 * has it. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <string.h>

/* As many numbers of a list stand in a record. */
#define MOST_WRITTEN 16u

static const struct hv_operation operations[] = {
	[SIM_OP_SHARE] = {"grant", hv_grant_share, "%n pages to %d, %w", "%v (#%I)"},
	[SIM_OP_UNSHARE] = {"end-grant", hv_grant_unshare, "%i", .takes_back = true},
	[SIM_OP_MAP] = {"map", hv_grant_map, "%m, %w", "OK (#%I)", .words = 2, .most = SIM_MAX_MAP},
	[SIM_OP_MAP_FRAMES] = {"map-frames", hv_grant_map, "of %d:%f", "OK (#%I)", .words = 1,
			       .most = SIM_MAX_MAP},
	[SIM_OP_UNMAP] = {"unmap", hv_grant_unmap, "%i", .takes_back = true},
	[SIM_OP_UNMAP_PAGES] = {"munmap", hv_grant_unmap_pages, "%i", .takes_back = true},
	[SIM_OP_NOTIFY] = {"notify-at-unmap", hv_grant_notify, "%i"},
	[SIM_OP_COPY] = {"copy", hv_grant_copy_page, "%t %d"},
	[SIM_OP_EVTCHN_OPEN] = {"evtchn-open", hv_evtchn_open, ""},
	[SIM_OP_EVTCHN_CLOSE] = {"evtchn-close", hv_evtchn_close, "%i", .takes_back = true},
	[SIM_OP_BIND_UNBOUND] = {"bind-unbound", hv_evtchn_bind_unbound, "for %d", "port %P"},
	[SIM_OP_BIND_INTERDOMAIN] = {"bind-interdomain", hv_evtchn_bind_interdomain, "to %d:%p", "port %P"},
	[SIM_OP_BIND_VIRQ] = {"bind-virq", hv_evtchn_bind_virq, "interrupt %p", "port %P"},
	[SIM_OP_UNBIND] = {"unbind", hv_evtchn_unbind, "port %p"},
	[SIM_OP_RESTRICT] = {"restrict", hv_evtchn_restrict, "for %d"},
	/* The library's own, which no record has. */
	[SIM_OP_EVTCHN_ADOPT] = {NULL, hv_evtchn_adopt},
	[SIM_OP_INHERIT] = {NULL, hv_client_inherit, .words = 1, .most = 2 * SIM_MAX_MAP},
	[SIM_OP_BE] = {NULL, hv_client_be},
	[SIM_OP_PEER] = {NULL, hv_evtchn_peer},
	[SIM_OP_DOMAIN] = {"domain-info", hv_call_domain, "of the first from %d on", .of_dom0 = true},
	[SIM_OP_PORT_STATUS] = {"port-status", hv_call_port_status, "of %d:%p"},
	[SIM_OP_PAUSE] = {"pause", hv_call_life, "%d"},
	[SIM_OP_UNPAUSE] = {"unpause", hv_call_life, "%d"},
	[SIM_OP_DESTROY] = {"destroy", hv_call_life, "%d"},
	[SIM_OP_SHUT_DOWN] = {"shut-down", hv_call_life, "%d for the reason %n"},
	[SIM_OP_CREATE] = {"create-domain", hv_call_create, "%d", .words = 1, .most = 4, .of_dom0 = true},
	[SIM_OP_KERNELS_PORT] = {"kernels-port", hv_call_kernels_port, "%d", .of_dom0 = true},
	[SIM_OP_SAVE] = {"save", hv_call_save, "%d", .of_dom0 = true},
	[SIM_OP_RESUME] = {"resume", hv_call_save, "%d", .takes_back = true, .of_dom0 = true},
	[SIM_OP_RESTORE] = {"restore", hv_call_restore, "%d", .words = 1, .most = 4, .of_dom0 = true},
};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

const struct hv_operation *hv_operation(uint32_t op)
{
	return op < OPERATIONS && operations[op].serve ? &operations[op] : NULL;
}

const struct hv_operation *hv_operation_named(const char *name)
{
	for (size_t i = 0; i < OPERATIONS; i++)
		if (operations[i].name && strcmp(operations[i].name, name) == 0)
			return &operations[i];
	return NULL;
}

static void write_list(FILE *out, char what, const uint32_t *numbers, uint32_t count)
{
	for (uint32_t i = 0; i < count && i < MOST_WRITTEN; i++) {
		if (what == 'm')
			fprintf(out, "%sd%u:%u", i ? " " : "", numbers[2 * i], numbers[2 * i + 1]);
		else
			fprintf(out, what == 'f' ? " %#x" : i ? " %u" : "%u", numbers[i]);
	}
	if (count > MOST_WRITTEN && what != 'v')
		fputs(" ...", out);
}

void hv_operation_write(FILE *out, const char *format, const struct sim_request *request,
			const struct sim_reply *reply)
{
	for (; *format; format++) {
		if (*format != '%') {
			fputc(*format, out);
			continue;
		}
		switch (*++format) {
		case 'd':
			fprintf(out, "d%u", request->domid);
			break;
		case 'i':
			fprintf(out, "#%u", request->id);
			break;
		case 'n':
			fprintf(out, "%u", request->count);
			break;
		case 'p':
			fprintf(out, "%u", request->port);
			break;
		case 't':
			fputs(request->writable ? "to" : "from", out);
			break;
		case 'w':
			fputs(request->writable ? "writable" : "read-only", out);
			break;
		case 'm':
		case 'f':
			write_list(out, *format, request->refs, request->count);
			break;
		case 'v':
			write_list(out, *format, reply->values, reply->count);
			break;
		case 'I':
			fprintf(out, "%u", reply->id);
			break;
		case 'P':
			fprintf(out, "%u", reply->port);
			break;
		}
	}
}
