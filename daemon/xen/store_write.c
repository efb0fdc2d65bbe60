/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes leaves in one transaction, so that nobody sees them before they have their permissions, with the
 * directories above them, which nobody else may read. Used by the thread behind `struct store`, which decides
 * whether to try again.
 */

#include "daemon/xen/store_worker_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xenstore.h>

int store_error(int saved_errno)
{
	switch (saved_errno) {
	case EINVAL:
	case 0:
		return -EDQUOT;
	case EACCES:
		return -ENOENT;
	default:
		return -saved_errno;
	}
}

/* What can't be written for want of a right stays so; else ENOENT is of a transaction. */
static int write_error(void)
{
	return errno == EACCES ? -EACCES : store_error(errno);
}

static int set_permissions(struct xs_handle *xs, xs_transaction_t transaction, const char *path,
			   uint32_t owner, int reader)
{
	struct xs_permissions permissions[2] = {
		{.id = owner, .perms = reader == STORE_EVERYONE ? XS_PERM_READ : XS_PERM_NONE},
		{.id = (unsigned)reader, .perms = XS_PERM_READ},
	};

	if (!xs_set_permissions(xs, transaction, path, permissions, reader >= 0 ? 2 : 1))
		return write_error();
	return 0;
}

static int store_write_make_directories(struct xs_handle *xs, xs_transaction_t transaction, const char *path,
					uint32_t owner)
{
	char directory[STORE_PATH_MAX];
	const char *end = strrchr(path, '/');
	size_t length = end ? (size_t)(end - path) : 0, first;
	void *value;

	if (length == 0)
		return 0;
	if (length >= sizeof(directory))
		return -ENAMETOOLONG;
	/* The search goes up to the deepest one that exists, usually the parent itself; then down again. */
	for (first = length;;) {
		memcpy(directory, path, first);
		directory[first] = '\0';
		value = xs_read(xs, transaction, directory, NULL);
		if (value || errno == EACCES) {
			free(value);
			break;
		}
		if (errno != ENOENT)
			return write_error();
		end = memrchr(path, '/', first);
		if (!end || end == path) {
			first = 0;
			break;
		}
		first = (size_t)(end - path);
	}
	/* Those below the first one are made with its permissions. */
	for (bool is_first = true; first < length; is_first = false) {
		const char *next = memchr(path + first + 1, '/', length - first - 1);
		int r;

		first = next ? (size_t)(next - path) : length;
		memcpy(directory, path, first);
		directory[first] = '\0';
		if (!xs_mkdir(xs, transaction, directory))
			return write_error();
		r = is_first ? set_permissions(xs, transaction, directory, owner, STORE_NOBODY) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether both are in one directory. */
static bool is_beside(const char *path, const char *other)
{
	const char *leaf = strrchr(path, '/');
	size_t length = leaf ? (size_t)(leaf - path) + 1 : 0;

	return length && !strncmp(path, other, length) && !strchr(other + length, '/');
}

/* `*before`: the path that was written last; NULL: none. */
static int write_in(struct xs_handle *xs, xs_transaction_t transaction, const struct store_request *request,
		    const char **before)
{
	for (unsigned i = 0; i < request->count; i++) {
		const char *path = request->paths[i], *value = request->values[i];
		int r = *before && is_beside(*before, path)
				? 0
				: store_write_make_directories(xs, transaction, path, request->owner);

		*before = path;
		if (r < 0)
			return r;
		if (!xs_write(xs, transaction, path, value, (unsigned)strlen(value)))
			return write_error();
		r = set_permissions(xs, transaction, path, request->owner, request->reader);
		if (r < 0)
			return r;
	}
	return 0;
}

int store_write_once(struct xs_handle *xs, struct store_request *const *requests, unsigned count)
{
	xs_transaction_t transaction;
	const char *before = NULL;
	int r = 0;

	errno = 0;
	transaction = xs_transaction_start(xs);
	if (transaction == XBT_NULL)
		return write_error();
	for (unsigned i = 0; i < count && r == 0; i++)
		r = write_in(xs, transaction, requests[i], &before);
	if (r < 0) {
		xs_transaction_end(xs, transaction, true);
		return r;
	}
	return xs_transaction_end(xs, transaction, false) ? 0 : write_error();
}
