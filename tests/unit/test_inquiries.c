/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An inquiry's answer, in whatever parts and whoever lies, on the real switch: at the other end of its
 * channel the test answers, by an inner hop of its own. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/quota.h"
#include "base/timer.h"
#include "daemon/serve/inquiries.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/inner.h"
#include "wire/bytes.h"
#include "wire/properties.h"

#define PATIENCE_MS 60000u
#define TICK_MS	    2u

struct scene {
	struct event_base *base;
	struct event *tick;
	struct switchboard board;
	struct hop *here, *there;
	struct quota *quota;
	struct account *account;
	struct inquiries *inquiries;
	struct inquiry *inquiry;
	struct channel_end *end; /* there; NULL: it has gone */
	int refused;		 /* instead of being led there */
	unsigned come;
	unsigned withdrawn; /* RESETs that have come there */
	char *text;	    /* of the answer, as it was taken */
	size_t size;
	unsigned firsts, lasts;
};

/* --- both ends -------------------------------------------------------------------------------- */

static void turn_here(void *userdata)
{
	struct scene *scene = userdata;
	struct channel_frame frame;
	struct channel_end *end;

	while (inner_next_frame(scene->here, &end, &frame))
		inquiries_take_frame(end, &frame);
	while ((end = inner_next_data(scene->here)) != NULL)
		inquiries_take_data(end);
	if (inner_has_input(scene->here))
		inner_due(scene->here);
}

static void turn_there(void *userdata)
{
	struct scene *scene = userdata;
	struct channel_frame frame;
	struct channel_end *end;

	while (inner_next_frame(scene->there, &end, &frame)) {
		if (frame.header.type != FRAME_RESET)
			continue;
		scene->withdrawn++;
		scene->end = NULL;
		inner_reset(end, ECANCELED);
	}
	while ((end = inner_next_data(scene->there)) != NULL)
		inner_wait_for_data(end);
}

static void lead(void *userdata, struct channel *channel, struct frame_text address)
{
	struct scene *scene = userdata;

	assert_memory_equal(address.data, "b/0:xenmsg", address.size);
	if (scene->refused) {
		channel_refuse(channel, scene->refused);
		return;
	}
	assert_int_equal(channel_accept(channel, scene->there, DAEMON_ENDPOINT), 0);
	scene->end = &channel->acceptor;
	inner_has(scene->end);
}

static void on_come(void *userdata)
{
	((struct scene *)userdata)->come++;
}

static const char *why_not(int error)
{
	return error == ETIMEDOUT ? "late" : "";
}

/* --- the scene -------------------------------------------------------------------------------- */

static void run(struct scene *scene)
{
	event_base_loop(scene->base, EVLOOP_NONBLOCK);
	switch_run(&scene->board, 1000);
}

static void on_tick(evutil_socket_t fd, short what, void *userdata)
{
	timer_set(*(struct event **)userdata, TICK_MS);
}

static void start_with(struct scene *scene, uint32_t answer_ms)
{
	static const struct hop_callbacks here = {.turn = turn_here}, there = {.turn = turn_there};
	static const struct quota_limits limits = {.pool = {100, 100, 100, 1 << 30, 100, 1 << 30},
						   .max = {{50, 50, 50, 1 << 29, 50, 1 << 29}}};

	scene->base = event_base_new();
	scene->tick = evtimer_new(scene->base, on_tick, &scene->tick);
	assert_int_equal(switch_init(&scene->board, scene->base, 1 << 20), 0);
	scene->quota = quota_new(&limits);
	scene->account = quota_account(scene->quota, QUOTA_UID, 1000);
	scene->here = hop_new(&scene->board, HOP_DAEMON, &here, scene, 1, 1000);
	scene->there = hop_new(&scene->board, HOP_DAEMON, &there, scene, 1, 1000);
	scene->inquiries = inquiries_new(&scene->board, scene->here, answer_ms, lead, scene);
	assert_true(scene->here && scene->there && scene->account && scene->inquiries);
}

static void scene_start(struct scene *scene)
{
	start_with(scene, PATIENCE_MS);
}

