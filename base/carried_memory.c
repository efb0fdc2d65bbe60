/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/carried_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/image.h"

#define PIECES_AT_ONCE 32u /* are mapped, so that the kernel has few mappings */
#define PIECES_MAX     (1u << 22)

struct carried_memory {
	int fd; /* -1: there is none yet */
	size_t piece_size;
	uint32_t size;	     /* of the memfd, in pieces */
	uint32_t count;	     /* of those that may be mapped: `taken` and `chunks` are as large */
	uint8_t *taken;	     /* of each: 1 or 0 */
	uint8_t **chunks;    /* of PIECES_AT_ONCE each; NULL: it isn't mapped yet */
	uint32_t in_use;     /* how many are taken, and 1 while an image is read */
	uint32_t maybe_free; /* the first one that isn't taken is not before it */
};

int carried_new(struct carried_memory **out, size_t piece_size)
{
	struct carried_memory *memory = calloc(1, sizeof(*memory));
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!memory)
		return -ENOMEM;
	memory->fd = -1;
	memory->piece_size = (piece_size + page - 1) / page * page;
	*out = memory;
	return 0;
}

/* Gives all of it to the kernel, and the descriptor. */
static void leave(struct carried_memory *memory)
{
	for (uint32_t i = 0; i < memory->count / PIECES_AT_ONCE; i++) {
		if (memory->chunks[i])
			munmap(memory->chunks[i], PIECES_AT_ONCE * memory->piece_size);
		memory->chunks[i] = NULL;
	}
	if (memory->fd >= 0)
		close(memory->fd);
	memory->fd = -1;
	memory->size = memory->maybe_free = 0;
}

void carried_free(struct carried_memory *memory)
{
	if (!memory)
		return;
	leave(memory);
	free(memory->chunks);
	free(memory->taken);
	free(memory);
}

/* Has room for a piece of this number, and twice as many as before. */
static int grow(struct carried_memory *memory, uint32_t number)
{
	uint32_t count = memory->count ? memory->count : PIECES_AT_ONCE;
	uint8_t *taken, **chunks;

	if (number < memory->count)
		return 0;
	if (number >= PIECES_MAX)
		return -ENOMEM;
	while (count <= number)
		count *= 2;
	taken = realloc(memory->taken, count);
	if (!taken)
		return -ENOMEM;
	memory->taken = taken;
	chunks = realloc(memory->chunks, count / PIECES_AT_ONCE * sizeof(*chunks));
	if (!chunks)
		return -ENOMEM;
	memory->chunks = chunks;
	memset(taken + memory->count, 0, count - memory->count);
	for (uint32_t i = memory->count / PIECES_AT_ONCE; i < count / PIECES_AT_ONCE; i++)
		chunks[i] = NULL;
	memory->count = count;
	return 0;
}

/* Has the memfd hold the chunk of this number. */
static int extend(struct carried_memory *memory, uint32_t chunk)
{
	uint32_t size = (chunk + 1) * PIECES_AT_ONCE;

	if (memory->fd < 0)
		memory->fd = memfd_create("xenmsg-rings", MFD_CLOEXEC);
	if (memory->fd < 0)
		return -errno;
	if (size <= memory->size)
		return 0;
	if (ftruncate(memory->fd, (off_t)(size * memory->piece_size)) < 0)
		return -errno;
	memory->size = size;
	return 0;
}

static int map(struct carried_memory *memory, uint32_t number, struct carried_piece *piece)
{
	uint32_t chunk = number / PIECES_AT_ONCE;
	size_t size = PIECES_AT_ONCE * memory->piece_size;

	if (!memory->chunks[chunk]) {
		int r = extend(memory, chunk);
		void *bytes = r < 0 ? MAP_FAILED
				    : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
					   memory->fd, (off_t)(chunk * size));

		if (bytes == MAP_FAILED)
			return r < 0 ? r : -errno;
		memory->chunks[chunk] = bytes;
	}
	memory->taken[number] = 1;
	memory->in_use++;
	*piece = (struct carried_piece){
		.bytes = memory->chunks[chunk] + number % PIECES_AT_ONCE * memory->piece_size,
		.number = number,
	};
	return 0;
}

int carried_take(struct carried_memory *memory, struct carried_piece *piece)
{
	const uint8_t *first = memory->count ? memchr(memory->taken + memory->maybe_free, 0,
						      memory->count - memory->maybe_free)
					     : NULL;
	uint32_t number = first ? (uint32_t)(first - memory->taken) : memory->count;
	int r = grow(memory, number);

	if (r == 0)
		r = map(memory, number, piece);
	if (r == 0)
		memory->maybe_free = number + 1;
	else if (!memory->in_use)
		leave(memory);
	return r;
}

void carried_give_back(struct carried_memory *memory, struct carried_piece *piece)
{
	if (!piece->bytes)
		return;
	memory->taken[piece->number] = 0;
	if (--memory->in_use == 0)
		leave(memory);
	else
		carried_clear(memory, piece, memory->piece_size);
	if (piece->number < memory->maybe_free)
		memory->maybe_free = piece->number;
	piece->bytes = NULL;
}

void carried_clear(struct carried_memory *memory, const struct carried_piece *piece, size_t size)
{
	/* It can fail for want of memory, and then it keeps some. */
	(void)!madvise(piece->bytes, size, MADV_REMOVE);
}

void carried_image(struct image *image, struct carried_memory *memory)
{
	struct stat status;

	image_fd(image, &memory->fd);
	memory->in_use += image->is_read;
	if (image->is_read && memory->fd >= 0 && fstat(memory->fd, &status) == 0 && S_ISREG(status.st_mode) &&
	    (uint64_t)status.st_size / memory->piece_size <= PIECES_MAX)
		memory->size = (uint32_t)((uint64_t)status.st_size / memory->piece_size);
}

void carried_image_end(struct carried_memory *memory)
{
	if (--memory->in_use == 0)
		leave(memory);
}

void carried_piece_image(struct image *image, struct carried_memory *memory, struct carried_piece *piece)
{
	uint32_t number = piece->number;
	int r;

	image_u32(image, &number);
	if (!image->is_read || image->error)
		return;
	/* Those of a chunk are in the memfd all or none. */
	image_expect(image, number < memory->size && (number >= memory->count || !memory->taken[number]));
	if (image->error)
		return;
	r = grow(memory, number);
	if (r == 0)
		r = map(memory, number, piece);
	if (r < 0)
		image_fail(image, r);
}
