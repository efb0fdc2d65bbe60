/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A byte stream in the image that a daemon hands over: whatever the bytes are, it is read whole, or all of it
 * is freed. */
#include "tests/unit/stream_rig.h"
#include "tests/unit/image_bytes.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/image.h"
#include "daemon/local/stream.h"
#include "daemon/local/stream_internal.h"
#include "daemon/local/streams.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"

/* As a session's is in tests/fuzz/fuzz_image.c, and what streams_image.c has of one that waits for it. */
static void write_session(struct image *image, struct hop *hop)
{
	bool shares = false;

	image_section(image, IMAGE_SESSION);
	image_bool(image, &shares);
	hop_image(image, hop);
}

static void entry_image(struct image *image)
{
	uint64_t number = 1;
	uint32_t listener = 0, uid = 1000, pid = 77, from = 5;
	bool incoming = true;
	char program[] = "program", host[] = "", name[] = "inbox";

	image_u64(image, &number);
	image_u32(image, &listener);
	image_u32(image, &uid);
	image_u32(image, &pid);
	image_u32(image, &from);
	image_bool(image, &incoming);
	image_text(image, program, sizeof(program));
	image_text(image, host, sizeof(host));
	image_text(image, name, sizeof(name));
}

/* What lies in the stream's rings goes over beside the image (test_carried_memory.c). */
static struct private_rings lain;

/* A stream that waits to be fetched, with what its caller has sent before it ended, and bytes before that; of
 * the frame at its head so much is written. */
static uint8_t *image_of_waiting(uint32_t carried, uint32_t written, size_t *size)
{
	struct hop *session;
	struct scene scene;
	struct image image;
	uint8_t *bytes;

	scene_start(&scene);
	call(&scene);
	write_text(&scene, scene.a, "sent before it was fetched");
	stream_hop(scene.acceptor)->out[OUTLET_MAIN].taken_upto -= carried;
	scene.acceptor->taken = scene.acceptor->written = written;
	hop_set_image_number(stream_hop(scene.caller), HOP_NOT_IN_IMAGE);
	hop_set_image_number(stream_hop(scene.acceptor), 1);
	session = hop_new(&scene.rig.board[0], HOP_SOCKET, NULL, NULL, 1, 1);
	image_begin(&image);
	write_session(&image, session);
	image_section(&image, IMAGE_STREAM);
	entry_image(&image);
	stream_image(&image, scene.acceptor);
	hop_write_channels(&image, stream_hop(scene.acceptor));
	bytes = image_to_bytes(&image, size);
	memcpy(&lain, scene.acceptor->rings.bytes, sizeof(lain));
	hop_retire(session, ECONNRESET);
	scene_stop(&scene);
	return bytes;
}

static int route(void *userdata, struct channel *channel, const struct frame_open *open)
{
	return -ENOENT;
}

static void read_section(struct image *image, struct image_hops *hops, struct streams *streams,
			 struct hop *session, uint32_t type)
{
	bool shares = false;

	if (type == IMAGE_SESSION && !hops->count) {
		image_bool(image, &shares);
		hop_image(image, session);
		hops->hops[hops->count++] = session;
		hops->sessions = 1;
	} else if (type == IMAGE_STREAM && hops->count == 1) {
		part_read(&streams_part, streams, image, type, hops);
	} else if (type == IMAGE_CHANNEL) {
		channel_read_image(image, hops);
	} else {
		image_fail(image, -EINVAL);
	}
}

/* Of the stream that was read last: how much of a frame was written, and when it has moved. */
static uint32_t written_before;
static uint64_t moved_before;

/* In place of one that waits: one that breaks, or one of whose program all was read but the guard, in a
 * buffer that keeps it from writing. */
static enum { WAITS, BREAKS, IS_READ } left_as;
static int program = -1;

static bool can_write(void)
{
	struct pollfd end = {.fd = program, .events = POLLOUT};

	return poll(&end, 1, 0) > 0;
}

