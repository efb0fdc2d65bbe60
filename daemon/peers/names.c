/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/peers_parse.h"
#include "daemon/xen/store.h"
#include "wire/text.h"

#define DOMAIN_PATH_MAX 64
#define NAME_SHOWN	128 /* bytes of a name that is none */

struct names {
	struct store *store;
	const struct self *self;
	struct registry *registry;
	struct domains *domains;
	struct registry_sink sink;
	unsigned reading;	       /* reads under way, or that wait for the first event of a watch */
	bool are_read;		       /* those of all domains that there were at the start */
	struct store_watch *own_watch; /* a guest */
};

/* A domain whose name is read: the source of its struct registry_domain. */
struct followed {
	struct names *names;
	struct registry_domain *domain;
	bool name_read, uuid_read;
	struct store_request *name_reading, *uuid_reading;
	/* domain 0: */
	bool tags_read;
	bool name_due, tags_due;  /* when their watches fire for the first time */
	const char *tags_refused; /* why, as was logged; NULL: they aren't */
	struct store_request *tags_reading;
	struct store_watch *watch, *tags_watch; /* of the name, of the tags */
};

static void names_check_complete(struct names *names)
{
	if (!names->domains || names->are_read || names->reading || !domains_are_listed(names->domains))
		return;
	names->are_read = true;
	registry_tell(names->registry, REGISTRY_READ, 0);
}

/* Takes the UUID from the node `vm`, which holds "/vm/<uuid>". */
static void take_uuid(struct followed *followed, const char *untrusted_value, size_t size)
{
	uint8_t uuid[16] = {0};

	if (untrusted_value && size > 4 && !memcmp(untrusted_value, "/vm/", 4) &&
	    !uuid_parse(untrusted_value + 4, size - 4, uuid))
		memset(uuid, 0, sizeof(uuid));
	registry_set_uuid(followed->names->registry, followed->domain, uuid);
}

static void names_take_name(struct followed *followed, const char *untrusted_value, size_t size)
{
	bool usable = untrusted_value && registry_name_is_usable(untrusted_value, size);
	char shown[NAME_SHOWN];

	if (untrusted_value && size && !usable) {
		snprintf(shown, sizeof(shown), "%.*s", (int)size, untrusted_value);
		text_make_line(shown);
		log_limited(
			LOG_BAD_VALUE, LOG_BY_DOMAIN(followed->domain->domid), LOG_LEVEL_WARNING,
			"names: domain %u is called '%s', which can't stand in an address (%s): it is shown "
			"without a name, and is reached by its domid or its UUID",
			followed->domain->domid, shown,
			strspn(shown, "0123456789") == size
				? "it would be a number"
				: "a name has no blanks, no : and no /, and is ASCII");
	}
	registry_set_name(followed->names->registry, followed->domain, usable ? untrusted_value : "",
			  usable ? size : 0);
}

/* Returns whether the result says something about the domain. A broken XenStore says nothing: its watches
 * fire when it is back. */
static bool names_is_answer(int error)
{
	return error == 0 || error == -ENOENT || error == -EPERM;
}

/* On a dom0less host a guest owns these two nodes, and could call itself what it likes. */
static void log_refused(const struct followed *followed, int error, const char *what)
{
	if (error == -EPERM)
		log_limited(
			LOG_BAD_VALUE, LOG_BY_DOMAIN(followed->domain->domid), LOG_LEVEL_WARNING,
			"names: the %s of domain %u in XenStore isn't taken: others than domain 0 may write it",
			what, followed->domain->domid);
}

static void has_read(struct followed *followed)
{
	struct names *names = followed->names;

	if (followed->name_read && followed->uuid_read && (followed->tags_read || !names->domains))
		registry_set_complete(names->registry, followed->domain, true);
	names->reading--;
	names_check_complete(names);
}

static void on_name(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct followed *followed = userdata;
	struct domains *domains = followed->names->domains;

	log_refused(followed, error, "name");
	if (names_is_answer(error)) {
		names_take_name(followed, untrusted_value, size);
		followed->name_read = true;
		if (error == -ENOENT && domains) {
			followed->domain->is_vanishing = true;
			domains_list(domains); /* it may have gone */
		}
	}
	has_read(followed);
}

static void on_uuid(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct followed *followed = userdata;

	log_refused(followed, error, "UUID");
	if (names_is_answer(error)) {
		take_uuid(followed, untrusted_value, size);
		followed->uuid_read = true;
	}
	has_read(followed);
}

