/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A vchan made by daemon/xen/vchan.h, driven by commands a line each, with stock libxenvchan
 * (tests/conformance/check_vchan.c) at the other end. Bytes follow the same pattern as there, so that each
 * reader can check each.
 *
 * 	serve DOMID READ WRITE (answers what the other end maps: REF PORT) | map DOMID REF PORT
 * 	write N (as much of it as there is space for) | writeall N | read N (what is there) | readall N
 * 	state | awaitstate S (0 waiting, 1 connected, 2 closed, 3 broken) | event (waits until the next one)
 * 	pages | sizes | granted | notified (how often the other end was) | close
 * 	grant DOMID READ WRITE (one more; answers its pages) | ungrant (the last of them)
 */

#include "daemon/xen/vchan.h"
#include "tests/integration/check_lines.h"

#define MAX_DATA  (1u << 22)
#define MAX_EXTRA 64

struct tool {
	struct lines lines;
	struct vchan_host *host;
	struct vchan *vchan;
	struct vchan *extra[MAX_EXTRA];
	unsigned extras;
	struct ring_writer writer;
	struct ring_reader reader;
	uint64_t written, read;
	unsigned long events, notified;
	enum { NOTHING, WRITE_ALL, READ_ALL, STATE, EVENT } awaited;
	uint32_t left; /* of the command under way */
	uint8_t *data;
};

static void fill(uint8_t *data, size_t size, uint64_t *position)
{
	for (size_t i = 0; i < size; i++, ++*position)
		data[i] = (uint8_t)(*position * 31 + (*position >> 8));
}

static bool check(const uint8_t *data, size_t size, uint64_t *position)
{
	for (size_t i = 0; i < size; i++, ++*position)
		if (data[i] != (uint8_t)(*position * 31 + (*position >> 8)))
			return false;
	return true;
}

static int take_rings(struct tool *tool)
{
	struct ring_view view;
	int r;

	vchan_read_view(tool->vchan, &view);
	r = ring_reader_init(&tool->reader, &view, false);
	if (r < 0)
		return r;
	vchan_write_view(tool->vchan, &view);
	return ring_writer_init(&tool->writer, &view, false);
}

static void notify(struct tool *tool)
{
	tool->notified++;
	vchan_notify(tool->vchan);
}

static int write_some(struct tool *tool, uint32_t size)
{
	int space = ring_writer_space(&tool->writer, size);

	if (space < 0)
		return space;
	if (size > (uint32_t)space)
		size = (uint32_t)space;
	fill(tool->data, size, &tool->written);
	ring_writer_put(&tool->writer, tool->data, size);
	if (ring_writer_publish(&tool->writer))
		notify(tool);
	return (int)size;
}

static int read_some(struct tool *tool, uint32_t size)
{
	int ready = ring_reader_ready(&tool->reader, size);

	if (ready < 0)
		return ready;
	if (size > (uint32_t)ready)
		size = (uint32_t)ready;
	ring_reader_copy(&tool->reader, 0, tool->data, size);
	ring_reader_consume(&tool->reader, size);
	if (ring_reader_release(&tool->reader))
		notify(tool);
	return check(tool->data, size, &tool->read) ? (int)size : -EBADMSG;
}

/* Goes on with a command that waits; each pass ends by arming the notification, as whoever sleeps must. */
static void go_on(struct tool *tool)
{
	int r = 0;

	if (tool->awaited == WRITE_ALL || tool->awaited == READ_ALL) {
		do {
			r = tool->awaited == WRITE_ALL ? write_some(tool, tool->left)
						       : read_some(tool, tool->left);
			if (r >= 0)
				tool->left -= (uint32_t)r;
			if (r >= 0 && tool->left)
				r = tool->awaited == WRITE_ALL ? ring_writer_arm(&tool->writer, 1)
							       : ring_reader_arm(&tool->reader, 1);
		} while (r > 0 && tool->left);
		if (r >= 0 && tool->left && vchan_state(tool->vchan) == VCHAN_CLOSED)
			r = -EPIPE;
		if (r >= 0 && tool->left)
			return;
	} else if (tool->awaited == STATE) {
		if ((uint32_t)vchan_state(tool->vchan) != tool->left)
			return;
	} else if (tool->awaited == EVENT) {
		if (!tool->events)
			return;
		tool->events--;
	} else {
		return;
	}
	tool->awaited = NOTHING;
	lines_result(&tool->lines, r < 0 ? r : 0);
}

