/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is made of a record (hv_record.c): xensim draw, a picture of the sequence, and xensim compare, where
 * two of them part.
 */
#include "config.h"

#include "sim/command.h"
#include "sim/record_alike.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS	   5
#define MOST_LINES 1000000

/* A line, in its columns; of the host's own the third is its text, and the others are "". */
struct row {
	char *line;  /* what the columns are in */
	char *whole; /* without the time */
	const char *column[COLUMNS];
};

enum { TIME, WHO, OPERATION, ARGUMENTS, RESULT };

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
	struct row row = {.line = line, .column = {"", "", "", "", ""}};
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

/* ---- the picture
 * ----------------------------------------------------------------------------------------------- */

#define LEFT	   110 /* of the first lifeline; before it stands the time */
#define BETWEEN	   170
#define TOP	   50
#define ROW_HEIGHT 26
#define MOST_TEXT  80

struct picture {
	const char **domain; /* in the order of their lifelines, behind which XenStore's and Xen's come */
	size_t domains;
};

static int by_number(const void *a, const void *b)
{
	const long one = atol(*(const char *const *)a + 1), other = atol(*(const char *const *)b + 1);

	return (one > other) - (one < other);
}

static int find_domains(struct picture *picture, const struct record_file *record)
{
	picture->domain = calloc(record->count + 1, sizeof(*picture->domain));
	if (!picture->domain)
		return -1;
	for (size_t i = 0; i < record->count; i++)
		if (record->row[i].column[WHO][0] == 'd')
			picture->domain[picture->domains++] = record->row[i].column[WHO];
	if (picture->domains)
		qsort(picture->domain, picture->domains, sizeof(*picture->domain), by_number);
	for (size_t i = 0, all = picture->domains; i < all; i++) {
		if (i == 0)
			picture->domains = 0;
		if (picture->domains == 0 ||
		    strcmp(picture->domain[picture->domains - 1], picture->domain[i]) != 0)
			picture->domain[picture->domains++] = picture->domain[i];
	}
	return 0;
}

static size_t lifeline(const struct picture *picture, const char *who)
{
	const char **found =
		bsearch(&who, picture->domain, picture->domains, sizeof(*picture->domain), by_number);

	return found ? (size_t)(found - picture->domain) : 0;
}

static size_t x_of(size_t lifeline)
{
	return LEFT + lifeline * BETWEEN;
}

/* A record has printable ASCII alone, but a file may be anything. */
static void print_text(const char *text, size_t most)
{
	for (size_t i = 0; text[i] && i < most; i++) {
		const unsigned char byte = (unsigned char)text[i];

		if (strchr("<>&\"", byte))
			printf("&#%u;", byte);
		else
			putchar(byte >= ' ' && byte < 0x7f ? byte : '?');
	}
	if (strlen(text) > most)
		printf("...");
}

static void print_label(size_t x, size_t y, const char *anchor, const struct row *row)
{
	char text[256];

	if (row->column[WHO][0] == 'd')
		snprintf(text, sizeof(text), "%s %s%s%s", row->column[OPERATION], row->column[ARGUMENTS],
			 row->column[RESULT][0] ? ": " : "", row->column[RESULT]);
	else
		snprintf(text, sizeof(text), "%s", row->column[OPERATION]);
	printf("<text x=\"%zu\" y=\"%zu\" text-anchor=\"%s\"><title>", x, y, anchor);
	print_text(row->whole, 4096);
	printf("</title>");
	print_text(text, MOST_TEXT);
	printf("</text>\n");
}

static void draw_row(const struct picture *picture, const struct row *row, size_t number)
{
	const size_t y = TOP + (number + 1) * ROW_HEIGHT, store = picture->domains;
	const bool is_event = strcmp(row->column[OPERATION], "WATCH_EVENT") == 0,
		   of_store = isupper((unsigned char)row->column[OPERATION][0]);
	size_t from, to;

	printf("<text x=\"4\" y=\"%zu\" class=\"time\">", y);
	print_text(row->column[TIME], 16);
	printf("</text>\n");
	if (row->column[WHO][0] != 'd') {
		printf("<rect x=\"%zu\" y=\"%zu\" width=\"%zu\" height=\"%d\"/>\n", x_of(0), y - 14,
		       x_of(store + 1) - x_of(0), ROW_HEIGHT - 6);
		print_label((x_of(0) + x_of(store + 1)) / 2, y, "middle", row);
		return;
	}
	from = is_event ? store : lifeline(picture, row->column[WHO]);
	to = is_event ? lifeline(picture, row->column[WHO]) : of_store ? store : store + 1;
	printf("<line x1=\"%zu\" y1=\"%zu\" x2=\"%zu\" y2=\"%zu\" class=\"%s\"/>\n", x_of(from), y + 3,
	       x_of(to) + (to > from ? -2 : 2), y + 3, is_event ? "event" : "request");
	print_label(x_of(from < to ? from : to) + 6, y, "start", row);
}

