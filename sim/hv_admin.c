/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/nearest.h"
#include "sim/hv.h"

#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define MAX_WORDS 16
#define MAX_INPUT 8192

enum { EXIT_DONE = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_LATER = -1 };

/* One connection, one command. */
struct admin_session {
	struct hv *hv;
	struct bufferevent *bev;
	pid_t pid;
	const char *command;
	bool stop;
};

struct command_context {
	struct hv *hv;
	struct admin_session *session; /* for a command that answers later */
	struct evbuffer *text;
	pid_t pid; /* of the caller */
	bool stop; /* once the answer is out */
	int count;
	const char *word[MAX_WORDS];
};

struct admin_command {
	const char *name;
	const char *usage;
	int min_words, max_words; /* besides the name */
	int (*run)(struct command_context *context);
};

static int answer(struct command_context *context, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int answer(struct command_context *context, int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	evbuffer_add_vprintf(context->text, format, arguments);
	va_end(arguments);
	return status;
}

static int finish(struct command_context *context, const char *what, int error)
{
	return error == 0
		       ? EXIT_DONE
		       : answer(context, EXIT_ERROR, "%s %s: %s", what, context->word[1], strerror(-error));
}

/* Returns the domain named by the first word, or NULL with the answer given. Only a guest if `guest`. */
static struct hv_domain *named_domain(struct command_context *context, const char *name, bool guest)
{
	struct hv_domain *domain = hv_domain_find(context->hv, name, false);

	if (!domain && hv_domain_find(context->hv, name, true))
		answer(context, EXIT_ERROR, "domain %s is suspended: resume it first", name);
	else if (!domain)
		answer(context, EXIT_ERROR, "no domain %s: `xensim list` shows those that there are", name);
	else if (guest && domain->type == HV_DOM0) {
		answer(context, EXIT_ERROR, "domain 0 can't be %s",
		       strcmp(context->word[0], "destroy") == 0 ? "destroyed" : "paused or saved");
		domain = NULL;
	} else if (guest && domain->saving && strcmp(context->word[0], "destroy") != 0) {
		answer(context, EXIT_ERROR, "domain %s is being saved: wait for its end", name);
		domain = NULL;
	}
	return domain;
}

static int parse_number(const char *text, uint32_t *number)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)text[0]) || *end || errno || value > UINT32_MAX)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

static bool name_is_valid(const char *name)
{
	size_t length = strlen(name);

	/* A name that looks like a number would be taken for a domid. */
	if (length == 0 || length > 64 || strspn(name, "0123456789") == length)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == length;
}

static int bad_name(struct command_context *context, const char *name)
{
	return answer(context, EXIT_USAGE,
		      "bad domain name '%s': 1 to 64 of letters, digits, '.', '_' and '-', not a number",
		      name);
}

static int run_create(struct command_context *context)
{
	struct hv_domain *domain;
	enum hv_type type = HV_PVH;
	const char *name = NULL;
	int r;

	for (int i = 1; i < context->count; i += 2) {
		const char *value = i + 1 < context->count ? context->word[i + 1] : NULL;

		if (!value)
			return answer(context, EXIT_USAGE, "create: %s needs a value", context->word[i]);
		if (strcmp(context->word[i], "--name") == 0)
			name = value;
		else if (strcmp(context->word[i], "--type") != 0)
			return answer(context, EXIT_USAGE, "create: unknown option '%s'", context->word[i]);
		else if (hv_type_parse(value, &type) < 0)
			return answer(context, EXIT_USAGE, "create: unknown type '%s': pvh or pv", value);
	}
	if (name && !name_is_valid(name))
		return bad_name(context, name);
	r = hv_domain_create(context->hv, false, name, type, &domain);
	if (r == -EEXIST)
		return answer(context, EXIT_ERROR, "create: a domain named '%s' exists already", name);
	if (r < 0)
		return answer(context, EXIT_ERROR, "create: %s", strerror(-r));
	return answer(context, EXIT_DONE, "%u\n", domain->domid);
}

