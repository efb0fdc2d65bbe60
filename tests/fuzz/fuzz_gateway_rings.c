/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rings that a gateway shares with its daemon, between another host that says anything, cut anywhere, and
 * a daemon that writes, processes, spoils what it shares, and goes. What the daemon sees are whole frames,
 * what the other host gets are records of what the daemon wrote; whoever waits is woken, and nobody is woken
 * on and on.
 */

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include <event2/event.h>

#include "gateway/rings.h"
#include "tests/fuzz/fuzz.h"
#include "wire/bytes.h"
#include "wire/doorbell.h"
#include "wire/frame.h"
#include "wire/gateway.h"
#include "wire/gateway_rings.h"

#define LATE_MS 25 /* more than what was processed waits to be told of */

struct scene {
	struct event_base *base;
	struct rings *rings;
	bool is_broken; /* by the other host */
	bool is_spoilt; /* by the daemon */
	bool is_over;	/* rings_take() has said that there is no more */
	/* the daemon */
	uint8_t *memory;
	int life, wake_daemon, wake_gateway;
	struct event *bell;
	bool has_rung, is_ended, waits_for_data, waits_for_space;
	struct ring_reader in;
	struct ring_writer out;
	uint32_t wrote, processed;
	/* the other host */
	uint32_t got, index;
	size_t allowed; /* records that it takes now, */
	size_t room;	/* of so many bytes */
	unsigned ready; /* calls in a pass */
};

/* The time goes on when the input says so: all others see the real one when it has ended. */
static uint64_t ahead_ms;

__attribute__((visibility("default"))) int clock_gettime(clockid_t which, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, which, now);

	now->tv_sec += (time_t)(ahead_ms / 1000);
	now->tv_nsec += (long)(ahead_ms % 1000) * 1000000;
	if (now->tv_nsec >= 1000000000) {
		now->tv_nsec -= 1000000000;
		now->tv_sec++;
	}
	return r;
}

/* --- the other host --------------------------------------------------------------------------- */

/* What the daemon writes from an index on, of which a record has no more than is here. */
static const uint8_t *written_at(uint32_t index)
{
	static uint8_t pattern[2 * RINGS_RECORD_MAX];

	if (!pattern[1])
		for (uint32_t i = 0; i < sizeof(pattern); i++)
			pattern[i] = (uint8_t)(i ^ i >> 8);
	return pattern + index % RINGS_RECORD_MAX;
}

static void hear(struct scene *scene, const uint8_t *record, size_t size)
{
	uint32_t length = get_u32(record), index = get_u32(record + 4);

	check(size == RINGS_RECORD_HEAD + length && length <= RINGS_RECORD_MAX);
	if (!scene->is_spoilt) {
		check(length <= scene->wrote - scene->got);
		check(memcmp(record + RINGS_RECORD_HEAD, written_at(scene->got), length) == 0);
		/* It only grows, and never beyond what was processed. */
		check(index - scene->index <= scene->processed - scene->index);
	}
	scene->got += length;
	scene->index = index;
}

static void on_ready(void *userdata)
{
	static uint8_t record[2 * RINGS_RECORD_MAX];
	struct scene *scene = userdata;
	ssize_t size;

	scene->ready++;
	while (scene->allowed > 0) {
		scene->allowed--;
		size = rings_take(scene->rings, record, scene->room);
		if (size == -EAGAIN)
			return;
		check(size > 0 || (size == 0 && scene->is_ended) || (size == -EPROTO && scene->is_spoilt));
		if (size <= 0)
			scene->is_over = true;
		if (size <= 0)
			break;
		check(size >= (ssize_t)RINGS_RECORD_HEAD && (size_t)size <= scene->room);
		hear(scene, record, (size_t)size);
	}
	rings_take_more(scene->rings, false);
}

static void say(struct scene *scene, const void *bytes, size_t size)
{
	int r = rings_put(scene->rings, bytes, size);

	check(r == -EPROTO || (r == 0 && !scene->is_broken));
	scene->is_broken |= r < 0;
}

/* An honest head, and bytes that may be anything. */
static void say_record(struct scene *scene, const uint8_t *bytes, size_t size)
{
	uint8_t head[RINGS_RECORD_HEAD];

	put_u32(head, (uint32_t)size);
	put_u32(head + 4, scene->got & ~7u);
	say(scene, head, sizeof(head));
	say(scene, bytes, size);
}

