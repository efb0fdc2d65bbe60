/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Topics in the image that a daemon hands over (base/image.h): a section for each topic, own or replica, with
 * its log and what it keeps (topic_log_image.c), and behind all channels one for each *participant*, a feed
 * or a subscriber.
 *
 * A part that was blocked or waited for room looks again in the next daemon, and timers begin anew.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "base/timer.h"
#include "daemon/local/session.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "daemon/topic/topic_internal.h"
#include "wire/bytes.h"
#include "wire/ut.h"

#define NOBODY	     UINT32_MAX
#define MESSAGE_MOST ((uint32_t)message_span((1u << 30) + PROPERTIES_MAX)) /* whatever `max-message` is now */

/* --- topics ----------------------------------------------------------------------------------- */

/* What a topic is made of. */
struct topic_head {
	bool is_replica, pays;
	uint32_t uid, publisher; /* who pays; among the programs */
	char *name, *address;
	struct frame_identity user;
};

static void topic_head_image(struct image *image, struct topic_head *head)
{
	image_bool(image, &head->is_replica);
	image_bool(image, &head->pays);
	image_u32(image, &head->uid);
	image_u32(image, &head->publisher);
	image_string(image, &head->name, ENDPOINT_NAME_MAX);
	image_string(image, &head->address, ADDRESS_MAX);
	image_u32(image, &head->user.domid);
	image_u32(image, &head->user.uid);
	image_u32(image, &head->user.gid);
	image_u32(image, &head->user.pid);
	image_expect(image, head->is_replica == (head->address != NULL));
	image_expect(image, !head->is_replica || (!head->name && head->publisher == NOBODY));
}

static void tally_image(struct image *image, struct topic_tally *tally)
{
	image_u64(image, &tally->delivered);
	image_u64(image, &tally->missed);
	image_u64(image, &tally->gaps);
}

static void read_past(struct image *image, struct topics *topics)
{
	struct topic_tally *tally = calloc(1, sizeof(*tally));
	char key[TOPICS_KEY_SIZE];

	if (!tally) {
		image_fail(image, -ENOMEM);
		return;
	}
	image_text(image, key, sizeof(key));
	tally_image(image, tally);
	past_put(&topics->past, key, tally);
}

void topics_past_image(struct image *image, struct topics *topics)
{
	uint32_t count = HASH_COUNT(topics->past.all);
	struct past_entry *entry, *next;

	image_upto(image, &count, PAST_MOST);
	if (!image->is_read) {
		HASH_ITER(hh, topics->past.all, entry, next) {
			image_text(image, entry->name, TOPICS_KEY_SIZE);
			tally_image(image, entry->counters);
		}
		return;
	}
	while (count-- > 0 && !image->error)
		read_past(image, topics);
}

static void replica_fields(struct image *image, struct topic *replica)
{
	uint32_t state = replica->state, refused = (uint32_t)replica->refused;

	image_upto(image, &state, REPLICA_REFUSED);
	image_upto(image, &refused, INT32_MAX);
	image_bool(image, &replica->was_live);
	image_bool(image, &replica->was_closed);
	image_bool(image, &replica->lacks_room);
	image_bool(image, &replica->kept_comes);
	image_u64(image, &replica->kept_first);
	image_u64(image, &replica->kept_upto);
	image_bool(image, &replica->misses_unknown);
	image_bool(image, &replica->is_replaced);
	image_u32(image, &replica->domid);
	image_text(image, replica->uuid, sizeof(replica->uuid));
	image_u32(image, &replica->pause_ms);
	image_u64(image, &replica->number);
	image_expect(image, (state == REPLICA_REFUSED) == (refused != 0));
	replica->state = (enum replica_state)state;
	replica->refused = (int)refused;
}

static void topic_fields(struct image *image, struct topic *topic)
{
	hop_inner_image(image, topic->hop);
	topic_origin_image(image, topic, &topic->origin);
	image_u64(image, &topic->published);
	tally_image(image, &topic->tally);
	image_u64(image, &topic->listeners_told);
	image_bool(image, &topic->tells_listeners);
	image_expect(image, topic->is_replica || topic->tells_listeners == (topic->name != NULL));
	topic_log_image(image, topic);
	topic_kept_image(image, topic);
	if (topic->is_replica)
		replica_fields(image, topic);
}

