/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Greetings good and bad, and what is left of a session when it is over: nothing. */
#include "tests/unit/unit.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/quota.h"
#include "base/self.h"
#include "daemon/switch/channel.h"
#include "base/log.h"
#include "daemon/local/session.h"
#include "tests/descriptors.h"
#include "tests/unit/own_process.h"
#include "wire/bytes.h"
#include "wire/doorbell.h"
#include "wire/local_ring.h"

/* The kernel's pages, for what asks in this process; 0: as they are. */
static long page_size;

long sysconf(int name)
{
	static long (*real)(int);

	if (name == _SC_PAGESIZE && page_size)
		return page_size;
	if (!real)
		real = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
	return real(name);
}

struct scene {
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct hop *program;
	int fd; /* the program's end */
	int fds[3];
	unsigned fd_count, gone, requests, descriptors;
	unsigned pieces, pieces_done; /* of a request that takes long */
	bool took_its_leave;	      /* before it was gone */
	unsigned streams;
	uint64_t charged; /* descriptors, when it became a stream */
	uint8_t bytes[4096];
	size_t size;
	bool closed;
};

static int on_request(void *userdata, struct hop *program, const struct frame_header *header,
		      const uint8_t *payload)
{
	struct scene *scene = userdata;

	scene->requests++;
	if (header->type == FRAME_BIND) {
		session_go_on_later(program, header->channel,
				    (struct frame_text){(const char *)payload, header->length});
		return 0;
	}
	assert_int_equal(scene->pieces, 0); /* nothing comes before the rest of the one before */
	return session_reply(program, header->channel, 0, "yes", 3) < 0 ? -ENOBUFS : 0;
}

static bool on_go_on(void *userdata, struct hop *program, struct session_rest *rest)
{
	struct scene *scene = userdata;

	assert_string_equal(rest->text, "inbox");
	assert_int_equal(scene->requests, 1);
	if (scene->pieces == 0) {
		assert_int_equal(session_reply(program, rest->request, 0, "done", 4), 0);
		return false;
	}
	scene->pieces--;
	switch_spend(&scene->board, NULL, TURNS_PIECE);
	assert_int_equal(rest->at++, scene->pieces_done++);
	return true;
}

static int on_open(void *userdata, struct hop *program, struct channel *channel,
		   const struct frame_open *open)
{
	channel_refuse(channel, ENOENT);
	return 0;
}

static void on_stream(void *userdata, struct hop *program, int fd, const struct frame_header *header,
		      const uint8_t *payload)
{
	struct scene *scene = userdata;
	struct account *account = quota_account(scene->quota, QUOTA_UID, geteuid());

	scene->streams++;
	scene->charged = account_usage(account, QUOTA_DESCRIPTORS).used;
	account_unref(account);
	close(fd);
}

static void on_gone(void *userdata, struct hop *program)
{
	struct scene *scene = userdata;

	assert_ptr_equal(program, scene->program);
	scene->gone++;
	scene->took_its_leave = program->said_goodbye;
	scene->program = NULL;
	session_free(program);
}

static const struct session_callbacks callbacks = {
	.request = on_request, .go_on = on_go_on, .open = on_open, .stream = on_stream, .gone = on_gone};

static void start_with_patience(struct scene *scene, uint32_t greeting_ms)
{
	static const struct self self = {.domid = 5};
	struct session_options options = {.self = &self,
					  .ring_size = 65536,
					  .channels_max = 16,
					  .greeting_ms = greeting_ms,
					  .can_share_memory = true};
	struct quota_limits limits;
	int pair[2];

	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	for (int i = 0; i < QUOTA_RESOURCES; i++)
		limits.pool[i] = limits.max[QUOTA_UID][i] = 1u << 30;
	scene->board.quota = scene->quota = quota_new(&limits);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	scene->fd = pair[0];
	assert_int_equal(session_new(&scene->program, &scene->board, pair[1], &options, &callbacks, scene),
			 0);
}

static void scene_start(struct scene *scene)
{
	start_with_patience(scene, 10000);
}

static void start_without_patience(struct scene *scene)
{
	start_with_patience(scene, 1);
}

