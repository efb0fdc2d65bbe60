/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_TURNS_H
#define XENMSG_BASE_TURNS_H

/*
 * Turns: the daemon's time is divided like its memory (quota.h), between accounts and not between their
 * programs.
 *
 * Work is counted in *units* of about 10 ns, by what it costs and not by how many bytes asked for it (cost.h,
 * and constants of the same kind beside the code that they measure). Work that others can make the daemon do,
 * and that can wait, is a *task*: the input of a program or of a peer, a query, a look-up. It waits in the
 * *line* of the account that causes it.
 *
 *   idle ──task_due()──▶ due ──its line's turn, and its turn within the line──▶ run() ──▶ idle
 *                         ▲                                    more to do: task_due() │
 *                         └───────────────────────────────────────────────────────────┘
 *
 * Lines take turns by deficit round robin: a line may work while it has credit; a line without goes to the
 * end and gets TURNS_QUANTUM more. A task does a bounded piece of its work, counts it by turns_spend(), and
 * calls task_due() again if there is more. The cost of a piece beyond the credit is a debt: the line is
 * passed over until it is paid, as long as other lines want their turn. Within a line, tasks take turns as
 * well. So 60 programs of one user together have the time of one program of another.
 *
 * All of it happens in *passes*. One pass of the event loop handles all events, which only make tasks due,
 * and then calls `pass`, which runs tasks (turns_run()) up to TURNS_PASS units. The rest waits until the loop
 * has handled all events again.
 *
 * Hence with n lines that have something to do, a task that becomes due in an idle line runs after at most
 *
 *   n * (TURNS_QUANTUM + 2 * TURNS_PIECE) units of others: a task's, and what is written behind it (switch.c).
 *
 * Where the kernel works for a holder of an object, a piece may take as long as that holder likes
 * (switch/call.h). It is measured, and a line with a piece that is much too long rests, so that no more than
 * a small part of all time goes into these.
 *
 * One thing can't be done in such pieces: granting or mapping the pages of a vchan (COST_VCHAN), which a link
 * that is used needs every other second at most (link/elastic.h). The frame that asks for it may be the last
 * one in a piece, so the longest pass has TURNS_PASS + TURNS_PIECE + COST_VCHAN units.
 */

#include <stdbool.h>
#include <stdint.h>

#define TURNS_UNIT_NS 10 /* about */

struct event;
struct event_base;
struct task;

/* units: about 20 us, and no more than a piece: what one line makes due in another must not wait long */
#define TURNS_QUANTUM 2048u
#define TURNS_PIECE   8192u  /* units: no task does more than this in one turn; most do a quarter */
#define TURNS_PASS    65536u /* units: how long no other events are handled */

struct line {
	/* has this one's tasks and pays for them, by line_merge(); NULL: this one does */
	struct line *into;
	/* the turns in whose list the line is; NULL: none. An empty line stays there until its next turn. */
	struct turns *turns, *home; /* `home` is that, or was it last */
	struct task *due;	    /* the first one's turn is next */
	unsigned due_tasks;
	/* turns_rest(): NULL: it doesn't rest. Its tasks wait, and it is in no list but that of those that
	 * rest. */
	struct turns *resting_in;
	uint64_t rests_until; /* ns */
	uint64_t rests;	      /* how often it began to */
	struct line *rest_prev, *rest_next;
	int64_t credit; /* below 0: debt */
	/* turns.idle when the line left the list: a debt from before the last idle moment is forgotten */
	uint64_t idle;
	uint64_t spent;	   /* units, ever, */
	uint64_t measured; /* and what of them turns_spend_measured() has counted */
	/* the most units that others had between a task's becoming due and its turn, beside measured ones */
	uint64_t longest_wait;
	/* line_leave_behind(): nobody has the line any more */
	void (*over)(struct line *line);
	struct line *prev, *next;
};

struct task {
	struct turns *turns;
	struct line *line;
	void (*run)(struct task *task);
	bool is_due;
	uint64_t due_at; /* what other lines had when it became due, beside measured units */
	struct task *prev, *next;
};

