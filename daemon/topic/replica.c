/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* When a replica subscribes, and what its subscribers are told of that. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/registry/registry.h"
#include "daemon/switch/channel.h"
#include "daemon/topic/topic_internal.h"
#include "wire/address.h"
#include "wire/retry.h"
#include "wire/ut.h"

#define PATIENT_MS 200 /* one that waits for longer looks sooner when somebody comes */

/* --- those that wait for their topics --------------------------------------------------------- */

/* The replicas that wait for their topics, and which of them looks again when one may have come. Others
 * make topics and domains come and go, and there may be thousands who wait: so each of them has a turn. */

#define COST_LOOK  4u
#define COST_HURRY 12u
#define HURRY_MS   200

/* The replicas that subscribe to topics of one name, in whatever domain. */
struct topic_place {
	struct topic *replicas;
	struct topic *cursor; /* whose turn is next */
	bool is_looking;
	struct topic_place *prev, *next; /* in topics->looking */
	UT_hash_handle hh;
	char name[];
};

static const char *search_name_of(const struct topic *replica)
{
	const char *endpoint = address_split(replica->address, strlen(replica->address)).endpoint.data;

	return endpoint ? endpoint : replica->address;
}

int search_begin(struct topic *replica)
{
	struct topics *topics = replica->topics;
	const char *name = search_name_of(replica);
	struct topic_place *place;

	HASH_FIND_STR(topics->places, name, place);
	if (!place) {
		place = calloc(1, sizeof(*place) + strlen(name) + 1);
		if (!place)
			return -ENOMEM;
		memcpy(place->name, name, strlen(name));
		HASH_ADD_STR(topics->places, name, place);
		if (!HASH_ADDED(place)) {
			free(place);
			return -ENOMEM;
		}
	}
	replica->of = place;
	DL_APPEND2(place->replicas, replica, place_prev, place_next);
	return 0;
}

static void stop_looking(struct topics *topics, struct topic_place *place)
{
	if (place->is_looking)
		DL_DELETE(topics->looking, place);
	place->is_looking = false;
	place->cursor = NULL;
}

/* It waits, and for so long that it wants to hear when somebody comes; or it doesn't any more. */
static void search_is_patient(struct topic *replica, bool is_patient)
{
	if (replica->is_patient == is_patient)
		return;
	replica->is_patient = is_patient;
	if (is_patient)
		DL_APPEND2(replica->topics->patient, replica, patient_prev, patient_next);
	else
		DL_DELETE2(replica->topics->patient, replica, patient_prev, patient_next);
}

void search_end(struct topic *replica)
{
	struct topics *topics = replica->topics;
	struct topic_place *place = replica->of;

	search_is_patient(replica, false);
	if (!place)
		return;
	if (place->cursor == replica)
		place->cursor = replica->place_next;
	DL_DELETE2(place->replicas, replica, place_prev, place_next);
	replica->of = NULL;
	if (place->replicas)
		return;
	stop_looking(topics, place);
	HASH_DEL(topics->places, place);
	free(place);
}

void replica_unlist(struct topic *replica)
{
	struct topic *found = NULL;

	if (replica->key) /* for which there may have been no memory */
		HASH_FIND_STR(replica->topics->replicas, replica->key, found);
	if (found == replica)
		HASH_DEL(replica->topics->replicas, replica);
	search_end(replica);
}

void search_hurry(struct topics *topics)
{
	if (!topics->patient)
		return;
	topics->is_hurrying = true;
	task_due(&topics->task);
}

void topics_look(struct topics *topics, const char *name)
{
	struct topic_place *place;

	HASH_FIND_STR(topics->places, name, place);
	if (!place)
		return;
	place->cursor = place->replicas;
	if (!place->is_looking)
		DL_APPEND(topics->looking, place);
	place->is_looking = true;
	task_due(&topics->task);
}

void search_spend(struct topics *topics, uint64_t units)
{
	turns_spend(topics->task.turns, topics->task.line, units);
}

/* Lets one look, in its own turn. False: all have. */
static bool look_next(struct topics *topics)
{
	struct topic_place *place = topics->looking;
	struct topic *replica = place ? place->cursor : NULL;

	if (place && !replica)
		stop_looking(topics, place);
	if (!replica)
		return place;
	place->cursor = replica->place_next;
	search_spend(topics, COST_LOOK);
	replica->is_to_look = true;
	inner_due(replica->hop);
	return true;
}

