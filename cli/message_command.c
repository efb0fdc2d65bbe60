/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/message_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/received.h"

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

static void set_environment(struct xenmsg_message *message)
{
	const struct xenmsg_peer *sender = xenmsg_message_sender(message);
	const char *key = received_key(message);

	setenv("XENMSG_ENDPOINT", xenmsg_message_endpoint(message), 1);
	command_set_sender(xenmsg_peer_host(sender), xenmsg_peer_domid(sender),
			   xenmsg_peer_domain_name(sender), xenmsg_peer_uid(sender), xenmsg_peer_pid(sender));
	command_set_number("XENMSG_SENDER_GID", xenmsg_peer_gid(sender));
	command_set_id(message, sender);
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
static int start(struct message_command *command, struct xenmsg_message *message, pid_t *pid, int *word)
{
	int ends[2] = {-1, -1}, fd = word && pipe2(ends, O_CLOEXEC) < 0 ? -1 : payload_file(message);

	*pid = fd < 0 ? -1 : fork();
	if (*pid == 0) {
		command_reset_signals();
		interrupt_restore();
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

/* Waits until a command has ended. */
static int wait_for(struct xenmsg *conn, pid_t pid)
{
	bool is_served = true;
	int status = 0;

	for (;;) {
		pid_t ended = waitpid(pid, &status, is_served && !interrupt_came() ? WNOHANG : 0);
		int r;

		if (ended == pid || (ended < 0 && errno != EINTR))
			return status;
		r = is_served ? interrupt_wait(conn, -1) : 0;
		is_served = r >= 0 || r == -EINTR;
	}
}

static void on_child(int number)
{
	(void)number;
}

void message_command_catch_children(void)
{
	const struct sigaction action = {.sa_handler = on_child};
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &action, NULL);
}

int message_command_wait_for_a_place(struct message_command *command, struct xenmsg *conn)
{
	for (;;) {
		int r;

		reap(command, false);
		if (command->running < command->jobs || interrupt_came())
			return 0;
		r = interrupt_wait(conn, -1); /* until a command ends, too */
		if (r < 0 && r != -EINTR)
			return r;
	}
}

int message_command_start(struct message_command *command, struct xenmsg *conn,
			  struct xenmsg_message *message)
{
	int word = -1, code, r;
	pid_t pid;

	code = start(command, message, &pid, conn ? &word : NULL);
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
	int code = start(command, message, &pid, NULL);

	if (code == EXIT_DONE)
		*failed = has_failed(command, wait_for(conn, pid));
	return code;
}

void message_command_finish(struct message_command *command)
{
	reap(command, true);
}
