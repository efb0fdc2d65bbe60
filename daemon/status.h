/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STATUS_H
#define XENMSG_DAEMON_STATUS_H

/*
 * The daemon's account of itself as JSON (doc/status.schema.json), and the shorter lists for `xenmsg peers` and `xenmsg
 * endpoints`. Reads the other modules and changes nothing.
 */

#include <stdint.h>

struct config;
struct directory;
struct json_object;
struct links;
struct local;
struct peers;
struct quota;
struct router;
struct store;
struct turns;
struct vchan_host;

struct status_sources {
	const struct config *config;
	uint32_t domid;
	struct directory *directory;
	const char *instance;
	uint64_t started_ms; /* as of clock_ms() */
	struct access *access;
	struct links *links;
	struct local *local;
	struct peers *peers;
	struct quota *quota;
	struct router *router;
	struct store *store;
	const struct turns *turns;
	struct vchan_host *host;
};

/* Each returns a new object that the caller puts. */
struct json_object *status_all(const struct status_sources *sources);
struct json_object *status_peers(const struct status_sources *sources);
/* Of one domain, or of all with `domid` below zero. */
struct json_object *status_endpoints(const struct status_sources *sources, int64_t domid);

#endif
