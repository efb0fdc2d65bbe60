/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hypercalls by which libxl makes domains. All return 0 or a negative errno; ENOSYS: there is none. */
#ifndef XENMSG_SIM_LIB_TOOLSTACK_H
#define XENMSG_SIM_LIB_TOOLSTACK_H

#include <stdint.h>
#include <xen/domctl.h>
#include <xen/event_channel.h>
#include <xen/hvm/hvm_op.h>
#include <xen/memory.h>
#include <xen/sysctl.h>

#include "sim/hypervisor/proto.h"

/* call.c: the first domain whose number is domid or above; whether there is this one (ESRCH: no); what a
 * toolstack has done to it. */
int sim_ask_domain(uint32_t domid, struct sim_domain *domain);
int sim_is_there(uint32_t domid);
int sim_have_done(enum sim_op op, uint32_t domid, uint32_t count);

/* What is answered stands in the call then. */
long sim_toolstack_domctl(struct xen_domctl *call);
long sim_toolstack_sysctl(struct xen_sysctl *call);
/* These have the program's argument. */
long sim_toolstack_alloc_unbound(struct evtchn_alloc_unbound *argument);
long sim_toolstack_hvm_op(uint64_t command, const struct xen_hvm_param *argument);
long sim_toolstack_memory_op(uint64_t command, const void *argument);

#endif
