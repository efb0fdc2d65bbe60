/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where an address leads, or why it leads nowhere.
 */
#include "tests/unit/router_rig.h"

#include "daemon/serve/router.h"

SCENE_TEST_EACH(address_of_this_domain_leads_to_the_program_here, scene_start, i, 3)
{
	static const char *const addresses[] = {"5:inbox", "self:inbox", "home:inbox"};

	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	open_kind(scene->a, 0, CHANNEL_MESSAGE, addresses[i], strlen(addresses[i]));
	expect_open(scene->b, "inbox");
	assert_int_equal(scene->links, 0);
	assert_int_equal(scene->resolved, i == 2);
}

SCENE_TEST_EACH(address_of_another_domain_leads_to_its_link, scene_start, i, 2)
{
	static const char *const addresses[] = {"7:inbox", "work:inbox"};

	/* ours is none of its business, */
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	scene->denied = "inbox"; /* nor is our policy */
	open_kind(scene->a, 0, CHANNEL_MESSAGE, addresses[i], strlen(addresses[i]));
	expect_open(scene->link, "inbox");
	assert_int_equal(scene->links, 1);
	assert_int_equal(scene->b->hop.channels.count, 0);
}

SCENE_TEST(address_of_a_domain_without_a_link_is_relayed, scene_start)
{
	scene->link_error = -ENOLINK;
	open_kind(scene->a, 0, CHANNEL_MESSAGE, "work:inbox", 10);
	expect_open(scene->link, "7:inbox");
	assert_int_equal(scene->relayed, 1);
	scene->relay_error = -EHOSTUNREACH;
	open_kind(scene->a, 2, CHANNEL_MESSAGE, "7:inbox", 7);
	participant_expect_refusal(scene->a, 2, EHOSTUNREACH);
}

SCENE_TEST(address_that_leads_nowhere_says_why, scene_start)
{
	refused(scene, "", EINVAL);
	refused(scene, "inbox", EINVAL);
	refused(scene, "5:", EINVAL);
	refused(scene, ":inbox", EINVAL);
	refused(scene, "5:in:box", EINVAL);
	refused(scene, "5:in box", EINVAL);
	refused(scene, "nobody:inbox", EHOSTDOWN);
	refused(scene, "5:inbox", ENOENT);
	scene->link_error = -EHOSTUNREACH;
	refused(scene, "7:inbox", EHOSTUNREACH);
	scene->link_error = -EHOSTDOWN;
	refused(scene, "7:inbox", EHOSTDOWN);
}

SCENE_TEST(question_that_comes_before_the_daemon_can_answer_is_refused, scene_start)
{
	refused(scene, "5:xenmsg", ECONNRESET);
	router_set_questions(scene->router, (void *)scene);
	refused(scene, "5:xenmsg", EACCES); /* of questions_accept() here */
}

SCENE_TEST(number_of_this_domain_may_change, scene_start)
{
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	scene->self.domid = 7;
	open_kind(scene->a, 0, CHANNEL_MESSAGE, "7:inbox", 7);
	expect_open(scene->b, "inbox");
	open_kind(scene->a, 2, CHANNEL_MESSAGE, "self:inbox", 10);
	expect_open(scene->b, "inbox");
	assert_int_equal(scene->links, 0);
}
