/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uintptr_t page_size(void)
{
	return (uintptr_t)sysconf(_SC_PAGESIZE);
}

struct mirror *mirror_new(const struct ring_view *ring)
{
	struct mirror *mirror;
	uint8_t *base;

	if (ring->size < LEND_RING_MIN || ring->size % page_size() || (uintptr_t)ring->data % page_size())
		return NULL;
	mirror = malloc(sizeof(*mirror));
	if (!mirror)
		return NULL;
	base = mmap(NULL, 2 * (size_t)ring->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		    0);
	if (base == MAP_FAILED) {
		free(mirror);
		return NULL;
	}
	*mirror = (struct mirror){.base = base, .size = ring->size, .users = 1, .pid = getpid()};
	/* An old size of 0 maps the same shared pages once more, and leaves the first mapping. */
	for (unsigned i = 0; i < 2; i++)
		if (mremap(ring->data, 0, ring->size, MREMAP_MAYMOVE | MREMAP_FIXED,
			   base + (size_t)i * ring->size) == MAP_FAILED) {
			mirror_release(mirror);
			return NULL;
		}
	madvise(base, 2 * (size_t)ring->size, MADV_DONTFORK);
	return mirror;
}

void mirror_use(struct mirror *mirror)
{
	mirror->users++;
}

void mirror_release(struct mirror *mirror)
{
	if (!mirror || --mirror->users)
		return;
	/* A child has nothing there, or something of its own. */
	if (mirror->pid == getpid())
		munmap(mirror->base, 2 * (size_t)mirror->size);
	free(mirror);
}

int mirror_keep(struct mirror *mirror, const uint8_t *at, uint32_t size)
{
	size_t mask = page_size() - 1, from = (size_t)(at - mirror->base) & ~mask,
	       length = (((size_t)(at - mirror->base) + size + mask) & ~mask) - from;
	void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return -ENOMEM;
	madvise(pages, length, MADV_DONTFORK);
	memcpy(pages, mirror->base + from, length);
	/* In one step, so that the program finds the bytes there at any time. */
	if (mremap(pages, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, mirror->base + from) == MAP_FAILED) {
		munmap(pages, length);
		return -ENOMEM;
	}
	return 0;
}
