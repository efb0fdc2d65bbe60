/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A program that calls without a pause, each time when the call before was answered. For bench/handover.
 *
 * 	bench-pauses PEER  where `bench-chain server` runs. For each line of its input it prints how many calls
 * 	                   were answered since the line before, and the longest time between two answers, in
 * 	                   nanoseconds
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/engine.h"
#include "xenmsg.h"

struct pauses {
	struct xenmsg *conn;
	char address[64];
	uint64_t last, longest; /* when the last answer came; between two, since it was told */
	unsigned long answers;
	bool asks;
};

static void note(struct pauses *pauses)
{
	uint64_t now = now_ns();

	if (now - pauses->last > pauses->longest)
		pauses->longest = now - pauses->last;
	pauses->last = now;
}

static void on_answer(void *userdata, const struct xenmsg_result *result)
{
	struct pauses *pauses = userdata;

	if (result->error < 0)
		engine_fail("call", result->error);
	xenmsg_message_free(result->reply);
	note(pauses);
	pauses->answers++;
	pauses->asks = false;
}

static void ask(struct pauses *pauses)
{
	int r = pauses->asks ? 0
			     : xenmsg_begin_call(pauses->conn, pauses->address, "\0", 1, NULL, on_answer,
						 pauses, NULL);

	if (r < 0)
		engine_fail("call", r);
	pauses->asks = true;
}

/* Returns false at the end of the input. */
static bool tell(struct pauses *pauses)
{
	char line[16];

	if (!fgets(line, sizeof(line), stdin))
		return false;
	note(pauses); /* a pause that lasts */
	printf("%lu %llu\n", pauses->answers, (unsigned long long)pauses->longest);
	fflush(stdout);
	pauses->answers = 0;
	pauses->longest = 0;
	return true;
}

int main(int argc, char **argv)
{
	struct pauses pauses = {.conn = NULL};
	int r = argc == 2 ? xenmsg_open(&pauses.conn, NULL, NULL) : -EINVAL;

	if (r < 0)
		engine_fail("open", r);
	setvbuf(stdin, NULL, _IONBF, 0);
	snprintf(pauses.address, sizeof(pauses.address), "%s:bench", argv[1]);
	pauses.last = now_ns();
	for (;;) {
		struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
					{.fd = xenmsg_fd(pauses.conn), .events = POLLIN}};

		ask(&pauses);
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents && !tell(&pauses))
			break;
		r = xenmsg_process(pauses.conn);
		if (r < 0)
			engine_fail("process", r);
	}
	xenmsg_close(pauses.conn);
	return 0;
}
