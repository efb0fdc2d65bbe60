/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OP_RESULT_H
#define XENMSG_LIBCLIENT_OP_RESULT_H

/* What became of a message or call, as it is kept until the program is told (struct xenmsg_result). */

#include <errno.h>
#include <stdint.h>

#include "xenmsg.h"

struct op_result {
	const char *reason; /* a text that stays; NULL: that of the error (xenmsg_error_text()) */
	int error;
	uint16_t code;
	uint8_t fate; /* enum xenmsg_fate */
	uint8_t exit_status;
};

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
		.error = -EREMOTEIO, .code = code, .exit_status = exit_status, .fate = (uint8_t)fate};
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

#endif
