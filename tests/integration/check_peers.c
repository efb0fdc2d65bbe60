/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon's lower half without the rest: daemon/peers/peers.h, driven by commands a line each. Its first
 * answer is its domid.
 *
 * 	check-peers [map=yes|no|auto] [min=BYTES] [timeout=MS] [private=DOMID]… [few=yes] [forget=MS]
 *
 * It wants to know all peers, unless few=yes.
 *
 * 	next (waits for the next event) | connect N | disconnect N | close N | advertise NAME… | state N | nodes |
 *  granted all (whether all are known)
 * 	send N TEXT | receive N (waits for 8 bytes at most) | events (how many wait)
 *
 * Events: "up N", "down N", "forgotten N" (its daemon is there), "endpoints N NAME…", "connected N
 * granted|mapped PAGES", "failed N ERRNO REASON", "lost N REASON". After "lost" the vchan is closed, as its
 * owner must.
 */
#include "base/config.h"
#include "base/self.h"
#include "daemon/registry/changes.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/peers.h"
#include "daemon/xen/store.h"
#include "base/turns.h"
#include "daemon/xen/vchan.h"
#include "tests/integration/check_lines.h"

#define MAX_LINKS   64
#define MAX_DOMAINS 1024

struct link {
	uint32_t domid;
	struct vchan *vchan;
	struct ring_writer writer;
	struct ring_reader reader;
	struct tool *tool;
};

struct tool {
	struct lines lines;
	struct store *store;
	struct vchan_host *host;
	struct registry *registry;
	struct registry_sink sink;
	struct peers *peers;
	struct turns turns;
	struct self self;
	struct peers_options options;
	struct config config;
	uint32_t allowed[16];
	struct link links[MAX_LINKS];
	char *endpoints[MAX_DOMAINS]; /* as told last */
	struct link *receiving;
	bool few;
};

static struct link *link_of(struct tool *tool, uint32_t domid)
{
	for (unsigned i = 0; i < MAX_LINKS; i++)
		if (tool->links[i].vchan && tool->links[i].domid == domid)
			return &tool->links[i];
	return NULL;
}

static void go_on_receiving(struct tool *tool)
{
	struct link *link = tool->receiving;
	char text[9] = "";
	int ready;

	if (!link)
		return;
	ready = ring_reader_arm(&link->reader, 1);
	if (ready == 0)
		return;
	tool->receiving = NULL;
	if (ready > 0)
		ready = ring_reader_ready(&link->reader, 1);
	if (ready < 0) {
		lines_result(&tool->lines, ready);
		return;
	}
	if (ready > 8)
		ready = 8;
	ring_reader_copy(&link->reader, 0, text, (uint32_t)ready);
	ring_reader_consume(&link->reader, (uint32_t)ready);
	if (ring_reader_release(&link->reader))
		vchan_notify(link->vchan);
	lines_answer(&tool->lines, "ok %s", text);
}

static void on_vchan_event(void *userdata)
{
	struct link *link = userdata;

	if (link->tool->receiving == link)
		go_on_receiving(link->tool);
}

/* Tells the endpoints of a domain if they are others than those told before. */
static void tell_endpoints(struct tool *tool, uint32_t domid)
{
	const struct record *endpoint = NULL;
	char text[2048] = "";

	while ((endpoint = registry_offered(tool->registry, domid, endpoint)) != NULL) {
		strcat(text, " ");
		strcat(text, endpoint->text);
	}
	if (domid >= MAX_DOMAINS || !strcmp(text, tool->endpoints[domid] ? tool->endpoints[domid] : ""))
		return;
	free(tool->endpoints[domid]);
	tool->endpoints[domid] = strdup(text);
	lines_event(&tool->lines, "endpoints %u%s", domid, text);
}

