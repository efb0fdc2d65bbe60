/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/messages.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/payload.h"
#include "cli/reconnecting.h"
#include "cli/writer.h"
#include "wire/address.h"

/* Writes the payload to a file in memory, so that a command that doesn't read it blocks nothing. */
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

/* Returns whose value a message of a topic is, as its publisher says; NULL: nobody's. */
static const char *received_key(const struct xenmsg_message *message)
{
	const char *key = xenmsg_message_key(message), *endpoint = xenmsg_message_endpoint(message);

	return address_is_meant(endpoint, strlen(endpoint)) && *key ? key : NULL;
}

static void set_environment(struct xenmsg_message *message)
{
	const struct xenmsg_peer *sender = xenmsg_message_sender(message);
	const struct command_peer peer = command_peer(sender, message);
	const char *key = received_key(message);

	setenv("XENMSG_ENDPOINT", xenmsg_message_endpoint(message), 1);
	command_set_peer(&peer);
	command_set_number("XENMSG_SENDER_GID", xenmsg_peer_gid(sender));
	if (key)
		setenv("XENMSG_KEY", key, 1);
	else
		unsetenv("XENMSG_KEY");
}

/* Waits until the parent says that the command may run. */
static void await_word(int fd)
{
	char word;
	ssize_t n;

	while ((n = read(fd, &word, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(0);
}

/* Starts the command. With `word` it runs only once that gets a byte. */
static int messages_start(struct message_command *command, struct xenmsg_message *message, pid_t *pid,
			  int *word)
{
	int ends[2] = {-1, -1}, fd = word && pipe2(ends, O_CLOEXEC) < 0 ? -1 : payload_file(message);

	*pid = fd < 0 ? -1 : command_fork();
	if (*pid == 0) {
		if (word) {
			close(ends[1]);
			await_word(ends[0]);
		}
		dup2(fd, STDIN_FILENO);
		set_environment(message);
		execl("/bin/sh", "sh", "-c", command->text, (char *)NULL);
		cli_complain("/bin/sh: %s", strerror(errno));
		_exit(127);
	}
	if (*pid < 0)
		cli_complain("can't run '%s': %s%s", command->text, strerror(errno), cli_limit_of(errno));
	if (fd >= 0)
		close(fd);
	if (ends[0] >= 0)
		close(ends[0]);
	if (word)
		*word = ends[1];
	return *pid < 0 ? EXIT_OTHER : EXIT_DONE;
}

/* Says how a command ended that failed. Returns whether it did. */
static bool has_failed(const struct message_command *command, int status)
{
	char words[32];

	if (status != 0)
		cli_note(command->cli, "'%s' %s%s", command->text, command_end(status, words),
			 command->if_fails);
	return status != 0;
}

/* Looks which of several commands have ended, or (`to_the_end`) waits until all have. */
static void reap(struct message_command *command, bool to_the_end)
{
	while (command->running > 0) {
		int status;
		pid_t pid = waitpid(-1, &status, to_the_end ? 0 : WNOHANG);

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return;
		command->running--;
		has_failed(command, status);
	}
}

/* Waits until the connection has something to do but for messages, of which the next may be there all the
 * time; or until a command ends. */
static int wait_without_messages(struct xenmsg *conn)
{
	int r = xenmsg_pause(conn);

	if (r == 0)
		r = interrupt_wait(conn, -1);
	xenmsg_resume(conn);
	return r;
}

/* Waits until a command has ended. */
static int messages_wait_for(struct xenmsg *conn, pid_t pid)
{
	bool is_served = true;
	int status = 0;

	for (;;) {
		pid_t ended = waitpid(pid, &status, is_served && !interrupt_came() ? WNOHANG : 0);
		int r;

		if (ended == pid || (ended < 0 && errno != EINTR))
			return status;
		r = is_served ? wait_without_messages(conn) : 0;
		is_served = r >= 0 || r == -EINTR;
	}
}

static void messages_on_child(int number)
{
	(void)number;
}

void message_command_catch_children(void)
{
	const struct sigaction action = {.sa_handler = messages_on_child};
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &action, NULL);
}

/* Waits while no further command may run. What is there for the connection is done meanwhile. Returns 0, also
 * when a signal has come, or an error of the connection. */
static int wait_for_a_place(struct message_command *command, struct xenmsg *conn)
{
	for (;;) {
		int r;

		reap(command, false);
		if (command->running < command->jobs || interrupt_came())
			return 0;
		r = wait_without_messages(conn);
		if (r < 0 && r != -EINTR)
			return r;
	}
}

int message_command_start(struct message_command *command, struct xenmsg *conn,
			  struct xenmsg_message *message)
{
	int word = -1, code, r;
	pid_t pid;

	code = messages_start(command, message, &pid, conn ? &word : NULL);
	command->running += code == EXIT_DONE;
	if (!conn)
		return code;
	r = code == EXIT_DONE ? xenmsg_take(conn, message) : xenmsg_refuse(conn, message, EIO);
	if (r == 0 && code == EXIT_DONE)
		(void)!write(word, "", 1); /* else the command ends without having run */
	if (word >= 0)
		close(word);
	if (r < 0 && r != -ECANCELED && code == EXIT_DONE)
		return cli_error(conn, "recv on", xenmsg_message_endpoint(message), r);
	return code;
}

int message_command_run(struct message_command *command, struct xenmsg *conn, struct xenmsg_message *message,
			bool *failed)
{
	pid_t pid;
	int code = messages_start(command, message, &pid, NULL);

	if (code == EXIT_DONE)
		*failed = has_failed(command, messages_wait_for(conn, pid));
	return code;
}

void message_command_finish(struct message_command *command)
{
	reap(command, true);
}

/* ---- how the next message is waited for ------------------------------------------------------ */

static int next_message(const struct message_wait *wait, struct xenmsg_message **message)
{
	bool runs = wait->command->text;

	for (;;) {
		int r = runs ? wait_for_a_place(wait->command, wait->conn) : 0;

		if (r < 0)
			return r;
		if (interrupt_came() || wait->reconnecting->code)
			return -EINTR;
		if (!runs && interrupt_output_is_gone())
			return -EPIPE;
		r = wait->peeks ? xenmsg_peek(wait->conn, message) : xenmsg_recv(wait->conn, message, 0);
		if (r != -EAGAIN)
			return r;
		r = runs ? interrupt_wait(wait->conn, wait->deadline)
			 : interrupt_wait_for_reader(wait->conn, wait->deadline);
		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0 && r != -EINTR)
			return r;
	}
}

struct xenmsg_message *message_next(const struct message_wait *wait, int *code)
{
	const struct reconnecting *reconnecting = wait->reconnecting;
	struct xenmsg_message *message;
	int r = next_message(wait, &message);

	if (r >= 0)
		return message;
	*code = EXIT_OTHER;
	if (r == -EINTR) {
		*code = reconnecting->code;
	} else if (r == -ETIMEDOUT) {
		cli_complain("%s %s: no message within %.3g s", reconnecting->what, reconnecting->subject,
			     wait->timeout_ms / 1000.0);
		*code = EXIT_TIMED_OUT;
	} else if (r != -EPIPE) {
		*code = cli_error(wait->conn, reconnecting->what, reconnecting->subject, r);
	} else if (wait->peeks) {
		cli_note(reconnecting->cli,
			 "%s %s: nobody reads standard output any more, so no more is taken",
			 reconnecting->what, reconnecting->subject);
	}
	return NULL;
}

/* ---- how a message is printed --------------------------------------------------------------- */

double received_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct json_object *known_text(const char *text)
{
	return *text ? json_object_new_string(text) : NULL;
}

struct json_object *received_from(const struct xenmsg_message *message)
{
	const struct xenmsg_peer *peer = xenmsg_message_sender(message);
	struct json_object *sender = json_object_new_object();

	json_object_object_add(sender, "host", known_text(xenmsg_peer_host(peer)));
	json_object_object_add(sender, "domid", json_object_new_int64(xenmsg_peer_domid(peer)));
	json_object_object_add(sender, "domain", known_text(xenmsg_peer_domain_name(peer)));
	json_object_object_add(sender, "uid", json_object_new_int64(xenmsg_peer_uid(peer)));
	json_object_object_add(sender, "gid", json_object_new_int64(xenmsg_peer_gid(peer)));
	json_object_object_add(sender, "pid", json_object_new_int64(xenmsg_peer_pid(peer)));
	return sender;
}

int received_json(struct writer *writer, const char *key, struct xenmsg_message *message)
{
	const char *endpoint = xenmsg_message_endpoint(message);
	char id[XENMSG_NAME_SIZE];

	writer_real(writer, "time", received_now(), 3);
	writer_text(writer, key, endpoint);
	if (!address_is_meant(endpoint, strlen(endpoint))) /* what is published has none */
		writer_text(writer, "id", xenmsg_message_name(message, id, sizeof(id)) == 0 ? id : NULL);
	writer_json(writer, "sender", received_from(message));
	if (received_key(message))
		writer_text(writer, "key", received_key(message));
	writer_payload(writer, xenmsg_message_data(message), xenmsg_message_size(message));
	return writer_end_row(writer);
}

int received_text(struct xenmsg_message *message, bool raw, bool apart)
{
	const char *data = xenmsg_message_data(message);
	size_t size = xenmsg_message_size(message);
	int code;

	if (raw)
		return cli_output(data, size);
	code = apart ? cli_show_apart(data, size) : cli_show(data, size);
	if (code)
		return code;
	putchar('\n');
	return cli_flush();
}

/* ---- where a message comes from ------------------------------------------------------------- */

int message_argument(const char *command, const char *address, int argc, char **argv, const char **message)
{
	if (address && cli_check_address(command, address))
		return EXIT_USAGE;
	*message = optind < argc ? argv[optind++] : NULL;
	if (optind < argc)
		return cli_usage(command, "too many arguments: quote a message of several words");
	if (*message && strcmp(*message, "-") == 0)
		*message = NULL;
	return 0;
}

int message_read(const struct cli *cli, const char *path, const char *what, size_t most, char **data,
		 size_t *size)
{
	const char *file = path && strcmp(path, "-") != 0 ? path : NULL;
	int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, r;
	struct stat info;

	*data = NULL;
	*size = 0;
	if (!file)
		cli_note_typing(cli, what);
	r = fd < 0 ? -errno : payload_read(fd, most, data, size);
	if (r == -EMSGSIZE && fstat(fd, &info) == 0 && (size_t)info.st_size > *size)
		*size = (size_t)info.st_size;
	if (r < 0 && r != -EMSGSIZE)
		cli_complain("%s: %s", file ? file : "standard input", strerror(-r));
	if (file && fd >= 0)
		close(fd);
	return r;
}

/* Waits until standard input can be read, in which time the connection is served. Returns 0 or a negative
 * errno. */
static int wait_for_input(const struct message_lines *lines)
{
	struct pollfd fds[2] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = xenmsg_fd(lines->conn), .events = POLLIN},
	};

	while (!(lines->error && *lines->error) && !interrupt_came()) {
		int r = interrupt_poll(fds, 2, -1);

		if (r < 0 && r != -EINTR)
			return r;
		if (r > 0 && fds[1].revents && xenmsg_process(lines->conn) < 0)
			return -ENOTCONN;
		if (r > 0 && fds[0].revents)
			return 0;
	}
	return -EINTR;
}

