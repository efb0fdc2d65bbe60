/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Attacks by what the kernel does for each holder of an object when the daemon calls it: who watches a
 * doorbell or a socket is woken one after the other, each close looks through the locks of a file, and a hole
 * in shared memory is made in each mapping of it, while all others wait for the page.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/integration/hostile_program.h"
#include "wire/doorbell.h"

#define FIRST_NUMBER 512u /* of descriptors that no session has */
/* of each doorbell or socket: a call of the daemon's takes more than a millisecond */
#define WATCHES	     60000u
#define ALL_WATCHES  600000u
#define MOST_WATCHES 200000u /* of each of a few: as many as several processes can have */
#define MOST_WATCHED 3
#define LOCKS	     20000
#define MAPPINGS     40000u

/* This machine allows no such attack. */
static void give_up(void)
{
	_exit(3);
}

static unsigned number_limit(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return (unsigned)limit.rlim_max;
}

/* An epoll set knows a file by its number, too, and goes on watching it when that number is closed but the
 * file isn't. */
static void watch_times(int fd, unsigned count)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP};
	unsigned limit = number_limit(), number = limit;
	int set = -1;

	for (; count > 0; count--) {
		int copy;

		if (number >= limit) {
			set = epoll_create1(EPOLL_CLOEXEC); /* for as long as this program runs */
			number = FIRST_NUMBER;
		}
		copy = fcntl(fd, F_DUPFD_CLOEXEC, number);
		if (copy < 0 || set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, copy, &event) < 0)
			give_up();
		number = (unsigned)copy + 1;
		close(copy);
	}
}

static void watch_often(const struct attacker *attacker, int fd)
{
	unsigned count = ALL_WATCHES / attacker->count;

	watch_times(fd, count < WATCHES ? count : WATCHES);
}

/* What the daemon wakes it by. */
static int wakes(const struct session *session)
{
	return session->is_shared ? session->wake_self : session->fd;
}

static void begin_watched(struct attacker *attacker, struct session *session)
{
	watch_often(attacker, wakes(session));
}

/* A few sessions only, each of which costs the daemon tens of milliseconds. */
static void begin_most_watched(struct attacker *attacker, struct session *session)
{
	session->step = session - attacker->sessions < MOST_WATCHED;
	if (session->step)
		watch_times(wakes(session), MOST_WATCHES);
}

static int holds; /* a child counts up when it holds what it is to */

static void say_that_it_holds(void)
{
	if (eventfd_write(holds, 1) < 0)
		give_up();
	step_back();
}

/* Runs `hold` in a process that ends with this one, until it says that it holds. */
static void hold_in_child(void (*hold)(const struct session *session), const struct session *session)
{
	eventfd_t count;
	pid_t child;

	holds = eventfd(0, EFD_CLOEXEC);
	child = fork();
	if (child < 0)
		give_up();
	if (child > 0) {
		if (eventfd_read(holds, &count) < 0)
			give_up();
		close(holds);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	hold(session);
	_exit(0);
}

/* All eventfds of a machine have one inode, and each close of one looks through its locks. A process that
 * closes one unlocks its own. */
static void hold_locks(const struct session *session)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	for (off_t at = 2 * LOCKS; at > 0; at -= 2) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

		if (fcntl(fd, F_SETLK, &lock) < 0)
			give_up();
	}
	say_that_it_holds();
	for (;;)
		pause();
}

static void begin_locks(struct attacker *attacker, struct session *session)
{
	if (attacker->holders++ == 0)
		hold_in_child(hold_locks, session);
}

/* While a hole is made, whoever touches the page waits. */
static void make_holes(const struct session *session)
{
	for (unsigned i = 0; i < MAPPINGS; i++)
		mmap(NULL, session->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, session->memory_fd, 0);
	say_that_it_holds();
	while (fallocate(session->memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			 (off_t)session->memory_size) == 0)
		;
}

static void begin_holes(struct attacker *attacker, struct session *session)
{
	session->step = attacker->holders++ < 4;
	if (session->step)
		hold_in_child(make_holes, session);
}

