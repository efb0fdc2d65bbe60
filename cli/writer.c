/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/writer.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/json.h"
#include "cli/nearest.h"
#include "cli/payload.h"
#include "cli/terminal.h"
#include "wire/text.h"

#define TABLE_MAX 32 /* columns */

/* ---- what may be chosen ---------------------------------------------------------------------- */

static bool is_known(const char *known, const char *name, size_t size)
{
	struct column column;

	while (column_next(&known, &column))
		if (strlen(column.title) == size && !strncmp(column.title, name, size))
			return true;
	return false;
}

static int unknown_field(const char *command, const char *known, const char *name, size_t size)
{
	char typed[64], all[512] = "";
	struct nearest nearest;
	struct column columns[TABLE_MAX], *column = columns;

	snprintf(typed, sizeof(typed), "%.*s", (int)size, name);
	nearest = nearest_to(typed);
	for (; column_next(&known, column); column++) { /* each stays, since it may be the nearest */
		size_t used = strlen(all);

		snprintf(all + used, sizeof(all) - used, "%s%.31s", used ? ", " : "", column->title);
		nearest_try(&nearest, column->title);
	}
	if (nearest.meant)
		return cli_usage(command, "there is no field '%s'; did you mean '%s'?", typed, nearest.meant);
	return cli_usage(command, "there is no field '%s', but %s", typed, all);
}

static int check_fields(const char *fields, const char *command, const char *known)
{
	for (;;) {
		size_t size = strcspn(fields, ",");

		if (!is_known(known, fields, size))
			return unknown_field(command, known, fields, size);
		if (!fields[size])
			return EXIT_DONE;
		fields += size + 1;
	}
}

static int check_format(const char *format, const char *command, const char *known)
{
	for (const char *at = strchr(format, '%'); at; at = strchr(at, '%')) {
		size_t size = at[1] == '{' ? strcspn(at + 2, "}") : 0;

		if (at[1] == '%') {
			at += 2;
			continue;
		}
		if (at[1] != '{' || at[2 + size] != '}')
			return cli_usage(command, "behind a %% of --format stands {FIELD}, or another %%");
		if (!is_known(known, at + 2, size))
			return unknown_field(command, known, at + 2, size);
		at += size + 3;
	}
	return EXIT_DONE;
}

int output_fields_check(const struct output_fields *output_fields, const char *command, bool json,
			const char *known)
{
	if (json + (output_fields->fields != NULL) + (output_fields->format != NULL) > 1)
		return cli_usage(command, "--json, --fields and --format exclude each other");
	if (output_fields->fields)
		return check_fields(output_fields->fields, command, known);
	return output_fields->format ? check_format(output_fields->format, command, known) : EXIT_DONE;
}

/* ---- what is shown --------------------------------------------------------------------------- */

/* Makes a row one of the fields that -o names, in their order, and puts it. */
static struct json_object *choice_row(const struct output_fields *output_fields, struct json_object *row)
{
	struct json_object *chosen = json_object_new_object();
	const char *fields = output_fields->fields;
	struct column column;

	while (column_next(&fields, &column))
		json_object_object_add(chosen, column.title, json_object_get(at(row, column.title)));
	json_object_put(row);
	return chosen;
}

/* Returns a value as one line, which the caller frees: "-" if it is unknown. */
static char *one_line(struct json_object *value)
{
	bool is_text = json_object_is_type(value, json_type_string);
	const char *said = is_text ? json_object_get_string(value) : value ? json_line(value) : "";
	char *text = fields_printed("%s", *said ? said : "-");

	text_make_line(text);
	return text;
}

static void put_field(FILE *stream, struct json_object *row, const char *name, size_t size)
{
	struct json_object *value = fields_at(row, name, size);
	char *text;

	if (size == strlen(CHOICE_PAYLOAD) && !strncmp(name, CHOICE_PAYLOAD, size)) {
		fwrite(json_object_get_string(value), 1, (size_t)json_object_get_string_len(value), stream);
		return;
	}
	text = one_line(value);
	fputs(text, stream);
	free(text);
}