int message_lines_read(struct message_lines *lines)
{
	size_t capacity = 1 << 16, most = xenmsg_max_message(lines->conn);
	char *data = malloc(capacity), *grown;
	int r = data ? 0 : -ENOMEM;
	ssize_t n = 1;

	while (r == 0 && n != 0 && (r = wait_for_input(lines)) == 0) {
		if (lines->size == capacity) {
			grown = lines->size > most ? NULL : realloc(data, capacity * 2);
			if (!grown) {
				r = lines->size > most ? -EMSGSIZE : -ENOMEM;
				break;
			}
			data = grown;
			capacity *= 2;
		}
		n = read(STDIN_FILENO, data + lines->size, capacity - lines->size);
		lines->is_input = n < 0 && errno != EINTR && errno != EAGAIN;
		if (lines->is_input)
			r = -errno;
		lines->size += n > 0 ? (size_t)n : 0;
		if (n >= 0)
			r = payload_take_lines(data, &lines->size, n == 0, lines->take, lines->userdata);
	}
	free(data);
	return r == -EINTR ? 0 : r;
}

/* ---- deliveries ------------------------------------------------------------------------------ */

#define TICK_MS	   100
#define LONG_TICKS (CLI_LONG_MS / TICK_MS)

/* The reasons of messages and calls are texts that stay, but for those that an address has. Of these
 * cli_error() says more. */
