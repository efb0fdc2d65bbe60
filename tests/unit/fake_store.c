/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/fake_store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/ut.h"

struct fake_node *fake_find(struct store *store, const char *path)
{
	struct fake_node *node;

	DL_FOREACH(store->nodes, node)
		if (!strcmp(node->path, path))
			return node;
	return NULL;
}

void fake_fire(struct store *store, const char *path)
{
	struct store_watch *watch;

	DL_FOREACH(store->watches, watch)
		if (!strcmp(watch->path, path))
			watch->fires = true;
}

void fake_remove(struct store *store, const char *path)
{
	struct fake_node *node = fake_find(store, path);

	if (!node)
		return;
	DL_DELETE(store->nodes, node);
	free(node->path);
	free(node->value);
	free(node);
	fake_fire(store, path);
}

void fake_write(struct store *store, const char *path, const char *value)
{
	struct fake_node *node = fake_find(store, path);

	if (!node) {
		node = calloc(1, sizeof(*node));
		node->path = strdup(path);
		DL_APPEND(store->nodes, node);
	}
	free(node->value);
	node->value = strdup(value);
	fake_fire(store, path);
}

unsigned fake_watches(struct store *store)
{
	struct store_watch *watch;
	unsigned count;

	DL_COUNT(store->watches, watch, count);
	return count;
}

int store_watch(struct store *store, const char *path, store_watch_fn event, void *userdata,
		store_done_fn done, struct store_watch **handle)
{
	struct store_watch *watch = calloc(1, sizeof(*watch));

	watch->path = strdup(path);
	watch->event = event;
	watch->userdata = userdata;
	watch->fires = true;
	DL_APPEND(store->watches, watch);
	if (handle)
		*handle = watch;
	return 0;
}

int store_watch_needed(struct store *store, const char *path, store_watch_fn event, void *userdata,
		       store_done_fn done, struct store_watch **handle)
{
	return store_watch(store, path, event, userdata, done, handle);
}

void store_unwatch(struct store *store, struct store_watch **handle)
{
	struct store_watch *watch = *handle;

	*handle = NULL;
	if (!watch)
		return;
	DL_DELETE(store->watches, watch);
	free(watch->path);
	free(watch);
}

void store_unwatch_at_once(struct store *store, struct store_watch **handle)
{
	store_unwatch(store, handle);
}

static struct store_request *fake_request(struct store *store, const char *path, void *userdata,
					  struct store_request **handle)
{
	struct store_request *request = calloc(1, sizeof(*request));

	request->path = strdup(path);
	request->userdata = userdata;
	request->handle = handle;
	if (handle)
		*handle = request;
	DL_APPEND(store->requests, request);
	return request;
}

int store_read(struct store *store, const char *path, store_done_fn done, void *userdata,
	       struct store_request **handle)
{
	if (store->out_of_memory)
		return -ENOMEM;
	assert(!strstr(path, "//")); /* XenStore would refuse it */
	fake_request(store, path, userdata, handle)->done = done;
	store->reads++;
	return 0;
}

int store_read_toolstacks(struct store *store, const char *path, store_done_fn done, void *userdata,
			  struct store_request **handle)
{
	return store_read(store, path, done, userdata, handle);
}

int store_list(struct store *store, const char *path, store_list_fn done, void *userdata,
	       struct store_request **handle)
{
	fake_request(store, path, userdata, handle)->listed = done;
	return 0;
}

/* Each is answered in the moment in which it is carried out. */
bool store_has_begun(struct store *store, const struct store_request *request)
{
	return false;
}

void store_cancel(struct store_request **handle)
{
	if (!*handle)
		return;
	(*handle)->done = NULL;
	(*handle)->listed = NULL;
	(*handle)->handle = NULL;
	*handle = NULL;
}

/* The directories below /local/domain: those of which there is a node. */
static void fake_list(struct store *store, struct store_request *request)
{
	char *names[256] = {NULL};
	struct fake_node *node;
	unsigned count = 0;

	if (store->bad_lists) {
		store->bad_lists--;
		request->listed(request->userdata, -EIO, NULL, 0);
		return;
	}
	DL_FOREACH(store->nodes, node) {
		unsigned domid, i;
		char name[16];

		if (sscanf(node->path, "/local/domain/%u/", &domid) != 1)
			continue;
		snprintf(name, sizeof(name), "%u", domid);
		for (i = 0; i < count && strcmp(names[i], name); i++)
			;
		if (i == count && count < 256)
			names[count++] = strdup(name);
	}
	request->listed(request->userdata, 0, names, count);
	while (count)
		free(names[--count]);
}

static int why_none(const struct store_request *request)
{
	return strcmp(request->path, FAKE_REFUSED) == 0 ? -EACCES : -ENOENT;
}

bool fake_store_step(struct store *store)
{
	struct store_request *request = store->requests;
	struct store_watch *watch;

	if (request) {
		struct fake_node *node = fake_find(store, request->path);

		DL_DELETE(store->requests, request);
		if (request->handle)
			*request->handle = NULL;
		if (request->listed)
			fake_list(store, request);
		else if (request->done)
			request->done(request->userdata, node ? 0 : why_none(request),
				      node ? node->value : NULL, node ? strlen(node->value) : 0);
		free(request->path);
		free(request);
		return true;
	}
	DL_FOREACH(store->watches, watch)
		if (watch->fires) {
			watch->fires = false;
			watch->event(watch->userdata, watch->path);
			return true;
		}
	return false;
}

void fake_store_clear(struct store *store)
{
	while (store->requests) {
		struct store_request *request = store->requests;

		DL_DELETE(store->requests, request);
		free(request->path);
		free(request);
	}
	while (store->watches)
		store_unwatch(store, &(struct store_watch *){store->watches});
	while (store->nodes)
		fake_remove(store, store->nodes->path);
}
