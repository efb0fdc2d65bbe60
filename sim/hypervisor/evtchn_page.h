/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared memory of one event channel handle (one open /dev/xen/evtchn), and the few atomic steps by which
 * a notification goes straight from sender to receiver. It is what Linux's evtchn driver has for each open
 * file: whether a port is masked, and a ring of the ports whose interrupt has come.
 *
 *	0 ──notify──► MASKED, and the port is in the ring ──unmask──► 0
 *	MASKED ──notify──► MASKED|PENDING ──unmask──► MASKED, and the port is in the ring once more
 *
 * The ring gives ports back in the order in which they came. Reading one changes nothing about the port: so a
 * notification while the port is in the ring comes again after the unmask, and a program that unmasks before
 * it reads may find the port there twice. Unbinding a port leaves it in the ring, too. Since the ring has
 * only as much room as the driver's, it overflows then: reads fail with EFBIG from there on.
 *
 * Any process may stop or die between two of these steps, so no lock protects the ring. A process that
 * finds a slot filled and its index not yet moved moves the index for the one who filled it. Each entry in
 * the ring has a token in the handle's eventfd, which is a semaphore; a process reads a token before it
 * takes an entry. So the descriptor is readable if and only if there is an entry, without any spurious
 * wake-up (a stock program that polls and then calls the blocking libxenvchan_wait depends on it), and
 * O_NONBLOCK and blocking reads need no code.
 *
 * The page belongs to the receiving handle and is mapped by the receiver, the hypervisor and by each peer.
 */
#ifndef XENMSG_SIM_EVTCHN_PAGE_H
#define XENMSG_SIM_EVTCHN_PAGE_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What Xen has for a domain that isn't limited, as domain 0. */
#define SIM_MAX_PORTS 131072u

#define SIM_PORT_PENDING 1u
#define SIM_PORT_MASKED	 2u
/* A sender has masked the port and hasn't yet put it into the ring, or hasn't yet issued the token: if it
 * dies there, the hypervisor does the rest. */
#define SIM_PORT_SENDING 4u

/* The driver makes its first ring for so many ports, and doubles it when more than that are bound. */
#define SIM_RING_FIRST 64u
/* Powers of 2, with room for all ports of a guest, and of domain 0: all of it is used in turn, and takes
 * memory. */
#define SIM_GUEST_SLOTS 4096u
#define SIM_DOM0_SLOTS	SIM_MAX_PORTS

struct sim_evtchn_page {
	/* Fault injection: the number of notifications to drop (sim_evtchn_losing()). */
	_Atomic uint32_t lose;
	/* One above the highest port ever bound. */
	_Atomic uint32_t end;
	/* The driver's ring: how many entries it has room for, whether there was once one too many, and the
	 * indices, which are free running. */
	_Atomic uint32_t ring_size;
	_Atomic uint32_t overflow;
	_Atomic uint32_t producer, consumer;
	uint32_t slots; /* of the ring, as they are there */
	uint8_t pad[36];
	_Atomic uint32_t port[SIM_MAX_PORTS];
	/* The hypervisor increments it when the port's peer changes; the owner then asks again where to
	 * notify. */
	_Atomic uint32_t sequence[SIM_MAX_PORTS];
	/* The upper half says for which round of the indices the slot is; the lower one is the port + 1, or
	 * 0 while the slot is free. */
	_Atomic uint64_t ring[SIM_DOM0_SLOTS];
};

/* Reads what the kernel says of an eventfd: "eventfd-id", the same for all descriptors of it, or
 * "eventfd-count", its tokens. fdinfo: the descriptor's file in /proc. Returns -1 if it says nothing. */
