/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/asks_rig.h"

#include <event2/buffer.h>
#include <event2/event.h>

#include "daemon/registry/registry.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"

struct scene *the_scene;

struct peer_id peer_of(uint32_t number)
{
	return number == HOSTB ? peer_host(HOSTB) : peer_domain(number);
}

/* --- links ------------------------------------------------------------------------------------ */

bool links_take_asks(const struct links *links, struct peer_id peer)
{
	return the_scene->takes_asks;
}

bool links_have_unread(const struct links *links, struct peer_id peer)
{
	return the_scene->has_unread;
}

int links_send(struct links *links, struct peer_id peer, uint8_t type, const void *payload, uint32_t length)
{
	struct sent *sent = &the_scene->sent[the_scene->sent_count];

	if (the_scene->send_error)
		return the_scene->send_error;
	assert_true(the_scene->sent_count < SENT_MAX && length <= sizeof(sent->payload));
	*sent = (struct sent){.peer = peer.number, .type = type, .length = length};
	memcpy(sent->payload, payload, length);
	the_scene->sent_count++;
	return 0;
}

int links_await(struct links *links, struct peer_id peer, struct account *account, await_fn done,
		void *userdata, uint32_t request)
{
	the_scene->awaits++;
	the_scene->link_up = done;
	the_scene->await_request = request;
	return 0;
}

void links_await_cancel(struct links *links, const void *userdata)
{
}

bool links_info(struct links *links, struct peer_id peer, struct link_info *info)
{
	return false;
}

/* --- hosts, peers, names, policy --------------------------------------------------------------- */

const char *hosts_own_name(const struct hosts *hosts)
{
	return the_scene->own_name;
}

int hosts_resolve(const struct hosts *hosts, const char *name, uint32_t *number)
{
	*number = HOSTB;
	return strcmp(name, "hostb") ? -EHOSTDOWN : 0;
}

uint32_t hosts_note(struct hosts *hosts, const char *name)
{
	the_scene->noted++;
	return HOSTB;
}

const char *hosts_name(const struct hosts *hosts, uint32_t number)
{
	return number == HOSTB ? "hostb" : "";
}

bool hosts_is_up(const struct hosts *hosts, uint32_t number)
{
	return the_scene->host_is_up;
}

bool hosts_next(const struct hosts *hosts, uint32_t after, struct host_info *info)
{
	*info = (struct host_info){.number = HOSTB, .name = "hostb", .up = the_scene->host_is_up};
	return after < HOSTB;
}

void hosts_gateway(const struct hosts *hosts, struct gateway_info *info)
{
	*info = (struct gateway_info){.served = true, .there = true, .up = true};
}

bool peers_next(struct peers *peers, int64_t after, struct peer_info *info)
{
	return false;
}

bool peers_want_all(struct peers *peers)
{
	return true;
}

void registry_listen(struct registry *registry, struct registry_sink *sink, registry_fn changed,
		     void *userdata)
{
	*sink = (struct registry_sink){.changed = changed, .userdata = userdata};
	the_scene->sink = sink;
}

void registry_leave(struct registry *registry, struct registry_sink *sink)
{
	the_scene->sink = NULL;
}

int registry_resolve(struct registry *registry, const char *domain, uint32_t *domid)
{
	*domid = (uint32_t)strtoul(domain, NULL, 10);
	return *domid <= 2 ? 0 : -EHOSTDOWN;
}

const char *registry_name(struct registry *registry, uint32_t domid)
{
	return "";
}

bool registry_is_complete(struct registry *registry, uint32_t domid)
{
	return true;
}

bool registry_is_read(const struct registry *registry)
{
	return true;
}

int access_still_out(struct access *access, const struct frame_identity *from, const char *host)
{
	return the_scene->out;
}

int access_still_allowed(struct access *access, struct access_sender from, const char *endpoint)
{
	assert_string_equal(from.host, "hostb");
	return 0;
}

bool access_sees(struct access *access, struct access_sender from, uint32_t other)
{
	return true;
}

