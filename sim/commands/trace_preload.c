/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxensim-trace: preloaded into a program, by xensim trace, it writes down what that asks of Xen's
 * libraries, in the columns of a record (hypervisor/record.c). It needs no simulated host, so what a
 * program does on real Xen can be compared with what it does here. It stands before the libraries'
 * functions, and passes each call on to the next of that name: the library's, or libxensim's.
 *
 * A line is appended by one write to a file that was opened for it, so that the program may close what it
 * likes, fork, and be one of several that write to the file.
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#include "sim/hypervisor/proto.h"
#include "sim/hypervisor/record_text.h"

#define EXPORT __attribute__((visibility("default")))
/* `next` is the function that ours passes on to. */
#define NEXT(name)                                                                                           \
	static _Atomic(void *) found;                                                                        \
	__typeof__(&name) next = (__typeof__(&name))next_function(&found, #name)

/* The library is there, since the program calls it, or a library that needs it. */
static void *next_function(_Atomic(void *) *found, const char *name)
{
	void *function = atomic_load(found);

	if (!function) {
		function = dlsym(RTLD_NEXT, name);
		if (!function) {
			fprintf(stderr, "xensim trace: no library has %s\n", name);
			abort();
		}
		atomic_store(found, function);
	}
	return function;
}

static unsigned find_own_domid(void)
{
	void *library = dlopen("libxenstore.so.4", RTLD_NOW | RTLD_LOCAL);
	__typeof__(&xs_open) open_store = library ? (__typeof__(&xs_open))dlsym(library, "xs_open") : NULL;
	__typeof__(&xs_read) read_store = library ? (__typeof__(&xs_read))dlsym(library, "xs_read") : NULL;
	__typeof__(&xs_close) close_store =
		library ? (__typeof__(&xs_close))dlsym(library, "xs_close") : NULL;
	struct xs_handle *store = open_store && read_store && close_store ? open_store(0) : NULL;
	char *text = store ? read_store(store, XBT_NULL, "domid", NULL) : NULL;
	unsigned domid = text ? (unsigned)strtoul(text, NULL, 10) : 0;

	free(text);
	if (store)
		close_store(store);
	return domid;
}

/* It doesn't change while a program runs, but for a restore. */
static unsigned own_domid(void)
{
	static _Atomic unsigned known; /* one more than it */

	if (!known)
		known = find_own_domid() + 1;
	return known - 1;
}

struct trace_line {
	FILE *out; /* NULL: nobody wants it */
	char *text;
	size_t size;
	int error; /* what the call has left in errno */
};

/* Begins the line of a call that has ended. */
static void line_begin(struct trace_line *line, const char *operation)
{
	const char *start = getenv(SIM_ENV_TRACE_START);
	struct timespec now;
	double seconds = start ? strtod(start, NULL) : 0;

	*line = (struct trace_line){.error = errno};
	if (getenv(SIM_ENV_TRACE))
		line->out = open_memstream(&line->text, &line->size);
	if (!line->out)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - seconds;
	fprintf(line->out, "%.6f\td%u\t%s\t", seconds > 0 ? seconds : 0, own_domid(), operation);
}

/* With the call's result, unless that is an error. */
static void line_end(struct trace_line *line, bool failed)
{
	static atomic_bool ended;
	ssize_t written = -1;
	int fd;

	if (line->out) {
		if (failed)
			fputs(strerrorname_np(line->error) ? strerrorname_np(line->error) : "?", line->out);
		fputc('\n', line->out);
		fclose(line->out);
		fd = ended ? -1
			   : open(getenv(SIM_ENV_TRACE), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
		if (fd >= 0)
			written = write(fd, line->text, line->size);
		/* That it can't be written is no matter of the program's, which goes on. */
		if (written != (ssize_t)line->size && !atomic_exchange(&ended, true))
			fprintf(stderr, "xensim: the trace ends, since %s cannot be written: %s\n",
				getenv(SIM_ENV_TRACE), strerror(written < 0 ? errno : ENOSPC));
		if (fd >= 0)
			close(fd);
		free(line->text);
	}
	errno = line->error;
}

/* A call that has no more to say than whether it succeeded. */
static void line_plain(const char *operation, bool failed, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void line_plain(const char *operation, bool failed, const char *format, ...)
{
	struct trace_line line;
	va_list arguments;

	line_begin(&line, operation);
	if (line.out) {
		va_start(arguments, format);
		vfprintf(line.out, format, arguments);
		va_end(arguments);
		fputs(failed ? "\t" : "\tOK", line.out);
	}
	line_end(&line, failed);
}

/* ---- XenStore
 * -------------------------------------------------------------------------------------------------- */

/* Begins the line of a request about a node, up to its result. */
static void line_of_node(struct trace_line *line, const char *operation, xs_transaction_t transaction,
			 const char *path, const void *value, size_t length)
{
	line_begin(line, operation);
	if (!line->out)
		return;
	sim_record_text(line->out, path, strlen(path));
	if (value) {
		fputc(' ', line->out);
		sim_record_text(line->out, value, length);
	}
	if (transaction)
		fprintf(line->out, " (transaction %u)", transaction);
	fputc('\t', line->out);
}

static void end_of_change(struct trace_line *line, bool done)
{
	if (line->out && done)
		fputs("OK", line->out);
	line_end(line, !done);
}

EXPORT void *xs_read(struct xs_handle *store, xs_transaction_t transaction, const char *path,
		     unsigned *length)
{
	NEXT(xs_read);
	unsigned own_length;
	void *value = next(store, transaction, path, length ? length : &own_length);
	struct trace_line line;

	line_of_node(&line, "READ", transaction, path, NULL, 0);
	if (line.out && value)
		sim_record_text(line.out, value, length ? *length : own_length);
	line_end(&line, !value);
	return value;
}

EXPORT char **xs_directory(struct xs_handle *store, xs_transaction_t transaction, const char *path,
			   unsigned *count)
{
	NEXT(xs_directory);
	char **names = next(store, transaction, path, count);
	struct trace_line line;

	line_of_node(&line, "DIRECTORY", transaction, path, NULL, 0);
	for (unsigned i = 0; line.out && names && i < *count; i++) {
		if (i)
			fputc(' ', line.out);
		sim_record_text(line.out, names[i], strlen(names[i]));
	}
	line_end(&line, !names);
	return names;
}

EXPORT bool xs_write(struct xs_handle *store, xs_transaction_t transaction, const char *path,
		     const void *value, unsigned length)
{
	NEXT(xs_write);
	bool done = next(store, transaction, path, value, length);
	struct trace_line line;

	line_of_node(&line, "WRITE", transaction, path, value, length);
	end_of_change(&line, done);
	return done;
}

EXPORT bool xs_mkdir(struct xs_handle *store, xs_transaction_t transaction, const char *path)
{
	NEXT(xs_mkdir);
	bool done = next(store, transaction, path);
	struct trace_line line;

	line_of_node(&line, "MKDIR", transaction, path, NULL, 0);
	end_of_change(&line, done);
	return done;
}

EXPORT bool xs_rm(struct xs_handle *store, xs_transaction_t transaction, const char *path)
{
	NEXT(xs_rm);
	bool done = next(store, transaction, path);
	struct trace_line line;

	line_of_node(&line, "RM", transaction, path, NULL, 0);
	end_of_change(&line, done);
	return done;
}

static void print_permissions(FILE *out, const struct xs_permissions *permissions, unsigned count)
{
	static const char kinds[] = {[XS_PERM_NONE] = 'n',
				     [XS_PERM_READ] = 'r',
				     [XS_PERM_WRITE] = 'w',
				     [XS_PERM_READ | XS_PERM_WRITE] = 'b'};

	for (unsigned i = 0; i < count; i++)
		fprintf(out, "%s%c%u", i ? " " : "", kinds[permissions[i].perms & 3], permissions[i].id);
}

EXPORT struct xs_permissions *xs_get_permissions(struct xs_handle *store, xs_transaction_t transaction,
						 const char *path, unsigned *count)
{
	NEXT(xs_get_permissions);
	struct xs_permissions *permissions = next(store, transaction, path, count);
	struct trace_line line;

	line_of_node(&line, "GET_PERMS", transaction, path, NULL, 0);
	if (line.out && permissions)
		print_permissions(line.out, permissions, *count);
	line_end(&line, !permissions);
	return permissions;
}

EXPORT bool xs_set_permissions(struct xs_handle *store, xs_transaction_t transaction, const char *path,
			       struct xs_permissions *permissions, unsigned count)
{
	NEXT(xs_set_permissions);
	bool done = next(store, transaction, path, permissions, count);
	struct trace_line line;

	line_begin(&line, "SET_PERMS");
	if (line.out) {
		sim_record_text(line.out, path, strlen(path));
		fputc(' ', line.out);
		print_permissions(line.out, permissions, count);
		if (transaction)
			fprintf(line.out, " (transaction %u)", transaction);
		fputc('\t', line.out);
	}
	end_of_change(&line, done);
	return done;
}

EXPORT bool xs_watch(struct xs_handle *store, const char *path, const char *token)
{
	NEXT(xs_watch);
	bool done = next(store, path, token);
	struct trace_line line;

	line_of_node(&line, "WATCH", XBT_NULL, path, token, strlen(token));
	end_of_change(&line, done);
	return done;
}

EXPORT bool xs_unwatch(struct xs_handle *store, const char *path, const char *token)
{
	NEXT(xs_unwatch);
	bool done = next(store, path, token);
	struct trace_line line;

	line_of_node(&line, "UNWATCH", XBT_NULL, path, token, strlen(token));
	end_of_change(&line, done);
	return done;
}

static void line_of_event(char **event)
{
	struct trace_line line;
	int error = errno;

	if (!event)
		return;
	line_of_node(&line, "WATCH_EVENT", XBT_NULL, event[XS_WATCH_PATH], event[XS_WATCH_TOKEN],
		     strlen(event[XS_WATCH_TOKEN]));
	line.error = error;
	line_end(&line, false);
}

EXPORT char **xs_check_watch(struct xs_handle *store)
{
	NEXT(xs_check_watch);
	char **event = next(store);

	line_of_event(event);
	return event;
}

EXPORT char **xs_read_watch(struct xs_handle *store, unsigned *count)
{
	NEXT(xs_read_watch);
	char **event = next(store, count);

	line_of_event(event);
	return event;
}

EXPORT xs_transaction_t xs_transaction_start(struct xs_handle *store)
{
	NEXT(xs_transaction_start);
	xs_transaction_t transaction = next(store);
	struct trace_line line;

	line_begin(&line, "TRANSACTION_START");
	if (line.out)
		fputc('\t', line.out);
	if (line.out && transaction)
		fprintf(line.out, "%u", transaction);
	line_end(&line, !transaction);
	return transaction;
}

EXPORT bool xs_transaction_end(struct xs_handle *store, xs_transaction_t transaction, bool abort)
{
	NEXT(xs_transaction_end);
	bool done = next(store, transaction, abort);
	struct trace_line line;

	line_of_node(&line, "TRANSACTION_END", transaction, abort ? "F" : "T", NULL, 0);
	end_of_change(&line, done);
	return done;
}

/* ---- event channels
 * -------------------------------------------------------------------------------------------- */

EXPORT xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned flags)
{
	NEXT(xenevtchn_open);
	xenevtchn_handle *handle = next(logger, flags);

	line_plain("evtchn-open", !handle, "%s", "");
	return handle;
}

EXPORT int xenevtchn_close(xenevtchn_handle *handle)
{
	NEXT(xenevtchn_close);
	int r = next(handle);

	if (handle)
		line_plain("evtchn-close", r < 0, "%s", "");
	return r;
}

static void line_of_port(const char *operation, xenevtchn_port_or_error_t port, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void line_of_port(const char *operation, xenevtchn_port_or_error_t port, const char *format, ...)
{
	struct trace_line line;
	va_list arguments;

	line_begin(&line, operation);
	if (line.out) {
		va_start(arguments, format);
		vfprintf(line.out, format, arguments);
		va_end(arguments);
		fputc('\t', line.out);
		if (port >= 0)
			fprintf(line.out, "port %d", port);
	}
	line_end(&line, port < 0);
}

EXPORT xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *handle, uint32_t domid)
{
	NEXT(xenevtchn_bind_unbound_port);
	xenevtchn_port_or_error_t port = next(handle, domid);

	line_of_port("bind-unbound", port, "for d%u", domid);
	return port;
}

EXPORT xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid,
							    evtchn_port_t remote)
{
	NEXT(xenevtchn_bind_interdomain);
	xenevtchn_port_or_error_t port = next(handle, domid, remote);

	line_of_port("bind-interdomain", port, "to d%u:%u", domid, remote);
	return port;
}

EXPORT xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *handle, unsigned virq)
{
	NEXT(xenevtchn_bind_virq);
	xenevtchn_port_or_error_t port = next(handle, virq);

	line_of_port("bind-virq", port, "interrupt %u", virq);
	return port;
}

