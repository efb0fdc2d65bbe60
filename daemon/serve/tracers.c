/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/tracers.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "base/clock.h"
#include "base/quota.h"
#include "base/self.h"
#include "daemon/hosts/hosts.h"
#include "daemon/policy/access.h"
#include "daemon/policy/denied.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/steps.h"
#include "daemon/serve/questions.h"
#include "wire/libc.h"
#include "wire/json.h"
#include "wire/ut.h"

#define ANSWER	    32768u /* bytes of steps in one answer */
#define STEP_UNITS  400u   /* to describe one */
#define LOOK_UNITS  20u	   /* to see that it isn't meant */
#define ID_SIZE	    (HOST_NAME_SIZE + 40)
#define AHEAD_NAMED 3u /* of those behind which something waits */

/* What is traced. */
struct filter {
	char what[TRACE_WHAT];
	char endpoint[ENDPOINT_NAME_MAX + 1]; /* "": any */
	int64_t domid;	     /* of a domain that the sender or the receiver is in; below 0: any */
	char id[TRACE_WHAT]; /* a channel's name; "": any */
	uint64_t offset;     /* that is in a message of it; 0: any */
	bool is_address;     /* the domain is the receiver's, and both must fit; else either */
};

struct tracer {
	struct tracers *tracers;
	const void *asker;
	struct filter filter;
	struct task task;
	struct question *waits; /* for an answer; NULL: none does */
	struct evbuffer *steps; /* lines */
	uint64_t missed;	/* behind those */
	struct charge charge;
	struct tracer *prev, *next;
};

struct tracers {
	struct tracers_collaborators with;
	struct steps steps;
	struct tracer *all;
	unsigned count;
};

/* --- what a step is about ----------------------------------------------------------------------- */

/* What a channel is called, where it leads, and in which domain the receiver is (below 0: nobody knows its
 * number). */
struct about {
	char id[ID_SIZE];
	char address[ADDRESS_MAX + HOST_NAME_SIZE + 16], endpoint[ADDRESS_MAX + 1];
	int64_t from, to;
};

static void write_address(const struct tracers *tracers, const struct channel_step *step, char *text,
			  size_t room)
{
	const struct channel *channel = step->channel;
	struct step_place to = step_place(&channel->acceptor);

	if (step->kind == STEP_REFUSED)
		/* A program may have named anything. */
		frame_text_copy_plain(step->name, text, room, '!');
	else if (to.kind == PLACE_HOST)
		snprintf(text, room, "%s/%s", hosts_name(tracers->with.hosts, to.number), channel->endpoint);
	else if (channel_is_relayed(channel))
		snprintf(text, room, "%s", channel->endpoint);
	else
		snprintf(text, room, "%u:%s", to.kind == PLACE_DOMAIN ? to.number : tracers->with.self->domid,
			 channel->endpoint ? channel->endpoint : "");
}

static void write_id(const struct channel *channel, char *text, size_t room)
{
	const char *host = channel_from_host(channel);

	snprintf(text, room, "%s%s%u.%u.%u", host ? host : "", host ? "/" : "", channel->identity.domid,
		 channel->identity.pid, channel->serial);
}

static struct about describe_channel(const struct tracers *tracers, const struct channel_step *step)
{
	const struct channel *channel = step->channel;
	const char *host = channel_from_host(channel);
	struct about about = {.from = host ? -1 : (int64_t)channel->identity.domid, .to = -1};
	struct address_parts parts;
	uint32_t domid;

	write_id(channel, about.id, sizeof(about.id));
	write_address(tracers, step, about.address, sizeof(about.address));
	parts = address_split(about.address, strlen(about.address));
	if (!parts.endpoint.data) /* as a peer's daemon opens it */
		about.to = tracers->with.self->domid;
	else if (!parts.host.data && address_part_is(parts.domain, "self"))
		about.to = tracers->with.self->domid;
	else if (!parts.host.data && domid_parse(parts.domain.data, parts.domain.size, &domid))
		about.to = domid;
	address_part_copy(parts.endpoint.data ? parts.endpoint : parts.domain, about.endpoint,
			  sizeof(about.endpoint));
	if (about.to >= 0)
		snprintf(about.address, sizeof(about.address), "%u:%s", (unsigned)about.to, about.endpoint);
	return about;
}

static bool is_of_offset(const struct channel_step *step, uint64_t offset)
{
	return !offset || !step->upto || step->is_back || (step->begin < offset && offset <= step->upto);
}

