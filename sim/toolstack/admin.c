/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/toolstack/admin_internal.h"

#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define MAX_INPUT 8192

/* Whose domain the first word names. */
enum whose { NOBODYS, ANYS, A_GUESTS, A_GUESTS_OR_SAVED, SAVED };

struct admin_command {
	const char *name;
	const char *usage;	  /* with the options that it takes */
	int min_words, max_words; /* besides the name */
	int (*run)(struct command_context *context);
	enum whose whose;
};

int hv_answer(struct command_context *context, int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	evbuffer_add_vprintf(context->text, format, arguments);
	va_end(arguments);
	return status;
}

int hv_finish(struct command_context *context, const char *what, int error)
{
	return error == 0 ? EXIT_DONE
			  : hv_answer(context, EXIT_ERROR, "%s %s: %s", what, context->word[1],
				      strerror(-error));
}

struct hv_domain *hv_named_domain(struct command_context *context, const char *name, bool guest)
{
	struct hv_domain *domain = hv_domain_find(context->hv, name, false);

	if (!domain && hv_domain_find(context->hv, name, true))
		hv_answer(context, EXIT_ERROR, "domain %s is suspended: resume it first", name);
	else if (!domain)
		hv_answer(context, EXIT_ERROR, "no domain %s: `xensim list` shows those that there are",
			  name);
	else if (guest && domain->type == HV_DOM0) {
		hv_answer(context, EXIT_ERROR, "domain 0 can't be %s",
			  strcmp(context->word[0], "destroy") == 0 ? "destroyed" : "paused or saved");
		domain = NULL;
	} else if (guest && domain->shutdown == HV_CRASH && strcmp(context->word[0], "destroy") != 0) {
		hv_answer(context, EXIT_ERROR, "domain %s has crashed: destroy it", name);
		domain = NULL;
	} else if (guest && domain->saving && strcmp(context->word[0], "destroy") != 0) {
		hv_answer(context, EXIT_ERROR, "domain %s is being saved: wait for its end", name);
		domain = NULL;
	}
	return domain;
}

int hv_parse_number(const char *text, uint32_t *number)
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

static int bad_name(struct command_context *context, const char *name)
{
	return hv_answer(context, EXIT_USAGE,
			 "bad domain name '%s': 1 to 64 of letters, digits, '.', '_' and '-', not a number",
			 name);
}

static int run_create(struct command_context *context)
{
	struct hv_domain *domain;
	enum hv_type type = HV_PVH;
	const char *name = NULL;
	bool preserve = false;
	uint32_t domid = 0;
	int r;

	for (int i = 1; i < context->count; i += 2) {
		const char *value = i + 1 < context->count ? context->word[i + 1] : NULL;

		if (!value)
			return hv_answer(context, EXIT_USAGE, "create: %s needs a value", context->word[i]);
		if (strcmp(context->word[i], "--name") == 0)
			name = value;
		else if (strcmp(context->word[i], "--domid") == 0 && hv_parse_number(value, &domid) == 0 &&
			 domid && domid < HV_FIRST_RESERVED_DOMID)
			continue;
		else if (strcmp(context->word[i], "--domid") == 0)
			return hv_answer(context, EXIT_USAGE,
					 "create: --domid takes a number from 1 to %u, not '%s'",
					 HV_FIRST_RESERVED_DOMID - 1, value);
		else if (strcmp(context->word[i], "--on-crash") == 0 &&
			 (strcmp(value, "preserve") == 0 || strcmp(value, "destroy") == 0))
			preserve = value[0] == 'p';
		else if (strcmp(context->word[i], "--on-crash") == 0)
			return hv_answer(context, EXIT_USAGE, "create: --on-crash destroy|preserve, not '%s'",
					 value);
		else if (strcmp(context->word[i], "--type") != 0)
			return hv_answer(context, EXIT_USAGE, "create: unknown option '%s'",
					 context->word[i]);
		else if (hv_type_parse(value, &type) < 0)
			return hv_answer(context, EXIT_USAGE, "create: unknown type '%s': pvh or pv", value);
	}
	if (name && !hv_name_is_valid(name))
		return bad_name(context, name);
	r = hv_domain_create(context->hv, false, domid, name, type, &domain);
	if (r == -EEXIST)
		return hv_answer(context, EXIT_ERROR, "create: a domain named '%s' exists already", name);
	if (r == -EBUSY)
		return hv_answer(context, EXIT_ERROR, "create: there is a domain %u", domid);
	if (r < 0)
		return hv_answer(context, EXIT_ERROR, "create: %s", strerror(-r));
	domain->preserve = preserve;
	return hv_answer(context, EXIT_DONE, "%u\n", domain->domid);
}

