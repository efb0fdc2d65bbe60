/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/work_pool.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/cost.h"
#include "base/descriptors.h"
#include "base/image.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/switch/call.h"
#include "daemon/switch/hop.h"
#include "wire/ut.h"
#include "wire/libc.h"

#define STACK_SIZE 65536
#define FREE_S	   2 /* how long the end waits for threads */
#define TRY_MS	   1000
#define RETRY_MS   100 /* when no thread could be made, or take a socket */
#define UNPAID_MAX 8   /* sockets that wait for their close */

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
	struct event *event, *retry;
	struct work_item *again;	/* sockets that are still to be closed */
	struct deferred_close *sockets; /* utlist: all that no thread has, too */
	unsigned unpaid;		/* of them */
	bool takes_sockets;

	pthread_mutex_t lock; /* of all below, and held for moments */
	pthread_cond_t wanted, changed;
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

/* One of the queue's items is done, or over. */
static void queue_go_on(struct work_pool *pool, struct work_queue *queue)
{
	if (queue->items) {
		make_ready(pool, queue);
		return;
	}
	HASH_DEL(pool->queues, queue);
	free(queue);
}

/* Does one work item of a queue; the lock is held before and after it. Returns whether the thread ends, and
 * posts `gone` then when it may. */
static bool do_one(struct work_pool *pool, struct work_queue *queue, sem_t *gone)
{
	struct work_item *item = queue->items;
	const bool ends_thread = item->ends_thread;
	const uint64_t one = 1;
	uint64_t from;

	item->gone = gone;
	pthread_mutex_unlock(&pool->lock);
	from = clock_thread_ns();
	item->work(item);
	item->used = clock_thread_ns() - from;
	pthread_mutex_lock(&pool->lock);
	DL_DELETE(queue->items, item);
	DL_APPEND(pool->finished, item);
	if (!ends_thread)
		queue_go_on(pool, queue);
	if (write(pool->finished_fd, &one, sizeof(one)) < 0)
		abort(); /* no other process has this counter */
	pthread_cond_signal(&pool->changed);
	return ends_thread;
}

static void *work(void *argument)
{
	struct work_pool *pool = argument;
	sem_t gone;

	sem_init(&gone, 0, 0);
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
		if (do_one(pool, queue, &gone)) {
			pthread_mutex_unlock(&pool->lock);
			while (sem_wait(&gone) < 0)
				;
			return NULL;
		}
	}
	pool->threads--;
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Starts one more if there are so `many` accounts more to work for than threads that wait. */
static void look_for_thread(struct work_pool *pool, unsigned many)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;

	if (pool->ready_count + many <= pool->idle || pool->threads >= WORK_POOL_THREADS)
		return;
	sigfillset(&all); /* the event loop handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (pthread_create(&thread, &attributes, work, pool) == 0)
		pool->threads++;
	else if (pool->threads == 0)
		timer_start(pool->retry, RETRY_MS); /* what is ready has nobody */
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

/* Likewise; the thread ends behind it, and is none of the pool's any more. */
static void finish_thread(struct work_pool *pool, struct work_item *item)
{
	const struct account *account = item->account;
	struct work_queue *queue;
	sem_t *gone = item->gone;

	work_pool_finish(item);
	pthread_mutex_lock(&pool->lock);
	HASH_FIND_PTR(pool->queues, &account, queue);
	queue_go_on(pool, queue);
	pool->threads--;
	look_for_thread(pool, 0);
	pthread_cond_signal(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
	sem_post(gone);
}

static void take_finished(struct work_pool *pool)
{
	struct work_item *finished, *item, *next;

	pthread_mutex_lock(&pool->lock);
	finished = pool->finished;
	pool->finished = NULL;
	pthread_mutex_unlock(&pool->lock);
	DL_FOREACH_SAFE(finished, item, next)
		if (item->ends_thread)
			finish_thread(pool, item);
		else
			work_pool_finish(item);
}

static void on_finished(int fd, short what, void *userdata)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		take_finished(userdata);
}

