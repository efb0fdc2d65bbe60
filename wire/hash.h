/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_HASH_H
#define XENMSG_WIRE_HASH_H

/*
 * A keyed hash for our tables (wire/ut.h): names and numbers in them are chosen by others, and somebody
 * that knows the function could choose many that fall together, so that each look-up would walk them all.
 * The key is of this process alone.
 *
 * SipHash with one round for each eight bytes and three at the end, which is made for this (Aumasson and
 * Bernstein, 2012), as Python and Rust have it; of uthash's own functions none has a key.
 */

#include <stddef.h>
#include <stdint.h>

uint64_t siphash13(const uint64_t key[2], const void *data, size_t size);
/* With the key of this process. */
uint32_t keyed_hash(const void *data, size_t size);

#endif
