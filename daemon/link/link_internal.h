/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LINK_INTERNAL_H
#define XENMSG_DAEMON_LINK_INTERNAL_H

/*
 * What the parts of a link share: links.c has all links, and their lives; link.c has one's session, and is
 * the owner of its hop; link_greet.c begins one, or goes on with one; link_claim.c finds whose that is;
 * link_away.c has what becomes of its session while no vchan carries it, link_move.c decides when it goes on
 * over another one while it is used, and lets it; link_control.c takes what the peer says about it, and asks
 * whether the peer lives, link_registry.c has by what its domain is known while it is away, and tells of
 * links; link_image.c hands it over to the next daemon.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/log.h"
#include "daemon/link/elastic.h"
#include "daemon/link/link.h"
#include "daemon/link/busy_poll.h"
#include "daemon/link/pings.h"
#include "daemon/link/auth_tag.h"
#include "daemon/link/resume_step.h"
#include "daemon/link/carrier.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/peers/peers.h"
#include "daemon/switch/hop.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/ut.h"
#include "wire/ring.h"

/* Why a session ends in order, which status doesn't remember as an error. */
#define LINK_WAS_IDLE	"the link was idle"
#define LINK_WAS_CLOSED "the peer has closed it"

/* A session that can be resumed, as an end knows it. Positions and what is kept are its hop's. */
struct link_session {
	enum resume_state state;
	enum resume_attempt attempt;
	uint8_t token[AUTH_ID_SIZE]; /* orders it among others: the nonce of the lower end's first HELLO */
	uint8_t secret[AUTH_SECRET_SIZE];
	uint8_t peer_instance[AUTH_ID_SIZE];
	uint32_t epoch, confirmed; /* the last epoch in which the other end was heard */
	uint64_t away_ms;	   /* when it was lost */
};

/* The session goes on over another vchan, while the present one carries it: see link_move.c. */
enum move_state {
	MOVE_NOT,
	MOVE_OFFERED, /* we have granted the other one, and the peer hasn't said MOVE yet */
	MOVE_MOVING,  /* MOVE is said, or about to be */
};
struct link_move {
	enum move_state state;
	struct carrier to;
	uint64_t begun_ms;
	/* one of the two isn't there any more: an error to end with, unless nothing was left in it; 0:
	 * none */
	int gone;
};

/* The session that a domain has named over rings too small for it: it may learn from the next ones that we
 * have that. */
struct link_meant {
	bool is_known;
	uint8_t token[AUTH_ID_SIZE];
};

/* The session was resumed: its channels are seen to, in pieces, before anything more comes over it
 * (link_claim.c). */
struct link_stamping {
	struct peer_id from, to; /* they were the one's, and get to be the other's */
	uint32_t at;		 /* how far it has come: a channel's number */
	bool again;		 /* it was resumed once more meanwhile */
};

#define LINK_VERSION_SIZE 32

/* The frames that come before those of a session on another vchan, while the session is resumed
 * (doc/protocol.md 5.7): HELLO, PROVE, RESUME. They have no number. They go through the same rings, whose
 * ends are handed over to the hop when the session goes on. What they mean is decided by resume_step.h. */
struct handshake {
	struct ring_reader in;
	struct ring_writer out;
	uint8_t nonce[16], peer_nonce[16];
	/* of the session that begins if the other end doesn't know ours; zero: it would choose */
	uint8_t secret[32];
	uint8_t cover[32]; /* a secret for the tags in our HELLO that name nothing */
	uint8_t named[16]; /* the instance with which our tags name sessions */
	uint32_t flags;	   /* of the other end's HELLO, and its version: it may have become another program */
	char version[LINK_VERSION_SIZE];
	char host[HOST_NAME_SIZE]; /* in it, too; "": none */
	uint32_t epoch;		   /* of a good PROVE, the other end's */
	uint64_t begun_ms;
};

#define LINK_UUID_SIZE 37 /* as text */

/* CONNECTING: what waits was meant for this instance, by which the domain was known before this one
 * was restored. It is also noted for a restore between two daemons; zeros: nobody knows. */
struct link_awaited {
	bool is_some;
	uint8_t instance[AUTH_ID_SIZE];
};

/* CONNECTING: whether domain 0 leads there (link_registry.c). */
struct link_word {
	bool waits;	  /* for it */
	bool has_waited;  /* so `again` has when that wait ends, whoever asks once more meanwhile */
	bool has_come;	  /* domain 0 doesn't lead there */
	uint8_t asked;	  /* how often, */
	uint32_t resumes; /* and how often its session had been resumed by then */
};

