/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One ring out, against what a reader finds in it: every byte in its order, each frame whole. */
#include "tests/unit/random.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <unistd.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/outlet.h"

#define RING  4096u
#define ENDS  3u
#define STEPS 40000

struct scene {
	struct ring_words words;
	uint8_t data[RING];
	struct ring_view view;
	struct outlet outlet;
	struct ring_reader reader;
	struct hop_stats tx;
	struct channel_end ends[ENDS];
	uint64_t received[ENDS], messages, messages_received;
	uint32_t sequence;
};

static uint64_t seed;

static void start(struct scene *scene, enum hop_kind kind)
{
	memset(scene, 0, sizeof(*scene));
	scene->words.producer = scene->words.consumer = 0u - RING / 2; /* near its wrap */
	scene->view = ring_words_view(&scene->words, scene->data, RING);
	for (uint32_t i = 0; i < ENDS; i++)
		scene->ends[i].number = i;
	assert_int_equal(outlet_attach(&scene->outlet, &scene->view, &hop_traits[kind], &scene->tx, true), 0);
	assert_int_equal(ring_reader_init(&scene->reader, &scene->view, true), 0);
}

/* The byte of a stream, by channel and offset. */
static uint8_t pattern(uint32_t number, uint64_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251 + number * 101);
}

/* Data of one channel in up to two pieces, of which as much as there is room for goes. */
static uint32_t put(struct scene *scene, uint32_t number, uint32_t length)
{
	struct channel_end *end = &scene->ends[number];
	struct outgoing data = {.left = length, .messages = 1};
	struct iovec pieces[2];
	uint8_t bytes[2 * RING];
	uint32_t first = random_below(&seed, 2) ? length : random_below(&seed, length);
	int r = 1;

	for (uint32_t i = 0; i < length; i++)
		bytes[i] = pattern(number, end->sent + i);
	if (outlet_room(&scene->outlet, end, 0) > length) {
		outlet_append(&scene->outlet, bytes, length);
		outlet_count(&scene->outlet, length, 1);
		scene->messages++;
		return length;
	}
	pieces[0] = (struct iovec){bytes, first ? first : length};
	pieces[1] = (struct iovec){bytes + first, length - first};
	data.pieces = pieces;
	while (data.left && r > 0)
		r = outlet_write(&scene->outlet, end, &data);
	assert_true(r >= 0);
	if (data.left)
		assert_true(scene->outlet.wanted > 0 || ledger_is_full(&scene->outlet.ledger));
	else
		scene->messages++;
	return length - data.left;
}

/* Takes frames of at most `budget` bytes out of the ring and checks what is in them. */
static void take(struct scene *scene, uint32_t budget)
{
	while (ring_reader_ready(&scene->reader, FRAME_HEADER_SIZE) >= (int)FRAME_HEADER_SIZE) {
		uint8_t encoded[FRAME_HEADER_SIZE], payload[RING];
		struct frame_header header;
		uint32_t size;

		ring_reader_copy(&scene->reader, 0, encoded, sizeof(encoded));
		assert_int_equal(frame_header_decode(encoded, &header), 0);
		size = frame_size(header.length);
		assert_true(ring_reader_ready(&scene->reader, size) >= (int)size);
		if (size > budget)
			break;
		budget -= size;
		assert_int_equal(header.sequence,
				 scene->outlet.traits->numbers_frames ? scene->sequence++ : 0);
		ring_reader_copy(&scene->reader, FRAME_HEADER_SIZE, payload, header.length);
		if (header.type == FRAME_DATA) {
			for (uint32_t i = 0; i < header.length; i++)
				assert_int_equal(payload[i],
						 pattern(header.channel, scene->received[header.channel]++));
			scene->messages_received += header.messages;
		} else {
			assert_int_equal(header.type, FRAME_PING);
			assert_int_equal(header.length, 13);
		}
		ring_reader_consume(&scene->reader, size);
	}
	ring_reader_release(&scene->reader);
}

