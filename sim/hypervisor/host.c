/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the host writes down of itself, and the end of what it keeps in files. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <event2/event.h>
#include <ftw.h>
#include <stdlib.h>
#include <time.h>

static void log_line(struct hv *hv, const char *prefix, const char *format, va_list arguments)
	__attribute__((format(printf, 3, 0)));

static void log_line(struct hv *hv, const char *prefix, const char *format, va_list arguments)
{
	struct timespec now;

	if (!hv->log)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	fprintf(hv->log, "[%8ld.%06ld] %s", (long)now.tv_sec, now.tv_nsec / 1000, prefix);
	vfprintf(hv->log, format, arguments);
	fputc('\n', hv->log);
	fflush(hv->log);
}

void hv_log(struct hv *hv, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(hv, "", format, arguments);
	va_end(arguments);
	va_start(arguments, format);
	hv_record_host(hv, format, arguments);
	va_end(arguments);
}

void hv_kernel_log(struct hv_domain *domain, const char *format, ...)
{
	struct hv *hv = domain->hv;
	char *line = NULL, *all = NULL, prefix[32];
	va_list arguments;

	snprintf(prefix, sizeof(prefix), "d%u: ", domain->domid);
	va_start(arguments, format);
	log_line(hv, prefix, format, arguments);
	va_end(arguments);
	va_start(arguments, format);
	if (vasprintf(&line, format, arguments) < 0)
		line = NULL;
	va_end(arguments);
	if (line && asprintf(&all, "%s%s%s\n", hv->kernel_log ? hv->kernel_log : "", prefix, line) >= 0) {
		free(hv->kernel_log);
		hv->kernel_log = all;
	}
	free(line);
}

void hv_timer_set(struct event *timer, uint32_t milliseconds)
{
	const struct timeval time = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};

	event_add(timer, &time);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	return remove(path);
}

void hv_remove_directory(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
