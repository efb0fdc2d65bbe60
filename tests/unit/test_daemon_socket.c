/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The gateway's connection to its daemon, which is played here. */
#include "tests/unit/unit.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "gateway/daemon_socket.h"

#define ALARM_S 60

static struct scene {
	char directory[32], path[64];
	struct event_base *base;
	struct daemon_socket *socket;
	int listener, daemon;
	unsigned welcomes, lost;
} scene;

static void on_welcome(void *userdata, const struct gateway_packet *packet)
{
	scene.welcomes++;
}

static void on_packet(void *userdata, const struct gateway_packet *packet, const int *fds)
{
}

static void on_lost(void *userdata, const char *why)
{
	scene.lost++;
}

/* Answers the next connection. */
static void welcome(void)
{
	struct gateway_packet packet = {.type = GATEWAY_WELCOME, .version = GATEWAY_VERSION};
	char text[GATEWAY_PACKET_MAX];
	unsigned before = scene.welcomes;

	event_base_loop(scene.base, EVLOOP_ONCE); /* connects */
	scene.daemon = accept(scene.listener, NULL, NULL);
	assert_true(recv(scene.daemon, text, sizeof(text), 0) > 0);
	strcpy(packet.host, "hosta");
	strcpy(packet.instance, "fa6a6ad4-3d9d-4a55-9a5a-8a5b1a1f1f1f");
	assert_true(send(scene.daemon, text, gateway_encode(&packet, text), 0) > 0);
	while (scene.welcomes == before)
		event_base_loop(scene.base, EVLOOP_ONCE);
}

static int setup(void **state)
{
	static const struct daemon_socket_callbacks callbacks = {on_welcome, on_packet, on_lost};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	alarm(patience(ALARM_S));
	scene = (struct scene){.directory = "/tmp/daemon-socket-XXXXXX"};
	assert_non_null(mkdtemp(scene.directory));
	snprintf(scene.path, sizeof(scene.path), "%s/s", scene.directory);
	strcpy(address.sun_path, scene.path);
	scene.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(scene.listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(scene.listener, 4), 0);
	scene.base = event_base_new();
	assert_int_equal(daemon_socket_new(&scene.socket, scene.base, scene.path, &callbacks, NULL), 0);
	welcome();
	return 0;
}

static int teardown(void **state)
{
	daemon_socket_free(scene.socket);
	event_base_free(scene.base);
	close(scene.daemon);
	close(scene.listener);
	unlink(scene.path);
	rmdir(scene.directory);
	alarm(0);
	return 0;
}

static void tell(void)
{
	daemon_socket_send(scene.socket, &(struct gateway_packet){.type = GATEWAY_STATE, .up = true});
}

/* What it hasn't read makes the next send fail. Whoever sends would lose what it is working with if lost()
 * were called then. */
TEST_WITH(a_daemon_dead_with_packets_unread_is_lost_to_its_sender, setup, teardown)
{
	tell();
	close(scene.daemon);
	tell();
	assert_int_equal(scene.lost, 0);
	tell();
	assert_int_equal(scene.lost, 0);
	while (!scene.lost)
		event_base_loop(scene.base, EVLOOP_ONCE);
	welcome();
	assert_int_equal(scene.lost, 1);
	assert_true(daemon_socket_is_welcome(scene.socket));
}

TEST_WITH(a_daemon_that_reads_nothing_is_lost_once_the_sender_is_done, setup, teardown)
{
	for (unsigned i = 0; i < 50000; i++) {
		tell();
		assert_int_equal(scene.lost, 0);
	}
	while (!scene.lost)
		event_base_loop(scene.base, EVLOOP_ONCE);
	close(scene.daemon);
	welcome();
}
