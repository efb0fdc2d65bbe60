/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/choice.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/nearest.h"
#include "wire/text.h"

/* ---- what may be chosen ---------------------------------------------------------------------- */

/* Returns the field that has this name, NULL if there is none. */
static const char *find(const char *const *known, const char *name, size_t size)
{
	for (; *known; known++)
		if (strlen(*known) == size && !strncmp(*known, name, size))
			return *known;
	return NULL;
}

static int unknown_field(const char *command, const char *const *known, const char *name, size_t size)
{
	char typed[64], all[512] = "";
	struct nearest nearest;

	snprintf(typed, sizeof(typed), "%.*s", (int)size, name);
	nearest = nearest_to(typed);
	for (; *known; known++) {
		size_t used = strlen(all);

		snprintf(all + used, sizeof(all) - used, "%s%s", used ? ", " : "", *known);
		nearest_try(&nearest, *known);
	}
	if (nearest.meant)
		return cli_usage(command, "there is no field '%s'; did you mean '%s'?", typed, nearest.meant);
	return cli_usage(command, "there is no field '%s', but %s", typed, all);
}

static int check_fields(const char *fields, const char *command, const char *const *known)
{
	for (;;) {
		size_t size = strcspn(fields, ",");

		if (!find(known, fields, size))
			return unknown_field(command, known, fields, size);
		if (!fields[size])
			return EXIT_DONE;
		fields += size + 1;
	}
}

static int check_format(const char *format, const char *command, const char *const *known)
{
	for (const char *at = strchr(format, '%'); at; at = strchr(at, '%')) {
		size_t size = at[1] == '{' ? strcspn(at + 2, "}") : 0;

		if (at[1] == '%') {
			at += 2;
			continue;
		}
		if (at[1] != '{' || at[2 + size] != '}')
			return cli_usage(command, "behind a %% of --format stands {FIELD}, or another %%");
		if (!find(known, at + 2, size))
			return unknown_field(command, known, at + 2, size);
		at += size + 3;
	}
	return EXIT_DONE;
}

int choice_check(const struct choice *choice, const char *command, bool json, const char *const *known)
{
	if (json + (choice->fields != NULL) + (choice->format != NULL) > 1)
		return cli_usage(command, "--json, --fields and --format exclude each other");
	if (choice->fields)
		return check_fields(choice->fields, command, known);
	return choice->format ? check_format(choice->format, command, known) : EXIT_DONE;
}

/* ---- what is shown --------------------------------------------------------------------------- */

static struct json_object *member(struct json_object *row, const char *name, size_t size)
{
	char key[64];

	snprintf(key, sizeof(key), "%.*s", (int)size, name);
	return json_object_object_get(row, key);
}

struct json_object *choice_row(const struct choice *choice, struct json_object *row)
{
	struct json_object *chosen = json_object_new_object();
	const char *at = choice->fields;

	for (;;) {
		size_t size = strcspn(at, ",");
		char *name = strndup(at, size);

		if (!name)
			abort();
		json_object_object_add(chosen, name, json_object_get(member(row, at, size)));
		free(name);
		if (!at[size])
			break;
		at += size + 1;
	}
	json_object_put(row);
	return chosen;
}

static const char *text_of(struct json_object *value)
{
	const char *text;

	if (!value)
		return "-";
	if (!json_object_is_type(value, json_type_string))
		return json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN);
	text = json_object_get_string(value);
	return *text ? text : "-";
}

char *choice_printed(struct json_object *value)
{
	char *text = strdup(text_of(value));

	if (!text)
		abort();
	text_make_line(text);
	return text;
}

static void put_field(FILE *stream, struct json_object *row, const char *name, size_t size)
{
	struct json_object *value = member(row, name, size);
	char *text;

	if (size == strlen(CHOICE_PAYLOAD) && !strncmp(name, CHOICE_PAYLOAD, size)) {
		fwrite(json_object_get_string(value), 1, (size_t)json_object_get_string_len(value), stream);
		return;
	}
	text = choice_printed(value);
	fputs(text, stream);
	free(text);
}

char *choice_text(const struct choice *choice, struct json_object *row, size_t *size)
{
	static const char escaped[] = "nt\\", meant[] = "\n\t\\";
	char *text = NULL;
	FILE *stream = open_memstream(&text, size);

	if (!stream)
		abort();
	for (const char *at = choice->format; *at; at++) {
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
		abort();
	return text;
}
