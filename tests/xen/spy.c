/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rig-spy DOMID...: a third domain that tries all the while to read what the daemons of these domains write
 * for each other: the leaves whose names it can guess, as often as it can, the directories above, and
 * whatever a watch on all domains tells it of. Ends by SIGTERM: then it prints how often it looked, and what
 * it could read. Exits with 1 if that was anything that was not meant for everybody.
 */
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenstore.h>

static volatile sig_atomic_t stopping;

struct spy {
	struct xs_handle *store;
	char own[64];	/* what the paths of its own domain begin with: a daemon there writes, too */
	char meant[64]; /* what a daemon of before, in its own domain, was written has this in its path */
	unsigned long looks, events, presences, secrets;
};

static void on_term(int number)
{
	stopping = 1;
}

/* Returns whether the leaf is one of those that everybody may read. */
static bool is_for_all(const char *path)
{
	static const char *const names[] = {"presence", "asks", "endpoints"};
	const char *at = strstr(path, "/data/xenmsg/");

	for (unsigned i = 0; at && i < 3; i++)
		if (!strcmp(at + strlen("/data/xenmsg/"), names[i]))
			return true;
	return false;
}

static void look(struct spy *spy, const char *path)
{
	unsigned size, count;
	char *value = xs_read(spy->store, XBT_NULL, path, &size);
	char **names = xs_directory(spy->store, XBT_NULL, path, &count);
	size_t length = strlen(path);
	bool presence = length > 9 && !strcmp(path + length - 9, "/presence");

	spy->looks++;
	if (value && presence)
		spy->presences++;
	else if ((value || names) && strstr(path, "/data/xenmsg") && !is_for_all(path)) {
		spy->secrets++;
		printf("could read %s: %s\n", path, value ? value : "its directory");
	}
	free(value);
	free(names);
}

/* Whatever the store tells of: its nonce directories, too, whose names can't be guessed. */
static void take_events(struct spy *spy)
{
	char **event;

	while ((event = xs_check_watch(spy->store)) != NULL) {
		const char *path = event[XS_WATCH_PATH];

		if (!strncmp(path, spy->own, strlen(spy->own)) || strstr(path, spy->meant)) {
			free(event);
			continue;
		}
		spy->events++;
		look(spy, path);
		if (strstr(path, "/data/xenmsg/to/")) {
			spy->secrets++;
			printf("was told of %s\n", path);
		}
		free(event);
	}
}

static void look_everywhere(struct spy *spy, const char *one, const char *other)
{
	static const char *const own[] = {"", "/presence", "/to"}, *const meant_for_other[] = {"", "/hello",
											       "/endpoints"};
	char path[128];

	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/local/domain/%s/data/xenmsg%s", one, own[i]);
		look(spy, path);
		snprintf(path, sizeof(path), "/local/domain/%s/data/xenmsg/to/%s%s", one, other,
			 meant_for_other[i]);
		look(spy, path);
	}
}

int main(int argc, char **argv)
{
	struct spy spy = {.store = xs_open(0)};
	struct sigaction action = {.sa_handler = on_term};
	char *domid;

	sigaction(SIGTERM, &action, NULL);
	domid = spy.store ? xs_read(spy.store, XBT_NULL, "domid", NULL) : NULL;
	if (!domid || !xs_watch(spy.store, "/local/domain", "spy")) {
		perror("rig-spy");
		return 2;
	}
	snprintf(spy.own, sizeof(spy.own), "/local/domain/%s/", domid);
	snprintf(spy.meant, sizeof(spy.meant), "/data/xenmsg/to/%s/", domid);
	free(domid);
	while (!stopping) {
		for (int i = 1; i < argc; i++)
			for (int j = 1; j < argc; j++)
				if (i != j)
					look_everywhere(&spy, argv[i], argv[j]);
		take_events(&spy);
		poll(NULL, 0, 10); /* the domains under test need the CPU, too */
	}
	printf("looked %lu times, was told of %lu changes, saw presence %lu times and what was private %lu times\n",
	       spy.looks, spy.events, spy.presences, spy.secrets);
	return spy.secrets || !spy.presences ? 1 : 0;
}
