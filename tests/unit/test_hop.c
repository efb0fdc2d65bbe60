/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes through hops: complete, in order, and never waiting for a wake-up that nobody sends. */
#include "tests/unit/hop_rig.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "daemon/base/quota.h"
#include "wire/bytes.h"

static struct party *programs[8];

/* "p3_7": program 3, for flow 7. */
static struct party *to_program(struct party *party, const char *name)
{
	return name[0] == 'p' && name[1] >= '0' && name[1] < '8' ? programs[name[1] - '0'] : NULL;
}

static struct party *link_of[2];

static struct party *over_link(struct party *party, const char *name)
{
	return link_of[party->hop.relay == &party->rig->relay[1]];
}

static uint64_t seed_of_run(void)
{
	const char *given = getenv("TEST_SEED");
	uint64_t seed =
		given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();

	print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static struct party *program_new(struct rig *rig, uint32_t ring, bool lenient, unsigned daemon)
{
	return party_new(rig, &(struct rig_options){
				      .kind = lenient ? HOP_SOCKET : HOP_SHARED,
				      .ring = ring,
				      .daemon = daemon,
				      .parity = 1,
				      .adopt_indices = true,
			      });
}

static struct party *peer_new(struct rig *rig, uint32_t ring)
{
	return party_new(rig, &(struct rig_options){
				      .kind = HOP_LINK, .ring = ring, .parity = 0, .adopt_indices = true});
}

static void no_channel_is_left(struct rig *rig)
{
	struct party *party;

	for (party = rig->parties; party; party = party->next)
		assert_int_equal(party->hop.channels.count, 0);
}

static void local_to_local(uint64_t seed, uint32_t ring, bool lenient_from, bool lenient_to)
{
	struct rig rig;

	rig_start(&rig, seed);
	programs[0] = program_new(&rig, lenient_from ? 131072 : ring, lenient_from, 0);
	programs[1] = program_new(&rig, lenient_to ? 131072 : ring, lenient_to, 0);
	programs[0]->route = programs[1]->route = to_program;
	flow_start(programs[0], 0, "p1", 1, ring * 3 + 12345 * 8);
	flow_start(programs[0], 2, "p1", 2, 4096);
	flow_start(programs[0], 4, "p0", 3, ring * 2);
	flow_start(programs[1], 6, "p0", 4, ring * 2 + 8);
	flow_start(programs[1], 8, "p1", 5, 8);
	flows_run(&rig, ring / 2, ring);
	no_channel_is_left(&rig);
	rig_stop(&rig);
}

static const uint32_t sizes[] = {1024, 2048, 4096, 65536, 262144, 1048576};

static void bytes_between_programs_arrive_complete_and_in_order(void **state)
{
	uint64_t seed = seed_of_run();

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned lenient = 0; lenient < 4; lenient++)
			local_to_local(seed + i * 4 + lenient, sizes[i], lenient & 1, lenient & 2);
}

static void between_program_and_link(uint64_t seed, uint32_t ring, uint32_t program_ring, bool lenient)
{
	struct rig rig;
	struct party *peer;

	rig_start(&rig, seed);
	programs[0] = program_new(&rig, lenient ? 131072 : program_ring, lenient, 0);
	peer = link_of[0] = peer_new(&rig, ring);
	programs[0]->route = over_link;
	peer->route = to_program;
	flow_start(programs[0], 0, "x", 1, ring * 5 + 3);
	flow_start(programs[0], 2, "x", 2, 64);
	flow_start(peer, 1, "p0", 3, ring * 5 + 40);
	flow_start(peer, 3, "p0", 4, 1);
	flows_run(&rig, ring / 2, ring);
	no_channel_is_left(&rig);
	rig_stop(&rig);
}

static void bytes_between_program_and_link_arrive_complete_and_in_order(void **state)
{
	uint64_t seed = seed_of_run();

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		between_program_and_link(seed + i, sizes[i], sizes[i], false);
		between_program_and_link(seed + i, sizes[i], 1048576, false);
		between_program_and_link(seed + i, sizes[i], 4096, false);
		between_program_and_link(seed + i, sizes[i], 0, true);
	}
}

