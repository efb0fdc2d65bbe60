/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Subscriptions: to a topic, by its address, which is a binding of the inbox without kinds; and to those of
 * all domains that have one name. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/helpers.h"
#include "wire/address.h"
#include "wire/ut.h"

/* ---- one subscription --------------------------------------------------------------------- */

/* Returns 0 or -EINVAL: what the subscriber wants makes no sense. */
static int subscription_check(const struct op_options *opts)
{
	return opts->queue > XENMSG_QUEUE_MAX || (opts->flags & XENMSG_KEEP_OLDEST && !opts->queue) ? -EINVAL
												    : 0;
}

static uint32_t flags_of(const struct op_options *opts)
{
	return opts->queue << SUBSCRIBE_QUEUE_SHIFT |
	       (opts->flags & XENMSG_KEEP_OLDEST ? SUBSCRIBE_OLDEST : 0);
}

/* Enters it, and asks the daemon. Returns as xenmsg_begin_subscribe(). */
static int subscription_begin(struct xenmsg *conn, const char *address, const struct op_options *opts,
			      xenmsg_message_handler handler, void *userdata, xenmsg_done done,
			      void *done_userdata, struct request **request)
{
	struct frame_subscribe subscribe = {.address = frame_text_of(address)};
	uint8_t payload[4 + ADDRESS_MAX];
	size_t size = strlen(address);
	struct binding *binding;
	struct address parsed;
	int r = conn_explain_address(conn, address, address_parse(address, size, &parsed, NULL));

	if (r == 0 && inbox_find(&conn->inbox, address, size))
		r = -EEXIST;
	if (r == 0)
		r = inbox_bind(&conn->inbox, address, 0, opts->flags & XENMSG_LEND, handler, userdata);
	if (r < 0)
		return r;
	binding = inbox_find(&conn->inbox, address, size);
	binding->subscribes = subscribe.flags = flags_of(opts);
	r = conn_ask(conn, FRAME_SUBSCRIBE, payload, frame_subscribe_encode(&subscribe, payload), opts, done,
		     done_userdata, request);
	if (r < 0) {
		inbox_unbind(&conn->inbox, binding);
		return r;
	}
	binding->asked = (*request)->number;
	return 0;
}

static void want_what_is_free(struct xenmsg *conn, const char *address);

/* Ends it, and tells the daemon. Returns 0 or a negative errno. */
static int subscription_end(struct xenmsg *conn, struct binding *binding)
{
	char address[ADDRESS_MAX + 1];
	int r;

	memcpy(address, binding->endpoint, sizeof(address));
	r = conn_unbind(conn, binding, address);
	want_what_is_free(conn, address);
	return r;
}

/* ---- patterns ----------------------------------------------------------------------------- */

/*
 * Subscriptions to all domains' topics of one name (XENMSG_PATTERN), by a watch. Each endpoint that it tells
 * of is a member, which is subscribed to by its own address:
 *
 *   wanted ──SUBSCRIBE──▶ asked ──granted──▶ subscribed ──has gone, and what was published is taken; or ENDED──▶ gone
 *                           └──refused: told once──▶ refused ──has gone──▶ gone
 *
 * So many are asked for at a time, that the program has questions left of its own. One for which there was no
 * room is asked for again when another one goes; one that is denied, or that the program has by itself, after
 * a while. One that has gone without a word, since its domain is called otherwise now, is told to end behind
 * what there is (SUBSCRIBE_LEAVE).
 */

#define ASKED_MAX  16u /* at a time, of the 64 questions of a program */
#define ENDED_MOST 64u /* in one look, each of which goes through the channels */

#define GONE_MS	       1000 /* in which what was published last comes */
#define CUT_MS	       5000 /* between two times that it is told to end */
#define DENIED_MS      1000 /* the first pause, which doubles */
#define DENIED_MOST_MS 16000

enum topic_state { MEMBER_WANTED, MEMBER_ASKED, MEMBER_SUBSCRIBED, MEMBER_REFUSED };