static int run_destroy(struct command_context *context)
{
	struct hv_domain *domain = hv_domain_find(context->hv, context->word[1], true);

	if (!domain)
		domain = named_domain(context, context->word[1], true);
	if (!domain)
		return EXIT_ERROR;
	hv_domain_destroy(domain);
	return EXIT_DONE;
}

static int run_pause(struct command_context *context)
{
	struct hv_domain *domain = named_domain(context, context->word[1], true);

	if (!domain)
		return EXIT_ERROR;
	hv_domain_pause(domain);
	return EXIT_DONE;
}

static int run_unpause(struct command_context *context)
{
	struct hv_domain *domain = named_domain(context, context->word[1], true);

	if (!domain)
		return EXIT_ERROR;
	hv_domain_unpause(domain);
	return EXIT_DONE;
}

/* An option behind the domain, with a number of at most `most` behind it; 0: it takes none, and means 1. */
struct number_option {
	const char *name;
	uint32_t most;
	uint32_t *value;
};

static int parse_options(struct command_context *context, const struct number_option *options, size_t count)
{
	for (int i = 2; i < context->count; i++) {
		const struct number_option *option = options;
		const char *value = "";

		while (option < options + count && strcmp(option->name, context->word[i]) != 0)
			option++;
		if (option == options + count)
			return answer(context, EXIT_USAGE, "%s: unknown option '%s'", context->word[0],
				      context->word[i]);
		if (option->most == 0) {
			*option->value = 1;
			continue;
		}
		if (i + 1 < context->count)
			value = context->word[++i];
		if (parse_number(value, option->value) < 0 || *option->value > option->most)
			return answer(context, EXIT_USAGE, "%s: %s takes a number up to %u, not '%s'",
				      context->word[0], option->name, option->most, value);
	}
	return EXIT_DONE;
}

/* What the options of saves and restores mean if they aren't given. */
#define SAVE_DEFAULTS                                                                                        \
	{                                                                                                    \
		.notice_ms = 20, .stale_ms = 0, .seed = 1                                                    \
	}
#define RESTORE_DEFAULTS                                                                                     \
	{                                                                                                    \
		.unaware_ms = 0, .clock_ms = 200                                                             \
	}

/* On the end of a save, answers who asked for it. */
static void on_saved(struct hv_domain *domain, int r, void *userdata);

static int begin_save(struct command_context *context, enum hv_save_kind kind,
		      const struct number_option *options, size_t count, const struct hv_save_options *save,
		      const struct hv_restore_options *restore)
{
	struct hv_domain *domain;
	int r = parse_options(context, options, count);

	if (r != EXIT_DONE)
		return r;
	domain = named_domain(context, context->word[1], true);
	if (!domain)
		return EXIT_ERROR;
	r = hv_domain_save(domain, kind, save, restore, on_saved, context->session);
	return r < 0 ? finish(context, context->word[0], r) : EXIT_LATER;
}

static int run_suspend(struct command_context *context)
{
	struct hv_save_options save = SAVE_DEFAULTS;
	struct hv_restore_options restore = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--notice", 60000, &save.notice_ms},
					      {"--stale", 60000, &save.stale_ms},
					      {"--seed", UINT32_MAX, &save.seed}};

	return begin_save(context, HV_SAVE, known, 3, &save, &restore);
}

static int run_checkpoint(struct command_context *context)
{
	struct hv_save_options save = SAVE_DEFAULTS;
	struct hv_restore_options restore = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--notice", 60000, &save.notice_ms},
					      {"--stall", 60000, &save.stale_ms},
					      {"--clock", SIM_RESTORE_CLOCK_MAX, &restore.clock_ms}};

	return begin_save(context, HV_CHECKPOINT, known, 3, &save, &restore);
}

