/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CLIENT_FAKE_H
#define XENMSG_TESTS_CLIENT_FAKE_H

/*
 * The daemon's end of a local hop, in the hands of a test: it does nothing by itself but shake hands, so a
 * test decides what the library gets to see, right or wrong. Speaks doc/protocol.md with and without shared
 * memory.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"
#include "wire/ring.h"
#include "xenmsg.h"

#define FAKE_MAX_MESSAGE (1u << 20)
#define FAKE_RING_SIZE	 (256u << 10)
#define FAKE_MEMORY_SIZE (4096 + LOCAL_RINGS * FAKE_RING_SIZE)

struct fake {
	bool shared;
	bool is_mux;   /* the session carries streams: all goes to `in` */
	bool asks_mux; /* the program has asked for that */
	bool is_later; /* it speaks another major version */
	int fd, wake_daemon, wake_program, sleeping;
	uint64_t rung; /* what was left in wake_daemon when its notifications were last asked for */
	uint8_t *memory;
	struct ring_reader out;
	struct ring_writer in, deliveries;
	struct xenmsg *conn;
	char directory[64], path[96];
	/* the last frame that fake_read() returned */
	struct frame_header header;
	uint8_t payload[FRAME_PAYLOAD_MAX];
	uint32_t questions;   /* the channel on which the daemon is asked, once it is open */
	uint64_t asked_bytes; /* that have come there */
	uint32_t parts[8];    /* that the calls with these numbers were told, by fake_watch() and below */
	pthread_t thread;
	/* how fake_answer_meanwhile() does that */
	uint8_t answered_type;
	uint32_t answer_error;
	const char *answer_reason;
};

/* Makes the socket. The test connects to it, and then calls fake_join(). */
void fake_await(struct fake *fake, bool shared, bool is_mux);
/* Makes the socket once more where the first one's was, for a second session of the program,
 * which carries streams. */
void fake_await_second(struct fake *fake, const struct fake *first, bool is_later);
/* Makes the socket and connects the library to it. */
void fake_start(struct fake *fake, bool shared);
/* Closes both ends. */
void fake_stop(struct fake *fake);
/* Closes that of the program. */
void fake_close(struct fake *fake);
/* The daemon dies. */
void fake_die(struct fake *fake);
/* Another daemon begins where that one was. The test lets the library find it, and then calls fake_join(). */
void fake_begin_anew(struct fake *fake);

/* With shared memory: another daemon takes over, and offers other memory, which this returns. When the
 * library has taken it, which the test waits for, fake_use_memory() goes on there. */
void *fake_offer_memory(struct fake *fake);
/* Says that, with this descriptor, or without one (-1). */
void fake_send_memory(struct fake *fake, int fd);
void fake_use_memory(struct fake *fake, void *memory);

/* The next frame from the library, waiting for it. */
void fake_read(struct fake *fake);
/* The same, and it has to be of this type. */
void fake_expect(struct fake *fake, uint8_t type);
/* The same, behind any number of receipts. */
void fake_expect_past_credit(struct fake *fake, uint8_t type);
/* It has to be OPEN. Returns its channel. */
uint32_t fake_expect_open(struct fake *fake);
/* Reads up to the next one of this type. */
void fake_read_up_to(struct fake *fake, uint8_t type);
/* Reads all that are there. */
void fake_read_all(struct fake *fake);
/* Whether there is one, for a library that has nothing left to do. */
bool fake_has_frame(struct fake *fake);
/* Returns how often the library has notified the daemon since this was last asked. */
uint64_t fake_notifications(struct fake *fake);

/* With shared memory: from now on the daemon doesn't ask to be notified, and looks by itself. */
void fake_be_busy(struct fake *fake);
/* The next frame, which is there. */
void fake_read_busy(struct fake *fake);

