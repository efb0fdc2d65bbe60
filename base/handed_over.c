/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/handed_over.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/service.h"

#define GATEWAY "gateway"

char *handed_over_path(int fd)
{
	struct sockaddr_un address = {0};
	socklen_t size = sizeof(address) - 1; /* the path of a full one has no NUL */

	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 || !address.sun_path[0])
		return NULL;
	return strdup(address.sun_path);
}

static int refuse_second(int first, int second)
{
	char *paths[] = {handed_over_path(first), handed_over_path(second)};

	log_error(
		"the service manager hands over two sockets, %s and %s, and one is served: in a drop-in of its unit an "
		"empty ListenStream= comes before another path",
		paths[0] ? paths[0] : "?", paths[1] ? paths[1] : "?");
	free(paths[0]);
	free(paths[1]);
	return -EBADMSG;
}

static int take_socket(int *place, int fd, int type, const char *what)
{
	char *path = service_is_listener(fd, type) ? handed_over_path(fd) : NULL;
	int flags = fcntl(fd, F_GETFL);
	bool is_good = path && flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;

	free(path);
	if (!is_good) {
		log_error("the service manager must hand over %s", what);
		return -EBADMSG;
	}
	if (*place >= 0)
		return refuse_second(*place, fd);
	*place = fd;
	return 0;
}

/* The one that was stored last comes first; what was left from before is no use any more. */
static void take_stored(int *place, int fd)
{
	if (*place >= 0)
		close(fd);
	else
		*place = fd;
}

int handed_over_take(struct handed_over *out)
{
	char **names = NULL;
	int *fds = NULL, count = service_sockets(&fds, &names), r = count < 0 ? count : 0;

	*out = HANDED_OVER_NOTHING;
	for (int i = 0; i < count; i++) {
		if (!strcmp(names[i], HANDED_OVER_IMAGE))
			take_stored(&out->image, fds[i]);
		else if (!strcmp(names[i], HANDED_OVER_PARCEL))
			take_stored(&out->parcel, fds[i]);
		else if (r == 0 && !strcmp(names[i], GATEWAY))
			r = take_socket(&out->gateway, fds[i], SOCK_SEQPACKET,
					"one listening Unix socket for packets that is named " GATEWAY);
		else if (r == 0)
			r = take_socket(&out->programs, fds[i], SOCK_STREAM,
					"one listening Unix stream socket");
		free(names[i]);
	}
	free(names);
	free(fds);
	return r;
}

void handed_over_close(struct handed_over *sockets)
{
	const int fds[] = {sockets->programs, sockets->gateway, sockets->image, sockets->parcel};

	descriptors_close(fds, sizeof(fds) / sizeof(*fds));
	*sockets = HANDED_OVER_NOTHING;
}
