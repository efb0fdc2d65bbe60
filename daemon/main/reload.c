/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads again what may change while the daemon runs: the policy, and what is started on demand. */

#include "daemon/activation/activation.h"
#include "daemon/activation/activation_read.h"
#include "base/notify.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/link/relay.h"
#include "daemon/local/local.h"
#include "daemon/local/stream.h"
#include "daemon/local/streams.h"
#include "daemon/registry/registry.h"
#include "daemon/policy/access.h"
#include "daemon/serve/router.h"
#include "daemon/topic/topics.h"

/* What is done with the hop of each program, each stream, and each room where channels wait for a program. */
struct visit {
	void (*hop)(const struct visit *visit, struct hop *hop);
	struct router *router;
	bool rules;	     /* may decide otherwise now */
	uint32_t was, domid; /* this domain, before it was restored, and now */
};

static void visit_session(void *userdata, struct session *session)
{
	const struct visit *visit = userdata;

	visit->hop(visit, session_hop(session));
}

static void visit_stream(void *userdata, struct stream *stream)
{
	const struct visit *visit = userdata;

	visit->hop(visit, stream_hop(stream));
}

static void visit_room(void *userdata, struct hop *room)
{
	const struct visit *visit = userdata;

	visit->hop(visit, room);
}

static void visit_topic(void *userdata, struct hop *hop)
{
	const struct visit *visit = userdata;

	visit->hop(visit, hop);
}

static void visit_hops(struct daemon *daemon, struct visit *visit)
{
	visit->router = daemon->router;
	activations_each_waiting_room(daemon->activations, visit_room, visit);
	if (daemon->local) /* names may come before there are programs (startup_await_presence()) */
		local_each(daemon->local, visit_session, visit);
	streams_each(daemon->streams, visit_stream, visit);
	topics_each_hop(daemon->topics, visit_topic, visit);
}

static void reload_recheck(const struct visit *visit, struct hop *hop)
{
	router_recheck_hop(visit->router, hop, visit->rules);
}

void reload_recheck_channels(struct daemon *daemon, bool rules)
{
	visit_hops(daemon, &(struct visit){.hop = reload_recheck, .rules = rules});
	if (rules)
		relay_recheck(daemon->relay);
}

static void restart(const struct visit *visit, struct hop *hop)
{
	router_restart_hop(visit->router, hop, visit->was);
	hop_set_domid(hop, visit->domid);
}

void reload_restart_channels(struct daemon *daemon, uint32_t was)
{
	visit_hops(daemon, &(struct visit){.hop = restart, .was = was, .domid = daemon->self.domid});
}

void reload_apply_rules(struct daemon *daemon)
{
	reload_recheck_channels(daemon, true);
	router_advertise(daemon->router);
	registry_tell(daemon->registry, REGISTRY_RULES, 0);
}

int reload_files(struct daemon *daemon)
{
	struct activation_settings *list = NULL;
	struct access_rules rules;
	int r, r2;

	notify_reloading(daemon->notify);
	/* Both are read, so that the mistakes of both are told. */
	r = access_read(daemon->access, &rules);
	r2 = activations_read(daemon->activations, &list);
	if (r == 0 && r2 == 0)
		r2 = activations_take(daemon->activations, list);
	else
		activation_settings_free(list);
	if (r == 0 && r2 == 0) {
		access_take(daemon->access, &rules);
		reload_apply_rules(daemon);
	} else {
		access_rules_free(&rules);
	}
	notify_ready(daemon->notify);
	return r < 0 ? r : r2;
}

const char *reload_error(const struct daemon *daemon)
{
	const char *error = access_error(daemon->access);

	return error ? error : activations_error(daemon->activations);
}
