/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "xenmsg.h"

#define GONE	      (POLLERR | POLLHUP)
#define COMPLAINT_MAX 512

/* A global, because a signal handler gets no argument. */
static struct {
	bool catching;
	volatile sig_atomic_t caught;
	const char *volatile words;
	volatile int words_to; /* the descriptor that they are written to */
	char complaint[COMPLAINT_MAX];
	sigset_t ours;	 /* SIGINT and SIGTERM, unless they are ignored */
	sigset_t asleep; /* signals blocked before */
} state;

static void on_signal(int number)
{
	struct pollfd to = {.fd = state.words_to, .events = POLLOUT};
	const char *words = state.words;

	state.caught = number;
	if (!words)
		return;
	/* A command that is told to end ends, though nobody reads why. */
	if (poll(&to, 1, 0) == 1 && write(state.words_to, words, strlen(words)) < 0)
		state.words = NULL; /* nobody reads it, so nothing can be done */
	interrupt_die();
}

static void catch_one(int number)
{
	struct sigaction action = {.sa_handler = on_signal}, before;

	if (sigaction(number, NULL, &before) < 0 || before.sa_handler == SIG_IGN)
		return;
	sigaddset(&state.ours, number);
	sigaction(number, &action, NULL);
}

void interrupt_catch(void)
{
	sigprocmask(SIG_BLOCK, NULL, &state.asleep);
	sigemptyset(&state.ours);
	catch_one(SIGINT);
	catch_one(SIGTERM);
	sigprocmask(SIG_BLOCK, &state.ours, NULL);
	state.catching = true;
}

bool interrupt_came(void)
{
	sigset_t pending;

	if (state.caught || !state.catching)
		return state.caught != 0;
	if (sigpending(&pending) < 0) /* a filter of system calls may forbid it */
		return false;
	if (sigismember(&pending, SIGINT))
		state.caught = SIGINT;
	else if (sigismember(&pending, SIGTERM))
		state.caught = SIGTERM;
	return state.caught != 0;
}

void interrupt_take(void)
{
	const struct timespec at_once = {0};
	sigset_t taken;

	sigemptyset(&taken);
	sigaddset(&taken, state.caught);
	sigtimedwait(&taken, NULL, &at_once);
}

void interrupt_die_of(int number)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	if (!number)
		return;
	sigaction(number, &action, NULL);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &state.ours, NULL);
}

void interrupt_die(void)
{
	interrupt_die_of(interrupt_came() ? state.caught : 0);
}

void interrupt_allow(const char *words)
{
	state.words = words;
	state.words_to = STDOUT_FILENO;
	sigprocmask(SIG_SETMASK, &state.asleep, NULL);
}

void interrupt_allow_complaint(const char *format, ...)
{
	static const char front[] = "xenmsg: ";
	va_list arguments;
	size_t size = sizeof(front) - 1;

	interrupt_forbid();
	memcpy(state.complaint, front, size);
	va_start(arguments, format);
	vsnprintf(state.complaint + size, sizeof(state.complaint) - size - 1, format, arguments);
	va_end(arguments);
	size = strlen(state.complaint);
	memcpy(state.complaint + size, "\n", 2);
	state.words = state.complaint;
	state.words_to = STDERR_FILENO;
	sigprocmask(SIG_SETMASK, &state.asleep, NULL);
}

void interrupt_forbid(void)
{
	sigprocmask(SIG_BLOCK, &state.ours, NULL);
	state.words = NULL;
}

int interrupt_left(int64_t deadline)
{
	int left = deadline_left(deadline);

	return left == 0 ? 1 : left;
}

int interrupt_poll(struct pollfd *what, unsigned count, int timeout_ms)
{
	struct timespec time = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
	int r = ppoll(what, count, timeout_ms < 0 ? NULL : &time, state.catching ? &state.asleep : NULL);

	return r < 0 ? -errno : r;
}

int interrupt_sleep(int fd, int timeout_ms)
{
	struct pollfd what = {.fd = fd, .events = POLLIN};

	return interrupt_poll(&what, 1, timeout_ms);
}

static int interrupt_wait_for(struct xenmsg *conn, int64_t deadline, bool for_reader)
{
	for (;;) {
		struct pollfd what[2] = {{.fd = xenmsg_fd(conn), .events = POLLIN}, {.fd = STDOUT_FILENO}};
		int r = xenmsg_process(conn);
		int left = deadline_left(deadline);

		if (r != 0)
			return r;
		if (left == 0)
			return 0;
		r = interrupt_poll(what, for_reader ? 2 : 1, left);
		if (r < 0)
			return r;
		if (what[1].revents & GONE)
			return -EPIPE;
	}
}

int interrupt_wait(struct xenmsg *conn, int64_t deadline)
{
	return interrupt_wait_for(conn, deadline, false);
}

int interrupt_wait_for_reader(struct xenmsg *conn, int64_t deadline)
{
	return interrupt_wait_for(conn, deadline, true);
}

bool interrupt_output_is_gone(void)
{
	struct pollfd what = {.fd = STDOUT_FILENO};

	return poll(&what, 1, 0) == 1 && (what.revents & GONE);
}

bool interrupt_output_ready(void)
{
	struct pollfd what = {.fd = STDOUT_FILENO, .events = POLLOUT};

	while (state.catching && interrupt_poll(&what, 1, -1) == -EINTR)
		if (interrupt_came())
			return false;
	return true;
}

/* ---- event loops ------------------------------------------------------------------------------ */

/* that a loop needs for itself, signals and two pipes */
#define LOOP_DESCRIPTORS 6

static void on_stop(evutil_socket_t number, short what, void *userdata)
{
	struct loop *loop = userdata;

	loop->signal = (int)number;
	event_base_loopbreak(loop->base);
}

struct event *loop_event(struct event_base *base, int fd, short what,
			 void (*on_event)(int fd, short what, void *userdata), void *userdata)
{
	struct event *event = event_new(base, fd, what, on_event, userdata);

	if (event && event_add(event, NULL) == 0)
		return event;
	loop_event_free(event);
	return NULL;
}

void loop_event_free(struct event *event)
{
	if (event)
		event_free(event);
}

/* What the shell lets a command in the background ignore stays ignored. */
static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

bool loop_has_descriptors(int count)
{
	bool has;
	int fd;

	if (count == 0)
		return true;
	fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	has = fd >= 0 && loop_has_descriptors(count - 1);
	if (fd >= 0)
		close(fd);
	return has;
}

int loop_init(struct loop *loop, const char *without)
{
	static const int signals[] = {SIGINT, SIGTERM};
	struct event_config *config;

	/* libevent ends the process where one lacks for signals */
	if (!loop_has_descriptors(LOOP_DESCRIPTORS))
		return -EMFILE;
	config = event_config_new();
	if (config && (!without || event_config_avoid_method(config, without) == 0))
		loop->base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	for (int i = 0; loop->base && i < 2; i++) {
		if (is_ignored(signals[i]))
			continue;
		loop->stop[i] = loop_event(loop->base, signals[i], EV_SIGNAL | EV_PERSIST, on_stop, loop);
		if (!loop->stop[i])
			return -ENOMEM;
	}
	return loop->base ? 0 : -ENOMEM;
}

void loop_release_signals(struct loop *loop)
{
	for (int i = 0; i < 2; i++) {
		loop_event_free(loop->stop[i]);
		loop->stop[i] = NULL;
	}
}

void loop_cleanup(struct loop *loop)
{
	loop_release_signals(loop);
	if (loop->base)
		event_base_free(loop->base);
}
