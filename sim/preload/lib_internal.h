/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxensim: the library that is preloaded into the processes of a simulated domain and stands in for what
 * lies below libxenvchan and libxenctrl: libxenevtchn, the devices that the other libraries open, and the
 * files under /sys/hypervisor and /dev/xen.
 *
 *	conn.c    the process's one connection to the hypervisor process
 *	gnt.c     granting, mapping, and munmap
 *	evtchn.c  libxenevtchn
 *	device.c  the devices; device_gnt.c: gntdev and gntalloc
 *	memory.c  what a program's pointers lead to
 *	call.c    hypercalls
 *	path.c    paths of Xen's files
 *	pause.c   waits that a pause doesn't end
 *	stall.c   waits that nothing ends but XenStore
 *	clock.c   clocks, which a restore moves
 *	env.c     environments that are cleared
 *
 * As it replaces a kernel, it has global state per process, unlike anything else in this project.
 *
 * Fork and exec: all descriptors are CLOEXEC, but for an event channel handle that was opened otherwise. A
 * forked child has what its parent had, and a connection of its own, which was made before the fork, so that
 * nothing ends while the child has it.
 */
#ifndef XENMSG_SIM_LIB_H
#define XENMSG_SIM_LIB_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/hypervisor/proto.h"

#define SIM_EXPORT __attribute__((visibility("default")))

/* Descriptors that came with a reply; the caller closes them. */
struct sim_fds {
	unsigned count;
	int fd[SIM_MAX_MAP];
};

/*
 * Asks the hypervisor process and waits for its answer. Fills in reply_size bytes at reply; fds may be NULL
 * when none are expected. Returns 0, or a negative errno: the one that the hypervisor answered, or ENOENT if
 * this process isn't in a simulated domain, or EIO if the host has gone. Thread-safe.
 */
int sim_lib_call(const struct sim_request *request, size_t request_size, struct sim_reply *reply,
		 size_t reply_size, struct sim_fds *fds);
/* Opens the connection if there is none. Same errors. */
int sim_lib_connect(void);
/* Whether this descriptor is the connection, which no program may close. */
bool sim_lib_has(int fd);
int sim_lib_fd(void); /* -1: there is none yet */
void sim_fds_close(struct sim_fds *fds);

/* Returns a setting of the environment (proto.h), also if the program has cleared that; NULL: there was none
 * when it was started. */
const char *sim_env(const char *name);
/* Returns the function that ours replaces. Looks it up when it is first needed; all threads find the same. */
void *sim_next_function(_Atomic(void *) *cache, const char *name);

/* The page that the hypervisor process writes for all processes of the domain. */
const struct sim_signs *sim_signs(void);
/* stall.c: a program has written this to a connection to XenStore, or elsewhere. */
void sim_written(int fd, const void *data, size_t size);
/* Waits for threads of this process that their kernel lets do nothing else, and lets them go no further. The
 * other one: the process lives on. */
void sim_end_threads(void);
void sim_keep_threads(void);

/* Reads a file of the domain's kernel, of one short line. Returns false if it can't be read. */
bool sim_read_line(const char *path, char *line, size_t size);
/* Called once, before the hypervisor process knows of this process and may send it the signal. */
void sim_gnt_expect_restores(void);
/* Moves the clocks that go on while a domain is saved. Called from a signal handler, too. */
void sim_clock_move(int milliseconds);
/* Hooks around fork, called in this order by conn.c, for the locks and the child's copy of each part's
 * state. */
void sim_gnt_before_fork(void);
/* What a child will have: puts as many ids into the array as there is room for, and returns their number. */
size_t sim_gnt_ids(uint32_t *ids, size_t room);
size_t sim_evtchn_ids(uint32_t *ids, size_t room);
void sim_gnt_after_fork(bool child);
void sim_evtchn_before_fork(void);
void sim_evtchn_after_fork(bool child);

#endif
