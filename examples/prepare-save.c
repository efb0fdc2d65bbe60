/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A toolstack tells all guests to prepare for a save, and counts who is ready. It publishes on a topic that
 * keeps the last message, so a guest that comes late prepares, too; each guest that is ready says so by a
 * message.
 *
 *   prepare-save host COUNT [SECONDS]   in domain 0: waits until COUNT guests are ready (30 s), and prints
 *                                       how many are
 *   prepare-save guest COMMAND          in each guest: runs COMMAND each time, for the shell
 *
 * Guests reach domain 0's endpoints "prepare-save" and "ready-to-save" if its policy lets them.
 *
 *   cc prepare-save.c $(pkg-config --cflags --libs xenmsg) -o prepare-save
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xenmsg.h>

#define TOPIC	 "prepare-save"
#define READY	 "ready-to-save"
#define REPLY_MS 10000

/* ---- domain 0 -------------------------------------------------------------------------------- */

#define DOMAINS 32752 /* Xen has no higher domid */

struct save {
	char round[32]; /* which time this is */
	unsigned char is_ready[DOMAINS];
	unsigned ready;
};

static void on_ready(void *userdata, struct xenmsg_message *message)
{
	struct save *save = userdata;
	unsigned domid = xenmsg_peer_domid(xenmsg_message_sender(message)); /* the hypervisor's word */
	size_t size = xenmsg_message_size(message);

	/* An answer to an earlier question is late. */
	if (size == strlen(save->round) && memcmp(xenmsg_message_data(message), save->round, size) == 0 &&
	    domid < DOMAINS && !save->is_ready[domid]) {
		save->is_ready[domid] = 1;
		save->ready++;
		printf("domain %u is ready\n", domid);
	}
	xenmsg_message_free(message);
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int host(struct xenmsg *conn, unsigned count, int timeout_ms)
{
	static struct save save;
	long long end = now_ms() + timeout_ms, left = timeout_ms;
	struct timespec now;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(save.round, sizeof(save.round), "%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
	r = xenmsg_bind(conn, READY, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_ready, &save);
	if (r == 0)
		r = xenmsg_bind(conn, TOPIC, XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_RETAIN), NULL, NULL);
	if (r == 0) /* waits for no guest */
		r = xenmsg_send(conn, "self:" TOPIC, save.round, strlen(save.round), NULL, NULL);
	while ((r >= 0 || r == -EINTR || r == -ENOMEM) && save.ready < count && left > 0) {
		r = xenmsg_wait(conn, (int)left);
		left = end - now_ms();
	}
	if (r < 0 && r != -EINTR && r != -ENOMEM)
		return r;
	printf("%u of %u are ready\n", save.ready, count);
	return save.ready < count;
}

/* ---- a guest --------------------------------------------------------------------------------- */

/* Prepares, and says so. What goes wrong is told here: the toolstack sees who isn't ready. What the topic has
 * kept comes again when the way to it, or a daemon, was lost: then nothing is run a second time, but it is
 * said again. */
static void prepare(struct xenmsg *conn, const char *command, struct xenmsg_message *message)
{
	static char prepared[32]; /* the last round */
	size_t size = xenmsg_message_size(message);
	const char *round = xenmsg_message_data(message);
	int r;

	if (size == 0 || size >= sizeof(prepared))
		return; /* not ours */
	if (strlen(prepared) != size || memcmp(prepared, round, size) != 0) {
		if (system(command) != 0) {
			fprintf(stderr, "prepare-save: '%s' has failed\n", command);
			return;
		}
		memcpy(prepared, round, size);
		prepared[size] = '\0';
	}
	r = xenmsg_send(conn, "0:" READY, round, size, XENMSG_WITH(REPLY_MS, XENMSG_WAIT), NULL);
	if (r < 0)
		fprintf(stderr, "prepare-save: can't tell domain 0: %s\n", xenmsg_error_text(r));
	else
		printf("prepared\n");
}

static int guest(struct xenmsg *conn, const char *command)
{
	int r = xenmsg_subscribe(conn, "0:" TOPIC, NULL, NULL, NULL);

	while (r >= 0) {
		const struct xenmsg_notice *notice;
		struct xenmsg_message *message;

		r = xenmsg_recv(conn, &message, -1);
		if (r == -EINTR || r == -ENOMEM) { /* it was stopped and goes on; or no memory, for now */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		notice = xenmsg_message_notice(message);
		if (!notice)
			prepare(conn, command, message);
		else if (notice->kind == XENMSG_WAITING)
			printf("nobody saves\n");
		else if (notice->kind == XENMSG_ENDED)
			r = notice->error;
		/* What was missed is of an earlier time: the last message always comes. */
		xenmsg_message_free(message);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct xenmsg *conn;
	int r, is_host = argc > 2 && strcmp(argv[1], "host") == 0;

	if (argc < 3 || argc > 3 + is_host || (!is_host && strcmp(argv[1], "guest") != 0)) {
		fprintf(stderr, "usage: %s host COUNT [SECONDS] | guest COMMAND\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	r = xenmsg_open(&conn, NULL, XENMSG_FLAGS(is_host ? 0 : XENMSG_RECONNECT));
	if (r < 0) {
		fprintf(stderr, "prepare-save: %s\n", xenmsg_reason(NULL, r));
		return 1;
	}
	r = is_host ? host(conn, (unsigned)atoi(argv[2]), 1000 * (argc > 3 ? atoi(argv[3]) : 30))
		    : guest(conn, argv[2]);
	if (r < 0)
		fprintf(stderr, "prepare-save: %s\n", xenmsg_reason(conn, r));
	xenmsg_close(conn);
	return r != 0;
}
