/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STORE_H
#define XENMSG_DAEMON_STORE_H

/*
 * XenStore, without waiting for it. libxenstore's calls block, so one thread owns the handle; requests go to
 * it in a queue, and their results, like the events of watches, come back as callbacks on the event loop, in
 * the order of the requests. A stalled xenstored delays what needs XenStore and nothing else;
 * store_stalled_ms() says for how long it has been mute.
 *
 * A request gets exactly one callback (`done` may be NULL), unless its owner cancels it:
 *
 *   a call of store_read() and the like ──0──▶ under way ──the answer has come──▶ called back, and gone
 *            └──-ENOMEM──▶ nothing                └──store_cancel()──▶ carried out, but nobody hears of it
 *
 * So who goes away cancels what it has under way, and its callbacks need not ask whether it is still there.
 * Request and watch are the store's memory; what the owner has is a handle, which is NULL when there is none.
 *
 * store_free() calls nobody back any more; it lets the thread finish the writes and removals that are queued
 * for at most half a second, and abandons it if xenstored never answers. It may not be called from a
 * callback. When the connection breaks, requests fail with -ENOTCONN, the thread connects again every second,
 * and the watches are set again (and fire). A watch that the quota refuses is reported to `done` and tried
 * again when there may be room; in a guest it costs the connection, which is made anew without it.
 *
 * libxenstore says EINVAL for an exceeded quota: -EDQUOT here.
 *
 * Values that come back are other domains' text: bounded in size, terminated, otherwise unchecked.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct store;
struct store_request;
struct store_watch;

/* `error` is 0 or a negative errno (-ENOENT also for nodes that we may not read: the two can't be told apart
 * on every xenstored). `untrusted_value` is NULL on error and for requests other than reads; it is freed
 * after the callback. */
typedef void (*store_done_fn)(void *userdata, int error, const char *untrusted_value, size_t size);
typedef void (*store_list_fn)(void *userdata, int error, char *const *untrusted_names, unsigned count);
/* `path` as it was registered, or below it; or above it, a domain's directory, when so much has changed there
 * that it isn't told one by one. May fire more often than something changed. */
typedef void (*store_watch_fn)(void *userdata, const char *untrusted_path);

/* Connects (this one call blocks; at start). -errno. */
int store_new(struct store **store, struct event_base *base);
void store_free(struct store *store);

/* All of these return 0, or -ENOMEM: then nothing is under way, and nobody is called back. `handle` may be
 * NULL, for what nobody will cancel; else it is where the owner keeps its handle, which the store sets to
 * NULL before it calls back. */
int store_read(struct store *store, const char *path, store_done_fn done, void *userdata,
	       struct store_request **handle);
int store_list(struct store *store, const char *path, store_list_fn done, void *userdata,
	       struct store_request **handle);
/* Writes a leaf and gives it its permissions in one transaction, so that nobody sees it in between: owner
 * `owner`, and read for `reader`, for everyone with STORE_EVERYONE or for nobody with STORE_NOBODY. The
 * directories above that don't exist yet are made first, for nobody but the owner. Retries conflicts and the
 * transaction quota. */
#define STORE_EVERYONE (-1)
#define STORE_NOBODY   (-2)
int store_write(struct store *store, const char *path, const char *value, uint32_t owner, int reader,
		store_done_fn done, void *userdata, struct store_request **handle);
/* The same for several leaves in the same transaction (ring-ref and event-channel). */
struct store_leaf {
	const char *path, *value;
};
int store_write_leaves(struct store *store, const struct store_leaf *leaves, unsigned count, uint32_t owner,
		       int reader, store_done_fn done, void *userdata, struct store_request **handle);
/* Removing what isn't there succeeds. */
int store_remove(struct store *store, const char *path, store_done_fn done, void *userdata,
		 struct store_request **handle);
/* The request's callback doesn't come any more, and the handle is NULL. The request is still carried out. */
void store_cancel(struct store_request **handle);

/* Fires once when it is set; `done` tells whether it could be. Lives until store_unwatch() or store_free(). */
int store_watch(struct store *store, const char *path, store_watch_fn event, void *userdata,
		store_done_fn done, struct store_watch **handle);
/* Neither `event` nor `done` comes any more, and the handle is NULL. NULL is no watch. */
void store_unwatch(struct store *store, struct store_watch **handle);

bool store_is_connected(const struct store *store);
uint64_t store_stalled_ms(const struct store *store);
unsigned store_watches(const struct store *store);

#endif
