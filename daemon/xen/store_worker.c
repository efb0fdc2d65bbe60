/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/store_worker_internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <xenstore.h>

#include "base/clock.h"
#include "base/log.h"
#include "wire/retry.h"
#include "wire/ut.h"

/* Conflicts and exhausted quotas pass within milliseconds when others are busy at start-up. The requests
 * behind ours in the queue wait along, so it gives up after about a second and a half. */
#define TRIES	       16
#define QUOTA_TRIES    8
#define BACKOFF_MAX_MS 200
#define LOOK_MS	       10000 /* after an end of the connection that nobody else has noticed */
#define EVENTS_AT_ONCE 256
#define TOGETHER_MAX   8  /* writes in one transaction, for whose end events wait */
#define OVERTAKEN_MAX  64 /* reads that are looked past for them, with the lock */

void store_request_free(struct store_request *request)
{
	if (!request)
		return;
	for (unsigned i = 0; i < request->count; i++) {
		if (request->paths)
			free(request->paths[i]);
		if (request->values)
			free(request->values[i]);
	}
	free(request->paths);
	free(request->values);
	free(request->value);
	free(request->names);
	free(request);
}

void store_event_free(struct store_event *event)
{
	free(event->key);
	free(event);
}

void store_requests_free(struct store_request **requests)
{
	struct store_request *request, *next;

	DL_FOREACH_SAFE(*requests, request, next)
		store_request_free(request);
	*requests = NULL;
}

void store_events_free(struct store_event **events)
{
	struct store_event *event, *next;

	HASH_ITER(hh, *events, event, next) {
		HASH_DEL(*events, event);
		store_event_free(event);
	}
}

static void *store_worker_wait_for_end(void *userdata)
{
	for (;;)
		pause();
	return userdata;
}

/* xs_close() cancels libxenstore's thread. For the first one that is cancelled, glibc loads a library, and
 * ends the process if it can't, as without any descriptor. So it does that while there are some. */
static int prepare_to_cancel(void)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, store_worker_wait_for_end, NULL);

	if (r != 0)
		return -r;
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	return 0;
}

int store_worker_new(struct store_worker **result)
{
	struct store_worker *worker = calloc(1, sizeof(*worker));
	pthread_condattr_t attributes;
	int r;

	if (!worker)
		return -ENOMEM;
	worker->references = 1;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&worker->finished_changed, &attributes);
	pthread_condattr_destroy(&attributes);
	worker->command_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	worker->result_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->command_fd < 0 || worker->result_fd < 0) {
		r = -errno;
		goto fail;
	}
	r = prepare_to_cancel();
	if (r < 0)
		goto fail;
	errno = 0;
	worker->xs = xs_open(0);
	if (!worker->xs) {
		r = errno ? -errno : -ENOTCONN;
		goto fail;
	}
	worker->connected = true;
	*result = worker;
	return 0;
fail:
	store_worker_unref(worker);
	return r;
}

void store_worker_unref(struct store_worker *worker)
{
	struct store_watched *watched, *next;
	bool last;

	pthread_mutex_lock(&worker->lock);
	last = --worker->references == 0;
	pthread_mutex_unlock(&worker->lock);
	if (!last)
		return;

	store_requests_free(&worker->queue);
	store_requests_free(&worker->results);
	store_events_free(&worker->events);
	HASH_CLEAR(hh, worker->by_token);
	DL_FOREACH_SAFE(worker->watched, watched, next) {
		free(watched->path);
		free(watched);
	}
	if (worker->xs)
		xs_close(worker->xs);
	if (worker->command_fd >= 0)
		close(worker->command_fd);
	if (worker->result_fd >= 0)
		close(worker->result_fd);
	pthread_cond_destroy(&worker->finished_changed);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("store: can't wake the event loop: %s", strerror(errno));
}

void store_mark_busy(struct store_worker *worker)
{
	__atomic_store_n(&worker->busy_since_ms, clock_ms(), __ATOMIC_RELAXED);
}

void store_mark_idle(struct store_worker *worker)
{
	__atomic_store_n(&worker->busy_since_ms, 0, __ATOMIC_RELAXED);
}

static bool is_stopping(struct store_worker *worker)
{
	bool stopping;

	pthread_mutex_lock(&worker->lock);
	stopping = worker->stopping;
	pthread_mutex_unlock(&worker->lock);
	return stopping;
}

/* Waits before a retry, unless the worker is to stop. New requests don't end the wait, so the descriptor that
 * they signal is left alone, and the wait is cut into short pieces instead. */
