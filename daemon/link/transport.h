/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TRANSPORT_H
#define XENMSG_DAEMON_TRANSPORT_H

/*
 * What the session of a link needs of whatever carries it: a pair of rings, a way to notify the other end,
 * and to hear of its notifications and of its end. A vchan is one (vchan_transport.h), the tests' pair in
 * memory another. The rings are spoken as doc/protocol.md 5.2 says; both begin empty, with indices of zero.
 *
 *   waiting ──the other end has come──▶ open                               (the granter's end begins here)
 *   open ──the other end leaves it, and wants another one──▶ left        each until close()
 *     ├─────it closes it, or its process dies─────────────▶ closed
 *     └─────it says something impossible───────────────────▶ broken
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/ring.h"

enum transport_state {
	TRANSPORT_WAITING, /* the other end hasn't come yet */
	TRANSPORT_OPEN,
	/* closed to be resumed; what the other end wrote before can still be read, as in the next one */
	TRANSPORT_LEFT,
	TRANSPORT_CLOSED,
	TRANSPORT_BROKEN,
};

/* Called on the event loop when the other end has notified us, closed, or died. May close the transport. */
typedef void (*transport_event_fn)(void *userdata);

struct transport_functions {
	/* Set where the rings are, as seen from here. */
	void (*rings)(void *carrier, struct ring_view *in, struct ring_view *out);
	/* Sets who hears of events. NULL: nobody. */
	void (*hear)(void *carrier, transport_event_fn event, void *userdata);
	/* Notifies the other end; must not block. 0, or a negative errno: it can't be notified any more. */
	int (*notify)(void *carrier);
	enum transport_state (*state)(void *carrier);
	/* Whether the other end's process is known to have died. NULL: it never is. */
	bool (*has_died)(void *carrier);
	/* Whether what is in the rings now, and was read of the state, is what the two ends wrote: not after
	 * this domain was restored. NULL: it never is. */
	bool (*is_sound)(void *carrier);
	/* Tells the other end, and frees the carrier. `to_resume`: this end wants another one for the
	 * session. */
	void (*close)(void *carrier, bool to_resume);
	/* For status: whether this end has granted the pages, and how many there are. */
	bool (*is_granter)(void *carrier);
	uint32_t (*pages)(void *carrier);
};

/* Where the other end finds a transport that one end has granted. */
struct transport_place {
	uint32_t ring_ref, port;
};

/* All zero: there is none. */
struct link_transport {
	const struct transport_functions *functions;
	void *carrier;
};

/* Makes transports for sessions that move (link_move.c): the first ones come from the peers. */
struct transport_maker {
	/* Grants one with rings of this size each way, a power of two, to a domain. -ENOSPC: pages or ports
	 * are short; other errors. */
	int (*grant)(void *userdata, uint32_t domid, uint32_t ring_size, struct link_transport *made,
		     struct transport_place *place);
	/* Maps one that a domain says to have granted. -EPROTO: what is there is impossible; other errors. */
	int (*map)(void *userdata, uint32_t domid, const struct transport_place *place,
		   struct link_transport *made);
	/* Returns how many pages may be granted in all; 0: it isn't known. */
	uint32_t (*pages_limit)(void *userdata);
	void *userdata;
};

static inline bool transport_is_there(const struct link_transport *transport)
{
	return transport->functions != NULL;
}

static inline void transport_rings(const struct link_transport *transport, struct ring_view *in,
				   struct ring_view *out)
{
	transport->functions->rings(transport->carrier, in, out);
}

static inline void transport_hear(const struct link_transport *transport, transport_event_fn event,
				  void *userdata)
{
	transport->functions->hear(transport->carrier, event, userdata);
}

static inline int transport_notify(const struct link_transport *transport)
{
	return transport->functions->notify(transport->carrier);
}

static inline enum transport_state transport_state(const struct link_transport *transport)
{
	return transport->functions->state(transport->carrier);
}

static inline bool transport_has_died(const struct link_transport *transport)
{
	return transport->functions->has_died && transport->functions->has_died(transport->carrier);
}

static inline bool transport_is_guarded(const struct link_transport *transport)
{
	return transport->functions && transport->functions->is_sound;
}

static inline bool transport_is_sound(const struct link_transport *transport)
{
	return !transport->functions->is_sound || transport->functions->is_sound(transport->carrier);
}

/* Closes it if it is there; then it isn't any more. */
static inline void transport_end(struct link_transport *transport, bool to_resume)
{
	struct link_transport ended = *transport;

	*transport = (struct link_transport){0};
	if (ended.functions)
		ended.functions->close(ended.carrier, to_resume);
}

static inline void transport_close(struct link_transport *transport)
{
	transport_end(transport, false);
}

static inline void transport_leave(struct link_transport *transport)
{
	transport_end(transport, true);
}

static inline bool transport_is_granter(const struct link_transport *transport)
{
	return transport->functions && transport->functions->is_granter(transport->carrier);
}

static inline uint32_t transport_pages(const struct link_transport *transport)
{
	return transport->functions ? transport->functions->pages(transport->carrier) : 0;
}

#endif
