/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program's socket as a stream: all bytes, in order, each direction with an end of its own, and a broken
 * stream told from one that has ended. Either two streams are joined, or a peer's daemon that the test plays
 * is at the other end.
 */
#include "tests/unit/hop_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/base/log.h"
#include "daemon/base/quota.h"
#include "daemon/local/stream.h"
#include "wire/bytes.h"

#define GUARD	    'G'
#define SOCKET_ROOM 8192
#define FAR_MAX	    (4u << 20) /* more than all that lies between two programs */

struct scene {
	struct rig rig;
	struct stream *caller, *acceptor;
	int a, b;	    /* the programs' ends */
	int at_a, at_b;	    /* the daemon's */
	struct party *peer; /* the channel goes to it, if set */
	uint32_t number;    /* there */
	uint64_t received;  /* bytes of DATA there */
	int refuse_with;
	unsigned gone;
};

static const struct frame_identity identity = {.domid = 5, .uid = 1000, .gid = 1000, .pid = 77};

static int on_open(void *userdata, struct stream *stream, struct channel *channel,
		   const struct frame_open *open);

static void on_gone(void *userdata, struct stream *stream)
{
	struct scene *scene = userdata;

	assert_true(stream == scene->caller || stream == scene->acceptor);
	*(stream == scene->caller ? &scene->caller : &scene->acceptor) = NULL;
	scene->gone++;
	stream_free(stream);
}

static const struct stream_callbacks callbacks = {.open = on_open, .gone = on_gone};

static int on_open(void *userdata, struct stream *stream, struct channel *channel,
		   const struct frame_open *open)
{
	struct scene *scene = userdata;

	assert_ptr_equal(stream, scene->caller);
	assert_int_equal(channel->kind, CHANNEL_STREAM);
	assert_int_equal(channel->identity.pid, identity.pid);
	assert_int_equal(open->name.size, 7);
	assert_memory_equal(open->name.data, "2:inbox", 7);
	if (scene->refuse_with)
		channel_refuse(channel, scene->refuse_with);
	else if (scene->peer)
		assert_int_equal(channel_accept(channel, &scene->peer->hop, "inbox"), 0);
	else
		assert_int_equal(
			stream_wait(&scene->acceptor, channel->relay, channel, "inbox", &callbacks, scene),
			0);
	return 0;
}

static void run(struct scene *scene)
{
	for (int i = 0; i < 20; i++) {
		event_base_loop(scene->rig.base, EVLOOP_NONBLOCK);
		rig_settle(&scene->rig);
	}
}

/* A program's socket with the guard behind its handshake. */
static int new_socket(int *program)
{
	int pair[2], room = SOCKET_ROOM;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	*program = pair[0];
	assert_int_equal(send(*program, &(char){GUARD}, 1, 0), 1);
	return pair[1];
}

static void scene_start(struct scene *scene)
{
	*scene = (struct scene){.a = -1, .b = -1};
	rig_start(&scene->rig, 1);
}

static void call(struct scene *scene)
{
	struct charge charge;

	charge_init(&charge, NULL);
	scene->at_a = new_socket(&scene->a);
	assert_int_equal(stream_connect(&scene->caller, &scene->rig.relay[0], scene->at_a, &identity, &charge,
					"2:inbox", &callbacks, scene),
			 0);
	run(scene);
}

