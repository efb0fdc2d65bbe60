/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/commands.h"

#include "cli/more/more.h"

/* The help is xenmsg's. */
const struct command commands[] = {
	{"top", cmd_top, "", NULL},
	{"doctor", cmd_doctor, "", NULL},
	{"policy", cmd_policy, "", NULL},
	{"exporter", cmd_exporter, "", NULL},
};
const size_t commands_count = sizeof(commands) / sizeof(commands[0]);
