/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Each frame against doc/protocol.md: the bytes that the document says, there and back, refused when cut
 * anywhere before the end of its fields, and read as before when a later version has added to it.
 */

#include "wire/frame.h"

#include "tests/unit/unit.h"

#define UUID_1	 "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
#define UUID_2	 "\x20\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f"
#define U64(low) low "\0\0\0\0"

/* A payload as the document has it, and two functions that know its type: one encodes the frame that it
 * stands for, one decodes and compares. `fields` bytes are fixed, the rest is text. */
struct sample {
	const char *name;
	const char *bytes;
	uint32_t size, fields;
	uint32_t (*encode)(uint8_t *out);
	int (*decode)(const uint8_t *payload, uint32_t length);
	bool (*matches)(const uint8_t *payload, uint32_t length);
};

static bool text_is(struct frame_text text, const char *expected)
{
	return text.size == strlen(expected) && memcmp(text.data, expected, text.size) == 0;
}

/* FRAME(type, value, comparison): the three functions of a sample for a struct frame_<type>. */
#define FRAME(label, type, comparison, ...)                                                                  \
	static const struct frame_##type label##_value = {__VA_ARGS__};                                      \
	static uint32_t label##_encode(uint8_t *out)                                                         \
	{                                                                                                    \
		return frame_##type##_encode(&label##_value, out);                                           \
	}                                                                                                    \
	static int label##_decode(const uint8_t *payload, uint32_t length)                                   \
	{                                                                                                    \
		struct frame_##type frame;                                                                   \
		return frame_##type##_decode(payload, length, &frame);                                       \
	}                                                                                                    \
	static bool label##_matches(const uint8_t *payload, uint32_t length)                                 \
	{                                                                                                    \
		const struct frame_##type *e = &label##_value;                                               \
		struct frame_##type f;                                                                       \
		memset(&f, 0xee, sizeof(f));                                                                 \
		return frame_##type##_decode(payload, length, &f) == 0 && (comparison);                      \
	}
#define SIX_NO_TAGS                                                                                          \
	U64("\0\0\0\0") U64("\0\0\0\0") U64("\0\0\0\0") U64("\0\0\0\0") U64("\0\0\0\0") U64("\0\0\0\0")
#define SAMPLE(label, text, literal)                                                                         \
	{                                                                                                    \
		.name = #label, .bytes = literal, .size = sizeof(literal) - 1,                               \
		.fields = (uint32_t)(sizeof(literal) - sizeof(text)), .encode = label##_encode,              \
		.decode = label##_decode, .matches = label##_matches                                         \
	}

/* clang-format off */
FRAME(hello_local, hello_local, f.major == e->major && f.minor == e->minor && f.flags == e->flags,
      .major = 1, .minor = 0x0203, .flags = 1)
FRAME(welcome, welcome,
      f.major == e->major && f.minor == e->minor && f.flags == e->flags && f.domid == e->domid &&
	      f.max_message == e->max_message && !memcmp(f.instance, e->instance, 16) && f.rings[0].size == 0 &&
	      f.rings[LOCAL_RINGS - 1].data == 0,
      .major = 1, .minor = 2, .domid = 5, .max_message = 0x1000000, .instance = UUID_1)
FRAME(welcome_shared, welcome,
      f.major == e->major && f.flags == e->flags && f.max_message == e->max_message &&
	      !memcmp(f.rings, e->rings, sizeof(f.rings)) && !memcmp(f.instance, e->instance, 16),
      .major = 1, .minor = 2, .flags = HELLO_SHARED_MEMORY, .domid = 5, .max_message = 0x1000000, .instance = UUID_1,
      .rings = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}})
FRAME(hello_link, hello_link,
      f.major == e->major && f.minor == e->minor && f.flags == e->flags && !memcmp(f.instance, e->instance, 16) &&
	      f.max_message == e->max_message && !memcmp(f.tags, e->tags, sizeof(f.tags)) &&
	      text_is(f.version, "0.2") && !memcmp(f.nonce, e->nonce, 16) &&
	      !memcmp(f.secret, e->secret, 32),
      .major = 1, .minor = 2, .flags = 0x04030201, .instance = UUID_1, .max_message = 8,
      .version = {"0.2", 3}, .nonce = UUID_2, .tags = {"8 bytes.", "8 others"}, .secret = UUID_1 UUID_2)
