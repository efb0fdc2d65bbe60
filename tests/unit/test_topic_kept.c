/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a topic keeps against a plain list, by seeds: the last message of each key, of those keys that were
 * published last, and each reader gets of what was there when he came all that wasn't replaced, in its
 * order. */
#include "tests/unit/random.h"
#include "tests/unit/topic_rig.h"
#include "tests/unit/unit.h"

#include <event2/buffer.h>

#include "daemon/topic/topic_kept.h"
#include "wire/bytes.h"

#define KEYS	20
#define READERS 5
#define STEPS	5000
#define SIZE	40

/* The number of the message that each key has, as the model says; 0: none. */
struct model {
	uint64_t of_key[KEYS];
	unsigned room;
	uint64_t published;
};

struct reader {
	uint64_t at, last;  /* as a subscriber has them */
	uint64_t got, came; /* numbers of messages: the one that it has got last, the last one when it came */
};

static struct frame_text key_of(unsigned key, char text[16])
{
	snprintf(text, 16, "key-%u", key);
	return key ? frame_text_of(text) : (struct frame_text){.size = 0};
}

static unsigned count_of(const struct model *model)
{
	unsigned count = 0;

	for (unsigned i = 0; i < KEYS; i++)
		count += model->of_key[i] > 0;
	return count;
}

/* Returns the key with the first message behind this number; KEYS: there is none. */
static unsigned next_of(const struct model *model, uint64_t number)
{
	unsigned found = KEYS;

	for (unsigned i = 0; i < KEYS; i++)
		if (model->of_key[i] > number && (found == KEYS || model->of_key[i] < model->of_key[found]))
			found = i;
	return found;
}

static void publish(struct topic_kept *kept, struct model *model, unsigned key, bool is_empty)
{
	struct topic_entry *entry = topic_entry_new(SIZE);
	char text[16];

	assert_non_null(entry);
	model->published++;
	memcpy(entry->bytes, &model->published, sizeof(model->published));
	topic_kept_put(kept, key_of(key, text), entry, is_empty);
	topic_entry_unref(entry);
	model->of_key[key] = 0;
	if (is_empty && key)
		return;
	if (count_of(model) == model->room)
		model->of_key[next_of(model, 0)] = 0;
	model->of_key[key] = model->published;
}

static void begin(const struct topic_kept *kept, const struct model *model, struct reader *reader)
{
	*reader = (struct reader){.last = kept->last, .came = model->published};
}

/* What it gets next is what the model has next. */
static void read_one(const struct topic_kept *kept, const struct model *model, struct reader *reader)
{
	const struct topic_entry *entry = topic_kept_next(kept, &reader->at, reader->last);
	unsigned key = next_of(model, reader->got);
	uint64_t number;

	if (key == KEYS || model->of_key[key] > reader->came) {
		assert_null(entry);
		return;
	}
	assert_non_null(entry);
	memcpy(&number, entry->bytes, sizeof(number));
	assert_int_equal(number, model->of_key[key]);
	reader->got = number;
}

TEST_EACH(readers_get_the_last_message_of_each_key_in_order, 6)
{
	uint64_t seed =
		(getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 1) + (uint64_t)unit_number(state);
	struct model model = {.room = unit_number(state) ? 3 * (unsigned)unit_number(state) : 1};
	struct reader readers[READERS];
	struct topic_kept kept;

	topic_kept_init(&kept, NULL);
	topic_kept_begin(&kept, model.room);
	for (unsigned i = 0; i < READERS; i++)
		begin(&kept, &model, &readers[i]);
	for (unsigned step = 0; step < STEPS; step++) {
		struct reader *reader = &readers[random_below(&seed, READERS)];
		uint32_t what = random_below(&seed, 100);

		if (what < 40)
			publish(&kept, &model, random_below(&seed, KEYS), what < 5);
		else if (what < 50)
			begin(&kept, &model, reader);
		else if (what == 50) { /* another publisher has come */
			topic_kept_begin(&kept, model.room);
			memset(model.of_key, 0, sizeof(model.of_key));
		} else
			read_one(&kept, &model, reader);
		assert_int_equal(kept.count, count_of(&model));
		assert_false(kept.is_incomplete);
	}
	topic_kept_end(&kept);
}