/* Returns the text of a row as --format has it, which the caller frees. */
static char *choice_text(const struct output_fields *output_fields, struct json_object *row, size_t *size)
{
	static const char escaped[] = "nt\\", meant[] = "\n\t\\";
	char *text = NULL;
	FILE *stream = open_memstream(&text, size);

	if (!stream)
		cli_no_memory();
	for (const char *at = output_fields->format; *at; at++) {
		const char *escape = *at == '\\' && at[1] ? strchr(escaped, at[1]) : NULL;

		if (*at == '%' && at[1] == '{') {
			size_t name = strcspn(at + 2, "}");

			put_field(stream, row, at + 2, name);
			at += name + 2;
			continue;
		}
		if (escape)
			putc(meant[escape - escaped], stream);
		else
			putc(*at, stream);
		at += escape || *at == '%';
	}
	putc('\n', stream);
	if (fclose(stream) != 0)
		cli_no_memory();
	return text;
}

/* ---- the rows ------------------------------------------------------------------------------- */

/* A writer, which collects a row as a JSON object in every format, since that keeps the order of names. */
struct writer {
	enum writer_format format;
	const struct output_fields *output_fields; /* NULL: everything */
	struct json_object *rows, *row;
};

struct writer *writer_new(enum writer_format format)
{
	struct writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		cli_no_memory();
	writer->format = format;
	writer->rows = json_object_new_array();
	writer->row = json_object_new_object();
	return writer;
}

struct writer *writer_new_for(enum writer_format format, const struct output_fields *output_fields)
{
	struct writer *writer = writer_new(format);

