/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/directory_serve.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/peers/directory_internal.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "wire/frame.h"

#define RESEND_MS     1000 /* to a guest whose link had no room for its list */
#define FRAME_PAYLOAD 496u /* with its header in half of the smallest ring */

/* In domain 0: a guest whose link is up. */
struct guest {
	uint32_t domid;
	bool wants_all;
	bool is_in_doubt; /* what it may see */
	/* a bit for each domain that it knows from us, so that it isn't told of the end of others */
	uint8_t told[DOMID_MAX / 8 + 1];
	UT_hash_handle hh;
};

static struct guest *guest_find(struct directory *directory, uint32_t domid)
{
	struct guest *guest;

	HASH_FIND(hh, directory->guests, &domid, sizeof(domid), guest);
	return guest;
}

/* Entries on their way into frames. */
struct entry_batch {
	struct directory *directory;
	const struct guest *guest;
	struct frame_directory head;
	uint32_t length;
	uint8_t payload[FRAME_PAYLOAD];
	int error;
};

static void batch_begin(struct entry_batch *batch, struct directory *directory, const struct guest *guest,
			uint32_t flags)
{
	*batch = (struct entry_batch){
		.directory = directory,
		.guest = guest,
		.head.flags = flags,
		.length = DIRECTORY_HEAD_SIZE,
	};
}

static void batch_send(struct entry_batch *batch, uint32_t more)
{
	struct directory *directory = batch->directory;

	batch->head.flags |= more;
	frame_directory_encode(&batch->head, batch->payload);
	if (batch->error == 0)
		batch->error = directory->callbacks.send(directory->userdata, batch->guest->domid,
							 batch->payload, batch->length);
	batch->head = (struct frame_directory){.flags = 0};
	batch->length = DIRECTORY_HEAD_SIZE;
}

static void batch_add(struct entry_batch *batch, const struct domain *domain, enum directory_state state,
		      uint32_t more)
{
	struct frame_directory_entry entry = {.domid = domain->domid, .state = state};

	if (batch->length + DIRECTORY_ENTRY_MAX > sizeof(batch->payload))
		batch_send(batch, more);
	if (state == DIRECTORY_CHANGED)
		entry.leaves = CHANGED_AWAY;
	if (state == DIRECTORY_PRESENT) {
		memcpy(entry.uuid, domain->uuid, sizeof(entry.uuid));
		entry.name = frame_text_of(domain->name);
	}
	batch->length += frame_directory_entry_encode(&entry, batch->payload + batch->length);
	batch->head.count++;
}

static bool is_told(const struct guest *guest, uint32_t domid)
{
	return guest->told[domid / 8] >> (domid % 8) & 1;
}

static void set_told(struct guest *guest, uint32_t domid, bool told)
{
	uint8_t bit = (uint8_t)(1u << (domid % 8));

	guest->told[domid / 8] =
		(uint8_t)(told ? guest->told[domid / 8] | bit : guest->told[domid / 8] & ~bit);
}

static bool may_see(struct directory *directory, const struct guest *guest, const struct domain *domain)
{
	/* A domain that wasn't read yet would look like one without a name. */
	if (domain->removed || !domain->known)
		return false;
	return domain->domid == 0 || domain->domid == guest->domid ||
	       access_sees(directory->access, guest->domid, domain->domid);
}

static int tell_all(struct directory *directory, struct guest *guest)
{
	const struct domain *domain;
	struct entry_batch batch;
	bool tells = directory->callbacks.tells(directory->userdata, guest->domid, true);

	batch_begin(&batch, directory, guest, DIRECTORY_REPLACES | (tells ? DIRECTORY_TELLS : 0));
	memset(guest->told, 0, sizeof(guest->told));
	for (domain = directory->domains; domain; domain = domain->hh.next) {
		if (!may_see(directory, guest, domain))
			continue;
		set_told(guest, domain->domid, true);
		batch_add(&batch, domain, DIRECTORY_PRESENT, DIRECTORY_MORE);
	}
	batch_send(&batch, 0);
	return batch.error;
}

/* Whether the guest goes on knowing the name of a domain that was perhaps only saved. XenStore has forgotten it, so nobody
 * can say any more whether policy hides it: that nothing has changed since the guest was told must do. */
static bool is_kept(struct directory *directory, const struct guest *guest, const struct domain *domain)
{
	return domain->removed && is_told(guest, domain->domid) && !guest->is_in_doubt &&
	       clock_ms() < domain->gone_ms + directory->kept_ms && directory->callbacks.leads_on &&
	       directory->callbacks.leads_on(directory->userdata, guest->domid, domain->domid);
}

