/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/helpers.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "wire/advice.h"
#include "wire/frame.h"
#include "wire/libc.h"
#include "wire/outcomes.h"
#include "wire/text.h"

#define KEEP_CAPACITY (1u << 20) /* an empty queue keeps this much, so that steady traffic doesn't allocate */

void fifo_free(struct fifo *fifo)
{
	free(fifo->data);
	*fifo = (struct fifo){0};
}

int fifo_reserve(struct fifo *fifo, size_t size)
{
	size_t used = fifo_size(fifo), capacity;
	uint8_t *data;

	if (fifo->capacity - fifo->end >= size)
		return 0;
	/* Moving the rest to the front is cheap only if the rest is the smaller part; else each append might
	 * move all of it. */
	if (fifo->capacity - used >= size && used <= fifo->start) {
		memmove(fifo->data, fifo_front(fifo), used);
		fifo->start = 0;
		fifo->end = used;
		return 0;
	}
	/* The new capacity is twice the content: then the rest is the smaller part whenever the end is
	 * reached, and a queue that never empties needs no more memory once it has found its size. The first
	 * allocation is exact, since it is often the only one, and large. */
	capacity = used ? 2 * (used + size) : size;
	if (capacity < 4096)
		capacity = 4096;
	data = malloc(capacity);
	if (!data)
		return -ENOMEM;
	if (used)
		memcpy(data, fifo_front(fifo), used);
	free(fifo->data);
	*fifo = (struct fifo){.data = data, .end = used, .capacity = capacity};
	return 0;
}

int fifo_append(struct fifo *fifo, const void *data, size_t size)
{
	int r = fifo_reserve(fifo, size);

	if (r < 0 || size == 0)
		return r;
	memcpy(fifo->data + fifo->end, data, size);
	fifo->end += size;
	return 0;
}

static void shrink_if_empty(struct fifo *fifo)
{
	if (fifo_size(fifo) != 0)
		return;
	fifo->start = fifo->end = 0;
	if (fifo->capacity > KEEP_CAPACITY)
		fifo_free(fifo);
}

void fifo_drop(struct fifo *fifo, size_t size)
{
	fifo->start += size;
	shrink_if_empty(fifo);
}

void fifo_truncate(struct fifo *fifo, size_t size)
{
	fifo->end -= size;
	shrink_if_empty(fifo);
}

void *circular_grow(void *list, size_t each, uint32_t head, uint32_t count, uint32_t *capacity)
{
	uint32_t larger = *capacity ? *capacity * 2 : 64, first = head & (*capacity - 1),
		 to_end = *capacity - first;
	uint8_t *grown = malloc(larger * each);

	if (!grown)
		return NULL;
	if (to_end > count)
		to_end = count;
	if (count) {
		memcpy(grown, (uint8_t *)list + first * each, to_end * each);
		memcpy(grown + to_end * each, list, (count - to_end) * each);
	}
	free(list);
	*capacity = larger;
	return grown;
}

/* ---- words -------------------------------------------------------------------------------- */

#define WORDS(number, status, text)                                                                          \
	case number:                                                                                         \
		return text;

const char *xenmsg_error_text(int error)
{
	switch (abs(error)) {
		OUTCOMES(WORDS)
	case 0:
		return "";
	}
	return strerror(abs(error));
}

const char *words_of_reset(uint32_t flags)
{
	switch (flags & RESET_BY) {
	case RESET_BY_PROGRAM:
		return "the program there has ended it; whether it was delivered can't be known";
	case RESET_BY_DEATH:
		return "the program there has died, or left without a word; whether it was "
		       "delivered can't be known";
	case RESET_BY_LOSS:
		return "its domain, or the xenmsgd there, is gone; whether it was delivered can't be known";
	case RESET_BY_RELAY:
		return ADVICE_DENIED_BY_RELAY;
	default:
		return NULL;
	}
}

const char *words_of_opening(int error)
{
	switch (abs(error)) {
		OPENINGS(WORDS)
	case 0:
		return "";
	}
	return strerror(abs(error));
}

static const char *name_of(const char *const *names, size_t count, unsigned kind)
{
	return kind < count && names[kind] ? names[kind] : "unknown";
}

#define NAME_OF(names, kind) name_of(names, sizeof(names) / sizeof((names)[0]), (unsigned)(kind))

const char *xenmsg_change_name(enum xenmsg_change_kind kind)
{
	static const char *const names[] = {
		[XENMSG_DAEMON_LOST] = "daemon lost",	    [XENMSG_DAEMON_BACK] = "daemon back",
		[XENMSG_DAEMON_REFUSED] = "daemon refused", [XENMSG_RENUMBERED] = "renumbered",
		[XENMSG_LISTENERS] = "listeners",	    [XENMSG_NOT_SUBSCRIBED] = "not subscribed",
	};

	return NAME_OF(names, kind);
}

const char *xenmsg_notice_name(enum xenmsg_notice_kind kind)
{
	static const char *const names[] = {
		[XENMSG_SUBSCRIBED] = "subscribed", [XENMSG_MISSED] = "missed", [XENMSG_WAITING] = "waiting",
		[XENMSG_ENDED] = "ended",	    [XENMSG_KEPT] = "kept",
	};

	return NAME_OF(names, kind);
}

const char *xenmsg_event_name(enum xenmsg_event_kind kind)
{
	static const char *const names[] = {
		[XENMSG_DOMAIN_UP] = "domain up",     [XENMSG_DOMAIN_DOWN] = "domain down",
		[XENMSG_ENDPOINT_UP] = "endpoint up", [XENMSG_ENDPOINT_DOWN] = "endpoint down",
		[XENMSG_DOMAIN_AWAY] = "domain away", [XENMSG_HOST_UP] = "host up",
		[XENMSG_HOST_DOWN] = "host down",     [XENMSG_LISTED] = "listed",
	};

	return NAME_OF(names, kind);
}

/* ---- with XENMSG_DEBUG -------------------------------------------------------------------- */

bool trace_is_wanted(void)
{
	const char *wanted = secure_getenv("XENMSG_DEBUG");

	return wanted && strcmp(wanted, "1") == 0;
}

void trace_line(const char *format, ...)
{
	struct pollfd there = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[512], when[16] = "";
	int size, before = errno;
	struct timespec now;
	struct tm parts;
	va_list args;

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &parts))
		strftime(when, sizeof(when), "%H:%M:%S", &parts);
	size = snprintf(line, sizeof(line), "%s.%06ldZ libxenmsg[%d]: ", when, now.tv_nsec / 1000,
			(int)getpid());
	va_start(args, format);
	vsnprintf(line + size, sizeof(line) - (size_t)size - 1, format, args);
	va_end(args);
	text_make_line(line); /* names may come from elsewhere */
	size = (int)strlen(line);
	line[size++] = '\n';
	/* Nobody is waited for, and nobody killed, if it is a pipe that isn't read. */
	if (poll(&there, 1, 0) == 1 && there.revents == POLLOUT &&
	    write(STDERR_FILENO, line, (size_t)size) < 0)
		errno = before; /* there is nobody to tell */
	errno = before;
}

const char *trace_outcome(int result)
{
	return result == 0 ? "delivered" : strerrorname_np(-result) ? strerrorname_np(-result) : "failed";
}