struct link_times {
	uint64_t began_ms; /* when it began to greet the peer */
	uint64_t heard_ms; /* when something last arrived, */
	uint64_t heard_frames;
	uint64_t carried_ms; /* when the vchan began to carry it */
	uint64_t asked_ms;   /* when the peer was asked last whether it is idle */
	uint64_t used_ms;    /* when it last had a channel */
};

struct link {
	struct peer_id peer;
	char title[8 + HOST_NAME_SIZE]; /* "domain 7", "host hostb": for people */
	struct links *links;
	enum link_state state;
	struct hop *hop;
	struct carrier carrier; /* of the session */
	/* The peer has made a new one, while the last frames of `carrier` are read; or the session is away,
	 * and attempts to go on over this one. */
	struct carrier next;
	struct link_session session;
	struct handshake handshake;
	bool greeted;	/* the other end's HELLO has come over `next` */
	unsigned anews; /* since a heartbeat found it up, so often it was asked anew for what waits */
	/* It isn't proven yet that the session is this domain's (link_claim.c); then its link is the
	 * `successor`. */
	bool claims;
	struct link_meant meant;
	struct link *successor;
	/* The name and UUID by which its domain was known last, and its number before the session was resumed
	 * under another one, which leads to it until then (link_registry.c). */
	char name[DOMAIN_NAME_MAX + 1], uuid[LINK_UUID_SIZE];
	uint32_t former;
	uint64_t former_until_ms;
	struct peer_id stamped; /* whose its channels are: the one's before, until the session is resumed */
	struct link_stamping stamping;
	struct link_awaited awaited;
	/* While away: to try again, or to give up. CONNECTING: to end what waits for domain 0's word
	 * (link_registry.c). */
	struct deadline again;
	struct link_word word;
	uint32_t resumes, moves; /* of all sessions */
	struct link_move move;
	struct elastic elastic;
	uint32_t ring_bytes;
	uint64_t acked;		/* position in our last ACK */
	uint64_t acked_by_peer; /* position in the peer's last ACK */
	struct link_times times;
	uint64_t rtt_ns;
	struct durations round_trips;
	uint64_t since;
	struct pings pings;
	struct busy_poll busy_poll;
	bool was_polled; /* what comes in next was found by polling */
	char version[LINK_VERSION_SIZE];
	uint32_t flags; /* of the peer's HELLO */
	char last_error[LINK_REASON_SIZE];
	struct log_source wanted_by;	  /* the account that asked for it last */
	struct link *met_prev, *met_next; /* in links->met, if has_met */
	bool has_met;
	UT_hash_handle hh;
};

struct links {
	struct link_failure failures[LINKS_FAILURES_MAX]; /* circular */
	unsigned failures_next, failures_count;
	struct switchboard *board;
	struct peers *peers;
	struct links_options options;
	struct links_callbacks callbacks;
	void *userdata;
	struct link *links; /* in the order of their peers, if is_sorted */
	bool is_sorted;
	struct registry_sink sink;
	struct link *met; /* those that had a session, which no program makes more by asking for numbers */
	struct event *heartbeat;
	struct event *elastic; /* while a link may have to grow or shrink */
	bool elastic_runs;
	uint64_t elastic_since_ms; /* the last look, or when it began to run */
	struct link *polled;	   /* the one that we poll instead of waiting for its notification, or NULL */
	uint64_t polled_until;
	bool is_alone; /* nobody else wanted the CPU when we yielded last */
	uint32_t last_unattributed;
	bool is_restarting; /* this domain was restored, and can't be reached by its new number yet */
	/* what the daemon before has handed over isn't read yet, or is about to be handed over */
	bool is_held;
};

/* --- another host's daemon is found by the hosts, another domain's by the peers */
static inline bool link_is_remote(const struct link *link)
{
	return peer_is_host(link->peer);
}
/* As peers_connect() and hosts_connect(). */
int links_ask(struct links *links, struct peer_id peer, struct account *account);
void links_withdraw(struct links *links, struct peer_id peer);
bool links_is_there(struct links *links, struct peer_id peer);
/* The source of log lines about it. */
struct log_source link_source(const struct link *link);
/* Whether this end is the lower one: of two domains by their numbers, of two hosts by their names. */
static inline bool link_is_lower(const struct link *link)
{
	return link_is_remote(link) ? hosts_is_lower(link->links->options.hosts, link->peer.number)
				    : link->links->options.self->domid < link->peer.number;
}