/* Returns whether a thread will do it. */
static bool work_pool_give(struct work_pool *pool, struct work_item *item, struct account *account)
{
	struct work_queue *queue;

	pthread_mutex_lock(&pool->lock);
	HASH_FIND_PTR(pool->queues, &account, queue);
	if (!queue) {
		look_for_thread(pool, 1);
		queue = pool->threads > 0 ? calloc(1, sizeof(*queue)) : NULL;
		if (queue) {
			queue->account = account;
			HASH_ADD_PTR(pool->queues, account, queue);
		}
		if (queue && !HASH_ADDED(queue)) {
			free(queue);
			queue = NULL;
		}
		if (queue) {
			make_ready(pool, queue);
			pthread_cond_signal(&pool->wanted);
		}
	}
	if (queue) {
		item->board = pool->board;
		item->account = account_ref(account);
		DL_APPEND(queue->items, item);
	}
	pthread_mutex_unlock(&pool->lock);
	return queue != NULL;
}

void work_item_give(struct work_item *item, struct switchboard *board, struct account *account)
{
	item->board = board;
	if (board->work_pool && work_pool_give(board->work_pool, item, account))
		return;
	item->account = account_ref(account);
	item->used = 0;
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
		take_finished(pool); /* for which threads wait that end */
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	take_finished(pool);
}
#endif

/* --- what is given back ----------------------------------------------------------------------- */

