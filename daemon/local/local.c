/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/local.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/handed_over.h"
#include "base/image.h"
#include "base/log.h"
#include "daemon/local/session_internal.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "daemon/switch/program_socket.h"
#include "daemon/switch/work_pool.h"
#include "base/timer.h"
#include "base/unix_listener.h"
#include "wire/ut.h"

/* A newcomer waits behind all that are in it; a program that finds it full waits in
 * connect(2). */
#define BACKLOG			32
#define ACCEPT_MAX		32 /* connections in a turn */
#define NO_DESCRIPTORS_PAUSE_MS 100
#define BEHIND_PAUSE_MS		1
#define SETTLING_PASSES		100 /* for what can still be said to programs before they are handed over */

struct member {
	struct hop *hop;
	uint64_t number; /* in the order in which they came */
	UT_hash_handle hh;
};

struct local {
	struct switchboard *board;
	struct local_options options;
	char *path;
	const struct session_callbacks *callbacks;
	void *userdata;
	int fd;
	bool is_handed_over; /* by the service manager, which owns the file */
	struct event *accept_event, *retry_timer;
	struct member *members; /* by hop, in the order of their numbers */
	uint64_t last_number;
};

/* Takes over the socket. NULL: out of memory, or without descriptors. A new program is told so. Of one that
 * a daemon before has left, `image` (else NULL) says it first: the next attempt to read the image is to find
 * the socket as it was. */
static struct member *add_member(struct local *local, int fd, struct image *image)
{
	struct member *member = calloc(1, sizeof(*member));
	int r;

	r = !member ? -ENOMEM
		    : session_new(&member->hop, local->board, fd, &local->options.session, local->callbacks,
				  local->userdata);
	if (r < 0) {
		if (image) {
			image_fail(image, -ENOMEM);
			program_socket_close(local->board, fd, NULL);
		} else {
			session_refuse_socket(local->board, fd);
		}
		free(member);
		return NULL;
	}
	HASH_ADD_PTR(local->members, hop, member);
	if (!HASH_ADDED(member)) {
		if (image)
			image_fail(image, -ENOMEM);
		else
			session_send_goodbye(hop_owner(member->hop), -EBUSY, "the daemon has no memory left");
		session_free(member->hop);
		free(member);
		return NULL;
	}
	member->number = ++local->last_number;
	return member;
}

static void add_session(struct local *local, int fd, const struct span *span)
{
	struct member *member = add_member(local, fd, NULL);
	char why[160];
	int r;

	if (!member) {
		log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_WARNING,
			    "a program is refused: the daemon has no memory left");
		return;
	}
	span_end(span, hop_account(member->hop));
	r = session_admit(member->hop, why, sizeof(why));
	if (r < 0)
		session_refuse(member->hop, r, why);
}

/* Stops accepting for a moment. Without descriptors left, accept() would fail again and again until some are
 * closed; and whoever comes, is refused, and comes again must not use them up. */
static void pause_accepting(struct local *local, unsigned ms)
{
	event_del(local->accept_event);
	timer_set(local->retry_timer, ms);
}

static void local_on_retry(int fd, short what, void *userdata)
{
	struct local *local = userdata;

	event_add(local->accept_event, NULL);
}

static void on_accept(int fd, short what, void *userdata)
{
	struct local *local = userdata;

	for (int i = 0; i < ACCEPT_MAX; i++) {
		struct span span;
		int client;

		if (work_pool_is_behind(local->board->work_pool)) {
			pause_accepting(local, BEHIND_PAUSE_MS);
			break;
		}
		span_begin(&span, local->board);
		client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client >= 0) {
			add_session(local, client, &span);
			continue;
		}
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR, "accepting a program: %s",
				    strerror(errno));
			pause_accepting(local, NO_DESCRIPTORS_PAUSE_MS);
		}
		break;
	}
}

/* Takes over the service manager's socket. */
static int take_over(struct local *local, int *handed_over)
{
	char *path = handed_over_path(*handed_over);

	if (!path)
		return -ENOMEM;
	free(local->path);
	local->path = path;
	local->is_handed_over = !local->options.handed_over->are_ours;
	local->fd = *handed_over;
	*handed_over = -1;
	return 0;
}

int local_new(struct local **out, struct switchboard *board, const struct local_options *options,
	      const struct session_callbacks *callbacks, void *userdata)
{
	bool takes_over = options->handed_over && options->handed_over->programs >= 0;
	struct local *local = calloc(1, sizeof(*local));
	int r;

	if (!local)
		return -ENOMEM;
	local->board = board;
	local->options = *options;
	local->callbacks = callbacks;
	local->userdata = userdata;
	local->fd = -1;
	local->path = strdup(options->socket_path);
	if (!local->path)
		r = -ENOMEM;
	else if (takes_over)
		r = take_over(local, &options->handed_over->programs);
	else /* every user may connect; policy decides later what each may do */
		r = local->fd = unix_listener_new(local->path, SOCK_STREAM, 0666, BACKLOG);
	if (r < 0) {
		free(local->path);
		free(local);
		return r;
	}
	local->accept_event = event_new(board->base, local->fd, EV_READ | EV_PERSIST, on_accept, local);
	local->retry_timer = evtimer_new(board->base, local_on_retry, local);
	if (!local->accept_event || !local->retry_timer || event_add(local->accept_event, NULL) < 0) {
		if (takes_over) { /* for another attempt */
			options->handed_over->programs = local->fd;
			local->is_handed_over = true;
			local->fd = -1;
		}
		local_free(local);
		return -ENOMEM;
	}
	*out = local;
	return 0;
}

