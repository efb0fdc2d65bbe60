/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a message says beside its payload: wire/properties.c, with the bytes of doc/protocol.md, 2.5.
 */
#include "tests/unit/unit.h"

#include "wire/properties.h"

/* Decodes a block in an allocation of its own size, so that AddressSanitizer sees a read beyond it. */
static int decode(const void *bytes, size_t size, struct properties *properties)
{
	static uint8_t *copy;
	int length;

	free(copy);
	copy = malloc(size);
	assert_non_null(copy);
	memcpy(copy, bytes, size);
	length = properties_read(copy, size, properties);
	return length < 0 ? length : 0;
}

#define BOTH_KINDS                                                                                           \
	"\30\0\0\0"                                                                                          \
	"\4\0\1\0\350\3\0\0"                                                                                 \
	"\5\0\2\0"                                                                                           \
	"00-ab\0\0\0"

TEST(properties_are_the_bytes_of_the_document)
{
	const struct properties both = {.has_deadline = true, .deadline_ms = 1000, .trace = {"00-ab", 5}};
	struct properties decoded;
	uint8_t out[PROPERTIES_WRITE];

	assert_int_equal(properties_encode(&both, out), sizeof(BOTH_KINDS) - 1);
	assert_memory_equal(out, BOTH_KINDS, sizeof(BOTH_KINDS) - 1);
	assert_int_equal(decode(out, sizeof(BOTH_KINDS) - 1, &decoded), 0);
	assert_true(decoded.has_deadline);
	assert_int_equal(decoded.deadline_ms, 1000);
	assert_int_equal(decoded.trace.size, 5);
	assert_memory_equal(decoded.trace.data, "00-ab", 5);
}

TEST(a_notice_is_the_bytes_of_the_document)
{
	const struct properties notice = {
		.notice = {.kind = NOTICE_MISSED, .flags = NOTICE_UNKNOWN, .error = 13, .count = 258}};
	const char bytes[NOTICE_BLOCK] = "\30\0\0\0\20\0\4\0\2\1\0\0\15\0\0\0\2\1";
	struct properties decoded;
	uint8_t out[PROPERTIES_WRITE];

	assert_int_equal(properties_encode(&notice, out), sizeof(bytes));
	assert_memory_equal(out, bytes, sizeof(bytes));
	assert_int_equal(decode(out, sizeof(bytes), &decoded), 0);
	assert_memory_equal(&decoded.notice, &notice.notice, sizeof(decoded.notice));
	out[8] = 0; /* of no kind */
	assert_int_equal(decode(out, sizeof(bytes), &decoded), -EPROTO);
}

TEST(a_key_is_the_bytes_of_the_document)
{
	const struct properties keyed = {.key = {"colour", 6}};
	struct properties decoded;
	uint8_t out[PROPERTIES_WRITE];
	uint32_t size = properties_encode(&keyed, out);

	assert_int_equal(size, 16);
	assert_memory_equal(out, "\20\0\0\0\6\0\5\0colour\0\0", 16);
	assert_int_equal(decode(out, size, &decoded), 0);
	assert_int_equal(decoded.key.size, 6);
	assert_memory_equal(decoded.key.data, "colour", 6);
	out[8] = '\n';
	assert_int_equal(decode(out, size, &decoded), -EPROTO);
}

TEST(a_subscription_is_the_bytes_of_the_document)
{
	const struct properties subscription = {.subscribes = true, .listeners = 0x01020304};
	struct properties decoded;
	uint8_t out[PROPERTIES_WRITE];
	uint32_t size = properties_encode(&subscription, out);

	assert_int_equal(size, 16);
	assert_memory_equal(out, "\20\0\0\0\4\0\3\0\4\3\2\1\0\0\0\0", 16);
	assert_int_equal(decode(out, size, &decoded), 0);
	assert_true(decoded.subscribes);
	assert_int_equal(decoded.listeners, 0x01020304);
}

TEST(the_longest_properties_fit_what_is_reserved_for_them)
{
	char trace[TRACE_MAX];
	const struct properties both = {.has_deadline = true, .trace = {trace, TRACE_MAX}};
	struct properties decoded;
	uint8_t out[PROPERTIES_WRITE];
	uint32_t size;

	memset(trace, '~', sizeof(trace));
	size = properties_encode(&both, out);
	assert_true(size <= sizeof(out) && size % 8 == 0);
	assert_int_equal(decode(out, size, &decoded), 0);
	assert_int_equal(decoded.trace.size, TRACE_MAX);
}

TEST(kinds_that_are_not_known_are_skipped)
{
	static const char before[] =
		"\40\0\0\0"
		"\1\0\377\377x\0\0\0"
		"\0\0\7\0"
		"\4\0\1\0\1\0\0\0"
		"\3\0\11\0abc\0";
	struct properties decoded;

	assert_int_equal(decode(before, 32, &decoded), 0);
	assert_true(decoded.has_deadline);
	assert_int_equal(decoded.deadline_ms, 1);
	assert_int_equal(decoded.trace.size, 0);
}

/* A later version may say more of a deadline. */
TEST(a_longer_deadline_is_accepted)
{
	struct properties decoded;

	assert_int_equal(decode("\20\0\0\0"
				"\10\0\1\0\1\0\0\0\7\0\0\0",
				16, &decoded),
			 0);
	assert_int_equal(decoded.deadline_ms, 1);
}

TEST(what_can_not_be_properties_is_refused)
{
	static const struct {
		const char *bytes;
		size_t size;
	} bad[] = {
		{"\0", 1},					   /* shorter than its length */
		{"\0\0\0\0\0\0\0\0", 8},			   /* no length */
		{"\4\0\0\0\0\0\0\0", 8},			   /* less than a multiple of 8 */
		{"\14\0\0\0\0\0\0\0\0\0\0\0", 12},		   /* no multiple of 8 */
		{"\20\0\0\0\0\0\0\0", 8},			   /* longer than the message */
		{"\10\0\0\0\1\0\1\0", 8},			   /* a property beyond the end */
		{"\10\0\0\0\377\377\11\0", 8},			   /* far beyond it */
		{"\20\0\0\0\3\0\1\0abc\0\0\0\0\0", 16},		   /* a deadline of 3 bytes */
		{"\20\0\0\0\4\0\0\0abcd\0\0\0\0", 16},		   /* what fills up has bytes */
		{"\20\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0", 16},	   /* an empty trace */
		{"\20\0\0\0\3\0\2\0a\nb\0\0\0\0\0", 16},	   /* one that isn't printable */
		{"\20\0\0\0\3\0\2\0a\0b\0\0\0\0\0", 16},	   /* or has a zero */
		{"\30\0\0\0\4\0\1\0abcd\4\0\1\0abcd\0\0\0\0", 24}, /* two deadlines */
		{"\30\0\0\0\4\0\2\0abcd\4\0\2\0abcd\0\0\0\0", 24}, /* two traces */
	};
	uint8_t large[PROPERTIES_MAX + 8] = {(PROPERTIES_MAX + 8) & 0xff, (PROPERTIES_MAX + 8) >> 8};
	uint8_t largest[PROPERTIES_MAX] = {PROPERTIES_MAX & 0xff, PROPERTIES_MAX >> 8};
	struct properties decoded;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (decode(bad[i].bytes, bad[i].size, &decoded) != -EPROTO)
			fail_msg("the block %zu was accepted", i);
	assert_int_equal(decode(large, sizeof(large), &decoded), -EPROTO);
	assert_int_equal(decode(largest, sizeof(largest), &decoded), 0);
}
