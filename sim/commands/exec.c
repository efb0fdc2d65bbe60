/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xensim exec: becomes a program of a domain. */
#include "config.h"

#include "sim/commands/command.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Returns the library's path: beside this program when it runs from its build tree, else where it was
 * installed. */
static char *library_path(void)
{
	const char *path = getenv("XENSIM_LIBRARY");
	char program[4096], *built;
	ssize_t n;

	if (path)
		return strdup(path);
	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n > 0) {
		program[n] = 0;
		*strrchr(program, '/') = 0;
		if (asprintf(&built, "%s/.libs/libxensim.so", program) >= 0) {
			if (access(built, R_OK) == 0)
				return built;
			free(built);
		}
	}
	return strdup(PKGLIBDIR "/libxensim.so");
}

/* The other one is beside it. */
char *trace_library_path(void)
{
	char *library = library_path(), *end = library ? strrchr(library, '/') : NULL, *path;
	int r = end ? asprintf(&path, "%.*s/libxensim-trace.so", (int)(end - library), library) : -1;

	free(library);
	return r < 0 ? NULL : path;
}

/* Daemons are where an ordinary user's PATH doesn't lead, and in a simulated domain everybody is root. */
static int add_daemons_to_path(void)
{
	const char *path = getenv("PATH");
	char *longer;
	int r;

	if (asprintf(&longer, "%s:" SBINDIR ":/usr/local/sbin:/usr/sbin:/sbin",
		     path && *path ? path : "/usr/local/bin:/usr/bin:/bin") < 0)
		return -ENOMEM;
	r = setenv("PATH", longer, 1) < 0 ? -ENOMEM : 0;
	free(longer);
	return r;
}

static int set_preload(void)
{
	char *library = library_path(), *value;
	const char *first = getenv("XENSIM_PRELOAD_FIRST"), *others = getenv("LD_PRELOAD");
	int r = 0;

	if (!library || access(library, R_OK) < 0) {
		fprintf(stderr, "xensim: cannot read %s: install xensim, or set XENSIM_LIBRARY\n",
			library ? library : "libxensim.so");
		free(library);
		return -ENOENT;
	}
	/* A sanitizer's run-time must come before everything else. */
	if (asprintf(&value, "%s%s%s%s%s", first ? first : "", first ? ":" : "", library, others ? ":" : "",
		     others ? others : "") < 0)
		value = NULL;
	if (!value || setenv("LD_PRELOAD", value, 1) < 0)
		r = -ENOMEM;
	free(value);
	free(library);
	return r;
}

/* Finds a program as execvp() does, if it is in a folder of the PATH or has one in its name. */
/* Becomes a program of the domain. Returns an exit status. */
static int become(char **words)
{
	execvp(words[0], words);
	fprintf(stderr, "xensim: cannot run %s: %s\n", words[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

int command_exec(int count, char **words)
{
	char *text, *line, *next;
	bool stop = false;
	int status;

	if (count < 4 || strcmp(words[2], "--") != 0)
		return usage_error("usage: xensim exec DOMID -- CMD [ARGUMENT]...", NULL);
	status = ask_host(2, words, &text);
	if (status != 0) {
		if (text)
			fprintf(stderr, "xensim: %s\n", text);
		free(text);
		return status;
	}
	for (line = text; *line; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = 0;
		if (strcmp(line, "STOP") == 0)
			stop = true;
		else if (strchr(line, '='))
			putenv(line);
	}
	if (set_preload() < 0 || add_daemons_to_path() < 0)
		return EXIT_CANNOT_RUN;
	/* A paused domain runs nothing. */
	if (stop)
		raise(SIGSTOP);
	return become(words + 3);
}
