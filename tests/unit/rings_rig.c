/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/rings_rig.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/own_process.h"
#include "wire/bytes.h"
#include "wire/doorbell.h"

/* --- the gateway ------------------------------------------------------------------------------ */

void take(struct end *end)
{
	while (end->room >= end->wired + end->most) {
		end->last = rings_take(end->rings, end->wire + end->wired, end->most);
		if (end->last <= 0)
			return;
		assert_true(end->last >= (ssize_t)RINGS_RECORD_HEAD && end->last <= (ssize_t)end->most);
		end->wired += (size_t)end->last;
	}
	rings_take_more(end->rings, false); /* until the wire is shorter */
}

static void on_ready(void *userdata)
{
	struct end *end = userdata;

	end->ready++;
	if (end->on_ready)
		end->on_ready(end);
	else if (!end->is_slow)
		take(end);
}

/* --- the daemon ------------------------------------------------------------------------------- */

static void on_bell(evutil_socket_t fd, short what, void *userdata)
{
	((struct end *)userdata)->rung++;
}

void make_descriptors(struct end *end, int fds[GATEWAY_FDS])
{
	int life[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life), 0);
	end->life = life[0];
	fds[GATEWAY_FD_LIFE] = life[1];
	fds[GATEWAY_FD_MEMORY] = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fds[GATEWAY_FD_MEMORY], GATEWAY_MEMORY_SIZE), 0);
	end->memory = mmap(NULL, GATEWAY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   fds[GATEWAY_FD_MEMORY], 0);
	assert_ptr_not_equal(end->memory, MAP_FAILED);
	end->wake_daemon = doorbell_new();
	end->wake_gateway = doorbell_new();
	assert_true(end->wake_daemon >= 0 && end->wake_gateway >= 0);
	fds[GATEWAY_FD_WAKE_DAEMON] = fcntl(end->wake_daemon, F_DUPFD_CLOEXEC, 0);
	fds[GATEWAY_FD_WAKE_GATEWAY] = fcntl(end->wake_gateway, F_DUPFD_CLOEXEC, 0);
}

void open_end(struct scene *scene, struct end *end)
{
	int fds[GATEWAY_FDS];
	struct ring_view view;

	*end = (struct end){.most = 32 * 1024, .room = WIRE_SIZE, .wire = malloc(WIRE_SIZE)};
	make_descriptors(end, fds);
	view = gateway_ring_view(end->memory, GATEWAY_RING_IN);
	ring_reader_init(&end->in, &view, false);
	view = gateway_ring_view(end->memory, GATEWAY_RING_OUT);
	view.unaligned = 7;
	ring_writer_init(&end->out, &view, false);
	assert_int_equal(rings_new(&end->rings, scene->base, fds, on_ready, end), 0);
	settle(scene);
	assert_int_equal(end->ready, 0);
	rings_take_more(end->rings, true);
	settle(scene);
	assert_int_equal(end->last, -EAGAIN);
	end->bell = event_new(scene->base, end->wake_daemon, EV_WRITE | EV_PERSIST | EV_ET, on_bell, end);
	event_add(end->bell, NULL);
	settle(scene);
	end->ready = end->rung = 0;
	assert_int_equal(ring_reader_arm(&end->in, 1), 0);
}

void close_daemon(struct end *end)
{
	if (end->life < 0)
		return;
	if (end->bell)
		event_free(end->bell);
	close(end->life);
	close(end->wake_daemon);
	close(end->wake_gateway);
	munmap(end->memory, GATEWAY_MEMORY_SIZE);
	end->life = -1;
}

void close_end(struct end *end)
{
	rings_free(end->rings);
	end->rings = NULL;
	close_daemon(end);
	free(end->wire);
}

/* --- the scene -------------------------------------------------------------------------------- */

int setup(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	alarm(patience(ALARM_S));
	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	open_end(scene, &scene->end);
	*state = scene;
	return 0;
}

int teardown(void **state)
{
	struct scene *scene = *state;

	close_end(&scene->end);
	assert_int_equal(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED), 0);
	event_base_free(scene->base);
	assert_int_equal(open_descriptors(), scene->descriptors);
	free(scene);
	alarm(0);
	return 0;
}

void settle(struct scene *scene)
{
	for (int i = 0; i < 4; i++)
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
}

void wait_ms(struct scene *scene, unsigned ms)
{
	const struct timeval delay = {.tv_usec = (suseconds_t)ms * 1000};

	event_base_loopexit(scene->base, &delay);
	event_base_dispatch(scene->base);
}

/* --- what is said ----------------------------------------------------------------------------- */

size_t make_frame(uint8_t *out, uint32_t length, uint32_t sequence)
{
	const struct frame_header header = {.type = FRAME_DATA, .length = length, .sequence = sequence};

	for (uint32_t i = 0; i < length; i++)
		out[FRAME_HEADER_SIZE + i] = (uint8_t)(sequence + i);
	return frame_wrap(out, &header);
}

void make_head(uint8_t out[RINGS_RECORD_HEAD], uint32_t length, uint32_t index)
{
	put_u32(out, length);
	put_u32(out + 4, index);
}

int say(struct end *end, const void *data, size_t size)
{
	return rings_put(end->rings, data, size);
}

int say_record(struct end *end, const void *data, uint32_t size, uint32_t index)
{
	uint8_t head[RINGS_RECORD_HEAD];
	int r;

	make_head(head, size, index);
	r = say(end, head, sizeof(head));
	return r == 0 && size > 0 ? say(end, data, size) : r;
}

int there(struct end *end)
{
	return ring_reader_ready(&end->in, GATEWAY_RING_SIZE);
}

bool put_frame(struct end *end, const uint8_t *frame, size_t size)
{
	bool is_asked;

	ring_writer_put(&end->out, frame, (uint32_t)size);
	is_asked = ring_writer_publish(&end->out);
	if (is_asked)
		assert_int_equal(doorbell_ring(end->wake_gateway), 0);
	return is_asked;
}

bool process(struct end *end, uint32_t size)
{
	bool is_asked;

	ring_reader_consume(&end->in, size);
	is_asked = ring_reader_release(&end->in);
	if (is_asked)
		assert_int_equal(doorbell_ring(end->wake_gateway), 0);
	ring_reader_arm(&end->in, 1);
	return is_asked;
}

void listen_to(struct listener *listener, const uint8_t *data, size_t size)
{
	while (size > 0) {
		uint32_t part = listener->left < size ? listener->left : (uint32_t)size;

		if (listener->left) {
			if (listener->got)
				memcpy(listener->got + listener->size, data, part);
			listener->size += part;
			listener->left -= part;
			data += part;
			size -= part;
			continue;
		}
		listener->head[listener->head_size++] = *data++;
		size--;
		if (listener->head_size < RINGS_RECORD_HEAD)
			continue;
		listener->head_size = 0;
		listener->left = get_u32(listener->head);
		listener->index = get_u32(listener->head + 4);
		listener->records++;
		listener->told += !listener->left;
		assert_true(listener->left <= RINGS_RECORD_MAX);
	}
}

void hear(struct end *end, struct listener *listener)
{
	listen_to(listener, end->wire, end->wired);
	end->wired = 0;
}
