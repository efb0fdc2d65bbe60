/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A client with a deadline: calls a service, and tries again until then for as long as it is certain that nothing
 * was done, as when the service is just being restarted. What may have been done is not tried again.
 *
 *   deadline ADDRESS TEXT MILLISECONDS          deadline 2:work 500 2000
 *
 *   cc deadline.c $(pkg-config --cflags --libs xenmsg) -o deadline
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xenmsg.h>

#define PAUSE_MS 50

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Whether another attempt may go otherwise: who is to be called may come back. */
static int may_come_back(const struct xenmsg_result *result)
{
	return result->fate == XENMSG_FATE_NOT_DONE &&
	       (result->error == -ENOENT || result->error == -EHOSTDOWN || result->error == -EHOSTUNREACH ||
		result->error == -ECANCELED);
}

static void tell(const char *address, const struct xenmsg_result *result)
{
	static const char *const fates[] = {
		[XENMSG_FATE_DONE] = "was done",
		[XENMSG_FATE_NOT_DONE] = "was not done, and never will be",
		[XENMSG_FATE_UNKNOWN] = "may have been done",
	};

	if (result->error == -EREMOTEIO && result->reply)
		printf("error %u of the service: %.*s\n", result->code,
		       (int)xenmsg_message_size(result->reply),
		       (const char *)xenmsg_message_data(result->reply));
	else if (result->error < 0)
		printf("%s: %s: it %s\n", address,
		       *result->reason ? result->reason : strerror(-result->error), fates[result->fate]);
	else
		printf("%.*s\n", (int)xenmsg_message_size(result->reply),
		       (const char *)xenmsg_message_data(result->reply));
}

int main(int argc, char **argv)
{
	long long until = argc == 4 ? now_ms() + atoi(argv[3]) : 0;
	struct xenmsg_result result;
	struct xenmsg *conn;
	int r;

	if (argc != 4) {
		fprintf(stderr, "usage: %s ADDRESS TEXT MILLISECONDS\n", argv[0]);
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0) {
		fprintf(stderr, "deadline: no connection to xenmsgd: %s\n", strerror(-r));
		return 1;
	}
	for (;;) {
		long long left = until - now_ms();

		r = xenmsg_call(conn, argv[1], argv[2], strlen(argv[2]),
				XENMSG_WITHIN(left > 0 ? (int)left : 0), &result);
		if (r == 0 || !may_come_back(&result) || left <= PAUSE_MS)
			break;
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
	}
	tell(argv[1], &result);
	xenmsg_message_free(result.reply);
	xenmsg_close(conn);
	return r < 0;
}
