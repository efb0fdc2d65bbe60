/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gntdev and gntalloc, as programs open them: an ioctl announces pages, which mmap at their index then maps.
 * gntalloc has granted them before; gntdev maps them only then, since mmap says how.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <utlist.h>
#include <xen/grant_table.h>
#include <xen/sys/gntalloc.h>
#include <xen/sys/gntdev.h>

#include "sim/preload/gnt.h"

#define GNTDEV_MAX 65536
/* More references than the driver has memory for. */
#define GNTALLOC_MAX (1 << 20)

/* What gntdev is to map when mmap comes, or gntalloc has granted and mmap is to find. */
struct announced {
	struct announced *prev, *next;
	uint64_t index;
	uint32_t count;
	void *start; /* of granted pages; NULL: none */
	bool mapped;
	uint32_t numbers[]; /* of gntdev: count domids, and count references */
};

struct sim_gnt_device {
	struct sim_gnt_file *file; /* of gntdev; NULL: this is gntalloc */
	struct announced *announced;
	uint64_t next_index;
};

struct sim_gnt_device *sim_gnt_device_new(bool allocates)
{
	struct sim_gnt_device *device = calloc(1, sizeof(*device));

	if (!device || allocates)
		return device;
	device->file = sim_gnt_open();
	if (device->file)
		return device;
	free(device);
	return NULL;
}

void sim_gnt_device_free(struct sim_gnt_device *device)
{
	struct announced *announced, *next;

	if (!device)
		return;
	DL_FOREACH_SAFE(device->announced, announced, next) {
		/* What was mapped since stays as long as it is. */
		if (announced->start && !announced->mapped)
			munmap(announced->start, announced->count * (size_t)SIM_PAGE_SIZE);
		free(announced);
	}
	if (device->file)
		sim_gnt_close(device->file);
	free(device);
}

static struct announced *announced_new(uint32_t count, size_t numbers)
{
	struct announced *announced = calloc(1, sizeof(*announced) + numbers * sizeof(uint32_t));

	if (announced)
		announced->count = count;
	return announced;
}

/* Gives it the next index. */
static void announce(struct sim_gnt_device *device, struct announced *announced)
{
	announced->index = device->next_index;
	device->next_index += announced->count * (uint64_t)SIM_PAGE_SIZE;
	DL_APPEND(device->announced, announced);
}

static struct announced *find_announced(const struct sim_gnt_device *device, uint64_t index)
{
	struct announced *announced;

	DL_FOREACH(device->announced, announced)
		if (index >= announced->index &&
		    index - announced->index < announced->count * (uint64_t)SIM_PAGE_SIZE)
			return announced;
	return NULL;
}

static void forget(struct sim_gnt_device *device, struct announced *announced)
{
	DL_DELETE(device->announced, announced);
	free(announced);
}

static int gntdev_map(struct sim_gnt_device *device, struct ioctl_gntdev_map_grant_ref *map)
{
	const uint32_t count = map->count;
	struct ioctl_gntdev_grant_ref *refs;
	struct announced *announced;
	int r;

	if (count == 0 || count > GNTDEV_MAX)
		return -EINVAL;
	refs = malloc(count * sizeof(*refs));
	announced = announced_new(count, 2 * (size_t)count);
	r = refs && announced ? sim_copy_in(refs, map->refs, count * sizeof(*refs)) : -ENOMEM;
	if (r == 0)
		r = sim_copy_out(&map->index, &device->next_index, sizeof(map->index));
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		announced->numbers[i] = refs[i].domid;
		announced->numbers[count + i] = refs[i].ref;
	}
	free(refs);
	if (r == 0)
		announce(device, announced);
	else
		free(announced);
	return r;
}

static int gntdev_unmap(struct sim_gnt_device *device, const struct ioctl_gntdev_unmap_grant_ref *unmap)
{
	struct announced *announced = find_announced(device, unmap->index);
	int r;

	if (!announced || announced->index != unmap->index || announced->count != unmap->count)
		return -ENOENT;
	/* One that is mapped is still the device's, and its end comes with munmap. */
	r = announced->mapped ? sim_gnt_unmap(device->file, unmap->index, unmap->count) : 0;
	forget(device, announced);
	return r;
}

static int notify_at(const struct sim_gnt_device *device, uint64_t index, uint32_t action, uint32_t port)
{
	const struct announced *announced = find_announced(device, index);

	if (!announced || !announced->mapped)
		return -ENOENT;
	return sim_gnt_notify(device->file, announced->start,
			      action & UNMAP_NOTIFY_CLEAR_BYTE ? (uint32_t)(index - announced->index)
							       : SIM_NO_NOTIFY,
			      action & UNMAP_NOTIFY_SEND_EVENT ? port : SIM_NO_NOTIFY);
}

/* Returns 0 or a negative errno; Xen's answer is the status. */
static int copy_segment(struct ioctl_gntdev_grant_copy_segment *segment)
{
	const bool to_them = segment->flags & GNTCOPY_dest_gref;
	const __typeof__(segment->source) near = to_them ? segment->source : segment->dest,
					  far = to_them ? segment->dest : segment->source;

	return sim_gnt_copy(near.virt, far.foreign.domid, far.foreign.ref, far.foreign.offset, segment->len,
			    to_them, &segment->status);
}

static bool is_possible(const struct ioctl_gntdev_grant_copy_segment *segment)
{
	const bool to_them = segment->flags & GNTCOPY_dest_gref;

	return (to_them || segment->flags & GNTCOPY_source_gref) &&
	       (to_them ? segment->dest : segment->source).foreign.offset + segment->len <= SIM_PAGE_SIZE;
}

