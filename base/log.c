/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syslog.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_limit.h"
#include "wire/text.h"

static enum log_level threshold = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	__atomic_store_n(&threshold, level, __ATOMIC_RELAXED);
}

static bool skips_repeats;

void log_skip_repeats(bool skip)
{
	__atomic_store_n(&skips_repeats, skip, __ATOMIC_RELAXED);
}

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};
#define LEVEL_NAMES (sizeof(level_names) / sizeof(*level_names))

int log_level_parse(const char *text, enum log_level *level)
{
	for (size_t i = 0; i < LEVEL_NAMES; i++)
		if (level_names[i] && !strcmp(text, level_names[i])) {
			*level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

static const char *const target_names[] = {
	[LOG_TO_STDERR] = "stderr",
	[LOG_TO_SYSLOG] = "syslog",
	[LOG_TO_JOURNAL] = "journal",
};

int log_target_parse(const char *text, enum log_target *target)
{
	for (size_t i = 0; i < sizeof(target_names) / sizeof(*target_names); i++)
		if (!strcmp(text, target_names[i])) {
			*target = (enum log_target)i;
			return 0;
		}
	return -EINVAL;
}

/* --- writing without waiting ------------------------------------------------------------------ */

#define LINE_MAX_SIZE 1024

/* How stderr is written to, as long as it leads to the same file. It is the process's, as stderr is. */
static struct {
	pthread_mutex_t lock; /* nothing that may block is done under it */
	enum { WAY_NONE, WAY_SOCKET, WAY_OWN, WAY_POLLED, WAY_FILE } way;
	dev_t device;
	ino_t inode;
	int own; /* WAY_OWN: stderr, opened once more and non-blocking */
	bool is_journal;
	unsigned long lost;
	enum log_target target;
	const char *path; /* of the target's socket */
	int socket;	  /* connected to it; -1: not yet, or not any more */
	char last_error[LINE_MAX_SIZE];
} out = {.lock = PTHREAD_MUTEX_INITIALIZER, .socket = -1};

void log_set_target(enum log_target target, const char *path)
{
	static const char *const paths[] = {
		[LOG_TO_SYSLOG] = "/dev/log", [LOG_TO_JOURNAL] = "/run/systemd/journal/socket"};

	pthread_mutex_lock(&out.lock);
	out.target = target;
	out.path = path || target == LOG_TO_STDERR ? path : paths[target];
	if (out.socket >= 0)
		close(out.socket);
	out.socket = -1;
	pthread_mutex_unlock(&out.lock);
}

/* Whether stderr leads to the journal, as the service manager has set it up (systemd.exec(5)). */
static bool leads_to_journal(const struct stat *status)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && device == status->st_dev &&
	       inode == status->st_ino;
}

static void choose_way(void)
{
	struct stat status;

	if (fstat(STDERR_FILENO, &status) < 0)
		status = (struct stat){0};
	if (out.way != WAY_NONE && status.st_dev == out.device && status.st_ino == out.inode)
		return;
	if (out.way == WAY_OWN)
		close(out.own);
	out.device = status.st_dev;
	out.inode = status.st_ino;
	out.is_journal = leads_to_journal(&status);
	out.way = S_ISSOCK(status.st_mode) ? WAY_SOCKET : WAY_FILE;
	if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode))
		return;
	out.own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	out.way = out.own >= 0 ? WAY_OWN : WAY_POLLED;
}

/* Writes the text. -EAGAIN: nobody reads. No other error is worth reporting, nor is there anybody to report
 * it to. */
static int log_put(const char *text, size_t size)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	ssize_t written;

	switch (out.way) {
	case WAY_SOCKET:
		written = send(STDERR_FILENO, text, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case WAY_OWN:
		written = write(out.own, text, size);
		break;
	case WAY_POLLED:
		if (poll(&room, 1, 0) == 1 && !(room.revents & POLLOUT))
			return 0;
		if (!room.revents)
			return -EAGAIN;
		written = write(STDERR_FILENO, text, size);
		break;
	default:
		written = write(STDERR_FILENO, text, size);
	}
	return written < 0 && errno == EAGAIN ? -EAGAIN : 0;
}

/* Writes the line as one piece of at most PIPE_BUF: all of it, or nothing. */
static int put_line(enum log_level level, const char *line)
{
	char text[LINE_MAX_SIZE + 48];
	int size;

	_Static_assert(sizeof(text) <= PIPE_BUF, "a write of more may be torn");
	if (out.is_journal) {
		size = snprintf(text, sizeof(text), "<%d>%s\n", (int)level, line);
	} else {
		char when[24] = "";
		struct timespec now;
		struct tm parts;

		/* The time is UTC, since for the local time a file may have to be read. */
		clock_gettime(CLOCK_REALTIME, &now);
		if (gmtime_r(&now.tv_sec, &parts))
			strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &parts);
		size = snprintf(text, sizeof(text), "%s.%03dZ %s: %s\n", when, (int)(now.tv_nsec / 1000000),
				level_names[level], line);
	}
	return log_put(text, (size_t)size);
}

