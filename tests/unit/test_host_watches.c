/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a watch of another host is told: what is there, then each change, once, also when the host goes and
 * comes, and whatever its daemons say. The inquiries are the rig's own, and the test answers them.
 */
#include "tests/unit/watches_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/registry/changes.h"
#include "daemon/serve/host_watches.h"
#include "daemon/serve/inquiries.h"
#include "daemon/serve/watches_internal.h"
#include "wire/ut.h"

struct answer_part {
	bool is_first, is_last;
	uint32_t size;
	uint8_t bytes[600];
	struct answer_part *prev, *next;
};

struct inquiry {
	char domain[DOMAIN_NAME_MAX + 1]; /* "": the host */
	inquiry_fn come;
	void *userdata;
	struct answer_part *parts; /* that weren't taken yet */
	int error;		   /* behind them */
	uint32_t domid;		   /* of the last domain that was told */
	struct inquiry *prev, *next;
};

static struct scene scene;

static struct asking {
	struct inquiry *out;
	unsigned asked, count;
	int lack;  /* none can be made */
	int error; /* with which each ends at once */
	uint64_t turn;
	long up;			/* as the program knew when the last one was asked */
	unsigned in_turn, largest_turn; /* asked in one */
} asking;

/* --- the rig's inquiries ---------------------------------------------------------------------- */

int inquiry_new(struct inquiries *inquiries, const struct frame_identity *from, struct account *account,
		inquiry_why_fn why, struct inquiry **out)
{
	assert_int_equal(from->uid, 1000);
	assert_ptr_equal(account, scene.a.hop.account);
	asking.asked++;
	asking.up = scene.a.up;
	asking.in_turn = asking.turn == scene.turns.spent ? asking.in_turn + 1 : 1;
	asking.turn = scene.turns.spent;
	if (asking.in_turn > asking.largest_turn)
		asking.largest_turn = asking.in_turn;
	if (asking.lack)
		return asking.lack;
	*out = calloc(1, sizeof(**out));
	assert_non_null(*out);
	DL_APPEND(asking.out, *out);
	asking.count++;
	return 0;
}

void inquiry_listen(struct inquiry *inquiry, inquiry_fn come, void *userdata)
{
	inquiry->come = come;
	inquiry->userdata = userdata;
}

/* It ends, and what wasn't taken is lost, as with a RESET. */
static void end(struct inquiry *inquiry, int error)
{
	struct answer_part *part, *next;

	DL_FOREACH_SAFE(inquiry->parts, part, next)
		free(part);
	inquiry->parts = NULL;
	inquiry->error = error;
	inquiry->come(inquiry->userdata);
}

void inquiry_ask(struct inquiry *inquiry, const char *address, const char *text)
{
	char domain[DOMAIN_NAME_MAX + 1];

	assert_int_equal(sscanf(address, "b/%127[^:]:xenmsg", domain), 1);
	if (!strcmp(text, "watch self"))
		snprintf(inquiry->domain, sizeof(inquiry->domain), "%s", domain);
	else
		assert_string_equal(domain, "0");
	if (asking.error)
		end(inquiry, -asking.error);
}

int inquiry_next(struct inquiry *inquiry, struct inquiry_part *out)
{
	static uint8_t bytes[sizeof(((struct answer_part *)0)->bytes)];
	struct answer_part *part = inquiry->parts;

	if (!part)
		return inquiry->error;
	memcpy(bytes, part->bytes, part->size);
	*out = (struct inquiry_part){
		.text = bytes, .size = part->size, .is_first = part->is_first, .is_last = part->is_last};
	if (part->is_last)
		inquiry->error = -ENODATA;
	DL_DELETE(inquiry->parts, part);
	free(part);
	return 1;
}

const char *inquiry_why(const struct inquiry *inquiry)
{
	return "it can't";
}

const char *inquiries_why_not_there(int error)
{
	return "it can't";
}

