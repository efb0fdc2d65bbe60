/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/breaker.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "cli/cli.h"

/* A socket that lingers. */
struct lingering {
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
	if (is_gone(ended.fd))
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

void breaker_break(struct breaker *breaker, int fd, const char *place, bool ended)
{
	if (!is_unix(fd))
		reset_tcp(fd);
	else if (ended || has_unread(fd) || is_gone(fd))
		close(fd);
	else if (breaker->linger_ms == 0 || !linger(breaker, fd, place))
		truncate_at(breaker, fd, place);
}

void breaker_wait(struct breaker *breaker)
{
	while (breaker && breaker->list)
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
