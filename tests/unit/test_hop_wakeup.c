/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The lost wake-up of a whole hop, looked for in every order of steps (interleave.h): a program that shares
 * memory with its daemon sends messages to itself and takes them, while the daemon runs the turns of
 * daemon/local/session_memory.c. Each takes back requests, looks a second time instead of asking, and puts
 * off what it has to say, and in each such window the other one may move. At the end both must know that all
 * was delivered. No timer runs here, so none covers up for a notification that is lost.
 *
 * Some tests run deliberately broken variants, to prove that the search would find them.
 */

#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "tests/unit/interleave.h"

#define sched_yield() step()
#include "wire/ut.h"
#include "wire/ring.c"
#include "daemon/switch/hop.c"
#include "daemon/switch/hop_input.c"
#include "daemon/switch/hop_output.c"
#include "daemon/switch/control.c"
#include "daemon/switch/outlet.c"
#include "daemon/switch/switch.c"
#include "daemon/switch/channel.c"
#include "daemon/local/session_memory.c"

#define FLOW	  24u /* bytes of a message in the stream: 8 before, 8, 8 behind */
#define RING_ROOM 1024u
#define MESSAGES  2u
#ifdef __SANITIZE_ADDRESS__
#define DEVIATIONS 1u /* it takes a hundred times as long */
#define AT_LEAST   30u
#else
#define DEVIATIONS 2u /* with 3, four million schedules in a minute lose none either */
#define AT_LEAST   1000u
#endif

/* The three rings, all that the program and the daemon share. */
static struct {
	struct {
		uint32_t producer, consumer;
		uint8_t wants_data, wants_space;
		uint8_t data[RING_ROOM];
	} ring[LOCAL_RINGS];
} shared;

enum taking {
	RELEASES,	  /* what it has read, at once */
	RELEASES_QUIETLY, /* and reports it before it sleeps, as in xenmsg_wait() */
	NEVER_REPORTS,	  /* broken: it sleeps over what it released quietly */
};

static struct {
	struct event_base *base;
	struct switchboard board;
	struct session session;
	struct hop hop;
	struct channel *channel;
	void (*wake)(int fd, short what, void *userdata);
	enum taking taking;
	bool in_turn; /* a message is sent when the one before it was delivered */
	unsigned messages;
	uint64_t notifications; /* of the program, when it was last looked at */
	uint32_t sizes[LOCAL_RINGS];

	/* the program's */
	struct ring_writer out;
	struct ring_reader in, deliveries;
	unsigned sent, received;
	uint64_t consumed;
} scene;

static bool step_is_shared(const void *at)
{
	return (const uint8_t *)at >= (uint8_t *)&shared && (const uint8_t *)at < (uint8_t *)(&shared + 1);
}

/* The order of its bytes is test_ring_wakeup.c's: here they would make the search too long. */
static bool step_is_data(const void *at)
{
	return false;
}

static void looked_at(const void *at)
{
}

/* --- the daemon ------------------------------------------------------------------------------- */

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	scene.channel = channel;
	return channel_accept(channel, &scene.hop, "self");
}

static void on_notify(void *owner)
{
	if (world.running)
		notify_other(world.running);
}

static void on_failed(void *owner, int error, const char *why)
{
	print_error("the session failed: %s\n", why);
	check(false);
}

static const struct hop_callbacks scene_callbacks = {
	.control = on_control,
	.open = on_open,
	.notify = on_notify,
	.failed = on_failed,
};

static bool is_delivered(void)
{
	return scene.channel->acceptor.consumed == scene.messages * FLOW;
}

/* The event loop: woken by the program, or by itself for what a turn was too short for. */
static void daemon_side(struct side *side)
{
	while (!is_delivered()) {
		sleep_until_notified(side);
		scene.wake(-1, 0, &scene.session);
		while (switch_is_busy(&scene.board))
			switch_pass(&scene.board);
	}
}

static void run_turns(void)
{
	hop_event(&scene.hop);
	while (take_turn(&scene.board))
		;
}

/* As when a link was polled: only those that are notified in the pass are let go on. */
static void wake_without_letting_go_on(int fd, short what, void *userdata)
{
	hop_event(&scene.hop);
}

/* Broken: a pass that doesn't ask before it ends. */
static void wake_without_asking(int fd, short what, void *userdata)
{
	struct hop *hop = &scene.hop;

	run_turns();
	hop_unmark(hop, MARK_AWAKE);
}

