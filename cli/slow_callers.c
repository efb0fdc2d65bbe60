/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/slow_callers.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static bool is_of(const struct slow_caller *caller, const struct xenmsg_message *request)
{
	return caller->used && caller->domid == xenmsg_peer_domid(xenmsg_message_sender(request)) &&
	       caller->uid == xenmsg_peer_uid(xenmsg_message_sender(request)) &&
	       caller->pid == xenmsg_peer_pid(xenmsg_message_sender(request)) &&
	       strcmp(caller->host, xenmsg_peer_host(xenmsg_message_sender(request))) == 0;
}

/* Returns where it is; SLOW_CALLERS: nowhere. */
static unsigned find(const struct slow_callers *callers, const struct xenmsg_message *request)
{
	unsigned i = 0;

	while (i < SLOW_CALLERS && !is_of(&callers->entries[i], request))
		i++;
	return i;
}

void slow_callers_add(struct slow_callers *callers, const struct xenmsg_message *request)
{
	struct slow_caller *caller = &callers->entries[callers->next];

	if (slow_callers_have(callers, request))
		return;
	callers->next = (callers->next + 1) % SLOW_CALLERS;
	*caller = (struct slow_caller){
		.domid = xenmsg_peer_domid(xenmsg_message_sender(request)),
		.uid = xenmsg_peer_uid(xenmsg_message_sender(request)),
		.pid = xenmsg_peer_pid(xenmsg_message_sender(request)),
		.used = true,
	};
	snprintf(caller->host, sizeof(caller->host), "%s", xenmsg_peer_host(xenmsg_message_sender(request)));
}

bool slow_callers_have(const struct slow_callers *callers, const struct xenmsg_message *request)
{
	return find(callers, request) < SLOW_CALLERS;
}

void slow_callers_forget(struct slow_callers *callers, const struct xenmsg_message *request)
{
	unsigned at = find(callers, request);

	if (at < SLOW_CALLERS)
		callers->entries[at].used = false;
}
