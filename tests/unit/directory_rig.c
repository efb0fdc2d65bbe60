/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/directory_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/peers/directory.h"
#include "daemon/peers/domains.h"
#include "daemon/policy/access.h"
#include "wire/frame.h"

struct place *guest(struct rig *rig, uint32_t domid)
{
	assert_in_range(domid, 1, 2);
	return &rig->guests[domid - 1];
}

uint64_t now_ms(void)
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

static bool on_tells(void *userdata, uint32_t domid, bool up)
{
	struct rig *rig = ((struct place *)userdata)->rig;

	rig->asked_to_tell += up;
	return up && rig->tells;
}

static bool on_leads(void *userdata, uint32_t domid, uint32_t to)
{
	return ((struct place *)userdata)->rig->leads;
}

static void on_told(void *userdata, bool told)
{
	struct place *place = userdata;

	place->told = told;
}

static void on_leaves_changed(void *userdata, uint32_t domid, unsigned leaves)
{
	struct place *place = userdata;

	if (domid < 16)
		place->leaves[domid] |= leaves;
	place->leaf_changes++;
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
		.tells = on_tells,
		.leads_on = on_leads,
		.told = on_told,
		.leaves_changed = on_leaves_changed,
		.want_link = on_want,
		.changed = on_changed,
		.flush = on_flush,
	};
	struct directory_options options = {.self = &place->self,
					    .access = (void *)place,
					    .believed_ms = BELIEVED_MS,
					    .kept_ms = KEPT_MS};

	place->rig = rig;
	place->self.domid = domid;
	if (domid == 0)
		assert_int_equal(domains_new(&place->domains, &place->store), 0);
	options.domains = place->domains;
	assert_int_equal(
		directory_new(&place->directory, rig->base, &place->store, &options, &callbacks, place), 0);
}

int set_up(void **state)
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

int tear_down(void **state)
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

void turn(struct rig *rig)
{
	while (fake_store_step(&rig->zero.store) || fake_store_step(&rig->guests[0].store) ||
	       fake_store_step(&rig->guests[1].store))
		;
	event_base_loop(rig->base, EVLOOP_NONBLOCK);
}

int resolve(struct place *place, const char *name)
{
	uint32_t domid;
	int r = directory_resolve(place->directory, name, &domid);

	return r < 0 ? r : (int)domid;
}

bool is_named(struct place *place, uint32_t domid, const char *name)
{
	return !strcmp(directory_name(place->directory, domid), name);
}

void link_up(struct rig *rig, uint32_t domid)
{
	directory_link(guest(rig, domid)->directory, 0, true);
	directory_link(rig->zero.directory, domid, true);
}

void settle(struct rig *rig, uint32_t domid)
{
	static unsigned count;
	char name[32];

	snprintf(name, sizeof(name), "settled-%u", ++count);
	fake_write(&rig->zero.store, "/local/domain/0/name", name);
	until(is_named(guest(rig, domid), 0, name));
}

void introduce(struct rig *rig, uint32_t domid, const char *name, const char *uuid)
{
	char path[64], value[64];

	snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
	snprintf(value, sizeof(value), "/vm/%s", uuid);
	fake_write(&rig->zero.store, path, value);
	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	fake_write(&rig->zero.store, path, name);
	fake_fire(&rig->zero.store, "@introduceDomain");
}

void release(struct rig *rig, uint32_t domid)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	fake_remove(&rig->zero.store, path);
	snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
	fake_remove(&rig->zero.store, path);
	fake_fire(&rig->zero.store, "@releaseDomain");
}
