/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Knowing all peers, which costs requests to XenStore for each, so only while somebody asks for all of them.
 * It is a part of peers.c and owns `all` of struct peers.
 *
 *   few ──peers_want_all()──▶ asking: our leaf `asks` is written, those that run answer, each by the endpoints
 *                             leaf that only we can read; one that starts now is looked up when its presence
 *                             appears
 *   asking ──nothing has come for a moment (and domain 0, if it tells us of changes, has told of all)──▶ known,
 *                             which callback `all_known` tells
 *   asking, known ──nobody has wanted it for a while──▶ few: one that starts now is ignored until it has to do with us
 *
 * In domain 0, which watches each domain, there is nothing to ask: those that there are at the start are
 * known when all are listed and read. Nor with a private presence, which nobody may answer.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/peers/domains.h"
#include "base/image.h"
#include "daemon/peers/peers_internal.h"
#include "base/timer.h"

/* --- whether domain 0 tells of the others ----------------------------------------------------- */

/*
 * A guest's watches, and whether it needs the one on all domains, which fires for each that comes or goes. It
 * is a part of peers.c and owns `told...`, `hears` and `zero_watch` of struct peers, and `all.watch`.
 *
 *   starts ──domain 0's daemon isn't there, or can't tell us──▶ watches all
 *          ──it is there, but takes too long to tell us──▶ watches all
 *   starts, watches all ──domain 0 tells us, over our link with it──▶ told: watches only what domain 0 writes
 *   told ──that link ends──▶ watches all
 *
 * Being told, it also watches what those write for it with which it has had a link: domain 0's daemon may
 * stand still.
 *
 * It shows itself only when it hears what others answer to that: when it watches all, or domain 0, which it
 * has looked up by then, will tell it.
 *
 * Being told is like a watch: it says what has changed, and the rest is read from XenStore.
 */

static int watch_all(struct peers *peers)
{
	if (peers->all.watch)
		return 0;
	peers->all.fired = false;
	return store_watch_needed(peers->store, "/local/domain", peers->changed, peers, peers_on_watched,
				  &peers->all.watch);
}

/* Half of the time that others wait for our answer to what we can't see before. */
static uint32_t wait_ms(const struct peers *peers)
{
	return peers->options.config->setup_timeout_ms / 2;
}

/* So often it is waited anew for what XenStore says of domain 0, or as long as domain 0 may be behind with
 * others; and once more for a domain 0 that has begun to make a link with us. If these are that slow, many
 * domains start at once, and if each watched all others XenStore would have N² events to tell. */
#define TOLD_WAITS 8u
/* Of a thousand guests that start at once each is told after 3 to 80 times what XenStore takes for its hello,
 * since domain 0 asks it for all of them. */
#define TOLD_HELLOS 100u

/* Whether domain 0's daemon may still begin to tell of the others, so nobody else is looked for. */
static bool told_is_awaited(const struct peers *peers)
{
	return evtimer_pending(peers->zero.deadline.timer, NULL);
}

static const struct peer *zero_looked_up(struct peers *peers)
{
	const struct peer *zero = peer_find(peers, 0);

	return zero && (zero->leaves.looked & LEAVES_LOOKED_UP) == LEAVES_LOOKED_UP ? zero : NULL;
}

void told_check(struct peers *peers)
{
	const struct peer *zero = zero_looked_up(peers);
	bool will_tell = zero && zero->up && zero->leaves.presence[0];
	int r;

	if (!zero && told_is_awaited(peers))
		return;
	if (will_tell && told_is_awaited(peers) && peers->zero.phase == TOLD_LOOKS_UP) {
		deadline_set(&peers->zero.deadline, wait_ms(peers)); /* until now XenStore took the time */
		peers->zero.phase = TOLD_SEEN;
		peers->zero.waits = 0;
	}
	if (!peers->zero.is_telling && (!told_is_awaited(peers) || !will_tell)) {
		evtimer_del(peers->zero.deadline.timer);
		r = watch_all(peers);
		if (r < 0)
			peers_on_watched(peers, r, NULL, 0);
	}
	if (!peers->hears) {
		peers->hears = true;
		advertise_presence(peers);
	}
}

static void bell_set(struct peers *peers, struct bell *bell)
{
	char path[PEERS_PATH_SIZE];

	snprintf(path, sizeof(path), "/local/domain/%u/data/xenmsg/to/%u", bell->domid,
		 peers->options.self->domid);
	peers_watch(peers, path, peers->changed, peers, &bell->watch);
}

bool bell_is_there(const struct peers *peers, uint32_t domid)
{
	for (unsigned i = 0; i < peers->bells.count && i < BELLS_MAX; i++)
		if (peers->bells.of[i].domid == domid)
			return true;
	return false;
}

