/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Granted and mapped pages of this process, for the devices. */
#ifndef XENMSG_SIM_LIB_GNT_H
#define XENMSG_SIM_LIB_GNT_H

#include "sim/preload/lib_internal.h"

struct sim_gnt_file;

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
