/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about messages that lie in the ring while the program has them: they stay as they
 * came, they hold up nothing for ever, and what is reported of them is the truth.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "wire/bytes.h"
#include "wire/ring.h"

#define SIZE 20000u
#define SPAN (8u + SIZE + 8u)

static uint8_t data[FRAME_PAYLOAD_MAX], frame[FRAME_PAYLOAD_MAX];
static uint32_t sent, came;

static void bind_lending(void)
{
	sent = came = 0;
	open_inbox_with(XENMSG_ONLY_MESSAGES | XENMSG_LEND, NULL);
}

static void deliver_one(uint32_t size)
{
	fill(data, size, sent++);
	fake_send(&fake, FRAME_DATA, 0, 1, frame, fake_message(frame, data, size, MESSAGE_SENT));
}

static void expect_content(struct xenmsg_message *message, uint32_t size, uint32_t seed)
{
	fill(data, size, seed);
	expect_payload(message, data, size);
}

static struct xenmsg_message *take(uint32_t size)
{
	struct xenmsg_message *message = recv_one();

	expect_content(message, size, came++);
	return message;
}

/* How many bytes of the ring the daemon may not write to. */
static uint32_t unread(void)
{
	int r = ring_writer_unread(&fake.deliveries);

	assert_true(r >= 0);
	return (uint32_t)r;
}

SHARED(is_in_the_ring_until_it_is_freed)
{
	struct xenmsg_message *message;
	uint32_t place;

	bind_lending();
	place = fake.deliveries.head + FRAME_HEADER_SIZE + 8;
	deliver_one(SIZE);
	message = take(SIZE);
	assert_int_equal(unread(), SPAN);
	/* The very same bytes. */
	fake.deliveries.ring.data[place] ^= 1;
	assert_int_equal(*(uint8_t *)xenmsg_message_data(message), fake.deliveries.ring.data[place]);
	/* Its sender's daemon can see that it is too late to cancel it. */
	assert_int_equal(*ring_writer_word(&fake.deliveries, place + SIZE), MESSAGE_TAKEN);
	xenmsg_message_free(message);
	assert_int_equal(unread(), 0);
}

/* Each page more is one that hundreds of programs make and fill at once, when their daemon hands over. */
SHARED(other_memory_gets_what_lies_in_the_rings_and_no_more)
{
	const size_t pages = FAKE_MEMORY_SIZE / 4096;
	unsigned char are_there[FAKE_MEMORY_SIZE / 4096];
	struct xenmsg_message *message;
	size_t count = 0;
	void *memory;

	bind_lending();
	while (fake.deliveries.head % FAKE_RING_SIZE < FAKE_RING_SIZE - SPAN - FRAME_HEADER_SIZE) {
		deliver_one(SIZE);
		xenmsg_message_free(take(SIZE));
	}
	deliver_one(SIZE);
	deliver_one(SIZE); /* around the ring's end */
	message = take(SIZE);
	memory = fake_offer_memory(&fake);
	for (int i = 0; i < 3; i++)
		assert_true(xenmsg_process(fake.conn) >= 0);
	assert_int_equal(mincore(memory, FAKE_MEMORY_SIZE, are_there), 0);
	for (size_t i = 0; i < pages; i++)
		count += are_there[i] & 1;
	assert_in_range(count, 2 * SPAN / 4096, 2 * SPAN / 4096 + 5);
	fake_use_memory(&fake, memory);
	xenmsg_message_free(message);
	xenmsg_message_free(take(SIZE));
	assert_int_equal(unread(), 0);
	deliver_one(SIZE);
	xenmsg_message_free(take(SIZE));
}

SHARED(is_given_back_in_order_however_it_is_freed)
{
	struct xenmsg_message *first, *second, *third;

	bind_lending();
	for (int i = 0; i < 3; i++)
		deliver_one(SIZE);
	first = take(SIZE);
	second = take(SIZE);
	third = take(SIZE);
	xenmsg_message_free(second);
	assert_int_equal(unread(), 3 * SPAN + 2 * FRAME_HEADER_SIZE);
	xenmsg_message_free(first);
	assert_int_equal(unread(), SPAN);
	xenmsg_message_free(third);
	assert_int_equal(unread(), 0);
}

SHARED(is_kept_when_the_program_waits)
{
	struct xenmsg_message *held[3];
	uint8_t *at[3];

	bind_lending();
	for (int i = 0; i < 3; i++)
		deliver_one(SIZE);
	for (int i = 0; i < 3; i++) {
		held[i] = take(SIZE);
		at[i] = xenmsg_message_data(held[i]);
	}
	at[1][0] ^= 0xff; /* the program may write to it */
	expect_nothing(); /* which waits */
	assert_int_equal(unread(), 0);
	memset(fake.deliveries.ring.data, 0xee, FAKE_RING_SIZE);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(xenmsg_message_data(held[i]), at[i]);
	at[1][0] ^= 0xff;
	for (uint32_t i = 0; i < 3; i++)
		expect_content(held[i], SIZE, i);
	xenmsg_message_free(held[2]);
	expect_content(held[0], SIZE, 0);
	xenmsg_message_free(held[0]);
	xenmsg_message_free(held[1]);
}

