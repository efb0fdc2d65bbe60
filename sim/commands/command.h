/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of xensim(1) share. All return exit statuses, unless their comment says otherwise. */
#ifndef XENMSG_SIM_COMMAND_H
#define XENMSG_SIM_COMMAND_H

enum { EXIT_USAGE = 2, EXIT_OWN_FAILURE = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

/* help.c: what --help says of the commands, all in one list and each by itself. */
struct help {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *details; /* lines of text */
};

/* NULL: there is no such command. */
const struct help *find_help(const char *name);
void print_help(void);
void print_help_of(const struct help *help);
int usage_error(const char *message, const char *what);
int unknown_command(const char *name);
/* Complains about the first option that the command doesn't have and that is near one. What isn't is the
 * command's to refuse. */
int check_options(const struct help *help, int count, char **words);

/* ask.c: the hypervisor process. */
/* Returns the host's directory, which the caller frees. */
char *host_dir(void);
/* Sends the words. Returns the answer's exit status, and its text in *text, which the caller frees. */
int ask_host(int count, char **words, char **text);
/* The same, and prints the text. */
int pass_on(int count, char **words);

/* exec.c */
int command_exec(int count, char **words);
/* Becomes another program, or says why it can't. */
int become(char **words);
/* Has the library of domains loaded before others, or the one of this name beside it. Returns 0 or a negative
 * errno. */
int set_preload(const char *name);

/* trace.c */
int command_trace(int count, char **words);

/* record.c */
int command_compare(int count, char **words);

/* daemons.c */
/* Starts xenmsgd in domain 0 and the guests, and waits until all answer; with a rule, if it `allows`, that
 * lets everybody in. Returns 0, or below 0 with a line on stderr. */
int start_daemons(const char *dir, unsigned domains, int allows);

/* start.c */
int command_start(int count, char **words);
int command_run(int count, char **words);

#endif
