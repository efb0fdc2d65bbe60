/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_NATS_CONNECTION_H
#define XENMSG_GATEWAY_NATS_CONNECTION_H

/*
 * The connection to NATS: all of libnats is in here.
 *
 * There is one thread that matters, the event loop's. It reads and writes the connection's socket, takes
 * messages from subscriptions that have no threads, and is never held up: publishing only appends to
 * libnats's buffer. What blocks, looking up names, connecting and the handshake of TLS, is done by a thread
 * for each attempt. libnats's own threads (its timers, and errors that it tells later) only leave a note and
 * wake the loop. libnats reconnects nothing: a connection that is lost is replaced by a new one, a second
 * later, and whoever uses this subscribes anew.
 *
 *   WAITING ── 1 to 2 s ──► CONNECTING ── connected() ──► UP ── lost() ──► WAITING
 *      ▲                        │ failed
 *      └────────────────────────┘
 *
 * What comes is looked at in turns of the hosts that send it, whose name is the last token of each subject
 * (inflow.h).
 *
 * <nats/adapters/libevent.h> isn't used: it frees its events under the connection's lock, for which the loop
 * may be waiting in one of those events' callbacks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct nats_connection;
struct settings;

struct nats_callbacks {
	void (*connected)(void *userdata, const char *server);
	/* It is lost, or an attempt has failed. */
	void (*lost)(void *userdata, const char *why);
	/* An attempt doesn't come to its end, as in libnats after a lack of memory. No other one is made: the
	 * process has to end. */
	void (*hangs)(void *userdata);
	/* A message has come. Subject and data are valid during the call. */
	void (*message)(void *userdata, const char *subject, const uint8_t *data, size_t size);
	/* The server forbids something, or complains otherwise; the connection goes on. */
	void (*complaint)(void *userdata, const char *what);
	/* nats_connection_is_full() was true and isn't any more. */
	void (*room)(void *userdata);
};

/* Begins to connect. `settings` and `callbacks` must outlive it. 0, or a negative errno; -EINVAL: the
 * settings name files that can't be used, and *error says what is wrong, which the caller frees. */
int nats_connection_new(struct nats_connection **connection, struct event_base *base,
			const struct settings *settings, const struct nats_callbacks *callbacks,
			void *userdata, const char *name, char **error);
/* Sends what was published, for at most half a second, and ends the connection. NULL is allowed. */
void nats_connection_free(struct nats_connection *connection);

bool nats_connection_is_up(const struct nats_connection *connection);
/* Ends the connection, if it is up, without a word, and makes another one. */
void nats_connection_again(struct nats_connection *connection);
/* The largest message that the server takes; only while it is up. */
size_t nats_connection_max_payload(const struct nats_connection *connection);
/* Both do nothing unless the connection is up; nor does the first one with a subject that is subscribed to
 * already. complaint() tells of refusals by the server, later. */
void nats_connection_subscribe(struct nats_connection *connection, const char *subject);
void nats_connection_publish(struct nats_connection *connection, const char *subject, const void *data,
			     size_t size);
/* Whether so much waits to be sent that nobody should publish bytes before room() is called. */
bool nats_connection_is_full(struct nats_connection *connection);

#endif
