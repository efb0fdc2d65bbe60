/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of admin.c, admin_save.c and fault.c share. */
#ifndef XENMSG_SIM_HV_ADMIN_H
#define XENMSG_SIM_HV_ADMIN_H

#include "sim/hypervisor/hv.h"

struct bufferevent;
struct evbuffer;

#define MAX_WORDS 16

enum { EXIT_DONE = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_LATER = -1 };

/* One connection, one command. */
struct admin_session {
	struct hv *hv;
	struct bufferevent *bev;
	pid_t pid;
	const char *command;
	bool stop;
};

struct command_context {
	struct hv *hv;
	struct admin_session *session; /* for a command that answers later */
	struct evbuffer *text;
	pid_t pid; /* of the caller */
	bool stop; /* once the answer is out */
	int count;
	const char *word[MAX_WORDS];
};

/* Adds to the answer, and returns the status. */
int hv_answer(struct command_context *context, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Answers what has failed, if anything has. */
int hv_finish(struct command_context *context, const char *what, int error);
/* Returns the domain of this name, or NULL with the answer given. Only a guest if `guest`. */
struct hv_domain *hv_named_domain(struct command_context *context, const char *name, bool guest);
/* Returns 0 or -EINVAL. */
int hv_parse_number(const char *text, uint32_t *number);
/* An option behind the domain, with a number of at most `most` behind it; 0: it takes none, and means 1. */
struct number_option {
	const char *name;
	uint32_t most;
	uint32_t *value;
};

/* Reads those behind the first word. Returns EXIT_DONE, or another status with the answer given. */
int hv_parse_options(struct command_context *context, const struct number_option *options, size_t count);
/* fault.c, admin_save.c */
int hv_run_fault(struct command_context *context);
int hv_run_suspend(struct command_context *context);
int hv_run_checkpoint(struct command_context *context);
int hv_run_migrate(struct command_context *context);
int hv_run_resume(struct command_context *context);
/* On the end of a save, answers who asked for it: the session. */
void hv_answer_saved(struct hv_domain *domain, int r, void *userdata);

/* admin.c: a command is its words, each followed by a NUL, to the end of input; the answer is the exit status
 * in decimal, a newline, and the text for stdout (status 0) or stderr. */
int hv_admin_listen(struct hv *hv);

/* report.c */
struct json_object *hv_report_json(struct hv *hv);
char *hv_report_text(struct hv *hv); /* the caller frees it */

/* main.c */
void hv_stop(struct hv *hv);

#endif
