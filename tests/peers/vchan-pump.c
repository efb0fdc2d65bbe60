/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stock libxenvchan program: moves bytes from stdin into a vchan and from the vchan to stdout, both at
 * once, with select() and without ever blocking, as Xen's node-select does. It links nothing of this project.
 *
 *	vchan-pump server|client DOMID PATH BYTES
 *
 * A side ends when its input has ended and is written, and so many bytes have come; the server, whose pages
 * they are, when the client has closed besides. It makes rings of 1 KiB and of 64 KiB, which lie in the
 * shared page and in pages of their own.
 */
#include <libxenvchan.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>
#include <xenstore.h>

#define BUFFER 8192

struct buffer {
	char bytes[BUFFER];
	size_t used;
};

static struct libxenvchan *vchan;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void drop(struct buffer *buffer, size_t size)
{
	buffer->used -= size;
	memmove(buffer->bytes, buffer->bytes + size, buffer->used);
}

/* Waits for the server's nodes, as programs do that may be started first. */
static struct libxenvchan *connect_vchan(int domid, const char *path)
{
	struct xs_handle *xs = xs_open(0);
	struct libxenvchan *connected = NULL;
	char watched[256], **event;
	unsigned count;

	snprintf(watched, sizeof(watched), "%s/event-channel", path);
	if (!xs || !xs_watch(xs, watched, ""))
		fail("xs_watch");
	while (!connected) {
		event = xs_read_watch(xs, &count);
		if (!event)
			fail("xs_read_watch");
		free(event);
		connected = libxenvchan_client_init(NULL, domid, path);
	}
	xs_close(xs);
	return connected;
}

static void read_input(struct buffer *to_vchan, bool *input_ended)
{
	ssize_t n = read(STDIN_FILENO, to_vchan->bytes + to_vchan->used, BUFFER - to_vchan->used);

	if (n < 0)
		fail("read");
	to_vchan->used += (size_t)n;
	*input_ended = n == 0;
}

/* Moves what can be moved at once. Returns how much has come. */
static size_t move(struct buffer *to_vchan, struct buffer *from_vchan)
{
	size_t got = 0;
	int n;

	while (to_vchan->used && libxenvchan_buffer_space(vchan)) {
		n = libxenvchan_write(vchan, to_vchan->bytes, to_vchan->used);
		if (n < 0)
			fail("libxenvchan_write");
		drop(to_vchan, (size_t)n);
	}
	while (from_vchan->used < BUFFER && libxenvchan_data_ready(vchan)) {
		n = libxenvchan_read(vchan, from_vchan->bytes + from_vchan->used, BUFFER - from_vchan->used);
		if (n < 0)
			fail("libxenvchan_read");
		from_vchan->used += (size_t)n;
		got += (size_t)n;
	}
	return got;
}

/* Waits until something can be moved, and moves it between the buffers and stdin and stdout. */
static void wait_and_move(struct buffer *to_vchan, struct buffer *from_vchan, bool *input_ended)
{
	int events = libxenvchan_fd_for_select(vchan);
	fd_set readable, writable;

	FD_ZERO(&readable);
	FD_ZERO(&writable);
	FD_SET(events, &readable);
	if (!*input_ended && to_vchan->used < BUFFER)
		FD_SET(STDIN_FILENO, &readable);
	if (from_vchan->used)
		FD_SET(STDOUT_FILENO, &writable);
	if (select(events + 1, &readable, &writable, NULL, NULL) < 0)
		fail("select");
	if (FD_ISSET(events, &readable) && libxenvchan_wait(vchan) < 0)
		fail("libxenvchan_wait");
	if (FD_ISSET(STDIN_FILENO, &readable))
		read_input(to_vchan, input_ended);
	if (FD_ISSET(STDOUT_FILENO, &writable)) {
		ssize_t n = write(STDOUT_FILENO, from_vchan->bytes, from_vchan->used);

		if (n < 0)
			fail("write");
		drop(from_vchan, (size_t)n);
	}
}

int main(int argc, char **argv)
{
	bool server = argc == 5 && strcmp(argv[1], "server") == 0, input_ended = false;
	struct buffer to_vchan = {.used = 0}, from_vchan = {.used = 0};
	size_t wanted, got = 0;

	if (argc != 5) {
		fprintf(stderr, "usage: vchan-pump server|client DOMID PATH BYTES\n");
		return 2;
	}
	wanted = strtoull(argv[4], NULL, 10);
	vchan = server ? libxenvchan_server_init(NULL, atoi(argv[2]), argv[3], 1024, 65536)
		       : connect_vchan(atoi(argv[2]), argv[3]);
	if (!vchan)
		fail("libxenvchan_server_init");
	for (;;) {
		got += move(&to_vchan, &from_vchan);
		if (got >= wanted && !from_vchan.used && input_ended && !to_vchan.used &&
		    !(server && libxenvchan_is_open(vchan)))
			break;
		if (!server && got < wanted && !libxenvchan_is_open(vchan) &&
		    !libxenvchan_data_ready(vchan)) {
			fprintf(stderr, "the server has closed\n");
			return 1;
		}
		wait_and_move(&to_vchan, &from_vchan, &input_ended);
	}
	libxenvchan_close(vchan);
	return 0;
}
