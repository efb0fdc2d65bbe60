/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/run_record.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "wire/bytes.h"

static bool is_possible(const struct run_record *record)
{
	switch (record->type) {
	case RUN_START:
		/* Either no arguments, or the last one ends. */
		return record->size >= RUN_GREETING_SIZE &&
		       memcmp(record->body, RUN_GREETING, RUN_GREETING_SIZE) == 0 &&
		       (record->size == RUN_GREETING_SIZE || record->body[record->size - 1] == 0);
	case RUN_READY:
		return record->size == RUN_GREETING_SIZE &&
		       memcmp(record->body, RUN_GREETING, RUN_GREETING_SIZE) == 0;
	case RUN_DATA:
	case RUN_REFUSED:
		return true;
	case RUN_CREDIT:
		return record->size == 4 && record->value > 0 && record->value <= RUN_WINDOW;
	case RUN_STOP:
		return record->size == 0;
	case RUN_EXIT:
		return record->size == 1;
	}
	return false;
}

int run_record_decode(const uint8_t *data, size_t size, struct run_record *record)
{
	if (size < RUN_HEADER_SIZE)
		return 0;
	*record = (struct run_record){.type = data[0],
				      .stream = data[1],
				      .size = get_u16(data + 2),
				      .body = data + RUN_HEADER_SIZE};
	/* A type is refused before its body has come: what isn't `run` at all may be a few bytes. */
	if (data[0] < RUN_START || data[0] > RUN_REFUSED || record->stream >= RUN_STREAMS ||
	    record->size > RUN_BODY_MAX)
		return -EPROTO;
	if (size - RUN_HEADER_SIZE < record->size)
		return 0;
	if (record->type == RUN_CREDIT && record->size == 4)
		record->value = get_u32(record->body);
	else if (record->type == RUN_EXIT && record->size == 1)
		record->value = record->body[0];
	return is_possible(record) ? RUN_HEADER_SIZE + record->size : -EPROTO;
}

size_t run_record_encode(enum run_type type, unsigned stream, const void *body, size_t size,
			 uint8_t at[RUN_RECORD_MAX])
{
	at[0] = (uint8_t)type;
	at[1] = (uint8_t)stream;
	put_u16(at + 2, (uint16_t)size);
	if (size)
		memcpy(at + RUN_HEADER_SIZE, body, size);
	return RUN_HEADER_SIZE + size;
}
