/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared memory of one event channel handle (one open /dev/xen/evtchn), and the few atomic steps by which
 * a notification goes straight from sender to receiver.
 *
 * A port is one word with two bits:
 *
 *	0 ──notify──► PENDING ──taken by pending()──► MASKED ──unmask──► 0
 *	                                              MASKED ──notify──► MASKED|PENDING ──unmask──► PENDING
 *
 * The process that moves a port to exactly PENDING issues one token: it sets the port's bit in ready[] and
 * then adds 1 to the handle's eventfd, which is a semaphore. A process reads a token before it takes a port.
 * So the descriptor is readable if and only if a port can be taken, without any spurious wake-up (a stock
 * program that polls and then calls the blocking libxenvchan_wait depends on it), and O_NONBLOCK and blocking
 * reads need no code.
 *
 * The page belongs to the receiving handle and is mapped by the receiver, the hypervisor and by each peer.
 */
#ifndef XENMSG_SIM_EVTCHN_PAGE_H
#define XENMSG_SIM_EVTCHN_PAGE_H

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#define SIM_MAX_PORTS 4096u

#define SIM_PORT_PENDING 1u
#define SIM_PORT_MASKED	 2u

struct sim_evtchn_page {
	/* Fault injection: the number of notifications to drop. */
	_Atomic uint32_t lose;
	/* One above the highest port ever bound: where a search for a ready port may end. */
	_Atomic uint32_t end;
	uint8_t pad[56];
	_Atomic uint64_t ready[SIM_MAX_PORTS / 64];
	_Atomic uint32_t port[SIM_MAX_PORTS];
	/* The hypervisor increments it when the port's peer changes; the owner then asks again where to
	 * notify. */
	_Atomic uint32_t sequence[SIM_MAX_PORTS];
};

static inline void sim_evtchn_token(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	const uint64_t one = 1;

	atomic_fetch_or(&page->ready[port / 64], UINT64_C(1) << (port % 64));
	while (write(eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Sets the port pending; wakes the receiver if it was neither pending nor masked. */
static inline void sim_evtchn_set_pending(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	if (atomic_load_explicit(&page->lose, memory_order_relaxed)) {
		uint32_t lose = atomic_load(&page->lose);

		while (lose && !atomic_compare_exchange_weak(&page->lose, &lose, lose - 1))
			;
		if (lose)
			return;
	}
	if (atomic_fetch_or(&page->port[port], SIM_PORT_PENDING) == 0)
		sim_evtchn_token(page, eventfd, port);
}

static inline void sim_evtchn_unmask(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	if (atomic_fetch_and(&page->port[port], ~SIM_PORT_MASKED) == (SIM_PORT_MASKED | SIM_PORT_PENDING))
		sim_evtchn_token(page, eventfd, port);
}

/* Takes a ready port, which is masked from here on, for a token that was read. Returns the port, or -1: there
 * is none (its port was unbound). */
static inline int sim_evtchn_take(struct sim_evtchn_page *page, uint32_t first)
{
	uint32_t words = (atomic_load(&page->end) + 63) / 64;

	for (uint32_t i = 0; i <= words; i++) {
		/* Begin behind the port taken last, so that a busy one can't starve the others. */
		uint32_t word = (first / 64 + i) % (words ? words : 1);
		uint64_t bits = atomic_load(&page->ready[word]);

		if (i == 0)
			bits &= ~UINT64_C(0) << (first % 64);
		while (bits) {
			uint32_t bit = (uint32_t)__builtin_ctzll(bits);
			uint32_t port = word * 64 + bit;
			uint32_t expected = SIM_PORT_PENDING;

			bits &= bits - 1;
			if (!(atomic_fetch_and(&page->ready[word], ~(UINT64_C(1) << bit)) & UINT64_C(1)
												    << bit))
				continue;
			if (atomic_compare_exchange_strong(&page->port[port], &expected, SIM_PORT_MASKED))
				return (int)port;
		}
	}
	return -1;
}

/* Brings a port back to its first state when it is unbound, with the token that it may have out. */
static inline void sim_evtchn_reset_port(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	const uint64_t bit = UINT64_C(1) << (port % 64);
	uint64_t value;

	/* The bit says that there is a token; clearing it makes the token ours. */
	if (atomic_fetch_and(&page->ready[port / 64], ~bit) & bit) {
		struct pollfd pollfd = {.fd = eventfd, .events = POLLIN};

		if (poll(&pollfd, 1, 0) == 1 && read(eventfd, &value, sizeof(value)) < 0)
			return;
	}
	atomic_store(&page->port[port], 0);
}

/* Completes a notification whose sender was killed midway, given the number of tokens that are out. */
static inline void sim_evtchn_complete(struct sim_evtchn_page *page, int eventfd, uint32_t port,
				       uint64_t tokens)
{
	const uint64_t bit = UINT64_C(1) << (port % 64), one = 1;
	unsigned ready = 0;

	if (atomic_load(&page->port[port]) != SIM_PORT_PENDING)
		return;
	if (!(atomic_load(&page->ready[port / 64]) & bit)) {
		sim_evtchn_token(page, eventfd, port);
		return;
	}
	for (uint32_t i = 0; i < SIM_MAX_PORTS / 64; i++)
		ready += (unsigned)__builtin_popcountll(atomic_load(&page->ready[i]));
	while (tokens < ready && write(eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

#endif