/* --- link.c */
/* Tells REGISTRY_LINK_... of a link with another domain of this host. */
void link_tell(const struct link *link, enum registry_what what);
void link_set_state(struct link *link, enum link_state state);
/* Ends the session: what was never sent ends with `error`. */
void link_end_session(struct link *link, int error, const char *why);
/* Ends it, but what the peer was never told, channels and pings, waits for the next one. */
void link_end_said(struct link *link, int error, const char *why);
/* Does so where another may be had at once, since the peer's daemon has gone or begun anew; else ends all. */
void link_end_heard(struct link *link, int error, const char *why);
/* Why what was never sent can't be sent now: a positive errno. */
int link_error_now(struct link *link);
/* Makes a hop for it, with no channels. NULL: out of memory. */
struct hop *link_new_hop(struct link *link);
/* Puts a last frame into the ring, if there is room, and closes the vchan. */
void link_drop_carrier(struct link *link, int error, const char *why);
/* If this carrier shows that the peer's process has died, nothing is awaited of it any more. */
void link_note_death(const struct link *link, const struct carrier *carrier);
/* Makes `next` the carrier. The hop has its rings already. */
void link_take_next(struct link *link);
/* Says of `next` whether it is guarded, before the hop gets its rings. */
void link_guard(struct link *link);
/* Leaves `next`, and ends an attempt over it. */
void link_drop_next(struct link *link);
/* Writes our HELLO on a new vchan into `payload`. Returns its length. */
uint32_t link_make_hello(struct link *link, uint8_t *payload);
/* Notes what the program at the other end can, by its HELLO, and, of domain 0, this host's name. */
void link_note_program(struct link *link, uint32_t flags, struct frame_text host);
/* Notes what the peer's HELLO says, and which session begins with it. */
void link_note_hello(struct link *link, const struct frame_hello_link *hello);
/* Writes why a GOODBYE was said, as plain text. */
void link_read_goodbye(const struct frame_goodbye *goodbye, char *why, size_t room);
/* Doesn't poll it (any more). */
void link_stop_being_polled(struct link *link);
/* Looks at what carries a link, after its other end has notified us, or may have gone. */
void link_on_carrier(void *link);
/* The carrier is another one, and the hop has its rings. */
void link_hear_carrier(struct link *link);

/* --- links.c */
/* Whether another link may be asked for, since something waits. Each time counts, so that a peer which ends
 * all of them doesn't keep us at work. */
bool link_may_ask_anew(struct link *link);
/* Asks for a link, whoever wants it, or if something waits for it. If that can't be had, what waits ends.
 * They free nothing. */
void link_ask(struct link *link);
void link_ask_for_waiting(struct link *link);
/* Begins to use `next`: greets the peer, or goes on with the session. */
void link_use_next(struct link *link);
/* Returns the link with this peer, which may be made for it. NULL: it is this domain, or there is no
 * memory. */
struct link *link_get(struct links *links, struct peer_id peer);
/* Ends a link, and frees it. */
void link_end(struct link *link, const char *why);
/* NULL: there is none with this peer. */
struct link *link_find(const struct links *links, struct peer_id peer);
static inline struct link *link_find_domain(const struct links *links, uint32_t domid)
{
	return link_find(links, peer_domain(domid));
}
/* Before links->links is used as a list in the order of their peers. */
void links_sort(struct links *links);
/* Lets `link` take the place, and the peer, of `instead`, which is nobody's then. */
void link_replace(struct link *instead, struct link *link);
/* Frees what the link holds, and itself. It is no link any more. */
void link_free(struct link *link);

/* --- link_control.c */
/* As the owner of the hop, a frame that belongs to no channel: see hop.h. */
int link_on_control(void *owner, const struct frame_header *header, const uint8_t *payload);

/* --- link_control.c: the heartbeat */
/* Takes IDLE. */
int link_take_idle(struct link *link, const uint8_t *payload, uint32_t length);
/* The timer of all links at once, so that an idle daemon wakes up once an interval. */
void link_on_heartbeat(int fd, short what, void *userdata);

/* --- link_registry.c */
/* Whether what waits goes on to wait: no daemon was found there, but domain 0 tells of the domain, and may be
 * about to say that it is away. Once it has said what it knows, or after a moment, the link has failed. */
bool link_waits_for_word(struct link *link, int error, const char *reason);
/* The timer `again` of a link that is CONNECTING. */
void link_end_wait_for_word(struct link *link);

