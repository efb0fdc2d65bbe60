/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about what a program asks the daemon for: endpoints, answers and events, and what
 * ends them.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/outcomes.h"

BOTH(a_refusal_may_come_without_words)
{
	fake_answer_meanwhile(&fake, FRAME_BIND, EHOSTUNREACH, "");
	assert_int_equal(xenmsg_bind(fake.conn, "inbox", NULL, NULL, NULL), -EHOSTUNREACH);
	fake_join(&fake);
	assert_string_equal(xenmsg_reason(fake.conn, 0), "");
	assert_string_equal(xenmsg_reason(fake.conn, -EHOSTUNREACH), xenmsg_error_text(EHOSTUNREACH));
	assert_string_equal(xenmsg_reason(NULL, 0), "");
	assert_non_null(strstr(xenmsg_reason(NULL, -ENOENT), "no xenmsgd"));
}

TEST(each_outcome_has_words_of_its_own)
{
#define CHECK_WORDS(number, status, words) assert_string_equal(xenmsg_error_text(-(number)), words);
	OUTCOMES(CHECK_WORDS)
	assert_string_equal(xenmsg_error_text(ENOSPC), strerror(ENOSPC));
	assert_string_equal(xenmsg_error_text(0), "");
	assert_string_equal(xenmsg_change_name(XENMSG_NOT_SUBSCRIBED), "not subscribed");
	assert_string_equal(xenmsg_event_name(XENMSG_LISTED), "listed");
	assert_string_equal(xenmsg_notice_name(XENMSG_KEPT), "kept");
	assert_string_equal(xenmsg_notice_name((enum xenmsg_notice_kind)99), "unknown");
}

BOTH(a_refusal_comes_with_its_reason)
{
	char longest[ENDPOINT_NAME_MAX + 2];

	fake_answer_meanwhile(&fake, FRAME_BIND, EEXIST, "pid 17 has bound it");
	assert_int_equal(xenmsg_bind(fake.conn, "inbox", NULL, NULL, NULL), -EEXIST);
	fake_join(&fake);
	assert_string_equal(xenmsg_reason(fake.conn, 0), "pid 17 has bound it");
	memset(longest, 'a', sizeof(longest));
	longest[ENDPOINT_NAME_MAX + 1] = '\0';
	assert_int_equal(xenmsg_bind(fake.conn, longest, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "", NULL, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "a.b", NULL, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "fine", XENMSG_FLAGS(4), NULL, NULL), -EINVAL);
	longest[ENDPOINT_NAME_MAX] = '\0';
	fake_bind(&fake, longest, NULL, NULL);
}

static void answer_query(struct fake *daemon)
{
	uint32_t number = fake_question(daemon, "peers");

	fake_tell_part(daemon, number, 0, true, "[1,");
	fake_tell_part(daemon, number, 1, false, "2]");
}

static void answer_query_twice(struct fake *daemon)
{
	uint32_t number = fake_question(daemon, "peers");

	fake_tell_part(daemon, number, 0, true, "[0,");
	fake_tell_part(daemon, number, 0, true, "[1,"); /* by the next daemon, from the beginning */
	fake_tell_part(daemon, number, 1, false, "2]");
}

BOTH(an_answer_that_a_hand_over_cuts_short_comes_once)
{
	char *json;

	fake_meanwhile(&fake, answer_query_twice);
	assert_int_equal(xenmsg_query(fake.conn, "peers", NULL, &json), 0);
	assert_string_equal(json, "[1,2]");
	fake_join(&fake);
	free(json);
}

/* Each piece comes within the time-out, and the answer never: until the program has given up. */
static void hand_over_again_and_again(struct fake *daemon)
{
	uint32_t number = fake_question(daemon, "peers");
	struct pollfd wait = {.fd = daemon->fd, .events = 0};

	for (int times = 0; times < 20; times++) {
		fake_tell_part(daemon, number, 0, true, "[0,");
		assert_int_equal(poll(&wait, 1, 50), 0);
	}
	fake_expect_past_credit(daemon, FRAME_WITHDRAW);
	fake_tell(daemon, fake_question(daemon, "ping"), EHOSTDOWN, "");
}

BOTH(an_answer_cut_short_again_and_again_ends_in_time)
{
	uint64_t rtt;
	char *json;

	fake_meanwhile(&fake, hand_over_again_and_again);
	assert_int_equal(xenmsg_query(fake.conn, "peers", XENMSG_WITHIN(200), &json), -ETIMEDOUT);
	assert_int_equal(xenmsg_ping(fake.conn, "self", NULL, &rtt), -EHOSTDOWN);
	fake_join(&fake);
}

