/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/policy_table.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"

#define WORDS 3 /* FROM TO ANSWER */

/* A table that is checked. */
struct table {
	struct xenmsg *conn;
	const char *path;
	unsigned line, answers, wrong;
};

/* Splits a line, of which what is behind a # says nothing. Returns how many words there are, at most one more
 * than fit. */
static unsigned split(char *line, char *words[WORDS])
{
	char *rest = line, *word;
	unsigned count = 0;

	line[strcspn(line, "#\n")] = '\0';
	while ((word = strsep(&rest, " \t\r")) != NULL) {
		if (!*word)
			continue;
		if (count == WORDS)
			return WORDS + 1;
		words[count++] = word;
	}
	return count;
}

static bool is_answer(const char *word)
{
	return !strcmp(word, "allow") || !strcmp(word, "deny") || !strcmp(word, "undecided");
}

static const char *answer_of(struct json_object *decision)
{
	if (json_object_get_boolean(at(decision, "allow")))
		return "allow";
	return json_object_get_boolean(at(decision, "undecided")) ? "undecided" : "deny";
}

static void print_wrong(const struct table *table, char *words[WORDS], struct json_object *decision)
{
	if (at(decision, "file"))
		cli_print_line("%s:%u: %s to %s: %s, not %s, by the %srule in %s, line %s", table->path,
			       table->line, words[0], words[1], answer_of(decision), words[2],
			       strcmp(text_or(decision, "policy", "own"), "host") ? "" : "host policy's ",
			       text_or(decision, "file", ""), text_or(decision, "line", ""));
	else
		cli_print_line("%s:%u: %s to %s: %s, not %s: %s", table->path, table->line, words[0],
			       words[1], answer_of(decision), words[2], text_or(decision, "reason", ""));
}

/* Asks about one line. Returns an exit code, which isn't 0 if no further line can be asked about. */
static int ask(struct table *table, char *words[WORDS])
{
	char question[512], *text;
	struct json_object *decision;
	int r = -EINVAL;

	if (snprintf(question, sizeof(question), "policy %s %s", words[0], words[1]) < (int)sizeof(question))
		r = xenmsg_query(table->conn, question, NULL, &text);
	table->answers++;
	if (r == -EHOSTDOWN) { /* a domain that isn't known is no reason to leave out the others */
		table->wrong++;
		cli_print_line("%s:%u: %s to %s: %s", table->path, table->line, words[0], words[1],
			       xenmsg_reason(table->conn, r));
		return 0;
	}
	if (r == -EINVAL)
		return cli_usage("policy test", "%s:%u: %s", table->path, table->line,
				 xenmsg_reason(table->conn, r));
	if (r < 0)
		return cli_error(table->conn, "policy test", words[0], r);
	decision = json_tokener_parse(text);
	free(text);
	if (strcmp(answer_of(decision), words[2])) {
		table->wrong++;
		print_wrong(table, words, decision);
	}
	json_object_put(decision);
	return 0;
}

static int check_lines(struct table *table, FILE *file)
{
	char *line = NULL, *words[WORDS];
	size_t room = 0;
	int code = 0;

	while (code == 0 && getline(&line, &room, file) >= 0) {
		unsigned count = split(line, words);

		table->line++;
		if (count == 0)
			continue;
		if (count != WORDS || !is_answer(words[2]))
			code = cli_usage(
				"policy test",
				"%s:%u: a line is FROM TO and what is expected: allow, deny or undecided",
				table->path, table->line);
		else
			code = ask(table, words);
	}
	free(line);
	if (code == 0 && ferror(file))
		code = cli_usage("policy test", "%s: %s", table->path, strerror(errno));
	return code;
}

/* Says how it went. */
static int report(const struct table *table)
{
	int code;

	if (table->answers == 0)
		return cli_usage("policy test", "%s: there are no lines", table->path);
	if (table->wrong)
		cli_print_line("%u of %u answers aren't as expected", table->wrong, table->answers);
	else
		cli_print_line("%u answer%s, all as expected", table->answers, plural(table->answers));
	code = cli_flush();
	return code ? code : table->wrong ? EXIT_OTHER : EXIT_DONE;
}

int policy_table_check(struct cli *cli, const char *path)
{
	bool is_input = !strcmp(path, "-");
	struct table table = {.path = is_input ? "standard input" : path};
	FILE *file;
	int code = cli_open(cli, &table.conn);

	if (code)
		return code;
	file = is_input ? stdin : fopen(path, "re");
	code = file ? check_lines(&table, file) : cli_usage("policy test", "%s: %s", path, strerror(errno));
	if (code == 0)
		code = report(&table);
	if (file && !is_input)
		fclose(file);
	xenmsg_close(table.conn);
	return code;
}
