/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/conformance/check_xen.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

static xenevtchn_handle *handle(const struct tool *tool)
{
	return tool->evtchn[tool->number[1]];
}

static void evtchn_open(struct tool *tool)
{
	tool->evtchn[tool->evtchn_count] = xenevtchn_open(NULL, 0);
	result(tool->evtchn[tool->evtchn_count] ? (long)tool->evtchn_count++ : -1);
}

static void evtchn_fdopen(struct tool *tool)
{
	tool->evtchn[tool->evtchn_count] = xenevtchn_fdopen(NULL, xenevtchn_fd(handle(tool)), 0);
	result(tool->evtchn[tool->evtchn_count] ? (long)tool->evtchn_count++ : -1);
}

/* evtchn-open-kept: the descriptor of one that is still open after `exec`; evtchn-adopt FD: there */
static void evtchn_open_kept(struct tool *tool)
{
	xenevtchn_handle *opened = xenevtchn_open(NULL, XENEVTCHN_NO_CLOEXEC);

	tool->evtchn[tool->evtchn_count++] = opened;
	result(opened ? xenevtchn_fd(opened) : -1);
}

static void evtchn_adopt(struct tool *tool)
{
	tool->evtchn[tool->evtchn_count] = xenevtchn_fdopen(NULL, (int)tool->number[1], 0);
	result(tool->evtchn[tool->evtchn_count] ? (long)tool->evtchn_count++ : -1);
}

static void evtchn_close(struct tool *tool)
{
	result(xenevtchn_close(handle(tool)));
	tool->evtchn[tool->number[1]] = NULL;
}

static void nonblock(struct tool *tool)
{
	result(fcntl(xenevtchn_fd(handle(tool)), F_SETFL, O_NONBLOCK));
}

static void bind_unbound(struct tool *tool)
{
	result(xenevtchn_bind_unbound_port(handle(tool), (uint32_t)tool->number[2]));
}

static void bind_interdomain(struct tool *tool)
{
	result(xenevtchn_bind_interdomain(handle(tool), (uint32_t)tool->number[2],
					  (evtchn_port_t)tool->number[3]));
}

/* bind-virq HANDLE VIRQ */
static void bind_virq(struct tool *tool)
{
	result(xenevtchn_bind_virq(handle(tool), (unsigned)tool->number[2]));
}

/* bind-virqs HANDLE FIRST LAST: binds all of these, and answers which of them can't be, and why */
static void bind_virqs(struct tool *tool)
{
	printf("ok");
	for (long virq = tool->number[2]; virq <= tool->number[3]; virq++)
		if (xenevtchn_bind_virq(handle(tool), (unsigned)virq) < 0)
			printf(" %ld:%d", virq, errno);
	putchar('\n');
}

static void unbind(struct tool *tool)
{
	result(xenevtchn_unbind(handle(tool), (evtchn_port_t)tool->number[2]));
}

static void notify(struct tool *tool)
{
	result(xenevtchn_notify(handle(tool), (evtchn_port_t)tool->number[2]));
}

static void pending(struct tool *tool)
{
	result(xenevtchn_pending(handle(tool)));
}

static void unmask(struct tool *tool)
{
	result(xenevtchn_unmask(handle(tool), (evtchn_port_t)tool->number[2]));
}

/* poll HANDLE MILLISECONDS */
static void poll_handle(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xenevtchn_fd(handle(tool)), .events = POLLIN};

	result(poll(&pollfd, 1, (int)tool->number[2]));
}

/* evtchn-restrict HANDLE DOMID */
static void restrict_handle(struct tool *tool)
{
	result(xenevtchn_restrict(handle(tool), (domid_t)tool->number[2]));
}

static bool bind_one_more(struct tool *tool, long i)
{
	return xenevtchn_bind_unbound_port(handle(tool), (uint32_t)tool->number[2]) >= 0;
}

/* bind-many HANDLE DOMID LIMIT */
static void bind_many(struct tool *tool)
{
	until_it_fails(tool, bind_one_more, tool->number[3]);
}

/* bind-and-unbind HANDLE DOMID PORT TIMES: each time leaves the event that comes with the binding */
static void bind_and_unbind(struct tool *tool)
{
	int r = 0;

	for (long i = 0; r == 0 && i < tool->number[4]; i++) {
		int port = xenevtchn_bind_interdomain(handle(tool), (uint32_t)tool->number[2],
						      (evtchn_port_t)tool->number[3]);

		r = port < 0 ? -1 : xenevtchn_unbind(handle(tool), (evtchn_port_t)port);
	}
	result(r);
}

/* ping HANDLE PORT TIMES: notifies, and waits for an event before the next time */
static void ping(struct tool *tool)
{
	evtchn_port_t port = (evtchn_port_t)tool->number[2];
	long done = 0;

	while (done < tool->number[3] && xenevtchn_notify(handle(tool), port) == 0 &&
	       xenevtchn_pending(handle(tool)) == (xenevtchn_port_or_error_t)port &&
	       xenevtchn_unmask(handle(tool), port) == 0)
		done++;
	result(done == tool->number[3] ? done : -1);
}

/* pong HANDLE TIMES: answers so many events, of whatever port, each by one */
static void pong(struct tool *tool)
{
	long done = 0;

	while (done < tool->number[2]) {
		xenevtchn_port_or_error_t port = xenevtchn_pending(handle(tool));

		if (port < 0 || xenevtchn_unmask(handle(tool), (evtchn_port_t)port) < 0 ||
		    xenevtchn_notify(handle(tool), (evtchn_port_t)port) < 0)
			break;
		done++;
	}
	result(done == tool->number[2] ? done : -1);
}

const struct tool_command event_commands[] = {
	{"evtchn-open", 1, evtchn_open},
	{"evtchn-fdopen", 2, evtchn_fdopen},
	{"evtchn-close", 2, evtchn_close},
	{"evtchn-open-kept", 1, evtchn_open_kept},
	{"evtchn-adopt", 2, evtchn_adopt},
	{"nonblock", 2, nonblock},
	{"bind-unbound", 3, bind_unbound},
	{"bind-interdomain", 4, bind_interdomain},
	{"bind-virq", 3, bind_virq},
	{"bind-virqs", 4, bind_virqs},
	{"unbind", 3, unbind},
	{"notify", 3, notify},
	{"pending", 2, pending},
	{"unmask", 3, unmask},
	{"poll", 3, poll_handle},
	{"evtchn-restrict", 3, restrict_handle},
	{"bind-many", 4, bind_many},
	{"bind-and-unbind", 5, bind_and_unbind},
	{"ping", 4, ping},
	{"pong", 3, pong},
	{0},
};
