/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/directory_follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "daemon/peers/directory_internal.h"
#include "daemon/base/log.h"
#include "daemon/xen/store.h"
#include "daemon/base/timer.h"
#include "wire/address.h"

#define DOMAIN_PATH_MAX 64

/* What the store will call back about. */
struct request {
	struct directory *directory;
	uint32_t domid;
	bool is_uuid;
	struct request *prev, *next;
};

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
	timer_start(directory->gather, 0);
}

/* The node `vm` holds "/vm/<uuid>". */
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

static void on_value(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct request *request = userdata;
	struct directory *directory = request->directory;
	struct domain *domain = directory_find(directory, request->domid);

	/* If XenStore is broken, that says nothing about the domain: its watches fire when it is back. */
	if (domain && !domain->removed && (error == 0 || error == -ENOENT)) {
		if (request->is_uuid)
			take_uuid(directory, domain, untrusted_value, size);
		else
			take_name(directory, domain, untrusted_value, size);
		*(request->is_uuid ? &domain->uuid_read : &domain->name_read) = true;
		if (domain->name_read && domain->uuid_read)
			directory_set_known(directory, domain);
		if (error == -ENOENT && !request->is_uuid && directory->self->domid == 0)
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
	store_read(directory->store, directory->self->domid == 0 ? path : node, on_value, request);
}

/* In a guest its own, relative to its home: of others it may not read them. */
void follow_read(struct directory *directory, uint32_t domid)
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
	if (!strcmp(path, untrusted_path) && directory_find(directory, domid))
		follow_read(directory, domid);
}

static void add_domain(struct directory *directory, uint32_t domid)
{
	struct domain *domain = directory_find(directory, domid);
	char path[DOMAIN_PATH_MAX];

	if (domain && !domain->removed) {
		domain->seen = true;
		return;
	}
	domain = directory_get(directory, domid);
	if (!domain)
		return;
	domain->removed = false;
	domain->seen = true;
	name_path(domid, path);
	store_watch(directory->store, path, on_name_changed, directory, NULL);
	/* The watch fires at once too, but this is what `complete` waits for. */
	follow_read(directory, domid);
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
	domain->removed = true;
	domain->known = domain->name_read = domain->uuid_read = false;
	directory_set_name(directory, domain, "", 0);
	directory_set_uuid(directory, domain, (const uint8_t[16]){0});
	directory_has_changed(directory, domain);
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
	HASH_ITER(hh, directory->domains, domain, next)
		domain->seen = false;
	for (unsigned i = 0; i < count; i++)
		if (domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &domid))
			add_domain(directory, domid);
	HASH_ITER(hh, directory->domains, domain, next)
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
	list_domains(userdata);
}

/* A guest follows its own name. */
static void on_own_name_changed(void *userdata, const char *untrusted_path)
{
	struct directory *directory = userdata;

	follow_read(directory, directory->self->domid);
}

static void watch(struct directory *directory)
{
	if (directory->self->domid == 0) {
		store_watch(directory->store, "@introduceDomain", on_domains_changed, directory, NULL);
		store_watch(directory->store, "@releaseDomain", on_domains_changed, directory, NULL);
	} else {
		store_watch(directory->store, "name", on_own_name_changed, directory, NULL);
	}
}

static void unwatch(struct directory *directory)
{
	struct domain *domain;

	if (directory->self->domid != 0) {
		store_unwatch(directory->store, "name", on_own_name_changed, directory);
		return;
	}
	store_unwatch(directory->store, "@introduceDomain", on_domains_changed, directory);
	store_unwatch(directory->store, "@releaseDomain", on_domains_changed, directory);
	for (domain = directory->domains; domain; domain = domain->hh.next)
		if (!domain->removed)
			unwatch_domain(directory, domain);
}

void follow_start(struct directory *directory)
{
	watch(directory);
	directory->watching = true;
}

void follow_stop(struct directory *directory)
{
	struct request *request, *next;

	if (directory->watching)
		unwatch(directory);
	DL_FOREACH_SAFE(directory->requests, request, next) {
		store_forget(directory->store, request);
		request_free(request);
	}
}
