/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Endpoints that are started on demand, in the image that a daemon hands over (base/image.h): a section for
 * each, whatever its state, and one for each command that is only to be stopped and reaped. What waits are
 * channels like all others, with an end in the waiting room.
 *
 *   state      in the next daemon
 *   IDLE       the same
 *   STARTING   a command that is still a child is watched on; else it is started again. A unit is asked for
 *              again, within the time that is left: to systemd that changes nothing. There is always enough
 *              left to read what the program has said during the hand-over
 *   RUNNING    IDLE, until its program's endpoint is read, too; then what waits is led on
 *   LINGERING  the same, or, if the command isn't a child, as if it had ended
 *   PAUSED     the same, as long as it would have been
 *
 * Where the file has gone meanwhile, what waits ends with ENOENT, as by a reload.
 */

#include "daemon/activation/activation_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "daemon/activation/starter.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "wire/ut.h"

#define UNREAD_MS 1000u /* to read what a program has said during the hand-over: once for each wait */

/* --- the old daemon --------------------------------------------------------------------------- */

static void activations_each_hop(void *self, void (*each)(void *userdata, struct hop *hop), void *userdata)
{
	const struct activations *activations = self;
	struct activation *activation;

	LL_FOREACH(activations->list, activation)
		each(userdata, &activation->waiting_room);
}

static uint32_t activations_number(void *self, uint32_t first)
{
	const struct activations *activations = self;
	struct activation *activation;

	LL_FOREACH(activations->list, activation)
		hop_set_image_number(&activation->waiting_room, first++);
	return first;
}

static void progress_image(struct image *image, struct activation_progress *progress)
{
	uint32_t state = progress->state;

	image_upto(image, &state, ACTIVATION_PAUSED);
	progress->state = (enum activation_state)state;
	image_u32(image, &progress->starts);
	image_u64(image, &progress->burst_ms);
	image_u32(image, &progress->pause_ms);
	image_bool(image, &progress->in_storm);
}

/* Of a start or pause that is under way. */
static void deadline_image(struct image *image, struct activation *activation)
{
	struct deadline *deadline = &activation->deadline;
	uint32_t left = DEADLINE_OFF;

	if (!image->is_read)
		left = deadline_to_hand_over(deadline, activation->progress.state == ACTIVATION_PAUSED
							       ? 0
							       : activation->settings->timeout_ms);
	image_u32(image, &left);
	image_bool(image, &activation->is_extended);
	if (!image->is_read || image->error || left == DEADLINE_OFF)
		return;
	if (left < UNREAD_MS && !activation->is_extended && activation->progress.state != ACTIVATION_PAUSED) {
		left = UNREAD_MS;
		activation->is_extended = true;
	}
	deadline_set(deadline, left);
}

static void command_image(struct image *image, struct activation *activation)
{
	bool lives = !image->is_stored && activation->start && start_lives(activation->start);

	image_bool(image, &lives);
	if (lives && !image->error)
		start_image(image, activation->activations->starter, &activation->start,
			    activation_on_start_ended, activation);
}

static void waiting_room_image(struct image *image, struct activation *activation)
{
	hop_inner_image(image, &activation->waiting_room);
	progress_image(image, &activation->progress);
	deadline_image(image, activation);
	command_image(image, activation);
	image_u64(image, &activation->starts);
	image_text(image, activation->why, sizeof(activation->why));
}

static void activations_write(void *self, struct image *image)
{
	struct activations *activations = self;
	struct activation *activation;

	LL_FOREACH(activations->list, activation) {
		image_section(image, IMAGE_ROOM);
		image_text(image, activation->settings->endpoint, sizeof(activation->settings->endpoint));
		waiting_room_image(image, activation);
	}
	if (!image->is_stored)
		starter_write_forgotten(activations->starter, image);
}

static void activations_write_channels(void *self, struct image *image)
{
	const struct activations *activations = self;
	const struct activation *activation;

	LL_FOREACH(activations->list, activation)
		hop_write_channels(image, &activation->waiting_room);
}

