/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OP_H
#define XENMSG_LIBCLIENT_OP_H

/*
 * Something that was begun, as the program holds it: the first member of a message or call (calls.h), of a
 * request to the daemon (requests.h) and of a stream that is being opened (dial.h).
 *
 *   begun ──it ends, its time is up, it is withdrawn──▶ settled ──done called──▶ gone
 */

#include <stdbool.h>
#include <stddef.h>

#include "xenmsg.h"

struct xenmsg_op {
	struct xenmsg *conn;
	/* Gives it up, as if its time were up. Returns 0 or -EPROTO. */
	int (*withdraw)(struct xenmsg_op *op);
	bool settled; /* what became of it is known */
};

/* What the program's options say, with what is usual for what they leave out. */
struct how {
	int timeout_ms;
	unsigned flags;
	const char *trace, *key; /* NULL: none */
	unsigned keys, queue;
};

#define FOR_EVER (-1)

/* Flags that are not for the program: options with a trace have a meaning here. */
#define HOW_TRACE 0x80000000u
#define HOW_KEY	  0x40000000u /* with a key */
#define HOW_KEYS  0x20000000u /* with a number of keys */
#define HOW_QUEUE 0x10000000u /* with a queue */

/* Reads options (NULL: none), of which these flags have a meaning here. Returns 0 or -EINVAL. */
int how_read_given(struct how *how, const struct xenmsg_options *options, unsigned flags);
static inline int how_read(struct how *how, const struct xenmsg_options *options, unsigned flags,
			   int usual_ms)
{
	*how = (struct how){.timeout_ms = usual_ms};
	return options ? how_read_given(how, options, flags) : 0;
}

#endif
