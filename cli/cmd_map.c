/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* map: who talks to whom on this host, once, as text or for other programs. A picture is drawn by Graphviz's
 * dot, a program of its own, which gets nothing but what map_dot.h writes. */

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/host_look.h"
#include "cli/host_view.h"
#include "cli/map_dot.h"
#include "wire/libc.h"

static const char help[] =
	"Usage: xenmsg map [--json | --dot | --svg] [OPTIONS]\n"
	"\n"
	"Shows who talks to whom on this host: its domains, their endpoints, and what\n"
	"goes from one to another, now and since the two have a link. It is for the\n"
	"administrators of domain 0, and has what the host-sight of each domain lets\n"
	"domain 0 see. What a domain tells is its own word.\n"
	"\n"
	"      --delay S       look twice, S seconds apart (1), for rates; 0: no rates\n"
	"      --json          the same as a JSON object\n"
	"      --dot           the same in the language of Graphviz\n"
	"      --svg           the same as a picture, which Graphviz's program dot draws\n"
	"                      (the package graphviz)\n"
	"\n"
	"Examples:\n"
	"  xenmsg map\n"
	"  xenmsg map --svg >host.svg\n";

/* ---- text ------------------------------------------------------------------------------------- */

static void print_endpoints(struct json_object *domain)
{
	struct json_object *endpoints = at(domain, "endpoints");
	int64_t more = number_at(domain, "endpoints_total") - (int64_t)length_of(endpoints);

	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *endpoint = json_object_array_get_idx(endpoints, i);

		cli_print_line("  %s (%s)", text_at(endpoint, "name"), text_at(endpoint, "kind"));
	}
	if (more > 0)
		cli_print_line("  and %" PRId64 " more endpoints", more);
}

/* Writes an amount and its unit, or that nobody knows it. */
static const char *rate_text(struct json_object *direction, const char *name, const char *unit, char *text,
			     size_t size)
{
	if (at(direction, name))
		snprintf(text, size, "%.1f %s, ", json_object_get_double(at(direction, name)), unit);
	else
		*text = '\0';
	return text;
}

/* Prints where something goes from this domain, or host. */
static void print_direction(struct json_object *direction)
{
	struct json_object *to = at(direction, "to");
	char messages[48], bytes[48], total[16], of_domain[32] = "";

	if (!at(to, "host") && at(to, "name"))
		snprintf(of_domain, sizeof(of_domain), " (%.8s)", text_at(to, "domid"));
	if (!at(direction, "bytes")) {
		cli_print_line("  -> %s%s: through domain 0", host_view_name(to), of_domain);
		return;
	}
	size_text(number_at(direction, "bytes"), total, sizeof(total));
	cli_print_line("  -> %s%s: %s%s%s messages, %s bytes in all, the link is %s", host_view_name(to),
		       of_domain,
		       rate_text(direction, "messages_per_s", "messages/s", messages, sizeof(messages)),
		       rate_text(direction, "bytes_per_s", "bytes/s", bytes, sizeof(bytes)),
		       text_at(direction, "messages"), total, text_at(direction, "state"));
}

static void print_from(const struct host_view *view, struct json_object *domain)
{
	struct json_object *domains = at(view->shown, "domains");

	for (size_t i = 0; i < length_of(domains); i++) {
		struct json_object *direction =
			host_view_direction(view, domain, json_object_array_get_idx(domains, i));

		if (direction)
			print_direction(direction);
	}
}

/* Prints what goes from or to other hosts, which has no place among the domains. */
static void print_hosts(const struct host_view *view)
{
	struct json_object *traffic = at(view->shown, "traffic");

	for (size_t i = 0; i < length_of(traffic); i++) {
		struct json_object *each = json_object_array_get_idx(traffic, i);

		if (!at(at(each, "from"), "host") && !at(at(each, "to"), "host"))
			continue;
		cli_print_line("%s", host_view_name(at(each, "from")));
		print_direction(each);
	}
}

static int print_text(const struct host_view *view)
{
	struct json_object *domains = at(view->shown, "domains");

	for (size_t i = 0; i < length_of(domains); i++) {
		struct json_object *domain = json_object_array_get_idx(domains, i);

		if (number_at(domain, "error"))
			cli_print_line("%s (%s) tells nothing: %s", text_or(domain, "name", "domain"),
				       text_at(domain, "domid"), text_at(domain, "why"));
		else
			cli_print_line("%s (%s), xenmsgd %s", text_or(domain, "name", "domain"),
				       text_at(domain, "domid"), text_at(domain, "version"));
		print_endpoints(domain);
		print_from(view, domain);
	}
	print_hosts(view);
	return cli_flush();
}

/* ---- pictures --------------------------------------------------------------------------------- */

static int print_dot(const struct host_view *view)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int code = EXIT_OTHER;

	if (out)
		map_write_dot(view, out);
	if (out && fclose(out) == 0)
		code = cli_show(text, size);
	else
		cli_complain("map: %s", strerror(ENOMEM));
	free(text);
	return code ? code : cli_flush();
}

/* Runs dot with this file as its input, and our output as its own. Returns an exit code. */
static int run_dot(int input)
{
	char name[] = "dot", form[] = "-Tsvg", *const arguments[] = {name, form, NULL};
	posix_spawn_file_actions_t actions;
	int r, status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
	r = posix_spawnp(&pid, "dot", &actions, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r == ENOENT) {
		cli_complain("map: there is no program dot, which draws: install the package graphviz");
		return EXIT_OTHER;
	}
	if (r) {
		cli_complain("map: can't run dot: %s", strerror(r));
		return EXIT_OTHER;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_OTHER;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return EXIT_DONE;
	cli_complain("map: dot has failed");
	return EXIT_OTHER;
}

static int print_svg(const struct host_view *view)
{
	int fd = memfd_create("map", MFD_CLOEXEC), code = EXIT_OTHER;
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");

	if (out)
		map_write_dot(view, out);
	if (out && fflush(out) == 0 && !ferror(out) && lseek(fd, 0, SEEK_SET) == 0)
		code = run_dot(fd);
	else
		cli_complain("map: %s", strerror(errno));
	if (out)
		fclose(out);
	else if (fd >= 0)
		close(fd);
	return code;
}

int cmd_map(struct cli *cli, int argc, char **argv)
{
	bool json = false, dot = false, svg = false;
	int delay_ms = 1000, code;
	const struct cli_option options[] = {{"delay", .ms = &delay_ms},
					     {"json", .flag = &json},
					     {"dot", .flag = &dot},
					     {"svg", .flag = &svg},
					     {0}};
	struct host_view *view;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc)
		return cli_usage("map", "map takes no arguments");
	if (json + dot + svg > 1)
		return cli_usage("map", "--json, --dot and --svg exclude each other");
	code = host_look(cli, delay_ms, &view);
	if (code)
		return code;
	if (json)
		code = host_look_print(view);
	else if (dot)
		code = print_dot(view);
	else
		code = svg ? print_svg(view) : print_text(view);
	host_view_free(view);
	return code;
}
