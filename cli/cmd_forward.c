/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * forward: carries each connection to SOURCE to TARGET, any number of them at once. Reaching a target may
 * take a while (a name is looked up, a link is made), so threads dial, and hand the descriptors to the event loop
 * through a pipe. Most take no while, so a few threads dial all, one after the other; what has to wait for
 * them gets a thread of its own.
 *
 *   accepted ──a thread dials──▶ carried ──both ends have ended──▶ gone
 *               ├──over a limit──▶ held ──a connection has ended, or time──▶ dialled
 *               └──another error──▶ reset
 *
 * From when one is held until none is, nothing more is accepted.
 */

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>
#include <utlist.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/left_socket.h"
#include "cli/loop.h"
#include "cli/pump.h"
#include "cli/tcp_place.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg forward [OPTIONS] SOURCE TARGET\n"
	"\n"
	"Accepts connections at SOURCE and carries each to a connection of its own to TARGET, until it is stopped. Each is\n"
	"\n"
	"  unix:PATH       a Unix socket\n"
	"  tcp:HOST:PORT   a TCP socket; an IPv6 address stands in brackets. SOURCE with port 0: any, which is then told\n"
	"  xen:ADDRESS     a byte stream: as SOURCE an endpoint of this domain (xen:ENDPOINT), as TARGET DOMAIN:ENDPOINT\n"
	"\n"
	"for example: xenmsg forward tcp:127.0.0.1:5432 xen:db:postgres\n"
	"\n";

#define DIALS_MAX   64	 /* at once; further connections wait until one of them ends */
#define BACKLOG	    4096 /* a client that finds it full waits, or is refused if its Unix socket doesn't block */
#define THREADS_FEW 8	 /* each keeps a session with the daemon */
#define SLOW_MS	    10	 /* after so long a dial that waits for them gets another one */
#define NO_HOST	    (-4096) /* in place of an errno: the name isn't known */
#define HELD_MS	    100	    /* between attempts to dial what a limit holds up, unless a connection ends */

struct place {
	enum { PLACE_UNIX, PLACE_TCP, PLACE_XEN } kind;
	const char *text; /* as the user typed it */
	char *path;	  /* or the address */
	struct tcp_place tcp;
};

struct forward {
	struct cli *cli;
	struct loop loop;
	struct place source, target;
	struct xenmsg *conn; /* for a source xen: only */
	struct evconnlistener *listener;
	struct event *incoming, *dialled;
	int pipe[2];
	unsigned dials;
	struct {
		pthread_mutex_t lock;
		pthread_cond_t more;
		struct dial *waiting; /* for a thread */
		unsigned idle, ended;
		unsigned taken; /* dials that have waited, ever */
	} threads;
	unsigned started;    /* threads, ever */
	unsigned taken;	     /* as of the last `slow` */
	struct event *slow;  /* runs while some may wait */
	struct dial *held;   /* over a limit, in the order in which they came */
	struct event *again; /* dials the first of them, or accepts again */
	bool is_full;	     /* a limit holds up dials, until all are through */
	bool is_short;	     /* a limit holds up what is to be accepted, */
	bool rests;	     /* until `again` */
	int code;
};

struct dial {
	struct forward *forward;
	int source;
	int target; /* the target's descriptor, or a negative errno */
	struct dial *prev, *next;
};

/* ---- places ---------------------------------------------------------------------------------- */