struct pattern_topic {
	struct pattern *pattern;
	enum topic_state state;
	bool is_gone;	 /* the watch says so */
	bool is_idle;	 /* the program has taken all that there was: XENMSG_WAITING */
	bool is_ended;	 /* or was told that it has ended */
	bool is_told;	 /* that it isn't subscribed to */
	bool is_cut;	 /* by SUBSCRIBE_LEAVE */
	int error;	 /* that refused it */
	uint32_t losses; /* of a daemon, before the one that has told of it */
	int64_t due;	 /* when it is looked at again; 0: at no time */
	int pause_ms;	 /* before that, if it was refused */
	struct pattern_topic *
		*list; /* that it is in: of those that are wanted, or are to be ended; NULL: in none */
	struct pattern_topic *prev, *next;
	UT_hash_handle hh;
	char address[ADDRESS_MAX + 1];
};

struct pattern {
	struct xenmsg *conn;
	struct op_options opts;
	xenmsg_message_handler handler;
	void *userdata;
	xenmsg_done done; /* of its watch */
	void *done_userdata;
	uint32_t watch;
	bool is_watched;	       /* that was answered */
	bool is_ended;		       /* and waits for answers that are to come */
	bool is_full;		       /* of members, and the program knows */
	struct pattern_topic *members; /* uthash */
	struct pattern_topic *wanted;  /* utlist */
	struct pattern_topic *leaving; /* utlist: subscribed, and to be ended */
	unsigned asked;		       /* members */
	unsigned crowded;	       /* members that were refused for lack of room */
	struct pattern *prev, *next;
	char text[ADDRESS_MAX + 1];
};

/* ---- members ------------------------------------------------------------------------------ */

static struct pattern_topic *find_member(struct pattern *pattern, const char *address)
{
	struct pattern_topic *member;

	HASH_FIND_STR(pattern->members, address, member);
	return member;
}

/* Returns its subscription; NULL: there is none, or the program has made one of its own. */
static struct binding *binding_of(const struct pattern_topic *member)
{
	struct binding *binding =
		inbox_find(&member->pattern->conn->inbox, member->address, strlen(member->address));

	return binding && binding->pattern == member->pattern ? binding : NULL;
}

static void leave_list(struct pattern_topic *member)
{
	if (member->list)
		DL_DELETE(*member->list, member);
	member->list = NULL;
}

/* The connection looks at its patterns soon. */
static void look_soon(struct xenmsg *conn)
{
	conn->pattern_due = true;
	transport_poke(&conn->transport);
}

static void enter_list(struct pattern_topic *member, struct pattern_topic **list)
{
	if (member->list == list)
		return;
	leave_list(member);
	member->list = list;
	DL_APPEND(*list, member);
	look_soon(member->pattern->conn);
}

static bool is_crowded(const struct pattern_topic *member)
{
	return member->state == MEMBER_REFUSED && member->error == -ENOBUFS;
}

static void look_later(struct pattern_topic *member, int pause_ms)
{
	struct xenmsg *conn = member->pattern->conn;

	member->due = deadline_in(pause_ms);
	if (!conn->pattern_again || conn->pattern_again > member->due)
		conn->pattern_again = member->due;
	transport_set_alarm(&conn->transport, conn->pattern_again);
}

/* It may be allowed again. */
static void look_if_refused(struct pattern_topic *member)
{
	if (member->error != -EACCES && member->error != -EEXIST)
		return;
	member->pause_ms = !member->pause_ms			   ? DENIED_MS
			   : member->pause_ms < DENIED_MOST_MS / 2 ? 2 * member->pause_ms
								   : DENIED_MOST_MS;
	look_later(member, member->pause_ms);
}

static void api_topics_want(struct pattern_topic *member)
{
	member->due = 0;
	if (is_crowded(member))
		member->pattern->crowded--;
	member->state = MEMBER_WANTED;
	member->is_idle = member->is_ended = member->is_cut = false;
	enter_list(member, &member->pattern->wanted);
}

/* The program doesn't subscribe to that any more beside a pattern. */
static void want_what_is_free(struct xenmsg *conn, const char *address)
{
	struct pattern *pattern;

	DL_FOREACH(conn->patterns, pattern) {
		struct pattern_topic *member = pattern->is_ended ? NULL : find_member(pattern, address);

		if (member && member->state == MEMBER_REFUSED && member->error == -EEXIST)
			api_topics_want(member);
	}
}

