/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What programs do that don't keep to Xen's libraries, or not in the usual way: sockets and devices by hand,
 * functions of a library that was loaded later, fork, waits that something interrupts. */
#include "tests/conformance/check_xen.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

static int raw_fds[16];
static long raw_count;

/* raw-socket PATH, raw-device PATH: opens it, for raw-request */
static void raw_add(int fd)
{
	if (fd >= 0)
		raw_fds[raw_count] = fd;
	result(fd < 0 || raw_count == 16 ? -1 : raw_count++);
}

static void raw_socket(struct tool *tool)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", tool->word[1]);
	raw_add(connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : fd);
}

static void raw_device(struct tool *tool)
{
	raw_add(open(tool->word[1], O_RDWR | O_CLOEXEC));
}

static bool read_all(int fd, void *buffer, size_t size)
{
	size_t done = 0;
	ssize_t n;

	while (done < size && (n = read(fd, (char *)buffer + done, size - done)) > 0)
		done += (size_t)n;
	return done == size;
}

static void raw_answer(int fd)
{
	struct xsd_sockmsg header;
	static char body[XENSTORE_PAYLOAD_MAX + 1];

	if (!read_all(fd, &header, sizeof(header)) || header.len > XENSTORE_PAYLOAD_MAX ||
	    !read_all(fd, body, header.len)) {
		printf("error end\n");
		return;
	}
	body[header.len] = 0;
	for (uint32_t i = 0; i + 1 < header.len; i++)
		if (!body[i])
			body[i] = '|';
	printf("ok %u %s\n", header.type, body);
}

/* raw-request FD TYPE TEXT: whose every '|' means 0, with one behind it: the answer's type and text */
static void raw_request(struct tool *tool)
{
	int fd = raw_fds[tool->number[1] % 16];
	struct {
		struct xsd_sockmsg header;
		char body[1024];
	} message = {.header = {.type = (uint32_t)tool->number[2], .req_id = 7}};
	size_t length = strlen(tool->word[3]);

	memcpy(message.body, tool->word[3], length + 1);
	/* Who watches has ended the token himself. */
	length += message.body[length - 1] != '|';
	for (size_t i = 0; i < length; i++)
		if (message.body[i] == '|')
			message.body[i] = 0;
	message.header.len = (uint32_t)length;
	if (write(fd, &message, sizeof(message.header) + length) < 0)
		result(-1);
	else
		raw_answer(fd);
}

/* raw-event FD MILLISECONDS: what comes by itself */
static void raw_event(struct tool *tool)
{
	struct pollfd pollfd = {.fd = raw_fds[tool->number[1] % 16], .events = POLLIN};

	if (poll(&pollfd, 1, (int)tool->number[2]) == 1)
		raw_answer(pollfd.fd);
	else
		printf("ok none\n");
}

/* raw-orders FD COUNT: writes data/orders, which is watched, so often; how many of the events came before
 * their answers */
static void raw_orders(struct tool *tool)
{
	static const char body[] = "data/orders\0x";
	int fd = raw_fds[tool->number[1] % 16];
	struct {
		struct xsd_sockmsg header;
		char body[sizeof(body) - 1];
	} message = {.header = {.type = XS_WRITE, .len = sizeof(body) - 1}};
	char text[256];
	long first = 0;

	memcpy(message.body, body, sizeof(message.body));
	for (long i = 0; i < tool->number[2]; i++) {
		struct xsd_sockmsg came[2];

		if (write(fd, &message, sizeof(message.header) + sizeof(message.body)) < 0) {
			result(-1);
			return;
		}
		for (int n = 0; n < 2; n++)
			if (!read_all(fd, &came[n], sizeof(came[n])) || came[n].len > sizeof(text) ||
			    !read_all(fd, text, came[n].len) || came[n].type == XS_ERROR) {
				printf("error end\n");
				return;
			}
		first += came[0].type == XS_WATCH_EVENT;
	}
	result(first);
}

/* Functions that are found by a handle, as languages with a foreign function interface find them. */
static void *found(const char *library, const char *name)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	return handle ? dlsym(handle, name) : NULL;
}

