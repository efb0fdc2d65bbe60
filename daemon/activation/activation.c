/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/activation/activation_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/activation/starter.h"
#include "base/clock.h"
#include "base/cost.h"
#include "base/log.h"
#include "base/quota.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop_image.h"
#include "wire/text.h"
#include "wire/ut.h"

#define LED_AT_ONCE 8u	  /* channels in one turn: each costs about as much as an OPEN, or a stream */
#define COST_START  8192u /* a fork, or a request to systemd; the pauses bound how often */

/* --- what waits ------------------------------------------------------------------------------- */

static struct channel *next_waiting(const struct activation *activation, uint32_t *number)
{
	struct channel_end *end = hop_next_channel(&activation->waiting_room, number);

	return end ? end->channel : NULL;
}

/* Returns what came first: numbers are given out in rotation, so it has the lowest one from the next to be
 * given out, and only behind the highest the lowest of all. */
static struct channel *first_waiting(const struct activation *activation)
{
	uint32_t number = hop_next_number(&activation->waiting_room), lowest = 0;
	struct channel *channel = next_waiting(activation, &number);

	return channel ? channel : next_waiting(activation, &lowest);
}

bool activation_has_waiting(const struct activation *activation)
{
	return hop_channel_count(&activation->waiting_room) > 0;
}

/* Whether the opener may have another place. Accounts that hold some are few, since each gets a share of what
 * is left: sixteen fill the waiting room. */
static bool has_place(struct activation *activation, const struct channel *channel)
{
	const struct account *holders[ACTIVATION_WAITING_MAX];
	unsigned held = 0, count = 0, waiting;
	struct channel *other;
	uint32_t number = 0;

	if (hop_channel_count(&activation->waiting_room) > ACTIVATION_WAITING_MAX)
		return false; /* another program's image may have had room for more */
	while ((other = next_waiting(activation, &number))) {
		unsigned i;

		if (channel_is_abandoned(other)) {
			channel_forbid(other, ENOENT);
			continue;
		}
		held += account_is(other->charge.account, channel->charge.account);
		for (i = 0; i < count && !account_is(holders[i], other->charge.account); i++)
			;
		if (i == count)
			holders[count++] = other->charge.account;
	}
	waiting = hop_channel_count(&activation->waiting_room);
	switch_spend(activation->activations->board, channel->charge.account, waiting);
	return quota_share(ACTIVATION_WAITING_MAX - waiting, count + (held == 0), held) > 0;
}

/* Ends what waits: nothing of it was taken. */
static void end_waiting(struct activation *activation, int error)
{
	hop_reset_channels(&activation->waiting_room, error);
}

static void on_leading(struct task *task)
{
	struct activation *activation =
		(struct activation *)((char *)task - offsetof(struct activation, leading));
	struct activations *activations = activation->activations;
	struct channel *channel;

	for (unsigned i = 0; i < LED_AT_ONCE && activation->progress.state == ACTIVATION_RUNNING; i++) {
		int r = -ENOENT;

		channel = first_waiting(activation);
		if (!channel)
			return;
		switch_spend(activations->board, channel->charge.account, COST_OPEN);
		if (!channel_is_abandoned(channel))
			r = activations->callbacks->lead(activations->userdata, channel,
							 activation->settings->endpoint);
		if (r < 0)
			channel_forbid(channel, r == -ENOMEM ? ENOBUFS : -r);
	}
	if (activation_has_waiting(activation) && activation->progress.state == ACTIVATION_RUNNING)
		task_due(task);
}

/* --- what the states mean --------------------------------------------------------------------- */

static bool command_lives(const struct activation *activation)
{
	return activation->start && start_lives(activation->start);
}

static struct activation_facts facts(const struct activation *activation)
{
	return (struct activation_facts){.waiting = activation_has_waiting(activation),
					 .lives = command_lives(activation),
					 .now_ms = clock_ms()};
}

static void activation_fail(struct activation *activation, const char *why)
{
	snprintf(activation->why, sizeof(activation->why), "%s", why);
	activation_happen(activation, ACTIVATION_FAILED);
}

