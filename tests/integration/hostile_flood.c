/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Floods a link with frames that are legal, one by one, and takes what comes back: by the attacks of
 * hostile_frames.c, and by some that only a domain can make. Asked for "count" it answers "ok FRAMES ANSWERS
 * OPEN": frames that were put, frames that came, and whether the link is still there.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenstore.h>

#include "tests/integration/hostile_peer.h"
#include "tests/integration/hostile_program.h"

#define UNANSWERED_MAX 4096u

/* About channels that have ended, for all that the other side can know. */
static bool put_ignored(struct attacker *attacker, struct session *session)
{
	const struct frame_credit credit = {0};
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t number = session->step++ % NUMBERS * 2 + session->first;

	if (session->step % 3 == 0)
		return session_put_number(attacker, session, FRAME_CANCEL, number, 0);
	if (session->step % 3 == 1)
		return session_put(attacker, session, FRAME_OPTIONAL + 72, number, NULL, 0);
	return session_put(attacker, session, FRAME_CREDIT, number, payload,
			   frame_credit_encode(&credit, payload));
}

/* Of who leaves half a MiB of answers unread, the link is ended: each PING is answered by a PONG and an
 * ACK. */
static bool put_ping(struct attacker *attacker, struct session *session)
{
	if (attacker->frames >= attacker->answers / 2 + UNANSWERED_MAX)
		return false;
	return session_put_number(attacker, session, FRAME_PING, 0, session->step++);
}

/* False: one of these is enough for a turn. */
static bool write_node(struct attacker *attacker, struct session *session, const char *path, const char *text)
{
	if (xs_write(session->link->xs, XBT_NULL, path, text, (unsigned)strlen(text)))
		attacker->frames++;
	return false;
}

/* 300 endpoints, each time others: whoever watches them is told. */
static bool put_leaf(struct attacker *attacker, struct session *session)
{
	char path[64], text[2048];
	int length = 0;

	for (unsigned i = 0; i < 300; i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "n%u%c%s", i,
				   'a' + (char)(session->step % 26), i < 299 ? " " : "");
	session->step++;
	snprintf(path, sizeof(path), "data/xenmsg/to/%u/endpoints", session->link->peer);
	return write_node(attacker, session, path, text);
}

/* A hello for another vchan each time: a daemon that takes it for a new attempt makes one. */
static bool put_hello(struct attacker *attacker, struct session *session)
{
	char path[64], text[128];

	snprintf(path, sizeof(path), "data/xenmsg/to/%u/hello", session->link->peer);
	snprintf(text, sizeof(text), "1 11111111-2222-4333-8444-555555555555 %08x 1", ++session->step);
	return write_node(attacker, session, path, text);
}

/* Another daemon each time. */
static bool put_presence(struct attacker *attacker, struct session *session)
{
	char text[128];

	snprintf(text, sizeof(text), "1 11111111-2222-4333-8444-%012x", ++session->step);
	return write_node(attacker, session, "data/xenmsg/presence", text);
}

static const struct attack link_attacks[] = {
	{"ignored", NO_SESSION, .put = put_ignored},	{"pings", NO_SESSION, .put = put_ping},
	{"leaves", NO_SESSION, .put = put_leaf},	{"hellos", NO_SESSION, .put = put_hello},
	{"presences", NO_SESSION, .put = put_presence}, {0},
};

static const struct attack *attack_of(const char *name)
{
	const struct attack *const all[] = {link_attacks, frame_attacks};

	for (unsigned i = 0; i < 2; i++)
		for (const struct attack *attack = all[i]; attack->name; attack++)
			if (!strcmp(attack->name, name))
				return attack;
	return NULL;
}

/* All that is there, as long as answers find room. How many. */
static unsigned take(const struct attack *attack, struct attacker *attacker, struct session *session)
{
	static uint8_t bytes[FRAME_PAYLOAD_MAX + 8];
	struct libxenvchan *vchan = session->link->vchan;
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
		attacker->answers++;
		if (header.type == FRAME_PING)
			session_put(attacker, session, FRAME_PONG, 0, bytes, 8);
		else if (attack->frame)
			attack->frame(attacker, session, &header, bytes);
		count++;
	}
	return count;
}

static void wait_a_moment(const struct attacker *attacker, struct libxenvchan *vchan, bool *ended)
{
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
				{.fd = libxenvchan_fd_for_select(vchan), .events = POLLIN}};
	char line[80];

	poll(fds, 2, 1);
	if (fds[1].revents)
		libxenvchan_wait(vchan);
	if (!fds[0].revents)
		return;
	*ended = read(STDIN_FILENO, line, sizeof(line)) <= 0;
	printf("ok %llu %llu %d\n", (unsigned long long)attacker->frames,
	       (unsigned long long)attacker->answers, libxenvchan_is_open(vchan));
	fflush(stdout);
}

bool link_flood(struct link *link, const char *name, const char *address)
{
	static struct session session;
	struct attacker attacker = {.address = address, .sessions = &session, .count = 1};
	const struct attack *attack = attack_of(name);
	bool ended = false;

	if (!attack)
		return false;
	session.link = link;
	session.put = link_put_frame;
	session.first = link->me < link->peer ? 0 : 1;
	link->vchan->blocking = 0;
	if (attack->begin)
		attack->begin(&attacker, &session);
	while (!ended) {
		unsigned count = 0;

		/* Those that write to XenStore need no link, and may end it. */
		if (libxenvchan_is_open(link->vchan) != 1) {
			attack->put(&attacker, &session);
			wait_a_moment(&attacker, link->vchan, &ended);
			continue;
		}
		while (count < BURST && libxenvchan_buffer_space(link->vchan) >= 512 &&
		       attack->put(&attacker, &session))
			count++;
		count += take(attack, &attacker, &session);
		if (count == 0 || attacker.frames % 1024 < BURST)
			wait_a_moment(&attacker, link->vchan, &ended);
	}
	libxenvchan_close(link->vchan);
	return true;
}
