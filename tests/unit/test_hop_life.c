/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of a hop's life (daemon/switch/hop_life.h): each life with each change. */
#include "tests/unit/unit.h"

#include "daemon/switch/hop_life.h"

typedef void (*check_fn)(enum hop_life life, enum hop_change change, enum hop_life after);

static void each(check_fn check)
{
	for (unsigned life = 0; life < HOP_LIVES; life++)
		for (unsigned change = 0; change < HOP_CHANGES; change++)
			check(life, change, hop_life_after(life, change));
}

static void gets_rings_when_attached(enum hop_life life, enum hop_change change, enum hop_life after)
{
	if (!hop_life_has_rings(life) && hop_life_has_rings(after))
		assert_int_equal(change, HOP_IS_ATTACHED);
}

TEST(hop_gets_rings_by_being_attached_alone)
{
	each(gets_rings_when_attached);
	assert_int_equal(hop_life_after(HOP_DETACHED, HOP_IS_ATTACHED), HOP_UP);
	assert_int_equal(hop_life_after(HOP_PAUSED, HOP_IS_ATTACHED), HOP_UP);
}

static void keeps_rings(enum hop_life life, enum hop_change change, enum hop_life after)
{
	bool leaves = change == HOP_IS_PAUSED || change == HOP_IS_DETACHED || change == HOP_IS_RETIRED;

	if (hop_life_has_rings(life))
		assert_int_equal(hop_life_has_rings(after), !leaves);
}

TEST(hop_keeps_its_rings_until_it_leaves_them)
{
	each(keeps_rings);
}

TEST(failed_hop_goes_on_only_over_other_rings)
{
	assert_int_equal(hop_life_after(HOP_UP, HOP_IS_FAILING), HOP_FAILED);
	assert_int_equal(hop_life_after(HOP_FINISHING, HOP_IS_FAILING), HOP_FAILED);
	for (unsigned change = 0; change < HOP_CHANGES; change++) {
		enum hop_life after = hop_life_after(HOP_FAILED, change);

		assert_true(after == HOP_FAILED || !hop_life_has_rings(after));
	}
}

TEST(hop_that_finishes_never_comes_up_again_over_the_same_rings)
{
	for (unsigned change = 0; change < HOP_CHANGES; change++)
		assert_int_not_equal(hop_life_after(HOP_FINISHING, change), HOP_UP);
	assert_int_equal(hop_life_after(HOP_UP, HOP_IS_FINISHING), HOP_FINISHING);
}

TEST(hop_without_rings_keeps_its_session_when_something_fails)
{
	assert_int_equal(hop_life_after(HOP_PAUSED, HOP_IS_FAILING), HOP_PAUSED);
	assert_int_equal(hop_life_after(HOP_DETACHED, HOP_IS_FAILING), HOP_DETACHED);
}

static void retires(enum hop_life life, enum hop_change change, enum hop_life after)
{
	if (change == HOP_IS_RETIRED || life == HOP_RETIRED)
		assert_int_equal(after, HOP_RETIRED);
	else
		assert_int_not_equal(after, HOP_RETIRED);
}

TEST(each_hop_can_retire_and_that_is_its_end)
{
	each(retires);
}