FRAME(hello_of_host, hello_link,
      text_is(f.version, "0.2") && !memcmp(f.secret, e->secret, 32) && text_is(f.host, "hosta"),
      .major = 1, .minor = 1, .instance = UUID_1, .max_message = 8, .version = {"0.2", 3},
      .nonce = UUID_2, .secret = UUID_1 UUID_2, .host = {"hosta", 5})
FRAME(prove, prove, f.epoch == e->epoch && !memcmp(f.proof, e->proof, 32), .epoch = 3, .proof = UUID_1 UUID_2)
FRAME(resume, resume, f.received == e->received && f.epoch == e->epoch, .received = 0x0807060504030201, .epoch = 3)
FRAME(offer, offer, f.ring_ref == e->ring_ref && f.port == e->port && f.epoch == e->epoch,
      .ring_ref = 0x04030201, .port = 7, .epoch = 3)
FRAME(policy, policy, f.flags == e->flags && text_is(f.text, "[rule]"), .flags = 3, .text = {"[rule]", 6})
FRAME(goodbye, goodbye, f.error == e->error && text_is(f.text, "bye"), .error = 71, .text = {"bye", 3})
FRAME(open, open,
      f.kind == e->kind && f.identity.domid == 1 && f.identity.uid == 2 && f.identity.gid == 3 && f.identity.pid == 4 &&
	      text_is(f.name, "5:in"),
      .kind = CHANNEL_STREAM, .identity = {1, 2, 3, 4}, .name = {"5:in", 4})
FRAME(open_named, open, f.kind == e->kind && f.serial == e->serial &&
	      (frame_open_split(&f), text_is(f.name, "in")) && text_is(f.domain_name, "work"),
      .kind = CHANNEL_CALL, .serial = 0x0201, .identity = {1, 2, 3, 4}, .name = {"in", 2}, .domain_name = {"work", 4})
FRAME(opened, opened, f.limit == e->limit && f.max_message == e->max_message && !f.has_identity,
      .limit = 0x0807060504030201, .max_message = 9)
FRAME(opened_by, opened, f.limit == e->limit && f.has_identity && !memcmp(&f.identity, &e->identity, 16),
      .limit = 0x0807060504030201, .max_message = 9, .has_identity = true, .identity = {1, 2, 3, 4})
FRAME(credit, credit, f.consumed == e->consumed && f.limit == e->limit, .consumed = 0x0807060504030201, .limit = 9)
FRAME(credit_stop, credit, f.consumed == e->consumed && f.limit == e->limit && f.flags == e->flags,
      .consumed = 0x0807060504030201, .limit = 9, .flags = CREDIT_STOP)
FRAME(reset, reset, f.error == e->error && f.flags == e->flags && f.consumed == e->consumed && f.unsure == e->unsure,
      .error = 104, .flags = RESET_REFUSED, .consumed = 0x0807060504030201, .unsure = 9)
FRAME(cancelled, cancelled, f.offset == e->offset && f.result == e->result,
      .offset = 0x0807060504030201, .result = 125)
FRAME(opened_topic, opened, f.limit == e->limit && f.is_topic && !f.has_identity, .limit = 5, .max_message = 9,
      .is_topic = true)
FRAME(subscribe, subscribe, f.flags == e->flags && text_is(f.address, "0:news"), .flags = SUBSCRIBE_AGAIN, .address = {"0:news", 6})
FRAME(listeners, listeners, f.count == e->count && text_is(f.endpoint, "news"), .count = 0x0807060504030201,
      .endpoint = {"news", 4})
FRAME(sender, sender, f.domid == e->domid && text_is(f.domain_name, "web"), .domid = 5, .domain_name = {"web", 3})
FRAME(bind, bind, f.kinds == e->kinds && text_is(f.endpoint, "inbox"), .kinds = 5, .endpoint = {"inbox", 5})
FRAME(event, event, f.kind == e->kind && f.domid == e->domid && text_is(f.text, "web"),
      .kind = EVENT_ENDPOINT_UP, .domid = 0x7fef, .text = {"web", 3})
FRAME(event_named, event, f.kind == e->kind && text_is(f.text, "web") && text_is(f.domain_name, "work"),
      .kind = EVENT_ENDPOINT_UP, .domid = 1, .text = {"web", 3}, .domain_name = {"work", 4})
