/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rings against libxenvchan's own I/O functions, on a page laid out as xen/io/libxenvchan.h says: ring_*
 * at one end and the stock library at the other, in both roles. The event channel is this test's
 * xenevtchn_notify.
 */

#include <libxenvchan.h>

#include "tests/unit/ring_fixture.h"

#define LEFT_ORDER  10
#define RIGHT_ORDER 11
#define PORT	    42

static unsigned notified;

__attribute__((visibility("default"))) int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
	if (port != PORT) {
		errno = EINVAL;
		return -1;
	}
	notified++;
	return 0;
}

/* A vchan in one page: `stock` is libxenvchan's end, in and out are ours. */
struct pair {
	uint8_t *page;
	struct vchan_interface *interface;
	struct libxenvchan stock;
	struct ring_reader in;
	struct ring_writer out;
	uint32_t in_size, out_size;
};

static void start(struct pair *pair, bool stock_is_server, uint32_t index)
{
	struct vchan_interface *interface;
	struct ring_view left, right;

	memset(pair, 0, sizeof(*pair));
	assert_int_equal(posix_memalign((void **)&pair->page, 4096, 4096), 0);
	memset(pair->page, 0, 4096);
	pair->interface = interface = (struct vchan_interface *)(void *)pair->page;
	interface->left_order = LEFT_ORDER;
	interface->right_order = RIGHT_ORDER;
	interface->left.prod = interface->left.cons = index;
	interface->right.prod = interface->right.cons = index;
	interface->cli_live = interface->srv_live = 1;
	/* The left ring is written by the client. What the server asks for stands in cli_notify, and the
	 * other way round. */
	left = (struct ring_view){
		.data = pair->page + 1024,
		.size = 1u << LEFT_ORDER,
		.producer = &interface->left.prod,
		.consumer = &interface->left.cons,
		.wants_data = &interface->cli_notify,
		.wants_data_bit = VCHAN_NOTIFY_WRITE,
		.wants_space = &interface->srv_notify,
		.wants_space_bit = VCHAN_NOTIFY_READ,
	};
	right = (struct ring_view){
		.data = pair->page + 2048,
		.size = 1u << RIGHT_ORDER,
		.producer = &interface->right.prod,
		.consumer = &interface->right.cons,
		.wants_data = &interface->srv_notify,
		.wants_data_bit = VCHAN_NOTIFY_WRITE,
		.wants_space = &interface->cli_notify,
		.wants_space_bit = VCHAN_NOTIFY_READ,
	};
	assert_int_equal(ring_reader_init(&pair->in, stock_is_server ? &right : &left, true), 0);
	assert_int_equal(ring_writer_init(&pair->out, stock_is_server ? &left : &right, true), 0);
	pair->in_size = pair->in.ring.size;
	pair->out_size = pair->out.ring.size;
	pair->stock.ring = interface;
	pair->stock.event_port = PORT;
	if (stock_is_server)
		pair->stock.is_server = -1; /* a signed bit field */
	{
		struct libxenvchan_ring stock_left = {&interface->left, pair->page + 1024, LEFT_ORDER};
		struct libxenvchan_ring stock_right = {&interface->right, pair->page + 2048, RIGHT_ORDER};

		pair->stock.read = stock_is_server ? stock_left : stock_right;
		pair->stock.write = stock_is_server ? stock_right : stock_left;
	}
	notified = 0;
}

static void stop(struct pair *pair)
{
	free(pair->page);
}

TEST(bytes_from_the_stock_library_arrive)
{
	for (int server = 0; server < 2; server++) {
		struct pair pair;
		uint8_t bytes[2048];
		uint64_t sent = 0, received = 0;
		uint32_t random = 1;

		start(&pair, server, 0xfffffc01);
		while (received < 200000) {
			uint32_t size = 1 + (random = random * 1103515245 + 12345) / 65536 % pair.in_size;
			int r;

			pattern_fill(bytes, sent, size);
			r = random & 0x400 ? libxenvchan_write(&pair.stock, bytes, size)
					   : libxenvchan_send(&pair.stock, bytes, size);
			assert_true(r >= 0);
			sent += (uint64_t)r;
			r = ring_reader_ready(&pair.in, pair.in_size);
			assert_int_equal(r, sent - received);
			if (random & 0x800)
				r /= 2;
			ring_reader_copy(&pair.in, 0, bytes, (uint32_t)r);
			assert_true(pattern_is(bytes, received, (uint32_t)r));
			ring_reader_consume(&pair.in, (uint32_t)r);
			ring_reader_release(&pair.in);
			received += (uint64_t)r;
		}
		stop(&pair);
	}
}

