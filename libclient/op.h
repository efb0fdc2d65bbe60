/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OP_H
#define XENMSG_LIBCLIENT_OP_H

/*
 * Something that was begun, as the program holds it: the first member of a message or call (calls.h), of a
 * request to the daemon (requests.h) and of a stream that is being opened (transport.h).
 *
 *   begun ──it ends, its time is up, it is withdrawn──▶ settled ──done called──▶ gone
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "xenmsg.h"

/* What became of a message or call, as it is kept until the program is told (struct xenmsg_result). */

struct op_result {
	const char *reason; /* a text that stays, or of a struct kept_words; NULL: xenmsg_error_text() */
	int error;
	uint16_t code;
	unsigned fate : 7;    /* enum xenmsg_fate */
	unsigned is_said : 1; /* `reason` is that of a struct kept_words */
	uint8_t exit_status;
};

/* Words that were made for something that has failed. Each result that has them keeps them. */
struct kept_words {
	unsigned keepers;
	char text[];
};

static inline struct kept_words *op_kept_words(const struct op_result *result)
{
	return (struct kept_words *)((uintptr_t)result->reason - offsetof(struct kept_words, text));
}

/* Keeps the words of a result once more. */
static inline void op_result_keep(const struct op_result *result)
{
	if (result->is_said)
		op_kept_words(result)->keepers++;
}

static inline void op_result_drop(const struct op_result *result)
{
	if (result->is_said && --op_kept_words(result)->keepers == 0)
		free(op_kept_words(result));
}

/* Of a message, or of a call that wasn't taken: the error says what is known. */
static inline struct op_result op_result(int error)
{
	return (struct op_result){.error = error,
				  .fate = error >= 0		 ? XENMSG_FATE_DONE
					  : error == -ECONNRESET ? XENMSG_FATE_UNKNOWN
								 : XENMSG_FATE_NOT_DONE};
}

/* `fate` is that of a message that was refused, or of a call that was answered. */
static inline struct op_result op_result_remote(uint16_t code, uint8_t exit_status, enum xenmsg_fate fate)
{
	return (struct op_result){
		.error = -EREMOTEIO, .code = code, .exit_status = exit_status, .fate = fate & 0x7fu};
}

/* Of a call that was taken, and of which nobody can know what came of it. */
static inline struct op_result op_result_unknown(int error, const char *reason)
{
	return (struct op_result){.error = error, .fate = XENMSG_FATE_UNKNOWN, .reason = reason};
}

static inline struct xenmsg_result op_result_told(const struct op_result *result,
						  struct xenmsg_message *reply)
{
	return (struct xenmsg_result){.error = result->error,
				      .fate = (enum xenmsg_fate)result->fate,
				      .code = result->code,
				      .exit_status = result->exit_status,
				      .reason = result->reason ? result->reason
							       : xenmsg_error_text(result->error),
				      .reply = reply,
				      .stream = -1};
}

struct xenmsg_op {
	struct xenmsg *conn;
	/* Gives it up, as if its time were up. Returns 0 or -EPROTO. */
	int (*withdraw)(struct xenmsg_op *op);
	bool settled; /* what became of it is known */
};

/* What the program's options say, with what is usual for what they leave out. */
struct op_options {
	int timeout_ms;
	unsigned flags;
	const char *trace, *key; /* NULL: none */
	unsigned keys, queue;
	const char *why; /* what is wrong with them, in words; NULL: nothing */
};

#define FOR_EVER (-1)

/* Flags that are not for the program: options with a trace have a meaning here. */
#define OP_TRACE   0x80000000u
#define OP_KEY	   0x40000000u /* with a key */
#define OP_KEYS	   0x20000000u /* with a number of keys */
#define OP_QUEUE   0x10000000u /* with a queue */
#define OP_AWAITED 0x08000000u /* by await_outcome(), which sets the deadline, and sends what was begun */

#endif