void fake_send(struct fake *fake, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	       uint32_t length);
/* The same with a frame of these fields: FAKE_SAY(fake, CREDIT, credit, channel, .limit = 100). */
#define FAKE_SAY(fake, TYPE, name, channel, ...)                                                             \
	do {                                                                                                 \
		uint8_t said[FRAME_SMALL_MAX];                                                               \
		fake_send(fake, FRAME_##TYPE, 0, channel, said,                                              \
			  frame_##name##_encode(&(struct frame_##name){__VA_ARGS__}, said));                 \
	} while (0)
/* The fields of the frame that was read last. */
#define FAKE_HEARD(fake, name)                                                                               \
	({                                                                                                   \
		struct frame_##name heard;                                                                   \
		assert_int_equal(frame_##name##_decode((fake)->payload, (fake)->header.length, &heard), 0);  \
		heard;                                                                                       \
	})

void fake_opened(struct fake *fake, uint32_t channel, uint64_t limit, uint64_t max_message);
/* The same, from a program of this version of channels, with a window of 1 MiB. */
void fake_opened_by(struct fake *fake, uint32_t channel, const struct frame_identity *identity);
/* Reads the next frame, which has to be OPEN, and accepts the channel as an earlier daemon does. Returns its
 * number. */
uint32_t fake_accept(struct fake *fake);
void fake_credit(struct fake *fake, uint32_t channel, uint64_t consumed, uint64_t limit);
void fake_fin(struct fake *fake, uint32_t channel, uint64_t total);
void fake_cancel(struct fake *fake, uint32_t channel, uint64_t offset);
void fake_withdraw(struct fake *fake, uint32_t channel, uint32_t number);
void fake_reset(struct fake *fake, uint32_t channel, uint32_t error, uint64_t consumed, uint64_t unsure);
/* Likewise of a stream that these flags (RESET_BY) say something of. */
void fake_reset_by(struct fake *fake, uint32_t channel, uint32_t error, uint32_t flags);
/* As a program does by xenmsg_refuse(). */
void fake_refuse(struct fake *fake, uint32_t channel, uint32_t error, uint64_t consumed);
void fake_cancelled(struct fake *fake, uint32_t channel, uint64_t offset, uint32_t result);
void fake_reply(struct fake *fake, uint32_t number, uint32_t error, const char *body);
/* Reads the next question to the daemon, which has to be this one (NULL: any), and takes it. Returns its
 * number. */
uint32_t fake_question(struct fake *fake, const char *text);
/* Answers it with this error, or 0, or a part: the first is 0. */
void fake_tell(struct fake *fake, uint32_t number, uint32_t error, const char *body);
void fake_tell_part(struct fake *fake, uint32_t number, uint32_t part, bool has_more, const char *body);
/* Reads the next question, which has to be for a watch of this (NULL: of any), and answers it: with this
 * error, or 0. Returns its number, for which an event can be told. */
uint32_t fake_watch(struct fake *fake, const char *pattern, uint32_t error);
/* The same in its two halves. */
uint32_t fake_expect_watch(struct fake *fake, const char *pattern);
void fake_watched(struct fake *fake, uint32_t number, uint32_t error);
void fake_event(struct fake *fake, uint32_t number, const struct frame_event *event);
#define FAKE_EVENT(fake, number, ...) fake_event(fake, number, &(struct frame_event){__VA_ARGS__})
/* It is ended by the program. */
void fake_expect_unwatch(struct fake *fake, uint32_t number);
/* Reads the next frame, a request of this type, and answers it with this error or 0, for this reason. */
void fake_answer(struct fake *fake, uint8_t type, uint32_t error, const char *reason);
void fake_open(struct fake *fake, uint32_t channel, const char *endpoint);
void fake_open_kind(struct fake *fake, uint32_t channel, enum channel_kind kind, const char *endpoint);
/* Appends a message, as it stands in a stream, at `at`. Returns its span. */
uint32_t fake_message(uint8_t *at, const void *data, uint32_t size, uint32_t state);

/* Does something on the daemon's side while the test is in a blocking call of the library. */
void fake_meanwhile(struct fake *fake, void (*script)(struct fake *fake));
/* Likewise: reads a request of this type and answers it. */
void fake_answer_meanwhile(struct fake *fake, uint8_t type, uint32_t error, const char *reason);
void fake_watch_meanwhile(struct fake *fake, uint32_t error);
void fake_join(struct fake *fake);
/* Binds an endpoint, with the daemon's consent. */
void fake_bind(struct fake *fake, const char *endpoint, xenmsg_message_handler handler, void *userdata);

#endif
