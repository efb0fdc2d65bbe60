/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The granted and mapped pages of this process, for the devices and for the files that make them (gnt_make.c)
 * and end them (gnt.c). */
#ifndef XENMSG_SIM_LIB_GNT_H
#define XENMSG_SIM_LIB_GNT_H

#include "sim/preload/lib_internal.h"

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
	struct sim_gnt_file *file; /* of a mapping of grants; NULL: a share, or */
	bool is_foreign;	   /* another domain's frames (foreign.c), */
	bool is_used;		   /* which were mapped: once */
	int prot;
	uint64_t index; /* by which programs that use the device name it */
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
/* The device's region that begins there, with NULL one of no device. NULL: there is none. Needs the lock. */
struct region *sim_region_find(const struct sim_gnt_file *file, const void *start);
/* Has some of its pages mapped: the request says how, and behind it are so many words for each. What isn't
 * there is told in errors, which may be NULL for references. Returns 0 or a negative errno. Needs the
 * lock. */
int sim_region_map(struct region *region, size_t first, uint32_t count, const struct sim_request *request,
		   const uint32_t *numbers, size_t words, int *errors);

/* What to map. */
struct sim_gnt_pages {
	uint32_t count;
	const uint32_t *domids, *refs;
	int prot;
	void *at; /* NULL: anywhere */
};

/* Grants pages. Returns where they are, or NULL with an errno. */
void *sim_gnt_share(uint32_t domid, uint32_t count, uint32_t *refs, bool writable);
/* An open /dev/xen/gntdev without its descriptor. NULL: no memory. Closing it ends what is not mapped, and
 * later what is. */
struct sim_gnt_file *sim_gnt_open(void);
void sim_gnt_close(struct sim_gnt_file *file);
/* Maps pages, which the device knows by this index. Returns where, or NULL with an errno. */
void *sim_gnt_map(struct sim_gnt_file *file, uint64_t index, const struct sim_gnt_pages *pages);
/* These return 0 or a negative errno. What begins there; ending what munmap has unmapped; its
 * notification, of a share with file NULL. */
int sim_gnt_find(const struct sim_gnt_file *file, const void *start, uint64_t *index, uint32_t *count);
int sim_gnt_unmap(struct sim_gnt_file *file, uint64_t index, uint32_t count);
int sim_gnt_notify(const struct sim_gnt_file *file, const void *start, uint32_t offset, uint32_t port);
/* Copies between our memory and a page of another domain, with Xen's status for it, 0 or negative. -EFAULT:
 * our memory isn't there. */
int sim_gnt_copy(void *local, uint32_t domid, uint32_t ref, uint32_t offset, uint32_t length, bool to_them,
		 int16_t *status);

#endif
