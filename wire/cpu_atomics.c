/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/cpu_atomics.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>

#define ARM64_ATOMICS (1ul << 8) /* HWCAP_ATOMICS, which the headers of other CPUs lack */

bool cpu_atomics_are_bounded(const char *machine, unsigned long hwcap)
{
	if (!strncmp(machine, "aarch64", 7))
		return hwcap & ARM64_ATOMICS;
	return strncmp(machine, "arm", 3) != 0; /* 32-bit code has none of LSE */
}

bool cpu_has_bounded_atomics(void)
{
	struct utsname name;

	return uname(&name) < 0 || cpu_atomics_are_bounded(name.machine, getauxval(AT_HWCAP));
}
