/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/auth_tag.h"

#include <string.h>

#include <nettle/hmac.h>
#include <nettle/memops.h>

#include "wire/bytes.h"

static void add_u32(struct hmac_sha256_ctx *hash, uint32_t value)
{
	uint8_t bytes[4];

	put_u32(bytes, value);
	hmac_sha256_update(hash, sizeof(bytes), bytes);
}

/* What all begin with, which tells one kind from another. */
static void auth_tag_begin(struct hmac_sha256_ctx *hash, const uint8_t secret[AUTH_SECRET_SIZE],
			   const char *what, const struct auth_end *sender, const struct auth_end *receiver)
{
	hmac_sha256_set_key(hash, AUTH_SECRET_SIZE, secret);
	hmac_sha256_update(hash, strlen(what), (const uint8_t *)what);
	add_u32(hash, sender->domid);
	add_u32(hash, receiver->domid);
	hmac_sha256_update(hash, AUTH_ID_SIZE, sender->nonce);
}

static void add_instances(struct hmac_sha256_ctx *hash, const struct auth_end *sender,
			  const struct auth_end *receiver)
{
	hmac_sha256_update(hash, AUTH_ID_SIZE, sender->instance);
	hmac_sha256_update(hash, AUTH_ID_SIZE, receiver->instance);
}

void auth_tag_make(const uint8_t secret[AUTH_SECRET_SIZE], const struct auth_end *sender,
		   const struct auth_end *receiver, uint32_t epoch, uint8_t proof[AUTH_TAG_SIZE])
{
	struct hmac_sha256_ctx hash;

	auth_tag_begin(&hash, secret, "xenmsg prove", sender, receiver);
	hmac_sha256_update(&hash, AUTH_ID_SIZE, receiver->nonce);
	add_instances(&hash, sender, receiver);
	add_u32(&hash, epoch);
	hmac_sha256_digest(&hash, AUTH_TAG_SIZE, proof);
}

void auth_hello_tag(const uint8_t secret[AUTH_SECRET_SIZE], const struct auth_end *sender,
		    const struct auth_end *receiver, uint8_t tag[AUTH_HELLO_SIZE])
{
	struct hmac_sha256_ctx hash;

	auth_tag_begin(&hash, secret, "xenmsg hello", sender, receiver);
	add_instances(&hash, sender, receiver);
	hmac_sha256_digest(&hash, AUTH_HELLO_SIZE, tag);
}

bool auth_tag_is_good(const uint8_t secret[AUTH_SECRET_SIZE], const struct auth_end *sender,
		      const struct auth_end *receiver, uint32_t epoch,
		      const uint8_t untrusted_tag[AUTH_TAG_SIZE])
{
	uint8_t proof[AUTH_TAG_SIZE];

	auth_tag_make(secret, sender, receiver, epoch, proof);
	return memeql_sec(proof, untrusted_tag, AUTH_TAG_SIZE);
}
