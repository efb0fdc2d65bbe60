/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The names of endpoints: each has one owner, is paid for, and goes with its program.
 */
#include "tests/unit/router_rig.h"

#include "base/quota.h"
#include "daemon/serve/router.h"

SCENE_TEST(name_has_one_owner_at_a_time, scene_start)
{
	assert_int_equal(bind_name(scene, scene->a, "inbox", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), -EEXIST);
	assert_int_equal(bind_name(scene, scene->a, "inbox", ANY_KIND), -EEXIST);
	assert_int_equal(unbind_name(scene, scene->b, "inbox"), -ENOENT);
	assert_int_equal(unbind_name(scene, scene->a, "other"), -ENOENT);
	assert_int_equal(router_endpoints(scene->router), 1);
	assert_int_equal(scene->bound, 1);
	assert_int_equal(scene->unbound, 0);
	assert_int_equal(unbind_name(scene, scene->a, "inbox"), 0);
	assert_int_equal(scene->unbound, 1);
	assert_string_equal(scene->last, "inbox");
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
}

SCENE_TEST(what_is_no_name_cannot_be_bound, scene_start)
{
	static const char *const bad[] = {"",
					  "no/name",
					  "no name",
					  "-x",
					  "a:b",
					  "\xc3\xa4",
					  "1234567890123456789012345678901234567890123456789012345678901234"};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(bind_name(scene, scene->a, bad[i], ANY_KIND), -EINVAL);
	assert_int_equal(bind_name(scene, scene->a, "inbox", 0), -EINVAL); /* for nothing */
	assert_int_equal(bind_name(scene, scene->a, bad[6] + 1, ANY_KIND), 0);
	assert_int_equal(scene->bound, 1);
}

SCENE_TEST(names_go_with_their_program, scene_start)
{
	assert_int_equal(bind_name(scene, scene->a, "one", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->b, "two", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->a, "three", ANY_KIND), 0);
	router_unbind_all(scene->router, &scene->a->hop);
	assert_int_equal(scene->unbound, 2);
	assert_int_equal(router_endpoints(scene->router), 1);
	refused(scene, "5:one", ENOENT);
	open_kind(scene->a, 0, CHANNEL_MESSAGE, "5:two", 5);
	expect_open(scene->b, "two");
}

SCENE_TEST(names_are_listed_in_order, scene_start)
{
	static const char *const names[] = {"print", "a", "inbox", "printer", "Z", "b-1"};
	char list[256] = "";
	const struct endpoint *endpoint;

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_int_equal(bind_name(scene, i & 1 ? scene->a : scene->b, names[i], ANY_KIND), 0);
	for (endpoint = router_next(scene->router, ""); endpoint;
	     endpoint = router_next(scene->router, endpoint->name))
		strcat(strcat(list, endpoint->name), " ");
	assert_string_equal(list, "Z a b-1 inbox print printer ");
}

SCENE_TEST(walk_over_names_goes_on_where_one_has_gone, scene_start)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	const struct endpoint *endpoint;
	char at[ENDPOINT_NAME_MAX + 1] = "";

	assert_null(router_next(scene->router, ""));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(bind_name(scene, scene->a, names[i], ANY_KIND), 0);
	for (unsigned i = 0; i < 4; i++) {
		endpoint = router_next(scene->router, at);
		assert_non_null(endpoint);
		assert_string_equal(endpoint->name, names[i]);
		assert_ptr_equal(router_find(scene->router, names[i]), endpoint);
		strcpy(at, names[i]);
		if (i & 1)
			assert_int_equal(unbind_name(scene, scene->a, names[i]), 0);
	}
	assert_null(router_next(scene->router, at));
	assert_null(router_find(scene->router, at));
}

/* However many come and go in a turn of the loop. */
SCENE_TEST(other_domains_are_told_of_all_names_at_once, scene_start)
{
	assert_int_equal(bind_name(scene, scene->a, "one", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->b, "two", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->a, "three", ANY_KIND), 0);
	assert_int_equal(unbind_name(scene, scene->a, "one"), 0);
	assert_int_equal(scene->advertised, 0);
	rig_settle(&scene->rig);
	assert_int_equal(scene->advertised, 1);
	assert_string_equal(scene->names, "three two ");
	router_unbind_all(scene->router, &scene->b->hop);
	rig_settle(&scene->rig);
	assert_int_equal(scene->advertised, 2);
	assert_string_equal(scene->names, "three ");
}

TEST(endpoint_is_paid_for_until_it_goes)
{
	struct quota_limits limits = {.pool[QUOTA_ENDPOINTS] = 100, .max[QUOTA_UID][QUOTA_ENDPOINTS] = 2};
	struct quota *quota = quota_new(&limits);
	struct scene scene;

	assert_non_null(quota);
	scene_start(&scene);
	hop_set_account(&scene.a->hop, quota_account(quota, QUOTA_UID, 1000));
	assert_int_equal(bind_name(&scene, scene.a, "one", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.a, "two", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.a, "three", ANY_KIND), -ENOBUFS);
	assert_int_equal(bind_name(&scene, scene.a, "two", ANY_KIND), -EEXIST); /* which costs nothing */
	assert_int_equal(account_usage(scene.a->hop.account, QUOTA_ENDPOINTS).used, 2);
	assert_int_equal(unbind_name(&scene, scene.a, "one"), 0);
	assert_int_equal(bind_name(&scene, scene.a, "three", ANY_KIND), 0);
	router_unbind_all(scene.router, &scene.a->hop);
	assert_int_equal(account_usage(scene.a->hop.account, QUOTA_ENDPOINTS).used, 0);
	assert_int_equal(bind_name(&scene, scene.a, "left", ANY_KIND), 0);
	scene_stop(&scene);
	assert_int_equal(quota_pool(quota, QUOTA_ENDPOINTS).used, 0);
	quota_free(quota);
}
