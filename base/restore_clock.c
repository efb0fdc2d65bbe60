/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/restore_clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#define READINGS 16 /* the process may stand still between two clocks */

/* Finds between what the boot time less the monotonic time lies. */
static void see_boot(int64_t *least, int64_t *most)
{
	*least = INT64_MIN;
	*most = INT64_MAX;
	for (int i = 0; i < READINGS; i++) {
		int64_t before = (int64_t)clock_read(CLOCK_MONOTONIC),
			boot = (int64_t)clock_read(CLOCK_BOOTTIME),
			after = (int64_t)clock_read(CLOCK_MONOTONIC);

		if (boot - after > *least)
			*least = boot - after;
		if (boot - before < *most)
			*most = boot - before;
	}
}

#ifdef __x86_64__
#define FIRST_LEAF 0x40000000u
#define NEXT_LEAF  0x40000100u /* Xen's, where the first ones are another hypervisor's for its guests */
#define TIME_LEAF  3u

struct leaf {
	uint32_t a, b, c, d;
};

static struct leaf cpuid(uint32_t number)
{
	struct leaf leaf;

	__asm__ volatile("cpuid"
			 : "=a"(leaf.a), "=b"(leaf.b), "=c"(leaf.c), "=d"(leaf.d)
			 : "a"(number), "c"(0));
	return leaf;
}

/* In a PV guest CPUID is the CPU's, and Xen answers behind an instruction that isn't one. */
static struct leaf cpuid_pv(uint32_t number)
{
	struct leaf leaf;

	__asm__ volatile(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; cpuid"
			 : "=a"(leaf.a), "=b"(leaf.b), "=c"(leaf.c), "=d"(leaf.d)
			 : "a"(number), "c"(0));
	return leaf;
}

static uint32_t incarnation_pv(void)
{
	return cpuid_pv(FIRST_LEAF + TIME_LEAF).d;
}

static uint32_t incarnation_hvm(void)
{
	return cpuid(FIRST_LEAF + TIME_LEAF).d;
}

static uint32_t incarnation_hvm_next(void)
{
	return cpuid(NEXT_LEAF + TIME_LEAF).d;
}

static bool is_xens(struct leaf leaf, uint32_t first)
{
	return !memcmp(&leaf.b, "XenVMMXenVMM", 12) && leaf.a >= first + TIME_LEAF;
}

static sigjmp_buf no_pv;

static void on_no_pv(int number)
{
	siglongjmp(no_pv, 1);
}

/* Elsewhere that instruction ends a process. */
static bool is_pv(void)
{
	struct sigaction refused = {.sa_handler = on_no_pv}, before;
	volatile bool is = false;
	sigset_t blocked, open;

	sigemptyset(&open);
	sigaddset(&open, SIGILL);
	if (sigaction(SIGILL, &refused, &before) < 0)
		return false;
	pthread_sigmask(SIG_UNBLOCK, &open, &blocked);
	if (sigsetjmp(no_pv, 1) == 0)
		is = is_xens(cpuid_pv(FIRST_LEAF), FIRST_LEAF);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	sigaction(SIGILL, &before, NULL);
	return is;
}

static uint32_t (*find_incarnation(void))(void)
{
	if (is_xens(cpuid(FIRST_LEAF), FIRST_LEAF))
		return incarnation_hvm;
	if (is_xens(cpuid(NEXT_LEAF), NEXT_LEAF))
		return incarnation_hvm_next;
	return is_pv() ? incarnation_pv : NULL;
}
#else /* nothing is saved there */
static uint32_t (*find_incarnation(void))(void)
{
	return NULL;
}
#endif

void restore_clock_init(struct restore_clock *clock)
{
	int64_t least;

	*clock = (struct restore_clock){.day_ns = restore_clock_day_ns()};
	see_boot(&least, &clock->boot_most_ns);
	clock->incarnation_of = find_incarnation();
	if (clock->incarnation_of)
		clock->incarnation = clock->incarnation_of();
}

/* The day seems to have jumped. */
static void look_at_boot(struct restore_clock *clock)
{
	int64_t least, most, day_ns = restore_clock_day_ns();

	see_boot(&least, &most);
	clock->day_ns = day_ns;
	if (least > clock->boot_most_ns)
		clock->count++;
	clock->boot_most_ns = most > least ? most : least;
}

unsigned restore_clock_look(struct restore_clock *clock, int64_t day_ns)
{
	uint32_t incarnation = clock->incarnation_of ? clock->incarnation_of() : 0;

	clock->seen_ns = day_ns;
	if (incarnation != clock->incarnation)
		clock->count++;
	clock->incarnation = incarnation;
	day_ns -=
		(int64_t)clock_read(CLOCK_MONOTONIC_COARSE); /* behind a tick it seems to have jumped, too */
	if (day_ns != clock->day_ns)
		look_at_boot(clock);
	return clock->count;
}
