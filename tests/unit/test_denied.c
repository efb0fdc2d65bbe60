/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What status says was refused: counted, the latest of each, and nobody's refusals push out another's. */
#include "tests/unit/unit.h"

#include "daemon/policy/access.h"
#include "daemon/policy/denied.h"
#include "daemon/policy/policy.h"
#include "base/log.h"

#define OWN 1

static const struct policy_decision no_rule = {.section = "rule"};

static void add(struct denied *denied, uint32_t domid, uint32_t uid, const char *endpoint)
{
	const struct access_sender from = {.domid = domid, .uid = uid};

	denied_add(denied, &from, domid == OWN ? LOG_BY_UID(uid) : LOG_BY_DOMAIN(domid), endpoint, &no_rule);
}

static void try_names(struct denied *denied, uint32_t domid, uint32_t uid, unsigned count)
{
	char name[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "u%u-%u", uid, i);
		add(denied, domid, uid, name);
	}
}

struct seen {
	unsigned all, of[8];
	uint64_t count_of_inbox;
	bool has_first, has_last;
};

static void look(void *userdata, const struct denied_entry *entry)
{
	struct seen *seen = userdata;

	seen->all++;
	if (entry->domid < 8)
		seen->of[entry->domid]++;
	if (!strcmp(entry->endpoint, "inbox"))
		seen->count_of_inbox = entry->count;
	seen->has_first = seen->has_first || !strcmp(entry->endpoint, "u0-0");
	seen->has_last = seen->has_last || !strcmp(entry->endpoint, "u0-999");
}

static struct seen seen_in(struct denied *denied)
{
	struct seen seen = {0};

	denied_each(denied, look, &seen);
	assert_true(seen.all <= DENIED_MAX);
	return seen;
}

BEFORE_ALL
{
	log_set_level(LOG_LEVEL_ERROR);
}

TEST(domain_that_tries_many_names_pushes_out_its_own_only)
{
	struct denied *denied = denied_new();
	struct seen seen;

	for (unsigned i = 0; i < 3; i++)
		add(denied, 3, 0, "inbox");
	add(denied, 4, 0, "scan");
	try_names(denied, 2, 0, 1000);
	seen = seen_in(denied);
	assert_int_equal(seen.all, DENIED_MAX);
	assert_int_equal(seen.of[3], 1);
	assert_int_equal(seen.of[4], 1);
	assert_int_equal(seen.count_of_inbox, 3);
	assert_true(seen.has_last && !seen.has_first);
	/* Who comes later gets a place. */
	try_names(denied, 5, 0, 1000);
	seen = seen_in(denied);
	assert_int_equal(seen.of[3], 1);
	assert_true(seen.of[2] >= DENIED_MAX / 2 - 2 && seen.of[5] >= DENIED_MAX / 2 - 2);
	denied_free(denied);
}

TEST(local_users_have_shares_too)
{
	struct denied *denied = denied_new();

	add(denied, OWN, 1000, "inbox");
	try_names(denied, OWN, 1001, 1000);
	assert_int_equal(seen_in(denied).count_of_inbox, 1);
	denied_free(denied);
}

TEST(there_is_a_place_when_everybody_has_one)
{
	struct denied *denied = denied_new();

	for (unsigned i = 0; i < 2 * DENIED_MAX; i++)
		add(denied, 100 + i, 0, "inbox");
	assert_int_equal(seen_in(denied).all, DENIED_MAX);
	denied_free(denied);
}

static void keep(void *userdata, const struct denied_entry *entry)
{
	*(struct denied_entry *)userdata = *entry;
}

TEST(last_rule_and_user_of_a_pair_are_kept)
{
	char path[] = "/etc/xenmsg/policy.d/10.conf";
	struct policy_decision by_rule = {.section = "rule", .file = path, .line = 7};
	const struct access_sender from = {.domid = 3, .uid = 1000};
	struct denied *denied = denied_new();
	struct denied_entry entry = {0};

	add(denied, 3, 0, "inbox");
	denied_each(denied, keep, &entry);
	assert_int_equal(entry.uid, 0);
	assert_string_equal(entry.file, "");
	denied_add(denied, &from, LOG_BY_DOMAIN(3), "inbox", &by_rule);
	memset(path, 'x', sizeof(path) - 1); /* the policy is read again */
	denied_each(denied, keep, &entry);
	assert_int_equal(entry.count, 2);
	assert_int_equal(entry.uid, 1000);
	assert_string_equal(entry.section, "rule");
	assert_string_equal(entry.file, "/etc/xenmsg/policy.d/10.conf");
	assert_int_equal(entry.line, 7);
	denied_free(denied);
}
