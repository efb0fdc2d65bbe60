/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/choice.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/writer.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg recv [OPTIONS] ENDPOINT...\n"
	"\n"
	"Binds each ENDPOINT in this domain and prints each message that comes, with a\n"
	"newline behind it. A message counts as delivered when it was written.\n"
	"\n"
	"  -n, --count N       end after N messages\n"
	"  -t, --timeout S     end with status 6 when no message comes for S seconds\n"
	"  -v, --verbose       say on standard error of each who has sent it, and when\n"
	"      --format TEXT   print TEXT for each, with %{FIELD} for their values: time,\n"
	"                      endpoint, address (of the sender's domain), host, domid,\n"
	"                      domain, uid, gid, pid, size, payload\n"
	"      --json          one JSON object a line: time, endpoint, sender {host,\n"
	"                      domid, domain, uid, gid, pid}, size, and the payload as\n"
	"                      text if it is UTF-8, else as base64\n"
	"      --raw           only the payloads as they are, also at a terminal, and\n"
	"                      nothing between them\n"
	"      --exec CMD      run CMD by the shell for each message, with the payload on\n"
	"                      its standard input and XENMSG_ENDPOINT,\n"
	"                      XENMSG_SENDER_DOMID, _NAME, _UID, _GID and _PID in its\n"
	"                      environment\n"
	"      --jobs N        with --exec: run up to N commands at a time (1)\n"
	"      --confirm       with --exec: a message counts as delivered only when CMD\n"
	"                      has ended with status 0, not before CMD is run; else its\n"
	"                      sender gets an error\n"
	"\n"
	"Examples:\n"
	"  xenmsg recv inbox\n"
	"  xenmsg recv --count 1 --raw inbox >picture.png\n"
	"  xenmsg recv --exec 'logger -t xenmsg' --confirm log\n";

struct recv {
	struct cli *cli;
	bool json, raw;
	bool confirm; /* a message is taken when the command has ended with 0 */
	const char *exec;
	uint64_t jobs, running; /* how many commands may run at a time, and do */
	const char *endpoints;	/* as they were typed */
	struct choice choice;
	struct writer *writer;
};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int print_json(struct recv *recv, struct xenmsg_message *message)
{
	struct json_object *sender = json_object_new_object();
	const char *host = xenmsg_message_sender_host(message), *name = xenmsg_message_sender_name(message);

	json_object_object_add(sender, "host", *host ? json_object_new_string(host) : NULL);
	json_object_object_add(sender, "domid", json_object_new_int64(xenmsg_message_sender_domid(message)));
	json_object_object_add(sender, "domain", *name ? json_object_new_string(name) : NULL);
	json_object_object_add(sender, "uid", json_object_new_int64(xenmsg_message_sender_uid(message)));
	json_object_object_add(sender, "gid", json_object_new_int64(xenmsg_message_sender_gid(message)));
	json_object_object_add(sender, "pid", json_object_new_int64(xenmsg_message_sender_pid(message)));
	writer_real(recv->writer, "time", now(), 3);
	writer_text(recv->writer, "endpoint", xenmsg_message_endpoint(message));
	writer_json(recv->writer, "sender", sender);
	writer_payload(recv->writer, xenmsg_message_data(message), xenmsg_message_size(message));
	return writer_end_row(recv->writer);
}

/* Writes where its sender is, [HOST/]DOMID. */
static void sender_place(struct xenmsg_message *message, char *text, size_t size)
{
	const char *host = xenmsg_message_sender_host(message);

	snprintf(text, size, "%s%s%u", host, *host ? "/" : "", xenmsg_message_sender_domid(message));
}

