/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The way of a connection that forward has accepted (forward_internal.h). Streams of Xen go through one
 * connection (xenmsg-stream.h). Reaching another target may take a while (a name is looked up), so threads do
 * it.
 */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>
#include <utlist.h>

#include "cli/forward_internal.h"
#include "libclient/again.h"

#define DIALS_MAX 64  /* at once; further connections wait until one of them ends */
#define HELD_MS	  100 /* between attempts to dial what a limit holds up, unless a connection ends */

/* A connection that has a target. */
struct carried_connection {
	struct forward *forward;
	struct pump *pump;
	struct carried_connection *prev, *next;
};

/* A connection that has no target yet. */
struct dial {
	struct work work;
	struct forward *forward;
	struct pump_end source, target;
	int result;	    /* of a thread: the descriptor, or a negative errno */
	bool is_held;	    /* is in forward->held */
	bool source_gone;   /* before there was a target */
	struct again again; /* for a name that isn't known yet */
	struct dial *prev, *next;
};

static struct dial *dial_of(struct work *work)
{
	return (struct dial *)((char *)work - offsetof(struct dial, work));
}

/* Dials, in a thread. */
static void dial_target(struct work *work)
{
	struct dial *dial = dial_of(work);
	const struct place *target = &dial->forward->target.place;

	dial->result = place_dial(target);
}

/* Returns whether further connections are accepted: not if as many are dialled as may be, or some are
 * held. */
static bool may_accept(const struct forward *forward)
{
	return forward->dials < DIALS_MAX && !forward->held && !forward->is_full && !forward->rests &&
	       !forward->is_over;
}

static void set_source(struct forward *forward)
{
	if (forward->listener && may_accept(forward))
		evconnlistener_enable(forward->listener);
	else if (forward->listener)
		evconnlistener_disable(forward->listener);
}

static int begin(struct dial *dial);
static void on_result(struct dial *dial, int result);

/* Dials. */
static void start_dial(struct dial *dial)
{
	int r = dial->forward->is_over ? -ECANCELED : begin(dial);

	if (r < 0)
		on_result(dial, r);
}

/* Dials what is held, as far as that may be. */
static void go_on(struct forward *forward)
{
	struct dial *first;

	while ((first = forward->held) && !forward->rests && !forward->is_over &&
	       forward->dials < (forward->is_full ? 1 : DIALS_MAX)) {
		DL_DELETE(forward->held, first);
		first->is_held = false;
		DL_APPEND(forward->dialled, first);
		forward->dials++;
		start_dial(first);
	}
	set_source(forward);
}

static void stop_resting(struct forward *forward)
{
	forward->rests = false;
	go_on(forward);
}

static void on_again(evutil_socket_t fd, short what, void *userdata)
{
	stop_resting(userdata);
}

void forward_rest(struct forward *forward)
{
	const struct timeval pause = {.tv_usec = HELD_MS * 1000};

	forward->rests = true;
	evtimer_add(forward->again, &pause);
	set_source(forward);
}

static void append(struct dial *dial)
{
	DL_APPEND(dial->forward->held, dial);
	dial->is_held = true;
}

/* Holds a connection that a limit doesn't let through, before all others. */
static void hold(struct dial *dial, int error)
{
	struct forward *forward = dial->forward;

	cli_note_limit(forward->cli, &forward->is_full, "forward:", forward->target.place.text, error);
	DL_PREPEND(forward->held, dial);
	dial->is_held = true;
	forward_rest(forward);
}