/* The options of the commands that name a domain first. */
static const struct number_option {
	const char *name;
	uint32_t most; /* 0: it takes no number, and means 1 */
	size_t offset;
} options[] = {
	{"--notice", 60000, offsetof(struct admin_options, save.notice_ms)},
	{"--stale", 60000, offsetof(struct admin_options, save.stale_ms)},
	{"--stall", 60000, offsetof(struct admin_options, save.stale_ms)},
	{"--seed", UINT32_MAX, offsetof(struct admin_options, save.seed)},
	{"--unaware", 60000, offsetof(struct admin_options, restore.unaware_ms)},
	{"--clock", SIM_RESTORE_CLOCK_MAX, offsetof(struct admin_options, restore.clock_ms)},
	{"--same-domid", 0, offsetof(struct admin_options, restore.same_domid)},
	{"--linger", 60000, offsetof(struct admin_options, linger_ms)},
	{"--timeout", 600000, offsetof(struct admin_options, patience_ms)},
	{"--reboot", 0, offsetof(struct admin_options, reboot)},
};

static const struct admin_options defaults = {
	.save = {.notice_ms = 20, .seed = 1},
	.restore = {.clock_ms = HV_CLOCK_MS},
	.linger_ms = HV_LINGER_MS,
	.patience_ms = HV_PATIENCE_MS,
};

static const struct number_option *find_option(const char *usage, const char *name)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (strcmp(options[i].name, name) == 0 && strstr(usage, name))
			return &options[i];
	return NULL;
}

/* Reads those behind the first word. Returns EXIT_DONE, or another status with the answer given. */
static int parse_options(struct command_context *context, const char *usage)
{
	context->options = defaults;
	for (int i = 2; i < context->count; i++) {
		const struct number_option *option = find_option(usage, context->word[i]);
		uint32_t *number;
		const char *value = "";

		if (!option)
			return hv_answer(context, EXIT_USAGE, "%s: unknown option '%s'", context->word[0],
					 context->word[i]);
		number = (uint32_t *)((char *)&context->options + option->offset);
		if (option->most == 0) {
			*number = 1;
			continue;
		}
		if (i + 1 < context->count)
			value = context->word[++i];
		if (hv_parse_number(value, number) < 0 || *number > option->most)
			return hv_answer(context, EXIT_USAGE, "%s: %s takes a number up to %u, not '%s'",
					 context->word[0], option->name, option->most, value);
	}
	return EXIT_DONE;
}

/* On the end of a domain, answers who asked for it. */
static void on_ended(int r, struct hv_domain *successor, void *userdata);

static int begin_end(struct command_context *context, int r)
{
	if (r == -EBUSY)
		return hv_answer(context, EXIT_ERROR, "%s: domain %s is being destroyed", context->word[0],
				 context->word[1]);
	return r < 0 ? hv_finish(context, context->word[0], r) : EXIT_LATER;
}

static int run_destroy(struct command_context *context)
{
	return begin_end(context, hv_domain_begin_destroy(context->domain, context->options.linger_ms,
							  on_ended, context->session));
}

static int run_crash(struct command_context *context)
{
	return begin_end(context,
			 hv_domain_shut_down_at_once(context->domain, HV_CRASH, on_ended, context->session));
}

static int run_pause(struct command_context *context)
{
	hv_domain_pause(context->domain);
	return EXIT_DONE;
}

static int run_unpause(struct command_context *context)
{
	hv_domain_unpause(context->domain);
	return EXIT_DONE;
}

static int run_shutdown(struct command_context *context)
{
	if (context->domain->state == HV_PAUSED)
		return hv_answer(context, EXIT_ERROR, "shutdown: domain %s is paused", context->word[1]);
	return begin_end(context, hv_domain_shut_down(
					  context->domain, context->options.reboot ? HV_REBOOT : HV_POWER_OFF,
					  context->options.patience_ms, on_ended, context->session));
}

/* On the end of a save, answers who asked for it. */
static void on_saved(struct hv_domain *domain, int r, void *userdata);

static int begin_save(struct command_context *context, enum hv_save_kind kind)
{
	int r = hv_domain_save(context->domain, kind, &context->options.save, &context->options.restore,
			       on_saved, context->session);

	return r < 0 ? hv_finish(context, context->word[0], r) : EXIT_LATER;
}

static int run_suspend(struct command_context *context)
{
	return begin_save(context, HV_SAVE);
}

static int run_checkpoint(struct command_context *context)
{
	return begin_save(context, HV_CHECKPOINT);
}

static int run_migrate(struct command_context *context)
{
	return begin_save(context, HV_MIGRATION);
}

