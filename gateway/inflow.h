/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_INFLOW_H
#define XENMSG_GATEWAY_INFLOW_H

/*
 * What has come from the network and wasn't looked at yet, in a queue for each host that sent it. The queues
 * take turns (base/turns.h), and each has a bound of its own: whatever one host sends, and however much, what
 * others send waits for a turn or two and is never dropped for it. What waits of all has a bound, too, of
 * which each has a share.
 *
 *   network ── inflow_put() ──► queue of hosta ──┐
 *                         └───► queue of hostb ──┴── turns ──► take()
 *
 * A queue lives as long as something is in it, so hosts whose names are made up leave nothing behind.
 */

#include <stdbool.h>
#include <stddef.h>

/* Bytes that wait of one host; each message counts INFLOW_MESSAGE more than it has. The window of a
 * conversation fits in here several times, also when it comes in small messages. */
#define INFLOW_HOST_MAX (16u << 20)
#define INFLOW_MESSAGE	256u
/* Bytes that wait of all hosts, which have shares of it by the rule of quota.h: a dozen may have all that one
 * may. */
#define INFLOW_MAX (256u << 20)
/* What taking a message costs, in units of turns.h, and its bytes, which are copied; and what is taken before
 * the loop handles other events. */
#define COST_MESSAGE	      200u
#define COST_MESSAGE_BYTES(n) ((unsigned)((n) / 32u))
#define INFLOW_PASS	      8192u

struct event_base;
struct inflow;

/* Takes a message, which is the taker's from now on. Must not free the inflow, nor clear it. */
typedef void (*inflow_take_fn)(void *userdata, void *message);

/* 0 or -ENOMEM. */
int inflow_new(struct inflow **inflow, struct event_base *base, inflow_take_fn take, void *userdata);
/* Messages that wait must be cleared before. NULL is allowed. */
void inflow_free(struct inflow *inflow);
/* Keeps a message of `size` bytes until it is its host's turn. Returns 0, -ENOBUFS (so much waits already of
 * that host, or of all) or -ENOMEM; the message stays the caller's then. */
int inflow_put(struct inflow *inflow, const char *host, void *message, size_t size);
/* Gives all that waits to `drop`. */
void inflow_clear(struct inflow *inflow, inflow_take_fn drop, void *userdata);

#endif
