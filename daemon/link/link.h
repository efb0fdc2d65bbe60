/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LINK_H
#define XENMSG_DAEMON_LINK_H

/*
 * Links: the sessions with the daemons of other domains (doc/protocol.md, section 5). There is one `struct
 * link` for each peer with which a link is wanted or was; it outlives the vchans under it, and its hop keeps
 * channels that were opened before there was one. For a domain that isn't there only the reason why no link
 * could be made is kept, for the last LINKS_FAILURES_MAX.
 *
 *   IDLE ──first channel, ping──▶ CONNECTING ──vchan connected──▶ GREETING ──HELLO──▶ UP
 *   IDLE ──the peer makes one──▶ GREETING
 *   CONNECTING ──failed──▶ IDLE: its channels end with the error; without a daemon the link is forgotten
 *   GREETING, UP ──closed, died, silent for dead-after, violation──▶ IDLE: its channels end (protocol.md 2.4)
 *   UP ──the vchan was lost, and both daemons resume sessions──▶ AWAY: its channels wait
 *   AWAY ──channel, ping──▶ AWAY: it waits, too, also for a domain that isn't there (link_registry.c)
 *   AWAY ──another vchan, and the peer's daemon has the session, too──▶ UP, perhaps under another domid
 *   AWAY ──resume-for is over, or the peer's daemon has no such session──▶ IDLE: its channels end
 *   UP ──no channel for idle-close, nor at the peer──▶ IDLE; but links with domain 0 stay, for its directory
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/switch/hop.h"
#include "daemon/link/pings.h"
#include "base/durations.h"
#include "base/peer_id.h"
#include "base/quota.h"

struct image;
struct image_hops;
struct registry;
struct hosts;
struct link;
struct links;
struct peers;
struct self;
struct carrier;
struct carrier_maker;
struct config;

#define LINK_REASON_SIZE 240

enum link_state {
	LINK_IDLE,
	LINK_CONNECTING,
	LINK_GREETING,
	LINK_UP,
	LINK_AWAY,
};

struct links_options {
	const struct self *self;
	const struct config *config; /* stays the caller's, for as long */
	uint32_t channels_max;
	struct registry *registry;
	struct hosts *hosts;		   /* finds other hosts' daemons; NULL: there are none */
	const struct carrier_maker *maker; /* for links that move; NULL: none does. Stays the caller's, too */
	bool obeys;			   /* the host's policy: HELLO says so */
};

struct links_callbacks {
	/* A peer opens a channel. If it is a domain, its identity has the peer's domid. */
	void (*open)(void *userdata, struct peer_id peer, struct channel *channel,
		     const struct frame_open *open);
	/* There can't be a link with this domain: what waits on `hop` for one ends with EHOSTUNREACH, as far
	 * as the callee doesn't lead it elsewhere. May be NULL. */
	void (*unlinkable)(void *userdata, struct peer_id peer, struct hop *hop);
	/* Domain `to`, with which a session goes on, was `from` before it was restored. May be NULL. */
	void (*renumbered)(void *userdata, uint32_t from, uint32_t to);
	/* The session whose hop this is goes on, with `to`, which was `from`, another domain, or is the same.
	 * Called before anything more of it comes. There may be thousands of channels: true asks to be called
	 * again, with *at as the callee has left it, which is 0 at first. May be NULL. */
	bool (*resumed)(void *userdata, struct peer_id from, struct peer_id to, struct hop *hop,
			uint32_t *at);
	/* Domain 0's daemon says what it knows of domains, by DIRECTORY. -EPROTO: it is malformed. */
	int (*names)(void *userdata, const uint8_t *payload, uint32_t length);
	/* Domain 0's daemon tells the host's policy, by POLICY. -EPROTO: it is malformed; another errno.
	 * NULL: none is taken. */
	int (*policy)(void *userdata, const uint8_t *payload, uint32_t length);
	/* The peer's daemon says who the domain whose channel it relays is now. -EPROTO: that can't be. NULL:
	 * HELLO doesn't say that we take it. */
	int (*source)(void *userdata, struct channel_end *end, const struct frame_sender *now);
	/* Domain 0's daemon is to be asked whether it leads to this domain: links_take_word() if it doesn't.
	 * May be NULL. */
	void (*word)(void *userdata, uint32_t domid);
};

