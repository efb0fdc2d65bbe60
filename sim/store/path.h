/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Handles XenStore's paths as text: checks them, resolves relative ones, and takes them apart. A resolved
 * path is absolute, without a slash at its end, or special (@…).
 */
#ifndef XENMSG_SIM_STORE_PATH_H
#define XENMSG_SIM_STORE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "sim/store/store.h"

/* "/local/domain/65535/" and the longest path that a request can carry. */
#define SIM_PATH_SIZE (4096 + 32)

/* Makes an absolute path of what a client of domid sent. Special paths stay as they are. Returns 0 or
 * -EINVAL. */
int sim_path_absolute(char absolute[SIM_PATH_SIZE], const char *untrusted_path, unsigned domid);
/* Returns whether an absolute path has valid names only. Special paths may be anything. */
bool sim_path_has_form(const char *absolute);
/* Does both, and refuses a path that is too long, as for all requests but those about watches. Returns 0 or
 * -EINVAL. */
int sim_path_resolve(char absolute[SIM_PATH_SIZE], const char *untrusted_path, unsigned domid,
		     const struct sim_store_limits *limits);
/* Returns the length of the path to the parent; 0 is the root's. */
size_t sim_path_parent_length(const char *path);
/* Steps to the next name of a resolved path; a special path is a single name. Returns false if there is
 * none. */
bool sim_path_next(const char **rest, const char **name, size_t *len);

#endif
