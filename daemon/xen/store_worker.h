/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STORE_WORKER_H
#define XENMSG_DAEMON_STORE_WORKER_H

/*
 * The thread behind `struct store` (store.h), the only one that calls libxenstore.
 *
 * Two parties share a worker: the store on the event loop and the thread. `lock` guards the queue, the
 * results, the watch events and `stopping`. A request belongs to the thread while it is queued, then to the
 * store with the results; its callback and its owner's handle are the store's all the time. The last of the
 * two parties frees the worker: when xenstored never answers, that is the thread, long after the store was
 * freed.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/xen/store.h"
#include "wire/ut.h"

#define STORE_PATH_MAX 1024 /* none of ours is longer */

enum store_kind {
	STORE_READ,
	STORE_READ_TOOLSTACKS,
	STORE_LIST,
	STORE_WRITE,
	STORE_REMOVE,
	STORE_WATCH,
	STORE_UNWATCH,
};

struct store_request {
	enum store_kind kind;
	unsigned watch; /* the number of the watch, for STORE_WATCH and STORE_UNWATCH */
	bool needed;	/* of STORE_WATCH: if the quota refuses it, others give way */
	bool at_once;	/* of STORE_UNWATCH */
	uint32_t owner;
	int reader;
	unsigned count; /* leaves to write */
	char **paths;	/* at least one */
	char **values;	/* for STORE_WRITE */

	bool has_begun; /* the thread has taken it from the queue, with the lock */
	int error;
	char *value; /* the result of a read: `size` bytes and a NUL */
	size_t size;
	char **names; /* the result of STORE_LIST, one allocation */
	unsigned names_count;

	struct store_request *prev, *next; /* in the queue or the results */

	/* The store's own, which the thread doesn't touch. */
	store_done_fn done;
	store_list_fn listed;
	void *userdata;
	struct store_request **handle; /* its owner's; NULL: there is none, or it was cancelled */
};

#define STORE_BELOW_MAX 32 /* paths below a domain's directory that wait for one watch */

/*
 * A fired watch. The same path of the same watch is kept once, so that nobody fills our memory by changing a
 * node. Making up names doesn't either: each domain's directory counts what waits below it, and when that is
 * too much it fires itself, in place of everything that comes then. That means: read this domain's nodes
 * anew.
 */
struct store_event {
	char *key; /* "<watch> <path>" */
	unsigned watch;
	const char *path; /* into key */
	bool fires;	  /* otherwise it only counts */
	unsigned below;
	UT_hash_handle hh;
};

struct store_watched {
	unsigned watch; /* its number; 0: nobody's any more, but XenStore still has it */
	unsigned token; /* the number with which it was set */
	char *path;
	bool needed;
	bool refused; /* by the quota; tried again later */
	struct store_watched *prev, *next;
	UT_hash_handle hh;
};

struct xs_handle;

struct store_worker {
	pthread_mutex_t lock;
	pthread_cond_t finished_changed; /* CLOCK_MONOTONIC */
	unsigned references;
	bool stopping;
	bool finished;
	struct store_request *queue;
	struct store_request *results;
	struct store_event *events; /* in the order of their first arrival */
	int command_fd;		    /* eventfd: the queue isn't empty any more, or `stopping` has changed */
	int result_fd;		    /* eventfd: there are results or events, and were none */

	/* Written by the thread, read by both, atomically. */
	uint64_t busy_since_ms; /* 0: not in a call to xenstored */
	bool connected;

	/* The thread's own. */
	struct xs_handle *xs;
	struct store_watched *watched, *by_token;
	unsigned refused_watches;
	uint64_t refused_at_ms; /* of the last one; 0: none yet */
	uint64_t retry_at_ms;	/* of the refused watches */
	unsigned retry_after_ms;
	uint64_t tried_at_ms; /* when it has connected last; 0: never */
	bool reconnect_now;   /* the connection is lost only by a refused watch */
};

void store_event_free(struct store_event *event);
void store_request_free(struct store_request *request);
/* Free the whole list. */
void store_events_free(struct store_event **events);
void store_requests_free(struct store_request **requests);

/* Connects and prepares a worker, with which the thread runs store_worker_run(). Negative errno. */
int store_worker_new(struct store_worker **worker);
void store_worker_unref(struct store_worker *worker);
void *store_worker_run(void *worker);

#endif
