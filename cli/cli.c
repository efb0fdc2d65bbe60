/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/nearest.h"
#include "cli/terminal.h"
#include "config.h"
#include "wire/address.h"
#include "wire/text.h"

#define SHOWN_AT_ONCE 4096u
#define COLUMNS_USUAL 80u
#define COLUMNS_LEAST 16u

static size_t columns_of(int terminal)
{
	struct winsize size;

	return ioctl(terminal, TIOCGWINSZ, &size) == 0 && size.ws_col >= COLUMNS_LEAST ? size.ws_col
										       : COLUMNS_USUAL;
}

size_t cli_columns(void)
{
	return columns_of(STDOUT_FILENO);
}

/* Puts a newline and the indent between words where a line would be too long, which begins at column `at`.
 * UTF-8 takes no more columns than bytes. */
static void put_folded(FILE *file, const char *line, size_t at, size_t columns, int indent)
{
	while (*line) {
		size_t blanks = strspn(line, " "), word = strcspn(line + blanks, " ");

		if (at > (size_t)indent && at + blanks + word > columns) {
			fprintf(file, "\n%*s", indent, "");
			at = (size_t)indent;
			line += blanks;
			blanks = 0;
		}
		fwrite(line, 1, blanks + word, file);
		at += blanks + word;
		line += blanks + word;
	}
}

/* Returns the text of an error as a terminal takes it. The caller frees it. NULL: memory has run out. */
static char *fold_error(const char *line)
{
	char *folded = NULL;
	size_t size;
	FILE *file = open_memstream(&folded, &size);

	if (!file)
		return NULL;
	put_folded(file, line, strlen("xenmsg: "), columns_of(STDERR_FILENO), (int)strlen("xenmsg: "));
	if (fclose(file) == 0)
		return folded;
	free(folded);
	return NULL;
}

/* Prints one line, even if a text in it (an address, a path, the words of a daemon or of a peer) has several.
 * Nothing unprintable reaches the terminal. An error is broken between words there. */
void cli_note(const struct cli *cli, const char *format, ...)
{
	va_list arguments;
	char *text = NULL, short_text[256], *line, *folded;
	int r;

	if (cli && cli->quiet)
		return;
	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (r < 0) { /* no memory, which may be what is told */
		va_start(arguments, format);
		vsnprintf(short_text, sizeof(short_text), format, arguments);
		va_end(arguments);
		text = NULL;
	}
	text_make_line(text ? text : short_text);
	line = text && isatty(STDERR_FILENO) ? terminal_line(text) : NULL;
	folded = line && !cli ? fold_error(line) : NULL;
	fprintf(stderr, "xenmsg: %s\n", folded ? folded : line ? line : text ? text : short_text);
	free(folded);
	free(line);
	free(text);
}

int cli_usage(const char *command, const char *format, ...)
{
	va_list arguments;
	char *text = NULL;
	int r;

	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (r < 0)
		cli_no_memory();
	cli_complain("%s%s 'xenmsg %s%s--help'", text, r > 0 && text[r - 1] == '?' ? " Try" : "; try",
		     command, *command ? " " : "");
	free(text);
	return EXIT_USAGE;
}

int cli_check_address(const char *command, const char *typed)
{
	struct address parsed;
	const char *why;

	return address_parse(typed, strlen(typed), &parsed, &why) < 0
		       ? cli_usage(command, "bad address '%s': %s", typed, why)
		       : 0;
}

int cli_check_endpoint(const char *command, const char *typed)
{
	struct address_parts parts = address_split(typed, strlen(typed));

	if (endpoint_name_is_valid(typed, strlen(typed)))
		return 0;
	if (parts.endpoint.data && endpoint_name_is_valid(parts.endpoint.data, parts.endpoint.size))
		return cli_usage(command, "'%s' is an address, and %s binds an endpoint here: write %s",
				 typed, command, parts.endpoint.data);
	return cli_usage(
		command,
		"bad endpoint '%s': 1 to 63 letters, digits, _ and -, beginning with a letter or digit",
		typed);
}

int cli_check_each(const char *command, char **words, int (*check)(const char *command, const char *typed))
{
	int code = 0;

	for (char **word = words; *word && !code; word++) {
		code = check(command, *word);
		for (char **other = words; other < word && !code; other++)
			if (!strcmp(*other, *word))
				code = cli_usage(command, "'%s' is given twice", *word);
	}
	return code;
}

/* ---- notes ------------------------------------------------------------------------------------ */

bool cli_is_watched(const struct cli *cli)
{
	return !cli->quiet && isatty(STDERR_FILENO);
}

void cli_note_typing(const struct cli *cli, const char *what)
{
	if (cli_is_watched(cli) && isatty(STDIN_FILENO))
		cli_note(cli, "%s; Ctrl-D ends it", what);
}

/* Complains, except about a closed pipe: its reader has had enough. */
static int output_failed(void)
{
	if (errno != EPIPE)
		cli_complain("can't write to standard output: %s%s", strerror(errno),
			     errno == EFBIG ? cli_limit_of(errno) : "");
	return EXIT_OTHER;
}

const char *cli_limit_of(int error)
{
	switch (error) {
	case EMFILE:
		return " (the limit of descriptors: ulimit -n)";
	case EAGAIN:
		return " (the limit of processes: ulimit -u)";
	case EFBIG:
		return " (the limit of file sizes: ulimit -f)";
	case ENOMEM:
		return " (the limit of memory, as a rule: ulimit -v)";
	case ENOSYS:
		return " (the kernel, an emulator or seccomp lacks a system call: strace -f shows which)";
	default:
		return "";
	}
}

