/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_INTERNAL_H
#define XENMSG_DAEMON_HOP_INTERNAL_H

/*
 * What the parts of a hop know of each other. From below, and each calls only those before it:
 *
 *   marks.c ─ waiting.c ─ control.c ─ (cancel.c ─ channel.c) ─ hop_output.c ─ hop_input.c ─ hop.c, relay.c
 *
 * So output never calls input: it marks what is due, and the pass comes to it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"

#define HOP_POLL_FIRST_MS 2 /* then less and less often: what a program has taken that doesn't wake us */

/* --- marks.c: beside hop_fail() and hop_mark(, MARK_DIRTY) */
/* The other end asked for it: a daemon is notified now, a program after all output. */
void hop_notify(struct hop *hop);
void hop_notify_now(struct hop *hop);
/* The input is due. */
static inline void hop_due(struct hop *hop)
{
	task_due(&hop->input);
}

/* --- waiting.c */
/* The hop's input waits for room in the other one's output. */
void hop_wait_for(struct hop *hop, struct hop *output);
/* It doesn't any more. */
void hop_stop_waiting(struct hop *hop);
/* It was let go on before all others that wait for the same output, and that was its turn. */
void hop_end_grant(struct hop *hop);
/* The first in line goes on, before all others, in its next turn: who got some then goes to the end, who got
 * none stays the first. */
void hop_grant_next(struct hop *hop);
/* All whose input waits for our output go on: what finds no room is spilled. */
void hop_release_waiters(struct hop *hop);
void hop_on_stuck(int fd, short what, void *userdata);
/* Those who wait for room come first, one after the other. */
static inline bool hop_must_wait(const struct hop *output, const struct hop *hop)
{
	return (output->waiting.waiters || output->waiting.granted) && output->waiting.granted != hop;
}

/* --- control.c: beside hop_send() and hop_farewell() */
static inline struct outlet *hop_outlet(struct hop *hop, const struct channel_end *end)
{
	return &hop->out[end->is_opener ? hop->traits->opened_outlet : hop->traits->accepted_outlet];
}
/* An error of an outlet ends the session. */
void hop_outlet_failed(struct hop *hop, int error);
/* The frames in the main ring come first: the OPEN of a channel before its DATA among the deliveries. One
 * notification serves all. */
void hop_publish(struct hop *hop);
/* In the main ring. */
bool hop_has_room(struct hop *hop, uint32_t size);
/* A whole frame that isn't DATA, into the main ring, because of `account`. The caller has seen that there is
 * room. */
void hop_put_frame(struct hop *hop, struct account *account, const struct frame_header *header,
		   const void *payload);
/* Has this hop had its piece, or the pass its units? */
bool hop_emit_is_over(const struct hop *hop);
/* What hop_send() has queued. False: some of it still waits. */
bool hop_emit_control(struct hop *hop);
/* The word of the stream at `offset` in the ring of a program. -EALREADY: the program has released it;
 * -ENOENT: it isn't there as one word. */
int hop_handed_word(struct hop *hop, struct channel_end *end, uint64_t offset, uint32_t **word);
/* The end goes. */
void hop_forget_end(struct hop *hop, struct channel_end *end);

/* --- hop_output.c */
/* DATA came in at `end` and lies at `offset` of the reader. Returns how many of the `length` bytes have been
 * forwarded or kept; fewer than that: the rest waits for channel_other(end)->hop. -EPROTO: a violation;
 * -ENOMEM. */
int hop_forward(struct channel_end *end, const struct ring_reader *reader, uint32_t offset, uint32_t length,
		uint32_t messages, bool may_wait);
/* Where data that comes in at `end` may go at once, as long as only such data comes in; NULL: nowhere. */
struct outlet *hop_way_out(struct channel_end *end);
/* Writes what there is to write, as far as there is room. */
void hop_emit(struct hop *hop);
/* Something waits to be written. */
bool hop_has_output(const struct hop *hop);
/* Asks to be notified of what was taken, and of room. Where that is there already, it is made due. */
void hop_ask_for_output(struct hop *hop);

/* --- hop_input.c */
/* The task: a piece of input, and what was taken. */
void hop_on_turn(struct task *task);
/* Asks to be notified of input, if it hasn't. True: there is some now. */
bool hop_ask_for_input(struct hop *hop);
void hop_on_poll(int fd, short what, void *userdata);

#endif
