/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BENCH_FANOUT_H
#define XENMSG_BENCH_FANOUT_H

/*
 * One publisher and many subscribers, who know a contender only by these functions. A process has many
 * subscribers, each with a connection of its own, so that what is measured is what a message costs and not
 * what the scheduler does. The functions end the program when something fails.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct subscriber {
	int fd;		/* readable when something has come */
	uint64_t count; /* messages that have come, or are known to be missing */
	void *own;
};

struct contender {
	const char *name;
	/* Subscribes, and returns when nothing that is published from now on is missed. */
	void (*subscribe)(struct subscriber *subscriber, const char *address, size_t size);
	/* Takes what has come, without waiting: took() for each message. */
	void (*take)(struct subscriber *subscriber);
	void (*open)(const char *address, size_t size);
	void (*publish)(const void *data, size_t size);
	/* All that was published is on its way. */
	void (*flush)(void);
};

/* A message has come: `data` is where it lies, or where its first bytes do. */
void took(struct subscriber *subscriber, const void *data);
/* So many are known to be missing. */
void missed(struct subscriber *subscriber, uint64_t count);

/* Starts dbus-broker, and stays as its controller. */
void fanout_broker(const char *path) __attribute__((noreturn));
/* How many subscribe, for a publisher. */
uint32_t fanout_subscribers(void);

extern const struct contender fanout_topic, fanout_send, fanout_nats, fanout_dbus, fanout_zeromq;

#endif
