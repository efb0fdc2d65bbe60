/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The image of the daemon before this: see handover.h. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/carried_memory.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/fd_parcel.h"
#include "base/image.h"
#include "base/log.h"
#include "base/notify.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/link/directory.h"
#include "daemon/link/link.h"
#include "daemon/serve/watches.h"
#include "daemon/main/daemon.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/main/renewal.h"
#include "daemon/main/startup.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "daemon/switch/work_pool.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/router.h"
#include "daemon/topic/topics.h"
#include "daemon/xen/vchan.h"

#define LACK_PAUSE_MS 100

/* An image that is being read. */
struct handover {
	struct image image;
	bool is_open, has_head;
	int *fds; /* that a parcel has carried, until the image is open */
	uint32_t fd_count;
	struct image_hops hops;
	struct head head;
	int spare; /* a parcel of all descriptors, until the image was read; 0: none */
	char again[INHERITED_TEXT_SIZE];
	char **arguments; /* of the program that begins once more; NULL: it can't */
};

/* Reads the head of an image that was opened. This daemon is by its instance what the one before was, before
 * others see it. -ENOMEM: it is to be called again. */
static int handover_take_read_head(struct daemon *daemon, struct handover *handover)
{
	struct image *image = &handover->image;
	const struct self *self = &handover->head.self;

	if (!handover->has_head && !image->error && image_next(image) != IMAGE_HEAD)
		image_fail(image, -EINVAL);
	if (!handover->has_head)
		handover_head_image(image, &handover->head);
	handover->has_head = true;
	if (!handover->hops.hops)
		handover->hops.hops = calloc((size_t)handover->head.sessions + handover->head.links +
						     handover->head.topics + 1,
					     sizeof(struct hop *));
	if (!handover->hops.hops)
		return -ENOMEM;
	if (image->error)
		return 0;
	memcpy(daemon->self.instance, self->instance, sizeof(self->instance));
	uuid_print(self->instance, daemon->self.instance_text);
	memcpy(daemon->self.former, self->former, sizeof(self->former));
	daemon->self.former_count = self->former_count;
	return 0;
}

/* Finds what was inherited, where no image says what it is: the sockets of programs, which would
 * wait for ever, their memory and their doorbells. They are closed with what nobody takes of the image. That
 * comes before this daemon opens anything that isn't close-on-exec, as Xen's libraries open devices. Without
 * memory for it this daemon can't go on: all is closed by its end. */
static int find_inherited(struct image *image)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int r = 0;

	if (!dir)
		return -errno;
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		int fd = atoi(entry->d_name), flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;

		if (flags >= 0 && !(flags & FD_CLOEXEC) && (r = image_add_rest(image, fd)) < 0)
			break;
	}
	if (r == 0)
		r = -errno; /* 0: that was all */
	closedir(dir);
	return r;
}

/* Makes what an image is read into, once. */
static int new_handover(struct daemon *daemon)
{
	if (!daemon->handover)
		daemon->handover = calloc(1, sizeof(*daemon->handover));
	return daemon->handover ? 0 : -ENOMEM;
}

/* Takes out of the parcel what the service manager has kept there, or a program that has begun once more. */
static int open_carried(struct handover *handover, int image, int parcel)
{
	int r = parcel < 0 ? -EBADF : fd_parcel_empty(parcel, &handover->fds, &handover->fd_count);

	if (r == 0)
		r = image_open_carried(&handover->image, image, handover->fds, handover->fd_count);
	else if (r != -ENOMEM)
		handover->image = (struct image){.is_read = true, .error = r};
	if (r != -ENOMEM)
		return 0;
	image_free(&handover->image);
	return r;
}

/* Takes the image that was inherited, and the parcel with it if there is one. */
static int open_image(struct daemon *daemon)
{
	struct inherited *inherited = &daemon->inherited;
	struct handover *handover;
	int r = new_handover(daemon);

	if (r < 0)
		return r;
	handover = daemon->handover;
	if (!handover->is_open && inherited->parcel >= 0) {
		r = open_carried(handover, inherited->image, inherited->parcel);
	} else if (!handover->is_open && image_open(&handover->image, inherited->image) == -ENOMEM) {
		image_free(&handover->image);
		r = -ENOMEM;
	}
	if (r < 0)
		return r;
	handover->is_open = true;
	r = handover_take_read_head(daemon, handover);
	if (r < 0)
		return r;
	descriptors_close(&inherited->parcel, 1);
	inherited->parcel = -1;
	return handover->image.error ? find_inherited(&handover->image) : 0;
}

/* Takes what the service manager has kept, which it forgets: should this daemon crash, the next one finds
 * nothing. */
