/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * forward: carries each connection to SOURCE to TARGET, any number of them at once:
 *
 *   accepted ──held until its turn──▶ dialled ──▶ carried ──both ends have ended──▶ gone
 *                 ▲                      ├──a source that has gone, or an error──▶ reset
 *                 └──────────────────────┴──over a limit: until a connection has ended, or time──
 *
 * While one is held, no more connections are accepted. Connections that are carried when the command ends, or
 * the session, are broken: nobody takes a part for the whole.
 */

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/place.h"
#include "cli/pump.h"
#include "wire/retry.h"
#include "xenmsg-stream.h"
#include "wire/ut.h"

/* What is the same for all connections at a place. */
struct end_at {
	struct forward *forward;
	struct place place;
};

struct forward {
	struct cli *cli;
	struct loop loop;
	struct end_at source, target;
	bool has_truncated; /* a part looked like the whole to somebody */
	/* if one of them is xen:. It is opened anew if the daemon has gone: as a target for the next
	 * connection, */
	struct xenmsg *conn;
	struct event *session;
	struct event *reopen; /* and as a source after a moment */
	uint32_t pause_ms;
	struct reconnecting reconnecting; /* its lines */
	struct evconnlistener *listener;
	int done[2]; /* pipe: what threads have dialled */
	struct event *on_done;
	unsigned dials;
	struct carried_connection *carried;
	struct dial *held; /* to be dialled, in the order in which they came */
	struct dial *dialled;
	struct event *again; /* dials the first of them, or accepts again */
	bool is_full;	     /* a limit holds up dials, until all are through: one at a time is tried, */
	bool is_short;	     /* a limit holds up what is to be accepted, */
	bool rests;	     /* and nothing is tried until `again` or until a connection ends */
	bool is_over;	     /* nothing more is accepted or carried */
	int code;
};

/* Opens the session, which there is none of. A negative errno. */
static int forward_open_session(struct forward *forward);

/* ---- the way of a connection ----------------------------------------------------------------- */

/* Streams of Xen go through one connection (xenmsg-stream.h). Reaching another target may take a while (a
 * name is looked up), so a thread of its own does it for each dial. */

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
	struct forward *forward;
	struct pump_end source, target;
	int result;	    /* of a thread: the descriptor, or a negative errno */
	bool is_held;	    /* is in forward->held */
	bool source_gone;   /* before there was a target */
	struct again again; /* for a name that isn't known yet */
	struct dial *prev, *next;
};

/* Dials, in a thread. */
static void *dial_target(void *userdata)
{
	struct dial *dial = userdata;
	int out = dial->forward->done[1];

	dial->result = place_dial(&dial->forward->target.place);
	/* A pointer is smaller than PIPE_BUF, so it is written as a whole. */
	if (write(out, &dial, sizeof(struct dial *)) != (ssize_t)sizeof(struct dial *))
		abort();
	return NULL;
}

/* Returns 0, or -ENOMEM: also if the user may have no more threads. */
static int dial_in_thread(struct dial *dial)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, dial_target, dial);

	if (error == 0)
		pthread_detach(thread);
	return error ? -ENOMEM : 0;
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

static int forward_begin(struct dial *dial);
static void on_result(struct dial *dial, int result);

/* Dials. */
static void start_dial(struct dial *dial)
{
	int r = dial->forward->is_over ? -ECANCELED : forward_begin(dial);

	if (r < 0)
		on_result(dial, r);
}

/* Dials what is held, as far as that may be. */
static void forward_go_on(struct forward *forward)
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
	forward_go_on(forward);
}

static void forward_on_again(evutil_socket_t fd, short what, void *userdata)
{
	stop_resting(userdata);
}

/* Tries nothing for a moment, since it would fail again and again. */
static void forward_rest(struct forward *forward)
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
			 "forward: %s can't be told that the connection broke, and reads an end of file",
			 at->place.text);
	}
	close(fd);
}

/* What comes in pieces goes on in pieces: a program that writes twice and then waits would wait for 40
 * ms. And a far machine that has gone without a word is found out at some time. */
static struct pump_end forward_end_of_socket(struct end_at *at, int fd)
{
	int yes = 1;

	if (at->place.kind == PLACE_TCP) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
	}
	/* An urgent byte is one like others: else it is lost, and a read that waits for more holds everybody.
	 */
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes));
	evutil_make_socket_nonblocking(fd);
	return (struct pump_end){.in = fd,
				 .out = fd,
				 .break_socket = break_socket,
				 .userdata = at,
				 .may_leave_unread = at->place.kind == PLACE_UNIX};
}