static void hang_up(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void scene_stop(struct scene *scene)
{
	stream_free(scene->caller);
	stream_free(scene->acceptor);
	rig_stop(&scene->rig);
	hang_up(&scene->a);
	hang_up(&scene->b);
}

/* Everything has ended by itself. */
static void expect_gone(struct scene *scene, unsigned count)
{
	run(scene);
	assert_int_equal(scene->gone, count);
	assert_null(scene->caller);
	assert_null(scene->acceptor);
	scene_stop(scene);
}

static void expect_reply(int fd, uint32_t error)
{
	uint8_t bytes[FRAME_HEADER_SIZE + 8];
	struct frame_header header;

	assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_int_equal(frame_header_decode(bytes, &header), 0);
	assert_int_equal(header.type, FRAME_REPLY);
	assert_int_equal(get_u32(bytes + FRAME_HEADER_SIZE), error);
}

static void expect_nothing(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void expect_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static void expect_broken(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void expect_text(int fd, const char *text)
{
	char bytes[256];

	assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), strlen(text));
	assert_memory_equal(bytes, text, strlen(text));
}

static void write_text(struct scene *scene, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	run(scene);
}

static void fetch(struct scene *scene)
{
	assert_true(stream_is_waiting(scene->acceptor));
	scene->at_b = new_socket(&scene->b);
	assert_int_equal(stream_take_socket(scene->acceptor, scene->at_b), 0);
	run(scene);
	expect_reply(scene->b, 0);
}

/* Two programs joined. */
static void join(struct scene *scene)
{
	scene_start(scene);
	call(scene);
	expect_reply(scene->a, 0);
	fetch(scene);
}

/* --- the other end in the hands of the test --------------------------------------------------- */

/* The next frame of this type at the peer; bytes of DATA before it are counted. */
static bool hear(struct scene *scene, uint8_t type, struct party_frame *frame)
{
	for (;;) {
		run(scene);
		if (!party_get(scene->peer, OUTLET_MAIN, frame))
			return false;
		party_release(scene->peer, OUTLET_MAIN);
		if (frame->header.type == FRAME_DATA)
			scene->received += frame->header.length;
		if (frame->header.type == type)
			return true;
	}
}

static void opened(struct scene *scene, uint64_t limit)
{
	uint8_t payload[FRAME_SMALL_MAX];

	party_put(scene->peer, FRAME_OPENED, scene->number, payload,
		  frame_opened_encode(&(struct frame_opened){.limit = limit, .max_message = 1u << 20},
				      payload));
	run(scene);
}

/* Called, and OPEN has come to the peer. */
static void call_peer(struct scene *scene)
{
	static struct party_frame frame;

	scene_start(scene);
	scene->peer =
		party_new(&scene->rig, &(struct rig_options){.kind = HOP_LINK, .ring = 262144, .parity = 0});
	scene->peer->no_auto_answer = true;
	call(scene);
	assert_true(hear(scene, FRAME_OPEN, &frame));
	scene->number = frame.header.channel;
}

static void join_peer(struct scene *scene, uint64_t limit)
{
	call_peer(scene);
	opened(scene, limit);
	expect_reply(scene->a, 0);
}

/* --- calling ---------------------------------------------------------------------------------- */

static void caller_is_told_once_the_stream_is_there(void **state)
{
	struct scene scene;

	call_peer(&scene);
	expect_nothing(scene.a);
	opened(&scene, 65536);
	expect_reply(scene.a, 0);
	expect_nothing(scene.a);
	scene_stop(&scene);
}

static void refused_caller_is_told_why_and_then_sees_the_end(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	scene_start(&scene);
	scene.refuse_with = EACCES;
	call(&scene);
	expect_reply(scene.a, EACCES);
	expect_end(scene.a);
	expect_gone(&scene, 1);
	/* Over a link. */
	call_peer(&scene);
	party_reset(scene.peer, scene.number, ENOENT, 0, 0);
	assert_true(hear(&scene, FRAME_RESET, &frame));
	expect_reply(scene.a, ENOENT);
	expect_end(scene.a);
	expect_gone(&scene, 1);
}

static void caller_that_gives_up_leaves_nothing_behind(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	for (int how = 0; how < 2; how++) {
		call_peer(&scene);
		if (how)
			shutdown(scene.a, SHUT_RDWR);
		else
			hang_up(&scene.a);
		assert_true(hear(&scene, FRAME_RESET, &frame));
		assert_int_equal(scene.gone, 1);
		party_reset(scene.peer, scene.number, 0, 0, 0);
		expect_gone(&scene, 1);
	}
}

static void caller_may_have_said_all_before_it_is_answered(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	call_peer(&scene);
	write_text(&scene, scene.a, "all");
	shutdown(scene.a, SHUT_WR);
	assert_false(hear(&scene, FRAME_DATA, &frame)); /* it may be refused still */
	opened(&scene, 65536);
	expect_reply(scene.a, 0);
	assert_true(hear(&scene, FRAME_FIN, &frame));
	assert_int_equal(get_u64(frame.payload), 3);
	assert_int_equal(scene.received, 3);
	scene_stop(&scene);
}

static void waiting_stream_ends_with_its_caller(void **state)
{
	struct scene scene;

	scene_start(&scene);
	call(&scene);
	expect_reply(scene.a, 0);
	assert_true(stream_is_waiting(scene.acceptor));
	stream_free(scene.caller);
	scene.caller = NULL;
	expect_gone(&scene, 1);
}

static void stream_that_nobody_fetches_breaks(void **state)
{
	struct scene scene;

	scene_start(&scene);
	call(&scene);
	expect_reply(scene.a, 0);
	write_text(&scene, scene.a, "into the void");
	stream_free(scene.acceptor);
	scene.acceptor = NULL;
	run(&scene);
	expect_broken(scene.a);
	expect_gone(&scene, 1);
}

static void stream_is_fetched_once(void **state)
{
	struct scene scene;
	int other;

	join(&scene);
	assert_false(stream_is_waiting(scene.acceptor));
	assert_int_equal(stream_take_socket(scene.acceptor, new_socket(&other)), -ENOENT);
	expect_broken(other); /* closed over the guard */
	close(other);
	write_text(&scene, scene.a, "still here");
	expect_text(scene.b, "still here");
	scene_stop(&scene);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void guard_is_no_part_of_the_stream_and_stays_unread(void **state)
{
	struct scene scene;
	int unread;

	join(&scene);
	for (int i = 0; i < 3; i++) {
		write_text(&scene, scene.a, i ? "x" : "several");
		expect_text(scene.b, i ? "x" : "several");
		assert_int_equal(ioctl(scene.at_a, FIONREAD, &unread), 0);
		assert_int_equal(unread, 1);
	}
	expect_nothing(scene.b);
	scene_stop(&scene);
}

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16) * 13);
}

