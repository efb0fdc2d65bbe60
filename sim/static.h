/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_STATIC_H
#define XENMSG_SIM_STATIC_H

/* Programs that are linked statically, into which no library is loaded: another process answers their system
 * calls about Xen's files and XenStore (seccomp_unotify(2)). They have no grants and no event channels. */

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* What follows it, PATH and the words of a program from its name on, are that program's. */
#define SIM_STATIC_COMMAND "exec-static"

/* Whether a file is a program without an interpreter, so linked statically. Safe in a child of vfork(). */
static inline bool sim_is_static(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), saved = errno;
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	bool is = fd >= 0 && pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
		  memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
		  (header.e_type == ET_EXEC || header.e_type == ET_DYN);

	for (unsigned i = 0; is && i < header.e_phnum; i++)
		is = pread(fd, &segment, sizeof(segment), (off_t)(header.e_phoff + i * sizeof(segment))) ==
			     sizeof(segment) &&
		     segment.p_type != PT_INTERP;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return is;
}

/* Becomes the program, with its words from its name on. Returns only after a failure, with errno. */
void sim_exec_static(const char *path, char **words);

#endif
