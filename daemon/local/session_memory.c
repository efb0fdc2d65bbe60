/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sessions whose rings lie in memory that the program shares. */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/shared_memory.h"
#include "daemon/local/session_internal.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "wire/doorbell.h"
#include "wire/local_ring.h"
#include "wire/untrusted_copy.h"

#define IN_RING_SIZE 262144u

int session_pay_for_memory(struct session *session, int fd)
{
	charge_exceed(&session->charge, QUOTA_MEMORY, session->memory_size);
	return memfd_lifetimes_on(session->board, fd, &session->charge, session->memory_size);
}

static void attach(struct session *session)
{
	bool is_again = session->old_memory_fd >= 0;
	int r = is_again ? hop_attach_again(session->hop, &session->rings)
			 : hop_attach(session->hop, &session->rings);

	session->uses_memory = true;
	if (is_again) {
		close(session->old_memory_fd);
		session->old_memory_fd = -1;
		charge_release(&session->charge, QUOTA_DESCRIPTORS, 1);
		session_pay_for_memory(session, session->memory_fd);
	}
	if (r < 0)
		hop_fail(session->hop, r, "the program's rings can't be used: %s", strerror(-r));
	else
		session_attached(session);
}

/* Puts what the program has left in the memory that it had into that in which it was to go on. Only it writes
 * there, and nobody can make holes in it: it was sealed when we used it. */
static int copy_memory(struct session *session)
{
	void *old = mmap(NULL, session->memory_size, PROT_READ, MAP_SHARED, session->old_memory_fd, 0);

	if (old == MAP_FAILED)
		return -errno;
	untrusted_copy(session->memory, old, (uint32_t)session->memory_size);
	munmap(old, session->memory_size);
	return 0;
}

void session_use_memory(struct session *session, bool is_gone)
{
	bool is_sealed;
	int r;

	if (session->uses_memory)
		return;
	is_sealed = shared_memory_is_sealed(session->memory_fd);
	if (session->old_memory_fd >= 0 && !is_sealed) {
		if (!is_gone)
			return; /* it has rung for something else */
		r = copy_memory(session);
		if (r < 0) {
			hop_fail(session->hop, r, "the program's memory can't be read: %s", strerror(-r));
			return;
		}
	} else if (!is_sealed && is_gone) { /* before it has begun, as for want of descriptors */
		session->uses_memory = true;
		hop_fail(session->hop, -ECONNRESET, "the program has gone");
		return;
	} else if (!is_sealed) {
		session->uses_memory = true;
		hop_fail(session->hop, -EPROTO, "the program's memory isn't sealed against holes");
		return;
	}
	attach(session);
}

static void on_wake(int fd, short what, void *userdata)
{
	struct session *session = userdata;

	switch_spend_long(session->board, hop_account(session->hop), COST_WAKE_UP);
	if (hop_has_rings(session->hop))
		hop_woken(session->hop);
	else /* with its first ring the program says that it has mapped and sealed it */
		session_use_memory(session, false);
}

static int make_doorbells(struct session *session)
{
	session->wake_daemon = doorbell_new();
	session->wake_program = doorbell_new();
	return session->wake_daemon < 0 ? session->wake_daemon : session->wake_program;
}

/* Returns the size of the control blocks' page. The rings begin behind it, at pages of this kernel, which may
 * have 16 or 64 KiB: a ring that doesn't begin at one can't be lent from (libclient/mirror.c). */
static uint32_t head_size(void)
{
	return (uint32_t)sysconf(_SC_PAGESIZE);
}

uint64_t session_shared_memory(const struct session *session)
{
	return head_size() + IN_RING_SIZE + 2ull * session->options.ring_size + ledger_memory(IN_RING_SIZE) +
	       ledger_memory(session->options.ring_size);
}

int session_await_memory(struct session *session)
{
	session->wake_event = event_new(session->board->base, session->wake_daemon,
					EV_WRITE | EV_PERSIST | EV_ET, on_wake, session);
	return session->wake_event && event_add(session->wake_event, NULL) == 0 ? 0 : -ENOMEM;
}

void session_find_rings(struct session *session)
{
	struct hop_rings *rings = &session->rings;

	rings->in = local_ring_view(session->memory, &session->places[LOCAL_RING_OUT]);
	rings->out[OUTLET_MAIN] = local_ring_view(session->memory, &session->places[LOCAL_RING_IN]);
	rings->out[OUTLET_DELIVERIES] =
		local_ring_view(session->memory, &session->places[LOCAL_RING_DELIVERIES]);
}

/* The daemon makes the memory, so that its size is certain: no program can shrink it under us, nor let it
 * grow. */
int session_share_memory(struct session *session, struct frame_welcome *welcome)
{
	const uint32_t large = session->options.ring_size;
	/* What comes for streams comes in order with all else. */
	const uint32_t sizes[LOCAL_RINGS] = {
		large, hop_program(session->hop)->carries_streams ? large : IN_RING_SIZE,
		hop_program(session->hop)->carries_streams ? IN_RING_SIZE : large};
	uint32_t at = head_size();
	struct ring_reader first;
	int r;

	for (unsigned i = 0; i < LOCAL_RINGS; i++) {
		welcome->rings[i] = (struct frame_ring_place){
			.control = i * LOCAL_RING_CONTROL, .data = at, .size = sizes[i]};
		at += sizes[i];
	}
	r = session->memory_fd = shared_memory_new(at, &session->memory);
	if (r < 0)
		return r;
	session->memory_size = at;
	memfd_lifetimes_on(session->board, session->memory_fd, &session->charge, at);
	r = make_doorbells(session);
	if (r < 0)
		return r;
	r = session_await_memory(session);
	if (r < 0)
		return r;
	memcpy(session->places, welcome->rings, sizeof(session->places));
	session_find_rings(session);
	hop_set_kind(session->hop, hop_program(session->hop)->carries_streams ? HOP_MUX : HOP_SHARED);
	/* A program that doesn't ring when it has mapped it does so for its first frame. */
	r = ring_reader_init(&first, &session->rings.in, false);
	if (r == 0)
		ring_reader_arm(&first, 1);
	return r;
}
