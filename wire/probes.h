/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_PROBES_H
#define XENMSG_WIRE_PROBES_H

/*
 * Static probes (systemtap's), at which tools like bpftrace, perf and stap can look into a running program;
 * doc/trouble.md lists them. Each is a single nop as long as nobody looks. Without <sys/sdt.h> at build time
 * there are none. PROBE(3, provider, name, a, b, c) has three arguments.
 */

#include <config.h>

#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>
#define PROBE(count, provider, name, ...) DTRACE_PROBE##count(provider, name, __VA_ARGS__)
#else
#define PROBE(count, provider, name, ...)                                                                    \
	do {                                                                                                 \
	} while (0)
#endif

#endif
