/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The functions of libxenstore and libxenctrl that programs for libxenvchan call while they wait for their
 * server: they watch the path that the server will write, and ask whether its domain is there. Where there
 * is a XenStore or a hypervisor for this program, these get what they are asked; where there is none, or the
 * program may not ask, the answers come from here. A path that is watched fires at once and then, with
 * pauses, for ever: the program tries again, and libxenvchan_client_init() knows.
 */

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vchan/vchan.h"

#define API	     __attribute__((visibility("default")))
#define PAUSE_MIN_MS 10
#define PAUSE_MAX_MS 500

/* What lies behind this library. NULL: it isn't there. */
#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

struct xs_handle;
struct xc_interface_core;

API struct xs_handle *xs_open(unsigned long flags);
API void xs_close(struct xs_handle *handle);
API bool xs_write(struct xs_handle *handle, uint32_t transaction, const char *path, const void *data,
		  unsigned size);
API bool xs_watch(struct xs_handle *handle, const char *path, const char *token);
API char **xs_read_watch(struct xs_handle *handle, unsigned *count);
API struct xc_interface_core *xc_interface_open(void *logger, void *builders_logger, unsigned flags);
API int xc_interface_close(struct xc_interface_core *handle);
API int xc_domain_getinfo(struct xc_interface_core *handle, uint32_t domid, unsigned most, uint32_t *info);
API int xc_domain_getinfo_single(struct xc_interface_core *handle, uint32_t domid, uint32_t *info);

/* A connection to XenStore, as the program sees it. */
struct path_watch {
	struct path_watch *next;
	struct xs_handle *real; /* NULL: there is none */
	char *path, *token;	/* that it waits for, or NULL */
	int pause;		/* before the path fires again */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct path_watch *stores;
static struct xc_interface_core *const nothing = (struct xc_interface_core *)&stores;

static struct xs_handle *handle_of(struct path_watch *store)
{
	return store->real ? store->real : (struct xs_handle *)store;
}

/* NULL: it was opened by another function. */
static struct path_watch *find(const struct xs_handle *handle, bool takes)
{
	struct path_watch **at = &stores, *store;

	pthread_mutex_lock(&lock);
	while ((store = *at) && handle_of(store) != handle)
		at = &store->next;
	if (store && takes)
		*at = store->next;
	pthread_mutex_unlock(&lock);
	return store;
}

struct xs_handle *xs_open(unsigned long flags)
{
	__typeof__(&xs_open) real = REAL(xs_open);
	struct path_watch *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->real = real ? real(flags) : NULL;
	pthread_mutex_lock(&lock);
	store->next = stores;
	stores = store;
	pthread_mutex_unlock(&lock);
	return handle_of(store);
}

void xs_close(struct xs_handle *handle)
{
	struct path_watch *store = find(handle, true);
	__typeof__(&xs_close) real = REAL(xs_close);

	if (real && handle && (!store || store->real))
		real(handle);
	if (!store)
		return;
	free(store->path);
	free(store->token);
	free(store);
}

bool xs_write(struct xs_handle *handle, uint32_t transaction, const char *path, const void *data,
	      unsigned size)
{
	const struct path_watch *store = find(handle, false);
	__typeof__(&xs_write) real = REAL(xs_write);

	if (store && !store->real)
		return true; /* nobody could read it */
	return real && real(handle, transaction, path, data, size);
}

bool xs_watch(struct xs_handle *handle, const char *path, const char *token)
{
	struct path_watch *store = find(handle, false);
	__typeof__(&xs_watch) real = REAL(xs_watch);
	bool is_done = real && (!store || store->real) && real(handle, path, token);

	if (!store || *path == '@' || store->path)
		return is_done || store;
	store->path = strdup(path);
	store->token = strdup(token);
	return store->path && store->token;
}

/* As xs_read_watch() has it: one piece of memory. */
static char **event_of(const struct path_watch *store, unsigned *count)
{
	size_t path = strlen(store->path) + 1, token = strlen(store->token) + 1;
	char **event = malloc(2 * sizeof(*event) + path + token);

	if (!event)
		return NULL;
	event[0] = memcpy(event + 2, store->path, path);
	event[1] = memcpy(event[0] + path, store->token, token);
	*count = 2;
	return event;
}

char **xs_read_watch(struct xs_handle *handle, unsigned *count)
{
	struct path_watch *store = find(handle, false);
	__typeof__(&xs_read_watch) real = REAL(xs_read_watch);
	int (*number)(struct xs_handle *) = (int (*)(struct xs_handle *))dlsym(RTLD_NEXT, "xs_fileno");
	struct pollfd fd = {.fd = -1, .events = POLLIN};
	int pause;

	if (!store || !store->path)
		return real && (!store || store->real) ? real(handle, count) : NULL;
	if (store->real && number)
		fd.fd = number(handle);
	pause = store->pause;
	store->pause = pause < PAUSE_MIN_MS	  ? PAUSE_MIN_MS
		       : pause * 2 < PAUSE_MAX_MS ? pause * 2
						  : PAUSE_MAX_MS;
	if (poll(&fd, 1, pause) > 0)
		return real(handle, count);
	return event_of(store, count);
}

struct xc_interface_core *xc_interface_open(void *logger, void *builders_logger, unsigned flags)
{
	__typeof__(&xc_interface_open) real = REAL(xc_interface_open);
	struct xc_interface_core *handle = real ? real(logger, builders_logger, flags) : NULL;

	return handle ? handle : nothing;
}

int xc_interface_close(struct xc_interface_core *handle)
{
	__typeof__(&xc_interface_close) real = REAL(xc_interface_close);

	return handle == nothing || !real ? 0 : real(handle);
}

int xc_domain_getinfo(struct xc_interface_core *handle, uint32_t domid, unsigned most, uint32_t *info)
{
	__typeof__(&xc_domain_getinfo) real = REAL(xc_domain_getinfo);
	int r;

	errno = 0;
	r = handle == nothing || !real ? -1 : real(handle, domid, most, info);
	if (r >= 0 || errno == ESRCH || vchan_domain_is_gone((int)domid) || most == 0)
		return r;
	memset(info, 0, 3 * sizeof(*info)); /* its number, its label, and its flags, of which none is set */
	info[0] = domid;
	return 1;
}

int xc_domain_getinfo_single(struct xc_interface_core *handle, uint32_t domid, uint32_t *info)
{
	__typeof__(&xc_domain_getinfo_single) real = REAL(xc_domain_getinfo_single);
	int r;

	errno = 0;
	r = handle == nothing || !real ? -1 : real(handle, domid, info);
	if (r >= 0 || errno == ESRCH || vchan_domain_is_gone((int)domid))
		return r;
	info[0] = domid; /* 16 bits of it, and 16 of nothing; then its flags */
	info[1] = 0;
	return 0;
}
