/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_MEMORY_LEFT_H
#define XENMSG_DAEMON_MEMORY_LEFT_H

#include <stdint.h>

/* Returns how many bytes this process may still take before its control group, or one of those
 * around it, or the machine has none: then the kernel would end it, or another one. `root` is "",
 * but in tests: a folder that has /proc and /sys. UINT64_MAX: nobody knows of a limit. */
uint64_t memory_left(const char *root);

#endif
