/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Quotas with the errors that they end in, hostile and slow clients, and the fault that stalls all. */
#include "tests/store/store_unit.h"

#include <stdio.h>

static void the_node_quota_counts_what_a_guest_owns(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats stats;
	char path[64];
	unsigned made = 0;
	int rc;

	sim_store_stats(f->host->store, 1, &stats);
	/* Use several directories, since the C daemon limits the length of one. */
	do {
		snprintf(path, sizeof(path), "data/d%u/n%u", made / 100, made % 100);
		rc = unit_write(f->one, 0, path, "x");
		made += rc == 0;
	} while (rc == 0);
	assert_int_equal(rc, -EDQUOT);
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.nodes, 1000);
	/* Existing nodes can still be changed, others and domain 0 aren't affected, and room comes back. */
	assert_int_equal(unit_write(f->one, 0, "data/d0/n0", "y"), 0);
	assert_int_equal(unit_write(f->two, 0, "data/x", "x"), 0);
	assert_int_equal(unit_write(f->dom0, 0, "/local/domain/1/data/by-dom0", "x"), 0);
	assert_int_equal(unit_simple(f->one, XS_RM, 0, "data/d0"), 0);
	assert_int_equal(unit_write(f->one, 0, "data/again", "x"), 0);
}

static void the_watch_quota_is_one_for_all_processes_of_a_guest(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *second = unit_connect(f->host, 1);
	char token[16];

	/* One more than the quota, less the six of its kernel. */
	for (unsigned i = 0; i < 100 + 1 - 6; i++) {
		snprintf(token, sizeof(token), "%u", i);
		unit_watch_quietly(i % 2 ? f->one : second, "data", token);
	}
	for (unsigned i = 0; i < 2; i++) { /* a refused client has lost its connection */
		struct unit_client *refused = unit_connect(f->host, 1);

		assert_int_equal(unit_watch(refused, "data", "more"), -EDQUOT);
		assert_false(unit_receive(refused));
		unit_close(refused);
	}
	for (unsigned i = 0; i <= 200; i++) {
		snprintf(token, sizeof(token), "%u", i);
		unit_watch_quietly(f->dom0, "/", token);
	}
	unit_close(second);
	unit_watch_quietly(f->one, "data", "more");
}

static void the_transaction_quota_is_one_for_all_processes_of_a_guest(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *second = unit_connect(f->host, 1);
	uint32_t t, last = 0;

	for (unsigned i = 0; i <= 10; i++) {
		assert_int_equal(unit_start(i % 2 ? f->one : second, &t), 0);
		assert_int_not_equal(t, last);
		last = t;
	}
	assert_int_equal(unit_start(f->one, &t), -EDQUOT);
	assert_int_equal(unit_start(f->two, &t), 0);
	for (unsigned i = 0; i <= 20; i++)
		assert_int_equal(unit_start(f->dom0, &t), 0);
	unit_close(second);
	assert_int_equal(unit_start(f->one, &t), 0);
}

static void a_value_that_is_too_long(void **state)
{
	struct unit_fixture *f = *state;
	const size_t limit = 2048;
	char value[3000];

	memset(value, 'v', sizeof(value));
	value[limit] = '\0';
	assert_int_equal(unit_write(f->one, 0, "data/x", value), 0);
	assert_int_equal(strlen(unit_read(f->one, 0, "data/x")), limit);
	value[limit] = 'v';
	value[limit + 1] = '\0';
	assert_int_equal(unit_write(f->one, 0, "data/x", value), -E2BIG);
	assert_int_equal(unit_write(f->one, 0, "data/new", value), -E2BIG);
	assert_null(unit_read(f->one, 0, "data/new"));
	/* Domain 0 is held to it as well. */
	assert_int_equal(unit_write(f->dom0, 0, "/vm/x", value), -E2BIG);
}

static void permissions_have_no_limit(void **state)
{
	struct unit_fixture *f = *state;

	assert_int_equal(unit_set_perms(f->one, 0, "data", "n1 r2 r3 r4 r5"), 0);
	assert_int_equal(unit_set_perms(f->one, 0, "data", "n1 r2 r3 r4 r5 r6"), 0);
}

static void a_transaction_has_so_many_requests_and_no_more(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats stats;
	uint32_t t;

	assert_int_equal(unit_start(f->one, &t), 0);
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(unit_write(f->one, t, "data/x", "x"), 0);
	assert_int_equal(unit_write(f->one, t, "data/x", "x"), -EDQUOT);
	/* It can't be ended either; then the guest's kernel forgets it, but the store doesn't. */
	assert_int_equal(unit_end(f->one, t, false), -EDQUOT);
	assert_int_equal(unit_end(f->one, t, false), -ENOENT);
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.transactions, 1);
}