static void all_arrives_in_order(enum hop_kind kind)
{
	static struct scene scene;
	struct frame_header ping = {.length = 13, .type = FRAME_PING};

	start(&scene, kind);
	for (unsigned step = 0; step < STEPS; step++) {
		switch (random_below(&seed, 8)) {
		case 0:
			if (outlet_has_room(&scene.outlet, frame_size(ping.length)) > 0)
				outlet_put(&scene.outlet, &ping, "thirteen byte");
			break;
		case 1:
			take(&scene, random_below(&seed, RING));
			assert_int_equal(outlet_see_taken(&scene.outlet), 0);
			assert_int_equal(scene.outlet.taken_upto, scene.reader.released);
			while (ledger_front(&scene.outlet.ledger) &&
			       (int32_t)(scene.outlet.taken_upto -
					 ledger_front(&scene.outlet.ledger)->position) > 0)
				ledger_pop(&scene.outlet.ledger);
			break;
		case 2:
			outlet_publish(&scene.outlet);
			assert_null(scene.outlet.filling);
			break;
		default:
			put(&scene, random_below(&seed, ENDS),
			    random_below(&seed, 4) ? 8 * (1 + random_below(&seed, 12))
						   : 1 + random_below(&seed, 2 * RING - 1));
		}
	}
	outlet_publish(&scene.outlet);
	take(&scene, UINT32_MAX);
	for (uint32_t i = 0; i < ENDS; i++)
		assert_int_equal(scene.received[i], scene.ends[i].sent);
	assert_int_equal(scene.messages_received, scene.messages);
	assert_int_equal(scene.tx.messages, scene.messages);
	assert_int_equal(scene.tx.bytes, scene.outlet.position);
	assert_int_equal(scene.tx.frames, scene.outlet.sequence);
	outlet_detach(&scene.outlet);
}

TEST(bytes_of_each_channel_arrive_in_order)
{
	seed = 1;
	for (unsigned kind = 0; kind < HOP_KINDS; kind++)
		all_arrives_in_order(kind);
}

TEST(small_pieces_become_one_frame_that_is_shown_at_the_end)
{
	static struct scene scene;

	start(&scene, HOP_LINK);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(put(&scene, 1, 64), 64);
	assert_int_equal(ring_reader_ready(&scene.reader, 1), 0);
	outlet_publish(&scene.outlet);
	assert_int_equal(ring_reader_ready(&scene.reader, RING), frame_size(20 * 64));
	assert_int_equal(scene.tx.frames, 1);
	assert_int_equal(scene.tx.messages, 20);
	outlet_detach(&scene.outlet);
}

TEST(reader_that_sleeps_is_shown_a_smaller_chunk_on_a_link)
{
	static uint8_t bytes[FRAME_PAYLOAD_MAX], memory[1u << 18];
	struct ring_words words = {0};
	struct ring_view view = ring_words_view(&words, memory, sizeof(memory));

	for (unsigned awaited = 0; awaited < 2; awaited++) {
		struct iovec piece = {bytes, sizeof(bytes)};
		struct outgoing data = {.pieces = &piece, .left = sizeof(bytes), .messages = 1};
		struct channel_end end = {0};
		struct hop_stats tx = {0};
		struct outlet outlet;

		words = (struct ring_words){.wants_data = (uint8_t)awaited};
		assert_int_equal(outlet_attach(&outlet, &view, &hop_traits[HOP_LINK], &tx, false), 0);
		assert_int_equal(outlet_write(&outlet, &end, &data),
				 awaited ? hop_traits[HOP_LINK].first_chunk : HOP_CHUNK);
		assert_true(outlet_is_due(&outlet));
		assert_int_equal(outlet_publish(&outlet), awaited);
		assert_false(outlet_is_due(&outlet));
		outlet_detach(&outlet);
	}
}

static void *ask_and_withdraw(void *words)
{
	uint8_t *wants_data = &((struct ring_words *)words)->wants_data;

	while (__atomic_load_n(wants_data, __ATOMIC_RELAXED) != 2)
		__atomic_fetch_xor(wants_data, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* The request is in memory that the reader has, too: between two looks it may be another. */
TEST(reader_that_asks_meanwhile_makes_nothing_longer_than_it_is)
{
	static uint8_t bytes[HOP_CHUNK - 8], memory[1u << 16];
	struct ring_words words = {0};
	struct ring_view view = ring_words_view(&words, memory, sizeof(memory));
	struct channel_end end = {0};
	struct hop_stats tx = {0};
	struct outlet outlet;
	pthread_t reader;

	assert_int_equal(outlet_attach(&outlet, &view, &hop_traits[HOP_LINK], &tx, false), 0);
	assert_int_equal(pthread_create(&reader, NULL, ask_and_withdraw, &words), 0);
	alarm(patience(120)); /* it would go on for ever */
	for (unsigned i = 0; i < 2000000; i++) {
		struct iovec piece = {bytes, sizeof(bytes)};
		struct outgoing data = {.pieces = &piece, .left = sizeof(bytes), .messages = 1};
		int r = outlet_write(&outlet, &end, &data);

		assert_in_range(r, 1, sizeof(bytes));
		assert_int_equal(data.left, sizeof(bytes) - (uint32_t)r);
		outlet_publish(&outlet);
		__atomic_store_n(&words.consumer, words.producer, __ATOMIC_RELAXED); /* read at once */
	}
	alarm(0);
	while (__atomic_load_n(&words.wants_data, __ATOMIC_RELAXED) != 2)
		__atomic_store_n(&words.wants_data, 2, __ATOMIC_RELAXED);
	pthread_join(reader, NULL);
	outlet_detach(&outlet);
}

TEST(word_is_found_until_it_is_released)
{
	static struct scene scene;
	uint32_t *word;

	start(&scene, HOP_SHARED);
	put(&scene, 1, 64);
	put(&scene, 2, 64);
	put(&scene, 1, 64);
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 72, &word), 0);
	outlet_publish(&scene.outlet);
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 72, &word), 0);
	assert_int_equal(*(uint8_t *)word, pattern(1, 72));
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 74, &word), -ENOENT);
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 128, &word), -ENOENT);
	take(&scene, frame_size(64));
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 8, &word), -EALREADY);
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 72, &word), 0);
	assert_int_equal(outlet_forget(&scene.outlet, &scene.ends[1]), 2);
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 72, &word), -ENOENT);
	outlet_detach(&scene.outlet);
}

