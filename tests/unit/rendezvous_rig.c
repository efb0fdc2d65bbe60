/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/rendezvous_rig.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/peers/peers_internal.h"
#include "daemon/policy/access.h"
#include "daemon/xen/vchan.h"
#include "tests/unit/unit.h"
#include "wire/ut.h"

/* --- XenStore, as far as peers write to it: at once, and what they write is confirmed in turn - */

#define SETUP_TIMEOUT_MS (2 * PATIENCE_MS)

struct config rendezvous_config = {
	.ring_size = 65536,
	.min_ring_size = 1024,
	.setup_timeout_ms = SETUP_TIMEOUT_MS,
};
static bool store_is_slow;
unsigned writes;

int store_write_leaves(struct store *store, const struct store_leaf *leaves, unsigned count, uint32_t owner,
		       int reader, store_done_fn done, void *userdata, struct store_request **handle)
{
	if (store->out_of_memory)
		return -ENOMEM;
	if (store->refused && strstr(leaves[0].path, "/hello")) {
		store->refused--;
		return store_read(store, FAKE_REFUSED, done, userdata, handle);
	}
	for (unsigned i = 0; i < count; i++) {
		fake_write(store, leaves[i].path, leaves[i].value);
		writes += !strcmp(leaves[i].path, OURS "/to/2/endpoints");
	}
	return store_read(store, leaves[0].path, done, userdata, handle);
}

int store_write(struct store *store, const char *path, const char *value, uint32_t owner, int reader,
		store_done_fn done, void *userdata, struct store_request **handle)
{
	return store_write_leaves(store, &(struct store_leaf){path, value}, 1, owner, reader, done, userdata,
				  handle);
}

int store_remove(struct store *store, const char *path, store_done_fn done, void *userdata,
		 struct store_request **handle)
{
	struct fake_node *node, *next;

	DL_FOREACH_SAFE(store->nodes, node, next) {
		char *below = strncmp(node->path, path, strlen(path)) ? NULL : strdup(node->path);

		if (below)
			fake_remove(store, below);
		free(below);
	}
	return 0;
}

bool store_is_connected(const struct store *store)
{
	return true;
}

/* --- vchans ----------------------------------------------------------------------------------- */

struct vchan {
	bool granted, is_closed;
	vchan_event_fn event;
	void *userdata;
};

struct held held;
uint64_t later_ms;

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);

	if (id == CLOCK_MONOTONIC)
		now->tv_sec += (time_t)(later_ms / 1000);
	return r;
}

int vchan_grant(struct vchan_host *host, uint32_t domid, uint32_t read_size, uint32_t write_size,
		vchan_event_fn event, void *userdata, struct vchan **vchan)
{
	if (held.forbidden)
		return -EPERM;
	if (held.room && read_size > held.room)
		return -ENOSPC;
	*vchan = calloc(1, sizeof(**vchan));
	**vchan = (struct vchan){.granted = true, .event = event, .userdata = userdata};
	held.last = *vchan;
	held.granted++;
	held.grants++;
	held.domids[0] = held.domids[1];
	held.domids[1] = domid;
	held.size = read_size;
	return 0;
}

int vchan_map(struct vchan_host *host, uint32_t domid, uint32_t ring_ref, uint32_t port, vchan_event_fn event,
	      void *userdata, struct vchan **vchan)
{
	assert_int_equal(domid, 2);
	assert_int_equal(ring_ref, 9);
	assert_int_equal(port, 17);
	held.maps++;
	if (held.forbidden)
		return -EPERM;
	if (held.unmappable && held.unmappable--)
		return -EINVAL;
	*vchan = calloc(1, sizeof(**vchan));
	held.mapped++;
	return 0;
}

void vchan_close(struct vchan *vchan)
{
	if (!vchan)
		return;
	*(vchan->granted ? &held.granted : &held.mapped) -= 1;
	free(vchan);
}

void vchan_leave(struct vchan *vchan)
{
	held.left++;
	vchan_close(vchan);
}

enum vchan_state vchan_state(const struct vchan *vchan)
{
	if (vchan->is_closed)
		return VCHAN_CLOSED;
	return vchan->granted && !held.client ? VCHAN_WAITING
	       : held.peer_is_gone	      ? VCHAN_CLOSED
					      : VCHAN_CONNECTED;
}

