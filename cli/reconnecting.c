/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/reconnecting.h"

#include "cli/cli.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

void reconnecting_note_lost(const struct reconnecting *reconnecting, const char *reason)
{
	cli_note(reconnecting->cli, "%s %s: xenmsgd is lost%s%s%s; goes on when it is there again",
		 reconnecting->what, reconnecting->subject, *reason ? " (" : "", reason, *reason ? ")" : "");
}

void reconnecting_note_back(const struct reconnecting *reconnecting)
{
	cli_note(reconnecting->cli, "%s %s: xenmsgd is there again", reconnecting->what,
		 reconnecting->subject);
}

static void reconnecting_on_change(void *userdata, const struct xenmsg_change *change)
{
	struct reconnecting *reconnecting = userdata;

	if (change->kind == XENMSG_DAEMON_LOST)
		reconnecting_note_lost(reconnecting, change->reason);
	else if (change->kind == XENMSG_DAEMON_BACK && !reconnecting->code)
		reconnecting_note_back(reconnecting);
	else if (change->kind == XENMSG_DAEMON_REFUSED && !reconnecting->code)
		reconnecting->code = cli_error_because(
			change->reason, reconnecting->what,
			*change->endpoint ? change->endpoint : reconnecting->subject, change->error);
	if (reconnecting->changed)
		reconnecting->changed(reconnecting->userdata, change);
}

static int open_session(struct reconnecting *reconnecting, struct xenmsg **conn, unsigned waits,
			int *timeout_ms)
{
	unsigned flags = reconnecting->once ? 0 : XENMSG_RECONNECT | waits;
	struct long_wait *wait = NULL;
	int code;

	if (flags & XENMSG_WAIT)
		wait = long_wait_begin(reconnecting->cli, reconnecting->what, reconnecting->subject,
				       "no xenmsgd is running", *timeout_ms);
	code = cli_open_timed_with(reconnecting->cli, conn, flags, timeout_ms);
	long_wait_end(&wait);
	if (code == 0)
		xenmsg_on_change(*conn, reconnecting_on_change, reconnecting);
	return code;
}

int reconnecting_open(struct reconnecting *reconnecting, struct xenmsg **conn)
{
	int timeout_ms = -1;

	return open_session(reconnecting, conn, 0, &timeout_ms);
}

int reconnecting_open_timed(struct reconnecting *reconnecting, const char *address, bool waits,
			    const char *undone, struct xenmsg **conn, int *timeout_ms)
{
	reconnecting->subject = address;
	reconnecting->once = !waits;
	interrupt_catch();
	interrupt_allow_complaint("%s %s: interrupted; %s", reconnecting->what, address, undone);
	return open_session(reconnecting, conn, XENMSG_WAIT, timeout_ms);
}

/* ---- what takes long ------------------------------------------------------------------------ */

#define ASK_MS 1000

struct long_wait {
	struct cli *cli;
	const char *what, *address, *missing;
	int timeout_ms;
	pthread_t thread;
	sem_t over;
};

static bool is_away(const struct cli *cli, const char *address)
{
	struct xenmsg *conn;
	bool is = false;

	if (xenmsg_open(&conn, cli->socket, XENMSG_WITHIN(ASK_MS)) < 0)
		return false;
	is = cli_is_away(conn, address);
	xenmsg_close(conn);
	return is;
}

static void reconnecting_tell(const struct long_wait *wait)
{
	const char *away = is_away(wait->cli, wait->address) ? ": its domain is away, and waited for" : "";

	if (wait->timeout_ms < 0)
		cli_note(wait->cli, "%s %s: %s yet%s; " CLI_ENDS_WAIT, wait->what, wait->address,
			 wait->missing, away);
	else
		cli_note(wait->cli, "%s %s: %s yet%s; after %.0f s, by --timeout, it gives up", wait->what,
			 wait->address, wait->missing, away, wait->timeout_ms / 1000.0);
}

static void *watch_clock(void *userdata)
{
	struct long_wait *wait = userdata;
	struct timespec until;
	int r;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLI_LONG_MS / 1000;
	while ((r = sem_timedwait(&wait->over, &until)) < 0 && errno == EINTR)
		;
	if (r < 0)
		reconnecting_tell(wait);
	return NULL;
}

struct long_wait *long_wait_begin(struct cli *cli, const char *what, const char *address, const char *missing,
				  int timeout_ms)
{
	struct long_wait *wait = cli_is_watched(cli) ? malloc(sizeof(*wait)) : NULL;
	sigset_t all, before;
	int r;

	if (!wait)
		return NULL;
	*wait = (struct long_wait){
		.cli = cli, .what = what, .address = address, .missing = missing, .timeout_ms = timeout_ms};
	sem_init(&wait->over, 0, 0);
	/* A signal ends what blocks in the thread that waits. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&wait->thread, NULL, watch_clock, wait);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		return wait;
	sem_destroy(&wait->over);
	free(wait);
	return NULL;
}

void long_wait_end(struct long_wait **wait)
{
	if (!*wait)
		return;
	sem_post(&(*wait)->over);
	pthread_join((*wait)->thread, NULL);
	sem_destroy(&(*wait)->over);
	free(*wait);
	*wait = NULL;
}
