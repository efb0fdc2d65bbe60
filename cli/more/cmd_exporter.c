/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * exporter: answers GET /metrics with the daemon's status as Prometheus text. It asks the daemon anew, as the
 * user that runs it: what that user may not see isn't there. A process of its own asks, one at a time, and
 * may wait; the loop answers all that have waited, and meanwhile everybody else.
 *
 *   asks ──its request is there──▶ waits ──the process has ended──▶ answered ──it has hung up──▶ gone
 *     └──it can't be answered, or REQUEST_S are over──▶ answered      └──REQUEST_S are over──▶ gone
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

#define DAEMON_MS    5000 /* how long the daemon may take to accept us */
#define STATUS_MS    2000 /* how long each domain's daemon may take, for all of which one scrape waits */
#define SHARED_MS    1000 /* so long others get what one has got, and don't wait again for who is silent */
#define ASK_S	     30	  /* how long the process that asks may live */
#define REQUEST_S    10	  /* how long a client may take to send its request, and to read the answer */
#define HEADERS_MAX  8192
#define BODY_MAX     1024
#define PAUSE_S	     1 /* after which it is tried again to accept a client */
#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum client_state { CLIENT_ASKS, CLIENT_WAITS, CLIENT_ANSWERED };

struct client {
	struct exporter *exporter;
	enum client_state state;
	struct bufferevent *stream;
	struct event *deadline; /* of the whole request, and of the whole answer */
	bool is_head;		/* it wants no body */
	bool is_late;		/* the process that asks ran before it came */
	struct client *prev, *next;
};