static void back_off(struct store_worker *worker, unsigned attempt)
{
	unsigned ms = attempt < 8 ? 1u << attempt : BACKOFF_MAX_MS;

	store_mark_idle(worker);
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	ms += (unsigned)(clock_ms() ^ (uint64_t)getpid()) % (ms + 1) / 2; /* not in step with other daemons */
	for (; ms > 0 && !is_stopping(worker); ms -= ms < 20 ? ms : 20) {
		struct timespec piece = {.tv_nsec = (ms < 20 ? (long)ms : 20) * 1000000};

		nanosleep(&piece, NULL);
	}
	store_mark_busy(worker);
}

/* A transaction that XenStore has forgotten, since it began anew or lacked something, isn't EAGAIN to all of
 * them: oxenstored says EIO, xenstored ENOENT, and either ENOMEM. */
static bool is_temporary(int error)
{
	static const int errors[] = {EAGAIN, EDQUOT, EBUSY, ENOSPC, EIO, ENOENT, ENOMEM};

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (error == -errors[i])
			return true;
	return false;
}

/* Returns the event of the first `length` bytes of the path, and makes it if there is none; NULL: no
 * memory. */
static struct store_event *event_of(struct store_worker *worker, unsigned watch, const char *path,
				    size_t length)
{
	struct store_event *event;
	char *key;

	if (asprintf(&key, "%u %.*s", watch, (int)length, path) < 0)
		return NULL;
	HASH_FIND_STR(worker->events, key, event);
	if (event) {
		free(key);
		return event;
	}
	event = calloc(1, sizeof(*event));
	if (!event) {
		free(key);
		return NULL;
	}
	event->key = key;
	event->path = strchr(key, ' ') + 1;
	event->watch = watch;
	HASH_ADD_KEYPTR(hh, worker->events, event->key, strlen(event->key), event);
	if (!HASH_ADDED(event)) {
		free(event);
		free(key);
		return NULL;
	}
	return event;
}

/* Returns the length of "/local/domain/N" at the beginning of a path below it; 0: the path isn't one. */
static size_t domain_of(const char *path)
{
	static const char root[] = "/local/domain/";
	const char *end;

	if (strncmp(path, root, sizeof(root) - 1))
		return 0;
	end = strchr(path + sizeof(root) - 1, '/');
	return end ? (size_t)(end - path) : 0;
}

static void add_event(struct store_worker *worker, unsigned watch, const char *path)
{
	size_t length = domain_of(path);
	struct store_event *domain = length ? event_of(worker, watch, path, length) : NULL, *event;

	if (domain && domain->below >= STORE_BELOW_MAX) {
		domain->fires = true;
		return;
	}
	event = event_of(worker, watch, path, strlen(path));
	if (!event)
		return;
	if (domain && !event->fires)
		domain->below++;
	event->fires = true;
}

/* Else the store has been signalled, and hasn't taken it over yet. */
static bool has_nothing_to_tell(const struct store_worker *worker)
{
	return !worker->results && !worker->events;
}

void store_push_event(struct store_worker *worker, unsigned watch, const char *path)
{
	bool was_empty;

	pthread_mutex_lock(&worker->lock);
	was_empty = has_nothing_to_tell(worker);
	add_event(worker, watch, path);
	pthread_mutex_unlock(&worker->lock);
	if (was_empty)
		signal_fd(worker->result_fd);
}

static void take_event(struct store_worker *worker, char **untrusted_event)
{
	const char *path = untrusted_event[XS_WATCH_PATH];
	unsigned token, watch;

	if (strlen(path) > STORE_PATH_MAX || sscanf(untrusted_event[XS_WATCH_TOKEN], "%u", &token) != 1)
		return;
	watch = watched_of(worker, token);
	if (watch)
		store_push_event(worker, watch, path);
}

/* Others cause events, so the number is bounded and requests have their turn in between. */
bool store_drain_events(struct store_worker *worker)
{
	char **untrusted_event;

	for (unsigned i = 0; i < EVENTS_AT_ONCE; i++) {
		untrusted_event = xs_check_watch(worker->xs);
		if (!untrusted_event)
			return errno == EAGAIN;
		take_event(worker, untrusted_event);
		free(untrusted_event);
	}
	return true;
}

