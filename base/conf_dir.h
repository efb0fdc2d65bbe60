/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_CONF_DIR_H
#define XENMSG_BASE_CONF_DIR_H

/* Directories of configuration files: policy.d, activation.d. */

#include <stdio.h>

/* Lists the paths of the files `*.conf` of the directory in lexical order; those that begin with a dot are
 * left out, and a missing directory has none. The caller frees the list by conf_dir_free(). 0 or a negative
 * errno. */
int conf_dir_list(const char *directory, char ***paths, unsigned *count);
void conf_dir_free(char **paths, unsigned count);
/* Opens and reads each of them, up to the first error. 0 or a negative errno, with why in *error as
 * ini_file_parse() has it. */
int conf_dir_read(const char *directory,
		  int (*read)(void *userdata, FILE *file, const char *path, char **error), void *userdata,
		  char **error);

#endif
