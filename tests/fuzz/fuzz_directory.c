/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A guest's directory that is told anything: DIRECTORY frames, each a byte of length (in units of four) and
 * that much payload. Whatever it believes, its own name stays, each name that it knows is one that can stand
 * in an address and leads to a domain of that name, and a frame that it refuses changes nothing.
 */

#include <event2/event.h>

#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/link/directory.h"
#include "daemon/link/link.h"
#include "daemon/peers/names.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fake_store.h"
#include "wire/address.h"

#define OWN 1

bool access_sees(struct access *access, struct access_sender from, uint32_t other)
{
	return from.domid != other;
}

int links_send(struct links *links, struct peer_id peer, uint8_t type, const void *payload, uint32_t length)
{
	abort();
}

struct hop *links_want(struct links *links, struct peer_id peer, struct account *account, int *error)
{
	abort();
}

bool links_next_away(const struct links *links, struct links_away *away)
{
	return false;
}

bool links_had_session(const struct links *links, uint32_t domid)
{
	abort();
}

void access_forget_host_domain(struct access *access, uint32_t domid)
{
}

bool access_sees_gone(struct access *access, uint32_t domid, uint32_t other, const char *name,
		      const char *uuid)
{
	abort();
}

int access_still_relayed(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	abort();
}

static unsigned changes;
static bool starting;

static void changed(void *userdata, enum registry_what what, uint32_t domid)
{
	struct registry *registry = *(struct registry **)userdata;
	const char *name = registry_name(registry, domid);

	check(domid <= DOMID_MAX && (domid != OWN || starting));
	check(!*name || domain_name_is_valid(name, strlen(name)));
	changes++;
}

/* Stand in for the peers. */
void peers_tell(struct peers *peers, uint32_t guest, bool up)
{
	abort();
}

void peers_told(struct peers *peers, bool is_told)
{
}

void peers_changed(struct peers *peers, const struct peers_change *change)
{
	check(change->domid <= DOMID_MAX && change->leaves <= UINT8_MAX);
	changes++;
}

static void renamed(void *userdata)
{
}

static void look(struct registry *registry)
{
	uint32_t domid, found;

	check(!strcmp(registry_name(registry, OWN), "own"));
	for (domid = 0; domid < 300; domid++) {
		const char *name = registry_name(registry, domid), *uuid = registry_uuid(registry, domid);

		if (*name)
			check(registry_resolve(registry, name, &found) == 0 &&
			      !strcmp(registry_name(registry, found), name));
		if (*uuid)
			check(registry_resolve(registry, uuid, &found) == 0 &&
			      !strcmp(registry_uuid(registry, found), uuid));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct self self = {.domid = OWN};
	static struct event_base *base;
	struct directory *directory;
	struct names *names;
	struct registry *registry = registry_new(&self);
	struct registry_sink sink;
	const struct directory_options options = {.self = &self, .registry = registry, .believed_ms = 1000};
	struct store store = {0};

	check(registry != NULL);
	registry_listen(registry, &sink, changed, &registry);

	if (!base)
		base = event_base_new();
	fake_write(&store, "name", "own");
	starting = true;
	check(names_new(&names, &store, &self, registry, NULL) == 0);
	check(directory_new(&directory, base, &options, renamed, NULL) == 0);
	while (fake_store_step(&store))
		;
	starting = false;
	while (size) {
		uint32_t length = data[0] * 4u, before = changes;

		if (length > --size)
			length = (uint32_t)size;
		if (directory_take(directory, ++data, length) < 0)
			check(changes == before);
		data += length;
		size -= length;
	}
	look(registry);
	directory_free(directory);
	names_free(names);
	registry_free(registry);
	fake_store_clear(&store);
	return 0;
}
