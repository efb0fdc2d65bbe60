/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_INTERNAL_H
#define XENMSG_DAEMON_PEERS_INTERNAL_H

/*
 * Shared by the parts of peers.c. Each calls only those before it: peer.c has the table of the peers;
 * peers_leaves.c reads their leaves, and peers_lookups.c those of who may not be there; peers_advertise.c
 * writes what we show; peers_tell.c tells guests; rendezvous.c with rendezvous_hello.c and
 * rendezvous_rings.c is how two daemons find each other; peers_repair.c looks after what we have written;
 * peers_all.c is for those who want to know all; peers_presence.c decides which peers are up. Peers.c has
 * their turns: it gives each what was read for it, and rendezvous_advance() then takes the steps.
 *
 * The facts (leaves as last read, whether a link is wanted) and the steps are kept apart: code that learns a
 * fact stores it and calls peer_kick(). Later rendezvous_advance() takes the steps that the facts allow
 * (rendezvous_step.h has the table), in a turn of the peer's account (turns.h) and with no other code of the
 * peers on the stack. So facts may arrive in any order, and callbacks may call back in.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/config.h"
#include "base/log.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/peers.h"
#include "daemon/peers/peers_parse.h"
#include "daemon/peers/rendezvous_step.h"
#include "base/quota.h"
#include "base/self.h"
#include "daemon/xen/store.h"
#include "base/timer.h"
#include "base/turns.h"
#include "daemon/xen/vchan.h"
#include "wire/ut.h"

#define PEERS_ROOT_SIZE	     40 /* /local/domain/<me>/data/xenmsg */
#define PEERS_PATH_SIZE	     96
#define ABSENT_MAX	     256u
#define BELLS_MAX	     32u
#define PEERS_ADVERTISE_SIZE 2000 /* both xenstoreds take it (2048 bytes, 2039 with the longest path) */

enum peer_leaf {
	LEAF_PRESENCE,
	LEAF_ENDPOINTS,
	LEAF_HELLO,
	LEAF_PUBLIC, /* endpoints that everyone may see */
	LEAF_ASKS,   /* dom0 */
	LEAF_RING_REF,
	LEAF_EVENT_CHANNEL,
	LEAF_SHUTDOWN, /* dom0: `control/shutdown` */
	/* Leaves that we have written for it (peers_repair.c). */
	LEAF_OUR_HELLO,
	LEAF_OUR_ENDPOINTS,
	LEAF_OUR_RING_REF,
	LEAF_OUR_EVENT_CHANNEL,
	LEAVES,
	LEAF_FOR_US, /* not a leaf: what it writes for us, as a whole */
};

/* Leaves that we have written for nobody in particular (peers_repair.c): that we are here, what everyone may
 * see, and in a guest that we want to know of all. */
enum own_leaf { OWN_PRESENCE, OWN_PUBLIC, OWN_ASKS, OWN_LEAVES };

#define RENDEZVOUS_NODE_SIZE (PEERS_INSTANCE_SIZE + PEERS_NONCE_SIZE + 16)
#define NODES		     (1u << LEAF_RING_REF | 1u << LEAF_EVENT_CHANNEL)
#define OUR_NODES	     (1u << LEAF_OUR_RING_REF | 1u << LEAF_OUR_EVENT_CHANNEL)
#define LEAVES_LOOKED_UP     (1u << LEAF_PRESENCE | 1u << LEAF_ENDPOINTS | 1u << LEAF_HELLO)

/* Why there can be no link with a peer. */
enum unlinkable {
	LINKABLE,
	UNLINKABLE_UNMAPPED,  /* neither end may map */
	UNLINKABLE_FORBIDDEN, /* one end has found that Xen forbids it */
	UNLINKABLE_HERE,      /* we have, and our hello says so */
};

