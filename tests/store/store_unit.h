/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the simulated XenStore share: a store whose loop only runs while a test waits for it, and
 * clients that speak the wire protocol over a socketpair. Everything is deterministic, so "no event" can be
 * tested.
 */
#ifndef XENMSG_SIM_STORE_UNIT_H
#define XENMSG_SIM_STORE_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <string.h>

#include "sim/store/store.h"
#include "sim/store/wire.h"

struct unit_host {
	struct event_base *base;
	struct sim_store *store;
};

struct unit_client {
	struct unit_host *host;
	int fd;
	char input[1 << 20]; /* received and not yet parsed */
	size_t input_len;
	char reply[XENSTORE_PAYLOAD_MAX + 1];
	size_t reply_len;
	char events[4096][2][1100]; /* path, token */
	unsigned n_events;
};

/* Makes a host with homes for the domains 1 to 3, as a toolstack makes them: the guest owns its data and
 * reads the rest. */
struct unit_host *unit_host_new(void);
void unit_host_free(struct unit_host *host);
void unit_run(struct unit_host *host);

/* The state with which most tests begin. */
struct unit_fixture {
	struct unit_host *host;
	struct unit_client *dom0, *one, *two;
};

int unit_setup(void **state);
int unit_teardown(void **state);

#define unit_case(test) cmocka_unit_test_setup_teardown(test, unit_setup, unit_teardown)

struct unit_client *unit_connect(struct unit_host *host, unsigned domid);
void unit_close(struct unit_client *client);
void unit_send(struct unit_client *client, const void *data, size_t len);
/* Reads all there is. Returns true while the connection stands. */
bool unit_receive(struct unit_client *client);
/* Sends a request and waits for its reply. Returns 0 or the negative errno that it names (EQUOTA is
 * EDQUOT). */
int unit_ask(struct unit_client *client, uint32_t type, uint32_t transaction, const void *payload,
	     size_t len);

int unit_write(struct unit_client *client, uint32_t transaction, const char *path, const char *value);
/* Returns the value, which may be ""; NULL after an error, which is in errno. */
const char *unit_read(struct unit_client *client, uint32_t transaction, const char *path);
int unit_simple(struct unit_client *client, uint32_t type, uint32_t transaction, const char *path);
/* Sets permissions, separated by blanks: "n1 r2". */
int unit_set_perms(struct unit_client *client, uint32_t transaction, const char *path, const char *perms);
/* Returns permissions in the same form. */
const char *unit_get_perms(struct unit_client *client, const char *path);
int unit_watch(struct unit_client *client, const char *path, const char *token);
/* Sets a watch and discards its first event. */
void unit_watch_quietly(struct unit_client *client, const char *path, const char *token);
int unit_unwatch(struct unit_client *client, const char *path, const char *token);
int unit_start(struct unit_client *client, uint32_t *transaction);
int unit_end(struct unit_client *client, uint32_t transaction, bool commit);

/* Moves what has been received into events. */
void unit_collect_events(struct unit_client *client);
/* Asserts that the oldest unread event is this one. */
void unit_expect_event(struct unit_client *client, const char *path, const char *token);
void unit_expect_silence(struct unit_client *client);

#endif
