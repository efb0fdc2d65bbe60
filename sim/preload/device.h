/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_LIB_DEVICE_H
#define XENMSG_SIM_LIB_DEVICE_H

#include <sys/types.h>

#include "sim/preload/lib_internal.h"

/* Whether this may be the path of a device. */
bool sim_device_is(const char *path);
/* Opens the device of that path, whose file was opened: takes its descriptor, also if it is -1, and returns
 * another, or -1. What isn't a device stays a file. */
int sim_device_open(const char *path, int file, int flags);

/* Where XenStore is. Returns false if this isn't a domain. */
struct sockaddr_un;
bool sim_store_address(struct sockaddr_un *address);

/* memory.c: memory that a program names, as a kernel reaches it. 0, or -EFAULT: a program's mistake is
 * not our crash. */
int sim_copy_in(void *to, const void *from, size_t size);
int sim_copy_out(void *to, const void *from, size_t size);
bool sim_is_readable(uintptr_t start, size_t size);

/* device_gnt.c: an open gntdev or gntalloc. NULL: no memory. */
struct sim_gnt_device *sim_gnt_device_new(bool allocates);
void sim_gnt_device_free(struct sim_gnt_device *device);
/* Returns a negative errno for an error. */
int sim_gnt_device_ioctl(struct sim_gnt_device *device, unsigned long request, void *argument);
/* As mmap(). */
void *sim_gnt_device_map(struct sim_gnt_device *device, void *at, size_t length, int prot, int flags,
			 off_t offset);

/* call.c: a hypercall of two arguments. Returns what Xen would, a negative errno for one. */
long sim_hypercall(unsigned op, uint64_t first, uint64_t second);
/* What a resource of a domain (its grant table, the page of a server for requests) ends with, a negative
 * errno. */
struct privcmd_mmap_resource;
int sim_map_resource(const struct privcmd_mmap_resource *resource);
/* Whether the kernel makes hypercalls for its programs. */
bool sim_hypercalls_allowed(void);

/* foreign.c: room for frames of another domain, in which nothing is until they are mapped there. As
 * mmap(), and unmapped by munmap(). */
void *sim_foreign_reserve(void *at, size_t length, int prot, int flags);
/* Maps them, and says of each what became of it. Returns 0 or a negative errno. */
struct privcmd_mmapbatch_v2;
int sim_foreign_map(const struct privcmd_mmapbatch_v2 *batch);

#endif
