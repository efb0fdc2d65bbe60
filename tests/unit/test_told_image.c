/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What domains are called, and what domain 0 has told a guest of the host's policy, in the image that a
 * daemon hands over: the next daemon decides as this one. */
#include "tests/unit/unit.h"
#include "tests/unit/image_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/policy/access.h"
#include "daemon/policy/denied.h"
#include "daemon/policy/policy.h"
#include "wire/frame.h"

struct world {
	struct self self;
	struct registry *registry;
	struct access *access;
};

static struct world *world_keeping(int directory)
{
	struct world *world = calloc(1, sizeof(*world));

	world->self.domid = 1;
	world->registry = registry_new(&world->self);
	assert_int_equal(access_new(&world->access, &world->self, "/etc/xenmsg/nonexistent", world->registry),
			 0);
	assert_int_equal(access_set_host(world->access, "", CONFIG_HOST_POLICY_OBEY, directory), 0);
	return world;
}

static struct world *world_new(void)
{
	return world_keeping(-1);
}

static void world_free(struct world *world)
{
	access_free(world->access);
	registry_free(world->registry);
	free(world);
}

static void name(struct world *world, uint32_t domid, const char *text)
{
	struct registry_domain *domain = registry_get(world->registry, domid);

	registry_set_name(world->registry, domain, text, strlen(text));
	registry_set_complete(world->registry, domain, true);
}

static int tell(struct world *world, uint32_t flags, const char *text)
{
	const struct frame_policy frame = {.flags = flags, .text = frame_text_of(text)};
	uint8_t payload[512];

	return access_take_host(world->access, payload, frame_policy_encode(&frame, payload));
}

/* Domain 2, which is `work`, may reach `inbox`, and 3 nothing; 4 has been added since, and more is on its
 * way. */
static void deny(struct world *world, uint32_t domid, unsigned times, const struct policy_decision *decision)
{
	while (times--)
		denied_add(access_denied(world->access), &(struct access_sender){.domid = domid, .uid = 1000},
			   LOG_BY_DOMAIN(domid), "inbox", decision);
}

static struct world *world_of_words(void)
{
	struct world *world = world_new();

	name(world, 5, "twice");
	name(world, 4, "twice");
	name(world, 7, "other");
	registry_teller(world->registry)->tells = true;
	assert_int_equal(
		tell(world, POLICY_REPLACES,
		     "[file]\npath = x\n[rule]\nline = 1\nfrom = work\nendpoint = inbox\naction = allow\n"
		     "[rule]\nline = 2\nfrom = late\naction = allow\n"
		     "[domain]\ndomid = 2\nname = work\n[domain]\ndomid = 3\n"),
		1);
	assert_int_equal(tell(world, 0, "[domain]\ndomid = 4\nname = late\n"), 0);
	assert_int_equal(tell(world, POLICY_MORE, "[domain]\ndomid = 3\n"), 0);
	deny(world, 6, 2, &(struct policy_decision){.section = "rule", .file = "b.conf", .line = 7});
	deny(world, 5, 1, &(struct policy_decision){.section = "relay"});
	return world;
}

static uint8_t *bytes_of(struct world *world, size_t *size)
{
	struct image image;

	image_begin(&image);
	image_section(&image, IMAGE_REGISTRY);
	registry_names_image(&image, world->registry);
	image_section(&image, IMAGE_POLICY);
	access_image(&image, world->access);
	return image_to_bytes(&image, size);
}

static int read_world(struct world *world, const uint8_t *bytes, size_t size)
{
	struct image image;
	uint32_t type;
	int r;

	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		if (type == IMAGE_REGISTRY)
			registry_names_image(&image, world->registry);
		else if (type == IMAGE_POLICY)
			access_image(&image, world->access);
		else
			image_fail(&image, -EINVAL);
	r = image.error;
	image_free(&image);
	return r;
}

/* The one to which all of it was handed over, twice. */
static struct world *next_world(void)
{
	struct world *world = world_of_words();

	for (unsigned i = 0; i < 2; i++) {
		struct world *next = world_new();
		size_t size;
		uint8_t *bytes = bytes_of(world, &size);

		assert_int_equal(read_world(next, bytes, size), 0);
		free(bytes);
		world_free(world);
		world = next;
	}
	return world;
}

static int reach(struct world *world, uint32_t domid, const char *endpoint)
{
	return access_still_allowed(world->access, (struct access_sender){.domid = domid}, endpoint);
}

