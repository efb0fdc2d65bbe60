/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/store.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/xen/store_worker.h"
#include "base/timer.h"
#include "wire/ut.h"

/* store_free() lets the thread finish what others can see (removing our nodes), unless XenStore doesn't
 * answer one request for so long, or all of it takes too long. */
#define FREE_MS	     2000
#define FREE_ALL_MS  10000
#define FREE_LOOK_MS 50
#define AT_ONCE	     64 /* callbacks in one turn of the loop */

struct store_watch {
	unsigned number;
	store_watch_fn event;
	void *userdata;
	struct store_request *set; /* under way */
	struct store_request *end; /* made with the watch, so that ending it needs no memory */
	UT_hash_handle hh;
};

struct store {
	struct store_worker *worker;
	pthread_t thread;
	struct event *results; /* the worker's result_fd is readable */
	struct event *more;    /* something is left of what was taken over from the worker */
	struct store_request *taken_results;
	struct store_event *taken_events;
	struct store_watch *watches; /* by number */
	unsigned last_watch;
	bool leaves_watches; /* to the end of the connection */
};

static void call_back(struct store_request *request)
{
	if (request->handle)
		*request->handle = NULL;
	if (request->listed)
		request->listed(request->userdata, request->error, request->names, request->names_count);
	else if (request->done)
		request->done(request->userdata, request->error, request->value, request->size);
	store_request_free(request);
}

static void event_fires(struct store *store, struct store_event *event)
{
	struct store_watch *watch = NULL;

	/* The watch is looked up each time, since a callback may have removed it. */
	if (event->fires)
		HASH_FIND(hh, store->watches, &event->watch, sizeof(event->watch), watch);
	if (watch)
		watch->event(watch->userdata, event->path);
	store_event_free(event);
}

/* Takes over what has come since the last time. Returns whether there is something. */
static bool take_over(struct store *store)
{
	struct store_worker *worker = store->worker;

	pthread_mutex_lock(&worker->lock);
	store->taken_results = worker->results;
	worker->results = NULL;
	store->taken_events = worker->events;
	worker->events = NULL;
	pthread_mutex_unlock(&worker->lock);
	return store->taken_results || store->taken_events;
}

/* Calls back in order of arrival, a bounded number in each turn of the loop, since others fill the queue.
 * What comes while some are left is taken over behind them: its signal has been read, and comes no more. */
static void call_back_some(struct store *store)
{
	struct store_request *request;
	struct store_event *event;

	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (!store->taken_results && !store->taken_events && !take_over(store))
			return;
		if ((request = store->taken_results) != NULL) {
			DL_DELETE(store->taken_results, request);
			call_back(request);
		} else {
			event = store->taken_events;
			HASH_DEL(store->taken_events, event);
			event_fires(store, event);
		}
	}
	/* A timer lets the loop look at all descriptors first. There may be more than was taken over. */
	timer_start(store->more, 0);
}

static void on_more(evutil_socket_t fd, short what, void *userdata)
{
	call_back_some(userdata);
}

static void on_results(evutil_socket_t fd, short what, void *userdata)
{
	struct store *store = userdata;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("store: can't read the result descriptor: %s", strerror(errno));
	/* What is left from before comes first, and what is new after it: on_more() takes it. */
	if (store->taken_results || store->taken_events)
		timer_start(store->more, 0);
	else
		call_back_some(store);
}

