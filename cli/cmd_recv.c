/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/reconnecting.h"
#include "cli/messages.h"
#include "cli/writer.h"

static const char help[] =
	"Usage: xenmsg recv [OPTIONS] ENDPOINT...\n"
	"\n"
	"Binds each ENDPOINT in this domain and prints each message that comes, with a\n"
	"newline behind it. A message counts as delivered when it was written.\n"
	"\n"
	"  -n, --count N       end after N messages\n"
	"  -t, --timeout S     end with status 6 when no message comes for S seconds\n"
	"  -v, --verbose       say on standard error of each who has sent it, and when;\n"
	"                      at a terminal messages are indented then\n"
	"      --format TEXT   print TEXT for each, with %{FIELD} for their values: time,\n"
	"                      endpoint, address (of the sender's domain), host, domid,\n"
	"                      domain, uid, gid, pid, id, size, payload\n"
	"      --json          one JSON object a line: time, endpoint, id (what xenmsg\n"
	"                      trace calls it, null: no name), sender {host, domid,\n"
	"                      domain, uid, gid, pid}, size, and the payload as text if\n"
	"                      it is UTF-8, else as base64\n"
	"      --raw           only the payloads as they are, also at a terminal, and\n"
	"                      nothing between them\n"
	"      --exec CMD      run CMD by the shell for each message, with the payload on\n"
	"                      its standard input and XENMSG_ENDPOINT, XENMSG_ID,\n"
	"                      XENMSG_SENDER_HOST, _DOMID, _NAME, _UID, _GID and _PID in\n"
	"                      its environment\n"
	"      --jobs N        with --exec: run up to N commands at a time (1)\n"
	"      --confirm       with --exec: a message counts as delivered only when CMD\n"
	"                      has ended with status 0, not before CMD is run; else its\n"
	"                      sender gets an error\n"
	"      --shared        other programs of this user may bind ENDPOINT beside this\n"
	"                      one, if all say so: each sender gets to the one with the\n"
	"                      least to do, and what one hasn't taken when it ends goes\n"
	"                      to another\n"
	"      --once          end when the xenmsgd of this domain ends; else it goes on\n"
	"                      with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg recv inbox\n"
	"  xenmsg recv --count 1 --raw inbox >picture.png\n"
	"  xenmsg recv --exec 'logger -t xenmsg' --confirm log\n";

struct recv {
	struct cli *cli;
	bool json, raw;
	bool shared;
	bool confirm; /* a message is taken when the command has ended with 0 */
	struct message_command command;
	struct output_fields output_fields;
	struct writer *writer;
	struct reconnecting reconnecting;
	unsigned losses; /* of the xenmsgd */
};

/* Writes where its sender is, [HOST/]DOMID. */
static void sender_place(struct xenmsg_message *message, char *text, size_t size)
{
	const char *host = xenmsg_peer_host(xenmsg_message_sender(message));

	snprintf(text, size, "%s%s%u", host, *host ? "/" : "",
		 xenmsg_peer_domid(xenmsg_message_sender(message)));
}

/* Prints it as --format says. */
static int print_formatted(struct recv *recv, struct xenmsg_message *message)
{
	struct json_object *row = received_from(message);
	char when[32], place[128], id[XENMSG_NAME_SIZE];
	bool is_named = xenmsg_message_name(message, id, sizeof(id)) == 0;

	time_text(time(NULL), false, when, sizeof(when));
	sender_place(message, place, sizeof(place));
	fields_add(row, "time", "%s", when);
	fields_add(row, "endpoint", "%s", xenmsg_message_endpoint(message));
	fields_add(row, "address", "%s", place);
	json_object_object_add(row, "id", is_named ? json_object_new_string(id) : NULL);
	fields_add(row, "size", "%zu", xenmsg_message_size(message));
	json_object_object_add(
		row, CHOICE_PAYLOAD,
		json_object_new_string_len(xenmsg_message_data(message), (int)xenmsg_message_size(message)));
	return writer_row(recv->writer, row);
}

