/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Links, whatever the peer, XenStore and programs do in whatever order. */
#include "tests/unit/link_rig.h"

#define STEPS 80

/* One thing that the peer, XenStore or a program may do at any time. */
static void do_something(struct scene *scene, unsigned what)
{
	struct vchan *vchan = scene->peer.vchan;
	uint8_t payload[64] = {0};
	int error = 0;

	switch (what) {
	case 0:
	case 1:
		bring_vchan(scene);
		break;
	case 2:
		links_lost(scene->links, peer_domain(7), true, "it is lost");
		break;
	case 3:
		links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "it has failed");
		break;
	case 4:
		links_want(scene->links, peer_domain(7), NULL, &error);
		break;
	case 5:
		ping(scene, 7);
		break;
	case 6:
		switch_pass(&scene->board);
		break;
	case 7:
		if (!scene->program.channels.count)
			open_channel(scene);
		break;
	case 8:
		forget_program_channels(scene);
		break;
	case 9:
		links_restart(scene->links);
		break;
	case 10:
		scene->is_up = !scene->is_up;
		break;
	case 11:
		time_passed_ms += DEAD_AFTER_MS;
		event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		break;
	case 12:
		if (vchan)
			vchan->state = VCHAN_CLOSED;
		break;
	default:
		if (!vchan || vchan->closed)
			break;
		if (what == 13)
			say_hello(scene, PROTOCOL_MAJOR);
		else if (what == 14)
			put(scene, FRAME_PING, 0, payload, 8);
		else if (what == 15)
			put(scene, FRAME_GOODBYE, 0, payload, 6);
		else
			notify_only(scene);
	}
}

static uint64_t next_random(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random >> 20;
}

/* Those of before the last one are closed when nothing is to be done any more, each once (vchan_close()
 * looks), and the rendezvous knows whether the last one is. */
TEST(each_vchan_is_closed_once_whatever_happens_when)
{
	uint64_t random = 88172645463325252u;

	for (unsigned run = 0; run < 3000; run++) {
		struct scene scene;

		scene_start(&scene);
		for (unsigned step = 0; step < STEPS; step++) {
			do_something(&scene, (unsigned)(next_random(&random) % 17));
			if (next_random(&random) % 4)
				continue;
			settle(&scene);
			assert_int_equal(scene.is_connected, scene.peer.vchan && !scene.peer.vchan->closed);
			assert_int_equal(open_vchans(), scene.is_connected);
		}
		scene_stop(&scene);
	}
}
