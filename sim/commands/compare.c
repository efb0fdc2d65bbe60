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
	const char *operation = strchr(line, '\t') + 1;
	struct reading reading = {.line = line, .at = line};

	reading.of_grant = strncmp(operation, "grant\t", 6) == 0;
	reading.of_bind = strncmp(operation, "bind-", 5) == 0;
	reading.of_permissions =
		strncmp(operation, "SET_PERMS\t", 10) == 0 || strncmp(operation, "GET_PERMS\t", 10) == 0;
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

/* Learns which domains a line names, if out is NULL; else writes the line with places instead of numbers,
 * once the domains of all lines are known. Returns false: no memory. */
static bool read_line(struct record_alike *alike, const char *line, FILE *out)
{
	struct reading reading = reading_of(line);

	while (*reading.at) {
		const struct alike_number *seen = NULL;
		const char *begin = reading.at;
		enum alike_kind kind;
		unsigned long number;
		char *end;

		if (!isdigit((unsigned char)*begin)) {
			skip_character(&reading);
			if (out)
				fputc(*begin, out);
			continue;
		}
		kind = kind_of(&reading);
		number = strtoul(begin, &end, 10);
		reading.at = end;
		if (kind == DOMAIN)
			reading.domain = number;
		if (kind == DOMAIN || (out && kind != NONE)) {
			seen = see(alike, kind, kind == DOMAIN ? 0 : reading.domain, number);
			if (!seen)
				return false;
		}
		if (out && seen)
			fprintf(out, "%lu", seen->place);
		else if (out)
			fwrite(begin, 1, (size_t)(end - begin), out);
	}
	return true;
}

/* Domain 0 is itself in each record, so only the guests have places. */
static void give_domains_places(struct record_alike *alike)
{
	if (alike->count)
		qsort(alike->seen, alike->count, sizeof(*alike->seen), by_number);
	for (size_t i = 0; i < alike->count; i++)
		alike->seen[i].place = i + (alike->seen[0].number != 0);
}

/* ---- records -------------------------------------------------------------------------------------- */

#define MOST_LINES 1000000

struct row {
	char *line;
	const char *text; /* of it, without the time */
};

struct record_file {
	const char *path;
	struct row *row;
	size_t count, size;
};

static void record_free(struct record_file *record)
{
	for (size_t i = 0; i < record->count; i++)
		free(record->row[i].line);
	free(record->row);
}

/* Takes the line over. Returns 0, -EINVAL (it isn't a record's), -EFBIG or -ENOMEM. */
static int add_row(struct record_file *record, char *line)
{
	const char *who = strchr(line, '\t'), *operation = who ? strchr(++who, '\t') : NULL;

	if (record->count == MOST_LINES)
		return -EFBIG;
	if (!isdigit((unsigned char)line[0]) || !operation || !operation[1] || operation[1] == '\t' ||
	    (strncmp(who, "host\t", 5) != 0 && (who[0] != 'd' || !isdigit((unsigned char)who[1]))))
		return -EINVAL;
	if (record->count == record->size) {
		size_t size = record->size ? 2 * record->size : 256;
		struct row *more = realloc(record->row, size * sizeof(*more));

		if (!more)
			return -ENOMEM;
		record->row = more;
		record->size = size;
	}
	record->row[record->count++] = (struct row){line, who};
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

static bool is_of(const struct row *row, const char *who)
{
	const size_t length = strcspn(who, "\t");

	return strncmp(row->text, who, length) == 0 && row->text[length] == '\t';
}

/* Returns the next line of the party with which `who` begins. */
static size_t next_of(const struct record_file *record, size_t at, const char *who)
{
	while (at < record->count && !is_of(&record->row[at], who))
		at++;
	return at;
}

/* As a record has it: a terminal obeys no file. */
static void print_escaped(const char *text, size_t length)
{
	for (; length; text++, length--) {
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
	print_escaped(record->path, strlen(record->path));
	if (at < record->count) {
		printf(":%zu: ", at + 1);
		print_escaped(record->row[at].text, strlen(record->row[at].text));
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
	       strcmp(one->row[at].text, other->row[there].text) == 0) {
		at = next_of(one, at + 1, who);
		there = next_of(other, there + 1, who);
	}
	if (at == one->count && there == other->count)
		return true;
	print_escaped(who, strcspn(who, "\t"));
	printf(" differs from here on:\n");
	print_line(one, at);
	print_line(other, there);
	return false;
}

/* Whether no line before has the same party. */
static bool is_first_of(const struct record_file *record, size_t at)
{
	return next_of(record, 0, record->row[at].text) == at;
}

static bool rewrite(struct record_alike *alike, struct row *row)
{
	char *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);
	bool done = out && read_line(alike, row->text, out);

	done = out && fclose(out) == 0 && done;
	if (done)
		free(row->line);
	else
		free(line);
	if (done)
		*row = (struct row){line, line};
	return done;
}

/* Returns 0 or -1 with a line on stderr. */
static int make_alike(struct record_file *record)
{
	struct record_alike alike = {0};
	bool done = true;

	for (size_t i = 0; done && i < record->count; i++)
		done = read_line(&alike, record->row[i].text, NULL);
	give_domains_places(&alike);
	for (size_t i = 0; done && i < record->count; i++)
		done = rewrite(&alike, &record->row[i]);
	free(alike.seen);
	if (!done)
		fprintf(stderr, "xensim: cannot compare %s: %s\n", record->path, strerror(ENOMEM));
	return done ? 0 : -1;
}

static int compare(const struct record_file *one, const struct record_file *other)
{
	bool differs = false;

	for (size_t i = 0; i < one->count; i++)
		if (is_first_of(one, i))
			differs = !compare_party(one, other, one->row[i].text) || differs;
	for (size_t i = 0; i < other->count; i++) {
		const char *who = other->row[i].text;

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
