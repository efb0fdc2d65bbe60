/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a watch of another host is told: what is there, then each change, once, also when the host goes and
 * comes. The questions are the rig's own, and the test answers them.
 */
#include "tests/unit/unit.h"
#include "tests/unit/image_bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/link/asks.h"
#include "daemon/local/host_watches.h"
#include "daemon/local/session.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"

#define HEARD_MAX     16384
#define QUESTIONS_MAX 4096u

struct session {
	struct hop hop;
	char heard[HEARD_MAX]; /* "1+b 1+7(work) 1+7:inbox(work) ...": number of the watch, event */
	int reply;	       /* -1: none yet */
	unsigned unanswered;   /* WATCHes, as the next daemon has them */
	unsigned lists;	       /* ends of lists */
	int cut_off;
	bool full;
};

struct question {
	bool is_out;
	enum ask_kind kind;
	char domain[DOMAIN_NAME_MAX + 1];
	uint64_t known;
	asks_told_fn told;
	void *asker;
	uint32_t request;
};

static struct scene {
	struct event_base *base;
	struct switchboard board;
	struct host_watches *watches;
	struct session session;
	struct question questions[QUESTIONS_MAX];
	unsigned asked, out;
	int ask_error;
	unsigned largest_pass; /* questions in one */
	uint64_t version;
} scene;

/* --- the rig's sessions and questions ---------------------------------------------------------- */

struct hop *session_hop(struct session *session)
{
	return &session->hop;
}

int session_reply(struct session *session, uint32_t request, int error, const void *body, size_t size)
{
	assert_int_equal(session->reply, -1);
	assert_string_equal(session->heard, "");
	session->reply = error;
	return 0;
}

void session_ask_again(struct session *session)
{
	session->unanswered++;
}

void session_cut_off(struct session *session, int error, const char *why)
{
	assert_int_equal(session->cut_off, 0);
	session->cut_off = error;
}

int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length)
{
	struct session *session = (struct session *)(void *)hop;
	size_t used = strlen(session->heard);
	struct frame_event event;

	if (session->full)
		return -ENOBUFS;
	assert_int_equal(type, FRAME_EVENT);
	assert_int_equal(frame_event_decode(payload, length, &event), 0);
	assert_true(event.host.size == 1 && event.host.data[0] == 'b');
	if (event.kind == EVENT_LISTED)
		session->lists++;
	else if (event.kind == EVENT_HOST_UP || event.kind == EVENT_HOST_DOWN)
		snprintf(session->heard + used, HEARD_MAX - used, "%u%cb ", channel,
			 event.kind == EVENT_HOST_UP ? '+' : '-');
	else if (event.kind == EVENT_DOMAIN_UP || event.kind == EVENT_DOMAIN_DOWN)
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%u(%.*s) ", channel,
			 event.kind == EVENT_DOMAIN_UP ? '+' : '-', event.domid, (int)event.text.size,
			 event.text.data);
	else
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%u:%.*s(%.*s) ", channel,
			 event.kind == EVENT_ENDPOINT_UP ? '+' : '-', event.domid, (int)event.text.size,
			 event.text.data, (int)event.domain_name.size,
			 event.domain_name.data ? event.domain_name.data : "");
	return 0;
}

void hop_identity_image(struct image *image, struct frame_identity *identity)
{
	image_u32(image, &identity->domid);
	image_u32(image, &identity->uid);
	image_u32(image, &identity->gid);
	image_u32(image, &identity->pid);
}

int asks_ask(struct asks *asks, const struct ask_question *question, struct account *account,
	     asks_told_fn told, void *asker, uint32_t request)
{
	struct question *free_one = scene.questions;

	scene.asked++;
	if (scene.ask_error)
		return scene.ask_error;
	while (free_one->is_out)
		assert_true(++free_one < scene.questions + QUESTIONS_MAX);
	*free_one = (struct question){.is_out = true,
				      .kind = question->kind,
				      .known = question->known,
				      .told = told,
				      .asker = asker,
				      .request = request};
	snprintf(free_one->domain, sizeof(free_one->domain), "%s", question->domain);
	assert_string_equal(question->host, "b");
	scene.out++;
	return 0;
}