static void start_in_a_hurry(struct scene *scene)
{
	start_with(scene, 4 * TICK_MS);
}

static uint64_t used(const struct scene *scene)
{
	return account_usage(scene->account, QUOTA_CHANNELS).used;
}

static void let_go(struct scene *scene)
{
	inquiry_free(scene->inquiry);
	scene->inquiry = NULL;
	run(scene);
}

/* Nothing may be left. */
static void scene_stop(struct scene *scene)
{
	let_go(scene);
	if (scene->end)
		inner_reset(scene->end, EIO);
	run(scene);
	assert_null(scene->board.channels);
	assert_int_equal(used(scene), 0);
	inquiries_free(scene->inquiries);
	hop_retire(scene->here, ENOENT);
	hop_retire(scene->there, ENOENT);
	switch_cleanup(&scene->board);
	account_unref(scene->account);
	quota_free(scene->quota);
	free(scene->text);
	event_free(scene->tick);
	event_base_free(scene->base);
}

static void begin(struct scene *scene)
{
	const struct frame_identity from = {.domid = 5, .uid = 1000};

	assert_int_equal(inquiry_new(scene->inquiries, &from, scene->account, why_not, &scene->inquiry), 0);
	inquiry_listen(scene->inquiry, on_come, scene);
}

static void ask(struct scene *scene)
{
	begin(scene);
	inquiry_ask(scene->inquiry, "b/0:xenmsg", "watch self");
	run(scene);
}

/* Writes a message into `out`. Returns its size. */
static size_t message(uint8_t *out, uint8_t kind, int error, const struct properties *properties,
		      const void *text, size_t size, uint32_t number)
{
	uint32_t block = 0;
	size_t span;

	if (properties)
		block = properties_encode(properties, out + MESSAGE_HEAD_SIZE);
	span = (size_t)message_span(block + size);
	memset(out, 0, MESSAGE_HEAD_SIZE);
	put_u32(out, block + (uint32_t)size);
	out[4] = kind | (block ? MESSAGE_PROPERTIES : 0);
	put_u16(out + 6, (uint16_t)error);
	memcpy(out + MESSAGE_HEAD_SIZE + block, text, size);
	put_u32(out + span - MESSAGE_TRAILER_SIZE, MESSAGE_SENT);
	put_u32(out + span - 4, number);
	return span;
}

static void push(struct scene *scene, void *bytes, size_t size)
{
	struct iovec piece = {bytes, size};

	assert_int_equal(hop_push(scene->end, &piece, 1, (uint32_t)size, 1), 0);
	run(scene);
}

static void say(struct scene *scene, uint8_t kind, int error, const struct properties *properties,
		const char *text)
{
	uint8_t bytes[4096] = {0};

	push(scene, bytes, message(bytes, kind, error, properties, text, strlen(text), 1));
}

static void say_part(struct scene *scene, uint32_t part, bool has_more, const char *text)
{
	const struct properties properties = {.is_part = true, .part = part, .has_more = has_more};

	say(scene, MESSAGE_REPLY, 0, &properties, text);
}

static int take_parts(struct scene *scene)
{
	struct inquiry_part part;
	int r;

	while ((r = inquiry_next(scene->inquiry, &part)) > 0) {
		if (part.is_first)
			scene->size = 0;
		scene->firsts += part.is_first;
		scene->lasts += part.is_last;
		scene->text = realloc(scene->text, scene->size + part.size + 1);
		assert_non_null(scene->text);
		memcpy(scene->text + scene->size, part.text, part.size);
		scene->size += part.size;
		scene->text[scene->size] = '\0';
	}
	return r;
}

/* Takes all that has come, and what comes behind that. Returns 0, or the error with which it is over. */
static int take(struct scene *scene)
{
	unsigned come;
	int r;

	do {
		come = scene->come;
		r = take_parts(scene);
		run(scene);
	} while (r == 0 && scene->come != come);
	return r;
}

/* --- tests ------------------------------------------------------------------------------------ */