/* One honest frame, larger than an input is. */
static void say_frame(struct scene *scene, uint32_t length)
{
	const struct frame_header header = {.type = FRAME_DATA, .length = length};
	static uint8_t wire[RINGS_RECORD_HEAD + RINGS_RECORD_MAX];
	uint32_t size = frame_wrap(wire + RINGS_RECORD_HEAD, &header);

	put_u32(wire, size);
	put_u32(wire + 4, scene->got & ~7u);
	say(scene, wire, RINGS_RECORD_HEAD + size);
}

/* --- the daemon ------------------------------------------------------------------------------- */

static void on_bell(evutil_socket_t fd, short what, void *userdata)
{
	((struct scene *)userdata)->has_rung = true;
}

static void wait_for_data(struct scene *scene)
{
	scene->waits_for_data = ring_reader_arm(&scene->in, 1) == 0;
}

static void write_some(struct scene *scene, uint32_t size)
{
	if (scene->is_ended)
		return;
	if (ring_writer_space(&scene->out, size) < (int)size) {
		scene->waits_for_space = ring_writer_arm(&scene->out, RINGS_RECORD_MAX) == 0;
		return;
	}
	ring_writer_put(&scene->out, written_at(scene->wrote), size);
	scene->wrote += size;
	if (ring_writer_publish(&scene->out))
		doorbell_ring(scene->wake_gateway);
}

static void process_frames(struct scene *scene, uint32_t most)
{
	uint8_t bytes[FRAME_HEADER_SIZE];
	struct frame_header header;
	int there;

	for (; most > 0 && (there = ring_reader_ready(&scene->in, GATEWAY_RING_SIZE)) != 0; most--) {
		if (scene->is_spoilt && there < 0)
			return;
		check(scene->is_spoilt || there >= (int)FRAME_HEADER_SIZE);
		ring_reader_copy(&scene->in, 0, bytes, sizeof(bytes));
		if (scene->is_spoilt) {
			ring_reader_consume(&scene->in, (uint32_t)there);
			break;
		}
		check(frame_header_decode(bytes, &header) == 0);
		check(there >= (int)frame_size(header.length));
		ring_reader_consume(&scene->in, frame_size(header.length));
		scene->processed += frame_size(header.length);
	}
	if (ring_reader_release(&scene->in))
		doorbell_ring(scene->wake_gateway);
	wait_for_data(scene);
}

/* Changes a byte of what is shared: of an index, a request, or of what is in a ring. */
static void spoil(struct scene *scene, const uint8_t bytes[4])
{
	uint32_t place = get_u16(bytes);

	if (bytes[2] & 1)
		place = place % (2 * LOCAL_RING_CONTROL);
	else
		place = place % (GATEWAY_MEMORY_SIZE - GATEWAY_RINGS_HEAD) + GATEWAY_RINGS_HEAD +
			(bytes[2] & 2 ? GATEWAY_RING_SIZE : 0);
	scene->memory[place] = bytes[3];
	scene->is_spoilt = true;
	if (bytes[2] & 4)
		doorbell_ring(scene->wake_gateway);
}

/* Whoever waits, and needs it no longer, was woken. */
static void look_at_bell(struct scene *scene)
{
	bool has_data = ring_load(scene->in.ring.producer) != scene->in.tail;
	bool has_space = ring_writer_space(&scene->out, GATEWAY_RING_SIZE) >= (int)RINGS_RECORD_MAX;

	check(scene->is_spoilt || scene->has_rung || !scene->waits_for_data || !has_data);
	check(scene->is_spoilt || scene->has_rung || !scene->waits_for_space || !has_space);
	if (scene->has_rung) {
		scene->has_rung = scene->waits_for_space = false;
		wait_for_data(scene);
	}
}

/* --- the scene -------------------------------------------------------------------------------- */

static void make_descriptors(struct scene *scene, int fds[GATEWAY_FDS])
{
	int life[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) == 0);
	scene->life = life[0];
	fds[GATEWAY_FD_LIFE] = life[1];
	fds[GATEWAY_FD_MEMORY] = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(ftruncate(fds[GATEWAY_FD_MEMORY], GATEWAY_MEMORY_SIZE) == 0);
	scene->memory = mmap(NULL, GATEWAY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			     fds[GATEWAY_FD_MEMORY], 0);
	check(scene->memory != MAP_FAILED);
	scene->wake_daemon = doorbell_new();
	scene->wake_gateway = doorbell_new();
	fds[GATEWAY_FD_WAKE_DAEMON] = dup(scene->wake_daemon);
	fds[GATEWAY_FD_WAKE_GATEWAY] = dup(scene->wake_gateway);
	for (unsigned i = 0; i < GATEWAY_FDS; i++)
		check(fds[i] >= 0);
}

