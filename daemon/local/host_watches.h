/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_WATCHES_H
#define XENMSG_DAEMON_HOST_WATCHES_H

/*
 * Tells the programs that watch a pattern HOST/DOMAIN or HOST/DOMAIN:ENDPOINT of another host what comes and
 * goes there, as far as it tells us (link/asks.h). Each watch has questions that are asked again with every
 * answer, so that the next one tells of a change: which domains there are, by which the host is there, and
 * for each domain that is meant, which endpoints it has. A domain without * ? [ is asked by its name, and
 * needn't be one that the host lists.
 *
 *   ASKED ──told──▶ COMPARES ──what has changed is reported──▶ ASKED
 *     └──an error, and once more──▶ COMPARES: all of it is gone ──reported──▶ WAITS ──a second later──▶ RETRIES ──▶ ASKED
 *
 * The program's WATCH is answered when the host has told which domains it has, or why it can't be asked. What
 * is told is kept until the next answer, at most 16 KiB for a question, which costs its user as much
 * (asks.h). Answers are compared, and what failed is asked again, in pieces, in the turns of the user that
 * watches.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

struct asks;
struct host_watches;
struct image;
struct image_hops;
struct switchboard;
struct session;

#define HOST_WATCHES_PER_SESSION 16u
#define HOST_WATCH_DOMAINS	 128u /* of a pattern, by their domids; more aren't watched */

/* Returns NULL when memory is short. The asks outlive it. */
struct host_watches *host_watches_new(struct switchboard *board, struct asks *asks);
void host_watches_free(struct host_watches *watches);

/* Adds a watch of the program `from`, with its pattern's parts. Answers the WATCH request, which has
 * this `number`, now or later. */
void host_watches_add(struct host_watches *watches, struct session *session, uint32_t number,
		      const struct address_parts *pattern, const struct frame_identity *from);
/* Removes a watch. Returns 0, or -ENOENT: the session has none with this number. */
int host_watches_remove(struct host_watches *watches, struct session *session, uint32_t number);
void host_watches_remove_session(struct host_watches *watches, struct session *session);

/* The daemon hands over: asks nothing any more, until it is to go on, with the same or with what was read. */
void host_watches_hold(struct host_watches *watches);
void host_watches_go_on(struct host_watches *watches);
/* Returns how many WATCHes of the program the next daemon is to answer. */
unsigned host_watches_unanswered(const struct host_watches *watches, const struct session *session);
/* Whether all watches of the program can be in the image: none is in the midst of telling. */
bool host_watches_fit(const struct host_watches *watches, const struct session *session);
/* Writes a section for each watch of a program that is in the image, or reads one. */
void host_watches_write_image(struct host_watches *watches, struct image *image);
void host_watches_read_image(struct host_watches *watches, struct image *image,
			     const struct image_hops *hops);

#endif
