/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection to NATS that is used by the loop while libnats's threads use it, too. The server is played
 * here, and the test steps in between where libnats writes.
 */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <nats/nats.h>

#include "gateway/nats_connection.h"
#include "gateway/settings.h"

#define ALARM_S 60

static const char information[] =
	"INFO {\"server_id\":\"test\",\"version\":\"2.9.0\",\"max_payload\":1048576,\"proto\":1,\"headers\":true}\r\n";
/* What whoever subscribes is sent: messages that have a status, and one behind them. */
#define STATUS_MESSAGES 500u
static const char status_message[] = "HMSG to.hosta.hostc 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
static const char last_message[] = "MSG to.hosta.hostb 1 4\r\nlast\r\n";

struct server {
	int listener;
	unsigned port;
	pthread_t thread;
	atomic_uint published; /* messages that have come */
};

static struct scene {
	struct server server;
	struct event_base *base;
	struct settings settings;
	struct nats_connection *connection;
	unsigned connected, lost, last; /* last: messages of that text */
	bool steps_in;			/* the next time that libnats has written */
	bool hangs, told;		/* an attempt to connect, and that it does */
} scene;

/* --- the server ------------------------------------------------------------------------------- */

static void send_messages(int fd)
{
	char text[STATUS_MESSAGES * sizeof(status_message) + sizeof(last_message)], *end = text;

	for (unsigned i = 0; i < STATUS_MESSAGES; i++)
		end = stpcpy(end, status_message);
	end = stpcpy(end, last_message);
	assert_int_equal(send(fd, text, (size_t)(end - text), MSG_NOSIGNAL), end - text);
}

static void *serve(void *userdata)
{
	struct server *server = userdata;
	int fd = accept(server->listener, NULL, NULL);
	FILE *in = fdopen(dup(fd), "r");
	char line[512];

	assert_true(send(fd, information, strlen(information), MSG_NOSIGNAL) > 0);
	while (fgets(line, sizeof(line), in)) {
		if (strncmp(line, "PING", 4) == 0)
			assert_int_equal(send(fd, "PONG\r\n", 6, MSG_NOSIGNAL), 6);
		if (strncmp(line, "SUB ", 4) == 0)
			send_messages(fd);
		server->published += strncmp(line, "PUB ", 4) == 0;
	}
	fclose(in);
	close(fd);
	return NULL;
}

static void start_server(struct server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);

	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(server->listener, 1), 0);
	assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
	server->port = ntohs(address.sin_port);
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

/* --- between libnats's functions -------------------------------------------------------------- */

static void *publish(void *nats)
{
	assert_int_equal(natsConnection_PublishString(nats, "thread", "x"), NATS_OK);
	return NULL;
}

/* In place of libnats's, which this calls: whoever waits for the connection's lock has it before the loop
 * goes on. */
void natsConnection_ProcessWriteEvent(natsConnection *nats)
{
	static void (*real)(natsConnection * nats);
	pthread_t thread;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "natsConnection_ProcessWriteEvent");
	real(nats);
	if (!scene.steps_in)
		return;
	scene.steps_in = false;
	assert_int_equal(pthread_create(&thread, NULL, publish, nats), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

natsStatus natsConnection_Connect(natsConnection **nats, natsOptions *options)
{
	static natsStatus (*real)(natsConnection * *nats, natsOptions * options);

	while (scene.hangs)
		pause();
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "natsConnection_Connect");
	return real(nats, options);
}

/* A minute is a tenth of a second here. */
int event_add(struct event *event, const struct timeval *delay)
{
	static int (*real)(struct event * event, const struct timeval *delay);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "event_add");
	return real(event, scene.hangs && delay && delay->tv_sec >= 60 ? &(struct timeval){.tv_usec = 100000}
								       : delay);
}

/* --- the tests -------------------------------------------------------------------------------- */

static void on_connected(void *userdata, const char *server)
{
	scene.connected++;
}

static void on_lost(void *userdata, const char *why)
{
	print_message("lost: %s\n", why);
	scene.lost++;
}

static void on_hangs(void *userdata)
{
	scene.told = true;
}

static void on_message(void *userdata, const char *subject, const uint8_t *data, size_t size)
{
	scene.last += size == 4 && !memcmp(data, "last", 4);
}

static void on_complaint(void *userdata, const char *what)
{
}

static void on_room(void *userdata)
{
}

static const struct nats_callbacks callbacks = {on_connected, on_lost,	    on_hangs,
						on_message,   on_complaint, on_room};

static void begin_to_connect(char *url)
{
	static char *error;

	scene.settings.servers[0] = url;
	scene.settings.server_count = 1;
	scene.base = event_base_new();
	assert_int_equal(nats_connection_new(&scene.connection, scene.base, &scene.settings, &callbacks, NULL,
					     "hosta", &error),
			 0);
}

static int setup(void **state)
{
	static char url[64];

	alarm(patience(ALARM_S));
	scene = (struct scene){0};
	start_server(&scene.server);
	snprintf(url, sizeof(url), "nats://127.0.0.1:%u", scene.server.port);
	begin_to_connect(url);
	while (!scene.connected)
		event_base_loop(scene.base, EVLOOP_ONCE);
	return 0;
}

static int teardown(void **state)
{
	nats_connection_free(scene.connection);
	assert_int_equal(pthread_join(scene.server.thread, NULL), 0);
	close(scene.server.listener);
	event_base_free(scene.base);
	alarm(0);
	return 0;
}

static void run_until_published(unsigned count)
{
	while (scene.server.published < count && !scene.lost)
		event_base_loop(scene.base, EVLOOP_NONBLOCK);
}

TEST_WITH(a_wish_to_write_that_was_fulfilled_already_is_none, setup, teardown)
{
	for (unsigned i = 0; i < 3; i++) {
		scene.steps_in = true;
		nats_connection_publish(scene.connection, "loop", "x", 1);
		run_until_published(2 * i + 2);
	}
	for (int i = 0; i < 10; i++) /* what is left over */
		event_base_loop(scene.base, EVLOOP_NONBLOCK);
	assert_int_equal(scene.lost, 0);
	assert_int_equal(scene.server.published, 6);
}

TEST_WITH(nothing_to_write_at_the_begin_is_no_end, setup, teardown)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(scene.base, EVLOOP_NONBLOCK);
	assert_int_equal(scene.lost, 0);
	assert_true(nats_connection_is_up(scene.connection));
}

/* Nothing else comes from the server, whose PINGs would be another reason to look. */
TEST_WITH(a_message_behind_others_that_have_a_status_comes_with_them, setup, teardown)
{
	nats_connection_subscribe(scene.connection, "to.hosta.*");
	while (!scene.last && !scene.lost)
		event_base_loop(scene.base, EVLOOP_ONCE);
	assert_int_equal(scene.last, 1);
	assert_int_equal(scene.lost, 0);
}

/* As libnats does after one lack of memory. The process may end, though the thread doesn't. */
TEST(an_attempt_that_never_ends_is_told)
{
	static char url[] = "nats://127.0.0.1:1";

	alarm(patience(ALARM_S));
	scene = (struct scene){.hangs = true};
	begin_to_connect(url);
	while (!scene.told)
		event_base_loop(scene.base, EVLOOP_ONCE);
	assert_int_equal(scene.lost, 0);
	nats_connection_free(scene.connection);
	alarm(0);
}
