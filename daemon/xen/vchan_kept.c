/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeps the granted vchans that were closed here while their peers may still have them mapped. Linux counts
 * such pages as given back, but the entries of the grant table stay in use for as long as the peer likes, and
 * a domain has 32,768 of them in all. So they are neither given back nor left alone: the peer gets the same
 * ones again for its next vchan.
 *
 *   closed here ──its live byte is 0: it has let go──▶ let go ──at once, or after a while──▶ given back
 *        └──else──▶ kept ──the byte is cleared: an event──▶ let go
 *                     ├──for a while the byte says that nobody has mapped it──▶ let go
 *                     ├──its domain is gone, says the hypervisor──▶ given back
 *                     └──the peer is to have another vchan──▶ granted again
 *   let go ──likewise──▶ granted again
 *
 * A domain has VCHANS_MAX granted ones at most, kept or not: present rings, those of a move, and a pair that
 * it left.
 *
 * The kernel of an honest peer clears the byte whenever the pages are unmapped, however its daemon ends. A
 * hostile one clears it as well and keeps its mapping, or never shows that it has one, which can't be seen
 * from here. So what is given back on a peer's word is counted: after WORD_PAGES_MAX pages it waits before
 * that, a second and then twice as long each time, unless others need the pages now; and a peer that comes
 * back meanwhile gets them again, which no word is needed for. Each day one wait is half as long again, and
 * an eighth of these pages is forgotten.
 *
 * A peer that still has the one mapped that was closed last may not have looked yet, and would take the next
 * one for it: the byte that tells of the end lies in the page that is made anew, and to unmap it later would
 * end the next one. So as long as there may be another one, that one stays as it is.
 */

#include <errno.h>
#include <stdlib.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/timer.h"
#include "daemon/xen/vchan_internal.h"

#define LOOK_MS	    1000
#define ASK_MOST_MS 60000
#define UNMAPPED_MS 10000 /* for so long the peer may still map what it was granted */
#define WAIT_MS	    1000u
#define WAIT_TWICE  20 /* so often at most it is doubled */
#define DAY_MS	    86400000u
#define DAY_PAGES   (WORD_PAGES_MAX / 8u)
#define WORDS_MAX   65536u

/* What was given back since a domain said that it had let go. */
struct word {
	uint32_t domid;
	uint32_t pages;
	unsigned waits;
	uint64_t since_ms; /* a part of both is forgotten each day since then */
	UT_hash_handle hh;
};

static bool has_let_go(const struct vchan *vchan)
{
	return __atomic_load_n(&vchan->control.ring->cli_live, __ATOMIC_ACQUIRE) == LIVE_CLOSED;
}

static bool is_connected(const struct vchan *vchan)
{
	return __atomic_load_n(&vchan->control.ring->cli_live, __ATOMIC_ACQUIRE) == LIVE_CONNECTED;
}

/* Nobody has shown that he has it mapped, for a while. */
static bool is_unmapped(const struct vchan *vchan)
{
	return __atomic_load_n(&vchan->control.ring->cli_live, __ATOMIC_ACQUIRE) == LIVE_WAITING &&
	       clock_ms_since(vchan->kept_ms) >= UNMAPPED_MS;
}

static bool is_granted(const struct vchan *vchan)
{
	return vchan->control.is_server != 0;
}

static void vchan_kept_give_back(struct vchan *vchan)
{
	struct vchan_host *host = vchan->host;

	if (vchan->is_kept)
		host->kept.count--;
	host->pages_granted -= vchan->pages;
	vchan_tear_down(vchan);
}

void kept_drop(struct vchan *vchan)
{
	struct vchan_host *host = vchan->host;

	vchan_kept_give_back(vchan);
	if (host->freed)
		host->freed(host->freed_userdata);
}

/* So that a peer that has been honest for long isn't taken for a liar for ever. */
static void forget_a_part(struct word *word)
{
	while (clock_ms_since(word->since_ms) >= DAY_MS && (word->pages || word->waits)) {
		word->since_ms += DAY_MS;
		word->pages -= word->pages < DAY_PAGES ? word->pages : DAY_PAGES;
		word->waits -= word->waits > 0;
	}
	if (!word->pages && !word->waits)
		word->since_ms = clock_ms();
}

/* Less and less often: a hypervisor that was built for debugging prints a line each time. */
static bool is_asked_about_now(struct vchan *vchan)
{
	uint64_t half = clock_ms_since(vchan->kept_ms) / 2;

	if (clock_ms_since(vchan->asked_ms) < (half < ASK_MOST_MS ? half : ASK_MOST_MS))
		return false;
	vchan->asked_ms = clock_ms();
	return true;
}