struct rendezvous {
	enum rendezvous_state state;
	bool wanted;	  /* peers_connect() was called and not answered yet */
	bool was_refused; /* by XenStore, when it was written last */
	enum unlinkable unlinkable;
	uint64_t forbidden_ms; /* when either end found that Xen forbids it */
	char our_nonce[PEERS_NONCE_SIZE];
	bool is_unseen; /* nobody has read our nonce unless `hello_request` has begun */
	/* The peer's last nonce that we have answered: not again on our own account. Whatever is granted,
	 * awaited or connected is so under this nonce. */
	char tried_nonce[PEERS_NONCE_SIZE];
	uint32_t ring_ref, port; /* as read in AWAIT, else 0 */
	unsigned node_retries;
	struct vchan *vchan;		  /* GRANTED only: afterwards it is the owner's */
	struct deadline deadline;	  /* setup_timeout_ms */
	struct event *retry;		  /* the second node of a transaction isn't visible yet */
	struct event *again;		  /* the other side, or we, may have missed an event */
	struct event *sweep;		  /* our hello must be written or removed once more */
	uint32_t again_ms, hello_took_ms; /* the time that XenStore has taken for our hello */
	uint64_t hello_since_ms;
	uint64_t begun_ms;		    /* when the attempt began */
	bool goes_on;			    /* the attempt continues, though a request for it timed out */
	struct peer *wait_prev, *wait_next; /* PAGES: in peers.page_queue */
	struct store_request *hello_request, *publish_request, *remove_request;
};

/* In domain 0: whether a guest is about to be saved (rendezvous_rings.c). */
struct saves {
	struct store_watch *watch;
	bool was_read, is_other; /* `control/shutdown`, and it asked for something else */
	bool is_held;		 /* nothing is mapped until `over` */
	struct event *over;
};

/* In domain 0: news of a peer for guests, and whether and what it is told itself (peers_tell.h). */
struct telling {
	bool is_told, asks;
	bool shown;		      /* its presence is everybody's to read, or was */
	struct domid_set *acquainted; /* those that have to do with it; NULL: none */
	struct tell *one_by_one;      /* news of it for single guests */
	/* Leaves of it that have changed, for all guests and for those that have to do with it; and whether
	 * it must be told of all that it may miss. */
	struct telling_what {
		unsigned to_all, to_some;
		bool list;
	} now, next;
	bool readers_stale; /* those for whom it has written must be listed */
	struct store_request *listing;
	bool is_walking; /* over all peers, with `now` */
	int64_t at;	 /* the last one that it has come to */
	struct task task;
};

/* The leaves of a peer as they were read (peers_leaves.c), and what they say (peers_presence.c). */
struct leaves {
	unsigned stale;		  /* bit mask of those that must be read */
	unsigned reading, reread; /* of those that are being read; whose value may be out of date then */
	unsigned came;		  /* of those that were read, but not looked at */
	unsigned missed;	  /* of those that couldn't be read */
	unsigned looked;	  /* of those that were read since the last request */
	struct leaf_read {
		struct peer *peer;
		struct store_request *request;
		int error;
		char *untrusted_value;
		size_t size;
	} read[LEAVES];
	char presence[PEERS_INSTANCE_SIZE]; /* "" if absent */
	bool hello_seen;
	struct rendezvous_hello hello;
	bool endpoints_seen;
	struct offered for_us, for_all;	      /* in the leaf for us, and in the public one */
	unsigned presence_major, hello_major; /* of a leaf in another version, else 0 */
};

/* Endpoints that are advertised to one peer alone (peers_advertise.c). */
struct advert {
	struct store_request *request; /* our endpoints leaf for it is being written */
	bool written;		       /* it was written */
	bool asks_us;		       /* it may be waiting for our endpoints */
	bool answer;		       /* write them, even if there are none */
	bool answer_again;	       /* write them once more */
	uint64_t version;	       /* of adverts.version; 0: must be compared with what stands there */
	char *value;		       /* what stands there or is on its way; NULL: must be written */
};

