/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/directory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/domid_set.h"
#include "base/log.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/registry/registry.h"
#include "daemon/link/link.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "wire/frame.h"
#include "wire/ut.h"
#include "wire/retry.h"

#define GATHER_MS     10 /* a new domain's nodes are written one by one, and a host starts many domains at once */
#define FRAME_PAYLOAD 496u /* with its header in half of the smallest ring */

/* In domain 0: a guest whose link is up. */
struct guest {
	uint32_t domid;
	bool is_told;	/* what has changed until `upto` of the directory */
	uint64_t rules; /* the version of the host's policy that it was told; 0: none */
	/* which it knows from us, so that it isn't told of the end of others */
	struct domid_set told;
	struct guest *prev, *next; /* of those that are to be told all */
	UT_hash_handle hh;
};

struct directory {
	struct directory_options with;
	void (*renamed)(void *userdata);
	void *userdata;
	struct registry_sink sink;
	struct event *gather; /* gathers changes, then tells guests */
	bool changed;	      /* since then: names */

	/* domain 0 */
	struct guest *guests, *untold;
	uint64_t upto;	    /* guests were told what has changed until that version */
	uint64_t doubted;   /* that at which rules have changed: what was told before may be hidden now */
	bool may_have_gone; /* there may be domains that have gone, or that are led to */
	struct event *resend, *away_over;

	/* a guest */
	struct registry_teller *zero; /* a complete list has come from it, */
	bool linked, listing;	      /* the link with it is up, and such a list is coming */
	uint64_t lists;		      /* that have begun */
	struct event *want, *forget;
	unsigned want_ms;
};

static inline bool directory_in_domain_0(const struct directory *directory)
{
	return directory->with.self->domid == 0;
}

/* --- domain 0 ------------------------------------------------------------------------------------ */

/* For each link that is up there is a struct guest, with what that guest was told:
 *
 *   came ──tell──▶ told all ──a domain changed, tell──▶ told the change
 *   any ──it couldn't be sent──▶ all of it, once more
 *   any ──what it may see has changed──▶ what differs
 *   any ──link lost──▶ left
 *
 * Of a domain that XenStore has forgotten while it may come back to its session with us, a guest that knows
 * it is told that it is away, and its end later (`kept_ms`): so its name and number lead it to us, and us to
 * that session. */

static struct guest *guest_find(struct directory *directory, uint32_t domid)
{
	struct guest *guest;

	HASH_FIND(hh, directory->guests, &domid, sizeof(domid), guest);
	return guest;
}

