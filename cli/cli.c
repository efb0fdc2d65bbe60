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
#include "cli/why.h"
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

/* ---- connecting, errors ---------------------------------------------------------------------- */

static const char *socket_path(const struct cli *cli)
{
	const char *path = secure_getenv("XENMSG_SOCKET");

	if (cli->socket)
		return cli->socket;
	return path && *path ? path : "/run/xenmsg/xenmsg.sock";
}

static enum exit_code code_of(int error)
{
	switch (-error) {
	case ENOENT:
		return EXIT_NO_ENDPOINT;
	case EACCES:
		return EXIT_DENIED;
	case ENODATA:
	case EHOSTDOWN:
	case EHOSTUNREACH:
		return EXIT_UNREACHABLE;
	case ETIMEDOUT:
		return EXIT_TIMED_OUT;
	case ENOBUFS:
	case EMSGSIZE:
	case EAGAIN:
		return EXIT_LIMIT;
	case ECONNRESET:
		return EXIT_LOST;
	case ENOTCONN:
	case ECONNREFUSED:
		return EXIT_NO_DAEMON;
	default:
		return EXIT_OTHER;
	}
}

int cli_no_session(struct cli *cli, int error)
{
	enum exit_code code = EXIT_OTHER;

	switch (-error) {
	case ENOENT:
	case ECONNREFUSED:
		code = EXIT_NO_DAEMON;
		break;
	case EACCES:
		code = EXIT_DENIED;
		break;
	case ENAMETOOLONG:
		code = EXIT_USAGE;
		break;
	case ETIMEDOUT:
		code = EXIT_TIMED_OUT;
		break;
	case ENOBUFS:
	case EBUSY:
		code = EXIT_LIMIT;
		break;
	}
	cli_complain("%s: %s%s", socket_path(cli), xenmsg_reason(NULL, error),
		     code == EXIT_NO_DAEMON ? " by --socket or XENMSG_SOCKET" : "");
	return code;
}

static int open_as(struct cli *cli, struct xenmsg **conn, const struct xenmsg_options *options)
{
	const char *path = socket_path(cli);
	int r = xenmsg_open(conn, path, options);

	if (r < 0)
		return cli_no_session(cli, r);
	if (cli->verbose)
		cli_note(cli, "connected to the xenmsgd of domain %u at %s", xenmsg_domid(*conn), path);
	return 0;
}

int cli_open(struct cli *cli, struct xenmsg **conn)
{
	return open_as(cli, conn, NULL);
}

int cli_open_timed(struct cli *cli, struct xenmsg **conn, int *timeout_ms)
{
	return cli_open_timed_with(cli, conn, 0, timeout_ms);
}

int cli_open_timed_with(struct cli *cli, struct xenmsg **conn, unsigned flags, int *timeout_ms)
{
	int64_t deadline = interrupt_deadline(*timeout_ms);
	int usual_ms = flags & XENMSG_WAIT ? -1 : XENMSG_USUAL_MS, code;

	code = open_as(cli, conn, XENMSG_WITH(*timeout_ms <= 0 ? usual_ms : *timeout_ms, flags));

	if (*timeout_ms > 0)
		*timeout_ms = interrupt_left(deadline);
	return code;
}

/* Returns whether a peer in the daemon's status is the domain before the colon of an address, or the host
 * before its slash. */
static bool is_meant(struct json_object *peer, const char *address)
{
	static const char *const ways[] = {"domid", "name", "uuid"};
	struct address_parts parts = address_split(address, strlen(address));
	size_t size = parts.domain.size;

	if (parts.host.data)
		return address_part_is(parts.host, text_or(peer, "host", ""));
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		const char *text = text_or(peer, ways[i], "");

		if (size && strlen(text) == size &&
		    (i == 1 ? !strncmp(text, address, size) : !strncasecmp(text, address, size)))
			return true;
	}
	return false;
}