static void answer_ping(struct fake *daemon)
{
	fake_tell(daemon, fake_question(daemon, "ping"), 0, "{}");
}

static void refuse_query(struct fake *daemon)
{
	uint32_t number = fake_question(daemon, "rules");

	fake_tell_part(daemon, number, 0, true, "[");
	fake_tell(daemon, number, EPERM, "only root may");
}

BOTH(a_question_that_is_refused_says_why)
{
	char *json;

	fake_meanwhile(&fake, refuse_query);
	assert_int_equal(xenmsg_query(fake.conn, "rules", NULL, &json), -EPERM);
	fake_join(&fake);
	assert_string_equal(xenmsg_reason(fake.conn, -EPERM), "only root may");
}

static void skip_a_part(struct fake *daemon)
{
	uint32_t number = fake_question(daemon, "peers");

	fake_tell_part(daemon, number, 0, true, "[");
	fake_tell_part(daemon, number, 2, false, "]");
	fake_read_up_to(daemon, FRAME_RESET);
	fake_reset(daemon, daemon->questions - 1, EPROTO, daemon->asked_bytes, daemon->asked_bytes);
}

BOTH(an_answer_with_a_part_that_is_missing_is_none)
{
	char *json;

	fake_meanwhile(&fake, skip_a_part);
	assert_int_equal(xenmsg_query(fake.conn, "peers", NULL, &json), -ECONNRESET);
	fake_join(&fake);
}

BOTH(answers_may_come_in_pieces_and_late)
{
	uint64_t rtt;
	char *json;

	fake_meanwhile(&fake, answer_query);
	assert_int_equal(xenmsg_query(fake.conn, "peers", NULL, &json), 0);
	fake_join(&fake);
	assert_string_equal(json, "[1,2]");
	free(json);
	fake_meanwhile(&fake, answer_ping);
	assert_int_equal(xenmsg_ping(fake.conn, "self", XENMSG_WITHIN(10000), &rtt), 0);
	fake_join(&fake);
	assert_true(rtt > 0);
}

static void answer_nothing(struct fake *daemon)
{
	fake_tell(daemon, fake_question(daemon, "peers"), 0, "[]");
}

BOTH(a_request_leaves_the_descriptor_telling_of_what_comes_next)
{
	struct pollfd wait;
	char *json;

	handled = 0;
	fake_bind(&fake, "inbox", handle, &fake);
	wait = (struct pollfd){.fd = xenmsg_fd(fake.conn), .events = POLLIN};
	fake_meanwhile(&fake, answer_nothing);
	assert_int_equal(xenmsg_query(fake.conn, "peers", NULL, &json), 0);
	fake_join(&fake);
	free(json);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one");
	assert_int_equal(poll(&wait, 1, 10000), 1);
	while (handled < 1)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}

static uint32_t watch_number;
static char seen[256];

static void on_event(void *userdata, const struct xenmsg_event *event)
{
	size_t used = strlen(seen);

	snprintf(seen + used, sizeof(seen) - used, "%d:%u:%s ", event->kind, event->domid, event->name);
}

static void send_event(struct fake *daemon, uint32_t kind, uint32_t domid, const char *name)
{
	FAKE_EVENT(daemon, watch_number, .kind = kind, .domid = domid, .text = frame_text_of(name));
}

static void answer_watch(struct fake *daemon)
{
	watch_number = fake_watch(daemon, "*", 0);
	send_event(daemon, EVENT_DOMAIN_UP, 2, "");
}

static void answer_unwatch(struct fake *daemon)
{
	fake_expect_unwatch(daemon, watch_number);
	send_event(daemon, EVENT_DOMAIN_DOWN, 2, "");
}

