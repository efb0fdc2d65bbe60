/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_QUESTIONS_H
#define XENMSG_DAEMON_QUESTIONS_H

/*
 * The daemon's own endpoint, DAEMON_ENDPOINT: a question to the daemon is a call to it. So the daemon is a
 * program on its own switch (switch/inner.h), and channels decide what becomes of a question whose asker
 * ends, doesn't read, gives up or pays for nothing.
 *
 * The daemon's status has an entry for each program, so answers grow with the programs that ask: a question
 * is 24 bytes, and its answer may be millions. So an answer is made and sent in pieces (report.h), each a
 * message of its own (protocol.md, 2.3):
 *
 *   NEW ──its turn, and it can be answered──▶ begun ──a report──▶ ANSWERING ──the last piece──▶ DONE
 *    │                                          │                  ▲     │
 *    │                                          └──others answer──▶ HELD  │ a piece: the account's turn,
 *    └──cancelled──▶ DONE                                           │     │ and the asker has read
 *                                                                   └─────┘
 *
 * One whose answer is what happens from now on, as a watch's, stands (question_stand()): its request is
 * taken, and each thing that is told is a part of the answer, of which there is always one more. What its
 * asker has no room for waits, and whoever tells waits with the rest. The next daemon begins it anew, with
 * the first part.
 *
 * Another request is taken only when it and all those before it are DONE. Until then it lies in its channel,
 * so at a hand-over the next daemon finds it there, and answers it from the beginning.
 *
 * Making answers is a task of the account that asks (turns.h), one for each channel: a user that asks without
 * end delays only its own programs. At most one piece is kept that a program hasn't read.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"

struct account;
struct channel;
struct image;
struct image_hops;
struct inquiries;
struct inquiry;
struct question;
struct questions;
struct report;
struct hop;
struct status_sources;
struct switchboard;

#define QUESTION_MAX	  512u /* bytes of its text */
#define QUESTION_TOLD_MAX 512u /* and of one thing that is told to one that stands */

struct questions_callbacks {
	/* Returns whether a question whose turn has come can be answered now, which has waited for so long
	 * already, also with the daemons before this one. If not, it is looked at again at REGISTRY_ALL, and
	 * each 2 s. */
	bool (*ready)(void *userdata, const char *text, uint64_t waited_ms);
	/* Begins to answer. Returns a report, which is sent in pieces and freed; or NULL: one of the
	 * functions below has answered, or will. */
	struct report *(*begin)(void *userdata, struct question *question, const char *text);
	/* Nobody waits any more for the answer to a question that was begun and isn't answered, or that
	 * stands. */
	void (*forget)(void *userdata, struct question *question);
	/* All that was told to the asker's questions that stand was sent, by the time when it had room. */
	void (*heard)(void *userdata, const void *asker);
	/* The asker (question_asker()) has gone. */
	void (*gone)(void *userdata, const void *asker);
	/* Leads a channel to the address, or refuses it. */
	void (*open)(void *userdata, struct channel *channel, struct frame_text address);
	/* Likewise to the daemon of this domain, by way of domain 0. */
	void (*seek)(void *userdata, struct channel *channel, uint32_t domid);
	/* Domain 0 leads nothing there. */
	void (*found_none)(void *userdata, uint32_t domid);
};

/* Returns NULL when memory is short. `sources` are what reports describe; they outlive the questions. */
struct questions *questions_new(struct switchboard *board, const struct status_sources *sources,
				const struct questions_callbacks *callbacks, void *userdata);
/* Those that wait are never answered. NULL is allowed. */
void questions_free(struct questions *questions);
/* Leads a channel here, of whomever. 0; -EPROTOTYPE: not a channel of calls; -ENOBUFS, -ENOMEM. */
int questions_accept(struct questions *questions, struct channel *channel);
/* Returns by what other daemons are asked (inquiries.h). It lives as long. */
struct inquiries *questions_inquiries(struct questions *questions);
/* Seeks a way to the daemon of this domain, through domain 0: `found_none` if there is none. */
void questions_seek(struct questions *questions, uint32_t domid);

/* --- of one question, until it is answered -------------------------------------------------------- */

/* Returns the program of this domain that asks; NULL: it is one of another domain, as the channel says. */
struct hop *question_program(const struct question *question);
const struct channel *question_channel(const struct question *question);
struct account *question_account(const struct question *question);
/* Returns whose it is: the same for all questions of one channel. */
const void *question_asker(const struct question *question);
/* Returns whether a daemon before this one had got it already. */
bool question_is_inherited(const struct question *question);
/* Returns whether it stood there: it is begun anew here, and its asker was told of something already. */
bool question_has_stood(const struct question *question);
/* Answer it, once, now or later: with a text, which is copied; with a positive errno, and why; or with a
 * report, which it frees in any case. */
void question_answer(struct question *question, const void *text, size_t size);
void question_refuse(struct question *question, int error, const char *why);
void question_report(struct question *question, struct report *report);
/* Passes on what another daemon answers, as it comes. It frees the inquiry. */
void question_pass_on(struct question *question, struct inquiry *inquiry);
/* Ends its asker's channel, of another domain, with a positive errno: which asks anew. */
void question_hang_up(const struct question *question, int error);
/* Lets it stand: what happens answers it, until its asker withdraws it or ends the channel. Returns it, as
 * another one; or NULL: out of memory, it can be refused. */
struct question *question_stand(struct question *question);
/* Tells at most QUESTION_TOLD_MAX bytes to one that stands, as the next part of its answer. 0 or -ENOMEM. */
int question_tell(struct question *question, const void *text, size_t size);
/* Returns whether some of that isn't sent, or the next daemon tells the rest: nothing is told to it then. */
bool question_is_behind(const struct question *question);
/* Forgets one that stands. */
void question_drop(struct question *question);

/* --- for the image that is handed over (hop_image.h) ---------------------------------------------- */

/* A section, and behind the channels one for each question that stands, which begins anew. Once the daemon
 * hands over none is begun: the next one does it, or this one does after all. */
extern const struct part questions_part;
/* Takes up what has come for the daemon before, once all channels were read. Returns -ENOMEM where it must be
 * called again. */
int questions_take_up(struct questions *questions);

#endif