/* There is room again for one. */
static void want_a_crowded_one(struct pattern *pattern)
{
	struct pattern_topic *member, *next;

	if (!pattern->crowded || pattern->is_ended)
		return;
	HASH_ITER(hh, pattern->members, member, next) {
		if (is_crowded(member)) {
			api_topics_want(member);
			return;
		}
	}
}

static void free_member(struct pattern_topic *member)
{
	struct pattern *pattern = member->pattern;

	leave_list(member);
	if (is_crowded(member))
		pattern->crowded--;
	HASH_DEL(pattern->members, member);
	free(member);
}

static void pattern_refuse(struct pattern_topic *member, int error, const char *reason)
{
	struct pattern *pattern = member->pattern;

	member->state = MEMBER_REFUSED;
	member->error = error;
	pattern->crowded += error == -ENOBUFS;
	if (!member->is_told && !pattern->conn->dead)
		reconnect_tell(&pattern->conn->reconnect, XENMSG_NOT_SUBSCRIBED, error, member->address, 0,
			       reason);
	member->is_told = true;
	look_if_refused(member);
}

static void free_pattern(struct pattern *pattern)
{
	struct pattern_topic *member, *next;

	HASH_ITER(hh, pattern->members, member, next)
		free_member(member);
	DL_DELETE(pattern->conn->patterns, pattern);
	free(pattern);
}

static void free_if_answered(struct pattern *pattern)
{
	if (pattern->is_ended && pattern->is_watched && !pattern->asked)
		free_pattern(pattern);
}

/* Ends it if it has gone and nothing more comes from it, or it has ended by itself. */
static void end_if_due(struct pattern_topic *member)
{
	if (member->state == MEMBER_SUBSCRIBED &&
	    (member->is_ended ||
	     ((member->is_gone || member->is_cut) && (member->is_idle || !binding_of(member)))))
		enter_list(member, &member->pattern->leaving);
}

static void on_asked(void *userdata, const struct xenmsg_result *result)
{
	struct pattern_topic *member = userdata;
	struct pattern *pattern = member->pattern;

	pattern->asked--;
	if (pattern->wanted)
		look_soon(pattern->conn);
	if (pattern->is_ended) {
		free_member(member);
		free_if_answered(pattern);
	} else if (result->error == 0) {
		member->state = MEMBER_SUBSCRIBED;
		member->is_told = false;
		member->pause_ms = 0;
		if (member->is_gone)
			look_later(member, GONE_MS);
		end_if_due(member);
	} else if (member->is_gone) {
		free_member(member);
	} else {
		pattern_refuse(member, result->error, result->reason);
	}
}

/* Asks for one that is wanted. Returns false if it must wait. */
static bool pattern_ask(struct pattern_topic *member)
{
	struct pattern *pattern = member->pattern;
	struct xenmsg *conn = pattern->conn;
	struct request *request;
	int r = subscription_begin(conn, member->address, &pattern->opts, pattern->handler, pattern->userdata,
				   on_asked, member, &request);

	if (r == -ENOBUFS) /* the program asks so much itself: its answers come before */
		return false;
	leave_list(member);
	if (r < 0) {
		pattern_refuse(member, r, r == -EEXIST ? "the program has subscribed to it beside this" : "");
		return true;
	}
	inbox_find(&conn->inbox, member->address, strlen(member->address))->pattern = pattern;
	member->state = MEMBER_ASKED;
	pattern->asked++;
	return true;
}

/* Ends the subscription to one that has gone or ended. */
static void end_member(struct pattern_topic *member)
{
	struct pattern *pattern = member->pattern;
	struct binding *binding = binding_of(member);

	if (binding)
		subscription_end(pattern->conn, binding);
	leave_list(member);
	if (member->is_gone) {
		free_member(member);
		want_a_crowded_one(pattern);
	} else if (member->is_cut && !member->is_ended) { /* it has come again meanwhile */
		api_topics_want(member);
	} else { /* the program was told why */
		member->state = MEMBER_REFUSED;
		member->is_told = true;
		pattern->crowded += is_crowded(member);
		look_if_refused(member);
	}
}