TEST(without_room_the_oldest_go_and_it_is_known)
{
	struct quota_limits limits = {.pool = {[QUOTA_BYTES] = 4000}};
	struct model model = {.room = KEYS};
	struct account *account;
	struct quota *quota;
	struct topic_kept kept;

	limits.max[QUOTA_UID][QUOTA_BYTES] = 1000;
	quota = quota_new(&limits);
	assert_non_null(quota);
	account = quota_account(quota, QUOTA_UID, 5);
	topic_kept_init(&kept, account);
	topic_kept_begin(&kept, KEYS);
	publish(&kept, &model, 1, false);
	assert_false(kept.is_incomplete);
	for (unsigned key = 2; key < KEYS; key++)
		publish(&kept, &model, key, false);
	assert_true(kept.is_incomplete);
	assert_in_range(kept.count, 1, KEYS - 3);
	assert_int_equal(kept.last, KEYS - 1); /* the newest is there */
	assert_true(account_usage(account, QUOTA_BYTES).used <= 1000);
	topic_kept_begin(&kept, 0);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	publish(&kept, &model, 1, false);
	assert_int_equal(kept.count, 0); /* it keeps none */
	topic_kept_end(&kept);
	account_unref(account);
	quota_free(quota);
}

TEST(topics_of_a_user_keep_half_of_its_share_together)
{
	struct quota_limits limits = {.pool = {[QUOTA_BYTES] = 80000}};
	struct account *account, *other;
	struct topic_kept kept[4];
	struct charge calls;
	struct quota *quota;

	limits.max[QUOTA_UID][QUOTA_BYTES] = 10000;
	quota = quota_new(&limits);
	account = quota_account(quota, QUOTA_UID, 5);
	other = quota_account(quota, QUOTA_UID, 6);
	charge_init(&calls, account);
	/* A user that has a half otherwise has its whole share for all that. */
	assert_int_equal(charge_add(&calls, QUOTA_BYTES, 4000), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct model model = {.room = KEYS};

		if (i == 2)
			assert_int_equal(account_merge(account, other), 0);
		topic_kept_init(&kept[i], account);
		topic_kept_begin(&kept[i], KEYS);
		for (unsigned key = 1; key < KEYS; key++)
			publish(&kept[i], &model, key, false);
		assert_true(kept[i].is_incomplete);
		assert_in_range(kept[i].count, 1, KEYS - 3);
		if (i == 0)
			assert_in_range(account_usage(account, QUOTA_BYTES).used, 8500, 9000);
	}
	/* The newest one of each topic is kept in any case. */
	assert_in_range(account_usage(account, QUOTA_BYTES).used, 8500, 9000 + 3 * 500);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(kept[i].count, 1);
		topic_kept_end(&kept[i]);
	}
	assert_int_equal(charge_add(&calls, QUOTA_BYTES, 1000), 0);
	topic_kept_end(&kept[0]);
	assert_int_equal(account_kept(account), 0);
	charge_end(&calls);
	account_unref(account);
	account_unref(other);
	quota_free(quota);
}

TEST(room_for_keys_takes_no_memory_before_there_are_some)
{
	struct model model = {.room = TOPIC_KEYS_MOST};
	struct topic_kept kept;

	topic_kept_init(&kept, NULL);
	topic_kept_begin(&kept, TOPIC_KEYS_MOST);
	assert_null(kept.values);
	for (unsigned key = 1; key < KEYS; key++) {
		publish(&kept, &model, key, false);
		assert_true(kept.places <= 4 * kept.count + 4);
	}
	for (unsigned key = 1; key < KEYS; key++) {
		publish(&kept, &model, key, true);
		assert_true(kept.places <= 4 * kept.count + 8);
	}
	topic_kept_end(&kept);
}

