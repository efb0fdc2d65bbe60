/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two daemons' links over pairs of rings in memory, which are lost at any moment: while bytes are on their
 * way, while the session is resumed, at one end or at both, one after the other. Meanwhile it moves from
 * rings to larger or smaller ones, which are lost as well. Programs at both ends send to each other all the
 * while, and each byte is checked: nothing is lost, nothing comes twice, and the order is kept. What decides
 * is a seed.
 */
#include "tests/unit/hop_programs.h"

#include <event2/event.h>

#include "base/log.h"
#include "base/self.h"
#include "daemon/link/link_internal.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/peers.h"
#include "wire/bytes.h"
#include "wire/ut.h"

/* --- a pair of rings in memory ---------------------------------------------------------------- */

struct pair;

/* One end of it. */
struct end {
	struct pair *pair;
	unsigned side;
	bool closed, kicked;
	bool dead;	     /* its event channel is lost: it can't notify, and hears nothing */
	uint32_t deaf_until; /* by rig.settled: it hears nothing before, so that the ring to it fills */
	carrier_event_fn event;
	void *userdata;
};

struct pair {
	struct rig_words {
		struct ring_words words;
		uint8_t *data;
	} rings[2]; /* by their writer */
	uint32_t size;
	bool offered; /* and not mapped yet */
	struct end ends[2];
	struct pair *next;
};

static void rings_of(void *self, struct ring_view *in, struct ring_view *out)
{
	struct end *end = self;
	struct rig_words *ours = &end->pair->rings[end->side], *theirs = &end->pair->rings[1 - end->side];

	*in = ring_words_view(&theirs->words, theirs->data, end->pair->size);
	*out = ring_words_view(&ours->words, ours->data, end->pair->size);
}

static void hear(void *self, carrier_event_fn event, void *userdata)
{
	struct end *end = self;

	end->event = event;
	end->userdata = userdata;
}

static struct end *other_end(struct end *end)
{
	return &end->pair->ends[1 - end->side];
}

static int notify(void *self)
{
	struct end *end = self;

	if (end->dead)
		return -EINVAL;
	other_end(end)->kicked = true;
	return 0;
}

static enum carrier_state state_of(void *self)
{
	if (((struct end *)self)->pair->offered)
		return CARRIER_WAITING;
	return other_end(self)->closed ? CARRIER_LEFT : CARRIER_OPEN;
}

static void close_end(void *self, bool to_resume)
{
	struct end *end = self;

	assert_false(end->closed);
	end->closed = true;
	end->event = NULL;
	other_end(end)->kicked = true;
}

static bool is_granter(void *self)
{
	return ((struct end *)self)->side == 1; /* the higher domid */
}

static uint32_t pages_of(void *self)
{
	return 1;
}

static const struct carrier_functions functions = {
	.rings = rings_of,
	.hear = hear,
	.notify = notify,
	.state = state_of,
	.close = close_end,
	.is_granter = is_granter,
	.pages = pages_of,
};

/* --- the world -------------------------------------------------------------------------------- */

#define SIDES	      2
#define RESUME_FOR_MS 600000

struct peers {
	unsigned side;
	bool wanted, connected;
	bool told; /* that it was lost */
};

static struct world {
	struct rig *rig;
	struct self self[SIDES];
	struct peers peers[SIDES];
	struct links *links[SIDES];
	struct registry *registry[SIDES];
	struct registry_sink sinks[SIDES];
	struct pair *pairs; /* the newest first */
	uint32_t ring_sizes[2];
	unsigned made, losses, offers;
	uint32_t offers_left;
	uint32_t losses_left, one_in;
	unsigned ups, downs;
	bool begun; /* both ends have the session: before, a loss ends the channels of the end that has not */
} world;

static uint32_t domid_of(unsigned side)
{
	return side ? 7 : 5;
}

/* Its only one; NULL: there is none yet. */
static struct link *link_at(unsigned side)
{
	return world.links[side]->links;
}

int peers_connect(struct peers *peers, uint32_t domid, struct account *account)
{
	assert_int_equal(domid, domid_of(1 - peers->side));
	if (!peers->connected)
		peers->wanted = true;
	return 0;
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	peers->wanted = peers->connected = false;
}

void peers_died(struct peers *peers, uint32_t domid)
{
}

bool peers_is_forbidden(struct peers *peers, uint32_t domid)
{
	return false;
}

