/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/origin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "wire/address.h"

struct channel_origin {
	char *domain; /* NULL: unknown */
	char *host;   /* that the sender is on; NULL: this one */
	bool is_remote;
	uint32_t from, to; /* the hosts' numbers; 0: this host, or an unknown one */
};

static struct channel_origin *get(struct channel *channel)
{
	if (!channel->origin)
		channel->origin = calloc(1, sizeof(*channel->origin));
	return channel->origin;
}

void origin_set_domain(struct channel *channel, const char *name)
{
	struct channel_origin *origin = *name ? get(channel) : channel->origin;

	if (!origin)
		return; /* without memory the name is unknown */
	free(origin->domain);
	origin->domain = *name ? strdup(name) : NULL;
}

int origin_set_host(struct channel *channel, uint32_t number, const char *name)
{
	struct channel_origin *origin = get(channel);

	if (origin)
		origin->host = strdup(name);
	if (!origin || !origin->host)
		return -ENOMEM;
	origin->is_remote = true;
	origin->from = number;
	return 0;
}

int origin_set_goal(struct channel *channel, uint32_t number)
{
	struct channel_origin *origin = get(channel);

	if (!origin)
		return -ENOMEM;
	origin->is_remote = true;
	origin->to = number;
	return 0;
}

void origin_free(struct channel *channel)
{
	if (!channel->origin)
		return;
	free(channel->origin->domain);
	free(channel->origin->host);
	free(channel->origin);
	channel->origin = NULL;
}

const char *origin_domain(const struct channel *channel)
{
	return channel->origin ? channel->origin->domain : NULL;
}

const char *origin_host(const struct channel *channel)
{
	return channel->origin ? channel->origin->host : NULL;
}

uint32_t origin_goal(const struct channel *channel)
{
	return channel->origin ? channel->origin->to : 0;
}

bool origin_is_remote(const struct channel *channel)
{
	return channel->origin && channel->origin->is_remote;
}

struct peer_id channel_source(const struct channel *channel)
{
	return origin_host(channel) ? peer_host(channel->origin->from) : peer_domain(channel->identity.domid);
}

/* --- in the image ------------------------------------------------------------------------------- */

/* Returns the channel's, or, of one that has none, an empty one in `none`. NULL: it can't be read. */
static struct channel_origin *in_image(struct image *image, struct channel *channel,
				       struct channel_origin *none)
{
	*none = (struct channel_origin){0};
	if (image->is_read && !get(channel))
		image_fail(image, -ENOMEM);
	return channel->origin ? channel->origin : none;
}

void origin_image_names(struct image *image, struct channel *channel)
{
	struct channel_origin none, *origin = in_image(image, channel, &none);

	image_string(image, &origin->domain, DOMAIN_NAME_MAX);
	image_string(image, &origin->host, HOST_NAME_SIZE - 1);
}

void origin_image_hosts(struct image *image, struct channel *channel)
{
	struct channel_origin none, *origin = in_image(image, channel, &none);

	image_bool(image, &origin->is_remote);
	image_u32(image, &origin->from);
	image_u32(image, &origin->to);
	if (image->is_read && !origin->domain && !origin->is_remote)
		origin_free(channel);
}