static bool tracers_is_meant(const struct filter *filter, const struct channel_step *step,
			     const struct about *about)
{
	bool endpoint = *filter->endpoint && !strcmp(about->endpoint, filter->endpoint);

	if (*filter->id)
		return !strcmp(filter->id, about->id) && is_of_offset(step, filter->offset);
	if (filter->is_address)
		return (endpoint && filter->domid >= 0 && filter->domid == about->to) ||
		       !strcmp(filter->what, about->address);
	return endpoint || !strcmp(filter->what, "*") ||
	       (filter->domid >= 0 && (filter->domid == about->from || filter->domid == about->to));
}

/* --- a step as JSON ----------------------------------------------------------------------------- */

static const char *tracers_word_for(enum step_kind kind)
{
	switch (kind) {
	case STEP_OPENED:
		return "opened";
	case STEP_CAME:
		return "came";
	case STEP_SENT:
		return "sent";
	case STEP_QUEUED:
		return "queued";
	case STEP_TAKEN:
		return "taken";
	case STEP_FINISHED:
		return "finished";
	case STEP_ENDED:
		return "ended";
	case STEP_CANCELLED:
		return "cancelled";
	case STEP_REFUSED:
		return "refused";
	}
	return NULL;
}
static const char *const kinds[] = {
	[CHANNEL_MESSAGE] = "message", [CHANNEL_CALL] = "call", [CHANNEL_STREAM] = "stream"};

static void tracers_add_time(struct json *json)
{
	uint64_t ns = clock_read(CLOCK_REALTIME);
	char text[40];

	snprintf(text, sizeof(text), "%llu.%06llu", (unsigned long long)(ns / 1000000000u),
		 (unsigned long long)(ns / 1000 % 1000000));
	json_digits(json, "time", text);
}

/* Says who is at the other side. */
static void add_where(const struct tracers *tracers, struct step_place place, struct json *json)
{
	static const char *const names[] = {
		[PLACE_NOBODY] = "nobody", [PLACE_PROGRAM] = "program",		  [PLACE_DOMAIN] = "domain",
		[PLACE_HOST] = "host",	   [PLACE_WAITING_ROOM] = "waiting room", [PLACE_TOPIC] = "topic",
	};
	char text[HOST_NAME_SIZE + 16];

	if (place.kind == PLACE_HOST)
		snprintf(text, sizeof(text), "host %s", hosts_name(tracers->with.hosts, place.number));
	else if (place.kind == PLACE_DOMAIN || place.number)
		snprintf(text, sizeof(text), "%s %u", names[place.kind], place.number);
	else
		snprintf(text, sizeof(text), "%s", names[place.kind]);
	json_text(json, "where", text);
}

static void keep_first(void *userdata, const struct denied_entry *entry)
{
	const struct denied_entry **first = userdata;

	if (!*first)
		*first = entry;
}

/* The refusal that was counted last is this one. */
static void add_rule(const struct tracers *tracers, const struct channel_step *step, struct json *json)
{
	const struct denied_entry *entry = NULL;

	if (step->kind == STEP_REFUSED && step->error == EACCES)
		denied_each(access_denied(tracers->with.access), keep_first, &entry);
	if (entry && *entry->file && entry->domid == step->channel->identity.domid) {
		json_text(json, "file", entry->file);
		json_number(json, "line", entry->line);
	}
}

/* Says behind whom the bytes wait: the names of the first few, and how many these are. */
static void add_ahead(const struct channel_step *step, struct json *json)
{
	const struct channel *ahead[STEPS_AHEAD_MAX];
	unsigned count = steps_ahead(step, ahead);
	char id[ID_SIZE];

	json_number(json, "bytes_queued", step->queued);
	json_number(json, "channels_ahead", count);
	json_begin(json, "behind", '[');
	for (unsigned i = 0; i < count && i < AHEAD_NAMED; i++) {
		write_id(ahead[i], id, sizeof(id));
		json_text(json, NULL, id);
	}
	json_end(json, ']');
}

static bool is_of_bytes(enum step_kind kind)
{
	return kind == STEP_CAME || kind == STEP_SENT || kind == STEP_QUEUED || kind == STEP_TAKEN ||
	       kind == STEP_CANCELLED;
}

static void tracers_describe(const struct tracers *tracers, const struct channel_step *step,
			     const struct about *about, struct json *json)
{
	const struct channel *channel = step->channel;

	json_begin(json, NULL, '{');
	tracers_add_time(json);
	json_number(json, "domid", tracers->with.self->domid);
	json_text(json, "id", about->id);
	json_text(json, "step", tracers_word_for(step->kind));
	json_text(json, "kind", kinds[channel->kind]);
	json_text(json, "address", about->address);
	json_number(json, "uid", channel->identity.uid);
	json_flag(json, "back", step->is_back);
	add_where(tracers, step->place, json);
	if (is_of_bytes(step->kind)) {
		json_number(json, "begin", step->begin);
		json_number(json, "end", step->upto);
	}
	if (step->kind == STEP_CAME)
		json_number(json, "messages", step->messages);
	if (step->kind == STEP_QUEUED)
		add_ahead(step, json);
	if (step->error)
		json_text(json, "error", strerrorname_np(step->error) ? strerrorname_np(step->error) : "?");
	add_rule(tracers, step, json);
	json_end(json, '}');
}

