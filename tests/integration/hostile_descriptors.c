/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Attacks by descriptors: what is handed out has flags, counters, sizes, locks and leases that its holders
 * share, and what is handed in is closed by who receives it.
 */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/descriptors.h"
#include "tests/integration/hostile_program.h"
#include "wire/doorbell.h"

#define ANSWER_MS 20 /* how long it is waited for, which may not come */

static bool is_pipe(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

/* Whatever it is: nothing of this may matter to the other end. What fails, fails. */
static void spoil(int fd, pid_t daemon)
{
	const uint64_t most = 0xfffffffffffffffe;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	static const uint8_t bytes[4096];
	int flags = fcntl(fd, F_GETFL), other;
	char path[32];

	/* Full: an eventfd's counter, or a pipe, also by the end that it wasn't handed. */
	fcntl(fd, F_SETPIPE_SZ, 4096);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		int to = i ? other : fd;

		if (to >= 0 && write(to, &most, sizeof(most)) == sizeof(most))
			while (is_pipe(to) && write(to, bytes, sizeof(bytes)) > 0)
				;
	}
	if (other >= 0)
		close(other);
	/* Signals, for who made it as well. */
	fcntl(fd, F_SETOWN, daemon);
	fcntl(fd, F_SETSIG, SIGKILL);
	/* Held. */
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		fcntl(fd, F_SETLEASE, F_WRLCK);
	fcntl(fd, F_SETLK, &lock);
	fcntl(fd, F_OFD_SETLK, &lock);
	/* Of another size, or with nothing in it. */
	if (ftruncate(fd, 0) < 0)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 24);
	fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	lseek(fd, 1 << 30, SEEK_SET);
	/* And whoever writes or reads may wait. */
	fcntl(fd, F_SETFL, (flags | O_ASYNC | O_APPEND) & ~O_NONBLOCK);
}

static void spoil_socket(int fd)
{
	const int tiny = 1;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny));
	shutdown(fd, SHUT_RD);
}

static pid_t daemon_of(int fd)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	return peer.pid;
}

/* Spoils all that it was handed, makes the daemon wake it, and leaves. */
static unsigned turn_descriptors(struct attacker *attacker, struct session *session)
{
	pid_t daemon = daemon_of(session->fd);

	spoil(session->memory_fd, daemon);
	spoil(session->wake_daemon, daemon);
	spoil(session->wake_self, daemon);
	spoil_socket(session->fd);
	ring_reader_arm(&session->in, 1);
	ring_reader_arm(&session->deliveries, 1);
	for (unsigned i = 0; i < 8; i++)
		session_put(attacker, session, FRAME_UNBIND, i, "self", 4);
	doorbell_ring(session->wake_daemon);
	for (unsigned i = 0; i < ANSWER_MS && ring_reader_ready(&session->in, 1) <= 0; i++)
		poll(NULL, 0, 1);
	if (ring_reader_ready(&session->in, 1) > 0)
		attacker->events++;
	session_close(session);
	return 1;
}

/* --- those that are handed in ----------------------------------------------------------------- */

/* By a child, which closes what it has sent by ending, and so doesn't linger itself. Its parent has closed it
 * before. */
static bool send_and_end(int to, const void *data, size_t size, int fd)
{
	int gate[2], status = 0;
	pid_t child;
	char byte;

	if (pipe2(gate, O_CLOEXEC) < 0)
		return false;
	child = fork();
	if (child == 0) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1) == 0 && send_descriptor(to, data, size, fd, MSG_DONTWAIT) >= 0
			      ? 0
			      : 1);
	}
	close(gate[0]);
	if (child > 0)
		close(fd);
	close(gate[1]);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* Sends `data` with a descriptor whose last holder is then who receives it. */
static void hand_in(struct attacker *attacker, struct session *session, const void *data, size_t size)
{
	int peer, fd = lingering_socket(&peer);

	if (!send_and_end(session->fd, data, size, fd))
		/* it isn't let: at least the rest */
		send(session->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	/* The peer stays: with it the waiting would be over. */
	attacker->events++;
}

/* With the HELLO. */
static unsigned turn_linger_hello(struct attacker *attacker, struct session *session)
{
	uint8_t hello[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];

	if (session->fd >= 0 || (session->fd = session_connect(attacker->path)) < 0)
		return 0;
	hand_in(attacker, session, hello, whole_hello(hello, 0));
	return 1;
}

/* On the socket of a session: with a frame, or with a byte that has no business there. */
static unsigned turn_linger(struct attacker *attacker, struct session *session)
{
	uint8_t frame[FRAME_HEADER_SIZE];
	const struct frame_header header = {.type = FRAME_OPTIONAL + 72};

	if (session->step++ > 0)
		return 0;
	frame_header_encode(&header, frame);
	hand_in(attacker, session, frame, sizeof(frame));
	return 1;
}

/* Unread, when the daemon closes the connection. */
static unsigned turn_linger_unread(struct attacker *attacker, struct session *session)
{
	uint8_t garbage[FRAME_HEADER_SIZE] = {0};

	if (session->fd >= 0 || (session->fd = session_connect(attacker->path)) < 0)
		return 0;
	/* In two pieces: with the first of them the daemon has read enough. */
	send(session->fd, garbage, sizeof(garbage), MSG_NOSIGNAL | MSG_DONTWAIT);
	hand_in(attacker, session, garbage, sizeof(garbage));
	return 1;
}

const struct attack descriptor_attacks[] = {
	{"descriptors", SHARED, .turn = turn_descriptors},
	{"linger-hello", NO_SESSION, .turn = turn_linger_hello},
	{"linger-plain", PLAIN, .turn = turn_linger},
	{"linger-shared", SHARED, .turn = turn_linger},
	{"linger-unread", NO_SESSION, .turn = turn_linger_unread},
	{0},
};