/* --- link_move.c */
/* Whether the session could be offered other rings now. */
bool link_may_move(const struct link *link);
/* Grants rings of this size each way, and offers them to the peer. -ENOSPC: pages are short; another
 * errno. */
int link_offer(struct link *link, uint32_t ring_size);
/* Takes OFFER and DECLINE. -EPROTO: it isn't their time; another errno. */
int link_take_offer(struct link *link, const uint8_t *payload, uint32_t length);
int link_take_decline(struct link *link, const uint8_t *payload, uint32_t length);
/* As the owner of the hop: see hop.h. */
int link_on_move(void *owner);
void link_on_moved(void *owner);
/* Notes that a vchan of a move isn't there any more. False: there is no move. */
bool link_note_gone(struct link *link, enum carrier_state state);
/* Whether something waits for a link with the peer, or uses it. */
static inline bool link_is_wanted(const struct link *link)
{
	return hop_channel_count(link->hop) || link->pings.awaiting;
}
/* Tells those who await it that the session is up, unless the peer was asked whether it is idle: they can use
 * the next link. */
static inline void link_tell_awaiting(struct link *link)
{
	if (!hop_is_silent(link->hop))
		pings_tell(&link->pings, 0);
}
/* After a turn in which everything was read. */
void link_look_whether_gone(struct link *link);
/* Ends a move that goes on for too long, and the vchan with it. */
void link_look_at_move(struct link *link);
/* Closes the other vchan, if there is one. */
void link_drop_move(struct link *link, bool to_resume);

/* --- link_move.c: when to move */
/* Looks at once in a while whether links should grow or shrink, from now on. -ENOMEM. */
int links_elastic_start(struct links *links);
/* The link has carried something. */
void link_elastic_used(struct link *link);

/* --- link_away.c */
/* Whether an error of the hop means that only the vchan was lost, and the session can be resumed. */
bool link_may_resume(const struct link *link, int error);
/* Makes the timer `again`, unless it is there. -ENOMEM. */
int link_make_timer(struct link *link);
/* Leaves the vchan, and tries to get another one. */
void link_leave(struct link *link, const char *why);
/* Tries to go on over `next`. */
void link_try_next(struct link *link);
/* Peers couldn't get another vchan, or have lost the one of the attempt, or the peer's daemon was
 * `replaced`. */
void link_lose_attempt(struct link *link, bool replaced, const char *why);
/* This domain was restored: keeps the session for another vchan. False: there is none, or it can't be
 * kept. */
bool link_survive(struct link *link);
/* Asks for another vchan, if the session is away. */
void link_ask_again(struct link *link);
/* Looks at an attempt, of which an event may have been lost. May free the link, if it claims the session. */
void link_look_at_attempt(struct link *link);

/* The peer's HELLO has named the session by a tag: proves over `next`, over which ours was said, that it is
 * ours. */
void link_prove(struct link *link, const struct frame_hello_link *hello);
/* Says GOODBYE over `next`, and closes it. */
void link_end_attempt(struct link *link, int error, const char *why);
/* The peer doesn't know a session of ours: one begins over `next`, with the two HELLOs as its first
 * frames. */
void link_begin_over_next(struct link *link, const struct frame_hello_link *hello);

/* --- link_greet.c */
/* Greets the peer over `next`, and begins a session with it or goes on with one that it names. */
void link_greet(struct link *link);
/* As the heartbeat: looks whether something was missed, or the peer has had its time. May free the link,
 * since another one goes on in its place. */
void link_look_at_greeting(struct link *link);
/* Takes what the peer has said, before its loss is believed. May free the link likewise. */
void link_hear_greeting(struct link *link);
/* Ends it with a GOODBYE: `error` is negative, -ECONNRESET for what is nobody's fault. */
void link_stop_greeting(struct link *link, int error, const char *why);

/* --- link_greet.c: frames of a handshake */
/* Begins to read and write the carrier's rings, having chosen. -EIO; -EINVAL: bad sizes. */
int handshake_begin(struct handshake *attempt, const struct carrier *carrier, bool is_lower);
/* Writes a frame, lets the other end see it, and notifies it if it asks. Payloads are short, and the rings
 * were empty. The number is 0 but behind the HELLO of a session.
 * -ENOSPC: there is no room, since the other end doesn't read; -EPROTO: it claims impossible things; else as
 * the carrier says. */
int handshake_say(struct handshake *attempt, const struct carrier *carrier, uint8_t type, uint32_t sequence,
		  const void *payload, uint32_t length);
/* Takes the next frame out of the ring. 1: *header and payload are its; 0: there is none, and the other end
 * will notify of the next; -EPROTO: what is there is no such frame. `payload` has room for FRAME_PAYLOAD_MAX
 * bytes. */
