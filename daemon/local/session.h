/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SESSION_H
#define XENMSG_DAEMON_SESSION_H

/*
 * The session of one local program (doc/protocol.md, section 4).
 *
 *   GREETING ──HELLO──▶ RUNNING ──end of file, violation, stop──▶ gone
 *   GREETING ──HELLO for a stream──▶ STREAM ──OPEN or ACCEPT──▶ the socket goes to a stream (stream.h), gone
 *
 * GREETING: the bytes of the first frame are gathered from the socket, within a time limit. RUNNING: frames
 * go through the hop's rings: in memory shared with the program, or, for one that can't share memory, in
 * private rings that are pumped from and to the socket. The program isn't trusted: whatever it does wrong
 * ends its own session, with a GOODBYE that says why.
 *
 * Others know a session by its hop, which says who its program is (hop_program()).
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/switch/hop.h"
#include <sys/types.h>

struct image;
struct self;

/* What is left to do of a request before anything else is taken from the program. */
struct session_rest {
	uint32_t request;
	uint32_t at; /* begins as 0 */
	char text[ENDPOINT_NAME_MAX + 1];
};

struct session_callbacks {
	/* Takes a request, to be answered by one session_reply(), now or later. Returns 0, or a negative
	 * errno for a violation, which ends the session. */
	int (*request)(void *userdata, struct hop *program, const struct frame_header *header,
		       const uint8_t *payload);
	int (*open)(void *userdata, struct hop *program, struct channel *channel,
		    const struct frame_open *open);
	/* Turns the connection into a stream: to the address of an OPEN, or the one that waits under the
	 * token of an ACCEPT. The callee owns the socket; the session ends after this. */
	void (*stream)(void *userdata, struct hop *program, int fd, const struct frame_header *header,
		       const uint8_t *payload);
	/* Does a piece of what is left of the request for which session_go_on_later() was called, and answers
	 * it at the end. Returns whether there is more. */
	bool (*go_on)(void *userdata, struct hop *program, struct session_rest *rest);
	/* The program has gone or was cut off: does a piece of what is to be done while its rings are still
	 * there. Returns whether there is more. *at is 0 at first. */
	bool (*leave)(void *userdata, struct hop *program, uint32_t *at);
	/* How many of its unanswered requests the callee writes into an image (session_fits_image()). */
	unsigned (*carries)(void *userdata, struct hop *program);
	/* The program has gone or was cut off: the callee forgets and frees the session. */
	void (*gone)(void *userdata, struct hop *program);
};

struct session_options {
	const struct self *self;
	uint32_t ring_size; /* of the rings for payload */
	uint32_t channels_max;
	uint32_t greeting_ms;
	bool can_share_memory; /* this kernel has what it takes: doorbells */
};

/* Takes over the connected socket `fd`. Returns 0 or -ENOMEM: the socket is still the caller's. */
int session_new(struct hop **program, struct switchboard *board, int fd,
		const struct session_options *options, const struct session_callbacks *callbacks,
		void *userdata);
/* Ends and frees the session without calling `gone`. */
void session_free(struct hop *program);
/* Charges its user with one more connection; whether it is a program, or becomes a stream, its HELLO says.
 * Returns 0, or -ENOBUFS: the caller refuses it, with the reason in `why`. */
int session_admit(struct hop *program, char *why, size_t size);
/* Tells a program for which there is no session that the daemon has no memory, and closes its socket. */
void session_refuse_socket(struct switchboard *board, int fd);
/* Refuses a session that has just been made: tells the program why and ends it, calling `gone`. */
void session_refuse(struct hop *program, int error, const char *why);
/* Tells the program why, and ends the session at the end of the turn. */
void session_cut_off(struct hop *program, int error, const char *why);

/* Answers the request with this number. `body` is copied; `error` is 0 or a positive errno. Returns 0 or
 * a negative errno. */
int session_reply(struct hop *program, uint32_t request, int error, const void *body, size_t size);
/* Does it with a text: why not, or "". */
static inline void session_reply_error(struct hop *program, uint32_t request, int error, const char *why)
{
	session_reply(program, request, error, why, strlen(why));
}

/* The request, which has just come, may take long: callback `go_on` does it in pieces, before all further
 * input of the program. The text is copied, and must be the name of an endpoint. */
void session_go_on_later(struct hop *program, uint32_t request, struct frame_text text);

/* For the image that is handed over to the next daemon (base/image.h), in this order: settles what can't be
 * in it; says whether all the rest can; and writes the session, or reads it into one that has just been made,
 * of the socket that it had. */
void session_settle_for_image(struct hop *program);
bool session_fits_image(struct hop *program);
void session_image(struct image *image, struct hop *program);
/* Whether this is a connected stream socket, as programs have. */
bool session_is_socket(int fd);
/* One that was read has one more request without an answer. */
void session_ask_again(struct hop *program);
/* Whether its socket can be given to another process (base/fd_parcel.h). */
bool session_can_be_carried(const struct hop *program);
/* Tells the program of one that doesn't fit, leaves to others what it shares with them, and ends it. */
void session_end_unfit(struct hop *program);
/* Lets one that was read go on, once all were. */
void session_go_on(struct hop *program);

int session_socket(const struct hop *program);
/* Returns the program's name, for which its kernel is asked once: the handshake of a stream needs none. */
const char *session_comm(struct hop *program);
/* Returns whether its program takes another socket for the stream that this connection is to become. */
bool session_takes_socket(const struct hop *program);
bool session_shares_memory(const struct hop *program);
/* Returns the number of requests not yet answered, including the one that has just come. REQUESTS_MAX are
 * allowed; the callee of `request` enforces that for those that it doesn't answer at once. */
unsigned session_unanswered(const struct hop *program);

/* Finds the name of the program with this pid, as its kernel tells; "?" if it has gone. The program chooses
 * it, and it goes into logs and into JSON: only printable ASCII is left of it. */
void program_name(pid_t pid, char name[PROGRAM_NAME_SIZE]);

#endif