static int run_resume(struct command_context *context)
{
	int r = hv_domain_resume(context->domain, &context->options.restore);

	if (r == -EEXIST)
		return hv_answer(context, EXIT_ERROR, "resume: others still map pages of domain %u",
				 context->domain->domid);
	return r < 0 ? hv_finish(context, "resume", r)
		     : hv_answer(context, EXIT_DONE, "%u\n", context->domain->domid);
}

static int run_rename(struct command_context *context)
{
	int r;

	if (!hv_name_is_valid(context->word[2]))
		return bad_name(context, context->word[2]);
	r = hv_domain_rename(context->domain, context->word[2]);
	if (r == -EEXIST)
		return hv_answer(context, EXIT_ERROR, "rename: a domain named '%s' exists already",
				 context->word[2]);
	return hv_finish(context, "rename", r);
}

static int run_record(struct command_context *context)
{
	int r;

	if (strcmp(context->word[1], "off") == 0) {
		r = hv_record_end(context->hv);
		return r == 0 ? EXIT_DONE
			      : hv_answer(context, EXIT_ERROR, "record: it ended before, in the midst: %s",
					  strerror(-r));
	}
	return hv_finish(context, "record", hv_record_begin(context->hv, context->word[1]));
}

static int run_list(struct command_context *context)
{
	struct json_object *json;
	char *text;

	if (context->count == 2 && strcmp(context->word[1], "--json") != 0)
		return hv_answer(context, EXIT_USAGE, "list: unknown option '%s'", context->word[1]);
	if (context->count == 2) {
		json = hv_report_json(context->hv);
		hv_answer(context, EXIT_DONE, "%s\n",
			  json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY));
		json_object_put(json);
		return EXIT_DONE;
	}
	text = hv_report_text(context->hv);
	hv_answer(context, EXIT_DONE, "%s", text ? text : "");
	free(text);
	return EXIT_DONE;
}

/* Answers what `xensim exec` needs to become a process of the domain: settings of the environment, a line
 * each. */
static int run_exec(struct command_context *context)
{
	struct hv_domain *domain = context->domain;
	int r = hv_domain_need_files(domain);

	if (r < 0)
		return hv_answer(context, EXIT_ERROR, "exec: the files of domain %s: %s", context->word[1],
				 strerror(-r));
	hv_processes_add(domain, context->pid);
	hv_answer(context, EXIT_DONE, "XENSTORED_PATH=%s/xenstored.sock\n", domain->path);
	hv_answer(context, EXIT_DONE, "XENMSG_SOCKET=%s/xenmsg.sock\n", domain->path);
	hv_answer(context, EXIT_DONE, SIM_ENV_CONTROL "=%s/hv.sock\n", domain->path);
	hv_answer(context, EXIT_DONE, SIM_ENV_ROOT "=%s/root\n", domain->path);
	hv_answer(context, EXIT_DONE, SIM_ENV_DOMID "=%u\n", domain->domid);
	hv_answer(context, EXIT_DONE, SIM_ENV_UUID "=%s@%s\n", domain->uuid, domain->hv->dir);
	if (domain->state == HV_PAUSED)
		hv_answer(context, EXIT_DONE, "STOP\n");
	return EXIT_DONE;
}

static int run_stop(struct command_context *context)
{
	context->stop = true;
	return EXIT_DONE;
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
		return hv_answer(context, EXIT_USAGE,
				 "usage: xensim xsm silo|dummy, or forbid|allow DOMID DOMID");
	one = hv_named_domain(context, context->word[2], false);
	other = one ? hv_named_domain(context, context->word[3], false) : NULL;
	if (!other)
		return EXIT_ERROR;
	return hv_finish(context, "xsm", (forbids ? forbid : allow)(context->hv, one->domid, other->domid));
}

