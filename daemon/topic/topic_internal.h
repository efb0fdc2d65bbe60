/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TOPIC_INTERNAL_H
#define XENMSG_DAEMON_TOPIC_INTERNAL_H

/*
 * The parts of topics, from below: subscriptions.c has what each program subscribes to; listeners.c tells
 * how many listen; topic_ingest.c takes messages out of a stream; subscriber.c brings entries of a log to
 * one subscriber; topic.c has the turns of one topic, own or replica, and what comes at its hop; replica.c
 * says when a replica subscribes, what its subscribers are told of that, and which wait for their topics;
 * meant.c says which topic an address means now; topics.c has all of them, the requests of programs, and
 * what status tells; topic_image.c hands all of it over.
 *
 * Nothing here loops over subscribers, or over topics, in one go: whatever concerns all of them is noted,
 * and done for one after the other in turns.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/registry/past.h"
#include "base/quota.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/registry/registry.h"
#include "daemon/switch/inner.h"
#include "daemon/topic/topic_bound.h"
#include "daemon/topic/topic_kept.h"
#include "daemon/topic/topic_log.h"
#include "daemon/topic/topics.h"
#include "wire/ut.h"
#include "wire/properties.h"

#define TOPIC_LOG_MOST	    (1u << 20) /* bytes of a log, or one message */
#define TOPIC_RUN_MOST	    4048u      /* bytes of messages in one entry: 4096 with its head */
#define TOPIC_GIVE_LEAST    1024u      /* bytes that are worth it not to be copied */
#define TOPIC_LINGER_MS	    10000
#define TOPIC_PIECE_UNITS   2048u
#define TOPIC_SUBSCRIPTIONS 256u  /* of one program */
#define TOPIC_FEEDS	    16u	  /* channels in which one publisher publishes */
#define TOPIC_MEMORY	    4096u /* bytes: with its hop and its timers */

enum participant_kind {
	PARTICIPANT_FEED, /* a stream of messages comes in: of the publisher, or from the topic that is replicaed */
	PARTICIPANT_SUBSCRIBER,
};

/* What is at the other end of a channel: channel_end.participant. */
struct participant {
	enum participant_kind kind;
	struct topic *topic;
	struct channel_end *end; /* whose `participant` this is; NULL: there is no channel now */
};

struct feed {
	struct participant participant;
	struct topic_entry *given; /* those in whose memory bytes wait, from the first */
	struct topic_entry *part;  /* a message, as far as it has come, for which the log has a reserve */
	uint32_t at;
	bool skips;		  /* for lack of room: the rest of it is thrown away */
	uint64_t left;		  /* bytes of that */
	struct feed *prev, *next; /* in topic->feeds */
};

/* Where a subscriber is in the lists of its topic. Which of the first two has those that are due says
 * topic->due. */
enum subscriber_list {
	LIST_A,
	LIST_B,
	/* there is no credit, or it has as many as it wants at a time, or the channel is about to go */
	LIST_BLOCKED,
	LIST_LATER, /* there is no channel, since that would be over a limit */
	LIST_OUT,   /* nothing is to be told yet */
	SUBSCRIBER_LISTS,
};

struct subscriber {
	struct participant participant;
	enum subscriber_list list;
	struct subscriber *prev, *next;
	struct topic_position position;
	struct topic_bound bound;
	struct topic_entry *current; /* is being sent, so many bytes of it were */
	uint32_t done;
	struct topic_entry *held; /* comes behind that: NULL: nothing */
	/* Then come what was kept, when it began, behind one number and up to another, and what the log
	 * has. The first of what was kept is held until then. */
	uint64_t kept_at, kept_last;
	bool holds_kept;
	uint64_t begun_at; /* of the log's count */
	struct topic_tally tally;
	uint32_t listeners; /* that it stands for: 1; of a replica as many as it has */
	bool is_short;	    /* behind these it is told that it missed something */
	bool is_last;	    /* behind `current` the subscription ends */
	bool is_asking;	    /* of a replica: its request hasn't come */
	/* of a program: */
	struct hop *hop;
	uint32_t number;	     /* of the SUBSCRIBE, until it is answered; 0: it is */
	bool was_subscribed;	     /* to an earlier daemon */
	bool is_closing;	     /* FIN was sent, and the next channel waits for the answer */
	struct topic_origin *origin; /* as the channel tells, and which of its states */
	uint32_t told_version;
	/* meant.c: its address means another topic by now: behind so much of the log it is told WAITING,
	 * perhaps as unknown, and then comes to that one. */
	enum subscriber_leaving { LEAVES_NOT, LEAVES, LEAVES_TOLD } leaving;
	bool leaves_unknown, leaves_for_good; /* that: it comes to none */
	uint64_t leaves_at;
	struct subscriber *elder, *heir; /* which this one comes behind, or before, so that all is in order */
	struct subscriber *of_session_prev, *of_session_next;
	struct charge charge; /* for this: of its user, or of the domain that it is in */
	char address[];	      /* as the program wrote it */
};