static void refuse_tags(struct followed *followed, const char *why)
{
	struct registry_domain *domain = followed->domain;

	if (followed->tags_refused != why)
		log_limited(
			LOG_BAD_VALUE, LOG_BY_DOMAIN(domain->domid), LOG_LEVEL_ERROR,
			"names: the tags of domain %u in XenStore aren't taken: %s; the host's policy lets nobody in there, "
			"and no rule by name or tag lets it in",
			domain->domid, why);
	followed->tags_refused = why;
	(void)registry_set_tags(followed->names->registry, domain, NULL, true);
}

/* Only domain 0 can have written them: -EPERM if not. */
static void on_tags(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct followed *followed = userdata;
	const char *why = "others than domain 0 may write them";
	char *tags = NULL;
	int r = error;

	if (error == 0)
		r = given_tags_read(untrusted_value, size, &tags, &why);
	if (r == 0 && tags && (!followed->domain->tags || strcmp(followed->domain->tags, tags)))
		log_info("names: domain %u has the tags %.*s", followed->domain->domid, (int)strlen(tags) - 2,
			 tags + 1);
	if (r == 0 || r == -ENOENT) {
		followed->tags_refused = NULL;
		r = registry_set_tags(followed->names->registry, followed->domain, tags, false);
	} else if (r == -EINVAL || r == -EPERM) {
		refuse_tags(followed, why);
	}
	free(tags);
	if (r == -ENOMEM)
		log_error("names: out of memory: the tags of domain %u are read when they change",
			  followed->domain->domid);
	else if (names_is_answer(error))
		followed->tags_read = true;
	has_read(followed);
}

static void name_path(uint32_t domid, char path[DOMAIN_PATH_MAX])
{
	snprintf(path, DOMAIN_PATH_MAX, "/local/domain/%u/name", domid);
}

static void names_stop_reading(struct followed *followed)
{
	followed->names->reading -=
		(followed->name_reading != NULL) + (followed->uuid_reading != NULL) + followed->name_due;
	followed->name_due = false;
	store_cancel(&followed->name_reading);
	store_cancel(&followed->uuid_reading);
}

static void stop_reading_tags(struct followed *followed)
{
	followed->names->reading -= (followed->tags_reading != NULL) + followed->tags_due;
	followed->tags_due = false;
	store_cancel(&followed->tags_reading);
}

/* Reads the name and UUID again, since a read under way may return old ones. A guest reads only its own,
 * relative to its home: it may not read those of others. */
static void names_read_domain(struct followed *followed)
{
	struct names *names = followed->names;
	char name[DOMAIN_PATH_MAX] = "name", vm[DOMAIN_PATH_MAX] = "vm";
	uint32_t domid = followed->domain->domid;
	int (*read)(struct store *, const char *, store_done_fn, void *, struct store_request **) =
		store_read;
	int r;

	if (names->domains) { /* all others believe what domain 0 says of it */
		read = store_read_toolstacks;
		name_path(domid, name);
		snprintf(vm, sizeof(vm), "/local/domain/%u/vm", domid);
	}
	names_stop_reading(followed);
	r = read(names->store, name, on_name, followed, &followed->name_reading);
	if (r == 0)
		r = read(names->store, vm, on_uuid, followed, &followed->uuid_reading);
	names->reading += (followed->name_reading != NULL) + (followed->uuid_reading != NULL);
	if (r < 0)
		log_error("names: the name of domain %u isn't read before it changes: %s", domid,
			  strerror(-r));
}

static void on_name_changed(void *userdata, const char *untrusted_path)
{
	names_read_domain(userdata);
}

/* A watch that can't be set fires later, or never. */
static void on_name_watched(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct followed *followed = userdata;

	if (error < 0 && followed->name_due)
		names_read_domain(followed);
}

static void tags_path(uint32_t domid, char path[DOMAIN_PATH_MAX])
{
	snprintf(path, DOMAIN_PATH_MAX, "/local/domain/%u/xenmsg/tags", domid);
}

static void read_tags(struct followed *followed)
{
	struct names *names = followed->names;
	char path[DOMAIN_PATH_MAX];

	tags_path(followed->domain->domid, path);
	stop_reading_tags(followed);
	if (store_read_toolstacks(names->store, path, on_tags, followed, &followed->tags_reading) < 0)
		log_error("names: out of memory: the tags of domain %u aren't read before they change",
			  followed->domain->domid);
	names->reading += followed->tags_reading != NULL;
}