bool peers_is_up(struct peers *peers, uint32_t domid)
{
	return true;
}

bool peers_is_absent(struct peers *peers, uint32_t domid)
{
	return false;
}

bool peers_want_all(struct peers *peers)
{
	return true;
}

bool peers_next(struct peers *peers, int64_t after, struct peer_info *info)
{
	return false;
}

bool peers_instance(struct peers *peers, uint32_t domid, uint8_t instance[16])
{
	memcpy(instance, world.self[1 - peers->side].instance, 16);
	return true;
}

unsigned peers_waiting(const struct peers *peers)
{
	return 0;
}

static void on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	if (what == REGISTRY_LINK_UP || what == REGISTRY_LINK_LOST)
		*(what == REGISTRY_LINK_UP ? &world.ups : &world.downs) += 1;
}

static void on_open(void *userdata, struct peer_id peer, struct channel *channel,
		    const struct frame_open *open)
{
	char name[128] = "";
	int r;

	memcpy(name, open->name.data, open->name.size < 127 ? open->name.size : 127);
	r = channel_accept(channel, &to_program(NULL, name)->hop, name);
	if (r < 0)
		channel_refuse(channel, -r);
}

/* A program's channel leads over its daemon's link. */
static int open_over_link(struct participant *participant, struct channel *channel,
			  const struct frame_open *open)
{
	unsigned side = participant->hop.board == &world.rig->board[0] ? 0 : 1;
	char name[128] = "";
	struct hop *hop;
	int r = 0;

	memcpy(name, open->name.data, open->name.size < 127 ? open->name.size : 127);
	hop = links_want(world.links[side], peer_domain(domid_of(1 - side)), NULL, &r);
	assert_non_null(hop);
	assert_int_equal(channel_accept(channel, hop, name), 0);
	return 0;
}

static struct pair *make_pair(uint32_t size)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	assert_non_null(pair);
	pair->size = size;
	for (unsigned side = 0; side < SIDES; side++) {
		pair->rings[side].data = calloc(1, pair->size);
		assert_non_null(pair->rings[side].data);
		pair->ends[side] = (struct end){.pair = pair, .side = side};
	}
	LL_PREPEND(world.pairs, pair);
	return pair;
}

/* The granting end makes another pair, and the other one finds it. */
static int grant(void *userdata, uint32_t domid, uint32_t ring_size, struct carrier *made,
		 struct carrier_place *place)
{
	struct pair *pair = make_pair(ring_size);

	pair->offered = pair->ends[0].closed = true;
	*made = (struct carrier){&functions, &pair->ends[1]};
	*place = (struct carrier_place){.ring_ref = ++world.offers};
	return 0;
}

static int map(void *userdata, uint32_t domid, const struct carrier_place *place, struct carrier *made)
{
	struct pair *pair;

	assert_int_equal(place->ring_ref, world.offers); /* never an earlier one, that has come again */
	LL_FOREACH(world.pairs, pair)
		if (pair->offered && !pair->ends[1].closed)
			break;
	if (!pair || rig_random(world.rig, 16) == 0)
		return -ENOMEM;
	pair->offered = pair->ends[0].closed = false;
	pair->ends[1].kicked = true;
	*made = (struct carrier){&functions, &pair->ends[0]};
	return 0;
}

static const struct carrier_maker maker = {.grant = grant, .map = map};

/* At any moment: in the midst of everything. */
static void offer_something(void)
{
	struct link *link = link_at(1);

	if (!world.begun || !world.offers_left || !link_may_move(link) || rig_random(world.rig, 6))
		return;
	world.offers_left--;
	assert_int_equal(link_offer(link, 1u << (12 + rig_random(world.rig, 7))), 0);
}

/* One end's hello calls for the other's, as the rendezvous does it. */
static bool connect_both(void)
{
	struct pair *pair;

	if (!world.peers[0].wanted && !world.peers[1].wanted)
		return false;
	for (unsigned side = 0; side < SIDES; side++) {
		struct peers *peers = &world.peers[side];

		/* It finds that the other one begins anew. */
		if (peers->connected && !peers->told) {
			peers->told = true;
			links_lost(world.links[side], peer_domain(domid_of(1 - side)), false,
				   "the peer has begun anew");
			return true;
		}
		if (peers->connected)
			return false;
	}
	pair = make_pair(world.ring_sizes[world.made++ % 2]);
	for (unsigned side = 0; side < SIDES; side++)
		world.peers[side] = (struct peers){.side = side, .connected = true};
	for (unsigned side = 0; side < SIDES; side++) {
		struct carrier carrier = {&functions, &pair->ends[side]};

		links_connected(world.links[side], peer_domain(domid_of(1 - side)), &carrier);
	}
	return true;
}

