/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory in its two lives: domain 0's on a XenStore in memory, and guests' that get its frames, so
 * that what a guest knows is what domain 0 lets it know.
 */
#include "daemon/base/self.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/domains.h"
#include "daemon/policy/access.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "tests/unit/fake_store.h"
#include "tests/unit/unit.h"
#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#define BELIEVED_MS 100
#define UUID_A	    "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define UUID_B	    "12345678-9abc-4def-8012-3456789abcde"
#define PATIENCE_MS 20000

struct rig;

/* One daemon's directory. */
struct place {
	struct rig *rig;
	struct self self;
	struct directory *directory;
	struct domains *domains;
	struct store store;
	unsigned wants, flushes, changes;
	bool has_changed;
	char last_change[300];
};

struct rig {
	struct event_base *base;
	struct place zero, guests[2]; /* domains 0, 1 and 2 */
	bool hidden[16];	      /* from guest 1 */
	int send_error;
	unsigned frames, entries, removed;
	uint32_t longest;
};

static struct place *guest(struct rig *rig, uint32_t domid)
{
	assert_in_range(domid, 1, 2);
	return &rig->guests[domid - 1];
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- callbacks --- */

/* Stands in for policy. */
bool access_sees(struct access *access, uint32_t guest_domid, uint32_t other)
{
	const struct place *place = (struct place *)(void *)access;

	return guest_domid != 1 || other >= 16 || !place->rig->hidden[other];
}

/* The link: as long as send_error is 0 it takes everything. */
static int on_send(void *userdata, uint32_t domid, const void *payload, uint32_t length)
{
	struct rig *rig = ((struct place *)userdata)->rig;
	struct frame_directory frame;
	struct frame_directory_entry entry;

	if (rig->send_error)
		return rig->send_error;
	rig->frames++;
	if (length > rig->longest)
		rig->longest = length;
	assert_int_equal(frame_directory_decode(payload, length, &frame), 0);
	while (frame_directory_next(&frame, &entry) > 0) {
		rig->entries++;
		rig->removed += entry.state == DIRECTORY_REMOVED;
		/* never said, not even that it isn't there */
		if (domid == 1 && entry.domid < 16 && rig->hidden[entry.domid] && entry.domid > 1)
			assert_int_equal(entry.state, DIRECTORY_REMOVED);
	}
	return directory_take(guest(rig, domid)->directory, payload, length);
}

static void on_want(void *userdata)
{
	struct place *place = userdata;

	place->wants++;
}

static void on_changed(void *userdata, uint32_t domid, const char *old_name, const char *name)
{
	struct place *place = userdata;

	place->changes++;
	snprintf(place->last_change, sizeof(place->last_change), "%u %s>%s", domid, old_name, name);
}

static void on_flush(void *userdata, bool changed)
{
	struct place *place = userdata;

	place->flushes++;
	place->has_changed = place->has_changed || changed;
}

/* --- the rig --- */

static void open_place(struct rig *rig, struct place *place, uint32_t domid)
{
	static const struct directory_callbacks callbacks = {
		.send = on_send,
		.want_link = on_want,
		.changed = on_changed,
		.flush = on_flush,
	};
	struct directory_options options = {
		.self = &place->self, .access = (void *)place, .believed_ms = BELIEVED_MS};

	place->rig = rig;
	place->self.domid = domid;
	if (domid == 0)
		assert_int_equal(domains_new(&place->domains, &place->store), 0);
	options.domains = place->domains;
	assert_int_equal(
		directory_new(&place->directory, rig->base, &place->store, &options, &callbacks, place), 0);
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->base = event_base_new();
	fake_write(&rig->zero.store, "/local/domain/0/name", "Domain-0");
	fake_write(&rig->zero.store, "/local/domain/1/name", "one");
	fake_write(&rig->zero.store, "/local/domain/1/vm", "/vm/" UUID_A);
	fake_write(&rig->zero.store, "/local/domain/2/name", "two");
	fake_write(&rig->zero.store, "/local/domain/2/vm", "/vm/" UUID_B);
	for (uint32_t domid = 1; domid <= 2; domid++) {
		fake_write(&guest(rig, domid)->store, "name", domid == 1 ? "one" : "two");
		fake_write(&guest(rig, domid)->store, "vm", domid == 1 ? "/vm/" UUID_A : "/vm/" UUID_B);
	}
	open_place(rig, &rig->zero, 0);
	open_place(rig, &rig->guests[0], 1);
	open_place(rig, &rig->guests[1], 2);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;
	struct place *places[] = {&rig->zero, &rig->guests[0], &rig->guests[1]};

	for (unsigned i = 0; i < 3; i++) {
		directory_free(places[i]->directory);
		domains_free(places[i]->domains);
		assert_int_equal(fake_watches(&places[i]->store), 0);
		fake_store_clear(&places[i]->store);
	}
	event_base_free(rig->base);
	free(rig);
	return 0;
}

static void turn(struct rig *rig)
{
	while (fake_store_step(&rig->zero.store) || fake_store_step(&rig->guests[0].store) ||
	       fake_store_step(&rig->guests[1].store))
		;
	event_base_loop(rig->base, EVLOOP_NONBLOCK);
}

#define until(condition)                                                                                     \
	do {                                                                                                 \
		uint64_t end_ms = now_ms() + PATIENCE_MS;                                                    \
		while (!(condition)) {                                                                       \
			if (now_ms() > end_ms)                                                               \
				fail_msg("waited in vain: %s", #condition);                                  \
			turn(rig);                                                                           \
			nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);                              \
		}                                                                                            \
	} while (0)

static int resolve(struct place *place, const char *name)
{
	uint32_t domid;
	int r = directory_resolve(place->directory, name, &domid);

	return r < 0 ? r : (int)domid;
}

static bool is_named(struct place *place, uint32_t domid, const char *name)
{
	return !strcmp(directory_name(place->directory, domid), name);
}

static void link_up(struct rig *rig, uint32_t domid)
{
	directory_link(guest(rig, domid)->directory, 0, true);
	directory_link(rig->zero.directory, domid, true);
}

/* All that was to be told has been told: a domain that was renamed just now is known by its name. */
static void settle(struct rig *rig, uint32_t domid)
{
	static unsigned count;
	char name[32];

	snprintf(name, sizeof(name), "settled-%u", ++count);
	fake_write(&rig->zero.store, "/local/domain/0/name", name);
	until(is_named(guest(rig, domid), 0, name));
}

static void introduce(struct rig *rig, uint32_t domid, const char *name, const char *uuid)
{
	char path[64], value[64];

	snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
	snprintf(value, sizeof(value), "/vm/%s", uuid);
	fake_write(&rig->zero.store, path, value);
	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	fake_write(&rig->zero.store, path, name);
	fake_fire(&rig->zero.store, "@introduceDomain");
}

static void release(struct rig *rig, uint32_t domid)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	fake_remove(&rig->zero.store, path);
	snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
	fake_remove(&rig->zero.store, path);
	fake_fire(&rig->zero.store, "@releaseDomain");
}

