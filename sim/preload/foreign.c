/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of another domain by its frames: what a program has from mmap() of /dev/xen/privcmd, and maps by
 * IOCTL_PRIVCMD_MMAPBATCH_V2, as libxenforeignmemory does. A frame that isn't there is told in its place, and
 * the others are mapped. As on Linux, such memory is mapped once, and no child has it.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"
#include "sim/preload/gnt.h"

#define __XEN_TOOLS__ 1

#include <errno.h>
#include <sys/mman.h>
#include <xen/xen.h>
#include <xen/sys/privcmd.h>

void *sim_foreign_reserve(void *at, size_t length, int prot, int flags)
{
	const size_t pages = (length + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE;
	struct region *region;

	if (!pages) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	sim_regions_lock();
	region = sim_region_new(pages, pages / SIM_MAX_MAP + 1, NULL, flags & MAP_FIXED ? at : NULL);
	if (region) {
		region->is_foreign = true;
		region->prot = prot;
		sim_region_list(region);
	}
	sim_regions_unlock();
	if (region)
		return region->start;
	errno = ENOMEM;
	return MAP_FAILED;
}

/* Maps one request's worth of frames at their place, and fills in err. Returns 0 or a negative errno. */
static int foreign_map_part(struct region *region, const privcmd_mmapbatch_v2_t *batch, size_t first,
			    uint32_t count)
{
	const struct sim_request request = {.op = SIM_OP_MAP_FRAMES, .domid = batch->dom};
	uint32_t numbers[SIM_MAX_MAP];
	xen_pfn_t frames[SIM_MAX_MAP];
	int errors[SIM_MAX_MAP] = {0};
	int r = sim_copy_in(frames, batch->arr + first, count * sizeof(*frames));

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < count; i++)
		numbers[i] = frames[i] < UINT32_MAX ? (uint32_t)frames[i] : 0;
	r = sim_region_map(region, first, count, &request, numbers, 1, errors);
	return r < 0 ? r : sim_copy_out(batch->err + first, errors, count * sizeof(*errors));
}

int sim_foreign_map(const privcmd_mmapbatch_v2_t *batch)
{
	struct region *region;
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
	sim_regions_lock();
	region = sim_region_find(NULL, (void *)(uintptr_t)batch->addr);
	if (region && region->is_foreign && !region->is_used && region->pages == batch->num)
		region->is_used = true;
	else
		r = -EINVAL;
	for (size_t first = 0; r == 0 && first < batch->num; first += SIM_MAX_MAP) {
		const size_t left = batch->num - first;

		r = foreign_map_part(region, batch, first, left < SIM_MAX_MAP ? (uint32_t)left : SIM_MAX_MAP);
	}
	sim_regions_unlock();
	return r;
}
