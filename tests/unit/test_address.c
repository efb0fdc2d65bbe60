/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Addresses, endpoint and domain names, domids: what is let in, and what a person is told about what
 * isn't. */

#include "wire/address.h"

#include "tests/unit/unit.h"

/* Calls with an allocation of exactly the text's size: there is no terminator to lean on. */
static bool endpoint_is_valid(const char *text, size_t size)
{
	char *copy = malloc(size ? size : 1);
	bool valid;

	assert_non_null(copy);
	memcpy(copy, text, size);
	valid = endpoint_name_is_valid(copy, size);
	free(copy);
	return valid;
}

static int parse(const char *text, size_t size, struct address *address, const char **why)
{
	char *copy = malloc(size ? size : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, text, size);
	r = address_parse(copy, size, address, why);
	free(copy);
	return r;
}

static bool domid_is(const char *text, size_t size, uint32_t *domid)
{
	char *copy = malloc(size ? size : 1);
	bool valid;

	assert_non_null(copy);
	memcpy(copy, text, size);
	valid = domid_parse(copy, size, domid);
	free(copy);
	return valid;
}

TEST(endpoint_names_have_1_to_63_characters)
{
	char name[80];

	memset(name, 'a', sizeof(name));
	assert_false(endpoint_is_valid(name, 0));
	assert_true(endpoint_is_valid(name, 1));
	assert_true(endpoint_is_valid(name, 62));
	assert_true(endpoint_is_valid(name, 63));
	assert_false(endpoint_is_valid(name, 64));
	assert_false(endpoint_is_valid(name, sizeof(name)));
}

TEST(endpoint_names_have_letters_digits_underscore_and_hyphen)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

	for (int c = 0; c < 256; c++) {
		bool alnum = c && strchr(allowed, c);
		char name[3] = {'a', (char)c, 'z'};

		assert_int_equal(endpoint_is_valid(name, 3), alnum || c == '_' || c == '-');
		name[0] = (char)c;
		name[1] = 'a';
		assert_int_equal(endpoint_is_valid(name, 3), alnum);
		assert_int_equal(endpoint_is_valid(name, 1), alnum);
		name[0] = 'a';
		name[2] = (char)c;
		assert_int_equal(endpoint_is_valid(name, 3), alnum || c == '_' || c == '-');
	}
}

TEST(domain_names_are_printable_and_cant_end_an_address)
{
	char name[DOMAIN_NAME_MAX + 1];

	for (int c = 0; c < 256; c++) {
		char one = (char)c;

		assert_int_equal(domain_name_is_valid(&one, 1), c > ' ' && c < 0x7f && c != ':' && c != '/');
	}
	memset(name, 'd', sizeof(name));
	assert_false(domain_name_is_valid(name, 0));
	assert_true(domain_name_is_valid(name, DOMAIN_NAME_MAX));
	assert_false(domain_name_is_valid(name, DOMAIN_NAME_MAX + 1));
}

TEST(an_address_is_split_at_its_colon)
{
	static const struct {
		const char *text, *domain, *endpoint;
	} good[] = {
		{"5:inbox", "5", "inbox"},
		{"work:print", "work", "print"},
		{"self:log", "self", "log"},
		{"0:a", "0", "a"},
		{"c3a5f6de-0000-4000-8000-000000000001:x_-", "c3a5f6de-0000-4000-8000-000000000001", "x_-"},
		{"web.example-1:0", "web.example-1", "0"},
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct address address;

		memset(&address, 0xee, sizeof(address));
		assert_int_equal(parse(good[i].text, strlen(good[i].text), &address, NULL), 0);
		assert_string_equal(address.domain, good[i].domain);
		assert_string_equal(address.endpoint, good[i].endpoint);
	}
}

TEST(the_longest_address_fits)
{
	char text[DOMAIN_NAME_MAX + 1 + ENDPOINT_NAME_MAX + 1];
	struct address address;

	memset(text, 'd', sizeof(text));
	text[DOMAIN_NAME_MAX] = ':';
	assert_int_equal(parse(text, sizeof(text) - 1, &address, NULL), 0);
	assert_int_equal(strlen(address.domain), DOMAIN_NAME_MAX);
	assert_int_equal(strlen(address.endpoint), ENDPOINT_NAME_MAX);
	assert_int_equal(parse(text, sizeof(text), &address, NULL), -EINVAL);
	text[DOMAIN_NAME_MAX] = 'd';
	text[DOMAIN_NAME_MAX + 1] = ':';
	assert_int_equal(parse(text, sizeof(text) - 1, &address, NULL), -EINVAL);
}

