/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/pings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/switch/hop.h"
#include "wire/bytes.h"
#include "wire/frame.h"
#include "wire/ut.h"

#define TOKEN_SIZE 8u

struct ping {
	uint64_t token; /* 0: not sent yet */
	uint64_t sent_ns;
	uint32_t request;
	ping_fn done;
	struct pinger *pinger; /* NULL: the heartbeat */
	bool awaits;	       /* only the session */
	struct ping *prev, *next, *own_prev, *own_next;
	UT_hash_handle hh; /* of those sent */
	uint32_t size;
	uint8_t payload[]; /* of PING, but for the token */
};

struct pinger {
	void *userdata;
	struct ping *own;
	UT_hash_handle hh;
};

static struct pinger *find_pinger(const struct pings *pings, const void *userdata)
{
	struct pinger *pinger;

	HASH_FIND_PTR(pings->pingers, &userdata, pinger);
	return pinger;
}

static struct pinger *pinger_of(struct pings *pings, void *userdata)
{
	struct pinger *pinger = find_pinger(pings, userdata);

	if (pinger)
		return pinger;
	pinger = calloc(1, sizeof(*pinger));
	if (!pinger)
		return NULL;
	pinger->userdata = userdata;
	HASH_ADD_PTR(pings->pingers, userdata, pinger);
	if (!HASH_ADDED(pinger)) {
		free(pinger);
		return NULL;
	}
	return pinger;
}

static bool pings_is_relayed(const struct ping *ping)
{
	return ping->size >= FRAME_PING_RELAYED_SIZE;
}

/* Whether it is of a domain on another host. */
static bool is_remote(const struct ping *ping)
{
	return ping->size > FRAME_PING_RELAYED_SIZE;
}

static struct ping **pings_list_of(struct pings *pings, const struct ping *ping)
{
	return ping->awaits ? &pings->awaiting : &pings->list;
}

static struct ping *add_ping(struct pings *pings, const uint8_t *payload, uint32_t size, ping_fn done,
			     void *userdata, uint32_t request, bool awaits)
{
	struct ping *ping = calloc(1, sizeof(*ping) + size);

	if (!ping)
		return NULL;
	ping->size = size;
	if (size)
		memcpy(ping->payload, payload, size);
	ping->done = done;
	ping->request = request;
	ping->awaits = awaits;
	if (done) {
		ping->pinger = pinger_of(pings, userdata);
		if (!ping->pinger) {
			free(ping);
			return NULL;
		}
		DL_APPEND2(ping->pinger->own, ping, own_prev, own_next);
	}
	DL_APPEND(*pings_list_of(pings, ping), ping);
	if (!done)
		pings->own_is_out = true;
	return ping;
}

int pings_add(struct pings *pings, ping_fn done, void *userdata, uint32_t request)
{
	const uint8_t payload[TOKEN_SIZE] = {0};

	if (!done && pings->own_is_out)
		return 0;
	return add_ping(pings, payload, sizeof(payload), done, userdata, request, false) ? 0 : -ENOMEM;
}

int pings_await(struct pings *pings, ping_fn done, void *userdata, uint32_t request)
{
	return add_ping(pings, NULL, 0, done, userdata, request, true) ? 0 : -ENOMEM;
}

int pings_add_relayed(struct pings *pings, const struct frame_ping_relayed *what, ping_fn done,
		      void *userdata, uint32_t request)
{
	uint8_t payload[FRAME_PING_MAX];
	uint32_t size = frame_ping_relayed_encode(what, payload);

	return add_ping(pings, payload, size, done, userdata, request, false) ? 0 : -ENOMEM;
}

/* Frees the ping, and its pinger if that has no other. */
static void remove_ping(struct pings *pings, struct ping *ping)
{
	struct pinger *pinger = ping->pinger;

	DL_DELETE(*pings_list_of(pings, ping), ping);
	if (HASH_ADDED(ping))
		HASH_DEL(pings->sent, ping);
	if (pinger) {
		DL_DELETE2(pinger->own, ping, own_prev, own_next);
		if (!pinger->own) {
			HASH_DEL(pings->pingers, pinger);
			free(pinger);
		}
	} else {
		pings->own_is_out = false;
	}
	free(ping);
}

/* Frees the ping, then tells its result: the callee may ask again. */
static void pings_finish(struct pings *pings, struct ping *ping, int64_t result)
{
	void *userdata = ping->pinger ? ping->pinger->userdata : NULL;
	uint32_t request = ping->request;
	ping_fn done = ping->done;

	remove_ping(pings, ping);
	if (done)
		done(userdata, request, result);
}