struct peer {
	struct peers *peers;
	uint32_t domid;
	bool allowed; /* may know that we are here */
	bool kicked;
	struct account *account; /* charged for what it makes us do; NULL: none */
	/* of its account: takes in what was read of it, reads what is stale, takes the next step */
	struct task task;
	struct lookup *lookup;	     /* under way, asking whether it is there */
	unsigned asked;		     /* look-ups of it, that one and those that wait */
	struct store_watch *watch;   /* dom0: of its subtree; a guest: of */
	enum peer_leaf leaf_watched; /* this leaf of it, by itself, or LEAF_FOR_US; LEAVES: none */

	struct leaves leaves;
	struct advert advert;
	/* Others say that it has written something for us, which wasn't found yet: that it is there isn't
	 * enough. */
	bool is_stranger;
	bool up; /* as registry.h has it */
	char instance[PEERS_INSTANCE_SIZE];
	/* The daemon of this instance was seen to die, with the hello of tried_nonce; "": none was. */
	char dead_instance[PEERS_INSTANCE_SIZE];

	unsigned repairs;      /* how often what we wrote for it was written again recently */
	unsigned repair_later; /* bit mask of the leaves that wait to be written again */

	/* Whether something here had to do with it since peers.forget fired last; or nothing since it fired
	 * before that, so it will be forgotten. */
	enum { PEER_UNUSED, PEER_USED, PEER_IDLE } use;
	bool is_ours; /* somebody here wanted to know it */
	bool is_held; /* it has forgotten us, and what it offers stays known for a moment */

	struct rendezvous rendezvous;
	struct telling telling; /* dom0 */
	struct saves saves;	/* dom0 */
	UT_hash_handle hh;
};

/* Whether all peers must be known, and whether they are (peers_all.c). */
struct peers_all {
	enum {
		ALL_UNWANTED,
		ALL_AWAITED,
		ALL_THERE
	} state;	   /* those that ran have answered when they are there */
	bool heard;	   /* something of a peer has come since `settle` was set */
	bool listed;	   /* domain 0 has told of all */
	bool read;	   /* in domain 0: those that there were at its start are known */
	bool failed;	   /* the leaf that asks couldn't be written */
	unsigned settling; /* how often `settle` may still be set again */
	struct event *settle, *end;
	struct store_request *request;
	struct store_watch *watch; /* a guest: of /local/domain */
	bool fired;		   /* that has, as it does when it is set, and after a lost connection */
};

/* Endpoints that are advertised to peers, and to all (peers_advertise.c). */
struct adverts {
	struct event *write;	    /* coalesces writes of endpoints, retries failed ones */
	struct task next;	    /* for one peer after the other */
	uint32_t pause_ms;	    /* 0: the last write was none that failed */
	struct event *answer_again; /* those that have asked again since it was set */
	uint64_t version;	    /* of what is advertised, from 1 */
	char **names;		    /* the endpoints, where policy may let a peer know of them */
	uint8_t *kinds;		    /* their kinds; NULL: they aren't told */
	unsigned count;
	bool *public;		 /* everyone may see it, by its place in `names` */
	unsigned restricted;	 /* how many of them not everyone may see */
	unsigned looked;	 /* for how many of them that is known */
	uint64_t public_version; /* the `version` that `public` was found out for */
	char *public_value;	 /* what stands there for all, or is on its way; NULL: nothing */
	bool public_unknown;	 /* something else may stand there, since a write has failed */
	struct store_request *public_request;
	struct domid_set *asked; /* which domains have asked; NULL: none */
	uint32_t asked_next;	 /* the first of them that may have something for it; those behind it too */
	bool presence_written;	 /* the presence, or the private leaf in its place; or it is on its way */
	struct store_request *presence_request;
	struct store_request *readers; /* lists what a daemon before this has written */
};

