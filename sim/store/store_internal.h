/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of the simulated XenStore share, and what each object owns.
 *
 *	sim_store ─┬─ domains (by domid) ─┬─ listener (one socket)
 *	           │                      └─ connections ─┬─ watches
 *	           └─ the live tree                       └─ transactions, each with its snapshot
 *
 * A connection is freed only from the loop (reap), never while a request of its own or of another is served.
 */
#ifndef XENMSG_SIM_STORE_INTERNAL_H
#define XENMSG_SIM_STORE_INTERNAL_H

#include <event2/bufferevent.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <uthash.h>
#include <utlist.h>

#include "sim/store/request.h"

struct sim_connection;

/* How many events oxenstored keeps for a guest: 1024 for its connection, as many for a watch, and what its
 * ring has room for (recorded by tests/conformance, a_paused_watcher). */
#define SIM_KEPT_EVENTS 2074

/* What a connection reads at most before it is served: it holds many messages, and certainly one. */
#define SIM_INPUT_ENOUGH (64 * 1024)

/* The watches of one path, in a tree of all paths that are watched: so a change finds those that it concerns
 * without looking at the others, as in oxenstored. A node goes with its last watch and child. */
struct sim_watch_node {
	char *name; /* NULL: a root */
	struct sim_watch_node *parent, *children;
	struct sim_watch *watches; /* the newest first */
	UT_hash_handle hh;
};

struct sim_watch {
	char *path; /* as registered, and as it is reported */
	char *absolute;
	char *token;
	struct sim_connection *connection;
	struct sim_watch_node *node;
	struct sim_watch *prev, *next;		 /* of its connection */
	struct sim_watch *node_prev, *node_next; /* of its path */
};

/* A request in a transaction, of any type, and its answer. */
struct sim_logged {
	void *message;
	size_t len;
	struct store_reply reply;
};

/*
 * open ─┬─► committed, aborted or failed with EAGAIN: gone
 *       ├─► stale (the domain was saved and restored): only an end is accepted, and a commit gets EAGAIN
 *       └─► abandoned (it had too many requests to be ended, and the guest's kernel has forgotten it)
 */
struct sim_transaction {
	uint32_t id;
	bool stale, abandoned;
	struct sim_tree before; /* the live tree when it began */
	struct sim_tree tree;
	struct sim_changes changes;
	struct sim_logged *log;
	unsigned n_logged;
	struct sim_looked {
		char *path;
		uint64_t generation; /* when it was first looked at; 0: it wasn't there */
	} * looked;		     /* with C xenstored: all that it has looked at, also in vain */
	unsigned n_looked;
	struct sim_transaction *prev, *next;
};

struct store_domain {
	struct sim_store *store;
	unsigned domid;
	int64_t target;
	bool introduced;
	bool saved;				/* no event is sent to it */
	bool paused;				/* it takes none */
	unsigned late_ms;			/* its events are */
	unsigned kept;				/* since it was paused */
	unsigned conflicts;			/* that are still to be made up */
	unsigned long requests, writes, events; /* since it began; writes are requests, too */
	uint32_t next_transaction;
	unsigned connections_made;
	struct evconnlistener *listener;
	char *socket_path;
	struct sim_connection *connections;
	UT_hash_handle hh;
};

struct sim_connection {
	struct store_domain *domain;
	struct bufferevent *bev;	 /* NULL when fed by hand, as the fuzzer does */
	struct evbuffer *input, *output; /* bev's, or our own */
	struct evbuffer *late;		 /* events that come later (sim_store_delay_events) */
	struct event *late_timer;
	bool doomed;
	bool ending;			/* ends when the answers are written */
	unsigned number;		/* of its domain's connections */
	struct store_domain *waits_for; /* to go on: nothing more is served */
	struct sim_watch *watches;
	struct sim_transaction *transactions;
	struct sim_connection *prev, *next;
};

struct sim_store {
	struct event_base *base;
	struct sim_store_options options;
	struct sim_tree tree;
	struct sim_watch_node watches, special_watches; /* roots */
	struct store_domain *domains;
	struct event *reap;
	struct sim_connection *served; /* at this moment */
	bool stalled;
	void (*record)(const struct sim_store_seen *seen, void *userdata);
	void *record_userdata;
	int (*refuse)(unsigned domid, uint32_t type, void *userdata);
	void *refuse_userdata;
	void (*changed)(const char *path, void *userdata);
	void *changed_userdata;
};

