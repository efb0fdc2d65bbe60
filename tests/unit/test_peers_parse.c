/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What other domains may write into XenStore for us, and that all else is refused. */
#include "tests/unit/unit.h"

#include "daemon/peers/peers_parse.h"
#include "wire/address.h"

#define UUID "01234567-89ab-cdef-0123-456789ABCDEF"

static int presence(const char *text, unsigned *major)
{
	char instance[PEERS_INSTANCE_SIZE];

	return presence_parse(text, strlen(text), major, instance);
}

TEST(a_presence_may_say_by_what_a_keeper_is_asked)
{
	static const char with[] = "1 " UUID " 01234567-89ab-cdef-fedc-ba9876543210", without[] = "1 " UUID,
			  other[] = "2 " UUID " " UUID, broken[] = "1 " UUID " 0123";
	uint8_t token[16];

	assert_true(presence_token_parse(with, strlen(with), token));
	assert_int_equal(token[0], 0x01);
	assert_int_equal(token[15], 0x10);
	assert_false(presence_token_parse(without, strlen(without), token));
	assert_false(presence_token_parse(other, strlen(other), token));
	assert_false(presence_token_parse(broken, strlen(broken), token));
}

TEST(a_presence_is_a_version_and_an_instance)
{
	char instance[PEERS_INSTANCE_SIZE];
	unsigned major = 0;

	assert_int_equal(presence_parse("1 " UUID, 38, &major, instance), 0);
	assert_int_equal(major, 1);
	assert_string_equal(instance, UUID);
	assert_int_equal(presence("1 " UUID " and fields of a later version", &major), 0);
}

TEST(another_major_version_is_told_from_garbage)
{
	unsigned major = 0;

	assert_int_equal(presence("2 of which nothing is known", &major), -EPROTONOSUPPORT);
	assert_int_equal(major, 2);
	assert_int_equal(presence("4294967295", &major), -EPROTONOSUPPORT);
	assert_int_equal(major, 4294967295u);
	assert_int_equal(presence("4294967296", &major), -EINVAL);
	assert_int_equal(presence("02", &major), -EINVAL);
	assert_int_equal(presence("-2", &major), -EINVAL);
	assert_int_equal(presence("two", &major), -EINVAL);
}

TEST(a_bad_presence_is_refused)
{
	static const char *const bad[] = {
		"",
		" ",
		"1",
		"1 ",
		" 1 " UUID,
		"1  " UUID,
		"1\t" UUID,
		"1 " UUID "\n",
		"1 " UUID "0",
		"1 01234567-89ab-cdef-0123-456789abcde",
		"1 01234567089ab-cdef-0123-456789abcdef",
		"1 01234567-89ab-cdef-0123-456789abcdeg",
		"1 \xff\xfe",
		"1 " UUID " \x80",
	};
	char huge[PEERS_VALUE_MAX + 64];
	unsigned major;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(presence(bad[i], &major), -EINVAL);
	memset(huge, '1', sizeof(huge));
	memcpy(huge, "1 " UUID " ", 39);
	assert_int_equal(
		presence_parse(huge, PEERS_VALUE_MAX, &major, huge + sizeof(huge) - PEERS_INSTANCE_SIZE), 0);
	assert_int_equal(
		presence_parse(huge, PEERS_VALUE_MAX + 1, &major, huge + sizeof(huge) - PEERS_INSTANCE_SIZE),
		-EINVAL);
	assert_int_equal(presence_parse("1 " UUID "\0x", 40, &major, huge), -EINVAL);
}

TEST(a_hello_has_a_nonce_and_says_who_may_map)
{
	static const char *const bad[] = {
		"1 " UUID,
		"1 " UUID " 0123abcd",
		"1 " UUID " 0123abcd ",
		"1 " UUID " 0123ABCD 1",
		"1 " UUID " 0123abc 1",
		"1 " UUID " 0123abcde 1",
		"1 " UUID " ../../.. 1",
		"1 " UUID " 0123abcd 2",
		"1 " UUID " 0123abcd 10",
		"1 " UUID "  0123abcd 1",
	};
	struct rendezvous_hello hello;
	unsigned major;

	assert_int_equal(hello_parse("1 " UUID " 0123abcd 1", 49, &major, &hello), 0);
	assert_string_equal(hello.instance, UUID);
	assert_string_equal(hello.nonce, "0123abcd");
	assert_true(hello.map);
	assert_false(hello.forbidden);
	assert_int_equal(hello_parse("1 " UUID " 0123abcd 0 1 x", 53, &major, &hello), 0);
	assert_true(hello.forbidden);
	assert_int_equal(hello_parse("1 " UUID " 0123abcd 0 x", 51, &major, &hello), 0);
	assert_false(hello.map);
	assert_false(hello.forbidden);
	assert_int_equal(hello_parse("7 x", 3, &major, &hello), -EPROTONOSUPPORT);
	assert_int_equal(major, 7);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(hello_parse(bad[i], strlen(bad[i]), &major, &hello), -EINVAL);
}

