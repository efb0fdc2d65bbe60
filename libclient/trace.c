/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/trace.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "wire/libc.h"
#include "wire/text.h"

bool trace_is_wanted(void)
{
	const char *wanted = secure_getenv("XENMSG_DEBUG");

	return wanted && strcmp(wanted, "1") == 0;
}

void trace_line(const char *format, ...)
{
	struct pollfd there = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[512], when[16] = "";
	int size, before = errno;
	struct timespec now;
	struct tm parts;
	va_list args;

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &parts))
		strftime(when, sizeof(when), "%H:%M:%S", &parts);
	size = snprintf(line, sizeof(line), "%s.%06ldZ libxenmsg[%d]: ", when, now.tv_nsec / 1000,
			(int)getpid());
	va_start(args, format);
	vsnprintf(line + size, sizeof(line) - (size_t)size - 1, format, args);
	va_end(args);
	text_make_line(line); /* names may come from elsewhere */
	size = (int)strlen(line);
	line[size++] = '\n';
	/* Nobody is waited for, and nobody killed, if it is a pipe that isn't read. */
	if (poll(&there, 1, 0) == 1 && there.revents == POLLOUT &&
	    write(STDERR_FILENO, line, (size_t)size) < 0)
		errno = before; /* there is nobody to tell */
	errno = before;
}

const char *trace_outcome(int result)
{
	return result == 0 ? "delivered" : strerrorname_np(-result) ? strerrorname_np(-result) : "failed";
}
