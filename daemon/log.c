/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/log_limit.h"

static enum log_level threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	__atomic_store_n(&threshold, level, __ATOMIC_RELAXED);
}

int log_level_parse(const char *text, enum log_level *level)
{
	static const struct {
		const char *name;
		enum log_level level;
	} names[] = {
		{"error", LOG_LEVEL_ERROR},
		{"warning", LOG_LEVEL_WARNING},
		{"info", LOG_LEVEL_INFO},
		{"debug", LOG_LEVEL_DEBUG},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(text, names[i].name)) {
			*level = names[i].level;
			return 0;
		}
	return -EINVAL;
}

static void __attribute__((format(printf, 2, 0))) log_vline(enum log_level level, const char *format, va_list args)
{
	char line[1024];
	int size;

	if (level > __atomic_load_n(&threshold, __ATOMIC_RELAXED))
		return;
	size = vsnprintf(line, sizeof(line), format, args);
	if (size < 0)
		return;
	for (char *c = line; *c; c++) /* one line a message, whatever text of others is in it */
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "xenmsgd: %s\n", line);
	else
		fprintf(stderr, "<%d>%s\n", (int)level, line);
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_vline(level, format, args);
	va_end(args);
}

static void report(const struct log_source *source, uint64_t held_back)
{
	static const char *const kinds[] = {[LOG_OURSELVES] = "this daemon", [LOG_UID] = "uid", [LOG_DOMAIN] = "domain"};
	unsigned long long count = held_back;

	if (!source)
		log_line(LOG_LEVEL_WARNING, "log: %llu more lines of others were held back", count);
	else if (source->kind == LOG_OURSELVES)
		log_line(LOG_LEVEL_WARNING, "log: %llu more lines about %s were held back", count, kinds[source->kind]);
	else
		log_line(LOG_LEVEL_WARNING, "log: %llu more lines about %s %u were held back", count, kinds[source->kind],
			 source->id);
}

void log_limited(enum log_cause cause, struct log_source source, enum log_level level, const char *format, ...)
{
	static struct log_limits limits;
	va_list args;

	if (level > __atomic_load_n(&threshold, __ATOMIC_RELAXED))
		return;
	log_limits_turn(&limits, clock_ms(), report);
	if (!log_limits_allow(&limits, cause, source))
		return;
	va_start(args, format);
	log_vline(level, format, args);
	va_end(args);
}
