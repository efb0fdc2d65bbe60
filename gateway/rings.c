/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/rings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/descriptors.h"
#include "base/timer.h"
#include "wire/bytes.h"
#include "wire/doorbell.h"
#include "wire/frame.h"
#include "wire/gateway.h"
#include "wire/gateway_rings.h"

struct rings {
	rings_ready_fn ready;
	void *userdata;
	int fds[GATEWAY_FDS];
	uint8_t *memory;
	struct event *woken, *ended, *soon, *late;
	bool is_wanted; /* ready() may be called */
	bool is_ended;	/* by the daemon */
	bool is_late;	/* what was processed is told of, however little it is */
	bool is_broken; /* what came from the other host can't be */
	/* what leaves */
	struct ring_reader leaving;
	uint32_t offset; /* of what was taken, from what the other host's daemon has processed */
	/* what comes */
	struct ring_writer arrived;
	uint8_t head[RINGS_RECORD_HEAD]; /* of the record that comes, */
	uint32_t head_size, left;	 /* and its bytes that are still to come */
	uint32_t whole;			 /* the index before which frames are complete */
	uint32_t told;			 /* the index that the other host knows of */
};

static void wake_daemon(const struct rings *rings)
{
	doorbell_ring(rings->fds[GATEWAY_FD_WAKE_DAEMON]);
}

/* --- what leaves ------------------------------------------------------------------------------ */

void rings_again(struct rings *rings)
{
	timer_set(rings->soon, 0);
}

void rings_take_more(struct rings *rings, bool is_wanted)
{
	if (is_wanted && !rings->is_wanted)
		rings_again(rings);
	rings->is_wanted = is_wanted;
}

/* How much is to be processed at least before that is told of. */
static uint32_t least_to_tell(const struct rings *rings)
{
	return rings->is_late ? 8 : RINGS_TELL_AT;
}

/* Whether the daemon has processed enough. Negative: what it says can't be. */
static int has_to_tell(struct rings *rings)
{
	int r = ring_writer_unread(&rings->arrived);

	return r < 0 ? r : rings->arrived.tail - rings->told >= least_to_tell(rings);
}

/* Asks the daemon to wake us when it has written; also when it has processed, if so much isn't told of that
 * the other host may wait for that. 1: it has done that meanwhile; 0: it hasn't; -EPROTO. */
static int wait_for_daemon(struct rings *rings)
{
	uint32_t untold = rings->arrived.published - rings->told, least = least_to_tell(rings);
	int r = ring_reader_arm(&rings->leaving, rings->offset + 1);

	if (r == 0 && untold >= least)
		r = ring_writer_arm(&rings->arrived,
				    GATEWAY_RING_SIZE - (rings->arrived.head - rings->told) + least);
	if (r == 0 && untold && !rings->is_late)
		timer_start(rings->late, RINGS_TELL_LATE_MS);
	return r;
}

ssize_t rings_take(struct rings *rings, uint8_t *record, size_t size)
{
	struct ring_reader *leaving = &rings->leaving;
	uint32_t length;
	int ready, tells, r;

	do {
		ready = ring_reader_ready(leaving, rings->offset + 1);
		tells = has_to_tell(rings);
		if (ready < 0 || tells < 0)
			return -EPROTO;
		length = (uint32_t)ready - rings->offset;
		if (length || tells)
			break;
		r = wait_for_daemon(rings);
		if (r <= 0)
			return r < 0 ? r : rings->is_ended ? 0 : -EAGAIN;
	} while (1);

	rings->is_late = false;
	size -= RINGS_RECORD_HEAD;
	if (size > RINGS_RECORD_MAX)
		size = RINGS_RECORD_MAX;
	if (length > size)
		length = (uint32_t)size;
	put_u32(record, length);
	put_u32(record + 4, rings->arrived.tail);
	ring_reader_copy(leaving, rings->offset, record + RINGS_RECORD_HEAD, length);
	rings->offset += length;
	rings->told = rings->arrived.tail;
	return (ssize_t)(RINGS_RECORD_HEAD + length);
}

/* --- what comes ------------------------------------------------------------------------------- */

/* Takes the index up to which the other host's daemon has processed. False: it can't be. */
static bool take_index(struct rings *rings, uint32_t index)
{
	uint32_t processed = index - rings->leaving.tail;

	if (processed > rings->offset || index & 7)
		return false;
	rings->offset -= processed;
	ring_reader_consume(&rings->leaving, processed);
	return true;
}

/* The head is there. False: it can't be, as the other host knows what is processed here, so it never sends
 * more than there is room for. */
static bool take_head(struct rings *rings)
{
	rings->head_size = 0;
	rings->left = get_u32(rings->head);
	return rings->left <= RINGS_RECORD_MAX && take_index(rings, get_u32(rings->head + 4)) &&
	       ring_writer_space(&rings->arrived, rings->left) >= (int)rings->left;
}

/* Finds how many frames are complete. False: the one behind them can't be. */
static bool find_whole_frames(struct rings *rings)
{
	struct ring_writer *writer = &rings->arrived;
	struct ring_reader reader = {.ring = writer->ring, .tail = rings->whole};
	uint8_t head[FRAME_HEADER_SIZE];
	struct frame_header header;
	bool can_be = true;

	while (writer->head - reader.tail >= FRAME_HEADER_SIZE) {
		ring_reader_copy(&reader, 0, head, sizeof(head));
		can_be = frame_header_decode(head, &header) == 0;
		if (!can_be || writer->head - reader.tail < frame_size(header.length))
			break;
		reader.tail += frame_size(header.length);
	}
	rings->whole = reader.tail;
	return can_be;
}

