/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the policy in force says of the asker: of domains here, by names that may be unknown, and of
 * senders on other hosts.
 */
#include "tests/unit/policy_rig.h"

#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/policy/access.h"
#include "daemon/switch/channel.h"

static const struct self own = {.domid = 0};
static struct registry *registry;

static void set_names_known(bool are_known)
{
	for (uint32_t domid = 3; domid <= 4; domid++)
		registry_set_complete(registry, registry_get(registry, domid), are_known);
}

static struct access *access_with(struct fixture *fixture, const char *text)
{
	struct access *access;

	registry_free(registry);
	registry = registry_new(&own);
	registry_set_name(registry, registry_get(registry, 3), "tenant", 6);
	set_names_known(true);
	put(fixture, "50-test.conf", text);
	assert_int_equal(access_new(&access, &own, fixture->directory, registry), 0);
	return access;
}

POLICY_TEST(what_is_denied_is_told_from_what_is_not_decided_yet)
{
	struct access *access = access_with(fixture, "[rule]\nfrom = tenant\nto = *\naction = allow\n");
	const struct frame_identity tenant = {.domid = 3}, other = {.domid = 4};

	assert_int_equal(access_reach(access, access_sender_here(&tenant), "inbox"), 0);
	assert_int_equal(access_reach(access, access_sender_here(&other), "inbox"), -EACCES);
	assert_int_equal(access_still_allowed(access, access_sender_here(&other), "inbox"), -EACCES);
	set_names_known(false);
	assert_int_equal(access_reach(access, access_sender_here(&other), "inbox"), -ENODATA);
	assert_int_equal(access_still_allowed(access, access_sender_here(&other), "inbox"), -ENODATA);
	access_free(access);
}

POLICY_TEST(what_goes_to_another_host_needs_a_rule_at_first_and_later)
{
	struct access *access = access_with(fixture, "[out]\nfrom = 3\nto = hostb\naction = allow\n");
	const struct frame_identity tenant = {.domid = 3}, other = {.domid = 4};

	assert_int_equal(access_out(access, &tenant, "hostb", "hostb/0:inbox"), 0);
	assert_int_equal(access_still_out(access, &tenant, "hostb"), 0);
	assert_int_equal(access_out(access, &tenant, "hostc", "hostc/0:inbox"), -EACCES);
	assert_int_equal(access_still_out(access, &tenant, "hostc"), -EACCES);
	assert_int_equal(access_out(access, &other, "hostb", "hostb/0:inbox"), -EACCES);
	assert_int_equal(access_still_out(access, &other, "hostb"), -EACCES);
	access_free(access);
}

POLICY_TEST(what_comes_from_another_host_is_relayed_as_rules_say)
{
	struct access *access = access_with(fixture, "[relay]\nfrom = hostb/1\nto = 5\naction = deny\n");
	char host[] = "hostb";
	struct channel channel = {.kind = CHANNEL_MESSAGE};

	assert_int_equal(channel_set_from_host(&channel, 1, host), 0);
	for (uint32_t from = 1; from < 3; from++)
		for (uint32_t to = 5; to < 7; to++) {
			int expected = from == 1 && to == 5 ? -EACCES : 0;

			channel.identity.domid = from;
			assert_int_equal(access_relay(access, access_sender_of(&channel), to, "5:inbox"),
					 expected);
			assert_int_equal(access_still_relayed(access, access_sender_of(&channel), to, NULL),
					 expected);
		}
	channel_origin_free(&channel);
	access_free(access);
}
