/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bystander UID SOCKET serve ENDPOINT | call ADDRESS: an honest program of that user. It answers calls until
 * its standard input ends, or makes one call after another and measures them: for each line that it's told it
 * answers "ok CALLS FAILED P50 P99 MAX", in microseconds, about the time since the last one.
 */
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xenmsg.h>

#define TIMES_MAX  (1u << 20)
#define TIMEOUT_MS 120000

static uint32_t times[TIMES_MAX];
static unsigned count, failed;
static int error; /* of the last one that failed */

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int by_size(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static void tell(void)
{
	unsigned n = count < TIMES_MAX ? count : TIMES_MAX;

	qsort(times, n, sizeof(times[0]), by_size);
	printf("ok %u %u %u %u %u %d\n", count, failed, n ? times[n / 2] : 0,
	       n ? times[(uint64_t)n * 99 / 100] : 0, n ? times[n - 1] : 0, error);
	fflush(stdout);
	count = failed = 0;
}

/* False: the input has ended. */
static bool listen_to_test(int timeout_ms, bool *told)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char line[80];

	*told = poll(&input, 1, timeout_ms) > 0;
	return !*told || read(STDIN_FILENO, line, sizeof(line)) > 0;
}

static void serve(struct xenmsg *conn)
{
	struct xenmsg_message *message;
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}};

	int r;

	for (;;) {
		while (xenmsg_recv(conn, &message, 0) == 0) {
			if (xenmsg_reply(message, xenmsg_message_data(message),
					 xenmsg_message_size(message)) < 0)
				exit(3);
			xenmsg_message_free(message);
		}
		r = xenmsg_process(conn);
		if (r < 0)
			exit(3);
		if (r > 0)
			continue; /* a message waits for xenmsg_recv() */
		fds[1] = (struct pollfd){.fd = xenmsg_fd(conn), .events = POLLIN};
		poll(fds, 2, -1);
		if (fds[0].revents)
			return;
	}
}

static void call(struct xenmsg *conn, const char *address)
{
	bool told;

	for (;;) {
		struct xenmsg_result result;
		uint64_t start = now_us();
		int r = xenmsg_call(conn, address, "hello", 5, XENMSG_WITHIN(TIMEOUT_MS), &result);

		if (r == 0) {
			times[count++ % TIMES_MAX] = (uint32_t)(now_us() - start);
			xenmsg_message_free(result.reply);
		} else {
			failed++;
			error = -r;
		}
		if (!listen_to_test(r == 0 ? 0 : 10, &told))
			return;
		if (told)
			tell();
	}
}

int main(int argc, char **argv)
{
	struct xenmsg *conn;
	uid_t uid;
	int r;

	if (argc != 5)
		return 2;
	uid = (uid_t)atoi(argv[1]);
	if (uid && (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0))
		return 1;
	r = xenmsg_open(&conn, argv[2], XENMSG_WITHIN(TIMEOUT_MS));
	if (r == 0 && !strcmp(argv[3], "serve"))
		r = xenmsg_bind(conn, argv[4], NULL, NULL, NULL);
	printf("%s %d\n", r < 0 ? "error" : "ok", -r);
	fflush(stdout);
	if (r < 0)
		return 1;
	if (!strcmp(argv[3], "serve"))
		serve(conn);
	else
		call(conn, argv[4]);
	xenmsg_close(conn);
	return 0;
}