/* Two daemons, one link between them, programs at both that flood each other through rings of every size. */
static void flood(uint64_t seed, uint32_t ring, uint32_t program_ring)
{
	struct rig rig;
	char name[8];

	rig_start(&rig, seed);
	party_wire(&rig, ring, &link_of[0], &link_of[1]);
	link_of[0]->route = link_of[1]->route = to_program;
	for (unsigned i = 0; i < 4; i++) {
		programs[i] = program_new(&rig, program_ring, false, i & 1);
		programs[i]->route = over_link;
	}
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < 3; k++) {
			/* to the other daemon's programs */
			snprintf(name, sizeof(name), "p%u", (i + 1 + 2 * (k & 1)) % 4);
			flow_start(programs[i], k * 2, name, (int)(i * 10 + k), ring * 3 + 64 * k);
		}
	}
	flows_run(&rig, program_ring / 2, program_ring);
	no_channel_is_left(&rig);
	rig_stop(&rig);
}

static void two_daemons_that_flood_each_other_always_make_progress(void **state)
{
	uint64_t seed = seed_of_run();

	for (unsigned i = 0; i < 12; i++) {
		flood(seed + i, 1024, 1024);
		flood(seed + i, 1024, 65536);
		flood(seed + i, 65536, 1024);
	}
	flood(seed, 65536, 1048576);
	flood(seed, 1048576, 1048576);
}

/* --- long lives ------------------------------------------------------------------------------- */

#define CYCLES_BEFORE 3000 /* more than a hop goes through numbers */
#define CYCLES	      20000

/* A message goes from one daemon's program to the other's, or the channel is reset by its opener, or
 * refused. */
static void open_and_close(struct rig *rig, unsigned way)
{
	/* The party has fewer numbers than a hop goes through. */
	programs[1]->hop.channels.next = programs[1]->hop.channels.parity;
	if (way == 0) {
		flow_start(programs[0], 0, "p1", 1, 64);
		flows_run(rig, 64, 4096);
		return;
	}
	party_open(programs[0], 0, way == 1 ? "p1_1" : "none_1");
	if (way == 1) {
		party_data(programs[0], 0, 64, false);
		party_reset(programs[0], 0, ECANCELED, 0, 0);
	}
	for (int i = 0; i < 4; i++) {
		rig_settle(rig);
		party_read(programs[1], 4096);
		party_read(programs[0], 4096);
	}
}

static void channels_that_come_and_go_leave_nothing_behind(void **state)
{
	struct rig rig;
	size_t before = 0;

	rig_start(&rig, 1);
	party_wire(&rig, 65536, &link_of[0], &link_of[1]);
	link_of[0]->route = link_of[1]->route = to_program;
	/* The frames' numbers come around on the way, as they do after years. */
	for (unsigned i = 0; i < 2; i++)
		link_of[i]->hop.out[OUTLET_MAIN].sequence = link_of[1 - i]->hop.in.sequence = 0u - CYCLES;
	for (unsigned i = 0; i < 2; i++) {
		programs[i] = program_new(&rig, 65536, false, i);
		programs[i]->route = over_link;
	}
	for (unsigned i = 0; i < CYCLES_BEFORE + CYCLES; i++) {
		if (i == CYCLES_BEFORE)
			before = mallinfo2().uordblks;
		open_and_close(&rig, i % 3);
		assert_int_equal(programs[0]->hop.channels.count + programs[1]->hop.channels.count, 0);
		assert_int_equal(link_of[0]->hop.channels.count + link_of[1]->hop.channels.count, 0);
	}
	/* Tables have the size by then that they need; 0 where another allocator counts nothing. */
	assert_in_range(mallinfo2().uordblks, 0, before + 4096);
	assert_true(link_of[0]->hop.out[OUTLET_MAIN].sequence < CYCLES * 10);
	assert_true(link_of[1]->hop.out[OUTLET_MAIN].sequence < CYCLES * 10);
	rig_stop(&rig);
}

