/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A ring whose two ends and attackers are played by the input: each byte is a step of the writer, of the
 * reader, or of somebody who writes over the shared memory. Checked against a model: space and data never
 * exceed the size, nothing is read that wasn't written unless the memory was overwritten, and an index that
 * an honest end couldn't have left is refused.
 */

#include "tests/fuzz/fuzz.h"
#include "wire/ring.h"

#define SIZE 32u

struct game {
	uint32_t producer, consumer;
	uint8_t requests[2];
	uint8_t *memory;
	struct ring_writer writer;
	struct ring_reader reader;
	uint64_t written, read; /* of the stream, while the game is fair */
	bool foul;		/* somebody wrote over the memory */
};

static uint8_t pattern(uint64_t position)
{
	return (uint8_t)(position * 131 + 1);
}

static void write_some(struct game *game, uint32_t size, bool publish)
{
	struct iovec pieces[2];
	int space = ring_writer_space(&game->writer, size), n;

	check(space <= (int)SIZE);
	if (space < 0) {
		check(space == -EPROTO && game->foul);
		return;
	}
	if (size > (uint32_t)space)
		size = (uint32_t)space;
	n = ring_writer_reserve(&game->writer, size, pieces);
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < pieces[i].iov_len; k++)
			((uint8_t *)pieces[i].iov_base)[k] = pattern(game->written++);
	ring_writer_advance(&game->writer, size);
	if (publish)
		ring_writer_publish(&game->writer);
}

static void read_some(struct game *game, uint32_t size, bool release)
{
	uint8_t bytes[SIZE];
	int ready = ring_reader_ready(&game->reader, size);

	check(ready <= (int)SIZE);
	if (ready < 0) {
		check(ready == -EPROTO && game->foul);
		return;
	}
	if (size > (uint32_t)ready)
		size = (uint32_t)ready;
	check(size <= SIZE);
	ring_reader_copy(&game->reader, 0, bytes, size);
	for (uint32_t i = 0; i < size && !game->foul; i++)
		check(bytes[i] == pattern(game->read + i));
	ring_reader_consume(&game->reader, size);
	game->read += size;
	if (release)
		ring_reader_release(&game->reader);
	if (!game->foul)
		check(game->read <= game->written);
}

static void step(struct game *game, uint8_t what, uint8_t argument)
{
	uint32_t size = argument % (SIZE + 4);
	int r;

	switch (what & 7) {
	case 0:
	case 1:
		write_some(game, size, what & 1);
		break;
	case 2:
	case 3:
		read_some(game, size, what & 1);
		break;
	case 4:
		r = what & 8 ? ring_writer_arm(&game->writer, size) : ring_reader_arm(&game->reader, size);
		check(r == 0 || r == 1 || (r == -EPROTO && game->foul));
		break;
	case 5:
		r = ring_writer_unread(&game->writer);
		check((r >= 0 && r <= (int)SIZE) || (r == -EPROTO && game->foul));
		break;
	case 6: /* somebody moves an index */
		game->foul = true;
		if (what & 8)
			game->producer += (uint32_t)(int8_t)argument * (what & 16 ? 0x01010101u : 1u);
		else
			game->consumer += (uint32_t)(int8_t)argument * (what & 16 ? 0x01010101u : 1u);
		break;
	default: /* or a byte, or a request */
		game->foul = true;
		if (what & 8)
			game->requests[what >> 4 & 1] = argument;
		else
			game->memory[argument % SIZE] ^= what;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct game game = {.memory = malloc(SIZE)};
	struct ring_view view = {
		.data = game.memory,
		.size = SIZE,
		.producer = &game.producer,
		.consumer = &game.consumer,
		.wants_data = &game.requests[0],
		.wants_space = &game.requests[1],
		.wants_data_bit = 1,
		.wants_space_bit = 2,
	};
	bool adopt = size && data[0] & 1;

	check(game.memory != NULL);
	memset(game.memory, 0, SIZE);
	if (size >= 5 && adopt)
		memcpy(&game.producer, data + 1, sizeof(game.producer));
	game.consumer = game.producer;
	check(ring_writer_init(&game.writer, &view, adopt) == 0);
	check(ring_reader_init(&game.reader, &view, adopt) == 0);
	for (size_t i = 5; i + 1 < size; i += 2)
		step(&game, data[i], data[i + 1]);
	free(game.memory);
	return 0;
}
