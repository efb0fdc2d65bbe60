/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/directory_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/link.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "base/clock.h"
#include "base/domid_set.h"
#include "base/log.h"
#include "base/timer.h"
#include "wire/frame.h"
#include "wire/retry.h"

#define FRAME_PAYLOAD 496u /* with its header in half of the smallest ring */

/* In domain 0: a guest whose link is up. */
struct guest {
	uint32_t domid;
	uint64_t upto;	/* it was told what has changed until then; 0: it is to be told all */
	uint64_t rules; /* the version of the host's policy that it was told; 0: none */
	/* which it knows from us, so that it isn't told of the end of others */
	struct domid_set told;
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
		batch->error = links_send(directory->with.links, peer_domain(batch->guest->domid),
					  FRAME_DIRECTORY, batch->payload, batch->length);
	batch->head = (struct frame_directory){.flags = 0};
	batch->length = DIRECTORY_HEAD_SIZE;
}

/* Adds an entry whose domid and state are set. */
static void batch_add(struct entry_batch *batch, const struct frame_directory_entry *entry, uint32_t more)
{
	uint32_t most = entry->state == DIRECTORY_CHANGED ? DIRECTORY_CHANGE : DIRECTORY_ENTRY_MAX;

	if (batch->length + most > sizeof(batch->payload))
		batch_send(batch, more);
	batch->length += frame_directory_entry_encode(entry, batch->payload + batch->length);
	batch->head.count++;
}

static void batch_add_name(struct entry_batch *batch, const struct known_domain *domain, uint32_t more)
{
	struct frame_directory_entry entry = {
		.domid = domain->domid, .state = DIRECTORY_PRESENT, .name = frame_text_of(domain->name)};

	memcpy(entry.uuid, domain->uuid, sizeof(entry.uuid));
	batch_add(batch, &entry, more);
}

static void batch_add_changed(struct entry_batch *batch, uint32_t domid, unsigned leaves)
{
	batch_add(batch,
		  &(struct frame_directory_entry){
			  .domid = domid, .state = DIRECTORY_CHANGED, .leaves = (uint8_t)leaves},
		  0);
}

static bool may_see(struct directory *directory, const struct guest *guest, const struct known_domain *domain)
{
	/* A domain that wasn't read yet would look like one without a name. */
	if (!domain->is_complete)
		return false;
	return domain->domid == 0 || domain->domid == guest->domid ||
	       access_sees(directory->with.access, guest->domid, domain->domid);
}

static bool leads_on(struct directory *directory, uint32_t guest, uint32_t domid);

/* The guest that is told of domains that are away, and one of those. */
struct away_batch {
	struct entry_batch *batch;
	struct guest *guest;
};

/* Whether the guest may know the way to a domain that is away. A domain that is there is told as such, also
 * if it has the number of one that is away. */
static bool may_be_led(struct directory *directory, const struct guest *guest, const struct links_away *away)
{
	const struct known_domain *domain = known_find(directory->with.known, away->domid);

	return !(domain && domain->exists) && clock_ms_since(away->since_ms) < directory->with.kept_ms &&
	       leads_on(directory, guest->domid, away->domid) &&
	       access_sees_gone(directory->with.access, guest->domid, away->domid, away->name, away->uuid);
}

/* Tells it so. */
static void tell_away(void *userdata, const struct links_away *away)
{
	struct away_batch *to = userdata;
	struct directory *directory = to->batch->directory;
	struct frame_directory_entry entry = {
		.domid = away->domid, .state = DIRECTORY_PRESENT, .name = frame_text_of(away->name)};
	struct known_domain *domain =
		may_be_led(directory, to->guest, away) ? known_get(directory->with.known, away->domid) : NULL;

	if (!domain)
		return;
	if (!domain->gone_ms)
		domain->gone_ms = away->since_ms;
	domain->is_led_to = true;
	domid_set_put(&to->guest->told, away->domid, true);
	if (!uuid_parse(away->uuid, strlen(away->uuid), entry.uuid))
		memset(entry.uuid, 0, sizeof(entry.uuid));
	batch_add(to->batch, &entry, DIRECTORY_MORE);
	if (to->batch->length + DIRECTORY_CHANGE > sizeof(to->batch->payload))
		batch_send(to->batch, DIRECTORY_MORE);
	batch_add_changed(to->batch, away->domid, CHANGED_AWAY);
}

