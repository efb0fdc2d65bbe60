/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Serves xensim's XenStore as a xenstored sees its clients: store-serve DIR DOMIDS listens on DIR/dom-N for
 * domain 0's programs and for the ring of each guest, without a guest's kernel in between. It ends with its
 * standard input. NAME=NUMBER sets a quota.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/store/store.h"

static void on_end(evutil_socket_t fd, short what, void *data)
{
	event_base_loopbreak(data);
}

static int set_limit(struct sim_store_limits *limits, const char *text)
{
	const struct {
		const char *name;
		unsigned *value;
	} all[] = {
		{"nodes", &limits->nodes},
		{"watches", &limits->watches},
		{"transactions", &limits->transactions},
		{"transaction-requests", &limits->transaction_requests},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		size_t len = strlen(all[i].name);

		if (strncmp(text, all[i].name, len) == 0 && text[len] == '=') {
			*all[i].value = (unsigned)strtoul(text + len + 1, NULL, 10);
			return 0;
		}
	}
	fprintf(stderr, "store-serve: %s\n", text);
	return -1;
}

int main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	struct sim_store_options options;
	struct sim_store *store;
	struct event *end;
	unsigned domains;

	if (argc < 3 || !base)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	sim_store_options_init(&options);
	options.rings = true;
	for (int i = 3; i < argc; i++)
		if (strcmp(argv[i], "like-xenstored") == 0)
			options.like_xenstored = true;
		else if (set_limit(&options.limits, argv[i]) < 0)
			return 2;
	store = sim_store_new(base, &options);
	end = event_new(base, STDIN_FILENO, EV_READ, on_end, base);
	if (!store || !end)
		return 1;
	event_add(end, NULL);
	domains = (unsigned)strtoul(argv[2], NULL, 10);
	for (unsigned domid = 0; domid <= domains; domid++) {
		char path[100];

		snprintf(path, sizeof(path), "%s/dom-%u", argv[1], domid);
		if (sim_store_listen(store, domid, path) < 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	event_base_dispatch(base);
	sim_store_free(store);
	event_free(end);
	event_base_free(base);
	return 0;
}
