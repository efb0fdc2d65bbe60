/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A chat between domains: each line of standard input goes to everybody who has the room open, in any domain.
 * A watch tells who comes and goes, so there is no server and no list of members.
 *
 *   chat [ROOM]
 *
 * The same in the shell: chat.sh.
 *
 *   cc chat.c $(pkg-config --cflags --libs xenmsg) -o chat
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <xenmsg.h>

#define MEMBERS_MAX 64

struct chat {
	struct xenmsg *conn;
	const char *room;
	uint32_t members[MEMBERS_MAX];
	unsigned count, outstanding;
	char line[4096];
	size_t filled;
};

static void show(uint32_t domid, const char *domain_name, const char *text, size_t size)
{
	if (*domain_name)
		printf("%s: %.*s\n", domain_name, (int)size, text);
	else
		printf("domain %u: %.*s\n", domid, (int)size, text);
	fflush(stdout);
}

static void on_event(void *userdata, const struct xenmsg_event *event)
{
	struct chat *chat = userdata;

	if (event->kind == XENMSG_LISTED || event->domid == xenmsg_domid(chat->conn))
		return;
	for (unsigned i = 0; i < chat->count; i++)
		if (chat->members[i] == event->domid)
			chat->members[i--] = chat->members[--chat->count];
	if (event->kind == XENMSG_ENDPOINT_UP && chat->count == MEMBERS_MAX) {
		show(event->domid, event->domain_name,
		     "(comes in, but hears nothing from here: too many are)", 53);
	} else if (event->kind == XENMSG_ENDPOINT_UP) {
		chat->members[chat->count++] = event->domid;
		show(event->domid, event->domain_name, "(comes in)", 10);
	} else if (event->kind == XENMSG_ENDPOINT_DOWN) {
		show(event->domid, event->domain_name, "(leaves)", 8);
	}
}

static void on_message(void *userdata, struct xenmsg_message *message)
{
	(void)userdata;
	show(xenmsg_peer_domid(xenmsg_message_sender(message)),
	     xenmsg_peer_domain_name(xenmsg_message_sender(message)), xenmsg_message_data(message),
	     xenmsg_message_size(message));
	xenmsg_message_free(message);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct chat *chat = userdata;

	chat->outstanding--;
	if (result->error < 0)
		fprintf(stderr, "chat: somebody didn't get that: %s\n", result->reason);
}

static void say(struct chat *chat, const char *text, size_t size)
{
	char address[80];

	for (unsigned i = 0; i < chat->count; i++) {
		int r;

		snprintf(address, sizeof(address), "%u:%s", chat->members[i], chat->room);
		r = xenmsg_begin_send(chat->conn, address, text, size, NULL, on_done, chat, NULL);
		if (r < 0) /* also -EAGAIN: a member that doesn't read misses it, since nobody waits for it */
			fprintf(stderr, "chat: %s: %s\n", address, xenmsg_error_text(r));
		else
			chat->outstanding++;
	}
}

/* Returns 0 at the end of standard input. */
static int take_input(struct chat *chat)
{
	ssize_t n = read(STDIN_FILENO, chat->line + chat->filled, sizeof(chat->line) - chat->filled);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n <= 0) {
		if (chat->filled) /* a line without an end */
			say(chat, chat->line, chat->filled);
		return 0;
	}
	chat->filled += (size_t)n;
	while ((end = memchr(chat->line, '\n', chat->filled)) || chat->filled == sizeof(chat->line)) {
		size_t size = end ? (size_t)(end - chat->line) : chat->filled, used = end ? size + 1 : size;

		say(chat, chat->line, size);
		chat->filled -= used;
		memmove(chat->line, chat->line + used, chat->filled);
	}
	return 1;
}

static int run(struct chat *chat)
{
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
	char pattern[80];
	int r = xenmsg_bind(chat->conn, chat->room, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, chat);

	if (r < 0)
		return r;
	snprintf(pattern, sizeof(pattern), "*:%s", chat->room);
	r = xenmsg_watch(chat->conn, pattern, NULL, on_event, chat);
	fds[1].fd = xenmsg_fd(chat->conn);
	while (r >= 0 && (fds[0].fd >= 0 || chat->outstanding)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[0].revents && !take_input(chat))
			fds[0].fd = -1;
		fds[0].revents = 0;
		r = xenmsg_process(chat->conn);
		if (r == -ENOMEM) /* for now */
			r = 0;
	}
	return r < 0 ? r : 0;
}

int main(int argc, char **argv)
{
	struct chat chat = {.room = argc > 1 ? argv[1] : "chat"};
	int r;

	if (argc > 2) {
		fprintf(stderr, "usage: chat [ROOM]\n");
		return 2;
	}
	r = xenmsg_open(&chat.conn, NULL, NULL);
	if (r == 0)
		r = run(&chat);
	if (r < 0)
		fprintf(stderr, "chat: %s: %s\n", chat.room, xenmsg_reason(chat.conn, r));
	xenmsg_close(chat.conn);
	return r < 0;
}