static void write_topic(struct image *image, struct topic *topic)
{
	struct account *account = hop_account(topic->hop);
	struct topic_head head = {
		.is_replica = topic->is_replica,
		.pays = account != NULL,
		.uid = account ? account_id(account) : 0,
		.publisher = topic->publisher ? hop_number_in_image(topic->publisher) : NOBODY,
		.name = topic->name,
		.address = topic->address,
		.user = topic->user,
	};

	image_section(image, IMAGE_TOPIC);
	topic_head_image(image, &head);
	topic_fields(image, topic);
}

/* Enters a replica where others find it, unless it is refused. */
static void enter_replica(struct image *image, struct topic *replica)
{
	struct topics *topics = replica->topics;
	struct topic *same = NULL;

	if (image->error || replica->refused)
		return;
	HASH_FIND_STR(topics->replicas, replica->key, same);
	image_expect(image, !same || replica->is_replaced);
	if (image->error)
		return;
	if (!replica->is_replaced) {
		HASH_ADD_KEYPTR(hh, topics->replicas, replica->key, strlen(replica->key), replica);
		if (!HASH_ADDED(replica))
			image_fail(image, -ENOMEM);
	}
	if (search_begin(replica) < 0)
		image_fail(image, -ENOMEM);
	if (replica->number > topics->numbers)
		topics->numbers = replica->number;
}

static struct topic *new_topic(struct image *image, struct topics *topics, const struct image_hops *hops,
			       struct topic_head *head)
{
	struct quota *quota = topics->with.board->quota;
	struct account *account = head->pays && quota ? quota_account(quota, QUOTA_UID, head->uid) : NULL;
	char key[TOPICS_KEY_SIZE];
	struct topic *topic;
	int r = topic_make(&topic, topics, account, true);

	account_unref(account);
	if (r < 0) {
		image_fail(image, r);
		return NULL;
	}
	if (head->is_replica) {
		topic->key = strdup(replica_write_key(key, head->user.uid, head->address));
		DL_APPEND(topics->all_replicas, topic);
	} else {
		DL_APPEND(topics->own, topic);
	}
	topic->is_replica = head->is_replica;
	topic->name = head->name;
	topic->address = head->address;
	topic->user = head->user;
	*head = (struct topic_head){.publisher = head->publisher};
	if (head->publisher != NOBODY && hop_owner(hops->hops[head->publisher])) /* else a stand-in */
		topic->publisher = hops->hops[head->publisher];
	if (topic->is_replica && !topic->key)
		image_fail(image, -ENOMEM);
	return topic;
}

static void read_topic(void *self, struct image *image, struct image_hops *hops)
{
	struct topics *topics = self;
	struct topic_head head = {0};
	struct topic *topic = NULL;

	topic_head_image(image, &head);
	image_expect(image, head.publisher == NOBODY || head.publisher < hops->sessions);
	if (!image->error && head.publisher != NOBODY) {
		image_owner(image, 0, head.publisher);
		image_expect(image, image_hops_has(hops, head.publisher));
	}
	if (!image->error)
		topic = new_topic(image, topics, hops, &head);
	free(head.name);
	free(head.address);
	if (!topic)
		return;
	hop_set_image_number(topic->hop, hops->count);
	hops->hops[hops->count++] = topic->hop;
	hops->topics++;
	if (image->error)
		return;
	topic_fields(image, topic);
	if (topic->is_replica)
		enter_replica(image, topic);
}

/* --- who takes part --------------------------------------------------------------------------- */

/* The number of a participant's channel. Read, the channel must be there, and nobody else's. */
static struct channel_end *end_image(struct image *image, const struct topic *topic,
				     const struct participant *participant)
{
	uint32_t number = participant && participant->end ? participant->end->number : NOBODY;
	struct channel_end *end = NULL;

	image_u32(image, &number);
	if (!image->is_read || image->error || number == NOBODY)
		return NULL;
	end = hop_find_channel(topic->hop, number);
	/* Neither FIN nor RESET was sent, each of which is the last that a participant hears. */
	image_expect(image, end && !end->participant && (end->out < OUT_FIN || end->out == OUT_RESETTING) &&
				    end->is_opener == topic->is_replica);
	return image->error ? NULL : end;
}

