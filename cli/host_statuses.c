/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/host_statuses.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/far_status.h"
#include "cli/fields.h"
#include "cli/json.h"

#define ASKED_AT_ONCE 16u /* an answer may have half a megabyte */
/* What all statuses may take, of which each domain has the same share; and the least of that. */
#define ALL_MOST    (256u << 20)
#define SHARE_LEAST (1u << 20)

static void add_error(struct json_object *entry, int error, const char *why)
{
	json_object_object_add(entry, "error", json_object_new_int(error));
	json_object_object_add(entry, "why", why ? json_object_new_string(why) : NULL);
}

static struct json_object *host_statuses_add_entry(struct json_object *all, struct json_object *domain)
{
	struct json_object *entry = json_object_new_object();

	json_object_object_add(entry, "domid", json_object_get(at(domain, "domid")));
	json_object_object_add(entry, "name", json_object_get(at(domain, "name")));
	add_error(entry, 0, NULL);
	json_object_object_add(entry, "status", NULL);
	json_object_array_add(all, entry);
	return entry;
}

static int begin_status(struct xenmsg *conn, struct cli_asked *asked, const struct xenmsg_options *options,
			xenmsg_done done)
{
	char question[32];

	snprintf(question, sizeof(question), "status of %u", (unsigned)number_at(asked->entry, "domid"));
	return xenmsg_begin_query(conn, question, options, done, asked, NULL);
}

/* Takes an answer; `most` is the memory that its status may have. */
static void take_status(void *most, struct cli_asked *asked)
{
	struct json_object *status;
	const char *why;

	if (asked->error < 0) {
		add_error(asked->entry, -asked->error,
			  asked->reason ? asked->reason : xenmsg_error_text(asked->error));
		return;
	}
	status = remote_status_read(asked->json, asked->entry, *(size_t *)most, &why);
	if (status)
		json_object_object_add(asked->entry, "status", status);
	else
		add_error(asked->entry, EPROTO, why);
}

/* Returns why the status of the local daemon isn't that of a host's administrator; NULL: it is. */
static const char *why_not(struct json_object *own)
{
	if (number_at(own, "domid") != 0)
		return "a domain tells only domain 0 how it is; ask from there";
	return is_partial(own) ? "only " WHO_SEES_ALL " may ask other domains" : NULL;
}

static size_t share_of(size_t count)
{
	size_t share = ALL_MOST / count;

	return share > FAR_STATUS_MOST ? FAR_STATUS_MOST : share < SHARE_LEAST ? SHARE_LEAST : share;
}

static void ask_all(struct xenmsg *conn, struct json_object *own, struct json_object *peers, int timeout_ms,
		    struct json_object *all)
{
	struct cli_asked *asked = calloc(length_of(peers) + 1, sizeof(*asked));
	size_t count = 0, most;

	if (!asked)
		cli_no_memory();
	json_object_object_add(host_statuses_add_entry(all, own), "status", json_object_get(own));
	fields_foreach(peers, peer)
		if (json_object_get_boolean(at(peer, "up")))
			asked[count++].entry = host_statuses_add_entry(all, peer);
	most = share_of(count + !count);
	cli_ask_all(conn, asked, count, ASKED_AT_ONCE, timeout_ms, begin_status, take_status, &most);
	free(asked);
}

int host_statuses_ask(struct xenmsg *conn, int timeout_ms, struct json_object **all, const char **why)
{
	struct json_object *own, *peers = NULL;
	int r;

	*why = NULL;
	own = cli_query(conn, "status all", NULL, &r);
	if (own && (*why = why_not(own)))
		r = -EACCES;
	if (r == 0)
		peers = cli_query(conn, "peers", NULL, &r);
	if (r == 0) {
		*all = json_object_new_array();
		ask_all(conn, own, peers, timeout_ms, *all);
	}
	json_object_put(own);
	json_object_put(peers);
	return r;
}

int host_statuses_complain(struct cli *cli, struct xenmsg *conn, int error, const char *why)
{
	if (!why)
		return cli_error(conn, cli->command, "", error);
	cli_complain("%s: %s", cli->command, why);
	return EXIT_DENIED;
}

int host_statuses(struct cli *cli, int timeout_ms, struct json_object **all)
{
	struct xenmsg *conn;
	const char *why;
	int code = cli_open_timed(cli, &conn, &(int){timeout_ms}), r;

	if (code)
		return code;
	r = host_statuses_ask(conn, timeout_ms, all, &why);
	if (r < 0)
		code = host_statuses_complain(cli, conn, r, why);
	xenmsg_close(conn);
	return code;
}