void pings_send(struct pings *pings, struct hop *hop)
{
	struct ping *ping, *next;
	int r;

	/* Those of an earlier daemon here, which a peer may still answer, have other tokens. */
	if (!pings->last_token)
		pings->last_token = clock_ns();
	/* Pings are sent in the order of the list, so those that wait are its last ones. */
	for (ping = pings->list ? pings->list->prev : NULL; ping && !ping->token && ping != pings->list;
	     ping = ping->prev)
		;
	for (; ping; ping = next) {
		next = ping->next;
		if (ping->token)
			continue;
		ping->token = ++pings->last_token;
		ping->sent_ns = clock_ns();
		HASH_ADD(hh, pings->sent, token, sizeof(ping->token), ping);
		put_u64(ping->payload, ping->token);
		if (!HASH_ADDED(ping))
			pings_finish(pings, ping, -ENOMEM);
		else if (!ping->done)
			hop_answer(hop, FRAME_PING, 0, ping->payload, ping->size);
		else if ((r = hop_send(hop, FRAME_PING, 0, 0, ping->payload, ping->size)) < 0)
			pings_finish(pings, ping, r);
	}
	while (pings->awaiting)
		pings_finish(pings, pings->awaiting, 0);
}

void pings_expire(struct pings *pings, uint64_t until_ns)
{
	struct ping *ping, *next;

	/* Another question is added to the end, where nothing is that old. */
	for (ping = pings->list; ping && ping->token && ping->sent_ns <= until_ns; ping = next) {
		next = ping->next;
		if (ping->done) /* what is heard at all decides about the heartbeat's */
			pings_finish(pings, ping, -ETIMEDOUT);
	}
}

bool pings_are_there(const struct pings *pings)
{
	return pings->list || pings->awaiting;
}

uint64_t pings_take_pong(struct pings *pings, uint64_t token)
{
	struct ping *ping;
	uint64_t rtt_ns;

	HASH_FIND(hh, pings->sent, &token, sizeof(token), ping);
	if (!ping || pings_is_relayed(ping))
		return 0;
	rtt_ns = clock_ns() - ping->sent_ns;
	pings_finish(pings, ping, (int64_t)rtt_ns);
	return rtt_ns;
}

uint64_t pings_take_relayed(struct pings *pings, struct hop *hop, uint64_t token, int result, uint32_t *domid)
{
	struct ping *ping;
	uint64_t rtt_ns;

	HASH_FIND(hh, pings->sent, &token, sizeof(token), ping);
	if (!ping || !pings_is_relayed(ping))
		return 0;
	rtt_ns = clock_ns() - ping->sent_ns;
	*domid = is_remote(ping) ? UINT32_MAX : get_u32(ping->payload + TOKEN_SIZE);
	if (result == -EAGAIN && (result = hop_send(hop, FRAME_PING, 0, 0, ping->payload, ping->size)) == 0)
		return 0;
	pings_finish(pings, ping, result < 0 ? result : (int64_t)rtt_ns);
	return result < 0 ? 0 : rtt_ns;
}

void pings_refuse_relayed(struct pings *pings)
{
	struct ping *ping = pings->list, *next;

	/* A callee that asks again adds to the end, and is refused, too. */
	for (; ping; ping = next) {
		next = ping->next;
		if (pings_is_relayed(ping) && !is_remote(ping))
			pings_finish(pings, ping, -EHOSTUNREACH);
	}
}

void pings_relay(struct pings *pings, uint32_t domid, struct pings *to)
{
	const struct frame_ping_relayed what = {.number = domid};
	struct ping *ping;

	while (pings->awaiting)
		pings_finish(pings, pings->awaiting, -EHOSTUNREACH);
	while ((ping = pings->list))
		if (ping->done &&
		    pings_add_relayed(to, &what, ping->done, ping->pinger->userdata, ping->request) == 0)
			remove_ping(pings, ping);
		else
			pings_finish(pings, ping, -EHOSTUNREACH);
}

void pings_move(struct pings *pings, struct pings *to)
{
	struct ping *ping;

	while ((ping = pings->awaiting))
		if (pings_await(to, ping->done, ping->pinger->userdata, ping->request) == 0)
			remove_ping(pings, ping);
		else
			pings_finish(pings, ping, -EHOSTUNREACH);
	while ((ping = pings->list))
		if (ping->done && !pings_is_relayed(ping) &&
		    pings_add(to, ping->done, ping->pinger->userdata, ping->request) == 0)
			remove_ping(pings, ping);
		else
			pings_finish(pings, ping, -EHOSTUNREACH);
}

/* Of who relays the peer may be there. */
static int error_of(const struct ping *ping, int error)
{
	return pings_is_relayed(ping) && error != -EAGAIN ? -EHOSTUNREACH : error;
}

void pings_fail(struct pings *pings, int error)
{
	struct pings ended = *pings;

	*pings = (struct pings){.last_token = ended.last_token};
	while (ended.awaiting)
		pings_finish(&ended, ended.awaiting, error);
	while (ended.list)
		pings_finish(&ended, ended.list, error_of(ended.list, error));
}

void pings_fail_sent(struct pings *pings, int error)
{
	/* Another question is added to the end. */
	while (pings->list && pings->list->token)
		pings_finish(pings, pings->list, error_of(pings->list, error));
}

void pings_forget(struct pings *pings, const void *userdata)
{
	struct pinger *pinger = find_pinger(pings, userdata);
	struct ping *ping, *next;

	if (!pinger)
		return;
	/* Removing the last one frees the pinger. */
	for (ping = pinger->own; ping; ping = next) {
		next = ping->own_next;
		remove_ping(pings, ping);
	}
}
