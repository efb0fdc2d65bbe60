/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hostile_peer PEER MODE [ADDRESS]: the other end of a link, on stock libxenvchan, that behaves as badly as
 * MODE says. It finds together with the daemon of domain PEER as doc/protocol.md section 5.1 has it, then
 * misbehaves, and prints a line for each frame that comes back and CLOSED when the daemon hangs up. Ends
 * then, or when its standard input does. The modes flood-... are hostile_flood.c's, which are about ADDRESS.
 * The modes hoard... are hostile_hoard.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenstore.h>

#include "tests/integration/hostile_peer.h"
#include "wire/frame.h"

#define INSTANCE "11111111-2222-4333-8444-555555555555"

static struct link hop;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "hostile_peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

static void write_leaf(const char *path, const char *value, char access, unsigned reader)
{
	struct xs_permissions perms[2] = {
		{.id = hop.me, .perms = access == 'r' ? XS_PERM_READ : XS_PERM_NONE},
		{.id = reader, .perms = XS_PERM_READ},
	};

	if (!xs_write(hop.xs, XBT_NULL, path, value, (unsigned)strlen(value)) ||
	    !xs_set_permissions(hop.xs, XBT_NULL, path, perms, access == 'r' ? 1 : 2))
		die(path);
}

/* Looks until it is there, or gives up after 20 s. */
static char *await_leaf(const char *path)
{
	for (int i = 0; i < 2000; i++) {
		unsigned size;
		char *value = xs_read(hop.xs, XBT_NULL, path, &size);

		if (value && size)
			return value;
		free(value);
		poll(NULL, 0, 10);
	}
	die(path);
}

static void appear(void)
{
	char *domid;

	hop.xs = xs_open(0);
	if (!hop.xs)
		die("xs_open");
	domid = xs_read(hop.xs, XBT_NULL, "domid", NULL);
	if (!domid)
		die("domid");
	hop.me = (unsigned)atoi(domid);
	free(domid);
	write_leaf("data/xenmsg/presence", "1 " INSTANCE, 'r', 0);
}

void link_say_hello(struct link *link, uint32_t nonce)
{
	char path[128], hello[128];

	snprintf(hello, sizeof(hello), "1 " INSTANCE " %08x 1", nonce);
	snprintf(path, sizeof(path), "data/xenmsg/to/%u/hello", link->peer);
	write_leaf(path, hello, 'n', link->peer);
}

static void meet(void)
{
	char path[128], nonce[16], peer_nonce[16] = "";
	char *theirs;

	appear();
	snprintf(nonce, sizeof(nonce), "%08x", (unsigned)getpid());
	link_say_hello(&hop, (uint32_t)getpid());
	snprintf(path, sizeof(path), "/local/domain/%u/data/xenmsg/to/%u/hello", hop.peer, hop.me);
	theirs = await_leaf(path);
	if (sscanf(theirs, "1 %*s %15s", peer_nonce) != 1)
		die(theirs);
	free(theirs);
	if (hop.peer == 0 || (hop.me != 0 && hop.peer < hop.me)) { /* they map */
		snprintf(path, sizeof(path), "data/xenmsg/to/%u/%s", hop.peer, peer_nonce);
		hop.vchan = libxenvchan_server_init(NULL, (int)hop.peer, path, 65536, 65536);
		if (!hop.vchan)
			die("libxenvchan_server_init");
		hop.vchan->blocking = -1; /* true, in a signed bit */
		while (libxenvchan_is_open(hop.vchan) == 2)
			libxenvchan_wait(hop.vchan);
	} else {
		snprintf(path, sizeof(path), "/local/domain/%u/data/xenmsg/to/%u/%s/event-channel", hop.peer,
			 hop.me, nonce);
		free(await_leaf(path));
		snprintf(path, sizeof(path), "/local/domain/%u/data/xenmsg/to/%u/%s", hop.peer, hop.me,
			 nonce);
		for (int i = 0; i < 500 && !hop.vchan; i++) {
			hop.vchan = libxenvchan_client_init(NULL, (int)hop.peer, path);
			if (!hop.vchan)
				poll(NULL, 0, 10);
		}
		if (!hop.vchan)
			die("libxenvchan_client_init");
		hop.vchan->blocking = -1; /* true, in a signed bit */
		hop.vchan->server_persist = 0;
	}
	say("CONNECTED");
}

static void put(const void *data, size_t size)
{
	if (libxenvchan_send(hop.vchan, data, size) != (int)size)
		say("CLOSED while writing");
}

bool link_put_frame(struct link *link, uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	uint8_t bytes[FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX + 8];
	struct frame_header header = {
		.length = length, .type = type, .channel = channel, .sequence = link->sequence};
	uint32_t size;

	if (length)
		memcpy(bytes + FRAME_HEADER_SIZE, payload, length);
	size = frame_wrap(bytes, &header);
	if (libxenvchan_send(link->vchan, bytes, size) != (int)size)
		return false;
	link->sequence++;
	return true;
}

static void put_frame(uint8_t type, uint32_t channel, const void *payload, uint32_t length)
{
	if (!link_put_frame(&hop, type, channel, payload, length))
		say("CLOSED while writing");
}

