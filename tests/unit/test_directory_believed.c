/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a guest's directory believes: what it was told, while domain 0's daemon is there, and for a while
 * without it.
 */
#include "tests/unit/directory_rig.h"

#include "daemon/link/directory.h"
#include "daemon/peers/names.h"
#include "wire/address.h"
#include "wire/frame.h"

struct entry {
	uint32_t domid;
	enum directory_state state;
	const char *name;
};

static int take(struct place *place, uint32_t flags, const struct entry *entries, uint32_t count)
{
	const struct frame_directory head = {.flags = flags, .count = count};
	uint8_t *payload = malloc(FRAME_PAYLOAD_MAX), *exact;
	uint32_t length = frame_directory_encode(&head, payload);
	int r;

	for (uint32_t i = 0; i < count; i++) {
		const struct frame_directory_entry entry = {
			.domid = entries[i].domid,
			.state = entries[i].state,
			.name = {entries[i].name, strlen(entries[i].name)},
		};

		length += frame_directory_entry_encode(&entry, payload + length);
	}
	exact = malloc(length);
	memcpy(exact, payload, length);
	free(payload);
	r = directory_take(place->directory, exact, length);
	free(exact);
	return r;
}

#define TAKE(place, flags, ...)                                                                              \
	take(place, flags, (const struct entry[]){__VA_ARGS__},                                              \
	     (uint32_t)(sizeof((const struct entry[]){__VA_ARGS__}) / sizeof(struct entry)))
/* Likewise, and it is believed. */
#define TELL(...) assert_int_equal(TAKE(__VA_ARGS__), 0)

DIRECTORY_TEST(a_guest_knows_its_own_name_by_itself)
{
	until(resolve(one, "one") == 1);
	assert_int_equal(resolve(one, UUID_A), 1);
	assert_false(registry_is_told(one->registry));
	assert_true(registry_is_told(rig->zero.registry));
	fake_write(&one->store, "name", "first");
	until(resolve(one, "first") == 1);
	/* And doesn't need to be told. */
	TELL(one, DIRECTORY_REPLACES, {1, DIRECTORY_PRESENT, "other"}, {2, DIRECTORY_PRESENT, "two"});
	TELL(one, 0, {1, DIRECTORY_REMOVED, ""});
	assert_int_equal(resolve(one, "first"), 1);
	assert_int_equal(resolve(one, "other"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "two"), 2);
}

DIRECTORY_TEST(a_guest_knows_of_others_what_it_was_told)
{
	struct registry *registry = one->registry;
	unsigned changes;

	assert_false(registry_is_complete(registry, 1));
	assert_string_equal(registry_why_not(registry, 1), "XenStore hasn't told it yet");
	until(registry_is_complete(registry, 1)); /* by itself */
	assert_false(registry_is_complete(registry, 2));
	assert_string_equal(registry_why_not(registry, 2),
			    "no xenmsgd is seen in domain 0, which tells the names");
	registry_set_up(registry, 0, true);
	assert_string_equal(registry_why_not(registry, 2), "xenmsgd in domain 0 hasn't told the names yet");
	changes = one->changes;
	TELL(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, ""});
	assert_true(registry_is_complete(registry, 2)); /* that it has no name */
	assert_int_equal(one->changes, changes + 1);
	assert_false(registry_is_complete(registry, 3));
	assert_string_equal(registry_why_not(registry, 3),
			    "domain 0 hasn't told it; a [see] there may hide it");
	TELL(one, 0, {2, DIRECTORY_REMOVED, ""});
	assert_false(registry_is_complete(registry, 2));
	assert_int_equal(one->changes, changes + 2);
	one->self.domid = 9;
	names_restart(one->names);
	directory_restart(one->directory);
	assert_false(registry_is_complete(registry, 1) || registry_is_complete(registry, 9));
	until(registry_is_complete(registry, 9));
}

