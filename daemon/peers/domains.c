/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/domains.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/timer.h"
#include "daemon/registry/registry.h"
#include "daemon/xen/store.h"
#include "wire/address.h"
#include "wire/retry.h"

struct domains {
	struct store *store;
	struct store_watch *introduced, *released;
	struct store_request *listing;
	bool again;	     /* list them once more after that */
	struct event *retry; /* and after an error */
	struct registry *registry;
	uint64_t lists;
};

/* Domains that came or went in between aren't told again. */
static void list_later(struct domains *domains, int error)
{
	log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_ERROR, "domains: can't list them: %s", strerror(-error));
	timer_start(domains->retry, RETRY_EACH_MS);
}

static void domains_on_listed(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct domains *domains = userdata;
	uint32_t domid;

	if (domains->again) {
		domains->again = false;
		domains_list(domains);
	}
	if (error < 0) {
		list_later(domains, error);
		return;
	}
	domains->lists++;
	for (unsigned i = 0; i < count; i++)
		if (domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &domid))
			registry_set_exists(domains->registry, domid, domains->lists);
	registry_end_list(domains->registry, domains->lists);
}

void domains_list(struct domains *domains)
{
	int r;

	if (domains->listing) {
		domains->again = true;
		return;
	}
	r = store_list(domains->store, "/local/domain", domains_on_listed, domains, &domains->listing);
	if (r < 0)
		list_later(domains, r);
}

static void domains_on_retry(int fd, short what, void *userdata)
{
	domains_list(userdata);
}

bool domains_are_listed(const struct domains *domains)
{
	return domains->lists && !domains->listing;
}

static void domains_on_changed(void *userdata, const char *untrusted_path)
{
	domains_list(userdata);
}

static void domains_on_watched(void *userdata, int error, const char *value, size_t size)
{
	if (error < 0)
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_ERROR,
			    "domains: can't watch them in XenStore: %s; some will not be seen",
			    strerror(-error));
}

int domains_new(struct domains **out, struct event_base *base, struct store *store, struct registry *registry)
{
	struct domains *domains = calloc(1, sizeof(*domains));
	int r;

	if (!domains)
		return -ENOMEM;
	domains->store = store;
	domains->registry = registry;
	domains->retry = evtimer_new(base, domains_on_retry, domains);
	r = domains->retry ? 0 : -ENOMEM;
	if (r == 0)
		r = store_watch(store, "@introduceDomain", domains_on_changed, domains, domains_on_watched,
				&domains->introduced);
	if (r == 0)
		r = store_watch(store, "@releaseDomain", domains_on_changed, domains, domains_on_watched,
				&domains->released);
	if (r < 0) {
		domains_free(domains);
		return r;
	}
	*out = domains;
	return 0;
}

void domains_free(struct domains *domains)
{
	if (!domains)
		return;
	free_event(domains->retry);
	store_cancel(&domains->listing);
	store_unwatch(domains->store, &domains->introduced);
	store_unwatch(domains->store, &domains->released);
	free(domains);
}