static void on_event(void *userdata)
{
	struct tool *tool = userdata;

	if (!tool->vchan)
		return;
	tool->events++;
	go_on(tool);
}

static void await(struct tool *tool, int what, const char *argument)
{
	tool->awaited = what;
	tool->left = argument ? (uint32_t)atoi(argument) : 0;
	go_on(tool);
}

static void command(void *userdata, char *words[LINES_WORDS], int count)
{
	struct tool *tool = userdata;
	struct lines *lines = &tool->lines;
	const char *name = words[0], *argument = words[1];
	uint32_t number = argument ? (uint32_t)atoi(argument) : 0;

	if (!strcmp(name, "granted")) {
		lines_result(lines, vchan_host_pages_granted(tool->host));
	} else if (!strcmp(name, "grant") && count == 4 && tool->extras < MAX_EXTRA) {
		int r = vchan_grant(tool->host, number, (uint32_t)atoi(words[2]), (uint32_t)atoi(words[3]),
				    NULL, NULL, &tool->extra[tool->extras]);

		lines_result(lines, r < 0 ? r : (int)vchan_pages(tool->extra[tool->extras++]));
	} else if (!strcmp(name, "ungrant") && tool->extras) {
		vchan_close(tool->extra[--tool->extras]);
		lines_result(lines, tool->extras);
	} else if (!strcmp(name, "serve") && count == 4) {
		int r = vchan_grant(tool->host, number, (uint32_t)atoi(words[2]), (uint32_t)atoi(words[3]),
				    on_event, tool, &tool->vchan);

		if (r == 0)
			r = take_rings(tool);
		if (r < 0)
			lines_result(lines, r);
		else
			lines_answer(lines, "ok %u %u", vchan_ring_ref(tool->vchan), vchan_port(tool->vchan));
	} else if (!strcmp(name, "map") && count == 4) {
		int r = vchan_map(tool->host, number, (uint32_t)atoi(words[2]), (uint32_t)atoi(words[3]),
				  on_event, tool, &tool->vchan);

		lines_result(lines, r < 0 ? r : take_rings(tool));
	} else if (!tool->vchan) {
		lines_result(lines, -ENOTCONN);
	} else if (!strcmp(name, "write") && number <= MAX_DATA) {
		lines_result(lines, write_some(tool, number));
	} else if (!strcmp(name, "read") && number <= MAX_DATA) {
		lines_result(lines, read_some(tool, number));
	} else if (!strcmp(name, "writeall") && number <= MAX_DATA) {
		await(tool, WRITE_ALL, argument);
	} else if (!strcmp(name, "readall") && number <= MAX_DATA) {
		await(tool, READ_ALL, argument);
	} else if (!strcmp(name, "awaitstate")) {
		await(tool, STATE, argument);
	} else if (!strcmp(name, "event")) {
		await(tool, EVENT, NULL);
	} else if (!strcmp(name, "state")) {
		lines_result(lines, (long)vchan_state(tool->vchan));
	} else if (!strcmp(name, "pages")) {
		lines_result(lines, vchan_pages(tool->vchan));
	} else if (!strcmp(name, "sizes")) {
		lines_answer(lines, "ok %u %u", tool->reader.ring.size, tool->writer.ring.size);
	} else if (!strcmp(name, "notified")) {
		lines_result(lines, (long)tool->notified);
	} else if (!strcmp(name, "close")) {
		vchan_close(tool->vchan);
		tool->vchan = NULL;
		lines_result(lines, 0);
	} else {
		lines_result(lines, -EINVAL);
	}
}

int main(void)
{
	struct tool tool = {.data = malloc(MAX_DATA)};
	struct event_base *base = event_base_new();
	const char *what = "";
	int r = vchan_host_new(&tool.host, base, &what);

	lines_begin(&tool.lines, base, command, &tool);
	lines_result(&tool.lines, r);
	if (r == 0)
		event_base_dispatch(base);
	else
		fprintf(stderr, "%s\n", what);
	vchan_close(tool.vchan);
	while (tool.extras)
		vchan_close(tool.extra[--tool.extras]);
	vchan_host_free(tool.host);
	lines_end(&tool.lines);
	event_base_free(base);
	free(tool.data);
	return r == 0 ? 0 : 1;
}
