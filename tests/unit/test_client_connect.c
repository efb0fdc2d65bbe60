/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about connecting.
 */
#include "tests/unit/client_recv_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/address.h"
#include "wire/bytes.h"

static const char *greeting;
static size_t greeting_size;

static void *greet(void *userdata)
{
	int listener = *(int *)userdata, fd = accept(listener, NULL, NULL);
	char hello[24];

	assert_int_equal(recv(fd, hello, sizeof(hello), MSG_WAITALL), sizeof(hello));
	assert_int_equal(send(fd, greeting, greeting_size, MSG_NOSIGNAL), greeting_size);
	close(fd);
	return NULL;
}

static int open_with_greeting(const void *bytes, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), r;
	char directory[] = "/tmp/xenmsg-test.XXXXXX";
	struct xenmsg *conn;
	pthread_t thread;

	greeting = bytes;
	greeting_size = size;
	assert_non_null(mkdtemp(directory));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, greet, &listener), 0);
	r = xenmsg_open(&conn, address.sun_path);
	pthread_join(thread, NULL);
	close(listener);
	unlink(address.sun_path);
	rmdir(directory);
	return r;
}

static void what_is_no_daemon_is_told(void **state)
{
	struct frame_header header = {.type = FRAME_GOODBYE, .length = 4};
	struct frame_welcome welcome = {.major = 2};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct xenmsg *conn;
	char path[200];

	assert_int_equal(xenmsg_open(&conn, "/nonexistent/socket"), -ENOENT);
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_int_equal(xenmsg_open(&conn, path), -ENAMETOOLONG);
	assert_int_equal(open_with_greeting("", 0), -ECONNREFUSED);
	assert_int_equal(open_with_greeting("HTTP/1.0 400 Bad Request\r\n\r\n", 28), -EPROTO);
	assert_int_equal(open_with_greeting("\x10\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0", 16), -ECONNREFUSED);

	frame_header_encode(&header, frame);
	put_u32(frame + FRAME_HEADER_SIZE, ENOBUFS);
	assert_int_equal(open_with_greeting(frame, FRAME_HEADER_SIZE + 8), -ENOBUFS);

	header = (struct frame_header){.type = FRAME_WELCOME};
	header.length = frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	assert_int_equal(open_with_greeting(frame, FRAME_HEADER_SIZE + header.length), -EPROTONOSUPPORT);

	/* Memory is said to be shared, but no descriptor comes with it. */
	welcome = (struct frame_welcome){.major = 1, .flags = HELLO_SHARED_MEMORY};
	header.length = frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	assert_int_equal(open_with_greeting(frame, FRAME_HEADER_SIZE + header.length), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_daemon_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
