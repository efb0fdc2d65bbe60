/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/conformance/check_xen.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void xs_read_path(struct tool *tool)
{
	char *value = xs_read(tool->xs, tool->transaction, tool->word[1], NULL);

	if (value)
		printf("ok %s\n", value);
	else
		result(-1);
	free(value);
}

static void xs_write_path(struct tool *tool)
{
	result(xs_write(tool->xs, tool->transaction, tool->word[1], tool->word[2],
			(unsigned)strlen(tool->word[2]))
		       ? 0
		       : -1);
}

static void xs_watch_path(struct tool *tool)
{
	result(xs_watch(tool->xs, tool->word[1], "token") ? 0 : -1);
}

/* xs-event MILLISECONDS */
static void xs_event(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xs_fileno(tool->xs), .events = POLLIN};
	unsigned count;
	char **event = NULL;

	if (poll(&pollfd, 1, (int)tool->number[1]) == 1)
		event = xs_read_watch(tool->xs, &count);
	printf("ok %s\n", event ? event[XS_WATCH_PATH] : "none");
	free(event);
}

/* xs-overtakes PATH TIMES: how often a program that ends a transaction in which it wrote what it watches
 * doesn't find the event there at once */
static void xs_overtakes(struct tool *tool)
{
	long count = 0;

	for (long i = 0; i < tool->number[2]; i++) {
		xs_transaction_t transaction = xs_transaction_start(tool->xs);
		char **event;

		if (!xs_write(tool->xs, transaction, tool->word[1], "x", 1) ||
		    !xs_transaction_end(tool->xs, transaction, false))
			break;
		event = xs_check_watch(tool->xs);
		if (!event) {
			struct pollfd pollfd = {.fd = xs_fileno(tool->xs), .events = POLLIN};

			count++;
			poll(&pollfd, 1, 60000);
			event = xs_check_watch(tool->xs);
		}
		free(event);
	}
	result(count);
}

/* xs-writes PATH TIMES: begins to write; xs-written: how often, once it is done or goes on no more */
static struct {
	pthread_t thread;
	struct xs_handle *xs;
	char path[1024];
	long times;
	_Atomic long done;
} writer;

static void *write_in_thread(void *userdata)
{
	while (writer.done < writer.times && xs_write(writer.xs, XBT_NULL, writer.path, "x", 1))
		writer.done++;
	return NULL;
}

static void begin_to_write(struct tool *tool)
{
	writer.xs = tool->xs;
	writer.times = tool->number[2];
	writer.done = 0;
	snprintf(writer.path, sizeof(writer.path), "%s", tool->word[1]);
	result(pthread_create(&writer.thread, NULL, write_in_thread, NULL));
}

static void written(struct tool *tool)
{
	long before;

	do {
		before = writer.done;
		poll(NULL, 0, 2000);
	} while (writer.done > before);
	result(before);
}

/* xs-events MILLISECONDS: how many there are, until none comes for so long */
static void xs_events(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xs_fileno(tool->xs), .events = POLLIN};
	unsigned count;
	long events = 0;

	while (poll(&pollfd, 1, (int)tool->number[1]) == 1) {
		char **event = xs_read_watch(tool->xs, &count);

		events += event != NULL;
		free(event);
	}
	result(events);
}

/* xs-event-and-end PATH DOMID: waits for an event on that path, and tells at once what domain-end tells */
static void xs_event_and_end(struct tool *tool)
{
	unsigned count;
	char **event;
	bool is_it = false;

	while (!is_it && (event = xs_read_watch(tool->xs, &count))) {
		is_it = strcmp(event[XS_WATCH_PATH], tool->word[1]) == 0;
		free(event);
	}
	tool->number[1] = tool->number[2];
	domain_end(tool);
}

static void xs_remove(struct tool *tool)
{
	result(xs_rm(tool->xs, tool->transaction, tool->word[1]) ? 0 : -1);
}

static void xs_make(struct tool *tool)
{
	result(xs_mkdir(tool->xs, tool->transaction, tool->word[1]) ? 0 : -1);
}

/* xs-begin; xs-commit: what is asked in between is in a transaction. */
static void xs_begin(struct tool *tool)
{
	tool->transaction = xs_transaction_start(tool->xs);
	result(tool->transaction != XBT_NULL ? 0 : -1);
}

static void xs_commit(struct tool *tool)
{
	result(xs_transaction_end(tool->xs, tool->transaction, false) ? 0 : -1);
	tool->transaction = XBT_NULL;
}