static void on_tags_changed(void *userdata, const char *untrusted_path)
{
	read_tags(userdata);
}

static void on_tags_watched(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct followed *followed = userdata;

	if (error < 0 && followed->tags_due)
		read_tags(followed);
}

/* Returns the domain's, made if there was none. NULL: out of memory. */
static struct followed *follow(struct names *names, uint32_t domid)
{
	struct registry_domain *domain = registry_get(names->registry, domid);
	struct followed *followed = domain ? domain->source : NULL;

	if (!domain || followed)
		return followed;
	followed = calloc(1, sizeof(*followed));
	domain->source = followed;
	if (followed)
		*followed = (struct followed){.names = names, .domain = domain};
	return followed;
}

/* What REGISTRY_READ waits for is read when the watches fire, which they do at once. */
static void names_domain_there(struct names *names, uint32_t domid)
{
	struct followed *followed = follow(names, domid);
	char path[DOMAIN_PATH_MAX];

	if (!followed || followed->watch)
		return;
	names->reading += 2;
	followed->name_due = followed->tags_due = true;
	name_path(domid, path);
	if (store_watch(names->store, path, on_name_changed, followed, on_name_watched, &followed->watch) <
	    0) {
		log_error("names: out of memory: the name of domain %u isn't watched", domid);
		names_read_domain(followed);
	}
	tags_path(domid, path);
	if (store_watch(names->store, path, on_tags_changed, followed, on_tags_watched,
			&followed->tags_watch) < 0) {
		log_error("names: out of memory: the tags of domain %u aren't watched", domid);
		read_tags(followed);
	}
}

static void follow_end(struct followed *followed)
{
	names_stop_reading(followed);
	stop_reading_tags(followed);
	store_unwatch(followed->names->store, &followed->watch);
	store_unwatch(followed->names->store, &followed->tags_watch);
	registry_drop_source(followed->names->registry, followed->domain);
	free(followed);
}

static void follow_nobody(struct names *names)
{
	struct registry_domain *domain = registry_next(names->registry, NULL), *next;

	for (; domain; domain = next) {
		next = registry_next(names->registry, domain);
		if (domain->source)
			follow_end(domain->source);
	}
}

/* Looks again at those whose names are no more, and which are there. */
static void end_vanishing(struct names *names)
{
	struct registry_domain *domain = NULL;

	while (domains_are_listed(names->domains) &&
	       (domain = registry_next(names->registry, domain)) != NULL)
		if (domain->is_vanishing) {
			domain->is_vanishing = false;
			registry_touch(names->registry, domain);
		}
	names_check_complete(names);
}

static void names_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct names *names = userdata;
	const struct registry_domain *domain =
		what == REGISTRY_EXISTS ? registry_find(names->registry, domid) : NULL;

	if (domain && domain->exists)
		names_domain_there(names, domid);
	else if (domain && domain->source)
		follow_end(domain->source);
	if (domain && !domain->exists)
		registry_forget_name(names->registry, domid);
	if (what == REGISTRY_LISTED)
		end_vanishing(names);
}

/* --- a guest, which reads its own name --- */

static int follow_own(struct names *names)
{
	struct followed *followed = follow(names, names->self->domid);

	if (followed)
		names_read_domain(followed);
	return followed ? 0 : -ENOMEM;
}

static void on_own_name_changed(void *userdata, const char *untrusted_path)
{
	(void)follow_own(userdata);
}

void names_restart(struct names *names)
{
	follow_nobody(names);
	registry_forget_names(names->registry, UINT64_MAX, true);
	if (follow_own(names) < 0)
		log_error("names: out of memory: this domain's name is unknown");
}

/* --- life --- */

int names_new(struct names **out, struct store *store, const struct self *self, struct registry *registry,
	      struct domains *domains)
{
	struct names *names = calloc(1, sizeof(*names));

	if (!names)
		return -ENOMEM;
	*names = (struct names){.store = store, .self = self, .registry = registry, .domains = domains};
	registry_listen(registry, &names->sink, names_on_known, names);
	if (!domains && (!follow(names, self->domid) || store_watch(store, "name", on_own_name_changed, names,
								    NULL, &names->own_watch) < 0)) {
		names_free(names);
		return -ENOMEM;
	}
	*out = names;
	return 0;
}

void names_free(struct names *names)
{
	if (!names)
		return;
	registry_leave(names->registry, &names->sink);
	store_unwatch(names->store, &names->own_watch);
	follow_nobody(names);
	free(names);
}
