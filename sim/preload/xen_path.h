/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_XEN_PATH_H
#define XENMSG_SIM_XEN_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Whether an absolute path is one of those that Linux has under Xen, or that each domain has of its own. */
static inline bool sim_is_xen_path(const char *path)
{
	static const char *const prefixes[] = {"/sys/hypervisor",    "/dev/xen",     "/proc/xen",
					       "/etc/xenmsg",	     "/run/xenmsgd", "/run/xenstored",
					       "/var/run/xenstored", "/run/xen",     "/var/run/xen",
					       "/var/lib/xen",	     "/var/log/xen", "/var/lock/xl"};

	if (path[0] != '/')
		return false;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t length = strlen(prefixes[i]);

		if (strncmp(path, prefixes[i], length) == 0 && (path[length] == '/' || path[length] == 0))
			return true;
	}
	return strncmp(path, "/sys/module/xen_", 16) == 0;
}

static inline bool sim_is_xenbus(const char *path)
{
	return strcmp(path, "/dev/xen/xenbus") == 0 || strcmp(path, "/proc/xen/xenbus") == 0;
}

#endif
