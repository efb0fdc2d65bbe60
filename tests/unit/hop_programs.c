/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/hop_programs.h"

struct participant *programs[8];

struct participant *to_program(struct participant *participant, const char *name)
{
	return name[0] == 'p' && name[1] >= '0' && name[1] < '8' ? programs[name[1] - '0'] : NULL;
}

struct participant *link_of[2];

struct participant *over_link(struct participant *participant, const char *name)
{
	return link_of[participant->hop.board == &participant->rig->board[1]];
}

struct participant *program_new(struct rig *rig, uint32_t ring, bool lenient, unsigned daemon)
{
	return participant_new(rig, &(struct rig_options){
					    .kind = lenient ? HOP_SOCKET : HOP_SHARED,
					    .ring = ring,
					    .daemon = daemon,
					    .parity = 1,
					    .adopt_indices = true,
				    });
}

struct participant *peer_new(struct rig *rig, uint32_t ring)
{
	return participant_new(
		rig,
		&(struct rig_options){.kind = HOP_LINK, .ring = ring, .parity = 0, .adopt_indices = true});
}

/* --- hostile ends ----------------------------------------------------------------------------- */

void hostile_start(struct hostile *hostile, enum hop_kind kind)
{
	rig_start(&hostile->rig, 1);
	programs[0] = hostile->bad = kind == HOP_SHARED ? program_new(&hostile->rig, 65536, false, 0)
							: peer_new(&hostile->rig, 65536);
	programs[1] = hostile->good = program_new(&hostile->rig, 65536, false, 0);
	programs[2] = hostile->receiver = program_new(&hostile->rig, 65536, false, 0);
	for (unsigned i = 0; i < 3; i++)
		programs[i]->route = to_program;
	flow_start(hostile->good, 0, "p2", 1, 100000);
}

void only_the_bad_one_is_cut_off(struct hostile *hostile, int error)
{
	rig_settle(&hostile->rig);
	assert_true(hostile->bad->failed);
	assert_int_equal(hostile->bad->error, error);
	assert_int_equal(hostile->bad->hop.channels.count, 0);
	flows_run(&hostile->rig, 5000, 5000);
	assert_false(hostile->good->failed);
	assert_false(hostile->receiver->failed);
	rig_stop(&hostile->rig);
}
