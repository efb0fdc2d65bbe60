/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TOPICS_H
#define XENMSG_DAEMON_TOPICS_H

/*
 * Topics: one publishes, many get it (doc/decisions/0044, doc/protocol.md, 2.8). What was published lies in
 * a bounded log (topic_log.h), at the publisher's daemon and once more in each daemon with subscribers, and
 * each of these has a position in it. Publishing appends, and waits for nobody. A subscriber that falls
 * behind is told in his place how many messages he has missed.
 *
 *   publisher ─message─▶  topic ─┬─call──▶ replica ─┬─message─▶ subscriber       here
 *                         log    │          log    └─message─▶ subscriber
 *                                └─link, domain 0, gateway─▶ replica ─message─▶ …  in another domain
 *
 * An *own topic* is an endpoint that a program here has bound as one. The program publishes by sending
 * messages to it, and no other program may. A *replica* is what the subscribers of one user have in common:
 * it calls the topic's address as that user, so policy is asked, the link charged and the way found as for
 * each call; and however many subscribers there are, a message comes once. It subscribes again when the topic
 * has gone, as long as it has subscribers. Both are the owners of inner hops (switch/inner.h), so the
 * channels here are like all others: over a lost vchan, a save or a move they go on, without a loss.
 *
 *   a replica:   TRYING ──SUBSCRIBED comes──▶ LIVE ──the topic or the way to it has gone──▶ WAITING ──a while, or it comes──▶ TRYING
 *                  └──refused for good: its subscribers are told, and it is gone
 *
 * Accounts: the publisher's user pays for the topic's log, a subscriber's user for the replica's, and for the
 * channel to each subscriber; a peer for its replica's channel. Where two logs have the same bytes, both pay
 * for all of them. What is copied to a subscriber is work of his account. A turn does a bounded piece.
 */

#include <stdint.h>

#include "wire/address.h"
#include "wire/frame.h"

struct channel;
struct hop;
struct part;
struct image;
struct image_hops;
struct image_shelf;
struct registry;
struct switchboard;
struct self;
struct topic;
struct topics;

/* The modules that topics call. They outlive them. */
struct topics_collaborators {
	const struct self *self;
	struct switchboard *board;
	struct registry *registry; /* says when somebody comes, and what domains are called */
	/* Leads a channel that a replica opens to its address, or refuses it. */
	void (*open)(void *userdata, struct channel *channel, struct frame_text address);
	/* Finds the number of the domain to which a number, a name, a UUID or `self` leads now, or fails. */
	int (*resolve)(void *userdata, const char *domain, uint32_t *domid);
	void *userdata;
};

/* -ENOMEM. */
int topics_new(struct topics **topics, const struct topics_collaborators *collaborators);
void topics_free(struct topics *topics);

/* Makes the topic that a program has bound, which keeps the last message of so many keys for those that
 * subscribe later; 1: the last one; 0: none. -ENOBUFS, -ENOMEM. */
int topic_new(struct topic **topic, struct topics *topics, struct hop *publisher, unsigned keeps);
/* From now on its program is told how many listen. -ENOMEM. */
int topic_tell_listeners(struct topic *topic, struct frame_text name);
uint64_t topic_listeners(const struct topic *topic);
/* The endpoint is gone. What was published goes to the subscribers that are about to get it, for a while. */
void topic_end(struct topic *topic);
/* Leads a channel to the topic: of the publisher, or a call, which must be a subscription. -EPROTOTYPE: it is
 * for neither; else as channel_accept(). */
int topic_accept(struct topic *topic, struct channel *channel, const char *name);

/* Takes the request SUBSCRIBE, and answers it now or later. */
void topics_subscribe(struct topics *topics, struct hop *program, uint32_t request,
		      const struct frame_subscribe *subscribe);
/* Ends a subscription. -ENOENT: there is none of that address. */
int topics_unsubscribe(struct topics *topics, struct hop *program, struct frame_text address);
void topics_forget_session(struct topics *topics, struct hop *program);
/* A topic of this name has been bound in this domain: replicas that wait for one look again. */
void topics_look(struct topics *topics, const char *name);
/* This domain was restored, and had the number `was` before. */
void topics_restart(struct topics *topics, uint32_t was);

/* --- handing over (topic_image.c) -------------------------------------------------------------- */

/* Returns how many subscriptions of the program wait for an answer. */
unsigned topics_in_question(struct topics *topics, struct hop *program);
/* A section for each topic, for each channel of one, and behind all channels for each feed and subscriber. */
extern const struct part topics_part;
/* Shelves messages for the image that is made next (base/image.h), about `most` bytes of them. Returns how
 * many; 0: there are no more. */
uint64_t topics_shelve(struct topics *topics, struct image_shelf *shelf, uint64_t most);
/* Returns the number of a topic. */
uint32_t topic_number_in_image(const struct topic *topic);
/* Returns the topic of this number. NULL: there is none. */
struct topic *topics_in_image(const struct image_hops *hops, uint32_t number);
/* Returns it for the endpoint of its publisher, who gets it once. NULL: it isn't his. */
struct topic *topics_claim(const struct image_hops *hops, uint32_t number, const struct hop *publisher);
#ifdef XENMSG_INVARIANTS
/* Lists have what they count, and nobody is ahead of a log. */
void topics_check(const struct topics *topics);
#endif
/* Once all was read: has those end that aren't whole, with the programs that publish there or wait for what
 * comes. -ENOMEM. */
int topics_lose_unfit(struct image_hops *hops);

/* --- what status tells ------------------------------------------------------------------------ */

/* What became of messages, from the positions of those who read: a topic's, or one subscriber's. What was
 * kept isn't counted. */
struct topic_tally {
	uint64_t delivered; /* on their way to subscribers */
	uint64_t missed;    /* they were told so */
	uint64_t gaps;	    /* how often they were told that perhaps something is missing */
};

struct topic_view {
	uint64_t published;
	unsigned keeps;	      /* messages, at most */
	unsigned subscribers; /* programs here, of a replica; else users of domains */
	struct topic_tally tally;
	/* of a replica: */
	const char *address, *state;
	uint32_t uid;
};
/* What is remembered of subscriptions that have ended, in the image that the next daemon gets. */
void topics_past_image(struct image *image, struct topics *topics);
struct topic_view topic_view(const struct topic *topic);

struct subscriber_view {
	struct hop *hop;	       /* of a program here */
	const struct channel *channel; /* of a replica; NULL: it has none now */
	struct topic_tally tally;
	uint64_t queued; /* messages in the log that it hasn't got yet */
};
/* Tells of so many subscribers at most, first those that can't take more now. */
void topic_view_subscribers(const struct topic *topic, unsigned most,
			    void (*each)(void *userdata, const struct subscriber_view *view), void *userdata);

#define TOPICS_KEY_SIZE (ADDRESS_MAX + 16)

/* Where a walk over the replicas is; zeroed: before the first. */
struct topics_place {
	char key[TOPICS_KEY_SIZE];
	uint64_t number;
};
/* Returns the next replica; NULL: there is none. It lives until the event loop goes on. */
const struct topic *topics_next_replica(const struct topics *topics, struct topics_place *place);

#endif
