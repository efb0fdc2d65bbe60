/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/handover.h"

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/notify.h"
#include "daemon/activation/activation.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "daemon/local/local.h"
#include "daemon/local/streams.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "daemon/switch/work_pool.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/router.h"
#include "daemon/topic/topics.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"

#define LAST_PASSES   100     /* for what can still be said */
#define SHELVE_MS     10000u  /* for what is queued to be written before */
#define PAGES_AT_ONCE 262144u /* bytes: between two turns of everybody */
#define LINKS_MAX     65536u
#define TOPICS_MAX    1048576u

/* --- the command line ------------------------------------------------------------------------- */

void inherited_print(const struct inherited *inherited, char text[INHERITED_TEXT_SIZE])
{
	int size = snprintf(text, INHERITED_TEXT_SIZE, "%d:%d:%d:%d:%d", inherited->image,
			    inherited->programs, inherited->gateway, inherited->lock, inherited->are_ours);

	if (inherited->parcel >= 0)
		snprintf(text + size, INHERITED_TEXT_SIZE - (size_t)size, ":%d:%" PRIu64, inherited->parcel,
			 inherited->lacks_since_ms);
}

bool inherited_parse(const char *text, struct inherited *inherited)
{
	char again[INHERITED_TEXT_SIZE];
	int are_ours;

	inherited->parcel = -1;
	if (sscanf(text, "%d:%d:%d:%d:%d:%d:%" SCNu64, &inherited->image, &inherited->programs,
		   &inherited->gateway, &inherited->lock, &are_ours, &inherited->parcel,
		   &inherited->lacks_since_ms) < 5)
		return false;
	inherited->are_ours = are_ours == 1;
	inherited_print(inherited, again);
	return !strcmp(text, again);
}

/* --- parts ------------------------------------------------------------------------------------ */

const struct part *const parts[PARTS] = {&local_part,  &links_part,	&topics_part,	   &streams_part,
					 &router_part, &questions_part, &activations_part, &relay_part};

void *part_self(const struct daemon *daemon, unsigned number)
{
	void *const selves[PARTS] = {daemon->local,  daemon->links,	daemon->topics,	     daemon->streams,
				     daemon->router, daemon->questions, daemon->activations, daemon->relay};

	return selves[number];
}

void parts_each_hop(const struct daemon *daemon, void (*each)(void *userdata, struct hop *hop),
		    void *userdata)
{
	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->each_hop && part_self(daemon, i))
			parts[i]->each_hop(part_self(daemon, i), each, userdata);
}

/* --- before it -------------------------------------------------------------------------------- */

static void add_queued(void *userdata, struct hop *hop)
{
	if (!hop_is_inner(hop)) /* a topic says it itself */
		*(uint64_t *)userdata += hop_queued(hop);
}

uint64_t handover_size(const struct daemon *daemon)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->queued)
			bytes += parts[i]->queued(part_self(daemon, i));
	parts_each_hop(daemon, add_queued, &bytes);
	return bytes;
}

