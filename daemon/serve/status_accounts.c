/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a status says of the accounts: who has how much of this daemon, and of its time. */

#include <json-c/json.h>

#include "base/quota.h"
#include "base/turns.h"
#include "daemon/serve/status_json.h"

bool status_next_account(struct status_walk *walk)
{
	walk->account = quota_next(walk->sources->quota, walk->begun ? &walk->account_key : NULL);
	if (!walk->account)
		return false;
	walk->begun = true;
	walk->account_key = (struct account_key){account_kind(walk->account), account_id(walk->account)};
	return true;
}

bool status_account_is_visible(struct status_walk *walk)
{
	return walk->viewer.sees_all ||
	       (account_kind(walk->account) == QUOTA_UID && is_own(walk, account_id(walk->account)));
}

unsigned status_rank_of_account(struct status_walk *walk)
{
	return rank_of(account_usage(walk->account, QUOTA_CHANNELS).used, account_time(walk->account)->spent);
}

void status_describe_account(struct status_walk *walk, struct json_object *object)
{
	const struct account *account = walk->account;
	struct json_object *sent, *time;

	add_text(object, "kind", account_kind(account) == QUOTA_UID ? "uid" : "peer");
	add_number(object, "id", account_id(account));
	add_text(object, "host",
		 account_kind(account) == QUOTA_HOST ? hosts_name(walk->sources->hosts, account_id(account))
						     : NULL);
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct json_object *resource;
		struct quota_usage usage;

		if (!account_may_hold(account, i)) {
			add_null(object, quota_resource_name(i));
			continue;
		}
		resource = add_object(object, quota_resource_name(i));
		usage = account_usage(account, i);
		add_number(resource, "used", usage.used);
		add_number(resource, "max", usage.max);
		add_number(resource, "available", usage.available);
		add_number(resource, "refused", usage.refused);
	}
	sent = add_object(object, "sent");
	add_number(sent, "messages", account_sent(account).messages);
	add_number(sent, "bytes", account_sent(account).bytes);
	json_object_object_add(
		object, "cut_off",
		account_kind(account) == QUOTA_UID ? json_object_new_uint64(account_cut_off(account)) : NULL);
	time = add_object(object, "time");
	add_number(time, "units", account_time(account)->spent);
	add_number(time, "longest_wait_units", account_time(account)->longest_wait);
	add_flag(time, "resting", account_time(account)->resting_in != NULL);
	add_number(time, "rests", account_time(account)->rests);
}