static const char *parse_place(struct place *place, const char *text, bool is_source)
{
	struct address address;
	const char *why = NULL;

	place->text = text;
	if (strncmp(text, "tcp:", 4) == 0) {
		place->kind = PLACE_TCP;
		return tcp_place_parse(&place->tcp, text + 4);
	}
	if (strncmp(text, "unix:", 5) == 0) {
		place->kind = PLACE_UNIX;
		place->path = strdup(text + 5);
		if (strlen(text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return "the path of a Unix socket has at most 107 bytes";
		return text[5] ? NULL : "unix: takes a PATH";
	}
	if (strncmp(text, "xen:", 4) != 0)
		return "it must begin with unix:, tcp: or xen:";
	place->kind = PLACE_XEN;
	place->path = strdup(text + 4);
	if (is_source)
		return endpoint_name_is_valid(text + 4, strlen(text + 4))
			       ? NULL
			       : "as a source, xen: takes an endpoint of this domain";
	address_parse(text + 4, strlen(text + 4), &address, &why);
	return why;
}

static bool is_port_0(const struct place *place)
{
	return place->kind == PLACE_TCP && tcp_place_is_port_0(&place->tcp);
}

static void free_place(struct place *place)
{
	free(place->path);
	tcp_place_free(&place->tcp);
}

/* ---- dialling -------------------------------------------------------------------------------- */

/* Returns in words for people why the place can't be reached or listened on. */
static const char *why_not(const struct place *place, int error)
{
	if (error == NO_HOST)
		return "no such host or service is known";
	return place->kind == PLACE_XEN ? cli_cause(error) : strerror(-error);
}

static int dial_unix(const struct place *place)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return -errno;
	strncpy(address.sun_path, place->path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

static int look_up(const struct place *place, int flags, struct addrinfo **found)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};

	return getaddrinfo(place->tcp.host, place->tcp.port, &hints, found) == 0 ? 0 : NO_HOST;
}

static int dial_tcp(const struct place *place)
{
	struct addrinfo *found, *each;
	int r = look_up(place, 0, &found), fd;

	if (r < 0)
		return r;
	for (each = found; each; each = each->ai_next) {
		fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, each->ai_addr, each->ai_addrlen) == 0) {
			freeaddrinfo(found);
			return fd;
		}
		r = -errno;
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(found);
	return r;
}

/* Dials by the thread's session, which is opened if there is none. */
static int dial_xen(const struct forward *forward, struct xenmsg **conn)
{
	int r = -ENOTCONN;

	if (*conn)
		r = xenmsg_connect(*conn, forward->target.path, -1);
	/* The daemon may have gone, and another one come, since the session was opened. */
	if (r == -ENOTCONN || r == -ECONNREFUSED || r == -ENOENT) {
		xenmsg_close(*conn);
		*conn = NULL;
		r = xenmsg_open(conn, forward->cli->socket);
		if (r == 0)
			r = xenmsg_connect(*conn, forward->target.path, -1);
	}
	return r;
}

static void dial_target(struct dial *dial, struct xenmsg **conn)
{
	const struct forward *forward = dial->forward;

	switch (forward->target.kind) {
	case PLACE_UNIX:
		dial->target = dial_unix(&forward->target);
		break;
	case PLACE_TCP:
		dial->target = dial_tcp(&forward->target);
		break;
	default:
		dial->target = dial_xen(forward, conn);
	}
	/* A pointer is smaller than PIPE_BUF, so it is written as a whole. */
	if (write(forward->pipe[1], &dial, sizeof(dial)) != sizeof(dial))
		abort();
}

/* Waits for the next dial. Returns NULL if enough threads do so already. */
static struct dial *next_dial(struct forward *forward)
{
	struct dial *next;

	pthread_mutex_lock(&forward->threads.lock);
	while (!forward->threads.waiting && forward->threads.idle < THREADS_FEW) {
		forward->threads.idle++;
		pthread_cond_wait(&forward->threads.more, &forward->threads.lock);
		forward->threads.idle--;
	}
	next = forward->threads.waiting;
	if (next) {
		DL_DELETE(forward->threads.waiting, next);
		forward->threads.taken++;
	} else {
		forward->threads.ended++;
	}
	pthread_mutex_unlock(&forward->threads.lock);
	return next;
}

static void *run_thread(void *userdata)
{
	struct dial *dial = userdata;
	struct forward *forward = dial->forward;
	struct xenmsg *conn = NULL;

	do
		dial_target(dial, &conn);
	while ((dial = next_dial(forward)));
	xenmsg_close(conn);
	return NULL;
}

