/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/program_socket.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "base/cost.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/switch/hop.h"
#include "wire/frame.h"
#include "wire/libc.h"

#define UNREAD_MAX 4096 /* bytes that are searched before the loop closes a socket */
#define BATCH_MAX  64
#define RETRY_MS   100	/* when no thread could be made */
#define FREE_MS	   1000 /* for the thread's first steps */

int program_socket_init(int fd)
{
	const int yes = 1;

	/* Otherwise a peek doesn't see a byte that was sent out of band, and a read drops it, with its
	 * descriptors. */
	return setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes)) < 0 ? -errno : 0;
}

ssize_t program_socket_peek(int fd, struct iovec *pieces, unsigned count)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	ssize_t size = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

	if (size < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return message.msg_flags & MSG_CTRUNC ? -EBADMSG : size;
}

ssize_t program_socket_peek_before(int fd, size_t offset, struct iovec *pieces, unsigned count)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	const int from = (int)offset;
	ssize_t size;

	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &from, sizeof(from)) < 0)
		return -errno;
	size = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
	if (size < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return message.msg_flags & MSG_CTRUNC ? size - 1 : -EBADMSG;
}

ssize_t program_socket_take(int fd, const struct iovec *pieces, unsigned count, size_t size)
{
	struct iovec shorter[PROGRAM_SOCKET_PIECES];
	struct msghdr message = {.msg_iov = shorter};
	ssize_t taken;

	for (unsigned i = 0; i < count && size > 0; i++) {
		shorter[i] = pieces[i];
		if (shorter[i].iov_len > size)
			shorter[i].iov_len = size;
		size -= shorter[i].iov_len;
		message.msg_iovlen++;
	}
	taken = recvmsg(fd, &message, MSG_DONTWAIT);
	if (taken < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return taken;
}

ssize_t program_socket_read(int fd, struct iovec *pieces, unsigned count)
{
	ssize_t size = program_socket_peek(fd, pieces, count);

	return size > 0 ? program_socket_take(fd, pieces, count, (size_t)size) : size;
}

int program_socket_reply(int fd, int error, const char *why)
{
	const struct frame_reply reply = {.error = (uint32_t)error, .body = {why, strlen(why)}};
	uint8_t frame[FRAME_HEADER_SIZE + 256];
	const struct frame_header header = {.type = FRAME_REPLY,
					    .length = frame_reply_encode(&reply, frame + FRAME_HEADER_SIZE)};

	if (send(fd, frame, frame_wrap(frame, &header), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	log_debug("telling a program about its stream: %s", strerror(errno));
	return -ECONNRESET;
}

/* Returns whether the socket holds no descriptors, and none can come. */
static bool has_only_bytes(int fd)
{
	char bytes[UNREAD_MAX];
	struct iovec piece = {bytes, sizeof(bytes)};
	int unread;

	/* From here on the program can't send. A listening socket can't be asked. */
	if (shutdown(fd, SHUT_RD) < 0 || ioctl(fd, FIONREAD, &unread) < 0)
		return false;
	return unread == 0 || program_socket_peek(fd, &piece, 1) == unread;
}

void program_socket_close(struct switchboard *board, int fd, struct charge *charge)
{
	if (!board->closer || has_only_bytes(fd))
		close(fd);
	else
		closer_close(board->closer, fd, charge);
}

/* --- the closer ------------------------------------------------------------------------------- */

/* A socket that the loop still has open. */
struct parting {
	int fd;
	struct charge charge;
	struct parting *prev, *next;
};

/* A batch belongs to the thread from its start until it reports `done`, but for `fds`; then to the loop until
 * it posts `go`. */
struct close_batch {
	pid_t pid;
	int done; /* an eventfd */
	int fds[BATCH_MAX];
	unsigned count, held; /* the thread has the first ones, too */
	int error;	      /* why not all */
	sem_t go;	      /* the loop has closed its own */
};

struct closer {
	struct switchboard *board;
	int done;
	struct event *done_event, *retry_timer;
	struct parting *partings; /* those of the batch first */
	struct close_batch *batch;
};

/* --- the thread ------------------------------------------------------------------------------- */

/* Replaces the descriptor table that all threads share by one that holds nothing but `done`. */
static int own_table(int done)
{
	if (close_range((unsigned)done + 1, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		return -errno;
	if (done > 0 && close_range(0, (unsigned)done - 1, 0) < 0)
		return -errno;
	return 0;
}

/* Takes over the descriptors that the process's first thread has under these numbers. */
static int take(struct close_batch *batch)
{
	int process = pidfd_open(batch->pid, 0);

	if (process < 0)
		return -errno;
	for (; batch->held < batch->count; batch->held++)
		if (pidfd_getfd(process, batch->fds[batch->held], 0) < 0)
			return -errno;
	return 0;
}

static void *hold_and_end(void *argument)
{
	struct close_batch *batch = argument;
	const uint64_t one = 1;

	batch->error = own_table(batch->done);
	if (batch->error == 0)
		batch->error = take(batch);
	if (write(batch->done, &one, sizeof(one)) < 0)
		abort(); /* no other process has this counter: the write never waits, nor fails */
	while (sem_wait(&batch->go) < 0)
		;
	sem_destroy(&batch->go);
	free(batch);
	return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

static int start_thread(struct close_batch *batch)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int r;

	sigfillset(&all); /* the event loop handles signals */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	r = -pthread_create(&thread, &attributes, hold_and_end, batch);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int start_batch(struct closer *closer)
{
	struct close_batch *batch = calloc(1, sizeof(*batch));
	struct parting *parting;
	int r;

	if (!batch)
		return -ENOMEM;
	batch->pid = getpid();
	batch->done = closer->done;
	sem_init(&batch->go, 0, 0);
	for (parting = closer->partings; parting && batch->count < BATCH_MAX; parting = parting->next)
		batch->fds[batch->count++] = parting->fd;
	r = start_thread(batch);
	if (r < 0) {
		sem_destroy(&batch->go);
		free(batch);
		return r;
	}
	closer->batch = batch;
	switch_spend(closer->board, closer->partings->charge.account, COST_CLOSING);
	return 0;
}

static void retry_later(struct closer *closer, int error)
{
	log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR,
		    "closing what programs left in their sockets: %s", strerror(-error));
	timer_set(closer->retry_timer, RETRY_MS);
}

static void program_socket_go_on(struct closer *closer)
{
	int r;

	if (closer->batch || !closer->partings || evtimer_pending(closer->retry_timer, NULL))
		return;
	r = start_batch(closer);
	if (r < 0)
		retry_later(closer, r);
}

static void program_socket_forget(struct closer *closer, struct parting *parting)
{
	DL_DELETE(closer->partings, parting);
	charge_end(&parting->charge);
	free(parting);
}

/* Closes what the thread has, too, so these closes are not the last. */
static void close_held(struct closer *closer)
{
	struct close_batch *batch = closer->batch;
	int error = batch->error;

	closer->batch = NULL;
	for (unsigned i = 0; i < batch->held; i++) {
		close(closer->partings->fd);
		program_socket_forget(closer, closer->partings);
	}
	sem_post(&batch->go);
	if (error < 0)
		retry_later(closer, error);
	else
		program_socket_go_on(closer);
}

static void on_done(int fd, short what, void *userdata)
{
	struct closer *closer = userdata;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count) && closer->batch)
		close_held(closer);
}

static void program_socket_on_retry(int fd, short what, void *userdata)
{
	program_socket_go_on(userdata);
}

void closer_close(struct closer *closer, int fd, struct charge *charge)
{
	struct parting *parting = calloc(1, sizeof(*parting));

	if (!parting) {
		log_limited(LOG_ACCEPTING, LOG_BY_US, LOG_LEVEL_ERROR, "out of memory: a socket stays open");
		return;
	}
	parting->fd = fd;
	charge_init(&parting->charge, charge ? charge->account : NULL);
	if (charge && charge->held[QUOTA_DESCRIPTORS] > 0)
		charge_pass(&parting->charge, charge, QUOTA_DESCRIPTORS, 1);
	DL_APPEND(closer->partings, parting);
	program_socket_go_on(closer);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Waits for the thread's report, if it comes soon. */
static bool await_thread(struct closer *closer)
{
	struct pollfd poll_fd = {.fd = closer->done, .events = POLLIN};

	return closer->batch && poll(&poll_fd, 1, FREE_MS) > 0;
}

/* Tests whether a thread can take an eventfd, as it will take sockets. */
static int try_out(struct closer *closer)
{
	int fd = eventfd(0, EFD_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	closer_close(closer, fd, NULL);
	if (!await_thread(closer))
		return -ETIMEDOUT;
	r = closer->batch->error;
	on_done(closer->done, 0, closer);
	return r;
}

int closer_new(struct closer **out, struct switchboard *board)
{
	struct closer *closer = calloc(1, sizeof(*closer));
	int r = -ENOMEM;

	if (!closer)
		return -ENOMEM;
	closer->board = board;
	closer->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (closer->done >= 0)
		closer->done_event =
			event_new(board->base, closer->done, EV_READ | EV_PERSIST, on_done, closer);
	closer->retry_timer = evtimer_new(board->base, program_socket_on_retry, closer);
	if (closer->done_event && closer->retry_timer && event_add(closer->done_event, NULL) == 0)
		r = try_out(closer);
	if (r < 0) {
		closer_free(closer);
		return r;
	}
	*out = closer;
	return 0;
}

void closer_free(struct closer *closer)
{
	if (!closer)
		return;
	/* Each round closes a batch of what is left, and the first one that takes longer than FREE_MS is the
	 * last. */
	while (await_thread(closer))
		on_done(closer->done, 0, closer);
	while (closer->partings)
		program_socket_forget(closer, closer->partings);
	free_event(closer->done_event);
	free_event(closer->retry_timer);
	if (closer->done >= 0 && !closer->batch)
		close(closer->done);
	free(closer);
}
