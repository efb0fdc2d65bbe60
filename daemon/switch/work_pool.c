/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/work_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/switch/call.h"
#include "daemon/switch/hop.h"
#include "wire/hash.h"

#define STACK_SIZE 65536
#define FREE_S	   2 /* how long the end waits for threads */

/* What one account has to be done. It is `ready` while no thread does any of it, and goes with the last
 * work item. */
struct work_queue {
	struct account *account;
	struct work_item *items;
	struct work_queue *prev, *next;
	UT_hash_handle hh;
};

struct work_pool {
	struct switchboard *board;
	int finished_fd; /* tells the loop */
	struct event *event;

	pthread_mutex_t lock; /* of all below, and held for moments */
	pthread_cond_t wanted, ended;
	struct work_queue *queues; /* by account */
	struct work_queue *ready;  /* the first one's turn is next */
	struct work_item *finished;
	unsigned threads, idle, ready_count;
	bool is_over;
};

/* --- a thread --------------------------------------------------------------------------------- */

static void make_ready(struct work_pool *pool, struct work_queue *queue)
{
	DL_APPEND(pool->ready, queue);
	pool->ready_count++;
}

/* Does one work item of a queue; the lock is held before and after it. */
static void do_one(struct work_pool *pool, struct work_queue *queue)
{
	struct work_item *item = queue->items;
	const uint64_t one = 1;
	uint64_t from;

	pthread_mutex_unlock(&pool->lock);
	from = clock_thread_ns();
	item->work(item);
	item->used = clock_thread_ns() - from;
	pthread_mutex_lock(&pool->lock);
	DL_DELETE(queue->items, item);
	DL_APPEND(pool->finished, item);
	if (queue->items) {
		make_ready(pool, queue);
	} else {
		HASH_DEL(pool->queues, queue);
		free(queue);
	}
	if (write(pool->finished_fd, &one, sizeof(one)) < 0)
		abort(); /* no other process has this counter */
}

static void *work(void *argument)
{
	struct work_pool *pool = argument;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct work_queue *queue;

		while (!pool->ready && !pool->is_over) {
			pool->idle++;
			pthread_cond_wait(&pool->wanted, &pool->lock);
			pool->idle--;
		}
		queue = pool->ready;
		if (!queue)
			break;
		DL_DELETE(pool->ready, queue);
		pool->ready_count--;
		do_one(pool, queue);
	}
	pool->threads--;
	pthread_cond_signal(&pool->ended);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void start_thread(struct work_pool *pool)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all); /* the event loop handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (pthread_create(&thread, &attributes, work, pool) == 0)
		pool->threads++;
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void work_pool_finish(struct work_item *item)
{
	struct account *account = item->account;

	turns_spend_measured(&item->board->turns, account_line(account), item->used / TURNS_UNIT_NS);
	item->done(item);
	account_unref(account);
}

static void take_finished(struct work_pool *pool)
{
	struct work_item *finished, *item, *next;

	pthread_mutex_lock(&pool->lock);
	finished = pool->finished;
	pool->finished = NULL;
	pthread_mutex_unlock(&pool->lock);
	DL_FOREACH_SAFE(finished, item, next)
		work_pool_finish(item);
}

static void on_finished(int fd, short what, void *userdata)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		take_finished(userdata);
}

/* Returns whether a thread will do it. */
static bool work_pool_give(struct work_pool *pool, struct work_item *item)
{
	struct work_queue *queue;
	bool is_taken = true;

	pthread_mutex_lock(&pool->lock);
	HASH_FIND_PTR(pool->queues, &item->account, queue);
	if (queue) {
		DL_APPEND(queue->items, item);
	} else {
		if (pool->ready_count >= pool->idle && pool->threads < WORK_POOL_THREADS)
			start_thread(pool);
		queue = pool->threads > 0 ? calloc(1, sizeof(*queue)) : NULL;
		is_taken = queue != NULL;
	}
	if (is_taken && !queue->items) {
		queue->account = item->account;
		DL_APPEND(queue->items, item);
		HASH_ADD_PTR(pool->queues, account, queue);
		make_ready(pool, queue);
		pthread_cond_signal(&pool->wanted);
	}
	pthread_mutex_unlock(&pool->lock);
	return is_taken;
}

