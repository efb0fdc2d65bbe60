/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/vchan_carrier.h"

#include "daemon/xen/vchan.h"

static void rings(void *self, struct ring_view *in, struct ring_view *out)
{
	vchan_read_view(self, in);
	vchan_write_view(self, out);
}

static void hear(void *self, carrier_event_fn event, void *userdata)
{
	vchan_set_event(self, event, userdata);
}

static int notify(void *self)
{
	return vchan_notify(self);
}

static enum carrier_state state(void *self)
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

static bool has_died(void *self)
{
	return vchan_state(self) == VCHAN_CLOSED && vchan_has_died(self);
}

static bool is_sound(void *self)
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

static bool is_granter(void *self)
{
	return vchan_is_granter(self);
}

static uint32_t pages(void *self)
{
	return vchan_pages(self);
}

struct carrier vchan_carrier(struct vchan *vchan)
{
#define FUNCTIONS                                                                                            \
	.rings = rings, .hear = hear, .notify = notify, .state = state, .has_died = has_died,                \
	.close = close_vchan, .is_granter = is_granter, .pages = pages
	static const struct carrier_functions functions = {FUNCTIONS},
					      guarded = {FUNCTIONS, .is_sound = is_sound};

	return (struct carrier){vchan_is_guarded(vchan) ? &guarded : &functions, vchan};
}