/* Writes until nothing more is taken. */
static uint64_t write_all_that_goes(struct scene *scene, int fd, uint64_t at)
{
	uint64_t start = at;
	uint8_t bytes[5000];

	for (int idle = 0; idle < 3;) {
		size_t size = rig_random(&scene->rig, sizeof(bytes)) + 1;
		ssize_t sent;

		for (size_t i = 0; i < size; i++)
			bytes[i] = byte_at(at + i);
		sent = send(fd, bytes, size, MSG_NOSIGNAL);
		if (sent < 0)
			assert_int_equal(errno, EAGAIN);
		idle = sent < 0 ? idle + 1 : 0;
		at += sent < 0 ? 0 : (uint64_t)sent;
		assert_true(at - start < FAR_MAX);
		run(scene);
	}
	return at;
}

static uint64_t read_all(struct scene *scene, int fd, uint64_t at)
{
	uint8_t bytes[7000];

	for (int idle = 0; idle < 3;) {
		ssize_t got = recv(fd, bytes, rig_random(&scene->rig, sizeof(bytes)) + 1, 0);

		for (ssize_t i = 0; i < got; i++)
			if (bytes[i] != byte_at(at + (uint64_t)i))
				fail_msg("byte %llu is wrong",
					 (unsigned long long)at + (unsigned long long)i);
		idle = got <= 0 ? idle + 1 : 0;
		at += got <= 0 ? 0 : (uint64_t)got;
		run(scene);
	}
	return at;
}

static void program_that_does_not_read_holds_back_the_one_that_writes(void **state)
{
	struct scene scene;

	join(&scene);
	for (int way = 0; way < 2; way++) {
		int from = way ? scene.b : scene.a, to = way ? scene.a : scene.b;
		uint64_t written = write_all_that_goes(&scene, from, 0), read = 0, before;

		/* As soon as it reads, it goes on, and nothing was lost. */
		for (int i = 0; i < 4; i++) {
			read = read_all(&scene, to, read);
			assert_int_equal(read, written);
			before = written;
			written = write_all_that_goes(&scene, from, written);
			assert_true(written > before);
		}
		shutdown(from, SHUT_WR);
		read = read_all(&scene, to, read);
		assert_int_equal(read, written);
		expect_end(to);
	}
	hang_up(&scene.a);
	hang_up(&scene.b);
	expect_gone(&scene, 2);
}

static void nothing_is_sent_beyond_the_credit(void **state)
{
	static struct party_frame frame;
	const uint64_t steps[] = {CHANNEL_INITIAL_LIMIT + 1, CHANNEL_INITIAL_LIMIT + 1000,
				  CHANNEL_INITIAL_LIMIT + 100000};
	struct scene scene;
	uint64_t written;

	join_peer(&scene, 10); /* a limit never falls: without an answer it is already more */
	written = write_all_that_goes(&scene, scene.a, 0);
	assert_true(written > CHANNEL_INITIAL_LIMIT);
	while (hear(&scene, FRAME_DATA, &frame))
		;
	assert_int_equal(scene.received, CHANNEL_INITIAL_LIMIT);
	for (unsigned i = 0; i < 3; i++) {
		party_credit(scene.peer, scene.number, scene.received, steps[i]);
		run(&scene);
		written = write_all_that_goes(&scene, scene.a, written);
		while (hear(&scene, FRAME_DATA, &frame))
			;
		assert_int_equal(scene.received, steps[i]);
	}
	scene_stop(&scene);
}