static int open_stored(struct daemon *daemon)
{
	struct handed_over *sockets = &daemon->sockets;
	struct handover *handover;
	int r;

	if (sockets->image < 0 && sockets->parcel < 0)
		return 0;
	r = new_handover(daemon);
	if (r < 0)
		return r;
	handover = daemon->handover;
	if (!handover->is_open && (r = open_carried(handover, sockets->image, sockets->parcel)) < 0)
		return r;
	handover->is_open = true;
	r = handover_take_read_head(daemon, handover);
	if (r < 0)
		return r;
	notify_forget(HANDED_OVER_IMAGE);
	notify_forget(HANDED_OVER_PARCEL);
	free(handover->fds);
	handover->fds = NULL;
	descriptors_close(&sockets->parcel, 1);
	daemon->inherited.image = sockets->image;
	sockets->image = sockets->parcel = -1;
	return handover->image.error ? find_inherited(&handover->image) : 0;
}

void handover_free(struct daemon *daemon)
{
	struct handover *handover = daemon->handover;

	if (!handover)
		return;
	if (daemon->has_board)
		work_pool_close_rest(&daemon->board, &handover->image);
	image_free(&handover->image);
	free(handover->hops.hops);
	free(handover->hops.states);
	free(handover->hops.spoilt);
	free(handover->fds);
	free(handover->arguments);
	free(handover);
	if (daemon->inherited.image >= 0)
		close(daemon->inherited.image);
	daemon->inherited.image = -1;
	daemon->handover = NULL;
}

