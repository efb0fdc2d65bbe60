/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/carrier.h"

#include "daemon/xen/vchan.h"

static void vchan_carrier_rings(void *self, struct ring_view *in, struct ring_view *out)
{
	vchan_read_view(self, in);
	vchan_write_view(self, out);
}

static void vchan_carrier_hear(void *self, carrier_event_fn event, void *userdata)
{
	vchan_set_event(self, event, userdata);
}

static int vchan_carrier_notify(void *self)
{
	return vchan_notify(self);
}

static enum carrier_state vchan_carrier_state(void *self)
{
	switch (vchan_state(self)) {
	case VCHAN_WAITING:
		return CARRIER_WAITING;
	case VCHAN_CONNECTED:
		return CARRIER_OPEN;
	case VCHAN_CLOSED:
		return vchan_was_left(self) ? CARRIER_LEFT : CARRIER_CLOSED;
	default:
		return CARRIER_BROKEN;
	}
}

static bool vchan_carrier_has_died(void *self)
{
	return vchan_state(self) == VCHAN_CLOSED && vchan_has_died(self);
}

static bool vchan_carrier_is_sound(void *self)
{
	return vchan_is_sound(self);
}

static void close_vchan(void *self, bool to_resume)
{
	if (to_resume)
		vchan_leave(self);
	else
		vchan_close(self);
}

static bool vchan_carrier_is_granter(void *self)
{
	return vchan_is_granter(self);
}

static uint32_t vchan_carrier_pages(void *self)
{
	return vchan_pages(self);
}

struct carrier vchan_carrier(struct vchan *vchan)
{
#define FUNCTIONS                                                                                            \
	.rings = vchan_carrier_rings, .hear = vchan_carrier_hear, .notify = vchan_carrier_notify,            \
	.state = vchan_carrier_state, .has_died = vchan_carrier_has_died, .close = close_vchan,              \
	.is_granter = vchan_carrier_is_granter, .pages = vchan_carrier_pages
	static const struct carrier_functions functions = {FUNCTIONS},
					      guarded = {FUNCTIONS, .is_sound = vchan_carrier_is_sound};

	return (struct carrier){vchan_is_guarded(vchan) ? &guarded : &functions, vchan};
}
