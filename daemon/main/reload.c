/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads again what may change while the daemon runs: the policy, and what is started on demand. */

#include <errno.h>
#include <stdlib.h>

#include "base/notify.h"
#include "daemon/activation/activation.h"
#include "daemon/activation/activation_read.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/link/relay.h"
#include "daemon/registry/registry.h"
#include "daemon/policy/access.h"
#include "daemon/serve/router.h"
#include "daemon/serve/watches.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "wire/ut.h"

/* Reviews look for other names of the domains of senders, and for channels that the rules forbid now. */
#define REVIEW_NAMES 1u
#define REVIEW_RULES 2u

/* A question that asked for a reload, and waits for the end of this walk. */
struct reload_asked {
	struct question *question;
	uint64_t walk;
	struct reload_asked *next;
};

/* --- channels, one by one ------------------------------------------------------------------------ */

static void look(void *userdata, struct channel *channel, uint8_t what)
{
	struct daemon *daemon = userdata;
	enum channel_rules of = channel_rules(channel);
	bool rules = what & REVIEW_RULES;

	if (of == RULES_HERE) {
		router_recheck(daemon->router, channel, rules);
	} else if (of == RULES_ON_THE_WAY) {
		router_tell_name(daemon->router, channel);
		if (rules)
			relay_recheck(daemon->relay, channel);
	}
}

static void answer_asked(struct daemon *daemon, uint64_t walk)
{
	struct reload_asked *asked, *next;

	LL_FOREACH_SAFE(daemon->reload.asked, asked, next) {
		if (asked->walk > walk)
			continue;
		LL_DELETE(daemon->reload.asked, asked);
		if (asked->question)
			requests_reloaded(&daemon->request_context, asked->question);
		free(asked);
	}
}

static void all_was_looked_at(void *userdata, uint64_t walk)
{
	struct daemon *daemon = userdata;

	answer_asked(daemon, walk);
	if (!daemon->reload.ready_after || daemon->reload.ready_after > walk)
		return;
	daemon->reload.ready_after = 0;
	notify_ready(daemon->notify);
}

void reload_prepare(struct daemon *daemon)
{
	daemon->reload.review = (struct review){.look = look, .over = all_was_looked_at, .userdata = daemon};
	review_init(&daemon->reload.review, &daemon->board);
}

void reload_end(struct daemon *daemon)
{
	struct reload_asked *asked, *next;

	review_cancel(&daemon->reload.review);
	LL_FOREACH_SAFE(daemon->reload.asked, asked, next)
		free(asked);
	daemon->reload.asked = NULL;
}

void reload_apply_names(struct daemon *daemon)
{
	bool rules = access_needs_names(daemon->access);

	if (rules)
		watches_hang_up(daemon->watches);
	review_begin(&daemon->reload.review, REVIEW_NAMES | (rules ? REVIEW_RULES : 0));
}

uint64_t reload_apply_rules(struct daemon *daemon)
{
	router_advertise(daemon->router);
	watches_hang_up(daemon->watches);
	registry_tell(daemon->registry, REGISTRY_RULES, 0);
	return review_begin(&daemon->reload.review, REVIEW_NAMES | REVIEW_RULES);
}

/* --- this domain was restored -------------------------------------------------------------------- */

/* Is given to the hop of each program, each stream, and each room where channels wait for a program. */
struct visit {
	struct router *router;
	uint32_t was, domid; /* this domain, before it was restored, and now */
};

static void restart(void *userdata, struct hop *hop)
{
	const struct visit *visit = userdata;

	router_restart_hop(visit->router, hop, visit->was);
	hop_set_domid(hop, visit->domid);
}

void reload_restart_channels(struct daemon *daemon, uint32_t was)
{
	struct visit visit = {.router = daemon->router, .was = was, .domid = daemon->self.domid};

	parts_each_hop(daemon, restart, &visit);
}

/* --- files ---------------------------------------------------------------------------------------- */

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
		daemon->reload.ready_after = reload_apply_rules(daemon);
		return 0;
	}
	access_rules_free(&rules);
	if (!daemon->reload.ready_after)
		notify_ready(daemon->notify);
	return r < 0 ? r : r2;
}

int reload_ask(void *userdata, struct question *question, const char **why)
{
	struct daemon *daemon = userdata;
	struct reload_asked *asked = calloc(1, sizeof(*asked));
	int r = asked ? reload_files(daemon) : -ENOMEM;

	*why = asked ? reload_error(daemon) : NULL;
	if (r < 0) {
		free(asked);
		return r;
	}
	*asked = (struct reload_asked){.question = question, .walk = daemon->reload.ready_after};
	LL_APPEND(daemon->reload.asked, asked);
	return 0;
}

void reload_forget(void *userdata, const struct question *question)
{
	const struct daemon *daemon = userdata;
	struct reload_asked *asked;

	LL_SEARCH_SCALAR(daemon->reload.asked, asked, question, question);
	if (asked)
		asked->question = NULL; /* it goes with the walk */
}

const char *reload_error(const struct daemon *daemon)
{
	const char *error = access_error(daemon->access);

	return error ? error : activations_error(daemon->activations);
}
