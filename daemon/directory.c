/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/directory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <uthash.h>
#include <utlist.h>

#include "daemon/log.h"
#include "daemon/store.h"
#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#define GATHER_MS	10    /* a new domain's nodes are written one by one, and a host starts many domains at once */
#define RESEND_MS	1000  /* a guest that didn't take its list */
#define WANT_FIRST_MS	250   /* tries for a link with domain 0: a failed one costs both sides a rendezvous */
#define WANT_LAST_MS	60000
#define FRAME_PAYLOAD	496u  /* with its header in half of the smallest ring */
#define DOMAIN_PATH_MAX 64
#define UUID_TEXT_SIZE	37

/* A domain that something is known of. */
struct domain {
	uint32_t domid;
	char name[DOMAIN_NAME_MAX + 1];
	uint8_t uuid[16]; /* zero: unknown */
	char uuid_text[UUID_TEXT_SIZE];
	uint64_t learned; /* when the name or the UUID came, in steps of `clock` */
	bool changed;	  /* domain 0: since the guests were told last */
	bool removed;	  /* domain 0: kept until the guests have been told */
	bool seen;	  /* in the list that is being gone through */
	UT_hash_handle hh;
};

/* Domain 0: a guest whose link is up. */
struct guest {
	uint32_t domid;
	bool wants_all;
	uint8_t told[DOMID_MAX / 8 + 1]; /* of which domains it knows by us, so that nothing is said of the others */
	UT_hash_handle hh;
};

/* What the store will call back about. */
struct request {
	struct directory *directory;
	uint32_t domid;
	bool is_uuid;
	struct request *prev, *next;
};

struct directory {
	struct store *store;
	uint32_t own;
	struct directory_callbacks callbacks;
	void *userdata;
	struct domain *domains;
	uint64_t clock;
	struct request *requests;
	struct event *gather; /* changes are told, to the guests or by a flush */
	bool changed;	      /* since the last flush */
	bool watching;

	/* domain 0 */
	struct guest *guests;
	struct event *resend;
	bool listed, complete; /* all domains that there were at the start have been read */

	/* a guest */
	bool present, linked; /* domain 0's daemon, and the link with it */
	bool served, listing; /* a complete list has come, is coming */
	struct event *want, *forget;
	unsigned want_ms, believed_ms;
};

static const uint8_t no_uuid[16];

static void start_timer(struct event *timer, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	if (!evtimer_pending(timer, NULL))
		evtimer_add(timer, &delay);
}

/* --- what is known -------------------------------------------------------------------------------------------------- */

static struct domain *find(struct directory *directory, uint32_t domid)
{
	struct domain *domain;

	HASH_FIND(hh, directory->domains, &domid, sizeof(domid), domain);
	return domain;
}

/* NULL when memory is short: it stays unknown until its next change. */
static struct domain *get(struct directory *directory, uint32_t domid)
{
	struct domain *domain = find(directory, domid);

	if (domain)
		return domain;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return NULL;
	domain->domid = domid;
	HASH_ADD(hh, directory->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

static void drop(struct directory *directory, struct domain *domain)
{
	HASH_DEL(directory->domains, domain);
	free(domain);
}

/* 8-4-4-4-12 hexadecimal digits. */
static bool uuid_parse(const char *text, size_t size, uint8_t uuid[16])
{
	unsigned digits = 0;

	if (size != UUID_TEXT_SIZE - 1)
		return false;
	memset(uuid, 0, 16);
	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		unsigned digit;

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (c != '-')
				return false;
			continue;
		}
		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			digit = (unsigned)(c - 'a') + 10;
		else if (c >= 'A' && c <= 'F')
			digit = (unsigned)(c - 'A') + 10;
		else
			return false;
		uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | digit);
		digits++;
	}
	return true;
}

