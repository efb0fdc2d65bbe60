/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_INVARIANT_H
#define XENMSG_BASE_INVARIANT_H

/*
 * Invariants that hold between two passes, checked after each of them in a build with --enable-invariants:
 * the looking costs as much as there is. Each part has a function for what it knows, and
 * daemon/main/invariants.c calls them.
 */

#ifdef XENMSG_INVARIANTS

#include <stdlib.h>

#include "base/log.h"

/* Stops the daemon, with the words for what should have been so. */
#define INVARIANT(holds, words)                                                                              \
	do {                                                                                                 \
		if (!(holds)) {                                                                              \
			log_error("%s:%d: it isn't so that %s", __FILE__, __LINE__, words);                  \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

#endif
#endif
