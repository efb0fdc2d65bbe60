/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How pages come to be granted and mapped: the hypervisor process answers with descriptors of the memfds that
 * they are in, and these are mapped where the program wants them. A copy needs them for the moment only.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/gnt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Undoes, at the hypervisor too, a share or mapping that failed midway. */
static void *fail_region(struct region *region, int error)
{
	syscall(SYS_munmap, region->start, region->pages * SIM_PAGE_SIZE);
	sim_region_release(region);
	errno = error;
	return NULL;
}

static void *share_locked(uint32_t domid, uint32_t count, uint32_t *refs, bool writable)
{
	struct sim_request request = {
		.op = SIM_OP_SHARE, .domid = domid, .count = count, .writable = writable};
	size_t reply_size = sizeof(struct sim_reply) + count * sizeof(uint32_t);
	struct sim_reply *reply;
	struct region *region;
	struct sim_fds fds;
	int r;

	if (count == 0 || count > SIM_MAX_SHARE) {
		errno = count ? ENOSPC : EINVAL;
		return NULL;
	}
	region = sim_region_new(count, 1, NULL, NULL);
	reply = malloc(reply_size);
	if (!region || !reply) {
		free(reply);
		return region ? fail_region(region, ENOMEM) : NULL;
	}
	r = sim_lib_call(&request, sizeof(request), reply, reply_size, &fds);
	if (r < 0) {
		free(reply);
		return fail_region(region, -r);
	}
	region->id[0] = reply->id;
	region->ids = 1;
	if (fds.count != 1 || reply->count != count ||
	    mmap(region->start, count * SIM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 fds.fd[0], 0) == MAP_FAILED)
		r = -EIO;
	else
		memcpy(refs, reply->values, count * sizeof(uint32_t));
	if (r == 0) {
		/* This lies behind the end of the file, which grows when the domain is saved. */
		void *image = mmap(NULL, count * SIM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds.fd[0],
				   (off_t)count * SIM_PAGE_SIZE);

		region->image = image == MAP_FAILED ? NULL : image;
		r = region->image ? 0 : -EIO;
	}
	sim_fds_close(&fds);
	free(reply);
	if (r < 0)
		return fail_region(region, -r);
	sim_region_list(region);
	return region->start;
}

void *sim_gnt_share(uint32_t domid, uint32_t count, uint32_t *refs, bool writable)
{
	void *start;
	int error;

	sim_regions_lock();
	start = share_locked(domid, count, refs, writable);
	error = errno;
	sim_regions_unlock();
	errno = error;
	return start;
}

int sim_region_map(struct region *region, size_t first, uint32_t count, const struct sim_request *request,
		   const uint32_t *numbers, size_t words, int *errors)
{
	struct {
		struct sim_request request;
		uint32_t numbers[2 * SIM_MAX_MAP];
	} out = {.request = *request};
	struct {
		struct sim_reply reply;
		uint32_t values[2 * SIM_MAX_MAP];
	} in;
	const size_t size = words * count * sizeof(*numbers);
	struct sim_fds fds;
	int r;

	out.request.count = count;
	memcpy(out.numbers, numbers, size);
	r = sim_lib_call(&out.request, sizeof(out.request) + size, &in.reply, sizeof(in), &fds);
	if (r < 0)
		return r;
	region->id[region->ids++] = in.reply.id;
	if (in.reply.count != count)
		r = -EIO;
	for (uint32_t i = 0, run; r == 0 && i < count; i += run) {
		uint32_t index = in.values[2 * i], offset = in.values[2 * i + 1];

		for (run = 1; i + run < count && in.values[2 * (i + run)] == index &&
			      in.values[2 * (i + run) + 1] == offset + run;
		     run++)
			;
		if (errors && index == SIM_NO_FRAME) {
			errors[i] = -(int)offset;
			run = 1;
		} else if (index >= fds.count ||
			   mmap(region->start + (first + i) * SIM_PAGE_SIZE, run * SIM_PAGE_SIZE,
				region->prot, MAP_SHARED | MAP_FIXED, fds.fd[index],
				(off_t)offset * SIM_PAGE_SIZE) == MAP_FAILED) {
			r = -EIO;
		}
	}
	sim_fds_close(&fds);
	return r;
}

/* Maps one request's worth of pages into their place in the region. */
static int gnt_make_map_part(struct region *region, size_t first, uint32_t count,
			     const struct sim_gnt_pages *pages)
{
	const struct sim_request request = {.op = SIM_OP_MAP, .writable = (region->prot & PROT_WRITE) != 0};
	uint32_t refs[2 * SIM_MAX_MAP];

	for (uint32_t i = 0; i < count; i++) {
		refs[2 * i] = pages->domids[first + i];
		refs[2 * i + 1] = pages->refs[first + i];
	}
	return sim_region_map(region, first, count, &request, refs, 2, NULL);
}

static void *map_locked(struct sim_gnt_file *file, uint64_t index, const struct sim_gnt_pages *pages)
{
	uint32_t count = pages->count;
	struct region *region;

	region = sim_region_new(count, (count + SIM_MAX_MAP - 1) / SIM_MAX_MAP, file, pages->at);
	if (!region)
		return NULL;
	region->index = index;
	region->prot = pages->prot;
	for (size_t first = 0; first < count; first += SIM_MAX_MAP) {
		uint32_t part = count - first < SIM_MAX_MAP ? (uint32_t)(count - first) : SIM_MAX_MAP;
		int r = gnt_make_map_part(region, first, part, pages);

		if (r < 0)
			return fail_region(region, -r);
	}
	sim_region_list(region);
	return region->start;
}

void *sim_gnt_map(struct sim_gnt_file *file, uint64_t index, const struct sim_gnt_pages *pages)
{
	void *start;
	int error;

	sim_regions_lock();
	start = map_locked(file, index, pages);
	error = errno;
	sim_regions_unlock();
	errno = error;
	return start;
}

int sim_gnt_copy(void *local, uint32_t domid, uint32_t ref, uint32_t offset, uint32_t length, bool to_them,
		 int16_t *status)
{
	struct sim_request request = {.op = SIM_OP_COPY, .domid = domid, .port = ref, .writable = to_them};
	struct sim_reply reply;
	struct sim_fds fds;
	off_t at;
	ssize_t n;

	*status = -1;
	if (sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), &fds) < 0)
		return 0;
	if (fds.count != 1 || reply.id) {
		sim_fds_close(&fds);
		*status = reply.id ? (int16_t)-reply.id : -1;
		return 0;
	}
	at = (off_t)reply.port * SIM_PAGE_SIZE + offset;
	n = to_them ? pwrite(fds.fd[0], local, length, at) : pread(fds.fd[0], local, length, at);
	sim_fds_close(&fds);
	/* What is copied is there, so it is the program's memory that isn't. */
	if (n != (ssize_t)length)
		return -EFAULT;
	*status = 0;
	return 0;
}