static void guest_set_told(struct directory *directory, struct guest *guest, bool is_told)
{
	if (guest->is_told == is_told)
		return;
	guest->is_told = is_told;
	if (is_told)
		DL_DELETE(directory->untold, guest);
	else
		DL_APPEND(directory->untold, guest);
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

static void batch_add_name(struct entry_batch *batch, const struct registry_domain *domain, uint32_t more)
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

static bool may_see(struct directory *directory, const struct guest *guest,
		    const struct registry_domain *domain)
{
	/* A domain that wasn't read yet would look like one without a name. */
	if (!domain->is_complete)
		return false;
	return domain->domid == 0 || domain->domid == guest->domid ||
	       access_sees(directory->with.access, (struct access_sender){.domid = guest->domid},
			   domain->domid);
}

static bool leads_on(struct directory *directory, uint32_t guest, uint32_t domid);

/* Whether the guest may know the way to a domain that is away. A domain that is there is told as such, also
 * if it has the number of one that is away. */
static bool may_be_led(struct directory *directory, const struct guest *guest, const struct links_away *away)
{
	const struct registry_domain *domain = registry_find(directory->with.registry, away->domid);

	return !(domain && domain->exists) && clock_ms_since(away->since_ms) < directory->with.kept_ms &&
	       leads_on(directory, guest->domid, away->domid) &&
	       access_sees_gone(directory->with.access, guest->domid, away->domid, away->name, away->uuid);
}

/* Tells it so. */
static void tell_away(struct guest *guest, struct entry_batch *batch, const struct links_away *away)
{
	struct directory *directory = batch->directory;
	struct frame_directory_entry entry = {
		.domid = away->domid, .state = DIRECTORY_PRESENT, .name = frame_text_of(away->name)};
	struct registry_domain *domain = may_be_led(directory, guest, away)
						 ? registry_get(directory->with.registry, away->domid)
						 : NULL;

	if (!domain)
		return;
	if (!domain->gone_ms)
		domain->gone_ms = away->since_ms;
	domain->is_led_to = directory->may_have_gone = true;
	domid_set_put(&guest->told, away->domid, true);
	if (!uuid_parse(away->uuid, strlen(away->uuid), entry.uuid))
		memset(entry.uuid, 0, sizeof(entry.uuid));
	batch_add(batch, &entry, DIRECTORY_MORE);
	if (batch->length + DIRECTORY_CHANGE > sizeof(batch->payload))
		batch_send(batch, DIRECTORY_MORE);
	batch_add_changed(batch, away->domid, CHANGED_AWAY);
}

static int tell_all(struct directory *directory, struct guest *guest)
{
	const struct registry_domain *domain = NULL;
	struct links_away away = {.link = NULL};
	struct entry_batch batch;

	peers_tell(directory->with.peers, guest->domid, true);
	batch_begin(&batch, directory, guest, DIRECTORY_REPLACES);
	guest->told = (struct domid_set){.bits = {0}};
	/* A domain that is there and has the same name is meant by it, as the one that is sent last. */
	while (links_next_away(directory->with.links, &away))
		tell_away(guest, &batch, &away);
	while ((domain = registry_next_changed(directory->with.registry, domain, 0)) != NULL) {
		if (!may_see(directory, guest, domain))
			continue;
		domid_set_put(&guest->told, domain->domid, true);
		batch_add_name(&batch, domain, DIRECTORY_MORE);
	}
	batch_send(&batch, 0);
	return batch.error;
}

/* Whether rules have changed since guests were told last. */
static bool is_in_doubt(const struct directory *directory)
{
	return directory->doubted > directory->upto;
}

/* Whether what the guest opens to this domain, which has gone, may still get there, through us. */
static bool leads_on(struct directory *directory, uint32_t guest, uint32_t domid)
{
	const struct access_sender from = {.domid = guest};

	return directory->with.relays && links_had_session(directory->with.links, domid) &&
	       access_still_relayed(directory->with.access, from, domid, NULL) == 0;
}

/* Whether the guest goes on knowing the name of a domain that was perhaps only saved. XenStore has forgotten
 * it, so nobody can say any more whether policy hides it: that nothing has changed since the guest was told
 * must do. */
static bool is_kept(struct directory *directory, const struct guest *guest,
		    const struct registry_domain *domain)
{
	return domain->gone_ms && domid_set_has(&guest->told, domain->domid) && !is_in_doubt(directory) &&
	       clock_ms() < domain->gone_ms + directory->with.kept_ms &&
	       leads_on(directory, guest->domid, domain->domid);
}

/* Whether the guest may go on knowing a domain that is away by the rules of now: the session has its name. */
static bool is_still_seen(struct directory *directory, const struct guest *guest,
			  const struct registry_domain *domain)
{
	struct links_away away = {.link = NULL};

	if (domain->exists || !domid_set_has(&guest->told, domain->domid))
		return false;
	while (links_next_away(directory->with.links, &away))
		if (away.domid == domain->domid && may_be_led(directory, guest, &away))
			return true;
	return false;
}

/* Ends what is kept of domains that haven't come back. */
static void serve_away_over(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	struct registry_domain *domain = NULL;
	uint64_t now = clock_ms(), next = UINT64_MAX;

	while ((domain = registry_next(directory->with.registry, domain)) != NULL) {
		uint64_t until = domain->gone_ms + directory->with.kept_ms;

		if (!domain->is_led_to)
			continue;
		if (now < until) {
			next = until < next ? until : next;
			continue;
		}
		domain->is_led_to = false;
		registry_touch(directory->with.registry, domain);
	}
	if (next != UINT64_MAX)
		timer_start(directory->away_over, (unsigned)(next - now));
}

/* Tells the guest what differs from what it was told of a domain. */
static void tell_change(struct directory *directory, struct guest *guest, struct entry_batch *batch,
			struct registry_domain *domain, bool is_another)
{
	bool visible, told = domid_set_has(&guest->told, domain->domid);

	/* Without its name nobody could be told that it is away. */
	if (domain->is_vanishing && told)
		return;
	visible = may_see(directory, guest, domain);
	if ((!is_another && is_kept(directory, guest, domain)) || is_still_seen(directory, guest, domain)) {
		batch_add_changed(batch, domain->domid, CHANGED_AWAY);
		domain->is_led_to = directory->may_have_gone = true;
		return;
	}
	if (visible && (domain->version > directory->upto || !told))
		batch_add_name(batch, domain, 0);
	else if (!visible && told)
		batch_add(batch,
			  &(struct frame_directory_entry){.domid = domain->domid, .state = DIRECTORY_REMOVED},
			  0);
	domid_set_put(&guest->told, domain->domid, visible);
}

static int tell_changes(struct directory *directory, struct guest *guest)
{
	struct registry *registry = directory->with.registry;
	const struct registry_domain *own = registry_find(registry, guest->domid);
	struct registry_domain *domain = NULL;
	/* What it may see depends on its own name, too. */
	bool is_another = own && own->version > directory->upto;
	uint64_t since = is_another || is_in_doubt(directory) ? 0 : directory->upto;
	struct entry_batch batch;

	batch_begin(&batch, directory, guest, 0);
	while ((domain = registry_next_changed(registry, domain, since)) != NULL)
		tell_change(directory, guest, &batch, domain, is_another);
	if (batch.head.count)
		batch_send(&batch, 0);
	return batch.error;
}

/* --- domain 0: the host's policy */

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
		return registry_is_complete(directory->with.registry, guest->domid) ? -ENOMEM : 0;
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
	struct registry *registry = directory->with.registry;
	const struct registry_domain *own = registry_find(registry, guest->domid), *domain = NULL;
	int r = 0;

	if (!access_tells_host(directory->with.access) ||
	    !links_obey(directory->with.links, peer_domain(guest->domid)))
		return 0;
	/* Which rules are about it depends on its own name, too. */
	if (!guest->is_told || guest->rules != access_host_version(directory->with.access) ||
	    (own && own->version > directory->upto))
		return tell_rules(directory, guest);
	while (r == 0 && (domain = registry_next_changed(registry, domain, directory->upto)) != NULL)
		r = tell_domain(directory, guest, domain->domid);
	return r;
}