TEST(bytes_reach_the_stock_library)
{
	for (int server = 0; server < 2; server++) {
		struct pair pair;
		uint8_t bytes[2048];
		uint64_t sent = 0, received = 0;
		uint32_t random = 1;

		start(&pair, server, 0xfffffc01);
		while (received < 200000) {
			uint32_t size = 1 + (random = random * 1103515245 + 12345) / 65536 % pair.out_size;
			int r = ring_writer_space(&pair.out, size);

			assert_true(r >= 0);
			if (size > (uint32_t)r)
				size = (uint32_t)r;
			pattern_fill(bytes, sent, size);
			ring_writer_put(&pair.out, bytes, size);
			ring_writer_publish(&pair.out);
			sent += size;
			assert_int_equal(libxenvchan_data_ready(&pair.stock), sent - received);
			r = (int)(sent - received);
			if (random & 0x800)
				r = libxenvchan_read(&pair.stock, bytes, (size_t)(r + 1) / 2);
			else
				r = libxenvchan_recv(&pair.stock, bytes, (size_t)r);
			assert_true(r > 0);
			assert_true(pattern_is(bytes, received, (uint32_t)r));
			received += (uint64_t)r;
		}
		stop(&pair);
	}
}

TEST(the_stock_library_notifies_a_sleeping_end)
{
	for (int server = 0; server < 2; server++) {
		struct pair pair;
		uint8_t bytes[2048] = {0};

		start(&pair, server, 0);
		/* Nobody sleeps: no notification. */
		assert_int_equal(libxenvchan_write(&pair.stock, bytes, 4), 4);
		assert_int_equal(notified, 0);
		assert_int_equal(ring_reader_ready(&pair.in, 1), 4);
		/* We sleep for data: exactly one. */
		assert_int_equal(ring_reader_arm(&pair.in, 5), 0);
		assert_int_equal(libxenvchan_write(&pair.stock, bytes, 4), 4);
		assert_int_equal(notified, 1);
		assert_int_equal(libxenvchan_write(&pair.stock, bytes, 4), 4);
		assert_int_equal(notified, 1);
		/* We sleep for space and for data, the bits in one byte: one for each, whichever comes
		 * first. */
		assert_int_equal(ring_writer_space(&pair.out, 1), pair.out_size);
		ring_writer_put(&pair.out, bytes, pair.out_size);
		ring_writer_publish(&pair.out);
		assert_int_equal(ring_writer_arm(&pair.out, 1), 0);
		assert_int_equal(ring_reader_arm(&pair.in, 13), 0);
		assert_int_equal(libxenvchan_read(&pair.stock, bytes, 100), 100);
		assert_int_equal(notified, 2);
		assert_int_equal(ring_writer_space(&pair.out, 1), 100);
		assert_int_equal(libxenvchan_write(&pair.stock, bytes, 4), 4);
		assert_int_equal(notified, 3);
		assert_int_equal(ring_reader_ready(&pair.in, 13), 16);
		stop(&pair);
	}
}

TEST(a_sleeping_stock_library_is_notified)
{
	for (int server = 0; server < 2; server++) {
		struct pair pair;
		uint8_t bytes[2048] = {0};

		start(&pair, server, 0xffffffff);
		ring_writer_put(&pair.out, bytes, 1);
		assert_false(ring_writer_publish(&pair.out));
		/* It asks for more than is there, so it would sleep. */
		assert_int_equal(libxenvchan_recv(&pair.stock, bytes, 2), 0);
		ring_writer_put(&pair.out, bytes, 1);
		assert_true(ring_writer_publish(&pair.out));
		ring_writer_put(&pair.out, bytes, 1);
		assert_false(ring_writer_publish(&pair.out));
		assert_int_equal(libxenvchan_recv(&pair.stock, bytes, 3), 3);
		/* It fills its ring and asks for space. */
		assert_int_equal(libxenvchan_write(&pair.stock, bytes, pair.in_size), pair.in_size);
		assert_int_equal(libxenvchan_write(&pair.stock, bytes, 1), 0);
		assert_int_equal(ring_reader_ready(&pair.in, 1), pair.in_size);
		ring_reader_consume(&pair.in, 10);
		assert_true(ring_reader_release(&pair.in));
		ring_reader_consume(&pair.in, 10);
		assert_false(ring_reader_release(&pair.in));
		assert_int_equal(libxenvchan_buffer_space(&pair.stock), 20);
		stop(&pair);
	}
}
