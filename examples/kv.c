/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A service that keeps values by key, for all domains that the policy admits, and its client. In the shell:
 * kv.sh.
 *
 *   kv serve ENDPOINT                     in domain 2, say:   kv serve kv
 *   kv ADDRESS set KEY VALUE              in domain 1:        kv 2:kv set colour blue
 *   kv ADDRESS get KEY                                        kv 2:kv get colour
 *   kv ADDRESS delete KEY
 *   kv ADDRESS list
 *
 * A request is "get KEY", "set KEY VALUE", "delete KEY" or "list"; a key has no spaces, a value is any bytes.
 * Each sender's domain has keys of its own: a sender can't forge its identity. They last as long as the
 * domain is there and its xenmsgd runs, for a domid may be another domain's later. Errors have numbers of
 * their own.
 *
 *   cc kv.c $(pkg-config --cflags --libs xenmsg) -o kv
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenmsg.h>

#define KEYS_MAX  1000	/* of each domain */
#define ENTRY_MAX 65536 /* a key and its value, in bytes */

struct entry {
	struct entry *next;
	uint32_t domid; /* its owner */
	char *key;
	void *value;
	size_t size;
};

/* A parsed request. Its parts point into the message. */
struct request {
	uint32_t domid;
	const char *verb, *key, *value;
	size_t verb_size, key_size, value_size;
};

/* Takes the word up to the next space off *rest. Returns its size. */
static size_t next_word(const char **rest, size_t *left)
{
	const char *space = *left ? memchr(*rest, ' ', *left) : NULL;
	size_t size = space ? (size_t)(space - *rest) : *left, skip = space ? size + 1 : size;

	*rest += skip;
	*left -= skip;
	return size;
}

static void parse(struct xenmsg_message *message, struct request *request)
{
	const char *rest = xenmsg_message_data(message);
	size_t left = xenmsg_message_size(message);

	request->domid = xenmsg_peer_domid(xenmsg_message_sender(message));
	request->verb = rest;
	request->verb_size = next_word(&rest, &left);
	request->key = rest;
	request->key_size = next_word(&rest, &left);
	request->value = rest;
	request->value_size = left;
}

static int is(const struct request *request, const char *verb)
{
	return request->verb_size == strlen(verb) && memcmp(request->verb, verb, request->verb_size) == 0;
}

static struct entry **find(struct entry **entries, const struct request *request)
{
	for (; *entries; entries = &(*entries)->next)
		if ((*entries)->domid == request->domid && strlen((*entries)->key) == request->key_size &&
		    memcmp((*entries)->key, request->key, request->key_size) == 0)
			break;
	return entries;
}

static void drop(struct entry **place)
{
	struct entry *entry = *place;

	*place = entry->next;
	free(entry->key);
	free(entry->value);
	free(entry);
}

/* A domain has gone: the next one with its domid mustn't find what it has left. */
static void on_event(void *userdata, const struct xenmsg_event *event)
{
	struct entry **place = userdata;

	while (event->kind == XENMSG_DOMAIN_DOWN && !*event->host && *place) {
		if ((*place)->domid == event->domid)
			drop(place);
		else
			place = &(*place)->next;
	}
}

/* Whether it is more than one domain may keep here. */
static int is_too_much(const struct entry *entries, const struct request *request)
{
	unsigned count = 0;

	for (; entries; entries = entries->next)
		count += entries->domid == request->domid;
	return count >= KEYS_MAX || request->key_size + request->value_size > ENTRY_MAX;
}

static int set(struct entry **entries, const struct request *request)
{
	struct entry **place = find(entries, request), *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	entry->domid = request->domid;
	entry->key = calloc(1, request->key_size + 1);
	entry->value = malloc(request->value_size + 1);
	entry->size = request->value_size;
	if (!entry->key || !entry->value) {
		drop(&entry);
		return -ENOMEM;
	}
	memcpy(entry->key, request->key, request->key_size);
	memcpy(entry->value, request->value, request->value_size);
	if (*place)
		drop(place);
	entry->next = *entries;
	*entries = entry;
	return 0;
}

/* What goes wrong here, as numbers of our own; the words are for people. */
enum { NO_SUCH_KEY = 1, BAD_REQUEST = 2, NO_MEMORY = 3, TOO_MUCH = 4 };

