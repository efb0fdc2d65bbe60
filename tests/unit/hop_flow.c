/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes from one participant to another, checked one by one, until all flows are done. */
#include "tests/unit/hop_rig.h"
#include "wire/ut.h"

#define STEPS_MAX 4000000 /* of a run: more means that it doesn't end */

void flow_start(struct participant *from, uint32_t number, const char *to, int flow, uint64_t goal)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_%d", to, flow);
	participant_open(from, number, name);
	participant_channel(from, number)->goal = (goal + 7) & ~7ull;
}

bool flow_is_done(struct participant *from, uint32_t number)
{
	struct participant_channel *channel = participant_channel(from, number);

	return channel->fin_in && channel->confirmed == channel->goal;
}

static uint32_t step_flow(struct participant *participant, uint32_t number, uint32_t send_max)
{
	struct participant_channel *channel = participant_channel(participant, number);
	uint64_t left = channel->goal - channel->sent;
	uint32_t size, done;

	if (!channel->used || !channel->is_opener || channel->fin_out || channel->reset_in)
		return 0;
	size = (rig_random(participant->rig, send_max) + 8) & ~7u; /* whole words, as messages are */
	if (size > left)
		size = (uint32_t)left;
	done = participant_data(participant, number, size, false);
	if (channel->sent == channel->goal) {
		participant_fin(participant, number);
		done++;
	}
	return done;
}

static bool all_done(struct rig *rig)
{
	struct participant *participant;

	LL_FOREACH(rig->parties, participant) {
		for (uint32_t i = 0; i < RIG_CHANNELS; i++)
			if (participant->channels[i].used && participant->channels[i].is_opener &&
			    participant->channels[i].goal && !participant->never_reads &&
			    !flow_is_done(participant, i))
				return false;
	}
	return true;
}

void flows_run(struct rig *rig, uint32_t send_max, uint32_t read_max)
{
	uint32_t idle = 0;

	for (uint32_t steps = 0; !all_done(rig); steps++) {
		struct participant *participant;
		uint32_t moved = 0;

		if (steps >= STEPS_MAX || idle > 1000)
			fail_msg("the flows stand still after %u steps", steps);
		LL_FOREACH(rig->parties, participant) {
			if (participant->wired || !hop_has_rings(&participant->hop))
				continue;
			if (rig_random(rig, 3))
				moved += participant_read(participant, rig_random(rig, read_max) + 8);
			for (uint32_t i = 0; i < RIG_CHANNELS; i++)
				if (rig_random(rig, 2))
					moved += step_flow(participant, i, send_max);
			/* Sometimes the daemon comes to it only after several of them. */
			if (rig_random(rig, 2))
				rig_settle(rig);
		}
		idle = moved ? 0 : idle + 1;
	}
	for (int i = 0; i < 4; i++) {
		struct participant *participant;

		rig_settle(rig);
		LL_FOREACH(rig->parties, participant)
			if (!participant->wired && hop_has_rings(&participant->hop))
				participant_read(participant, 1u << 30);
	}
	rig_settle(rig);
}