/* Our own nodes, which a migration takes away (peers_repair.c). */
struct repair {
	struct store_watch *watch;
	void (*asks_gone)(struct peers *peers);
	struct event *later; /* some were written again recently, or wait for it */
	unsigned count;
	unsigned own;	 /* a bit mask of our own leaves that wait for that */
	bool tree;	 /* the own leaf was looked for, since all of them may have gone */
	bool show_again; /* the own leaf is written again if it is still there */
	struct store_request *requests[OWN_LEAVES];
};

/* A guest waits for these, one after the other, until it looks for others itself: that XenStore tells of
 * domain 0, its first words, and the link that it has begun to make. */
enum told_phase { TOLD_LOOKS_UP, TOLD_SEEN, TOLD_ANSWERS };

/* A guest: of domain 0's daemon. */
struct told_by_zero {
	bool is_telling;	  /* what changes */
	struct deadline deadline; /* to begin with that */
	enum told_phase phase;
	unsigned waits; /* how often the deadline was put off in that phase */
};

struct peers {
	struct event_base *base;
	struct store *store;
	struct vchan_host *host;
	struct peers_options options;
	struct peers_callbacks callbacks;
	void *userdata;
	char root[PEERS_ROOT_SIZE]; /* /local/domain/<me>/data/xenmsg */
	bool may_map;
	bool hands_over; /* the presence and the endpoints for all stay when the rest is removed */

	store_watch_fn changed;	      /* takes the event of a watch on something of the peers' */
	bool (*begin)(struct peer *); /* makes what a new one consists of, or frees it: false */
	struct peer *peers;	      /* by domid; a list in that order, if is_sorted */
	bool is_sorted;
	struct lookup_asker *askers; /* accounts that wait for look-ups */
	unsigned lookups;
	struct absent {
		uint32_t domid;
		uint64_t until_ms;
	} absent[ABSENT_MAX];
	struct registry_sink sink;
	struct peers_all all;
	struct store_watch *zero_watch; /* a guest: of what domain 0 writes */
	unsigned leaf_watches;		/* a guest's, of peers */
	bool hears;			/* what others do in answer to our presence, which we may show */
	struct told_by_zero zero;
	/* In a guest: those with which it has had a link, and while it is told a watch on what each writes
	 * for it: domain 0's daemon may stand still. The one that came first gives way. */
	struct {
		struct bell {
			uint32_t domid;
			struct store_watch *watch;
		} of[BELLS_MAX];
		unsigned count;
	} bells;
	struct event *forget;	   /* finds peers that are idle */
	struct event *forget_held; /* reads again what those offer that have forgotten us */
	struct event *reread;	   /* asks again for what couldn't be asked for, or wasn't answered */
	struct adverts adverts;
	struct repair repair;
	struct peer *page_queue; /* wait for grant pages, first come first served */
	struct event *pages;	 /* pages may have come back */
};

/* Returns "presence", or the name of the leaf that replaces it while presence is private. */
const char *peers_own_leaf_name(const struct peers *peers);

/* /local/domain/<domid>/data/xenmsg */
void peers_subtree(uint32_t domid, char path[PEERS_ROOT_SIZE]);
struct peer *peer_find(struct peers *peers, uint32_t domid);
/* Returns the first peer with a higher domid, which may have gone (-1: the first of all). NULL: there is
 * none. */
struct peer *peer_after(struct peers *peers, int64_t domid);
/* Returns the peer, made if there was none. NULL: out of memory; it stays unknown until its next change. */
struct peer *peer_get(struct peers *peers, uint32_t domid);
void peer_kick(struct peer *peer);
/* Marks the leaf to be read; once more if it is already being read. */
void peer_read(struct peer *peer, enum peer_leaf leaf);
/* Reads all the leaves that show whether the peer is up. */
void peer_look_up(struct peer *peer);
/* Sets a watch, and logs whether that couldn't be done; only the latter. */
void peers_watch(struct peers *peers, const char *path, store_watch_fn event, void *userdata,
		 struct store_watch **watch);
