/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_TOLD_H
#define XENMSG_DAEMON_HOST_TOLD_H

/*
 * In a guest: what domain 0 has told it of the host's policy, in POLICY frames (doc/protocol.md, section
 * 5.12). A whole share replaces the one before at once, with what it says of domains; what is added later is
 * about domains alone.
 *
 *   nothing ──a whole share──▶ told ──link lost──▶ told, since nobody has taken it back
 *                              told ──this daemon hands over──▶ told, in the next one
 *                              told ──this domain was restored──▶ told, but other domains are unknown
 *                              told ──this daemon crashed──▶ the same, in the next one
 *
 * So that a crash doesn't take back what is denied while domain 0's daemon is away, each whole share is kept
 * in a file, in the directory that is locked (daemon/xen/singleton.h) and goes with the system. What the
 * numbers mean isn't believed after a crash: a domain may have gone meanwhile, or this one may have been
 * restored.
 */

#include <stdint.h>

#include "daemon/policy/host_policy.h"

struct host_told;
struct image;

/* `changed` is called for each domain of which something was added. */
struct host_told *host_told_new(void (*changed)(void *userdata, uint32_t domid), void *userdata);
void host_told_free(struct host_told *told);
/* Takes the rules that an earlier daemon has kept in the directory (a descriptor, or -1: none), and keeps
 * them there from now on. Returns when they were kept, in seconds since 1970; 0: there are none. The
 * directory stays the caller's, and outlives this. */
uint64_t host_told_recall(struct host_told *told, int directory);
/* Takes a frame's payload, of which nothing was checked. -EPROTO: it is malformed, and *error (which the
 * caller frees) says why, or -ENOMEM; then all is as before. */
enum host_told_what {
	HOST_TOLD_PART, /* nothing is whole yet */
	HOST_TOLD_RULES,
	HOST_TOLD_DOMAINS,
};
int host_told_take(struct host_told *told, const uint8_t *untrusted_payload, uint32_t length, char **error);
/* Returns the share; NULL: none has come yet. */
const struct policy *host_told_policy(const struct host_told *told);
/* By what numbers it was told of domains, they may have others now. */
void host_told_forget_domains(struct host_told *told);
void host_told_forget_domain(struct host_told *told, uint32_t domid);
/* Adds to a subject of this host what it is called, as far as that was told. */
void host_told_name(const struct host_told *told, struct policy_subject *subject);
/* Writes all of that, also what has come by half, into the image that the next daemon gets, or reads it. */
void host_told_image(struct image *image, struct host_told *told);
/* Forgets all, as if nothing had been told. */
void host_told_forget(struct host_told *told);

#endif
