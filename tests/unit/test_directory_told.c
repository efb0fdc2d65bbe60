/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What domain 0's directory tells each guest of the others: all that it may know, and nothing else.
 */
#include "tests/unit/directory_rig.h"

#include "daemon/link/directory.h"
#include "daemon/peers/names.h"
#include "daemon/peers/peers.h"
#include "wire/address.h"
#include "wire/frame.h"

DIRECTORY_TEST(a_guest_gets_the_complete_list_when_its_link_is_up)
{
	link_up_and_tell(rig, 1);
	assert_int_equal(resolve(one, "Domain-0"), 0);
	assert_int_equal(resolve(one, "one"), 1);
	assert_int_equal(resolve(one, "two"), 2);
	assert_int_equal(resolve(one, UUID_B), 2);
	assert_int_equal(resolve(one, "12345678-9ABC-4DEF-8012-3456789ABCDE"), 2);
	assert_string_equal(registry_uuid(one->registry, 2), UUID_B);
	assert_string_equal(registry_uuid(one->registry, 0), "");
	assert_int_equal(resolve(one, "three"), -EHOSTDOWN);
	assert_int_equal(resolve(one, ""), -EHOSTDOWN);
	assert_int_equal(resolve(one, "00000000-0000-0000-0000-000000000000"), -EHOSTDOWN);
	assert_int_equal(rig->frames, 1);
}

/* Or a daemon that starts again would take from the guests what the one before had told them. */
DIRECTORY_TEST(nothing_is_told_before_all_domains_have_been_read)
{
	link_up(rig, 1);
	for (unsigned i = 0; i < 40; i++) {
		event_base_loop(rig->base, EVLOOP_NONBLOCK);
		if (rig->frames)
			assert_null(rig->zero.store.requests);
		fake_store_step(&rig->zero.store);
	}
	until(rig->frames);
	assert_int_equal(resolve(one, "two"), 2);
}

/* Its name, its UUID and its tags; their watches fire by themselves. */
DIRECTORY_TEST(what_is_known_of_a_domain_is_read_once_at_its_start)
{
	link_up_and_tell(rig, 1);
	assert_int_equal(rig->zero.store.reads, 3 * 3);
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	until(is_named(one, 7, "seven"));
	turn(rig);
	assert_int_equal(rig->zero.store.reads, 4 * 3);
}

DIRECTORY_TEST(a_rename_is_told_as_one_change)
{
	unsigned entries;

	link_up(rig, 1);
	link_up(rig, 2);
	until(registry_is_told(one->registry) && registry_is_told(guest(rig, 2)->registry));
	entries = rig->entries;
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	until(is_named(one, 2, "work"));
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "work"), 2);
	assert_string_equal(one->last_change, "2 work");
	until(one->has_changed);
	assert_int_equal(rig->entries, entries + 2); /* one for each guest */
}

DIRECTORY_TEST(new_and_removed_domains_are_told)
{
	unsigned watches;

	link_up_and_tell(rig, 1);
	watches = fake_watches(&rig->zero.store);
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	until(is_named(one, 7, "seven"));
	assert_int_equal(resolve(one, "77777777-0000-4000-8000-000000000007"), 7);
	assert_int_equal(fake_watches(&rig->zero.store), watches + 2); /* of its name, and of its tags */
	release(rig, 7);
	until(is_named(one, 7, ""));
	assert_int_equal(resolve(one, "seven"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "77777777-0000-4000-8000-000000000007"), -EHOSTDOWN);
	assert_int_equal(resolve(&rig->zero, "seven"), -EHOSTDOWN);
	until(fake_watches(&rig->zero.store) == watches);
	/* A domid that is used again is another domain. */
	introduce(rig, 7, "other", "77777777-0000-4000-8000-000000000008");
	until(is_named(one, 7, "other"));
	assert_string_equal(registry_uuid(one->registry, 7), "77777777-0000-4000-8000-000000000008");
}

DIRECTORY_TEST(a_domain_that_may_come_back_is_away_for_a_while)
{
	rig->leads = true;
	link_up(rig, 1);
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	introduce(rig, 8, "eight", "77777777-0000-4000-8000-000000000007");
	introduce(rig, 9, "nine", "99999999-0000-4000-8000-000000000009");
	until(is_named(one, 7, "seven") && is_named(one, 8, "eight") && is_named(one, 9, "nine"));
	assert_false(registry_is_led_to(one->registry, 7, false));
	release(rig, 7);
	until(registry_is_led_to(one->registry, 7, false));
	assert_int_equal(resolve(one, "seven"), 7);
	assert_false(registry_is_led_to(one->registry, 8, false));
	assert_true(registry_is_led_to(one->registry, 8, true));
	assert_false(registry_is_led_to(one->registry, 9, true));
	until(is_named(one, 7, ""));
	assert_int_equal(resolve(one, "seven"), -EHOSTDOWN);
	assert_false(registry_is_led_to(one->registry, 8, true));
}