BOTH(events_are_reported_until_unwatch)
{
	int watch;

	seen[0] = '\0';
	fake_meanwhile(&fake, answer_watch);
	watch = xenmsg_watch(fake.conn, "*", NULL, on_event, NULL);
	fake_join(&fake);
	assert_true(watch > 0);
	send_event(&fake, EVENT_ENDPOINT_UP, 2, "print");
	send_event(&fake, 99, 2, "of a later version");
	send_event(&fake, EVENT_LISTED, 0, "");
	send_event(&fake, EVENT_DOMAIN_AWAY, 2, "work");
	while (!strchr(seen, 'w'))
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	assert_string_equal(seen, "1:2: 3:2:print 8:0: 5:2:work ");
	fake_meanwhile(&fake, answer_unwatch);
	assert_int_equal(xenmsg_unwatch(fake.conn, watch), 0);
	fake_join(&fake);
	xenmsg_process(fake.conn);
	assert_string_equal(seen, "1:2: 3:2:print 8:0: 5:2:work ");
	assert_int_equal(xenmsg_unwatch(fake.conn, watch), -ENOENT);
	assert_int_equal(xenmsg_watch(fake.conn, "", NULL, on_event, NULL), -EINVAL);
	assert_int_equal(xenmsg_watch(fake.conn, "2:", NULL, on_event, NULL), -EINVAL);
}

static void expect_seen(const char *events)
{
	for (int i = 0; i < 200 && strlen(seen) < strlen(events); i++)
		assert_true(xenmsg_wait(fake.conn, 100) >= 0);
	xenmsg_process(fake.conn);
	assert_string_equal(seen, events);
	seen[0] = '\0';
}

static void begin_anew(uint32_t kind)
{
	fake_watched(&fake, watch_number, 0);
	send_event(&fake, EVENT_DOMAIN_UP, 2, ""); /* its name isn't known yet */
	if (kind)
		send_event(&fake, kind, 2, "");
}

/* Of the list that the next daemon begins the program hears what differs. */
BOTH(of_a_watch_that_is_begun_anew_only_changes_are_reported)
{
	seen[0] = '\0';
	fake_meanwhile(&fake, answer_watch);
	assert_true(xenmsg_watch(fake.conn, "*", NULL, on_event, NULL) > 0);
	fake_join(&fake);
	send_event(&fake, EVENT_DOMAIN_UP, 2, "work");
	FAKE_EVENT(&fake, watch_number, .kind = EVENT_ENDPOINT_UP, .domid = 2, .text = {"print", 5});
	begin_anew(0); /* before the list has ended */
	FAKE_EVENT(&fake, watch_number, .kind = EVENT_ENDPOINT_UP, .domid = 2, .text = {"scan", 4});
	send_event(&fake, EVENT_LISTED, 0, "");
	expect_seen("1:2: 1:2:work 3:2:print 3:2:scan 4:2:print 8:0: ");
	begin_anew(EVENT_DOMAIN_AWAY);
	begin_anew(EVENT_DOMAIN_AWAY);
	send_event(&fake, EVENT_DOMAIN_UP, 2, "work");
	FAKE_EVENT(&fake, watch_number, .kind = EVENT_ENDPOINT_UP, .domid = 2, .text = {"scan", 4});
	FAKE_EVENT(&fake, watch_number, .kind = EVENT_ENDPOINT_DOWN, .domid = 2, .text = {"never", 5});
	send_event(&fake, EVENT_LISTED, 0, "");
	send_event(&fake, EVENT_DOMAIN_AWAY, 2, "work");
	expect_seen("5:2:work ");
	begin_anew(EVENT_DOMAIN_AWAY);
	send_event(&fake, EVENT_LISTED, 0, "");
	expect_seen("4:2:scan ");
	begin_anew(0);
	send_event(&fake, EVENT_LISTED, 0, "");
	send_event(&fake, EVENT_DOMAIN_UP, 2, "play");
	send_event(&fake, EVENT_DOMAIN_DOWN, 2, "play");
	expect_seen("1:2:work 1:2:play 2:2:play ");
	send_event(&fake, EVENT_HOST_UP, 0, "");
	send_event(&fake, EVENT_DOMAIN_UP, 2, "work");
	FAKE_EVENT(&fake, watch_number, .kind = EVENT_ENDPOINT_UP, .domid = 2, .text = {"print", 5});
	fake_watched(&fake, watch_number, 0);
	send_event(&fake, EVENT_LISTED, 0, "");
	expect_seen("6:0: 1:2:work 3:2:print 4:2:print 2:2:work 7:0: "); /* each behind all that it had */
	for (const char *const *name = (const char *const[]){"more", "more", "", "", NULL}; *name; name++)
		send_event(&fake, EVENT_LISTED, 0, *name);
	expect_seen("8:0:more 8:0: "); /* whenever there is more than is told, or no more */
}

static void answer_query_behind_an_event(struct fake *daemon)
{
	uint32_t number = fake_question(daemon, "hosts");

	send_event(daemon, EVENT_DOMAIN_UP, 2, "");
	fake_tell(daemon, number, 0, "{}");
}

