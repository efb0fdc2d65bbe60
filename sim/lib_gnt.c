/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Granted and mapped pages, below libxengnttab's functions (lib_gnttab.c) and below the devices themselves
 * (lib_device.c). A granted page is a page of a memfd that the hypervisor process made; it passes the memfd to
 * the granter, and to a process of the granted domain that maps the reference.
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

#include "sim/lib_gnt.h"

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

/* An open /dev/xen/gntdev. */
struct sim_gnt_file {
	bool closed;
	size_t mapped;	     /* of its regions, those with pages */
	struct region *kept; /* and the others */
};

struct region {
	struct region *prev, *next;
	char *start;
	size_t pages;
	size_t live;		   /* pages still mapped */
	struct sim_gnt_file *file; /* of a mapping; NULL: a share */
	uint64_t index;		   /* by which programs that use the device name it */
	bool writable;
	size_t ids;
	uint32_t *id;	     /* the hypervisor's: of one share, or of a mapping for each SIM_MAX_MAP pages */
	unsigned char *gone; /* one for each page */
	char *image;	     /* of a share: the pages that a restore puts in their place; NULL after that */
};

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
 * (hv_grant.c); the peer keeps the old ones. */
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

static void lock_regions(void)
{
	locking = true;
	pthread_mutex_lock(&gnt.lock);
}

/* A signal that came while the thread was `locking` has left its work to this function. */
static void unlock_regions(void)
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

/* Whether this domain's kernel takes back at munmap what Xen has mapped, and gives none of it to a child: a PV
 * guest's does, whose pages Xen maps at the addresses of the process itself. */
