/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Floods a link with frames that are legal, one by one, and takes what comes back. Asked for "count" it
 * answers "ok FRAMES ANSWERS OPEN": frames that were put, frames that came, and whether the link is still
 * there.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenstore.h>

#include "tests/integration/hostile_peer.h"

#define NUMBERS	       (CHANNEL_NUMBERS / 2) /* of our parity */
#define OPENS_MAX      512u
#define BURST	       64u
#define UNANSWERED_MAX 4096u
#define MESSAGE_SIZE   24u /* of one byte */
#define STATE_AT       16u
#define SINK	       "sink"

enum number_state {
	NUMBER_FREE,
	NUMBER_OPEN,
	NUMBER_ENDING,
};

struct flood {
	struct link *link;
	uint32_t parity, next, outstanding;
	uint8_t numbers[NUMBERS];
	uint64_t sent, limit; /* on the channel with our first number */
	uint64_t frames, answers;
	uint32_t step;
	bool is_open;
	uint32_t relay_to; /* the domain that the relayed ones are for */
};

static bool put(struct flood *flood, uint8_t type, uint32_t number, const void *payload, uint32_t length)
{
	if (!link_put_frame(flood->link, type, number, payload, length))
		return false;
	flood->frames++;
	return true;
}

static bool put_open(struct flood *flood, uint32_t number, const char *endpoint)
{
	/* Each is of another user, as this domain has it. */
	const struct frame_open open = {.kind = CHANNEL_MESSAGE,
					.identity = {0, flood->step, 0, 1},
					.name = {endpoint, strlen(endpoint)}};
	uint8_t payload[FRAME_SMALL_MAX];

	flood->step++;
	return put(flood, FRAME_OPEN, number, payload, frame_open_encode(&open, payload));
}

static bool put_reset(struct flood *flood, uint32_t number)
{
	const struct frame_reset reset = {.error = ECANCELED};
	uint8_t payload[FRAME_SMALL_MAX];

	return put(flood, FRAME_RESET, number, payload, frame_reset_encode(&reset, payload));
}

static bool put_number(struct flood *flood, uint8_t type, uint32_t number, uint64_t value)
{
	uint8_t payload[8];

	return put(flood, type, number, payload, frame_u64_encode(value, payload));
}

static void set_number(struct flood *flood, uint32_t number, enum number_state state)
{
	uint8_t *at = &flood->numbers[number / 2 % NUMBERS];

	flood->outstanding += (state != NUMBER_FREE) - (*at != NUMBER_FREE);
	*at = (uint8_t)state;
}

static bool open_next(struct flood *flood, const char *endpoint, uint32_t *number)
{
	if (flood->outstanding >= OPENS_MAX)
		return false;
	while (flood->numbers[flood->next % NUMBERS] != NUMBER_FREE)
		flood->next++;
	*number = flood->next % NUMBERS * 2 + flood->parity;
	if (!put_open(flood, *number, endpoint))
		return false;
	set_number(flood, *number, NUMBER_OPEN);
	flood->next++;
	return true;
}

/* --- ways: each puts a frame or two, and is false when there is no room ----------------------- */

static bool opens(struct flood *flood)
{
	uint32_t number;

	if (!open_next(flood, SINK, &number))
		return false;
	if (put_reset(flood, number))
		set_number(flood, number, NUMBER_ENDING);
	return true;
}

static bool refused(struct flood *flood)
{
	uint32_t number;

	return open_next(flood, "nobody", &number);
}

static bool fins(struct flood *flood)
{
	uint32_t number;

	return open_next(flood, SINK, &number) && put_number(flood, FRAME_FIN, number, 0);
}

static bool open_relayed(struct flood *flood, const char *endpoint, uint32_t *number)
{
	char address[80];

	snprintf(address, sizeof(address), "%u:%s", flood->relay_to, endpoint);
	return open_next(flood, address, number);
}

static bool relayed_opens(struct flood *flood)
{
	uint32_t number;

	if (!open_relayed(flood, SINK, &number))
		return false;
	if (put_reset(flood, number))
		set_number(flood, number, NUMBER_ENDING);
	return true;
}

static bool relayed_refused(struct flood *flood)
{
	uint32_t number;

	return open_relayed(flood, "nobody", &number);
}