static bool connect_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(out.path) >= sizeof(address.sun_path))
		return false;
	strcpy(address.sun_path, out.path);
	out.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (out.socket >= 0 && connect(out.socket, (struct sockaddr *)&address, sizeof(address)) == 0)
		return true;
	if (out.socket >= 0)
		close(out.socket);
	out.socket = -1;
	return false;
}

/* Sends the line to syslog or the journal. -EAGAIN: nobody reads there; -ENOTCONN: nobody listens. */
static int log_send_line(enum log_level level, const char *line)
{
	char text[LINE_MAX_SIZE + 128];
	const char *name = program_invocation_short_name;
	int pid = (int)getpid(), size;

	if (out.target == LOG_TO_SYSLOG)
		size = snprintf(text, sizeof(text), "<%d>%.32s[%d]: %s", LOG_DAEMON | (int)level, name, pid,
				line);
	else
		size = snprintf(text, sizeof(text),
				"PRIORITY=%d\nSYSLOG_IDENTIFIER=%.32s\nSYSLOG_PID=%d\nMESSAGE=%s\n",
				(int)level, name, pid, line);
	/* The listener may be another one than before: then a second connection finds it. */
	for (int attempt = 0; attempt < 2; attempt++) {
		if (out.socket < 0 && !connect_socket())
			return -ENOTCONN;
		if (send(out.socket, text, (size_t)size, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EAGAIN || errno == ENOBUFS)
			return -EAGAIN;
		close(out.socket);
		out.socket = -1;
	}
	return -ENOTCONN;
}

static int deliver(enum log_level level, const char *line)
{
	int r = out.target == LOG_TO_STDERR ? -ENOTCONN : log_send_line(level, line);

	return r == -ENOTCONN ? put_line(level, line) : r;
}

static void tell_lost(void)
{
	char line[80];

	if (out.lost == 0)
		return;
	snprintf(line, sizeof(line), "log: %lu lines are lost, which nobody had read", out.lost);
	if (deliver(LOG_LEVEL_WARNING, line) == 0)
		out.lost = 0;
}

static bool is_skipped(enum log_level level, const char *line)
{
	bool repeats = level == LOG_LEVEL_ERROR && !strcmp(line, out.last_error);

	if (level == LOG_LEVEL_ERROR)
		strcpy(out.last_error, line);
	return repeats && __atomic_load_n(&skips_repeats, __ATOMIC_RELAXED);
}

static void __attribute__((format(printf, 2, 0)))
log_vline(enum log_level level, const char *format, va_list args)
{
	char line[LINE_MAX_SIZE];
	int size;

	if (level > __atomic_load_n(&threshold, __ATOMIC_RELAXED))
		return;
	size = vsnprintf(line, sizeof(line), format, args);
	if (size < 0)
		return;
	text_make_line(line);
	pthread_mutex_lock(&out.lock);
	choose_way();
	tell_lost();
	if (!is_skipped(level, line) && deliver(level, line) == -EAGAIN)
		out.lost++;
	pthread_mutex_unlock(&out.lock);
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_vline(level, format, args);
	va_end(args);
}

static struct {
	const char *(*name)(const void *userdata, uint32_t number);
	const void *userdata;
} hosts;

void log_name_hosts(const char *(*name)(const void *userdata, uint32_t number), const void *userdata)
{
	hosts.name = name;
	hosts.userdata = userdata;
}

void log_source_text(const struct log_source *source, char *text, size_t size)
{
	const char *host = "";

	if (source->kind == LOG_HOST && hosts.name)
		host = hosts.name(hosts.userdata, source->id);
	if (source->kind == LOG_OURSELVES)
		snprintf(text, size, "this daemon");
	else if (*host)
		snprintf(text, size, "host %s", host);
	else if (source->kind == LOG_HOST)
		snprintf(text, size, "another host");
	else
		snprintf(text, size, "%s %u", source->kind == LOG_UID ? "uid" : "domain", source->id);
}

static void log_report(const struct log_source *source, uint64_t held_back)
{
	unsigned long long count = held_back;
	char who[96];

	if (!source) {
		log_line(LOG_LEVEL_WARNING, "log: %llu more lines of others were held back", count);
		return;
	}
	log_source_text(source, who, sizeof(who));
	log_line(LOG_LEVEL_WARNING, "log: %llu more lines about %s were held back", count, who);
}

void log_limited(enum log_cause cause, struct log_source source, enum log_level level, const char *format,
		 ...)
{
	static struct log_limits limits;
	va_list args;

	if (level > __atomic_load_n(&threshold, __ATOMIC_RELAXED))
		return;
	log_limits_turn(&limits, clock_ms(), log_report);
	if (!log_limits_allow(&limits, cause, source))
		return;
	va_start(args, format);
	log_vline(level, format, args);
	va_end(args);
}
