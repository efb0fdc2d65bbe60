/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a daemon hands over, as bytes of any kind: two hops to programs, which share memory or don't, one of
 * a link, topics that nobody here has bound, byte streams that wait to be fetched, endpoints that are
 * started on demand and have no file here, their channels, what lies in the programs' rings, other hosts,
 * names and the host's policy. What is taken must go on: it gets rings and passes. Whatever is wrong,
 * nothing is left, and an owner without a bad section is there, with its channels. Where all of an image is
 * good, each section is spoilt in turn, and only those end whose it is. `make check` takes its seeds from the
 * unit tests that write images (image_seeds in local.mk), so they are of the layout that there is.
 */

#include <sys/socket.h>

#include <event2/event.h>

#include "base/image.h"
#include "base/log.h"
#include "base/quota.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "tests/unit/private_ring.h"
#include "daemon/switch/work_pool.h"
#include "base/self.h"
#include "daemon/activation/activation.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/link/relay.h"
#include "daemon/local/session.h"
#include "daemon/local/stream_internal.h"
#include "daemon/local/streams.h"
#include "daemon/policy/access.h"
#include "daemon/topic/topics.h"
#include "daemon/switch/part.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/image_bytes.h"
#include "wire/bytes.h"

#define HOPS	  3
#define FORMAT_AT 8 /* in an image */
#define TOPICS	  4
#define LINK	  2 /* the last one is a link's */
#define PASSES	  20
#define PIECES	  8
#define SEEN	  64 /* sections, and hops, of which we look at no more */

struct program {
	struct hop *hop;
	struct private_ring in, out[HOP_OUTLETS];
};

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	channel_refuse(channel, ENOENT);
	return 0;
}

static void on_notify(void *owner)
{
}

static void on_failed(void *owner, int error, const char *why)
{
	struct program *program = owner;

	hop_detach(program->hop);
	hop_reset_channels(program->hop, EHOSTDOWN);
}

static const struct hop_callbacks callbacks = {
	.control = on_control, .open = on_open, .notify = on_notify, .failed = on_failed};

static void open_none(void *userdata, struct channel *channel, struct frame_text address)
{
	channel_refuse(channel, ENOENT);
}

static int added(void *userdata, struct activation *activation)
{
	return 0;
}

static void removed(void *userdata, struct activation *activation)
{
}

static int lead(void *userdata, struct channel *channel, const char *endpoint)
{
	return -ENOENT;
}

static const struct activation_callbacks activation_callbacks = {
	.added = added, .removed = removed, .lead = lead};

/* What was seen of an image. */
struct seen {
	/* Of each section: where it is, and the hops whose it is, the last one being what it is itself. */
	struct {
		size_t at, end;
		uint32_t hops[3];
	} sections[SEEN];
	unsigned count;
	bool is_bad;		 /* a section can't be taken */
	bool may_end[SEEN];	 /* hops: they have a bad section */
	unsigned channels[SEEN]; /* of a hop, in good sections */
};

/* What sections are read into, besides hops. */
struct parts {
	struct topics *topics;
	struct streams *streams;
	struct activations *activations;
	struct registry *registry;
	struct access *access;
	struct hosts *hosts;
	struct relay *relay;
	struct memfd_lifetimes *lives;
	struct quota *quota; /* of those who pay for memory that they keep */
};

/* --- sections --------------------------------------------------------------------------------- */

/* Topics take a hop's owner for a session, which none is here: so to them all are of links. */
static void read_of_topic(struct image *image, struct image_hops *hops, struct topics *topics, uint32_t type)
{
	struct image_hops links = *hops;

	links.links += links.sessions;
	links.sessions = 0;
	image_expect(image, type == IMAGE_PARTY || hops->count - links.links < TOPICS);
	if (image->error)
		return;
	part_read(&topics_part, topics, image, type, &links);
	links.links = hops->links;
	links.sessions = hops->sessions;
	*hops = links;
}

/* Nothing else here is paid for. */
static void read_of_memory(struct image *image, struct parts *parts, struct switchboard *board)
{
	board->memfd_lifetimes = parts->lives;
	board->quota = parts->quota;
	memfd_lifetimes_read_image(image, board);
	board->memfd_lifetimes = NULL;
	board->quota = NULL;
}

