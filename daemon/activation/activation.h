/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACTIVATION_H
#define XENMSG_DAEMON_ACTIVATION_H

/*
 * Endpoints that are started on demand (xenmsg-activation(5)). Each is an `activation`, which has a waiting
 * room: a hop to nobody, where the channels wait that come before the program has bound the endpoint. They
 * are channels like any other there: their opener pays for them and for their windows, may cancel what it
 * sent, reset them, or go. Of its ACTIVATION_WAITING_MAX places nobody gets more than a share (quota.h).
 *
 * An endpoint is reached by what policy allows, and only then anything is started; only the user that its
 * file names may bind it. What waits ends with ENOENT when the program can't be started, ends, or hasn't
 * bound the endpoint in time; activation_step.h has the states. When it has bound, the channels are led to it
 * in the order in which they came, some in each turn.
 *
 * The router tells what is bound, and leads the channels. An activation lives until its file has gone; the
 * router is told first, by `removed`, and forgets it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ACTIVATION_WAITING_MAX 256u

struct activation;
struct activation_settings;
struct activations;
struct channel;
struct hop;
struct image;
struct image_hops;
struct switchboard;

struct activation_callbacks {
	/* The endpoint is started on demand from now on. -ENOMEM. */
	int (*added)(void *userdata, struct activation *activation);
	/* It isn't any more. */
	void (*removed)(void *userdata, struct activation *activation);
	/* Leads a channel that has waited to the program; an error ends it. */
	int (*lead)(void *userdata, struct channel *channel, const char *endpoint);
};

/* `runs_as`: the user that the daemon runs as, or will; `socket`: where programs find it; `directory`,
 * `socket` and the board must outlive this. Reads nothing yet. 0 or -ENOMEM. */
int activations_new(struct activations **activations, struct switchboard *board, const char *directory,
		    uid_t runs_as, const char *socket, const struct activation_callbacks *callbacks,
		    void *userdata);
/* Starts nothing any more. NULL is allowed. */
void activations_stop(struct activations *activations);
/* Ends what waits with ECONNRESET, and stops the commands that were started. `removed` isn't called. */
void activations_free(struct activations *activations);
/* Reads the files again; the caller passes *list to activations_take() or frees it (activation_read.h).
 * -EINVAL: a file has a mistake; else why it can't be read. An error has been logged, and activations_error()
 * has it. */
int activations_read(struct activations *activations, struct activation_settings **list);
/* Has these in force, and takes over the list. What has stayed keeps its state, and what has waited for one
 * that has gone ends with ENOENT. -ENOMEM, logged likewise: the old ones stay. */
int activations_take(struct activations *activations, struct activation_settings *list);
/* Does both. */
int activations_reload(struct activations *activations);
/* Returns what was wrong in the last reload, so that older files are in force; NULL: nothing. */
const char *activations_error(const struct activations *activations);

/* --- an image that is handed over (base/image.h) --- */

/* A section for each endpoint and its waiting room. Commands that were started are only in it if they stay
 * children of the next daemon (the image isn't stored); else it starts them again. */
extern const struct part activations_part;
/* Stops what can't be handed over to another process: commands that haven't bound their endpoints. */
void activations_stop_commands(struct activations *activations);

const char *activation_endpoint(const struct activation *activation);
/* Makes the channel wait, and has the program started. -ENOENT: it failed a moment ago; -ENOBUFS: too many
 * wait, or the opener has no room; -ENOMEM. */
int activation_wait(struct activation *activation, struct channel *channel);
/* Whether channels wait, also those that are still to be led to the program. */
bool activation_has_waiting(const struct activation *activation);
/* Whether a program of this user may bind the endpoint. */
bool activation_may_bind(const struct activation *activation, uid_t uid);
/* Called when a program has bound the endpoint, and when it has unbound it or gone. */
void activation_bound(struct activation *activation);
void activation_unbound(struct activation *activation);

/* What status tells. The strings live as long as the activation, and until the next event. */
struct activation_info {
	const char *state; /* as activation_state_name() */
	const char *user;
	const char *unit, *command; /* one of them; the other is NULL */
	const char *why;	    /* the last failure, "": there was none since it last ran */
	uint32_t pause_ms;	    /* until it is started again, if somebody wants it; 0: at once */
	unsigned waiting;	    /* channels */
	uint64_t starts;	    /* ever */
};
struct activation_info activation_info(const struct activation *activation);

#endif