	writer->output_fields = output_fields;
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
static char *writer_printed(struct json_object *value)
{
	char *text = one_line(value), *line;

	if (!cli_is_terminal())
		return text;
	line = terminal_line(text);
	if (!line)
		cli_no_memory();
	free(text);
	return line;
}

/* Returns how many letters it has: in UTF-8 one has a byte that doesn't begin with binary 10. */
static int width_of(struct json_object *value)
{
	char *text = writer_printed(value);
	int width = 0;

	for (const char *c = text; *c; c++)
		width += (*c & 0xc0) != 0x80;
	free(text);
	return width;
}

static void put_value(struct json_object *value)
{
	char *text = writer_printed(value);

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

static int write_formatted(const struct output_fields *output_fields, struct json_object *row)
{
	size_t size;
	char *text = choice_text(output_fields, row, &size);
	int code = cli_show(text, size);

	free(text);
	return code;
}

int writer_end_row(struct writer *writer)
{
	struct json_object *row = writer->row;
	int code = 0;

	writer->row = json_object_new_object();
	if (writer->output_fields && writer->output_fields->format) {
		code = write_formatted(writer->output_fields, row);
		json_object_put(row);
		return code; /* it is written already */
	}
	if (writer->output_fields && writer->output_fields->fields)
		row = choice_row(writer->output_fields, row);
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

int writer_row(struct writer *writer, struct json_object *row)
{
	json_object_put(writer->row);
	writer->row = row;
	return writer_end_row(writer);
}

#define KEY_LEAVES 12 /* letters, to the other columns of a part */

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

/* Returns whether no two rows have the same values in their first columns. */
static bool are_told_apart(struct json_object *rows, int columns)
{
	struct json_object *seen = json_object_new_object();
	bool apart = true;

	for (size_t i = 0; apart && i < json_object_array_length(rows); i++) {
		struct json_object *key = json_object_new_array();
		const char *text;
		int column = 0;

		json_object_object_foreach(json_object_array_get_idx(rows, i), name, value) {
			(void)name;
			if (column++ < columns)
				json_object_array_add(key, json_object_get(value));
		}
		text = json_line(key);
		apart = !json_object_object_get_ex(seen, text, NULL);
		json_object_object_add(seen, text, NULL);
		json_object_put(key);
	}
	json_object_put(seen);
	return apart;
}

/* Returns how many columns each part begins with: those that tell all rows apart, if they leave room for
 * others. */
static int keys_of(struct json_object *rows, const int width[TABLE_MAX], int columns, int room)
{
	int wide = columns ? width[0] : 0;

	for (int keys = 1; keys < columns; wide += 2 + width[keys++])
		if (keys > 1 && wide + KEY_LEAVES > room)
			break;
		else if (are_told_apart(rows, keys))
			return keys;
	return 1;
}

/* Prints the first `keys` columns, and those from `first` on up to `end`, of a row; NULL: their names. */
static void write_part(struct json_object *row, struct json_object *names, const int width[TABLE_MAX],
		       int keys, int first, int end)
{
	int at = 0;

	json_object_object_foreach(row ? row : names, name, value) {
		if (at >= end)
			break;
		if (at < keys || at >= first) {
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
 * that is narrower gets it in parts, one below the other, each with the columns that tell rows apart. */
static void write_table(struct json_object *rows)
{
	size_t count = json_object_array_length(rows);
	int width[TABLE_MAX] = {0}, columns = measure_table(rows, width), keys = 1, wide = 0, end;
	int room = cli_is_terminal() ? (int)cli_columns() : INT_MAX;
	struct json_object *names = json_object_array_get_idx(rows, 0);

	for (int i = 0; i < columns; i++)
		wide += 2 + width[i];
	if (wide - 2 > room)
		keys = keys_of(rows, width, columns, room);
	for (int first = keys; count && (first < columns || first == keys); first = end) {
		wide = 0;
		for (end = 0; end < keys; end++)
			wide += 2 + width[end];
		for (end = first; end < columns && (end == first || wide + width[end] <= room); end++)
			wide += 2 + width[end];
		if (end == first)
			end++; /* there is one column alone */
		if (first > keys)
			putchar('\n');
		for (size_t i = 0; i <= count; i++)
			write_part(i ? json_object_array_get_idx(rows, i - 1) : NULL, names, width, keys,
				   first, end);
	}
}

int writer_finish(struct writer *writer)
{
	if (writer->format == WRITER_TABLE)
		write_table(writer->rows);
	return cli_flush();
}

/* Adds the columns of an entry to the row; of a list, its entries. */
static void add_columns(struct writer *writer, struct json_object *entry, const char *columns)
{
	struct column column;

	while (column_next(&columns, &column)) {
		struct json_object *value = field(entry, column.path);
		char *joined = json_object_is_type(value, json_type_array) ? fields_joined(value, ",") : NULL;

		if (joined)
			writer_text(writer, column.title, *joined ? joined : "nobody");
		else if (json_object_is_type(value, json_type_double) && writer->format == WRITER_TABLE)
			writer_real(writer, column.title, json_object_get_double(value),
				    json_object_get_double(value) <
					    10); /* no more digits than are measured */
		else
			writer_json(writer, column.title, json_object_get(value));
		free(joined);
	}
}

int write_list(struct json_object *list, const char *columns, void (*shape)(struct json_object *entry),
	       const struct output_fields *output_fields)
{
	struct writer *writer = writer_new_for(WRITER_TABLE, output_fields);
	int code = EXIT_DONE;

	fields_foreach(list, entry) {
		if (shape && json_object_is_type(entry, json_type_object))
			shape(entry);
		add_columns(writer, entry, columns);
		code = writer_end_row(writer);
		if (code)
			break;
	}
	if (code == EXIT_DONE)
		code = writer_finish(writer);
	writer_free(writer);
	return code;
}

int write_json_lines(struct json_object *list)
{
	fields_foreach(list, entry)
		cli_print_line("%s", json_line(entry));
	return cli_flush();
}
