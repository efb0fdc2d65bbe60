/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/program_name.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "wire/text.h"

void program_name(pid_t pid, char name[PROGRAM_NAME_SIZE])
{
	char path[64];
	ssize_t size = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		size = read(fd, name, PROGRAM_NAME_SIZE - 1);
		close(fd);
	}
	if (size > 0)
		name[size] = '\0';
	else
		snprintf(name, PROGRAM_NAME_SIZE, "?");
	name[strcspn(name, "\n")] = '\0';
	text_make_ascii(name, strlen(name), ' ');
}
