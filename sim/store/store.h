/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XenStore, as a simulated host's domains see it: the tree with its permissions and quotas, watches and
 * transactions, served over XenStore's own wire protocol (xen/io/xs_wire.h) to the unmodified libxenstore.
 *
 * Each domain has one Unix stream socket; a client that connects there speaks as that domain. Domain 0's
 * socket behaves as xenstored's own, a guest's as /dev/xen/xenbus, behind the guest's kernel: all processes
 * of a guest share one set of quotas, the same watch may be set twice, and after a resume the kernel sets
 * every watch again and fails the transactions that were open.
 *
 *	listen ──► connections ──► requests ──► tree ──► watch events
 *	rename_domain: the same connections, another domid (as in a guest's save and restore)
 *	unlisten: all of it gone
 *
 * Everything runs in the event loop that sim_store_new was given, in one thread. The caller must ignore
 * SIGPIPE. The store copies what is passed to it. Functions return 0 or a negative errno unless their comment
 * says otherwise.
 */
#ifndef XENMSG_SIM_STORE_H
#define XENMSG_SIM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct sim_store;

/* A guest's quotas; domain 0 is exempt, as on Xen. */
struct sim_store_limits {
	unsigned nodes;
	unsigned watches;      /* one more is let through, but a guest's kernel uses six */
	unsigned transactions; /* one more is let through, likewise */
	unsigned value_bytes;
	unsigned path;
	unsigned transaction_requests;
};

enum sim_perm_access {
	SIM_PERM_NONE = 0,
	SIM_PERM_READ = 1,
	SIM_PERM_WRITE = 2,
	SIM_PERM_BOTH = 3,
};

/* The first entry of a node's list names the owner, and what everyone not listed may do. Any number is a
 * domid here, also of a domain that isn't there. */
struct sim_perm {
	int64_t domid;
	enum sim_perm_access access;
};

struct sim_store_options {
	bool like_xenstored; /* C xenstored's rules where oxenstored has others */
	/* a guest's connection is its ring, as xenstored sees it: there is no kernel in between */
	bool rings;
	struct sim_store_limits limits;
};

/* Fills in the defaults, to be changed before sim_store_new. */
void sim_store_options_init(struct sim_store_options *options);

/* Makes a store. options may be NULL: the defaults. Returns NULL when memory runs out. The new tree holds
 * what a xenstored makes at start (/local, /tool/xenstored, the special nodes); the toolstack writes the
 * homes of domains. */
struct sim_store *sim_store_new(struct event_base *base, const struct sim_store_options *options);
void sim_store_free(struct sim_store *store);

/* Listens on socket_path for clients of domid, and replaces a stale socket file. A domain has one socket:
 * -EEXIST for a second, -ENAMETOOLONG for a path that doesn't fit into sun_path, or an error of bind. */
int sim_store_listen(struct sim_store *store, unsigned domid, const char *socket_path);
/* Adds a connection for this domain on a connected stream socket, which the store then owns (also on
 * failure). */
int sim_store_attach(struct sim_store *store, unsigned domid, int fd);
/* Removes a domain that has gone: closes and removes its socket and connections, drops its watches and
 * transactions. */
void sim_store_unlisten(struct sim_store *store, unsigned domid);

/* Notes that the domain is stopped to be saved: until it is restored, its watches report nothing. Or that
 * the save has failed. */
void sim_store_save_domain(struct sim_store *store, unsigned domid, bool saved);
/* Notes that the domain is paused, and takes no events: a domain that makes more of them than the store keeps
 * isn't answered until it goes on, or has gone. */
void sim_store_pause_domain(struct sim_store *store, unsigned domid, bool paused);
/* Moves the connections, watches and socket of domid to new_domid, which may be the same, after a save and
 * restore. Relative paths then mean the new home, every watch fires once, open transactions end in EAGAIN.
 * -ENOENT: no such domain, -EEXIST: new_domid has a socket already. The caller writes and removes the trees
 * of both homes. */
int sim_store_rename_domain(struct sim_store *store, unsigned domid, unsigned new_domid);

/* The toolstack's own calls have domain 0's rights, take absolute paths, and fire watches. */
/* Writes a node, and makes missing parents. perms may be NULL: inherited from the parent (new node) or left
 * as they are. With perms, no watch ever sees the node without them. */
int sim_store_write(struct sim_store *store, const char *path, const char *value,
		    const struct sim_perm *perms, unsigned nperms);
/* Removes the node and all below it; absence is no error as long as the parent exists (else -ENOENT). */
int sim_store_rm(struct sim_store *store, const char *path);
/* Copies a value, as far as there is room, with a NUL. -ENOENT: there is no such node. */
int sim_store_read(const struct sim_store *store, const char *path, char *value, size_t size);
/* Visits the names below a node, which may remove nodes; visit may be NULL. Returns how many there are, or
 * -ENOENT. */
int sim_store_list(const struct sim_store *store, const char *path,
		   void (*visit)(const char *name, void *userdata), void *userdata);

/* These begin and end a domain for XenStore. Each fires its special watch, @introduceDomain or
 * @releaseDomain. Release also removes what the domain owned and its entries in permission lists, as
 * xenstored does for a dead domid; a toolstack removes /local/domain/N before, since only that reaches the
 * peers' watches. */
void sim_store_introduce(struct sim_store *store, unsigned domid);
void sim_store_release(struct sim_store *store, unsigned domid);
/* Fires @releaseDomain for a domain that has shut down, or was suspended. */
void sim_store_tell_of_release(struct sim_store *store);

/* Injects a fault: while stalled, requests queue up and nothing is answered or reported; connecting still
 * works. */
void sim_store_stall(struct sim_store *store, bool stalled);

/* Injects another: closes the domain's connections, with all watches and transactions. New ones can be made
 * at once. */
void sim_store_disconnect(struct sim_store *store, unsigned domid);

/* Injects one more: the domain's events come by so many milliseconds after the answers, as they may in a
 * guest, whose kernel has a thread of its own for them. 0: no more. */
void sim_store_delay_events(struct sim_store *store, unsigned domid, unsigned milliseconds);

/* What passed: a request with its answer, or an event (XS_WATCH_EVENT, with an empty answer). */
struct sim_store_seen {
	unsigned domid;
	uint32_t type, transaction;
	const char *text;
	size_t length;
	int error; /* 0, or a negative errno in place of the answer */
	const char *answer;
	size_t answer_length;
};

/* Calls it for all that passes from now on. NULL: no more. */
void sim_store_record(struct sim_store *store,
		      void (*record)(const struct sim_store_seen *seen, void *userdata), void *userdata);

/* Calls it with the path of each node that has changed, which hears it as a watch of domain 0 would, and
 * doesn't change anything itself. */
void sim_store_listen_to_changes(struct sim_store *store, void (*changed)(const char *path, void *userdata),
				 void *userdata);

/* Injects more: asks of each request of this operation what to answer in place of carrying it out, a negative
 * errno; 0: nothing. ECONNRESET ends the connection instead. NULL: no more. */
void sim_store_refuse(struct sim_store *store, int (*refuse)(unsigned domid, uint32_t type, void *userdata),
		      void *userdata);
/* Whether XenStore's protocol has this negative errno. */
bool sim_store_can_answer(int error);

/* Injects a last one: the domain's next transactions that would be committed end in EAGAIN, as if they had
 * conflicted with another's. UINT_MAX: all of them. */
void sim_store_conflict(struct sim_store *store, unsigned domid, unsigned times);

struct sim_store_stats {
	unsigned nodes; /* owned, as the quota counts them */
	unsigned watches;
	unsigned transactions;
	unsigned connections;
	/* Since the domain began, of all its programs. A restored domain goes on counting. */
	unsigned long requests; /* of any kind, */
	unsigned long writes;	/* and of these, how many wrote a value */
	unsigned long events;	/* that its watches reported */
};

void sim_store_stats(const struct sim_store *store, unsigned domid, struct sim_store_stats *stats);

#endif
