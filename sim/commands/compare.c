/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xensim compare: where two records (hypervisor/record.c) part, but for what differs by chance. */
#include "config.h"

#include "sim/commands/command.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what differs by chance ----------------------------------------------------------------------
 *
 * Lines of records without what differs between two runs of the same by chance: the numbers of domains,
 * ports, references and transactions. Each becomes the place that it has in its record: domains by their
 * order, the others, each kind of each domain, in the order in which they were first seen. */

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

/* Returns NULL: no memory. */
static struct record_alike *record_alike_new(void)
{
	return calloc(1, sizeof(struct record_alike));
}

static void record_alike_free(struct record_alike *alike)
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

/* Learns which domains there are; of all lines, before the first of them is rewritten. Both take a line
 * without its time. Return a negative errno, or NULL: no memory. The caller frees what is returned. */
static int record_alike_learn(struct record_alike *alike, const char *line)
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

static char *record_alike_line(struct record_alike *alike, const char *line)
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

/* ---- records -------------------------------------------------------------------------------------- */

#define COLUMNS	   3
#define MOST_LINES 1000000

/* A line, in its columns; of the host's own the third is its text, and the others are "". */
struct row {
	char *line;  /* what the columns are in */
	char *whole; /* without the time */
	const char *column[COLUMNS];
};

enum { TIME, WHO, OPERATION };

struct record_file {
	const char *path;
	struct row *row;
	size_t count, size;
};

/* ---- reading
 * --------------------------------------------------------------------------------------------------- */

static void record_free(struct record_file *record)
{
	for (size_t i = 0; i < record->count; i++) {
		free(record->row[i].line);
		free(record->row[i].whole);
	}
	free(record->row);
}