void peers_on_watched(void *userdata, int error, const char *value, size_t size);
/* Removes what we have written. Best effort: it goes at the latest with our subtree. */
void peers_remove(struct peers *peers, const char *path);
/* Writes our own path to/<peer>/<rest>. */
void peer_our_path(const struct peer *peer, char path[PEERS_PATH_SIZE], const char *rest);
/* Removes what we have written there, likewise. */
void peer_remove_ours(const struct peer *peer, const char *rest);
/* Returns whether the peer's hello is there, of our version, and neither an earlier daemon's nor a dead
 * one's. */
bool peer_hello_is_current(const struct peer *peer);

int rendezvous_init(struct peer *peer);
/* Gives the attempt that is under way, or is to begin, its time: a link is asked for. */
void rendezvous_wanted(struct peer *peer);
/* Whether a link may be tried: not where neither may map; and what Xen has forbidden only some minutes
 * later. */
bool rendezvous_may_be_tried(struct peer *peer);
void rendezvous_destroy(struct peer *peer);
void rendezvous_advance(struct peer *peer);
/* Whether an attempt is under way that the peer hasn't answered at once. */
bool rendezvous_is_late(const struct peer *peer);
/* Reads the peer's nodes if they are awaited, since they may have changed. */
void rendezvous_look_again(struct peer *peer);
/* Notes that the peer's daemon has gone, or was `replaced`. */
void rendezvous_peer_gone(struct peer *peer, bool replaced);
/* Notes that the peer's hello isn't there: when it is, it counts as a new one, whatever its nonce. */
void rendezvous_hello_gone(struct peer *peer);
/* Takes the value of a node that was read, or NULL if there is none. */
void rendezvous_node(struct peer *peer, enum peer_leaf leaf, const char *untrusted_value, size_t size);
/* Returns whether our leaf for the peer, LEAF_OUR_..., stands in XenStore and isn't being written: then with
 * this value. */
bool rendezvous_node_stands(const struct peer *peer, enum peer_leaf leaf, char value[RENDEZVOUS_NODE_SIZE]);
/* Writes that leaf once more, as it was. */
void rendezvous_write_again(struct peer *peer, enum peer_leaf leaf);
void rendezvous_pages_freed(struct peers *peers);
const char *rendezvous_state_name(const struct peer *peer);
bool rendezvous_may_map(const struct peers_options *options);
/* Takes the step that the facts and this event lead to. */
void rendezvous_take_step(struct peer *peer, enum rendezvous_event event);
/* Looks later whether something was missed, behind a pause of so many milliseconds (0: there was none). */
void rendezvous_again_later(struct peer *peer, uint32_t before_ms);
/* What XenStore has taken for our hello, or takes now. */
uint64_t rendezvous_hello_ms(const struct peer *peer);
/* The pause begins now, since something was only just said. */
void rendezvous_again_from_now(struct peer *peer);

/* --- rendezvous_hello.c */
/* Begins an attempt of ours; goes on with it under another nonce; leaves PAGES, GRANTED or AWAIT; gives it
 * up; does that, and tells who wanted it why. */
