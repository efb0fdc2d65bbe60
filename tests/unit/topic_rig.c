/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/unit.h"
#include "tests/unit/topic_rig.h"

#include <event2/event.h>

#include "daemon/registry/registry.h"
#include "daemon/switch/hop_image.h"
#include "wire/ut.h"

static void open_none(void *userdata, struct channel *channel, struct frame_text address)
{
	((struct topic_rig *)userdata)->looks++;
	channel_refuse(channel, ENOENT);
}

static int resolve_none(void *userdata, const char *domain, uint32_t *domid)
{
	return domid_parse(domain, strlen(domain), domid) ? 0 : -EHOSTDOWN;
}

static const struct hop_callbacks callbacks = {.notify = NULL};

struct topic_rig *topic_rig_new(void)
{
	struct topic_rig *rig = calloc(1, sizeof(*rig));

	rig->base = event_base_new();
	assert_int_equal(switch_init(&rig->board, rig->base, 1 << 20), 0);
	rig->registry = registry_new(&rig->self);
	assert_non_null(rig->registry);
	assert_int_equal(topics_new(&rig->topics, &(struct topics_collaborators){.self = &rig->self,
										 .board = &rig->board,
										 .registry = rig->registry,
										 .open = open_none,
										 .resolve = resolve_none,
										 .userdata = rig}),
			 0);
	rig->hop = hop_new(&rig->board, HOP_LINK, &callbacks, rig, 1, 1000);
	hop_set_image_number(rig->hop, 0);
	return rig;
}

void topic_rig_free(struct topic_rig *rig)
{
	struct topic *topic;

	DL_FOREACH(rig->topics->own, topic)
		topic->publisher = NULL;
	topics_free(rig->topics);
	hop_retire(rig->hop, ENOENT);
	switch_cleanup(&rig->board);
	registry_free(rig->registry);
	event_base_free(rig->base);
	free(rig);
}

struct topic *topic_rig_topic(struct topic_rig *rig)
{
	struct topic *topic;

	assert_int_equal(topic_make(&topic, rig->topics, NULL, false), 0);
	DL_APPEND(rig->topics->own, topic);
	return topic;
}

int topic_rig_subscribe(struct topic_rig *rig, struct topic *topic)
{
	const struct frame_identity identity = {.domid = 7};
	uint32_t number = 2;

	while (hop_find_channel(rig->hop, number))
		number += 2;
	assert_int_equal(channel_new(rig->hop, number, CHANNEL_CALL, &identity, &rig->channel), 0);
	return topic_accept(topic, rig->channel, "news");
}
