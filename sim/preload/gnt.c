/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Granted and mapped pages, below the devices (device_gnt.c): how they end, and what a fork and a restore
 * make of them; gnt_make.c makes them. A granted page is a page of a memfd that the hypervisor process made;
 * it passes the memfd to the granter, and to a process of the granted domain that maps the reference.
 *
 * A grant lives as long as the granter's mapping of its page, whatever becomes of the handle; so munmap is
 * interposed: it looks for our regions, page by page, and tells the hypervisor when the last page of a region
 * is gone. A mapping of another's page is gntdev's: it ends when it is unmapped by its device, or with the
 * device, which lives until it is closed and none of its pages is mapped any more. After a plain munmap it is
 * still there, and nobody is told. Only a PV guest's kernel then takes at once what Xen has mapped for it.
 *
 * A forked child has all of it, too, but for what a PV guest's process maps of others (gntdev asks for that).
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/gnt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

static struct {
	pthread_mutex_t lock;
	struct region *regions;
	/* The value of the last restore's signal, and the number of the last restore that was carried out. */
	_Atomic unsigned restore, carried_out;
	/* All regions lie within: munmap of anything else needs no lock. */
	_Atomic uintptr_t low, high;
} gnt = {.lock = PTHREAD_MUTEX_INITIALIZER, .low = UINTPTR_MAX};

/* Whether this thread has the lock, or waits for it. The model keeps a signal handler from allocating it. */
static _Thread_local volatile bool locking __attribute__((tls_model("initial-exec")));

/* Blanks mappings of other domains' pages, which lead nowhere after a restore: a PVH guest then reads 0xff
 * everywhere. */