static void on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	struct tool *tool = userdata;

	if (what == REGISTRY_ALL)
		lines_event(&tool->lines, "all");
	if (what == REGISTRY_PRESENCE || what == REGISTRY_ENDPOINTS)
		tell_endpoints(tool, domid);
	if (what == REGISTRY_PRESENCE)
		lines_event(&tool->lines, "%s %u",
			    registry_is_up(tool->registry, domid) ? "up"
			    : peers_is_up(tool->peers, domid)	  ? "forgotten"
								  : "down",
			    domid);
}

static void on_connected(void *userdata, uint32_t domid, struct vchan *vchan)
{
	struct tool *tool = userdata;
	struct link *link = tool->links;
	struct ring_view view;

	if (link_of(tool, domid))
		abort();
	while (link->vchan)
		link++;
	*link = (struct link){.domid = domid, .vchan = vchan, .tool = tool};
	vchan_read_view(vchan, &view);
	if (ring_reader_init(&link->reader, &view, false) < 0)
		abort();
	vchan_write_view(vchan, &view);
	if (ring_writer_init(&link->writer, &view, false) < 0)
		abort();
	vchan_set_event(vchan, on_vchan_event, link);
	lines_event(&tool->lines, "connected %u %s %u", domid, vchan_is_granter(vchan) ? "granted" : "mapped",
		    vchan_pages(vchan));
}

static void on_failed(void *userdata, uint32_t domid, int error, const char *reason)
{
	struct tool *tool = userdata;

	lines_event(&tool->lines, "failed %u %d %s", domid, -error, reason);
}

static void close_link(struct tool *tool, uint32_t domid)
{
	struct link *link = link_of(tool, domid);

	if (link) {
		if (tool->receiving == link)
			tool->receiving = NULL;
		vchan_close(link->vchan);
		link->vchan = NULL;
	}
	peers_disconnect(tool->peers, domid);
}

static void on_lost(void *userdata, uint32_t domid, bool gone, const char *reason)
{
	struct tool *tool = userdata;

	if (!link_of(tool, domid))
		abort();
	lines_event(&tool->lines, "lost %u %s", domid, reason);
	close_link(tool, domid);
}

static const char *state_of(struct tool *tool, uint32_t domid)
{
	struct peer_info info;

	return peers_next(tool->peers, (int64_t)domid - 1, &info) && info.domid == domid ? info.state
											 : "unknown";
}

static void command(void *userdata, char *words[LINES_WORDS], int count)
{
	struct tool *tool = userdata;
	struct lines *lines = &tool->lines;
	const char *name = words[0];
	uint32_t domid = count > 1 ? (uint32_t)atoi(words[1]) : 0;
	struct link *link = link_of(tool, domid);

	if (!strcmp(name, "next")) {
		lines_await_event(lines);
	} else if (!strcmp(name, "events")) {
		lines_result(lines, lines->events_count);
	} else if (!strcmp(name, "connect")) {
		lines_result(lines, peers_connect(tool->peers, domid, NULL));
	} else if (!strcmp(name, "disconnect") || !strcmp(name, "close")) {
		close_link(tool, domid);
		lines_result(lines, 0);
	} else if (!strcmp(name, "advertise")) {
		peers_advertise(tool->peers, (const char *const *)&words[1], NULL, (unsigned)count - 1);
		lines_result(lines, 0);
	} else if (!strcmp(name, "state")) {
		lines_answer(lines, "ok %s", state_of(tool, domid));
	} else if (!strcmp(name, "all")) {
		lines_result(lines, peers_want_all(tool->peers));
	} else if (!strcmp(name, "nodes")) {
		lines_result(lines, peers_nodes_written(tool->peers));
	} else if (!strcmp(name, "granted")) {
		lines_result(lines, vchan_host_pages_granted(tool->host));
	} else if (!strcmp(name, "send") && link && count == 3) {
		ring_writer_put(&link->writer, words[2], (uint32_t)strlen(words[2]));
		if (ring_writer_publish(&link->writer))
			vchan_notify(link->vchan);
		lines_result(lines, 0);
	} else if (!strcmp(name, "receive") && link) {
		tool->receiving = link;
		go_on_receiving(tool);
	} else {
		lines_result(lines, -EINVAL);
	}
}

