/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STARTUP_H
#define XENMSG_DAEMON_STARTUP_H

/*
 * The part of the start that needs Xen: opens the devices, checks that no other daemon runs in this domain,
 * and asks XenStore which domain this is. While it waits, it runs the event loop until an answer has come, a
 * time limit has passed, or SIGTERM or SIGINT asks to stop. The daemon frees what is made here. Functions log
 * what failed, with what to do about it.
 */

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct inherited;

/* Makes daemon->host, singleton and store, and fills in domid. Returns 0 or a negative errno; -ENODEV: a new
 * attempt won't help; -EINTR: asked to stop. */
int startup_xen(struct daemon *daemon);
#define STARTUP_OWN_LEAVES 3u /* a bit for each kind of presence */
/* Waits until our presence is written, before the socket is made: a program that finds us listening may
 * expect that other domains find us too. Returns 0 or -EINTR, as above; a XenStore that doesn't answer is no
 * error. */
int startup_await_presence(struct daemon *daemon);

/* Whether the daemon before has left something, in the place of this program or with the service manager. */
bool startup_takes_over(const struct inherited *inherited);
/* Holds the signals to stop, or lets them come: `how` is that of sigprocmask(2). */
void startup_hold_stop(int how);
/* Does a step that fails with -EAGAIN while users can't be looked up, and with -EBADMSG while a
 * file has a mistake, which was made since the daemon before had it checked. A start that fails so
 * is tried again; a daemon that takes over waits for better files, since what it was handed over
 * would end with it, and for what it lacks. Returns what the step returned, or -EINTR: asked to
 * stop meanwhile. */
int startup_with_good_files(bool takes_over, int (*step)(void *userdata), void *userdata);

/* Does a step which, if it fails, leaves what it needs to be done again. A daemon that takes over
 * tries so for 10 s, if it lacks memory, a descriptor or a thread, since what it was handed over
 * would end with it. Returns as above. */
int startup_despite_lacks(bool takes_over, int (*step)(void *userdata), void *userdata);

#define STARTUP_LACKS_MS 10000
#define STARTUP_WAITS	 "what the daemon before this hands over waits until "
/* Waits before another attempt, and tells the service manager that it still starts. */
void startup_pause(uint32_t ms);

/* Returns with which error the daemon ends where this one has come: `otherwise`, after which no service
 * manager starts it again (main.c), or, where memory or descriptors are short or users can't be looked up,
 * which may be otherwise then, the error. */
int startup_error(int error, int otherwise);

#endif
