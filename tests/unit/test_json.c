/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written as JSON is read as such, and a text for which there was no room is none. */
#include "tests/unit/unit.h"

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

/* Writes again what is read. */
static void write_again(void *userdata, const struct json_value *value)
{
	static char brackets[8];
	struct json *json = userdata;

	if (value->kind == JSON_OBJECT || value->kind == JSON_ARRAY) {
		brackets[value->depth] = value->kind == JSON_OBJECT ? '}' : ']';
		json_begin(json, value->key, value->kind == JSON_OBJECT ? '{' : '[');
	} else if (value->kind == JSON_END) {
		json_end(json, brackets[value->depth]);
	} else if (value->kind == JSON_TEXT) {
		json_text_part(json, value->key, value->text, value->size);
	} else if (value->kind == JSON_FLAG) {
		json_flag(json, value->key, value->flag);
	} else {
		json_digits(json, value->key, value->kind == JSON_NULL ? "null" : value->text);
	}
}

/* Returns what is written of it, which has been read from memory of just its size. */
static char *read_again(const char *text)
{
	size_t size = strlen(text);
	char *exact = memcpy(malloc(size + 1), text, size), *room = malloc(size + 1);
	struct json json = {0};
	bool is_json;

	exact = realloc(exact, size ? size : 1);
	is_json = json_read(exact, size, 4, room, write_again, &json);
	json_text_end(&json);
	free(exact);
	free(room);
	if (!is_json)
		json_free(&json);
	return json.text;
}

TEST(what_is_written_is_read_as_such)
{
	struct json json = {0};
	char *again;

	write_all(&json);
	json_text_end(&json);
	again = read_again(json.text);
	assert_string_equal(again, json.text);
	free(again);
	json_free(&json);
}

TEST(what_is_json_is_read_and_nothing_else)
{
	static const struct {
		const char *text, *again; /* NULL: it is none */
	} texts[] = {
		{" { \"a\" : [ 1 , -2.50e+3, 0, true ] ,\"b\":{}, \"\":null } ",
		 "{\"a\":[1,-2.50e+3,0,true],\"b\":{},\"\":null}"},
		{"\"\\u0041\\u00e4\\u20ac\\ud83d\\ude00\\ud83dx\\/\"",
		 "\"A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbdx/\""},
		{"[[[[]]]]", "[[[[]]]]"},
		{"18446744073709551616", "18446744073709551616"},
		{"[[[[[]]]]]", NULL},
		{"", NULL},
		{"{", NULL},
		{"[1", NULL},
		{"[1,]", NULL},
		{"{\"a\":1,}", NULL},
		{"{\"a\"}", NULL},
		{"{a:1}", NULL},
		{"[1]]", NULL},
		{"[01]", NULL},
		{"[1.]", NULL},
		{"[-]", NULL},
		{"[1e]", NULL},
		{"[+1]", NULL},
		{"tru", NULL},
		{"\"\\u12\"", NULL},
		{"\"\\x\"", NULL},
		{"\"\n\"", NULL},
		{"\"a", NULL},
		{"\"\\", NULL},
		{"nan", NULL},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		char *again = read_again(texts[i].text);

		if (!texts[i].again)
			assert_null(again);
		else
			assert_string_equal(again, texts[i].again);
		free(again);
	}
}
