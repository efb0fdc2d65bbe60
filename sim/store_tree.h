/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tree of a simulated XenStore, with its permissions and node quotas, and nothing of connections.
 *
 * Nodes are counted references, copied when they change while somebody else holds them, so a snapshot costs
 * one reference: that is what a transaction works on, and what a watch's permission check looks back to.
 *
 * Functions that act for somebody take their credentials and refuse like the chosen daemon: 0, an expected
 * other outcome as a positive number, or a negative errno (-EDQUOT is what oxenstored calls EQUOTA). Memory
 * that runs out ends the simulator: it can't keep its promises then.
 */
#ifndef XENMSG_SIM_STORE_TREE_H
#define XENMSG_SIM_STORE_TREE_H

#include <stdint.h>
#include <stdlib.h>

#include "sim/store.h"
#include "sim/store_path.h"

static inline void *sim_must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

struct sim_credentials {
	unsigned domid;
	int target; /* SET_TARGET: acts as this domain too; -1 for nobody */
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
	uint64_t generation; /* changes with value, permissions and the list of children */
};

struct sim_owner {
	unsigned domid;
	unsigned nodes;
};

struct sim_tree {
	const struct sim_store_options *options;
	uint64_t *last_generation; /* the store's: one for the tree and all snapshots */
	struct sim_node *root;
	struct sim_owner *owners;
	unsigned n_owners;
};

void sim_tree_init(struct sim_tree *tree, const struct sim_store_options *options, uint64_t *last_generation);
void sim_tree_snapshot(struct sim_tree *copy, const struct sim_tree *tree);
void sim_tree_clear(struct sim_tree *tree);

struct sim_node *sim_node_ref(struct sim_node *node);
void sim_node_unref(struct sim_node *node);
const struct sim_node *sim_node_find(const struct sim_node *root, const char *path);
/* The node, or else its nearest ancestor that exists. */
const struct sim_node *sim_node_nearest(const struct sim_node *root, const char *path, bool *exact);
/* The parent of where path is or would be; NULL if that is missing, and for the root. */
const struct sim_node *sim_node_parent(const struct sim_node *root, const char *path);
bool sim_node_permits(const struct sim_node *node, const struct sim_credentials *who,
		      enum sim_perm_access access);

/* All below take resolved paths. */
int sim_tree_get(const struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		 const struct sim_node **node);
int sim_tree_write(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		   const void *value, size_t len);
/* 1: it was there already. */
int sim_tree_mkdir(struct sim_tree *tree, const struct sim_credentials *who, const char *path);
/* 1: it wasn't there. */
int sim_tree_rm(struct sim_tree *tree, const struct sim_credentials *who, const char *path);
int sim_tree_set_perms(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		       const struct sim_perm *perms, unsigned n_perms);

/* A dead domain's entries in permission lists go, and the nodes that it owns with all below them. */
void sim_tree_forget_domain(struct sim_tree *tree, unsigned domid);
/* The path of some node that domid owns, the caller's to free; NULL: none is left. */
char *sim_tree_first_owned(const struct sim_tree *tree, unsigned domid);
unsigned sim_tree_owned(const struct sim_tree *tree, unsigned domid);

#endif
