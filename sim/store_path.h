/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Handles XenStore's paths as text: checks them, resolves relative ones, and takes them apart. A resolved
 * path is absolute, without a slash at its end, or special (@…).
 */
#ifndef XENMSG_SIM_STORE_PATH_H
#define XENMSG_SIM_STORE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/store.h"

/* "/local/domain/65535/" and the longest path that a request can carry. */
#define SIM_PATH_SIZE (4096 + 32)

/* Makes an absolute path of what a client of domid sent. Special paths stay as they are. Returns 0 or
 * -EINVAL. */
int sim_path_resolve(char absolute[SIM_PATH_SIZE], const char *untrusted_path, unsigned domid,
		     const struct sim_store_limits *limits);
/* Returns whether path is the same as parent, or below it. */
bool sim_path_is_below(const char *path, const char *parent);
/* Steps to the next name of a resolved path; a special path is a single name. Returns false if there is
 * none. */
bool sim_path_next(const char **rest, const char **name, size_t *len);

#endif