enum replica_state {
	REPLICA_TRYING,
	REPLICA_LIVE,
	REPLICA_WAITING,
	REPLICA_REFUSED, /* for good: all are told, and no others come to it */
};

/* --- topic_log_image.c */
/* What the sections of a topic have in common. */
struct topic_in_image {
	void **entries, **origins; /* references to struct topic_entry and topic_origin */
	uint32_t entry_count, origin_count;
	bool is_bound; /* an own one, whose endpoint was read */
};

struct topic {
	struct topics *topics;
	struct hop *hop;
	struct topic_log log;
	struct topic_origin *origin; /* of what comes next; NULL: unknown */
	uint64_t published;	     /* in its life, what nobody here has had included */
	struct topic_tally tally;    /* of all who subscribe, and did */
	struct topic_kept kept;
	struct charge charge;
	struct feed *feeds; /* utlist, of feed_count */
	unsigned feed_count;
	struct subscriber *lists[SUBSCRIBER_LISTS];
	unsigned counts[SUBSCRIBER_LISTS];
	unsigned bounds;	  /* so many subscribers have a bound of their own */
	unsigned retries;	  /* so many of LIST_LATER have their turn */
	enum subscriber_list due; /* LIST_A or LIST_B */
	bool is_fresh;		  /* something was appended since the others were looked at */
	/* how many subscribe; and to whom that is to be told, if anybody wants it */
	uint64_t listeners, listeners_told;
	bool tells_listeners, rests;
	struct event *rest_timer;
	bool is_over;
	/* of an own topic: */
	struct hop *publisher; /* NULL: it is ending */
	char *name;	       /* if the publisher is told of listeners */
	struct event
		*timer; /* of an own one that ends, or of a replica that waits, or has some in LIST_LATER */
	struct topic *prev, *next; /* in topics->own, or topics->all_replicas */
	/* of a replica: */
	bool is_replica;
	enum replica_state state;
	int refused;	  /* a positive errno */
	bool was_live;	  /* its subscribers were told SUBSCRIBED */
	bool is_replaced; /* another one has come in its place, also for those that were told nothing yet */
	bool was_closed;  /* the topic has told that it goes: nothing is missing */
	bool lacks_room;  /* its last attempt ended for want of that */
	bool kept_comes;  /* the next message is a kept one */
	/* What has come as kept behind the last SUBSCRIBED has these numbers: behind the first, up to the
	 * second. Those who have read that notice take it from there, whatever their bound. */
	uint64_t kept_first, kept_upto;
	bool misses_unknown; /* since then, so `published` is too small, perhaps */
	uint32_t pause_ms;
	struct frame_identity user;
	uint64_t number;     /* in the order in which they were made */
	char *key, *address; /* meant.c: by the number of its domain, if that is known */
	/* meant.c: of the domain that it leads to; UINT32_MAX: it isn't known, or on another host */
	uint32_t domid;
	char uuid[SELF_UUID_TEXT_SIZE]; /* "": unknown */
	UT_hash_handle hh;		/* in topics->replicas, unless it is refused */
	struct topic_place *of;		/* while it is in there */
	struct topic *place_prev, *place_next;
	bool is_to_look; /* perhaps the topic has come */
	bool is_patient; /* it waits, and for long */
	struct topic *patient_prev, *patient_next;
	struct topic_in_image in_image; /* empty, but while there is an image */
};

