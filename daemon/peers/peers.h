/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_H
#define XENMSG_DAEMON_PEERS_H

/*
 * The other domains: who is there (presence), what they offer (endpoints), and how two daemons find together
 * (rendezvous, doc/protocol.md section 5.1). The first two go into the table of registry.h, whose source this
 * is. It owns our subtree in XenStore, `data/xenmsg`, and one `struct peer` for each domain that we have
 * heard of or were asked about. It tells its owner everything else through the callbacks; links and
 * channels are not its business.
 *
 * Rendezvous of one peer (each state with each event: the table in rendezvous_step.h):
 *
 *   IDLE ──peers_connect(), or the peer's hello appears──▶ HELLO (our hello is written, the peer's awaited)
 *   HELLO ──peer's hello there, we grant──▶ GRANTED (vchan made and published; the client is awaited)
 *                                     └──▶ PAGES (none is free: first come, first served) ──▶ GRANTED
 *   HELLO ──peer's hello there, we map──▶ AWAIT (the peer's nodes are awaited) ──nodes readable──▶ mapped
 *   GRANTED, AWAIT ──connected──▶ CONNECTED: the vchan is handed to the owner with callback `connected`
 *   any ──setup-timeout, error──▶ IDLE with callback `failed` if a link was asked for here (the owner asks again
 *                                 if it still wants it), without one if only the peer wanted the link
 *   CONNECTED ──the peer's hello vanishes, or has a new nonce or instance──▶ callback `lost`, then as in IDLE
 *
 * Presence: a daemon shows itself by its presence leaf, or, if that is private, by what it writes for us. A
 * peer becomes known when somebody here asks for it, when it writes something for us or asks who is there,
 * and, while peers_want_all() is in force, when it starts; we then write our endpoints leaf for it, which
 * it alone may read. It is forgotten when it had nothing to do with us for a while (peers_presence.c).
 * Nothing is read, written or watched of a domain that isn't known. Dom0 knows all and watches each
 * domain's subtree; over its links it tells the guests what changes for them (peers_tell.h, peers_all.c).
 * A guest that isn't told has one watch on /local/domain, which fires for all that appears, and one on a
 * leaf of each peer, which fires at the end of its domain; of the last of many peers it learns that only by
 * the links' heartbeats.
 *
 * Every value read from XenStore is a peer's. One that is too long, not a number, not ASCII or of another
 * major version is logged (rate-limited) and treated as absent; a failure that another version has caused
 * says so.
 */

#include <stdbool.h>
#include <stdint.h>

struct access;
struct account;
struct domains;
struct event_base;
struct image;
struct config;
struct registry;
struct quota;
struct self;
struct store;
struct turns;
struct vchan;
struct vchan_host;
struct peers;

struct peers_options {
	const struct self *self;
	struct registry *registry; /* is told who is there, and with which endpoints */
	struct access *access;	   /* decides which endpoints a domain may know of; NULL: of all */
	/* Stays the caller's, for as long. With presence_private a leaf of our own that nobody may read is
	 * written instead; a peer that nothing here had to do with for idle_close_ms is forgotten
	 * (peers_presence.c). */
	const struct config *config;
	struct domains *domains; /* in domain 0, else NULL; outlives the peers */
	bool takes_over;	 /* from a daemon that has called peers_hand_over() */
	bool told;		 /* a guest: domain 0 can reach us over a link, to tell what changes */
	struct turns *turns;
	struct quota *quota; /* NULL: nobody pays */
};

/* Something has changed in XenStore. */
struct peers_change {
	uint32_t domid;	 /* of the domain that has changed it */
	unsigned leaves; /* CHANGED_... of wire/frame.h */
};

struct peers_callbacks {
	/* Returns how large the rings must be, each way, to send again over a vchan with the peer all that
	 * the peer may lack; 0: any size will do. NULL: nothing is sent again. */
	uint32_t (*least_ring)(void *userdata, uint32_t domid);
	/* A vchan with the peer is connected. It now belongs to the callee, which sets its event callback by
	 * vchan_set_event(), and calls peers_disconnect() after closing it. */
	void (*connected)(void *userdata, uint32_t domid, struct vchan *vchan);
	/* A connection that was asked for can't be made: -EHOSTDOWN no such domain or no daemon there,
	 * -ENOLINK neither of the two domains may map, or Xen forbids it, -EHOSTUNREACH otherwise; `reason`
	 * is a sentence for people. */
	void (*failed)(void *userdata, uint32_t domid, int error, const char *reason);
	/* The peer has given up the connected vchan, or its daemon has gone, with its domain perhaps, which
	 * may come back under another number; or another daemon has `replaced` it. The owner closes the vchan
	 * and calls peers_disconnect(). */
	void (*lost)(void *userdata, uint32_t domid, bool replaced, const char *reason);
	/* The leaf of peers_own_leaf() has gone, perhaps with all others, since this domain was migrated to
	 * the same number. Returns whether the owner finds that out, and calls peers_stop() and peers_start()
	 * if the leaf isn't there; false, or NULL: it is written again. */
	bool (*own_leaf_gone)(void *userdata);
	/* In domain 0: the guest is about to be saved. The owner gives up the vchan if the session can
	 * continue over another one. May be NULL. */
	void (*saved)(void *userdata, uint32_t domid);
	/* Returns whether somebody still wants to know all peers. NULL: nobody does. */
	bool (*all_watched)(void *userdata);
	/* In domain 0: tells the guest, over its link, what has changed for it. NULL: nobody is told. */
	void (*tell)(void *userdata, uint32_t guest, const struct peers_change *changes, unsigned count);
};