static bool takes_at_once(void)
{
	static atomic_int known; /* 1: no, 2: yes */
	char text[8] = "";
	int fd;

	if (!known) {
		fd = open("/sys/hypervisor/guest_type", O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
			text[0] = 0;
		if (fd >= 0)
			close(fd);
		known = strcmp(text, "PV\n") == 0 ? 2 : 1;
	}
	return known == 2;
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
	lock_regions();
}

void sim_gnt_after_fork(bool child)
{
	struct region *region, *next;

	if (child) {
		/* These aren't mapped in the child, by MADV_DONTFORK. */
		DL_FOREACH_SAFE(gnt.regions, region, next) {
			if (!region->file || !takes_at_once())
				continue;
			DL_DELETE(gnt.regions, region);
			region_free(region);
		}
		carry_out(atomic_load(&gnt.restore));
		/* The next one that it hears of may have any number. */
		atomic_store(&gnt.restore, 0);
		atomic_store(&gnt.carried_out, 0);
	}
	unlock_regions();
}

size_t sim_gnt_ids(uint32_t *ids, size_t room)
{
	const struct region *region;
	size_t count = 0;

	DL_FOREACH(gnt.regions, region)
		for (size_t i = 0; i < region->ids && !(region->file && takes_at_once()); i++, count++)
			if (count < room)
				ids[count] = region->id[i];
	return count;
}

/* Reserves address space for so many pages, and makes its record, not yet listed. NULL: ENOMEM. */
static struct region *region_new(size_t pages, size_t ids, struct sim_gnt_file *file, void *at)
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

/* Needs the lock. */
static void region_list(struct region *region)
{
	uintptr_t start = (uintptr_t)region->start, end = start + region->pages * SIM_PAGE_SIZE;

	if (region->file && takes_at_once())
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

/* Frees the region, and tells the hypervisor, which applies the unmap notification. */
static void region_release(struct region *region)
{
	if (region->image)
		syscall(SYS_munmap, region->image, region->pages * SIM_PAGE_SIZE);
	tell(region->file ? SIM_OP_UNMAP : SIM_OP_UNSHARE, region);
	region_free(region);
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
	    end <= atomic_load_explicit(&gnt.low, memory_order_relaxed)) {
		r = (int)syscall(SYS_munmap, address, length);
		if (r == 0)
			sim_foreign_unmapped(start, end);
		return r;
	}

	lock_regions();
	r = (int)syscall(SYS_munmap, address, length);
	ended = r == 0 ? take_unmapped(start, (end + SIM_PAGE_SIZE - 1) & ~(uintptr_t)(SIM_PAGE_SIZE - 1))
		       : NULL;
	DL_FOREACH_SAFE(ended, region, next) {
		if (!region->file)
			continue;
		DL_DELETE(ended, region);
		keep(region, &ended);
	}
	unlock_regions();
	DL_FOREACH_SAFE(ended, region, next) {
		DL_DELETE(ended, region);
		region_release(region);
	}
	if (r == 0)
		sim_foreign_unmapped(start, end);
	return r;
}

/* --- /dev/xen/gntdev as an open file ------------------------------------------------------------ */

struct sim_gnt_file *sim_gnt_open(void)
{
	return calloc(1, sizeof(struct sim_gnt_file));
}

void sim_gnt_close(struct sim_gnt_file *file)
{
	struct region *ended = NULL, *region, *next;

	lock_regions();
	file->closed = true;
	file_end(file, &ended);
	unlock_regions();
	DL_FOREACH_SAFE(ended, region, next) {
		DL_DELETE(ended, region);
		region_release(region);
	}
}

/* One that is mapped, or one that is kept. */
static struct region *find_region(const struct sim_gnt_file *file, const char *start, uint64_t index)
{
	struct region *region;

	if (start) {
		DL_FOREACH(gnt.regions, region)
			if (region->file == file && region->start == start)
				return region;
	} else {
		DL_FOREACH(file->kept, region)
			if (region->index == index)
				return region;
	}
	return NULL;
}

int sim_gnt_find(const struct sim_gnt_file *file, const void *start, uint64_t *index, uint32_t *count)
{
	const struct region *region;

	lock_regions();
	region = find_region(file, start, 0);
	if (region) {
		*index = region->index;
		*count = (uint32_t)region->pages;
	}
	unlock_regions();
	return region ? 0 : -EINVAL;
}

int sim_gnt_unmap(struct sim_gnt_file *file, uint64_t index, uint32_t count)
{
	struct region *region;

	lock_regions();
	region = find_region(file, NULL, index);
	if (region && region->pages == count)
		DL_DELETE(file->kept, region);
	else
		region = NULL;
	unlock_regions();
	if (!region)
		return -EINVAL;
	region_release(region);
	return 0;
}

int sim_gnt_notify(const struct sim_gnt_file *file, const void *start, uint32_t offset, uint32_t port)
{
	struct sim_request request = {.op = SIM_OP_NOTIFY, .notify_offset = offset, .notify_port = port};
	struct sim_reply reply;
	const struct region *region;
	int r = -ENOENT;

	lock_regions();
	region = find_region(file, start, 0);
	if (region && file && !region->writable && offset != SIM_NO_NOTIFY) {
		r = -EINVAL;
	} else if (region) {
		request.id = region->id[0];
		r = sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), NULL);
	}
	unlock_regions();
	return r;
}

/* Undoes, at the hypervisor too, a share or mapping that failed midway. */
static void *fail_region(struct region *region, int error)
{
	syscall(SYS_munmap, region->start, region->pages * SIM_PAGE_SIZE);
	region_release(region);
	errno = error;
	return NULL;
}

static void *share_locked(uint32_t domid, uint32_t count, uint32_t *refs, bool writable,
			  uint32_t notify_offset, uint32_t notify_port)
{
	struct sim_request request = {.op = SIM_OP_SHARE,
				      .domid = domid,
				      .count = count,
				      .writable = writable,
				      .notify_offset = notify_offset,
				      .notify_port = notify_port};
	size_t reply_size = sizeof(struct sim_reply) + count * sizeof(uint32_t);
	struct sim_reply *reply;
	struct region *region;
	struct sim_fds fds;
	int r;

	if (count == 0 || count > SIM_MAX_SHARE) {
		errno = count ? ENOSPC : EINVAL;
		return NULL;
	}
	region = region_new(count, 1, NULL, NULL);
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
	region_list(region);
	return region->start;
}

