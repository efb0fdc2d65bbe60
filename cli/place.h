/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_PLACE_H
#define XENMSG_CLI_PLACE_H

/* Where xenmsg forward and exporter take connections, and where they are carried, as users type it. */

#include <stdbool.h>
#include <sys/types.h>

struct cli;

#define PLACE_NO_HOST (-4096) /* in place of an errno: the name isn't known */

struct place {
	enum { PLACE_UNIX, PLACE_TCP, PLACE_XEN } kind;
	const char *text;  /* as the user typed it */
	char *path;	   /* or, with PLACE_XEN, the address */
	char *host, *port; /* of PLACE_TCP, without the brackets of an IPv6 address */
};

/* Reads unix:PATH, tcp:HOST:PORT or xen:ADDRESS, which is an endpoint of this domain in a source. `text` must
 * stay. Returns NULL, or what is wrong with it. place_free() follows either way. */
const char *place_parse(struct place *place, const char *text, bool is_source);
void place_free(struct place *place);
/* Returns whether what connects to the target gets to the source, however the two are written. `domid` is
 * this domain's number; NULL: it isn't known yet. */
bool place_leads_to(const struct place *target, const struct place *source, const char *domid);
/* Returns whether the kernel is to choose the port. */
bool place_is_port_0(const struct place *place);
/* Connects a socket to a place of kind PLACE_UNIX or PLACE_TCP; waits for that, also for the lookup of a
 * name. Returns the descriptor, a negative errno, or PLACE_NO_HOST. */
int place_dial(const struct place *place);
/* Listens at a place of these kinds, after what is left of a listener that has gone was removed. Says on
 * which port that is if the kernel chose it: in a note, and on standard output as tcp:HOST:PORT, for scripts.
 * A Unix socket is made with this umask; 0: the process's. Returns 0 and the descriptor, or an exit code
 * after a complaint. */
int place_listen(const struct cli *cli, const char *command, const struct place *place, mode_t mask, int *fd);
/* Returns in words for people why the place can't be reached or listened at. */
const char *place_why_not(const struct place *place, int error);

#endif
