/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/interrupt.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "xenmsg.h"

#define GONE (POLLERR | POLLHUP)

/* A global, because a signal handler gets no argument. */
static struct {
	bool catching;
	volatile sig_atomic_t caught;
	const char *volatile words;
	sigset_t ours;	   /* SIGINT and SIGTERM */
	sigset_t original; /* signals blocked before */
	sigset_t asleep;   /* `original` without `ours` */
} state;

static void on_signal(int number)
{
	const char *words = state.words;

	state.caught = number;
	if (!words)
		return;
	if (write(STDOUT_FILENO, words, strlen(words)) < 0)
		state.words = NULL; /* nobody reads it, so nothing can be done */
	interrupt_die();
}

void interrupt_catch(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigemptyset(&state.ours);
	sigaddset(&state.ours, SIGINT);
	sigaddset(&state.ours, SIGTERM);
	sigprocmask(SIG_BLOCK, &state.ours, &state.original);
	state.asleep = state.original;
	sigdelset(&state.asleep, SIGINT);
	sigdelset(&state.asleep, SIGTERM);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	state.catching = true;
}

bool interrupt_came(void)
{
	sigset_t pending;

	if (state.caught || !state.catching)
		return state.caught != 0;
	sigpending(&pending);
	if (sigismember(&pending, SIGINT))
		state.caught = SIGINT;
	else if (sigismember(&pending, SIGTERM))
		state.caught = SIGTERM;
	return state.caught != 0;
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
	interrupt_die_of(state.caught);
}

void interrupt_restore(void)
{
	if (state.catching)
		sigprocmask(SIG_SETMASK, &state.original, NULL);
}

void interrupt_allow(const char *words)
{
	state.words = words;
	sigprocmask(SIG_SETMASK, &state.asleep, NULL);
}

void interrupt_forbid(void)
{
	sigprocmask(SIG_BLOCK, &state.ours, NULL);
	state.words = NULL;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t interrupt_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

int interrupt_left(int64_t deadline)
{
	int64_t left = deadline < 0 ? -1 : deadline - now_ms();

	return deadline >= 0 && left < 1 ? 1 : (int)left;
}

static int sleep_on(struct pollfd *what, nfds_t count, int timeout_ms)
{
	struct timespec time = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
	int r = ppoll(what, count, timeout_ms < 0 ? NULL : &time, state.catching ? &state.asleep : NULL);

	return r < 0 ? -errno : r;
}

int interrupt_sleep(int fd, int timeout_ms)
{
	struct pollfd what = {.fd = fd, .events = POLLIN};

	return sleep_on(&what, 1, timeout_ms);
}

static int wait_for(struct xenmsg *conn, int64_t deadline, bool for_reader)
{
	for (;;) {
		struct pollfd what[2] = {{.fd = xenmsg_fd(conn), .events = POLLIN}, {.fd = STDOUT_FILENO}};
		int r = xenmsg_process(conn);
		int64_t left = deadline < 0 ? -1 : deadline - now_ms();

		if (r != 0)
			return r;
		if (deadline >= 0 && left <= 0)
			return 0;
		r = sleep_on(what, for_reader ? 2 : 1, left < INT_MAX ? (int)left : INT_MAX);
		if (r < 0)
			return r;
		if (what[1].revents & GONE)
			return -EPIPE;
	}
}

int interrupt_wait(struct xenmsg *conn, int64_t deadline)
{
	return wait_for(conn, deadline, false);
}

int interrupt_wait_for_reader(struct xenmsg *conn, int64_t deadline)
{
	return wait_for(conn, deadline, true);
}

bool interrupt_output_is_gone(void)
{
	struct pollfd what = {.fd = STDOUT_FILENO};

	return poll(&what, 1, 0) == 1 && (what.revents & GONE);
}

bool interrupt_output_ready(void)
{
	struct pollfd what = {.fd = STDOUT_FILENO, .events = POLLOUT};

	while (state.catching && sleep_on(&what, 1, -1) == -EINTR)
		if (interrupt_came())
			return false;
	return true;
}
