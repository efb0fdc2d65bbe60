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
/* Maps frames of another domain, of which there are none: says so of each. Returns 0 or a negative errno. */
struct privcmd_mmapbatch_v2;
int sim_foreign_map(const struct privcmd_mmapbatch_v2 *batch);

#endif