/* --- domain 0 and its guests --- */

static void a_guest_gets_the_complete_list_when_its_link_is_up(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	link_up(rig, 1);
	until(directory_is_served(one->directory));
	assert_int_equal(resolve(one, "Domain-0"), 0);
	assert_int_equal(resolve(one, "one"), 1);
	assert_int_equal(resolve(one, "two"), 2);
	assert_int_equal(resolve(one, UUID_B), 2);
	assert_int_equal(resolve(one, "12345678-9ABC-4DEF-8012-3456789ABCDE"), 2);
	assert_string_equal(directory_uuid(one->directory, 2), UUID_B);
	assert_string_equal(directory_uuid(one->directory, 0), "");
	assert_int_equal(resolve(one, "three"), -EHOSTDOWN);
	assert_int_equal(resolve(one, ""), -EHOSTDOWN);
	assert_int_equal(resolve(one, "00000000-0000-0000-0000-000000000000"), -EHOSTDOWN);
	assert_int_equal(rig->frames, 1);
}

/* Or a daemon that starts again would take from the guests what the one before had told them. */
static void nothing_is_told_before_all_domains_have_been_read(void **state)
{
	struct rig *rig = *state;

	link_up(rig, 1);
	for (unsigned i = 0; i < 40; i++) {
		event_base_loop(rig->base, EVLOOP_NONBLOCK);
		if (rig->frames)
			assert_null(rig->zero.store.requests);
		fake_store_step(&rig->zero.store);
	}
	until(rig->frames);
	assert_int_equal(resolve(guest(rig, 1), "two"), 2);
}