static void note_result(void *userdata, const struct xenmsg_result *result)
{
	struct delivery *delivery = userdata;
	char words[512];

	delivery->known = true;
	delivery->result = *result;
	if (address_words(result->error, xenmsg_domid(delivery->conn), delivery->address, words,
			  sizeof(words)) &&
	    !strcmp(words, result->reason))
		delivery->result.reason = xenmsg_error_text(result->error);
}

static int messages_fail(struct delivery *delivery, int error, enum xenmsg_fate fate)
{
	delivery->result = (struct xenmsg_result){.error = error, .fate = fate, .reason = ""};
	return error;
}

int message_too_large(struct xenmsg *conn, const char *what, const char *address, size_t size, bool at_least)
{
	cli_complain(
		"%s %s: the message has %s%zu bytes, the limit is %zu; max-message in xenmsgd.conf sets it",
		what, address, at_least ? "at least " : "", size, xenmsg_max_message(conn));
	return EXIT_LIMIT;
}

/* Nobody waits in silence at a terminal. */
static void tell_wait(struct delivery *delivery)
{
	bool is_away = cli_is_away(delivery->conn, delivery->address);

	delivery->ticks = -1;
	if (delivery->known)
		return;
	cli_note(delivery->cli, "%s %s: not yet %s%s%s", delivery->what, delivery->address,
		 delivery->is_call ? "answered" : "taken",
		 is_away ? ": its domain is away, and waited for" : "",
		 delivery->timeout_ms < 0 ? "; " CLI_ENDS_WAIT : "");
}

