/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * forward: carries each connection to SOURCE to TARGET, any number of them at once. Here is where they come
 * from, and the session with the daemon; forward_dials.c has what becomes of each.
 */

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/forward_internal.h"
#include "cli/interrupt.h"
#include "wire/retry.h"

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

/* a client that finds it full waits, or is refused if its Unix socket doesn't block */
#define BACKLOG 4096

/* ---- streams --------------------------------------------------------------------------------- */

static void on_socket(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
		      void *userdata)
{
	struct forward *forward = userdata;

	forward_take(forward, forward_end_of_socket(&forward->source, fd));
}

static void on_accept_error(struct evconnlistener *listener, void *userdata)
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
	if (forward->source.place.kind == PLACE_XEN && forward->lasting.once) {
		forward->code = cli_error_because(xenmsg_reason(forward->conn, r), "forward from",
						  forward->source.place.text, r);
		event_base_loopbreak(forward->loop.base);
		return;
	}
	if (forward->source.place.kind == PLACE_XEN)
		lasting_note_lost(&forward->lasting, xenmsg_reason(forward->conn, r));
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

static int listen_xen(struct forward *forward)
{
	int r = forward_open_session(forward);

	return r < 0 ? cli_no_session(forward->cli, r) : listen_in_session(forward);
}

/* Listens at the next daemon, if it is there by now. What it refuses ends the command. */
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
		lasting_note_back(&forward->lasting);
}

static int listen_socket(struct forward *forward)
{
	const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
	const struct place *source = &forward->source.place;
	struct sockaddr_storage address;
	socklen_t size;
	int r = place_to_listen(source, &address, &size);

	if (r == 0) {
		forward->listener = evconnlistener_new_bind(forward->loop.base, on_socket, forward, flags,
							    BACKLOG, (struct sockaddr *)&address, (int)size);
		r = forward->listener ? 0 : -errno;
	}
	if (r < 0) {
		cli_complain("forward: can't listen on %s: %s", source->text, place_why_not(source, r));
		return EXIT_OTHER;
	}
	evconnlistener_set_error_cb(forward->listener, on_accept_error);
	if (place_is_port_0(source))
		return tcp_place_tell_port(forward->cli, "forward", source->text,
					   evconnlistener_get_fd(forward->listener));
	return 0;
}

static int start(struct forward *forward)
{
	struct rlimit descriptors;
	int r;

	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) { /* two for each connection */
		descriptors.rlim_cur = descriptors.rlim_max;
		setrlimit(RLIMIT_NOFILE, &descriptors);
	}
	if ((r = loop_init(&forward->loop)) < 0) {
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

static void end(struct forward *forward)
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
	const struct cli_option options[] = {{.name = "once", .flag = &forward.lasting.once}, {0}};
	const char *why;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind != 2)
		return cli_usage("forward", "forward takes SOURCE and TARGET");
	forward = (struct forward){.cli = cli,
				   .source.forward = &forward,
				   .target.forward = &forward,
				   .lasting = {.cli = cli,
					       .what = "forward from",
					       .subject = argv[optind],
					       .once = forward.lasting.once}};
	why = place_parse(&forward.source.place, argv[optind], true);
	if (why)
		return cli_usage("forward", "SOURCE '%s': %s", argv[optind], why);
	why = place_parse(&forward.target.place, argv[optind + 1], false);
	if (!why && place_is_port_0(&forward.target.place))
		why = "nothing listens on port 0";
	if (why)
		return cli_usage("forward", "TARGET '%s': %s", argv[optind + 1], why);
	forward.code = start(&forward);
	if (forward.code == 0 && cli_is_watched(cli))
		cli_note(cli, "forward: from %s to %s; Ctrl-C ends it", argv[optind], argv[optind + 1]);
	if (forward.code == 0)
		event_base_dispatch(forward.loop.base);
	end(&forward);
	/* What stopped it matters less than that somebody took a part for the whole. */
	if (forward.code == 0 && forward.has_truncated)
		return EXIT_LOST;
	interrupt_die_of(forward.loop.signal);
	return forward.code;
}