static void read_section(struct image *image, struct image_hops *hops, struct program *programs,
			 struct parts *parts, struct switchboard *board, uint32_t type)
{
	bool shares = false;
	struct hop *hop;
	uint32_t number;

	if (type == IMAGE_SESSION && hops->count < LINK && hops->sessions == hops->count) {
		image_bool(image, &shares);
		hop_set_kind(programs[hops->count].hop, shares ? HOP_SHARED : HOP_SOCKET);
		hop_image(image, programs[hops->count].hop);
		hop_set_image_number(programs[hops->count].hop, hops->count);
		hops->hops[hops->count] = programs[hops->count].hop;
		hops->sessions = ++hops->count;
	} else if (type == IMAGE_LINK && hops->sessions == hops->count) {
		hop_link_image(image, programs[LINK].hop);
		hop_set_image_number(programs[LINK].hop, hops->count);
		hops->hops[hops->count++] = programs[LINK].hop;
		hops->links++;
	} else if (type == IMAGE_TOPIC || type == IMAGE_PARTY) {
		read_of_topic(image, hops, parts->topics, type);
	} else if (type == IMAGE_HOSTS) {
		hosts_image(image, parts->hosts);
	} else if (type == IMAGE_REGISTRY) {
		registry_names_image(image, parts->registry);
	} else if (type == IMAGE_MEMORY) {
		read_of_memory(image, parts, board);
	} else if (type == IMAGE_CLOSING) {
		work_pool_read_image(board, image);
	} else if (type == IMAGE_POLICY) {
		access_image(image, parts->access);
	} else if (type == IMAGE_CHANNEL) {
		channel_read_image(image, hops);
	} else if (type == IMAGE_LEDGER) {
		hop = image_program(image, hops, &number);
		if (hop)
			hop_ledger_image(image, hop);
	} else if (!part_read(&streams_part, parts->streams, image, type, hops) &&
		   !part_read(&activations_part, parts->activations, image, type, hops) &&
		   !part_read(&relay_part, parts->relay, image, type, hops)) {
		image_fail(image, -EINVAL);
	}
}

/* Notes what was read, or can't be. */
static void see(struct seen *seen, const struct image *image, const struct image_hops *hops,
		const struct image_hops *before, size_t at, bool is_channel, int error)
{
	const uint32_t of[] = {image->owners[0], image->owners[1],
			       hops->count > before->count ? before->count : IMAGE_NOBODY};

	if (seen->count < SEEN) {
		seen->sections[seen->count].at = at;
		seen->sections[seen->count].end = image->end;
		memcpy(seen->sections[seen->count++].hops, of, sizeof(of));
	}
	seen->is_bad |= error < 0;
	for (unsigned i = 0; i < 3; i++) {
		if (of[i] >= SEEN)
			continue;
		seen->may_end[of[i]] |= error < 0;
		seen->channels[of[i]] += is_channel && error == 0;
	}
}

/* Whether it is numbered among those that come before others that were read. */
static bool is_late(const struct image_hops *hops, uint32_t type)
{
	uint32_t links = hops->sessions + hops->links;

	return (type == IMAGE_SESSION && hops->count > hops->sessions) ||
	       (type == IMAGE_LINK && hops->count > links) ||
	       (type == IMAGE_TOPIC && hops->count > links + hops->topics);
}

/* Reads all sections; those that can't be taken end whose they are, as in handover_take.c. */
static void read_all(struct image *image, struct image_hops *hops, struct program *programs,
		     struct parts *parts, struct switchboard *board, struct seen *seen)
{
	struct image_hops before;
	uint32_t type;
	size_t at;
	int error;

	while ((type = image_next(image))) {
		image_expect(image, !is_late(hops, type));
		if (image->error)
			return;
		at = image->at;
		before = *hops;
		read_section(image, hops, programs, parts, board, type);
		error = image_leave_section(image);
		if (error < 0)
			check(image_hops_lose_section(hops, board, image, type, &before) >= 0);
		see(seen, image, hops, &before, at, type == IMAGE_CHANNEL, error);
	}
}

/* An owner without a bad section is as it was. `may_end`: those that have one. A stream that waits for a
 * program ends with it. */
