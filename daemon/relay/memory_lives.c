/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/memory_lives.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/relay/hop.h"
#include "wire/hash.h"

#define EVENTS_MAX 64 /* in a turn of the loop */

struct life {
	int watch;
	struct charge charge;
	UT_hash_handle hh;
};

struct memory_lives {
	int fd;
	struct event *event;
	struct life *lives; /* by watch: the kernel never gives a number twice */
};

static void end(struct memory_lives *lives, struct life *life)
{
	HASH_DEL(lives->lives, life);
	charge_end(&life->charge);
	free(life);
}

static void on_gone(int fd, short what, void *userdata)
{
	struct memory_lives *lives = userdata;
	struct inotify_event events[EVENTS_MAX]; /* without names, since these are files */
	ssize_t size = read(fd, events, sizeof(events));

	for (ssize_t i = 0; i < size / (ssize_t)sizeof(events[0]); i++) {
		struct life *life;

		HASH_FIND_INT(lives->lives, &events[i].wd, life);
		if (life && events[i].mask & IN_IGNORED)
			end(lives, life);
	}
}

void memory_lives_on(struct relay *relay, int memory_fd, struct charge *charge, uint64_t bytes)
{
	struct memory_lives *lives = relay->memory_lives;
	struct life *life = lives ? calloc(1, sizeof(*life)) : NULL;
	char path[32];

	if (!life)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory_fd);
	life->watch = inotify_add_watch(lives->fd, path, IN_DELETE_SELF);
	if (life->watch < 0) {
		log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR,
			    "memory of programs that they keep can't be watched: %s", strerror(errno));
		free(life);
		return;
	}
	charge_init(&life->charge, charge->account);
	charge_pass(&life->charge, charge, QUOTA_MEMORY, bytes);
	HASH_ADD_INT(lives->lives, watch, life);
}

int memory_lives_new(struct memory_lives **out, struct relay *relay)
{
	struct memory_lives *lives = calloc(1, sizeof(*lives));
	int r = -ENOMEM;

	if (!lives)
		return -ENOMEM;
	lives->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (lives->fd < 0)
		r = -errno;
	else
		lives->event = event_new(relay->base, lives->fd, EV_READ | EV_PERSIST, on_gone, lives);
	if (!lives->event || event_add(lives->event, NULL) < 0) {
		memory_lives_free(lives);
		return r;
	}
	*out = lives;
	return 0;
}

void memory_lives_free(struct memory_lives *lives)
{
	if (!lives)
		return;
	while (lives->lives)
		end(lives, lives->lives);
	free_event(lives->event);
	if (lives->fd >= 0)
		close(lives->fd);
	free(lives);
}
