/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the hypervisor have for each other. */
#ifndef XENMSG_SIM_HV_INTERNAL_H
#define XENMSG_SIM_HV_INTERNAL_H

#include "sim/hypervisor/hv.h"

/* host.c */
void hv_log(struct hv *hv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Notes that a domain's kernel would have died or complained, for `list --json`. */
void hv_kernel_log(struct hv_domain *domain, const char *format, ...) __attribute__((format(printf, 2, 3)));

void hv_timer_set(struct event *timer, uint32_t milliseconds);

/* refusal.c. Returns what the domain's call ends with instead of being carried out, a negative errno; 0:
 * nothing is wrong with it. */
int hv_refused(struct hv_domain *domain, const char *operation);
void hv_refusals_free(struct hv_domain *domain);

void hv_record_request(const struct hv_client *client, const struct sim_request *request,
		       const struct sim_reply *reply);
void hv_record_host(struct hv *hv, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

/* domain.c. As Xen does it for a toolstack: without a home, paused, of this number, or of the next one if it
 * is 0. */
int hv_domain_create_for_libxl(struct hv *hv, uint32_t domid, enum hv_type type, const char *uuid,
			       struct hv_domain **domain);
struct hv_domain *hv_domain_by_id(struct hv *hv, uint32_t domid);
/* Puts aside the folder of a domain that had this number and is gone: dom-N.before. */
void hv_make_way(const struct hv *hv, uint32_t domid);
/* The parts of which a life is made: a record that isn't in any list yet, the home in XenStore (without the
 * UUID's part if that is NULL), and what is left as long as others map its pages. */
struct hv_domain *hv_domain_new(struct hv *hv, uint32_t domid, const char *name, enum hv_type type);
void hv_domain_free(struct hv_domain *domain);
/* Returns false, and leaves it the one that it has: no memory. */
bool hv_domain_set_name(struct hv_domain *domain, const char *name);
void hv_domain_become_zombie(struct hv_domain *domain);
/* Frees a zombie that no other domain maps any longer. */
void hv_domain_reap(struct hv_domain *domain);
/* Makes one in another's place: of this name and UUID. */
int hv_domain_create_as(struct hv *hv, const char *name, enum hv_type type, const char *uuid,
			struct hv_domain **domain);
/* Counts that the domain went on after a pause. */
void hv_pauses_count(struct hv_domain *domain);

int hv_domain_write_home(struct hv_domain *domain);
/* Both parts of it that name the domain. */
int hv_domain_write_name(struct hv_domain *domain);
void hv_domain_remove_home(struct hv *hv, uint32_t domid, const char *uuid);
/* What libxl would keep of it; a part of the home with an UUID. */
void hv_domain_remove_config(struct hv *hv, uint32_t domid, const char *uuid);

/* As Xen does for the toolstack: it stands still until it was unpaused as often. Returns 0 or a negative
 * errno. */
int hv_domain_count_pause(struct hv_domain *domain, bool pause);
/* After a save instead: that may end waits of its processes. */
void hv_domain_go_on(struct hv_domain *domain);
/* As Xen does for the toolstack, whatever is under way: its processes stop where they are; or it is
 * destroyed without its home. */
void hv_domain_shuts_down(struct hv_domain *domain, enum hv_shutdown reason);
void hv_domain_die(struct hv_domain *domain);

/* device.c: tells the backends of a domain's devices to close, says how many haven't, and removes them. */
void hv_devices_close(struct hv *hv, uint32_t domid);
unsigned hv_devices_open(struct hv *hv, uint32_t domid);
void hv_devices_remove(struct hv *hv, uint32_t domid);

/* save.c */
void hv_domain_write_shutdown(const struct hv_domain *domain, const char *value);
/* The parts of a save by libxl, which tells the guest, writes its image, and then destroys it or lets it go
 * on. All return 0 or a negative errno; EINVAL: that isn't what comes next. */
int hv_libxl_save_begin(struct hv_client *client, struct hv_domain *domain);
void hv_libxl_save_told(struct hv_domain *domain);
int hv_libxl_save_written(struct hv_domain *domain);
bool hv_libxl_save_is_written(const struct hv_domain *domain);
int hv_libxl_save_end(struct hv_domain *domain);
int hv_libxl_save_resume(struct hv_domain *domain);
/* Lets it take the place of a domain that libxl has made, and be paused. */
int hv_domain_resume_in_place(struct hv_domain *domain, struct hv_domain *place);
/* The process that saves by libxl has gone. */
void hv_libxl_save_abandon(const struct hv_client *client);
/* Ends what has been begun, if anything, and leaves the domain as it is. */
void hv_saving_cancel(struct hv_domain *domain);

/* And which; the caller frees pids. */
size_t hv_processes_in(struct hv_process_table *table, const struct hv_domain *domain, pid_t **pids);
size_t hv_processes(struct hv_domain *domain, pid_t **pids);
void hv_processes_signal(struct hv_domain *domain, int signal_number);
void hv_processes_stop(struct hv_domain *domain); /* returns when none runs any more */
void hv_processes_kill(struct hv_domain *domain); /* returns when all are dead */
/* The same for all domains at once, so that no process reacts to another's death. */
void hv_processes_kill_all(const struct hv *hv);
/* Tells all threads of a stopped process of the restore (proto.h), before they go on. */
void hv_process_restored(pid_t pid, uint32_t restore);

/* orphan.c */
/* Returns the kernel's number of its eventfd, or -1. */
int hv_handle_eventfd_id(const struct hv_handle *handle);
/* The handle's process has let it go: it is closed soon if no other process of the domain has it open (other
 * than to send), else when that is so. settle: now, if there is one that hasn't been looked for. check:
 * all. */
void hv_orphan_add(struct hv_handle *handle);
void hv_orphans_settle(struct hv *hv);
void hv_orphans_free(struct hv_domain *domain);

/* client.c */
/* One more process has it, or one less; the heir that it goes to when its owner lets it go, NULL if there is
 * none. */
int hv_heirs_add(struct hv_heirs *heirs, struct hv_client *client);
bool hv_heirs_remove(struct hv_heirs *heirs, const struct hv_client *client);
struct hv_client *hv_heirs_take(struct hv_heirs *heirs);
int hv_client_listen(struct hv_domain *domain);
/* silent: the other side sees nothing of it, as when a whole domain dies. */
void hv_client_free(struct hv_client *client, bool silent);
/* Handles what the processes of a stopped domain have asked before. */
void hv_clients_drain(struct hv_domain *domain);

/* The answer to a request, with its descriptors, which stay the hypervisor's. */
struct hv_answer {
	union {
		struct sim_reply reply;
		char bytes[sizeof(struct sim_reply) + SIM_MAX_SHARE * sizeof(uint32_t)];
	};
	int fds[SIM_MAX_MAP];
	unsigned fd_count;
};

/* Those that check and carry out the requests of operation.c; they return 0 or a negative errno, and -EBADMSG
 * for what no library of ours sends. */
typedef int hv_serve(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer);
hv_serve hv_grant_share, hv_grant_unshare, hv_grant_notify, hv_grant_copy_page;
/* By references, or of domain 0 by frames. */
hv_serve hv_grant_map, hv_grant_unmap, hv_grant_unmap_pages;
hv_serve hv_evtchn_open, hv_evtchn_close, hv_evtchn_adopt, hv_evtchn_restrict, hv_evtchn_unbind;
hv_serve hv_evtchn_bind_unbound, hv_evtchn_bind_interdomain, hv_evtchn_bind_virq, hv_evtchn_peer;
hv_serve hv_client_inherit, hv_client_be;
/* What domain 0 asks of domains, and does to them. */
hv_serve hv_call_domain, hv_call_port_status, hv_call_life;
hv_serve hv_call_create, hv_call_kernels_port, hv_call_save, hv_call_restore;

/* operation.c. Writes arguments or a result as its row has them. */
void hv_operation_write(FILE *out, const char *format, const struct sim_request *request,
			const struct sim_reply *reply);

/* grant.c */
/* Lets a process have what another one of its domain has; false: there is no such share or mapping. */
bool hv_grant_inherit(struct hv_client *client, uint32_t id);
void hv_grant_client_gone(struct hv_client *client, bool silent);
/* Handles the death of the domid: only references to mapped pages stay. */
void hv_grant_domid_dies(struct hv_domain *domain);
/* Moves what is granted under this domid to its zombie. */
void hv_grant_move(struct hv_domain *domain, struct hv_domain *zombie);
/* Handles the end of the domid. */
void hv_grant_domid_gone(struct hv_domain *domain);
/* grant_save.c. For a save: decides by the seed at which of HV_MOMENTS each granted page is copied,
 * copies those whose turn it is, and makes the image when the domain has stopped: of the copies, or if
 * they were made while it ran, of what Xen knows to have changed since as well. All return 0, -ENOMEM
 * or -EIO. */
#define HV_MOMENTS 4u
int hv_grant_copy_begin(struct hv_domain *domain, uint32_t seed);
int hv_grant_copy(struct hv_domain *domain, uint32_t moment);
int hv_grant_make_image(struct hv_domain *domain, bool live);
void hv_grant_copy_end(struct hv_domain *domain);

/* The parts of it that map.c and frame.c have, too: descriptors for the pages; a reference to the page,
 * of this number or, if it is 0, of the next one; an end of all that isn't mapped; the byte that an unmap
 * notification clears. */
int hv_share_make_pages(struct hv_share *share);
int hv_share_add_ref(struct hv_domain *domain, struct hv_share *share, uint32_t index, uint32_t number);
void hv_share_free(struct hv_share *share);
void hv_share_drop_unmapped_refs(struct hv_share *share);
void hv_share_clear_byte(const struct hv_share *share, uint32_t index, uint32_t offset);

/* map.c */
/* For a save: unmaps what the domain maps, without notifying the granters. Returns the number of pages. */
unsigned hv_grant_drop_mappings(struct hv_client *client);
struct hv_mapping *hv_mapping_find(struct hv_client *client, uint32_t id);
/* Its process has let it go: an heir has it now, or nobody. */
void hv_mapping_end(struct hv_client *client, struct hv_mapping *mapping, bool silent);

/* frame.c */
/* The references of the two pages that a guest's kernel has for the toolstack, which are made when they are
 * first asked for; number: that of a program, which is changed to where they are in the table. */
#define HV_IS_KERNELS_REF(number) ((number) >= 0xffff0000u)
void hv_frame_resolve_ref(struct hv_domain *granter, uint32_t *number);
/* Finds the page of a frame, for domain 0. Returns 0 or a negative errno. */
int hv_frame_find(struct hv_client *client, uint32_t domid, uint32_t frame, struct hv_mapped *page);
/* The domain has gone: only what is mapped of its kernel's pages stays, as long as it is. */
void hv_frame_kernel_gone(struct hv_domain *domain);

/* evtchn.c */
bool hv_evtchn_inherit(struct hv_client *client, uint32_t id);
/* A domain has shut down, or has gone: domain 0 has an interrupt. */
void hv_evtchn_domain_exception(struct hv *hv);
/* Whether Xen (XSM) lets the two domains have grants and event channels with each other. */
bool hv_may_share(const struct hv *hv, uint32_t one, uint32_t other);
void hv_evtchn_client_gone(struct hv_client *client, bool silent);
/* Called before that: completes notifications during which the process was killed, as a hypercall would. */
void hv_evtchn_complete(struct hv_client *client);
/* Ends all ports of the domain; the other side sees nothing of it. */
void hv_evtchn_domain_gone(struct hv_domain *domain);
void hv_evtchn_handle_close(struct hv_handle *handle);
struct hv_port *hv_evtchn_hold(struct hv_domain *domain, uint32_t number);
/* NULL: there is none of that number. */
struct hv_port *hv_evtchn_port(const struct hv_domain *domain, uint32_t number);
/* Ends a notification's hold on the port, after sending it if `fire`. */
void hv_evtchn_release(struct hv_port *port, bool fire);
void hv_evtchn_fire(struct hv_port *port); /* at its other end */

/* libxl.c */
/* For XenStore and its console. */
#define HV_KERNELS_PORTS 2u
/* libxl has written the nodes of its console. */
void hv_console_appears(struct hv_domain *domain);

#endif
