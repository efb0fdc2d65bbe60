/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The waiting room of an endpoint that is started on demand: in which order what waits is led to the program,
 * whose it may be, for how long it waits, and what of it a daemon hands over. The program is started, but the
 * test's own one binds the endpoint.
 */
#include "tests/unit/router_rig.h"
#include "tests/unit/image_bytes.h"

#include <pwd.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/image.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/activation/activation.h"
#include "daemon/switch/hop_image.h"
#include "daemon/serve/router.h"
#include "daemon/switch/part.h"

struct started {
	struct scene scene;
	struct activations *activations;
	struct activation *activation;
	struct hop *room;
	struct quota *quota;
	char directory[64], path[80];
	const char *full_at; /* no memory for the endpoint of this name */
};

static int added(void *userdata, struct activation *activation)
{
	const char *full_at = ((struct started *)userdata)->full_at;

	if (full_at && !strcmp(activation_endpoint(activation), full_at))
		return -ENOMEM;
	((struct started *)userdata)->activation = activation;
	return router_add_activation(((struct started *)userdata)->scene.router, activation);
}

static void removed(void *userdata, struct activation *activation)
{
	router_remove_activation(((struct started *)userdata)->scene.router, activation);
}

static int lead(void *userdata, struct channel *channel, const char *endpoint)
{
	return router_lead(((struct started *)userdata)->scene.router, channel, endpoint);
}

static void note_room(void *userdata, struct hop *room)
{
	((struct started *)userdata)->room = room;
}

static struct account *account(struct started *started, enum quota_kind kind, uint32_t id)
{
	struct account *one = quota_account(started->quota, kind, id);

	assert_non_null(one);
	return one;
}

static uint64_t later_ms;

/* Stands before the C library's, for libevent too. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);
	uint64_t ns = (uint64_t)now->tv_nsec + later_ms % 1000 * 1000000;

	if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE)
		*now = (struct timespec){now->tv_sec + (time_t)(later_ms / 1000 + ns / 1000000000),
					 (long)(ns % 1000000000)};
	return r;
}

/* Nobody runs for so long; then what is due is done. */
static void stand_still(struct started *started, uint64_t ms)
{
	later_ms += ms;
	event_base_loop(started->scene.rig.base, EVLOOP_NONBLOCK);
	rig_settle(&started->scene.rig);
}

static void start(struct started *started)
{
	static const struct activation_callbacks callbacks = {added, removed, lead};
	static struct quota_limits limits;
	struct scene *scene = &started->scene;
	FILE *file;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		limits.pool[i] = UINT64_MAX;
		for (unsigned k = 0; k < QUOTA_HOST; k++)
			limits.max[k][i] = UINT64_MAX;
	}
	scene_start(scene);
	started->quota = quota_new(&limits);
	assert_non_null(started->quota);
	scene->a->hop.account = account(started, QUOTA_UID, 1000);
	scene->b->hop.account = account(started, QUOTA_UID, 1001);
	scene->link->hop.account = account(started, QUOTA_PEER, 7);
	strcpy(started->directory, "/tmp/xenmsg-activation-XXXXXX");
	assert_non_null(mkdtemp(started->directory));
	snprintf(started->path, sizeof(started->path), "%s/inbox.conf", started->directory);
	file = fopen(started->path, "w");
	assert_non_null(file);
	fprintf(file, "[activate]\nendpoint = inbox\nuser = %u\nexec = /bin/sleep 100\n",
		(unsigned)geteuid());
	fclose(file);
	assert_int_equal(activations_new(&started->activations, &scene->rig.board[0], started->directory,
					 geteuid(), "/nowhere", &callbacks, started),
			 0);
	assert_int_equal(activations_reload(started->activations), 0);
	activations_part.each_hop(started->activations, note_room, started);
	assert_non_null(started->room);
}

static void stop(struct started *started)
{
	activations_free(started->activations);
	scene_stop(&started->scene); /* with the references to the accounts */
	quota_free(started->quota);
	unlink(started->path);
	rmdir(started->directory);
}