/* store.c */
struct store_domain *sim_domain_find(const struct sim_store *store, unsigned domid);
/* NULL also for a number that is no domid. */
struct store_domain *sim_domain_find_introduced(const struct sim_store *store, int64_t domid);
struct store_domain *sim_domain_get(struct sim_store *store, unsigned domid);
struct sim_credentials sim_domain_credentials(const struct store_domain *domain);
/* Returns whether the domain's programs reach the store through a kernel, by /dev/xen/xenbus. */
bool sim_domain_has_kernel(const struct store_domain *domain);

/* Ends a domain in this tree, the live one or a transaction's, and for the store. */
void sim_store_release_in(struct sim_store *store, struct sim_tree *tree, int64_t domid);

/* connection.c */
/* Makes a connection. fd -1: it has no socket, and is fed through input and sim_connection_process. */
struct sim_connection *sim_connection_new(struct store_domain *domain, int fd);
void sim_connection_free(struct sim_connection *connection);
/* Serves what has arrived completely. */
void sim_connection_process(struct sim_connection *connection);
/* Ends the connection in the loop's next turn. */
void sim_connection_doom(struct sim_connection *connection);
void sim_connection_send(struct sim_connection *connection, const struct xsd_sockmsg *header,
			 const void *data, size_t len);
/* What it waited for has gone on, or has gone. */
void sim_connection_go_on(struct sim_connection *connection);
/* Called after store->stalled has changed. */
void sim_connection_apply_stall(struct sim_connection *connection);
/* Whether it has a request that could be served now. */
/* Serves it. Returns false if there was none. */
bool sim_connection_process_one(struct sim_connection *connection);

/* watch.c */
int sim_watch_add(struct sim_connection *connection, const char *untrusted_path, const char *token);
/* Sends the event with which every new watch begins. */
void sim_watch_fire_first(struct sim_connection *connection);
int sim_watch_remove(struct sim_connection *connection, const char *untrusted_path, const char *token);
void sim_watch_remove_all(struct sim_connection *connection);
/* Sets the watches again, as the domain's kernel would, after it has got another domid or was resumed. */
void sim_watch_set_again(struct sim_connection *connection);
unsigned sim_watch_count(const struct sim_connection *connection);
/* Fires the watches that may know of the changes. */
void sim_watch_fire_changes(struct sim_store *store, const struct sim_changes *changes,
			    const struct sim_node *old_root, const struct sim_node *new_root);
/* Fires the watches of a special node, as far as its permissions below this root allow. */
void sim_watch_fire_special(struct sim_store *store, const struct sim_node *root, const char *name);

/* transaction.c */
int sim_transaction_start(struct sim_connection *connection, uint32_t *id);
struct sim_transaction *sim_transaction_find(const struct sim_connection *connection, uint32_t id);
/* Returns whether the transaction has as many requests as its domain may make in one. */
bool sim_transaction_is_full(const struct sim_connection *connection,
			     const struct sim_transaction *transaction);
/* Notes a request in the transaction and its answer. */
void sim_transaction_log(struct sim_transaction *transaction, const void *message, size_t len,
			 const struct store_reply *reply);
/* Notes what a request looks at. */
void sim_transaction_look(const struct sim_connection *connection, struct sim_transaction *transaction,
			  const struct store_message *request);
/* Ends and frees the transaction. After a commit that changed something, *committed holds the changes to
 * report; the caller fires the watches behind its reply and then clears it with
 * sim_transaction_committed_clear. */
struct sim_committed {
	struct sim_changes changes;
	struct sim_node *old_root, *new_root;
};
int sim_transaction_end(struct sim_connection *connection, struct sim_transaction *transaction, bool commit,
			struct sim_committed *committed);
void sim_transaction_committed_clear(struct sim_committed *committed);
void sim_transaction_abort_all(struct sim_connection *connection);
void sim_transaction_make_stale(struct sim_connection *connection);
unsigned sim_transaction_count(const struct sim_connection *connection);

#endif