static void blank_mappings(void)
{
	struct region *region;

	DL_FOREACH(gnt.regions, region) {
		for (size_t i = 0; region->file && i < region->pages; i++) {
			char *page = region->start + i * SIM_PAGE_SIZE;

			if (region->gone[i])
				continue;
			if (mmap(page, SIM_PAGE_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page)
				memset(page, 0xff, SIM_PAGE_SIZE);
		}
	}
}

/* Replaces granted pages by the copies that a restored granter has, made while the peer went on writing
 * (hypervisor/grant.c); the peer keeps the old ones. */
static void take_images(void)
{
	struct region *region;

	DL_FOREACH(gnt.regions, region) {
		for (size_t i = 0; region->image && i < region->pages; i++) {
			char *copy = region->image + i * SIM_PAGE_SIZE;

			if (region->gone[i])
				syscall(SYS_munmap, copy, (size_t)SIM_PAGE_SIZE);
			else
				mremap(copy, SIM_PAGE_SIZE, SIM_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
				       region->start + i * SIM_PAGE_SIZE);
		}
		region->image = NULL;
	}
}

/* Needs the lock. */
static void carry_out(unsigned restore)
{
	if (SIM_RESTORE_NUMBER(restore) == atomic_load(&gnt.carried_out))
		return;
	sim_clock_move(SIM_RESTORE_CLOCK(restore));
	if (!SIM_RESTORE_IN_PLACE(restore)) {
		blank_mappings();
		take_images();
	}
	atomic_store(&gnt.carried_out, SIM_RESTORE_NUMBER(restore));
}

/* Returns when the restore was carried out, by whichever thread. A thread that has the lock might need
 * something that this one had when the signal came, so the wait has an end. */
static void complete(unsigned restore)
{
	const struct timespec moment = {.tv_nsec = 100000};

	for (int i = 0; i < 10000 && SIM_RESTORE_NUMBER(restore) != atomic_load(&gnt.carried_out); i++) {
		if (pthread_mutex_trylock(&gnt.lock) == 0) {
			carry_out(restore);
			pthread_mutex_unlock(&gnt.lock);
		} else {
			nanosleep(&moment, NULL);
		}
	}
}

void sim_regions_lock(void)
{
	locking = true;
	pthread_mutex_lock(&gnt.lock);
}

/* A signal that came while the thread was `locking` has left its work to this function. */
void sim_regions_unlock(void)
{
	carry_out(atomic_load(&gnt.restore));
	pthread_mutex_unlock(&gnt.lock);
	locking = false;
	complete(atomic_load(&gnt.restore));
}

/* Each thread gets the signal, and none goes on before the pages are those of the image. */
static void on_restored(int signal_number, siginfo_t *info, void *context)
{
	int error = errno;

	atomic_store(&gnt.restore, (unsigned)info->si_value.sival_int);
	if (!locking)
		complete(atomic_load(&gnt.restore));
	errno = error;
}

void sim_gnt_expect_restores(void)
{
	struct sigaction action = {.sa_sigaction = on_restored, .sa_flags = SA_RESTART | SA_SIGINFO};

	sigaction(SIM_SIGNAL_RESTORED, &action, NULL);
}

/* Whether this domain's kernel takes back at munmap what Xen has mapped, and gives none of it to a child: a
 * PV guest's does, whose pages Xen maps at the addresses of the process itself. */
static bool takes_at_once(void)
{
	static atomic_int known; /* 1: no, 2: yes */
	char text[8];

	if (!known)
		known = sim_read_line("/sys/hypervisor/guest_type", text, sizeof(text)) &&
					strcmp(text, "PV\n") == 0
				? 2
				: 1;
	return known == 2;
}

/* Whether a child has it, too. What it hasn't isn't mapped there, by MADV_DONTFORK. */
static bool is_inherited(const struct region *region)
{
	return !region->is_foreign && (!region->file || !takes_at_once());
}

static void region_free(struct region *region)
{
	if (!region)
		return;
	free(region->id);
	free(region->gone);
	free(region);
}

void sim_gnt_before_fork(void)
{
	sim_regions_lock();
}

void sim_gnt_after_fork(bool child)
{
	struct region *region, *next;

	if (child) {
		DL_FOREACH_SAFE(gnt.regions, region, next) {
			if (is_inherited(region))
				continue;
			DL_DELETE(gnt.regions, region);
			region_free(region);
		}
		carry_out(atomic_load(&gnt.restore));
		/* The next one that it hears of may have any number. */
		atomic_store(&gnt.restore, 0);
		atomic_store(&gnt.carried_out, 0);
	}
	sim_regions_unlock();
}

size_t sim_gnt_ids(uint32_t *ids, size_t room)
{
	const struct region *region;
	size_t count = 0;

	DL_FOREACH(gnt.regions, region)
		for (size_t i = 0; i < region->ids && is_inherited(region); i++, count++)
			if (count < room)
				ids[count] = region->id[i];
	return count;
}

struct region *sim_region_new(size_t pages, size_t ids, struct sim_gnt_file *file, void *at)
{
	struct region *region = calloc(1, sizeof(*region));
	void *start;

	if (!region)
		goto fail;
	region->id = calloc(ids, sizeof(*region->id));
	region->gone = calloc(pages, 1);
	if (!region->id || !region->gone)
		goto fail;
	start = mmap(at, pages * SIM_PAGE_SIZE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
	if (start == MAP_FAILED)
		goto fail;
	region->start = start;
	region->pages = region->live = pages;
	region->file = file;
	return region;
fail:
	region_free(region);
	errno = ENOMEM;
	return NULL;
}

void sim_region_list(struct region *region)
{
	uintptr_t start = (uintptr_t)region->start, end = start + region->pages * SIM_PAGE_SIZE;

	if (!is_inherited(region))
		madvise(region->start, region->pages * SIM_PAGE_SIZE, MADV_DONTFORK);
	if (region->file)
		region->file->mapped++;
	DL_APPEND(gnt.regions, region);
	if (start < atomic_load(&gnt.low))
		atomic_store(&gnt.low, start);
	if (end > atomic_load(&gnt.high))
		atomic_store(&gnt.high, end);
}

static void tell(enum sim_op op, const struct region *region)
{
	for (size_t i = 0; i < region->ids; i++) {
		struct sim_request request = {.op = (uint32_t)op, .id = region->id[i]};
		struct sim_reply reply;

		/* A failure doesn't matter: without a hypervisor there is nothing left to free. */
		if (sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), NULL) < 0)
			continue;
	}
}

void sim_region_release(struct region *region)
{
	if (region->image)
		syscall(SYS_munmap, region->image, region->pages * SIM_PAGE_SIZE);
	tell(region->file || region->is_foreign ? SIM_OP_UNMAP : SIM_OP_UNSHARE, region);
	region_free(region);
}

static void release_all(struct region *regions)
{
	struct region *region, *next;

	DL_FOREACH_SAFE(regions, region, next) {
		DL_DELETE(regions, region);
		sim_region_release(region);
	}
}

/* Marks the pages of all regions within the range as unmapped, and takes regions without any left off the
 * list. */
static struct region *take_unmapped(uintptr_t start, uintptr_t end)
{
	struct region *ended = NULL, *region, *next;
	uintptr_t low = UINTPTR_MAX, high = 0;

