/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VIEWER_H
#define XENMSG_DAEMON_VIEWER_H

/*
 * The user who asks about the daemon, and whether they may see what others do. Root may, the daemon's own
 * user, and members of the administrators' group (admin-group in xenmsgd.conf). Others see what is their own,
 * and what concerns no user. In a guest domain 0 sees what host-sight says.
 */

#include <stdbool.h>
#include <sys/types.h>

struct channel;
struct hop;

struct viewer {
	uid_t uid;
	bool sees_all;
	bool is_host; /* an administrator in domain 0, and `uid` is a user there */
	/* the channel of somebody who asks, and sees only what rules show; NULL: none of these */
	const struct channel *stranger;
};

/* Returns the viewer: the user that connected the session's socket, as the kernel says. `administrators`:
 * their group, or USERS_NO_GID. */
struct viewer viewer_of(const struct hop *program, gid_t administrators);

#endif