/* --- what the daemon does meanwhile ----------------------------------------------------------- */

/* A question, whose answer wakes us. */
static unsigned ask(struct attacker *attacker, struct session *session, const char *what)
{
	if (session->outstanding > 0 ||
	    !session_put(attacker, session, FRAME_UNBIND, ++session->next, what, (uint32_t)strlen(what)))
		return 0;
	session->outstanding++;
	if (session->is_shared)
		ring_reader_arm(&session->in,
				1); /* what is there already isn't what we want to be woken for */
	return 1;
}

static unsigned turn_ask(struct attacker *attacker, struct session *session)
{
	return ask(attacker, session, "self");
}

static void answer_came(struct attacker *attacker, struct session *session, const struct frame_header *header,
			const uint8_t *payload)
{
	if (header->type == FRAME_REPLY)
		session->outstanding--;
}

static unsigned turn_most_watched(struct attacker *attacker, struct session *session)
{
	return session->step ? turn_ask(attacker, session) : 0;
}

static unsigned turn_come_and_go(struct attacker *attacker, struct session *session)
{
	session_close(session);
	attacker->events++;
	return 1;
}

/* A connection that asks for a stream which it can't have: it is answered, and closed. */
static unsigned turn_stream(struct attacker *attacker, struct session *session)
{
	uint8_t frames[2 * (FRAME_HEADER_SIZE + FRAME_SMALL_MAX)] = {0};
	uint32_t size = whole_hello(frames, HELLO_STREAM);
	char bytes[512];
	ssize_t got;

	if (session->fd >= 0) {
		do
			got = recv(session->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		while (got > 0);
		if (got < 0 && errno == EAGAIN)
			return 0;
		close(session->fd);
		session->fd = -1;
		attacker->events++;
		return 1;
	}
	if (session - attacker->sessions >= MOST_WATCHED ||
	    (session->fd = session_connect(attacker->path)) < 0)
		return 0;
	watch_often(attacker, session->fd);
	size += whole_open(frames + size, CHANNEL_STREAM, attacker->address) + 1;
	return send(session->fd, frames, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* Says nothing, since indices of 0 are what the holes leave, and makes the daemon look at them. */
static unsigned turn_ring(struct attacker *attacker, struct session *session)
{
	if (session->step && doorbell_ring(session->wake_daemon) == 0)
		attacker->events++;
	return 0; /* again in a millisecond */
}

/* Has the daemon write to each page of the ring to us. */
static void fill(struct attacker *attacker, struct session *session, const struct frame_header *header,
		 const uint8_t *payload)
{
	session->sent += frame_size(header->length);
	answer_came(attacker, session, header, payload);
}

/* To the kernel pages belong to who touched them first, until nobody has them any more. */
static unsigned turn_keep(struct attacker *attacker, struct session *session)
{
	if (session->sent < session->in.ring.size)
		return ask(attacker, session, "self");
	session->memory = NULL; /* it stays mapped */
	session_close(session);
	attacker->events++;
	return 1;
}

const struct attack kernel_attacks[] = {
	{"watched-doorbell", SHARED, .begin = begin_watched, .frame = answer_came, .turn = turn_ask},
	{"watched-socket", PLAIN, .begin = begin_watched, .frame = answer_came, .turn = turn_ask},
	{"most-watched-doorbell", SHARED, .begin = begin_most_watched, .frame = answer_came,
	 .turn = turn_most_watched},
	{"most-watched-socket", PLAIN, .begin = begin_most_watched, .frame = answer_came,
	 .turn = turn_most_watched},
	{"watched-stream", NO_SESSION, .turn = turn_stream},
	{"locked-doorbells", SHARED, .begin = begin_locks, .turn = turn_come_and_go},
	{"holes", SHARED, .begin = begin_holes, .turn = turn_ring},
	{"keeps", SHARED, .frame = fill, .turn = turn_keep},
	{0},
};