DIRECTORY_TEST(a_complete_list_replaces_what_was_known_when_it_is_complete)
{
	TELL(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"}, {3, DIRECTORY_PRESENT, "three"});
	TELL(one, DIRECTORY_REPLACES | DIRECTORY_MORE, {2, DIRECTORY_PRESENT, "work"});
	assert_int_equal(resolve(one, "work"), 2);
	assert_int_equal(resolve(one, "three"), 3); /* it may be in the rest */
	TELL(one, DIRECTORY_MORE, {4, DIRECTORY_PRESENT, "four"});
	assert_int_equal(resolve(one, "three"), 3);
	TELL(one, 0, {5, DIRECTORY_PRESENT, "five"});
	assert_int_equal(resolve(one, "three"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "four"), 4);
	TELL(one, 0, {4, DIRECTORY_REMOVED, ""}, {9, DIRECTORY_REMOVED, ""});
	assert_int_equal(resolve(one, "four"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "five"), 5);
	assert_int_equal(take(one, DIRECTORY_REPLACES, NULL, 0), 0);
	assert_int_equal(resolve(one, "five"), -EHOSTDOWN);
}

DIRECTORY_TEST(a_list_that_broke_off_takes_nothing_away)
{
	registry_tell(one->registry, REGISTRY_LINK_UP, 0);
	TELL(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"}, {3, DIRECTORY_PRESENT, "three"});
	TELL(one, DIRECTORY_REPLACES | DIRECTORY_MORE, {2, DIRECTORY_PRESENT, "two"});
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	registry_tell(one->registry, REGISTRY_LINK_UP, 0);
	TELL(one, 0, {4, DIRECTORY_PRESENT, "four"});
	assert_int_equal(resolve(one, "three"), 3);
}

DIRECTORY_TEST(of_a_bad_frame_nothing_is_believed)
{
	TELL(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"});
	assert_int_equal(
		TAKE(one, DIRECTORY_REPLACES, {3, DIRECTORY_PRESENT, "three"}, {4, DIRECTORY_PRESENT, "a:b"}),
		-EPROTO);
	assert_int_equal(
		TAKE(one, 0, {3, DIRECTORY_PRESENT, "three"}, {DOMID_MAX + 1, DIRECTORY_PRESENT, "x"}),
		-EPROTO);
	assert_int_equal(directory_take(one->directory, (const uint8_t *)"\1\0\0", 3), -EPROTO);
	assert_int_equal(directory_take(one->directory, (const uint8_t *)"\1\0\0\0\1\0\0\0", 8), -EPROTO);
	assert_int_equal(resolve(one, "three"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "two"), 2);
	/* Domain 0 is told by nobody. */
	assert_int_equal(TAKE(&rig->zero, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "evil"}), -EPROTO);
	assert_int_equal(resolve(&rig->zero, "evil"), -EHOSTDOWN);
}

DIRECTORY_TEST(a_link_is_wanted_while_dom0s_daemon_is_there)
{
	uint64_t first = now_ms();

	turn(rig);
	assert_int_equal(one->wants, 0);
	registry_set_up(one->registry, 0, true);
	until(one->wants == 1);
	until(one->wants == 3);
	assert_true(now_ms() - first >= 700); /* 250 ms and 500 ms, less what timers round */
	registry_tell(one->registry, REGISTRY_LINK_UP, 0);
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	until(one->wants == 4);
	registry_set_up(one->registry, 0, false);
	registry_tell(one->registry, REGISTRY_LINK_LOST, 3);
	assert_int_equal(event_base_get_num_events(rig->base, EVENT_BASE_COUNT_ADDED), 0);
	registry_set_up(one->registry, 0, true);
	until(one->wants == 5);
	/* While the link's session was away the pauses have grown, but not for the next one. */
	until(one->wants == 7);
	first = now_ms();
	registry_tell(one->registry, REGISTRY_LINK_ENDED, 3);
	registry_tell(rig->zero.registry, REGISTRY_LINK_ENDED, 0);
	registry_tell(one->registry, REGISTRY_LINK_ENDED, 0);
	until(one->wants == 9);
	assert_true(now_ms() - first < 900); /* at once, and after 250 ms: the next was due after a second */
	/* A new daemon's presence while the link with the old one is being given up. */
	registry_tell(one->registry, REGISTRY_LINK_UP, 0);
	registry_set_up(one->registry, 0, false);
	registry_set_up(one->registry, 0, true);
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	until(one->wants == 10);
	/* Domain 0 wants none. */
	registry_set_up(rig->zero.registry, 0, true);
	turn(rig);
	assert_int_equal(rig->zero.wants, 0);
}

DIRECTORY_TEST(names_are_believed_for_a_while_without_dom0s_daemon)
{
	uint64_t from;

	until(resolve(one, "one") == 1);
	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	from = now_ms();
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	assert_int_equal(resolve(one, "two"), 2);
	until(resolve(one, "two") == -EHOSTDOWN);
	assert_true(now_ms() - from >= BELIEVED_MS - 20); /* libevent looks at a coarse clock */
	assert_false(registry_is_told(one->registry));
	assert_int_equal(resolve(one, "one"), 1);
	until(one->has_changed);
}

DIRECTORY_TEST(a_number_whose_daemon_goes_meanwhile_has_no_name)
{
	link_up_and_tell(rig, 1);
	registry_set_up(one->registry, 2, true);
	registry_set_up(one->registry, 2, false);
	assert_true(is_named(one, 2, "two")); /* domain 0 would say it */
	registry_set_up(one->registry, 2, true);
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	assert_true(is_named(one, 2, "two"));
	registry_set_up(one->registry, 2, false);
	assert_false(registry_is_complete(one->registry, 2));
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
}

DIRECTORY_TEST(names_stay_when_dom0s_daemon_comes_back_in_time)
{
	uint64_t end;

	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	registry_tell(one->registry, REGISTRY_LINK_UP, 0);
	TELL(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"});
	end = now_ms() + 2 * BELIEVED_MS;
	until(now_ms() > end);
	assert_int_equal(resolve(one, "two"), 2);
}

DIRECTORY_TEST(after_a_restore_nothing_of_the_old_host_is_believed)
{
	until(resolve(one, "one") == 1);
	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	registry_set_up(one->registry, 0, true);
	registry_tell(one->registry, REGISTRY_LINK_LOST, 0);
	one->self.domid = 9;
	names_restart(one->names);
	directory_restart(one->directory);
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "one"), -EHOSTDOWN);
	assert_false(registry_is_told(one->registry));
	until(resolve(one, "one") == 9);
	assert_int_equal(resolve(one, UUID_A), 9);
	assert_int_equal(one->wants, 0);
}
