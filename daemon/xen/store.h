/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STORE_H
#define XENMSG_DAEMON_STORE_H

/*
 * XenStore, without waiting for it. libxenstore's calls block, so one thread owns the handle; requests go to
 * it in a queue, and their results, like the events of watches, come back as callbacks on the event loop, in
 * the order of the requests. A stalled xenstored delays what needs XenStore and nothing else;
 * store_stalled_ms() says for how long it has been mute.
 *
 * Every request gets exactly one callback (`done` may be NULL). store_free() calls nobody back any more; it
 * lets the thread finish the writes and removals that are queued for at most half a second, and abandons it
 * if xenstored never answers. It may not be called from a callback. When the connection breaks, requests fail
 * with -ENOTCONN, the thread connects again every second, and the watches are set again (and fire). A watch
 * that the quota refuses is reported to `done` and tried again when there may be room; in a guest it costs
 * the connection, which is made anew without it.
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

void store_read(struct store *store, const char *path, store_done_fn done, void *userdata);
void store_list(struct store *store, const char *path, store_list_fn done, void *userdata);
/* Writes a leaf and gives it its permissions in one transaction, so that nobody sees it in between: owner
 * `owner`, and read for `reader`, for everyone with STORE_EVERYONE or for nobody with STORE_NOBODY. The
 * directories above that don't exist yet are made first, for nobody but the owner. Retries conflicts and the
 * transaction quota. */
#define STORE_EVERYONE (-1)
#define STORE_NOBODY   (-2)
void store_write(struct store *store, const char *path, const char *value, uint32_t owner, int reader,
		 store_done_fn done, void *userdata);
/* The same for several leaves in the same transaction (ring-ref and event-channel). */
struct store_leaf {
	const char *path, *value;
};
void store_write_leaves(struct store *store, const struct store_leaf *leaves, unsigned count, uint32_t owner,
			int reader, store_done_fn done, void *userdata);
/* Removing what isn't there succeeds. */
void store_remove(struct store *store, const char *path, store_done_fn done, void *userdata);
/* Fires once when it is set. Lives until store_free(). */
void store_watch(struct store *store, const char *path, store_watch_fn event, void *userdata,
		 store_done_fn done);
void store_unwatch(struct store *store, const char *path, store_watch_fn event, void *userdata);

/* Whoever goes before the store: no request with this `userdata` calls back any more. The requests are still
 * carried out. */
void store_forget(struct store *store, void *userdata);

bool store_is_connected(const struct store *store);
uint64_t store_stalled_ms(const struct store *store);
unsigned store_watches(const struct store *store);

#endif