/* --- hostile ends ----------------------------------------------------------------------------- */

struct hostile {
	struct rig rig;
	struct party *bad, *good, *receiver;
};

/* A bad program or peer, and two programs that have nothing to do with it. */
static void hostile_start(struct hostile *hostile, enum hop_kind kind)
{
	rig_start(&hostile->rig, 1);
	programs[0] = hostile->bad = kind == HOP_SHARED ? program_new(&hostile->rig, 65536, false, 0)
							: peer_new(&hostile->rig, 65536);
	programs[1] = hostile->good = program_new(&hostile->rig, 65536, false, 0);
	programs[2] = hostile->receiver = program_new(&hostile->rig, 65536, false, 0);
	for (unsigned i = 0; i < 3; i++)
		programs[i]->route = to_program;
	flow_start(hostile->good, 0, "p2", 1, 100000);
}

static void only_the_bad_one_is_cut_off(struct hostile *hostile, int error)
{
	rig_settle(&hostile->rig);
	assert_true(hostile->bad->failed);
	assert_int_equal(hostile->bad->error, error);
	assert_int_equal(hostile->bad->hop.channels.count, 0);
	hostile->bad->hop.attached = false;
	flows_run(&hostile->rig, 5000, 5000);
	assert_false(hostile->good->failed);
	assert_false(hostile->receiver->failed);
	rig_stop(&hostile->rig);
}

static const enum hop_kind kinds[] = {HOP_SHARED, HOP_LINK};

static void wake(struct party *party)
{
	party->kicked = true;
}

static void two_rings_that_fill_in_one_turn_cost_one_notification(void **state)
{
	struct rig rig;
	struct party *peer;
	uint32_t woken;

	rig_start(&rig, 1);
	programs[0] = program_new(&rig, 4096, false, 0);
	peer = peer_new(&rig, 4096);
	peer->route = to_program;
	rig_settle(&rig);
	woken = programs[0]->woken;
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		assert_int_equal(ring_reader_arm(&programs[0]->in[i], 1), 0);
	party_open(peer, 1, "p0_1");
	party_data(peer, 1, 64, false);
	rig_settle(&rig);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		assert_true(ring_reader_ready(&programs[0]->in[i], 1) > 0);
	assert_int_equal(programs[0]->woken - woken, 1);
	rig_stop(&rig);
}

/* On one CPU a program that is woken runs at once, and everybody else waits for it. */
static void another_domain_hears_what_it_waits_for_before_a_program_is_woken(void **state)
{
	struct rig rig;
	struct party *peer;
	uint32_t woken;

	rig_start(&rig, 1);
	programs[0] = program_new(&rig, 65536, false, 0);
	peer = peer_new(&rig, 65536);
	peer->route = to_program;
	party_open(peer, 1, "p0_1");
	rig_settle(&rig);
	assert_int_equal(ring_reader_arm(&programs[0]->in[OUTLET_DELIVERIES], 1), 0);
	assert_int_equal(party_data(peer, 1, 60000, false), 60000);
	assert_int_equal(ring_writer_arm(&peer->out, 65536), 0);
	woken = programs[0]->woken;
	rig_settle(&rig);
	assert_int_equal(programs[0]->woken - woken, 1);
	assert_int_equal(ring_writer_space(&peer->out, 65536), 65536);
	assert_true(peer->woken_at < programs[0]->woken_at);
	rig_stop(&rig);
}