EXPORT int xenevtchn_unbind(xenevtchn_handle *handle, evtchn_port_t port)
{
	NEXT(xenevtchn_unbind);
	int r = next(handle, port);

	line_plain("unbind", r < 0, "port %u", port);
	return r;
}

/* ---- grants
 * ---------------------------------------------------------------------------------------------------- */

static void line_of_grant(const void *start, uint32_t domid, uint32_t count, const uint32_t *refs,
			  bool writable)
{
	struct trace_line line;

	line_begin(&line, "grant");
	if (line.out)
		fprintf(line.out, "%u pages to d%u, %s\t", count, domid, writable ? "writable" : "read-only");
	for (uint32_t i = 0; line.out && start && i < count && i < 16; i++)
		fprintf(line.out, "%s%u", i ? " " : "", refs[i]);
	line_end(&line, !start);
}

EXPORT void *xengntshr_share_pages(xengntshr_handle *handle, uint32_t domid, int count, uint32_t *refs,
				   int writable)
{
	NEXT(xengntshr_share_pages);
	void *start = next(handle, domid, count, refs, writable);

	line_of_grant(start, domid, count < 0 ? 0 : (uint32_t)count, refs, writable);
	return start;
}

EXPORT void *xengntshr_share_page_notify(xengntshr_handle *handle, uint32_t domid, uint32_t *ref,
					 int writable, uint32_t notify_offset, evtchn_port_t notify_port)
{
	NEXT(xengntshr_share_page_notify);
	void *start = next(handle, domid, ref, writable, notify_offset, notify_port);

	line_of_grant(start, domid, 1, ref, writable);
	return start;
}