/* "" for none. */
static void uuid_print(const uint8_t uuid[16], char text[UUID_TEXT_SIZE])
{
	char *at = text;

	*at = '\0';
	if (!memcmp(uuid, no_uuid, sizeof(no_uuid)))
		return;
	for (unsigned i = 0; i < 16; i++)
		at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

/* One that can stand in an address or a rule and means nothing else there. */
static bool name_is_usable(const char *name, size_t size)
{
	uint8_t uuid[16];

	return domain_name_is_valid(name, size) && strspn(name, "0123456789") < size && !uuid_parse(name, size, uuid) &&
	       !(size == 4 && !memcmp(name, "self", 4));
}

static void has_changed(struct directory *directory, struct domain *domain)
{
	domain->changed = true;
	directory->changed = true;
	domain->learned = ++directory->clock;
	start_timer(directory->gather, GATHER_MS);
}

static void set_name(struct directory *directory, struct domain *domain, const char *name, size_t size)
{
	char old[sizeof(domain->name)];

	if (strlen(domain->name) == size && memcmp(domain->name, name, size) == 0)
		return;
	memcpy(old, domain->name, sizeof(old));
	memcpy(domain->name, name, size);
	domain->name[size] = '\0';
	has_changed(directory, domain);
	directory->callbacks.changed(directory->userdata, domain->domid, old, domain->name);
}

static void set_uuid(struct directory *directory, struct domain *domain, const uint8_t uuid[16])
{
	if (memcmp(domain->uuid, uuid, sizeof(domain->uuid)) == 0)
		return;
	memcpy(domain->uuid, uuid, sizeof(domain->uuid));
	uuid_print(uuid, domain->uuid_text);
	has_changed(directory, domain);
	directory->callbacks.changed(directory->userdata, domain->domid, domain->name, domain->name);
}

static void forget_domain(struct directory *directory, struct domain *domain)
{
	set_name(directory, domain, "", 0);
	drop(directory, domain);
}

int directory_resolve(struct directory *directory, const char *name, uint32_t *domid)
{
	const struct domain *domain, *found = NULL;
	uint8_t uuid[16];
	bool is_uuid = uuid_parse(name, strlen(name), uuid);

	if (!name[0] || (is_uuid && !memcmp(uuid, no_uuid, sizeof(uuid))))
		return -EHOSTDOWN;
	for (domain = directory->domains; domain; domain = domain->hh.next) {
		if (domain->removed || (found && found->learned > domain->learned))
			continue;
		if (is_uuid ? !memcmp(domain->uuid, uuid, sizeof(uuid)) : !strcmp(domain->name, name))
			found = domain;
	}
	if (!found)
		return -EHOSTDOWN;
	*domid = found->domid;
	return 0;
}

const char *directory_name(struct directory *directory, uint32_t domid)
{
	const struct domain *domain = find(directory, domid);

	return domain ? domain->name : "";
}

const char *directory_uuid(struct directory *directory, uint32_t domid)
{
	const struct domain *domain = find(directory, domid);

	return domain ? domain->uuid_text : "";
}

bool directory_is_served(const struct directory *directory)
{
	return directory->own == 0 || directory->served;
}

/* --- domain 0: telling the guests ----------------------------------------------------------------------------------- */

/* Entries on their way into frames. */
struct batch {
	struct directory *directory;
	const struct guest *guest;
	struct frame_directory head;
	uint32_t length;
	uint8_t payload[FRAME_PAYLOAD];
	int error;
};

static void batch_begin(struct batch *batch, struct directory *directory, const struct guest *guest, uint32_t flags)
{
	*batch = (struct batch){
		.directory = directory,
		.guest = guest,
		.head.flags = flags,
		.length = DIRECTORY_HEAD_SIZE,
	};
}

static void batch_send(struct batch *batch, uint32_t more)
{
	struct directory *directory = batch->directory;

	batch->head.flags |= more;
	frame_directory_encode(&batch->head, batch->payload);
	if (batch->error == 0)
		batch->error = directory->callbacks.send(directory->userdata, batch->guest->domid, batch->payload,
							 batch->length);
	batch->head = (struct frame_directory){.flags = 0};
	batch->length = DIRECTORY_HEAD_SIZE;
}

static void batch_add(struct batch *batch, const struct domain *domain, enum directory_state state, uint32_t more)
{
	struct frame_directory_entry entry = {.domid = domain->domid, .state = state};

	if (batch->length + DIRECTORY_ENTRY_MAX > sizeof(batch->payload))
		batch_send(batch, more);
	if (state == DIRECTORY_PRESENT) {
		memcpy(entry.uuid, domain->uuid, sizeof(entry.uuid));
		entry.name = (struct frame_text){domain->name, strlen(domain->name)};
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

	guest->told[domid / 8] = (uint8_t)(told ? guest->told[domid / 8] | bit : guest->told[domid / 8] & ~bit);
}

static bool may_see(struct directory *directory, const struct guest *guest, const struct domain *domain)
{
	if (domain->removed)
		return false;
	return domain->domid == 0 || domain->domid == guest->domid ||
	       directory->callbacks.visible(directory->userdata, guest->domid, domain->domid);
}

static int tell_all(struct directory *directory, struct guest *guest)
{
	const struct domain *domain;
	struct batch batch;

	batch_begin(&batch, directory, guest, DIRECTORY_REPLACES);
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

static int tell_changes(struct directory *directory, struct guest *guest)
{
	const struct domain *domain;
	struct batch batch;

	batch_begin(&batch, directory, guest, 0);
	for (domain = directory->domains; domain; domain = domain->hh.next) {
		bool visible;

		if (!domain->changed)
			continue;
		visible = may_see(directory, guest, domain);
		if (visible)
			batch_add(&batch, domain, DIRECTORY_PRESENT, 0);
		else if (is_told(guest, domain->domid))
			batch_add(&batch, domain, DIRECTORY_REMOVED, 0);
		set_told(guest, domain->domid, visible);
	}
	if (batch.head.count)
		batch_send(&batch, 0);
	return batch.error;
}

static void tell_guests(struct directory *directory)
{
	struct guest *guest;
	struct domain *domain, *next;
	bool again = false;

	for (guest = directory->guests; guest; guest = guest->hh.next) {
		int r = guest->wants_all ? tell_all(directory, guest) : tell_changes(directory, guest);

		/* What got lost is unknown here: all of it once more. */
		guest->wants_all = r < 0;
		again = again || r < 0;
	}
	HASH_ITER (hh, directory->domains, domain, next) {
		domain->changed = false;
		if (domain->removed)
			drop(directory, domain);
	}
	if (again)
		start_timer(directory->resend, RESEND_MS);
}

static void on_gathered(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	bool changed = directory->changed;

	(void)fd;
	(void)what;
	/* A list that isn't complete yet would take from the guests what an earlier daemon has told them. */
	if (directory->complete)
		tell_guests(directory);
	directory->changed = false;
	directory->callbacks.flush(directory->userdata, changed);
}

void directory_refresh(struct directory *directory)
{
	struct guest *guest;

	for (guest = directory->guests; guest; guest = guest->hh.next)
		guest->wants_all = true;
	start_timer(directory->gather, GATHER_MS);
}

static void guest_came(struct directory *directory, uint32_t domid)
{
	struct guest *guest;

	HASH_FIND(hh, directory->guests, &domid, sizeof(domid), guest);
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
	start_timer(directory->gather, 0);
}

static void guest_left(struct directory *directory, uint32_t domid)
{
	struct guest *guest;

	HASH_FIND(hh, directory->guests, &domid, sizeof(domid), guest);
	if (!guest)
		return;
	HASH_DEL(directory->guests, guest);
	free(guest);
}

/* --- reading XenStore ----------------------------------------------------------------------------------------------- */

static void list_domains(struct directory *directory);

static void request_free(struct request *request)
{
	DL_DELETE(request->directory->requests, request);
	free(request);
}

/* NULL when memory is short: not read, until the next change. */
static struct request *request_new(struct directory *directory, uint32_t domid, bool is_uuid)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request) {
		log_error("directory: out of memory: the name of a domain isn't read");
		return NULL;
	}
	request->directory = directory;
	request->domid = domid;
	request->is_uuid = is_uuid;
	DL_APPEND(directory->requests, request);
	return request;
}

static void request_done(struct request *request)
{
	struct directory *directory = request->directory;

	request_free(request);
	if (!directory->listed || directory->complete || directory->requests)
		return;
	directory->complete = true;
	start_timer(directory->gather, 0);
}

/* The node `vm` holds "/vm/<uuid>". */
static void take_uuid(struct directory *directory, struct domain *domain, const char *untrusted_value, size_t size)
{
	uint8_t uuid[16] = {0};

	if (untrusted_value && size > 4 && !memcmp(untrusted_value, "/vm/", 4) &&
	    !uuid_parse(untrusted_value + 4, size - 4, uuid))
		memset(uuid, 0, sizeof(uuid));
	set_uuid(directory, domain, uuid);
}

static void take_name(struct directory *directory, struct domain *domain, const char *untrusted_value, size_t size)
{
	bool usable = untrusted_value && name_is_usable(untrusted_value, size);

	if (untrusted_value && !usable)
		log_debug("directory: the name of domain %u can't stand in an address; it has its domid and UUID",
			  domain->domid);
	set_name(directory, domain, usable ? untrusted_value : "", usable ? size : 0);
}

static void on_value(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct request *request = userdata;
	struct directory *directory = request->directory;
	struct domain *domain = find(directory, request->domid);

	/* If XenStore is broken, that says nothing about the domain: its watches fire when it is back. */
	if (domain && !domain->removed && (error == 0 || error == -ENOENT)) {
		if (request->is_uuid)
			take_uuid(directory, domain, untrusted_value, size);
		else
			take_name(directory, domain, untrusted_value, size);
		if (error == -ENOENT && !request->is_uuid && directory->own == 0)
			list_domains(directory); /* it may have gone */
	}
	request_done(request);
}

static void name_path(uint32_t domid, char path[DOMAIN_PATH_MAX])
{
	snprintf(path, DOMAIN_PATH_MAX, "/local/domain/%u/name", domid);
}

static void read_node(struct directory *directory, uint32_t domid, const char *node)
{
	struct request *request = request_new(directory, domid, !strcmp(node, "vm"));
	char path[DOMAIN_PATH_MAX];

	if (!request)
		return;
	snprintf(path, sizeof(path), "/local/domain/%u/%s", domid, node);
	store_read(directory->store, directory->own == 0 ? path : node, on_value, request);
}

/* In a guest its own, relative to its home: of others it may not read them. */
static void read_domain(struct directory *directory, uint32_t domid)
{
	read_node(directory, domid, "name");
	read_node(directory, domid, "vm");
}

static void on_name_changed(void *userdata, const char *untrusted_path)
{
	struct directory *directory = userdata;
	unsigned domid;
	char path[DOMAIN_PATH_MAX];

	/* It comes back as it was registered, and as nothing else. */
	if (sscanf(untrusted_path, "/local/domain/%5u/name", &domid) != 1 || domid > DOMID_MAX)
		return;
	name_path(domid, path);
	if (!strcmp(path, untrusted_path) && find(directory, domid))
		read_domain(directory, domid);
}

static void add_domain(struct directory *directory, uint32_t domid)
{
	struct domain *domain = find(directory, domid);
	char path[DOMAIN_PATH_MAX];

	if (domain && !domain->removed) {
		domain->seen = true;
		return;
	}
	domain = get(directory, domid);
	if (!domain)
		return;
	domain->removed = false;
	domain->seen = true;
	name_path(domid, path);
	store_watch(directory->store, path, on_name_changed, directory, NULL);
	/* The watch fires at once too, but this is what `complete` waits for. */
	read_domain(directory, domid);
}

static void unwatch_domain(struct directory *directory, const struct domain *domain)
{
	char path[DOMAIN_PATH_MAX];

	name_path(domain->domid, path);
	store_unwatch(directory->store, path, on_name_changed, directory);
}

static void remove_domain(struct directory *directory, struct domain *domain)
{
	unwatch_domain(directory, domain);
	set_name(directory, domain, "", 0);
	set_uuid(directory, domain, no_uuid);
	domain->removed = true;
	has_changed(directory, domain);
}

static void on_listed(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct request *request = userdata;
	struct directory *directory = request->directory;
	struct domain *domain, *next;
	uint32_t domid;

	if (error < 0) {
		log_error("directory: can't list the domains: %s", strerror(-error));
		request_free(request);
		return;
	}
	HASH_ITER (hh, directory->domains, domain, next)
		domain->seen = false;
	for (unsigned i = 0; i < count; i++)
		if (domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &domid))
			add_domain(directory, domid);
	HASH_ITER (hh, directory->domains, domain, next)
		if (!domain->seen && !domain->removed)
			remove_domain(directory, domain);
	directory->listed = true;
	request_done(request);
}

