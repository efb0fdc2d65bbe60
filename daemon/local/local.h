/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LOCAL_H
#define XENMSG_DAEMON_LOCAL_H

/*
 * The Unix socket that local programs connect to, and the set of their sessions. A socket file without a
 * listener is replaced; one on which another daemon listens is an error, and so is a file of another kind.
 */

#include <stdint.h>

#include "daemon/local/session.h"

struct handed_over;
struct image;
struct image_hops;
struct local;
struct part;

struct local_options {
	const char *socket_path;
	struct handed_over
		*handed_over; /* its socket is taken and served instead, at whatever path; NULL: none */
	struct session_options session;
};

/* Returns 0, or -EADDRINUSE: another daemon serves this path; -ENOTSOCK: another kind of file is there; else
 * as socket(2), bind(2), listen(2). `callbacks` as for session_new(). */
int local_new(struct local **local, struct switchboard *board, const struct local_options *options,
	      const struct session_callbacks *callbacks, void *userdata);
/* Ends all sessions and removes the socket's file. */
void local_free(struct local *local);
/* Returns the path where it listens. */
const char *local_path(const struct local *local);
/* Returns the group of the socket's file. */
gid_t local_group(const struct local *local);
/* Frees a session that is over. */
void local_remove(struct local *local, struct hop *program);
unsigned local_count(const struct local *local);
/* Returns how many of them share memory. */
unsigned local_memories(const struct local *local);

/* For the image that is handed over to the next daemon (hop_image.h, session.h). */
/* Takes what their programs have said. All hops that can have numbers. */
void local_settle_for_image(struct local *local);
/* Ends the sessions that can't be handed over (`is_carried`: to another process), once all hops that can have
 * numbers. Returns whether there were some: that may change what others have. */
bool local_end_unfit(struct local *local, bool is_carried);
/* What lies in their rings has a section behind those of all channels. */
extern const struct part local_part;
/* The listening socket. */
int local_listener(const struct local *local);
bool local_is_handed_over(const struct local *local);

/* How far a listing has come. Zeroed: before the first one. */
struct local_place {
	const struct hop *hop; /* it may have gone, so it is only compared */
	uint64_t number;
};
/* Returns the hop of the next program, in the order in which they came, with its name. NULL: there is no
 * more. */
struct hop *local_next(struct local *local, struct local_place *place);
/* Returns the program that local_next() returned last, NULL if it has gone. */
struct hop *local_at(struct local *local, const struct local_place *place);

#endif
