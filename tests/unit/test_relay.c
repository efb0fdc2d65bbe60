/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Channels through domain 0: what each of the three daemons does with a relayed OPEN. Domains 1 and 2 have no
 * link; the parties are programs and the daemons at the other ends of links.
 */
#include "tests/unit/relay_rig.h"

#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "tests/unit/image_bytes.h"

/* --- where it begins -------------------------------------------------------------------------- */

SCENE_TEST(what_is_for_a_domain_without_a_link_goes_to_domain_0, start_in_domain_1)
{
	flow_start(scene->program, 0, "2:inbox", 1, 100000);
	participant_data(scene->program, 0, 4096, false);
	rig_settle(&scene->rig);
	expect_open(scene->link[0], "2:inbox", 1);
	assert_int_equal(scene->awaits, 0);
	assert_int_equal(scene->link[2]->hop.channels.count, 0);
}

SCENE_TEST(it_waits_until_domain_0_has_said_that_it_relays, start_in_domain_1)
{
	scene->relays = 0;
	for (uint32_t i = 0; i < 20; i++)
		participant_open(scene->program, 2 * i, "2:inbox");
	rig_settle(&scene->rig);
	assert_int_equal(scene->awaits, 1);
	assert_int_equal(scene->link[0]->hop.channels.count, 0);
	scene->relays = 1;
	scene->done(scene->pinger, scene->request, 0);
	/* What comes while they are led on comes behind them. */
	participant_open(scene->program, 40, "2:inbox");
	rig_settle(&scene->rig);
	assert_int_equal(scene->link[0]->hop.channels.count, 21);
	for (unsigned i = 0; i < 21; i++)
		expect_open(scene->link[0], "2:inbox", 1);
	assert_int_equal(scene->awaits, 1);
}

/* Writes the program, or reads another one. */
static void program_image(struct image *image, struct hop *program)
{
	bool shares = true;

	image_bool(image, &shares);
	hop_image(image, program);
}

SCENE_TEST(what_waits_for_domain_0_is_handed_over, start_in_domain_1)
{
	struct hop *next = hop_new(&scene->rig.board[0], HOP_SHARED, NULL, NULL, 1, 64);
	struct image_hops hops = {0};
	struct image image;
	uint8_t *bytes;
	size_t size;

	assert_int_equal(image_hops_add(&hops, next), 0);
	hops.sessions = 1;
	scene->relays = 0;
	participant_open(scene->program, 0, "2:inbox");
	rig_settle(&scene->rig);
	hop_set_image_number(&scene->program->hop, 0);
	assert_int_equal(relay_part.number(scene->relay, 1), 2);
	image_begin(&image);
	image_section(&image, IMAGE_SESSION);
	program_image(&image, &scene->program->hop);
	relay_part.write(scene->relay, &image);
	hop_write_channels(&image, &scene->program->hop);
	bytes = image_to_bytes(&image, &size);
	image_write_seed("waiting", bytes, size);
	relay_part.drop(scene->relay);
	image_open_bytes(&image, bytes, size);
	assert_int_equal(image_next(&image), IMAGE_SESSION);
	program_image(&image, next);
	assert_int_equal(image_next(&image), IMAGE_WAITING);
	assert_true(part_read(&relay_part, scene->relay, &image, IMAGE_WAITING, &hops));
	assert_int_equal(image_next(&image), IMAGE_CHANNEL);
	channel_read_image(&image, &hops);
	assert_int_equal(image_next(&image), 0);
	assert_int_equal(image.error, 0);
	assert_int_equal(scene->awaits, 1);
	relay_part.go_on(scene->relay);
	rig_settle(&scene->rig);
	assert_int_equal(scene->awaits, 2); /* it asks anew */
	scene->relays = 1;
	tell_asked(scene, 0);
	expect_open(scene->link[0], "2:inbox", 1);
	hop_retire(next, ECONNRESET);
	image_free(&image);
	free(hops.hops);
	free(bytes);
}

SCENE_TEST(link_that_is_lost_meanwhile_is_waited_for_again, start_in_domain_1)
{
	scene->relays = 0;
	participant_open(scene->program, 0, "2:inbox");
	rig_settle(&scene->rig);
	tell_asked(scene, 0);
	assert_int_equal(scene->awaits, 2);
	assert_int_equal(scene->link[0]->hop.channels.count, 0);
	tell_asked(scene, -EHOSTDOWN);
	expect_refusal(scene->program, 0, EHOSTUNREACH);
	assert_non_null(strstr(scene->explained, "no xenmsgd runs in domain 0"));
	assert_non_null(strstr(scene->explained, "map = yes under [links]"));
}

