/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_HOSTILE_PROGRAM_H
#define XENMSG_TESTS_HOSTILE_PROGRAM_H

/*
 * A program that attacks its daemon: it speaks the local hop raw (doc/protocol.md, section 4) in as many
 * sessions as it is told, and in one thread, which never waits for the daemon but at the greeting.
 * hostile_program.c is the loop and the conversation with the test, hostile_session.c a session, the other
 * files are the attacks. Those by frames are hostile_flood.c's, too, whose session is a link.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"
#include "wire/ring.h"

struct link;

#define BURST	64		      /* frames of a session in a turn */
#define NUMBERS (CHANNEL_NUMBERS / 2) /* even ones, which are a program's, or of a domain's parity */

enum number_state {
	NUMBER_FREE,
	NUMBER_OPEN,  /* the daemon's RESET is to be answered */
	NUMBER_ENDING /* the next FIN or RESET of the daemon's ends it */
};

struct session {
	int fd;			/* -1: none */
	bool is_shared, is_mux; /* is_mux: carries streams, and nothing else */
	uint8_t *memory;
	size_t memory_size;
	int memory_fd, wake_daemon, wake_self;
	struct ring_writer out;
	struct ring_reader in, deliveries;
	bool is_noted; /* something was put that the daemon may not know of */

	/* without shared memory: what lies between us and the socket */
	uint8_t *input, *output;
	size_t input_size, output_first, output_size;

	/* of a link, which has none of the above */
	struct link *link;
	bool (*put)(struct link *link, uint8_t type, uint32_t channel, const void *payload, uint32_t length);

	uint64_t put_bytes, retry_ms;
	uint32_t unread; /* last seen: of `out` */

	/* what the attacks remember */
	uint32_t first; /* number of ours: 0, and on a link 0 or 1 */
	uint8_t numbers[NUMBERS];
	uint32_t next, outstanding, step;
	uint64_t sent, limit; /* of the stream on the first channel */
	bool is_begun;
};

struct attacker {
	const char *path;
	const char *address; /* whom it is about: the argument behind the number of sessions */
	struct session *sessions;
	unsigned count;
	unsigned me;		  /* the domid */
	uint64_t frames, bytes;	  /* put */
	uint64_t taken;		  /* bytes of them that the daemon has taken */
	uint64_t answers, events; /* frames that came; what else an attack counts */
	uint64_t cut_off, refused;
	uint64_t sent[256]; /* frames put, by their types */
	unsigned holders;   /* processes that help */
};

/* What makes an attack: */
struct attack {
	const char *name;
	enum {
		NO_SESSION,
		PLAIN,
		SHARED
	} hop; /* which kind of session each of `sessions` has before its turn */
	/* Once for a session, when it has begun. */
	void (*begin)(struct attacker *attacker, struct session *session);
	/* A frame that came. */
	void (*frame)(struct attacker *attacker, struct session *session, const struct frame_header *header,
		      const uint8_t *payload);
	/* Does a bit of harm. How many things it did; 0: nothing can be done just now. */
	unsigned (*turn)(struct attacker *attacker, struct session *session);
	/* Or one of them, of which a turn is a burst; false: it can't be done just now. Without either
	 * it is the harm that nothing is done. */
	bool (*put)(struct attacker *attacker, struct session *session);
};

/* Leaves the CPUs to the others: the kernel shares them, and this is about what the daemon shares. What is
 * prepared for an attack before that is done in the time of everybody else. */
void step_back(void);

/* Each ends with one without a name. */
extern const struct attack frame_attacks[], socket_attacks[], descriptor_attacks[], kernel_attacks[],
	random_attacks[], topic_attacks[];
/* hostile_random.c: what it has covered, as a line of JSON. */
void random_report(const struct attacker *attacker);

/* ---- hostile_session.c ----------------------------------------------------------------------- */

/* Connects, not more. The descriptor, or -1. */
int session_connect(const char *path);
/* Greets, and waits for the answer: 0, or below zero. */
int session_open(struct attacker *attacker, struct session *session, bool is_shared, bool is_mux);
void session_close(struct session *session);
/* False: there is no room, nothing was put. */
bool session_put(struct attacker *attacker, struct session *session, uint8_t type, uint32_t channel,
		 const void *payload, uint32_t length);
bool session_put_open(struct attacker *attacker, struct session *session, uint32_t number,
		      const char *address);
bool session_put_reset(struct attacker *attacker, struct session *session, uint32_t number, uint32_t error,
		       uint64_t consumed);
/* A frame with one number. */
bool session_put_number(struct attacker *attacker, struct session *session, uint8_t type, uint32_t number,
			uint64_t value);
/* OPENED and CREDIT tell how much may be sent. The limit from now on, which was `limit`. */
uint64_t session_limit_told(const struct frame_header *header, const uint8_t *payload, uint64_t limit);
/* Is there room for the answers to a few frames? Without it, some would have to be forgotten. */
bool session_has_room(struct session *session);
/* The next frame for the program: 1; 0: none; below zero: the session is over. */
int session_take(struct session *session, struct frame_header *header, uint8_t *payload);
/* Lets go of all that was delivered. How many bytes. */
uint32_t session_release_deliveries(struct session *session);
/* Tells the daemon of what was put, and asks to hear of answers. Below zero: the session is over. */
int session_notify(struct attacker *attacker, struct session *session);
uint64_t now_ms(void);
/* Whole frames for a connection without a session. How many bytes. */
uint32_t whole_hello(uint8_t *out, uint32_t flags);
uint32_t whole_open(uint8_t *out, uint8_t kind, const char *address);

#endif