FRAME(event_host, event, f.kind == e->kind && text_is(f.text, "web") && text_is(f.domain_name, "") && text_is(f.host, "b"),
      .kind = EVENT_ENDPOINT_UP, .domid = 1, .text = {"web", 3}, .host = {"b", 1})
FRAME(incoming, incoming, f.token == e->token && f.identity.pid == 4 && text_is(f.endpoint, "in") && text_is(f.domain_name, "work"),
      .token = 9, .identity = {1, 2, 3, 4}, .endpoint = {"in", 2}, .domain_name = {"work", 4})
FRAME(incoming_remote, incoming, text_is(f.endpoint, "in") && f.domain_name.size == 0 && text_is(f.host, "hostb") && f.token == e->token,
      .token = 9, .identity = {1, 2, 3, 4}, .endpoint = {"in", 2}, .host = {"hostb", 5})
FRAME(incoming_numbered, incoming, f.token == e->token && f.serial == 65535 && text_is(f.endpoint, "in") && f.domain_name.size == 0 && f.host.size == 0,
      .token = 9, .identity = {1, 2, 3, 4}, .endpoint = {"in", 2}, .serial = 65535)
FRAME(incoming_all, incoming, f.token == e->token && f.serial == 7 && text_is(f.domain_name, "work") && text_is(f.host, "hostb"),
      .token = 9, .identity = {1, 2, 3, 4}, .endpoint = {"in", 2}, .domain_name = {"work", 4}, .host = {"hostb", 5}, .serial = 7)
FRAME(reply, reply, f.error == e->error && text_is(f.body, "{}"), .error = 2, .body = {"{}", 2})

static uint32_t u64_encode(uint8_t *out) { return frame_u64_encode(0x0807060504030201, out); }
static int u64_decode(const uint8_t *payload, uint32_t length)
{
	uint64_t value;

	return frame_u64_decode(payload, length, &value);
}
static bool u64_matches(const uint8_t *payload, uint32_t length)
{
	uint64_t value = 0;

	return frame_u64_decode(payload, length, &value) == 0 && value == 0x0807060504030201;
}
static uint32_t u32_encode(uint8_t *out) { return frame_u32_encode(0x04030201, out); }
static int u32_decode(const uint8_t *payload, uint32_t length)
{
	uint32_t value;

	return frame_u32_decode(payload, length, &value);
}
static bool u32_matches(const uint8_t *payload, uint32_t length)
{
	uint32_t value = 0;

	return frame_u32_decode(payload, length, &value) == 0 && value == 0x04030201;
}