static void scene_stop(struct scene *scene)
{
	session_free(scene->program);
	switch_cleanup(&scene->board);
	quota_free(scene->quota);
	event_base_free(scene->base);
	close(scene->fd);
	while (scene->fd_count)
		close(scene->fds[--scene->fd_count]);
	assert_int_equal(open_descriptors(), scene->descriptors);
}

/* What is done for a program may take so long (under emulation it does) that its account rests before the
 * rest of it. */
static void run(struct scene *scene)
{
	for (int i = 0; i < 20; i++) {
		while (scene->board.turns.resting)
			event_base_loop(scene->base, EVLOOP_ONCE);
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
	}
}

static void say(struct scene *scene, const void *bytes, size_t size)
{
	assert_int_equal(send(scene->fd, bytes, size, MSG_NOSIGNAL), size);
	run(scene);
}

static void say_frame(struct scene *scene, uint8_t type, const void *payload, uint32_t length)
{
	uint8_t frame[FRAME_HEADER_SIZE + 256];

	memcpy(frame + FRAME_HEADER_SIZE, payload, length);
	say(scene, frame, frame_wrap(frame, &(struct frame_header){.type = type, .length = length}));
}

static void say_hello(struct scene *scene, uint16_t major, uint32_t flags)
{
	uint8_t payload[8];

	say_frame(scene, FRAME_HELLO, payload,
		  frame_hello_local_encode(&(struct frame_hello_local){.major = major, .flags = flags},
					   payload));
}

/* What has come, from one frame on to the next. */
static bool hear(struct scene *scene, struct frame_header *header, uint8_t *payload)
{
	uint32_t size;

	for (;;) {
		union {
			char space[CMSG_SPACE(sizeof(scene->fds))];
			struct cmsghdr align;
		} control;
		struct iovec piece = {scene->bytes + scene->size, sizeof(scene->bytes) - scene->size};
		struct msghdr message = {.msg_iov = &piece,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control)};
		ssize_t got = recvmsg(scene->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		struct cmsghdr *cmsg = got >= 0 ? CMSG_FIRSTHDR(&message) : NULL;

		if (cmsg) {
			scene->fd_count = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(scene->fds, CMSG_DATA(cmsg), scene->fd_count * sizeof(int));
		}
		if (got <= 0) {
			scene->closed = got == 0 || errno != EAGAIN;
			break;
		}
		scene->size += (size_t)got;
	}
	if (scene->size < FRAME_HEADER_SIZE || frame_header_decode(scene->bytes, header) < 0)
		return false;
	size = frame_size(header->length);
	assert_true(scene->size >= size);
	memcpy(payload, scene->bytes + FRAME_HEADER_SIZE, size - FRAME_HEADER_SIZE);
	scene->size -= size;
	memmove(scene->bytes, scene->bytes + size, scene->size);
	return true;
}

static void expect(struct scene *scene, uint8_t type)
{
	uint8_t payload[4096];
	struct frame_header header;

	assert_true(hear(scene, &header, payload));
	assert_int_equal(header.type, type);
}

/* A GOODBYE with this error and a reason in words, and the end of it. */
static void expect_goodbye(struct scene *scene, uint32_t error)
{
	uint8_t payload[4096];
	struct frame_header header;

	assert_true(hear(scene, &header, payload));
	assert_int_equal(header.type, FRAME_GOODBYE);
	assert_int_equal(get_u32(payload), error);
	assert_true(header.length > 8);
	assert_false(hear(scene, &header, payload));
	assert_true(scene->closed);
	assert_int_equal(scene->gone, 1);
}

/* A program whose HELLO was answered, and that shares no memory. */
static void greeted(struct scene *scene)
{
	scene_start(scene);
	say_hello(scene, PROTOCOL_MAJOR, 0);
	expect(scene, FRAME_WELCOME);
}

BEFORE_ALL
{
	log_set_level(LOG_LEVEL_ERROR);
}

SCENE_TEST(garbage_instead_of_a_greeting_is_refused, scene_start)
{
	say(scene, "GET / HTTP/1.1\r\nHost: domain\r\n\r\n", 32);
	expect_goodbye(scene, EINVAL);
}