void serve_away_over(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	struct domain *domain;
	uint64_t now = clock_ms(), next = UINT64_MAX;

	for (domain = directory->domains; domain; domain = domain->hh.next) {
		uint64_t until = domain->gone_ms + directory->kept_ms;

		if (!domain->removed || !domain->away)
			continue;
		if (now < until) {
			next = until < next ? until : next;
			continue;
		}
		domain->away = false;
		directory_has_changed(directory, domain);
	}
	if (next != UINT64_MAX)
		timer_start(directory->away_over, (unsigned)(next - now));
}

static int tell_changes(struct directory *directory, struct guest *guest)
{
	struct domain *domain;
	const struct domain *own = directory_find(directory, guest->domid);
	bool is_another = own && own->changed; /* what it may see depends on its own name, too */
	struct entry_batch batch;

	batch_begin(&batch, directory, guest, 0);
	for (domain = directory->domains; domain; domain = domain->hh.next) {
		bool visible, told = is_told(guest, domain->domid);

		if (!domain->changed && !is_another && !guest->is_in_doubt)
			continue;
		/* Without its name nobody could be told that it is away. */
		if (domain->vanishing && told)
			continue;
		visible = may_see(directory, guest, domain);
		if (!is_another && is_kept(directory, guest, domain)) {
			batch_add(&batch, domain, DIRECTORY_CHANGED, 0);
			domain->away = true;
			continue;
		}
		if (visible && (domain->changed || !told))
			batch_add(&batch, domain, DIRECTORY_PRESENT, 0);
		else if (!visible && told)
			batch_add(&batch, domain, DIRECTORY_REMOVED, 0);
		set_told(guest, domain->domid, visible);
	}
	if (batch.head.count)
		batch_send(&batch, 0);
	return batch.error;
}

void directory_tell(struct directory *directory, uint32_t domid, const struct peers_change *changes,
		    unsigned count)
{
	struct guest *guest = guest_find(directory, domid);
	struct entry_batch batch;

	if (!guest || guest->wants_all) /* then it will be told everything */
		return;
	batch_begin(&batch, directory, guest, 0);
	for (unsigned i = 0; i < count; i++) {
		struct frame_directory_entry entry = {.domid = changes[i].domid,
						      .state = DIRECTORY_CHANGED,
						      .leaves = (uint8_t)changes[i].leaves};

		if (batch.length + DIRECTORY_CHANGE > sizeof(batch.payload))
			batch_send(&batch, 0);
		batch.length += frame_directory_entry_encode(&entry, batch.payload + batch.length);
		batch.head.count++;
	}
	batch_send(&batch, 0);
	if (batch.error < 0) {
		guest->wants_all = true;
		timer_start(directory->resend, RESEND_MS);
	}
}

void serve_tell(struct directory *directory)
{
	struct guest *guest;
	struct domain *domain, *next;
	bool again = false, is_any_away = false;

	for (guest = directory->guests; guest; guest = guest->hh.next) {
		int r = guest->wants_all ? tell_all(directory, guest) : tell_changes(directory, guest);

		/* Which frames were lost is unknown here, so the whole list is sent once more. */
		guest->wants_all = r < 0;
		guest->is_in_doubt = false;
		again = again || r < 0;
	}
	HASH_ITER(hh, directory->domains, domain, next) {
		domain->changed = false;
		if (domain->removed && domain->away)
			is_any_away = true;
		else if (domain->removed)
			directory_drop(directory, domain);
	}
	if (is_any_away && !evtimer_pending(directory->away_over, NULL))
		timer_start(directory->away_over, directory->kept_ms);
	if (again)
		timer_start(directory->resend, RESEND_MS);
}

void serve_refresh(struct directory *directory)
{
	struct guest *guest;

	/* A guest is told only what is new for it: it doesn't learn that policy was checked again. */
	for (guest = directory->guests; guest; guest = guest->hh.next)
		guest->is_in_doubt = true;
}

void serve_guest_came(struct directory *directory, uint32_t domid)
{
	struct guest *guest = guest_find(directory, domid);

	if (!guest) {
		guest = calloc(1, sizeof(*guest));
		if (!guest) {
			log_error("directory: out of memory: domain %u gets no names", domid);
			return;
		}
		guest->domid = domid;
		HASH_ADD(hh, directory->guests, domid, sizeof(guest->domid), guest);
	}
	guest->wants_all = true;
	timer_start(directory->gather, 0);
}

static void guest_free(struct directory *directory, struct guest *guest)
{
	HASH_DEL(directory->guests, guest);
	free(guest);
}

void serve_guest_left(struct directory *directory, uint32_t domid)
{
	struct guest *guest = guest_find(directory, domid);

	if (!guest)
		return;
	directory->callbacks.tells(directory->userdata, domid, false);
	guest_free(directory, guest);
}

void serve_stop(struct directory *directory)
{
	while (directory->guests)
		guest_free(directory, directory->guests);
}
