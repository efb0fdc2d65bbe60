/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/breaker.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include <event2/event.h>
#include <utlist.h>

#include "cli/cli.h"

#define UNSENT_LOOK_MS 50
#define UNSENT_LOOKS   100 /* 5 s, for a client that doesn't read */

/* A socket that lingers. */
struct lingering {
	int looks; /* left, of one of TCP's */
	struct breaker *breaker;
	int fd;
	const char *place;
	struct event *readable;
	struct event *over;
	struct lingering *prev, *next;
};

struct breaker {
	struct cli *cli;
	struct event_base *base;
	int linger_ms;
	bool has_truncated;
	struct lingering *list;
};

struct breaker *breaker_new(struct cli *cli, struct event_base *base, int linger_ms)
{
	struct breaker *breaker = calloc(1, sizeof(*breaker));

	if (breaker)
		*breaker = (struct breaker){.cli = cli, .base = base, .linger_ms = linger_ms};
	return breaker;
}

static void reset_tcp(int fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* Whether a reset would take something from the other end that was written for it. */
static bool has_unsent(int fd)
{
	int unsent = 0;

	return ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent > 0;
}

static bool is_unix(int fd)
{
	int domain = 0;
	socklen_t size = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

/* Whether the other end reads ECONNRESET when this one is closed now. */
static bool has_unread(int fd)
{
	int unread = 0;

	return ioctl(fd, FIONREAD, &unread) == 0 && unread > 0;
}

/* Whether the other end is closed, or reads no more, so that nobody is there to take a part for the whole. */
static bool is_gone(int fd)
{
	struct pollfd at = {.fd = fd, .events = POLLOUT};

	return poll(&at, 1, 0) > 0 && (at.revents & (POLLHUP | POLLERR));
}

static void truncate_at(struct breaker *breaker, int fd, const char *place)
{
	breaker->has_truncated = true;
	cli_note(breaker->cli, "%s can't be told that the connection broke: it reads an end of file", place);
	close(fd);
}

static void forget(struct lingering *lingering)
{
	DL_DELETE(lingering->breaker->list, lingering);
	if (lingering->readable)
		event_free(lingering->readable);
	if (lingering->over)
		event_free(lingering->over);
	free(lingering);
}

static void end_lingering(struct lingering *lingering)
{
	const struct lingering ended = *lingering;

	forget(lingering); /* its events are of the socket */
	if (!is_unix(ended.fd))
		reset_tcp(ended.fd);
	else if (is_gone(ended.fd))
		close(ended.fd);
	else
		truncate_at(ended.breaker, ended.fd, ended.place);
}

static void on_over(evutil_socket_t fd, short what, void *userdata)
{
	end_lingering(userdata);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct lingering *lingering = userdata;

	/* Else its other end has ended what it writes, and may still read: only time tells. */
	if (!has_unread(fd) && !is_gone(fd)) {
		event_del(lingering->readable);
		return;
	}
	forget(lingering);
	close(fd);
}

/* False: out of memory. */
static bool linger(struct breaker *breaker, int fd, const char *place)
{
	const struct timeval time = {breaker->linger_ms / 1000, breaker->linger_ms % 1000 * 1000};
	struct lingering *lingering = calloc(1, sizeof(*lingering));

	if (!lingering)
		return false;
	*lingering = (struct lingering){.breaker = breaker, .fd = fd, .place = place};
	DL_APPEND(breaker->list, lingering);
	lingering->readable = event_new(breaker->base, fd, EV_READ | EV_PERSIST, on_readable, lingering);
	lingering->over = evtimer_new(breaker->base, on_over, lingering);
	if (lingering->readable && lingering->over && event_add(lingering->readable, NULL) == 0 &&
	    event_add(lingering->over, &time) == 0)
		return true;
	forget(lingering);
	return false;
}

static void on_look(evutil_socket_t fd, short what, void *userdata)
{
	struct lingering *lingering = userdata;

	if (--lingering->looks == 0 || !has_unsent(lingering->fd) || is_gone(lingering->fd))
		end_lingering(lingering);
}

/* False: out of memory. */
static bool linger_until_sent(struct breaker *breaker, int fd)
{
	const struct timeval time = {.tv_usec = UNSENT_LOOK_MS * 1000};
	struct lingering *lingering = calloc(1, sizeof(*lingering));

	if (!lingering)
		return false;
	*lingering = (struct lingering){.breaker = breaker, .fd = fd, .looks = UNSENT_LOOKS};
	DL_APPEND(breaker->list, lingering);
	lingering->over = event_new(breaker->base, -1, EV_PERSIST, on_look, lingering);
	if (lingering->over && event_add(lingering->over, &time) == 0)
		return true;
	forget(lingering);
	return false;
}

void breaker_break(struct breaker *breaker, int fd, const char *place, bool ended)
{
	if (!is_unix(fd) && has_unsent(fd) && !is_gone(fd) && linger_until_sent(breaker, fd))
		return;
	if (!is_unix(fd))
		reset_tcp(fd);
	else if (ended || has_unread(fd) || is_gone(fd))
		close(fd);
	else if (breaker->linger_ms == 0 || !linger(breaker, fd, place))
		truncate_at(breaker, fd, place);
}

/* Who is told to end waits for no client of TCP's that doesn't read. */
static bool is_to_wait(const struct breaker *breaker)
{
	const struct lingering *lingering;

	DL_FOREACH(breaker->list, lingering)
		if (lingering->looks == 0)
			return true;
	return false;
}

void breaker_wait(struct breaker *breaker)
{
	while (breaker && is_to_wait(breaker))
		if (event_base_loop(breaker->base, EVLOOP_ONCE) != 0 || event_base_got_break(breaker->base))
			break;
}

bool breaker_free(struct breaker *breaker)
{
	struct lingering *lingering, *next;
	bool has_truncated;

	if (!breaker)
		return false;
	DL_FOREACH_SAFE(breaker->list, lingering, next)
		end_lingering(lingering);
	has_truncated = breaker->has_truncated;
	free(breaker);
	return has_truncated;
}