void activation_on_start_ended(void *userdata, const char *why)
{
	struct activation *activation = userdata;

	activation->start = NULL;
	if (activation->progress.state == ACTIVATION_STARTING)
		snprintf(activation->why, sizeof(activation->why), "%s", why);
	activation_happen(activation, ACTIVATION_ENDED);
}

static void activation_on_timer(int fd, short what, void *userdata)
{
	struct activation *activation = userdata;
	char why[96];

	if (activation->progress.state == ACTIVATION_PAUSED) {
		activation_happen(activation, ACTIVATION_PAUSE_OVER);
		return;
	}
	if (!deadline_is_over(&activation->deadline, activation->settings->timeout_ms))
		return;
	snprintf(why, sizeof(why), "the %s hasn't bound the endpoint%s within %u ms",
		 command_lives(activation) ? "command" : "program",
		 activation->progress.state == ACTIVATION_LINGERING ? " again" : "",
		 activation->settings->timeout_ms);
	activation_fail(activation, why);
}

void activation_launch(struct activation *activation)
{
	const struct activation_settings *settings = activation->settings;
	struct activations *activations = activation->activations;
	char why[160];
	int error;

	switch_spend(activations->board, NULL, COST_START);
	activation->start =
		start_new(activations->starter, settings, activation_on_start_ended, activation, &error);
	if (activation->start)
		return;
	if (settings->unit)
		snprintf(why, sizeof(why),
			 "systemd can't be asked: %s (is D-Bus there? systemctl start dbus.socket)",
			 strerror(-error));
	else
		snprintf(why, sizeof(why), "the program can't be started: %s", strerror(-error));
	activation_fail(activation, why);
}

static void await_bind(struct activation *activation)
{
	activation->is_extended = false;
	deadline_set(&activation->deadline, activation->settings->timeout_ms);
}

void activation_start(struct activation *activation)
{
	const struct activation_settings *settings = activation->settings;

	if (activation->activations->stopping)
		return;
	activation->starts++;
	log_info("endpoint %s: starting %s", settings->endpoint,
		 settings->unit ? settings->unit : settings->words);
	await_bind(activation);
	activation_launch(activation);
}

static void forget_start(struct activation *activation)
{
	if (activation->start)
		start_forget(activation->start);
	activation->start = NULL;
}

/* A command is remembered until it has ended: until then no other is started. */
static void stop_start(struct activation *activation)
{
	if (command_lives(activation))
		start_stop(activation->start);
	else
		forget_start(activation);
}

static void pause_starting(struct activation *activation)
{
	const struct activation_progress *progress = &activation->progress;

	if (progress->in_storm)
		snprintf(activation->why, sizeof(activation->why),
			 "the program was started %u times within %u s and went each time", progress->starts,
			 ACTIVATION_BURST_MS / 1000);
	log_warning("endpoint %s: %s; what waited gets ENOENT, and nothing is started for %.1f s",
		    activation->settings->endpoint, activation->why, progress->pause_ms / 1000.0);
	deadline_set(&activation->deadline, progress->pause_ms);
}

static void activation_act(struct activation *activation, unsigned actions)
{
	if (actions & ACTIVATION_END)
		end_waiting(activation, ENOENT);
	if (actions & ACTIVATION_STOP)
		stop_start(activation);
	if (actions & ACTIVATION_START)
		activation_start(activation);
	if (actions & ACTIVATION_LEAD)
		task_due(&activation->leading);
	if (actions & ACTIVATION_PAUSE)
		pause_starting(activation);
	if (actions & ACTIVATION_SETTLED) {
		evtimer_del(activation->deadline.timer);
		if (!command_lives(activation))
			forget_start(activation);
		activation->why[0] = '\0';
	}
	if (actions & ACTIVATION_AWAIT && !evtimer_pending(activation->deadline.timer, NULL))
		await_bind(activation);
}