static inline int64_t sim_eventfd_says(const char *fdinfo, const char *what)
{
	char text[512];
	const char *line;
	int fd = open(fdinfo, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -1;
	text[n] = 0;
	line = strstr(text, what);
	/* The count is in hexadecimal digits. */
	return line ? strtoll(line + strlen(what) + 1, NULL, strcmp(what, "eventfd-count") == 0 ? 16 : 10)
		    : -1;
}

/* A slot that is free for the entry with this index. */
static inline uint64_t sim_ring_free_slot(const struct sim_evtchn_page *page, uint32_t index)
{
	return (uint64_t)(index / page->slots) << 32;
}

static inline void sim_ring_advance(_Atomic uint32_t *index, uint32_t from)
{
	atomic_compare_exchange_strong(index, &from, from + 1);
}

static inline void sim_evtchn_token(int eventfd)
{
	const uint64_t one = 1;

	/* Not by write(), which in a domain looks whether it is for a device. */
	while (syscall(SYS_write, eventfd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Puts a port into the ring. Returns false if there is no room. */
static inline bool sim_ring_put(struct sim_evtchn_page *page, uint32_t port)
{
	for (;;) {
		uint32_t index = atomic_load(&page->producer);
		uint64_t slot = sim_ring_free_slot(page, index);
		int32_t used = (int32_t)(index - atomic_load(&page->consumer));
		bool put;

		/* Less than none: others have put and taken entries since we looked at the producer. */
		if (used < 0)
			continue;
		if ((uint32_t)used >= atomic_load(&page->ring_size))
			return false;
		put = atomic_compare_exchange_strong(&page->ring[index % page->slots], &slot,
						     slot | (port + 1));
		sim_ring_advance(&page->producer, index);
		if (put)
			return true;
	}
}

/* Takes the oldest entry out of the ring, for a token that was read. Returns the port, or -1: there is
 * none. */
static inline int sim_evtchn_take(struct sim_evtchn_page *page)
{
	for (;;) {
		uint32_t index = atomic_load(&page->consumer);
		uint64_t slot = atomic_load(&page->ring[index % page->slots]);
		uint32_t port = (uint32_t)slot - 1;
		bool taken = false;

		if (slot == sim_ring_free_slot(page, index)) {
			/* It was taken and put once more around the ring if the index has moved since. */
			if (index == atomic_load(&page->consumer))
				return -1;
			continue;
		}
		if (slot >> 32 == index / page->slots) {
			/* Its producer may not have come to this yet. */
			sim_ring_advance(&page->producer, index);
			taken = atomic_compare_exchange_strong(&page->ring[index % page->slots], &slot,
							       sim_ring_free_slot(page, index + page->slots));
		}
		sim_ring_advance(&page->consumer, index);
		if (taken) {
			if (port < SIM_MAX_PORTS)
				atomic_fetch_and(&page->port[port], ~SIM_PORT_SENDING);
			return (int)port;
		}
	}
}

/* The interrupt handler of a port that is masked now. */
static inline void sim_evtchn_interrupt(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	if (sim_ring_put(page, port))
		sim_evtchn_token(eventfd);
	else
		atomic_store(&page->overflow, 1);
}

/* How many events are lost (0xffff: all), and above that after how many that come. */
static inline uint32_t sim_evtchn_losing(uint32_t events, uint32_t after)
{
	const uint32_t most = 0xffff;

	return events ? (after < most ? after : most) << 16 | (events < most ? events : most) : 0;
}

static inline bool sim_evtchn_loses(struct sim_evtchn_page *page)
{
	uint32_t lose = atomic_load(&page->lose), then;

	do {
		if (lose == 0)
			return false;
		then = lose >= 0x10000 ? lose - 0x10000 : lose == 0xffff ? lose : lose - 1;
	} while (!atomic_compare_exchange_weak(&page->lose, &lose, then));
	return lose < 0x10000;
}

/* Sets the port pending; wakes the receiver if it was neither pending nor masked. */
static inline void sim_evtchn_set_pending(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	uint32_t state = 0;

	if (atomic_load_explicit(&page->lose, memory_order_relaxed) && sim_evtchn_loses(page))
		return;
	while (!atomic_compare_exchange_weak(&page->port[port], &state,
					     state & SIM_PORT_MASKED ? state | SIM_PORT_PENDING
								     : SIM_PORT_MASKED | SIM_PORT_SENDING))
		;
	if (state & SIM_PORT_MASKED)
		return;
	sim_evtchn_interrupt(page, eventfd, port);
	atomic_fetch_and(&page->port[port], ~SIM_PORT_SENDING);
}

static inline void sim_evtchn_unmask(struct sim_evtchn_page *page, int eventfd, uint32_t port)
{
	uint32_t state = atomic_load(&page->port[port]);

	do {
		if (!(state & SIM_PORT_MASKED))
			return;
	} while (!atomic_compare_exchange_weak(&page->port[port], &state,
					       state & SIM_PORT_PENDING ? SIM_PORT_MASKED : 0));
	if (state & SIM_PORT_PENDING)
		sim_evtchn_interrupt(page, eventfd, port);
}

/* Brings a port back to its first state when it is unbound. Its entry stays in the ring, as in the
 * driver's. */
static inline void sim_evtchn_reset_port(struct sim_evtchn_page *page, uint32_t port)
{
	atomic_store(&page->port[port], 0);
}

/* Makes room for so many bound ports. */
static inline void sim_evtchn_make_room(struct sim_evtchn_page *page, uint32_t ports)
{
	uint32_t size = atomic_load(&page->ring_size);

	if (ports > size)
		atomic_store(&page->ring_size, size ? 2 * size : SIM_RING_FIRST);
}

/* Completes a notification whose sender was killed midway, given the number of tokens that are out. */
static inline void sim_evtchn_complete(struct sim_evtchn_page *page, int eventfd, uint32_t port,
				       uint64_t tokens)
{
	uint32_t producer = atomic_load(&page->producer), consumer = atomic_load(&page->consumer);
	bool found = false;

	if (!(atomic_fetch_and(&page->port[port], ~SIM_PORT_SENDING) & SIM_PORT_SENDING))
		return;
	/* The producer may have died before it moved its index. */
	if ((uint32_t)atomic_load(&page->ring[producer % page->slots]) != 0)
		producer++;
	for (uint32_t i = consumer; i != producer; i++)
		found |= (uint32_t)atomic_load(&page->ring[i % page->slots]) == port + 1;
	if (!found)
		sim_evtchn_interrupt(page, eventfd, port);
	else if (tokens < producer - consumer)
		sim_evtchn_token(eventfd);
}

#endif