static void a_rename_is_told_as_one_change(void **state)
{
	struct rig *rig = *state;
	unsigned entries;

	link_up(rig, 1);
	link_up(rig, 2);
	until(directory_is_served(guest(rig, 1)->directory) && directory_is_served(guest(rig, 2)->directory));
	entries = rig->entries;
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	until(is_named(guest(rig, 1), 2, "work"));
	assert_int_equal(resolve(guest(rig, 1), "two"), -EHOSTDOWN);
	assert_int_equal(resolve(guest(rig, 1), "work"), 2);
	assert_string_equal(guest(rig, 1)->last_change, "2 two>work");
	until(guest(rig, 1)->has_changed);
	assert_int_equal(rig->entries, entries + 2); /* one for each guest */
}

static void new_and_removed_domains_are_told(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	unsigned watches;

	link_up(rig, 1);
	until(directory_is_served(one->directory));
	watches = fake_watches(&rig->zero.store);
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	until(is_named(one, 7, "seven"));
	assert_int_equal(resolve(one, "77777777-0000-4000-8000-000000000007"), 7);
	assert_int_equal(fake_watches(&rig->zero.store), watches + 1);
	release(rig, 7);
	until(is_named(one, 7, ""));
	assert_int_equal(resolve(one, "seven"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "77777777-0000-4000-8000-000000000007"), -EHOSTDOWN);
	assert_int_equal(resolve(&rig->zero, "seven"), -EHOSTDOWN);
	until(fake_watches(&rig->zero.store) == watches);
	/* A domid that is used again is another domain. */
	introduce(rig, 7, "other", "77777777-0000-4000-8000-000000000008");
	until(is_named(one, 7, "other"));
	assert_string_equal(directory_uuid(one->directory, 7), "77777777-0000-4000-8000-000000000008");
}

static void a_domain_that_is_replaced_between_two_looks_has_the_new_ones_name_and_uuid(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	link_up(rig, 1);
	introduce(rig, 7, "seven", "77777777-0000-4000-8000-000000000007");
	until(is_named(one, 7, "seven"));
	release(rig, 7);
	introduce(rig, 7, "other", "77777777-0000-4000-8000-000000000008");
	until(is_named(one, 7, "other"));
	settle(rig, 1);
	assert_string_equal(directory_uuid(one->directory, 7), "77777777-0000-4000-8000-000000000008");
	assert_int_equal(resolve(one, "seven"), -EHOSTDOWN);
}

static void hidden_domains_are_never_told(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1), *two = guest(rig, 2);
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

static void what_is_hidden_later_is_taken_back(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	rig->hidden[2] = true;
	directory_refresh(rig->zero.directory);
	until(resolve(one, "two") == -EHOSTDOWN);
	rig->hidden[2] = false;
	directory_refresh(rig->zero.directory);
	until(resolve(one, "two") == 2);
	/* Also where it is the rename that hides it. */
	rig->hidden[2] = true;
	fake_write(&rig->zero.store, "/local/domain/2/name", "secret");
	until(resolve(one, "two") == -EHOSTDOWN);
	assert_int_equal(resolve(one, "secret"), -EHOSTDOWN);
}

/* By rules that say its name, and now say something else. */
static void what_a_guest_may_see_follows_its_own_name(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	rig->hidden[2] = true;
	link_up(rig, 1);
	until(directory_is_served(one->directory));
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
	rig->hidden[2] = false;
	fake_write(&rig->zero.store, "/local/domain/1/name", "friend");
	until(resolve(one, "two") == 2);
	rig->hidden[2] = true;
	fake_write(&rig->zero.store, "/local/domain/1/name", "stranger");
	until(resolve(one, "two") == -EHOSTDOWN);
}

