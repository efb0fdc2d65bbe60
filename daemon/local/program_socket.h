/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PROGRAM_SOCKET_H
#define XENMSG_DAEMON_PROGRAM_SOCKET_H

/*
 * Reading from a program's socket, and closing it, so that nothing which the program has sent can make that
 * wait. Bytes may come with descriptors (SCM_RIGHTS). Who reads such bytes has them closed, if he doesn't
 * want them, and who closes the socket closes all that lie unread in it; a close that is the last one of a
 * descriptor may wait for as long as its sender likes.
 *
 * So here bytes are peeked at before they are read. The kernel then says whether descriptors came with them,
 * or with what lies behind them (MSG_CTRUNC), and drops none: the queue has them still. From then on the
 * socket isn't read any more. What is in it stays for the close, and that is for a thread (closer.h).
 *
 * (SO_PASSRIGHTS, by which a socket takes no descriptors, is younger than the kernels that this is for, and a
 * program that breaks its stream has to send one: doc/protocol.md, section 6.)
 */

#include <sys/types.h>
#include <sys/uio.h>

struct charge;
struct relay;

#define PROGRAM_SOCKET_PIECES 3

/* Once, before the first of the following. */
int program_socket_init(int fd);
/* Copies bytes that are there, and leaves them. Returns how many; 0: the program sends no more; -EAGAIN:
 * none; -EBADMSG: descriptors came with some of them, or with what lies behind them. Up to
 * PROGRAM_SOCKET_PIECES pieces. */
ssize_t program_socket_peek(int fd, struct iovec *pieces, unsigned count);
/* Reads `size` bytes that were peeked at. */
ssize_t program_socket_take(int fd, const struct iovec *pieces, unsigned count, size_t size);
/* Both, of all that there is room for. */
ssize_t program_socket_read(int fd, struct iovec *pieces, unsigned count);
/* Who pays for the socket has a descriptor in `charge` (NULL: nobody has). */
void program_socket_close(struct relay *relay, int fd, struct charge *charge);

#endif
