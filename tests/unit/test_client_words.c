/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What xenmsg_reason() says when a function has failed: what was asked for, and what is wrong with that.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <string.h>

#include "wire/address.h"
#include "xenmsg-stream.h"

#define OPTIONS(...) (&(struct xenmsg_options){.size = sizeof(struct xenmsg_options), __VA_ARGS__})

static void on_event(void *userdata, const struct xenmsg_event *event)
{
}

static void on_stream(void *userdata, struct xenmsg_stream *come, const struct xenmsg_peer *peer)
{
}

static int recv_for(int timeout_ms)
{
	struct xenmsg_message *message;

	return xenmsg_recv(fake.conn, &message, timeout_ms);
}

static int peek_one(void)
{
	struct xenmsg_message *message;

	return xenmsg_peek(fake.conn, &message);
}

static int query_for(int timeout_ms)
{
	char *json;

	return xenmsg_query(fake.conn, "peers", XENMSG_WITHIN(timeout_ms), &json);
}

static int flush_what_waits(void)
{
	int r = xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL);

	return r < 0 ? r : xenmsg_flush(fake.conn, 10);
}

static int send_large_at_once(void)
{
	static const uint8_t data[70000];

	return xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), XENMSG_FLAGS(XENMSG_AT_ONCE), NULL);
}