#define ONE_TO_FOUR "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0"
#define COUNT_8 "\x01\x02\x03\x04\x05\x06\x07\x08"
static const struct sample samples[] = {
	SAMPLE(hello_local, "", "\1\0\3\2\1\0\0\0"),
	SAMPLE(welcome, "", "\1\0\2\0\0\0\0\0\5\0\0\0\0\0\0\0" U64("\0\0\0\1") UUID_1),
	SAMPLE(welcome_shared, "",
	       "\1\0\2\0\1\0\0\0\5\0\0\0\0\0\0\0" U64("\0\0\0\1") UUID_1
	       "\1\0\0\0\2\0\0\0\3\0\0\0\0\0\0\0\4\0\0\0\5\0\0\0\6\0\0\0\0\0\0\0\7\0\0\0\10\0\0\0\11\0\0\0\0\0\0\0"),
	SAMPLE(hello_link, "",
	       "\1\0\2\0\1\2\3\4" UUID_1 U64("\10\0\0\0") "0.2\0" UUID_2 UUID_1 UUID_2 "\0" "8 bytes.8 others" SIX_NO_TAGS),
	SAMPLE(hello_of_host, "",
	       "\1\0\1\0\0\0\0\0" UUID_1 U64("\10\0\0\0") "0.2\0" UUID_2 UUID_1 UUID_2
	       "\5hosta" SIX_NO_TAGS "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
	SAMPLE(prove, "", "\3\0\0\0\0\0\0\0" UUID_1 UUID_2),
	SAMPLE(resume, "", COUNT_8 "\3\0\0\0\0\0\0\0"),
	SAMPLE(offer, "", "\1\2\3\4\7\0\0\0\3\0\0\0\0\0\0\0"),
	SAMPLE(goodbye, "bye", "\107\0\0\0bye"),
	SAMPLE(policy, "[rule]", "\3\0\0\0[rule]"),
	SAMPLE(open, "5:in", "\3\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0" "5:in"),
	SAMPLE(open_named, "in\0work", "\2\0\1\2\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0" "in\0work"),
	SAMPLE(opened, "", COUNT_8 U64("\11\0\0\0") "\0\0\0\0"),
	SAMPLE(opened_by, "", COUNT_8 U64("\11\0\0\0") "\0\0\1\0" ONE_TO_FOUR),
	SAMPLE(opened_topic, "", U64("\5\0\0\0") U64("\11\0\0\0") "\0\0\2\0"),
	SAMPLE(subscribe, "0:news", "\1\0\0\0" "0:news"),
	SAMPLE(listeners, "news", COUNT_8 "news"),
	SAMPLE(credit, "", COUNT_8 U64("\11\0\0\0")),
	SAMPLE(credit_stop, "\1\0\0\0", COUNT_8 U64("\11\0\0\0") "\1\0\0\0"),
	SAMPLE(reset, "", "\150\0\0\0\1\0\0\0" COUNT_8 U64("\11\0\0\0")),
	SAMPLE(cancelled, "", COUNT_8 "\175\0\0\0"),
	SAMPLE(sender, "web", "\5\0\0\0web"),
	SAMPLE(bind, "inbox", "\5\0\0\0inbox"),
	SAMPLE(event, "web", "\3\0\0\0\357\177\0\0web"),
	SAMPLE(event_named, "web\0work", "\3\0\0\0\1\0\0\0web\0work"),
	SAMPLE(incoming_remote, "in\0\0hostb", U64("\11\0\0\0") "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0" "in\0\0hostb"),
	SAMPLE(event_host, "web\0\0b", "\3\0\0\0\1\0\0\0web\0\0b"),
	SAMPLE(incoming, "in\0work", U64("\11\0\0\0") "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0" "in\0work"),
	SAMPLE(incoming_numbered, "in\0\0\0" "65535", U64("\11\0\0\0") "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0" "in\0\0\0" "65535"),
	SAMPLE(incoming_all, "in\0work\0hostb\0" "7", U64("\11\0\0\0") "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0" "in\0work\0hostb\0" "7"),
	SAMPLE(reply, "{}", "\2\0\0\0\0\0\0\0{}"),
	SAMPLE(u64, "", COUNT_8),
	SAMPLE(u32, "", "\1\2\3\4"),
};
/* clang-format on */

#define FOR_EACH_SAMPLE(sample)                                                                              \
	for (const struct sample *sample = samples; sample < samples + sizeof(samples) / sizeof(*samples);   \
	     sample++)

/* An allocation of exactly its size, so that AddressSanitizer sees the first byte read beyond it. */
static uint8_t *exact_copy(const void *bytes, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, size);
	return copy;
}

TEST(each_frame_is_the_bytes_of_the_document)
{
	uint8_t *out = malloc(FRAME_PAYLOAD_MAX);

	assert_non_null(out);
	FOR_EACH_SAMPLE(sample)
	{
		memset(out, 0xcc, 1024);
		if (sample->encode(out) != sample->size || memcmp(out, sample->bytes, sample->size) != 0)
			fail_msg("%s: not the bytes of the document", sample->name);
		if (out[sample->size] != 0xcc)
			fail_msg("%s: writes beyond its length", sample->name);
		if (sample->size == sample->fields && sample->size > FRAME_SMALL_MAX)
			fail_msg("%s: has no text, but is larger than FRAME_SMALL_MAX", sample->name);
	}
	free(out);
}

TEST(each_frame_decodes_to_what_was_encoded)
{
	FOR_EACH_SAMPLE(sample)
	{
		uint8_t *payload = exact_copy(sample->bytes, sample->size);

		if (!sample->matches(payload, sample->size))
			fail_msg("%s: another value came back", sample->name);
		free(payload);
	}
}

TEST(each_shorter_payload_is_refused)
{
	FOR_EACH_SAMPLE(sample)
	for (uint32_t length = 0; length < sample->fields; length++) {
		uint8_t *payload = exact_copy(sample->bytes, length);

		if (sample->decode(payload, length) != -EPROTO)
			fail_msg("%s: %u of %u bytes were taken for a frame", sample->name, length,
				 sample->fields);
		free(payload);
	}
}

