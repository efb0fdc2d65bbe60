/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/tcp_place.h"

#include <netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cli/cli.h"

const char *tcp_place_parse(struct tcp_place *place, const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t size = colon ? (size_t)(colon - text) : 0;

	if (!colon || colon == text || !colon[1])
		return "tcp: takes HOST:PORT";
	if (text[0] == '[' && text[size - 1] == ']') {
		text++;
		size -= 2;
	}
	/* Check the port here: getaddrinfo() takes any number, and the kernel its lower 16 bits. */
	if (strspn(colon + 1, "0123456789") == strlen(colon + 1) && strtoul(colon + 1, NULL, 10) > UINT16_MAX)
		return "a port is at most 65535";
	place->host = strndup(text, size);
	place->port = strdup(colon + 1);
	return place->host && place->port ? NULL : "out of memory";
}

void tcp_place_free(struct tcp_place *place)
{
	free(place->host);
	free(place->port);
}

bool tcp_place_is_port_0(const struct tcp_place *place)
{
	return strspn(place->port, "0") == strlen(place->port);
}

int tcp_place_tell_port(const struct cli *cli, const char *command, const char *text, int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	char port[8];

	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
	    getnameinfo((struct sockaddr *)&address, size, NULL, 0, port, sizeof(port), NI_NUMERICSERV) != 0)
		return EXIT_DONE;
	cli_note(cli, "%s: %s listens on port %s", command, text, port);
	cli_print_line("%.*s:%s", (int)(strrchr(text, ':') - text), text, port);
	return cli_flush();
}
