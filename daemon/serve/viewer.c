/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/viewer.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/users.h"
#include "daemon/local/session.h"

static bool is_member(const struct session *session, gid_t group)
{
	bool is_in = false;
	unsigned count;
	gid_t *groups;

	if (group == USERS_NO_GID)
		return false;
	if (session_credentials(session)->gid == group)
		return true;
	if (peer_groups(session_socket(session), &groups, &count) < 0)
		return false;
	for (unsigned i = 0; i < count && !is_in; i++)
		is_in = groups[i] == group;
	free(groups);
	return is_in;
}

struct viewer viewer_of(const struct session *session, gid_t administrators)
{
	uid_t uid = session_credentials(session)->uid;

	return (struct viewer){
		.uid = uid,
		.sees_all = uid == 0 || uid == geteuid() || is_member(session, administrators),
	};
}
