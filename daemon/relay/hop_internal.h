/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_INTERNAL_H
#define XENMSG_DAEMON_HOP_INTERNAL_H

/* What the parts of a hop know of each other: hop.c its life, hop_input.c, hop_output.c, and relay.c what
 * they share. */

#include <stdbool.h>
#include <stdint.h>

#define HOP_POLL_FIRST_MS 2 /* then less and less often: what a program has taken that doesn't wake us */

struct channel_end;
struct hop;
struct outlet;
struct task;

/* relay.c */
/* The other end asked for it. */
void hop_notify(struct hop *hop);
/* It is detached: nobody is notified of what is gone. */
void hop_forget_notification(struct hop *hop);
/* Asks for notifications before the loop sleeps. */
void hop_mark_awake(struct hop *hop);

/* hop_output.c */
/* An error of an outlet ends the session. */
void hop_outlet_failed(struct hop *hop, int error);
struct outlet *hop_outlet(struct hop *hop, const struct channel_end *end);
/* All whose input waits for our output go on: what finds no room is spilled. */
void hop_release_waiters(struct hop *hop);
/* Writes what there is to write, as far as there is room. */
void hop_emit(struct hop *hop);
/* Something waits to be written. */
bool hop_has_output(const struct hop *hop);
/* Asks to be notified of what it waits for. Where that is there already, it is made due. */
void hop_ask(struct hop *hop);

/* hop_input.c */
/* The task: a piece of input, and what was taken. */
void hop_on_turn(struct task *task);
/* hop_look() without a mark of its own on the stack: the input is due. */
void hop_due(struct hop *hop);
/* Asks to be notified of input, if it hasn't. True: there is some now. */
bool hop_ask_for_input(struct hop *hop);
/* The hop's input doesn't wait for another hop's output any more. */
void hop_stop_waiting(struct hop *hop);
/* It was let go on before all others that wait for the same output, and that was its turn. */
void hop_end_grant(struct hop *hop);
void hop_on_poll(int fd, short what, void *userdata);
void hop_on_stuck(int fd, short what, void *userdata);

#endif
