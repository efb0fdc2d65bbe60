/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/writer.h"

#include <json-c/json.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/choice.h"
#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/payload.h"
#include "cli/terminal.h"

/* A writer, which collects a row as a JSON object in every format, since that keeps the order of names. */
struct writer {
	enum writer_format format;
	const struct choice *choice; /* NULL: everything */
	struct json_object *rows, *row;
};

struct writer *writer_new(enum writer_format format)
{
	struct writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		abort();
	writer->format = format;
	writer->rows = json_object_new_array();
	writer->row = json_object_new_object();
	return writer;
}

struct writer *writer_new_for(enum writer_format format, const struct choice *choice)
{
	struct writer *writer = writer_new(format);

	writer->choice = choice;
	return writer;
}

void writer_free(struct writer *writer)
{
	json_object_put(writer->rows);
	json_object_put(writer->row);
	free(writer);
}

void writer_text(struct writer *writer, const char *name, const char *value)
{
	json_object_object_add(writer->row, name, value ? json_object_new_string(value) : NULL);
}

void writer_number(struct writer *writer, const char *name, int64_t value)
{
	json_object_object_add(writer->row, name, json_object_new_int64(value));
}

void writer_count(struct writer *writer, const char *name, uint64_t value)
{
	json_object_object_add(writer->row, name, json_object_new_uint64(value));
}

void writer_real(struct writer *writer, const char *name, double value, int digits)
{
	char text[64];

	snprintf(text, sizeof(text), "%.*f", digits, value);
	json_object_object_add(writer->row, name, json_object_new_double_s(value, text));
}

void writer_json(struct writer *writer, const char *name, struct json_object *value)
{
	json_object_object_add(writer->row, name, value);
}

/* Returns a value as it is printed, which the caller frees. */
static char *printed(struct json_object *value)
{
	char *text = choice_printed(value), *line;

	if (!cli_is_terminal())
		return text;
	line = terminal_line(text);
	if (!line)
		abort();
	free(text);
	return line;
}

/* Returns how many letters it has: in UTF-8 one has a byte that doesn't begin with binary 10. */
static int width_of(struct json_object *value)
{
	char *text = printed(value);
	int width = 0;

	for (const char *c = text; *c; c++)
		width += (*c & 0xc0) != 0x80;
	free(text);
	return width;
}

static void put_value(struct json_object *value)
{
	char *text = printed(value);

	fputs(text, stdout);
	free(text);
}

static void write_line(struct json_object *row)
{
	const char *separator = "";

	json_object_object_foreach(row, name, value) {
		(void)name;
		fputs(separator, stdout);
		put_value(value);
		separator = " ";
	}
	putchar('\n');
}

static int write_json(struct json_object *row)
{
	const char *text = json_line(row);
	int code = cli_show(text, strlen(text));

	if (code == 0)
		putchar('\n');
	return code;
}

void writer_payload(struct writer *writer, const void *data, size_t size)
{
	char *text;

	writer_number(writer, "size", (int64_t)size);
	if (payload_is_utf8(data, size)) {
		writer_json(writer, "text", json_object_new_string_len(data, (int)size));
		return;
	}
	text = payload_base64(data, size);
	writer_text(writer, "base64", text);
	free(text);
}

static int write_formatted(const struct choice *choice, struct json_object *row)
{
	size_t size;
	char *text = choice_text(choice, row, &size);
	int code = cli_show(text, size);

	free(text);
	return code;
}

int writer_end_row(struct writer *writer)
{
	struct json_object *row = writer->row;
	int code = 0;

	writer->row = json_object_new_object();
	if (writer->choice && writer->choice->format) {
		code = write_formatted(writer->choice, row);
		json_object_put(row);
		return code; /* it is written already */
	}
	if (writer->choice && writer->choice->fields)
		row = choice_row(writer->choice, row);
	if (writer->format == WRITER_TABLE) {
		json_object_array_add(writer->rows, row);
		return 0;
	}
	if (writer->format == WRITER_LINES)
		write_line(row);
	else
		code = write_json(row);
	if (code == 0)
		code = cli_flush();
	json_object_put(row);
	return code;
}

#define TABLE_MAX 32 /* columns */

/* Finds how wide each column is. Returns how many there are. */
static int measure_table(struct json_object *rows, int width[TABLE_MAX])
{
	int column = 0;

	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		column = 0;
		json_object_object_foreach(json_object_array_get_idx(rows, i), name, value) {
			int wide = width_of(value), head = (int)strlen(name);

			if (column >= TABLE_MAX)
				break;
			if (wide < head)
				wide = head;
			if (width[column] < wide)
				width[column] = wide;
			column++;
		}
	}
	return column;
}

static void put_name(const char *name)
{
	for (const char *c = name; *c; c++)
		putchar(toupper((unsigned char)*c));
}

/* Prints the first column, and those from `first` on up to `end`, of a row; NULL: their names. */
static void write_part(struct json_object *row, struct json_object *names, const int width[TABLE_MAX],
		       int first, int end)
{
	int at = 0;

	json_object_object_foreach(row ? row : names, name, value) {
		if (at >= end)
			break;
		if (at == 0 || at >= first) {
			if (row)
				put_value(value);
			else
				put_name(name);
			if (at < end - 1)
				printf("%*s  ", width[at] - (row ? width_of(value) : (int)strlen(name)), "");
		}
		at++;
	}
	putchar('\n');
}

/* Prints the table. The first row decides the columns, since all rows of a command have the same. A terminal
 * that is narrower gets it in parts, one below the other, each with the first column. */
static void write_table(struct json_object *rows)
{
	size_t count = json_object_array_length(rows);
	int width[TABLE_MAX] = {0}, columns = measure_table(rows, width), first = 1, end;
	int room = cli_is_terminal() ? (int)cli_columns() : INT_MAX;
	struct json_object *names = json_object_array_get_idx(rows, 0);

	for (; count && (first < columns || first == 1); first = end) {
		int wide = columns ? width[0] : 0;

		for (end = first; end < columns && (end == first || wide + 2 + width[end] <= room); end++)
			wide += 2 + width[end];
		if (end == first)
			end++; /* there is one column alone */
		if (first > 1)
			putchar('\n');
		for (size_t i = 0; i <= count; i++)
			write_part(i ? json_object_array_get_idx(rows, i - 1) : NULL, names, width, first,
				   end);
	}
}

int writer_finish(struct writer *writer)
{
	if (writer->format == WRITER_TABLE)
		write_table(writer->rows);
	return cli_flush();
}