TEST(text_may_be_empty)
{
	FOR_EACH_SAMPLE(sample)
	{
		uint8_t *payload = exact_copy(sample->bytes, sample->fields);

		if (sample->decode(payload, sample->fields) != 0)
			fail_msg("%s: refused with empty text", sample->name);
		free(payload);
	}
}

TEST(a_longer_payload_of_a_later_version_is_accepted)
{
	FOR_EACH_SAMPLE(sample)
	for (uint32_t more = 1; more < 20; more++) {
		uint8_t bytes[256] = {0}, *payload;

		if (sample->size != sample->fields)
			continue; /* text reaches to the end */
		memcpy(bytes, sample->bytes, sample->size);
		memset(bytes + sample->size, 0xff, more);
		payload = exact_copy(bytes, sample->size + more);
		if (!sample->matches(payload, sample->size + more))
			fail_msg("%s: %u bytes more changed it", sample->name, more);
		free(payload);
	}
}

TEST(a_text_is_copied_as_whole_characters)
{
	char room[6];

	frame_text_copy(frame_text_of(NULL), room, sizeof(room));
	assert_string_equal(room, "");
	frame_text_copy(frame_text_of("abcde"), room, sizeof(room));
	assert_string_equal(room, "abcde");
	frame_text_copy(frame_text_of("abcdefg"), room, sizeof(room));
	assert_string_equal(room, "abcde");
	frame_text_copy(frame_text_of("abc\u00e9"), room, sizeof(room));
	assert_string_equal(room, "abc\u00e9");
	frame_text_copy(frame_text_of("abcd\u00e9"), room, sizeof(room));
	assert_string_equal(room, "abcd");
	frame_text_copy(frame_text_of("abc\U0001f600"), room, sizeof(room));
	assert_string_equal(room, "abc");
	frame_text_copy(frame_text_of("\x80\x80\x80\x80\x80\x80\x80"), room, sizeof(room));
	assert_string_equal(room, "");
	frame_text_copy(frame_text_of("a"), room, 1);
	assert_string_equal(room, "");
}

TEST(text_that_is_too_long_is_cut_at_the_largest_payload)
{
	char *text = malloc(FRAME_PAYLOAD_MAX + 100);
	uint8_t *out = malloc(FRAME_PAYLOAD_MAX);
	struct frame_text longest = {text, FRAME_PAYLOAD_MAX + 100};

	assert_non_null(text);
	assert_non_null(out);
	memset(text, 'x', FRAME_PAYLOAD_MAX + 100);
	assert_int_equal(frame_goodbye_encode(&(struct frame_goodbye){.text = longest}, out),
			 FRAME_PAYLOAD_MAX);
	assert_int_equal(frame_open_encode(&(struct frame_open){.name = longest}, out), FRAME_PAYLOAD_MAX);
	assert_int_equal(frame_bind_encode(&(struct frame_bind){.endpoint = longest}, out),
			 FRAME_PAYLOAD_MAX);
	assert_int_equal(frame_event_encode(&(struct frame_event){.text = longest}, out), FRAME_PAYLOAD_MAX);
	assert_int_equal(frame_reply_encode(&(struct frame_reply){.body = longest}, out), FRAME_PAYLOAD_MAX);
	assert_int_equal(frame_hello_link_encode(&(struct frame_hello_link){.version = longest}, out),
			 FRAME_PAYLOAD_MAX - HOST_NAME_SIZE + 1);
	free(text);
	free(out);
}

TEST(a_hello_names_its_host_or_none)
{
	static const char *const none[] = {"", "Host", "host_a", "-"};
	struct frame_hello_link hello = {.version = {"0.2", 3}, .host = {"hosta", 5}}, decoded;
	uint8_t out[FRAME_PAYLOAD_MAX];
	uint32_t size = frame_hello_link_encode(&hello, out);

	assert_int_equal(frame_hello_link_decode(out, size, &decoded), 0);
	assert_true(text_is(decoded.host, "hosta"));
	for (uint32_t cut = 1; cut < size; cut++)
		assert_int_equal(frame_hello_link_decode(out, size - cut, &decoded), -EPROTO);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		hello.host = frame_text_of(none[i]);
		size = frame_hello_link_encode(&hello, out);
		assert_int_equal(frame_hello_link_decode(out, size, &decoded), 0);
		assert_int_equal(decoded.host.size, 0);
	}
}