/* --- what waits for a tracer -------------------------------------------------------------------- */

static int add_line(struct tracer *tracer, const struct json *json)
{
	struct evbuffer_iovec room;

	if (json->failed || evbuffer_get_length(tracer->steps) + json->size + 1 > TRACE_MOST)
		return -ENOBUFS;
	if (evbuffer_reserve_space(tracer->steps, (ssize_t)json->size + 1, &room, 1) < 1)
		return -ENOMEM;
	room.iov_len = json->size + 1;
	memcpy(room.iov_base, json->text, json->size);
	((char *)room.iov_base)[json->size] = '\n';
	return evbuffer_commit_space(tracer->steps, &room, 1);
}

/* Says in its place that steps are missing. */
static int add_missed(struct tracer *tracer)
{
	struct json json = {0};
	int r;

	json_begin(&json, NULL, '{');
	tracers_add_time(&json);
	json_number(&json, "domid", tracer->tracers->with.self->domid);
	json_text(&json, "step", "missed");
	json_number(&json, "count", tracer->missed);
	json_end(&json, '}');
	r = add_line(tracer, &json);
	json_free(&json);
	if (r == 0)
		tracer->missed = 0;
	return r;
}

/* Once some were missed, none is kept before half of the room is free: else each gap had one line between two
 * others. */
static bool tracers_has_room(const struct tracer *tracer)
{
	return !tracer->missed || evbuffer_get_length(tracer->steps) < TRACE_MOST / 2;
}

static void tracers_keep(struct tracer *tracer, const struct json *json)
{
	if (!tracers_has_room(tracer) || (tracer->missed && add_missed(tracer) < 0) ||
	    add_line(tracer, json) < 0)
		tracer->missed++;
	if (tracer->waits)
		task_due(&tracer->task);
}

/* Takes the lines that are there, as many as one answer has, as an array. Returns its size. */
static size_t take_steps(struct tracer *tracer, char text[ANSWER + 2])
{
	size_t size = 0, length;
	struct evbuffer_ptr end;

	if (tracer->missed && tracers_has_room(tracer))
		add_missed(tracer);
	while ((end = evbuffer_search_eol(tracer->steps, NULL, NULL, EVBUFFER_EOL_LF)).pos >= 0) {
		length = (size_t)end.pos;
		if (size + 1 + length > ANSWER)
			break;
		text[size] = size ? ',' : '[';
		size++;
		evbuffer_remove(tracer->steps, text + size, length);
		evbuffer_drain(tracer->steps, 1);
		size += length;
	}
	if (!size)
		text[size++] = '[';
	text[size++] = ']';
	return size;
}

static void tracers_answer(struct tracer *tracer)
{
	char text[ANSWER + 2];
	size_t size = take_steps(tracer, text);

	question_answer(tracer->waits, text, size);
	tracer->waits = NULL;
}

static void tracers_forget(struct tracer *tracer)
{
	struct tracers *tracers = tracer->tracers;

	DL_DELETE(tracers->all, tracer);
	if (--tracers->count == 0)
		tracers->with.board->steps = NULL;
	task_cancel(&tracer->task);
	evbuffer_free(tracer->steps);
	charge_end(&tracer->charge);
	free(tracer);
}

static void tracers_on_turn(struct task *task)
{
	struct tracer *tracer = (struct tracer *)((char *)task - offsetof(struct tracer, task));

	switch_spend(tracer->tracers->with.board, tracer->charge.account, STEP_UNITS);
	if (tracer->waits && (evbuffer_get_length(tracer->steps) || tracer->missed))
		tracers_answer(tracer);
}

/* --- tracers ------------------------------------------------------------------------------------ */

/* Splits a name of a channel, or of a message in it, [HOST/]DOMID.PID.SERIAL[@OFFSET]. */
static bool read_id(struct filter *filter)
{
	const char *at = strchr(filter->what, '@'), *name = strchr(filter->what, '/');
	size_t size = at ? (size_t)(at - filter->what) : strlen(filter->what);
	unsigned domid, pid, serial;
	int end = 0;

	name = name ? name + 1 : filter->what;
	if (sscanf(name, "%u.%u.%u%n", &domid, &pid, &serial, &end) != 3 || (name[end] && name[end] != '@') ||
	    size >= sizeof(filter->id))
		return false;
	if (at && (sscanf(at + 1, "%lu%n", &filter->offset, &end) != 1 || at[1 + end]))
		return false;
	memcpy(filter->id, filter->what, size);
	filter->id[size] = '\0';
	return true;
}