static bool deliver_events(void)
{
	struct pair *pair;
	bool any = false;

	LL_FOREACH(world.pairs, pair) {
		for (unsigned side = 0; side < SIDES; side++) {
			struct end *end = &pair->ends[side];

			/* Each event at a time of its own. */
			if (!end->kicked || !end->event || end->dead)
				continue;
			if (world.rig->settled < end->deaf_until)
				continue;
			any = true;
			if (rig_random(world.rig, 3) == 0)
				continue;
			if (rig_random(world.rig, 16) == 0)
				end->deaf_until = world.rig->settled + rig_random(world.rig, 40);
			end->kicked = false;
			end->event(end->userdata);
		}
	}
	return any;
}

/* A loss is more likely where it hurts: when much lies in the ring, or is being sent again, or the
 * other end isn't known to be up yet. */
static bool is_time_to_lose(unsigned side)
{
	struct link *link = link_at(side);
	bool is_new = link->session.epoch != link->session.confirmed || link->move.state != MOVE_NOT;
	bool hurts = hop_is_catching_up(link->hop) ||
		     (hop_has_rings(link->hop) && hop_unacknowledged(link->hop) > 16384);

	return rig_random(world.rig, is_new || hurts ? 10 : world.one_in) == 0;
}

/* Something goes wrong at one end of what is there now. */
static void lose_something(void)
{
	struct pair *pair = world.pairs;
	unsigned side = rig_random(world.rig, 2);
	bool moves = link_at(0) && link_at(0)->move.state == MOVE_MOVING;

	if (!world.begun || !world.losses_left || !is_time_to_lose(rig_random(world.rig, 2)))
		return;
	if (moves && pair->next && rig_random(world.rig, 2))
		pair = pair->next; /* the old one */
	world.losses_left--;
	world.losses++;
	switch (rig_random(world.rig, 4)) {
	case 3: /* silence: what lies in the ring isn't read any more */
		if (link_at(side)->state == LINK_UP)
			hop_fail(link_at(side)->hop, -ENOLINK, "silence");
		break;
	case 0: /* its event channel, which it notices when it notifies, or by silence */
		pair->ends[side].dead = true;
		break;
	case 1: /* XenStore says that the other one has withdrawn its hello */
		links_lost(world.links[side], peer_domain(domid_of(1 - side)), false, "the hello is gone");
		break;
	default: /* the kernel has unmapped it there: the other end sees it closed */
		pair->ends[1 - side].dead = true;
		pair->ends[side].kicked = true;
		if (!pair->ends[1 - side].closed)
			links_lost(world.links[1 - side], peer_domain(domid_of(side)), false,
				   "the ring is gone");
		break;
	}
}

/* An end that hears nothing any more calls its peer dead after its time, and an attempt is made again after
 * its. */
static bool pass_time(void)
{
	bool any = false;

	for (unsigned side = 0; side < SIDES; side++) {
		struct link *link = link_at(side);
		struct end *end;

		if (!link)
			continue;
		if (link->state == LINK_AWAY && !carrier_is_there(&link->next) && !world.peers[side].wanted &&
		    !world.peers[side].connected) {
			event_active(link->again.timer, EV_TIMEOUT, 0);
			event_base_loop(world.rig->base, EVLOOP_NONBLOCK);
			any = true;
		}
		end = carrier_is_there(&link->next) ? link->next.self : link->carrier.self;
		if (carrier_is_there(&link->move.to) && ((struct end *)link->move.to.self)->dead)
			end = link->move.to.self;
		if (end && end->dead && (carrier_is_there(&link->next) || link->state == LINK_UP)) {
			links_lost(world.links[side], peer_domain(domid_of(1 - side)), false, "silence");
			any = true;
		}
	}
	return any;
}

static bool elsewhere(struct rig *rig)
{
	bool any;

	if (link_at(0) && link_at(1))
		world.begun |= link_at(0)->session.state && link_at(1)->session.state;
	lose_something();
	offer_something();
	any = connect_both();
	if (deliver_events())
		any = true;
	return any || pass_time();
}

