/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_VCHAN_VCHAN_H
#define XENMSG_VCHAN_VCHAN_H

/*
 * One end of a vchan, carried by a stream of xenmsg-stream.h: what libxenvchan.h and libvchan.h, which are
 * thin layers over this, have in common. It is a user of libxenmsg's public interface, and needs no device.
 *
 * All ends of a process share one connection (vchan_internal.h). The functions may be called by any thread.
 * An end belongs to the program from vchan_serve() or vchan_connect() until vchan_close(). From then on it
 * belongs to the engine, until the other side has all that was written.
 *
 *   vchan_serve() ───▶ WAITING ──a client of that domain──▶ OPEN ──its peer has gone──▶ OVER
 *                         ▲                                                              │
 *                         └──the program has seen that, and takes more than one client───┘
 *   vchan_connect() ─▶ CONNECTING ──the server has it──▶ OPEN ──its peer has gone──▶ OVER
 *                         └──refused: `error`──▶ OVER
 *
 * What comes and what goes each has a ring here of the size that the program was promised: the space in it
 * is exact. Two events, of the end's state and of its bytes, make its descriptor readable, each once until
 * vchan_wait() takes it, as two notifications of an event channel do.
 *
 * After fork() all ends stay with the parent. A child that uses a server that waits for a client takes it
 * over as soon as the parent has ended; any other end is over for the child.
 */

#include <stdbool.h>
#include <stddef.h>

struct vchan_end;

#define VCHAN_RING_MIN 4096u
#define VCHAN_RING_MAX (1u << 20) /* as libxenvchan's */

/* As libxenvchan_is_open() returns. */
enum vchan_open { VCHAN_GONE = 0, VCHAN_IS_OPEN = 1, VCHAN_WAITS = 2 };

/* How a server treats its clients: as libxenvchan does by default, with server_persist, or as Qubes'. */
enum vchan_clients { VCHAN_ONE_BY_ONE, VCHAN_PERSISTS, VCHAN_ONE };

/*
 * Makes a server for clients of a domain, at an endpoint, and waits for the daemon's answer. `in` and `out`
 * are the least sizes of the rings. Returns NULL with errno: EINVAL, EEXIST (there is a server of that name),
 * EACCES (a policy denies the name), or an error of xenmsg_open() or xenmsg_bind().
 */
struct vchan_end *vchan_serve(int domid, const char *endpoint, size_t in, size_t out,
			      enum vchan_clients clients);
/*
 * Begins to connect to a server of a domain. `waits`: while there is no such server or daemon it tries on, as
 * long as the domain is there. Returns NULL with errno as vchan_serve().
 */
struct vchan_end *vchan_connect(int domid, const char *endpoint, bool waits);
/* Whether one of vchan_connect() is open: 1 not yet, which it waits for if it `waits`; 0; -1 with errno: it
 * can't be. */
int vchan_opened(struct vchan_end *vchan, bool waits);

/* As the functions of libxenvchan of these names. `all`: as recv and send, all of it or nothing. */
int vchan_read(struct vchan_end *vchan, void *data, size_t size, bool all, bool blocking);
int vchan_write(struct vchan_end *vchan, const void *data, size_t size, bool all, bool blocking);
int vchan_wait(struct vchan_end *vchan);
int vchan_fd_for_select(struct vchan_end *vchan);
int vchan_is_open(struct vchan_end *vchan);
int vchan_data_ready(struct vchan_end *vchan);
int vchan_buffer_space(struct vchan_end *vchan);
void vchan_set_clients(struct vchan_end *vchan, enum vchan_clients clients);
/* Ends it, and waits, 5 s at most, until the other side has taken all. The rest goes on its way while the
 * process lives, and exit() waits until nothing was taken for 60 s. It takes NULL, and leaves errno alone. */
void vchan_close(struct vchan_end *vchan);

/* Whether the last attempt to reach this domain found that there is none. Sets errno to ESRCH. */
bool vchan_domain_is_gone(int domid);

/* The number of this domain, or -1 with errno. */
int vchan_own_domid(void);

#define VCHAN_NAME_SIZE 64 /* of an endpoint, with a zero */

#endif