static void domain_0_knows_a_domain_when_its_name_and_uuid_were_read(void **state)
{
	struct rig *rig = *state;
	struct directory *zero = rig->zero.directory;
	unsigned changes;

	assert_false(directory_knows(zero, 0));
	assert_string_equal(directory_why_unknown(zero, 1), "XenStore hasn't told it yet");
	until(directory_knows(zero, 0) && directory_knows(zero, 1));
	assert_true(is_named(&rig->zero, 1, "one"));
	assert_string_equal(directory_uuid(zero, 1), UUID_A);
	/* One that has neither is known too, and whoever waits for that is told. */
	changes = rig->zero.changes;
	fake_write(&rig->zero.store, "/local/domain/7/memory", "1");
	fake_fire(&rig->zero.store, "@introduceDomain");
	assert_false(directory_knows(zero, 7));
	until(directory_knows(zero, 7));
	assert_true(is_named(&rig->zero, 7, ""));
	assert_int_equal(rig->zero.changes, changes + 1);
	fake_remove(&rig->zero.store, "/local/domain/7/memory");
	fake_fire(&rig->zero.store, "@releaseDomain");
	until(!directory_knows(zero, 7));
}

/* A guest isn't told that domain 0's policy was read again, where that changes nothing for it. */
static void new_rules_that_change_nothing_for_a_guest_tell_it_nothing(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	unsigned entries;

	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	settle(rig, 1);
	entries = rig->entries;
	directory_refresh(rig->zero.directory);
	settle(rig, 1);
	assert_int_equal(rig->entries, entries + 1); /* by which it is settled */
	/* What does, is told, and no more. */
	rig->hidden[2] = true;
	entries = rig->entries;
	directory_refresh(rig->zero.directory);
	until(resolve(one, "two") == -EHOSTDOWN);
	settle(rig, 1);
	assert_int_equal(rig->entries, entries + 2);
}

static void many_domains_take_several_small_frames(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	char name[DOMAIN_NAME_MAX + 1], uuid[64];

	for (unsigned i = 100; i < 300; i++) {
		memset(name, 'x', sizeof(name));
		snprintf(name + DOMAIN_NAME_MAX - 4, 5, "-%u", i);
		snprintf(uuid, sizeof(uuid), "00000000-0000-4000-8000-%012u", i);
		introduce(rig, i, name, uuid);
	}
	until(resolve(&rig->zero, name) == 299);
	link_up(rig, 1);
	until(directory_is_served(one->directory));
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

static void a_guest_that_could_not_take_a_change_gets_everything_again(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	unsigned flushes;

	link_up(rig, 1);
	until(directory_is_served(one->directory));
	rig->send_error = -ENOBUFS;
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	flushes = rig->zero.flushes;
	until(rig->zero.flushes > flushes);
	assert_true(is_named(one, 2, "two"));
	rig->send_error = 0;
	until(is_named(one, 2, "work"));
}

static void a_guest_without_a_link_is_told_nothing(void **state)
{
	struct rig *rig = *state;

	link_up(rig, 1);
	until(directory_is_served(guest(rig, 1)->directory));
	directory_link(rig->zero.directory, 1, false);
	rig->frames = 0;
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	until(is_named(&rig->zero, 2, "work") && rig->zero.has_changed);
	introduce(rig, 5, "five", UUID_A);
	until(is_named(&rig->zero, 5, "five"));
	assert_int_equal(rig->frames, 0);
}

static void names_that_mean_something_else_are_none(void **state)
{
	static const char *const names[] = {
		"17",  "0",	   "self", "a:b", "a b",
		"a/b", "\xc3\xa4", UUID_A, "",	  "123456789012345678901234567890"};
	struct rig *rig = *state;
	char longest[DOMAIN_NAME_MAX + 2] = {0};

	link_up(rig, 1);
	until(directory_is_served(guest(rig, 1)->directory));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		fake_write(&rig->zero.store, "/local/domain/2/name", names[i]);
		until(is_named(&rig->zero, 2, ""));
		settle(rig, 1);
		assert_true(is_named(guest(rig, 1), 2, ""));
		fake_write(&rig->zero.store, "/local/domain/2/name", "two");
		until(is_named(guest(rig, 1), 2, "two"));
	}
	memset(longest, 'n', DOMAIN_NAME_MAX);
	fake_write(&rig->zero.store, "/local/domain/2/name", longest);
	until(resolve(guest(rig, 1), longest) == 2);
	longest[DOMAIN_NAME_MAX] = 'n';
	fake_write(&rig->zero.store, "/local/domain/2/name", longest);
	until(is_named(guest(rig, 1), 2, ""));
	assert_int_equal(resolve(guest(rig, 1), UUID_B), 2);
}