TEST(what_was_decided_by_the_hosts_policy_stays_decided)
{
	struct world *world = next_world();

	assert_int_equal(reach(world, 2, "inbox"), 0);
	assert_int_equal(reach(world, 2, "other"), -EACCES);
	assert_int_equal(reach(world, 3, "inbox"), -EACCES);
	assert_int_equal(reach(world, 4, "other"), 0);
	assert_int_equal(reach(world, 5, "inbox"), -ENODATA);
	world_free(world);
}

struct seen {
	struct denied_entry entries[2];
	unsigned count;
};

static void see(void *userdata, const struct denied_entry *entry)
{
	struct seen *seen = userdata;

	assert_true(seen->count < 2);
	seen->entries[seen->count++] = *entry;
}

TEST(what_was_refused_stays_told)
{
	struct world *world = next_world();
	struct seen seen = {.count = 0};
	const struct denied_entry *entries = seen.entries;

	denied_each(access_denied(world->access), see, &seen);
	assert_int_equal(seen.count, 2);
	assert_int_equal(entries[0].domid, 5); /* the latest */
	assert_string_equal(entries[0].section, "relay");
	assert_string_equal(entries[0].file, "");
	assert_int_equal(entries[1].domid, 6);
	assert_int_equal(entries[1].count, 2);
	assert_int_equal(entries[1].uid, 1000);
	assert_string_equal(entries[1].section, "rule");
	assert_string_equal(entries[1].file, "b.conf");
	assert_int_equal(entries[1].line, 7);
	world_free(world);
}

static struct world *crashed(struct world *before, int directory)
{
	if (before)
		world_free(before);
	return world_keeping(directory);
}

TEST(what_the_host_denies_outlives_a_crash)
{
	char path[] = "/tmp/xenmsg-told-XXXXXX";
	int directory = open(mkdtemp(path), O_RDONLY | O_DIRECTORY), file;
	struct world *world = crashed(NULL, directory);

	assert_int_equal(reach(world, 3, "inbox"), -EACCES); /* by its own rules */
	assert_int_equal(tell(world, POLICY_REPLACES,
			      "[file]\npath = x\n[rule]\nline = 1\nfrom = work\nendpoint = inbox\n"
			      "action = allow\n[domain]\ndomid = 3\nname = work\n"),
			 1);
	assert_int_equal(reach(world, 3, "inbox"), 0);
	world = crashed(world, directory);
	assert_int_equal(reach(world, 3, "inbox"), -ENODATA); /* who has the name isn't believed */
	assert_int_equal(reach(world, 3, "other"), -EACCES);
	assert_int_equal(tell(world, POLICY_REPLACES, ""), 1);
	world = crashed(world, directory);
	assert_int_equal(reach(world, 3, "inbox"), -EACCES);
	assert_true(access_host_needs_names(world->access) == false);
	file = openat(directory, "host-policy", O_WRONLY);
	assert_int_equal(write(file, "[rule]", 6), 6);
	close(file);
	world = crashed(world, directory);
	assert_int_equal(reach(world, 3, "inbox"), -EACCES);
	world_free(world);
	assert_int_equal(unlinkat(directory, "host-policy", 0), 0);
	close(directory);
	assert_int_equal(rmdir(path), 0);
}

TEST(what_has_come_by_half_goes_on)
{
	struct world *world = next_world();

	assert_int_equal(tell(world, 0, "name = late\n"), 0);
	assert_int_equal(reach(world, 3, "other"), 0);
	world_free(world);
}

TEST(of_two_domains_of_one_name_the_same_is_meant)
{
	struct world *world = next_world();
	uint32_t domid;

	assert_int_equal(registry_resolve(world->registry, "twice", &domid), 0);
	assert_int_equal(domid, 4);
	assert_true(registry_is_complete(world->registry, 5));
	assert_false(registry_is_complete(world->registry, 6));
	assert_true(registry_is_told(world->registry));
	world_free(world);
}

TEST(what_was_read_already_is_newer)
{
	struct world *before = world_of_words(), *after = world_new();
	size_t size;
	uint8_t *bytes = bytes_of(before, &size);

	name(after, 7, "renamed");
	assert_int_equal(read_world(after, bytes, size), 0);
	assert_string_equal(registry_name(after->registry, 7), "renamed");
	free(bytes);
	world_free(before);
	world_free(after);
}

static int read_bytes(const uint8_t *bytes, size_t size)
{
	struct world *world = world_new();
	int r = read_world(world, bytes, size);

	world_free(world);
	return r;
}

TEST(what_is_spoilt_is_refused_or_harmless)
{
	struct world *world = world_of_words();
	size_t size;
	uint8_t *bytes = bytes_of(world, &size);

	image_spoil("told", bytes, size, size, 1, read_bytes);
	free(bytes);
	world_free(world);
}