static void pattern_run(struct pattern *pattern)
{
	unsigned count = 0;

	while (pattern->leaving && count++ < ENDED_MOST)
		end_member(pattern->leaving);
	if (pattern->leaving)
		look_soon(pattern->conn);
	while (pattern->wanted && pattern->asked < ASKED_MAX && pattern_ask(pattern->wanted))
		;
}

/* Has it end behind what there is. */
static void cut(struct pattern_topic *member)
{
	struct frame_subscribe subscribe = {.flags = SUBSCRIBE_LEAVE,
					    .address = frame_text_of(member->address)};
	struct xenmsg *conn = member->pattern->conn;
	uint8_t payload[4 + ADDRESS_MAX];

	if (!binding_of(member))
		return;
	member->is_cut = true;
	look_later(member, CUT_MS); /* a domain that is being saved isn't cut off */
	/* If that fails, the connection says so itself. */
	if (requests_tell(&conn->requests, FRAME_SUBSCRIBE, payload,
			  frame_subscribe_encode(&subscribe, payload)) == 0)
		conn_push(conn);
}

/* The time of some is up. */
static void look_again(struct pattern *pattern)
{
	struct pattern_topic *member, *next;

	HASH_ITER(hh, pattern->members, member, next) {
		if (!member->due || pattern->is_ended)
			continue;
		if (deadline_left(member->due) > 0) {
			look_later(member, deadline_left(member->due));
			continue;
		}
		member->due = 0;
		if (member->is_gone && member->state == MEMBER_SUBSCRIBED)
			cut(member);
		else if (!member->is_gone && member->state == MEMBER_REFUSED)
			api_topics_want(member);
	}
}

static void run_all(struct xenmsg *conn)
{
	struct pattern *pattern;
	bool some = false;

	conn->pattern_due = false;
	if (conn->dead)
		return;
	if (conn->pattern_again && deadline_left(conn->pattern_again) == 0) {
		conn->pattern_again = 0;
		DL_FOREACH(conn->patterns, pattern)
			look_again(pattern);
		conn->pattern_due = false;
	}
	DL_FOREACH(conn->patterns, pattern)
		if (pattern->is_watched && !pattern->is_ended && (pattern->leaving || pattern->wanted)) {
			pattern_run(pattern);
			some = true;
		}
	if (some && !conn->dead) {
		conn_set_alarm(conn);
		conn_push(conn);
	}
}

/* ---- what the watch tells ----------------------------------------------------------------- */

static void come(struct pattern *pattern, const char *address)
{
	struct pattern_topic *member = find_member(pattern, address);

	/* No more than there are channels can be subscribed to. */
	if (!member && HASH_COUNT(pattern->members) >= CHANNEL_NUMBERS) {
		if (!pattern->is_full)
			reconnect_tell(&pattern->conn->reconnect, XENMSG_NOT_SUBSCRIBED, -ENOBUFS,
				       pattern->text, 0, "");
		pattern->is_full = true;
		return;
	}
	if (!member) {
		member = calloc(1, sizeof(*member));
		if (!member) {
			reconnect_tell(&pattern->conn->reconnect, XENMSG_NOT_SUBSCRIBED, -ENOMEM, address, 0,
				       "");
			return;
		}
		member->pattern = pattern;
		snprintf(member->address, sizeof(member->address), "%s", address);
		HASH_ADD_STR(pattern->members, address, member);
		if (!HASH_ADDED(member)) {
			reconnect_tell(&pattern->conn->reconnect, XENMSG_NOT_SUBSCRIBED, -ENOMEM, address, 0,
				       "");
			free(member);
			return;
		}
		api_topics_want(member);
	}
	if (member->is_gone)
		member->due = 0;
	member->is_gone = false;
	member->losses = pattern->conn->reconnect.losses;
	if (member->list == &pattern->leaving && !member->is_ended) /* it has come again */
		leave_list(member);
	if (member->state == MEMBER_REFUSED || (member->state == MEMBER_SUBSCRIBED && !binding_of(member)))
		api_topics_want(member);
}