static void bad_uuids_are_none(void **state)
{
	static const char *const values[] = {"",
					     "/vm/",
					     UUID_A,
					     "/vm/" UUID_A "0",
					     "/vm/gaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
					     "/vm/aaaaaaaaabbbb-4ccc-8ddd-eeeeeeeeeeee",
					     "/vm/00000000-0000-0000-0000-000000000000"};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		char name[32];

		snprintf(name, sizeof(name), "name-%zu", i);
		fake_write(&rig->zero.store, "/local/domain/2/vm", values[i]);
		fake_write(&rig->zero.store, "/local/domain/2/name", name);
		until(is_named(&rig->zero, 2, name));
		turn(rig);
		assert_string_equal(directory_uuid(rig->zero.directory, 2), "");
	}
}

static void of_two_domains_with_a_name_the_later_one_is_meant(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	link_up(rig, 1);
	until(directory_is_served(one->directory));
	fake_write(&rig->zero.store, "/local/domain/2/name", "work");
	until(resolve(one, "work") == 2);
	introduce(rig, 5, "work", UUID_B);
	until(resolve(one, "work") == 5 && resolve(&rig->zero, "work") == 5);
	assert_int_equal(resolve(one, UUID_B), 5);
	release(rig, 5);
	until(resolve(one, "work") == 2 && resolve(&rig->zero, "work") == 2);
}

/* --- a guest alone --- */

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

static void a_guest_knows_its_own_name_by_itself(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	until(resolve(one, "one") == 1);
	assert_int_equal(resolve(one, UUID_A), 1);
	assert_false(directory_is_served(one->directory));
	assert_true(directory_is_served(rig->zero.directory));
	fake_write(&one->store, "name", "first");
	until(resolve(one, "first") == 1);
	/* And doesn't need to be told. */
	assert_int_equal(
		TAKE(one, DIRECTORY_REPLACES, {1, DIRECTORY_PRESENT, "other"}, {2, DIRECTORY_PRESENT, "two"}),
		0);
	assert_int_equal(TAKE(one, 0, {1, DIRECTORY_REMOVED, ""}), 0);
	assert_int_equal(resolve(one, "first"), 1);
	assert_int_equal(resolve(one, "other"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "two"), 2);
}

static void a_guest_knows_of_others_what_it_was_told(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	struct directory *directory = one->directory;
	unsigned changes;

	assert_false(directory_knows(directory, 1));
	assert_string_equal(directory_why_unknown(directory, 1), "XenStore hasn't told it yet");
	until(directory_knows(directory, 1)); /* by itself */
	assert_false(directory_knows(directory, 2));
	assert_string_equal(directory_why_unknown(directory, 2),
			    "no xenmsgd is seen in domain 0, which tells the names");
	directory_presence(directory, true);
	assert_string_equal(directory_why_unknown(directory, 2),
			    "xenmsgd in domain 0 hasn't told the names yet");
	changes = one->changes;
	assert_int_equal(TAKE(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, ""}), 0);
	assert_true(directory_knows(directory, 2)); /* that it has no name */
	assert_int_equal(one->changes, changes + 1);
	assert_false(directory_knows(directory, 3));
	assert_string_equal(directory_why_unknown(directory, 3),
			    "domain 0 hasn't told it; a [see] there may hide it");
	assert_int_equal(TAKE(one, 0, {2, DIRECTORY_REMOVED, ""}), 0);
	assert_false(directory_knows(directory, 2));
	assert_int_equal(one->changes, changes + 2);
	one->self.domid = 9;
	directory_restart(directory);
	assert_false(directory_knows(directory, 1) || directory_knows(directory, 9));
	until(directory_knows(directory, 9));
}

