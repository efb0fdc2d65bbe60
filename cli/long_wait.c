/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/long_wait.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/command.h"

#define ASK_MS 5000

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

static void tell(const struct cli *cli, const char *what, const char *address, const char *missing,
		 int timeout_ms)
{
	const char *away = is_away(cli, address) ? ": its domain is away, and waited for" : "";

	if (timeout_ms < 0)
		cli_note(cli, "%s %s: %s yet%s; " CLI_ENDS_WAIT, what, address, missing, away);
	else
		cli_note(cli, "%s %s: %s yet%s; after %.0f s, by --timeout, it gives up", what, address,
			 missing, away, timeout_ms / 1000.0);
}

struct long_wait long_wait_begin(struct cli *cli, const char *what, const char *address, const char *missing,
				 int timeout_ms)
{
	const struct timespec long_time = {.tv_sec = CLI_LONG_MS / 1000};
	pid_t parent = getpid();
	struct long_wait wait = {0};

	if (!cli_is_watched(cli))
		return wait;
	fflush(stdout);
	wait.pid = command_fork();
	if (wait.pid != 0)
		return wait;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	nanosleep(&long_time, NULL);
	if (getppid() == parent)
		tell(cli, what, address, missing, timeout_ms);
	_exit(0);
}

void long_wait_end(struct long_wait *wait)
{
	if (wait->pid <= 0)
		return;
	kill(wait->pid, SIGKILL);
	waitpid(wait->pid, NULL, 0);
	wait->pid = 0;
}