/* Broken: whose request was taken back, when it was notified, is neither looked at nor asked again. */
static void wake_without_due_look(int fd, short what, void *userdata)
{
	struct hop *hop = &scene.hop;

	hop_event(hop);
	while (turns_run(&scene.board.turns)) {
		write_output(&scene.board);
		notify_programs(&scene.board);
		if (hop->tx.notifications == scene.notifications)
			continue;
		scene.notifications = hop->tx.notifications;
		task_cancel(&hop->input);
		hop->in.has_asked = true;
	}
	ask_for_notifications(&scene.board);
}

/* --- the program ------------------------------------------------------------------------------ */

static void put(uint8_t type, const void *payload, uint32_t length)
{
	struct frame_header header = {.type = type, .length = length, .messages = type == FRAME_DATA};

	frame_put(&scene.out, &header, payload);
}

/* Puts the next message out, if there is room for it. */
static bool send_next(struct side *side)
{
	uint8_t message[FLOW] = {8};

	if (scene.in_turn && scene.consumed < scene.sent * FLOW)
		return false;
	if (scene.sent == scene.messages ||
	    ring_writer_space(&scene.out, frame_size(FLOW)) < (int)frame_size(FLOW))
		return false;
	put(FRAME_DATA, message, sizeof(message));
	scene.sent++;
	if (ring_writer_publish(&scene.out))
		notify_other(side);
	return true;
}

/* Takes the next frame out of a ring. */
static bool take_next_frame(struct ring_reader *reader)
{
	uint8_t encoded[FRAME_HEADER_SIZE], payload[FRAME_SMALL_MAX];
	struct frame_header header;
	struct frame_credit credit;

	if (ring_reader_ready(reader, FRAME_HEADER_SIZE) < (int)FRAME_HEADER_SIZE)
		return false;
	ring_reader_copy(reader, 0, encoded, sizeof(encoded));
	check(frame_header_decode(encoded, &header) == 0 && header.length <= sizeof(payload));
	ring_reader_copy(reader, FRAME_HEADER_SIZE, payload, header.length);
	if (header.type == FRAME_DATA) {
		scene.received += header.length / FLOW;
	} else if (header.type == FRAME_CREDIT) {
		check(frame_credit_decode(payload, header.length, &credit) == 0);
		scene.consumed = credit.consumed;
	}
	ring_reader_consume(reader, frame_size(header.length));
	return true;
}

static void release(struct side *side, bool quietly)
{
	bool wanted = false;

	if (quietly) {
		ring_reader_release_quietly(&scene.in);
		ring_reader_release_quietly(&scene.deliveries);
		return;
	}
	wanted |= ring_reader_release(&scene.in);
	wanted |= ring_reader_release(&scene.deliveries);
	if (wanted && side)
		notify_other(side);
}

static void program_side(struct side *side)
{
	for (;;) {
		bool moved = send_next(side);

		while (take_next_frame(&scene.in) || take_next_frame(&scene.deliveries)) {
			release(side, scene.taking != RELEASES);
			moved = true;
		}
		if (scene.consumed == scene.messages * FLOW)
			break;
		if (moved)
			continue;
		if (scene.taking == RELEASES_QUIETLY)
			release(side, false);
		moved |= ring_reader_arm(&scene.in, FRAME_HEADER_SIZE) > 0;
		moved |= ring_reader_arm(&scene.deliveries, FRAME_HEADER_SIZE) > 0;
		if (!scene.in_turn && scene.sent < scene.messages)
			moved |= ring_writer_arm(&scene.out, frame_size(FLOW)) > 0;
		if (!moved)
			sleep_until_notified(side);
	}
	check(scene.sent == scene.messages && scene.received == scene.messages);
}

/* --- the search ------------------------------------------------------------------------------- */

static struct ring_view view_of(unsigned ring)
{
	return (struct ring_view){
		.data = shared.ring[ring].data,
		.size = scene.sizes[ring],
		.producer = &shared.ring[ring].producer,
		.consumer = &shared.ring[ring].consumer,
		.wants_data = &shared.ring[ring].wants_data,
		.wants_space = &shared.ring[ring].wants_space,
		.wants_data_bit = 1,
		.wants_space_bit = 1,
	};
}

static void end(void)
{
	world.running = NULL;
	if (!scene.base)
		return;
	hop_cleanup(&scene.hop);
	switch_cleanup(&scene.board);
	event_base_free(scene.base);
	scene.base = NULL;
}

