/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory that the next daemon has as it is. */
#include "tests/unit/unit.h"
#include "tests/unit/own_process.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/carried_memory.h"
#include "base/image.h"

#define PIECE 10000u /* no whole pages */

static struct carried_memory *new_memory(void)
{
	struct carried_memory *memory;

	assert_int_equal(carried_new(&memory, PIECE), 0);
	return memory;
}

TEST(pieces_lie_apart_and_are_taken_again)
{
	struct carried_memory *memory = new_memory();
	struct carried_piece pieces[100], again;
	unsigned before = open_descriptors();
	uint8_t expected[PIECE];

	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(carried_take(memory, &pieces[i]), 0);
		memset(pieces[i].bytes, (int)i, PIECE);
	}
	for (unsigned i = 0; i < 100; i++) {
		memset(expected, (int)i, PIECE);
		assert_memory_equal(pieces[i].bytes, expected, PIECE);
	}
	again = pieces[40];
	carried_give_back(memory, &pieces[70]);
	carried_give_back(memory, &pieces[40]);
	carried_give_back(memory, &pieces[40]); /* it has none any more */
	assert_int_equal(carried_take(memory, &pieces[40]), 0);
	assert_int_equal(pieces[40].number, again.number);
	assert_int_equal(carried_take(memory, &pieces[70]), 0);
	assert_int_equal(pieces[70].number, 70);
	memset(expected, 0, PIECE);
	assert_memory_equal(pieces[40].bytes, expected, PIECE); /* it has no memory */
	for (unsigned i = 0; i < 100; i++)
		carried_give_back(memory, &pieces[i]);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(carried_take(memory, &again), 0);
	assert_int_equal(again.number, 0);
	carried_free(memory);
	assert_int_equal(open_descriptors(), before);
}

/* Writes an image of the memory and of pieces by these numbers; returns what the next daemon reads, which
 * gives the first one of `count` back if they aren't `kept`. */
static int hand_over(struct carried_memory *memory, struct carried_memory *next, const uint32_t *numbers,
		     struct carried_piece *pieces, unsigned count, bool kept)
{
	struct image image;
	int fd, carried;

	image_begin(&image);
	image_section(&image, IMAGE_HEAD);
	carried_image(&image, memory);
	for (unsigned i = 0; i < count; i++) {
		pieces[i].number = numbers[i];
		carried_piece_image(&image, memory, &pieces[i]);
		pieces[i].bytes = NULL;
	}
	fd = image_seal(&image);
	assert_true(fd >= 0);
	carried = dup((int)image.fds[0].number);
	image_free(&image);
	assert_int_equal(image_open_carried(&image, fd, &carried, 1), 0);
	close(fd);
	assert_int_equal(image_next(&image), IMAGE_HEAD);
	carried_image(&image, next);
	for (unsigned i = 0; i < count; i++) {
		carried_piece_image(&image, next, &pieces[i]);
		if (i == 0 && !kept)
			carried_give_back(next, &pieces[i]);
	}
	carried_image_end(next);
	fd = image_leave_section(&image);
	image_free(&image);
	return fd;
}

TEST(what_lies_in_a_piece_lies_there_in_the_next_daemon)
{
	struct carried_memory *memory = new_memory(), *next = new_memory();
	struct carried_piece pieces[40], read[2], taken;
	uint32_t numbers[] = {39, 7};

	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(carried_take(memory, &pieces[i]), 0);
		memset(pieces[i].bytes, (int)i, PIECE);
	}
	assert_int_equal(hand_over(memory, next, numbers, read, 2, true), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_memory_equal(read[i].bytes, pieces[numbers[i]].bytes, PIECE);
	carried_free(memory);
	assert_int_equal(((uint8_t *)read[0].bytes)[PIECE - 1], 39);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(carried_take(next, &taken), 0);
		assert_int_equal(taken.number, i < 7 ? i : 8); /* those of nobody */
	}
	carried_free(next);
}

TEST(who_is_lost_first_takes_nothing_from_others)
{
	struct carried_memory *memory = new_memory(), *next = new_memory();
	struct carried_piece pieces[2], read[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(carried_take(memory, &pieces[i]), 0);
	memset(pieces[1].bytes, 7, PIECE);
	assert_int_equal(hand_over(memory, next, (uint32_t[]){0, 1}, read, 2, false), 0);
	assert_memory_equal(read[1].bytes, pieces[1].bytes, PIECE);
	carried_free(memory);
	carried_free(next);
}

TEST(a_piece_that_is_not_there_or_another_s_is_refused)
{
	struct carried_memory *memory = new_memory(), *next;
	struct carried_piece piece, read[2];
	const uint32_t twice[] = {0, 0}, beyond[] = {0, 64}, far[] = {0, UINT32_MAX};
	const uint32_t *wrong[] = {twice, beyond, far};

	assert_int_equal(carried_take(memory, &piece), 0);
	for (unsigned i = 0; i < 3; i++) {
		next = new_memory();
		assert_int_equal(hand_over(memory, next, wrong[i], read, 2, true), -EINVAL);
		assert_non_null(read[0].bytes);
		assert_null(read[1].bytes);
		carried_free(next);
	}
	carried_free(memory);
}