static void a_complete_list_replaces_what_was_known_when_it_is_complete(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	assert_int_equal(
		TAKE(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"}, {3, DIRECTORY_PRESENT, "three"}),
		0);
	assert_int_equal(TAKE(one, DIRECTORY_REPLACES | DIRECTORY_MORE, {2, DIRECTORY_PRESENT, "work"}), 0);
	assert_int_equal(resolve(one, "work"), 2);
	assert_int_equal(resolve(one, "three"), 3); /* it may be in the rest */
	assert_int_equal(TAKE(one, DIRECTORY_MORE, {4, DIRECTORY_PRESENT, "four"}), 0);
	assert_int_equal(resolve(one, "three"), 3);
	assert_int_equal(TAKE(one, 0, {5, DIRECTORY_PRESENT, "five"}), 0);
	assert_int_equal(resolve(one, "three"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "four"), 4);
	assert_int_equal(TAKE(one, 0, {4, DIRECTORY_REMOVED, ""}, {9, DIRECTORY_REMOVED, ""}), 0);
	assert_int_equal(resolve(one, "four"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "five"), 5);
	assert_int_equal(take(one, DIRECTORY_REPLACES, NULL, 0), 0);
	assert_int_equal(resolve(one, "five"), -EHOSTDOWN);
}

static void a_list_that_broke_off_takes_nothing_away(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	directory_link(one->directory, 0, true);
	assert_int_equal(
		TAKE(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"}, {3, DIRECTORY_PRESENT, "three"}),
		0);
	assert_int_equal(TAKE(one, DIRECTORY_REPLACES | DIRECTORY_MORE, {2, DIRECTORY_PRESENT, "two"}), 0);
	directory_link(one->directory, 0, false);
	directory_link(one->directory, 0, true);
	assert_int_equal(TAKE(one, 0, {4, DIRECTORY_PRESENT, "four"}), 0);
	assert_int_equal(resolve(one, "three"), 3);
}

static void of_a_bad_frame_nothing_is_believed(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	assert_int_equal(TAKE(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"}), 0);
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

static void a_link_is_wanted_while_dom0s_daemon_is_there(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	uint64_t first;

	turn(rig);
	assert_int_equal(one->wants, 0);
	directory_presence(one->directory, true);
	until(one->wants == 1);
	first = now_ms();
	until(one->wants == 3);
	assert_true(now_ms() - first >= 700); /* 250 ms and 500 ms, less what timers round */
	directory_link(one->directory, 0, true);
	directory_link(one->directory, 0, false);
	until(one->wants == 4);
	directory_presence(one->directory, false);
	directory_link(one->directory, 3, false);
	assert_int_equal(event_base_get_num_events(rig->base, EVENT_BASE_COUNT_ADDED), 0);
	directory_presence(one->directory, true);
	until(one->wants == 5);
	/* A new daemon's presence while the link with the old one is being given up. */
	directory_link(one->directory, 0, true);
	directory_presence(one->directory, false);
	directory_presence(one->directory, true);
	directory_link(one->directory, 0, false);
	until(one->wants == 6);
	/* Domain 0 wants none. */
	directory_presence(rig->zero.directory, true);
	turn(rig);
	assert_int_equal(rig->zero.wants, 0);
}

static void names_are_believed_for_a_while_without_dom0s_daemon(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	uint64_t from;

	until(resolve(one, "one") == 1);
	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	from = now_ms();
	directory_link(one->directory, 0, false);
	assert_int_equal(resolve(one, "two"), 2);
	until(resolve(one, "two") == -EHOSTDOWN);
	assert_true(now_ms() - from >= BELIEVED_MS - 20); /* libevent looks at a coarse clock */
	assert_false(directory_is_served(one->directory));
	assert_int_equal(resolve(one, "one"), 1);
	until(one->has_changed);
}

static void names_stay_when_dom0s_daemon_comes_back_in_time(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);
	uint64_t end;

	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	directory_link(one->directory, 0, false);
	directory_link(one->directory, 0, true);
	assert_int_equal(TAKE(one, DIRECTORY_REPLACES, {2, DIRECTORY_PRESENT, "two"}), 0);
	end = now_ms() + 2 * BELIEVED_MS;
	until(now_ms() > end);
	assert_int_equal(resolve(one, "two"), 2);
}

static void after_a_restore_nothing_of_the_old_host_is_believed(void **state)
{
	struct rig *rig = *state;
	struct place *one = guest(rig, 1);

	until(resolve(one, "one") == 1);
	link_up(rig, 1);
	until(resolve(one, "two") == 2);
	directory_presence(one->directory, true);
	directory_link(one->directory, 0, false);
	one->self.domid = 9;
	directory_restart(one->directory);
	assert_int_equal(resolve(one, "two"), -EHOSTDOWN);
	assert_int_equal(resolve(one, "one"), -EHOSTDOWN);
	assert_false(directory_is_served(one->directory));
	until(resolve(one, "one") == 9);
	assert_int_equal(resolve(one, UUID_A), 9);
	assert_int_equal(one->wants, 0);
}

/* Whatever happens in XenStore, in the end each guest knows of each domain what it may, and nothing else. */
static void guests_know_what_xenstore_says_after_any_changes(void **state)
{
	struct rig *rig = *state;
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
				directory_refresh(rig->zero.directory);
			} else if (what == 7) {
				linked = !linked;
				directory_link(rig->zero.directory, 1, linked);
				directory_link(guest(rig, 1)->directory, 0, linked);
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
			assert_string_equal(directory_name(rig->zero.directory, domid), name);
			assert_string_equal(directory_name(guest(rig, 2)->directory, domid), name);
			assert_string_equal(directory_name(guest(rig, 1)->directory, domid),
					    rig->hidden[domid] ? "" : name);
			snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
			node = fake_find(&rig->zero.store, path);
			assert_string_equal(directory_uuid(guest(rig, 2)->directory, domid),
					    node ? node->value + 4 : "");
		}
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_guest_gets_the_complete_list_when_its_link_is_up),
		TEST(nothing_is_told_before_all_domains_have_been_read),
		TEST(a_rename_is_told_as_one_change),
		TEST(new_and_removed_domains_are_told),
		TEST(a_domain_that_is_replaced_between_two_looks_has_the_new_ones_name_and_uuid),
		TEST(hidden_domains_are_never_told),
		TEST(what_is_hidden_later_is_taken_back),
		TEST(what_a_guest_may_see_follows_its_own_name),
		TEST(domain_0_knows_a_domain_when_its_name_and_uuid_were_read),
		TEST(new_rules_that_change_nothing_for_a_guest_tell_it_nothing),
		TEST(many_domains_take_several_small_frames),
		TEST(a_guest_that_could_not_take_a_change_gets_everything_again),
		TEST(a_guest_without_a_link_is_told_nothing),
		TEST(names_that_mean_something_else_are_none),
		TEST(bad_uuids_are_none),
		TEST(of_two_domains_with_a_name_the_later_one_is_meant),
		TEST(a_guest_knows_its_own_name_by_itself),
		TEST(a_guest_knows_of_others_what_it_was_told),
		TEST(a_complete_list_replaces_what_was_known_when_it_is_complete),
		TEST(a_list_that_broke_off_takes_nothing_away),
		TEST(of_a_bad_frame_nothing_is_believed),
		TEST(a_link_is_wanted_while_dom0s_daemon_is_there),
		TEST(names_are_believed_for_a_while_without_dom0s_daemon),
		TEST(names_stay_when_dom0s_daemon_comes_back_in_time),
		TEST(after_a_restore_nothing_of_the_old_host_is_believed),
		TEST(guests_know_what_xenstore_says_after_any_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
