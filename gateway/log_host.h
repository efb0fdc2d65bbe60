/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_LOG_HOST_H
#define XENMSG_GATEWAY_LOG_HOST_H

/* Another host as what causes lines in the log. The gateway has no numbers for hosts, so each is known by a
 * hash. */

#include <string.h>

#include "base/log.h"
#include "wire/ut.h"

static inline struct log_source log_by_host(const char *name)
{
	return (struct log_source){LOG_HOST, keyed_hash(name, strlen(name))};
}

#endif