/* Waking up takes longer than copying. */
static void a_domain_that_sleeps_is_woken_for_the_first_part(void **state)
{
	struct rig rig;
	struct party *peer;

	rig_start(&rig, 1);
	programs[0] = program_new(&rig, 65536, false, 0);
	programs[0]->route = over_link;
	peer = link_of[0] = peer_new(&rig, 65536);
	party_open(programs[0], 0, "x_1");
	rig_settle(&rig);
	party_read(peer, 65536); /* OPEN, which it answers */
	rig_settle(&rig);
	peer->readable_when_woken = 0;
	assert_int_equal(ring_reader_arm(&peer->in[0], 1), 0);
	assert_int_equal(party_data(programs[0], 0, 60000, false), 60000);
	rig_settle(&rig);
	assert_true(peer->readable_when_woken > 0);
	assert_true(peer->readable_when_woken < 20000);
	assert_true(ring_reader_ready(&peer->in[0], UINT32_MAX) > 60000);
	rig_stop(&rig);
}

static void answers_that_nobody_reads_are_charged_to_their_reader(void **state)
{
	const struct quota_limits limits = {.pool = {[QUOTA_BYTES] = 1u << 20},
					    .max = {[QUOTA_UID] = {[QUOTA_BYTES] = 1u << 20}}};
	struct quota *quota = quota_new(&limits);
	struct account *account = quota_account(quota, QUOTA_UID, 1000);
	static const uint8_t payload[1000];
	struct party_frame frame;
	struct party *program;
	uint64_t queued = 0;
	struct rig rig;
	int r;

	rig_start(&rig, 1);
	program = program_new(&rig, 4096, false, 0);
	hop_set_account(&program->hop, account_ref(account));
	while ((r = hop_send(&program->hop, FRAME_REPLY, 0, 1, payload, sizeof(payload))) == 0)
		queued += frame_size(sizeof(payload));
	assert_int_equal(r, -ENOBUFS);
	/* What is free, and its share: a half, while it is alone. */
	assert_in_range(queued, (256 + 512 - 2) * 1024, (256 + 512) * 1024);
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 512 * 1024);
	rig_settle(&rig);
	while (queued) {
		assert_true(party_get(program, OUTLET_MAIN, &frame));
		queued -= frame_size(frame.header.length);
		party_release(program, OUTLET_MAIN);
		rig_settle(&rig);
	}
	assert_int_equal(account_usage(account, QUOTA_BYTES).used, 0);
	rig_stop(&rig);
	account_unref(account);
	quota_free(quota);
}

static void impossible_producer_index_ends_the_session(void **state)
{
	static const int32_t wrong[] = {-8, 65536 + 8, INT32_MIN, -1};

	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < 4; i++) {
			struct hostile hostile;

			hostile_start(&hostile, kinds[k]);
			hostile.bad->to_daemon->words.producer += (uint32_t)wrong[i];
			wake(hostile.bad);
			only_the_bad_one_is_cut_off(&hostile, -EPROTO);
		}
}

static void impossible_consumer_index_ends_the_session(void **state)
{
	for (unsigned k = 0; k < 2; k++)
		for (unsigned outlet = 0; outlet < (kinds[k] == HOP_SHARED ? 2u : 1u); outlet++) {
			struct hostile hostile;

			hostile_start(&hostile, kinds[k]);
			flow_start(hostile.good, 2, "p0", 2, 0);
			party_data(hostile.good, 2, 60000, true);
			rig_settle(&hostile.rig);
			hostile.bad->from_daemon[outlet]->words.consumer += 1u << 20;
			wake(hostile.bad);
			party_data(hostile.good, 2, 5536, false);
			rig_settle(&hostile.rig);
			assert_true(hostile.bad->failed);
			assert_int_equal(hostile.bad->error, -EPROTO);
			rig_stop(&hostile.rig);
		}
}

static void bad_frame(enum hop_kind kind, uint8_t type, uint32_t channel, uint32_t length, uint32_t put,
		      uint32_t sequence, int error)
{
	struct frame_header header = {
		.type = type, .channel = channel, .length = length, .sequence = sequence};
	uint8_t bytes[65536] = {0};
	struct hostile hostile;

	hostile_start(&hostile, kind);
	frame_header_encode(&header, bytes);
	party_put_raw(hostile.bad, bytes, put);
	only_the_bad_one_is_cut_off(&hostile, error);
}

