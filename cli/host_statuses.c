/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/host_statuses.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/far_status.h"
#include "cli/fields.h"

#define ASKED_AT_ONCE 16u /* an answer may have half a megabyte */
/* What all statuses may take, of which each domain has the same share; and the least of that. */
#define ALL_MOST    (256u << 20)
#define SHARE_LEAST (1u << 20)

struct domain_asked {
	struct json_object *entry; /* of the array */
	size_t most;		   /* memory of its status */
	bool is_over;
};

static void add_error(struct json_object *entry, int error, const char *why)
{
	json_object_object_add(entry, "error", json_object_new_int(error));
	json_object_object_add(entry, "why", why ? json_object_new_string(why) : NULL);
}

static struct json_object *add_entry(struct json_object *all, struct json_object *domain)
{
	struct json_object *entry = json_object_new_object();

	json_object_object_add(entry, "domid", json_object_get(at(domain, "domid")));
	json_object_object_add(entry, "name", json_object_get(at(domain, "name")));
	add_error(entry, 0, NULL);
	json_object_object_add(entry, "status", NULL);
	json_object_array_add(all, entry);
	return entry;
}

static void host_statuses_on_answer(void *userdata, const struct xenmsg_result *result)
{
	struct domain_asked *asked = userdata;
	struct json_object *answer = result->error == 0 ? json_tokener_parse(result->json) : NULL, *status;
	const char *why;

	asked->is_over = true;
	free(result->json);
	if (result->error < 0) {
		add_error(asked->entry, -result->error, result->reason);
		return;
	}
	status = remote_status_read(answer, asked->most, &why);
	json_object_put(answer);
	if (status)
		json_object_object_add(asked->entry, "status", status);
	else
		add_error(asked->entry, EPROTO, why);
}

static void host_statuses_begin(struct xenmsg *conn, struct domain_asked *asked, int timeout_ms)
{
	char question[32];
	int r;

	snprintf(question, sizeof(question), "status of %u", (unsigned)number_at(asked->entry, "domid"));
	r = xenmsg_begin_query(conn, question, XENMSG_WITHIN(timeout_ms), host_statuses_on_answer, asked,
			       NULL);
	if (r < 0) {
		add_error(asked->entry, -r, xenmsg_error_text(r));
		asked->is_over = true;
	}
}

/* Asks the domains of these entries. */
static void ask(struct xenmsg *conn, struct domain_asked *asked, size_t count, int timeout_ms)
{
	size_t begun = 0;

	for (size_t i = 0; i < count; i++) {
		while (begun < count && begun < i + ASKED_AT_ONCE)
			host_statuses_begin(conn, &asked[begun++], timeout_ms);
		while (!asked[i].is_over) {
			int r = xenmsg_wait(conn, -1);

			if (r < 0 && r != -EINTR && !asked[i].is_over) { /* it ends all that is asked first */
				add_error(asked[i].entry, -r, xenmsg_error_text(r));
				asked[i].is_over = true;
			}
		}
	}
}

/* Returns why the status of the local daemon isn't that of a host's administrator; NULL: it is. */
static const char *why_not(struct json_object *own)
{
	if (number_at(own, "domid") != 0)
		return "domains tell domain 0 alone how they are: ask there";
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
	struct domain_asked *asked = calloc(length_of(peers) + 1, sizeof(*asked));
	size_t count = 0;

	if (!asked)
		abort();
	json_object_object_add(add_entry(all, own), "status", json_object_get(own));
	for (size_t i = 0; i < length_of(peers); i++) {
		struct json_object *peer = json_object_array_get_idx(peers, i);

		if (json_object_get_boolean(at(peer, "up")))
			asked[count++].entry = add_entry(all, peer);
	}
	for (size_t i = 0; i < count; i++)
		asked[i].most = share_of(count);
	ask(conn, asked, count, timeout_ms);
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