SCENE_TEST(a_question_is_a_request_that_its_user_pays_for, scene_start)
{
	uint8_t bytes[64], *trailer = bytes + message_span(10) - MESSAGE_TRAILER_SIZE;

	begin(scene);
	assert_int_equal(used(scene), 0);
	inquiry_ask(scene->inquiry, "b/0:xenmsg", "watch self");
	run(scene);
	assert_int_equal(used(scene), 1);
	assert_int_equal(scene->end->channel->identity.uid, 1000);
	assert_int_equal(evbuffer_remove(scene->end->queue, bytes, sizeof(bytes)), message_span(10));
	inner_taken(scene->end, (size_t)message_span(10));
	assert_int_equal(bytes[4], MESSAGE_REQUEST);
	assert_memory_equal(bytes + MESSAGE_HEAD_SIZE, "watch self", 10);
	assert_int_equal(get_u32(trailer), MESSAGE_SENT);
	assert_int_equal(take(scene), 0);
	let_go(scene);
	assert_int_equal(scene->withdrawn, 1);
	assert_int_equal(used(scene), 0);
}

SCENE_TEST(an_answer_comes_in_one_part, scene_start)
{
	ask(scene);
	say(scene, MESSAGE_REPLY, 0, NULL, "{}");
	assert_int_equal(scene->come, 1);
	assert_int_equal(take(scene), -ENODATA);
	assert_string_equal(scene->text, "{}");
	assert_int_equal(scene->firsts + scene->lasts, 2);
	assert_int_equal(scene->withdrawn, 1);
	assert_int_equal(used(scene), 0); /* though it isn't freed */
}

SCENE_TEST(an_answer_comes_in_parts_and_may_begin_anew, scene_start)
{
	ask(scene);
	say_part(scene, 0, true, "one ");
	assert_int_equal(take(scene), 0);
	assert_int_equal(take(scene), 0); /* nothing is taken twice */
	assert_string_equal(scene->text, "one ");
	for (unsigned i = 0; i < 2; i++) {
		say_part(scene, 0, true, "two ");
		say_part(scene, 1, true, "");
		say_part(scene, 2, true, "three");
	}
	assert_int_equal(take(scene), 0);
	assert_string_equal(scene->text, "two three");
	say_part(scene, 3, false, " four");
	assert_int_equal(take(scene), -ENODATA);
	assert_string_equal(scene->text, "two three four");
	assert_int_equal(scene->firsts, 3);
	assert_int_equal(scene->lasts, 1);
}

static const struct {
	const char *text, *why;
	int error, expected;
} errors[] = {
	{"no such domain", "no such domain", EHOSTDOWN, -EHOSTDOWN},
	{"it says", "late", ETIMEDOUT, -ETIMEDOUT}, /* our words come first */
	{"\033[2J", "", EACCES, -EACCES},
	{"caf\xc3\xa9", "", EACCES, -EACCES},
	{"", "", EAGAIN, -EAGAIN},
	{"none", "none", 0, -EPROTO},
	{"many", "many", 65535, -EPROTO},
};

SCENE_TEST_EACH(an_error_ends_it_and_says_why, scene_start, number, ROWS(errors))
{
	ask(scene);
	if (number % 2)
		say_part(scene, 0, true, "begun");
	say(scene, MESSAGE_ERROR, errors[number].error, NULL, errors[number].text);
	assert_int_equal(take(scene), errors[number].expected);
	assert_int_equal(take(scene), errors[number].expected);
	assert_string_equal(inquiry_why(scene->inquiry), errors[number].why);
	assert_int_equal(scene->withdrawn, 1);
}

SCENE_TEST(words_without_end_are_none, scene_start)
{
	char text[3000] = "";

	memset(text, 'x', sizeof(text) - 1);
	ask(scene);
	say(scene, MESSAGE_ERROR, EACCES, NULL, text);
	assert_int_equal(take(scene), -EACCES);
	assert_string_equal(inquiry_why(scene->inquiry), "");
}

