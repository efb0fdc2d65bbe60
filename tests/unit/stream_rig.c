/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/stream_rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/quota.h"
#include "daemon/local/stream.h"
#include "wire/bytes.h"

#define GUARD	    'G'
#define SOCKET_ROOM 8192
#define FAR_MAX	    (4u << 20) /* more than all that lies between two programs */

static const struct frame_identity identity = {.domid = 5, .uid = 1000, .gid = 1000, .pid = 77};

BEFORE_ALL
{
	log_set_level(LOG_LEVEL_ERROR);
}

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

static const struct stream_callbacks ops = {.open = on_open, .gone = on_gone};

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
		assert_int_equal(stream_wait(&scene->acceptor, channel->board, channel, "inbox",
					     scene->program, &ops, scene),
				 0);
	if (scene->forbid_with)
		channel_forbid(channel, scene->forbid_with);
	return 0;
}

void run(struct scene *scene)
{
	for (int i = 0; i < 20; i++) {
		event_base_loop(scene->rig.base, EVLOOP_NONBLOCK);
		rig_settle(&scene->rig);
	}
}

int new_socket(int *program)
{
	int pair[2], room = SOCKET_ROOM;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	*program = pair[0];
	assert_int_equal(send(*program, &(char){GUARD}, 1, 0), 1);
	return pair[1];
}

void scene_start(struct scene *scene)
{
	*scene = (struct scene){.a = -1, .b = -1};
	rig_start(&scene->rig, 1);
}

void call(struct scene *scene)
{
	struct charge charge;

	charge_init(&charge, scene->opener);
	scene->at_a = new_socket(&scene->a);
	assert_int_equal(stream_connect(&scene->caller, &scene->rig.board[0], scene->at_a,
					scene->takes_socket, &identity, &charge, "2:inbox", &ops, scene),
			 0);
	run(scene);
}

void hang_up(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void scene_stop(struct scene *scene)
{
	stream_free(scene->caller);
	stream_free(scene->acceptor);
	rig_stop(&scene->rig);
	account_unref(scene->opener);
	account_unref(scene->program);
	quota_free(scene->quota);
	hang_up(&scene->a);
	hang_up(&scene->b);
}

void expect_gone(struct scene *scene, unsigned count)
{
	run(scene);
	assert_int_equal(scene->gone, count);
	assert_null(scene->caller);
	assert_null(scene->acceptor);
}

void expect_reply(int fd, uint32_t error)
{
	uint8_t bytes[FRAME_HEADER_SIZE + 256];
	struct frame_header header;
	ssize_t rest;

	assert_int_equal(recv(fd, bytes, FRAME_HEADER_SIZE, 0), FRAME_HEADER_SIZE);
	assert_int_equal(frame_header_decode(bytes, &header), 0);
	rest = frame_size(header.length) - FRAME_HEADER_SIZE;
	assert_int_equal(recv(fd, bytes + FRAME_HEADER_SIZE, (size_t)rest, 0), rest);
	assert_int_equal(header.type, FRAME_REPLY);
	assert_int_equal(get_u32(bytes + FRAME_HEADER_SIZE), error);
}

void expect_nothing(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

void expect_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

void expect_broken(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

void expect_text(int fd, const char *text)
{
	char bytes[256];

	assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), strlen(text));
	assert_memory_equal(bytes, text, strlen(text));
}

void write_text(struct scene *scene, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	run(scene);
}

void fetch(struct scene *scene)
{
	assert_true(stream_is_waiting(scene->acceptor));
	scene->at_b = new_socket(&scene->b);
	assert_int_equal(stream_take_socket(scene->acceptor, scene->at_b, scene->takes_socket), 0);
	run(scene);
	expect_reply(scene->b, 0);
}

/* The socket that comes with the answer takes the place of the connection. */
static void take_given(int *fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char bytes[FRAME_HEADER_SIZE + 256];
	struct iovec piece = {bytes, sizeof(bytes)};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};

	assert_true(recvmsg(*fd, &message, 0) >= FRAME_HEADER_SIZE + 8);
	assert_non_null(CMSG_FIRSTHDR(&message));
	expect_end(*fd);
	close(*fd);
	memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	assert_int_equal(fcntl(*fd, F_SETFL, O_NONBLOCK), 0);
}

void join_given(struct scene *scene)
{
	scene_start(scene);
	scene->takes_socket = true;
	call(scene);
	scene->at_b = new_socket(&scene->b);
	assert_int_equal(stream_take_socket(scene->acceptor, scene->at_b, true), 0);
	run(scene);
	take_given(&scene->a);
	take_given(&scene->b);
}

void join(struct scene *scene)
{
	scene_start(scene);
	call(scene);
	expect_reply(scene->a, 0);
	fetch(scene);
}

/* --- the other end in the hands of the test --------------------------------------------------- */

bool hear(struct scene *scene, uint8_t type)
{
	struct participant_frame *frame = &scene->heard;

	for (;;) {
		run(scene);
		if (!participant_get(scene->peer, OUTLET_MAIN, frame))
			return false;
		participant_release(scene->peer, OUTLET_MAIN);
		if (frame->header.type == FRAME_DATA)
			scene->received += frame->header.length;
		if (frame->header.type == type)
			return true;
	}
}

void opened(struct scene *scene, uint64_t limit)
{
	participant_opened(scene->peer, scene->number,
			   &(struct frame_opened){.limit = limit, .max_message = 1u << 20});
	run(scene);
}

void call_peer(struct scene *scene)
{
	scene_start(scene);
	scene->peer = participant_new(&scene->rig,
				      &(struct rig_options){.kind = HOP_LINK, .ring = 262144, .parity = 0});
	scene->peer->no_auto_answer = true;
	call(scene);
	assert_true(hear(scene, FRAME_OPEN));
	scene->number = scene->heard.header.channel;
}

void join_peer(struct scene *scene, uint64_t limit)
{
	opened(scene, limit);
	expect_reply(scene->a, 0);
}

/* --- bytes ------------------------------------------------------------------------------------ */

uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16) * 13);
}

uint64_t write_all_that_goes(struct scene *scene, int fd, uint64_t at)
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

uint64_t read_all(struct scene *scene, int fd, uint64_t at)
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

uint64_t put_data(struct scene *scene, uint64_t at, uint64_t upto)
{
	uint8_t bytes[1024];

	while (at < upto) {
		uint32_t size = upto - at < sizeof(bytes) ? (uint32_t)(upto - at) : (uint32_t)sizeof(bytes);

		for (uint32_t i = 0; i < size; i++)
			bytes[i] = byte_at(at + i);
		assert_true(participant_put(scene->peer, FRAME_DATA, scene->number, bytes, size));
		at += size;
	}
	return at;
}
