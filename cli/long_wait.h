/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_LONG_WAIT_H
#define XENMSG_CLI_LONG_WAIT_H

/*
 * Tells who watches a terminal what a call of the library waits for, if that takes long. The call blocks, so
 * a thread watches the clock; it has a connection of its own, by which it asks why.
 *
 *   begun ──2 s──▶ asks, and tells ──▶ gone
 *      └──long_wait_end()──▶ gone
 */

struct cli;
struct long_wait;

/* `what` is done with the address ("connect to"), `missing` isn't there yet ("no stream"); all of them stay
 * valid. timeout_ms: as --timeout says. NULL: nobody watches. */
struct long_wait *long_wait_begin(struct cli *cli, const char *what, const char *address, const char *missing,
				  int timeout_ms);
/* Says nothing from now on, and sets the pointer to NULL; that is allowed before. */
void long_wait_end(struct long_wait **wait);

#endif
