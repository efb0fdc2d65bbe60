/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a request on a tree and makes its answer, for any client and any tree: the live one, a transaction's,
 * or one on which a transaction is tried again.
 */
#ifndef XENMSG_SIM_STORE_REQUEST_H
#define XENMSG_SIM_STORE_REQUEST_H

#include "sim/store/wire.h"

struct store_reply {
	int error; /* 0, or a negative errno instead of the data */
	char *data;
	size_t len;
};

void sim_reply_append(struct store_reply *reply, const void *data, size_t len);
void sim_reply_clear(struct store_reply *reply);
bool sim_reply_equal(const struct store_reply *a, const struct store_reply *b);

/* A change to report to watches, in order. Special nodes are named as those in the root that they are. */
struct sim_change {
	uint32_t type; /* XS_WRITE, XS_MKDIR, XS_RM or XS_SET_PERMS */
	char *path;
};

struct sim_changes {
	struct sim_change *list;
	size_t count;
	/* The nodes below which lies all that was read, and all that was changed. "" is the root, NULL:
	 * nothing was. What was asked for in vain doesn't count as read. */
	char *top_read, *top_written;
};

void sim_changes_add(struct sim_changes *changes, uint32_t type, const char *path);
void sim_changes_clear(struct sim_changes *changes);

/* Returns true for requests that read or change a tree, which the function below takes. */
bool sim_request_is_for_tree(uint32_t type);
void sim_request_execute(struct sim_tree *tree, const struct sim_credentials *who,
			 const struct store_message *request, struct store_reply *reply,
			 struct sim_changes *changes);

#endif
