/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions about other hosts: on their way out, answered here, and passed on; what a peer may do with
 * them. */
#include "tests/unit/asks_rig.h"

#include <event2/event.h>

#include "base/clock.h"
#include "daemon/link/asks_internal.h"

#define CHARGE (ASK_ROOM + 1024u)
#define ENTRY  (TOLD_ENTRY_SIZE(5)) /* of those that tell_by() tells */

/* For questions of each account. */
static void start_with_room_for_ten(struct scene *scene)
{
	scene_start(scene, 0, 10 * CHARGE);
}

static void start_with_room_for_three(struct scene *scene)
{
	scene_start(scene, 1, 3 * CHARGE);
}

/* Returns the number of an ASK that was sent. */
static uint32_t expect_ask(struct scene *scene, uint32_t peer, const char *name)
{
	const struct sent *sent = expect_sent(scene, peer, FRAME_ASK);
	struct frame_ask ask;

	assert_int_equal(frame_ask_decode(sent->payload, sent->length, &ask), 0);
	frame_open_split(&ask.about);
	assert_int_equal(ask.about.name.size, strlen(name));
	assert_memory_equal(ask.about.name.data, name, strlen(name));
	return ask.number;
}

static void expect_unask(struct scene *scene, uint32_t peer, uint32_t number)
{
	const struct sent *sent = expect_sent(scene, peer, FRAME_UNASK);
	uint32_t withdrawn;

	assert_int_equal(frame_u32_decode(sent->payload, sent->length, &withdrawn), 0);
	assert_int_equal(withdrawn, number);
}

static void expect_answer(struct scene *scene, uint32_t error)
{
	scene_settle(scene);
	assert_int_equal(scene->told_count, 1);
	assert_int_equal(scene->told.error, error);
	assert_int_equal(scene_held(scene, QUOTA_UID, UID), 0);
}

static uint32_t ask_hostb(struct scene *scene)
{
	assert_int_equal(ask_here(scene, ASK_ENDPOINTS, "hostb", "work", 7), 0);
	return expect_ask(scene, HOSTB, "work");
}

/* --- the way out ------------------------------------------------------------------------------ */

SCENE_TEST(parts_are_put_together, start_in_domain_0)
{
	uint32_t number = ask_hostb(scene);

	tell_by(scene, HOSTB, number, 5, TOLD_MORE, 0, 3);
	assert_int_equal(scene->told_count, 0);
	tell_by(scene, HOSTB, number, 5, 0, 3, 4);
	expect_answer(scene, 0);
	assert_int_equal(scene->told.count, 7);
	assert_int_equal(scene->told.version, 5);
	assert_int_equal(scene->told.end - scene->told.at, 7 * ENTRY);
	/* What comes behind that answers nothing. */
	tell_by(scene, HOSTB, number, 5, 0, 7, 1);
	expect_answer(scene, 0);
	expect_no_more(scene);
}

/* How bad parts differ from a first one with the entries 3 to 5, version 5. */
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

SCENE_TEST_EACH(bad_parts_end_a_question_with_one_error, start_in_domain_0, i, ROWS(bad))
{
	uint32_t number = ask_hostb(scene);

	tell_by(scene, HOSTB, number, 5, TOLD_MORE, 3, 3);
	tell_by(scene, HOSTB, number, bad[i].version, bad[i].flags, bad[i].first, bad[i].count);
	expect_answer(scene, EPROTO);
	expect_unask(scene, HOSTB, number); /* or it would go on with it */
	expect_no_more(scene);
}

SCENE_TEST_EACH(an_answer_of_the_largest_size_is_taken_and_no_larger_one, start_in_domain_0, more, 2)
{
	unsigned fit = TOLD_COUNT, part = TOLD_PART / ENTRY, all = fit + (unsigned)more;
	uint32_t number = ask_hostb(scene);

	for (unsigned at = 0; at < all; at += part) {
		unsigned count = all - at < part ? all - at : part;

		tell_by(scene, HOSTB, number, 5, at + count < all ? TOLD_MORE : 0, at, count);
	}
	expect_answer(scene, more ? EPROTO : 0);
	if (!more)
		assert_int_equal(scene->told.count, fit);
}