/* The driver looks at all segments before Xen sees any. */
static int gntdev_copy(const struct ioctl_gntdev_grant_copy *copy)
{
	struct ioctl_gntdev_grant_copy_segment *segments;
	int r;

	/* A call that names more than there are names memory that isn't there, too. */
	if (copy->count && !sim_is_readable((uintptr_t)copy->segments + (copy->count - 1) * sizeof(*segments),
					    sizeof(*segments)))
		return -EFAULT;
	segments = calloc(copy->count ? copy->count : 1, sizeof(*segments));
	if (!segments)
		return -ENOMEM;
	r = sim_copy_in(segments, copy->segments, copy->count * sizeof(*segments));
	for (uint32_t i = 0; r == 0 && i < copy->count; i++)
		r = is_possible(&segments[i]) ? 0 : -EINVAL;
	for (uint32_t i = 0; r == 0 && i < copy->count; i++)
		r = copy_segment(&segments[i]);
	for (uint32_t i = 0; r == 0 && i < copy->count; i++)
		r = sim_copy_out(&copy->segments[i].status, &segments[i].status, sizeof(segments[i].status));
	free(segments);
	return r;
}

static int gntdev_find(const struct sim_gnt_device *device, struct ioctl_gntdev_get_offset_for_vaddr *where)
{
	struct ioctl_gntdev_get_offset_for_vaddr found = *where;
	uint64_t index;
	uint32_t count;
	int r = sim_gnt_find(device->file, (void *)(uintptr_t)where->vaddr, &index, &count);

	if (r < 0)
		return r;
	found.offset = index;
	found.count = count;
	return sim_copy_out(where, &found, sizeof(found));
}

static int gntdev_ioctl(struct sim_gnt_device *device, unsigned long request, void *argument)
{
	const struct ioctl_gntdev_unmap_notify *notify = argument;

	switch (request) {
	case IOCTL_GNTDEV_MAP_GRANT_REF:
		return gntdev_map(device, argument);
	case IOCTL_GNTDEV_UNMAP_GRANT_REF:
		return gntdev_unmap(device, argument);
	case IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR:
		return gntdev_find(device, argument);
	case IOCTL_GNTDEV_SET_MAX_GRANTS:
		return 0;
	case IOCTL_GNTDEV_SET_UNMAP_NOTIFY:
		return notify_at(device, notify->index, notify->action, notify->event_channel_port);
	case IOCTL_GNTDEV_GRANT_COPY:
		return gntdev_copy(argument);
	default:
		return -ENOTTY;
	}
}

static int gntalloc_alloc(struct sim_gnt_device *device, struct ioctl_gntalloc_alloc_gref *alloc)
{
	const uint32_t count = alloc->count;
	struct announced *announced;
	uint32_t *refs;
	int r = 0;

	if (count == 0)
		return -EINVAL;
	refs = count <= GNTALLOC_MAX ? malloc(count * sizeof(*refs)) : NULL;
	announced = announced_new(count, 0);
	if (!refs || !announced) {
		r = -ENOMEM;
		goto end;
	}
	announced->start = sim_gnt_share(alloc->domid, count, refs, alloc->flags & GNTALLOC_FLAG_WRITABLE);
	if (!announced->start) {
		r = -errno;
		goto end;
	}
	r = sim_copy_out(&alloc->index, &device->next_index, sizeof(alloc->index));
	if (r == 0)
		r = sim_copy_out(alloc->gref_ids, refs, count * sizeof(*refs));
	if (r == 0)
		announce(device, announced);
	else
		munmap(announced->start, count * (size_t)SIM_PAGE_SIZE);
end:
	if (r < 0)
		free(announced);
	free(refs);
	return r;
}

static int gntalloc_ioctl(struct sim_gnt_device *device, unsigned long request, void *argument)
{
	const struct ioctl_gntalloc_dealloc_gref *dealloc = argument;
	const struct ioctl_gntalloc_unmap_notify *notify = argument;
	struct announced *announced;

	switch (request) {
	case IOCTL_GNTALLOC_ALLOC_GREF:
		return gntalloc_alloc(device, argument);
	case IOCTL_GNTALLOC_DEALLOC_GREF:
		announced = find_announced(device, dealloc->index);
		if (!announced || announced->index != dealloc->index || announced->count != dealloc->count)
			return -EINVAL;
		if (!announced->mapped)
			munmap(announced->start, announced->count * (size_t)SIM_PAGE_SIZE);
		forget(device, announced);
		return 0;
	case IOCTL_GNTALLOC_SET_UNMAP_NOTIFY:
		return notify_at(device, notify->index, notify->action, notify->event_channel_port);
	default:
		return -ENOTTY;
	}
}

int sim_gnt_device_ioctl(struct sim_gnt_device *device, unsigned long request, void *argument)
{
	return (device->file ? gntdev_ioctl : gntalloc_ioctl)(device, request, argument);
}

void *sim_gnt_device_map(struct sim_gnt_device *device, void *at, size_t length, int prot, int flags,
			 off_t offset)
{
	struct announced *announced = find_announced(device, (uint64_t)offset);
	size_t bytes = announced ? announced->count * (size_t)SIM_PAGE_SIZE : 0;
	struct sim_gnt_pages pages = {.prot = prot, .at = flags & MAP_FIXED ? at : NULL};

	errno = EINVAL;
	if (!announced || announced->index != (uint64_t)offset || bytes != length || announced->mapped ||
	    !(flags & MAP_SHARED) || (!device->file && flags & MAP_FIXED))
		return MAP_FAILED;
	if (device->file) {
		pages.count = announced->count;
		pages.domids = announced->numbers;
		pages.refs = announced->numbers + announced->count;
		announced->start = sim_gnt_map(device->file, announced->index, &pages);
	}
	announced->mapped = announced->start != NULL;
	return announced->start ? announced->start : MAP_FAILED;
}
