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

#include "sim/store.h"
#include "sim/store_wire.h"

struct unit_host {
	struct event_base *base;
	struct sim_store *store;
};

struct unit_client {
	struct unit_host *host;
	int fd;
	char input[1 << 20]; /* what has come and isn't looked at yet */
	size_t input_len;
	char reply[XENSTORE_PAYLOAD_MAX + 1];
	size_t reply_len;
	char events[4096][2][1100]; /* path, token */
	unsigned n_events;
};

/* A host with homes for the domains 1 to 3, as a toolstack makes them: the guest owns its data and reads the
 * rest. */
struct unit_host *unit_host_new(enum sim_store_flavour flavour);
void unit_host_free(struct unit_host *host);
void unit_run(struct unit_host *host);

/* What most tests begin with, as their state: every such test runs against either flavour. */
struct unit_fixture {
	enum sim_store_flavour flavour;
	struct unit_host *host;
	struct unit_client *dom0, *one, *two;
};

int unit_setup_oxenstored(void **state);
int unit_setup_xenstored(void **state);
int unit_teardown(void **state);

#define unit_test_on_both(test)                                                                              \
	{#test " (oxenstored)", test, unit_setup_oxenstored, unit_teardown, NULL},                           \
	{                                                                                                    \
#test " (xenstored)", test, unit_setup_xenstored, unit_teardown, NULL                        \
	}

struct unit_client *unit_connect(struct unit_host *host, unsigned domid);
void unit_close(struct unit_client *client);
void unit_send(struct unit_client *client, const void *data, size_t len);
/* Reads all there is. True while the connection stands. */
bool unit_receive(struct unit_client *client);
/* One request and its reply: 0 or the negative errno of its name (EQUOTA is EDQUOT). */
int unit_ask(struct unit_client *client, uint32_t type, uint32_t transaction, const void *payload,
	     size_t len);

int unit_write(struct unit_client *client, uint32_t transaction, const char *path, const char *value);
/* The value, "" too; NULL after an error that errno then names. */
const char *unit_read(struct unit_client *client, uint32_t transaction, const char *path);
int unit_simple(struct unit_client *client, uint32_t type, uint32_t transaction, const char *path);
/* perms separated by blanks: "n1 r2" */
int unit_set_perms(struct unit_client *client, uint32_t transaction, const char *path, const char *perms);
/* The same form back. */
const char *unit_get_perms(struct unit_client *client, const char *path);
int unit_watch(struct unit_client *client, const char *path, const char *token);
/* Watches and swallows the first event. */
void unit_watch_quietly(struct unit_client *client, const char *path, const char *token);
int unit_unwatch(struct unit_client *client, const char *path, const char *token);
int unit_start(struct unit_client *client, uint32_t *transaction);
int unit_end(struct unit_client *client, uint32_t transaction, bool commit);

/* Moves what has come into events. */
void unit_collect_events(struct unit_client *client);
/* The oldest event not looked at yet is this one. */
void unit_expect_event(struct unit_client *client, const char *path, const char *token);
void unit_expect_silence(struct unit_client *client);

#endif