void work_item_give(struct work_item *item, struct switchboard *board, struct account *account)
{
	item->board = board;
	item->account = account_ref(account);
	item->used = 0;
	if (board->work_pool && work_pool_give(board->work_pool, item))
		return;
	item->work(item);
	work_pool_finish(item);
}

#ifdef XENMSG_INVARIANTS
void work_pool_await(struct work_pool *pool)
{
	const struct timespec pause = {.tv_nsec = 100000};

	pthread_mutex_lock(&pool->lock);
	while (pool->queues) {
		pthread_mutex_unlock(&pool->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	take_finished(pool);
}
#endif

/* --- life ------------------------------------------------------------------------------------- */

int work_pool_new(struct work_pool **out, struct switchboard *board)
{
	struct work_pool *pool = calloc(1, sizeof(*pool));
	pthread_condattr_t attributes;

	if (!pool)
		return -ENOMEM;
	pool->board = board;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* that of the day may be set */
	pthread_cond_init(&pool->ended, &attributes);
	pthread_condattr_destroy(&attributes);
	pool->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->finished_fd >= 0)
		pool->event =
			event_new(board->base, pool->finished_fd, EV_READ | EV_PERSIST, on_finished, pool);
	if (!pool->event || event_add(pool->event, NULL) < 0) {
		work_pool_free(pool);
		return -ENOMEM;
	}
	*out = pool;
	return 0;
}

void work_pool_free(struct work_pool *pool)
{
	struct timespec until;
	bool are_gone;

	if (!pool)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += FREE_S;
	pthread_mutex_lock(&pool->lock);
	pool->is_over = true;
	pthread_cond_broadcast(&pool->wanted);
	while (pool->threads > 0 && pthread_cond_timedwait(&pool->ended, &pool->lock, &until) == 0)
		;
	are_gone = pool->threads == 0;
	pthread_mutex_unlock(&pool->lock);
	take_finished(pool);
	free_event(pool->event);
	if (!are_gone)
		return; /* what is slow ends with the process, and so does what it uses */
	if (pool->finished_fd >= 0)
		close(pool->finished_fd);
	pthread_mutex_destroy(&pool->lock);
	pthread_cond_destroy(&pool->wanted);
	pthread_cond_destroy(&pool->ended);
	free(pool);
}

/* --- what is given back ----------------------------------------------------------------------- */

struct deferred_close {
	struct work_item item; /* the first member */
	void *memory;
	size_t size;
	int fds[DEFERRED_FDS];
	struct charge charge;
};

static void work_pool_give_back(struct work_item *item)
{
	struct deferred_close *closing = (struct deferred_close *)item;

	if (closing->memory)
		munmap(closing->memory, closing->size);
	descriptors_close(closing->fds, DEFERRED_FDS);
}

static void on_given_back(struct work_item *item)
{
	struct deferred_close *closing = (struct deferred_close *)item;

	charge_end(&closing->charge);
	free(closing);
}

void work_item_give_back(struct switchboard *board, void *memory, size_t size, const int fds[DEFERRED_FDS],
			 struct charge *charge)
{
	struct deferred_close *closing = calloc(1, sizeof(*closing)), here;
	uint64_t descriptors = 0;

	if (!closing) {
		here = (struct deferred_close){.memory = memory, .size = size};
		memcpy(here.fds, fds, sizeof(here.fds));
		work_pool_give_back(&here.item);
		return;
	}
	closing->item = (struct work_item){.work = work_pool_give_back, .done = on_given_back};
	closing->memory = memory;
	closing->size = size;
	memcpy(closing->fds, fds, sizeof(closing->fds));
	for (unsigned i = 0; i < DEFERRED_FDS; i++)
		descriptors += fds[i] >= 0;
	charge_init(&closing->charge, charge ? charge->account : NULL);
	if (charge && charge->held[QUOTA_DESCRIPTORS] < descriptors)
		descriptors = charge->held[QUOTA_DESCRIPTORS];
	if (charge && descriptors > 0)
		charge_pass(&closing->charge, charge, QUOTA_DESCRIPTORS, descriptors);
	work_item_give(&closing->item, board, closing->charge.account);
}