static int tell_all(struct directory *directory, struct guest *guest)
{
	const struct known_domain *domain = NULL;
	struct entry_batch batch;

	peers_tell(directory->with.peers, guest->domid, true);
	batch_begin(&batch, directory, guest, DIRECTORY_REPLACES);
	guest->told = (struct domid_set){.bits = {0}};
	/* A domain that is there and has the same name is meant by it, as the one that is sent last. */
	links_each_away(directory->with.links, tell_away,
			&(struct away_batch){.batch = &batch, .guest = guest});
	while ((domain = known_next(directory->with.known, domain)) != NULL) {
		if (!may_see(directory, guest, domain))
			continue;
		domid_set_put(&guest->told, domain->domid, true);
		batch_add_name(&batch, domain, DIRECTORY_MORE);
	}
	batch_send(&batch, 0);
	return batch.error;
}

/* Whether rules have changed since the guest was told last. */
static bool is_in_doubt(const struct directory *directory, const struct guest *guest)
{
	return directory->doubted > guest->upto;
}

/* Whether what the guest opens to this domain, which has gone, may still get there, through us. */
static bool leads_on(struct directory *directory, uint32_t guest, uint32_t domid)
{
	const struct frame_identity from = {.domid = guest};

	return directory->with.relays && links_had_session(directory->with.links, domid) &&
	       access_still_relayed(directory->with.access, &from, domid, NULL) == 0;
}

/* Whether the guest goes on knowing the name of a domain that was perhaps only saved. XenStore has forgotten
 * it, so nobody can say any more whether policy hides it: that nothing has changed since the guest was told
 * must do. */
static bool is_kept(struct directory *directory, const struct guest *guest, const struct known_domain *domain)
{
	return domain->gone_ms && domid_set_has(&guest->told, domain->domid) &&
	       !is_in_doubt(directory, guest) && clock_ms() < domain->gone_ms + directory->with.kept_ms &&
	       leads_on(directory, guest->domid, domain->domid);
}

void serve_away_over(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	struct known_domain *domain = NULL;
	uint64_t now = clock_ms(), next = UINT64_MAX;

	while ((domain = known_next(directory->with.known, domain)) != NULL) {
		uint64_t until = domain->gone_ms + directory->with.kept_ms;

		if (!domain->is_led_to)
			continue;
		if (now < until) {
			next = until < next ? until : next;
			continue;
		}
		domain->is_led_to = false;
		known_touch(directory->with.known, domain);
	}
	if (next != UINT64_MAX)
		timer_start(directory->away_over, (unsigned)(next - now));
}

/* Tells the guest what differs from what it was told of a domain. */
static void tell_change(struct directory *directory, struct guest *guest, struct entry_batch *batch,
			struct known_domain *domain, bool is_another)
{
	bool visible, told = domid_set_has(&guest->told, domain->domid);

	/* Without its name nobody could be told that it is away. */
	if (domain->is_vanishing && told)
		return;
	visible = may_see(directory, guest, domain);
	if (!is_another && is_kept(directory, guest, domain)) {
		batch_add_changed(batch, domain->domid, CHANGED_AWAY);
		domain->is_led_to = true;
		return;
	}
	if (visible && (domain->version > guest->upto || !told))
		batch_add_name(batch, domain, 0);
	else if (!visible && told)
		batch_add(batch,
			  &(struct frame_directory_entry){.domid = domain->domid, .state = DIRECTORY_REMOVED},
			  0);
	domid_set_put(&guest->told, domain->domid, visible);
}

static int tell_changes(struct directory *directory, struct guest *guest)
{
	struct known *known = directory->with.known;
	const struct known_domain *own = known_find(known, guest->domid);
	struct known_domain *domain = NULL;
	/* What it may see depends on its own name, too. */
	bool is_another = own && own->version > guest->upto;
	struct entry_batch batch;

	batch_begin(&batch, directory, guest, 0);
	while ((domain = known_next(known, domain)) != NULL)
		if (domain->version > guest->upto || is_another || is_in_doubt(directory, guest))
			tell_change(directory, guest, &batch, domain, is_another);
	if (batch.head.count)
		batch_send(&batch, 0);
	return batch.error;
}

/* --- the host's policy */