/* Notes who has sent it, and when. */
static void note_sender(const struct recv *recv, struct xenmsg_message *message)
{
	const char *name = xenmsg_peer_domain_name(xenmsg_message_sender(message));
	size_t size = xenmsg_message_size(message);
	char when[32], place[128], amount[24];

	time_text(time(NULL), false, when, sizeof(when));
	sender_place(message, place, sizeof(place));
	size_text((int64_t)size, amount, sizeof(amount));
	cli_note(recv->cli, "%s: %s%s%s to %s from domain %s%s%s%s, uid %u, pid %u", when, amount,
		 size < 1024 ? " byte" : "iB", size < 1024 ? plural((int64_t)size) : "",
		 xenmsg_message_endpoint(message), place, *name ? " (" : "", name, *name ? ")" : "",
		 xenmsg_peer_uid(xenmsg_message_sender(message)),
		 xenmsg_peer_pid(xenmsg_message_sender(message)));
}

/* Runs the command. With --confirm that is waited for, and *failed says whether it did. Returns an exit
 * code. */
static int recv_run_command(struct recv *recv, struct xenmsg *conn, struct xenmsg_message *message,
			    bool *failed)
{
	return recv->confirm ? message_command_run(&recv->command, conn, message, failed)
			     : message_command_start(&recv->command, conn, message);
}

static int print_message(struct recv *recv, struct xenmsg_message *message)
{
	if (recv->json)
		return received_json(recv->writer, "endpoint", message);
	return recv->output_fields.format ? print_formatted(recv, message)
					  : received_text(message, recv->raw, recv->cli->verbose);
}

/* Does what is to be done with a message, and then takes it or, if that failed, gives it back. */
static int recv_handle_message(struct recv *recv, struct xenmsg *conn, struct xenmsg_message *message)
{
	unsigned losses = recv->losses;
	bool failed = true;
	int code, r;

	if (recv->cli->verbose)
		note_sender(recv, message);
	if (recv->command.text) {
		code = recv_run_command(recv, conn, message, &failed);
	} else {
		code = print_message(recv, message);
		failed = code != EXIT_DONE;
	}
	if (recv->command.text && !recv->confirm)
		return code; /* it was taken, or given back, with the start of the command */
	r = failed ? xenmsg_refuse(conn, message, EIO) : xenmsg_take(conn, message);
	if (r == -ECANCELED && !failed && losses != recv->losses)
		cli_note(
			recv->cli,
			"recv on %s: xenmsgd was lost before it heard that what was just %s was taken: its sender can't know",
			xenmsg_message_endpoint(message), recv->command.text ? "handled" : "written");
	else if (r == -ECANCELED && !failed)
		cli_note(recv->cli,
			 "recv on %s: what was just %s was withdrawn meanwhile: its sender had given up",
			 xenmsg_message_endpoint(message), recv->command.text ? "handled" : "written");
	else if (r < 0 && r != -ECANCELED && code == EXIT_DONE)
		return cli_error(conn, "recv on", xenmsg_message_endpoint(message), r);
	return code;
}

static int recv_receive(struct recv *recv, struct xenmsg *conn, uint64_t count)
{
	int timeout_ms = recv->reconnecting.timeout_ms;
	struct message_wait wait = {.command = &recv->command,
				    .reconnecting = &recv->reconnecting,
				    .conn = conn,
				    .timeout_ms = timeout_ms,
				    .peeks = true};
	struct xenmsg_message *message;
	bool endless = count == 0;
	int code = EXIT_DONE;

	while (code == EXIT_DONE && (endless || count-- > 0)) {
		wait.deadline = deadline_in(timeout_ms);
		message = message_next(&wait, &code);
		if (!message)
			break;
		code = recv_handle_message(recv, conn, message);
		xenmsg_message_free(message);
	}
	return code;
}