void inquiry_free(struct inquiry *inquiry)
{
	if (!inquiry)
		return;
	inquiry->come = NULL;
	for (struct answer_part *part; (part = inquiry->parts) != NULL;) {
		DL_DELETE(inquiry->parts, part);
		free(part);
	}
	DL_DELETE(asking.out, inquiry);
	asking.count--;
	free(inquiry);
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
	assert_null(asking.out);
	return 0;
}

/* Time passes for what waits. */
static void pass_time(struct event *timer)
{
	assert_true(evtimer_pending(timer, NULL));
	event_active(timer, EV_TIMEOUT, 0);
	settle(&scene);
}

/* All that was fed is taken, also what waits to be gathered. */
static void settle_all(void)
{
	const struct inquiry *inquiry;

	for (;;) {
		settle(&scene);
		DL_FOREACH(asking.out, inquiry)
			if (inquiry->parts || inquiry->error)
				break;
		if (!inquiry)
			return;
		pass_time(scene.watches->gather);
	}
}

static void hears(const char *what)
{
	settle_all();
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
	settle(&scene);
}

/* Returns the last inquiry that is out about the host ("") or this domain. */
static struct inquiry *find(const char *domain)
{
	struct inquiry *inquiry, *found = NULL;

	settle(&scene);
	DL_FOREACH(asking.out, inquiry)
		if (!strcmp(inquiry->domain, domain))
			found = inquiry;
	return found;
}

static struct answer_part *add_part(struct inquiry *inquiry, bool is_first)
{
	struct answer_part *part = calloc(1, sizeof(*part));

	assert_non_null(part);
	part->is_first = is_first;
	DL_APPEND(inquiry->parts, part);
	return part;
}

static void add_event(struct inquiry *inquiry, uint32_t kind, const char *text)
{
	const struct frame_event event = {.kind = kind, .domid = inquiry->domid, .text = frame_text_of(text)};
	uint8_t bytes[FRAME_PAYLOAD_MAX];
	struct answer_part *part = add_part(inquiry, false);

	part->size = frame_event_encode(&event, bytes);
	assert_true(part->size <= sizeof(part->bytes));
	memcpy(part->bytes, bytes, part->size);
}

/* Words: "[" the first part; "+7=work", "-7=": a domain; "+inbox", "-inbox": an endpoint; "]": that was all,
 * "~]": of what is told. */
static void feed_word(struct inquiry *inquiry, const char *word)
{
	const char *equals = strchr(word, '=');
	bool is_up = *word == '+';

	if (*word == '[')
		add_part(inquiry, true);
	else if (*word == ']' || *word == '~')
		add_event(inquiry, EVENT_LISTED, *word == '~' ? "more" : "");
	else if (equals) {
		inquiry->domid = (uint32_t)strtoul(word + 1, NULL, 10);
		add_event(inquiry, is_up ? EVENT_DOMAIN_UP : EVENT_DOMAIN_DOWN, equals + 1);
	} else {
		add_event(inquiry, is_up ? EVENT_ENDPOINT_UP : EVENT_ENDPOINT_DOWN, word + 1);
	}
}

static void feed(struct inquiry *inquiry, const char *words)
{
	char *copy = strdup(words);

	assert_non_null(inquiry);
	assert_non_null(copy);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
		feed_word(inquiry, word);
	free(copy);
	inquiry->come(inquiry->userdata);
}

static void tell(const char *domain, const char *words)
{
	feed(find(domain), words);
	settle_all();
}

static void fail_it(const char *domain, int error)
{
	end(find(domain), -error);
	settle_all();
}

/* All of them fail, in one pass. */
static void fail_all(int error)
{
	struct inquiry *inquiry;

	settle(&scene);
	DL_FOREACH(asking.out, inquiry)
		end(inquiry, -error);
	settle_all();
}

/* A second later they are asked again. */
static void await_questions(unsigned count)
{
	pass_time(scene.watches->retry);
	assert_true(asking.count >= count);
}

