/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_INTERNAL_H
#define XENMSG_DAEMON_HOP_INTERNAL_H

/* What the parts of a hop know of each other: hop.c its life, hop_input.c, hop_output.c, and relay.c what they share. */

#include <stdbool.h>
#include <stdint.h>

#define HOP_POLL_FIRST_MS 2 /* then less and less often: what a program has taken that doesn't wake us */

struct channel_end;
struct hop;
struct outlet;

/* relay.c */
/* The other end asked for it. */
void hop_notify(struct hop *hop);
/* It is detached: nobody is notified of what is gone. */
void hop_forget_notification(struct hop *hop);
/* There is more to do than this turn allows; it goes on in the next one. */
void hop_mark_unfinished(struct hop *hop);

/* hop_output.c */
/* Ends the DATA frame that is being filled. */
void hop_close_frame(struct hop *hop, struct outlet *outlet);
struct outlet *hop_outlet(struct hop *hop, const struct channel_end *end);
/* Those whose input waits for our output go on. */
void hop_resume_waiters(struct hop *hop);
/* Writes what there is to write, as far as there is room. */
void hop_emit(struct hop *hop);

/* hop_input.c */
void hop_input(struct hop *hop);
/* Input, and what was taken. */
void hop_take_in(struct hop *hop);
/* The hop's input doesn't wait for another hop's output any more. */
void hop_stop_waiting(struct hop *hop);
void hop_on_poll(int fd, short what, void *userdata);
void hop_on_stuck(int fd, short what, void *userdata);

#endif