static void frames_that_cannot_be_end_the_session(void **state)
{
	for (unsigned k = 0; k < 2; k++) {
		enum hop_kind kind = kinds[k];

		bad_frame(kind, FRAME_OPTIONAL, 0, 0xffffffffu, 64, 0, -EPROTO); /* 4 GiB */
		bad_frame(kind, FRAME_OPTIONAL, 0, 65537, 64, 0, -EPROTO);
		bad_frame(kind, FRAME_OPTIONAL, 0, 65536, 64, 0, -EPROTO); /* larger than the ring */
		bad_frame(kind, FRAME_OPTIONAL, 0, 100, 64, 0, -EPROTO);   /* incomplete */
		bad_frame(kind, FRAME_OPTIONAL, 0, 0, 8, 0, -EPROTO);	   /* half a header */
		bad_frame(kind, FRAME_DATA, 6, 8, 24, 0, -EPROTO);	   /* no such channel */
		bad_frame(kind, FRAME_DATA, 0xffffffffu, 8, 24, 0, -EPROTO);
		bad_frame(kind, FRAME_OPEN, 70000, 24, 40, 0, -EPROTO);
		bad_frame(kind, FRAME_OPEN, kind == HOP_SHARED ? 3 : 2, 24, 40, 0, -EPROTO); /* our numbers */
		bad_frame(kind, FRAME_OPEN, kind == HOP_SHARED ? 2 : 3, 24, 40, 0, -EPROTO); /* no kind */
		bad_frame(kind, FRAME_OPEN, kind == HOP_SHARED ? 2 : 3, 19, 40, 0, -EPROTO);
	}
	bad_frame(HOP_LINK, FRAME_OPTIONAL, 0, 0, 16, 1, -EPROTO); /* out of sequence */
}

static void unknown_frames_are_skipped_if_they_may_be(void **state)
{
	struct hostile hostile;

	hostile_start(&hostile, HOP_LINK);
	party_put(hostile.bad, 255, 0, "abc", 3);
	party_put(hostile.bad, FRAME_OPTIONAL, 99, "", 0);
	rig_settle(&hostile.rig);
	assert_false(hostile.bad->failed);
	assert_int_equal(hostile.bad->controls, 0);
	hostile.bad->control_result = -EPROTO; /* as the owners do for a type that they don't know */
	party_put(hostile.bad, 127, 0, "", 0);
	only_the_bad_one_is_cut_off(&hostile, -EPROTO);
}

static void number_in_use_cannot_be_opened_again(void **state)
{
	for (unsigned k = 0; k < 2; k++) {
		struct hostile hostile;
		uint32_t number = kinds[k] == HOP_SHARED ? 0 : 1;

		hostile_start(&hostile, kinds[k]);
		party_open(hostile.bad, number, "p2_9");
		rig_settle(&hostile.rig);
		party_open(hostile.bad, number, "p2_9");
		only_the_bad_one_is_cut_off(&hostile, -EPROTO);
	}
}

static void bytes_beyond_the_credit_end_the_session(void **state)
{
	for (unsigned k = 0; k < 2; k++) {
		struct hostile hostile;
		uint32_t number = kinds[k] == HOP_SHARED ? 0 : 1;

		hostile_start(&hostile, kinds[k]);
		hostile.receiver->never_reads_deliveries = true;
		party_open(hostile.bad, number, "p2_9");
		rig_settle(&hostile.rig);
		for (int i = 0; i < 2; i++) {
			party_data(hostile.bad, number, 32768, true);
			rig_settle(&hostile.rig);
		}
		assert_false(hostile.bad->failed);
		party_data(hostile.bad, number, 1, true);
		rig_settle(&hostile.rig);
		hostile.receiver->never_reads_deliveries = false;
		only_the_bad_one_is_cut_off(&hostile, -EPROTO);
	}
}

