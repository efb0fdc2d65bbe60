/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a watch of another host is told: what is there, then each change, once, also when the host goes and
 * comes. The questions are the rig's own, and the test answers them.
 */
#include "tests/unit/watches_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/link/asks.h"
#include "daemon/serve/host_watches.h"
#include "daemon/serve/watches.h"

#define QUESTIONS_MAX 4096u

struct asked {
	bool is_out;
	enum ask_kind kind;
	char domain[DOMAIN_NAME_MAX + 1];
	uint64_t known;
	asks_told_fn told;
	void *asker;
	uint32_t request;
};

static struct scene scene;

static struct asking {
	struct asked questions[QUESTIONS_MAX];
	unsigned asked, out;
	int error;
	uint32_t flags; /* of what is told */
	uint64_t turn;
	long up;			/* as the program knew when the last one was asked */
	unsigned in_turn, largest_turn; /* questions in one */
	uint64_t version;
} asking;

/* --- the rig's questions ---------------------------------------------------------------------- */

int asks_ask(struct asks *asks, const struct ask_question *question, struct account *account,
	     asks_told_fn told, void *asker, uint32_t request)
{
	struct asked *free_one = asking.questions;

	asking.asked++;
	asking.up = scene.a.up;
	asking.in_turn = asking.turn == scene.turns.spent ? asking.in_turn + 1 : 1;
	asking.turn = scene.turns.spent;
	if (asking.in_turn > asking.largest_turn)
		asking.largest_turn = asking.in_turn;
	if (asking.error)
		return asking.error;
	while (free_one->is_out)
		assert_true(++free_one < asking.questions + QUESTIONS_MAX);
	*free_one = (struct asked){.is_out = true,
				   .kind = question->kind,
				   .known = question->known,
				   .told = told,
				   .asker = asker,
				   .request = request};
	snprintf(free_one->domain, sizeof(free_one->domain), "%s", question->domain);
	assert_string_equal(question->host, "b");
	asking.out++;
	return 0;
}

void asks_cancel(struct asks *asks, void *asker, uint32_t request)
{
	for (unsigned i = 0; i < QUESTIONS_MAX; i++)
		if (asking.questions[i].is_out && asking.questions[i].asker == asker) {
			asking.questions[i].is_out = false;
			asking.out--;
		}
}

/* --- the scene -------------------------------------------------------------------------------- */

static int listen_to_a_host(void)
{
	scene.a.is_of_host = true;
	scene.a.reply = -1;
	return 0;
}

static int set_up_with_users(void **state)
{
	asking = (struct asking){0};
	scene_start_with_users(&scene);
	return listen_to_a_host();
}

static int set_up(void **state)
{
	asking = (struct asking){0};
	scene_start(&scene);
	return listen_to_a_host();
}

static int tear_down(void **state)
{
	scene_stop(&scene);
	assert_int_equal(asking.out, 0);
	return 0;
}

static void hears(const char *what)
{
	expect(&scene, &scene.a, what);
}

static void look(uint32_t number, const char *pattern)
{
	const struct frame_identity from = {.uid = 1000};
	char text[400];
	struct address_parts parts;

	snprintf(text, sizeof(text), "b/%s", pattern);
	parts = address_split(text, strlen(text));
	scene.a.reply = -1;
	watches_add(scene.watches, new_question(&scene.a, number), &parts, &from);
}

/* Returns the question that is out about the host ("") or this domain, best one that knows nothing yet. */
static struct asked *find(enum ask_kind kind, const char *domain)
{
	struct asked *found = NULL;

	for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
		struct asked *question = &asking.questions[i];

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
	struct asked *question = find(kind, domain);
	struct frame_told told = {
		.error = error, .flags = asking.flags, .domid = domid, .name = frame_text_of(name)};
	uint8_t text[16384];
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
	told.version = ++asking.version;
	question->is_out = false;
	asking.out--;
	question->told(NULL, question->asker, question->request, kind, "b", &told);
	free(copy);
	settle(&scene);
}

static void tell(const char *domain, const char *list)
{
	answer(domain, list, 0, *domain ? 7 : 0, *domain ? "work" : "");
}

static void fail_it(const char *domain, uint32_t error)
{
	answer(domain, NULL, error, 0, "");
}

/* All questions fail, in one pass. */
static void fail_all(uint32_t error)
{
	for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
		struct asked *question = &asking.questions[i];

		if (!question->is_out)
			continue;
		question->is_out = false;
		asking.out--;
		question->told(NULL, question->asker, question->request, question->kind, "b",
			       &(struct frame_told){.error = error});
	}
}

/* --- tests ------------------------------------------------------------------------------------ */

