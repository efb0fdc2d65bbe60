/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/place.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "wire/address.h"

/* a client that finds it full waits, or is refused if its Unix socket doesn't block */
#define BACKLOG 4096

/* Reads HOST:PORT. */
static const char *parse_tcp(struct place *place, const char *text)
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

/* Returns what is meant to stand before it, by what it looks like; NULL: it could be anything. */
static const char *kind_of(const char *text, bool is_source)
{
	const char *colon = strrchr(text, ':');
	size_t digits = strspn(text, "0123456789");
	struct address address;

	if (*text == '/')
		return "unix:";
	/* A port, unless what stands before it is a domain's number. */
	if (colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
	    text + digits != colon)
		return "tcp:";
	if (is_source)
		return endpoint_name_is_valid(text, strlen(text)) ? "xen:" : NULL;
	return address_parse(text, strlen(text), &address, NULL) < 0 ? NULL : "xen:";
}

static const char *place_lacks_kind(const char *text, bool is_source)
{
	static const char must[] = "an address here must begin with unix:, tcp: or xen:";
	static char words[sizeof(must) + ADDRESS_MAX + sizeof("; try unix:")];
	const char *kind = kind_of(text, is_source);

	if (!kind)
		return must;
	snprintf(words, sizeof(words), "%s; try %s%.*s", must, kind, ADDRESS_MAX, text);
	return words;
}

const char *place_parse(struct place *place, const char *text, bool is_source)
{
	struct address address;
	const char *why = NULL;

	place->text = text;
	if (strncmp(text, "tcp:", 4) == 0) {
		place->kind = PLACE_TCP;
		return parse_tcp(place, text + 4);
	}
	if (strncmp(text, "unix:", 5) == 0) {
		place->kind = PLACE_UNIX;
		place->path = strdup(text + 5);
		if (strlen(text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return "the path of a Unix socket has at most 107 bytes";
		return text[5] ? NULL : "unix: takes a PATH";
	}
	if (strncmp(text, "xen:", 4) != 0)
		return place_lacks_kind(text, is_source);
	place->kind = PLACE_XEN;
	place->path = strdup(text + 4);
	if (is_source)
		return endpoint_name_is_valid(text + 4, strlen(text + 4))
			       ? NULL
			       : "as a source, xen: takes an endpoint of this domain";
	address_parse(text + 4, strlen(text + 4), &address, &why);
	return why;
}

bool place_is_port_0(const struct place *place)
{
	return place->kind == PLACE_TCP && strspn(place->port, "0") == strlen(place->port);
}

void place_free(struct place *place)
{
	free(place->path);
	free(place->host);
	free(place->port);
}

bool place_leads_to(const struct place *target, const struct place *source, const char *domid)
{
	struct address address;

	if (target->kind != source->kind)
		return false;
	if (target->kind == PLACE_TCP)
		return !strcmp(target->host, source->host) && !strcmp(target->port, source->port);
	if (target->kind == PLACE_UNIX)
		return !strcmp(target->path, source->path);
	return address_parse(target->path, strlen(target->path), &address, NULL) == 0 && !*address.host &&
	       !strcmp(address.endpoint, source->path) &&
	       (!strcmp(address.domain, "self") || (domid && !strcmp(address.domain, domid)));
}

const char *place_why_not(const struct place *place, int error)
{
	if (error == PLACE_NO_HOST)
		return "no such host or service is known";
	return place->kind == PLACE_XEN ? xenmsg_error_text(error) : strerror(-error);
}

static int dial_unix(const struct place *place)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return -errno;
	strncpy(address.sun_path, place->path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

static int look_up(const struct place *place, int flags, struct addrinfo **found)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};

	return getaddrinfo(place->host, place->port, &hints, found) == 0 ? 0 : PLACE_NO_HOST;
}

static int dial_tcp(const struct place *place)
{
	struct addrinfo *found, *each;
	int r = look_up(place, 0, &found), fd;

	if (r < 0)
		return r;
	for (each = found; each; each = each->ai_next) {
		fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, each->ai_addr, each->ai_addrlen) == 0) {
			freeaddrinfo(found);
			return fd;
		}
		r = -errno;
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(found);
	return r;
}

int place_dial(const struct place *place)
{
	return place->kind == PLACE_UNIX ? dial_unix(place) : dial_tcp(place);
}

/* Removes a Unix socket that an earlier run has left, on which nobody listens, so that bind() finds its path
 * free. What is in use, or no socket, stays, and bind() reports it. */
static void remove_left(const struct sockaddr_un *address)
{
	struct stat status;
	int fd;

	if (stat(address->sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED)
		unlink(address->sun_path);
	close(fd);
}

/* Sets the address to listen at. Returns 0 or PLACE_NO_HOST. */
static int address_of(const struct place *place, struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_un *path = (struct sockaddr_un *)address;
	struct addrinfo *found;
	int r;

	if (place->kind == PLACE_UNIX) {
		*path = (struct sockaddr_un){.sun_family = AF_UNIX};
		strncpy(path->sun_path, place->path, sizeof(path->sun_path) - 1);
		remove_left(path);
		*size = sizeof(*path);
		return 0;
	}
	r = look_up(place, AI_PASSIVE, &found);
	if (r < 0)
		return r;
	memcpy(address, found->ai_addr, found->ai_addrlen);
	*size = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

/* Returns a descriptor that listens, a negative errno or PLACE_NO_HOST. */
static int listen_at(const struct place *place, mode_t mask)
{
	struct sockaddr_storage address;
	socklen_t size;
	int fd, r = address_of(place, &address, &size), on = 1;
	mode_t before;

	if (r < 0)
		return r;
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	before = umask(mask);
	if (!mask)
		umask(before);
	r = bind(fd, (struct sockaddr *)&address, size);
	umask(before);
	if (r == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static int tell_port(const struct cli *cli, const char *command, const char *text, int fd)
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

int place_listen(const struct cli *cli, const char *command, const struct place *place, mode_t mask, int *fd)
{
	*fd = listen_at(place, mask);
	if (*fd >= 0)
		return place_is_port_0(place) ? tell_port(cli, command, place->text, *fd) : EXIT_DONE;
	cli_complain("%s: can't listen on %s: %s", command, place->text, place_why_not(place, *fd));
	return EXIT_OTHER;
}
