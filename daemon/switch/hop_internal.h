/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_INTERNAL_H
#define XENMSG_DAEMON_HOP_INTERNAL_H

/*
 * What the parts of a hop know of each other, in their order from below. Each calls only those before it:
 * scripts/check-floors has the order of all files here, and holds them to it.
 *
 *   control.c ─ cancel.c ─ channel.c ─ reassign.c ─ hop_output.c ─ hop_input.c ─ hop.c, switch.c
 *
 * So output never calls input: it marks what is due, and the pass gets to it.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/buffer.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"

struct image;

/* Of work in a turn, before the account's other tasks get theirs: 256 KiB of large frames, or 34 channels
 * that end. */
#define HOP_PIECE_UNITS	  2048u
#define HOP_POLL_FIRST_MS 2 /* then less and less often: for a program that takes without waking us */

static inline void hop_change(struct hop *hop, enum hop_change change)
{
	hop->life = hop_life_after(hop->life, change);
}

/* --- control.c: besides hop_send(), hop_answer(), hop_fail() and hop_mark(, MARK_DIRTY) */
/* Notifies the other end, which asked for it: a daemon now, a program after all output. */
void hop_notify(struct hop *hop);
void hop_notify_now(struct hop *hop);
/* Notes that `end` has a control frame to send. */
void channel_mark_urgent(struct channel_end *end);
/* Notes that `end` has spilled data, which its hop sends when there is room. */
void channel_mark_backlog(struct channel_end *end);
/* Makes the hop's input due. */
static inline void hop_due(struct hop *hop)
{
	task_due(&hop->input);
}

/* Lets the hop's input wait for room in the other one's output. */
void hop_wait_for(struct hop *hop, struct hop *output);
/* Ends the hop's waiting, or its grant. */
void hop_stop_waiting(struct hop *hop);
/* Ends the hop's grant: it was let go on before all others that wait for the same output, and that was its
 * turn. */
void hop_end_grant(struct hop *hop);
/* Lets the first waiter go on, before all others, in its next turn: if it gets some room it then goes to the
 * end of the line, if it gets none it stays the first. */
void hop_grant_next(struct hop *hop);
/* Lets every hop go on whose input waits for our output: what finds no room is spilled. */
void hop_release_waiters(struct hop *hop);
void hop_on_stuck(int fd, short what, void *userdata);
/* Whether `hop` must wait, since hops that wait for the same room come first, one after the other. */
static inline bool hop_must_wait(const struct hop *output, const struct hop *hop)
{
	return (output->waiting.waiters || output->waiting.granted) && output->waiting.granted != hop;
}

/* the part of what waits that is charged to nobody, and the step in which the rest is charged; larger than a
 * frame */
#define HOP_CONTROL_FREE 262144u
static inline unsigned hop_outlet_number(const struct hop *hop, const struct channel_end *end)
{
	return end->is_opener ? hop->traits->opened_outlet : hop->traits->accepted_outlet;
}
static inline struct outlet *hop_outlet(struct hop *hop, const struct channel_end *end)
{
	return &hop->out[hop_outlet_number(hop, end)];
}
/* The list of the ends that wait for the same room as this one. */
static inline struct channel_end **hop_backlog(struct hop *hop, const struct channel_end *end)
{
	bool is_paced = hop->traits->is_paced && !end->is_opener;

	return &hop->backlogs[is_paced ? OUTLET_DELIVERIES : hop_outlet_number(hop, end)];
}
/* Notes that the end has had its turn. */
static inline void hop_had_turn(const struct channel_end *end)
{
	if (end->hop->turn < end->turn)
		end->hop->turn = end->turn;
}
/* Has an end that isn't in its hop's backlog wait there for its account's next turn. */
void hop_await_turn(struct channel_end *end);
/* Ends the session for an error of an outlet. */
void hop_outlet_failed(struct hop *hop, int error) __attribute__((cold));
/* Publishes the outlets, the main ring first: the OPEN of a channel comes before its DATA among the
 * deliveries. One notification serves all. */
void hop_publish(struct hop *hop);
/* Whether the main ring has room for a frame of `size` bytes. */
static inline bool hop_has_room(struct hop *hop, uint32_t size)
{
	int r = outlet_has_room(&hop->out[OUTLET_MAIN], size);

	if (r < 0)
		hop_outlet_failed(hop, r);
	return r > 0;
}
/* Writes a whole frame that isn't DATA into the main ring, at the cost of `account`. The caller has checked
 * that there is room. */
void hop_put_frame(struct hop *hop, struct account *account, const struct frame_header *header,
		   const void *payload);
#define EMIT_UNITS 2048u /* units of work, before others have their turns */
/* Whether this hop has had its piece of work, or the pass its units. */
static inline bool hop_emit_is_over(const struct hop *hop)
{
	const struct turns *turns = &hop->board->turns;

	return turns_are_over(turns) || turns->spent - hop->emit_from >= EMIT_UNITS;
}
/* Returns how many bytes hop_send() has queued. */
static inline size_t hop_unsent(const struct hop *hop)
{
	return hop->control ? evbuffer_get_length(hop->control) : 0;
}
void hop_drop_unsent(struct hop *hop);
/* Writes what hop_send() has queued. False: some of it still waits. */
bool hop_emit_control(struct hop *hop);
/* Finds the word of the stream at `offset` in the ring of a program. -EALREADY: the program has released it;
 * -ENOENT: it isn't there as one word. */