static void list_domains(struct directory *directory)
{
	struct request *request = request_new(directory, 0, false);

	if (request)
		store_list(directory->store, "/local/domain", on_listed, request);
}

static void on_domains_changed(void *userdata, const char *untrusted_path)
{
	(void)untrusted_path;
	list_domains(userdata);
}

/* A guest follows its own name. */
static void on_own_name_changed(void *userdata, const char *untrusted_path)
{
	struct directory *directory = userdata;

	(void)untrusted_path;
	read_domain(directory, directory->own);
}

static void watch(struct directory *directory)
{
	if (directory->own == 0) {
		store_watch(directory->store, "@introduceDomain", on_domains_changed, directory, NULL);
		store_watch(directory->store, "@releaseDomain", on_domains_changed, directory, NULL);
	} else {
		store_watch(directory->store, "name", on_own_name_changed, directory, NULL);
	}
}

static void unwatch(struct directory *directory)
{
	struct domain *domain;

	if (directory->own != 0) {
		store_unwatch(directory->store, "name", on_own_name_changed, directory);
		return;
	}
	store_unwatch(directory->store, "@introduceDomain", on_domains_changed, directory);
	store_unwatch(directory->store, "@releaseDomain", on_domains_changed, directory);
	for (domain = directory->domains; domain; domain = domain->hh.next)
		if (!domain->removed)
			unwatch_domain(directory, domain);
}

