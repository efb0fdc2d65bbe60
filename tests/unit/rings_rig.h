/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RINGS_RIG_H
#define XENMSG_TESTS_RINGS_RIG_H

/* A gateway's rings, whose daemon is played by the test, as is whoever moves the records. */

#include <event2/event.h>

#include "gateway/rings.h"
#include "tests/unit/unit.h"
#include "wire/frame.h"
#include "wire/gateway.h"
#include "wire/gateway_rings.h"

#define ALARM_S	  60
#define FRAME_MAX (FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX)
#define WIRE_SIZE (4u * GATEWAY_RING_SIZE)
#define STEPS	  20000

/* Reads records, cut anywhere. */
struct listener {
	uint8_t head[RINGS_RECORD_HEAD];
	uint32_t head_size, left, index;
	uint32_t records, told; /* all of them, and those without bytes */
	uint8_t *got;		/* what is in them; NULL: it is dropped */
	size_t size;
};

struct end {
	struct rings *rings;
	/* the daemon's part */
	uint8_t *memory;
	int life, wake_daemon, wake_gateway;
	struct ring_reader in;
	struct ring_writer out;
	struct event *bell;
	unsigned rung;
	/* the gateway's */
	bool is_slow;			   /* ready() takes nothing by itself, */
	void (*on_ready)(struct end *end); /* or does this instead */
	unsigned ready;			   /* calls of it */
	size_t most;			   /* bytes of a record, */
	size_t room;			   /* and of all that aren't moved yet */
	ssize_t last;			   /* what rings_take() has returned */
	uint8_t *wire;			   /* records that were taken, */
	size_t wired;			   /* and bytes of them */
};

struct scene {
	struct event_base *base;
	struct end end;
	unsigned descriptors;
};

/* Makes what a daemon makes for a conversation; the first two aren't the daemon's any more when they are
 * passed. */
void make_descriptors(struct end *end, int fds[GATEWAY_FDS]);
void open_end(struct scene *scene, struct end *end);
void close_daemon(struct end *end);
void close_end(struct end *end);
int setup(void **state);
int teardown(void **state);
/* Lets the loop run until nothing is ready. */
void settle(struct scene *scene);
/* Lets it run for so long. */
void wait_ms(struct scene *scene, unsigned ms);

size_t make_frame(uint8_t *out, uint32_t length, uint32_t sequence);
void make_head(uint8_t out[RINGS_RECORD_HEAD], uint32_t length, uint32_t index);
/* What the other host says. */
int say(struct end *end, const void *data, size_t size);
int say_record(struct end *end, const void *data, uint32_t size, uint32_t index);
/* How many bytes the daemon sees. */
int there(struct end *end);
/* The daemon writes a frame, and notifies the gateway if it asked for that. Whether it did. */
bool put_frame(struct end *end, const uint8_t *frame, size_t size);
/* It has processed some bytes; the same. */
bool process(struct end *end, uint32_t size);
/* Takes what there is into the wire. */
void take(struct end *end);
void listen_to(struct listener *listener, const uint8_t *data, size_t size);
/* Listens to all that is in the wire. */
void hear(struct end *end, struct listener *listener);

#endif
