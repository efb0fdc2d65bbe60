/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that a gateway shares, as the carrier of a link's session: behind the gateway is another host's
 * daemon (doc/protocol.md, section 7). The gateway reads the ring out and writes the ring in, as the other
 * end of a vchan would, and is trusted as little. It lets our ring out have space again when the other host's
 * daemon has processed what was in it, so what isn't processed lies there, whatever happens to the gateway.
 */

#include "daemon/link/carrier.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/hosts/conversation_memory.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/program_socket.h"
#include "wire/doorbell.h"

struct shared_carrier {
	struct switchboard *board;
	struct conversation_memory shared;
	struct charge charge;
	bool is_granter;
	enum carrier_state state;
	struct call_history calls;
	carrier_event_fn event;
	void *userdata;
	struct event *woken, *ended;
};

static void shared_carrier_tell(struct shared_carrier *carrier)
{
	if (carrier->event)
		carrier->event(carrier->userdata);
}

static void on_woken(int fd, short what, void *userdata)
{
	shared_carrier_tell(userdata);
}

/* The gateway closes the socket at the end, and says nothing on it, or that what came from the other host
 * can't be. */
static void shared_carrier_on_ended(int fd, short what, void *userdata)
{
	struct shared_carrier *carrier = userdata;
	uint8_t byte;
	struct iovec piece = {&byte, sizeof(byte)};
	ssize_t size = program_socket_read(fd, &piece, 1);

	switch_spend(carrier->board, carrier->charge.account, 2 * COST_SYSCALL);
	if (size == -EAGAIN || size == -ENOBUFS)
		return;
	carrier->state = size > 0 || size == -EBADMSG ? CARRIER_BROKEN : CARRIER_LEFT;
	event_del(carrier->ended);
	event_del(carrier->woken);
	shared_carrier_tell(carrier);
}

/* --- as a carrier --------------------------------------------------------------------------- */

static void shared_carrier_rings(void *self, struct ring_view *in, struct ring_view *out)
{
	struct shared_carrier *carrier = self;

	*in = gateway_ring_view(carrier->shared.memory, GATEWAY_RING_IN);
	*out = gateway_ring_view(carrier->shared.memory, GATEWAY_RING_OUT);
	out->unaligned = 7; /* whole frames are processed */
}

static void shared_carrier_hear(void *self, carrier_event_fn event, void *userdata)
{
	struct shared_carrier *carrier = self;

	carrier->event = event;
	carrier->userdata = userdata;
}

static int shared_carrier_notify(void *self)
{
	struct shared_carrier *carrier = self;
	struct kernel_call call;

	if (carrier->state != CARRIER_OPEN)
		return 0;
	call_begin(&call, &carrier->calls);
	doorbell_ring(carrier->shared.wake_gateway); /* a gateway that has spoilt it isn't woken */
	switch_spend_call(carrier->board, carrier->charge.account, &call, 0);
	return 0;
}

static enum carrier_state shared_carrier_state(void *self)
{
	return ((struct shared_carrier *)self)->state;
}

static void free_carrier(struct shared_carrier *carrier)
{
	free_event(carrier->woken);
	free_event(carrier->ended);
	conversation_memory_free(&carrier->shared, carrier->board, &carrier->charge);
	charge_end(&carrier->charge);
	free(carrier);
}

/* What was written last, a GOODBYE perhaps, still goes: the gateway has the memory, and sees the end after
 * it. */
static void close_carrier(void *self, bool to_resume)
{
	shared_carrier_notify(self);
	free_carrier(self);
}

static bool shared_carrier_is_granter(void *self)
{
	return ((struct shared_carrier *)self)->is_granter;
}

static uint32_t shared_carrier_pages(void *self)
{
	return 0;
}

int shared_carrier_new(struct carrier *made, struct switchboard *board, struct conversation_memory *memory,
		       struct charge *charge, bool granter)
{
	static const struct carrier_functions functions = {
		.rings = shared_carrier_rings,
		.hear = shared_carrier_hear,
		.notify = shared_carrier_notify,
		.state = shared_carrier_state,
		.close = close_carrier,
		.is_granter = shared_carrier_is_granter,
		.pages = shared_carrier_pages,
	};
	struct shared_carrier *carrier = calloc(1, sizeof(*carrier));

	if (!carrier) {
		conversation_memory_free(memory, board, charge);
		charge_end(charge);
		return -ENOMEM;
	}
	carrier->board = board;
	carrier->shared = *memory;
	memory->memory = NULL;
	charge_move(&carrier->charge, charge);
	carrier->is_granter = granter;
	carrier->state = CARRIER_OPEN;
	carrier->woken = event_new(board->base, carrier->shared.wake_daemon, EV_WRITE | EV_PERSIST | EV_ET,
				   on_woken, carrier);
	carrier->ended = event_new(board->base, carrier->shared.life, EV_READ | EV_PERSIST,
				   shared_carrier_on_ended, carrier);
	if (!carrier->woken || !carrier->ended || event_add(carrier->woken, NULL) < 0 ||
	    event_add(carrier->ended, NULL) < 0) {
		free_carrier(carrier);
		return -ENOMEM;
	}
	*made = (struct carrier){&functions, carrier};
	return 0;
}
