/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/pings.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/switch/hop.h"
#include "wire/frame.h"
#include "wire/ut.h"

struct awaiting {
	await_fn done;
	void *userdata;
	uint32_t request;
	struct awaiting *prev, *next;
};

void pings_send(struct pings *pings, struct hop *hop)
{
	uint8_t payload[8];

	if (pings->sent_ns)
		return;
	/* Those of an earlier daemon here, which a peer may still answer, have other tokens. */
	pings->sent_ns = clock_ns();
	pings->token = pings->token ? pings->token + 1 : pings->sent_ns;
	hop_answer(hop, FRAME_PING, 0, payload, frame_u64_encode(pings->token, payload));
}

uint64_t pings_take_pong(struct pings *pings, uint64_t token)
{
	uint64_t sent_ns = pings->sent_ns;

	if (!sent_ns || token != pings->token)
		return 0;
	pings->sent_ns = 0;
	return clock_ns() - sent_ns;
}

int pings_await(struct pings *pings, await_fn done, void *userdata, uint32_t request)
{
	struct awaiting *waits = malloc(sizeof(*waits));

	if (!waits)
		return -ENOMEM;
	*waits = (struct awaiting){.done = done, .userdata = userdata, .request = request};
	DL_APPEND(pings->awaiting, waits);
	return 0;
}

void pings_tell(struct pings *pings, int result)
{
	struct awaiting *all = pings->awaiting, *waits, *next;

	pings->awaiting = NULL; /* whoever is told may wait again */
	DL_FOREACH_SAFE(all, waits, next) {
		waits->done(waits->userdata, waits->request, result);
		free(waits);
	}
}

void pings_move(struct pings *pings, struct pings *to)
{
	DL_CONCAT(to->awaiting, pings->awaiting);
	pings->awaiting = NULL;
}

void pings_forget(struct pings *pings, const void *userdata)
{
	struct awaiting *waits, *next;

	DL_FOREACH_SAFE(pings->awaiting, waits, next)
		if (waits->userdata == userdata) {
			DL_DELETE(pings->awaiting, waits);
			free(waits);
		}
}
