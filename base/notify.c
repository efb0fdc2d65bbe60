/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/notify.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/service.h"
#include "base/timer.h"

#define TEXT_INTERVAL_US 5000000u
#define AGAIN_MS	 100u
#define QUEUE_MAX	 16u
#define ROOM_MS		 1000

struct notify {
	struct event *timer, *again;
	notify_text_fn text;
	void *userdata;
	int ready_fd;
	bool has_watchdog, is_ready;
	struct timeval interval;
	char told[512];
	/* what the manager must hear in its order, and had no room for; the first is the next */
	char queue[QUEUE_MAX][64];
	unsigned count;
};

/* Returns a socket that leads to the manager; -ENOTCONN: there is none. */
static int reach_manager(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;
	int fd, r;

	if (length < 2 || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return -ENOTCONN;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* Does what sd_notify(3) does, which waits while the manager's socket is full, as others can make it. Returns
 * 0, also if there is no manager, or a negative errno; -EAGAIN: it is full. */
static int notify_tell(const char *text)
{
	int fd = reach_manager(), r = 0;

	if (fd < 0)
		return fd == -ENOTCONN ? 0 : fd;
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		r = -errno;
	close(fd);
	return r;
}

static void notify_on_again(evutil_socket_t fd, short what, void *userdata)
{
	struct notify *notify = userdata;

	while (notify->count && notify_tell(notify->queue[0]) != -EAGAIN)
		memmove(notify->queue[0], notify->queue[1], --notify->count * sizeof(notify->queue[0]));
	if (notify->count)
		timer_set(notify->again, AGAIN_MS);
}

/* Tells what the manager waits for, once it has room. A manager that asks for more reloads than it hears
 * of loses the oldest. */
static void tell_in_turn(struct notify *notify, const char *text)
{
	if (!notify->count && notify_tell(text) != -EAGAIN)
		return;
	if (notify->count == QUEUE_MAX)
		memmove(notify->queue[0], notify->queue[1], --notify->count * sizeof(notify->queue[0]));
	snprintf(notify->queue[notify->count++], sizeof(notify->queue[0]), "%s", text);
	timer_set(notify->again, AGAIN_MS);
}

/* Sends the text only when it has changed: the manager writes each into its own state. */
static void tell_text(struct notify *notify)
{
	char text[sizeof(notify->told)] = "", line[sizeof(text) + sizeof("STATUS=")];

	notify->text(notify->userdata, text, sizeof(text));
	if (!strcmp(text, notify->told))
		return;
	snprintf(line, sizeof(line), "STATUS=%s", text);
	if (notify_tell(line) == 0)
		memcpy(notify->told, text, sizeof(text));
}

static void notify_on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct notify *notify = userdata;

	if (notify->has_watchdog)
		notify_tell("WATCHDOG=1");
	tell_text(notify);
}

int notify_parse_fd(const char *text, int *fd)
{
	char *end;
	long number;
	int mode;

	errno = 0;
	number = strtol(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || number > INT_MAX)
		return -EINVAL;
	mode = fcntl((int)number, F_GETFL) & O_ACCMODE;
	if (mode != O_WRONLY && mode != O_RDWR)
		return -EINVAL;
	*fd = (int)number;
	return fcntl(*fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

static void close_ready_fd(struct notify *notify)
{
	if (notify->ready_fd >= 0)
		close(notify->ready_fd);
	notify->ready_fd = -1;
}

int notify_new(struct notify **out, struct event_base *base, int ready_fd, notify_text_fn text,
	       void *userdata)
{
	struct notify *notify = calloc(1, sizeof(*notify));
	uint64_t interval_us = TEXT_INTERVAL_US, watchdog_us = service_watchdog_us();

	if (!notify)
		return -ENOMEM;
	notify->ready_fd = ready_fd;
	notify->text = text;
	notify->userdata = userdata;
	notify->has_watchdog = watchdog_us > 0;
	/* sd_watchdog_enabled(3) recommends half of the time; a third leaves room for a busy turn of the
	 * loop. */
	if (notify->has_watchdog && watchdog_us / 3 < interval_us)
		interval_us = watchdog_us / 3;
	notify->interval.tv_sec = (time_t)(interval_us / 1000000);
	notify->interval.tv_usec = (suseconds_t)(interval_us % 1000000);
	notify->timer = event_new(base, -1, EV_PERSIST, notify_on_timer, notify);
	notify->again = evtimer_new(base, notify_on_again, notify);
	if (!notify->timer || !notify->again) {
		notify_free(notify);
		return -ENOMEM;
	}
	*out = notify;
	return 0;
}

void notify_free(struct notify *notify)
{
	if (!notify)
		return;
	close_ready_fd(notify);
	free_event(notify->timer);
	free_event(notify->again);
	free(notify);
}

void notify_ready(struct notify *notify)
{
	tell_text(notify);
	tell_in_turn(notify, "READY=1");
	/* If it can't be told, the manager decides for itself how long it waits. */
	if (notify->ready_fd >= 0 && write(notify->ready_fd, "\n", 1) < 0)
		log_warning("the service manager can't be told that this is ready: %s", strerror(errno));
	close_ready_fd(notify);
	if (notify->is_ready || !getenv("NOTIFY_SOCKET"))
		return;
	notify->is_ready = true;
	event_add(notify->timer, &notify->interval);
	event_active(notify->timer, EV_TIMEOUT, 0);
}

void notify_reloading(struct notify *notify)
{
	char text[sizeof(notify->queue[0])];

	/* Type=notify-reload needs the time of the reload. */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_ns() / 1000);
	tell_in_turn(notify, text);
}

void notify_alive(void)
{
	notify_tell("WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000");
}

void notify_stopping(struct notify *notify)
{
	notify_tell("STOPPING=1");
}

int notify_store(const char *name, int fd)
{
	int to = reach_manager();
	ssize_t r;
	struct pollfd room = {.fd = to, .events = POLLOUT};
	char text[128];

	if (to < 0)
		return to == -ENOTCONN ? 0 : to;
	/* systemd would drop what it sees hung up. */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	r = poll(&room, 1, ROOM_MS) == 1 ? descriptors_send(to, text, strlen(text), &fd, 1, 0) : -EAGAIN;
	close(to);
	return r < 0 ? (int)r : 0;
}

void notify_forget(const char *name)
{
	char text[128];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	notify_tell(text);
}