/* None of them is a HELLO. */
static const uint8_t wrong_types[] = {FRAME_BIND, FRAME_OPEN, FRAME_GOODBYE, FRAME_OPTIONAL, 0, 255};

SCENE_TEST_EACH(anything_before_hello_is_refused, scene_start, i, ROWS(wrong_types))
{
	say_frame(scene, wrong_types[i], "12345678", 8);
	expect_goodbye(scene, EINVAL);
}

static const uint32_t wrong_lengths[] = {60000, 0xffffffffu};

SCENE_TEST_EACH(hello_of_a_length_that_cannot_be_is_refused, scene_start, i, ROWS(wrong_lengths))
{
	uint8_t bytes[FRAME_HEADER_SIZE];

	frame_header_encode(&(struct frame_header){.type = FRAME_HELLO, .length = wrong_lengths[i]}, bytes);
	say(scene, bytes, sizeof(bytes));
	expect_goodbye(scene, i == 0 ? EPROTO : EINVAL);
}

SCENE_TEST(hello_that_is_too_short_is_refused, scene_start)
{
	say_frame(scene, FRAME_HELLO, "\1\0", 2);
	expect_goodbye(scene, EPROTO);
}

SCENE_TEST(hello_of_another_protocol_is_refused, scene_start)
{
	say_hello(scene, 2, 0);
	expect_goodbye(scene, EPROTONOSUPPORT);
}

SCENE_TEST(half_a_frame_and_then_silence_ends_by_the_greeting_timeout, start_without_patience)
{
	say(scene, "\10\0\0\0\1", 5);
	for (int i = 0; i < 1000 && !scene->gone; i++)
		event_base_loop(scene->base, EVLOOP_ONCE);
	expect_goodbye(scene, ETIMEDOUT);
}

SCENE_TEST(hello_may_come_byte_by_byte, scene_start)
{
	uint8_t frame[24] = {8, 0, 0, 0, FRAME_HELLO};

	frame[16] = 1;
	for (unsigned i = 0; i < sizeof(frame); i++)
		say(scene, frame + i, 1);
	expect(scene, FRAME_WELCOME);
	assert_false(session_shares_memory(scene->program));
}

/* A user with a single descriptor left gets a stream. */
SCENE_TEST(a_session_that_becomes_a_stream_pays_for_its_socket_no_more, scene_start)
{
	const struct frame_open open = {.kind = CHANNEL_STREAM, .name = {"5:inbox", 7}};
	struct account *account;
	char why[160];
	uint8_t payload[64];

	account = quota_account(scene->quota, QUOTA_UID, geteuid());
	assert_int_equal(session_admit(scene->program, why, sizeof(why)), 0);
	assert_int_equal(account_usage(account, QUOTA_DESCRIPTORS).used, 1);
	account_unref(account);
	say_hello(scene, 1, HELLO_STREAM);
	say_frame(scene, FRAME_OPEN, payload, frame_open_encode(&open, payload));
	assert_int_equal(scene->streams, 1);
	assert_int_equal(scene->charged, 0);
	assert_int_equal(scene->gone, 1);
}

SCENE_TEST_EACH(second_hello_is_busy, scene_start, is_shared, 2)
{
	const uint32_t flags = is_shared ? HELLO_SHARED_MEMORY : 0;

	say_hello(scene, 1, flags);
	expect(scene, FRAME_WELCOME);
	assert_int_equal(scene->fd_count, flags ? 3 : 0);
	say_hello(scene, 1, flags);
	expect_goodbye(scene, EBUSY);
}

/* A ring is lent from only if it begins at a page, of whichever size they are. */
SCENE_TEST_EACH(shared_rings_begin_at_pages, scene_start, i, 3)
{
	static const long sizes[] = {4096, 16384, 65536};
	struct frame_welcome welcome;
	struct frame_header header;
	uint8_t payload[4096];

	page_size = sizes[i];
	say_hello(scene, 1, HELLO_SHARED_MEMORY);
	assert_true(hear(scene, &header, payload));
	page_size = 0;
	assert_int_equal(frame_welcome_decode(payload, header.length, &welcome), 0);
	for (unsigned j = 0; j < LOCAL_RINGS; j++)
		assert_int_equal(welcome.rings[j].data % sizes[i], 0);
}

