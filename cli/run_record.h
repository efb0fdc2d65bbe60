/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_RUN_RECORD_H
#define XENMSG_CLI_RUN_RECORD_H

/* The records that `xenmsg run` and `xenmsg listen --run` exchange over a stream (protocol.md, 6.2). They
 * come from another domain: the decoder believes nothing. */

#include <stddef.h>
#include <stdint.h>

#define RUN_HEADER_SIZE 4
#define RUN_BODY_MAX	16384
#define RUN_RECORD_MAX	(RUN_HEADER_SIZE + RUN_BODY_MAX)
/* How much of a stream may be under way, or wait at the receiver. */
#define RUN_WINDOW 65536
/* What START and READY begin with: four letters and the version. */
#define RUN_GREETING	  "xrun\1\0"
#define RUN_GREETING_SIZE 6

enum run_type {
	RUN_START = 1,	 /* caller: the greeting, and arguments, each with a zero byte behind it */
	RUN_READY = 2,	 /* server: the greeting; the command runs */
	RUN_DATA = 3,	 /* bytes of a stream; none: its end */
	RUN_CREDIT = 4,	 /* u32: so many more bytes of a stream may be sent */
	RUN_STOP = 5,	 /* nobody reads this stream any more */
	RUN_EXIT = 6,	 /* server, last: the exit status, u8 */
	RUN_REFUSED = 7, /* server, last: why the command doesn't run, as text */
};

/* As file descriptors: standard input, output and error. */
#define RUN_STREAMS 3

struct run_record {
	enum run_type type;
	uint8_t stream;
	uint16_t size;
	const uint8_t *body;
	uint32_t value; /* of CREDIT and EXIT */
};

/* Decodes the first record. Returns its size, 0 if it isn't complete yet, or -EPROTO. The body lies in
 * `data`. */
int run_record_decode(const uint8_t *data, size_t size, struct run_record *record);
/* Writes a record with a body of at most RUN_BODY_MAX bytes. Returns its size. */
size_t run_record_encode(enum run_type type, unsigned stream, const void *body, size_t size,
			 uint8_t at[RUN_RECORD_MAX]);

#endif
