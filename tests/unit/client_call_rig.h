/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CLIENT_CALL_RIG_H
#define XENMSG_TESTS_CLIENT_CALL_RIG_H

/*
 * Messages of calls in a stream, as the daemon sends them and sees them come.
 */

#include "tests/unit/client_fixture.h"

#include <stdint.h>

/* Where messages are put together. */
extern uint8_t stream[FRAME_PAYLOAD_MAX * 8];

/* A message of a call as it stands in a stream. Returns its span. */
uint32_t put(uint8_t *at, uint8_t type, uint16_t error, uint32_t number, const void *data, uint32_t size);
void send_one(uint32_t channel, uint8_t type, uint16_t error, uint32_t number, const char *text);
/* The next frame of data, skipping receipts. */
void expect_data(uint32_t channel);

struct outcome {
	int count, result;
	char text[64];
	size_t size;
	unsigned code;
	int fate, exit_status;
	char reason[128];
	int order; /* among all that were noted */
};

/* Posts a call to 2:work and reads its frames, which begin with an OPEN if it is the first: then `channel` is
 * where it goes. Returns its number. */
uint32_t call(struct outcome *outcome, const char *text, bool first, uint32_t *channel);
/* The number of the call that the daemon has just read. */
uint32_t number_read(void);

/* How many outcomes there were. */
extern int noted;

void note(void *userdata, const struct xenmsg_result *result);
void wait_for(const struct outcome *outcome);

#endif
