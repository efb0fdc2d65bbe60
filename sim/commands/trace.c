/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xensim trace: becomes a program that writes down what it asks of Xen's libraries (trace.c). It needs no
 * host. */
#include "config.h"

#include "sim/commands/command.h"
#include "sim/hypervisor/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Says where the library is to write and since when. Returns 0 or a negative errno. */
static int set_environment(const char *file)
{
	char path[PATH_MAX], start[32];
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(start, sizeof(start), "%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
	if (!realpath(file, path) || setenv(SIM_ENV_TRACE, path, 1) < 0 ||
	    setenv(SIM_ENV_TRACE_START, start, 1) < 0)
		return -errno;
	return set_preload("libxensim-trace.so");
}

int command_trace(int count, char **words)
{
	int fd, r;

	if (count < 4 || strcmp(words[2], "--") != 0)
		return usage_error("usage: xensim trace FILE -- CMD [ARGUMENT]...", NULL);
	fd = open(words[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		fprintf(stderr, "xensim: cannot write %s: %s\n", words[1], strerror(errno));
		return EXIT_OWN_FAILURE;
	}
	close(fd);
	r = set_environment(words[1]);
	if (r < 0) {
		fprintf(stderr, "xensim: cannot trace: %s\n", strerror(-r));
		return EXIT_OWN_FAILURE;
	}
	return become(words + 3);
}
