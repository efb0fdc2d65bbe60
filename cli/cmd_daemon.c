/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* daemon renew: has the daemon hand over to the program that is installed now. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "wire/advice.h"

static const char help[] =
	"Usage: xenmsg daemon [OPTIONS] renew\n"
	"\n"
	"Has the daemon hand over to the xenmsgd that is installed now, in the same\n"
	"process, and read its configuration anew. Connections of programs go on, with\n"
	"their endpoints, watches, topics, subscriptions, and messages, calls and byte\n"
	"streams under way, also to other domains and hosts. This is for root, the\n"
	"user that the daemon runs as, and members of its admin-group.\n"
	"\n"
	"The installed program is asked first whether it would come up: if not, it says\n"
	"why, nothing changes, and the exit status is 2. It is 8 if the next daemon\n"
	"couldn't take over all that it was given, so that some connections have ended,\n"
	"and 9 if all have.\n"
	"\n"
	"\n"
	"Examples:\n"
	"  xenmsg daemon renew\n"
	"  xenmsg daemon --socket /run/xenmsg/xenmsg.sock renew\n";

static int renew(struct cli *cli)
{
	struct xenmsg *conn;
	char *text = NULL;
	int code = cli_open(cli, &conn), r;

	if (code)
		return code;
	r = xenmsg_query(conn, "renew", NULL, &text);
	if (r == 0) {
		cli_print_line("%s takes over", text);
		code = cli_flush();
	} else if (r == -EPERM) {
		cli_complain("daemon renew: %s", xenmsg_reason(conn, r));
		code = EXIT_DENIED;
	} else if (r == -EINVAL) {
		cli_complain("daemon renew: %s; the daemon goes on as it was", xenmsg_reason(conn, r));
		code = EXIT_USAGE;
	} else {
		code = cli_error(conn, "daemon renew", "", r);
	}
	free(text);
	xenmsg_close(conn);
	return code;
}

int cmd_daemon(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {{0}};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind == 1 && !strcmp(argv[optind], "start"))
		return cli_usage("daemon", "there is no 'start': " ADVICE_START("xenmsgd"));
	if (argc - optind == 1 && !strcmp(argv[optind], "stop"))
		return cli_usage("daemon", "there is no 'stop': " ADVICE_STOP("xenmsgd"));
	if (argc - optind == 1 && !strcmp(argv[optind], "restart"))
		return cli_usage("daemon",
				 "there is no 'restart': " ADVICE_RESTART(
					 "xenmsgd") ", or 'xenmsg daemon renew', which ends no connection");
	if (argc - optind == 1 && !strcmp(argv[optind], "reload"))
		return cli_usage("daemon", "there is no 'reload': xenmsg policy reload");
	if (argc - optind == 1 && !strcmp(argv[optind], "status"))
		return cli_usage("daemon", "there is no 'status': xenmsg status, or xenmsg doctor");
	if (argc - optind != 1 || strcmp(argv[optind], "renew"))
		return cli_usage("daemon", "daemon takes one word: renew");
	return renew(cli);
}
