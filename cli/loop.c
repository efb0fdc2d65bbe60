/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include <event2/event.h>

#include "cli/cli.h"

/* that a loop needs for itself, signals and two pipes */
#define LOOP_DESCRIPTORS 6

static void on_stop(evutil_socket_t number, short what, void *userdata)
{
	struct loop *loop = userdata;

	loop->signal = (int)number;
	event_base_loopbreak(loop->base);
}

struct event *loop_event(struct event_base *base, int fd, short what,
			 void (*on_event)(int fd, short what, void *userdata), void *userdata)
{
	struct event *event = event_new(base, fd, what, on_event, userdata);

	if (event && event_add(event, NULL) == 0)
		return event;
	loop_event_free(event);
	return NULL;
}

void loop_event_free(struct event *event)
{
	if (event)
		event_free(event);
}

/* What the shell lets a command in the background ignore stays ignored. */
static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static int init(struct loop *loop, const struct event_config *config)
{
	static const int signals[] = {SIGINT, SIGTERM};

	if (!cli_has_descriptors(
		    LOOP_DESCRIPTORS)) /* libevent ends the process where one lacks for signals */
		return -EMFILE;
	loop->base = config ? event_base_new_with_config(config) : NULL;
	if (!loop->base)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		if (is_ignored(signals[i]))
			continue;
		loop->stop[i] = loop_event(loop->base, signals[i], EV_SIGNAL | EV_PERSIST, on_stop, loop);
		if (!loop->stop[i])
			return -ENOMEM;
	}
	return 0;
}

static int init_without(struct loop *loop, const char *method)
{
	struct event_config *config = event_config_new();
	int r = -ENOMEM;

	if (config && (!method || event_config_avoid_method(config, method) == 0))
		r = init(loop, config);
	if (config)
		event_config_free(config);
	return r;
}

int loop_init(struct loop *loop)
{
	return init_without(loop, NULL);
}

int loop_init_for_files(struct loop *loop)
{
	return init_without(loop, "epoll");
}

void loop_release_signals(struct loop *loop)
{
	for (int i = 0; i < 2; i++) {
		loop_event_free(loop->stop[i]);
		loop->stop[i] = NULL;
	}
}

void loop_cleanup(struct loop *loop)
{
	loop_release_signals(loop);
	if (loop->base)
		event_base_free(loop->base);
}
