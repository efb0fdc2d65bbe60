/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/pings.h"

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

#include "daemon/clock.h"
#include "daemon/hop.h"
#include "wire/frame.h"

struct ping {
	uint64_t token; /* 0: not sent yet */
	uint64_t sent_ns;
	uint32_t request;
	ping_fn done;
	void *userdata;
	struct ping *prev, *next;
};

int pings_add(struct pings *pings, ping_fn done, void *userdata, uint32_t request)
{
	struct ping *ping;

	if (!done && pings->own_is_out)
		return 0;
	ping = calloc(1, sizeof(*ping));
	if (!ping)
		return -ENOMEM;
	ping->done = done;
	ping->userdata = userdata;
	ping->request = request;
	DL_APPEND(pings->list, ping);
	if (!done)
		pings->own_is_out = true;
	return 0;
}

void pings_send(struct pings *pings, struct hop *hop)
{
	uint8_t payload[8];
	struct ping *ping;

	/* They are sent in the order of the list, so those that wait are its last ones. */
	for (ping = pings->list ? pings->list->prev : NULL; ping && !ping->token && ping != pings->list; ping = ping->prev)
		;
	for (; ping; ping = ping->next) {
		if (ping->token)
			continue;
		ping->token = ++pings->last_token;
		ping->sent_ns = clock_ns();
		hop_send(hop, FRAME_PING, 0, 0, payload, frame_u64_encode(ping->token, payload));
	}
}

/* Its last word. The list is as it will be: the callee may ask again. */
static void finish(struct pings *pings, struct ping *ping, int64_t result)
{
	DL_DELETE(pings->list, ping);
	if (ping->done)
		ping->done(ping->userdata, ping->request, result);
	else
		pings->own_is_out = false;
	free(ping);
}

uint64_t pings_take_pong(struct pings *pings, uint64_t token)
{
	struct ping *ping;
	uint64_t rtt_ns;

	DL_SEARCH_SCALAR(pings->list, ping, token, token);
	if (!ping || !token)
		return 0;
	rtt_ns = clock_ns() - ping->sent_ns;
	finish(pings, ping, (int64_t)rtt_ns);
	return rtt_ns;
}

void pings_fail(struct pings *pings, int error)
{
	struct pings ended = *pings;

	*pings = (struct pings){.last_token = ended.last_token};
	while (ended.list)
		finish(&ended, ended.list, error);
}

void pings_forget(struct pings *pings, const void *userdata)
{
	struct ping *ping, *next;

	DL_FOREACH_SAFE(pings->list, ping, next) {
		if (ping->userdata != userdata || !ping->done)
			continue;
		DL_DELETE(pings->list, ping);
		free(ping);
	}
}
