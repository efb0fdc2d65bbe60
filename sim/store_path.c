/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/store_path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOME_PREFIX "/local/domain/"

bool sim_path_next(const char **rest, const char **name, size_t *len)
{
	bool slash = **rest == '/';

	if (slash)
		(*rest)++;
	if (**rest == '\0')
		return false;
	*name = *rest;
	*len = slash ? strcspn(*rest, "/") : strlen(*rest);
	*rest += *len;
	return true;
}

int sim_path_resolve(char absolute[SIM_PATH_SIZE], const char *untrusted_path, unsigned domid,
		     const struct sim_store_limits *limits)
{
	size_t len = strlen(untrusted_path), counted;
	int written;
	unsigned home;
	int home_len = 0;

	if (len == 0 || len > 4096)
		return -EINVAL;
	if (untrusted_path[0] == '/' || untrusted_path[0] == '@')
		written = snprintf(absolute, SIM_PATH_SIZE, "%s", untrusted_path);
	else
		written = snprintf(absolute, SIM_PATH_SIZE, HOME_PREFIX "%u/%s", domid, untrusted_path);
	if (written < 0 || written >= SIM_PATH_SIZE)
		return -EINVAL;

	/* The part below a home counts, so that no path becomes too long by a migration to a longer domid. */
	counted = (size_t)written;
	if (sscanf(absolute, HOME_PREFIX "%5u/%n", &home, &home_len) == 1 && home_len > 0)
		counted -= (size_t)home_len;
	if (counted > limits->path)
		return -EINVAL;

	if (absolute[0] == '@' || strcmp(absolute, "/") == 0)
		return 0;
	if (absolute[written - 1] == '/' || strstr(absolute, "//"))
		return -EINVAL;
	if (strspn(absolute, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@") !=
	    (size_t)written)
		return -EINVAL;
	return 0;
}

bool sim_path_is_below(const char *path, const char *parent)
{
	size_t len = strlen(parent);

	if (strcmp(parent, "/") == 0)
		return path[0] == '/';
	return strncmp(path, parent, len) == 0 && (path[len] == '/' || path[len] == '\0');
}
