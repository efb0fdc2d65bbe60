/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * exporter: answers GET /metrics with the daemon's status as Prometheus text. It asks the daemon anew, as the
 * user that runs it: what that user may not see isn't there. A process of its own asks, one at a time, and
 * may wait; the loop answers all that have waited, and meanwhile everybody else.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "cli/cli.h"
#include "cli/more/more.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/metrics.h"
#include "cli/place.h"
#include "wire/libc.h"
#include "wire/ut.h"

static const char help[] =
	"Usage: xenmsg exporter [OPTIONS] --listen unix:PATH|tcp:ADDRESS:PORT\n"
	"\n"
	"Serves the local daemon's status to Prometheus at /metrics, until it is stopped\n"
	"(doc/metrics.md lists what).\n"
	"\n"
	"      --listen WHERE  a Unix socket, for its owner and group; or a TCP socket of\n"
	"                      this machine alone, like tcp:127.0.0.1:9470 or\n"
	"                      tcp:[::1]:9470 (port 0: any, which is then told on\n"
	"                      standard output, as tcp:ADDRESS:PORT)\n"
	"      --public        TCP sockets of other addresses, too, as tcp:10.0.0.1:9470\n"
	"                      or tcp:0.0.0.0:9470: everybody who can connect there, or\n"
	"                      listen on the way, reads all (doc/metrics.md has TLS and\n"
	"                      passwords)\n"
	"      --host          in domain 0, for its administrators: the daemons of all\n"
	"                      domains, each with its name as the label domain, as far\n"
	"                      as its host-sight lets domain 0 see\n"
	"\n"
	"Examples:\n"
	"  xenmsg exporter --listen tcp:127.0.0.1:9470\n"
	"  xenmsg exporter --listen unix:/run/xenmsg-exporter.sock\n"
	"  xenmsg exporter --host --listen tcp:127.0.0.1:9471\n";

#define DAEMON_MS      5000 /* how long the daemon may take to accept us */
#define STATUS_MS      2000 /* how long each domain's daemon may take, for all of which one scrape waits */
#define SHARED_MS      1000 /* so long others get what one has got, and don't wait again for who is silent */
#define ASK_S	       30   /* how long the process that asks may live */
#define REQUEST_S      10   /* how long a client may say nothing of its request, or read nothing */
#define LOOKS_MAX      5    /* how long a connection may last, in REQUEST_S, whatever it is used for */
#define HEADERS_MAX    8192
#define BODY_MAX       1024
#define PAUSE_S	       1 /* after which it is tried again to accept a client */
#define CONTENT_TYPE   "text/plain; version=0.0.4; charset=utf-8"
#define HTTP_FORBIDDEN 403
#define METHODS	       (EVHTTP_REQ_GET | EVHTTP_REQ_HEAD)
#define OTHER_METHODS                                                                                        \
	(EVHTTP_REQ_POST | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH)

/* A connection, which evhttp has as well: its time-outs count from the last byte. */
struct client {
	struct exporter *exporter;
	struct bufferevent *stream; /* a reference, which keeps its descriptor */
	struct event *look;
	unsigned looks;
	struct client *prev, *next;
};

/* A request that waits for the process that asks. */
struct waiting {
	struct evhttp_request *request;
	bool is_late; /* the process ran before it came */
	struct waiting *prev, *next;
};

struct exporter {
	struct cli *cli;
	struct place place;
	struct loop loop;
	struct evhttp *http;
	struct client *clients;
	struct waiting *waiting;
	bool listens;
	bool is_host;	/* the daemons of all domains */
	bool is_public; /* other machines may ask */
	/* the process that asks: its number, its output, and what has come of it; NULL: there is none */
	pid_t asker;
	struct event *output;
	struct evbuffer *incoming;
	/* what was answered last, until then */
	struct evbuffer *text;
	int64_t shared_until;
};

/* ---- where to listen ------------------------------------------------------------------------- */

