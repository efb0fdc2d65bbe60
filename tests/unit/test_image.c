/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The image that a daemon hands over: what is written is read again, and nothing else is. */
#include "tests/unit/unit.h"
#include "tests/unit/image_bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/image.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "tests/unit/private_ring.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"

struct fields {
	uint8_t small;
	uint32_t middle;
	uint64_t large;
	bool yes;
	char text[16];
	char *string, *none;
	int fd;
};

static void fields_image(struct image *image, struct fields *fields)
{
	image_u8(image, &fields->small);
	image_u32(image, &fields->middle);
	image_u64(image, &fields->large);
	image_bool(image, &fields->yes);
	image_text(image, fields->text, sizeof(fields->text));
	image_string(image, &fields->string, 32);
	image_string(image, &fields->none, 32);
	image_fd(image, &fields->fd);
}

static int write_fields(int fd)
{
	struct fields fields = {.small = 7,
				.middle = 70000,
				.large = 1ull << 40,
				.yes = true,
				.text = "text",
				.string = (char *)(uintptr_t) "string",
				.fd = fd};
	struct image image;
	int memfd;

	image_begin(&image);
	image_section(&image, IMAGE_HEAD);
	fields_image(&image, &fields);
	image_section(&image, IMAGE_COUNTERS);
	memfd = image_seal(&image);
	assert_true(memfd >= 0);
	image_free(&image);
	return memfd;
}

