/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PROGRAM_SOCKET_H
#define XENMSG_DAEMON_PROGRAM_SOCKET_H

/*
 * Reads from the socket of a program, such as the gateway to other hosts, and closes it, so that nothing
 * which the program has sent can make that wait. Bytes may come with descriptors (SCM_RIGHTS). A read of such
 * bytes closes the descriptors that it doesn't want, and a close of the socket closes all that lie unread in
 * it; the last close of a descriptor may wait for as long as its sender likes.
 *
 * So bytes are peeked at before they are read. The kernel then says whether descriptors came with them, or
 * with what lies behind them (MSG_CTRUNC), and drops none: they stay in the queue. From then on the socket
 * is peeked at only, up to there. What is in it is left for the close, which a thread has (work_pool.h).
 *
 * (SO_PASSRIGHTS, by which a socket refuses descriptors, is younger than the kernels that this supports, and
 * a program that breaks its stream must send one: doc/protocol.md, section 6.)
 */

#include <sys/types.h>
#include <sys/uio.h>

#include "wire/frame.h"

struct charge;
struct switchboard;

#define PROGRAM_SOCKET_PIECES 3

/* Prepares the socket, once, before any of the following. Returns 0 or a negative errno. */
int program_socket_init(int fd);
/* Copies bytes that are there, and leaves them. Returns how many; 0: the program sends no more; -EAGAIN:
 * none are there; -EBADMSG: descriptors came with some of them, or with what lies behind them; -ENOBUFS:
 * there is no memory for it now, and no event tells when there is (LACK_MS). There may be up to
 * PROGRAM_SOCKET_PIECES pieces. */
ssize_t program_socket_peek(int fd, struct iovec *pieces, unsigned count);
/* After -EBADMSG: peeks at the bytes from `offset` on that lie before the byte with descriptors. (The kernel
 * ends there what it gives, whatever lies behind. If descriptors came with more than one byte, those before
 * the last one are taken for others: they are peeked at, too, so the descriptors stay.) The pieces have room
 * for two bytes or more. Returns how many; 0: that byte is the next one; or a negative errno. The socket is
 * peeked at in no other way from then on. */
ssize_t program_socket_peek_before(int fd, size_t offset, struct iovec *pieces, unsigned count);
/* Takes up to `size` bytes away that were peeked at. For each buffer that this frees the kernel calls all who
 * watch the program's end, so it takes a few buffers at a time, and ends after a call that was long. Returns
 * how many, or a negative errno. */
ssize_t program_socket_take(int fd, size_t size);
/* For users of that, each once, so that it has what it needs. */
void program_sockets_begin(void);
void program_sockets_end(void);
/* Peeks, then takes what there is room for, as far as program_socket_take() does. Errors as above. */
ssize_t program_socket_read(int fd, struct iovec *pieces, unsigned count);
/* Sends a REPLY, which answers the handshake of a stream, as far as the socket takes it at once: an
 * error and why, or 0 and who has opened it (at most 248 bytes); with a descriptor, which stays the caller's,
 * unless `passed` is -1. 0, -ECONNRESET, or -ENOBUFS: as above. */
int program_socket_reply(int fd, int error, struct frame_text body, int passed);
/* Closes the socket. `charge` holds the descriptor that the socket's account pays for (NULL: none pays). */
void program_socket_close(struct switchboard *board, int fd, struct charge *charge);

#endif