/* What an address of a host is: none but a name, one of this machine alone, or any other. */
enum host_kind { HOST_NAMED, HOST_HERE, HOST_ELSEWHERE };

static enum host_kind kind_of_host(const char *host)
{
	struct in6_addr ip6;
	struct in_addr ip;
	bool is_here;

	if (inet_pton(AF_INET, host, &ip) == 1)
		is_here = ntohl(ip.s_addr) >> 24 == IN_LOOPBACKNET;
	else if (inet_pton(AF_INET6, host, &ip6) == 1)
		is_here = IN6_IS_ADDR_LOOPBACK(&ip6);
	else
		return HOST_NAMED;
	return is_here ? HOST_HERE : HOST_ELSEWHERE;
}

/* Returns NULL, or what is wrong with where it is to listen. */
static const char *parse_where(struct exporter *exporter, const char *text)
{
	struct place *place = &exporter->place;
	const char *why;

	if (strncmp(text, "unix:", 5) != 0 && strncmp(text, "tcp:", 4) != 0)
		return "ADDRESS must begin with unix: or tcp:";
	why = place_parse(place, text, true);
	if (why || place->kind == PLACE_UNIX)
		return why;
	if (strspn(place->port, "0123456789") != strlen(place->port))
		return "a port is a number";
	switch (kind_of_host(place->host)) {
	case HOST_NAMED:
		return "an address is a number like 127.0.0.1 or [::1]";
	case HOST_ELSEWHERE: /* it knows no passwords and no TLS */
		return exporter->is_public
			       ? NULL
			       : "without --public only this machine's own addresses, 127.0.0.1 or [::1], can be listened on";
	default:
		return NULL;
	}
}

static void exporter_on_again(evutil_socket_t fd, short what, void *listener)
{
	evconnlistener_enable(listener);
}

/* Accepts nobody for a moment: without descriptors left it would fail again and again, as clients wait. Those
 * that are there and say nothing go after REQUEST_S. */
static void exporter_on_accept_error(struct evconnlistener *listener, void *http)
{
	const struct timeval pause = {.tv_sec = PAUSE_S};

	cli_complain("exporter: can't accept a client: %s; it is tried again in a second", strerror(errno));
	if (event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, exporter_on_again, listener,
			    &pause) == 0)
		evconnlistener_disable(listener);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void client_free(struct client *client)
{
	DL_DELETE(client->exporter->clients, client);
	event_free(client->look);
	bufferevent_decref(client->stream);
	free(client);
}

/* Whether evhttp has let go of the connection. */
static bool is_over(const struct client *client)
{
	bufferevent_event_cb on_event;

	bufferevent_getcb(client->stream, NULL, NULL, &on_event, NULL);
	return !on_event;
}

/* Where it has lasted too long, whatever evhttp still does there fails. The process that asks may hold the
 * socket, too. */
static void on_look(evutil_socket_t fd, short what, void *userdata)
{
	struct client *client = userdata;

	if (++client->looks == LOOKS_MAX)
		shutdown(bufferevent_getfd(client->stream), SHUT_RDWR);
	if (client->looks == LOOKS_MAX || is_over(client))
		client_free(client);
}

/* Returns what evhttp makes its next connection of. Without memory nobody looks at that one. */
static struct bufferevent *on_connection(struct event_base *base, void *userdata)
{
	static const struct timeval time = {.tv_sec = REQUEST_S};
	struct bufferevent *stream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct exporter *exporter = userdata;
	struct client *client = stream ? calloc(1, sizeof(*client)) : NULL;

	if (client)
		client->look = event_new(base, -1, EV_PERSIST, on_look, client);
	if (!client || !client->look || event_add(client->look, &time) < 0) {
		if (client && client->look)
			event_free(client->look);
		free(client);
		return stream;
	}
	client->exporter = exporter;
	client->stream = stream;
	bufferevent_incref(stream);
	DL_APPEND(exporter->clients, client);
	return stream;
}

