/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the toolstack does with the devices of a domain that ends: device.c gives it some. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <xen/io/xenbus.h>

#define MAX_PATH 512

struct each_device {
	struct hv *hv;
	char path[MAX_PATH]; /* of the directory that is gone through */
	void (*visit)(struct hv *hv, const char *frontend, const char *backend, void *userdata);
	void *userdata;
};

static void on_devid(const char *name, void *userdata)
{
	const struct each_device *each = userdata;
	char path[2 * MAX_PATH], frontend[MAX_PATH], backend[MAX_PATH];

	snprintf(path, sizeof(path), "%s/%s/frontend", each->path, name);
	if (sim_store_read(each->hv->store, path, frontend, sizeof(frontend)) < 0)
		return;
	snprintf(path, sizeof(path), "%s/%s/backend", each->path, name);
	if (sim_store_read(each->hv->store, path, backend, sizeof(backend)) == 0)
		each->visit(each->hv, frontend, backend, each->userdata);
}

static void on_type(const char *name, void *userdata)
{
	const struct each_device *each = userdata;
	struct each_device below = *each;

	if (snprintf(below.path, sizeof(below.path), "%s/%s", each->path, name) < (int)sizeof(below.path))
		sim_store_list(each->hv->store, below.path, on_devid, &below);
}

static void visit_devices(struct hv *hv, uint32_t domid,
			  void (*visit)(struct hv *hv, const char *frontend, const char *backend,
					void *userdata),
			  void *userdata)
{
	struct each_device each = {.hv = hv, .visit = visit, .userdata = userdata};

	snprintf(each.path, sizeof(each.path), "/libxl/%" PRIu32 "/device", domid);
	sim_store_list(hv->store, each.path, on_type, &each);
}

/* Returns whether the backend's state is another one than closed. */
static bool is_open(struct hv *hv, const char *backend)
{
	char path[MAX_PATH + 8], state[16];

	snprintf(path, sizeof(path), "%s/state", backend);
	return sim_store_read(hv->store, path, state, sizeof(state)) == 0 && atoi(state) != XenbusStateClosed;
}

static void close_device(struct hv *hv, const char *frontend, const char *backend, void *userdata)
{
	char path[MAX_PATH + 8];

	sim_store_rm(hv->store, frontend);
	if (!is_open(hv, backend))
		return;
	snprintf(path, sizeof(path), "%s/online", backend);
	sim_store_write(hv->store, path, "0", NULL, 0);
	snprintf(path, sizeof(path), "%s/state", backend);
	sim_store_write(hv->store, path, "5", NULL, 0);
}

static void count_open(struct hv *hv, const char *frontend, const char *backend, void *userdata)
{
	unsigned *count = userdata;

	*count += is_open(hv, backend);
}

static void remove_device(struct hv *hv, const char *frontend, const char *backend, void *userdata)
{
	char *path = strdup(backend), *slash;

	sim_store_rm(hv->store, backend);
	/* The domain's directory of such devices goes with the last of them. */
	while (path && (slash = strrchr(path, '/')) && slash != path) {
		*slash = '\0';
		if (sim_store_list(hv->store, path, NULL, NULL) != 0)
			break;
		sim_store_rm(hv->store, path);
	}
	free(path);
}

void hv_devices_close(struct hv *hv, uint32_t domid)
{
	visit_devices(hv, domid, close_device, NULL);
}

unsigned hv_devices_open(struct hv *hv, uint32_t domid)
{
	unsigned count = 0;

	visit_devices(hv, domid, count_open, &count);
	return count;
}

void hv_devices_remove(struct hv *hv, uint32_t domid)
{
	visit_devices(hv, domid, remove_device, NULL);
}
