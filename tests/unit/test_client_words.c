/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What xenmsg_reason() says when a function has failed: what was asked for, and what is wrong with that.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libclient/conn.h"
#include "libclient/helpers.h"
#include "wire/address.h"
#include "wire/advice.h"
#include "wire/stream_break.h"
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

#define C	     fake.conn
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ROW(error, words, call)                                                                              \
	if (true) {                                                                                          \
		int result;                                                                                  \
                                                                                                             \
		conn_set_reason(C, "of another one", 14);                                                    \
		result = call;                                                                               \
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

static struct xenmsg_message *call;

static void keep_call(void *userdata, struct xenmsg_message *message)
{
	call = message;
}

/* Whatever was said of the function before. */
BOTH(what_is_refused_for_its_arguments_is_told_so)
{
	static uint8_t large[FAKE_MAX_MESSAGE + 1];
	struct xenmsg_op *op;
	char name[XENMSG_NAME_SIZE];
	void *place;
	uint32_t size;
	struct ended ended = {0};

	fake_bind(&fake, "inbox", keep_call, NULL);
	fake_open_kind(&fake, 1, CHANNEL_CALL, "inbox");
	fake_credit(&fake, 1, 0, 65536);
	size = fake_message(stream, "x", 1, MESSAGE_SENT);
	stream[4] = MESSAGE_REQUEST;
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	while (!call)
		loop_once(C);
	ROW(-EINVAL, "no meaning", xenmsg_await_room(C, "5:in", 1, XENMSG_FLAGS(XENMSG_WAIT)));
	ROW(-EINVAL, "bad address", xenmsg_await_room(C, "nowhere", 1, NULL));
	ROW(-EINVAL, "bad address", xenmsg_reserve(C, "nowhere", 1, &place));
	ROW(-EINVAL, "bad address",
	    xenmsg_begin_connect(C, "nowhere", XENMSG_FLAGS(XENMSG_WAIT), note_end, &ended, NULL));
	ROW(-EINVAL, "bad address",
	    xenmsg_begin_send(C, "nowhere", "", 0, XENMSG_FLAGS(XENMSG_WAIT), NULL, NULL, NULL));
	ROW(-EINVAL, "isn't valid", xenmsg_sent_name(C, NULL, 0, name, sizeof(name)));
	ROW(-EINVAL, "nothing is reserved", xenmsg_commit(C, 1, NULL, NULL, NULL, NULL));
	ROW(-EINVAL, "no meaning", xenmsg_commit(C, 1, XENMSG_FLAGS(XENMSG_WAIT), NULL, NULL, NULL));
	ROW(-EINVAL, "no meaning",
	    xenmsg_begin_send(C, "5:in", "x", 1, XENMSG_FLAGS(XENMSG_TOPIC), NULL, NULL, NULL));
	ROW(-EINVAL, "no meaning",
	    xenmsg_begin_call(C, "5:in", "x", 1, XENMSG_FLAGS(XENMSG_TOPIC), NULL, NULL, NULL));
	ROW(-EINVAL, "from 1 to 4095", xenmsg_refuse(C, call, 4096));
	ROW(-EINVAL, "from 1 to 65535", xenmsg_reply_error(call, 0, NULL, 0));
	ROW(-EINVAL, "from 1 to 255", xenmsg_reply_exit_status(call, 256));
	ROW(-EINVAL, "no meaning", xenmsg_await_reply_room(call, 1, XENMSG_FLAGS(XENMSG_WAIT)));
	ROW(-EBUSY, "needs its connection", xenmsg_message_detach(call));
	ROW(-EMSGSIZE, "this domain's xenmsgd.conf", xenmsg_reply(call, large, sizeof(large)));
	ROW(-EMSGSIZE, "this domain's xenmsgd.conf",
	    xenmsg_send(C, "5:in", large, sizeof(large), NULL, NULL));
	ROW(-EMSGSIZE, "this domain's xenmsgd.conf",
	    xenmsg_send(C, "5:in", large, sizeof(large), XENMSG_FLAGS(XENMSG_AT_ONCE), NULL));
	ROW(-EMSGSIZE, "this domain's xenmsgd.conf",
	    xenmsg_call(C, "5:in", large, sizeof(large), NULL, NULL));
	ROW(-EMSGSIZE, "this domain's xenmsgd.conf", xenmsg_reserve(C, "5:in", sizeof(large), &place));
	ROW(-EMSGSIZE, "this domain's xenmsgd.conf",
	    xenmsg_begin_send(C, "5:in", large, sizeof(large), NULL, NULL, NULL, NULL));
#define NEEDS_DONE(call) ROW(-EINVAL, "needs a function", call)
	NEEDS_DONE(xenmsg_begin_bind(C, "b", NULL, NULL, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_listen(C, "b", NULL, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_stream_listen(C, "b", NULL, on_stream, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_subscribe(C, "5:b", NULL, handle, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_watch(C, "*", NULL, on_event, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_send(C, "5:in", "x", 1, NULL, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_call(C, "5:in", "x", 1, NULL, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_commit(C, 1, NULL, NULL, NULL, &op));
	NEEDS_DONE(xenmsg_begin_connect(C, "5:in", NULL, NULL, NULL, NULL));
	NEEDS_DONE(xenmsg_begin_query(C, "peers", NULL, NULL, NULL, NULL));
	NEEDS_DONE(xenmsg_begin_ping(C, "5", NULL, NULL, NULL, NULL));
	NEEDS_DONE(xenmsg_begin_drain(C, "inbox", NULL, NULL, NULL, NULL));
	NEEDS_DONE(xenmsg_begin_await_room(C, "5:in", 1, NULL, NULL, NULL, NULL));
	NEEDS_DONE(xenmsg_begin_await_reply_room(call, 1, NULL, NULL, NULL, NULL));
	ROW(-ETIMEDOUT, "not all calls were answered", xenmsg_drain(C, "inbox", XENMSG_WITHIN(10)));
	ROW(-ECANCELED, "no longer wanted", xenmsg_reply(call, "", 0));
	xenmsg_message_free(call);
	call = NULL;
	while (xenmsg_begin_send(C, "5:in", large, sizeof(large) / 2, NULL, NULL, NULL, NULL) == 0)
		;
	ROW(-EAGAIN, "no room for it now",
	    xenmsg_begin_send(C, "5:in", large, sizeof(large) / 2, NULL, NULL, NULL, NULL));
	ROW(-ETIMEDOUT, "no room in time",
	    xenmsg_await_room(C, "5:in", sizeof(large) / 2, XENMSG_WITHIN(10)));
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

	for (size_t i = 0; i < COUNT(rows); i++) {
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

	for (size_t i = 0; i < 2 * COUNT(rows); i++) {
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

static const char *said;	/* by the daemon, with the error */
static uint32_t refused_by, by; /* errno, and RESET_BY */
static struct fake mux;		/* the session of streams, */
static int door;		/* and where a stream that is a socket knocks */

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
	fake_reset_by(daemon, fake_expect_open(daemon), refused_by, by);
}

static void answer_knock(struct fake *daemon)
{
	const struct frame_welcome welcome = {.major = 1, .minor = PROTOCOL_MINOR, .domid = 7};
	struct fake knock = {.fd = accept(door, NULL, NULL)};
	uint8_t payload[FRAME_SMALL_MAX];
	char guard;

	assert_true(knock.fd >= 0);
	fake_expect(&knock, FRAME_HELLO);
	fake_send(&knock, FRAME_WELCOME, 0, 0, payload, frame_welcome_encode(&welcome, payload));
	fake_expect(&knock, FRAME_OPEN);
	assert_int_equal(recv(knock.fd, &guard, 1, MSG_WAITALL), 1);
	fake_reply(&knock, 0, refused_by, said);
	close(knock.fd);
}

static void note_broken(void *userdata, struct xenmsg_stream *broken, int error)
{
	struct ended *ended = userdata;

	ended->times++;
	ended->result = (struct xenmsg_result){.error = error, .fate = XENMSG_FATE_NOT_DONE};
	snprintf(ended->reason, sizeof(ended->reason), "%s", xenmsg_reason(C, error));
	xenmsg_stream_close(broken);
}

static int begin_to_stream(struct ended *ended)
{
	static const struct xenmsg_stream_callbacks callbacks = {.size = sizeof(callbacks),
								 .broken = note_broken};
	struct xenmsg_stream *begun;

	return xenmsg_stream_connect(C, "5:inbox", NULL, &callbacks, ended, &begun);
}

/* Has the library open its session of streams. */
static void begin_mux(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ended ended = {0};

	fake_await_second(&mux, &fake, false);
	assert_int_equal(begin_to_stream(&ended), 0);
	while (pthread_tryjoin_np(mux.thread, NULL) == EBUSY)
		assert_true(xenmsg_wait(C, 10) >= 0);
	while (!fake_has_frame(&mux)) /* the library may not have seen WELCOME yet */
		assert_true(xenmsg_wait(C, 10) >= 0);
	refused_by = ENOENT;
	reset_channel(&mux);
	loop_until(&ended);
	fake_read_up_to(&mux, FRAME_RESET);
	unlink(fake.path);
	memcpy(address.sun_path, fake.path, sizeof(fake.path));
	door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(door, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(door, 1), 0);
}

static void end_mux(void)
{
	xenmsg_close(C);
	C = NULL;
	close(door);
	fake_stop(&mux);
}

/* clang-format off */
#define BEGUN(name, begin) static int begin_##name(struct ended *ended) { return begin; }
#define FORMS(name, begin, block) BEGUN(name, begin) static int block_##name(void) { return block; }

FORMS(bind, xenmsg_begin_bind(C, "box", NULL, NULL, note_end, ended, NULL), xenmsg_bind(C, "box", NULL, NULL, NULL))
FORMS(listen, xenmsg_begin_listen(C, "door", NULL, note_end, ended, NULL), xenmsg_listen(C, "door", NULL))
FORMS(stream_listen, xenmsg_begin_stream_listen(C, "door", NULL, on_stream, note_end, ended, NULL),
      xenmsg_stream_listen(C, "door", NULL, on_stream, NULL))
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
FORMS(connect, xenmsg_begin_connect(C, "5:inbox", NULL, note_end, ended, NULL), xenmsg_connect(C, "5:inbox", NULL))
/* clang-format on */

static const struct form {
	const char *name, *denied, *absent; /* with an error that the daemon says nothing of */
	int (*begin)(struct ended *ended);
	int (*block)(void); /* NULL: there is no such form */
	void (*answer)(struct fake *daemon);
	struct fake *daemon;
} forms[] = {
#define TO_5 "domain 7 may not reach 'inbox'", "domain 5 isn't there"
#define FORM(name, answer, daemon, ...)                                                                      \
	{                                                                                                    \
#name, __VA_ARGS__, begin_##name, block_##name, answer, daemon                               \
	}
	FORM(bind, answer_request, &fake, NULL, NULL),
	FORM(listen, answer_request, &fake, NULL, NULL),
	FORM(stream_listen, answer_request, &mux, NULL, NULL),
	FORM(subscribe, answer_request, &fake, TO_5),
	FORM(watch, answer_question, &fake, TO_5),
	FORM(query, answer_question, &fake, NULL, NULL),
	FORM(ping, reset_channel, &fake, "domain 7 may not reach 'xenmsg'", "domain 5 isn't there"),
	FORM(send, reset_channel, &fake, TO_5),
	FORM(call, reset_channel, &fake, TO_5),
	FORM(connect, answer_knock, &fake, TO_5),
	{"stream_connect", TO_5, begin_to_stream, NULL, reset_channel, &mux},
};

static const char *expected_words(const struct form *form)
{
	if (*said && form->answer != reset_channel)
		return said;
	if (refused_by == ECONNRESET && (form->daemon == &mux || form->answer == answer_knock))
		return advice_of_break(by, false);
	if (by)
		return words_of_reset(by);
	if (refused_by == EACCES && form->denied)
		return form->denied;
	if (refused_by == EHOSTDOWN && form->absent)
		return form->absent;
	if (refused_by == ENOMEM)
		return WORDS_OF_PEERS_LACK;
	return xenmsg_error_text(-(int)refused_by);
}

static void check_words(const struct form *form, const char *how, int error, const char *words)
{
	if (error != -(int)refused_by || !strstr(words, expected_words(form)))
		fail_msg("%s, %s, %s '%s' %x: %d, %s", form->name, how, strerrorname_np((int)refused_by),
			 said, by, error, words);
	if (form->answer == reset_channel)
		fake_read_up_to(form->daemon, FRAME_RESET);
}

/* Has it fail in each of its forms. */
static void try_form(const struct form *form)
{
	struct ended ended = {0};
	int r = form->begin(&ended);

	assert_true(r >= 0);
	xenmsg_process(C);
	form->answer(form->daemon);
	loop_until(&ended);
	check_words(form, "begun", ended.result.error, ended.reason);
	assert_int_equal(ended.result.fate,
			 refused_by == ECONNRESET && form->answer == reset_channel && form->daemon == &fake
				 ? XENMSG_FATE_UNKNOWN
				 : XENMSG_FATE_NOT_DONE);
	if (!form->block)
		return;
	fake_meanwhile(form->daemon, form->answer);
	r = form->block();
	fake_join(form->daemon);
	check_words(form, "blocking", r, xenmsg_reason(C, r));
}

/* The daemon's words if it has some, else those that name what was asked for. */
BOTH(each_error_of_the_daemon_is_told_with_its_cause)
{
	static const uint32_t errors[] = {EACCES,     EHOSTDOWN,  ENOENT,   ENOBUFS, EHOSTUNREACH,
					  EPROTOTYPE, EOPNOTSUPP, EMSGSIZE, EEXIST,  ENOMEM,
					  EMFILE,     ENFILE,	  EINVAL,   EAGAIN,  EIO,
					  EPROTO,     ENOTCONN,	  EBUSY,    ENOSPC};
	static const char *const texts[] = {"", "since it is Monday"};

	by = 0;
	begin_mux();
	for (size_t i = 0; i < 2 * COUNT(errors) * COUNT(forms); i++) {
		said = texts[i % 2];
		refused_by = errors[i / 2 / COUNT(forms)];
		try_form(&forms[i / 2 % COUNT(forms)]);
	}
	end_mux();
}

/* Of what went through a channel it is known who has ended that, and why. */
BOTH(each_cause_of_a_broken_channel_is_told)
{
	static const uint32_t causes[] = {0,
					  RESET_BY_PROGRAM,
					  RESET_BY_DEATH,
					  RESET_BY_LOSS,
					  RESET_BY_RELAY,
					  RESET_BY_PROGRAM | ECONNREFUSED << RESET_CAUSE_SHIFT,
					  RESET_BY_PROGRAM | BREAK_KILLED << RESET_CAUSE_SHIFT};

	said = "";
	begin_mux();
	for (size_t i = 0; i < COUNT(causes) * COUNT(forms); i++) {
		const struct form *form = &forms[i % COUNT(forms)];

		by = causes[i / COUNT(forms)];
		refused_by = by == RESET_BY_RELAY ? EACCES : ECONNRESET;
		if (form->answer == reset_channel)
			try_form(form);
	}
	end_mux();
}