/* The part of a message that has come. */
static void part_image(struct image *image, struct topic_log *log, struct feed *feed)
{
	uint32_t size = feed->part ? feed->part->size : 0;

	if (!feed->part)
		feed->at = 0;
	image_upto(image, &size, MESSAGE_MOST);
	image_upto(image, &feed->at, size);
	if (image->error || !size)
		return;
	image_expect(image, size >= MESSAGE_HEAD_SIZE + MESSAGE_TRAILER_SIZE &&
				    feed->at >= MESSAGE_HEAD_SIZE && feed->at < size);
	if (image->is_read && !image->error) {
		feed->part = topic_entry_new(size);
		if (feed->part)
			topic_log_exceed(log, size);
		else
			image_fail(image, -ENOMEM);
	}
	if (image->error)
		return;
	if (image->is_read)
		image_raw(image, feed->part->bytes, feed->at);
	else
		image_write(image, feed->part->bytes, feed->at);
	image_expect(image, message_span(get_u32(feed->part->bytes)) == size);
}

static void feed_fields(struct image *image, struct topic *topic, struct feed *feed)
{
	part_image(image, &topic->log, feed);
	image_bool(image, &feed->skips);
	image_u64(image, &feed->left);
	image_expect(image, !feed->skips || (feed->left && !feed->part));
}

static void read_feed(struct image *image, struct topic *topic)
{
	struct channel_end *end = end_image(image, topic, NULL);
	struct feed *feed;

	image_expect(image, end && (!topic->is_replica || !topic->feeds));
	feed = image->error ? NULL : topic_add_feed(topic, end);
	if (feed)
		feed_fields(image, topic, feed);
	else
		image_fail(image, -ENOMEM);
}

static void bound_image(struct image *image, struct topic_bound *bound)
{
	image_upto(image, &bound->most, SUBSCRIBE_QUEUE >> SUBSCRIBE_QUEUE_SHIFT);
	image_bool(image, &bound->keeps_oldest);
	image_bool(image, &bound->is_cut);
	image_u64(image, &bound->cut);
	image_u64(image, &bound->sent);
	image_u64(image, &bound->taken);
	image_u64(image, &bound->end);
	image_upto(image, &bound->first_mark, TOPIC_BOUND_MARKS - 1);
	image_upto(image, &bound->mark_count, TOPIC_BOUND_MARKS);
	for (unsigned i = 0; i < TOPIC_BOUND_MARKS; i++) {
		image_u64(image, &bound->marks[i].sent);
		image_u64(image, &bound->marks[i].end);
	}
	image_expect(image, bound->taken <= bound->sent);
}

/* What it is sent now, and what comes behind that. */
static void sending_image(struct image *image, struct topic *topic, struct subscriber *subscriber)
{
	topic_entry_image(image, topic, &subscriber->current);
	topic_entry_image(image, topic, &subscriber->held);
	if (!subscriber->current)
		subscriber->done = 0;
	image_u32(image, &subscriber->done);
	image_expect(image, subscriber->current ? subscriber->done < subscriber->current->size &&
							  subscriber->done % 8 == 0
						: !subscriber->done);
	image_bool(image, &subscriber->holds_kept);
	image_u64(image, &subscriber->kept_at);
	image_u64(image, &subscriber->kept_last);
	image_bool(image, &subscriber->is_short);
	image_bool(image, &subscriber->is_last);
}

static void position_image(struct image *image, const struct topic *topic, struct subscriber *subscriber)
{
	struct topic_position *position = &subscriber->position;

	image_u64(image, &position->index);
	image_u64(image, &position->count);
	image_u64(image, &position->unknown);
	image_u64(image, &subscriber->begun_at);
	image_expect(image, position->index <= topic->log.next && position->count <= topic->log.count &&
				    position->unknown <= topic->log.unknown &&
				    subscriber->begun_at <= position->count);
	bound_image(image, &subscriber->bound);
	tally_image(image, &subscriber->tally);
}

static void leaving_image(struct image *image, struct subscriber *subscriber)
{
	uint32_t leaving = subscriber->leaving;

	image_upto(image, &leaving, LEAVES_TOLD);
	image_bool(image, &subscriber->leaves_unknown);
	image_bool(image, &subscriber->leaves_for_good);
	image_u64(image, &subscriber->leaves_at);
	subscriber->leaving = (enum subscriber_leaving)leaving;
}