void bell_add(struct peers *peers, uint32_t domid)
{
	struct bell *bell = NULL;

	if (peers->options.domains || domid == 0 || bell_is_there(peers, domid))
		return;
	bell = &peers->bells.of[peers->bells.count++ % BELLS_MAX];
	store_unwatch(peers->store, &bell->watch);
	bell->domid = domid;
	if (peers->zero.is_telling)
		bell_set(peers, bell);
}

/* While it isn't told, a guest watches all domains. */
static void bells_follow(struct peers *peers, bool told)
{
	for (unsigned i = 0; i < peers->bells.count && i < BELLS_MAX; i++)
		if (told)
			bell_set(peers, &peers->bells.of[i]);
		else
			store_unwatch(peers->store, &peers->bells.of[i].watch);
}

static void peers_told_on_late(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;
	const struct peer *zero = zero_looked_up(peers);
	bool is_slow =
		zero ? TOLD_HELLOS * rendezvous_hello_ms(zero) > (peers->zero.waits + 1) * wait_ms(peers)
		     : peers->zero.phase == TOLD_LOOKS_UP;

	if (is_slow && peers->zero.waits < TOLD_WAITS) {
		peers->zero.waits++;
		deadline_set(&peers->zero.deadline, wait_ms(peers));
	} else if (zero && peers->zero.phase == TOLD_SEEN && peer_hello_is_current(zero)) {
		/* It may have died, and its hello stands there: then others must be answered in time. */
		peers->zero.phase = TOLD_ANSWERS;
		deadline_set(&peers->zero.deadline, wait_ms(peers) / 2);
	} else {
		told_check(peers);
	}
}

void peers_told(struct peers *peers, bool told)
{
	struct peer *peer;

	if (!peers->options.told || !peers->zero.deadline.timer || told == peers->zero.is_telling)
		return;
	peers->zero.is_telling = told;
	evtimer_del(peers->zero.deadline.timer); /* from now on nobody need be waited for */
	bells_follow(peers, told);
	if (told)
		store_unwatch_at_once(peers->store, &peers->all.watch);
	for (peer = peers->peers; peer; peer = peer->hh.next) {
		task_due(&peer->task);		    /* another leaf of it may be watched */
		if (!told && !peer->advert.written) /* it was left out, since domain 0 could tell of us */
			advertise_soon(peer);
	}
	told_check(peers);
}

int told_watch(struct peers *peers)
{
	int r;

	peers->hears = !peers->options.told;
	if (peers->hears)
		return watch_all(peers);
	if (!told_is_awaited(peers)) {
		peers->zero.phase = TOLD_LOOKS_UP;
		peers->zero.waits = 0;
		deadline_set(&peers->zero.deadline, wait_ms(peers));
	}
	r = store_watch_needed(peers->store, "/local/domain/0/data/xenmsg", peers->changed, peers,
			       peers_on_watched, &peers->zero_watch);
	return r;
}

/* The next daemon waits for what is left: begun anew under hand-overs in a row, that would never end. */
void told_image(struct image *image, struct peers *peers)
{
	bool is_awaited = told_is_awaited(peers);
	uint32_t own = is_awaited ? deadline_left(&peers->zero.deadline, 0) : 0, left = own;
	uint8_t phase = is_awaited ? (uint8_t)peers->zero.phase : TOLD_ANSWERS;

	if (peers->zero.is_telling)
		left = UINT32_MAX;
	image_u32(image, &left);
	image_u8_upto(image, &phase, TOLD_ANSWERS);
	if (image->is_read && is_awaited && left < own) {
		deadline_set(&peers->zero.deadline, left);
		peers->zero.phase = phase;
	}
}

int told_init(struct peers *peers)
{
	peers->zero.deadline.timer = evtimer_new(peers->base, peers_told_on_late, peers);
	return peers->zero.deadline.timer ? 0 : -ENOMEM;
}

void told_destroy(struct peers *peers)
{
	bells_follow(peers, false);
	store_unwatch(peers->store, &peers->all.watch);
	store_unwatch(peers->store, &peers->zero_watch);
	free_event(peers->zero.deadline.timer);
}

/* --- knowing all ------------------------------------------------------------------------------ */

#define ALL_MS	     60000 /* so long all peers are followed after somebody wanted it last */
#define SETTLE_MS    100   /* who runs has answered when nothing has come for so long, */
#define SETTLE_TIMES 20	   /* or after so many times that */
#define READ_MS	     20	   /* in domain 0 it is known whether all are read, which is looked at so often, */
#define READ_TIMES   500   /* so many times */

static void peers_all_ask(struct peers *peers);

static void on_all_end(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;
	char path[PEERS_PATH_SIZE];

	if (peers->callbacks.all_watched && peers->callbacks.all_watched(peers->userdata)) {
		timer_set(peers->all.end, ALL_MS);
		if (peers->all.failed)
			peers_all_ask(peers);
		return;
	}
	peers->all.state = ALL_UNWANTED;
	if (!peers->zero.is_telling)
		return;
	/* Domain 0 needn't tell us of all any more. */
	store_cancel(&peers->all.request);
	snprintf(path, sizeof(path), "%s/asks", peers->root);
	peers_remove(peers, path);
}

