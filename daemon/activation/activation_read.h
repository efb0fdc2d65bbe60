/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACTIVATION_READ_H
#define XENMSG_DAEMON_ACTIVATION_READ_H

/*
 * Reads which endpoints are started on demand: the files `*.conf` of the activation directory
 * (xenmsg-activation(5)), one [activate] each. They are read whole or not at all, like the policy: a mistake
 * names the file, the line and what is allowed.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/address.h"

/* What one file says. */
struct activation_settings {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uid_t uid;  /* who may bind it, and as whom the command runs */
	char *user; /* the same as the file has it */
	/* What the command's process needs to become that user, from when the file was read: asking the
	 * service that knows the users may take long. */
	char *user_name, *home; /* NULL: no user has this uid here */
	gid_t gid;
	gid_t *groups;
	int group_count;
	char *unit;	/* of systemd; NULL: it is a command */
	char **command; /* its words, the first an absolute path, with a NULL behind; NULL: it is a unit */
	char *words;	/* the command as the file has it */
	uint32_t timeout_ms;
	char *path; /* of the file */
	struct activation_settings *next;
};

/* Reads all files; the caller frees *list by activation_settings_free(). `runs_as`: the daemon's user, which
 * only as root can run commands of others. -EINVAL: a file has a mistake; else why it can't be read. *error
 * is a sentence for people, which the caller frees. */
int activation_read(struct activation_settings **list, const char *directory, uid_t runs_as, char **error);
/* Returns whether a file names this unit. Of each file alone: one with a mistake names none, and keeps no
 * other from being heard, as the daemon goes on with what it has read before. */
bool activation_names_unit(const char *directory, const char *unit);
void activation_settings_free(struct activation_settings *list);

#endif
