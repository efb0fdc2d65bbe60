/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/store.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/xen/store_worker.h"
#include "daemon/base/timer.h"

/* How long store_free() lets the thread finish what others can see (removing our nodes) before abandoning
 * it. */
#define FREE_MS 500
#define AT_ONCE 64 /* callbacks in one turn of the loop */

struct store_subscription {
	unsigned watch;
	char *path;
	store_watch_fn event;
	void *userdata;
	struct store_subscription *prev, *next;
};

struct store {
	struct store_worker *worker;
	pthread_t thread;
	struct event *results; /* the worker's result_fd is readable */
	struct event *more;    /* of what was taken over from the worker something is left */
	struct store_request *taken_results;
	struct store_event *taken_events;
	struct store_request *requests; /* every one that has not called back */
	struct store_subscription *subscriptions;
	unsigned watches;
	unsigned last_watch;
};

static void call_back(struct store *store, struct store_request *request)
{
	if (request->listed)
		request->listed(request->userdata, request->error, request->names, request->names_count);
	else if (request->done)
		request->done(request->userdata, request->error, request->value, request->size);
	DL_DELETE2(store->requests, request, all_prev, all_next);
	store_request_free(request);
}

static struct store_subscription *find_subscription(struct store *store, unsigned watch)
{
	struct store_subscription *subscription;

	DL_SEARCH_SCALAR(store->subscriptions, subscription, watch, watch);
	return subscription;
}

static void event_fires(struct store *store, struct store_event *event)
{
	/* Looked up each time: a callback may have ended the watch. */
	struct store_subscription *subscription =
		event->fires ? find_subscription(store, event->watch) : NULL;

	if (subscription)
		subscription->event(subscription->userdata, event->path);
	store_event_free(event);
}

/* What came first is done first, a bounded part of it in each turn of the loop: others fill it. */
static void call_back_some(struct store *store)
{
	struct store_worker *worker = store->worker;
	struct store_request *request;
	struct store_event *event;

	if (!store->taken_results && !store->taken_events) {
		pthread_mutex_lock(&worker->lock);
		store->taken_results = worker->results;
		worker->results = NULL;
		store->taken_events = worker->events;
		worker->events = NULL;
		pthread_mutex_unlock(&worker->lock);
	}
	for (unsigned i = 0; i < AT_ONCE; i++) {
		if ((request = store->taken_results) != NULL) {
			DL_DELETE(store->taken_results, request);
			call_back(store, request);
		} else if ((event = store->taken_events) != NULL) {
			HASH_DEL(store->taken_events, event);
			event_fires(store, event);
		} else {
			return;
		}
	}
	/* By a timer: the loop looks at all descriptors before it comes to that. There may be more than was
	 * taken. */
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
	/* What is left of before comes first, and what is new behind it: on_more() takes it. */
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

	sigfillset(&all); /* signals are the event loop's */
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
	if (store->results)
		event_free(store->results);
	if (store->more)
		event_free(store->more);
	if (store->worker)
		store_worker_unref(store->worker);
	free(store);
	return r;
}

