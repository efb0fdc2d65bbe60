/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/domains.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/log.h"
#include "daemon/xen/store.h"
#include "wire/address.h"

struct domains {
	struct store *store;
	struct store_watch *introduced, *released;
	struct store_request *listing;
	bool again;  /* list them once more after that */
	bool listed; /* at least once */
	struct domains_follower *followers;
	bool there[DOMID_MAX + 1];
	bool missed[DOMID_MAX + 1]; /* not in the list that is being gone through */
};

static void tell(struct domains *domains, uint32_t domid, bool there)
{
	struct domains_follower *follower;

	domains->there[domid] = there;
	DL_FOREACH(domains->followers, follower)
		(there ? follower->there : follower->gone)(follower->userdata, domid);
}

static void on_listed(void *userdata, int error, char *const *untrusted_names, unsigned count)
{
	struct domains *domains = userdata;
	struct domains_follower *follower;
	uint32_t domid;

	if (domains->again) {
		domains->again = false;
		domains_list(domains);
	}
	if (error < 0) {
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_ERROR, "domains: can't list them: %s",
			    strerror(-error));
		return;
	}
	memcpy(domains->missed, domains->there, sizeof(domains->missed));
	for (unsigned i = 0; i < count; i++) {
		if (!domid_parse(untrusted_names[i], strlen(untrusted_names[i]), &domid))
			continue;
		domains->missed[domid] = false;
		tell(domains, domid, true);
	}
	for (domid = 0; domid <= DOMID_MAX; domid++)
		if (domains->missed[domid])
			tell(domains, domid, false);
	domains->listed = true;
	DL_FOREACH(domains->followers, follower)
		if (follower->listed)
			follower->listed(follower->userdata);
}

void domains_list(struct domains *domains)
{
	int r;

	if (domains->listing) {
		domains->again = true;
		return;
	}
	r = store_list(domains->store, "/local/domain", on_listed, domains, &domains->listing);
	if (r < 0)
		log_error("domains: can't list them: %s", strerror(-r));
}

bool domains_are_listed(const struct domains *domains)
{
	return domains->listed && !domains->listing;
}

static void on_changed(void *userdata, const char *untrusted_path)
{
	domains_list(userdata);
}

static void on_watched(void *userdata, int error, const char *value, size_t size)
{
	if (error < 0)
		log_limited(LOG_STORE, LOG_BY_US, LOG_LEVEL_ERROR,
			    "domains: can't watch them in XenStore: %s; some will not be seen",
			    strerror(-error));
}

int domains_new(struct domains **out, struct store *store)
{
	struct domains *domains = calloc(1, sizeof(*domains));
	int r;

	if (!domains)
		return -ENOMEM;
	domains->store = store;
	r = store_watch(store, "@introduceDomain", on_changed, domains, on_watched, &domains->introduced);
	if (r == 0)
		r = store_watch(store, "@releaseDomain", on_changed, domains, on_watched, &domains->released);
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
	store_cancel(&domains->listing);
	store_unwatch(domains->store, &domains->introduced);
	store_unwatch(domains->store, &domains->released);
	free(domains);
}

void domains_follow(struct domains *domains, struct domains_follower *follower)
{
	DL_APPEND(domains->followers, follower);
	for (uint32_t domid = 0; domid <= DOMID_MAX; domid++)
		if (domains->there[domid])
			follower->there(follower->userdata, domid);
	if (domains->listed && follower->listed)
		follower->listed(follower->userdata);
}

void domains_leave(struct domains *domains, struct domains_follower *follower)
{
	if (!follower->prev) /* it isn't on the list: the list's head, too, has a `prev`, its tail */
		return;
	DL_DELETE(domains->followers, follower);
	follower->prev = follower->next = NULL;
}