static void put_hello(uint16_t major)
{
	struct frame_hello_link hello = {.major = major, .max_message = 1 << 24, .version = {"hostile", 7}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	memset(hello.instance, 0x11, sizeof(hello.instance));
	put_frame(FRAME_HELLO, 0, payload, frame_hello_link_encode(&hello, payload));
}

static void put_open(uint32_t channel, const char *endpoint)
{
	struct frame_open open = {
		.kind = CHANNEL_MESSAGE, .identity = {0, 0, 0, 1}, .name = {endpoint, strlen(endpoint)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	put_frame(FRAME_OPEN, channel, payload, frame_open_encode(&open, payload));
}

/* Our own indices, where stock libxenvchan has them. */
static struct ring_shared *write_ring(void)
{
	return hop.vchan->is_server ? &hop.vchan->ring->right : &hop.vchan->ring->left;
}

static void notify(void)
{
	/* one more frame would be noticed in any case; a bare event is enough here */
	xenevtchn_notify(hop.vchan->event, (evtchn_port_t)hop.vchan->event_port);
}

static void misbehave(const char *mode)
{
	uint32_t first = hop.me < hop.peer ? 0 : 1; /* channel numbers of our parity */
	uint8_t bytes[4096] = {0};

	if (!strcmp(mode, "garbage")) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(i * 167 + 99);
		put(bytes, sizeof(bytes));
		return;
	}
	put_hello(strcmp(mode, "version") ? 1 : 2);
	if (!strcmp(mode, "beyond-credit")) {
		put_open(first, "inbox");
		for (unsigned i = 0; i < 17; i++)
			put_frame(FRAME_DATA, first, bytes, sizeof(bytes));
	} else if (!strcmp(mode, "optional")) {
		/* The one that behaves: a stock libxenvchan at the other end of a link. */
		put_frame(200, 0, bytes, 100);
		put_frame(FRAME_PING, 0, "12345678", 8);
	} else if (!strcmp(mode, "producer")) {
		write_ring()->prod += 0x10000000;
		notify();
	} else if (!strcmp(mode, "live")) {
		/* Once the daemon has said something it's a link; before, it would only be tried anew. */
		while (libxenvchan_is_open(hop.vchan) == 1 && !libxenvchan_data_ready(hop.vchan))
			libxenvchan_wait(hop.vchan);
		if (hop.vchan->is_server)
			hop.vchan->ring->srv_live = 77;
		else
			hop.vchan->ring->cli_live = 77;
		notify();
	} else if (strcmp(mode, "version") != 0) {
		fprintf(stderr, "hostile_peer: there is no mode %s\n", mode);
		exit(2);
	}
}

/* What comes back, for people: type, and for GOODBYE and RESET what it says. */
static void report(const struct frame_header *header, const uint8_t *payload)
{
	struct frame_goodbye goodbye;
	struct frame_reset reset;

	if (header->type == FRAME_GOODBYE && frame_goodbye_decode(payload, header->length, &goodbye) == 0)
		printf("GOODBYE %u %.*s\n", goodbye.error, (int)goodbye.text.size, goodbye.text.data);
	else if (header->type == FRAME_RESET && frame_reset_decode(payload, header->length, &reset) == 0)
		printf("RESET %u\n", reset.error);
	else
		printf("%s\n", frame_type_name(header->type));
	fflush(stdout);
}

static bool exactly(void *data, uint32_t size)
{
	uint8_t *at = data;

	while (size) {
		int got;

		hop.vchan->blocking = 0;
		got = libxenvchan_read(hop.vchan, at, size);
		if (got < 0)
			return false;
		if (got == 0) {
			struct pollfd fds[2] = {
				{.fd = 0, .events = POLLIN},
				{.fd = libxenvchan_fd_for_select(hop.vchan), .events = POLLIN}};

			if (libxenvchan_is_open(hop.vchan) != 1 && libxenvchan_data_ready(hop.vchan) <= 0)
				return false;
			poll(fds, 2, 1000);
			if (fds[0].revents) /* the test has seen enough */
				exit(0);
			if (fds[1].revents)
				libxenvchan_wait(hop.vchan);
			continue;
		}
		at += got;
		size -= (uint32_t)got;
	}
	return true;
}

int main(int argc, char **argv)
{
	uint8_t bytes[FRAME_PAYLOAD_MAX + 8];
	struct frame_header header;

	if (argc != 3 && argc != 4)
		return 2;
	hop.peer = (unsigned)atoi(argv[1]);
	if (!strncmp(argv[2], "hoard", 5)) {
		appear();
		return link_hoard(&hop, !strcmp(argv[2], "hoard-lying"));
	}
	meet();
	if (!strncmp(argv[2], "flood-", 6)) {
		put_hello(1);
		return link_flood(&hop, argv[2] + 6, argc == 4 ? argv[3] : "") ? 0 : 2;
	}
	misbehave(argv[2]);
	while (exactly(bytes, FRAME_HEADER_SIZE) && frame_header_decode(bytes, &header) == 0 &&
	       exactly(bytes, frame_size(header.length) - FRAME_HEADER_SIZE)) {
		report(&header, bytes);
		if (header.type == FRAME_GOODBYE)
			break;
	}
	say("CLOSED");
	libxenvchan_close(hop.vchan);
	return 0;
}