enum { SESSION_ENDS, HOST_GOES, HOST_FAILS, WE_HAND_OVER, NO_LINK, ENDS };

SCENE_TEST_EACH(a_question_ends_with_its_session_or_its_host, start_in_domain_0, end, ENDS)
{
	static const uint32_t errors[] = {ECONNRESET, EHOSTDOWN, EPROTO, EAGAIN, EHOSTUNREACH};

	scene->takes_asks = end != NO_LINK;
	assert_int_equal(ask_here(scene, ASK_DOMAINS, "hostb", "", 7), 0);
	assert_true(scene_held(scene, QUOTA_UID, UID) > 0);
	if (end == SESSION_ENDS)
		asks_session_ended(scene->asks, peer_of(HOSTB), ECONNRESET);
	else if (end == HOST_GOES)
		asks_host_gone(scene->asks, peer_of(HOSTB));
	else if (end == HOST_FAILS)
		fail_by(scene, HOSTB, expect_ask(scene, HOSTB, ""), 4242);
	else if (end == WE_HAND_OVER)
		asks_hand_over(scene->asks);
	else
		scene->link_up(scene->asks, scene->await_request, -EHOSTUNREACH);
	expect_answer(scene, errors[end]);
	if (end == WE_HAND_OVER) /* the next one is to be asked */
		assert_int_equal(ask_here(scene, ASK_DOMAINS, "hostb", "", 8), -EAGAIN);
}

/* Of a program, or of a peer, to which parts of the answer may have gone. */
SCENE_TEST_EACH(who_hands_over_is_asked_again_but_not_without_end, start_in_domain_0, has_part, 2)
{
	uint32_t here = ask_hostb(scene), of_peer;

	assert_int_equal(ask_by(scene, 1, 5, ASK_DOMAINS, 0, "hostb", ""), 0);
	of_peer = expect_ask(scene, HOSTB, "");
	for (unsigned i = 0; i < 8; i++) {
		if (has_part)
			tell_by(scene, HOSTB, here, 5 + i, TOLD_MORE, 3, 3);
		fail_by(scene, HOSTB, here, EAGAIN);
		assert_int_equal(expect_ask(scene, HOSTB, "work"), here);
		expect_no_more(scene);
	}
	fail_by(scene, HOSTB, here, EAGAIN);
	expect_answer(scene, EPROTO);
	if (has_part) {
		tell_by(scene, HOSTB, of_peer, 5, TOLD_MORE, 3, 3);
		assert_int_equal(expect_told(scene, 1).count, 3);
		fail_by(scene, HOSTB, of_peer, EAGAIN);
		scene_settle(scene);
		assert_int_equal(expect_told(scene, 1).error, EAGAIN);
		return;
	}
	fail_by(scene, HOSTB, of_peer, EAGAIN);
	assert_int_equal(expect_ask(scene, HOSTB, ""), of_peer);
	asks_hand_over(scene->asks);
	expect_unask(scene, HOSTB, of_peer);
	scene_settle(scene);
	assert_int_equal(expect_told(scene, 1).error, EAGAIN);
}