/* --- a guest: being told by domain 0 -------------------------------------------------------------------------------- */

static void forget_others(struct directory *directory, bool all)
{
	struct domain *domain, *next;

	HASH_ITER (hh, directory->domains, domain, next)
		if (domain->domid != directory->own && (all || !domain->seen))
			forget_domain(directory, domain);
}

static void on_forget(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	(void)fd;
	(void)what;
	log_info("directory: domain 0's daemon hasn't come back: names of other domains are unknown from now on");
	directory->served = false;
	forget_others(directory, true);
}

/* Tried until the link is up or domain 0's daemon has gone; while one try is under way, the next has no effect. */
static void on_want(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;

	(void)fd;
	(void)what;
	if (!directory->present || directory->linked)
		return;
	start_timer(directory->want, directory->want_ms);
	directory->want_ms = directory->want_ms * 2 < WANT_LAST_MS ? directory->want_ms * 2 : WANT_LAST_MS;
	directory->callbacks.want_link(directory->userdata);
}

void directory_presence(struct directory *directory, bool up)
{
	if (directory->own == 0)
		return;
	directory->present = up;
	evtimer_del(directory->want);
	directory->want_ms = WANT_FIRST_MS;
	if (up)
		start_timer(directory->want, 0);
}

void directory_link(struct directory *directory, uint32_t domid, bool up)
{
	if (directory->own == 0) {
		if (up)
			guest_came(directory, domid);
		else
			guest_left(directory, domid);
		return;
	}
	if (domid != 0)
		return;
	directory->linked = up;
	directory->listing = false;
	if (up) {
		evtimer_del(directory->want);
		return;
	}
	if (directory->present)
		start_timer(directory->want, directory->want_ms);
	if (directory->served)
		start_timer(directory->forget, directory->believed_ms);
}

