/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See tree.h. The rules were read from Xen 4.17's source. */
#include "config.h"

#include "sim/store/tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool sim_credentials_privileged(const struct sim_credentials *who)
{
	return who->domid == 0 || who->target == 0;
}

/* Of all nodes and changes. */
static uint64_t last_number;

static bool acts_as(const struct sim_credentials *who, int64_t domid)
{
	return who->domid == domid || (who->target >= 0 && who->target == domid);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static struct sim_node *node_new(const char *name, size_t name_len, const struct sim_perm *perms,
				 unsigned n_perms)
{
	struct sim_node *node = sim_must(calloc(1, sizeof(*node)));

	node->refs = 1;
	node->serial = node->generation = ++last_number;
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
	own->serial = shared->serial;
	own->generation = shared->generation;
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

/* The first entry that names the domain decides; one that is not listed is "everyone else". */
static bool permits_domain(const struct sim_node *node, int64_t domid, enum sim_perm_access access)
{
	unsigned i = 1;

	while (i < node->n_perms && node->perms[i].domid != domid)
		i++;
	return (node->perms[i < node->n_perms ? i : 0].access & access) == access;
}

bool sim_node_permits(const struct sim_node *node, const struct sim_credentials *who,
		      enum sim_perm_access access)
{
	return sim_credentials_privileged(who) || acts_as(who, node->perms[0].domid) ||
	       permits_domain(node, who->domid, access) ||
	       (who->target >= 0 && permits_domain(node, who->target, access));
}

static int by_serial(const void *a, const void *b)
{
	const struct sim_node *one = *(struct sim_node *const *)a, *other = *(struct sim_node *const *)b;

	return one->serial < other->serial ? -1 : one->serial > other->serial;
}

struct sim_node **sim_node_children_as_made(const struct sim_node *node)
{
	struct sim_node **children = sim_must(calloc(node->n_children + 1, sizeof(struct sim_node *)));

	if (node->n_children)
		memcpy(children, node->children, node->n_children * sizeof(struct sim_node *));
	qsort(children, node->n_children, sizeof(struct sim_node *), by_serial);
	return children;
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

int sim_tree_owned(const struct sim_tree *tree, int64_t domid)
{
	for (unsigned i = 0; i < tree->n_owners; i++)
		if (tree->owners[i].domid == domid)
			return tree->owners[i].nodes;
	return 0;
}

static void owner_add(struct sim_tree *tree, int64_t domid, int nodes)
{
	unsigned i;

	for (i = 0; i < tree->n_owners && tree->owners[i].domid != domid; i++)
		;
	if (i == tree->n_owners) {
		tree->owners = sim_must(realloc(tree->owners, (i + 1) * sizeof(*tree->owners)));
		tree->owners[i] = (struct sim_owner){.domid = domid};
		tree->n_owners++;
	}
	tree->owners[i].nodes += nodes;
	if (tree->owners[i].nodes == 0)
		tree->owners[i] = tree->owners[--tree->n_owners];
}

static void discharge(struct sim_tree *tree, const struct sim_node *node)
{
	owner_add(tree, node->perms[0].domid, -1);
	for (unsigned i = 0; i < node->n_children; i++)
		discharge(tree, node->children[i]);
}

/* Of a guest C xenstored limits what an entry of its data base takes: 24 bytes, 8 for each permission, the
 * value, and the names below. */
static bool is_too_large(const struct sim_tree *tree, const struct sim_credentials *who,
			 const struct sim_node *node, size_t value_len, unsigned n_perms, size_t more_names)
{
	size_t size = 24 + 8 * (size_t)n_perms + value_len + more_names;

	if (!tree->options->like_xenstored || sim_credentials_privileged(who))
		return false;
	for (unsigned i = 0; node && i < node->n_children; i++)
		size += strlen(node->children[i]->name) + 1;
	return size >= tree->options->limits.value_bytes;
}

/* ---- the tree -------------------------------------------------------------------------------- */

void sim_tree_init(struct sim_tree *tree, const struct sim_store_options *options)
{
	const struct sim_perm dom0 = {0, SIM_PERM_NONE};

	*tree = (struct sim_tree){.options = options};
	tree->root = node_new("", 0, &dom0, 1);
	node_set_value(tree->root, "", 0);
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

	/* C xenstored tells only who may read there that there is nothing. */
	if (!exact)
		return tree->options->like_xenstored && !sim_node_permits(found, who, SIM_PERM_READ)
			       ? -EACCES
			       : -ENOENT;
	if (!sim_node_permits(found, who, SIM_PERM_READ))
		return -EACCES;
	*node = found;
	return 0;
}

/* Adds a missing name below the parent, which is at the first parent_len characters of the path. */
static int add_child(struct sim_tree *tree, const struct sim_credentials *who, const struct sim_node *parent,
		     const char *path, size_t parent_len, const char *name, size_t name_len,
		     const struct sim_node **added)
{
	/* With C xenstored it is the maker's. */
	bool makers = tree->options->like_xenstored && !sim_credentials_privileged(who);
	int64_t owner = makers ? who->domid : parent->perms[0].domid;
	struct sim_node *own, *child;
	unsigned position;

	if (makers && !sim_node_permits(parent, who, SIM_PERM_WRITE))
		return -EACCES;
	if (!sim_credentials_privileged(who) && owner > 0 &&
	    sim_tree_owned(tree, owner) >= (int)tree->options->limits.nodes)
		return -EDQUOT;
	if (!sim_node_permits(parent, who, SIM_PERM_WRITE))
		return -EACCES;

	if (is_too_large(tree, who, parent, parent->value_len, parent->n_perms, name_len + 1))
		return -ENOSPC;

	child = node_new(name, name_len, parent->perms, parent->n_perms);
	child->perms[0].domid = owner;
	node_set_value(child, "", 0);
	owner_add(tree, owner, 1);
	own = own_path(tree, path, parent_len);
	child_position(own, name, name_len, &position);
	child_insert(own, position, child);
	own->generation = ++last_number;
	*added = child;
	return 0;
}

/* Creates the missing nodes of the path, and the leaf if `leaf`. */
static int tree_create(struct sim_tree *tree, const struct sim_credentials *who, const char *path, bool leaf)
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
			rc = add_child(tree, who, node, path, (size_t)(before - path), name, len, &node);
			if (rc < 0)
				return rc;
		}
		before = rest;
	}
	return 0;
}

