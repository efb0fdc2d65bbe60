/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A gateway that is hostile to its daemon: what it has the daemon do is paid for by its user, in pieces, and
 * no descriptor that it sends is closed by the loop.
 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/quota.h"
#include "base/self.h"
#include "daemon/hosts/conversation_memory.h"
#include "daemon/hosts/hosts.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "tests/descriptors.h"
#include "tests/unit/own_process.h"
#include "wire/doorbell.h"
#include "wire/gateway.h"

#define ALARM_S	      60
#define PATIENCE_MS   100000 /* much longer than the test takes */
#define CONVERSATIONS 16     /* that the memory allows */

struct scene {
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct account *account; /* of the gateway's user, who is ours */
	struct hosts *hosts;
	char directory[32], path[64];
	int gateway;
	unsigned descriptors, connected, failed, gone, replaced, instance;
	struct conversation {
		struct conversation_memory memory;
		struct charge charge;
	} kept[CONVERSATIONS];
	unsigned kept_count, keeps; /* how many to keep; others are closed at once */
	int peer;		    /* of the last lingering socket */
	int fds[GATEWAY_FDS];	    /* of the conversation that was told last; -1: closed */
};

#define LOOKED_AT 100000u /* units */

static unsigned on_gone(void *userdata, uint32_t number)
{
	((struct scene *)userdata)->gone++;
	return LOOKED_AT;
}

static void on_connected(void *userdata, uint32_t number, struct conversation_memory *memory,
			 struct charge *charge)
{
	struct scene *scene = userdata;

	scene->connected++;
	if (scene->kept_count < scene->keeps) {
		scene->kept[scene->kept_count].memory = *memory;
		charge_move(&scene->kept[scene->kept_count++].charge, charge);
		return;
	}
	conversation_memory_free(memory, &scene->board, charge);
	charge_end(charge);
}

static void on_failed(void *userdata, uint32_t number, int error, const char *reason)
{
	((struct scene *)userdata)->failed++;
}

static void on_replaced(void *userdata, uint32_t number, const uint8_t instance[16])
{
	((struct scene *)userdata)->replaced++;
	((struct scene *)userdata)->instance = instance[15];
}

static void settle(struct scene *scene)
{
	uint64_t before;

	do {
		before = scene->board.turns.spent;
		for (int i = 0; i < 4; i++)
			event_base_loop(scene->base, EVLOOP_NONBLOCK);
	} while (scene->board.turns.spent != before);
}

static uint64_t later_ms;

/* Stands before the C library's, for libevent too. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);

	if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE)
		now->tv_sec += (time_t)(later_ms / 1000);
	return r;
}

static void pass_time(struct scene *scene, uint64_t ms)
{
	later_ms += ms;
	settle(scene);
}

static void say(struct scene *scene, const char *text)
{
	assert_int_equal(send(scene->gateway, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads a packet, and drops what comes with it. False: there is none now. */
static bool hear(struct scene *scene, struct gateway_packet *packet)
{
	char text[GATEWAY_PACKET_MAX];
	ssize_t size = recv(scene->gateway, text, sizeof(text), MSG_DONTWAIT);

	if (size <= 0)
		return false;
	assert_int_equal(gateway_decode(text, (size_t)size, packet), 0);
	return true;
}