/* Has one that waits for long look soon: others may come and go as fast as they like, so that is often
 * enough. */
static bool hurry_next(struct topics *topics)
{
	struct topic *replica = topics->is_hurrying ? topics->patient : NULL;

	topics->is_hurrying = replica;
	if (!replica)
		return false;
	search_spend(topics, COST_HURRY);
	search_is_patient(replica, false);
	timer_set(replica->timer, HURRY_MS);
	return true;
}

void search_on_task(struct task *task)
{
	struct topics *topics = (struct topics *)((char *)task - offsetof(struct topics, task));
	const struct turns *turns = &topics->with.board->turns;
	uint64_t from = turns->spent;

	while (turns->spent - from < TOPIC_PIECE_UNITS)
		if (!look_next(topics) && !hurry_next(topics) && !meant_ask_next(topics))
			return;
	task_due(task);
}

/* --- its subscribers -------------------------------------------------------------------------- */

/* Whether it waits since its user, or this domain where the topic is, has as much there as it may. */
static bool replica_lacks_room(const struct topic *replica)
{
	return replica->state == REPLICA_WAITING && replica->lacks_room;
}

bool replica_answer(struct topic *replica)
{
	bool is_known = replica->state != REPLICA_TRYING || replica->is_replaced;
	struct subscriber *subscriber = is_known ? replica->lists[LIST_OUT] : NULL;
	int error = replica->refused;
	uint8_t flags;

	if (!subscriber)
		return false;
	flags = subscriber->was_subscribed || (replica->state == REPLICA_LIVE && replica->misses_unknown)
			? NOTICE_UNKNOWN
			: 0;
	hop_spend(replica->hop, COST_CONTROL);
	if (replica->is_replaced) {
		meant_arrive(subscriber);
		return true;
	}
	if (error && !subscriber->number) { /* it was subscribed to another one: choose() tells it */
		subscriber_begin(subscriber, NULL);
		return true;
	}
	/* One that begins is refused where it has no room, or nothing could be told to it. */
	if (!error && subscriber->number &&
	    ((replica_lacks_room(replica) && !subscriber->was_subscribed) ||
	     !subscriber_has_channel(subscriber, replica->origin)))
		error = ENOBUFS;
	topics_answer(subscriber, error);
	if (error) /* perhaps the last one */
		subscriber_end(subscriber, error);
	else if (replica->state == REPLICA_LIVE && !replica->was_closed) {
		subscriber_begin(subscriber, notice_new(NOTICE_SUBSCRIBED, replica->published, flags, 0));
		subscriber->was_subscribed = true;
	} else
		subscriber_begin(subscriber, notice_new(NOTICE_WAITING, 0, flags, 0));
	if (!error)
		meant_takes_over(subscriber);
	return true;
}

/* It is over for all, and each is told why in his turn (choose()). A subscriber that comes now has
 * another replica, and asks again. */
static void replica_refuse(struct topic *replica, int error)
{
	replica->state = REPLICA_REFUSED;
	replica->refused = error;
	replica->is_fresh = true;
	replica_unlist(replica);
	inner_due(replica->hop);
}

/* --- subscribing ------------------------------------------------------------------------------ */

static void wait_a_while(struct topic *replica)
{
	replica->state = REPLICA_WAITING;
	replica->pause_ms = retry_pause(RETRY_LINK, replica->pause_ms);
	timer_set(replica->timer, replica->pause_ms);
	search_is_patient(replica, replica->pause_ms > PATIENT_MS);
	inner_due(replica->hop);
}

void replica_wait_again(struct topic *replica)
{
	if (replica->state != REPLICA_WAITING)
		return;
	timer_set(replica->timer, replica->pause_ms);
	search_is_patient(replica, replica->pause_ms > PATIENT_MS);
}

/* Whether the number in its address is that of the domain to which it leads, and not one of before. */
static bool has_its_number(const struct topic *replica)
{
	const struct topics *topics = replica->topics;
	struct address address;
	uint32_t domid, leads_to;

	return !topics_number_in(replica->address, &domid) ||
	       address_parse(replica->address, strlen(replica->address), &address, NULL) < 0 ||
	       topics->with.resolve(topics->with.userdata, address.domain, &leads_to) < 0 ||
	       leads_to == domid;
}

