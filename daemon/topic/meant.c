/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which topic an address means now. The domain in it is a number, a name or a UUID, and may be another one
 * after a restore, a rename, or when a domain was made anew. A replica is found by the number that its domain
 * has now; that changes with the domain, whose session goes on (replica_follow()). A subscriber has the
 * address as its program wrote it. When that means another topic, it hears what there is up to then, and
 * WAITING, and comes to the other one:
 *
 *   3:news    3 was restored as 4     it stays, until there is another 3, or the program subscribes to 4:news
 *   web:news  web was restored        it stays
 *             another one is web now  it comes to that one
 *
 * Names change for all at once, so each subscriber is asked in its turn.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/topic/topic_internal.h"
#include "wire/address.h"

#define COST_ASK 8u
#define REST_MS	 100 /* between two times that all are asked */

void meant_address(const struct topics *topics, const char *address, char meant[ADDRESS_MAX + 1])
{
	struct address parsed;
	uint32_t domid;

	if (address_parse(address, strlen(address), &parsed, NULL) == 0 && !parsed.host[0] &&
	    (domid_parse(parsed.domain, strlen(parsed.domain), &domid) ||
	     topics->with.resolve(topics->with.userdata, parsed.domain, &domid) == 0))
		snprintf(meant, ADDRESS_MAX + 1, "%u:%s", domid, parsed.endpoint);
	else
		snprintf(meant, ADDRESS_MAX + 1, "%s", address);
}

int meant_find_replica(struct topics *topics, const struct subscriber *subscriber, struct topic **replica)
{
	const struct frame_identity user = hop_program(subscriber->hop)->identity;
	char key[TOPICS_KEY_SIZE], address[ADDRESS_MAX + 1];

	meant_address(topics, subscriber->address, address);
	replica_write_key(key, user.uid, address);
	HASH_FIND_STR(topics->replicas, key, *replica);
	if (*replica)
		return 0;
	return replica_new(replica, topics, hop_account(subscriber->hop), &user, address);
}

int meant_readdress(struct topic *replica, const char *address)
{
	struct topics *topics = replica->topics;
	char text[TOPICS_KEY_SIZE], *key = strdup(replica_write_key(text, replica->user.uid, address));
	char *copy = strdup(address);
	struct topic *other = NULL;

	if (!key || !copy) {
		free(key);
		free(copy);
		return -ENOMEM;
	}
	HASH_FIND_STR(topics->replicas, key, other);
	if (other == replica || replica->refused)
		other = NULL;
	if (other) {
		HASH_DEL(topics->replicas, other);
		other->is_replaced = true;
		inner_due(other->hop);
	}
	if (!replica->refused && !replica->is_replaced)
		HASH_DEL(topics->replicas, replica);
	free(replica->key);
	free(replica->address);
	replica->key = key;
	replica->address = copy;
	if (replica->refused)
		return 0;
	HASH_ADD_KEYPTR(hh, topics->replicas, replica->key, strlen(replica->key), replica);
	replica->is_replaced = !HASH_ADDED(replica); /* else nobody finds it, which harms nobody */
	return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Whether its topic is still the one that its address means, or means nobody else. */
static bool still_means(const struct subscriber *subscriber)
{
	const struct topic *replica = subscriber->participant.topic;
	struct topics *topics = replica->topics;
	struct registry *registry = topics->with.registry;
	char meant[ADDRESS_MAX + 1];
	uint32_t domid;

	if (topics_number_in(subscriber->address, &domid))
		return replica->domid == UINT32_MAX || domid == replica->domid ||
		       (!registry_is_up(registry, domid) &&
			!topics_find_subscriber(topics, subscriber->hop, frame_text_of(replica->address)));
	meant_address(topics, subscriber->address, meant);
	if (!strcmp(meant, replica->address) || !topics_number_in(meant, &domid) || domid == replica->domid)
		return true;
	/* It is being restored, and its session is about to go on, perhaps. */
	return replica->state != REPLICA_WAITING &&
	       (!registry_is_complete(registry, domid) ||
		(replica->uuid[0] && !strcmp(registry_uuid(registry, domid), replica->uuid)));
}

static void begin_to_ask(struct topics *topics)
{
	topics->asks_again = false;
	topics->asks_next = topics_behind(topics, NULL);
	timer_set(topics->asks_timer, REST_MS);
	task_due(&topics->task);
}

void meant_ask(struct topics *topics)
{
	topics->asks_again = true;
	if (!topics->asks_next && !evtimer_pending(topics->asks_timer, NULL))
		begin_to_ask(topics);
}

void meant_have_rested(int fd, short what, void *userdata)
{
	struct topics *topics = userdata;

	if (topics->asks_next)
		timer_set(topics->asks_timer, REST_MS);
	else if (topics->asks_again)
		begin_to_ask(topics);
}

bool meant_ask_next(struct topics *topics)
{
	struct subscriber *subscriber = topics->asks_next;
	struct topic *replica;

	if (!subscriber)
		return false;
	topics->asks_next = topics_behind(topics, subscriber);
	search_spend(topics, COST_ASK);
	replica = subscriber->participant.topic;
	if (replica->refused || replica->is_over || subscriber->leaving)
		return true;
	replica_follow(replica);
	if (!still_means(subscriber))
		subscriber_leave(subscriber, true);
	return true;
}

void meant_comes_behind(struct subscriber *subscriber, struct subscriber *elder)
{
	elder->heir = subscriber;
	subscriber->elder = elder;
}

void meant_takes_over(struct subscriber *subscriber)
{
	struct subscriber *elder = topics_elder_of(subscriber);

	if (!elder)
		return;
	subscriber_leave(elder, false);
	if (elder->leaving == LEAVES) { /* perhaps it was told to end before: all up to now is for it */
		elder->leaves_at = elder->participant.topic->log.next;
		elder->leaves_unknown = false;
	}
	meant_comes_behind(subscriber, elder);
}

void meant_arrive(struct subscriber *subscriber)
{
	struct topic *from = subscriber->participant.topic, *to;

	if (meant_find_replica(from->topics, subscriber, &to) < 0) {
		subscriber_wait_for_room(subscriber);
		return;
	}
	subscriber_pass(subscriber, to);
	if (from != to && !topic_has_subscribers(from) && !from->is_over)
		topic_drop(from);
}
