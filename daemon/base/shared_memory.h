/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SHARED_MEMORY_H
#define XENMSG_DAEMON_SHARED_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Makes memory to be shared with a process that isn't trusted, of a size that is sealed: nobody can shrink it under us, nor
 * let it grow. Maps it at *memory, for the caller to munmap(). Returns a descriptor of it, which is the caller's, or a
 * negative errno. */
int shared_memory_new(size_t size, uint8_t **memory);
/* Forbids holes in it, other mappings that can be written to, and other seals. May wait for as long as a hole takes that is
 * being made. Returns 0, or a negative errno: the other process has forbidden seals. */
int shared_memory_seal(int fd);

#endif