int handshake_hear(struct handshake *attempt, struct frame_header *header, uint8_t *payload);

/* --- link_greet.c: tags */
#define LINK_COST_HELLO 4000u /* units (turns.h), for both HELLOs: 16 keyed hashes of 100 bytes */
/* What the two ends are to a proof or a tag, for an instance of the peer's. Nonces are those of the
 * handshake. */
void link_auth_ends(const struct link *link, const uint8_t instance[AUTH_ID_SIZE], struct auth_end *us,
		    struct auth_end *them);
/* Names in our HELLO the sessions that we may go on with by this handshake. */
void link_make_tags(struct link *link, struct frame_hello_link *hello);
/* Finds the session that both HELLOs have named: its link; NULL: there is none. */
struct link *link_find_tagged(struct link *link, const struct frame_hello_link *hello);

/* --- link_claim.c */
/* Whether it is a session that can be resumed with this instance of a domain's daemon: no domain becomes
 * another host. */
bool link_is_with(const struct link *link, const uint8_t instance[AUTH_ID_SIZE]);
/* Returns how likely it is that the session is that of a domain which has another number now. */
int link_likelihood(const struct link *link);
/* Makes the link, over whose new vchan the peer has named `own`'s session, AWAY with that. */
void link_claim_named(struct link *link, const struct link *own);
/* Whether the new vchan has room for all that may have to be sent again in `own`'s session. */
bool link_has_room(const struct link *link, const struct link *own);
/* Leaves the vchan, which was granted for somebody who might be anybody, to have one that is large enough. */
void link_enlarge(struct link *link, const struct link *own);
/* Leaves the vchan, over which the link claims a session or may do so, to have another one. What waits
 * stays. */
void link_greet_anew(struct link *link);
/* Leads what waits in a hop without rings, and was never said to a peer, over another one. */
void link_move_waiting(struct hop *from, struct hop *to);
/* The peer has begun a session, though one with its domain is sought since this one was restored: so that
 * isn't known there any more, and what was never said in it goes over this one. */
void link_lead_sought(struct link *link);
/* This domain was restored, perhaps on another host: by the peer's number there may be somebody else now. So
 * the session has none until its other end, found by its instance, has proven itself. */
void link_lose_number(struct link *link);
/* This domain was restored while the link was being made, of which nothing has been said yet: what waits for
 * it stays. False: it isn't so, or nobody can tell whether the daemon is the same that is found by that
 * number now. */
bool link_keep_waiting(struct link *link);
/* Notes whom what waits was meant for, by who is known there now, unless that was noted at a restore. */
void link_note_awaited(struct link *link);
/* Asks for that link, under this domain's number of now. */
void link_connect_again(struct link *link);
/* Leads what waits for the link, which can't be made, over the other one. */
void link_lead(struct link *link, struct link *other);
/* Finds the session that is away with the domain that has this number now, by its UUID, or had it before.
 * NULL: there is none. */
struct link *link_session_of(struct links *links, uint32_t domid);
/* Ends what waits, if it was meant for another instance than the one that has connected. */
void link_check_awaited(struct link *link);
static inline bool link_is_unattributed(const struct link *link)
{
	return link->peer.kind == PEER_UNATTRIBUTED;
}
/* Makes one for the session with the domain that had this number. NULL: out of memory. */
struct link *link_new_unattributed(struct links *links, uint32_t number);
/* Looks for the other end of such a session, and asks for a vchan with it. */
void link_seek(struct link *link);
/* The peer has proven it: the session's link gets the vchan and the handshake. NULL: it can't have it now,
 * and why. */
struct link *link_take_over(struct link *link, const char **why);
/* The session is resumed, perhaps under another domid of the peer's: tells those that have to know. */
void link_note_resumed(struct link *link);
/* As the owner of the hop: see hop.h, `before_input`. */
bool link_see_to_channels(void *owner);

/* --- link_registry.c */
/* Notes by what the link's domain is known now, if it is. */
void link_note_name(struct link *link);
/* Does it whenever that changes. */
void links_on_known(void *userdata, enum registry_what what, uint32_t domid);
/* Its domain had this number, until its session was resumed. */
void link_note_former(struct link *link, uint32_t domid);

/* --- link_registry.c: what is told */
/* Remembers the reason why a link couldn't be made. That a domain isn't there needs none. */
void link_remember_failure(struct links *links, struct peer_id peer, const char *reason);

#endif
