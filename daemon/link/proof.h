/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PROOF_H
#define XENMSG_DAEMON_PROOF_H

/*
 * The proof that an end of a session makes of knowing its secret, without showing it (doc/protocol.md 5.7): a
 * keyed hash of what tells this end, the other one, this vchan and this attempt from all others. The sender
 * comes first, and each end takes domids from Xen, so a proof can neither be returned to its maker nor passed
 * on by a third domain.
 */

#include <stdbool.h>
#include <stdint.h>

#define PROOF_SIZE	  32u
#define PROOF_SECRET_SIZE 32u
#define PROOF_ID_SIZE	  16u
#define PROOF_TAG_SIZE	  8u

struct proof_end {
	uint32_t domid;
	uint8_t nonce[PROOF_ID_SIZE]; /* of its HELLO on this vchan */
	uint8_t instance[PROOF_ID_SIZE];
};

void proof_make(const uint8_t secret[PROOF_SECRET_SIZE], const struct proof_end *sender,
		const struct proof_end *receiver, uint32_t epoch, uint8_t proof[PROOF_SIZE]);
/* Whether it is the sender's proof. Takes the same time wherever it differs. */
bool proof_is_good(const uint8_t secret[PROOF_SECRET_SIZE], const struct proof_end *sender,
		   const struct proof_end *receiver, uint32_t epoch,
		   const uint8_t untrusted_proof[PROOF_SIZE]);

/* Names a session in the sender's HELLO to the receiver alone, who knows it, too: to all others it is random.
 * It proves nothing. */
void proof_tag(const uint8_t secret[PROOF_SECRET_SIZE], const struct proof_end *sender,
	       const struct proof_end *receiver, uint8_t tag[PROOF_TAG_SIZE]);

#endif