/* The library says more of a stream, within its callback. */
static const char *forward_why(const struct forward *forward, const struct place *place, int error)
{
	return place->kind == PLACE_XEN && forward->conn ? xenmsg_reason(forward->conn, error)
							 : place_why_not(place, error);
}

static void note_broken(const struct forward *forward, bool at_left, int error)
{
	const struct place *place = at_left ? &forward->source.place : &forward->target.place;

	cli_note(forward->cli, "forward: %s broke a connection: %s", place->text,
		 forward_why(forward, place, -error));
}

static void forward_forget(struct carried_connection *carried)
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
	forward_forget(carried);
	pump_free(pump);
	if (forward->held || forward->rests)
		stop_resting(forward);
}

/* Breaks all that is carried. `error`: why, to be told of each; 0: nothing is told. */
static void forward_break_carried(struct forward *forward, int error)
{
	struct carried_connection *carried;

	while ((carried = forward->carried)) {
		struct pump *pump = carried->pump;

		if (error)
			note_broken(forward, false, error);
		forward_forget(carried);
		pump_break(pump);
	}
}

/* `error`: why, if the other end of the connection couldn't be reached. */
static void break_end(struct pump_end *end, int error)
{
	if (end->stream)
		xenmsg_stream_break(end->stream, error == PLACE_NO_HOST ? -ENODATA : error);
	else if (end->in >= 0)
		break_socket(end->userdata, end->in, true); /* nothing was carried */
}

/* Breaks what there is of it, and leaves its memory to the threads that may still be dialling. */
static void abandon(struct dial *dial, int error)
{
	if (!dial->source_gone)
		break_end(&dial->source, error);
	dial->source_gone = true;
	break_end(&dial->target, 0);
	dial->target = (struct pump_end){.in = -1, .out = -1};
}

static void give_up(struct dial *dial, int error)
{
	abandon(dial, error);
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
		give_up(dial, -ENOMEM);
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
	forward_go_on(forward);
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
		abandon(dial, -ECANCELED); /* what was dialled since */
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
			     forward_why(forward, &forward->target.place, result));
	give_up(dial, result);
}

static void on_dialled(evutil_socket_t fd, short what, void *userdata)
{
	struct forward *forward = userdata;
	struct dial *dial;

	if (read(fd, &dial, sizeof(struct dial *)) != (ssize_t)sizeof(struct dial *))
		return;
	if (dial->result >= 0)
		dial->target = forward_end_of_socket(&forward->target, dial->result);
	on_result(dial, dial->result);
	forward_go_on(forward);
}

static void forward_on_opened(void *userdata, struct xenmsg_stream *stream)
{
	struct dial *dial = userdata;
	struct forward *forward = dial->forward;

	on_result(dial, 0);
	forward_go_on(forward);
}

static void on_refused(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct dial *dial = userdata;
	struct forward *forward = dial->forward;

	xenmsg_stream_close(stream);
	dial->target.stream = NULL;
	on_result(dial, error);
	forward_go_on(forward);
}

/* Nothing comes before `opened`, after which a pump is told. */
static const struct xenmsg_stream_callbacks target_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.opened = forward_on_opened,
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
static int forward_begin(struct dial *dial)
{
	return dial->forward->target.place.kind == PLACE_XEN ? dial_stream(dial) : dial_in_thread(dial);
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

/* Bytes that come are kept until there is a target. */
static const struct xenmsg_stream_callbacks source_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.broken = on_source_broken,
};

/* Takes what was accepted, and dials when its turn has come. */
static void forward_take(struct forward *forward, struct pump_end source)
{
	struct dial *new = calloc(1, sizeof(*new));

	cli_note_limit(forward->cli, &forward->is_short, "forward:", forward->source.place.text, 0);
	if (!new) {
		cli_complain("forward: out of memory");
		break_end(&source, -ENOMEM);
		return;
	}
	*new = (struct dial){.forward = forward, .source = source, .target = {.in = -1, .out = -1}};
	if (source.stream)
		xenmsg_stream_set_callbacks(source.stream, &source_callbacks, new);
	append(new);
	forward_go_on(forward);
}

/* -ENOMEM. */
static int forward_init_dials(struct forward *forward)
{
	forward->again = evtimer_new(forward->loop.base, forward_on_again, forward);
	if (!forward->again || pipe(forward->done) < 0)
		return -ENOMEM;
	forward->on_done =
		loop_event(forward->loop.base, forward->done[0], EV_READ | EV_PERSIST, on_dialled, forward);
	return forward->on_done ? 0 : -ENOMEM;
}

