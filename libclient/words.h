/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_WORDS_H
#define XENMSG_LIBCLIENT_WORDS_H

/* What errors mean, in words for people, where the daemon has said nothing more, and what notices, changes
 * and events are called. All texts are static, but for those of strerror(3). xenmsg.h declares the others. */

#include <stdint.h>

#include "xenmsg.h"

/* The same of an error of xenmsg_open(): what isn't found then is the daemon, and no endpoint. */
const char *words_of_opening(int error);

/* Which side has ended a channel, by the flags of its RESET (RESET_BY), so that an outcome can't be known.
 * NULL: nobody knows. */
const char *words_of_reset(uint32_t flags);

#endif
