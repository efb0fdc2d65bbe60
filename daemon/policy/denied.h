/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DENIED_H
#define XENMSG_DAEMON_DENIED_H

/*
 * What policy has refused: counted for each pair of sender's domain and endpoint, logged with a limit, shown
 * in status. A hostile domain can try any name, so DENIED_MAX pairs are kept; a new one takes the place of
 * the oldest one of whoever has the most, domain or local user, so that nobody's refusals push out another's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

#define DENIED_MAX 64u

struct denied;

struct denied *denied_new(void);
void denied_free(struct denied *denied);
/* `file` and `line` of the rule that decided; NULL: no rule allows it. */
void denied_add(struct denied *denied, const struct frame_identity *from, bool is_local, const char *endpoint,
		const char *file, unsigned line);

struct denied_entry {
	uint32_t domid;
	char endpoint[64];
	uint64_t count;
	uint64_t last; /* seconds since 1970 */
};
void denied_each(struct denied *denied, void (*each)(void *userdata, const struct denied_entry *entry),
		 void *userdata);

#endif
