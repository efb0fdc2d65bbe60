/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_HOP_RIG_H
#define XENMSG_TESTS_HOP_RIG_H

/*
 * Hops with both of their ends in one process, without sleeping and without sockets: the daemon's end is the
 * real hop.c, and the other end is a `participant` that the test plays, or another daemon's hop ("wired").
 *
 * A hop's events are delivered only if its rings say that it asked for them, as an event channel or an
 * eventfd would be: what a lost wake-up would hang in production hangs here too, and rig_settle() fails the
 * test. Timers don't run by themselves (rig_fire_stuck() fires the one that spills), so that none of them
 * covers up for a lost wake-up.
 */

#include "tests/unit/unit.h"

#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"

#define RIG_CHANNELS 512 /* a participant's channel numbers lie below */

struct rig_ring {
	struct ring_words words;
	uint8_t *data; /* its own allocation, of exactly the size: AddressSanitizer guards both ends */
	struct ring_view view;
};

struct participant;

struct rig {
	struct event_base *base;
	struct switchboard board[2]; /* of two daemons */
	struct participant *parties;
	uint64_t random;
	uint32_t settled; /* how often */
	uint32_t woken;	  /* how often anybody was */
	/* Does what is due of what the rig doesn't know of. True: there was something. May be NULL. */
	bool (*elsewhere)(struct rig *rig);
	/* ... and some of it comes later, so that hops may wait for it when all else is settled */
	bool is_late;
};

/* A channel as the participant sees it. */
struct participant_channel {
	bool used, is_opener, opened, aborted;
	bool fin_in, fin_out, reset_in, reset_out, ended;
	int flow;
	uint64_t sent, limit, goal, confirmed; /* towards the daemon */
	uint64_t received, taken, fin_total;   /* from the daemon */
	uint64_t credit_sent;
	struct frame_reset reset;
	uint32_t cancelled_count, cancelled_result, cancel_count;
	uint64_t cancelled_offset, cancel_offset;
};

struct participant_frame {
	struct frame_header header;
	uint8_t payload[FRAME_PAYLOAD_MAX + 8];
};

struct participant {
	struct rig *rig;
	struct hop hop; /* the daemon's end */
	struct participant *wired;
	struct rig_ring *to_daemon, *from_daemon[HOP_OUTLETS];
	bool shared; /* with wired: the rings belong to it */
	bool kicked; /* the daemon's end has been notified */
	uint32_t woken;
	uint32_t woken_at;	 /* rig->woken then, the last time */
	int readable_when_woken; /* bytes in the first of `in`, the first time that there were some */
	struct ring_writer out;
	struct ring_reader in[HOP_OUTLETS];
	uint32_t out_sequence, in_sequence;
	struct participant *(*route)(struct participant *participant, const char *name);
	/* instead of `route`, if set */
	int (*open)(struct participant *participant, struct channel *channel, const struct frame_open *open);

	/* what became of it */
	bool failed;
	int error;
	char why[160];
	uint32_t controls;
	struct channel *last_channel;
	int control_result;

	/* the participant's account */
	struct participant_channel channels[RIG_CHANNELS];
	struct evbuffer *queue; /* frames that didn't fit yet */
	bool never_reads, never_reads_deliveries, no_auto_answer;
	struct evbuffer *captured; /* if set, bytes of streams go in here unchecked */
	struct {
		struct participant_channel *channel;
		uint32_t number, left, padding;
	} partial[HOP_OUTLETS];
	struct participant *next;
};

struct rig_options {
	enum hop_kind kind;
	uint32_t ring;	   /* size of each */
	uint32_t out_ring; /* towards the daemon, if another size */
	unsigned daemon;
	uint32_t parity;
	uint32_t channels_max;
	bool detached;
	bool adopt_indices; /* near the wrap of 2^32 */
};

void rig_start(struct rig *rig, uint64_t seed);
/* Ends everything and checks that nothing is left. */
void rig_stop(struct rig *rig);
uint32_t rig_random(struct rig *rig, uint32_t below);

struct participant *participant_new(struct rig *rig, const struct rig_options *options);
/* Two daemons' ends of one link. */
void participant_wire(struct rig *rig, uint32_t ring, struct participant **a, struct participant **b);
void participant_attach(struct participant *participant);
/* The daemon's session for it ends, as session.c does it. */
void participant_kill(struct participant *participant);

/* Delivers notifications until none is left, then checks that nobody waits for one that can't come. */
void rig_settle(struct rig *rig);
void rig_check(struct rig *rig);
void rig_fire_stuck(struct participant *participant);

/* The daemon's end is notified: it has its turn with the next rig_settle(). */
void participant_kick(struct participant *participant);

/* The participant's side. */
bool participant_put(struct participant *participant, uint8_t type, uint32_t channel, const void *payload,
		     uint32_t length);
void participant_put_raw(struct participant *participant, const void *bytes, uint32_t size);
bool participant_get(struct participant *participant, unsigned outlet, struct participant_frame *frame);
bool participant_expect(struct participant *participant, uint8_t type, struct participant_frame *frame);
/* The channel that was opened with this number is refused, and that is said with this error. */
void participant_expect_refusal(struct participant *participant, uint32_t number, uint32_t error);
void participant_release(struct participant *participant, unsigned outlet);
void participant_open(struct participant *participant, uint32_t number, const char *name);
void participant_open_kind(struct participant *participant, uint32_t number, enum channel_kind kind,
			   const char *name);
void participant_opened(struct participant *participant, uint32_t number, const struct frame_opened *opened);
void participant_fin(struct participant *participant, uint32_t number);
void participant_reset(struct participant *participant, uint32_t number, uint32_t error, uint64_t consumed,
		       uint64_t unsure);
void participant_credit(struct participant *participant, uint32_t number, uint64_t consumed, uint64_t limit);
void participant_cancel(struct participant *participant, uint32_t number, uint64_t offset);
/* Bytes of the flow's pattern from where it stands: as many of `size` as fit; within credit, unless
 * `force`. */
uint32_t participant_data(struct participant *participant, uint32_t number, uint32_t size, bool force);
/* Reads at most `budget` bytes, checks every byte of DATA, answers as a program does. Returns bytes read. */
uint32_t participant_read(struct participant *participant, uint32_t budget);
struct participant_channel *participant_channel(struct participant *participant, uint32_t number);
/* The channel of a flow at the side that accepted it. */
struct participant_channel *participant_accepted(struct participant *participant, int flow);

/* A message stream from one to another that ends by FINs; run until all are done. */
void flow_start(struct participant *from, uint32_t number, const char *to, int flow, uint64_t goal);
void flows_run(struct rig *rig, uint32_t send_max, uint32_t read_max);
bool flow_is_done(struct participant *from, uint32_t number);

#endif
