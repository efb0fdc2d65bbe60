/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include <stdbool.h>

struct cli;
struct writer;

/* What `xenmsg doctor` has found so far. */
struct doctor {
	struct cli *cli;
	int code; /* exit code of the first step that failed */
	unsigned failed;
	struct writer *json;  /* NULL: prints words */
	char store_domid[16]; /* this domain's number in XenStore; "": unknown */
	const char *domain;   /* whose daemon is looked at, of those of the host; NULL: the local one */
};

#define DOCTOR_PING_MS	 5000
#define DOCTOR_ANSWER_MS 5000

enum result { WELL, LEFT_OUT, WARNED, ILL };

/* Says what came back in one step, and how to mend it (NULL: that isn't to be told). `code` is the exit code
 * if it is the first one that failed. */
__attribute__((format(printf, 6, 7))) void doctor_report(struct doctor *doctor, enum result result, int code,
							 const char *step, const char *mend,
							 const char *format, ...);

#define well(doctor, step, ...)		   doctor_report(doctor, WELL, 0, step, NULL, __VA_ARGS__)
#define left_out(doctor, step, ...)	   doctor_report(doctor, LEFT_OUT, 0, step, NULL, __VA_ARGS__)
#define warned(doctor, step, mend, ...)	   doctor_report(doctor, WARNED, 0, step, mend, __VA_ARGS__)
#define ill(doctor, code, step, mend, ...) doctor_report(doctor, ILL, code, step, mend, __VA_ARGS__)

struct json_object;
struct xenmsg;
/* Looks at what a daemon says of itself. */
void doctor_check_status(struct doctor *doctor, struct json_object *status);

/* Looks, in domain 0, at the daemons of all domains. Returns 0, or an exit code after a complaint: it
 * can't. */
int doctor_check_host(struct doctor *doctor);

/* Tries the daemons of these domains, and the ways to these addresses; without any, of all domains. */
void doctor_check_peers(struct doctor *doctor, struct xenmsg *conn, char **named, int count);

#endif