/* Sleeps until something has come, a tick is due, or the deadline. Returns 0, or -ENOTCONN or -EPROTO. */
static int messages_look(struct delivery *delivery, int64_t deadline)
{
	int left_ms = interrupt_left(deadline), r;
	bool ticks = (delivery->tick || delivery->ticks >= 0) && (left_ms < 0 || left_ms > TICK_MS);

	r = interrupt_wait(delivery->conn, ticks ? deadline_in(TICK_MS) : deadline);
	if (r == 0 && delivery->tick)
		delivery->tick(delivery->userdata);
	if (r == 0 && delivery->ticks >= 0 && ++delivery->ticks == LONG_TICKS)
		tell_wait(delivery);
	return r < 0 && r != -EINTR ? r : 0;
}

/* Obeys the first signal; from now on a second one kills. */
static void note_signal(struct delivery *delivery)
{
	delivery->interrupted = true;
	interrupt_take();
	interrupt_allow_complaint("%s %s: interrupted again; whether it was %s can't be known",
				  delivery->what, delivery->address,
				  delivery->is_call ? "carried out" : "delivered");
}

static int messages_begin(struct delivery *delivery, const void *data, size_t size, int left_ms)
{
	if (delivery->is_call)
		return xenmsg_begin_call(delivery->conn, delivery->address, data, size,
					 XENMSG_WITH(left_ms, delivery->flags), note_result, delivery,
					 &delivery->op);
	return xenmsg_begin_send(delivery->conn, delivery->address, data, size,
				 XENMSG_WITH(left_ms, delivery->flags), note_result, delivery, &delivery->op);
}

/* Begins it, as soon as there is room. Returns 0, or why it isn't out. */
static int begin_in_time(struct delivery *delivery, const void *data, size_t size, int64_t deadline)
{
	int r;

	while (!interrupt_came()) {
		r = messages_begin(delivery, data, size, interrupt_left(deadline));
		if (r != -EAGAIN)
			return r;
		if (deadline_left(deadline) == 0)
			return -ETIMEDOUT;
		r = messages_look(delivery, deadline);
		if (r < 0)
			return r;
	}
	note_signal(delivery);
	return -ETIMEDOUT;
}