static void check_others(const struct image_hops *hops, const struct seen *seen, const bool may_end[SEEN])
{
	for (uint32_t i = 0; i < hops->count && i < SEEN; i++) {
		if (may_end[i] || (i >= hops->sessions + hops->links + hops->topics && seen->may_end[i]))
			continue;
		check(image_hops_has(hops, i));
		check(hop_channel_count(hops->hops[i]) >= seen->channels[i]);
	}
}

/* Ends those that couldn't be taken. */
static void end_lost(struct image_hops *hops, struct parts *parts)
{
	image_hops_end_channels(hops);
	for (uint32_t i = 0; i < hops->state_count && i < hops->count; i++)
		if (hops->states[i] == HOP_LOST && !topics_part.lose(parts->topics, hops->hops[i]) &&
		    !streams_part.lose(parts->streams, hops->hops[i]))
			hop_reset_channels(hops->hops[i], ECONNRESET);
}

/* Gives a link rings as a new vchan has them. */
static void resume(struct program *program)
{
	struct ring_view in = private_ring_view(&program->in), out = private_ring_view(&program->out[0]);
	struct ring_reader reader;
	struct ring_writer writer;

	check(ring_reader_init(&reader, &in, true) == 0 && ring_writer_init(&writer, &out, true) == 0);
	if (hop_is_away(program->hop))
		hop_resume(program->hop, &reader, &writer, hop_acked(program->hop));
	else
		hop_attach_begun(program->hop, &reader, &writer);
}

/* Gives each hop rings, which nobody reads, and runs what there is to do. */
static void go_on(struct switchboard *board, struct program *programs, const struct image_hops *hops)
{
	for (uint32_t i = 0; i < hops->count; i++)
		if (hops->hops[i] == programs[LINK].hop && image_hops_has(hops, i))
			resume(&programs[LINK]);
	for (uint32_t i = 0; i < hops->sessions && i < LINK; i++) {
		if (!image_hops_has(hops, i))
			continue;
		struct hop_rings rings = {.in = private_ring_view(&programs[i].in), .adopt = true};

		for (unsigned j = 0; j < HOP_OUTLETS; j++)
			rings.out[j] = private_ring_view(&programs[i].out[j]);
		check(hop_attach_again(hops->hops[i], &rings) == 0);
		hop_event(hops->hops[i]);
	}
	switch_run(board, PASSES);
}

static struct self guest = {.domid = 1};
static const struct hosts_options hosts_options = {.self = &guest, .socket_path = "socket", .user = 65534};
static const struct hosts_callbacks hosts_callbacks = {.failed = NULL};

static int route(void *userdata, struct channel *channel, const struct frame_open *open)
{
	return -ENOENT;
}

/* What lies in a stream's rings goes over beside the image: here that are the image's last bytes. */
static void fill_rings(void *userdata, struct hop *hop)
{
	const struct image *image = userdata;
	struct stream *stream = hop_owner(hop);
	const struct ring_view rings[] = {stream_to_hop(stream), stream_data_from_hop(stream),
					  stream_from_hop(stream)};

	for (unsigned i = 0; i < 3; i++)
		for (size_t j = 0; j < image->size && j < rings[i].size; j++)
			rings[i].data[(*rings[i].producer - 1 - j) & (rings[i].size - 1)] =
				image->data[image->size - 1 - j];
}

static const struct quota_limits limits = {.pool = {[QUOTA_MEMORY] = 1 << 20}};

/* `may_end`: those who may; NULL: whose sections can't be taken. */
static void run(struct switchboard *board, struct image *image, struct topics *topics,
		struct registry *registry, struct seen *seen, const bool *may_end)
{
	struct program *programs = calloc(HOPS, sizeof(*programs));
	struct parts parts = {
		.topics = topics, .registry = registry, .streams = streams_new(board, route, NULL)};
	struct image_hops hops = {.hops = calloc(HOPS + TOPICS, sizeof(struct hop *))};
	struct carried_piece pieces[PIECES];

