/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/program_name.h"

#include <stdio.h>
#include <string.h>

void program_name(pid_t pid, char name[PROGRAM_NAME_SIZE])
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file || !fgets(name, PROGRAM_NAME_SIZE, file))
		snprintf(name, PROGRAM_NAME_SIZE, "?");
	name[strcspn(name, "\n")] = '\0';
	for (char *c = name; *c; c++)
		if (*c < ' ' || *c >= 0x7f)
			*c = '?';
	if (file)
		fclose(file);
}
