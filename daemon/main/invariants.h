/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_INVARIANTS_H
#define XENMSG_DAEMON_INVARIANTS_H

/* A daemon that looks at itself, in a build with --enable-invariants (base/invariant.h). */

#include <stdint.h>

struct daemon;

#ifdef XENMSG_INVARIANTS
/* Looks whether all is as it must be. */
void invariants_check(const struct daemon *daemon);
/* Writes what `status --all` says around the hand-over with this number into a file of the folder that
 * XENMSG_DUMPS names. */
void invariants_dump(struct daemon *daemon, uint64_t renewals, const char *when);
#else
static inline void invariants_check(const struct daemon *daemon)
{
}
static inline void invariants_dump(struct daemon *daemon, uint64_t renewals, const char *when)
{
}
#endif

#endif