void activation_happen(struct activation *activation, enum activation_event event)
{
	activation_act(activation, activation_step(&activation->progress, event, facts(activation)));
}

int activation_wait(struct activation *activation, struct channel *channel)
{
	struct activation_progress before = activation->progress;
	unsigned actions;
	int r = 0;

	if (!has_place(activation, channel))
		return -ENOBUFS;
	actions = activation_step(&activation->progress, ACTIVATION_CAME, facts(activation));
	if (actions & ACTIVATION_REFUSE)
		r = -ENOENT;
	if (r == 0)
		r = channel_accept(channel, &activation->waiting_room, activation->settings->endpoint);
	if (r < 0) {
		activation->progress = before;
		return r;
	}
	activation_act(activation, actions);
	return 0;
}

void activation_bound(struct activation *activation)
{
	activation_happen(activation, ACTIVATION_BOUND);
}

void activation_unbound(struct activation *activation)
{
	task_cancel(&activation->leading);
	activation_happen(activation, ACTIVATION_UNBOUND);
}

bool activation_may_bind(const struct activation *activation, uid_t uid)
{
	return activation->settings->uid == uid;
}

const char *activation_endpoint(const struct activation *activation)
{
	return activation->settings->endpoint;
}

struct activation_info activation_info(const struct activation *activation)
{
	const struct activation_settings *settings = activation->settings;

	return (struct activation_info){
		.state = activation_state_name(activation->progress.state),
		.user = settings->user,
		.unit = settings->unit,
		.command = settings->words,
		.why = activation->why,
		.pause_ms = activation->progress.state == ACTIVATION_PAUSED
				    ? deadline_left(&activation->deadline, 0)
				    : 0,
		.waiting = hop_channel_count(&activation->waiting_room),
		.starts = activation->starts,
	};
}

/* --- life ------------------------------------------------------------------------------------- */

/* A waiting room is never attached, so it can't fail. */
static void on_waiting_room_failed(void *owner, int error, const char *why)
{
}

static const struct hop_callbacks waiting_room_callbacks = {.failed = on_waiting_room_failed};

void activation_free(struct activation *activation)
{
	/* A program that has bound the endpoint goes on, as one does that wasn't started on demand. */
	if (activation->start && activation->progress.state != ACTIVATION_RUNNING)
		start_stop(activation->start);
	forget_start(activation);
	hop_cleanup(&activation->waiting_room);
	task_cancel(&activation->leading);
	free_event(activation->deadline.timer);
	activation_settings_free(activation->settings);
	free(activation);
}

int activation_make(struct activation **out, struct activations *activations,
		    struct activation_settings *settings)
{
	struct activation *activation = calloc(1, sizeof(*activation));
	struct switchboard *board = activations->board;
	int r = -ENOMEM;

	if (activation)
		r = hop_init(&activation->waiting_room, board, HOP_WAITING_ROOM, &waiting_room_callbacks,
			     activation, 0, ACTIVATION_WAITING_MAX);
	if (r < 0) {
		free(activation);
		activation_settings_free(settings);
		return r;
	}
	activation->activations = activations;
	activation->settings = settings;
	activation->stays = true;
	hop_set_image_number(&activation->waiting_room,
			     0); /* it is in every image, unless it is left before */
	task_init(&activation->leading, &board->turns, NULL, on_leading);
	activation->deadline.timer = evtimer_new(board->base, activation_on_timer, activation);
	if (!activation->deadline.timer) {
		activation_free(activation);
		return -ENOMEM;
	}
	*out = activation;
	return 0;
}

/* Takes over the settings, also on failure. */
static int activation_add(struct activations *activations, struct activation_settings *settings)
{
	struct activation *activation;
	int r = activation_make(&activation, activations, settings);

	if (r < 0)
		return r;
	r = activations->callbacks->added(activations->userdata, activation);
	if (r < 0)
		activation_free(activation);
	else
		LL_PREPEND(activations->list, activation);
	return r;
}