static void requests_of_unknown_type_are_answered(void **state)
{
	static const uint32_t types[] = {XS_WATCH_EVENT, XS_ERROR, 20, XS_TYPE_COUNT, 0xffff, 0x80000000};
	struct unit_fixture *f = *state;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(unit_ask(f->one, types[i], 0, "x", 2), -ENOSYS);
	assert_string_equal(unit_read(f->one, 0, "name"), "guest");
}

static void arguments_without_their_nul_are_refused(void **state)
{
	static const uint32_t types[] = {XS_DIRECTORY, XS_READ,	   XS_GET_PERMS, XS_WATCH, XS_UNWATCH,
					 XS_MKDIR,     XS_RM,	   XS_SET_PERMS, XS_WRITE, XS_GET_DOMAIN_PATH,
					 XS_INTRODUCE, XS_RELEASE, XS_SET_TARGET};
	struct unit_fixture *f = *state;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(unit_ask(f->dom0, types[i], 0, "1", 1), -EINVAL);
	assert_int_equal(unit_ask(f->dom0, XS_RESUME, 0, "7", 1), -EINVAL); /* there is no such domain */
	assert_int_equal(unit_ask(f->dom0, XS_IS_DOMAIN_INTRODUCED, 0, "1", 1), 0);
	assert_int_equal(unit_ask(f->one, XS_READ, 0, "", 0), -EINVAL);
	assert_int_equal(unit_ask(f->one, XS_READ, 0, "data\0more", 10), -EINVAL);
}

static void a_request_without_payload_waits_for_more_from_a_socket(void **state)
{
	struct unit_fixture *f = *state;
	struct xsd_sockmsg header = {.type = XS_READ, .req_id = 77};

	unit_send(f->dom0, &header, sizeof(header));
	unit_run(f->host);
	assert_true(unit_receive(f->dom0));
	assert_int_equal(f->dom0->input_len, 0);
	unit_send(f->dom0, &header, sizeof(header));
	unit_run(f->host);
	assert_true(unit_receive(f->dom0));
	assert_int_equal(f->dom0->input_len, sizeof(header) + sizeof("EINVAL"));
}

static void an_impossible_length_ends_that_connection_alone(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *second = unit_connect(f->host, 1);
	struct sim_store_stats stats;
	struct xsd_sockmsg header = {.type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1};
	char payload[XENSTORE_PAYLOAD_MAX - sizeof(header)] = "data";

	/* The longest path that a guest's kernel takes. */
	assert_int_equal(unit_ask(second, XS_READ, 0, payload, sizeof(payload)), -EINVAL);
	unit_watch_quietly(second, "data", "t");
	unit_send(second, &header, sizeof(header));
	assert_false(unit_receive(second));
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.connections, 1);
	assert_int_equal(stats.watches, 0);
	assert_string_equal(unit_read(f->one, 0, "name"), "guest");
	unit_close(second);
}

static void a_request_may_come_byte_by_byte(void **state)
{
	struct unit_fixture *f = *state;
	struct xsd_sockmsg header = {.type = XS_READ, .len = 5};
	char message[sizeof(header) + 5];

	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), "name", 5);
	for (size_t i = 0; i < sizeof(message); i++) {
		assert_int_equal(f->one->input_len, 0);
		unit_send(f->one, message + i, 1);
		assert_true(unit_receive(f->one));
	}
	assert_int_equal(f->one->input_len, sizeof(header) + 5);
	f->one->input_len = 0;
	/* Half a message has no effect on others. */
	unit_send(f->one, message, 20);
	assert_string_equal(unit_read(f->two, 0, "name"), "guest");
}

static void many_requests_in_one_piece_are_answered_in_order(void **state)
{
	struct unit_fixture *f = *state;
	struct xsd_sockmsg header = {.type = XS_READ, .len = 5};
	char messages[21 * 2000];

	for (uint32_t i = 0; i < 2000; i++) {
		header.req_id = i;
		memcpy(messages + 21 * i, &header, sizeof(header));
		memcpy(messages + 21 * i + sizeof(header), "name", 5);
	}
	unit_send(f->one, messages, sizeof(messages));
	assert_true(unit_receive(f->one));
	assert_int_equal(f->one->input_len, 21 * 2000);
	for (uint32_t i = 0; i < 2000; i++) {
		memcpy(&header, f->one->input + 21 * i, sizeof(header));
		assert_int_equal(header.req_id, i);
		assert_memory_equal(f->one->input + 21 * i + sizeof(header), "guest", 5);
	}
	f->one->input_len = 0;
}

