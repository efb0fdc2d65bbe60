/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "cli/loop.h"

#define THREADS_FEW 8
#define SLOW_MS	    10 /* after so long what waits for them gets another one */

struct workers {
	void (*run)(struct work *work);
	void (*done)(struct work *work);
	struct event *finished;
	int pipe[2];
	unsigned given;	    /* that isn't done */
	unsigned started;   /* threads, ever */
	unsigned last;	    /* `taken` as of the last `slow` */
	struct event *slow; /* runs while some may wait */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t more;
	struct work *waiting; /* for a thread */
	unsigned idle, ended; /* threads */
	unsigned taken;	      /* that has waited, ever */
};

/* ---- in a thread ----------------------------------------------------------------------------- */

static void do_work(struct workers *workers, struct work *work)
{
	workers->run(work);
	/* A pointer is smaller than PIPE_BUF, so it is written as a whole. */
	if (write(workers->pipe[1], &work, sizeof(struct work *)) != (ssize_t)sizeof(struct work *))
		abort();
}

/* Waits for more. Returns NULL if enough threads do so already. */
static struct work *next_work(struct workers *workers)
{
	struct work *next;

	pthread_mutex_lock(&workers->lock);
	while (!workers->waiting && workers->idle < THREADS_FEW) {
		workers->idle++;
		pthread_cond_wait(&workers->more, &workers->lock);
		workers->idle--;
	}
	next = workers->waiting;
	if (next) {
		DL_DELETE(workers->waiting, next);
		workers->taken++;
	} else {
		workers->ended++;
	}
	pthread_mutex_unlock(&workers->lock);
	return next;
}

static void *run_thread(void *userdata)
{
	struct work *work = userdata;
	struct workers *workers = work->workers;

	do
		do_work(workers, work);
	while ((work = next_work(workers)));
	return NULL;
}

/* ---- in the loop ----------------------------------------------------------------------------- */

/* Makes a thread, which begins with this work. Returns 0 or a negative errno. */
static int start_thread(struct work *work)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run_thread, work);

	if (error)
		return -error;
	pthread_detach(thread);
	work->workers->started++;
	return 0;
}

static void watch_slow(struct workers *workers)
{
	const struct timeval pause = {.tv_usec = SLOW_MS * 1000};

	if (!evtimer_pending(workers->slow, NULL))
		evtimer_add(workers->slow, &pause);
}

/* Gives it to a thread that has nothing to do or may soon have nothing, or to a new one. */
int workers_give(struct workers *workers, struct work *work)
{
	unsigned count;
	bool waits;
	int r = 0;

	work->workers = workers;
	pthread_mutex_lock(&workers->lock);
	count = workers->started - workers->ended;
	waits = count > workers->given || count >= THREADS_FEW;
	if (waits)
		DL_APPEND(workers->waiting, work);
	pthread_mutex_unlock(&workers->lock);
	if (waits) {
		pthread_cond_signal(&workers->more);
		watch_slow(workers);
	} else {
		r = start_thread(work);
	}
	workers->given += r == 0;
	return r;
}

/* Gives each that waits a thread of its own, if no thread has taken one since the last time. */
static void on_slow(evutil_socket_t fd, short what, void *userdata)
{
	struct workers *workers = userdata;
	struct work *slow = NULL, *each, *next;
	bool any;

	pthread_mutex_lock(&workers->lock);
	if (workers->taken == workers->last) {
		slow = workers->waiting;
		workers->waiting = NULL;
	}
	workers->last = workers->taken;
	any = workers->waiting != NULL;
	pthread_mutex_unlock(&workers->lock);
	DL_FOREACH_SAFE(slow, each, next) {
		if (start_thread(each) == 0)
			continue;
		pthread_mutex_lock(&workers->lock);
		DL_APPEND(workers->waiting, each);
		pthread_mutex_unlock(&workers->lock);
		any = true;
	}
	if (any)
		watch_slow(workers);
}

static void on_finished(evutil_socket_t fd, short what, void *userdata)
{
	struct workers *workers = userdata;
	struct work *work;

	if (read(fd, &work, sizeof(struct work *)) != (ssize_t)sizeof(struct work *))
		return;
	workers->given--;
	workers->done(work);
}

struct workers *workers_new(struct event_base *base, void (*run)(struct work *work),
			    void (*done)(struct work *work))
{
	struct workers *workers = calloc(1, sizeof(*workers));

	if (!workers || pipe(workers->pipe) < 0) {
		free(workers);
		return NULL;
	}
	workers->run = run;
	workers->done = done;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->more, NULL);
	workers->slow = evtimer_new(base, on_slow, workers);
	workers->finished = loop_event(base, workers->pipe[0], EV_READ | EV_PERSIST, on_finished, workers);
	if (workers->slow && workers->finished)
		return workers;
	loop_event_free(workers->slow);
	loop_event_free(workers->finished);
	close(workers->pipe[0]);
	close(workers->pipe[1]);
	free(workers);
	return NULL;
}
