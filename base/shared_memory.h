/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_SHARED_MEMORY_H
#define XENMSG_BASE_SHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes memory to be shared with a process that isn't trusted, of a size that is sealed: nobody can shrink it
 * under us, nor let it grow. Maps it at *memory, for the caller to munmap(). Returns a descriptor of it,
 * which is the caller's, or a negative errno. */
int shared_memory_new(size_t size, uint8_t **memory);
/* Whether the other process has sealed it against holes and other mappings that can be written to
 * (F_SEAL_FUTURE_WRITE), which it does when it has mapped it. Before that, a process that touches a page
 * where a hole is being made waits. To set the seal waits, too, for as long as the other process likes: for a
 * hole, or for a write(2) whose source isn't there. To look at it never does. */
bool shared_memory_is_sealed(int fd);

#endif
