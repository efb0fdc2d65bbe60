/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Messages that stay in the ring while the program has them, and what becomes of them when it has them for
 * too long. */

#include <utlist.h>

#include "libclient/inbox.h"
#include "libclient/inbox_internal.h"

#define PAUSE_MIN 16u
#define PAUSE_MAX 4096u

static void note_held(struct inbox *inbox)
{
	inbox->transport->holds = inbox->held != NULL;
	if (inbox->held)
		inbox->transport->held_at = inbox->held->begin;
}

/* Puts private pages in place of those of the first held message, and of those that follow it closely. */
static int keep_some(struct inbox *inbox)
{
	struct xenmsg_message *message = inbox->held, *last = message;
	uint8_t *from = message->lent, *to = from + message->size;
	int r;

	while ((last = last->held_next) && last->mirror == message->mirror && last->lent >= to &&
	       last->lent - to < LEND_MIN)
		to = last->lent + last->size;
	r = mirror_keep(message->mirror, from, (uint32_t)(to - from));
	if (r < 0)
		return r;
	if (inbox->mirror == message->mirror) {
		mirror_release(inbox->mirror);
		inbox->mirror = NULL;
	}
	while (inbox->held != last) {
		message = inbox->held;
		DL_DELETE2(inbox->held, message, held_prev, held_next);
		message->holds = false;
	}
	note_held(inbox);
	return 0;
}

/* Lets the program keep what it holds of the ring, in private pages. Returns 0; or -ENOMEM: some of it is
 * still held. */
int inbox_keep_held(struct inbox *inbox)
{
	uint32_t pause = inbox->lend_pause * 2;
	int r = 0;

	if (!inbox->held)
		return 0;
	inbox->lend_pause = inbox->lend_later = pause < PAUSE_MIN   ? PAUSE_MIN
						: pause > PAUSE_MAX ? PAUSE_MAX
								    : pause;
	while (r == 0 && inbox->held)
		r = keep_some(inbox);
	return r;
}

/* Lends the message whose payload begins `offset` bytes behind the front of the ring. Returns false if it is
 * to be copied. */
bool inbox_lend(struct inbox *inbox, struct xenmsg_message *message, uint32_t size, uint32_t offset)
{
	struct transport *transport = inbox->transport;
	const struct ring_reader *ring = &transport->deliveries;
	uint32_t begin = ring->tail;

	if (!transport->shared || size < LEND_MIN || size > ring->ring.size / 4)
		return false;
	if (inbox->lend_later) {
		inbox->lend_later--;
		return false;
	}
	if (inbox->held && begin - transport->held_at + size > ring->ring.size / 2) {
		inbox_keep_held(inbox);
		return false;
	}
	if (inbox->mirror && inbox->mirror_of != transport->memories) { /* the ring lies elsewhere now */
		mirror_release(inbox->mirror);
		inbox->mirror = NULL;
	}
	if (!inbox->mirror) {
		inbox->mirror = mirror_new(&ring->ring);
		inbox->mirror_of = transport->memories;
	}
	if (!inbox->mirror) {
		inbox->lend_later = PAUSE_MAX;
		return false;
	}
	message->begin = begin;
	message->lent = mirror_at(inbox->mirror, begin + offset);
	message->mirror = inbox->mirror;
	message->holds = true;
	mirror_use(message->mirror);
	DL_APPEND2(inbox->held, message, held_prev, held_next);
	note_held(inbox);
	return true;
}

void inbox_take_back(struct inbox *inbox, struct xenmsg_message *message)
{
	DL_DELETE2(inbox->held, message, held_prev, held_next);
	message->holds = false;
	note_held(inbox);
	inbox->lend_pause /= 2;
	inbox->unreported +=
		(uint32_t)message->size; /* it may have been reported that nothing more was taken */
	/* Behind a RESET that isn't published yet, nothing is released. */
	if (!inbox->reset_sent)
		transport_release_quietly(inbox->transport);
}
