/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "wire/address.h"
#include "wire/text.h"

#define SHOWN_AT_ONCE 4096u
#define COLUMNS_USUAL 80u
#define COLUMNS_LEAST 16u

/* Prints one line, even if a text in it (an address, a path, the words of a daemon or of a peer) has several.
 * Nothing unprintable reaches the terminal. */
static void complain(const char *format, va_list arguments)
{
	char *text = NULL, *line;

	if (vasprintf(&text, format, arguments) < 0)
		return;
	text_make_line(text);
	line = isatty(STDERR_FILENO) ? terminal_line(text) : NULL;
	fprintf(stderr, "xenmsg: %s\n", line ? line : text);
	free(line);
	free(text);
}

void cli_complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	complain(format, arguments);
	va_end(arguments);
}

int cli_usage(const char *command, const char *format, ...)
{
	va_list arguments;
	char *text = NULL;
	int r;

	va_start(arguments, format);
	r = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (r >= 0)
		cli_complain("%s%s 'xenmsg %s%s--help'", text, r > 0 && text[r - 1] == '?' ? " Try" : "; try",
			     command, *command ? " " : "");
	free(r >= 0 ? text : NULL);
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

void cli_note(const struct cli *cli, const char *format, ...)
{
	va_list arguments;

	if (cli->quiet)
		return;
	va_start(arguments, format);
	complain(format, arguments);
	va_end(arguments);
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
	default:
		return "";
	}
}

bool cli_has_descriptors(int count)
{
	bool has;
	int fd;

	if (count == 0)
		return true;
	fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	has = fd >= 0 && cli_has_descriptors(count - 1);
	if (fd >= 0)
		close(fd);
	return has;
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

size_t cli_columns(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= COLUMNS_LEAST ? size.ws_col
											    : COLUMNS_USUAL;
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

/* Puts a newline and the indent between words where a line would be too long. UTF-8 takes no more columns
 * than bytes. */
static void put_folded(const char *line, size_t columns, int indent)
{
	size_t at = 0;

	while (*line) {
		size_t blanks = strspn(line, " "), word = strcspn(line + blanks, " ");

		if (at > (size_t)indent && at + blanks + word > columns) {
			printf("\n%*s", indent, "");
			at = (size_t)indent;
			line += blanks;
			blanks = 0;
		}
		fwrite(line, 1, blanks + word, stdout);
		at += blanks + word;
		line += blanks + word;
	}
	putchar('\n');
}

/* Prints a line; a terminal gets it escaped, and cut between words if it has fewer columns than the line
 * (SIZE_MAX: whole). */
static void print_line(int indent, size_t columns, const char *format, va_list arguments)
{
	char *text = NULL, *line;

	if (vasprintf(&text, format, arguments) < 0)
		return;
	line = cli_is_terminal() ? terminal_line(text) : NULL;
	if (line)
		put_folded(line, columns, indent);
	else
		puts(text);
	free(line);
	free(text);
}

void cli_print_line(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_line(0, SIZE_MAX, format, arguments);
	va_end(arguments);
}

void cli_print_words(int indent, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_line(indent, cli_columns(), format, arguments);
	va_end(arguments);
}
