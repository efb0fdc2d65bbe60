/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/commands/alike.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum alike_kind { NONE, DOMAIN, PORT, REFERENCE, TRANSACTION, HANDLE };

/* A number that was seen, and its place among those of its kind. */
struct alike_number {
	enum alike_kind kind;
	unsigned long domain, number, place;
};

struct record_alike {
	struct alike_number *seen;
	size_t count, size;
};

/* What is being read of a line, and whose numbers these are. */
struct reading {
	const char *line, *at;
	bool of_grant, of_bind, of_permissions, in_result;
	unsigned long who, domain; /* whose line it is; who was named last */
};

struct record_alike *record_alike_new(void)
{
	return calloc(1, sizeof(struct record_alike));
}

void record_alike_free(struct record_alike *alike)
{
	if (alike)
		free(alike->seen);
	free(alike);
}

/* Its place is the next one if it is new. NULL: no memory. */
static const struct alike_number *see(struct record_alike *alike, enum alike_kind kind, unsigned long domain,
				      unsigned long number)
{
	unsigned long place = 1;

	for (size_t i = 0; i < alike->count; i++) {
		const struct alike_number *seen = &alike->seen[i];

		if (seen->kind != kind || seen->domain != domain)
			continue;
		if (seen->number == number)
			return seen;
		place++;
	}
	if (alike->count == alike->size) {
		size_t size = alike->size ? 2 * alike->size : 64;
		struct alike_number *more = realloc(alike->seen, size * sizeof(*more));

		if (!more)
			return NULL;
		alike->seen = more;
		alike->size = size;
	}
	alike->seen[alike->count] = (struct alike_number){kind, domain, number, place};
	return &alike->seen[alike->count++];
}

static bool ends_with(const struct reading *reading, const char *word)
{
	const size_t length = strlen(word), before = (size_t)(reading->at - reading->line);

	return before >= length && strncmp(reading->at - length, word, length) == 0;
}

/* Of a path's node that has a number as its value: a vchan's, and those of devices. */
static enum alike_kind kind_of_value(const struct reading *reading)
{
	const char *at = reading->at - 1;

	if (reading->at == reading->line || (*at != ' ' && *at != '\t'))
		return NONE;
	for (; at > reading->line && *at != '/'; at--)
		;
	if (strncmp(at, "/ring-ref", 9) == 0)
		return REFERENCE;
	return strncmp(at, "/event-channel", 14) == 0 ? PORT : NONE;
}

/* What the number is that begins here. */
static enum alike_kind kind_of(const struct reading *reading)
{
	const char *before = reading->at - 2;

	if (ends_with(reading, "/domain/") || ends_with(reading, "\tREAD\tdomid\t"))
		return DOMAIN;
	if (reading->at > reading->line && strchr(reading->of_permissions ? "dnrwb" : "d", reading->at[-1]) &&
	    (before < reading->line || strchr(" \t,", *before)))
		return DOMAIN;
	if (ends_with(reading, "port "))
		return PORT;
	if (ends_with(reading, "(transaction ") || ends_with(reading, "TRANSACTION_START\t\t"))
		return TRANSACTION;
	if (ends_with(reading, "#"))
		return HANDLE;
	if (ends_with(reading, ":"))
		return reading->of_bind ? PORT : REFERENCE;
	if (reading->of_grant && reading->in_result && (ends_with(reading, " ") || ends_with(reading, "\t")))
		return REFERENCE;
	return kind_of_value(reading);
}

static struct reading reading_of(const char *line)
{
	const char *operation = strchr(line, '\t');
	struct reading reading = {.line = line, .at = line};

	if (operation) {
		reading.of_grant = strncmp(operation + 1, "grant\t", 6) == 0;
		reading.of_bind = strncmp(operation + 1, "bind-", 5) == 0;
		reading.of_permissions = strncmp(operation + 1, "SET_PERMS\t", 10) == 0 ||
					 strncmp(operation + 1, "GET_PERMS\t", 10) == 0;
	}
	if (line[0] == 'd')
		reading.who = reading.domain = strtoul(line + 1, NULL, 10);
	return reading;
}

/* Takes what isn't part of a number. */
static void skip_character(struct reading *reading)
{
	if (*reading->at++ != '\t')
		return;
	/* The result is its own domain's, but for what the path says. */
	reading->in_result = strchr(reading->at, '\t') == NULL;
	if (reading->in_result && (reading->of_grant || reading->of_bind))
		reading->domain = reading->who;
}

static int by_number(const void *one, const void *other)
{
	const unsigned long a = ((const struct alike_number *)one)->number,
			    b = ((const struct alike_number *)other)->number;

	return (a > b) - (a < b);
}

int record_alike_learn(struct record_alike *alike, const char *line)
{
	struct reading reading = reading_of(line);

	while (*reading.at) {
		char *end;
		const enum alike_kind kind = isdigit((unsigned char)*reading.at) ? kind_of(&reading) : NONE;

		if (!isdigit((unsigned char)*reading.at)) {
			reading.at++;
			continue;
		}
		if (kind == DOMAIN && !see(alike, DOMAIN, 0, strtoul(reading.at, NULL, 10)))
			return -ENOMEM;
		strtoul(reading.at, &end, 10);
		reading.at = end;
	}
	/* Domain 0 is itself in each record, so only the guests have places. */
	if (alike->count)
		qsort(alike->seen, alike->count, sizeof(*alike->seen), by_number);
	for (size_t i = 0; i < alike->count; i++)
		alike->seen[i].place = i + (alike->seen[0].number == 0 ? 0 : 1);
	return 0;
}

char *record_alike_line(struct record_alike *alike, const char *line)
{
	struct reading reading = reading_of(line);
	const struct alike_number *seen;
	unsigned long number;
	enum alike_kind kind;
	char *text, *end;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	while (*reading.at) {
		if (!isdigit((unsigned char)*reading.at)) {
			fputc(*reading.at, out);
			skip_character(&reading);
			continue;
		}
		kind = kind_of(&reading);
		number = strtoul(reading.at, &end, 10);
		if (kind == DOMAIN)
			reading.domain = number;
		seen = kind == NONE ? NULL : see(alike, kind, kind == DOMAIN ? 0 : reading.domain, number);
		if (seen)
			fprintf(out, "%lu", seen->place);
		else
			fwrite(reading.at, 1, (size_t)(end - reading.at), out);
		reading.at = end;
	}
	return fclose(out) == 0 ? text : NULL;
}
