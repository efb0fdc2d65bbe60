/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_INQUIRIES_H
#define XENMSG_DAEMON_INQUIRIES_H

/*
 * Inquiries: this daemon asks other ones. Each is a call to the daemon's endpoint there (protocol.md, 3), on
 * a channel of its own. Channels decide which way it goes, who may ask, and what becomes of it; the user for
 * whom it is asked pays for the channel.
 *
 *   made ──led──▶ ASKED ──a part──▶ TOLD ──the last part──▶ OVER
 *                   └──an error, a RESET, no answer in time───▲ (TOLD: an error or a RESET)
 *
 * The answer is pulled: its owner is called when something has come, and takes part after part when it has
 * room. Until then it lies in the channel, whose window bounds it. One that is OVER stays until its owner
 * frees it. The next daemon knows of none, and whoever wanted the answer asks anew.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"

struct account;
struct channel;
struct channel_end;
struct channel_frame;
struct hop;
struct inquiries;
struct inquiry;
struct switchboard;

/* The most that a part has. */
#define INQUIRY_PART_MAX 32768u

/* Leads the channel to the address, or refuses it. */
typedef void (*inquiries_open_fn)(void *userdata, struct channel *channel, struct frame_text address);
/* Something has come, or it is over. */
typedef void (*inquiry_fn)(void *userdata);
/* Says for people what a (positive) errno means; "": it is the other daemon, or the library, that says it. */
typedef const char *(*inquiry_why_fn)(int error);

/* Returns what such an error means of another host's daemon, to which nobody else has words. */
const char *inquiries_why_not_there(int error);

/* Its channels are opened at `hop`, which outlives it. A daemon that lives has `answer_ms` for the first
 * part. NULL: no memory. */
struct inquiries *inquiries_new(struct switchboard *board, struct hop *hop, uint32_t answer_ms,
				inquiries_open_fn open, void *userdata);
/* Ends all of them. NULL is allowed. */
void inquiries_free(struct inquiries *inquiries);

/* Makes one, for a program with this identity, whose account (NULL: nobody's) pays; `why` may be NULL.
 * Nothing is asked yet. -ENOBUFS, -ENOMEM. */
int inquiry_new(struct inquiries *inquiries, const struct frame_identity *from, struct account *account,
		inquiry_why_fn why, struct inquiry **inquiry);
/* Sets who is told. */
void inquiry_listen(struct inquiry *inquiry, inquiry_fn come, void *userdata);
struct channel *inquiry_channel(const struct inquiry *inquiry);
/* Asks the text at this address; NULL: where its channel was led. A failure is told like an answer. */
void inquiry_ask(struct inquiry *inquiry, const char *address, const char *text);
/* Withdraws the question, if it isn't over. NULL is allowed. */
void inquiry_free(struct inquiry *inquiry);

struct inquiry_part {
	const uint8_t *text; /* until the next part of any inquiry is taken */
	size_t size;
	uint64_t before; /* bytes of the answer before this */
	bool is_first;	 /* of an answer that begins, perhaps anew */
	bool is_last;
};
/* Takes the next part. 1; 0: it hasn't come; or the negative errno with which it is over. */
int inquiry_next(struct inquiry *inquiry, struct inquiry_part *part);
/* Returns why it is over, for people; "" if that isn't known. */
const char *inquiry_why(const struct inquiry *inquiry);

/* --- for the owner of the hop: what comes at an end that was opened here */

void inquiries_take_frame(struct channel_end *end, const struct channel_frame *frame);
void inquiries_take_data(struct channel_end *end);

#endif
