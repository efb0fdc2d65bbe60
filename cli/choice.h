/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_CHOICE_H
#define XENMSG_CLI_CHOICE_H

/*
 * What the user of a command chooses to see of each thing that it lists: some fields as columns (-o FIELDS),
 * or a text of his own that has them in it (--format TEXT):
 *
 *   %{FIELD}   its value; "-" if it is unknown
 *   %%         a percent sign
 *   \n \t \\   a newline, a tab, a backslash
 *
 * Behind each such text stands a newline.
 */

#include <stdbool.h>
#include <stddef.h>

struct json_object;

struct choice {
	const char *fields; /* NULL: it isn't made so */
	const char *format; /* likewise */
};

#define CHOICE_OPTIONS(choice)                                                                               \
	{"fields", .text = &(choice).fields},                                                                \
	{                                                                                                    \
		"format", .text = &(choice).format                                                           \
	}

/* The field that is written as it is, whatever it has: a message. */
#define CHOICE_PAYLOAD "payload"

static inline bool choice_is_made(const struct choice *choice)
{
	return choice->fields || choice->format;
}

/* Checks a choice of these fields, whose list ends with NULL. Returns 0, or an exit code after a complaint.
 * `json`: --json was given, too, which is a choice of its own. */
int choice_check(const struct choice *choice, const char *command, bool json, const char *const *known);
/* Makes a row one of the fields that -o names, in their order, and puts it. */
struct json_object *choice_row(const struct choice *choice, struct json_object *row);
/* Returns the text of a row as --format has it, which the caller frees. */
char *choice_text(const struct choice *choice, struct json_object *row, size_t *size);
/* Returns a value as one line, which the caller frees: "-" if it is unknown. */
char *choice_printed(struct json_object *value);

#endif