static void run(struct scene *scene)
{
	for (int i = 0; i < 3; i++) {
		scene->ready = 0;
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		check(scene->ready <= 4); /* both timers, the bell and the socket */
	}
	look_at_bell(scene);
}

static void begin(struct scene *scene)
{
	struct ring_view view;
	int fds[GATEWAY_FDS];

	*scene = (struct scene){.base = event_base_new(), .room = RINGS_TAKE_MIN};
	make_descriptors(scene, fds);
	view = gateway_ring_view(scene->memory, GATEWAY_RING_IN);
	ring_reader_init(&scene->in, &view, false);
	view = gateway_ring_view(scene->memory, GATEWAY_RING_OUT);
	view.unaligned = 7;
	ring_writer_init(&scene->out, &view, false);
	check(rings_new(&scene->rings, scene->base, fds, on_ready, scene) == 0);
	scene->bell =
		event_new(scene->base, scene->wake_daemon, EV_WRITE | EV_PERSIST | EV_ET, on_bell, scene);
	event_add(scene->bell, NULL);
	rings_take_more(scene->rings, true);
	run(scene);
	wait_for_data(scene);
}

static void allow(struct scene *scene, size_t records, size_t room)
{
	scene->allowed = records;
	scene->room = room;
	rings_take_more(scene->rings, true);
}

static void pass_time(struct scene *scene)
{
	ahead_ms += LATE_MS;
	run(scene);
}

/* When all is said that there is to say, nobody is woken any more. */
static void be_quiet(struct scene *scene)
{
	for (int i = 0; i < 5; i++) {
		ahead_ms += LATE_MS;
		scene->ready = 0;
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		check(scene->is_spoilt || i < 2 || scene->ready == 0);
	}
	look_at_bell(scene);
}

/* All that was written has gone, and all that was processed is told of. */
static void drain(struct scene *scene)
{
	allow(scene, SIZE_MAX, 2 * RINGS_RECORD_MAX);
	run(scene);
	check(scene->is_spoilt || scene->got == scene->wrote);
	be_quiet(scene);
	process_frames(scene, UINT32_MAX);
	be_quiet(scene);
	check(scene->is_spoilt || scene->is_over || scene->processed == scene->index);
	check(scene->is_spoilt || scene->is_over == scene->is_ended);
}

static void finish(struct scene *scene)
{
	char byte = 0;

	rings_free(scene->rings);
	check(recv(scene->life, &byte, 1, MSG_DONTWAIT) == scene->is_broken);
	check(!scene->is_broken || byte == GATEWAY_LIFE_BROKEN);
	event_free(scene->bell);
	event_base_free(scene->base);
	close(scene->life);
	close(scene->wake_daemon);
	close(scene->wake_gateway);
	munmap(scene->memory, GATEWAY_MEMORY_SIZE);
	ahead_ms = 0;
}

static size_t play_other(struct scene *scene, uint8_t what, const uint8_t *data, size_t size)
{
	static const size_t rooms[] = {RINGS_TAKE_MIN, 1000, 32768, 2 * RINGS_RECORD_MAX};

	switch (what) {
	case 0xff:
		shutdown(scene->life, SHUT_WR);
		scene->is_ended = true;
		return 0;
	case 0xfe:
		if (size < 4)
			return size;
		spoil(scene, data);
		return 4;
	case 0xfd:
		process_frames(scene, UINT32_MAX);
		return 0;
	case 0xfc:
		process_frames(scene, 1);
		return 0;
	case 0xfb:
		pass_time(scene);
		return 0;
	case 0xfa:
		rings_take_more(scene->rings, false);
		return 0;
	default:
		if (what & 0x20)
			say_frame(scene, (what & 0x1fu) * (what & 0x1fu) * 96);
		else
			allow(scene, 1 + (what & 7), rooms[what >> 3 & 3]);
		return 0;
	}
}

static void play(struct scene *scene, const uint8_t *data, size_t size)
{
	while (size > 0 && !scene->is_over) {
		uint8_t what = *data++;
		size_t count = what & 0x3f;

		size--;
		if (count > size)
			count = size;
		if (what >> 6 == 0) {
			say(scene, data, count);
		} else if (what >> 6 == 1) {
			say_record(scene, data, count);
		} else if (what >> 6 == 2) {
			write_some(scene, (what & 0x3f) * (what & 0x3f) * 16);
			count = 0;
		} else {
			count = play_other(scene, what, data, size);
		}
		data += count;
		size -= count;
		run(scene);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scene scene;

	if (size > 4096)
		return 0;
	begin(&scene);
	play(&scene, data, size);
	if (!scene.is_over)
		drain(&scene);
	finish(&scene);
	return 0;
}