void directory_tell(struct directory *directory, uint32_t domid, const struct peers_change *changes,
		    unsigned count)
{
	struct guest *guest = guest_find(directory, domid);
	struct entry_batch batch;

	if (!guest || !guest->is_told) /* then it will be told everything */
		return;
	batch_begin(&batch, directory, guest, 0);
	for (unsigned i = 0; i < count; i++)
		batch_add_changed(&batch, changes[i].domid, changes[i].leaves);
	batch_send(&batch, 0);
	if (batch.error < 0) {
		guest_set_told(directory, guest, false);
		timer_start(directory->resend, RETRY_EACH_MS);
	}
}

static void tell_guest(struct directory *directory, struct guest *guest)
{
	int r = guest->is_told ? tell_changes(directory, guest) : tell_all(directory, guest);

	if (r == 0)
		r = tell_policy(directory, guest);
	/* Which frames were lost is unknown here, so the whole list is sent once more. */
	guest_set_told(directory, guest, r == 0);
}

/* Forgets the domains that have gone. */
static void forget_gone(struct directory *directory)
{
	struct registry_domain *domain = registry_next(directory->with.registry, NULL), *next;

	directory->may_have_gone = false;
	for (; domain; domain = next) {
		next = registry_next(directory->with.registry, domain);
		if (domain->is_led_to)
			directory->may_have_gone = true;
		else if (domain->gone_ms)
			registry_drop_gone(directory->with.registry, domain);
	}
	if (directory->may_have_gone && !evtimer_pending(directory->away_over, NULL))
		timer_start(directory->away_over, directory->with.kept_ms);
}

/* Tells each guest what has changed; and all to those that have come, of which there are as many as guests
 * when all start at once: so nobody else is looked at for one, nor any domain that has gone. */
