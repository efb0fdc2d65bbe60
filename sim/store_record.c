/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records what a XenStore answers, for store_unit_xen.txt. On a Xen host (or a simulated one):
 *
 *	guests 1 and 2:  store_record 1        and  store_record 2
 *	dom0:            store_record 0 store_unit_xen.txt >answers
 *
 * Domain 0 reads the commands, ignores the answers in the file, runs its own commands, sends the guests
 * theirs through /store_record/N, and prints all with the new answers.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenstore.h>

#define RESULT_SIZE   2000 /* fits into a node */
#define SETTLE_MS     700  /* no more events are expected after this, under an emulated CPU too */
#define ANSWER_WITHIN 120  /* seconds */

struct recorder {
	struct xs_handle *control, *first, *second;
	xs_transaction_t transaction;
	unsigned long answered[3]; /* the last number of each guest */
	char result[RESULT_SIZE];
};

static void say(struct recorder *r, bool ok)
{
	if (ok)
		strcpy(r->result, "ok");
	else
		snprintf(r->result, RESULT_SIZE, "err %s", strerrorname_np(errno));
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void join_sorted(struct recorder *r, char **words, size_t count, const char *before_each)
{
	size_t len = strlen(r->result);

	qsort(words, count, sizeof(*words), compare_strings);
	for (size_t i = 0; i < count && len < RESULT_SIZE; i++)
		len += (size_t)snprintf(r->result + len, RESULT_SIZE - len, "%s%s", before_each, words[i]);
}

static void list(struct recorder *r, struct xs_handle *handle, xs_transaction_t transaction, const char *path)
{
	unsigned count;
	char **names = xs_directory(handle, transaction, path, &count);

	say(r, names);
	if (names)
		join_sorted(r, names, count, " ");
	free(names);
}

static void read_value(struct recorder *r, struct xs_handle *handle, xs_transaction_t transaction,
		       const char *path)
{
	unsigned len;
	char *value = xs_read(handle, transaction, path, &len);

	say(r, value);
	if (value)
		snprintf(r->result, RESULT_SIZE, "ok <%.1000s>", value);
	free(value);
}

static void get_perms(struct recorder *r, struct xs_handle *handle, xs_transaction_t transaction,
		      const char *path)
{
	unsigned count;
	struct xs_permissions *perms = xs_get_permissions(handle, transaction, path, &count);
	size_t len = 2;

	say(r, perms);
	for (unsigned i = 0; perms && i < count && len < RESULT_SIZE; i++)
		len += (size_t)snprintf(r->result + len, RESULT_SIZE - len, " %c%u",
					"nrwb"[perms[i].perms & 3], perms[i].id);
	free(perms);
}

static void set_perms(struct recorder *r, struct xs_handle *handle, xs_transaction_t transaction,
		      const char *path, char *words)
{
	static const char letters[] = "nrwb";
	struct xs_permissions perms[16];
	unsigned count = 0;

	for (char *word = strtok(words, " "); word && count < 16; word = strtok(NULL, " ")) {
		perms[count].id = (unsigned)atoi(word + 1);
		perms[count++].perms = (unsigned)(strchr(letters, *word) - letters);
	}
	say(r, xs_set_permissions(handle, transaction, path, perms, count));
}

static void take_events(struct recorder *r, struct xs_handle *handle)
{
	struct pollfd pollfd = {.fd = xs_fileno(handle), .events = POLLIN};
	char *lines[256];
	size_t count = 0;

	do {
		char **event;

		while (count < 256 && (event = xs_check_watch(handle))) {
			if (asprintf(&lines[count++], "[%s %s]", event[XS_WATCH_PATH],
				     event[XS_WATCH_TOKEN]) < 0)
				abort();
			free(event);
		}
	} while (count < 256 && poll(&pollfd, 1, SETTLE_MS) > 0);
	strcpy(r->result, count ? "" : "silence");
	join_sorted(r, lines, count, "");
	while (count)
		free(lines[--count]);
}

static void start_many(struct recorder *r, struct xs_handle *handle)
{
	unsigned count = 0;

	while (xs_transaction_start(handle) != XBT_NULL)
		count++;
	snprintf(r->result, RESULT_SIZE, "%s after %u", strerrorname_np(errno), count);
}

static void of_length(struct recorder *r, struct xs_handle *handle, xs_transaction_t transaction,
		      const char *path, unsigned len)
{
	char *bytes = calloc(1, len + 1);

	if (!bytes)
		abort();
	if (path) {
		memset(bytes, 'v', len);
		say(r, xs_write(handle, transaction, path, bytes, len));
	} else {
		memset(bytes, 'p', len);
		memcpy(bytes, "data/", 5);
		read_value(r, handle, transaction, bytes);
	}
	free(bytes);
}

static struct xs_handle *open_store(void)
{
	struct xs_handle *handle = xs_open(0);

	if (!handle) {
		perror("store_record: xs_open");
		exit(1);
	}
	return handle;
}

static void perform(struct recorder *r, char *command)
{
	struct xs_handle *handle = r->first;
	xs_transaction_t transaction = XBT_NULL;
	char *save, *operation = strtok_r(command, " ", &save), *path = strtok_r(NULL, " ", &save);
	char *rest = strtok_r(NULL, "", &save);

	if (strncmp(operation, "2:", 2) == 0) {
		operation += 2;
		if (!r->second)
			r->second = open_store();
		handle = r->second;
	}
	if (strncmp(operation, "t:", 2) == 0) {
		operation += 2;
		transaction = r->transaction;
	}
	if (strcmp(operation, "read") == 0) {
		read_value(r, handle, transaction, path);
	} else if (strcmp(operation, "write") == 0) {
		say(r,
		    xs_write(handle, transaction, path, rest ? rest : "", rest ? (unsigned)strlen(rest) : 0));
	} else if (strcmp(operation, "mkdir") == 0) {
		say(r, xs_mkdir(handle, transaction, path));
	} else if (strcmp(operation, "rm") == 0) {
		say(r, xs_rm(handle, transaction, path));
	} else if (strcmp(operation, "ls") == 0) {
		list(r, handle, transaction, path);
	} else if (strcmp(operation, "chmod") == 0) {
		set_perms(r, handle, transaction, path, rest);
	} else if (strcmp(operation, "perms") == 0) {
		get_perms(r, handle, transaction, path);
	} else if (strcmp(operation, "watch") == 0) {
		say(r, xs_watch(handle, path, rest));
	} else if (strcmp(operation, "unwatch") == 0) {
		say(r, xs_unwatch(handle, path, rest));
	} else if (strcmp(operation, "events") == 0) {
		take_events(r, handle);
	} else if (strcmp(operation, "start") == 0) {
		r->transaction = xs_transaction_start(handle);
		say(r, r->transaction != XBT_NULL);
	} else if (strcmp(operation, "end") == 0) {
		say(r, xs_transaction_end(handle, r->transaction, *path == 'F'));
	} else if (strcmp(operation, "big") == 0) {
		of_length(r, handle, transaction, path, (unsigned)atoi(rest));
	} else if (strcmp(operation, "longpath") == 0) {
		of_length(r, handle, transaction, NULL, (unsigned)atoi(path));
	} else if (strcmp(operation, "tfill") == 0) {
		start_many(r, handle);
	} else if (strcmp(operation, "close") == 0) {
		xs_close(r->second);
		r->second = NULL;
		say(r, true);
	} else if (strcmp(operation, "reopen") == 0) {
		xs_close(r->first);
		r->first = open_store();
		say(r, true);
	} else {
		snprintf(r->result, RESULT_SIZE, "unknown command %s", operation);
	}
}

/* Waits until the node begins with another number than last. Returns its value, which the caller frees. */
static char *next_message(struct recorder *r, const char *path, unsigned long last, unsigned seconds)
{
	time_t end = time(NULL) + seconds;
	char *message = NULL;
	unsigned len;

	do {
		free(message);
		message = xs_read(r->control, XBT_NULL, path, &len);
		if (message && strtoul(message, NULL, 10) != last)
			return message;
		usleep(10000);
	} while (time(NULL) <= end);
	fprintf(stderr, "store_record: nothing new in %s\n", path);
	exit(1);
}

static void send_message(struct recorder *r, const char *path, unsigned long number, const char *text)
{
	char *message;
	int len = asprintf(&message, "%lu %s", number, text);

	if (len < 0 || !xs_write(r->control, XBT_NULL, path, message, (unsigned)len)) {
		perror("store_record: message");
		exit(1);
	}
	free(message);
}

static void make_mailbox(struct recorder *r, unsigned domid)
{
	struct xs_permissions perms[] = {{.id = 0, .perms = XS_PERM_NONE},
					 {.id = domid, .perms = XS_PERM_READ | XS_PERM_WRITE}};
	const char *const names[] = {"command", "answer"};
	char path[64];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/store_record/%u/%s", domid, names[i]);
		send_message(r, path, 0, "");
		if (!xs_set_permissions(r->control, XBT_NULL, path, perms, 2))
			perror("store_record: xs_set_permissions");
	}
}

