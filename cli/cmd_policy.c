/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* policy check: asks which rule decides about a sender and an endpoint here. policy reload: lets the daemon
 * read its rules again. */

#include <json-c/json.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/nearest.h"

static const char help[] =
	"Usage: xenmsg policy check [OPTIONS] FROM TO\n"
	"       xenmsg policy reload [OPTIONS]\n"
	"\n"
	"check: says whether programs of FROM may reach the endpoint TO of this domain, and which rule of which file decides.\n"
	"FROM is a domain (domid, name, UUID or self), or DOMAIN/UID for the programs of one user there; the user is root\n"
	"if none is named. On another host it is HOST/DOMAIN or HOST/DOMAIN/UID. In domain 0 TO may also be an address, DOMAIN:ENDPOINT: whether it relays to there.\n"
	"Exit status 0: allowed; 4: denied; 5: not decided, for a rule needs names that aren't known now.\n"
	"\n"
	"reload: has the daemon read its policy again, for root and the user that it runs as. Exit status 0: the new rules are in\n"
	"force; 2: they have a mistake, which is told with file and line, and the old ones stay.\n"
	"\n"
	"      --json          the answer as a JSON object\n";

/* Prints the decision on one line. */
static void print_words(struct json_object *answer, const char *decision)
{
	if (!at(answer, "file"))
		cli_print_line("%s: %s", decision, text_or(answer, "reason", ""));
	else if (json_object_get_boolean(at(answer, "undecided")))
		cli_print_line("%s: %s, line %s: %s", decision, text_or(answer, "file", ""),
			       text_or(answer, "line", ""), text_or(answer, "reason", ""));
	else
		cli_print_line("%s: the rule in %s, line %s, decides", decision, text_or(answer, "file", ""),
			       text_or(answer, "line", ""));
}

static int print_decision(struct json_object *answer, bool as_json)
{
	bool allow = json_object_get_boolean(at(answer, "allow"));
	bool undecided = json_object_get_boolean(at(answer, "undecided"));
	int code;

	if (as_json)
		cli_print_line("%s", json_line(answer));
	else
		print_words(answer, allow ? "allow" : undecided ? "not decided" : "deny");
	code = cli_flush();
	return code ? code : allow ? EXIT_DONE : undecided ? EXIT_UNREACHABLE : EXIT_DENIED;
}

static int check(struct cli *cli, const char *from, const char *to, bool as_json)
{
	struct json_object *answer;
	struct xenmsg *conn;
	char question[512], *text;
	int code, r;

	if (snprintf(question, sizeof(question), "policy %s %s", from, to) >= (int)sizeof(question))
		return cli_usage("policy check", "FROM and TO are too long");
	code = cli_open(cli, &conn);
	if (code)
		return code;
	r = xenmsg_query(conn, question, &text);
	if (r == 0) {
		answer = json_tokener_parse(text);
		code = print_decision(answer, as_json);
		json_object_put(answer);
		free(text);
	} else if (r == -EINVAL) {
		code = cli_usage("policy check", "%s", xenmsg_reason(conn));
	} else {
		code = cli_error(conn, "policy check", from, r);
	}
	xenmsg_close(conn);
	return code;
}

static int reload(struct cli *cli)
{
	struct xenmsg *conn;
	char *text;
	int code = cli_open(cli, &conn), r;

	if (code)
		return code;
	r = xenmsg_query(conn, "reload", &text);
	if (r == 0) {
		free(text);
	} else if (r == -EINVAL) { /* the reason has what is wrong, with file and line */
		cli_complain("policy reload: %s; the old rules stay in force", xenmsg_reason(conn));
		code = EXIT_USAGE;
	} else if (r == -EPERM) {
		cli_complain("policy reload: %s", xenmsg_reason(conn));
		code = EXIT_DENIED;
	} else {
		code = cli_error(conn, "policy reload", "", r);
	}
	xenmsg_close(conn);
	return code;
}

static int unknown_command(const char *name)
{
	struct nearest nearest = nearest_to(name);

	nearest_try(&nearest, "check");
	nearest_try(&nearest, "reload");
	if (nearest.meant)
		return cli_usage("policy", "there is no '%s'; did you mean '%s'?", name, nearest.meant);
	return cli_usage("policy", "there is no '%s', only 'check' and 'reload'", name);
}

int cmd_policy(struct cli *cli, int argc, char **argv)
{
	bool as_json = false;
	const struct cli_option options[] = {{"json", .flag = &as_json}, {0}};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc && !strcmp(argv[optind], "reload")) {
		if (argc - optind != 1 || as_json)
			return cli_usage("policy reload", "it takes no arguments");
		return reload(cli);
	}
	if (optind == argc)
		return cli_usage("policy", "which of its commands? There are 'check' and 'reload'");
	if (strcmp(argv[optind], "check"))
		return unknown_command(argv[optind]);
	if (argc - optind != 3)
		return cli_usage("policy check", "it takes FROM and TO");
	if (strchr(argv[optind + 1], ' ') || strchr(argv[optind + 2], ' '))
		return cli_usage("policy check", "neither FROM nor TO has spaces in it");
	return check(cli, argv[optind + 1], argv[optind + 2], as_json);
}