	DL_FOREACH_SAFE(gnt.regions, region, next) {
		uintptr_t first = (uintptr_t)region->start, last = first + region->pages * SIM_PAGE_SIZE;

		for (size_t i = 0; first < end && last > start && i < region->pages; i++) {
			uintptr_t page = first + i * SIM_PAGE_SIZE;

			if (page >= start && page < end && !region->gone[i]) {
				region->gone[i] = 1;
				region->live--;
			}
		}
		if (region->live == 0) {
			DL_DELETE(gnt.regions, region);
			DL_APPEND(ended, region);
			continue;
		}
		if (first < low)
			low = first;
		if (last > high)
			high = last;
	}
	atomic_store(&gnt.low, low);
	atomic_store(&gnt.high, high);
	return ended;
}

/* The open file has gone when it was closed and none of its pages is mapped. Needs the lock. */
static void file_end(struct sim_gnt_file *file, struct region **ended)
{
	struct region *region, *next;

	if (!file->closed || file->mapped)
		return;
	DL_FOREACH_SAFE(file->kept, region, next) {
		DL_DELETE(file->kept, region);
		DL_APPEND(*ended, region);
	}
	free(file);
}

/* Keeps a mapping without pages, until its device ends it. Needs the lock. */
static void keep(struct region *region, struct region **ended)
{
	struct sim_gnt_file *file = region->file;

	if (takes_at_once())
		tell(SIM_OP_UNMAP_PAGES, region);
	DL_APPEND(file->kept, region);
	file->mapped--;
	file_end(file, ended);
}

SIM_EXPORT int munmap(void *address, size_t length)
{
	uintptr_t start = (uintptr_t)address, end = start + length;
	struct region *ended, *region, *next;
	int r;

	/* Call the kernel directly: this may run before libc is set up, and from signal handlers. */
	if (start >= atomic_load_explicit(&gnt.high, memory_order_relaxed) ||
	    end <= atomic_load_explicit(&gnt.low, memory_order_relaxed))
		return (int)syscall(SYS_munmap, address, length);

	sim_regions_lock();
	r = (int)syscall(SYS_munmap, address, length);
	ended = r == 0 ? take_unmapped(start, (end + SIM_PAGE_SIZE - 1) & ~(uintptr_t)(SIM_PAGE_SIZE - 1))
		       : NULL;
	DL_FOREACH_SAFE(ended, region, next) {
		if (!region->file)
			continue;
		DL_DELETE(ended, region);
		keep(region, &ended);
	}
	sim_regions_unlock();
	release_all(ended);
	return r;
}

/* --- /dev/xen/gntdev as an open file ------------------------------------------------------------ */

struct sim_gnt_file *sim_gnt_open(void)
{
	return calloc(1, sizeof(struct sim_gnt_file));
}

void sim_gnt_close(struct sim_gnt_file *file)
{
	struct region *ended = NULL;

	sim_regions_lock();
	file->closed = true;
	file_end(file, &ended);
	sim_regions_unlock();
	release_all(ended);
}

struct region *sim_region_find(const struct sim_gnt_file *file, const void *start)
{
	struct region *region;

	DL_FOREACH(gnt.regions, region)
		if (region->file == file && region->start == start)
			return region;
	return NULL;
}

int sim_gnt_find(const struct sim_gnt_file *file, const void *start, uint64_t *index, uint32_t *count)
{
	const struct region *region;

	sim_regions_lock();
	region = sim_region_find(file, start);
	if (region) {
		*index = region->index;
		*count = (uint32_t)region->pages;
	}
	sim_regions_unlock();
	return region ? 0 : -EINVAL;
}

int sim_gnt_unmap(struct sim_gnt_file *file, uint64_t index, uint32_t count)
{
	struct region *region;

	sim_regions_lock();
	DL_FOREACH(file->kept, region)
		if (region->index == index)
			break;
	if (region && region->pages == count)
		DL_DELETE(file->kept, region);
	else
		region = NULL;
	sim_regions_unlock();
	if (!region)
		return -EINVAL;
	sim_region_release(region);
	return 0;
}

int sim_gnt_notify(const struct sim_gnt_file *file, const void *start, uint32_t offset, uint32_t port)
{
	struct sim_request request = {.op = SIM_OP_NOTIFY, .notify_offset = offset, .notify_port = port};
	struct sim_reply reply;
	const struct region *region;
	int r = -ENOENT;

	sim_regions_lock();
	region = sim_region_find(file, start);
	if (region && file && !(region->prot & PROT_WRITE) && offset != SIM_NO_NOTIFY) {
		r = -EINVAL;
	} else if (region) {
		request.id = region->id[0];
		r = sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), NULL);
	}
	sim_regions_unlock();
	return r;
}
