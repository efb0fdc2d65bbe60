/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VCHAN_H
#define XENMSG_DAEMON_VCHAN_H

/*
 * vchans: the only code that grants, maps, binds or notifies.
 *
 * A `vchan_host` holds the three handles of the process (gntshr, gnttab, evtchn; opened once, at start, so
 * that privileges can be dropped afterwards), watches the event-channel descriptor on the event loop and
 * hands each event to the vchan whose port it is. A `vchan` is one libxenvchan-compatible channel
 * (xen/io/libxenvchan.h), made here and not by libxenvchan's init functions, which block, open handles of
 * their own and crash on some failure paths.
 *
 * States: GRANTED (pages granted, port unbound, nobody has connected: the peer's live byte is 2) → CONNECTED
 * (live byte 1) → CLOSED by the peer (live byte 0). A vchan that we mapped starts as CONNECTED. Any other
 * live byte is a hostile peer's.
 *
 * The peer may overwrite the shared page at any time: orders are copied once and checked; nothing that was
 * validated is read from it again. Nothing here blocks but the system calls for granting and mapping
 * themselves.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/ring.h"

struct image;

struct event_base;
struct vchan_host;
struct vchan;

/* Opens the handles. Negative errno of the one that can't be opened, and *what (a constant string) names
 * it. */
int vchan_host_new(struct vchan_host **host, struct event_base *base, const char **what);
/* Frees the host. All vchans must be closed before. If ports are bound, and it isn't certain that they aren't
 * from before a restore, a keeper gets the event-channel handle. */
void vchan_host_free(struct vchan_host *host);
/* Whether ports are bound. */
bool vchan_host_has_ports(const struct vchan_host *host);
/* XenStore has said, after it was asked again, that no restore lies behind: the handle may be closed if
 * vchan_host_restores() still returns `restores` then. */
void vchan_host_note_certain(struct vchan_host *host, unsigned restores);

/*
 * Renews the event-channel handle after the domain was saved and restored, perhaps on another host: the
 * ports lead nowhere, and closing them is a kernel BUG. Parks the old handle with a keeper and opens a new
 * one. Every vchan is CLOSED from now on; vchan_close() gives back its memory and leaves its port alone.
 * If there is no descriptor for the new one, whoever grants or maps tries again.
 */
void vchan_host_renew(struct vchan_host *host);

/*
 * After a restore, vchans may be closed before the restore is noticed (their peers have gone), and unbinding
 * their ports then is a kernel BUG. So the port of a closed vchan only retires: `retired` is called, finds
 * out whether there was a restore, and calls vchan_host_renew() or else vchan_host_unbind_retired(), which
 * unbinds those that retired at this moment or before it, and calls `retired` if others are left. Without
 * this callback a port is unbound at once.
 */
void vchan_host_set_retired(struct vchan_host *host, void (*retired)(void *userdata), void *userdata);
void vchan_host_unbind_retired(struct vchan_host *host, uint64_t at_ms);
/* Asks the hypervisor whether there is no such domain. */
bool vchan_host_lacks(struct vchan_host *host, uint32_t domid);
/* Writes what is known of peers that say, or don't say, that they have let go of pages, or reads it. The next
 * daemon gives back what this one keeps. With it goes what the keeper is asked for. */
void vchan_host_words_image(struct image *image, struct vchan_host *host);

/* There may have been a restore since the daemon before this: what the keeper has of that stays with it. */
void vchan_host_leave_to_keeper(struct vchan_host *host);
/* There was none, as its nodes show: what a keeper has by its token, if it has died, is taken back. */
void vchan_host_take_from_keeper(struct vchan_host *host, const uint8_t token[16]);
/* By which a keeper gets what it is given; it changes with each restore. */
const uint8_t *vchan_host_token(const struct vchan_host *host);

/* From now on this domain may be saved and restored: domain 0 never is. */
void vchan_host_guard(struct vchan_host *host);
/* As soon as the clocks show a restore, and whatever XenStore says, a keeper gets the event channels,
 * too: from then on the end of this process is no kernel BUG. `retired` is called. To be called whenever
 * something has happened. */
void vchan_host_look(struct vchan_host *host);

/* Called on the event loop when the peer has notified us, closed, or died. The callee looks at the rings and
 * vchan_state(). It may close the vchan. */
typedef void (*vchan_event_fn)(void *userdata);

