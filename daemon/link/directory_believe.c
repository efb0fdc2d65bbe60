/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/directory_internal.h"

#include <errno.h>
#include <string.h>

#include "daemon/link/link.h"
#include "daemon/peers/peers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "wire/frame.h"
#include "wire/retry.h"

static void on_forget(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	log_info(
		"directory: domain 0's daemon hasn't come back: names of other domains are unknown from now on");
	directory->zero->tells = false;
	known_forget_names(directory->with.known, UINT64_MAX, false);
}

static void want_later(struct directory *directory)
{
	directory->want_ms = retry_pause(RETRY_OTHERS, directory->want_ms);
	timer_start(directory->want, directory->want_ms);
}

/* Asks for the link until it is up or domain 0's daemon has gone; while one attempt is under way, the next
 * has no effect. */
static void on_want(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	int error;

	if (!directory->zero->is_there || directory->linked)
		return;
	want_later(directory);
	links_want(directory->with.links, peer_domain(0), NULL, &error); /* it is asked again if this fails */
}

void believe_presence(struct directory *directory, bool up)
{
	directory->zero->is_there = up;
	evtimer_del(directory->want);
	directory->want_ms = 0;
	if (up)
		timer_start(directory->want, 0);
}

void believe_link(struct directory *directory, enum known_what what, uint32_t domid)
{
	if (domid != 0)
		return;
	if (what == KNOWN_LINK_ENDED) {
		if (!directory->linked) /* without the pauses that have grown while nobody could make one */
			believe_presence(directory, directory->zero->is_there);
		return;
	}
	directory->linked = what == KNOWN_LINK_UP;
	directory->listing = false;
	if (directory->linked) {
		evtimer_del(directory->want);
		return;
	}
	peers_told(directory->with.peers, false);
	if (directory->zero->is_there)
		want_later(directory);
	if (!directory->zero->tells)
		return;
	if (!directory->zero->lost_ms)
		directory->zero->lost_ms = clock_ms();
	directory_believe_on(directory);
}

void directory_believe_on(struct directory *directory)
{
	uint64_t lost_for = clock_ms_since(directory->zero->lost_ms);

	if (directory->zero->tells)
		timer_start(directory->forget, lost_for < directory->with.believed_ms
						       ? directory->with.believed_ms - (unsigned)lost_for
						       : 0);
}

/* Takes what has changed in XenStore, and who is away. Of this domain itself it is told that it asks, behind
 * all that it has asked for. */
static void take_changed(struct directory *directory, const struct frame_directory_entry *entry)
{
	struct known_domain *domain = known_find(directory->with.known, entry->domid);

	if (domain && domain->is_complete && (entry->leaves & CHANGED_AWAY) &&
	    entry->domid != directory->with.self->domid) {
		domain->is_led_to = true;
		log_limited(LOG_LINK, LOG_BY_DOMAIN(entry->domid), LOG_LEVEL_INFO,
			    "directory: domain %u is away, and domain 0 leads to it", entry->domid);
		known_touch(directory->with.known, domain);
	}
	if (entry->leaves != CHANGED_AWAY)
		peers_changed(directory->with.peers,
			      &(struct peers_change){.domid = entry->domid, .leaves = entry->leaves});
}

static void take_entry(struct directory *directory, const struct frame_directory_entry *entry)
{
	struct known *known = directory->with.known;
	struct known_domain *domain;
	char name[DOMAIN_NAME_MAX + 1] = "";

	if (entry->state == DIRECTORY_CHANGED) {
		take_changed(directory, entry);
		return;
	}
	if (entry->domid == directory->with.self->domid) /* we read our own nodes ourselves */
		return;
	if (entry->state == DIRECTORY_REMOVED) {
		known_forget_name(known, entry->domid);
		return;
	}
	domain = known_get(known, entry->domid);
	if (!domain)
		return;
	domain->told = directory->lists;
	domain->is_led_to = false;
	known_set_uuid(known, domain, entry->uuid);
	memcpy(name, entry->name.data, entry->name.size);
	if (!known_name_is_usable(name, entry->name.size))
		name[0] = '\0';
	known_set_name(known, domain, name, strlen(name));
	known_set_complete(known, domain, true);
}

int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length)
{
	struct frame_directory frame, unchecked;
	struct frame_directory_entry entry;
	int r = frame_directory_decode(payload, length, &frame);

	if (r < 0 || directory_in_domain_0(directory))
		return -EPROTO;
	/* The whole frame is checked before any of it is used. */
	unchecked = frame;
	do
		r = frame_directory_next(&unchecked, &entry);
	while (r > 0);
	if (r < 0)
		return r;
	if (frame.flags & DIRECTORY_REPLACES) {
		directory->listing = true;
		directory->lists++;
		peers_told(directory->with.peers, true);
	}
	while (frame_directory_next(&frame, &entry) > 0)
		take_entry(directory, &entry);
	if (!directory->listing || (frame.flags & DIRECTORY_MORE))
		return 0;
	directory->listing = false;
	known_forget_names(directory->with.known, directory->lists, false);
	if (!directory->zero->tells)
		log_limited(LOG_LINK, LOG_BY_DOMAIN(0), LOG_LEVEL_INFO,
			    "directory: domain 0 tells the names of the other domains");
	directory->zero->tells = true;
	directory->zero->lost_ms = 0;
	directory->want_ms = 0;
	evtimer_del(directory->forget);
	return 0;
}

void directory_restart(struct directory *directory)
{
	directory->zero->is_there = directory->linked = directory->zero->tells = directory->listing = false;
	directory->zero->lost_ms = 0;
	directory->want_ms = 0;
	evtimer_del(directory->want);
	evtimer_del(directory->forget);
}

int believe_init(struct directory *directory, struct event_base *base)
{
	directory->want = evtimer_new(base, on_want, directory);
	directory->forget = evtimer_new(base, on_forget, directory);
	return directory->want && directory->forget ? 0 : -ENOMEM;
}

void believe_destroy(struct directory *directory)
{
	free_event(directory->want);
	free_event(directory->forget);
}