TEST_WITH(what_is_there_is_told_first_and_then_each_change, set_up, tear_down)
{
	look(1, "work");
	assert_int_equal(scene.a.reply, -1);
	tell("", "7=work");
	assert_int_equal(scene.a.reply, 0);
	hears("1+b ");
	tell("work", "inbox print");
	hears("1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	tell("work", "print scan");
	hears("1+7:scan(work) 1-7:inbox(work) ");
	assert_int_equal(find(ASK_ENDPOINTS, "work")->known, asking.version);
	/* Another domain has the name now. */
	answer("work", "scan", 0, 9, "work");
	hears("1-7:print(work) 1-7:scan(work) 1-7(work) 1+9(work) 1+9:scan(work) ");
	answer("work", "scan", 0, 9, "play");
	hears("1-9:scan(work) 1-9(work) 1+9(play) 1+9:scan(play) ");
}

TEST_WITH(a_watch_hears_once_that_all_which_was_there_is_told, set_up, tear_down)
{
	look(1, "work");
	tell("", "7=work");
	hears("1+b ");
	assert_int_equal(scene.a.lists, 0);
	tell("work", "inbox");
	hears("1+7(work) 1+7:inbox(work) ");
	assert_int_equal(scene.a.lists, 1);
	/* Of each domain that a pattern means, when there is none, and though one of them can't be asked. */
	look(2, "p*");
	tell("", "7=work 8=play 9=pool");
	hears("2+b ");
	answer("8", "inbox", 0, 8, "play");
	hears("2+8(play) 2+8:inbox(play) ");
	assert_int_equal(scene.a.lists, 1);
	fail_it("9", EHOSTDOWN);
	assert_int_equal(scene.a.lists, 2);
	look(3, "z*");
	tell("", "7=work");
	hears("3+b ");
	assert_int_equal(scene.a.lists, 3);
	/* What comes is news. */
	tell("work", "inbox print");
	answer("8", "inbox print", 0, 8, "play");
	hears("1+7:print(work) 2+8:print(play) ");
	assert_int_equal(scene.a.lists, 3);
}

/* What a domain of the host, or the host, has beyond what it tells. */
TEST_WITH(a_watch_hears_whenever_a_list_is_cut_or_whole_again, set_up, tear_down)
{
	scene.a.hears_lists = true;
	asking.flags = TOLD_CUT;
	look(1, "work");
	tell("", "7=work");
	tell("work", "inbox");
	hears("1+b 1+7(work) 1+7:inbox(work) 1~. ");
	tell("work", "inbox print");
	hears("1+7:print(work) ");
	asking.flags = 0;
	tell("work", "inbox print");
	hears("1. ");
	asking.flags = TOLD_CUT;
	tell("work", "inbox print");
	hears("1~. ");
	fail_it("work", EHOSTDOWN);
	for (unsigned i = 0; i < 2; i++)
		fail_it("work", EHOSTDOWN);
	hears("1-7:inbox(work) 1-7:print(work) 1-7(work) 1. ");
}

TEST_WITH(a_pattern_means_the_domains_that_are_told, set_up, tear_down)
{
	look(1, "w*:in*");
	tell("", "7=work 8=play 9=");
	hears("1+b ");
	assert_null(find(ASK_ENDPOINTS, "8"));
	tell("7", "inbox print");
	hears("1+7:inbox(work) ");
	tell("", "8=play");
	hears("1-7:inbox(work) ");
	assert_null(find(ASK_ENDPOINTS, "7"));
}

/* A host's domain may be told by the place of its old number when it gets a new one. */
TEST_WITH(a_domain_of_a_pattern_is_told_by_its_own_place_only, set_up, tear_down)
{
	look(1, "*");
	tell("", "7=work 8=play");
	tell("7", "inbox");
	answer("8", "print", 0, 8, "play");
	hears("1+b 1+7(work) 1+7:inbox(work) 1+8(play) 1+8:print(play) ");
	answer("7", "inbox", 0, 8, "play");
	hears("");
	tell("", "8=play");
	hears("1-7:inbox(work) 1-7(work) ");
	answer("8", "print", 0, 8, "play");
	hears("");
}

/* Returns a list of numbered domains, or of endpoints. */
static const char *list_of(const char *before, const char *behind, unsigned first, unsigned last)
{
	static char list[4096];
	size_t used = 0;

	for (unsigned i = first; i <= last; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%u%s ", before, i, behind);
	assert_true(used < sizeof(list));
	return list;
}

TEST_WITH(a_pattern_hears_whenever_the_domains_are_cut_or_whole_again, set_up, tear_down)
{
	scene.a.hears_lists = true;
	asking.flags = TOLD_CUT;
	look(1, "p*");
	tell("", "7=work");
	hears("1+b 1~. ");
	asking.flags = 0;
	tell("", "7=work");
	hears("1. ");
	tell("", list_of("", "=p", 1, HOST_WATCH_DOMAINS + 1));
	hears("1~. ");
}

TEST_WITH(a_pattern_means_a_domain_as_soon_as_there_is_room, set_up, tear_down)
{
	look(1, "*");
	tell("", list_of("", "=", 1, HOST_WATCH_DOMAINS + 1));
	assert_null(find(ASK_ENDPOINTS, "129"));
	for (unsigned i = 0; i < 2; i++) {
		tell("", list_of("", "=", 2, HOST_WATCH_DOMAINS + 1));
		assert_int_equal(find(ASK_DOMAINS, "")->known, i ? asking.version : 0);
	}
	assert_non_null(find(ASK_ENDPOINTS, "129"));
}

/* All that a host has goes at once, more than is kept for programs that are late. */
TEST_WITH(a_host_that_goes_with_much_cuts_nobody_off, set_up, tear_down)
{
	scene.a.counts = true;
	look(1, "*");
	tell("", list_of("", "=", 1, HOST_WATCH_DOMAINS));
	for (unsigned i = 1; i <= HOST_WATCH_DOMAINS; i++) {
		char domain[12];

		snprintf(domain, sizeof(domain), "%u", i);
		answer(domain, list_of("n", "", 1, 70), 0, i, "");
	}
	assert_true(scene.a.up > WATCHES_GONE_MAX);
	asking.error = -EHOSTDOWN;
	fail_all(EHOSTDOWN);
	settle(&scene);
	assert_int_equal(scene.a.cut_off, 0);
	assert_int_equal(scene.a.up, 0);
}

/* A second later they are asked again. */
static void await_questions(unsigned count)
{
	while (asking.out < count)
		assert_int_equal(event_base_loop(scene.base, EVLOOP_ONCE), 0);
}

/* The host goes for all of its questions, in this order, and comes back: nothing is missed, and nothing told
 * twice. */
TEST_EACH(a_host_that_goes_and_comes_is_told_once_each, 2)
{
	bool domain_first = unit_number(state);
	const char *first = domain_first ? "work" : "", *second = domain_first ? "" : "work";
	void *unused = NULL;

	set_up(&unused);
	look(1, "work");
	tell("", "7=work");
	tell("work", "inbox");
	hears("1+b 1+7(work) 1+7:inbox(work) ");
	asking.error = -EHOSTDOWN;
	fail_it(first, EHOSTDOWN);
	fail_it(second, EHOSTDOWN);
	hears(domain_first ? "1-7:inbox(work) 1-7(work) 1-b " : "1-b 1-7:inbox(work) 1-7(work) ");
	assert_int_equal(asking.out, 0);
	asking.error = 0;
	await_questions(2);
	tell(first, domain_first ? "inbox" : "7=work");
	tell(second, domain_first ? "7=work" : "inbox");
	hears(domain_first ? "1+7(work) 1+7:inbox(work) 1+b " : "1+b 1+7(work) 1+7:inbox(work) ");
	tear_down(&unused);
}

TEST_WITH(a_lost_question_is_no_event, set_up, tear_down)
{
	look(1, "work:*");
	tell("", "");
	tell("work", "inbox");
	hears("1+b 1+7:inbox(work) ");
	fail_it("work", ECONNRESET);
	fail_it("", ECONNRESET);
	hears("");
	assert_int_equal(find(ASK_ENDPOINTS, "work")->known, 0); /* so that it is answered at once */
	tell("work", "inbox");
	tell("", "");
	hears("");
}

/* What a host has told, and what waits a second, is asked in turns, each question paid for: a user may have
 * thousands. */
TEST_WITH(questions_are_asked_in_pieces, set_up, tear_down)
{
	const char *list = list_of("", "=", 1, HOST_WATCH_DOMAINS);
	unsigned before;

	for (uint32_t number = 1; number <= HOST_WATCHES_PER_ASKER; number++) {
		look(number, "*:x");
		tell("", list);
		scene.a.heard[0] = '\0';
	}
	assert_int_equal(asking.out, HOST_WATCHES_PER_ASKER * (HOST_WATCH_DOMAINS + 1));
	assert_in_range(asking.largest_turn, 1, TURNS_PIECE / 100);
	asking.error = -EHOSTDOWN;
	fail_all(EHOSTDOWN);
	settle(&scene);
	before = asking.asked;
	asking.largest_turn = 0;
	while (asking.asked < before + 1000) /* a second later */
		assert_int_equal(event_base_loop(scene.base, EVLOOP_ONCE), 0);
	assert_in_range(asking.largest_turn, 1, TURNS_PIECE / 100);
}

/* So what is kept for the program has a bound, whatever a host tells. */
TEST_WITH(a_host_is_asked_again_when_its_program_was_told, set_up, tear_down)
{
	scene.a.counts = true;
	look(1, "7");
	tell("", "");
	answer("7", list_of("n", "", 1, 500), 0, 7, "");
	assert_int_equal(asking.up, 500);
}

TEST_WITH(a_host_that_answers_at_once_is_asked_less_often, set_up, tear_down)
{
	unsigned asked = 0;

	look(1, "7");
	for (; find(ASK_DOMAINS, "") && asked < 100; asked++)
		tell("", "");
	assert_in_range(asked, 8, 20);
	await_questions(asking.out + 1); /* a second later */
	assert_non_null(find(ASK_DOMAINS, ""));
}

/* A watch of which the host hasn't answered yet isn't asked along with one whose host has gone: a domain that
 * isn't there would refuse it. */
TEST_WITH(a_domain_is_asked_when_its_host_has_answered, set_up, tear_down)
{
	look(1, "*");
	tell("", "");
	hears("1+b ");
	asking.error = -EHOSTDOWN;
	fail_it("", EHOSTDOWN);
	hears("1-b ");
	asking.error = 0;
	look(2, "nobody");
	assert_int_equal(asking.out, 1);
	await_questions(2);
	settle(&scene);
	assert_null(find(ASK_ENDPOINTS, "nobody"));
}

TEST_WITH(what_is_no_pattern_is_refused, set_up, tear_down)
{
	static const char *const bad[] = {"", ":", "work:", "a/b", "work:a:b", "wo rk"};
	char longest[300];

	for (size_t i = 0; i < ROWS(bad); i++) {
		look(1, bad[i]);
		assert_int_equal(scene.a.reply, EINVAL);
	}
	for (unsigned size = 120; size < 135; size++) {
		snprintf(longest, sizeof(longest), "work:%0*u", size, 7);
		look(size, longest);
		assert_int_equal(scene.a.reply, size <= 2 * ENDPOINT_NAME_MAX ? -1 : EINVAL);
	}
}

TEST_WITH(a_watch_that_cannot_be_is_refused_once, set_up, tear_down)
{
	look(1, "work");
	fail_it("", EACCES);
	assert_int_equal(scene.a.reply, EACCES);
	assert_null(scene.a.questions);
	for (uint32_t number = 1; number <= HOST_WATCHES_PER_ASKER; number++)
		look(number, "work");
	assert_int_equal(scene.a.reply, -1);
	look(99, "work");
	assert_int_equal(scene.a.reply, ENOBUFS);
	unwatch_all(&scene, &scene.a);
	assert_int_equal(asking.out, 0);
}

TEST_WITH(who_lacks_memory_is_cut_off_once, set_up, tear_down)
{
	look(1, "work");
	tell("", "");
	scene.a.full = true;
	tell("work", "a b c d");
	tell("work", "e");
	assert_int_equal(scene.a.cut_off, -ENOMEM);
	unwatch_all(&scene, &scene.a);
}

/* What isn't paid for isn't kept, nor told. */
TEST_WITH(a_user_pays_for_what_is_kept_of_a_host, set_up_with_users, tear_down)
{
	look(1, "work");
	tell("", "7=work");
	hears("1+b ");
	tell("work", "inbox");
	hears("");
	assert_int_equal(scene.a.lists, 1);
	assert_int_equal(account_usage(scene.a.hop.account, QUOTA_BYTES).refused, 1);
	await_questions(2);
}

/* --- handing over ------------------------------------------------------------------------------ */

/* The next daemon begins them anew, and asks for all that they mean before it says what there is. */
TEST_WITH(what_has_stood_is_begun_anew_though_the_host_is_late, set_up, tear_down)
{
	scene.a.hears_lists = scene.a.has_stood = true;
	look(1, "w*");
	assert_int_equal(scene.a.reply, 0);
	settle(&scene);
	look(2, "work:in*");
	settle(&scene);
	assert_int_equal(asking.out, 3);
	fail_it("", EHOSTDOWN);
	fail_it("", EAGAIN);
	hears("");
	await_questions(3);
	tell("", "7=work");
	tell("", "7=work");
	fail_it("7", EHOSTDOWN);
	tell("7", "inbox print");
	tell("work", "inbox print");
	hears("2+b 1+b 1+7(work) 1+7:inbox(work) 1+7:print(work) 1. 2+7:inbox(work) 2. ");
}

/* A daemon that hands over has no answer: this one, which tells nothing of that, or the other one. */
TEST_WITH(a_hand_over_is_no_reason_to_tell_that_the_host_has_gone, set_up, tear_down)
{
	look(1, "work");
	fail_it("", EAGAIN);
	assert_int_equal(scene.a.again, 1);
	look(1, "work");
	tell("", "7=work");
	tell("work", "inbox");
	hears("1+b 1+7(work) 1+7:inbox(work) ");
	asking.error = -EAGAIN;
	fail_all(EAGAIN);
	settle(&scene);
	asking.error = 0;
	await_questions(2);
	hears("");
}