static const struct admin_command commands[] = {
	{"create", "create [--name NAME] [--type pvh|pv] [--domid DOMID] [--on-crash destroy|preserve]", 0, 8,
	 run_create, NOBODYS},
	{"destroy", "destroy DOMID [--linger MS]", 1, 3, run_destroy, A_GUESTS_OR_SAVED},
	{"shutdown", "shutdown DOMID [--reboot] [--timeout MS]", 1, 4, run_shutdown, A_GUESTS},
	{"crash", "crash DOMID", 1, 1, run_crash, A_GUESTS},
	{"pause", "pause DOMID", 1, 1, run_pause, A_GUESTS},
	{"unpause", "unpause DOMID", 1, 1, run_unpause, A_GUESTS},
	{"suspend", "suspend DOMID [--notice MS] [--stale MS] [--seed N]", 1, 7, run_suspend, A_GUESTS},
	{"checkpoint", "checkpoint DOMID [--notice MS] [--stall MS] [--clock MS]", 1, 7, run_checkpoint,
	 A_GUESTS},
	{"migrate", "migrate DOMID [--notice MS] [--stale MS] [--seed N] [--unaware MS] [--clock MS]", 1, 11,
	 run_migrate, A_GUESTS},
	{"resume", "resume DOMID [--unaware MS] [--clock MS] [--same-domid]", 1, 6, run_resume, SAVED},
	{"rename", "rename DOMID NAME", 2, 2, run_rename, ANYS},
	{"list", "list [--json]", 0, 1, run_list, NOBODYS},
	{"record", "record FILE|off", 1, 1, run_record, NOBODYS},
	{"fault", "fault KIND DOMID [VALUE]…", 2, 5, hv_run_fault, NOBODYS},
	{"xsm", "xsm silo|dummy, or forbid|allow DOMID DOMID", 1, 3, run_xsm, NOBODYS},
	{"exec", "exec DOMID -- CMD [ARGUMENT]…", 1, 1, run_exec, ANYS},
	{"stop", "stop", 0, 0, run_stop, NOBODYS},
};

/* Finds the domain that the first word names, and reads the options behind it. */
static int prepare(struct command_context *context, const struct admin_command *command)
{
	const char *name = context->word[1];
	int r = strstr(command->usage, "[--") ? parse_options(context, command->usage) : EXIT_DONE;

	if (r != EXIT_DONE)
		return r;
	if (command->whose >= A_GUESTS_OR_SAVED)
		context->domain = hv_domain_find(context->hv, name, true);
	if (!context->domain && command->whose == SAVED)
		return hv_answer(context, EXIT_ERROR,
				 "no suspended domain %s: `xensim list` shows those that there are", name);
	if (!context->domain)
		context->domain = hv_named_domain(context, name, command->whose != ANYS);
	return context->domain ? EXIT_DONE : EXIT_ERROR;
}

static int admin_run_command(struct command_context *context)
{
	int r;

	for (size_t i = 0; context->count && i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct admin_command *command = &commands[i];

		if (strcmp(command->name, context->word[0]) != 0)
			continue;
		if (context->count - 1 < command->min_words || context->count - 1 > command->max_words)
			return hv_answer(context, EXIT_USAGE, "usage: xensim %s", command->usage);
		context->session->command = command->name;
		r = command->whose == NOBODYS ? EXIT_DONE : prepare(context, command);
		return r == EXIT_DONE ? command->run(context) : r;
	}
	return hv_answer(context, EXIT_USAGE, "unknown command '%s': see xensim --help",
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

static void admin_on_written(struct bufferevent *bev, void *userdata)
{
	session_free(userdata);
}

/* The asker may have been in the domain that has ended. */
static void on_reader_gone(struct bufferevent *bev, short events, void *userdata)
{
	session_free(userdata);
}

static void session_answer(struct admin_session *session, int status, struct evbuffer *text)
{
	struct evbuffer *output = bufferevent_get_output(session->bev);

	evbuffer_add_printf(output, "%d\n", status);
	evbuffer_add_buffer(output, text);
	bufferevent_setcb(session->bev, NULL, admin_on_written, on_reader_gone, session);
	bufferevent_enable(session->bev, EV_WRITE);
}

/* Answers what has become of it, with the number of a domain unless that is NULL. */
static void answer_late(struct admin_session *session, int r, const struct hv_domain *domain)
{
	struct evbuffer *text = session->hv->stopping ? NULL : evbuffer_new();

	if (!text) {
		session_free(session);
		return;
	}
	if (r < 0)
		evbuffer_add_printf(text, "%s: %s", session->command, strerror(-r));
	else if (domain)
		evbuffer_add_printf(text, "%u\n", domain->domid);
	session_answer(session, r < 0 ? EXIT_ERROR : EXIT_DONE, text);
	evbuffer_free(text);
}

static void on_saved(struct hv_domain *domain, int r, void *userdata)
{
	struct admin_session *session = userdata;

	answer_late(session, r, strcmp(session->command, "migrate") == 0 ? domain : NULL);
}

static void on_ended(int r, struct hv_domain *successor, void *userdata)
{
	answer_late(userdata, r, successor);
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
	status = admin_run_command(&context);
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

static void admin_on_connect(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
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
	hv->admin = evconnlistener_new_bind(hv->base, admin_on_connect, hv,
					    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, -1,
					    (struct sockaddr *)&address, sizeof(address));
	return hv->admin ? 0 : -errno;
}
