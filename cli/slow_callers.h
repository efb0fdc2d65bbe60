/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_SLOW_CALLERS_H
#define XENMSG_CLI_SLOW_CALLERS_H

/*
 * Callers who don't read their replies, so that each is waited for once and not with each of their calls. One
 * is forgotten when a reply to it is accepted, or when there are many others since.
 */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg.h"

#define SLOW_CALLERS 64

/* All zero: there are none. */
struct slow_callers {
	struct slow_caller {
		char host[64];
		uint32_t domid, uid, pid;
		bool used;
	} entries[SLOW_CALLERS];
	unsigned next; /* to be replaced */
};

/* Adds who has sent this request. */
void slow_callers_add(struct slow_callers *callers, const struct xenmsg_message *request);
bool slow_callers_have(const struct slow_callers *callers, const struct xenmsg_message *request);
void slow_callers_forget(struct slow_callers *callers, const struct xenmsg_message *request);

#endif
