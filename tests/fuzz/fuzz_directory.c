/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A guest's directory that is told anything: DIRECTORY frames, each a byte of length (in units of four) and
 * that much payload. Whatever it believes, its own name stays, each name that it knows is one that can stand
 * in an address and leads to a domain of that name, and a frame that it refuses changes nothing.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/peers/directory.h"
#include "daemon/policy/access.h"
#include "tests/unit/fake_store.h"
#include "wire/address.h"

#define OWN 1

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
	if (!truth)
		abort();
}

bool access_sees(struct access *access, uint32_t guest, uint32_t other)
{
	return guest != other;
}

static int send_nothing(void *userdata, uint32_t guest, const void *payload, uint32_t length)
{
	abort();
}

static void want_nothing(void *userdata)
{
}

static unsigned changes;
static bool starting;

static void changed(void *userdata, uint32_t domid, const char *old_name, const char *name)
{
	require(domid <= DOMID_MAX && (domid != OWN || starting));
	require(!*name || domain_name_is_valid(name, strlen(name)));
	changes++;
}

static void told(void *userdata, bool is_told)
{
}

static void leaves_changed(void *userdata, uint32_t domid, unsigned leaves)
{
	require(domid <= DOMID_MAX && leaves <= UINT8_MAX);
	changes++;
}

static void flush(void *userdata, bool has_changed)
{
}

static void look(struct directory *directory)
{
	uint32_t domid, found;

	require(!strcmp(directory_name(directory, OWN), "own"));
	for (domid = 0; domid < 300; domid++) {
		const char *name = directory_name(directory, domid), *uuid = directory_uuid(directory, domid);

		if (*name)
			require(directory_resolve(directory, name, &found) == 0 &&
				!strcmp(directory_name(directory, found), name));
		if (*uuid)
			require(directory_resolve(directory, uuid, &found) == 0 &&
				!strcmp(directory_uuid(directory, found), uuid));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct directory_callbacks callbacks = {
		.send = send_nothing,
		.told = told,
		.leaves_changed = leaves_changed,
		.want_link = want_nothing,
		.changed = changed,
		.flush = flush,
	};
	static const struct self self = {.domid = OWN};
	static const struct directory_options options = {.self = &self, .believed_ms = 1000};
	static struct event_base *base;
	struct directory *directory;
	struct store store = {0};

	if (!base)
		base = event_base_new();
	fake_write(&store, "name", "own");
	starting = true;
	require(directory_new(&directory, base, &store, &options, &callbacks, NULL) == 0);
	while (fake_store_step(&store))
		;
	starting = false;
	while (size) {
		uint32_t length = data[0] * 4u, before = changes;

		if (length > --size)
			length = (uint32_t)size;
		if (directory_take(directory, ++data, length) < 0)
			require(changes == before);
		data += length;
		size -= length;
	}
	look(directory);
	directory_free(directory);
	fake_store_clear(&store);
	return 0;
}