static void world_start(struct rig *rig, uint64_t seed, uint32_t losses, uint32_t one_in, uint32_t offers)
{
	world = (struct world){.rig = rig,
			       .losses_left = losses,
			       .one_in = one_in,
			       .offers_left = offers,
			       .ring_sizes = {1u << 17, 1u << 16}};
	rig_start(rig, seed);
	rig->elsewhere = elsewhere;
	rig->is_late = true;
	for (unsigned side = 0; side < SIDES; side++) {
		static const struct config config = {
			.heartbeat_ms = 10000,
			.dead_after_ms = 30000,
			.resume_for_ms = RESUME_FOR_MS,
			/* None is larger, so the links leave it to the test when they move, and have no timer
			 * for it. */
			.ring_size = 1u << 30,
			.max_ring_size = 1u << 30,
		};
		struct links_options options = {
			.self = &world.self[side],
			.config = &config,
			.channels_max = 64,
			.maker = &maker,
		};

		world.self[side] = (struct self){.domid = domid_of(side), .instance = {(uint8_t)(side + 1)}};
		options.registry = world.registry[side] = registry_new(&world.self[side]);
		registry_listen(options.registry, &world.sinks[side], on_known, NULL);
		world.peers[side] = (struct peers){.side = side};
		assert_int_equal(links_new(&world.links[side], &rig->board[side], &world.peers[side],
					   &options, &(struct links_callbacks){.open = on_open}, NULL),
				 0);
		for (unsigned i = 0; i < 2; i++) {
			programs[2 * side + i] = program_new(rig, 1u << 15, i, side);
			programs[2 * side + i]->open = open_over_link;
		}
	}
}

static void world_stop(void)
{
	struct pair *pair, *next;

	world.losses_left = 0;
	for (unsigned side = 0; side < SIDES; side++) {
		links_free(world.links[side]);
		registry_free(world.registry[side]);
	}
	world.rig->elsewhere = NULL;
	rig_stop(world.rig);
	LL_FOREACH_SAFE(world.pairs, pair, next) {
		for (unsigned side = 0; side < SIDES; side++) {
			assert_true(pair->ends[side].closed);
			free(pair->rings[side].data);
		}
		free(pair);
	}
	assert_int_equal(world.ups, world.downs);
}

/* --- tests ------------------------------------------------------------------------------------ */

static unsigned schedules(void)
{
	const char *count = getenv("SCHEDULES");

	return count ? (unsigned)atoi(count) : 400;
}

/* Nothing goes wrong any more, and nobody is offered anything. */
static void all_moves_end(void)
{
	world.losses_left = world.offers_left = 0;
	for (unsigned rounds = 0; link_at(0)->move.state || link_at(1)->move.state; rounds++) {
		assert_true(rounds < 1000);
		rig_settle(world.rig);
	}
}

BEFORE_ALL
{
	log_set_level(getenv("SEED") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
}

TEST(nothing_is_lost_or_comes_twice_when_rings_are_lost)
{
	unsigned resumed = 0, lost = 0, moved = 0;

	for (unsigned seed = 1; seed <= schedules(); seed++) {
		struct rig rig;

		if (getenv("SEED"))
			seed = (unsigned)atoi(getenv("SEED"));
		world_start(&rig, seed, seed % 13, 1 + seed * 13 % 800, seed % 3 ? seed % 40 : 0);
		for (int i = 0; i < 4; i++) {
			char to[4];

			snprintf(to, sizeof(to), "p%d", 2 * (1 - i / 2) + rig_random(&rig, 2));
			flow_start(programs[i], 0, to, 2 * i, 1000 + rig_random(&rig, 300000));
			flow_start(programs[i], 2, to, 2 * i + 1, 1 + rig_random(&rig, 3000));
		}
		flows_run(&rig, 1 + rig_random(&rig, 60000), 1 + rig_random(&rig, 60000));
		for (unsigned side = 0; side < SIDES; side++)
			resumed += link_at(side)->resumes;
		all_moves_end();
		moved += link_at(0)->moves + link_at(1)->moves;
		lost += world.losses;
		world_stop();
		if (getenv("SEED"))
			break;
	}
	print_message("%u losses, %u times resumed, %u moves\n", lost, resumed, moved);
	assert_true(getenv("SEED") || (resumed > schedules() && moved > schedules()));
}
