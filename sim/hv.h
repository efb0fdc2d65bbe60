/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hypervisor process of a simulated host: what Xen, the toolstack and the kernels of the domains know.
 *
 *	hv_main.c     start, event loop, stop
 *	hv_domain.c   domains; hv_home.c: their files and homes in XenStore; hv_life.c: how they are paused, shut
 *	              down and destroyed
 *	hv_device.c   the devices of domains that end
 *	hv_order.c    in which order things happen, for tests; hv_rest.c: when all programs rest
 *	hv_record.c   a record of what passes
 *	hv_save.c     save, checkpoint, migration and restore
 *	hv_process.c  which processes live in a domain; stopping and killing them
 *	hv_client.c   the connections of these processes (proto.h)
 *	hv_grant.c    granted pages; hv_grant_save.c: what a save makes of them
 *	hv_map.c      mapped pages; hv_frame.c: those that are found without a grant
 *	hv_evtchn.c   event channels; hv_orphan.c: those of a process that has gone
 *	hv_call.c     what programs ask by hypercalls, and the toolstack does by them; hv_libxl.c: how libxl makes
 *	              a domain
 *	hv_admin.c    the commands of xensim(1), hv_admin_save.c those that save, hv_fault.c its faults,
 *	              hv_report.c its list
 *
 * One thread, one event loop. The tree of ownership: host > domain > client > shares, mappings, channel
 * handles. Two things outlive their owner: a page that others still map (its share, and the dead domain as a
 * zombie), and a port that an unmap notification still refers to.
 *
 *	          create                 pause               suspend
 *	(nothing) ──────► RUNNING ◄─────────────► PAUSED     RUNNING, PAUSED ──► SUSPENDED ──resume──► RUNNING
 *	                                                                        with a new domid
 *	destroy of any of these: DYING ──► ZOMBIE, as long as others map its pages ──► (nothing)
 *	suspend leaves a ZOMBIE with the old domid likewise; while it is at work, its domain is RUNNING, then
 *	PAUSED
 */
#ifndef XENMSG_SIM_HV_H
#define XENMSG_SIM_HV_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>
#include <uthash.h>

#include "sim/evtchn_page.h"
#include "sim/proto.h"
#include "sim/store.h"

/* In a host's directory; what tells that it is one. */
#define HV_LOG "xensim.log"
/* And which xensim it is of, since its commands, its library and the host speak one version's protocol. */
#define HV_VERSION "version"

/* Xen's first domid that means something else. */
#define HV_FIRST_RESERVED_DOMID 0x7ff0u
/* Of these, the one that means who says it. */
#define HV_DOMID_SELF 0x7ff0u
/* And the one that none has. */
#define HV_DOMID_INVALID 0x7ff4u
/* What is usable in a guest of xl's default of 1023, after the kernel's own. */
#define HV_FIRST_PORT	      8u
#define HV_GUEST_EVTCHN_LIMIT 1016u
#define HV_DOM0_EVTCHN_LIMIT  (SIM_MAX_PORTS - HV_FIRST_PORT)
/* What its handles have room for. */
#define HV_MOST_GUEST_PORTS (SIM_GUEST_SLOTS - HV_FIRST_PORT)
#define HV_GRANT_LIMIT	    1024u
/* Xen's numbers of virtual interrupts; the one that says that a domain has shut down or gone. */
#define HV_VIRQS	24u
#define HV_VIRQ_DOM_EXC 3u
#define HV_NO_VIRQ	UINT32_MAX

struct event_base;
struct event;
struct evconnlistener;
struct json_object;
struct hv_client;
struct hv_domain;
struct hv_handle;
struct hv_saving;
struct hv_ending;
struct hv_order;
struct hv_refusal;

enum hv_type { HV_DOM0, HV_PVH, HV_PV };

/* Xen's numbers, sched.h. */
enum hv_shutdown { HV_NOT_SHUT_DOWN = -1, HV_POWER_OFF, HV_REBOOT, HV_SUSPEND, HV_CRASH };