/* What a subscriber is besides its channel. `session`: its number, which only that of a replica has. */
static void subscriber_fields(struct image *image, struct topic *topic, struct subscriber *subscriber,
			      uint32_t session, uint32_t *listeners, bool *is_out, bool *is_heir)
{
	image_u32(image, listeners);
	image_bool(image, is_out);
	image_bool(image, is_heir);
	position_image(image, topic, subscriber);
	sending_image(image, topic, subscriber);
	image_bool(image, &subscriber->is_asking);
	image_u32(image, &subscriber->number);
	image_bool(image, &subscriber->was_subscribed);
	image_bool(image, &subscriber->is_closing);
	leaving_image(image, subscriber);
	topic_origin_image(image, topic, &subscriber->origin);
	image_u32(image, &subscriber->told_version);
	image_expect(image, topic->is_replica == (session != NOBODY) &&
				    topic->is_replica == (subscriber->address[0] != '\0'));
	image_expect(image, topic->is_replica ? !subscriber->is_asking
					      : *is_out == subscriber->is_asking && !subscriber->number &&
							!subscriber->is_closing);
}

static uint32_t session_of(const struct subscriber *subscriber)
{
	return subscriber->hop ? hop_number_in_image(subscriber->hop) : NOBODY;
}

static void write_subscriber(struct image *image, struct subscriber *subscriber)
{
	struct topic *topic = subscriber->participant.topic;
	uint32_t listeners = subscriber->listeners;
	bool is_out = subscriber->list == LIST_OUT, is_heir = subscriber->elder;
	char *address = subscriber->address;

	image_string(image, &address, ADDRESS_MAX);
	end_image(image, topic, &subscriber->participant);
	subscriber_fields(image, topic, subscriber, session_of(subscriber), &listeners, &is_out, &is_heir);
}

static struct subscriber *topic_image_new_subscriber(struct image *image)
{
	struct subscriber *subscriber;
	char *address = NULL;
	size_t size;

	image_string(image, &address, ADDRESS_MAX);
	size = address ? strlen(address) : 0;
	subscriber = image->error ? NULL : calloc(1, sizeof(*subscriber) + size + 1);
	if (subscriber) {
		subscriber->participant.kind = PARTICIPANT_SUBSCRIBER;
		memcpy(subscriber->address, address ? address : "", size);
	}
	free(address);
	return subscriber;
}

/* Lets the program's subscription be found. */
static void enter_session(struct image *image, struct topics *topics, struct subscriber *subscriber,
			  struct hop *program)
{
	int r = topics_remember(topics, subscriber, program);

	if (r < 0)
		image_fail(image, r == -EEXIST ? -EINVAL : r);
	else if (subscriber->number)
		session_ask_again(program);
}

/* It comes behind the one that was read before it. */
static void read_heir(struct image *image, struct subscriber *subscriber)
{
	struct subscriber *elder = subscriber->of_session_prev;

	/* The first one's is itself. */
	image_expect(image, elder != subscriber && elder->leaving && !elder->heir &&
				    elder->participant.topic == subscriber->participant.topic);
	if (!image->error)
		meant_comes_behind(subscriber, elder);
}

static void read_subscriber(struct image *image, struct topic *topic, const struct image_hops *hops,
			    uint32_t session)
{
	struct subscriber *subscriber = topic_image_new_subscriber(image);
	struct channel_end *end = end_image(image, topic, NULL);
	uint32_t listeners = 0;
	bool is_out = false, is_heir = false;

	if (!subscriber) {
		image_fail(image, -ENOMEM);
		return;
	}
	subscriber_fields(image, topic, subscriber, session, &listeners, &is_out, &is_heir);
	image_expect(image, session == NOBODY ? end && !is_heir : image_hops_has(hops, session));
	if (!image->error && session != NOBODY)
		enter_session(image, topic->topics, subscriber, hops->hops[session]);
	if (image->error) {
		subscriber_discard(subscriber);
		return;
	}
	subscriber_charge(subscriber,
			  subscriber->hop ? hop_account(subscriber->hop) : end->channel->charge.account,
			  true);
	participant_take(&subscriber->participant, end);
	subscriber_enter(subscriber, topic);
	listeners_count(subscriber, listeners);
	if (!is_out)
		subscriber_move(subscriber, topic->due);
	if (is_heir)
		read_heir(image, subscriber);
}

