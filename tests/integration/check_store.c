/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XenStore through daemon/xen/store.h, a command a line. Also the hand of a hostile peer, who writes what no
 * daemon would.
 *
 * 	read PATH | write PATH OWNER READER VALUE… | pair PATH1 PATH2 OWNER READER VALUE1 VALUE2 | remove PATH |
 *  list PATH | watch PATH | unwatch PATH | event (waits for the next) | stalled | connected | watches |
 *  leave-watches (and ends all) |
 * 	cancelled PATH (reads, cancels that, and answers at once) | async PATH (reads, and answers at once) |
 *  async-watch PATH (likewise) | async-remove PATH (likewise) | quit (without end of input: as the daemon
 *  stops)
 *
 * In a value %XX stands for a byte.
 */
#include "daemon/xen/store.h"
#include "tests/integration/check_lines.h"

struct tool {
	struct lines lines;
	struct store *store;
	struct watched {
		char *path;
		struct store_watch *watch;
	} watched[256];
	unsigned watched_count;
};

static void on_event(void *userdata, const char *untrusted_path)
{
	struct tool *tool = userdata;

	lines_event(&tool->lines, "%s", untrusted_path);
}

static void on_done(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct tool *tool = userdata;

	if (error < 0)
		lines_result(&tool->lines, error);
	else if (untrusted_value)
		lines_answer(&tool->lines, "ok %.*s", (int)size, untrusted_value);
	else
		lines_result(&tool->lines, 0);
}

static void on_list(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct tool *tool = userdata;
	char text[4096] = "";

	if (error < 0) {
		lines_result(&tool->lines, error);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s", untrusted_names[i]);
	lines_answer(&tool->lines, "ok%s", text);
}

static void decode(const char *text, char *value, size_t size)
{
	size_t used = strlen(value);

	for (; *text && used + 1 < size; text++) {
		char digits[3] = {text[0] == '%' ? text[1] : '\0', text[0] == '%' && text[1] ? text[2] : '\0',
				  '\0'};

		value[used++] = digits[1] ? (char)strtoul(digits, NULL, 16) : *text;
		if (digits[1])
			text += 2;
	}
	value[used] = '\0';
}

static void watch(struct tool *tool, const char *path, store_done_fn done)
{
	struct watched *watched = &tool->watched[tool->watched_count++];

	if (tool->watched_count > 256)
		abort();
	watched->path = strdup(path);
	store_watch(tool->store, path, on_event, tool, done, &watched->watch);
}

static void unwatch(struct tool *tool, const char *path)
{
	for (unsigned i = 0; i < tool->watched_count; i++)
		if (tool->watched[i].watch && !strcmp(tool->watched[i].path, path)) {
			store_unwatch(tool->store, &tool->watched[i].watch);
			return;
		}
}

static void command(void *userdata, char *words[LINES_WORDS], int count)
{
	struct tool *tool = userdata;
	const char *name = words[0], *path = words[1];

	if (!strcmp(name, "read") && count == 2) {
		store_read(tool->store, path, on_done, tool, NULL);
	} else if (!strcmp(name, "write") && count >= 4) {
		char value[16384] = "";

		for (int i = 4; i < count; i++) {
			if (i > 4)
				decode(" ", value, sizeof(value));
			decode(words[i], value, sizeof(value));
		}
		store_write(tool->store, path, value, (uint32_t)atoi(words[2]), atoi(words[3]), on_done, tool,
			    NULL);
	} else if (!strcmp(name, "pair") && count == 7) {
		struct store_leaf leaves[2] = {{words[1], words[5]}, {words[2], words[6]}};

		store_write_leaves(tool->store, leaves, 2, (uint32_t)atoi(words[3]), atoi(words[4]), on_done,
				   tool, NULL);
	} else if (!strcmp(name, "remove") && count == 2) {
		store_remove(tool->store, path, on_done, tool, NULL);
	} else if (!strcmp(name, "list") && count == 2) {
		store_list(tool->store, path, on_list, tool, NULL);
	} else if (!strcmp(name, "watch") && count == 2) {
		watch(tool, path, on_done);
	} else if (!strcmp(name, "unwatch") && count == 2) {
		unwatch(tool, path);
		lines_result(&tool->lines, 0);
	} else if (!strcmp(name, "leave-watches")) {
		store_leave_watches(tool->store);
		for (unsigned i = 0; i < tool->watched_count; i++)
			store_unwatch(tool->store, &tool->watched[i].watch);
		lines_result(&tool->lines, 0);
	} else if (!strcmp(name, "event")) {
		lines_await_event(&tool->lines);
	} else if (!strcmp(name, "cancelled") && count == 2) {
		struct store_request *request;

		store_read(tool->store, path, on_done, tool, &request);
		store_cancel(&request);
		lines_result(&tool->lines, request ? -EINVAL : 0);
	} else if (!strcmp(name, "async") && count == 2) {
		store_read(tool->store, path, NULL, NULL, NULL);
		lines_result(&tool->lines, 0);
	} else if (!strcmp(name, "async-remove") && count == 2) {
		store_remove(tool->store, path, NULL, NULL, NULL);
		lines_result(&tool->lines, 0);
	} else if (!strcmp(name, "async-watch") && count == 2) {
		watch(tool, path, NULL);
		lines_result(&tool->lines, 0);
	} else if (!strcmp(name, "stalled")) {
		lines_result(&tool->lines, (long)store_stalled_ms(tool->store));
	} else if (!strcmp(name, "connected")) {
		lines_result(&tool->lines, store_is_connected(tool->store));
	} else if (!strcmp(name, "watches")) {
		lines_result(&tool->lines, store_watches(tool->store));
	} else if (!strcmp(name, "quit")) {
		event_base_loopbreak(tool->lines.base);
	} else {
		lines_result(&tool->lines, -EINVAL);
	}
}

int main(void)
{
	struct tool tool = {0};
	struct event_base *base = event_base_new();
	int r = store_new(&tool.store, base);

	lines_begin(&tool.lines, base, command, &tool);
	lines_result(&tool.lines, r);
	if (r == 0)
		event_base_dispatch(base);
	store_free(tool.store);
	while (tool.watched_count)
		free(tool.watched[--tool.watched_count].path);
	lines_end(&tool.lines);
	event_base_free(base);
	if (r == 0 && tool.lines.answering)
		puts("ok bye");
	return r == 0 ? 0 : 1;
}
