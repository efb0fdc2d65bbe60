/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_INI_FILE_H
#define XENMSG_BASE_INI_FILE_H

/*
 * Reads a file of sections and keys by libinih, and tells its first mistake as "PATH:LINE: what is wrong".
 *
 * It fetches the lines for libinih, which on its own would return values that nobody wrote: it cuts long
 * lines in two, takes an indented line as the continuation of the one before, ends a line at a NUL byte, and
 * ignores what follows a [section]. It doesn't tell where a section begins either, and a section may come
 * many times.
 */

#include <stdio.h>

#include <ini.h>

struct ini_file {
	FILE *stream;
	const char *path;
	char **error; /* what was wrong; the caller frees it. NULL in it: out of memory */
	/* Called where a section begins. The name isn't terminated. */
	void (*begin_section)(struct ini_file *file, const char *name, size_t size);

	unsigned line; /* the one that was read last */
	int failed;    /* -EINVAL: a mistake was found; or ini_file_fail() says why; nothing more is read */
	int read_error;
	unsigned noticed; /* the line that had been read when it failed */
};

/* Notes a mistake in the line that was read last, if it is the first mistake. Returns 0, as inih's handlers
 * do for an error. */
int ini_file_complain(struct ini_file *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Does the same about another line. */
int ini_file_complain_at(struct ini_file *file, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Does the same as ini_file_complain() where the line may be right, but something else failed, and may work
 * later: `r`, -EAGAIN or -ENOMEM, is what ini_file_parse() returns then. */
int ini_file_fail(struct ini_file *file, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int ini_file_out_of_memory(struct ini_file *file);
/* Notes an error that no line of a file is to blame for. Returns `r`, a negative errno. */
int ini_file_unreadable(const char *path, int r, char **error);
/* Reads all lines. 0; -EINVAL: there is a mistake; -EAGAIN, -ENOMEM: ini_file_fail(); else a negative errno,
 * why it can't be read. */
int ini_file_parse(struct ini_file *file, ini_handler on_key, void *userdata);

/* --- settings */

/*
 * Reads a file of settings that may be set once each: a table names the sections and keys that there
 * are, and its owner parses the values. Mistakes are told likewise.
 */

struct ini_key {
	const char *section, *name;
	const char *allowed; /* completes "NAME = VALUE: must be ..." */
};

struct ini_keys {
	unsigned count;
	/* Returns the key in row `index`; the rows of a section stand together. */
	struct ini_key (*key)(unsigned index);
	const char *manual; /* the page that lists the keys */
	/* Parses the value of the key in row `index`. 0; -EINVAL: it isn't what is allowed;
	 * -EAGAIN: what is allowed can't be looked up now; -ENOMEM. */
	int (*parse)(void *userdata, unsigned index, const char *value);
};

/* Reads file->stream to its end; lines[i] becomes the line that sets the key in row i, and stays as it is if
 * none does. The file needs no `begin_section`. Returns what ini_file_parse() returns. */
int ini_keys_read(struct ini_file *file, const struct ini_keys *keys, unsigned *lines, void *userdata);

/* For parsers of values. */

/* Replaces a string by a copy. 0, -ENOMEM. */
int ini_set_string(char **field, const char *value);
/* Finds the next item of a list with commas, without the spaces around it; it isn't terminated. Moves *list
 * behind it. Returns NULL at the end of the list. */
const char *ini_next_item(const char **list, size_t *size);

#endif