static int write_leaves(struct store_worker *worker, struct store_request *request)
{
	unsigned quota_tries = 0;
	int r;

	for (unsigned attempt = 0;; attempt++) {
		r = store_write_once(worker->xs, &request, 1);
		if (r >= 0 || !is_temporary(r) || attempt + 1 == TRIES)
			return r;
		if (r != -EAGAIN && ++quota_tries == QUOTA_TRIES)
			return r;
		if (!store_drain_events(worker)) /* not a quota: the connection is gone */
			return -ENOTCONN;
		back_off(worker, attempt);
	}
}

static int read_node(struct store_worker *worker, struct store_request *request)
{
	unsigned size = 0;

	request->value = xs_read(worker->xs, XBT_NULL, request->paths[0], &size);
	request->size = size;
	return request->value ? 0 : store_error(errno);
}

/* 0: domain 0 owns the node, and nobody else may write it; -EPERM. */
static int check_owner(struct store_worker *worker, const char *path)
{
	unsigned count = 0;
	struct xs_permissions *permissions = xs_get_permissions(worker->xs, XBT_NULL, path, &count);
	int r = permissions ? 0 : store_error(errno);

	if (r == 0 && (count == 0 || permissions[0].id != 0))
		r = -EPERM;
	for (unsigned i = 0; i < count && r == 0; i++)
		if (permissions[i].perms & XS_PERM_WRITE)
			r = -EPERM;
	free(permissions);
	return r;
}

/* The owner is looked at again, since the node may have been made anew between the two requests. */
static int read_toolstacks(struct store_worker *worker, struct store_request *request)
{
	int r = check_owner(worker, request->paths[0]);

	if (r == 0)
		r = read_node(worker, request);
	if (r == 0)
		r = check_owner(worker, request->paths[0]);
	if (r < 0) {
		free(request->value);
		request->value = NULL;
	}
	return r;
}

static int execute_request(struct store_worker *worker, struct store_request *request)
{
	const char *path = request->paths[0];

	switch (request->kind) {
	case STORE_READ:
		return read_node(worker, request);
	case STORE_READ_TOOLSTACKS:
		return read_toolstacks(worker, request);
	case STORE_LIST:
		request->names = xs_directory(worker->xs, XBT_NULL, path, &request->names_count);
		return request->names ? 0 : store_error(errno);
	case STORE_WRITE:
		return write_leaves(worker, request);
	case STORE_REMOVE:
		if (xs_rm(worker->xs, XBT_NULL, path) || errno == ENOENT)
			return 0;
		return store_error(errno);
	case STORE_WATCH:
		return watched_add(worker, request);
	case STORE_UNWATCH:
		return watched_remove(worker, request);
	}
	return -EINVAL;
}

static void set_connected(struct store_worker *worker, bool connected)
{
	if (worker->connected == connected)
		return;
	__atomic_store_n(&worker->connected, connected, __ATOMIC_RELAXED);
	if (!connected) /* if only because of a refused watch, that has been logged */
		worker->reconnect_now =
			worker->refused_at_ms && clock_ms_since(worker->refused_at_ms) < RETRY_EACH_MS;
	if (worker->reconnect_now)
		return;
	if (connected)
		log_info("store: connected to XenStore again");
	else
		log_error("store: the connection to XenStore is lost; trying again every %u ms",
			  RETRY_EACH_MS);
}

static void reconnect(struct store_worker *worker)
{
	store_mark_busy(worker);
	worker->tried_at_ms = clock_ms();
	if (worker->xs)
		xs_close(worker->xs);
	worker->xs = xs_open(0);
	if (worker->xs) {
		if (watched_set_all(worker)) {
			set_connected(worker, true);
			worker->reconnect_now = false;
		}
	} else {
		worker->reconnect_now = false;
	}
	store_mark_idle(worker);
}

/* In how many ms the next attempt is due: a connection may be taken and break at once. */
static uint64_t reconnect_in_ms(const struct store_worker *worker)
{
	uint64_t since = worker->tried_at_ms ? clock_ms_since(worker->tried_at_ms) : RETRY_EACH_MS;

	return worker->reconnect_now || since >= RETRY_EACH_MS ? 0 : RETRY_EACH_MS - since;
}

/* Whether the request can be carried out: what is watched is noted also without a connection. */
static bool request_is_possible(const struct store_worker *worker, const struct store_request *request)
{
	return worker->connected || request->kind == STORE_WATCH || request->kind == STORE_UNWATCH;
}