/* Takes the line over. Returns 0, -EINVAL (it isn't a record's), -EFBIG or -ENOMEM. */
static int add_row(struct record_file *record, char *line)
{
	struct row row = {.line = line, .column = {"", "", ""}};
	char *at = line, *tab = strchr(line, '\t');

	if (record->count == MOST_LINES)
		return -EFBIG;
	if (record->count == record->size) {
		size_t size = record->size ? 2 * record->size : 256;
		struct row *more = realloc(record->row, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		record->row = more;
		record->size = size;
	}
	row.whole = tab ? strdup(tab + 1) : NULL;
	if (!row.whole)
		return tab ? -ENOMEM : -EINVAL;
	for (int i = 0; i < COLUMNS && at; i++) {
		tab = i + 1 < COLUMNS ? strchr(at, '\t') : NULL;
		row.column[i] = at;
		at = tab ? tab + 1 : NULL;
		if (tab)
			*tab = 0;
	}
	if (!isdigit((unsigned char)row.column[TIME][0]) || !row.column[OPERATION][0] ||
	    (strcmp(row.column[WHO], "host") != 0 &&
	     (row.column[WHO][0] != 'd' || !isdigit((unsigned char)row.column[WHO][1])))) {
		free(row.whole);
		return -EINVAL;
	}
	record->row[record->count++] = row;
	return 0;
}

/* Returns 0, or -1 with a line on stderr. */
static int record_read(struct record_file *record, const char *path)
{
	FILE *file = fopen(path, "re");
	int r = file ? 0 : -errno;
	size_t size = 0;
	char *line = NULL;

	*record = (struct record_file){.path = path};
	while (r == 0 && getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = 0;
		r = add_row(record, line);
		if (r < 0)
			break;
		line = NULL;
		size = 0;
	}
	free(line);
	if (file)
		fclose(file);
	if (r == -EINVAL)
		fprintf(stderr, "xensim: line %zu of %s is none of a record\n", record->count + 1, path);
	else if (r < 0)
		fprintf(stderr, "xensim: cannot read %s: %s\n", path, strerror(-r));
	if (r < 0)
		record_free(record);
	return r < 0 ? -1 : 0;
}

/* ---- comparing
 * ------------------------------------------------------------------------------------------------- */

static size_t next_of(const struct record_file *record, size_t at, const char *who)
{
	while (at < record->count && strcmp(record->row[at].column[WHO], who) != 0)
		at++;
	return at;
}

/* As a record has it: a terminal obeys no file. */
static void print_escaped(const char *text)
{
	for (; *text; text++) {
		const unsigned char byte = (unsigned char)*text;

		if (byte == '\t' || (byte >= ' ' && byte < 0x7f))
			putchar(byte);
		else
			printf("\\x%02x", byte);
	}
}

static void print_line(const struct record_file *record, size_t at)
{
	printf("  ");
	print_escaped(record->path);
	if (at < record->count) {
		printf(":%zu: ", at + 1);
		print_escaped(record->row[at].whole);
		printf("\n");
	} else {
		printf(" has no more\n");
	}
}

/* Returns whether one party's lines are the same; else prints where they part first. */
static bool compare_party(const struct record_file *one, const struct record_file *other, const char *who)
{
	size_t at = next_of(one, 0, who), there = next_of(other, 0, who);

	while (at < one->count && there < other->count &&
	       strcmp(one->row[at].whole, other->row[there].whole) == 0) {
		at = next_of(one, at + 1, who);
		there = next_of(other, there + 1, who);
	}
	if (at == one->count && there == other->count)
		return true;
	print_escaped(who);
	printf(" differs from here on:\n");
	print_line(one, at);
	print_line(other, there);
	return false;
}

/* Whether no line before has the same party. */
static bool is_first_of(const struct record_file *record, size_t at)
{
	return next_of(record, 0, record->row[at].column[WHO]) == at;
}

/* Returns 0 or -1 with a line on stderr. */
static int make_alike(struct record_file *record)
{
	struct record_alike *alike = record_alike_new();
	int r = alike ? 0 : -ENOMEM;
	char *line;

	for (size_t i = 0; r == 0 && i < record->count; i++)
		r = record_alike_learn(alike, record->row[i].whole);
	for (size_t i = 0; r == 0 && i < record->count; i++) {
		line = record_alike_line(alike, record->row[i].whole);
		if (!line) {
			r = -ENOMEM;
			break;
		}
		free(record->row[i].whole);
		free(record->row[i].line);
		/* All that is looked at from now on. */
		record->row[i] = (struct row){.whole = line, .line = strndup(line, strcspn(line, "\t"))};
		record->row[i].column[WHO] = record->row[i].line;
		r = record->row[i].line ? 0 : -ENOMEM;
	}
	record_alike_free(alike);
	if (r < 0)
		fprintf(stderr, "xensim: cannot compare %s: %s\n", record->path, strerror(-r));
	return r < 0 ? -1 : 0;
}

static int compare(const struct record_file *one, const struct record_file *other)
{
	bool differs = false;

	for (size_t i = 0; i < one->count; i++)
		if (is_first_of(one, i))
			differs = !compare_party(one, other, one->row[i].column[WHO]) || differs;
	for (size_t i = 0; i < other->count; i++) {
		const char *who = other->row[i].column[WHO];

		if (is_first_of(other, i) && next_of(one, 0, who) == one->count)
			differs = !compare_party(one, other, who) || differs;
	}
	if (!differs)
		printf("each did the same\n");
	return differs ? EXIT_FAILURE : EXIT_SUCCESS;
}

int command_compare(int count, char **words)
{
	struct record_file one, other;
	int status;

	if (count != 3)
		return usage_error("usage: xensim compare RECORD RECORD", NULL);
	/* 1 says that they differ. */
	if (record_read(&one, words[1]) < 0)
		return EXIT_USAGE;
	if (record_read(&other, words[2]) < 0) {
		record_free(&one);
		return EXIT_USAGE;
	}
	status = make_alike(&one) < 0 || make_alike(&other) < 0 ? EXIT_USAGE : compare(&one, &other);
	record_free(&one);
	record_free(&other);
	return status;
}