static int run_migrate(struct command_context *context)
{
	struct hv_save_options save = SAVE_DEFAULTS;
	struct hv_restore_options restore = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--notice", 60000, &save.notice_ms},
					      {"--stale", 60000, &save.stale_ms},
					      {"--seed", UINT32_MAX, &save.seed},
					      {"--unaware", 60000, &restore.unaware_ms},
					      {"--clock", SIM_RESTORE_CLOCK_MAX, &restore.clock_ms}};

	return begin_save(context, HV_MIGRATION, known, 5, &save, &restore);
}

static int run_resume(struct command_context *context)
{
	struct hv_restore_options options = RESTORE_DEFAULTS;
	const struct number_option known[] = {{"--unaware", 60000, &options.unaware_ms},
					      {"--clock", SIM_RESTORE_CLOCK_MAX, &options.clock_ms},
					      {"--same-domid", 0, &options.same_domid}};
	struct hv_domain *domain;
	int r = parse_options(context, known, 3);

	if (r != EXIT_DONE)
		return r;
	domain = hv_domain_find(context->hv, context->word[1], true);
	if (!domain)
		return answer(context, EXIT_ERROR,
			      "no suspended domain %s: `xensim list` shows those that there are",
			      context->word[1]);
	r = hv_domain_resume(domain, &options);
	if (r == -EEXIST)
		return answer(context, EXIT_ERROR, "resume: others still map pages of domain %u",
			      domain->domid);
	return r < 0 ? finish(context, "resume", r) : answer(context, EXIT_DONE, "%u\n", domain->domid);
}

static int run_rename(struct command_context *context)
{
	struct hv_domain *domain = named_domain(context, context->word[1], false);
	int r;

	if (!domain)
		return EXIT_ERROR;
	if (!name_is_valid(context->word[2]))
		return bad_name(context, context->word[2]);
	r = hv_domain_rename(domain, context->word[2]);
	if (r == -EEXIST)
		return answer(context, EXIT_ERROR, "rename: a domain named '%s' exists already",
			      context->word[2]);
	return finish(context, "rename", r);
}

static int run_list(struct command_context *context)
{
	struct json_object *json;
	char *text;

	if (context->count == 2 && strcmp(context->word[1], "--json") != 0)
		return answer(context, EXIT_USAGE, "list: unknown option '%s'", context->word[1]);
	if (context->count == 2) {
		json = hv_report_json(context->hv);
		answer(context, EXIT_DONE, "%s\n",
		       json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY));
		json_object_put(json);
		return EXIT_DONE;
	}
	text = hv_report_text(context->hv);
	answer(context, EXIT_DONE, "%s", text ? text : "");
	free(text);
	return EXIT_DONE;
}

/* Answers what `xensim exec` needs to become a process of the domain: settings of the environment, a line
 * each. */
static int run_exec(struct command_context *context)
{
	struct hv_domain *domain = named_domain(context, context->word[1], false);

	if (!domain)
		return EXIT_ERROR;
	hv_processes_add(domain, context->pid);
	answer(context, EXIT_DONE, "XENSTORED_PATH=%s/xenstored.sock\n", domain->path);
	answer(context, EXIT_DONE, "XENMSG_SOCKET=%s/xenmsg.sock\n", domain->path);
	answer(context, EXIT_DONE, SIM_ENV_CONTROL "=%s/hv.sock\n", domain->path);
	answer(context, EXIT_DONE, SIM_ENV_ROOT "=%s/root\n", domain->path);
	answer(context, EXIT_DONE, SIM_ENV_DOMID "=%u\n", domain->domid);
	answer(context, EXIT_DONE, SIM_ENV_UUID "=%s@%s\n", domain->uuid, domain->hv->dir);
	if (domain->state == HV_PAUSED)
		answer(context, EXIT_DONE, "STOP\n");
	return EXIT_DONE;
}

static int run_stop(struct command_context *context)
{
	context->stop = true;
	return EXIT_DONE;
}

/* Faults. The second word is the domain, the third the value. */