/* Prints it as --format says. */
static int print_formatted(struct recv *recv, struct xenmsg_message *message)
{
	struct writer *writer = recv->writer;
	const char *host = xenmsg_message_sender_host(message), *name = xenmsg_message_sender_name(message);
	char when[32], place[128];

	time_text(time(NULL), false, when, sizeof(when));
	sender_place(message, place, sizeof(place));
	writer_text(writer, "time", when);
	writer_text(writer, "endpoint", xenmsg_message_endpoint(message));
	writer_text(writer, "address", place);
	writer_text(writer, "host", *host ? host : NULL);
	writer_number(writer, "domid", xenmsg_message_sender_domid(message));
	writer_text(writer, "domain", *name ? name : NULL);
	writer_number(writer, "uid", xenmsg_message_sender_uid(message));
	writer_number(writer, "gid", xenmsg_message_sender_gid(message));
	writer_number(writer, "pid", xenmsg_message_sender_pid(message));
	writer_number(writer, "size", (int64_t)xenmsg_message_size(message));
	writer_json(
		writer, CHOICE_PAYLOAD,
		json_object_new_string_len(xenmsg_message_data(message), (int)xenmsg_message_size(message)));
	return writer_end_row(writer);
}

/* Notes who has sent it, and when. */
static void note_sender(const struct recv *recv, struct xenmsg_message *message)
{
	const char *name = xenmsg_message_sender_name(message);
	size_t size = xenmsg_message_size(message);
	char when[32], place[128], amount[24];

	time_text(time(NULL), false, when, sizeof(when));
	sender_place(message, place, sizeof(place));
	size_text((int64_t)size, amount, sizeof(amount));
	cli_note(recv->cli, "%s: %s%s%s to %s from domain %s%s%s%s, uid %u, pid %u", when, amount,
		 size < 1024 ? " byte" : "iB", size < 1024 ? plural((int64_t)size) : "",
		 xenmsg_message_endpoint(message), place, *name ? " (" : "", name, *name ? ")" : "",
		 xenmsg_message_sender_uid(message), xenmsg_message_sender_pid(message));
}

/* Writes the payload to a file in memory, so that a CMD that doesn't read it blocks nothing. */
static int payload_file(struct xenmsg_message *message)
{
	const char *data = xenmsg_message_data(message);
	size_t size = xenmsg_message_size(message);
	int fd = memfd_create("xenmsg-payload", MFD_CLOEXEC);

	while (fd >= 0 && size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			close(fd);
			return -1;
		}
		data += n;
		size -= (size_t)n;
	}
	if (fd >= 0)
		lseek(fd, 0, SEEK_SET);
	return fd;
}

/* Starts the command, or ends with an exit code after a complaint. */
static int start_command(struct recv *recv, struct xenmsg_message *message, pid_t *pid)
{
	int fd = payload_file(message);

	*pid = fd < 0 ? -1 : fork();
	if (*pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		interrupt_restore();
		dup2(fd, STDIN_FILENO);
		setenv("XENMSG_ENDPOINT", xenmsg_message_endpoint(message), 1);
		command_set_sender(xenmsg_message_sender_host(message), xenmsg_message_sender_domid(message),
				   xenmsg_message_sender_name(message), xenmsg_message_sender_uid(message),
				   xenmsg_message_sender_pid(message));
		command_set_number("XENMSG_SENDER_GID", xenmsg_message_sender_gid(message));
		execl("/bin/sh", "sh", "-c", recv->exec, (char *)NULL);
		cli_complain("/bin/sh: %s", strerror(errno));
		_exit(127);
	}
	if (*pid < 0)
		cli_complain("can't run '%s': %s", recv->exec, strerror(errno));
	if (fd >= 0)
		close(fd);
	return *pid < 0 ? EXIT_OTHER : EXIT_DONE;
}

/* Says how a command ended that failed. Returns whether it did. */
static bool has_failed(const struct recv *recv, int status)
{
	char words[32];

	if (status != 0)
		cli_note(recv->cli, "'%s' %s%s", recv->exec, command_end(status, words),
			 recv->confirm ? "; the message is given back" : "");
	return status != 0;
}

/* Looks which of several commands have ended, or (`to_the_end`) waits until all have. */
static void reap(struct recv *recv, bool to_the_end)
{
	while (recv->running > 0) {
		int status;
		pid_t pid = waitpid(-1, &status, to_the_end ? 0 : WNOHANG);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return;
		recv->running--;
		has_failed(recv, status);
	}
}

