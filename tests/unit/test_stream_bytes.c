/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What passes through a stream: all bytes, within the credit and as fast as the other program reads.
 */
#include "tests/unit/stream_rig.h"

#include <sys/ioctl.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unistd.h>

#include "daemon/local/stream_internal.h"
#include "wire/bytes.h"

SCENE_TEST(guard_is_no_part_of_the_stream_and_stays_unread, join)
{
	int unread;

	for (int i = 0; i < 3; i++) {
		write_text(scene, scene->a, i ? "x" : "several");
		expect_text(scene->b, i ? "x" : "several");
		assert_int_equal(ioctl(scene->at_a, FIONREAD, &unread), 0);
		assert_int_equal(unread, 1);
	}
	expect_nothing(scene->b);
}

SCENE_TEST(program_that_does_not_read_holds_back_the_one_that_writes, join)
{
	for (int way = 0; way < 2; way++) {
		int from = way ? scene->b : scene->a, to = way ? scene->a : scene->b;
		uint64_t written = write_all_that_goes(scene, from, 0), read = 0, before;

		/* As soon as it reads, it goes on, and nothing was lost. */
		for (int i = 0; i < 4; i++) {
			read = read_all(scene, to, read);
			assert_int_equal(read, written);
			before = written;
			written = write_all_that_goes(scene, from, written);
			assert_true(written > before);
		}
		shutdown(from, SHUT_WR);
		read = read_all(scene, to, read);
		assert_int_equal(read, written);
		expect_end(to);
	}
	hang_up(&scene->a);
	hang_up(&scene->b);
	expect_gone(scene, 2);
}

SCENE_TEST(nothing_is_sent_beyond_the_credit, call_peer)
{
	const uint64_t steps[] = {CHANNEL_INITIAL_LIMIT + 1, CHANNEL_INITIAL_LIMIT + 1000,
				  CHANNEL_INITIAL_LIMIT + 100000};
	uint64_t written;

	join_peer(scene, 10); /* a limit never falls: without an answer it is already more */
	written = write_all_that_goes(scene, scene->a, 0);
	assert_true(written > CHANNEL_INITIAL_LIMIT);
	while (hear(scene, FRAME_DATA))
		;
	assert_int_equal(scene->received, CHANNEL_INITIAL_LIMIT);
	for (unsigned i = 0; i < 3; i++) {
		participant_credit(scene->peer, scene->number, scene->received, steps[i]);
		run(scene);
		written = write_all_that_goes(scene, scene->a, written);
		while (hear(scene, FRAME_DATA))
			;
		assert_int_equal(scene->received, steps[i]);
	}
}

static uint64_t consumed_at_peer(struct scene *scene, uint64_t before)
{
	while (hear(scene, FRAME_CREDIT)) {
		assert_true(get_u64(scene->heard.payload) >= before);
		before = get_u64(scene->heard.payload);
	}
	return before;
}

SCENE_TEST(consumed_is_what_the_programs_socket_has_taken, call_peer)
{
	uint64_t consumed;
	int unread;

	join_peer(scene, 65536);
	assert_int_equal(consumed_at_peer(scene, 0), 0);
	put_data(scene, 0, 60000);
	consumed = consumed_at_peer(scene, 0);
	assert_int_equal(ioctl(scene->a, FIONREAD, &unread), 0);
	assert_true(unread > 0 && unread < 60000);
	assert_true(consumed <= (uint64_t)unread);
	assert_int_equal(read_all(scene, scene->a, 0), 60000);
	/* CREDIT may lag behind by less than what makes it worth a frame; the FIN makes it exact. */
	assert_true(consumed_at_peer(scene, consumed) > consumed);
}

static void write_bytes(struct scene *scene, uint64_t *at, size_t size)
{
	uint8_t bytes[PIECE_MAX];

	for (size_t i = 0; i < size; i++)
		bytes[i] = byte_at(*at + i);
	assert_int_equal(send(scene->a, bytes, size, MSG_NOSIGNAL), size);
	*at += size;
	run(scene);
}

