/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hosts that come and go on a network between several of them, and who may have a name. */
#include "tests/unit/unit.h"

#include "gateway/presence.h"

#define SITES_MAX 64u

struct site {
	struct presence *presence;
	char name[16];
	unsigned ups, downs, others, published, heres;
	bool is_joined, has_rival;
	uint64_t said_ms; /* what it was told of a host last */
};

static struct network {
	struct site sites[SITES_MAX];
	unsigned count;
	uint64_t now;
	bool is_lost; /* what is sent now reaches nobody */
} network;

static unsigned number_of(const struct site *site)
{
	return (unsigned)(site - network.sites);
}

static void on_publish(void *userdata, const char *text, size_t size)
{
	struct site *from = userdata;

	from->published++;
	for (unsigned i = 0; i < network.count && !network.is_lost; i++)
		if (i != number_of(from) && network.sites[i].presence)
			presence_message(network.sites[i].presence, from->name, text, size, network.now);
}

static void on_here(void *userdata, const char *host, const char *text, size_t size)
{
	struct site *from = userdata;

	from->heres++;
	for (unsigned i = 0; i < network.count; i++)
		if (network.sites[i].presence && !strcmp(network.sites[i].name, host))
			presence_message(network.sites[i].presence, from->name, text, size, network.now);
}

static void on_joined(void *userdata)
{
	struct site *site = userdata;

	site->is_joined = true;
}

static void on_host(void *userdata, const char *host, const char *instance, bool up, bool is_other,
		    uint64_t said_ms, const char *why)
{
	struct site *site = userdata;

	site->said_ms = said_ms;
	site->ups += up;
	site->downs += !up;
	site->others += is_other;
}

static void on_rival(void *userdata, const char *gateway, const char *instance)
{
	struct site *site = userdata;

	site->has_rival = true;
}

static const struct presence_callbacks callbacks = {
	.publish = on_publish,
	.here = on_here,
	.joined = on_joined,
	.host = on_host,
	.rival = on_rival,
};

static struct site *come(const char *name)
{
	struct site *site = &network.sites[network.count++];
	char gateway[16];

	*site = (struct site){0};
	snprintf(site->name, sizeof(site->name), "%s", name);
	/* whoever comes later has the lower one */
	snprintf(gateway, sizeof(gateway), "%04u", 9999 - network.count);
	assert_int_equal(
		presence_new(&site->presence, &callbacks, site, name, gateway, 5000, 15000, network.now), 0);
	presence_set_instance(site->presence, "aa", network.now);
	presence_start(site->presence, network.now);
	return site;
}

static void go(struct site *site)
{
	presence_free(site->presence);
	site->presence = NULL;
}

static void pass(uint64_t ms)
{
	for (uint64_t end = network.now + ms; network.now < end;) {
		network.now += PRESENCE_TICK_MS;
		for (unsigned i = 0; i < network.count; i++)
			if (network.sites[i].presence)
				presence_tick(network.sites[i].presence, network.now);
	}
}

static int begin(void **state)
{
	network = (struct network){.now = 1000};
	return 0;
}

static int finish(void **state)
{
	for (unsigned i = 0; i < network.count; i++)
		presence_free(network.sites[i].presence);
	return 0;
}

TEST_WITH(hosts_find_each_other_within_two_seconds, begin, finish)
{
	struct site *a = come("a"), *b;

	pass(3000);
	b = come("b");
	pass(2250);
	assert_true(presence_is_up(a->presence, "b") && presence_is_up(b->presence, "a"));
	pass(60000);
	assert_int_equal(a->ups, 1);
	assert_int_equal(b->ups, 1);
	assert_int_equal(a->downs + b->downs, 0);
}

TEST_WITH(a_newcomer_costs_a_message_of_each, begin, finish)
{
	unsigned heres = 0;
	struct site *last;

	for (unsigned i = 0; i < 40; i++) {
		char name[16];

		snprintf(name, sizeof(name), "h%u", i);
		come(name);
	}
	pass(10000);
	for (unsigned i = 0; i < network.count; i++)
		network.sites[i].heres = 0;
	last = come("last");
	pass(4000);
	for (unsigned i = 0; i < network.count; i++)
		heres += network.sites[i].heres;
	assert_int_equal(presence_count_up(last->presence), 40);
	assert_in_range(heres, 40, 80); /* and it greets those whom it meets */
}

TEST_WITH(who_says_nothing_is_down_after_dead_after, begin, finish)
{
	struct site *a = come("a"), *b = come("b");

	pass(3000);
	go(b);
	pass(9000);
	assert_true(presence_is_up(a->presence, "b"));
	pass(7000);
	assert_false(presence_is_up(a->presence, "b"));
	assert_int_equal(a->downs, 1);
}

TEST_WITH(who_says_good_bye_is_down_at_once, begin, finish)
{
	struct site *a = come("a"), *b = come("b");

	pass(PRESENCE_JOIN_MS);
	presence_leave(b->presence, network.now);
	assert_false(presence_is_up(a->presence, "b"));
	presence_start(b->presence, network.now);
	assert_false(presence_is_up(a->presence, "b"));
	pass(PRESENCE_CHANGE_MS);
	assert_true(presence_is_up(a->presence, "b"));
}