SHARED(is_copied_when_it_is_detached)
{
	struct xenmsg_message *message;

	bind_lending();
	deliver_one(SIZE);
	message = take(SIZE);
	assert_int_equal(xenmsg_message_detach(message), 0);
	assert_int_equal(unread(), 0);
	memset(fake.deliveries.ring.data, 0xee, FAKE_RING_SIZE);
	expect_content(message, SIZE, 0);
	fake_close(&fake);
	expect_content(message, SIZE, 0);
	xenmsg_message_free(message);
}

SHARED(one_that_is_never_freed_holds_up_nothing)
{
	struct xenmsg_message *held;

	bind_lending();
	deliver_one(SIZE);
	held = take(SIZE);
	/* many rings full, without a wait of the program */
	for (int i = 0; i < 200; i++) {
		deliver_one(SIZE);
		xenmsg_message_free(take(SIZE));
		assert_true(unread() <= FAKE_RING_SIZE / 2 + SPAN + FRAME_HEADER_SIZE);
	}
	expect_content(held, SIZE, 0);
	xenmsg_message_free(held);
}

BOTH(any_size_and_place_comes_as_it_was)
{
	struct xenmsg_message *held[5] = {0};
	uint32_t sizes[5], seeds[5];

	bind_lending();
	srand(7);
	for (int i = 0; i < 2000; i++) {
		unsigned slot =
			(unsigned)rand() % (i % 100 < 50 ? 1 : 5); /* some are freed late, as times go */

		if (held[slot])
			expect_content(held[slot], sizes[slot], seeds[slot]);
		xenmsg_message_free(held[slot]);
		sizes[slot] = (uint32_t)rand() % 60000;
		seeds[slot] = sent;
		deliver_one(sizes[slot]);
		held[slot] = take(sizes[slot]);
	}
	for (int i = 0; i < 5; i++)
		xenmsg_message_free(held[i]);
}

SHARED(outlives_the_connection_and_counts_as_taken)
{
	struct xenmsg_message *message;

	bind_lending();
	deliver_one(SIZE);
	message = take(SIZE);
	fake_close(&fake);
	assert_int_equal(unread(), 0);
	memset(fake.deliveries.ring.data, 0xee, FAKE_RING_SIZE);
	expect_content(message, SIZE, 0);
	xenmsg_message_free(message);
}

SHARED(an_end_says_that_it_was_taken)
{
	struct xenmsg_message *first, *second;

	bind_lending();
	deliver_one(SIZE);
	deliver_one(SIZE);
	first = take(SIZE);
	fake_fin(&fake, 1, 2 * SPAN);
	second = take(SIZE);
	expect_nothing();
	assert_int_equal(unread(), 0);
	fake_expect(&fake, FRAME_FIN);
	expect_content(first, SIZE, 0);
	expect_content(second, SIZE, 1);
	xenmsg_message_free(first);
	xenmsg_message_free(second);
}

SHARED(a_reset_says_that_it_was_taken)
{
	struct xenmsg_message *message;

	bind_lending();
	deliver_one(SIZE);
	message = take(SIZE);
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	expect_nothing();
	expect_reset(1, ECONNRESET, SPAN);
	expect_content(message, SIZE, 0);
	xenmsg_message_free(message);
}

SHARED(a_cancelled_one_is_skipped)
{
	bind_lending();
	fill(data, SIZE, sent++);
	fake_send(&fake, FRAME_DATA, 0, 1, frame, fake_message(frame, data, SIZE, MESSAGE_CANCELLED));
	came++;
	deliver_one(SIZE);
	xenmsg_message_free(take(SIZE));
	assert_int_equal(unread(), 0);
}

/* ---- reserved messages ----------------------------------------------------------------------- */

static void *reserve(const char *address, size_t size)
{
	void *at;

	assert_int_equal(xenmsg_reserve(fake.conn, address, size, &at), 0);
	assert_int_equal((uintptr_t)at % 8, 0);
	return at;
}

static void commit(size_t size, int *result)
{
	*result = PENDING;
	assert_int_equal(xenmsg_commit(fake.conn, size, NULL, note_outcome, result, NULL), 0);
}

static void expect_in_stream(uint32_t channel, uint32_t size, uint32_t seed)
{
	static uint8_t bytes[1u << 18];

	read_stream(channel, bytes, 8 + ((size + 7) & ~7u) + 8);
	assert_int_equal(get_u64(bytes), size);
	fill(data, size, seed);
	assert_memory_equal(bytes + 8, data, size);
	for (uint32_t i = size; i % 8; i++)
		assert_int_equal(bytes[8 + i], 0);
	assert_int_equal(get_u64(bytes + 8 + ((size + 7) & ~7u)), MESSAGE_SENT);
}

