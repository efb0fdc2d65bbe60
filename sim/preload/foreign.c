/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of another domain by its frames: what a program has from mmap() of /dev/xen/privcmd, and maps by
 * IOCTL_PRIVCMD_MMAPBATCH_V2, as libxenforeignmemory does. A frame that isn't there is told in its place, and
 * the others are mapped. As on Linux, such memory is mapped once, and no child has it.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"

#define __XEN_TOOLS__ 1

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>
#include <xen/xen.h>
#include <xen/sys/privcmd.h>

struct foreign {
	struct foreign *prev, *next;
	char *start;
	size_t pages, unmapped;
	int prot;
	bool used;
	size_t ids;
	uint32_t *id; /* the hypervisor's, for each SIM_MAX_MAP pages */
};

static struct {
	pthread_mutex_t lock;
	struct foreign *list;
	atomic_uint count; /* as long as it is 0, no call looks further */
} foreigns = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void foreign_free(struct foreign *foreign)
{
	for (size_t i = 0; i < foreign->ids; i++) {
		struct sim_request request = {.op = SIM_OP_UNMAP, .id = foreign->id[i]};
		struct sim_reply reply;

		/* Without a hypervisor there is nothing left to free. */
		if (sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), NULL) < 0)
			break;
	}
	free(foreign->id);
	free(foreign);
}

void *sim_foreign_reserve(void *at, size_t length, int prot, int flags)
{
	struct foreign *foreign = calloc(1, sizeof(*foreign));
	void *start;

	if (!foreign) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	foreign->pages = (length + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE;
	foreign->id = calloc(foreign->pages / SIM_MAX_MAP + 1, sizeof(*foreign->id));
	start = foreign->id
			? (void *)syscall(SYS_mmap, at, length, PROT_NONE,
					  (flags & MAP_FIXED) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
					  -1, 0)
			: MAP_FAILED;
	if (start == MAP_FAILED) {
		foreign_free(foreign);
		return MAP_FAILED;
	}
	madvise(start, length, MADV_DONTFORK);
	foreign->start = start;
	foreign->prot = prot;
	pthread_mutex_lock(&foreigns.lock);
	DL_APPEND(foreigns.list, foreign);
	atomic_fetch_add(&foreigns.count, 1);
	pthread_mutex_unlock(&foreigns.lock);
	return start;
}

/* How many pages of the range from one of ours are within the other. */
static size_t common_pages(const struct foreign *foreign, uintptr_t start, uintptr_t end)
{
	const uintptr_t first = (uintptr_t)foreign->start, last = first + foreign->pages * SIM_PAGE_SIZE;
	const uintptr_t from = start > first ? start : first, to = end < last ? end : last;

	return from < to ? (to - from + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE : 0;
}

void sim_foreign_unmapped(uintptr_t start, uintptr_t end)
{
	struct foreign *foreign, *next, *ended = NULL;

	if (!atomic_load_explicit(&foreigns.count, memory_order_relaxed))
		return;
	pthread_mutex_lock(&foreigns.lock);
	DL_FOREACH_SAFE(foreigns.list, foreign, next) {
		foreign->unmapped += common_pages(foreign, start, end);
		if (foreign->unmapped < foreign->pages)
			continue;
		DL_DELETE(foreigns.list, foreign);
		DL_APPEND(ended, foreign);
		atomic_fetch_sub(&foreigns.count, 1);
	}
	pthread_mutex_unlock(&foreigns.lock);
	DL_FOREACH_SAFE(ended, foreign, next) {
		DL_DELETE(ended, foreign);
		foreign_free(foreign);
	}
}

void sim_foreign_after_fork(void)
{
	/* Another thread may have had the lock, and its list may be half of one. */
	pthread_mutex_init(&foreigns.lock, NULL);
	foreigns.list = NULL;
	atomic_store(&foreigns.count, 0);
}

/* Maps one request's worth of frames at their place, and fills in err. Returns 0 or a negative errno. */
static int map_part(struct foreign *foreign, const privcmd_mmapbatch_v2_t *batch, size_t first,
		    uint32_t count)
{
	struct {
		struct sim_request request;
		uint32_t frames[SIM_MAX_MAP];
	} out = {.request = {.op = SIM_OP_MAP_FRAMES, .domid = batch->dom, .count = count}};
	struct {
		struct sim_reply reply;
		uint32_t values[2 * SIM_MAX_MAP];
	} in;
	xen_pfn_t frames[SIM_MAX_MAP];
	int errors[SIM_MAX_MAP];
	struct sim_fds fds;
	int r = sim_copy_in(frames, batch->arr + first, count * sizeof(*frames));

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < count; i++)
		out.frames[i] = frames[i] < UINT32_MAX ? (uint32_t)frames[i] : 0;
	r = sim_lib_call(&out.request, sizeof(out.request) + count * sizeof(uint32_t), &in.reply, sizeof(in),
			 &fds);
	if (r < 0)
		return r;
	foreign->id[foreign->ids++] = in.reply.id;
	r = in.reply.count == count ? 0 : -EIO;
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		const uint32_t index = in.values[2 * i], offset = in.values[2 * i + 1];

		errors[i] = index == SIM_NO_FRAME ? -(int)offset : 0;
		if (index == SIM_NO_FRAME)
			continue;
		if (index >= fds.count || syscall(SYS_mmap, foreign->start + (first + i) * SIM_PAGE_SIZE,
						  SIM_PAGE_SIZE, foreign->prot, MAP_SHARED | MAP_FIXED,
						  fds.fd[index], (off_t)offset * SIM_PAGE_SIZE) < 0)
			r = -EIO;
	}
	sim_fds_close(&fds);
	return r < 0 ? r : sim_copy_out(batch->err + first, errors, count * sizeof(*errors));
}

static struct foreign *find_foreign(const privcmd_mmapbatch_v2_t *batch)
{
	struct foreign *foreign;

	DL_FOREACH(foreigns.list, foreign)
		if (foreign->start == (char *)(uintptr_t)batch->addr && foreign->pages == batch->num &&
		    !foreign->used)
			return foreign;
	return NULL;
}

int sim_foreign_map(const privcmd_mmapbatch_v2_t *batch)
{
	struct foreign *foreign;
	int r = 0;

	if (!sim_hypercalls_allowed())
		return -EPERM;
	if (batch->num == 0 || batch->num > INT32_MAX / SIM_PAGE_SIZE)
		return -EINVAL;
	/* A call that names more than there are names memory that isn't there, too. */
	if (!sim_is_readable((uintptr_t)batch->arr + (batch->num - 1) * sizeof(batch->arr[0]),
			     sizeof(batch->arr[0])) ||
	    !sim_is_readable((uintptr_t)batch->err + (batch->num - 1) * sizeof(batch->err[0]),
			     sizeof(batch->err[0])))
		return -EFAULT;
	pthread_mutex_lock(&foreigns.lock);
	foreign = find_foreign(batch);
	if (foreign)
		foreign->used = true;
	else
		r = -EINVAL;
	for (size_t first = 0; r == 0 && first < batch->num; first += SIM_MAX_MAP) {
		const size_t left = batch->num - first;

		r = map_part(foreign, batch, first, left < SIM_MAX_MAP ? (uint32_t)left : SIM_MAX_MAP);
	}
	pthread_mutex_unlock(&foreigns.lock);
	return r;
}