static bool on_pass(void *userdata)
{
	struct tool *tool = userdata;

	while (turns_run(&tool->turns))
		;
	return false;
}

static void on_domid(void *userdata, int error, const char *untrusted_value, size_t size)
{
	static const struct peers_callbacks callbacks = {
		.connected = on_connected,
		.failed = on_failed,
		.lost = on_lost,
	};
	struct tool *tool = userdata;

	if (error == 0) {
		tool->self.domid = (uint32_t)atoi(untrusted_value);
		if (tool->self.domid == 0)
			error = domains_new(&tool->options.domains, tool->lines.base, tool->store,
					    tool->registry);
	}
	if (error == 0)
		error = peers_new(&tool->peers, tool->lines.base, tool->store, tool->host, &tool->options,
				  &callbacks, tool);
	if (error == 0 && !tool->few)
		peers_want_all(tool->peers);
	lines_result(&tool->lines, error < 0 ? error : (long)tool->self.domid);
}

static bool parse_option(struct tool *tool, char *text)
{
	struct config *config = &tool->config;
	char *value = strchr(text, '=');

	if (!value)
		return false;
	*value++ = '\0';
	if (!strcmp(text, "map"))
		config->map = !strcmp(value, "yes")  ? CONFIG_MAP_YES
			      : !strcmp(value, "no") ? CONFIG_MAP_NO
						     : CONFIG_MAP_AUTO;
	else if (!strcmp(text, "min"))
		config->min_ring_size = (uint32_t)atoi(value);
	else if (!strcmp(text, "timeout"))
		config->setup_timeout_ms = (uint32_t)atoi(value);
	else if (!strcmp(text, "forget"))
		config->idle_close_ms = (uint32_t)atoi(value);
	else if (!strcmp(text, "private") && config->peer_count < 16) {
		config->presence_private = true;
		config->peers[config->peer_count++] = (uint32_t)atoi(value);
	} else if (!strcmp(text, "few"))
		tool->few = !strcmp(value, "yes");
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct tool tool = {
		.config = {.ring_size = 65536, .min_ring_size = 1024, .setup_timeout_ms = 10000},
	};
	struct event_base *base = event_base_new();
	const char *what = "XenStore";
	FILE *uuid = fopen("/proc/sys/kernel/random/uuid", "re");
	int r;

	if (!uuid || !fgets(tool.self.instance_text, sizeof(tool.self.instance_text), uuid))
		return 1;
	fclose(uuid);
	tool.options.self = &tool.self;
	tool.config.peers = tool.allowed;
	tool.options.config = &tool.config;
	tool.options.registry = tool.registry = registry_new(&tool.self);
	registry_listen(tool.registry, &tool.sink, on_known, &tool);
	for (int i = 1; i < argc; i++)
		if (!parse_option(&tool, argv[i]))
			return 2;
	lines_begin(&tool.lines, base, command, &tool);
	tool.options.turns = &tool.turns;
	r = turns_init(&tool.turns, base, on_pass, &tool);
	if (r == 0)
		r = store_new(&tool.store, base);
	if (r == 0)
		r = vchan_host_new(&tool.host, base, &what);
	if (r == 0) {
		store_read(tool.store, "domid", on_domid, &tool, NULL);
		event_base_dispatch(base);
	} else {
		fprintf(stderr, "%s: %s\n", what, strerror(-r));
		lines_result(&tool.lines, r);
	}
	for (unsigned i = 0; i < MAX_LINKS; i++)
		vchan_close(tool.links[i].vchan);
	peers_free(tool.peers);
	registry_free(tool.registry);
	domains_free(tool.options.domains);
	turns_cleanup(&tool.turns);
	vchan_host_free(tool.host);
	store_free(tool.store);
	for (unsigned i = 0; i < MAX_DOMAINS; i++)
		free(tool.endpoints[i]);
	lines_end(&tool.lines);
	event_base_free(base);
	return r == 0 ? 0 : 1;
}
