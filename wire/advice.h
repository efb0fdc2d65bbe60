/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_ADVICE_H
#define XENMSG_WIRE_ADVICE_H

/* How messages tell people to start, stop and look at a service of this system, and to let its user have the
 * devices and the socket's directory: the commands of systemd, or, in what was built without it (configure
 * --without-systemd), words. String literals, as `name` must be. */

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

#ifdef WITH_SYSTEMD
#define ADVICE_START(name)   "systemctl start " name
#define ADVICE_STOP(name)    "systemctl stop " name
#define ADVICE_RESTART(name) "systemctl restart " name
#define ADVICE_LOG(name)     "journalctl -u " name
#define ADVICE_DEVICES	     "systemd-tmpfiles --create --prefix=/dev/xen xenmsg.conf"
#define ADVICE_LISTEN	     "start xenmsgd by systemctl, where xenmsgd.socket makes the socket"
#else
#define ADVICE_START(name)   "start the service " name
#define ADVICE_STOP(name)    "stop the service " name
#define ADVICE_RESTART(name) "restart the service " name
#define ADVICE_LOG(name)     "the log of the service " name
#define ADVICE_DEVICES	     "cd /dev/xen && setfacl -m u:xenmsgd:rw evtchn gntdev gntalloc xenbus"
#define ADVICE_LISTEN	     "start the service xenmsgd, which makes it"
#endif

#define ADVICE_DENIED_BY_RELAY                                                                               \
	"denied by policy in domain 0, which passes it on; there 'xenmsg policy check FROM TO' says by which rule"

/* Says in words why a stream broke, by the flags of its RESET. `has_come`: something came before. */
const char *advice_of_break(uint32_t flags, bool has_come);

#endif
