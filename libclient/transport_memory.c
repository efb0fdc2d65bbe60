/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The memory that a program shares with its daemon, which may be hostile, and whose successor gives it other
 * memory. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libclient/transport.h"
#include "libclient/transport_internal.h"
#include "wire/doorbell.h"
#include "wire/local_ring.h"

#define RING_MIN 8192u /* in smaller rings messages would be split into useless pieces */

/* Checks the place of a ring, which the daemon chooses, since a place outside the memory would crash the
 * program. */
static int place_ring(const struct transport *transport, const struct frame_ring_place *place,
		      struct ring_view *view)
{
	if (place->size < RING_MIN || (place->size & (place->size - 1)) || place->size > (1u << 30))
		return -EPROTO;
	if (place->control % 64 || place->data % 64)
		return -EPROTO;
	if ((uint64_t)place->control + LOCAL_RING_CONTROL > transport->memory_size ||
	    (uint64_t)place->data + place->size > transport->memory_size)
		return -EPROTO;
	*view = local_ring_view(transport->memory, place);
	return 0;
}

/*
 * Returns whether the descriptor is of an anonymous kind. The daemon has these descriptors, too, and may be
 * hostile. So one that is waited on must have no file system, terminal or socket behind it, which could block
 * us. Eventfds have no file type.
 */
static bool is_anonymous(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && (status.st_mode & S_IFMT) == 0;
}

/* Returns whether this is memory that stays as large as it is: if it shrank while it is mapped, that would
 * raise SIGBUS. */
static bool cannot_shrink(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK);
}