/* No port 0 can be bound to, but only of a domain that isn't there the hypervisor says so. */
bool vchan_host_lacks(struct vchan_host *host, uint32_t domid)
{
	xenevtchn_port_or_error_t port;

	errno = 0;
	port = xenevtchn_bind_interdomain(host->evtchn, domid, 0);
	if (port >= 0)
		xenevtchn_unbind(host->evtchn, (evtchn_port_t)port);
	return port < 0 && errno == ESRCH;
}

/* Forgets what is known of some domains that are gone. Nothing else tells of the end of one of which nothing
 * is kept; with two looks for each that is new, all are looked at in time. */
static void forget_some(struct vchan_host *host)
{
	struct word *word;

	for (int i = 0; i < 2 && (word = host->kept.words); i++) {
		HASH_DEL(host->kept.words, word);
		if (!vchan_host_lacks(host, word->domid)) { /* behind all others */
			HASH_ADD(hh, host->kept.words, domid, sizeof(word->domid), word);
			if (HASH_ADDED(word))
				continue;
		}
		free(word);
	}
}

static struct word *word_of(struct vchan_host *host, uint32_t domid)
{
	struct word *word;

	HASH_FIND(hh, host->kept.words, &domid, sizeof(domid), word);
	if (word) {
		forget_a_part(word);
		return word;
	}
	word = calloc(1, sizeof(*word));
	if (!word)
		return NULL;
	word->domid = domid;
	word->since_ms = clock_ms();
	forget_some(host);
	HASH_ADD(hh, host->kept.words, domid, sizeof(word->domid), word);
	if (!HASH_ADDED(word)) {
		free(word);
		return NULL;
	}
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

/* Whether what the peer has let go of is given back now: else when it is time for it. */
static bool is_due(struct vchan *vchan)
{
	struct word *word = word_of(vchan->host, vchan->domid);

	if (!word) /* no memory: the next look */
		return false;
	if (!vchan->free_ms && word->pages > WORD_PAGES_MAX - vchan->pages)
		vchan->free_ms = clock_ms() + ((uint64_t)WAIT_MS << word->waits);
	if (vchan->free_ms > clock_ms())
		return false;
	if (!vchan->free_ms)
		word->pages += vchan->pages;
	else if (word->waits < WAIT_TWICE)
		word->waits++;
	return true;
}

/* Frees what the peer has let go of, and would be freed later, for another one. */
static bool free_early(struct vchan *vchan)
{
	struct word *word = word_of(vchan->host, vchan->domid);

	if (!word)
		return false;
	if (word->waits < WAIT_TWICE)
		word->waits++;
	vchan_kept_give_back(vchan);
	return true;
}

void kept_look_at(struct vchan *vchan)
{
	if (has_let_go(vchan) && is_due(vchan))
		kept_drop(vchan);
}

static void vchan_kept_on_look(evutil_socket_t fd, short what, void *userdata)
{
	struct vchan_host *host = userdata;
	struct vchan *vchan, *next;

	HASH_ITER(hh, host->vchans, vchan, next) {
		if (!vchan->is_kept)
			continue;
		if (has_let_go(vchan) || is_unmapped(vchan)) {
			if (is_due(vchan))
				kept_drop(vchan);
		} else if (is_asked_about_now(vchan) && vchan_host_lacks(host, vchan->domid)) {
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
	if (vchan->is_stale || vchan->restores != vchan_host_restores(host)) {
		kept_drop(vchan);
		return;
	}
	if (!host->kept.look)
		host->kept.look = evtimer_new(event_get_base(host->events), vchan_kept_on_look, host);
	if (!host->kept.look) {
		kept_drop(vchan);
		return;
	}
	vchan->is_kept = true;
	vchan->free_ms = 0;
	vchan->kept_ms = vchan->asked_ms = clock_ms();
	vchan->closes = ++host->kept.closes;
	vchan_set_event(vchan, NULL, NULL);
	host->kept.count++;
	timer_start(host->kept.look, LOOK_MS);
	kept_look_at(vchan);
}

/* Of those that would do: one of the very size before a larger one, and what was closed earlier before what
 * was closed later. */
static bool is_better(const struct vchan *vchan, const struct vchan *than)
{
	if (!than || vchan->pages != than->pages)
		return !than || vchan->pages < than->pages;
	return vchan->closes < than->closes;
}

static void vchan_kept_take(struct vchan *vchan)
{
	struct vchan_host *host = vchan->host;

	host->kept.count--;
	vchan->is_kept = vchan->was_connected = false;
	vchan->had_mapper = !has_let_go(vchan);
	if (vchan->is_masked)
		xenevtchn_unmask(host->evtchn, vchan->port);
	vchan->is_masked = false;
	vchan_clear_rings(vchan); /* the number may be another domain's meanwhile */
}

/* Counts what is granted to the domain, and finds what was closed last of what it has mapped still. */
static unsigned count_granted(struct vchan_host *host, uint32_t domid, struct vchan **last)
{
	struct vchan *vchan, *next;
	unsigned count = 0;

	*last = NULL;
	HASH_ITER(hh, host->vchans, vchan, next) {
		if (vchan->domid != domid || !is_granted(vchan))
			continue;
		count++;
		if (vchan->is_kept && is_connected(vchan) && (!*last || vchan->closes > (*last)->closes))
			*last = vchan;
	}
	return count;
}

/* Gives back what a domain has let go of since it was looked at. Its daemon has a port bound to it for a
 * second more, so that it couldn't bind it again. */
static void look_at_all_of(struct vchan_host *host, uint32_t domid)
{
	struct vchan *vchan, *next;

	HASH_ITER(hh, host->vchans, vchan, next)
		if (vchan->domid == domid && vchan->is_kept && has_let_go(vchan) && is_due(vchan))
			vchan_kept_give_back(vchan);
}

int kept_take(struct vchan_host *host, uint32_t domid, int read_order, int write_order, bool last_too,
	      struct vchan **result)
{
	struct vchan *vchan, *next, *last, *spared = NULL, *fits = NULL, *waits = NULL, *smaller = NULL;
	unsigned count;

	look_at_all_of(host, domid);
	count = count_granted(host, domid, &last);
	HASH_ITER(hh, host->vchans, vchan, next) {
		const struct libxenvchan *control = &vchan->control;
		bool is_same = control->read.order == read_order && control->write.order == write_order;

		if (vchan->domid != domid || !vchan->is_kept || vchan->restores != vchan_host_restores(host))
			continue;
		if (control->read.order < read_order || control->write.order < write_order)
			smaller = vchan->free_ms ? vchan : smaller;
		else if (!is_same && vchan->free_ms)
			waits = is_better(vchan, waits) ? vchan : waits;
		else if (vchan == last)
			spared = vchan;
		else
			fits = is_better(vchan, fits) ? vchan : fits;
	}
	/* What it has let go of is to be given back, but nothing smaller can be granted before that. */
	if (!fits && count >= VCHANS_MAX)
		fits = waits ? waits : spared;
	if (!fits && last_too)
		fits = spared;
	if (!fits && count >= VCHANS_MAX && smaller) {
		/* They only become larger by this, so it can't go on for ever on the peer's word. */
		free_early(smaller);
		return -ENOENT;
	}
	if (!fits)
		return count < VCHANS_MAX ? -ENOENT : -EBUSY;
	vchan_kept_take(fits);
	*result = fits;
	return 0;
}

bool kept_make_room(struct vchan_host *host)
{
	struct vchan *vchan, *next;
	bool any = false;

	HASH_ITER(hh, host->vchans, vchan, next)
		if (vchan->is_kept && has_let_go(vchan) && free_early(vchan))
			any = true;
	return any;
}

/* Counts what is still kept: it is given back without even a word. A peer that has just been left may look
 * yet. */
static void count_kept(struct vchan_host *host)
{
	struct vchan *vchan, *next;
	struct word *word;

	HASH_ITER(hh, host->vchans, vchan, next)
		if (vchan->is_kept && !has_let_go(vchan) && clock_ms_since(vchan->kept_ms) >= UNMAPPED_MS &&
		    (word = word_of(host, vchan->domid)))
			word->pages += vchan->pages;
}

static void word_image(struct image *image, struct vchan_host *host, const struct word *had)
{
	struct word fields = had ? *had : (struct word){0}, *word;

	image_u32(image, &fields.domid);
	image_upto(image, &fields.pages, INT32_MAX);
	image_upto(image, &fields.waits, WAIT_TWICE);
	image_u64(image, &fields.since_ms);
	if (had || image->error)
		return;
	word = word_of(host, fields.domid);
	if (!word) {
		image_fail(image, -ENOMEM);
		return;
	}
	word->pages = fields.pages;
	word->waits = fields.waits;
	if (fields.since_ms < word->since_ms)
		word->since_ms = fields.since_ms;
}

void vchan_host_words_image(struct image *image, struct vchan_host *host)
{
	struct word *word, *next;
	uint32_t count;

	vchan_host_keeper_image(image, host);
	if (!image->is_read)
		count_kept(host);
	count = HASH_COUNT(host->kept.words);
	image_upto(image, &count, WORDS_MAX);
	if (image->is_read)
		for (; count && !image->error; count--)
			word_image(image, host, NULL);
	else
		HASH_ITER(hh, host->kept.words, word, next)
			word_image(image, host, word);
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