/* In domain 0: its watch hasn't fired yet, which it does at once. */
static bool is_unread(const struct peer *peer)
{
	return peer->peers->options.domains && peer->watch && !(peer->leaves.looked & 1u << LEAF_PRESENCE);
}

/* Whether more is to come, as far as can be told: by domain 0, or in domain 0 by XenStore. */
static bool is_more_awaited(const struct peers *peers)
{
	return peers->options.domains ? !domains_are_listed(peers->options.domains)
				      : peers->all.heard || (peers->zero.is_telling && !peers->all.listed);
}

static void look_again_soon(struct peers *peers)
{
	peers->all.heard = false;
	timer_set(peers->all.settle, peers->options.domains ? READ_MS : SETTLE_MS);
}

static bool is_busy(const struct peers *peers)
{
	const struct peer *peer;

	for (peer = peers->peers; peer; peer = peer->hh.next)
		if (peer->leaves.stale || peer->leaves.reading || peer->leaves.came || peer->kicked ||
		    is_unread(peer))
			return true;
	return false;
}

static void on_settle(evutil_socket_t fd, short what, void *userdata)
{
	struct peers *peers = userdata;

	/* Domain 0, which tells of all, has time of its own to say that it will. */
	if (told_is_awaited(peers) || ((is_more_awaited(peers) || is_busy(peers)) && --peers->all.settling)) {
		look_again_soon(peers);
		return;
	}
	if (peers->all.state)
		peers->all.state = ALL_THERE;
	peers->all.read = true;
	registry_tell(peers->options.registry, REGISTRY_ALL, 0);
}

static void peers_all_settle(struct peers *peers)
{
	peers->all.settling = peers->options.domains ? READ_TIMES : SETTLE_TIMES;
	look_again_soon(peers);
}

static void peers_all_on_asked(void *userdata, int error, const char *value, size_t size)
{
	struct peers *peers = userdata;

	peers->all.failed = error < 0;
	if (error < 0)
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_WARNING,
			    "peers: can't write %s/asks: %s; daemons that ran before may not be listed",
			    peers->root, strerror(-error));
	peers_all_settle(peers);
}

static void peers_all_ask(struct peers *peers)
{
	char path[PEERS_PATH_SIZE], value[PEERS_INSTANCE_SIZE + 16];
	int r;

	peers->all.state = peers->options.config->presence_private ? ALL_THERE : ALL_AWAITED;
	if (peers->options.config->presence_private)
		return;
	peers->all.listed = false;
	peers->all.settling = 1; /* if XenStore doesn't answer */
	timer_set(peers->all.settle, SETTLE_MS * SETTLE_TIMES);
	store_cancel(&peers->all.request);
	snprintf(path, sizeof(path), "%s/asks", peers->root);
	snprintf(value, sizeof(value), "%d %s", PEERS_MAJOR, peers->options.self->instance_text);
	r = store_write(peers->store, path, value, peers->options.self->domid, STORE_EVERYONE,
			peers_all_on_asked, peers, &peers->all.request);
	if (r < 0)
		peers_all_on_asked(peers, r, NULL, 0);
}

bool peers_want_all(struct peers *peers)
{
	if (peers->options.domains)
		return peers->all.read;
	timer_set(peers->all.end, ALL_MS);
	if (!peers->all.state) {
		peers->all.state = ALL_AWAITED;
		for (struct peer *peer = peers->peers; peer; peer = peer->hh.next) {
			peer->is_stranger = false;
			forget_not(peer);
		}
		peers_all_ask(peers);
	}
	return peers->all.state == ALL_THERE;
}

void all_start(struct peers *peers)
{
	peers->all.read = false;
	if (peers->options.domains)
		peers_all_settle(peers);
	else if (peers->callbacks.all_watched && peers->callbacks.all_watched(peers->userdata))
		peers_want_all(peers);
}

bool all_follows(const struct peers *peers, uint32_t domid)
{
	return peers->all.state || peers->options.domains || domid == 0;
}

void all_heard(struct peers *peers)
{
	peers->all.heard = true;
}

void all_listed(struct peers *peers)
{
	peers->all.heard = peers->all.listed = true;
}

void all_again(struct peers *peers)
{
	if (peers->all.state)
		peers_all_ask(peers);
}

int all_init(struct peers *peers)
{
	peers->all.settle = evtimer_new(peers->base, on_settle, peers);
	peers->all.end = evtimer_new(peers->base, on_all_end, peers);
	return peers->all.settle && peers->all.end ? 0 : -ENOMEM;
}

void all_destroy(struct peers *peers)
{
	store_cancel(&peers->all.request);
	free_event(peers->all.settle);
	free_event(peers->all.end);
}
