/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the command makes of payloads and of the daemon's status. */

#include "tests/unit/unit.h"

#include <json-c/json.h>

#include "cli/far_status.h"
#include "cli/fields.h"
#include "cli/histogram.h"
#include "cli/metrics.c"
#include "cli/payload.h"
#include "cli/terminal.h"

TEST(what_does_something_at_a_terminal_is_escaped)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *shown, *in_a_line;
	} cases[] = {
		{"plain, gr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80", 20, NULL, NULL},
		{"a\tb\n", 4, "a\tb\n", "a\\u0009b\\u000a"},
		{"\0\a\b\r\x1b[2J", 8, "\\u0000\\u0007\\u0008\\u000d\\u001b[2J", NULL},
		{"\x7f", 1, "\\u007f", NULL},
		{"\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", 8, "\\u0080\\u009b\\u009f\xc2\xa0", NULL}, /* C1 */
		{"\x80\x9b", 2, "\\x80\\x9b", NULL}, /* the same for an 8-bit terminal */
		{"\xe2\x80\xae\xe2\x81\xa9\xd8\x9c", 8, "\\u202e\\u2069\\u061c", NULL}, /* direction */
		{"\xe2\x80\xa8\xe2\x80\xa7", 6, "\\u2028\xe2\x80\xa7", NULL},
		{"\xe2\x82", 2, "\\xe2\\x82", NULL}, /* cut */
		{"\xc0\x9b\xed\xa0\x80", 5, "\\xc0\\x9b\\xed\\xa0\\x80", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int one_line = 0; one_line < 2; one_line++) {
			const char *at = cases[i].bytes, *end = at + cases[i].size;
			const char *shown = cases[i].shown ? cases[i].shown : cases[i].bytes;
			char out[256] = "";
			size_t size = 0;

			/* With the least room, piece by piece. */
			while (at < end)
				size += terminal_escape(&at, end, one_line, out + size, TERMINAL_GROWTH);
			assert_string_equal(out, one_line && cases[i].in_a_line ? cases[i].in_a_line : shown);
		}
	}
}

#define STATUS "{\"version\":\"1\",\"domid\":7,\"name\":\"liar\",\"links\":[],\"endpoints\":[]}"

static struct json_object *work(void)
{
	struct json_object *domain = json_object_new_object();

	json_object_object_add(domain, "domid", json_object_new_int(5));
	json_object_object_add(domain, "name", json_object_new_string("work"));
	return domain;
}

TEST(another_domains_status_is_named_by_domain_0)
{
	struct json_object *domain = work();
	const char *why;
	struct json_object *status = remote_status_read(STATUS, domain, FAR_STATUS_MOST, &why);

	assert_non_null(status);
	assert_int_equal(number_at(status, "domid"), 5);
	assert_string_equal(text_at(status, "name"), "work");
	assert_string_equal(text_at(status, "version"), "1");
	json_object_put(status);
	json_object_put(domain);
}

TEST(what_is_no_status_or_larger_than_one_is_refused)
{
	static const char *const cases[] = {
		"", "{}", "[]", "null", STATUS "x", STATUS STATUS, "{\"version\":1"};
	size_t room = 524288 + sizeof(STATUS);
	char *large = malloc(room);
	const char *why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_null(remote_status_read(cases[i], NULL, FAR_STATUS_MOST, &why));
		assert_non_null(why);
	}
	assert_non_null(large);
	memset(large, ' ', room);
	memcpy(large, STATUS, sizeof(STATUS) - 1);
	assert_null(remote_status_parse(large, 524289, FAR_STATUS_MOST, &why));
	free(large);
}

/* Each of these three bytes becomes an object with a table. */
TEST(a_short_text_that_would_take_much_memory_is_no_status)
{
	char *text = malloc(65536), *at;
	const char *why;
	struct json_object *status;

	assert_non_null(text);
	for (unsigned count = 1000; count <= 20000; count += 19000) {
		at = text + sprintf(text, "%.*s,\"x\":[{}", (int)sizeof(STATUS) - 2, STATUS);
		for (unsigned i = 0; i < count; i++)
			at += sprintf(at, ",{}");
		at += sprintf(at, "]}");
		status = remote_status_parse(text, (size_t)(at - text), FAR_STATUS_MOST, &why);
		assert_true((status != NULL) == (count == 1000));
		json_object_put(status);
	}
	free(text);
}

