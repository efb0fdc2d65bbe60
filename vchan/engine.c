/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vchan/vchan_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REST_MS	  2
#define LINGER_MS 60000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct xenmsg *conn;
	pthread_cond_t changed, rest;
	bool has_thread, is_led; /* a program's thread sleeps for the connection */
	bool rests_deeply;	 /* the engine's thread sleeps until the leader leaves */
	unsigned leads;		 /* how often that was so */
	unsigned followers;	 /* other threads that wait for `changed` */
	int64_t due;		 /* of channels_look() */
} engine;
unsigned engine_generation;

void engine_lock(void)
{
	pthread_mutex_lock(&lock);
}

void engine_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

int64_t engine_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct xenmsg *engine_connection(void)
{
	return engine.conn;
}

/* Something has changed that others may wait for. */
static void tell(void)
{
	if (engine.followers)
		pthread_cond_broadcast(&engine.changed);
}

/* Does what can be done now. An error doesn't end a connection that outlives its daemon. */
static void run(void)
{
	if (engine.conn)
		xenmsg_process(engine.conn);
	engine.due = channels_look(engine_now());
	tell();
}

/* Sleeps for the connection, without the lock. Returns poll()'s. */
static int sleep_for(int64_t until)
{
	int64_t due = engine.due, now = engine_now(), left;
	struct pollfd fd = {.fd = engine.conn ? xenmsg_fd(engine.conn) : -1, .events = POLLIN};
	int r;

	if (due < 0 || (until >= 0 && until < due))
		due = until;
	left = due < 0 ? -1 : due > now ? due - now : 0;
	engine_unlock();
	r = poll(&fd, 1, left > 60000 ? 60000 : (int)left);
	engine_lock(); /* which leaves errno alone */
	return r;
}

static void sleep_on(pthread_cond_t *condition, int64_t until)
{
	const struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

	if (until < 0)
		pthread_cond_wait(condition, &lock);
	else
		pthread_cond_timedwait(condition, &lock, &at);
}

int engine_wait(int64_t until)
{
	int r;

	if (engine.is_led) {
		engine.followers++;
		sleep_on(&engine.changed, until);
		engine.followers--;
		return 0;
	}
	engine.is_led = true;
	engine.leads++;
	r = sleep_for(until);
	if (r >= 0)
		run();
	engine.is_led = false;
	if (engine.rests_deeply)
		pthread_cond_signal(&engine.rest);
	tell();
	return r < 0 ? -1 : 0;
}

/* Sleeps as long as others run the connection. */
static void rest(void)
{
	unsigned before;

	do {
		before = engine.leads;
		engine.rests_deeply = engine.is_led && engine.rests_deeply;
		sleep_on(&engine.rest, engine.rests_deeply ? -1 : engine_now() + REST_MS);
		engine.rests_deeply = engine.is_led && engine.leads == before;
	} while (engine.is_led || engine.leads != before);
	engine.rests_deeply = false;
}

static void *watch(void *unused)
{
	engine_lock();
	for (;;) {
		sleep_for(-1);
		if (engine.is_led)
			rest();
		else
			run();
	}
	return unused;
}

/* --- life --------------------------------------------------------------------------------------- */

static void prepare_fork(void)
{
	engine_lock();
}

static void make_conditions(void)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&engine.changed, &monotonic);
	pthread_cond_init(&engine.rest, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

/* Nothing is shared with the parent from here on: the session of a child would outlive that of its parent. */
static void begin_child(void)
{
	struct xenmsg *conn = engine.conn;

	engine_generation++;
	engine.conn = NULL;
	engine.has_thread = engine.is_led = engine.rests_deeply = false;
	engine.followers = 0;
	engine.due = -1;
	make_conditions();
	xenmsg_close(conn);
	channels_fork();
	engine_unlock();
}

__attribute__((constructor)) static void make(void)
{
	make_conditions();
	engine.due = -1;
	pthread_atfork(prepare_fork, engine_unlock, begin_child);
}

/* What was closed and isn't delivered yet is, before the process ends, as long as the others take it. */
__attribute__((destructor)) static void finish(void)
{
	uint64_t left = 0, before = 0;
	int64_t until = 0;

	engine_lock();
	for (; engine.conn && (left = channels_under_way()) > 0; engine_wait(until), before = left)
		if (left != before)
			until = engine_now() + LINGER_MS;
		else if (engine_now() >= until)
			break;
	if (left)
		fputs("xenmsg: the last bytes of a vchan are lost: nobody takes them\n", stderr);
	engine_unlock();
}

/* The thread takes no signal of the program's. */
static int start_thread(void)
{
	sigset_t all, before;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, NULL, watch, NULL);
	if (r == 0)
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	engine.has_thread |= r == 0;
	return -r;
}

struct xenmsg *engine_open(void)
{
	static int said; /* to whom tries again, once */
	int r = engine.conn ? 0 : xenmsg_open(&engine.conn, NULL, XENMSG_FLAGS(XENMSG_RECONNECT));

	if (r == 0 && !engine.has_thread)
		r = start_thread();
	if (r < 0 && !said)
		said = fprintf(stderr, "xenmsg: no connection to xenmsgd: %s\n", strerror(-r));
	errno = -r;
	return r == 0 ? engine.conn : NULL;
}