void delivery_tell_name(struct xenmsg *conn, const char *address)
{
	char name[XENMSG_NAME_SIZE];

	if (xenmsg_sent_name(conn, address, 0, name, sizeof(name)) == 0)
		cli_print_line("%s", name);
	cli_flush();
}

static int try_once(struct delivery *delivery, const void *data, size_t size, int64_t deadline)
{
	int64_t settled = -1;
	int r;

	delivery->known = false;
	r = begin_in_time(delivery, data, size, deadline);
	if (r < 0)
		return messages_fail(delivery, r, XENMSG_FATE_NOT_DONE);
	if (delivery->tells_name)
		delivery_tell_name(delivery->conn, delivery->address);
	while (!delivery->known && r == 0) {
		if (!delivery->interrupted && interrupt_came()) {
			note_signal(delivery);
			xenmsg_op_withdraw(delivery->op);
			settled = deadline_in(DELIVERY_SETTLE_MS);
		}
		/* It tells when the time is up, too, or the daemon gone. */
		r = deadline_left(settled) == 0 ? -ETIMEDOUT : messages_look(delivery, settled);
	}
	return delivery->known ? delivery->result.error
			       : messages_fail(delivery, -ECONNRESET, XENMSG_FATE_UNKNOWN);
}

/* Waits before the next try. Returns 0, or why there is none. */
static int messages_rest(struct delivery *delivery, int pause_ms)
{
	int64_t end = deadline_in(pause_ms);
	int r = 0;

	while (r == 0 && deadline_left(end) != 0) {
		if (interrupt_came()) {
			note_signal(delivery);
			return -ETIMEDOUT;
		}
		r = messages_look(delivery, end);
	}
	return r;
}

/* Says that it was the signal that ended the wait, where the library says that the time was up. */
static const char *interrupted_reason(const struct xenmsg_result *result)
{
	if (result->error == -ETIMEDOUT && result->fate == XENMSG_FATE_UNKNOWN)
		return "interrupted; the request was taken, and may have been carried out";
	if (result->error == -ETIMEDOUT)
		return "interrupted; it was not delivered";
	if (result->error == -ECONNRESET)
		return "interrupted, and the other side doesn't say whether it was taken: whether it was delivered "
		       "can't be known";
	return result->reason;
}

static int try_on(struct delivery *delivery, const void *data, size_t size)
{
	int64_t deadline = deadline_in(delivery->timeout_ms);
	struct again again = {0};
	int r;

	/* A command that shows its progress says enough. */
	delivery->ticks = !delivery->tick && cli_is_watched(delivery->cli) ? 0 : -1;
	do {
		r = try_once(delivery, data, size, deadline);
		if (r != -ENODATA)
			break;
		/* The policy there isn't known yet. */
		r = again_pause(&again, deadline);
		if (r >= 0)
			r = messages_rest(delivery, r);
		if (r < 0)
			messages_fail(delivery, r, XENMSG_FATE_NOT_DONE);
	} while (r == 0);
	if (delivery->interrupted)
		delivery->result.reason = interrupted_reason(&delivery->result);
	return delivery->result.error;
}

int delivery_send(struct delivery *delivery, const void *data, size_t size)
{
	delivery->is_call = false;
	return try_on(delivery, data, size);
}

int delivery_call(struct delivery *delivery, const void *data, size_t size)
{
	delivery->is_call = true;
	return try_on(delivery, data, size);
}

int delivery_complain(const struct delivery *delivery)
{
	/* To ask the daemon why may take a while. */
	if (!delivery->interrupted)
		interrupt_allow(NULL);
	if (*cli_said(delivery->result.reason, delivery->result.error))
		return cli_error_because(delivery->result.reason, delivery->what, delivery->address,
					 delivery->result.error);
	return cli_error(delivery->conn, delivery->what, delivery->address, delivery->result.error);
}
