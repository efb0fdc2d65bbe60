/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/commands.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

#define PROGRAM "xenmsg-more"

/* Becomes it, if it is beside this program: in the tree where both were built. Returns if it isn't there. */
static void become_beside(char **words)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof(PROGRAM));

	while (n > 0 && path[n - 1] != '/')
		n--;
	if (n <= 0)
		return;
	strcpy(path + n, PROGRAM);
	execv(path, words);
}

/* It parses all the words anew, so that nothing else has to be passed on. */
static int cmd_more(struct cli *cli, int argc, char **argv)
{
	static const char installed[] = PKGLIBEXECDIR "/" PROGRAM;

	become_beside(cli->words);
	execv(installed, cli->words);
	cli_complain("%s can't be run, which has this command: %s", installed, strerror(errno));
	return EXIT_OTHER;
}

/* In the order in which the help groups them. */
const struct command commands[] = {
	{"send", cmd_send, "send a message, or each line as one; wait until it is delivered", "Messages"},
	{"recv", cmd_recv, "bind an endpoint and print what comes", NULL},
	{"publish", cmd_publish, "publish messages on a topic, to all who subscribe", "Topics"},
	{"subscribe", cmd_subscribe, "print what is published, and what was missed", NULL},
	{"call", cmd_call, "send a request and print the reply", "Calls"},
	{"serve", cmd_serve, "answer calls with a command", NULL},
	{"connect", cmd_connect, "open a byte stream on standard input and output", "Streams"},
	{"listen", cmd_listen, "accept byte streams, one or with a command for each", NULL},
	{"forward", cmd_forward, "carry connections between Unix, TCP and Xen addresses", NULL},
	{"run", cmd_run, "run a command elsewhere, with its streams and exit status", "Commands"},
	{"vchan", cmd_vchan, "run a program written for vchans over xenmsg", NULL},
	{"peers", cmd_peers, "list the domains", "See"},
	{"endpoints", cmd_endpoints, "list what can be reached", NULL},
	{"hosts", cmd_hosts, "list the other hosts, and what leads to them", NULL},
	{"watch", cmd_watch, "print comings and goings as they happen", NULL},
	{"trace", cmd_trace, "what becomes of messages, calls and streams, step by step", NULL},
	{"status", cmd_status, "show the local daemon's account of itself", NULL},
	{"top", cmd_more, "the same, live, in a terminal", NULL},
	{"doctor", cmd_more, "try each step to others, and say how to mend what fails", "Mend"},
	{"ping", cmd_ping, "measure round trips to a domain's daemon", NULL},
	{"bench", cmd_bench, "measure messages, calls and streams to another domain", NULL},
	{"daemon", cmd_daemon, "have the daemon hand over to the program that is installed now", NULL},
	{"policy", cmd_more, "which rules are in force, what they decide and have refused", "Policy"},
	{"exporter", cmd_more, "the status for Prometheus, by HTTP", "Export"},
};
const size_t commands_count = sizeof(commands) / sizeof(commands[0]);
