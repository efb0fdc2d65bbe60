/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/errands.h"

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
#include "daemon/relay/call.h"
#include "daemon/relay/hop.h"
#include "wire/hash.h"

#define STACK_SIZE 65536
#define FREE_S	   2 /* how long the end waits for threads */

/* What one account has to be done. It is `ready` while no thread does any of it, and goes with the last
 * errand. */
struct desk {
	struct account *account;
	struct errand *errands;
	struct desk *prev, *next;
	UT_hash_handle hh;
};

struct errands {
	struct relay *relay;
	int finished_fd; /* tells the loop */
	struct event *event;

	pthread_mutex_t lock; /* of all below, and held for moments */
	pthread_cond_t wanted, ended;
	struct desk *desks; /* by account */
	struct desk *ready; /* the first one's turn is next */
	struct errand *finished;
	unsigned threads, idle, ready_count;
	bool is_over;
};

/* --- a thread --------------------------------------------------------------------------------- */

static void make_ready(struct errands *errands, struct desk *desk)
{
	DL_APPEND(errands->ready, desk);
	errands->ready_count++;
}

/* Does one errand of a desk; the lock is held before and after it. */
static void do_one(struct errands *errands, struct desk *desk)
{
	struct errand *errand = desk->errands;
	const uint64_t one = 1;
	uint64_t from;

	pthread_mutex_unlock(&errands->lock);
	from = clock_thread_ns();
	errand->work(errand);
	errand->used = clock_thread_ns() - from;
	pthread_mutex_lock(&errands->lock);
	DL_DELETE(desk->errands, errand);
	DL_APPEND(errands->finished, errand);
	if (desk->errands) {
		make_ready(errands, desk);
	} else {
		HASH_DEL(errands->desks, desk);
		free(desk);
	}
	if (write(errands->finished_fd, &one, sizeof(one)) < 0)
		abort(); /* no other process has this counter */
}

static void *work(void *argument)
{
	struct errands *errands = argument;

	pthread_mutex_lock(&errands->lock);
	for (;;) {
		struct desk *desk;

		while (!errands->ready && !errands->is_over) {
			errands->idle++;
			pthread_cond_wait(&errands->wanted, &errands->lock);
			errands->idle--;
		}
		desk = errands->ready;
		if (!desk)
			break;
		DL_DELETE(errands->ready, desk);
		errands->ready_count--;
		do_one(errands, desk);
	}
	errands->threads--;
	pthread_cond_signal(&errands->ended);
	pthread_mutex_unlock(&errands->lock);
	return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void start_thread(struct errands *errands)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all); /* the event loop handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (pthread_create(&thread, &attributes, work, errands) == 0)
		errands->threads++;
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void finish(struct errand *errand)
{
	struct account *account = errand->account;

	turns_spend_measured(&errand->relay->turns, account_line(account), errand->used / TURNS_UNIT_NS);
	errand->done(errand);
	account_unref(account);
}

static void take_finished(struct errands *errands)
{
	struct errand *finished, *errand, *next;

	pthread_mutex_lock(&errands->lock);
	finished = errands->finished;
	errands->finished = NULL;
	pthread_mutex_unlock(&errands->lock);
	DL_FOREACH_SAFE(finished, errand, next)
		finish(errand);
}

static void on_finished(int fd, short what, void *userdata)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		take_finished(userdata);
}

/* Returns whether a thread will do it. */
static bool give(struct errands *errands, struct errand *errand)
{
	struct desk *desk;
	bool is_taken = true;

	pthread_mutex_lock(&errands->lock);
	HASH_FIND_PTR(errands->desks, &errand->account, desk);
	if (desk) {
		DL_APPEND(desk->errands, errand);
	} else {
		if (errands->ready_count >= errands->idle && errands->threads < ERRANDS_THREADS)
			start_thread(errands);
		desk = errands->threads > 0 ? calloc(1, sizeof(*desk)) : NULL;
		is_taken = desk != NULL;
	}
	if (is_taken && !desk->errands) {
		desk->account = errand->account;
		DL_APPEND(desk->errands, errand);
		HASH_ADD_PTR(errands->desks, account, desk);
		make_ready(errands, desk);
		pthread_cond_signal(&errands->wanted);
	}
	pthread_mutex_unlock(&errands->lock);
	return is_taken;
}