struct turns {
	struct line *lines;   /* lines with something to do; the first one's turn is next */
	struct line *resting; /* those that get no turn, whatever they have to do */
	struct line own;      /* line of tasks that no account pays for */
	unsigned due;	      /* tasks of lines that don't rest */
	uint64_t over;	      /* `spent` at which this pass has had its units */
	uint64_t idle;	      /* how often no line had anything to do */
	uint64_t spent, passes,
		longest_pass; /* units, ever; passes; units of the longest one, beside measured ones */
	uint64_t measured;
	bool asked, in_pass;
	bool is_driven; /* turns_drive() */
	struct event *event, *rest_timer;
	bool (*pass)(void *userdata);
	void *userdata;
};

/* Prepares the turns. `pass` is called once in each pass of the loop in which something is due; it returns
 * true if it left something to do that isn't a task. -ENOMEM. */
int turns_init(struct turns *turns, struct event_base *base, bool (*pass)(void *userdata), void *userdata);
void turns_cleanup(struct turns *turns);
/* Asks for a pass after the events that the loop has found already, also for work that isn't a task; but
 * `pass` itself asks for the next one by its return value. */
void turns_want(struct turns *turns);
/* Runs a pass now, instead of the one that was asked for. */
void turns_pass(struct turns *turns);
/* Lets the caller of the loop run the passes that are asked for by turns_go(), each time when the loop has
 * handled the events that it found, so that the loop needs no event for that; or lets it have events
 * again. */
void turns_drive(struct turns *turns, bool is_driven);
static inline void turns_go(struct turns *turns)
{
	if (turns->asked)
		turns_pass(turns);
}
/* Whether a pass is asked for, so that the loop mustn't sleep before turns_go(). */
static inline bool turns_are_asked(const struct turns *turns)
{
	return turns->asked;
}
/* Runs the task whose turn it is. False: none is due, or this pass has had its units. */
bool turns_run(struct turns *turns);
/* Whether this pass has had its units. */
static inline bool turns_are_over(const struct turns *turns)
{
	return turns->spent >= turns->over;
}
/* Returns the line that this one is by now. */
static inline struct line *line_present(struct line *line)
{
	while (line->into)
		line = line->into;
	return line;
}
/* Whether it gets no turns for a while. */
static inline bool line_rests(struct line *line)
{
	return line_present(line)->resting_in;
}
/* Counts work that was done for `line` (NULL: for nobody), in one of its tasks or outside of them. */
static inline void turns_spend(struct turns *turns, struct line *line, uint64_t units)
{
	line = line ? line_present(line) : &turns->own;
	line->credit -= (int64_t)units;
	line->spent += units;
	turns->spent += units;
}
/* The same for what was measured rather than known beforehand. It is paid for like all else, but the bounds
 * above are of what is known: to measure also says what the machine was like. */
void turns_spend_measured(struct turns *turns, struct line *line, uint64_t units);

/* Adds to what was ever spent for the line what daemons before this one have. */
static inline void line_add_spent(struct line *line, uint64_t units)
{
	line->spent += units;
	line->measured += units; /* what the bounds above are of stays as it is */
}

struct image;
/* Writes the sums of all lines so far into the image that the next daemon gets (base/image.h). */
void turns_image(struct image *image, struct turns *turns);

/* Ends the turn of a line whose task did what others pay for: it would last for as long as they do. */
void turns_yield(struct turns *turns, struct line *line);
/* Lets a line get no turns for a while, however little others have to do: what it does at once is so long
 * that it mustn't be in each gap between others' turns. */
void turns_rest(struct turns *turns, struct line *line, uint64_t ns);
/* Lets all lines that rest have turns again. */
void turns_wake_all(struct turns *turns);

/* Prepares a task that isn't due yet. `line` (account_line() in quota.h) must outlive the task; NULL: the
 * daemon's own. */
void task_init(struct task *task, struct turns *turns, struct line *line, void (*run)(struct task *task));
/* Makes the task due: its run() is called once in its turn, however often this was called before. */
void task_due(struct task *task);
/* Makes the task not due any more; must be called before it goes. */
void task_cancel(struct task *task);
/* Lets `to` have the tasks that `from` has, and will have, its debt, and what is spent for them. `to` must
 * outlive `from`. A rest continues. */
void line_merge(struct line *from, struct line *to);
/* Calls `over` when the line's rest is over and its debt paid, or forgotten, perhaps at once, unless it is
 * taken back before. None of its tasks may be due. A debt is paid in the turns that it would have had. */
void line_leave_behind(struct line *line, void (*over)(struct line *line));
void line_take_back(struct line *line);
/* Takes a line out of the list; must be called before it goes, when none of its tasks is due. */
void line_end(struct line *line);

#endif
