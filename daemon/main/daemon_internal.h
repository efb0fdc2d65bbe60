/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DAEMON_INTERNAL_H
#define XENMSG_DAEMON_DAEMON_INTERNAL_H

/*
 * What the daemon's own parts share. No other file includes this.
 *
 *   main.c      reads the command line and the settings
 *   startup.c   opens the devices, checks that no other daemon runs, learns the domain's number
 *   wiring.c    makes the modules, connects their callbacks, takes them down; wiring_links.c and
 *               wiring_peers.c have the callbacks
 *   daemon.c    runs, stops
 *   reload.c    reads files again that may change while the daemon runs
 *   restore.c   starts over when the domain has another number
 *   renewal.c   asks the program that is installed now whether it would take over; handover.c hands over to
 *               it, and handover_take.c takes what the daemon before has handed over
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "base/handed_over.h"
#include "base/image.h"
#include "base/self.h"
#include "daemon/link/carrier.h"
#include "daemon/switch/hop.h"
#include "daemon/main/review.h"
#include "daemon/peers/peers.h"
#include "daemon/local/session.h"
#include "daemon/main/handover.h"
#include "daemon/serve/requests.h"
#include "daemon/serve/status.h"
#include "daemon/switch/part.h"

struct event;
struct event_base;
struct reload_asked;
struct renewal;
struct daemon_program;

struct daemon {
	struct self self;
	struct config config;
	struct handed_over sockets;
	struct event_base *base;
	struct event *term, *interrupt, *hangup;
	struct switchboard board;
	struct store *store;
	struct vchan_host *host;
	struct carrier_maker maker;
	struct quota *quota;
	struct work_pool *work_pool;
	struct memfd_lifetimes *memfd_lifetimes;
	struct access *access;
	struct registry *registry;
	struct directory *directory;
	struct domains *domains; /* in domain 0, else NULL */
	struct names *names;
	struct watches *watches;
	struct questions *questions;
	struct tracers *tracers;
	struct router *router;
	struct activations *activations;
	struct hosts *hosts;
	struct links *links;
	struct relay *relay;
	struct peers *peers;
	struct local *local;
	struct streams *streams;
	struct topics *topics;
	struct notify *notify;
	struct status_sources sources;
	struct request_context request_context;

	struct {
		struct review review;	    /* of channels, when names or rules have changed */
		struct reload_asked *asked; /* utlist: they wait for its end */
		uint64_t ready_after;	    /* the walk behind which the service manager is told; 0: none */
	} reload;			    /* reload.c */

	uint64_t started_ms;
	bool has_sockets;
	uint64_t descriptors; /* for programs and peers */
	int singleton;	      /* the descriptor, or -1 */
	bool has_board;
	bool stopping;

	/* handing over (handover.h, renewal.h) */
	struct inherited inherited;
	const struct daemon_program *program;
	struct handover *handover; /* NULL: there is no image to read */
	struct renewal *renewal;
	struct question *renewal_asked_by; /* which waits for its answer; NULL: nobody does any more */
	int gateway_socket; /* one more descriptor of the service manager's, for the next program; -1: none */
	bool is_handing_over;
	struct image_shelf shelf; /* of the image that is made next; 0: it isn't there yet */
	uint32_t shelves;	  /* so many there were */
	bool is_running;
	bool asks_for_restart, is_restarted; /* as soon as it is asked to stop */
	bool has_lost;			     /* something that the daemon before it had */
	uint64_t renewals; /* so many daemons before this one have handed over, each to the next */

	/* startup.c's, while starting */
	int domid_error;
	bool stop_asked;
	bool store_is_silent;	     /* a hand-over would be a standstill */
	unsigned own_leaves_missing; /* which the daemon before may have written */
	bool has_token;		     /* it has written one, with this token of the keeper's */
	uint8_t token[16];

	/* for a restore */
	bool checking_domid, check_domid_again, leaf_lost;
	unsigned restores_at_check;
	uint64_t checked_since_ms;
	struct event *retired_timer;
	char own_leaf[PEERS_OWN_LEAF_SIZE];
	bool failed;
};

/* restore.c: from now on the ports of closed vchans are unbound once it is certain that they aren't from
 * before a restore. */
int restore_prepare(struct daemon *daemon);
/* Shows the next daemon, should this one die, what it may ask a keeper for. */
void restore_note_token(struct daemon *daemon);
/* Called by the watch on our own `domid`. */
void restore_on_domid_changed(void *userdata, const char *untrusted_path);
/* Returns false in domain 0, which is never migrated. */
bool restore_on_own_leaf_gone(void *userdata);
/* Makes all anew that Xen knew of us by another number. Returns 0 or a negative errno. */
int restore_renumber(struct daemon *daemon, uint32_t domid);
/* Before a stop: asks XenStore once more whether the domain was restored, so that it is certain that the
 * event channels may be closed; else a keeper gets them. Returns whether it has answered, or needn't. */