static void expect_explanation(struct scene *scene, const char *text)
{
	participant_open(scene->program, 0, "2:inbox");
	rig_settle(&scene->rig);
	expect_refusal(scene->program, 0, EHOSTUNREACH);
	assert_non_null(strstr(scene->explained, text));
	assert_non_null(strstr(scene->explained, "neither domain 1 nor domain 2 may map"));
}

/* What domain 0's daemon says, and whether it can be reached. */
static const struct {
	int relays, want;
	const char *text;
} missing[] = {
	{-EOPNOTSUPP, 0, "xenmsgd in domain 0 has relay = no"},
	{1, -EHOSTDOWN, "no xenmsgd runs in domain 0"},
	{1, -ENOLINK, "domain 0, which would relay, can't be reached"},
};

SCENE_TEST_EACH(what_is_missing_for_it_is_named, start_in_domain_1, i, ROWS(missing))
{
	scene->relays = missing[i].relays;
	scene->want_error = missing[i].want;
	expect_explanation(scene, missing[i].text);
}

SCENE_TEST(that_the_setting_forbids_it_is_named, start_in_domain_1_disabled)
{
	expect_explanation(scene, "relay = no is set here");
}

static int open_to_link_2(struct participant *participant, struct channel *channel,
			  const struct frame_open *open)
{
	return channel_accept(channel, &the_scene->link[2]->hop, "inbox_1");
}

SCENE_TEST(what_waited_for_the_link_itself_goes_to_domain_0_whole, start_in_domain_1)
{
	struct rig_options absent = {.kind = HOP_LINK, .ring = 65536, .parity = 0, .detached = true};

	scene->link[2] = participant_new(&scene->rig, &absent);
	scene->program->open = open_to_link_2;
	flow_start(scene->program, 0, "2:inbox", 1, GOAL);
	while (participant_data(scene->program, 0, 4096, false))
		rig_settle(&scene->rig);
	assert_int_equal(scene->link[2]->hop.channels.count, 1);
	relay_lead_waiting(scene->relay, peer_domain(2), &scene->link[2]->hop);
	assert_int_equal(scene->link[2]->hop.channels.count, 0);
	flows_run(&scene->rig, 4096, 8192);
	assert_true(flow_is_done(scene->program, 0));
	assert_int_equal(participant_accepted(scene->link[0], 1)->received, GOAL);
}

/* --- domain 0 --------------------------------------------------------------------------------- */

SCENE_TEST(domain_0_forwards_the_true_source, start_in_domain_0)
{
	open_as(scene->link[1], 1, 77 /* what it says of itself counts for nothing */, "2:inbox");
	expect_open(scene->link[2], "2:inbox", 1);
}

SCENE_TEST(window_from_link_to_link_is_no_more_than_two_rings, start_in_domain_0)
{
	struct channel_end *end;

	flow_start(scene->link[1], 1, "2:inbox", 1, 100 * GOAL);
	for (unsigned i = 0; i < 1000; i++) {
		participant_data(scene->link[1], 1, 16384, false);
		rig_settle(&scene->rig);
		participant_read(scene->link[1], 65536);
		if (i % 10 == 9)
			participant_read(scene->link[2], 1u << 20);
		rig_settle(&scene->rig);
	}
	end = channel_table_find(&scene->link[1]->hop.channels, 1);
	assert_non_null(end);
	assert_int_equal(end->channel->acceptor.window, 2 * 65536);
}

SCENE_TEST(domain_0_refuses_what_leads_nowhere, start_in_domain_0)
{
	refused_to(scene, scene->link[1], 1, "0:inbox", EINVAL); /* it isn't a way to itself, */
	refused_to(scene, scene->link[1], 1, "1:inbox", EINVAL); /* nor to the one that asks */
	refused_to(scene, scene->link[1], 1, "work:inbox", EINVAL);
	refused_to(scene, scene->link[1], 1, "2:", EINVAL);
	refused_to(scene, scene->link[1], 1, ":inbox", EINVAL);
	refused_to(scene, scene->link[1], 1, "2:in:box", EINVAL);
	refused_to(scene, scene->link[1], 1, "32752:inbox", EINVAL);
	scene->denied = -EACCES;
	refused_to(scene, scene->link[1], 1, "2:inbox", EACCES);
	scene->denied = -ENODATA;
	refused_to(scene, scene->link[1], 1, "2:inbox", ENODATA);
	scene->denied = 0;
	scene->want_error = -EHOSTDOWN;
	refused_to(scene, scene->link[1], 1, "2:inbox", EHOSTDOWN);
	scene->want_error = -ENOLINK;
	refused_to(scene, scene->link[1], 1, "2:inbox", EHOSTUNREACH);
	scene->want_error = 0;
	scene->relays = -EOPNOTSUPP; /* by its settings */
	refused_to(scene, scene->link[1], 1, "2:inbox", EHOSTUNREACH);
}

