/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/watch_events.h"

#include <errno.h>

#include "daemon/local/session.h"
#include "daemon/relay/hop.h"
#include "wire/frame.h"

void watch_event(struct session *session, uint32_t watch, const struct frame_event *event, bool *is_cut_off)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];

	if (*is_cut_off || hop_send(session_hop(session), FRAME_EVENT, 0, watch, payload,
				    frame_event_encode(event, payload)) == 0)
		return;
	*is_cut_off = true;
	session_cut_off(session, -ENOBUFS, "the program doesn't read its events");
}
