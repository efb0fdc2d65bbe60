/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/store_worker_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenstore.h>

#include "base/clock.h"
#include "base/log.h"
#include "wire/retry.h"
#include "wire/ut.h"

/* With more than so many in all, or so many that have ended, one that has ended is taken back from XenStore.
 * A guest has 100 at least. */
#define WATCHED_MOST 64
#define ENDED_MOST   16

static struct store_watched *find_watched(struct store_worker *worker, unsigned watch)
{
	struct store_watched *watched;

	DL_SEARCH_SCALAR(worker->watched, watched, watch, watch);
	return watched;
}

unsigned watched_of(const struct store_worker *worker, unsigned token)
{
	struct store_watched *watched;

	HASH_FIND(hh, worker->by_token, &token, sizeof(token), watched);
	return watched ? watched->watch : 0;
}

static void watched_free(struct store_worker *worker, struct store_watched *watched)
{
	DL_DELETE(worker->watched, watched);
	HASH_DEL(worker->by_token, watched);
	free(watched->path);
	free(watched);
}

/*
 * At least 16 letters, as many bytes as a message's head has (struct xsd_sockmsg in Xen's io/xs_wire.h). When
 * the kernel's device fails the last part of a request, libxenstore from 4.19 on sees a short writev(),
 * writes that part again, which is the token, and waits for an answer. To the device it begins another
 * message: one without a whole head would wait there for its rest, and libxenstore for ever. A head of
 * letters says that more follows than fits, which fails, so libxenstore gives up, as it always did.
 */
static void print_token(char token[17], const struct store_watched *watched)
{
	snprintf(token, 17, "%016u", watched->token);
}

static int set_watch(struct store_worker *worker, const struct store_watched *watched)
{
	char token[17];

	print_token(token, watched);
	if (xs_watch(worker->xs, watched->path, token) || errno == EEXIST)
		return 0;
	return store_error(errno);
}

static int end_watch(struct store_worker *worker, const struct store_watched *watched)
{
	char token[17];

	print_token(token, watched);
	return xs_unwatch(worker->xs, watched->path, token) ? 0 : store_error(errno);
}

/* Returns one that is nobody's, with that path, or the first one if it is NULL. */
static struct store_watched *nobodys(const struct store_worker *worker, const char *path)
{
	struct store_watched *watched;

	DL_FOREACH(worker->watched, watched)
		if (!watched->watch && (!path || !strcmp(watched->path, path)))
			return watched;
	return NULL;
}

static void end_one(struct store_worker *worker, struct store_watched *watched, bool alive)
{
	if (alive)
		(void)end_watch(worker, watched); /* if the connection is gone, so is the watch */
	watched_free(worker, watched);
}

/* Takes back those that are nobody's, the oldest first, while more than so many are watched. Whether there
 * was one. */
static bool end_nobodys(struct store_worker *worker, unsigned most, bool alive)
{
	struct store_watched *watched;
	bool any = false;
	unsigned count;

	DL_COUNT(worker->watched, watched, count);
	for (; count > most && (watched = nobodys(worker, NULL)) != NULL; count--) {
		end_one(worker, watched, alive);
		any = true;
	}
	return any;
}

/* Takes back those that have ended beyond the most that may stay. */
static void end_some(struct store_worker *worker)
{
	struct store_watched *watched;
	unsigned used = 0;

	DL_FOREACH(worker->watched, watched)
		used += watched->watch != 0;
	end_nobodys(worker, used + ENDED_MOST < WATCHED_MOST ? used + ENDED_MOST : WATCHED_MOST,
		    worker->connected);
}

static bool is_refusal(int error)
{
	return error == -EDQUOT || error == -E2BIG || error == -ENOSPC;
}

static void try_refused_at(struct store_worker *worker, unsigned after_ms)
{
	worker->retry_after_ms = after_ms;
	worker->retry_at_ms = clock_ms() + worker->retry_after_ms;
}

static void try_refused_later(struct store_worker *worker)
{
	try_refused_at(worker, retry_pause(RETRY_ALL_OF_US, worker->retry_after_ms));
}

static void store_watched_refuse(struct store_worker *worker, struct store_watched *watched)
{
	watched->refused = true;
	if (worker->refused_watches++ > 0)
		return;
	log_warning(
		"store: the quota of watches is used up: %s, and perhaps others, are watched when there is room",
		watched->path);
	worker->retry_after_ms = 0;
	try_refused_later(worker);
}

/* Returns the one that waits in place of a needed one; NULL: there is none. */
static struct store_watched *who_gives_way(const struct store_worker *worker)
{
	struct store_watched *watched, *last = NULL;

	DL_FOREACH(worker->watched, watched)
		if (watched->watch && !watched->needed && !watched->refused)
			last = watched;
	return last;
}

