/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_HASH_H
#define XENMSG_LIBCLIENT_HASH_H

/* uthash, which would end the program when memory runs out: a library must not. */
#define HASH_NONFATAL_OOM 1
#include "wire/hash.h"

/* Returns whether the HASH_ADD() of this item has found memory. */
#define HASH_ADDED(item) ((item)->hh.tbl != NULL)

#endif
