/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Records of `xenmsg run`: what decodes is within the bytes that are there and is encoded as it was, and a
 * part of a record is never taken for one. */

#include "cli/run_record.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	while (size > 0) {
		uint8_t again[RUN_RECORD_MAX];
		struct run_record record, part;
		int taken = run_record_decode(data, size, &record);

		if (taken <= 0)
			break;
		check((size_t)taken <= size && taken == RUN_HEADER_SIZE + record.size);
		check(record.stream < RUN_STREAMS && record.body == data + RUN_HEADER_SIZE);
		check(run_record_decode(data, (size_t)taken - 1, &part) <= 0);
		check(run_record_encode(record.type, record.stream, record.body, record.size, again) ==
		      (size_t)taken);
		check(memcmp(again, data, (size_t)taken) == 0);
		if (record.type == RUN_CREDIT)
			check(record.value > 0 && record.value <= RUN_WINDOW);
		data += taken;
		size -= (size_t)taken;
	}
	return 0;
}