struct exporter {
	struct cli *cli;
	struct place place;
	struct loop loop;
	struct evconnlistener *listener;
	struct event *again; /* clients are accepted again */
	struct client *clients;
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

static void exporter_on_again(evutil_socket_t fd, short what, void *userdata)
{
	struct exporter *exporter = userdata;

	evconnlistener_enable(exporter->listener);
}

/* Accepts nobody for a moment: without descriptors left it would fail again and again, as clients wait. Those
 * that are there and say nothing go after REQUEST_S. */
static void exporter_on_accept_error(struct evconnlistener *listener, void *userdata)
{
	const struct timeval pause = {.tv_sec = PAUSE_S};
	struct exporter *exporter = userdata;

	cli_complain("exporter: can't accept a client: %s; it is tried again in a second", strerror(errno));
	if (event_add(exporter->again, &pause) == 0)
		evconnlistener_disable(listener);
}

/* ---- clients --------------------------------------------------------------------------------- */

/* The process that asks may hold its socket, too. */
static void client_free(struct client *client)
{
	DL_DELETE(client->exporter->clients, client);
	shutdown(bufferevent_getfd(client->stream), SHUT_RDWR);
	bufferevent_free(client->stream);
	event_free(client->deadline);
	free(client);
}

static void on_deadline(evutil_socket_t fd, short what, void *userdata)
{
	client_free(userdata);
}

static void give_time(struct client *client)
{
	const struct timeval time = {.tv_sec = REQUEST_S};

	event_add(client->deadline, &time);
}

/* Answers with this body, and takes no more. The rest of the request is read, or the client might lose the
 * answer. */
static void answer(struct client *client, const char *status, const char *header, struct evbuffer *body)
{
	struct evbuffer *out = bufferevent_get_output(client->stream);

	client->state = CLIENT_ANSWERED;
	evbuffer_add_printf(out, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\nConnection: close\r\n\r\n", status,
			    header, evbuffer_get_length(body));
	if (!client->is_head)
		evbuffer_add_buffer_reference(out, body);
	give_time(client);
}

static void exporter_refuse(struct client *client, const char *status, const char *header, const char *text)
{
	struct evbuffer *body = evbuffer_new();
	char headers[128];

	if (!body) {
		client_free(client);
		return;
	}
	evbuffer_add(body, text, strlen(text));
	snprintf(headers, sizeof(headers), "Content-Type: text/plain\r\n%s", header);
	answer(client, status, headers, body);
	evbuffer_free(body);
}

static void on_written(struct bufferevent *stream, void *userdata)
{
	struct client *client = userdata;

	if (client->state == CLIENT_ANSWERED && bufferevent_get_enabled(stream) & EV_READ)
		shutdown(bufferevent_getfd(stream), SHUT_WR);
	else if (client->state == CLIENT_ANSWERED)
		client_free(client);
}

static bool is_our_name(const char *name)
{
	char own[256] = "";

	return strcasecmp(name, "localhost") == 0 ||
	       (gethostname(own, sizeof(own) - 1) == 0 && strcasecmp(name, own) == 0);
}

/* Whether the client has asked for this machine. A page in a browser that has its own name lead to us asks
 * for that name, which is no number and not ours; a client that names no host is no browser. */
static bool host_is_here(const struct exporter *exporter, const char *host)
{
	char name[256];
	size_t size;

	if (!host)
		return true;
	if (*host == '[') {
		size = strcspn(++host, "]\r\n");
	} else {
		size = strcspn(host, ":\r\n");
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
	struct client *client, *next;
	bool is_asked = false;

	DL_FOREACH_SAFE(exporter->clients, client, next) {
		if (client->state != CLIENT_WAITS)
			continue;
		if (client->is_late && !exporter->is_host)
			is_asked = true;
		else if (exporter->text)
			answer(client, "200 OK", "Content-Type: " CONTENT_TYPE "\r\n", exporter->text);
		else
			exporter_refuse(client, "503 Service Unavailable", "", "Out of memory.\n");
		client->is_late = false;
	}
	if (is_asked)
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

/* Returns where the value of a header begins, NULL: there is none. It ends with its line. */
static const char *header_of(const char *head, const char *name)
{
	size_t size = strlen(name);

	for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n')) {
		if (strncasecmp(++line, name, size) != 0 || line[size] != ':')
			continue;
		line += size + 1;
		return line + strspn(line, " \t");
	}
	return NULL;
}

/* Takes a request, whose head this is. */
static void take_request(struct client *client, char *head)
{
	struct exporter *exporter = client->exporter;
	size_t line = strcspn(head, "\r\n"), method = strcspn(head, " ");
	char *path = head + method + 1,
	     *version = method < line ? memchr(path, ' ', line - method - 1) : NULL;
	const char *length = header_of(head, "Content-Length"), *host = header_of(head, "Host");
	bool is_get = !strncmp(head, "GET ", 4);

	client->is_head = !strncmp(head, "HEAD ", 5);
	if (!version || strncmp(version, " HTTP/1.", 8) != 0) {
		exporter_refuse(client, "400 Bad Request", "", "That is no request of HTTP.\n");
		return;
	}
	path[strcspn(path, " ?")] = '\0';
	if (exporter->place.kind == PLACE_TCP && !host_is_here(exporter, host))
		exporter_refuse(client, "403 Forbidden", "",
				exporter->is_public
					? "Ask for an address in numbers, or for this machine's name.\n"
					: "Ask for 127.0.0.1, [::1] or localhost.\n");
	else if (length && strtoull(length, NULL, 10) > BODY_MAX)
		exporter_refuse(client, "413 Content Too Large", "", "There is nothing to be sent.\n");
	else if (strcmp(path, "/metrics") != 0)
		exporter_refuse(client, "404 Not Found", "", "There is only /metrics.\n");
	else if (!is_get && !client->is_head)
		exporter_refuse(client, "405 Method Not Allowed", "Allow: GET, HEAD\r\n",
				"Metrics can only be read, by GET.\n");
	else if (exporter->text && exporter->is_host && interrupt_left(exporter->shared_until) > 0)
		answer(client, "200 OK", "Content-Type: " CONTENT_TYPE "\r\n", exporter->text);
	else {
		client->state = CLIENT_WAITS;
		client->is_late = exporter->output;
		event_del(client->deadline);
		if (!exporter->output)
			begin_to_ask(exporter);
	}
}

static void on_read(struct bufferevent *stream, void *userdata)
{
	struct evbuffer *in = bufferevent_get_input(stream);
	struct client *client = userdata;
	struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
	char head[HEADERS_MAX + 1];
	size_t size = end.pos < 0 ? evbuffer_get_length(in) : (size_t)end.pos;
	ev_ssize_t line;

	if (client->state == CLIENT_ASKS && end.pos < 0 && size <= HEADERS_MAX)
		return;
	if (client->state == CLIENT_ASKS && size > HEADERS_MAX) {
		line = evbuffer_search(in, "\n", 1, NULL).pos;
		exporter_refuse(client,
				line < 0 || line > HEADERS_MAX ? "414 URI Too Long"
							       : "431 Request Header Fields Too Large",
				"", "That is too long.\n");
	} else if (client->state == CLIENT_ASKS) {
		evbuffer_remove(in, head, size);
		head[size] = '\0';
		take_request(client, head);
		return; /* it may have gone */
	}
	evbuffer_drain(in, evbuffer_get_length(in));
}

static void on_end(struct bufferevent *stream, short what, void *userdata)
{
	struct client *client = userdata;
	bool is_read = !evbuffer_get_length(bufferevent_get_output(stream));

	/* One that only sends no more still gets what it has asked for. */
	if (what & BEV_EVENT_ERROR || client->state == CLIENT_ASKS ||
	    (client->state == CLIENT_ANSWERED && is_read))
		client_free(client);
	else
		bufferevent_disable(stream, EV_READ);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
		      void *userdata)
{
	struct exporter *exporter = userdata;
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		cli_no_memory();
	client->exporter = exporter;
	client->stream = bufferevent_socket_new(exporter->loop.base, fd, BEV_OPT_CLOSE_ON_FREE);
	client->deadline = evtimer_new(exporter->loop.base, on_deadline, client);
	if (!client->stream || !client->deadline)
		cli_no_memory();
	DL_APPEND(exporter->clients, client);
	bufferevent_setcb(client->stream, on_read, on_written, on_end, client);
	bufferevent_enable(client->stream, EV_READ | EV_WRITE);
	give_time(client);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int exporter_start(struct exporter *exporter)
{
	int r = loop_init(&exporter->loop, NULL), fd, code;

	exporter->again = r == 0 ? evtimer_new(exporter->loop.base, exporter_on_again, exporter) : NULL;
	if (!exporter->again) {
		cli_complain("exporter: %s%s", strerror(r < 0 ? -r : ENOMEM), cli_limit_of(-r));
		return EXIT_OTHER;
	}
	code = place_listen(exporter->cli, "exporter", &exporter->place, 0117, &fd);
	exporter->listens = fd >= 0;
	if (code)
		return code;
	signal(SIGCHLD, SIG_IGN); /* nobody asks how the process that asks has ended */
	exporter->listener = evconnlistener_new(exporter->loop.base, on_accept, exporter,
						LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!exporter->listener)
		return EXIT_OTHER;
	evconnlistener_set_error_cb(exporter->listener, exporter_on_accept_error);
	return 0;
}

static void exporter_end(struct exporter *exporter)
{
	while (exporter->clients)
		client_free(exporter->clients);
	if (exporter->listener)
		evconnlistener_free(exporter->listener);
	if (exporter->again)
		event_free(exporter->again);
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
