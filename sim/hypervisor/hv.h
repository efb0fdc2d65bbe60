/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hypervisor process of a simulated host: what Xen, the toolstack and the kernels of the domains know.
 * sim/toolstack is on top of it: its start, and the commands of xensim(1).
 *
 *	domain.c   domains; home.c: their files and homes in XenStore; life.c: how they are paused, shut down
 *	           and destroyed
 *	device.c   the devices of domains that end
 *	record.c   a record of what passes; refusal.c: calls that are to fail
 *	save.c     save, checkpoint, migration and restore
 *	process.c  which processes live in a domain; stopping and killing them
 *	client.c   the connections of these processes (proto.h); operation.c: what they ask for
 *	grant.c    granted pages; grant_save.c: what a save makes of them
 *	map.c      mapped pages; frame.c: those that are found without a grant
 *	evtchn.c   event channels; orphan.c: those of a process that has gone
 *	call.c     what programs ask by hypercalls, and the toolstack does by them; libxl.c: how libxl makes a
 *	           domain
 *	host.c     the log
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

#include "sim/hypervisor/evtchn_page.h"
#include "sim/hypervisor/proto.h"
#include "sim/store/store.h"

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
	bool is_kernels; /* of a living domain's kernel, frame.c */
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
	struct sim_signs *signs;  /* for its processes to read */
	bool pauses_interrupt;
	uint32_t restores;
	char *path;	/* its directory, for the sockets and the files of root/ */
	bool has_files; /* of its kernel: made for its first process */
	struct evconnlistener *listener;
	struct hv_client *clients;
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
	uint32_t last_domid;	     /* that a domain got */
	uint32_t next_id;	     /* of shares, mappings and handles: one space of numbers for all */
	bool store_stalled;
	bool silo; /* guests share nothing but with domain 0, as XSM's SILO has it */
	struct hv_forbidden *forbidden;
	bool orphans_new; /* some haven't been looked for yet */
	struct event *orphan_timer;
	bool stopping; /* zombies are freed with all other domains */
	struct evconnlistener *admin;
	struct event *silence; /* after a restore, XenStore says nothing until it fires */
	FILE *log;
	FILE *record;	  /* NULL: there is none */
	int record_error; /* why the last one ended early: 0 or an errno */
	struct timespec record_start;
	char *kernel_log; /* what the kernels of domains would have complained about, a line each */
};

void hv_remove_directory(const char *path);

/* Calls of this kind that fail, after so many that don't. */
struct hv_refusal {
	struct hv_refusal *next;
	const char *operation; /* the name of a record; "bind": either kind of it */
	uint32_t after, times; /* UINT32_MAX times: all */
	int error;
};
/* refusal.c: in place of what was there for this operation, a name that lives as long as this process.
 * Returns 0 or -ENOMEM. */
int hv_refuse(struct hv_domain *domain, const struct hv_refusal *wanted);
/* For sim_store_refuse(). */
int hv_store_refused(unsigned domid, uint32_t type, void *hv);

/* record.c: a file of all that passes, from now on or no more. Returns 0 or a negative errno. */
int hv_record_begin(struct hv *hv, const char *path);
/* Returns 0, or a negative errno if it couldn't be written to its end. */
int hv_record_end(struct hv *hv);
/* XenStore's name of an operation. NULL: it has none. */
const char *hv_store_operation(uint32_t type);

/* operation.c: what a process of a domain may ask for (proto.h). */
struct sim_request;
struct hv_answer;
struct hv_operation {
	const char *name; /* in a record; NULL: none has it */
	int (*serve)(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer);
	const char *arguments, *result; /* as a record writes them; NULL: OK */
	bool takes_back;		/* what was given before: neither a kernel nor Xen refuses that */
	bool of_dom0;			/* alone */
	uint8_t words;			/* numbers behind the request, for each of its count */
	uint32_t most;			/* and that is at most so many */
};
/* NULL: there is no such operation. */
const struct hv_operation *hv_operation(uint32_t op);
const struct hv_operation *hv_operation_named(const char *name);

/* domain.c; all return 0 or a negative errno. */
/* `domid`: 0: the next one that is free. */
int hv_domain_create(struct hv *hv, bool dom0, uint32_t domid, const char *name, enum hv_type type,
		     struct hv_domain **domain);
/* Returns the number behind the last one that is free, as Xen gives them (XEN_DOMCTL_createdomain): behind
 * the highest one come those that were others' once. */
uint32_t hv_free_domid(struct hv *hv);
/* Finds a domain by domid or name, among the suspended ones if `suspended`, else among the others. NULL: no
 * such domain. */
struct hv_domain *hv_domain_find(struct hv *hv, const char *what, bool suspended);
int hv_domain_rename(struct hv_domain *domain, const char *name);
/* Whether a domain may have this name: one that looks like a number would be taken for a domid. */
bool hv_name_is_valid(const char *name);
const char *hv_type_name(enum hv_type type);
int hv_type_parse(const char *name, enum hv_type *type);
const char *hv_state_name(const struct hv_domain *domain);

/* XenStore answers no domain, and lets a guest's kernel wait, or it answers again. */
void hv_stall_store(struct hv *hv, bool on);

/* home.c. Makes the files that its kernel shows to its programs, unless they are there. */
int hv_domain_need_files(struct hv_domain *domain);

/* life.c: stops it, if nobody has; lets it go on, however often it was stopped. */
void hv_domain_pause(struct hv_domain *domain);
void hv_domain_unpause(struct hv_domain *domain);
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
/* A node of XenStore has changed: what the toolstack, or the domain's kernel, makes of it. */
void hv_domains_hear(const char *path, void *hv);
void hv_domains_free(struct hv *hv);

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

/* process.c */
/* All processes of the machine at one moment, which costs some file reads for each of them. NULL: no
 * memory. */
struct hv_process_table *hv_process_table_new(void);
void hv_process_table_free(struct hv_process_table *table);
/* Returns how many of them live in the domain. */
size_t hv_processes_count(struct hv_process_table *table, const struct hv_domain *domain);
void hv_processes_add(struct hv_domain *domain, pid_t pid);

/* Closes the handles that no process has open any more. */
void hv_orphans_check(struct hv *hv);

uint32_t hv_grant_limit(const struct hv_domain *domain);
int hv_grant_set_limit(const struct hv_domain *domain, uint32_t limit);
/* Injects a fault: overwrites the index at this byte offset in the ring pages that the domain grants or
 * maps. */
unsigned hv_grant_corrupt(struct hv_domain *domain, uint32_t offset, uint32_t value);

uint32_t hv_grant_mapped_pages(const struct hv_client *client);

/* All handles lose so many events, after so many that come. */
void hv_evtchn_lose(struct hv_domain *domain, uint32_t events, uint32_t after);

#endif