/* Breaks connections that have no target yet, but for those that threads may still be dialling. */
static void forward_give_up_dials(struct forward *forward)
{
	struct dial *held, *dial;

	while ((held = forward->held)) {
		DL_DELETE(forward->held, held);
		give_up(held, -ECANCELED);
	}
	DL_FOREACH(forward->dialled, dial)
		abandon(dial, -ECANCELED);
}

/* ---------------------------------------------------------------------------------------------- */

static const char help[] =
	"Usage: xenmsg forward [OPTIONS] SOURCE TARGET\n"
	"\n"
	"Accepts connections at SOURCE and carries each to a connection of its own to\n"
	"TARGET, until it is stopped. Each is\n"
	"\n"
	"  unix:PATH       a Unix socket\n"
	"  tcp:HOST:PORT   a TCP socket; an IPv6 address stands in brackets. SOURCE with\n"
	"                  port 0: any; then standard output gets a line that says which,\n"
	"                  as tcp:HOST:PORT\n"
	"  xen:ADDRESS     a byte stream: as SOURCE an endpoint of this domain\n"
	"                  (xen:ENDPOINT), as TARGET DOMAIN:ENDPOINT\n"
	"\n"
	"      --once          with xen: as SOURCE, end when the xenmsgd of this domain\n"
	"                      ends; else it goes on with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg forward tcp:127.0.0.1:5432 xen:db:postgres\n"
	"  xenmsg forward xen:postgres unix:/run/postgresql/.s.PGSQL.5432\n";

/* ---- streams --------------------------------------------------------------------------------- */

static void on_socket(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
		      void *userdata)
{
	struct forward *forward = userdata;

	forward_take(forward, forward_end_of_socket(&forward->source, fd));
}

static void forward_on_accept_error(struct evconnlistener *listener, void *userdata)
{
	struct forward *forward = userdata;

	cli_note_limit(forward->cli, &forward->is_short, "forward:", forward->source.place.text, -errno);
	forward_rest(forward);
}

static void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer)
{
	forward_take(userdata, (struct pump_end){.in = -1, .out = -1, .stream = stream});
}

/* ---- the session ----------------------------------------------------------------------------- */

static void close_session(struct forward *forward)
{
	loop_event_free(forward->session);
	xenmsg_close(forward->conn);
	forward->session = NULL;
	forward->conn = NULL;
}

/* Behind a pause of so many milliseconds (0: there was none). */
static void reopen_later(struct forward *forward, uint32_t before_ms)
{
	uint32_t ms = retry_pause(RETRY_HERE, before_ms);
	const struct timeval pause = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	forward->pause_ms = ms;
	event_add(forward->reopen, &pause);
}

static void on_session(evutil_socket_t fd, short what, void *userdata)
{
	struct forward *forward = userdata;
	int r = xenmsg_process(forward->conn);

	if (r >= 0)
		return;
	if (forward->source.place.kind == PLACE_XEN && forward->reconnecting.once) {
		forward->code = cli_error_because(xenmsg_reason(forward->conn, r), "forward from",
						  forward->source.place.text, r);
		event_base_loopbreak(forward->loop.base);
		return;
	}
	if (forward->source.place.kind == PLACE_XEN)
		reconnecting_note_lost(&forward->reconnecting, xenmsg_reason(forward->conn, r));
	forward_break_carried(forward, -r); /* all others have been told already */
	close_session(forward);
	if (forward->source.place.kind == PLACE_XEN)
		reopen_later(forward, 0);
}

int forward_open_session(struct forward *forward)
{
	int r = xenmsg_open(&forward->conn, forward->cli->socket, NULL);

	if (r < 0)
		return r;
	forward->session = loop_event(forward->loop.base, xenmsg_fd(forward->conn), EV_READ | EV_PERSIST,
				      on_session, forward);
	if (forward->session)
		return 0;
	close_session(forward);
	return -ENOMEM;
}

/* ---- starting -------------------------------------------------------------------------------- */

static int listen_in_session(struct forward *forward)
{
	int r = xenmsg_stream_listen(forward->conn, forward->source.place.path,
				     XENMSG_FLAGS(XENMSG_FROM_HOSTS), on_incoming, forward);

	if (r == -EPROTONOSUPPORT)
		return cli_no_session(forward->cli, r);
	return r < 0 ? cli_error_because(xenmsg_reason(forward->conn, r), "forward from",
					 forward->source.place.text, r)
		     : 0;
}

static int refuse_circle(const struct forward *forward)
{
	return cli_usage("forward",
			 "TARGET '%s': that is SOURCE, and each connection would open the next one",
			 forward->target.place.text);
}