#define FOUND(library, name)                                                                                 \
	__extension__({                                                                                      \
		void *function = found(library, #name);                                                      \
		if (!function) {                                                                             \
			printf("error no %s\n", #name);                                                      \
			return;                                                                              \
		}                                                                                            \
		(__typeof__(&name))function;                                                                 \
	})

#define EVTCHN "libxenevtchn.so.1"

static xenevtchn_handle *dl_evtchn_handle;

/* dl-bind DOMID: a handle's first unbound port; dl-notify PORT, dl-wait: the port that is pending,
 * unmasked */
static void dl_bind(struct tool *tool)
{
	dl_evtchn_handle = FOUND(EVTCHN, xenevtchn_open)(NULL, 0);
	result(dl_evtchn_handle ? FOUND(EVTCHN, xenevtchn_bind_unbound_port)(dl_evtchn_handle,
									     (uint32_t)tool->number[1])
				: -1);
}

static void dl_notify(struct tool *tool)
{
	result(FOUND(EVTCHN, xenevtchn_notify)(dl_evtchn_handle, (evtchn_port_t)tool->number[1]));
}

static void dl_wait(struct tool *tool)
{
	struct pollfd pollfd = {.fd = FOUND(EVTCHN, xenevtchn_fd)(dl_evtchn_handle), .events = POLLIN};
	int port = -1;

	if (poll(&pollfd, 1, 3000) == 1)
		port = FOUND(EVTCHN, xenevtchn_pending)(dl_evtchn_handle);
	if (port >= 0 && FOUND(EVTCHN, xenevtchn_unmask)(dl_evtchn_handle, (evtchn_port_t)port) < 0)
		port = -1;
	result(port);
}

/* daemonize: the answer is the child's, and so are all that follow; the parent ends when the child may go
 * on */
static void daemonize(struct tool *tool)
{
	int ends[2];
	char byte;
	pid_t pid;

	fflush(stdout);
	if (pipe(ends) < 0 || (pid = fork()) < 0) {
		result(-1);
		return;
	}
	if (pid > 0)
		_exit(0);
	close(ends[1]);
	/* The end of the parent is its end of the pipe's. */
	if (read(ends[0], &byte, 1) != 0)
		_exit(1);
	close(ends[0]);
	result(getpid());
}

/* exec: becomes another program, which is this one */
static void exec_again(struct tool *tool)
{
	execl("/proc/self/exe", "check-xen", NULL);
	result(-1);
}

/* close-all: all descriptors but those of the dialogue, as programs do that mean to be daemons */
static void close_all(struct tool *tool)
{
	closefrom(3);
	result(0);
}

/* Dies of what it was told, but by its own hand, of which the kernel's log says nothing: there it would look
 * like a fault of ours. */
static void die_quietly(int number)
{
	signal(number, SIG_DFL);
	raise(number);
}

/* child-peek MEMORY OFFSET: what a child reads there, and that it is alive after that */
static void child_peek(struct tool *tool)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, die_quietly);
		_exit(((volatile unsigned char *)tool->memory[tool->number[1]].start)[tool->number[2]]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		result(-1);
	else if (WIFSIGNALED(status))
		printf("signal %d\n", WTERMSIG(status));
	else
		result(WEXITSTATUS(status));
}

/* edge HANDLE: watches it for edges; edge-wait MILLISECONDS: how many of them have come */
static int edges = -1;

static void edge(struct tool *tool)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	edges = epoll_create1(EPOLL_CLOEXEC);
	result(epoll_ctl(edges, EPOLL_CTL_ADD, xenevtchn_fd(tool->evtchn[tool->number[1]]), &event));
}

static void edge_wait(struct tool *tool)
{
	struct epoll_event event;

	result(epoll_wait(edges, &event, 1, (int)tool->number[1]));
}

/* sleep MILLISECONDS: begins to wait for an event that never comes; slept: how that ended */
static struct {
	pthread_t thread;
	atomic_int number;
	int milliseconds, ended, error;
} sleeper;

static void *sleep_in_thread(void *userdata)
{
	struct epoll_event event;
	int fd = epoll_create1(EPOLL_CLOEXEC);

	sleeper.number = gettid();
	sleeper.ended = epoll_wait(fd, &event, 1, sleeper.milliseconds);
	sleeper.error = errno;
	close(fd);
	return NULL;
}

static bool has_begun_to_sleep(void)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", sleeper.number);
	file = sleeper.number ? fopen(path, "re") : NULL;
	if (file && fscanf(file, "%*d %*s %c", &state) != 1)
		state = 0;
	if (file)
		fclose(file);
	return state == 'S';
}

static void begin_to_sleep(struct tool *tool)
{
	int error;

	sleeper.milliseconds = (int)tool->number[1];
	sleeper.number = 0;
	error = pthread_create(&sleeper.thread, NULL, sleep_in_thread, NULL);
	while (!error && !has_begun_to_sleep())
		usleep(1000);
	result(error);
}

static void end_sleeping(struct tool *tool)
{
	pthread_join(sleeper.thread, NULL);
	errno = sleeper.error;
	result(sleeper.ended);
}

const struct tool_command raw_commands[] = {
	{"raw-socket", 2, raw_socket},
	{"raw-device", 2, raw_device},
	{"raw-request", 4, raw_request},
	{"raw-event", 3, raw_event},
	{"raw-orders", 3, raw_orders},
	{"dl-bind", 2, dl_bind},
	{"dl-notify", 2, dl_notify},
	{"dl-wait", 1, dl_wait},
	{"daemonize", 1, daemonize},
	{"exec", 1, exec_again},
	{"close-all", 1, close_all},
	{"child-peek", 3, child_peek},
	{"edge", 2, edge},
	{"edge-wait", 2, edge_wait},
	{"sleep", 2, begin_to_sleep},
	{"slept", 1, end_sleeping},
	{0},
};
