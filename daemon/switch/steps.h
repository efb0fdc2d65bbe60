/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STEPS_H
#define XENMSG_DAEMON_STEPS_H

/*
 * The steps of channels, and of the bytes in them, for tracers (serve/tracers.h):
 *
 *   OPENED ──▶ CAME ──▶ SENT, or QUEUED and then SENT ──▶ TAKEN ──▶ FINISHED or ENDED
 *   REFUSED: it was never opened
 *
 * Each is of one direction. While nobody traces, board->steps is NULL, and a step costs the look at that.
 * Which messages a step is about is told by offsets in the stream, since a run of small messages goes through
 * the daemon as one piece.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"

enum step_kind {
	STEP_OPENED,	/* and led to the other hop */
	STEP_CAME,	/* bytes came in */
	STEP_SENT,	/* and were written to where they go */
	STEP_QUEUED,	/* or wait here for room */
	STEP_TAKEN,	/* by the receiver, as far as this daemon knows */
	STEP_FINISHED,	/* no more comes in this direction */
	STEP_ENDED,	/* by an error, which this end is told */
	STEP_CANCELLED, /* a message that nobody takes, since its sender wants it back */
	STEP_REFUSED,
};

/* The other side of an end. */
enum step_place_kind {
	PLACE_NOBODY,
	PLACE_PROGRAM,	    /* its pid, 0: it isn't known */
	PLACE_DOMAIN,	    /* a daemon there, by its domid */
	PLACE_HOST,	    /* the same of another host, by its number */
	PLACE_WAITING_ROOM, /* nobody yet: it waits */
	PLACE_TOPIC,
};
struct step_place {
	enum step_place_kind kind;
	uint32_t number;
};
struct step_place step_place(const struct channel_end *end);

struct channel_step {
	enum step_kind kind;
	const struct channel *channel;
	/* where it happens: where bytes come in, where they go out and are taken, who has finished or is told
	 * of an end */
	const struct channel_end *end;
	struct step_place place;
	bool is_back;		/* in the direction to the opener */
	uint64_t begin, upto;	/* of the stream */
	uint32_t messages;	/* that end there, as far as that is known */
	size_t queued;		/* bytes that wait there now */
	int error;		/* a positive errno */
	struct frame_text name; /* STEP_REFUSED: what was to be opened */
};

/* Behind which other channels the bytes of a step QUEUED wait: whose bytes the program there has in its ring
 * and hasn't taken, and who waits for the same room before it. Returns how many were written, the next one to
 * be written out first. So many means that there may be more. */
#define STEPS_AHEAD_MAX 16u
unsigned steps_ahead(const struct channel_step *step, const struct channel *ahead[STEPS_AHEAD_MAX]);

/* A tracer is told of each. It may read the switch, and change nothing of it, nor board->steps: what happens
 * may have several steps. */
struct steps {
	void (*tell)(void *userdata, const struct channel_step *step);
	void *userdata;
};

void steps_tell(const struct channel_end *end, enum step_kind kind, int error);
void steps_tell_refused(const struct channel *channel, const struct hop *hop, struct frame_text name,
			int error);
void steps_tell_data(struct channel_end *end, uint32_t length, uint32_t messages);
void steps_tell_sent(const struct channel_end *end, uint32_t length);
void steps_tell_cancelled(const struct channel *channel, uint64_t upto);
void steps_tell_taken(const struct channel_end *end, uint64_t before);

static inline bool steps_are_told(const struct switchboard *board)
{
	return __builtin_expect(board->steps != NULL, 0);
}

/* Something happens at this end. */
static inline void steps_note(const struct channel_end *end, enum step_kind kind, int error)
{
	if (steps_are_told(end->channel->board))
		steps_tell(end, kind, error);
}

/* So many bytes came in at this end, and went on, or wait. */
static inline void steps_note_data(struct channel_end *end, uint32_t length, uint32_t messages)
{
	if (steps_are_told(end->channel->board))
		steps_tell_data(end, length, messages);
}

/* So many bytes that had waited here went out. */
static inline void steps_note_sent(const struct channel_end *end, uint32_t length)
{
	if (steps_are_told(end->channel->board))
		steps_tell_sent(end, length);
}

/* The message of the opener's that ends at this offset is cancelled, if that is the result (0 or a negative
 * errno). */
static inline void steps_note_cancelled(const struct channel *channel, uint64_t upto, int result)
{
	if (steps_are_told(channel->board) && result == -ECANCELED)
		steps_tell_cancelled(channel, upto);
}

/* The stream that goes out here was taken up to end->consumed; up to `before` it was already. */
static inline void steps_note_taken(const struct channel_end *end, uint64_t before)
{
	if (steps_are_told(end->channel->board))
		steps_tell_taken(end, before);
}

#endif
