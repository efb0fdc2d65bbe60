/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_UNTRUSTED_COPY_H
#define XENMSG_WIRE_UNTRUSTED_COPY_H

/*
 * Copies out of memory that an untrusted peer may change at any time. What is checked afterwards is the copy,
 * and what is used is the copy, too: a compiler that sees a plain memcpy() may read the source again behind
 * the check, since for it nobody else writes there.
 */

#include <stddef.h>
#include <string.h>

static inline void untrusted_copy(void *copy, const void *shared, size_t size)
{
	memcpy(copy, shared, size);
	__asm__ volatile("" ::: "memory"); /* the source may be another one from here on */
}

#endif