#define C fake.conn
#define ROW(error, words, call)                                                                              \
	if (true) {                                                                                          \
		int result = call;                                                                           \
                                                                                                             \
		if (result != (error) || !strstr(xenmsg_reason(C, result), words))                           \
			fail_msg("%s: %d, %s", #call, result, xenmsg_reason(C, result));                     \
	}

BOTH(each_function_says_why_it_has_failed)
{
	ROW(-EAGAIN, "no message is there yet", recv_for(0));
	ROW(-ETIMEDOUT, "no message came in time", recv_for(10));
	ROW(-EAGAIN, "no message is there yet", peek_one());
	ROW(-EAGAIN, "no stream is there yet", xenmsg_accept(C, XENMSG_WITHIN(0), NULL));
	ROW(-ETIMEDOUT, "no stream came in time", xenmsg_accept(C, XENMSG_WITHIN(10), NULL));
	ROW(-ETIMEDOUT, "no outcome yet", flush_what_waits());
	ROW(-ETIMEDOUT, "xenmsgd has not answered", query_for(10));
	ROW(-ETIMEDOUT, "xenmsgd has not answered", xenmsg_ping(C, "5", XENMSG_WITHIN(10), NULL));
	ROW(-ETIMEDOUT, "xenmsgd has not answered", xenmsg_bind(C, "box", XENMSG_WITHIN(10), NULL, NULL));
	ROW(-ETIMEDOUT, "xenmsgd has not answered", xenmsg_listen(C, "door", XENMSG_WITHIN(10)));
	ROW(-ENOENT, "this program has bound no", xenmsg_unbind(C, "nothing"));
	ROW(-ENOENT, "this program has bound no", xenmsg_drain(C, "nothing", NULL));
	ROW(-ENOENT, "this program has no subscription", xenmsg_unsubscribe(C, "5:news"));
	ROW(-ENOENT, "this program has no watch", xenmsg_unwatch(C, 4711));
	ROW(-EINVAL, "an endpoint's name", xenmsg_bind(C, "a.b", NULL, NULL, NULL));
	ROW(-EINVAL, "a topic takes no messages",
	    xenmsg_bind(C, "t", XENMSG_FLAGS(XENMSG_TOPIC), handle, NULL));
	ROW(-EINVAL, "for topics", xenmsg_bind(C, "t", XENMSG_FLAGS(XENMSG_RETAIN), NULL, NULL));
	ROW(-EINVAL, "exclude each other",
	    xenmsg_bind(C, "t", XENMSG_FLAGS(XENMSG_ONLY_MESSAGES | XENMSG_ONLY_CALLS), NULL, NULL));
	ROW(-EINVAL, "only a subscription has a queue", xenmsg_bind(C, "t", OPTIONS(.queue = 1), NULL, NULL));
	ROW(-EINVAL, "no meaning", xenmsg_bind(C, "t", XENMSG_FLAGS(XENMSG_WAIT), NULL, NULL));
	ROW(-EINVAL, "size isn't set", xenmsg_bind(C, "t", &(struct xenmsg_options){0}, NULL, NULL));
	ROW(-EINVAL, "an endpoint's name", xenmsg_listen(C, "", NULL));
	ROW(-EINVAL, "an endpoint's name", xenmsg_stream_listen(C, "-", NULL, on_stream, NULL));
	ROW(-EINVAL, "a pattern is", xenmsg_watch(C, ":", NULL, on_event, NULL));
	ROW(-EINVAL, "needs a handler", xenmsg_watch(C, "*", NULL, NULL, NULL));
	ROW(-EINVAL, "can't be a domain", xenmsg_ping(C, "a b", NULL, NULL));
	ROW(-EINVAL, "bad address", xenmsg_subscribe(C, "news", NULL, handle, NULL));
	ROW(-EINVAL, "a queue is up to",
	    xenmsg_subscribe(C, "5:news", XENMSG_FLAGS(XENMSG_KEEP_OLDEST), handle, NULL));
	ROW(-EINVAL, "only DOMAIN", xenmsg_subscribe(C, "5:*", XENMSG_FLAGS(XENMSG_PATTERN), handle, NULL));
	ROW(-EINVAL, "bad address", xenmsg_send(C, "nowhere", "x", 1, NULL, NULL));
	ROW(-EINVAL, "a trace is", xenmsg_send(C, "5:in", "x", 1, OPTIONS(.trace = "a\nb"), NULL));
	ROW(-EINVAL, "only a message has a key", xenmsg_call(C, "5:in", "x", 1, OPTIONS(.key = "k"), NULL));
	ROW(-EINVAL, "sent at once waits for nothing",
	    xenmsg_send(C, "5:in", "x", 1, XENMSG_FLAGS(XENMSG_AT_ONCE | XENMSG_WAIT), NULL));
	ROW(-EMSGSIZE, "65520", send_large_at_once());
}

/* Each knows who wants to reach what, and where to ask. */
TEST(an_error_of_an_address_names_what_is_meant)
{
	static const struct {
		int error;
		const char *address, *words;
	} rows[] = {
		{-EACCES, "5:inbox",
		 "domain 3 may not reach 'inbox'; in domain 5 'xenmsg policy check 3 inbox'"},
		{-EACCES, "self:inbox", "; here 'xenmsg policy check 3 inbox'"},
		{-EACCES, "hostb/5:inbox", "domain 3 may not go to host hostb"},
		{-EHOSTDOWN, "9:inbox", "domain 9 isn't there"},
		{-EHOSTDOWN, "web:inbox", "no domain 'web' is known here"},
		{-EHOSTDOWN, "web:inbox", "names need xenmsgd in domain 0"},
		{-EHOSTDOWN, "hostb/web:inbox", "no host 'hostb' is known here"},
		{-EACCES, "nonsense", NULL},
		{-ENOENT, "5:inbox", NULL},
		{0, "5:inbox", NULL},
	};
	char words[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_more = address_words(rows[i].error, 3, rows[i].address, words, sizeof(words));

		assert_int_equal(is_more, rows[i].words != NULL);
		if (is_more && !strstr(words, rows[i].words))
			fail_msg("%s: %s", rows[i].address, words);
	}
}

/* What another function says afterwards doesn't hide why the connection is over. */
BOTH(why_a_connection_is_over_is_said_whatever_fails_then)
{
	const struct frame_goodbye goodbye = {.error = EBUSY, .text = {"going home", 10}};
	uint8_t payload[64];

	fake_send(&fake, FRAME_GOODBYE, 0, 0, payload, frame_goodbye_encode(&goodbye, payload));
	expect_over(-ENOTCONN);
	ROW(-ENOTCONN, "going home", xenmsg_bind(C, "box", NULL, NULL, NULL));
	ROW(-ENOTCONN, "going home", query_for(10));
	ROW(-ENOTCONN, "going home", recv_for(0));
}

static int begin_to_5(bool is_call, struct ended *ended)
{
	return (is_call ? xenmsg_begin_call : xenmsg_begin_send)(C, "5:inbox", "x", 1, NULL, note_end, ended,
								 NULL);
}

/* Whoever is told later gets the same words as a function that waits: several of one channel, and when the
 * channel is gone. */
BOTH(what_was_begun_ends_with_the_words_of_its_address)
{
	static const struct {
		uint32_t error;
		const char *words;
	} rows[] = {
		{EACCES, "domain 7 may not reach 'inbox'; in domain 5 'xenmsg policy check 7 inbox'"},
		{EHOSTDOWN, "domain 5 isn't there"},
		{ENOENT, "no such endpoint there"},
		{ENOMEM, "has no memory for it"},
	};

	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct ended ended[3] = {{0}};
		uint32_t channel;

		for (int each = 0; each < 3; each++)
			assert_int_equal(begin_to_5(i & 1, &ended[each]), 0);
		xenmsg_process(C);
		channel = fake_expect_open(&fake);
		fake_reset(&fake, channel, rows[i / 2].error, 0, 0);
		for (int each = 0; each < 3; each++) {
			expect_end(&ended[each], -(int)rows[i / 2].error);
			if (!strstr(ended[each].reason, rows[i / 2].words))
				fail_msg("%zu: %s", i, ended[each].reason);
		}
		fake_read_up_to(&fake, FRAME_RESET);
	}
}

