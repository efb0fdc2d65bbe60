/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_AUTH_TAG_H
#define XENMSG_DAEMON_AUTH_TAG_H

/*
 * The proof that an end of a session makes of knowing its secret, without showing it (doc/protocol.md 5.7): a
 * keyed hash of what tells this end, the other one, this vchan and this handshake from all others. The sender
 * comes first, and each end takes domids from Xen, so a proof can neither be returned to its maker nor passed
 * on by a third domain.
 */

#include <stdbool.h>
#include <stdint.h>

#define AUTH_TAG_SIZE	 32u
#define AUTH_SECRET_SIZE 32u
#define AUTH_ID_SIZE	 16u
#define AUTH_HELLO_SIZE	 8u

struct auth_end {
	uint32_t domid;
	uint8_t nonce[AUTH_ID_SIZE]; /* of its HELLO on this vchan */
	uint8_t instance[AUTH_ID_SIZE];
};

void auth_tag_make(const uint8_t secret[AUTH_SECRET_SIZE], const struct auth_end *sender,
		   const struct auth_end *receiver, uint32_t epoch, uint8_t proof[AUTH_TAG_SIZE]);
/* Whether it is the sender's proof. Takes the same time wherever it differs. */
bool auth_tag_is_good(const uint8_t secret[AUTH_SECRET_SIZE], const struct auth_end *sender,
		      const struct auth_end *receiver, uint32_t epoch,
		      const uint8_t untrusted_tag[AUTH_TAG_SIZE]);

/* Names a session in the sender's HELLO to the receiver alone, who knows it, too: to all others it is random.
 * It proves nothing. */
void auth_hello_tag(const uint8_t secret[AUTH_SECRET_SIZE], const struct auth_end *sender,
		    const struct auth_end *receiver, uint8_t tag[AUTH_HELLO_SIZE]);

#endif
