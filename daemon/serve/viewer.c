/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/viewer.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/users.h"
#include "daemon/local/session.h"

static bool is_member(const struct hop *program, gid_t group)
{
	bool is_in = false;
	unsigned count;
	gid_t *groups;

	if (group == USERS_NO_GID)
		return false;
	if (hop_program(program)->identity.gid == group)
		return true;
	if (peer_groups(session_socket(program), &groups, &count) < 0)
		return false;
	for (unsigned i = 0; i < count && !is_in; i++)
		is_in = groups[i] == group;
	free(groups);
	return is_in;
}

struct viewer viewer_of(const struct hop *program, gid_t administrators)
{
	uid_t uid = hop_program(program)->identity.uid;

	return (struct viewer){
		.uid = uid,
		.sees_all = uid == 0 || uid == geteuid() || is_member(program, administrators),
	};
}