static bool relayed_pings(struct flood *flood)
{
	const struct frame_ping_relayed ping = {.token = flood->step++, .number = flood->relay_to};
	uint8_t payload[FRAME_PING_RELAYED_SIZE];

	return put(flood, FRAME_PING, 0, payload, frame_ping_relayed_encode(&ping, payload));
}

/* About channels that have ended, for all that the other side can know. */
static bool ignored(struct flood *flood)
{
	const struct frame_credit credit = {0};
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t number = flood->step++ % NUMBERS * 2 + flood->parity;

	if (flood->step % 3 == 0)
		return put_number(flood, FRAME_CANCEL, number, 0);
	if (flood->step % 3 == 1)
		return put(flood, FRAME_OPTIONAL + 72, number, NULL, 0);
	return put(flood, FRAME_CREDIT, number, payload, frame_credit_encode(&credit, payload));
}

/* Of who leaves half a MiB of answers unread, the link is ended: each PING is answered by a PONG and an
 * ACK. */
static bool pings(struct flood *flood)
{
	if (flood->frames >= flood->answers / 2 + UNANSWERED_MAX)
		return false;
	return put_number(flood, FRAME_PING, 0, flood->step++);
}

static bool has_channel(struct flood *flood)
{
	if (!flood->is_open && put_open(flood, flood->parity, SINK)) {
		flood->is_open = true;
		flood->sent = 0;
		flood->limit = CHANNEL_INITIAL_LIMIT;
	}
	return flood->is_open;
}

static bool small_frames(struct flood *flood)
{
	static const uint8_t message[MESSAGE_SIZE] = {1, [8] = 'x'};

	if (!has_channel(flood) || flood->sent + MESSAGE_SIZE > flood->limit ||
	    !put(flood, FRAME_DATA, flood->parity, message, MESSAGE_SIZE))
		return false;
	flood->sent += MESSAGE_SIZE;
	return true;
}

static bool cancels(struct flood *flood)
{
	uint64_t messages;

	if (small_frames(flood))
		return true;
	messages = flood->sent / MESSAGE_SIZE;
	return flood->is_open && messages &&
	       put_number(flood, FRAME_CANCEL, flood->parity,
			  flood->step++ % messages * MESSAGE_SIZE + STATE_AT);
}

/* 300 endpoints, each time others: whoever watches them is told. */
static bool leaves(struct flood *flood)
{
	char path[64], text[2048];
	int length = 0;

	for (unsigned i = 0; i < 300; i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "n%u%c%s", i,
				   'a' + (char)(flood->step % 26), i < 299 ? " " : "");
	flood->step++;
	snprintf(path, sizeof(path), "data/xenmsg/to/%u/endpoints", flood->link->peer);
	if (xs_write(flood->link->xs, XBT_NULL, path, text, (unsigned)strlen(text)))
		flood->frames++;
	return false; /* one of these is enough for a turn */
}

/* A hello for another vchan each time: who takes it for a new attempt makes one. */
static bool hellos(struct flood *flood)
{
	char path[64], text[128];

	snprintf(path, sizeof(path), "data/xenmsg/to/%u/hello", flood->link->peer);
	snprintf(text, sizeof(text), "1 11111111-2222-4333-8444-555555555555 %08x 1", ++flood->step);
	if (xs_write(flood->link->xs, XBT_NULL, path, text, (unsigned)strlen(text)))
		flood->frames++;
	return false;
}

/* Another daemon each time. */
static bool presences(struct flood *flood)
{
	char text[128];

	snprintf(text, sizeof(text), "1 11111111-2222-4333-8444-%012x", ++flood->step);
	if (xs_write(flood->link->xs, XBT_NULL, "data/xenmsg/presence", text, (unsigned)strlen(text)))
		flood->frames++;
	return false;
}

static const struct way {
	const char *name;
	bool (*go)(struct flood *flood);
} ways[] = {
	{"opens", opens},
	{"refused", refused},
	{"fins", fins},
	{"ignored", ignored},
	{"pings", pings},
	{"cancels", cancels},
	{"leaves", leaves},
	{"small-frames", small_frames},
	{"hellos", hellos},
	{"presences", presences},
	{"relayed-opens", relayed_opens},
	{"relayed-refused", relayed_refused},
	{"relayed-pings", relayed_pings},
};

