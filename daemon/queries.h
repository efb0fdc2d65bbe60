/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_QUERIES_H
#define XENMSG_DAEMON_QUERIES_H

/*
 * Questions of programs that cost much to answer. The daemon's account of itself has an entry for each
 * program, so answers grow with the programs that ask: a question is 24 bytes, and its answer may be
 * millions. So it is made in pieces (report.h), and flows:
 *
 *   waiting ──the program's questions before it are answered──▶ answering ──the last piece──▶ answered
 *      │                                                         │     ▲
 *      │                                                     a piece   the account's turn, and the program has read
 *      │                                                         └─────┘
 *      └──the program has gone, also while answering: forgotten
 *
 * The making is a task of the account that asks (turns.h), one for each program: who asks without end delays
 * his own programs. Of what a program doesn't read one piece is kept, which is charged to nobody since it is
 * so little.
 */

#include <stdint.h>

#include "wire/frame.h"

struct queries;
struct relay;
struct report;
struct session;
struct status_sources;

/* A question's turn has come: its report, which is to be sent in pieces; or NULL: it has been answered by
 * session_reply(). */
typedef struct report *(*queries_begin_fn)(void *userdata, struct session *session, uint32_t request,
					   struct frame_text text);

/* `sources` are what reports are about. */
struct queries *queries_new(struct relay *relay, const struct status_sources *sources, queries_begin_fn begin,
			    void *userdata);
/* Those that wait are never answered. NULL is allowed. */
void queries_free(struct queries *queries);
/* Copies the text. -ENOBUFS: too many questions of this program wait already; -ENOMEM. */
int queries_add(struct queries *queries, struct session *session, uint32_t request, struct frame_text text);
/* The program has read what it was told. */
void queries_go_on(struct queries *queries, struct session *session);
void queries_forget_session(struct queries *queries, struct session *session);

#endif
