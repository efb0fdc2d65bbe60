/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* policy matrix: who may reach what, over all domains of this host. Each daemon tells of its endpoints whom
 * its policy, and the host's, lets in (visible_to in doc/status.schema.json); nothing is decided here. */

#include "cli/more/policy_matrix.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/json.h"
#include "cli/writer.h"

#define ANSWER_MS 5000

/* What all rows need. */
struct matrix {
	struct json_object *domains; /* of host_statuses() */
	struct json_object *about;   /* of each: its name, UUID and tags, by its domid */
	struct writer *writer;
	bool as_json;
};

/* Adds what a domain is called in rules: its UUID is in the list of peers, and the daemon knows its tags. */
static void matrix_learn(struct matrix *matrix, struct xenmsg *conn)
{
	matrix->about = json_object_new_object();
	fields_foreach(matrix->domains, domain) {
		const char *domid = text_or(domain, "domid", "");
		char question[sizeof("rules of ") + 16];
		struct json_object *rules;

		snprintf(question, sizeof(question), "rules of %s", domid);
		rules = cli_query(conn, question, NULL, NULL);
		json_object_object_add(matrix->about, domid,
				       json_object_get(json_object_array_get_idx(rules, 0)));
		json_object_put(rules);
	}
}

static bool has_tag(struct json_object *tags, const char *tag)
{
	fields_foreach(tags, one)
		if (!strcmp(json_object_get_string(one), tag))
			return true;
	return false;
}

/* Whether this word of a rule means the domain. *unknown is set if nobody knows. */
static bool means(struct json_object *domain, struct json_object *about, const char *word, bool *unknown)
{
	if (*word == '@') {
		*unknown |= !at(about, "tags");
		return has_tag(at(about, "tags"), word + 1);
	}
	return !strcmp(word, "*") || cli_is_domain(about ? about : domain, address_part_of(word));
}

/* Returns what the first word that means the sender says. */
static const char *answer(struct matrix *matrix, struct json_object *sender, struct json_object *visible_to)
{
	struct json_object *about = at(matrix->about, text_or(sender, "domid", ""));

	if (!json_object_is_type(visible_to, json_type_array))
		return "untold";
	fields_foreach(visible_to, one) {
		const char *word = json_object_get_string(one);
		bool is_denied = *word == '!', unknown = false;
		/* "?" leaves it to what stands behind it. */
		bool is_meant = *word != '?' && means(sender, about, word + is_denied, &unknown);

		if (is_meant || unknown)
			return unknown ? "undecided" : is_denied ? "deny" : "allow";
	}
	return "deny";
}

static void matrix_write_pair(struct matrix *matrix, struct json_object *sender, struct json_object *receiver,
			      const char *endpoint, const char *said)
{
	static const struct {
		const char *said, *sign;
	} signs[] = {{"allow", "yes"}, {"deny", "."}, {"undecided", "?"}, {"untold", "?"}};

	if (matrix->as_json) {
		writer_number(matrix->writer, "from", number_at(sender, "domid"));
		writer_text(matrix->writer, "from_name", text_or(sender, "name", NULL));
		writer_number(matrix->writer, "to", number_at(receiver, "domid"));
		writer_text(matrix->writer, "to_name", text_or(receiver, "name", NULL));
		writer_text(matrix->writer, "endpoint", endpoint);
		writer_text(matrix->writer, "answer", said);
		writer_end_row(matrix->writer);
		return;
	}
	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
		if (!strcmp(said, signs[i].said))
			writer_text(matrix->writer, text_or(sender, "domid", ""), signs[i].sign);
}

static void matrix_write_endpoint(struct matrix *matrix, struct json_object *receiver,
				  struct json_object *endpoint)
{
	char address[128];

	snprintf(address, sizeof(address), "%s:%s", text_or(receiver, "domid", ""),
		 text_or(endpoint, "name", ""));
	if (!matrix->as_json)
		writer_text(matrix->writer, "to", address);
	fields_foreach(matrix->domains, sender)
		if (sender != receiver)
			matrix_write_pair(matrix, sender, receiver, text_or(endpoint, "name", ""),
					  answer(matrix, sender, at(endpoint, "visible_to")));
		else if (!matrix->as_json)
			writer_text(matrix->writer, text_or(sender, "domid", ""), "");
	if (!matrix->as_json)
		writer_end_row(matrix->writer);
}

/* Returns how many domains tell nothing of whom they let in. */
static unsigned matrix_write(struct matrix *matrix)
{
	unsigned silent = 0;

	fields_foreach(matrix->domains, receiver) {
		struct json_object *status = at(receiver, "status");

		silent += !status || json_object_get_boolean(at(status, "partial"));
		fields_foreach(at(status, "endpoints"), endpoint)
			matrix_write_endpoint(matrix, receiver, endpoint);
	}
	return silent;
}

int policy_matrix(struct cli *cli, bool as_json)
{
	struct matrix matrix = {.as_json = as_json};
	struct xenmsg *conn;
	const char *why;
	unsigned silent;
	int code = cli_open(cli, &conn), r;

	if (code)
		return code;
	r = host_statuses_ask(conn, ANSWER_MS, &matrix.domains, &why);
	if (r < 0) {
		code = host_statuses_complain(cli, conn, r, why);
		xenmsg_close(conn);
		return code;
	}
	matrix_learn(&matrix, conn);
	xenmsg_close(conn);
	matrix.writer = writer_new(as_json ? WRITER_JSON_LINES : WRITER_TABLE);
	silent = matrix_write(&matrix);
	code = writer_finish(matrix.writer);
	writer_free(matrix.writer);
	if (silent)
		cli_note(
			cli,
			"policy matrix: %u of %zu domains don't tell domain 0 all of it; host-sight = full in "
			"xenmsgd.conf(5) there lets them",
			silent, length_of(matrix.domains));
	json_object_put(matrix.domains);
	json_object_put(matrix.about);
	return code;
}
