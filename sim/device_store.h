/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XenStore as the toolstack of `xensim attach` speaks to it: a program of domain 0 with one connection.
 * Functions return 0 or a negative errno unless their comment says otherwise. */
#ifndef XENMSG_SIM_DEVICE_STORE_H
#define XENMSG_SIM_DEVICE_STORE_H

#include <stddef.h>
#include <stdint.h>

/* What a message holds at most: XENSTORE_PAYLOAD_MAX of xs_wire.h, and a NUL. */
#define STORE_CLIENT_TEXT (4096 + 1)
/* The longest path of a directory. */
#define STORE_CLIENT_PATH 512

struct store_client {
	int fd; /* the caller closes it, also after a failure to open */
	uint32_t transaction;
};

int store_client_open(struct store_client *store, const char *dir);
/* Asks, and passes over events. Returns the answer's length, or a negative errno. */
int store_client_ask(const struct store_client *store, uint32_t type, const char *text, size_t length,
		     char answer[STORE_CLIENT_TEXT]);
/* Of one string, with what follows its NUL. */
int store_client_ask_of(const struct store_client *store, uint32_t type, const char *path, const char *rest,
			size_t rest_length);
int store_client_write(const struct store_client *store, const char *directory, const char *name,
		       const char *value);
/* Returns the value's length, or a negative errno. */
int store_client_read(const struct store_client *store, const char *directory, const char *name,
		      char value[STORE_CLIENT_TEXT]);
int store_client_remove(const struct store_client *store, const char *path);
/* Only the owner and one other domain, which reads. */
int store_client_set_perms(const struct store_client *store, const char *path, unsigned owner,
			   unsigned reader);
int store_client_begin(struct store_client *store);
/* Ends the transaction: commits it if r is 0. Returns r, or the commit's error, -EAGAIN among them. */
int store_client_end(struct store_client *store, int r);
/* Waits until a backend has this state. -ENOENT: it has gone. */
int store_client_wait_for_state(const struct store_client *store, const char *backend, int wanted,
				int64_t patience_ms);

#endif