static void kick(struct store_worker *worker)
{
	uint64_t one = 1;

	if (write(worker->command_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("store: can't wake the store thread: %s", strerror(errno));
}

void store_free(struct store *store)
{
	struct store_worker *worker;
	struct store_subscription *subscription, *next;
	struct store_request *request, *next_request;
	struct store_event *event, *next_event;
	struct timespec deadline;
	bool finished;

	if (!store)
		return;
	worker = store->worker;
	event_free(store->results);
	event_free(store->more);
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_nsec += FREE_MS * 1000000L;
	if (deadline.tv_nsec >= 1000000000) {
		deadline.tv_sec++;
		deadline.tv_nsec -= 1000000000;
	}

	pthread_mutex_lock(&worker->lock);
	worker->stopping = true;
	kick(worker);
	while (!worker->finished)
		if (pthread_cond_timedwait(&worker->finished_changed, &worker->lock, &deadline) == ETIMEDOUT)
			break;
	finished = worker->finished;
	pthread_mutex_unlock(&worker->lock);
	if (finished) {
		pthread_join(store->thread, NULL);
	} else {
		log_warning("store: XenStore doesn't answer; what is queued for it is abandoned");
		pthread_detach(store->thread);
	}
	store_worker_unref(worker);

	DL_FOREACH_SAFE(store->taken_results, request, next_request)
		store_request_free(request);
	HASH_ITER(hh, store->taken_events, event, next_event) {
		HASH_DEL(store->taken_events, event);
		store_event_free(event);
	}
	DL_FOREACH_SAFE(store->subscriptions, subscription, next) {
		free(subscription->path);
		free(subscription);
	}
	free(store);
}

/* Memory for a request is the one thing that nobody could be told the lack of: there would be no callback. */
static void *must(void *memory)
{
	if (!memory) {
		log_error("store: out of memory");
		abort();
	}
	return memory;
}

static struct store_request *request_new(enum store_kind kind, unsigned count, store_done_fn done,
					 void *userdata)
{
	struct store_request *request = must(calloc(1, sizeof(*request)));

	request->kind = kind;
	request->count = count;
	request->paths = must(calloc(count, sizeof(*request->paths)));
	if (kind == STORE_WRITE)
		request->values = must(calloc(count, sizeof(*request->values)));
	request->done = done;
	request->userdata = userdata;
	return request;
}

static void submit(struct store *store, struct store_request *request)
{
	struct store_worker *worker = store->worker;

	DL_APPEND2(store->requests, request, all_prev, all_next);
	pthread_mutex_lock(&worker->lock);
	DL_APPEND(worker->queue, request);
	pthread_mutex_unlock(&worker->lock);
	kick(worker);
}

void store_read(struct store *store, const char *path, store_done_fn done, void *userdata)
{
	struct store_request *request = request_new(STORE_READ, 1, done, userdata);

	request->paths[0] = must(strdup(path));
	submit(store, request);
}

void store_list(struct store *store, const char *path, store_list_fn done, void *userdata)
{
	struct store_request *request = request_new(STORE_LIST, 1, NULL, userdata);

	request->listed = done;
	request->paths[0] = must(strdup(path));
	submit(store, request);
}

void store_write_leaves(struct store *store, const struct store_leaf *leaves, unsigned count, uint32_t owner,
			int reader, store_done_fn done, void *userdata)
{
	struct store_request *request = request_new(STORE_WRITE, count, done, userdata);

	for (unsigned i = 0; i < count; i++) {
		request->paths[i] = must(strdup(leaves[i].path));
		request->values[i] = must(strdup(leaves[i].value));
	}
	request->owner = owner;
	request->reader = reader;
	submit(store, request);
}

void store_write(struct store *store, const char *path, const char *value, uint32_t owner, int reader,
		 store_done_fn done, void *userdata)
{
	struct store_leaf leaf = {path, value};

	store_write_leaves(store, &leaf, 1, owner, reader, done, userdata);
}

void store_remove(struct store *store, const char *path, store_done_fn done, void *userdata)
{
	struct store_request *request = request_new(STORE_REMOVE, 1, done, userdata);

	request->paths[0] = must(strdup(path));
	submit(store, request);
}

void store_watch(struct store *store, const char *path, store_watch_fn event, void *userdata,
		 store_done_fn done)
{
	struct store_request *request = request_new(STORE_WATCH, 1, done, userdata);
	struct store_subscription *subscription = must(calloc(1, sizeof(*subscription)));

	subscription->watch = request->watch = ++store->last_watch;
	subscription->path = must(strdup(path));
	subscription->event = event;
	subscription->userdata = userdata;
	DL_APPEND(store->subscriptions, subscription);
	store->watches++;
	request->paths[0] = must(strdup(path));
	submit(store, request);
}

void store_unwatch(struct store *store, const char *path, store_watch_fn event, void *userdata)
{
	struct store_subscription *subscription;
	struct store_request *request;

	DL_FOREACH(store->subscriptions, subscription)
		if (subscription->event == event && subscription->userdata == userdata &&
		    !strcmp(subscription->path, path))
			break;
	if (!subscription)
		return;
	request = request_new(STORE_UNWATCH, 1, NULL, NULL);
	request->watch = subscription->watch;
	request->paths[0] = subscription->path;
	DL_DELETE(store->subscriptions, subscription);
	store->watches--;
	free(subscription);
	submit(store, request);
}

void store_forget(struct store *store, void *userdata)
{
	struct store_request *request;

	DL_FOREACH2(store->requests, request, all_next)
	if (request->userdata == userdata) {
		request->done = NULL;
		request->listed = NULL;
	}
}

bool store_is_connected(const struct store *store)
{
	return __atomic_load_n(&store->worker->connected, __ATOMIC_RELAXED);
}

uint64_t store_stalled_ms(const struct store *store)
{
	uint64_t since = __atomic_load_n(&store->worker->busy_since_ms, __ATOMIC_RELAXED);

	return since ? clock_ms() - since : 0;
}

unsigned store_watches(const struct store *store)
{
	return store->watches;
}