/* The subscriptions of one program. */
struct subscribing {
	struct hop *hop;
	unsigned count;
	struct subscriber *subscribers;
	UT_hash_handle hh;
};

struct topics {
	struct topics_collaborators with;
	struct registry_sink sink;
	struct topic *own;	/* utlist, those that are ending included */
	struct topic *replicas; /* by key */
	struct topic *all_replicas;
	uint64_t numbers;
	struct past past; /* struct topic_tally of replicas that are no more, by key */
	struct subscribing *sessions;
	/* replica.c: */
	struct topic_place *places;  /* by name */
	struct topic_place *looking; /* those in which somebody is to look */
	struct topic *patient;
	bool is_hurrying; /* the patient ones are to look soon */
	/* meant.c: the subscriber of which is asked next whether its address means its topic; and whether
	 * that begins again, and when. */
	struct subscriber *asks_next;
	bool asks_again;
	struct event *asks_timer;
	struct task task;
};

/* --- topic_ingest.c */
/* The participant has this end from now on, NULL: none, and hears how it ends. */
void participant_take(struct participant *participant, struct channel_end *end);
/* Returns the end that the participant has had, from which it hears nothing more. NULL: it had none. */
struct channel_end *participant_leave(struct participant *participant);
struct feed *topic_add_feed(struct topic *topic, struct channel_end *end);
void topic_remove_feed(struct feed *feed);
/* Takes a message out of what has come. Returns 1 with *entry, without a reference in it to anything but the
 * caller's; 0: there is none yet; 2: one was thrown away for lack of room; -EPROTO, -EMSGSIZE, -ENOMEM.
 * `most` is the size of the largest one; `log` pays. */
int ingest(struct feed *feed, struct topic_log *log, uint64_t most, struct topic_entry **entry);
/* Takes several messages at once that have come one behind the other, if nobody has withdrawn one of them and
 * none has properties. Returns them as one entry, for which the log has a reserve; NULL: there aren't any, or
 * there is no room for them. */
struct topic_entry *ingest_run(struct feed *feed, struct topic_log *log, uint64_t most);
/* Lets what comes next for the feed wait in the memory of this entry, which nobody else has: takes the
 * reference. False: it is NULL. */
bool ingest_give(struct feed *feed, struct topic_entry *entry, struct hop_memory *memory);
/* Takes the entry whose memory waits first, without a copy, if that is a whole message, or several and that
 * may be. Returns it, with a reserve in the log; NULL: it is to be taken otherwise. */
struct topic_entry *ingest_given(struct feed *feed, struct topic_log *log, uint64_t most, bool may_be_run);
void ingest_drop(struct feed *feed, struct topic_log *log);
/* Takes the request of a replica, if it is one, and how many listeners it tells. Returns 1; 0: it hasn't
 * come; -EPROTOTYPE: it is something else, and isn't taken; -ENOMEM. */
int ingest_request(struct channel_end *end, uint32_t *listeners);
/* Reads what a whole message is. Returns its type without MESSAGE_PROPERTIES, or -EPROTO. */
int ingest_check(const struct topic_entry *entry, struct properties *properties);
/* Whether its sender has withdrawn it. */
bool ingest_is_cancelled(const struct topic_entry *entry);
/* Whether a message that was checked has no payload. */
bool ingest_is_empty(const struct topic_entry *entry);
/* Makes a message that says something. NULL: no memory. */
struct topic_entry *notice_new(enum notice_kind kind, uint64_t count, uint8_t flags, uint32_t error);
/* Makes the request of a replica that has so many listeners. */
struct topic_entry *subscription_new(uint32_t listeners);

/* --- subscriber.c */
/* Sends what there is for a subscriber, up to a piece, and puts it into the list where it belongs. */
void subscriber_pump(struct subscriber *subscriber);
void subscriber_move(struct subscriber *subscriber, enum subscriber_list list);
/* Has its user, or the domain that it is in, pay for it. `exceeds`: it was paid for in the daemon before.
 * -ENOBUFS. */