static void take_entry(struct directory *directory, const struct frame_directory_entry *entry)
{
	struct domain *domain;
	char name[DOMAIN_NAME_MAX + 1] = "";

	if (entry->domid == directory->own) /* of that we know as much at first hand */
		return;
	if (entry->state == DIRECTORY_REMOVED) {
		domain = find(directory, entry->domid);
		if (domain)
			forget_domain(directory, domain);
		return;
	}
	domain = get(directory, entry->domid);
	if (!domain)
		return;
	domain->seen = true;
	set_uuid(directory, domain, entry->uuid);
	memcpy(name, entry->name.data, entry->name.size);
	if (!name_is_usable(name, entry->name.size))
		name[0] = '\0';
	set_name(directory, domain, name, strlen(name));
}

void directory_renumber(struct directory *directory, uint32_t domid)
{
	struct domain *domain, *next;

	HASH_ITER (hh, directory->domains, domain, next)
		forget_domain(directory, domain);
	directory->own = domid;
	directory->present = directory->linked = directory->served = directory->listing = false;
	directory->want_ms = WANT_FIRST_MS;
	evtimer_del(directory->want);
	evtimer_del(directory->forget);
	if (!get(directory, domid))
		log_error("directory: out of memory: this domain's name is unknown");
	read_domain(directory, domid);
}