/* Clears what a previous daemon left in our subtree, sets the watches, writes presence. Returns 0 or a
 * negative errno. */
int peers_new(struct peers **peers, struct event_base *base, struct store *store, struct vchan_host *host,
	      const struct peers_options *options, const struct peers_callbacks *callbacks, void *userdata);
/* Removes our subtree (best effort; the store gets the request before it is freed). */
void peers_free(struct peers *peers);
/* Called before and after a change of this domain's number, as if it was freed and made anew. In between
 * there are no peers and no callbacks. -ENOMEM: it stays like that. */
void peers_stop(struct peers *peers);
int peers_start(struct peers *peers);
/* Does peers_stop(), but the presence stays, since the next daemon is the same instance. */
void peers_hand_over(struct peers *peers);
/* Writes which peers are there into the image that the next daemon gets, or has those of it looked up. Domain
 * 0 finds them itself. */
void peers_image(struct image *image, struct peers *peers);

/* Asks for a vchan with the peer, for `account`. Answers by `connected` or `failed`, never before it returns.
 * An unknown peer is looked up in XenStore: the account pays for that, and waits its turn (NULL: the daemon
 * asks for itself). Returns 0 or a negative errno, and then no answer comes: -EHOSTDOWN it
 * wasn't there a moment ago, -ENOLINK peers_is_unlinkable(), -ENOBUFS the account has no room for a look-up,
 * -ENOMEM. */
int peers_connect(struct peers *peers, uint32_t domid, struct account *account);
/* Withdraws our hello: the vchan with this peer is closed or not wanted any more. */
void peers_disconnect(struct peers *peers, uint32_t domid);
/* The process at the other end of a vchan with this peer has died, not its domain, which might have been
 * saved: its daemon isn't there any more, though its leaves are. The owner knows that its vchan is lost. */
void peers_died(struct peers *peers, uint32_t domid);

/* Advertises the endpoints of this domain, to each peer those that policy lets it know of. Call it also when
 * policy changes. Writes are coalesced and bounded to what a XenStore value can hold; names that don't fit
 * are left out, and ` +N` at the end counts them. `kinds`, by their places: the bits of BIND, or NULL: they
 * aren't told. */
void peers_advertise(struct peers *peers, const char *const *names, const uint8_t *kinds, unsigned count);

/* Makes all peers known for a minute, and for as long as callback `all_watched` says so; this costs each of
 * them some requests to XenStore. Returns whether those that run are known now; else REGISTRY_ALL
 * is told, not before this returns, and within some seconds. */
bool peers_want_all(struct peers *peers);

/* In domain 0: notes that the guest can be told over its link what changes, first of what it may have missed,
 * or can't any more. */
void peers_tell(struct peers *peers, uint32_t guest, bool up);
/* In a guest: notes whether domain 0 tells what changes, from now on. */
void peers_told(struct peers *peers, bool told);
/* In a guest: takes what it tells. */
void peers_changed(struct peers *peers, const struct peers_change *change);

/* One peer in a listing. Its texts belong to the peer, and are valid until the peers change. */
struct peer_info {
	uint32_t domid;
	bool up;	      /* its daemon is there */
	const char *instance; /* "" if unknown */
	const char *state;    /* of the rendezvous: "idle", "hello", "granted", "await", "connected" */
};
/* Returns in *info the first peer, by domid, behind `after` (-1: the first of all), which may have gone.
 * False: there is no more. */
bool peers_next(struct peers *peers, int64_t after, struct peer_info *info);
bool peers_is_up(struct peers *peers, uint32_t domid);
/* Asks the hypervisor whether there is no such domain. */
bool peers_lack(struct peers *peers, uint32_t domid);
/* Whether it was looked up a moment ago, and no daemon was there. */
bool peers_is_absent(struct peers *peers, uint32_t domid);
/* Gets the instance of the daemon there, as it says itself. Returns false if it isn't known. */
bool peers_instance(struct peers *peers, uint32_t domid, uint8_t instance[16]);
/* Whether there can be no link: neither this domain nor the peer may map the other's pages, as the hello of
 * the daemon that runs there now said, or Xen forbids it. */
bool peers_is_unlinkable(struct peers *peers, uint32_t domid);
/* Whether there can be none because Xen forbids it (XSM), as one of the two has found. It is tried again some
 * minutes later, if a link is wanted then, or when another daemon runs there. */
bool peers_is_forbidden(struct peers *peers, uint32_t domid);
/* Returns the number of domains whose look-up an account waits for. */
unsigned peers_lookups(const struct peers *peers);
/* Returns the number of peers whose vchan waits for grant pages to come free. */
unsigned peers_waiting(const struct peers *peers);
/* Writes the path of the leaf that stands in XenStore as long as we run, relative to our home, to `path`.
 * Returns false if the leaf couldn't be written. */
#define PEERS_OWN_LEAF_SIZE 48
bool peers_own_leaf(const struct peers *peers, char path[PEERS_OWN_LEAF_SIZE]);
/* Returns whether our presence was written, or is on its way, or writing it has failed. Before, it isn't
 * known yet how we hear of answers to it. */
bool peers_are_shown(const struct peers *peers);
unsigned peers_nodes_written(const struct peers *peers);

#endif