SCENE_TEST(goodbye_comes_behind_the_answers, greeted)
{
	say_frame(scene, FRAME_UNBIND, "status", 6);
	say_frame(scene, FRAME_PING, "12345678", 8);
	expect(scene, FRAME_REPLY);
	expect_goodbye(scene, EPROTO);
}

SCENE_TEST(goodbye_comes_behind_answers_though_all_came_in_one_piece, greeted)
{
	uint8_t bytes[2 * FRAME_HEADER_SIZE + 8] = {0};

	frame_header_encode(&(struct frame_header){.type = FRAME_UNBIND, .length = 6, .channel = 1}, bytes);
	frame_header_encode(&(struct frame_header){.type = 99}, bytes + FRAME_HEADER_SIZE + 8);
	say(scene, bytes, sizeof(bytes));
	assert_int_equal(scene->requests, 1);
	expect(scene, FRAME_REPLY);
	expect_goodbye(scene, EPROTO);
}

SCENE_TEST(bytes_on_the_socket_beside_shared_memory_are_a_violation, scene_start)
{
	say_hello(scene, 1, HELLO_SHARED_MEMORY);
	expect(scene, FRAME_WELCOME);
	say_frame(scene, FRAME_UNBIND, "status", 6);
	expect_goodbye(scene, EPROTO);
}

/* A program that shares memory, and has mapped it. Returns its end of the ring *out*. */
static struct ring_writer share(struct scene *scene, uint8_t **memory)
{
	struct frame_welcome welcome;
	struct frame_header header;
	struct ring_writer out;
	uint8_t payload[4096];
	struct ring_view view;
	struct stat status;

	say_hello(scene, 1, HELLO_SHARED_MEMORY);
	assert_true(hear(scene, &header, payload));
	assert_int_equal(frame_welcome_decode(payload, header.length, &welcome), 0);
	assert_int_equal(fstat(scene->fds[0], &status), 0);
	*memory = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, scene->fds[0], 0);
	assert_ptr_not_equal(*memory, MAP_FAILED);
	view = local_ring_view(*memory, &welcome.rings[LOCAL_RING_OUT]);
	assert_int_equal(ring_writer_init(&out, &view, false), 0);
	return out;
}

static void put_frame(struct ring_writer *out, uint8_t type)
{
	uint8_t frame[FRAME_HEADER_SIZE + 8] = {0};

	frame_header_encode(&(struct frame_header){.type = type, .length = 6}, frame);
	memcpy(frame + FRAME_HEADER_SIZE, "status", 6);
	ring_writer_put(out, frame, sizeof(frame));
}

static void seal(const struct scene *scene)
{
	assert_int_equal(fcntl(scene->fds[0], F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL), 0);
}

/* It may ring at once, or not before its first frame. */
SCENE_TEST_EACH(sealed_memory_is_used_when_the_program_rings, scene_start, at_once, 2)
{
	uint8_t *memory;
	struct ring_writer out = share(scene, &memory);

	seal(scene);
	if (at_once) {
		assert_int_equal(doorbell_ring(scene->fds[1]), 0);
		run(scene);
	}
	put_frame(&out, FRAME_UNBIND);
	assert_true(ring_writer_publish(&out)); /* so it has to ring */
	assert_int_equal(doorbell_ring(scene->fds[1]), 0);
	run(scene);
	assert_int_equal(madvise(memory, 4096, MADV_REMOVE), -1);
	assert_int_equal(scene->requests, 1);
}

/* Its first frame, of which the daemon wasn't told, is its last. */
SCENE_TEST(what_was_written_before_an_end_is_taken_without_a_ring, scene_start)
{
	uint8_t *memory;
	struct ring_writer out = share(scene, &memory);

	seal(scene);
	put_frame(&out, FRAME_GOODBYE);
	ring_writer_publish(&out);
	shutdown(scene->fd, SHUT_RDWR);
	run(scene);
	assert_int_equal(scene->gone, 1);
	assert_true(scene->took_its_leave);
}

