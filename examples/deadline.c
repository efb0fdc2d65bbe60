/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A client with a deadline: calls a service, and waits until then for it to be there, as when it is just
 * being restarted. What becomes of the call is told: whether it was done, was not, or may have been. Only
 * what was not done may be tried again.
 *
 *   deadline ADDRESS TEXT MILLISECONDS          deadline 2:work 500 2000
 *
 *   cc deadline.c $(pkg-config --cflags --libs xenmsg) -o deadline
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenmsg.h>

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
		printf("%s: %s: it %s\n", address, result->reason, fates[result->fate]);
	else
		printf("%.*s\n", (int)xenmsg_message_size(result->reply),
		       (const char *)xenmsg_message_data(result->reply));
}

int main(int argc, char **argv)
{
	struct xenmsg_result result;
	struct xenmsg *conn;
	int r;

	if (argc != 4) {
		fprintf(stderr, "usage: %s ADDRESS TEXT MILLISECONDS\n", argv[0]);
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0) {
		fprintf(stderr, "deadline: %s\n", xenmsg_reason(NULL, r));
		return 1;
	}
	r = xenmsg_call(conn, argv[1], argv[2], strlen(argv[2]), XENMSG_WITH(atoi(argv[3]), XENMSG_WAIT),
			&result);
	tell(argv[1], &result);
	xenmsg_message_free(result.reply);
	xenmsg_close(conn);
	return r < 0;
}
