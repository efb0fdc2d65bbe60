/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who is told of what comes and goes: what is there first, then each change, once, and nothing else. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/base/self.h"
#include "daemon/relay/hop.h"
#include "daemon/base/quota.h"
#include "daemon/peers/directory.h"
#include "daemon/local/session.h"
#include "daemon/base/turns.h"
#include "daemon/local/watches.h"

#define OWN	      5
#define HEARD_MAX     4096
#define MODEL_NAMES   300u
#define MODEL_WATCHES 8u
#define SEEDS	      20u

/* --- sessions that only keep what they are told ----------------------------------------------- */

struct session {
	struct hop hop;
	/* "1+7(work) 1+7:inbox(work) ...": number of the watch, event, domid, endpoint, name */
	char heard[HEARD_MAX];
	size_t heard_before; /* this WATCH */
	int reply;	     /* the last one's error; -1: none */
	uint32_t replied_to;
	bool full;   /* takes no more */
	bool counts; /* keeps the number of events, and the names that are up, and not all that it heard */
	unsigned long events;
	long up;
	/* keeps what is up as it hears of it: of each watch the domain, and the endpoints "n<number>" */
	unsigned char *model;
	int cut_off;
};

struct hop *session_hop(struct session *session)
{
	return &session->hop;
}

int session_reply(struct session *session, uint32_t request, int error, const void *body, size_t size)
{
	assert_true(error == 0 || (size > 0 && memchr(body, '\0', size) == NULL)); /* an error says why */
	assert_int_equal(session->reply, -1);
	assert_int_equal(strlen(session->heard), session->heard_before); /* it comes before the first event */
	session->reply = error;
	session->replied_to = request;
	return 0;
}

void session_cut_off(struct session *session, int error, const char *why)
{
	session->cut_off = error;
}

int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length)
{
	struct session *session = (struct session *)(void *)hop;
	size_t used = strlen(session->heard);
	struct frame_event event;

	assert_int_equal(type, FRAME_EVENT);
	assert_int_equal(flags, 0);
	if (session->full)
		return -ENOBUFS;
	assert_int_equal(frame_event_decode(payload, length, &event), 0);
	if (session->model) {
		bool of_endpoint = event.kind == EVENT_ENDPOINT_UP || event.kind == EVENT_ENDPOINT_DOWN;
		char text[8] = "";
		unsigned which;

		if (of_endpoint)
			memcpy(text, event.text.data + 1, event.text.size - 1);
		which = of_endpoint ? (unsigned)atoi(text) + 1 : 0;
		assert_true(which <= MODEL_NAMES && channel < MODEL_WATCHES);
		session->model[channel * (MODEL_NAMES + 1) + which] =
			event.kind == EVENT_ENDPOINT_UP || event.kind == EVENT_DOMAIN_UP;
		return 0;
	}
	if (session->counts) {
		session->events++;
		session->up += event.kind == EVENT_ENDPOINT_UP	   ? 1
			       : event.kind == EVENT_ENDPOINT_DOWN ? -1
								   : 0;
		return 0;
	}
	if (event.kind == EVENT_ENDPOINT_UP || event.kind == EVENT_ENDPOINT_DOWN)
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%u:%.*s(%.*s) ", channel,
			 event.kind == EVENT_ENDPOINT_UP ? '+' : '-', event.domid, (int)event.text.size,
			 event.text.data, (int)event.domain_name.size,
			 event.domain_name.data ? event.domain_name.data : "");
	else
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%u(%.*s) ", channel,
			 event.kind == EVENT_DOMAIN_UP ? '+' : '-', event.domid, (int)event.text.size,
			 event.text.data);
	return 0;
}

/* --- the scene -------------------------------------------------------------------------------- */

struct scene {
	struct event_base *base;
	struct self self;
	bool keeps_secrets; /* from all but `a` */
	struct turns turns;
	unsigned passes;
	struct watches *watches;
	struct session a, b;
	char names[16][32]; /* of domains, as they are now */
	char patterns[MODEL_WATCHES][32];
};

