/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_GATEWAY_NATS_OPTIONS_H
#define XENMSG_GATEWAY_NATS_OPTIONS_H

/* What the settings say, as libnats's options. */

#include <nats/nats.h>
#include <stdbool.h>

#define NATS_WHY_SIZE 512u

struct settings;

/* Has this process trust the CAs of tls-ca, where it is set, and no others. Before anything else: it changes
 * the environment, which other threads may read. 0; -EPERM: the process has more rights than its user,
 * so OpenSSL doesn't heed what its environment says; -ENOMEM. */
int nats_options_trust_only(const struct settings *settings);
/* Whether the files that the settings name can be used, as they are now: they can be read, nobody else may
 * change them, and what is secret nobody else may read. If not, says why. */
bool nats_options_check(const struct settings *settings, char why[NATS_WHY_SIZE]);
/* Makes options from the settings and the files that they name, as these are now. NULL, and why. */
natsOptions *nats_options_new(const struct settings *settings, const char *name, char why[NATS_WHY_SIZE]);
/* Writes what libnats says of this thread's last error. */
void nats_options_say_why(char why[NATS_WHY_SIZE], const char *what, natsStatus status);

#endif
