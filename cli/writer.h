/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_WRITER_H
#define XENMSG_CLI_WRITER_H

/*
 * Writes rows of named values as people or as programs want them. Commands say what the values are, and the
 * format decides the rest:
 *
 *   WRITER_TABLE       columns under a heading, written at the end, when their widths are known
 *   WRITER_LINES       the values of a row on a line, at once
 *   WRITER_JSON_LINES  an object on a line, at once
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output_fields;
struct json_object;
struct writer;

enum writer_format {
	WRITER_TABLE,
	WRITER_LINES,
	WRITER_JSON_LINES,
};

struct writer *writer_new(enum writer_format format);
/* Does the same, to write of each row what is chosen, which must live as long. */
struct writer *writer_new_for(enum writer_format format, const struct output_fields *output_fields);
void writer_free(struct writer *writer);

/* Each adds a value to the current row. Control characters don't reach a terminal. A NULL text is unknown,
 * and "-" in a table or line. */
void writer_text(struct writer *writer, const char *name, const char *value);
void writer_number(struct writer *writer, const char *name, int64_t value);
void writer_count(struct writer *writer, const char *name, uint64_t value);
void writer_real(struct writer *writer, const char *name, double value, int digits);
/* Adds a value, which the writer puts; as text it is its JSON. */
void writer_json(struct writer *writer, const char *name, struct json_object *value);
/* Adds a payload: its "size", and "text" if it is UTF-8, else "base64". */
void writer_payload(struct writer *writer, const void *data, size_t size);
/* Each returns 0, or an exit code if standard output is gone. */
int writer_end_row(struct writer *writer);
/* Does the same with a whole row, which it puts. */
int writer_row(struct writer *writer, struct json_object *row);
int writer_finish(struct writer *writer);

/* Writes a list as a table of these columns (column_next()), or what is chosen of them, after shape() (NULL:
 * none) has made an entry what people read; or as it is, an entry on each line. Each returns as the above. */
int write_list(struct json_object *list, const char *columns, void (*shape)(struct json_object *entry),
	       const struct output_fields *output_fields);
int write_json_lines(struct json_object *list);

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
struct output_fields {
	const char *fields; /* NULL: it isn't made so */
	const char *format; /* likewise */
};

#define OUTPUT_FIELDS_OPTIONS(output_fields)                                                                 \
	{"fields", .text = &(output_fields).fields},                                                         \
	{                                                                                                    \
		"format", .text = &(output_fields).format                                                    \
	}

/* The field that is written as it is, whatever it has: a message. */
#define CHOICE_PAYLOAD "payload"

static inline bool output_fields_are_chosen(const struct output_fields *output_fields)
{
	return output_fields->fields || output_fields->format;
}

/* Checks a choice of these fields (column_next()). Returns 0, or an exit code after a complaint. `json`:
 * --json was given, too, which is a choice of its own. */
int output_fields_check(const struct output_fields *output_fields, const char *command, bool json,
			const char *known);

#endif