static int fault_stall_store(struct command_context *context, struct hv_domain *domain, const char *value)
{
	bool on = value && strcmp(value, "on") == 0;

	if (!on && (!value || strcmp(value, "off") != 0))
		return answer(context, EXIT_USAGE,
			      "fault stall-store DOMID on|off (one xenstored serves all domains)");
	sim_store_stall(context->hv->store, on);
	context->hv->store_stalled = on;
	return EXIT_DONE;
}

static int fault_lose_store(struct command_context *context, struct hv_domain *domain, const char *value)
{
	if (value)
		return answer(context, EXIT_USAGE, "fault lose-store DOMID");
	sim_store_disconnect(context->hv->store, domain->domid);
	return EXIT_DONE;
}

static int parse_times(struct command_context *context, const char *value, uint32_t *times)
{
	if (!value || strcmp(value, "on") == 0)
		*times = UINT32_MAX;
	else if (strcmp(value, "off") == 0)
		*times = 0;
	else if (parse_number(value, times) < 0)
		return answer(context, EXIT_USAGE, "fault %s: '%s' is not a number, on or off",
			      context->word[1], value);
	return EXIT_DONE;
}

static int fault_refuse_grant(struct command_context *context, struct hv_domain *domain, const char *value)
{
	return parse_times(context, value, &domain->refuse_grants);
}

static int fault_refuse_map(struct command_context *context, struct hv_domain *domain, const char *value)
{
	return parse_times(context, value, &domain->refuse_maps);
}

static int fault_lose_event(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t events = 1;
	int r = value ? parse_times(context, value, &events) : EXIT_DONE;

	if (r == EXIT_DONE)
		hv_evtchn_lose(domain, events);
	return r;
}

static int fault_grant_limit(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t limit;

	if (!value || parse_number(value, &limit) < 0)
		return answer(context, EXIT_USAGE, "fault grant-limit DOMID PAGES");
	return finish(context, "fault", hv_grant_set_limit(domain, limit));
}

static int fault_evtchn_limit(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t limit;

	if (!value || parse_number(value, &limit) < 0 || limit > HV_DOM0_EVTCHN_LIMIT)
		return answer(context, EXIT_USAGE, "fault evtchn-limit DOMID PORTS (at most %u)",
			      HV_DOM0_EVTCHN_LIMIT);
	domain->port_limit = limit;
	return EXIT_DONE;
}

/* FIELD=VALUE; FIELD is an index of struct vchan_interface: left is what the server reads. */
static int fault_corrupt_ring_index(struct command_context *context, struct hv_domain *domain,
				    const char *value)
{
	static const char *const fields[] = {"left-cons", "left-prod", "right-cons", "right-prod"};
	uint32_t offset = 4, index = 0xdeadbeef;
	const char *equals = value ? strchr(value, '=') : NULL;
	bool found = !value;

	for (uint32_t i = 0; equals && i < 4; i++) {
		if (strncmp(value, fields[i], (size_t)(equals - value)) == 0 && !fields[i][equals - value]) {
			offset = 4 * i;
			found = parse_number(equals + 1, &index) == 0;
		}
	}
	if (!found)
		return answer(
			context, EXIT_USAGE,
			"fault corrupt-ring-index DOMID left-cons|left-prod|right-cons|right-prod=NUMBER");
	return answer(context, EXIT_DONE, "%u\n", hv_grant_corrupt(domain, offset, index));
}

static int run_fault(struct command_context *context)
{
	static const struct {
		const char *name;
		int (*run)(struct command_context *context, struct hv_domain *domain, const char *value);
	} faults[] = {
		{"stall-store", fault_stall_store},   {"lose-store", fault_lose_store},
		{"lose-event", fault_lose_event},     {"refuse-grant", fault_refuse_grant},
		{"refuse-map", fault_refuse_map},     {"grant-limit", fault_grant_limit},
		{"evtchn-limit", fault_evtchn_limit}, {"corrupt-ring-index", fault_corrupt_ring_index},
	};
	const char *value = context->count > 3 ? context->word[3] : NULL;
	struct nearest nearest = nearest_to(context->word[1]);
	struct hv_domain *domain;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		nearest_try(&nearest, faults[i].name);
		if (strcmp(faults[i].name, context->word[1]) != 0)
			continue;
		domain = named_domain(context, context->word[2], false);
		return domain ? faults[i].run(context, domain, value) : EXIT_ERROR;
	}
	if (nearest.meant)
		return answer(context, EXIT_USAGE, "unknown fault '%s'; did you mean '%s'?", context->word[1],
			      nearest.meant);
	return answer(context, EXIT_USAGE,
		      "unknown fault '%s': stall-store, lose-store, lose-event, refuse-grant, refuse-map, "
		      "grant-limit, evtchn-limit or corrupt-ring-index",
		      context->word[1]);
}

