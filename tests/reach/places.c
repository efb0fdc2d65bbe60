/* SPDX-License-Identifier: LGPL-2.1-or-later
 * Which places of a program are reached: a run-time for gcc's -fsanitize-coverage=trace-pc, which calls it in
 * each basic block. The programs of a test share a map of bytes, the file $REACH_MAP; so one that is killed
 * leaves what it has reached. A place is an offset in a program or library, and thus the same in each run.
 * That two of them fall together in a map of this size is rare, and costs a test at most.
 */
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES	    (1U << 22) /* as in run */
#define MODULES_MAX 64

struct module {
	uintptr_t low, high;
	uint32_t shift; /* what makes a place of an address, modulo PLACES */
};

static unsigned char *map;
static struct module modules[MODULES_MAX];
static int count;

void __sanitizer_cov_trace_pc(void);

static uint32_t hash_of_name(const char *path)
{
	const char *name = strrchr(path, '/');
	uint32_t hash = 2166136261U; /* FNV-1a */

	for (name = name ? name : path; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 16777619U;
	return hash;
}

static int add(struct dl_phdr_info *info, size_t size, void *unused)
{
	char path[512] = "";
	int i;

	if (info->dlpi_name && *info->dlpi_name)
		strncpy(path, info->dlpi_name, sizeof(path) - 1);
	else if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
		return 0;
	for (i = 0; i < info->dlpi_phnum && count < MODULES_MAX; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
			continue;
		modules[count].low = info->dlpi_addr + part->p_vaddr;
		modules[count].high = modules[count].low + part->p_memsz;
		modules[count++].shift = hash_of_name(path) - (uint32_t)info->dlpi_addr;
	}
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("REACH_MAP");
	void *at;
	int fd;

	if (!path || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
		return;
	at = mmap(NULL, PLACES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		return;
	dl_iterate_phdr(add, NULL);
	map = at;
}

void __sanitizer_cov_trace_pc(void)
{
	uintptr_t pc = (uintptr_t)__builtin_return_address(0);
	unsigned char *place;
	int i;

	for (i = 0; map && i < count; i++) {
		if (pc < modules[i].low || pc >= modules[i].high)
			continue;
		place = &map[((uint32_t)pc + modules[i].shift) % PLACES];
		if (!*place)
			*place = 1;
		return;
	}
}