/* Binds the endpoints, whose list ends with NULL. Returns 0, or an exit code after a complaint. */
static int bind_all(struct recv *recv, struct xenmsg *conn, char **endpoints)
{
	unsigned flags = XENMSG_ONLY_MESSAGES | (recv->shared ? XENMSG_SHARED : 0);

	for (; *endpoints; endpoints++) {
		int within_ms = reconnecting_within(&recv->reconnecting);
		int r = xenmsg_bind(conn, *endpoints, XENMSG_WITH(within_ms, flags), NULL, NULL);

		if (r < 0)
			return cli_error(conn, "bind", *endpoints, r);
		cli_note_bound(recv->cli, conn, *endpoints);
	}
	return EXIT_DONE;
}

/* Returns the words of a list that ends with NULL, which the caller frees. */
static char *joined(char **words)
{
	struct json_object *list = json_object_new_array();
	char *text;

	for (; *words; words++)
		json_object_array_add(list, json_object_new_string(*words));
	text = fields_joined(list, ", ");
	json_object_put(list);
	return text;
}

static void recv_on_change(void *userdata, const struct xenmsg_change *change)
{
	struct recv *recv = userdata;

	recv->losses += change->kind == XENMSG_DAEMON_LOST;
}

int cmd_recv(struct cli *cli, int argc, char **argv)
{
	static const char fields[] =
		"time,endpoint,address,host,domid,domain,uid,gid,pid,id,size," CHOICE_PAYLOAD;
	struct recv recv = {.cli = cli,
			    .command = {.cli = cli, .if_fails = "", .jobs = 1},
			    .reconnecting = {.cli = cli,
					     .what = "recv on",
					     .timeout_ms = -1,
					     .changed = recv_on_change,
					     .userdata = &recv}};
	struct xenmsg *conn;
	char *endpoints;
	uint64_t count = 0;
	int code;
	const struct cli_option options[] = {
		{"count", .count = &count},
		{"timeout", .ms = &recv.reconnecting.timeout_ms},
		{"json", .flag = &recv.json},
		{"raw", .flag = &recv.raw},
		{"exec", .text = &recv.command.text},
		{"jobs", .count = &recv.command.jobs},
		{"confirm", .flag = &recv.confirm},
		{"format", .text = &recv.output_fields.format},
		{"once", .flag = &recv.reconnecting.once},
		{"shared", .flag = &recv.shared},
		{0},
	};

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("recv", "on which endpoint?");
	if (recv.json + recv.raw + (recv.command.text != NULL) + (recv.output_fields.format != NULL) > 1)
		return cli_usage("recv", "--json, --raw, --exec and --format exclude each other");
	code = output_fields_check(&recv.output_fields, "recv", false, fields);
	if (code)
		return code;
	if (recv.confirm)
		recv.command.if_fails = "; the message is given back";
	if (recv.confirm && !recv.command.text)
		return cli_usage("recv", "--confirm is for --exec");
	if (recv.command.jobs > 1 && (!recv.command.text || recv.confirm))
		return cli_usage("recv", "--jobs is for --exec without --confirm");
	if (cli_check_each("recv", argv + optind, cli_check_endpoint))
		return EXIT_USAGE;
	recv.reconnecting.subject = endpoints = joined(argv + optind);
	code = reconnecting_open(&recv.reconnecting, &conn);
	if (code) {
		free(endpoints);
		return code;
	}
	recv.writer = writer_new_for(WRITER_JSON_LINES, &recv.output_fields);
	code = bind_all(&recv, conn, argv + optind);
	if (code == EXIT_DONE) {
		interrupt_catch();
		if (recv.command.text)
			message_command_catch_children();
		code = recv_receive(&recv, conn, count);
		if (recv.command.running && xenmsg_process(conn) < 0)
			code = code ? code : EXIT_OTHER;
		message_command_finish(&recv.command);
	}
	free(endpoints);
	writer_free(recv.writer);
	xenmsg_close(conn);
	interrupt_die();
	return code;
}