DIRECTORY_TEST(a_domid_that_is_used_again_is_not_away)
{
	rig->leads = true;
	link_up(rig, 1);
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	until(is_named(one, 7, "seven"));
	release(rig, 7);
	until(registry_is_led_to(one->registry, 7, false));
	introduce(rig, 7, "other", "77777777-0000-4000-8000-000000000008");
	until(is_named(one, 7, "other"));
	assert_false(registry_is_led_to(one->registry, 7, false));
}

DIRECTORY_TEST(domains_that_cannot_be_listed_are_listed_later)
{
	link_up(rig, 1);
	settle(rig, 1);
	rig->zero.store.bad_lists = 1;
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	until(is_named(one, 7, "seven"));
}

DIRECTORY_TEST(hidden_domains_are_never_told)
{
	struct place *two = guest(rig, 2);
	unsigned removed;

	rig->hidden[0] = rig->hidden[1] = rig->hidden[2] = rig->hidden[5] = true;
	link_up(rig, 1);
	link_up(rig, 2);
	introduce(rig, 5, "five", UUID_A);
	until(is_named(two, 5, "five"));
	settle(rig, 1);
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "five"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "one"), 1);
	removed = rig->removed;
	fake_write(&rig->zero.store, "/local/domain/5/name", "fifth");
	until(is_named(two, 5, "fifth"));
	release(rig, 5);
	until(is_named(two, 5, ""));
	settle(rig, 1);
	assert_int_equal(rig->removed, removed + 1); /* to the other guest: to this one not even that */
}

/* By rules that say its name. */
DIRECTORY_TEST(what_a_rename_hides_is_taken_back)
{
	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	rig->hidden[2] = true;
	fake_write(&rig->zero.store, "/local/domain/2/name", "secret");
	until(resolve(one, "two") == -EHOSTDOWN);
	assert_int_equal(resolve(one, "secret"), -EHOSTDOWN);
}

/* Likewise. */
DIRECTORY_TEST(what_a_guest_may_see_follows_its_own_name)
{
	rig->hidden[2] = true;
	link_up_and_tell(rig, 1);
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
	rig->hidden[2] = false;
	fake_write(&rig->zero.store, "/local/domain/1/name", "friend");
	until(resolve(one, "two") == 2);
	rig->hidden[2] = true;
	fake_write(&rig->zero.store, "/local/domain/1/name", "stranger");
	until(resolve(one, "two") == -EHOSTDOWN);
}

DIRECTORY_TEST(domain_0_knows_a_domain_when_its_name_and_uuid_were_read)
{
	struct registry *zero = rig->zero.registry;
	unsigned changes;

	assert_false(registry_is_complete(zero, 0));
	assert_string_equal(registry_why_not(zero, 1), "XenStore hasn't told it yet");
	until(registry_is_complete(zero, 0) && registry_is_complete(zero, 1));
	assert_true(is_named(&rig->zero, 1, "one"));
	assert_string_equal(registry_uuid(zero, 1), UUID_A);
	/* One that has neither is known too, and whoever waits for that is told. */
	changes = rig->zero.changes;
	fake_write(&rig->zero.store, "/local/domain/7/memory", "1");
	fake_fire(&rig->zero.store, "@introduceDomain");
	assert_false(registry_is_complete(zero, 7));
	until(registry_is_complete(zero, 7));
	assert_true(is_named(&rig->zero, 7, ""));
	assert_true(rig->zero.changes > changes);
	fake_remove(&rig->zero.store, "/local/domain/7/memory");
	fake_fire(&rig->zero.store, "@releaseDomain");
	until(!registry_is_complete(zero, 7));
}

/* A guest isn't told that domain 0's policy was read again, where that changes nothing for it. */
DIRECTORY_TEST(new_rules_that_change_nothing_for_a_guest_tell_it_nothing)
{
	unsigned entries;

	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	settle(rig, 1);
	entries = rig->entries;
	registry_tell(rig->zero.registry, REGISTRY_RULES, 0);
	settle(rig, 1);
	assert_int_equal(rig->entries, entries + 1); /* by which it is settled */
	/* What does, is told, and no more. */
	rig->hidden[2] = true;
	entries = rig->entries;
	registry_tell(rig->zero.registry, REGISTRY_RULES, 0);
	until(resolve(one, "two") == -EHOSTDOWN);
	settle(rig, 1);
	assert_int_equal(rig->entries, entries + 2);
}