/* Gives everybody a turn. */
static void handover_serve(struct daemon *daemon)
{
	links_poll(daemon->links);
	event_base_loop(daemon->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	vchan_host_look(daemon->host);
}

void handover_get_pages(struct daemon *daemon)
{
	struct image_shelf *shelf = &daemon->shelf;
	uint64_t began = clock_ms(), bytes = handover_size(daemon), at;

	if (image_shelf_begin(shelf, ++daemon->shelves) < 0)
		return; /* the image says so */
	/* Somebody may publish without end. */
	while (shelf->end < bytes && clock_ms() - began < SHELVE_MS &&
	       topics_shelve(daemon->topics, shelf, PAGES_AT_ONCE))
		handover_serve(daemon);
	for (at = shelf->end; at + PAGES_AT_ONCE < bytes; at += PAGES_AT_ONCE) {
		if (fallocate(shelf->fd, 0, (off_t)at, PAGES_AT_ONCE) < 0)
			return;
		handover_serve(daemon);
	}
}

/* --- the old daemon --------------------------------------------------------------------------- */

/* Ends what can't be handed over, and leaves the links. Programs are told with what is certain, as at a
 * stop. */
static void end_others(struct daemon *daemon)
{
	/* Links come behind those who want them. */
	for (unsigned i = PARTS; i-- > 0;)
		if (parts[i]->leave)
			parts[i]->leave(part_self(daemon, i));
	hosts_hand_over(daemon->hosts);
	switch_run(&daemon->board, LAST_PASSES);
}

void handover_head_image(struct image *image, struct head *head)
{
	struct self *self = &head->self;

	image_text(image, head->version, sizeof(head->version));
	image_u64(image, &head->renewals);
	image_u32(image, &self->domid);
	image_bool(image, &head->has_leaf);
	image_raw(image, self->instance, sizeof(self->instance));
	image_u32(image, &self->former_count);
	for (unsigned i = 0; i < SELF_FORMER_MAX; i++)
		image_u32(image, &self->former[i]);
	image_upto(image, &head->sessions, IMAGE_FDS_MAX);
	image_upto(image, &head->links, LINKS_MAX);
	image_upto(image, &head->topics, TOPICS_MAX);
}

bool handover_section_image(struct image *image, struct daemon *daemon, uint32_t type)
{
	switch (type) {
	case IMAGE_HOSTS:
		hosts_image(image, daemon->hosts);
		break;
	case IMAGE_REGISTRY:
		registry_names_image(image, daemon->registry);
		peers_image(image, daemon->peers);
		links_failures_image(image, daemon->links);
		vchan_host_words_image(image, daemon->host);
		break;
	case IMAGE_POLICY:
		access_image(image, daemon->access);
		break;
	case IMAGE_COUNTERS:
		turns_image(image, &daemon->board.turns);
		quota_image(image, daemon->quota);
		router_past_image(image, daemon->router);
		topics_past_image(image, daemon->topics);
		break;
	default:
		return false;
	}
	return true;
}

static void write_section(struct daemon *daemon, struct image *image, uint32_t type)
{
	image_section(image, type);
	handover_section_image(image, daemon, type);
}

static void handover_write_image(struct daemon *daemon, struct image *image, struct head *head)
{
	image_section(image, IMAGE_HEAD);
	handover_head_image(image, head);
	switch_image(image, &daemon->board);
	write_section(daemon, image, IMAGE_HOSTS);
	write_section(daemon, image, IMAGE_REGISTRY);
	write_section(daemon, image, IMAGE_POLICY);
	memfd_lifetimes_write_image(image, &daemon->board);
	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->write)
			parts[i]->write(part_self(daemon, i), image);
	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->write_channels)
			parts[i]->write_channels(part_self(daemon, i), image);
	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->write_rest)
			parts[i]->write_rest(part_self(daemon, i), image);
	if (!image->is_stored) /* the end of a process doesn't wait for what it closes */
		work_pool_write_image(daemon->work_pool, image);
	/* Behind those who hold accounts: a domain's account that nobody holds is forgotten. */
	write_section(daemon, image, IMAGE_COUNTERS);
}

static int handover_inherit(int fd)
{
	return fd < 0 || fcntl(fd, F_SETFD, 0) == 0 ? 0 : -errno;
}

struct inherited handover_let_inherit(const struct daemon *daemon, int image)
{
	struct inherited inherited = {
		.image = image,
		.programs = local_listener(daemon->local),
		.gateway = daemon->gateway_socket,
		.lock = daemon->singleton,
		.are_ours = !local_is_handed_over(daemon->local),
		.parcel = -1,
	};

	handover_inherit(inherited.image);
	handover_inherit(inherited.programs);
	handover_inherit(inherited.gateway);
	handover_inherit(inherited.lock);
	return inherited;
}

/* Makes the image, and lets the next program have its descriptors: it inherits them, or there is a parcel.
 * Returns the memfd or a negative errno. */
static int make_image(struct daemon *daemon, struct head *head, const struct image_shelf *shelf, int *parcel)
{
	struct image image;
	int fd;

	image_begin(&image);
	image.shelf = *shelf;
	image.is_stored = parcel != NULL;
	handover_write_image(daemon, &image, head);
	fd = image_seal(&image);
	for (uint32_t i = 0; fd >= 0 && !parcel && i < image.fd_count; i++)
		handover_inherit((int)image.fds[i].number);
	if (fd >= 0 && parcel && (*parcel = image_carry(&image)) < 0) {
		close(fd);
		fd = *parcel;
	}
	image_free(&image);
	return fd;
}