/* To seal it waits for whoever writes to it or makes holes, as long as that takes: so the daemon doesn't. */
SCENE_TEST(a_program_that_does_not_seal_its_memory_is_cut_off, scene_start)
{
	uint8_t *memory;

	share(scene, &memory);
	assert_int_equal(doorbell_ring(scene->fds[1]), 0);
	run(scene);
	expect_goodbye(scene, EPROTO);
}

static void say_with_descriptor(struct scene *scene, const void *bytes, size_t size)
{
	assert_int_equal(send_descriptor(scene->fd, bytes, size, STDERR_FILENO, 0), size);
	run(scene);
}

SCENE_TEST_EACH(descriptors_are_a_violation_at_any_time, scene_start, moment, 4)
{
	static const uint8_t hello[24] = {8, 0, 0, 0, FRAME_HELLO, [16] = 1},
			     query[24] = {6, 0, 0, 0, FRAME_UNBIND, [16] = 's'};

	if (moment == 1)
		say(scene, hello, 20);
	if (moment >= 2) {
		say_hello(scene, 1, moment == 3 ? HELLO_SHARED_MEMORY : 0);
		expect(scene, FRAME_WELCOME);
		say_with_descriptor(scene, query, sizeof(query));
	} else {
		say_with_descriptor(scene, hello + 20 * moment, sizeof(hello) - 20u * (unsigned)moment);
	}
	assert_int_equal(scene->requests, 0);
	expect_goodbye(scene, EPROTO);
}

SCENE_TEST_EACH(end_of_file_at_any_time_leaves_nothing_behind, scene_start, moment, 5)
{
	if (moment == 1)
		say(scene, "\10\0\0\0\1", 5);
	if (moment >= 2)
		say_hello(scene, 1, moment == 3);
	if (moment == 4)
		say_frame(scene, FRAME_UNBIND, "status", 6);
	shutdown(scene->fd, SHUT_RDWR);
	run(scene);
	assert_int_equal(scene->gone, 1);
	if (moment == 3) {
		uint8_t payload[4096];
		struct frame_header header;

		hear(scene, &header, payload); /* takes the descriptors */
	}
}

SCENE_TEST(session_ends_with_goodbye_though_the_socket_stays, greeted)
{
	uint8_t byte;

	say_frame(scene, FRAME_GOODBYE, "\0\0\0", 4);
	assert_int_equal(scene->gone, 1);
	assert_true(scene->took_its_leave);
	assert_int_equal(recv(scene->fd, &byte, 1, MSG_DONTWAIT), 0);
}

/* Its last words are behind so much else, or the daemon is about to write when it closes: what it took is in
 * doubt only if it didn't say so. */
SCENE_TEST_EACH(last_words_of_a_program_are_heard, greeted, does_not_read, 2)
{
	static uint8_t much[FRAME_HEADER_SIZE + 65536];

	if (does_not_read) {
		/* The daemon waits for room in the socket. */
		for (uint32_t i = 0; i < 16; i++)
			hop_send(scene->program, FRAME_OPTIONAL, 0, 0, much, 65536);
		switch_pass(&scene->board);
		run(scene);
	} else {
		/* It answers to what it has read of a lot. */
		frame_header_encode(&(struct frame_header){.type = FRAME_UNBIND}, much);
		assert_int_equal(send(scene->fd, much, FRAME_HEADER_SIZE, MSG_NOSIGNAL), FRAME_HEADER_SIZE);
		frame_header_encode(&(struct frame_header){.type = FRAME_OPTIONAL, .length = 65536}, much);
		for (int i = 0; i < 2; i++)
			assert_int_equal(send(scene->fd, much, sizeof(much), MSG_NOSIGNAL), sizeof(much));
	}
	frame_header_encode(&(struct frame_header){.type = FRAME_GOODBYE}, much);
	assert_int_equal(send(scene->fd, much, FRAME_HEADER_SIZE, MSG_NOSIGNAL), FRAME_HEADER_SIZE);
	close(scene->fd);
	run(scene);
	assert_int_equal(scene->gone, 1);
	assert_true(scene->took_its_leave);
	scene->fd = dup(0);
}