/* At once, before an answer, in its midst, and in that of a message. */
SCENE_TEST_EACH(a_reset_ends_it, scene_start, number, 4)
{
	uint8_t half[8] = {4, 0, 0, 0, MESSAGE_REPLY};

	scene->refused = number ? 0 : EHOSTDOWN;
	ask(scene);
	if (number >= 2)
		say_part(scene, 0, true, "begun");
	if (number == 3)
		push(scene, half, 8);
	if (number)
		inner_reset(scene->end, EHOSTDOWN);
	scene->end = NULL;
	run(scene);
	assert_true(scene->come > 0);
	assert_int_equal(take(scene), -EHOSTDOWN);
	assert_int_equal(scene->firsts, number >= 2);
	assert_int_equal(used(scene), 0);
}

SCENE_TEST_EACH(an_end_without_the_rest_of_an_answer_ends_it, scene_start, number, 3)
{
	uint8_t half[8] = {4, 0, 0, 0, MESSAGE_REPLY};

	ask(scene);
	if (number)
		say_part(scene, 0, true, "begun");
	if (number == 2)
		push(scene, half, sizeof(half));
	inner_fin(scene->end);
	run(scene);
	assert_int_equal(scene->firsts, 0);
	assert_int_equal(take(scene), -ECONNRESET);
	assert_int_equal(scene->firsts, number > 0);
}

SCENE_TEST(an_end_behind_the_answer_is_none_of_our_business, scene_start)
{
	ask(scene);
	say(scene, MESSAGE_REPLY, 0, NULL, "{}");
	inner_fin(scene->end);
	run(scene);
	assert_int_equal(take(scene), -ENODATA);
	assert_string_equal(scene->text, "{}");
}

enum { A_REQUEST, NO_KIND, OTHER_NUMBER, CANCELLED, PART_MISSING, PART_TWICE, BAD_BLOCK, TOO_LARGE, LIES };

SCENE_TEST_EACH(what_is_no_answer_ends_it, scene_start, lie, LIES)
{
	uint8_t bytes[64] = {0};
	size_t span = message(bytes, MESSAGE_REPLY, 0, NULL, "12345678", 8, lie == OTHER_NUMBER ? 2 : 1);

	ask(scene);
	if (lie == A_REQUEST || lie == NO_KIND)
		bytes[4] = lie == A_REQUEST ? MESSAGE_REQUEST : 0;
	if (lie == CANCELLED)
		put_u32(bytes + span - MESSAGE_TRAILER_SIZE, MESSAGE_SENT + 1);
	if (lie == PART_MISSING || lie == PART_TWICE) {
		say_part(scene, 0, true, "begun");
		say_part(scene, 1, true, "more");
		say_part(scene, lie == PART_TWICE ? 1 : 3, true, "never");
	}
	if (lie == BAD_BLOCK)
		bytes[4] |= MESSAGE_PROPERTIES;
	if (lie == TOO_LARGE)
		put_u32(bytes, INQUIRY_PART_MAX + PROPERTIES_MAX + 1); /* of which this is the beginning */
	push(scene, bytes, span);
	assert_int_equal(take(scene), lie == TOO_LARGE ? -EMSGSIZE : -EPROTO);
	assert_true(!scene->text || !strstr(scene->text, "never"));
	assert_int_equal(scene->withdrawn, 1);
	assert_int_equal(used(scene), 0);
}

/* The largest that may come. */
SCENE_TEST(a_part_comes_whole_or_not_at_all, scene_start)
{
	const struct properties properties = {.is_part = true, .has_more = true};
	uint8_t *bytes = calloc(1, INQUIRY_PART_MAX + 256), *text = calloc(1, INQUIRY_PART_MAX);
	size_t span;

	assert_true(bytes && text);
	memset(text, 'x', INQUIRY_PART_MAX);
	span = message(bytes, MESSAGE_REPLY, 0, &properties, text, INQUIRY_PART_MAX, 1);
	ask(scene);
	for (size_t at = 0; at < span; at += span / 8 & ~(size_t)7) {
		assert_int_equal(take(scene), 0);
		assert_int_equal(scene->firsts, 0);
		push(scene, bytes + at, span - at < span / 8 ? span - at : span / 8 & ~(size_t)7);
	}
	assert_int_equal(take(scene), 0);
	assert_int_equal(scene->firsts, 1);
	assert_int_equal(scene->size, INQUIRY_PART_MAX);
	free(bytes);
	free(text);
}

/* --- time ------------------------------------------------------------------------------------- */