/*
 * Grants rings of `read_size` and `write_size` bytes (powers of two from 1024 to 1 MiB, as seen from here;
 * sizes that the layout can't express, such as two in-page rings of the same size, are rounded as
 * libxenvchan_server_init does) to `domid` and binds a port for it; or grants again what that domain may
 * still have mapped, with larger rings then perhaps. -ENOSPC: gntalloc's or the event channels' limit is
 * reached; -EBUSY: the domain has let go of too little; -EAGAIN: this domain may have been restored just now;
 * -EINVAL: bad sizes; else as the drivers say.
 */
int vchan_grant(struct vchan_host *host, uint32_t domid, uint32_t read_size, uint32_t write_size,
		vchan_event_fn event, void *userdata, struct vchan **vchan);
/* Return what the peer needs to connect: the nodes ring-ref and event-channel. Only for a granted vchan. */
uint32_t vchan_ring_ref(const struct vchan *vchan);
uint32_t vchan_port(const struct vchan *vchan);

/* Maps what `domid` has granted, binds to its port, and tells it so (live byte, notification). -EPROTO:
 * impossible orders; -EAGAIN: as above; else as the drivers say. */
int vchan_map(struct vchan_host *host, uint32_t domid, uint32_t ring_ref, uint32_t port, vchan_event_fn event,
	      void *userdata, struct vchan **vchan);

enum vchan_state {
	VCHAN_WAITING, /* granted; nobody has connected */
	VCHAN_CONNECTED,
	/* the other side has closed it, or its process has died; data that it wrote before can be read */
	VCHAN_CLOSED,
	VCHAN_BROKEN, /* the live byte says something impossible */
};
enum vchan_state vchan_state(const struct vchan *vchan);

/* Whether the other side has closed the vchan by vchan_leave(): it wants another one. A bit beside its
 * requests says so, which the kernel doesn't set when it closes the vchan of a process that has died, and
 * libxenvchan never. */
bool vchan_was_left(const struct vchan *vchan);
/* Whether the other side, which is gone, has said neither by that nor by vchan_close() that it would go: the
 * kernel has closed the vchan of a process that died. Nobody knows it of one that was granted again while
 * somebody had it mapped: it may be that mapping which has gone, while the one of now is used. */
bool vchan_has_died(const struct vchan *vchan);

/* Returns how often this domain was restored since vchan_host_guard(), as far as can be seen at once; 0
 * without that. */
unsigned vchan_host_restores(struct vchan_host *host);
/* Whether vchan_is_sound() is to be asked. */
bool vchan_is_guarded(const struct vchan *vchan);
/* Whether this domain wasn't restored since the vchan was made, as far as can be seen at once. If it was,
 * what the other side wrote into granted pages may be stale or torn, and mapped ones lead nowhere. What is
 * copied out of them counts only if this is true afterwards. */
bool vchan_is_sound(const struct vchan *vchan);

/* Set where the rings are, as seen from here. */
void vchan_read_view(const struct vchan *vchan, struct ring_view *view);
void vchan_write_view(const struct vchan *vchan, struct ring_view *view);

/* Replaces the event callback: a vchan changes hands once it is connected. */
void vchan_set_event(struct vchan *vchan, vchan_event_fn event, void *userdata);

/* Sends an event to the peer. 0 or -errno. */
int vchan_notify(struct vchan *vchan);

bool vchan_is_granter(const struct vchan *vchan);
uint32_t vchan_pages(const struct vchan *vchan); /* granted or mapped here */

/* Clears our live byte, tells the peer, and gives everything back; what was granted as soon as the peer has
 * let go of it (vchan_kept.c). NULL is fine. */
void vchan_close(struct vchan *vchan);
/* Does the same, and says that this side wants another one. */
void vchan_leave(struct vchan *vchan);

/* Sets a callback for when pages have come back, after a granted vchan was closed, or ports, if vchan_grant()
 * had found none. The callee may grant, but not close. */
void vchan_host_set_freed(struct vchan_host *host, void (*freed)(void *userdata), void *userdata);

/* Sets what says whether anybody waits for another end. As long as that is so, or something was sent or heard
 * a moment ago, ends that no event tells of are found within a second. */
void vchan_host_set_waits(struct vchan_host *host, bool (*waits)(void *userdata), void *userdata);

/* For status: the pages that this process has granted now, kept ones too, and gntalloc's limit where it can
 * be read, else 0. */
uint32_t vchan_host_pages_granted(const struct vchan_host *host);
uint32_t vchan_host_pages_limit(const struct vchan_host *host);

#endif
