/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VCHAN_INTERNAL_H
#define XENMSG_DAEMON_VCHAN_INTERNAL_H

/* What vchan.c, vchan_host.c and vchan_kept.c share. */

#include "daemon/xen/vchan.h"

#include <errno.h>

#include <libxenvchan.h>
#include <xentoollog.h>

#include "base/restore_clock.h"
#include "daemon/xen/keeper.h"
#include "wire/ut.h"

#define LIVE_CLOSED    0
#define LIVE_CONNECTED 1
#define LIVE_WAITING   2

/* Granted vchans that were closed here, and that their peers may still have mapped: vchan_kept.c. */
struct kept_vchans {
	unsigned count;
	uint64_t closes;
	struct event *look; /* while there are any */
	struct word *words; /* by domid */
};

struct retired_port {
	uint32_t port;
	uint64_t at_ms; /* when it retired */
};

struct vchan_host {
	xentoollog_logger logger; /* takes what Xen's libraries log, which would otherwise go to stderr */
	xengntshr_handle *gntshr;
	xengnttab_handle *gnttab;
	xenevtchn_handle *evtchn;
	struct event *events;
	struct vchan *vchans; /* by local port */
	uint32_t pages_granted;
	struct event *look; /* for ends that no event tells of (vchan_host_look_soon()) */
	bool (*waits)(void *userdata);
	void *waits_userdata;
	bool is_busy; /* something has been sent or heard since the last of these looks */
	bool guarded; /* this domain may be restored, and this shows it: */
	struct restore_clock restore_clock;
	unsigned restores_known; /* the count for which XenStore has said whether there was one */
	unsigned restores_seen;	 /* the count at vchan_host_look() */
	struct event *clock_set; /* wakes the loop when the clock of the day jumps; NULL: it can't */
	bool is_held;		 /* a keeper has `evtchn`, too */
	/* A keeper gives back by this what it got since the last restore, also from daemons before this. */
	uint8_t token[KEEPER_TOKEN_SIZE];
	bool keeper_has;	/* something, perhaps */
	int asked;		/* the keeper, by this socket; -1: it isn't */
	struct event *answered; /* at that socket */
	bool asked_own;		/* it gives back `evtchn` first */
	int given_back;		/* a handle from a daemon before this; -1: none */
	uint64_t given_back_ms; /* when it came */
	bool ports_short;	/* vchan_grant() found no port, and its caller waits for `freed` */
	void (*freed)(void *userdata);
	void *freed_userdata;
	/* Ports of closed vchans, which are unbound once it is certain that they aren't from before a
	 * restore. */
	struct retired_port *retired; /* the one that has waited longest first */
	unsigned retired_count, retired_capacity;
	bool lost_port;	 /* one more retired, for which there was no memory */
	bool is_certain; /* no restore lies behind, unless the clocks show another count than this: */
	unsigned certain_restores;
	struct kept_vchans kept;
	void (*retired_notify)(void *userdata);
	void *retired_userdata;
};

struct vchan {
	struct vchan_host *host;
	/* The fields of libxenvchan's own structure, since the peer may use that; `ring`, the buffers and
	 * `shr` lead into shared memory, everything else is ours. */
	struct libxenvchan control;
	uint32_t port; /* the local one, the key in vchan_host.vchans */
	uint32_t domid;
	uint32_t ring_ref;
	uint32_t pages;
	uint32_t *refs;	    /* granted: of the rings' pages, as they stand in the shared one */
	bool was_connected; /* the peer's live byte has been 1 */
	bool is_stale;	    /* from before a restore: its port must not be touched */
	unsigned restores;  /* the count when it was made */
	vchan_event_fn event;
	void *userdata;
	/* vchan_kept.c's: */
	bool is_kept, is_masked;
	bool had_mapper;   /* when it was granted again */
	uint64_t closes;   /* which one of the host's it was that was closed */
	uint64_t kept_ms;  /* when it was closed */
	uint64_t asked_ms; /* when Xen was asked last whether its domain is gone */
	uint64_t free_ms;  /* when it is freed, if the other side has let go of it; 0: it hasn't */
	UT_hash_handle hh;
};

/* Returns the negative errno of a failed call into Xen's libraries, which sometimes set none. */
static inline int vchan_failure(void)
{
	return errno ? -errno : -EIO;
}

/* Has the port of a vchan that is closed unbound as soon as it is certain that it isn't from before a
 * restore. */
void vchan_host_retire_port(struct vchan_host *host, const struct vchan *vchan);
/* Returns what a new vchan's page holds for its end: the port, or none. A page outlives a restore, and the
 * kernel would close whatever port has that number then. */
uint32_t vchan_host_notify_port(const struct vchan_host *host, uint32_t port);
/* Looks whether ports may be bound. 0; -EAGAIN: a restore may lie behind that isn't known yet. The handle
 * has the old ports still: a number that it knows can't be bound again, and the attempt makes the kernel
 * forget all others. Or why there is no handle, which there may not have been a descriptor for behind a
 * restore. */
int vchan_host_may_bind(struct vchan_host *host);
/* In the image: what a keeper may have. */
void vchan_host_keeper_image(struct image *image, struct vchan_host *host);
/* Has the live bytes looked at in a moment. */
void vchan_host_look_soon(struct vchan_host *host);
void vchan_clear_rings(struct vchan *vchan);
/* Gives back whatever parts there are: every step of set-up may have been the last. */
void vchan_tear_down(struct vchan *vchan);

/* --- vchan_kept.c */
#define VCHANS_MAX     3
#define WORD_PAGES_MAX 4096

/* Takes a granted vchan whose user is done with it. */
void kept_add(struct vchan *vchan);
/* Looks whether the peer has let go of it; may free it. */
void kept_look_at(struct vchan *vchan);
/* Frees it whether it has or not: its references lead nowhere any more. */
void kept_drop(struct vchan *vchan);
/* Takes a kept one for the same domain, with rings of these orders or, if it is still mapped, with larger
 * ones; the one that was closed last only if `last_too`, or if it has VCHANS_MAX already. -ENOENT: there is
 * none, and one more may be granted; -EBUSY: it has VCHANS_MAX already. */
int kept_take(struct vchan_host *host, uint32_t domid, int read_order, int write_order, bool last_too,
	      struct vchan **vchan);
/* Gives back at once what peers have let go of, for another one. Returns whether there was any. */
bool kept_make_room(struct vchan_host *host);
void kept_destroy(struct vchan_host *host);

#endif
