/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions about other hosts: on their way out, answered here, and passed on; what a peer may do with
 * them. */
#include "tests/unit/asks_rig.h"

#include <errno.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"

#define PLENTY (1u << 26)
#define CHARGE (TOLD_MAX + 1024u)
#define ENTRY  (TOLD_ENTRY_SIZE(5)) /* of those that tell_by() tells */

static struct scene scene;

/* Returns the number of an ASK that was sent. */
static uint32_t expect_ask(uint32_t peer, const char *name)
{
	const struct sent *sent = expect_sent(&scene, peer, FRAME_ASK);
	struct frame_ask ask;

	assert_int_equal(frame_ask_decode(sent->payload, sent->length, &ask), 0);
	frame_open_split(&ask.about);
	assert_int_equal(ask.about.name.size, strlen(name));
	assert_memory_equal(ask.about.name.data, name, strlen(name));
	return ask.number;
}

static void expect_unask(uint32_t peer, uint32_t number)
{
	const struct sent *sent = expect_sent(&scene, peer, FRAME_UNASK);
	uint32_t withdrawn;

	assert_int_equal(frame_u32_decode(sent->payload, sent->length, &withdrawn), 0);
	assert_int_equal(withdrawn, number);
}

static void expect_answer(uint32_t error)
{
	scene_settle(&scene);
	assert_int_equal(scene.told_count, 1);
	assert_int_equal(scene.told.error, error);
	assert_int_equal(scene_held(&scene, QUOTA_UID, UID), 0);
}

static uint32_t ask_hostb(void)
{
	assert_int_equal(ask_here(&scene, ASK_ENDPOINTS, "hostb", "work", 7), 0);
	return expect_ask(HOSTB, "work");
}

/* --- the way out ------------------------------------------------------------------------------ */

TEST(parts_are_put_together)
{
	uint32_t number;

	scene_start(&scene, 0, PLENTY);
	number = ask_hostb();
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, TOLD_MORE, 0, 3), 0);
	assert_int_equal(scene.told_count, 0);
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 3, 4), 0);
	expect_answer(0);
	assert_int_equal(scene.told.count, 7);
	assert_int_equal(scene.told.version, 5);
	assert_int_equal(scene.told.end - scene.told.at, 7 * ENTRY);
	/* What comes behind that answers nothing. */
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 7, 1), 0);
	expect_answer(0);
	expect_no_more(&scene);
	scene_stop(&scene);
}

/* How bad parts differ from a first one with the entries 3 to 5, version 5. */
TEST(bad_parts_end_a_question_with_one_error)
{
	static const struct {
		uint64_t version;
		uint32_t flags;
		unsigned first, count;
	} bad[] = {
		{5, 0, 5, 1},	      /* an entry twice */
		{5, 0, 3, 3},	      /* the part twice */
		{5, 0, 0, 2},	      /* out of order */
		{6, 0, 6, 1},	      /* of another answer */
		{5, TOLD_MORE, 6, 0}, /* nothing, and so without end */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t number;

		scene_start(&scene, 0, PLENTY);
		number = ask_hostb();
		assert_int_equal(tell_by(&scene, HOSTB, number, 5, TOLD_MORE, 3, 3), 0);
		assert_int_equal(tell_by(&scene, HOSTB, number, bad[i].version, bad[i].flags, bad[i].first,
					 bad[i].count),
				 0);
		expect_answer(EPROTO);
		expect_unask(HOSTB, number); /* or it would go on with it */
		expect_no_more(&scene);
		scene_stop(&scene);
	}
}

TEST(an_answer_of_the_largest_size_is_taken_and_no_larger_one)
{
	unsigned fit = TOLD_MAX / ENTRY, part = TOLD_PART / ENTRY;

	for (unsigned more = 0; more < 2; more++) {
		uint32_t number;

		scene_start(&scene, 0, PLENTY);
		number = ask_hostb();
		for (unsigned at = 0; at < fit + more; at += part) {
			unsigned count = fit + more - at < part ? fit + more - at : part;

			assert_int_equal(tell_by(&scene, HOSTB, number, 5,
						 at + count < fit + more ? TOLD_MORE : 0, at, count),
					 0);
		}
		expect_answer(more ? EPROTO : 0);
		if (!more)
			assert_int_equal(scene.told.count, fit);
		scene_stop(&scene);
	}
}