/* What a session sends again is found however much the ring has carried: its positions are those of 32
 * bits. */
TEST(what_is_unread_is_found_behind_many_gigabytes)
{
	const struct frame_header header = {.type = FRAME_PING, .length = 8};
	static struct scene scene;
	struct iovec pieces[2];

	start(&scene, HOP_LINK);
	for (uint64_t sent = 0; sent < (9ull << 30); sent += 1u << 29) {
		uint32_t skipped = scene.outlet.writer.head + (1u << 29);

		outlet_put(&scene.outlet, &header, "12345678");
		outlet_publish(&scene.outlet);
		assert_int_equal(outlet_unread(&scene.outlet, pieces), frame_size(8));
		/* as if so much more had been written and read */
		scene.outlet.writer.head = scene.outlet.writer.published = skipped;
		scene.outlet.writer.tail = skipped;
		scene.words.producer = scene.words.consumer = skipped;
		assert_int_equal(ring_writer_unread(&scene.outlet.writer), 0);
		assert_int_equal(outlet_unread(&scene.outlet, pieces), 0);
		outlet_publish(&scene.outlet);
	}
	outlet_detach(&scene.outlet);
}

/* Each look at the reader ends a run, and what begins one costs more than a piece of it. */
TEST(a_look_at_the_reader_has_room_for_several_pieces_of_1_kib)
{
	static uint8_t memory[1u << 20], bytes[1024];
	struct ring_words words = {0};
	struct ring_view view = ring_words_view(&words, memory, sizeof(memory));
	struct channel_end end = {.number = 1};
	struct iovec piece = {bytes, sizeof(bytes)};
	struct outgoing data = {.pieces = &piece, .left = sizeof(bytes), .messages = 1};
	struct hop_stats tx = {0};
	struct outlet outlet;

	assert_int_equal(outlet_attach(&outlet, &view, &hop_traits[HOP_LINK], &tx, true), 0);
	assert_int_equal(outlet_write(&outlet, &end, &data), sizeof(bytes));
	while (!outlet_is_due(&outlet) && outlet.filling_length < HOP_CHUNK / 2) {
		outlet_append(&outlet, bytes, sizeof(bytes));
		outlet_count(&outlet, sizeof(bytes), 1);
		if (outlet.filling_length > hop_traits[HOP_LINK].first_chunk)
			assert_true(outlet_room(&outlet, &end, 0) > 3 * sizeof(bytes));
	}
	assert_true(outlet.filling_length > hop_traits[HOP_LINK].first_chunk);
	outlet_detach(&outlet);
}

TEST(impossible_index_is_an_error_of_each)
{
	static struct scene scene;
	uint8_t bytes[64] = {0};
	struct iovec piece = {bytes, sizeof(bytes)};
	struct outgoing data = {.pieces = &piece, .left = 64};
	uint64_t offset;
	uint32_t *word;

	start(&scene, HOP_SHARED);
	while (outlet_has_room(&scene.outlet, RING / 2))
		put(&scene, 1, 64);
	outlet_publish(&scene.outlet);
	scene.words.consumer = scene.outlet.writer.head + 8;
	assert_int_equal(outlet_has_room(&scene.outlet, RING), -EPROTO);
	assert_int_equal(outlet_see_taken(&scene.outlet), -EPROTO);
	assert_int_equal(outlet_ask_for_room(&scene.outlet, RING), -EPROTO);
	assert_int_equal(outlet_ask_for_taken(&scene.outlet), -EPROTO);
	assert_int_equal(outlet_find_word(&scene.outlet, &scene.ends[1], 8, &word), -EPROTO);
	assert_int_equal(outlet_find_released(&scene.outlet, &scene.ends[1], &offset), -EPROTO);
	while ((uint32_t)outlet_write(&scene.outlet, &scene.ends[1], &data) == 64)
		data = (struct outgoing){.pieces = &piece, .left = 64};
	assert_int_equal(outlet_write(&scene.outlet, &scene.ends[1], &data), -EPROTO);
	outlet_detach(&scene.outlet);
}