/* --- runs of small frames, which a program's hop takes by a shorter way ----------------------- */

/* A frame of a program, of which only the first `shown` bytes are in the ring as yet; returns the rest. */
static uint32_t put_small(struct party *party, uint32_t number, uint32_t length, uint16_t messages,
			  uint32_t shown, uint8_t *rest)
{
	struct frame_header header = {
		.type = FRAME_DATA, .channel = number, .length = length, .messages = messages};
	struct party_channel *channel = party_channel(party, number);
	uint8_t frame[FRAME_HEADER_SIZE + 1024] = {0};
	uint32_t size = frame_size(length);

	frame_header_encode(&header, frame);
	for (uint32_t i = 0; i < length; i++)
		frame[FRAME_HEADER_SIZE + i] = (uint8_t)(31 * (channel->sent + i) >> 3);
	channel->sent += length;
	assert_true(ring_writer_space(&party->out, size) >= (int)size);
	if (shown > size)
		shown = size;
	party_put_raw(party, frame, shown);
	if (rest)
		memcpy(rest, frame + shown, size - shown);
	return size - shown;
}

/* What came out is the stream's beginning. */
static void expect_captured(struct party *party, uint64_t size)
{
	uint8_t byte;

	assert_int_equal(evbuffer_get_length(party->captured), size);
	for (uint64_t i = 0; i < size; i++) {
		evbuffer_remove(party->captured, &byte, 1);
		assert_int_equal(byte, (uint8_t)(31 * i >> 3));
	}
	evbuffer_free(party->captured);
	party->captured = NULL;
}

static void run_start(struct rig *rig, bool lenient)
{
	rig_start(rig, 1);
	for (unsigned i = 0; i < 2; i++) {
		programs[i] = program_new(rig, 262144, i == 0 && lenient, 0);
		programs[i]->route = to_program;
	}
	programs[1]->captured = evbuffer_new();
	party_open(programs[0], 0, "p1_1");
	rig_settle(rig);
}

static void messages_of_small_frames_are_counted(void **state)
{
	struct rig rig;
	uint64_t size = 0;

	run_start(&rig, false);
	for (uint16_t i = 1; i <= 100; i++) {
		put_small(programs[0], 0, 8u * i, i % 3, UINT32_MAX, NULL);
		size += 8u * i;
	}
	rig_settle(&rig);
	assert_int_equal(programs[0]->hop.rx.messages, 100);
	assert_int_equal(programs[1]->hop.tx.messages, 100);
	assert_int_equal(programs[0]->hop.rx.frames, 101);
	party_read(programs[1], 262144);
	expect_captured(programs[1], size);
	rig_stop(&rig);
}

/* Nothing that comes in several pieces: there is no open frame that it could be appended to. */
static void small_frames_of_nothing_pass(void **state)
{
	static const uint32_t lengths[][5] = {{0, 0, 0, 0, 0}, {0, 0, 8, 0, 0}, {64, 0, 0, 64, 0}};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct rig rig;
		uint64_t size = 0;

		run_start(&rig, false);
		for (unsigned j = 0; j < 5; j++) {
			put_small(programs[0], 0, lengths[i][j], 0, UINT32_MAX, NULL);
			size += lengths[i][j];
		}
		rig_settle(&rig);
		assert_int_equal(programs[0]->hop.rx.frames, 6);
		assert_false(programs[0]->failed);
		party_read(programs[1], 65536);
		expect_captured(programs[1], size);
		rig_stop(&rig);
	}
}

/* Of a program that shares no memory, a frame comes in as the socket cuts it. */
static void small_frame_that_is_not_all_there_waits_for_its_rest(void **state)
{
	for (uint32_t shown = 0; shown <= 80; shown += 8) {
		uint8_t rest[128];
		struct rig rig;
		uint32_t left;

		run_start(&rig, true);
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
		left = put_small(programs[0], 0, 64, 1, shown, rest);
		rig_settle(&rig);
		party_put_raw(programs[0], rest, left);
		rig_settle(&rig);
		party_read(programs[1], 65536);
		expect_captured(programs[1], 3 * 64);
		assert_false(programs[0]->failed);
		rig_stop(&rig);
	}
}