int transport_map_rings(struct transport *transport, const struct frame_welcome *welcome,
			int fds[HANDSHAKE_FDS])
{
	struct ring_view views[LOCAL_RINGS];
	struct stat memory;

	if (fds[FD_MEMORY] < 0 || fds[FD_KICK] < 0 || fds[FD_WAKE] < 0 ||
	    fstat(fds[FD_MEMORY], &memory) < 0 || !is_anonymous(fds[FD_WAKE]))
		return -EPROTO;
	if (!cannot_shrink(fds[FD_MEMORY]) || memory.st_size <= 0 || memory.st_size > (off_t)1 << 31)
		return -EPROTO;
	transport->memory_size = (size_t)memory.st_size;
	transport->memory =
		mmap(NULL, transport->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[FD_MEMORY], 0);
	if (transport->memory == MAP_FAILED) {
		transport->memory = NULL;
		return -ENODATA;
	}
	/* The daemon touches it only if nobody can make holes in it, for which it would have to wait. */
	if (fcntl(fds[FD_MEMORY], F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return -EPROTO;
	madvise(transport->memory, transport->memory_size, MADV_DONTFORK);
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		if (place_ring(transport, &welcome->rings[i], &views[i]) < 0)
			return -EPROTO;
	/* The daemon may have written already, so its indices are adopted after a check. */
	if (ring_writer_init(&transport->out, &views[LOCAL_RING_OUT], true) < 0 ||
	    ring_reader_init(&transport->in, &views[LOCAL_RING_IN], true) < 0 ||
	    ring_reader_init(&transport->deliveries, &views[LOCAL_RING_DELIVERIES], true) < 0)
		return -EPROTO;
	transport->kick = fds[FD_KICK];
	transport->wake = fds[FD_WAKE];
	fds[FD_KICK] = fds[FD_WAKE] = -1;
	transport->shared = true;
	return 0;
}

/* ---- other memory ---------------------------------------------------------------------------- */

/* Copies what lies in the ring between two positions, and its control block. Where no bytes are, no pages are
 * touched: hundreds of programs move at once. A daemon whose index is impossible gets whatever is there. */
static void copy_ring(const struct ring_view *ring, uint32_t begin, uint32_t end, const uint8_t *from,
		      uint8_t *to)
{
	const uint8_t *control = (const uint8_t *)ring->producer;
	uint32_t count = end - begin < ring->size ? end - begin : ring->size;
	struct iovec pieces[2];
	int parts = ring_pieces_of(ring, begin, count, pieces);

	memcpy(to + (control - from), control, LOCAL_RING_CONTROL);
	for (int i = 0; i < parts; i++)
		memcpy(to + ((const uint8_t *)pieces[i].iov_base - from), pieces[i].iov_base,
		       pieces[i].iov_len);
}

static void move_ring(struct ring_view *ring, const uint8_t *from, uint8_t *to)
{
	ring->data = to + (ring->data - from);
	ring->producer = (uint32_t *)(void *)(to + ((uint8_t *)ring->producer - from));
	ring->consumer = (uint32_t *)(void *)(to + ((uint8_t *)ring->consumer - from));
	ring->wants_data = to + (ring->wants_data - from);
	ring->wants_space = to + (ring->wants_space - from);
}

/* Goes on in other memory of the same layout, since the daemon has handed over to another one, which can't
 * map the old one. All that lies in the rings goes along, and all positions stay. What the program was lent
 * stays where it is. Returns 0, or -EPROTO or -ENOMEM, with which the connection ends. */
static int take_memory(struct transport *transport, int fd)
{
	struct stat status;
	uint8_t *memory;
	int r;

	if (!transport->shared || !cannot_shrink(fd) || fstat(fd, &status) < 0 ||
	    status.st_size != (off_t)transport->memory_size)
		return -EPROTO;
	r = transport->lent_room ? transport_take_room_back(transport) : 0;
	if (r < 0)
		return r;
	mirror_release(transport->out_mirror);
	transport->out_mirror = NULL;
	memory = mmap(NULL, transport->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	madvise(memory, transport->memory_size, MADV_DONTFORK);
	copy_ring(&transport->out.ring, ring_load(transport->out.ring.consumer), transport->out.head,
		  transport->memory, memory);
	copy_ring(&transport->in.ring, transport->in.released, ring_load(transport->in.ring.producer),
		  transport->memory, memory);
	copy_ring(&transport->deliveries.ring, transport->deliveries.released,
		  ring_load(transport->deliveries.ring.producer), transport->memory, memory);
	move_ring(&transport->out.ring, transport->memory, memory);
	move_ring(&transport->in.ring, transport->memory, memory);
	move_ring(&transport->deliveries.ring, transport->memory, memory);
	munmap(transport->memory, transport->memory_size);
	transport->memory = memory;
	transport->memories++;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
		return -EPROTO;
	TRACE(transport, "the daemon was renewed; going on in other memory");
	return doorbell_ring(transport->kick);
}

/* Receives a frame that comes over the socket with its descriptor, if one did; -1: none. */
static ssize_t receive(const struct transport *transport, void *buffer, size_t size, int *fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec piece = {buffer, size};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	ssize_t n = recvmsg(transport->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	*fd = -1;
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
	return n;
}

/* What comes with a descriptor loses it where the program has as many open as it may. So it has one less
 * then, for a moment. */
static void lay_timer_aside(struct transport *first)
{
	int other = fcntl(first->timer, F_DUPFD_CLOEXEC, 0);

	close(other >= 0 ? other : first->timer);
	if (other < 0)
		first->timer = -1;
}

static int bring_timer_back(struct transport *first)
{
	int64_t alarm = first->alarm;
	int r;

	if (first->timer >= 0)
		return 0;
	r = transport_make_timer(first);
	first->alarm = -1;
	transport_set_alarm(first, alarm);
	return r;
}

void transport_read_socket(struct transport *transport)
{
	struct transport *first = transport->first ? transport->first : transport;
	uint8_t buffer[FRAME_HEADER_SIZE + 1024];
	struct frame_header header = {0};
	struct frame_goodbye goodbye;
	bool is_frame, is_moved;
	int fd, r, error;
	ssize_t n;

	lay_timer_aside(first);
	/* Only MEMORY comes with a descriptor, and a read ends behind the bytes of one. */
	n = receive(transport, buffer, sizeof(buffer), &fd);
	error = errno;
	is_frame = n >= (ssize_t)FRAME_HEADER_SIZE && frame_header_decode(buffer, &header) == 0 &&
		   header.length <= (uint32_t)n - FRAME_HEADER_SIZE;
	is_moved = is_frame && header.type == FRAME_MEMORY && fd >= 0 && take_memory(transport, fd) == 0;
	if (fd >= 0)
		close(fd);
	r = bring_timer_back(first);
	if (r < 0)
		first->closed = true;
	if (r == 0 && (is_moved || (n < 0 && (error == EAGAIN || error == EINTR))))
		return;
	transport->closed = true;
	if (is_frame && header.type == FRAME_GOODBYE &&
	    frame_goodbye_decode(buffer + FRAME_HEADER_SIZE, header.length, &goodbye) == 0)
		transport_keep_reason(transport, goodbye.text);
}