static uint64_t put_data(struct scene *scene, uint64_t at, uint64_t upto)
{
	uint8_t bytes[1024];

	while (at < upto) {
		uint32_t size = upto - at < sizeof(bytes) ? (uint32_t)(upto - at) : (uint32_t)sizeof(bytes);

		for (uint32_t i = 0; i < size; i++)
			bytes[i] = byte_at(at + i);
		assert_true(party_put(scene->peer, FRAME_DATA, scene->number, bytes, size));
		at += size;
	}
	return at;
}

static uint64_t consumed_at_peer(struct scene *scene, uint64_t before)
{
	static struct party_frame frame;

	while (hear(scene, FRAME_CREDIT, &frame)) {
		assert_true(get_u64(frame.payload) >= before);
		before = get_u64(frame.payload);
	}
	return before;
}

static void consumed_is_what_the_programs_socket_has_taken(void **state)
{
	struct scene scene;
	uint64_t consumed;
	int unread;

	join_peer(&scene, 65536);
	assert_int_equal(consumed_at_peer(&scene, 0), 0);
	put_data(&scene, 0, 60000);
	consumed = consumed_at_peer(&scene, 0);
	assert_int_equal(ioctl(scene.a, FIONREAD, &unread), 0);
	assert_true(unread > 0 && unread < 60000);
	assert_true(consumed <= (uint64_t)unread);
	assert_int_equal(read_all(&scene, scene.a, 0), 60000);
	/* CREDIT may lag behind by less than what makes it worth a frame; the FIN makes it exact. */
	assert_true(consumed_at_peer(&scene, consumed) > consumed);
	scene_stop(&scene);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void each_direction_ends_by_itself(void **state)
{
	struct scene scene;

	for (int order = 0; order < 2; order++) {
		int *first, *second;

		join(&scene);
		first = order ? &scene.b : &scene.a;
		second = order ? &scene.a : &scene.b;
		write_text(&scene, *first, "the last of it");
		shutdown(*first, SHUT_WR);
		run(&scene);
		expect_text(*second, "the last of it");
		expect_end(*second);
		/* The other way goes on. */
		for (int i = 0; i < 3; i++) {
			write_text(&scene, *second, "but there is more");
			expect_text(*first, "but there is more");
			expect_nothing(*first);
		}
		assert_int_equal(scene.gone, 0);
		shutdown(*second, SHUT_WR);
		run(&scene);
		expect_end(*first);
		expect_gone(&scene, 2);
	}
}

static void end_comes_behind_all_bytes(void **state)
{
	struct scene scene;
	uint64_t written;

	join(&scene);
	written = write_all_that_goes(&scene, scene.a, 0);
	hang_up(&scene.a); /* and not only half of it */
	run(&scene);
	assert_int_equal(read_all(&scene, scene.b, 0), written);
	expect_end(scene.b);
	hang_up(&scene.b);
	expect_gone(&scene, 2);
}

static void both_may_end_at_once(void **state)
{
	struct scene scene;

	join(&scene);
	shutdown(scene.a, SHUT_WR);
	shutdown(scene.b, SHUT_WR);
	run(&scene);
	expect_end(scene.a);
	expect_end(scene.b);
	expect_gone(&scene, 2);
}

static void closing_over_unread_bytes_breaks_the_stream(void **state)
{
	struct scene scene;

	join(&scene);
	write_text(&scene, scene.b, "said before");
	expect_text(scene.a, "said before");
	write_text(&scene, scene.a, "nobody reads this");
	hang_up(&scene.b);
	run(&scene);
	expect_broken(scene.a);
	expect_gone(&scene, 2);
}

static void descriptor_breaks_the_stream_behind_what_came_before(void **state)
{
	struct scene scene;
	uint8_t mark = 0;
	struct iovec piece = {&mark, 1};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);

	join(&scene);
	write_text(&scene, scene.a, "as far as it got");
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &scene.a, sizeof(int));
	assert_int_equal(sendmsg(scene.a, &message, MSG_NOSIGNAL), 1);
	hang_up(&scene.a);
	run(&scene);
	expect_text(scene.b, "as far as it got");
	expect_broken(scene.b);
	expect_gone(&scene, 2);
}

