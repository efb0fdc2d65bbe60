/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_WATCHES_RIG_H
#define XENMSG_TESTS_WATCHES_RIG_H

/*
 * Watches of sessions that only keep what they are told: the rig's own in place of daemon/local/session.c
 * and of daemon/serve/questions.c. A session has one channel, by which it asks.
 */

#include "tests/unit/unit.h"

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/quota.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/registry/registry.h"
#include "daemon/switch/hop.h"

#define OWN	      5
#define HEARD_MAX     4096
#define MODEL_NAMES   300u
#define MODEL_WATCHES 8u

struct question {
	struct session *session;
	uint32_t number;
	struct question *next;
};

struct session {
	struct hop hop;
	struct question *questions;
	/* "1+7(work) 1+7:inbox(work) ...": number of the watch, event, domid, endpoint, name */
	char heard[HEARD_MAX];
	size_t heard_before; /* this question */
	int reply;	     /* the last one's error; -1: none */
	uint32_t replied_to;
	bool hears_lists;  /* and where they end: "1. ", "1~. ": there is more */
	unsigned lists;	   /* that have ended */
	bool is_of_host;   /* its watches are of a host whose name is one letter: "1+b" */
	bool full;	   /* takes no more */
	bool is_behind;	   /* hasn't read what it was told */
	bool has_stood;	   /* what it asks was told to by the daemon before this */
	bool is_strangers; /* it is of another domain */
	int hung_up;	   /* its channel was ended with this error */
	struct watches *watches;
	bool counts; /* keeps the number of events, and the names that are up, and not all that it heard */
	unsigned long events;
	long up;
	/* keeps what is up as it hears of it: of each watch the domain, and the endpoints "n<number>" */
	unsigned char *model;
	int cut_off;
};

struct scene {
	struct event_base *base;
	struct self self;
	bool keeps_secrets; /* from all but `a` */
	uint32_t hidden;    /* a domain that strangers don't see */
	bool asks_all;	    /* not all peers are known yet */
	struct turns turns;
	struct registry *registry;
	struct watches *watches;
	struct session a, b;
	struct quota *quota; /* if the two are of two users */
	char patterns[MODEL_WATCHES][32];
};

void one_pass(struct scene *scene);
/* Everybody has heard everything. */
void settle(struct scene *scene);
void scene_start(struct scene *scene);
void scene_start_with_users(struct scene *scene);
void scene_stop(struct scene *scene);
/* Makes the watches, which know nobody. */
void make_watches(struct scene *scene);
/* Returns the error in the reply. */
int watch(struct scene *scene, struct session *session, uint32_t number, const char *pattern);
struct question *new_question(struct session *session, uint32_t number);
/* Ends it. False: the session has none of this number. */
bool unwatch(struct scene *scene, struct session *session, uint32_t number);
void unwatch_all(struct scene *scene, struct session *session);
void add_watch(struct scene *scene, struct session *session, uint32_t number, const char *pattern);
/* Exactly this was said since the last time. */
void expect(struct scene *scene, struct session *session, const char *what);
void endpoints(struct scene *scene, uint32_t domid, const char *list);
/* Domain 7 is up, with these endpoints. */
void come_up(struct scene *scene, const char *list);
void rename_domain(struct scene *scene, uint32_t domid, const char *name);

#endif