int access_still_relayed(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	return 0;
}

/* --- the scene -------------------------------------------------------------------------------- */

static const char *next_name(void *userdata, const char *after, uint32_t *kinds)
{
	struct scene *scene = userdata;
	unsigned next = *after ? (unsigned)strtoul(after + 1, NULL, 10) + 1 : 0;

	scene->looked_at++;
	*kinds = 1;
	return next < scene->name_count ? scene->names[next] : NULL;
}

static void on_told(void *userdata, void *asker, uint32_t request, enum ask_kind kind, const char *host,
		    const struct frame_told *told)
{
	struct scene *scene = userdata;

	scene->told_count++;
	scene->told = *told;
	if (!told->error && told->count)
		memcpy(scene->text, told->at, (size_t)(told->end - told->at));
}

void scene_start(struct scene *scene, uint32_t domid, uint64_t bytes_per_account)
{
	const struct asks_collaborators collaborators = {
		.self = &scene->self,
		.board = &scene->board,
		.answer_ms = ANSWER_MS,
		.resume_for_ms = RESUME_FOR_MS,
	};
	struct quota_limits limits = {.pool[QUOTA_BYTES] = 1u << 30};

	*scene =
		(struct scene){.self.domid = domid, .takes_asks = 1, .host_is_up = true, .own_name = "hosta"};
	the_scene = scene;
	limits.max[QUOTA_UID][QUOTA_BYTES] = limits.max[QUOTA_PEER][QUOTA_BYTES] = bytes_per_account;
	scene->base = event_base_new();
	assert_non_null(scene->base);
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 24), 0);
	scene->quota = scene->board.quota = quota_new(&limits);
	assert_non_null(scene->quota);
	scene->account = quota_account(scene->quota, QUOTA_UID, UID);
	assert_non_null(scene->account);
	assert_int_equal(asks_new(&scene->asks, &collaborators, true, next_name, scene), 0);
	asks_set_links(scene->asks, (void *)scene);
}

void start_in_domain_0(struct scene *scene)
{
	scene_start(scene, 0, 1u << 26);
}

void start_in_guest(struct scene *scene)
{
	scene_start(scene, 1, 1u << 26);
}

uint64_t scene_held(const struct scene *scene, enum quota_kind kind, uint32_t id)
{
	struct account *account = quota_account(scene->quota, kind, id);
	uint64_t used = account_usage(account, QUOTA_BYTES).used;

	account_unref(account);
	return used;
}

void scene_stop(struct scene *scene)
{
	asks_free(scene->asks);
	assert_int_equal(scene_held(scene, QUOTA_PEER, 0), 0);
	assert_int_equal(scene_held(scene, QUOTA_UID, UID), 0);
	assert_int_equal(scene_held(scene, QUOTA_PEER, 1), 0);
	assert_int_equal(scene_held(scene, QUOTA_HOST, HOSTB), 0);
	account_unref(scene->account);
	switch_cleanup(&scene->board);
	quota_free(scene->quota);
	event_base_free(scene->base);
}

void scene_settle(struct scene *scene)
{
	for (unsigned passes = 0; switch_is_busy(&scene->board); passes++) {
		assert_true(passes < 100000);
		switch_pass(&scene->board);
	}
}

void scene_await_sent(struct scene *scene, unsigned count)
{
	while (scene->sent_count < count) /* the alarm ends a test that waits in vain */
		assert_int_equal(event_base_loop(scene->base, EVLOOP_ONCE), 0);
}

void scene_await_told(struct scene *scene, unsigned count)
{
	while (scene->told_count < count)
		assert_int_equal(event_base_loop(scene->base, EVLOOP_ONCE), 0);
}

void scene_bind(struct scene *scene, unsigned count, unsigned size)
{
	assert_in_range(count, 0, NAMES_MAX);
	assert_in_range(size, 5, ENDPOINT_NAME_MAX);
	for (unsigned i = 0; i < count; i++) {
		memset(scene->names[i], 'x', size);
		snprintf(scene->names[i], 6, "n%04u", i);
		if (size > 5)
			scene->names[i][5] = 'x';
		scene->names[i][size] = '\0';
	}
	scene->name_count = count;
}