static int allow(struct hv *hv, uint32_t one, uint32_t other)
{
	struct hv_forbidden *pair, *next;

	LL_FOREACH_SAFE(hv->forbidden, pair, next) {
		if ((pair->one == one && pair->other == other) ||
		    (pair->one == other && pair->other == one)) {
			LL_DELETE(hv->forbidden, pair);
			free(pair);
		}
	}
	return 0;
}

static int forbid(struct hv *hv, uint32_t one, uint32_t other)
{
	struct hv_forbidden *pair = malloc(sizeof(*pair));

	if (!pair)
		return -ENOMEM;
	allow(hv, one, other);
	*pair = (struct hv_forbidden){.one = one, .other = other};
	LL_PREPEND(hv->forbidden, pair);
	return 0;
}

static int run_xsm(struct command_context *context)
{
	const char *what = context->word[1];
	bool forbids = strcmp(what, "forbid") == 0;
	const struct hv_domain *one, *other;

	if (context->count == 2 && (strcmp(what, "silo") == 0 || strcmp(what, "dummy") == 0)) {
		context->hv->silo = strcmp(what, "silo") == 0;
		return EXIT_DONE;
	}
	if (context->count != 4 || (!forbids && strcmp(what, "allow") != 0))
		return answer(context, EXIT_USAGE,
			      "usage: xensim xsm silo|dummy, or forbid|allow DOMID DOMID");
	one = named_domain(context, context->word[2], false);
	other = one ? named_domain(context, context->word[3], false) : NULL;
	if (!other)
		return EXIT_ERROR;
	return finish(context, "xsm", (forbids ? forbid : allow)(context->hv, one->domid, other->domid));
}

static const struct admin_command commands[] = {
	{"create", "create [--name NAME] [--type pvh|pv]", 0, 4, run_create},
	{"destroy", "destroy DOMID", 1, 1, run_destroy},
	{"pause", "pause DOMID", 1, 1, run_pause},
	{"unpause", "unpause DOMID", 1, 1, run_unpause},
	{"suspend", "suspend DOMID [--notice MS] [--stale MS] [--seed N]", 1, 7, run_suspend},
	{"checkpoint", "checkpoint DOMID [--notice MS] [--stall MS] [--clock MS]", 1, 7, run_checkpoint},
	{"migrate", "migrate DOMID [--notice MS] [--stale MS] [--seed N] [--unaware MS] [--clock MS]", 1, 11,
	 run_migrate},
	{"resume", "resume DOMID [--unaware MS] [--clock MS] [--same-domid]", 1, 6, run_resume},
	{"rename", "rename DOMID NAME", 2, 2, run_rename},
	{"list", "list [--json]", 0, 1, run_list},
	{"fault", "fault KIND DOMID [VALUE]", 2, 3, run_fault},
	{"xsm", "xsm silo|dummy, or forbid|allow DOMID DOMID", 1, 3, run_xsm},
	{"exec", "exec DOMID -- CMD [ARGUMENT]…", 1, 1, run_exec},
	{"stop", "stop", 0, 0, run_stop},
};