/* xs-chmod PATH n1,r2 */
static void xs_chmod(struct tool *tool)
{
	struct xs_permissions permissions[8];
	unsigned count = 0;
	char *save = NULL;

	for (char *entry = strtok_r(tool->word[2], ",", &save); entry && count < 8;
	     entry = strtok_r(NULL, ",", &save))
		xs_strings_to_perms(&permissions[count++], 1, entry);
	result(xs_set_permissions(tool->xs, tool->transaction, tool->word[1], permissions, count) ? 0 : -1);
}

/* xs-list PATH: how many there are */
static void xs_list(struct tool *tool)
{
	unsigned count;
	char **names = xs_directory(tool->xs, tool->transaction, tool->word[1], &count);

	result(names ? (long)count : -1);
	free(names);
}

/* xs-size PATH BYTES: writes a value of that length */
static void xs_size(struct tool *tool)
{
	char *value = calloc(1, (size_t)tool->number[2] + 1);

	if (value)
		memset(value, 'x', (size_t)tool->number[2]);
	result(value && xs_write(tool->xs, tool->transaction, tool->word[1], value, (unsigned)tool->number[2])
		       ? 0
		       : -1);
	free(value);
}

static bool write_one_more(struct tool *tool, long i)
{
	char path[1100];

	/* Put a hundred into each directory: C xenstored bounds what a directory may hold, too. */
	snprintf(path, sizeof(path), "%s/%ld/%ld", tool->word[1], i / 100, i);
	return xs_write(tool->xs, XBT_NULL, path, "", 0);
}

static bool write_one_more_beside(struct tool *tool, long i)
{
	char path[1100];

	snprintf(path, sizeof(path), "%s/%ld", tool->word[1], i);
	return xs_write(tool->xs, XBT_NULL, path, "", 0);
}

/* With a shorter token a refused one never returns in a guest, by libxenstore from 4.19 on; see print_token()
 * in daemon/xen/store_watched.c. */
static bool watch_one_more(struct tool *tool, long i)
{
	char path[1100];

	snprintf(path, sizeof(path), "%s/%ld", tool->word[1], i);
	return xs_watch(tool->xs, path, "a token of 16 letters or more");
}

static bool begin_one_more(struct tool *tool, long i)
{
	return xs_transaction_start(tool->xs) != XBT_NULL;
}

/* xs-fill PREFIX LIMIT, xs-fill-directory PREFIX LIMIT, xs-watches PREFIX LIMIT, xs-transactions LIMIT */
static void xs_fill(struct tool *tool)
{
	until_it_fails(tool, write_one_more, tool->number[2]);
}

static void xs_fill_directory(struct tool *tool)
{
	until_it_fails(tool, write_one_more_beside, tool->number[2]);
}

static void xs_watches(struct tool *tool)
{
	until_it_fails(tool, watch_one_more, tool->number[2]);
}

static void xs_transactions(struct tool *tool)
{
	until_it_fails(tool, begin_one_more, tool->number[1]);
}

/* xs-watches-room PREFIX: how many watches can be set until one is refused, which costs a guest's program its
 * connection */
static void xs_watches_room(struct tool *tool)
{
	long count = 0;

	while (watch_one_more(tool, count))
		count++;
	result(count);
}

/* xs-event-on WORD MILLISECONDS: the next event whose path has the word in it */
static void xs_event_on(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xs_fileno(tool->xs), .events = POLLIN};
	unsigned count;

	while (poll(&pollfd, 1, (int)tool->number[2]) == 1) {
		char **event = xs_read_watch(tool->xs, &count);

		if (event && strstr(event[XS_WATCH_PATH], tool->word[1])) {
			printf("ok %s\n", event[XS_WATCH_PATH]);
			free(event);
			return;
		}
		free(event);
	}
	printf("ok none\n");
}

const struct tool_command store_commands[] = {
	{"xs-read", 2, xs_read_path},
	{"xs-write", 3, xs_write_path},
	{"xs-watch", 2, xs_watch_path},
	{"xs-event", 2, xs_event},
	{"xs-event-on", 3, xs_event_on},
	{"xs-overtakes", 3, xs_overtakes},
	{"xs-writes", 3, begin_to_write},
	{"xs-written", 1, written},
	{"xs-events", 2, xs_events},
	{"xs-event-and-end", 3, xs_event_and_end},
	{"xs-rm", 2, xs_remove},
	{"xs-mkdir", 2, xs_make},
	{"xs-begin", 1, xs_begin},
	{"xs-commit", 1, xs_commit},
	{"xs-chmod", 3, xs_chmod},
	{"xs-list", 2, xs_list},
	{"xs-size", 3, xs_size},
	{"xs-fill", 3, xs_fill},
	{"xs-fill-directory", 3, xs_fill_directory},
	{"xs-watches", 3, xs_watches},
	{"xs-watches-room", 2, xs_watches_room},
	{"xs-transactions", 2, xs_transactions},
	{0},
};