static int endpoints(const char *text, struct offered *offered)
{
	return endpoints_parse(text, strlen(text), offered);
}

TEST(endpoints_are_valid_names_or_none_at_all)
{
	static const char *const bad[] = {" ",	 " a",	 "a ",	     "a  b", "-a",   "a.b",
					  "a/b", "a\nb", "\xc3\xa4", "+1 a", "a + b"};
	struct offered offered;

	assert_int_equal(endpoints("", &offered), 0);
	assert_int_equal(offered.count, 0);
	assert_null(offered.list[0]);
	free(offered.list);
	assert_int_equal(endpoints("print scan_2 X-y +3", &offered), 0);
	assert_int_equal(offered.count, 3);
	assert_string_equal(offered.list[0], "print");
	assert_string_equal(offered.list[1], "scan_2");
	assert_string_equal(offered.list[2], "X-y");
	assert_null(offered.list[3]);
	free(offered.list);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(endpoints(bad[i], &offered), -EINVAL);
		assert_int_equal(offered.count, 0);
		assert_null(offered.list);
	}
}

TEST(the_last_field_tells_the_kinds_of_all_names_or_of_none)
{
	static const struct {
		const char *text;
		uint8_t kinds[2];
	} cases[] = {
		{"print scan +0:14", {1, 4}},
		{"print scan +9:70", {7, 0}},
		{"print scan", {0}},
		{"print scan +0", {0}},
		{"print scan +0:1", {0}},
		{"print scan +0:124", {0}},
		{"print scan +0:18", {0}},
		{"print scan +0:1a", {0}},
		{"print scan +:12", {1, 2}},
		{"print scan +0:12:", {0}},
		{"print scan +0:/1", {0}},
		{"print scan +", {0}},
		{"print scan +0.1:10", {1, 8}},
		{"print scan +3.0.1:00", {8, 8}},
		{"print scan +0.2:10", {1, 0}},
		{"print scan +0.0:10", {1, 0}},
		{"print scan +0.:10", {1, 0}},
		{"print scan +0.1", {0}},
		{"print scan +0.1x.0:00", {0, 8}},
		{"print scan +0.000001:00", {8, 0}},
		{"print scan +0.99999999:00", {0}},
	};
	struct offered offered;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(endpoints(cases[i].text, &offered), 0);
		assert_int_equal(offered.count, 2);
		assert_memory_equal(offered.kinds, cases[i].kinds, 2);
		free(offered.list);
	}
}

TEST(endpoints_that_do_not_fit_are_counted)
{
	char list[200][24], value[500];
	const char *names[200];
	uint8_t kinds[200];
	struct offered offered;

	for (unsigned i = 0; i < 200; i++) {
		snprintf(list[i], sizeof(list[i]), "name-%u", i);
		names[i] = list[i];
		kinds[i] = (uint8_t)(i % 9);
	}
	endpoints_format(names, NULL, 0, value, sizeof(value));
	assert_string_equal(value, "");
	endpoints_format(names, kinds, 0, value, sizeof(value));
	assert_string_equal(value, "");
	endpoints_format(names, NULL, 2, value, sizeof(value));
	assert_string_equal(value, "name-0 name-1");
	endpoints_format(names, kinds, 2, value, sizeof(value));
	assert_string_equal(value, "name-0 name-1 +0:01");
	endpoints_format(names + 7, kinds + 7, 3, value, sizeof(value));
	assert_string_equal(value, "name-7 name-8 name-9 +0.1:700");
	/* Whatever the size, it's never exceeded and always valid. */
	for (size_t size = sizeof(" +4294967295:"); size < sizeof(value); size++)
		for (int with_kinds = 0; with_kinds < 2; with_kinds++) {
			memset(value, '~', sizeof(value));
			endpoints_format(names, with_kinds ? kinds : NULL, 200, value, size);
			assert_true(strlen(value) < size);
			assert_int_equal(endpoints(value, &offered), 0);
			assert_int_equal(atoi(strchr(value, '+') + 1), 200 - (int)offered.count);
			for (unsigned i = 0; i < offered.count; i++) {
				assert_string_equal(offered.list[i], names[i]);
				assert_int_equal(offered.kinds[i], with_kinds ? kinds[i] : 0);
			}
			free(offered.list);
		}
	endpoints_format(names, kinds, 200, value, sizeof(value));
	assert_int_equal(endpoints(value, &offered), 0);
	assert_true(offered.count > 40 && offered.count < 200);
	free(offered.list);
}

TEST(a_node_is_a_positive_number)
{
	static const char *const bad[] = {"",	"0",  "00", "01",  "-1",	 "+1",
					  " 1", "1 ", "1x", "0x1", "4294967296", "99999999999"};
	uint32_t number;

	assert_int_equal(node_number_parse("1", 1, &number), 0);
	assert_int_equal(number, 1);
	assert_int_equal(node_number_parse("4294967295", 10, &number), 0);
	assert_int_equal(number, 4294967295u);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(node_number_parse(bad[i], strlen(bad[i]), &number), -EINVAL);
}

