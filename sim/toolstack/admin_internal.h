/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of admin.c and fault.c share. */
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

struct admin_options {
	struct hv_save_options save;
	struct hv_restore_options restore;
	uint32_t linger_ms, patience_ms, reboot;
};

struct command_context {
	struct hv *hv;
	struct admin_session *session; /* for a command that answers later */
	struct evbuffer *text;
	pid_t pid; /* of the caller */
	bool stop; /* once the answer is out */
	int count;
	const char *word[MAX_WORDS];
	/* Of a command whose first word is a domain. */
	struct hv_domain *domain;
	struct admin_options options;
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
/* fault.c */
int hv_run_fault(struct command_context *context);

/* admin.c: a command is its words, each followed by a NUL, to the end of input; the answer is the exit status
 * in decimal, a newline, and the text for stdout (status 0) or stderr. */
int hv_admin_listen(struct hv *hv);

/* report.c */
struct json_object *hv_report_json(struct hv *hv);
char *hv_report_text(struct hv *hv); /* the caller frees it */

/* main.c */
void hv_stop(struct hv *hv);

#endif
