/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/directory_follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/peers/directory_internal.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/xen/store.h"
#include "base/timer.h"

#define DOMAIN_PATH_MAX 64

static void check_complete(struct directory *directory)
{
	if (!directory->following || directory->complete || directory->reading ||
	    !domains_are_listed(directory->following))
		return;
	directory->complete = true;
	timer_start(directory->gather, 0);
}

/* Takes the UUID from the node `vm`, which holds "/vm/<uuid>". */
static void take_uuid(struct directory *directory, struct domain *domain, const char *untrusted_value,
		      size_t size)
{
	uint8_t uuid[16] = {0};

	if (untrusted_value && size > 4 && !memcmp(untrusted_value, "/vm/", 4) &&
	    !directory_uuid_parse(untrusted_value + 4, size - 4, uuid))
		memset(uuid, 0, sizeof(uuid));
	directory_set_uuid(directory, domain, uuid);
}

static void take_name(struct directory *directory, struct domain *domain, const char *untrusted_value,
		      size_t size)
{
	bool usable = untrusted_value && directory_name_is_usable(untrusted_value, size);

	if (untrusted_value && !usable)
		log_debug(
			"directory: the name of domain %u can't stand in an address; it has its domid and UUID",
			domain->domid);
	directory_set_name(directory, domain, usable ? untrusted_value : "", usable ? size : 0);
}

/* Returns whether the result says something about the domain. A broken XenStore says nothing: its watches
 * fire when it is back. */
static bool is_answer(int error)
{
	return error == 0 || error == -ENOENT;
}

static void has_read(struct domain *domain)
{
	struct directory *directory = domain->directory;

	if (domain->name_read && domain->uuid_read)
		directory_set_known(directory, domain);
	directory->reading--;
	check_complete(directory);
}

static void on_name(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct domain *domain = userdata;

	if (is_answer(error)) {
		take_name(domain->directory, domain, untrusted_value, size);
		domain->name_read = true;
		if (error == -ENOENT && domain->directory->following) {
			domain->vanishing = true;
			domains_list(domain->directory->following); /* it may have gone */
		}
	}
	has_read(domain);
}

static void on_uuid(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct domain *domain = userdata;

	if (is_answer(error)) {
		take_uuid(domain->directory, domain, untrusted_value, size);
		domain->uuid_read = true;
	}
	has_read(domain);
}

static void name_path(uint32_t domid, char path[DOMAIN_PATH_MAX])
{
	snprintf(path, DOMAIN_PATH_MAX, "/local/domain/%u/name", domid);
}

static void stop_reading(struct domain *domain)
{
	domain->directory->reading -= (domain->name_reading != NULL) + (domain->uuid_reading != NULL);
	store_cancel(&domain->name_reading);
	store_cancel(&domain->uuid_reading);
}

/* Reads the name and UUID again, since a read under way may return old ones. A guest reads only its own,
 * relative to its home: it may not read those of others. */
static void read_domain(struct domain *domain)
{
	struct directory *directory = domain->directory;
	char name[DOMAIN_PATH_MAX] = "name", vm[DOMAIN_PATH_MAX] = "vm";
	int r;

	if (directory->following) {
		name_path(domain->domid, name);
		snprintf(vm, sizeof(vm), "/local/domain/%u/vm", domain->domid);
	}
	stop_reading(domain);
	r = store_read(directory->store, name, on_name, domain, &domain->name_reading);
	if (r == 0)
		r = store_read(directory->store, vm, on_uuid, domain, &domain->uuid_reading);
	directory->reading += (domain->name_reading != NULL) + (domain->uuid_reading != NULL);
	if (r < 0)
		log_error("directory: the name of domain %u isn't read before it changes: %s", domain->domid,
			  strerror(-r));
}

static void on_name_changed(void *userdata, const char *untrusted_path)
{
	read_domain(userdata);
}

static void on_there(void *userdata, uint32_t domid)
{
	struct directory *directory = userdata;
	struct domain *domain = directory_get(directory, domid);
	char path[DOMAIN_PATH_MAX];

	if (!domain || domain->watch)
		return;
	domain->removed = domain->away = false;
	name_path(domid, path);
	if (store_watch(directory->store, path, on_name_changed, domain, NULL, &domain->watch) < 0)
		log_error("directory: out of memory: the name of domain %u isn't watched", domid);
	/* The watch fires at once too, but this is what `complete` waits for. */
	read_domain(domain);
}

void follow_end(struct domain *domain)
{
	stop_reading(domain);
	store_unwatch(domain->directory->store, &domain->watch);
}

static void on_gone(void *userdata, uint32_t domid)
{
	struct directory *directory = userdata;
	struct domain *domain = directory_find(directory, domid);

	if (!domain)
		return;
	follow_end(domain);
	domain->vanishing = false;
	domain->removed = true;
	domain->gone_ms = clock_ms();
	domain->known = domain->name_read = domain->uuid_read = false;
	directory_set_name(directory, domain, "", 0);
	directory_set_uuid(directory, domain, (const uint8_t[16]){0});
	directory_has_changed(directory, domain);
}

static void on_listed(void *userdata)
{
	struct directory *directory = userdata;
	struct domain *domain;

	for (domain = directory->domains; domain && domains_are_listed(directory->following);
	     domain = domain->hh.next) {
		if (domain->vanishing)
			directory_has_changed(directory, domain);
		domain->vanishing = false;
	}
	check_complete(directory);
}

/* --- a guest, which follows its own name --- */

void follow_own(struct directory *directory)
{
	struct domain *domain = directory_find(directory, directory->self->domid);

	if (domain)
		read_domain(domain);
}

static void on_own_name_changed(void *userdata, const char *untrusted_path)
{
	follow_own(userdata);
}

/* --- life --- */

int follow_start(struct directory *directory)
{
	if (!directory->following)
		return store_watch(directory->store, "name", on_own_name_changed, directory, NULL,
				   &directory->own_watch);
	directory->follower = (struct domains_follower){
		.there = on_there, .gone = on_gone, .listed = on_listed, .userdata = directory};
	domains_follow(directory->following, &directory->follower);
	return 0;
}

void follow_stop(struct directory *directory)
{
	if (directory->following)
		domains_leave(directory->following, &directory->follower);
	store_unwatch(directory->store, &directory->own_watch);
}