TEST(a_question_ends_with_its_session_or_its_host)
{
	static const uint32_t errors[] = {ECONNRESET, EHOSTDOWN, EPROTO, EHOSTUNREACH};

	for (unsigned way = 0; way < 4; way++) {
		scene_start(&scene, 0, PLENTY);
		if (way == 3)
			scene.takes_asks = 0;
		assert_int_equal(ask_here(&scene, ASK_DOMAINS, "hostb", "", 7), 0);
		assert_true(scene_held(&scene, QUOTA_UID, UID) > 0);
		if (way == 0)
			asks_session_ended(scene.asks, peer_of(HOSTB), ECONNRESET);
		else if (way == 1)
			asks_host_gone(scene.asks, peer_of(HOSTB));
		else if (way == 2)
			assert_int_equal(fail_by(&scene, HOSTB, expect_ask(HOSTB, ""), 4242), 0);
		else
			scene.link_up(scene.asks, scene.await_request, -EHOSTUNREACH);
		expect_answer(errors[way]);
		scene_stop(&scene);
	}
}

TEST(a_question_that_a_living_peer_does_not_answer_ends)
{
	uint32_t here, of_peer;

	scene_start(&scene, 0, PLENTY);
	here = ask_hostb();
	assert_int_equal(ask_by(&scene, 1, 5, ASK_DOMAINS, 0, "hostb", ""), 0);
	of_peer = expect_ask(HOSTB, "");
	/* Who is to hear of a change waits for it. */
	assert_int_equal(ask_by(&scene, 1, 6, ASK_DOMAINS, 4711, "hostb", ""), 0);
	expect_ask(HOSTB, "");
	scene_await_told(&scene, 1);
	expect_answer(ETIMEDOUT);
	expect_unask(HOSTB, here);
	scene_await_sent(&scene, scene.sent_seen + 2);
	expect_unask(HOSTB, of_peer);
	assert_int_equal(expect_told(&scene, 1).error, ETIMEDOUT);
	expect_no_more(&scene);
	assert_int_equal(scene_held(&scene, QUOTA_UID, UID), 0);
	assert_int_equal(scene_held(&scene, QUOTA_PEER, 1), CHARGE);
	asks_session_ended(scene.asks, peer_of(1), ECONNRESET);
	scene_stop(&scene);
}

TEST(an_answer_that_may_lie_there_unread_has_as_long_again)
{
	uint64_t begun = clock_ms();

	scene_start(&scene, 0, PLENTY);
	ask_hostb();
	scene.has_unread = true; /* and it always has */
	scene_await_told(&scene, 1);
	assert_true(clock_ms() - begun >= 2 * ANSWER_MS);
	expect_answer(ETIMEDOUT);
	scene_stop(&scene);
}

TEST(a_question_to_who_is_away_waits_until_resume_for_is_over)
{
	uint64_t begun = clock_ms();
	uint32_t number;

	scene_start(&scene, 0, PLENTY);
	ask_hostb();
	scene.takes_asks = 0;
	scene_await_told(&scene, 1);
	assert_true(clock_ms() - begun >= ANSWER_MS + RESUME_FOR_MS);
	expect_answer(ETIMEDOUT);
	scene_stop(&scene);
	/* It is back, and has as long to answer as ever. */
	scene_start(&scene, 0, PLENTY);
	number = ask_hostb();
	scene.takes_asks = 0;
	for (begun = clock_ms(); clock_ms() - begun <= ANSWER_MS;) {
		assert_int_equal(event_base_loop(scene.base, EVLOOP_ONCE), 0);
		assert_int_equal(scene.told_count, 0);
	}
	scene.takes_asks = 1;
	assert_int_equal(event_base_loop(scene.base, EVLOOP_NONBLOCK), 0);
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 0, 3), 0);
	scene_await_told(&scene, 1);
	expect_answer(0);
	scene_stop(&scene);
}

