/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_SOCKET_RIG_H
#define XENMSG_TESTS_SOCKET_RIG_H

/* A socket transport whose gateway is played by the test, and a hop that is played, too. */

#include <event2/event.h>

#include "daemon/base/quota.h"
#include "daemon/link/socket_transport.h"
#include "daemon/relay/hop.h"
#include "tests/unit/unit.h"
#include "wire/frame.h"

#define ALARM_S	   60
#define BUFFER	   8192 /* of a socket in one direction, so that it is full soon */
#define FRAME_MAX  (FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX)
#define RECORD_MAX 65536u
#define STEPS	   20000

/* A transport, with a hop that is played here. */
struct end {
	struct transport transport;
	struct ring_reader in;
	struct ring_writer out;
	int gateway; /* the other end of its socket */
	unsigned events;
};

struct scene {
	struct event_base *base;
	struct relay relay;
	struct quota *quota;
	struct account *account;
	struct end end;
	unsigned descriptors;
	int idle_events; /* that the loop waits for when all is quiet */
};

void open_end(struct scene *scene, struct end *end);
void close_end(struct end *end);
int setup(void **state);
int teardown(void **state);
/* Lets the loop run until there is nothing to do: whatever is done costs something. */
void settle(struct scene *scene);
/* Whether it waits for what it waited for in the beginning, and not for room that is there. */
void assert_idle(struct scene *scene);
size_t make_frame(uint8_t *out, uint32_t length, uint32_t sequence);
void make_head(uint8_t out[SOCKET_RECORD_HEAD], uint32_t length, uint32_t index);
/* The gateway writes, while the daemon reads. */
void say(struct scene *scene, const void *data, size_t size);
void say_record(struct scene *scene, const void *data, uint32_t size, uint32_t index);
int ready(struct scene *scene);
enum transport_state state_of(struct scene *scene);
/* Our hop writes a frame, and the transport is notified if it asked for that. */
void put_frame(struct end *end, const uint8_t *frame, size_t size);
/* Takes `size` bytes away, as a hop that has processed them. */
void process(struct end *end, uint32_t size);

#endif