static void go(struct pattern_topic *member)
{
	member->is_gone = true;
	if (member->state == MEMBER_WANTED || member->state == MEMBER_REFUSED) {
		free_member(member);
		return;
	}
	look_later(member, GONE_MS);
	end_if_due(member);
}

/* Of a new daemon: those that it hasn't told of have gone. */
static void on_listed(struct pattern *pattern)
{
	struct pattern_topic *member, *next;

	HASH_ITER(hh, pattern->members, member, next)
		if (member->losses != pattern->conn->reconnect.losses)
			go(member);
}

static void pattern_on_event(void *userdata, const struct xenmsg_event *event)
{
	struct pattern *pattern = userdata;
	char address[ADDRESS_MAX + 1];
	struct pattern_topic *member;

	if (event->kind == XENMSG_LISTED)
		on_listed(pattern);
	if (event->kind != XENMSG_ENDPOINT_UP && event->kind != XENMSG_ENDPOINT_DOWN)
		return;
	snprintf(address, sizeof(address), "%s%s%u:%s", event->host, *event->host ? "/" : "", event->domid,
		 event->name);
	if (event->kind == XENMSG_ENDPOINT_UP) {
		come(pattern, address);
		return;
	}
	member = find_member(pattern, address);
	if (member)
		go(member);
}

static void pattern_on_watched(void *userdata, const struct xenmsg_result *result)
{
	struct pattern *pattern = userdata;
	xenmsg_done done = pattern->done;

	userdata = pattern->done_userdata;
	pattern->is_watched = true;
	if (result->error < 0)
		pattern->is_ended = true;
	if (pattern->wanted)
		look_soon(pattern->conn);
	free_if_answered(pattern);
	if (done)
		done(userdata, result);
}

/* ---- the pattern -------------------------------------------------------------------------- */

static struct pattern *find_pattern(struct xenmsg *conn, const char *text)
{
	struct pattern *pattern;

	DL_FOREACH(conn->patterns, pattern)
		if (!pattern->is_ended && strcmp(pattern->text, text) == 0)
			return pattern;
	return NULL;
}

/* ---- what the connection tells ------------------------------------------------------------ */

static void pattern_note(const struct binding *binding, const struct xenmsg_notice *notice)
{
	struct pattern_topic *member = find_member(binding->pattern, binding->endpoint);

	if (!member)
		return;
	if (notice->kind == XENMSG_WAITING || notice->kind == XENMSG_SUBSCRIBED)
		member->is_idle = notice->kind == XENMSG_WAITING;
	if (notice->kind == XENMSG_ENDED) {
		member->is_ended = true;
		member->error = notice->error;
	}
	end_if_due(member);
}

static bool take_refusal(struct xenmsg *conn, const struct request *request)
{
	const struct binding *binding = inbox_find_asked(&conn->inbox, request->number);
	struct pattern *pattern;
	struct pattern_topic *member;
	char reason[256];

	request_reason(request, reason, sizeof(reason));
	if (request->type == FRAME_SUBSCRIBE && binding && binding->pattern) {
		member = find_member(binding->pattern, binding->endpoint);
		if (member && member->state == MEMBER_SUBSCRIBED)
			pattern_refuse(member, request->error, reason);
		return true;
	}
	DL_FOREACH(conn->patterns, pattern)
		if (request->type == REQUEST_WATCH && pattern->watch == request->number) {
			reconnect_tell(&conn->reconnect, XENMSG_NOT_SUBSCRIBED, request->error, pattern->text,
				       0, reason);
			return true;
		}
	return false;
}

static void free_all(struct pattern *patterns)
{
	struct pattern *pattern, *next;

	DL_FOREACH_SAFE(patterns, pattern, next)
		free_pattern(pattern);
}

static const struct pattern_hooks hooks = {
	.run = run_all, .note = pattern_note, .take_refusal = take_refusal, .free = free_all};

/* ---- beginning and ending ----------------------------------------------------------------- */

/* Only the domain may be a pattern. */
static bool is_valid(const char *text)
{
	size_t size = strlen(text);
	struct address_parts parts = address_split(text, size);

	return size <= ADDRESS_MAX && parts.domain.size && parts.endpoint.data &&
	       endpoint_name_is_valid(parts.endpoint.data, parts.endpoint.size);
}