enum hv_state { HV_RUNNING, HV_PAUSED, HV_SUSPENDED, HV_DYING, HV_ZOMBIE };

/* The processes that have what another one has made, since it has forked: it lives as long as one of them
 * has it. */
struct hv_heirs {
	struct hv_client **client;
	size_t count;
};

/* The pages granted by one call. A share is on its owner's list while the owner has it mapped; after that
 * only references and mappings lead here, and it ends with the last of these. */
struct hv_share {
	struct hv_share *prev, *next;
	struct hv_domain *domain; /* where its references live; NULL once there are none */
	struct hv_client *owner;  /* NULL once unshared */
	struct hv_heirs heirs;
	uint32_t id;
	uint32_t granted_domid;
	bool writable;
	uint32_t count;
	uint32_t refs;	 /* pages that still have a reference; with the last one the share leaves its domid */
	uint32_t mapped; /* pages mapped, each as often as it is */
	/* after a restore: what others have mapped, and behind it what the owner has instead */
	int fd, fd_read_only;
	bool is_restored;
	bool is_kernels; /* of a living domain's kernel, hv_frame.c */
	uint8_t *copy;	 /* while the domain is saved: its pages, copied one after the other */
	uint32_t notify_offset;
	struct hv_port *notify_port;
	struct hv_page {
		uint32_t ref; /* 0: taken back */
		uint32_t maps;
		/* While the domain is saved: the moment of its copying; if it is torn, up to where it was
		 * copied at the next one; whether Xen knows that the copy is outdated. */
		uint32_t moment, torn;
		bool dirty;
	} page[];
};

/* Where a domain's reference leads. A free one waits to be used again. */
struct hv_ref {
	uint32_t ref;
	uint32_t index;
	struct hv_share *share; /* NULL: it is free */
	struct hv_ref *next_free;
	UT_hash_handle hh;
};

struct hv_mapping {
	struct hv_mapping *prev, *next;
	struct hv_heirs heirs;
	uint32_t id;
	uint32_t count; /* 0: released by the domain's save */
	uint32_t notify_offset;
	struct hv_port *notify_port;
	struct hv_mapped {
		struct hv_share *share;
		uint32_t index;
	} page[];
};

struct hv_port {
	struct hv_domain *domain;
	struct hv_handle *handle; /* NULL once unbound by its user */
	uint32_t number;
	unsigned notifications; /* unmap notifications that refer to it keep it open */
	uint32_t remote_domid;
	struct hv_port *peer; /* NULL: unbound, or the other end's domain is dead */
	uint32_t virq;	      /* HV_NO_VIRQ: it is none's */
};

/* An open /dev/xen/evtchn. */
struct hv_handle {
	struct hv_handle *prev, *next;
	struct hv_client *client; /* NULL: its process has gone, but another holds the descriptor */
	struct hv_heirs heirs;
	struct hv_domain *domain;
	uint32_t id, number; /* of the host, and of its domain */
	int eventfd, page_fd;
	/* While events come in an order: where others send, and we take from (hv_order.c). */
	int diverted;
	struct event *diverted_event;
	struct sim_evtchn_page *page;
	unsigned ports;
	bool is_restricted;
	uint32_t restricted_to;
	bool stale; /* it had ports when its domain was saved: closing it is a kernel BUG */
	/* Of an orphan, as of the last look: the kernel's number of its eventfd, and whether a process has
	 * that open. */
	int eventfd_id;
	bool is_held;
};

struct hv_client {
	struct hv_client *prev, *next;
	struct hv_domain *domain;
	uint32_t number; /* of its domain */
	int fd;
	pid_t pid;
	bool lost_mappings; /* between save and restore: it mapped pages of others */
	struct event *event;
	struct hv_share *shares;
	struct hv_mapping *mappings;
	struct hv_handle *handles;
};

/* Two domains that Xen lets share nothing, as a policy of Flask. */
struct hv_forbidden {
	struct hv_forbidden *next;
	uint32_t one, other;
};

