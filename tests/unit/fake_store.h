/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_FAKE_STORE_H
#define XENMSG_TESTS_FAKE_STORE_H

/*
 * XenStore for a module that is tested alone: a few nodes in memory behind the functions of
 * daemon/xen/store.h that daemon/peers/ calls. Requests are answered in order, and watches fire,
 * when fake_store_step() is called.
 */

#include <stdbool.h>

#include "daemon/xen/store.h"

#define FAKE_REFUSED "/refused" /* whose answer is EACCES */

struct fake_node {
	char *path, *value;
	struct fake_node *prev, *next;
};

struct store_watch {
	char *path;
	store_watch_fn event;
	void *userdata;
	bool fires;
	struct store_watch *prev, *next;
};

struct store_request {
	char *path;
	store_done_fn done;
	store_list_fn listed;
	void *userdata;
	struct store_request **handle;
	struct store_request *prev, *next;
};

struct store {
	struct fake_node *nodes;
	struct store_watch *watches;
	struct store_request *requests;
	bool out_of_memory; /* requests fail */
	unsigned bad_lists; /* so many of the next lists fail */
	unsigned reads;	    /* so many were asked for */
	unsigned refused;   /* so many of the next hellos that are written */
};

struct fake_node *fake_find(struct store *store, const char *path);
void fake_fire(struct store *store, const char *path);
void fake_remove(struct store *store, const char *path);
void fake_write(struct store *store, const char *path, const char *value);
unsigned fake_watches(struct store *store);
/* Answers one request, or lets one watch fire. False: there is nothing to do. */
bool fake_store_step(struct store *store);
void fake_store_clear(struct store *store);

#endif