int subscriber_charge(struct subscriber *subscriber, struct account *account, bool exceeds);
/* Puts a new one into LIST_OUT. */
void subscriber_enter(struct subscriber *subscriber, struct topic *topic);
/* Whether there is a channel to its program for this origin; opens one. */
bool subscriber_has_channel(struct subscriber *subscriber, struct topic_origin *origin);
/* Begins to tell: first this notice (takes the reference; NULL: out of memory, it is told that it missed
 * something), then what is published from now on. */
void subscriber_begin(struct subscriber *subscriber, struct topic_entry *first);
/* Its address means another topic: it gets what there is up to now, and then comes to that one. `unknown`:
 * it may miss something. */
void subscriber_leave(struct subscriber *subscriber, bool unknown);
/* Puts it into the lists of this topic, where it is told nothing yet. */
void subscriber_pass(struct subscriber *subscriber, struct topic *topic);
/* It is tried again later, since something is short. */
void subscriber_wait_for_room(struct subscriber *subscriber);
/* Frees one that is in no list. */
void subscriber_discard(struct subscriber *subscriber);
/* Its channel is gone, or there never was one: frees it. */
void subscriber_free(struct subscriber *subscriber);
/* Ends its channel, with a positive errno, and frees it. */
void subscriber_end(struct subscriber *subscriber, int error);

/* --- topic.c */
/* `exceeds`: it is there already, so the account pays whatever it has. -ENOBUFS, -ENOMEM. */
int topic_make(struct topic **topic, struct topics *topics, struct account *account, bool exceeds);
/* Frees the topic, in turns. */
void topic_drop(struct topic *topic);
/* Frees it now: nobody else has his turn any more. */
void topic_destroy(struct topic *topic);
/* Appends an entry, for which there is a reserve, takes the reference, and lets the subscribers have it. */
void topic_append(struct topic *topic, struct topic_entry *entry);
/* Appends a notice. What there is no room for is counted as missing. */
void topic_tell(struct topic *topic, enum notice_kind kind, uint64_t count, uint8_t flags);
bool topic_has_subscribers(const struct topic *topic);
/* Whether it is one whose publisher has gone: a subscriber that has had all ends, and at last the topic. */
static inline bool topic_has_ended(const struct topic *topic)
{
	return !topic->is_replica && !topic->publisher;
}

/* --- listeners.c */
/* Tells how many there are, if it is time to. */
void listeners_tell(struct topic *topic);
/* The topic's timer, after which it tells again. */
void listeners_have_rested(int fd, short what, void *userdata);
/* The subscriber stands for so many now. */
void listeners_count(struct subscriber *subscriber, uint32_t count);
uint32_t listeners_of_replica(const struct topic *replica);
/* So many were told, and it rests for a while. */
void listeners_told(struct topic *topic, uint64_t count);

/* --- replica.c */
/* Writes what a replica is found by, among those of all users, and returns it. */
const char *replica_write_key(char key[TOPICS_KEY_SIZE], uint32_t uid, const char *address);
/* It is found no more, and waits for its topic no more. */
void replica_unlist(struct topic *replica);
/* `address`: as meant_address() has it. */
int replica_new(struct topic **replica, struct topics *topics, struct account *account,
		const struct frame_identity *user, const char *address);
/* A program has subscribed; it is answered when that is known, in a turn. */
void replica_join(struct topic *replica, struct subscriber *subscriber);
/* Subscribes, if it waits. */
void replica_look(struct topic *replica);
/* Answers one of those who wait to hear how their subscription begins. False: none does. */
bool replica_answer(struct topic *replica);
/* The topic has accepted the channel, or something that isn't one. */
void replica_opened(struct topic *replica, struct channel *channel);
/* It waits since the daemon before this. */
void replica_wait_again(struct topic *replica);
/* A message, or a notice, has come from the topic. Takes the reference, and the reserve of the log.
 * -EPROTO. */
int replica_take(struct topic *replica, struct topic_entry *entry);
/* There was no room for a message. */
void replica_skip(struct topic *replica);
/* The channel to the topic has ended, with a positive errno. */
void replica_lost(struct topic *replica, int error);