/* Waits while no further command may run. Returns 0, or an error of the connection. */
static int wait_for_a_place(struct recv *recv, struct xenmsg *conn)
{
	for (;;) {
		int r;

		reap(recv, false);
		if (recv->jobs == 1 || recv->running < recv->jobs || interrupt_came())
			return 0;
		/* Who has sent the last one is to know at once that it was taken. */
		r = xenmsg_process(conn);
		if (r < 0)
			return r;
		interrupt_sleep(-1, -1); /* until a command ends, or a signal comes */
	}
}

/* Runs the command, and leaves in *failed whether it did. With several jobs that isn't waited for. Returns an exit
 * code. */
static int run_command(struct recv *recv, struct xenmsg_message *message, bool *failed)
{
	int status = 0, code;
	pid_t pid;

	code = start_command(recv, message, &pid);
	if (code)
		return code;
	*failed = false;
	if (recv->jobs > 1) {
		recv->running++;
		return EXIT_DONE;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	*failed = has_failed(recv, status);
	return EXIT_DONE;
}

static void on_child(int number)
{
	(void)number;
}

/* Lets the end of a command end a wait, and nothing else. */
static void catch_children(void)
{
	const struct sigaction action = {.sa_handler = on_child};
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &action, NULL);
}

static int print_message(struct recv *recv, struct xenmsg_message *message)
{
	int code;

	if (recv->json)
		return print_json(recv, message);
	if (recv->choice.format)
		return print_formatted(recv, message);
	if (recv->raw)
		return cli_output(xenmsg_message_data(message), xenmsg_message_size(message));
	code = cli_show(xenmsg_message_data(message), xenmsg_message_size(message));
	if (code)
		return code;
	putchar('\n');
	return cli_flush();
}

/* Whether a message is taken before anything is done with it. */
static bool takes_first(const struct recv *recv)
{
	return recv->exec && !recv->confirm;
}

/* Does what is to be done with a message, and then takes it or, if that failed, gives it back. */
static int handle_message(struct recv *recv, struct xenmsg *conn, struct xenmsg_message *message)
{
	bool failed = true;
	int code, r;

	if (recv->cli->verbose)
		note_sender(recv, message);
	if (recv->exec) {
		code = run_command(recv, message, &failed);
	} else {
		code = print_message(recv, message);
		failed = code != EXIT_DONE;
	}
	if (takes_first(recv))
		return code;
	r = failed ? xenmsg_refuse(conn, message, EIO) : xenmsg_take(conn, message);
	if (r == -ECANCELED && !failed)
		cli_note(recv->cli,
			 "recv on %s: what was just %s was withdrawn meanwhile: its sender had given up",
			 xenmsg_message_endpoint(message), recv->exec ? "handled" : "written");
	else if (r < 0 && r != -ECANCELED && code == EXIT_DONE)
		return cli_error(conn, "recv on", xenmsg_message_endpoint(message), r);
	return code;
}

/* Waits for the next message. Takes none if a signal has come (-EINTR), or if the reader of standard output
 * is gone (-EPIPE). */
static int next_message(struct recv *recv, struct xenmsg *conn, struct xenmsg_message **message,
			int timeout_ms)
{
	int64_t deadline = interrupt_deadline(timeout_ms);

	for (;;) {
		int r;

		r = wait_for_a_place(recv, conn);
		if (r < 0)
			return r;
		if (interrupt_came())
			return -EINTR;
		if (!recv->exec && interrupt_output_is_gone())
			return -EPIPE;
		r = takes_first(recv) ? xenmsg_recv(conn, message, 0) : xenmsg_peek(conn, message);
		if (r != -EAGAIN)
			return r;
		r = recv->exec ? interrupt_wait(conn, deadline) : interrupt_wait_for_reader(conn, deadline);
		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0 && r != -EINTR)
			return r;
	}
}

