/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_H
#define XENMSG_CLI_H

/*
 * The command xenmsg: one function for each subcommand, and what they share: options, exit codes, errors. A
 * subcommand gets its own argv (argv[0] is its name) and returns the exit code.
 */

#include <stdbool.h>
#include <stdint.h>
#include <getopt.h>

#include "wire/address.h"
#include "xenmsg.h"

enum exit_code {
	EXIT_DONE = 0,
	EXIT_OTHER = 1,
	EXIT_USAGE = 2,
	EXIT_NO_ENDPOINT = 3,
	EXIT_DENIED = 4,
	EXIT_UNREACHABLE = 5,
	EXIT_TIMED_OUT = 6,
	EXIT_LIMIT = 7,
	EXIT_LOST = 8,
	EXIT_NO_DAEMON = 9,
	EXIT_ANSWERED = 10, /* send, call: by the program there, with an error of its own */
	/* where other statuses are those of a command in another domain */
	EXIT_NO_STATUS = 255,
};

struct json_object;

struct cli {
	char **words;	     /* main()'s argv */
	const char *command; /* the subcommand's name; "" before it is known */
	const char *socket;  /* NULL: the library's default */
	bool quiet;
	bool json; /* --json before the command: it is to take it as its own */
	int verbose;
	bool timeout_given; /* --timeout, and not only XENMSG_TIMEOUT */
};

/* An option --NAME of a command: one of the pointers says where its value goes, and so what it takes. */
struct cli_option {
	const char *name; /* NULL ends a list */
	bool *flag;	  /* it takes nothing */
	const char **text;
	uint64_t *count; /* above 0 */
	int *ms;	 /* seconds, which may have a fraction or another unit, as milliseconds */
	int least_ms;
	bool from_environment; /* XENMSG_TIMEOUT says it where the option doesn't */
};

/* Parses the options of a command, which may stand anywhere among its arguments, and those of every command.
 * Returns true to go on with the arguments, which begin at argv[optind], or false to end with *code: after a
 * complaint, or since the help or the version was printed. */
bool cli_options(struct cli *cli, int argc, char **argv, const char *help, const struct cli_option *options,
		 int *code);
/* Does the same, but for options before the first argument only: what follows may be another command's. */
bool cli_options_in_front(struct cli *cli, int argc, char **argv, const char *help,
			  const struct cli_option *options, int *code);
