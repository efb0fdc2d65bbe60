/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CONF_TEXT_H
#define XENMSG_TESTS_CONF_TEXT_H

/* Stands in for base/conf_dir.c: a folder has one file, of this text, which is named as the folder. */

#include <stdio.h>

#include "base/conf_dir.h"

static FILE *conf_text;

int conf_dir_read(const char *directory,
		  int (*read)(void *userdata, FILE *file, const char *path, char **error), void *userdata,
		  char **error)
{
	return read(userdata, conf_text, directory, error);
}

#endif