bool restore_before_stop(struct daemon *daemon);
/* It goes on instead: a restore that was seen meanwhile takes effect. */
void restore_instead_of_stop(struct daemon *daemon);

/* wiring.c: makes all modules in their order. Returns 0 or a negative errno; wiring_end() follows either
 * way. */
int wiring_start(struct daemon *daemon);
void wiring_end(struct daemon *daemon);
/* wiring_peers.c: its steps; each returns 0 or a negative errno. */
int wiring_start_names(struct daemon *daemon);
int wiring_start_watches(struct daemon *daemon);
int wiring_start_peers(struct daemon *daemon);
int wiring_start_hosts(struct daemon *daemon);
/* wiring_links.c: likewise */
int wiring_start_relay(struct daemon *daemon);
int wiring_start_links(struct daemon *daemon);
int wiring_start_directory(struct daemon *daemon);
int wiring_start_router(struct daemon *daemon);

/* daemon.c: has the program that is installed now asked whether it would take over, and hands over if so.
 * Answers the question. */
void renewal_ask(void *userdata, struct question *question);
/* Nobody waits for the answer to this question any more, which it may be. */
void renewal_forget(void *userdata, const struct question *question);
/* Answers how the last hand-over has ended. */
void renewal_tell(void *userdata, struct question *question);

/* reload.c */
/* To be called once there is a board. */
void reload_prepare(struct daemon *daemon);
void reload_end(struct daemon *daemon);
/* Reads the policy and what is started on demand again. Both stay as they were if a file of either has a
 * mistake; then it returns what access_read() or activations_read() does. What begins from now on is judged
 * by them, and what they forbid ends in turns. */
int reload_files(struct daemon *daemon);
/* Does it for a question: requests.h has both. */
int reload_ask(void *userdata, struct question *question, const char **why);
void reload_forget(void *userdata, const struct question *question);
/* Returns what was wrong in the last reload; NULL: nothing. */
const char *reload_error(const struct daemon *daemon);
/* Lets other rules take effect: in turns, the channels that they don't allow any more are ended. Returns the
 * number of the walk behind which that is done (review.h). */
uint64_t reload_apply_rules(struct daemon *daemon);
/* Tells programs, in turns, how the domains of their senders are called now, and asks rules that name domains
 * again. */
void reload_apply_names(struct daemon *daemon);
/* Lets them go on, under this domain's new number, until names, which a restore has made unknown, are known
 * again. */
void reload_restart_channels(struct daemon *daemon, uint32_t was);

/* handover.c: the parts, in the order of their sections in an image. */
enum {
	PART_LOCAL,
	PART_LINKS,
	PART_TOPICS,
	PART_STREAMS,
	PART_ROUTER,
	PART_QUESTIONS,
	PART_ACTIVATIONS,
	PART_RELAY,
	PARTS
};
extern const struct part *const parts[PARTS];
/* Returns the object of a part; NULL: it isn't there yet. */
void *part_self(const struct daemon *daemon, unsigned number);
/* Calls `each` for the hops of programs, of all parts. */
void parts_each_hop(const struct daemon *daemon, void (*each)(void *userdata, struct hop *hop),
		    void *userdata);
/* Lets the next program have these descriptors, and says which they are. */
struct inherited handover_let_inherit(const struct daemon *daemon, int image);
/* Nobody runs the loop any more, so what these tell others isn't heard. */
void handover_leave_xen(struct daemon *daemon);

/* --- the head of the image, which handover.c writes and handover_take.c reads */
/* Its maker, and how many programs, links and topics it has. */
struct head {
	char version[STATUS_VERSION_SIZE];
	uint64_t renewals;
	struct self self; /* the instance stays, since the sessions with peers do */
	bool has_leaf;	  /* its own leaf stands in XenStore, unless the domain is restored */
	uint32_t sessions, links, topics;
};

void handover_head_image(struct image *image, struct head *head);
/* Writes what a section of this type has, or reads it. Returns false, of one that a part has. */
bool handover_section_image(struct image *image, struct daemon *daemon, uint32_t type);

/* --- invariants.c: a daemon that looks at itself, in a build with --enable-invariants (base/invariant.h) */
#ifdef XENMSG_INVARIANTS
/* Looks whether all is as it must be. */
void invariants_check(const struct daemon *daemon);
/* Writes what `status --all` says around the hand-over with this number into a file of the folder that
 * XENMSG_DUMPS names. */
void invariants_dump(struct daemon *daemon, uint64_t renewals, const char *when);
#else
static inline void invariants_check(const struct daemon *daemon)
{
}
static inline void invariants_dump(struct daemon *daemon, uint64_t renewals, const char *when)
{
}
#endif

#endif
