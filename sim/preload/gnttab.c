/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libxengnttab's functions. */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"
#include "sim/preload/gnt.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xengnttab.h>

#include <xen/xen.h>
#include <xen/grant_table.h>

/* Xen's header has one type for both kinds of handle. Grants don't depend on theirs. */
struct xengntdev_handle {
	int fd; /* for xengnttab_fd and xengntshr_fd: nothing can be done with it, as with the real one */
	struct sim_gnt_file *file; /* NULL: for granting */
};

/* Indices only have to differ. */
static uint64_t next_index(void)
{
	static atomic_ullong last;

	return atomic_fetch_add(&last, SIM_PAGE_SIZE);
}

static struct xengntdev_handle *handle_open(bool maps)
{
	struct xengntdev_handle *handle;
	int r = sim_lib_connect();

	if (r < 0) {
		errno = -r;
		return NULL;
	}
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return NULL;
	handle->fd = eventfd(0, EFD_CLOEXEC);
	handle->file = maps && handle->fd >= 0 ? sim_gnt_open() : NULL;
	if (handle->fd >= 0 && (handle->file || !maps))
		return handle;
	if (handle->fd >= 0)
		close(handle->fd);
	free(handle);
	return NULL;
}

static int handle_close(struct xengntdev_handle *handle)
{
	int r;

	if (!handle)
		return 0;
	r = close(handle->fd);
	if (handle->file)
		sim_gnt_close(handle->file);
	free(handle);
	return r;
}

/* Neither library looks at the flags. */
SIM_EXPORT xengntshr_handle *xengntshr_open(struct xentoollog_logger *logger, unsigned flags)
{
	return handle_open(false);
}

SIM_EXPORT int xengntshr_close(xengntshr_handle *handle)
{
	return handle_close(handle);
}

SIM_EXPORT int xengntshr_fd(xengntshr_handle *handle)
{
	return handle->fd;
}

SIM_EXPORT void *xengntshr_share_pages(xengntshr_handle *handle, uint32_t domid, int count, uint32_t *refs,
				       int writable)
{
	return sim_gnt_share(domid, count < 0 ? 0 : (uint32_t)count, refs, writable, SIM_NO_NOTIFY,
			     SIM_NO_NOTIFY);
}

SIM_EXPORT void *xengntshr_share_page_notify(xengntshr_handle *handle, uint32_t domid, uint32_t *ref,
					     int writable, uint32_t notify_offset, evtchn_port_t notify_port)
{
	return sim_gnt_share(domid, 1, ref, writable, notify_offset, notify_port);
}

SIM_EXPORT int xengntshr_unshare(xengntshr_handle *handle, void *start, uint32_t count)
{
	return munmap(start, (size_t)count * SIM_PAGE_SIZE);
}

SIM_EXPORT xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned flags)
{
	return handle_open(true);
}

SIM_EXPORT int xengnttab_close(xengnttab_handle *handle)
{
	return handle_close(handle);
}

SIM_EXPORT int xengnttab_fd(xengnttab_handle *handle)
{
	return handle->fd;
}

static void *map(xengnttab_handle *handle, struct sim_gnt_pages pages)
{
	return sim_gnt_map(handle->file, next_index(), &pages);
}

SIM_EXPORT void *xengnttab_map_grant_ref(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int prot)
{
	return map(handle,
		   (struct sim_gnt_pages){1, &domid, &ref, true, prot, NULL, SIM_NO_NOTIFY, SIM_NO_NOTIFY});
}

SIM_EXPORT void *xengnttab_map_grant_refs(xengnttab_handle *handle, uint32_t count, uint32_t *domids,
					  uint32_t *refs, int prot)
{
	return map(handle, (struct sim_gnt_pages){count, domids, refs, false, prot, NULL, SIM_NO_NOTIFY,
						  SIM_NO_NOTIFY});
}

SIM_EXPORT void *xengnttab_map_domain_grant_refs(xengnttab_handle *handle, uint32_t count, uint32_t domid,
						 uint32_t *refs, int prot)
{
	return map(handle, (struct sim_gnt_pages){count, &domid, refs, true, prot, NULL, SIM_NO_NOTIFY,
						  SIM_NO_NOTIFY});
}

SIM_EXPORT void *xengnttab_map_grant_ref_notify(xengnttab_handle *handle, uint32_t domid, uint32_t ref,
						int prot, uint32_t notify_offset, evtchn_port_t notify_port)
{
	return map(handle,
		   (struct sim_gnt_pages){1, &domid, &ref, true, prot, NULL, notify_offset, notify_port});
}

SIM_EXPORT int xengnttab_unmap(xengnttab_handle *handle, void *start, uint32_t count)
{
	uint64_t index;
	uint32_t pages;
	int r = start ? sim_gnt_find(handle->file, start, &index, &pages) : -EINVAL;

	/* gntdev unmaps what one call mapped, and nothing less. */
	if (r == 0 && pages != count)
		r = -EINVAL;
	if (r == 0 && munmap(start, (size_t)count * SIM_PAGE_SIZE) < 0)
		return -1;
	if (r == 0)
		r = sim_gnt_unmap(handle->file, index, count);
	if (r == 0)
		return 0;
	errno = -r;
	return -1;
}

SIM_EXPORT int xengnttab_set_max_grants(xengnttab_handle *handle, uint32_t count)
{
	return 0;
}

/* Returns 0 or a negative errno; Xen's answer is the status. */
static int copy_segment(xengnttab_grant_copy_segment_t *segment)
{
	if (segment->flags & GNTCOPY_dest_gref)
		return sim_gnt_copy(segment->source.virt, segment->dest.foreign.domid,
				    segment->dest.foreign.ref, segment->dest.foreign.offset, segment->len,
				    true, &segment->status);
	return sim_gnt_copy(segment->dest.virt, segment->source.foreign.domid, segment->source.foreign.ref,
			    segment->source.foreign.offset, segment->len, false, &segment->status);
}

/* What the driver looks at before Xen sees any of them. */
static int check_segments(const xengnttab_grant_copy_segment_t *segments, uint32_t count)
{
	if (!sim_is_readable((uintptr_t)segments, count * sizeof(*segments)))
		return -EFAULT;
	for (uint32_t i = 0; i < count; i++) {
		const xengnttab_grant_copy_segment_t *segment = &segments[i];
		bool to_them = segment->flags & GNTCOPY_dest_gref;
		uint32_t offset = to_them ? segment->dest.foreign.offset : segment->source.foreign.offset;

		if (!(segment->flags & (GNTCOPY_dest_gref | GNTCOPY_source_gref)) ||
		    offset + segment->len > SIM_PAGE_SIZE)
			return -EINVAL;
	}
	return 0;
}

SIM_EXPORT int xengnttab_grant_copy(xengnttab_handle *handle, uint32_t count,
				    xengnttab_grant_copy_segment_t *segments)
{
	int r = check_segments(segments, count);

	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = copy_segment(&segments[i]);
	errno = -r;
	return r < 0 ? -1 : 0;
}