TEST(what_nobody_wants_any_more_is_withdrawn)
{
	uint32_t number;

	scene_start(&scene, 0, PLENTY);
	number = ask_hostb();
	asks_cancel(scene.asks, &scene, 7);
	expect_unask(HOSTB, number);
	assert_int_equal(scene_held(&scene, QUOTA_UID, UID), 0);
	number = ask_hostb();
	asks_forget(scene.asks, &scene);
	expect_unask(HOSTB, number);
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 0, 3), 0);
	scene_settle(&scene);
	assert_int_equal(scene.told_count, 0);
	scene_stop(&scene);
}

/* That a question waits for its link can't be taken back, so it is paid for until that ends. */
TEST(who_asks_and_cancels_without_a_link_pays_until_it_is_known)
{
	int r = 0;
	unsigned asked = 0;

	scene_start(&scene, 0, 10 * CHARGE);
	scene.takes_asks = 0;
	for (; r == 0 && asked < 1000; asked++) {
		r = ask_here(&scene, ASK_DOMAINS, "hostb", "", asked);
		asks_cancel(scene.asks, &scene, asked);
	}
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(scene.awaits, 10);
	for (uint32_t id = 1; id <= asked; id++)
		scene.link_up(scene.asks, id, 0);
	scene_settle(&scene);
	assert_int_equal(scene.told_count, 0);
	expect_no_more(&scene); /* nothing was asked, so nothing is withdrawn */
	assert_int_equal(scene_held(&scene, QUOTA_UID, UID), 0);
	/* The same for a guest. */
	for (uint32_t number = 0; number < 100; number++) {
		assert_int_equal(ask_by(&scene, 1, number, ASK_DOMAINS, 0, "hostb", ""), 0);
		assert_int_equal(unask_by(&scene, 1, number), 0);
	}
	assert_int_equal(scene.awaits, 20);
	asks_session_ended(scene.asks, peer_of(1), ECONNRESET);
	scene_stop(&scene);
}

TEST(an_older_domain_0_that_knows_no_hosts_is_told_as_such)
{
	scene_start(&scene, 1, PLENTY);
	assert_int_equal(ask_here(&scene, ASK_HOSTS, "", "", 7), 0);
	assert_int_equal(fail_by(&scene, 0, expect_ask(0, ""), EINVAL), 0);
	expect_answer(EOPNOTSUPP);
	scene_stop(&scene);
}

/* --- answered here ---------------------------------------------------------------------------- */

TEST(an_answer_is_made_in_pieces_and_told_in_parts)
{
	unsigned told = 0, pieces = 0;
	struct frame_told part;

	scene_start(&scene, 1, PLENTY);
	scene_bind(&scene, 1000, 5);
	assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	for (; relay_is_busy(&scene.relay); pieces++) {
		unsigned before = scene.looked_at;

		relay_pass(&scene.relay);
		assert_in_range(scene.looked_at - before, 0, TURNS_PASS / 100 + 20);
	}
	assert_int_equal(scene.looked_at, 1001);
	do {
		part = expect_told(&scene, 0);
		assert_int_equal(part.error, 0);
		assert_int_equal(part.domid, 1);
		told += part.count;
	} while (part.flags & TOLD_MORE);
	assert_int_equal(told, 1000);
	expect_no_more(&scene);
	assert_int_equal(scene_held(&scene, QUOTA_HOST, HOSTB), 0);
	scene_stop(&scene);
}

TEST(what_does_not_fit_is_left_out)
{
	static const unsigned sizes[] = {5, 59, 63};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t size = 0, told = 0;
		struct frame_told part;

		scene_start(&scene, 1, PLENTY);
		scene_bind(&scene, 2000, sizes[i]);
		assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
		scene_settle(&scene);
		do {
			part = expect_told(&scene, 0);
			told += part.count;
			size += (uint32_t)(part.end - part.at);
		} while (part.flags & TOLD_MORE);
		assert_int_equal(told, TOLD_MAX / TOLD_ENTRY_SIZE(sizes[i]));
		assert_int_equal(size, told * TOLD_ENTRY_SIZE(sizes[i]));
		scene_stop(&scene);
	}
}

