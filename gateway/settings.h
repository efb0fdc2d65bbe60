/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_SETTINGS_H
#define XENMSG_GATEWAY_SETTINGS_H

/* The gateway's settings: /etc/xenmsg/gateway.conf, an INI file that xenmsg-gateway(8) describes. As for the
 * daemon's (base/config.h), a file is taken whole or not at all. */

#include <stdint.h>

#include "base/log.h"

#define SETTINGS_DEFAULT_PATH "/etc/xenmsg/gateway.conf"
#define SETTINGS_SERVERS_MAX  16u

struct settings {
	/* [nats] NULL: not set */
	char *servers[SETTINGS_SERVERS_MAX]; /* URLs */
	unsigned server_count;
	char *tls_ca, *tls_cert, *tls_key; /* files */
	char *credentials;		   /* a file */
	char *nkey, *nkey_seed;		   /* the public key, and the file of its seed */
	char *user, *password_file;

	/* [gateway] times in milliseconds */
	char *daemon_socket;
	uint32_t presence_interval_ms, dead_after_ms;
	enum log_level log_level;
	enum log_target log_target;
	int ready_fd; /* by the command line (base/notify.h); -1: none */
};

/* Sets the defaults. 0 or -ENOMEM. */
int settings_init(struct settings *settings);
/* Adds what the file says. On error *error is a sentence for people, which the caller frees; the settings may
 * then only be passed to settings_free(). -EINVAL: the file has a mistake; -ENOMEM; else why it can't be
 * read. */
int settings_load(struct settings *settings, const char *path, char **error);
void settings_free(struct settings *settings);

#endif
