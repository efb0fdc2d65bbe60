/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TOLD_LIST_H
#define XENMSG_DAEMON_TOLD_LIST_H

/* A list that another host has told, in its order, and a cursor over it. */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

struct told_list {
	uint8_t *text;
	struct frame_told all, left;
	struct frame_told_entry entry; /* where the cursor is */
	bool has_entry;		       /* else it is at the end */
};

/* Copies what an answer has. -ENOMEM. */
int told_list_copy(struct told_list *list, const struct frame_told *told);
void told_list_free(struct told_list *list);
void told_list_rewind(struct told_list *list);
void told_list_advance(struct told_list *list);
/* Whose name comes first, of two that aren't both at their end: below 0 that of `a`, above 0 that of `b`, 0:
 * it is the same. */
int told_list_order(const struct told_list *a, const struct told_list *b);

#endif