/* Takes what domain 0 was told of a status so far: returns its size, and whether that was all. */
static unsigned take_status(unsigned size, bool *all)
{
	struct frame_told part;

	*all = false;
	while (scene.sent_seen < scene.sent_count && !*all) {
		part = expect_told(&scene, 0);
		assert_int_equal(part.number, 3);
		assert_int_equal(part.error, 0);
		assert_in_range(part.count, 0, TOLD_PART);
		assert_int_equal(part.flags & TOLD_TEXT, TOLD_TEXT);
		for (uint32_t i = 0; i < part.count; i++)
			assert_int_equal(part.at[i], (size + i) % 251);
		size += part.count;
		*all = !(part.flags & TOLD_MORE);
	}
	return size;
}

TEST(a_status_is_made_as_it_is_sent_and_domain_0_pays)
{
	static const unsigned sizes[] = {0, 1, TOLD_PART, TOLD_PART + 1, 1000, 5 * TOLD_PART, 100000};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		bool all;

		scene_start(&scene, 1, PLENTY);
		scene.status_size = sizes[i];
		assert_int_equal(ask_by(&scene, 0, 3, ASK_STATUS, 0, "1", ""), 0);
		assert_true(scene_held(&scene, QUOTA_PEER, 0) > 0);
		relay_pass(&scene.relay);
		assert_in_range(scene.status_made, 0, 65536 / 1000 * 1000 + 8192);
		scene_settle(&scene);
		assert_int_equal(take_status(0, &all), sizes[i]);
		assert_true(all);
		expect_no_more(&scene);
		assert_int_equal(scene_held(&scene, QUOTA_PEER, 0), 0);
		scene_stop(&scene);
	}
}

TEST(a_status_that_is_not_read_waits_and_nothing_of_it_is_lost)
{
	unsigned size, made;
	bool all;

	scene_start(&scene, 1, PLENTY);
	scene.status_size = 20000;
	scene.send_error = -ENOBUFS;
	assert_int_equal(ask_by(&scene, 0, 3, ASK_STATUS, 0, "1", ""), 0);
	scene_settle(&scene);
	made = scene.status_made;
	assert_in_range(made, 1, 1000);
	expect_no_more(&scene);
	scene.send_error = 0;
	scene_await_sent(&scene, 1);
	scene_settle(&scene);
	size = take_status(0, &all);
	assert_int_equal(size, 20000);
	assert_true(all);
	scene_stop(&scene);
}

TEST(only_domain_0_is_told_a_status_and_may_take_it_back)
{
	scene_start(&scene, 1, PLENTY);
	scene.status_size = 20000;
	for (uint32_t peer = 2; peer < 4; peer++) {
		assert_int_equal(ask_by(&scene, peer, 3, ASK_STATUS, 0, "1", ""), 0);
		scene_settle(&scene);
		assert_int_equal(expect_told(&scene, peer).error, EACCES);
	}
	assert_int_equal(ask_by(&scene, 0, 3, ASK_STATUS, 0, "2", ""), 0); /* it is another domain */
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 0).error, EINVAL);
	scene.hides = true;
	assert_int_equal(ask_by(&scene, 0, 3, ASK_STATUS, 0, "1", ""), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 0).error, EACCES);
	assert_int_equal(scene.statuses_begun, 0);
	scene.hides = false;
	assert_int_equal(ask_by(&scene, 0, 3, ASK_STATUS, 0, "1", ""), 0);
	assert_int_equal(scene.statuses_begun, 1);
	assert_int_equal(unask_by(&scene, 0, 3), 0);
	assert_int_equal(scene.statuses_ended, 1);
	scene_settle(&scene);
	expect_no_more(&scene);
	scene_stop(&scene);
}

TEST(domain_0_itself_is_asked_for_no_status)
{
	scene_start(&scene, 0, PLENTY);
	assert_int_equal(ask_by(&scene, 1, 3, ASK_STATUS, 0, "0", ""), 0);
	assert_int_equal(ask_by(&scene, HOSTB, 3, ASK_STATUS, 0, "0", ""), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 1).error, EACCES);
	assert_int_equal(expect_told(&scene, HOSTB).error, EINVAL);
	assert_int_equal(scene.statuses_begun, 0);
	scene_stop(&scene);
}

