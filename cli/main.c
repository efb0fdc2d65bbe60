/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/nearest.h"
#include "wire/advice.h"
#include "wire/libc.h"

static const char help_head[] =
	"Usage: xenmsg [OPTIONS] COMMAND ...\n"
	"\n"
	"Messages between Xen domains, by way of the local xenmsgd.\n"
	"\n"
	"Commands ('xenmsg help COMMAND' says more):\n";
static const char help_tail[] =
	"\n"
	"Options of every command:\n"
	"      --socket PATH   the daemon's socket; else $XENMSG_SOCKET, else\n"
	"                      /run/xenmsg/xenmsg.sock\n"
	"  -q, --quiet         no notes on standard error\n"
	"  -v, --verbose       more of them\n"
	"  -h, --help\n"
	"      --version\n"
	"      --json          for those that have it, also behind COMMAND\n"
	"\n"
	"Exit status: 0 done, 1 other error, 2 usage, 3 no such endpoint, 4 denied,\n"
	"5 domain or daemon not reachable, 6 timed out, 7 over a limit, 8 connection lost\n"
	"(delivery unknown), 9 no local daemon, 10 an error that the other program gave.\n";

static void make_help(char *help, size_t size)
{
	size_t used = (size_t)snprintf(help, size, "%s", help_head);

	for (size_t i = 0; i < commands_count; i++)
		used += (size_t)snprintf(help + used, size - used, "%s%s  %-10s %s\n",
					 commands[i].group ? commands[i].group : "",
					 commands[i].group ? ":\n" : "", commands[i].name, commands[i].text);
	snprintf(help + used, size - used, "%s", help_tail);
}

/* What other tools have, and which of ours does that. */
static const struct {
	const char *name, *meant;
} others[] = {
	{"ls", "endpoints"},
	{"list", "endpoints"},
	{"pub", "publish"},
	{"sub", "subscribe"},
	{"req", "call"},
	{"request", "call"},
	{"reply", "serve"},
	{"exec", "run"},
	{"info", "status"},
	{"nodes", "peers"},
	{"check", "doctor"},
	{"ps", "status"},
	{"topics", "endpoints"},
	{"start", ADVICE_START("xenmsgd")},
	{"stop", ADVICE_STOP("xenmsgd")},
	{"log", ADVICE_LOG("xenmsgd")},
	{"logs", ADVICE_LOG("xenmsgd")},
	{"restart", "daemon renew"},
	{"reload", "policy reload"},
	{"version", "--version"},
};

static int main_unknown_command(const char *name)
{
	struct nearest nearest = nearest_to(name);

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(name, others[i].name) == 0)
			return cli_usage("", "there is no command '%s'; did you mean '%s'?", name,
					 others[i].meant);
	for (size_t i = 0; i < commands_count; i++)
		nearest_try(&nearest, commands[i].name);
	if (nearest.meant)
		return cli_usage("", "there is no command '%s'; did you mean '%s'?", name, nearest.meant);
	return cli_usage("", "there is no command '%s'", name);
}

/* Runs a command, whose name is argv[0]. */
static int main_run(struct cli *cli, int argc, char **argv)
{
	char name[16];

	for (size_t i = 0; i < commands_count; i++)
		if (strcmp(argv[0], commands[i].name) == 0) {
			cli->command = commands[i].name;
			snprintf(name, sizeof(name), "xenmsg-%s", cli->command);
			prctl(PR_SET_NAME, name); /* as top and status of the daemon show it */
			return commands[i].run(cli, argc, argv);
		}
	return main_unknown_command(argv[0]);
}

/* Prints the help of a command; `argv` begins with "help". */
static int run_help(struct cli *cli, int argc, char **argv, const char *help)
{
	char option[] = "--help", *of[] = {NULL, option, option, NULL};
	bool has_two_words = argc == 3 && (!strcmp(argv[1], "policy") || !strcmp(argv[1], "daemon"));

	if (argc > 2 && !has_two_words)
		return cli_usage("", "help takes one command");
	for (int i = 1; i < argc; i++)
		of[i - 1] = argv[i];
	of[argc] = NULL;
	if (argc > 1)
		return main_run(cli, argc, of);
	fputs(help, stdout);
	return cli_flush();
}

/* Takes the places of standard input, output and error that are closed: what we open would get them, and be
 * read from and written to in their stead. To read input or write output there still fails; complaints go
 * nowhere, also those of commands that we start. */
static bool keep_places(void)
{
	static const int how[] = {O_WRONLY, O_RDONLY, O_WRONLY};

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", how[fd]) != fd)
			return false;
	return true;
}

/* Makes the signals of this process as a program expects them, whoever started it: none is blocked, the
 * end of a child is told, and a closed output or one that may grow no more is an error of write().
 * Signals that are ignored stay so: a shell asks for that, or nohup(1). */
static void reset_signals(void)
{
	sigset_t none;

	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void be_first_process(pid_t work, const sigset_t *all)
{
	const struct timespec at_once = {0};

	close_range(0, ~0u, 0); /* else nobody would see that the work has closed one of them */
	for (;;) {
		siginfo_t came;
		int status;
		pid_t ended = waitpid(-1, &status, WNOHANG);

		if (ended == work)
			_exit(command_exit_status(status));
		if (sigtimedwait(all, &came, ended > 0 ? &at_once : NULL) < 0 || came.si_signo == SIGCHLD)
			continue;
		if (came.si_code != SI_KERNEL) /* a terminal has sent it to the work too */
			kill(work, came.si_signo);
	}
}

/*
 * The first process of a container inherits each process there whose parent ends, and no signal reaches it
 * that it doesn't catch. So in it this function makes a process that does the work, and doesn't return: it
 * passes signals on, waits for all that end, and ends as the work does. Elsewhere it does nothing.
 */
static void leave_first_process(void)
{
	sigset_t all, before;
	pid_t work;

	if (getpid() != 1)
		return;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	work = fork();
	if (work > 0)
		be_first_process(work, &all);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

int main(int argc, char **argv)
{
	struct cli cli = {.words = argv, .command = ""};
	const struct cli_option options[] = {{"json", .flag = &cli.json}, {0}};
	char help[4096];
	int code;

	reset_signals(); /* command_fork() does so for commands */
	leave_first_process();
	if (!keep_places())
		return EXIT_OTHER;
	make_help(help, sizeof(help));
	opterr = 0;
	if (!cli_options_in_front(&cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("", "which command?");
	if (strcmp(argv[optind], "help") == 0)
		return run_help(&cli, argc - optind, argv + optind, help);
	return main_run(&cli, argc - optind, argv + optind);
}