/* The head of a test in which `inbox` is started on demand. Its other parameter is the router's scene. */
#define STARTED_TEST(name, begin)                                                                            \
	static void name##_in(struct started *started, struct scene *scene);                                 \
	TEST(name)                                                                                           \
	{                                                                                                    \
		struct started unit_started = {0};                                                           \
                                                                                                             \
		begin(&unit_started);                                                                        \
		name##_in(&unit_started, &unit_started.scene);                                               \
		stop(&unit_started);                                                                         \
	}                                                                                                    \
	static void name##_in(struct started *started, struct scene *scene)

static uint8_t expect_kind(struct participant *participant)
{
	static struct participant_frame frame;
	struct frame_open open;

	assert_true(participant_expect(participant, FRAME_OPEN, &frame));
	assert_int_equal(frame_open_decode(frame.payload, frame.header.length, &open), 0);
	return open.kind;
}

TEST(what_waits_is_led_in_the_order_in_which_it_came)
{
	static const uint8_t kinds[] = {CHANNEL_STREAM, CHANNEL_CALL, CHANNEL_MESSAGE, CHANNEL_CALL};

	/* Room numbers are even, and begin anew at 4096 while few channels wait. */
	for (uint32_t next = 4096 - 2 * sizeof(kinds) - 2; next <= 4096 - 2; next += 2) {
		struct started started = {0};
		struct scene *scene = &started.scene;

		start(&started);
		started.room->channels.next = next;
		for (unsigned i = 0; i < sizeof(kinds); i++)
			open_kind(scene->link, 1 + 2 * i, kinds[i], "inbox", 5);
		rig_settle(&scene->rig);
		assert_int_equal(started.room->channels.count, sizeof(kinds));
		assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
		for (unsigned i = 0; i < sizeof(kinds); i++)
			assert_int_equal(expect_kind(scene->b), kinds[i]);
		assert_int_equal(started.room->channels.count, 0);
		stop(&started);
	}
}

/* Opens as many as it may, and returns how many that are. */
static unsigned fill(struct participant *participant, const char *address, unsigned most)
{
	static struct participant_frame frame;
	struct frame_reset reset;

	for (unsigned i = 0; i < most; i++) {
		open_kind(participant, participant->hop.channels.parity ? 2 * i : 2 * i + 1, CHANNEL_MESSAGE,
			  address, strlen(address));
		if (!participant_expect(participant, FRAME_RESET, &frame))
			continue;
		assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
		assert_int_equal(reset.error, ENOBUFS);
		return i;
	}
	return most;
}

STARTED_TEST(nobody_gets_more_of_a_room_than_a_share, start)
{
	/* (256 - 2) / 3 of what the first one leaves; then the third still finds what it needs. */
	assert_int_equal(fill(scene->a, "self:inbox", 2), 2);
	assert_int_equal(fill(scene->link, "inbox", 120), 84);
	assert_int_equal(fill(scene->b, "self:inbox", 4), 4);
	assert_int_equal(started->room->channels.count, 2 + 84 + 4);
}

STARTED_TEST(room_of_one_account_is_half_of_it, start)
{
	assert_int_equal(fill(scene->link, "inbox", 200), ACTIVATION_WAITING_MAX / 2);
}

/* --- the files -------------------------------------------------------------------------------- */

static int lookup_error;

/* In place of libc's: the directory of users knows "somebody", or fails. */
struct passwd *getpwnam(const char *name)
{
	static struct passwd somebody = {.pw_name = "somebody", .pw_dir = "/"};

	errno = lookup_error;
	somebody.pw_uid = geteuid();
	return lookup_error || strcmp(name, "somebody") != 0 ? NULL : &somebody;
}

STARTED_TEST(old_file_stays_in_force_while_its_user_cannot_be_looked_up, start)
{
	FILE *file;

	file = fopen(started->path, "w");
	assert_non_null(file);
	fprintf(file, "[activate]\nendpoint = inbox\nuser = somebody\nexec = /bin/sleep 200\n");
	fclose(file);
	lookup_error = ETIMEDOUT;
	assert_int_equal(activations_reload(started->activations), -EAGAIN);
	assert_non_null(
		strstr(activations_error(started->activations), "user = somebody: can't be looked up now: "));
	assert_non_null(strstr(activations_error(started->activations), strerror(ETIMEDOUT)));
	assert_string_equal(activation_info(started->activation).command, "/bin/sleep 100");
	lookup_error = ENOENT;
	assert_int_equal(activations_reload(started->activations), -EINVAL);
	assert_string_equal(activation_info(started->activation).command, "/bin/sleep 100");
	lookup_error = 0;
	assert_int_equal(activations_reload(started->activations), 0);
	assert_null(activations_error(started->activations));
	assert_string_equal(activation_info(started->activation).command, "/bin/sleep 200");
}

