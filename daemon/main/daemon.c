/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/activation/activation.h"
#include "base/clock.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/link/link.h"
#include "daemon/local/local.h"
#include "base/log.h"
#include "base/notify.h"
#include "daemon/peers/peers.h"
#include "base/timer.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"
#include "daemon/serve/viewer.h"
#include "wire/cpu_atomics.h"

/* --- signals ---------------------------------------------------------------------------------- */

static void on_stop_signal(int number, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	log_info("stopping: %s", strsignal(number));
	daemon->stop_asked = true;
	event_base_loopbreak(daemon->base);
}

static void on_hangup(int number, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	reload_files(daemon);
}

static int start_base(struct daemon *daemon)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* until there is a policy to reload */
	daemon->base = event_base_new();
	if (!daemon->base)
		return -ENOMEM;
	daemon->term = evsignal_new(daemon->base, SIGTERM, on_stop_signal, daemon);
	daemon->interrupt = evsignal_new(daemon->base, SIGINT, on_stop_signal, daemon);
	daemon->hangup = evsignal_new(daemon->base, SIGHUP, on_hangup, daemon);
	if (!daemon->term || !daemon->interrupt || !daemon->hangup || event_add(daemon->term, NULL) < 0 ||
	    event_add(daemon->interrupt, NULL) < 0)
		return -ENOMEM;
	return self_new_instance(&daemon->self);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Handles SIGHUP from here on: before, a reload would find nothing to apply to, and the default action would
 * end us. */
static int hear_hangup(struct daemon *daemon)
{
	return event_add(daemon->hangup, NULL) < 0 ? -ENOMEM : 0;
}

int daemon_new(struct daemon **out, const struct config *config)
{
	struct daemon *daemon = calloc(1, sizeof(*daemon));
	int r;

	if (!daemon)
		return -ENOMEM;
	daemon->singleton = -1;
	daemon->sockets = (struct handed_over){-1, -1};
	daemon->started_ms = clock_ms();
	daemon->config = *config;
	daemon->administrators = viewer_group(config->admin_group);
	r = start_base(daemon);
	if (r == 0)
		r = wiring_start(daemon);
	if (r == 0)
		r = hear_hangup(daemon);
	if (r < 0)
		daemon_free(daemon);
	else
		*out = daemon;
	return r;
}

int daemon_run(struct daemon *daemon)
{
	log_info("domain %u: listening on %s", daemon->self.domid, local_path(daemon->local));
	if (!cpu_has_bounded_atomics())
		log_warning(
			"this CPU lacks LSE (ARMv8.1): a program or a domain that writes without end to what it shares with "
			"this daemon can hold it (doc/security.md)");
	notify_ready(daemon->notify);
	do
		if (event_base_loop(daemon->base, links_poll(daemon->links) ? EVLOOP_ONCE | EVLOOP_NONBLOCK
									    : EVLOOP_ONCE) < 0)
			return -EIO;
	while (!event_base_got_break(daemon->base));
	notify_stopping(daemon->notify);
	restore_before_stop(daemon);
	return daemon->failed ? -EIO : 0;
}

void daemon_free(struct daemon *daemon)
{
	if (!daemon)
		return;
	daemon->stopping = true;
	wiring_end(daemon);
	if (daemon->singleton >= 0) /* not before our nodes are out of XenStore */
		close(daemon->singleton);
	free_event(daemon->term);
	free_event(daemon->interrupt);
	free_event(daemon->hangup);
	if (daemon->base)
		event_base_free(daemon->base);
	free(daemon);
}