/* Lets the daemon see them. Returns whether it has asked to hear of that. */
static bool rings_publish(struct rings *rings)
{
	struct ring_writer *writer = &rings->arrived;

	if (writer->published == rings->whole)
		return false;
	writer->published = rings->whole;
	ring_store(writer->ring.producer, rings->whole);
	return ring_take_request(writer->ring.wants_data, writer->ring.wants_data_bit);
}

static bool put(struct rings *rings, const uint8_t *data, size_t size)
{
	while (size > 0) {
		uint32_t part = rings->left ? rings->left : RINGS_RECORD_HEAD - rings->head_size;

		if (part > size)
			part = (uint32_t)size;
		if (rings->left) {
			ring_writer_put(&rings->arrived, data, part);
			rings->left -= part;
		} else {
			for (uint32_t i = 0; i < part; i++)
				rings->head[rings->head_size++] = data[i];
			if (rings->head_size == RINGS_RECORD_HEAD && !take_head(rings))
				return false;
		}
		data += part;
		size -= part;
	}
	return true;
}

int rings_put(struct rings *rings, const uint8_t *untrusted, size_t size)
{
	bool can_be = !rings->is_broken && put(rings, untrusted, size);
	bool is_asked;

	can_be &= find_whole_frames(rings);
	is_asked = rings_publish(rings);
	is_asked |= ring_reader_release(&rings->leaving);
	if (is_asked)
		wake_daemon(rings);
	if (rings->arrived.published - rings->told >= RINGS_TELL_AT) {
		if (rings->is_wanted && !evtimer_pending(rings->soon, NULL))
			rings_again(rings);
	} else if (rings->arrived.published != rings->told) {
		timer_start(rings->late, RINGS_TELL_LATE_MS);
	}
	rings->is_broken |= !can_be;
	return can_be ? 0 : -EPROTO;
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_ready(evutil_socket_t fd, short what, void *userdata)
{
	struct rings *rings = userdata;

	if (rings->is_wanted)
		rings->ready(rings->userdata);
}

static void rings_on_late(evutil_socket_t fd, short what, void *userdata)
{
	struct rings *rings = userdata;

	rings->is_late = true;
	on_ready(fd, what, userdata);
}

/* The daemon says nothing on this socket. */
static void rings_on_ended(evutil_socket_t fd, short what, void *userdata)
{
	struct rings *rings = userdata;

	rings->is_ended = true;
	event_del(rings->ended);
	on_ready(fd, what, userdata);
}

/* --- life ------------------------------------------------------------------------------------- */

static int map(struct rings *rings)
{
	struct stat status;
	struct ring_view view;
	void *memory;

	if (fstat(rings->fds[GATEWAY_FD_MEMORY], &status) < 0 || status.st_size != GATEWAY_MEMORY_SIZE)
		return -EPROTO;
	memory = mmap(NULL, GATEWAY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      rings->fds[GATEWAY_FD_MEMORY], 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	rings->memory = memory;
	/* The daemon touches it only if nobody can make holes in it, for which it would have to wait. */
	if (fcntl(rings->fds[GATEWAY_FD_MEMORY], F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return -EPROTO;
	close(rings->fds[GATEWAY_FD_MEMORY]);
	rings->fds[GATEWAY_FD_MEMORY] = -1;
	view = gateway_ring_view(rings->memory, GATEWAY_RING_OUT);
	ring_reader_init(&rings->leaving, &view, false);
	view = gateway_ring_view(rings->memory, GATEWAY_RING_IN);
	view.unaligned = 7;
	ring_writer_init(&rings->arrived, &view, false);
	wake_daemon(rings); /* it waits for the mapping and the seal */
	return 0;
}

int rings_new(struct rings **out, struct event_base *base, const int *fds, rings_ready_fn ready,
	      void *userdata)
{
	struct rings *rings = calloc(1, sizeof(*rings));
	int r;

	if (!rings) {
		descriptors_close(fds, GATEWAY_FDS);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < GATEWAY_FDS; i++)
		rings->fds[i] = fds[i];
	rings->ready = ready;
	rings->userdata = userdata;
	rings->woken =
		event_new(base, fds[GATEWAY_FD_WAKE_GATEWAY], EV_WRITE | EV_PERSIST | EV_ET, on_ready, rings);
	rings->ended = event_new(base, fds[GATEWAY_FD_LIFE], EV_READ | EV_PERSIST, rings_on_ended, rings);
	rings->soon = evtimer_new(base, on_ready, rings);
	rings->late = evtimer_new(base, rings_on_late, rings);
	r = rings->woken && rings->ended && rings->soon && rings->late ? map(rings) : -ENOMEM;
	if (r == 0 && (event_add(rings->woken, NULL) < 0 || event_add(rings->ended, NULL) < 0))
		r = -ENOMEM;
	if (r < 0) {
		rings_free(rings);
		return r;
	}
	*out = rings;
	return 0;
}

void rings_free(struct rings *rings)
{
	if (!rings)
		return;
	if (rings->is_broken)
		(void)!send(rings->fds[GATEWAY_FD_LIFE], (char[]){GATEWAY_LIFE_BROKEN}, 1,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
	free_event(rings->woken);
	free_event(rings->ended);
	free_event(rings->soon);
	free_event(rings->late);
	if (rings->memory)
		munmap(rings->memory, GATEWAY_MEMORY_SIZE);
	descriptors_close(rings->fds, GATEWAY_FDS);
	free(rings);
}
