/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_PROBES_H
#define XENMSG_WIRE_PROBES_H

/*
 * Static probes (systemtap's), at which tools like bpftrace, perf and stap can look into a running program;
 * doc/probes.md lists them. Each is a single nop as long as nobody looks. Without <sys/sdt.h> at build time
 * there are none.
 */

#include <config.h>

#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>
#define PROBE2(provider, name, a, b)	   DTRACE_PROBE2(provider, name, a, b)
#define PROBE3(provider, name, a, b, c)	   DTRACE_PROBE3(provider, name, a, b, c)
#define PROBE4(provider, name, a, b, c, d) DTRACE_PROBE4(provider, name, a, b, c, d)
#else
#define PROBE2(provider, name, a, b)                                                                         \
	do {                                                                                                 \
	} while (0)
#define PROBE3(provider, name, a, b, c)                                                                      \
	do {                                                                                                 \
	} while (0)
#define PROBE4(provider, name, a, b, c, d)                                                                   \
	do {                                                                                                 \
	} while (0)
#endif

#endif
