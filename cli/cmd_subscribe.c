/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/reconnecting.h"
#include "cli/messages.h"
#include "cli/writer.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg subscribe [OPTIONS] ADDRESS...\n"
	"\n"
	"Subscribes to the topic at each ADDRESS (DOMAIN:ENDPOINT, on another host\n"
	"HOST/DOMAIN:ENDPOINT) and prints each message that is published there, with a\n"
	"newline behind it. A topic needn't be there yet, and may go and come again. It\n"
	"waits for no subscriber: where messages are missing, a note on standard error\n"
	"says so, in its place, and how many.\n"
	"\n"
	"DOMAIN may be a shell pattern: '*:news' is each domain's topic of that name, as\n"
	"they come and go. Each has its own address, which --json, --verbose and\n"
	"XENMSG_ENDPOINT tell. A line names each endpoint that is no topic, or refuses.\n"
	"\n"
	"  -n, --count N       end after N messages\n"
	"  -t, --timeout S     end with status 6 when no message comes for S seconds\n"
	"      --queue N       let N messages wait at a time at most; beyond that the\n"
	"                      oldest are lost (with 1 the newest is always next)\n"
	"      --keep KIND     oldest: with --queue the newest are lost instead; newest\n"
	"  -v, --verbose       say, too, when a subscription begins and what it waits for\n"
	"                      (at a terminal it says the latter in any case)\n"
	"      --json          one JSON object a line. A message has time, address,\n"
	"                      sender {host, domid, domain, uid, gid, pid}, key (if it\n"
	"                      has one), size, and the payload as text if it is UTF-8,\n"
	"                      else as base64. A note between messages has time,\n"
	"                      address, notice (subscribed, missed, kept, waiting or\n"
	"                      ended), and count and unknown: how many messages are\n"
	"                      missing, and whether perhaps more\n"
	"      --raw           only the payloads as they are, also at a terminal, and\n"
	"                      nothing between them\n"
	"      --exec CMD      run CMD by the shell for each message, one at a time, with\n"
	"                      the payload on its standard input, and in its environment\n"
	"                      XENMSG_ENDPOINT (the ADDRESS), XENMSG_KEY (if it has one),\n"
	"                      XENMSG_SENDER_HOST, _DOMID, _NAME, _UID, _GID and _PID\n"
	"      --once          end when the xenmsgd of this domain ends; else it goes on\n"
	"                      with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg subscribe 0:news\n"
	"  xenmsg subscribe --count 1 --raw self:config >config\n"
	"  xenmsg subscribe --json 0:news work:state\n";

struct subscribe {
	struct cli *cli;
	bool json, raw;
	struct message_command command;
	struct writer *writer;
	struct reconnecting reconnecting;
	struct xenmsg_options options;
	char **addresses; /* ends with NULL */
};

/* Whether DOMAIN is a shell pattern. */
static bool is_pattern(const char *address)
{
	const char *endpoint = address_split(address, strlen(address)).endpoint.data;
	const char *sign = strpbrk(address, "*?[");

	return endpoint && sign && sign < endpoint;
}

/* Whether the user has named it, and not a pattern. */
static bool is_named(const struct subscribe *subscribe, const char *address)
{
	for (char **named = subscribe->addresses; *named; named++)
		if (strcmp(*named, address) == 0)
			return true;
	return false;
}

/* Tells of a topic that a pattern means, and that isn't subscribed to. */
static void subscribe_on_change(void *userdata, const struct xenmsg_change *change)
{
	if (change->kind == XENMSG_NOT_SUBSCRIBED)
		cli_error_because(*cli_said(change->reason, change->error) ? change->reason
				  : change->error == -EPROTOTYPE
					  ? "that endpoint is no topic, and passed over"
					  : "",
				  "subscribe to", change->endpoint, change->error);
}

static int subscribe_handle_message(struct subscribe *subscribe, struct xenmsg_message *message)
{
	if (subscribe->command.text)
		return message_command_start(&subscribe->command, NULL, message);
	return subscribe->json ? received_json(subscribe->writer, "address", message)
			       : received_text(message, subscribe->raw, subscribe->cli->verbose);
}

static int print_notice_json(struct subscribe *subscribe, const char *address,
			     const struct xenmsg_notice *notice)
{
	writer_real(subscribe->writer, "time", received_now(), 3);
	writer_text(subscribe->writer, "address", address);
	writer_text(subscribe->writer, "notice", xenmsg_notice_name(notice->kind));
	writer_count(subscribe->writer, "count", notice->count);
	writer_json(subscribe->writer, "unknown", json_object_new_boolean(notice->unknown));
	return writer_end_row(subscribe->writer);
}

static void subscribe_note(const struct subscribe *subscribe, const char *address,
			   const struct xenmsg_notice *notice)
{
	const char *perhaps = notice->unknown ? "; perhaps messages are missing here" : "";
	unsigned long long count = notice->count;

	if (notice->kind == XENMSG_MISSED && count)
		cli_note(subscribe->cli, "subscribe to %s: %llu message%s missing here%s", address, count,
			 count == 1 ? " is" : "s are", notice->unknown ? ", and perhaps more" : "");
	else if (notice->kind == XENMSG_MISSED)
		cli_note(subscribe->cli, "subscribe to %s: perhaps messages are missing here", address);
	else if (notice->kind == XENMSG_WAITING &&
		 (subscribe->cli->verbose || notice->unknown || cli_is_watched(subscribe->cli)))
		cli_note(subscribe->cli, "subscribe to %s: there is no such topic now; waiting for it%s",
			 address, perhaps);
	else if (notice->kind == XENMSG_SUBSCRIBED && (subscribe->cli->verbose || notice->unknown))
		cli_note(subscribe->cli, "subscribe to %s: subscribed; published before: %llu%s", address,
			 count, perhaps);
	else if (notice->kind == XENMSG_KEPT && subscribe->cli->verbose)
		cli_note(subscribe->cli, "subscribe to %s: what comes next was kept", address);
}

