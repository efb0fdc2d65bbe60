/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "daemon/viewer.h"

#include <grp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/session.h"

#define GROUPS_MAX 1024

gid_t viewer_group(const char *name)
{
	const struct group *group = getgrnam(name);

	return group ? group->gr_gid : VIEWER_NO_GROUP;
}

static bool is_member(const struct session *session, gid_t group)
{
	gid_t groups[GROUPS_MAX];
	socklen_t size = sizeof(groups);

	if (group == VIEWER_NO_GROUP)
		return false;
	if (session_credentials(session)->gid == group)
		return true;
	if (getsockopt(session_socket(session), SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t i = 0; i < size / sizeof(gid_t); i++)
		if (groups[i] == group)
			return true;
	return false;
}

struct viewer viewer_of(const struct session *session, gid_t administrators)
{
	uid_t uid = session_credentials(session)->uid;

	return (struct viewer){
		.uid = uid,
		.sees_all = uid == 0 || uid == geteuid() || is_member(session, administrators),
	};
}
