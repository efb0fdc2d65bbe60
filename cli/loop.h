/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_LOOP_H
#define XENMSG_CLI_LOOP_H

/* The event loop of a command that serves until SIGINT or SIGTERM ends it. */

struct event;
struct event_base;

struct loop {
	struct event_base *base;
	struct event *stop[2];
	int signal; /* the signal that has ended it, for interrupt_die_of(); 0: none did */
};

/* Makes the loop, in zeroed memory. Returns 0, -EMFILE or -ENOMEM; loop_cleanup() follows either way. */
int loop_init(struct loop *loop);
/* Does the same for a loop that takes any descriptor (epoll refuses regular files). */
int loop_init_for_files(struct loop *loop);
/* Lets signals do what they did before the loop was there. */
void loop_release_signals(struct loop *loop);
/* Frees the loop. The events that others have in it must be gone. */
void loop_cleanup(struct loop *loop);

/* Makes an event and adds it. NULL: memory has run out. */
struct event *loop_event(struct event_base *base, int fd, short what,
			 void (*on_event)(int fd, short what, void *userdata), void *userdata);
/* Frees an event. NULL is allowed. */
void loop_event_free(struct event *event);

#endif