/* Begins to subscribe to all that the pattern means; the request is that of its watch. The rest is as for
 * xenmsg_begin_subscribe(). */
static int pattern_begin(struct xenmsg *conn, const char *text, const struct op_options *opts,
			 xenmsg_message_handler handler, void *userdata, xenmsg_done done,
			 void *done_userdata, struct request **request)
{
	struct pattern *pattern;
	int r;

	if (!is_valid(text))
		return conn_say(conn, -EINVAL, -EINVAL,
				"such a pattern is DOMAIN:ENDPOINT, of which only DOMAIN is one");
	if (find_pattern(conn, text))
		return -EEXIST;
	pattern = calloc(1, sizeof(*pattern));
	if (!pattern)
		return -ENOMEM;
	*pattern = (struct pattern){.conn = conn,
				    .opts = *opts,
				    .handler = handler,
				    .userdata = userdata,
				    .done = done,
				    .done_userdata = done_userdata};
	snprintf(pattern->text, sizeof(pattern->text), "%s", text);
	r = conn_watch(conn, text, opts->timeout_ms, pattern_on_event, pattern, pattern_on_watched, pattern,
		       request);
	if (r < 0) {
		free(pattern);
		return r;
	}
	pattern->watch = (*request)->number;
	DL_APPEND(conn->patterns, pattern);
	conn->pattern_hooks = &hooks;
	return 0;
}

/* Ends it. Returns 0, -ENOENT: there is no such pattern, or the errors of xenmsg_unsubscribe(). */
static int pattern_end(struct xenmsg *conn, const char *text)
{
	struct pattern *pattern = find_pattern(conn, text);
	struct pattern_topic *member, *next;
	int r;

	if (!pattern)
		return -ENOENT;
	pattern->is_ended = true;
	HASH_ITER(hh, pattern->members, member, next) {
		struct binding *binding = binding_of(member);

		if (binding)
			subscription_end(conn, binding);
		if (member->state != MEMBER_ASKED)
			free_member(member);
	}
	r = conn_unwatch(conn, pattern->watch);
	free_if_answered(pattern);
	return r == -ENOENT ? 0 : r;
}

/* ---- the functions of the API ------------------------------------------------------------- */

static int subscribe_for(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			 xenmsg_message_handler handler, void *userdata, xenmsg_done done,
			 void *done_userdata, struct request **request)
{
	struct op_options opts;
	int r = options_read_first(conn, &opts, options,
				   XENMSG_LEND | XENMSG_KEEP_OLDEST | XENMSG_PATTERN | OP_QUEUE, PATIENCE_MS);

	if (r == 0)
		r = conn_say(conn, subscription_check(&opts), -EINVAL,
			     "a queue is up to 65535, and XENMSG_KEEP_OLDEST is for one");
	if (r == 0)
		r = conn->dead;
	if (r < 0)
		return r;
	return (opts.flags & XENMSG_PATTERN ? pattern_begin : subscription_begin)(
		conn, address, &opts, handler, userdata, done, done_userdata, request);
}

int xenmsg_begin_subscribe(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			   xenmsg_message_handler handler, xenmsg_done done, void *userdata,
			   struct xenmsg_op **op)
{
	struct request *request;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = subscribe_for(conn, address, options, handler, userdata, done, userdata, &request);
	return request_begun(conn, r, request, op);
}

int xenmsg_subscribe(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
		     xenmsg_message_handler handler, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = subscribe_for(conn, address, options, handler, userdata, outcome_note, &outcome, &request);

	return request_finish(conn, r, request, &outcome);
}

int xenmsg_unsubscribe(struct xenmsg *conn, const char *address)
{
	struct binding *binding = inbox_find(&conn->inbox, address, strlen(address));
	int r = conn_ready(conn);

	if (r < 0)
		return r;
	if (!binding || binding->kinds)
		return conn_say(conn, pattern_end(conn, address), -ENOENT,
				"this program has no subscription to that");
	return subscription_end(conn, binding);
}
