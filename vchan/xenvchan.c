/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libxenvchan.h over vchan.h, with its ABI: programs read and write members of struct libxenvchan, of which
 * `blocking` and `server_persist` act, and `ring` and `event_port` are 0. */

#include <ctype.h>
#include <errno.h>
#include <libxenvchan.h>
#include <stdlib.h>
#include <string.h>

#include "vchan/vchan.h"

#define API __attribute__((visibility("default")))

static const char *skip(const char *path, const char *prefix)
{
	size_t size = strlen(prefix);

	return strncmp(path, prefix, size) ? path : path + size;
}

/* Skips /local/domain/N/. */
static const char *skip_domain(const char *path)
{
	const char *number = skip(path, "/local/domain/"), *end = number + strspn(number, "0123456789");

	return number != path && end != number && *end == '/' ? end + 1 : path;
}

/* Writes the name of the endpoint that stands for a XenStore path: "vchan-" and what follows
 * /local/domain/N/data/vchan/, /local/domain/N/ or data/vchan/, with dashes for slashes and two for a dash.
 * Returns 0, or -1 with errno: EINVAL (no name is left, or a character that no name has), ENAMETOOLONG. */
static int name_of(const char *path, char name[VCHAN_NAME_SIZE])
{
	static const char prefix[] = "vchan-";
	size_t used = sizeof(prefix) - 1;

	path = skip(skip_domain(path), "data/vchan/");
	path += strspn(path, "/");
	memcpy(name, prefix, sizeof(prefix));
	errno = EINVAL;
	if (!*path)
		return -1;
	for (; *path; path++) {
		if (!isalnum((unsigned char)*path) && !strchr("/-_", *path))
			return -1;
		errno = ENAMETOOLONG;
		if (used + 2 >= VCHAN_NAME_SIZE)
			return -1;
		errno = EINVAL;
		name[used++] = *path == '/' ? '-' : *path;
		if (*path == '-')
			name[used++] = '-';
	}
	name[used] = '\0';
	errno = 0;
	return 0;
}

struct end {
	struct libxenvchan front; /* what the program knows */
	struct vchan_end *vchan;
};

static struct vchan_end *vchan_of(struct libxenvchan *ctrl)
{
	struct end *end = (struct end *)ctrl;

	if (ctrl->is_server)
		vchan_set_clients(end->vchan, ctrl->server_persist ? VCHAN_PERSISTS : VCHAN_ONE_BY_ONE);
	return end->vchan;
}

static int order_of(size_t size)
{
	int order = 12;

	while (size > (size_t)1 << order)
		order++;
	return order;
}

static struct libxenvchan *finish(struct vchan_end *vchan, bool is_server, size_t read, size_t write)
{
	struct end *end = vchan ? calloc(1, sizeof(*end)) : NULL;

	if (!end) {
		vchan_close(vchan);
		return NULL;
	}
	end->vchan = vchan;
	end->front.is_server = is_server ? -1 : 0;
	end->front.read.order = order_of(read);
	end->front.write.order = order_of(write);
	return &end->front;
}

API struct libxenvchan *libxenvchan_server_init(struct xentoollog_logger *logger, int domain,
						const char *xs_path, size_t read_min, size_t write_min)
{
	char name[VCHAN_NAME_SIZE];

	if (name_of(xs_path, name) < 0)
		return NULL;
	return finish(vchan_serve(domain, name, read_min, write_min, VCHAN_ONE_BY_ONE), true, read_min,
		      write_min);
}

API struct libxenvchan *libxenvchan_client_init(struct xentoollog_logger *logger, int domain,
						const char *xs_path)
{
	char name[VCHAN_NAME_SIZE];
	struct vchan_end *vchan = NULL;

	if (name_of(xs_path, name) == 0)
		vchan = vchan_connect(domain, name, false);
	if (vchan && vchan_opened(vchan, true) < 0) {
		vchan_close(vchan);
		return NULL;
	}
	return finish(vchan, false, VCHAN_RING_MAX, VCHAN_RING_MAX);
}

API void libxenvchan_close(struct libxenvchan *ctrl)
{
	struct end *end = (struct end *)ctrl;

	if (!end)
		return;
	vchan_close(end->vchan);
	free(end);
}

#define MOVE(what, does, data, all)                                                                          \
	API int libxenvchan_##what(struct libxenvchan *ctrl, data, size_t size)                              \
	{                                                                                                    \
		return does(vchan_of(ctrl), bytes, size, all, ctrl->blocking);                               \
	}
MOVE(recv, vchan_read, void *bytes, true)
MOVE(read, vchan_read, void *bytes, false)
MOVE(send, vchan_write, const void *bytes, true)
MOVE(write, vchan_write, const void *bytes, false)

#define ASK(what)                                                                                            \
	API int libxenvchan_##what(struct libxenvchan *ctrl)                                                 \
	{                                                                                                    \
		return vchan_##what(vchan_of(ctrl));                                                         \
	}
ASK(wait)
ASK(fd_for_select)
ASK(is_open)
ASK(data_ready)
ASK(buffer_space)
