/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "wire/bytes.h"
#include "wire/doorbell.h"
#include "wire/frame_ring.h"
#include "wire/local_ring.h"

void opener_note(struct opener *opener)
{
	void *page =
		mmap(NULL, sizeof(*opener->word), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*opener = (struct opener){.pid = getpid()};
	if (page == MAP_FAILED)
		return;
	if (madvise(page, sizeof(*opener->word), MADV_WIPEONFORK) < 0) { /* Linux before 4.14 */
		munmap(page, sizeof(*opener->word));
		return;
	}
	opener->word = page;
	*opener->word = 1;
}

void opener_forget(struct opener *opener)
{
	if (opener->word)
		munmap(opener->word, sizeof(*opener->word));
	opener->word = NULL;
}

enum { FD_MEMORY, FD_KICK, FD_WAKE }; /* in the order in which the daemon sends them */

/* What is kept until the daemon has answered. */
struct hello {
	bool shared;	/* shared memory is asked for */
	uint32_t flags; /* of HELLO, besides */
	struct handshake_answer answer;
	int fds[HANDSHAKE_FDS]; /* those that came with it, -1: none */
};

/* Makes the timer of transport_set_alarm(). Returns 0 or a negative errno. */
static int transport_make_timer(struct transport *transport);

/* Reads what comes over the socket though memory is shared: other memory, or the end of the connection,
 * perhaps with a GOODBYE. */
static void transport_read_socket(struct transport *transport);

#define BACKLOG_SIZE 8192 /* of which pages are used only where it is */
#define LEND_LATER   64u
#define NO_MEMORY_MS 100 /* after which it is tried again */
#define EVENTS	     8	 /* that are taken at once; what is left is told the next time */

void transport_keep_reason(struct transport *transport, struct frame_text text)
{
	frame_text_copy(text, transport->reason, sizeof(transport->reason));
}

uint8_t *transport_lend_room(struct transport *transport, uint32_t size)
{
	if (!transport->shared)
		return NULL;
	if (transport->lend_later) {
		transport->lend_later--;
		return NULL;
	}
	if (!transport->out_mirror)
		transport->out_mirror = mirror_new(&transport->out.ring);
	if (!transport->out_mirror)
		return NULL;
	transport->lent_room = size;
	return mirror_at(transport->out_mirror, transport->out.head);
}

/* Lets the program keep the room that was lent to it, elsewhere. */
static int transport_take_room_back(struct transport *transport)
{
	struct mirror *mirror = transport->out_mirror;
	int r = mirror_keep(mirror, mirror_at(mirror, transport->out.head), transport->lent_room);

	if (r < 0)
		return r;
	transport->out_mirror = NULL;
	transport->lent_room = 0;
	transport->lend_later = LEND_LATER;
	mirror_release(mirror);
	return 0;
}

int transport_space(struct transport *transport, uint32_t want)
{
	int space = !transport_is_here(transport) ? -ECHILD
		    : transport->lent_room	  ? transport_take_room_back(transport)
						  : 0;

	if (space < 0)
		return space;
	space = ring_writer_space(&transport->out, want);
	if (space >= 0 && (uint32_t)space < want && transport->pump) {
		transport_publish(transport);
		socket_pump_out(transport->pump);
		space = ring_writer_space(&transport->out, want);
	}
	return space;
}

int transport_control(struct transport *transport, uint8_t type, uint32_t channel, const void *payload,
		      uint32_t length)
{
	const struct frame_header header = {.length = length, .type = type, .channel = channel};
	uint32_t size = frame_size(length);
	uint8_t *frame;
	bool blocked;
	int space, r;

	r = transport_flush_backlog(transport, &blocked);
	if (r < 0)
		return r;
	space = blocked ? 0 : transport_space(transport, size);
	if (space < 0)
		return space;
	if ((uint32_t)space >= size) {
		frame_put(&transport->out, &header, payload);
		return 0;
	}
	if (fifo_size(&transport->backlog) > KEPT_MAX)
		return -EPROTO;
	r = fifo_reserve(&transport->backlog, size);
	if (r < 0)
		return r;
	frame = fifo_extend(&transport->backlog, size);
	if (length)
		memcpy(frame + FRAME_HEADER_SIZE, payload, length);
	frame_wrap(frame, &header);
	return 0;
}

int transport_offset(struct transport *transport, uint8_t type, uint32_t channel, uint64_t offset)
{
	uint8_t payload[8];

	return transport_control(transport, type, channel, payload, frame_u64_encode(offset, payload));
}

int transport_credit(struct transport *transport, uint32_t channel, uint64_t taken, uint32_t flags)
{
	const struct frame_credit credit = {.consumed = taken, .limit = INT64_MAX, .flags = flags};
	uint8_t payload[FRAME_SMALL_MAX];

	return transport_control(transport, FRAME_CREDIT, channel, payload,
				 frame_credit_encode(&credit, payload));
}

int transport_reset(struct transport *transport, uint32_t channel, uint32_t error, uint32_t flags,
		    uint64_t taken)
{
	const struct frame_reset reset = {.error = error, .flags = flags, .consumed = taken, .unsure = taken};
	uint8_t payload[FRAME_SMALL_MAX];

	return transport_control(transport, FRAME_RESET, channel, payload,
				 frame_reset_encode(&reset, payload));
}

int transport_take_late(struct transport *transport, const struct frame_header *header,
			const uint8_t *payload)
{
	uint32_t length = header->length < FRAME_SMALL_MAX ? header->length : FRAME_SMALL_MAX;

	return header->type == FRAME_RESET
		       ? transport_control(transport, FRAME_RESET, header->channel, payload, length)
		       : 0;
}

bool transport_is_read(struct transport *transport)
{
	int unread = 0;

	if (fifo_size(&transport->backlog) > 0 || ring_writer_unread(&transport->out) > 0)
		return false;
	return !transport->pump || ioctl(transport->socket, SIOCOUTQ, &unread) < 0 || unread == 0;
}

int transport_flush_some(struct transport *transport, bool *blocked)
{
	if (!transport_is_here(transport))
		return -ECHILD;
	while (fifo_size(&transport->backlog) > 0) {
		uint32_t size = frame_size(get_u32(fifo_front(&transport->backlog)));
		int space = transport_space(transport, size);

		if (space < 0)
			return space;
		if ((uint32_t)space < size)
			break;
		ring_writer_put(&transport->out, fifo_front(&transport->backlog), size);
		fifo_drop(&transport->backlog, size);
	}
	*blocked = fifo_size(&transport->backlog) > 0;
	return 0;
}

/* Notifies the daemon. It has made the doorbell and keeps it in order; if it doesn't, it can't be reached any
 * longer, so the connection is over. */
static void kick(struct transport *transport)
{
	if (doorbell_ring(transport->kick) == 0)
		return;
	transport->closed = true;
	transport_poke(transport);
}

void transport_notify_of_output(struct transport *transport)
{
	if (transport->shared) {
		/* The daemon also looks at what was taken, so a program that answers a message needn't notify
		 * it twice. */
		ring_reader_take_request(&transport->deliveries);
		kick(transport);
	}
}

void transport_publish_to_pump(struct transport *transport)
{
	if (transport_is_here(transport) && socket_pump_wants_flush(transport->pump))
		socket_pump_out(transport->pump);
}

void transport_release_in(struct transport *transport)
{
	if (transport_is_here(transport) && ring_reader_release(&transport->in) && transport->shared)
		kick(transport);
}

void transport_release_deliveries(struct transport *transport, bool quietly)
{
	transport_release_quietly(transport);
	if (!quietly && ring_reader_take_request(&transport->deliveries) && transport->shared)
		kick(transport);
}

void transport_wake(const struct transport *transport)
{
	const uint64_t one = 1;
	int kept = errno;
	ssize_t n;

	do
		n = write(transport->poke, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
	errno = kept;
}

void transport_poke(struct transport *transport)
{
	if (transport->first)
		transport = transport->first;
	if (transport->poked || !transport_is_here(transport))
		return;
	transport->poked = true;
	transport_wake(transport);
}

/* An alarm that comes before it is needed costs a look, and one that is put off a system call: so it is never
 * put off. */
void transport_set_alarm(struct transport *transport, int64_t at)
{
	struct itimerspec time = {.it_value = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000}};

	if (transport->first)
		transport = transport->first;
	if (at < 0 || (transport->alarm >= 0 && transport->alarm <= at))
		return;
	if (at == 0)
		time.it_value.tv_nsec = 1; /* zero would be never */
	if (timerfd_settime(transport->timer, TFD_TIMER_ABSTIME, &time, NULL) == 0)
		transport->alarm = at;
	else
		transport_poke(transport);
}

/* ---- polling ------------------------------------------------------------------------------ */

static bool is_about_socket(const struct transport *transport, const struct epoll_event *events, int n)
{
	bool is = false;

	for (int i = 0; i < n; i++)
		is |= (uint32_t)events[i].data.u64 == ON_SOCKET &&
		      (int)(events[i].data.u64 >> 32) == transport->socket;
	return is;
}

/* Serves one session. Returns 0 or a negative errno. */
static int take_events(struct transport *transport, const struct epoll_event *events, int n)
{
	bool on_socket = is_about_socket(transport, events, n);
	int r;

	if (transport->pump) {
		socket_pump_out(transport->pump);
		r = on_socket || !transport->first ? socket_pump_in(transport->pump) : 0;
		transport->closed |= r > 0;
		if (transport->first)
			socket_pump_arm(transport->pump); /* until somebody reads its rings */
		return r < 0 ? r : 0;
	}
	if (on_socket && !transport->hello)
		transport_read_socket(transport);
	return 0;
}

/* Serves the second session, whose end the program may hear of much later. */
static void take_second_events(struct transport *transport, const struct epoll_event *events, int n)
{
	if (transport->error || transport->closed)
		return;
	if (transport->is_read && !transport->pump) {
		transport->is_unwatched = transport->is_unwatched || is_about_socket(transport, events, n);
		if (transport->is_unwatched) /* it would wake again and again who can't read it now */
			epoll_ctl(transport->epoll, EPOLL_CTL_DEL, transport->socket, NULL);
		return;
	}
	transport->error = take_events(transport, events, n);
	if (transport->error || transport->closed)
		epoll_ctl(transport->epoll, EPOLL_CTL_DEL, transport->socket, NULL);
}

void transport_hold_memory(struct transport *transport, bool holds)
{
	transport->is_read = holds;
	if (holds || !transport->is_unwatched || !transport_is_here(transport))
		return;
	transport->is_unwatched = false;
	if (transport_watch(transport, transport->socket, EPOLLIN | EPOLLRDHUP, ON_SOCKET) < 0)
		transport->closed = true;
}

/* Unlike epoll_wait(2), poll(2) goes on sleeping where the process was stopped, or frozen for a save, and is
 * continued. */
int transport_sleep(const struct transport *transport, int timeout_ms)
{
	struct pollfd something = {.fd = transport->epoll, .events = POLLIN};
	int r = poll(&something, 1, timeout_ms);

	return r < 0 ? -errno : r;
}

int transport_poll(struct transport *transport, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n, r;

	if (!transport_is_here(transport))
		return -ECHILD;
	r = timeout_ms != 0 ? transport_sleep(transport, timeout_ms) : 1;
	if (r <= 0)
		return r;
	n = epoll_wait(transport->epoll, events, EVENTS, 0);
	transport->poked = false;
	if (n == EVENTS) /* by edge nothing else would tell of those that are left */
		transport_poke(transport);
	for (int i = 0; i < n; i++)
		if ((uint32_t)events[i].data.u64 == ON_TIMER)
			transport->alarm = -1;
		else if ((uint32_t)events[i].data.u64 == ON_STREAM)
			transport->on_stream(transport->userdata, (int)(events[i].data.u64 >> 32));
	if (transport->second)
		take_second_events(transport->second, events, n);
	r = take_events(transport, events, n);
	return r < 0 ? r : n > 0;
}

void transport_lack(struct transport *transport)
{
	transport->lacks_until = deadline_in(NO_MEMORY_MS);
	transport_set_alarm(transport, transport->lacks_until);
}

bool transport_lacks(struct transport *transport)
{
	if (transport->lacks_until && deadline_left(transport->lacks_until) == 0)
		transport->lacks_until = 0;
	return transport->lacks_until;
}

int transport_arm(struct transport *transport, bool deliveries, uint32_t want_space)
{
	bool lacks = transport_lacks(transport);
	int r;

	if (!transport_is_here(transport))
		return -ECHILD;
	if (transport->pump) {
		socket_pump_out(transport->pump);
		r = socket_pump_resume_in(transport->pump);
		transport->closed |= r > 0;
		if (r < 0)
			return r;
		socket_pump_arm(transport->pump);
		if (socket_pump_lacks(transport->pump))
			transport_set_alarm(transport, deadline_in(NO_MEMORY_MS));
		r = lacks ? 0 : ring_reader_ready(&transport->in, FRAME_HEADER_SIZE);
		if (r == 0 && deliveries && !lacks)
			r = ring_reader_ready(&transport->deliveries, FRAME_HEADER_SIZE);
		return r > 0 ? 1 : r;
	}
	r = lacks ? 0 : ring_reader_arm(&transport->in, FRAME_HEADER_SIZE);
	if (r == 0 && deliveries && !lacks)
		r = ring_reader_arm(&transport->deliveries, FRAME_HEADER_SIZE);
	if (r == 0 && want_space)
		r = transport_arm_space(transport, want_space);
	return r;
}

int transport_arm_space(struct transport *transport, uint32_t want_space)
{
	return transport->pump ? 0 : ring_writer_arm(&transport->out, want_space);
}

/* ---- the memory shared with the daemon ---------------------------------------------------- */

/* The memory that a program shares with its daemon, which may be hostile, and whose successor gives it other
 * memory. */

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

/* Maps the rings. Returns 0, or -ENODATA if that isn't possible here: the caller tries without shared
 * memory. */
static int transport_map_rings(struct transport *transport, const struct frame_welcome *welcome,
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

/* ---- other memory ------------------------------------------------------------------------- */

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
static ssize_t transport_receive(const struct transport *transport, void *buffer, size_t size, int *fd)
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

	*fd = -1;
	if (n > 0)
		handshake_keep_descriptors(&message, fd, 1);
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

static void transport_read_socket(struct transport *transport)
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
	n = transport_receive(transport, buffer, sizeof(buffer), &fd);
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

/* ---- how a session begins and ends -------------------------------------------------------- */

/* How a session with the daemon begins and ends. */

static int receive_welcome(struct transport *transport, struct frame_welcome *welcome, int64_t deadline)
{
	struct handshake_answer *answer = &transport->hello->answer;
	int r = handshake_read(transport->socket, answer, transport->hello->fds, deadline);

	if (r < 0) {
		if (answer->reason.size)
			transport_keep_reason(transport, answer->reason);
		return r;
	}
	if (answer->header.type != FRAME_WELCOME ||
	    frame_welcome_decode(answer->payload, answer->header.length, welcome) < 0)
		return -EPROTO;
	return welcome->major == PROTOCOL_MAJOR ? 0 : -EPROTONOSUPPORT;
}

static void close_all(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Closes the socket. As long as a child has it too, the epoll would go on to look at it. */
static void close_socket(struct transport *transport)
{
	if (transport->socket >= 0 && transport_is_here(transport))
		epoll_ctl(transport->epoll, EPOLL_CTL_DEL, transport->socket, NULL);
	if (transport->socket >= 0)
		close(transport->socket);
	transport->socket = -1;
}

static int dial(struct transport *transport, int64_t deadline)
{
	const struct hello *hello = transport->hello;
	int r = handshake_connect(transport->path, deadline);

	if (r < 0)
		return r;
	transport->socket = r;
	r = transport_watch(transport, transport->socket, EPOLLIN | EPOLLRDHUP, ON_SOCKET);
	return r < 0 ? r
		     : handshake_hello(transport->socket,
				       hello->flags | (hello->shared ? HELLO_SHARED_MEMORY : 0), NULL, 0);
}

static void forget_hello(struct transport *transport)
{
	if (transport->hello)
		handshake_drop_descriptors(transport->hello->fds);
	free(transport->hello);
	transport->hello = NULL;
}

/* Prepares what is said to the daemon. */
static int hello_new(struct transport *transport, uint32_t flags)
{
	const char *without = secure_getenv("XENMSG_NO_SHARED_MEMORY");
	struct hello *hello;

	hello = calloc(1, sizeof(*hello));
	if (!hello)
		return -ENOMEM;
	memset(hello->fds, -1, sizeof(hello->fds));
	hello->shared = (!without || strcmp(without, "1") != 0) && doorbells_work();
	hello->flags = flags | HELLO_REPORTS;
	transport->hello = hello;
	return 0;
}

static int transport_make_timer(struct transport *transport)
{
	transport->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return transport->timer < 0
		       ? -errno
		       : transport_watch(transport, transport->timer, EPOLLIN | EPOLLET, ON_TIMER);
}

/* Streams and a daemon that comes later are found by this path, wherever the program is by then: so it is
 * made absolute, unless that is too long. */
static int keep_path(struct transport *transport, const char *path)
{
	size_t size = strlen(path) + 1, before = 0;
	char *to = transport->path;

	if (size > sizeof(transport->path))
		return -ENAMETOOLONG;
	/* The rest is "/", `path` and its end. */
	if (path[0] != '/' && getcwd(to, sizeof(transport->path) - size)) {
		before = strlen(to);
		to[before++] = '/';
	}
	memcpy(to + before, path, size);
	return 0;
}

int transport_init(struct transport *transport, const char *path)
{
	int r = 0;

	*transport = (struct transport){.socket = -1,
					.epoll = -1,
					.wake = -1,
					.kick = -1,
					.poke = -1,
					.timer = -1,
					.alarm = -1,
					.closed = true};
	opener_note(&transport->opener);
	r = keep_path(transport, path);
	if (r < 0)
		return r;
	transport->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	transport->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (transport->poke < 0 || transport->epoll < 0)
		return -errno;
	r = transport_make_timer(transport);
	return r < 0 ? r : transport_watch(transport, transport->poke, EPOLLIN | EPOLLET, ON_RINGS);
}

void transport_join(struct transport *transport, struct transport *first)
{
	*transport = (struct transport){.first = first,
					.socket = -1,
					.epoll = first->epoll,
					.wake = -1,
					.kick = -1,
					.poke = -1,
					.timer = -1,
					.alarm = -1};
	memcpy(transport->path, first->path, sizeof(transport->path));
	opener_note(&transport->opener);
	transport_hang_up(transport);
	first->second = transport;
}

/* Takes what WELCOME says. Returns -ENODATA if the memory that came with it can't be mapped. */
static int take_welcome(struct transport *transport, const struct frame_welcome *welcome)
{
	transport->domid = welcome->domid;
	transport->max_message = welcome->max_message;
	transport->is_mux = transport->hello->flags & HELLO_MUX;
	if (!(welcome->flags & HELLO_SHARED_MEMORY))
		return 0;
	return transport->hello->shared ? transport_map_rings(transport, welcome, transport->hello->fds)
					: -EPROTO;
}

/* Makes the rings fit for use, and the descriptors tell of what happens in them. */
static int begin_session(struct transport *transport)
{
	int r = transport->shared ? transport_watch(transport, transport->wake, EPOLLOUT | EPOLLET, ON_RINGS)
				  : 0;

	if (r == 0 && transport->shared)
		r = doorbell_ring(transport->kick); /* the memory is mapped, so that the daemon can seal it */
	if (r == 0 && !transport->shared)
		r = socket_pump_new(&transport->pump, transport->socket, transport->epoll, &transport->out,
				    &transport->in, &transport->deliveries, transport->is_mux);
	if (r == 0) /* answers to the daemon mostly find this, so they never lack memory */
		r = fifo_reserve(&transport->backlog, BACKLOG_SIZE);
	if (r == 0)
		r = transport_arm(transport, true, 0);
	if (r > 0)
		transport_poke(transport);
	return r < 0 ? r : 0;
}

int transport_finish(struct transport *transport, int64_t deadline)
{
	struct frame_welcome welcome;
	int r = receive_welcome(transport, &welcome, deadline);
	bool again = false;

	if (r == -ETIMEDOUT)
		return r;
	if (r == 0) {
		r = take_welcome(transport, &welcome);
		again = r == -ENODATA && transport->hello->shared;
	}
	if (again) { /* once, without shared memory */
		close_socket(transport);
		transport->hello->shared = false;
		handshake_drop_descriptors(transport->hello->fds);
		r = dial(transport, deadline);
		if (r == 0)
			return transport_finish(transport, deadline);
		if (r == -ETIMEDOUT && deadline == 0)
			r = -EAGAIN; /* nothing is under way, for which the caller could wait */
	}
	forget_hello(transport);
	if (r == 0)
		r = begin_session(transport);
	if (r == 0) {
		transport->closed = false;
		transport->is_traced = trace_is_wanted();
		TRACE(transport, "connected to domain %u, %s", transport->domid,
		      transport->shared ? "by shared memory" : "by the socket alone");
	}
	return r;
}

/* Frees what is shared with the daemon, and what is about it. */
static void transport_let_go(struct transport *transport)
{
	const int fds[] = {transport->wake, transport->kick};

	forget_hello(transport);
	socket_pump_free(transport->pump);
	mirror_release(transport->out_mirror);
	/* Where it lay, a child may have something else. */
	if (transport->memory && transport_is_here(transport))
		munmap(transport->memory, transport->memory_size);
	close_socket(transport);
	close_all(fds, sizeof(fds) / sizeof(*fds));
}

void transport_leave(struct transport *transport)
{
	transport_hang_up(transport);
	fifo_free(&transport->backlog);
}

void transport_hang_up(struct transport *transport)
{
	struct limbo *limbo = &transport->limbo;
	struct ring_view views[3];

	transport_let_go(transport);
	transport->pump = NULL;
	transport->out_mirror = NULL;
	transport->memory = NULL;
	transport->wake = transport->kick = -1;
	transport->shared = transport->closed = transport->holds = false;
	transport->lent_room = transport->lend_later = 0;
	transport->error = 0;
	transport->lacks_until = 0;
	transport->is_read = transport->is_unwatched = false;
	*limbo = (struct limbo){.words[0].producer = sizeof(limbo->data)};
	for (unsigned i = 0; i < 3; i++)
		views[i] = ring_words_view(&limbo->words[i], limbo->data, sizeof(limbo->data));
	ring_writer_init(&transport->out, &views[0], true);
	ring_reader_init(&transport->in, &views[1], false);
	ring_reader_init(&transport->deliveries, &views[2], false);
}

int transport_dial(struct transport *transport, uint32_t flags, int64_t deadline)
{
	int r = hello_new(transport, flags);

	transport->reason[0] = '\0';
	return r < 0 ? r : dial(transport, deadline);
}

void transport_close(struct transport *transport)
{
	const int fds[] = {transport->epoll, transport->poke, transport->timer};
	bool here = transport_is_here(transport), blocked;

	/* After GOODBYE this end takes nothing more, so the senders of unread messages needn't be left in
	 * doubt. */
	if (here && !transport->closed) {
		uint8_t payload[4];

		transport_control(transport, FRAME_GOODBYE, 0, payload, frame_u32_encode(0, payload));
		transport_flush_backlog(transport, &blocked);
		transport_publish(transport);
		if (transport->pump)
			socket_pump_out(transport->pump);
	}
	transport_let_go(transport);
	if (transport->first)
		transport->first->second = NULL;
	else
		close_all(fds, sizeof(fds) / sizeof(*fds));
	fifo_free(&transport->backlog);
	opener_forget(&transport->opener);
}