/* Lets go of the descriptor with the connection. */
static void on_closed(struct evhttp_connection *connection, void *userdata)
{
	const struct bufferevent *stream = evhttp_connection_get_bufferevent(connection);
	struct exporter *exporter = userdata;
	struct client *client;

	DL_SEARCH_SCALAR(exporter->clients, client, stream, stream);
	if (client)
		client_free(client);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Answers with one of both; evhttp drains the buffer that it gets. */
static void reply(struct evhttp_request *request, int code, const char *reason, const char *type,
		  struct evbuffer *kept, const char *text)
{
	struct evbuffer *body = evbuffer_new();

	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", type);
	if (body && kept)
		evbuffer_add_buffer_reference(body, kept);
	else if (body)
		evbuffer_add(body, text, strlen(text));
	evhttp_send_reply(request, code, reason, body);
	if (body)
		evbuffer_free(body);
}

static void exporter_answer(struct exporter *exporter, struct evhttp_request *request)
{
	reply(request, HTTP_OK, "OK", CONTENT_TYPE, exporter->text, NULL);
}

static void exporter_refuse(struct evhttp_request *request, int code, const char *reason, const char *text)
{
	reply(request, code, reason, "text/plain", NULL, text);
}

static bool is_our_name(const char *name)
{
	char own[256] = "";

	return strcasecmp(name, "localhost") == 0 ||
	       (gethostname(own, sizeof(own) - 1) == 0 && strcasecmp(name, own) == 0);
}

/* Whether the client has asked for this machine. A page in a browser that has its own name lead to us asks
 * for that name, which is no number and not ours; a client that names no host is no browser. */
static bool host_is_here(const struct exporter *exporter, struct evhttp_request *request)
{
	const char *host = evhttp_find_header(evhttp_request_get_input_headers(request), "Host");
	char name[256];
	size_t size;

	if (!host)
		return true;
	if (*host == '[') {
		size = strcspn(++host, "]");
	} else {
		size = strcspn(host, ":");
	}
	snprintf(name, sizeof(name), "%.*s", (int)(size < sizeof(name) ? size : sizeof(name) - 1), host);
	if (kind_of_host(name) != HOST_NAMED)
		return exporter->is_public || kind_of_host(name) == HOST_HERE;
	return exporter->is_public ? is_our_name(name) : strcasecmp(name, "localhost") == 0;
}

/* ---- asking the daemon ----------------------------------------------------------------------- */

/* Writes those of each domain. One whose name isn't known has its number. */
static void write_host(struct json_object *all, FILE *out)
{
	size_t count = length_of(all);
	struct metrics_source *sources = calloc(count + 1, sizeof(*sources));

	for (size_t i = 0; sources && i < count; i++) {
		struct json_object *entry = json_object_array_get_idx(all, i);

		sources[i].domid = text_or(entry, "domid", "");
		sources[i].domain = text_or(entry, "name", sources[i].domid);
		sources[i].status = at(entry, "status");
	}
	if (sources)
		metrics_write_host(sources, count, out);
	free(sources);
}

static void write_metrics(struct exporter *exporter, FILE *out)
{
	struct json_object *answer = NULL; /* if there is none */

	if (exporter->is_host)
		host_statuses(exporter->cli, STATUS_MS, &answer);
	else
		cli_ask(exporter->cli, "status all", "", DAEMON_MS, &answer);
	if (answer && exporter->is_host)
		write_host(answer, out);
	else
		metrics_write(answer, out);
	json_object_put(answer);
}

/* In the process that asks: writes its size before the text, so that one that was cut is none. */
static void __attribute__((noreturn)) ask_and_write(struct exporter *exporter, int out, pid_t parent)
{
	char *text = NULL;
	uint64_t size = 0;
	size_t length;
	FILE *memory, *pipe;
	sigset_t none;

	sigemptyset(&none);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(ASK_S);
	if (getppid() != parent || dup2(out, STDERR_FILENO + 1) < 0)
		_exit(EXIT_OTHER);
	closefrom(STDERR_FILENO + 2);
	memory = open_memstream(&text, &length);
	pipe = fdopen(STDERR_FILENO + 1, "w");
	if (!memory || !pipe)
		_exit(EXIT_OTHER);
	write_metrics(exporter, memory);
	if (fclose(memory) != 0)
		_exit(EXIT_OTHER);
	size = length;
	fwrite(&size, sizeof(size), 1, pipe);
	fwrite(text, 1, length, pipe);
	_exit(fflush(pipe) == 0 ? 0 : EXIT_OTHER);
}

static void begin_to_ask(struct exporter *exporter);

/* Answers those that came before it was asked. The others are the next. */
static void answer_all(struct exporter *exporter)
{
	struct waiting *waiting, *next;

	DL_FOREACH_SAFE(exporter->waiting, waiting, next) {
		if (waiting->is_late && !exporter->is_host) {
			waiting->is_late = false;
			continue;
		}
		DL_DELETE(exporter->waiting, waiting);
		if (exporter->text)
			exporter_answer(exporter, waiting->request);
		else
			exporter_refuse(waiting->request, HTTP_SERVUNAVAIL, "Service Unavailable",
					"Out of memory.\n");
		free(waiting);
	}
	if (exporter->waiting)
		begin_to_ask(exporter);
}

static void end_asking(struct exporter *exporter)
{
	if (!exporter->output)
		return;
	close(event_get_fd(exporter->output));
	event_free(exporter->output);
	exporter->output = NULL;
	evbuffer_free(exporter->incoming);
	exporter->incoming = NULL;
}

static void exporter_drop_text(struct exporter *exporter)
{
	if (exporter->text)
		evbuffer_free(exporter->text);
	exporter->text = NULL;
}

static void on_output(evutil_socket_t fd, short what, void *userdata)
{
	struct exporter *exporter = userdata;
	uint64_t size = 0;
	int r = evbuffer_read(exporter->incoming, fd, -1);

	if (r > 0 || (r < 0 && errno == EAGAIN))
		return;
	exporter_drop_text(exporter);
	if (evbuffer_remove(exporter->incoming, &size, sizeof(size)) == sizeof(size) &&
	    evbuffer_get_length(exporter->incoming) == size) {
		exporter->text = exporter->incoming;
		exporter->incoming = evbuffer_new();
		exporter->shared_until = deadline_in(SHARED_MS);
	}
	end_asking(exporter);
	answer_all(exporter);
}

/* Has a process ask: a daemon that is silent holds up nobody but those that wait for it. */
static void begin_to_ask(struct exporter *exporter)
{
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0) {
		exporter_drop_text(exporter);
		answer_all(exporter);
		return;
	}
	exporter->asker = fork();
	if (exporter->asker == 0)
		ask_and_write(exporter, ends[1], parent);
	close(ends[1]);
	evutil_make_socket_nonblocking(ends[0]);
	exporter->incoming = evbuffer_new();
	exporter->output = event_new(exporter->loop.base, ends[0], EV_READ | EV_PERSIST, on_output, exporter);
	if (!exporter->incoming || !exporter->output)
		cli_no_memory();
	event_add(exporter->output, NULL); /* its end, if it couldn't be started */
}

