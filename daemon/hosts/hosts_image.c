/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Other hosts in the image that a daemon hands over (base/image.h). All of them are in it, in their order, so
 * that each keeps its number, by which links, accounts and channels know it. The gateway's connection goes
 * over as the socket that it is, and the gateway notices nothing; the memory of conversations doesn't, so
 * links with hosts are left, and resumed over others (daemon/link/link_image.c).
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/hosts/gateway_socket.h"
#include "daemon/hosts/hosts_internal.h"
#include "wire/text.h"

void hosts_hand_over(struct hosts *hosts)
{
	for (uint32_t i = 0; i < hosts->count; i++)
		hosts_stop_asking(hosts, hosts->by_number[i]);
}

/* A text of a gateway's. */
static void words_image(struct image *image, char *text, uint32_t room)
{
	image_text(image, text, room);
	image_expect(image, text_is_ascii(text, strlen(text), ' '));
}

static void name_image(struct image *image, char name[HOST_NAME_SIZE])
{
	image_text(image, name, HOST_NAME_SIZE);
	image_expect(image, host_name_is_valid(name, strlen(name)));
}

static void host_image(struct image *image, struct hosts *hosts, struct host *host)
{
	char name[HOST_NAME_SIZE] = "";

	if (host)
		memcpy(name, host->name, sizeof(name));
	name_image(image, name);
	if (image->is_read) {
		image_expect(image, !hosts_find(hosts, name));
		host = image->error ? NULL : hosts_add(hosts, name);
		if (!host) {
			image_fail(image, -ENOMEM);
			return;
		}
	}
	words_image(image, host->instance, sizeof(host->instance));
	words_image(image, host->why, sizeof(host->why));
	image_bool(image, &host->up);
	image_bool(image, &host->is_stale);
	image_u64(image, &host->since);
}

/* Domain 0 has its name from its settings, which may be others now; a guest knows it from domain 0. */
static bool own_name_image(struct image *image, struct hosts *hosts)
{
	char name[HOST_NAME_SIZE];

	memcpy(name, hosts->options.self->host, sizeof(name));
	image_text(image, name, sizeof(name));
	image_expect(image, !*name || host_name_is_valid(name, strlen(name)));
	if (image->is_read && hosts->options.self->domid != 0)
		memcpy(hosts->options.self->host, name, sizeof(name));
	return !strcmp(hosts->options.self->host, name);
}

static void gateway_image(struct image *image, struct hosts *hosts, bool is_same)
{
	int fd = !image->is_read && hosts->socket ? gateway_socket_fd(hosts->socket) : -1;

	image_fd(image, &fd);
	image_bool(image, &hosts->network_up);
	words_image(image, hosts->server, sizeof(hosts->server));
	words_image(image, hosts->why, sizeof(hosts->why));
	image_u64(image, &hosts->since);
	image_u64(image, &hosts->last_id);
	if (!image->is_read || fd < 0)
		return;
	if (image->error || !is_same || !hosts->socket)
		close(fd); /* the gateway comes again, and hears by which name */
	else
		gateway_socket_adopt(hosts->socket, fd);
}

void hosts_image(struct image *image, struct hosts *hosts)
{
	bool is_same = own_name_image(image, hosts);
	uint32_t count = hosts->count;

	image_expect(image, !count);
	image_upto(image, &count, HOSTS_MAX);
	for (uint32_t i = 0; i < count && !image->error; i++)
		host_image(image, hosts, image->is_read ? NULL : hosts->by_number[i]);
	gateway_image(image, hosts, is_same);
	if (!image->is_read)
		return;
	hosts->changed_ms = clock_ms();
	if (!hosts->socket || !gateway_socket_has_gateway(hosts->socket))
		hosts_doubt_all(hosts);
	hosts_look_later(hosts);
}
