/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VIEWER_H
#define XENMSG_DAEMON_VIEWER_H

/*
 * Who asks about the daemon, and whether he may see what others do. Root may, the daemon's own user, and
 * members of the administrators' group (admin-group in xenmsgd.conf). Everybody else sees what is his own,
 * and what isn't about anybody.
 */

#include <stdbool.h>
#include <sys/types.h>

struct session;

#define VIEWER_NO_GROUP ((gid_t)-1)

struct viewer {
	uid_t uid;
	bool sees_all;
};

/* The group of that name; VIEWER_NO_GROUP: there is none. It may read files and ask other programs: not for
 * the event loop. */
gid_t viewer_group(const char *name);
/* By the kernel's word for who was at the other end of the session's socket when it connected. */
struct viewer viewer_of(const struct session *session, gid_t administrators);

#endif
