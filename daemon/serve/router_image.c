/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What programs have bound, in the image that a daemon hands over (base/image.h). */

#include <errno.h>
#include <string.h>

#include "base/image.h"
#include "daemon/local/session.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "daemon/switch/sharing.h"
#include "daemon/serve/router_internal.h"
#include "daemon/topic/topics.h"
#include "wire/ut.h"

#define NO_TOPIC UINT32_MAX

/* What one program has bound, and what the endpoint has carried so far. */
static void binding_image(struct image *image, char name[ENDPOINT_NAME_MAX + 1], struct endpoint *endpoint,
			  uint32_t *topic)
{
	image_u32(image, topic);
	image_text(image, name, ENDPOINT_NAME_MAX + 1);
	image_u32(image, &endpoint->kinds);
	channel_tally_image(image, endpoint->tally);
}

static void router_write_image(void *self, struct image *image)
{
	const struct router *router = self;
	struct endpoint *endpoint, *next;
	struct binder *binder;

	HASH_ITER(hh, router->endpoints, endpoint, next) {
		DL_FOREACH(endpoint->binders, binder) {
			uint32_t session = hop_number_in_image(binder->hop),
				 topic = endpoint->topic ? topic_number_in_image(endpoint->topic) : NO_TOPIC;

			image_section(image, IMAGE_ENDPOINT);
			image_u32(image, &session);
			binding_image(image, endpoint->name, endpoint, &topic);
		}
	}
}

static void read_endpoint(void *self, struct image *image, struct image_hops *hops)
{
	struct router *router = self;
	struct channel_tally tally = {0};
	struct endpoint read = {.tally = &tally}, *endpoint;
	struct topic *topic = NULL;
	struct hop *hop = image_program(image, hops, &(uint32_t){0});
	uint32_t number;
	int r;

	binding_image(image, read.name, &read, &number);
	if (!image->error && number != NO_TOPIC)
		topic = topics_claim(hops, number, hop);
	image_expect(image,
		     (topic != NULL) == ((read.kinds & BIND_TOPIC) != 0) && (topic || number == NO_TOPIC));
	if (image->error)
		return;
	r = router_bind(router, hop, frame_text_of(read.name), read.kinds, topic, true);
	if (r < 0) {
		image_fail(image, r);
		return;
	}
	endpoint = router_get(router, read.name, strlen(read.name));
	tally.references = endpoint->tally->references;
	*endpoint->tally = tally;
}

/* Finds who goes on counting there: an endpoint that is started on demand, or whoever binds it again. */
static void put_past(struct router *router, const char *name, struct channel_tally *tally)
{
	const char *endpoint_name = strchr(name, ' ') ? strchr(name, ' ') + 1 : "";
	struct endpoint *endpoint = router_get(router, endpoint_name, strlen(endpoint_name));

	if (!endpoint || endpoint->hop) {
		past_put(&router->past, name, tally);
		return;
	}
	channel_tally_unref(endpoint->tally);
	endpoint->tally = tally;
}

static void read_past(struct router *router, struct image *image)
{
	struct channel_tally *tally = channel_tally_new();
	char name[ROUTER_PAST_SIZE];

	if (!tally)
		image_fail(image, -ENOMEM);
	image_text(image, name, sizeof(name));
	if (tally)
		channel_tally_image(image, tally);
	if (image->error)
		channel_tally_unref(tally);
	else
		put_past(router, name, tally);
}

static void write_past(struct image *image, char *name, struct channel_tally *tally)
{
	bool more = true;

	image_bool(image, &more);
	image_text(image, name, ROUTER_PAST_SIZE);
	channel_tally_image(image, tally);
}

void router_past_image(struct image *image, struct router *router)
{
	struct endpoint *endpoint, *next_endpoint;
	struct past_entry *entry, *next;
	char name[ROUTER_PAST_SIZE];
	bool more = false;

	if (!image->is_read) {
		HASH_ITER(hh, router->past.all, entry, next)
			write_past(image, entry->name, entry->counters);
		HASH_ITER(hh, router->endpoints, endpoint, next_endpoint)
			if (!endpoint->hop)
				write_past(image, router_past_name(endpoint, name), endpoint->tally);
	}
	image_bool(image, &more);
	for (; image->is_read && more; image_bool(image, &more))
		read_past(router, image);
}

static void adopt(struct router *router, struct channel *channel)
{
	struct endpoint *endpoint = router_get(router, channel->endpoint, strlen(channel->endpoint));
	const struct binder *binder = endpoint ? router_binder(endpoint, channel->acceptor.hop) : NULL;

	if (!binder)
		return;
	channel_count(channel, endpoint->tally);
	if (channel->sharing && !channel->sharing->worker) /* else its program drains */
		sharing_give(channel, binder->worker);
}

/* Channels that lead to a topic are counted for its endpoint. */
static void adopt_of_topic(struct router *router, const struct hop *hop)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next_channel(hop, &number))) {
		struct endpoint *endpoint =
			end->is_opener || !end->channel->endpoint
				? NULL
				: router_get(router, end->channel->endpoint, strlen(end->channel->endpoint));

		if (endpoint)
			channel_count(end->channel, endpoint->tally);
	}
}

void router_adopt_channels(struct router *router, const struct image_hops *hops)
{
	struct channel *channel;

	for (uint32_t i = 0; i < hops->sessions; i++) {
		uint32_t number = 0;

		while ((channel = router_next_accepted(hops->hops[i], &number)))
			adopt(router, channel);
	}
	for (uint32_t i = hops->sessions + hops->links; i < hops->sessions + hops->links + hops->topics; i++)
		adopt_of_topic(router, hops->hops[i]);
}

const struct part router_part = {.write_rest = router_write_image,
				 .sections = {{IMAGE_ENDPOINT, read_endpoint}}};
