/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/directory_rig.h"

#include "daemon/link/directory.h"
#include "daemon/link/link.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/names.h"
#include "daemon/peers/peers.h"
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
bool access_sees(struct access *access, struct access_sender from, uint32_t other)
{
	const struct place *place = (struct place *)(void *)access;

	return from.domid != 1 || other >= 16 || !place->rig->hidden[other];
}

/* The link: as long as send_error is 0 it takes everything. */
int links_send(struct links *links, struct peer_id peer, uint8_t type, const void *payload, uint32_t length)
{
	struct rig *rig = ((struct place *)(void *)links)->rig;
	struct frame_directory frame;
	struct frame_directory_entry entry;

	assert_int_equal(type, FRAME_DIRECTORY);
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
		if (peer.number == 1 && entry.domid < 16 && rig->hidden[entry.domid] && entry.domid > 1)
			assert_int_equal(entry.state, DIRECTORY_REMOVED);
	}
	return directory_take(guest(rig, peer.number)->directory, payload, length);
}

/* Stand in for the peers. */
void peers_tell(struct peers *peers, uint32_t domid, bool up)
{
	((struct place *)(void *)peers)->rig->asked_to_tell += up;
}

void peers_told(struct peers *peers, bool told)
{
	((struct place *)(void *)peers)->told = told;
}

void peers_changed(struct peers *peers, const struct peers_change *change)
{
	struct place *place = (struct place *)(void *)peers;

	if (change->domid < 16)
		place->leaves[change->domid] |= change->leaves;
	place->leaf_changes++;
}

bool links_next_away(const struct links *links, struct links_away *away)
{
	return false;
}

void access_forget_host_domain(struct access *access, uint32_t domid)
{
}

bool access_sees_gone(struct access *access, uint32_t domid, uint32_t other, const char *name,
		      const char *uuid)
{
	return true;
}

bool links_had_session(const struct links *links, uint32_t domid)
{
	return ((const struct place *)(const void *)links)->rig->leads;
}

int access_still_relayed(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	return 0;
}

struct hop *links_want(struct links *links, struct peer_id peer, struct account *account, int *error)
{
	((struct place *)(void *)links)->wants++;
	*error = -EHOSTDOWN;
	return NULL;
}

static void on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct place *place = userdata;

	if (what != REGISTRY_NAME)
		return;
	place->changes++;
	snprintf(place->last_change, sizeof(place->last_change), "%u %s", domid,
		 registry_name(place->registry, domid));
}

static void on_renamed(void *userdata)
{
	((struct place *)userdata)->has_changed = true;
}

/* --- the rig --- */

static void open_place(struct rig *rig, struct place *place, uint32_t domid)
{
	struct directory_options options = {.self = &place->self,
					    .peers = (void *)place,
					    .links = (void *)place,
					    .relays = true,
					    .access = (void *)place,
					    .believed_ms = BELIEVED_MS,
					    .kept_ms = KEPT_MS};

	place->rig = rig;
	place->self.domid = domid;
	options.registry = place->registry = registry_new(&place->self);
	if (domid == 0)
		assert_int_equal(domains_new(&place->domains, rig->base, &place->store, place->registry), 0);
	registry_listen(place->registry, &place->sink, on_known, place);
	assert_int_equal(
		names_new(&place->names, &place->store, &place->self, place->registry, place->domains), 0);
	assert_int_equal(directory_new(&place->directory, rig->base, &options, on_renamed, place), 0);
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
		names_free(places[i]->names);
		domains_free(places[i]->domains);
		registry_free(places[i]->registry);
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
	int r = registry_resolve(place->registry, name, &domid);

	return r < 0 ? r : (int)domid;
}

bool is_named(struct place *place, uint32_t domid, const char *name)
{
	return !strcmp(registry_name(place->registry, domid), name);
}

void link_up(struct rig *rig, uint32_t domid)
{
	registry_tell(guest(rig, domid)->registry, REGISTRY_LINK_UP, 0);
	registry_tell(rig->zero.registry, REGISTRY_LINK_UP, domid);
}

void link_up_and_tell(struct rig *rig, uint32_t domid)
{
	link_up(rig, domid);
	until(registry_is_told(guest(rig, domid)->registry));
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
