/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_FUZZ_H
#define XENMSG_TESTS_FUZZ_H

/* What fuzz targets have in common. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold; else the input is what was looked for. */
static inline void check(bool is_true)
{
	if (!is_true)
		abort();
}

/* An input that is a row of these: { u8 what, u8 length, payload }. The last payload may be cut. */
struct fuzz_record {
	uint8_t what;
	const uint8_t *payload;
	size_t size;
};

/* Takes the next one from the input. Whether there was one. */
static inline bool next_record(struct fuzz_record *record, const uint8_t **data, size_t *size)
{
	if (*size < 2)
		return false;
	record->what = (*data)[0];
	record->size = (*data)[1] < *size - 2 ? (*data)[1] : *size - 2;
	record->payload = *data + 2;
	*data += 2 + record->size;
	*size -= 2 + record->size;
	return true;
}

/* The number of the next descriptor: before an input and behind it the same, if nothing is left open. */
static inline int next_descriptor(void)
{
	int fd = dup(STDIN_FILENO);

	close(fd);
	return fd;
}

/* Only replay_main.c has it, to which -1 says what the target can't take: libFuzzer would learn nothing from
 * such an input. */
extern const char fuzz_is_replayed __attribute__((weak));

#endif