/* Time passes, of which looks take a part. */
static void pass_time(struct scene *scene, unsigned ticks)
{
	for (unsigned i = 0; i < ticks; i++) {
		timer_set(scene->tick, TICK_MS);
		event_base_loop(scene->base, EVLOOP_ONCE);
		run(scene);
	}
}

static void becomes_late(struct scene *scene)
{
	struct inquiry_part part;

	while (inquiry_next(scene->inquiry, &part) == 0)
		pass_time(scene, 1);
	assert_int_equal(take(scene), -ETIMEDOUT);
	assert_string_equal(inquiry_why(scene->inquiry), "late");
	assert_true(scene->come > 0);
	assert_int_equal(scene->withdrawn, 1);
}

SCENE_TEST(a_daemon_that_does_not_answer_is_given_up, start_in_a_hurry)
{
	ask(scene);
	becomes_late(scene);
}

/* Also one that had begun to, and whose beginning lay there for long. */
SCENE_TEST(a_daemon_that_stops_in_its_answer_is_given_up, start_in_a_hurry)
{
	uint8_t half[8] = {4, 0, 0, 0, MESSAGE_REPLY};

	ask(scene);
	push(scene, half, sizeof(half));
	pass_time(scene, 20);
	assert_int_equal(take(scene), 0);
	becomes_late(scene);
}

SCENE_TEST(nobody_is_late_whose_link_is_away, start_in_a_hurry)
{
	hop_retire(scene->there, ENOENT);
	scene->there =
		hop_new(&scene->board, HOP_LINK, &(struct hop_callbacks){.turn = NULL}, scene, 1, 1000);
	scene->there->holds_input = true;
	ask(scene);
	pass_time(scene, 50);
	assert_int_equal(take(scene), 0);
	scene->there->holds_input = false;
	scene->withdrawn = 1; /* of which nobody is told over a link that isn't there */
	becomes_late(scene);
	scene->end = NULL;
	hop_retire(scene->there, ENOENT);
	scene->there =
		hop_new(&scene->board, HOP_DAEMON, &(struct hop_callbacks){.turn = NULL}, scene, 1, 1000);
}

/* Nor when the answer has begun, or lies there. */
SCENE_TEST_EACH(nobody_is_late_who_has_answered, start_in_a_hurry, is_taken, 2)
{
	ask(scene);
	say_part(scene, 0, true, "begun");
	if (is_taken)
		assert_int_equal(take(scene), 0);
	pass_time(scene, 50);
	assert_int_equal(take(scene), 0);
	assert_string_equal(scene->text, "begun");
}

/* --- who ends it ------------------------------------------------------------------------------ */

static void free_it(void *userdata)
{
	struct scene *scene = userdata;

	inquiry_free(scene->inquiry);
	scene->inquiry = NULL;
}

enum { MADE, ASKED, BEGUN, ANSWERED, REFUSED, STATES };

SCENE_TEST_EACH(it_may_be_freed_in_each_state, scene_start, state, 2 * STATES)
{
	if (state / 2 == MADE) {
		begin(scene);
		channel_refuse(inquiry_channel(scene->inquiry), ENOBUFS);
		let_go(scene);
		return;
	}
	ask(scene);
	if (state % 2) /* in its own callback, or later */
		inquiry_listen(scene->inquiry, free_it, scene);
	if (state / 2 == BEGUN)
		say_part(scene, 0, true, "begun");
	if (state / 2 == ANSWERED)
		say(scene, MESSAGE_REPLY, 0, NULL, "{}");
	if (state / 2 == REFUSED) {
		inner_reset(scene->end, EACCES);
		scene->end = NULL;
		run(scene);
	}
	if (scene->inquiry)
		let_go(scene);
	assert_int_equal(scene->withdrawn, 1);
}

SCENE_TEST(all_that_are_out_end_with_them, scene_start)
{
	ask(scene);
	say_part(scene, 0, true, "begun");
	inquiries_free(scene->inquiries);
	scene->inquiry = NULL;
	scene->inquiries = NULL;
	run(scene);
	assert_int_equal(scene->withdrawn, 1);
}