void client_comes(void)
{
	held.client = true;
	held.last->event(held.last->userdata);
}

void close_granted(struct scene *scene)
{
	held.last->is_closed = true;
	held.last->event(held.last->userdata);
	settle(scene);
}

uint32_t vchan_ring_ref(const struct vchan *vchan)
{
	return 9;
}

uint32_t vchan_port(const struct vchan *vchan)
{
	return 17;
}

uint32_t vchan_pages(const struct vchan *vchan)
{
	return 33;
}

bool vchan_is_granter(const struct vchan *vchan)
{
	return vchan->granted;
}

void vchan_set_event(struct vchan *vchan, vchan_event_fn event, void *userdata)
{
}

bool vchan_host_lacks(struct vchan_host *host, uint32_t domid)
{
	return false;
}

void vchan_host_set_freed(struct vchan_host *host, void (*freed)(void *userdata), void *userdata)
{
}

/* --- the scene -------------------------------------------------------------------------------- */

static void on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct scene *scene = userdata;

	scene->ups += what == REGISTRY_PRESENCE && registry_is_up(scene->registry, domid);
}

static void on_connected(void *userdata, uint32_t domid, struct vchan *vchan)
{
	((struct scene *)userdata)->vchan = vchan;
}

static void on_failed(void *userdata, uint32_t domid, int error, const char *reason)
{
	((struct scene *)userdata)->failures++;
}

static bool on_own_leaf_gone(void *userdata)
{
	((struct scene *)userdata)->own_leaf_gone++;
	return true;
}

static void on_lost(void *userdata, uint32_t domid, bool gone, const char *reason)
{
	((struct scene *)userdata)->losses++;
}

/* What begins with "hidden" isn't for the peer. */
bool access_visible(struct access *access, uint32_t domid, const char *name)
{
	return strncmp(name, "hidden", 6) != 0;
}

/* What begins with "public" is for all. */
bool access_visible_to_all(struct access *access, const char *name)
{
	return strncmp(name, "public", 6) == 0;
}

static void fire_watch(struct scene *scene, const char *watched, const char *path)
{
	struct store_watch *watch;

	DL_FOREACH(scene->store.watches, watch)
		if (!strcmp(watch->path, watched)) {
			watch->event(watch->userdata, path);
			return;
		}
	fail_msg("%s isn't watched", watched);
}

void fire(struct scene *scene, const char *path)
{
	fire_watch(scene, "/local/domain", path);
}

void fire_own(struct scene *scene, const char *path)
{
	fire_watch(scene, OURS, path);
}

static bool pass(void *userdata)
{
	while (turns_run(&((struct scene *)userdata)->turns))
		;
	return false;
}

void settle(struct scene *scene)
{
	for (int i = 0; i < 10; i++) {
		while (fake_store_step(&scene->store))
			;
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
	}
}

void pass_time(struct scene *scene, unsigned ms)
{
	struct timeval pause = {.tv_usec = (suseconds_t)ms * 1000};

	event_base_loopexit(scene->base, &pause);
	event_base_dispatch(scene->base);
	settle(scene);
}

void change(struct scene *scene, const char *path, const char *value)
{
	if (value)
		fake_write(&scene->store, path, value);
	else
		fake_remove(&scene->store, path);
	fire(scene, path);
	settle(scene);
}

const char *value_at(struct scene *scene, const char *path)
{
	const struct fake_node *node = fake_find(&scene->store, path);

	return node ? node->value : NULL;
}

