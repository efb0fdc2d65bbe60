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
#include "wire/ut.h"

#define UNREAD_MS 1000u /* to read what a program has said during the hand-over: once for each wait */

/* --- the old daemon --------------------------------------------------------------------------- */

uint32_t activations_number_for_image(struct activations *activations, uint32_t first)
{
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

static void command_image(struct image *image, struct activation *activation, bool children_stay)
{
	bool lives = children_stay && activation->start && start_lives(activation->start);

	image_bool(image, &lives);
	if (lives && !image->error)
		start_image(image, activation->activations->starter, &activation->start,
			    activation_on_start_ended, activation);
}

static void waiting_room_image(struct image *image, struct activation *activation, bool children_stay)
{
	hop_inner_image(image, &activation->waiting_room);
	progress_image(image, &activation->progress);
	deadline_image(image, activation);
	command_image(image, activation, children_stay);
	image_u64(image, &activation->starts);
	image_text(image, activation->why, sizeof(activation->why));
}

void activations_write_image(struct activations *activations, struct image *image, bool children_stay)
{
	struct activation *activation;

	LL_FOREACH(activations->list, activation) {
		image_section(image, IMAGE_ROOM);
		image_text(image, activation->settings->endpoint, sizeof(activation->settings->endpoint));
		waiting_room_image(image, activation, children_stay);
	}
	if (children_stay)
		starter_write_forgotten(activations->starter, image);
}

void activations_write_channels(const struct activations *activations, struct image *image)
{
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

void activations_read_waiting_room(struct activations *activations, struct image *image,
				   struct image_hops *hops)
{
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
		waiting_room_image(image, activation, true);
	if (activation->progress.state == ACTIVATION_RUNNING)
		activation->progress.state = ACTIVATION_IDLE;
	if (!image->error && image_hops_add(hops, &activation->waiting_room) < 0)
		image_fail(image, -ENOMEM);
	if (image->error)
		activation_image_drop(activations, activation);
}

void activations_read_command(struct activations *activations, struct image *image)
{
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

void activations_go_on(struct activations *activations)
{
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

void activations_drop_image(struct activations *activations)
{
	struct activation *activation, *next;

	LL_FOREACH_SAFE(activations->list, activation, next)
		if (activation->is_in_image)
			activation_image_drop(activations, activation);
}
