/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/store/path.h"

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

int sim_path_absolute(char absolute[SIM_PATH_SIZE], const char *untrusted_path, unsigned domid)
{
	int written;

	if (untrusted_path[0] == '\0')
		return -EINVAL;
	if (untrusted_path[0] == '/' || untrusted_path[0] == '@')
		written = snprintf(absolute, SIM_PATH_SIZE, "%s", untrusted_path);
	else
		written = snprintf(absolute, SIM_PATH_SIZE, HOME_PREFIX "%u/%s", domid, untrusted_path);
	return written < 0 || written >= SIM_PATH_SIZE ? -EINVAL : 0;
}

bool sim_path_has_form(const char *absolute)
{
	size_t len = strlen(absolute);

	if (absolute[0] == '@' || strcmp(absolute, "/") == 0)
		return true;
	return absolute[len - 1] != '/' && !strstr(absolute, "//") &&
	       strspn(absolute, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@") == len;
}

/* Returns the length of a home's path with its slash, or 0 if the path isn't below one. The number is what
 * OCaml reads as one. */
static size_t home_length(const char *absolute)
{
	const char *number = absolute + strlen(HOME_PREFIX), *end;

	if (strncmp(absolute, HOME_PREFIX, strlen(HOME_PREFIX)) != 0)
		return 0;
	if (*number == '-' || *number == '+')
		number++;
	end = number + strspn(number, "0123456789_");
	return *number == '_' || end == number || *end != '/' ? 0 : (size_t)(end - absolute) + 1;
}

int sim_path_resolve(char absolute[SIM_PATH_SIZE], const char *untrusted_path, unsigned domid,
		     const struct sim_store_limits *limits)
{
	if (sim_path_absolute(absolute, untrusted_path, domid) < 0)
		return -EINVAL;
	/* The part below a home counts, so that no path becomes too long by a migration to a longer domid. */
	if (strlen(absolute) - home_length(absolute) > limits->path)
		return -EINVAL;
	return sim_path_has_form(absolute) ? 0 : -EINVAL;
}

size_t sim_path_parent_length(const char *path)
{
	return path[0] == '@' ? 0 : (size_t)(strrchr(path, '/') - path);
}
