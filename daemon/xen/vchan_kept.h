/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VCHAN_KEPT_H
#define XENMSG_DAEMON_VCHAN_KEPT_H

/*
 * Keeps the granted vchans that were closed here while their peers may still have them mapped. Linux counts
 * such pages as given back, but the entries of the grant table stay in use for as long as the peer likes, and
 * a domain has 32,768 of them in all. So they are neither given back nor left alone: the peer gets the same
 * ones again for its next vchan.
 *
 *   closed here ──its live byte is 0: it has let go──▶ let go ──at once, or after a while──▶ given back
 *        └──else──▶ kept ──the byte is cleared: an event──▶ let go
 *                     ├──for a while the byte says that nobody has mapped it──▶ let go
 *                     ├──its domain is gone, says the hypervisor──▶ given back
 *                     └──the peer is to have another vchan──▶ granted again
 *   let go ──likewise──▶ granted again
 *
 * A domain has VCHANS_MAX granted ones at most, kept or not: present rings, those of a move, and a pair that
 * it left.
 *
 * The kernel of an honest peer clears the byte whenever the pages are unmapped, however its daemon ends. A
 * hostile one clears it as well and keeps its mapping, or never shows that it has one, which can't be seen
 * from here. So what is given back on a peer's word is counted: after WORD_PAGES_MAX pages it waits before
 * that, a second and then twice as long each time, unless others need the pages now; and a peer that comes
 * back meanwhile gets them again, which no word is needed for. Each day one wait is half as long again, and
 * an eighth of these pages is forgotten.
 *
 * A peer that still has the one mapped that was closed last may not have looked yet, and would take the next
 * one for it: the byte that tells of the end lies in the page that is made anew, and to unmap it later would
 * end the next one. So as long as there may be another one, that one stays as it is.
 */

#include <stdbool.h>
#include <stdint.h>

struct vchan;
struct vchan_host;

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