static void draw(const struct picture *picture, const struct record_file *record)
{
	const size_t lifelines = picture->domains + 2, height = TOP + (record->count + 2) * ROW_HEIGHT;

	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%zu\" "
	       "font-family=\"sans-serif\" font-size=\"12\">\n"
	       "<style>line{stroke:#36c;marker-end:url(#tip)} .life{stroke:#aaa;marker-end:none} "
	       ".event{stroke-dasharray:5 3} rect{fill:#ffd;stroke:#cc9} .time{fill:#888;font-size:10px} "
	       ".head{font-weight:bold}</style>\n"
	       "<marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
	       "markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#36c\"/></marker>\n"
	       "<path d=\"M0 0H%zuV%zuH0z\" fill=\"#fff\"/>\n",
	       x_of(lifelines) + 300, height, x_of(lifelines) + 300, height);
	for (size_t i = 0; i < lifelines; i++) {
		printf("<text x=\"%zu\" y=\"%d\" text-anchor=\"middle\" class=\"head\">", x_of(i), TOP - 20);
		print_text(i < picture->domains	   ? picture->domain[i]
			   : i == picture->domains ? "XenStore"
						   : "Xen",
			   16);
		printf("</text>\n<line x1=\"%zu\" y1=\"%d\" x2=\"%zu\" y2=\"%zu\" class=\"life\"/>\n",
		       x_of(i), TOP - 12, x_of(i), height - ROW_HEIGHT);
	}
	for (size_t i = 0; i < record->count; i++)
		draw_row(picture, &record->row[i], i);
	printf("</svg>\n");
}

int command_draw(int count, char **words)
{
	struct picture picture = {0};
	struct record_file record;
	int status = EXIT_FAILURE;

	if (count != 2)
		return usage_error("usage: xensim draw RECORD", NULL);
	if (record_read(&record, words[1]) < 0)
		return EXIT_FAILURE;
	if (find_domains(&picture, &record) == 0) {
		draw(&picture, &record);
		if (fflush(stdout) == 0 && !ferror(stdout))
			status = EXIT_SUCCESS;
		else
			fprintf(stderr, "xensim: cannot write the picture: %s\n", strerror(errno));
	}
	free(picture.domain);
	record_free(&record);
	return status;
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

static int compare(const struct record_file *one, const struct record_file *other, bool alike)
{
	size_t same = 0;
	bool differs = false;

	while (same < one->count && same < other->count &&
	       strcmp(one->row[same].whole, other->row[same].whole) == 0)
		same++;
	if (same == one->count && same == other->count) {
		printf("the same %zu lines\n", same);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < one->count; i++)
		if (is_first_of(one, i))
			differs = !compare_party(one, other, one->row[i].column[WHO]) || differs;
	for (size_t i = 0; i < other->count; i++) {
		const char *who = other->row[i].column[WHO];

		if (is_first_of(other, i) && next_of(one, 0, who) == one->count)
			differs = !compare_party(one, other, who) || differs;
	}
	if (!differs && alike) {
		printf("each did the same\n");
		return EXIT_SUCCESS;
	}
	if (!differs) {
		printf("each did the same, and the order differs from here on:\n");
		print_line(one, same);
		print_line(other, same);
	}
	return EXIT_FAILURE;
}

int command_compare(int count, char **words)
{
	const bool alike = count == 4 && strcmp(words[1], "--alike") == 0;
	struct record_file one, other;
	int status;

	if (count != 3 && !alike)
		return usage_error("usage: xensim compare [--alike] RECORD RECORD", NULL);
	/* 1 says that they differ. */
	if (record_read(&one, words[count - 2]) < 0)
		return EXIT_USAGE;
	if (record_read(&other, words[count - 1]) < 0) {
		record_free(&one);
		return EXIT_USAGE;
	}
	status = alike && (make_alike(&one) < 0 || make_alike(&other) < 0) ? EXIT_USAGE
									   : compare(&one, &other, alike);
	record_free(&one);
	record_free(&other);
	return status;
}