void errand_give(struct errand *errand, struct relay *relay, struct account *account)
{
	errand->relay = relay;
	errand->account = account_ref(account);
	errand->used = 0;
	if (relay->errands && give(relay->errands, errand))
		return;
	errand->work(errand);
	finish(errand);
}

#ifdef XENMSG_INVARIANTS
void errands_await(struct errands *errands)
{
	const struct timespec pause = {.tv_nsec = 100000};

	pthread_mutex_lock(&errands->lock);
	while (errands->desks) {
		pthread_mutex_unlock(&errands->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&errands->lock);
	}
	pthread_mutex_unlock(&errands->lock);
	take_finished(errands);
}
#endif

/* --- life ------------------------------------------------------------------------------------- */

int errands_new(struct errands **out, struct relay *relay)
{
	struct errands *errands = calloc(1, sizeof(*errands));
	pthread_condattr_t attributes;

	if (!errands)
		return -ENOMEM;
	errands->relay = relay;
	pthread_mutex_init(&errands->lock, NULL);
	pthread_cond_init(&errands->wanted, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* that of the day may be set */
	pthread_cond_init(&errands->ended, &attributes);
	pthread_condattr_destroy(&attributes);
	errands->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (errands->finished_fd >= 0)
		errands->event = event_new(relay->base, errands->finished_fd, EV_READ | EV_PERSIST,
					   on_finished, errands);
	if (!errands->event || event_add(errands->event, NULL) < 0) {
		errands_free(errands);
		return -ENOMEM;
	}
	*out = errands;
	return 0;
}

void errands_free(struct errands *errands)
{
	struct timespec until;
	bool are_gone;

	if (!errands)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += FREE_S;
	pthread_mutex_lock(&errands->lock);
	errands->is_over = true;
	pthread_cond_broadcast(&errands->wanted);
	while (errands->threads > 0 && pthread_cond_timedwait(&errands->ended, &errands->lock, &until) == 0)
		;
	are_gone = errands->threads == 0;
	pthread_mutex_unlock(&errands->lock);
	take_finished(errands);
	free_event(errands->event);
	if (!are_gone)
		return; /* what is slow ends with the process, and so does what it uses */
	if (errands->finished_fd >= 0)
		close(errands->finished_fd);
	pthread_mutex_destroy(&errands->lock);
	pthread_cond_destroy(&errands->wanted);
	pthread_cond_destroy(&errands->ended);
	free(errands);
}

/* --- what is given back ----------------------------------------------------------------------- */

struct leaving {
	struct errand errand; /* the first member */
	void *memory;
	size_t size;
	int fds[LEAVING_FDS];
	struct charge charge;
};

static void give_back(struct errand *errand)
{
	struct leaving *leaving = (struct leaving *)errand;

	if (leaving->memory)
		munmap(leaving->memory, leaving->size);
	descriptors_close(leaving->fds, LEAVING_FDS);
}

static void on_given_back(struct errand *errand)
{
	struct leaving *leaving = (struct leaving *)errand;

	charge_end(&leaving->charge);
	free(leaving);
}

void errand_give_back(struct relay *relay, void *memory, size_t size, const int fds[LEAVING_FDS],
		      struct charge *charge)
{
	struct leaving *leaving = calloc(1, sizeof(*leaving)), here;
	uint64_t descriptors = 0;

	if (!leaving) {
		here = (struct leaving){.memory = memory, .size = size};
		memcpy(here.fds, fds, sizeof(here.fds));
		give_back(&here.errand);
		return;
	}
	leaving->errand = (struct errand){.work = give_back, .done = on_given_back};
	leaving->memory = memory;
	leaving->size = size;
	memcpy(leaving->fds, fds, sizeof(leaving->fds));
	for (unsigned i = 0; i < LEAVING_FDS; i++)
		descriptors += fds[i] >= 0;
	charge_init(&leaving->charge, charge ? charge->account : NULL);
	if (charge && charge->held[QUOTA_DESCRIPTORS] < descriptors)
		descriptors = charge->held[QUOTA_DESCRIPTORS];
	if (charge && descriptors > 0)
		charge_pass(&leaving->charge, charge, QUOTA_DESCRIPTORS, descriptors);
	errand_give(&leaving->errand, relay, leaving->charge.account);
}