DIRECTORY_TEST(many_domains_take_several_small_frames)
{
	char name[DOMAIN_NAME_MAX + 1], uuid[64];

	for (unsigned i = 100; i < 300; i++) {
		memset(name, 'x', sizeof(name));
		snprintf(name + DOMAIN_NAME_MAX - 4, 5, "-%u", i);
		snprintf(uuid, sizeof(uuid), "00000000-0000-4000-8000-%012u", i);
		introduce(rig, i, name, uuid);
	}
	until(resolve(&rig->zero, name) == 299);
	link_up_and_tell(rig, 1);
	for (unsigned i = 100; i < 300; i++) {
		snprintf(name + DOMAIN_NAME_MAX - 4, 5, "-%u", i);
		assert_int_equal(resolve(one, name), i);
	}
	assert_in_range(rig->frames, 50, 100);
	assert_in_range(frame_size(rig->longest), 1, 512); /* half of the smallest ring */
	/* And go as they came. */
	for (unsigned i = 100; i < 300; i++)
		release(rig, i);
	until(resolve(one, name) == -EHOSTDOWN);
	settle(rig, 1);
	for (unsigned i = 100; i < 300; i++)
		assert_true(is_named(one, i, ""));
}

DIRECTORY_TEST(a_guest_that_could_not_take_a_change_gets_everything_again)
{
	link_up_and_tell(rig, 1);
	rig->send_error = -ENOBUFS;
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	rig->zero.has_changed = false;
	until(rig->zero.has_changed);
	assert_true(is_named(one, 2, "two"));
	rig->send_error = 0;
	until(is_named(one, 2, "work"));
}

DIRECTORY_TEST(a_guest_is_told_what_changes_in_xenstore)
{
	struct place *two = guest(rig, 2);

	assert_false(two->told);
	link_up(rig, 2);
	settle(rig, 2);
	assert_true(two->told);
	directory_tell(rig->zero.directory, 2,
		       (const struct peers_change[]){{.domid = 1, .leaves = CHANGED_HELLO},
						     {.domid = 7, .leaves = CHANGED_PRESENCE},
						     {.domid = 2, .leaves = CHANGED_ASKS}},
		       3);
	assert_int_equal(two->leaves[1], CHANGED_HELLO);
	assert_int_equal(two->leaves[7], CHANGED_PRESENCE);
	assert_int_equal(two->leaves[2], CHANGED_ASKS); /* so that it knows that this was all */
	assert_int_equal(one->leaf_changes, 0);
	registry_tell(two->registry, REGISTRY_LINK_LOST, 0);
	assert_false(two->told);
}

DIRECTORY_TEST(many_changes_take_several_small_frames)
{
	struct peers_change changes[200];
	unsigned before;

	link_up(rig, 1);
	settle(rig, 1);
	before = rig->frames;
	for (unsigned i = 0; i < 200; i++)
		changes[i] = (struct peers_change){.domid = 100 + i, .leaves = CHANGED_PRESENCE};
	directory_tell(rig->zero.directory, 1, changes, 200);
	assert_int_equal(one->leaf_changes, 200);
	assert_int_equal(rig->frames - before, 3);
	assert_true(rig->longest <= 496);
}

/* Else it would go without: nobody tells of a change twice. */
DIRECTORY_TEST(after_a_change_that_was_not_told_a_guest_is_told_everything)
{
	const struct peers_change change = {.domid = 7, .leaves = CHANGED_HELLO};
	unsigned asked;

	link_up(rig, 1);
	settle(rig, 1);
	asked = rig->asked_to_tell;
	rig->send_error = -ENOBUFS;
	directory_tell(rig->zero.directory, 1, &change, 1);
	assert_int_equal(one->leaf_changes, 0);
	rig->send_error = 0;
	directory_tell(rig->zero.directory, 1, &change, 1);
	assert_int_equal(one->leaf_changes, 0);
	until(rig->asked_to_tell > asked);
	until(one->told);
}

DIRECTORY_TEST(a_guest_without_a_link_is_told_nothing)
{
	link_up_and_tell(rig, 1);
	registry_tell(rig->zero.registry, REGISTRY_LINK_LOST, 1);
	rig->frames = 0;
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	until(is_named(&rig->zero, 2, "work") && rig->zero.has_changed);
	introduce(rig, 5, "five", UUID_A);
	until(is_named(&rig->zero, 5, "five"));
	assert_int_equal(rig->frames, 0);
}

