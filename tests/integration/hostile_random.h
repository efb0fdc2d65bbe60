/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_HOSTILE_RANDOM_H
#define XENMSG_TESTS_HOSTILE_RANDOM_H

/* What hostile_random.c and hostile_random_streams.c share: chance, and what is counted. */

#include "tests/integration/hostile_program.h"

#define ERRNOS 256
#define TOKENS 64

enum channel_state {
	FREE,
	OPENED_BY_US,
	FIN_SENT,
	RESET_SENT,
	OPENED_BY_THEM,
	FIN_CAME,
	STATES,
};

/* What has been done and seen, for random_report(). */
extern struct coverage {
	uint64_t got[256], illegal, came, left, cut_off;
	uint64_t goodbyes[ERRNOS], resets[ERRNOS], replies[ERRNOS], cancelled[ERRNOS];
	uint64_t states[STATES], stream_answers[ERRNOS], stream_ends[ERRNOS], stream_bytes;
} coverage;

/* Of streams that have come for this program. */
extern struct tokens {
	uint64_t list[TOKENS];
	unsigned first, count;
} tokens;

/* Below `bound`; the seed decides. */
uint32_t dice(uint32_t bound);
void count_errno(uint64_t *counts, uint32_t error);
/* Writes an address, mostly one that is there. Its length. */
int choose_address(const struct attacker *attacker, char *text, size_t size);
/* The turn of a session that is a stream. How many things it did. */
unsigned random_stream_turn(struct attacker *attacker, struct session *session);

#endif
