/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/memfd_lifetimes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/image.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/switch/hop.h"
#include "wire/ut.h"

#define EVENTS_MAX 64 /* in a turn of the loop */
#define BYTES_MAX  (1u << 30)

struct life {
	int watch;
	struct charge charge;
	UT_hash_handle hh;
};

struct memfd_lifetimes {
	int fd;
	struct event *event;
	struct life *lives; /* by watch: the kernel never gives a number twice */
};

static void memfd_lifetimes_end(struct memfd_lifetimes *lives, struct life *life)
{
	HASH_DEL(lives->lives, life);
	charge_end(&life->charge);
	free(life);
}

static struct life *memfd_lifetimes_find(struct memfd_lifetimes *lives, int watch)
{
	struct life *life;

	HASH_FIND_INT(lives->lives, &watch, life);
	return life;
}

/* Returns whether there may be more. */
static bool read_gone(struct memfd_lifetimes *lives)
{
	struct inotify_event events[EVENTS_MAX]; /* without names, since these are files */
	ssize_t size = read(lives->fd, events, sizeof(events));

	for (ssize_t i = 0; i < size / (ssize_t)sizeof(events[0]); i++) {
		struct life *life = memfd_lifetimes_find(lives, events[i].wd);

		if (life && events[i].mask & IN_IGNORED)
			memfd_lifetimes_end(lives, life);
	}
	return size > 0;
}

static void memfd_lifetimes_on_gone(int fd, short what, void *userdata)
{
	read_gone(userdata);
}

static struct life *memfd_lifetimes_add(struct memfd_lifetimes *lives, int watch, struct account *account)
{
	struct life *life = calloc(1, sizeof(*life));

	if (!life)
		return NULL;
	life->watch = watch;
	HASH_ADD_INT(lives->lives, watch, life);
	if (!HASH_ADDED(life)) {
		free(life);
		return NULL;
	}
	charge_init(&life->charge, account);
	return life;
}

int memfd_lifetimes_on(struct switchboard *board, int memory_fd, struct charge *charge, uint64_t bytes)
{
	struct memfd_lifetimes *lives = board->memfd_lifetimes;
	struct life *life;
	char path[32];
	int watch;

	if (!lives)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory_fd);
	watch = inotify_add_watch(lives->fd, path, IN_DELETE_SELF);
	if (watch < 0) {
		log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR,
			    "memory of programs that they keep can't be watched: %s", strerror(errno));
		return -1;
	}
	if (memfd_lifetimes_find(lives, watch)) { /* the same file has the same watch */
		charge_release(charge, QUOTA_MEMORY, bytes);
		return watch;
	}
	life = memfd_lifetimes_add(lives, watch, charge->account);
	if (!life)
		return -1;
	charge_pass(&life->charge, charge, QUOTA_MEMORY, bytes);
	return watch;
}

bool memory_is_kept(struct switchboard *board, int number)
{
	struct memfd_lifetimes *lives = board->memfd_lifetimes;

	return lives && memfd_lifetimes_find(lives, number);
}

void memfd_lifetimes_settle(struct switchboard *board)
{
	struct memfd_lifetimes *lives = board->memfd_lifetimes;

	while (lives && lives->lives && read_gone(lives))
		;
}

/* --- handing over ----------------------------------------------------------------------------- */

void memfd_lifetimes_image(struct image *image, struct memfd_lifetimes *lives)
{
	int fd = lives ? lives->fd : -1;
	struct event *event;

	image_fd(image, &fd);
	if (!image->is_read || fd < 0)
		return;
	event = lives && !lives->lives ? event_new(event_get_base(lives->event), fd, EV_READ | EV_PERSIST,
						   memfd_lifetimes_on_gone, lives)
				       : NULL;
	if (!event || event_add(event, NULL) < 0) {
		free_event(event);
		close(fd);
		return;
	}
	free_event(lives->event);
	close(lives->fd);
	lives->event = event;
	lives->fd = fd;
}

static void life_image(struct image *image, int *watch, struct account_key *payer, uint64_t *bytes)
{
	image_raw(image, watch, sizeof(*watch));
	image_upto(image, &payer->kind, QUOTA_HOST);
	image_u32(image, &payer->id);
	image_u64(image, bytes);
}

void memfd_lifetimes_write_image(struct image *image, struct switchboard *board)
{
	struct life *life = board->memfd_lifetimes ? board->memfd_lifetimes->lives : NULL;

	for (; life; life = life->hh.next) {
		const struct account *account = life->charge.account;
		struct account_key payer;

		if (!account || account_kind(account) > QUOTA_HOST)
			continue;
		payer = (struct account_key){account_kind(account), account_id(account)};
		image_section(image, IMAGE_MEMORY);
		life_image(image, &life->watch, &payer, &life->charge.held[QUOTA_MEMORY]);
	}
}

void memfd_lifetimes_read_image(struct image *image, struct switchboard *board)
{
	struct memfd_lifetimes *lives = board->memfd_lifetimes;
	struct account_key payer = {0};
	struct account *account;
	uint64_t bytes = 0;
	struct life *life;
	int watch = -1;

	life_image(image, &watch, &payer, &bytes);
	image_expect(image, bytes <= BYTES_MAX && (!lives || !memfd_lifetimes_find(lives, watch)));
	if (!lives || !board->quota || image->error)
		return;
	account = quota_account(board->quota, payer.kind, payer.id);
	life = account ? memfd_lifetimes_add(lives, watch, account) : NULL;
	if (life)
		charge_exceed(&life->charge, QUOTA_MEMORY, bytes);
	else
		image_fail(image, -ENOMEM);
	account_unref(account);
}

/* --- all of it -------------------------------------------------------------------------------- */

int memfd_lifetimes_new(struct memfd_lifetimes **out, struct switchboard *board)
{
	struct memfd_lifetimes *lives = calloc(1, sizeof(*lives));
	int r = -ENOMEM;

	if (!lives)
		return -ENOMEM;
	lives->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (lives->fd < 0)
		r = -errno;
	else
		lives->event = event_new(board->base, lives->fd, EV_READ | EV_PERSIST,
					 memfd_lifetimes_on_gone, lives);
	if (!lives->event || event_add(lives->event, NULL) < 0) {
		memfd_lifetimes_free(lives);
		return r;
	}
	*out = lives;
	return 0;
}

void memfd_lifetimes_free(struct memfd_lifetimes *lives)
{
	if (!lives)
		return;
	while (lives->lives)
		memfd_lifetimes_end(lives, lives->lives);
	free_event(lives->event);
	if (lives->fd >= 0)
		close(lives->fd);
	free(lives);
}
