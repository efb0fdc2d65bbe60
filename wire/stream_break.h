/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_STREAM_BREAK_H
#define XENMSG_WIRE_STREAM_BREAK_H

#include <errno.h>

/* Causes that are no error of a target, as RESET_CAUSE has them. */
#define BREAK_NOT_STARTED ENOEXEC
#define BREAK_KILLED	  ECHILD

/* Closes a stream's socket, so that the other side sees it break. `cause`: an errno, or 0 for none. */
void stream_break(int stream, int cause);

#endif