/* The end of its channel to the topic. NULL: it has none now. */
static inline struct channel_end *replica_end(const struct topic *replica)
{
	return replica->feeds ? replica->feeds->participant.end : NULL;
}
/* Whether the way to the topic is lost, and perhaps comes again, as when its domain is saved. */
bool replica_is_away(const struct topic *replica);
/* Its domain has this number, or this name, by now. */
void replica_follow(struct topic *replica);
void replica_renumber(struct topic *replica, uint32_t domid);

/* --- meant.c */
/* Writes the address of the topic that is meant by this one now: the domain's number, if it is known. */
void meant_address(const struct topics *topics, const char *address, char meant[ADDRESS_MAX + 1]);
/* Finds the replica that a subscriber's address means, or makes it. -ENOBUFS, -ENOMEM. */
int meant_find_replica(struct topics *topics, const struct subscriber *subscriber, struct topic **replica);
/* The replica has another address now, by which others find it. The one that has it gives way. -ENOMEM. */
int meant_readdress(struct topic *replica, const char *address);
/* Names or numbers may mean other domains by now: asks again of each subscriber, in turns. */
void meant_ask(struct topics *topics);
void meant_have_rested(int fd, short what, void *userdata); /* topics->asks_timer */
/* Asks of one more. False: all were asked. */
bool meant_ask_next(struct topics *topics);
/* Of two subscriptions of a program that mean one topic by numbers, the one whose number isn't the domain's
 * any more gets what there is up to now, and this one the rest, behind it. */
void meant_takes_over(struct subscriber *subscriber);
/* It hears nothing until the elder, which leaves the topic, has heard all. */
void meant_comes_behind(struct subscriber *subscriber, struct subscriber *elder);
/* Brings a subscriber that leaves its topic to the one that it means. */
void meant_arrive(struct subscriber *subscriber);

/* --- replica.c: those that wait for their topics */
void search_on_task(struct task *task); /* topics->task */
/* From now on this replica waits for a topic of that name. -ENOMEM. */
int search_begin(struct topic *replica);
void search_end(struct topic *replica);
/* It's the daemon's own line that pays: it would go on for ever if its work were charged to others. */
void search_spend(struct topics *topics, uint64_t units);
/* Somebody has come, perhaps one for whom somebody waits. */
void search_hurry(struct topics *topics);

/* --- subscriptions.c */
/* Answers a request to subscribe. */
void subscriptions_answer(struct hop *program, uint32_t request, int error);
void topics_answer(struct subscriber *subscriber, int error);
void topics_forget(struct topics *topics, struct subscriber *subscriber);
/* Returns the program's subscriber of this address. NULL: there is none. */
struct subscriber *topics_find_subscriber(const struct topics *topics, const struct hop *program,
					  struct frame_text address);
/* Returns the program's subscriber behind this one, of the same program or the next; NULL: the first. */
struct subscriber *topics_behind(const struct topics *topics, const struct subscriber *subscriber);
/* Enters a subscriber of the program. -EEXIST: it has one of that address; -ENOBUFS, -ENOMEM. */
int topics_remember(struct topics *topics, struct subscriber *subscriber, struct hop *program);
/* Returns the first of a program's subscribers (of_session_next). NULL: it has none. */
struct subscriber *topics_first_of(const struct topics *topics, const struct hop *program);
/* The number in an address. False: its domain isn't a number of this host. */
bool topics_number_in(const char *address, uint32_t *domid);
/* Returns the subscriber of its session that has this topic by an earlier number, and not all of it yet. */
struct subscriber *topics_elder_of(const struct subscriber *subscriber);

/* Write what an origin or an entry is, or read it; NULL: none. What was read has a reference for the
 * caller. */
void topic_origin_image(struct image *image, struct topic *topic, struct topic_origin **origin);
void topic_entry_image(struct image *image, struct topic *topic, struct topic_entry **entry);
/* Shelves what the topic has, up to about `most` bytes, and returns how many. */
uint64_t topic_shelve(struct topic *topic, struct image_shelf *shelf, uint64_t most);
void topic_log_image(struct image *image, struct topic *topic);
void topic_kept_image(struct image *image, struct topic *topic);
/* Frees what it has for an image. */
void topic_leave_image(struct topic *topic);

#endif