static int read_what(struct filter *filter, const char *what, int64_t domid)
{
	struct address_parts parts = address_split(what, strlen(what));
	struct address_part endpoint = parts.endpoint.data ? parts.endpoint : parts.domain;

	*filter = (struct filter){.domid = domid, .is_address = parts.endpoint.data};
	if (!*what || strlen(what) >= sizeof(filter->what))
		return -EINVAL;
	strcpy(filter->what, what);
	if (read_id(filter) || !strcmp(what, "*"))
		return 0;
	if (endpoint_name_is_valid(endpoint.data, endpoint.size))
		address_part_copy(endpoint, filter->endpoint, sizeof(filter->endpoint));
	else if (filter->is_address || domid < 0)
		return -EINVAL;
	return 0;
}

static void on_step(void *userdata, const struct channel_step *step)
{
	struct tracers *tracers = userdata;
	struct about about = describe_channel(tracers, step);
	struct json json = {0};
	struct tracer *tracer;

	if (!strcmp(about.endpoint, DAEMON_ENDPOINT)) /* else each answer to a tracer would be told to it */
		return;
	DL_FOREACH(tracers->all, tracer) {
		bool meant = tracers_is_meant(&tracer->filter, step, &about);

		switch_spend(tracers->with.board, tracer->charge.account, meant ? STEP_UNITS : LOOK_UNITS);
		if (!meant)
			continue;
		if (!json.size && !json.failed)
			tracers_describe(tracers, step, &about, &json);
		tracers_keep(tracer, &json);
	}
	json_free(&json);
}

static int add_tracer(struct tracers *tracers, struct account *account, const struct filter *filter,
		      struct tracer **made)
{
	struct tracer *tracer;
	int r;

	if (tracers->count >= TRACERS_MAX)
		return -EUSERS;
	tracer = calloc(1, sizeof(*tracer));
	if (!tracer)
		return -ENOMEM;
	charge_init(&tracer->charge, account);
	r = charge_add(&tracer->charge, QUOTA_BYTES, TRACE_MOST);
	tracer->steps = r == 0 ? evbuffer_new() : NULL;
	if (!tracer->steps) {
		charge_end(&tracer->charge);
		free(tracer);
		return r < 0 ? r : -ENOMEM;
	}
	tracer->tracers = tracers;
	tracer->filter = *filter;
	task_init(&tracer->task, &tracers->with.board->turns, account_line(tracer->charge.account),
		  tracers_on_turn);
	DL_APPEND(tracers->all, tracer);
	tracers->count++;
	tracers->with.board->steps = &tracers->steps;
	*made = tracer;
	return 0;
}

int tracers_ask(struct tracers *tracers, struct question *question, const char *what, int64_t domid)
{
	struct tracer *tracer;
	struct filter filter;
	int r = read_what(&filter, what, domid);

	if (r < 0)
		return r;
	DL_FOREACH(tracers->all, tracer)
		if (tracer->asker == question_asker(question) && !strcmp(tracer->filter.what, what))
			break;
	if (tracer) {
		if (tracer->waits)
			tracers_answer(tracer); /* whose program doesn't wait any more */
		tracer->waits = question;
		task_due(&tracer->task);
		return 0;
	}
	r = add_tracer(tracers, question_account(question), &filter, &tracer);
	if (r < 0)
		return r;
	tracer->asker = question_asker(question);
	question_answer(question, "[]", 2);
	return 0;
}

void tracers_forget_question(struct tracers *tracers, const struct question *question)
{
	struct tracer *tracer;

	DL_FOREACH(tracers->all, tracer)
		if (tracer->waits == question)
			tracer->waits = NULL;
}

void tracers_forget_asker(struct tracers *tracers, const void *asker)
{
	struct tracer *tracer, *next;

	DL_FOREACH_SAFE(tracers->all, tracer, next)
		if (tracer->asker == asker)
			tracers_forget(tracer);
}

struct tracers *tracers_new(const struct tracers_collaborators *with)
{
	struct tracers *tracers = calloc(1, sizeof(*tracers));

	if (!tracers)
		return NULL;
	tracers->with = *with;
	tracers->steps = (struct steps){.tell = on_step, .userdata = tracers};
	return tracers;
}

void tracers_free(struct tracers *tracers)
{
	if (!tracers)
		return;
	while (tracers->all)
		tracers_forget(tracers->all);
	free(tracers);
}