/* Numbers the hops of the parts from this one on to that one. Returns the number behind them. */
static uint32_t number_parts(const struct daemon *daemon, unsigned from, unsigned to, uint32_t first)
{
	for (unsigned i = from; i <= to; i++)
		if (parts[i]->number)
			first = parts[i]->number(part_self(daemon, i), first);
	return first;
}

/* Numbers all that the image is to have. One that ends since it doesn't fit may change what others have. */
static void handover_settle(struct daemon *daemon, struct head *head)
{
	uint32_t links, topics;
	bool ended;

	memfd_lifetimes_settle(&daemon->board);
	do {
		hop_free_retired(&daemon->board);
		number_parts(daemon, PART_LOCAL, PART_LINKS, 0);
		links_settle_for_image(daemon->links);
		local_settle_for_image(daemon->local);
		/* The last OPEN of a program may have made a link. */
		head->sessions = number_parts(daemon, PART_LOCAL, PART_LOCAL, 0);
		links = number_parts(daemon, PART_LINKS, PART_LINKS, head->sessions);
		ended = links_end_unfit(daemon->links);
		ended = local_end_unfit(daemon->local, daemon->is_restarted) || ended;
		ended = streams_end_unfit(daemon->streams, daemon->is_restarted) || ended;
	} while (ended);
	topics = number_parts(daemon, PART_TOPICS, PART_TOPICS, links);
	number_parts(daemon, PART_TOPICS + 1, PARTS - 1, topics);
	head->links = links - head->sessions;
	head->topics = topics - links;
	switch_publish(&daemon->board);
}

/* Ends what can't go on, and makes the image of all else. */
static int prepare_image(struct daemon *daemon, int *parcel)
{
	struct image_shelf shelf = daemon->shelf;
	char leaf[PEERS_OWN_LEAF_SIZE];
	struct head head = {.version = PACKAGE_VERSION,
			    .renewals = daemon->renewals + 1,
			    .self = daemon->self,
			    .has_leaf = daemon->self.domid != 0 && peers_own_leaf(daemon->peers, leaf)};

	daemon->shelf = (struct image_shelf){0};
	end_others(daemon);
	handover_settle(daemon, &head);
	invariants_dump(daemon, head.renewals, "before");
	return make_image(daemon, &head, &shelf, parcel);
}

void handover_leave_xen(struct daemon *daemon)
{
	store_leave_watches(daemon->store);
	peers_hand_over(daemon->peers);
	links_leave_attempts(daemon->links);
	store_free(daemon->store);
	vchan_host_free(daemon->host);
}

/* There can be no image: all goes on here as it would with the next daemon. */
static void handover_stay(struct daemon *daemon)
{
	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->stay)
			parts[i]->stay(part_self(daemon, i));
}

int handover_store(struct daemon *daemon)
{
	int parcel, image = prepare_image(daemon, &parcel), r;

	if (image < 0) {
		handover_stay(daemon);
		return image;
	}
	r = notify_store(HANDED_OVER_IMAGE, image);
	if (r == 0)
		r = notify_store(HANDED_OVER_PARCEL, parcel);
	close(image);
	close(parcel);
	if (r < 0) {
		notify_forget(HANDED_OVER_IMAGE);
		handover_stay(daemon);
		return r;
	}
	activations_stop_commands(daemon->activations);
	handover_leave_xen(daemon);
	return r;
}

int handover_make(struct daemon *daemon, struct inherited *inherited)
{
	int image;

	if (daemon->store_is_silent) { /* nothing has been given up */
		if (daemon->shelf.fd)
			close(daemon->shelf.fd);
		daemon->shelf = (struct image_shelf){0};
		return -ETIMEDOUT;
	}
	image = prepare_image(daemon, NULL);
	if (image < 0) {
		handover_stay(daemon);
		return image;
	}
	*inherited = handover_let_inherit(daemon, image);
	handover_leave_xen(daemon);
	return 0;
}