static int run_command(struct command_context *context)
{
	for (size_t i = 0; context->count && i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct admin_command *command = &commands[i];

		if (strcmp(command->name, context->word[0]) != 0)
			continue;
		if (context->count - 1 < command->min_words || context->count - 1 > command->max_words)
			return answer(context, EXIT_USAGE, "usage: xensim %s", command->usage);
		context->session->command = command->name;
		return command->run(context);
	}
	return answer(context, EXIT_USAGE, "unknown command '%s': see xensim --help",
		      context->count ? context->word[0] : "");
}

static void session_free(struct admin_session *session)
{
	struct hv *hv = session->hv;
	bool stop = session->stop;

	bufferevent_free(session->bev);
	free(session);
	if (stop)
		hv_stop(hv);
}

static void on_written(struct bufferevent *bev, void *userdata)
{
	session_free(userdata);
}

static void session_answer(struct admin_session *session, int status, struct evbuffer *text)
{
	struct evbuffer *output = bufferevent_get_output(session->bev);

	evbuffer_add_printf(output, "%d\n", status);
	evbuffer_add_buffer(output, text);
	bufferevent_setcb(session->bev, NULL, on_written, NULL, session);
	bufferevent_enable(session->bev, EV_WRITE);
}

static void on_saved(struct hv_domain *domain, int r, void *userdata)
{
	struct admin_session *session = userdata;
	struct evbuffer *text = domain->hv->stopping ? NULL : evbuffer_new();

	if (!text) {
		session_free(session);
		return;
	}
	if (r < 0)
		evbuffer_add_printf(text, "%s: %s", session->command, strerror(-r));
	else if (strcmp(session->command, "migrate") == 0)
		evbuffer_add_printf(text, "%u\n", domain->domid);
	session_answer(session, r < 0 ? EXIT_ERROR : EXIT_DONE, text);
	evbuffer_free(text);
}

static void on_input_end(struct admin_session *session)
{
	struct evbuffer *input = bufferevent_get_input(session->bev);
	struct command_context context = {.hv = session->hv, .session = session, .pid = session->pid};
	size_t length = evbuffer_get_length(input);
	char text[MAX_INPUT + 1];
	int status;

	context.text = length <= MAX_INPUT ? evbuffer_new() : NULL;
	if (!context.text) {
		session_free(session);
		return;
	}
	/* Make a copy, since nothing can be added to a bufferevent's input, not even the terminating NUL. */
	evbuffer_remove(input, text, length);
	text[length] = 0;
	for (size_t i = 0; i < length && context.count < MAX_WORDS; i += strlen(text + i) + 1)
		context.word[context.count++] = text + i;
	bufferevent_setcb(session->bev, NULL, NULL, NULL, session);
	bufferevent_disable(session->bev, EV_READ);
	status = run_command(&context);
	session->stop = context.stop;
	if (status != EXIT_LATER)
		session_answer(session, status, context.text);
	evbuffer_free(context.text);
}

static void on_event(struct bufferevent *bev, short events, void *userdata)
{
	if (events & BEV_EVENT_EOF)
		on_input_end(userdata);
	else
		session_free(userdata);
}

static void on_input(struct bufferevent *bev, void *userdata)
{
	if (evbuffer_get_length(bufferevent_get_input(bev)) > MAX_INPUT)
		session_free(userdata);
}

static void on_connect(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		       int length, void *userdata)
{
	struct admin_session *session = calloc(1, sizeof(*session));
	struct ucred credentials = {0};
	socklen_t size = sizeof(credentials);
	struct hv *hv = userdata;

	if (session && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
		session->bev = bufferevent_socket_new(hv->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!session || !session->bev) {
		free(session);
		close(fd);
		return;
	}
	session->hv = hv;
	session->pid = credentials.pid;
	bufferevent_setcb(session->bev, on_input, NULL, on_event, session);
	bufferevent_enable(session->bev, EV_READ);
}

int hv_admin_listen(struct hv *hv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/xensim.sock", hv->dir);

	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	hv->admin = evconnlistener_new_bind(hv->base, on_connect, hv,
					    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, -1,
					    (struct sockaddr *)&address, sizeof(address));
	return hv->admin ? 0 : -errno;
}