static void set_value(struct sim_tree *tree, const char *path, const void *value, size_t len)
{
	const struct sim_node *node = sim_node_find(tree->root, path);

	if (tree->options->like_xenstored) {
		struct sim_node *own = own_path(tree, path, strlen(path));

		node_set_value(own, value, len);
		own->generation = ++last_number;
		return;
	}
	/* oxenstored keeps a node whose value stays the same, but makes all nodes above it new. */
	if (node->value_len != len || memcmp(node->value, value, len) != 0)
		node_set_value(own_path(tree, path, strlen(path)), value, len);
	else if (node != tree->root)
		own_path(tree, path, sim_path_parent_length(path));
}

int sim_tree_write(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		   const void *value, size_t len)
{
	const struct sim_node *node;
	int rc;

	if (tree->options->like_xenstored) {
		node = sim_node_find(tree->root, path);
		if (node && !sim_node_permits(node, who, SIM_PERM_WRITE))
			return -EACCES;
		if (is_too_large(tree, who, node, len, node ? node->n_perms : 1, 0))
			return -ENOSPC;
	}
	/* oxenstored makes the parents first, which stay when the leaf is then refused. */
	rc = tree_create(tree, who, path, false);
	if (rc < 0)
		return rc;
	if (len > tree->options->limits.value_bytes && !tree->options->like_xenstored)
		return -E2BIG; /* for domain 0, too */
	node = sim_node_find(tree->root, path);
	if (!node) {
		rc = tree_create(tree, who, path, true);
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

	if (!node)
		return tree_create(tree, who, path, true);
	/* Everybody makes the root, which changes nothing. */
	if (node == tree->root && !tree->options->like_xenstored)
		return 0;
	return sim_node_permits(node, who, SIM_PERM_WRITE) ? 1 : -EACCES;
}

int sim_tree_rm(struct sim_tree *tree, const struct sim_credentials *who, const char *path)
{
	const struct sim_node *parent = sim_node_parent(tree->root, path), *node;
	const char *name = path[0] == '@' ? path : strrchr(path, '/') + 1;
	struct sim_node *own;
	unsigned position;
	bool exact;

	if (tree->options->like_xenstored) {
		node = sim_node_nearest(tree->root, path, &exact);
		if (!sim_node_permits(node, who, SIM_PERM_WRITE))
			return -EACCES;
		if (node == tree->root && exact)
			return -EINVAL;
	}

	if (strcmp(path, "/") == 0) {
		if (!sim_node_permits(tree->root, who, SIM_PERM_WRITE))
			return -EACCES;
		discharge(tree, tree->root);
		own = node_own(&tree->root);
		while (own->n_children)
			child_remove(own, own->n_children - 1);
		return 0;
	}
	if (!parent)
		return -ENOENT;
	/* Permissions aren't checked when nothing is removed. */
	if (!child_position(parent, name, strlen(name), &position))
		return 1;
	node = parent->children[position];
	if (!sim_node_permits(node, who, SIM_PERM_WRITE))
		return -EACCES;
	discharge(tree, node);
	own = own_path(tree, path, sim_path_parent_length(path));
	child_remove(own, position);
	own->generation = ++last_number;
	return 0;
}

int sim_tree_set_perms(struct sim_tree *tree, const struct sim_credentials *who, const char *path,
		       const struct sim_perm *perms, unsigned n_perms)
{
	const struct sim_node *node = sim_node_find(tree->root, path);
	struct sim_node *own;
	struct sim_perm *copy;

	if (tree->options->like_xenstored && !sim_credentials_privileged(who)) {
		bool exact;
		const struct sim_node *nearest = sim_node_nearest(tree->root, path, &exact);

		if (!exact)
			return sim_node_permits(nearest, who, SIM_PERM_WRITE) ? -ENOENT : -EACCES;
		if (!acts_as(who, node->perms[0].domid))
			return -EACCES;
		if (perms[0].domid != node->perms[0].domid)
			return -EPERM;
	}
	if (!node)
		return -ENOENT;
	/* An owner can't give a node away, since another domain would then be charged for it. Of the root it
	 * is not asked who owns it. */
	if (!sim_credentials_privileged(who) &&
	    (perms[0].domid != node->perms[0].domid || !sim_node_permits(node, who, SIM_PERM_WRITE) ||
	     (node != tree->root && !acts_as(who, node->perms[0].domid))))
		return -EACCES;

	if (is_too_large(tree, who, node, node->value_len, n_perms, 0))
		return -ENOSPC;
	own = own_path(tree, path, strlen(path));
	owner_add(tree, own->perms[0].domid, -1);
	owner_add(tree, perms[0].domid, 1);
	copy = sim_must(malloc(n_perms * sizeof(*copy)));
	memcpy(copy, perms, n_perms * sizeof(*copy));
	free(own->perms);
	own->perms = copy;
	own->n_perms = n_perms;
	own->generation = ++last_number;
	return 0;
}

bool sim_node_same_perms(const struct sim_node *a, const struct sim_node *b)
{
	if (a->n_perms != b->n_perms)
		return false;
	for (unsigned i = 0; i < a->n_perms; i++)
		if (a->perms[i].domid != b->perms[i].domid || a->perms[i].access != b->perms[i].access)
			return false;
	return true;
}

void sim_tree_graft(struct sim_tree *tree, const char *path, struct sim_node *node,
		    const struct sim_tree *before, const struct sim_tree *after)
{
	struct sim_node *parent = own_path(tree, path, sim_path_parent_length(path));
	unsigned position;

	if (!child_position(parent, node->name, strlen(node->name), &position))
		abort(); /* the caller has found it */
	sim_node_ref(node);
	sim_node_unref(parent->children[position]);
	parent->children[position] = node;
	/* A domain that has no node any more is left out by oxenstored. */
	for (unsigned i = 0; i < after->n_owners; i++) {
		const struct sim_owner *owner = &after->owners[i], *was = &before->owners[i];

		/* Most are as they were, and in the same place. */
		if (i >= before->n_owners || was->domid != owner->domid || was->nodes != owner->nodes)
			owner_add(tree, owner->domid, owner->nodes - sim_tree_owned(before, owner->domid));
	}
}

/* ---- a domain's end -------------------------------------------------------------------------- */

/* The owner of the root after its own has gone; oxenstored removes other nodes that have it. */
#define NO_OWNER (-1)

static void forget_below(struct sim_node *node, int64_t domid)
{
	unsigned kept = 1;

	for (unsigned i = 1; i < node->n_perms; i++)
		if (node->perms[i].domid != domid)
			node->perms[kept++] = node->perms[i];
	node->n_perms = kept;

	for (unsigned i = 0; i < node->n_children;) {
		int64_t owner = node->children[i]->perms[0].domid;

		if (owner == domid || owner == NO_OWNER) {
			child_remove(node, i);
		} else {
			forget_below(node_own(&node->children[i]), domid);
			i++;
		}
	}
}

void sim_tree_forget_domain(struct sim_tree *tree, int64_t domid)
{
	struct sim_node *root = node_own(&tree->root);

	if (root->perms[0].domid == domid)
		root->perms[0].domid = NO_OWNER;
	forget_below(root, domid);
	/* What others owned below its nodes stays charged to them. */
	owner_add(tree, domid, -sim_tree_owned(tree, domid));
}
