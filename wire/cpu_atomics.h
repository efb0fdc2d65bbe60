/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_CPU_ATOMICS_H
#define XENMSG_WIRE_CPU_ATOMICS_H

/*
 * Whether an atomic operation that reads and writes ends in bounded time, though another CPU writes to the
 * same cache line without end. On x86 it locks the line. On arm64 only the instructions of LSE (ARMv8.1) do
 * so much: without them it is a loop of load and store that each write by somebody else begins again, and the
 * request bits of a ring (ring.h) lie in memory that a hostile end writes, too. Compilers choose between the
 * two at run time (-moutline-atomics).
 */

#include <stdbool.h>

/* `machine` as uname() names it, `hwcap` of getauxval(AT_HWCAP). */
bool cpu_atomics_are_bounded(const char *machine, unsigned long hwcap);
/* Asks about this CPU. */
bool cpu_has_bounded_atomics(void);

#endif
