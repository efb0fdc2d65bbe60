/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACTIVATION_INTERNAL_H
#define XENMSG_DAEMON_ACTIVATION_INTERNAL_H

/* Endpoints that are started on demand, for activation.c and activation_image.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/timer.h"
#include "base/turns.h"
#include "daemon/activation/activation.h"
#include "daemon/activation/activation_read.h"
#include "daemon/activation/activation_step.h"
#include "daemon/switch/hop.h"

struct activation {
	struct activations *activations;
	struct activation_settings *settings; /* owned */
	struct activation_progress progress;
	struct hop waiting_room;
	struct deadline deadline; /* of the start, or of the pause */
	bool is_extended;	  /* the start's, by a hand-over */
	struct start *start;	  /* under way, or a command that lives; NULL: neither */
	struct task leading;
	uint64_t starts;
	char why[160];
	bool stays;	  /* in a reload: its file is still there */
	bool is_in_image; /* it was read from one */
	bool has_gone;	  /* since the image was made: it has no file, and others don't know of it */
	struct activation *next;
};

struct activations {
	struct switchboard *board;
	const char *directory;
	uid_t runs_as;
	struct starter *starter;
	const struct activation_callbacks *callbacks;
	void *userdata;
	struct activation *list;
	char *error;
	bool stopping;
};

/* Makes one that others aren't told of yet. Takes over the settings, also on failure. -ENOMEM. */
int activation_make(struct activation **activation, struct activations *activations,
		    struct activation_settings *settings);
void activation_free(struct activation *activation);
/* NULL: nothing of this name is started on demand. */
struct activation *activations_find(const struct activations *activations, const char *endpoint);
/* Starts the program, counted as a start, and with its whole time. */
void activation_start(struct activation *activation);
/* The same without either. */
void activation_launch(struct activation *activation);
/* Something has happened: does what the step says. */
void activation_happen(struct activation *activation, enum activation_event event);
/* What was started has ended (start_ended_fn). */
void activation_on_start_ended(void *userdata, const char *why);

#endif
