/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/host_look.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/clock.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/host_view.h"

/* Looks once. Replaces *view, which was made at *when, in ns, or is NULL. */
static int look(struct cli *cli, struct xenmsg *conn, struct host_view **view, uint64_t *when)
{
	uint64_t now = clock_ns();
	struct json_object *all;
	struct host_view *before = *view;
	const char *why;
	int r = host_statuses_ask(conn, HOST_ANSWER_MS, &all, &why);

	if (r < 0)
		return host_statuses_complain(cli, conn, r, why);
	*view = host_view_new(all, before, (double)(now - *when) / 1e9);
	json_object_put(all);
	host_view_free(before);
	*when = now;
	return *view ? EXIT_DONE : host_statuses_complain(cli, conn, -ENOMEM, NULL);
}

int host_look(struct cli *cli, int delay_ms, struct host_view **view)
{
	struct xenmsg *conn;
	uint64_t when = 0;
	int code = cli_open(cli, &conn);

	if (code)
		return code;
	*view = NULL;
	code = look(cli, conn, view, &when);
	if (code == EXIT_DONE && delay_ms > 0) {
		poll(NULL, 0, delay_ms);
		code = look(cli, conn, view, &when);
	}
	xenmsg_close(conn);
	if (code != EXIT_DONE) {
		host_view_free(*view);
		*view = NULL;
	}
	return code;
}

int host_look_print(const struct host_view *view)
{
	cli_print_line("%s", json_line(view->shown));
	return cli_flush();
}
