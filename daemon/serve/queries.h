/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_QUERIES_H
#define XENMSG_DAEMON_QUERIES_H

/*
 * Questions of programs that cost much to answer. The daemon's status has an entry for each program, so
 * answers grow with the programs that ask: a question is 24 bytes, and its answer may be millions. So an
 * answer is made and sent in pieces (report.h):
 *
 *   waiting ──the program's questions before it are answered, and it can be──▶ answering ──the last piece──▶ answered
 *      │                                                         │     ▲
 *      │                                                     a piece   the account's turn, and all was read
 *      │                                                         └─────┘
 *      └──the program has gone, also while answering: forgotten
 *
 * Making answers is a task of the account that asks (turns.h), one for each program: a user that asks without
 * end delays only its own programs. At most one piece is kept that a program hasn't read; it is so small that
 * no account is charged.
 */

#include <stdint.h>

#include "wire/frame.h"

struct image;
struct image_hops;
struct queries;
struct switchboard;
struct report;
struct session;
struct status_sources;

/* Begins the answer to a question whose turn has come. Returns its report, which the caller sends in pieces
 * and frees, or NULL: session_reply() has answered it. */
typedef struct report *(*queries_begin_fn)(void *userdata, struct session *session, uint32_t request,
					   struct frame_text text);

/* Returns whether a question whose turn has come can be answered now, which has waited for so long already,
 * also with the daemons before this one. If not, it is looked at again at REGISTRY_ALL, and each 2 s. */
typedef bool (*queries_ready_fn)(void *userdata, struct frame_text text, uint64_t waited_ms);

/* Returns NULL when memory is short. `sources` are what reports describe; they outlive the queries. */
struct queries *queries_new(struct switchboard *board, const struct status_sources *sources,
			    queries_ready_fn ready, queries_begin_fn begin, void *userdata);
/* Frees all questions; those that wait are never answered. NULL is allowed. */
void queries_free(struct queries *queries);
/* Queues a question; copies the text. Returns 0, -ENOMEM, or -ENOBUFS: too many questions of this program
 * wait already. */
int queries_add(struct queries *queries, struct session *session, uint32_t request, struct frame_text text);
/* Does the same for a question that needs nothing any more but to be answered by this report, which it frees
 * in any case. */
int queries_add_report(struct queries *queries, struct session *session, uint32_t request,
		       struct report *report);
/* Goes on: the program has read what it was sent. */
void queries_go_on(struct queries *queries, struct session *session);
/* How many of the program's questions go into the image that the next daemon gets (hop_image.h). One whose
 * answer is begun ends there with EAGAIN, so that the program asks again. */
unsigned queries_in_image(struct queries *queries, struct session *session);
/* Writes one, which need not be among them. */
void query_write_image(struct image *image, struct session *session, uint32_t request, uint64_t waited_ms,
		       bool is_void, struct frame_text text);
/* Writes a section for each of them, or reads one. */
void queries_write_image(const struct queries *queries, struct image *image);
void queries_read_image(struct queries *queries, struct image *image, const struct image_hops *hops);
void queries_forget_session(struct queries *queries, struct session *session);

#endif
