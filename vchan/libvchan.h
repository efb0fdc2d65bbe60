/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBVCHAN_H
#define LIBVCHAN_H

/*
 * The interface of Qubes' libvchan over xenmsg (pkg-config vchan-xenmsg): programs written for it build and
 * run unchanged, with no device, no XenStore and no right but those that policy gives. Functions return -1
 * with errno if they fail. doc/vchan.md says what differs.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int EVTCHN;
typedef struct libvchan libvchan_t;

/* What libvchan_is_open() returns: the peer has gone; it is there; it hasn't come yet. */
#define VCHAN_DISCONNECTED 0
#define VCHAN_CONNECTED	   1
#define VCHAN_WAITING	   2

/* Makes a server for one client of a domain. The rings have at least these sizes. NULL: it can't, see errno.
 */
libvchan_t *libvchan_server_init(int domain, int port, size_t read_min, size_t write_min);
/* Connects, and waits for the server as long as its domain is there. */
libvchan_t *libvchan_client_init(int domain, int port);
/* Begins to. When *watch_fd is readable, the program calls libvchan_client_init_async_finish(): 1 it isn't
 * connected yet, 0 it is, -1 it can't be; then libvchan_close() is left to call. The descriptor is not the
 * program's. */
libvchan_t *libvchan_client_init_async(int domain, int port, EVTCHN *watch_fd);
int libvchan_client_init_async_finish(libvchan_t *ctrl, bool blocking);

/* They return how many bytes: as many as can be written or read now, at least one if it blocks; or all. */
int libvchan_write(libvchan_t *ctrl, const void *data, size_t size);
int libvchan_send(libvchan_t *ctrl, const void *data, size_t size);
int libvchan_read(libvchan_t *ctrl, void *data, size_t size);
int libvchan_recv(libvchan_t *ctrl, void *data, size_t size);
/* Waits for an event: data, room, or the peer's coming or going. */
int libvchan_wait(libvchan_t *ctrl);
void libvchan_close(libvchan_t *ctrl);
/* Is readable when libvchan_wait() doesn't block. */
EVTCHN libvchan_fd_for_select(libvchan_t *ctrl);
int libvchan_is_open(libvchan_t *ctrl);
int libvchan_data_ready(libvchan_t *ctrl);
int libvchan_buffer_space(libvchan_t *ctrl);
void libvchan_set_blocking(libvchan_t *ctrl, bool blocking);

#endif