static void replica_subscribe(struct topic *replica)
{
	struct channel *channel = NULL;
	int r;

	search_is_patient(replica, false);
	replica->state = REPLICA_TRYING;
	replica->was_closed = false;
	if (!has_its_number(replica)) {
		replica_lost(replica, EHOSTDOWN);
		return;
	}
	replica->user.domid = replica->topics->with.self->domid;
	r = inner_open(replica->hop, CHANNEL_CALL, &replica->user, &channel);
	hop_spend(replica->hop, COST_OPEN + COST_CHANNEL_END);
	if (r == 0 && !topic_add_feed(replica, &channel->opener)) {
		channel_refuse(channel, ENOBUFS); /* which ends as one that nobody knows */
		r = -ENOMEM;
	}
	if (r < 0) {
		replica_lost(replica, ENOBUFS);
		return;
	}
	replica->topics->with.open(replica->topics->with.userdata, channel, frame_text_of(replica->address));
	inner_due(replica->hop); /* if it was refused, a RESET tells */
}

void replica_look(struct topic *replica)
{
	if (replica->state == REPLICA_WAITING && !replica->is_over && !replica->feeds)
		replica_subscribe(replica);
}

static void note_uuid(struct topic *replica)
{
	const char *uuid = registry_uuid(replica->topics->with.registry, replica->domid);

	if (!replica->uuid[0])
		snprintf(replica->uuid, sizeof(replica->uuid), "%s", uuid);
}

const char *replica_write_key(char key[TOPICS_KEY_SIZE], uint32_t uid, const char *address)
{
	snprintf(key, TOPICS_KEY_SIZE, "%u %s", uid, address);
	return key;
}

int replica_new(struct topic **made, struct topics *topics, struct account *account,
		const struct frame_identity *user, const char *address)
{
	char key[TOPICS_KEY_SIZE], *copy = strdup(replica_write_key(key, user->uid, address));
	char *address_copy = strdup(address);
	struct topic_tally *before;
	struct topic *replica;
	int r = copy && address_copy ? topic_make(&replica, topics, account, false) : -ENOMEM;

	if (r < 0) {
		free(copy);
		free(address_copy);
		return r;
	}
	replica->is_replica = true;
	replica->user = *user;
	replica->key = copy;
	replica->address = address_copy;
	if (!topics_number_in(address, &replica->domid))
		replica->domid = UINT32_MAX;
	note_uuid(replica);
	replica->number = ++topics->numbers;
	HASH_ADD_KEYPTR(hh, topics->replicas, replica->key, strlen(replica->key), replica);
	DL_APPEND(topics->all_replicas, replica);
	if (!HASH_ADDED(replica) || search_begin(replica) < 0) {
		topic_drop(replica);
		return -ENOMEM;
	}
	before = past_take(&topics->past, key);
	if (before)
		replica->tally = *before;
	free(before);
	replica_subscribe(replica);
	*made = replica;
	return 0;
}

void replica_join(struct topic *replica, struct subscriber *subscriber)
{
	subscriber_enter(subscriber, replica);
	listeners_count(subscriber, 1);
	inner_due(replica->hop);
}

/* --- what comes ------------------------------------------------------------------------------- */

/* Notes who publishes. False: without memory, or it would be taken for the former one, or for one here. */
static bool take_origin(struct topic *replica, const struct channel *channel)
{
	const struct frame_identity *identity = &channel->acceptor_identity;
	struct topic_origin *origin = calloc(1, sizeof(*origin));
	struct address address;
	const char *name;

	if (!origin)
		return false;
	*origin = (struct topic_origin){.references = 1, .uid = UINT32_MAX};
	if (channel->knows_acceptor)
		*origin = (struct topic_origin){.references = 1,
						.domid = identity->domid,
						.uid = identity->uid,
						.gid = identity->gid,
						.pid = identity->pid};
	if (address_parse(replica->address, strlen(replica->address), &address, NULL) == 0 &&
	    channel_is_remote(channel) && !(origin->host = strdup(address.host))) {
		topic_origin_unref(origin);
		return false;
	}
	name = origin->host ? "" : registry_name(replica->topics->with.registry, origin->domid);
	origin->domain_name = name[0] ? strdup(name) : NULL;
	topic_origin_unref(replica->origin);
	replica->origin = origin;
	return true;
}