TEST(the_longest_open_fits_a_small_payload)
{
	char text[FRAME_PAYLOAD_MAX];
	uint8_t out[FRAME_PAYLOAD_MAX];
	const struct frame_open open = {.name = {text, ADDRESS_MAX},
					.domain_name = {text, DOMAIN_NAME_MAX},
					.host = {text, HOST_NAME_SIZE - 1}};

	memset(text, 'x', sizeof(text));
	assert_in_range(frame_open_encode(&open, out), 1, FRAME_SMALL_MAX);
}

TEST(no_text_at_all_encodes_as_empty)
{
	uint8_t out[FRAME_SMALL_MAX];

	assert_int_equal(frame_goodbye_encode(&(struct frame_goodbye){.error = 1}, out), 4);
	assert_int_equal(frame_reply_encode(&(struct frame_reply){.error = 1}, out), 8);
}

#define DIRECTORY_BYTES                                                                                      \
	"\1\0\0\0\3\0\0\0"                                                                                   \
	"\357\177\0\0\1" UUID_1                                                                              \
	"\4work"                                                                                             \
	"\3\0\0\0\0" UUID_2                                                                                  \
	"\0"                                                                                                 \
	"\5\0\0\0\2\5"

TEST(a_directory_is_the_bytes_of_the_document)
{
	static const struct frame_directory head = {.flags = DIRECTORY_REPLACES, .count = 3};
	struct frame_directory_entry entries[3] = {
		{.domid = DOMID_MAX, .state = DIRECTORY_PRESENT, .uuid = UUID_1, .name = {"work", 4}},
		{.domid = 3, .state = DIRECTORY_REMOVED, .uuid = UUID_2},
		{.domid = 5,
		 .state = DIRECTORY_CHANGED,
		 .leaves = CHANGED_PRESENCE | CHANGED_HELLO,
		 .name = {"none", 4}},
	};
	uint8_t out[256];
	uint32_t length = frame_directory_encode(&head, out);

	for (unsigned i = 0; i < 3; i++)
		length += frame_directory_entry_encode(&entries[i], out + length);
	assert_int_equal(length, sizeof(DIRECTORY_BYTES) - 1);
	assert_memory_equal(out, DIRECTORY_BYTES, length);
}

TEST(a_directory_decodes_to_what_was_encoded)
{
	/* What a later version adds at the end isn't an entry. */
	static const char bytes[] = DIRECTORY_BYTES "later";
	uint8_t *payload = exact_copy(bytes, sizeof(bytes) - 1);
	struct frame_directory directory;
	struct frame_directory_entry entry;

	assert_int_equal(frame_directory_decode(payload, sizeof(bytes) - 1, &directory), 0);
	assert_int_equal(directory.flags, DIRECTORY_REPLACES);
	assert_int_equal(frame_directory_next(&directory, &entry), 1);
	assert_int_equal(entry.domid, DOMID_MAX);
	assert_int_equal(entry.state, DIRECTORY_PRESENT);
	assert_memory_equal(entry.uuid, UUID_1, 16);
	assert_true(text_is(entry.name, "work"));
	assert_int_equal(frame_directory_next(&directory, &entry), 1);
	assert_int_equal(entry.domid, 3);
	assert_int_equal(entry.state, DIRECTORY_REMOVED);
	assert_int_equal(entry.leaves, 0);
	assert_int_equal(frame_directory_next(&directory, &entry), 1);
	assert_int_equal(entry.domid, 5);
	assert_int_equal(entry.state, DIRECTORY_CHANGED);
	assert_int_equal(entry.leaves, CHANGED_PRESENCE | CHANGED_HELLO);
	assert_int_equal(entry.name.size, 0);
	assert_true(text_is(entry.name, ""));
	assert_int_equal(frame_directory_next(&directory, &entry), 0);
	free(payload);
}

/* 0 or the first error. */
static int go_through_directory(const void *bytes, size_t size)
{
	uint8_t *payload = exact_copy(bytes, size);
	struct frame_directory directory;
	struct frame_directory_entry entry;
	int r = frame_directory_decode(payload, (uint32_t)size, &directory);

	if (r == 0)
		do
			r = frame_directory_next(&directory, &entry);
		while (r > 0);
	free(payload);
	return r;
}

