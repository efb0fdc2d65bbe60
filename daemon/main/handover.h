/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HANDOVER_H
#define XENMSG_DAEMON_HANDOVER_H

/*
 * Handing over to the next program in this process (doc/handover.md): execve(2) with the same pid, the
 * descriptors of programs, and an image of what the daemon knows of them (base/image.h).
 *
 *     this program                                           the next one
 *     renewal.h: `xenmsgd --check-takeover` says yes
 *     leaves links; ends what can't go on
 *     writes the image ──────────── execve ────────────────▶ --take-over
 *                                                            starts as always, but for sockets and lock
 *                                                            reads the image; the programs go on
 *
 * Where the service is restarted, it is another process, and systemd keeps image and descriptors in between
 * (its descriptor store).
 *
 * Nothing is told to anybody before the image was read. So a program that lacks memory or a descriptor while
 * it reads runs itself once more with the same image. What the next one can't take of an image ends the owner
 * of that. If its frame is wrong, or nobody knows who does, all of its programs are told that their daemon
 * has gone, and it begins afresh.
 */

#include <stdbool.h>
#include <stdint.h>

struct daemon;

/* What the next program gets on its command line; -1: it isn't there. */
struct inherited {
	int image, programs, gateway, lock; /* descriptors */
	bool are_ours;			    /* the sockets aren't the service manager's */
	/* From a program that has begun to read the image, and lacked something: the descriptors of the image
	 * (base/fd_parcel.h), and when that was, as clock_ms() says it. Else -1 and 0. */
	int parcel;
	uint64_t lacks_since_ms;
};

/* Reads what inherited_print() has written. False: it is something else. */
bool inherited_parse(const char *text, struct inherited *inherited);
#define INHERITED_TEXT_SIZE 96
void inherited_print(const struct inherited *inherited, char text[INHERITED_TEXT_SIZE]);

/* How many bytes an image has now, about, of which there would be many. */
uint64_t handover_size(const struct daemon *daemon);
/* Makes the memfd of the image, and gets pages for what is queued while everybody is still served: they may
 * be dear. Links may begin to greet meanwhile. */
void handover_get_pages(struct daemon *daemon);
/* Ends what can't be handed over, makes the image, and leaves XenStore and Xen: 0, and only the execve(2) may
 * follow. A negative errno: there can be no image, and all that hasn't ended goes on here; -ETIMEDOUT:
 * XenStore doesn't answer, so that the next daemon would stand still. */
int handover_make(struct daemon *daemon, struct inherited *inherited);
/* The same for a daemon that is started by the service manager, which keeps the image and the descriptors
 * until then. 0: the daemon has to exit at once; a negative errno: there is no image, or it isn't kept, and
 * daemon_free() has to end all. */
int handover_store(struct daemon *daemon);
/* Steps of the start (wiring.c): takes over sockets, lock and instance; reads the image, if there is one. */
int handover_take(struct daemon *daemon);
int handover_read(struct daemon *daemon);
/* Whether there is an image, none of which can be taken. */
bool handover_is_bad(const struct daemon *daemon);
/* Forgets an image that wasn't read. */
void handover_free(struct daemon *daemon);

#endif