void asks_cancel(struct asks *asks, void *asker, uint32_t request)
{
	for (unsigned i = 0; i < QUESTIONS_MAX; i++)
		if (scene.questions[i].is_out && scene.questions[i].request == request) {
			scene.questions[i].is_out = false;
			scene.out--;
		}
}

const char *asks_why_not(enum ask_kind kind, int error)
{
	return "it can't";
}

/* --- the scene -------------------------------------------------------------------------------- */

static bool pass(void *userdata)
{
	unsigned before = scene.asked;

	while (turns_run(&scene.board.turns))
		;
	if (scene.asked - before > scene.largest_pass)
		scene.largest_pass = scene.asked - before;
	return false;
}

static int set_up(void **state)
{
	scene = (struct scene){.base = event_base_new(), .session = {.reply = -1}};
	scene.board.base = scene.base;
	assert_int_equal(turns_init(&scene.board.turns, scene.base, pass, &scene), 0);
	scene.watches = host_watches_new(&scene.board, NULL);
	assert_non_null(scene.watches);
	return 0;
}

static int tear_down(void **state)
{
	host_watches_free(scene.watches);
	assert_int_equal(scene.out, 0);
	turns_cleanup(&scene.board.turns);
	event_base_free(scene.base);
	return 0;
}

static void settle(void)
{
	do
		event_base_loop(scene.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	while (scene.board.turns.due);
}

static void expect(const char *what)
{
	settle();
	assert_string_equal(scene.session.heard, what);
	scene.session.heard[0] = '\0';
}

static void watch(uint32_t number, const char *pattern)
{
	const struct frame_identity from = {.uid = 1000};
	char text[400];
	struct address_parts parts;

	snprintf(text, sizeof(text), "b/%s", pattern);
	parts = address_split(text, strlen(text));
	scene.session.reply = -1;
	host_watches_add(scene.watches, &scene.session, number, &parts, &from);
}

/* Returns the question that is out about the host ("") or this domain, best one that knows nothing yet. */
static struct question *find(enum ask_kind kind, const char *domain)
{
	struct question *found = NULL;

	for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
		struct question *question = &scene.questions[i];

		if (question->is_out && question->kind == kind && !strcmp(question->domain, domain) &&
		    (!found || !question->known))
			found = question;
	}
	return found;
}

/* Answers the question about the host ("") or this domain. `list`: "inbox print", or "7=work 8=" for domains;
 * NULL: it fails with `error`. */
static void answer(const char *domain, const char *list, uint32_t error, uint32_t domid, const char *name)
{
	enum ask_kind kind = *domain ? ASK_ENDPOINTS : ASK_DOMAINS;
	struct question *question = find(kind, domain);
	struct frame_told told = {.error = error, .domid = domid, .name = frame_text_of(name)};
	uint8_t text[TOLD_MAX];
	uint32_t size = 0;
	char *copy = strdup(list ? list : "");

	assert_non_null(question);
	assert_non_null(copy);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
		struct frame_told_entry entry = {.number = 1};
		char *equals = strchr(word, '=');

		if (equals)
			entry.number = (uint32_t)strtoul(word, NULL, 10);
		entry.name = frame_text_of(equals ? equals + 1 : word);
		size += frame_told_entry_encode(&entry, text + size);
		told.count++;
	}
	told.at = text;
	told.end = text + size;
	told.version = ++scene.version;
	question->is_out = false;
	scene.out--;
	question->told(NULL, question->asker, question->request, kind, "b", &told);
	free(copy);
	settle();
}

static void tell(const char *domain, const char *list)
{
	answer(domain, list, 0, *domain ? 7 : 0, *domain ? "work" : "");
}

static void fail_it(const char *domain, uint32_t error)
{
	answer(domain, NULL, error, 0, "");
}

/* --- tests ------------------------------------------------------------------------------------ */