EXPORT int xengntshr_unshare(xengntshr_handle *handle, void *start, uint32_t count)
{
	NEXT(xengntshr_unshare);
	int r = next(handle, start, count);

	line_plain("end-grant", r < 0, "%u pages", count);
	return r;
}

static void line_of_map(const void *start, uint32_t count, const uint32_t *domids, bool one_domain,
			const uint32_t *refs, int prot)
{
	struct trace_line line;

	line_begin(&line, "map");
	if (line.out) {
		for (uint32_t i = 0; i < count && i < 16; i++)
			fprintf(line.out, "%sd%u:%u", i ? " " : "", domids[one_domain ? 0 : i], refs[i]);
		fprintf(line.out, "%s, %s\t%s", count > 16 ? " ..." : "",
			prot & PROT_WRITE ? "writable" : "read-only", start ? "OK" : "");
	}
	line_end(&line, !start);
}

EXPORT void *xengnttab_map_grant_ref(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int prot)
{
	NEXT(xengnttab_map_grant_ref);
	void *start = next(handle, domid, ref, prot);

	line_of_map(start, 1, &domid, true, &ref, prot);
	return start;
}

EXPORT void *xengnttab_map_grant_refs(xengnttab_handle *handle, uint32_t count, uint32_t *domids,
				      uint32_t *refs, int prot)
{
	NEXT(xengnttab_map_grant_refs);
	void *start = next(handle, count, domids, refs, prot);

	line_of_map(start, count, domids, false, refs, prot);
	return start;
}

EXPORT void *xengnttab_map_domain_grant_refs(xengnttab_handle *handle, uint32_t count, uint32_t domid,
					     uint32_t *refs, int prot)
{
	NEXT(xengnttab_map_domain_grant_refs);
	void *start = next(handle, count, domid, refs, prot);

	line_of_map(start, count, &domid, true, refs, prot);
	return start;
}

EXPORT void *xengnttab_map_grant_ref_notify(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int prot,
					    uint32_t notify_offset, evtchn_port_t notify_port)
{
	NEXT(xengnttab_map_grant_ref_notify);
	void *start = next(handle, domid, ref, prot, notify_offset, notify_port);

	line_of_map(start, 1, &domid, true, &ref, prot);
	return start;
}

EXPORT int xengnttab_unmap(xengnttab_handle *handle, void *start, uint32_t count)
{
	NEXT(xengnttab_unmap);
	int r = next(handle, start, count);

	line_plain("unmap", r < 0, "%u pages", count);
	return r;
}