static int receive(struct recv *recv, struct xenmsg *conn, uint64_t count, int timeout_ms)
{
	bool endless = count == 0;

	while (endless || count-- > 0) {
		struct xenmsg_message *message;
		int code, r = next_message(recv, conn, &message, timeout_ms);

		if (r == -EINTR)
			return EXIT_DONE;
		if (r == -ETIMEDOUT) {
			cli_complain("recv on %s: no message within %.3g s", recv->endpoints,
				     timeout_ms / 1000.0);
			return EXIT_TIMED_OUT;
		}
		if (r == -EPIPE) {
			cli_note(recv->cli,
				 "recv on %s: nobody reads standard output any more, so no more is taken",
				 recv->endpoints);
			return EXIT_OTHER;
		}
		if (r < 0)
			return cli_error(conn, "recv on", recv->endpoints, r);
		code = handle_message(recv, conn, message);
		xenmsg_message_free(message);
		if (code)
			return code;
	}
	return EXIT_DONE;
}

/* Binds the endpoints, whose list ends with NULL. Returns 0, or an exit code after a complaint. */
static int bind_all(struct cli *cli, struct xenmsg *conn, char **endpoints)
{
	for (; *endpoints; endpoints++) {
		int r = xenmsg_bind(conn, *endpoints, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), NULL, NULL);

		if (r < 0)
			return cli_error(conn, "bind", *endpoints, r);
		cli_note_bound(cli, conn, *endpoints);
	}
	return EXIT_DONE;
}

/* Returns the words of a list that ends with NULL, which the caller frees. */
static char *joined(char **words)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		abort();
	for (char **word = words; *word; word++)
		fprintf(stream, "%s%s", word == words ? "" : ", ", *word);
	if (fclose(stream) != 0)
		abort();
	return text;
}

int cmd_recv(struct cli *cli, int argc, char **argv)
{
	static const char *const fields[] = {"time", "endpoint", "address", "host", "domid",	    "domain",
					     "uid",  "gid",	 "pid",	    "size", CHOICE_PAYLOAD, NULL};
	struct recv recv = {.cli = cli, .jobs = 1};
	struct xenmsg *conn;
	char *endpoints;
	uint64_t count = 0;
	int code, timeout_ms = -1;
	const struct cli_option options[] = {
		{"count", .count = &count},
		{"timeout", .ms = &timeout_ms},
		{"json", .flag = &recv.json},
		{"raw", .flag = &recv.raw},
		{"exec", .text = &recv.exec},
		{"jobs", .count = &recv.jobs},
		{"confirm", .flag = &recv.confirm},
		{"format", .text = &recv.choice.format},
		{0},
	};

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("recv", "on which endpoint?");
	if (recv.json + recv.raw + (recv.exec != NULL) + (recv.choice.format != NULL) > 1)
		return cli_usage("recv", "--json, --raw, --exec and --format exclude each other");
	code = choice_check(&recv.choice, "recv", false, fields);
	if (code)
		return code;
	if (recv.confirm && !recv.exec)
		return cli_usage("recv", "--confirm is for --exec");
	if (recv.jobs > 1 && (!recv.exec || recv.confirm))
		return cli_usage("recv", "--jobs is for --exec without --confirm");
	for (int i = optind; i < argc; i++)
		if (!endpoint_name_is_valid(argv[i], strlen(argv[i])))
			return cli_usage(
				"recv",
				"bad endpoint '%s': 1 to 63 letters, digits, _ and -, beginning with a letter or digit",
				argv[i]);
	code = cli_open(cli, &conn);
	if (code)
		return code;
	recv.writer = writer_new_for(WRITER_JSON_LINES, &recv.choice);
	recv.endpoints = endpoints = joined(argv + optind);
	code = bind_all(cli, conn, argv + optind);
	if (code == EXIT_DONE) {
		interrupt_catch();
		if (recv.jobs > 1)
			catch_children();
		code = receive(&recv, conn, count, timeout_ms);
		if (recv.running && xenmsg_process(conn) < 0)
			code = code ? code : EXIT_OTHER;
		reap(&recv, true);
	}
	free(endpoints);
	writer_free(recv.writer);
	xenmsg_close(conn);
	if (interrupt_came())
		interrupt_die();
	return code;
}
