/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/traits.h"

const struct hop_traits hop_traits[HOP_KINDS] = {
	[HOP_LINK] =
		{
			.outlets = 1,
			.first_chunk = 8192, /* waking it up takes longer than filling the rest */
			.numbers_frames = true,
			.whole_frames = true,
			.is_daemon = true,
		},
	[HOP_SHARED] =
		{
			.outlets = 2,
			.accepted_outlet = OUTLET_DELIVERIES,
			.first_chunk = HOP_CHUNK,
			.asks = true,
			.whole_frames = true,
			.release_means_taken = true,
		},
	[HOP_SOCKET] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.asks = true,
		},
	[HOP_MUX] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.asks = true,
			.whole_frames = true,
			.tells_late = true,
		},
	[HOP_STREAM] =
		{
			.outlets = 2,
			.accepted_outlet = OUTLET_DELIVERIES,
			.opened_outlet = OUTLET_DELIVERIES,
			.first_chunk = HOP_CHUNK,
			.whole_frames = true,
		},
	[HOP_ROOM] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.is_room = true,
		},
	[HOP_TOPIC] =
		{
			.outlets = 1,
			.first_chunk = HOP_CHUNK,
			.is_inner = true,
		},
};