/* Identifies a process, since its number alone may soon be another one's. */
struct hv_starting {
	pid_t pid;
	unsigned long long started; /* field 22 of /proc/PID/stat */
};

struct hv_domain {
	struct hv *hv;
	uint32_t domid;
	UT_hash_handle hh;
	struct hv_domain *next_suspended;
	char *name;
	char uuid[37];
	enum hv_type type;
	enum hv_state state;
	enum hv_shutdown shutdown;
	uint32_t paused_times;	  /* by the toolstack, and as often it has to let it go on */
	bool preserve;		  /* when it has shut down by itself: the toolstack doesn't destroy it */
	bool is_libxls;		  /* a toolstack in domain 0 looks after it, and not xensim's */
	uint32_t kernels_ports;	  /* how many a toolstack has made */
	struct hv_saving *saving; /* a save, checkpoint or migration under way */
	struct hv_ending *ending; /* its end, if that is under way */
	_Atomic uint32_t *pauses; /* how often it went on after a pause, for its processes to read */
	bool pauses_interrupt;
	uint32_t restores;
	char *path;	/* its directory, for the sockets and the files of root/ */
	bool has_files; /* of its kernel: made for its first process */
	struct evconnlistener *listener;
	struct hv_client *clients;
	uint32_t clients_made, handles_made;
	struct hv_handle *orphans; /* handles without a client */
	struct hv_ref *refs, *free_refs;
	struct hv_share *kernels_pages; /* NULL: nobody has looked for them yet */
	uint32_t new_refs;		/* how many there were so far */
	uint32_t shared_pages;		/* against the limit */
	uint32_t foreign_maps;		/* pages of this domain that other domains map */
	struct hv_port **port;		/* by number */
	uint32_t port_room;
	uint32_t port_count, port_limit;
	uint32_t port_end; /* one above the highest that was ever bound; the first ones are the kernel's */
	struct hv_refusal *refusals;  /* of calls, by `xensim fault` */
	struct hv_starting *starting; /* `xensim exec` while it isn't yet the command */
	size_t starting_count;
};

struct hv {
	struct event_base *base;
	char *dir;
	struct sim_store *store;
	struct hv_domain *domains;   /* by domid: running, paused and zombies */
	struct hv_domain *suspended; /* saved, without a domid */
	uint32_t next_domid;
	uint32_t next_id; /* of shares, mappings and handles: one space of numbers for all */
	bool store_stalled;
	bool silo; /* guests share nothing but with domain 0, as XSM's SILO has it */
	struct hv_forbidden *forbidden;
	bool orphans_new; /* some haven't been looked for yet */
	struct event *orphan_timer;
	bool stopping; /* zombies are freed with all other domains */
	struct evconnlistener *admin;
	struct hv_order *order; /* NULL: things happen as they come */
	struct event *silence;	/* after a restore, XenStore says nothing until it fires */
	FILE *log;
	FILE *record;	  /* NULL: there is none */
	int record_error; /* why the last one ended early: 0 or an errno */
	struct timespec record_start;
	char *kernel_log; /* what the kernels of domains would have complained about, a line each */
};

/* hv_main.c: runs the host, and writes one byte to ready_fd when it is up. Returns 0 after hv_stop, or a
 * negative errno after a failure to start, with a line on stderr. */
