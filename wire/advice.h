/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_ADVICE_H
#define XENMSG_WIRE_ADVICE_H

/* How messages tell people to start, stop and look at a service of this system, and to let its user have the
 * devices and the socket's directory: the commands of systemd, or, in what was built without it (configure
 * --without-systemd), words. String literals, as `name` must be. */

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

/* Why a stream broke that another program has ended before anything came. */
#define ADVICE_ENDED_FIRST                                                                                   \
	"the program there has ended it before anything came, as 'xenmsg forward' does if it can't reach its target, and a server of 'xenmsg run' if something else calls it"

#endif