DIRECTORY_TEST(names_that_mean_something_else_are_none)
{
	static const char *const names[] = {
		"17",  "0",	   "self", "a:b", "a b",
		"a/b", "\xc3\xa4", UUID_A, "",	  "123456789012345678901234567890"};
	char longest[DOMAIN_NAME_MAX + 2] = {0};

	link_up_and_tell(rig, 1);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		fake_write(&rig->zero.store, "/local/domain/2/name", names[i]);
		until(is_named(&rig->zero, 2, ""));
		settle(rig, 1);
		assert_true(is_named(one, 2, ""));
		fake_write(&rig->zero.store, "/local/domain/2/name", "two");
		until(is_named(one, 2, "two"));
	}
	memset(longest, 'n', DOMAIN_NAME_MAX);
	fake_write(&rig->zero.store, "/local/domain/2/name", longest);
	until(resolve(one, longest) == 2);
	longest[DOMAIN_NAME_MAX] = 'n';
	fake_write(&rig->zero.store, "/local/domain/2/name", longest);
	until(is_named(one, 2, ""));
	assert_int_equal(resolve(one, UUID_B), 2);
}

DIRECTORY_TEST(bad_uuids_are_none)
{
	static const char *const values[] = {"",
					     "/vm/",
					     UUID_A,
					     "/vm/" UUID_A "0",
					     "/vm/gaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
					     "/vm/aaaaaaaaabbbb-4ccc-8ddd-eeeeeeeeeeee",
					     "/vm/00000000-0000-0000-0000-000000000000"};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		char name[32];

		snprintf(name, sizeof(name), "name-%zu", i);
		fake_write(&rig->zero.store, "/local/domain/2/vm", values[i]);
		fake_write(&rig->zero.store, "/local/domain/2/name", name);
		until(is_named(&rig->zero, 2, name));
		turn(rig);
		assert_string_equal(registry_uuid(rig->zero.registry, 2), "");
	}
}

DIRECTORY_TEST(of_two_domains_with_a_name_the_later_one_is_meant)
{
	link_up_and_tell(rig, 1);
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	until(resolve(one, "work") == 2);
	introduce(rig, 5, "work", UUID_B);
	until(resolve(one, "work") == 5 && resolve(&rig->zero, "work") == 5);
	assert_int_equal(resolve(one, UUID_B), 5);
	release(rig, 5);
	until(resolve(one, "work") == 2 && resolve(&rig->zero, "work") == 2);
}

/* --- a guest alone --- */

/* Whatever happens in XenStore, in the end each guest knows of each domain what it may, and nothing else. */
DIRECTORY_TEST(guests_know_what_xenstore_says_after_any_changes)
{
	unsigned seed = 20260727;
	bool linked = true;

	link_up(rig, 1);
	link_up(rig, 2);
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < 12; i++) {
			unsigned what = (unsigned)rand_r(&seed) % 8, domid = 3 + (unsigned)rand_r(&seed) % 12;
			char path[64], name[32], uuid[64];

			snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
			snprintf(name, sizeof(name), "n%u", (unsigned)rand_r(&seed) % 1000);
			snprintf(uuid, sizeof(uuid), "00000000-0000-4000-8000-%012u",
				 (unsigned)rand_r(&seed) % 1000);
			if (what < 3)
				introduce(rig, domid, name, uuid);
			else if (what < 5)
				release(rig, domid);
			else if (what == 5 && fake_find(&rig->zero.store, path))
				fake_write(&rig->zero.store, path, name);
			else if (what == 6) {
				rig->hidden[domid] = !rig->hidden[domid];
				registry_tell(rig->zero.registry, REGISTRY_RULES, 0);
			} else if (what == 7) {
				linked = !linked;
				registry_tell(rig->zero.registry,
					      linked ? REGISTRY_LINK_UP : REGISTRY_LINK_LOST, 1);
				registry_tell(one->registry, linked ? REGISTRY_LINK_UP : REGISTRY_LINK_LOST,
					      0);
			}
			if (rand_r(&seed) % 2)
				fake_store_step(&rig->zero.store);
			if (rand_r(&seed) % 3 == 0)
				turn(rig);
		}
		if (!linked)
			link_up(rig, 1);
		linked = true;
		settle(rig, 1);
		settle(rig, 2);
		for (uint32_t domid = 3; domid < 15; domid++) {
			char path[64];
			struct fake_node *node;
			const char *name;

			snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
			node = fake_find(&rig->zero.store, path);
			name = node ? node->value : "";
			assert_string_equal(registry_name(rig->zero.registry, domid), name);
			assert_string_equal(registry_name(guest(rig, 2)->registry, domid), name);
			assert_string_equal(registry_name(one->registry, domid),
					    rig->hidden[domid] ? "" : name);
			snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
			node = fake_find(&rig->zero.store, path);
			assert_string_equal(registry_uuid(guest(rig, 2)->registry, domid),
					    node ? node->value + 4 : "");
		}
	}
}
