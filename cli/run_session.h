/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_RUN_SESSION_H
#define XENMSG_CLI_RUN_SESSION_H

/*
 * One end of a connection that carries a command's standard input, output and error (run_record.h). Each of
 * the three is a source (a descriptor that is read and sent) at one end and a sink (received and written) at
 * the other:
 *
 *   source: open ──end of file, STOP──▶ ended          sink: open ──end, or nobody reads it (STOP)──▶ ended
 *
 * A stream is sent only as far as its receiver has given credit, and what it has given credit for it can
 * keep. So both ends always read the connection, and no stream waits for another.
 */

#include <stdbool.h>
#include <stddef.h>

#include "cli/run_record.h"

struct event_base;
struct xenmsg;
struct run_session;

struct run_session_callbacks {
	/* START, READY, EXIT or REFUSED has come. Returns 0, or -EPROTO to end the session by `lost`. */
	int (*record)(void *userdata, const struct run_record *record);
	/* A source or a sink has ended. */
	void (*ended)(void *userdata);
	/* The connection is lost: 0 if the other side has closed it, else an errno. Sinks still write what
	 * has come. */
	void (*lost)(void *userdata, int error);
};

/* Takes over a connection. The loop must take whatever descriptors the streams have. Callbacks mustn't free
 * the session. Returns NULL if memory has run out; then the connection stays the caller's. */
struct run_session *run_session_new(struct event_base *base, int connection,
				    const struct run_session_callbacks *callbacks, void *userdata);
/* Closes all descriptors. NULL is allowed. */
void run_session_free(struct run_session *session);

void run_session_send(struct run_session *session, enum run_type type, unsigned stream, const void *body,
		      size_t size);
/* Begin to carry a stream, and take over its descriptor. Return 0 or -ENOMEM. */
int run_session_source(struct run_session *session, unsigned stream, int fd);
int run_session_sink(struct run_session *session, unsigned stream, int fd);
/* Ends the sources when what can be read from them now is sent: children of a command that has ended may
 * still hold the other ends. */
void run_session_finish_sources(struct run_session *session);
/* Breaks the connection: the other side sees no mere end. */
void run_session_break(struct run_session *session);
/* Says in words why the connection has broken, within `lost` (cli_why_broken()). */
const char *run_session_why_broken(const struct run_session *session, struct xenmsg *conn);
/* Closes the connection, while the sinks go on. */
void run_session_hang_up(struct run_session *session);
/* Returns whether no source (or no sink) is open. */
bool run_session_sources_ended(const struct run_session *session);
bool run_session_sinks_ended(const struct run_session *session);
/* Returns whether the end of every sink has come, or none of what comes is wanted: nothing more can come. */
bool run_session_sinks_complete(const struct run_session *session);
/* Returns what went wrong with writing to a sink, 0 if nothing did but that its reader has gone. */
int run_session_sink_error(const struct run_session *session);

#endif