void rendezvous_begin(struct peer *peer);
void rendezvous_begin_anew(struct peer *peer);
void rendezvous_step_back(struct peer *peer, enum rendezvous_state state);
void rendezvous_withdraw(struct peer *peer);
void rendezvous_fail(struct peer *peer, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Ends the attempt, since XenStore doesn't take `what` ("": the hello), unless it may take it later. */
void rendezvous_store_failed(struct peer *peer, int error, const char *what);
void rendezvous_on_sweep(evutil_socket_t fd, short what, void *userdata);
/* Fails our attempt, since there can be no link; notes that Xen forbids one; does both, and tells the
 * peer. */
void rendezvous_refuse(struct peer *peer);
/* Notes that Xen lets the two domains share nothing: UNLINKABLE_FORBIDDEN or UNLINKABLE_HERE. */
void rendezvous_note_forbidden(struct peer *peer, enum unlinkable by);
void rendezvous_forbid(struct peer *peer);
/* What Xen has forbidden us may be tried once more; whether the peer has begun anew long after that. */
void rendezvous_forget_forbidden(struct peer *peer);
/* Forgets why there could be no link: the peer has gone, or has another daemon. */
void rendezvous_forget_unlinkable(struct peer *peer);
bool rendezvous_is_asked_again(const struct peer *peer);

/* --- rendezvous_rings.c */
void rendezvous_grant(struct peer *peer);
void rendezvous_map(struct peer *peer);
void rendezvous_hand_over(struct peer *peer, struct vchan *vchan);
/* Whether the client has come to the vchan that was granted, or has gone. */
enum rendezvous_event rendezvous_of_vchan(const struct peer *peer);
void rendezvous_publish(struct peer *peer);
void rendezvous_unpublish(struct peer *peer);
/* Takes the value of `control/shutdown`, or NULL if there is none. */
void saves_take(struct peer *peer, const char *untrusted_value, size_t size);
void saves_destroy(struct peer *peer);

/* --- peers_advertise.c */
int advertise_init(struct peers *peers);
void advertise_destroy(struct peers *peers);

/* Writes the presence leaf if there should be one and it isn't there. */
void advertise_presence(struct peers *peers);
/* Writes it once more, for those whose watches it fires. */
void advertise_presence_again(struct peers *peers);
/* What stands in it. */
#define PRESENCE_SIZE (2 * PEERS_INSTANCE_SIZE + 16)
void presence_format(const struct peers *peers, char value[PRESENCE_SIZE]);
/* Writes the leaf for all even if it hasn't changed. */
void advertise_public_anew(struct peers *peers);
/* Returns whether the peer may know of us, is up, and hasn't got our latest endpoints. */
bool advertise_is_wanted(const struct peer *peer);
void advertise_to(struct peer *peer);
/* Does so soon: policy, or what the peer reads, may be another one. */
void advertise_soon(struct peer *peer);
/* Makes the peer's next turn write the leaf even if it hasn't changed. */
void advertise_anew(struct peer *peer);
/* Writes the peer's leaf once more, though it stands there already, since it has asked again: its connection
 * to XenStore may have been lost, and the event with it. Answers all who do so together, once a second. */
void advertise_again(struct peer *peer);
/* Returns whether the peer may know of endpoints that aren't in the leaf for all, as far as that is known. */
bool advertise_shows_more(struct peer *peer);
/* Returns what that costs. */
uint64_t advertise_cost(const struct peers *peers);
/* Removes what stands there for a peer that has gone. */
void advertise_withdraw(struct peer *peer);

/*
 * In a guest that domain 0 tells of changes: which domains have asked who is there. One that may know of
 * nothing here but what is for all isn't made known by that. It is looked at once more when the endpoints,
 * the policy or its name have changed, since it doesn't ask again: what is then for it alone makes it known.
 */

/* Notes that the domain has asked. */
void askers_add(struct peers *peers, uint32_t domid);
/* Has an asker that isn't known looked at, as when it asked: its name is another one. */
void askers_named(struct peers *peers, uint32_t domid);

/* --- peers_all.c */
int all_init(struct peers *peers);
void all_destroy(struct peers *peers);
/* Called when the watches are set: asks if somebody has wanted all since before; in domain 0, waits. */
void all_start(struct peers *peers);
/* Returns whether the domain is to be looked up when its presence appears. */
bool all_follows(const struct peers *peers, uint32_t domid);
/* Notes that something of a peer has come, so the answers aren't complete. */
void all_heard(struct peers *peers);
/* Notes that domain 0 has told of all. */
void all_listed(struct peers *peers);
/* Asks once more, since changes may have been missed. */
void all_again(struct peers *peers);
int told_init(struct peers *peers);
void told_destroy(struct peers *peers);
/* For how long it may, if a daemon hands over: those that domain 0 doesn't tell wait together as long as
 * one. */
void told_image(struct image *image, struct peers *peers);
/* Sets the watches that are needed now. */
int told_watch(struct peers *peers);
/* Notes that more is known of domain 0's daemon. */
void told_check(struct peers *peers);
/* Notes that there is a link with the domain; whether there was one. */
void bell_add(struct peers *peers, uint32_t domid);
bool bell_is_there(const struct peers *peers, uint32_t domid);

/* --- peers_leaves.c */
int leaves_init(struct peers *peers);
void leaves_destroy(struct peers *peers);
void leaves_begin(struct peer *peer);
void leaves_end(struct peer *peer);
/* Writes the path of a leaf of the peer's. */
void leaf_path(const struct peer *peer, enum peer_leaf leaf, char path[PEERS_PATH_SIZE]);
/* In a turn of the peer's: asks for what is stale. Returns what it cost. */
uint64_t leaves_read(struct peer *peer);
/* In a turn of the peer's: takes a leaf that came; the caller frees its value, NULL: there is none. Returns
 * whether it counts: not if it is to be read once more. */
bool leaf_take(struct peer *peer, enum peer_leaf leaf, char **untrusted_value, size_t *size);

/* --- peers_presence.c */
int presence_watch(struct peers *peers);
/* Takes the event of a watch on something of the peers'. */
void presence_on_change(void *userdata, const char *untrusted_path);
/* Watches a leaf of the peer's, or doesn't any more, as is needed now. */
void presence_watch_leaf(struct peer *peer);
void presence_unwatch_leaf(struct peer *peer);
/* In a turn of the peer's: decides from a leaf that was read. NULL: there is none. */
void presence_take(struct peer *peer, enum peer_leaf leaf, const char *untrusted_value, size_t size);
int forget_init(struct peers *peers);
void forget_destroy(struct peers *peers);
/* Notes that there is one more peer, which may become idle. */
void forget_later(struct peer *peer);
/* Notes that something here wants to know the peer. */
static inline void forget_not(struct peer *peer)
{
	peer->use = PEER_USED;
	peer->is_ours = true;
}
/* In a turn of the peer's: forgets it, if it is idle and may be. */
void forget_if_idle(struct peer *peer);

/* --- peers_repair.c */
/* Calls asks_gone() when somebody has removed the leaf that asks for all. */
int repair_init(struct peers *peers, void (*asks_gone)(struct peers *peers));
void repair_destroy(struct peers *peers);
/* Sets the watch: after what an earlier daemon left was removed. Negative errno. */
int repair_watch(struct peers *peers);
/* Writes the presence again, so that those who haven't heard of it do. Not if it has gone: then this domain
 * may have been migrated to the same number, and the owner wouldn't miss it any more. */
void repair_show_again(struct peers *peers);
/* Takes what was read of a leaf that we have written for the peer. NULL: there is none. */
void repair_take(struct peer *peer, enum peer_leaf leaf, const char *value, size_t size);

/* --- peers_lookups.c */
#define LOOKUPS_AT_ONCE 2u    /* under way, of one account */
#define LOOKUP_BYTES	4096u /* what the daemon holds for a domain that may not be there */

/* Queues a look-up of the peer, for the account. Returns 0, -ENOMEM, or -ENOBUFS: the account has no room. */
int lookups_add(struct peer *peer, struct account *account);
/* All of the peer is to be read. Returns whether a look-up that waits will do so, in the line of who pays. */
bool lookups_defer(struct peer *peer);
/* Ends the peer's look-up, if there is one. */
void lookups_done(struct peer *peer);
void lookups_destroy(struct peers *peers);

/* Notes that the domain was looked up and isn't there. */
void absent_note(struct peers *peers, uint32_t domid);
/* Returns whether that was noted a moment ago. */
bool absent_is_known(const struct peers *peers, uint32_t domid);
/* Forgets that note, since something of the domain has appeared. */
void absent_forget(struct peers *peers, uint32_t domid);

#endif
