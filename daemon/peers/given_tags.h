/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_GIVEN_TAGS_H
#define XENMSG_DAEMON_GIVEN_TAGS_H

/*
 * The tags that the toolstack gives a domain, in /local/domain/N/xenmsg/tags: `web, db`, separated by commas,
 * blanks and ends of lines. For the host's policy (xenmsg-policy(5), HOST POLICY).
 */

#include <stddef.h>

#include "daemon/registry/registry.h"

#define GIVEN_TAGS_MAX	 32u
#define GIVEN_TAGS_BYTES (REGISTRY_TAGS_MAX - 2)

/* Reads them. 0 and *tags, which the caller frees: as struct policy_subject has them, NULL: none; -EINVAL:
 * and why, a part of a sentence; -ENOMEM. */
int given_tags_read(const char *untrusted_value, size_t size, char **tags, const char **why);

#endif