/* --- who asks and tells ----------------------------------------------------------------------- */

int ask_here(struct scene *scene, enum ask_kind kind, const char *host, const char *domain, uint32_t request)
{
	const struct ask_question question = {.kind = kind,
					      .host = host,
					      .domain = domain,
					      .from = {scene->self.domid, UID, 100, 42},
					      .userdata = scene};

	return asks_ask(scene->asks, &question, scene->account, on_told, scene, request);
}

int ask_by(struct scene *scene, uint32_t peer, uint32_t number, enum ask_kind kind, uint64_t known,
	   const char *name, const char *host)
{
	const struct frame_ask ask = {
		.number = number,
		.known = known,
		.about = {.kind = (uint8_t)kind,
			  .identity = {1, UID, 100, 42},
			  .name = frame_text_of(name),
			  .host = frame_text_of(host)},
	};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	return asks_take(scene->asks, peer_of(peer), FRAME_ASK, payload, frame_ask_encode(&ask, payload));
}

void ask_once(struct scene *scene, uint32_t peer, uint32_t number, enum ask_kind kind, const char *name,
	      const char *host)
{
	assert_int_equal(ask_by(scene, peer, number, kind, 0, name, host), 0);
	scene_settle(scene);
}

void expect_refusal(struct scene *scene, uint32_t peer, enum ask_kind kind, const char *name,
		    const char *host, uint32_t error)
{
	ask_once(scene, peer, 3, kind, name, host);
	assert_int_equal(expect_told(scene, peer).error, error);
}

void unask_by(struct scene *scene, uint32_t peer, uint32_t number)
{
	uint8_t payload[4];

	assert_int_equal(asks_take(scene->asks, peer_of(peer), FRAME_UNASK, payload,
				   frame_u32_encode(number, payload)),
			 0);
}

static void tell(struct scene *scene, uint32_t peer, const struct frame_told *told)
{
	uint8_t payload[TOLD_MAX + 100];

	assert_int_equal(
		asks_take(scene->asks, peer_of(peer), FRAME_TOLD, payload, frame_told_encode(told, payload)),
		0);
}

void tell_by(struct scene *scene, uint32_t peer, uint32_t number, uint64_t version, uint32_t flags,
	     unsigned first, unsigned count)
{
	uint8_t entries[TOLD_MAX];
	struct frame_told told = {
		.number = number, .version = version, .flags = flags, .count = count, .at = entries};
	uint32_t size = 0;

	for (unsigned i = first; i < first + count; i++) {
		char name[12];

		snprintf(name, sizeof(name), "n%04u", i);
		size += frame_told_entry_encode(
			&(struct frame_told_entry){.number = 1, .name = frame_text_of(name)}, entries + size);
	}
	told.end = entries + size;
	tell(scene, peer, &told);
}

void fail_by(struct scene *scene, uint32_t peer, uint32_t number, uint32_t error)
{
	tell(scene, peer, &(struct frame_told){.number = number, .error = error});
}

const struct sent *expect_sent(struct scene *scene, uint32_t peer, uint8_t type)
{
	const struct sent *sent = &scene->sent[scene->sent_seen];

	assert_true(scene->sent_seen < scene->sent_count);
	assert_int_equal(sent->peer, peer);
	assert_int_equal(sent->type, type);
	scene->sent_seen++;
	return sent;
}

struct frame_told expect_told(struct scene *scene, uint32_t peer)
{
	const struct sent *sent = expect_sent(scene, peer, FRAME_TOLD);
	struct frame_told told;

	assert_int_equal(frame_told_decode(sent->payload, sent->length, &told), 0);
	return told;
}

void expect_no_more(const struct scene *scene)
{
	assert_int_equal(scene->sent_seen, scene->sent_count);
}