/* Returns what the status says by this key of the link with the domain, in this list, or NULL. */
static char *word_in(struct json_object *status, const char *list, const char *address, const char *key)
{
	struct json_object *links, *peer, *value;

	if (!json_object_object_get_ex(status, list, &links))
		return NULL;
	for (size_t i = 0; i < json_object_array_length(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i);

		if (json_object_object_get_ex(link, "peer", &peer) && is_meant(peer, address) &&
		    json_object_object_get_ex(link, key, &value) && json_object_get_string_len(value))
			return strdup(json_object_get_string(value));
	}
	return NULL;
}

/* For what is asked besides, to say more about what went wrong. */
#define ASIDE_MS 1000

static struct json_object *ask(struct xenmsg *conn, const char *question)
{
	struct json_object *answer;
	char *json;

	if (xenmsg_query(conn, question, XENMSG_WITHIN(ASIDE_MS), &json) < 0)
		return NULL;
	answer = json_tokener_parse(json);
	free(json);
	return answer;
}

char *cli_why_no_link(struct xenmsg *conn, const char *address)
{
	struct json_object *status = ask(conn, "status all");
	char *why = word_in(status, "links", address, "last_error");

	if (!why)
		why = word_in(status, "failures", address, "last_error");
	json_object_put(status);
	return why;
}

bool cli_is_away(struct xenmsg *conn, const char *address)
{
	struct json_object *status = ask(conn, "status all");
	char *state = word_in(status, "links", address, "state");
	bool is_away = state && !strcmp(state, "away");

	free(state);
	json_object_put(status);
	return is_away;
}

bool cli_is_watched(const struct cli *cli)
{
	return !cli->quiet && isatty(STDERR_FILENO);
}

/* "!3" leaves one out of others that follow. */
static bool shows_any(struct json_object *shown)
{
	for (size_t i = 0; i < json_object_array_length(shown); i++)
		if (*json_object_get_string(json_object_array_get_idx(shown, i)) != '!')
			return true;
	return false;
}

/* Returns whether no rule shows the endpoint of this domain to another one. */
static bool is_for_this_domain_alone(struct xenmsg *conn, const char *endpoint)
{
	struct json_object *endpoints = ask(conn, "endpoints self");
	bool is = false;

	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *entry = json_object_array_get_idx(endpoints, i),
				   *shown = at(entry, "visible_to");

		if (!strcmp(text_or(entry, "name", ""), endpoint))
			is = json_object_is_type(shown, json_type_array) && !shows_any(shown);
	}
	json_object_put(endpoints);
	return is;
}

void cli_note_bound(const struct cli *cli, struct xenmsg *conn, const char *endpoint)
{
	if (cli->verbose || cli_is_watched(cli))
		cli_note(cli, "bound %u:%s%s", xenmsg_domid(conn), endpoint,
			 is_for_this_domain_alone(conn, endpoint)
				 ? "; no rule lets another domain of this host in: 'xenmsg policy check "
				   "DOMAIN ENDPOINT' prints one that would"
				 : "");
}

void cli_note_typing(const struct cli *cli, const char *what)
{
	if (cli_is_watched(cli) && isatty(STDIN_FILENO))
		cli_note(cli, "%s; Ctrl-D ends it", what);
}

/* Returns the daemon's words if it is the domain that isn't known, else NULL. The error itself doesn't say
 * whether it is the domain or the endpoint. */
static const char *why_unknown(struct xenmsg *conn, const char *address)
{
	struct address_parts parts = address_split(address, strlen(address));
	size_t size = parts.domain.size;
	char question[sizeof("endpoints ") + DOMAIN_NAME_MAX], *json;
	int r;

	if (parts.host.data || !domain_name_is_valid(address, size) || strspn(address, "0123456789") == size)
		return NULL;
	snprintf(question, sizeof(question), "endpoints %.*s", (int)size, address);
	r = xenmsg_query(conn, question, NULL, &json);
	if (r == 0)
		free(json);
	return r == -EHOSTDOWN ? xenmsg_reason(conn, r) : NULL;
}