static int serve(struct recorder *r, unsigned domid)
{
	char commands[64], answers[64];
	unsigned long last = 0;

	snprintf(commands, sizeof(commands), "/store_record/%u/command", domid);
	snprintf(answers, sizeof(answers), "/store_record/%u/answer", domid);
	for (;;) {
		char *message = next_message(r, commands, last, 10 * ANSWER_WITHIN), *command;

		last = strtoul(message, &command, 10);
		if (strcmp(command, " quit") == 0) {
			free(message);
			return 0;
		}
		perform(r, command + 1);
		send_message(r, answers, last, r->result);
		free(message);
	}
}

static void ask_guest(struct recorder *r, unsigned domid, unsigned long number, const char *command)
{
	char path[64], *answer;

	snprintf(path, sizeof(path), "/store_record/%u/command", domid);
	send_message(r, path, number, command);
	snprintf(path, sizeof(path), "/store_record/%u/answer", domid);
	answer = next_message(r, path, r->answered[domid], ANSWER_WITHIN);
	r->answered[domid] = number;
	snprintf(r->result, RESULT_SIZE, "%s", strchr(answer, ' ') + 1);
	free(answer);
}

static int record(struct recorder *r, const char *file_name)
{
	FILE *file = fopen(file_name, "re");
	unsigned long number = 0;
	char line[8192];

	if (!file) {
		perror(file_name);
		return 1;
	}
	make_mailbox(r, 1);
	make_mailbox(r, 2);
	while (fgets(line, sizeof(line), file)) {
		char *arrow = strstr(line, " -> ");
		unsigned domid = (unsigned)(line[0] - '0');

		if (!isdigit((unsigned char)line[0]) || !arrow || domid > 2) {
			fputs(line, stdout);
			continue;
		}
		*arrow = '\0';
		printf("%s -> ", line);
		if (domid)
			ask_guest(r, domid, ++number, line + 2);
		else
			perform(r, line + 2);
		printf("%s\n", r->result);
		fflush(stdout);
	}
	send_message(r, "/store_record/1/command", ++number, "quit");
	send_message(r, "/store_record/2/command", number, "quit");
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	struct recorder r = {0};
	int rc;

	if (argc < 2 || (strcmp(argv[1], "0") == 0) != (argc == 3)) {
		fprintf(stderr, "Usage: store_record 0 COMMANDS | store_record DOMID\n");
		return 2;
	}
	r.control = open_store();
	r.first = open_store();
	rc = argc == 3 ? record(&r, argv[2]) : serve(&r, (unsigned)atoi(argv[1]));
	if (r.second)
		xs_close(r.second);
	xs_close(r.first);
	xs_close(r.control);
	return rc;
}
