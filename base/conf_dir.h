/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_CONF_DIR_H
#define XENMSG_BASE_CONF_DIR_H

/* Configuration files, and directories of them: policy.d, activation.d. */

#include <stdio.h>

/* Opens a file that is trusted: a regular one of at most 1 MiB, which only root and the user of this process
 * may write, or root's group. NULL: it can't be opened, or isn't one; then *r is a negative errno (-EPERM:
 * others may write it), and *error says why in a sentence, which the caller frees. It doesn't wait for a
 * writer of a FIFO. */
FILE *conf_open(const char *path, int *r, char **error);
/* The same for a password or a key: -EPERM also if others may read it. Its group may, as it must where
 * root owns it and an ordinary user reads it. */
FILE *conf_open_secret(const char *path, int *r, char **error);
/* Lists the paths of the files `*.conf` of the directory in lexical order; those that begin with a dot are
 * left out. One that is missing below /etc/xenmsg, where the usual ones are, has none. The caller frees the
 * list by conf_dir_free(). 0 or a negative errno (-EPERM: others may write into it), with why in *error as
 * conf_open() has it. */
int conf_dir_list(const char *directory, char ***paths, unsigned *count, char **error);
void conf_dir_free(char **paths, unsigned count);
/* Opens and reads each of them, up to the first error; or one file, if the path is that of a file. 0 or a
 * negative errno, with why in *error as ini_file_parse() has it. */
int conf_dir_read(const char *directory,
		  int (*read)(void *userdata, FILE *file, const char *path, char **error), void *userdata,
		  char **error);

#endif