static void who_asks_without_reading_waits_alone(void **state)
{
	struct unit_fixture *f = *state;
	struct xsd_sockmsg header = {.type = XS_READ, .len = 7};
	char value[2001], flood[23 * 4000];
	size_t total = 0;

	memset(value, 'v', 2000);
	value[2000] = '\0';
	assert_int_equal(unit_write(f->one, 0, "data/x", value), 0);
	for (uint32_t i = 0; i < 4000; i++) {
		memcpy(flood + 23 * i, &header, sizeof(header));
		memcpy(flood + 23 * i + sizeof(header), "data/x", 7);
	}
	/* 8 MB of answers: what is sent here fits into buffers, and unit_send would loop for ever if it
	 * didn't. */
	unit_send(f->one, flood, 23 * 2000);
	for (int i = 0; i < 10; i++)
		assert_string_equal(unit_read(f->two, 0, "name"), "guest");
	/* As soon as the client reads, all answers come. */
	while (total < 2016 * 2000) {
		assert_true(unit_receive(f->one));
		assert_true(f->one->input_len > 0);
		total += f->one->input_len;
		f->one->input_len = 0;
	}
	assert_int_equal(total, 2016 * 2000);
}

static void who_never_reads_its_events_is_cut_off_in_the_end(void **state)
{
	struct unit_fixture *f = *state;
	struct unit_client *deaf = unit_connect(f->host, 1);
	struct sim_store_stats stats;
	char token[1000];
	unsigned long writes = 0;

	memset(token, 't', sizeof(token) - 1);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(token + 990, 10, "%u", i);
		unit_watch_quietly(deaf, "data", token);
	}
	do {
		assert_int_equal(unit_write(f->one, 0, "data/x", "x"), 0);
		sim_store_stats(f->host->store, 1, &stats);
		assert_true(++writes < 10000);
	} while (stats.connections == 2);
	/* The client could lag far behind before it was cut off. */
	assert_true(writes > 100);
	assert_int_equal(stats.watches, 0);
	unit_close(deaf);
}

static void a_stalled_store_answers_nobody_and_loses_nothing(void **state)
{
	struct unit_fixture *f = *state;
	struct xsd_sockmsg header = {.type = XS_READ, .req_id = 5, .len = 5};
	struct unit_client *late;

	unit_watch_quietly(f->two, "data", "t");
	sim_store_stall(f->host->store, true);
	unit_send(f->one, &header, sizeof(header));
	unit_send(f->one, "name", 5);
	assert_int_equal(sim_store_write(f->host->store, "/local/domain/2/data/x", "x", NULL, 0), 0);
	late = unit_connect(f->host, 3);
	unit_send(late, &header, sizeof(header));
	unit_send(late, "name", 5);
	assert_true(unit_receive(f->one));
	assert_true(unit_receive(late));
	assert_int_equal(f->one->input_len, 0);
	assert_int_equal(late->input_len, 0);
	unit_expect_silence(f->two);
	sim_store_stall(f->host->store, false);
	assert_true(unit_receive(f->one));
	assert_true(unit_receive(late));
	assert_int_equal(f->one->input_len, 21);
	assert_int_equal(late->input_len, 21);
	unit_expect_event(f->two, "data/x", "t");
	unit_close(late);
}

static void a_domain_that_is_gone_leaves_nothing_open(void **state)
{
	struct unit_fixture *f = *state;
	struct sim_store_stats stats;
	uint32_t t;

	unit_watch_quietly(f->one, "data", "t");
	assert_int_equal(unit_start(f->one, &t), 0);
	sim_store_rm(f->host->store, "/local/domain/1");
	sim_store_release(f->host->store, 1);
	sim_store_unlisten(f->host->store, 1);
	assert_false(unit_receive(f->one));
	sim_store_stats(f->host->store, 1, &stats);
	assert_int_equal(stats.connections + stats.watches + stats.transactions + stats.nodes, 0);
	assert_string_equal(unit_read(f->two, 0, "name"), "guest");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		unit_case(the_node_quota_counts_what_a_guest_owns),
		unit_case(the_watch_quota_is_one_for_all_processes_of_a_guest),
		unit_case(the_transaction_quota_is_one_for_all_processes_of_a_guest),
		unit_case(a_value_that_is_too_long),
		unit_case(permissions_have_no_limit),
		unit_case(a_transaction_has_so_many_requests_and_no_more),
		unit_case(requests_of_unknown_type_are_answered),
		unit_case(arguments_without_their_nul_are_refused),
		unit_case(a_request_without_payload_waits_for_more_from_a_socket),
		unit_case(an_impossible_length_ends_that_connection_alone),
		unit_case(a_request_may_come_byte_by_byte),
		unit_case(many_requests_in_one_piece_are_answered_in_order),
		unit_case(who_asks_without_reading_waits_alone),
		unit_case(who_never_reads_its_events_is_cut_off_in_the_end),
		unit_case(a_stalled_store_answers_nobody_and_loses_nothing),
		unit_case(a_domain_that_is_gone_leaves_nothing_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