/* ---- requests -------------------------------------------------------------------------------- */

static void wait_for_answer(struct exporter *exporter, struct evhttp_request *request)
{
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting) {
		exporter_refuse(request, HTTP_SERVUNAVAIL, "Service Unavailable", "Out of memory.\n");
		return;
	}
	waiting->request = request;
	waiting->is_late = exporter->output;
	DL_APPEND(exporter->waiting, waiting);
	if (!exporter->output)
		begin_to_ask(exporter);
}

static void on_request(struct evhttp_request *request, void *userdata)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	struct exporter *exporter = userdata;

	evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_closed, exporter);
	if (exporter->place.kind == PLACE_TCP && !host_is_here(exporter, request)) {
		exporter_refuse(request, HTTP_FORBIDDEN, "Forbidden",
				exporter->is_public
					? "Ask for an address in numbers, or for this machine's name.\n"
					: "Ask for 127.0.0.1, [::1] or localhost.\n");
	} else if (!path || strcmp(path, "/metrics") != 0) {
		exporter_refuse(request, HTTP_NOTFOUND, "Not Found", "There is only /metrics.\n");
	} else if (!(evhttp_request_get_command(request) & METHODS)) {
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", "GET, HEAD");
		exporter_refuse(request, HTTP_BADMETHOD, "Method Not Allowed",
				"Metrics can only be read, by GET.\n");
	} else if (exporter->text && exporter->is_host && interrupt_left(exporter->shared_until) > 0) {
		exporter_answer(exporter, request);
	} else {
		wait_for_answer(exporter, request);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

static int exporter_start(struct exporter *exporter)
{
	struct evhttp_bound_socket *socket;
	int r = loop_init(&exporter->loop, NULL), fd, code;

	if (r == 0)
		exporter->http = evhttp_new(exporter->loop.base);
	if (!exporter->http) {
		cli_complain("exporter: %s%s", strerror(r < 0 ? -r : ENOMEM), cli_limit_of(-r));
		return EXIT_OTHER;
	}
	evhttp_set_allowed_methods(exporter->http, METHODS | OTHER_METHODS);
	evhttp_set_max_headers_size(exporter->http, HEADERS_MAX);
	evhttp_set_max_body_size(exporter->http, BODY_MAX);
	evhttp_set_timeout(exporter->http, REQUEST_S);
	evhttp_set_bevcb(exporter->http, on_connection, exporter);
	evhttp_set_gencb(exporter->http, on_request, exporter);
	code = place_listen(exporter->cli, "exporter", &exporter->place, 0117, &fd);
	exporter->listens = fd >= 0;
	if (code)
		return code;
	signal(SIGCHLD, SIG_IGN); /* nobody asks how the process that asks has ended */
	socket = evhttp_accept_socket_with_handle(exporter->http, fd);
	if (!socket)
		return EXIT_OTHER;
	evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(socket), exporter_on_accept_error);
	return 0;
}