/* A channel that is open, a daemon that sleeps, and a program that has something to say. */
static void start(void)
{
	struct hop_rings rings = {0};
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"1:self", 6}};
	struct hop *hop = &scene.hop;
	uint8_t payload[FRAME_SMALL_MAX];
	struct ring_view views[LOCAL_RINGS];

	end();
	memset(&shared, 0, sizeof(shared));
	scene.base = event_base_new();
	assert_int_equal(switch_init(&scene.board, scene.base, 1u << 20), 0);
	scene.session = (struct session){.board = &scene.board, .hop = hop};
	assert_int_equal(hop_init(hop, &scene.board, HOP_SHARED, &scene_callbacks, &scene.session, 1, 16), 0);
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		views[i] = view_of(i);
	ring_writer_init(&scene.out, &views[LOCAL_RING_OUT], false);
	ring_reader_init(&scene.in, &views[LOCAL_RING_IN], false);
	ring_reader_init(&scene.deliveries, &views[LOCAL_RING_DELIVERIES], false);
	rings.in = views[LOCAL_RING_OUT];
	rings.out[OUTLET_MAIN] = views[LOCAL_RING_IN];
	rings.out[OUTLET_DELIVERIES] = views[LOCAL_RING_DELIVERIES];
	assert_int_equal(hop_attach(hop, &rings), 0);
	scene.sent = scene.received = 0;
	scene.consumed = 0;
	scene.notifications = 0;
	put(FRAME_OPEN, payload, frame_open_encode(&open, payload));
	ring_writer_publish(&scene.out);
	on_wake(-1, 0, &scene.session);
	switch_pass(&scene.board);
	while (take_next_frame(&scene.in))
		;
	release(NULL, false);
	on_wake(-1, 0, &scene.session);
	switch_pass(&scene.board);
	assert_int_equal(shared.ring[LOCAL_RING_OUT].wants_data, 1);
}

struct game {
	enum taking taking;
	bool in_turn;
	unsigned messages, deviations;
	uint32_t out_size, deliveries_size;
	void (*wake)(int fd, short what, void *userdata);
};

static unsigned long explore(const struct game *game)
{
	unsigned long lost;

	scene.taking = game->taking;
	scene.in_turn = game->in_turn;
	scene.messages = game->messages;
	scene.sizes[LOCAL_RING_OUT] = game->out_size ? game->out_size : RING_ROOM;
	scene.sizes[LOCAL_RING_IN] = RING_ROOM;
	scene.sizes[LOCAL_RING_DELIVERIES] = game->deliveries_size ? game->deliveries_size : RING_ROOM;
	scene.wake = game->wake ? game->wake : on_wake;
	world.deviations = game->deviations;
	lost = explore_from(start, program_side, daemon_side);
	end();
	return lost;
}

/* However the program takes what it gets. */
static void no_schedule_loses(struct game game)
{
	game.deviations = DEVIATIONS;
	for (game.taking = RELEASES; game.taking <= RELEASES_QUIETLY; game.taking++) {
		assert_int_equal(explore(&game), 0);
		assert_false(world.broken);
		/* The search did go through the windows, not past them. */
		assert_true(world.schedules >= AT_LEAST);
	}
}

TEST(message_and_its_receipt_lose_no_wakeup)
{
	no_schedule_loses((struct game){.messages = 1});
}

TEST(second_message_in_any_window_loses_no_wakeup)
{
	no_schedule_loses((struct game){.messages = MESSAGES});
}

TEST(answers_to_answers_lose_no_wakeup)
{
	no_schedule_loses((struct game){.messages = MESSAGES, .in_turn = true});
}

TEST(programs_let_go_on_lose_no_wakeup)
{
	for (unsigned in_turn = 0; in_turn < 2; in_turn++)
		no_schedule_loses((struct game){
			.messages = MESSAGES, .in_turn = in_turn, .wake = wake_without_letting_go_on});
}

TEST(full_ring_to_the_daemon_loses_no_wakeup)
{
	no_schedule_loses((struct game){.messages = 3, .out_size = 64});
}

TEST(full_ring_of_deliveries_loses_no_wakeup)
{
	no_schedule_loses((struct game){.messages = 3, .deliveries_size = 64});
}

TEST(the_search_finds_a_daemon_that_never_asks)
{
	assert_true(explore(&(struct game){
			    .messages = MESSAGES, .deviations = 2, .wake = wake_without_asking}) > 0);
}

TEST(the_search_finds_a_request_taken_back_for_good)
{
	assert_true(explore(&(struct game){.messages = MESSAGES,
					   .deviations = DEVIATIONS,
					   .in_turn = true,
					   .wake = wake_without_due_look}) > 0);
}

TEST(the_search_finds_a_program_that_sleeps_over_what_it_took)
{
	assert_true(explore(&(struct game){.messages = 1, .deviations = 1, .taking = NEVER_REPORTS}) > 0);
}
