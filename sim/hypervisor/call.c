/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What programs ask Xen by hypercalls (preload/call.c), about domains and about the state of event
 * channels, and what the toolstack has Xen do to domains. The answers and the order of the checks are
 * Xen's: domain 0 may ask all, a guest about its own ports only.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The values of a reply have room for either structure, and are of words as these are. */
static void tell(struct sim_reply *reply, const void *structure, size_t size)
{
	memcpy(reply->values, structure, size);
	reply->count = (uint32_t)(size / sizeof(uint32_t));
}

static void parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned count = 0, byte;

	while (count < 16 && sscanf(text, "%2x", &byte) == 1) {
		uuid[count++] = (uint8_t)byte;
		text += 2;
		text += *text == '-';
	}
}

int hv_call_domain(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_domain *domain, *next, *first = NULL;
	struct sim_domain facts;

	if (request->domid >= HV_FIRST_RESERVED_DOMID)
		return -EINVAL;
	HASH_ITER(hh, client->domain->hv->domains, domain, next)
		if (domain->domid >= request->domid && (!first || domain->domid < first->domid))
			first = domain;
	if (!first)
		return -ESRCH;
	facts = (struct sim_domain){
		.domid = first->domid,
		.pvh = first->type == HV_PVH,
		/* A domain that dies is paused first. */
		.paused = first->paused_times ||
			  (first->state != HV_RUNNING &&
			   (first->shutdown == HV_NOT_SHUT_DOWN || first->state == HV_ZOMBIE)),
		.shutdown = (uint32_t)(first->shutdown + 1),
		.dead = first->state == HV_ZOMBIE,
	};
	parse_uuid(first->uuid, facts.uuid);
	tell(&answer->reply, &facts, sizeof(facts));
	return 0;
}

/* A guest's kernel has the ports that its home in XenStore names, for XenStore and its console, to domain
 * 0. */
static bool is_kernels_port(const struct hv_domain *domain, uint32_t port)
{
	return port >= 1 && port <= HV_KERNELS_PORTS && domain->type != HV_DOM0 && domain->state != HV_ZOMBIE;
}

int hv_call_port_status(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_domain *domain = request->domid == HV_DOMID_SELF
					   ? client->domain
					   : hv_domain_by_id(client->domain->hv, request->domid);
	struct sim_port facts = {.state = SIM_PORT_CLOSED};
	const struct hv_port *port;

	if (!domain)
		return -ESRCH;
	/* Xen makes room for 64 at a time. */
	if (request->port >= (domain->port_end + 63) / 64 * 64)
		return -EINVAL;
	if (domain != client->domain && client->domain->type != HV_DOM0)
		return -EPERM;
	port = hv_evtchn_port(domain, request->port);
	if (port && port->peer) {
		facts.state = SIM_PORT_CONNECTED;
		facts.domid = port->peer->domain->domid;
		facts.port = port->peer->number;
	} else if (port && port->virq != HV_NO_VIRQ) {
		facts.state = SIM_PORT_VIRQ;
		facts.port = port->virq;
	} else if (is_kernels_port(domain, request->port)) {
		facts.state = SIM_PORT_CONNECTED;
	} else if (port) {
		facts.state = SIM_PORT_UNBOUND;
		facts.domid = port->remote_domid;
	}
	tell(&answer->reply, &facts, sizeof(facts));
	return 0;
}

int hv_call_life(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_domain *domain = hv_domain_by_id(client->domain->hv, request->domid);

	if (!domain)
		return -ESRCH;
	if (client->domain->type != HV_DOM0)
		return -EPERM;
	if (request->op == SIM_OP_UNPAUSE)
		return hv_domain_count_pause(domain, false);
	/* Xen refuses it to its caller, and would end the host with a domain 0 that shuts down. */
	if (domain == client->domain)
		return -EINVAL;
	switch (request->op) {
	case SIM_OP_PAUSE:
		return hv_domain_count_pause(domain, true);
	case SIM_OP_DESTROY:
		if (hv_libxl_save_is_written(domain))
			return hv_libxl_save_end(domain);
		hv_domain_die(domain);
		return 0;
	default:
		hv_domain_shuts_down(domain, (enum hv_shutdown)request->count);
		return 0;
	}
}
