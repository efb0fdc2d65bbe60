/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * exporter: answers GET /metrics with the daemon's status as Prometheus text. It asks the daemon anew for
 * each request, one after the other, as the user that runs it: what that user may not see isn't there.
 */

#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "cli/cli.h"
#include "cli/more/more.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/metrics.h"
#include "cli/place.h"

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
#define REQUEST_S      10   /* how long a client may take to send its request, and to read the answer */
#define HEADERS_MAX    8192
#define BODY_MAX       1024
#define PAUSE_S	       1 /* after which it is tried again to accept a client */
#define CONTENT_TYPE   "text/plain; version=0.0.4; charset=utf-8"
#define HTTP_FORBIDDEN 403
#define METHODS	       (EVHTTP_REQ_GET | EVHTTP_REQ_HEAD)
#define OTHER_METHODS                                                                                        \
	(EVHTTP_REQ_POST | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH)

struct exporter {
	struct cli *cli;
	struct place place;
	struct loop loop;
	struct evhttp *http;
	bool listens;
	bool is_host;	/* the daemons of all domains */
	bool is_public; /* other machines may ask */
	/* what was answered last, until then */
	char *text;
	size_t size;
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

/* ---- requests -------------------------------------------------------------------------------- */

static void reply(struct evhttp_request *request, int code, const char *reason, const char *text, size_t size)
{
	struct evbuffer *body = evbuffer_new();

	if (body)
		evbuffer_add(body, text, size);
	evhttp_send_reply(request, code, reason, body);
	if (body)
		evbuffer_free(body);
}

static void exporter_refuse(struct evhttp_request *request, int code, const char *reason, const char *text)
{
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "text/plain");
	reply(request, code, reason, text, strlen(text));
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

/* Makes what is answered, or leaves what was made a moment ago. Returns false without memory. */
static bool make_text(struct exporter *exporter)
{
	FILE *out;

	if (exporter->text && exporter->is_host && interrupt_left(exporter->shared_until) > 0)
		return true;
	free(exporter->text);
	exporter->text = NULL;
	out = open_memstream(&exporter->text, &exporter->size);
	if (!out)
		return false;
	write_metrics(exporter, out);
	exporter->shared_until = deadline_in(SHARED_MS);
	return fclose(out) == 0;
}

static void on_request(struct evhttp_request *request, void *userdata)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	struct exporter *exporter = userdata;

	if (exporter->place.kind == PLACE_TCP && !host_is_here(exporter, request)) {
		exporter_refuse(request, HTTP_FORBIDDEN, "Forbidden",
				exporter->is_public
					? "Ask for an address in numbers, or for this machine's name.\n"
					: "Ask for 127.0.0.1, [::1] or localhost.\n");
		return;
	}
	if (!path || strcmp(path, "/metrics") != 0) {
		exporter_refuse(request, HTTP_NOTFOUND, "Not Found", "There is only /metrics.\n");
		return;
	}
	if (!(evhttp_request_get_command(request) & METHODS)) {
		evhttp_add_header(headers, "Allow", "GET, HEAD");
		exporter_refuse(request, HTTP_BADMETHOD, "Method Not Allowed",
				"Metrics can only be read, by GET.\n");
		return;
	}
	if (!make_text(exporter)) {
		exporter_refuse(request, HTTP_SERVUNAVAIL, "Service Unavailable", "Out of memory.\n");
		return;
	}
	evhttp_add_header(headers, "Content-Type", CONTENT_TYPE);
	reply(request, HTTP_OK, "OK", exporter->text, exporter->size);
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
	evhttp_set_gencb(exporter->http, on_request, exporter);
	code = place_listen(exporter->cli, "exporter", &exporter->place, 0117, &fd);
	exporter->listens = fd >= 0;
	if (code)
		return code;
	socket = evhttp_accept_socket_with_handle(exporter->http, fd);
	if (!socket)
		return EXIT_OTHER;
	evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(socket), exporter_on_accept_error);
	return 0;
}

static void exporter_end(struct exporter *exporter)
{
	if (exporter->http)
		evhttp_free(exporter->http); /* closes the socket */
	loop_cleanup(&exporter->loop);
	free(exporter->text);
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
