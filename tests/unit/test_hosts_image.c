/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other hosts in the image that a daemon hands over: each keeps its number, and what is no table is
 * refused. */
#include "tests/unit/unit.h"
#include "tests/unit/image_bytes.h"

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/self.h"
#include "daemon/hosts/hosts_internal.h"
#include "daemon/switch/hop.h"

/* A guest, which has no gateway. */
struct world {
	struct event_base *base;
	struct switchboard board;
	struct self self;
	struct hosts *hosts;
};

static unsigned on_gone(void *userdata, uint32_t number)
{
	return 0;
}

static struct world *world_new(uint32_t domid)
{
	static const struct hosts_callbacks callbacks = {.gone = on_gone};
	struct world *world = calloc(1, sizeof(*world));
	const struct hosts_options options = {
		.self = &world->self, .socket_path = "socket", .user = 65534, .dead_after_ms = 1};

	world->self.domid = domid;
	world->base = event_base_new();
	assert_int_equal(switch_init(&world->board, world->base, 1 << 20), 0);
	assert_int_equal(hosts_new(&world->hosts, &world->board, &options, &callbacks, world), 0);
	return world;
}

static void world_free(struct world *world)
{
	hosts_free(world->hosts);
	switch_cleanup(&world->board);
	event_base_free(world->base);
	free(world);
}

static struct world *world_with_hosts(void)
{
	struct world *world = world_new(1);

	hosts_learn_own_name(world->hosts, frame_text_of("hosta"));
	assert_int_equal(hosts_note(world->hosts, "hostb"), HOST_FIRST);
	assert_int_equal(hosts_note(world->hosts, "hostc"), HOST_FIRST + 1);
	world->hosts->by_number[1]->up = true;
	strcpy(world->hosts->by_number[1]->instance, "0-1");
	world->hosts->last_id = 42;
	return world;
}

static uint8_t *bytes_of(struct world *world, size_t *size)
{
	struct image image;

	image_begin(&image);
	image_section(&image, IMAGE_HOSTS);
	hosts_image(&image, world->hosts);
	return image_to_bytes(&image, size);
}

static int read_world(struct world *world, const uint8_t *bytes, size_t size)
{
	struct image image;
	uint32_t type;
	int r;

	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		if (type == IMAGE_HOSTS)
			hosts_image(&image, world->hosts);
		else
			image_fail(&image, -EINVAL);
	r = image.error;
	image_free(&image);
	return r;
}

TEST(hosts_keep_their_numbers)
{
	struct world *before = world_with_hosts(), *after = world_new(1);
	size_t size;
	uint8_t *bytes = bytes_of(before, &size);

	assert_int_equal(read_world(after, bytes, size), 0);
	assert_string_equal(after->self.host, "hosta");
	assert_int_equal(hosts_find(after->hosts, "hostb"), HOST_FIRST);
	assert_int_equal(hosts_find(after->hosts, "hostc"), HOST_FIRST + 1);
	assert_false(hosts_is_up(after->hosts, HOST_FIRST));
	assert_true(hosts_is_up(after->hosts, HOST_FIRST + 1));
	assert_string_equal(after->hosts->by_number[1]->instance, "0-1");
	assert_int_equal(after->hosts->last_id, 42);
	free(bytes);
	world_free(before);
	world_free(after);
}

TEST(hosts_without_a_gateway_are_in_doubt)
{
	struct world *before = world_with_hosts(), *after = world_new(1);
	size_t size;
	uint8_t *bytes = bytes_of(before, &size);
	uint64_t until = clock_ms() + 60000;

	assert_int_equal(read_world(after, bytes, size), 0);
	while (hosts_is_up(after->hosts, HOST_FIRST + 1) && clock_ms() < until)
		event_base_loop(after->base, EVLOOP_ONCE);
	assert_false(hosts_is_up(after->hosts, HOST_FIRST + 1));
	free(bytes);
	world_free(before);
	world_free(after);
}

TEST(domain_0_has_its_name_from_its_settings)
{
	struct world *before = world_with_hosts(), *after = world_new(0);
	size_t size;
	uint8_t *bytes = bytes_of(before, &size);

	assert_int_equal(read_world(after, bytes, size), 0);
	assert_string_equal(after->self.host, "");
	assert_true(read_world(after, bytes, size) < 0); /* there is a table already */
	free(bytes);
	world_free(before);
	world_free(after);
}

static int read_bytes(const uint8_t *bytes, size_t size)
{
	struct world *world = world_new(1);
	int r = read_world(world, bytes, size);

	world_free(world);
	return r;
}

TEST(a_spoilt_table_is_refused_or_harmless)
{
	struct world *world = world_with_hosts();
	size_t size;
	uint8_t *bytes = bytes_of(world, &size);

	image_spoil("hosts", bytes, size, size, 1, read_bytes);
	free(bytes);
	world_free(world);
}