TEST(a_malformed_address_is_refused_with_its_cause)
{
#define LONG_NAME "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" /* 64 */
	static const struct {
		const char *text;
		size_t size;
		const char *why;
	} bad[] = {
		{"", 0, "no colon"},
		{"inbox", 5, "no colon"},
		{":", 1, "before the colon is missing"},
		{":inbox", 6, "before the colon is missing"},
		{"5:", 2, "after the colon is missing"},
		{"5:" LONG_NAME, 66, "longer than 63"},
		{"5:in box", 8, "letters, digits"},
		{"5:in.box", 8, "letters, digits"},
		{"5:_inbox", 8, "letters, digits"},
		{"5:-inbox", 8, "letters, digits"},
		{"5:a:b", 5, "letters, digits"},
		{"5:in\0box", 8, "letters, digits"},
		{"5:\xc3\xa4", 4, "letters, digits"},
		{"5:\xff\xfe", 4, "letters, digits"},
		{"5:a\n", 4, "letters, digits"},
		{"5 :inbox", 8, "can't be a domain"},
		{"A/b:inbox", 9, "can't be a host"},
		{"/b:inbox", 8, "can't be a host"},
		{"a/b/c:inbox", 11, "can't be a domain"},
		{"a/:inbox", 8, "domain before the colon is missing"},
		{"\0:inbox", 7, "can't be a domain"},
		{"\xc3\xa4:inbox", 8, "can't be a domain"},
		{"\xff:inbox", 7, "can't be a domain"},
		{"\x7f:inbox", 7, "can't be a domain"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct address address;
		const char *why = NULL;

		assert_int_equal(parse(bad[i].text, bad[i].size, &address, &why), -EINVAL);
		assert_non_null(why);
		if (!strstr(why, bad[i].why))
			fail_msg("\"%s\" is refused with \"%s\"", bad[i].text, why);
		assert_int_equal(parse(bad[i].text, bad[i].size, &address, NULL), -EINVAL);
	}
}

static void assert_part(struct address_part part, const char *expected)
{
	if (!expected) {
		assert_null(part.data);
		assert_int_equal(part.size, 0);
	} else if (!address_part_is(part, expected)) {
		fail_msg("the part is \"%.*s\", not \"%s\"", (int)part.size, part.data, expected);
	}
}

TEST(a_pattern_is_split_like_an_address_whatever_it_holds)
{
	static const struct {
		const char *text, *host, *domain, *endpoint;
	} texts[] = {
		{"", NULL, "", NULL},	      {"*", NULL, "*", NULL},	   {":", NULL, "", ""},
		{"a/*:lo?", "a", "*", "lo?"}, {"/x", "", "x", NULL},	   {"a/", "a", "", NULL},
		{"a/b/c:d", "a", "b/c", "d"}, {"5:a:b", NULL, "5", "a:b"}, {"5:a/b", NULL, "5", "a/b"},
		{"a/b", "a", "b", NULL},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct address_parts parts = address_split(texts[i].text, strlen(texts[i].text));

		assert_part(parts.host, texts[i].host);
		assert_part(parts.domain, texts[i].domain);
		assert_part(parts.endpoint, texts[i].endpoint);
		assert_int_equal(address_is_meant(texts[i].text, strlen(texts[i].text)), !!texts[i].endpoint);
	}
	assert_part(address_split(NULL, 0).host, NULL);
	assert_part(address_split_domain("a/b:c", 5).domain, "b:c");
	assert_part(address_split_domain("a/b:c", 5).endpoint, NULL);
}

TEST(a_sender_may_be_on_another_host_and_have_a_uid)
{
	static const struct {
		const char *text, *host, *domain, *uid;
	} texts[] = {
		{"5", NULL, "5", NULL},
		{"5/1000", NULL, "5", "1000"},
		{"work/1000", NULL, "work", "1000"},
		{"rack/work", "rack", "work", NULL},
		{"rack/5/0", "rack", "5", "0"},
		{"rack/work/x", "rack", "work", "x"},
		{"5/root", NULL, "5", "root"},
		{"work/", NULL, "work", ""},
		{"rack//5", "rack", "", "5"},
		{"Rack/work", NULL, "Rack", "work"},
		{"Rack/work/5", NULL, "Rack", "work/5"},
		{"", NULL, "", NULL},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct sender_parts parts = address_split_sender(texts[i].text, strlen(texts[i].text));

		assert_part(parts.host, texts[i].host);
		assert_part(parts.domain, texts[i].domain);
		assert_part(parts.uid, texts[i].uid);
	}
}

TEST(a_part_is_copied_whole_or_not_at_all)
{
	char to[4] = "xxx";

	assert_true(address_part_copy((struct address_part){"abcd", 3}, to, sizeof(to)));
	assert_string_equal(to, "abc");
	assert_false(address_part_copy((struct address_part){"abcd", 4}, to, sizeof(to)));
	assert_string_equal(to, "");
	assert_true(address_part_copy((struct address_part){NULL, 0}, to, sizeof(to)));
	assert_string_equal(to, "");
}

TEST(uids_are_decimal_and_below_the_one_that_is_none)
{
	static const char *const bad[] = {"",	"-1", "+1",	    " 1",
					  "1 ", "x",  "4294967295", "18446744073709551616"};
	uint32_t uid;

	assert_true(uid_parse("0", 1, &uid) && uid == 0);
	assert_true(uid_parse("4294967294", 10, &uid) && uid == 4294967294u);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (uid_parse(bad[i], strlen(bad[i]), &uid))
			fail_msg("\"%s\" was taken for a uid", bad[i]);
}

TEST(domids_are_decimal_and_below_the_reserved_ones)
{
	static const struct {
		const char *text;
		size_t size;
		uint32_t domid;
	} good[] = {{"0", 1, 0}, {"1", 1, 1}, {"42", 2, 42}, {"32751", 5, 32751}, {"5x", 1, 5}};
	static const struct {
		const char *text;
		size_t size;
	} bad[] = {
		{"", 0},   {"32752", 5},       {"99999", 5},  {"-1", 2},  {"+1", 2},	   {" 1", 2},
		{"1 ", 2}, {"0x1", 3},	       {"1a", 2},     {"a", 1},	  {"self", 4},	   {"1\0", 2},
		{"\0", 1}, {"4294967297", 10}, {"100000", 6}, {"1.0", 3}, {"\xd9\xa1", 2},
	};
	uint32_t domid;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		domid = 12345;
		assert_true(domid_is(good[i].text, good[i].size, &domid));
		assert_int_equal(domid, good[i].domid);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		domid = 12345;
		if (domid_is(bad[i].text, bad[i].size, &domid))
			fail_msg("\"%s\" was taken for a domid", bad[i].text);
		assert_int_equal(domid, 12345);
	}
}