static void publish_keyed(struct topic *topic, struct frame_text key, uint8_t byte)
{
	struct topic_entry *entry = topic_entry_new((uint32_t)message_span(8));

	assert_non_null(entry);
	memset(entry->bytes, 0, entry->size);
	put_u32(entry->bytes, 8);
	memset(entry->bytes + MESSAGE_HEAD_SIZE, byte, 8);
	entry->count = 1;
	assert_true(topic_log_reserve(&topic->log, entry->size) >= 0);
	topic_kept_put(&topic->kept, key, entry, false);
	topic_append(topic, entry);
}

static void publish_byte(struct topic *topic, uint8_t byte)
{
	publish_keyed(topic, (struct frame_text){.size = 0}, byte);
}

/* The next message that the subscriber gets: its byte, or the kind of a notice. */
static unsigned next_told(struct evbuffer *queue)
{
	uint8_t bytes[128];
	struct properties properties = {.subscribes = false};
	uint32_t span;

	assert_true(evbuffer_copyout(queue, bytes, MESSAGE_HEAD_SIZE) == MESSAGE_HEAD_SIZE);
	span = (uint32_t)message_span(get_u32(bytes));
	assert_true(span <= sizeof(bytes));
	assert_int_equal(evbuffer_remove(queue, bytes, span), span);
	if (!(bytes[4] & MESSAGE_PROPERTIES))
		return bytes[MESSAGE_HEAD_SIZE];
	assert_true(properties_decode(bytes + MESSAGE_HEAD_SIZE, get_u32(bytes), &properties) >= 0);
	return properties.notice.kind;
}

/* Somebody subscribes. */
static void begin_to_tell(struct topic_rig *rig, struct topic *topic)
{
	struct subscriber *subscriber;

	assert_int_equal(topic_rig_subscribe(rig, topic), 0);
	subscriber = topic->lists[LIST_OUT];
	subscriber->is_asking = false;
	rig->channel->acceptor.granted = 4096;
	subscriber_begin(subscriber, notice_new(NOTICE_SUBSCRIBED, topic->published, 0, 1));
}

TEST(who_has_not_had_all_that_was_kept_before_it_went_is_told)
{
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_rig_topic(rig);
	struct evbuffer *queue;

	topic->publisher = (void *)rig;
	topic_kept_begin(&topic->kept, 3);
	for (char key = 'a'; key <= 'c'; key++)
		publish_keyed(topic, (struct frame_text){&key, 1}, (uint8_t)key);
	begin_to_tell(rig, topic);
	publish_keyed(topic, (struct frame_text){"d", 1}, 'd'); /* in place of a, which is held */
	publish_keyed(topic, (struct frame_text){"e", 1}, 'e'); /* in place of b */
	switch_run(&rig->board, 10);
	queue = rig->channel->opener.queue;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(next_told(queue),
				 ((unsigned[]){NOTICE_SUBSCRIBED, NOTICE_KEPT, 'a', NOTICE_KEPT, 'c',
					       NOTICE_MISSED, 'd', 'e'})[i]);
	assert_int_equal(evbuffer_get_length(queue), 0);
	topic_rig_free(rig);
}

TEST(what_was_kept_comes_first_though_it_is_replaced_meanwhile)
{
	struct topic_rig *rig = topic_rig_new();
	struct topic *topic = topic_rig_topic(rig);
	struct evbuffer *queue;

	topic->publisher = (void *)rig;
	topic_kept_begin(&topic->kept, 1);
	publish_byte(topic, 'a');
	publish_byte(topic, 'b');
	begin_to_tell(rig, topic);
	publish_byte(topic, 'c');
	publish_byte(topic, 'd');
	switch_run(&rig->board, 10);
	queue = rig->channel->opener.queue;
	assert_int_equal(next_told(queue), NOTICE_SUBSCRIBED);
	assert_int_equal(next_told(queue), NOTICE_KEPT);
	assert_int_equal(next_told(queue), 'b');
	assert_int_equal(next_told(queue), 'c');
	assert_int_equal(next_told(queue), 'd');
	assert_int_equal(evbuffer_get_length(queue), 0);
	topic_rig_free(rig);
}