/* While the link has no room, what the program sends fills the stream's ring, to the last eight bytes if need
 * be: so that nothing can be told of what the program takes. */
SCENE_TEST(what_is_taken_while_the_ring_is_full_is_told_later, call_peer)
{
	const uint64_t window = CHANNEL_INITIAL_LIMIT;
	struct ring_writer *ring;
	int room = 2 * PIECE_MAX;
	uint64_t sent = 0;

	join_peer(scene, 2 * STREAM_WINDOW_MAX);
	assert_int_equal(setsockopt(scene->a, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	ring = &scene->caller->writer;
	while (scene->caller->limit - scene->caller->sent < 2 * PRIVATE_RING_SIZE + 262144) {
		sent = write_all_that_goes(scene, scene->a, sent);
		while (hear(scene, FRAME_DATA))
			;
		participant_credit(scene->peer, scene->number, scene->received, 2 * STREAM_WINDOW_MAX);
		run(scene);
	}
	while (!stream_hop(scene->caller)->waiting.blocked_on)
		write_bytes(scene, &sent, 4096);
	while (ring_writer_space(ring, PRIVATE_RING_SIZE) >= (int)(frame_size(PIECE_MAX) + frame_size(16)))
		write_bytes(scene, &sent, 8);
	write_bytes(scene, &sent, PIECE_MAX);
	assert_in_range(ring_writer_space(ring, PRIVATE_RING_SIZE), 0, frame_size(16) - 1);
	put_data(scene, 0, window);
	assert_int_equal(read_all(scene, scene->a, 0), window);
	assert_true(consumed_at_peer(scene, 0) > window - window / 8);
	assert_int_equal(scene->received, sent);
}

/* Uses the CPU for 30 ms in a call about the stream's socket. What a hypervisor takes meanwhile looks like
 * that. */
static void call_that_takes_long(struct stream *stream)
{
	struct hop *hop = stream_hop(stream);
	struct kernel_call call;
	uint64_t until;

	hop_begin_call(hop, &call);
	for (until = clock_thread_ns() + 30000000; clock_thread_ns() < until;)
		;
	switch_spend_call(hop->board, NULL, &call, 0);
}

SCENE_TEST(streams_go_on_though_all_calls_about_them_take_long, join)
{
	for (int i = 0; i < 20; i++) {
		call_that_takes_long(scene->caller);
		call_that_takes_long(scene->acceptor);
		write_text(scene, scene->a, "slowly");
		expect_text(scene->b, "slowly");
		write_text(scene, scene->b, "and back");
		expect_text(scene->a, "and back");
	}
	assert_int_equal(scene->gone, 0);
}

/* --- what the kernel lacks for a moment ------------------------------------------------------- */

static unsigned fail_recvmsg, fail_sendmsg, fail_splice; /* so many of the next ones */

static bool fails(unsigned *count, int error)
{
	errno = error;
	return *count > 0 && (*count)--;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	return fails(&fail_recvmsg, ENOMEM) ? -1 : syscall(SYS_recvmsg, fd, message, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	return fails(&fail_sendmsg, ENOBUFS) ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

ssize_t splice(int in, loff_t *in_at, int out, loff_t *out_at, size_t size, unsigned flags);
ssize_t splice(int in, loff_t *in_at, int out, loff_t *out_at, size_t size, unsigned flags)
{
	return fails(&fail_splice, ENOMEM) ? -1 : syscall(SYS_splice, in, in_at, out, out_at, size, flags);
}

SCENE_TEST_EACH(a_stream_outlives_what_the_kernel_lacks_for_a_moment, join, which, 3)
{
	unsigned *const counts[] = {&fail_recvmsg, &fail_sendmsg, &fail_splice};
	char bytes[32];
	ssize_t size;

	for (unsigned i = 1; i < 4; i++) {
		*counts[which] = i;
		write_text(scene, scene->a, "comes all the same");
		while ((size = recv(scene->b, bytes, sizeof(bytes), 0)) < 0 && errno == EAGAIN)
			run(scene);
		assert_int_equal(size, 18);
		assert_int_equal(*counts[which], 0);
	}
}

TEST(a_caller_is_told_of_its_stream_once_that_goes)
{
	struct scene scene;
	struct pollfd answer = {.events = POLLIN};

	call_peer(&scene);
	fail_sendmsg = 2;
	opened(&scene, 65536);
	answer.fd = scene.a;
	while (poll(&answer, 1, 0) == 0)
		run(&scene);
	expect_reply(scene.a, 0);
	scene_stop(&scene);
}

/* How many pages of the stream's rings there are in memory. */
static unsigned resident(const struct stream *stream)
{
	unsigned char pages[sizeof(struct private_rings) / 4096 + 1];
	unsigned count = 0;

	assert_int_equal(mincore(stream->rings.bytes, sizeof(struct private_rings), pages), 0);
	for (size_t i = 0; i < sizeof(struct private_rings) / (size_t)sysconf(_SC_PAGESIZE); i++)
		count += pages[i] & 1;
	return count;
}

/* Returns whether memory was given back, long after the last byte. */
static bool is_tidied_later(struct stream *stream)
{
	stream->moved_ns -= 3600000000000u;
	return stream_tidy(stream);
}

SCENE_TEST(an_idle_stream_gives_back_its_rings, join)
{
	uint64_t read = 0;

	for (unsigned round = 0; round < 3; round++) {
		uint64_t written = write_all_that_goes(scene, scene->a, read);
		unsigned before = resident(scene->acceptor);

		assert_false(is_tidied_later(scene->acceptor)); /* something lies in it */
		read = read_all(scene, scene->b, read);
		assert_int_equal(read, written);
		write_text(scene, scene->a, "x");
		expect_text(scene->b, "x");
		assert_false(stream_tidy(scene->caller)); /* it isn't idle */
		assert_true(is_tidied_later(scene->caller));
		assert_true(is_tidied_later(scene->acceptor));
		assert_false(is_tidied_later(scene->acceptor)); /* it is done */
		assert_true(resident(scene->acceptor) < before);
	}
}

SCENE_TEST(an_urgent_byte_is_one_like_others, join_given)
{
	write_text(scene, scene->a, "before");
	if (send(scene->a, "!", 1, MSG_OOB | MSG_NOSIGNAL) < 0)
		skip(); /* a kernel that has none */
	write_text(scene, scene->a, "behind");
	run(scene);
	expect_text(scene->b, "before!behind");
	assert_int_equal(send(scene->a, "?", 1, MSG_OOB | MSG_NOSIGNAL), 1);
	shutdown(scene->a, SHUT_WR);
	run(scene);
	expect_text(scene->b, "?");
	expect_end(scene->b);
	hang_up(&scene->a);
	hang_up(&scene->b);
	expect_gone(scene, 2);
}

/* The kernel ends what it gives before such a byte, wherever that lies. */
SCENE_TEST(an_urgent_byte_holds_up_no_bytes_behind_it, join_given)
{
	static const uint8_t bytes[150000];
	uint8_t got[8192];

	for (size_t before = 1; before < 100000; before = before * 3 + 1) {
		ssize_t sent = send(scene->a, bytes, before, MSG_NOSIGNAL), more, size;

		if (send(scene->a, "!", 1, MSG_OOB | MSG_NOSIGNAL) == 1)
			sent++;
		while ((more = send(scene->a, bytes, sizeof(bytes), MSG_NOSIGNAL)) > 0)
			sent += more;
		for (int idle = 0; idle < 3; idle = size <= 0 ? idle + 1 : 0) {
			run(scene);
			size = recv(scene->b, got, sizeof(got), 0);
			sent -= size <= 0 ? 0 : size;
		}
		assert_int_equal(sent, 0);
	}
}