/* Returns an exit code. */
static int take_notice(struct subscribe *subscribe, struct xenmsg *conn, const char *address,
		       const struct xenmsg_notice *notice)
{
	int code = EXIT_DONE;

	if (notice->kind < XENMSG_SUBSCRIBED || notice->kind > XENMSG_KEPT) /* a later version's */
		return EXIT_DONE;
	if (subscribe->json)
		code = print_notice_json(subscribe, address, notice);
	else
		subscribe_note(subscribe, address, notice);
	if (code == EXIT_DONE && notice->kind == XENMSG_ENDED) {
		int ended = cli_error(conn, "subscribe to", address, notice->error);

		if (is_named(subscribe, address)) /* else the others go on */
			code = ended;
	}
	return code;
}

static int subscribe_receive(struct subscribe *subscribe, struct xenmsg *conn, uint64_t count)
{
	int timeout_ms = subscribe->reconnecting.timeout_ms;
	struct message_wait wait = {.command = &subscribe->command,
				    .reconnecting = &subscribe->reconnecting,
				    .conn = conn,
				    .timeout_ms = timeout_ms};
	const struct xenmsg_notice *notice;
	struct xenmsg_message *message;
	uint64_t seen = 0;
	int code = EXIT_DONE;

	wait.deadline = deadline_in(timeout_ms);
	while (code == EXIT_DONE && (!count || seen < count)) {
		message = message_next(&wait, &code);
		if (!message)
			break;
		notice = xenmsg_message_notice(message);
		if (notice) {
			code = take_notice(subscribe, conn, xenmsg_message_endpoint(message), notice);
		} else {
			code = subscribe_handle_message(subscribe, message);
			seen++;
			wait.deadline = deadline_in(timeout_ms);
		}
		xenmsg_message_free(message);
	}
	return code;
}

/* Returns 0 or an exit code. */
static int read_queue(struct subscribe *subscribe, uint64_t queue, const char *keep)
{
	bool oldest = keep && strcmp(keep, "oldest") == 0;

	if (keep && !oldest && strcmp(keep, "newest") != 0)
		return cli_usage("subscribe", "bad --keep '%s': write newest or oldest", keep);
	if (queue > XENMSG_QUEUE_MAX)
		return cli_usage("subscribe", "bad --queue: at most %d", XENMSG_QUEUE_MAX);
	if (keep && !queue)
		return cli_usage("subscribe", "--keep is for --queue");
	subscribe->options = *XENMSG_FLAGS(oldest ? XENMSG_KEEP_OLDEST : 0);
	subscribe->options.queue = (unsigned)queue;
	return 0;
}

/* Returns an exit code. */
static int subscribe_all(struct subscribe *subscribe, struct xenmsg *conn)
{
	for (char **address = subscribe->addresses; *address; address++) {
		struct xenmsg_options options = subscribe->options;
		int r;

		options.flags |= is_pattern(*address) ? XENMSG_PATTERN : 0;
		options.timeout_ms = reconnecting_within(&subscribe->reconnecting);
		do
			r = xenmsg_subscribe(conn, *address, &options, NULL, NULL);
		while (r == -EINTR && !interrupt_came());
		if (r < 0 && r != -EINTR)
			return cli_error(conn, "subscribe to", *address, r);
	}
	return EXIT_DONE;
}

int cmd_subscribe(struct cli *cli, int argc, char **argv)
{
	struct subscribe subscribe = {
		.cli = cli,
		.command = {.cli = cli, .if_fails = "", .jobs = 1},
		.reconnecting = {.cli = cli, .what = "subscribe to", .timeout_ms = -1},
	};
	uint64_t count = 0, queue = 0;
	const char *keep = NULL;
	int code;
	const struct cli_option options[] = {
		{"count", .count = &count},
		{"timeout", .ms = &subscribe.reconnecting.timeout_ms},
		{"queue", .count = &queue},
		{"keep", .text = &keep},
		{"json", .flag = &subscribe.json},
		{"raw", .flag = &subscribe.raw},
		{"exec", .text = &subscribe.command.text},
		{"once", .flag = &subscribe.reconnecting.once},
		{0},
	};
	struct xenmsg *conn;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("subscribe", "to which topic? Its address is DOMAIN:ENDPOINT");
	if (subscribe.json + subscribe.raw + (subscribe.command.text != NULL) > 1)
		return cli_usage("subscribe", "--json, --raw and --exec exclude each other");
	code = read_queue(&subscribe, queue, keep);
	if (!code)
		code = cli_check_each("subscribe", argv + optind, cli_check_address);
	if (code)
		return code;
	subscribe.addresses = argv + optind;
	subscribe.reconnecting.subject = argv[optind];
	subscribe.reconnecting.changed = subscribe_on_change;
	interrupt_catch();
	code = reconnecting_open(&subscribe.reconnecting, &conn);
	if (code)
		return code;
	subscribe.writer = writer_new(WRITER_JSON_LINES);
	if (subscribe.command.text)
		message_command_catch_children();
	code = subscribe_all(&subscribe, conn);
	if (code == EXIT_DONE)
		code = subscribe_receive(&subscribe, conn, count);
	message_command_finish(&subscribe.command);
	writer_free(subscribe.writer);
	xenmsg_close(conn);
	interrupt_die();
	return code;
}