int handover_take(struct daemon *daemon)
{
	const struct inherited *inherited = &daemon->inherited;
	const int fds[] = {inherited->image, inherited->programs, inherited->gateway, inherited->lock,
			   inherited->parcel};
	int r;

	if (inherited->programs < 0) {
		r = daemon->sockets.image < 0 && daemon->sockets.parcel < 0
			    ? handed_over_take(&daemon->sockets)
			    : 0;
		return r < 0 ? r : open_stored(daemon);
	}
	for (unsigned i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			fcntl(fds[i], F_SETFD, FD_CLOEXEC);
	daemon->sockets = HANDED_OVER_NOTHING;
	daemon->sockets.programs = inherited->programs;
	daemon->sockets.gateway = inherited->gateway;
	daemon->sockets.are_ours = inherited->are_ours;
	daemon->singleton = inherited->lock;
	return inherited->image < 0 ? 0 : open_image(daemon);
}

bool handover_is_bad(const struct daemon *daemon)
{
	return daemon->handover && daemon->handover->is_open && daemon->handover->image.error;
}

static bool are_links_read(const struct image_hops *hops, const struct head *head)
{
	return hops->sessions == head->sessions && hops->links == head->links;
}

/* Sections come in this order of their types, of which later ones have larger numbers than those before which
 * they belong. */
static unsigned handover_take_rank(uint32_t type)
{
	static const uint8_t order[] = {
		IMAGE_HOSTS,	IMAGE_REGISTRY, IMAGE_POLICY,  IMAGE_MEMORY,	IMAGE_SESSION,
		IMAGE_LINK,	IMAGE_TOPIC,	IMAGE_STREAM,  IMAGE_QUESTIONS, IMAGE_ROOM,
		IMAGE_COMMAND,	IMAGE_WAITING,	IMAGE_CHANNEL, IMAGE_LEDGER,	IMAGE_PARTY,
		IMAGE_ENDPOINT, IMAGE_STANDING, IMAGE_CLOSING, IMAGE_COUNTERS,
	};
	unsigned i = 0;

	while (i < sizeof(order) && order[i] != type)
		i++;
	return i;
}

/* Whether what is numbered may come now. */
static bool is_in_turn(const struct handover *handover, uint32_t type)
{
	const struct head *head = &handover->head;
	const struct image_hops *hops = &handover->hops;

	switch (type) {
	case IMAGE_SESSION:
		return hops->count < head->sessions;
	case IMAGE_LINK:
		return hops->sessions == head->sessions && hops->links < head->links;
	case IMAGE_TOPIC:
		return are_links_read(hops, head) && hops->topics < head->topics;
	default:
		return handover_take_rank(type) < handover_take_rank(IMAGE_SESSION) ||
		       (are_links_read(hops, head) && hops->topics == head->topics);
	}
}

/* Reads a section. */
static void read_section(struct daemon *daemon, struct handover *handover, uint32_t type)
{
	struct image *image = &handover->image;
	struct image_hops *hops = &handover->hops;
	unsigned i = 0;
	uint32_t number;
	struct hop *hop;

	if (handover_section_image(image, daemon, type))
		return;
	switch (type) {
	case IMAGE_MEMORY:
		memfd_lifetimes_read_image(image, &daemon->board);
		break;
	case IMAGE_CHANNEL:
		channel_read_image(image, hops);
		break;
	case IMAGE_LEDGER:
		hop = image_program(image, hops, &number);
		if (hop)
			hop_ledger_image(image, hop);
		break;
	case IMAGE_CLOSING:
		work_pool_read_image(&daemon->board, image);
		break;
	default:
		while (i < PARTS && !part_read(parts[i], part_self(daemon, i), image, type, hops))
			i++;
		if (i == PARTS)
			image_fail(image, -EPROTONOSUPPORT);
	}
}

/* What becomes of what a section is about that has no owner; NULL: it has one. */
static const char *without(uint32_t type)
{
	switch (type) {
	case IMAGE_COUNTERS:
		return "counters begin anew";
	case IMAGE_HOSTS:
		return "links with other hosts end";
	case IMAGE_REGISTRY:
		return "names are learned anew";
	case IMAGE_POLICY:
		return "domain 0 has to tell its policy again";
	case IMAGE_QUESTIONS:
		return "numbers of channels with questions begin anew";
	case IMAGE_MEMORY:
		return "nobody pays for some memory that a program keeps";
	case IMAGE_COMMAND:
		return "a command that was started is watched no more";
	case IMAGE_CLOSING:
		return "what a program has left is closed later";
	default:
		return NULL;
	}
}

/* A section can't be taken: its owner ends, once all was read. Returns 0, or a negative errno: nobody knows
 * the owner, and the whole image is given up. */
static int handover_take_lose(struct daemon *daemon, struct handover *handover, uint32_t type, int error,
			      const struct image_hops *before)
{
	struct image_hops *hops = &handover->hops;
	const uint32_t *owners = handover->image.owners;
	const char *words = without(type);
	bool is_told = false;
	int r;

	for (unsigned i = 0; i < 2 && hops->spoilt_count == before->spoilt_count; i++)
		is_told |= owners[i] != IMAGE_NOBODY && !image_hops_has(hops, owners[i]);
	r = image_hops_lose_section(hops, &daemon->board, &handover->image, type, before);
	if (r == 0 && !words)
		r = error;
	if (type == IMAGE_POLICY)
		access_drop_image(daemon->access); /* a part of it may allow more than the whole */
	daemon->has_lost = true;
	if (!is_told)
		log_error(
			"a section of type %u that the daemon before this hands over can't be taken: %s; %s",
			type, strerror(-error), words ? words : "its owner ends");
	return r < 0 ? r : 0;
}

/* --- once more ---------------------------------------------------------------------------------- */

/* A lack passes, and nobody has been told anything: this program begins once more. The parcel has all
 * descriptors, also those that are closed by now. Returns if it has no time for that, or can't. */
static void begin_again(void *userdata, int error)
{
	struct daemon *daemon = userdata;
	struct handover *handover = daemon->handover;
	uint64_t now = clock_ms(), since = daemon->inherited.lacks_since_ms;
	struct inherited inherited;

	/* A share that is used up is no lack. */
	if (!handover->arguments || error == -ENOBUFS || startup_error(error, 0) == 0 ||
	    (since && now - since > STARTUP_LACKS_MS))
		return;
	if (!since)
		log_warning(STARTUP_WAITS "there is what this daemon lacks: %s", strerror(-error));
	inherited = handover_let_inherit(daemon, daemon->inherited.image);
	inherited.parcel = handover->spare;
	inherited.lacks_since_ms = since ? since : now;
	fcntl(inherited.parcel, F_SETFD, 0);
	inherited_print(&inherited, handover->again);
	handover_leave_xen(daemon);
	startup_pause(since ? LACK_PAUSE_MS : 0);
	execv("/proc/self/exe", handover->arguments);
	log_error("can't start this program again: %s", strerror(errno));
	exit(EXIT_FAILURE);
}

/* Makes what this program needs to read the image once more. Without it a lack ends its owner. */
static void prepare_again(struct daemon *daemon, struct handover *handover)
{
	const struct daemon_program *program = daemon->program;
	char **known = renewal_arguments(program->argv, "--program", program->path);

	handover->image.on_error = begin_again;
	handover->image.userdata = daemon;
	handover->spare = image_carry(&handover->image);
	if (known && handover->spare > 0)
		handover->arguments = renewal_arguments(known, "--take-over", handover->again);
	free(known);
}

/* The image was read, so nobody needs its descriptors a second time. The last close of one may take long. */
static void forget_again(struct daemon *daemon, struct handover *handover)
{
	if (handover->spare > 0)
		work_pool_close_socket(&daemon->board, handover->spare, NULL);
	handover->spare = 0;
	handover->image.on_error = NULL;
}

static void read_image(struct daemon *daemon, struct handover *handover)
{
	const struct head *head = &handover->head;
	struct image *image = &handover->image;
	struct image_hops before;
	uint32_t type, last = IMAGE_HOSTS;
	int error;

	switch_image(image, &daemon->board);
	while ((type = image_next(image))) {
		image_expect(image, handover_take_rank(type) >= handover_take_rank(last) &&
					    is_in_turn(handover, type));
		if (image->error)
			return;
		last = type;
		before = handover->hops;
		read_section(daemon, handover, type);
		error = image_leave_section(image);
		if (error < 0)
			image_fail(image, handover_take_lose(daemon, handover, type, error, &before));
	}
	image_expect(image, last == IMAGE_COUNTERS && are_links_read(&handover->hops, head) &&
				    handover->hops.topics == head->topics);
	if (!image->error && topics_lose_unfit(&handover->hops) < 0)
		image_fail(image, -ENOMEM);
	if (!image->error)
		begin_again(daemon, questions_take_up(daemon->questions));
}

/* Ends whose hop couldn't be taken, and his channels at the other ends. */
static void lose(struct daemon *daemon, const struct image_hops *hops, uint32_t number)
{
	unsigned part = 0;

	if (hops->states[number] != HOP_LOST)
		return;
	while (part < PARTS &&
	       !(parts[part]->lose && parts[part]->lose(part_self(daemon, part), hops->hops[number])))
		part++;
	if (part == PARTS)
		hop_reset_channels(hops->hops[number], ECONNRESET);
}

/* A stream comes before the program that it waits for, with which it would end; a topic behind its own. */
static void end_lost(struct daemon *daemon, struct image_hops *hops)
{
	uint32_t streams = hops->sessions + hops->links + hops->topics;

	image_hops_end_channels(hops);
	for (uint32_t i = streams; i < hops->state_count; i++)
		lose(daemon, hops, i);
	for (uint32_t i = 0; i < streams && i < hops->state_count; i++)
		lose(daemon, hops, i);
}

static void handover_take_go_on(struct daemon *daemon, struct image_hops *hops, const struct head *head)
{
	router_adopt_channels(daemon->router, hops);
	end_lost(daemon, hops);
	if (daemon->domains)
		domains_list(daemon->domains); /* some may have gone meanwhile */
	else
		directory_believe_on(daemon->directory);
	/* It is a reload: the files may have other rules. */
	reload_apply_rules(daemon);
	image_hops_end(hops);
	for (unsigned i = 0; i < PARTS; i++)
		if (parts[i]->go_on)
			parts[i]->go_on(part_self(daemon, i));
	watches_settle(daemon->watches, daemon->base);
	daemon->renewals = daemon->sources.renewals = head->renewals;
	snprintf(daemon->sources.renewed_from, sizeof(daemon->sources.renewed_from), "%s", head->version);
	memfd_lifetimes_settle(&daemon->board);
	invariants_check(daemon);
	invariants_dump(daemon, head->renewals, "after");
	log_info("took over from xenmsgd %s: programs: %u, endpoints: %u, links: %u, streams: %u",
		 head->version, hops->sessions, router_endpoints(daemon->router), head->links, hops->streams);
}

/* Goes on as the domain that the image is of, which may have got another number since; or the same one on
 * another host, but never with our nodes. */
static int go_on_by_number(struct daemon *daemon, struct handover *handover, uint32_t domid)
{
	bool is_moved = handover->head.has_leaf && daemon->own_leaves_missing == STARTUP_OWN_LEAVES;

	handover_take_go_on(daemon, &handover->hops, &handover->head);
	return domid == daemon->self.domid && !is_moved ? 0 : restore_renumber(daemon, domid);
}

int handover_read(struct daemon *daemon)
{
	struct handover *handover = daemon->handover;
	uint32_t domid = daemon->self.domid;
	int r = 0;

	if (!handover)
		return 0;
	image_expect(&handover->image, (handover->head.self.domid == 0) == (domid == 0));
	if (!handover->image.error) {
		daemon->self.domid = handover->head.self.domid;
		prepare_again(daemon, handover);
		read_image(daemon, handover);
		carried_image_end(daemon->board.rings);
		forget_again(daemon, handover);
	}
	if (handover->image.error || !handover->head.has_leaf)
		vchan_host_leave_to_keeper(daemon->host);
	if (domid != 0)
		restore_note_token(daemon);
	if (handover->image.error) {
		daemon->self.domid = domid;
		log_error(
			"what the daemon before this hands over can't be taken: %s; this one begins afresh, and all "
			"connections end",
			strerror(-handover->image.error));
		/* Topics come behind their publishers, and these behind what waits for them. */
		for (unsigned i = PARTS; i-- > 0;)
			if (parts[i]->drop && i != PART_TOPICS)
				parts[i]->drop(part_self(daemon, i));
		topics_part.drop(daemon->topics);
		image_hops_end(&handover->hops);
	} else {
		r = go_on_by_number(daemon, handover, domid);
	}
	handover_free(daemon);
	links_take_up(daemon->links);
	return r;
}
