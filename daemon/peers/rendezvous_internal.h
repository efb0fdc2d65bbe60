/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RENDEZVOUS_INTERNAL_H
#define XENMSG_DAEMON_RENDEZVOUS_INTERNAL_H

/* What the three parts of a rendezvous share: its steps (rendezvous.c), our hello (rendezvous_hello.c), and
 * the rings. */

#include "daemon/peers/peers_internal.h"

/* --- rendezvous.c */
/* Takes the step that the facts and this event lead to. */
void rendezvous_take_step(struct peer *peer, enum rendezvous_event event);
/* Looks later whether something was missed, behind a pause of so many milliseconds (0: there was none). */
void rendezvous_again_later(struct peer *peer, uint32_t before_ms);

/* --- rendezvous_hello.c */
/* Begins an attempt of ours; leaves PAGES, GRANTED or AWAIT; gives it up; does that, and tells who wanted it
 * why. */
void rendezvous_begin(struct peer *peer);
void rendezvous_step_back(struct peer *peer, enum rendezvous_state state);
void rendezvous_withdraw(struct peer *peer);
void rendezvous_fail(struct peer *peer, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int rendezvous_write_hello(struct peer *peer);
void rendezvous_on_sweep(evutil_socket_t fd, short what, void *userdata);
/* Fails our attempt, since there can be no link; notes that Xen forbids one; does both, and tells the
 * peer. */
void rendezvous_refuse(struct peer *peer);
void rendezvous_note_forbidden(struct peer *peer);
void rendezvous_forbid(struct peer *peer);
/* What Xen has forbidden us may be tried once more; whether the peer has begun anew long after that. */
void rendezvous_forget_forbidden(struct peer *peer);
bool rendezvous_is_asked_again(const struct peer *peer);

/* --- rendezvous_rings.c */
void rendezvous_grant(struct peer *peer);
void rendezvous_map(struct peer *peer);
void rendezvous_hand_over(struct peer *peer, struct vchan *vchan);
void rendezvous_publish(struct peer *peer);
void rendezvous_unpublish(struct peer *peer);

#endif
