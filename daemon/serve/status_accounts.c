/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The accounts in a status: who has how much of this daemon, and of its time. */

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

void status_describe_account(struct status_walk *walk, struct json *json)
{
	const struct account *account = walk->account;

	add_text(json, "kind", account_kind(account) == QUOTA_UID ? "uid" : "peer");
	json_number(json, "id", account_id(account));
	add_text(json, "host",
		 account_kind(account) == QUOTA_HOST ? hosts_name(walk->sources->hosts, account_id(account))
						     : NULL);
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct quota_usage usage;

		if (!account_may_hold(account, i)) {
			json_null(json, quota_resource_name(i));
			continue;
		}
		json_begin(json, quota_resource_name(i), '{');
		usage = account_usage(account, i);
		json_number(json, "used", usage.used);
		json_number(json, "max", usage.max);
		json_number(json, "available", usage.available);
		json_number(json, "refused", usage.refused);
		json_end(json, '}');
	}
	json_begin(json, "sent", '{');
	json_number(json, "messages", account_sent(account).messages);
	json_number(json, "bytes", account_sent(account).bytes);
	json_end(json, '}');
	json_number_if(json, "cut_off", account_kind(account) == QUOTA_UID, account_cut_off(account));
	json_begin(json, "time", '{');
	json_number(json, "units", account_time(account)->spent);
	json_number(json, "longest_wait_units", account_time(account)->longest_wait);
	json_flag(json, "resting", account_time(account)->resting_in != NULL);
	json_number(json, "rests", account_time(account)->rests);
	json_end(json, '}');
}
