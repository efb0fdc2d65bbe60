/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sends notifications back and forth between two programs that know nothing of each other but a name. Started
 * in two domains, in any order, they find each other by the endpoint that both bind. The one with the lower
 * domid begins.
 *
 *   rendezvous NAME [COUNT]
 *
 * The same in the shell: rendezvous.sh.
 *
 *   cc rendezvous.c $(pkg-config --cflags --libs xenmsg) -o rendezvous
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenmsg.h>

struct game {
	struct xenmsg *conn;
	const char *name;
	unsigned long count, sent, received, outstanding;
	int started, error;
};

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct game *game = userdata;

	game->outstanding--;
	if (result->error < 0)
		game->error = result->error;
}

/* A notification is a message without any bytes. */
static void notify(struct game *game, uint32_t domid)
{
	char address[80];
	int r;

	snprintf(address, sizeof(address), "%u:%s", domid, game->name);
	r = xenmsg_begin_send(game->conn, address, NULL, 0, NULL, on_done, game, NULL);
	if (r < 0) {
		game->error = r;
		return;
	}
	game->sent++;
	game->outstanding++;
}

static void on_event(void *userdata, const struct xenmsg_event *event)
{
	struct game *game = userdata;

	if (event->kind != XENMSG_ENDPOINT_UP || event->domid <= xenmsg_domid(game->conn) || game->started)
		return;
	game->started = 1;
	printf("found %s in domain %u\n", event->name, event->domid);
	notify(game, event->domid);
}

static void on_message(void *userdata, struct xenmsg_message *message)
{
	struct game *game = userdata;

	game->received++;
	if (!game->started)
		printf("found by domain %u\n", xenmsg_peer_domid(xenmsg_message_sender(message)));
	game->started = 1;
	if (game->sent < game->count)
		notify(game, xenmsg_peer_domid(xenmsg_message_sender(message)));
	xenmsg_message_free(message);
}

static int play(struct game *game)
{
	int r = xenmsg_bind(game->conn, game->name, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, game);
	char pattern[80];

	if (r < 0)
		return r;
	snprintf(pattern, sizeof(pattern), "*:%s", game->name);
	r = xenmsg_watch(game->conn, pattern, NULL, on_event, game);
	while (r >= 0 && !game->error && (game->received < game->count || game->outstanding)) {
		r = xenmsg_wait(game->conn, -1);
		if (r == -EINTR || r == -ENOMEM) /* it was stopped and goes on; or no memory, for now */
			r = 0;
	}
	return r < 0 ? r : game->error;
}

int main(int argc, char **argv)
{
	struct game game = {.name = argv[1], .count = argc > 2 ? strtoul(argv[2], NULL, 10) : 10};
	int r;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: rendezvous NAME [COUNT]\n");
		return 2;
	}
	r = xenmsg_open(&game.conn, NULL, NULL);
	if (r == 0)
		r = play(&game);
	if (r < 0)
		fprintf(stderr, "rendezvous: %s: %s\n", game.name, xenmsg_reason(game.conn, r));
	xenmsg_close(game.conn);
	if (r < 0)
		return 1;
	printf("%lu there, %lu back\n", game.sent, game.received);
	return 0;
}
