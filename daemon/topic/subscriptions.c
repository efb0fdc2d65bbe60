/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What each program subscribes to, and what it is answered. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/local/session.h"
#include "daemon/topic/topic_internal.h"
#include "wire/address.h"
#include "wire/ut.h"

static const char *topics_why_not(int error)
{
	switch (error) {
	case 0:
		return "";
	case EPROTOTYPE:
		return "that endpoint is no topic";
	case EEXIST:
		return "this program has subscribed to it already";
	case EINVAL:
		return "a topic's address is DOMAIN:ENDPOINT";
	case ENOBUFS:
		return "this program, or its user, has as many subscriptions as it may";
	default: /* the library's words */
		return "";
	}
}

void subscriptions_answer(struct hop *program, uint32_t request, int error)
{
	session_reply_error(program, request, error, topics_why_not(error));
}

void topics_answer(struct subscriber *subscriber, int error)
{
	uint32_t request = subscriber->number;

	subscriber->number = 0;
	if (request)
		subscriptions_answer(subscriber->hop, request, error);
}

static struct subscribing *find_session(const struct topics *topics, const struct hop *program)
{
	struct subscribing *found;

	HASH_FIND_PTR(topics->sessions, &program, found);
	return found;
}

struct subscriber *topics_behind(const struct topics *topics, const struct subscriber *subscriber)
{
	const struct subscribing *of = topics->sessions;

	if (subscriber && subscriber->of_session_next)
		return subscriber->of_session_next;
	if (subscriber)
		of = find_session(topics, subscriber->hop)->hh.next;
	return of ? of->subscribers : NULL;
}

static struct subscriber *find_subscriber(const struct subscribing *subscribing, struct frame_text address)
{
	struct subscriber *subscriber = NULL;

	if (subscribing)
		DL_FOREACH2(subscribing->subscribers, subscriber, of_session_next)
			if (frame_text_is(address, subscriber->address))
				break;
	return subscriber;
}

int topics_remember(struct topics *topics, struct subscriber *subscriber, struct hop *program)
{
	struct subscribing *of = find_session(topics, program);

	if (find_subscriber(of, frame_text_of(subscriber->address)))
		return -EEXIST;
	if (of && of->count >= TOPIC_SUBSCRIPTIONS)
		return -ENOBUFS;
	if (!of) {
		of = calloc(1, sizeof(*of));
		if (!of)
			return -ENOMEM;
		of->hop = program;
		HASH_ADD_PTR(topics->sessions, hop, of);
		if (!HASH_ADDED(of)) {
			free(of);
			return -ENOMEM;
		}
	}
	subscriber->hop = program;
	of->count++;
	DL_APPEND2(of->subscribers, subscriber, of_session_prev, of_session_next);
	return 0;
}

void topics_forget(struct topics *topics, struct subscriber *subscriber)
{
	struct subscribing *of = find_session(topics, subscriber->hop);

	if (topics->asks_next == subscriber)
		topics->asks_next = topics_behind(topics, subscriber);
	DL_DELETE2(of->subscribers, subscriber, of_session_prev, of_session_next);
	if (--of->count)
		return;
	HASH_DEL(topics->sessions, of);
	free(of);
}

struct subscriber *topics_find_subscriber(const struct topics *topics, const struct hop *program,
					  struct frame_text address)
{
	return find_subscriber(find_session(topics, program), address);
}

struct subscriber *topics_first_of(const struct topics *topics, const struct hop *program)
{
	const struct subscribing *of = find_session(topics, program);

	return of ? of->subscribers : NULL;
}

bool topics_number_in(const char *address, uint32_t *domid)
{
	const char *colon = strchr(address, ':');

	return colon && domid_parse(address, (size_t)(colon - address), domid);
}

struct subscriber *topics_elder_of(const struct subscriber *subscriber)
{
	const struct topic *replica = subscriber->participant.topic;
	struct subscriber *other = topics_first_of(replica->topics, subscriber->hop);
	uint32_t domid;

	if (!topics_number_in(subscriber->address, &domid) || domid != replica->domid)
		return NULL;
	for (; other; other = other->of_session_next)
		if (other->participant.topic == replica && topics_number_in(other->address, &domid) &&
		    domid != replica->domid && !other->heir &&
		    (other->leaving != LEAVES_TOLD || other->current))
			return other;
	return NULL;
}