bool cli_is_limit(int error)
{
	return error == -ENOBUFS || error == -EMFILE || error == -ENFILE;
}

void cli_note_limit(const struct cli *cli, bool *waits, const char *command, const char *subject, int error)
{
	if (*waits == (error != 0))
		return;
	*waits = error != 0;
	if (error)
		cli_note(cli, "%s %s: %s; waiting", command, subject, xenmsg_error_text(error));
	else
		cli_note(cli, "%s %s: going on", command, subject);
}

int cli_flush(void)
{
	if (!interrupt_output_ready())
		return EXIT_OTHER;
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_DONE : output_failed();
}

int cli_output(const char *data, size_t size)
{
	int code = cli_flush();

	while (code == 0 && size > 0) {
		ssize_t n;

		if (!interrupt_output_ready())
			return EXIT_OTHER;
		n = write(STDOUT_FILENO, data, size < PIPE_BUF ? size : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return output_failed();
		data += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
	}
	return code;
}

bool cli_is_terminal(void)
{
	static int is = -1;

	if (is < 0)
		is = isatty(STDOUT_FILENO);
	return is;
}

int cli_show(const char *data, size_t size)
{
	const char *end = data + size;
	char escaped[SHOWN_AT_ONCE];
	int code = 0;

	if (!cli_is_terminal())
		return cli_output(data, size);
	while (code == 0 && data < end)
		code = cli_output(escaped, terminal_escape(&data, end, false, escaped, sizeof(escaped)));
	return code;
}

/* Writes escaped text in lines of its own, of which the last has so many columns by now. No character takes
 * more of them than it has bytes. */
static int show_lines(const char *text, size_t size, size_t columns, size_t *at)
{
	char lines[SHOWN_AT_ONCE * 4]; /* each tab may begin a line */
	size_t length = 0;

	for (size_t i = 0; i < size; i++) {
		size_t wide = text[i] == '\t' ? 8 : 1;
		bool begins = ((unsigned char)text[i] & 0xc0) != 0x80;

		if (text[i] == '\n' || (begins && *at + wide + 3 > columns)) {
			memcpy(lines + length, "\n  ", 3);
			length += 3;
			*at = 2;
		}
		if (text[i] != '\n')
			lines[length++] = text[i];
		*at += text[i] != '\n' ? wide : 0;
	}
	return cli_output(lines, length);
}

int cli_show_apart(const char *data, size_t size)
{
	const char *end = data + size;
	size_t columns = cli_is_terminal() ? cli_columns() : 0, at = 2;
	char escaped[SHOWN_AT_ONCE];
	int code;

	if (!columns)
		return cli_output(data, size);
	code = cli_output("  ", 2);
	while (code == 0 && data < end)
		code = show_lines(escaped, terminal_escape(&data, end, false, escaped, sizeof(escaped)),
				  columns, &at);
	return code;
}

int cli_show_whole(const char *data, size_t size)
{
	int code = cli_show(data, size);

	return code || !cli_is_terminal() || (size && data[size - 1] == '\n') ? code : cli_output("\n", 1);
}

void cli_print_words(int indent, const char *format, ...)
{
	size_t columns = indent == CLI_WHOLE ? SIZE_MAX : cli_columns();
	va_list arguments;
	char *text = NULL, *line;
	int r;

	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (r < 0)
		return;
	line = cli_is_terminal() ? terminal_line(text) : NULL;
	if (line) {
		put_folded(stdout, line, 0, columns, indent);
		putchar('\n');
	} else {
		puts(text);
	}
	free(line);
	free(text);
}

/* ---- options --------------------------------------------------------------------------------- */

/* The options of the commands. */

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
	{'n', "count"},	  {'n', "no-input"}, /* as ssh(1) has it */
	{'c', "count"},			     /* as ping(8) has it */
	{'t', "timeout"}, {'o', "fields"},   /* as ps(1) has it */
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
	else if (option->text && !*optarg) /* of a variable that isn't set, as a rule */
		return cli_usage(cli->command, "--%s needs a value, not ''", option->name);
	else if (option->text)
		*option->text = optarg;
	else if (option->count && !parse_count(optarg, option->count))
		return cli_usage(cli->command, "--%s takes a number above 0, not '%s'", option->name, optarg);
	else if (option->ms && (!parse_seconds(optarg, option->ms) || *option->ms < option->least_ms))
		return cli_usage(
			cli->command,
			"--%s takes a number of seconds from %g to %d, or 500ms, 5s, 2m or 1h, not '%s'",
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
		return cli_usage(cli->command, "unknown option '-%c'%s", optopt,
				 optopt >= '0' && optopt <= '9' ? "; a negative number stands behind --"
								: "");
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
static int cli_take(struct cli *cli, const struct cli_option *own, int option)
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
			const bool is_flag = find_own(own, letters[i].name)->flag;
			const char more[] = {letters[i].letter, is_flag ? '\0' : ':', '\0'};

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
static bool cli_parse(struct cli *cli, int argc, char **argv, const char *mode, const char *help,
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
			*code = cli_take(cli, own, option);
		}
	}
	if (*code == EXIT_DONE)
		*code = pass_json(cli, own);
	return *code == EXIT_DONE;
}

bool cli_options(struct cli *cli, int argc, char **argv, const char *help, const struct cli_option *options,
		 int *code)
{
	return cli_parse(cli, argc, argv, "", help, options, code);
}

bool cli_options_in_front(struct cli *cli, int argc, char **argv, const char *help,
			  const struct cli_option *options, int *code)
{
	return cli_parse(cli, argc, argv, "+", help, options, code);
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
