/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CARRIER_H
#define XENMSG_DAEMON_CARRIER_H

/*
 * What the session of a link needs of whatever carries it: a pair of rings, a way to notify the other end,
 * and to hear of its notifications and of its end. A vchan is one, memory that a gateway
 * shares another, the tests' pair in memory a third. The rings are spoken as doc/protocol.md 5.2 says; both
 * begin empty, with indices of zero.
 *
 *   waiting ──the other end has come──▶ open                               (the granter's end begins here)
 *   open ──the other end leaves it, and wants another one──▶ left        each until close()
 *     ├─────it closes it, or its process dies─────────────▶ closed
 *     └─────it says something impossible───────────────────▶ broken
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/ring.h"

struct charge;
struct conversation_memory;
struct switchboard;
struct vchan;
struct vchan_host;

enum carrier_state {
	CARRIER_WAITING, /* the other end hasn't come yet */
	CARRIER_OPEN,
	/* closed to be resumed; what the other end wrote before can still be read, as in the next one */
	CARRIER_LEFT,
	CARRIER_CLOSED,
	CARRIER_BROKEN,
};

/* Called on the event loop when the other end has notified us, closed, or died. May close the carrier. */
typedef void (*carrier_event_fn)(void *userdata);

struct carrier_functions {
	/* Set where the rings are, as seen from here. */
	void (*rings)(void *self, struct ring_view *in, struct ring_view *out);
	/* Sets who hears of events. NULL: nobody. */
	void (*hear)(void *self, carrier_event_fn event, void *userdata);
	/* Notifies the other end; must not block. 0, or a negative errno: it can't be notified any more. */
	int (*notify)(void *self);
	enum carrier_state (*state)(void *self);
	/* Whether the other end's process is known to have died. NULL: it never is. */
	bool (*has_died)(void *self);
	/* Whether what is in the rings now, and was read of the state, is what the two ends wrote: not after
	 * this domain was restored. NULL: it never is. */
	bool (*is_sound)(void *self);
	/* Tells the other end, and frees it. `to_resume`: this end wants another one for the
	 * session. */
	void (*close)(void *self, bool to_resume);
	/* For status: whether this end has granted the pages, and how many there are. */
	bool (*is_granter)(void *self);
	uint32_t (*pages)(void *self);
};

/* Where the other end finds a carrier that one end has granted. */
struct carrier_place {
	uint32_t ring_ref, port;
};

/* All zero: there is none. */
struct carrier {
	const struct carrier_functions *functions;
	void *self;
};

/* Makes carriers for sessions that move (link_move.c): the first ones come from the peers. */
struct carrier_maker {
	/* Grants one with rings of this size each way, a power of two, to a domain. -ENOSPC: pages or ports
	 * are short; other errors. */
	int (*grant)(void *userdata, uint32_t domid, uint32_t ring_size, struct carrier *made,
		     struct carrier_place *place);
	/* Maps one that a domain says to have granted. -EPROTO: what is there is impossible; other errors. */
	int (*map)(void *userdata, uint32_t domid, const struct carrier_place *place, struct carrier *made);
	/* Returns how many pages may be granted in all; 0: it isn't known. */
	uint32_t (*pages_limit)(void *userdata);
	void *userdata;
};

static inline bool carrier_is_there(const struct carrier *carrier)
{
	return carrier->functions != NULL;
}

static inline void carrier_rings(const struct carrier *carrier, struct ring_view *in, struct ring_view *out)
{
	carrier->functions->rings(carrier->self, in, out);
}

static inline void carrier_hear(const struct carrier *carrier, carrier_event_fn event, void *userdata)
{
	carrier->functions->hear(carrier->self, event, userdata);
}

static inline int carrier_notify(const struct carrier *carrier)
{
	return carrier->functions->notify(carrier->self);
}

static inline enum carrier_state carrier_state(const struct carrier *carrier)
{
	return carrier->functions->state(carrier->self);
}

static inline bool carrier_has_died(const struct carrier *carrier)
{
	return carrier->functions->has_died && carrier->functions->has_died(carrier->self);
}

static inline bool carrier_is_guarded(const struct carrier *carrier)
{
	return carrier->functions && carrier->functions->is_sound;
}

static inline bool carrier_is_sound(const struct carrier *carrier)
{
	return !carrier->functions->is_sound || carrier->functions->is_sound(carrier->self);
}

/* Closes it if it is there; then it isn't any more. */
static inline void carrier_end(struct carrier *carrier, bool to_resume)
{
	struct carrier ended = *carrier;

	*carrier = (struct carrier){0};
	if (ended.functions)
		ended.functions->close(ended.self, to_resume);
}

static inline void carrier_close(struct carrier *carrier)
{
	carrier_end(carrier, false);
}

static inline void carrier_leave(struct carrier *carrier)
{
	carrier_end(carrier, true);
}

static inline bool carrier_is_granter(const struct carrier *carrier)
{
	return carrier->functions && carrier->functions->is_granter(carrier->self);
}

static inline uint32_t carrier_pages(const struct carrier *carrier)
{
	return carrier->functions ? carrier->functions->pages(carrier->self) : 0;
}

/* --- vchan_carrier.c, vchan_maker.c */
/* The carrier owns the connected vchan from now on. */
struct carrier vchan_carrier(struct vchan *vchan);
/* Makes more of them. The host must outlive whoever has the maker. */
struct carrier_maker vchan_carrier_maker(struct vchan_host *host);

/* --- shared_carrier.c */
/* Makes one of a conversation's memory, which is its from now on, as is `charge`, which pays for that: also
 * if it fails. `is_granter`: this end is the one that doesn't number the epochs. -ENOMEM. */
int shared_carrier_new(struct carrier *made, struct switchboard *board, struct conversation_memory *memory,
		       struct charge *charge, bool is_granter);

#endif