/* Peers, hosts and what is known must outlive the links. */
int links_new(struct links **links, struct switchboard *board, struct peers *peers,
	      const struct links_options *options, const struct links_callbacks *callbacks, void *userdata);
/* This domain was restored or migrated: its sessions are away, as far as they can be resumed, and all other
 * links end. Nothing is asked of the peers before links_go_on(). */
void links_restart(struct links *links);
/* The peers can be reached again: tries to resume what is away. */
void links_go_on(struct links *links);
#ifdef XENMSG_INVARIANTS
/* What carries a link is as its state says. */
void links_check(const struct links *links);
#endif
/* Ends all of them, which the peers are told, and frees them. */
void links_free(struct links *links);

/*
 * Handing over to the next daemon (link_image.c). This one leaves its sessions, which are away from then on,
 * and asks for nothing; the next one reads them, and resumes them over other vchans. To the peer that is as a
 * lost vchan.
 */
/* Whether a link with another daemon is being set up over its vchan, as the peer may have it up already; or a
 * peer was asked whether it is idle, and the next daemon, which doesn't know of that, could speak before the
 * answer. */
bool links_greet(const struct links *links);
/* Leaves what peers have connected since: without a word it would end with this program, which to a peer is
 * the session's end. */
void links_leave_attempts(struct links *links);
/* Leaves all sessions, and ends what can't be kept; what was left goes on where there can be no image. */
extern const struct part links_part;
/* Ends what can't be in the image of links that have numbers, which takes some passes. */
void links_settle_for_image(struct links *links);
/* Ends the links that can't be in it. Returns whether there were some. */
bool links_end_unfit(struct links *links);
/* The next daemon: what peers connect is left alone until links_take_up(). */
void links_hold(struct links *links);
/* Hands over why links couldn't be made. */
void links_failures_image(struct image *image, struct links *links);
/* What was read goes on. */
void links_take_up(struct links *links);

/* Returns the hop of the link with `peer`, and asks for the link if it isn't up, at the cost of `account`
 * (NULL: none). The hop stays the link's. NULL with *error: -ENOMEM, -ENOBUFS (of the account), -EHOSTDOWN
 * (no daemon was there a moment ago; and a domain has no link with itself), -ENOLINK (neither may map the
 * other's pages). */
struct hop *links_want(struct links *links, struct peer_id peer, struct account *account, int *error);
/* As registry_resolve(), for what is to be sent there: where no daemon is there, but a session with the
 * domain is away and may still be resumed, *peer leads to that session, and may be no domain. */
int links_resolve(struct links *links, const char *domain, struct peer_id *peer);
/* Likewise of a domid. */
struct peer_id links_meant(struct links *links, uint32_t domid);
/* Whether the domain, which has gone, may come back to its session, or has just done so. */
bool links_had_session(const struct links *links, uint32_t domid);
/* A session that is away with a domain of this host: by what that is known, and since when. */
struct links_away {
	const struct link *link; /* NULL: before the first one */
	uint32_t domid;
	const char *name, *uuid; /* "": unknown */
	uint64_t since_ms;
};
/* Finds the next one. Returns whether there is one. */
bool links_next_away(const struct links *links, struct links_away *away);
/* True if we have no session with this domain, but domain 0 reports it as away, or as restarting without a
 * daemon yet. */
bool links_zero_knows(struct links *links, struct peer_id peer);
/* Whether the link is up, and its peer takes part in relaying: 1; 0: it isn't up; -EOPNOTSUPP: it is, and the
 * peer doesn't. */