static void scene_begin(struct scene *scene, bool maps)
{
	static const struct peers_callbacks callbacks = {
		.connected = on_connected,
		.failed = on_failed,
		.lost = on_lost,
		.own_leaf_gone = on_own_leaf_gone,
	};
	const struct quota_limits limits = {
		.pool = {[QUOTA_BYTES] = 1000 * LOOKUP_BYTES},
		.max = {[QUOTA_UID] = {[QUOTA_BYTES] = 100 * LOOKUP_BYTES}},
	};
	struct peers_options options = {
		.turns = &scene->turns,
		.self = &scene->self,
		.access = (void *)scene,
		.config = &rendezvous_config,
		.told = store_is_slow,
	};

	rendezvous_config.map = maps ? CONFIG_MAP_YES : CONFIG_MAP_NO;
	*scene = (struct scene){.base = event_base_new(), .self = {.domid = 1, .instance_text = INSTANCE}};
	assert_int_equal(turns_init(&scene->turns, scene->base, pass, scene), 0);
	options.registry = scene->registry = registry_new(&scene->self);
	registry_listen(scene->registry, &scene->sink, on_known, scene);
	options.quota = scene->quota = quota_new(&limits);
	scene->user = quota_account(scene->quota, QUOTA_UID, 1000);
	scene->other = quota_account(scene->quota, QUOTA_UID, 1001);
	assert_int_equal(
		peers_new(&scene->peers, scene->base, &scene->store, NULL, &options, &callbacks, scene), 0);
	if (!store_is_slow)
		settle(scene);
	store_is_slow = false;
}

void begin_slowly(struct scene *scene)
{
	store_is_slow = true;
	rendezvous_config.setup_timeout_ms = 1000;
	begin_as_mapper(scene);
	fake_write(&scene->store, "/local/domain/0/data/xenmsg/presence", "1 " OTHER_INSTANCE);
}

bool is_watched(struct scene *scene, const char *path)
{
	struct store_watch *watch;

	DL_FOREACH(scene->store.watches, watch)
		if (!strcmp(watch->path, path))
			return true;
	return false;
}

void begin_as_mapper(struct scene *scene)
{
	scene_begin(scene, true);
}

void begin_impatient(struct scene *scene)
{
	rendezvous_config.setup_timeout_ms = 100;
	begin_as_mapper(scene);
	fake_write(&scene->store, THEIRS "/presence", "1 " INSTANCE);
}

void begin_as_granter(struct scene *scene)
{
	scene_begin(scene, false);
}

void connect_to(struct scene *scene, uint32_t domid, struct account *account)
{
	assert_int_equal(peers_connect(scene->peers, domid, account), 0);
	settle(scene);
}

static void greet(struct scene *scene)
{
	const char *hello;

	peers_want_all(scene->peers);
	settle(scene);
	change(scene, THEIRS "/presence", "1 " INSTANCE);
	assert_int_equal(scene->ups, 1);
	connect_to(scene, 2, NULL);
	hello = value_at(scene, OURS "/to/2/hello");
	assert_non_null(hello);
	assert_int_equal(sscanf(hello, "1 " INSTANCE " %8s", scene->nonce), 1);
	change(scene, THEIRS "/to/1/hello", "1 " INSTANCE " 76543210 1");
	assert_null(scene->vchan);
}

void scene_start(struct scene *scene)
{
	begin_as_mapper(scene);
	greet(scene);
}

void start_as_granter(struct scene *scene)
{
	begin_as_granter(scene);
	greet(scene);
}

void scene_stop(struct scene *scene)
{
	if (scene->vchan) {
		vchan_close(scene->vchan);
		peers_disconnect(scene->peers, 2);
		settle(scene);
	}
	peers_free(scene->peers);
	registry_free(scene->registry);
	fake_store_clear(&scene->store);
	turns_cleanup(&scene->turns);
	account_unref(scene->user);
	account_unref(scene->other);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(held.granted, 0);
	assert_int_equal(held.mapped, 0);
	held = (struct held){.left = held.left};
	rendezvous_config.setup_timeout_ms = SETUP_TIMEOUT_MS;
}

const char *node_path(struct scene *scene, const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), THEIRS "/to/1/%s/%s", scene->nonce, name);
	return path;
}

void write_nodes(struct scene *scene)
{
	fake_write(&scene->store, node_path(scene, "ring-ref"), "9");
	fake_write(&scene->store, node_path(scene, "event-channel"), "17");
}

void await_vchan(struct scene *scene)
{
	for (int i = 0; i < PATIENCE_MS && !scene->vchan; i++)
		pass_time(scene, 1);
	assert_non_null(scene->vchan);
	assert_int_equal(held.mapped, 1);
}