/* Says of what kind the endpoint isn't, by the first word of what was done with it. NULL: it isn't known. */
static const char *why_wrong_kind(const char *what)
{
	static const struct {
		const char *what, *why;
	} kinds[] = {
		{"send",
		 "that endpoint is there, but not for messages: it takes calls (xenmsg call) or streams (xenmsg connect)"},
		{"call",
		 "that endpoint is there, but not for calls: it takes messages (xenmsg send) or streams (xenmsg connect)"},
		{"connect", CLI_NO_STREAMS},
		{"run", CLI_NO_STREAMS},
	};
	size_t size = strcspn(what, " ");

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].what) == size && !strncmp(kinds[i].what, what, size))
			return kinds[i].why;
	return NULL;
}

/* Returns what a time-out of what was tried means. */
static const char *why_timed_out(struct xenmsg *conn, const char *what, const char *subject)
{
	static const struct {
		const char *what, *why, *why_away;
	} tries[] = {
		{"send", "timed out; it was not delivered",
		 "timed out, since its domain is away; it was not delivered"},
		{"call", "timed out; it was not delivered",
		 "timed out, since its domain is away; it was not delivered"},
		{"connect", "timed out; there is no stream",
		 "timed out, since its domain is away; there is no stream"},
		{"run", "timed out; the command was not run",
		 "timed out, since its domain is away; the command was not run"},
		{"bench", "timed out", "timed out, since its domain is away"},
	};
	size_t size = strcspn(what, " ");

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		if (strlen(tries[i].what) == size && !strncmp(tries[i].what, what, size))
			return conn && cli_is_away(conn, subject) ? tries[i].why_away : tries[i].why;
	return "timed out: the local xenmsgd doesn't answer";
}

const char *cli_said(const char *reason, int error)
{
	return strcmp(reason, xenmsg_error_text(error)) ? reason : "";
}

int cli_error_because(const char *reason, const char *what, const char *subject, int error)
{
	/* The daemon's own words say more. */
	cli_complain("%s%s%s: %s", what, *subject ? " " : "", subject,
		     *reason ? reason : xenmsg_error_text(error));
	return (int)code_of(error);
}

int cli_error(struct xenmsg *conn, const char *what, const char *subject, int error)
{
	/* What holds of messages alone is said in words of what was tried. */
	const char *reason = conn ? cli_said(xenmsg_reason(conn, 0), error) : "";
	const char *text;
	/* What the daemon says leaves out which domain is meant, who has bound it, and what else it takes. */
	bool asks = !*reason || error == -EHOSTDOWN || error == -EEXIST || error == -EPROTOTYPE;
	char *why = conn && asks ? cli_why_refused(conn, subject, error) : NULL;
	int code;

	if (conn && !why && !*reason && error == -EHOSTUNREACH)
		why = cli_why_no_link(conn, subject);
	if (why)
		reason = why;
	else if (conn && !*reason && error == -EHOSTDOWN && (text = why_unknown(conn, subject)))
		reason = text;
	else if (!*reason && error == -EPROTOTYPE && (text = why_wrong_kind(what)))
		reason = text;
	else if (!*reason && error == -ETIMEDOUT)
		reason = why_timed_out(conn, what, subject);
	code = cli_error_because(reason, what, subject, error);
	free(why);
	return code;
}

int cli_ask(struct cli *cli, const char *question, const char *subject, int timeout_ms,
	    struct json_object **answer)
{
	struct xenmsg *conn;
	char *text;
	int code = cli_open_timed(cli, &conn, &timeout_ms), r;

	if (code)
		return code;
	r = xenmsg_query(conn, question, NULL, &text);
	if (r < 0)
		code = cli_error(conn, cli->command, subject, r);
	xenmsg_close(conn);
	if (code)
		return code;
	*answer = json_tokener_parse(text);
	free(text);
	if (*answer)
		return EXIT_DONE;
	cli_complain("%s: the daemon's answer is no JSON", cli->command);
	return EXIT_OTHER;
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
