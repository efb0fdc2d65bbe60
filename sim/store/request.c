/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim/store/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void sim_reply_append(struct store_reply *reply, const void *data, size_t len)
{
	reply->data = sim_must(realloc(reply->data, reply->len + len + 1));
	if (len)
		memcpy(reply->data + reply->len, data, len);
	reply->len += len;
	reply->data[reply->len] = '\0';
}

void sim_reply_clear(struct store_reply *reply)
{
	free(reply->data);
	*reply = (struct store_reply){0};
}

bool sim_reply_equal(const struct store_reply *a, const struct store_reply *b)
{
	if (a->error || b->error)
		return a->error == b->error;
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

void sim_changes_add(struct sim_changes *changes, uint32_t type, const char *path)
{
	char *copy;

	changes->list = sim_must(realloc(changes->list, (changes->count + 1) * sizeof(*changes->list)));
	/* A special node is reported as the one in the root that it is. */
	if (asprintf(&copy, "%s%s", path[0] == '@' ? "/" : "", path) < 0)
		abort();
	changes->list[changes->count++] = (struct sim_change){type, copy};
}

void sim_changes_clear(struct sim_changes *changes)
{
	for (size_t i = 0; i < changes->count; i++)
		free(changes->list[i].path);
	free(changes->list);
	free(changes->top_read);
	free(changes->top_written);
	*changes = (struct sim_changes){0};
}

bool sim_request_is_for_tree(uint32_t type)
{
	switch (type) {
	case XS_DIRECTORY:
	case XS_DIRECTORY_PART:
	case XS_READ:
	case XS_GET_PERMS:
	case XS_WRITE:
	case XS_MKDIR:
	case XS_RM:
	case XS_SET_PERMS:
	case XS_GET_DOMAIN_PATH:
		return true;
	default:
		return false;
	}
}

/* Widens *top, so that the first len characters of path lie below it, too. The root is "". */
static void widen(char **top, const char *path, size_t len)
{
	size_t common = 0, at = 0;

	if (!*top) {
		*top = sim_must(strndup(path, len));
		return;
	}
	for (; at < len && path[at] == (*top)[at]; at++)
		if (path[at] == '/')
			common = at;
	if ((at == len || path[at] == '/') && ((*top)[at] == '/' || (*top)[at] == '\0'))
		common = at;
	(*top)[common] = '\0';
}

/* Appends the names below a node, each with its NUL: oxenstored's are in their order, C xenstored's in that
 * in which they were made. */
static void append_names(struct store_reply *reply, const struct sim_node *node, bool as_made)
{
	struct sim_node **children = as_made ? sim_node_children_as_made(node) : node->children;

	for (unsigned i = 0; i < node->n_children; i++)
		sim_reply_append(reply, children[i]->name, strlen(children[i]->name) + 1);
	if (as_made)
		free(children);
}

/* A directory's generation, and its names from an offset on, as many as there is room for; after the last one
 * an empty one. */
static void reply_with_part(struct store_reply *reply, const struct sim_node *node, size_t offset)
{
	struct store_reply names = {0};
	char generation[24];
	size_t length = (size_t)snprintf(generation, sizeof(generation), "%" PRIu64, node->generation) + 1,
	       taken = 0;

	append_names(&names, node, true);
	sim_reply_append(reply, generation, length);
	if (offset > names.len)
		offset = names.len;
	while (offset + taken < names.len) {
		size_t name = strlen(names.data + offset + taken);

		if (taken + name >= XENSTORE_PAYLOAD_MAX - length - 1)
			break;
		taken += name + 1;
	}
	sim_reply_append(reply, names.data ? names.data + offset : "", taken);
	if (offset + taken == names.len)
		sim_reply_append(reply, "", 1);
	sim_reply_clear(&names);
}

static void reply_with_node(struct store_reply *reply, const struct store_message *request,
			    const struct sim_node *node, bool like_xenstored)
{
	char perm[SIM_WIRE_PERM_SIZE];

	switch (request->header.type) {
	case XS_READ:
		sim_reply_append(reply, node->value, node->value_len);
		break;
	case XS_DIRECTORY:
		append_names(reply, node, like_xenstored);
		break;
	case XS_DIRECTORY_PART:
		reply_with_part(reply, node, (size_t)request->domid);
		break;
	case XS_GET_PERMS:
		for (unsigned i = 0; i < node->n_perms; i++) {
			int len = sim_wire_print_perm(perm, &node->perms[i]);

			sim_reply_append(reply, perm, (size_t)len + 1);
		}
		break;
	default:
		abort();
	}
}

static int change(struct sim_tree *tree, const struct sim_credentials *who,
		  const struct store_message *request, const char *path)
{
	switch (request->header.type) {
	case XS_WRITE:
		return sim_tree_write(tree, who, path, request->value, request->value_len);
	case XS_MKDIR:
		return sim_tree_mkdir(tree, who, path);
	case XS_RM:
		return sim_tree_rm(tree, who, path);
	case XS_SET_PERMS:
		return sim_tree_set_perms(tree, who, path, request->perms, request->n_perms);
	default:
		abort();
	}
}

/* Makes the change, and notes what it may have changed: with the parents that stay when it is then
 * refused. */
static int change_and_note(struct sim_tree *tree, const struct sim_credentials *who,
			   const struct store_message *request, char *path, struct sim_changes *changes)
{
	const uint32_t type = request->header.type;
	/* As long as we hold it, every change makes another root. */
	struct sim_node *before = sim_node_ref(tree->root);
	int rc = change(tree, who, request, path);

	if (rc == 0)
		sim_changes_add(changes, type, path);
	if (rc == 0 || tree->root != before) {
		bool new = !sim_node_find(before, path);

		if (strcmp(path, "/") == 0)
			path[0] = '\0';
		else if (new || type == XS_RM)
			do
				path[sim_path_parent_length(path)] = '\0';
			while (!sim_node_find(before, path));
		widen(&changes->top_written, path, strlen(path));
	}
	sim_node_unref(before);
	return rc;
}

void sim_request_execute(struct sim_tree *tree, const struct sim_credentials *who,
			 const struct store_message *request, struct store_reply *reply,
			 struct sim_changes *changes)
{
	const uint32_t type = request->header.type;
	const struct sim_node *node;
	char path[SIM_PATH_SIZE];
	int rc;

	if (type == XS_GET_DOMAIN_PATH) {
		int len = snprintf(path, sizeof(path), "/local/domain/%" PRIu64,
				   (uint64_t)request->domid & INT64_MAX);

		sim_reply_append(reply, path, (size_t)len + 1);
		return;
	}
	reply->error =
		sim_path_resolve(path, request->untrusted_path, (unsigned)who->domid, &tree->options->limits);
	if (reply->error)
		return;

	switch (type) {
	case XS_READ:
	case XS_DIRECTORY:
	case XS_DIRECTORY_PART:
	case XS_GET_PERMS:
		reply->error = sim_tree_get(tree, who, path, &node);
		if (reply->error)
			return;
		reply_with_node(reply, request, node, tree->options->like_xenstored);
		widen(&changes->top_read, path, strcmp(path, "/") == 0 ? 0 : strlen(path));
		return;
	default:
		rc = change_and_note(tree, who, request, path, changes);
		if (rc < 0)
			reply->error = rc;
		else
			sim_reply_append(reply, "OK", 3);
	}
}