static bool has_unsent(int fd)
{
	int bytes = 0;

	return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static bool has_unread(int fd)
{
	int bytes = 0;

	return ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

static void break_socket(void *userdata, int fd, bool ended)
{
	const struct end_at *at = userdata;

	/* Its other end reads ECONNRESET by a reset of TCP, which would take from it what is on its way: if
	 * that is the whole, it isn't reset. Or if something that it wrote lies unread. If it is closed,
	 * nobody takes a part for the whole. */
	if (at->place.kind == PLACE_TCP) {
		if (!ended || !has_unsent(fd))
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
				   sizeof(struct linger));
	} else if (!ended && !has_unread(fd) && !pump_is_hung_up(fd)) {
		at->forward->has_truncated = true;
		cli_note(at->forward->cli,
			 "forward: %s can't be told that the connection broke: it reads an end of file",
			 at->place.text);
	}
	close(fd);
}

/* What comes in pieces goes on in pieces: a program that writes twice and then waits would wait for 40 ms. */
struct pump_end forward_end_of_socket(struct end_at *at, int fd)
{
	int yes = 1;

	if (at->place.kind == PLACE_TCP)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return (struct pump_end){.in = fd,
				 .out = fd,
				 .break_socket = break_socket,
				 .userdata = at,
				 .may_leave_unread = at->place.kind == PLACE_UNIX};
}

static void note_broken(const struct forward *forward, bool at_left, int error)
{
	cli_note(forward->cli, "forward: %s broke a connection: %s",
		 at_left ? forward->source.place.text : forward->target.place.text, strerror(error));
}

static void forget(struct carried_connection *carried)
{
	DL_DELETE(carried->forward->carried, carried);
	free(carried);
}

static void on_pump_done(void *userdata, struct pump *pump, int error, bool at_left)
{
	struct carried_connection *carried = userdata;
	struct forward *forward = carried->forward;

	if (error)
		note_broken(forward, at_left, error);
	forget(carried);
	pump_free(pump);
	if (forward->held || forward->rests)
		stop_resting(forward);
}

void forward_break_carried(struct forward *forward, int error)
{
	struct carried_connection *carried;

	while ((carried = forward->carried)) {
		struct pump *pump = carried->pump;

		if (error)
			note_broken(forward, false, error);
		forget(carried);
		pump_break(pump);
	}
}

static void break_end(struct pump_end *end)
{
	if (end->stream)
		xenmsg_stream_close(end->stream);
	else if (end->in >= 0)
		break_socket(end->userdata, end->in, true); /* nothing was carried */
}

/* Breaks what there is of it, and leaves its memory to the threads that may still be dialling. */
static void abandon(struct dial *dial)
{
	if (!dial->source_gone)
		break_end(&dial->source);
	dial->source_gone = true;
	break_end(&dial->target);
	dial->target = (struct pump_end){.in = -1, .out = -1};
}

static void give_up(struct dial *dial)
{
	abandon(dial);
	free(dial);
}

/* Carries a connection whose target was reached. */
static void carry(struct dial *dial)
{
	struct forward *forward = dial->forward;
	struct carried_connection *carried = dial->source_gone ? NULL : calloc(1, sizeof(*carried));

	if (!carried) {
		if (!dial->source_gone)
			cli_complain("forward: out of memory");
		give_up(dial);
		return;
	}
	carried->forward = forward;
	carried->pump = pump_new(forward->loop.base, dial->source, dial->target, on_pump_done, carried);
	free(dial);
	if (!carried->pump) {
		cli_complain("forward: out of memory");
		free(carried);
		return;
	}
	DL_APPEND(forward->carried, carried);
	pump_catch_up(carried->pump);
}

static void on_try_again(evutil_socket_t fd, short what, void *userdata)
{
	struct dial *dial = userdata;
	struct forward *forward = dial->forward;

	start_dial(dial);
	go_on(forward);
}

/* Returns for how long to wait with another try, or a negative number: there is none. */
static int retry_ms(struct dial *dial, int result)
{
	if (dial->source_gone)
		return -1;
	if (result == -ENODATA) /* a name isn't known yet */
		return again_pause(&dial->again, -1);
	/* The session is over, and will be closed. */
	return result == -ENOTCONN && dial->forward->conn ? 0 : -1;
}

static bool try_again(struct dial *dial, int result)
{
	int pause_ms = retry_ms(dial, result);
	const struct timeval pause = {pause_ms / 1000, pause_ms % 1000 * 1000};

	return pause_ms >= 0 &&
	       event_base_once(dial->forward->loop.base, -1, EV_TIMEOUT, on_try_again, dial, &pause) == 0;
}

/* The target was reached, or a negative errno says why not. */
static void on_result(struct dial *dial, int result)
{
	struct forward *forward = dial->forward;

	if (forward->is_over) {
		abandon(dial); /* what was dialled since */
		return;
	}
	if (try_again(dial, result))
		return;
	DL_DELETE(forward->dialled, dial);
	forward->dials--;
	if ((cli_is_limit(result) || result == -ENOMEM) && !dial->source_gone) {
		hold(dial, result);
		return;
	}
	if (!forward->held && !forward->dials)
		cli_note_limit(forward->cli, &forward->is_full, "forward:", forward->target.place.text, 0);
	if (result >= 0) {
		carry(dial);
		return;
	}
	if (!dial->source_gone)
		cli_complain("forward: %s can't be reached: %s", forward->target.place.text,
			     place_why_not(&forward->target.place, result));
	give_up(dial);
}

static void on_dialled(struct work *work)
{
	struct dial *dial = dial_of(work);
	struct forward *forward = dial->forward;

	if (dial->result >= 0)
		dial->target = forward_end_of_socket(&forward->target, dial->result);
	on_result(dial, dial->result);
	go_on(forward);
}

static void on_opened(void *userdata, struct xenmsg_stream *stream)
{
	struct dial *dial = userdata;
	struct forward *forward = dial->forward;

	on_result(dial, 0);
	go_on(forward);
}

static void on_refused(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct dial *dial = userdata;
	struct forward *forward = dial->forward;

	xenmsg_stream_close(stream);
	dial->target.stream = NULL;
	on_result(dial, error);
	go_on(forward);
}

/* Nothing comes before `opened`, after which a pump is told. */
static const struct xenmsg_stream_callbacks target_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.opened = on_opened,
	.broken = on_refused,
};