const char *local_path(const struct local *local)
{
	return local->path;
}

gid_t local_group(const struct local *local)
{
	struct stat status;

	return stat(local->path, &status) == 0 ? status.st_gid : 0;
}

void local_remove(struct local *local, struct hop *program)
{
	struct member *member;

	HASH_FIND_PTR(local->members, &program, member);
	if (!member)
		return;
	HASH_DEL(local->members, member);
	session_free(member->hop);
	free(member);
}

void local_free(struct local *local)
{
	if (!local)
		return;
	while (local->members)
		local->callbacks->gone(local->userdata, local->members->hop);
	free_event(local->accept_event);
	free_event(local->retry_timer);
	/* The service manager keeps its socket for the next daemon, so it isn't ours to shut down. */
	if (local->is_handed_over) {
		close(local->fd);
	} else {
		unlink(local->path);
		program_socket_close(local->board, local->fd, NULL); /* ends what waits to be accepted, too */
	}
	free(local->path);
	free(local);
}

unsigned local_count(const struct local *local)
{
	return HASH_COUNT(local->members);
}

unsigned local_memories(const struct local *local)
{
	const struct member *member;
	unsigned count = 0;

	for (member = local->members; member; member = member->hh.next)
		count += session_shares_memory(member->hop);
	return count;
}

static void local_each_hop(void *self, void (*each)(void *userdata, struct hop *program), void *userdata)
{
	struct local *local = self;
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next)
		each(userdata, member->hop);
}

/* --- handing over ----------------------------------------------------------------------------- */

int local_listener(const struct local *local)
{
	return local->fd;
}

bool local_is_handed_over(const struct local *local)
{
	return local->is_handed_over;
}

bool local_end_unfit(struct local *local, bool is_carried)
{
	struct member *member, *next;
	bool were_some = false;

	HASH_ITER(hh, local->members, member, next) {
		if (session_fits_image(member->hop) && (!is_carried || session_can_be_carried(member->hop)))
			continue;
		session_end_unfit(member->hop);
		were_some = true;
	}
	return were_some;
}

static uint32_t local_number(void *self, uint32_t first)
{
	struct local *local = self;
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next)
		hop_set_image_number(member->hop, first++);
	return first;
}

void local_settle_for_image(struct local *local)
{
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next)
		session_settle_for_image(member->hop);
	switch_run(local->board, SETTLING_PASSES);
}

static void local_write(void *self, struct image *image)
{
	struct local *local = self;
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next) {
		int fd = session_socket(member->hop);

		image_section(image, IMAGE_SESSION);
		image_fd(image, &fd);
		session_image(image, member->hop);
	}
}

static void local_read_session(void *self, struct image *image, struct image_hops *hops)
{
	struct local *local = self;
	struct span span;
	struct member *member;
	int fd = -1;

	image_fd(image, &fd);
	image_expect(image, fd >= 0 && session_is_socket(fd));
	if (image->error) { /* a stand-in gets its number */
		if (fd >= 0)
			program_socket_close(local->board, fd, NULL);
		return;
	}
	span_begin(&span, local->board);
	member = add_member(local, fd, image);
	if (!member)
		return;
	span_end(&span, hop_account(member->hop));
	session_image(image, member->hop);
	hop_set_image_number(member->hop, hops->count);
	hops->hops[hops->count++] = member->hop;
	hops->sessions = hops->count;
}

static void local_write_channels(void *self, struct image *image)
{
	struct local *local = self;
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next)
		hop_write_channels(image, member->hop);
}

static void local_write_ledgers(void *self, struct image *image)
{
	struct local *local = self;
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next) {
		uint32_t number = hop_number_in_image(member->hop);

		image_section(image, IMAGE_LEDGER);
		image_u32(image, &number);
		hop_ledger_image(image, member->hop);
	}
}

static bool local_lose(void *self, struct hop *hop)
{
	struct local *local = self;

	if (!hop_is_session(hop))
		return false;
	local->callbacks->gone(local->userdata, hop);
	return true;
}

static void local_go_on(void *self)
{
	struct local *local = self;
	struct member *member, *next;

	HASH_ITER(hh, local->members, member, next)
		session_go_on(member->hop);
}

static void local_drop(void *self)
{
	struct local *local = self;

	while (local->members)
		local->callbacks->gone(local->userdata, local->members->hop);
}

const struct part local_part = {
	.each_hop = local_each_hop,
	.number = local_number,
	.write = local_write,
	.write_channels = local_write_channels,
	.write_rest = local_write_ledgers,
	.sections = {{IMAGE_SESSION, local_read_session}},
	.lose = local_lose,
	.go_on = local_go_on,
	.drop = local_drop,
};

/* --- listings --------------------------------------------------------------------------------- */

static struct member *member_at(struct local *local, const struct local_place *place)
{
	struct member *member = NULL;

	if (place->hop)
		HASH_FIND_PTR(local->members, &place->hop, member);
	return member && member->number == place->number ? member : NULL;
}

struct hop *local_at(struct local *local, const struct local_place *place)
{
	struct member *member = member_at(local, place);

	return member ? member->hop : NULL;
}

struct hop *local_next(struct local *local, struct local_place *place)
{
	struct member *member = member_at(local, place);

	if (member)
		member = member->hh.next;
	else
		for (member = local->members; member && member->number <= place->number;
		     member = member->hh.next)
			;
	if (!member)
		return NULL;
	*place = (struct local_place){.hop = member->hop, .number = member->number};
	session_comm(member->hop); /* also of one that hasn't sent its HELLO */
	return member->hop;
}