static void leave_guard(struct stream *stream)
{
	struct epoll_event writable = {.events = EPOLLOUT};
	char bytes[16384] = {0};
	int fd = new_socket(&program), there = 0;

	while (send(program, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	while (ioctl(fd, FIONREAD, &there) == 0 && there > 1)
		assert_true(recv(fd, bytes, there > (int)sizeof(bytes) ? sizeof(bytes) : (size_t)there - 1,
				 0) > 0);
	stream->end_epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(stream->end_epoll, EPOLL_CTL_ADD, program, &writable), 0);
	stream->state = FLOWING;
	stream->limit = stream->sent + 1000;
	assert_false(can_write());
	assert_int_equal(stream_watch_socket(stream, fd), 0);
}

static unsigned streams_left;
static bool could_write;

static void count_stream(void *userdata, struct hop *hop)
{
	streams_left++;
}

static void note_stream(void *userdata, struct hop *hop)
{
	struct stream *stream = hop_owner(hop);

	if (left_as == BREAKS)
		stream->state = BREAKING;
	else if (left_as == IS_READ)
		leave_guard(stream);
	written_before = stream->written;
	moved_before = stream->moved_ns;
	memcpy(stream->rings.bytes, &lain, sizeof(lain));
}

/* Returns what the image is taken for: 0 or an error. */
static int read_bytes(const uint8_t *bytes, size_t size)
{
	struct hop **all = calloc(1, sizeof(struct hop *)), *session;
	struct image_hops hops = {.hops = all};
	struct carried_piece pieces[4];
	struct streams *streams;
	struct image image;
	struct rig rig;
	uint32_t type;
	int r;

	assert_non_null(all);
	rig_start(&rig, 1);
	rig.board[0].last_stream = 1;
	for (unsigned i = 0; i < 4; i++) /* the daemon before had some: all but the last one are free */
		assert_int_equal(carried_take(rig.board[0].rings, &pieces[i]), 0);
	for (unsigned i = 0; i < 3; i++)
		carried_give_back(rig.board[0].rings, &pieces[i]);
	session = hop_new(&rig.board[0], HOP_SOCKET, NULL, NULL, 1, 1);
	streams = streams_new(&rig.board[0], route, NULL);
	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		read_section(&image, &hops, streams, session, type);
	r = image.error;
	if (r == 0) {
		streams_part.each_hop(streams, note_stream, NULL);
		streams_part.go_on(streams);
	}
	switch_run(&rig.board[0], 10);
	streams_left = 0;
	streams_part.each_hop(streams, count_stream, NULL);
	could_write = can_write();
	hang_up(&program);
	image_free(&image);
	streams_free(streams);
	hop_retire(session, ECONNRESET);
	rig_stop(&rig);
	free(hops.hops);
	free(hops.spoilt);
	return r;
}

/* Who gets a stream says by CREDIT what was taken, so nobody looks at what is released of the ring. */
TEST(a_stream_that_has_carried_gigabytes_is_taken)
{
	size_t size;
	uint8_t *bytes = image_of_waiting(3u << 29, 0, &size);

	assert_int_equal(read_bytes(bytes, size), 0);
	free(bytes);
}

TEST(of_a_frame_only_the_rest_is_written_by_the_next_daemon)
{
	size_t size;
	uint8_t *bytes = image_of_waiting(0, 7, &size);

	assert_int_equal(read_bytes(bytes, size), 0);
	assert_int_equal(written_before, 7);
	free(bytes);
}

TEST(a_stream_that_breaks_ends_in_the_next_daemon)
{
	size_t size;
	uint8_t *bytes = image_of_waiting(0, 0, &size);

	left_as = BREAKS;
	assert_int_equal(read_bytes(bytes, size), 0);
	assert_int_equal(streams_left, 0);
	left_as = WAITS;
	free(bytes);
}

/* The daemon before has read all else, and hadn't looked whether the program can write. */
TEST(the_next_daemon_lets_a_program_write_that_the_guard_keeps)
{
	size_t size;
	uint8_t *bytes = image_of_waiting(0, 0, &size);

	left_as = IS_READ;
	assert_int_equal(read_bytes(bytes, size), 0);
	assert_true(could_write);
	left_as = WAITS;
	free(bytes);
}

/* Else status says that it is stuck, until its first turn. */
TEST(a_stream_counts_as_moved_when_it_was_handed_over)
{
	size_t size;
	uint8_t *bytes = image_of_waiting(0, 0, &size);
	uint64_t before = clock_ns();

	assert_int_equal(read_bytes(bytes, size), 0);
	assert_true(moved_before >= before);
	free(bytes);
}

TEST(a_stream_that_is_cut_or_changed_is_refused_or_harmless)
{
	size_t size;
	uint8_t *bytes = image_of_waiting(0, 0, &size);

	image_spoil("stream", bytes, size, 700, 7, read_bytes);
	free(bytes);
}
