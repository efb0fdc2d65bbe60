/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_INI_KEYS_H
#define XENMSG_BASE_INI_KEYS_H

/*
 * Reads a file of settings, each of which may be set once: a table names the sections and keys that there
 * are, and its owner parses the values. Mistakes are told as ini_file.h does it.
 */

#include <stddef.h>

#include "base/ini_file.h"

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
