/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the command makes of payloads and of the daemon's status. */

#include "tests/unit/unit.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/metrics.h"
#include "cli/payload.h"

static void only_valid_utf8_is_text(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		bool valid;
	} cases[] = {
		{"", 0, true},
		{"hello\n", 6, true},
		{"a\0b", 3, true},
		{"\xc3\xa9", 2, true},
		{"\xe2\x82\xac", 3, true},
		{"\xf0\x9f\x98\x80", 4, true},
		{"\xf4\x8f\xbf\xbf", 4, true},
		{"\xc3", 1, false},		/* cut */
		{"\xa9", 1, false},		/* continues nothing */
		{"\xc0\xaf", 2, false},		/* overlong */
		{"\xe0\x80\xaf", 3, false},	/* overlong */
		{"\xf0\x80\x80\xaf", 4, false}, /* overlong */
		{"\xed\xa0\x80", 3, false},	/* a surrogate */
		{"\xf4\x90\x80\x80", 4, false}, /* beyond Unicode */
		{"\xff", 1, false},
		{"\xe2\x82", 2, false},
		{"\xe2\x28\xa1", 3, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(payload_is_utf8(cases[i].bytes, cases[i].size), cases[i].valid);
}

/* The vectors of RFC 4648, section 10. */
static void base64_is_that_of_the_rfc(void **state)
{
	static const char *const pairs[][2] = {
		{"", ""},
		{"f", "Zg=="},
		{"fo", "Zm8="},
		{"foo", "Zm9v"},
		{"foob", "Zm9vYg=="},
		{"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"},
		{"\xff\xfe\xfd", "//79"},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		char *text = payload_base64(pairs[i][0], strlen(pairs[i][0]));

		assert_string_equal(text, pairs[i][1]);
		free(text);
	}
}

static char *metrics_of(const char *json)
{
	struct json_object *status = json_tokener_parse(json);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(status);
	metrics_write(status, out);
	fclose(out);
	json_object_put(status);
	return text;
}

static void every_number_becomes_a_sample_with_its_labels(void **state)
{
	char *text = metrics_of(
		"{\"version\":\"0.1.0\",\"uptime_s\":7,\"store\":{\"connected\":true},\"links\":["
		"{\"peer\":{\"domid\":2,\"name\":\"a\\\"b\\\\\"},\"state\":\"up\",\"ring_bytes\":65536,\"tx\":{\"bytes\":10}},"
		"{\"peer\":{\"domid\":3,\"name\":\"\"},\"state\":\"idle\",\"ring_bytes\":0,\"tx\":{\"bytes\":20}}]}");

	assert_non_null(strstr(text, "# TYPE xenmsg_uptime_s gauge\nxenmsg_uptime_s 7\n"));
	assert_non_null(strstr(text, "xenmsg_store_connected 1\n"));
	assert_non_null(strstr(text, "xenmsg_links_number 2\n"));
	/* All samples of a name stand together, behind its type. */
	assert_non_null(strstr(text,
			       "# TYPE xenmsg_links_tx_bytes_total counter\n"
			       "xenmsg_links_tx_bytes_total{domid=\"2\",name=\"a\\\"b\\\\\"} 10\n"
			       "xenmsg_links_tx_bytes_total{domid=\"3\",name=\"\"} 20\n"));
	assert_non_null(strstr(text, "# TYPE xenmsg_links_ring_bytes gauge\n"));
	assert_non_null(strstr(text, ",state=\"up\"} 1\n"));
	assert_null(strstr(text, "0.1.0"));
	free(text);
}

static void an_odd_status_breaks_nothing(void **state)
{
	static const char *const odd[] = {"[]",
					  "{}",
					  "3",
					  "{\"links\":[1,null,[]],\"endpoints\":3}",
					  "{\"links\":[{\"peer\":4}]}",
					  "{\"a\":{\"b\":{\"c\":null}}}"};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		free(metrics_of(odd[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_valid_utf8_is_text),
		cmocka_unit_test(base64_is_that_of_the_rfc),
		cmocka_unit_test(every_number_becomes_a_sample_with_its_labels),
		cmocka_unit_test(an_odd_status_breaks_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
