/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_TOOLSTACK_MAIN_H
#define XENMSG_SIM_TOOLSTACK_MAIN_H

#include <stdbool.h>

/* Runs the host, and writes one byte to ready_fd when it is up. Returns 0 after its stop, or a negative errno
 * after a failure to start, with a line on stderr. */
int hv_run(const char *dir, unsigned domains, bool like_xenstored, int ready_fd);

#endif