BOTH(is_sent_from_where_it_is_written)
{
	uint32_t channel;
	int result;
	uint8_t *at = reserve("5:inbox", 30000);

	channel = expect_open("5:inbox");
	at[0] = 0x5a;
	/* behind OPEN: in the ring, or in memory of the library's */
	if (fake.shared)
		assert_int_equal(fake.out.ring.data[(fake.out.tail & (fake.out.ring.size - 1)) +
						    FRAME_HEADER_SIZE + 8],
				 0x5a);
	fill(at, SIZE - 3, 1);
	commit(SIZE - 3, &result);
	expect_in_stream(channel, SIZE - 3, 1);
	assert_int_equal(result, PENDING);
	fake_credit(&fake, channel, SPAN, 65536);
	assert_int_equal(outcome_of(&result), 0);
}

BOTH(is_one_at_a_time)
{
	void *at, *other;

	assert_int_equal(xenmsg_commit(fake.conn, 0, NULL, NULL, NULL, NULL), -EINVAL);
	at = reserve("5:inbox", SIZE);
	assert_int_equal(xenmsg_reserve(fake.conn, "5:inbox", SIZE, &other), -EBUSY);
	assert_null(other);
	assert_int_equal(xenmsg_commit(fake.conn, SIZE + 1, NULL, NULL, NULL, NULL), -EINVAL);
	fill(at, SIZE, 3);
	xenmsg_unreserve(fake.conn);
	xenmsg_unreserve(fake.conn);
	expect_open("5:inbox");
	assert_false(fake_has_frame(&fake));
	assert_int_equal(xenmsg_commit(fake.conn, 0, NULL, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_reserve(fake.conn, "nonsense", SIZE, &other), -EINVAL);
	assert_int_equal(xenmsg_reserve(fake.conn, "5:inbox", FAKE_MAX_MESSAGE + 1, &other), -EMSGSIZE);
}

BOTH(makes_way_for_what_is_sent_meanwhile)
{
	uint8_t *at = reserve("5:inbox", SIZE);
	uint32_t channel, other;
	int result, others;

	fill(at, SIZE, 1);
	fill(data, 64, 2);
	post("6:other", data, 64, &others); /* a channel of its own is opened */
	at[SIZE - 1] ^= 1;		    /* `at` is valid still */
	at[SIZE - 1] ^= 1;
	channel = expect_open("5:inbox");
	other = expect_open("6:other");
	expect_in_stream(other, 64, 2);
	commit(SIZE, &result);
	expect_in_stream(channel, SIZE, 1);
	fake_credit(&fake, other, SPAN_64, 65536);
	assert_int_equal(outcome_of(&others), 0);
	fake_credit(&fake, channel, SPAN, 65536);
	assert_int_equal(outcome_of(&result), 0);
}

BOTH(any_size_goes)
{
	static const uint32_t sizes[] = {0, 1, 4095, 4096, 4097, 40001, 65520, 65521, 200000};
	static uint8_t bytes[200000 + 16], got[sizeof(bytes)];
	uint64_t credit = 0;
	uint32_t channel = 0;

	for (uint32_t i = 0; i < 300; i++) {
		uint32_t size = sizes[i % 9], span = 8 + ((size + 7) & ~7u) + 8;
		uint8_t *at = reserve("5:inbox", size);
		int result;

		fill(bytes, size, i);
		memcpy(at, bytes, size);
		commit(size, &result);
		if (i == 0) {
			channel = expect_open("5:inbox");
			fake_opened(&fake, channel, 1u << 30, FAKE_MAX_MESSAGE);
		}
		read_stream(channel, got, span);
		assert_int_equal(get_u64(got), size);
		assert_memory_equal(got + 8, bytes, size);
		credit += span;
		fake_credit(&fake, channel, credit, 1u << 30);
		assert_int_equal(outcome_of(&result), 0);
	}
}

BOTH(can_be_withdrawn_once_it_is_sent)
{
	uint8_t *at = reserve("5:inbox", SIZE);
	struct xenmsg_op *op;
	uint32_t channel;
	int result;

	memset(at, 1, SIZE);
	result = PENDING;
	assert_int_equal(xenmsg_commit(fake.conn, SIZE, NULL, note_outcome, &result, &op), 0);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	channel = expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	fake_expect(&fake, FRAME_CANCEL);
	fake_cancelled(&fake, channel, SPAN - 8, ECANCELED);
	assert_int_equal(outcome_of(&result), -ETIMEDOUT);
}

BOTH(ends_with_its_channel_or_the_daemon)
{
	uint8_t *at = reserve("5:inbox", SIZE);
	uint32_t channel = expect_open("5:inbox");
	int result;

	/* Another channel takes its place. */
	fake_reset(&fake, channel, ENOENT, 0, 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_RESET);
	fill(at, SIZE, 9);
	commit(SIZE, &result);
	channel = expect_open("5:inbox");
	expect_in_stream(channel, SIZE, 9);
	at = reserve("5:inbox", SIZE);
	fake_die(&fake);
	assert_int_equal(outcome_of(&result), -ECONNRESET);
	memset(at, 0, SIZE);
	assert_int_equal(xenmsg_commit(fake.conn, SIZE, NULL, NULL, NULL, NULL), -ENOTCONN);
	assert_int_equal(xenmsg_commit(fake.conn, SIZE, NULL, NULL, NULL, NULL), -ENOTCONN);
}
