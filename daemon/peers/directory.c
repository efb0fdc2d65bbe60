/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/directory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/peers/directory_believe.h"
#include "daemon/peers/directory_follow.h"
#include "daemon/peers/directory_internal.h"
#include "daemon/peers/directory_serve.h"
#include "base/log.h"
#include "base/timer.h"

#define GATHER_MS 10 /* a new domain's nodes are written one by one, and a host starts many domains at once */

static const uint8_t no_uuid[16];

/* --- what is known ---------------------------------------------------------------------------- */

struct domain *directory_find(struct directory *directory, uint32_t domid)
{
	struct domain *domain;

	HASH_FIND(hh, directory->domains, &domid, sizeof(domid), domain);
	return domain;
}

struct domain *directory_get(struct directory *directory, uint32_t domid)
{
	struct domain *domain = directory_find(directory, domid);

	if (domain)
		return domain;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return NULL;
	domain->directory = directory;
	domain->domid = domid;
	HASH_ADD(hh, directory->domains, domid, sizeof(domain->domid), domain);
	return domain;
}

void directory_drop(struct directory *directory, struct domain *domain)
{
	follow_end(domain);
	HASH_DEL(directory->domains, domain);
	free(domain);
}

bool directory_uuid_parse(const char *text, size_t size, uint8_t uuid[16])
{
	unsigned digits = 0;

	if (size != DIRECTORY_UUID_TEXT_SIZE - 1)
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

/* Writes the UUID as text, "" for none. */
static void uuid_print(const uint8_t uuid[16], char text[DIRECTORY_UUID_TEXT_SIZE])
{
	char *at = text;

	*at = '\0';
	if (!memcmp(uuid, no_uuid, sizeof(no_uuid)))
		return;
	for (unsigned i = 0; i < 16; i++)
		at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

bool directory_name_is_usable(const char *name, size_t size)
{
	uint8_t uuid[16];

	return domain_name_is_valid(name, size) && strspn(name, "0123456789") < size &&
	       !directory_uuid_parse(name, size, uuid) && !(size == 4 && !memcmp(name, "self", 4));
}

void directory_has_changed(struct directory *directory, struct domain *domain)
{
	domain->changed = true;
	directory->changed = true;
	domain->learned = ++directory->clock;
	timer_start(directory->gather, GATHER_MS);
}

void directory_set_name(struct directory *directory, struct domain *domain, const char *name, size_t size)
{
	char old[sizeof(domain->name)];

	if (strlen(domain->name) == size && memcmp(domain->name, name, size) == 0)
		return;
	memcpy(old, domain->name, sizeof(old));
	memcpy(domain->name, name, size);
	domain->name[size] = '\0';
	directory_has_changed(directory, domain);
	directory->callbacks.changed(directory->userdata, domain->domid, old, domain->name);
}

void directory_set_uuid(struct directory *directory, struct domain *domain, const uint8_t uuid[16])
{
	if (memcmp(domain->uuid, uuid, sizeof(domain->uuid)) == 0)
		return;
	memcpy(domain->uuid, uuid, sizeof(domain->uuid));
	uuid_print(uuid, domain->uuid_text);
	directory_has_changed(directory, domain);
	directory->callbacks.changed(directory->userdata, domain->domid, domain->name, domain->name);
}

void directory_set_known(struct directory *directory, struct domain *domain)
{
	if (domain->known)
		return;
	domain->known = true;
	directory_has_changed(directory, domain);
	directory->callbacks.changed(directory->userdata, domain->domid, domain->name, domain->name);
}

void directory_forget_domain(struct directory *directory, struct domain *domain)
{
	uint32_t domid = domain->domid;
	char old[sizeof(domain->name)];

	memcpy(old, domain->name, sizeof(old));
	directory_has_changed(directory, domain);
	directory_drop(directory, domain);
	directory->callbacks.changed(directory->userdata, domid, old, "");
}

int directory_resolve(struct directory *directory, const char *name, uint32_t *domid)
{
	const struct domain *domain, *found = NULL;
	uint8_t uuid[16];
	bool is_uuid;

	if (domid_parse(name, strlen(name), domid))
		return 0;
	is_uuid = directory_uuid_parse(name, strlen(name), uuid);
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
	const struct domain *domain = directory_find(directory, domid);

	return domain ? domain->name : "";
}

const char *directory_uuid(struct directory *directory, uint32_t domid)
{
	const struct domain *domain = directory_find(directory, domid);

	return domain ? domain->uuid_text : "";
}

bool directory_knows(struct directory *directory, uint32_t domid)
{
	const struct domain *domain = directory_find(directory, domid);

	return domain && domain->known;
}

bool directory_is_away(const struct directory *directory, uint32_t domid)
{
	const struct domain *domain;

	HASH_FIND(hh, directory->domains, &domid, sizeof(domid), domain);
	return domain && domain->away && directory->self->domid != 0;
}

bool directory_comes_back(const struct directory *directory, uint32_t domid)
{
	const struct domain *domain, *other;

	HASH_FIND(hh, directory->domains, &domid, sizeof(domid), domain);
	if (!domain || directory->self->domid == 0 || !memcmp(domain->uuid, no_uuid, sizeof(no_uuid)))
		return false;
	for (other = directory->domains; other; other = other->hh.next)
		if (other->away && !memcmp(other->uuid, domain->uuid, sizeof(domain->uuid)))
			return true;
	return false;
}

const char *directory_why_unknown(struct directory *directory, uint32_t domid)
{
	if (directory->self->domid == 0 || directory->self->domid == domid)
		return "XenStore hasn't told it yet";
	if (directory->served)
		return "domain 0 hasn't told it; a [see] there may hide it";
	return directory->present ? "xenmsgd in domain 0 hasn't told the names yet"
				  : "no xenmsgd is seen in domain 0, which tells the names";
}

bool directory_is_served(const struct directory *directory)
{
	return directory->self->domid == 0 || directory->served;
}

static void on_gathered(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	bool changed = directory->changed;

	/* A list that isn't complete yet would take from the guests what an earlier daemon has told them. */
	if (directory->complete)
		serve_tell(directory);
	directory->changed = false;
	directory->callbacks.flush(directory->userdata, changed);
}

void directory_refresh(struct directory *directory)
{
	serve_refresh(directory);
	timer_start(directory->gather, GATHER_MS);
}

void directory_link(struct directory *directory, uint32_t domid, bool up)
{
	if (directory->self->domid != 0)
		believe_link(directory, domid, up);
	else if (up)
		serve_guest_came(directory, domid);
	else
		serve_guest_left(directory, domid);
}

void directory_link_anew(struct directory *directory, uint32_t domid)
{
	if (directory->self->domid != 0)
		believe_link_anew(directory, domid);
}

void directory_restart(struct directory *directory)
{
	uint32_t own = directory->self->domid;
	struct domain *domain, *next;

	HASH_ITER(hh, directory->domains, domain, next)
		directory_forget_domain(directory, domain);
	believe_reset(directory);
	if (!directory_get(directory, own))
		log_error("directory: out of memory: this domain's name is unknown");
	follow_own(directory);
}

/* --- life ------------------------------------------------------------------------------------- */

int directory_new(struct directory **out, struct event_base *base, struct store *store,
		  const struct directory_options *options, const struct directory_callbacks *callbacks,
		  void *userdata)
{
	struct directory *directory = calloc(1, sizeof(*directory));

	if (!directory)
		return -ENOMEM;
	directory->store = store;
	directory->self = options->self;
	directory->access = options->access;
	directory->following = options->domains;
	directory->believed_ms = options->believed_ms;
	directory->kept_ms = options->kept_ms;
	directory->callbacks = *callbacks;
	directory->userdata = userdata;
	directory->gather = evtimer_new(base, on_gathered, directory);
	directory->resend = evtimer_new(base, on_gathered, directory);
	directory->away_over = evtimer_new(base, serve_away_over, directory);
	if (!directory->gather || !directory->resend || !directory->away_over ||
	    believe_init(directory, base) < 0 ||
	    (options->self->domid != 0 && !directory_get(directory, options->self->domid)) ||
	    follow_start(directory) < 0) {
		directory_free(directory);
		return -ENOMEM;
	}
	*out = directory;
	return 0;
}

void directory_free(struct directory *directory)
{
	struct domain *domain, *next;

	if (!directory)
		return;
	follow_stop(directory);
	serve_stop(directory);
	HASH_ITER(hh, directory->domains, domain, next)
		directory_drop(directory, domain);
	if (directory->gather)
		event_free(directory->gather);
	if (directory->resend)
		event_free(directory->resend);
	if (directory->away_over)
		event_free(directory->away_over);
	believe_destroy(directory);
	free(directory);
}