/* Makes a thread, which begins with this dial. Returns 0 or a negative errno. */
static int start_thread(struct dial *dial)
{
	struct forward *forward = dial->forward;
	pthread_t thread;
	int error = pthread_create(&thread, NULL, run_thread, dial);

	if (error)
		return -error;
	pthread_detach(thread);
	forward->started++;
	return 0;
}

static void watch_slow(struct forward *forward)
{
	const struct timeval pause = {.tv_usec = SLOW_MS * 1000};

	if (!evtimer_pending(forward->slow, NULL))
		evtimer_add(forward->slow, &pause);
}

/* Gives it to a thread that has nothing to do or may soon have nothing, or to a new one. Returns 0 or a negative
 * errno. */
static int give_to_thread(struct dial *dial)
{
	struct forward *forward = dial->forward;
	unsigned count;
	bool waits;

	pthread_mutex_lock(&forward->threads.lock);
	count = forward->started - forward->threads.ended;
	waits = count > forward->dials || count >= THREADS_FEW;
	if (waits)
		DL_APPEND(forward->threads.waiting, dial);
	pthread_mutex_unlock(&forward->threads.lock);
	if (!waits)
		return start_thread(dial);
	pthread_cond_signal(&forward->threads.more);
	watch_slow(forward);
	return 0;
}