/* Sends a text in as many frames as it needs. */
static int send_policy(struct directory *directory, const struct guest *guest, const char *text, size_t size,
		       uint32_t flags)
{
	size_t sent = 0;
	int r = 0;

	do {
		size_t part =
			size - sent < FRAME_PAYLOAD - POLICY_HEAD ? size - sent : FRAME_PAYLOAD - POLICY_HEAD;
		const struct frame_policy frame = {.flags = flags | (sent + part < size ? POLICY_MORE : 0),
						   .text = {text + sent, part}};
		uint8_t payload[FRAME_PAYLOAD];

		r = links_send(directory->with.links, peer_domain(guest->domid), FRAME_POLICY, payload,
			       frame_policy_encode(&frame, payload));
		sent += part;
		flags = 0;
	} while (r == 0 && sent < size);
	return r;
}

static int tell_rules(struct directory *directory, struct guest *guest)
{
	size_t size;
	char *text = access_host_share(directory->with.access, guest->domid, &size);
	int r;

	guest->rules = 0;
	if (!text)
		return known_is_complete(directory->with.known, guest->domid) ? -ENOMEM : 0;
	r = send_policy(directory, guest, text, size, POLICY_REPLACES);
	free(text);
	if (r == 0)
		guest->rules = access_host_version(directory->with.access);
	return r;
}

static int tell_domain(struct directory *directory, const struct guest *guest, uint32_t domid)
{
	size_t size;
	char *text = access_host_domain(directory->with.access, guest->domid, domid, &size);
	int r = text ? 0 : -ENOMEM;

	if (r == 0 && size)
		r = send_policy(directory, guest, text, size, 0);
	free(text);
	return r;
}

/* Tells a guest that obeys its share of the host's policy, or what has changed since it was told. */
static int tell_policy(struct directory *directory, struct guest *guest)
{
	struct known *known = directory->with.known;
	const struct known_domain *own = known_find(known, guest->domid), *domain = NULL;
	int r = 0;

	if (!access_tells_host(directory->with.access) ||
	    !links_obey(directory->with.links, peer_domain(guest->domid)))
		return 0;
	/* Which rules are about it depends on its own name, too. */
	if (!guest->upto || guest->rules != access_host_version(directory->with.access) ||
	    (own && own->version > guest->upto))
		return tell_rules(directory, guest);
	while (r == 0 && (domain = known_next(known, domain)) != NULL)
		if (domain->version > guest->upto)
			r = tell_domain(directory, guest, domain->domid);
	return r;
}

void directory_tell(struct directory *directory, uint32_t domid, const struct peers_change *changes,
		    unsigned count)
{
	struct guest *guest = guest_find(directory, domid);
	struct entry_batch batch;

	if (!guest || !guest->upto) /* then it will be told everything */
		return;
	batch_begin(&batch, directory, guest, 0);
	for (unsigned i = 0; i < count; i++)
		batch_add_changed(&batch, changes[i].domid, changes[i].leaves);
	batch_send(&batch, 0);
	if (batch.error < 0) {
		guest->upto = 0;
		timer_start(directory->resend, RETRY_EACH_MS);
	}
}

void serve_tell(struct directory *directory)
{
	struct known_domain *domain = known_next(directory->with.known, NULL), *next;
	uint64_t version = known_version(directory->with.known);
	struct guest *guest;
	bool again = false, is_any_away = false;

	for (guest = directory->guests; guest; guest = guest->hh.next) {
		int r = guest->upto ? tell_changes(directory, guest) : tell_all(directory, guest);

		if (r == 0)
			r = tell_policy(directory, guest);
		/* Which frames were lost is unknown here, so the whole list is sent once more. */
		guest->upto = r < 0 ? 0 : version;
		again = again || r < 0;
	}
	for (; domain; domain = next) {
		next = known_next(directory->with.known, domain);
		if (domain->is_led_to)
			is_any_away = true;
		else if (domain->gone_ms)
			known_drop_gone(directory->with.known, domain);
	}
	if (is_any_away && !evtimer_pending(directory->away_over, NULL))
		timer_start(directory->away_over, directory->with.kept_ms);
	if (again)
		timer_start(directory->resend, RETRY_EACH_MS);
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
	guest->upto = 0;
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
	peers_tell(directory->with.peers, domid, false);
	guest_free(directory, guest);
}

void serve_stop(struct directory *directory)
{
	while (directory->guests)
		guest_free(directory, directory->guests);
}