static int listen_xen(struct forward *forward)
{
	char domid[16];
	int r = forward_open_session(forward);

	if (r < 0)
		return cli_no_session(forward->cli, r);
	snprintf(domid, sizeof(domid), "%u", xenmsg_domid(forward->conn));
	if (place_leads_to(&forward->target.place, &forward->source.place, domid))
		return refuse_circle(forward);
	return listen_in_session(forward);
}

/* Listens at the next daemon, if it is there by now. An error there ends the command. */
static void on_reopen(evutil_socket_t fd, short what, void *userdata)
{
	struct forward *forward = userdata;

	if (forward_open_session(forward) < 0) {
		reopen_later(forward, forward->pause_ms);
		return;
	}
	forward->code = listen_in_session(forward);
	if (forward->code)
		event_base_loopbreak(forward->loop.base);
	else
		reconnecting_note_back(&forward->reconnecting);
}

static int listen_socket(struct forward *forward)
{
	const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC;
	int fd, code = place_listen(forward->cli, "forward", &forward->source.place, 0, &fd);

	if (code)
		return code;
	forward->listener = evconnlistener_new(forward->loop.base, on_socket, forward, flags, 0, fd);
	if (!forward->listener)
		return cli_error(NULL, "forward from", forward->source.place.text, -ENOMEM);
	evconnlistener_set_error_cb(forward->listener, forward_on_accept_error);
	return 0;
}

static int forward_start(struct forward *forward)
{
	struct rlimit descriptors;
	int r;

	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) { /* two for each connection */
		descriptors.rlim_cur = descriptors.rlim_max;
		setrlimit(RLIMIT_NOFILE, &descriptors);
	}
	if ((r = loop_init(&forward->loop, NULL)) < 0) {
		cli_complain("forward: %s%s", strerror(-r), cli_limit_of(-r));
		return EXIT_OTHER;
	}
	forward->reopen = evtimer_new(forward->loop.base, on_reopen, forward);
	if (forward_init_dials(forward) < 0 || !forward->reopen)
		return EXIT_OTHER;
	/* If there is no daemon yet, there may be one for the first connection. */
	if (forward->source.place.kind != PLACE_XEN && forward->target.place.kind == PLACE_XEN)
		(void)!forward_open_session(forward);
	return forward->source.place.kind == PLACE_XEN ? listen_xen(forward) : listen_socket(forward);
}

static void forward_end(struct forward *forward)
{
	forward->is_over = true;
	if (forward->listener)
		evconnlistener_free(forward->listener);
	if (forward->listener && forward->source.place.kind == PLACE_UNIX)
		unlink(forward->source.place.path);
	forward->listener = NULL;
	forward_break_carried(forward, 0);
	forward_give_up_dials(forward);
	loop_event_free(forward->reopen);
	close_session(forward);
	place_free(&forward->source.place);
	place_free(&forward->target.place);
	/* Threads may still be dialling: the memory that they use ends with the process. */
}

int cmd_forward(struct cli *cli, int argc, char **argv)
{
	static struct forward forward; /* static, as threads may use it after this function has returned */
	int code;
	const struct cli_option options[] = {{.name = "once", .flag = &forward.reconnecting.once}, {0}};
	const char *why;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind != 2)
		return cli_usage("forward", "forward takes SOURCE and TARGET");
	forward = (struct forward){.cli = cli,
				   .source.forward = &forward,
				   .target.forward = &forward,
				   .reconnecting = {.cli = cli,
						    .what = "forward from",
						    .subject = argv[optind],
						    .once = forward.reconnecting.once}};
	why = place_parse(&forward.source.place, argv[optind], true);
	if (why)
		return cli_usage("forward", "SOURCE '%s': %s", argv[optind], why);
	why = place_parse(&forward.target.place, argv[optind + 1], false);
	if (!why && place_is_port_0(&forward.target.place))
		why = "nothing listens on port 0";
	if (!why && place_leads_to(&forward.target.place, &forward.source.place, NULL))
		return refuse_circle(&forward);
	if (why)
		return cli_usage("forward", "TARGET '%s': %s", argv[optind + 1], why);
	forward.code = forward_start(&forward);
	if (forward.code == 0 && cli_is_watched(cli))
		cli_note(cli, "forward: from %s to %s; Ctrl-C ends it", argv[optind], argv[optind + 1]);
	if (forward.code == 0)
		event_base_dispatch(forward.loop.base);
	forward_end(&forward);
	/* What stopped it matters less than that somebody took a part for the whole. */
	if (forward.code == 0 && forward.has_truncated)
		return EXIT_LOST;
	interrupt_die_of(forward.loop.signal);
	return forward.code;
}