TEST(who_knows_the_answer_is_told_when_it_changes)
{
	struct frame_told told;

	scene_start(&scene, 1, PLENTY);
	scene_bind(&scene, 2, 5);
	assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	scene_settle(&scene);
	told = expect_told(&scene, 0);
	assert_int_equal(ask_by(&scene, 0, 4, ASK_ENDPOINTS, told.version, "1", "hostb"), 0);
	scene_settle(&scene);
	expect_no_more(&scene);
	scene_bind(&scene, 3, 5);
	scene.sink->changed(scene.sink->userdata, KNOWN_NAME, 7);
	scene_await_sent(&scene, scene.sent_seen + 1);
	told = expect_told(&scene, 0);
	assert_int_equal(told.number, 4);
	assert_int_equal(told.count, 3);
	scene_stop(&scene);
}

TEST(who_does_not_read_is_told_later)
{
	scene_start(&scene, 1, PLENTY);
	scene_bind(&scene, 2, 5);
	scene.send_error = -ENOBUFS;
	assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	scene_settle(&scene);
	assert_int_not_equal(scene_held(&scene, QUOTA_HOST, HOSTB), 0);
	scene.send_error = 0;
	scene_await_sent(&scene, 1);
	assert_int_equal(expect_told(&scene, 0).count, 2);
	scene_settle(&scene);
	scene_stop(&scene);
}

TEST(who_asks_too_much_is_refused_and_others_are_not)
{
	scene_start(&scene, 1, 3 * CHARGE);
	scene.send_error = -ENOBUFS; /* so that the questions stay */
	for (uint32_t number = 0; number < 3; number++)
		assert_int_equal(ask_by(&scene, 0, number, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	scene_settle(&scene);
	scene.send_error = 0;
	assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	assert_int_equal(expect_told(&scene, 0).error, ENOBUFS);
	assert_int_equal(ask_here(&scene, ASK_DOMAINS, "hostc", "", 7), 0);
	expect_ask(0, "hostc");
	assert_int_equal(unask_by(&scene, 0, 2), 0);
	assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 0).number, 3);
	scene_stop(&scene);
}

TEST(only_domain_0_speaks_for_hosts)
{
	scene_start(&scene, 1, PLENTY);
	scene_bind(&scene, 2, 5);
	assert_int_equal(ask_by(&scene, 2, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 2).error, EACCES);
	assert_int_equal(scene.noted, 0); /* or it could fill our table of hosts */
	assert_int_equal(ask_by(&scene, 0, 3, ASK_ENDPOINTS, 0, "2", "hostb"), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 0).error, EINVAL);
	scene_stop(&scene);
}

TEST(what_another_host_cannot_ask_gets_an_error)
{
	static const struct {
		unsigned kind;
		const char *name;
		uint32_t error;
	} bad[] = {
		{0, "", EINVAL},
		{255, "", EINVAL},
		{ASK_HOSTS, "", EINVAL},
		{ASK_ENDPOINTS, "", EINVAL},
		{ASK_ENDPOINTS, "self", EINVAL},
		{ASK_ENDPOINTS, "hostc/1", EINVAL},
		{ASK_ENDPOINTS, "77", EHOSTDOWN},
	};

	scene_start(&scene, 0, PLENTY);
	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ask_by(&scene, HOSTB, i, (enum ask_kind)bad[i].kind, 0, bad[i].name, ""), 0);
		scene_settle(&scene);
		assert_int_equal(expect_told(&scene, HOSTB).error, bad[i].error);
	}
	expect_no_more(&scene);
	scene_stop(&scene);
}

TEST(a_number_that_is_out_is_not_asked_again)
{
	scene_start(&scene, 0, PLENTY);
	assert_int_equal(ask_by(&scene, 1, 3, ASK_DOMAINS, 0, "hostb", ""), 0);
	assert_int_equal(ask_by(&scene, 1, 3, ASK_DOMAINS, 0, "hostb", ""), -EPROTO);
	assert_int_equal(ask_by(&scene, 2, 3, ASK_DOMAINS, 0, "hostb", ""), 0);
	scene_stop(&scene);
}

