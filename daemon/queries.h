/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_QUERIES_H
#define XENMSG_DAEMON_QUERIES_H

/*
 * Questions of programs that cost much to answer, in shares: the daemon's account of itself has an entry for each program, so
 * answers grow with the programs that ask. A question is 24 bytes, and its answer may be 100000.
 *
 *   waiting ──the turn of its user, and its program has read what it was answered before──▶ answered
 *      └──the program has gone──▶ forgotten
 *
 * One is answered in each turn of the event loop, and the users that ask take turns. So a user that asks without end delays who
 * else asks by one answer, and all who don't ask by no more. What programs don't read takes the memory of one answer each.
 */

#include <stdint.h>

#include "wire/frame.h"

struct queries;
struct relay;
struct session;

typedef void (*queries_answer)(void *userdata, struct session *session, uint32_t request, struct frame_text text);

int queries_new(struct queries **queries, struct relay *relay, queries_answer answer, void *userdata);
/* Those that wait are never answered. NULL is allowed. */
void queries_free(struct queries *queries);
/* Copies the text. -ENOBUFS: too many questions of this program wait already; -ENOMEM. */
int queries_add(struct queries *queries, struct session *session, uint32_t request, struct frame_text text);
void queries_forget_session(struct queries *queries, struct session *session);

#endif
