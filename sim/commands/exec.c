/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xensim exec: becomes a program of a domain. */
#include "config.h"

#include "sim/commands/command.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
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

int set_preload(const char *name)
{
	char *library = library_path(), *end = library && name ? strrchr(library, '/') : NULL, *value = NULL;
	const char *first = getenv("XENSIM_PRELOAD_FIRST"), *others = getenv("LD_PRELOAD");
	int r = library ? 0 : -ENOMEM;

	if (end && asprintf(&value, "%.*s/%s", (int)(end - library), library, name) >= 0) {
		free(library);
		library = value;
	}
	value = NULL;
	if (r == 0 && access(library, R_OK) < 0) {
		r = -errno;
		fprintf(stderr, "xensim: cannot read %s: install xensim, or set XENSIM_LIBRARY\n", library);
	}
	/* A sanitizer's run-time must come before everything else. */
	if (r == 0 && (asprintf(&value, "%s%s%s%s%s", first ? first : "", first ? ":" : "", library,
				others ? ":" : "", others ? others : "") < 0 ||
		       setenv("LD_PRELOAD", value, 1) < 0))
		r = -ENOMEM;
	free(value);
	free(library);
	return r;
}

int become(char **words)
{
	execvp(words[0], words);
	fprintf(stderr, "xensim: cannot run %s: %s\n", words[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

/* Becomes the user, in its groups. Returns 0, or -1 with a line on stderr. */
static int become_user(const struct passwd *user)
{
	if (initgroups(user->pw_name, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 &&
	    setuid(user->pw_uid) == 0 && setenv("USER", user->pw_name, 1) == 0 &&
	    setenv("LOGNAME", user->pw_name, 1) == 0 && setenv("HOME", user->pw_dir, 1) == 0)
		return 0;
	fprintf(stderr, "xensim: cannot become %s: %s\n", user->pw_name, strerror(errno));
	return -1;
}

int command_exec(int count, char **words)
{
	const struct passwd *user = NULL;
	char *text, *line, *next;
	bool stop = false;
	int status;

	if (count > 2 && strcmp(words[1], "--user") == 0) {
		user = getpwnam(words[2]);
		if (!user) {
			fprintf(stderr, "xensim: exec: there is no user %s here\n", words[2]);
			return EXIT_CANNOT_RUN;
		}
		words[2] = words[0];
		words += 2;
		count -= 2;
	}
	if (count < 4 || strcmp(words[2], "--") != 0)
		return usage_error("usage: xensim exec [--user USER] DOMID -- CMD [ARGUMENT]...", NULL);
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
	if (set_preload(NULL) < 0 || add_daemons_to_path() < 0)
		return EXIT_CANNOT_RUN;
	if (user && become_user(user) < 0)
		return EXIT_CANNOT_RUN;
	/* A paused domain runs nothing. */
	if (stop)
		raise(SIGSTOP);
	return become(words + 3);
}