static void read_party(void *self, struct image *image, struct image_hops *hops)
{
	uint32_t number = 0, kind = 0, session = NOBODY;
	struct topic *topic = NULL;

	image_u32(image, &number);
	image_u32(image, &session);
	image_expect(image, number < hops->count && (session == NOBODY || session < hops->sessions));
	if (image->error)
		return;
	image_owner(image, 0, session == NOBODY ? number : session);
	image_upto(image, &kind, PARTICIPANT_SUBSCRIBER);
	topic = topics_in_image(hops, number);
	image_expect(image, topic != NULL);
	if (image->error)
		return;
	if (kind == PARTICIPANT_FEED)
		read_feed(image, topic);
	else
		read_subscriber(image, topic, hops, session);
}

static void begin_party(struct image *image, const struct topic *topic, enum participant_kind participant,
			uint32_t session)
{
	uint32_t number = hop_number_in_image(topic->hop), kind = participant;

	image_section(image, IMAGE_PARTY);
	image_u32(image, &number);
	image_u32(image, &session);
	image_upto(image, &kind, PARTICIPANT_SUBSCRIBER);
}

static void write_parties(struct image *image, struct topic *topic)
{
	struct subscriber *subscriber, *heir;
	struct feed *feed;

	DL_FOREACH(topic->feeds, feed) {
		begin_party(image, topic, PARTICIPANT_FEED, NOBODY);
		end_image(image, topic, &feed->participant);
		feed_fields(image, topic, feed);
	}
	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++)
		DL_FOREACH(topic->lists[i], subscriber)
			for (heir = subscriber->elder ? NULL : subscriber; heir; heir = heir->heir) {
				begin_party(image, topic, PARTICIPANT_SUBSCRIBER, session_of(heir));
				write_subscriber(image, heir);
			}
}

/* --- all of them ------------------------------------------------------------------------------ */

/* Calls back for each, in the order in which they are numbered. */
static void for_each_topic(struct topics *topics, struct image *image,
			   void (*call)(struct image *image, struct topic *topic))
{
	struct topic *topic;

	DL_FOREACH(topics->own, topic)
		call(image, topic);
	DL_FOREACH(topics->all_replicas, topic)
		call(image, topic);
}

static void write_channels(struct image *image, struct topic *topic)
{
	hop_write_channels(image, topic->hop);
}

static void topics_write(void *self, struct image *image)
{
	struct topics *topics = self;

	for_each_topic(topics, image, write_topic);
}

static uint64_t topics_queued(const void *self)
{
	const struct topics *topics = self;
	const struct topic *lists[] = {topics->own, topics->all_replicas}, *topic;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < 2; i++)
		for (topic = lists[i]; topic; topic = topic->next)
			bytes += topic->log.charge.held[QUOTA_BYTES] + topic->kept.charge.held[QUOTA_BYTES];
	return bytes;
}

uint64_t topics_shelve(struct topics *topics, struct image_shelf *shelf, uint64_t most)
{
	struct topic *lists[] = {topics->own, topics->all_replicas}, *topic;
	uint64_t done = 0;

	for (unsigned i = 0; i < 2; i++)
		for (topic = lists[i]; topic && done < most; topic = topic->next)
			done += topic_shelve(topic, shelf, most - done);
	return done;
}

static void topics_write_channels(void *self, struct image *image)
{
	struct topics *topics = self;

	for_each_topic(topics, image, write_channels);
}

static void topics_write_parties(void *self, struct image *image)
{
	struct topics *topics = self;

	for_each_topic(topics, image, write_parties);
}

/* Those that programs have bound here. */
static void topics_each_hop(void *self, void (*each)(void *userdata, struct hop *hop), void *userdata)
{
	struct topics *topics = self;
	struct topic *own;

	DL_FOREACH(topics->own, own)
		each(userdata, own->hop);
}

/* Also ends what leads to no hop that has a number: all that can be without one come before. */
static uint32_t topics_number(void *self, uint32_t first)
{
	struct topics *topics = self;
	struct topic *topic, *next;

	DL_FOREACH_SAFE(topics->all_replicas, topic, next)
		if (topic->is_over)
			topic_destroy(topic);
	hop_free_retired(topics->with.board);
	DL_FOREACH(topics->own, topic)
		hop_set_image_number(topic->hop, first++);
	DL_FOREACH(topics->all_replicas, topic)
		hop_set_image_number(topic->hop, first++);
	DL_FOREACH(topics->own, topic)
		hop_settle_for_image(topic->hop);
	DL_FOREACH(topics->all_replicas, topic)
		hop_settle_for_image(topic->hop);
	return first;
}