int store_new(struct store **result, struct event_base *base)
{
	struct store *store = calloc(1, sizeof(*store));
	sigset_t all, before;
	int r;

	if (!store)
		return -ENOMEM;
	r = store_worker_new(&store->worker);
	if (r < 0)
		goto fail;
	r = -ENOMEM;
	store->results = event_new(base, store->worker->result_fd, EV_READ | EV_PERSIST, on_results, store);
	store->more = evtimer_new(base, on_more, store);
	if (!store->results || !store->more || event_add(store->results, NULL) < 0)
		goto fail;

	sigfillset(&all); /* the event loop handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	store->worker->references++;
	r = -pthread_create(&store->thread, NULL, store_worker_run, store->worker);
	if (r < 0)
		store->worker->references--;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		goto fail;
	*result = store;
	return 0;
fail:
	free_event(store->results);
	free_event(store->more);
	if (store->worker)
		store_worker_unref(store->worker);
	free(store);
	return r;
}

static void store_kick(struct store_worker *worker)
{
	uint64_t one = 1;

	if (write(worker->command_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("store: can't wake the store thread: %s", strerror(errno));
}

bool store_is_too_slow(const struct store *store, uint64_t from_ms)
{
	uint64_t since = __atomic_load_n(&store->worker->busy_since_ms, __ATOMIC_RELAXED), now = clock_ms();

	return now - from_ms >= FREE_ALL_MS ||
	       (since && now - (since > from_ms ? since : from_ms) >= FREE_MS);
}

/* Returns whether the thread has finished, and false if XenStore keeps it from that. Holds the lock. */
static bool wait_for_thread(const struct store *store)
{
	struct store_worker *worker = store->worker;
	const uint64_t start = clock_ms();

	while (!worker->finished) {
		struct timespec look;

		if (store_is_too_slow(store, start))
			return false;
		clock_gettime(CLOCK_MONOTONIC, &look);
		look.tv_nsec += FREE_LOOK_MS * 1000000L;
		if (look.tv_nsec >= 1000000000) {
			look.tv_sec++;
			look.tv_nsec -= 1000000000;
		}
		pthread_cond_timedwait(&worker->finished_changed, &worker->lock, &look);
	}
	return true;
}

void store_free(struct store *store)
{
	struct store_worker *worker;
	struct store_watch *watch, *next;
	bool finished;

	if (!store)
		return;
	worker = store->worker;
	event_free(store->results);
	event_free(store->more);
	pthread_mutex_lock(&worker->lock);
	worker->stopping = true;
	store_kick(worker);
	finished = wait_for_thread(store);
	pthread_mutex_unlock(&worker->lock);
	if (finished) {
		pthread_join(store->thread, NULL);
	} else {
		log_warning("store: XenStore doesn't answer; what is queued for it is abandoned");
		pthread_detach(store->thread);
	}
	store_worker_unref(worker);

	store_requests_free(&store->taken_results);
	store_events_free(&store->taken_events);
	HASH_ITER(hh, store->watches, watch, next) {
		HASH_DEL(store->watches, watch);
		store_request_free(watch->end);
		free(watch);
	}
	free(store);
}

/* Makes a request with a path for each leaf, and a value if leaves have any. NULL: no memory. */
static struct store_request *request_new(enum store_kind kind, const struct store_leaf *leaves,
					 unsigned count)
{
	struct store_request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->kind = kind;
	request->count = count;
	request->paths = calloc(count, sizeof(*request->paths));
	request->values = kind == STORE_WRITE ? calloc(count, sizeof(*request->values)) : NULL;
	if (!request->paths || (kind == STORE_WRITE && !request->values))
		goto fail;
	for (unsigned i = 0; i < count; i++) {
		request->paths[i] = strdup(leaves[i].path);
		if (request->values)
			request->values[i] = strdup(leaves[i].value);
		if (!request->paths[i] || (request->values && !request->values[i]))
			goto fail;
	}
	return request;
fail:
	store_request_free(request);
	return NULL;
}

static void submit(struct store *store, struct store_request *request, struct store_request **handle)
{
	struct store_worker *worker = store->worker;
	bool was_empty;

	request->handle = handle;
	if (handle)
		*handle = request;
	pthread_mutex_lock(&worker->lock);
	was_empty = !worker->queue;
	DL_APPEND(worker->queue, request);
	pthread_mutex_unlock(&worker->lock);
	if (was_empty)
		store_kick(worker);
}

/* Queues a request with one path and no value. */
static int store_ask(struct store *store, enum store_kind kind, const char *path, store_done_fn done,
		     store_list_fn listed, void *userdata, struct store_request **handle)
{
	struct store_request *request = request_new(kind, &(struct store_leaf){.path = path}, 1);

	if (!request)
		return -ENOMEM;
	request->done = done;
	request->listed = listed;
	request->userdata = userdata;
	submit(store, request, handle);
	return 0;
}

int store_read(struct store *store, const char *path, store_done_fn done, void *userdata,
	       struct store_request **handle)
{
	return store_ask(store, STORE_READ, path, done, NULL, userdata, handle);
}

int store_read_toolstacks(struct store *store, const char *path, store_done_fn done, void *userdata,
			  struct store_request **handle)
{
	return store_ask(store, STORE_READ_TOOLSTACKS, path, done, NULL, userdata, handle);
}

int store_list(struct store *store, const char *path, store_list_fn done, void *userdata,
	       struct store_request **handle)
{
	return store_ask(store, STORE_LIST, path, NULL, done, userdata, handle);
}

int store_remove(struct store *store, const char *path, store_done_fn done, void *userdata,
		 struct store_request **handle)
{
	return store_ask(store, STORE_REMOVE, path, done, NULL, userdata, handle);
}

int store_write_leaves(struct store *store, const struct store_leaf *leaves, unsigned count, uint32_t owner,
		       int reader, store_done_fn done, void *userdata, struct store_request **handle)
{
	struct store_request *request = request_new(STORE_WRITE, leaves, count);

	if (!request)
		return -ENOMEM;
	request->done = done;
	request->userdata = userdata;
	request->owner = owner;
	request->reader = reader;
	submit(store, request, handle);
	return 0;
}

int store_write(struct store *store, const char *path, const char *value, uint32_t owner, int reader,
		store_done_fn done, void *userdata, struct store_request **handle)
{
	return store_write_leaves(store, &(struct store_leaf){path, value}, 1, owner, reader, done, userdata,
				  handle);
}

bool store_has_begun(struct store *store, const struct store_request *request)
{
	bool has_begun;

	pthread_mutex_lock(&store->worker->lock);
	has_begun = request->has_begun;
	pthread_mutex_unlock(&store->worker->lock);
	return has_begun;
}

void store_cancel(struct store_request **handle)
{
	struct store_request *request = *handle;

	if (!request)
		return;
	request->done = NULL;
	request->listed = NULL;
	request->handle = NULL;
	*handle = NULL;
}

static int watch_path(struct store *store, const char *path, bool needed, store_watch_fn event,
		      void *userdata, store_done_fn done, struct store_watch **handle)
{
	const struct store_leaf leaf = {.path = path};
	struct store_watch *watch = calloc(1, sizeof(*watch));
	struct store_request *set = request_new(STORE_WATCH, &leaf, 1);
	struct store_request *end = request_new(STORE_UNWATCH, &leaf, 1);

	if (watch && set && end) {
		watch->number = ++store->last_watch;
		HASH_ADD(hh, store->watches, number, sizeof(watch->number), watch);
	}
	if (!watch || !HASH_ADDED(watch)) {
		free(watch);
		store_request_free(set);
		store_request_free(end);
		return -ENOMEM;
	}
	set->needed = needed;
	set->watch = end->watch = watch->number;
	watch->event = event;
	watch->userdata = userdata;
	watch->end = end;
	set->done = done;
	set->userdata = userdata;
	submit(store, set, &watch->set);
	if (handle)
		*handle = watch;
	return 0;
}

int store_watch(struct store *store, const char *path, store_watch_fn event, void *userdata,
		store_done_fn done, struct store_watch **handle)
{
	return watch_path(store, path, false, event, userdata, done, handle);
}

int store_watch_needed(struct store *store, const char *path, store_watch_fn event, void *userdata,
		       store_done_fn done, struct store_watch **handle)
{
	return watch_path(store, path, true, event, userdata, done, handle);
}

void store_leave_watches(struct store *store)
{
	if (store)
		store->leaves_watches = true;
}

static void unwatch(struct store *store, struct store_watch **handle, bool at_once)
{
	struct store_watch *watch = *handle;

	if (!watch)
		return;
	*handle = NULL;
	store_cancel(&watch->set);
	watch->end->at_once = at_once;
	if (store->leaves_watches)
		store_request_free(watch->end);
	else
		submit(store, watch->end, NULL);
	HASH_DEL(store->watches, watch);
	free(watch);
}

void store_unwatch(struct store *store, struct store_watch **handle)
{
	unwatch(store, handle, false);
}

void store_unwatch_at_once(struct store *store, struct store_watch **handle)
{
	unwatch(store, handle, true);
}

bool store_is_connected(const struct store *store)
{
	return __atomic_load_n(&store->worker->connected, __ATOMIC_RELAXED);
}

uint64_t store_stalled_ms(const struct store *store)
{
	uint64_t since = __atomic_load_n(&store->worker->busy_since_ms, __ATOMIC_RELAXED);

	return since ? clock_ms_since(since) : 0;
}

unsigned store_watches(const struct store *store)
{
	return HASH_COUNT(store->watches);
}