static void serve_tell(struct directory *directory)
{
	struct registry *registry = directory->with.registry;
	uint64_t version = registry_version(registry);
	struct guest *guest, *next;

	if (is_in_doubt(directory) || registry_next_changed(registry, NULL, directory->upto))
		for (guest = directory->guests; guest; guest = guest->hh.next)
			tell_guest(directory, guest);
	else
		DL_FOREACH_SAFE(directory->untold, guest, next)
			tell_guest(directory, guest);
	directory->upto = version;
	if (directory->may_have_gone)
		forget_gone(directory);
	if (directory->untold)
		timer_start(directory->resend, RETRY_EACH_MS);
}

static void serve_guest_came(struct directory *directory, uint32_t domid)
{
	struct guest *guest = guest_find(directory, domid);

	if (!guest) {
		guest = calloc(1, sizeof(*guest));
		if (guest) {
			guest->domid = domid;
			HASH_ADD(hh, directory->guests, domid, sizeof(guest->domid), guest);
		}
		if (!guest || !HASH_ADDED(guest)) {
			free(guest);
			log_error("directory: out of memory: domain %u gets no names", domid);
			return;
		}
		DL_APPEND(directory->untold, guest);
	}
	guest_set_told(directory, guest, false);
	timer_start(directory->gather, 0);
}

static void guest_free(struct directory *directory, struct guest *guest)
{
	HASH_DEL(directory->guests, guest);
	if (!guest->is_told)
		DL_DELETE(directory->untold, guest);
	free(guest);
}

static void serve_guest_left(struct directory *directory, uint32_t domid)
{
	struct guest *guest = guest_find(directory, domid);

	if (!guest)
		return;
	peers_tell(directory->with.peers, domid, false);
	guest_free(directory, guest);
}

/* --- a guest ------------------------------------------------------------------------------------- */

/*   absent ──its daemon is there──▶ wants a link, again and again with growing pauses ──link up──▶ linked
 *   linked ──a complete list──▶ served: changes are taken as they come; a new complete list replaces all
 *   served ──link lost──▶ still served, and the link is wanted
 *          ──believed_ms without a list──▶ nothing is known any more */