unsigned topics_in_question(struct topics *topics, struct hop *program)
{
	const struct subscriber *subscriber;
	unsigned count = 0;

	for (subscriber = topics_first_of(topics, program); subscriber;
	     subscriber = subscriber->of_session_next)
		count += subscriber->number != 0;
	return count;
}

uint32_t topic_number_in_image(const struct topic *topic)
{
	return hop_number_in_image(topic->hop);
}

struct topic *topics_in_image(const struct image_hops *hops, uint32_t number)
{
	uint32_t first = hops->sessions + hops->links;

	return number >= first && number - first < hops->topics && image_hops_has(hops, number)
		       ? hop_owner(hops->hops[number])
		       : NULL;
}

struct topic *topics_claim(const struct image_hops *hops, uint32_t number, const struct hop *publisher)
{
	struct topic *topic = topics_in_image(hops, number);

	if (!topic || topic->is_replica || topic->publisher != publisher || topic->in_image.is_bound)
		return NULL;
	topic->in_image.is_bound = true;
	return topic;
}

/* Whether it has what it needs, now that all was read. */
static bool is_whole(const struct topic *topic)
{
	bool has_feed = topic->state == REPLICA_TRYING || topic->state == REPLICA_LIVE;

	return (!topic->publisher || topic->in_image.is_bound) &&
	       (!topic->is_replica || has_feed == (topic->feeds != NULL));
}

/* What has to end with the topic: else it would wait for what can't come. -ENOMEM. */
static int lose_programs(struct image_hops *hops, const struct topic *topic)
{
	const struct subscriber *subscriber;
	int r = 0;

	if (topic->publisher)
		r = image_hops_lose(hops, hop_number_in_image(topic->publisher));
	for (unsigned i = 0; i < SUBSCRIBER_LISTS; i++)
		DL_FOREACH(topic->lists[i], subscriber)
			if (r == 0 && subscriber->hop)
				r = image_hops_lose(hops, session_of(subscriber));
	return r;
}

int topics_lose_unfit(struct image_hops *hops)
{
	uint32_t first = hops->sessions + hops->links;
	int r = 0;

	for (uint32_t i = first; i < first + hops->topics && r == 0; i++) {
		struct topic *topic = hop_owner(hops->hops[i]);

		if (!topic)
			continue; /* a stand-in */
		if (image_hops_has(hops, i) && !is_whole(topic))
			r = image_hops_lose(hops, i);
		if (r == 0 && !image_hops_has(hops, i))
			r = lose_programs(hops, topic);
	}
	return r;
}

static bool topics_lose(void *self, struct hop *hop)
{
	struct topics *topics = self;
	struct topic *topic;

	DL_SEARCH_SCALAR(topics->own, topic, hop, hop);
	if (!topic)
		DL_SEARCH_SCALAR(topics->all_replicas, topic, hop, hop);
	if (topic)
		topic_destroy(topic);
	return topic;
}

static void topic_image_go_on(struct image *image, struct topic *topic)
{
	topic_leave_image(topic);
	inner_due(topic->hop);
	if (topic->is_replica && !topic_has_subscribers(topic))
		topic_drop(topic);
	else if (topic->is_replica)
		replica_wait_again(topic);
	else if (!topic->publisher)
		timer_set(topic->timer, TOPIC_LINGER_MS);
}

static void forget_image(struct image *image, struct topic *topic)
{
	topic_leave_image(topic);
}

static void topics_stay(void *self)
{
	struct topics *topics = self;

	for_each_topic(topics, NULL, forget_image);
}

static void topics_go_on(void *self)
{
	struct topics *topics = self;

	for_each_topic(topics, NULL, topic_image_go_on);
}

static void topics_drop(void *self)
{
	struct topics *topics = self;

	while (topics->own)
		topic_destroy(topics->own);
	while (topics->all_replicas)
		topic_destroy(topics->all_replicas);
}

const struct part topics_part = {
	.each_hop = topics_each_hop,
	.queued = topics_queued,
	.number = topics_number,
	.write = topics_write,
	.write_channels = topics_write_channels,
	.write_rest = topics_write_parties,
	.stay = topics_stay,
	.sections = {{IMAGE_TOPIC, read_topic}, {IMAGE_PARTY, read_party}},
	.lose = topics_lose,
	.go_on = topics_go_on,
	.drop = topics_drop,
};
