/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_CONFIG_H
#define XENMSG_BASE_CONFIG_H

/*
 * The daemon's settings: /etc/xenmsg/xenmsgd.conf, an INI file that xenmsgd.conf(5) describes key by key.
 *
 * A `struct config` begins with the defaults (config_init), takes what the file says (config_load) and then
 * doesn't change until config_free. It owns the strings and lists in it. Every value in it has been checked,
 * alone and against the others: its readers need no checks of their own.
 *
 * A file is taken whole or not at all. Unknown sections and keys, a key that comes twice, bad numbers and
 * values that contradict each other are errors, which name the file, the line, the value and what is allowed:
 * a daemon that ignores a misspelt limit runs without it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/log.h"

#define CONFIG_DEFAULT_PATH	 "/etc/xenmsg/xenmsgd.conf"
#define CONFIG_DEFAULT_DIRECTORY "/etc/xenmsg/xenmsgd.conf.d"
#define CONFIG_SOCKET_MAX	 sizeof(((struct sockaddr_un *)0)->sun_path) /* with its terminating NUL */

enum config_map {
	CONFIG_MAP_AUTO, /* HVM and PVH guests and dom0 map, PV guests don't */
	CONFIG_MAP_YES,
	CONFIG_MAP_NO,
};

/* How much domain 0's administrators may see of this daemon. */
enum config_sight {
	CONFIG_SIGHT_LINKS, /* the daemon itself, its links, and what domain 0 may reach here */
	CONFIG_SIGHT_FULL,
	CONFIG_SIGHT_NONE,
};

/* How a domain's daemon treats the rules of the host's policy that domain 0 tells it. */
enum config_host_policy {
	CONFIG_HOST_POLICY_OBEY,
	CONFIG_HOST_POLICY_IGNORE,
	CONFIG_HOST_POLICY_REQUIRE, /* and until it was told, nothing comes in */
};

struct config {
	/* [daemon] */
	char socket[CONFIG_SOCKET_MAX];
	char *policy_dir;
	char *host_policy_dir; /* for domain 0 */
	enum config_host_policy host_policy;
	char *activation_dir;
	enum log_level log_level;
	enum log_target log_target;
	int ready_fd;	   /* by the command line (notify.h); -1: none */
	char *user;	   /* NULL: no user was named */
	char *admin_group; /* the group need not exist */
	enum config_sight host_sight;

	/* [links] sizes in bytes, for each direction; times in milliseconds */
	/* where vchans that we grant begin, what they shrink to while pages are short, and what busy ones
	 * grow to */
	uint32_t ring_size, min_ring_size, max_ring_size;
	enum config_map map;
	bool relay; /* take part in relaying through domain 0 */
	bool presence_private;
	uint32_t *peers; /* domids that may see this daemon, with presence_private */
	unsigned peer_count;
	uint32_t heartbeat_ms, dead_after_ms;
	uint32_t idle_close_ms; /* 0: never */
	uint32_t resume_for_ms; /* 0: not at all */
	uint32_t busy_poll_us;	/* 0: never */
	uint32_t setup_timeout_ms;

	/* [hosts] */
	char *host_name;    /* NULL: there are no other hosts */
	char *gateway_user; /* who need not exist */

	/* [limits] */
	uint32_t max_message;
	/* of all together; each has a share of them (quota.h); of descriptors it is what the process may
	 * open */
	uint32_t max_clients, max_endpoints, max_channels;
	uint64_t max_queued_bytes, max_memory;

	/* config_find_users(): those that are named above; USERS_NO_UID and USERS_NO_GID: there is none, and
	 * `uid` is that of this process if none is named */
	uid_t uid, gateway_uid;
	gid_t administrators;
};

/* Sets the defaults. 0 or -ENOMEM. */
int config_init(struct config *config);

/* Adds what the file says, which must exist. `path` NULL means CONFIG_DEFAULT_PATH, and then the files of
 * CONFIG_DEFAULT_DIRECTORY in lexical order: a later one wins, and none of them need exist. On error *error
 * is a sentence for people, which the caller frees, and the config may only be passed to config_free().
 * -EINVAL: the file has a mistake; -ENOMEM; else why it can't be read. */
int config_load(struct config *config, const char *path, char **error);
/* Does the same with an open file, which the caller closes; `path` names it in errors. */
int config_load_stream(struct config *config, FILE *file, const char *path, char **error);

/* Looks up the users and the group that are named. Whom the system can't look up now is taken for nobody, or,
 * as the daemon's own user, for that of this process. -EAGAIN: there were such that a setting names, and
 * *error is as above; -ENOMEM. It may read files and ask other programs. */
int config_find_users(struct config *config, char **error);

/* Sets the socket's path from the command line, which overrides the file's. -EINVAL and *error as above. */
int config_set_socket(struct config *config, const char *path, char **error);

void config_free(struct config *config);

/* Reads a time as the settings have it ("30s") into *ms. -EINVAL: it isn't one, or not in `min` to `max`. */
int config_parse_duration(const char *text, uint32_t min, uint32_t max, uint32_t *ms);

#endif
