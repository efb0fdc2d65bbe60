/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The options of the commands. */
#include "config.h"

#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/nearest.h"

#define SECONDS_MAX (INT_MAX / 1000)

#define OPTIONS_MAX 12 /* of a command's own */

/* What getopt_long() returns for an option that has no letter; for a command's own, its place added. */
enum { OPTION_SOCKET = 256, OPTION_VERSION, OPTION_OWN };

static const struct option common_options[] = {
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"quiet", no_argument, NULL, 'q'},
	{"verbose", no_argument, NULL, 'v'},
	{0},
};

/* Those of a command's own options that have a letter, in whichever command. */
static const struct letter {
	char letter;
	const char *name;
} letters[] = {
	{'n', "count"},
	{'c', "count"}, /* as ping(8) has it */
	{'t', "timeout"},
	{'o', "fields"}, /* as ps(1) has it */
};

/* Takes decimal numbers alone: strtod() would take 1e3, 0x10 and nan, too. */
static bool parse_seconds(const char *text, int *ms)
{
	static const struct {
		const char *name;
		double seconds;
	} units[] = {{"", 1}, {"s", 1}, {"ms", 0.001}, {"m", 60}, {"min", 60}, {"h", 3600}};
	size_t digits = strspn(text, "0123456789."), unit = 0;
	char number[32], *end;
	double seconds;

	if (digits == 0 || digits >= sizeof(number))
		return false;
	memcpy(number, text, digits);
	number[digits] = '\0';
	seconds = strtod(number, &end);
	while (unit < sizeof(units) / sizeof(units[0]) && strcmp(text + digits, units[unit].name) != 0)
		unit++;
	if (*end || unit == sizeof(units) / sizeof(units[0]))
		return false;
	seconds *= units[unit].seconds;
	if (seconds > SECONDS_MAX)
		return false;
	*ms = (int)ceil(seconds * 1000);
	return true;
}

static bool parse_count(const char *text, uint64_t *count)
{
	char *end;

	errno = 0;
	*count = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *count > 0;
}

static int take_own(struct cli *cli, const struct cli_option *option)
{
	if (option->flag)
		*option->flag = true;
	else if (option->text)
		*option->text = optarg;
	else if (option->count && !parse_count(optarg, option->count))
		return cli_usage(cli->command, "--%s takes a number above 0, not '%s'", option->name, optarg);
	else if (option->ms && (!parse_seconds(optarg, option->ms) || *option->ms < option->least_ms))
		return cli_usage(cli->command, "--%s takes a number of seconds from %g to %d, not '%s'",
				 option->name, option->least_ms / 1000.0, SECONDS_MAX, optarg);
	if (option->from_environment)
		cli->timeout_given = true;
	return EXIT_DONE;
}

static int take_environment(const struct cli *cli, const struct cli_option *own)
{
	const char *text = secure_getenv("XENMSG_TIMEOUT");

	for (; text && *text && own && own->name; own++)
		if (own->from_environment && !(parse_seconds(text, own->ms) && *own->ms >= own->least_ms))
			return cli_usage(cli->command,
					 "XENMSG_TIMEOUT is a number of seconds from %g to %d, not '%s'",
					 own->least_ms / 1000.0, SECONDS_MAX, text);
	return EXIT_DONE;
}

static int unknown_option(const struct cli *cli, const struct option *all, const char *argument)
{
	char typed[64];
	struct nearest nearest;

	snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(argument + 2, "="), argument + 2);
	nearest = nearest_to(typed);
	for (; all->name; all++)
		nearest_try(&nearest, all->name);
	if (nearest.meant)
		return cli_usage(cli->command, "unknown option '%s'; did you mean '--%s'?", argument,
				 nearest.meant);
	return cli_usage(cli->command, "unknown option '%s'", argument);
}

static int misused(const struct cli *cli, int option, const struct option *all, const char *argument)
{
	if (option == ':')
		return cli_usage(cli->command, "option '%s' needs a value", argument);
	if (optopt && optopt < 256 && strncmp(argument, "--", 2) != 0)
		return cli_usage(cli->command, "unknown option '-%c'", optopt);
	return unknown_option(cli, all, argument);
}

static bool takes_time(const struct cli_option *own)
{
	while (own && own->name && !own->ms)
		own++;
	return own && own->name;
}

