/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written as JSON is read as such, and a text for which there was no room is none. */
#include "tests/unit/unit.h"

#include <json-c/json.h>

#include "wire/json.h"

static void write_all(struct json *json)
{
	json_begin(json, NULL, '{');
	json_text(json, "text", "a\"b\\c/\n\t\r\b\f\x01\x1f\x7f \xc3\xa4");
	json_text_part(json, "part", "with\0zero and more", 9);
	json_text(json, "none", NULL);
	json_begin(json, "list", '[');
	json_number(json, NULL, UINT64_MAX);
	json_begin(json, NULL, '{');
	json_end(json, '}');
	json_begin(json, NULL, '[');
	json_flag(json, NULL, true);
	json_flag(json, NULL, false);
	json_end(json, ']');
	json_end(json, ']');
	json_number_if(json, "unknown", false, 1);
	json_digits(json, "real", "1.250");
	json_end(json, '}');
}

/* json-c writes the same of what it reads here. */
TEST(what_is_written_is_read_as_such)
{
	struct json json = {0};
	struct json_object *object;
	const char *again;

	write_all(&json);
	assert_false(json.failed);
	json.text[json.size] = '\0'; /* there is room: it grows by the double */
	object = json_tokener_parse(json.text);
	again = json_object_to_json_string_ext(object,
					       JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	assert_string_equal(json.text, again);
	assert_int_equal(json_object_get_string_len(json_object_object_get(object, "part")), 9);
	json_object_put(object);
	json_free(&json);
	assert_null(json.text);
}

TEST(a_text_without_room_has_failed_whatever_comes_behind)
{
	struct json whole = {0};
	char room[256];

	write_all(&whole);
	for (size_t size = 0; size <= whole.size; size++) {
		struct json json = {.text = room, .room = size, .is_fixed = true};

		write_all(&json);
		assert_int_equal(json.failed, size < whole.size);
		assert_true(json.size <= size);
	}
	json_free(&whole);
}