SCENE_TEST(a_question_that_a_living_peer_does_not_answer_ends, start_in_domain_0)
{
	uint32_t here, of_peer;

	here = ask_hostb(scene);
	assert_int_equal(ask_by(scene, 1, 5, ASK_DOMAINS, 0, "hostb", ""), 0);
	of_peer = expect_ask(scene, HOSTB, "");
	/* Who is to hear of a change waits for it. */
	assert_int_equal(ask_by(scene, 1, 6, ASK_DOMAINS, 4711, "hostb", ""), 0);
	expect_ask(scene, HOSTB, "");
	scene_await_told(scene, 1);
	expect_answer(scene, ETIMEDOUT);
	expect_unask(scene, HOSTB, here);
	scene_await_sent(scene, scene->sent_seen + 2);
	expect_unask(scene, HOSTB, of_peer);
	assert_int_equal(expect_told(scene, 1).error, ETIMEDOUT);
	expect_no_more(scene);
	assert_int_equal(scene_held(scene, QUOTA_UID, UID), 0);
	assert_int_equal(scene_held(scene, QUOTA_PEER, 1), CHARGE);
	asks_session_ended(scene->asks, peer_of(1), ECONNRESET);
}

SCENE_TEST(an_answer_that_may_lie_there_unread_has_as_long_again, start_in_domain_0)
{
	uint64_t begun = clock_ms();

	ask_hostb(scene);
	scene->has_unread = true; /* and it always has */
	scene_await_told(scene, 1);
	assert_true(clock_ms() - begun >= 2 * ANSWER_MS);
	expect_answer(scene, ETIMEDOUT);
}

SCENE_TEST(a_question_to_who_is_away_waits_until_resume_for_is_over, start_in_domain_0)
{
	uint64_t begun = clock_ms();

	ask_hostb(scene);
	scene->takes_asks = 0;
	scene_await_told(scene, 1);
	assert_true(clock_ms() - begun >= ANSWER_MS + RESUME_FOR_MS);
	expect_answer(scene, ETIMEDOUT);
}

SCENE_TEST(who_was_away_and_is_back_has_as_long_to_answer_as_ever, start_in_domain_0)
{
	uint32_t number = ask_hostb(scene);

	scene->takes_asks = 0;
	for (uint64_t begun = clock_ms(); clock_ms() - begun <= ANSWER_MS;) {
		assert_int_equal(event_base_loop(scene->base, EVLOOP_ONCE), 0);
		assert_int_equal(scene->told_count, 0);
	}
	scene->takes_asks = 1;
	assert_int_equal(event_base_loop(scene->base, EVLOOP_NONBLOCK), 0);
	tell_by(scene, HOSTB, number, 5, 0, 0, 3);
	scene_await_told(scene, 1);
	expect_answer(scene, 0);
}

SCENE_TEST(what_nobody_wants_any_more_is_withdrawn, start_in_domain_0)
{
	uint32_t number = ask_hostb(scene);

	asks_cancel(scene->asks, scene, 7);
	expect_unask(scene, HOSTB, number);
	assert_int_equal(scene_held(scene, QUOTA_UID, UID), 0);
	number = ask_hostb(scene);
	asks_forget(scene->asks, scene);
	expect_unask(scene, HOSTB, number);
	tell_by(scene, HOSTB, number, 5, 0, 0, 3);
	scene_settle(scene);
	assert_int_equal(scene->told_count, 0);
}

/* That a question waits for its link can't be taken back, so it is paid for until that ends. */
SCENE_TEST(who_asks_and_cancels_without_a_link_pays_until_it_is_known, start_with_room_for_ten)
{
	int r = 0;
	unsigned asked = 0;

	scene->takes_asks = 0;
	for (; r == 0 && asked < 1000; asked++) {
		r = ask_here(scene, ASK_DOMAINS, "hostb", "", asked);
		asks_cancel(scene->asks, scene, asked);
	}
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(scene->awaits, 10);
	for (uint32_t id = 1; id <= asked; id++)
		scene->link_up(scene->asks, id, 0);
	scene_settle(scene);
	assert_int_equal(scene->told_count, 0);
	expect_no_more(scene); /* nothing was asked, so nothing is withdrawn */
	assert_int_equal(scene_held(scene, QUOTA_UID, UID), 0);
	/* The same for a guest. */
	for (uint32_t number = 0; number < 100; number++) {
		assert_int_equal(ask_by(scene, 1, number, ASK_DOMAINS, 0, "hostb", ""), 0);
		unask_by(scene, 1, number);
	}
	assert_int_equal(scene->awaits, 20);
	asks_session_ended(scene->asks, peer_of(1), ECONNRESET);
}