/* Notes which domain that is. False: it isn't the one whose number its address has. */
static bool take_domain(struct topic *replica, const struct channel *channel)
{
	uint32_t domid = channel->acceptor_identity.domid, wanted;

	replica->uuid[0] = '\0';
	if (!channel->knows_acceptor || channel_is_remote(channel))
		return true;
	if (topics_number_in(replica->address, &wanted) && wanted != domid)
		return false;
	replica->domid = domid;
	note_uuid(replica);
	return true;
}

bool replica_is_away(const struct topic *replica)
{
	const struct channel_end *end = replica_end(replica);

	return end && (channel_is_away(end->channel) ||
		       (channel_is_relayed(end->channel) &&
			registry_is_led_to(replica->topics->with.registry, replica->domid, true)));
}

/* What waits in the log is told as the publisher's, too. */
static void origin_follow(struct topic_origin *origin, uint32_t domid, const char *name)
{
	const char *had = origin->domain_name ? origin->domain_name : "";
	char *copy;

	if (!name[0])
		name = had; /* it isn't known yet */
	if (origin->domid == domid && !strcmp(had, name))
		return;
	copy = name != had ? strdup(name) : NULL;
	if (copy) {
		free(origin->domain_name);
		origin->domain_name = copy;
	}
	origin->domid = domid;
	origin->version++;
}

void replica_renumber(struct topic *replica, uint32_t domid)
{
	char address[ADDRESS_MAX + 1];
	uint32_t number;

	if (replica->domid == domid)
		return;
	if (topics_number_in(replica->address, &number)) {
		snprintf(address, sizeof(address), "%u:%s", domid, search_name_of(replica));
		if (meant_readdress(replica, address) < 0)
			return; /* it is tried again */
	}
	replica->domid = domid;
	meant_ask(replica->topics);
}

void replica_follow(struct topic *replica)
{
	struct channel_end *end = replica_end(replica);
	struct registry *registry = replica->topics->with.registry;
	struct frame_identity *identity;
	uint32_t domid = replica->domid;

	if (end && !end->channel->knows_acceptor)
		return;
	identity = end ? &end->channel->acceptor_identity : NULL;
	if (end && channel_is_remote(end->channel)) { /* its host tells us the number, and no name */
		if (replica->origin)
			origin_follow(replica->origin, identity->domid, "");
		return;
	}
	if (identity)
		domid = identity->domid;
	/* Only the domain's UUID says where it is where nobody has a session with it. */
	if (replica->uuid[0] && (!end || channel_is_relayed(end->channel)))
		registry_resolve(registry, replica->uuid, &domid);
	replica_renumber(replica, domid);
	if (identity)
		identity->domid = domid;
	note_uuid(replica);
	if (end && replica->origin)
		origin_follow(replica->origin, domid, registry_name(registry, domid));
}

void replica_opened(struct topic *replica, struct channel *channel)
{
	struct topic_entry *request;
	struct iovec piece;

	/* A program that takes calls would get one that it doesn't know. */
	if (!channel->accepted_by_topic) {
		inner_reset(&channel->opener, EPROTOTYPE);
		return;
	}
	if (!take_domain(replica, channel)) {
		inner_reset(&channel->opener, EHOSTDOWN);
		return;
	}
	request = take_origin(replica, channel) ? subscription_new(listeners_of_replica(replica)) : NULL;
	if (!request) {
		inner_reset(&channel->opener, ENOBUFS);
		return;
	}
	piece = (struct iovec){request->bytes, request->size};
	if (hop_push(&channel->opener, &piece, 1, request->size, 1) == -ENOMEM) {
		topic_entry_unref(request);
		inner_reset(&channel->opener, ENOBUFS);
		return;
	}
	replica->tells_listeners = false; /* until the topic says that it wants to know of more */
	listeners_told(replica, listeners_of_replica(replica));
	topic_entry_unref(request);
}

static void begin_to_keep(struct topic *replica, unsigned capacity)
{
	topic_kept_begin(&replica->kept, capacity);
	replica->kept_first = replica->kept_upto = replica->kept.last;
	replica->kept_comes = false;
}

/* What was published before has come, or would have. */
static void kept_has_come(struct topic *replica)
{
	replica->kept_upto = replica->kept.last;
	replica->kept_comes = false;
	replica->is_fresh = true;
	inner_due(replica->hop);
}

