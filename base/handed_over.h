/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_HANDED_OVER_H
#define XENMSG_BASE_HANDED_OVER_H

/*
 * The sockets that the service manager made for us and listens at already (sd_listen_fds(3)). Their files are
 * its own, and it keeps the sockets for the next daemon: nobody here removes the one or shuts down the other.
 */

#include <stdbool.h>

struct handed_over {
	int programs;  /* where programs connect; -1: none */
	bool are_ours; /* not the service manager's, but those of the daemon before this (base/image.h) */
	/* where a gateway to other hosts does; it is named "gateway" (FileDescriptorName=); -1: none */
	int gateway;
	/* what the daemon before this has left in the manager's store, when it was restarted
	 * (doc/handover.md); -1: nothing */
	int image, parcel;
};

#define HANDED_OVER_NOTHING ((struct handed_over){.programs = -1, .gateway = -1, .image = -1, .parcel = -1})
/* The names of the last two in the store. */
#define HANDED_OVER_IMAGE  "xenmsg-image"
#define HANDED_OVER_PARCEL "xenmsg-parcel"

/* Takes them over, which works once in a process. The user of one sets it to -1. 0, -ENOMEM, or -EBADMSG: it
 * isn't them that were handed over; what is wrong has been logged. */
int handed_over_take(struct handed_over *out);
/* Closes those that nobody has used. */
void handed_over_close(struct handed_over *sockets);
/* Returns the path at which a Unix socket listens, to be freed; NULL: it has none, or no memory. */
char *handed_over_path(int fd);

#endif
