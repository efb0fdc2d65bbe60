/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_UT_H
#define XENMSG_WIRE_UT_H

/*
 * utlist and uthash, in place of <utlist.h> and <uthash.h>. Names and numbers in our tables are chosen
 * by others, so uthash has a keyed hash (wire/hash.h). A lack of memory would end the process by default:
 * here an item for which there is none isn't in the table, and who adds one asks by HASH_ADDED() in the
 * next lines. A table goes with its last item, so that adding this again may fail, too.
 */

#include "wire/hash.h"

#if defined(HASH_FUNCTION) || defined(HASH_NONFATAL_OOM)
#error "wire/ut.h stands in place of uthash.h"
#endif
#define HASH_FUNCTION(data, size, hash) ((hash) = keyed_hash((data), (size)))
#define HASH_NONFATAL_OOM		1
#include <uthash.h>
#include <utlist.h>
/* A daemon has many small tables, which grow where ten items share a bucket. */
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS      16U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 4U

/* Whether the HASH_ADD() of this item has found memory. */
#define HASH_ADDED(item)	    HASH_ADDED_BY(hh, item)
#define HASH_ADDED_BY(handle, item) ((item)->handle.tbl != NULL)

/* Gives an item that is in the table another key, which needs no memory. It keeps its place in the order. */
#define HASH_REKEY(handle, field, item, to)                                                                  \
	do {                                                                                                 \
		UT_hash_table *rekeyed_ = (item)->handle.tbl;                                                \
		unsigned bucket_, noexpand_ = rekeyed_->noexpand, oomed_ = 0;                                \
		HASH_TO_BKT((item)->handle.hashv, rekeyed_->num_buckets, bucket_);                           \
		HASH_DEL_IN_BKT(rekeyed_->buckets[bucket_], &(item)->handle);                                \
		(item)->field = (to);                                                                        \
		HASH_VALUE(&(item)->field, sizeof((item)->field), (item)->handle.hashv);                     \
		HASH_TO_BKT((item)->handle.hashv, rekeyed_->num_buckets, bucket_);                           \
		rekeyed_->noexpand = 1;                                                                      \
		HASH_ADD_TO_BKT(rekeyed_->buckets[bucket_], handle, &(item)->handle, oomed_);                \
		rekeyed_->noexpand = noexpand_;                                                              \
		(void)oomed_;                                                                                \
	} while (0)

#endif