/* What is kept may be older now than what the topic has: those who come later are told so. */
static void miss(struct topic *replica, uint64_t count, uint8_t flags)
{
	replica->kept.is_incomplete |= replica->kept.capacity > 0;
	replica->misses_unknown |= flags & NOTICE_UNKNOWN;
	topic_tell(replica, NOTICE_MISSED, count, flags);
}

void replica_skip(struct topic *replica)
{
	if (replica->kept_comes) {
		topic_kept_lack(&replica->kept);
		kept_has_come(replica);
	} else {
		miss(replica, 1, 0);
	}
}

static void take_subscribed(struct topic *replica, const struct notice *notice)
{
	unsigned keeps = 0;

	replica->state = REPLICA_LIVE;
	replica->pause_ms = 0;
	replica->published = notice->count;
	replica->tells_listeners = notice->flags & NOTICE_COUNTS;
	if (notice->flags & NOTICE_RETAINS)
		keeps = notice->error < 1		  ? 1
			: notice->error < TOPIC_KEYS_MOST ? notice->error
							  : TOPIC_KEYS_MOST;
	replica->misses_unknown = false;
	begin_to_keep(replica, keeps);
	/* Those who have waited since they came get it from the log. */
	topic_tell(replica, NOTICE_SUBSCRIBED, notice->count, replica->was_live ? NOTICE_UNKNOWN : 0);
	replica->was_live = true;
}

/* Whether there can be so many messages, besides those that were counted already. */
static bool can_count(const struct topic *replica, uint64_t count)
{
	return replica->log.count <= TOPIC_MISSED_MAX && count <= TOPIC_MISSED_MAX - replica->log.count;
}

static int replica_take_notice(struct topic *replica, const struct notice *notice)
{
	if (notice->count && !can_count(replica, notice->count))
		return -EPROTO;
	switch (notice->kind) {
	case NOTICE_SUBSCRIBED:
		if (replica->state != REPLICA_TRYING)
			return -EPROTO;
		take_subscribed(replica, notice);
		return 0;
	case NOTICE_MISSED:
		miss(replica, notice->count, notice->flags & NOTICE_UNKNOWN);
		return 0;
	case NOTICE_WAITING:
		topic_tell(replica, NOTICE_WAITING, 0, 0);
		replica->was_closed = true;
		begin_to_keep(replica, 0);
		return 0;
	case NOTICE_KEPT:
		replica->kept_comes = true;
		return 0;
	default:
		return -EPROTO;
	}
}

int replica_take(struct topic *replica, struct topic_entry *entry)
{
	struct properties properties;
	int r = ingest_check(entry, &properties) == MESSAGE_PLAIN && !properties.subscribes &&
				!ingest_is_cancelled(entry) &&
				(!properties.notice.kind || ingest_is_empty(entry))
			? 0
			: -EPROTO;

	if (r == 0 && !properties.notice.kind) {
		if (replica->state != REPLICA_LIVE)
			r = -EPROTO;
		if (replica->kept_comes && !replica->kept.capacity)
			r = -EPROTO;
	}
	if (r == 0 && !properties.notice.kind) {
		topic_kept_put(&replica->kept, properties.key, entry, ingest_is_empty(entry));
		if (replica->kept_comes) {
			entry->origin = topic_origin_ref(replica->origin);
			topic_log_unreserve(&replica->log, entry->size);
			topic_entry_unref(entry);
			kept_has_come(replica);
			return 0;
		}
		entry->count = 1;
		topic_append(replica, entry);
		return 0;
	}
	topic_log_unreserve(&replica->log, entry->size);
	topic_entry_unref(entry);
	return r < 0 ? r : replica_take_notice(replica, &properties.notice);
}

/* Whether it is of no use to try again: somebody must change something, and would wonder why nothing
 * comes. */
static bool is_final(int error)
{
	return error == EACCES || error == EPROTOTYPE || error == EINVAL || error == EOPNOTSUPP ||
	       error == EPROTO || error == EMSGSIZE;
}

void replica_lost(struct topic *replica, int error)
{
	enum replica_state was = replica->state;

	if (replica->is_over || replica->refused)
		return;
	if (is_final(error)) {
		replica_refuse(replica, error);
		return;
	}
	replica->lacks_room = error == ENOBUFS;
	wait_a_while(replica);
	meant_ask(replica->topics);
	begin_to_keep(replica, 0);
	if (was == REPLICA_LIVE && !replica->was_closed)
		topic_tell(replica, NOTICE_WAITING, 0, NOTICE_UNKNOWN);
}
