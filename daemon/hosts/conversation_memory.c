/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hosts/conversation_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/quota.h"
#include "base/shared_memory.h"
#include "daemon/switch/call.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "daemon/switch/program_socket.h"
#include "wire/doorbell.h"

/* Has the first frame of the other host's daemon make the gateway ring, if nothing has before. */
static void ask_for_ring(uint8_t *memory)
{
	const struct ring_view in = gateway_ring_view(memory, GATEWAY_RING_IN);
	struct ring_reader first;

	ring_reader_init(&first, &in, false);
	ring_reader_arm(&first, 1);
}

int conversation_memory_make(struct conversation_memory *made, struct switchboard *board,
			     struct charge *charge, int passed[GATEWAY_FDS])
{
	int life[2];
	int r = 0;

	*made = (struct conversation_memory){0};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) < 0)
		return -errno;
	passed[GATEWAY_FD_LIFE] = life[1];
	passed[GATEWAY_FD_MEMORY] = shared_memory_new(GATEWAY_MEMORY_SIZE, &made->memory);
	passed[GATEWAY_FD_WAKE_DAEMON] = doorbell_new();
	passed[GATEWAY_FD_WAKE_GATEWAY] = doorbell_new();
	for (unsigned i = 0; i < GATEWAY_FDS; i++)
		if (passed[i] < 0)
			r = passed[i];
	if (r == 0)
		r = program_socket_init(life[0]);
	if (r < 0) {
		descriptors_close(passed, GATEWAY_FDS);
		close(life[0]);
		if (made->memory)
			munmap(made->memory, GATEWAY_MEMORY_SIZE);
		made->memory = NULL;
		return r;
	}
	ask_for_ring(made->memory);
	memfd_lifetimes_on(board, passed[GATEWAY_FD_MEMORY], charge, GATEWAY_MEMORY_SIZE);
	made->life = life[0];
	made->memory_fd = passed[GATEWAY_FD_MEMORY];
	made->wake_daemon = passed[GATEWAY_FD_WAKE_DAEMON];
	made->wake_gateway = passed[GATEWAY_FD_WAKE_GATEWAY];
	return 0;
}

void conversation_memory_free(struct conversation_memory *memory, struct switchboard *board,
			      struct charge *charge)
{
	const int fds[DEFERRED_FDS] = {memory->memory_fd, memory->wake_daemon, memory->wake_gateway};

	struct span span;

	if (!memory->memory)
		return;
	span_begin(&span, board);
	work_item_give_back(board, memory->memory, GATEWAY_MEMORY_SIZE, fds, charge);
	memory->memory = NULL;
	program_socket_close(board, memory->life, charge);
	span_end(&span, charge->account);
}
