/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/vchan_transport.h"

#include "daemon/xen/vchan.h"

static void rings(void *carrier, struct ring_view *in, struct ring_view *out)
{
	vchan_read_view(carrier, in);
	vchan_write_view(carrier, out);
}

static void hear(void *carrier, transport_event_fn event, void *userdata)
{
	vchan_set_event(carrier, event, userdata);
}

static int notify(void *carrier)
{
	return vchan_notify(carrier);
}

static enum transport_state state(void *carrier)
{
	switch (vchan_state(carrier)) {
	case VCHAN_WAITING:
		return TRANSPORT_WAITING;
	case VCHAN_CONNECTED:
		return TRANSPORT_OPEN;
	case VCHAN_CLOSED:
		return vchan_was_left(carrier) ? TRANSPORT_LEFT : TRANSPORT_CLOSED;
	default:
		return TRANSPORT_BROKEN;
	}
}

static bool has_died(void *carrier)
{
	return vchan_state(carrier) == VCHAN_CLOSED && vchan_has_died(carrier);
}

static bool is_sound(void *carrier)
{
	return vchan_is_sound(carrier);
}

static void close_vchan(void *carrier, bool to_resume)
{
	if (to_resume)
		vchan_leave(carrier);
	else
		vchan_close(carrier);
}

static bool is_granter(void *carrier)
{
	return vchan_is_granter(carrier);
}

static uint32_t pages(void *carrier)
{
	return vchan_pages(carrier);
}

struct link_transport vchan_transport(struct vchan *vchan)
{
#define FUNCTIONS                                                                                            \
	.rings = rings, .hear = hear, .notify = notify, .state = state, .has_died = has_died,                \
	.close = close_vchan, .is_granter = is_granter, .pages = pages
	static const struct transport_functions functions = {FUNCTIONS},
						guarded = {FUNCTIONS, .is_sound = is_sound};

	return (struct link_transport){vchan_is_guarded(vchan) ? &guarded : &functions, vchan};
}
