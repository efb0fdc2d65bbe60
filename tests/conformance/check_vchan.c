/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stock libxenvchan program for tests: it links nothing of this project. It opens one vchan, and then takes
 * commands on stdin, a line each, and answers each with one line, "ok ..." or "error ERRNO".
 *
 *	check-vchan server DOMID PATH LEFT RIGHT | client DOMID PATH
 */
#include <errno.h>
#include <libxenvchan.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DATA (1 << 21)

static void ok_number(long value)
{
	printf("ok %ld\n", value);
}

static void result(long value)
{
	if (value < 0)
		printf("error %d\n", errno);
	else
		ok_number(value);
}

/* Fills in bytes that tell their position in the stream, so that the reader can check each. */
static void fill(unsigned char *data, size_t size, unsigned long *position)
{
	for (size_t i = 0; i < size; i++, ++*position)
		data[i] = (unsigned char)(*position * 31 + (*position >> 8));
}

static int check(const unsigned char *data, size_t size, unsigned long *position)
{
	for (size_t i = 0; i < size; i++, ++*position)
		if (data[i] != (unsigned char)(*position * 31 + (*position >> 8)))
			return -1;
	return 0;
}

static void transfer(struct libxenvchan *ctrl, const char *command, size_t size, unsigned char *data)
{
	static unsigned long written, read_so_far;
	unsigned long position;
	int n;

	errno = 0;
	if (strcmp(command, "write") == 0 || strcmp(command, "send") == 0) {
		position = written;
		fill(data, size, &position);
		n = command[0] == 'w' ? libxenvchan_write(ctrl, data, size)
				      : libxenvchan_send(ctrl, data, size);
		if (n > 0)
			written += (unsigned long)n;
		result(n);
		return;
	}
	n = strcmp(command, "read") == 0 ? libxenvchan_read(ctrl, data, size)
					 : libxenvchan_recv(ctrl, data, size);
	if (n > 0 && check(data, (size_t)n, &read_so_far) < 0)
		printf("error corrupt\n");
	else
		result(n);
}

static void wait_event(struct libxenvchan *ctrl, int timeout_ms)
{
	struct pollfd pollfd = {.fd = libxenvchan_fd_for_select(ctrl), .events = POLLIN};
	int n = poll(&pollfd, 1, timeout_ms);

	if (n == 1 && libxenvchan_wait(ctrl) < 0)
		n = -1;
	result(n);
}

static int commands(struct libxenvchan *ctrl, unsigned char *data)
{
	char line[256], command[64];
	long number;

	while (fgets(line, sizeof(line), stdin)) {
		number = 0;
		if (sscanf(line, "%63s %ld", command, &number) < 1)
			continue;
		if (number < 0 || number > MAX_DATA) {
			printf("error range\n");
		} else if (strcmp(command, "text") == 0) {
			const char *text = line + 5;

			result(libxenvchan_write(ctrl, text, strcspn(text, "\n")));
		} else if (strcmp(command, "gettext") == 0) {
			int n = libxenvchan_read(ctrl, data, (size_t)number);

			printf(n < 0 ? "error %d\n" : "ok %.*s\n", n, data);
		} else if (strcmp(command, "wait") == 0) {
			wait_event(ctrl, (int)number);
		} else if (strcmp(command, "open") == 0) {
			ok_number(libxenvchan_is_open(ctrl));
		} else if (strcmp(command, "ready") == 0) {
			ok_number(libxenvchan_data_ready(ctrl));
		} else if (strcmp(command, "space") == 0) {
			ok_number(libxenvchan_buffer_space(ctrl));
		} else if (strcmp(command, "blocking") == 0) {
			ctrl->blocking = number ? -1 : 0; /* a signed bit */
			ok_number(number);
		} else if (strcmp(command, "persist") == 0) {
			ctrl->server_persist = number ? -1 : 0;
			ok_number(number);
		} else if (strcmp(command, "byte") == 0) {
			ok_number(((volatile unsigned char *)ctrl->read.buffer)[number]);
		} else if (strcmp(command, "ringbyte") == 0) {
			ok_number(((volatile unsigned char *)ctrl->ring)[number]);
		} else if (strcmp(command, "close") == 0) {
			libxenvchan_close(ctrl);
			ok_number(0);
			fflush(stdout);
			return 0;
		} else {
			transfer(ctrl, command, (size_t)number, data);
		}
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct libxenvchan *ctrl = NULL;
	unsigned char *data = malloc(MAX_DATA);
	int status;

	errno = 0;
	if (data && argc == 6 && strcmp(argv[1], "server") == 0)
		ctrl = libxenvchan_server_init(NULL, atoi(argv[2]), argv[3], (size_t)atol(argv[4]),
					       (size_t)atol(argv[5]));
	else if (data && argc == 4 && strcmp(argv[1], "client") == 0)
		ctrl = libxenvchan_client_init(NULL, atoi(argv[2]), argv[3]);
	else
		return 2;
	if (!ctrl) {
		printf("error %d\n", errno);
		free(data);
		return 1;
	}
	ctrl->blocking = -1;
	if (!ctrl->is_server)
		ctrl->server_persist = 0;
	printf("ok %u\n", ctrl->event_port);
	fflush(stdout);
	status = commands(ctrl, data);
	free(data);
	return status;
}
