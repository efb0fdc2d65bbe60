/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tree of a simulated XenStore, with its permissions and node quotas. It knows nothing of connections.
 *
 * Nodes have reference counts, and are copied when they change while another holds them, so a snapshot costs
 * one reference. A transaction works on one, and a watch's permission check reads an older one.
 *
 * Functions that act for a domain take its credentials and refuse as oxenstored does: they return 0, a
 * positive number for another expected outcome, or a negative errno (-EDQUOT is what oxenstored calls
 * EQUOTA). The simulator ends when memory runs out: it can't keep its promises then.
 */
#ifndef XENMSG_SIM_STORE_TREE_H
#define XENMSG_SIM_STORE_TREE_H

#include <stdint.h>
#include <stdlib.h>

#include "sim/store/store.h"
#include "sim/store/path.h"

static inline void *sim_must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

struct sim_credentials {
	int64_t domid;
	int64_t target; /* SET_TARGET: acts as this domain too; -1 for none */
};

bool sim_credentials_privileged(const struct sim_credentials *who);

struct sim_node {
	unsigned refs;
	char *name;
	void *value;
	size_t value_len;
	struct sim_perm *perms;
	unsigned n_perms;
	struct sim_node **children; /* by name */
	unsigned n_children;
	uint64_t serial;     /* the order in which nodes were made */
	uint64_t generation; /* of its last change: its value, permissions and the names below it */
};

struct sim_owner {
	int64_t domid;
	int nodes; /* negative for a domain that lost nodes for which it never was charged */
};

struct sim_tree {
	const struct sim_store_options *options;
	struct sim_node *root;
	struct sim_owner *owners;
	unsigned n_owners;
};

void sim_tree_init(struct sim_tree *tree, const struct sim_store_options *options);
void sim_tree_snapshot(struct sim_tree *copy, const struct sim_tree *tree);
void sim_tree_clear(struct sim_tree *tree);

struct sim_node *sim_node_ref(struct sim_node *node);
void sim_node_unref(struct sim_node *node);
/* The children in the order in which they were made, in an array that the caller frees. */
struct sim_node **sim_node_children_as_made(const struct sim_node *node);
const struct sim_node *sim_node_find(const struct sim_node *root, const char *path);
/* Returns the node (*exact), or else its nearest ancestor that exists. */
const struct sim_node *sim_node_nearest(const struct sim_node *root, const char *path, bool *exact);
/* Returns the parent of path's node, which needn't exist. NULL if the parent is missing, and for the root. */
const struct sim_node *sim_node_parent(const struct sim_node *root, const char *path);
bool sim_node_permits(const struct sim_node *node, const struct sim_credentials *who,
		      enum sim_perm_access access);

/* All functions below take resolved paths. */
int sim_tree_get(const struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		 const struct sim_node **node);
int sim_tree_write(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		   const void *value, size_t len);
/* Makes a node. Returns 1 if it was there already. */
int sim_tree_mkdir(struct sim_tree *tree, const struct sim_credentials *who, const char *path);
/* Removes a node with all below it. Returns 1 if it wasn't there. */
int sim_tree_rm(struct sim_tree *tree, const struct sim_credentials *who, const char *path);
int sim_tree_set_perms(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		       const struct sim_perm *perms, unsigned n_perms);

bool sim_node_same_perms(const struct sim_node *a, const struct sim_node *b);
/* Puts a node of another tree in the place of the one at path, which is there and not the root, and charges
 * the difference between that tree before and after. */
void sim_tree_graft(struct sim_tree *tree, const char *path, struct sim_node *node,
		    const struct sim_tree *before, const struct sim_tree *after);
/* Removes a dead domain's entries in permission lists, and the nodes that it owns with all below them. */
void sim_tree_forget_domain(struct sim_tree *tree, int64_t domid);
int sim_tree_owned(const struct sim_tree *tree, int64_t domid);

#endif