SCENE_TEST(without_descriptors_left_the_program_is_told, scene_start)
{
	struct rlimit limit, low;
	int fillers[256];
	unsigned count = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 200;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (count < 256 && (fillers[count] = dup(scene->fd)) >= 0)
		count++;
	say_hello(scene, 1, HELLO_SHARED_MEMORY);
	while (count)
		close(fillers[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	expect_goodbye(scene, EBUSY);
}

/* It goes into logs and into JSON. */
SCENE_TEST(name_of_a_program_is_plain_text, scene_start)
{
	char before[16];

	assert_int_equal(prctl(PR_GET_NAME, before), 0);
	assert_int_equal(prctl(PR_SET_NAME, "a\033[1m\xff\"\\z"), 0);
	say_hello(scene, PROTOCOL_MAJOR, 0);
	expect(scene, FRAME_WELCOME);
	for (const char *c = scene->program->who.comm; *c; c++)
		assert_true(*c >= ' ' && *c < 0x7f);
	assert_int_equal(prctl(PR_SET_NAME, before), 0);
	assert_int_equal(scene->program->who.comm[0], 'a');
}

/* Many at once, and they are in before the daemon looks. */
static void ask_at_once(struct scene *scene, unsigned count)
{
	uint8_t frame[FRAME_HEADER_SIZE + 8] = {0}, frames[1000 * sizeof(frame)];

	assert_true(count <= 1000);
	frame_header_encode(&(struct frame_header){.type = FRAME_UNBIND, .length = 5, .channel = 1}, frame);
	memcpy(frame + FRAME_HEADER_SIZE, "inbox", 5);
	for (unsigned i = 0; i < count; i++)
		memcpy(frames + i * sizeof(frame), frame, sizeof(frame));
	assert_int_equal(send(scene->fd, frames, count * sizeof(frame), MSG_NOSIGNAL), count * sizeof(frame));
}

/* A request may be much work: who makes thousands lets the others have their turns. */
SCENE_TEST(requests_are_bounded_in_a_turn, greeted)
{
	unsigned before = 0, turns = 0;

	ask_at_once(scene, 1000);
	while (scene->requests < 1000 && turns < 10000) {
		turns += !scene->board.turns.resting;
		event_base_loop(scene->base, EVLOOP_ONCE);
		assert_true(scene->requests - before <= TURNS_PASS / COST_BIND + 1);
		before = scene->requests;
	}
	assert_int_equal(scene->requests, 1000);
	assert_int_equal(scene->gone, 0);
}

SCENE_TEST(requests_of_a_program_that_has_gone_are_let_be, greeted)
{
	ask_at_once(scene, 1000);
	assert_int_equal(shutdown(scene->fd, SHUT_RDWR), 0);
	run(scene);
	assert_int_equal(scene->gone, 1);
	assert_true(scene->requests < 200);
}

SCENE_TEST(request_that_takes_long_is_done_in_turns_before_the_next_one, greeted)
{
	static const uint8_t types[] = {FRAME_BIND, FRAME_UNBIND};
	uint8_t frames[2][FRAME_HEADER_SIZE + 8] = {0}, payload[64];
	struct frame_header header;

	scene->pieces = 5;
	for (unsigned i = 0; i < 2; i++) {
		frame_header_encode(&(struct frame_header){.type = types[i], .length = 5, .channel = i},
				    frames[i]);
		memcpy(frames[i] + FRAME_HEADER_SIZE, "inbox", 5);
	}
	say(scene, frames, sizeof(frames));
	assert_int_equal(scene->requests, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(hear(scene, &header, payload));
		assert_int_equal(header.type, FRAME_REPLY);
		assert_int_equal(header.channel, i);
	}
	/* Who goes in the midst of it leaves nothing behind. */
	scene->requests = scene->pieces_done = 0;
	scene->pieces = 1000;
	assert_int_equal(send(scene->fd, frames[0], sizeof(frames[0]), MSG_NOSIGNAL), sizeof(frames[0]));
	for (int i = 0; i < 5; i++)
		event_base_loop(scene->base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
	assert_true(scene->pieces > 0 && scene->pieces < 1000);
	assert_int_equal(shutdown(scene->fd, SHUT_RDWR), 0);
	run(scene);
	assert_int_equal(scene->gone, 1);
}
