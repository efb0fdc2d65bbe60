/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_TCP_PLACE_H
#define XENMSG_CLI_TCP_PLACE_H

/* HOST:PORT, as users type it. */

#include <stdbool.h>

struct cli;

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

#endif