void activations_stop_commands(struct activations *activations)
{
	struct activation *activation;

	LL_FOREACH(activations->list, activation)
		if (activation->start && activation->progress.state != ACTIVATION_RUNNING)
			start_stop(activation->start);
}

/* --- the next one ----------------------------------------------------------------------------- */

/* Makes one whose file has gone: what waits for it needs a waiting room until it can end. NULL: out of
 * memory. */
static struct activation *make_gone(struct activations *activations, const char *endpoint)
{
	struct activation_settings *settings = calloc(1, sizeof(*settings));
	struct activation *activation;

	if (!settings)
		return NULL;
	snprintf(settings->endpoint, sizeof(settings->endpoint), "%s", endpoint);
	if (activation_make(&activation, activations, settings) < 0)
		return NULL;
	activation->has_gone = true;
	LL_PREPEND(activations->list, activation);
	return activation;
}

/* Has one that was read begin afresh. */
static void activation_image_drop(struct activations *activations, struct activation *activation)
{
	hop_reset_channels(&activation->waiting_room, ECONNRESET);
	if (activation->start)
		start_stop(activation->start);
	evtimer_del(activation->deadline.timer);
	activation->progress = (struct activation_progress){0};
	if (!activation->has_gone)
		return;
	LL_DELETE(activations->list, activation);
	activation_free(activation);
}

static void read_room(void *self, struct image *image, struct image_hops *hops)
{
	struct activations *activations = self;
	char endpoint[ENDPOINT_NAME_MAX + 1] = "";
	struct activation *activation;

	image_text(image, endpoint, sizeof(endpoint));
	if (image->error)
		return;
	activation = activations_find(activations, endpoint);
	if (!activation)
		activation = make_gone(activations, endpoint);
	if (!activation) {
		image_fail(image, -ENOMEM);
		return;
	}
	image_expect(image, !activation->is_in_image);
	if (image->error)
		return;
	activation->is_in_image = true;
	if (!image->error)
		waiting_room_image(image, activation);
	if (activation->progress.state == ACTIVATION_RUNNING)
		activation->progress.state = ACTIVATION_IDLE;
	if (!image->error && image_hops_add(hops, &activation->waiting_room) < 0)
		image_fail(image, -ENOMEM);
	if (image->error)
		activation_image_drop(activations, activation);
}

static void read_command(void *self, struct image *image, struct image_hops *hops)
{
	struct activations *activations = self;
	struct start *start;

	start_image(image, activations->starter, &start, NULL, NULL);
}

/* A command begins anew, with its whole time. */
static void activation_image_go_on(struct activation *activation)
{
	bool lives = activation->start && start_lives(activation->start);

	if (activation->progress.state == ACTIVATION_STARTING && !activation->start) {
		if (activation->settings->command)
			activation_start(activation);
		else
			activation_launch(activation);
	}
	if (activation->progress.state == ACTIVATION_LINGERING && !lives)
		activation_happen(activation, ACTIVATION_ENDED);
}

/* What waits goes on to wait, or is led to a program. */
static void activations_go_on(void *self)
{
	struct activations *activations = self;
	struct activation *activation, *next;

	LL_FOREACH_SAFE(activations->list, activation, next) {
		if (!activation->has_gone) {
			activation_image_go_on(activation);
			continue;
		}
		LL_DELETE(activations->list, activation);
		hop_reset_channels(&activation->waiting_room, ENOENT);
		activation_free(activation);
	}
	starter_look(activations->starter);
}

/* What waits ends, and what was started is stopped. */
static void activations_drop(void *self)
{
	struct activations *activations = self;
	struct activation *activation, *next;

	LL_FOREACH_SAFE(activations->list, activation, next)
		if (activation->is_in_image)
			activation_image_drop(activations, activation);
}

const struct part activations_part = {
	.each_hop = activations_each_hop,
	.number = activations_number,
	.write = activations_write,
	.write_channels = activations_write_channels,
	.sections = {{IMAGE_ROOM, read_room}, {IMAGE_COMMAND, read_command}},
	.go_on = activations_go_on,
	.drop = activations_drop,
};