static void on_forget(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	log_info(
		"directory: domain 0's daemon hasn't come back: names of other domains are unknown from now on");
	directory->zero->tells = false;
	registry_forget_names(directory->with.registry, UINT64_MAX, false);
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

/* Notes that domain 0's daemon has come or gone. */
static void believe_presence(struct directory *directory, bool up)
{
	directory->zero->is_there = up;
	evtimer_del(directory->want);
	directory->want_ms = 0;
	if (up)
		timer_start(directory->want, 0);
}

static void believe_link(struct directory *directory, enum registry_what what, uint32_t domid)
{
	if (domid != 0)
		return;
	if (what == REGISTRY_LINK_ENDED) {
		if (!directory->linked) /* without the pauses that have grown while nobody could make one */
			believe_presence(directory, directory->zero->is_there);
		return;
	}
	directory->linked = what == REGISTRY_LINK_UP;
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

/* While domain 0's daemon tells nothing, a domain may end and another get its number. The first one's daemon
 * goes then, and with it what was told of that number. */
static void doubt_number(struct directory *directory, uint32_t domid)
{
	struct registry *registry = directory->with.registry;

	if (directory->linked || domid == 0 || domid == directory->with.self->domid ||
	    registry_is_up(registry, domid))
		return;
	registry_forget_name(registry, domid);
	access_forget_host_domain(directory->with.access, domid);
}

/* Takes what has changed in XenStore, and who is away. Of this domain itself it is told that it asks, behind
 * all that it has asked for. */
static void take_changed(struct directory *directory, const struct frame_directory_entry *entry)
{
	struct registry_domain *domain = registry_find(directory->with.registry, entry->domid);

	if (domain && domain->is_complete && (entry->leaves & CHANGED_AWAY) &&
	    entry->domid != directory->with.self->domid) {
		domain->is_led_to = true;
		log_limited(LOG_LINK, LOG_BY_DOMAIN(entry->domid), LOG_LEVEL_INFO,
			    "directory: domain %u is away, and domain 0 leads to it", entry->domid);
		registry_touch(directory->with.registry, domain);
	}
	if (entry->leaves != CHANGED_AWAY)
		peers_changed(directory->with.peers,
			      &(struct peers_change){.domid = entry->domid, .leaves = entry->leaves});
}

static void take_entry(struct directory *directory, const struct frame_directory_entry *entry)
{
	struct registry *registry = directory->with.registry;
	struct registry_domain *domain;
	char name[DOMAIN_NAME_MAX + 1] = "";

	if (entry->state == DIRECTORY_CHANGED) {
		take_changed(directory, entry);
		return;
	}
	if (entry->domid == directory->with.self->domid) /* we read our own nodes ourselves */
		return;
	if (entry->state == DIRECTORY_REMOVED) {
		registry_forget_name(registry, entry->domid);
		return;
	}
	domain = registry_get(registry, entry->domid);
	if (!domain)
		return;
	domain->told = directory->lists;
	domain->is_led_to = false;
	registry_set_uuid(registry, domain, entry->uuid);
	memcpy(name, entry->name.data, entry->name.size);
	if (!registry_name_is_usable(name, entry->name.size))
		name[0] = '\0';
	registry_set_name(registry, domain, name, strlen(name));
	registry_set_complete(registry, domain, true);
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
	registry_forget_names(directory->with.registry, directory->lists, false);
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

/* --- both ---------------------------------------------------------------------------------------- */

static void on_gathered(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	bool changed = directory->changed;

	/* A list that isn't complete yet would take from the guests what an earlier daemon has told them. */
	if (registry_is_read(directory->with.registry))
		serve_tell(directory);
	directory->changed = false;
	if (changed)
		directory->renamed(directory->userdata);
}

static void on_link(struct directory *directory, enum registry_what what, uint32_t domid)
{
	if (!directory_in_domain_0(directory))
		believe_link(directory, what, domid);
	else if (what == REGISTRY_LINK_UP)
		serve_guest_came(directory, domid);
	else
		serve_guest_left(directory, domid);
}

static void directory_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct directory *directory = userdata;

	if (what == REGISTRY_LINK_UP || what == REGISTRY_LINK_LOST || what == REGISTRY_LINK_ENDED)
		on_link(directory, what, domid);
	if (what == REGISTRY_PRESENCE && domid == 0 && !directory_in_domain_0(directory))
		believe_presence(directory,
				 registry_is_up(directory->with.registry, 0) && !directory->with.is_hidden);
	if (what == REGISTRY_PRESENCE && !directory_in_domain_0(directory))
		doubt_number(directory, domid);
	if (what == REGISTRY_RULES)
		directory->doubted = registry_version(directory->with.registry);
	directory->changed = directory->changed || what == REGISTRY_NAME;
	directory->may_have_gone = directory->may_have_gone || what == REGISTRY_EXISTS;
	if (what == REGISTRY_NAME || what == REGISTRY_RULES || what == REGISTRY_READ)
		timer_start(directory->gather, what == REGISTRY_READ ? 0 : GATHER_MS);
}

/* --- life ------------------------------------------------------------------------------------- */

int directory_new(struct directory **out, struct event_base *base, const struct directory_options *options,
		  void (*renamed)(void *userdata), void *userdata)
{
	struct directory *directory = calloc(1, sizeof(*directory));

	if (!directory)
		return -ENOMEM;
	directory->with = *options;
	directory->zero = registry_teller(options->registry);
	directory->renamed = renamed;
	directory->userdata = userdata;
	directory->gather = evtimer_new(base, on_gathered, directory);
	directory->resend = evtimer_new(base, on_gathered, directory);
	directory->away_over = evtimer_new(base, serve_away_over, directory);
	registry_listen(options->registry, &directory->sink, directory_on_known, directory);
	directory->want = evtimer_new(base, on_want, directory);
	directory->forget = evtimer_new(base, on_forget, directory);
	if (!directory->gather || !directory->resend || !directory->away_over || !directory->want ||
	    !directory->forget) {
		directory_free(directory);
		return -ENOMEM;
	}
	*out = directory;
	return 0;
}

void directory_free(struct directory *directory)
{
	if (!directory)
		return;
	registry_leave(directory->with.registry, &directory->sink);
	while (directory->guests)
		guest_free(directory, directory->guests);
	free_event(directory->gather);
	free_event(directory->resend);
	free_event(directory->away_over);
	free_event(directory->want);
	free_event(directory->forget);
	free(directory);
}