SCENE_TEST(domain_0_relays_nothing_if_the_setting_forbids_it, start_in_domain_0_disabled)
{
	refused_to(scene, scene->link[1], 1, "2:inbox", EHOSTUNREACH);
}

SCENE_TEST(channels_that_new_rules_forbid_end, start_in_domain_0)
{
	static struct participant_frame frame;
	struct frame_reset reset;

	open_as(scene->link[1], 1, 1, "2:inbox");
	expect_open(scene->link[2], "2:inbox", 1);
	recheck(scene);
	assert_false(participant_get(scene->link[2], 0, &frame));
	scene->taken_back = -EACCES;
	recheck(scene);
	assert_true(participant_expect(scene->link[1], FRAME_RESET, &frame));
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, EACCES);
	assert_true(participant_expect(scene->link[2], FRAME_RESET, &frame));
}

SCENE_TEST(channel_follows_its_destinations_number_if_the_rules_allow, start_in_domain_0)
{
	struct channel_end *end;
	uint32_t number = 0;

	open_as(scene->link[1], 1, 1, "2:inbox");
	expect_open(scene->link[2], "2:inbox", 1);
	end = channel_table_next(&scene->link[2]->hop.channels, &number);
	assert_non_null(end);
	scene->moved_destination = 9;
	assert_int_equal(relay_follow(scene->relay, end->channel, 9), 0);
	assert_string_equal(end->channel->endpoint, "9:inbox");
	scene->taken_back = -ENODATA; /* its name isn't known yet */
	scene->moved_destination = 10;
	assert_int_equal(relay_follow(scene->relay, end->channel, 10), 0);
	scene->taken_back = -EACCES;
	scene->moved_destination = 11;
	assert_int_equal(relay_follow(scene->relay, end->channel, 11), -EACCES);
}

SCENE_TEST(what_waits_for_a_domain_by_two_numbers_goes_to_it, start_in_domain_0)
{
	uint32_t later;

	scene->relays = 0;
	open_as(scene->link[1], 1, 1, "2:inbox"); /* which is saved, and comes back as domain 3 */
	open_as(scene->link[1], 3, 1, "3:inbox");
	later = scene->request;
	relay_renumber(scene->relay, 2, 3);
	rig_settle(&scene->rig);
	assert_int_equal(scene->awaits, 3);
	scene->relays = 1;
	scene->done(scene->pinger, later, 0);
	tell_asked(scene, 0);
	expect_open(scene->link[3], "3:inbox", 1);
	expect_open(scene->link[3], "3:inbox", 1);
	open_as(scene->link[1], 5, 1, "2:inbox"); /* another domain's number by now */
	expect_open(scene->link[2], "2:inbox", 1);
}

/* The source of what the participant has opened has another number now. */
static int source_moves(struct scene *scene, struct participant *participant, uint32_t to)
{
	struct channel_end *end = channel_table_find(&participant->hop.channels, 1);
	int r;

	assert_non_null(end);
	end->channel->identity.domid = scene->moved_to = to;
	r = relay_follow_source(scene->relay, end->channel);
	rig_settle(&scene->rig);
	return r;
}

SCENE_TEST(destination_is_told_a_moved_sources_number_if_rules_allow, start_in_domain_0)
{
	static struct participant_frame frame;
	uint32_t domid;

	open_as(scene->link[1], 1, 1, "2:inbox");
	expect_open(scene->link[2], "2:inbox", 1);
	assert_int_equal(source_moves(scene, scene->link[1], 9), 0);
	assert_true(participant_expect(scene->link[2], FRAME_SENDER, &frame));
	assert_int_equal(frame_u32_decode(frame.payload, frame.header.length, &domid), 0);
	assert_int_equal(domid, 9);
	scene->taken_back = -ENODATA; /* its name isn't known yet, and nothing ends before it is */
	assert_int_equal(source_moves(scene, scene->link[1], 10), 0);
	recheck(scene);
	assert_true(participant_expect(scene->link[2], FRAME_SENDER, &frame));
	assert_false(participant_get(scene->link[1], 0, &frame));
	scene->taken_back = -EACCES;
	assert_int_equal(source_moves(scene, scene->link[1], 11), -EACCES);
}