static void remove_activation(struct activations *activations, struct activation *activation)
{
	LL_DELETE(activations->list, activation);
	end_waiting(activation, ENOENT);
	activations->callbacks->removed(activations->userdata, activation);
	activation_free(activation);
}

/* Keeps why reading or taking the files has failed, for status and systemd. The text may quote what a file
 * holds, so only printable ASCII is kept. Takes over the error; NULL: `r` says it. Returns `r`. */
static int activations_fail(struct activations *activations, int r, char *error)
{
	if (!error)
		error = strdup(strerror(-r));
	log_error("activation: %s%s", error ? error : strerror(-r),
		  activations->list ? "; the old files stay in force, and the old rules" : "");
	if (error)
		text_make_ascii(error, strlen(error), ' ');
	free(activations->error);
	activations->error = error;
	return r;
}

struct activation *activations_find(const struct activations *activations, const char *endpoint)
{
	struct activation *activation;

	LL_FOREACH(activations->list, activation)
		if (!strcmp(activation->settings->endpoint, endpoint))
			return activation;
	return NULL;
}

/* Adds those that aren't there yet, or none. Takes their settings over from the list, also on failure. */
static int add_new(struct activations *activations, struct activation_settings **list)
{
	struct activation_settings *settings, *next;
	const struct activation *before = activations->list;
	int r = 0;

	LL_FOREACH_SAFE(*list, settings, next) {
		if (r < 0 || activations_find(activations, settings->endpoint))
			continue;
		LL_DELETE(*list, settings);
		settings->next = NULL;
		r = activation_add(activations, settings);
	}
	while (r < 0 && activations->list != before)
		remove_activation(activations, activations->list);
	return r;
}

/* Makes the activations what the files say: what can fail comes first, and is undone. */
int activations_take(struct activations *activations, struct activation_settings *list)
{
	struct activation_settings *settings, *next_settings;
	struct activation *activation, *next;
	int r;

	LL_FOREACH(activations->list, activation)
		activation->stays = false;
	r = add_new(activations, &list);
	if (r < 0) {
		activation_settings_free(list);
		return activations_fail(activations, r, NULL);
	}
	LL_FOREACH_SAFE(list, settings, next_settings) {
		settings->next = NULL;
		activation = activations_find(activations, settings->endpoint);
		activation_settings_free(activation->settings);
		activation->settings = settings;
		activation->stays = true;
	}
	LL_FOREACH_SAFE(activations->list, activation, next)
		if (!activation->stays)
			remove_activation(activations, activation);
	return 0;
}

int activations_read(struct activations *activations, struct activation_settings **list)
{
	char *error;
	int r = activation_read(list, activations->directory, activations->runs_as, &error);

	if (r < 0)
		return activations_fail(activations, r, error);
	free(activations->error);
	activations->error = NULL;
	return 0;
}

int activations_reload(struct activations *activations)
{
	struct activation_settings *list;
	int r = activations_read(activations, &list);

	return r < 0 ? r : activations_take(activations, list);
}

const char *activations_error(const struct activations *activations)
{
	return activations->error;
}

int activations_new(struct activations **out, struct switchboard *board, const char *directory, uid_t runs_as,
		    const char *socket, const struct activation_callbacks *callbacks, void *userdata)
{
	struct activations *activations = calloc(1, sizeof(*activations));
	int r;

	if (!activations)
		return -ENOMEM;
	activations->board = board;
	activations->directory = directory;
	activations->runs_as = runs_as;
	activations->callbacks = callbacks;
	activations->userdata = userdata;
	r = starter_new(&activations->starter, board->base, socket);
	if (r < 0)
		free(activations);
	else
		*out = activations;
	return r;
}

void activations_stop(struct activations *activations)
{
	if (activations)
		activations->stopping = true;
}

void activations_free(struct activations *activations)
{
	struct activation *activation, *next;

	if (!activations)
		return;
	LL_FOREACH_SAFE(activations->list, activation, next)
		activation_free(activation);
	starter_free(activations->starter);
	free(activations->error);
	free(activations);
}
