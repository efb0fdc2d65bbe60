/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/vchan_kept.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/event.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/timer.h"
#include "daemon/xen/vchan_internal.h"

#define LOOK_MS	   1000
#define WAIT_MS	   1000u
#define WAIT_TWICE 20 /* so often at most it is doubled */

/* What was given back since a domain said that it had let go. */
struct word {
	uint32_t domid;
	uint32_t pages;
	unsigned waits;
	UT_hash_handle hh;
};

static bool has_let_go(const struct vchan *vchan)
{
	return __atomic_load_n(&vchan->control.ring->cli_live, __ATOMIC_ACQUIRE) == LIVE_CLOSED;
}

static bool is_granted(const struct vchan *vchan)
{
	return vchan->control.is_server != 0;
}

void kept_drop(struct vchan *vchan)
{
	struct vchan_host *host = vchan->host;

	if (vchan->is_kept)
		host->kept.count--;
	host->pages_granted -= vchan->pages;
	vchan_tear_down(vchan);
	if (host->freed)
		host->freed(host->freed_userdata);
}

static struct word *word_of(struct vchan_host *host, uint32_t domid)
{
	struct word *word;

	HASH_FIND(hh, host->kept.words, &domid, sizeof(domid), word);
	if (word)
		return word;
	word = calloc(1, sizeof(*word));
	if (!word)
		return NULL;
	word->domid = domid;
	HASH_ADD(hh, host->kept.words, domid, sizeof(word->domid), word);
	return word;
}

static void forget_word(struct vchan_host *host, uint32_t domid)
{
	struct word *word;

	HASH_FIND(hh, host->kept.words, &domid, sizeof(domid), word);
	if (!word)
		return;
	HASH_DEL(host->kept.words, word);
	free(word);
}

/* Frees what the peer has let go of, now or when it is time for it. */
static void let_go(struct vchan *vchan)
{
	struct word *word = word_of(vchan->host, vchan->domid);

	if (!word) /* no memory: the next look */
		return;
	if (!vchan->free_ms && word->pages > WORD_PAGES_MAX - vchan->pages)
		vchan->free_ms = clock_ms() + ((uint64_t)WAIT_MS << word->waits);
	if (vchan->free_ms > clock_ms())
		return;
	if (!vchan->free_ms)
		word->pages += vchan->pages;
	else if (word->waits < WAIT_TWICE)
		word->waits++;
	kept_drop(vchan);
}

void kept_look_at(struct vchan *vchan)
{
	if (has_let_go(vchan))
		let_go(vchan);
}

/* Asks the hypervisor: no port 0 can be bound to, but only of a domain that isn't there it says so. */
static bool is_gone(struct vchan_host *host, uint32_t domid)
{
	xenevtchn_port_or_error_t port;

	errno = 0;
	port = xenevtchn_bind_interdomain(host->evtchn, domid, 0);
	if (port >= 0)
		xenevtchn_unbind(host->evtchn, (evtchn_port_t)port);
	return port < 0 && errno == ESRCH;
}

static void on_look(evutil_socket_t fd, short what, void *userdata)
{
	struct vchan_host *host = userdata;
	struct vchan *vchan, *next;

	HASH_ITER(hh, host->vchans, vchan, next) {
		if (!vchan->is_kept)
			continue;
		if (has_let_go(vchan)) {
			let_go(vchan);
		} else if (is_gone(host, vchan->domid)) {
			forget_word(host, vchan->domid);
			kept_drop(vchan);
		}
	}
	if (host->kept.count)
		timer_start(host->kept.look, LOOK_MS);
}

void kept_add(struct vchan *vchan)
{
	struct vchan_host *host = vchan->host;

	/* After a restore the references lead nowhere, for the peer, too. */
	if (vchan->is_stale || vchan->thaws != vchan_host_restores(host)) {
		kept_drop(vchan);
		return;
	}
	if (!host->kept.look)
		host->kept.look = evtimer_new(event_get_base(host->events), on_look, host);
	if (!host->kept.look) {
		kept_drop(vchan);
		return;
	}
	vchan->is_kept = true;
	vchan->free_ms = 0;
	vchan_set_event(vchan, NULL, NULL);
	host->kept.count++;
	timer_start(host->kept.look, LOOK_MS);
	kept_look_at(vchan);
}

int kept_take(struct vchan_host *host, uint32_t domid, int read_order, int write_order, struct vchan **result)
{
	struct vchan *vchan, *next, *larger = NULL, *let_go = NULL, *taken = NULL;
	unsigned count = 0;

	HASH_ITER(hh, host->vchans, vchan, next) {
		const struct libxenvchan *control = &vchan->control;

		if (vchan->domid != domid || !is_granted(vchan))
			continue;
		count++;
		if (!vchan->is_kept || vchan->thaws != vchan_host_restores(host))
			continue;
		if (control->read.order == read_order && control->write.order == write_order)
			taken = vchan;
		else if (control->read.order >= read_order && control->write.order >= write_order)
			*(vchan->free_ms ? &let_go : &larger) = vchan;
	}
	if (!taken)
		taken = larger;
	/* What it has let go of is to be given back, but nothing smaller can be granted before that. */
	if (!taken && count >= VCHANS_MAX)
		taken = let_go;
	if (!taken)
		return count < VCHANS_MAX ? -ENOENT : -EBUSY;
	host->kept.count--;
	taken->is_kept = taken->was_connected = false;
	taken->sent = taken->received = 0;
	if (taken->is_masked)
		xenevtchn_unmask(host->evtchn, taken->port);
	taken->is_masked = false;
	*result = taken;
	return 0;
}

bool kept_make_room(struct vchan_host *host)
{
	struct vchan *vchan, *next;
	bool any = false;

	HASH_ITER(hh, host->vchans, vchan, next) {
		struct word *word = vchan->is_kept && has_let_go(vchan) ? word_of(host, vchan->domid) : NULL;

		if (!word)
			continue;
		if (word->waits < WAIT_TWICE)
			word->waits++;
		any = true;
		host->kept.count--;
		host->pages_granted -= vchan->pages;
		vchan_tear_down(vchan);
	}
	return any;
}

void kept_destroy(struct vchan_host *host)
{
	struct vchan *vchan, *next;
	struct word *word, *next_word;

	HASH_ITER(hh, host->vchans, vchan, next)
		if (vchan->is_kept)
			vchan_tear_down(vchan);
	HASH_ITER(hh, host->kept.words, word, next_word) {
		HASH_DEL(host->kept.words, word);
		free(word);
	}
	free_event(host->kept.look);
}