static void small_frame_beyond_the_credit_ends_the_session(void **state)
{
	struct rig rig;

	run_start(&rig, false);
	programs[1]->never_reads_deliveries = true;
	for (uint32_t size = 0; size < CHANNEL_INITIAL_LIMIT; size += 64)
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	assert_false(programs[0]->failed);
	rig_stop(&rig);

	run_start(&rig, false);
	programs[1]->never_reads_deliveries = true;
	for (uint32_t size = 0; size < CHANNEL_INITIAL_LIMIT - 64; size += 64)
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	/* The first of these opens the frame that the others would be appended to. */
	for (unsigned i = 0; i < 3; i++)
		put_small(programs[0], 0, 32, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	assert_true(programs[0]->failed);
	assert_int_equal(programs[0]->error, -EPROTO);
	programs[0]->hop.attached = false;
	programs[1]->never_reads_deliveries = false;
	party_read(programs[1], 262144);
	expect_captured(programs[1], CHANNEL_INITIAL_LIMIT);
	rig_stop(&rig);
}

static void small_frames_behind_a_reset_are_dropped(void **state)
{
	struct rig rig;

	run_start(&rig, false);
	put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	party_reset(programs[0], 0, ECANCELED, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	party_read(programs[1], 262144);
	expect_captured(programs[1], 64);
	rig_settle(&rig);
	rig_stop(&rig);
}

/* It was to be notified of room when its session ended. */
static void program_that_is_cut_off_is_not_notified(void **state)
{
	struct hostile hostile;
	uint32_t woken;

	hostile_start(&hostile, HOP_SHARED);
	party_open(hostile.bad, 0, "p2_9");
	rig_settle(&hostile.rig);
	assert_int_equal(ring_writer_arm(&hostile.bad->out, 65536), 1);
	party_data(hostile.bad, 0, 40000, false);
	party_put(hostile.bad, FRAME_DATA, 6, "no such channel", 15);
	woken = hostile.bad->woken;
	rig_settle(&hostile.rig);
	assert_int_equal(hostile.bad->woken, woken);
	only_the_bad_one_is_cut_off(&hostile, -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_between_programs_arrive_complete_and_in_order),
		cmocka_unit_test(bytes_between_program_and_link_arrive_complete_and_in_order),
		cmocka_unit_test(two_daemons_that_flood_each_other_always_make_progress),
		cmocka_unit_test(channels_that_come_and_go_leave_nothing_behind),
		cmocka_unit_test(two_rings_that_fill_in_one_turn_cost_one_notification),
		cmocka_unit_test(another_domain_hears_what_it_waits_for_before_a_program_is_woken),
		cmocka_unit_test(a_domain_that_sleeps_is_woken_for_the_first_part),
		cmocka_unit_test(answers_that_nobody_reads_are_charged_to_their_reader),
		cmocka_unit_test(impossible_producer_index_ends_the_session),
		cmocka_unit_test(impossible_consumer_index_ends_the_session),
		cmocka_unit_test(frames_that_cannot_be_end_the_session),
		cmocka_unit_test(unknown_frames_are_skipped_if_they_may_be),
		cmocka_unit_test(number_in_use_cannot_be_opened_again),
		cmocka_unit_test(bytes_beyond_the_credit_end_the_session),
		cmocka_unit_test(messages_of_small_frames_are_counted),
		cmocka_unit_test(small_frames_of_nothing_pass),
		cmocka_unit_test(small_frame_that_is_not_all_there_waits_for_its_rest),
		cmocka_unit_test(small_frame_beyond_the_credit_ends_the_session),
		cmocka_unit_test(small_frames_behind_a_reset_are_dropped),
		cmocka_unit_test(program_that_is_cut_off_is_not_notified),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