TEST_WITH(what_is_there_is_told_first_and_then_each_change, set_up, tear_down)
{
	watch(1, "work");
	assert_int_equal(scene.session.reply, -1);
	tell("", "7=work");
	assert_int_equal(scene.session.reply, 0);
	expect("1+b ");
	tell("work", "inbox print");
	expect("1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	tell("work", "print scan");
	expect("1-7:inbox(work) 1+7:scan(work) ");
	assert_int_equal(find(ASK_ENDPOINTS, "work")->known, scene.version);
	/* Another domain has the name now. */
	answer("work", "scan", 0, 9, "work");
	expect("1-7:print(work) 1-7:scan(work) 1-7(work) ");
	answer("work", "scan", 0, 9, "work");
	expect("1+9(work) 1+9:scan(work) ");
}

TEST_WITH(a_watch_hears_once_that_all_which_was_there_is_told, set_up, tear_down)
{
	watch(1, "work");
	tell("", "7=work");
	expect("1+b ");
	assert_int_equal(scene.session.lists, 0);
	tell("work", "inbox");
	expect("1+7(work) 1+7:inbox(work) ");
	assert_int_equal(scene.session.lists, 1);
	/* Of each domain that a pattern means, when there is none, and though one of them can't be asked. */
	watch(2, "p*");
	tell("", "7=work 8=play 9=pool");
	expect("2+b ");
	answer("8", "inbox", 0, 8, "play");
	expect("2+8(play) 2+8:inbox(play) ");
	assert_int_equal(scene.session.lists, 1);
	fail_it("9", EHOSTDOWN);
	assert_int_equal(scene.session.lists, 2);
	watch(3, "z*");
	tell("", "7=work");
	expect("3+b ");
	assert_int_equal(scene.session.lists, 3);
	/* What comes is news. */
	tell("work", "inbox print");
	answer("8", "inbox print", 0, 8, "play");
	expect("1+7:print(work) 2+8:print(play) ");
	assert_int_equal(scene.session.lists, 3);
}

TEST_WITH(a_pattern_means_the_domains_that_are_told, set_up, tear_down)
{
	watch(1, "w*:in*");
	tell("", "7=work 8=play 9=");
	expect("1+b ");
	assert_null(find(ASK_ENDPOINTS, "8"));
	tell("7", "inbox print");
	expect("1+7:inbox(work) ");
	tell("", "8=play");
	expect("1-7:inbox(work) ");
	assert_null(find(ASK_ENDPOINTS, "7"));
}

/* A second later they are asked again. */
static void await_questions(unsigned count)
{
	while (scene.out < count)
		assert_int_equal(event_base_loop(scene.base, EVLOOP_ONCE), 0);
}

/* The host goes for all of its questions, in this order, and comes back: nothing is missed, and nothing told
 * twice. */
static void go_and_come(bool domain_first)
{
	const char *first = domain_first ? "work" : "", *second = domain_first ? "" : "work";

	watch(1, "work");
	tell("", "7=work");
	tell("work", "inbox");
	expect("1+b 1+7(work) 1+7:inbox(work) ");
	scene.ask_error = -EHOSTDOWN;
	fail_it(first, EHOSTDOWN);
	fail_it(second, EHOSTDOWN);
	expect(domain_first ? "1-7:inbox(work) 1-7(work) 1-b " : "1-b 1-7:inbox(work) 1-7(work) ");
	assert_int_equal(scene.out, 0);
	scene.ask_error = 0;
	await_questions(2);
	tell(first, domain_first ? "inbox" : "7=work");
	tell(second, domain_first ? "7=work" : "inbox");
	expect(domain_first ? "1+7(work) 1+7:inbox(work) 1+b " : "1+b 1+7(work) 1+7:inbox(work) ");
}

TEST_WITH(a_host_that_goes_and_comes_is_told_once_each, set_up, tear_down)
{
	go_and_come(false);
}

TEST_WITH(a_host_whose_domain_is_heard_of_first_is_told_once_each, set_up, tear_down)
{
	go_and_come(true);
}

TEST_WITH(a_lost_question_is_no_event, set_up, tear_down)
{
	watch(1, "work:*");
	tell("", "");
	tell("work", "inbox");
	expect("1+b 1+7:inbox(work) ");
	fail_it("work", ECONNRESET);
	fail_it("", ECONNRESET);
	expect("");
	assert_int_equal(find(ASK_ENDPOINTS, "work")->known, 0); /* so that it is answered at once */
	tell("work", "inbox");
	tell("", "");
	expect("");
}

/* What waits a second is asked again in turns, each question paid for: a user may have thousands. */
TEST_WITH(questions_are_asked_again_in_pieces, set_up, tear_down)
{
	char list[4096] = "";
	unsigned before;

	for (unsigned i = 1; i <= HOST_WATCH_DOMAINS; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%u= ", i);
	for (uint32_t number = 1; number <= HOST_WATCHES_PER_SESSION; number++) {
		watch(number, "*:x");
		tell("", list);
		scene.session.heard[0] = '\0';
	}
	assert_int_equal(scene.out, HOST_WATCHES_PER_SESSION * (HOST_WATCH_DOMAINS + 1));
	scene.ask_error = -EHOSTDOWN;
	for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
		struct question *question = &scene.questions[i];

		if (!question->is_out)
			continue;
		question->is_out = false;
		scene.out--;
		question->told(NULL, question->asker, question->request, question->kind, "b",
			       &(struct frame_told){.error = EHOSTDOWN});
	}
	settle();
	before = scene.asked;
	scene.largest_pass = 0;
	while (scene.asked < before + 1000) { /* a second later */
		unsigned at = scene.asked, seen = scene.largest_pass;

		assert_int_equal(event_base_loop(scene.base, EVLOOP_ONCE), 0);
		assert_true(scene.largest_pass > seen || scene.asked - at <= scene.largest_pass);
	}
	assert_in_range(scene.largest_pass, 1, TURNS_PASS / 100);
}

/* A watch of which the host hasn't answered yet isn't asked along with one whose host has gone: a domain that
 * isn't there would refuse it. */
TEST_WITH(a_domain_is_asked_when_its_host_has_answered, set_up, tear_down)
{
	watch(1, "*");
	tell("", "");
	expect("1+b ");
	scene.ask_error = -EHOSTDOWN;
	fail_it("", EHOSTDOWN);
	expect("1-b ");
	scene.ask_error = 0;
	watch(2, "nobody");
	assert_int_equal(scene.out, 1);
	await_questions(2);
	settle();
	assert_null(find(ASK_ENDPOINTS, "nobody"));
}

TEST_WITH(what_is_no_pattern_is_refused, set_up, tear_down)
{
	static const char *const bad[] = {"", ":", "work:", "a/b", "work:a:b", "wo rk"};
	char longest[300];

	for (size_t i = 0; i < ROWS(bad); i++) {
		watch(1, bad[i]);
		assert_int_equal(scene.session.reply, EINVAL);
	}
	for (unsigned size = 120; size < 135; size++) {
		snprintf(longest, sizeof(longest), "work:%0*u", size, 7);
		watch(size, longest);
		assert_int_equal(scene.session.reply, size <= 2 * ENDPOINT_NAME_MAX ? -1 : EINVAL);
	}
}

TEST_WITH(a_watch_that_cannot_be_is_refused_once, set_up, tear_down)
{
	watch(1, "work");
	fail_it("", EACCES);
	assert_int_equal(scene.session.reply, EACCES);
	assert_int_equal(host_watches_remove(scene.watches, &scene.session, 1), -ENOENT);
	for (uint32_t number = 1; number <= HOST_WATCHES_PER_SESSION; number++)
		watch(number, "work");
	assert_int_equal(scene.session.reply, -1);
	watch(99, "work");
	assert_int_equal(scene.session.reply, ENOBUFS);
	host_watches_remove_session(scene.watches, &scene.session);
	assert_int_equal(scene.out, 0);
}

TEST_WITH(who_does_not_read_is_cut_off_once, set_up, tear_down)
{
	watch(1, "work");
	tell("", "");
	scene.session.full = true;
	tell("work", "a b c d");
	tell("work", "e");
	assert_int_equal(scene.session.cut_off, -ENOBUFS);
	host_watches_remove_session(scene.watches, &scene.session);
}

/* --- handing over ------------------------------------------------------------------------------ */

static uint8_t *hand_over(size_t *size)
{
	struct image image;

	host_watches_hold(scene.watches);
	settle();
	assert_int_equal(scene.out, 0);
	assert_true(host_watches_fit(scene.watches, &scene.session));
	image_begin(&image);
	host_watches_write_image(scene.watches, &image);
	return image_to_bytes(&image, size);
}

/* Reads it in a daemon that has none. */
static int take_over(const uint8_t *bytes, size_t size)
{
	struct hop *hop = &scene.session.hop;
	const struct image_hops hops = {.hops = &hop, .count = 1, .sessions = 1};
	struct image image;
	uint32_t type;
	int r;

	hop->owner = &scene.session;
	host_watches_free(scene.watches);
	scene.watches = host_watches_new(&scene.board, NULL);
	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		if (type == IMAGE_HOST_WATCH)
			host_watches_read_image(scene.watches, &image, &hops);
		else
			image_fail(&image, -EINVAL);
	r = image.error;
	image_free(&image);
	return r;
}

static uint8_t *hand_over_two(size_t *size)
{
	watch(1, "w*");
	tell("", "7=work");
	tell("7", "inbox print");
	expect("1+b 1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	watch(2, "work:in*");
	tell("", "7=work");
	tell("work", "inbox print");
	expect("2+b 2+7:inbox(work) ");
	return hand_over(size);
}

TEST_WITH(the_next_daemon_tells_what_differs, set_up, tear_down)
{
	uint8_t *bytes, *again;
	size_t size, size_again;

	bytes = hand_over_two(&size);
	assert_int_equal(take_over(bytes, size), 0);
	again = hand_over(&size_again);
	assert_int_equal(size_again, size);
	assert_memory_equal(again, bytes, size);
	host_watches_go_on(scene.watches);
	expect("");
	assert_int_equal(scene.out, 4);
	tell("7", "print scan");
	expect("1-7:inbox(work) 1+7:scan(work) ");
	tell("work", "inbox index print");
	expect("2+7:index(work) ");
	tell("", "8=play");
	tell("", "8=play");
	expect("1-7:print(work) 1-7:scan(work) 1-7(work) ");
	free(bytes);
	free(again);
}

/* By the next daemon, or this one if there is none. */
enum { HOST_ANSWERS, HOST_DENIES, NOBODY_TO_ASK, FIRST_ANSWERS };

TEST_EACH(a_watch_not_answered_yet_is_by_the_next_daemon, 2 * FIRST_ANSWERS)
{
	static const int replies[] = {0, EACCES, EHOSTDOWN};
	bool stays = unit_number(state) % 2;
	int what = unit_number(state) / 2;
	void *unused = NULL;
	uint8_t *bytes;
	size_t size;

	set_up(&unused);
	watch(1, "work:in*");
	assert_int_equal(host_watches_unanswered(scene.watches, &scene.session), 1);
	bytes = hand_over(&size);
	if (!stays)
		assert_int_equal(take_over(bytes, size), 0);
	free(bytes);
	assert_int_equal(scene.session.unanswered, !stays);
	assert_int_equal(host_watches_unanswered(scene.watches, &scene.session), 1);
	scene.ask_error = what == NOBODY_TO_ASK ? -EHOSTDOWN : 0;
	host_watches_go_on(scene.watches);
	scene.ask_error = 0;
	if (what == HOST_DENIES)
		answer("", NULL, EACCES, 0, "");
	else if (what == HOST_ANSWERS)
		tell("", "7=work");
	assert_int_equal(scene.session.reply, replies[what]);
	assert_int_equal(host_watches_unanswered(scene.watches, &scene.session), 0);
	if (what == HOST_ANSWERS) {
		tell("work", "inbox print");
		expect("1+b 1+7:inbox(work) ");
	}
	tear_down(&unused);
}

TEST_WITH(a_watch_that_stays_goes_on, set_up, tear_down)
{
	size_t size;

	free(hand_over_two(&size));
	host_watches_go_on(scene.watches);
	settle();
	tell("7", "inbox");
	expect("1-7:print(work) ");
}

TEST_WITH(a_watch_that_is_spoilt_is_refused_or_harmless, set_up, tear_down)
{
	size_t size;
	uint8_t *bytes;

	bytes = hand_over_two(&size);
	image_spoil("host-watch", bytes, size, size, 1, take_over);
	free(bytes);
}
