/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compares the simulated XenStore with the answers of real oxenstored: store_unit_xen.txt was recorded with
 * libxenstore in dom0 and two guests on Xen 4.17 (Debian 12), under oxenstored and under xenstored, and is
 * replayed here.
 *
 *	DOMID COMMAND -> RESULT                     the same under both
 *	DOMID COMMAND -> RESULT || RESULT           oxenstored, and xenstored, which is left out here
 *
 * "2:" before a command: through a second connection; "t:": in the transaction that was started last. Events
 * are those since the last look, sorted, since no order is promised.
 */
#include <ctype.h>
#include <stdio.h>

#include "sim/store_unit.h"

#define RESULT_SIZE 4096

struct replay {
	struct unit_host *host;
	struct unit_client *clients[3];
	struct unit_client *second;
	uint32_t transaction;
	char result[RESULT_SIZE];
};

/* Prints the error as libxenstore reports it, which knows no EQUOTA. */
static void say(struct replay *r, int rc)
{
	if (rc == 0)
		strcpy(r->result, "ok");
	else
		snprintf(r->result, RESULT_SIZE, "err %s",
			 rc == -EDQUOT ? "EINVAL" : sim_wire_error_name(rc));
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void join_sorted(struct replay *r, char **words, size_t count, const char *before_each)
{
	size_t len = strlen(r->result);

	qsort(words, count, sizeof(*words), compare_strings);
	for (size_t i = 0; i < count && len < RESULT_SIZE; i++)
		len += (size_t)snprintf(r->result + len, RESULT_SIZE - len, "%s%s", before_each, words[i]);
}

static void list(struct replay *r, struct unit_client *client, uint32_t transaction, const char *path)
{
	int rc = unit_simple(client, XS_DIRECTORY, transaction, path);
	char *names[64];
	size_t count = 0;

	say(r, rc);
	if (rc < 0)
		return;
	for (char *at = client->reply; at < client->reply + client->reply_len; at += strlen(at) + 1) {
		assert_true(count < 64);
		names[count++] = at;
	}
	join_sorted(r, names, count, " ");
}

static void take_events(struct replay *r, struct unit_client *client)
{
	char lines[64][256], *sorted[64];
	size_t count = client->n_events;

	assert_true(count <= 64);
	for (size_t i = 0; i < count; i++) {
		snprintf(lines[i], sizeof(lines[i]), "[%.120s %.120s]", client->events[i][0],
			 client->events[i][1]);
		sorted[i] = lines[i];
	}
	client->n_events = 0;
	strcpy(r->result, count ? "" : "silence");
	join_sorted(r, sorted, count, "");
}

static void write_long(struct replay *r, struct unit_client *client, uint32_t transaction, const char *path,
		       size_t len)
{
	char value[XENSTORE_PAYLOAD_MAX] = "";

	assert_true(len < sizeof(value));
	memset(value, 'v', len);
	say(r, unit_write(client, transaction, path, value));
}

static void read_long(struct replay *r, struct unit_client *client, size_t len)
{
	char path[XENSTORE_PAYLOAD_MAX] = "";

	assert_true(len < sizeof(path));
	memset(path, 'p', len);
	memcpy(path, "data/", 5);
	unit_read(client, 0, path);
	say(r, -errno);
}

/* Starts transactions until one is refused. */
static void start_many(struct replay *r, struct unit_client *client)
{
	unsigned count = 0;
	uint32_t transaction;
	int rc;

	while ((rc = unit_start(client, &transaction)) == 0)
		count++;
	say(r, rc);
	memmove(r->result, r->result + 4, strlen(r->result) - 3);
	snprintf(r->result + strlen(r->result), 32, " after %u", count);
}

static void perform(struct replay *r, unsigned domid, char *command)
{
	struct unit_client *client = r->clients[domid];
	uint32_t transaction = 0;
	char *operation = strtok(command, " "), *path = strtok(NULL, " "), *rest = strtok(NULL, "");

	if (strncmp(operation, "2:", 2) == 0) {
		operation += 2;
		if (!r->second)
			r->second = unit_connect(r->host, domid);
		client = r->second;
	}
	if (strncmp(operation, "t:", 2) == 0) {
		operation += 2;
		transaction = r->transaction;
	}
	if (strcmp(operation, "read") == 0) {
		const char *value = unit_read(client, transaction, path);

		say(r, -errno);
		if (value)
			snprintf(r->result, RESULT_SIZE, "ok <%s>", value);
	} else if (strcmp(operation, "write") == 0) {
		say(r, unit_write(client, transaction, path, rest ? rest : ""));
	} else if (strcmp(operation, "mkdir") == 0) {
		say(r, unit_simple(client, XS_MKDIR, transaction, path));
	} else if (strcmp(operation, "rm") == 0) {
		say(r, unit_simple(client, XS_RM, transaction, path));
	} else if (strcmp(operation, "ls") == 0) {
		list(r, client, transaction, path);
	} else if (strcmp(operation, "chmod") == 0) {
		say(r, unit_set_perms(client, transaction, path, rest));
	} else if (strcmp(operation, "perms") == 0) {
		const char *perms = unit_get_perms(client, path);

		say(r, -errno);
		if (perms)
			snprintf(r->result, RESULT_SIZE, "ok %s", perms);
	} else if (strcmp(operation, "watch") == 0) {
		say(r, unit_watch(client, path, rest));
	} else if (strcmp(operation, "unwatch") == 0) {
		say(r, unit_unwatch(client, path, rest));
	} else if (strcmp(operation, "events") == 0) {
		unit_collect_events(client);
		take_events(r, client);
	} else if (strcmp(operation, "start") == 0) {
		say(r, unit_start(client, &r->transaction));
	} else if (strcmp(operation, "end") == 0) {
		say(r, unit_end(client, r->transaction, *path == 'T'));
	} else if (strcmp(operation, "big") == 0) {
		write_long(r, client, transaction, path, strtoul(rest, NULL, 10));
	} else if (strcmp(operation, "longpath") == 0) {
		read_long(r, client, strtoul(path, NULL, 10));
	} else if (strcmp(operation, "tfill") == 0) {
		start_many(r, client);
	} else if (strcmp(operation, "close") == 0) {
		unit_close(r->second);
		r->second = NULL;
		say(r, 0);
	} else if (strcmp(operation, "reopen") == 0) {
		unit_close(r->clients[domid]);
		r->clients[domid] = unit_connect(r->host, domid);
		say(r, 0);
	} else {
		fail_msg("unknown command %s", operation);
	}
}

static FILE *open_recording(void)
{
	const char *source = getenv("srcdir");
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/sim/store_unit_xen.txt", source ? source : ".");
	file = fopen(path, "re");
	if (!file)
		fail_msg("%s: %s (set srcdir to the top of the sources)", path, strerror(errno));
	return file;
}

static void answers_are_those_of_real_oxenstored(void **state)
{
	struct replay r = {.host = unit_host_new()};
	FILE *file = open_recording();
	char line[8192], told[8192];
	unsigned number = 0, commands = 0;

	for (unsigned domid = 0; domid < 3; domid++)
		r.clients[domid] = unit_connect(r.host, domid);
	while (fgets(line, sizeof(line), file)) {
		char *expected = strstr(line, "-> "), *other;

		number++;
		if (!isdigit((unsigned char)line[0]))
			continue;
		assert_non_null(expected);
		line[strcspn(line, "\n")] = '\0';
		expected[-1] = '\0';
		expected += 3;
		other = strstr(expected, " || ");
		if (other)
			*other = '\0';
		snprintf(told, sizeof(told), "%s", line);
		perform(&r, (unsigned)(line[0] - '0'), line + 2);
		if (strcmp(r.result, expected) != 0)
			fail_msg("line %u: %s: Xen says %s, we say %s", number, told, expected, r.result);
		commands++;
	}
	fclose(file);
	assert_true(commands > 100);
	for (unsigned domid = 0; domid < 3; domid++)
		unit_close(r.clients[domid]);
	unit_host_free(r.host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_those_of_real_oxenstored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