/* Prints a note on stderr, unless quiet: one line, with unprintable characters replaced. */
void cli_note(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Does the same in any case. */
#define cli_complain(...) cli_note(NULL, __VA_ARGS__)
/* Does the same about a misused command. Returns EXIT_USAGE. */
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Checks what is typed as an address, or as an endpoint to be bound here. Returns 0, or EXIT_USAGE after a
 * complaint. */
int cli_check_address(const char *command, const char *typed);
int cli_check_endpoint(const char *command, const char *typed);
/* Checks words, which end with NULL, by one of these, and that none is given twice. */
int cli_check_each(const char *command, char **words, int (*check)(const char *command, const char *typed));
/* Finds the command to be run, which follows the first "--" and ends with NULL; returns NULL if there is
 * none. Leaves in `argv` what is before it, counted in *argc, so that getopt finds options anywhere there. */
char **cli_command(int *argc, char **argv);

/* Connects. Returns 0, or an exit code after a complaint. */
int cli_open(struct cli *cli, struct xenmsg **conn);
/* Does the same within *timeout_ms (not above 0: as cli_open()), and subtracts the time that it took. */
int cli_open_timed(struct cli *cli, struct xenmsg **conn, int *timeout_ms);
/* Notes that a session was opened, if verbose, or complains about the error. Returns 0 or an exit code. */
int cli_opened(struct cli *cli, struct xenmsg *conn, int error);
/* Complains that there is no session, for this error of opening one. Returns the exit code. */
int cli_no_session(struct cli *cli, int error);
/* Where the daemon of the unit listens, and where that of this command is looked for. */
#define CLI_UNITS_SOCKET "/run/xenmsg/xenmsg.sock"
const char *cli_socket_path(const struct cli *cli);
/* Asks the daemon. Returns the answer, which the caller puts, or NULL; *error (which may be NULL) has 0 or a
 * negative errno, as xenmsg_query() or -EPROTO. */
struct json_object *cli_query(struct xenmsg *conn, const char *question, const struct xenmsg_options *options,
			      int *error);
/* For what is asked besides, to say more about what went wrong. */
#define CLI_ASIDE_MS 1000
/* Asks the daemon by a connection of its own, which it tries to make for timeout_ms (not above 0: for ever).
 * Returns 0 and the answer, which the caller puts, or an exit code after a complaint about the subject. */
int cli_ask(struct cli *cli, const char *question, const char *subject, int timeout_ms,
	    struct json_object **answer);

/* Returns all that is known of a domain of this host, which the caller puts: its entry among the peers, or
 * the status of the own one. NULL: nothing is. */
struct json_object *cli_find_domain(struct xenmsg *conn, const char *domain);
/* Returns whether an entry of the peers, or a status, is of the domain with this number, name or UUID, in
 * whatever case that is. */
bool cli_is_domain(struct json_object *entry, struct address_part domain);

/* One of several questions that are asked at once, and what came of it. */
struct cli_asked {
	const char *domain;	   /* of whom, for the caller; */
	struct json_object *entry; /* likewise */
	int error;
	char *reason; /* NULL: none was told */
	char *json;
	uint64_t round_trip_ns;
	bool is_over;
};

/* Asks, so many at a time, and tells each in its order. begin() returns 0 or a negative errno, or 1: there is
 * nothing to be asked. */
void cli_ask_all(struct xenmsg *conn, struct cli_asked *asked, size_t count, size_t at_once, int timeout_ms,
		 int (*begin)(struct xenmsg *conn, struct cli_asked *asked,
			      const struct xenmsg_options *options, xenmsg_done done),
		 void (*tell)(void *userdata, struct cli_asked *asked), void *userdata);

/* Says on stderr, in one line, what failed, about what (an address, an endpoint), why and what to do. Returns
 * the exit code for the error. */
int cli_error(struct xenmsg *conn, const char *what, const char *subject, int error);
/* Does the same with the daemon's reason in words, "" if it hasn't said any. */
int cli_error_because(const char *reason, const char *what, const char *subject, int error);
/* Says in words why a stream of this connection has broken. */
const char *cli_why_broken(struct xenmsg *conn, int stream);
/* Returns why the daemon could make no link to the domain of this address (or to this domain), in its own
 * words, or NULL. The caller frees it. */
char *cli_why_no_link(struct xenmsg *conn, const char *address);
/* Asks the daemon for what an outcome doesn't say. Returns NULL if it doesn't know more, else what the caller
 * frees. */
char *cli_why_refused(struct xenmsg *conn, const char *address, int error);

/* What endpoints of a kind take, and by which command. */
struct cli_kind {
	const char *name, *takes, *command, *or_else;
};

/* NULL: there is no such kind. */
const struct cli_kind *cli_kind(const char *name);
/* Returns whether somebody may read a note at a terminal. */
bool cli_is_watched(const struct cli *cli);
/* How long a command waits before it tells the user what it is waiting for, and what ends a wait without a
 * time-out. */
#define CLI_LONG_MS   2000
#define CLI_ENDS_WAIT "Ctrl-C gives up, and --timeout or XENMSG_TIMEOUT would in time"
/* Notes what is bound, and if policy lets no other domain in: always if verbose, else only where somebody
 * watches. */
void cli_note_bound(const struct cli *cli, struct xenmsg *conn, const char *endpoint);
/* Notes, where somebody watches, what is read from a terminal, and how that ends. */
void cli_note_typing(const struct cli *cli, const char *what);
/* Returns whether the session with the domain of this address is away: lost, and waited for. */
bool cli_is_away(struct xenmsg *conn, const char *address);
/* Returns the words that came with an error, "" if they say no more than the error means. */
const char *cli_said(const char *reason, int error);
/* Returns which limit of this process, or lack of the kernel, an errno is about, in brackets behind a blank;
 * "": none. */
const char *cli_limit_of(int error);
/* Returns whether the error of a new connection is one that passes when others have ended. */
bool cli_is_limit(int error);
/* Notes that such an error holds up what a command serves, or (0) that it goes on: each once, by *waits. */
void cli_note_limit(const struct cli *cli, bool *waits, const char *command, const char *subject, int error);
/* Writes out what is buffered for stdout. Returns 0, or an exit code after a complaint. Doesn't complain if a
 * caught signal (interrupt.h) comes while nobody reads the output; this is certain for up to 4096 bytes. */
int cli_flush(void);
/* Writes data of any size to stdout. Returns 0, or an exit code after a complaint. */
int cli_output(const char *data, size_t size);
/* Does the same with what may come from elsewhere: a terminal gets it escaped (terminal.h). */
int cli_show(const char *data, size_t size);
/* Does the same where the command says something itself beside it: at a terminal each line is indented, and
 * broken before the terminal would, so that nothing in it looks like the command's own. */
int cli_show_apart(const char *data, size_t size);
/* Does the same as cli_show(), and ends the line at a terminal. */
int cli_show_whole(const char *data, size_t size);
/* Prints a line with texts that may come from elsewhere, likewise. A narrower terminal gets it as several:
 * they are cut between words, and all but the first are indented by `indent`. */
void cli_print_words(int indent, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Does the same with a line that stays whole. */
#define CLI_WHOLE	    (-1)
#define cli_print_line(...) cli_print_words(CLI_WHOLE, __VA_ARGS__)
/* Returns how many columns the terminal on stdout has. */
size_t cli_columns(void);
/* Returns whether stdout is a terminal. */
bool cli_is_terminal(void);

int cmd_send(struct cli *cli, int argc, char **argv);
int cmd_recv(struct cli *cli, int argc, char **argv);
int cmd_call(struct cli *cli, int argc, char **argv);
int cmd_serve(struct cli *cli, int argc, char **argv);
int cmd_connect(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_vchan(struct cli *cli, int argc, char **argv);
int cmd_listen(struct cli *cli, int argc, char **argv);
int cmd_forward(struct cli *cli, int argc, char **argv);
int cmd_peers(struct cli *cli, int argc, char **argv);
int cmd_endpoints(struct cli *cli, int argc, char **argv);
int cmd_hosts(struct cli *cli, int argc, char **argv);
int cmd_daemon(struct cli *cli, int argc, char **argv);
int cmd_ping(struct cli *cli, int argc, char **argv);
int cmd_bench(struct cli *cli, int argc, char **argv);
int cmd_watch(struct cli *cli, int argc, char **argv);
int cmd_trace(struct cli *cli, int argc, char **argv);
int cmd_publish(struct cli *cli, int argc, char **argv);
int cmd_subscribe(struct cli *cli, int argc, char **argv);
int cmd_status(struct cli *cli, int argc, char **argv);

#endif
