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
/* Defines a function that passes its arguments on to the next of its name, and writes what came of that. */
#define TRACED(type, name, parameters, arguments, write)                                                     \
	EXPORT type name parameters                                                                          \
	{                                                                                                    \
		static _Atomic(void *) found;                                                                \
		__typeof__(&name) next = (__typeof__(&name))next_function(&found, #name);                    \
		type result = next arguments;                                                                \
                                                                                                             \
		write;                                                                                       \
		return result;                                                                               \
	}

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

/* A call that has no more to say than whether it succeeded, or which port it has got. */
static void line_of_call(const char *operation, int result, bool gets_port, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static void line_of_call(const char *operation, int result, bool gets_port, const char *format, ...)
{
	struct trace_line line;
	va_list arguments;

	line_begin(&line, operation);
	if (line.out) {
		va_start(arguments, format);
		vfprintf(line.out, format, arguments);
		va_end(arguments);
		fputc('\t', line.out);
		if (result >= 0 && gets_port)
			fprintf(line.out, "port %d", result);
		else if (result >= 0)
			fputs("OK", line.out);
	}
	line_end(&line, result < 0);
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

/* Of a change, or a watch: it has no more to say than whether it was done. */
static void line_of_change(const char *operation, xs_transaction_t transaction, const char *path,
			   const void *value, size_t length, bool done)
{
	struct trace_line line;

	line_of_node(&line, operation, transaction, path, value, length);
	if (line.out && done)
		fputs("OK", line.out);
	line_end(&line, !done);
}

static void line_of_value(xs_transaction_t transaction, const char *path, const void *value, unsigned length)
{
	struct trace_line line;

	line_of_node(&line, "READ", transaction, path, NULL, 0);
	if (line.out && value)
		sim_record_text(line.out, value, length);
	line_end(&line, !value);
}

EXPORT void *xs_read(struct xs_handle *store, xs_transaction_t transaction, const char *path,
		     unsigned *length)
{
	static _Atomic(void *) found;
	__typeof__(&xs_read) next = (__typeof__(&xs_read))next_function(&found, "xs_read");
	unsigned own_length = 0;
	void *value = next(store, transaction, path, length ? length : &own_length);

	line_of_value(transaction, path, value, length ? *length : own_length);
	return value;
}

static void line_of_names(xs_transaction_t transaction, const char *path, char **names, const unsigned *count)
{
	struct trace_line line;

	line_of_node(&line, "DIRECTORY", transaction, path, NULL, 0);
	for (unsigned i = 0; line.out && names && i < *count; i++) {
		if (i)
			fputc(' ', line.out);
		sim_record_text(line.out, names[i], strlen(names[i]));
	}
	line_end(&line, !names);
}

TRACED(char **, xs_directory,
       (struct xs_handle * store, xs_transaction_t transaction, const char *path, unsigned *count),
       (store, transaction, path, count), line_of_names(transaction, path, result, count))
TRACED(bool, xs_write,
       (struct xs_handle * store, xs_transaction_t transaction, const char *path, const void *value,
	unsigned length),
       (store, transaction, path, value, length),
       line_of_change("WRITE", transaction, path, value, length, result))
TRACED(bool, xs_mkdir, (struct xs_handle * store, xs_transaction_t transaction, const char *path),
       (store, transaction, path), line_of_change("MKDIR", transaction, path, NULL, 0, result))
TRACED(bool, xs_rm, (struct xs_handle * store, xs_transaction_t transaction, const char *path),
       (store, transaction, path), line_of_change("RM", transaction, path, NULL, 0, result))
TRACED(bool, xs_watch, (struct xs_handle * store, const char *path, const char *token), (store, path, token),
       line_of_change("WATCH", XBT_NULL, path, token, strlen(token), result))
TRACED(bool, xs_unwatch, (struct xs_handle * store, const char *path, const char *token),
       (store, path, token), line_of_change("UNWATCH", XBT_NULL, path, token, strlen(token), result))
TRACED(bool, xs_transaction_end, (struct xs_handle * store, xs_transaction_t transaction, bool abort),
       (store, transaction, abort),
       line_of_change("TRANSACTION_END", transaction, abort ? "F" : "T", NULL, 0, result))

static void print_permissions(FILE *out, const struct xs_permissions *permissions, unsigned count)
{
	static const char kinds[] = {[XS_PERM_NONE] = 'n',
				     [XS_PERM_READ] = 'r',
				     [XS_PERM_WRITE] = 'w',
				     [XS_PERM_READ | XS_PERM_WRITE] = 'b'};

	for (unsigned i = 0; i < count; i++)
		fprintf(out, "%s%c%u", i ? " " : "", kinds[permissions[i].perms & 3], permissions[i].id);
}

static void line_of_permissions(xs_transaction_t transaction, const char *path,
				const struct xs_permissions *permissions, const unsigned *count)
{
	struct trace_line line;

	line_of_node(&line, "GET_PERMS", transaction, path, NULL, 0);
	if (line.out && permissions)
		print_permissions(line.out, permissions, *count);
	line_end(&line, !permissions);
}

static void line_of_new_permissions(xs_transaction_t transaction, const char *path,
				    const struct xs_permissions *permissions, unsigned count, bool done)
{
	struct trace_line line;

	line_begin(&line, "SET_PERMS");
	if (line.out) {
		sim_record_text(line.out, path, strlen(path));
		fputc(' ', line.out);
		print_permissions(line.out, permissions, count);
		if (transaction)
			fprintf(line.out, " (transaction %u)", transaction);
		fputs(done ? "\tOK" : "\t", line.out);
	}
	line_end(&line, !done);
}

TRACED(struct xs_permissions *, xs_get_permissions,
       (struct xs_handle * store, xs_transaction_t transaction, const char *path, unsigned *count),
       (store, transaction, path, count), line_of_permissions(transaction, path, result, count))
TRACED(bool, xs_set_permissions,
       (struct xs_handle * store, xs_transaction_t transaction, const char *path,
	struct xs_permissions *permissions, unsigned count),
       (store, transaction, path, permissions, count),
       line_of_new_permissions(transaction, path, permissions, count, result))

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

TRACED(char **, xs_check_watch, (struct xs_handle * store), (store), line_of_event(result))
TRACED(char **, xs_read_watch, (struct xs_handle * store, unsigned *count), (store, count),
       line_of_event(result))

static void line_of_transaction(xs_transaction_t transaction)
{
	struct trace_line line;

	line_begin(&line, "TRANSACTION_START");
	if (line.out)
		fputc('\t', line.out);
	if (line.out && transaction)
		fprintf(line.out, "%u", transaction);
	line_end(&line, !transaction);
}

TRACED(xs_transaction_t, xs_transaction_start, (struct xs_handle * store), (store),
       line_of_transaction(result))

/* ---- event channels
 * -------------------------------------------------------------------------------------------- */

TRACED(xenevtchn_handle *, xenevtchn_open, (struct xentoollog_logger * logger, unsigned flags),
       (logger, flags), line_of_call("evtchn-open", result ? 0 : -1, false, "%s", ""))
TRACED(int, xenevtchn_close, (xenevtchn_handle * handle), (handle),
       if (handle) line_of_call("evtchn-close", result, false, "%s", ""))
TRACED(xenevtchn_port_or_error_t, xenevtchn_bind_unbound_port, (xenevtchn_handle * handle, uint32_t domid),
       (handle, domid), line_of_call("bind-unbound", result, true, "for d%u", domid))
TRACED(xenevtchn_port_or_error_t, xenevtchn_bind_interdomain,
       (xenevtchn_handle * handle, uint32_t domid, evtchn_port_t remote), (handle, domid, remote),
       line_of_call("bind-interdomain", result, true, "to d%u:%u", domid, remote))
TRACED(xenevtchn_port_or_error_t, xenevtchn_bind_virq, (xenevtchn_handle * handle, unsigned virq),
       (handle, virq), line_of_call("bind-virq", result, true, "interrupt %u", virq))
TRACED(int, xenevtchn_unbind, (xenevtchn_handle * handle, evtchn_port_t port), (handle, port),
       line_of_call("unbind", result, false, "port %u", port))

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

TRACED(void *, xengntshr_share_pages,
       (xengntshr_handle * handle, uint32_t domid, int count, uint32_t *refs, int writable),
       (handle, domid, count, refs, writable),
       line_of_grant(result, domid, count < 0 ? 0 : (uint32_t)count, refs, writable))
TRACED(void *, xengntshr_share_page_notify,
       (xengntshr_handle * handle, uint32_t domid, uint32_t *ref, int writable, uint32_t offset,
	evtchn_port_t port),
       (handle, domid, ref, writable, offset, port), line_of_grant(result, domid, 1, ref, writable))
TRACED(int, xengntshr_unshare, (xengntshr_handle * handle, void *start, uint32_t count),
       (handle, start, count), line_of_call("end-grant", result, false, "%u pages", count))

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

TRACED(void *, xengnttab_map_grant_ref, (xengnttab_handle * handle, uint32_t domid, uint32_t ref, int prot),
       (handle, domid, ref, prot), line_of_map(result, 1, &domid, true, &ref, prot))
TRACED(void *, xengnttab_map_grant_refs,
       (xengnttab_handle * handle, uint32_t count, uint32_t *domids, uint32_t *refs, int prot),
       (handle, count, domids, refs, prot), line_of_map(result, count, domids, false, refs, prot))
TRACED(void *, xengnttab_map_domain_grant_refs,
       (xengnttab_handle * handle, uint32_t count, uint32_t domid, uint32_t *refs, int prot),
       (handle, count, domid, refs, prot), line_of_map(result, count, &domid, true, refs, prot))
TRACED(void *, xengnttab_map_grant_ref_notify,
       (xengnttab_handle * handle, uint32_t domid, uint32_t ref, int prot, uint32_t offset,
	evtchn_port_t port),
       (handle, domid, ref, prot, offset, port), line_of_map(result, 1, &domid, true, &ref, prot))
TRACED(int, xengnttab_unmap, (xengnttab_handle * handle, void *start, uint32_t count), (handle, start, count),
       line_of_call("unmap", result, false, "%u pages", count))