/* Whether there is room now that another one, which is set, waits. */
static bool has_made_room(struct store_worker *worker)
{
	struct store_watched *other = who_gives_way(worker);

	if (!other)
		return false;
	(void)end_watch(worker, other); /* if the connection is gone, the next one is made without it */
	store_watched_refuse(worker, other);
	return true;
}

/* One was refused, which the connection hardly outlives. Whether it is still there. */
static bool outlives_refusal(struct store_worker *worker, struct store_watched *watched)
{
	struct store_watched *other = watched->needed ? who_gives_way(worker) : NULL;
	bool alive;

	worker->refused_at_ms = clock_ms();
	free(xs_read(worker->xs, XBT_NULL, "domid", NULL)); /* libxenstore may not have noticed the end yet */
	alive = store_drain_events(worker);
	if (!watched->refused)
		store_watched_refuse(worker, other && !alive ? other : watched);
	if (end_nobodys(worker, 0, alive))
		try_refused_at(worker, 0);
	return alive;
}

/* Returns who is tried first. */
static struct store_watched *next_refused(const struct store_worker *worker)
{
	struct store_watched *watched, *first = NULL;

	DL_FOREACH(worker->watched, watched)
		if (watched->refused && (!first || watched->needed > first->needed))
			first = watched;
	return first;
}

void watched_try_refused(struct store_worker *worker)
{
	struct store_watched *watched;
	int r;

	store_mark_busy(worker);
	while ((watched = next_refused(worker)) != NULL) {
		r = set_watch(worker, watched);
		if (r < 0) {
			try_refused_later(worker);
			if (is_refusal(r))
				outlives_refusal(worker, watched);
			break;
		}
		watched->refused = false;
		if (--worker->refused_watches == 0)
			log_info("store: all is watched again");
	}
	store_mark_idle(worker);
}

static struct store_watched *watched_new(struct store_worker *worker, const struct store_request *request)
{
	struct store_watched *watched = calloc(1, sizeof(*watched));

	if (!watched)
		return NULL;
	watched->watch = watched->token = request->watch;
	watched->needed = request->needed;
	watched->path = strdup(request->paths[0]);
	if (watched->path)
		HASH_ADD(hh, worker->by_token, token, sizeof(watched->token), watched);
	if (!watched->path || !HASH_ADDED(watched)) {
		free(watched->path);
		free(watched);
		return NULL;
	}
	return watched;
}

/* Whether there is one with that path that was nobody's. It fires, as one does that is set. */
static bool takes_over(struct store_worker *worker, const struct store_request *request)
{
	struct store_watched *watched = nobodys(worker, request->paths[0]);

	if (!watched)
		return false;
	watched->watch = request->watch;
	watched->needed = request->needed;
	store_push_event(worker, watched->watch, watched->path);
	return true;
}

int watched_add(struct store_worker *worker, struct store_request *request)
{
	struct store_watched *watched;
	int r = -ENOTCONN;

	if (takes_over(worker, request))
		return 0;
	watched = watched_new(worker, request);
	if (!watched)
		return -ENOMEM;
	if (worker->connected && worker->refused_watches > 0 && !(watched->needed && has_made_room(worker))) {
		store_watched_refuse(worker, watched);
		r = -EDQUOT;
	} else if (worker->connected) {
		r = set_watch(worker, watched);
	}
	/* also when there is no connection, or it has just broken: it is set on the next one */
	DL_APPEND(worker->watched, watched);
	if (is_refusal(r) && !watched->refused) {
		outlives_refusal(worker, watched);
		r = watched->refused ? r : 0;
	} else if (r < 0 && !watched->refused && worker->connected && store_drain_events(worker)) {
		watched_free(worker, watched);
	}
	return r;
}

int watched_remove(struct store_worker *worker, struct store_request *request)
{
	struct store_watched *watched = find_watched(worker, request->watch);
	bool was_refused = watched && watched->refused;

	if (!watched)
		return 0;
	DL_DELETE(worker->watched, watched);
	DL_APPEND(worker->watched, watched); /* the youngest of those that have ended */
	watched->watch = 0;
	if (was_refused) {
		worker->refused_watches--;
		watched_free(worker, watched);
	} else if (request->at_once) {
		end_one(worker, watched, worker->connected);
	} else if (worker->refused_watches > 0) {
		end_nobodys(worker, 0, worker->connected);
	} else {
		end_some(worker);
	}
	if (!was_refused && worker->refused_watches > 0)
		try_refused_at(worker, 0);
	return 0;
}

bool watched_set_all(struct store_worker *worker)
{
	struct store_watched *watched;

	end_nobodys(worker, 0, false); /* they were the last connection's */
	DL_FOREACH(worker->watched, watched) {
		int r = watched->refused ? 0 : set_watch(worker, watched);

		if (is_refusal(r)) {
			if (!outlives_refusal(worker, watched))
				return false;
		} else if (r < 0) {
			log_error("store: can't watch %s again: %s", watched->path, strerror(-r));
			if (!store_drain_events(worker))
				return false;
		}
	}
	return true;
}
