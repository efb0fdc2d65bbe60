/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What Xen and xenconsoled do for libxl in domain 0 when that makes a guest (`xl create`): Xen has a paused
 * domain that nobody knows anything else of, and ports for its kernel. libxl writes its home, introduces it
 * to xenstored, and waits for xenconsoled to name the terminal of its console. There is none here, since no
 * kernel writes to it: a name is there, and no file. What the guest then does is libxl's to answer.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define NO_TERMINAL "/dev/pts/none-on-xensim"

/* Returns 0, or -EBADMSG. */
static int format_uuid(const struct sim_request *request, char text[37])
{
	const uint8_t *uuid = (const uint8_t *)request->refs;

	if (request->count * sizeof(request->refs[0]) != 16)
		return -EBADMSG;
	for (unsigned i = 0; i < 16; i++) {
		text += sprintf(text, "%02x", uuid[i]);
		if (i == 3 || i == 5 || i == 7 || i == 9)
			*text++ = '-';
	}
	*text = 0;
	return 0;
}

int hv_call_create(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_domain *domain;
	char uuid[37];
	int r;

	r = format_uuid(request, uuid);
	if (r < 0)
		return r;
	r = hv_domain_create_for_libxl(client->domain->hv,
				       request->domid < HV_FIRST_RESERVED_DOMID ? request->domid : 0,
				       request->writable ? HV_PVH : HV_PV, uuid, &domain);
	if (r == 0)
		answer->reply.id = domain->domid;
	return r;
}

int hv_call_kernels_port(struct hv_client *client, const struct sim_request *request,
			 struct hv_answer *answer)
{
	struct hv_domain *domain = hv_domain_by_id(client->domain->hv, request->domid);

	if (!domain)
		return -ESRCH;
	if (!domain->is_libxls || domain->kernels_ports == HV_KERNELS_PORTS)
		return -ENOSYS;
	answer->reply.port = ++domain->kernels_ports;
	return 0;
}

int hv_call_save(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_domain *domain = hv_domain_by_id(client->domain->hv, request->domid);

	if (!domain || domain->state == HV_ZOMBIE)
		return -ESRCH;
	if (request->op == SIM_OP_RESUME)
		return hv_libxl_save_resume(domain);
	return request->count ? hv_libxl_save_written(domain) : hv_libxl_save_begin(client, domain);
}

int hv_call_restore(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv *hv = client->domain->hv;
	struct hv_domain *place = hv_domain_by_id(hv, request->domid), *saved;
	char uuid[37];
	int r = format_uuid(request, uuid);

	if (r < 0)
		return r;
	if (!place)
		return -ESRCH;
	for (saved = hv->suspended; saved; saved = saved->next_suspended)
		if (strcmp(saved->uuid, uuid) == 0)
			break;
	if (!saved)
		return -ENOENT;
	/* Only what libxl has just made, and nobody has used. */
	if (!place->is_libxls || place->clients || place->state != HV_PAUSED)
		return -EBUSY;
	return hv_domain_resume_in_place(saved, place);
}

struct introduced {
	struct hv *hv;
	uint32_t domid;
};

static void name_terminal(evutil_socket_t fd, short events, void *userdata)
{
	struct introduced *introduced = userdata;
	struct hv_domain *domain = hv_domain_by_id(introduced->hv, introduced->domid);
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/console/tty", introduced->domid);
	if (domain && domain->state != HV_ZOMBIE)
		sim_store_write(introduced->hv->store, path, NO_TERMINAL, NULL, 0);
	free(introduced);
}

void hv_console_appears(struct hv_domain *domain)
{
	const struct timeval soon = {0};
	struct introduced *introduced = domain->is_libxls ? malloc(sizeof(*introduced)) : NULL;

	/* The store is still at what it tells of. */
	if (!introduced)
		return;
	*introduced = (struct introduced){domain->hv, domain->domid};
	if (event_base_once(domain->hv->base, -1, EV_TIMEOUT, name_terminal, introduced, &soon) < 0)
		free(introduced);
}