static int fail(struct xenmsg_message *message, unsigned code, const char *words)
{
	return xenmsg_reply_error(message, code, words, strlen(words));
}

static int list(const struct entry *entries, const struct request *request, struct xenmsg_message *message)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	int r;

	if (!out)
		return fail(message, NO_MEMORY, "no memory");
	for (; entries; entries = entries->next)
		if (entries->domid == request->domid)
			fprintf(out, "%s\n", entries->key);
	r = fclose(out) == 0 ? xenmsg_reply(message, text, size) : fail(message, NO_MEMORY, "no memory");
	free(text);
	return r;
}

static int answer(struct entry **entries, struct xenmsg_message *message)
{
	struct request request;
	struct entry **place;

	parse(message, &request);
	if (is(&request, "list"))
		return list(*entries, &request, message);
	if (request.key_size == 0 || memchr(request.key, '\0', request.key_size))
		return fail(message, BAD_REQUEST, "get, set, delete or list, and a key");
	place = find(entries, &request);
	if (is(&request, "get"))
		return *place ? xenmsg_reply(message, (*place)->value, (*place)->size)
			      : fail(message, NO_SUCH_KEY, "there is no such key");
	if (is(&request, "set")) {
		if (is_too_much(*entries, &request))
			return fail(message, TOO_MUCH, "too many keys, or a value that is too large");
		if (set(entries, &request) < 0)
			return fail(message, NO_MEMORY, "no memory");
	} else if (!is(&request, "delete")) {
		return fail(message, BAD_REQUEST, "get, set, delete or list, and a key");
	} else if (!*place) {
		return fail(message, NO_SUCH_KEY, "there is no such key");
	} else {
		drop(place);
	}
	return xenmsg_reply(message, NULL, 0);
}

static int serve(struct xenmsg *conn, const char *endpoint)
{
	struct entry *entries = NULL;
	int r = xenmsg_bind(conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_CALLS), NULL, NULL);

	if (r == 0)
		r = xenmsg_watch(conn, "*", NULL, on_event, &entries);
	while (r >= 0) {
		struct xenmsg_message *message;

		r = xenmsg_recv(conn, &message, -1);
		if (r == -EINTR || r == -ENOMEM) { /* it was stopped and goes on; or no memory, for now */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		if (answer(&entries, message) < 0)
			fprintf(stderr, "kv: a caller in domain %u got no answer\n",
				xenmsg_peer_domid(xenmsg_message_sender(message)));
		xenmsg_message_free(message);
	}
	while (entries)
		drop(&entries);
	return r;
}

static int ask(struct xenmsg *conn, const char *address, int words, char **word)
{
	struct xenmsg_result result;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	int r = -ENOMEM;

	if (!out)
		return r;
	for (int i = 0; i < words; i++)
		fprintf(out, "%s%s", i ? " " : "", word[i]);
	if (fclose(out) == 0)
		r = xenmsg_call(conn, address, text, size, XENMSG_WITHIN(5000), &result);
	free(text);
	if (r == -EREMOTEIO && result.reply)
		fprintf(stderr, "kv: %s answers: %.*s\n", address, (int)xenmsg_message_size(result.reply),
			(const char *)xenmsg_message_data(result.reply));
	if (r < 0 && r != -EREMOTEIO)
		return r;
	if (r == 0) {
		fwrite(xenmsg_message_data(result.reply), 1, xenmsg_message_size(result.reply), stdout);
		if (strcmp(word[0], "get") == 0)
			putchar('\n');
	}
	xenmsg_message_free(result.reply);
	return r;
}

int main(int argc, char **argv)
{
	int serving = argc == 3 && strcmp(argv[1], "serve") == 0;
	const char *subject = serving ? argv[2] : argv[1];
	struct xenmsg *conn;
	int r;

	if (argc < 3) {
		fprintf(stderr, "usage: %s serve ENDPOINT | ADDRESS get|set|delete|list [KEY [VALUE]]\n",
			argv[0]);
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0) {
		fprintf(stderr, "kv: %s\n", xenmsg_reason(NULL, r));
		return 1;
	}
	r = serving ? serve(conn, subject) : ask(conn, subject, argc - 2, argv + 2);
	if (r < 0 && r != -EREMOTEIO)
		fprintf(stderr, "kv: %s: %s\n", subject, xenmsg_reason(conn, r));
	xenmsg_close(conn);
	return r < 0;
}