/* --- what comes ------------------------------------------------------------------------------- */

static void on_reset(struct flood *flood, uint32_t number)
{
	if (number == flood->parity && flood->is_open) {
		put_reset(flood, number);
		flood->is_open = false;
	} else if ((number & 1) != flood->parity) {
		put_reset(flood, number);
	} else {
		if (flood->numbers[number / 2 % NUMBERS] == NUMBER_OPEN)
			put_reset(flood, number);
		set_number(flood, number, NUMBER_FREE);
	}
}

static void on_frame(struct flood *flood, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_opened opened;
	struct frame_credit credit;

	flood->answers++;
	if (header->type == FRAME_RESET) {
		on_reset(flood, header->channel);
	} else if (header->type == FRAME_FIN) {
		set_number(flood, header->channel, NUMBER_FREE);
	} else if (header->type == FRAME_PING) {
		put(flood, FRAME_PONG, 0, payload, 8);
	} else if (header->channel == flood->parity && header->type == FRAME_OPENED &&
		   frame_opened_decode(payload, header->length, &opened) == 0) {
		flood->limit = opened.limit > flood->limit ? opened.limit : flood->limit;
	} else if (header->channel == flood->parity && header->type == FRAME_CREDIT &&
		   frame_credit_decode(payload, header->length, &credit) == 0) {
		flood->limit = credit.limit > flood->limit ? credit.limit : flood->limit;
	}
}

/* All that is there, as long as answers find room. How many. */
static unsigned take(struct flood *flood)
{
	static uint8_t bytes[FRAME_PAYLOAD_MAX + 8];
	struct libxenvchan *vchan = flood->link->vchan;
	struct frame_header header;
	unsigned count = 0;

	while (libxenvchan_data_ready(vchan) >= (int)FRAME_HEADER_SIZE &&
	       libxenvchan_buffer_space(vchan) >= 256) {
		if (libxenvchan_recv(vchan, bytes, FRAME_HEADER_SIZE) != (int)FRAME_HEADER_SIZE ||
		    frame_header_decode(bytes, &header) < 0)
			exit(1);
		/* Frames are put whole. */
		if (header.length &&
		    libxenvchan_recv(vchan, bytes, frame_size(header.length) - FRAME_HEADER_SIZE) <= 0)
			exit(1);
		on_frame(flood, &header, bytes);
		count++;
	}
	return count;
}

static void wait_a_moment(struct flood *flood, bool *ended)
{
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
				{.fd = libxenvchan_fd_for_select(flood->link->vchan), .events = POLLIN}};
	char line[80];

	poll(fds, 2, 1);
	if (fds[1].revents)
		libxenvchan_wait(flood->link->vchan);
	if (!fds[0].revents)
		return;
	*ended = read(STDIN_FILENO, line, sizeof(line)) <= 0;
	printf("ok %llu %llu %d\n", (unsigned long long)flood->frames, (unsigned long long)flood->answers,
	       libxenvchan_is_open(flood->link->vchan));
	fflush(stdout);
}

bool link_flood(struct link *link, const char *name, uint32_t relay_to)
{
	static struct flood flood;
	const struct way *way = NULL;
	bool ended = false;

	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(ways[i].name, name))
			way = &ways[i];
	if (!way)
		return false;
	flood.link = link;
	flood.relay_to = relay_to;
	flood.parity = link->me < link->peer ? 0 : 1;
	flood.next = 1; /* the first number is for has_channel() */
	flood.numbers[0] = NUMBER_OPEN;
	link->vchan->blocking = 0;
	while (!ended) {
		unsigned count = 0;

		/* Those that write to XenStore need no link, and may end it. */
		if (libxenvchan_is_open(link->vchan) != 1) {
			way->go(&flood);
			wait_a_moment(&flood, &ended);
			continue;
		}
		while (count < BURST && libxenvchan_buffer_space(link->vchan) >= 512 && way->go(&flood))
			count++;
		count += take(&flood);
		if (count == 0 || flood.frames % 1024 < BURST)
			wait_a_moment(&flood, &ended);
	}
	libxenvchan_close(link->vchan);
	return true;
}