/* Returns a text of words, each with a number. */
static const char *list_of(const char *before, const char *behind, unsigned first, unsigned last)
{
	static char list[65536];
	size_t used = 0;

	for (unsigned i = first; i <= last; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%u%s ", before, i, behind);
	assert_true(used < sizeof(list));
	return list;
}

/* --- tests ------------------------------------------------------------------------------------ */

TEST_WITH(what_is_there_is_told_first_and_then_each_change, set_up, tear_down)
{
	look(1, "work");
	assert_int_equal(scene.a.reply, -1);
	tell("", "[ +7=work ]");
	assert_int_equal(scene.a.reply, 0);
	hears("1+b ");
	tell("work", "[ +7=work +inbox");
	hears("1+7(work) "); /* it isn't all */
	tell("work", "+print +gone -gone ]");
	hears("1+7:inbox(work) 1+7:print(work) ");
	tell("work", "+scan -inbox");
	hears("1+7:scan(work) 1-7:inbox(work) ");
	/* It begins anew, as with another daemon: only what differs is told. */
	tell("work", "[ +7=work +print +fax ]");
	hears("1+7:fax(work) 1-7:scan(work) ");
	/* Another domain has the name now. */
	tell("work", "-7=work +9=work");
	hears("1-7:print(work) 1-7:fax(work) 1-7(work) ");
	tell("work", "[ +9=work +scan ]");
	hears("1+9(work) 1+9:scan(work) ");
}

TEST_WITH(a_watch_hears_once_that_all_which_was_there_is_told, set_up, tear_down)
{
	look(1, "work");
	tell("", "[ +7=work ]");
	hears("1+b ");
	assert_int_equal(scene.a.lists, 0);
	tell("work", "[ +7=work +inbox ]");
	hears("1+7(work) 1+7:inbox(work) ");
	assert_int_equal(scene.a.lists, 1);
	/* Of each domain that a pattern means, when there is none, and though one of them can't be asked. */
	look(2, "p*");
	tell("", "[ +7=work +8=play +9=pool ]");
	hears("2+b ");
	tell("8", "[ +8=play +inbox ]");
	hears("2+8(play) 2+8:inbox(play) ");
	assert_int_equal(scene.a.lists, 1);
	fail_it("9", EHOSTDOWN);
	assert_int_equal(scene.a.lists, 2);
	look(3, "z*");
	tell("", "[ +7=work ]");
	hears("3+b ");
	assert_int_equal(scene.a.lists, 3);
	/* What comes is news. */
	tell("work", "+print");
	tell("8", "[ +8=play +inbox +print ]");
	hears("1+7:print(work) 2+8:print(play) ");
	assert_int_equal(scene.a.lists, 3);
}

/* What a domain of the host, or the host, has beyond what it tells. */
TEST_WITH(a_watch_hears_whenever_a_list_is_cut_or_whole_again, set_up, tear_down)
{
	scene.a.hears_lists = true;
	look(1, "work");
	tell("", "[ +7=work ~]");
	tell("work", "[ +7=work +inbox ~]");
	hears("1+b 1+7(work) 1+7:inbox(work) 1~. ");
	tell("work", "+print");
	hears("1+7:print(work) ");
	tell("work", "]");
	hears("1. ");
	tell("work", "[ +7=work +inbox +print ~]");
	hears("1~. ");
	asking.error = EHOSTDOWN;
	fail_it("work", EHOSTDOWN);
	hears("1-7:inbox(work) 1-7:print(work) 1-7(work) 1. ");
}

TEST_WITH(a_pattern_means_the_domains_that_are_told, set_up, tear_down)
{
	look(1, "w*:in*");
	tell("", "[ +7=work +8=play +9= ]");
	hears("1+b ");
	assert_null(find("8"));
	tell("7", "[ +7=work +inbox +print ]");
	hears("1+7:inbox(work) ");
	tell("", "-7=work +10=wine");
	hears("1-7:inbox(work) ");
	assert_null(find("7"));
	tell("10", "[ +10=wine +inbox ]");
	hears("1+10:inbox(wine) ");
	tell("", "[ ]");
	hears("1-10:inbox(wine) ");
}

/* A host's domain may be told by the place of its old number when it gets a new one. */
TEST_WITH(a_domain_of_a_pattern_is_told_by_its_own_place_only, set_up, tear_down)
{
	look(1, "*");
	tell("", "[ +7=work +8=play ]");
	tell("7", "[ +7=work +inbox ]");
	tell("8", "[ +8=play +print ]");
	hears("1+b 1+7(work) 1+7:inbox(work) 1+8(play) 1+8:print(play) ");
	asking.error = EHOSTDOWN;
	tell("7", "-7=work +8=work");
	hears("1-7:inbox(work) 1-7(work) ");
	assert_null(find("7"));
	tell("8", "+scan");
	hears("1+8:scan(play) ");
}

TEST_WITH(a_pattern_hears_whenever_the_domains_are_cut_or_whole_again, set_up, tear_down)
{
	scene.a.hears_lists = true;
	look(1, "p*");
	tell("", "[ +7=work ~]");
	hears("1+b 1~. ");
	tell("", "[ +7=work ]");
	hears("1. ");
	tell("", "[");
	tell("", list_of("+", "=p", 1, HOST_WATCH_DOMAINS + 1));
	tell("", "]");
	hears("1~. ");
}

TEST_WITH(a_pattern_means_a_domain_as_soon_as_there_is_room, set_up, tear_down)
{
	look(1, "*");
	tell("", "[");
	tell("", list_of("+", "=", 1, HOST_WATCH_DOMAINS + 1));
	tell("", "]");
	assert_null(find("129"));
	assert_int_equal(asking.count, HOST_WATCH_DOMAINS + 1);
	tell("", "-1=");
	tell("", "["); /* it was asked anew */
	tell("", list_of("+", "=", 2, HOST_WATCH_DOMAINS + 1));
	tell("", "]");
	assert_non_null(find("129"));
	assert_int_equal(asking.count, HOST_WATCH_DOMAINS + 1);
}

/* All that a host has goes at once, more than is kept for programs that are late. */
TEST_WITH(a_host_that_goes_with_much_cuts_nobody_off, set_up, tear_down)
{
	scene.a.counts = true;
	look(1, "*");
	tell("", "[");
	tell("", list_of("+", "=", 1, HOST_WATCH_DOMAINS));
	tell("", "]");
	for (unsigned i = 1; i <= HOST_WATCH_DOMAINS; i++) {
		char domain[12], words[20];

		snprintf(domain, sizeof(domain), "%u", i);
		snprintf(words, sizeof(words), "[ +%u=", i);
		tell(domain, words);
		feed(find(domain), list_of("+n", "", 1, 70));
		tell(domain, "]");
	}
	assert_true(scene.a.up > WATCHES_GONE_MAX);
	asking.error = EHOSTDOWN;
	fail_all(EHOSTDOWN);
	assert_int_equal(scene.a.cut_off, 0);
	assert_int_equal(scene.a.up, 0);
}

/* The host goes for all of its inquiries, in this order, and comes back: nothing is missed, and nothing told
 * twice. */
TEST_EACH(a_host_that_goes_and_comes_is_told_once_each, 2)
{
	bool domain_first = unit_number(state);
	const char *first = domain_first ? "work" : "", *second = domain_first ? "" : "work";
	const char *of_host = "[ +7=work ]", *of_domain = "[ +7=work +inbox ]";
	void *unused = NULL;

	set_up(&unused);
	look(1, "work");
	tell("", of_host);
	tell("work", of_domain);
	hears("1+b 1+7(work) 1+7:inbox(work) ");
	asking.error = EHOSTDOWN;
	fail_it(first, EHOSTDOWN);
	fail_it(second, EHOSTDOWN);
	hears(domain_first ? "1-7:inbox(work) 1-7(work) 1-b " : "1-b 1-7:inbox(work) 1-7(work) ");
	assert_int_equal(asking.count, 0);
	asking.error = 0;
	await_questions(2);
	tell(first, domain_first ? of_domain : of_host);
	tell(second, domain_first ? of_host : of_domain);
	hears(domain_first ? "1+7(work) 1+7:inbox(work) 1+b " : "1+b 1+7(work) 1+7:inbox(work) ");
	tear_down(&unused);
}

/* The link was lost, or the other side hung up since other rules let us see other things: what is there then
 * is compared with what was told. */
TEST_EACH(a_lost_inquiry_is_no_event, 2)
{
	int error = unit_number(state) ? EAGAIN : ECONNRESET;
	void *unused = NULL;

	set_up(&unused);
	look(1, "work:*");
	tell("", "[ ]");
	tell("work", "[ +7=work +inbox +print ]");
	hears("1+b 1+7:inbox(work) 1+7:print(work) ");
	for (unsigned i = 0; i < 4; i++) { /* each time it was told all, and it has as many failures */
		fail_it("work", error);
		fail_it("", error);
		hears("");
		tell("work", i ? "[ +7=work +print +scan ]" : "[ +7=work +inbox +print ]");
		tell("", "[ ]");
		hears(i == 1 ? "1+7:scan(work) 1-7:inbox(work) " : "");
	}
	tear_down(&unused);
}

/* What a host has told, and what waits a second, is asked in turns, each paid for: a user may have
 * thousands. */
TEST_WITH(all_is_asked_in_pieces, set_up, tear_down)
{
	unsigned before;

	for (uint32_t number = 1; number <= HOST_WATCHES_PER_ASKER; number++) {
		look(number, "*:x");
		tell("", "[");
		tell("", list_of("+", "=", 1, HOST_WATCH_DOMAINS));
		tell("", "]");
		scene.a.heard[0] = '\0';
	}
	assert_int_equal(asking.count, HOST_WATCHES_PER_ASKER * (HOST_WATCH_DOMAINS + 1));
	assert_in_range(asking.largest_turn, 1, TURNS_PIECE / 100);
	asking.error = EHOSTDOWN;
	fail_all(EHOSTDOWN);
	before = asking.asked;
	asking.largest_turn = 0;
	pass_time(scene.watches->retry);
	assert_true(asking.asked >= before + 1000);
	assert_in_range(asking.largest_turn, 1, TURNS_PIECE / 100);
}

TEST_WITH(a_host_that_ends_its_answers_at_once_is_asked_less_often, set_up, tear_down)
{
	unsigned asked = 0;

	look(1, "7");
	tell("", "[ ]");
	for (; asking.count == 2 && asked < 100; asked++) {
		fail_it("", EAGAIN);
		if (find(""))
			tell("", "[ ]");
	}
	hears("1+b ");
	assert_in_range(asked, 8, 100); /* fewer than that only where one took as long as if it had stood */
	await_questions(2);		/* a second later */
	tell("", "[ ]");
	hears("");
}

/* A watch of which the host hasn't answered yet isn't asked along with one whose host has gone: a domain that
 * isn't there would refuse it. */
TEST_WITH(a_domain_is_asked_when_its_host_has_answered, set_up, tear_down)
{
	look(1, "*");
	tell("", "[ ]");
	hears("1+b ");
	asking.error = EHOSTDOWN;
	fail_it("", EHOSTDOWN);
	hears("1-b ");
	asking.error = 0;
	look(2, "nobody");
	assert_int_equal(asking.count, 1);
	await_questions(2);
	assert_null(find("nobody"));
}

/* Rules there have changed before it was told anything. */
TEST_WITH(what_is_to_be_asked_anew_at_first_is_not_taken_for_listed, set_up, tear_down)
{
	scene.a.hears_lists = true;
	look(1, "*");
	fail_it("", EAGAIN);
	if (!asking.count)
		pass_time(scene.watches->retry);
	tell("", "[ +7=work");
	hears("1+b ");
	tell("", "]");
	fail_it("7", EAGAIN);
	hears("");
	tell("7", "[ +7=work +inbox ]");
	hears("1+7(work) 1+7:inbox(work) 1. ");
}

TEST_WITH(what_is_no_pattern_is_refused, set_up, tear_down)
{
	static const char *const bad[] = {"", ":", "work:", "a/b", "work:a:b", "wo rk", "self"};
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
	asking.lack = -ENOBUFS;
	look(1, "work");
	assert_int_equal(scene.a.reply, ENOBUFS);
	asking.lack = 0;
	for (uint32_t number = 1; number <= HOST_WATCHES_PER_ASKER; number++)
		look(number, "work");
	assert_int_equal(scene.a.reply, -1);
	look(99, "work");
	assert_int_equal(scene.a.reply, ENOBUFS);
	unwatch_all(&scene, &scene.a);
	assert_int_equal(asking.count, 0);
}

TEST_WITH(who_lacks_memory_is_cut_off_once, set_up, tear_down)
{
	look(1, "work");
	tell("", "[ ]");
	scene.a.full = true;
	tell("work", "[ +7=work +a +b +c +d ]");
	tell("work", "+e");
	assert_int_equal(scene.a.cut_off, -ENOMEM);
	unwatch_all(&scene, &scene.a);
}

/* One of its watches of this host is what it was cut off for, and ends before the program does. */
TEST_WITH(who_is_cut_off_may_end_its_watches_one_by_one, set_up, tear_down)
{
	look(1, "work");
	tell("", "[ ]");
	scene.a.is_of_host = false;
	add_watch(&scene, &scene.a, 2, "7");
	settle(&scene);
	scene.a.full = true;
	registry_set_up(scene.registry, 7, true);
	settle(&scene);
	assert_int_equal(scene.a.cut_off, -ENOMEM);
	assert_true(unwatch(&scene, &scene.a, 2));
	registry_set_up(scene.registry, 7, false);
	settle(&scene);
}

/* What isn't paid for isn't kept, nor told. */
TEST_WITH(a_user_pays_for_what_is_kept_of_a_host, set_up_with_users, tear_down)
{
	scene.a.hears_lists = true;
	look(1, "work");
	tell("", "[ +7=work ]");
	hears("1+b ");
	tell("work", "[ +7=work +inbox ]");
	tell("work", "+print");
	hears("1+7(work) 1~. ");
	assert_true(account_usage(scene.a.hop.account, QUOTA_BYTES).refused > 0);
}

/* Has the program's user hold as many bytes as it may have. */
static void use_all_bytes(struct charge *other)
{
	struct quota_limits limits = {.pool = {1, 1, 1, 1, 1}};

	limits.pool[QUOTA_BYTES] = limits.max[QUOTA_UID][QUOTA_BYTES] = 1 << 20;
	scene.quota = quota_new(&limits);
	scene.a.hop.account = quota_account(scene.quota, QUOTA_UID, 1000);
	scene.a.hears_lists = true;
	charge_init(other, scene.a.hop.account);
	while (charge_add(other, QUOTA_BYTES, 64) == 0)
		;
}

TEST_WITH(what_was_cut_is_told_when_its_user_can_pay, set_up, tear_down)
{
	struct charge other;

	use_all_bytes(&other);
	look(1, "work");
	tell("", "[ +7=work ]");
	tell("work", "[ +7=work +inbox ]");
	hears("1+b 1+7(work) 1~. ");
	pass_time(scene.watches->retry);
	hears("");
	charge_end(&other);
	pass_time(scene.watches->retry);
	tell("work", "[ +7=work +inbox ]");
	hears("1+7:inbox(work) 1. ");
}

/* The names of a list, which are kept while it is told, count as what is to be paid again. */
TEST_WITH(what_was_cut_is_not_asked_anew_before_its_user_can_pay_more, set_up, tear_down)
{
	struct charge other;
	unsigned asked;

	use_all_bytes(&other);
	charge_release(&other, QUOTA_BYTES, 4096);
	look(1, "work");
	tell("", "[ +7=work ]");
	feed(find("work"), "[ +7=work");
	feed(find("work"), list_of("+n", "", 1, 100));
	feed(find("work"), "]");
	settle_all();
	asked = asking.asked;
	for (unsigned i = 0; i < 3; i++)
		pass_time(scene.watches->retry);
	assert_int_equal(asking.asked, asked);
	charge_end(&other);
	feed(find("work"),
	     "+later"); /* it waits for more when the place is looked at, which is looked at again */
	pass_time(scene.watches->retry);
	settle_all();
	if (asking.asked == asked) /* else it was taken before */
		pass_time(scene.watches->retry);
	assert_int_equal(asking.asked, asked + 1);
}

TEST_WITH(a_list_of_a_domain_that_goes_meanwhile_is_paid_for, set_up, tear_down)
{
	struct quota_limits limits = {.pool = {1, 1, 1, 1, 1}};
	uint64_t names = 100 * (ENDPOINT_NAME_MAX + 1);

	limits.pool[QUOTA_BYTES] = limits.max[QUOTA_UID][QUOTA_BYTES] = 1 << 20;
	scene.quota = quota_new(&limits);
	scene.a.hop.account = quota_account(scene.quota, QUOTA_UID, 1000);
	look(1, "work");
	tell("", "[ +7=work ]");
	tell("work", "[ +7=work");
	tell("work", list_of("+n", "", 1, 100));
	assert_true(account_usage(scene.a.hop.account, QUOTA_BYTES).used > names);
	tell("work", "-7=");
	assert_true(account_usage(scene.a.hop.account, QUOTA_BYTES).used > names);
	tell("work", "+7=work ]");
	assert_true(account_usage(scene.a.hop.account, QUOTA_BYTES).used > 100 * sizeof(struct record));
}

/* --- hosts that lie --------------------------------------------------------------------------- */

static size_t kept(void)
{
	return scene.watches->watchers->of_hosts->watches->changes->records;
}

static const struct {
	const char *domain, *words;
} lies[] = {
	{"", "[ +40000=work"}, {"", "[ +7=a/b"},      {"work", "[ +40000=work"},
	{"work", "[ +7=a:b"},  {"work", "[ +7=play"}, /* which wasn't asked for */
};

/* It is asked again, but not at once and at once. */
TEST_EACH(a_lie_ends_its_inquiry_alone, ROWS(lies))
{
	const char *domain = lies[unit_number(state)].domain;
	void *unused = NULL;

	set_up(&unused);
	look(1, "work");
	tell("", *domain ? "[ +7=work ]" : "[");
	hears("1+b ");
	tell(domain, lies[unit_number(state)].words);
	for (unsigned i = 0; i < 3 && find(domain); i++)
		tell(domain, lies[unit_number(state)].words);
	assert_null(find(domain));
	assert_null(strstr(scene.a.heard, "a/b"));
	scene.a.heard[0] = '\0';
	await_questions(2);
	if (!*domain)
		tell("", "[ +7=work ]");
	tell("work", "[ +7=work +inbox ]");
	assert_non_null(strstr(scene.a.heard, "1+7:inbox(work) "));
	tear_down(&unused);
}

TEST_WITH(a_text_or_an_end_where_an_event_belongs_ends_the_inquiry, set_up, tear_down)
{
	struct answer_part *part;

	look(1, "work");
	tell("", "[ ]");
	tell("work", "[ +7=work +inbox ]");
	hears("1+b 1+7(work) 1+7:inbox(work) ");
	for (unsigned i = 0; i < 2; i++) {
		part = add_part(find("work"), false);
		part->size = 3;
		part->is_last = i;
		memcpy(part->bytes, "{}", 3);
		feed(find("work"), "+never");
		settle_all();
	}
	tell("work", "[ +7=work +inbox ]");
	hears("");
}

/* It is told without a number, before it has one. */
TEST_WITH(an_endpoint_of_no_domain_is_not_told, set_up, tear_down)
{
	look(1, "work");
	tell("", "[ ]");
	tell("work", "[ +inbox ]");
	tell("work", "+print");
	hears("1+b ");
	assert_int_equal(scene.a.lists, 1);
}

/* What comes beyond that is cut, in a list that never ends, too. */
TEST_EACH(a_domain_has_at_most_so_many_endpoints, 2)
{
	bool is_listed = unit_number(state);
	char word[20];
	void *unused = NULL;

	set_up(&unused);
	scene.a.counts = true;
	look(1, "work");
	tell("", "[ ]");
	tell("work", is_listed ? "[ +7=work ]" : "[ +7=work");
	for (unsigned i = 0; i < HOST_WATCH_ENDPOINTS + 10; i++) {
		snprintf(word, sizeof(word), "+n%u", i);
		feed_word(find("work"), word);
	}
	tell("work", is_listed ? "+more" : "]");
	assert_int_equal(scene.a.up, HOST_WATCH_ENDPOINTS);
	assert_int_equal(scene.a.lists, is_listed ? 2 : 1); /* there is more */
	/* One that goes and wasn't there makes no room. */
	tell("work", "-none -none -none +one +two");
	assert_int_equal(scene.a.up, HOST_WATCH_ENDPOINTS);
	tell("work", "-n1 +two");
	assert_int_equal(scene.a.up, HOST_WATCH_ENDPOINTS);
	tear_down(&unused);
}

/* How often it is looked at isn't up to the host. */
TEST_WITH(a_list_that_begins_again_and_again_is_gathered, set_up, tear_down)
{
	unsigned lists = 0;

	look(1, "work");
	tell("", "[ ]");
	do {
		feed(find("work"), "[ +7=work");
		settle(&scene);
	} while (!find("work")->parts && ++lists < 100000);
	assert_in_range(lists, 1000, 99999);
	hears("1+b 1+7(work) ");
}

/* So what is kept for the program has a bound, whatever a host tells. */
TEST_WITH(a_host_is_not_heard_while_its_program_is_behind, set_up, tear_down)
{
	char words[40];

	scene.a.counts = true;
	look(1, "work");
	tell("", "[ ]");
	tell("work", "[ +7=work ]");
	scene.a.is_behind = true;
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(words, sizeof(words), "+n%u -n%u", i, i);
		feed(find("work"), words);
	}
	for (unsigned i = 0; i < 50; i++) { /* often enough to take all of it */
		event_active(scene.watches->gather, EV_TIMEOUT, 0);
		settle(&scene);
	}
	assert_in_range(kept(), 0, 1000);
	assert_non_null(find("work")->parts);
	scene.a.is_behind = false;
	watches_heard(scene.watches, &scene.a);
	settle_all();
	assert_int_equal(scene.a.up, 0);
	tell("work", "+inbox");
	assert_int_equal(scene.a.up, 1);
}

/* --- handing over ------------------------------------------------------------------------------ */

/* The next daemon begins them anew, and asks for all that they mean before it says what there is. */
TEST_WITH(what_has_stood_is_begun_anew_though_the_host_is_late, set_up, tear_down)
{
	scene.a.hears_lists = scene.a.has_stood = true;
	look(1, "w*");
	assert_int_equal(scene.a.reply, 0);
	look(2, "work:in*");
	assert_int_equal(asking.count, 3);
	fail_it("", EHOSTDOWN);
	fail_it("", EAGAIN);
	hears("");
	assert_int_equal(asking.count, 3); /* at once */
	feed(asking.out, "[ +7=work ]");
	tell("", "[ +7=work ]");
	fail_it("7", EHOSTDOWN);
	tell("7", "[ +7=work +inbox +print ]");
	tell("work", "[ +7=work +inbox +print ]");
	hears("1+b 2+b 1+7(work) 1+7:inbox(work) 1+7:print(work) 1. 2+7:inbox(work) 2. ");
}
