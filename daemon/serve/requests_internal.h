/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REQUESTS_INTERNAL_H
#define XENMSG_DAEMON_REQUESTS_INTERNAL_H

/* What requests.c, which takes requests from sessions, and requests_answer.c, which answers questions,
 * share. */

#include "daemon/serve/requests.h"
#include "wire/address.h"

/* The program, as it is called by other daemons. */
struct frame_identity requests_identity(const struct request_context *context, const struct hop *program);
/* Whether this is on another host. */
bool requests_is_remote(const struct request_context *context, const struct address_parts *about);
/* Says why no domain has the name. */
const char *requests_why_unknown(const struct request_context *context);
/* Says what the error means of a domain. */
const char *requests_why_not(int error);

#endif
