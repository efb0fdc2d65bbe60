/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libsystemd has all of this, too, but loading it and the six libraries that it needs is dearer than anything
 * else at a start. */
#include "base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_SOCKET 3 /* SD_LISTEN_FDS_START */
#define SOCKETS_MAX  1024u
#define JOURNAL	     "/run/systemd/journal/stdout"

/* Returns a variable's number, or 0. */
static uint64_t number_in(const char *variable)
{
	const char *text = getenv(variable);
	unsigned long long number;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return errno || *end ? 0 : number;
}

/* Takes a name off the list, where colons part them. */
static char *take_name(const char **list)
{
	size_t length = *list ? strcspn(*list, ":") : 0;
	char *name = *list ? strndup(*list, length) : strdup("unknown");

	if (*list)
		*list += length + ((*list)[length] == ':');
	return name;
}

static void free_names(char **names, int count)
{
	while (count > 0)
		free(names[--count]);
	free(names);
}

int service_sockets(int **fds, char ***names)
{
	const char *list = getenv("LISTEN_FDNAMES");
	uint64_t count = number_in("LISTEN_PID") == (uint64_t)getpid() ? number_in("LISTEN_FDS") : 0;

	*fds = NULL;
	*names = NULL;
	if (count == 0 || count > SOCKETS_MAX)
		return count ? -EINVAL : 0;
	*fds = calloc(count, sizeof(**fds));
	*names = calloc(count, sizeof(**names));
	for (int i = 0; i < (int)count; i++) {
		if (!*fds || !*names || !((*names)[i] = take_name(&list))) {
			free_names(*names, *names ? i : 0);
			free(*fds);
			*fds = NULL;
			*names = NULL;
			return -ENOMEM; /* and another attempt finds them */
		}
		(*fds)[i] = FIRST_SOCKET + i;
	}
	for (int i = 0; i < (int)count; i++)
		fcntl((*fds)[i], F_SETFD, FD_CLOEXEC);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return (int)count;
}

/* Returns a socket's option, or -1. */
static int option_of(int fd, int option)
{
	int value;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

bool service_is_listener(int fd, int type)
{
	return option_of(fd, SO_DOMAIN) == AF_UNIX && option_of(fd, SO_TYPE) == type &&
	       option_of(fd, SO_ACCEPTCONN) == 1;
}

uint64_t service_watchdog_us(void)
{
	bool is_ours = !getenv("WATCHDOG_PID") || number_in("WATCHDOG_PID") == (uint64_t)getpid();

	return is_ours ? number_in("WATCHDOG_USEC") : 0;
}

/* The journal expects a name, a unit, the priority of lines that have none, and four times yes or no: whether
 * lines begin with a priority, and whether they are passed on to syslog, the kernel and the console. */
int service_open_output(const char *name)
{
	static const struct sockaddr_un journal = {.sun_family = AF_UNIX, .sun_path = JOURNAL};
	char head[128];
	const int room = 8 << 20; /* so that a burst of lines doesn't wait for the journal */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), length, error;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	length = snprintf(head, sizeof(head), "%.100s\n\n6\n1\n0\n0\n0\n", name);
	if (connect(fd, (const struct sockaddr *)&journal, sizeof(journal)) == 0 &&
	    shutdown(fd, SHUT_RD) == 0 &&
	    send(fd, head, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) == length)
		return fd;
	error = errno;
	close(fd);
	return -error;
}
