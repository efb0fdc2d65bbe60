/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STORE_H
#define XENMSG_DAEMON_STORE_H

/*
 * XenStore, without waiting for it. libxenstore's calls block, so one thread owns the handle; requests go to
 * it in a queue, and their results, like the events of watches, come back as callbacks on the event loop, in
 * the order of the requests. A stalled xenstored delays what needs XenStore and nothing else;
 * store_stalled_ms() returns for how long it hasn't answered.
 *
 * A request gets exactly one callback (`done` may be NULL), unless its owner cancels it:
 *
 *   a call of store_read() and the like ──0──▶ under way ──the answer has come──▶ called back, and freed
 *            └──-ENOMEM──▶ nothing                └──store_cancel()──▶ carried out, but not called back
 *
 * So an owner that goes away cancels what it has under way, and its callbacks need not check whether it still
 * exists. Requests and watches are the store's memory; the owner has a handle, which is NULL when there is
 * none.
 *
 * store_free() makes no more callbacks; it lets the thread finish the writes and removals that are queued for
 * at most half a second, and abandons it if xenstored never answers. It may not be called from a callback.
 * When the connection breaks, which is noticed at the next request or within ten seconds, requests fail with
 * -ENOTCONN, the thread connects again every second, and the watches are set again (and fire). A watch that
 * the quota refuses is reported to `done` and tried again when there may be room; in a guest it costs the
 * connection, which is made anew without it. What is needed most has the room of another one.
 *
 * libxenstore returns EINVAL for an exceeded quota; here it is -EDQUOT.
 *
 * What is relied on of XenStore (tests/conformance, store_transactions, asks oxenstored and C xenstored for
 * it). The only transactions that write are those of store_write() and store_write_leaves(), in
 * store_write.c:
 *
 *  - What a transaction writes, nobody else sees before it is committed; then its nodes have their values and
 *    their permissions. Only a watch may fire before all of them can be read (on oxenstored).
 *  - A commit fails with EAGAIN, and changes nothing, if a node that the transaction has read meanwhile went
 *    away. So no leaf is written below a directory that was there and is no longer, which XenStore would
 *    make anew, with the permissions of its parent.
 *  - It fails as well if a node that the transaction didn't find and then made itself is there meanwhile. So
 *    the permissions of a directory that another has made are left alone.
 *  - It needn't fail if a node that the transaction didn't find is there meanwhile, and it wrote elsewhere:
 *    oxenstored commits then, C xenstored doesn't. Nothing here concludes anything from such a node.
 *  - Whether two who write the same leaf without having read it both succeed is left open: the last one's
 *    value is there, and each writes what is true of itself.
 *
 * Everything else is a single request: what was read may be another at once, and a watch tells of it.
 *
 * Values that come back were written by other domains: they are bounded in size, terminated, otherwise
 * unchecked.
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
/* `path` is the one that was registered, or one below it; or one above it, a domain's directory, when so many
 * changes are pending there that they aren't reported one by one. May be called more often than something
 * changed. */
typedef void (*store_watch_fn)(void *userdata, const char *untrusted_path);

/* Connects (only this call blocks; it is for the start). Negative errno. */
int store_new(struct store **store, struct event_base *base);
void store_free(struct store *store);
/* Whether a daemon that stops, and has waited from then on, should wait no longer: XenStore hasn't answered
 * one request for 2 s, or all takes longer than 10 s. */
bool store_is_too_slow(const struct store *store, uint64_t from_ms);

/* All of these return 0, or -ENOMEM: then nothing is under way, and there will be no callback. `handle` may
 * be NULL, for requests that won't be cancelled; otherwise it is where the owner keeps its handle, which the
 * store sets to NULL before it calls back. */
int store_read(struct store *store, const char *path, store_done_fn done, void *userdata,
	       struct store_request **handle);
/* Reads a node that domain 0 has made, and that nobody else may write. -EPERM: it isn't one. */
int store_read_toolstacks(struct store *store, const char *path, store_done_fn done, void *userdata,
			  struct store_request **handle);
int store_list(struct store *store, const char *path, store_list_fn done, void *userdata,
	       struct store_request **handle);
/* Writes a leaf and sets its permissions in one transaction, so that nobody sees it in between: owned by
 * `owner`, and readable for `reader`, for everyone with STORE_EVERYONE or for nobody with STORE_NOBODY. Makes
 * missing directories above it first, for nobody but the owner. Retries conflicts and the transaction
 * quota. Several that wait, with only reads between them, go in one. */
#define STORE_EVERYONE (-1)
#define STORE_NOBODY   (-2)
int store_write(struct store *store, const char *path, const char *value, uint32_t owner, int reader,
		store_done_fn done, void *userdata, struct store_request **handle);
/* Does the same for several leaves in one transaction (ring-ref and event-channel). */
struct store_leaf {
	const char *path, *value;
};
int store_write_leaves(struct store *store, const struct store_leaf *leaves, unsigned count, uint32_t owner,
		       int reader, store_done_fn done, void *userdata, struct store_request **handle);
/* Removes a node; succeeds if it isn't there. */
int store_remove(struct store *store, const char *path, store_done_fn done, void *userdata,
		 struct store_request **handle);
/* Whether what it reads may be from before now: the thread has begun with it. Else it is sure to see each
 * change that was told until now. */
bool store_has_begun(struct store *store, const struct store_request *request);
/* Cancels the request's callback, and sets the handle to NULL. The request is still carried out. */
void store_cancel(struct store_request **handle);

/* Sets a watch, which fires once when it is set; `done` is told whether it could be. It lives until
 * store_unwatch() or store_free(). */
int store_watch(struct store *store, const char *path, store_watch_fn event, void *userdata,
		store_done_fn done, struct store_watch **handle);
/* The same for one that is needed, whatever the quota: if there is no room, the last one that isn't needed
 * gives way, and is tried again later. */
int store_watch_needed(struct store *store, const char *path, store_watch_fn event, void *userdata,
		       store_done_fn done, struct store_watch **handle);
/* Removes the watch: neither `event` nor `done` is called any more, and the handle is NULL. A NULL handle is
 * no watch. XenStore may still have it, since a guest can't be saved while a program unwatches. A watch that
 * hears of too much is ended at once. */
void store_unwatch(struct store *store, struct store_watch **handle);
void store_unwatch_at_once(struct store *store, struct store_watch **handle);
/* Leaves all watches to the end of the connection, which is near: on the kernel's device ending one waits for
 * XenStore, and nothing but its answer ends that wait, nor a process that waits so. May be NULL. */
void store_leave_watches(struct store *store);

bool store_is_connected(const struct store *store);
uint64_t store_stalled_ms(const struct store *store);
unsigned store_watches(const struct store *store);

#endif