static int print_help(const struct cli *cli, const char *help, const struct cli_option *own)
{
	const char *examples = strstr(help, "\nExamples:\n");
	size_t size = examples ? (size_t)(examples - help) : strlen(help);

	fwrite(help, 1, size, stdout);
	if (takes_time(own))
		puts("S may have a unit: 500ms, 5s, 2m, 1h.");
	if (*cli->command)
		puts("      --socket PATH, -q, -v, -h, --version: as for every command");
	fputs(help + size, stdout);
	return cli_flush();
}

static const struct cli_option *find_own(const struct cli_option *own, const char *name)
{
	for (; own && own->name; own++)
		if (strcmp(own->name, name) == 0)
			return own;
	return NULL;
}

/* Takes an option that is a command's own, by its place or its letter. */
static int take(struct cli *cli, const struct cli_option *own, int option)
{
	const struct cli_option *found = NULL;

	if (option >= OPTION_OWN)
		return take_own(cli, &own[option - OPTION_OWN]);
	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]) && !found; i++)
		if (letters[i].letter == option)
			found = find_own(own, letters[i].name);
	return found ? take_own(cli, found) : EXIT_OTHER;
}

/* Writes the letters that a command takes, behind what getopt_long() is to be told before them. */
static void list_letters(const struct cli_option *own, const char *mode, char list[16])
{
	strcpy(list, mode);
	strcat(list, ":hqv");
	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (find_own(own, letters[i].name)) {
			const char more[] = {letters[i].letter, ':', '\0'};

			strcat(list, more);
		}
}

/* Gives a command the --json that stood before it. */
static int pass_json(const struct cli *cli, const struct cli_option *own)
{
	const struct cli_option *json = find_own(own, "json");

	if (!cli->json || !*cli->command)
		return EXIT_DONE;
	if (!json)
		return cli_usage(cli->command, "'%s' has no --json", cli->command);
	*json->flag = true;
	return EXIT_DONE;
}

/* `mode` is "+" for options in front alone, else "". */
static bool parse(struct cli *cli, int argc, char **argv, const char *mode, const char *help,
		  const struct cli_option *own, int *code)
{
	struct option all[OPTIONS_MAX + sizeof(common_options) / sizeof(common_options[0])];
	char short_options[16];
	int count = 0, option;

	*code = take_environment(cli, own);
	for (; own && own[count].name; count++)
		all[count] =
			(struct option){own[count].name, own[count].flag ? no_argument : required_argument,
					NULL, OPTION_OWN + count};
	memcpy(all + count, common_options, sizeof(common_options));
	list_letters(own, mode, short_options);
	optind = 0; /* getopt starts anew */
	while (*code == EXIT_DONE && (option = getopt_long(argc, argv, short_options, all, NULL)) != -1) {
		switch (option) {
		case OPTION_SOCKET:
			cli->socket = optarg;
			if (!*optarg)
				*code = cli_usage(cli->command, "--socket takes a path");
			break;
		case 'q':
			cli->quiet = true;
			break;
		case 'v':
			cli->verbose++;
			break;
		case 'h':
			*code = print_help(cli, help, own);
			return false;
		case OPTION_VERSION:
			puts("xenmsg " PACKAGE_VERSION);
			*code = cli_flush();
			return false;
		case ':':
		case '?':
			*code = misused(cli, option, all, argv[optind - 1]);
			break;
		default:
			*code = take(cli, own, option);
		}
	}
	if (*code == EXIT_DONE)
		*code = pass_json(cli, own);
	return *code == EXIT_DONE;
}

bool cli_options(struct cli *cli, int argc, char **argv, const char *help, const struct cli_option *options,
		 int *code)
{
	return parse(cli, argc, argv, "", help, options, code);
}

bool cli_options_in_front(struct cli *cli, int argc, char **argv, const char *help,
			  const struct cli_option *options, int *code)
{
	return parse(cli, argc, argv, "+", help, options, code);
}

char **cli_command(int *argc, char **argv)
{
	for (int i = 1; i < *argc; i++)
		if (strcmp(argv[i], "--") == 0) {
			argv[i] = NULL;
			*argc = i;
			return argv[i + 1] ? argv + i + 1 : NULL;
		}
	return NULL;
}