static void stream_that_is_cut_off_is_never_mistaken_for_one_that_ended(void **state)
{
	struct scene scene;

	/* Whatever has been moved on or said by then. */
	for (int moment = 0; moment < 4; moment++) {
		join(&scene);
		if (moment >= 1)
			write_text(&scene, scene.a, "to b");
		if (moment >= 2)
			write_text(&scene, scene.b, "to a");
		if (moment >= 3) {
			shutdown(scene.b, SHUT_WR);
			run(&scene);
		}
		stream_free(scene.caller);
		scene.caller = NULL;
		run(&scene);
		if (moment >= 1)
			expect_text(scene.b, "to b");
		expect_broken(scene.b);
		if (moment >= 2)
			expect_text(scene.a, "to a");
		expect_broken(scene.a);
		expect_gone(&scene, 1);
	}
}

static void reset_comes_behind_the_data_before_it(void **state)
{
	static struct party_frame frame;
	struct scene scene;

	join_peer(&scene, 65536);
	/* Nothing runs between: the data wait in the rings when the RESET comes. */
	put_data(&scene, 0, 1000);
	party_reset(scene.peer, scene.number, ECONNRESET, 0, 0);
	assert_true(hear(&scene, FRAME_RESET, &frame));
	assert_int_equal(read_all(&scene, scene.a, 0), 1000);
	expect_gone(&scene, 1);
}

static void reset_does_not_wait_for_a_program_that_reads_nothing(void **state)
{
	static struct party_frame frame;
	struct scene scene;
	uint64_t read;
	char byte;

	join_peer(&scene, 0);
	write_text(&scene, scene.a, "no credit for this"); /* data wait in this direction too */
	put_data(&scene, 0, 60000);
	run(&scene);
	party_reset(scene.peer, scene.number, ECONNRESET, 0, 0);
	assert_true(hear(&scene, FRAME_RESET, &frame));
	run(&scene);
	assert_int_equal(scene.gone, 1);
	/* What its socket had taken is still there, in order, and then comes the error, which is asked for
	 * but once. */
	for (read = 0; recv(scene.a, &byte, 1, 0) == 1; read++)
		assert_int_equal((uint8_t)byte, byte_at(read));
	assert_int_equal(errno, ECONNRESET);
	assert_true(read > 0 && read < 60000);
	expect_gone(&scene, 1);
}

static void lost_link_breaks_the_stream(void **state)
{
	struct scene scene;

	join_peer(&scene, 65536);
	put_data(&scene, 0, 7);
	run(&scene);
	party_kill(scene.peer);
	run(&scene);
	assert_int_equal(recv(scene.a, (char[8]){0}, 8, 0), 7);
	expect_broken(scene.a);
	expect_gone(&scene, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caller_is_told_once_the_stream_is_there),
		cmocka_unit_test(refused_caller_is_told_why_and_then_sees_the_end),
		cmocka_unit_test(caller_that_gives_up_leaves_nothing_behind),
		cmocka_unit_test(caller_may_have_said_all_before_it_is_answered),
		cmocka_unit_test(waiting_stream_ends_with_its_caller),
		cmocka_unit_test(stream_that_nobody_fetches_breaks),
		cmocka_unit_test(stream_is_fetched_once),
		cmocka_unit_test(guard_is_no_part_of_the_stream_and_stays_unread),
		cmocka_unit_test(program_that_does_not_read_holds_back_the_one_that_writes),
		cmocka_unit_test(nothing_is_sent_beyond_the_credit),
		cmocka_unit_test(consumed_is_what_the_programs_socket_has_taken),
		cmocka_unit_test(each_direction_ends_by_itself),
		cmocka_unit_test(end_comes_behind_all_bytes),
		cmocka_unit_test(both_may_end_at_once),
		cmocka_unit_test(closing_over_unread_bytes_breaks_the_stream),
		cmocka_unit_test(descriptor_breaks_the_stream_behind_what_came_before),
		cmocka_unit_test(stream_that_is_cut_off_is_never_mistaken_for_one_that_ended),
		cmocka_unit_test(reset_comes_behind_the_data_before_it),
		cmocka_unit_test(reset_does_not_wait_for_a_program_that_reads_nothing),
		cmocka_unit_test(lost_link_breaks_the_stream),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