int hop_handed_word(struct hop *hop, struct channel_end *end, uint64_t offset, uint32_t **word);
/* Returns in *offset up to where the program has released the stream by now, and in *mark the end of what it
 * had sent before that. Negative errno: the session has failed. */
int hop_find_released(struct hop *hop, const struct channel_end *end, uint64_t *offset, uint32_t *mark);
/* Returns in *mark the end of what the other end has sent by now. -EPROTO: the session has failed. */
int hop_mark_input(struct hop *hop, uint32_t *mark);
/* Whether what comes in was handled up to this position in the ring. */
static inline bool hop_has_read(const struct hop *hop, uint32_t mark)
{
	return (int32_t)(hop->in.reader.tail - mark) >= 0;
}
/* Forgets the end in the outlets; it is about to go. */
void hop_forget_end(struct hop *hop, struct channel_end *end);
/* Its program has taken so many more bytes, or won't. */
void hop_reported(struct channel_end *end, uint64_t bytes);

/* --- channel.c: besides channel.h */
/* Notes that `end` is to send the frame. */
void channel_owe(struct channel_end *end, enum channel_owed frame);
/* Gives the channel its acceptor's end on the hop, in whose table it is under this number. */
void channel_enter(struct channel *channel, struct hop *hop, uint32_t number);

/* --- hop_output.c: besides hop_farewell() */
/* Goes on in a ring out that is there already. */
void hop_move_outlet(struct hop *hop, const struct ring_writer *out);
/* Takes MOVE out of the ring, at whose head it is, and goes on with the new one. 0, or a negative errno: a
 * violation. */
int hop_take_move(struct hop *hop);
/* Copies what the other end hasn't processed, and what was still to be written again. -ENOMEM. */
int hop_keep_for_replay(struct hop *hop);
void hop_drop_replay(struct hop *hop);
/* Forwards DATA that came in at `end` and lies at `offset` of the reader. Returns how many of the `length`
 * bytes have been forwarded or kept; if fewer, the rest waits for channel_other(end)->hop. -EPROTO: a
 * violation; -ENOMEM. */
int hop_forward(struct channel_end *end, const struct ring_reader *reader, uint32_t offset, uint32_t length,
		uint32_t messages, bool may_wait);
/* Where short pieces of a stream go, one behind the other, as long as nothing has changed that was decided
 * for the one before them: into the open frame of an outlet, or, if the other end is a part of this daemon,
 * to what waits for it. */
struct hop_run {
	struct channel_end *end; /* where they come in; NULL: each must be decided for */
	struct outlet *outlet;	 /* NULL: they wait at the other end */
	uint32_t left;		 /* bytes that it takes before one has to ask again */
	struct evbuffer_iovec room;
	uint32_t length, messages;
};
/* Begins behind a piece that was forwarded, of the channel end, or NULL. Pieces may be added where `end` is
 * set then. */
void hop_run_begin(struct hop_run *run, struct channel_end *end);
/* Adds a piece to what waits. */
bool hop_run_keep(struct hop_run *run, const void *data, uint32_t length);
/* Adds a piece. False: it must be forwarded by itself. */
static inline bool hop_run_add(struct hop_run *run, const void *data, uint32_t length, uint32_t messages)
{
	if (!run->outlet && !hop_run_keep(run, data, length))
		return false;
	if (run->outlet) {
		if (run->left <= length)
			run->left = outlet_room(run->outlet, channel_other(run->end), run->length);
		if (run->left <= length || !outlet_is_even(run->outlet))
			return false;
		run->left -= length;
		outlet_append(run->outlet, data, length);
	}
	run->length += length;
	run->messages += messages;
	return true;
}
/* Counts the pieces, of which there is one at least, and which count as received then; or takes all of them
 * back. -ENOLINK: this domain was restored; -ENOMEM. */
int hop_run_end(struct hop_run *run);
/* Writes what there is to write, as far as there is room. */
void hop_emit(struct hop *hop);
/* Whether something waits to be written. */
static inline bool hop_has_output(const struct hop *hop)
{
	return hop->urgent || hop_has_backlog(hop) || hop_is_held(hop) || hop_has_unsent(hop);
}
/* Asks to be notified of what was taken, and of room. Where there is some already, makes the hop due. */
void hop_ask_for_output(struct hop *hop);

/* --- hop_input.c: besides hop_look() and what else tells of input */
/* Whether the program has taken something that isn't noted yet, or the ring is impossible. */
bool hop_has_taken(struct hop *hop);
/* Lets the hop's program go on before we ask for its next notification. */
void hop_let_go_on(struct hop *hop);
/* Runs the hop's task: takes in a piece of input, and notes what was taken. */
void hop_on_turn(struct task *task);
/* Asks to be notified of input, unless it has already. True: there is some now. */
bool hop_ask_for_input(struct hop *hop);
void hop_on_poll(int fd, short what, void *userdata);

/* --- hop_image.c */
#define IMAGE_QUEUE_MAX (2 * STREAM_WINDOW_MAX + FRAME_PAYLOAD_MAX) /* bytes that wait at an end */
/* What waits in a buffer; NULL: nothing. */
void hop_buffer_image(struct image *image, struct evbuffer **buffer, uint32_t most);

#endif