/* --- answered here ---------------------------------------------------------------------------- */

SCENE_TEST(an_answer_is_made_in_pieces_and_told_in_parts, start_in_guest)
{
	unsigned told = 0, pieces = 0;
	struct frame_told part;

	scene_bind(scene, 1000, 5);
	assert_int_equal(ask_by(scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	for (; switch_is_busy(&scene->board); pieces++) {
		unsigned before = scene->looked_at;

		switch_pass(&scene->board);
		assert_in_range(scene->looked_at - before, 0, TURNS_PASS / 100 + 20);
	}
	assert_int_equal(scene->looked_at, 1001);
	do {
		part = expect_told(scene, 0);
		assert_int_equal(part.error, 0);
		assert_int_equal(part.domid, 1);
		told += part.count;
	} while (part.flags & TOLD_MORE);
	assert_int_equal(told, 1000);
	expect_no_more(scene);
	assert_int_equal(scene_held(scene, QUOTA_HOST, HOSTB), 0);
}

/* All that fits is told, and that there is more. */
static const struct {
	unsigned bound, name_size, told;
} lists[] = {
	{300, 63, 300},
	{2048, 63, 2048},
	{TOLD_COUNT, 5, TOLD_COUNT},
	{TOLD_COUNT + 1, 5, TOLD_COUNT},
	{4000, 63, TOLD_MAX / TOLD_ENTRY_SIZE(63)},
};

SCENE_TEST_EACH(what_does_not_fit_is_left_out_and_that_is_told, start_in_guest, i, ROWS(lists))
{
	uint32_t size = 0, told = 0;
	struct frame_told part;

	scene_bind(scene, lists[i].bound, lists[i].name_size);
	ask_once(scene, 0, 3, ASK_ENDPOINTS, "1", "hostb");
	do {
		part = expect_told(scene, 0);
		told += part.count;
		size += (uint32_t)(part.end - part.at);
		assert_int_equal(!!(part.flags & TOLD_CUT), lists[i].told < lists[i].bound);
	} while (part.flags & TOLD_MORE);
	assert_int_equal(told, lists[i].told);
	assert_int_equal(size, told * TOLD_ENTRY_SIZE(lists[i].name_size));
	assert_int_equal(scene_held(scene, QUOTA_HOST, HOSTB), 0);
}

SCENE_TEST(who_knows_the_answer_is_told_when_it_changes, start_in_guest)
{
	struct frame_told told;

	scene_bind(scene, 2, 5);
	ask_once(scene, 0, 3, ASK_ENDPOINTS, "1", "hostb");
	told = expect_told(scene, 0);
	assert_int_equal(ask_by(scene, 0, 4, ASK_ENDPOINTS, told.version, "1", "hostb"), 0);
	scene_settle(scene);
	expect_no_more(scene);
	scene_bind(scene, 3, 5);
	scene->sink->changed(scene->sink->userdata, REGISTRY_NAME, 7);
	scene_await_sent(scene, scene->sent_seen + 1);
	told = expect_told(scene, 0);
	assert_int_equal(told.number, 4);
	assert_int_equal(told.count, 3);
}

/* Asks for endpoints, of which `known` is known. Returns the last part of the answer. */
static struct frame_told ask_endpoints(struct scene *scene, uint32_t number, uint64_t known, unsigned *count)
{
	struct frame_told part;

	assert_int_equal(ask_by(scene, 0, number, ASK_ENDPOINTS, known, "1", "hostb"), 0);
	scene_await_sent(scene, scene->sent_seen + 1);
	*count = 0;
	do {
		part = expect_told(scene, 0);
		*count += part.count;
		scene_settle(scene);
	} while (part.flags & TOLD_MORE);
	return part;
}

SCENE_TEST(what_was_cut_for_want_of_bytes_is_told_when_there_are, start_in_guest)
{
	struct account *account = quota_account(scene->quota, QUOTA_HOST, HOSTB);
	struct frame_told told;
	struct charge other;
	unsigned count;

	charge_init(&other, account);
	for (uint64_t size = 1u << 29; size > 1000; size /= 2)
		while (charge_add(&other, QUOTA_BYTES, size) == 0)
			;
	charge_release(&other, QUOTA_BYTES, 20000); /* for a question, and none that is larger */
	scene_bind(scene, 1000, 63);
	told = ask_endpoints(scene, 3, 0, &count);
	assert_true(told.flags & TOLD_CUT);
	assert_in_range(count, 1, 300);
	assert_int_equal(ask_by(scene, 0, 4, ASK_ENDPOINTS, told.version, "1", "hostb"), 0);
	scene_settle(scene);
	expect_no_more(scene);
	charge_end(&other);
	scene_await_sent(scene, scene->sent_seen + 1);
	told = expect_told(scene, 0);
	assert_int_equal(told.number, 4);
	assert_false(told.flags & TOLD_CUT);
	account_unref(account);
}

SCENE_TEST(who_does_not_read_is_told_later, start_in_guest)
{
	scene_bind(scene, 2, 5);
	scene->send_error = -ENOBUFS;
	ask_once(scene, 0, 3, ASK_ENDPOINTS, "1", "hostb");
	assert_int_not_equal(scene_held(scene, QUOTA_HOST, HOSTB), 0);
	scene->send_error = 0;
	scene_await_sent(scene, 1);
	assert_int_equal(expect_told(scene, 0).count, 2);
	scene_settle(scene);
}

SCENE_TEST(who_asks_too_much_is_refused_and_others_are_not, start_with_room_for_three)
{
	scene->send_error = -ENOBUFS; /* so that the questions stay */
	for (uint32_t number = 0; number < 3; number++)
		ask_once(scene, 0, number, ASK_ENDPOINTS, "1", "hostb");
	scene->send_error = 0;
	assert_int_equal(ask_by(scene, 0, 3, ASK_ENDPOINTS, 0, "1", "hostb"), 0);
	assert_int_equal(expect_told(scene, 0).error, ENOBUFS);
	assert_int_equal(ask_here(scene, ASK_DOMAINS, "hostc", "", 7), 0);
	expect_ask(scene, 0, "hostc");
	unask_by(scene, 0, 2);
	ask_once(scene, 0, 3, ASK_ENDPOINTS, "1", "hostb");
	assert_int_equal(expect_told(scene, 0).number, 3);
}

SCENE_TEST(only_domain_0_speaks_for_hosts, start_in_guest)
{
	scene_bind(scene, 2, 5);
	expect_refusal(scene, 2, ASK_ENDPOINTS, "1", "hostb", EACCES);
	assert_int_equal(scene->noted, 0); /* or it could fill our table of hosts */
	expect_refusal(scene, 0, ASK_ENDPOINTS, "2", "hostb", EINVAL);
}

SCENE_TEST(what_another_host_cannot_ask_gets_an_error, start_in_domain_0)
{
	static const struct {
		unsigned kind;
		const char *name;
		uint32_t error;
	} refused[] = {
		{0, "", EINVAL},
		{255, "", EINVAL},
		{ASK_HOSTS, "", EINVAL},
		{ASK_ENDPOINTS, "", EINVAL},
		{ASK_ENDPOINTS, "self", EINVAL},
		{ASK_ENDPOINTS, "hostc/1", EINVAL},
		{ASK_ENDPOINTS, "77", EHOSTDOWN},
	};

	for (size_t i = 0; i < ROWS(refused); i++)
		expect_refusal(scene, HOSTB, (enum ask_kind)refused[i].kind, refused[i].name, "",
			       refused[i].error);
	expect_no_more(scene);
}

SCENE_TEST(a_number_that_is_out_is_not_asked_again, start_in_domain_0)
{
	assert_int_equal(ask_by(scene, 1, 3, ASK_DOMAINS, 0, "hostb", ""), 0);
	assert_int_equal(ask_by(scene, 1, 3, ASK_DOMAINS, 0, "hostb", ""), -EPROTO);
	assert_int_equal(ask_by(scene, 2, 3, ASK_DOMAINS, 0, "hostb", ""), 0);
}

SCENE_TEST(hosts_are_told_to_domains_of_this_host, start_in_domain_0)
{
	struct frame_told_entry entry;
	struct frame_told told;

	for (uint32_t number = 0; number < 2; number++) {
		scene->out = number ? -EACCES : 0;
		ask_once(scene, 1, number, ASK_HOSTS, "", "");
		told = expect_told(scene, 1);
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
	expect_refusal(scene, HOSTB, ASK_HOSTS, "", "", EINVAL);
	scene->own_name[0] = '\0';
	expect_refusal(scene, 1, ASK_HOSTS, "", "", EHOSTUNREACH);
}

/* --- passed on -------------------------------------------------------------------------------- */

/* Question 9 of this domain is passed on to another host. Returns its number there. */
static uint32_t pass_on(struct scene *scene, uint32_t domid)
{
	ask_once(scene, domid, 9, ASK_ENDPOINTS, "hostb/work", "");
	return expect_ask(scene, HOSTB, "work");
}

SCENE_TEST(parts_are_passed_on_as_they_come, start_in_domain_0)
{
	uint32_t number = pass_on(scene, 1);

	tell_by(scene, HOSTB, number, 5, TOLD_MORE, 0, 3);
	assert_int_equal(expect_told(scene, 1).number, 9);
	/* Somebody else's answer means nothing. */
	tell_by(scene, 2, number, 5, 0, 3, 1);
	expect_no_more(scene);
	tell_by(scene, HOSTB, number, 5, 0, 3, 4);
	assert_int_equal(expect_told(scene, 1).flags, 0);
	assert_int_equal(scene_held(scene, QUOTA_PEER, 1), 0);
}

/* A host that lies can't make domain 0 send its guest more than an answer, at the guest's expense. */
SCENE_TEST_EACH(an_answer_without_end_is_ended, start_in_domain_0, has_entries, 2)
{
	uint32_t number = pass_on(scene, 1);
	unsigned told = 0;

	for (unsigned i = 0; i < 3000; i++)
		tell_by(scene, HOSTB, number, 5, TOLD_MORE, 0, has_entries ? 32 : 0);
	scene_settle(scene);
	while (scene->sent[scene->sent_seen].type == FRAME_TOLD)
		told += expect_told(scene, 1).count;
	assert_in_range(told, 0, TOLD_COUNT);
	expect_unask(scene, HOSTB, number);
	assert_int_equal(expect_told(scene, 1).error, EPROTO);
	expect_no_more(scene);
	assert_int_equal(scene_held(scene, QUOTA_PEER, 1), 0);
}

SCENE_TEST(a_guest_that_goes_takes_its_questions_along, start_in_domain_0)
{
	uint32_t number = pass_on(scene, 1);

	asks_session_ended(scene->asks, peer_of(1), ECONNRESET);
	expect_unask(scene, HOSTB, number);
	assert_int_equal(scene_held(scene, QUOTA_PEER, 1), 0);
	tell_by(scene, HOSTB, number, 5, 0, 0, 1);
	expect_no_more(scene);
}

SCENE_TEST(a_guest_that_has_another_number_gets_its_answer, start_in_domain_0)
{
	uint32_t number = pass_on(scene, 2);

	asks_renumber(scene->asks, 2, 1);
	tell_by(scene, HOSTB, number, 5, 0, 0, 1);
	assert_int_equal(expect_told(scene, 1).number, 9);
}