static void connect_gateway(struct scene *scene)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, scene->path);
	scene->gateway = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(scene->gateway, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void greet(struct scene *scene)
{
	struct gateway_packet packet;

	connect_gateway(scene);
	say(scene, "{\"type\":\"hello\",\"version\":1}");
	settle(scene);
	assert_true(hear(scene, &packet) && packet.type == GATEWAY_WELCOME);
}

static void close_all(struct scene *scene)
{
	for (unsigned i = 0; i < GATEWAY_FDS; i++) {
		if (scene->fds[i] >= 0)
			close(scene->fds[i]);
		scene->fds[i] = -1;
	}
}

static void scene_start(struct scene *scene)
{
	static const struct hosts_callbacks callbacks = {
		.connected = on_connected, .gone = on_gone, .failed = on_failed, .replaced = on_replaced};
	const struct quota_limits limits = {
		.pool = {[QUOTA_DESCRIPTORS] = 1000,
			 [QUOTA_MEMORY] = 4ull * CONVERSATIONS * GATEWAY_MEMORY_SIZE},
		.max = {[QUOTA_UID] = {[QUOTA_DESCRIPTORS] = 100,
				       [QUOTA_MEMORY] = 1ull * CONVERSATIONS * GATEWAY_MEMORY_SIZE}},
	};
	static struct self self = {.instance_text = "00000000-0000-0000-0000-000000000001"};
	struct hosts_options options = {.self = &self,
					.name = "hosta",
					.user = 65534,
					.setup_timeout_ms = PATIENCE_MS,
					.dead_after_ms = PATIENCE_MS};

	alarm(patience(ALARM_S));
	log_set_level(LOG_LEVEL_ERROR);
	scene->descriptors = open_descriptors();
	strcpy(scene->directory, "/tmp/test_hosts.XXXXXX");
	assert_non_null(mkdtemp(scene->directory));
	snprintf(scene->path, sizeof(scene->path), "%s/socket", scene->directory);
	options.socket_path = scene->path;
	scene->base = event_base_new();
	scene->quota = quota_new(&limits);
	scene->account = quota_account(scene->quota, QUOTA_UID, geteuid());
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	scene->board.quota = scene->quota;
	assert_int_equal(work_pool_new(&scene->board.work_pool, &scene->board), 0);
	assert_int_equal(hosts_new(&scene->hosts, &scene->board, &options, &callbacks, scene), 0);
	snprintf(scene->path, sizeof(scene->path), "%s/gateway.sock", scene->directory);
	scene->peer = -1;
	for (unsigned i = 0; i < GATEWAY_FDS; i++)
		scene->fds[i] = -1;
	greet(scene);
}

static void scene_stop(struct scene *scene)
{
	for (unsigned i = 0; i < scene->kept_count; i++) {
		conversation_memory_free(&scene->kept[i].memory, &scene->board, &scene->kept[i].charge);
		charge_end(&scene->kept[i].charge);
	}
	close_all(scene);
	close(scene->gateway);
	hosts_free(scene->hosts);
	switch_cleanup(&scene->board);
	work_pool_free(scene->board.work_pool);
	if (scene->peer >= 0)
		close(scene->peer);
	for (int i = 0; i < QUOTA_RESOURCES; i++)
		assert_int_equal(account_usage(scene->account, i).used, 0);
	account_unref(scene->account);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(rmdir(scene->directory), 0);
	assert_int_equal(open_descriptors(), scene->descriptors);
	alarm(0);
}

/* Sends a lingering socket, which nobody else has. */
static void send_lingering(struct scene *scene, int to, const void *bytes, size_t size)
{
	int fd;

	if (scene->peer >= 0)
		close(scene->peer);
	fd = lingering_socket(&scene->peer);
	assert_true(fd >= 0);
	assert_int_equal(send_descriptor(to, bytes, size, fd, 0), size);
	close(fd);
}

/* Waits for the end of a connection. */
static void assert_ended(struct scene *scene)
{
	struct gateway_packet packet;

	for (;;) {
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		if (!hear(scene, &packet) && errno != EAGAIN)
			return;
		errno = 0;
	}
}

static const char state_up[] = "{\"type\":\"state\",\"up\":true}";

SCENE_TEST(a_packet_with_descriptors_ends_the_gateway, scene_start)
{
	struct gateway_info info;

	for (int i = 0; i < 3; i++) {
		if (i > 0)
			greet(scene);
		if (i == 2) /* even one without bytes, behind others */
			say(scene, state_up);
		send_lingering(scene, scene->gateway, state_up, i == 1 ? sizeof(state_up) - 1 : 0);
		say(scene, state_up);
		settle(scene);
		hosts_gateway(scene->hosts, &info);
		assert_false(info.there);
		close(scene->gateway);
	}
	greet(scene);
}

SCENE_TEST(who_is_refused_has_nothing_closed_either, scene_start)
{
	struct gateway_packet packet;
	int first = scene->gateway;

	connect_gateway(scene);
	send_lingering(scene, scene->gateway, "", 0);
	settle(scene);
	assert_true(hear(scene, &packet) && packet.type == GATEWAY_REFUSED);
	close(scene->gateway);
	scene->gateway = first;
	say(scene, state_up);
}

/* Whatever it has said by then. */
SCENE_TEST(who_is_refused_reads_why, scene_start)
{
	struct gateway_packet packet;
	int first = scene->gateway;

	for (int said = 0; said < 4; said++) {
		connect_gateway(scene);
		for (int i = 0; i < said; i++)
			say(scene, "{\"type\":\"hello\",\"version\":1}");
		settle(scene);
		assert_int_equal(send(scene->gateway, "{}", 2, MSG_NOSIGNAL), -1);
		assert_true(hear(scene, &packet) && packet.type == GATEWAY_REFUSED);
		assert_string_equal(packet.why, "another gateway is connected");
		close(scene->gateway);
	}
	scene->gateway = first;
}

SCENE_TEST(a_successor_may_be_quick, scene_start)
{
	for (int i = 0; i < 10; i++) {
		say(scene, state_up);
		close(scene->gateway);
		greet(scene);
	}
}

/* Receives a packet and the descriptors that come with it, which are closed with the scene. False: there is
 * none now. */
static bool hear_descriptors(struct scene *scene, struct gateway_packet *packet)
{
	char text[GATEWAY_PACKET_MAX];
	union {
		char space[CMSG_SPACE(2 * GATEWAY_FDS * sizeof(int))];
		struct cmsghdr head;
	} control;
	struct iovec piece = {text, sizeof(text)};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t size = recvmsg(scene->gateway, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (size <= 0)
		return false;
	assert_int_equal(gateway_decode(text, (size_t)size, packet), 0);
	assert_int_equal(control.head.cmsg_len, CMSG_LEN(GATEWAY_FDS * sizeof(int)));
	close_all(scene);
	memcpy(scene->fds, CMSG_DATA(&control.head), GATEWAY_FDS * sizeof(int));
	return true;
}

static void expect_descriptors(struct scene *scene, enum gateway_type type)
{
	struct gateway_packet packet;

	assert_true(hear_descriptors(scene, &packet));
	assert_int_equal(packet.type, type);
}

/* As the gateway does when it has mapped it. */
static void seal(struct scene *scene)
{
	assert_int_equal(fcntl(scene->fds[GATEWAY_FD_MEMORY], F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL),
			 0);
}

static uint8_t *map_and_seal(struct scene *scene)
{
	uint8_t *mapped = mmap(NULL, GATEWAY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			       scene->fds[GATEWAY_FD_MEMORY], 0);

	assert_ptr_not_equal(mapped, MAP_FAILED);
	seal(scene);
	return mapped;
}

static void say_host(struct scene *scene, bool up)
{
	say(scene, up ? "{\"type\":\"host\",\"host\":\"hostb\",\"up\":true}"
		      : "{\"type\":\"host\",\"host\":\"hostb\",\"up\":false}");
}

static void say_connected(struct scene *scene, unsigned id)
{
	char text[100];

	snprintf(text, sizeof(text), "{\"type\":\"connected\",\"host\":\"hostb\",\"id\":%u}", id);
	say(scene, text);
	settle(scene);
}

static void say_incoming(struct scene *scene)
{
	say(scene, "{\"type\":\"incoming\",\"host\":\"hostb\",\"id\":1}");
}

static void connect_to_hostb(struct scene *scene)
{
	say_host(scene, true);
	settle(scene);
	assert_int_equal(hosts_connect(scene->hosts, hosts_find(scene->hosts, "hostb")), 0);
	assert_int_equal(account_usage(scene->account, QUOTA_MEMORY).used, GATEWAY_MEMORY_SIZE);
	assert_int_equal(account_usage(scene->account, QUOTA_DESCRIPTORS).used,
			 CONVERSATION_DESCRIPTORS + 1); /* its own */
	expect_descriptors(scene, GATEWAY_CONNECT);
}

SCENE_TEST(an_answer_to_a_question_that_was_withdrawn_connects_nobody, scene_start)
{
	struct gateway_packet packet;
	uint32_t number;

	connect_to_hostb(scene);
	close_all(scene);
	number = hosts_find(scene->hosts, "hostb");
	hosts_disconnect(scene->hosts, number);
	assert_int_equal(hosts_connect(scene->hosts, number), 0);
	assert_true(hear_descriptors(scene, &packet));
	seal(scene);
	close_all(scene);
	say_connected(scene, 2);
	assert_int_equal(scene->connected, 0);
	say_connected(scene, 4);
	assert_int_equal(scene->connected, 1);
}

SCENE_TEST(a_gateway_that_does_not_answer_is_not_waited_for, scene_start)
{
	connect_to_hostb(scene);
	close_all(scene);
	pass_time(scene, PATIENCE_MS - 2000);
	assert_int_equal(scene->failed, 0);
	pass_time(scene, 2000);
	assert_int_equal(scene->failed, 1);
}

SCENE_TEST(what_was_said_while_we_stood_still_is_read_first, scene_start)
{
	connect_to_hostb(scene);
	seal(scene);
	close_all(scene);
	say(scene, "{\"type\":\"connected\",\"host\":\"hostb\",\"id\":2}");
	pass_time(scene, PATIENCE_MS + 5000);
	assert_int_equal(scene->connected, 1);
	assert_int_equal(scene->failed, 0);
	pass_time(scene, 1000); /* a tick that is taken for one that is in time */
	close(scene->gateway);
	settle(scene);
	greet(scene);
	say_host(scene, true);
	pass_time(scene, PATIENCE_MS + 5000);
	assert_true(hosts_is_up(scene->hosts, hosts_find(scene->hosts, "hostb")));
	assert_int_equal(scene->gone, 0);
}

SCENE_TEST(a_host_of_which_no_gateway_tells_any_more_is_gone, scene_start)
{
	uint32_t number;

	say_host(scene, true);
	settle(scene);
	number = hosts_find(scene->hosts, "hostb");
	close(scene->gateway);
	settle(scene);
	greet(scene);
	pass_time(scene, PATIENCE_MS - 2000);
	assert_true(hosts_is_up(scene->hosts, number));
	pass_time(scene, 2000);
	assert_false(hosts_is_up(scene->hosts, number));
}

SCENE_TEST(another_daemon_of_a_host_is_noticed, scene_start)
{
	for (unsigned daemon = 2; daemon < 4; daemon++) {
		for (unsigned i = 0; i < 2; i++) {
			char text[160];

			snprintf(text, sizeof(text),
				 "{\"type\":\"host\",\"host\":\"hostb\",\"up\":true,"
				 "\"instance\":\"00000000-0000-0000-0000-%012u\"}",
				 daemon);
			say(scene, text);
			settle(scene);
			assert_int_equal(scene->replaced, daemon - 2);
			assert_int_equal(scene->instance, daemon == 2 ? 0 : daemon);
		}
	}
}

SCENE_TEST(descriptors_in_a_wanted_socket_are_closed_by_others, scene_start)
{
	connect_to_hostb(scene);
	send_lingering(scene, scene->fds[GATEWAY_FD_LIFE], "12345678", 8);
	say(scene, "{\"type\":\"failed\",\"host\":\"hostb\",\"id\":2,\"error\":\"EHOSTDOWN\"}");
	settle(scene);
	assert_int_equal(scene->failed, 1);
	assert_int_equal(account_usage(scene->account, QUOTA_MEMORY).used, 0);
}

static void assert_no_holes(int memory_fd, uint8_t *mapped)
{
	assert_int_equal(fallocate(memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	assert_int_equal(madvise(mapped, 4096, MADV_REMOVE), -1);
}

/* Who is asked for a conversation by the other host maps its memory without being asked whether it did. */
SCENE_TEST(sealed_memory_is_used_at_the_gateways_ring, scene_start)
{
	uint8_t *mapped;

	scene->keeps = 1;
	say_incoming(scene);
	settle(scene);
	expect_descriptors(scene, GATEWAY_ACCEPT);
	assert_int_equal(scene->connected, 0);
	mapped = map_and_seal(scene);
	assert_int_equal(doorbell_ring(scene->fds[GATEWAY_FD_WAKE_DAEMON]), 0);
	settle(scene);
	assert_int_equal(scene->connected, 1);
	assert_no_holes(scene->fds[GATEWAY_FD_MEMORY], mapped);
	assert_int_equal(account_usage(scene->account, QUOTA_DESCRIPTORS).used, CONVERSATION_DESCRIPTORS);
	munmap(mapped, GATEWAY_MEMORY_SIZE);
}

/* The gateway has said so before it has read what this daemon asks for, which counts, as this host is the
 * lower one. */
SCENE_TEST(a_question_that_crosses_ours_is_not_taken, scene_start)
{
	struct gateway_packet packet;

	connect_to_hostb(scene);
	say_incoming(scene);
	settle(scene);
	assert_false(hear(scene, &packet));
	seal(scene);
	say_connected(scene, 2);
	assert_int_equal(scene->connected, 1);
	assert_int_equal(scene->failed, 0);
}

/* Our answer comes when it has given up. Who has asked here meanwhile isn't forgotten. */
SCENE_TEST(a_question_that_was_given_up_is_asked_from_here, scene_start)
{
	struct gateway_packet packet;

	for (int wanted = 0; wanted < 2; wanted++) {
		say_host(scene, true);
		say_incoming(scene);
		settle(scene);
		expect_descriptors(scene, GATEWAY_ACCEPT);
		close_all(scene);
		if (wanted)
			assert_int_equal(hosts_connect(scene->hosts, hosts_find(scene->hosts, "hostb")), 0);
		say(scene, "{\"type\":\"failed\",\"host\":\"hostb\",\"id\":1,\"error\":\"EAGAIN\"}");
		settle(scene);
		assert_int_equal(hear_descriptors(scene, &packet), wanted);
	}
	assert_int_equal(packet.type, GATEWAY_CONNECT);
	close_all(scene);
	assert_int_equal(scene->failed, 0);
}

/* To the kernel its pages may be ours for as long. */
SCENE_TEST(memory_that_the_gateway_keeps_stays_charged, scene_start)
{
	void *mapped;

	assert_int_equal(memfd_lifetimes_new(&scene->board.memfd_lifetimes, &scene->board), 0);
	connect_to_hostb(scene);
	mapped = map_and_seal(scene);
	say_connected(scene, 2); /* and it is over at once */
	assert_int_equal(scene->connected, 1);
	close_all(scene);
	while (account_usage(scene->account, QUOTA_DESCRIPTORS).used > 1)
		event_base_loop(scene->base, EVLOOP_ONCE);
	assert_int_equal(account_usage(scene->account, QUOTA_MEMORY).used, GATEWAY_MEMORY_SIZE);
	munmap(mapped, GATEWAY_MEMORY_SIZE);
	while (account_usage(scene->account, QUOTA_MEMORY).used)
		event_base_loop(scene->base, EVLOOP_ONCE);
	memfd_lifetimes_free(scene->board.memfd_lifetimes);
	scene->board.memfd_lifetimes = NULL;
}

/* Whoever doesn't seal its memory has no conversation. */
SCENE_TEST(without_a_seal_there_is_no_conversation, scene_start)
{
	connect_to_hostb(scene);
	say_connected(scene, 2);
	assert_int_equal(scene->connected, 0);
	assert_int_equal(scene->failed, 1);
	assert_int_equal(account_usage(scene->account, QUOTA_MEMORY).used, 0);
}

SCENE_TEST(the_gateway_has_the_conversations_memory_of_fixed_size, scene_start)
{
	struct stat status;
	uint8_t *mapped;
	char byte;

	scene->keeps = 1;
	connect_to_hostb(scene);
	mapped = map_and_seal(scene);
	say_connected(scene, 2);
	assert_int_equal(scene->kept_count, 1);
	assert_int_equal(fstat(scene->fds[GATEWAY_FD_MEMORY], &status), 0);
	assert_int_equal(status.st_size, GATEWAY_MEMORY_SIZE);
	assert_int_equal(ftruncate(scene->fds[GATEWAY_FD_MEMORY], GATEWAY_MEMORY_SIZE - 4096), -1);
	assert_int_equal(ftruncate(scene->fds[GATEWAY_FD_MEMORY], GATEWAY_MEMORY_SIZE + 4096), -1);
	assert_int_equal(fcntl(scene->fds[GATEWAY_FD_MEMORY], F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_no_holes(scene->fds[GATEWAY_FD_MEMORY], mapped);
	mapped[GATEWAY_MEMORY_SIZE - 1] = 42;
	assert_int_equal(scene->kept[0].memory.memory[GATEWAY_MEMORY_SIZE - 1], 42);
	assert_int_equal(munmap(mapped, GATEWAY_MEMORY_SIZE), 0);
	/* The gateway's end isn't told of an end before there is one. */
	assert_int_equal(recv(scene->fds[GATEWAY_FD_LIFE], &byte, 1, MSG_DONTWAIT), -1);
	conversation_memory_free(&scene->kept[0].memory, &scene->board, &scene->kept[0].charge);
	charge_end(&scene->kept[0].charge);
	scene->kept_count = 0;
	assert_int_equal(recv(scene->fds[GATEWAY_FD_LIFE], &byte, 1, MSG_DONTWAIT), 0);
}

/* With many questions out, a host that comes and goes all the time takes more than its packets. */
SCENE_TEST(the_gateway_pays_for_what_a_host_that_goes_takes, scene_start)
{
	uint64_t before = account_time(scene->account)->spent;

	for (unsigned i = 0; i < 10; i++) {
		say_host(scene, true);
		say_host(scene, false);
	}
	settle(scene);
	assert_true(account_time(scene->account)->spent - before >= 10 * LOOKED_AT);
	assert_true(scene->board.turns.longest_pass <= TURNS_PASS + TURNS_PIECE + LOOKED_AT);
}

/* The gateway says that this host asks for a conversation. Returns whether that could be sent. */
static bool send_incoming(struct scene *scene, unsigned host)
{
	char text[100];
	int size = snprintf(text, sizeof(text), "{\"type\":\"incoming\",\"host\":\"h%u\",\"id\":%u}", host,
			    2 * host + 1);

	return send(scene->gateway, text, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) == size;
}

SCENE_TEST(a_flood_is_taken_in_pieces_and_paid_for, scene_start)
{
	uint64_t before = account_time(scene->account)->spent;
	unsigned said = 0;
	struct gateway_packet packet;

	work_pool_free(scene->board.work_pool); /* which gives back later than more is asked for */
	scene->board.work_pool = NULL;
	while (send_incoming(scene, said))
		said++;
	assert_true(said > 50);
	while (scene->connected < said) {
		uint64_t passes = scene->board.turns.passes, accepted = 0;

		event_base_loop(scene->base, EVLOOP_ONCE);
		while (hear_descriptors(scene, &packet)) {
			assert_int_equal(packet.type, GATEWAY_ACCEPT);
			seal(scene);
			doorbell_ring(scene->fds[GATEWAY_FD_WAKE_DAEMON]);
			close_all(scene);
			accepted++;
		}
		/* What a gateway asks for in a pass is a part of that. */
		assert_true(accepted <= 4 * (scene->board.turns.passes - passes));
	}
	assert_true(scene->board.turns.longest_pass <= TURNS_PASS + TURNS_PIECE);
	assert_true(account_time(scene->account)->spent - before >= said * 2000);
	assert_int_equal(account_usage(scene->account, QUOTA_MEMORY).used, 0);
}

SCENE_TEST(conversations_are_as_many_as_the_gateways_user_may_pay_for, scene_start)
{
	struct account *other = quota_account(scene->quota, QUOTA_UID, geteuid() + 1);
	unsigned accepted = 0, declined = 0;
	struct gateway_packet packet;
	struct charge charge;

	scene->keeps = CONVERSATIONS;
	for (unsigned i = 0; i < CONVERSATIONS + 5; i++) {
		assert_true(send_incoming(scene, i));
		settle(scene);
		assert_true(hear(scene, &packet));
		accepted += packet.type == GATEWAY_ACCEPT;
		declined += packet.type == GATEWAY_DECLINE;
	}
	assert_int_equal(accepted, CONVERSATIONS);
	assert_int_equal(declined, 5);
	/* Nobody else has less for it than for any other user. */
	charge_init(&charge, other);
	assert_int_equal(charge_add(&charge, QUOTA_MEMORY, CONVERSATIONS * GATEWAY_MEMORY_SIZE), 0);
	charge_end(&charge);
	account_unref(other);
}

SCENE_TEST(a_gateway_that_does_not_read_is_let_go, scene_start)
{
	for (unsigned i = 0; send_incoming(scene, i); i++) {
		assert_true(i < 10000);
		settle(scene);
	}
	assert_ended(scene);
}