int links_relays(const struct links *links, struct peer_id peer);
/* Whether the link is up. */
bool links_are_up(const struct links *links, struct peer_id peer);
/* Whether it is, and its peer obeys the host's policy (protocol.md, 5.12). */
bool links_obey(const struct links *links, struct peer_id peer);
/* Whether there is no link with the domain because Xen lets the two share no memory, as peers_is_forbidden()
 * has it. */
bool links_are_forbidden(const struct links *links, uint32_t domid);
/* Sets what is remembered as the reason why there is no link with this peer. */
void links_explain(struct links *links, struct peer_id peer, const char *reason);

/* Sends a frame about neither a channel nor the link itself, with the next pass of the loop, or, while the
 * link is away, when it is resumed. Returns 0, -ENOTCONN: there is no session with the peer, -ENOBUFS: it
 * hasn't taken what was sent before. */
int links_send(struct links *links, struct peer_id peer, uint8_t type, const void *payload, uint32_t length);

/* Whether somebody waits for something of a peer's over its link. */
bool links_wait(const struct links *links);

/* The callbacks of peers.h. The link owns the carrier from now on. */
void links_connected(struct links *links, struct peer_id peer, const struct carrier *carrier);
void links_failed(struct links *links, struct peer_id peer, int error, const char *reason);
void links_lost(struct links *links, struct peer_id peer, bool replaced, const char *reason);
/* Runs there now, as is told perhaps after its session with us has begun: that with another one is over. */
void links_replaced(struct links *links, struct peer_id peer, const uint8_t instance[16], const char *reason);
void links_saved(struct links *links, uint32_t domid);
uint32_t links_least_ring(const struct links *links, uint32_t domid);

/*
 * Called before each turn of the event loop: takes what has come over the link that is being polled
 * (busy_poll.h), since its peer was not asked to notify us. Returns true if the loop must not sleep in this
 * turn.
 */
bool links_poll(struct links *links);

/* Waits until the session with the peer's daemon is up: `done` is called once, perhaps before this returns,
 * with 0, or with a negative errno if it can't be. links_await_cancel() forgets all that have this userdata.
 * Returns 0 or a negative errno. */
int links_await(struct links *links, struct peer_id peer, struct account *account, await_fn done,
		void *userdata, uint32_t request);
void links_await_cancel(struct links *links, const void *userdata);
/* Domain 0 doesn't lead to this domain (links_callbacks.word). */
void links_take_word(struct links *links, uint32_t domid);

/* One link in the daemon's status. */
struct link_info {
	struct peer_id peer;
	enum link_state state;
	const char *state_name;
	bool has_vchan, granter;
	uint32_t ring_bytes, pages, channels, unacknowledged;
	uint64_t rtt_ns;	      /* the last one; 0: not measured */
	struct durations round_trips; /* of all sessions with this peer */
	struct hop_stats tx, rx;
	const struct account *account; /* the peer's */
	uint64_t since;		       /* of the state, in seconds since 1970 */
	uint32_t resumes, moves;       /* of all sessions with this peer */
	const char *version, *last_error;
	uint32_t flags; /* of the peer's HELLO */
};
unsigned links_count(const struct links *links);
/* Returns in *info the first link, by its peer, behind `after` (NULL: the first of all), which may have gone.
 * False: there is no more. */
bool links_next(struct links *links, const struct peer_id *after, struct link_info *info);
bool links_info(struct links *links, struct peer_id peer, struct link_info *info);
/* Why links with domains that aren't known any more couldn't be made, the latest first. */
#define LINKS_FAILURES_MAX 16u
struct link_failure {
	struct peer_id peer;
	uint64_t since;
	char reason[LINK_REASON_SIZE];
};
void links_each_failure(const struct links *links,
			void (*each)(void *userdata, const struct link_failure *failure), void *userdata);

#endif
