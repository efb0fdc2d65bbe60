/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Moves clocks. On Xen the monotonic clock stands still while a domain is saved, and the clocks of the boot
 * time and of the day go on: a process sees by the difference that it was restored. Here the monotonic clock
 * is the machine's, which goes on, so the others are moved forward at a restore; or they aren't, as if the
 * host's clock had been set back meanwhile (xensim resume --clock).
 */
#include "config.h"

#include "sim/preload/lib_internal.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic long moved_ms;

void sim_clock_move(int milliseconds)
{
	atomic_fetch_add(&moved_ms, milliseconds);
}

static bool clock_goes_on(clockid_t clock)
{
	return clock == CLOCK_BOOTTIME || clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ||
	       clock == CLOCK_TAI;
}

SIM_EXPORT int clock_gettime(clockid_t clock, struct timespec *now)
{
	static _Atomic(void *) next;
	static atomic_bool
		is_sought; /* by dlsym(), which frees memory; and the sanitizers' allocator asks for the time */
	int r;

	if (!atomic_load_explicit(&next, memory_order_relaxed) && atomic_exchange(&is_sought, true))
		r = (int)syscall(SYS_clock_gettime, clock, now);
	else
		r = ((__typeof__(&clock_gettime))sim_next_function(&next, "clock_gettime"))(clock, now);
	if (r == 0 && clock_goes_on(clock)) {
		long moved = atomic_load_explicit(&moved_ms, memory_order_relaxed);

		now->tv_sec += moved / 1000;
		now->tv_nsec += moved % 1000 * 1000000;
		if (now->tv_nsec >= 1000000000) {
			now->tv_sec++;
			now->tv_nsec -= 1000000000;
		}
	}
	return r;
}