/* Dials through the session, which is opened anew if the daemon has gone. Returns 0 or a negative errno. */
static int dial_stream(struct dial *dial)
{
	struct forward *forward = dial->forward;
	int r = forward->conn ? 0 : forward_open_session(forward);

	return r < 0 ? r
		     : xenmsg_stream_connect(forward->conn, forward->target.place.path, NULL,
					     &target_callbacks, dial, &dial->target.stream);
}

/* Begins to dial. Returns 0, or a negative errno: that is the result. */
static int begin(struct dial *dial)
{
	return dial->forward->target.place.kind == PLACE_XEN
		       ? dial_stream(dial)
		       : workers_give(dial->forward->workers, &dial->work);
}

static void on_source_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct dial *dial = userdata;

	xenmsg_stream_close(stream);
	dial->source_gone = true;
	if (!dial->is_held)
		return; /* until the target is reached or not */
	DL_DELETE(dial->forward->held, dial);
	free(dial);
}

/* What comes is kept until there is a target. */
static const struct xenmsg_stream_callbacks source_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.broken = on_source_broken,
};

void forward_take(struct forward *forward, struct pump_end source)
{
	struct dial *new = calloc(1, sizeof(*new));

	cli_note_limit(forward->cli, &forward->is_short, "forward:", forward->source.place.text, 0);
	if (!new) {
		cli_complain("forward: out of memory");
		break_end(&source);
		return;
	}
	*new = (struct dial){.forward = forward, .source = source, .target = {.in = -1, .out = -1}};
	if (source.stream)
		xenmsg_stream_set_callbacks(source.stream, &source_callbacks, new);
	append(new);
	go_on(forward);
}

int forward_init_dials(struct forward *forward)
{
	forward->again = evtimer_new(forward->loop.base, on_again, forward);
	forward->workers = workers_new(forward->loop.base, dial_target, on_dialled);
	return forward->again && forward->workers ? 0 : -ENOMEM;
}

void forward_give_up_dials(struct forward *forward)
{
	struct dial *held, *dial;

	while ((held = forward->held)) {
		DL_DELETE(forward->held, held);
		give_up(held);
	}
	DL_FOREACH(forward->dialled, dial)
		abandon(dial);
}
