/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_MUX_RIG_H
#define XENMSG_TESTS_MUX_RIG_H

/* A connection whose session of streams the fake daemon has, and streams that note what they are told. */

#include "libclient/message.h"
#include "tests/unit/client_fixture.h"
#include "xenmsg-stream.h"

#define PEER  "5:web"
#define LIMIT 65536u

enum event { NEVER, OPENED, DATA, ENDED, ROOM, BROKEN };

struct user {
	struct xenmsg_stream *stream;
	uint32_t number;
	char log[64]; /* what it was told: o, d (once for many), e, r, b */
	size_t take;  /* of the bytes that come in one call, at most so many */
	size_t size;  /* bytes that came */
	int error;    /* of `broken` */
	char why[96]; /* likewise */
	struct xenmsg_peer peer;
	bool is_unwanted; /* comes in, and nothing is done with it */
	bool is_closed;
	enum event when;	 /* in this callback ... */
	struct user *victims[3]; /* ... these are closed */
	void (*also)(struct user *user);
	uint8_t bytes[256u << 10];
};

extern struct xenmsg *conn;
extern struct fake front; /* the daemon's end of its session for messages */
/* What the next streams that come in belong to, in this order. */
extern struct user *next_incoming[4];
extern const struct xenmsg_stream_callbacks user_callbacks;

void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer);

void mux_set_up(bool shared, const struct xenmsg_options *options);
int set_up_mux_shared(void **state);
int set_up_mux_socket(void **state);
int tear_down_mux(void **state);
/* Lets the library dial the fake daemon, which awaits it. */
void let_session_begin(void);
void close_conn(void);

/* clang-format off */
#define MUX_SHARED(test) UNIT_TESTS(test, SHARED_ROW(test, set_up_mux_shared, tear_down_mux))
#define MUX_BOTH(test) \
	UNIT_TESTS(test, SHARED_ROW(test, set_up_mux_shared, tear_down_mux), \
		   SOCKET_ROW(test, set_up_mux_socket, tear_down_mux))
/* clang-format on */

/* Zeroed, and taking all. */
struct user *user_new(void);
/* Begins to connect. */
void begin_to_dial(struct user *user);
/* Connects; the daemon has read all up to the OPEN. */
struct user *dial(void);
/* The same, and it was accepted with this limit. */
struct user *connected(uint64_t limit);
/* A stream that has come in on this number, and may send up to the limit. */
struct user *accepted(uint32_t number, uint64_t limit);
void close_user(struct user *user);
void forget_log(struct user *user);
/* What it was told, when the library has done what there is to do. */
void expect_log(const struct user *user, const char *log);

/* xenmsg_process(), as often as the descriptor says so. */
void settle(void);
/* The same until it fails: returns how. */
int process_until_over(void);

void send_data(const struct user *user, const void *data, uint32_t size);
void send_fin(const struct user *user, uint64_t total);
/* The next frame of the program: one of this type about the stream. */
void expect_frame(const struct user *user, uint8_t type);
void expect_data(const struct user *user, const void *data, uint32_t size);
/* FIN, CREDIT's `consumed`. */
void expect_offset(const struct user *user, uint8_t type, uint64_t offset);
void expect_reset(const struct user *user, uint32_t error);
/* There is none. */
void expect_silence(void);
/* Everything that was sent both ways is acknowledged and ended, beginning with FIN from the daemon. */
void end_both(struct user *user, uint64_t came, uint64_t sent);
/* Reads so many bytes of DATA, and nothing else, while the program does nothing. */
void read_data(const struct user *user, size_t size);
/* Writes, and returns how much was taken, which is no error. */
size_t written_of(struct user *user, const void *data, size_t size);
/* Fills the ring, in writes of this size, up to 100001. Returns how much that was. */
size_t write_until_full(struct user *user, size_t size);

#endif
