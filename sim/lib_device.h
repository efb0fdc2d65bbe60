/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_LIB_DEVICE_H
#define XENMSG_SIM_LIB_DEVICE_H

#include "sim/lib.h"

/* Whether this may be the path of a device. */
bool sim_device_is(const char *path);
/* Opens the device of that path, whose file was opened: takes its descriptor, also if it is -1, and returns
 * another, or -1. What isn't a device stays a file. */
int sim_device_open(const char *path, int file, int flags);

/* lib_call.c: a hypercall of two arguments. Returns what Xen would, a negative errno for one. */
long sim_hypercall(unsigned op, uint64_t first, uint64_t second);
/* What a resource of a domain (its grant table, the page of a server for requests) ends with, a negative errno. */
struct privcmd_mmap_resource;
int sim_map_resource(const struct privcmd_mmap_resource *resource);
/* Whether memory can be read, as a kernel finds out: a program's mistake is its EFAULT, not our crash. */
bool sim_is_readable(uintptr_t start, size_t size);
/* Whether the kernel makes hypercalls for its programs. */
bool sim_hypercalls_allowed(void);

/* lib_foreign.c: room for frames of another domain, in which nothing is until they are mapped there. As mmap(), and
 * unmapped by munmap(). */
void *sim_foreign_reserve(void *at, size_t length, int prot, int flags);
/* Maps them, and says of each what became of it. Returns 0 or a negative errno. */
struct privcmd_mmapbatch_v2;
int sim_foreign_map(const struct privcmd_mmapbatch_v2 *batch);

#endif