/* What nobody is told any more takes its words along. */
BOTH(words_that_nobody_hears_are_dropped)
{
	struct ended ended[2] = {{0}};
	uint32_t channel;

	assert_int_equal(begin_to_5(false, &ended[0]), 0);
	assert_int_equal(xenmsg_begin_send(C, "5:inbox", "x", 1, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(begin_to_5(true, &ended[1]), 0);
	xenmsg_process(C);
	channel = expect_open("5:inbox");
	fake_reset(&fake, channel, EACCES, 0, 0);
	while (!is_readable(C))
		;
	xenmsg_close(C);
	fake.conn = NULL;
	assert_int_equal(ended[0].times + ended[1].times, 2);
}

/* ---- each function that takes time, with each error that the daemon can give it ------------- */

static const char *said; /* by the daemon, with the error */
static uint32_t refused_by;

static void answer_request(struct fake *daemon)
{
	fake_read(daemon);
	fake_reply(daemon, daemon->header.channel, refused_by, said);
}

static void answer_question(struct fake *daemon)
{
	fake_tell(daemon, fake_question(daemon, NULL), refused_by, said);
}

static void reset_channel(struct fake *daemon)
{
	fake_reset(daemon, fake_expect_open(daemon), refused_by, 0, 0);
}

/* clang-format off */
#define FORMS(name, begin, block)                                                                            \
	static int begin_##name(struct ended *ended) { return begin; }                                       \
	static int block_##name(void) { return block; }

FORMS(bind, xenmsg_begin_bind(C, "box", NULL, NULL, note_end, ended, NULL), xenmsg_bind(C, "box", NULL, NULL, NULL))
FORMS(listen, xenmsg_begin_listen(C, "door", NULL, note_end, ended, NULL), xenmsg_listen(C, "door", NULL))
FORMS(subscribe, xenmsg_begin_subscribe(C, "5:inbox", NULL, handle, note_end, ended, NULL),
      xenmsg_subscribe(C, "5:inbox", NULL, handle, NULL))
FORMS(watch, xenmsg_begin_watch(C, "5:inbox", NULL, on_event, note_end, ended, NULL),
      xenmsg_watch(C, "5:inbox", NULL, on_event, NULL))
FORMS(query, xenmsg_begin_query(C, "peers", NULL, note_end, ended, NULL), query_for(-1))
FORMS(ping, xenmsg_begin_ping(C, "5", NULL, note_end, ended, NULL), xenmsg_ping(C, "5", NULL, NULL))
FORMS(send, xenmsg_begin_send(C, "5:inbox", "x", 1, NULL, note_end, ended, NULL),
      xenmsg_send(C, "5:inbox", "x", 1, NULL, NULL))
FORMS(call, xenmsg_begin_call(C, "5:inbox", "x", 1, NULL, note_end, ended, NULL),
      xenmsg_call(C, "5:inbox", "x", 1, NULL, NULL))
/* clang-format on */

static const struct form {
	const char *name, *denied, *absent; /* with an error that the daemon says nothing of */
	int (*begin)(struct ended *ended);
	int (*block)(void);
	void (*answer)(struct fake *daemon);
} forms[] = {
#define TO_5 "domain 7 may not reach 'inbox'", "domain 5 isn't there"
#define FORM(name, answer, ...)                                                                              \
	{                                                                                                    \
#name, __VA_ARGS__, begin_##name, block_##name, answer                                       \
	}
	FORM(bind, answer_request, NULL, NULL),
	FORM(listen, answer_request, NULL, NULL),
	FORM(subscribe, answer_request, TO_5),
	FORM(watch, answer_question, TO_5),
	FORM(query, answer_question, NULL, NULL),
	FORM(ping, reset_channel, "domain 7 may not reach 'xenmsg'", "domain 5 isn't there"),
	FORM(send, reset_channel, TO_5),
	FORM(call, reset_channel, TO_5),
};

static const char *expected_words(const struct form *form)
{
	if (*said && form->answer != reset_channel)
		return said;
	if (refused_by == EACCES && form->denied)
		return form->denied;
	if (refused_by == EHOSTDOWN && form->absent)
		return form->absent;
	return xenmsg_error_text(-(int)refused_by);
}

static void check_words(const struct form *form, const char *how, int error, const char *words)
{
	if (error != -(int)refused_by || !strstr(words, expected_words(form)))
		fail_msg("%s, %s, %s '%s': %d, %s", form->name, how, strerrorname_np((int)refused_by), said,
			 error, words);
}

/* The daemon's words if it has some, else those that name what was asked for. */
BOTH(each_error_of_the_daemon_is_told_with_its_cause)
{
	static const uint32_t errors[] = {EACCES,     EHOSTDOWN,  ENOENT,   ENOBUFS, EHOSTUNREACH,
					  EPROTOTYPE, EOPNOTSUPP, EMSGSIZE, EEXIST};
	static const char *const texts[] = {"", "since it is Monday"};

	for (size_t i = 0; i < 2 * (sizeof(errors) / sizeof(errors[0])) * (sizeof(forms) / sizeof(forms[0]));
	     i++) {
		const struct form *form = &forms[i / 2 % (sizeof(forms) / sizeof(forms[0]))];
		struct ended ended = {0};
		int r;

		said = texts[i % 2];
		refused_by = errors[i / 2 / (sizeof(forms) / sizeof(forms[0]))];
		r = form->begin(&ended);
		assert_true(r >= 0);
		xenmsg_process(C);
		form->answer(&fake);
		loop_until(&ended);
		check_words(form, "begun", ended.result.error, ended.reason);
		assert_int_equal(ended.result.fate, XENMSG_FATE_NOT_DONE);
		if (form->answer == reset_channel)
			fake_read_up_to(&fake, FRAME_RESET);
		fake_meanwhile(&fake, form->answer);
		r = form->block();
		fake_join(&fake);
		check_words(form, "blocking", r, xenmsg_reason(C, r));
		if (form->answer == reset_channel)
			fake_read_up_to(&fake, FRAME_RESET);
	}
}