TEST(a_path_is_ours_or_none_of_our_business)
{
	static const struct {
		const char *path;
		enum peers_path kind;
	} cases[] = {
		{"/local/domain", PEERS_PATH_ALL},
		{"/local/domain/5", PEERS_PATH_DOMAIN},
		{"/local/domain/5/data", PEERS_PATH_DOMAIN},
		{"/local/domain/5/data/xenmsg", PEERS_PATH_DOMAIN},
		{"/local/domain/5/data/xenmsg/to", PEERS_PATH_DOMAIN},
		{"/local/domain/5/data/xenmsg/to/3", PEERS_PATH_DOMAIN},
		{"/local/domain/5/data/xenmsg/presence", PEERS_PATH_PRESENCE},
		{"/local/domain/5/data/xenmsg/asks", PEERS_PATH_ASKS},
		{"/local/domain/5/data/xenmsg/endpoints", PEERS_PATH_PUBLIC},
		{"/local/domain/5/data/xenmsg/endpoints/x", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/asks/x", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/3/hello", PEERS_PATH_HELLO},
		{"/local/domain/5/data/xenmsg/to/3/endpoints", PEERS_PATH_ENDPOINTS},
		{"/local/domain/5/data/xenmsg/to/3/0123abcd", PEERS_PATH_NODES},
		{"/local/domain/5/data/xenmsg/to/3/0123abcd/ring-ref", PEERS_PATH_NODES},
		{"/local/domain/5/data/xenmsg/to/3/0123abcd/event-channel", PEERS_PATH_NODES},
		{"", PEERS_PATH_OTHER},
		{"/", PEERS_PATH_OTHER},
		{"@releaseDomain", PEERS_PATH_OTHER},
		{"/local/domain/", PEERS_PATH_OTHER},
		{"/local/domains", PEERS_PATH_OTHER},
		{"/local/domain/x", PEERS_PATH_OTHER},
		{"/local/domain/05/data", PEERS_PATH_OTHER},
		{"/local/domain/-5/data", PEERS_PATH_OTHER},
		{"/local/domain/32752/data", PEERS_PATH_OTHER},
		{"/local/domain/99999999999999999999/data", PEERS_PATH_OTHER},
		{"/local/domain/5/name", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg2", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/presence/x", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/4/hello", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/03/hello", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/3/hello/x", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/3/0123abcD", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/3/0123abcd/other", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/3/0123abcd/ring-ref/x", PEERS_PATH_OTHER},
		{"/local/domain/5/data/xenmsg/to/3/", PEERS_PATH_OTHER},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char nonce[PEERS_NONCE_SIZE] = "";
		uint32_t domid = 0;
		enum peers_path kind = peers_path_parse(cases[i].path, 3, &domid, nonce);

		assert_int_equal(kind, cases[i].kind);
		if (kind != PEERS_PATH_OTHER && kind != PEERS_PATH_ALL)
			assert_int_equal(domid, 5);
		if (kind == PEERS_PATH_NODES)
			assert_string_equal(nonce, "0123abcd");
	}
}

/* Returns what is read, which the caller frees, or NULL and *error. */
static char *given_tags(const char *text, size_t size, int *error)
{
	const char *why = NULL;
	char *tags;

	*error = given_tags_read(text, size, &tags, &why);
	assert_true(*error == 0 || (!tags && why));
	return tags;
}

static void are_read_as(const char *text, const char *wanted)
{
	int error;
	char *tags = given_tags(text, strlen(text), &error);

	assert_int_equal(error, 0);
	if (wanted)
		assert_string_equal(tags, wanted);
	else
		assert_null(tags);
	free(tags);
}

TEST(given_tags_are_separated_by_commas_and_blanks)
{
	are_read_as("web", ",web,");
	are_read_as("web,db-1", ",web,db-1,");
	are_read_as(" web ,\tdb_1\n", ",web,db_1,");
	are_read_as("", NULL);
	are_read_as(" ,\n", NULL);
}

static void are_refused(const char *text, size_t size)
{
	int error;

	assert_null(given_tags(text, size, &error));
	assert_int_equal(error, -EINVAL);
}

TEST(given_tags_that_are_none_are_refused_with_all_others)
{
	char many[GIVEN_TAGS_BYTES + 2] = "";

	are_refused("web, d.b", 8);
	are_refused("web;db", 6);
	are_refused("@web", 4);
	are_refused("web\0db", 6);
	are_refused("web\0", 4);
	are_refused("w\xc3\xa4", 3);
	memset(many, 'x', ENDPOINT_NAME_MAX + 1);
	are_refused(many, strlen(many));
	memset(many, ' ', GIVEN_TAGS_BYTES + 1);
	are_refused(many, GIVEN_TAGS_BYTES + 1);
	for (unsigned i = 0; i <= GIVEN_TAGS_MAX; i++)
		memcpy(many + 2 * i, "x,", 3);
	are_refused(many, strlen(many));
	many[strlen(many) - 2] = '\0';
	are_read_as(many, (char[2 * GIVEN_TAGS_MAX + 2]){
				  ",x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,"});
}
