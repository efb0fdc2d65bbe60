/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Qubes' libvchan.h over vchan.h: blocking by default, and a server has one client. */

#include "vchan/libvchan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vchan/vchan.h"

#define API __attribute__((visibility("default")))

struct libvchan {
	struct vchan_end *vchan;
	bool blocking;
	bool connects; /* libvchan_client_init_async_finish() hasn't returned 0 yet */
};

/* The endpoint that libxenvchan has for data/vchan/CLIENT/PORT. */
static int name_of(int client, int port, char name[VCHAN_NAME_SIZE])
{
	errno = EINVAL;
	if (port < 0 || client < 0)
		return -1;
	snprintf(name, VCHAN_NAME_SIZE, "vchan-%d-%d", client, port);
	return 0;
}

static libvchan_t *finish(struct vchan_end *vchan, bool connects)
{
	libvchan_t *ctrl = vchan ? calloc(1, sizeof(*ctrl)) : NULL;

	if (!ctrl) {
		vchan_close(vchan);
		return NULL;
	}
	ctrl->vchan = vchan;
	ctrl->blocking = true;
	ctrl->connects = connects;
	return ctrl;
}

API libvchan_t *libvchan_server_init(int domain, int port, size_t read_min, size_t write_min)
{
	char name[VCHAN_NAME_SIZE];

	if (name_of(domain, port, name) < 0)
		return NULL;
	return finish(vchan_serve(domain, name, read_min, write_min, VCHAN_ONE), false);
}

static struct vchan_end *begin(int domain, int port)
{
	char name[VCHAN_NAME_SIZE];
	int own = vchan_own_domid();

	if (own < 0 || name_of(own, port, name) < 0)
		return NULL;
	return vchan_connect(domain, name, true);
}

API libvchan_t *libvchan_client_init_async(int domain, int port, EVTCHN *watch_fd)
{
	libvchan_t *ctrl = finish(begin(domain, port), true);

	if (ctrl)
		*watch_fd = vchan_fd_for_select(ctrl->vchan);
	return ctrl;
}

API int libvchan_client_init_async_finish(libvchan_t *ctrl, bool blocking)
{
	int r = vchan_opened(ctrl->vchan, false);

	if (r == 0) {
		ctrl->connects = false;
		ctrl->blocking = blocking;
	}
	return r;
}

API libvchan_t *libvchan_client_init(int domain, int port)
{
	libvchan_t *ctrl = finish(begin(domain, port), false);

	if (!ctrl || vchan_opened(ctrl->vchan, true) == 0)
		return ctrl;
	libvchan_close(ctrl);
	return NULL;
}

/* Whether it has an end yet. */
static bool has_end(const libvchan_t *ctrl)
{
	errno = EAGAIN;
	return !ctrl->connects;
}

#define MOVE(what, does, data, all)                                                                          \
	API int libvchan_##what(libvchan_t *ctrl, data, size_t size)                                         \
	{                                                                                                    \
		return has_end(ctrl) ? does(ctrl->vchan, bytes, size, all, ctrl->blocking) : -1;             \
	}
MOVE(write, vchan_write, const void *bytes, false)
MOVE(send, vchan_write, const void *bytes, true)
MOVE(read, vchan_read, void *bytes, false)
MOVE(recv, vchan_read, void *bytes, true)

API void libvchan_close(libvchan_t *ctrl)
{
	if (!ctrl)
		return;
	vchan_close(ctrl->vchan);
	free(ctrl);
}

/* `before`: as long as it has none */
#define ASK(what, before)                                                                                    \
	API int libvchan_##what(libvchan_t *ctrl)                                                            \
	{                                                                                                    \
		return has_end(ctrl) ? vchan_##what(ctrl->vchan) : (before);                                 \
	}
ASK(wait, 0)
ASK(fd_for_select, -1)
ASK(is_open, VCHAN_WAITING)
ASK(data_ready, 0)
ASK(buffer_space, 0)

API void libvchan_set_blocking(libvchan_t *ctrl, bool blocking)
{
	ctrl->blocking = blocking;
}