/* Stands in for the directory. */
const char *directory_name(struct directory *directory, uint32_t domid)
{
	const struct scene *scene = (struct scene *)(void *)directory;

	return domid < 16 ? scene->names[domid] : "";
}

static bool sees(void *userdata, const struct session *session, const char *endpoint)
{
	struct scene *scene = userdata;

	return !scene->keeps_secrets || session == &scene->a || strncmp(endpoint, "secret", 6) != 0;
}

static bool pass(void *userdata)
{
	struct scene *scene = userdata;

	scene->passes++;
	while (turns_run(&scene->turns))
		;
	return false;
}

static void one_pass(struct scene *scene)
{
	event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

/* Everybody has heard everything. */
static void settle(struct scene *scene)
{
	do
		one_pass(scene);
	while (scene->turns.due);
}

static void scene_start(struct scene *scene)
{
	*scene = (struct scene){.base = event_base_new(), .self.domid = OWN};
	assert_int_equal(turns_init(&scene->turns, scene->base, pass, scene), 0);
	scene->watches = watches_new(&scene->turns, &scene->self, (void *)scene, sees, scene);
	assert_non_null(scene->watches);
	strcpy(scene->names[7], "work");
	strcpy(scene->names[OWN], "home");
}

static void scene_stop(struct scene *scene)
{
	watches_free(scene->watches);
	turns_cleanup(&scene->turns);
	event_base_free(scene->base);
}

static int watch(struct scene *scene, struct session *session, uint32_t number, const char *pattern)
{
	session->reply = -1;
	session->heard_before = strlen(session->heard);
	watches_add(scene->watches, session, number, (struct frame_text){pattern, strlen(pattern)});
	assert_int_equal(session->replied_to, number);
	assert_true(session->reply >= 0);
	return session->reply;
}

/* Exactly this was said since the last time. */
static void expect(struct scene *scene, struct session *session, const char *what)
{
	settle(scene);
	assert_string_equal(session->heard, what);
	session->heard[0] = '\0';
}

static void endpoints(struct scene *scene, uint32_t domid, const char *list)
{
	char text[256];
	const char *names[16];
	unsigned count = 0;

	snprintf(text, sizeof(text), "%s", list);
	for (char *name = strtok(text, " "); name; name = strtok(NULL, " "))
		names[count++] = name;
	watches_endpoints(scene->watches, domid, names, count);
}

/* --- promises --------------------------------------------------------------------------------- */

static void what_is_there_is_told_first_and_then_each_change(void **state)
{
	struct scene scene;

	scene_start(&scene);
	watches_domain(scene.watches, 7, true);
	endpoints(&scene, 7, "inbox print");
	assert_int_equal(watch(&scene, &scene.a, 1, "7"), 0);
	expect(&scene, &scene.a, "1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	watches_endpoint(scene.watches, 7, "scan", true);
	expect(&scene, &scene.a, "1+7:scan(work) ");
	watches_endpoint(scene.watches, 7, "print", false);
	expect(&scene, &scene.a, "1-7:print(work) ");
	/* A domain goes behind all that it had. */
	watches_domain(scene.watches, 7, false);
	expect(&scene, &scene.a, "1-7:inbox(work) 1-7:scan(work) 1-7(work) ");
	watches_domain(scene.watches, 7, true);
	expect(&scene, &scene.a, "1+7(work) ");
	scene_stop(&scene);
}

static void what_has_not_changed_is_not_told(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(watch(&scene, &scene.a, 1, "*"), 0);
	expect(&scene, &scene.a, "");
	for (int i = 0; i < 2; i++) {
		watches_domain(scene.watches, 7, true);
		endpoints(&scene, 7, "inbox print");
		watches_endpoint(scene.watches, 7, "inbox", true);
		expect(&scene, &scene.a, i ? "" : "1+7(work) 1+7:inbox(work) 1+7:print(work) ");
	}
	for (int i = 0; i < 2; i++) {
		watches_endpoint(scene.watches, 7, "print", false);
		expect(&scene, &scene.a, i ? "" : "1-7:print(work) ");
	}
	for (int i = 0; i < 2; i++) {
		watches_domain(scene.watches, 7, false);
		watches_endpoint(scene.watches, 7, "inbox", false);
		expect(&scene, &scene.a, i ? "" : "1-7:inbox(work) 1-7(work) ");
	}
	scene_stop(&scene);
}

static void list_of_endpoints_is_told_as_what_changed_in_it(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(watch(&scene, &scene.a, 1, "7:*"), 0);
	endpoints(&scene, 7, "one two three");
	expect(&scene, &scene.a, "1+7:one(work) 1+7:two(work) 1+7:three(work) ");
	endpoints(&scene, 7, "three four one");
	expect(&scene, &scene.a, "1+7:four(work) 1-7:two(work) ");
	endpoints(&scene, 7, "");
	expect(&scene, &scene.a, "1-7:one(work) 1-7:three(work) 1-7:four(work) ");
	endpoints(&scene, 7, "one");
	expect(&scene, &scene.a, "1+7:one(work) ");
	scene_stop(&scene);
}

static void pattern_means_what_it_says(void **state)
{
	static const struct {
		const char *pattern, *told;
	} cases[] = {
		{"7", "1+7(work) 1+7:inbox(work) 1+7:print(work) "},
		{"work", "1+7(work) 1+7:inbox(work) 1+7:print(work) "},
		{"w?rk", "1+7(work) 1+7:inbox(work) 1+7:print(work) "},
		{"self", "1+5(home) 1+5:inbox(home) "},
		{"home", "1+5(home) 1+5:inbox(home) "},
		{"[78]:inbox", "1+7:inbox(work) 1+8:inbox() "},
		{"*:inbox", "1+5:inbox(home) 1+7:inbox(work) 1+8:inbox() "},
		{"*:pr*", "1+7:print(work) "},
		{"self:*", "1+5:inbox(home) "},
		{"7:nothing", ""},
		{"77", ""},
		{"wor", ""},
		{"play", ""},
		{"7:Inbox", ""},
	};
	struct scene scene;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		/* Whether it was there before the watch, or comes. */
		for (int late = 0; late < 2; late++) {
			scene_start(&scene);
			if (late)
				assert_int_equal(watch(&scene, &scene.a, 1, cases[i].pattern), 0);
			watches_domain(scene.watches, OWN, true);
			endpoints(&scene, OWN, "inbox");
			watches_domain(scene.watches, 7, true);
			endpoints(&scene, 7, "inbox print");
			endpoints(&scene, 8, "inbox"); /* known before it is up; without a name */
			if (!late)
				assert_int_equal(watch(&scene, &scene.a, 1, cases[i].pattern), 0);
			expect(&scene, &scene.a, cases[i].told);
			scene_stop(&scene);
		}
	}
}

static void what_is_no_pattern_is_refused(void **state)
{
	char name[DOMAIN_NAME_MAX + 2], endpoint[2 * ENDPOINT_NAME_MAX + 8] = "7:";
	static const char *const bad[] = {"",	":",	    ":inbox", "7:",	"7:a:b",
					  "7 ", "7:in box", "7\n",    "7:\x7f", "\xc3\xa4"};
	struct scene scene;

	scene_start(&scene);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(watch(&scene, &scene.a, 1, bad[i]), EINVAL);
	/* The longest, and one more. */
	memset(name, 'x', sizeof(name));
	name[DOMAIN_NAME_MAX + 1] = '\0';
	assert_int_equal(watch(&scene, &scene.a, 1, name), EINVAL);
	name[DOMAIN_NAME_MAX] = '\0';
	assert_int_equal(watch(&scene, &scene.a, 1, name), 0);
	memset(endpoint + 2, 'x', 2 * ENDPOINT_NAME_MAX + 1);
	assert_int_equal(watch(&scene, &scene.a, 2, endpoint), EINVAL);
	endpoint[2 + 2 * ENDPOINT_NAME_MAX] = '\0';
	assert_int_equal(watch(&scene, &scene.a, 2, endpoint), 0);
	/* Those that were refused watch nothing. */
	watches_domain(scene.watches, 7, true);
	expect(&scene, &scene.a, "");
	scene_stop(&scene);
}

static void each_watch_is_told_under_its_own_number(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(watch(&scene, &scene.a, 3, "7"), 0);
	assert_int_equal(watch(&scene, &scene.a, 9, "*:inbox"), 0);
	assert_int_equal(watch(&scene, &scene.b, 3, "work"), 0);
	watches_domain(scene.watches, 7, true);
	watches_endpoint(scene.watches, 7, "inbox", true);
	expect(&scene, &scene.a, "3+7(work) 3+7:inbox(work) 9+7:inbox(work) ");
	expect(&scene, &scene.b, "3+7(work) 3+7:inbox(work) ");
	scene_stop(&scene);
}

static void watch_that_has_ended_is_silent(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(watch(&scene, &scene.a, 1, "*"), 0);
	assert_int_equal(watch(&scene, &scene.a, 2, "*"), 0);
	assert_int_equal(watch(&scene, &scene.b, 1, "*"), 0);
	assert_int_equal(watches_remove(scene.watches, &scene.a, 1), 0);
	assert_int_equal(watches_remove(scene.watches, &scene.a, 1), -ENOENT);
	assert_int_equal(watches_remove(scene.watches, &scene.b, 2), -ENOENT); /* another's */
	watches_domain(scene.watches, 7, true);
	expect(&scene, &scene.a, "2+7(work) ");
	expect(&scene, &scene.b, "1+7(work) ");
	watches_remove_session(scene.watches, &scene.a);
	watches_domain(scene.watches, 7, false);
	expect(&scene, &scene.a, "");
	expect(&scene, &scene.b, "1-7(work) ");
	scene_stop(&scene);
}

static void program_may_have_64_watches(void **state)
{
	struct scene scene;

	scene_start(&scene);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(watch(&scene, &scene.a, i, "7"), 0);
	assert_int_equal(watch(&scene, &scene.a, 64, "7"), ENOBUFS);
	assert_int_equal(watch(&scene, &scene.b, 0, "7"), 0); /* others have theirs */
	assert_int_equal(watches_remove(scene.watches, &scene.a, 5), 0);
	assert_int_equal(watch(&scene, &scene.a, 64, "7"), 0);
	scene_stop(&scene);
}

static void program_that_does_not_read_is_cut_off_and_others_are_told(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(watch(&scene, &scene.a, 1, "*"), 0);
	assert_int_equal(watch(&scene, &scene.b, 1, "*"), 0);
	scene.a.full = true;
	watches_domain(scene.watches, 7, true);
	settle(&scene);
	assert_int_equal(scene.a.cut_off, -ENOBUFS);
	assert_int_equal(scene.b.cut_off, 0);
	expect(&scene, &scene.b, "1+7(work) ");
	scene_stop(&scene);
}

static void rename_domain(struct scene *scene, uint32_t domid, const char *name)
{
	strcpy(scene->names[domid], name);
	watches_renamed(scene->watches, domid, name);
}

static void renamed_domain_goes_for_its_old_name_and_comes_for_its_new_one(void **state)
{
	struct scene scene;

	scene_start(&scene);
	watches_domain(scene.watches, 7, true);
	endpoints(&scene, 7, "inbox");
	assert_int_equal(watch(&scene, &scene.a, 1, "work"), 0);
	assert_int_equal(watch(&scene, &scene.a, 2, "play"), 0);
	assert_int_equal(watch(&scene, &scene.a, 3, "work:*"), 0);
	assert_int_equal(watch(&scene, &scene.a, 4, "play:inbox"), 0);
	assert_int_equal(watch(&scene, &scene.b, 5, "7"), 0);
	assert_int_equal(watch(&scene, &scene.b, 6, "7:*"), 0);
	expect(&scene, &scene.a, "1+7(work) 1+7:inbox(work) 3+7:inbox(work) ");
	expect(&scene, &scene.b, "5+7(work) 5+7:inbox(work) 6+7:inbox(work) ");
	rename_domain(&scene, 7, "play");
	expect(&scene, &scene.a,
	       "1-7:inbox(work) 3-7:inbox(work) 1-7(work) 2+7(play) 2+7:inbox(play) 4+7:inbox(play) ");
	expect(&scene, &scene.b, "5+7(play) ");
	/* The same name again, or one of a domain that nobody knows, is nothing new. */
	rename_domain(&scene, 7, "play");
	rename_domain(&scene, 9, "work");
	expect(&scene, &scene.a, "");
	expect(&scene, &scene.b, "");
	/* No name any more. */
	rename_domain(&scene, 7, "");
	expect(&scene, &scene.a, "2-7:inbox(play) 4-7:inbox(play) 2-7(play) ");
	expect(&scene, &scene.b, "");
	rename_domain(&scene, 7, "work");
	expect(&scene, &scene.a, "1+7(work) 1+7:inbox(work) 3+7:inbox(work) ");
	expect(&scene, &scene.b, "5+7(work) ");
	scene_stop(&scene);
}

static void own_domain_with_another_number_goes_and_comes(void **state)
{
	struct scene scene;

	scene_start(&scene);
	strcpy(scene.names[9], "home");
	watches_domain(scene.watches, OWN, true);
	endpoints(&scene, OWN, "inbox");
	assert_int_equal(watch(&scene, &scene.a, 1, "self"), 0);
	assert_int_equal(watch(&scene, &scene.a, 2, "5"), 0);
	assert_int_equal(watch(&scene, &scene.a, 3, "9:*"), 0);
	expect(&scene, &scene.a, "1+5(home) 2+5(home) 1+5:inbox(home) 2+5:inbox(home) ");
	scene.self.domid = 9;
	watches_restart(scene.watches);
	expect(&scene, &scene.a,
	       "1-5:inbox(home) 2-5:inbox(home) 1-5(home) 2-5(home) 1+9(home) 1+9:inbox(home) 3+9:inbox(home) ");
	/* From then on it is known under the new one. */
	watches_endpoint(scene.watches, 9, "inbox", false);
	expect(&scene, &scene.a, "1-9:inbox(home) 3-9:inbox(home) ");
	scene_stop(&scene);
}

static void program_is_not_told_of_what_it_may_not_learn_of(void **state)
{
	struct scene scene;

	scene_start(&scene);
	scene.keeps_secrets = true;
	watches_domain(scene.watches, OWN, true);
	endpoints(&scene, OWN, "inbox secret");
	assert_int_equal(watch(&scene, &scene.a, 1, "self:*"), 0);
	assert_int_equal(watch(&scene, &scene.b, 1, "self:*"), 0);
	expect(&scene, &scene.a, "1+5:inbox(home) 1+5:secret(home) ");
	expect(&scene, &scene.b, "1+5:inbox(home) ");
	watches_endpoint(scene.watches, OWN, "secret2", true);
	watches_endpoint(scene.watches, OWN, "secret", false);
	expect(&scene, &scene.a, "1+5:secret2(home) 1-5:secret(home) ");
	expect(&scene, &scene.b, "");
	/* What other domains tell us of, they tell everybody here. */
	endpoints(&scene, 7, "secret");
	assert_int_equal(watch(&scene, &scene.b, 2, "7:*"), 0);
	expect(&scene, &scene.b, "2+7:secret(work) ");
	scene_stop(&scene);
}

/* --- who is late ------------------------------------------------------------------------------ */

static void what_came_and_went_before_it_was_told_is_not_told(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(watch(&scene, &scene.a, 1, "7"), 0);
	watches_domain(scene.watches, 7, true);
	endpoints(&scene, 7, "inbox print");
	endpoints(&scene, 7, "print");
	endpoints(&scene, 7, "print scan");
	endpoints(&scene, 7, "scan");
	expect(&scene, &scene.a, "1+7(work) 1+7:scan(work) ");
	/* What it knows and what goes and comes may be another one. */
	endpoints(&scene, 7, "");
	endpoints(&scene, 7, "scan");
	watches_domain(scene.watches, 7, false);
	watches_domain(scene.watches, 7, true);
	endpoints(&scene, 7, "scan");
	expect(&scene, &scene.a, "1-7(work) 1+7(work) 1-7:scan(work) 1+7:scan(work) ");
	/* And what it knows, and is gone in the end, goes once. */
	watches_domain(scene.watches, 7, false);
	watches_domain(scene.watches, 7, true);
	watches_domain(scene.watches, 7, false);
	expect(&scene, &scene.a, "1-7:scan(work) 1-7(work) ");
	scene_stop(&scene);
}

static void who_is_late_hears_of_two_names_how_it_ended(void **state)
{
	struct scene scene;

	scene_start(&scene);
	watches_domain(scene.watches, 7, true);
	endpoints(&scene, 7, "inbox");
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(watch(&scene, &scene.a, i, i == 1 ? "work" : i == 2 ? "rest" : "7"), 0);
	expect(&scene, &scene.a, "1+7(work) 3+7(work) 1+7:inbox(work) 3+7:inbox(work) ");
	rename_domain(&scene, 7, "play");
	rename_domain(&scene, 7, "rest");
	expect(&scene, &scene.a, "1-7:inbox(work) 1-7(work) 2+7(rest) 3+7(rest) 2+7:inbox(rest) ");
	/* What goes under the new name was known under the old one. */
	rename_domain(&scene, 7, "work");
	watches_endpoint(scene.watches, 7, "inbox", false);
	expect(&scene, &scene.a, "2-7:inbox(rest) 2-7(rest) 1+7(work) 3+7(work) 3-7:inbox(work) ");
	/* A watch that comes after all that hears what is there. */
	assert_int_equal(watch(&scene, &scene.b, 9, "*"), 0);
	expect(&scene, &scene.b, "9+7(work) ");
	scene_stop(&scene);
}

#define CROWD	 250
#define PATTERNS 64
#define NAMES	 680

static void leaf(struct scene *scene, unsigned first, unsigned count)
{
	static char texts[NAMES][16];
	static const char *names[NAMES];

	for (unsigned i = 0; i < count; i++) {
		snprintf(texts[i], sizeof(texts[i]), "n%u", first + i);
		names[i] = texts[i];
	}
	watches_endpoints(scene->watches, 7, names, count);
}

/* One user's 16,000 patterns and a peer's 680 names cost that user's time: another one hears of all of them
 * after a bounded part of it. */
static void crowd_of_one_user_waits_for_itself_and_others_do_not(void **state)
{
	static struct session crowd[CROWD];
	const struct quota_limits limits = {.pool = {1, 1, 1, 1, 1}};
	struct quota *quota = quota_new(&limits);
	struct account *greedy = quota_account(quota, QUOTA_UID, 1000),
		       *other = quota_account(quota, QUOTA_UID, 1001);
	struct scene scene;
	uint64_t before, own, all;
	char pattern[32];

	scene_start(&scene);
	watches_domain(scene.watches, 7, true);
	memset(crowd, 0, sizeof(crowd));
	for (unsigned i = 0; i < CROWD; i++) {
		crowd[i].counts = true;
		crowd[i].hop.account = greedy;
		for (uint32_t j = 0; j < PATTERNS; j++) {
			snprintf(pattern, sizeof(pattern), j ? "7:*x%u" : "7:*", j);
			assert_int_equal(watch(&scene, &crowd[i], j, pattern), 0);
		}
	}
	scene.a.counts = true;
	scene.a.hop.account = other;
	assert_int_equal(watch(&scene, &scene.a, 1, "7:*"), 0);
	settle(&scene);

	before = scene.turns.spent;
	own = account_line(other)->spent;
	leaf(&scene, 0, NAMES);
	assert_int_equal(scene.turns.spent, before); /* whoever brings the news doesn't pay for it */
	for (unsigned i = 0; scene.a.up < NAMES; i++) {
		assert_true(i < 100);
		one_pass(&scene);
	}
	own = account_line(other)->spent - own;
	all = scene.turns.spent - before;
	/* two lines: an equal part, and the rest of a pass */
	assert_true(all < 2 * own + 2 * TURNS_QUANTUM + TURNS_PASS);
	settle(&scene);
	print_message("%lu units when the bystander had heard all, of %lu\n", (unsigned long)all,
		      (unsigned long)(scene.turns.spent - before));
	assert_true(scene.turns.spent - before > 20 * all);
	assert_true(scene.turns.longest_pass < TURNS_PASS + TURNS_PIECE);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(crowd[i].up, NAMES);

	/* A new watch of the crowd's is told what is there in the crowd's time, too. */
	own = account_line(other)->spent;
	for (unsigned i = 0; i < CROWD; i++) {
		assert_int_equal(watches_remove(scene.watches, &crowd[i], 1), 0);
		assert_int_equal(watch(&scene, &crowd[i], 100, "7:*"), 0);
	}
	leaf(&scene, 0, NAMES - 1);
	while (scene.a.up == NAMES)
		one_pass(&scene);
	settle(&scene);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(crowd[i].up, 2 * (NAMES - 1));
	for (unsigned i = 0; i < CROWD; i++)
		watches_remove_session(scene.watches, &crowd[i]);
	watches_remove_session(scene.watches, &scene.a);
	scene_stop(&scene);
	account_unref(greedy);
	account_unref(other);
	quota_free(quota);
}

/* Whatever comes, goes and is renamed, and however it falls into the turns: in the end each watch knows what
 * is there. */
static void try_at_random(unsigned seed)
{
	static const char *const domains[] = {"7", "work", "play", "[wr]*"}, *const endpoints_meant[] = {
										     NULL, "*", "n1*",
										     "*[02468]"};
	static const char *const names[] = {"work", "play", "rest", ""};
	static unsigned char model[MODEL_WATCHES * (MODEL_NAMES + 1)];
	unsigned char there[MODEL_NAMES + 1] = {0};
	struct scene scene;
	char text[32];

	scene_start(&scene);
	memset(model, 0, sizeof(model));
	scene.a.model = model;
	for (uint32_t i = 0; i < MODEL_WATCHES / 2; i++) {
		snprintf(text, sizeof(text), i & 1 ? "%s:*" : "%s", domains[i]);
		assert_int_equal(watch(&scene, &scene.a, i, text), 0);
	}
	for (unsigned round = 0; round < 20000; round++) {
		unsigned what = (unsigned)rand_r(&seed) % 1000,
			 which = (unsigned)rand_r(&seed) % MODEL_NAMES + 1;

		if (what < 300) { /* a piece of work */
			scene.turns.left = 1;
			turns_run(&scene.turns);
		} else if (what < 990) {
			there[which] = !there[which];
			snprintf(text, sizeof(text), "n%u", which - 1);
			watches_endpoint(scene.watches, 7, text, there[which]);
		} else if (what < 993) {
			there[0] = !there[0];
			if (!there[0])
				memset(there, 0, sizeof(there));
			watches_domain(scene.watches, 7, there[0]);
		} else if (what < 996) {
			rename_domain(&scene, 7, names[which % 4]);
		} else { /* a new watch in another one's place */
			uint32_t number = which % MODEL_WATCHES;
			const char *endpoint = endpoints_meant[(which / 64) % 4];

			watches_remove(scene.watches, &scene.a, number);
			memset(model + number * (MODEL_NAMES + 1), 0, MODEL_NAMES + 1);
			snprintf(text, sizeof(text), endpoint ? "%s:%s" : "%s", domains[number % 4],
				 endpoint);
			assert_int_equal(watch(&scene, &scene.a, number, text), 0);
			snprintf(scene.patterns[number], sizeof(scene.patterns[number]), "%s", text);
		}
		if (round % 500 != 499)
			continue;
		settle(&scene);
		for (unsigned i = 0; i < MODEL_WATCHES; i++) {
			char pattern[32], *endpoint;
			bool meant;

			snprintf(pattern, sizeof(pattern), "%s", scene.patterns[i]);
			if (!pattern[0])
				continue;
			endpoint = strchr(pattern, ':');
			if (endpoint)
				*endpoint++ = '\0';
			meant = !fnmatch(pattern, "7", 0) ||
				(scene.names[7][0] && !fnmatch(pattern, scene.names[7], 0));
			for (unsigned j = 0; j <= MODEL_NAMES; j++) {
				snprintf(text, sizeof(text), "n%u", j - 1);
				assert_int_equal(model[i * (MODEL_NAMES + 1) + j],
						 meant && there[j] &&
							 (j == 0 ? !endpoint
								 : !endpoint || !fnmatch(endpoint, text, 0)));
			}
		}
	}
	watches_remove_session(scene.watches, &scene.a);
	scene_stop(&scene);
}

static void in_the_end_each_watch_knows_what_is_there(void **state)
{
	for (unsigned seed = 1; seed <= SEEDS; seed++)
		try_at_random(seed);
}

static void run_hog(struct task *task)
{
	turns_spend(task->turns, task->line, 1000);
	task_due(task);
}

/* What has gone is kept for who hasn't heard of it, but not without end. */
static void who_is_too_late_is_cut_off_and_nobody_else(void **state)
{
	const struct quota_limits limits = {.pool = {1, 1, 1, 1, 1}};
	struct quota *quota = quota_new(&limits);
	struct account *slow = quota_account(quota, QUOTA_UID, 1000),
		       *other = quota_account(quota, QUOTA_UID, 1001);
	struct scene scene;
	struct line line = {0};
	struct task hog;
	unsigned first = 0;

	scene_start(&scene);
	scene.a.counts = scene.b.counts = true;
	scene.a.hop.account = slow;
	scene.b.hop.account = other;
	assert_int_equal(watch(&scene, &scene.a, 1, "*:*"), 0);
	assert_int_equal(watch(&scene, &scene.b, 1, "*:*"), 0);
	leaf(&scene, first, NAMES);
	settle(&scene);
	/* Its user has no time for it, and somebody else always something to do. */
	task_init(&hog, &scene.turns, &line, run_hog);
	task_due(&hog);
	leaf(&scene, first, NAMES - 1);
	turns_spend(&scene.turns, account_line(slow), UINT32_MAX);
	for (; first < 20 * WATCHES_GONE_MAX && !scene.a.cut_off; first += NAMES) {
		leaf(&scene, first, NAMES);
		for (int i = 0; i < 10; i++)
			one_pass(&scene);
	}
	assert_int_equal(scene.a.cut_off, -ENOBUFS);
	assert_true(first >= WATCHES_GONE_MAX);
	assert_int_equal(scene.b.cut_off, 0);
	assert_int_equal(scene.b.up, NAMES);
	task_cancel(&hog);
	line_end(&line);
	watches_remove_session(scene.watches, &scene.a);
	watches_remove_session(scene.watches, &scene.b);
	scene_stop(&scene);
	account_unref(slow);
	account_unref(other);
	quota_free(quota);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_there_is_told_first_and_then_each_change),
		cmocka_unit_test(what_has_not_changed_is_not_told),
		cmocka_unit_test(list_of_endpoints_is_told_as_what_changed_in_it),
		cmocka_unit_test(pattern_means_what_it_says),
		cmocka_unit_test(what_is_no_pattern_is_refused),
		cmocka_unit_test(each_watch_is_told_under_its_own_number),
		cmocka_unit_test(watch_that_has_ended_is_silent),
		cmocka_unit_test(program_may_have_64_watches),
		cmocka_unit_test(program_that_does_not_read_is_cut_off_and_others_are_told),
		cmocka_unit_test(renamed_domain_goes_for_its_old_name_and_comes_for_its_new_one),
		cmocka_unit_test(own_domain_with_another_number_goes_and_comes),
		cmocka_unit_test(program_is_not_told_of_what_it_may_not_learn_of),
		cmocka_unit_test(what_came_and_went_before_it_was_told_is_not_told),
		cmocka_unit_test(who_is_late_hears_of_two_names_how_it_ended),
		cmocka_unit_test(crowd_of_one_user_waits_for_itself_and_others_do_not),
		cmocka_unit_test(in_the_end_each_watch_knows_what_is_there),
		cmocka_unit_test(who_is_too_late_is_cut_off_and_nobody_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