BOTH(who_waits_for_the_daemon_calls_nobody_back)
{
	char *json;

	seen[0] = '\0';
	fake_meanwhile(&fake, answer_watch);
	assert_true(xenmsg_watch(fake.conn, "*", NULL, on_event, NULL) > 0);
	fake_join(&fake);
	fake_meanwhile(&fake, answer_query_behind_an_event);
	assert_int_equal(xenmsg_query(fake.conn, "hosts", NULL, &json), 0);
	fake_join(&fake);
	free(json);
	assert_string_equal(seen, "");
	/* It is told by the next function that does, and of that the descriptor tells. */
	while (!seen[0])
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}

/* ---- without waiting ------------------------------------------------------------------------- */

static int bind_outcomes[2];

static void count_message(void *userdata, struct xenmsg_message *message)
{
	handled++;
	xenmsg_message_free(message);
}

static int bind_post(const char *endpoint, int *outcome)
{
	*outcome = PENDING;
	return xenmsg_begin_bind(fake.conn, endpoint, NULL, count_message, note_outcome, outcome, NULL);
}

BOTH(endpoints_can_be_bound_without_waiting)
{
	uint32_t first, second;

	handled = 0;
	assert_int_equal(bind_post("inbox", &bind_outcomes[0]), 0);
	assert_int_equal(bind_post("taken", &bind_outcomes[1]), 0);
	assert_int_equal(bind_post("inbox", &bind_outcomes[0]), -EEXIST);
	assert_int_equal(bind_post("a.b", &bind_outcomes[0]), -EINVAL);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_BIND);
	first = fake.header.channel;
	fake_expect(&fake, FRAME_BIND);
	second = fake.header.channel;
	assert_int_equal(bind_outcomes[0], PENDING);
	fake_reply(&fake, second, EEXIST, "pid 17 has bound it");
	assert_int_equal(outcome_of(&bind_outcomes[1]), -EEXIST);
	assert_string_equal(xenmsg_reason(fake.conn, 0), "pid 17 has bound it");
	fake_reply(&fake, first, 0, "");
	assert_int_equal(outcome_of(&bind_outcomes[0]), 0);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one");
	while (handled < 1)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);

	/* What was refused can be bound again, and an answer is about its own question only. */
	assert_int_equal(bind_post("taken", &bind_outcomes[1]), 0);
	xenmsg_process(fake.conn);
	fake_expect_past_credit(&fake, FRAME_BIND); /* by which the message was reported */
	fake_reply(&fake, fake.header.channel, 0, "");
	assert_int_equal(outcome_of(&bind_outcomes[1]), 0);
}

BOTH(every_bind_has_one_outcome)
{
	/* refused where nobody wants to know */
	assert_int_equal(xenmsg_begin_bind(fake.conn, "inbox", NULL, NULL, NULL, NULL, NULL), 0);
	xenmsg_process(fake.conn);
	fake_answer(&fake, FRAME_BIND, EACCES, "");
	assert_int_equal(xenmsg_process(fake.conn), 0);
	fake_bind(&fake, "inbox", NULL, NULL);

	assert_int_equal(bind_post("late", &bind_outcomes[0]), 0);
	assert_int_equal(bind_post("later", &bind_outcomes[1]), 0);
	fake_close(&fake);
	assert_int_equal(bind_outcomes[0], -ECANCELED);
	assert_int_equal(bind_outcomes[1], -ECANCELED);
}

BOTH(the_death_of_the_daemon_ends_a_bind)
{
	assert_int_equal(bind_post("inbox", &bind_outcomes[0]), 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_BIND);
	fake_die(&fake);
	assert_int_equal(outcome_of(&bind_outcomes[0]), -ENOTCONN);
	assert_int_equal(bind_post("other", &bind_outcomes[1]), -ENOTCONN);
}

static void die(struct fake *daemon)
{
	fake_question(daemon, "status");
	fake_die(daemon);
}

BOTH(the_death_of_the_daemon_ends_what_waits)
{
	struct xenmsg_message *message;
	char *json;

	fake_meanwhile(&fake, die);
	assert_int_equal(xenmsg_query(fake.conn, "status", NULL, &json), -ENOTCONN);
	fake_join(&fake);
	assert_int_equal(xenmsg_recv(fake.conn, &message, -1), -ENOTCONN);
	assert_int_equal(xenmsg_bind(fake.conn, "inbox", NULL, NULL, NULL), -ENOTCONN);
	assert_int_equal(xenmsg_wait(fake.conn, -1), -ENOTCONN);
}