int hv_run(const char *dir, unsigned domains, bool like_xenstored, int ready_fd);
void hv_stop(struct hv *hv);
void hv_remove_directory(const char *path);
void hv_log(struct hv *hv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Notes that a domain's kernel would have died or complained, for `list --json`. */
void hv_kernel_log(struct hv_domain *domain, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* hv_order.c: one thing at a time, when all programs rest, chosen by a seed, or as a file has it. */
void hv_order_end(struct hv *hv);
/* Where others notify the handle. */
int hv_order_wake_fd(struct hv_handle *handle);
/* Ends what it has for the handle. */
void hv_order_forget(struct hv_handle *handle);

/* hv_rest.c: whether all processes of all domains sleep, so that none does anything until it is woken. */
bool hv_all_rest(struct hv *hv);

/* hv_fault.c. Returns what the domain's call ends with instead of being carried out, a negative errno; 0:
 * nothing is wrong with it. */
int hv_refused(struct hv_domain *domain, const char *operation);
/* The same for XenStore, for sim_store_refuse(). */
int hv_store_refused(unsigned domid, uint32_t type, void *hv);
void hv_refusals_free(struct hv_domain *domain);

/* hv_record.c: a file of all that passes, from now on or no more. Returns 0 or a negative errno. */
int hv_record_begin(struct hv *hv, const char *path);
/* Returns 0, or a negative errno if it couldn't be written to its end. */
int hv_record_end(struct hv *hv);
/* The names of a record's operations. NULL: it is none that a record has. */
const char *hv_store_operation(uint32_t type);
const char *hv_operation(uint32_t op);
void hv_record_request(const struct hv_client *client, const struct sim_request *request,
		       const struct sim_reply *reply);
void hv_record_host(struct hv *hv, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

/* hv_domain.c; all return 0 or a negative errno. */
int hv_domain_create(struct hv *hv, bool dom0, const char *name, enum hv_type type,
		     struct hv_domain **domain);
/* As Xen does it for a toolstack: without a home, paused, of this number, or of the next one if it is 0. */
int hv_domain_create_for_libxl(struct hv *hv, uint32_t domid, enum hv_type type, const char *uuid,
			       struct hv_domain **domain);
/* Finds a domain by domid or name, among the suspended ones if `suspended`, else among the others. NULL: no
 * such domain. */
struct hv_domain *hv_domain_find(struct hv *hv, const char *what, bool suspended);
struct hv_domain *hv_domain_by_id(struct hv *hv, uint32_t domid);
/* The parts of which a life is made: a record that isn't in any list yet, the home in XenStore (without the
 * UUID's part if that is NULL), and what is left as long as others map its pages. */
struct hv_domain *hv_domain_new(struct hv *hv, uint32_t domid, const char *name, enum hv_type type);
void hv_domain_free(struct hv_domain *domain);
void hv_domain_become_zombie(struct hv_domain *domain);
int hv_domain_rename(struct hv_domain *domain, const char *name);
/* Frees a zombie that no other domain maps any longer. */
void hv_domain_reap(struct hv_domain *domain);
/* Makes one in another's place: of this name and UUID. */
int hv_domain_create_as(struct hv *hv, const char *name, enum hv_type type, const char *uuid,
			struct hv_domain **domain);
/* Whether a domain may have this name: one that looks like a number would be taken for a domid. */
bool hv_name_is_valid(const char *name);
/* Counts that the domain went on after a pause. */
void hv_pauses_count(struct hv_domain *domain);
const char *hv_type_name(enum hv_type type);
int hv_type_parse(const char *name, enum hv_type *type);
const char *hv_state_name(const struct hv_domain *domain);

/* hv_home.c. Makes the files that its kernel shows to its programs, unless they are there. */
int hv_domain_need_files(struct hv_domain *domain);
int hv_domain_write_home(struct hv_domain *domain);
/* Both parts of it that name the domain. */
int hv_domain_write_name(struct hv_domain *domain);
void hv_domain_remove_home(struct hv *hv, uint32_t domid, const char *uuid);
/* What libxl would keep of it; a part of the home with an UUID. */
void hv_domain_remove_config(struct hv *hv, uint32_t domid, const char *uuid);

/* hv_life.c: stops it, if nobody has; lets it go on, however often it was stopped. */
void hv_domain_pause(struct hv_domain *domain);
void hv_domain_unpause(struct hv_domain *domain);
/* As Xen does for the toolstack: it stands still until it was unpaused as often. Returns 0 or a negative
 * errno. */
int hv_domain_count_pause(struct hv_domain *domain, bool pause);
/* After a save instead: that may end waits of its processes. */
void hv_domain_go_on(struct hv_domain *domain);
/* Called when it is done, or with a negative errno; successor: after a reboot. */
typedef void hv_ended(int r, struct hv_domain *successor, void *userdata);
/* From the end of a domain's home to its own; how long a guest that shuts down waits for its processes. */
#define HV_LINGER_MS   10u
#define HV_PATIENCE_MS 2000u
/* These begin an end, and return 0 or a negative errno. A guest that shuts down by itself ends its processes,
 * by force after so long. */
int hv_domain_begin_destroy(struct hv_domain *domain, uint32_t linger_ms, hv_ended *done, void *userdata);
int hv_domain_shut_down(struct hv_domain *domain, enum hv_shutdown reason, uint32_t patience_ms,
			hv_ended *done, void *userdata);
/* Its processes stop where they are. */
int hv_domain_shut_down_at_once(struct hv_domain *domain, enum hv_shutdown reason, hv_ended *done,
				void *userdata);
/* The same, or to destroy it without its home, as Xen does for the toolstack, whatever is under way. */
void hv_domain_shuts_down(struct hv_domain *domain, enum hv_shutdown reason);
void hv_domain_die(struct hv_domain *domain);
/* A node of XenStore has changed: what the toolstack, or the domain's kernel, makes of it. */
void hv_domains_hear(const char *path, void *hv);
/* Destroys it at once. */
void hv_domain_destroy(struct hv_domain *domain);
void hv_domains_free(struct hv *hv);

/* hv_device.c: tells the backends of a domain's devices to close, says how many haven't, and removes them. */
void hv_devices_close(struct hv *hv, uint32_t domid);
unsigned hv_devices_open(struct hv *hv, uint32_t domid);
void hv_devices_remove(struct hv *hv, uint32_t domid);

/* hv_save.c */
void hv_domain_write_shutdown(const struct hv_domain *domain, const char *value);
enum hv_save_kind { HV_SAVE, HV_CHECKPOINT, HV_MIGRATION, HV_LIBXLS };
struct hv_save_options {
	uint32_t notice_ms; /* from control/shutdown = suspend to the stop; 0: nothing is written */
	uint32_t stale_ms;  /* for how long the domain's pages are copied */
	uint32_t seed;	    /* in which order, and which of them while they were written */
};
/* By which clocks are ahead after a restore, if nobody says otherwise. */
#define HV_CLOCK_MS 200u
struct hv_restore_options {
	uint32_t unaware_ms; /* XenStore says nothing for this long */
	uint32_t clock_ms;   /* by which the clocks move */
	uint32_t same_domid; /* as if it had come back from another host; EEXIST: others map its pages */
};
/* Called when it is done, or with a negative errno; ECANCELED: the domain was destroyed. */
typedef void hv_saved(struct hv_domain *domain, int r, void *userdata);
/* Begins it, and returns 0 or a negative errno. */
int hv_domain_save(struct hv_domain *domain, enum hv_save_kind kind, const struct hv_save_options *save,
		   const struct hv_restore_options *restore, hv_saved *done, void *userdata);
int hv_domain_resume(struct hv_domain *domain, const struct hv_restore_options *options);
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
/* Who saves by libxl has gone. */
void hv_libxl_save_abandon(const struct hv_client *client);
/* Ends what has been begun, if anything, and leaves the domain as it is. */
void hv_saving_cancel(struct hv_domain *domain);

/* hv_process.c */
/* All processes of the machine at one moment, which costs some file reads for each of them. NULL: no
 * memory. */
struct hv_process_table *hv_process_table_new(void);
void hv_process_table_free(struct hv_process_table *table);
/* Returns how many of them live in the domain. */
size_t hv_processes_count(struct hv_process_table *table, const struct hv_domain *domain);
/* And which; the caller frees pids. */
size_t hv_processes_in(struct hv_process_table *table, const struct hv_domain *domain, pid_t **pids);
size_t hv_processes(struct hv_domain *domain, pid_t **pids);
size_t hv_processes_of_all(struct hv *hv, pid_t **pids);
void hv_processes_signal(struct hv_domain *domain, int signal_number);
void hv_processes_stop(struct hv_domain *domain); /* returns when none runs any more */
void hv_processes_kill(struct hv_domain *domain); /* returns when all are dead */
/* The same for all domains at once, so that no process reacts to another's death. */
void hv_processes_kill_all(const struct hv *hv);
/* Tells all threads of a stopped process of the restore (proto.h), before they go on. */
void hv_process_restored(pid_t pid, uint32_t restore);
void hv_processes_add(struct hv_domain *domain, pid_t pid);

/* hv_orphan.c */
/* Returns the kernel's number of an eventfd, the same for all descriptors of it, from a file below fdinfo; or
 * -1. */
int hv_eventfd_id(const char *fdinfo_path);
/* The handle's process has let it go: it is closed soon if no other process of the domain has it open (other
 * than to send), else when that is so. settle: now, if there is one that hasn't been looked for. check:
 * all. */
void hv_orphan_add(struct hv_handle *handle);
void hv_orphans_settle(struct hv *hv);
void hv_orphans_check(struct hv *hv);
void hv_orphans_free(struct hv_domain *domain);

/* hv_client.c */
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
/* Serves the request that has come, or the end of the connection, which frees the client. */
void hv_client_serve(struct hv_client *client);

/* hv_grant.c: checks the requests. Descriptors stay the hypervisor's. */
int hv_grant_share(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply,
		   int *fd);
int hv_grant_unshare(struct hv_client *client, uint32_t id);
int hv_grant_notify(struct hv_client *client, const struct sim_request *request);
int hv_grant_copy_page(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply,
		       int *fd);
/* Lets a process have what another one of its domain has; false: there is no such share or mapping. */
bool hv_grant_inherit(struct hv_client *client, uint32_t id);
void hv_grant_client_gone(struct hv_client *client, bool silent);
/* Handles the death of the domid: only references to mapped pages stay. */
void hv_grant_domid_dies(struct hv_domain *domain);
/* Moves what is granted under this domid to its zombie. */
void hv_grant_move(struct hv_domain *domain, struct hv_domain *zombie);
/* Handles the end of the domid. */
void hv_grant_domid_gone(struct hv_domain *domain);
/* For a save: decides by the seed at which of HV_MOMENTS each granted page is copied, copies those whose turn
 * it is, and makes the image when the domain has stopped: of the copies, or if they were made while it ran,
 * of what Xen knows to have changed since as well. All return 0, -ENOMEM or -EIO. */
#define HV_MOMENTS 4u
int hv_grant_copy_begin(struct hv_domain *domain, uint32_t seed);
int hv_grant_copy(struct hv_domain *domain, uint32_t moment);
int hv_grant_make_image(struct hv_domain *domain, bool live);
void hv_grant_copy_end(struct hv_domain *domain);
uint32_t hv_grant_limit(const struct hv_domain *domain);
int hv_grant_set_limit(const struct hv_domain *domain, uint32_t limit);
/* Injects a fault: overwrites the index at this byte offset in the ring pages that the domain grants or
 * maps. */
unsigned hv_grant_corrupt(struct hv_domain *domain, uint32_t offset, uint32_t value);

/* The parts of it that hv_map.c and hv_frame.c have, too: descriptors for the pages; a reference to the page,
 * of this number or, if it is 0, of the next one; an end of all that isn't mapped; the byte that an unmap
 * notification clears, and the port that it names, NULL if it names none (EINVAL: that isn't there). */
int hv_share_make_pages(struct hv_share *share);
int hv_share_add_ref(struct hv_domain *domain, struct hv_share *share, uint32_t index, uint32_t number);
void hv_share_free(struct hv_share *share);
void hv_share_drop_unmapped_refs(struct hv_share *share);
void hv_share_clear_byte(const struct hv_share *share, uint32_t index, uint32_t offset);
int hv_grant_check_notify(struct hv_client *client, const struct sim_request *request, struct hv_port **port);

/* hv_map.c: by references, or of domain 0 by frames. */
int hv_grant_map(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply,
		 int *fds, unsigned *fd_count);
int hv_grant_unmap(struct hv_client *client, uint32_t id);
int hv_grant_unmap_pages(struct hv_client *client, uint32_t id);
/* For a save: unmaps what the domain maps, without notifying the granters. Returns the number of pages. */
unsigned hv_grant_drop_mappings(struct hv_client *client);
uint32_t hv_grant_mapped_pages(const struct hv_client *client);
struct hv_mapping *hv_mapping_find(struct hv_client *client, uint32_t id);
/* Its process has let it go: an heir has it now, or nobody. */
void hv_mapping_end(struct hv_client *client, struct hv_mapping *mapping, bool silent);

/* hv_frame.c */
/* The references of the two pages that a guest's kernel has for the toolstack, which are made when they are
 * first asked for; number: that of a program, which is changed to where they are in the table. */
void hv_frame_resolve_ref(struct hv_domain *granter, uint32_t *number);
#define HV_IS_KERNELS_REF(number) ((number) >= 0xffff0000u)
/* Finds the page of a frame, for domain 0. Returns 0 or a negative errno. */
int hv_frame_find(struct hv_client *client, uint32_t domid, uint32_t frame, struct hv_mapped *page);
/* The domain has gone: only what is mapped of its kernel's pages stays, as long as it is. */
void hv_frame_kernel_gone(struct hv_domain *domain);

/* hv_evtchn.c */
int hv_evtchn_open(struct hv_client *client, struct sim_reply *reply, int fds[2]);
int hv_evtchn_close(struct hv_client *client, uint32_t id);
int hv_evtchn_adopt(struct hv_client *client, uint32_t eventfd_id, struct sim_reply *reply, int fds[2],
		    unsigned *fd_count);
bool hv_evtchn_inherit(struct hv_client *client, uint32_t id);
int hv_evtchn_restrict(struct hv_client *client, const struct sim_request *request);
int hv_evtchn_bind_unbound(struct hv_client *client, const struct sim_request *request,
			   struct sim_reply *reply);
int hv_evtchn_bind_interdomain(struct hv_client *client, const struct sim_request *request,
			       struct sim_reply *reply);
int hv_evtchn_bind_virq(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply);
/* A domain has shut down, or has gone: domain 0 has an interrupt. */
void hv_evtchn_domain_exception(struct hv *hv);
/* Whether Xen (XSM) lets the two domains have grants and event channels with each other. */
bool hv_may_share(const struct hv *hv, uint32_t one, uint32_t other);
int hv_evtchn_unbind(struct hv_client *client, const struct sim_request *request);
int hv_evtchn_peer(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply,
		   int fds[2], unsigned *fd_count);
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
/* All handles lose so many events, after so many that come. */
void hv_evtchn_lose(struct hv_domain *domain, uint32_t events, uint32_t after);

/* hv_call.c */
int hv_call_domain(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply);
int hv_call_port_status(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply);
/* What the toolstack does to a domain. */
int hv_call_life(struct hv_client *client, const struct sim_request *request);

/* hv_libxl.c */
/* For XenStore and its console. */
#define HV_KERNELS_PORTS 2u
int hv_call_create(struct hv_client *client, const struct sim_request *request, struct sim_reply *reply);
int hv_call_kernels_port(struct hv_client *client, const struct sim_request *request,
			 struct sim_reply *reply);
int hv_call_save(struct hv_client *client, const struct sim_request *request);
int hv_call_restore(struct hv_client *client, const struct sim_request *request);
/* libxl has written the nodes of its console. */
void hv_console_appears(struct hv_domain *domain);

/* hv_admin.c: a command is its words, each followed by a NUL, to the end of input; the answer is the exit
 * status in decimal, a newline, and the text for stdout (status 0) or stderr. */
int hv_admin_listen(struct hv *hv);

/* hv_report.c */
struct json_object *hv_report_json(struct hv *hv);
char *hv_report_text(struct hv *hv); /* the caller frees it */

#endif
