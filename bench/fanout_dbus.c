/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * D-Bus for bench-fanout: a signal, by sd-bus, on the bus whose address is given; and that bus, by
 * dbus-broker.
 *
 * 	bench-fanout broker PATH    says the pid of dbus-broker, which listens at PATH
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#include "bench/engine.h"
#include "bench/fanout.h"

#define NAME "org.xenmsg.Bench"
#define PATH "/bench"

static sd_bus *publisher;

static int must(const char *what, int r)
{
	if (r < 0)
		engine_fail(what, r);
	return r;
}

static sd_bus *open_bus(const char *address)
{
	sd_bus *bus;

	must("bus", sd_bus_new(&bus));
	must("address", sd_bus_set_address(bus, address));
	must("client", sd_bus_set_bus_client(bus, 1));
	must("start", sd_bus_start(bus));
	return bus;
}

static int on_signal(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	const void *data;
	size_t size;

	must("read", sd_bus_message_read_array(message, 'y', &data, &size));
	took(userdata, data);
	return 1;
}

static void subscribe(struct subscriber *subscriber, const char *address, size_t size)
{
	sd_bus *bus = open_bus(address);

	must("match", sd_bus_match_signal(bus, NULL, NULL, PATH, NAME, "News", on_signal, subscriber));
	subscriber->own = bus;
	subscriber->fd = sd_bus_get_fd(bus);
}

static void take(struct subscriber *subscriber)
{
	while (must("process", sd_bus_process(subscriber->own, NULL)) > 0)
		;
}

static void open_publisher(const char *address, size_t size)
{
	publisher = open_bus(address);
}

static void publish(const void *data, size_t size)
{
	sd_bus_message *message;

	must("signal", sd_bus_message_new_signal(publisher, &message, PATH, NAME, "News"));
	must("signal", sd_bus_message_append_array(message, 'y', data, size));
	must("signal", sd_bus_send(publisher, message, NULL));
	sd_bus_message_unref(message);
}

static void flush(void)
{
	must("flush", sd_bus_flush(publisher));
}

const struct contender fanout_dbus = {"dbus", subscribe, take, open_publisher, publish, flush};

/* ---- the broker ------------------------------------------------------------------------------ */

#define BATCH  "bta(btbs)a(btssssuutt)a(btssssuutt)"
#define POLICY "a(u(" BATCH "))a(buu(" BATCH "))a(ss)bs"

/* One rule that allows everything, in the form in which dbus-broker wants it. */
static void add_policy(sd_bus_message *message)
{
	must("policy", sd_bus_message_open_container(message, 'v', "(" POLICY ")"));
	must("policy", sd_bus_message_open_container(message, 'r', POLICY));
	must("policy", sd_bus_message_append(message, "a(u(" BATCH "))", 1, UINT32_MAX, 1, (uint64_t)1, 1, 1,
					     (uint64_t)1, 1, "", 1, 1, (uint64_t)1, "", "", "", "", 0, 0,
					     (uint64_t)0, UINT64_MAX, 1, 1, (uint64_t)1, "", "", "", "", 0, 0,
					     (uint64_t)0, UINT64_MAX));
	must("policy", sd_bus_message_append(message, "a(buu(" BATCH "))a(ss)bs", 0, 0, 0, ""));
	must("policy", sd_bus_message_close_container(message));
	must("policy", sd_bus_message_close_container(message));
}

static pid_t start_broker(int controller)
{
	char number[16];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	snprintf(number, sizeof(number), "%d", controller);
	fcntl(controller, F_SETFD, 0);
	execlp("dbus-broker", "dbus-broker", "--controller", number, "--machine-id",
	       "0123456789abcdef0123456789abcdef", "--max-bytes", "4294967295", "--max-fds", "65536",
	       "--max-matches", "100000", "--max-objects", "1000000", NULL);
	engine_fail("dbus-broker", errno);
}

/* dbus-broker wants a controller, which is usually its launcher, and that wants systemd. */
void fanout_broker(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int pair[2], listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	sd_bus_message *message;
	sd_bus *bus;
	pid_t pid;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 4096) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		engine_fail(path, errno);
	pid = start_broker(pair[1]);
	close(pair[1]);
	must("bus", sd_bus_new(&bus));
	must("bus", sd_bus_set_fd(bus, pair[0], pair[0]));
	must("bus", sd_bus_start(bus));
	must("listener", sd_bus_message_new_method_call(bus, &message, NULL, "/org/bus1/DBus/Broker",
							"org.bus1.DBus.Broker", "AddListener"));
	must("listener", sd_bus_message_append(message, "oh", "/org/bus1/DBus/Listener/0", listener));
	add_policy(message);
	must("dbus-broker refuses the listener", sd_bus_call(bus, message, 0, NULL, NULL));
	printf("%d\n", (int)pid);
	fflush(stdout);
	for (;;)
		if (sd_bus_process(bus, NULL) == 0)
			must("wait", sd_bus_wait(bus, UINT64_MAX));
}
