/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_CARRIED_MEMORY_H
#define XENMSG_BASE_CARRIED_MEMORY_H

/*
 * Memory that the next daemon has as it is: pieces of one size, of a memfd that nobody else has. An image
 * (base/image.h) says which pieces are taken, and not what lies there. So a hand-over takes no longer and
 * needs no more memory, however much that is. A piece that is never touched, or was cleared, takes no memory.
 *
 *   free ──carried_take(), or by its number out of an image──▶ taken ──carried_give_back()──▶ free
 */

#include <stddef.h>
#include <stdint.h>

struct image;
struct carried_memory;

struct carried_piece {
	void *bytes; /* NULL: there is none */
	uint32_t number;
};

/* Makes the memory, whose pieces have so many bytes. There is a descriptor while one is taken. 0 or
 * -ENOMEM. */
int carried_new(struct carried_memory **memory, size_t piece_size);
/* All pieces go. */
void carried_free(struct carried_memory *memory);
/* Takes a piece; anything may lie there. 0 or a negative errno. */
int carried_take(struct carried_memory *memory, struct carried_piece *piece);
/* Gives a piece back, if there is one. */
void carried_give_back(struct carried_memory *memory, struct carried_piece *piece);
/* Gives the kernel the memory of its first bytes (whole pages), which are zeros then. */
void carried_clear(struct carried_memory *memory, const struct carried_piece *piece, size_t size);
/* The memory itself, before any of its pieces. Read, it stays until carried_image_end(): the pieces that were
 * read first may be given back before the others are. */
void carried_image(struct image *image, struct carried_memory *memory);
void carried_image_end(struct carried_memory *memory);
/* Which piece it is; in an image that is read it is taken. */
void carried_piece_image(struct image *image, struct carried_memory *memory, struct carried_piece *piece);

#endif
