/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads again what may change while the daemon runs: the policy, and what is started on demand. */

#include "daemon/activation/activation.h"
#include "daemon/base/notify.h"
#include "daemon/daemon_internal.h"
#include "daemon/link/via.h"
#include "daemon/local/local.h"
#include "daemon/local/stream.h"
#include "daemon/local/streams.h"
#include "daemon/peers/directory.h"
#include "daemon/policy/access.h"
#include "daemon/router.h"

static void recheck_session(void *userdata, struct session *session)
{
	router_recheck_hop(userdata, session_hop(session));
}

static void recheck_stream(void *userdata, struct stream *stream)
{
	router_recheck_hop(userdata, stream_hop(stream));
}

static void recheck_room(void *userdata, struct hop *room)
{
	router_recheck_hop(userdata, room);
}

void reload_recheck_channels(struct daemon *daemon)
{
	activations_each_room(daemon->activations, recheck_room, daemon->router);
	if (daemon->local) /* names may come before there are programs (startup_await_presence()) */
		local_each(daemon->local, recheck_session, daemon->router);
	streams_each(daemon->streams, recheck_stream, daemon->router);
	via_recheck(daemon->via);
}

int reload_files(struct daemon *daemon)
{
	int r, r2;

	notify_reloading(daemon->notify);
	r = access_reload(daemon->access);
	if (r == 0) {
		reload_recheck_channels(daemon);
		router_advertise(daemon->router);
		directory_refresh(daemon->directory);
	}
	r2 = activations_reload(daemon->activations);
	notify_ready(daemon->notify);
	return r < 0 ? r : r2;
}

const char *reload_error(const struct daemon *daemon)
{
	const char *error = access_error(daemon->access);

	return error ? error : activations_error(daemon->activations);
}
