/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See store_tree.h. The rules were read from Xen 4.17's source. */
#include "config.h"

#include "sim/store_tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool sim_credentials_privileged(const struct sim_credentials *who)
{
	return who->domid == 0 || who->target == 0;
}

static bool acts_as(const struct sim_credentials *who, unsigned domid)
{
	return who->domid == domid || (who->target >= 0 && (unsigned)who->target == domid);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static struct sim_node *node_new(const char *name, size_t name_len, const struct sim_perm *perms,
				 unsigned n_perms)
{
	struct sim_node *node = sim_must(calloc(1, sizeof(*node)));

	node->refs = 1;
	node->name = sim_must(strndup(name, name_len));
	node->perms = sim_must(malloc(n_perms * sizeof(*perms)));
	memcpy(node->perms, perms, n_perms * sizeof(*perms));
	node->n_perms = n_perms;
	return node;
}

struct sim_node *sim_node_ref(struct sim_node *node)
{
	node->refs++;
	return node;
}

void sim_node_unref(struct sim_node *node)
{
	if (!node || --node->refs)
		return;
	for (unsigned i = 0; i < node->n_children; i++)
		sim_node_unref(node->children[i]);
	free(node->children);
	free(node->perms);
	free(node->value);
	free(node->name);
	free(node);
}

static void node_set_value(struct sim_node *node, const void *value, size_t len)
{
	/* Allocate one byte more, so that an empty value isn't NULL and a reader may add its NUL. */
	char *copy = sim_must(malloc(len + 1));

	if (len)
		memcpy(copy, value, len);
	copy[len] = '\0';
	free(node->value);
	node->value = copy;
	node->value_len = len;
}

/* Returns the node in this slot, copied if others hold it, so that it may be changed. */
static struct sim_node *node_own(struct sim_node **slot)
{
	struct sim_node *shared = *slot, *own;

	if (shared->refs == 1)
		return shared;
	own = node_new(shared->name, strlen(shared->name), shared->perms, shared->n_perms);
	if (shared->value)
		node_set_value(own, shared->value, shared->value_len);
	if (shared->n_children) {
		own->children = sim_must(malloc(shared->n_children * sizeof(struct sim_node *)));
		for (unsigned i = 0; i < shared->n_children; i++)
			own->children[i] = sim_node_ref(shared->children[i]);
		own->n_children = shared->n_children;
	}
	sim_node_unref(shared);
	*slot = own;
	return own;
}

/* Finds the position of the child of this name, or where it belongs. Returns whether it exists. */
static bool child_position(const struct sim_node *node, const char *name, size_t len, unsigned *position)
{
	unsigned low = 0, high = node->n_children;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		const char *other = node->children[middle]->name;
		int order = strncmp(other, name, len);

		if (order == 0 && other[len] != '\0')
			order = 1;
		if (order == 0) {
			*position = middle;
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*position = low;
	return false;
}

static void child_insert(struct sim_node *node, unsigned position, struct sim_node *child)
{
	node->children =
		sim_must(realloc(node->children, (node->n_children + 1) * sizeof(struct sim_node *)));
	memmove(&node->children[position + 1], &node->children[position],
		(node->n_children - position) * sizeof(struct sim_node *));
	node->children[position] = child;
	node->n_children++;
}

static void child_remove(struct sim_node *node, unsigned position)
{
	sim_node_unref(node->children[position]);
	node->n_children--;
	memmove(&node->children[position], &node->children[position + 1],
		(node->n_children - position) * sizeof(struct sim_node *));
}

bool sim_node_permits(const struct sim_node *node, const struct sim_credentials *who,
		      enum sim_perm_access access)
{
	bool listed = false;

	if (sim_credentials_privileged(who) || acts_as(who, node->perms[0].domid))
		return true;
	for (unsigned i = 1; i < node->n_perms; i++) {
		if (!acts_as(who, node->perms[i].domid))
			continue;
		if ((node->perms[i].access & access) == access)
			return true;
		listed = true;
	}
	/* A domain that is listed is not "everyone else". */
	return !listed && (node->perms[0].access & access) == access;
}

/* ---- nodes by path --------------------------------------------------------------------------- */

const struct sim_node *sim_node_nearest(const struct sim_node *root, const char *path, bool *exact)
{
	const char *name;
	size_t len;
	unsigned position;

	while (sim_path_next(&path, &name, &len)) {
		if (!child_position(root, name, len, &position)) {
			*exact = false;
			return root;
		}
		root = root->children[position];
	}
	*exact = true;
	return root;
}

const struct sim_node *sim_node_find(const struct sim_node *root, const char *path)
{
	bool exact;
	const struct sim_node *node = sim_node_nearest(root, path, &exact);

	return exact ? node : NULL;
}

const struct sim_node *sim_node_parent(const struct sim_node *root, const char *path)
{
	const char *name;
	size_t len;
	unsigned position;

	if (!sim_path_next(&path, &name, &len))
		return NULL;
	while (*path) {
		if (!child_position(root, name, len, &position))
			return NULL;
		root = root->children[position];
		sim_path_next(&path, &name, &len);
	}
	return root;
}

/* Returns the node at an existing path, with all nodes on the way copied if others hold them. */
static struct sim_node *own_path(struct sim_tree *tree, const char *path, size_t path_len)
{
	struct sim_node *node = node_own(&tree->root);
	const char *rest = path, *name;
	size_t len;
	unsigned position;

	while (rest < path + path_len && sim_path_next(&rest, &name, &len)) {
		if (!child_position(node, name, len, &position))
			abort(); /* the callers have checked this */
		node = node_own(&node->children[position]);
	}
	return node;
}

/* ---- quotas ---------------------------------------------------------------------------------- */

unsigned sim_tree_owned(const struct sim_tree *tree, unsigned domid)
{
	for (unsigned i = 0; i < tree->n_owners; i++)
		if (tree->owners[i].domid == domid)
			return tree->owners[i].nodes;
	return 0;
}

static void owner_add(struct sim_tree *tree, unsigned domid, int nodes)
{
	unsigned i;

	for (i = 0; i < tree->n_owners && tree->owners[i].domid != domid; i++)
		;
	if (i == tree->n_owners) {
		tree->owners = sim_must(realloc(tree->owners, (i + 1) * sizeof(*tree->owners)));
		tree->owners[i] = (struct sim_owner){.domid = domid};
		tree->n_owners++;
	}
	tree->owners[i].nodes += (unsigned)nodes;
	if (tree->owners[i].nodes == 0)
		tree->owners[i] = tree->owners[--tree->n_owners];
}

static void discharge(struct sim_tree *tree, const struct sim_node *node)
{
	owner_add(tree, node->perms[0].domid, -1);
	for (unsigned i = 0; i < node->n_children; i++)
		discharge(tree, node->children[i]);
}

/* ---- the tree -------------------------------------------------------------------------------- */

void sim_tree_init(struct sim_tree *tree, const struct sim_store_options *options)
{
	const struct sim_perm dom0 = {0, SIM_PERM_NONE};

	*tree = (struct sim_tree){.options = options};
	tree->root = node_new("", 0, &dom0, 1);
	owner_add(tree, 0, 1);
}

void sim_tree_snapshot(struct sim_tree *copy, const struct sim_tree *tree)
{
	*copy = *tree;
	sim_node_ref(copy->root);
	copy->owners = sim_must(malloc((tree->n_owners + 1) * sizeof(*copy->owners)));
	memcpy(copy->owners, tree->owners, tree->n_owners * sizeof(*copy->owners));
}

void sim_tree_clear(struct sim_tree *tree)
{
	sim_node_unref(tree->root);
	free(tree->owners);
	*tree = (struct sim_tree){.options = tree->options};
}

int sim_tree_get(const struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		 const struct sim_node **node)
{
	bool exact;
	const struct sim_node *found = sim_node_nearest(tree->root, path, &exact);

	if (!exact)
		return -ENOENT;
	if (!sim_node_permits(found, who, SIM_PERM_READ))
		return -EACCES;
	*node = found;
	return 0;
}

/* Adds a missing name below the existing path of parent_len characters. */
static int add_child(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		     size_t parent_len, const char *name, size_t name_len, const struct sim_node **added)
{
	struct sim_node *parent = own_path(tree, path, parent_len), *child;
	bool privileged = sim_credentials_privileged(who);
	unsigned owner = parent->perms[0].domid, position;

	if (!privileged && owner > 0 && sim_tree_owned(tree, owner) >= tree->options->limits.nodes)
		return -EDQUOT;
	if (!sim_node_permits(parent, who, SIM_PERM_WRITE))
		return -EACCES;

	child = node_new(name, name_len, parent->perms, parent->n_perms);
	node_set_value(child, "", 0);
	child->perms[0].domid = owner;
	owner_add(tree, owner, 1);
	child_position(parent, name, name_len, &position);
	child_insert(parent, position, child);
	*added = child;
	return 0;
}

/* Creates the missing nodes of the path, and the leaf if `leaf`. */
static int create(struct sim_tree *tree, const struct sim_credentials *who, const char *path, bool leaf)
{
	const struct sim_node *node = tree->root;
	const char *rest = path, *name, *before = path;
	size_t len;

	while (sim_path_next(&rest, &name, &len)) {
		unsigned position;

		if (child_position(node, name, len, &position)) {
			node = node->children[position];
		} else {
			int rc;

			if (!*rest && !leaf)
				return 0;
			rc = add_child(tree, who, path, (size_t)(before - path), name, len, &node);
			if (rc < 0)
				return rc;
		}
		before = rest;
	}
	return 0;
}

static void set_value(struct sim_tree *tree, const char *path, const void *value, size_t len)
{
	struct sim_node *node = own_path(tree, path, strlen(path));

	node_set_value(node, value, len);
}

int sim_tree_write(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		   const void *value, size_t len)
{
	const struct sim_node *node;
	int rc;

	/* oxenstored makes the parents first, which stay when the leaf is then refused. */
	rc = create(tree, who, path, false);
	if (rc < 0)
		return rc;
	if (len > tree->options->limits.value_bytes)
		return -E2BIG; /* for domain 0, too */
	node = sim_node_find(tree->root, path);
	if (!node) {
		rc = create(tree, who, path, true);
		if (rc < 0)
			return rc;
	} else if (!sim_node_permits(node, who, SIM_PERM_WRITE)) {
		return -EACCES;
	}
	set_value(tree, path, value, len);
	return 0;
}

int sim_tree_mkdir(struct sim_tree *tree, const struct sim_credentials *who, const char *path)
{
	const struct sim_node *node = sim_node_find(tree->root, path);

	if (node)
		return sim_node_permits(node, who, SIM_PERM_WRITE) ? 1 : -EACCES;
	return create(tree, who, path, true);
}

int sim_tree_rm(struct sim_tree *tree, const struct sim_credentials *who, const char *path)
{
	const struct sim_node *parent = sim_node_parent(tree->root, path), *node;
	const char *name = path[0] == '@' ? path : strrchr(path, '/') + 1;
	struct sim_node *own;
	unsigned position;

	if (strcmp(path, "/") == 0)
		return -EINVAL;
	if (!parent)
		return -ENOENT;
	/* oxenstored doesn't check permissions when nothing is removed. */
	if (!child_position(parent, name, strlen(name), &position))
		return 1;
	node = parent->children[position];
	if (!sim_node_permits(node, who, SIM_PERM_WRITE))
		return -EACCES;
	discharge(tree, node);
	own = own_path(tree, path, name == path ? 0 : (size_t)(name - path) - 1);
	child_remove(own, position);
	return 0;
}

int sim_tree_set_perms(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		       const struct sim_perm *perms, unsigned n_perms)
{
	bool exact, privileged = sim_credentials_privileged(who);
	const struct sim_node *node = sim_node_nearest(tree->root, path, &exact);
	struct sim_node *own;
	struct sim_perm *copy;

	if (n_perms == 0)
		return -EINVAL;
	/* Only the C daemon knows this quota; a program that keeps to it runs on both. */
	if (!privileged && n_perms > tree->options->limits.perms)
		return -ENOSPC;
	if (!exact)
		return -ENOENT;
	if (!privileged && !acts_as(who, node->perms[0].domid))
		return -EACCES;
	/* An owner can't give a node away, since another domain would then be charged for it. */
	if (!privileged && perms[0].domid != node->perms[0].domid)
		return -EACCES;

	own = own_path(tree, path, strlen(path));
	owner_add(tree, own->perms[0].domid, -1);
	owner_add(tree, perms[0].domid, 1);
	copy = sim_must(malloc(n_perms * sizeof(*copy)));
	memcpy(copy, perms, n_perms * sizeof(*copy));
	free(own->perms);
	own->perms = copy;
	own->n_perms = n_perms;
	return 0;
}

/* ---- a domain's end -------------------------------------------------------------------------- */

static void forget_below(struct sim_tree *tree, struct sim_node *node, unsigned domid)
{
	unsigned kept = 1;

	for (unsigned i = 1; i < node->n_perms; i++)
		if (node->perms[i].domid != domid)
			node->perms[kept++] = node->perms[i];
	node->n_perms = kept;

	for (unsigned i = 0; i < node->n_children;) {
		if (node->children[i]->perms[0].domid == domid) {
			discharge(tree, node->children[i]);
			child_remove(node, i);
		} else {
			forget_below(tree, node_own(&node->children[i]), domid);
			i++;
		}
	}
}

void sim_tree_forget_domain(struct sim_tree *tree, unsigned domid)
{
	struct sim_node *root = node_own(&tree->root);

	/* The root can't be removed. */
	if (root->perms[0].domid == domid) {
		owner_add(tree, domid, -1);
		owner_add(tree, 0, 1);
		root->perms[0].domid = 0;
	}
	forget_below(tree, root, domid);
}