/* Gives each dial that waits a thread of its own, if no thread has taken one since the last time. */
static void on_slow(evutil_socket_t fd, short what, void *userdata)
{
	struct forward *forward = userdata;
	struct dial *slow = NULL, *each, *next;
	bool any;

	pthread_mutex_lock(&forward->threads.lock);
	if (forward->threads.taken == forward->taken) {
		slow = forward->threads.waiting;
		forward->threads.waiting = NULL;
	}
	forward->taken = forward->threads.taken;
	any = forward->threads.waiting != NULL;
	pthread_mutex_unlock(&forward->threads.lock);
	DL_FOREACH_SAFE(slow, each, next) {
		if (start_thread(each) == 0)
			continue;
		pthread_mutex_lock(&forward->threads.lock);
		DL_APPEND(forward->threads.waiting, each);
		pthread_mutex_unlock(&forward->threads.lock);
		any = true;
	}
	if (any)
		watch_slow(forward);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Returns whether further connections are accepted: not if as many are dialled as may be, or a limit holds some
 * up. */
static bool may_accept(const struct forward *forward)
{
	return forward->dials < DIALS_MAX && !forward->held && !forward->is_full && !forward->rests;
}

static void set_source(struct forward *forward)
{
	bool open = may_accept(forward);

	if (forward->listener && open)
		evconnlistener_enable(forward->listener);
	else if (forward->listener)
		evconnlistener_disable(forward->listener);
	else if (open)
		event_add(forward->incoming, NULL);
	else
		event_del(forward->incoming);
	if (open && forward->incoming) /* what has come before fires nothing */
		event_active(forward->incoming, EV_READ, 0);
}

static void dial(struct forward *forward, struct dial *dial);

/* Dials the first connection that is held. */
static void go_on(struct forward *forward)
{
	struct dial *first = forward->held;

	forward->rests = false;
	if (first && forward->dials < DIALS_MAX) {
		DL_DELETE(forward->held, first);
		dial(forward, first);
	}
	set_source(forward);
}

static void on_again(evutil_socket_t fd, short what, void *userdata)
{
	go_on(userdata);
}

static void try_again_later(struct forward *forward)
{
	const struct timeval pause = {.tv_usec = HELD_MS * 1000};

	evtimer_add(forward->again, &pause);
	set_source(forward);
}

/* Holds a connection that a limit doesn't let through. */
static void hold(struct forward *forward, struct dial *dial, int error)
{
	cli_note_limit(forward->cli, &forward->is_full, "forward:", forward->target.text, error);
	DL_PREPEND(forward->held, dial);
	try_again_later(forward);
}

/* Stops accepting for a moment, since it would fail again and again. */
static void rest(struct forward *forward, int error)
{
	cli_note_limit(forward->cli, &forward->is_short, "forward:", forward->source.text, error);
	forward->rests = true;
	try_again_later(forward);
}

/* Closes a socket so that its other end sees a broken connection. TCP can tell that; a Unix socket can't. */
static void reset(int fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static struct pump_end end_of(const struct place *place, int fd)
{
	return (struct pump_end){fd, fd, place->kind == PLACE_XEN ? xenmsg_break : reset};
}

static void on_pump_done(void *userdata, struct pump *pump, int error, bool at_left)
{
	struct forward *forward = userdata;

	if (error)
		cli_note(forward->cli, "%s broke a connection: %s",
			 at_left ? forward->source.text : forward->target.text, strerror(error));
	pump_free(pump);
	if (forward->held || forward->rests)
		go_on(forward);
}

static void on_dialled(evutil_socket_t fd, short what, void *userdata)
{
	struct forward *forward = userdata;
	struct dial *dial;

	if (read(fd, &dial, sizeof(dial)) != sizeof(dial))
		return;
	forward->dials--;
	if (cli_is_limit(dial->target) || dial->target == -ENOMEM) {
		hold(forward, dial, dial->target);
		return;
	}
	if (!forward->held && !forward->dials)
		cli_note_limit(forward->cli, &forward->is_full, "forward:", forward->target.text, 0);
	if (dial->target < 0) {
		cli_complain("forward: %s can't be reached: %s", forward->target.text,
			     why_not(&forward->target, dial->target));
		end_of(&forward->source, dial->source).break_socket(dial->source);
	} else if (!pump_new(forward->loop.base, end_of(&forward->source, dial->source),
			     end_of(&forward->target, dial->target), on_pump_done, forward)) {
		cli_complain("forward: out of memory");
	}
	free(dial);
	go_on(forward);
}

static void dial(struct forward *forward, struct dial *dial)
{
	int r = give_to_thread(dial);

	if (r < 0) {
		hold(forward, dial, r);
		return;
	}
	forward->dials++;
}

static void take(struct forward *forward, int source)
{
	struct dial *new = calloc(1, sizeof(*new));

	cli_note_limit(forward->cli, &forward->is_short, "forward:", forward->source.text, 0);
	if (!new) {
		cli_complain("forward: out of memory");
		end_of(&forward->source, source).break_socket(source);
		return;
	}
	*new = (struct dial){.forward = forward, .source = source};
	if (forward->held) /* after those that came before */
		DL_APPEND(forward->held, new);
	else
		dial(forward, new);
	set_source(forward);
}

static void on_socket(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
		      void *userdata)
{
	take(userdata, fd);
}

static void on_accept_error(struct evconnlistener *listener, void *userdata)
{
	rest(userdata, -errno);
}

static void on_incoming(evutil_socket_t fd, short what, void *userdata)
{
	struct forward *forward = userdata;
	int r = xenmsg_process(forward->conn);

	while (r >= 0 && may_accept(forward)) {
		r = xenmsg_accept(forward->conn, NULL, 0);
		if (r >= 0)
			take(forward, r);
	}
	/* The library tries again after a while. */
	if (cli_is_limit(r) || (r == -EAGAIN && xenmsg_timeout(forward->conn) >= 0)) {
		rest(forward, cli_is_limit(r) ? r : -ENOBUFS);
		return;
	}
	if (r == -EAGAIN || r >= 0 || r == -EINTR)
		return;
	forward->code = cli_error(forward->conn, "forward from", forward->source.text, r);
	event_base_loopbreak(forward->loop.base);
}

/* ---- starting -------------------------------------------------------------------------------- */

static int listen_xen(struct forward *forward)
{
	int code = cli_open(forward->cli, &forward->conn), r;

	if (code)
		return code;
	r = xenmsg_listen(forward->conn, forward->source.path, XENMSG_LISTEN_HOSTS);
	if (r < 0)
		return cli_error(forward->conn, "forward from", forward->source.text, r);
	forward->incoming = loop_event(forward->loop.base, xenmsg_fd(forward->conn), EV_READ | EV_PERSIST,
				       on_incoming, forward);
	return forward->incoming ? 0 : EXIT_OTHER;
}

static int listen_socket(struct forward *forward)
{
	const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
	const struct place *source = &forward->source;
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	struct addrinfo *found = NULL;
	int error = 0;

	if (source->kind == PLACE_TCP) {
		error = look_up(source, AI_PASSIVE, &found);
		if (error == 0)
			forward->listener =
				evconnlistener_new_bind(forward->loop.base, on_socket, forward, flags,
							BACKLOG, found->ai_addr, (int)found->ai_addrlen);
	} else {
		strncpy(path.sun_path, source->path, sizeof(path.sun_path) - 1);
		left_socket_remove(&path);
		forward->listener = evconnlistener_new_bind(forward->loop.base, on_socket, forward, flags,
							    BACKLOG, (struct sockaddr *)&path, sizeof(path));
	}
	if (!forward->listener && error == 0)
		error = -errno;
	if (found)
		freeaddrinfo(found);
	if (!forward->listener) {
		cli_complain("forward: can't listen on %s: %s", source->text, why_not(source, error));
		return EXIT_OTHER;
	}
	evconnlistener_set_error_cb(forward->listener, on_accept_error);
	if (is_port_0(source))
		tcp_place_tell_port(forward->cli, "forward", source->text,
				    evconnlistener_get_fd(forward->listener));
	return 0;
}

static int start(struct forward *forward)
{
	struct rlimit descriptors;

	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) { /* two for each connection */
		descriptors.rlim_cur = descriptors.rlim_max;
		setrlimit(RLIMIT_NOFILE, &descriptors);
	}
	if (loop_init(&forward->loop) < 0 || pipe(forward->pipe) < 0)
		return EXIT_OTHER;
	forward->again = evtimer_new(forward->loop.base, on_again, forward);
	forward->slow = evtimer_new(forward->loop.base, on_slow, forward);
	forward->dialled =
		loop_event(forward->loop.base, forward->pipe[0], EV_READ | EV_PERSIST, on_dialled, forward);
	if (!forward->again || !forward->slow || !forward->dialled)
		return EXIT_OTHER;
	return forward->source.kind == PLACE_XEN ? listen_xen(forward) : listen_socket(forward);
}

static void end(struct forward *forward)
{
	if (forward->listener)
		evconnlistener_free(forward->listener);
	if (forward->listener && forward->source.kind == PLACE_UNIX)
		unlink(forward->source.path);
	loop_event_free(forward->incoming);
	xenmsg_close(forward->conn);
	free_place(&forward->source);
	free_place(&forward->target);
	/* Threads may still be dialling: the memory that they use ends with the process. */
}

int cmd_forward(struct cli *cli, int argc, char **argv)
{
	static struct forward forward; /* static, as threads may use it after this function has returned */
	const char *why;
	int code;

	if (!cli_options(cli, argc, argv, help, NULL, &code))
		return code;
	if (argc - optind != 2)
		return cli_usage("forward", "it takes SOURCE and TARGET");
	forward = (struct forward){.cli = cli, .pipe = {-1, -1}};
	pthread_mutex_init(&forward.threads.lock, NULL);
	pthread_cond_init(&forward.threads.more, NULL);
	why = parse_place(&forward.source, argv[optind], true);
	if (why)
		return cli_usage("forward", "SOURCE '%s': %s", argv[optind], why);
	why = parse_place(&forward.target, argv[optind + 1], false);
	if (!why && is_port_0(&forward.target))
		why = "nothing listens on port 0";
	if (why)
		return cli_usage("forward", "TARGET '%s': %s", argv[optind + 1], why);
	forward.code = start(&forward);
	if (forward.code == 0)
		event_base_dispatch(forward.loop.base);
	code = forward.code;
	end(&forward);
	interrupt_die_of(forward.loop.signal);
	return code;
}
