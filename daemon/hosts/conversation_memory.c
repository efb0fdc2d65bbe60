/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hosts/conversation_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/descriptors.h"
#include "daemon/relay/program_socket.h"
#include "wire/doorbell.h"

/* Returns a descriptor of the memory, mapped at *memory. */
static int make_memory(uint8_t **memory)
{
	int fd = memfd_create("xenmsg-host", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;
	void *mapped = MAP_FAILED;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, GATEWAY_MEMORY_SIZE) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		mapped = mmap(NULL, GATEWAY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED) {
		r = -errno;
		close(fd);
		return r;
	}
	*memory = mapped;
	return fd;
}

int conversation_memory_make(struct conversation_memory *made, int passed[GATEWAY_FDS])
{
	int life[2];
	int r = 0;

	*made = (struct conversation_memory){0};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life) < 0)
		return -errno;
	passed[GATEWAY_FD_LIFE] = life[1];
	passed[GATEWAY_FD_MEMORY] = make_memory(&made->memory);
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
	made->life = life[0];
	made->wake_daemon = passed[GATEWAY_FD_WAKE_DAEMON];
	made->wake_gateway = passed[GATEWAY_FD_WAKE_GATEWAY];
	return 0;
}

void conversation_memory_free(struct conversation_memory *memory, struct relay *relay, struct charge *charge)
{
	if (!memory->memory)
		return;
	close(memory->wake_daemon);
	close(memory->wake_gateway);
	munmap(memory->memory, GATEWAY_MEMORY_SIZE);
	memory->memory = NULL;
	program_socket_close(relay, memory->life, charge);
}
