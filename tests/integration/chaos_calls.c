/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The calls of chaos-program. A reply says what its request said, under the number of the request with
 * BACKWARDS. */

#include <errno.h>
#include <string.h>

#include "tests/integration/chaos.h"

#define PENDING_MAX 32
#define OWN_ERROR   EILSEQ /* nothing between two programs says that */

struct pending {
	struct xenmsg_message *message;
	uint64_t number;
	int64_t due;
};

static uint8_t payload[LARGEST];
static struct pending pending[PENDING_MAX];
static unsigned pending_count;
static struct chaos *calling; /* `done` has room for the number only */

static void note_outcome(struct chaos *chaos, uint64_t call, const struct xenmsg_result *result)
{
	struct xenmsg_message *reply = result->reply;
	uint64_t number;
	bool whole;

	chaos->last_outcome = now_ms();
	if (result->error == 0) {
		whole = payload_whole(xenmsg_message_data(reply), xenmsg_message_size(reply), &number);
		if (!whole || number != (call | BACKWARDS))
			note(chaos, FAULT, call, -EBADMSG);
	}
	if (result->error == -EREMOTEIO)
		note(chaos, CALL_ANSWERED, call, -(int)result->code);
	else if ((result->error == -ETIMEDOUT || result->error == -EINTR) &&
		 result->fate == XENMSG_FATE_UNKNOWN)
		note(chaos, CALL_MAYBE, call, result->error);
	else
		note(chaos, CALL_ENDED, call, result->error);
	xenmsg_message_free(reply);
}

static void ended(void *userdata, const struct xenmsg_result *result)
{
	calling->in_flight--;
	note_outcome(calling, (uint64_t)(uintptr_t)userdata, result);
}

int calls_make(struct chaos *chaos, unsigned to, const char *address)
{
	uint64_t call = ++chaos->last_number;
	size_t size = payload_size(chaos);
	struct xenmsg_result result;
	int r;

	calling = chaos;
	payload_fill(call, payload, size);
	note(chaos, CALL_STARTED, call, (int32_t)to);
	if (dice(chaos, 8) == 0) {
		r = xenmsg_call(chaos->conn, address, payload, size, XENMSG_WITHIN((int)dice(chaos, 100) + 1),
				&result);
		note_outcome(chaos, call, &result);
	} else {
		chaos->in_flight++;
		r = xenmsg_begin_call(chaos->conn, address, payload, size,
				      XENMSG_WITHIN(dice(chaos, 4) ? -1 : (int)dice(chaos, 200)), ended,
				      (void *)(uintptr_t)call, NULL);
		if (r < 0) {
			chaos->in_flight--;
			note(chaos, REFUSED, call, r);
		}
	}
	return r == -ENOTCONN || r == -EPROTO ? r : 0;
}

/* Most answers are replies, some errors, and some requests are just dropped, which is an answer, too. False:
 * not yet. */
static bool answer(struct chaos *chaos, struct xenmsg_message *message, uint64_t number)
{
	unsigned how = dice(chaos, 20);
	size_t size = payload_size(chaos);
	int r = 0;

	if (how == 0) {
		note(chaos, REPLYING, number, -ECANCELED);
	} else if (how == 1) {
		note(chaos, REPLYING, number, -OWN_ERROR);
		r = xenmsg_reply_error(message, OWN_ERROR, NULL, 0);
	} else {
		payload_fill(number | BACKWARDS, payload, size);
		note(chaos, REPLYING, number, 0);
		r = xenmsg_reply(message, payload, size);
	}
	if (r == -EAGAIN)
		return false;
	if (r < 0 && r != -ECANCELED && r != -ENOTCONN)
		note(chaos, FAULT, number, r);
	if (r == 0 && how != 0 && xenmsg_reply(message, payload, 16) != -EALREADY)
		note(chaos, FAULT, number, -EALREADY);
	xenmsg_message_free(message);
	return true;
}

void calls_take(struct chaos *chaos, struct xenmsg_message *message)
{
	uint64_t number;
	bool whole = payload_whole(xenmsg_message_data(message), xenmsg_message_size(message), &number);

	note(chaos, HANDLED, number, !whole);
	if (pending_count < PENDING_MAX && dice(chaos, 4) == 0)
		pending[pending_count++] = (struct pending){message, number, now_ms() + dice(chaos, 300)};
	else if (!answer(chaos, message, number))
		xenmsg_message_free(message);
}

void calls_answer(struct chaos *chaos, bool all)
{
	int64_t now = now_ms();

	for (unsigned i = 0; i < pending_count;) {
		if (!all && pending[i].due > now) {
			i++;
			continue;
		}
		if (!answer(chaos, pending[i].message, pending[i].number)) {
			if (!all) {
				i++;
				continue;
			}
			xenmsg_message_free(pending[i].message);
		}
		pending[i] = pending[--pending_count];
	}
}
