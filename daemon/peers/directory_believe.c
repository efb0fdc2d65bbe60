/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/directory_believe.h"

#include <errno.h>
#include <string.h>

#include "daemon/peers/directory_internal.h"
#include "base/log.h"
#include "base/timer.h"
#include "wire/frame.h"

#define WANT_FIRST_MS 250 /* between attempts to link: a failed one costs both sides a rendezvous */
#define WANT_LAST_MS  60000

static void forget_others(struct directory *directory, bool all)
{
	struct domain *domain, *next;

	HASH_ITER(hh, directory->domains, domain, next)
		if (domain->domid != directory->self->domid && (all || !domain->seen))
			directory_forget_domain(directory, domain);
}

static void on_forget(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	log_info(
		"directory: domain 0's daemon hasn't come back: names of other domains are unknown from now on");
	directory->served = false;
	forget_others(directory, true);
}

/* Asks for the link until it is up or domain 0's daemon has gone; while one attempt is under way, the next
 * has no effect. */
static void on_want(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	if (!directory->present || directory->linked)
		return;
	timer_start(directory->want, directory->want_ms);
	directory->want_ms = directory->want_ms * 2 < WANT_LAST_MS ? directory->want_ms * 2 : WANT_LAST_MS;
	directory->callbacks.want_link(directory->userdata);
}

void directory_presence(struct directory *directory, bool up)
{
	if (directory->self->domid == 0)
		return;
	directory->present = up;
	evtimer_del(directory->want);
	directory->want_ms = WANT_FIRST_MS;
	if (up)
		timer_start(directory->want, 0);
}

void believe_link(struct directory *directory, uint32_t domid, bool up)
{
	if (domid != 0)
		return;
	directory->linked = up;
	directory->listing = false;
	if (up) {
		evtimer_del(directory->want);
		return;
	}
	directory->callbacks.told(directory->userdata, false);
	if (directory->present)
		timer_start(directory->want, directory->want_ms);
	if (directory->served)
		timer_start(directory->forget, directory->believed_ms);
}

void believe_link_anew(struct directory *directory, uint32_t domid)
{
	if (domid == 0 && !directory->linked)
		directory_presence(directory, directory->present);
}

static void take_entry(struct directory *directory, const struct frame_directory_entry *entry)
{
	struct domain *domain;
	char name[DOMAIN_NAME_MAX + 1] = "";

	if (entry->state == DIRECTORY_CHANGED) {
		domain = directory_find(directory, entry->domid);
		if (domain && (entry->leaves & CHANGED_AWAY)) {
			domain->away = true;
			log_limited(LOG_LINK, LOG_BY_DOMAIN(entry->domid), LOG_LEVEL_INFO,
				    "directory: domain %u is away, and domain 0 leads to it", entry->domid);
			directory->callbacks.changed(directory->userdata, domain->domid, domain->name,
						     domain->name);
		}
		if (entry->leaves != CHANGED_AWAY)
			directory->callbacks.leaves_changed(directory->userdata, entry->domid, entry->leaves);
		return;
	}
	if (entry->domid == directory->self->domid) /* we read our own nodes ourselves */
		return;
	if (entry->state == DIRECTORY_REMOVED) {
		domain = directory_find(directory, entry->domid);
		if (domain)
			directory_forget_domain(directory, domain);
		return;
	}
	domain = directory_get(directory, entry->domid);
	if (!domain)
		return;
	domain->seen = true;
	domain->away = false;
	directory_set_uuid(directory, domain, entry->uuid);
	memcpy(name, entry->name.data, entry->name.size);
	if (!directory_name_is_usable(name, entry->name.size))
		name[0] = '\0';
	directory_set_name(directory, domain, name, strlen(name));
	directory_set_known(directory, domain);
}

int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length)
{
	struct frame_directory frame, unchecked;
	struct frame_directory_entry entry;
	struct domain *domain;
	int r = frame_directory_decode(payload, length, &frame);

	if (r < 0 || directory->self->domid == 0)
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
		for (domain = directory->domains; domain; domain = domain->hh.next)
			domain->seen = false;
	}
	while (frame_directory_next(&frame, &entry) > 0)
		take_entry(directory, &entry);
	if (frame.flags & DIRECTORY_TELLS)
		directory->callbacks.told(directory->userdata, true);
	if (!directory->listing || (frame.flags & DIRECTORY_MORE))
		return 0;
	directory->listing = false;
	forget_others(directory, false);
	if (!directory->served)
		log_limited(LOG_LINK, LOG_BY_DOMAIN(0), LOG_LEVEL_INFO,
			    "directory: domain 0 tells the names of %u domains",
			    HASH_COUNT(directory->domains));
	directory->served = true;
	directory->want_ms = WANT_FIRST_MS;
	evtimer_del(directory->forget);
	return 0;
}

void believe_reset(struct directory *directory)
{
	directory->present = directory->linked = directory->served = directory->listing = false;
	directory->want_ms = WANT_FIRST_MS;
	evtimer_del(directory->want);
	evtimer_del(directory->forget);
}

int believe_init(struct directory *directory, struct event_base *base)
{
	directory->want_ms = WANT_FIRST_MS;
	directory->want = evtimer_new(base, on_want, directory);
	directory->forget = evtimer_new(base, on_forget, directory);
	return directory->want && directory->forget ? 0 : -ENOMEM;
}

void believe_destroy(struct directory *directory)
{
	if (directory->want)
		event_free(directory->want);
	if (directory->forget)
		event_free(directory->forget);
}