	/* The daemon before had some: all but the last one are free. */
	for (unsigned i = 0; i < PIECES; i++)
		check(carried_take(board->rings, &pieces[i]) == 0);
	for (unsigned i = 0; i + 1 < PIECES; i++)
		carried_give_back(board->rings, &pieces[i]);
	check(programs && parts.streams && hops.hops);
	check(memfd_lifetimes_new(&parts.lives, board) == 0);
	check((parts.quota = quota_new(&limits)));
	check(access_new(&parts.access, &guest, "/etc/xenmsg/nonexistent", registry) == 0);
	check(access_set_host(parts.access, "", CONFIG_HOST_POLICY_OBEY, -1) == 0);
	check(hosts_new(&parts.hosts, board, &hosts_options, &hosts_callbacks, NULL) == 0);
	check(relay_new(&parts.relay,
			&(struct relay_collaborators){.self = &guest, .board = board, .hosts = parts.hosts},
			false, open_none, NULL) == 0);
	check(activations_new(&parts.activations, board, "/etc/xenmsg/nonexistent", 0, "socket",
			      &activation_callbacks, NULL) == 0);
	board->last_stream = UINT32_MAX;
	for (unsigned i = 0; i < HOPS; i++)
		programs[i].hop = hop_new(board, i == LINK ? HOP_LINK : HOP_SOCKET, &callbacks, &programs[i],
					  1, CHANNEL_NUMBERS / 2);
	read_all(image, &hops, programs, &parts, board, seen);
	check_others(&hops, seen, may_end ? may_end : seen->may_end);
	check(topics_lose_unfit(&hops) == 0);
	seen->is_bad |= image->error || hops.state_count;
	if (!image->error) {
		end_lost(&hops, &parts);
		topics_part.go_on(topics);
		streams_part.each_hop(parts.streams, fill_rings, image);
		streams_part.go_on(parts.streams);
		activations_part.go_on(parts.activations);
		go_on(board, programs, &hops);
	} else {
		activations_part.drop(parts.activations);
		end_lost(&hops, &parts);
	}
	image_hops_end(&hops);
	relay_part.drop(parts.relay);
	topics_free(topics);
	streams_free(parts.streams);
	activations_free(parts.activations);
	relay_free(parts.relay);
	hosts_free(parts.hosts);
	access_free(parts.access);
	for (unsigned i = 0; i < HOPS; i++)
		hop_retire(programs[i].hop, ENOENT);
	switch_cleanup(board);
	memfd_lifetimes_free(parts.lives);
	quota_free(parts.quota);
	free(hops.hops);
	free(hops.states);
	free(hops.spoilt);
	free(programs);
}

static void read_it(const uint8_t *data, size_t size, struct seen *seen, const bool *may_end)
{
	struct event_base *base = event_base_new();
	struct self self = {0};
	struct registry *registry = registry_new(&self);
	struct topics_collaborators with = {.self = &self, .registry = registry, .open = open_none};
	struct topics *topics;
	struct switchboard board;
	struct image image;

	with.board = &board;
	check(base && registry && switch_init(&board, base, 1 << 20) == 0);
	check(topics_new(&topics, &with) == 0);
	image_open_bytes(&image, data, size);
	run(&board, &image, topics, registry, seen, may_end);
	image_free(&image);
	registry_free(registry);
	event_base_free(base);
}

/* Reads it with the second half of a section filled with ones: behind the numbers of those whose it is. */
static void read_spoilt(const uint8_t *data, size_t size, const struct seen *good, unsigned which)
{
	size_t at = good->sections[which].at, end = good->sections[which].end, half = at + (end - at) / 2;
	bool may_end[SEEN] = {false};
	struct seen *seen = calloc(1, sizeof(*seen));
	uint8_t *spoilt = malloc(size);

	check(seen && spoilt);
	for (unsigned i = 0; i < 3; i++)
		if (good->sections[which].hops[i] < SEEN)
			may_end[good->sections[which].hops[i]] = true;
	memcpy(spoilt, data, size);
	memset(spoilt + half, 0xff, end - half);
	read_it(spoilt, size, seen, may_end);
	free(spoilt);
	free(seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen *seen = calloc(1, sizeof(*seen));
	uint8_t *bytes = malloc(size + FORMAT_AT + 4);
	int r;

	check(seen && bytes);
	log_set_level(LOG_LEVEL_ERROR);
	memcpy(bytes, data, size);
	put_u32(bytes + FORMAT_AT, image_format);
	read_it(bytes, size, seen, NULL);
	for (unsigned i = 0; i < seen->count && !seen->is_bad; i++)
		read_spoilt(bytes, size, seen, i);
	free(bytes);
	r = seen->is_bad && &fuzz_is_replayed ? -1 : 0;
	free(seen);
	return r;
}
