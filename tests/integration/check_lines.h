/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CHECK_LINES_H
#define XENMSG_TESTS_CHECK_LINES_H

/*
 * What the check programs of the daemon's parts share: commands on stdin, a line each, each answered by one
 * line on stdout, "ok ..." or "error ERRNO ...". The next command is read when the last one was answered,
 * which a command that waits for something does from a callback of the event loop. The program ends at the
 * end of stdin.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#define LINES_WORDS  16
#define LINES_EVENTS 4096

struct lines {
	struct event_base *base;
	struct event *input;
	void (*command)(void *userdata, char *words[LINES_WORDS], int count);
	void *userdata;
	bool answering; /* a command waits for its answer */
	/* What has happened, and is told a line each as it is asked for. */
	char *events[LINES_EVENTS];
	unsigned first_event, events_count;
	bool event_awaited; /* a command waits for the next one */
	size_t used;
	char buffer[16384];
};

static inline void __attribute__((format(printf, 2, 3)))
lines_answer(struct lines *lines, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	lines->answering = false;
	event_active(lines->input, EV_TIMEOUT, 0); /* more commands may lie in the buffer */
}

static inline void lines_result(struct lines *lines, long result)
{
	if (result < 0)
		lines_answer(lines, "error %ld %s", -result, strerror((int)-result));
	else
		lines_answer(lines, "ok %ld", result);
}

static inline void lines_drop_event(struct lines *lines)
{
	free(lines->events[lines->first_event]);
	lines->first_event = (lines->first_event + 1) % LINES_EVENTS;
	lines->events_count--;
}

static inline void lines_tell_event(struct lines *lines)
{
	if (!lines->event_awaited || !lines->events_count)
		return;
	lines->event_awaited = false;
	lines_answer(lines, "ok %s", lines->events[lines->first_event]);
	lines_drop_event(lines);
}

/* Answers by the next event, when there is one. */
static inline void lines_await_event(struct lines *lines)
{
	lines->event_awaited = true;
	lines_tell_event(lines);
}

static inline void __attribute__((format(printf, 2, 3)))
lines_event(struct lines *lines, const char *format, ...)
{
	char text[4096];
	va_list args;

	if (lines->events_count == LINES_EVENTS)
		abort();
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	lines->events[(lines->first_event + lines->events_count++) % LINES_EVENTS] = strdup(text);
	lines_tell_event(lines);
}

static inline void lines_on_input(evutil_socket_t fd, short what, void *userdata)
{
	struct lines *lines = userdata;
	char *words[LINES_WORDS] = {NULL}, *end, *save = NULL;
	int count = 0;

	if (what & EV_READ) {
		ssize_t size = read(fd, lines->buffer + lines->used, sizeof(lines->buffer) - 1 - lines->used);

		if (size <= 0) {
			event_base_loopbreak(lines->base);
			return;
		}
		lines->used += (size_t)size;
	}
	lines->buffer[lines->used] = '\0';
	if (lines->answering || (end = strchr(lines->buffer, '\n')) == NULL)
		return;
	*end = '\0';
	for (char *word = strtok_r(lines->buffer, " ", &save); word && count < LINES_WORDS;
	     word = strtok_r(NULL, " ", &save))
		words[count++] = strdup(word);
	lines->used -= (size_t)(end + 1 - lines->buffer);
	memmove(lines->buffer, end + 1, lines->used + 1);
	if (count) {
		lines->answering = true;
		lines->command(lines->userdata, words, count);
	}
	for (int i = 0; i < count; i++)
		free(words[i]);
}

static inline void lines_begin(struct lines *lines, struct event_base *base,
			       void (*command)(void *userdata, char *words[LINES_WORDS], int count),
			       void *userdata)
{
	lines->base = base;
	lines->command = command;
	lines->userdata = userdata;
	lines->input = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, lines_on_input, lines);
	event_add(lines->input, NULL);
}

static inline void lines_end(struct lines *lines)
{
	while (lines->events_count)
		lines_drop_event(lines);
	event_free(lines->input);
}

#endif