TEST(what_was_written_is_read_again)
{
	int pipe_fds[2], memfd;
	struct fields fields = {0};
	struct image image;

	assert_int_equal(pipe(pipe_fds), 0);
	memfd = write_fields(pipe_fds[0]);
	assert_int_equal(image_open(&image, memfd), 0);
	assert_int_equal(image_next(&image), IMAGE_HEAD);
	fields_image(&image, &fields);
	assert_int_equal(image_next(&image), IMAGE_COUNTERS);
	assert_int_equal(image_next(&image), 0);
	assert_int_equal(image.error, 0);
	assert_int_equal(fields.small, 7);
	assert_int_equal(fields.middle, 70000);
	assert_true(fields.large == 1ull << 40 && fields.yes);
	assert_string_equal(fields.text, "text");
	assert_string_equal(fields.string, "string");
	assert_null(fields.none);
	assert_int_equal(fields.fd, pipe_fds[0]);
	assert_true(fcntl(fields.fd, F_GETFD) & FD_CLOEXEC);
	image_free(&image);
	assert_true(fcntl(pipe_fds[0], F_GETFD) >= 0); /* it was taken, so it is ours */
	free(fields.string);
	close(memfd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

TEST(bytes_on_the_shelf_of_an_image_are_found_there)
{
	struct image_shelf shelf;
	struct image_place places[2] = {{0}};
	struct image_bytes bytes = {(const uint8_t *)"shelved", 7};
	struct image image;
	int memfd;

	assert_int_equal(image_shelf_begin(&shelf, 5), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(image_shelve(&shelf, bytes.data, bytes.size, &places[i]), 0);
	places[1].shelf = 4;
	image_begin(&image);
	image.shelf = shelf;
	image_section(&image, IMAGE_HEAD);
	for (unsigned i = 0; i < 2; i++)
		image_bytes_at(&image, &bytes, 7, &places[i]);
	memfd = image_seal(&image);
	assert_int_equal(memfd, shelf.fd);
	image_free(&image);
	assert_int_equal(image_open(&image, memfd), 0);
	assert_int_equal(image_next(&image), IMAGE_HEAD);
	for (unsigned i = 0; i < 2; i++) {
		image_bytes_at(&image, &bytes, 7, NULL);
		assert_true(bytes.size == 7 && !memcmp(bytes.data, "shelved", 7));
		assert_int_equal(bytes.data < image.data + image.shelf_end, i == 0);
	}
	assert_int_equal(image_leave_section(&image), 0);
	image_free(&image);
	close(memfd);
}

/* More than are written at once, small and large in turns; and none. */
TEST(bytes_that_stay_where_they_are_stand_in_their_place)
{
	static uint8_t bytes[3000], expected[3000];
	struct image image;
	uint32_t number;
	int memfd;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	image_begin(&image);
	for (uint32_t section = 1; section <= 3; section++) {
		image_section(&image, section);
		for (uint32_t i = 0; section != 2 && i < 400; i++) {
			image_u32(&image, &i);
			image_write(&image, bytes, i % 3 ? sizeof(bytes) : 8);
		}
	}
	memfd = image_seal(&image);
	image_free(&image);
	assert_true(memfd >= 0);
	assert_int_equal(image_open(&image, memfd), 0);
	for (uint32_t section = 1; section <= 3; section++) {
		assert_int_equal(image_next(&image), section);
		for (uint32_t i = 0; section != 2 && i < 400; i++) {
			uint32_t size = i % 3 ? sizeof(bytes) : 8;

			image_u32(&image, &number);
			assert_int_equal(number, i);
			image_raw(&image, expected, size);
			assert_memory_equal(expected, bytes, size);
		}
	}
	assert_int_equal(image_next(&image), 0);
	assert_int_equal(image.error, 0);
	image_free(&image);
	close(memfd);
}

TEST(an_image_that_anybody_could_change_is_refused)
{
	int memfd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct image image;

	assert_int_equal(write(memfd, "xenmsgd\n", 8), 8);
	assert_int_equal(image_open(&image, memfd), -EINVAL);
	image_free(&image);
	close(memfd);
}

TEST(another_file_under_the_number_is_refused_and_kept)
{
	int pipe_fds[2], memfd;
	uint8_t bytes[4096];
	struct image image;
	ssize_t size;

	assert_int_equal(pipe(pipe_fds), 0);
	memfd = write_fields(pipe_fds[0]);
	assert_int_equal(dup2(memfd, pipe_fds[0]), pipe_fds[0]);
	assert_int_equal(image_open(&image, memfd), -EBADF);
	image_free(&image);
	assert_true(fcntl(pipe_fds[0], F_GETFD) >= 0);
	/* Nor is it closed where a test reads bytes, for which it counts as what it was. */
	size = pread(memfd, bytes, sizeof(bytes), 0);
	assert_in_range(size, 1, sizeof(bytes) - 1);
	assert_int_equal(image_open_bytes(&image, bytes, (size_t)size), 0);
	image_free(&image);
	assert_true(fcntl(pipe_fds[0], F_GETFD) >= 0);
	close(memfd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

TEST(what_nobody_takes_is_closed)
{
	int pipe_fds[2], memfd;
	struct image image;

	assert_int_equal(pipe(pipe_fds), 0);
	memfd = write_fields(pipe_fds[0]);
	assert_int_equal(image_open(&image, memfd), 0);
	image_free(&image);
	assert_int_equal(fcntl(pipe_fds[0], F_GETFD), -1);
	close(memfd);
	close(pipe_fds[1]);
}

/* --- hops and channels ------------------------------------------------------------------------ */

#define SOURCE 0 /* it opens */
#define SINK   1 /* it accepts */

struct program {
	struct hop *hop, *to;
	struct private_ring in, out[HOP_OUTLETS];
	struct ring_writer writer;
	struct ring_reader reader;
	unsigned pieces; /* of what comes before all further input */
};

/* The two ends: programs that share memory or don't, or, of a link, a program and another daemon. */
enum ends {
	SOCKETS,
	MEMORIES,
	LINK,
	ENDS,
};
static enum ends ends_at_work; /* of the last world_at_work() */

struct world {
	struct event_base *base;
	struct switchboard board;
	enum ends ends;
	struct program programs[2];
};

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return 0;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	return channel_accept(channel, ((struct program *)owner)->to, "inbox");
}

static void on_notify(void *owner)
{
}

static bool on_before_input(void *owner)
{
	return --((struct program *)owner)->pieces > 0;
}

static void on_failed(void *owner, int error, const char *why)
{
	fail_msg("a hop has failed: %s", why);
}

static const struct hop_callbacks callbacks = {.control = on_control,
					       .open = on_open,
					       .notify = on_notify,
					       .before_input = on_before_input,
					       .failed = on_failed};

static struct world *world_new(enum ends ends)
{
	struct world *world = calloc(1, sizeof(*world));

	world->ends = ends;
	world->base = event_base_new();
	assert_int_equal(switch_init(&world->board, world->base, 1 << 20), 0);
	for (unsigned i = 0; i < 2; i++)
		world->programs[i].hop = hop_new(&world->board,
						 ends == MEMORIES	     ? HOP_SHARED
						 : ends == LINK && i == SINK ? HOP_LINK
									     : HOP_SOCKET,
						 &callbacks, &world->programs[i], 1, 1000);
	for (unsigned i = 0; i < 2; i++) {
		world->programs[i].to = world->programs[!i].hop;
		hop_set_image_number(world->programs[i].hop, i);
	}
	return world;
}

static void world_free(struct world *world)
{
	for (unsigned i = 0; i < 2; i++)
		hop_retire(world->programs[i].hop, ENOENT);
	switch_cleanup(&world->board);
	event_base_free(world->base);
	free(world);
}

/* Attaches the hops to rings whose other ends are the test's. */
static void attach(struct world *world, bool again)
{
	for (unsigned i = 0; i < 2; i++) {
		struct program *program = &world->programs[i];
		struct ring_view in = private_ring_view(&program->in), out;
		struct hop_rings rings = {.in = in, .adopt = again && world->ends != MEMORIES};

		for (unsigned j = 0; j < HOP_OUTLETS; j++)
			rings.out[j] = private_ring_view(&program->out[j]);
		/* What the sink gets comes in its ring for deliveries. */
		out = rings.out[world->ends == MEMORIES && i == SINK ? OUTLET_DELIVERIES : OUTLET_MAIN];

		assert_int_equal(
			again ? hop_attach_again(program->hop, &rings) : hop_attach(program->hop, &rings), 0);
		assert_int_equal(ring_writer_init(&program->writer, &in, true), 0);
		assert_int_equal(ring_reader_init(&program->reader, &out, true), 0);
	}
}

static void say(struct program *program, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	const struct frame_header header = {
		.type = type, .channel = channel, .length = length, .messages = type == FRAME_DATA};

	frame_put(&program->writer, &header, payload);
	ring_writer_publish(&program->writer);
	hop_event(program->hop);
}

/* Reads the frames that have come for a program. Returns the bytes of DATA among them. */
static uint32_t hear(struct program *program)
{
	struct frame_header header;
	uint32_t data = 0, ready;

	while (frame_next(&program->reader, &header, &ready) > 0) {
		data += header.type == FRAME_DATA ? header.length : 0;
		ring_reader_consume(&program->reader, frame_size(header.length));
		ring_reader_release(&program->reader);
		hop_event(program->hop);
	}
	return data;
}

#define PIECE	   16000u
#define PIECES	   4u
#define LINK_PIECE 200u /* so that the image, which is a fuzzer's seed, is short */

/* Opens a channel and sends so much that some of it lies in the sink's ring and some is still to come. */
static struct world *world_at_work(enum ends ends)
{
	struct world *world = world_new(ends);
	uint32_t piece = ends == LINK ? LINK_PIECE : PIECE;
	uint8_t payload[PIECE] = {0};
	const struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"self:inbox", 10}};

	ends_at_work = ends;
	attach(world, false);
	say(&world->programs[SOURCE], FRAME_OPEN, 2, payload, frame_open_encode(&open, payload));
	switch_run(&world->board, 10);
	memset(payload, 'x', sizeof(payload));
	for (unsigned i = 0; i < PIECES; i++)
		say(&world->programs[SOURCE], FRAME_DATA, 2, payload, piece);
	switch_run(&world->board, 10);
	if (ends == LINK)
		assert_int_equal(hop_pause(world->programs[SINK].hop), 0);
	switch_run(&world->board, 10);
	return world;
}

/* Writes a hop, or reads it. */
static void program_image(struct image *image, struct world *world, unsigned i)
{
	bool shares = world->ends == MEMORIES;

	if (world->ends == LINK && i == SINK) {
		hop_link_image(image, world->programs[i].hop);
		return;
	}
	image_bool(image, &shares);
	image_expect(image, shares == (world->ends == MEMORIES));
	hop_image(image, world->programs[i].hop);
}

static uint32_t section_of(const struct world *world, unsigned i)
{
	return world->ends == LINK && i == SINK ? IMAGE_LINK : IMAGE_SESSION;
}

static void write_world(struct world *world, struct image *image)
{
	image_begin(image);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(hop_fits_image(world->programs[i].hop));
		image_section(image, section_of(world, i));
		program_image(image, world, i);
	}
	hop_write_channels(image, world->programs[SOURCE].hop);
	for (uint32_t i = 0; i < 2 && world->ends != LINK; i++) {
		image_section(image, IMAGE_LEDGER);
		image_u32(image, &i);
		hop_ledger_image(image, world->programs[i].hop);
	}
}

static int read_world(struct world *world, struct image *image)
{
	struct hop *hops[] = {world->programs[0].hop, world->programs[1].hop};
	struct image_hops all = {.hops = hops};
	uint32_t type, number;

	while ((type = image_next(image))) {
		if (all.count < 2 && type == section_of(world, all.count)) {
			program_image(image, world, all.count++);
		} else if (type == IMAGE_CHANNEL) {
			channel_read_image(image, &all);
		} else if (type == IMAGE_LEDGER) {
			image_u32(image, &number);
			image_expect(image, number < all.count);
			if (!image->error)
				hop_ledger_image(image, hops[number]);
		} else {
			image_fail(image, -EINVAL);
		}
	}
	free(all.spoilt);
	return image->error;
}

/* Returns the bytes of an image, and leaves the rings of its world. */
static uint8_t *bytes_of(struct world *world, size_t *size)
{
	struct image image;

	write_world(world, &image);
	return image_to_bytes(&image, size);
}

static void go_on_where_it_was(enum ends ends)
{
	struct world *before = world_at_work(ends), *after = world_new(ends);
	const struct frame_credit credit = {.consumed = PIECES * PIECE};
	struct image image;
	uint8_t *bytes, payload[FRAME_SMALL_MAX];
	size_t size;
	uint32_t heard;

	bytes = bytes_of(before, &size);
	assert_int_equal(image_open_bytes(&image, bytes, size), 0);
	assert_int_equal(read_world(after, &image), 0);
	for (unsigned i = 0; i < 2; i++) {
		after->programs[i].in = before->programs[i].in;
		memcpy(after->programs[i].out, before->programs[i].out, sizeof(after->programs[i].out));
	}
	attach(after, true);
	heard = hear(&after->programs[SINK]);
	for (unsigned i = 0; i < 4; i++) { /* by pieces: its pace is to be seen again */
		switch_run(&after->board, 10);
		heard += hear(&after->programs[SINK]);
	}
	assert_int_equal(heard, PIECES * PIECE);
	if (ends == SOCKETS) /* else what it has released is what it has taken */
		say(&after->programs[SINK], FRAME_CREDIT, 1, payload, frame_credit_encode(&credit, payload));
	switch_run(&after->board, 10);
	{
		const struct channel_end *end = hop_find_channel(after->programs[SOURCE].hop, 2);

		assert_non_null(end);
		assert_true(end->channel->acceptor.consumed == PIECES * PIECE);
		assert_true(end->told_consumed == PIECES * PIECE);
	}
	image_free(&image);
	free(bytes);
	world_free(before);
	world_free(after);
}

TEST(a_channel_between_sockets_goes_on_where_it_was)
{
	go_on_where_it_was(SOCKETS);
}

TEST(a_channel_between_memories_goes_on_where_it_was)
{
	go_on_where_it_was(MEMORIES);
}

TEST(what_a_program_unbinds_is_unbound_before_the_image)
{
	struct world *world = world_at_work(SOCKETS);
	struct program *program = &world->programs[SINK];

	program->pieces = 1000;
	hop_hold_input(program->hop);
	assert_false(hop_fits_image(program->hop));
	hop_settle_for_image(program->hop);
	assert_int_equal(program->pieces, 0);
	assert_true(hop_fits_image(program->hop));
	world_free(world);
}

TEST(a_link_that_was_left_sends_again_what_it_had_sent)
{
	struct world *before = world_at_work(LINK), *after = world_new(LINK);
	struct program *sink = &after->programs[SINK];
	const struct hop *was = before->programs[SINK].hop;
	struct ring_view in = private_ring_view(&sink->in), out = private_ring_view(&sink->out[0]);
	struct ring_reader reader;
	struct ring_writer writer;
	struct image image;
	uint8_t *bytes;
	size_t size;

	bytes = bytes_of(before, &size);
	assert_int_equal(image_open_bytes(&image, bytes, size), 0);
	assert_int_equal(read_world(after, &image), 0);
	assert_true(hop_is_away(sink->hop));
	assert_true(hop_sent(sink->hop) == hop_sent(was) && hop_acked(sink->hop) == hop_acked(was) &&
		    hop_given_out(sink->hop) == hop_given_out(was) &&
		    hop_received(sink->hop) == hop_received(was));
	assert_true(hop_acked(sink->hop) < hop_sent(sink->hop));
	assert_int_equal(ring_reader_init(&reader, &in, true), 0);
	assert_int_equal(ring_writer_init(&writer, &out, true), 0);
	hop_resume(sink->hop, &reader, &writer, hop_acked(sink->hop));
	assert_int_equal(ring_reader_init(&sink->reader, &out, true), 0);
	switch_run(&after->board, 10);
	assert_int_equal(hear(sink), PIECES * LINK_PIECE);
	image_free(&image);
	free(bytes);
	world_free(before);
	world_free(after);
}

static struct channel_end *sink_of(const struct world *world)
{
	return &((struct channel_end *)hop_find_channel(world->programs[SOURCE].hop, 2))->channel->acceptor;
}

/* Else a cancel that comes before it has begun anew would say that nothing was done. */
TEST(what_a_server_may_have_acted_on_is_known_behind_an_image)
{
	struct world *before = world_at_work(LINK), *after = world_new(LINK);
	struct channel_end *end = sink_of(before);
	struct image image;
	uint8_t *bytes;
	size_t size;

	end->begun = end->sent + 8;
	bytes = bytes_of(before, &size);
	assert_int_equal(image_open_bytes(&image, bytes, size), 0);
	assert_int_equal(read_world(after, &image), 0);
	assert_true(sink_of(after)->begun == end->begun);
	image_free(&image);
	free(bytes);
	world_free(before);
	world_free(after);
}

/* Reads bytes that may be anything into a world, which must end in order. */
static int read_bytes(const uint8_t *bytes, size_t size)
{
	struct world *world = world_new(ends_at_work);
	struct image image;
	int r;

	image_open_bytes(&image, bytes, size);
	r = read_world(world, &image);
	image_free(&image);
	world_free(world);
	return r;
}

TEST(an_image_that_is_cut_or_changed_is_refused_or_harmless)
{
	static const char *const names[] = {"socket", "memory", "link"};

	for (unsigned ends = 0; ends < ENDS; ends++) {
		struct world *world = world_at_work(ends);
		size_t size;
		uint8_t *bytes = bytes_of(world, &size);

		image_spoil(names[ends], bytes, size, 2000, 7, read_bytes);
		free(bytes);
		world_free(world);
	}
}

/* Returns what reading an image of the world says. */
static int read_again(struct world *world)
{
	size_t size;
	uint8_t *bytes = bytes_of(world, &size);
	int r = read_bytes(bytes, size);

	free(bytes);
	return r;
}

TEST(what_lies_in_a_ring_that_is_not_its_channel_s_is_refused)
{
	struct world *world = world_at_work(MEMORIES);
	struct ledger *ledger = &world->programs[SINK].hop->out[OUTLET_MAIN].ledger;
	struct channel_end *end = sink_of(world);
	uint32_t newest = end->newest_handed;

	assert_int_equal(ledger_push(ledger, end, 0, 0, 8), 0);
	assert_int_equal(read_again(world), -EINVAL);
	ledger_free(ledger);
	end->newest_handed = newest;
	world_free(world);
}

TEST(reassigned_that_is_owed_but_is_not_there_is_refused)
{
	struct world *world = world_at_work(MEMORIES);
	struct channel_end *end = sink_of(world), *other = &end->channel->opener;

	end->owed |= OWED_REASSIGNED;
	assert_int_equal(read_again(world), -EINVAL);
	end->owed &= (uint8_t)~OWED_REASSIGNED;
	other->owed |= OWED_REASSIGNED;
	assert_int_equal(read_again(world), -EINVAL);
	other->owed &= (uint8_t)~OWED_REASSIGNED;
	world_free(world);
}

TEST(cancel_of_what_was_never_sent_is_refused)
{
	struct world *world = world_at_work(LINK);
	struct channel_end *opener = &sink_of(world)->channel->opener;
	uint64_t end = opener->received & ~UINT64_C(7), offset = end - 16;
	uint8_t sought[8], *bytes, *at;
	size_t size;

	assert_int_equal(channel_cancel(opener, offset), 0);
	bytes = bytes_of(world, &size);
	assert_int_equal(read_bytes(bytes, size), 0);
	put_u64(sought, offset);
	at = memmem(bytes, size, sought, sizeof(sought));
	assert_non_null(at);
	for (unsigned i = 0; i < 2; i++) {
		put_u64(at, i ? offset + 4 : end);
		assert_int_equal(read_bytes(bytes, size), -EINVAL);
	}
	free(bytes);
	world_free(world);
}

TEST(who_has_been_reset_has_said_what_it_has_taken)
{
	struct world *world = world_at_work(MEMORIES);
	struct channel_end *end = sink_of(world), was = *end;

	end->in = IN_RESET;
	end->out = OUT_RESET;
	assert_int_equal(read_again(world), 0);
	end->is_unsettled = true;
	assert_int_equal(read_again(world), -EINVAL);
	*end = was;
	world_free(world);
}
