/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The granted and mapped pages of this process, for the files that make them (gnt_make.c) and end them
 * (gnt.c). */
#ifndef XENMSG_SIM_LIB_GNT_INTERNAL_H
#define XENMSG_SIM_LIB_GNT_INTERNAL_H

#include "sim/preload/gnt.h"

/* An open /dev/xen/gntdev. */
struct sim_gnt_file {
	bool closed;
	size_t mapped;	     /* of its regions, those with pages */
	struct region *kept; /* and the others */
};

struct region {
	struct region *prev, *next;
	char *start;
	size_t pages;
	size_t live;		   /* pages still mapped */
	struct sim_gnt_file *file; /* of a mapping; NULL: a share */
	uint64_t index;		   /* by which programs that use the device name it */
	bool writable;
	size_t ids;
	uint32_t *id;	     /* the hypervisor's: of one share, or of a mapping for each SIM_MAX_MAP pages */
	unsigned char *gone; /* one for each page */
	char *image;	     /* of a share: the pages that a restore puts in their place; NULL after that */
};

/* Of all regions. The maker of one holds it from the request on: so a restore finds the region in the
 * list. */
void sim_regions_lock(void);
void sim_regions_unlock(void);
/* Reserves address space for so many pages, and makes its record, not yet listed. NULL: ENOMEM. */
struct region *sim_region_new(size_t pages, size_t ids, struct sim_gnt_file *file, void *at);
/* Needs the lock. */
void sim_region_list(struct region *region);
/* Frees the region, and tells the hypervisor, which applies the unmap notification. */
void sim_region_release(struct region *region);

#endif