/* Whether the request is carried out: while stopping, only what others can see is. */
static bool request_is_needed(const struct store_request *request, bool stopping)
{
	return !stopping || request->kind == STORE_WRITE || request->kind == STORE_REMOVE;
}

static bool only_reads(const struct store_request *request)
{
	return request->kind == STORE_READ || request->kind == STORE_READ_TOOLSTACKS ||
	       request->kind == STORE_LIST;
}

/* Takes a request from the queue, or several that write, which may overtake those that only read. Returns how
 * many. */
static unsigned begin_some(struct store_worker *worker, struct store_request *requests[TOGETHER_MAX])
{
	struct store_request *request, *next;
	unsigned count = 0, overtaken = 0;

	pthread_mutex_lock(&worker->lock);
	DL_FOREACH_SAFE(worker->queue, request, next) {
		if (count && only_reads(request) && overtaken++ < OVERTAKEN_MAX)
			continue;
		if (count == TOGETHER_MAX || (count && request->kind != STORE_WRITE))
			break;
		DL_DELETE(worker->queue, request);
		request->has_begun = true;
		requests[count++] = request;
		if (request->kind != STORE_WRITE)
			break;
	}
	pthread_mutex_unlock(&worker->lock);
	return count;
}

static void carry_out(struct store_worker *worker, struct store_request *request)
{
	request->error = request_is_possible(worker, request) ? execute_request(worker, request) : -ENOTCONN;
	if (request->error < 0 && request->error != -ENOENT && worker->connected &&
	    !store_drain_events(worker))
		request->error = -ENOTCONN;
}

/* Carries out one request, so that watch events are handled between two, or writes in one transaction: what
 * is written comes by twos and threes as a rule, and where many guests start at once by dozens. Where that
 * fails each is tried by itself. False: there was none. */
static bool serve_some(struct store_worker *worker)
{
	struct store_request *requests[TOGETHER_MAX];
	unsigned count = begin_some(worker, requests);
	bool was_empty;

	if (!count)
		return false;
	if (request_is_needed(requests[0], is_stopping(worker))) {
		store_mark_busy(worker);
		if (count == 1 || !worker->connected || store_write_once(worker->xs, requests, count) < 0)
			for (unsigned i = 0; i < count; i++)
				carry_out(worker, requests[i]);
		store_mark_idle(worker);
	}
	pthread_mutex_lock(&worker->lock);
	was_empty = has_nothing_to_tell(worker);
	for (unsigned i = 0; i < count; i++)
		DL_APPEND(worker->results, requests[i]);
	pthread_mutex_unlock(&worker->lock);
	if (was_empty)
		signal_fd(worker->result_fd);
	return true;
}

/* Returns how long the thread may sleep if nothing wakes it, in ms. */
static int next_turn_ms(const struct store_worker *worker)
{
	uint64_t now = clock_ms();

	if (!worker->connected)
		return (int)reconnect_in_ms(worker);
	if (worker->refused_watches == 0 || worker->retry_at_ms >= now + LOOK_MS)
		return LOOK_MS;
	return worker->retry_at_ms > now ? (int)(worker->retry_at_ms - now) : 0;
}

void *store_worker_run(void *userdata)
{
	struct store_worker *worker = userdata;
	bool stopping = false;

	while (!stopping) {
		struct pollfd fds[2] = {{.fd = worker->command_fd, .events = POLLIN},
					{.fd = -1, .events = POLLIN}};
		uint64_t count;

		if (worker->connected)
			fds[1].fd = xs_fileno(worker->xs);
		poll(fds, 2, next_turn_ms(worker));
		if (fds[0].revents && read(worker->command_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			log_error("store: can't read the command descriptor: %s", strerror(errno));
		stopping = is_stopping(worker);
		if (!worker->connected && !stopping && reconnect_in_ms(worker) == 0)
			reconnect(worker);
		if (worker->connected && worker->refused_watches > 0 && clock_ms() >= worker->retry_at_ms)
			watched_try_refused(worker);
		/* A connection that was lost only by a refused watch is made anew before the next request. */
		do
			if (worker->connected && !store_drain_events(worker))
				set_connected(worker, false);
		while ((stopping || !worker->reconnect_now) && serve_some(worker));
	}
	if (worker->xs)
		xs_close(worker->xs);
	worker->xs = NULL;
	pthread_mutex_lock(&worker->lock);
	worker->finished = true;
	pthread_cond_broadcast(&worker->finished_changed);
	pthread_mutex_unlock(&worker->lock);
	store_worker_unref(worker);
	return NULL;
}