STARTED_TEST(files_take_effect_together_or_not_at_all, start)
{
	static const char *const names[] = {"one", "two"};
	char paths[2][80];
	FILE *file;

	for (unsigned i = 0; i < 2; i++) {
		snprintf(paths[i], sizeof(paths[i]), "%s/%s.conf", started->directory, names[i]);
		file = fopen(paths[i], "w");
		assert_non_null(file);
		fprintf(file, "[activate]\nendpoint = %s\nuser = %u\nexec = /bin/sleep 200\n", names[i],
			(unsigned)geteuid());
		fclose(file);
	}
	for (unsigned i = 0; i < 2; i++) {
		started->full_at = names[i];
		assert_int_equal(activations_reload(started->activations), -ENOMEM);
		assert_null(router_find(started->scene.router, names[!i]));
	}
	started->full_at = NULL;
	assert_int_equal(activations_reload(started->activations), 0);
	for (unsigned i = 0; i < 2; i++)
		unlink(paths[i]);
}

/* --- who has bound in time -------------------------------------------------------------------- */

#define TIMEOUT_MS 30000u /* the default */

static const char *state_of(const struct started *started)
{
	return activation_info(started->activation).state;
}

/* The program is started for a channel, which waits. */
static void start_for_channel(struct started *started)
{
	start(started);
	open_kind(started->scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	rig_settle(&started->scene.rig);
}

STARTED_TEST(who_may_have_bound_while_nobody_ran_is_not_given_up, start_for_channel)
{
	stand_still(started, TIMEOUT_MS + 5000);
	assert_string_equal(state_of(started), "starting");
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	assert_int_equal(expect_kind(scene->b), CHANNEL_MESSAGE);
	assert_string_equal(state_of(started), "running");
}

STARTED_TEST(time_in_which_nobody_ran_is_given_back_once, start_for_channel)
{
	stand_still(started, TIMEOUT_MS + 5000);
	stand_still(started, 4000);
	assert_string_equal(state_of(started), "starting");
	stand_still(started, 4000);
	assert_string_equal(state_of(started), "failed");
}

STARTED_TEST(however_long_nobody_ran_no_more_than_the_time_is_given_back, start_for_channel)
{
	stand_still(started, 10 * TIMEOUT_MS);
	stand_still(started, TIMEOUT_MS - 1000);
	assert_string_equal(state_of(started), "starting");
	stand_still(started, 2000);
	assert_string_equal(state_of(started), "failed");
}

/* --- the image that a daemon hands over ------------------------------------------------------- */

static time_t day_is_late_s;

/* Stands before the C library's, for libevent too. */
__attribute__((visibility("default"))) int gettimeofday(struct timeval *now, void *zone)
{
	int r = (int)syscall(SYS_gettimeofday, now, zone);

	now->tv_sec += day_is_late_s;
	return r;
}

static uint8_t *written(struct started *started, size_t *size)
{
	struct image image;

	image_begin(&image);
	activations_part.write(started->activations, &image);
	return image_to_bytes(&image, size);
}

/* Returns what is written of rooms that two channels wait in, but for these. */
static uint8_t *image_of_rooms(struct started *started, size_t *size)
{
	assert_int_equal(fill(started->scene.link, "inbox", 2), 2);
	return written(started, size);
}

static uint64_t hand_over_takes_ms, again_ms;

/* Returns what they are taken for by another daemon, or if that hands over after again_ms by the next one: 0
 * or an error. The state is what it has become. */
static int read_rooms(const uint8_t *bytes, size_t size, char became[32])
{
	struct image_hops hops = {0};
	struct started started = {0};
	struct image image;
	uint32_t type;
	int r;

	start(&started);
	image_open_bytes(&image, bytes, size);
	while ((type = image_next(&image)))
		if (!part_read(&activations_part, started.activations, &image, type, &hops))
			image_fail(&image, -EPROTONOSUPPORT);
	r = image.error;
	image_free(&image);
	later_ms += hand_over_takes_ms;
	activations_stop(started.activations); /* no other command than was handed over */
	if (r < 0)
		activations_part.drop(started.activations);
	else
		activations_part.go_on(started.activations);
	rig_settle(&started.scene.rig);
	event_base_loop(started.scene.rig.base, EVLOOP_NONBLOCK);
	snprintf(became, 32, "%s", activation_info(started.activation).state);
	if (again_ms) {
		uint8_t *again;

		later_ms += again_ms;
		again_ms = 0;
		again = written(&started, &size);
		r = read_rooms(again, size, became);
		free(again);
	}
	stop(&started);
	free(hops.hops);
	return r;
}

STARTED_TEST(rooms_that_are_cut_or_spoilt_are_refused_or_harmless, start)
{
	uint8_t *bytes;
	char became[32];
	size_t size;

	bytes = image_of_rooms(started, &size);
	image_write_seed("room", bytes, size);
	assert_int_equal(read_rooms(bytes, size, became), 0);
	assert_string_equal(became, "starting");
	for (size_t at = 0; at < size; at++)
		assert_true(read_rooms(bytes, at, became) < 0);
	for (size_t i = 0; i < size; i++)
		for (unsigned bit = 0; bit < 8; bit += 7) {
			bytes[i] ^= (uint8_t)(1u << bit);
			read_rooms(bytes, size, became);
			bytes[i] ^= (uint8_t)(1u << bit);
		}
	free(bytes);
}

STARTED_TEST(time_to_bind_is_handed_over_though_the_time_of_day_is_set, start)
{
	uint8_t *bytes;
	char became[32];
	size_t size;

	assert_int_equal(fill(scene->link, "inbox", 1), 1);
	day_is_late_s = 3600;
	bytes = image_of_rooms(started, &size);
	day_is_late_s = 0;
	assert_int_equal(read_rooms(bytes, size, became), 0);
	assert_string_equal(became, "starting");
	free(bytes);
}

TEST(time_in_which_nobody_ran_is_given_back_after_a_hand_over)
{
	static const struct {
		uint64_t before_ms, takes_ms, again_ms;
		const char *became;
	} cases[] = {
		{TIMEOUT_MS - 1000, 100, 0, "starting"},
		{TIMEOUT_MS - 20, 50, 0, "starting"}, /* it may have bound meanwhile */
		{TIMEOUT_MS - 20, 5000, 0, "starting"},
		{TIMEOUT_MS + 5000, 100, 0, "starting"},
		{TIMEOUT_MS - 20, 50, 500, "starting"},
		{TIMEOUT_MS - 20, 50, 960, "failed"}, /* that is given once */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct started started = {0};
		uint8_t *bytes;
		char became[32];
		size_t size;

		start(&started);
		assert_int_equal(fill(started.scene.link, "inbox", 1), 1);
		later_ms += cases[i].before_ms;
		bytes = image_of_rooms(&started, &size);
		hand_over_takes_ms = cases[i].takes_ms;
		again_ms = cases[i].again_ms;
		assert_int_equal(read_rooms(bytes, size, became), 0);
		assert_string_equal(became, cases[i].became);
		hand_over_takes_ms = 0;
		free(bytes);
		stop(&started);
	}
}

/* Returns what an image is taken for that has a child of ours as a command. */
static int read_command(pid_t pid, bool stopping, bool leaving, uint32_t kill_ms)
{
	uint32_t number = (uint32_t)pid;
	char became[32];
	struct image image;
	uint8_t *bytes;
	size_t size;
	int r;

	image_begin(&image);
	image_section(&image, IMAGE_COMMAND);
	image_u32(&image, &number);
	image_bool(&image, &stopping);
	image_bool(&image, &leaving);
	image_u32(&image, &kill_ms);
	bytes = image_to_bytes(&image, &size);
	r = read_rooms(bytes, size, became);
	free(bytes);
	return r;
}

TEST(command_that_was_killed_and_has_not_ended_is_handed_over)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_true(pid > 0);
	/* A timer is what ends one that is asked to end, and reaps one that has. */
	assert_int_equal(read_command(pid, false, false, 1000), -EINVAL);
	assert_int_equal(read_command(pid, false, true, 1000), -EINVAL);
	assert_int_equal(read_command(pid, true, true, DEADLINE_OFF), -EINVAL);
	/* It was killed. */
	assert_int_equal(read_command(pid, true, false, DEADLINE_OFF), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