TEST(a_directory_cut_off_anywhere_is_refused)
{
	assert_int_equal(go_through_directory(DIRECTORY_BYTES, sizeof(DIRECTORY_BYTES) - 1), 0);
	for (size_t size = 0; size < sizeof(DIRECTORY_BYTES) - 1; size++)
		assert_int_equal(go_through_directory(DIRECTORY_BYTES, size), -EPROTO);
}

TEST(impossible_entries_of_a_directory_are_refused)
{
#define ONE "\0\0\0\0\1\0\0\0"
#define BAD(literal)                                                                                         \
	{                                                                                                    \
		literal, sizeof(literal) - 1                                                                 \
	}
	static const struct {
		const char *bytes;
		size_t size;
	} bad[] = {
		BAD(ONE "\360\177\0\0\1" UUID_1 "\0"), /* DOMID_MAX + 1 */
		BAD(ONE "\1\0\0\200\1" UUID_1 "\0"),   /* over 2^31 */
		BAD(ONE "\1\0\0\0\3" UUID_1 "\0"),     /* no state */
		BAD(ONE "\1\0\0\0\2"),		       /* changed, but not what */
		BAD(ONE "\1\0\0\0\1" UUID_1 "\3a:b"),  /* names that can't stand in an address */
		BAD(ONE "\1\0\0\0\1" UUID_1 "\3a b"),
		BAD(ONE "\1\0\0\0\1" UUID_1 "\3a/b"),
		BAD(ONE "\1\0\0\0\1" UUID_1 "\3a\0b"),
		BAD(ONE "\1\0\0\0\1" UUID_1 "\2a\n"),
		BAD(ONE "\1\0\0\0\1" UUID_1 "\2a\377"),
		BAD("\0\0\0\0\377\377\377\377"
		    "\1\0\0\0\1" UUID_1 "\0"), /* more than there are */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (go_through_directory(bad[i].bytes, bad[i].size) != -EPROTO)
			fail_msg("bad entry %zu was taken", i);
}

TEST(a_header_is_the_bytes_of_the_document)
{
	static const uint8_t bytes[FRAME_HEADER_SIZE] = {1, 2, 0, 0, 18, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	const struct frame_header header = {
		.length = 0x201,
		.type = FRAME_DATA,
		.flags = 1,
		.messages = 0x403,
		.channel = 0x08070605,
		.sequence = 0x0c0b0a09,
	};
	struct frame_header decoded;
	uint8_t out[FRAME_HEADER_SIZE];

	frame_header_encode(&header, out);
	assert_memory_equal(out, bytes, sizeof(bytes));
	assert_int_equal(frame_header_decode(bytes, &decoded), 0);
	assert_int_equal(decoded.length, header.length);
	assert_int_equal(decoded.type, header.type);
	assert_int_equal(decoded.flags, header.flags);
	assert_int_equal(decoded.messages, header.messages);
	assert_int_equal(decoded.channel, header.channel);
	assert_int_equal(decoded.sequence, header.sequence);
}

TEST(a_header_with_an_impossible_length_is_refused)
{
	static const uint32_t bad[] = {FRAME_PAYLOAD_MAX + 1, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
	struct frame_header header = {.length = FRAME_PAYLOAD_MAX};
	uint8_t out[FRAME_HEADER_SIZE];

	frame_header_encode(&header, out);
	assert_int_equal(frame_header_decode(out, &header), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		header.length = bad[i];
		frame_header_encode(&header, out);
		assert_int_equal(frame_header_decode(out, &header), -EPROTO);
	}
}

TEST(a_frame_takes_a_multiple_of_eight)
{
	assert_int_equal(frame_size(0), 16);
	assert_int_equal(frame_size(1), 24);
	assert_int_equal(frame_size(8), 24);
	assert_int_equal(frame_size(9), 32);
	assert_int_equal(frame_size(FRAME_PAYLOAD_MAX), 16 + FRAME_PAYLOAD_MAX);
}

TEST(each_type_has_its_name)
{
	/* test_protocol.py looks whether all have one */
	for (unsigned type = 0; type < 256; type++)
		assert_non_null(frame_type_name((uint8_t)type));
	assert_string_equal(frame_type_name(FRAME_CANCELLED), "CANCELLED");
	assert_string_equal(frame_type_name(FRAME_REPLY), "REPLY");
	assert_string_equal(frame_type_name(0), "unknown");
	assert_string_equal(frame_type_name(FRAME_OPTIONAL), "unknown");
}