TEST(sizes_have_units_and_three_digits_at_most)
{
	static const struct {
		int64_t bytes;
		const char *text;
	} cases[] = {
		{0, "0"},	   {1, "1"},	      {1023, "1023"},	 {1024, "1K"},	      {1536, "1.5K"},
		{10200, "10K"},	   {65536, "64K"},    {1023000, "999K"}, {1023 * 1024, "1M"}, {1 << 20, "1M"},
		{5 << 19, "2.5M"}, {16 << 20, "16M"}, {3LL << 30, "3G"}, {INT64_MAX, "8E"},
	};
	char text[24];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_text(cases[i].bytes, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

TEST(a_time_of_another_day_has_its_date)
{
	time_t now = time(NULL);
	char text[32];

	time_text(now, false, text, sizeof(text));
	assert_int_equal(strlen(text), strlen("2026-11-20 12:00:00"));
	time_text(now - 7 * 86400, true, text, sizeof(text));
	assert_int_equal(strlen(text), strlen("2026-11-20 12:00:00"));
	do { /* midnight may come in between */
		now = time(NULL);
		time_text(now, true, text, sizeof(text));
	} while (time(NULL) / 60 != now / 60);
	assert_int_equal(strlen(text), strlen("12:00:00"));
}

TEST(only_valid_utf8_is_text)
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
TEST(base64_is_that_of_the_rfc)
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

TEST(metrics_have_their_help_type_and_labels)
{
	char *text = metrics_of(
		"{\"version\":\"0.1.0\",\"uptime_s\":7,\"time\":{\"units\":123450006789},\"store\":{\"connected\":true},"
		"\"clients\":[{\"pid\":4711,\"comm\":\"program\",\"channels\":3}],\"links\":["
		"{\"peer\":{\"domid\":2,\"name\":\"a\\\"b\\\\\"},\"state\":\"up\",\"tx\":{\"bytes\":10},"
		"\"round_trips\":{\"buckets\":[{\"up_to_us\":25,\"count\":1}],\"count\":3,\"sum_us\":1500}},"
		"{\"peer\":{\"domid\":3,\"host\":\"hostb\",\"name\":\"\"},\"state\":\"idle\",\"tx\":{\"bytes\":20}}],"
		"\"accounts\":[{\"kind\":\"uid\",\"id\":0,\"channels\":{\"used\":5,\"refused\":1},\"time\":{\"rests\":7}}]}");
	static const char *const parts[] = {
		"xenmsg_up 1\n",
		"# TYPE xenmsg_uptime_seconds gauge\nxenmsg_uptime_seconds 7\n",
		"\nxenmsg_store_connected 1\n",
		/* In seconds, of units of 10 ns. */
		"# TYPE xenmsg_work_seconds_total counter\nxenmsg_work_seconds_total 1234.50006789\n",
		/* All samples of a name stand together, behind its type. */
		"# TYPE xenmsg_link_sent_bytes_total counter\n"
		"xenmsg_link_sent_bytes_total{domid=\"2\"} 10\n"
		"xenmsg_link_sent_bytes_total{domid=\"3\"} 20\n",
		/* Labels are of members that are there. */
		"xenmsg_link_info{domid=\"2\",name=\"a\\\"b\\\\\"} 1\n"
		"xenmsg_link_info{domid=\"3\",host=\"hostb\",name=\"\"} 1\n",
		"xenmsg_link_up{domid=\"2\"} 1\nxenmsg_link_up{domid=\"3\"} 0\n",
		"xenmsg_link_round_trip_seconds_bucket{domid=\"2\",le=\"2.5e-05\"} 1\n"
		"xenmsg_link_round_trip_seconds_bucket{domid=\"2\",le=\"+Inf\"} 3\n"
		"xenmsg_link_round_trip_seconds_sum{domid=\"2\"} 0.0015\n"
		"xenmsg_link_round_trip_seconds_count{domid=\"2\"} 3\n",
		"xenmsg_account_refusals_total{kind=\"uid\",id=\"0\",resource=\"channels\"} 1\n",
		"xenmsg_account_rests_total{kind=\"uid\",id=\"0\"} 7\n",
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		assert_non_null(strstr(text, parts[i]));
	assert_null(strstr(text, "4711"));
	assert_null(strstr(text, "program\""));
	free(text);
}

TEST(a_daemon_without_an_answer_is_down)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	metrics_write(NULL, out);
	fclose(out);
	assert_non_null(strstr(text, "# TYPE xenmsg_up gauge\nxenmsg_up 0\n"));
	assert_null(strstr(text, "xenmsg_link"));
	free(text);
}

/* Returns the file's text. The caller frees it. */
static char *read_source(const char *name)
{
	FILE *in = unit_source(name);
	char *text = NULL;
	size_t size = 0;

	assert_true(getdelim(&text, &size, '\0', in) > 0);
	fclose(in);
	return text;
}

/* Writes the table itself in Markdown. */
static void write_table(FILE *out)
{
	fputs("| metric | type | labels | meaning |\n|---|---|---|---|\n", out);
	fprintf(out, "| `xenmsg_up` | gauge | | %s |\n", up.help);
	for (size_t i = 0; i < METRICS; i++) {
		const struct metric *metric = &metrics[i];

		fprintf(out, "| `%s` | %s |", metric->name, type_names[metric->type]);
		for (const struct label *label = metric->labels; label && label->name; label++)
			fprintf(out, " %s", label->name);
		fprintf(out, "%s%s | %s |\n", strchr(metric->path, '*') ? " resource" : "",
			metric->type == HISTOGRAM ? " le" : "", metric->help);
	}
}

TEST(the_document_has_the_table_of_all_metrics)
{
	char *document = read_source("doc/metrics.md"), *table = NULL;
	size_t size;
	FILE *out = open_memstream(&table, &size);

	write_table(out);
	fclose(out);
	if (!strstr(document, table))
		fail_msg("doc/metrics.md must have this table:\n%s", table);
	free(document);
	free(table);
}

TEST(an_odd_status_breaks_nothing)
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

/* ---- what is at a path ----------------------------------------------------------------------- */

TEST(conditions_and_texts_take_what_is_absent_as_empty)
{
	static const char *const hold[] = {"",
					   "else",
					   "n",
					   "!zero",
					   "!no !missing",
					   "a.b=two",
					   "list.1=5 n>2",
					   "missing= a.missing!=x a.b.c=",
					   "n=3 n!=33",
					   "real>1 real=2",
					   "text={n}"};
	static const char *const fail[] = {"zero", "!n",       "missing",  "a.b=tw",
					   "n>3",  "list.9!=", "n real>9", "n= else"};
	struct json_object *object = json_tokener_parse(
		"{\"n\":3,\"zero\":0,\"no\":false,\"a\":{\"b\":\"two\"},\"list\":[4,5],\"real\":1.7,\"text\":\"{n}\"}");
	char *words = fields_words(object, "{text}: {a.b}{ (|n|)}{ (|missing|)}, {list.0} {missing}{n");

	for (size_t i = 0; i < sizeof(hold) / sizeof(hold[0]); i++)
		assert_true(fields_hold(object, hold[i]));
	for (size_t i = 0; i < sizeof(fail) / sizeof(fail[0]); i++)
		assert_false(fields_hold(object, fail[i]));
	assert_string_equal(words, "{n}: two (3), 4 3");
	free(words);
	assert_false(fields_hold(NULL, "n"));
	json_object_put(object);
}

/* ---- histograms ------------------------------------------------------------------------------ */

TEST(a_percentile_is_right_to_half_a_percent)
{
	static struct histogram histogram;
	uint64_t most = 3000000;

	assert_int_equal(histogram_at(&histogram, 0.5), 0);
	for (uint64_t value = 1; value <= most; value++)
		histogram_add(&histogram, value);
	for (double part = 0.001; part < 1; part += 0.001) {
		double found = (double)histogram_at(&histogram, part), right = part * (double)most;

		assert_true(found > right * 0.99 - 1 && found < right * 1.01 + 1);
	}
}

TEST(any_value_has_a_bucket)
{
	static struct histogram histogram;

	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t value = 1ull << bit;

		histogram = (struct histogram){.count = 0};
		histogram_add(&histogram, value);
		assert_int_equal(histogram.count, 1);
		assert_true(histogram_at(&histogram, 0.5) >= value);
		assert_true(histogram_at(&histogram, 0.5) - value <= value / 128);
	}
	histogram = (struct histogram){.count = 0};
	histogram_add(&histogram, 0);
	assert_int_equal(histogram_at(&histogram, 0.5), 0);
	histogram_add(&histogram, UINT64_MAX);
	assert_true(histogram_at(&histogram, 1) > UINT64_MAX / 128 * 127);
}