TEST(hosts_are_told_to_domains_of_this_host)
{
	struct frame_told_entry entry;
	struct frame_told told;

	scene_start(&scene, 0, PLENTY);
	for (uint32_t number = 0; number < 2; number++) {
		scene.out = number ? -EACCES : 0;
		assert_int_equal(ask_by(&scene, 1, number, ASK_HOSTS, 0, "", ""), 0);
		scene_settle(&scene);
		told = expect_told(&scene, 1);
		assert_int_equal(told.error, 0);
		assert_int_equal(told.count, 2 - number);
		assert_true(frame_told_next(&told, &entry));
		assert_int_equal(entry.number, TOLD_GATEWAY_CONNECTED);
		assert_int_equal(entry.name.size, 5);
		assert_memory_equal(entry.name.data, "hosta", 5);
		assert_int_equal(frame_told_next(&told, &entry), number == 0);
		if (number == 0)
			assert_int_equal(entry.number, TOLD_HOST_UP);
	}
	assert_int_equal(ask_by(&scene, HOSTB, 1, ASK_HOSTS, 0, "", ""), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, HOSTB).error, EINVAL);
	scene.own_name[0] = '\0';
	assert_int_equal(ask_by(&scene, 1, 1, ASK_HOSTS, 0, "", ""), 0);
	scene_settle(&scene);
	assert_int_equal(expect_told(&scene, 1).error, EHOSTUNREACH);
	scene_stop(&scene);
}

/* --- passed on -------------------------------------------------------------------------------- */

/* Starts domain 0, which passes question 9 of domain 1 on to another host. Returns its number there. */
static uint32_t start_and_pass_on(void)
{
	scene_start(&scene, 0, PLENTY);
	assert_int_equal(ask_by(&scene, 1, 9, ASK_ENDPOINTS, 0, "hostb/work", ""), 0);
	return expect_ask(HOSTB, "work");
}

TEST(parts_are_passed_on_as_they_come)
{
	uint32_t number = start_and_pass_on();

	assert_int_equal(tell_by(&scene, HOSTB, number, 5, TOLD_MORE, 0, 3), 0);
	assert_int_equal(expect_told(&scene, 1).number, 9);
	/* Somebody else's answer means nothing. */
	assert_int_equal(tell_by(&scene, 2, number, 5, 0, 3, 1), 0);
	expect_no_more(&scene);
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 3, 4), 0);
	assert_int_equal(expect_told(&scene, 1).flags, 0);
	assert_int_equal(scene_held(&scene, QUOTA_PEER, 1), 0);
	scene_stop(&scene);
}

/* A host that lies can't make domain 0 send its guest more than an answer, at the guest's expense. */
TEST(an_answer_without_end_is_ended)
{
	for (unsigned count = 0; count < 33; count += 32) {
		uint32_t number = start_and_pass_on();
		unsigned told = 0;

		for (unsigned i = 0; i < 3000; i++)
			assert_int_equal(tell_by(&scene, HOSTB, number, 5, TOLD_MORE, 0, count), 0);
		scene_settle(&scene);
		while (scene.sent[scene.sent_seen].type == FRAME_TOLD)
			told += (uint32_t)(expect_told(&scene, 1).count);
		assert_in_range(told * ENTRY, 0, TOLD_MAX);
		expect_unask(HOSTB, number);
		assert_int_equal(expect_told(&scene, 1).error, EPROTO);
		expect_no_more(&scene);
		assert_int_equal(scene_held(&scene, QUOTA_PEER, 1), 0);
		scene_stop(&scene);
	}
}

TEST(a_guest_that_goes_takes_its_questions_along)
{
	uint32_t number = start_and_pass_on();

	asks_session_ended(scene.asks, peer_of(1), ECONNRESET);
	expect_unask(HOSTB, number);
	assert_int_equal(scene_held(&scene, QUOTA_PEER, 1), 0);
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 0, 1), 0);
	expect_no_more(&scene);
	scene_stop(&scene);
}

TEST(a_guest_that_has_another_number_gets_its_answer)
{
	uint32_t number;

	scene_start(&scene, 0, PLENTY);
	assert_int_equal(ask_by(&scene, 2, 9, ASK_ENDPOINTS, 0, "hostb/work", ""), 0);
	number = expect_ask(HOSTB, "work");
	asks_renumber(scene.asks, 2, 1);
	assert_int_equal(tell_by(&scene, HOSTB, number, 5, 0, 0, 1), 0);
	assert_int_equal(expect_told(&scene, 1).number, 9);
	scene_stop(&scene);
}
