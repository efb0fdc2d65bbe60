/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/client_fixture.h"

#include <poll.h>

struct fake fake;
uint8_t stream[FRAME_PAYLOAD_MAX * 8]; /* of the rigs that have a use for it */

int set_up_shared(void **state)
{
	fake_start(&fake, true);
	return 0;
}

int set_up_socket(void **state)
{
	fake_start(&fake, false);
	return 0;
}

int tear_down(void **state)
{
	fake_stop(&fake);
	return 0;
}

bool is_readable(struct xenmsg *conn)
{
	struct pollfd wait = {.fd = xenmsg_fd(conn), .events = POLLIN};

	return poll(&wait, 1, 0) == 1;
}

void loop_once(struct xenmsg *conn)
{
	struct pollfd wait = {.fd = xenmsg_fd(conn), .events = POLLIN};

	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_true(xenmsg_process(conn) >= 0);
}

void expect_over(int error)
{
	while (xenmsg_wait(fake.conn, 10000) >= 0)
		;
	assert_int_equal(xenmsg_process(fake.conn), error);
}

void fill(uint8_t *data, size_t size, uint32_t seed)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
}
