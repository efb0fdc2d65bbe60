/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/ut.h"

#include <string.h>
#include <sys/auxv.h>

#include "wire/bytes.h"

static uint64_t process_key[2];

/* Before any thread, so that nobody asks whether it is there: the kernel gives each program 16 random bytes.
 * The C library makes its guards of the stack of them, and a hash says nothing of its key; still they are not
 * the key themselves. */
static void __attribute__((constructor)) make_process_key(void)
{
	const void *random = (const void *)getauxval(AT_RANDOM);
	uint64_t seed[2];

	memcpy(seed, random, sizeof(seed));
	process_key[0] = siphash13(seed, "0", 1);
	process_key[1] = siphash13(seed, "1", 1);
}

static uint64_t rotate(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

/* Inline: four calls would cost as much as what they do. */
static inline __attribute__((always_inline)) void mix(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

static inline void take_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	mix(v);
	v[0] ^= word;
}

uint64_t siphash13(const uint64_t key[2], const void *data, size_t size)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
			 key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
	const uint8_t *at = data, *end = at + size;
	uint64_t last = (uint64_t)size << 56;
	unsigned shift = 0;

	for (; end - at >= 8; at += 8)
		take_word(v, get_u64(at));
	if (end - at >= 4) { /* a number, most often */
		last |= (uint64_t)get_u32(at);
		at += 4;
		shift = 32;
	}
	for (; at < end; shift += 8)
		last |= (uint64_t)*at++ << shift;
	take_word(v, last);
	v[2] ^= 0xff;
	for (unsigned i = 0; i < 3; i++)
		mix(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t keyed_hash(const void *data, size_t size)
{
	return (uint32_t)siphash13(process_key, data, size);
}