SCENE_TEST(destination_that_was_not_told_yet_is_told_the_last_number, start_in_domain_0)
{
	static struct participant_frame frame;

	scene->relays = 0;
	open_as(scene->link[1], 1, 1, "2:inbox");
	assert_int_equal(source_moves(scene, scene->link[1], 9), 0);
	scene->relays = 1;
	tell_asked(scene, 0);
	expect_open(scene->link[2], "2:inbox", 9);
	assert_false(participant_get(scene->link[2], 0, &frame));
	assert_int_equal(source_moves(scene, scene->link[1], 10), 0); /* now it has to be told */
	assert_true(participant_expect(scene->link[2], FRAME_SENDER, &frame));
}

SCENE_TEST(restored_domain_takes_what_was_relayed_to_its_earlier_number, start_in_domain_1)
{
	self_renumber(&scene->self, 3);
	self_renumber(&scene->self, 4);
	refused_to(scene, scene->link[0], 2, "5:inbox", EPROTO);
	open_as(scene->link[0], 1, 2, "1:inbox");
	expect_open(scene->program, "inbox", 2);
	open_as(scene->link[0], 3, 2, "3:inbox");
	expect_open(scene->program, "inbox", 2);
}

SCENE_TEST(restored_domain_takes_what_a_host_sent_to_its_earlier_number, start_in_domain_1)
{
	self_renumber(&scene->self, 3);
	open_from_remote(scene->link[0], 1, 7, "1:inbox");
	expect_open(scene->program, "inbox", 7);
	open_from_remote(scene->link[0], 3, 7, "3:inbox");
	expect_open(scene->program, "inbox", 7);
	open_from_remote(scene->link[0], 5, 7, "4:inbox");
	participant_expect_refusal(scene->link[0], 5, EPROTO);
}

SCENE_TEST(channels_that_wait_in_domain_0_end_by_new_rules_too, start_in_domain_0)
{
	scene->relays = 0;
	open_as(scene->link[1], 1, 1, "2:inbox");
	scene->taken_back = -EACCES;
	recheck(scene);
	expect_refusal(scene->link[1], 1, EACCES);
}

/* --- where it ends ---------------------------------------------------------------------------- */

SCENE_TEST(domain_0_is_believed_who_the_sender_is, start_in_domain_1)
{
	open_as(scene->link[0], 1, 2, "1:inbox");
	assert_string_equal(scene->endpoint, "inbox");
	assert_int_equal(scene->came.domid, 2);
	assert_int_equal(scene->came.uid, 1000);
	expect_open(scene->program, "inbox", 2);
}

SCENE_TEST(nobody_else_is, start_in_domain_1)
{
	refused_to(scene, scene->link[2], 0, "1:inbox", EACCES);
	refused_to(scene, scene->link[2], 2, "1:inbox", EACCES);
	refused_to(scene, scene->link[2], 7, "2:inbox", EACCES);
}

SCENE_TEST(domain_0_is_not_believed_if_the_setting_forbids_it, start_in_domain_1_disabled)
{
	refused_to(scene, scene->link[0], 2, "1:inbox", EACCES);
}

SCENE_TEST(domain_0_is_believed_who_the_sender_is_now, start_in_domain_1)
{
	struct channel_end *end;

	open_as(scene->link[0], 1, 2, "1:inbox");
	end = channel_table_find(&scene->link[0]->hop.channels, 1);
	assert_non_null(end);
	assert_int_equal(relay_take_source(scene->relay, end->channel, &(struct frame_sender){.domid = 0}),
			 -EPROTO);
	assert_int_equal(relay_take_source(scene->relay, end->channel, &(struct frame_sender){.domid = 1}),
			 -EPROTO);
	assert_int_equal(
		relay_take_source(scene->relay, end->channel, &(struct frame_sender){.domid = DOMID_MAX + 1}),
		-EPROTO);
	assert_int_equal(end->channel->identity.domid, 2);
	assert_int_equal(relay_take_source(scene->relay, end->channel, &(struct frame_sender){.domid = 9}),
			 0);
	assert_int_equal(end->channel->identity.domid, 9);
	end->channel->identity.domid = 0; /* domain 0 speaks for itself there */
	assert_int_equal(relay_take_source(scene->relay, end->channel, &(struct frame_sender){.domid = 9}),
			 -EPROTO);
}

SCENE_TEST(what_was_relayed_is_not_relayed_again, start_in_domain_1)
{
	refused_to(scene, scene->link[0], 2, "2:inbox", EPROTO);
	refused_to(scene, scene->link[0], 2, "0:inbox", EPROTO);
	refused_to(scene, scene->link[0], 2, "self:inbox", EINVAL);
	/* Nor does domain 0 relay for itself, or us. */
	refused_to(scene, scene->link[0], 0, "1:inbox", EPROTO);
	refused_to(scene, scene->link[0], 1, "1:inbox", EPROTO);
	refused_to(scene, scene->link[0], DOMID_MAX + 1, "1:inbox", EPROTO);
}