struct deferred_close {
	struct work_item item; /* the first member */
	void *memory;
	size_t size;
	int fds[DEFERRED_FDS];
	struct charge charge;
	/* Of a socket. */
	struct work_pool *pool;
	int error; /* why the thread hasn't got it */
	struct deferred_close *prev, *next;
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

/* Lets it pay for so many descriptors, as far as `charge` does. */
static void take_charge(struct deferred_close *closing, struct charge *charge, uint64_t descriptors)
{
	charge_init(&closing->charge, charge ? charge->account : NULL);
	if (charge && charge->held[QUOTA_DESCRIPTORS] < descriptors)
		descriptors = charge->held[QUOTA_DESCRIPTORS];
	if (charge && descriptors > 0)
		charge_pass(&closing->charge, charge, QUOTA_DESCRIPTORS, descriptors);
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
	take_charge(closing, charge, descriptors);
	work_item_give(&closing->item, board, closing->charge.account);
}

/* --- sockets ---------------------------------------------------------------------------------- */

/* Replaces the descriptor table that all threads share by one that holds nothing but `kept`. */
static int own_table(int kept)
{
	if (close_range((unsigned)kept + 1, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		return -errno;
	return kept > 0 && close_range(0, (unsigned)kept - 1, 0) < 0 ? -errno : 0;
}

/* Takes over the descriptor that the process's first thread has under this number. */
static void take_over_socket(struct work_item *item)
{
	struct deferred_close *closing = (struct deferred_close *)item;
	int process, r = own_table(closing->pool->finished_fd);

	if (r == 0 &&
	    ((process = pidfd_open(getpid(), 0)) < 0 || pidfd_getfd(process, closing->fds[0], 0) < 0))
		r = -errno;
	closing->error = r;
}

/* Makes what closes it. NULL: out of memory. */
static struct deferred_close *closing_new(struct work_pool *pool, int fd,
					  void (*done)(struct work_item *item))
{
	struct deferred_close *closing = calloc(1, sizeof(*closing));

	if (closing)
		*closing = (struct deferred_close){
			.item = {.work = take_over_socket, .done = done, .ends_thread = true},
			.fds = {fd},
			.pool = pool,
		};
	return closing;
}

static void close_later(struct deferred_close *closing, int error)
{
	log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR,
		    "closing what programs left in their sockets: %s", strerror(-error));
	DL_APPEND(closing->pool->again, &closing->item);
	timer_start(closing->pool->retry, RETRY_MS);
}

static void close_by_thread(struct deferred_close *closing)
{
	struct switchboard *board = closing->pool->board;

	switch_spend(board, closing->charge.account, COST_CLOSING);
	if (!work_pool_give(closing->pool, &closing->item, NULL))
		close_later(closing, -EAGAIN);
}

static bool is_unpaid(const struct deferred_close *closing)
{
	return closing->charge.held[QUOTA_DESCRIPTORS] == 0;
}

/* The thread has it, too, so this close is not the last. */
static void on_socket_taken(struct work_item *item)
{
	struct deferred_close *closing = (struct deferred_close *)item;

	if (closing->error < 0) {
		close_later(closing, closing->error);
		return;
	}
	DL_DELETE(closing->pool->sockets, closing);
	closing->pool->unpaid -= is_unpaid(closing);
	close(closing->fds[0]);
	on_given_back(item);
}

void work_pool_close_socket(struct switchboard *board, int fd, struct charge *charge)
{
	struct deferred_close *closing;

	if (!board->work_pool || !board->work_pool->takes_sockets) {
		close(fd);
		return;
	}
	closing = closing_new(board->work_pool, fd, on_socket_taken);
	if (!closing) {
		log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR, "out of memory: a socket stays open");
		return;
	}
	take_charge(closing, charge, 1);
	DL_APPEND(board->work_pool->sockets, closing);
	board->work_pool->unpaid += is_unpaid(closing);
	close_by_thread(closing);
}

bool work_pool_is_behind(const struct work_pool *pool)
{
	return pool && pool->unpaid >= UNPAID_MAX;
}

void work_pool_write_image(const struct work_pool *pool, struct image *image)
{
	struct deferred_close *closing;

	DL_FOREACH(pool->sockets, closing) {
		image_section(image, IMAGE_CLOSING);
		image_fd(image, &closing->fds[0]);
	}
}

void work_pool_read_image(struct switchboard *board, struct image *image)
{
	int fd = -1;

	image_fd(image, &fd);
	if (fd >= 0)
		work_pool_close_socket(board, fd, NULL);
}

void work_pool_close_rest(struct switchboard *board, struct image *image)
{
	int fd;

	while ((fd = image_take_rest(image)) >= 0)
		work_pool_close_socket(board, fd, NULL);
}

static void work_pool_on_retry(int fd, short what, void *userdata)
{
	struct work_pool *pool = userdata;
	struct work_item *again = pool->again, *item, *next;

	pool->again = NULL;
	DL_FOREACH_SAFE(again, item, next)
		close_by_thread((struct deferred_close *)item);
	pthread_mutex_lock(&pool->lock);
	look_for_thread(pool, 0);
	pthread_mutex_unlock(&pool->lock);
}

static void work_pool_on_tried(struct work_item *item)
{
	struct deferred_close *trial = (struct deferred_close *)item;

	trial->pool->takes_sockets = trial->error == 0;
	if (trial->error < 0)
		log_warning(
			"programs can hold the daemon by descriptors that they send: close_range(2) and "
			"pidfd_getfd(2) don't work here: %s",
			strerror(-trial->error));
	free(trial);
}

/* Tests whether a thread can take an eventfd, as it will take sockets. */
static int try_out(struct work_pool *pool)
{
	struct deferred_close *trial = closing_new(pool, pool->finished_fd, work_pool_on_tried);
	struct pollfd poll_fd = {.fd = pool->finished_fd, .events = POLLIN};

	if (!trial || !work_pool_give(pool, &trial->item, NULL)) {
		free(trial);
		return -ENOMEM;
	}
	if (poll(&poll_fd, 1, TRY_MS) > 0)
		on_finished(pool->finished_fd, 0, pool);
	return 0;
}

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
	pthread_cond_init(&pool->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	pool->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->finished_fd >= 0)
		pool->event =
			event_new(board->base, pool->finished_fd, EV_READ | EV_PERSIST, on_finished, pool);
	pool->retry = evtimer_new(board->base, work_pool_on_retry, pool);
	if (!pool->event || !pool->retry || event_add(pool->event, NULL) < 0 || try_out(pool) < 0) {
		work_pool_free(pool);
		return -ENOMEM;
	}
	*out = pool;
	return 0;
}

void work_pool_free(struct work_pool *pool)
{
	struct work_item *item, *next;
	struct timespec until;
	bool are_gone;

	if (!pool)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += FREE_S;
	pthread_mutex_lock(&pool->lock);
	pool->is_over = true;
	pthread_cond_broadcast(&pool->wanted);
	while (pool->threads > 0 &&
	       (pool->finished || pthread_cond_timedwait(&pool->changed, &pool->lock, &until) == 0)) {
		pthread_mutex_unlock(&pool->lock);
		take_finished(pool);
		pthread_mutex_lock(&pool->lock);
	}
	are_gone = pool->threads == 0;
	pthread_mutex_unlock(&pool->lock);
	take_finished(pool);
	DL_FOREACH_SAFE(pool->again, item, next)
		on_given_back(item); /* the socket stays open until the process ends */
	free_event(pool->event);
	free_event(pool->retry);
	if (!are_gone)
		return; /* what is slow ends with the process, and so does what it uses */
	if (pool->finished_fd >= 0)
		close(pool->finished_fd);
	pthread_mutex_destroy(&pool->lock);
	pthread_cond_destroy(&pool->wanted);
	pthread_cond_destroy(&pool->changed);
	free(pool);
}