static void exporter_end(struct exporter *exporter)
{
	struct waiting *waiting, *next;

	DL_FOREACH_SAFE(exporter->waiting, waiting, next) {
		exporter_refuse(waiting->request, HTTP_SERVUNAVAIL, "Service Unavailable",
				"The exporter stops.\n");
		free(waiting);
	}
	if (exporter->http)
		evhttp_free(exporter->http); /* closes the socket */
	while (exporter->clients)
		client_free(exporter->clients);
	end_asking(exporter);
	exporter_drop_text(exporter);
	loop_cleanup(&exporter->loop);
	if (exporter->listens && exporter->place.kind == PLACE_UNIX)
		unlink(exporter->place.path);
	place_free(&exporter->place);
}

int cmd_exporter(struct cli *cli, int argc, char **argv)
{
	struct exporter exporter = {.cli = cli};
	const char *where = NULL, *why;
	const struct cli_option options[] = {{"listen", .text = &where},
					     {"host", .flag = &exporter.is_host},
					     {"public", .flag = &exporter.is_public},
					     {0}};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc)
		return cli_usage("exporter", "exporter takes no arguments");
	if (!where)
		return cli_usage("exporter",
				 "exporter needs --listen unix:PATH or --listen tcp:127.0.0.1:PORT");
	why = parse_where(&exporter, where);
	if (why) {
		place_free(&exporter.place);
		return cli_usage("exporter", "--listen '%s': %s", where, why);
	}
	code = exporter_start(&exporter);
	if (code == 0)
		event_base_dispatch(exporter.loop.base);
	exporter_end(&exporter);
	interrupt_die_of(exporter.loop.signal);
	return code;
}
