/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_INI_FILE_H
#define XENMSG_DAEMON_INI_FILE_H

/*
 * Reads a file of sections and keys by libinih, and tells its first mistake as "PATH:LINE: what is wrong".
 * inih doesn't tell where a section begins, and a section may come many times, so whoever reads looks at the
 * lines that begin one as inih fetches them.
 */

#include <stdbool.h>
#include <stdio.h>

#include <ini.h>

struct ini_file {
	FILE *stream;
	const char *path;
	char **error; /* what was wrong; the caller frees it. NULL in it: out of memory */
	/* Called with each line that begins with '['. */
	void (*begin_section)(struct ini_file *file, const char *line);

	unsigned line; /* the one that was read last */
	bool failed;   /* a mistake was found; nothing more is read */
	int read_error;
	unsigned noticed; /* the line that had been read when it failed */
};

/* Notes a mistake, if it is the first one. Returns 0, as inih's handlers do for an error. */
int ini_file_complain(struct ini_file *file, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Notes an error that no line of a file is to blame for. Returns `r`, a negative errno. */
int ini_file_unreadable(const char *path, int r, char **error);
/* Reads all lines. 0; -EINVAL: there is a mistake; else a negative errno, why it can't be read. */
int ini_file_parse(struct ini_file *file, ini_handler on_key, void *userdata);

#endif