int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length)
{
	struct frame_directory frame, unchecked;
	struct frame_directory_entry entry;
	struct domain *domain;
	int r = frame_directory_decode(payload, length, &frame);

	if (r < 0 || directory->own == 0)
		return -EPROTO;
	/* All of it is checked before any of it is believed. */
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
	if (!directory->listing || (frame.flags & DIRECTORY_MORE))
		return 0;
	directory->listing = false;
	forget_others(directory, false);
	if (!directory->served)
		log_info("directory: domain 0 tells the names of %u domains", HASH_COUNT(directory->domains));
	directory->served = true;
	directory->want_ms = WANT_FIRST_MS;
	evtimer_del(directory->forget);
	return 0;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

int directory_new(struct directory **out, struct event_base *base, struct store *store,
		  const struct directory_options *options, const struct directory_callbacks *callbacks, void *userdata)
{
	struct directory *directory = calloc(1, sizeof(*directory));

	if (!directory)
		return -ENOMEM;
	directory->store = store;
	directory->own = options->domid;
	directory->believed_ms = options->believed_ms;
	directory->callbacks = *callbacks;
	directory->userdata = userdata;
	directory->want_ms = WANT_FIRST_MS;
	directory->gather = evtimer_new(base, on_gathered, directory);
	directory->resend = evtimer_new(base, on_gathered, directory);
	directory->want = evtimer_new(base, on_want, directory);
	directory->forget = evtimer_new(base, on_forget, directory);
	if (!directory->gather || !directory->resend || !directory->want || !directory->forget ||
	    (options->domid != 0 && !get(directory, options->domid))) {
		directory_free(directory);
		return -ENOMEM;
	}
	watch(directory);
	directory->watching = true;
	*out = directory;
	return 0;
}

void directory_free(struct directory *directory)
{
	struct request *request, *next_request;
	struct domain *domain, *next;

	if (!directory)
		return;
	if (directory->watching)
		unwatch(directory);
	DL_FOREACH_SAFE(directory->requests, request, next_request) {
		store_forget(directory->store, request);
		request_free(request);
	}
	while (directory->guests)
		guest_left(directory, directory->guests->domid);
	HASH_ITER (hh, directory->domains, domain, next)
		drop(directory, domain);
	if (directory->gather)
		event_free(directory->gather);
	if (directory->resend)
		event_free(directory->resend);
	if (directory->want)
		event_free(directory->want);
	if (directory->forget)
		event_free(directory->forget);
	free(directory);
}
