/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_PLACE_H
#define XENMSG_CLI_PLACE_H

/* Where xenmsg forward takes connections, and where it carries them, as users type it. */

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct cli;

/* HOST:PORT, as users type it. */
struct tcp_place {
	char *host, *port; /* without the brackets of an IPv6 address */
};

/* Returns NULL, or what is wrong with the text. tcp_place_free() follows either way. */
const char *tcp_place_parse(struct tcp_place *place, const char *text);
void tcp_place_free(struct tcp_place *place);
/* Returns whether the kernel is to choose the port. */
bool tcp_place_is_port_0(const struct tcp_place *place);
/* Says on which port the socket listens that was given as `text`: in a note, and on standard output as
 * tcp:HOST:PORT, for scripts. Returns 0, or an exit code after a complaint. */
int tcp_place_tell_port(const struct cli *cli, const char *command, const char *text, int fd);

#define PLACE_NO_HOST (-4096) /* in place of an errno: the name isn't known */

struct place {
	enum { PLACE_UNIX, PLACE_TCP, PLACE_XEN } kind;
	const char *text; /* as the user typed it */
	char *path;	  /* or, with PLACE_XEN, the address */
	struct tcp_place tcp;
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
/* Sets the address to listen at, of these kinds, after what is left of a listener that has gone was removed.
 * Returns 0 or PLACE_NO_HOST. */
int place_to_listen(const struct place *place, struct sockaddr_storage *address, socklen_t *size);
/* Returns in words for people why the place can't be reached or listened at. */
const char *place_why_not(const struct place *place, int error);

/* Removes a Unix socket that an earlier run has left, on which nobody listens, so that bind() finds its path
 * free. What is in use, or no socket, stays, and bind() reports it. */
void left_socket_remove(const struct sockaddr_un *address);

#endif