TEST_WITH(who_comes_too_soon_and_goes_again_is_down, begin, finish)
{
	struct site *a = come("a"), *b = come("b");

	pass(PRESENCE_JOIN_MS);
	presence_leave(b->presence, network.now);
	presence_start(b->presence, network.now);
	presence_leave(b->presence, network.now);
	pass(2000);
	assert_false(presence_is_up(a->presence, "b"));
	assert_int_equal(a->ups, 1);
}

TEST_WITH(another_gateway_or_daemon_of_a_host_is_told, begin, finish)
{
	struct site *a = come("a"), *b = come("b");

	pass(3000);
	presence_set_instance(b->presence, "bb", network.now);
	assert_int_equal(a->others, 1);
	go(b);
	come("b");
	pass(2000);
	assert_int_equal(a->others, 2);
	assert_true(presence_is_up(a->presence, "b"));
}

/* What begins in between is with the new one. */
TEST_WITH(what_is_told_later_was_said_when_it_was_heard, begin, finish)
{
	struct site *a = come("a"), *b = come("b");
	uint64_t said_ms;

	pass(3000);
	presence_set_instance(b->presence, "bb", network.now);
	assert_int_equal(a->said_ms, network.now);
	pass(PRESENCE_TICK_MS);
	said_ms = network.now;
	presence_set_instance(b->presence, "cc", said_ms);
	assert_int_equal(a->others, 1);
	network.now++;
	presence_set_instance(b->presence, "cc", network.now); /* once more */
	pass(2 * PRESENCE_CHANGE_MS);
	assert_int_equal(a->others, 2);
	assert_int_equal(a->said_ms, said_ms);
}

TEST_WITH(the_later_of_two_with_one_name_is_nobody_and_steps_back, begin, finish)
{
	struct site *other = come("b"), *first = come("a"), *second;

	pass(1500); /* less than what counts as the same age */
	second = come("a");
	for (unsigned i = 0; i < 8 && !second->has_rival; i++) {
		assert_false(second->is_joined);
		pass(PRESENCE_TICK_MS);
	}
	assert_true(second->has_rival);
	assert_false(first->has_rival);
	assert_int_equal(other->others, 0);
}

TEST_WITH(of_two_that_come_at_once_one_stays, begin, finish)
{
	struct site *first = come("a"), *second = come("a");

	pass(250);
	assert_int_equal(first->has_rival + second->has_rival, 1);
}

TEST_WITH(who_goes_ends_nobody_that_joins, begin, finish)
{
	struct site *first = come("a"), *second;

	pass(5000);
	network.is_lost = true; /* it is about to go, and isn't heard any more */
	second = come("a");
	network.is_lost = false;
	presence_leave(first->presence, network.now);
	pass(2000);
	assert_true(second->is_joined);
	assert_false(second->has_rival);
}

TEST_WITH(who_stood_still_for_dead_after_has_lost_its_name, begin, finish)
{
	struct site *first = come("a"), *second;
	struct presence *still = first->presence;

	pass(30000);
	first->presence = NULL;
	pass(16000);
	second = come("a");
	pass(7000);
	assert_true(second->is_joined);
	first->presence = still;
	pass(2000);
	assert_true(first->has_rival);
	assert_false(second->has_rival);
}

TEST_WITH(of_two_that_were_apart_the_older_stays, begin, finish)
{
	struct site *first = come("a"), *second;

	network.is_lost = true;
	pass(10000);
	second = come("a");
	pass(5000);
	assert_true(first->is_joined && second->is_joined);
	network.is_lost = false;
	pass(6000);
	assert_true(second->has_rival);
	assert_false(first->has_rival);
}

TEST_WITH(who_changes_all_the_time_is_heard_now_and_then, begin, finish)
{
	struct site *a = come("a"), *b = come("b");
	unsigned before;

	pass(3000);
	before = a->ups;
	for (unsigned i = 0; i < 1000; i++)
		presence_set_instance(b->presence, i % 2 ? "cc" : "bb", network.now);
	assert_int_equal(a->ups, before + 1);
	pass(PRESENCE_CHANGE_MS);
	assert_int_equal(a->ups, before + 2); /* what it was at last */
	pass(6000);
	assert_int_equal(a->ups, before + 2);
}

TEST_WITH(what_is_no_presence_is_ignored, begin, finish)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"{\"version\":1,\"gateway\":\"aa\",\"instance\":\"aa\",\"up\":true,\"age\":1}x",
		"{\"version\":1,\"gateway\":\"aa\",\"instance\":\"aa\",\"up\":true,\"age\":-1}",
		"{\"version\":1,\"gateway\":\"aa\",\"instance\":\"<b>\",\"up\":true,\"age\":1}",
		"{\"version\":1,\"gateway\":\"\",\"instance\":\"aa\",\"up\":true,\"age\":1}",
		"{\"version\":0,\"gateway\":\"aa\",\"instance\":\"aa\",\"up\":true,\"age\":1}",
	};
	struct site *a = come("a");

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		presence_message(a->presence, "b", texts[i], strlen(texts[i]), network.now);
	assert_int_equal(a->ups, 0);
}