/* Holds the lock from the request on: a restore finds the region in the list. */
void *sim_gnt_share(uint32_t domid, uint32_t count, uint32_t *refs, bool writable, uint32_t notify_offset,
		    uint32_t notify_port)
{
	void *start;
	int error;

	lock_regions();
	start = share_locked(domid, count, refs, writable, notify_offset, notify_port);
	error = errno;
	unlock_regions();
	errno = error;
	return start;
}

/* Maps one request's worth of pages into their place in the region. */
static int map_part(struct region *region, size_t first, uint32_t count, const struct sim_gnt_pages *pages)
{
	struct {
		struct sim_request request;
		uint32_t refs[2 * SIM_MAX_MAP];
	} out = {.request = {.op = SIM_OP_MAP,
			     .count = count,
			     .writable = (pages->prot & PROT_WRITE) != 0,
			     .notify_offset = pages->notify_offset,
			     .notify_port = pages->notify_port}};
	struct {
		struct sim_reply reply;
		uint32_t values[2 * SIM_MAX_MAP];
	} in;
	struct sim_fds fds;
	int r;

	for (uint32_t i = 0; i < count; i++) {
		out.refs[2 * i] = pages->domids[pages->single_domain ? 0 : first + i];
		out.refs[2 * i + 1] = pages->refs[first + i];
	}
	r = sim_lib_call(&out.request, sizeof(out.request) + 2 * count * sizeof(uint32_t), &in.reply,
			 sizeof(in), &fds);
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
		if (index >= fds.count ||
		    mmap(region->start + (first + i) * SIM_PAGE_SIZE, run * SIM_PAGE_SIZE, pages->prot,
			 MAP_SHARED | MAP_FIXED, fds.fd[index], (off_t)offset * SIM_PAGE_SIZE) == MAP_FAILED)
			r = -EIO;
	}
	sim_fds_close(&fds);
	return r;
}

static void *map_locked(struct sim_gnt_file *file, uint64_t index, const struct sim_gnt_pages *pages)
{
	uint32_t count = pages->count;
	struct region *region;

	/* gntdev's own limit of pages in a mapping; and it clears no byte that it may only read. */
	if (count == 0 || count > 64 * 1024 ||
	    (pages->notify_offset != SIM_NO_NOTIFY && !(pages->prot & PROT_WRITE))) {
		errno = EINVAL;
		return NULL;
	}
	region = region_new(count, (count + SIM_MAX_MAP - 1) / SIM_MAX_MAP, file, pages->at);
	if (!region)
		return NULL;
	region->index = index;
	region->writable = (pages->prot & PROT_WRITE) != 0;
	for (size_t first = 0; first < count; first += SIM_MAX_MAP) {
		uint32_t part = count - first < SIM_MAX_MAP ? (uint32_t)(count - first) : SIM_MAX_MAP;
		int r = map_part(region, first, part, pages);

		if (r < 0)
			return fail_region(region, -r);
	}
	region_list(region);
	return region->start;
}

void *sim_gnt_map(struct sim_gnt_file *file, uint64_t index, const struct sim_gnt_pages *pages)
{
	void *start;
	int error;

	lock_regions();
	start = map_locked(file, index, pages);
	error = errno;
	unlock_regions();
	errno = error;
	return start;
}

int sim_gnt_copy(void *local, uint32_t domid, uint32_t ref, uint32_t offset, uint32_t length, bool to_them)
{
	struct sim_request request = {.op = SIM_OP_COPY, .domid = domid, .port = ref, .writable = to_them};
	struct sim_reply reply;
	struct sim_fds fds;
	off_t at;
	ssize_t n;

	if (sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), &fds) < 0)
		return -1;
	if (fds.count != 1 || reply.id) {
		sim_fds_close(&fds);
		return reply.id ? -(int)reply.id : -1;
	}
	at = (off_t)reply.port * SIM_PAGE_SIZE + offset;
	n = to_them ? pwrite(fds.fd[0], local, length, at) : pread(fds.fd[0], local, length, at);
	sim_fds_close(&fds);
	return n == (ssize_t)length ? 0 : -1;
}
